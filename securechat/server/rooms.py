"""Requests about rooms and who is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from securechat.chat.broker import Reader, RoomBroker
from securechat.crypto.identity import SignedCertificate, device_of
from securechat.crypto.roomlog import AnyEvent, Ban, Create, Invite, Join, Kick, Leave, MembershipAct, SignedEvent
from securechat.errors import BAD_EVENT, InvalidKey, Refused
from securechat.storage.interface import ConversationRecord, Placed
from securechat.wire import codec, limits
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.server.session import ServerSession

_AHEAD: Final = 10 * 60 * 1000  # milliseconds that an author's clock may be ahead: a ban would seem to have lapsed
_ENTERS: Final = (Create, Join)
_ENDS: Final = (Leave, Kick, Ban)


# --- acts -------------------------------------------------------------------------------------------------------------


async def act(session: ServerSession, request: m.DoAct) -> m.Reply:
    """A signed event into a room's log: stored, then published to everybody there, then acknowledged."""
    parts, room = session.parts, request.room
    signed = SignedEvent(request.signed, request.sig)
    event = _event(session, room, signed)
    if (event.by, event.dev) != (session.user, session.device):
        raise Refused(BAD_EVENT, why="it is not by this account on this device")
    certificate = await _verified(session, signed)
    parts.admission.membership(session.user, parts.monotonic())
    counted = isinstance(event, MembershipAct)
    wait = parts.admission.act(session.user, room, parts.monotonic()) if counted else 0.0
    placed: Placed | None = None
    try:
        placed = await parts.store.act(room, signed, wait=wait, now=session.now_ms())
    finally:
        if counted and not wait and (placed is None or placed.dup):
            parts.admission.act_undone(session.user, room)
    # No await from here on: what is stored next is published next, and must find the subscriptions.
    if not placed.dup:
        _publish(session, room, placed.events, signed, certificate, placed.start[0])
    return m.ActOk(
        id=request.id,
        room=room,
        rid=placed.id,
        events=placed.events,
        link=placed.link,
        start=placed.start,
        dup=placed.dup,
    )


def _event(session: ServerSession, room: str, signed: SignedEvent) -> AnyEvent:
    """What an event says, if it is of this server and time. Raises Refused: `bad_event`."""
    try:
        event = signed.event
    except InvalidKey as error:
        raise Refused(BAD_EVENT, why=error) from None
    if event.srv != session.parts.identity.srv:
        raise Refused(BAD_EVENT, why="it is of another server")
    if event.at > session.now_ms() + _AHEAD:
        raise Refused(BAD_EVENT, why="its author's clock is ahead")
    if isinstance(event, Create) and event.name != room:
        raise Refused(BAD_EVENT, why="it makes a room of another name")
    return event


async def _verified(session: ServerSession, signed: SignedEvent) -> SignedCertificate:
    """The certificate of the device that signed an event. Raises Refused: `bad_event`."""
    account = await session.parts.store.account(session.user)
    for certificate in () if account is None else account.keys.certs:
        device = device_of(certificate)
        if device.dev == session.device:
            try:
                signed.verify(device)
            except InvalidKey as error:
                raise Refused(BAD_EVENT, why=error) from None
            return certificate
    raise Refused(BAD_EVENT, why="its device is not in force")


def _publish(
    session: ServerSession, room: str, number: int, signed: SignedEvent, certificate: SignedCertificate, seq: int
) -> None:
    """Tells everybody in a room of the next event of its log, the one who is about to get a reply at once.

    Args:
        seq: the newest message before it: there the room begins for whom it lets in.
    """
    broker, event = session.parts.broker, signed.event
    if isinstance(event, _ENTERS):
        start_listening(broker, broker.readers_of(event.by), room, seq)
    told = m.RoomEvent(room=room, events=number, signed=signed.data, sig=signed.sig, cert=m.Certificate.of(certificate))
    broker.announce(room, codec.encode(told), at_once=session)
    if isinstance(event, _ENDS):
        for reader in broker.readers_of(event.subject):
            broker.unsubscribe(reader, room)
    if isinstance(event, Invite):
        broker.announce_to(broker.readers_of(event.user), codec.encode(m.InvitedEvent(room=room)))


