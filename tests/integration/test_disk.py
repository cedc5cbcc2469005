"""A disk that is full, or fails; and the order in which the daemon writes, syncs and answers."""

from __future__ import annotations

import os
import re
import resource
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import SkipTest

from securechat.wire import messages as m
from tests import shim
from tests.integration.harness import (
    PATIENCE,
    TWIST,
    Daemon,
    IntegrationTestCase,
    OpenWire,
    Person,
    Wire,
    WireRefused,
    free_port,
    until,
)
from tests.integration.load import SETTINGS, Load

_TRIES: Final = 5  # sends while the trouble lasts
_MEBIBYTE: Final = 1024 * 1024
_TMPFS: Final = 8 * _MEBIBYTE
_PLUS: Final = 20_000  # bytes that a file may still grow: less than two pages


class DiskCase(IntegrationTestCase):
    """Tests with a daemon whose complaints about the disk are no faults of its own."""

    def rough_daemon(self, name: str = "daemon", **more: Any) -> Daemon:
        """A daemon that runs."""
        daemon = Daemon(self.directory / name, **{"settings": SETTINGS, **more})
        self.addCleanup(daemon.end)
        return daemon.start()

    def meet(self, daemon: Daemon) -> None:
        """Two people in a room, and a message between them."""
        self.server = daemon
        self.alice, self.sending = self.person(daemon, "alice", room="general")
        self.bob, self.reading = self.person(daemon, "bob", room="general")
        self.acked: list[str] = []
        self.send("before")

    def package(self, text: str) -> m.Package:
        log, readers = self.alice.readers(self.sending, "general")
        return self.alice.package(text, log, readers)

    def put(self, package: m.Package) -> m.SendOk:
        """Sends a package as it is. Raises WireRefused."""
        reply: m.SendOk = self.sending.ask(lambda number: m.Send(id=number, room="general", package=package))
        return reply

    def send(self, text: str) -> None:
        """Sends a text; it must be stored, behind all before it, and reach bob."""
        self.stored(self.package(text), text)

    def stored(self, package: m.Package, text: str) -> None:
        """The same with a package that was made before."""
        reply = until(lambda: self._attempt(package), "the send is taken again", PATIENCE)
        self.acked.append(text)
        self.assertEqual(len(self.acked), reply.seq)
        message = self.reading.event(m.StoredMessage)
        self.assertEqual((reply.seq, text), (message.seq, self.bob.open(message)))

    def _attempt(self, package: m.Package) -> m.SendOk | None:
        try:
            return self.put(package)
        except WireRefused as refused:
            if refused.code in ("try_again", "full"):
                return None
            raise

    def history(self) -> list[str]:
        """What bob reads, on the connection he has."""
        page = self.reading.ask(lambda number: m.History(id=number, room="general", limit=100))
        return [self.bob.open(message) for message in page.messages]

    def trouble(self, code: str, text: str) -> None:
        """While the trouble lasts: a text is refused again and again, and what is stored is read."""
        self._waiting = self.package(text)
        for _ in range(_TRIES):
            refused = self.assertRaises(WireRefused, self.put, self._waiting)
            self.assertEqual(code, refused.code, str(refused))
            self.assertEqual(self.acked, self.history())

    def over(self, text: str) -> None:
        """Once the trouble is over: the very bytes that were refused are stored, and what follows."""
        self.stored(self._waiting, text)
        self.send(f"after {text}")
        self.assertEqual(self.acked, self.history())

    def nothing_lost(self) -> None:
        """Everything that was acknowledged outlives a kill -9, in its order, in a sound database."""
        self.assertEqual(self.acked, self.after_a_kill())

    def after_a_kill(self) -> list[str]:
        """What bob reads from a daemon that was killed, found its database sound, and was started again."""
        self.server.kill()
        with closing(sqlite3.connect(self.server.data / "chat.db")) as connection:
            self.assertEqual(("ok",), connection.execute("PRAGMA integrity_check").fetchone())
        self.server.restart()
        with Wire(self.server.port, srv=self.bob.srv) as wire:
            self.bob.resume(wire)
            self.reading = wire
            return self.history()


