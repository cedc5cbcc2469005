"""Messages: stored once, in order, for exactly the right readers; and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from securechat.crypto.envelope import audience, audience_digest
from securechat.errors import (
    BAD_AUDIENCE,
    DAMAGED,
    MID_CONFLICT,
    NO_SUCH_ROOM,
    OUT_OF_TURN,
    STALE_HEAD,
    STALE_KEYS,
    AtRestMismatch,
    Refused,
)
from securechat.storage.interface import Appended, MessageRow, NewMessage, Page
from securechat.storage.queries.common import Cursor, account_id, marks, membership, not_in
from securechat.storage.queries.conversations import add_member, create
from securechat.storage.queries.sealing import AtRest, Entry, Roster, place

SLOT: Final = 384  # bytes of a wrapped key: RSA-3072
NEWEST: Final = 2**63 - 1  # above every seq


class _Target(NamedTuple):
    """The conversation a message goes to. `fresh`: made by this very message."""

    sender_id: int
    conversation_id: int
    private: bool
    head: int
    fresh: bool


def append(cursor: Cursor, at_rest: AtRest, message: NewMessage) -> Appended:
    """See `ChatStore.append`."""
    cursor.execute(
        "SELECT a.id, c.id, c.private, c.head FROM account a LEFT JOIN conversation c ON c.name = ? WHERE a.name = ?",
        (message.room, message.sender),
    )
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a message was stored for a user who does not exist")
    sender_id, conversation_id, private, head = row
    stored = _stored(cursor, sender_id, conversation_id, message)
    if stored is not None:
        return stored
    if conversation_id is None:
        target = _private_conversation(cursor, sender_id, message)
    else:
        target = _Target(sender_id, conversation_id, bool(private), head, fresh=False)
    roster = _roster(cursor, at_rest, target)
    _check(message, target, roster)
    _take_turn(cursor, target, message)
    seq, roster.audience_id = _insert(cursor, at_rest, target, roster, message)
    return Appended(seq, message.ts, fresh_conversation=target.fresh)


def _stored(cursor: Cursor, sender_id: int, conversation_id: int | None, message: NewMessage) -> Appended | None:
    """Where an earlier call put this message. Raises Refused: `mid_conflict`."""
    cursor.execute(
        "SELECT conversation_id, body_hash, seq, ts FROM message WHERE sender_id = ? AND device = ? AND mid = ?",
        (sender_id, bytes.fromhex(message.device), bytes.fromhex(message.mid)),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    if row[:2] != (conversation_id, message.body_hash):
        raise Refused(MID_CONFLICT)
    return Appended(row[2], row[3], dup=True)


def _private_conversation(cursor: Cursor, sender_id: int, message: NewMessage) -> _Target:
    """Makes the private conversation that a message opens. Raises Refused: `no_such_room`: it opens none."""
    if message.peer is None:
        raise Refused(NO_SUCH_ROOM, room=message.room)
    conversation = create(cursor, message.room, message.ts, private=True)
    for member in (sender_id, account_id(cursor, message.peer)):
        add_member(cursor, conversation, member)
    return _Target(sender_id, conversation, True, 0, fresh=True)


def _roster(cursor: Cursor, at_rest: AtRest, target: _Target) -> Roster:
    key = (target.conversation_id, target.head)
    roster = at_rest.rosters.get(key)
    if roster is None:
        cursor.execute(
            "SELECT a.name, a.kid FROM member m JOIN account a ON a.id = m.account_id WHERE m.conversation_id = ?",
            (target.conversation_id,),
        )
        roster = Roster(dict(cursor.fetchall()))
        # One made by this message goes with it if it is refused, and the next one may get the same id.
        if not target.fresh:
            at_rest.rosters.put(key, roster, len(roster.kids))
    return roster


def _check(message: NewMessage, target: _Target, roster: Roster) -> None:
    """Whether the message may come from this sender and is sealed for the right keys."""
    if message.sender not in roster.kids:
        raise not_in(message.room, private=target.private)
    if not target.private and message.head != target.head:
        raise Refused(STALE_HEAD, room=message.room, head=target.head)
    kids = message.kids
    if kids.keys() != roster.kids.keys() or message.wrapped.keys() != kids.keys():
        raise Refused(BAD_AUDIENCE, room=message.room)
    if kids != roster.kids:
        raise Refused(STALE_KEYS, users=tuple(sorted(user for user in kids if kids[user] != roster.kids[user])))


def _take_turn(cursor: Cursor, target: _Target, message: NewMessage) -> None:
    """Counts the message among its device's. Raises Refused: `out_of_turn`; the count is then rolled back."""
    cursor.execute(
        "INSERT INTO counter (account_id, device, conversation_id, last) VALUES (?, ?, ?, 1)"
        " ON CONFLICT (account_id, device, conversation_id) DO UPDATE SET last = counter.last + 1"
        " RETURNING last",
        (target.sender_id, bytes.fromhex(message.device), target.conversation_id),
    )
    expected = cursor.fetchone()[0]
    if message.ctr != expected:
        raise Refused(OUT_OF_TURN, expected=expected)


