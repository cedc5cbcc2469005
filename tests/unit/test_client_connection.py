"""Tests for reaching a server: who is spoken to, how a first failure is told, and how the link comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TimeoutError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from securechat.client.connection import (
    CannotConnect,
    ChangedServer,
    ServerJudge,
    ServerLink,
    UntrustedServer,
)
from securechat.client.profile import ClientDir
from securechat.client.protocol import ChatClientProtocol
from securechat.errors import Exit
from securechat.link import ConnectLine
from securechat.wire import messages as m
from securechat.wire.codec import encode
from tests.doubles import SRV, signing_key
from tests.unit.test_client_protocol import hello

HERE = ConnectLine("127.0.0.1", 12345, tls=False)
THERE = ConnectLine("chat.example", 12345)
OTHER = "o" * 43


class Asked:
    """A person who answers as prepared."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.questions: list[str] = []

    async def __call__(self, question: str) -> str | None:
        self.questions.append(question)
        return self.answer


class JudgeTests(SynchronousTestCase):
    """Tests for `ServerJudge`: may this server be spoken to?"""

    def setUp(self) -> None:
        self.directory = ClientDir(Path(self.mktemp()))

    def judge(self, line: ConnectLine, *, ask: Any = None, vouched: bool = False) -> str | None:
        """Why the server SRV may not be spoken to, or None."""
        self.verdict = ServerJudge(self.directory, line, ask)
        result = Deferred.fromCoroutine(self.verdict.judge(SRV, vouched))
        if not isinstance(result.result, Failure):
            self.successResultOf(result)
            return None
        return str(self.failureResultOf(result, UntrustedServer).value)

    def known(self, srv: str, line: ConnectLine = THERE) -> None:
        """A server answered there before."""
        self.directory.remember(line.known(srv))

    def test_id_given(self) -> None:
        """The id of the connect line is enough, whatever was known there before, and nobody is asked."""
        ask = Asked("no")
        self.known(OTHER)
        self.assertIsNone(self.judge(THERE.known(SRV), ask=ask))
        self.assertEqual([], ask.questions)

    def test_id_differs(self) -> None:
        """Another id than the line's is refused: on loopback, vouched for, known or agreed to, all the same."""
        self.known(SRV, HERE)
        reason = self.judge(HERE.known(OTHER), ask=Asked("yes"), vouched=True)
        self.assertEqual(
            "127.0.0.1:12345 is not the server of this connect line. Ask whoever gave it to you for the present one.",
            reason,
        )

    def test_known(self) -> None:
        """Who answered there before is spoken to again; nobody is asked."""
        self.known(SRV)
        self.assertIsNone(self.judge(THERE))

    def test_changed(self) -> None:
        """Another than before is refused, with both ids and the command that accepts it; nobody is asked."""
        for line, vouched in ((THERE, True), (HERE, False)):
            ask = Asked("yes")
            self.known(OTHER, line)
            reason = self.judge(line, ask=ask, vouched=vouched)
            assert reason is not None
            for part in (OTHER, SRV, "/trust server", "Nothing was sent"):
                self.assertIn(part, reason)
            self.assertEqual(ChangedServer(line, OTHER, SRV), self.verdict.changed)
            self.assertEqual([], ask.questions)

    def test_vouched(self) -> None:
        """At first contact a certificate that an authority vouches for is enough."""
        self.assertIsNone(self.judge(THERE, vouched=True))

    def test_loopback(self) -> None:
        """At first contact on this very machine nobody is asked."""
        for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
            self.assertIsNone(self.judge(ConnectLine(host, 12345)), host)

    def test_yes(self) -> None:
        """A person who says yes, after seeing the id, is believed."""
        for answer in ("yes", " YES ", "y"):
            ask = Asked(answer)
            self.assertIsNone(self.judge(THERE, ask=ask), answer)
            self.assertIn(SRV, ask.questions[0])

    def test_no(self) -> None:
        """Anything else is a no."""
        for answer in ("no", "", "yess", "sure", None):
            reason = self.judge(THERE, ask=Asked(answer))
            assert reason is not None, answer
            self.assertIn("is not known here", reason)

    def test_pipe(self) -> None:
        """Where nobody can be asked, an unknown server is refused, and told how to name it."""
        reason = self.judge(THERE)
        assert reason is not None
        self.assertIn("chat.example:12345", reason)
        self.assertIn("#id=", reason)
        self.assertIsNone(self.verdict.changed)

    def test_another_port(self) -> None:
        """Another port of a known host is another place."""
        self.known(OTHER)
        reason = self.judge(ConnectLine("chat.example", 999))
        assert reason is not None
        self.assertIn("is not known here", reason)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Attempts that the test decides."""

    def __init__(self) -> None:
        self.attempts: list[Deferred[Any]] = []
        self.transports: list[StringTransport] = []
        self._factories: list[Any] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        """As an endpoint's."""
        self._factories.append(factory)
        self.attempts.append(Deferred())
        return self.attempts[-1]

    def accept(self) -> Any:
        """The newest attempt succeeds; answers the protocol."""
        protocol = self._factories[-1].buildProtocol(None)
        self.transports.append(StringTransport())
        protocol.makeConnection(self.transports[-1])
        self.attempts[-1].callback(protocol)
        return protocol

    def refuse(self, why: Exception) -> None:
        """The newest attempt fails."""
        self.attempts[-1].errback(why)


