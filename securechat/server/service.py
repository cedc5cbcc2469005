"""Builds the daemon's parts, starts and stops them; the only place that knows them all."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import platformdirs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from securechat import __version__
from securechat.chat.broker import RoomBroker
from securechat.crypto.passwords import PasswordHasher
from securechat.errors import Refused, StartupError
from securechat.link import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    ConnectLine,
    ServerTLS,
    TLSError,
    is_loopback,
    join_address,
    split_address,
)
from securechat.private_files import write_private
from securechat.server import files
from securechat.server.admin import AdminFactory
from securechat.server.checks import Admission, PasswordChecks
from securechat.server.connections import ConnectionLimits, Gate, SharedLimits
from securechat.server.operations import Operations
from securechat.server.protocol import ChatServerFactory
from securechat.server.session import Logins, Registration, ServerIdentity, SessionParts
from securechat.server.settings import MEGABYTE, DataDir, Settings, is_endpoint
from securechat.server.status import Status
from securechat.storage.sqlite import SQLiteStore
from securechat.wire import limits
from securechat.wire import messages as m

_DRAIN_STEP: Final = 0.02  # seconds between looks at what is still under way
_ANSWER_SECONDS: Final = 0.5 * limits.DRAIN_SECONDS  # for requests under way
_LEAVE_SECONDS: Final = 0.3 * limits.DRAIN_SECONDS  # for peers to take the bye and close
_BACKLOG: Final = 1024  # connections that wait to be accepted: after a restart a full room comes back at once
_TIDY_EVERY: Final = 3600.0  # seconds between two looks at what is too old
MAX_SOCKET_PATH: Final = 100  # bytes; the kernel's limit is 108
_OWN_FILES: Final = 32  # file descriptors for the database, listeners, logs and the operator; half of them in use


def default_data_dir() -> Path:
    """The platform's directory for user data."""
    return Path(platformdirs.user_data_dir("securechat-server", appauthor=False))


