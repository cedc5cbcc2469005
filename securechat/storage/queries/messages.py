"""Storing messages: once, in order, for exactly the right readers.

Messages that come one after the other in one commit are checked and written together. One to a conversation that is
busy is checked against memory alone, and many rows take as few statements as one: docs/performance.md has what that
gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from securechat.crypto.envelope import Header, audience, audience_digest
from securechat.crypto.identity import private_conversation
from securechat.crypto.roomlog import RoomLog
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
from securechat.storage.queries import segments
from securechat.storage.queries.common import Cursor, marks, not_in, transcript_at, trimmed_to
from securechat.storage.queries.conversations import create_private
from securechat.storage.queries.history import SLOT, one
from securechat.storage.queries.retention import check_quota, size_of, usage_of
from securechat.storage.queries.roomlogs import find, replayed
from securechat.storage.queries.sealing import AtRest, Author, Roster, Standing, audience_place

_PLACES: Final = 256  # of a transcript, newest, kept in memory: authors seldom name an older one
_ROWS: Final = 64  # that one statement inserts


def append(cursor: Cursor, at_rest: AtRest, messages: Sequence[NewMessage]) -> list[Appended | Refused]:
    """See `ChatStore.append`; one outcome a message, in their order.

    Raises:
        sqlite3.Error: nothing of all of them is stored; each may be tried alone.
    """
    writing = _Writing(cursor, at_rest)
    outcomes: list[Appended | Refused] = []
    for message in messages:
        try:
            outcomes.append(writing.take(message))
        except Refused as refusal:
            outcomes.append(refusal.with_traceback(None))
    writing.write()
    return outcomes


class _Accepted(NamedTuple):
    """A message that passed all checks, and its place."""

    message: NewMessage
    author: Author
    seq: int
    th: str
    size: int
    audience_id: int | None


class _Writing:
    """The messages of one commit: taken one by one, written together."""

    def __init__(self, cursor: Cursor, at_rest: AtRest) -> None:
        self.cursor = cursor
        self.at_rest = at_rest
        self._accepted: dict[int, tuple[Standing, list[_Accepted]]] = {}

    # --- checks -----------------------------------------------------------------------------------------------------

    def take(self, message: NewMessage) -> Appended:
        """Checks a message against all before it, and gives it its place. Raises Refused: it leaves no trace."""
        standing = self.at_rest.standings.get(message.room)
        author = None if standing is None else standing.authors.get((message.sender, message.device))
        if standing is not None and author is not None and _follows(message, author):
            return self._accept(message, standing, author)
        self.write()  # what follows is asked of the database
        stored = _stored(self.cursor, message)
        if stored is not None:
            return stored
        found = _standing(self.cursor, self.at_rest, message, standing)
        if found is None:
            return self._open_private(message)
        standing, author = found
        standing.authors[message.sender, message.device] = author
        self.at_rest.standings.put(message.room, standing, 32 + len(standing.authors))
        return self._accept(message, standing, author)

    def _open_private(self, message: NewMessage) -> Appended:
        """The first message of a private conversation, which is made with it or not at all. Raises Refused."""
        self.cursor.execute("SAVEPOINT opening")
        try:
            appended = self._accept(message, *_private(self.cursor, self.at_rest, message))
            self.write()
        except Refused:  # after any other error all is taken back, this savepoint with it
            self._accepted.clear()
            self.cursor.execute("ROLLBACK TO opening")
            self.cursor.execute("RELEASE opening")
            raise
        self.cursor.execute("RELEASE opening")
        return appended

    def _accept(self, message: NewMessage, standing: Standing, author: Author) -> Appended:
        cursor, at_rest, header = self.cursor, self.at_rest, message.header
        if header.room != standing.room_id:
            raise Refused(BAD_HEADER, why="it is of another conversation")
        roster = _roster(cursor, at_rest, message.room, standing)
        _check_author(message, standing, roster)
        changed = set() if header.head == standing.head else _changed_since(cursor, at_rest, message, standing)
        if header.dl != author.newest_list:
            raise Refused(STALE_KEYS, users=(message.sender,))
        usual = message.kids == roster.kids
        if isinstance(header, Header):
            if not usual:
                _check_audience(cursor, at_rest, message, standing, roster, changed)
            if header.rcp != (roster.rcp if usual else audience_digest(audience(message.kids)).hex()):
                raise Refused(BAD_HEADER, why="rcp is not the digest of the readers")
        if header.th != (standing.last, standing.th) and not _was_at(self, standing, header.th):
            raise Refused(BAD_HEADER, why="th is no place of this conversation")
        _check_turn(self, message, standing, author)
        check_quota(message, standing, author)
        audience_id = self._audience(message, header, standing, roster, usual) if isinstance(header, Header) else None
        return self._place(message, standing, author, audience_id)

    def _audience(self, message: NewMessage, header: Header, standing: Standing, roster: Roster, usual: bool) -> int:
        """The row of a message's audience, made at its first use in the conversation."""
        if usual and roster.audience_id is not None:
            return roster.audience_id
        audience_id = _put_audience(self.cursor, self.at_rest, standing, header, message)
        if usual:
            roster.audience_id = audience_id
        return audience_id

    def _place(self, message: NewMessage, standing: Standing, author: Author, audience_id: int | None) -> Appended:
        """Gives a message that passed all checks its place."""
        size = size_of(message)
        standing.bytes += size
        author.bytes += size
        if author.usage is not None:
            author.usage.stored += size
        seq = standing.last + 1
        th = next_th(standing.th, standing.head, message.id)
        standing.last, standing.th = seq, th
        standing.places[seq] = th
        if len(standing.places) > _PLACES:
            del standing.places[next(iter(standing.places))]
        author.last, author.seq = message.header.ctr, seq
        author.digest, author.epoch = bytes.fromhex(message.id), self.at_rest.epoch
        _, accepted = self._accepted.setdefault(standing.id, (standing, []))
        accepted.append(_Accepted(message, author, seq, th, size, audience_id))
        return Appended(seq, message.ts, standing.events, fresh_conversation=standing.fresh)

    # --- rows -------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Writes what was accepted."""
        written, self._accepted = list(self._accepted.values()), {}
        if not written:
            return
        bodies, rows, keys = [], [], []
        numbers = iter(self.at_rest.numbers(self.cursor, "message", sum(len(accepted) for _, accepted in written)))
        for standing, accepted in written:
            for at in range(0, len(accepted), segments.MESSAGES):
                some = accepted[at : at + segments.MESSAGES]
                (segment_id,) = self.at_rest.numbers(self.cursor, "segment", 1)
                segment = segments.Segment(some[0].seq, [_body(standing, each) for each in some])
                bodies.append(self._sealed(segment_id, standing, segment))
                for each, body, number in zip(some, segment.bodies, numbers, strict=False):
                    rows.append(_row(number, standing, each, body, segment_id))
                    if each.message.wrapped:
                        keys.append((number, _slots(each.message)))
        self._insert("INSERT INTO segment (id, conversation_id, first_seq, dek_id, sealed) VALUES", bodies)
        self._insert(
            "INSERT INTO message (id, conversation_id, seq, sender_id, device, mid, ts, events, body_hash, digest, th,"
            " size, audience_id, segment_id) VALUES",
            rows,
        )
        self._insert("INSERT INTO message_keys (message_id, slots) VALUES", keys)
        self._insert(
            "INSERT INTO counter (account_id, device, conversation_id, last, seq, digest, epoch, bytes) VALUES",
            {(each.author.account_id, each.message.device, standing.id): _counter(standing, each)
             for standing, accepted in written for each in accepted}.values(),
            " ON CONFLICT (account_id, device, conversation_id) DO UPDATE"
            " SET last = excluded.last, seq = excluded.seq, digest = excluded.digest, epoch = excluded.epoch,"
            " bytes = excluded.bytes",
        )  # fmt: skip
        self._insert(
            "UPDATE conversation SET last_seq = newest.column2, th = newest.column3, bytes = newest.column4"
            " FROM (VALUES",
            [(standing.id, standing.last, bytes.fromhex(standing.th), standing.bytes) for standing, _ in written],
            ") AS newest WHERE conversation.id = newest.column1",
        )

    def _sealed(self, segment_id: int, standing: Standing, segment: segments.Segment) -> tuple[Any, ...]:
        """The row of a segment."""
        sealed = segments.seal(self.at_rest, segment_id, standing.room_id, segment)
        return segment_id, standing.id, segment.first, self.at_rest.sealer.newest, sealed

    def _insert(self, start: str, rows: Collection[tuple[Any, ...]], end: str = "") -> None:
        """Runs a statement with rows of VALUES, as many as it may take at once."""
        for some in _portions(list(rows), _ROWS):
            sql = _with_values(start, len(some), len(some[0]), end)
            self.cursor.execute(sql, tuple(chain.from_iterable(some)))


