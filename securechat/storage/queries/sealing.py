"""What is sealed at rest, and what is kept of it in memory."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.storage.lru import LeastRecentlyUsed
from securechat.storage.queries.common import Cursor

ROSTER_USERS: Final = 100_000  # users in cached rosters together, and entries in cached audiences: some 20 MB each


@dataclass(slots=True)
class Roster:
    """Who a message in a conversation must be sealed for now: by user, the id of the newest key.

    Attributes:
        audience_id: the row of exactly this audience, once a message used it.
    """

    kids: dict[str, str]
    audience_id: int | None = None


class Entry(NamedTuple):
    """One reader's place in an audience: which slot is theirs, and the id of the key it was wrapped for."""

    slot: int
    kid: str


class AtRest:
    """The data keys, and two caches of what is behind them.

    Attributes:
        rosters: by conversation and head; for the writer alone. Whoever rolls a whole transaction back, or
            changes an account's keys, clears it.
        audiences: by room and row; for the readers, who share it. An audience never changes.
    """

    def __init__(self, sealer: RowSealer) -> None:
        self.sealer = sealer
        self.rosters: LeastRecentlyUsed[tuple[int, int], Roster] = LeastRecentlyUsed(ROSTER_USERS)
        self.audiences: LeastRecentlyUsed[tuple[str, int], Mapping[str, Entry]] = LeastRecentlyUsed(ROSTER_USERS)


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
    cursor.execute(
        "INSERT INTO meta (one, epoch, secret, created) VALUES (1, ?, ?, ?) ON CONFLICT (one) DO NOTHING",
        (secrets.token_hex(16), secrets.token_bytes(32), now),
    )
    cursor.execute("SELECT epoch, secret FROM meta")
    epoch, secret = cursor.fetchone()
    return Foundation(epoch, secret, AtRest(RowSealer(deks, max(deks))))


def place(table: str, *columns: str | int) -> bytes:
    """What and where a row is, as one line: a token put elsewhere does not open there."""
    return msgspec.json.encode((table, *columns))
