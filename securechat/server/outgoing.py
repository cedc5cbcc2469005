"""Bytes out: joined into one write a reactor turn, bounded, and handed to the socket by the shortest way."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport
from zope.interface import implementer

from securechat.link import TLSError

_HELD: Final = 256 * 1024  # bytes that wait for the end of the turn at most
_RECORD: Final = 16 * 1024  # bytes of a TLS record
_RECORD_ROOM: Final = 2 * _RECORD  # for one of them, encrypted, and any other that waits


class Turn:
    """What is to be done once at the end of this reactor turn, whatever happens more in it."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._calls: list[Callable[[], None]] = []

    def later(self, call: Callable[[], None]) -> None:
        """Calls something at the end of the turn, in the order of these calls; also what is asked for meanwhile."""
        self._calls.append(call)
        if len(self._calls) == 1:
            self._clock.callLater(0, self._run)

    def _run(self) -> None:
        for call in self._calls:  # which may grow
            try:
                call()
            except Exception:  # one connection's trouble is not the others'
                self.log.failure("A call at the end of a turn failed.")
        self._calls = []


class Writer(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> object:
        """Writes all of it, now or later; never blocks, never raises."""


class SocketWriter:
    """Writes to a TCP transport's socket at once while the transport itself holds nothing.

    `transport.write` leaves the sending to the next turn and tells the poller twice, two system calls more. This halves
    the server's time a delivery in rooms of ten (docs/performance.md) and changes nothing in big ones. It looks at
    attributes of Twisted's `FileDescriptor` that are not public; `writer_for` gives the transport itself where they
    are not there.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._socket: socket.socket = transport.socket

    def write(self, data: bytes) -> None:
        """As Writer's."""
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting or not transport.connected:
            transport.write(data)
            return
        try:
            sent = self._socket.send(data)
        except OSError:  # full, or gone: the transport finds out which
            sent = 0
        if sent < len(data):
            transport.write(data[sent:])


class TLSWriter:
    """Encrypts all of it, then writes once, while Twisted's TLS holds nothing.

    Twisted hands each record of 16 KiB to the transport by itself, after waiting for the end of the turn once more
    (docs/performance.md has what this saves). As `SocketWriter`, it looks at what is not public.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._tls = transport._tlsConnection
        self._out = SocketWriter(transport.transport)

    def write(self, data: bytes) -> None:
        """As Writer's."""
        transport = self._transport
        if (
            transport._appSendBuffer
            or transport._aggregator._buffer
            or transport._lostTLSConnection
            or transport.disconnecting
            or not transport._handshakeDone
        ):
            transport.write(data)
            return
        sent, records = 0, []
        # Where it waits for the peer, or is broken, the transport finds out which.
        with contextlib.suppress(TLSError), memoryview(data) as view:
            while sent < len(data):
                # Taken out one by one: the buffer of a connection never shrinks again.
                sent += self._tls.send(view[sent : sent + _RECORD])
                records.append(self._tls.bio_read(_RECORD_ROOM))
        if records:
            self._out.write(records[0] if len(records) == 1 else b"".join(records))
        if sent < len(data):
            transport.write(data[sent:])


_TCP_PARTS: Final = ("dataBuffer", "_tempDataBuffer", "disconnecting", "connected", "socket")
_TLS_PARTS: Final = ("_appSendBuffer", "_aggregator", "_lostTLSConnection", "disconnecting", "_handshakeDone")


def writer_for(transport: Any) -> Writer:
    """The quickest writer for a transport; the transport itself where Twisted's insides are not as they were."""
    if _is(transport, FileDescriptor, _TCP_PARTS):
        return SocketWriter(transport)
    if (
        _is(transport, BufferingTLSTransport, _TLS_PARTS)
        and hasattr(transport._aggregator, "_buffer")
        and _is(transport.transport, FileDescriptor, _TCP_PARTS)
    ):
        return TLSWriter(transport)
    writer: Writer = transport
    return writer


def _is(transport: Any, kind: type, parts: Iterable[str]) -> bool:
    return isinstance(transport, kind) and all(hasattr(transport, part) for part in parts)


@implementer(IPushProducer)
class WriteQueue:
    """What is to be written to one connection.

    It registers itself as the transport's producer, so that the transport says when the peer reads too slowly. (The
    protocol itself cannot be the producer: its `pauseProducing` means "stop reading".)

    Args:
        limit: bytes that may wait here for a slow peer.
        overflow: called once when more would wait; nothing more is queued then.
        account: told of every change of the number of bytes that wait for a slow peer.
    """

    __slots__ = (
        "_account", "_accounted", "_chunks", "_closed", "_due", "_limit", "_overflow", "_paused", "_transport", "_turn",
        "_waiters", "_writer", "size",
    )  # fmt: skip

    def __init__(
        self,
        transport: Any,
        turn: Turn,
        *,
        limit: int,
        overflow: Callable[[], None],
        account: Callable[[int], None] = lambda change: None,
    ) -> None:
        self._transport = transport
        self._writer = writer_for(transport)
        self._turn = turn
        self._limit = limit
        self._overflow = overflow
        self._account = account
        self._accounted = 0
        self._chunks: list[bytes] = []
        self._due = False
        self._paused = False
        self._closed = False
        self._waiters: tuple[Deferred[None], ...] = ()
        self.size = 0
        transport.registerProducer(self, True)

    def put(self, data: bytes) -> None:
        """Queues bytes. Never blocks and never raises; after `close` it does nothing."""
        if self._closed:
            return
        self._chunks.append(data)
        self.size += len(data)
        if self._paused:
            self._tell()
            if self.size > self._limit:
                self.close()
                # Later: the caller may be in the middle of a walk over readers that this ends.
                self._turn.later(self._overflow)
        elif self.size > _HELD:
            self.flush()
        elif not self._due:
            self._due = True
            self._turn.later(self._at_end_of_turn)

    @property
    def paused(self) -> bool:
        """Whether the peer reads too slowly, or nothing can be written any more."""
        return self._paused or self._closed

    @property
    def waiting(self) -> int:
        """Bytes that wait for a slow peer, as `account` was told."""
        return self._accounted

    def _tell(self) -> None:
        """What waits for a slow peer has changed."""
        now = self.size if self._paused else 0
        if now != self._accounted:
            change, self._accounted = now - self._accounted, now
            self._account(change)

    def _at_end_of_turn(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Hands what waits to the transport, unless that is full."""
        if self._paused:
            return
        if self._chunks and not self._closed:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            self.size = 0
            self._tell()
            self._writer.write(data)
        if self._waiters and not self._paused:
            self._release()

    def _release(self) -> None:
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            waiter.callback(None)

    def drained(self) -> Deferred[None]:
        """Fires when everything queued so far was taken by the transport (or the connection is gone)."""
        done: Deferred[None] = Deferred()
        if self._closed or (not self._chunks and not self._paused):
            done.callback(None)
        else:
            self._waiters += (done,)
        return done

    def finish(self) -> None:
        """Hands everything over and steps aside: a TLS transport closes only once it has no producer."""
        if not self._closed:
            self._paused = False
            self.flush()
            self.close()
            self._transport.unregisterProducer()

    def close(self) -> None:
        """Forgets what waits; for a connection that is lost."""
        self._closed = True
        self._chunks.clear()
        self.size = 0
        self._tell()
        self._release()

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._paused = True
        self._tell()

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        """The transport takes nothing ever more."""
        self.close()
