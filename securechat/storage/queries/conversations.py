"""Rooms, private conversations, and who is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from securechat.crypto.transcript import transcript_start
from securechat.errors import MUTED, NO_SUCH_ROOM, AtRestMismatch, Refused
from securechat.storage.interface import ConversationRecord, RoomSummary
from securechat.storage.queries.common import Cursor, membership, place_at
from securechat.storage.queries.sealing import AtRest, place

LISTED: Final = 10_000  # rooms that a list shows: with more it would not fit into a reader's send queue


def conversations(
    cursor: Cursor, user: str, since: Mapping[str, int] | None, follows: bool, kept: int
) -> Sequence[ConversationRecord]:
    """See `ChatStore.conversations`."""
    cursor.execute(
        "SELECT c.id, c.th, c.name, c.room_id, c.head, c.events, c.last_seq, m.first_seq, m.read_seq, peer.name,"
        " c.trimmed_seq, coalesce(c.retention, ?)"
        " FROM account a JOIN member m ON m.account_id = a.id AND m.ik = a.ik"
        " JOIN conversation c ON c.id = m.conversation_id"
        " LEFT JOIN member other"
        " ON c.private = 1 AND other.conversation_id = c.id AND other.account_id <> a.id"
        " LEFT JOIN account peer ON peer.id = other.account_id"
        " WHERE a.name = ? ORDER BY c.name",
        (kept, user),
    )
    records = []
    for conversation, th, room, room_id, head, events, last, first, read, *rest in cursor.fetchall():
        start = last, th.hex()
        if since is not None:
            given = since.get(room_id)
            if given is None:
                cursor_at = read
            elif follows and given <= last:
                cursor_at = max(given, first)
            else:  # of a history that is no more: what the reader may not have is behind both
                cursor_at = max(min(given, read), first)
            if cursor_at != last:
                start = place_at(cursor, conversation, room_id, cursor_at)
        records.append(ConversationRecord(room, room_id, head.hex(), events, last, first, read, start, *rest))
    return records


def create_private(cursor: Cursor, name: str, accounts: Sequence[tuple[int, bytes]], now: int) -> int:
    """Makes a private conversation of these accounts with these identities; answers its row."""
    th = bytes.fromhex(transcript_start(name))
    cursor.execute(
        "INSERT INTO conversation (name, private, open, last_seq, events, members, room_id, head, th, created)"
        " VALUES (?, 1, 0, 0, 0, ?, ?, ?, ?, ?) RETURNING id",
        (name, len(accounts), name, b"", th, now),
    )
    conversation = int(cursor.fetchone()[0])
    cursor.executemany(
        "INSERT INTO member (conversation_id, account_id, first_seq, read_seq, ik) VALUES (?, ?, 0, 0, ?)",
        [(conversation, account, ik) for account, ik in accounts],
    )
    return conversation


def invitations(cursor: Cursor, user: str) -> Sequence[str]:
    """See `ChatStore.invitations`."""
    cursor.execute(
        "SELECT c.name FROM account a JOIN invitation i ON i.account_id = a.id AND i.ik = a.ik"
        " JOIN conversation c ON c.id = i.conversation_id WHERE a.name = ? ORDER BY c.name",
        (user,),
    )
    return [name for (name,) in cursor.fetchall()]


def rooms(cursor: Cursor, at_rest: AtRest, user: str) -> Sequence[RoomSummary]:
    """See `ChatStore.rooms`."""
    cursor.execute(
        "SELECT c.name, c.members, m.account_id, c.room_id, c.topic_dek, c.topic FROM conversation c"
        " LEFT JOIN account a ON a.name = ?"
        " LEFT JOIN member m ON m.conversation_id = c.id AND m.account_id = a.id AND m.ik = a.ik"
        " WHERE c.open = 1 AND c.members > 0 ORDER BY c.name LIMIT ?",
        (user, LISTED),
    )
    return [
        RoomSummary(name, members, member is not None, _topic(at_rest, room_id, dek_id, topic))
        for name, members, member, room_id, dek_id, topic in cursor.fetchall()
    ]


def _topic(at_rest: AtRest, room_id: str, dek_id: int, sealed: bytes | None) -> str:
    if sealed is None:
        return ""
    try:
        return at_rest.sealer.open(dek_id, topic_place(room_id), sealed).decode("utf-8")
    except AtRestMismatch:
        return ""  # one damaged topic must not hide all rooms; members read it in the log


def topic_place(room_id: str) -> bytes:
    """Where a room's topic is sealed to."""
    return place("topic", room_id)


def members(cursor: Cursor, user: str, room: str) -> Sequence[str]:
    """See `ChatStore.members`."""
    at = membership(cursor, user, room)
    if at.private:
        raise Refused(NO_SUCH_ROOM, room=room)
    cursor.execute(
        "SELECT a.name FROM member m JOIN account a ON a.id = m.account_id AND a.ik = m.ik"
        " WHERE m.conversation_id = ? ORDER BY a.name",
        (at.conversation_id,),
    )
    return [name for (name,) in cursor.fetchall()]


def check_voice(cursor: Cursor, user: str, room: str, now: int) -> None:
    """See `ChatStore.check_voice`."""
    at = membership(cursor, user, room)
    cursor.execute(
        "SELECT 1 FROM mute WHERE conversation_id = ? AND account_id = ? AND (until = 0 OR until > ?)",
        (at.conversation_id, at.account_id, now),
    )
    if cursor.fetchone() is not None:
        raise Refused(MUTED, room=room)


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
