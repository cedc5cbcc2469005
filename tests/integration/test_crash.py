"""kill -9 under load, and the history checker; and mutants of the server, to see that the checker bites."""

from __future__ import annotations

import os
import secrets
import time
from typing import Final

from tests import checker
from tests.checker import Violation, kinds
from tests.integration.harness import IntegrationTestCase
from tests.integration.load import SETTINGS, Load

ROUNDS: Final = 20
_SETTLE: Final = 20.0  # seconds for the last acknowledgements and for readers to catch up
_SHOWN: Final = 10  # violations in a failure's text


def _seed() -> int:
    """Of the times of the kills; give SECURECHAT_TEST_SEED to try one again."""
    return int(os.environ.get("SECURECHAT_TEST_SEED") or secrets.randbits(32))


class CrashTests(IntegrationTestCase):
    """The daemon is killed again and again, at random moments."""

    def test_kill_under_load(self) -> None:
        """After every kill each acknowledged message is there once, in its place, and readers equal the table."""
        seed, started = _seed(), time.monotonic()
        print(f"\n    seed {seed}", end="", flush=True)
        daemon = self.daemon(settings=SETTINGS)
        load = Load(daemon, seed).start()
        self.addCleanup(load.abandon)
        for _ in range(ROUNDS):
            load.crash()
        load.moving()
        load.settle(_SETTLE)
        daemon.stop()
        figures = load.figures()
        print(f": {figures} in {time.monotonic() - started:.0f} s", end=" ", flush=True)
        self.assertEqual([], load.violations()[:_SHOWN], f"seed {seed}, {figures}")
        self.assertEqual({}, dict(load.refused))
        self.assertEqual("ok", load.integrity())


class MutantTests(IntegrationTestCase):
    """Each of these servers breaks one promise, so the checker must find a violation, and of that kind."""

    def test_early_ack(self) -> None:
        """A server that acknowledges before the commit loses what it acknowledged."""
        self._caught("early_ack", checker.LOST)

    def test_no_dedup(self) -> None:
        """A server that does not know a mid again stores messages twice."""
        self._caught("no_dedup", checker.DUPLICATED)

    def test_early_publish(self) -> None:
        """A server that publishes before the commit shows readers what never was."""
        self._caught("early_publish", checker.READER)

    def test_early_seq(self) -> None:
        """A server that takes the seq in a transaction of its own leaves gaps."""
        self._caught("early_seq", checker.GAP)

    def _caught(self, mutant: str, kind: str, attempts: int = 4, crashes: int = 3) -> None:
        seed = _seed()
        found: list[Violation] = []
        for attempt in range(attempts):
            daemon = self.daemon(
                name=f"attempt{attempt}",
                launcher=("-m", "tests.integration.mutants", mutant, "--"),
                settings=SETTINGS,
            )
            load = Load(daemon, seed + attempt, rooms=2).start()
            try:
                for _ in range(crashes):
                    load.crash(0.2, 0.4)
                load.settle(5.0)
            finally:
                load.abandon()
            found = load.violations()
            daemon.stop()
            if kind in kinds(found):
                return
        self.fail(f"{mutant} was not caught: {dict(kinds(found))}, seed {seed}")
