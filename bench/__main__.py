"""``python -m bench``: how quick the daemon is on this machine, beside C servers and peers (docs/performance.md)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import extras, report, start
from bench.accounts import Towns
from bench.processes import BenchError, Machine, build
from bench.scenarios import SCENARIOS, Plan, Results, Run
from bench.subjects import PEERS, Stage

QUICK_SECONDS: Final = 42.0  # after which a quick run begins nothing more; so it ends within a minute
_RAM: Final = Path("/dev/shm")  # directories are prepared here where there is such a place; servers work on disk

# What may be named in --only. The scenarios share rounds; the others are measured once each, after them.
EXTRAS: Final[Mapping[str, Callable[[extras.Tools, Results], None]]] = {
    "memory": extras.memory,
    "joins": extras.joins,
    "history": extras.history,
    "storm": extras.storm,
    "felt": extras.felt,
    "growth": extras.growth,
    "client": extras.client,
    "archive": extras.archive,
    "start": start.start,
}
_WITH: Final = {"V1": ("V1", "V1-bytes")}  # scenarios that are only run for another
LOADS: Final = tuple(name for name in SCENARIOS if name != "V1-bytes")
NAMES: Final = (*LOADS, *EXTRAS)
_QUICK: Final = ("A", "E")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    made.add_argument("--only", type=_listed(NAMES), metavar="A,B", help=f"only these of {','.join(NAMES)}")
    made.add_argument(
        "--peers", type=_listed(PEERS), default=PEERS, metavar="P,Q", help=f"only these of {','.join(PEERS)}"
    )
    made.add_argument("--quick", action="store_true", help="A and E once, briefly: done within a minute")
    made.add_argument("--long", action="store_true", help="growth up to histories of 10 million: takes an hour")
    made.add_argument("--rounds", type=_positive(int), help="how often each load is run (2)")
    made.add_argument("--seconds", type=_positive(float), help="how long each is measured (2)")
    made.add_argument("--json", type=Path, metavar="FILE", help="all runs, as JSON")
    made.add_argument(
        "--from", type=Path, metavar="FILE", dest="source", help="measure nothing: show an earlier --json"
    )
    made.add_argument("--markdown", action="store_true", help="tables as in docs/performance.md")
    made.add_argument("--cores", type=_cores, default=(0, 1), metavar="S,G", help="of servers and generator (0,1)")
    made.add_argument("--priority", type=int, default=0, help="of the scheduling groups, where a machine is shared (0)")
    return made


def _listed(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        wanted = tuple(text.split(",")) if text else ()
        for name in wanted:
            if name not in names:
                raise argparse.ArgumentTypeError(f"there is no {name!r}; choose of {','.join(names)}")
        return wanted

    return parse


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    return parse


def _cores(text: str) -> tuple[int, int]:
    try:
        server, generator = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers with a comma between") from None
    return server, generator


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], Results]:
    """Runs what was asked for. Raises BenchError where nothing can be run."""
    began = time.monotonic()
    if options.cores[1] in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {options.cores[1]})  # what this process does is no work of a server
    wanted = options.only or (_QUICK if options.quick else NAMES)
    rounds = options.rounds or (1 if options.quick else 2)
    seconds = options.seconds or (0.7 if options.quick else 2.0)
    machine = Machine(options.cores[0], options.cores[1], options.priority)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="securechat-bench-") as work:
        directory = Path(work)
        with tempfile.TemporaryDirectory(
            prefix="securechat-bench-", dir=_RAM if os.access(_RAM, os.W_OK) else directory
        ) as prepared:
            generator, reference = build(directory)
            stage = Stage(directory, machine, Towns(Path(prepared)), reference)
            deadline = began + (QUICK_SECONDS if options.quick else float("inf"))
            plan = Plan(stage, generator, options.peers, seconds, rounds, deadline, _say)
            plan.run([one for name in wanted if name in SCENARIOS for one in _WITH.get(name, (name,))], results)
            tools = extras.Tools(stage, generator, _say, seconds, long=options.long)
            for name in (name for name in wanted if name in EXTRAS):
                _say(name)
                try:
                    EXTRAS[name](tools, results)
                except BenchError as error:
                    results.add(Run(name, "securechat", failed=str(error)))
    about = {
        "machine": report.machine(),
        "how": f"{rounds} rounds of {seconds:g} s; medians; servers on core {machine.server_core},"
        f" generator on core {machine.generator_core}",
    }
    return about, results


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 where a run failed, whatever the goals say; 2 where nothing could be measured."""
    options = parser().parse_args(arguments)
    try:
        if options.source is not None:
            kept = json.loads(options.source.read_text(encoding="utf-8"))
            about, results = kept["about"], Results.from_fields(kept["runs"])
        else:
            about, results = measure(options)
    except (BenchError, OSError, ValueError, KeyError) as error:
        _say(f"bench: {error}")
        return 2
    if options.json is not None:
        kept = {"about": about, "runs": results.to_fields()}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(report.whole(results, about, as_markdown=options.markdown), end="")
    return 1 if results.failures() else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and directories go with us
    sys.exit(main())
