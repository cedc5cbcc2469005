"""What both ends share of Twisted: the line reader, TLS contexts, addresses and connect lines."""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit
from weakref import WeakKeyDictionary

import service_identity
from OpenSSL import SSL
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from securechat.errors import SecureChatError
from securechat.wire import limits
from securechat.wire.lines import LineBuffer, LineTooLong

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 12345
TLSError = SSL.Error  # for those who load certificates

EXPORTER_LABEL: Final = b"EXPORTER-SecureChat-1"
SCHEME: Final = "securechat"
PLAIN_SCHEME: Final = "securechat+insecure"  # without TLS; loopback only


def count_steadily(reactor: Any) -> None:
    """Lets a reactor count its seconds by a clock that nobody sets; call it before the first timer.

    Twisted counts by the time of day. When that is set forward, every timer is due at once, and everybody seems to have
    been silent for too long; when it is set back by an hour, every timer waits an hour more.
    """
    reactor.seconds = time.monotonic


# --- lines in ---------------------------------------------------------------------------------------------------------


class BoundedLineReceiver(LineReceiver):
    """A `LineReceiver` of linear cost, that yields to others, and dispatches nothing once it is closing.

    The stock class re-copies its unfinished rest at every read, and goes on dispatching lines it had read after
    `abortConnection` (TCP) or `loseConnection` (TLS). A TLS connection also outlives `loseConnection` until the peer
    closes: hence the abort timer.
    """

    delimiter = b"\n"
    transport: Any  # an ITCPTransport, or TLS over one

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        self.clock = clock
        self.received = LineBuffer(limit)
        self.closing = False
        self._turn: Any = None
        self._abort: Any = None
        self._held: tuple[str, ...] = ()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self.closing:
            return
        self.received.feed(data)
        if self._turn is None:
            self._take_lines()

    def _take_lines(self) -> None:
        self._turn = None
        if self.closing:  # since the last turn
            return
        taken = 0
        try:
            for line in self.received.lines():
                self.lineReceived(line)
                taken += 1
                if self.closing:
                    return
                if taken >= limits.LINES_PER_TURN:
                    self._turn = self.clock.callLater(0, self._take_lines)
                    self.hold("turn")  # else a peer that is quicker than we are would fill the memory
                    return
        except LineTooLong as error:
            self.lineTooLong(error.limit)
            return
        self.let_go("turn")

    def hold(self, reason: str) -> None:
        """Stops reading until every reason for it is gone."""
        if not self._held and not self.closing:
            self.transport.pauseProducing()
        if reason not in self._held:
            self._held += (reason,)

    def let_go(self, reason: str) -> None:
        """Reads on if this was the last reason not to."""
        if reason in self._held:
            self._held = tuple(other for other in self._held if other != reason)
            if not self._held and not self.closing:
                self.transport.resumeProducing()

    def lineTooLong(self, limit: int) -> None:
        """A line passed the limit; the rest of what was read is worth nothing."""
        self.hang_up()

    def hang_up(self) -> None:
        """Closes after what was written; dispatches nothing more; aborts if the peer does not let go in time."""
        if self.closing:
            return
        self.closing = True
        if self.transport is not None:
            self.transport.loseConnection()
            self._abort = self.clock.callLater(limits.ABORT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._abort = None
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        self.closing = True
        for call in (self._turn, self._abort):
            if call is not None and call.active():
                call.cancel()
        self._turn = self._abort = None


# --- TLS --------------------------------------------------------------------------------------------------------------


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The server's TLS 1.3 context, which `reload` replaces for new connections.

    Args:
        key_file, chain_file: PEM; the chain starts with the server's own certificate.

    Raises:
        OSError, SSL.Error: the files cannot be read or do not fit each other.
    """

    def __init__(self, key_file: str, chain_file: str) -> None:
        self._files = (key_file, chain_file)
        self._context = self._load()

    def _load(self) -> SSL.Context:
        context = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_3).getContext()
        key_file, chain_file = self._files
        context.use_privatekey_file(key_file)
        context.use_certificate_chain_file(chain_file)
        context.check_privatekey()
        return context

    def reload(self) -> None:
        """Reads the files again. Raises as the constructor does, and then goes on with what it had."""
        self._context = self._load()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """For Twisted."""
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """TLS 1.3 to a server whose identity is proven afterwards, by its own key over this very connection.

    So every certificate is let through the handshake; `vouched` says whether one would have been enough by itself.
    Whoever uses this sends nothing before `hello` is verified.

    Args:
        host: the name or address as the user gave it.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._address = is_address(host)
        self._context = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_3).getContext()
        self._context.set_default_verify_paths()
        self._chain_holds: WeakKeyDictionary[SSL.Connection, list[bool]] = WeakKeyDictionary()

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """For Twisted."""
        connection = SSL.Connection(self._context, None)
        chain_holds = [True]
        self._chain_holds[connection] = chain_holds

        def note(conn: SSL.Connection, cert: Any, error: int, depth: int, holds: int) -> bool:
            chain_holds[0] = chain_holds[0] and bool(holds)
            return True

        # On the connection, not on the context: Twisted's own client contexts set theirs there too, and win.
        connection.set_verify(SSL.VERIFY_PEER, note)
        if not self._address:
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection

    def vouched(self, connection: SSL.Connection) -> bool:
        """Whether a certificate authority this machine trusts vouches for the name (service-identity judges it)."""
        if not self._chain_holds.get(connection, [False])[0]:
            return False
        try:
            if self._address:
                verify_ip_address(connection, self._host)
            else:
                verify_hostname(connection, self._host)
        except (service_identity.VerificationError, service_identity.CertificateError, ValueError):
            return False
        return True


