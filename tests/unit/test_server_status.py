"""Tests for the daemon's figures, and for how many connections there may be."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from securechat.server.connections import ConnectionLimits, Gate
from securechat.server.service import ChatServerService
from securechat.server.settings import Settings
from securechat.server.status import Status
from tests.doubles import InlineReactor, ServerCase

WHERE = IPv4Address("TCP", "192.0.2.1", 50000)
FIGURES = {
    "uptime", "connections", "max_connections", "refused", "logged_in", "subscriptions", "queued", "delayed_calls",
    "threads", "files", "memory",
}  # fmt: skip


class StatusTests(ServerCase):
    """Tests for `Status`."""

    def figures(self) -> dict[str, int]:
        """The figures now."""
        return self.status.figures()

    def setUp(self) -> None:
        super().setUp()
        self.shared.most = 99
        self.status = Status(self.reactor, self.shared, self.parts.logins, self.parts.broker)

    def test_counts(self) -> None:
        """Connections, those logged in, what they hear, and timers; all back when they have gone."""
        before = self.figures()
        self.assertEqual([0, 0, 0], [before[name] for name in ("connections", "logged_in", "subscriptions")])
        callers = [self.call(), self.member(self.alice, "ops", "zoo"), self.member(self.bob, "ops")]
        found = self.figures()
        self.assertEqual([3, 2, 3, 99], [
            found[name] for name in ("connections", "logged_in", "subscriptions", "max_connections")
        ])  # fmt: skip
        self.assertEqual(3, found["delayed_calls"] - before["delayed_calls"])
        for caller in callers:
            caller.lose()
        self.reactor.advance(0)
        after = self.figures()
        self.assertEqual({**before, "files": 0, "memory": 0}, {**after, "files": 0, "memory": 0})

    def test_time(self) -> None:
        """It runs from when the daemon was started."""
        self.reactor.advance(77.5)
        self.assertEqual(77, self.figures()["uptime"])

    def test_of_the_process(self) -> None:
        """Files are counted as they are opened; memory is that of this process."""
        before = self.figures()
        self.assertEqual(FIGURES - ({"memory"} - before.keys()), before.keys())
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        after = self.figures()
        self.assertEqual(1, after["files"] - before["files"])
        self.assertTrue(10 << 20 < after.get("memory", 11 << 20) < 10 << 30, after)

    def test_queued(self) -> None:
        """What waits for readers that do not read is there in bytes."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        bobs.transport.producer.pauseProducing()
        alices.ask(self.send_of(1, self.alice, self.bob))
        self.assertEqual(bobs.protocol.waiting, self.figures()["queued"])
        self.assertGreater(bobs.protocol.waiting, 1000)


class MostTests(ServerCase):
    """Tests for how many connections there may be of all."""

    LIMITS = ConnectionLimits(connections_per_address=2)

    def setUp(self) -> None:
        super().setUp()
        self.shared.most = 3
        self.log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def refusals(self) -> list[int]:
        """Of each line of the log about connections refused, how many."""
        return [event["count"] for event in self.log if "refused" in (event.get("log_format") or "")]

    def test_too_many(self) -> None:
        """One more is closed without a word, this machine's own too; when one goes there is room again."""
        callers = [self.call(f"192.0.2.{number}") for number in range(3)]
        for address in ("192.0.2.9", "127.0.0.1"):
            refused = self.call(address)
            self.assertEqual((True, None), (refused.transport.disconnected, refused.hello))
            refused.lose()
        self.assertEqual((3, 2), (len(self.shared.connections), self.shared.refused))
        callers[0].lose()
        self.assertIsNot(None, self.call("192.0.2.9").hello)

    def test_gate(self) -> None:
        """Where sockets are accepted, there is no protocol for one too many."""
        gate = Gate(self.shared, self.reactor, self.factory)
        self.assertIsNot(None, gate.buildProtocol(WHERE))
        callers = [self.call(f"192.0.2.{number}") for number in range(3)]
        self.assertIs(None, gate.buildProtocol(WHERE))
        self.assertEqual(1, self.shared.refused)
        callers[0].lose()
        self.assertIsNot(None, gate.buildProtocol(WHERE))

    def test_gate_starts_what_is_behind(self) -> None:
        """The factory behind it is started and stopped with it."""
        told: list[str] = []

        class Told(Factory):
            def doStart(self) -> None:
                told.append("start")

            def doStop(self) -> None:
                told.append("stop")

        gate = Gate(self.shared, self.reactor, Told())
        gate.doStart()
        gate.doStop()
        self.assertEqual(["start", "stop"], told)

    def test_log(self) -> None:
        """The first is told of at once, all others once a minute together."""
        for number in range(3):
            self.call(f"192.0.2.{number}")
        for _ in range(1000):
            self.shared.refuse(self.reactor.seconds())
        self.assertEqual([1], self.refusals())
        self.reactor.advance(59)
        self.call("192.0.2.1")
        self.assertEqual([1], self.refusals())
        self.reactor.advance(1)
        self.call("192.0.2.1")
        self.assertEqual([1, 1001], self.refusals())

    def test_log_of_one_address(self) -> None:
        """An address that has too many is told of in the same way."""
        for _ in range(5):
            self.call("192.0.2.1")
        self.assertEqual(([1], 3), (self.refusals(), self.shared.refused))


class AllowedTests(SynchronousTestCase):
    """Tests for what the limit of open files allows."""

    def allowed(self, wanted: int, *, soft: int, hard: int, taken: bool = True) -> tuple[int, int]:
        """How many connections a daemon lets in, and the soft limit that it leaves."""
        state = {"limits": (soft, hard)}

        def change(_: int, limits: tuple[int, int]) -> None:
            if not taken:
                raise ValueError("not allowed")
            state["limits"] = limits

        self.patch(resource, "getrlimit", lambda _: state["limits"])
        self.patch(resource, "setrlimit", change)
        settings: Any = Settings(data_dir=str(Path(self.mktemp())))
        service = ChatServerService(settings, InlineReactor(), foreground=lambda: False)
        return service._connections_allowed(wanted), state["limits"][0]

    def test_all_there_are(self) -> None:
        """Without a setting all but those for the daemon itself; the soft limit is raised to the hard one."""
        self.assertEqual((20_000 - 32, 20_000), self.allowed(0, soft=1024, hard=20_000))
        self.assertEqual((60 - 32, 60), self.allowed(0, soft=60, hard=60))

    def test_setting(self) -> None:
        """A setting narrows that, and never widens it."""
        self.assertEqual(500, self.allowed(500, soft=1024, hard=20_000)[0])
        log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.assertEqual(968, self.allowed(5000, soft=1000, hard=1000)[0])
        self.assertEqual([4032], [event["more"] for event in log if "more" in event])

    def test_odd_limits(self) -> None:
        """One that cannot be raised stays; next to none is one connection; none at all is no limit."""
        self.assertEqual((1024 - 32, 1024), self.allowed(0, soft=1024, hard=20_000, taken=False))
        self.assertEqual(1, self.allowed(0, soft=20, hard=20)[0])
        infinite = resource.RLIM_INFINITY
        self.assertEqual(7, self.allowed(7, soft=infinite, hard=infinite)[0])
