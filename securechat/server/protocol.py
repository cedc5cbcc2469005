"""`ChatServerProtocol` and its factory: framing, order, timers and limits of one connection. No rule of chat."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from securechat.chat.buckets import TokenBucket
from securechat.errors import EMPTY_LINE, LINE_TOO_LONG, ProtocolViolation, Refused
from securechat.link import BoundedLineReceiver, bucket_of, exporter_of
from securechat.server.connections import ADDRESS_UNKNOWN, SharedLimits
from securechat.server.outgoing import WriteQueue
from securechat.server.session import Registration, ServerSession, SessionParts, State
from securechat.wire import codec, limits
from securechat.wire import messages as m


class _Answer:
    """The place of one reply among those of pipelined sends."""

    __slots__ = ("line",)

    def __init__(self) -> None:
        self.line: bytes | None = None

    def take(self, line: bytes) -> None:
        """The reply is known."""
        self.line = line


@implementer(IHandshakeListener)
class ChatServerProtocol(BoundedLineReceiver):
    """One connection: lines in, dispatched one at a time and sends pipelined; bytes out, joined and bounded."""

    log = Logger()

    def __init__(self, factory: ChatServerFactory) -> None:
        super().__init__(factory.clock, limits.MAX_LINE_REGISTER)
        self.factory: ChatServerFactory = factory
        self.address = ADDRESS_UNKNOWN
        self.registration = factory.registration
        self.exporter = b""
        self.session: ServerSession | None = None
        self._out: WriteQueue | None = None
        self._timer: Any = None
        self._heard = 0.0
        # Lists, though taken from at the front: they are short, and an empty deque is ten times as big.
        self._pending: list[tuple[m.AnyRequest | Refused, int]] = []
        self._pending_bytes = 0
        self._busy = False
        self._pumping = False
        self._sending: list[_Answer] = []
        self._message_rate: TokenBucket | None = None  # until the first one: most connections only read
        self._request_rate = TokenBucket(limits.REQUESTS_PER_SECOND, limits.REQUEST_BURST, factory.clock.seconds())
        self._slowed: Any = None

    # --- life -------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """TCP is there; TLS, if any, is not yet. The time until a login starts to run."""
        if not self.factory.proxied:
            self.address = self._peer()
        if not self.factory.arrived(self):
            self.closing = True
            self.transport.abortConnection()
            return
        if hasattr(self.transport, "setTcpNoDelay"):
            # Lines are joined here already. Else the second write waits for the first one's receipt, 40 ms.
            self.transport.setTcpNoDelay(True)
        self._heard = self.clock.seconds()
        self._timer = self.clock.callLater(self.factory.limits.auth_seconds, self._not_logged_in_yet)
        if not self.factory.tls:
            self._greet()

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        self._greet()

    def _peer(self) -> str:
        return bucket_of(getattr(self.transport.getPeer(), "host", ADDRESS_UNKNOWN))

    def _greet(self) -> None:
        if self.closing:
            return
        if self.factory.proxied and not self.factory.comes_from(self, self._peer()):
            self.closing = True
            self.transport.abortConnection()
            return
        self.exporter = exporter_of(self.transport)
        settings = self.factory.limits
        self._out = WriteQueue(
            self.transport,
            self.factory.shared.turn,
            limit=settings.send_queue,
            overflow=self.cut,
            account=self.factory.account,
        )
        self.session = ServerSession(self.factory.parts, self)
        self._out.put(self.session.hello())

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone; what is stored stays stored."""
        super().connectionLost(reason)
        for call in (self._timer, self._slowed):
            if call is not None and call.active():
                call.cancel()
        self._pending.clear()
        if self._out is not None:
            self._out.close()
        if self.session is not None:
            self.session.connection_lost()
        self.factory.left(self)

    # --- timers -----------------------------------------------------------------------------------------------------

    def _not_logged_in_yet(self) -> None:
        if self.session is not None and self.session.password_check:
            # The wait is ours, not the peer's.
            self._timer = self.clock.callLater(self.factory.limits.auth_seconds, self._not_logged_in_yet)
        elif self.session is None:
            self.closing = True
            self.transport.abortConnection()
        else:
            self.say_bye(m.Bye(reason="login_timeout", msg="Nobody logged in on this connection in time."))

    def _look_for_life(self) -> None:
        if self._held:  # it is we who do not read
            self._heard = self.clock.seconds()
        silent = self.clock.seconds() - self._heard
        allowed = self.factory.limits.silence_seconds
        if silent >= allowed:
            self.say_bye(m.Bye(reason="silence", msg="Nothing was heard from this client for too long."))
        else:
            self._timer = self.clock.callLater(allowed - silent, self._look_for_life)

    def cut(self) -> None:
        """The peer does not read; it catches up with `sync` when it comes back. Nothing more can be told to it."""
        self.log.info("{address} reads too slowly: closed", address=self.address)
        self.closing = True
        if self._out is not None:
            self._out.close()
        if self.transport is not None:
            self.transport.abortConnection()

    @property
    def slow(self) -> bool:
        """Whether the peer has not yet read all that is its own."""
        return self._out is None or self._out.paused

    @property
    def waiting(self) -> int:
        """Bytes that wait since the peer reads too slowly."""
        return 0 if self._out is None else self._out.waiting

    # --- lines in, in order -----------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Any byte is a sign of life."""
        self._heard = self.clock.seconds()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """One request; it waits for those before it."""
        if self.session is None:
            return
        if not line:
            self._refuse_last(ProtocolViolation(EMPTY_LINE))
            return
        request = self._decode(line)
        greeted = self.session.state is State.GREETED
        if greeted and len(line) > limits.MAX_LINE_GREETED and not isinstance(request, m.Register):
            self.lineTooLong(limits.MAX_LINE_GREETED)
            return
        self._pending.append((request, len(line)))
        self._pending_bytes += len(line)
        self._pump()
        if self._pending_bytes > limits.PAUSE_READING:
            self.hold("pending")

    @staticmethod
    def _decode(line: bytes) -> m.AnyRequest | Refused:
        try:
            return codec.decode_request(line)
        except Refused as refusal:
            return refusal

    def lineTooLong(self, limit: int) -> None:
        """Answers before it closes."""
        self._refuse_last(ProtocolViolation(LINE_TOO_LONG, limit=limit))

    def _refuse_last(self, violation: ProtocolViolation) -> None:
        """A violation: what came before it is still answered first, nothing after it is looked at."""
        self._pending.append((violation, 0))
        self.closing = True
        self._pump()

    def _pump(self) -> None:
        """Starts what may start: one request at a time, but for sends, which await their commit together."""
        if self._pumping:
            return  # what is answered at once calls this again, and the loop below goes on by itself
        self._pumping = True
        try:
            self._start_some()
        finally:
            self._pumping = False

    def _start_some(self) -> None:
        session = self.session
        while self._pending and session is not None and not (session.gone or self._busy or self._slowed):
            request, size = self._pending[0]
            pipelined, beside = isinstance(request, m.Send), isinstance(request, m.Typing)
            if self._sending and not (beside or (pipelined and len(self._sending) < limits.PENDING_SENDS)):
                return
            if self._slow_down(request):
                return
            del self._pending[0]
            self._pending_bytes -= size
            if isinstance(request, Refused):
                session.refuse(request.data.get("id"), request)
            elif pipelined:
                answer = _Answer()
                self._sending.append(answer)
                Deferred.fromCoroutine(session.handle(request, answer.take)).addBoth(self._sent)
            elif beside:  # no message waits for what is worth so little
                Deferred.fromCoroutine(session.handle(request))
            else:
                self._busy = True
                Deferred.fromCoroutine(session.handle(request)).addBoth(self._answered)
        if session is not None and session.gone:
            self._pending.clear()  # nothing more is done for a connection that was ended
            self._pending_bytes = 0
        if self._pending_bytes <= limits.PAUSE_READING:
            self.let_go("pending")

    def _slow_down(self, request: m.AnyRequest | Refused) -> bool:
        """Whether requests come too fast: then they are not dispatched for a while, and so not read either."""
        now, rate = self.clock.seconds(), self._request_rate
        if isinstance(request, (m.Send, m.Pm)):
            if self._message_rate is None:
                settings = self.factory.limits
                self._message_rate = TokenBucket(settings.messages_per_second, settings.message_burst, now)
            rate = self._message_rate
        wait = rate.take(now)
        if wait:
            self._slowed = self.clock.callLater(wait, self._go_on)
        return bool(wait)

    def _go_on(self) -> None:
        self._slowed = None
        self._pump()

    def _answered(self, result: Any) -> None:
        self._busy = False
        self._pump()

    def _sent(self, result: Any) -> None:
        self._hand_out()
        self._pump()

    def _hand_out(self) -> None:
        """Delivers the replies of sends in the order of the sends, whichever was known first."""
        while self._sending and self._sending[0].line is not None:
            self.deliver(self._sending.pop(0).line or b"")

    # --- what the session needs (session.Peer) ----------------------------------------------------------------------

    def deliver(self, lines: bytes) -> None:
        """Queues lines to be written."""
        if self._out is not None:
            self._out.put(lines)

    def drained(self) -> Awaitable[None]:
        """Done when what was queued has left."""
        if self._out is None:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        return self._out.drained()

    def say_bye(self, bye: m.Bye) -> None:
        """Says why, then closes; what has been answered comes before it."""
        self._hand_out()
        if self._out is not None:
            self._out.put(codec.encode(bye))
        self.hang_up()

    def stop_reading(self) -> None:
        """Takes no more lines; those taken are still answered."""
        self.closing = True

    def hang_up(self) -> None:
        """As the base, also after a violation has set `closing`."""
        if self._out is not None:
            self._out.finish()
        self.closing = False
        super().hang_up()

    def logged_in(self, yes: bool) -> None:
        """Other limits and another timer from now on."""
        self.received.limit = limits.MAX_LINE if yes else limits.MAX_LINE_REGISTER
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self.closing:
            settings = self.factory.limits
            wait, check = (
                (settings.silence_seconds, self._look_for_life)
                if yes
                else (settings.auth_seconds, self._not_logged_in_yet)
            )
            self._timer = self.clock.callLater(wait, check)

    @property
    def idle(self) -> bool:
        """Whether everything that was asked has been answered."""
        return not self._busy and not self._sending and not self._pending