class FailingTests(DiskCase):
    """Calls of the system that answer EIO for the files of the database."""

    def setUp(self) -> None:
        super().setUp()
        if shim.library() is None:
            raise SkipTest(shim.MISSING)
        self.faults = self.directory / "faults"
        self.environ = shim.environment(self.directory / "daemon" / "server", faults=self.faults)

    def test_failing_calls(self) -> None:
        """While writing or syncing fails, sends are refused and reads go on; then all goes on without a restart."""
        self.meet(self.rough_daemon(environ=self.environ))
        for kinds in ((shim.SYNCS,), (shim.WRITES,), (shim.SYNCS, shim.WRITES)):
            text = " and ".join(kinds)
            with shim.failing(self.faults, *kinds):
                self.trouble("try_again", text)
            self.over(text)
        self.assertIn("The database does not work at the moment", self.server.said())
        self.nothing_lost()

    def test_killed_while_they_fail(self) -> None:
        """A daemon that is killed while its disk fails has, after the next start, what it acknowledged."""
        self.meet(self.rough_daemon(environ=self.environ))
        with shim.failing(self.faults, shim.SYNCS):
            self.trouble("try_again", "never acknowledged")
            self.server.kill()
        # What was refused may be stored all the same: its outcome was unknown.
        self.assertIn(self.after_a_kill(), (self.acked, [*self.acked, "never acknowledged"]))
        with Wire(self.server.port, srv=self.alice.srv) as wire:
            self.alice.resume(wire)
            self.sending = wire
            self.assertEqual(len(self.acked) + 1, self.put(self._waiting).seq)

    def test_under_load(self) -> None:
        """Under load, with calls that fail now and then and a kill in between, the history checker finds nothing."""
        seed = int(os.environ.get("SECURECHAT_TEST_SEED") or secrets.randbits(32))
        daemon = self.rough_daemon(environ=self.environ)
        load = Load(daemon, seed).start()
        self.addCleanup(load.abandon)
        for number in range(8):
            load.run_for(load.random.uniform(0.1, 0.4))
            with shim.failing(self.faults, load.random.choice((shim.SYNCS, shim.WRITES))):
                load.run_for(load.random.uniform(0.02, 0.3))
                if number % 4 == 3:
                    daemon.kill()
            if not daemon.alive:
                daemon.restart()
        load.moving()
        load.settle(20.0)
        self.assertEqual([], load.violations()[:10], f"seed {seed}, {load.figures()}")
        self.assertEqual({"try_again"}, set(load.refused), f"seed {seed}")
        self.assertEqual("ok", load.integrity())


