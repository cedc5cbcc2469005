"""Real daemons and real clients in subprocesses, and a small synchronous client of the wire, for integration tests."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pexpect
import pyte
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

import securechat
import tests
from securechat.crypto import backup as sealed_backup
from securechat.crypto import primitives as p
from securechat.crypto.envelope import Position, seal, unwrap
from securechat.crypto.identity import (
    AccountKeys,
    certify_device,
    check_hello,
    login_proof,
    private_conversation,
    server_id,
    sign_device_list,
    verify_bundle,
)
from securechat.crypto.passwords import SALT_BYTES, Stretched, stretch
from securechat.crypto.roomlog import AnyEvent, Create, Join, RoomLog, SignedEvent, sign_event
from securechat.crypto.transcript import transcript_start
from securechat.link import EXPORTER_LABEL, ConnectLine
from securechat.wire import codec
from securechat.wire import messages as m
from securechat.wire.lines import LineBuffer
from securechat.wire.names import is_private

T = TypeVar("T")

PATIENCE: Final = 30.0  # seconds for any one step, on a machine that does much else
PASSWORD: Final = "secretpassword"
TWIST: Final = ("-m", "twisted")
TWISTD: Final = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
FAST: Final[Mapping[str, object]] = {
    "bcrypt_rounds": 4,  # 1 ms
    "logins_per_account": 1_000_000,
    "logins_per_address": 1_000_000,
}
_LOOK: Final = 0.01  # seconds between two looks at a file or process
_COLUMNS, _ROWS = 100, 30


def environment(home: Path) -> dict[str, str]:
    """What subprocesses get: this checkout's code, nothing of the user's settings, no default place but `home`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SECURECHAT_", "XDG_"))}
    roots = dict.fromkeys(str(Path(str(package.__file__)).parent.parent) for package in (tests, securechat))
    environ |= {
        "PYTHONPATH": os.pathsep.join(roots),
        "PYTHONUNBUFFERED": "1",
        "SECURECHAT_DEBUG": "1",  # a fault in a client says where
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }
    return environ


def until(holds: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Waits for something to become true, and answers it. Raises AssertionError."""
    deadline = time.monotonic() + patience
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(_LOOK)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on right now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def end_process(process: subprocess.Popen[Any]) -> None:
    """Ends a process of ours, whatever it does, and its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait(PATIENCE)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


# --- the daemon -------------------------------------------------------------------------------------------------------


class Daemon:
    """A real daemon in a subprocess, with its data directory and its log below `directory`.

    Args:
        directory: gets ``server/``, ``daemon.toml`` and ``daemon.log``.
        options: more command line options.
        listen: a second start gets the port that this one found.
        launcher: what Python is given before ``securechat``.
        settings: for the configuration file; over `FAST`.
        environ: more of its environment.
        prefix: a program that runs Python, with its arguments.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        listen: str = "127.0.0.1:0",
        launcher: Sequence[str] = TWIST,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.data = directory / "server"
        self.log = directory / "daemon.log"
        self._options = options
        self._host, _, port = listen.rpartition(":")
        self.port = int(port)
        self._launcher = launcher
        self._environ = dict(environ or {})
        self._prefix = prefix
        self._config = directory / "daemon.toml"
        directory.mkdir(parents=True, exist_ok=True)
        lines = [f"{name} = {_toml(value)}" for name, value in {**FAST, **(settings or {})}.items()]
        self._config.write_text("\n".join([*lines, ""]), encoding="ascii")
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line of the next start."""
        return [
            *self._prefix, sys.executable, *self._launcher, "securechat", "--config", str(self._config),
            "--data-dir", str(self.data), "--listen", f"{self._host}:{self.port}", *self._options,
        ]  # fmt: skip

    def start(self) -> Daemon:
        """Starts it; returns when it has said where to connect. Raises AssertionError with its log."""
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.directory) | self._environ,
                cwd=self.directory,
            )

        def listening() -> bool:
            said = self.log.read_bytes()[before:]
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{said.decode()}")
            return b"Connect with" in said

        until(listening, "the daemon listens")
        self.port = self.line.port
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of the last start."""
        assert self._process is not None
        return self._process

    @property
    def line(self) -> ConnectLine:
        """The line to connect with."""
        return ConnectLine.parse((self.data / "connect.txt").read_text(encoding="ascii"))

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM; answers the exit status. Raises subprocess.TimeoutExpired."""
        self.process.terminate()
        return self.process.wait(patience)

    def restart(self) -> None:
        """Starts it again, on the same port."""
        self.start()

    def hang_up(self) -> None:
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def said(self) -> str:
        """All of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def faults(self) -> list[str]:
        """The lines of its log that only a fault of the daemon itself writes."""
        return [line for line in self.said().splitlines() if "Traceback" in line or "Unhandled" in line]

    def end(self) -> None:
        """Ends it, whatever it does."""
        if self._process is not None:
            end_process(self._process)

    def admin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `securechat admin` on its data directory."""
        return run([*CLIENT, "admin", "--data-dir", str(self.data), *arguments], self.directory)


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


