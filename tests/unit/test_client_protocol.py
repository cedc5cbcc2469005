"""Tests for the client's end of one connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.protocol import ChatClientProtocol, LinkLost, refusal_of
from securechat.crypto.identity import hello_signature
from securechat.crypto.primitives import SigningKey, ed25519_public
from securechat.errors import BAD_LOGIN, RATE_LIMITED, STALE_KEYS, Exit, Refused
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.codec import decode_request, encode
from tests.doubles import SERVER_KEY, SRV

NONCE = b"n" * 32


def hello(exporter: bytes = b"", key: SigningKey = SERVER_KEY, **changes: Any) -> m.Hello:
    """A good greeting over a connection with that exporter."""
    fields: dict[str, Any] = {
        "protocol": limits.PROTOCOL_VERSION,
        "server": "SecureChat/test",
        "lk": ed25519_public(key),
        "nonce": NONCE,
        "sig": hello_signature(key, exporter=exporter, nonce=NONCE),
        "epoch": "e" * 32,
        "registration": "open",
        "limits": m.Limits(),
    }
    return m.Hello(**fields | changes)


class Ear:
    """Notes what a connection says."""

    def __init__(self) -> None:
        self.greetings: list[str] = []
        self.events: list[m.AnyEvent] = []
        self.losses: list[str] = []
        self.on_greeting: Callable[[], object] = lambda: None

    def greeted(self, protocol: ChatClientProtocol) -> None:
        """As Listener's."""
        self.greetings.append(protocol.srv)
        self.on_greeting()

    def event(self, protocol: ChatClientProtocol, event: m.AnyEvent) -> None:
        """As Listener's."""
        self.events.append(event)

    def lost(self, protocol: ChatClientProtocol, reason: str) -> None:
        """As Listener's."""
        self.losses.append(reason)


class ProtocolCase(SynchronousTestCase):
    """A connection over which nothing was said yet."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ear = Ear()
        self.transport = StringTransport()
        self.protocol = ChatClientProtocol(self.clock, self.ear, tls=False)
        self.protocol.makeConnection(self.transport)

    def hear(self, *packets: m.Packet | bytes) -> None:
        """The server says these, in one segment."""
        self.protocol.dataReceived(b"".join(p if isinstance(p, bytes) else encode(p) for p in packets))

    def said(self) -> list[m.AnyRequest]:
        """What the client has asked for since the last look."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [decode_request(line) for line in lines]

    def lose(self, why: Exception) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(why))

    def assertGivenUp(self, reason: str) -> None:
        """The connection is aborted, nothing was written, and that is why."""
        self.assertEqual((True, b""), (self.transport.disconnected, self.transport.value()))
        self.lose(ConnectionDone())
        self.assertEqual([reason], self.ear.losses)


