"""`ServerSession`: one connection's conversation with the server, without a transport.

What a client may ask, and when, is the table `RULES`; the handlers stand in `accounts`, `rooms`, `talk` and `notes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

from twisted.logger import Logger

from securechat.chat.broker import RoomBroker
from securechat.crypto.identity import hello_signature, server_id
from securechat.crypto.primitives import SigningKey, ed25519_public
from securechat.errors import (
    ALREADY_LOGGED_IN,
    BAD_SESSION,
    DEVICE_FIRST,
    INTERNAL,
    LOGIN_FIRST,
    ProtocolViolation,
    Refused,
)
from securechat.server import accounts, notes, rooms, talk
from securechat.server.checks import Admission, PasswordChecks
from securechat.storage.interface import ChatStore
from securechat.wire import codec, limits
from securechat.wire import messages as m


class State(Enum):
    """Where a connection stands."""

    GREETED = "greeted"
    NO_DEVICE = "logged in, without a device"
    READY = "logged in"


class ServerIdentity:
    """The server's own key, LK, and what follows from it."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.lk = ed25519_public(key)
        self.srv = server_id(self.lk)

    def prove(self, exporter: bytes, nonce: bytes) -> bytes:
        """The signature of `hello`."""
        return hello_signature(self._key, exporter=exporter, nonce=nonce)


class Registration(Enum):
    """Who may make an account on a listener."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"


class Peer(Protocol):
    """The connection as its session sees it.

    Attributes:
        address: where it comes from, for buckets.
        registration: what its listener allows.
        exporter: `link.exporter_of` its transport.
    """

    address: str
    registration: Registration
    exporter: bytes

    def deliver(self, lines: bytes) -> None:
        """Queues lines to be written, each with its newline; never blocks, never raises."""

    def drained(self) -> Awaitable[None]:
        """Done when what was queued has left."""

    @property
    def slow(self) -> bool:
        """Whether the peer has not yet read all that is its own."""

    def say_bye(self, bye: m.Bye) -> None:
        """Says why, then closes."""

    def logged_in(self, yes: bool) -> None:
        """The session is past its login, or back before it."""


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What a session uses.

    Attributes:
        now: seconds since 1970.
        monotonic: seconds of a clock that never goes back, for buckets.
        random: bytes nobody can guess.
    """

    store: ChatStore
    broker: RoomBroker
    passwords: PasswordChecks
    admission: Admission
    identity: ServerIdentity
    logins: Logins
    now: Callable[[], float]
    monotonic: Callable[[], float]
    random: Callable[[int], bytes]
    version: str
    limits: m.Limits = field(default_factory=m.Limits)


class Logins:
    """Who is logged in by which connections, so that a login can be ended from elsewhere."""

    def __init__(self) -> None:
        self._by_user: dict[str, tuple[ServerSession, ...]] = {}  # nearly all have one
        self._shut_out: set[str] = set()
        self._ends = 0  # how often logins were ended from elsewhere
        self._ended: dict[str, int] = {}  # by user, which of these was the last

    def shut_out(self, user: str) -> bool:
        """From now on no connection becomes this user's; False if that was so.

        The database says so too; this is for those who are logging in by what it said a moment ago.
        """
        before = len(self._shut_out)
        self._shut_out.add(user)
        return len(self._shut_out) > before

    def let_in(self, user: str) -> None:
        """Ends `shut_out`."""
        self._shut_out.discard(user)

    def mark(self) -> int:
        """Now, for `admits`: taken before anything is looked up that a login rests on."""
        return self._ends

    def end_earlier(self, user: str) -> None:
        """Whoever is logging in as this user by what holds no more must begin anew."""
        self._ends += 1
        self._ended[user] = self._ends

    def admits(self, user: str, mark: int | None = None) -> bool:
        """Whether a connection that began to log in at `mark`, or just now, may become this user's."""
        return user not in self._shut_out and (mark is None or self._ended.get(user, 0) <= mark)

    def add(self, session: ServerSession) -> None:
        """A session is logged in; an older one of the same device gives way to it."""
        for other in self.of(session.user):
            if other is not session and other.device is not None and other.device == session.device:
                other.end("replaced", "This device connected again from elsewhere; this connection gives way to it.")
        self._by_user[session.user] = (*self._others(session), session)

    def remove(self, session: ServerSession) -> None:
        """A session is not logged in any more."""
        others = self._others(session)
        if others:
            self._by_user[session.user] = others
        else:
            self._by_user.pop(session.user, None)

    def __len__(self) -> int:
        return sum(map(len, self._by_user.values()))

    def _others(self, session: ServerSession) -> tuple[ServerSession, ...]:
        return tuple(other for other in self._by_user.get(session.user, ()) if other is not session)

    def of(self, user: str) -> list[ServerSession]:
        """The sessions of a user."""
        return list(self._by_user.get(user, ()))

    def end_others(self, session: ServerSession, msg: str) -> None:
        """Ends a user's other sessions, also those that are about to begin."""
        self.end_earlier(session.user)
        for other in self.of(session.user):
            if other is not session:
                other.end("session_ended", msg)


