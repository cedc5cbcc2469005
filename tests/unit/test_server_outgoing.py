"""Tests for bytes out: turns, the write queue, and the two ways to a socket."""

from __future__ import annotations

import contextlib
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from securechat.crypto.certificate import self_signed
from securechat.link import ClientTLS, ServerTLS
from securechat.server.outgoing import SocketWriter, TLSWriter, Turn, WriteQueue, writer_for


class TurnTests(SynchronousTestCase):
    """Tests for `Turn`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.done: list[str] = []

    def test_order(self) -> None:
        """Everything is called once at the end of the turn, in order, also what is asked for by what is called."""
        self.turn.later(lambda: (self.done.append("a"), self.turn.later(lambda: self.done.append("c"))))
        self.turn.later(lambda: self.done.append("b"))
        self.assertEqual([], self.done)
        self.clock.advance(0)
        self.assertEqual(["a", "b", "c"], self.done)
        self.clock.advance(1)
        self.assertEqual(["a", "b", "c"], self.done)
        self.turn.later(lambda: self.done.append("d"))
        self.clock.advance(0)
        self.assertEqual("d", self.done[-1])

    def test_fault(self) -> None:
        """What fails is logged and keeps nothing else from being called."""
        self.turn.later(lambda: 1 / 0)
        self.turn.later(lambda: self.done.append("b"))
        self.clock.advance(0)
        self.assertEqual(["b"], self.done)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class Descriptor(FileDescriptor):
    """A transport on one end of a socket pair, without a reactor: what it holds is never sent by itself."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(Clock())
        self.connected = True
        self.socket = connection
        self.writing = False

    def startWriting(self) -> None:
        """As the reactor is told."""
        self.writing = True

    def stopReading(self) -> None:
        """As the reactor is told."""


class WriterTests(SynchronousTestCase):
    """Tests for the two ways to a socket."""

    def setUp(self) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.transport = Descriptor(self.near)
        self.writer = writer_for(self.transport)

    def held(self) -> bytes:
        """What the transport has yet to send."""
        return self.transport.dataBuffer + b"".join(self.transport._tempDataBuffer)

    def test_at_once(self) -> None:
        """Where the transport holds nothing, the socket gets the bytes at once."""
        self.assertIsInstance(self.writer, SocketWriter)
        self.writer.write(b"hello")
        self.assertEqual((b"hello", False, b""), (self.far.recv(10), self.transport.writing, self.held()))

    def test_full(self) -> None:
        """What the socket does not take goes to the transport, and all that follows waits behind it."""
        data = bytes(range(256)) * 8192
        self.writer.write(data)
        self.assertTrue(self.transport.writing)
        self.writer.write(b"after")
        taken = b""
        while (some := self._some()) is not None:
            taken += some
        self.assertEqual(data + b"after", taken + self.held())
        self.assertTrue(self.held().endswith(b"after"))

    def _some(self) -> bytes | None:
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return None

    def test_held(self) -> None:
        """While the transport holds something, nothing overtakes it."""
        self.transport.write(b"first")
        self.writer.write(b"second")
        self.assertIsNone(self._some())
        self.assertEqual(b"firstsecond", self.held())

    def test_gone(self) -> None:
        """A peer that is gone is for the transport to find out; nothing is raised."""
        self.far.close()
        self.writer.write(b"hello")
        self.assertTrue(self.transport.writing)

    def test_closing(self) -> None:
        """Once the transport closes, or is closed, it alone decides."""
        self.transport.disconnecting = True
        self.writer.write(b"hello")
        self.transport.connected = False
        self.writer.write(b"hello")
        self.assertIsNone(self._some())

    def test_other_transports(self) -> None:
        """Any other transport is written to as always; so is one of a Twisted without what this looks at."""
        other = StringTransport()
        self.assertIs(other, writer_for(other))
        del self.transport._tempDataBuffer
        self.assertIs(self.transport, writer_for(self.transport))


class Pair:
    """A TLS transport of Twisted's on one end of a socket pair, and a client without a socket on the other."""

    def __init__(self, case: SynchronousTestCase, near: socket.socket, far: socket.socket) -> None:
        key, chain = (Path(case.mktemp()) for _ in range(2))
        for path, pem in zip((key, chain), self_signed(["localhost"], datetime.now(UTC)), strict=True):
            path.write_bytes(pem)
        self.clock = Clock()
        wrapped = Factory.forProtocol(Protocol)
        factory = TLSMemoryBIOFactory(ServerTLS(str(key), str(chain)), False, wrapped, self.clock)
        self.transport: Any = factory.buildProtocol(None)
        self.descriptor = Descriptor(near)
        self.transport.makeConnection(self.descriptor)
        self.far = far
        self.client = ClientTLS("localhost").clientConnectionForTLS(None)
        self.client.set_connect_state()

    def shake_hands(self) -> None:
        """Until both ends are content."""
        while not self.transport._handshakeDone:
            with contextlib.suppress(SSL.WantReadError):
                self.client.do_handshake()
            self.transport.dataReceived(self.client.bio_read(1 << 16))
            self.client.bio_write(self.held())
        self.client.do_handshake()

    def held(self) -> bytes:
        """What Twisted holds, taken from it as the reactor would."""
        self.clock.advance(0)
        held = self.descriptor.dataBuffer + b"".join(self.descriptor._tempDataBuffer)
        self.descriptor.dataBuffer, self.descriptor._tempDataBuffer, self.descriptor._tempDataLen = b"", [], 0
        return held

    def arrived(self, *, held: bool = False) -> bytes:
        """What the client reads: of what went to the socket at once, or of what Twisted held."""
        got = b""
        try:
            if data := self.held() if held else self.far.recv(1 << 22):
                self.client.bio_write(data)
            while True:
                got += self.client.recv(1 << 20)
        except (BlockingIOError, SSL.WantReadError):
            return got