def _insert(cursor: Cursor, at_rest: AtRest, target: _Target, roster: Roster, message: NewMessage) -> tuple[int, int]:
    """Stores a message that passed all checks; answers its seq and its audience's row."""
    slots = [message.wrapped[user] for user in sorted(message.wrapped)]
    if any(len(slot) != SLOT for slot in slots):
        raise ValueError(f"a wrapped key does not have {SLOT} bytes")
    audience_id = roster.audience_id or _put_audience(cursor, at_rest, target, message)
    cursor.execute(
        "UPDATE conversation SET last_seq = last_seq + 1 WHERE id = ? RETURNING last_seq",
        (target.conversation_id,),
    )
    (seq,) = cursor.fetchone()
    row = _place(message.room, seq, message.mid, message.sender, message.device, message.ts)
    cursor.execute(
        "INSERT INTO message (conversation_id, seq, sender_id, device, mid, ts, body_hash, audience_id,"
        " dek_id, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            target.conversation_id, seq, target.sender_id,
            bytes.fromhex(message.device), bytes.fromhex(message.mid), message.ts, message.body_hash,
            audience_id, at_rest.sealer.newest, at_rest.sealer.seal(row, message.shared),
        ),
    )  # fmt: skip
    (message_id,) = cursor.fetchone()
    cursor.execute("INSERT INTO message_keys (message_id, slots) VALUES (?, ?)", (message_id, b"".join(slots)))
    return seq, audience_id


def _put_audience(cursor: Cursor, at_rest: AtRest, target: _Target, message: NewMessage) -> int:
    """The row of a message's audience, made at its first use in the conversation."""
    readers = audience(message.kids)
    rcp = audience_digest(readers)
    cursor.execute("SELECT id FROM audience WHERE conversation_id = ? AND rcp = ?", (target.conversation_id, rcp))
    row = cursor.fetchone()
    if row is None:
        sealed = at_rest.sealer.seal(place("audience", message.room, rcp.hex()), readers)
        cursor.execute(
            "INSERT INTO audience (conversation_id, rcp, dek_id, sealed) VALUES (?, ?, ?, ?) RETURNING id",
            (target.conversation_id, rcp, at_rest.sealer.newest, sealed),
        )
        row = cursor.fetchone()
    return int(row[0])


def _place(room: str, seq: int, mid: str, sender: str, device: str, ts: int) -> bytes:
    return place("message", room, seq, mid, sender, device, ts)


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
    cursor.execute(
        "SELECT m.id, m.seq, a.name, m.device, m.mid, m.ts, m.audience_id, m.dek_id, m.sealed"
        " FROM message m JOIN account a ON a.id = m.sender_id"
        " WHERE m.conversation_id = ? AND m.seq > ? AND m.seq < ?"
        f" ORDER BY m.seq {'ASC' if ascending else 'DESC'} LIMIT ?",
        (at.conversation_id, after or 0, NEWEST if before is None else before, limit + 1),
    )
    rows = cursor.fetchall()  # one more than asked for tells whether there is more
    try:
        messages = _open(cursor, at_rest, user, room, rows[:limit], max_bytes)
    except AtRestMismatch as mismatch:
        raise Refused(DAMAGED, room=room) from mismatch
    return Page(messages if ascending else messages[::-1], more=len(messages) < len(rows))


def _open(
    cursor: Cursor, at_rest: AtRest, user: str, room: str, rows: Sequence[Any], max_bytes: int
) -> list[MessageRow]:
    """As many of the rows, in the order given, as `max_bytes` allow; one at least. Raises AtRestMismatch."""
    opened: list[tuple[Any, bytes, Entry | None]] = []
    for row in rows:
        _, seq, sender, device, mid, ts, audience_id, dek_id, sealed = row
        shared = at_rest.sealer.open(dek_id, _place(room, seq, mid.hex(), sender, device.hex(), ts), sealed)
        entry = _audience(cursor, at_rest, room, audience_id).get(user)
        max_bytes -= len(shared) + (0 if entry is None else SLOT)
        if max_bytes < 0 and opened:
            break
        opened.append((row, shared, entry))
    slots = _slots(cursor, {row[0]: entry.slot for row, _, entry in opened if entry is not None})
    return [
        MessageRow(room, seq, sender, device.hex(), mid.hex(), ts, shared, entry and entry.kid, slots.get(message_id))
        for (message_id, seq, sender, device, mid, ts, *_), shared, entry in opened
    ]


def _audience(cursor: Cursor, at_rest: AtRest, room: str, audience_id: int) -> Mapping[str, Entry]:
    """Who a message was sealed for. Raises AtRestMismatch."""
    key = (room, audience_id)  # the room too: a row that names another room's audience must not find it here
    entries = at_rest.audiences.get(key)
    if entries is None:
        cursor.execute("SELECT rcp, dek_id, sealed FROM audience WHERE id = ?", (audience_id,))
        row = cursor.fetchone()
        if row is None:
            raise AtRestMismatch("a stored message lacks its audience")
        rcp, dek_id, sealed = row
        readers = at_rest.sealer.open(dek_id, place("audience", room, rcp.hex()), sealed)
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