def start_listening(broker: RoomBroker, readers: Iterable[Reader], conversation: str, cursor: int) -> None:
    """Subscribes readers to a conversation new to them, live; who found it by `sync` meanwhile has it already."""
    for reader in readers:
        if broker.subscription(reader, conversation) is None:
            broker.go_live(broker.subscribe(reader, conversation, cursor))


async def extend(session: ServerSession, request: m.Extend) -> m.Reply:
    """Takes back the end of a room's log that this server has lost."""
    parts, room = session.parts, request.room
    parts.admission.membership(session.user, parts.monotonic(), len(request.acts))
    signed = [SignedEvent(act.signed, act.sig) for act in request.acts]
    try:
        for one in signed:
            _event(session, room, one)
        extension = await parts.store.extend(
            session.user,
            room,
            request.after,
            signed,
            [SignedCertificate(c.cert, c.ik_sig, c.dk_sig) for c in request.certs],
            srv=parts.identity.srv,
            now=session.now_ms(),
        )
    except Refused:  # all members give a log back at once, and one of them is first; the attempt alone is counted
        parts.admission.membership_undone(session.user, len(signed) - 1)
        raise
    # No await from here on, as in `act`.
    for number, (one, certificate) in enumerate(zip(signed, extension.certs, strict=True), extension.first):
        _publish(session, room, number, one, certificate, extension.seq)
    return m.ExtendOk(id=request.id, room=room, events=request.after + len(signed))


# --- looking ----------------------------------------------------------------------------------------------------------


async def roomlog(session: ServerSession, request: m.RoomLog) -> m.Reply:
    """A page of a room's log."""
    page = await session.parts.store.room_log(
        session.user,
        request.room,
        after=request.after,
        limit=limits.EVENTS_PER_PAGE,
        max_bytes=limits.PAGE_BYTES,
    )
    return m.RoomLogOk(
        id=request.id,
        room=request.room,
        rid=page.id,
        acts=tuple(m.Act(signed=one.data, sig=one.sig) for one in page.acts),
        certs=tuple(map(m.Certificate.of, page.certs)),
        events=page.events,
        more=page.more,
    )


async def rooms(session: ServerSession, request: m.Rooms) -> m.Reply:
    """The open rooms of the server."""
    found = await session.parts.store.rooms(session.user)
    entries = (m.RoomEntry(room=one.room, members=one.members, joined=one.joined, topic=one.topic) for one in found)
    return m.RoomsOk(id=request.id, rooms=tuple(entries))


async def online(session: ServerSession, request: m.Online) -> m.Reply:
    """Who of a room one is in is connected, and says so."""
    members = await session.parts.store.members(session.user, request.room)
    there = tuple(user for user in members if session.parts.broker.online(user))
    return m.OnlineOk(id=request.id, room=request.room, users=there)


# --- who is there -----------------------------------------------------------------------------------------------------


def share_presence(session: ServerSession, yes: bool, conversations: Sequence[ConversationRecord]) -> None:
    """Notes whether a connection says that it is there; if its user came or went by that, tells their rooms."""
    if session.parts.broker.share(session, yes=yes):
        _tell_presence(session, [record.room for record in conversations], online=yes)


def went_offline(session: ServerSession) -> None:
    """Ends a connection's part in the broker; if it was the last that said so, tells the rooms it listened to."""
    broker = session.parts.broker
    heard = broker.conversations_of(session)
    if broker.disconnect(session):
        _tell_presence(session, heard, online=False)


def _tell_presence(session: ServerSession, conversations: Iterable[str], *, online: bool) -> None:
    """Tells those in rooms who share their presence, too."""
    for room in conversations:
        if not is_private(room):
            event = m.PresenceEvent(room=room, user=session.user, online=online)
            session.parts.broker.announce_presence(room, codec.encode(event), skip=session)