# --- clients in subprocesses ------------------------------------------------------------------------------------------

CLIENT: Final = (sys.executable, "-m", "securechat")


def run(
    command: Sequence[str], home: Path, typed: str = "", patience: float = 2 * PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end with `typed` as its standard input."""
    return subprocess.run(
        command,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=patience,
        env=environment(home),
        cwd=home,
        check=False,
    )


def client_command(directory: Path, line: object, *options: str) -> list[str]:
    """The command line of a plain client."""
    where = [] if line is None else [str(line)]
    return [*CLIENT, "--plain", "--data-dir", str(directory), *options, *where]


class PlainClient:
    """A real client on pipes: lines in, lines out, read as they come.

    Args:
        environ: more of its environment.

    Attributes:
        lines: all it printed; notices and failures too, unless `apart`.
    """

    def __init__(
        self,
        directory: Path,
        line: object,
        *options: str,
        apart: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._seen = 0
        self._ended = False
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            client_command(directory, line, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            env=environment(directory.parent) | dict(environ or {}),
            cwd=directory.parent,
            encoding="utf-8",
            bufsize=1,
        )
        self._readers = [threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True)]
        if apart:
            self._readers.append(
                threading.Thread(target=self._read, args=(self.process.stderr, self.errors), daemon=True)
            )
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        with contextlib.suppress(ValueError):  # closed under the reader, at the end
            for line in stream:
                with self._news:
                    lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def type(self, *lines: str) -> None:
        """Types lines."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def wait_for(self, part: str, patience: float = PATIENCE) -> str:
        """Waits for the next line with `part` in it, and answers it. Raises AssertionError."""
        deadline = time.monotonic() + patience
        with self._news:
            while True:
                for at in range(self._seen, len(self.lines)):
                    if part in self.lines[at]:
                        self._seen = at + 1
                        return self.lines[at]
                left = deadline - time.monotonic()
                if left <= 0 or (self._ended and not any(part in line for line in self.lines[self._seen :])):
                    said = "\n".join(self.lines[-30:])
                    raise AssertionError(f"never seen: {part!r}. The client said:\n{said}")
                self._news.wait(left)

    def ask(self, line: str, part: str) -> str:
        """Types a line and waits for what follows."""
        self.type(line)
        return self.wait_for(part)

    def shown(self, part: str) -> list[str]:
        """All lines so far with `part` in them."""
        with self._news:
            return [line for line in self.lines if part in line]

    def kill(self) -> None:
        """SIGKILL."""
        end_process(self.process)

    def finish(self) -> int:
        """Closes standard input; answers the exit status."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        return self.wait()

    def wait(self, patience: float = 2 * PATIENCE) -> int:
        """Waits for its end and for its last words; answers the exit status."""
        status = self.process.wait(patience)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def end(self) -> None:
        """Ends it, whatever it does."""
        end_process(self.process)


class TerminalClient:
    """A real client in a pseudo-terminal, with the screen that a person would see."""

    def __init__(self, directory: Path, line: object, *options: str, command: Sequence[str] | None = None) -> None:
        self._screen = pyte.HistoryScreen(_COLUMNS, _ROWS, history=2000)
        self._stream = pyte.Stream(self._screen)
        self.text = ""
        arguments = [*CLIENT[1:], "--data-dir", str(directory), *options, str(line)]
        self.child = pexpect.spawn(
            CLIENT[0] if command is None else command[0],
            arguments if command is None else list(command[1:]),
            env=environment(directory.parent),  # type: ignore[arg-type]  # os._Environ, says the annotation
            cwd=str(directory.parent),
            encoding="utf-8",
            dimensions=(_ROWS, _COLUMNS),
            timeout=PATIENCE,
        )
        self.child.delaybeforesend = None

    def look(self, seconds: float = 0.05) -> None:
        """Takes in what the terminal got meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self.child.read_nonblocking(65536, timeout=left)
            except pexpect.TIMEOUT:
                return
            except pexpect.EOF:
                return
            self.text += found
            self._stream.feed(found)

    @property
    def rows(self) -> list[str]:
        """The screen, row by row."""
        return [row.rstrip() for row in self._screen.display]

    @property
    def prompt(self) -> str:
        """The row the cursor stands in."""
        return self.rows[self._screen.cursor.y]

    @property
    def bar(self) -> str:
        """The row under that: how things stand."""
        return "".join(self.rows[self._screen.cursor.y + 1 :][:1])

    def resize(self, rows: int, columns: int) -> None:
        """Gives the window another size."""
        self._screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    @property
    def column(self) -> int:
        """Where in its row the cursor stands."""
        return int(self._screen.cursor.x)

    def type(self, keys: str) -> None:
        """Types keys; ``\\r`` is Enter."""
        self.child.send(keys)

    def enter(self, line: str) -> None:
        """Types a line, and Enter."""
        self.type(f"{line}\r")

    def wait_until(self, holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Looks until something holds. Raises AssertionError with the screen."""
        deadline = time.monotonic() + patience
        while not holds():
            if time.monotonic() > deadline:
                screen = "\n".join(row for row in self.rows if row)
                raise AssertionError(f"not within {patience:g} s: {what}. The screen:\n{screen}")
            self.look()

    def wait_for(self, part: str, patience: float = PATIENCE) -> None:
        """Waits until `part` stands on the screen. Raises AssertionError."""
        self.wait_until(lambda: any(part in row for row in self.rows), f"{part!r} on the screen", patience)

    def wait_for_prompt(self, prompt: str, patience: float = PATIENCE) -> None:
        """Waits until the cursor's row is exactly this."""
        self.wait_until(lambda: self.prompt == prompt, f"the prompt {prompt!r}", patience)

    def wait(self, patience: float = PATIENCE) -> int:
        """Waits for its end; answers the exit status (a signal's number negative)."""
        deadline = time.monotonic() + patience
        while self.child.isalive():
            if time.monotonic() > deadline:
                raise AssertionError("the client does not end")
            self.look()
        self.look()
        return int(self.child.exitstatus) if self.child.exitstatus is not None else -int(self.child.signalstatus or 0)

    def end(self) -> None:
        """Ends it, whatever it does."""
        if self.child.isalive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGKILL)
        self.child.close(force=True)


# --- a client of the wire ---------------------------------------------------------------------------------------------


class Gone(ConnectionError):
    """The server closed the connection, or it broke."""


class NotInTime(AssertionError):
    """Nothing came."""


class WireRefused(Exception):
    """The server answered with an error; `reply` has it."""

    def __init__(self, reply: m.Failed) -> None:
        self.reply = reply
        self.code = reply.code
        super().__init__(f"{reply.code}: {reply.msg}")


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_NONE)  # the id in the connect line is what counts
    return context


