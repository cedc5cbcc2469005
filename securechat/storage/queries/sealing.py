"""What is sealed at rest, and what is kept of it in memory."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.crypto.roomlog import RoomLog
from securechat.storage.lru import LeastRecentlyUsed
from securechat.storage.queries.common import Cursor

ROSTER_USERS: Final = 100_000  # users in cached rosters together, and entries in cached audiences: some 20 MB each
LOG_EVENTS: Final = 200_000  # events in replayed room logs together


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
        audiences: by room and row; for the readers, who share it. An audience never changes.
    """

    def __init__(self, sealer: RowSealer, epoch: str = "", *, restored: bool = False) -> None:
        self.sealer = sealer
        self.epoch = epoch
        self.restored = restored
        self.rosters: LeastRecentlyUsed[tuple[int, int], Roster] = LeastRecentlyUsed(ROSTER_USERS)
        self.logs: LeastRecentlyUsed[int, RoomLog] = LeastRecentlyUsed(LOG_EVENTS)
        self.audiences: LeastRecentlyUsed[tuple[str, int], Mapping[str, Entry]] = LeastRecentlyUsed(ROSTER_USERS)

    def undone(self) -> None:
        """A whole transaction was rolled back: what the writer's caches hold may never have been."""
        self.rosters.clear()
        self.logs.clear()


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
