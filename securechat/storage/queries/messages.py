"""Storing messages: once, in order, for exactly the right readers."""

from __future__ import annotations

from typing import NamedTuple

from securechat.crypto.envelope import audience, audience_digest
from securechat.crypto.identity import private_conversation
from securechat.crypto.transcript import next_th, transcript_start
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_HEADER,
    CTR_BEHIND,
    MID_CONFLICT,
    MUTED,
    NO_SUCH_ROOM,
    NO_SUCH_USER,
    OUT_OF_TURN,
    STALE_HEAD,
    STALE_KEYS,
    Refused,
)
from securechat.storage.interface import Appended, NewMessage
from securechat.storage.queries.common import Cursor, marks, not_in, transcript_at
from securechat.storage.queries.conversations import create_private
from securechat.storage.queries.history import SLOT, message_place, one
from securechat.storage.queries.roomlogs import find, replayed
from securechat.storage.queries.sealing import AtRest, Roster, place


class _Counter(NamedTuple):
    """The last message of the sending device in this conversation."""

    last: int = 0
    digest: bytes = b""
    seq: int = 0
    epoch: str | None = None


class _Target(NamedTuple):
    """The conversation a message goes to. `fresh`: made by this very message."""

    sender_id: int
    newest_list: tuple[int, str]
    conversation_id: int
    room_id: str
    private: bool
    head: str
    events: int
    last: int
    th: str
    counter: _Counter
    fresh: bool = False


def append(cursor: Cursor, at_rest: AtRest, message: NewMessage) -> Appended:
    """See `ChatStore.append`."""
    stored = _stored(cursor, message)
    if stored is not None:
        return stored
    target = _target(cursor, message)
    header = message.header
    if header.room != target.room_id:
        raise Refused(BAD_HEADER, why="it is of another conversation")
    roster = _roster(cursor, at_rest, message.room, target)
    _check_author(message, target, roster)
    changed = set() if header.head == target.head else _changed_since(cursor, at_rest, message, target)
    if header.dl != target.newest_list:
        raise Refused(STALE_KEYS, users=(message.sender,))
    usual = message.kids == roster.kids
    if not usual:
        _check_audience(cursor, at_rest, message, target, roster, changed)
    if header.rcp != (roster.rcp if usual else audience_digest(audience(message.kids)).hex()):
        raise Refused(BAD_HEADER, why="rcp is not the digest of the readers")
    if header.th != (target.last, target.th) and not _was_at(cursor, target, header.th):
        raise Refused(BAD_HEADER, why="th is no place of this conversation")
    _check_turn(cursor, at_rest, message, target)
    audience_id = roster.audience_id if usual else None
    seq, audience_id = _insert(cursor, at_rest, target, message, audience_id)
    if usual:
        roster.audience_id = audience_id
    return Appended(seq, message.ts, target.events, fresh_conversation=target.fresh)


def _stored(cursor: Cursor, message: NewMessage) -> Appended | None:
    """Where an earlier call put this message. Raises Refused: `mid_conflict`."""
    cursor.execute(
        "SELECT m.body_hash, c.name, m.seq, m.ts, m.events FROM message m JOIN conversation c"
        " ON c.id = m.conversation_id WHERE m.sender_id = (SELECT id FROM account WHERE name = ?)"
        " AND m.device = ? AND m.mid = ?",
        (message.sender, bytes.fromhex(message.device), bytes.fromhex(message.header.mid)),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    body_hash, name, seq, ts, events = row
    # A room may have lost its name since; under another name the answer would be about another room.
    if (body_hash, name.partition("#")[0]) != (message.body_hash, message.room):
        raise Refused(MID_CONFLICT)
    return Appended(seq, ts, events, dup=True)


def _target(cursor: Cursor, message: NewMessage) -> _Target:
    """The conversation, made now where this message opens a private one. Raises Refused."""
    cursor.execute(
        "SELECT a.id, a.ik, a.version, a.list_digest, c.id, c.room_id, c.private, c.head, c.events, c.last_seq, c.th,"
        " k.last, k.digest, k.seq, k.epoch FROM account a LEFT JOIN conversation c ON c.name = ?"
        " LEFT JOIN counter k ON k.account_id = a.id AND k.device = ? AND k.conversation_id = c.id WHERE a.name = ?",
        (message.room, bytes.fromhex(message.device), message.sender),
    )
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a message was stored for a user who does not exist")
    sender_id, ik, version, digest, conversation, room_id, private, head, events, last, th, *counter = row
    newest_list = version, digest.hex()
    peer = None if message.peer is None else _peer(cursor, message, ik)
    if conversation is not None:
        count = _Counter() if counter[0] is None else _Counter(*counter)
        return _Target(
            sender_id, newest_list, conversation, room_id, bool(private), head.hex(), events, last, th.hex(), count
        )
    if peer is None:
        raise Refused(NO_SUCH_ROOM, room=message.room)
    conversation = create_private(cursor, message.room, ((sender_id, ik), peer), message.ts)
    th = transcript_start(message.room)
    return _Target(sender_id, newest_list, conversation, message.room, True, "", 0, 0, th, _Counter(), fresh=True)


def _peer(cursor: Cursor, message: NewMessage, ik: bytes) -> tuple[int, bytes]:
    """The other account of a private conversation, and its identity. Raises Refused: it is not of those two."""
    cursor.execute("SELECT id, ik FROM account WHERE name = ?", (message.peer,))
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_USER, user=message.peer)
    account, other = row
    if private_conversation(ik, other) != message.room:
        raise Refused(STALE_KEYS, users=(message.peer,))
    return account, other