def _portions(rows: Sequence[tuple[Any, ...]], size: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    return (rows[at : at + size] for at in range(0, len(rows), size))


@cache
def _with_values(start: str, rows: int, columns: int, end: str) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{start} {', '.join([row] * rows)}{end}"


def _row(number: int, standing: Standing, accepted: _Accepted, body: segments.Body, segment_id: int) -> tuple[Any, ...]:
    return (
        number, standing.id, accepted.seq, accepted.author.account_id, body.device, body.mid, body.ts, body.events,
        accepted.message.body_hash, body.digest, body.th, accepted.size, accepted.audience_id, segment_id,
    )  # fmt: skip


def _body(standing: Standing, accepted: _Accepted) -> segments.Body:
    """What a segment says of a message; `history` compares it to the row."""
    message, th = accepted.message, accepted.th
    return segments.Body(
        bytes.fromhex(message.header.mid), message.sender, bytes.fromhex(message.device), message.ts, standing.events,
        bytes.fromhex(message.id), bytes.fromhex(th), message.shared,
    )  # fmt: skip


def _counter(standing: Standing, accepted: _Accepted) -> tuple[Any, ...]:
    """Where a device stands after its last message of this commit."""
    author, device = accepted.author, bytes.fromhex(accepted.message.device)
    return author.account_id, device, standing.id, author.last, author.seq, author.digest, author.epoch, author.bytes


def _slots(message: NewMessage) -> bytes:
    """The wrapped keys in the order of the audience."""
    slots = [message.wrapped[user] for user in sorted(message.wrapped)]
    if message.wrapped.keys() != message.kids.keys() or any(len(slot) != SLOT for slot in slots):
        raise ValueError(f"not every reader has a wrapped key of {SLOT} bytes")
    return b"".join(slots)


# --- what a message is checked against --------------------------------------------------------------------------------


def _follows(message: NewMessage, author: Author) -> bool:
    """Whether a message is the next of its device: then it was not stored before."""
    header = message.header
    return (header.ctr, header.prev) == (author.last + 1, author.digest.hex()) and message.peer == author.peer


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


def _standing(
    cursor: Cursor, at_rest: AtRest, message: NewMessage, standing: Standing | None
) -> tuple[Standing, Author] | None:
    """The conversation a message goes to, and its author there; None where a private one is to be made.

    Args:
        standing: the conversation, where it is known.

    Raises:
        Refused: `no_such_room`, `no_such_user`, `stale_keys`.
    """
    cursor.execute(
        "SELECT a.id, a.ik, a.version, a.list_digest, c.id, c.room_id, c.private, c.head, c.events, c.last_seq, c.th,"
        " c.bytes, c.quota, a.quota, k.last, k.digest, k.seq, k.epoch, k.bytes FROM account a"
        " LEFT JOIN conversation c ON c.name = ?"
        " LEFT JOIN counter k ON k.account_id = a.id AND k.device = ? AND k.conversation_id = c.id WHERE a.name = ?",
        (message.room, bytes.fromhex(message.device), message.sender),
    )
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a message was stored for a user who does not exist")
    account, ik, version, list_digest, conversation, room_id, private, head, events, last, th, *more = row
    size, room_quota, user_quota, *counter = more
    if message.peer is not None:
        _peer(cursor, message, ik)
    if conversation is None:
        if message.peer is None:
            raise Refused(NO_SUCH_ROOM, room=message.room)
        return None
    if standing is None:
        limit = at_rest.quotas.room if room_quota is None else room_quota
        standing = Standing(
            conversation, room_id, bool(private), head.hex(), events, last, th.hex(), transcript_start(room_id),
            size, 0 if private else limit,
        )  # fmt: skip
    usage = usage_of(cursor, at_rest, account, user_quota)
    author = Author(account, (version, list_digest.hex()), message.peer, usage)
    if counter[0] is not None:
        author.last, author.digest, author.seq, author.epoch, author.bytes = counter
    return standing, author


def _private(cursor: Cursor, at_rest: AtRest, message: NewMessage) -> tuple[Standing, Author]:
    """A private conversation, made now, and the author of its first message."""
    cursor.execute("SELECT id, ik, version, list_digest, quota FROM account WHERE name = ?", (message.sender,))
    account, ik, version, list_digest, quota = cursor.fetchone()
    conversation = create_private(cursor, message.room, ((account, ik), _peer(cursor, message, ik)), message.ts)
    start = transcript_start(message.room)
    standing = Standing(conversation, message.room, True, "", 0, 0, start, start, fresh=True)
    usage = usage_of(cursor, at_rest, account, quota)
    return standing, Author(account, (version, list_digest.hex()), message.peer, usage)


def _peer(cursor: Cursor, message: NewMessage, ik: bytes) -> tuple[int, bytes]:
    """The other account of a private conversation, and its identity. Raises Refused: it is not of those two."""
    cursor.execute("SELECT id, ik FROM account WHERE name = ? AND deleted = 0", (message.peer,))
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_USER, user=message.peer)
    account, other = row
    if private_conversation(ik, other) != message.room:
        raise Refused(STALE_KEYS, users=(message.peer,))
    return account, other


