"""Every kind of row that is sealed at rest, for what goes over all of them: backups, rotation of keys, checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from securechat.storage.queries.common import Cursor
from securechat.storage.queries.conversations import topic_place
from securechat.storage.queries.notes import note_place
from securechat.storage.queries.roomlogs import event_place
from securechat.storage.queries.sealing import audience_place, place
from securechat.storage.queries.segments import segment_place


class Kind(NamedTuple):
    """One kind of sealed row.

    Attributes:
        table: where it lies; `dek` and `token` are the columns with its data key and what is sealed.
        select: its rows: id, dek, token, whom it is of, and what `place_of` takes.
        place_of: where such a row is sealed to, by the columns behind the fourth.
    """

    table: str
    dek: str
    token: str
    select: str
    place_of: Callable[[Sequence[Any]], bytes]


class SealedRow(NamedTuple):
    """A row as it is stored. `token` is empty where nothing is sealed; `where` is the room or user it is of."""

    id: int
    dek_id: int | None
    token: bytes | None
    where: str
    place: bytes


KINDS: Final = (
    Kind(
        "segment", "dek_id", "sealed",
        "SELECT t.id, t.dek_id, t.sealed, c.name, c.room_id, t.first_seq FROM segment t"
        " JOIN conversation c ON c.id = t.conversation_id",
        lambda row: segment_place(row[0], row[1]),
    ),
    Kind(
        "audience", "dek_id", "sealed",
        "SELECT t.id, t.dek_id, t.sealed, c.name, c.room_id, t.rcp FROM audience t"
        " JOIN conversation c ON c.id = t.conversation_id",
        lambda row: audience_place(row[0], row[1].hex()),
    ),
    Kind(
        "room_event", "dek_id", "sealed",
        "SELECT t.id, t.dek_id, t.sealed, c.name, c.room_id, t.number, t.eh, t.seq FROM room_event t"
        " JOIN conversation c ON c.id = t.conversation_id",
        lambda row: event_place(row[0], row[1], row[2].hex(), row[3]),
    ),
    Kind(
        "conversation", "topic_dek", "topic",
        "SELECT t.id, t.topic_dek, t.topic, t.name, t.room_id FROM conversation t",
        lambda row: topic_place(row[0]),
    ),
    Kind(
        "account", "backup_dek", "backup",
        "SELECT t.id, t.backup_dek, t.backup, t.name, t.name, t.backup_version FROM account t",
        lambda row: place("backup", row[0], row[1]),
    ),
    Kind(
        "note", "dek_id", "sealed",
        "SELECT t.id, t.dek_id, t.sealed, a.name, a.name, t.name, t.version, t.size FROM note t"
        " JOIN account a ON a.id = t.account_id",
        lambda row: note_place(row[0], row[1].hex(), row[2], row[3]),
    ),
)  # fmt: skip


def rows(cursor: Cursor, kind: Kind, after: int, limit: int, *, but: int = 0) -> list[SealedRow]:
    """The next rows of a kind behind one, by id.

    Args:
        but: leaves out those under this data key, and those under none.
    """
    under = f" AND t.{kind.dek} <> ?" if but else ""
    cursor.execute(
        f"{kind.select} WHERE t.id > ?{under} ORDER BY t.id LIMIT ?", (after, *([but] if but else []), limit)
    )
    return [
        SealedRow(number, dek_id, token, where, kind.place_of(rest))
        for number, dek_id, token, where, *rest in cursor.fetchall()
    ]


def count(cursor: Cursor, *, but: int = 0) -> int:
    """How many rows `rows` would give of all kinds."""
    total = 0
    for kind in KINDS:
        cursor.execute(
            f"SELECT count(*) FROM {kind.table} t" + (f" WHERE t.{kind.dek} <> ?" if but else ""), [but] if but else []
        )
        total += cursor.fetchone()[0]
    return total
