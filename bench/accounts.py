"""Server directories with many accounts and rooms in them, made through the store, and what their clients must know.

People and rooms are those of `tests.cast`, and the store runs in one thread by `tests.doubles`: a second cast would
only be a copy. Nobody here can log in by password but those who are given one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from securechat.crypto.envelope import audience, audience_digest
from securechat.crypto.primitives import WRAPPED_BYTES, b64, b64url, ed25519_seed
from securechat.crypto.roomlog import Join, SignedEvent
from securechat.crypto.transcript import transcript_start
from securechat.server import files
from securechat.server.settings import DataDir
from securechat.storage.interface import Backup, NewAccount, Session
from securechat.storage.sqlite import SQLiteStore
from tests.cast import Person, Room, act
from tests.doubles import InlinePool, InlineReactor

SILENT_ROOMS: Final = 500  # of one owner: what the daemon's settings allow
NOBODY: Final = "none"  # a password hash that no password has


@dataclass
class Town:
    """Accounts, and the rooms they are in. What of it is not in the store of a directory yet, `build` puts there.

    Attributes:
        people: all accounts; the client with number i is in room i modulo the number of rooms.
        rooms: their logs, by name.
        entering: signed events that enter a room, by user: of people who are no members yet.
        passwords: hashes, by user.
        outsiders: accounts that are in none of these rooms, and no clients.
        silent: rooms of outsiders in which nobody says a word.
    """

    people: list[Person]
    rooms: dict[str, Room] = field(default_factory=dict)
    entering: dict[str, SignedEvent] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    outsiders: list[Person] = field(default_factory=list)
    silent: dict[str, Room] = field(default_factory=dict)

    def room_of(self, number: int) -> tuple[str, Room] | None:
        """Where a client belongs."""
        names = list(self.rooms)
        return (names[number % len(names)], self.rooms[names[number % len(names)]]) if names else None


def settle(
    srv: str,
    people: int,
    rooms: int,
    *,
    members: bool = True,
    outsiders: int = 0,
    silent: int = 0,
    password_hash: str = NOBODY,
) -> Town:
    """So many people, spread over so many open rooms.

    Args:
        srv: the server's id.
        members: whether they are members already; if not, the first of each room is, and the others may enter.
        outsiders, silent: see `Town`; one who owns silent rooms owns `SILENT_ROOMS` of them at most.
        password_hash: that of the outsiders.
    """
    town = Town([Person(f"user{number:05}", rsa=0, srv=srv) for number in range(people)])
    for number in range(rooms):
        mine = town.people[number::rooms]
        room = town.rooms[f"room{number:05}"] = Room(mine[0], name=f"room{number:05}")
        for person in mine[1:]:
            if members:
                room.enter(person, mine[0])
            else:
                town.entering[person.user] = act(room.log, Join, person)
    town.outsiders = [Person(f"other{number:05}", rsa=0, srv=srv) for number in range(outsiders)]
    town.passwords = {person.user: password_hash for person in town.outsiders}
    owners = [Person(f"owner{number:05}", rsa=0, srv=srv) for number in range(-(-silent // SILENT_ROOMS))]
    for number in range(silent):
        town.silent[f"silent{number:05}"] = Room(owners[number // SILENT_ROOMS], name=f"silent{number:05}")
    town.outsiders += owners
    return town


def prepared(directory: Path) -> str:
    """Makes the server's own files in an empty data directory; answers the server's id."""
    data = DataDir(directory)
    os.close(files.prepare(data))
    return files.server_identity(data).srv


def build(directory: Path, town: Town) -> None:
    """Puts accounts with a session each, and rooms, into the store of a data directory, as the daemon would."""
    data = DataDir(directory)
    lock = files.prepare(data)
    store = SQLiteStore(data.database, files.at_rest_keys(data, "", {}), reactor=InlineReactor(), pool=InlinePool)
    store.open()

    async def fill() -> None:
        now = int(time.time() * 1000)
        for person in (*town.people, *town.outsiders):
            await store.register(_account(town, person), invite_hash=None, now=now)
            await store.open_session(
                hashlib.sha256(token(person).encode()).digest(), Session(person.user, person.dev()), now
            )
        for name, room in (*town.rooms.items(), *town.silent.items()):
            for signed in room.events:
                await store.act(name, signed, wait=0.0, now=now)
        await store.close()

    try:
        at_once(fill())
    finally:
        os.close(lock)


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine that waits for nothing. Raises what it raises."""
    failures: list[Failure] = []
    Deferred.fromCoroutine(work).addErrback(failures.append)
    for failure in failures:
        failure.raiseException()


