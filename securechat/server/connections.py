"""What the connections of all listeners share: how many there may be, and how much may wait for slow readers."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from securechat.link import is_loopback
from securechat.server.outgoing import Turn
from securechat.wire import limits

if TYPE_CHECKING:
    from securechat.server.protocol import ChatServerProtocol

ADDRESS_UNKNOWN: Final = "local"  # of a connection that comes over no network
_REFUSED_EVERY: Final = 60.0  # seconds between two log lines about connections refused


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may use; see `wire.limits` for the defaults and their reasons."""

    send_queue: int = limits.SEND_QUEUE
    send_queue_all: int = limits.SEND_QUEUE_ALL
    auth_seconds: float = limits.AUTH_SECONDS
    silence_seconds: float = limits.SILENCE_SECONDS
    messages_per_second: float = limits.MESSAGES_PER_SECOND
    message_burst: float = limits.MESSAGE_BURST
    connections_per_address: int = limits.CONNECTIONS_PER_ADDRESS


class Gate(Factory):
    """Closes a connection as it is accepted where there are as many as may be.

    A protocol gives its file descriptor back a turn of the reactor later, and a flood brings more than there are in
    one turn. Behind a proxy this cannot be used: Twisted's part that reads what the proxy tells wants a protocol.
    """

    noisy = False

    def __init__(self, shared: SharedLimits, clock: IReactorTime, inner: Factory) -> None:
        self._shared = shared
        self._clock = clock
        self._inner = inner

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """For Twisted: None closes the socket."""
        if self._shared.full:
            self._shared.refuse(self._clock.seconds())
            return None
        return self._inner.buildProtocol(addr)

    def doStart(self) -> None:
        """For Twisted."""
        self._inner.doStart()

    def doStop(self) -> None:
        """For Twisted."""
        self._inner.doStop()


class SharedLimits:
    """What the connections of all listeners share.

    Attributes:
        most: how many connections may be there at a time.
        refused: how many were closed as they came, since the start.
        queued: bytes that wait in all send queues.
        turn: at whose end they write.
    """

    log = Logger()

    def __init__(self, each: ConnectionLimits, clock: IReactorTime, most: int = sys.maxsize) -> None:
        self.each = each
        self.turn = Turn(clock)
        self.most = most
        self.connections: dict[ChatServerProtocol, None] = {}
        self.refused = 0
        self.queued = 0
        self._by_address: dict[str, int] = {}
        self._logged_refused = 0  # of those `refused`, how many the log tells of
        self._logged_when = -math.inf

    @property
    def full(self) -> bool:
        """Whether one more connection would be too many."""
        return len(self.connections) >= self.most

    def refuse(self, now: float) -> None:
        """A connection was closed as it came; the log tells of that at most once a minute."""
        self.refused += 1
        if now - self._logged_when >= _REFUSED_EVERY:
            self.log.warn(
                "{count} connections refused: {here} are here, and {most} may be, {each} from one address.",
                count=self.refused - self._logged_refused,
                here=len(self.connections),
                most=self.most,
                each=self.each.connections_per_address,
            )
            self._logged_refused, self._logged_when = self.refused, now

    def arrived(self, protocol: ChatServerProtocol, now: float) -> bool:
        """Counts a connection in; False if there are too many, of all or of its address.

        This machine's own may be any number of all.
        """
        count = self._by_address.get(protocol.address, 0)
        free = is_loopback(protocol.address) or protocol.address == ADDRESS_UNKNOWN
        if self.full or (count >= self.each.connections_per_address and not free):
            self.refuse(now)
            return False
        self._by_address[protocol.address] = count + 1
        self.connections[protocol] = None
        return True

    def left(self, protocol: ChatServerProtocol) -> None:
        """Counts a connection out."""
        if self.connections.pop(protocol, self) is self:
            return
        count = self._by_address[protocol.address] - 1
        if count:
            self._by_address[protocol.address] = count
        else:
            del self._by_address[protocol.address]

    def close_fullest(self) -> None:
        """All send queues together hold too much: the reader furthest behind goes."""
        fullest = max(self.connections, key=lambda protocol: protocol.waiting, default=None)
        if fullest is not None:
            fullest.cut()
