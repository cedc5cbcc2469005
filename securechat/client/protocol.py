"""`ChatClientProtocol`: one connection to a server, from the client's side. Framing, matching, life signs; no rule."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol

from msgspec import UNSET
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from securechat.crypto.identity import check_hello, server_id
from securechat.errors import CODES, Code, Exit, InvalidKey, ProtocolViolation, Refused, SecureChatError
from securechat.link import BoundedLineReceiver, exporter_of
from securechat.wire import codec, limits
from securechat.wire import messages as m

_HELLO_SECONDS: Final = 10.0
_MAX_LINE_FROM_SERVER: Final = 4 * limits.MAX_LINE  # a page of keys or members may be longer than what a client sends
_ANSWER_SECONDS: Final = 30.0  # a ping without an answer for so long: the server is gone
_UNANSWERED: Final = "the connection was lost before the server answered: look whether it was done, or type it again"
ROOM_DELETED: Final = "room_deleted"  # of `bye.reason`


class LinkLost(SecureChatError):
    """The connection went away; whether a request under way had an effect is unknown."""


class NotTheServer(SecureChatError):
    """What answers is not a SecureChat server, or does not prove the identity it claims."""


class Listener(Protocol):
    """Who hears of a connection."""

    def greeted(self, protocol: ChatClientProtocol) -> None:
        """`hello` was verified: `protocol.hello` and `protocol.srv` are set. Nothing has been sent yet."""

    def event(self, protocol: ChatClientProtocol, event: m.AnyEvent) -> None:
        """Something came that is no reply."""

    def lost(self, protocol: ChatClientProtocol, reason: str) -> None:
        """The connection is gone."""


@implementer(IHandshakeListener)
class ChatClientProtocol(BoundedLineReceiver):
    """A connection that sends nothing before the server has proven who it is.

    Attributes:
        hello: the verified greeting.
        srv: the server's id, from it.
        exporter: `link.exporter_of` the transport.
        impostor: whether what answers failed to prove that it is the server it names.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, listener: Listener, *, tls: bool) -> None:
        super().__init__(clock, _MAX_LINE_FROM_SERVER)
        self._listener = listener
        self._tls = tls
        self._waiting: deque[tuple[int, type[m.Request], Deferred[Any]]] = deque()
        self._next_id = 1
        self._timer: Any = None
        self._heard = 0.0
        self._spoke = 0.0
        self._bye: m.Bye | None = None
        self._refusal = ""
        self.hello: m.Hello | None = None
        self.srv = ""
        self.exporter = b""
        self.impostor = False

    # --- life -------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """TCP is there."""
        self._heard = self._spoke = self.clock.seconds()
        self._timer = self.clock.callLater(_HELLO_SECONDS, self.give_up, "the server did not greet in time")
        if not self._tls:
            self.exporter = b""

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        self.exporter = exporter_of(self.transport)

    def give_up(self, why: str) -> None:
        """Drops the connection at once."""
        self._refusal = why
        self.closing = True
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure | Any = None) -> None:
        """The connection is gone: whoever waits for a reply hears that its outcome is unknown."""
        super().connectionLost(reason)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        why = self._why(reason)
        # News of a room are no reason why something typed was not done, and are told once, by the listener.
        unanswered = _UNANSWERED if self._bye is not None and self._bye.reason == ROOM_DELETED else why
        waiting, self._waiting = self._waiting, deque()
        for _, _, answer in waiting:
            answer.errback(LinkLost(unanswered))
        self._listener.lost(self, why)

    def _why(self, reason: Any) -> str:
        if self._refusal:
            return self._refusal
        if self._bye is not None:
            return self._bye.msg
        if reason is None or reason.check(ConnectionDone):
            return "the server closed the connection"
        if reason.check(ConnectionLost):
            return "the connection broke"
        return str(reason.getErrorMessage() or reason.type.__name__)

    @property
    def bye(self) -> m.Bye | None:
        """The server's last word."""
        return self._bye

    # --- requests ---------------------------------------------------------------------------------------------------

    def request(self, request: m.Request) -> Deferred[Any]:
        """Sends a request, under the next id.

        Returns:
            Fires with the good reply; fails with Refused (the server's code) or LinkLost.
        """
        answer: Deferred[Any] = Deferred()
        if self.closing or self.hello is None or self.transport is None:
            answer.errback(LinkLost("there is no connection"))
            return answer
        number, self._next_id = self._next_id, self._next_id + 1
        self._waiting.append((number, type(request), answer))
        self._spoke = self.clock.seconds()
        self.transport.write(codec.encode(replace(request, id=number)))
        return answer

    # --- lines from the server --------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Any byte is a sign of life."""
        self._heard = self.clock.seconds()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """A reply or an event. Whatever is neither ends the connection."""
        try:
            if self.hello is None:
                self._greet(codec.decode_event(line))
                return
            heading = codec.decode_heading(line)
            if heading.event is None:
                self._answer(heading.id, line)
                return
            event = codec.decode_event(line)
        except ProtocolViolation as violation:
            self.give_up(f"what answers there does not speak SecureChat ({violation})")
            return
        if isinstance(event, m.Bye):
            self._bye = event
        if event is not None:
            self._listener.event(self, event)

    def lineTooLong(self, limit: int) -> None:
        """A server that sends such a line is none."""
        self.give_up("the server sent a line longer than any packet")

    def _greet(self, hello: m.AnyEvent | None) -> None:
        if not isinstance(hello, m.Hello):
            self.give_up("what answers there is not a SecureChat server")
            return
        if hello.protocol != limits.PROTOCOL_VERSION:
            self.give_up(f"the server speaks protocol {hello.protocol}: a newer client is needed")
            return
        try:
            check_hello(hello.lk, hello.sig, exporter=self.exporter, nonce=hello.nonce)
        except InvalidKey:
            self.impostor = True
            self.give_up("the server did not prove its identity on this connection: somebody may be in between")
            return
        self.hello = hello
        self.srv = server_id(hello.lk)
        self._timer.cancel()
        self._timer = self.clock.callLater(limits.PING_SECONDS, self._look_for_life)
        self._listener.greeted(self)

    def _answer(self, number: int | None, line: bytes) -> None:
        if not self._waiting or self._waiting[0][0] != number:
            if number is None:
                # A violation of ours; the server closes next, and its `bye` says the same.
                return
            self.give_up("the server answered what nobody asked")
            return
        _, kind, answer = self._waiting[0]
        reply = codec.decode_reply(line, kind)
        self._waiting.popleft()
        if isinstance(reply, m.Failed):
            answer.errback(refusal_of(reply))
        else:
            answer.callback(reply)

    def _look_for_life(self) -> None:
        now = self.clock.seconds()
        if now - self._heard >= limits.PING_SECONDS + _ANSWER_SECONDS:
            self.give_up("nothing is heard from the server")
            return
        # Either end's silence: the server, too, wants to hear something, however much it has to tell.
        if now - min(self._heard, self._spoke) >= limits.PING_SECONDS:
            self.request(m.Ping()).addErrback(lambda failure: None)  # `lost` says it
        self._timer = self.clock.callLater(limits.PING_SECONDS, self._look_for_life)


_FIELDS: Final = ("retry_after", "expected", "head", "version", "users", "proof")  # of `m.Failed`, beside code and text


class _FromServer(Refused):
    """A refusal as the server worded it."""

    def __init__(self, code: Code, text: str, data: dict[str, Any]) -> None:
        SecureChatError.__init__(self, text)
        self.code = code
        self.data = data


def refusal_of(reply: m.Failed) -> Refused:
    """A refusal as an error; a code this client does not know keeps its text."""
    code = CODES.get(reply.code) or Code(reply.code, reply.msg.replace("{", "(").replace("}", ")"), Exit.FIXABLE)
    data = {name: getattr(reply, name) for name in _FIELDS}
    data = {name: value for name, value in data.items() if value is not UNSET}
    return _FromServer(code, reply.msg, data)