def _roster(cursor: Cursor, at_rest: AtRest, name: str, standing: Standing) -> Roster:
    """Whom a message must be sealed for now: the members whose accounts still have the identity that joined."""
    key = (standing.id, standing.events)
    roster = at_rest.rosters.get(key)
    if roster is None:
        cursor.execute(
            "SELECT a.name, a.kid FROM member m JOIN account a ON a.id = m.account_id AND a.ik = m.ik"
            " WHERE m.conversation_id = ?",
            (standing.id,),
        )
        kids = dict(cursor.fetchall())
        log = None if standing.private else _log(cursor, at_rest, name)
        muted = {} if log is None else dict(log.mutes)
        roster = Roster(kids, audience_digest(audience(kids)).hex(), muted)
        # One made by this message goes with it if it is refused, and the next one may get the same id.
        if not standing.fresh:
            at_rest.rosters.put(key, roster, len(kids))
    return roster


def _check_author(message: NewMessage, standing: Standing, roster: Roster) -> None:
    """Whether the sender may write here. Raises Refused."""
    if message.sender not in roster.kids:
        raise not_in(message.room, private=standing.private)
    until = roster.muted.get(message.sender)
    # Readers go by the author's clock, which may be behind.
    if until is not None and (until == 0 or min(message.ts, message.header.at) < until):
        raise Refused(MUTED, room=message.room)