def _roster(cursor: Cursor, at_rest: AtRest, name: str, target: _Target) -> Roster:
    """Whom a message must be sealed for now: the members whose accounts still have the identity that joined."""
    key = (target.conversation_id, target.events)
    roster = at_rest.rosters.get(key)
    if roster is None:
        cursor.execute(
            "SELECT a.name, a.kid FROM member m JOIN account a ON a.id = m.account_id AND a.ik = m.ik"
            " WHERE m.conversation_id = ?",
            (target.conversation_id,),
        )
        kids = dict(cursor.fetchall())
        room = None if target.private else find(cursor, name)
        muted = {} if room is None else dict(replayed(cursor, at_rest, name, room).mutes)
        roster = Roster(kids, audience_digest(audience(kids)).hex(), muted)
        # One made by this message goes with it if it is refused, and the next one may get the same id.
        if not target.fresh:
            at_rest.rosters.put(key, roster, len(kids))
    return roster


def _check_author(message: NewMessage, target: _Target, roster: Roster) -> None:
    """Whether the sender may write here. Raises Refused."""
    if message.sender not in roster.kids:
        raise not_in(message.room, private=target.private)
    until = roster.muted.get(message.sender)
    # Readers go by the author's clock, which may be behind.
    if until is not None and (until == 0 or min(message.ts, message.header.at) < until):
        raise Refused(MUTED, room=message.room)


def _changed_since(cursor: Cursor, at_rest: AtRest, message: NewMessage, target: _Target) -> set[str]:
    """Whose membership changed since the message's head. Raises Refused: it must be sealed for a newer one."""
    if target.private:
        raise Refused(BAD_HEADER, why="a private conversation has no head")
    room = find(cursor, message.room)
    since = None if room is None else replayed(cursor, at_rest, message.room, room).changed_since(message.header.head)
    if since is None or since[1]:
        raise Refused(STALE_HEAD, room=message.room, head=target.head)
    return since[0]


def _check_audience(
    cursor: Cursor, at_rest: AtRest, message: NewMessage, target: _Target, roster: Roster, changed: set[str]
) -> None:
    """Whether a message is sealed for the members, give or take those who came or went meanwhile. Raises Refused."""
    kids, wanted = message.kids, roster.kids
    extra = kids.keys() - wanted.keys()
    # Somebody who has another identity by now is in the log still: its author has not heard of that.
    replaced = set() if target.private else _replaced(cursor, at_rest, message, extra - changed)
    if (wanted.keys() - changed) - kids.keys() or extra - changed - replaced:
        raise Refused(BAD_AUDIENCE, room=message.room)
    newest = {**wanted, **_kids(cursor, extra)}
    if kids.keys() - newest.keys():
        raise Refused(BAD_AUDIENCE, room=message.room)
    stale = replaced | {user for user, kid in kids.items() if kid != newest[user]}
    if stale:
        raise Refused(STALE_KEYS, users=tuple(sorted(stale)))


def _replaced(cursor: Cursor, at_rest: AtRest, message: NewMessage, users: set[str]) -> set[str]:
    """Those of the users who are members by the room's log, though not as who they are now."""
    room = find(cursor, message.room) if users else None
    return set() if room is None else users & replayed(cursor, at_rest, message.room, room).members.keys()


