"""Whether what is stored checks out: everything read, opened, and held against what else says the same.

Each step reads a part in a transaction of its own, so that no reader keeps the write-ahead log from being emptied. A
step never raises: what it cannot read is a `Fault` too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from securechat.crypto.envelope import audience_digest, bind_of, body_hash, message_id, parse_audience
from securechat.crypto.identity import SignedBundle, device_of, verify_bundle, verify_certificate
from securechat.crypto.transcript import next_th, transcript_start
from securechat.errors import AtRestMismatch, InvalidKey, SecureChatError
from securechat.storage.interface import Fault
from securechat.storage.queries import devices, sealed, segments
from securechat.storage.queries.common import Cursor
from securechat.storage.queries.history import SLOT
from securechat.storage.queries.roomlogs import Room, events, find_row, replay, signer
from securechat.storage.queries.sealing import AtRest, audience_place

_BATCH: Final = 200  # rows a step
_SQLITE: Final = 100  # complaints of SQLite's own that are told
_FAILS: Final = (sqlite3.Error, SecureChatError, msgspec.MsgspecError, ValueError, LookupError, TypeError)


class Step(NamedTuple):
    """What a step found, how many rows it looked at, and the last one's id; no row: this part is done.

    `then` is where to go on: a `Walk`, or the conversations to look at.
    """

    faults: Sequence[Fault]
    rows: int = 0
    last: int = 0
    then: Any = None


@dataclass
class Walk:
    """A way through a conversation's messages, in their order.

    Attributes:
        row: of the conversation; `name`, `room_id`: its own.
        links: of its log, by the number of events.
        end: the newest message when the walk began, and the transcript after it.
        seq, th: how far it has come; `segment` and `readers` are those of the message there.
    """

    row: int
    name: str
    room_id: str
    links: Sequence[str]
    end: tuple[int, str]
    seq: int
    th: str
    segment: tuple[int, segments.Segment] | None = None
    readers: tuple[int, Mapping[str, str]] | None = None


class Row(NamedTuple):
    """A message as its row has it."""

    id: int
    seq: int
    sender: str
    device: bytes
    mid: bytes
    ts: int
    events: int
    digest: bytes
    th: bytes
    body_hash: bytes
    size: int
    audience_id: int | None
    segment_id: int
    slots: bytes | None


class _Package(msgspec.Struct):
    """The part of a package that all its readers get alike, as far as its id comes from it."""

    hdr: bytes
    bind: bytes = b""
    ct: bytes = b""


_decode = msgspec.json.Decoder(_Package).decode


def guarded(cursor: Cursor, table: str, where: str, step: Callable[..., Step], *args: Any) -> Step:
    """A step that cannot be made is a fault, and the end of its part."""
    try:
        return step(cursor, *args)
    except _FAILS as error:
        return Step([Fault(table, 0, where, f"cannot be read: {error}")])


# --- the file ---------------------------------------------------------------------------------------------------------


def file(cursor: Cursor) -> Step:
    """What SQLite itself says of the file, and rows that refer to none."""
    cursor.execute(f"PRAGMA integrity_check({_SQLITE})")
    faults = [Fault("(file)", 0, "", said) for (said,) in cursor.fetchall() if said != "ok"]
    cursor.execute("PRAGMA foreign_key_check")
    faults += [Fault(table, row or 0, "", f"names no row of {to}") for table, row, to, _ in cursor.fetchall()]
    return Step(faults)


def conversations(cursor: Cursor) -> Step:
    """All conversations, as row and name; `rows` is how many rows all steps together will look at, about."""
    rows = sealed.count(cursor)
    for table in ("account", "device", "message"):
        cursor.execute(f"SELECT count(*) FROM {table}")
        rows += cursor.fetchone()[0]
    cursor.execute("SELECT id, name FROM conversation WHERE removed = 0 ORDER BY id")
    return Step([], rows, then=cursor.fetchall())


# --- sealed rows, accounts, devices -----------------------------------------------------------------------------------


def sealed_rows(cursor: Cursor, at_rest: AtRest, kind: sealed.Kind, after: int) -> Step:
    """Opens sealed rows, each at its place."""
    found = sealed.rows(cursor, kind, after, _BATCH)
    faults = []
    for row in found:
        if row.token and row.dek_id is not None:
            try:
                body = at_rest.sealer.open(row.dek_id, row.place, row.token)
                if kind.table == "audience":
                    parse_audience(body, audience_digest(body).hex())
            except (AtRestMismatch, InvalidKey) as error:
                faults.append(Fault(kind.table, row.id, row.where, str(error)))
    return Step(faults, len(found), found[-1].id if found else after)


def accounts(cursor: Cursor, srv: str, after: int) -> Step:
    """Verifies accounts' signed keys, and the columns that repeat what these say."""
    cursor.execute(
        "SELECT id, name, ik, kid, version, list_digest, keys FROM account WHERE id > ? ORDER BY id LIMIT ?",
        (after, _BATCH),
    )

    def differs(name: str, ik: bytes, kid: str, version: int, digest: bytes, encoded: bytes) -> bool:
        keys = verify_bundle(msgspec.msgpack.decode(encoded, type=SignedBundle), srv=srv, user=name)
        return (keys.ik, keys.kid, keys.version, keys.digest) != (ik, kid, version, digest.hex())

    return _signed("account", cursor.fetchall(), after, differs)