class ChatServerFactory(Factory):
    """Makes the protocol of each connection of one listener.

    Args:
        tls: whether connections greet after a TLS handshake.
        registration: who may make an account through this listener.
        proxied: whether a proxy tells where a connection comes from, in what it says before TLS.
    """

    noisy = False

    def __init__(
        self,
        parts: SessionParts,
        shared: SharedLimits,
        clock: IReactorTime,
        *,
        tls: bool,
        registration: Registration,
        proxied: bool = False,
    ) -> None:
        self.parts = parts
        self.proxied = proxied
        self.shared = shared
        self.limits = shared.each
        self.clock = clock
        self.tls = tls
        self.registration = registration

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """For Twisted."""
        return ChatServerProtocol(self)

    def arrived(self, protocol: ChatServerProtocol) -> bool:
        """Counts a connection in; False if its address, or all together, have too many."""
        return self.shared.arrived(protocol, self.clock.seconds())

    def comes_from(self, protocol: ChatServerProtocol, address: str) -> bool:
        """A proxy has told where a connection comes from; False if there are too many from there."""
        self.shared.left(protocol)
        protocol.address = address
        return self.shared.arrived(protocol, self.clock.seconds())

    def left(self, protocol: ChatServerProtocol) -> None:
        """Counts a connection out."""
        self.shared.left(protocol)

    def account(self, change: int) -> None:
        """A send queue grew or shrank."""
        self.shared.queued += change
        if change > 0 and self.shared.queued > self.limits.send_queue_all:
            self.shared.close_fullest()