def _kids(cursor: Cursor, users: set[str]) -> dict[str, str]:
    """The newest keys of those users that exist."""
    if not users:
        return {}
    cursor.execute(f"SELECT name, kid FROM account WHERE name IN ({marks(tuple(users))})", tuple(users))
    return dict(cursor.fetchall())


def _was_at(cursor: Cursor, target: _Target, named: tuple[int, str]) -> bool:
    """Whether the conversation's transcript was at this place before."""
    seq, th = named
    return seq <= target.last and transcript_at(cursor, target.conversation_id, target.room_id, seq) == th


def _check_turn(cursor: Cursor, at_rest: AtRest, message: NewMessage, target: _Target) -> None:
    """Whether a message is the next of its device here. Raises Refused: `ctr_behind`, `out_of_turn`.

    In a new epoch messages of the device may be gone that others have seen: then its first one may have any number
    above the last stored, and follow any other.
    """
    counter, header = target.counter, message.header
    expected = counter.last + 1
    if header.ctr < expected:
        proof = one(cursor, at_rest, message.sender, message.room, target.conversation_id, counter.seq)
        raise Refused(CTR_BEHIND, expected=expected, proof=proof)
    lost = at_rest.restored if counter.epoch is None else counter.epoch != at_rest.epoch
    if not lost and (header.ctr, header.prev) != (expected, counter.digest.hex()):
        raise Refused(OUT_OF_TURN, expected=expected)


def _insert(
    cursor: Cursor, at_rest: AtRest, target: _Target, message: NewMessage, audience_id: int | None
) -> tuple[int, int]:
    """Stores a message that passed all checks; answers its seq and its audience's row."""
    slots = [message.wrapped[user] for user in sorted(message.wrapped)]
    if message.wrapped.keys() != message.kids.keys() or any(len(slot) != SLOT for slot in slots):
        raise ValueError(f"not every reader has a wrapped key of {SLOT} bytes")
    if audience_id is None:
        audience_id = _put_audience(cursor, at_rest, target, message)
    header, seq, conversation = message.header, target.last + 1, target.conversation_id
    th = next_th(target.th, target.head, message.id)
    device, digest = bytes.fromhex(message.device), bytes.fromhex(message.id)
    cursor.execute("UPDATE conversation SET last_seq = ?, th = ? WHERE id = ?", (seq, bytes.fromhex(th), conversation))
    cursor.execute(
        "INSERT INTO counter (account_id, device, conversation_id, last, seq, digest, epoch)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, device, conversation_id) DO UPDATE"
        " SET last = excluded.last, seq = excluded.seq, digest = excluded.digest, epoch = excluded.epoch",
        (target.sender_id, device, conversation, header.ctr, seq, digest, at_rest.epoch),
    )
    row = message_place(
        target.room_id, seq, header.mid, message.sender, message.device, message.ts, target.events, message.id, th
    )
    cursor.execute(
        "INSERT INTO message (conversation_id, seq, sender_id, device, mid, ts, events, body_hash, digest, th,"
        " audience_id, dek_id, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            conversation, seq, target.sender_id, device, bytes.fromhex(header.mid), message.ts, target.events,
            message.body_hash, digest, bytes.fromhex(th),
            audience_id, at_rest.sealer.newest, at_rest.sealer.seal(row, message.shared),
        ),
    )  # fmt: skip
    (message_id,) = cursor.fetchone()
    cursor.execute("INSERT INTO message_keys (message_id, slots) VALUES (?, ?)", (message_id, b"".join(slots)))
    return seq, audience_id


def _put_audience(cursor: Cursor, at_rest: AtRest, target: _Target, message: NewMessage) -> int:
    """The row of a message's audience, made at its first use in the conversation."""
    rcp = bytes.fromhex(message.header.rcp)  # the digest of exactly these readers, as was checked
    cursor.execute("SELECT id FROM audience WHERE conversation_id = ? AND rcp = ?", (target.conversation_id, rcp))
    row = cursor.fetchone()
    if row is None:
        sealed = at_rest.sealer.seal(place("audience", target.room_id, rcp.hex()), audience(message.kids))
        cursor.execute(
            "INSERT INTO audience (conversation_id, rcp, dek_id, sealed) VALUES (?, ?, ?, ?) RETURNING id",
            (target.conversation_id, rcp, at_rest.sealer.newest, sealed),
        )
        row = cursor.fetchone()
    return int(row[0])