class TLSWriterTests(SynchronousTestCase):
    """Tests for the short way through TLS."""

    def setUp(self) -> None:
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            self.addCleanup(end.close)
        self.pair = Pair(self, near, far)
        self.writer = writer_for(self.pair.transport)

    def test_at_once(self) -> None:
        """After the handshake any number of records goes to the socket at once."""
        self.pair.shake_hands()
        self.assertIsInstance(self.writer, TLSWriter)
        for size in (1, 16 * 1024, 16 * 1024 + 1, 100_000):
            self.writer.write(b"x" * size)
            self.assertEqual(b"x" * size, self.pair.arrived(), size)
        self.assertEqual(b"", self.pair.held())

    def test_buffer(self) -> None:
        """However much is written, the connection's own buffer, which never shrinks, holds no more than a record."""
        self.pair.shake_hands()
        taken: list[int] = []
        genuine = self.writer._tls

        class Watched:
            send = genuine.send

            @staticmethod
            def bio_read(size: int) -> bytes:
                taken.append(len(genuine.bio_read(size)))
                return b"x" * taken[-1]

        self.writer._tls = Watched
        self.writer.write(b"x" * 100_000)
        self.assertEqual((7, True), (len(taken), max(taken) < 17_000))

    def test_before_the_handshake(self) -> None:
        """Before it, Twisted keeps it, and it arrives after it."""
        self.writer.write(b"early")
        self.pair.shake_hands()
        self.writer.write(b"late")
        self.assertEqual(b"earlylate", self.pair.arrived())

    def test_held(self) -> None:
        """While Twisted holds something, nothing overtakes it."""
        self.pair.shake_hands()
        self.pair.transport.write(b"first")
        self.writer.write(b"second")
        self.assertEqual(b"", self.pair.arrived())
        self.assertEqual(b"firstsecond", self.pair.arrived(held=True))

    def test_broken(self) -> None:
        """A connection that is broken is for Twisted to find out; nothing is raised."""
        self.pair.shake_hands()
        self.pair.transport._tlsConnection.shutdown()
        self.writer.write(b"hello")
        self.pair.clock.advance(0)
        self.assertTrue(self.pair.transport._lostTLSConnection or self.pair.transport.disconnecting)

    def test_closing(self) -> None:
        """Once it closes, nothing more goes out beside it."""
        self.pair.shake_hands()
        self.pair.transport.loseConnection()
        self.writer.write(b"hello")
        self.assertEqual(b"", self.pair.arrived())


class CountingTransport(StringTransport):
    """Keeps each write apart; may have enough after some."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.full_after: int | None = None

    def write(self, data: bytes) -> None:
        """As ITransport's."""
        self.writes.append(data)
        if self.full_after is not None and len(self.writes) >= self.full_after:
            self.producer.pauseProducing()


