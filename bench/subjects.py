"""Who is measured: the daemon, the two C servers, and the peers that are installed."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.accounts import Towns
from bench.processes import HERE, PATIENCE, BenchError, Machine, end, free_port, wait_for_port
from securechat.crypto.certificate import self_signed

# As the peers' flood limits are raised, so are ours; mass logins use sessions, so bcrypt's cost matters to none.
SETTINGS: Final[Mapping[str, object]] = {
    "bcrypt_rounds": 4,
    "messages_per_second": 1e9,
    "message_burst": 1e9,
    "logins_per_account": 1_000_000,
    "logins_per_address": 1_000_000,
}


@dataclass(frozen=True)
class Place:
    """A server that runs.

    Attributes:
        arguments: what the generator needs to reach it.
        data: the daemon's data directory.
    """

    process: subprocess.Popen[bytes]
    port: int
    arguments: tuple[str, ...]
    log: Path
    data: Path | None = None
    tls_port: int = 0


@dataclass(frozen=True)
class Subject:
    """One column of the comparison.

    Attributes:
        kind: "daemon", "reference", "naive", or the name of a peer's program.
        protocol: the generator's name for what it speaks.
        mode: what a reference server is told.
        window: at most so many messages of a sender under way, where more would only queue; None: the scenario's.
        environ: for the process.
        arguments: more of them for the generator.
    """

    name: str
    kind: str
    protocol: str
    mode: str = ""
    tls: bool = False
    window: int | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether its program is not installed."""
        return self.kind in PROGRAMS and find(self.kind) is None


# How each peer is started, with its configuration in the place of CONF.
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "ngircd": ("ngircd", "-n", "-f", "CONF"),
    "inspircd": ("inspircd", "--runasroot", "--nofork", "--config=CONF"),
    "nats": ("nats-server", "-c", "CONF"),
    "mosquitto": ("mosquitto", "-c", "CONF"),
    "prosody": ("prosody", "-F", "--config", "CONF"),
}
# twistd -n securechat, by the Python that runs the bench.
_TWISTD: Final = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
CONFIGURATIONS: Final = {name: f"{name}.cfg.lua" if name == "prosody" else f"{name}.conf" for name in PROGRAMS}

# ngircd loses connections when hundreds arrive or join at once; inspircd lets each wait for a timer of its own.
_GENTLE: Final = ("-C", "64", "-J", "20")
_EAGER: Final = ("-C", "1000")

SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        Subject("securechat", "daemon", "v2"),
        Subject("securechat-v1", "daemon", "v1"),
        Subject("naive", "naive", "v1"),
        Subject("c-imm", "reference", "plain", mode="each"),
        Subject("c-batch", "reference", "plain", mode="batch"),
        Subject("ngircd", "ngircd", "irc", arguments=_GENTLE),
        Subject("inspircd", "inspircd", "irc", arguments=_EAGER),
        Subject("nats", "nats", "nats", environ={"GOMAXPROCS": "1"}),
        Subject("mosquitto", "mosquitto", "mqtt1"),
        Subject("mosquitto-qos0", "mosquitto", "mqtt0"),
        Subject("prosody", "prosody", "xmpp", window=4),
        Subject("securechat-tls", "daemon", "v2", tls=True),
        Subject("ngircd-tls", "ngircd", "irc", tls=True, arguments=_GENTLE),
        Subject("mosquitto-tls", "mosquitto", "mqtt1", tls=True),
    )
}
PEERS: Final = tuple(PROGRAMS)