class Wire:
    """One connection that blocks: TLS over a socket, packets by `wire.codec`.

    Args:
        patience: seconds for any one read.
        greet: whether to read and check `hello` at once.
    """

    def __init__(self, port: int, *, srv: str | None = None, patience: float = PATIENCE, greet: bool = True) -> None:
        self.patience = patience
        self.events: deque[Any] = deque()
        self._buffer = LineBuffer(16 * 1024 * 1024)
        self._lines: deque[bytes] = deque()
        self._asked: deque[type[m.Request]] = deque()
        self._next_id = 1
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self._tls = SSL.Connection(_context(), None)
        self._tls.set_connect_state()
        try:
            self._handshake()
            self.exporter = self._export()
            if greet:
                self._greet(srv)
        except BaseException:
            self.close()
            raise

    def _handshake(self) -> None:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return
            except SSL.WantReadError:
                self._flush()
                self._fill(deadline)
            except SSL.Error as error:
                raise Gone(f"the handshake failed: {error}") from None

    def _export(self) -> bytes:
        return bytes(self._tls.export_keying_material(EXPORTER_LABEL, 32, None))

    def _greet(self, srv: str | None) -> None:
        hello = self.event(m.Hello)
        check_hello(hello.lk, hello.sig, exporter=self.exporter, nonce=hello.nonce)
        self.hello = hello
        self.srv = server_id(hello.lk)
        if srv is not None and self.srv != srv:
            raise AssertionError("another server answers")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Bytes.

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self._send(self._tls.bio_read(1 << 16))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from None

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._socket], [], [], left)[0]:
            raise NotInTime("the server says nothing")
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            raise Gone(str(error)) from None
        if not data:
            raise Gone("the server closed the connection")
        self._came(data)

    def _came(self, data: bytes) -> None:
        self._tls.bio_write(data)

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        at = 0
        while at < len(data):
            at += self._tls.send(data[at : at + (1 << 20)])
            self._flush()

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def _take(self) -> bool:
        """Takes in what is decrypted; False if nothing was there."""
        try:
            self._buffer.feed(self._tls.recv(1 << 16))
        except SSL.WantReadError:
            return False
        except SSL.ZeroReturnError:
            raise Gone("the server said goodbye") from None
        except SSL.Error as error:
            raise Gone(f"TLS broke: {error}") from None
        self._lines.extend(self._buffer.lines())
        return True

    def line(self, patience: float | None = None) -> bytes:
        """The next line. Raises Gone, NotInTime."""
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        while not self._lines:
            if not self._take():
                self._fill(deadline)
        return self._lines.popleft()

    def ready(self) -> list[bytes]:
        """The lines that are here by now; waits for none. Raises Gone once there are none."""
        if not self._lines and not self._take() and select.select([self._socket], [], [], 0)[0]:
            self._fill(time.monotonic() + 1)
            self._take()
        lines = list(self._lines)
        self._lines.clear()
        return lines

    # Packets.

    def say(self, build: Callable[[int], m.Request]) -> int:
        """Sends a request without waiting; answers its id."""
        number, self._next_id = self._next_id, self._next_id + 1
        request = build(number)
        self._asked.append(type(request))
        self.write(codec.encode(request))
        return number

    def packet(self, patience: float | None = None) -> Any:
        """The next packet: an event, or the reply to the oldest request without one."""
        line = self.line(patience)
        if codec.decode_heading(line).event is not None:
            return codec.decode_event(line)
        return codec.decode_reply(line, self._asked.popleft() if self._asked else m.Ping)

    def reply(self, patience: float | None = None) -> Any:
        """The next reply; events before it are kept. Raises WireRefused."""
        while isinstance(packet := self.packet(patience), m.Event | m.StoredMessage):
            self.events.append(packet)
        if isinstance(packet, m.Failed):
            raise WireRefused(packet)
        return packet

    def ask(self, build: Callable[[int], m.Request]) -> Any:
        """Sends a request and waits for its reply. Raises WireRefused, Gone."""
        self.say(build)
        return self.reply()

    def event(self, kind: type[T], patience: float | None = None) -> T:
        """The next event of a kind; others before it are dropped."""
        while self.events:
            if isinstance(found := self.events.popleft(), kind):
                return found
        while not isinstance(found := self.packet(patience), kind):
            pass
        return found

    def gone(self, patience: float | None = None) -> list[bytes]:
        """Reads until the server has closed the connection; answers the last lines. Raises NotInTime."""
        lines = []
        with contextlib.suppress(Gone):
            while True:
                lines.append(self.line(patience))
        return lines

    def close(self) -> None:
        """Drops the connection."""
        self._socket.close()


