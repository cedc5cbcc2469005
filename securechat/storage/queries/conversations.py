"""Rooms, private conversations, and who is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from securechat.errors import NO_SUCH_ROOM, ROOM_FULL, TOO_MANY_ROOMS, Refused
from securechat.storage.interface import ConversationRecord, Joined, RoomSummary
from securechat.storage.queries.common import Cursor, account_id, membership

LISTED: Final = 10_000  # rooms that a list shows: with more it would not fit into a reader's send queue


def conversations(cursor: Cursor, user: str) -> Sequence[ConversationRecord]:
    """See `ChatStore.conversations`."""
    cursor.execute(
        "SELECT c.name, c.head, c.last_seq, m.first_seq, m.read_seq, peer.name"
        " FROM account a JOIN member m ON m.account_id = a.id JOIN conversation c ON c.id = m.conversation_id"
        " LEFT JOIN member other"
        " ON c.private = 1 AND other.conversation_id = c.id AND other.account_id <> a.id"
        " LEFT JOIN account peer ON peer.id = other.account_id"
        " WHERE a.name = ? ORDER BY c.name",
        (user,),
    )
    return [ConversationRecord(*row) for row in cursor.fetchall()]


def join(cursor: Cursor, user: str, room: str, max_members: int, max_rooms: int, now: int) -> Joined:
    """See `ChatStore.join`."""
    account = account_id(cursor, user)
    cursor.execute(
        "SELECT c.id, c.head, c.last_seq, c.members, m.first_seq FROM conversation c"
        " LEFT JOIN member m ON m.conversation_id = c.id AND m.account_id = ?"
        " WHERE c.name = ? AND c.private = 0",
        (account, room),
    )
    found = cursor.fetchone()
    if found is not None and found[4] is not None:
        _, head, last, _, first = found
        return Joined(head, first, last, created=False, fresh=False)
    if found is not None and found[3] >= max_members:
        raise Refused(ROOM_FULL, room=room, limit=max_members)
    cursor.execute(
        "SELECT count(*) FROM member m JOIN conversation c ON c.id = m.conversation_id"
        " WHERE m.account_id = ? AND c.private = 0",
        (account,),
    )
    if cursor.fetchone()[0] >= max_rooms:
        raise Refused(TOO_MANY_ROOMS, limit=max_rooms)
    conversation = create(cursor, room, now, private=False) if found is None else found[0]
    head, last = add_member(cursor, conversation, account)
    return Joined(head, last, last, created=found is None, fresh=True)


def create(cursor: Cursor, name: str, now: int, *, private: bool) -> int:
    """Makes a conversation without members; answers its row."""
    cursor.execute(
        "INSERT INTO conversation (name, private, head, last_seq, members, created) VALUES (?, ?, 0, 0, 0, ?)"
        " RETURNING id",
        (name, int(private), now),
    )
    return int(cursor.fetchone()[0])


def add_member(cursor: Cursor, conversation: int, account: int) -> tuple[int, int]:
    """Makes somebody a member as of now; answers the new head and the newest message."""
    cursor.execute(
        "UPDATE conversation SET members = members + 1, head = head + 1 - private WHERE id = ?"
        " RETURNING head, last_seq",
        (conversation,),
    )
    head, last = cursor.fetchone()
    cursor.execute(
        "INSERT INTO member (conversation_id, account_id, first_seq, read_seq) VALUES (?, ?, ?, ?)",
        (conversation, account, last, last),
    )
    return head, last


def leave(cursor: Cursor, user: str, room: str) -> int:
    """See `ChatStore.leave`."""
    at = membership(cursor, user, room)
    if at.private:
        raise Refused(NO_SUCH_ROOM, room=room)  # a private conversation is no room, and has no other end than its keys
    cursor.execute(
        "DELETE FROM member WHERE conversation_id = ? AND account_id = ?", (at.conversation_id, at.account_id)
    )
    cursor.execute(
        "UPDATE conversation SET members = members - 1, head = head + 1 WHERE id = ? RETURNING head",
        (at.conversation_id,),
    )
    return int(cursor.fetchone()[0])


def rooms(cursor: Cursor, user: str) -> Sequence[RoomSummary]:
    """See `ChatStore.rooms`."""
    cursor.execute(
        "SELECT c.name, c.members, m.account_id FROM conversation c"
        " LEFT JOIN member m ON m.conversation_id = c.id"
        " AND m.account_id = (SELECT id FROM account WHERE name = ?)"
        " WHERE c.private = 0 AND c.members > 0 ORDER BY c.name LIMIT ?",
        (user, LISTED),
    )
    return [RoomSummary(name, members, member is not None) for name, members, member in cursor.fetchall()]


def members(cursor: Cursor, user: str, room: str) -> tuple[int, Sequence[tuple[str, int]]]:
    """See `ChatStore.members`."""
    at = membership(cursor, user, room)
    cursor.execute(
        "SELECT a.name, a.version FROM member m JOIN account a ON a.id = m.account_id"
        " WHERE m.conversation_id = ? ORDER BY a.name",
        (at.conversation_id,),
    )
    return at.head, [(name, version) for name, version in cursor.fetchall()]


def move_read_marker(cursor: Cursor, user: str, room: str, seq: int) -> bool:
    """See `ChatStore.move_read_marker`."""
    at = membership(cursor, user, room)
    seq = min(seq, at.last)
    if seq <= at.read:
        return False
    cursor.execute(
        "UPDATE member SET read_seq = ? WHERE conversation_id = ? AND account_id = ?",
        (seq, at.conversation_id, at.account_id),
    )
    return True