class ServerSession:
    """One connection's state, and how it answers. It is also the broker's `Reader`.

    Attributes:
        nonce: of this connection's `hello`.
        user, device, token_hash: set by a login; "" and None before.
        password_check: while a password is being checked, the unauthenticated timer stands still.
        gone: the connection is over, or about to be. Requests under way end under the name they began with.
    """

    __slots__ = (
        "connected", "device", "gone", "nonce", "parts", "password_check", "peer", "state", "token_hash", "user",
    )  # fmt: skip
    log = Logger()

    def __init__(self, parts: SessionParts, peer: Peer) -> None:
        self.parts = parts
        self.peer = peer
        self.state = State.GREETED
        self.nonce = parts.random(32)
        self.user = ""
        self.device: str | None = None
        self.token_hash = b""
        self.connected = False
        self.password_check = False
        self.gone = False

    # --- the broker's reader ----------------------------------------------------------------------------------------

    def deliver(self, lines: bytes) -> None:
        """As the peer's."""
        self.peer.deliver(lines)

    @property
    def slow(self) -> bool:
        """As the peer's."""
        return self.peer.slow

    # --- life -------------------------------------------------------------------------------------------------------

    def hello(self) -> bytes:
        """The greeting, as a line."""
        parts = self.parts
        return codec.encode(
            m.Hello(
                protocol=limits.PROTOCOL_VERSION,
                server=f"SecureChat/{parts.version}",
                lk=parts.identity.lk,
                nonce=self.nonce,
                sig=parts.identity.prove(self.peer.exporter, self.nonce),
                epoch=parts.store.epoch,
                registration=self.peer.registration.value,
                limits=parts.limits,
            )
        )

    def log_in(self, user: str, device: str | None, token_hash: bytes, mark: int | None = None) -> None:
        """The connection is this account's from now on, unless it is over already.

        Args:
            mark: of `Logins`, from before anything was looked up that this rests on.

        Raises:
            Refused: `bad_session`: it does not hold any more.
        """
        if self.gone:
            return
        if not self.parts.logins.admits(user, mark):
            raise Refused(BAD_SESSION)
        self.user, self.device, self.token_hash = user, device, token_hash
        self.state = State.NO_DEVICE if device is None else State.READY
        self.parts.logins.add(self)
        self.peer.logged_in(True)

    def log_out(self) -> None:
        """Back to before the login; also for a connection that is lost."""
        if self.state is State.GREETED:
            return
        self.parts.logins.remove(self)
        if self.connected:
            self.connected = False
            rooms.went_offline(self)
        self.state = State.GREETED
        if not self.gone:
            self.user, self.device, self.token_hash = "", None, b""
        self.peer.logged_in(False)

    def end(self, reason: str, msg: str) -> None:
        """Ends the connection from the server's side."""
        self.gone = True
        self.log_out()
        self.peer.say_bye(m.Bye(reason=reason, msg=msg))

    def connection_lost(self) -> None:
        """The transport is gone."""
        self.gone = True
        self.log_out()

    # --- requests ---------------------------------------------------------------------------------------------------

    async def handle(self, request: m.AnyRequest, answer: Callable[[bytes], None] | None = None) -> None:
        """Answers one request, exactly once; never raises.

        For a `send` everything up to the store's queue happens at once, so that pipelined ones keep their order.

        Args:
            answer: takes the reply; None: it is delivered at once.
        """
        reply_to = self.peer.deliver if answer is None else answer
        try:
            handler = self._rule(type(request))
            reply = await handler(self, request)
        except Refused as refusal:
            reply_to(codec.encode_refusal(request.id, refusal))
        except Exception:  # a fault of ours must not take the daemon down, nor show its insides
            self.log.failure("{command} failed", command=m.command_of(type(request)))
            reply_to(codec.internal_error(request.id, INTERNAL))
            self.end("internal", INTERNAL.text)
        else:
            if reply is not None:
                reply_to(reply if isinstance(reply, bytes) else codec.encode(reply))

    def refuse(self, request_id: Any, refusal: Refused) -> None:
        """Answers an error; closes after a violation."""
        self.peer.deliver(codec.encode_refusal(request_id, refusal))
        if isinstance(refusal, ProtocolViolation):
            self.log.info("{address}: {code}", address=self.peer.address, code=refusal.code.name)
            self.end(refusal.code.name, str(refusal))

    def _rule(self, request: type[m.Request]) -> Handler:
        states, handler = RULES[request]
        if self.state not in states:
            if self.state is State.GREETED:
                raise Refused(LOGIN_FIRST)
            raise Refused(ALREADY_LOGGED_IN if State.GREETED in states else DEVICE_FIRST)
        return handler

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.parts.now() * 1000)


