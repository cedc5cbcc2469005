"""SIGTERM under load, again and again; and a second one, which waits for nothing."""

from __future__ import annotations

import os
import secrets
import time
from typing import Final

from securechat.wire import limits
from tests.integration.harness import PATIENCE, IntegrationTestCase
from tests.integration.load import SETTINGS, Load

STOPS: Final = 10
_AT_ONCE: Final = 2.0  # seconds that a second SIGTERM may take on a busy machine


class DrainTests(IntegrationTestCase):
    """The daemon is stopped while others write and read."""

    def test_under_load(self) -> None:
        """Each stop ends within 10 s and leaves one whole file; nothing acknowledged is lost, moved or doubled."""
        seed = int(os.environ.get("SECURECHAT_TEST_SEED") or secrets.randbits(32))
        daemon = self.daemon(settings=SETTINGS)
        load = Load(daemon, seed).start()
        self.addCleanup(load.abandon)
        for number in range(STOPS):
            load.moving()
            load.run_for(load.random.uniform(0.05, 0.4))
            started = time.monotonic()
            daemon.stop()
            self.assertLess(time.monotonic() - started, limits.DRAIN_SECONDS, f"stop {number}, seed {seed}")
            self.assertFalse((daemon.data / "chat.db-wal").exists(), "closed without a checkpoint")
            daemon.restart()
        load.moving()
        load.settle(20.0)
        self.assertEqual([], load.violations()[:10], f"seed {seed}, {load.figures()}")
        self.assertEqual({}, dict(load.refused), f"seed {seed}")
        self.assertEqual("ok", load.integrity())

    def test_second_signal(self) -> None:
        """A second SIGTERM ends the daemon at once, though a peer does not answer the first; nothing stored is lost."""
        daemon = self.daemon(settings=SETTINGS)
        alice, sending = self.person(daemon, "alice", room="general")
        self.assertEqual(1, alice.send(sending, "general", "before")[0].seq)
        self.wire(daemon)  # takes the goodbye, and never closes
        daemon.process.terminate()
        self.assertTrue(sending.gone())
        self.assertTrue(daemon.alive, "nothing was left to wait for")
        started = time.monotonic()
        daemon.process.terminate()
        daemon.process.wait(PATIENCE)
        self.assertLess(time.monotonic() - started, _AT_ONCE)
        daemon.restart()
        with self.wire(daemon) as again:
            alice.resume(again)
            self.assertEqual(2, alice.send(again, "general", "after")[0].seq)
