"""Runs the long tests.

    python -m tests.long                    lists them
    python -m tests.long NAME [ARGUMENT…]   runs one; NAME --help tells its arguments
    python -m tests.long all                runs all, one after the other

Each module of this package is one, but for those whose name begins with an underscore: the first line of its docstring
says what it is, and its ``run(arguments)`` answers the exit status. At its end it prints its figures as a line of JSON.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import tests.long


def found() -> list[str]:
    """The names of the long tests."""
    return sorted(each.name for each in pkgutil.iter_modules(tests.long.__path__) if not each.name.startswith("_"))


def about(name: str) -> str:
    """The first line that a test says of itself; nothing is imported, for that may need more than is installed."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def main(arguments: list[str]) -> int:
    """Lists the tests, or runs those that were asked for; answers the exit status."""
    known = found()
    if not arguments:
        for name in known:
            print(f"{name:12} {about(name)}")
        return 0
    name, *rest = arguments
    if name not in known and name != "all":
        print(f"There is no long test {name}. python -m tests.long lists them.", file=sys.stderr)
        return 2
    failed = []
    for each in known if name == "all" else [name]:
        print(f"==== {each}", flush=True)
        if importlib.import_module(f"tests.long.{each}").run(rest):
            failed.append(each)
    print(f"failed: {', '.join(failed)}" if failed else "passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