def exporter_of(transport: Any) -> bytes:
    """32 bytes that only the two ends of this TLS connection know; empty on a plain one."""
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, SSL.Connection):
        return b""
    return handle.export_keying_material(EXPORTER_LABEL, 32, None)


# --- addresses --------------------------------------------------------------------------------------------------------


class BadAddress(SecureChatError):
    """An address or connect line cannot be understood; the text says how one looks."""


def is_address(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """HOST, HOST:PORT or [V6]:PORT. Raises BadAddress."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    odd = not text.isprintable() or text.endswith(":") or any(mark in text for mark in " @?#")
    if not host or parts.path or odd:
        raise BadAddress(
            f"{text!r} is not an address. Write HOST:PORT, as 127.0.0.1:{DEFAULT_PORT} or [::1]:{DEFAULT_PORT}."
        )
    return host, default_port if port is None else port


def bucket_of(host: str) -> str:
    """What addresses are counted by: one of IPv4, however written; of IPv6 the /64 that one customer has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is not None:  # an IPv4 peer of a socket that speaks both
        return str(address.ipv4_mapped)
    if address.version == 4 or address.is_loopback:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class ConnectLine:
    """Where a server is and who it must prove to be: ``securechat://HOST:PORT/#id=…&invite=…&room=…&rid=…&from=…``.

    Attributes:
        id: `crypto.identity.server_id`; None where the server is to be known by its certificate or by first contact.
        invite: a code that permits one registration.
        room: where the newcomer is led; `rid` is that room's id, so that no other room passes for it.
        inviter: who made the line, as ``user:identity`` (`crypto.trust.identity_hash`): the newcomer knows one person.
        tls: False for ``securechat+insecure://``, which is refused off loopback.
    """

    host: str
    port: int
    id: str | None = None
    invite: str | None = None
    room: str | None = None
    tls: bool = True
    rid: str | None = None
    inviter: str | None = None

    @classmethod
    def parse(cls, text: str) -> ConnectLine:
        """Reads a connect line, or a bare HOST[:PORT]. Raises BadAddress."""
        text = text.strip()
        if "://" not in text:
            host, port = split_address(text)
            return cls(host, port)
        try:
            parts = urlsplit(text)
        except ValueError:
            raise BadAddress(f"{text!r} is not a connect line.") from None
        if parts.scheme not in (SCHEME, PLAIN_SCHEME):
            raise BadAddress(f"A connect line starts with {SCHEME}://, not {parts.scheme}://.")
        host, port = split_address(parts.netloc)
        fields = dict(parse_qsl(parts.fragment, keep_blank_values=True))
        if "id" in fields and len(fields["id"]) != 43:
            raise BadAddress("The id in this connect line is cut short. Copy the whole line, quotes around it.")
        line = cls(
            host,
            port,
            fields.get("id"),
            fields.get("invite") or None,
            fields.get("room") or None,
            parts.scheme == SCHEME,
            fields.get("rid") or None,
            fields.get("from") or None,
        )
        if (line.rid and not re.fullmatch("[0-9a-f]{64}", line.rid)) or (
            line.inviter and not re.fullmatch("[a-z0-9][a-z0-9_.-]{0,31}:[A-Za-z0-9_-]{43}", line.inviter)
        ):
            raise BadAddress("This connect line is damaged. Copy the whole line, quotes around it.")
        if not line.tls and not is_loopback(host):
            raise BadAddress("A connection without TLS is only possible on this machine itself (127.0.0.1).")
        return line

    def __str__(self) -> str:
        fields = {"id": self.id, "invite": self.invite, "room": self.room, "rid": self.rid, "from": self.inviter}
        fragment = "&".join(f"{name}={quote(value, safe=':')}" for name, value in fields.items() if value)
        scheme = SCHEME if self.tls else PLAIN_SCHEME
        return f"{scheme}://{join_address(self.host, self.port)}/" + (f"#{fragment}" if fragment else "")

    def known(self, server_id: str) -> ConnectLine:
        """The line to keep once the server proved itself: with its id, without what served once."""
        return replace(self, id=server_id, invite=None, room=None, rid=None, inviter=None)
