"""kill -9 of the daemon under load: 500 kills, 100,000 acknowledged messages, held by the history checker."""

from __future__ import annotations

from typing import Any, Final

from tests.checker import Violation
from tests.integration.harness import Daemon
from tests.integration.load import SETTINGS, Load
from tests.long._report import Report, parser, running_daemon

_SETTLE: Final = 120.0  # seconds for the last acknowledgements and for readers to catch up
_STEP: Final = 50  # rounds between two lines of progress
_SLICE: Final = 5.0  # seconds of load at a time, while there are too few messages


def run(arguments: list[str]) -> int:
    """Runs it; answers the exit status."""
    options = parser("kill", __doc__)
    options.add_argument("--rounds", type=int, default=500, help="kills (%(default)s)")
    options.add_argument("--acked", type=int, default=100_000, help="acknowledged messages at least (%(default)s)")
    chosen = options.parse_args(arguments)
    report = Report("kill", chosen.seed)
    with running_daemon("kill", **SETTINGS) as daemon:
        return _rounds(daemon, chosen, report)


def _rounds(daemon: Daemon, chosen: Any, report: Report) -> int:
    load = Load(daemon, chosen.seed).start()
    try:
        for number in range(1, chosen.rounds + 1):
            load.crash()
            if number % _STEP == 0:
                report.say(f"{number} kills, {load.acked} acknowledged")
        while load.acked < chosen.acked:
            load.moving()
            load.run_for(_SLICE)
            report.say(f"{load.acked} acknowledged")
        load.moving()
        load.settle(_SETTLE)
    finally:
        load.abandon()
    daemon.stop()
    troubles: list[object] = [*load.violations()]
    if load.refused:
        troubles.append(Violation("refused", str(dict(load.refused))))
    if (word := load.integrity()) != "ok":
        troubles.append(Violation("integrity", word))
    if "SecureChat stopped." not in daemon.said():
        troubles.append(Violation("stop", "the daemon did not come to its end"))
    troubles += daemon.faults()
    return report.close(load.figures(), troubles)
