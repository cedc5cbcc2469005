"""Power cuts, played through: a real store writes, the shim notes all it does to its files, and from that crash images
are made: what was synced, and of the rest whatever a disk may have got to, in any order, torn at sectors.

    python -m tests.powercut DATABASE LOG SEED MESSAGES SYNCHRONOUS AUTOCHECKPOINT FAULTS DONE WRITE_ANEW

is the process that writes. A failed sync drops what it should have synced, for good: so does the kernel, which marks
the pages clean, and lets the next sync succeed without them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, DeferredList

from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.errors import Refused
from securechat.storage import connection, migrate
from securechat.storage.interface import NewMessage
from securechat.storage.sqlite import SQLiteStore
from tests import shim
from tests.doubles import gathered, hex_id, new_account, new_message
from tests.integration.harness import environment

SENDERS: Final = ("alice", "bob", "carol")
OFF, NORMAL, FULL = 0, 1, 2  # PRAGMA synchronous
KINDS: Final[tuple[dict[str, int], ...]] = (
    {"messages": 80, "autocheckpoint": 24},  # the WAL starts over many times
    {"messages": 80},  # as the daemon does
    {"messages": 8, "faulty_lives": 6},  # many restarts after a sync that failed
    {"messages": 50, "faulty_lives": 2, "autocheckpoint": 64},
)
"""Recordings of which each is cut differently."""
_DATABASE: Final = "chat.db"
_SECTOR: Final = 512  # bytes that a disk writes whole
_LARGEST: Final = 6000  # bytes of a body
_FAULTY: Final = 0.25  # of the rounds of a life with faults
_UPGRADE: Final = (
    "import pathlib, sys; from securechat.storage import migrate; migrate.upgrade(*map(pathlib.Path, sys.argv[1:]))"
)
_STALL: Final = 60.0  # seconds that one life may take


# --- the process that writes ------------------------------------------------------------------------------------------


def message(seed: int, sender: str, number: int) -> NewMessage:
    """A sender's message of that number: the same bytes, whenever it is sent."""
    dice = random.Random(f"{seed} {sender} {number}")
    return new_message(sender, SENDERS, number, shared=dice.randbytes(dice.randint(10, _LARGEST)))


async def _gather(store: SQLiteStore) -> None:
    """Makes the accounts, and a room of them."""
    for user in SENDERS:
        await store.register(new_account(user), invite_hash=None, now=1)
    for signed in gathered(SENDERS).events:
        await store.act("ops", signed, wait=0.0, now=1)


async def _write(arguments: Sequence[str]) -> None:
    """Sends messages, a few at a time as they come together by chance, and says each one that is acknowledged."""
    path, log, seed, messages, synchronous, autocheckpoint = Path(arguments[0]), *map(str, arguments[1:6])
    faults, done = Path(arguments[6]) if arguments[6] else None, [int(number) for number in arguments[7].split(",")]
    connection._PRAGMAS |= {"synchronous": int(synchronous), "wal_autocheckpoint": int(autocheckpoint)}
    if not int(arguments[8]):
        migrate._write_anew = lambda wal: None
    told = os.open(log, os.O_WRONLY | os.O_APPEND)
    clock: Any = reactor
    store = SQLiteStore(path, KeyEncryptionKeys(path.with_suffix(".key").read_text()), reactor=clock)
    store.open()
    if not any(done):
        await _gather(store)
        shim.say(told, "gathered")
    counts = dict(zip(SENDERS, done, strict=True))
    dice = random.Random(f"{seed} {done}")
    while sum(counts.values()) < int(messages):
        together = [(user, counts[user] + n) for user in SENDERS for n in range(1, dice.choice((0, 1, 1, 2, 5)) + 1)]
        dice.shuffle(together)
        together.sort(key=lambda each: each[1])
        broken = faults is not None and dice.random() < _FAULTY
        if broken and faults is not None:
            with shim.failing(faults, dice.choice((shim.SYNCS, shim.SYNCS, shim.WRITES))):
                await _send(store, told, int(seed), together, counts)
        else:
            await _send(store, told, int(seed), together, counts)
    if faults is None:
        await store.close()
    else:  # dies after a commit that failed, which its next life finds in the page cache
        with shim.failing(faults, shim.SYNCS):
            await _send(store, told, int(seed), [(user, counts[user] + 1) for user in SENDERS], counts)
        os.kill(os.getpid(), signal.SIGKILL)


async def _send(
    store: SQLiteStore, told: int, seed: int, together: Sequence[tuple[str, int]], counts: dict[str, int]
) -> None:
    outcomes = await DeferredList(
        [_acknowledged(store, told, message(seed, user, number), user, number) for user, number in together],
        consumeErrors=True,
    )
    for (stored, outcome), (user, number) in zip(outcomes, together, strict=True):
        if stored:
            counts[user] = max(counts[user], number)
        else:
            outcome.trap(Refused)