class FullTests(DiskCase):
    """No space left."""

    def test_file_size_limit(self) -> None:
        """Under a limit on the size of files sends are refused and reads go on; without it, all goes on."""
        self.meet(self.rough_daemon())
        pid = self.server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        size = (self.server.data / "chat.db-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + _PLUS, before[1]))
        self.trouble("try_again", "too much")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        self.over("too much")
        self.nothing_lost()

    def test_full_file_system(self) -> None:
        """On a full file system sends are refused as `full` and reads go on; with space again, all goes on."""
        with self._small_file_system(self.directory / "daemon" / "server") as place:
            self.meet(self.rough_daemon())
            filler = place / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:  # no space left
                    pass
            self.trouble("full", "too much")
            filler.unlink()
            self.over("too much")
            self.nothing_lost()
            self.server.end()

    @contextmanager
    def _small_file_system(self, place: Path) -> Iterator[Path]:
        place.mkdir(parents=True)
        mount = shutil.which("mount")
        if mount is None or os.geteuid() != 0:
            raise SkipTest("needs root, to mount a small file system")
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={_TMPFS},mode=700", "tmpfs", str(place)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SkipTest(f"cannot mount a small file system here: {done.stderr.decode().strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


# --- the order of calls -----------------------------------------------------------------------------------------------

_CALLS: Final = "pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg"
_SHOWN: Final = 20_000  # bytes of each argument: more than a page
_LINE: Final = re.compile(r"^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)$")


class Trace:
    """What strace wrote of a daemon, as the moments that count; a moment is the number of a line."""

    def __init__(self, text: str) -> None:
        self._writes: list[tuple[int, str]] = []  # to the WAL: when it began, what
        self._syncs: list[tuple[int, int]] = []  # of the WAL: when it began, when it had succeeded
        self._said: list[tuple[int, str]] = []  # to a socket: when it began, what
        begun: dict[str, tuple[int, bool]] = {}
        for at, line in enumerate(text.splitlines()):
            match = _LINE.match(line)
            if match is None:
                continue
            pid, call, resumed, rest = match.groups()
            if resumed in ("fdatasync", "fsync"):
                start, ours = begun.pop(pid)
                self._synced(start, at, ours, rest)
            elif call in ("fdatasync", "fsync"):
                ours = _of_wal(rest)
                if rest.endswith("<unfinished ...>"):
                    begun[pid] = at, ours
                else:
                    self._synced(at, at, ours, rest)
            elif call == "pwrite64" and _of_wal(rest):
                self._writes.append((at, rest))
            elif call is not None and call != "pwrite64":
                self._said.append((at, rest))

    def _synced(self, start: int, end: int, ours: bool, rest: str) -> None:
        if ours and rest.rstrip().endswith("= 0"):
            self._syncs.append((start, end))

    def disorder(self, mid: str, reply: bytes) -> str:
        """What is wrong with a message: it was not written, synced and answered in this order. Empty: nothing."""
        written = next((at for at, what in self._writes if _hex(bytes.fromhex(mid)) in what), None)
        answered = next((at for at, what in self._said if _hex(reply) in what), None)
        if written is None or answered is None:
            return f"{mid}: written at {written}, answered at {answered}"
        if not any(written < start and end < answered for start, end in self._syncs):
            return f"{mid}: written at {written}, not synced before it was answered at {answered}"
        return ""


def _of_wal(rest: str) -> bool:
    """Whether a call is about the WAL; some versions of strace write even names in hex."""
    descriptor, _, _ = rest.partition(">")
    return descriptor.endswith(("chat.db-wal", _hex(b"chat.db-wal")))


def _hex(data: bytes) -> str:
    """As `strace -xx` writes it."""
    return "".join(f"\\x{byte:02x}" for byte in data)


class OrderTests(DiskCase):
    """strace's word on a live daemon."""

    def setUp(self) -> None:
        super().setUp()
        found = shutil.which("strace")
        if found is None:
            raise SkipTest("needs strace")
        tried = subprocess.run([found, "-D", "-o", os.devnull, "true"], capture_output=True, check=False)
        if tried.returncode:
            raise SkipTest(f"strace may not trace here: {tried.stderr.decode().strip()}")
        self.strace = found

    def test_order(self) -> None:
        """Every message is in the WAL, and the WAL on disk, before a byte of its acknowledgement is sent."""
        disorder = self._disorder("sound", TWIST)
        self.assertEqual([""] * len(disorder), disorder)

    def test_early_ack(self) -> None:
        """A mutant that acknowledges before the commit is found out."""
        disorder = self._disorder("early", ("-m", "tests.integration.mutants", "early_ack", "--"))
        self.assertTrue(any("not synced" in each for each in disorder), disorder)

    def _disorder(self, name: str, launcher: Sequence[str]) -> list[str]:
        """What is wrong with the messages sent to a daemon, one after the other and many at once."""
        trace, port = self.directory / f"{name}.trace", free_port()
        prefix = [
            self.strace, "-D", "-f", "-y", "-xx", "-s", str(_SHOWN), "-e", f"trace={_CALLS}", "-o", str(trace),
        ]  # fmt: skip
        daemon = self.rough_daemon(
            name, prefix=prefix, launcher=launcher, settings=SETTINGS | {"insecure_loopback": f"127.0.0.1:{port}"}
        )
        mids: dict[int, str] = {}
        with OpenWire(port, srv=daemon.line.id) as wire:
            alice = Person.register(wire, "alice")
            alice.sync(wire)
            alice.join(wire, "general")
            log, readers = alice.readers(wire, "general")
            for together in (1, 1, 1, 20, 1, 20):
                for _ in range(together):
                    mid = secrets.token_hex(16)
                    package = alice.package("text", log, readers, mid=mid)
                    mids[
                        wire.say(lambda number, package=package: m.Send(id=number, room="general", package=package))
                    ] = mid
                for _ in range(together):
                    wire.reply()
        daemon.stop()
        end = f"{daemon.process.pid} +++"
        until(lambda: end in trace.read_text()[-1000:], "strace has written everything")
        found = Trace(trace.read_text())
        return [found.disorder(mid, b'"id":%d}\n' % number) for number, mid in mids.items()]
