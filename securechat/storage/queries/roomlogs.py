"""Room logs: signed events in their place; who is in a room follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from securechat.crypto.identity import SignedCertificate
from securechat.crypto.roomlog import AnyEvent, ChangeTopic, Mute, RoomLog, SignedEvent, Unmute
from securechat.crypto.transcript import transcript_start
from securechat.errors import DAMAGED, NO_SUCH_ROOM, NOT_INVITED, AtRestMismatch, InvalidKey, Refused
from securechat.storage.interface import LogPage
from securechat.storage.queries import devices
from securechat.storage.queries.common import Cursor, account_id
from securechat.storage.queries.conversations import topic_place
from securechat.storage.queries.sealing import AtRest, place

_SIGNATURE: Final = 64  # bytes; in a sealed event the signature stands before what was signed


class Room(NamedTuple):
    """A room's row."""

    row: int
    id: str
    open: bool
    last: int
    events: int
    members: int
    head: bytes
    th: bytes


# --- writing ----------------------------------------------------------------------------------------------------------


_COLUMNS: Final = "SELECT id, room_id, open, last_seq, events, members, head, th FROM conversation WHERE private = 0"


def find(cursor: Cursor, name: str) -> Room | None:
    """The room of that name."""
    cursor.execute(f"{_COLUMNS} AND name = ?", (name,))
    row = cursor.fetchone()
    return None if row is None else Room(row[0], row[1], bool(row[2]), *row[3:])


def find_row(cursor: Cursor, row: int) -> Room:
    """The room of that row, which there is."""
    cursor.execute(f"{_COLUMNS} AND id = ?", (row,))
    found = cursor.fetchone()
    return Room(found[0], found[1], bool(found[2]), *found[3:])


def create(cursor: Cursor, name: str, signed: SignedEvent, now: int) -> Room:
    """The row of a room that this event makes; `put` fills it."""
    th = bytes.fromhex(transcript_start(signed.eh))
    cursor.execute(
        "INSERT INTO conversation (name, private, open, last_seq, events, members, room_id, head, th, created)"
        " VALUES (?, 0, 0, 0, 0, 0, ?, ?, ?, ?) RETURNING id",
        (name, signed.eh, b"", th, now),
    )
    return Room(int(cursor.fetchone()[0]), signed.eh, False, 0, 0, 0, b"", th)


def put(cursor: Cursor, at_rest: AtRest, room: Room, log: RoomLog, signed: SignedEvent) -> None:
    """Makes an event the next of its log and does what it says. Where this raises, `log` is worth nothing any more."""
    event = signed.event
    before = _invited(log)
    log.append(signed)
    number = log.count
    cursor.execute(
        "INSERT INTO room_event (conversation_id, number, author_id, seq, eh, dek_id, sealed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            room.row, number, account_id(cursor, event.by), room.last, bytes.fromhex(signed.eh), at_rest.sealer.newest,
            at_rest.sealer.seal(event_place(room.id, number, signed.eh, room.last), signed.sig + signed.data),
        ),
    )  # fmt: skip
    cursor.execute(
        "UPDATE conversation SET events = ?, head = ?, open = ? WHERE id = ?",
        (number, bytes.fromhex(log.head), int(log.open), room.row),
    )
    change = log.changes[-1]
    if change is not None:
        _put_member(cursor, room, change.user, change.ik)
    after = _invited(log)
    cursor.executemany(
        "DELETE FROM invitation WHERE account_id = (SELECT id FROM account WHERE name = ?) AND conversation_id = ?"
        " AND ik = ?",
        [(user, room.row, ik) for user, ik in before - after],
    )
    cursor.executemany(
        "INSERT INTO invitation (account_id, conversation_id, ik) SELECT id, ?, ? FROM account WHERE name = ?",
        [(room.row, ik, user) for user, ik in after - before],
    )
    _put_voice(cursor, room, event)
    if isinstance(event, ChangeTopic):
        topic = at_rest.sealer.seal(topic_place(room.id), event.topic) if event.topic else None
        cursor.execute(
            "UPDATE conversation SET topic_dek = ?, topic = ? WHERE id = ?", (at_rest.sealer.newest, topic, room.row)
        )


def _put_voice(cursor: Cursor, room: Room, event: AnyEvent) -> None:
    """Notes who lost or got back their voice."""
    if isinstance(event, Mute):
        cursor.execute(
            "INSERT INTO mute (conversation_id, account_id, until) SELECT ?, id, ? FROM account WHERE name = ?"
            " ON CONFLICT (conversation_id, account_id) DO UPDATE SET until = excluded.until",
            (room.row, event.until, event.user),
        )
    elif isinstance(event, Unmute):
        cursor.execute(
            "DELETE FROM mute WHERE conversation_id = ? AND account_id = (SELECT id FROM account WHERE name = ?)",
            (room.row, event.user),
        )


def _invited(log: RoomLog) -> set[tuple[str, bytes]]:
    return {(user, ik) for user, identities in log.invites.items() for ik in identities}


