"""The client's promise through a network that breaks and with a daemon that is killed: 200 rounds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from tests.long._report import Report, parser
from tests.promise import Promise

_STEP: Final = 10  # rounds between two lines of progress


def run(arguments: list[str]) -> int:
    """Runs it; answers the exit status."""
    options = parser("promise", __doc__)
    options.add_argument("--rounds", type=int, default=200, help="(%(default)s)")
    chosen = options.parse_args(arguments)
    report = Report("promise", chosen.seed)
    troubles: list[str] = []
    with tempfile.TemporaryDirectory(prefix="securechat-promise-") as directory:
        promise = Promise(Path(directory), chosen.seed)
        try:
            promise.gather()
            for number in range(1, chosen.rounds + 1):
                promise.round()
                if number % _STEP == 0:
                    report.say(f"{number} rounds, {promise.kills} kills, {promise.typed.total()} lines typed")
        except AssertionError as error:
            troubles.append(str(error))
        finally:
            troubles += promise.troubles()
            figures = promise.figures()
            if troubles:
                for name, client in promise.clients.items():
                    print(f"---- {name}", *client.lines[-40:], sep="\n")
            promise.end()
    return report.close(figures, troubles)