def find(kind: str) -> str | None:
    """The program of a peer; Debian puts some where only root looks."""
    return shutil.which(PROGRAMS[kind][0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Stage:
    """Starts subjects, one at a time, and knows the generator's part of it.

    Args:
        directory: for everything that is written; the caller removes it.
        towns: where accounts come from.
    """

    def __init__(self, directory: Path, machine: Machine, towns: Towns, reference: Path) -> None:
        self.directory = directory
        self.machine = machine
        self.towns = towns
        self.reference = reference
        self._runs = 0

    def fresh(self) -> Path:
        """An empty directory for one server."""
        self._runs += 1
        path = self.directory / f"run{self._runs}"
        path.mkdir()
        return path

    @contextmanager
    def running(
        self, subject: Subject, clients: int, rooms: int, *, settings: Mapping[str, object] | None = None, **town: Any
    ) -> Iterator[Place]:
        """A subject with nobody connected, and gone afterwards.

        Args:
            settings: of the daemon, over `SETTINGS`.
            town: what its directory shall have beside clients and rooms (see `accounts.settle`).

        Raises:
            BenchError: it does not start.
        """
        directory = self.fresh()
        if subject.kind == "daemon":
            prepared, _ = self.towns.of(clients, rooms, **town)
            place = self._daemon_with(subject, directory, prepared, settings or {})
        elif subject.kind == "reference":
            port = free_port()
            place = self._start(subject, [str(self.reference), str(port), subject.mode], directory, port, port)
        elif subject.kind == "naive":
            port = free_port()
            prepared, _ = self.towns.of(clients, rooms, **town)
            program = [sys.executable, str(HERE / "reference" / "naive.py")]
            command = [*program, str(port), str(prepared / "accounts"), str(directory / "naive.db")]
            subject = replace(
                subject,
                arguments=("-a", str(prepared / "accounts"), "-k", str(prepared / "keys")),
                environ={"PYTHONPATH": str(HERE.parent)},
            )
            place = self._start(subject, command, directory, port, port)
        else:
            place = self._peer(subject, directory)
        try:
            time.sleep(0.3)  # what it still does after it listens is not of the measurement
            yield place
        finally:
            end(place.process)
            shutil.rmtree(directory, ignore_errors=True)

    def _start(self, subject: Subject, command: Sequence[str], directory: Path, port: int, reached: int) -> Place:
        log = directory / "log"
        process = self.machine.spawn(command, self.machine.server_core, log, subject.environ, cwd=directory)
        try:
            wait_for_port(port, process, log)
        except BaseException:
            end(process)
            raise
        arguments = ("-p", subject.protocol, "-o", str(reached), *(("-t",) if subject.tls else ()))
        return Place(process, reached, (*arguments, *subject.arguments, "-P", str(process.pid)), log)

    def _peer(self, subject: Subject, directory: Path) -> Place:
        port, tls_port = free_port(), free_port()
        key, chain = self_signed(["localhost"], datetime.now(UTC))
        (directory / "key.pem").write_bytes(key)
        (directory / "cert.pem").write_bytes(chain)
        (directory / "motd").write_text("bench\n", encoding="ascii")
        user = pwd.getpwuid(os.getuid())
        text = (HERE / "peers" / CONFIGURATIONS[subject.kind]).read_text(encoding="ascii")
        for name, value in {
            "PORT": port,
            "TLS_PORT": tls_port,
            "DIR": directory,
            "USER": user.pw_name,
            "UID": user.pw_uid,
            "GID": user.pw_gid,
            "SECRET": secrets.token_hex(8),
        }.items():
            text = text.replace(f"@{name}@", str(value))
        configuration = directory / CONFIGURATIONS[subject.kind]
        configuration.write_text(text, encoding="ascii")
        program = find(subject.kind)
        if program is None:
            raise BenchError(f"{subject.kind} is not installed")
        words = [word.replace("CONF", str(configuration)) for word in PROGRAMS[subject.kind][1:]]
        return self._start(subject, [program, *words], directory, port, tls_port if subject.tls else port)

    def _daemon_with(self, subject: Subject, directory: Path, prepared: Path, settings: Mapping[str, object]) -> Place:
        self.towns.copy(prepared, directory / "data")
        return self.at(self.daemon(directory, **settings), subject, prepared)

    @staticmethod
    def at(place: Place, subject: Subject, prepared: Path) -> Place:
        """A daemon as the generator reaches it."""
        reached = place.tls_port if subject.tls else place.port
        arguments = (
            "-p", subject.protocol, "-o", str(reached), *(("-t",) if subject.tls else ()),
            "-a", str(prepared / "accounts"), "-k", str(prepared / "keys"), "-P", str(place.process.pid),
        )  # fmt: skip
        return replace(place, port=reached, arguments=arguments)

    def daemon(self, directory: Path, **settings: object) -> Place:
        """The daemon on ``directory/data``, as a user starts it, with a listener in clear beside the one with TLS."""
        port, tls_port = free_port(), free_port()
        configuration = directory / "daemon.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in {**SETTINGS, **settings}.items()]
        configuration.write_text("\n".join([*lines, ""]), encoding="ascii")
        log = directory / "log"
        said = log.stat().st_size if log.exists() else 0  # by an earlier daemon on this directory
        command = [
            *_TWISTD, "securechat", "--config", str(configuration), "--data-dir", str(directory / "data"),
            "--listen", f"127.0.0.1:{tls_port}", "--insecure-loopback", f"127.0.0.1:{port}",
        ]  # fmt: skip
        root = str(HERE.parent)
        process = self.machine.spawn(command, self.machine.server_core, log, {"PYTHONPATH": root}, cwd=directory)
        deadline = time.monotonic() + PATIENCE
        while b"Connect with" not in log.read_bytes()[said:]:
            if process.poll() is not None or time.monotonic() > deadline:
                end(process)
                raise BenchError(f"the daemon does not start: {log.read_text(errors='replace')[-600:]}")
            time.sleep(0.02)
        return Place(process, port, (), log, directory / "data", tls_port)


def faults(place: Place) -> list[str]:
    """Lines of a daemon's log that only a fault of its own writes."""
    said = place.log.read_text(encoding="utf-8", errors="replace")
    return [line for line in said.splitlines() if "Traceback" in line or "Unhandled" in line]
