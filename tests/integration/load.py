"""Load for the crash tests: senders that never give up, readers that resume, and all that the checker needs of both."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from cryptography.fernet import Fernet

from securechat.crypto.envelope import Header, audience, audience_digest, message_id
from securechat.crypto.primitives import WRAPPED_BYTES, b64, sign, vec
from securechat.crypto.signed import to_bytes
from securechat.crypto.transcript import transcript_start
from securechat.wire import codec
from securechat.wire import messages as m
from tests.checker import Row, Seen, Sent, Violation, check
from tests.integration.harness import Daemon, Gone, NotInTime, Person, Wire, WireRefused, until

_TRY_AGAIN: Final = 0.02  # seconds between two attempts to connect
_LOOK: Final = 0.2  # seconds after which a thread that hears nothing looks whether it shall stop
SETTINGS: Final = {"messages_per_second": 1e6, "message_burst": 1e6}


class _Package(msgspec.Struct):
    encrypted_message: str


class _Line(msgspec.Struct):
    """What matters here of any line of the server; quicker than the codec, which is tested elsewhere."""

    id: int | None = None
    event: str | None = None
    code: str | None = None
    expected: int = 0
    room: str = ""
    seq: int = 0
    sender: str = ""
    mid: str = ""
    dup: bool = False
    package: _Package | None = None


_decode = msgspec.json.Decoder(_Line).decode


class _Peer(threading.Thread):
    """A person of the load, connected as long as there is a server."""

    def __init__(self, load: Load, person: Person) -> None:
        super().__init__(name=person.name, daemon=True)
        self.load = load
        self.person = person
        self.fault: Exception | None = None

    def run(self) -> None:
        """Talks until there is no more to do; comes back after every loss."""
        try:
            while not self.load.abandoned and not self.finished():
                try:
                    with Wire(self.load.daemon.port, srv=self.person.srv) as wire:
                        self.person.resume(wire)
                        self.talk(wire)
                except (OSError, NotInTime):
                    time.sleep(_TRY_AGAIN)
                except WireRefused as refusal:
                    self.load.refused[refusal.code] += 1
                    time.sleep(_TRY_AGAIN)
        except Exception as error:  # for the test to raise
            self.fault = error

    def finished(self) -> bool:
        """Whether there is no more to do."""
        raise NotImplementedError

    def talk(self, wire: Wire) -> None:
        """One connection."""
        raise NotImplementedError

    def hear(self, wire: Wire) -> list[bytes]:
        """The lines that are there, after waiting a moment for the first. Raises Gone."""
        try:
            return [wire.line(_LOOK), *wire.ready()]
        except NotInTime:
            return []


@dataclass(frozen=True)
class _Waiting:
    """A message on its way: the same bytes at every attempt, unless its number was refused."""

    room: str
    mid: str
    token: bytes
    package: bytes

    def line(self, number: int) -> bytes:
        """The request."""
        return b'{"cmd":"send","id":%d,"room":"%b","package":%b}\n' % (number, self.room.encode(), self.package)


class _Sender(_Peer):
    """Keeps a window of messages under way; after a loss the very same bytes go again, in their order."""

    def __init__(self, load: Load, person: Person, seed: int) -> None:
        super().__init__(load, person)
        self._random = random.Random(seed)
        self._fernet = Fernet(Fernet.generate_key())
        self._waiting: dict[str, _Waiting] = {}
        self._by_id: dict[int, str] = {}
        self._sent: dict[str, list[str]] = {room: [] for room in load.rooms}  # ids of its messages, in their order
        self._next_id = 1_000_000

    def finished(self) -> bool:
        return self.load.draining and not self._waiting

    def talk(self, wire: Wire) -> None:
        self._by_id.clear()
        self._put(wire, list(self._waiting.values()))
        while not self.load.abandoned and not self.finished():
            if not self.load.draining and len(self._waiting) <= self.load.window // 2:
                self._put(wire, [self._fresh() for _ in range(self.load.window - len(self._waiting))])
            for line in self.hear(wire):
                self._take(_decode(line))

    def _put(self, wire: Wire, waiting: list[_Waiting]) -> None:
        lines = []
        for message in waiting:
            self._next_id += 1
            self._by_id[self._next_id] = message.mid
            lines.append(message.line(self._next_id))
        wire.write(b"".join(lines))

    def _fresh(self) -> _Waiting:
        room = self._random.choice(self.load.rooms)
        mid = self._random.randbytes(16).hex()
        token = self._fernet.encrypt_at_time(mid.encode(), 0)
        message = self._waiting[mid] = _Waiting(room, mid, token, self._signed(room, mid, token))
        self.load.sent[mid] = Sent(room, self.person.name, token.decode(), time.monotonic())
        return message

    def _signed(self, room: str, mid: str, token: bytes) -> bytes:
        """The package of the next message into a room, as JSON."""
        place, person, sent = self.load.places[room], self.person, self._sent[room]
        header = Header(
            room=place.id,
            author=person.name,
            dev=person.dev,
            dl=(person.keys.version, person.keys.digest),
            ctr=len(sent) + 1,
            prev=sent[-1] if sent else "",
            mid=mid,
            head=place.head,
            rcp=self.load.rcp,
            mh=hashlib.sha256(token).hexdigest(),
            th=(0, transcript_start(place.id)),
            at=time.time_ns() // 1_000_000,
        )
        hdr, bind = to_bytes(header), hashlib.sha256(token).digest()  # nobody opens these
        sent.append(message_id(hdr, bind))
        signature = sign(person.device, "envelope", vec(hdr) + vec(bind))
        return b'{"encrypted_message":"%b",%b,"hdr":"%b","bind":"%b","sig":"%b"}' % (
            token, self.load.keys, b64(hdr).encode(), b64(bind).encode(), b64(signature).encode(),
        )  # fmt: skip

    def _take(self, line: _Line) -> None:
        if line.event == "bye":
            raise Gone("bye")
        mid = self._by_id.pop(line.id or 0)
        if line.code is not None:
            self._refused(mid, line)
            return
        self._waiting.pop(mid, None)
        sent = self.load.sent[mid]
        sent.acked = min(sent.acked, time.monotonic())
        sent.places.append((line.room, line.seq))
        sent.dups += line.dup

    def _refused(self, mid: str, line: _Line) -> None:
        """Counts it, and starts over; where the server counted otherwise, by its count: a real client asks first."""
        self.load.refused[str(line.code)] += 1
        if line.code == "out_of_turn":
            room = self._waiting[mid].room
            del self._sent[room][line.expected - 1 :]
            for message in list(self._waiting.values()):
                if message.room == room:
                    package = self._signed(room, message.mid, message.token)
                    self._waiting[message.mid] = replace(message, package=package)
        raise Gone(f"refused: {line.code}")


class _Reader(_Peer):
    """Reads all rooms, and after a loss goes on where it was."""

    def __init__(self, load: Load, person: Person) -> None:
        super().__init__(load, person)
        self.histories: dict[str, list[Seen]] = {room: [] for room in load.rooms}

    def _cursors(self) -> dict[str, int]:
        return {room: seen[-1].seq for room, seen in self.histories.items() if seen}

    def finished(self) -> bool:
        ends = self.load.ends
        cursors = self._cursors()
        return ends is not None and all(cursors.get(room, 0) >= seq for room, seq in ends.items())

    def talk(self, wire: Wire) -> None:
        since = {self.load.places[room].id: seq for room, seq in self._cursors().items()}
        wire.write(codec.encode(m.Sync(id=1, epoch=wire.hello.epoch, since=since)))
        while not self.load.abandoned and not self.finished():
            for line in map(_decode, self.hear(wire)):
                if line.event == "message" and line.package is not None:
                    self.histories[line.room].append(
                        Seen(line.seq, line.sender, line.mid, line.package.encrypted_message)
                    )


@dataclass(frozen=True)
class _Place:
    """A room's id, and the head of its log."""

    id: str
    head: str


