"""Tests for one connection of the server: framing, order, timers, and what it may use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from securechat.errors import EMPTY_LINE, LINE_TOO_LONG
from securechat.server import session as sessions
from securechat.server.connections import ConnectionLimits
from securechat.server.protocol import ChatServerFactory
from securechat.server.session import Registration
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests.doubles import Caller, ServerCase
from tests.unit.test_wire_codec import AUTH

PING = b'{"cmd":"ping","id":7}'
PONG = {"status": "ok", "id": 7}


class LineCase(ServerCase):
    """What the tests of lines share."""

    LIMITS = ConnectionLimits(messages_per_second=1e6, message_burst=1e6)

    def codes(self, caller: Caller) -> list[str]:
        """The replies since the last look, each by its code."""
        return [reply.get("code", reply["status"]) for reply in caller.replies()]

    def byes(self, caller: Caller) -> list[str]:
        """Why the connection was ended, as it was told."""
        return [bye.reason for bye in caller.take(m.Bye)]

    def ended(self, caller: Caller, *codes: str, bye: str) -> None:
        """A connection was answered these, told why, and is being closed."""
        self.assertEqual((list(codes), [bye], True), (self.codes(caller), self.byes(caller), caller.closing))
        self.assertIs(None, caller.transport.producer)  # with one, TLS would wait for it and never close


class FramingTests(LineCase):
    """Tests for lines in."""

    def test_greets_first(self) -> None:
        """A plain connection is greeted before it says anything."""
        caller = self.call()
        self.assertEqual((1, self.store.epoch), (caller.hello.protocol, caller.hello.epoch))

    def test_greets_after_the_handshake(self) -> None:
        """One with TLS is greeted when TLS is there, not before; what comes earlier is no request."""
        caller = self.call(factory=self.listener(tls=True))
        self.assertIs(None, caller.hello)
        caller.protocol.handshakeCompleted()
        caller.listen()
        self.assertEqual([m.Hello], [type(event) for event in caller.take()])

    def test_carriage_return(self) -> None:
        """A carriage return before the newline is tolerated."""
        caller = self.call()
        caller.say(PING + b"\r")
        self.assertEqual([PONG], caller.replies())

    def test_two_in_one_segment(self) -> None:
        """Two lines that come together are two requests, answered in order."""
        caller = self.call()
        caller.protocol.dataReceived(PING + b"\n" + b'{"cmd":"rooms"}\n{"cmd":"pi')
        self.assertEqual(["ok", "login_first"], self.codes(caller))
        caller.protocol.dataReceived(b'ng"}\n')
        self.assertEqual(["ok"], self.codes(caller))

    def test_empty_line(self) -> None:
        """An empty line is answered, and ends the connection."""
        for line in (b"", b"\r"):
            caller = self.call()
            caller.say(line)
            self.ended(caller, EMPTY_LINE.name, bye=EMPTY_LINE.name)

    def test_violation(self) -> None:
        """What is no packet is answered and ends the connection; what came before is answered first, the rest never."""
        caller = self.call()
        caller.say(PING, b"not JSON", PING)
        self.ended(caller, "ok", "bad_packet", bye="bad_packet")
        caller.say(PING)
        self.assertEqual([], caller.replies())

    def test_refusal_goes_on(self) -> None:
        """A request that is refused ends nothing."""
        caller = self.call()
        caller.say(b'{"cmd":"?"}', b'{"cmd":"online"}', b'{"cmd":"ping","id":-1}', PING)
        self.assertEqual(["unknown_command", "bad_field", "bad_field", "ok"], self.codes(caller))
        self.assertFalse(caller.closing)

    def test_violation_waits_for_its_turn(self) -> None:
        """A violation behind a request under way is answered after it."""
        caller = self.member(self.alice)
        self.writer.threads.held = True
        caller.say(self.create_of(self.alice, "ops"), b"not JSON")
        self.assertEqual([], caller.replies())
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.ended(caller, "ok", "bad_packet", bye="bad_packet")


class LineLimitTests(LineCase):
    """Tests for how long a line may be."""

    def padded(self, size: int, start: bytes = b'{"cmd":"ping","x":"') -> bytes:
        """A request of exactly so many bytes."""
        return start + b"x" * (size - len(start) - 2) + b'"}'

    def test_before_the_login(self) -> None:
        """16 KiB before the login, and not one byte more."""
        caller = self.call()
        caller.say(self.padded(16 * 1024))
        self.assertEqual(["ok"], self.codes(caller))
        caller.say(self.padded(16 * 1024 + 1))
        self.ended(caller, LINE_TOO_LONG.name, bye=LINE_TOO_LONG.name)

    def test_limit_is_told(self) -> None:
        """The answer says what the limit is here."""
        caller = self.call()
        caller.say(self.padded(16 * 1024 + 1))
        self.assertIn("16384", caller.replies()[0]["msg"])

    def test_register(self) -> None:
        """A registration may have 64 KiB, however it is spelled, and not one byte more."""
        spellings: tuple[Callable[[bytes], bytes], ...] = (
            lambda line: line,
            lambda line: json.dumps(json.loads(line)).encode(),
            lambda line: json.dumps(dict(reversed(json.loads(line).items()))).encode(),
        )
        for spell in spellings:
            for size in (64 * 1024, 64 * 1024 + 1):
                caller = self.call()
                registration = self.registration_of(self.alice, proof=caller.proof(self.alice))
                caller.say(spell(codec.encode(registration)[:-1]).ljust(size))
                if size == 64 * 1024:
                    self.assertEqual(["ok"], self.codes(caller))
                else:
                    self.ended(caller, LINE_TOO_LONG.name, bye=LINE_TOO_LONG.name)

    def test_unfinished(self) -> None:
        """A line that does not end is refused when it has passed the limit."""
        caller = self.call()
        caller.protocol.dataReceived(b"x" * (64 * 1024 + 1))
        self.assertEqual([], caller.replies())
        caller.protocol.dataReceived(b"x")
        self.ended(caller, LINE_TOO_LONG.name, bye=LINE_TOO_LONG.name)

    def test_after_the_login(self) -> None:
        """1 MiB after the login, and not one byte more; after a logout as before."""
        caller = self.member(self.alice)
        caller.say(self.padded(1024 * 1024))
        self.assertEqual(["ok"], self.codes(caller))
        caller.ask(m.Logout())
        caller.say(self.padded(16 * 1024 + 1))
        self.ended(caller, LINE_TOO_LONG.name, bye=LINE_TOO_LONG.name)
        caller = self.member(self.alice)
        caller.say(self.padded(1024 * 1024 + 1))
        self.ended(caller, LINE_TOO_LONG.name, bye=LINE_TOO_LONG.name)

    def test_lines_before_it(self) -> None:
        """What was asked before an overlong line is answered."""
        caller = self.call()
        caller.say(PING, self.padded(16 * 1024 + 1), PING)
        self.ended(caller, "ok", LINE_TOO_LONG.name, bye=LINE_TOO_LONG.name)


class OrderTests(LineCase):
    """Tests for what runs when."""

    def test_one_at_a_time(self) -> None:
        """A request begins when the one before it is answered."""
        caller = self.member(self.alice)
        self.writer.threads.held = True
        caller.say(self.create_of(self.alice, "ops"), m.Rooms(id=2), m.Ping(id=3))
        self.assertEqual([], caller.replies())
        self.writer.threads.held = False
        self.writer.threads.run_next()
        replies = caller.replies()
        self.assertEqual([1, 2, 3], [reply["id"] for reply in replies])
        self.assertEqual(["ops"], [room["room"] for room in replies[1]["rooms"]])

    def test_many_answered_at_once(self) -> None:
        """However many requests wait and are answered at once, none of them is deeper in the stack than the first."""
        depths: list[int] = []

        async def ping(session: Any, request: Any) -> Any:
            frame, depth = sys._getframe(), 0
            while frame.f_back is not None:
                frame, depth = frame.f_back, depth + 1
            depths.append(depth)
            return m.Reply(id=request.id)

        self.patch(sessions, "RULES", {**sessions.RULES, m.Ping: (sessions.RULES[m.Ping][0], ping)})
        caller = self.call()
        self.checks.threads.held = True
        refused = codec.encode(m.Send(id=2, room="ops", package=m.Package(hdr=b"{}", sig=b"s" * 64)))[:-1]
        caller.say(self.login_of(self.alice, caller), *[m.Ping(id=1)] * 150, *[refused] * 50)
        self.checks.threads.held = False
        self.checks.threads.run_next()
        self.assertEqual(201, len(caller.replies()))
        self.assertEqual((150, 1), (len(depths), len(set(depths))))
        self.assertTrue(caller.protocol.idle)

    def test_stops_reading(self) -> None:
        """Above 64 KiB of requests that have not begun nothing is read, until they are done."""
        caller = self.member(self.alice, "ops")
        self.writer.threads.held = True
        caller.say(self.create_of(self.alice, "zoo"))
        caller.say(b'{"cmd":"ping","x":"' + b"x" * 60_000 + b'"}')
        self.assertEqual("producing", caller.transport.producerState)
        caller.say(b'{"cmd":"ping","x":"' + b"x" * 60_000 + b'"}')
        self.assertEqual("paused", caller.transport.producerState)
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual(["ok"] * 3, self.codes(caller))
        self.assertEqual("producing", caller.transport.producerState)

    def test_events_need_no_turn(self) -> None:
        """Events come also while a request is under way, and while nothing is read."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        alices.take()
        self.checks.threads.held = True
        password = self.login_of(self.alice, alices).password
        alices.say(m.Passwd(password=password, new_password=AUTH, new_salt=b"n" * 16), b'{"cmd":"?"}' * 1)
        bobs.ask(self.send_of(1, self.bob, self.alice))
        self.assertEqual([1], [message.seq for message in alices.take(m.StoredMessage)])
        self.assertEqual([], alices.replies())

    def test_message_rate(self) -> None:
        """Messages above the rate are not refused but wait; so does what stands behind them."""
        caller = self.limited(ConnectionLimits(messages_per_second=2.0, message_burst=3.0))
        caller.say(*(self.send_of(number, self.alice) for number in range(1, 6)), m.Ping(id=9))
        self.assertEqual([1, 2, 3], [reply["id"] for reply in caller.replies()])
        self.reactor.advance(0.5)
        self.assertEqual([4], [reply["id"] for reply in caller.replies()])
        self.reactor.advance(0.5)
        self.assertEqual([5, 9], [reply["id"] for reply in caller.replies()])

    def limited(self, each: ConnectionLimits) -> Caller:
        """Alice, alone in ops, on a listener with other limits."""
        self.shared.each = each
        self.factory = self.listener()
        return self.member(self.alice, "ops")

    def test_more_while_waiting(self) -> None:
        """What comes while messages wait waits behind them, and makes the wait neither shorter nor longer."""
        caller = self.limited(ConnectionLimits(messages_per_second=2.0, message_burst=1.0))
        caller.say(self.send_of(1, self.alice), self.send_of(2, self.alice))
        self.assertEqual([1], [reply["id"] for reply in caller.replies()])
        timers = len(self.reactor.getDelayedCalls())
        caller.say(m.Ping(id=7))
        caller.say(self.send_of(3, self.alice))
        self.assertEqual(([], timers), (caller.replies(), len(self.reactor.getDelayedCalls())))
        self.assertFalse(caller.protocol.idle)
        self.reactor.advance(0.5)
        self.assertEqual([2, 7], [reply["id"] for reply in caller.replies()])
        self.reactor.advance(0.5)
        self.assertEqual([3], [reply["id"] for reply in caller.replies()])

    def test_private_messages_count(self) -> None:
        """A private message counts as one."""
        caller = self.limited(ConnectionLimits(messages_per_second=1.0, message_burst=1.0))
        caller.say(self.pm_of(1, self.alice, self.bob), self.pm_of(2, self.alice, self.bob))
        self.assertEqual(1, len(caller.replies()))
        self.reactor.advance(1)
        self.assertEqual(1, len(caller.replies()))

    def test_request_rate(self) -> None:
        """Other requests have a rate of their own, and wait as well."""
        caller = self.member(self.alice)
        self.reactor.advance(limits.REQUEST_BURST / limits.REQUESTS_PER_SECOND)
        caller.say(*[PING] * int(limits.REQUEST_BURST + 10))
        self.assertEqual(limits.REQUEST_BURST, len(caller.replies()))
        self.reactor.advance(5.5 / limits.REQUESTS_PER_SECOND)
        self.assertEqual(5, len(caller.replies()))

    def test_lost_while_waiting(self) -> None:
        """A connection lost while requests wait leaves nothing to be done."""
        caller = self.limited(ConnectionLimits(messages_per_second=1.0, message_burst=1.0))
        caller.say(*(self.send_of(number, self.alice) for number in (1, 2, 3)))
        caller.lose()
        self.reactor.advance(100)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual(
            1, len(self.do(self.store.read("alice", "ops", after=0, before=None, limit=9, max_bytes=999)).messages)
        )

    def test_lost_while_under_way(self) -> None:
        """An answer for somebody who is gone goes nowhere, and what stood behind it is not done."""
        caller = self.member(self.alice)
        self.writer.threads.held = True
        caller.say(*(self.create_of(self.alice, room) for room in ("ops", "zoo")))
        caller.lose()
        self.writer.threads.held = False
        self.writer.threads.run_next()
        rooms = self.do(self.store.rooms("alice"))
        self.assertEqual(["ops"], [room.room for room in rooms])

    def test_ended_while_under_way(self) -> None:
        """What stood behind the request under way is not done either where the server has ended the connection."""
        caller = self.member(self.alice)
        self.writer.threads.held = True
        caller.say(*(self.create_of(self.alice, room) for room in ("ops", "zoo")))
        session = caller.protocol.session
        assert session is not None
        session.end("session_ended", "x")
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual(["ops"], [room.room for room in self.do(self.store.rooms("alice"))])

    def test_idle(self) -> None:
        """It is idle when all that was asked has been answered."""
        caller = self.member(self.alice, "ops")
        self.assertTrue(caller.protocol.idle)
        for request in (self.create_of(self.alice, "zoo"), self.send_of(1, self.alice)):
            self.writer.threads.held = True
            caller.say(request)
            self.assertFalse(caller.protocol.idle)
            self.writer.threads.held = False
            self.writer.threads.run_next()
            self.assertTrue(caller.protocol.idle)

    def test_stop_reading(self) -> None:
        """A server that stops takes no more lines; those taken are still answered."""
        caller = self.member(self.alice)
        self.writer.threads.held = True
        caller.say(self.create_of(self.alice, "ops"), m.Ping(id=2))
        caller.protocol.stop_reading()
        caller.say(m.Ping(id=3))
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([1, 2], [reply.get("id") for reply in caller.replies()])
        caller.protocol.say_bye(m.Bye(reason="shutdown", msg="x"))
        self.assertEqual((["shutdown"], True), (self.byes(caller), caller.closing))

    def test_own_fault_in_a_send(self) -> None:
        """A fault of the server's own is answered also where sends are under way."""

        async def broken(*_: Any) -> None:
            raise ZeroDivisionError

        caller = self.member(self.alice, "ops")
        self.patch(type(self.store), "append", broken)
        caller.say(self.send_of(1, self.alice))
        self.ended(caller, "internal", bye="internal")
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class TimerTests(LineCase):
    """Tests for what a connection may wait with."""

    def test_nobody_logs_in(self) -> None:
        """Who has not logged in after 10 seconds is told, and closed, whatever else was said."""
        caller = self.call()
        self.reactor.advance(9.9)
        caller.ask(m.Ping())
        self.assertFalse(caller.closing)
        self.reactor.advance(0.2)
        self.assertEqual((["login_timeout"], True), (self.byes(caller), caller.closing))

    def test_no_handshake(self) -> None:
        """The handshake counts: a connection without one is cut after the same time."""
        caller = self.call(factory=self.listener(tls=True))
        self.reactor.advance(10.1)
        self.assertTrue(caller.transport.disconnected)

    def test_stands_still(self) -> None:
        """While a password waits to be checked, the time is the server's own."""
        caller = self.call()
        self.checks.threads.held = True
        caller.say(self.login_of(self.alice, caller))
        self.reactor.advance(25)
        self.assertFalse(caller.closing)
        self.checks.threads.run_next()
        self.assertEqual(["ok"], self.codes(caller))
        self.reactor.advance(20)
        self.assertFalse(caller.closing)

    def test_runs_on_after_a_wrong_password(self) -> None:
        """Afterwards it runs again."""
        caller = self.call()
        caller.ask(m.Login(user="alice", password=AUTH))
        self.reactor.advance(10.1)
        self.assertEqual(["login_timeout"], self.byes(caller))

    def test_silence(self) -> None:
        """Who is logged in and silent for 60 seconds is told, and closed."""
        caller = self.member(self.alice)
        self.reactor.advance(59.9)
        self.assertFalse(caller.closing)
        self.reactor.advance(0.2)
        self.assertEqual((["silence"], True), (self.byes(caller), caller.closing))

    def test_not_read(self) -> None:
        """Who is not read, since what they asked before takes its time, is not silent."""
        caller = self.member(self.alice, "ops")
        self.writer.threads.held = True
        caller.say(self.create_of(self.alice, "zoo"))
        caller.say(b'{"cmd":"ping","x":"' + b"x" * 70_000 + b'"}')
        self.reactor.advance(70)
        self.assertFalse(caller.closing)
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.reactor.advance(59)
        self.assertFalse(caller.closing)
        self.reactor.advance(62)
        self.assertEqual(["silence"], self.byes(caller))

    def test_any_byte_is_life(self) -> None:
        """One byte, even of an unfinished line, is a sign of life."""
        caller = self.member(self.alice)
        self.reactor.advance(50)
        caller.protocol.dataReceived(b"{")
        self.reactor.advance(59)
        self.assertFalse(caller.closing)
        self.reactor.advance(1.1)
        self.assertEqual(["silence"], self.byes(caller))

    def test_logout(self) -> None:
        """After a logout the time until a login runs again."""
        caller = self.member(self.alice)
        caller.ask(m.Logout())
        self.reactor.advance(10.1)
        self.assertEqual(["login_timeout"], self.byes(caller))

    def test_lost(self) -> None:
        """A lost connection leaves no timers."""
        for caller in (self.call(), self.member(self.alice)):
            caller.lose()
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_peer_does_not_let_go(self) -> None:
        """A peer that does not close is cut off 5 seconds after the bye."""
        caller = self.call()
        self.reactor.advance(10.1)
        self.assertFalse(caller.transport.disconnected)
        self.reactor.advance(5)
        self.assertTrue(caller.transport.disconnected)

    def test_lost_after_the_bye(self) -> None:
        """One that closes leaves no timer behind."""
        caller = self.member(self.alice)
        caller.say(b"")
        caller.lose()
        self.reactor.advance(0)  # the end of the turn
        self.assertEqual([], self.reactor.getDelayedCalls())


