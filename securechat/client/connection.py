"""`ServerLink`: a connection to one server that comes back by itself, and whom it takes for that server."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from securechat.client.profile import ClientDir
from securechat.client.protocol import ROOM_DELETED, ChatClientProtocol, LinkLost, NotTheServer
from securechat.errors import Exit, SecureChatError
from securechat.link import ClientTLS, ConnectLine, is_loopback, join_address
from securechat.wire import messages as m

_LEAST_WAIT: Final = 0.5  # seconds
_MOST_WAIT: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 1.0  # on this machine whoever listens answers at once


class CannotConnect(SecureChatError):
    """A first connection failed; the text says what to look at."""

    exit = Exit.NETWORK


class UntrustedServer(NotTheServer):
    """The server is not the one it should be, or is not known and nobody can be asked."""

    exit = Exit.UNTRUSTED


async def listens(reactor: Any, line: ConnectLine) -> bool:
    """Whether something takes connections at an IPv4 address of this machine. Nothing is sent to it."""
    factory = Factory.forProtocol(StreamProtocol)
    factory.noisy = False
    try:
        protocol = await TCP4ClientEndpoint(reactor, line.host, line.port, timeout=_LOOK_SECONDS).connect(factory)
    except ConnectError:
        return False
    cast(Any, protocol).transport.abortConnection()
    return True


class LinkListener(Protocol):
    """Who hears of a link; `client.online`."""

    def link_up(self, protocol: ChatClientProtocol) -> None:
        """A verified connection is there."""

    def link_event(self, event: m.AnyEvent) -> None:
        """The server said something."""

    def link_down(self, why: str, wait: float | None, *, news: bool = False) -> None:
        """The connection is gone, or an attempt failed; the next one is in `wait` seconds, None: there is none.

        Args:
            news: `why` is a thing to know by itself, not a trouble with the connection.
        """


Ask = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class ChangedServer:
    """Another server answers at an address than before."""

    line: ConnectLine
    before: str
    now: str


class ServerJudge:
    """Decides whether what answers at an address is the server meant.

    An id, from the connect line or remembered, decides alone. Without one: a certificate that an authority vouches
    for, first contact on this machine, or a typed yes.

    Args:
        ask: asks a person; None where nobody is there.
    """

    def __init__(self, directory: ClientDir, line: ConnectLine, ask: Ask | None) -> None:
        self._directory = directory
        self._line = line
        self._ask = ask
        self.accepted: str | None = None  # in this run; what other clients note meanwhile changes nothing
        self.changed: ChangedServer | None = None

    async def judge(self, srv: str, vouched: bool) -> None:
        """Returns if the server may be spoken to. Raises UntrustedServer."""
        line = self._line
        where = join_address(line.host, line.port)
        if line.id is not None:
            if srv != line.id:
                raise UntrustedServer(
                    f"{where} is not the server of this connect line. Ask whoever gave it to you for the present one."
                )
            return
        known = self.accepted or self._directory.known_id(line.host, line.port)
        if known == srv:
            return
        if known is not None:
            self.changed = ChangedServer(line, known, srv)
            raise UntrustedServer(
                f"The server at {where} is not the one that was there before: its identity was {known}, now it is"
                f" {srv}. If its operator says that this is right, type /trust server. Nothing was sent to it."
            )
        if vouched or is_loopback(line.host) or await self._person_agrees(where, srv):
            return
        raise UntrustedServer(
            f"The server at {where} is not known here. Use the whole connect line its operator gives you"
            " (securechat://…#id=…), or connect from a terminal and compare its identity."
        )

    async def _person_agrees(self, where: str, srv: str) -> bool:
        if self._ask is None:
            return False
        answer = await self._ask(
            f"The server at {where} is new here. Its identity is {srv}. Compare it with its operator."
            " Trust it? [yes/no] "
        )
        return isinstance(answer, str) and answer.strip().lower() in ("yes", "y")


class _Protocols(Factory):
    """Makes the protocol of each attempt."""

    noisy = False

    def __init__(self, link: ServerLink) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """For Twisted."""
        return self._link.build()


@implementer(IStreamClientEndpoint)
class _Tried:
    """An endpoint that tells why an attempt failed, before anybody asks how long to wait for the next one."""

    def __init__(self, endpoint: Any, failed: Callable[[Failure], Failure]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, factory: Any) -> Any:
        """As the endpoint's."""
        return self._endpoint.connect(factory).addErrback(self._failed)