class Ear:
    """Notes what a link says."""

    def __init__(self) -> None:
        self.up: list[ChatClientProtocol] = []
        self.events: list[m.AnyEvent] = []
        self.down: list[tuple[str, float | None]] = []
        self.news: list[bool] = []

    def link_up(self, protocol: ChatClientProtocol) -> None:
        """As LinkListener's."""
        self.up.append(protocol)

    def link_event(self, event: m.AnyEvent) -> None:
        """As LinkListener's."""
        self.events.append(event)

    def link_down(self, why: str, wait: float | None, *, news: bool = False) -> None:
        """As LinkListener's."""
        self.down.append((why, wait))
        self.news.append(news)


class LinkCase(SynchronousTestCase):
    """A link that was not started yet."""

    line = HERE
    ask: Any = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = ClientDir(Path(self.mktemp()))
        self.endpoint = Endpoint()
        self.ear = Ear()
        self.jitter: Callable[[], float] = lambda: 0.5
        self.link = self.make(self.line)

    def make(self, line: ConnectLine) -> ServerLink:
        """A link to there."""
        return ServerLink(
            self.clock,
            line,
            self.directory,
            self.ear,
            ask=self.ask,
            endpoint=self.endpoint,
            jitter=lambda: self.jitter(),
        )

    def connected(self) -> Any:
        """A link whose first connection stands; answers its protocol."""
        first = self.link.connect()
        protocol = self.endpoint.accept()
        protocol.dataReceived(encode(hello()))
        self.successResultOf(first)
        return protocol

    def lose(self, protocol: Any, why: Exception | None = None) -> None:
        """A connection breaks."""
        protocol.connectionLost(Failure(why or ConnectionLost()))


