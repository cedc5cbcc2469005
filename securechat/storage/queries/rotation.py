"""New keys for what is sealed at rest, while the server goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from securechat.crypto.atrest import KeyEncryptionKeys
from securechat.errors import AtRestMismatch
from securechat.storage.queries.common import Cursor
from securechat.storage.queries.sealed import Kind, rows
from securechat.storage.queries.sealing import AtRest

_BATCH: Final = 100  # rows sealed anew between two looks at what else there is to do


class Resealed(NamedTuple):
    """Some rows, sealed anew.

    Attributes:
        last: the id of the last row looked at.
        rows: data key, new token, id, old token.
        lost: the data keys of rows that do not open; those stay as they are.
        looked_at: how many rows there were.
    """

    last: int
    rows: Sequence[tuple[int, bytes | None, int, bytes | None]]
    lost: Sequence[int]
    looked_at: int


def wrapped(cursor: Cursor) -> Sequence[bytes]:
    """The data keys, as they are wrapped now."""
    cursor.execute("SELECT wrapped FROM dek")
    return [key for (key,) in cursor.fetchall()]


def begin(cursor: Cursor, kek: KeyEncryptionKeys, now: int) -> tuple[int, bytes]:
    """The data key to seal all with, wrapped; and wraps all of them by the newest key of the key file.

    A rotation that did not come to its end is gone on with.

    Raises:
        StartupError: the key file does not open one of them.
    """
    cursor.execute("SELECT id, wrapped FROM dek ORDER BY id")
    keys = {number: kek.wrap_again(old) for number, old in cursor.fetchall()}
    cursor.executemany("UPDATE dek SET wrapped = ? WHERE id = ?", [(new, number) for number, new in keys.items()])
    cursor.execute("SELECT rotating FROM meta")
    if not cursor.fetchone()[0]:
        cursor.execute("UPDATE meta SET rotating = 1")
        fresh = kek.wrap_new()
        cursor.execute("INSERT INTO dek (wrapped, created) VALUES (?, ?) RETURNING id", (fresh, now))
        keys[cursor.fetchone()[0]] = fresh
    newest = max(keys)
    return newest, keys[newest]


def use(cursor: Cursor, at_rest: AtRest, newest: int) -> None:
    """From here on the writer seals by this data key. It is on disk already: its row must not be rolled back alone."""
    at_rest.sealer.newest = newest


def reseal(cursor: Cursor, at_rest: AtRest, kind: Kind, newest: int, after: int) -> Resealed | None:
    """Seals the next rows of a kind anew, for `put`; None where there are no more. For a reader's thread."""
    found = rows(cursor, kind, after, _BATCH, but=newest)
    if not found:
        return None
    anew, lost = [], []
    for row in found:
        token = row.token
        if token and row.dek_id is not None:
            try:
                token = at_rest.sealer.seal_under(newest, row.place, at_rest.sealer.open(row.dek_id, row.place, token))
            except AtRestMismatch:
                lost.append(row.dek_id)
                continue
        anew.append((newest, token, row.id, row.token))
    return Resealed(found[-1].id, anew, lost, len(found))


def put(cursor: Cursor, kind: Kind, resealed: Resealed) -> None:
    """Stores what was sealed anew, but for rows that changed meanwhile: those are under the newest key already."""
    cursor.executemany(
        f"UPDATE {kind.table} SET {kind.dek} = ?, {kind.token} = ? WHERE id = ? AND {kind.token} IS ?", resealed.rows
    )


def end(cursor: Cursor, newest: int, keep: Iterable[int]) -> None:
    """Forgets the data keys that no row names any more: the rotation is done."""
    cursor.execute("UPDATE meta SET rotating = 0")
    cursor.execute("SELECT id FROM dek WHERE id <> ?", (newest,))
    unused = {number for (number,) in cursor.fetchall()} - set(keep)
    cursor.executemany("DELETE FROM dek WHERE id = ?", [(number,) for number in unused])