def _changed_since(cursor: Cursor, at_rest: AtRest, message: NewMessage, standing: Standing) -> set[str]:
    """Whose membership changed since the message's head. Raises Refused: it must be sealed for a newer one."""
    if standing.private:
        raise Refused(BAD_HEADER, why="a private conversation has no head")
    log = _log(cursor, at_rest, message.room)
    since = None if log is None else log.changed_since(message.header.head)
    if since is None or since[1]:
        raise Refused(STALE_HEAD, room=message.room, head=standing.head)
    return since[0]


def _check_audience(
    cursor: Cursor, at_rest: AtRest, message: NewMessage, standing: Standing, roster: Roster, changed: set[str]
) -> None:
    """Whether a message is sealed for the members, give or take those who came or went meanwhile. Raises Refused."""
    kids, wanted = message.kids, roster.kids
    extra = kids.keys() - wanted.keys()
    # Somebody who has another identity by now is in the log still: its author has not heard of that.
    replaced = set() if standing.private else _replaced(cursor, at_rest, message, extra - changed)
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
    log = _log(cursor, at_rest, message.room) if users else None
    return set() if log is None else users & log.members.keys()


def _log(cursor: Cursor, at_rest: AtRest, name: str) -> RoomLog | None:
    """A room's log; None where there is no such room."""
    room = find(cursor, name)
    return None if room is None else replayed(cursor, at_rest, name, room)