class QueueTests(LineCase):
    """Tests for readers that are too slow."""

    LIMITS = ConnectionLimits(send_queue=40_000, send_queue_all=100_000, message_burst=1000)

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")

    def fill(self, first: int, last: int) -> None:
        """Alice sends; each message is about 1,700 bytes for a reader."""
        for number in range(first, last + 1):
            self.alices.ask(self.send_of(number, self.alice, self.bob))

    def test_slow_reader_is_cut(self) -> None:
        """Who falls behind further than allowed is cut off, and gets the rest by a sync later."""
        self.bobs.transport.producer.pauseProducing()
        self.fill(1, 10)
        self.assertFalse(self.bobs.transport.disconnected)
        self.fill(11, 30)
        self.assertTrue(self.bobs.transport.disconnected)
        self.bobs.lose()
        again = self.call()
        again.ask(self.login_of(self.bob, again))
        again.ask(m.Sync(since={self.rooms["ops"].log.id: 12}))
        self.assertEqual([*range(13, 31)], [message.seq for message in again.take(m.StoredMessage)])

    def test_others_are_not_kept(self) -> None:
        """The sender, and everybody else, notices nothing."""
        self.bobs.transport.producer.pauseProducing()
        self.fill(1, 30)
        self.assertFalse(self.alices.closing)

    def test_slow_reader_recovers(self) -> None:
        """Who reads on in time gets everything, joined."""
        self.bobs.transport.producer.pauseProducing()
        self.fill(1, 10)
        self.bobs.transport.producer.resumeProducing()
        self.assertEqual([*range(1, 11)], [message.seq for message in self.bobs.take(m.StoredMessage)])

    def test_accounts_are_even(self) -> None:
        """What was queued is counted out again, however it ended."""
        self.bobs.transport.producer.pauseProducing()
        self.fill(1, 5)
        self.assertGreater(self.shared.queued, 0)
        self.bobs.lose()
        self.alices.lose()
        self.assertEqual(0, self.shared.queued)

    def test_all_together(self) -> None:
        """Where all queues together hold too much, the reader furthest behind goes."""
        self.shared.each = ConnectionLimits(send_queue=10**6, send_queue_all=40_000, message_burst=1000)
        self.factory = self.listener()
        carols, daves, alices = self.member(self.carol, "ops"), self.member(self.bob), self.member(self.alice)
        daves.transport.producer.pauseProducing()
        for number in range(1, 6):
            alices.ask(self.send_of(number, self.alice, self.bob, self.carol))
        carols.transport.producer.pauseProducing()
        for number in range(6, 21):
            alices.ask(self.send_of(number, self.alice, self.bob, self.carol))
        self.assertTrue(daves.transport.disconnected)
        self.assertFalse(carols.transport.disconnected)
        self.assertLess(self.shared.queued, 40_000)