def _acknowledged(store: SQLiteStore, told: int, message: NewMessage, user: str, number: int) -> Deferred[Any]:
    answer: Deferred[Any] = Deferred.fromCoroutine(store.append(message))
    return answer.addCallback(lambda _: shim.say(told, f"{user} {number}"))


# --- a recording ------------------------------------------------------------------------------------------------------


def record(
    directory: Path,
    *,
    seed: int,
    messages: int,
    synchronous: int = FULL,
    autocheckpoint: int = 1000,
    faulty_lives: int = 0,
    write_anew: int = 1,
) -> Path:
    """Lets a process write below `directory`; answers its log.

    Args:
        messages: acknowledged in each life.
        write_anew: 0: a mutant that uses the WAL of a crash as it reads.
        faulty_lives: of processes whose disk fails now and then, each killed after such a failure, before the last one.

    Raises:
        AssertionError: the process failed.
    """
    data, log, faults = directory / "data", directory / "log", directory / "faults"
    data.mkdir(parents=True)
    path = data / _DATABASE
    path.with_suffix(".key").write_text(new_key_file())
    for life in range(faulty_lives + 1):
        last = life == faulty_lives
        counts = acknowledged(shim.read(log)) if log.exists() else Counter[str]()
        done = ",".join(str(counts[user]) for user in SENDERS)
        wanted = counts.total() + messages
        arguments = [path, log, seed, wanted, synchronous, autocheckpoint, "" if last else faults, done, write_anew]
        found = environment(directory) | shim.environment(data, log=log, faults=None if last else faults)
        _run(["-m", "tests.powercut", *map(str, arguments)], found, 0 if last else -signal.SIGKILL)
    return log


def record_upgrade(directory: Path, schema: Path) -> Path:
    """Lets a process make a database by the first step of `schema`, then upgrade it; answers its log."""
    data, log = directory / "data", directory / "log"
    data.mkdir(parents=True)
    found = environment(directory) | shim.environment(data, log=log)
    for steps in (directory / "first", schema):
        if steps is not schema:
            steps.mkdir()
            shutil.copy(schema / "0001.sql", steps)
        _run(["-c", _UPGRADE, str(data / _DATABASE), str(steps)], found, 0)
        with log.open("ab") as file:
            shim.say(file.fileno(), "upgraded")
    return log


def _run(arguments: Sequence[str], environ: Mapping[str, str], wanted: int) -> None:
    """Runs Python to its end. Raises AssertionError: it does not end as wanted."""
    child = subprocess.run(
        [sys.executable, *arguments], env=environ, capture_output=True, encoding="utf-8", timeout=_STALL, check=False
    )
    if child.returncode != wanted:
        raise AssertionError(f"the process that writes ended with {child.returncode}:\n{child.stderr[-4000:]}")


def acknowledged(events: Iterator[shim.Event]) -> Counter[str]:
    """How many messages of each sender were acknowledged: all up to that number."""
    counts: Counter[str] = Counter()
    for event in events:
        if event.kind == shim.SAID and " " in event.name:
            user, number = event.name.split()
            counts[user] = max(counts[user], int(number))
    return counts


# --- what a disk has --------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _File:
    """What is safe of a file, and what was done to it since."""

    safe: bytearray = field(default_factory=bytearray)
    since: list[shim.Event] = field(default_factory=list)


def _apply(content: bytearray, event: shim.Event) -> None:
    if event.kind == shim.TRUNCATE:
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[event.offset : end] = event.data


def _apply_some(content: bytearray, events: Sequence[shim.Event], dice: random.Random) -> None:
    """What may have reached the disk without a sync: any of it, some of it in part."""
    likely = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for event in events:
        if dice.random() >= likely:
            continue
        if event.kind == shim.TRUNCATE or dice.random() < 0.7:
            _apply(content, event)
            continue
        for start in range(0, len(event.data), _SECTOR):
            if dice.random() < 0.5:
                part = event.data[start : start + _SECTOR]
                _apply(content, shim.Event(shim.WRITE, False, event.name, event.offset + start, part))


