"""What the long tests share: their arguments and how they close."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.integration.harness import Daemon

_SHOWN: Final = 10  # troubles printed


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """The arguments that every test has."""
    found = argparse.ArgumentParser(prog=f"python -m tests.long {name}", description=about)
    found.add_argument("--seed", type=int, default=secrets.randbits(32), help="of a run that shall be tried again")
    return found


@contextlib.contextmanager
def running_daemon(name: str, **settings: object) -> Iterator[Daemon]:
    """A daemon with a directory of its own, ended whatever happens."""
    with tempfile.TemporaryDirectory(prefix=f"securechat-{name}-") as directory:
        daemon = Daemon(Path(directory) / "daemon", settings=settings)
        try:
            yield daemon.start()
        finally:
            daemon.end()


class Report:
    """One run of a test, from its beginning to the line of figures.

    Args:
        seed: printed at once, and again at a failure.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._seed = seed
        self._started = time.monotonic()
        self.say(f"seed {seed}")

    def say(self, text: str) -> None:
        """How far it is."""
        print(f"{time.monotonic() - self._started:6.0f} s  {text}", flush=True)

    def close(self, figures: Mapping[str, Any], troubles: Sequence[object]) -> int:
        """Prints what was wrong, and the figures; answers the exit status."""
        for trouble in troubles[:_SHOWN]:
            print(f"FAILED: {trouble}", flush=True)
        if troubles:
            print(f"{len(troubles)} in all; once more with --seed {self._seed}", flush=True)
        seconds = round(time.monotonic() - self._started)
        line = {"test": self._name, "seed": self._seed, "seconds": seconds, "troubles": len(troubles), **figures}
        print(json.dumps(line), flush=True)
        return 1 if troubles else 0
