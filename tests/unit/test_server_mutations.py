"""Ten thousand requests with one thing wrong, said to a server: each is answered in few words, none is a fault."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from collections import Counter
from typing import Any, Final

from securechat.errors import CODES
from securechat.server.connections import ConnectionLimits
from securechat.server.session import State
from securechat.wire import codec
from securechat.wire import messages as m
from tests.doubles import Caller, ServerCase
from tests.mutations import mutated
from tests.unit.test_wire_codec import REQUESTS

COUNT: Final = 10_000
SEED: Final = 20260701
INSIDES: Final = ("Traceback", 'File "', "sqlite", ".py", "object at 0x", "securechat.")


class MutationTests(ServerCase):
    """Tests with requests that are wrong in one place."""

    LIMITS = ConnectionLimits(messages_per_second=1e6, message_burst=1e6)
    LOGINS = 10**6

    def setUp(self) -> None:
        super().setUp()
        self.dice = random.Random(SEED)
        self.found: Counter[str] = Counter()

    def good(self) -> list[dict[str, Any]]:
        """Good requests: every one there is, and some that fit this server."""
        owner = self.member(self.alice, "ops")
        fitting = [
            self.send_of(1, self.alice), self.pm_of(1, self.alice, self.bob), m.History(room="ops"),
            m.RoomLog(room="ops"),
            m.Online(room="ops"), m.Keys(users=("alice", "bob")), m.Read(room="ops", seq=1),
            self.registration_of(self.carol), self.login_of(self.bob, owner, None),
        ]  # fmt: skip
        owner.lose()
        return [json.loads(codec.encode(request)) for request in (*REQUESTS, *fitting)]

    def test_each_is_answered(self) -> None:
        """By one known code, or as a good request is; a connection is closed where the code says so."""
        requests = self.good()
        callers: dict[State, Caller] = {}
        for number in range(COUNT):
            state = (State.GREETED, State.READY)[number % 2]
            caller = callers.get(state) or self.caller(state)
            line = mutated(requests[number % len(requests)], self.dice)
            before = len(caller.raw)
            caller.say(line)
            self.reactor.advance(0.1)  # requests have a rate
            self.judge(line, caller, caller.raw[before:])
            session = caller.protocol.session
            usable = session is not None and not session.gone and session.state is state
            if usable and number % 50:
                callers[state] = caller
            else:
                callers.pop(state, None)
                caller.lose()
        print(f"\n    {dict(self.found.most_common())}", end=" ")
        self.assertEqual([], self.flushLoggedErrors())
        self.assertGreater(self.found["bad_packet"], COUNT // 20)
        self.assertGreater(self.found["bad_field"], COUNT // 10)
        self.assertEqual(0, self.found["internal"])

    def caller(self, state: State) -> Caller:
        """A connection in a state."""
        return self.call() if state is State.GREETED else self.member(self.alice)

    def judge(self, line: bytes, caller: Caller, said: bytes) -> None:
        """One answer, of few printable words and no insides; then the connection goes on, or says why not."""
        packets = [json.loads(packet) for packet in said.splitlines()]
        replies = [packet for packet in packets if "event" not in packet]
        self.assertEqual(1, len(replies), line[:200])
        (reply,) = replies
        code = reply.get("code", "ok")
        self.found[code] += 1
        if code != "ok":
            self.assertIn(code, CODES, line[:200])
            self.assertTrue(reply["msg"].isprintable() and len(reply["msg"]) < 400, reply)
            self.assertEqual([], [word for word in INSIDES if word in reply["msg"]], reply)
            self.assertEqual(CODES[code].closes, caller.closing, (code, line[:200]))

    def test_nothing_is_kept(self) -> None:
        """Lines that are refused leave nothing in memory."""
        requests = self.good()
        caller = self.member(self.alice)

        def say(count: int) -> None:
            nonlocal caller
            for number in range(count):
                caller.say(b'{"cmd":"nosuch","id":%d}' % number, b'{"cmd":"online","room":%d}' % number)
                caller.protocol._decode(mutated(requests[number % len(requests)], self.dice))
                self.reactor.advance(0.1)
                if number % 100 == 0:  # what was said is kept by the test's own transport
                    caller.lose()
                    caller = self.member(self.alice)
            gc.collect()

        say(300)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        say(300)
        before, _ = tracemalloc.get_traced_memory()
        say(1200)
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 200_000)
