"""Requests about rooms and who is in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from securechat.chat.broker import Reader, RoomBroker
from securechat.storage.interface import ConversationRecord
from securechat.wire import codec
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.server.session import ServerSession


async def join(session: ServerSession, request: m.Join) -> m.Reply:
    """Into a room, on all connections of the user; everybody there gets the newcomer's keys."""
    parts = session.parts
    bundles = await parts.store.keys([session.user])
    parts.admission.membership(session.user, parts.monotonic())
    joined = await parts.store.join(session.user, request.room, session.now_ms())
    # No await from here on: what is stored next is published next, and must find the subscriptions.
    if joined.fresh:
        start_listening(parts.broker, parts.broker.readers_of(session.user), request.room, joined.last)
        event = m.RoomEvent(
            room=request.room,
            type="joined",
            user=session.user,
            head=joined.head,
            first=joined.first,
            keys=m.KeyBundle.of(bundles[session.user]),
        )
        parts.broker.announce(request.room, codec.encode(event)[:-1], skip=session)
    return m.JoinOk(
        id=request.id,
        room=request.room,
        head=joined.head,
        first=joined.first,
        last=joined.last,
        created=joined.created,
    )


def start_listening(broker: RoomBroker, readers: Iterable[Reader], conversation: str, cursor: int) -> None:
    """Subscribes readers to a conversation new to them, live; who found it by `sync` meanwhile has it already."""
    for reader in readers:
        if broker.subscription(reader, conversation) is None:
            broker.go_live(broker.subscribe(reader, conversation, cursor))


async def leave(session: ServerSession, request: m.Leave) -> m.Reply:
    """Out of a room, on all connections of the user."""
    parts = session.parts
    parts.admission.membership(session.user, parts.monotonic())
    head = await parts.store.leave(session.user, request.room, session.now_ms())
    event = m.RoomEvent(room=request.room, type="left", user=session.user, head=head)
    parts.broker.announce(request.room, codec.encode(event)[:-1], skip=session)
    for reader in parts.broker.readers_of(session.user):
        parts.broker.unsubscribe(reader, request.room)
    return m.Reply(id=request.id)


async def rooms(session: ServerSession, request: m.Rooms) -> m.Reply:
    """The rooms of the server."""
    found = await session.parts.store.rooms(session.user)
    entries = tuple(m.RoomEntry(room=room.room, members=room.members, joined=room.joined) for room in found)
    return m.RoomsOk(id=request.id, rooms=entries)


async def members(session: ServerSession, request: m.Members) -> m.Reply:
    """The members of a room one is in."""
    parts = session.parts
    head, found = await parts.store.members(session.user, request.room)
    entries = tuple(m.Member(user=user, version=version, online=parts.broker.online(user)) for user, version in found)
    return m.MembersOk(id=request.id, room=request.room, head=head, members=entries)


def came_online(session: ServerSession, conversations: list[ConversationRecord]) -> None:
    """Tells the rooms of a user whose first connection is there."""
    for record in conversations:
        if not is_private(record.room):
            event = m.RoomEvent(room=record.room, type="online", user=session.user)
            session.parts.broker.announce(record.room, codec.encode(event)[:-1], skip=session)


def went_offline(session: ServerSession) -> None:
    """Ends a connection's part in the broker; if it was the user's last, tells the rooms it listened to."""
    broker = session.parts.broker
    heard = [room for room in broker.conversations_of(session) if not is_private(room)]
    if not broker.disconnect(session):
        return
    for room in heard:
        event = m.RoomEvent(room=room, type="offline", user=session.user)
        broker.announce(room, codec.encode(event)[:-1])