class WriteQueueTests(SynchronousTestCase):
    """Tests for `WriteQueue`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.transport = CountingTransport()
        self.overflows: list[int] = []
        self.accounted: list[int] = []
        self.queue = WriteQueue(
            self.transport,
            self.turn,
            limit=10,
            overflow=lambda: self.overflows.append(self.queue.size),
            account=self.accounted.append,
        )

    def test_is_the_producer(self) -> None:
        """It is the transport's streaming producer, by the interface."""
        verifyObject(IPushProducer, self.queue)
        self.assertEqual((self.queue, True), (self.transport.producer, self.transport.streaming))

    def test_joins_one_turn(self) -> None:
        """What is put in one turn of the reactor is one write, in order; nothing is written before."""
        self.queue.put(b"ab")
        self.queue.put(b"c")
        self.assertEqual([], self.transport.writes)
        self.clock.advance(0)
        self.queue.put(b"d")
        self.clock.advance(0)
        self.assertEqual([b"abc", b"d"], self.transport.writes)

    def test_pause_and_resume(self) -> None:
        """While the transport has enough, everything waits; then it goes at once, as one write."""
        self.queue.pauseProducing()
        self.queue.put(b"a")
        self.clock.advance(0)
        self.queue.put(b"b")
        self.clock.advance(0)
        self.assertEqual([], self.transport.writes)
        self.queue.resumeProducing()
        self.assertEqual([b"ab"], self.transport.writes)
        self.queue.put(b"c")
        self.clock.advance(0)
        self.assertEqual([b"ab", b"c"], self.transport.writes)

    def test_paused_after_it_was_put(self) -> None:
        """A pause between putting and writing holds."""
        self.queue.put(b"a")
        self.queue.pauseProducing()
        self.clock.advance(0)
        self.assertEqual([], self.transport.writes)
        self.queue.resumeProducing()
        self.assertEqual([b"a"], self.transport.writes)

    def test_size(self) -> None:
        """It knows how much waits, and tells every change of what waits for a slow peer."""
        self.queue.put(b"abc")
        self.assertEqual((3, []), (self.queue.size, self.accounted))
        self.queue.pauseProducing()
        self.queue.put(b"de")
        self.assertEqual((5, [3, 2]), (self.queue.size, self.accounted))
        self.queue.resumeProducing()
        self.assertEqual((0, [3, 2, -5]), (self.queue.size, self.accounted))

    def test_much_in_one_turn(self) -> None:
        """Much is not kept until the end of the turn, and is no overflow where the peer reads."""
        for _ in range(3):
            self.queue.put(b"x" * 200 * 1024)
        self.assertEqual([400 * 1024], [len(data) for data in self.transport.writes])
        self.clock.advance(0)
        self.assertEqual(([400 * 1024, 200 * 1024], []), ([len(d) for d in self.transport.writes], self.overflows))

    def test_overflow(self) -> None:
        """More than the limit is told once, in a later turn; then nothing is queued or written any more."""
        self.queue.pauseProducing()
        self.queue.put(b"x" * 10)
        self.clock.advance(0)
        self.assertEqual([], self.overflows)
        self.queue.put(b"x")
        self.assertEqual([], self.overflows)
        for _ in range(3):
            self.queue.put(b"y" * 20)
        self.clock.advance(0)
        self.assertEqual([0], self.overflows)
        self.queue.resumeProducing()
        self.clock.advance(0)
        self.assertEqual([], self.transport.writes)
        self.assertEqual((0, 0), (self.queue.size, sum(self.accounted)))

    def test_drained(self) -> None:
        """It says when what was queued has been taken, not before; at once where nothing waits."""
        self.successResultOf(self.queue.drained())
        self.queue.put(b"a")
        done = self.queue.drained()
        self.assertNoResult(done)
        self.clock.advance(0)
        self.successResultOf(done)

    def test_drained_while_paused(self) -> None:
        """As long as the transport has enough, nothing is drained, even where nothing waits here."""
        self.transport.full_after = 1
        self.queue.put(b"a")
        first = self.queue.drained()
        self.clock.advance(0)
        second = self.queue.drained()
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.queue.resumeProducing()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_drained_may_put(self) -> None:
        """Who waited for that may put more at once, and wait again."""
        self.queue.put(b"a")
        again: list[Any] = []

        def more(_: object) -> None:
            self.queue.put(b"b")
            again.append(self.queue.drained())

        self.queue.drained().addCallback(more)
        self.clock.advance(0)
        self.successResultOf(again[0])
        self.assertEqual([b"a", b"b"], self.transport.writes)

    def test_finish(self) -> None:
        """At the end everything is handed over, paused or not, and the transport has no producer any more."""
        self.queue.pauseProducing()
        self.queue.put(b"a")
        done = self.queue.drained()
        self.queue.finish()
        self.assertEqual([b"a"], self.transport.writes)
        self.assertIs(None, self.transport.producer)
        self.successResultOf(done)
        self.queue.put(b"b")
        self.queue.finish()
        self.clock.advance(0)
        self.assertEqual([b"a"], self.transport.writes)

    def test_close(self) -> None:
        """For a connection that is lost it forgets what waits, and keeps nobody waiting."""
        self.queue.put(b"a")
        done = self.queue.drained()
        self.queue.close()
        self.successResultOf(done)
        self.successResultOf(self.queue.drained())
        self.assertEqual(0, self.queue.size)
        self.queue.put(b"b")
        self.queue.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(([], 0), (self.transport.writes, sum(self.accounted)))

    def test_close_while_paused(self) -> None:
        """So it does where the transport had enough."""
        self.queue.pauseProducing()
        self.queue.put(b"a")
        done = self.queue.drained()
        self.queue.close()
        self.successResultOf(done)
        self.successResultOf(self.queue.drained())

    def test_one_turn_at_a_time(self) -> None:
        """However much is put in a turn, one call of the reactor's is asked for; while paused, none."""
        for _ in range(5):
            self.queue.put(b"a")
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.clock.advance(0)
        self.assertEqual([b"aaaaa"], self.transport.writes)
        self.queue.pauseProducing()
        self.queue.put(b"a")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_producing(self) -> None:
        """A transport that takes nothing ever more ends it as well."""
        self.queue.put(b"a")
        self.queue.stopProducing()
        self.clock.advance(0)
        self.assertEqual(([], 0), (self.transport.writes, self.queue.size))