def _put_member(cursor: Cursor, room: Room, user: str, ik: bytes | None) -> None:
    """Makes an identity the member under this name, as of now; None: nobody."""
    cursor.execute(
        "DELETE FROM member WHERE conversation_id = ? AND account_id = (SELECT id FROM account WHERE name = ?)"
        " RETURNING ik = (SELECT ik FROM account WHERE name = ?)",
        (room.row, user, user),
    )
    row = cursor.fetchone()
    counted = row[0] if row is not None else 0
    if ik is not None:
        cursor.execute(
            "INSERT INTO member (conversation_id, account_id, first_seq, read_seq, ik)"
            " SELECT ?, id, ?, ?, ? FROM account WHERE name = ? RETURNING ik = (SELECT ik FROM account WHERE name = ?)",
            (room.row, room.last, room.last, ik, user, user),
        )
        counted = cursor.fetchone()[0] - counted
    else:
        counted = -counted
    cursor.execute("UPDATE conversation SET members = members + ? WHERE id = ?", (counted, room.row))


def replayed(cursor: Cursor, at_rest: AtRest, name: str, room: Room) -> RoomLog:
    """A room's log as the database has it; for the writer alone. Raises Refused: `damaged`."""
    log = at_rest.logs.get(room.row)
    if log is None or (log.count, log.head) != (room.events, room.head.hex()):
        try:
            log = replay(cursor, at_rest, room)
        except AtRestMismatch as mismatch:
            raise Refused(DAMAGED, room=name) from mismatch
        at_rest.logs.put(room.row, log, log.count)
    return log


def replay(cursor: Cursor, at_rest: AtRest, room: Room) -> RoomLog:
    """A room's log as it is on disk. Raises AtRestMismatch."""
    stored = events(cursor, at_rest, room, 0, room.events)
    log = RoomLog(stored[0].event.srv if stored else "")
    try:
        for signed in stored:
            log.append(signed)
    except (Refused, InvalidKey) as error:
        raise AtRestMismatch(f"a stored room log does not follow its rules: {error}") from error
    if (log.count, log.head) != (room.events, room.head.hex()):
        raise AtRestMismatch("a stored room log does not end where its room says")
    return log


def events(cursor: Cursor, at_rest: AtRest, room: Room, after: int, limit: int) -> list[SignedEvent]:
    """The events behind number `after`, at most `limit`. Raises AtRestMismatch."""
    cursor.execute(
        "SELECT number, seq, eh, dek_id, sealed FROM room_event WHERE conversation_id = ? AND number > ?"
        " ORDER BY number LIMIT ?",
        (room.row, after, limit),
    )
    found = []
    for expected, (number, seq, eh, dek_id, sealed) in enumerate(cursor.fetchall(), after + 1):
        body = at_rest.sealer.open(dek_id, event_place(room.id, number, eh.hex(), seq), sealed)
        if number != expected:
            raise AtRestMismatch("a stored room log has a gap")
        found.append(SignedEvent(body[_SIGNATURE:], body[:_SIGNATURE]))
    return found


def event_place(room_id: str, number: int, eh: str, seq: int) -> bytes:
    """Everything that a room event is found, ordered and answered by (see `sealing.place`)."""
    return place("room_event", room_id, number, eh, seq)


# --- reading ----------------------------------------------------------------------------------------------------------


def page(cursor: Cursor, at_rest: AtRest, user: str, room: str, after: int, limit: int, max_bytes: int) -> LogPage:
    """See `ChatStore.room_log`."""
    found = find(cursor, room)
    if found is None:
        raise Refused(NO_SUCH_ROOM, room=room)
    if not found.open and not _concerned(cursor, found, user):
        raise Refused(NOT_INVITED, room=room)
    try:
        stored = events(cursor, at_rest, found, after, limit)
        if len(stored) != max(0, min(limit, found.events - after)):
            raise AtRestMismatch("a stored room log is cut short")
        acts, certs = _within(cursor, stored, max_bytes)
    except (AtRestMismatch, InvalidKey) as mismatch:
        raise Refused(DAMAGED, room=room) from mismatch
    return LogPage(found.id, acts, certs, found.events, more=after + len(acts) < found.events)


def _concerned(cursor: Cursor, room: Room, user: str) -> bool:
    """Whether somebody is a member of a room or invited into it."""
    cursor.execute(
        "SELECT 1 FROM account a WHERE a.name = ? AND ("
        " EXISTS (SELECT 1 FROM member m WHERE m.conversation_id = ? AND m.account_id = a.id AND m.ik = a.ik)"
        " OR EXISTS (SELECT 1 FROM invitation i"
        " WHERE i.conversation_id = ? AND i.account_id = a.id AND i.ik = a.ik))",
        (user, room.row, room.row),
    )
    return cursor.fetchone() is not None


def _within(
    cursor: Cursor, events: Sequence[SignedEvent], max_bytes: int
) -> tuple[list[SignedEvent], list[SignedCertificate]]:
    """As many events as `max_bytes` allow, one at least, and the certificates of those who signed them."""
    acts: list[SignedEvent] = []
    certs: dict[tuple[str, str, bytes], SignedCertificate] = {}
    for signed in events:
        who = signer(signed)
        certificate = None
        if who not in certs:
            stored = devices.certificate(cursor, *who)
            if stored is None:
                raise AtRestMismatch("the certificate of a device that signed a stored room event is gone")
            _, certificate = stored
        max_bytes -= len(signed.data) + (0 if certificate is None else len(certificate.cert))
        if max_bytes < 0 and acts:
            break
        acts.append(signed)
        if certificate is not None:
            certs[who] = certificate
    return acts, list(certs.values())


def signer(signed: SignedEvent) -> tuple[str, str, bytes]:
    """Who signed an event: name, device and identity."""
    event = signed.event
    return event.by, event.dev, event.ik
