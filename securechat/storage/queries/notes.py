"""Notes: what an account's own devices share. Sealed by the client, and once more here."""

from __future__ import annotations

import contextlib

from securechat.errors import AtRestMismatch
from securechat.storage.interface import Note, NoteLimits, NotePage
from securechat.storage.queries.common import Cursor, account_id
from securechat.storage.queries.sealing import AtRest, place


def put(cursor: Cursor, at_rest: AtRest, user: str, name: str, blob: bytes, limits: NoteLimits) -> int:
    """See `ChatStore.put_note`."""
    account = account_id(cursor, user)
    cursor.execute("UPDATE account SET notes = notes + 1 WHERE id = ? RETURNING notes", (account,))
    (version,) = cursor.fetchone()
    sealed = at_rest.sealer.seal(note_place(user, name, version, len(blob)), blob)
    cursor.execute(
        "INSERT INTO note (account_id, name, version, size, dek_id, sealed) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (account_id, name) DO UPDATE SET version = excluded.version, size = excluded.size,"
        " dek_id = excluded.dek_id, sealed = excluded.sealed",
        (account, bytes.fromhex(name), version, len(blob), at_rest.sealer.newest, sealed),
    )
    _make_room(cursor, account, limits)
    return int(version)


def _make_room(cursor: Cursor, account: int, limits: NoteLimits) -> None:
    """Lets go of the notes that are longest unchanged, where there are too many or too long ones."""
    cursor.execute("SELECT count(*), sum(size) FROM note WHERE account_id = ?", (account,))
    count, size = cursor.fetchone()
    if count <= limits.count and size <= limits.bytes:
        return
    cursor.execute("SELECT id, size FROM note WHERE account_id = ? ORDER BY version", (account,))
    for row, its_size in cursor.fetchall():
        if count <= limits.count and size <= limits.bytes:
            return
        cursor.execute("DELETE FROM note WHERE id = ?", (row,))
        count, size = count - 1, size - its_size


def read(cursor: Cursor, at_rest: AtRest, user: str, after: int, max_bytes: int) -> NotePage:
    """See `ChatStore.notes`."""
    cursor.execute(
        "SELECT n.name, n.version, n.size, n.dek_id, n.sealed FROM note n JOIN account a ON a.id = n.account_id"
        " WHERE a.name = ? AND n.version > ? ORDER BY n.version",
        (user, after),
    )
    found = list[Note]()
    while (row := cursor.fetchone()) is not None:  # one by one: they may be many more bytes than a page
        name, version, size, dek_id, sealed = row
        max_bytes -= size
        if max_bytes < 0 and found:
            return NotePage(found, more=True)
        # One that is damaged must not hide all others; the operator's check tells of it, the next write replaces it.
        with contextlib.suppress(AtRestMismatch):
            blob = at_rest.sealer.open(dek_id, note_place(user, name.hex(), version, size), sealed)
            found.append(Note(name.hex(), version, blob))
    return NotePage(found, more=False)


def delete(cursor: Cursor, account: int) -> None:
    """Deletes an account's notes; what comes later is counted on from them."""
    cursor.execute("DELETE FROM note WHERE account_id = ?", (account,))


def note_place(user: str, name: str, version: int, size: int) -> bytes:
    """Everything that a note is found, ordered and counted by (see `sealing.place`)."""
    return place("note", user, name, version, size)