# Answers a packet, a line already encoded, or nothing where it has delivered its reply itself.
Handler = Callable[[ServerSession, Any], Awaitable[m.Reply | bytes | None]]

_BEFORE: Final = frozenset({State.GREETED})
_ACCOUNT: Final = frozenset({State.NO_DEVICE, State.READY})
_READY: Final = frozenset({State.READY})
_ALWAYS: Final = frozenset(State)

RULES: Final[dict[type[m.Request], tuple[frozenset[State], Handler]]] = {
    m.Prelogin: (_BEFORE, accounts.prelogin),
    m.Register: (_BEFORE, accounts.register),
    m.Login: (_BEFORE, accounts.login),
    m.Resume: (_BEFORE, accounts.resume),
    m.Logout: (_ACCOUNT, accounts.logout),
    m.Passwd: (_READY, accounts.passwd),
    m.Publish: (_ACCOUNT, accounts.publish),
    m.ResetIdentity: (_ACCOUNT, accounts.reset_identity),
    m.Keys: (_ACCOUNT, accounts.keys),
    m.BackupRequest: (_ACCOUNT, accounts.backup),
    m.DoAct: (_READY, rooms.act),
    m.RoomLog: (_READY, rooms.roomlog),
    m.Extend: (_READY, rooms.extend),
    m.Audience: (_READY, talk.audience),
    m.Rooms: (_READY, rooms.rooms),
    m.Online: (_READY, rooms.online),
    m.Stored: (_READY, accounts.stored),
    m.Send: (_READY, talk.send),
    m.Pm: (_READY, talk.pm),
    m.History: (_READY, talk.history),
    m.Sync: (_READY, talk.sync),
    m.Read: (_READY, talk.read),
    m.Typing: (_READY, talk.typing),
    m.PutNote: (_READY, notes.put),
    m.Notes: (_READY, notes.read),
    m.Ping: (_ALWAYS, accounts.ping),
}