def notes(cursor: Cursor, after: int) -> Step:
    """Whether no note has a number that its account has not come to: the next one would have it too. One step."""
    cursor.execute(
        "SELECT n.id, a.name, n.version, a.notes FROM note n JOIN account a ON a.id = n.account_id"
        " WHERE n.version > a.notes"
    )
    return Step(
        [
            Fault("note", row, name, f"it is note {version}, and its account had {count}")
            for row, name, version, count in cursor.fetchall()
        ]
    )


def certificates(cursor: Cursor, srv: str, after: int) -> Step:
    """Verifies the certificates of all devices there ever were."""
    cursor.execute(
        "SELECT d.number, a.name, d.id, d.ik, d.certificate FROM device d JOIN account a ON a.id = d.account_id"
        " WHERE d.number > ? ORDER BY d.number LIMIT ?",
        (after, _BATCH),
    )

    def differs(name: str, dev: bytes, ik: bytes, encoded: bytes) -> bool:
        device = verify_certificate(devices.decoded(encoded), srv=srv, user=name)
        return (device.dev, device.ik) != (dev.hex(), ik)

    return _signed("device", cursor.fetchall(), after, differs)


def _signed(table: str, found: Sequence[Any], after: int, differs: Callable[..., bool]) -> Step:
    """Verifies rows that hold something signed.

    Args:
        found: rows of an id, a user's name, and more.
        differs: whether a row's other columns say something else; raises where the signed part does not check out.
    """
    faults = []
    for row, name, *more in found:
        try:
            if differs(name, *more):
                faults.append(Fault(table, row, name, "what is signed is not what its columns say"))
        except (InvalidKey, msgspec.MsgspecError, ValueError) as error:
            faults.append(Fault(table, row, name, f"what is signed does not check out: {error}"))
    return Step(faults, len(found), found[-1][0] if found else after)


# --- a conversation ---------------------------------------------------------------------------------------------------


def room(cursor: Cursor, at_rest: AtRest, conversation: int) -> Step:
    """Replays and verifies a room's log, and counts what hangs on it; then where a walk through its messages begins."""
    cursor.execute(
        "SELECT name, room_id, private, last_seq, th, trimmed_seq, trimmed_th FROM conversation WHERE id = ?"
        " AND removed = 0",
        (conversation,),
    )
    row = cursor.fetchone()
    if row is None:
        return Step([])  # deleted meanwhile
    name, room_id, private, last, th, trimmed, trimmed_th = row
    faults = list(_counts(cursor, conversation, name, last))
    links: Sequence[str] = ()
    if not private:
        links, found = _replayed(cursor, at_rest, name, find_row(cursor, conversation))
        faults += found
    start = trimmed_th.hex() if trimmed else transcript_start(room_id)
    return Step(faults, then=Walk(conversation, name, room_id, links, (last, th.hex()), trimmed, start))