class GreetingTests(ProtocolCase):
    """Tests for what comes before the first request."""

    def test_good(self) -> None:
        """A greeting that verifies is told, with the server's id, and nothing is sent."""
        self.hear(hello())
        self.assertEqual([SRV], self.ear.greetings)
        self.assertEqual(b"", self.transport.value())

    def test_split_anywhere(self) -> None:
        """A greeting may come byte by byte."""
        for byte in encode(hello()):
            self.protocol.dataReceived(bytes([byte]))
        self.assertEqual([SRV], self.ear.greetings)

    def test_no_request_before(self) -> None:
        """A request before the greeting fails and writes nothing."""
        self.failureResultOf(self.protocol.request(m.Ping()), LinkLost)
        self.assertEqual(b"", self.transport.value())

    def test_of_another_connection(self) -> None:
        """A greeting made for another TLS connection, as by somebody in between, is refused."""
        self.hear(hello(exporter=b"x" * 32))
        self.assertGivenUp("the server did not prove its identity on this connection: somebody may be in between")

    def test_of_another_key(self) -> None:
        """A greeting with a key that did not sign it is refused."""
        self.hear(hello(lk=b"\x01" * 32))
        self.assertGivenUp("the server did not prove its identity on this connection: somebody may be in between")

    def test_another_version(self) -> None:
        """A server of another protocol is told apart from none."""
        self.hear(hello(protocol=2))
        self.assertGivenUp("the server speaks protocol 2: a newer client is needed")

    def test_another_event_first(self) -> None:
        """Who says something else first is not a server."""
        self.hear(m.Live(room="general", seq=1))
        self.assertGivenUp("what answers there is not a SecureChat server")

    def test_something_else(self) -> None:
        """A web server, and one that greets with nonsense, is not a server."""
        self.hear(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertTrue(self.transport.disconnected)
        self.lose(ConnectionDone())
        (reason,) = self.ear.losses
        self.assertTrue(reason.startswith("what answers there does not speak SecureChat ("), reason)

    def test_silence(self) -> None:
        """A server that does not greet within ten seconds is given up."""
        self.clock.advance(9.9)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(0.2)
        self.assertGivenUp("the server did not greet in time")

    def test_nothing_after_giving_up(self) -> None:
        """What follows a bad greeting in the same segment is not looked at."""
        self.hear(hello(protocol=2), hello())
        self.assertEqual([], self.ear.greetings)

    def test_lost_before(self) -> None:
        """A connection lost before the greeting leaves no timer behind."""
        self.lose(ConnectionLost())
        self.assertEqual((["the connection broke"], []), (self.ear.losses, self.clock.getDelayedCalls()))


class ReplyTests(ProtocolCase):
    """Tests for requests and what comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.hear(hello())

    def ask(self, request: m.Request) -> Deferred[Any]:
        """Sends a request."""
        return self.protocol.request(request)

    def test_in_order(self) -> None:
        """Requests are numbered, and each reply reaches who asked."""
        first, second = self.ask(m.Rooms()), self.ask(m.Prelogin(user="alice"))
        self.assertEqual([m.Rooms(id=1), m.Prelogin(user="alice", id=2)], self.said())
        self.hear(m.RoomsOk(id=1, rooms=()), m.PreloginOk(id=2, salt=b"s" * 16))
        self.assertEqual((), self.successResultOf(first).rooms)
        self.assertEqual(b"s" * 16, self.successResultOf(second).salt)

    def test_refusal(self) -> None:
        """A refusal keeps the server's words, its code and the fields of that code."""
        asked = self.ask(m.Ping())
        self.hear(m.Failed(id=1, code="rate_limited", msg="Slowly.", retry_after=7.0))
        error = self.failureResultOf(asked, Refused).value
        self.assertEqual(("Slowly.", RATE_LIMITED, {"retry_after": 7.0}), (str(error), error.code, error.data))

    def test_events_between(self) -> None:
        """Events may come while a reply is awaited, and do not answer it."""
        asked = self.ask(m.Ping())
        live = m.Live(room="general", seq=4)
        self.hear(live, m.Reply(id=1))
        self.assertEqual([live], self.ear.events)
        self.successResultOf(asked)

    def test_unasked(self) -> None:
        """A reply that nobody waits for ends the connection."""
        self.hear(m.Reply(id=1))
        self.assertGivenUp("the server answered what nobody asked")

    def test_out_of_order(self) -> None:
        """So does one that comes before its turn; who waits hears that the outcome is unknown."""
        asked = [self.ask(m.Ping()), self.ask(m.Ping())]
        self.transport.clear()
        self.hear(m.Reply(id=2), m.Reply(id=1))
        self.assertGivenUp("the server answered what nobody asked")
        for deferred in asked:
            self.failureResultOf(deferred, LinkLost)

    def test_of_another_kind(self) -> None:
        """So does the reply to another kind of request."""
        asked = self.ask(m.Prelogin(user="alice"))
        self.transport.clear()
        self.hear(m.RoomsOk(id=1, rooms=()))
        self.assertTrue(self.transport.disconnected)
        self.lose(ConnectionDone())
        self.failureResultOf(asked, LinkLost)

    def test_violation_of_ours(self) -> None:
        """A refusal of no request at all is passed over: the server closes next and says why."""
        self.hear(m.Failed(code="bad_packet", msg="That line is not a packet."))
        self.assertFalse(self.transport.disconnected)
        self.hear(m.Bye(reason="bad_packet", msg="That line is not a packet."))
        self.lose(ConnectionDone())
        self.assertEqual(["That line is not a packet."], self.ear.losses)

    def test_lost(self) -> None:
        """When the connection is lost, everybody who waits hears it, and later ones at once."""
        asked = [self.ask(m.Ping()), self.ask(m.Rooms())]
        self.lose(ConnectionLost())
        for deferred in asked:
            self.assertEqual("the connection broke", str(self.failureResultOf(deferred, LinkLost).value))
        self.failureResultOf(self.ask(m.Ping()), LinkLost)
        self.assertEqual(["the connection broke"], self.ear.losses)

    def test_closed(self) -> None:
        """A server that closes without a word is told as that."""
        self.lose(ConnectionDone())
        self.assertEqual(["the server closed the connection"], self.ear.losses)

    def test_bye(self) -> None:
        """The server's last word is the reason, and is kept."""
        bye = m.Bye(reason="replaced", msg="This device connected again from elsewhere.")
        self.hear(bye)
        self.lose(ConnectionDone())
        self.assertEqual((bye, [bye.msg]), (self.protocol.bye, self.ear.losses))

    def test_room_deleted(self) -> None:
        """That a room was deleted is no answer to who waits for one: it is told once, as the reason."""
        asked = self.ask(m.Rooms())
        self.hear(m.Bye(reason="room_deleted", msg="The room is deleted."))
        self.lose(ConnectionDone())
        self.assertIn("before the server answered", str(self.failureResultOf(asked, LinkLost).value))
        self.assertEqual(["The room is deleted."], self.ear.losses)

    def test_unknown_event(self) -> None:
        """An event of a kind this client does not know is passed over, whatever its fields."""
        self.hear(b'{"event":"waving","room":{"a":[1]}}\n')
        self.assertEqual((False, []), (self.transport.disconnected, self.ear.events))

    def test_unknown_field(self) -> None:
        """A field that a newer server adds is passed over."""
        self.hear(b'{"event":"live","room":"general","seq":3,"mood":"good"}\n')
        self.assertEqual([m.Live(room="general", seq=3)], self.ear.events)

    def test_nonsense(self) -> None:
        """A line that is no packet ends the connection, however it is broken."""
        for line in (
            b"",
            b"[]",
            b"{",
            b"\xff\xfe",
            b'{"event":"live","room":7,"seq":1}',
            b'{"id":"x","status":"ok"}',
            b'{"event":"live","room":"general","seq":-1}',
            b"[" * 1000,
        ):
            ear, transport = Ear(), StringTransport()
            protocol = ChatClientProtocol(self.clock, ear, tls=False)
            protocol.makeConnection(transport)
            protocol.dataReceived(encode(hello()) + line + b"\n" + encode(m.Live(room="general", seq=1)))
            self.assertEqual((True, []), (transport.disconnected, ear.events), line)

    def test_too_long(self) -> None:
        """A line longer than any packet ends the connection before it has come whole."""
        chunk = b"x" * limits.MAX_LINE
        for _ in range(4):
            self.protocol.dataReceived(chunk)
        self.assertFalse(self.transport.disconnected)
        self.protocol.dataReceived(b"xx")
        self.assertGivenUp("the server sent a line longer than any packet")

    def test_request_within_a_reply(self) -> None:
        """Who is answered may ask again at once, also from within the answer."""
        again: list[Deferred[Any]] = []
        self.ask(m.Ping()).addCallback(lambda _: again.append(self.ask(m.Ping())))
        self.hear(m.Reply(id=1), m.Reply(id=2))
        self.successResultOf(again[0])

    def test_request_within_the_greeting(self) -> None:
        """Who hears of the greeting may ask from within that call."""
        ear, transport = Ear(), StringTransport()
        protocol = ChatClientProtocol(self.clock, ear, tls=False)
        protocol.makeConnection(transport)
        ear.on_greeting = lambda: protocol.request(m.Ping())
        protocol.dataReceived(encode(hello()))
        self.assertEqual(encode(m.Ping(id=1)), transport.value())


class LifeTests(ProtocolCase):
    """Tests for signs of life."""

    def setUp(self) -> None:
        super().setUp()
        self.hear(hello())

    def pass_time(self, seconds: int) -> None:
        """Lets time pass, second by second."""
        self.clock.pump([1.0] * seconds)

    def test_ping(self) -> None:
        """After twenty-five seconds of silence the client pings, and goes on while it is answered."""
        self.pass_time(24)
        self.assertEqual([], self.said())
        self.pass_time(2)
        self.assertEqual([m.Ping(id=1)], self.said())
        self.hear(m.Reply(id=1))
        self.pass_time(300)
        self.assertTrue(self.said())

    def test_given_up(self) -> None:
        """A server that answers no ping is given up: nothing else tells of a cable that was pulled."""
        for _ in range(100):
            self.pass_time(1)
            if self.transport.disconnected:
                break
        self.assertEqual(75, self.clock.seconds())
        self.lose(ConnectionDone())
        self.assertEqual(["nothing is heard from the server"], self.ear.losses)

    def test_speaks_while_it_only_listens(self) -> None:
        """A client that is told much and asks nothing still speaks often enough for a server that wants to hear it."""
        last = 0
        for second in range(1, 400):
            self.pass_time(1)
            if second % 20 == 0:
                self.hear(m.Live(room="general", seq=second))
            for ping in self.said():
                last = second
                self.hear(m.Reply(id=ping.id))
            self.assertLess(second - last, limits.SILENCE_SECONDS)

    def test_no_timer_left(self) -> None:
        """A connection that is gone leaves no timer behind."""
        self.lose(ConnectionDone())
        self.assertEqual([], self.clock.getDelayedCalls())


class RefusalTests(SynchronousTestCase):
    """Tests for `refusal_of`."""

    def test_unknown_code(self) -> None:
        """A code that a newer server has keeps its text and can be fixed by the person, as far as we know."""
        refusal = refusal_of(m.Failed(code="too_loud", msg="Too {loud}!"))
        self.assertEqual(
            ("too_loud", "Too {loud}!", Exit.FIXABLE),
            (refusal.code.name, str(refusal), refusal.code.exit),
        )

    def test_known_code(self) -> None:
        """A code of ours is the very row of the table, with all its data."""
        failed = m.Failed(code="stale_keys", msg="Fetch them.", users=("bob", "carol"))
        refusal = refusal_of(failed)
        self.assertIs(STALE_KEYS, refusal.code)
        self.assertEqual({"users": ("bob", "carol")}, refusal.data)
        self.assertIs(BAD_LOGIN, refusal_of(replace(failed, code="bad_login")).code)
