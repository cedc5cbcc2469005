"""What people do in rooms: an act is judged at its place in the log, and takes effect there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from securechat.crypto.identity import Device, SignedCertificate, device_of, verify_certificate
from securechat.crypto.roomlog import AnyEvent, Create, Invite, Join, RoomLog, SignedEvent
from securechat.errors import (
    BAD_EVENT,
    BANNED,
    NO_SUCH_ROOM,
    NO_SUCH_USER,
    NOT_MEMBER,
    NOT_THE_NEXT,
    RATE_LIMITED,
    ROOM_EXISTS,
    ROOM_FULL,
    STALE_KEYS,
    STALE_LOG,
    TOO_MANY_ROOMS,
    InvalidKey,
    Refused,
)
from securechat.storage.interface import Extension, Placed
from securechat.storage.queries import devices
from securechat.storage.queries.common import Cursor, account_id, place_at
from securechat.storage.queries.roomlogs import Room, create, find, put, replayed, signer
from securechat.storage.queries.sealing import AtRest

_LISTS_LOST: Final = 100  # device lists of one account that may be lost: who relied on one refuses all before it


class Limits(NamedTuple):
    """How many members a room may have, and how many rooms a user may be in."""

    members: int
    rooms: int


def act(
    cursor: Cursor, at_rest: AtRest, room: str, signed: SignedEvent, limits: Limits, wait: float, now: int
) -> Placed:
    """See `ChatStore.act`."""
    event = signed.event
    placed = _placed_before(cursor, at_rest, event, signed.eh)
    if placed is not None:
        return placed
    if wait:
        raise Refused(RATE_LIMITED, retry_after=wait)
    author = _author_in_force(cursor, event)
    _check_lists(cursor, event)
    found = find(cursor, room)
    if isinstance(event, Create):
        if found is not None:
            _make_way(cursor, room, found)
        found, log = None, RoomLog(event.srv)
    elif found is None:
        raise Refused(NO_SUCH_ROOM, room=room)
    else:
        log = replayed(cursor, at_rest, room, found)
    log.check(signed)
    if isinstance(event, Join):
        _check_ban(log, event, now)
        if found is not None and found.members >= limits.members:
            raise Refused(ROOM_FULL, room=room, limit=limits.members)
    if isinstance(event, (Create, Join)) and _rooms_of(cursor, author) >= limits.rooms:
        raise Refused(TOO_MANY_ROOMS, limit=limits.rooms)
    at = found or create(cursor, room, signed, now)
    at_rest.logs.drop(at.row)
    put(cursor, at_rest, at, log, signed)
    at_rest.logs.put(at.row, log, log.count)
    return Placed(at.id, log.count, log.head, (at.last, at.th.hex()))


def _placed_before(cursor: Cursor, at_rest: AtRest, event: AnyEvent, eh: str) -> Placed | None:
    """Where an earlier call put this event; also in a room that has lost its name since."""
    cursor.execute(
        "SELECT c.name, e.number, e.seq FROM room_event e JOIN conversation c ON c.id = e.conversation_id"
        " WHERE c.room_id = ? AND e.eh = ?",
        (event.room or eh, bytes.fromhex(eh)),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    name, number, seq = row
    room = find(cursor, name)
    if room is None:
        raise LookupError("a room vanished")
    link = replayed(cursor, at_rest, name, room).links[number - 1]
    return Placed(room.id, number, link, place_at(cursor, room.row, room.id, seq), dup=True)


def _author_in_force(cursor: Cursor, event: AnyEvent) -> int:
    """The account of an event's author. Raises Refused: `bad_event`: they have another identity by now, or device."""
    cursor.execute(
        "SELECT a.id FROM account a JOIN device d ON d.account_id = a.id"
        " WHERE a.name = ? AND a.ik = ? AND d.id = ? AND d.ik = a.ik AND d.standing = ?",
        (event.by, event.ik, bytes.fromhex(event.dev), devices.IN_FORCE),
    )
    row = cursor.fetchone()
    if row is None:
        raise Refused(BAD_EVENT, why="its author has another identity, or has revoked this device")
    return int(row[0])


def _check_lists(cursor: Cursor, event: AnyEvent) -> None:
    """Whether the device list that an event names for its subject is the newest. Raises Refused."""
    if not isinstance(event, (Create, Join, Invite)):
        return
    user = event.subject
    cursor.execute("SELECT ik, version, list_digest FROM account WHERE name = ? AND deleted = 0", (user,))
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_USER, user=user)
    ik, version, digest = row
    named = event.user_ik if isinstance(event, Invite) else event.ik
    if (named, event.dl) != (ik, (version, digest.hex())):
        raise Refused(STALE_KEYS, users=(user,))


def _make_way(cursor: Cursor, name: str, room: Room) -> None:
    """Takes the name from a room that nobody can enter any more. Raises Refused: `room_exists`: somebody can."""
    cursor.execute(
        "SELECT 1 FROM invitation i JOIN account a ON a.id = i.account_id AND a.ik = i.ik"
        " WHERE i.conversation_id = ? LIMIT 1",
        (room.row,),
    )
    if room.open or room.members or cursor.fetchone() is not None:
        raise Refused(ROOM_EXISTS, room=name)
    cursor.execute("UPDATE conversation SET name = ? WHERE id = ?", (f"{name}#{room.id}", room.row))


def _check_ban(log: RoomLog, event: Join, now: int) -> None:
    """A timed ban lasts by this server's clock too, whatever the author's says."""
    until = log.bans.get(event.by)
    if until is not None and (until == 0 or now < until):
        raise Refused(BANNED, user=event.by, room=log.name)