class Load:
    """Senders and readers on one daemon.

    Attributes:
        sent: by mid, for the checker.
        refused: how often the server refused what it should not.
        draining: senders only wait for what is under way.
        ends: the newest seq of each room, once it is known: readers stop there.
        abandoned: everybody stops.
    """

    def __init__(
        self, daemon: Daemon, seed: int, *, senders: int = 4, readers: int = 3, rooms: int = 3, window: int = 16
    ) -> None:
        self.daemon = daemon
        self.random = random.Random(seed)
        self.rooms = [f"room{number}" for number in range(rooms)]
        self.window = window
        self.sent: dict[str, Sent] = {}
        self.refused: Counter[str] = Counter()
        self.places: dict[str, _Place] = {}
        self.keys = b""
        self.rcp = ""
        self.draining = False
        self.abandoned = False
        self.ends: dict[str, int] | None = None
        self.crashes = 0
        people = [self._enter(f"p{number}") for number in range(senders + readers)]
        self._seal_for(people)
        self.senders = [_Sender(self, person, self.random.getrandbits(64)) for person in people[:senders]]
        self.readers = [_Reader(self, person) for person in people[senders:]]

    def _enter(self, name: str) -> Person:
        with Wire(self.daemon.port) as wire:
            person = Person.register(wire, name)
            for room in self.rooms:
                entered = person.join(wire, room)
                self.places[room] = _Place(entered.rid, entered.link)
        return person

    def _seal_for(self, people: list[Person]) -> None:
        """The part of a package that names the readers. Nobody opens these: the wrapped keys are random bytes."""
        wrapped = {person.name: b64(os.urandom(WRAPPED_BYTES)) for person in people}
        kids = {person.name: person.keys.kid for person in people}
        self.keys = msgspec.json.encode({"encrypted_keys": wrapped, "kids": kids})[1:-1]
        self.rcp = audience_digest(audience(kids)).hex()

    # What a test does with it.

    def start(self) -> Load:
        """Everybody begins."""
        for peer in (*self.senders, *self.readers):
            peer.start()
        return self

    def crash(self, least: float = 0.05, most: float = 0.6) -> None:
        """kill -9 at a random moment, and a restart."""
        time.sleep(self.random.uniform(least, most))
        self.daemon.kill()
        self.crashes += 1
        self.daemon.restart()

    def run_for(self, seconds: float) -> None:
        """Lets everybody go on. Raises what a peer failed with."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(min(_LOOK, seconds))
            self._no_faults()

    def settle(self, patience: float) -> None:
        """Senders get their last acknowledgements, then readers catch up; or time is over, which the checker tells."""
        deadline = time.monotonic() + patience
        self.draining = True
        _join(self.senders, deadline)
        ends: dict[str, int] = {}
        for row in self.table():
            ends[row.room] = max(ends.get(row.room, 0), row.seq)
        self.ends = ends
        _join(self.readers, deadline)
        self.abandon()

    def abandon(self) -> None:
        """Everybody stops."""
        self.abandoned = True
        _join([*self.senders, *self.readers], time.monotonic() + 10)
        self._no_faults()

    def _no_faults(self) -> None:
        for peer in (*self.senders, *self.readers):
            if peer.fault is not None:
                raise peer.fault

    def table(self) -> list[Row]:
        """The messages in the daemon's database."""
        path = self.daemon.data / "chat.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT c.name, m.seq, a.name, hex(m.mid) FROM message m"
                " JOIN conversation c ON c.id = m.conversation_id JOIN account a ON a.id = m.sender_id"
            ).fetchall()
        return [Row(room, seq, sender, mid.lower()) for room, seq, sender, mid in rows]

    def integrity(self) -> str:
        """SQLite's own word on the database."""
        with closing(sqlite3.connect(self.daemon.data / "chat.db")) as connection:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])

    def violations(self) -> list[Violation]:
        """What the checker finds."""
        histories = {reader.name: reader.histories for reader in self.readers}
        return check(self.sent, self.table(), histories, crashed=self.crashes > 0)

    def figures(self) -> dict[str, Any]:
        """What a report of the run tells."""
        acked = [message for message in list(self.sent.values()) if message.places]
        return {
            "crashes": self.crashes,
            "acked": len(acked),
            "dup acks": sum(message.dups for message in acked),
            "refused": dict(self.refused),
            "read": sum(len(seen) for reader in self.readers for seen in reader.histories.values()),
        }

    @property
    def acked(self) -> int:
        """Messages acknowledged by now."""
        return sum(1 for message in list(self.sent.values()) if message.places)

    def moving(self, patience: float = 10.0) -> None:
        """Waits until something is acknowledged since the call. Raises AssertionError."""
        before = self._acks()
        until(lambda: self._acks() > before, "an acknowledgement", patience)

    def _acks(self) -> int:
        return sum(len(message.places) for message in list(self.sent.values()))


def _join(peers: Any, deadline: float) -> None:
    for peer in peers:
        peer.join(max(0.0, deadline - time.monotonic()))