class ChatServerService(Service):
    """The daemon, as twistd starts and stops it.

    `makeService` builds this and opens nothing: twistd forks and drops privileges first.

    Args:
        settings: checked.
        reactor: the global one, as twistd has it.
        foreground: whether a failed start may end the process (twistd hangs on SystemExit after it has daemonised).
    """

    log = Logger()

    def __init__(self, settings: Settings, reactor: Any, *, foreground: Callable[[], bool]) -> None:
        self._settings = settings
        self._reactor = reactor
        self._foreground = foreground
        self._data = DataDir(Path(settings.data_dir).absolute() if settings.data_dir else default_data_dir())
        self._ports: list[IListeningPort] = []
        self._lock: int | None = None
        self._store: SQLiteStore | None = None
        self._passwords: PasswordChecks | None = None
        self._tls: ServerTLS | None = None
        self._tidying = LoopingCall(self._tidy)
        self._tidying.clock = reactor
        self._shared = SharedLimits(
            ConnectionLimits(
                messages_per_second=settings.messages_per_second,
                message_burst=settings.message_burst,
                connections_per_address=settings.connections_per_address,
            ),
            reactor,
        )

    # --- start ------------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Opens the database, binds the ports, says where to connect; or says why not, and ends."""
        try:
            self._start()
        except StartupError as error:
            if self._store is not None:
                self._store.close()
            self._undo()
            if not self._foreground():
                raise
            sys.stderr.write(f"securechat: {error}\n")
            raise SystemExit(1) from None
        super().startService()

    def _start(self) -> None:
        settings = self._settings.checked()
        self._shared.most = self._connections_allowed(settings.max_connections)
        self._lock = files.prepare(self._data)
        identity = files.server_identity(self._data)
        kek = files.at_rest_keys(self._data, settings.key_file, os.environ)
        self._tls = self._load_tls(settings)
        hasher = PasswordHasher(settings.bcrypt_rounds)
        store = self._store = SQLiteStore(
            self._data.database,
            kek,
            reactor=self._reactor,
            max_members=settings.room_members,
            max_rooms=settings.rooms_per_user,
            max_past=limits.MAX_PAST,
            max_notes=limits.MAX_NOTES,
            max_notes_bytes=limits.MAX_NOTES_BYTES,
            room_quota=settings.quota_room_mb * MEGABYTE,
            user_quota=settings.quota_user_mb * MEGABYTE,
            retention=settings.retention_days,
        )
        store.open()
        threads = max(1, (os.cpu_count() or 1) - 1)
        self._passwords = PasswordChecks(self._reactor, hasher, threads=threads)
        self._passwords.start()
        parts = SessionParts(
            store=store,
            broker=RoomBroker(self._shared.turn.later, self._reactor.callLater),
            passwords=self._passwords,
            admission=Admission(per_account=settings.logins_per_account, per_address=settings.logins_per_address),
            identity=identity,
            logins=Logins(),
            now=time.time,
            monotonic=time.monotonic,
            random=secrets.token_bytes,
            version=__version__,
            limits=m.Limits(members=settings.room_members),
        )
        for listener in settings.listen:
            self._listen(listener, parts, tls=True)
        if settings.insecure_loopback:
            self._listen(settings.insecure_loopback, parts, tls=False)
        line = self._connect_line(identity)
        self._open_admin(store, parts, line)
        self._tidying.start(_TIDY_EVERY).addErrback(lambda failure: self.log.failure("tidying stopped", failure))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        self._announce(line)

    def _connections_allowed(self, wanted: int) -> int:
        """How many connections there may be, 0 being all that the limit of open files allows; raises that limit."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # a kernel that takes less than it calls its limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - _OWN_FILES)
        if wanted > allowed:
            self.log.warn(
                "max_connections = {wanted} needs {more} more open files than this process may have (LimitNOFILE in"
                " systemd, ulimit -n): it is {allowed}.",
                wanted=wanted,
                more=wanted - allowed,
                allowed=allowed,
            )
        return min(wanted or allowed, allowed)

    def _load_tls(self, settings: Settings) -> ServerTLS:
        key, chain = settings.tls_key, settings.tls_chain
        if not key:
            names = [split_address(settings.public)[0]] if settings.public else []
            names += [split_address(listener)[0] for listener in settings.listen if not is_endpoint(listener)]
            files.certificate(self._data, [name for name in names if name not in ("0.0.0.0", "::")], time.time)
            key, chain = str(self._data.tls_key), str(self._data.tls_chain)
        try:
            return ServerTLS(key, chain)
        except (OSError, TLSError) as error:
            raise StartupError(f"The TLS key {key} and certificate {chain} cannot be used: {error}") from None

    def _listen(self, listener: str, parts: SessionParts, *, tls: bool) -> None:
        endpoint, local = self._endpoint(listener)
        registration = Registration(self._settings.registration)
        if local and registration is Registration.INVITE:
            registration = Registration.OPEN
        proxied = listener.startswith("haproxy:")
        factory: Any = ChatServerFactory(
            parts, self._shared, self._reactor, tls=tls, registration=registration, proxied=proxied
        )
        if tls:
            assert self._tls is not None
            factory = TLSMemoryBIOFactory(self._tls, False, factory, self._reactor)
            factory.noisy = False
        if not proxied:
            factory = Gate(self._shared, self._reactor, factory)
        self._ports.append(_bound(endpoint.listen(factory), listener))

    def _endpoint(self, listener: str) -> tuple[IStreamServerEndpoint, bool]:
        """The endpoint of a listener, and whether only this machine reaches it. Raises StartupError."""
        if is_endpoint(listener):
            try:
                return serverFromString(self._reactor, listener), False
            except (ValueError, TypeError, KeyError) as error:
                raise StartupError(f"{listener!r} is not an endpoint Twisted understands: {error}") from None
        host, port = split_address(listener)
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        address = "127.0.0.1" if host == "localhost" else host
        return kind(self._reactor, port, backlog=_BACKLOG, interface=address), is_loopback(host)

    def _connect_line(self, identity: ServerIdentity) -> ConnectLine:
        addresses: list[Any] = [bound.getHost() for bound in self._ports]
        host, port = next(((a.host, a.port) for a in addresses if hasattr(a, "port")), (DEFAULT_HOST, DEFAULT_PORT))
        if self._settings.public:
            host, port = split_address(self._settings.public, port)
        elif not any(hasattr(address, "port") for address in addresses):
            self.log.warn("No listener has a port, so connect lines name a guess. Say --public NAME[:PORT].")
        elif not is_loopback(host):
            self.log.warn(
                "Listening on {host} without --public: connect lines carry that address, which others may not reach."
                " Say --public NAME[:PORT].",
                host=host,
            )
        return ConnectLine(host, port, identity.srv)

    def _open_admin(self, store: SQLiteStore, parts: SessionParts, line: ConnectLine) -> None:
        path = self._data.admin_socket
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            self.log.warn("The path {path} is too long for a socket: securechat admin is off.", path=str(path))
            return
        path.unlink(missing_ok=True)  # ours: the lock on the directory is held
        operations = Operations(
            store=store,
            broker=parts.broker,
            logins=parts.logins,
            passwords=parts.passwords,
            connect_line=line,
            random=secrets.token_bytes,
            now=time.time,
            read_keys=lambda: files.at_rest_keys(self._data, self._settings.key_file, os.environ),
            figures=Status(self._reactor, self._shared, parts.logins, parts.broker).figures,
            limits={
                name: getattr(self._settings, name) for name in ("retention_days", "quota_room_mb", "quota_user_mb")
            },
        )
        endpoint = UNIXServerEndpoint(self._reactor, str(path), mode=0o600)
        self._ports.append(_bound(endpoint.listen(AdminFactory(self._reactor, operations)), str(path)))

    def _announce(self, line: ConnectLine) -> None:
        write_private(self._data.connect_line, f"{line}\n".encode())
        hosts: list[Any] = [port.getHost() for port in self._ports]
        addresses = [join_address(host.host, host.port) for host in hosts if hasattr(host, "host")]
        self.log.info("SecureChat {version} listens on {where}", version=__version__, where=", ".join(addresses))
        self.log.info("Data: {path}", path=str(self._data.path))
        self.log.info("Connect with: securechat '{line}'", line=str(line))

    def _tidy(self) -> Deferred[None]:
        """Removes messages that are too old, and what is left of deleted rooms, a little at a time."""
        return Deferred.fromCoroutine(self._tidied())

    async def _tidied(self) -> None:
        removed = 0
        try:
            while self._store is not None and (some := await self._store.trim(now=int(time.time() * 1000))):
                removed += some
            while self._store is not None and await self._store.purge():
                pass
        except Refused as refusal:  # said by the store; what is left goes the next time
            self.log.warn("Old messages were not all removed: {error}", error=refusal)
        if removed:
            self.log.info(
                "{removed} messages were removed: they were kept as long as the settings say.", removed=removed
            )

    # --- reload and stop --------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """SIGHUP: reads the certificate again; connections and everything else stay as they are."""
        try:
            if self._tls is not None:
                self._tls.reload()
            self.log.info("The TLS certificate was read again.")
        except (OSError, TLSError) as error:
            self.log.error("The TLS certificate was not replaced: {error}", error=error)

    def stopService(self) -> Deferred[None]:
        """Drains: no new connections, `bye` to all, what is under way is stored and answered, then the database.

        A second SIGTERM or Ctrl-C meanwhile ends the process: what was acknowledged is on disk.
        """
        super().stopService()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._tidying.running:
            self._tidying.stop()
        ports, self._ports = self._ports, []
        await DeferredList([_maybe(port.stopListening()) for port in ports], consumeErrors=True)
        bye = m.Bye(reason="shutdown", msg="The server is stopping. Clients reconnect by themselves.", retry_after=2.0)
        for connection in list(self._shared.connections):
            connection.stop_reading()
        await self._until(lambda: all(connection.idle for connection in self._shared.connections), _ANSWER_SECONDS)
        for connection in list(self._shared.connections):
            connection.say_bye(bye)
        await self._until(lambda: not self._shared.connections, _LEAVE_SECONDS)
        for connection in list(self._shared.connections):
            connection.cut()
        if self._store is not None:
            await self._store.close()
        self._undo()
        self.log.info("SecureChat stopped.")

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Waits, at most so long."""
        deadline = self._reactor.seconds() + seconds
        while not done() and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, _DRAIN_STEP)

    def _undo(self) -> None:
        """Gives back what needs no waiting; also after a start that failed half-way."""
        for port in self._ports:
            port.stopListening()
        self._ports = []
        if self._passwords is not None:
            self._passwords.stop()
            self._passwords = None
        if self._lock is not None:
            self._data.admin_socket.unlink(missing_ok=True)  # without the lock it is another daemon's
            os.close(self._lock)
            self._lock = None


def _maybe(result: Any) -> Deferred[Any]:
    if isinstance(result, Deferred):
        return result
    done: Deferred[Any] = Deferred()
    done.callback(result)
    return done


def _bound(listening: Deferred[IListeningPort], listener: str) -> IListeningPort:
    """The port of an endpoint that listens at once, as those of TCP and Unix do. Raises StartupError."""
    outcome: list[Any] = []
    listening.addBoth(outcome.append)
    result = outcome[0] if outcome else None
    if isinstance(result, Failure):
        error = result.value
        why = error.socketError.strerror if isinstance(error, CannotListenError) else str(error)
        taken = isinstance(error, CannotListenError) and error.socketError.errno == errno.EADDRINUSE
        advice = "Is another server running there? Choose another" if taken else "Choose another"
        raise StartupError(f"Cannot listen on {listener}: {why}. {advice} with --listen.")
    if result is None:
        raise StartupError(f"Cannot listen on {listener}: it does not answer at once.")
    port: IListeningPort = result
    return port
