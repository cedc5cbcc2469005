"""Reading messages back, and whom they were sealed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from securechat.errors import DAMAGED, UNKNOWN_AUDIENCE, AtRestMismatch, Refused
from securechat.storage.interface import MessageRow, Page
from securechat.storage.queries.common import Cursor, Membership, marks, membership, transcript_at, trimmed_to
from securechat.storage.queries.sealing import AtRest, Entry, audience_place
from securechat.storage.queries.segments import Body, body_of, opened

SLOT: Final = 384  # bytes of a wrapped key: RSA-3072
NEWEST: Final = 2**63 - 1  # above every seq

_COLUMNS: Final = (
    "SELECT m.id, m.seq, a.name, m.device, m.mid, m.ts, m.events, m.digest, m.th, m.audience_id, m.segment_id,"
    " c.room_id FROM message m JOIN account a ON a.id = m.sender_id JOIN conversation c ON c.id = m.conversation_id"
    " WHERE m.conversation_id = ?"
)


def read(
    cursor: Cursor,
    at_rest: AtRest,
    user: str,
    room: str,
    after: int | None,
    before: int | None,
    limit: int,
    max_bytes: int,
) -> Page:
    """See `ChatStore.read`."""
    at = membership(cursor, user, room)
    ascending = after is not None
    # Who is let into a room that is not open does not get what was said there before.
    floor = max(at.trimmed, 0 if at.open else at.first)
    cursor.execute(
        f"{_COLUMNS} AND m.seq > ? AND m.seq < ? ORDER BY m.seq {'ASC' if ascending else 'DESC'} LIMIT ?",
        (at.conversation_id, max(after or 0, floor), NEWEST if before is None else before, limit + 1),
    )
    rows = cursor.fetchall()  # one more than asked for tells whether there is more
    try:
        messages = _open(cursor, at_rest, user, room, rows[:limit], max_bytes)
    except AtRestMismatch as mismatch:
        raise Refused(DAMAGED, room=room) from mismatch
    more = len(messages) < len(rows)
    if not ascending:
        messages.reverse()
    peer = _peer(cursor, at) if at.private else None
    if not messages and not at.trimmed:
        return Page(messages, more, peer=peer)
    seq = messages[0].seq - 1 if messages else at.trimmed
    th = transcript_at(cursor, at.conversation_id, at.room_id, seq)
    if th is None:
        raise Refused(DAMAGED, room=room)
    return Page(messages, more, (seq, th), peer, at.trimmed)


def _peer(cursor: Cursor, at: Membership) -> str | None:
    """The other user of a private conversation."""
    cursor.execute(
        "SELECT a.name FROM member m JOIN account a ON a.id = m.account_id"
        " WHERE m.conversation_id = ? AND m.account_id <> ?",
        (at.conversation_id, at.account_id),
    )
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def one(cursor: Cursor, at_rest: AtRest, user: str, room: str, conversation: int, seq: int) -> MessageRow | None:
    """A single message as one of its readers may have it; None where it was removed. Raises Refused: `damaged`."""
    if seq <= trimmed_to(cursor, conversation):
        return None
    cursor.execute(f"{_COLUMNS} AND m.seq = ?", (conversation, seq))
    try:
        (message,) = _open(cursor, at_rest, user, room, cursor.fetchall(), SLOT)
    except (AtRestMismatch, ValueError) as mismatch:
        raise Refused(DAMAGED, room=room) from mismatch
    return message


def audience(cursor: Cursor, at_rest: AtRest, user: str, room: str, rcp: str) -> bytes:
    """See `ChatStore.audience`."""
    at = membership(cursor, user, room)
    cursor.execute(
        "SELECT dek_id, sealed FROM audience WHERE conversation_id = ? AND rcp = ?",
        (at.conversation_id, bytes.fromhex(rcp)),
    )
    row = cursor.fetchone()
    if row is None:
        raise Refused(UNKNOWN_AUDIENCE, room=room)
    try:
        return at_rest.sealer.open(row[0], audience_place(at.room_id, rcp), row[1])
    except AtRestMismatch as mismatch:
        raise Refused(DAMAGED, room=room) from mismatch


def _open(
    cursor: Cursor, at_rest: AtRest, user: str, room: str, rows: Sequence[Any], max_bytes: int
) -> list[MessageRow]:
    """As many of the rows, in the order given, as `max_bytes` allow; one at least. Raises AtRestMismatch."""
    found: list[tuple[Any, bytes, Entry | None]] = []
    for row in rows:
        _, seq, sender, device, mid, ts, events, digest, th, audience_id, segment_id, room_id = row
        segment = opened(cursor, at_rest, room_id, segment_id)
        shared = body_of(segment, seq, Body(mid, sender, device, ts, events, digest, th, b""))
        entry = None if audience_id is None else _audience(cursor, at_rest, room_id, audience_id).get(user)
        max_bytes -= len(shared) + (0 if entry is None else SLOT)
        if max_bytes < 0 and found:
            break
        found.append((row, shared, entry))
    slots = _slots(cursor, {row[0]: entry.slot for row, _, entry in found if entry is not None})
    return [
        MessageRow(
            room,
            seq,
            sender,
            device.hex(),
            mid.hex(),
            ts,
            events,
            shared,
            entry and entry.kid,
            slots.get(message_id),
            audience_id is None,
        )
        for (message_id, seq, sender, device, mid, ts, events, _, _, audience_id, *_), shared, entry in found
    ]


def _audience(cursor: Cursor, at_rest: AtRest, room_id: str, audience_id: int) -> Mapping[str, Entry]:
    """Who a message was sealed for. Raises AtRestMismatch."""
    key = (room_id, audience_id)  # the room too: a row that names another room's audience must not find it here
    entries = at_rest.audiences.get(key)
    if entries is None:
        cursor.execute("SELECT rcp, dek_id, sealed FROM audience WHERE id = ?", (audience_id,))
        row = cursor.fetchone()
        if row is None:
            raise AtRestMismatch("a stored message lacks its audience")
        rcp, dek_id, sealed = row
        readers = at_rest.sealer.open(dek_id, audience_place(room_id, rcp.hex()), sealed)
        named = msgspec.json.decode(readers, type=list[tuple[str, str]])
        entries = {user: Entry(slot, kid) for slot, (user, kid) in enumerate(named)}
        at_rest.audiences.put(key, entries, len(entries))
    return entries


def _slots(cursor: Cursor, wanted: Mapping[int, int]) -> Mapping[int, bytes]:
    """The wrapped keys of one reader by message, given the reader's slot in each. Raises AtRestMismatch."""
    slots: dict[int, bytes] = {}
    # A page seldom spans a change of members, so this is one query and not one a message.
    for slot in set(wanted.values()):
        messages = [message for message, its_slot in wanted.items() if its_slot == slot]
        cursor.execute(
            f"SELECT message_id, substr(slots, ?, ?) FROM message_keys WHERE message_id IN ({marks(messages)})",
            (1 + SLOT * slot, SLOT, *messages),
        )
        slots.update(cursor.fetchall())
    if len(slots) != len(wanted) or any(len(key) != SLOT for key in slots.values()):
        raise AtRestMismatch("a stored message lacks its keys")
    return slots