def _replayed(cursor: Cursor, at_rest: AtRest, name: str, room: Room) -> tuple[Sequence[str], list[Fault]]:
    """The links of a room's log, and what is wrong with it."""
    log = replay(cursor, at_rest, room)
    faults = []
    for number, signed in enumerate(events(cursor, at_rest, room, 0, room.events), 1):
        known = devices.certificate(cursor, *signer(signed))
        try:
            if known is None:
                raise InvalidKey("the certificate of its device is gone")
            signed.verify(device_of(known[1]))
        except InvalidKey as error:
            faults.append(Fault("room_event", number, name, f"event {number}: {error}"))
    if bool(log.open) != room.open:
        faults.append(Fault("conversation", room.row, name, "whether anybody may enter is not what its log says"))
    cursor.execute(
        "SELECT a.name, m.ik FROM member m JOIN account a ON a.id = m.account_id WHERE m.conversation_id = ?",
        (room.row,),
    )
    if dict(cursor.fetchall()) != {user: member.ik for user, member in log.members.items()}:
        faults.append(Fault("member", room.row, name, "the members are not those of its log"))
    cursor.execute(
        "SELECT a.name, m.until FROM mute m JOIN account a ON a.id = m.account_id WHERE m.conversation_id = ?",
        (room.row,),
    )
    if dict(cursor.fetchall()) != log.mutes:
        faults.append(Fault("mute", room.row, name, "who has no voice is not as its log says"))
    return log.links, faults


def _counts(cursor: Cursor, conversation: int, name: str, last: int) -> Iterator[Fault]:
    """What is counted as it grows, counted again."""
    cursor.execute(
        "SELECT members, bytes, (SELECT count(*) FROM member m JOIN account a ON a.id = m.account_id AND a.ik = m.ik"
        " WHERE m.conversation_id = c.id), (SELECT coalesce(sum(size), 0) FROM message WHERE conversation_id = c.id"
        " AND seq > c.trimmed_seq), (SELECT coalesce(sum(bytes), 0) FROM counter WHERE conversation_id = c.id)"
        " FROM conversation c WHERE id = ?",
        (conversation,),
    )
    members, stored, are, of_messages, of_devices = cursor.fetchone()
    if members != are:
        yield Fault("conversation", conversation, name, f"it says {members} members, and has {are}")
    if not stored == of_messages == of_devices:
        yield Fault("conversation", conversation, name, f"it says {stored} bytes of messages, and has {of_messages}")
    cursor.execute(
        "SELECT k.account_id, k.seq FROM counter k LEFT JOIN message m ON m.conversation_id = k.conversation_id"
        " AND m.seq = k.seq WHERE k.conversation_id = ? AND (k.seq > ? OR m.id IS NULL OR m.sender_id <> k.account_id"
        " OR m.device <> k.device OR m.digest <> k.digest)",
        (conversation, last),
    )
    for account, seq in cursor.fetchall():
        yield Fault("counter", account, name, f"message {seq} is not the last of that device")