class OpenWire(Wire):
    """The same without TLS, for the daemon's listener on loopback."""

    def __init__(self, port: int, **more: Any) -> None:
        self._raw = bytearray()
        super().__init__(port, **more)

    def _handshake(self) -> None:
        pass

    def _export(self) -> bytes:
        return b""

    def _came(self, data: bytes) -> None:
        self._raw += data

    def _take(self) -> bool:
        if not self._raw:
            return False
        self._buffer.feed(bytes(self._raw))
        self._raw.clear()
        self._lines.extend(self._buffer.lines())
        return True

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._send(data)


@functools.lru_cache
def stretched(password: str, salt: bytes) -> Stretched:
    """`stretch`, paid once for each pair: the people below all have the same salt."""
    return stretch(password, salt)


@functools.lru_cache
def shared_rsa() -> rsa.RSAPrivateKey:
    """One RSA key for all people of the wire: making one takes up to 2 s."""
    return p.new_rsa()


@dataclass
class Person:
    """An account made by `register`, with its one device; usable on one connection after the other."""

    name: str
    srv: str
    identity: ed25519.Ed25519PrivateKey
    device: ed25519.Ed25519PrivateKey
    keys: AccountKeys
    token: str
    sent: dict[str, list[str]] = field(default_factory=dict)  # ids of its messages by conversation id

    @classmethod
    def register(cls, wire: Wire, name: str, password: str = PASSWORD, invite: str | None = None) -> Person:
        """Makes an account; the connection is logged in then. Raises WireRefused."""
        srv, private = wire.srv, shared_rsa()
        identity, device = p.new_ed25519(), p.new_ed25519()
        certificate = certify_device(identity=identity, device=device, srv=srv, user=name, name="wire", created=1)
        bundle = sign_device_list(
            identity=identity,
            srv=srv,
            user=name,
            version=1,
            previous="",
            rk_der=p.rsa_public_der(private.public_key()),
            certificates=[certificate],
        )
        secret = stretched(password, bytes(SALT_BYTES))
        account_secrets = sealed_backup.AccountSecrets(identity, (private,), 1, {})
        blob = sealed_backup.seal_backup(
            secret.backup_key(), account_secrets, srv=srv, user=name, version=1, nonce=os.urandom(p.NONCE_BYTES)
        )
        assert wire.hello is not None
        proof = login_proof(device, lk=wire.hello.lk, exporter=wire.exporter, nonce=wire.hello.nonce, user=name)
        reply = wire.ask(
            lambda number: m.Register(
                id=number,
                user=name,
                password=secret.auth_token(srv, name),
                salt=secret.salt,
                keys=m.KeyBundle.of(bundle),
                proof=proof,
                backup=m.Backup(version=1, blob=blob),
                invite=invite,
            )
        )
        keys = verify_bundle(reply.keys, srv=srv, user=name)
        return cls(name, srv, identity, device, keys, reply.token)

    @property
    def dev(self) -> str:
        """The id of the device."""
        return p.key_id(p.ed25519_public(self.device))

    def resume(self, wire: Wire) -> m.LoginOk:
        """Logs in on a new connection by the session's token."""
        proof = login_proof(
            self.device, lk=wire.hello.lk, exporter=wire.exporter, nonce=wire.hello.nonce, user=self.name
        )
        reply: m.LoginOk = wire.ask(lambda number: m.Resume(id=number, token=self.token, proof=proof))
        return reply

    def sync(self, wire: Wire, since: Mapping[str, int] | None = None, **flags: bool) -> m.SyncOk:
        """Asks for what was missed; it follows as events. Rooms are named as people do."""
        cursors = {}
        for name, seq in (since or {}).items():
            log = None if is_private(name) else self.log(wire, name)
            cursors[name if log is None else log.id] = seq
        reply: m.SyncOk = wire.ask(lambda number: m.Sync(id=number, since=cursors, **flags))
        return reply

    def log(self, wire: Wire, room: str) -> RoomLog | None:
        """A room's log, replayed; no signature is checked. None where there is no such room."""
        log = RoomLog(self.srv)
        try:
            while True:
                after = log.count
                page: m.RoomLogOk = wire.ask(lambda number, after=after: m.RoomLog(id=number, room=room, after=after))
                for act in page.acts:
                    log.append(SignedEvent(act.signed, act.sig))
                if not page.more:
                    return log
        except WireRefused as refused:
            if refused.code != "no_such_room":
                raise
            return None

    def join(self, wire: Wire, room: str) -> m.ActOk:
        """Enters a room, making it where there is none."""
        log = self.log(wire, room)
        made: dict[str, Any] = {
            "srv": self.srv, "by": self.name, "ik": self.keys.ik, "dev": self.dev, "at": time.time_ns() // 1_000_000,
            "dl": (self.keys.version, self.keys.digest),
        }  # fmt: skip
        event: AnyEvent
        if log is None:
            salt = os.urandom(16)
            event = Create(**made, room="", after="", name=room, salt=salt, join="open", invite="member", env=1)
        else:
            event = Join(**made, room=log.id, after=log.head, own=log.standing.get(self.name, ""))
        signed = sign_event(self.device, event)
        reply: m.ActOk = wire.ask(lambda number: m.DoAct(id=number, room=room, signed=signed.data, sig=signed.sig))
        return reply

    def readers(self, wire: Wire, room: str) -> tuple[RoomLog, list[AccountKeys]]:
        """A room's log, and its members' keys, verified."""
        log = self.log(wire, room)
        assert log is not None
        users = tuple(log.members)
        bundles = wire.ask(lambda number: m.Keys(id=number, users=users)).keys
        return log, [verify_bundle(bundle, srv=self.srv, user=user) for user, bundle in bundles.items()]

    def send(self, wire: Wire, room: str, *texts: str) -> list[m.SendOk]:
        """Seals messages for the members of a room, sends all at once and waits for the acknowledgements."""
        log, readers = self.readers(wire, room)
        for text in texts:
            package = self.package(text, log, readers)
            wire.say(lambda number, package=package: m.Send(id=number, room=room, package=package))
        return [wire.reply() for _ in texts]

    def package(self, text: str, log: RoomLog | None, readers: Sequence[AccountKeys], **changes: Any) -> m.Package:
        """The next message of this device, as part of a packet.

        Args:
            log: of the room; None: to the other one of these readers alone.
            changes: of fields of its position.
        """
        if log is None:
            room, head = private_conversation(self.keys.ik, next(k.ik for k in readers if k.user != self.name)), ""
        else:
            room, head = log.id, log.head
        sent = self.sent.setdefault(room, [])
        position: dict[str, Any] = {
            "room": room,
            "author": self.name,
            "dev": self.dev,
            "dl": (self.keys.version, self.keys.digest),
            "ctr": len(sent) + 1,
            "prev": sent[-1] if sent else "",
            "mid": os.urandom(16).hex(),
            "head": head,
            "th": (0, transcript_start(room)),
            "at": time.time_ns() // 1_000_000,
        }
        sealed = seal(text, readers, Position(**(position | changes)), self.device)
        sent.append(sealed.id)
        return m.Package(
            encrypted_message=sealed.encrypted_message,
            encrypted_keys=dict(sealed.encrypted_keys),
            kids=dict(sealed.kids),
            hdr=sealed.hdr,
            bind=sealed.bind,
            sig=sealed.sig,
        )

    def open(self, message: m.StoredMessage) -> str:
        """The text of a message; its header and signature are not looked at. Raises KeyError, Undecryptable."""
        key = unwrap(shared_rsa(), message.package.encrypted_keys[self.name])
        return Fernet(key).decrypt(message.package.encrypted_message.encode()).decode()


