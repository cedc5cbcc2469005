"""What is sealed at rest, and what is kept of it in memory."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.crypto.roomlog import RoomLog
from securechat.storage.lru import LeastRecentlyUsed
from securechat.storage.queries.common import Cursor

if TYPE_CHECKING:
    from securechat.storage.queries.segments import Segment

ROSTER_USERS: Final = 100_000  # users in cached rosters together, and entries in cached audiences: some 20 MB each
LOG_EVENTS: Final = 200_000  # events in replayed room logs together
SEGMENT_BYTES: Final = 16 * 1024 * 1024  # bytes of opened segments together
STANDINGS: Final = 64_000  # authors in conversations that are written to, one of which counts as 32: some 100 MB


@dataclass(slots=True)
class Roster:
    """Who a message in a conversation must be sealed for now: by user, the id of the newest key.

    Attributes:
        rcp: the digest of exactly this audience, in hex.
        muted: who has no voice, until when (milliseconds; 0: for ever).
        audience_id: the row of this audience, once a message used it.
    """

    kids: dict[str, str]
    rcp: str
    muted: Mapping[str, int]
    audience_id: int | None = None


class Quotas(NamedTuple):
    """Bytes of messages that a room, and an account, may have where the operator said nothing else; 0: any."""

    room: int = 0
    user: int = 0


@dataclass(slots=True)
class Usage:
    """How many bytes of messages an account has stored, and how many it may have; 0: any."""

    stored: int
    limit: int


@dataclass(slots=True)
class Author:
    """One device that writes in a conversation, and its last message there.

    Attributes:
        account_id: whose device it is, and `newest_list` the number and digest of the account's device list.
        peer: the other user where the conversation is private, else None.
        usage: of its account; None where that has no limit.
        last: its number; 0 if none. `digest` is its id, `seq` its place, `epoch` when it came.
        bytes: of its messages here.
    """

    account_id: int
    newest_list: tuple[int, str]
    peer: str | None
    usage: Usage | None = None
    last: int = 0
    digest: bytes = b""
    seq: int = 0
    epoch: str | None = None
    bytes: int = 0


@dataclass(slots=True)
class Standing:
    """Where a conversation stands that is being written to. The columns are those of `conversation`.

    Attributes:
        start: the transcript before the first message.
        bytes: of its messages, and `limit` how many it may have; 0: any.
        fresh: made by the message in hand.
        authors: by user and device.
        places: the newest places of its transcript.
    """

    id: int
    room_id: str
    private: bool
    head: str
    events: int
    last: int
    th: str
    start: str
    bytes: int = 0
    limit: int = 0
    fresh: bool = False
    authors: dict[tuple[str, str], Author] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)


class Entry(NamedTuple):
    """One reader's place in an audience: which slot is theirs, and the id of the key it was wrapped for."""

    slot: int
    kid: str


class AtRest:
    """The data keys, and caches of what is behind them.

    Attributes:
        epoch: of this database (see `ChatStore.epoch`).
        restored: whether an epoch went before it, of which messages may be gone.
        rosters: by conversation and number of events; for the writer alone. Whoever rolls a whole transaction back, or
            changes an account's keys, clears it.
        logs: replayed room logs by conversation; for the writer alone, and cleared with the rosters. Who is about to
            change one takes it out until nothing can fail any more.
        standings: conversations by name; for the writer alone, so that a message to a busy one needs no query. Whatever
            else is written clears them, but for what is known not to touch them.
        usages: of accounts that write, by row; for the writer alone, and cleared with the standings.
        ids: the highest used of each table whose rows are numbered here; for the writer alone.
        audiences: by room and row; for the readers, who share it. An audience never changes.
        segments: by room and row; the writer puts there what it stored, so readers of what is new open nothing. An id
            is never used again while the server runs, so this outlives a rollback.
    """

    def __init__(self, sealer: RowSealer, epoch: str = "", *, restored: bool = False) -> None:
        self.sealer = sealer
        self.epoch = epoch
        self.restored = restored
        self.rosters: LeastRecentlyUsed[tuple[int, int], Roster] = LeastRecentlyUsed(ROSTER_USERS)
        self.logs: LeastRecentlyUsed[int, RoomLog] = LeastRecentlyUsed(LOG_EVENTS)
        self.standings: LeastRecentlyUsed[str, Standing] = LeastRecentlyUsed(STANDINGS)
        self.usages: dict[int, Usage] = {}
        self.quotas = Quotas()
        self.ids: dict[str, int] = {}
        self.segments: LeastRecentlyUsed[tuple[str, int], Segment] = LeastRecentlyUsed(SEGMENT_BYTES)
        self.audiences: LeastRecentlyUsed[tuple[str, int], Mapping[str, Entry]] = LeastRecentlyUsed(ROSTER_USERS)

    def undone(self) -> None:
        """Something was rolled back: what the writer's caches hold may never have been."""
        self.rosters.clear()
        self.logs.clear()
        self.standings.clear()
        self.usages.clear()

    def numbers(self, cursor: Cursor, table: str, count: int) -> range:
        """So many fresh ids of a table, in order."""
        highest = self.ids.get(table)
        if highest is None:
            cursor.execute(f"SELECT coalesce(max(id), 0) FROM {table}")
            highest = int(cursor.fetchone()[0])
        self.ids[table] = highest + count
        return range(highest + 1, highest + count + 1)


class Foundation(NamedTuple):
    """What a server finds in its own database before it serves."""

    epoch: str
    secret: bytes
    at_rest: AtRest


def found(cursor: Cursor, kek: KeyEncryptionKeys, now: int) -> Foundation:
    """Opens the data keys and what else is made once; makes what is missing.

    Raises:
        StartupError: the key file is not the one this database was made with.
    """
    cursor.execute("SELECT id, wrapped FROM dek")
    deks = {number: kek.unwrap(wrapped) for number, wrapped in cursor.fetchall()}
    if not deks:
        wrapped = kek.wrap_new()
        cursor.execute("INSERT INTO dek (wrapped, created) VALUES (?, ?) RETURNING id", (wrapped, now))
        deks[cursor.fetchone()[0]] = kek.unwrap(wrapped)
    fresh = secrets.token_hex(16)
    cursor.execute(
        "INSERT INTO meta (one, epoch, first_epoch, secret, created) VALUES (1, ?, ?, ?, ?)"
        " ON CONFLICT (one) DO NOTHING",
        (fresh, fresh, secrets.token_bytes(32), now),
    )
    cursor.execute("SELECT epoch, first_epoch, secret FROM meta")
    epoch, first_epoch, secret = cursor.fetchone()
    at_rest = AtRest(RowSealer(deks, max(deks)), epoch, restored=epoch != first_epoch)
    return Foundation(epoch, secret, at_rest)


def place(table: str, *columns: str | int) -> bytes:
    """What and where a row is, as one line: a token put elsewhere does not open there."""
    return msgspec.json.encode((table, *columns))


def audience_place(room_id: str, rcp: str) -> bytes:
    """Where the bytes of an audience are sealed to."""
    return place("audience", room_id, rcp)