def _account(town: Town, person: Person) -> NewAccount:
    return NewAccount(
        user=person.user,
        password_hash=town.passwords.get(person.user, NOBODY),
        salt=bytes(16),
        ik=person.ik,
        rk_kid=person.kid,
        version=1,
        devices=(person.dev(),),
        keys=person.bundle(),
        backup=Backup(1, b"sealed"),
    )


def token(person: Person) -> str:
    """The token of a person's session."""
    return b64url(hashlib.sha256(person.user.encode()).digest())


def accounts_text(town: Town) -> str:
    """The generator's file of accounts (see generator/proto_securechat.c)."""
    return "".join(_line(town, number, person) + "\n" for number, person in enumerate(town.people))


def idle_text(town: Town) -> str:
    """The same of the outsiders, who will only be connected."""
    nowhere = Town(town.outsiders)
    return accounts_text(nowhere)


def _line(town: Town, number: int, person: Person) -> str:
    placed = town.room_of(number)
    member = placed is not None and person.user not in town.entering
    join = town.entering.get(person.user)
    room = ("-", "-", "-", "-")
    if placed is not None:
        name, made = placed
        room = (name, made.log.id, made.log.head, transcript_start(made.log.id))
    version, digest = person.dl
    return " ".join(
        (
            person.user,
            token(person),
            ed25519_seed(person.device()).hex(),
            person.dev(),
            str(version),
            digest,
            *room[:3],
            str(int(member)),
            room[3],
            hashlib.sha256(person.dev().encode()).hexdigest(),
            "-" if join is None else f"{b64(join.data)},{b64(join.sig)}",
        )
    )


def keys_text(town: Town) -> str:
    """The generator's file of keys: what a v1 package has for each reader. Nobody opens these: they are random."""
    lines = []
    for room in town.rooms.values():
        kids = {person.user: person.kid for person in town.people if person.user in room.log.members}
        wrapped = b64(os.urandom(WRAPPED_BYTES))
        texts = (
            ",".join(f'"{user}":"{kid}"' for user, kid in kids.items()),
            ",".join(f'"{user}":"{wrapped}"' for user in kids),
        )
        digest = audience_digest(audience(kids)).hex()
        lines.append(f'{digest} "kids":{{{texts[0]}}},"encrypted_keys":{{{texts[1]}}}\n')
    return "".join(lines)


class Towns:
    """Data directories with towns in them, each made once a run and copied for each server.

    Args:
        directory: where they are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, tuple[Path, Town]] = {}

    def of(self, people: int, rooms: int, **more: Any) -> tuple[Path, Town]:
        """A directory with ``data/``, ``accounts``, ``idle`` and ``keys``, and who is in it; as `settle`."""
        key = repr((people, rooms, more))
        if key not in self._made:
            place = self._directory / str(len(self._made))
            place.mkdir(parents=True)
            town = settle(prepared(place / "data"), people, rooms, **more)
            build(place / "data", town)
            (place / "accounts").write_text(accounts_text(town), encoding="ascii")
            (place / "idle").write_text(idle_text(town), encoding="ascii")
            (place / "keys").write_text(keys_text(town), encoding="ascii")
            self._made[key] = place, town
        return self._made[key]

    def copy(self, place: Path, to: Path) -> None:
        """A data directory of its own for one daemon."""
        shutil.copytree(place / "data", to)