def messages(cursor: Cursor, at_rest: AtRest, walk: Walk) -> Step:
    """Opens the next messages of a conversation, and goes on with its transcript; at its end, holds it against that."""
    cursor.execute("SELECT trimmed_seq, trimmed_th, removed FROM conversation WHERE id = ?", (walk.row,))
    row = cursor.fetchone()
    if row is None or row[2]:
        return Step([])  # deleted meanwhile
    if row[0] > walk.end[0]:
        return Step([])  # all of it was removed as too old meanwhile
    if row[0] > walk.seq:
        walk.seq, walk.th = row[0], row[1].hex()
    cursor.execute(
        "SELECT t.id, t.seq, a.name, t.device, t.mid, t.ts, t.events, t.digest, t.th, t.body_hash, t.size,"
        " t.audience_id, t.segment_id, k.slots FROM message t JOIN account a ON a.id = t.sender_id"
        " LEFT JOIN message_keys k ON k.message_id = t.id WHERE t.conversation_id = ? AND t.seq > ? AND t.seq <= ?"
        " ORDER BY t.seq LIMIT ?",
        (walk.row, walk.seq, walk.end[0], _BATCH),
    )
    found = [Row(*one) for one in cursor.fetchall()]
    faults = [
        Fault("message", one.id, walk.name, f"message {one.seq}: {what}")
        for one in found
        for what in _message(cursor, at_rest, walk, one)
    ]
    if not found and (walk.seq, walk.th) != walk.end:
        what = f"its messages end at {walk.seq}, or with another transcript, not as it says at {walk.end[0]}"
        faults.append(Fault("conversation", walk.row, walk.name, what))
    return Step(faults, len(found), walk.seq)


def _message(cursor: Cursor, at_rest: AtRest, walk: Walk, row: Row) -> Iterator[str]:
    """What is wrong with one message."""
    if row.seq != walk.seq + 1:
        yield f"{row.seq - walk.seq - 1} before it are missing"
    link = walk.links[row.events - 1] if 0 < row.events <= len(walk.links) else ""
    if next_th(walk.th, link, row.digest.hex()) != row.th.hex():
        yield "the transcript does not go on with it"
    walk.seq, walk.th = row.seq, row.th.hex()
    try:
        shared = _body(cursor, at_rest, walk, row)
        kids = {} if row.audience_id is None else _readers(cursor, at_rest, walk, row.audience_id)
        package = _decode(shared)
        if message_id(package.hdr, bind_of(package.bind, package.ct)) != row.digest.hex():
            yield "it is another message than its id says"
    except (AtRestMismatch, InvalidKey, msgspec.MsgspecError, ValueError) as error:
        yield str(error)
        return
    slots = row.slots or b""
    if len(slots) != SLOT * len(kids) or row.size != len(shared) + len(slots):
        yield f"{len(slots)} bytes of keys for {len(kids)} readers"
        return
    wrapped = {user: slots[SLOT * at : SLOT * (at + 1)] for at, user in enumerate(sorted(kids))}
    if body_hash(shared, kids, wrapped) != row.body_hash:
        yield "its keys, or its hash, were altered"


def _body(cursor: Cursor, at_rest: AtRest, walk: Walk, row: Row) -> bytes:
    """A message's body, as it is on disk now. Raises AtRestMismatch."""
    if walk.segment is None or walk.segment[0] != row.segment_id:
        cursor.execute("SELECT first_seq, dek_id, sealed FROM segment WHERE id = ?", (row.segment_id,))
        stored = cursor.fetchone()
        if stored is None:
            raise AtRestMismatch("its body is gone")
        walk.segment = row.segment_id, segments.unsealed(at_rest, walk.room_id, *stored)[0]
    said = segments.Body(row.mid, row.sender, row.device, row.ts, row.events, row.digest, row.th, b"")
    return segments.body_of(walk.segment[1], row.seq, said)


def _readers(cursor: Cursor, at_rest: AtRest, walk: Walk, audience_id: int) -> Mapping[str, str]:
    """Whom a message was sealed for, as it is on disk now. Raises AtRestMismatch, InvalidKey."""
    if walk.readers is None or walk.readers[0] != audience_id:
        cursor.execute("SELECT rcp, dek_id, sealed FROM audience WHERE id = ?", (audience_id,))
        row = cursor.fetchone()
        if row is None:
            raise AtRestMismatch("whom it was sealed for is not known")
        rcp, dek_id, token = row
        body = at_rest.sealer.open(dek_id, audience_place(walk.room_id, rcp.hex()), token)
        walk.readers = audience_id, parse_audience(body, rcp.hex())
    return walk.readers[1]