class FirstConnectionTests(LinkCase):
    """Tests for the first connection."""

    def failed(self, why: Exception) -> str:
        """How it is told that the first attempt failed."""
        first = self.link.connect()
        self.endpoint.refuse(why)
        error = self.failureResultOf(first, CannotConnect).value
        self.assertEqual(Exit.NETWORK, error.exit)
        self.assertStopped()
        return str(error)

    def assertStopped(self) -> None:
        """Nothing goes on."""
        self.clock.pump([0.0, 60.0, 60.0])
        self.assertEqual((1, []), (len(self.endpoint.attempts), self.clock.getDelayedCalls()))
        self.assertEqual([], self.ear.down)

    def test_good(self) -> None:
        """The verified connection is answered, and the server is remembered with its id."""
        protocol = self.connected()
        self.assertIs(self.link.protocol, protocol._protocol)
        self.assertEqual(SRV, self.directory.known_id("127.0.0.1", 12345))
        self.assertEqual(SRV, self.link.line.id)
        self.assertEqual([], self.ear.up)  # who asked for the connection was answered

    def test_refused(self) -> None:
        """Where nothing listens, the place is named, and the command that starts a server."""
        self.assertEqual(
            "Nothing listens at 127.0.0.1:12345. Is the server running? (twistd -n securechat)",
            self.failed(ConnectionRefusedError()),
        )

    def test_no_such_name(self) -> None:
        """A name that is not known is told as that."""
        self.link = self.make(THERE)
        self.assertEqual(
            "The name chat.example is not known here. Check the connect line.", self.failed(DNSLookupError())
        )

    def test_no_way(self) -> None:
        """Other failures keep their own words."""
        self.assertIn("Cannot reach 127.0.0.1:12345: ", self.failed(NoRouteError()))

    def test_timeout(self) -> None:
        """So does an attempt that takes too long."""
        self.assertIn("Cannot reach 127.0.0.1:12345: ", self.failed(TimeoutError()))

    def test_not_securechat(self) -> None:
        """What answers with something else is told as that, and gets not a byte."""
        first = self.link.connect()
        protocol = self.endpoint.accept()
        protocol.dataReceived(b"220 mail.example ESMTP\r\n")
        self.lose(protocol, ConnectionDone())
        reason = str(self.failureResultOf(first, CannotConnect).value)
        self.assertIn("Cannot talk to 127.0.0.1:12345: what answers there does not speak SecureChat", reason)
        self.assertEqual(b"", self.endpoint.transports[0].value())
        self.assertStopped()

    def test_hello_of_another_connection(self) -> None:
        """A relayed greeting is refused, and gets not a byte."""
        first = self.link.connect()
        protocol = self.endpoint.accept()
        protocol.dataReceived(encode(hello(exporter=b"x" * 32)))
        self.assertTrue(self.endpoint.transports[0].disconnected)
        self.lose(protocol, ConnectionDone())
        self.assertIn("did not prove its identity", str(self.failureResultOf(first, UntrustedServer).value))
        self.assertEqual(b"", self.endpoint.transports[0].value())
        self.assertStopped()

    def test_silent(self) -> None:
        """A server that says nothing is given up after ten seconds."""
        first = self.link.connect()
        protocol = self.endpoint.accept()
        self.clock.advance(10)
        self.assertTrue(self.endpoint.transports[0].disconnected)
        self.lose(protocol)
        self.assertIn("did not greet in time", str(self.failureResultOf(first, CannotConnect).value))
        self.assertStopped()

    def test_another_server(self) -> None:
        """A server that is not the line's is dropped at once, gets not a byte, and is not remembered."""
        self.link = self.make(HERE.known(OTHER))
        first = self.link.connect()
        protocol = self.endpoint.accept()
        protocol.dataReceived(encode(hello()))
        self.failureResultOf(first, UntrustedServer)
        transport = self.endpoint.transports[0]
        self.assertEqual((True, b""), (transport.disconnected, transport.value()))
        self.lose(protocol)
        self.assertIsNone(self.directory.known_id("127.0.0.1", 12345))
        self.assertStopped()

    def test_stopped_while_connecting(self) -> None:
        """A link that is stopped before it stands makes no other attempt."""
        self.link.connect().addErrback(lambda failure: None)
        stopped = self.link.stop()
        self.successResultOf(stopped)
        self.assertStopped()


class AskingTests(LinkCase):
    """Tests for a server that a person must agree to."""

    line = THERE

    def setUp(self) -> None:
        self.answer: Deferred[str | None] = Deferred()
        self.ask = lambda question: self.answer
        super().setUp()
        self.first = self.link.connect()
        self.there = self.endpoint.accept()
        self.there.dataReceived(encode(hello()))

    def test_nothing_before_the_answer(self) -> None:
        """While the person thinks, not a byte is sent and nothing is remembered."""
        self.assertNoResult(self.first)
        self.assertEqual(b"", self.endpoint.transports[0].value())
        self.assertIsNone(self.directory.known_id("chat.example", 12345))

    def test_what_it_says_meanwhile(self) -> None:
        """What the server says before it is accepted is nobody's business."""
        self.there.dataReceived(encode(m.Live(room="general", seq=1)))
        self.assertEqual([], self.ear.events)

    def test_yes(self) -> None:
        """A yes makes the connection, and is remembered."""
        self.answer.callback("yes")
        self.successResultOf(self.first)
        self.assertEqual(SRV, self.directory.known_id("chat.example", 12345))

    def test_no(self) -> None:
        """A no drops it, not a byte having been sent."""
        self.answer.callback("no")
        self.failureResultOf(self.first, UntrustedServer)
        transport = self.endpoint.transports[0]
        self.assertEqual((True, b""), (transport.disconnected, transport.value()))
        self.assertIsNone(self.directory.known_id("chat.example", 12345))

    def test_yes_after_the_server_lost_patience(self) -> None:
        """Comparing takes longer than a server waits for a login: the yes counts for the next attempt."""
        self.there.dataReceived(encode(m.Bye(reason="login_timeout", msg="Nobody logged in in time.")))
        self.lose(self.there, ConnectionDone())
        self.failureResultOf(self.first, CannotConnect)
        self.assertIsNone(self.directory.known_id("chat.example", 12345))
        self.answer.callback("yes")
        self.assertEqual(SRV, self.directory.known_id("chat.example", 12345))
        self.assertIsNone(self.link.protocol)

    def test_no_after_the_server_lost_patience(self) -> None:
        """A no that late changes nothing."""
        self.lose(self.there, ConnectionDone())
        self.failureResultOf(self.first, CannotConnect)
        self.answer.callback("no")
        self.assertIsNone(self.directory.known_id("chat.example", 12345))
        self.assertEqual([], self.ear.down)