class ServerLink:
    """Keeps one verified connection, with jittered back-off between attempts.

    Args:
        line: where, and who it must be.
        endpoint: connects; None: TCP (and TLS) to the line's host. For tests.
        jitter: a number in [0, 1); spreads clients that lost their server together.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        line: ConnectLine,
        directory: ClientDir,
        listener: LinkListener,
        *,
        ask: Ask | None,
        endpoint: Any = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self.line = line
        self._directory = directory
        self._listener = listener
        self.judge = ServerJudge(directory, line, ask)
        self._tls = ClientTLS(line.host) if line.tls else None
        self._endpoint = endpoint or self._make_endpoint()
        self._jitter = jitter
        self._service: ClientService | None = None
        self._first: Deferred[ChatClientProtocol] | None = None
        self._up: ChatClientProtocol | None = None
        self._newest: ChatClientProtocol | None = None
        self._last_failure = ""
        self._attempts = 0  # since the last verified connection: one that is taken and dropped is no success

    def _make_endpoint(self) -> Any:
        endpoint: Any = HostnameEndpoint(
            self._reactor, self.line.host.encode("idna"), self.line.port, timeout=_CONNECT_SECONDS
        )
        return endpoint if self._tls is None else wrapClientTLS(self._tls, endpoint)

    @property
    def protocol(self) -> ChatClientProtocol | None:
        """The verified connection, if there is one."""
        return self._up

    def connect(self) -> Deferred[ChatClientProtocol]:
        """Makes the first connection; from then on it comes back by itself.

        Returns:
            Fires with the verified connection; fails with CannotConnect or UntrustedServer, and then nothing goes on.
        """
        first = self._first = Deferred()
        self._serve().whenConnected(failAfterFailures=1).addErrback(self._first_failed)
        return first

    def hurry(self) -> None:
        """Makes another connection now, whenever the next attempt was to be."""
        self._attempts = 0
        if self._up is not None:
            self._up.give_up("you asked for another connection")
        elif self._service is not None and self._first is None:
            self._service.stopService()
            self._listener.link_down("you asked for another connection", 0.0)
            self._serve()

    def begin(self, srv: str) -> None:
        """Makes connections, as often as it takes: also the first one is tried again until it is there.

        Args:
            srv: the server that it must be. Another one is as if it had changed: nothing goes on.
        """
        self.judge.accepted = srv
        self._serve()

    def _serve(self) -> ClientService:
        tried = _Tried(self._endpoint, self._failed)
        service = self._service = ClientService(tried, _Protocols(self), retryPolicy=self._wait, clock=self._reactor)
        service.startService()
        return service

    def build(self) -> ChatClientProtocol:
        """A protocol for one attempt."""
        self._newest = ChatClientProtocol(self._reactor, self, tls=self._tls is not None)
        return self._newest

    def stop(self) -> Deferred[None]:
        """Disconnects for good; nothing more is said to the listener. A server that stands still is not waited for."""
        service, self._service = self._service, None
        self._up = None
        done: Deferred[None] = Deferred()
        if service is None:
            done.callback(None)
            return done
        stopping = service.stopService()
        if stopping is None:
            done.callback(None)
        else:
            timer = self._reactor.callLater(_CLOSE_SECONDS, self._abort)
            stopping.addBoth(lambda result: timer.active() and timer.cancel())
            stopping.addBoth(lambda result: done.callback(None))
        return done

    def _abort(self) -> None:
        if self._newest is not None and self._newest.transport is not None:
            self._newest.transport.abortConnection()

    # --- attempts ---------------------------------------------------------------------------------------------------

    def _wait(self, attempt: int) -> float:
        """Full jitter: anything up to twice as long each time; said to the listener, who shows it."""
        self._attempts += 1
        most = min(_MOST_WAIT, _LEAST_WAIT * 2.0 ** min(self._attempts, 10))
        wait = max(0.1, most * self._jitter())
        if self._service is not None and self._first is None:
            self._listener.link_down(self._last_failure or "the server does not answer", wait)
        return wait

    def _first_failed(self, failure: Failure) -> None:
        if self._first is None:
            return
        first, self._first = self._first, None
        # This is called from inside the service, which then cannot be stopped yet.
        service, self._service = self._service, None
        if service is not None:
            self._reactor.callLater(0, service.stopService)
        first.errback(failure if failure.check(SecureChatError) else CannotConnect(self._why(failure)))

    def _failed(self, failure: Failure) -> Failure:
        self._last_failure = self._why(failure)
        return failure

    def _why(self, failure: Failure) -> str:
        where = join_address(self.line.host, self.line.port)
        if failure.check(ConnectionRefusedError):
            return f"Nothing listens at {where}. Is the server running? (twistd -n securechat)"
        if failure.check(DNSLookupError):
            return f"The name {self.line.host} is not known here. Check the connect line."
        return f"Cannot reach {where}: {failure.getErrorMessage()}."

    # --- what the protocol says (protocol.Listener) -----------------------------------------------------------------

    def greeted(self, protocol: ChatClientProtocol) -> None:
        """The greeting verifies; now it is to be seen whose it is."""
        vouched = False
        handle = getattr(protocol.transport, "getHandle", lambda: None)()
        if self._tls is not None and handle is not None:
            vouched = self._tls.vouched(handle)
        Deferred.fromCoroutine(self.judge.judge(protocol.srv, vouched)).addCallbacks(
            lambda _: self._accepted(protocol), lambda failure: self._rejected(protocol, failure)
        )

    def _accepted(self, protocol: ChatClientProtocol) -> None:
        # A person who compares takes longer than a server waits for a login: their yes counts all the same.
        self.line = self.line.known(protocol.srv)
        self.judge.accepted = protocol.srv
        self._directory.remember(self.line)
        if protocol.closing:
            return
        self._up = protocol
        self._last_failure = ""
        self._attempts = 0
        first, self._first = self._first, None
        if first is not None:
            first.callback(protocol)
        else:
            self._listener.link_up(protocol)

    def _rejected(self, protocol: ChatClientProtocol, failure: Failure) -> None:
        if protocol.closing:
            return
        protocol.give_up(failure.getErrorMessage())
        self.stop()
        first, self._first = self._first, None
        if first is not None:
            first.errback(failure)
        else:
            self._listener.link_down(failure.getErrorMessage(), None)

    def event(self, protocol: ChatClientProtocol, event: m.AnyEvent) -> None:
        """The server said something."""
        if protocol is self._up:
            self._listener.link_event(event)

    def lost(self, protocol: ChatClientProtocol, reason: str) -> None:
        """The connection is gone; `ClientService` asks `_wait` next."""
        self._last_failure = reason
        if self._first is not None:
            first, self._first = self._first, None
            self.stop()
            where = join_address(self.line.host, self.line.port)
            kind = UntrustedServer if protocol.impostor else CannotConnect
            first.errback(kind(f"Cannot talk to {where}: {reason}."))
            return
        if protocol is not self._up:
            return
        self._up = None
        bye = protocol.bye
        if bye is not None and bye.reason in ("replaced", "session_ended"):
            self.stop()
            self._listener.link_down(reason, None)
        else:
            self._listener.link_down(reason, 0.0, news=bye is not None and bye.reason == ROOM_DELETED)


__all__ = ["CannotConnect", "ChangedServer", "LinkListener", "LinkLost", "ServerLink", "UntrustedServer"]