class Disk:
    """A disk that follows the events of a log, and knows what would be left of it in a power cut."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._files: dict[str, _File] = {}  # as the process sees them
        self._safe_names: dict[str, _File] = {}
        self._names_since: list[dict[str, _File]] = []  # after each change since the directory was synced
        self.failed_syncs = 0

    def follow(self, event: shim.Event) -> None:
        """Takes in the next event."""
        if event.kind in (shim.CREATE, shim.UNLINK, shim.RENAME):
            file = _File() if event.kind == shim.CREATE else self._files.pop(event.name)
            if event.kind != shim.UNLINK:
                self._files[event.data.decode() or event.name] = file
            self._names_since.append(dict(self._files))
        elif event.kind == shim.SYNC:
            self.failed_syncs += event.failed
            self._sync(event)
        elif event.kind in (shim.WRITE, shim.TRUNCATE):
            self._files[event.name].since.append(event)

    def _sync(self, event: shim.Event) -> None:
        if not event.name:
            if not event.failed:
                self._safe_names, self._names_since = dict(self._files), []
            return
        file = self._files[event.name]
        if event.failed:
            _apply_some(file.safe, file.since, self._dice)
        else:
            for change in file.since:
                _apply(file.safe, change)
        file.since.clear()

    def image(self, directory: Path) -> None:
        """Writes what a power cut now leaves, as chance will have it, into an empty directory."""
        kept = self._dice.randint(0, len(self._names_since))
        names = self._names_since[kept - 1] if kept else self._safe_names
        for name, file in names.items():
            content = bytearray(file.safe)
            _apply_some(content, file.since, self._dice)
            (directory / name).write_bytes(content)


# --- the checks -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """What the images of power cuts were like.

    Attributes:
        lost: images that lack an acknowledged message.
        damaged: images that cannot be opened, fail SQLite's own check, or have a gap in a room.
        recovered: images that have a message which had not been acknowledged: whatever was to be lost was not always.
        failed_syncs: that the process met.
        first: what the first bad one had, for the report.
    """

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    damaged: int = 0
    recovered: int = 0
    failed_syncs: int = 0
    first: str = ""

    def add(self, other: Found) -> None:
        """Counts another recording in."""
        for name in ("cuts", "acknowledged", "lost", "damaged", "recovered", "failed_syncs"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first = self.first or other.first


def cut(log: Path, cuts: int, seed: int) -> Found:
    """Cuts the power at so many random events of a recording, and looks at what is left each time."""
    found, acks = Found(), set[str]()
    key = log.parent / "data" / "chat.key"

    def look(image: Path, said: Sequence[str]) -> str:
        acks.update(word for word in said if " " in word)
        return _check(image / _DATABASE, key, acks, found)

    disk = play(log, cuts, seed, look, found)
    found.acknowledged = sum(acknowledged(shim.read(log)).values())
    found.failed_syncs = disk.failed_syncs
    return found


Look = Callable[[Path, Sequence[str]], str]
"""Looks at an image, knowing what the process had said; says what is wrong, empty: nothing."""


def play(log: Path, cuts: int, seed: int, look: Look, found: Found) -> Disk:
    """Cuts the power at so many random events of a recording, and has the image of each looked at.

    Args:
        found: counts the cuts, and keeps the first trouble.
    """
    dice = random.Random(seed)
    length = sum(1 for _ in shim.read(log))
    moments = Counter(dice.randrange(length + 1) for _ in range(cuts))
    disk, said = Disk(dice), list[str]()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="securechat-cut-", dir=memory if memory.is_dir() else None) as scratch:
        for at, event in enumerate(chain(shim.read(log), [None])):
            for _ in range(moments[at]):
                image = Path(scratch) / "image"
                image.mkdir()
                disk.image(image)
                trouble = look(image, said)
                shutil.rmtree(image)
                found.cuts += 1
                if trouble:
                    found.first = found.first or f"at event {at}: {trouble}"
            if event is not None and event.kind == shim.SAID:
                said.append(event.name)
            elif event is not None:
                disk.follow(event)
    return disk


def _check(path: Path, key: Path, acks: set[str], found: Found) -> str:
    """Opens an image as the daemon does, and says what is wrong with it; empty: nothing."""
    try:
        migrate.upgrade(path)
        store = SQLiteStore(path, KeyEncryptionKeys(key.read_text()), reactor=task.Clock())
        store._found()
        with closing(sqlite3.connect(**connection.arguments(path))) as opened:
            said = opened.execute("PRAGMA integrity_check").fetchone()[0]
            orphans = opened.execute("PRAGMA foreign_key_check").fetchall()
            rows = opened.execute("SELECT seq, hex(mid) FROM message ORDER BY seq").fetchall()
    except Exception as error:  # whatever it is, a daemon would not start with this
        found.damaged += 1
        return f"it does not open: {error!r}"
    if said != "ok" or orphans or [seq for seq, _ in rows] != list(range(1, len(rows) + 1)):
        found.damaged += 1
        return f"it is damaged: {said}, {len(orphans)} orphans, {len(rows)} messages"
    stored = {mid.lower() for _, mid in rows}
    wanted = {_mid(ack): ack for ack in acks}
    found.recovered += bool(stored - wanted.keys())
    missing = [ack for mid, ack in wanted.items() if mid not in stored]
    if missing:
        found.lost += 1
        return f"{len(missing)} acknowledged messages are gone, {sorted(missing)[0]} among them"
    return ""


def _mid(ack: str) -> str:
    user, number = ack.split()
    return hex_id("mid", user, int(number))


if __name__ == "__main__":
    task.react(lambda _: Deferred.fromCoroutine(_write(sys.argv[1:])))