class FullestTests(ServerCase):
    """Tests for who is cut where all queues together hold too much."""

    LIMITS = ConnectionLimits(send_queue_all=150_000)

    def test_quick_reader(self) -> None:
        """Not one whose bytes wait for the end of the turn alone, however many they are."""
        slow, quick = [self.call() for _ in range(2)], self.call()
        for caller in slow:
            caller.protocol._out.pauseProducing()
        quick.protocol.deliver(b"x" * 120_000 + b"\n")
        for caller in slow:
            caller.protocol.deliver(b"y" * 80_000 + b"\n")
        self.assertEqual((False, 1), (quick.protocol.closing, sum(caller.protocol.closing for caller in slow)))
        self.assertLess(self.shared.queued, 150_000)


class SharedLimitsTests(LineCase):
    """Tests for what connections share."""

    LIMITS = ConnectionLimits(connections_per_address=2)

    def test_connections_of_an_address(self) -> None:
        """More than its share are cut off without a word; when one goes there is room again."""
        first, _ = self.call(), self.call()
        third = self.call()
        self.assertEqual((True, None), (third.transport.disconnected, third.hello))
        third.lose()
        first.lose()
        self.assertIsNot(None, self.call().hello)
        self.assertTrue(self.call().transport.disconnected)

    def test_other_addresses(self) -> None:
        """What one address uses is not taken from another."""
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.3"):
            self.assertIsNot(None, self.call(address).hello)
        self.assertTrue(self.call("::ffff:192.0.2.1").transport.disconnected)
        self.assertTrue(self.call("2001:db8::3").transport.disconnected)
        self.assertIsNot(None, self.call("2001:db8:0:1::1").hello)

    def test_this_machine(self) -> None:
        """This machine itself may have any number."""
        for address in ("127.0.0.1", "::1", "127.8.8.8", "::ffff:127.0.0.1"):
            for _ in range(4):
                self.assertIsNot(None, self.call(address).hello, address)

    def test_all_listeners(self) -> None:
        """It holds for all listeners together."""
        self.call()
        self.call(factory=self.listener())
        self.assertTrue(self.call(factory=self.listener(tls=True)).transport.disconnected)

    def test_through_a_proxy(self) -> None:
        """Before a proxy has told where a connection comes from it counts for nobody, and then for whom it told."""
        self.factory = ChatServerFactory(
            self.parts, self.shared, self.reactor, tls=True, registration=Registration.OPEN, proxied=True
        )
        callers = [self.call() for _ in range(3)]
        self.assertEqual([False] * 3, [caller.transport.disconnected for caller in callers])
        for caller in callers:
            caller.protocol.handshakeCompleted()
        self.assertEqual([False, False, True], [caller.transport.disconnected for caller in callers])
        self.assertEqual({"192.0.2.1": 2}, self.shared._by_address)
        for caller in callers:
            caller.lose()
        self.assertEqual(({}, {}), (self.shared.connections, self.shared._by_address))

    def test_without_an_address(self) -> None:
        """A Unix socket's peers have none, and no limit."""
        for _ in range(4):
            transport = StringTransport(peerAddress=object())
            protocol = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
            protocol.makeConnection(transport)
            self.assertFalse(transport.disconnecting)
            self.addCleanup(protocol.connectionLost, Failure(ConnectionDone()))

    def test_nothing_is_left(self) -> None:
        """When all are gone, nothing is counted any more."""
        callers = [self.call() for _ in range(3)]
        for caller in callers:
            caller.lose()
        self.assertEqual(({}, {}), (self.shared.connections, self.shared._by_address))
