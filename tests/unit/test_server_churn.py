"""People who come and go, thousands of times: nothing of them is left; and clocks that jump."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from dataclasses import replace
from typing import Final

from securechat.crypto.primitives import b64url
from securechat.errors import RATE_LIMITED, Refused
from securechat.server.checks import Admission
from securechat.server.connections import ConnectionLimits
from securechat.server.status import Status
from securechat.storage.interface import Session
from securechat.wire import limits
from securechat.wire import messages as m
from tests.doubles import START, Caller, ServerCase

TIMES: Final = 5000
TOKEN: Final = b64url(hashlib.sha256(b"token").digest())
YEAR: Final = 365 * 24 * 3600.0  # seconds


class ChurnTests(ServerCase):
    """Tests for what is left of connections."""

    LIMITS = ConnectionLimits(messages_per_second=1e6, message_burst=1e6)

    def setUp(self) -> None:
        super().setUp()
        self.member(self.alice, "ops", "zoo").lose()
        token_hash = hashlib.sha256(TOKEN.encode()).digest()
        self.do(self.store.open_session(token_hash, Session("alice", self.alice.dev()), START * 1000))

    def come_and_go(self, number: int) -> None:
        """One connection, which is dropped at some point of its life."""
        caller = self.call()
        if number % 5:
            caller.say(m.Resume(id=1, token=TOKEN, proof=caller.proof(self.alice)))
        if number % 5 > 1:
            caller.say(m.Sync(id=2))
        if number % 5 > 2:
            caller.say(m.History(id=3, room="ops"), b'{"cmd":')
        if number % 5 > 3:
            self.reactor.advance(0)
        caller.lose()

    def test_nothing_is_left(self) -> None:
        """5,000 of them leave no connection, login, subscription, timer, queued byte, or memory."""
        for number in range(500):
            self.come_and_go(number)
        figures = Status(self.reactor, self.shared, self.parts.logins, self.parts.broker).figures
        before = figures()
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        start, _ = tracemalloc.get_traced_memory()
        for number in range(TIMES):
            self.come_and_go(number)
        gc.collect()
        end, _ = tracemalloc.get_traced_memory()
        same = ("connections", "logged_in", "subscriptions", "queued", "delayed_calls", "threads", "files")
        after = figures()
        self.assertEqual({name: before[name] for name in same}, {name: after[name] for name in same})
        self.assertEqual([0, 0, 0, 0, 0], [after[name] for name in same[:5]])
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertLess(end - start, 200_000)


class ClockTests(ServerCase):
    """Tests for clocks that jump. Of the reactor's clock, which never goes back, a jump is a machine that slept."""

    def test_wall_clock(self) -> None:
        """The wall clock may jump ahead or back: messages keep their order, sessions and logins are as they were."""
        times = [float(START)]
        self.parts = replace(self.make_parts(), now=lambda: times[0])
        self.factory = self.listener()
        alices = self.member(self.alice, "ops")
        for number, now in enumerate((START, START + YEAR, START - 3600.0, START + 1.0), 1):
            times[0] = now
            self.assertEqual(number, alices.ask(self.send_of(number, self.alice)).seq)
        page = alices.ask(m.History(room="ops"))
        self.assertEqual([1, 2, 3, 4], [message.seq for message in page.messages])
        times[0] = START - 3600.0
        again = self.call()
        self.assertIsInstance(again.ask(self.login_of(self.alice, again)), m.LoginOk)

    def test_slept(self) -> None:
        """After a year asleep no timer fires twice: who is silent is told once, who comes next is served."""
        callers = [self.member(self.alice), self.call()]
        self.reactor.advance(YEAR)
        reasons = [[bye.reason for bye in caller.take(m.Bye)] for caller in callers]
        self.assertEqual([["silence"], ["login_timeout"]], reasons)
        for caller in callers:
            caller.lose()
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertIsInstance(self.member(self.bob, "ops"), Caller)

    def test_buckets(self) -> None:
        """A jump ahead gives a bucket its burst and no more; one back takes nothing and gives nothing."""
        admission = Admission()
        now = 1000.0
        for jump in (0.0, YEAR, -YEAR, YEAR):
            now += jump
            passed = 0
            for _ in range(3 * limits.LOGINS_PER_ADDRESS):
                try:
                    admission.address("192.0.2.1", now)
                except Refused as refused:
                    self.assertIs(RATE_LIMITED, refused.code)
                else:
                    passed += 1
            self.assertEqual(0 if jump < 0 else limits.LOGINS_PER_ADDRESS, passed, jump)