def _rooms_of(cursor: Cursor, account: int) -> int:
    cursor.execute(
        "SELECT count(*) FROM member m JOIN account a ON a.id = m.account_id AND a.ik = m.ik"
        " JOIN conversation c ON c.id = m.conversation_id WHERE m.account_id = ? AND c.private = 0",
        (account,),
    )
    return int(cursor.fetchone()[0])


# --- what was lost ----------------------------------------------------------------------------------------------------


class Vouched(NamedTuple):
    """What came back, its signatures checked: the certificate of each event's device, and those that are new."""

    certs: Sequence[SignedCertificate]
    new: Sequence[tuple[Device, SignedCertificate]]


def vouch(cursor: Cursor, acts: Sequence[SignedEvent], certs: Sequence[SignedCertificate], srv: str) -> Vouched:
    """Checks the signatures of lost events; for a reader's thread: 0.1 ms an event, and 0.2 ms a certificate.

    Whoever brings a revoked device, or an identity that is not the account's, is not believed: what was lost was signed
    when the server had last heard of neither.

    Raises:
        Refused: `bad_event`, `no_such_user`.
    """
    given: dict[tuple[str, str, bytes], tuple[Device, SignedCertificate]] = {}
    try:
        for certificate in certs:
            device = verify_certificate(certificate, srv=srv)
            given[device.user, device.dev, device.ik] = device, certificate
        signers = {signer(signed) for signed in acts}
        known = {who: _known(cursor, who, given) for who in signers}
        for signed in acts:
            signed.verify(known[signer(signed)][0])
    except InvalidKey as error:
        raise Refused(BAD_EVENT, why=error) from None
    new = [given[who] for who in signers if who in given]
    return Vouched([known[signer(signed)][1] for signed in acts], new)


def _known(
    cursor: Cursor, who: tuple[str, str, bytes], given: dict[tuple[str, str, bytes], tuple[Device, SignedCertificate]]
) -> tuple[Device, SignedCertificate]:
    """A device that may be believed, and its certificate. Raises Refused."""
    user, dev, ik = who
    cursor.execute("SELECT id, ik FROM account WHERE name = ?", (user,))
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_USER, user=user)
    account, present = row
    stored = devices.certificate(cursor, *who)
    if present != ik or (stored is not None and stored[0] == devices.PAST):
        raise Refused(BAD_EVENT, why=f"{user} has another identity, or has revoked this device")
    if stored is not None:
        return device_of(stored[1]), stored[1]
    if who not in given:
        raise Refused(BAD_EVENT, why=f"the certificate of a device of {user} is not known")
    if devices.named_otherwise(cursor, account, [dev], ik):
        raise Refused(BAD_EVENT, why=f"a device of {user} had another identity")
    return given[who]


def extend(
    cursor: Cursor,
    at_rest: AtRest,
    user: str,
    room: str,
    after: int,
    acts: Sequence[SignedEvent],
    vouched: Vouched,
    limits: Limits,
    now: int,
) -> Extension:
    """See `ChatStore.extend`."""
    found = find(cursor, room)
    if after != (0 if found is None else found.events):
        raise Refused(STALE_LOG, room=room)
    if found is None:
        log = RoomLog(acts[0].event.srv)
        log.check(acts[0])
        found = create(cursor, room, acts[0], now)
    else:
        log = replayed(cursor, at_rest, room, found)
        _check_member(cursor, log, user, room)
    at_rest.logs.drop(found.row)
    devices.put_unlisted(cursor, vouched.new)
    for signed in acts:
        event = signed.event
        _check_list_lost(cursor, event)
        try:
            log.check(signed)
            if isinstance(event, Join):
                _check_ban(log, event, now)
            put(cursor, at_rest, found, log, signed)
        except Refused as refusal:
            raise Refused(STALE_LOG, room=room) if refusal.code in NOT_THE_NEXT else refusal from None
    if not after:
        _check_member(cursor, log, user, room)
    if len(log.members) > limits.members:
        raise Refused(ROOM_FULL, room=room, limit=limits.members)
    _check_rooms(cursor, acts, limits.rooms)
    at_rest.logs.put(found.row, log, log.count)
    return Extension(after + 1, found.last, vouched.certs)


def _check_member(cursor: Cursor, log: RoomLog, user: str, room: str) -> None:
    """Whether somebody, as who they are now, is in a room by its log. Raises Refused: `not_member`."""
    cursor.execute("SELECT ik FROM account WHERE name = ?", (user,))
    (ik,) = cursor.fetchone()
    if not log.role(user, ik):
        raise Refused(NOT_MEMBER, room=room)


def _check_list_lost(cursor: Cursor, event: AnyEvent) -> None:
    """Whether there is an account of whom an event is about, and the device list it names may have been there."""
    user = event.subject
    cursor.execute("SELECT version FROM account WHERE name = ?", (user,))
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_USER, user=user)
    if isinstance(event, (Create, Join, Invite)) and event.dl[0] > row[0] + _LISTS_LOST:
        raise Refused(BAD_EVENT, why=f"it names a device list of {user} far ahead of the newest")


def _check_rooms(cursor: Cursor, acts: Sequence[SignedEvent], limit: int) -> None:
    """Whether those who entered by these events are in more rooms than one may be. Raises Refused: `bad_event`."""
    for user in {signed.event.by for signed in acts if isinstance(signed.event, (Create, Join))}:
        if _rooms_of(cursor, account_id(cursor, user)) > limit:
            raise Refused(BAD_EVENT, why=f"{user} would be in more than {limit} rooms")