class BackTests(LinkCase):
    """Tests for a link that was lost."""

    def waits(self, jitter: float, count: int) -> list[float]:
        """How long each of so many attempts in a row waits, none of which connects."""
        self.jitter = lambda: jitter
        self.lose(self.connected())
        for number in itertools.count(2):
            if number > count + 1:
                break
            wait = self.ear.down[-1][1]
            assert wait is not None
            self.clock.advance(wait)
            self.assertEqual(number, len(self.endpoint.attempts))
            self.endpoint.refuse(ConnectionRefusedError())
        return [wait for _, wait in self.ear.down if wait]

    def test_grows(self) -> None:
        """The longest wait doubles with each failure, from a second to half a minute."""
        self.assertEqual([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0], self.waits(1.0, 7))

    def test_jitter(self) -> None:
        """Each wait is anywhere between nothing and the longest, so that clients do not come back together."""
        self.assertEqual([0.25, 0.5, 1.0, 2.0, 4.0, 7.5], self.waits(0.25, 5))

    def test_never_at_once(self) -> None:
        """However the dice fall, there is a moment between two attempts."""
        self.assertEqual([0.1] * 6, self.waits(0.0, 5))

    def test_stays_bounded(self) -> None:
        """A server that is away for a week does not make the wait overflow."""
        self.assertEqual(30.0, max(self.waits(1.0, 1100)))

    def test_told(self) -> None:
        """The loss is told at once, with its reason, then the wait."""
        self.lose(self.connected())
        self.assertEqual([("the connection broke", 0.0), ("the connection broke", 0.5)], self.ear.down)
        self.assertIsNone(self.link.protocol)

    def test_back(self) -> None:
        """The next good connection is told, and its events; the wait starts small the next time."""
        self.lose(self.connected())
        self.clock.advance(0.5)
        self.endpoint.refuse(ConnectionRefusedError())
        self.clock.advance(1.0)
        protocol = self.endpoint.accept()
        self.assertEqual([], self.ear.up)
        live = m.Live(room="general", seq=1)
        protocol.dataReceived(encode(hello()) + encode(live))
        self.assertEqual(([protocol._protocol], [live]), (self.ear.up, self.ear.events))
        self.assertIs(self.link.protocol, protocol._protocol)
        self.lose(protocol)
        self.assertEqual(0.5, self.ear.down[-1][1])

    def test_hurried(self) -> None:
        """Whoever does not want to wait is connected at once, and told that it is tried; waits start small again."""
        self.jitter = lambda: 1.0
        self.lose(self.connected())
        for wait in (1.0, 2.0, 4.0):
            self.clock.advance(wait)
            self.endpoint.refuse(ConnectionRefusedError())
        self.link.hurry()
        self.assertEqual(5, len(self.endpoint.attempts))
        self.assertEqual(("you asked for another connection", 0.0), self.ear.down[-1])
        self.clock.advance(8.0)
        self.assertEqual(5, len(self.endpoint.attempts))
        self.endpoint.refuse(ConnectionRefusedError())
        self.assertEqual(1.0, self.ear.down[-1][1])
        self.link.hurry()
        self.endpoint.accept().dataReceived(encode(hello()))
        self.assertEqual(1, len(self.ear.up))
        self.clock.advance(60.0)
        self.assertEqual(6, len(self.endpoint.attempts))

    def test_hurried_while_up(self) -> None:
        """A connection that is up is left, and another made within a moment."""
        protocol = self.connected()
        self.link.hurry()
        self.assertTrue(protocol.transport.disconnecting)
        self.lose(protocol, ConnectionDone())
        self.assertEqual(("you asked for another connection", 0.0), self.ear.down[0])
        self.clock.advance(1.0)
        self.endpoint.accept().dataReceived(encode(hello()))
        self.assertEqual(1, len(self.ear.up))

    def test_hurried_in_the_middle(self) -> None:
        """An attempt under way gives way to the new one; nothing is hurried after the end."""
        self.lose(self.connected())
        self.clock.advance(0.5)
        early = self.endpoint.accept()
        self.link.hurry()
        self.assertTrue(early.transport.disconnecting)
        self.lose(early, ConnectionDone())
        self.endpoint.accept().dataReceived(encode(hello()))
        self.assertEqual(1, len(self.ear.up))
        self.clock.advance(60.0)
        count = len(self.endpoint.attempts)
        self.link.stop()
        self.link.hurry()
        self.assertEqual(count, len(self.endpoint.attempts))

    def test_accepted_and_dropped(self) -> None:
        """A place that takes connections and drops them ungreeted is left alone for longer and longer, too."""
        self.jitter = lambda: 1.0
        self.lose(self.connected())
        for _ in range(6):
            wait = self.ear.down[-1][1]
            assert wait is not None
            self.clock.advance(wait)
            self.lose(self.endpoint.accept(), ConnectionDone())
        self.assertEqual([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0], [wait for _, wait in self.ear.down if wait])

    def test_another_server(self) -> None:
        """When another server answers at the old address, nothing is sent to it and nothing more is tried."""
        self.lose(self.connected())
        self.directory.remember(HERE.known(OTHER))  # by another client: no matter for this one
        self.clock.advance(0.5)
        self.endpoint.accept().dataReceived(encode(hello(key=signing_key("another server"))))
        transport = self.endpoint.transports[1]
        self.assertEqual((True, b""), (transport.disconnected, transport.value()))
        why, wait = self.ear.down[-1]
        self.assertIn("/trust server", why)
        self.assertIsNone(wait)
        self.clock.pump([1.0] * 60)
        self.assertEqual(2, len(self.endpoint.attempts))

    def test_noted_by_another_client(self) -> None:
        """What another client on this machine notes of the place meanwhile changes nothing for this one."""
        self.lose(self.connected())
        self.directory.remember(HERE.known(OTHER))
        self.clock.advance(0.5)
        self.endpoint.accept().dataReceived(encode(hello()))
        self.assertEqual(1, len(self.ear.up))

    def test_events_only_of_the_present_connection(self) -> None:
        """What an unverified connection says is nobody's business."""
        self.lose(self.connected())
        self.clock.advance(0.5)
        self.endpoint.accept().dataReceived(encode(hello(protocol=2)) + encode(m.Live(room="general", seq=1)))
        self.assertEqual(([], []), (self.ear.up, self.ear.events))

    def test_replaced(self) -> None:
        """A connection that gave way to a newer one of the same device does not come back: they would take turns."""
        for reason in ("replaced", "session_ended"):
            self.setUp()
            protocol = self.connected()
            protocol.dataReceived(encode(m.Bye(reason=reason, msg="Elsewhere.")))
            self.lose(protocol, ConnectionDone())
            self.assertEqual([("Elsewhere.", None)], self.ear.down)
            self.clock.pump([1.0] * 60)
            self.assertEqual(1, len(self.endpoint.attempts))

    def test_news(self) -> None:
        """That a room was deleted is told as news, any other goodbye as a trouble; both come back."""
        for reason, news in (("room_deleted", True), ("shutdown", False)):
            self.setUp()
            protocol = self.connected()
            protocol.dataReceived(encode(m.Bye(reason=reason, msg="So it is.")))
            self.lose(protocol, ConnectionDone())
            self.assertEqual((("So it is.", 0.0), news), (self.ear.down[0], self.ear.news[0]))
            self.clock.advance(0.5)
            self.assertEqual(2, len(self.endpoint.attempts))

    def test_other_goodbyes(self) -> None:
        """After any other goodbye, as of a server that restarts, it comes back."""
        protocol = self.connected()
        protocol.dataReceived(encode(m.Bye(reason="shutdown", msg="The server restarts.")))
        self.lose(protocol, ConnectionDone())
        self.assertEqual(("The server restarts.", 0.5), self.ear.down[-1])
        self.clock.advance(0.5)
        self.assertEqual(2, len(self.endpoint.attempts))

    def test_stopped(self) -> None:
        """A stopped link closes its connection, and is silent afterwards."""
        protocol = self.connected()
        stopped = self.link.stop()
        self.assertTrue(self.endpoint.transports[0].disconnecting)
        self.assertNoResult(stopped)
        self.lose(protocol, ConnectionDone())
        self.successResultOf(stopped)
        self.clock.pump([1.0] * 60)
        self.assertEqual(1, len(self.endpoint.attempts))

    def test_stopped_while_waiting(self) -> None:
        """A link that waits for its next attempt is stopped at once; a second stop is none."""
        self.lose(self.connected())
        self.successResultOf(self.link.stop())
        self.successResultOf(self.link.stop())
        self.clock.pump([1.0] * 60)
        self.assertEqual((1, []), (len(self.endpoint.attempts), self.clock.getDelayedCalls()))