# --- the test case ----------------------------------------------------------------------------------------------------


def exists(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class IntegrationTestCase(SynchronousTestCase):
    """Gives tests daemons and clients that are gone afterwards, and fails those in which the daemon had a fault."""

    def setUp(self) -> None:
        """A directory of its own, with a path short enough for a socket."""
        self.directory = Path(tempfile.mkdtemp(prefix="securechat-test-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.addCleanup(self._nothing_is_left)
        self._pids: list[int] = []

    def _nothing_is_left(self) -> None:
        left = [pid for pid in self._pids if exists(pid)]
        self.assertEqual([], left, "processes outlived their test")

    def _no_faults(self, daemon: Daemon) -> None:
        self.assertEqual([], daemon.faults(), daemon.said()[-4000:])

    def daemon(self, *options: str, name: str = "daemon", **more: Any) -> Daemon:
        """A daemon that runs; arguments as `Daemon`'s."""
        daemon = Daemon(self.directory / name, *options, **more)
        self.addCleanup(self._no_faults, daemon)
        self.addCleanup(daemon.end)
        return daemon.start()

    def client(self, name: str, line: object, *options: str, **more: Any) -> PlainClient:
        """A plain client whose data directory is called `name`; arguments as `PlainClient`'s."""
        client = PlainClient(self.directory / name, line, *options, **more)
        self._pids.append(client.process.pid)
        self.addCleanup(client.end)
        return client

    def registered(self, line: object, *names: str, room: str = "") -> list[PlainClient]:
        """Plain clients, each logged in to a new account of its name; in a room, entered in this order, if given."""
        clients = [self.client(name, line, "--keep-going") for name in names]
        for name, client in zip(names, clients, strict=True):
            client.type(f"/register {name} {PASSWORD}")
        for client in clients:
            client.wait_for("Welcome")
        for number, client in enumerate(clients if room else ()):
            client.ask(f"/join {room}", f" {room}, an open room")
            for other in clients[:number]:  # who has not heard of it seals for those before
                other.wait_for(f"[{room}] * {names[number]} joined")
        return clients

    def script(self, name: str, line: object, typed: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Runs a plain client to its end on a script."""
        (self.directory / name).mkdir(exist_ok=True)
        return run(client_command(self.directory / name, line, *options), self.directory, typed)

    def terminal(self, name: str, line: object, *options: str) -> TerminalClient:
        """A client in a pseudo-terminal."""
        client = TerminalClient(self.directory / name, line, *options)
        self._pids.append(client.child.pid)
        self.addCleanup(client.end)
        return client

    def wire(self, daemon: Daemon, **more: Any) -> Wire:
        """A connection to a daemon."""
        wire = Wire(daemon.port, srv=daemon.line.id, **more)
        self.addCleanup(wire.close)
        return wire

    def person(self, daemon: Daemon, name: str, *, room: str = "") -> tuple[Person, Wire]:
        """An account of the wire, logged in and caught up; in a room, if given."""
        wire = self.wire(daemon)
        person = Person.register(wire, name)
        person.sync(wire)
        if room:
            person.join(wire, room)
        return person, wire
