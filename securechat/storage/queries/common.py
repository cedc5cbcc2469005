"""What all the queries use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from securechat.crypto.transcript import transcript_start
from securechat.errors import NO_SUCH_ROOM, NOT_MEMBER, Refused
from securechat.storage.interface import Place


class Cursor(Protocol):
    """The part of a DB-API cursor that the queries use."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> object:
        """Runs one statement."""

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> object:
        """Runs one statement for each row of parameters."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All rows left."""


class Membership(NamedTuple):
    """One user's place in one conversation. `room_id`: as in the schema; `first`, `read`, `trimmed`: see
    ConversationRecord."""

    account_id: int
    conversation_id: int
    room_id: str
    private: bool
    open: bool
    last: int
    first: int
    read: int
    trimmed: int


def account_id(cursor: Cursor, user: str) -> int:
    """The row of a user. Raises LookupError where there is none: callers name users who logged in."""
    cursor.execute("SELECT id FROM account WHERE name = ?", (user,))
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a verb was called for a user who does not exist")
    return int(row[0])


def membership(cursor: Cursor, user: str, room: str) -> Membership:
    """A user's place in a conversation. Raises Refused: `no_such_room`, `not_member`."""
    cursor.execute(
        "SELECT m.account_id, c.id, c.room_id, c.private, c.open, c.last_seq, m.first_seq, m.read_seq,"
        " c.trimmed_seq FROM conversation c LEFT JOIN account a ON a.name = ?"
        " LEFT JOIN member m ON m.conversation_id = c.id AND m.account_id = a.id AND m.ik = a.ik WHERE c.name = ?",
        (user, room),
    )
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_ROOM, room=room)
    account, conversation, room_id, private, opened, *rest = row
    if account is None:
        raise not_in(room, private=bool(private))
    return Membership(account, conversation, room_id, bool(private), bool(opened), *rest)


def not_in(room: str, *, private: bool) -> Refused:
    """The refusal for somebody who is not in an existing conversation.

    Anybody can compute the id of the private conversation of two others: to them there is none, or they could
    ask whether the two ever talked.
    """
    return Refused(NO_SUCH_ROOM if private else NOT_MEMBER, room=room)


def place_at(cursor: Cursor, conversation: int, room_id: str, seq: int) -> Place:
    """The place after a message that was there; where it was removed since, the first one there still is.

    Raises:
        LookupError: there never was such a message.
    """
    seq = max(seq, trimmed_to(cursor, conversation))
    th = transcript_at(cursor, conversation, room_id, seq)
    if th is None:
        raise LookupError("a conversation lacks a message below its newest")
    return seq, th


def transcript_at(cursor: Cursor, conversation: int, room_id: str, seq: int) -> str | None:
    """`th` after a message of a conversation, in hex; None where there is no such message, or it was removed."""
    if seq == 0:
        return transcript_start(room_id)
    cursor.execute(
        "SELECT CASE WHEN c.trimmed_seq = ? THEN c.trimmed_th ELSE m.th END FROM conversation c"
        " LEFT JOIN message m ON m.conversation_id = c.id AND m.seq = ? WHERE c.id = ?",
        (seq, seq, conversation),
    )
    row = cursor.fetchone()
    return None if row is None or row[0] is None else row[0].hex()


def trimmed_to(cursor: Cursor, conversation: int) -> int:
    """The newest message that was removed as too old; 0 if none was."""
    cursor.execute("SELECT trimmed_seq FROM conversation WHERE id = ?", (conversation,))
    row = cursor.fetchone()
    return 0 if row is None else int(row[0])


def marks(values: Sequence[object]) -> str:
    """The placeholders of an IN list."""
    return ", ".join("?" * len(values))