def _kids(cursor: Cursor, users: set[str]) -> dict[str, str]:
    """The newest keys of those users that exist."""
    if not users:
        return {}
    cursor.execute(f"SELECT name, kid FROM account WHERE name IN ({marks(tuple(users))})", tuple(users))
    return dict(cursor.fetchall())


def _was_at(writing: _Writing, standing: Standing, named: tuple[int, str]) -> bool:
    """Whether the conversation's transcript was at this place before."""
    seq, th = named
    if seq > standing.last:
        return False
    known = standing.places.get(seq) if seq else standing.start
    if known is None:
        writing.write()
        known = transcript_at(writing.cursor, standing.id, standing.room_id, seq)
    # What was removed as too old its readers may remember: they judge what an author says of it.
    return known == th or (known is None and seq < trimmed_to(writing.cursor, standing.id))


def _check_turn(writing: _Writing, message: NewMessage, standing: Standing, author: Author) -> None:
    """Whether a message is the next of its device here. Raises Refused: `ctr_behind`, `out_of_turn`.

    In a new epoch messages of the device may be gone that others have seen: then its first one may have any number
    above the last stored, and follow any other.
    """
    header, at_rest, expected = message.header, writing.at_rest, author.last + 1
    if header.ctr < expected:
        writing.write()
        proof = one(writing.cursor, at_rest, message.sender, message.room, standing.id, author.seq)
        raise Refused(CTR_BEHIND, expected=expected, **({} if proof is None else {"proof": proof}))
    lost = at_rest.restored if author.epoch is None else author.epoch != at_rest.epoch
    if not lost and not _follows(message, author):
        raise Refused(OUT_OF_TURN, expected=expected)


def _put_audience(cursor: Cursor, at_rest: AtRest, standing: Standing, header: Header, message: NewMessage) -> int:
    """The row of a message's audience, made at its first use in the conversation."""
    rcp = bytes.fromhex(header.rcp)  # the digest of exactly these readers, as was checked
    cursor.execute("SELECT id FROM audience WHERE conversation_id = ? AND rcp = ?", (standing.id, rcp))
    row = cursor.fetchone()
    if row is None:
        sealed = at_rest.sealer.seal(audience_place(standing.room_id, rcp.hex()), audience(message.kids))
        (number,) = at_rest.numbers(cursor, "audience", 1)  # never one of a commit that failed: readers may have that
        cursor.execute(
            "INSERT INTO audience (id, conversation_id, rcp, dek_id, sealed) VALUES (?, ?, ?, ?, ?)",
            (number, standing.id, rcp, at_rest.sealer.newest, sealed),
        )
        return number
    return int(row[0])
