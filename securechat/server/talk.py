"""Requests that carry messages: sending, reading back, catching up."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from msgspec import UNSET
from twisted.internet.defer import Deferred

from securechat.chat.broker import Subscription
from securechat.crypto.envelope import (
    AnyHeader,
    ChainHeader,
    bind_of,
    body_hash,
    message_id,
    parse_chain_header,
    parse_header,
)
from securechat.errors import BAD_FIELD, BAD_HEADER, DAMAGED, SELF_MESSAGE, TRY_AGAIN, InvalidKey, Refused
from securechat.server import rooms
from securechat.storage.interface import Appended, ConversationRecord, MessageRow, NewMessage
from securechat.wire import codec, limits
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.server.session import ServerSession

_COME_BACK: Final = "The server could not read what was missed. Clients reconnect."
_PAGE: Final = 100  # messages read at once while a reader catches up: long enough to be quick, short enough to share


# --- sending ----------------------------------------------------------------------------------------------------------


async def send(session: ServerSession, request: m.Send) -> m.Reply:
    """A message to a room: stored, then published, then acknowledged."""
    header = checked_header(session.user, session.device, request.package)
    return await _store(session, request, _new_message(session, request.package, header, request.room, None))


async def pm(session: ServerSession, request: m.Pm) -> m.Reply:
    """A private message; its conversation starts with the first one."""
    if request.user == session.user:
        raise Refused(SELF_MESSAGE)
    header = checked_header(session.user, session.device, request.package)
    if not is_private(header.room):
        raise Refused(BAD_HEADER, why="it is of another conversation")
    return await _store(session, request, _new_message(session, request.package, header, header.room, request.user))


def checked_header(user: str, device: str | None, package: m.Package) -> AnyHeader:
    """The header of a package, if it fits the package and the connection it came over.

    Its Ed25519 signature is for the readers to check.

    Raises:
        Refused: `bad_field`, `bad_header`.
    """
    if package.encrypted_keys.keys() != package.kids.keys():
        raise Refused(BAD_FIELD, why="encrypted_keys and kids name different users")
    if package.ct:
        whole = not (package.encrypted_message or package.kids or package.bind)
    else:
        whole = bool(package.encrypted_message and package.bind)
    if not whole:
        raise Refused(BAD_FIELD, why="a package has encrypted_message, encrypted_keys, kids and bind, or else ct")
    header: AnyHeader
    try:
        header = parse_chain_header(package.hdr) if package.ct else parse_header(package.hdr)
    except InvalidKey as error:
        raise Refused(BAD_HEADER, why=error) from None
    if header.author != user:
        raise Refused(BAD_HEADER, why="it is by somebody else")
    if header.dev != device:
        raise Refused(BAD_HEADER, why="it is of another device")
    if isinstance(header, ChainHeader):
        return header
    if header.mh != hashlib.sha256(package.encrypted_message.encode("ascii")).hexdigest():
        raise Refused(BAD_HEADER, why="mh is not the hash of the text")
    if header.sth is not UNSET:
        raise Refused(BAD_HEADER, why="sth: this server keeps no key log")
    return header


def _new_message(
    session: ServerSession, package: m.Package, header: AnyHeader, room: str, peer: str | None
) -> NewMessage:
    shared = codec.shared_part(package)
    return NewMessage(
        room=room,
        peer=peer,
        sender=header.author,
        device=header.dev,
        header=header,
        id=message_id(package.hdr, bind_of(package.bind, package.ct)),
        shared=shared,
        kids=package.kids,
        wrapped=package.encrypted_keys,
        body_hash=body_hash(shared, package.kids, package.encrypted_keys),
        ts=session.now_ms(),
    )


async def _store(session: ServerSession, request: m.Send | m.Pm, message: NewMessage) -> m.Reply:
    """Stores a message, then publishes it. No await before the store's queue: pipelined ones keep their order."""
    broker = session.parts.broker
    try:
        appended = await session.parts.store.append(message)
    except Refused as refusal:
        raise _with_proof(refusal, message) from None
    if appended.fresh_conversation and message.peer is not None:
        readers = [*broker.readers_of(message.sender), *broker.readers_of(message.peer)]
        rooms.start_listening(broker, readers, message.room, appended.seq - 1)
    _publish(session, message, appended)
    return m.SendOk(
        id=request.id,
        room=message.room,
        seq=appended.seq,
        ts=appended.ts,
        events=appended.events,
        dup=appended.dup,
    )


def _with_proof(refusal: Refused, message: NewMessage) -> Refused:
    """A refusal whose proof, if it has one, is as it travels."""
    proof = refusal.data.get("proof")
    if not isinstance(proof, MessageRow):
        return refusal
    line = _encode_row(proof, message.sender, message.peer)
    return Refused(refusal.code, **{**refusal.data, "proof": codec.decode_event(line)})


def _publish(session: ServerSession, message: NewMessage, appended: Appended) -> None:
    """Hands a fresh message to those who listen. A resend was published when it was stored, or comes by `sync`."""
    if appended.dup:
        return
    prefix = codec.message_prefix(
        room=message.room,
        seq=appended.seq,
        sender=message.sender,
        device=message.device,
        mid=message.header.mid,
        ts=appended.ts,
        events=appended.events,
        shared=message.shared,
        to=message.peer,
    )

    def line_for(user: str) -> bytes:
        wrapped = message.wrapped.get(user)
        tail = codec.NO_TAIL if wrapped is None else codec.own_tail(user, message.kids[user], wrapped)
        return b"".join((prefix, tail, b"\n"))

    broker = session.parts.broker
    if message.kids:
        broker.publish(message.room, appended.seq, b"", line_for, skip=session)
    else:
        broker.publish(message.room, appended.seq, prefix + codec.SAME_TAIL + b"\n", skip=session)


# --- reading back -----------------------------------------------------------------------------------------------------


def _encode_row(row: MessageRow, user: str, peer: str | None) -> bytes:
    to = None if peer is None else (peer if row.sender == user else user)
    prefix = codec.message_prefix(
        room=row.room,
        seq=row.seq,
        sender=row.sender,
        device=row.device,
        mid=row.mid,
        ts=row.ts,
        events=row.events,
        shared=row.shared,
        to=to,
    )
    if row.chained:
        return prefix + codec.SAME_TAIL
    if row.kid is None or row.wrapped is None:
        return prefix + codec.NO_TAIL
    return prefix + codec.own_tail(user, row.kid, row.wrapped)


async def history(session: ServerSession, request: m.History) -> bytes:
    """A page of a conversation's messages, oldest first."""
    if request.before is not None and request.after is not None:
        raise Refused(BAD_FIELD, why="before and after exclude each other")
    page = await session.parts.store.read(
        session.user,
        request.room,
        after=request.after,
        before=request.before,
        limit=request.limit,
        max_bytes=limits.PAGE_BYTES,
    )
    rows = page.messages
    head = m.HistoryOk(
        id=request.id,
        room=request.room,
        messages=(),
        more=page.more,
        first_seq=rows[0].seq if rows else 0,
        last_seq=rows[-1].seq if rows else 0,
        start=UNSET if page.start is None else page.start,
        trimmed=page.trimmed,
    )
    return codec.history_reply(head, [_encode_row(row, session.user, page.peer) for row in rows])


async def audience(session: ServerSession, request: m.Audience) -> m.Reply:
    """Whom messages of a conversation were sealed for, by the digest in their headers."""
    found = await session.parts.store.audience(session.user, request.room, request.rcp)
    return m.AudienceOk(id=request.id, room=request.room, audience=found)


# --- catching up ------------------------------------------------------------------------------------------------------


async def sync(session: ServerSession, request: m.Sync) -> None:
    """Where everything stands; then, beside other requests, what was missed, and `live` for each conversation."""
    parts = session.parts
    if not session.connected:
        # Before the conversations are read: whatever starts after that finds this reader connected.
        session.connected = True
        parts.broker.connect(session)
    same_epoch = request.epoch in (None, parts.store.epoch)
    invites = await parts.store.invitations(session.user)
    records = await parts.store.conversations(session.user, request.since, follows=same_epoch)
    if session.gone or not session.connected:
        return
    states, work = [], []
    for record in records:
        since = request.since.get(record.id)
        states.append(_state(record, reset=since is not None and not (same_epoch and since <= record.last)))
        if parts.broker.subscription(session, record.room) is None:
            work.append((record, parts.broker.subscribe(session, record.room, record.start[0])))
    parts.broker.want_typing(session, yes=request.typing)
    rooms.share_presence(session, request.presence, records)
    # The reply goes first: what streams is newer than what it says.
    reply = m.SyncOk(id=request.id, epoch=parts.store.epoch, conversations=tuple(states), invites=tuple(invites))
    session.peer.deliver(codec.encode(reply))
    Deferred.fromCoroutine(_catch_up(session, work)).addErrback(
        lambda failure: session.log.failure("catching up failed", failure=failure)
    )


def _state(record: ConversationRecord, *, reset: bool) -> m.ConversationState:
    return m.ConversationState(
        room=record.room,
        id=record.id,
        head=record.head,
        events=record.events,
        last=record.last,
        first=record.first,
        read=record.read,
        unread=max(0, record.last - max(record.read, record.trimmed)),
        start=record.start,
        peer=UNSET if record.peer is None else record.peer,
        reset=reset,
        trimmed=record.trimmed,
        kept=record.kept,
    )


async def _catch_up(session: ServerSession, work: list[tuple[ConversationRecord, Subscription]]) -> None:
    """Streams what was missed, conversation by conversation, no faster than the reader reads."""
    try:
        # Looked up again, now that this reader subscribes: what was published before, to nobody, is not in `work`.
        records = await session.parts.store.conversations(session.user) if work else ()
    except Refused:
        session.end(TRY_AGAIN.name, _COME_BACK)
        return
    newest = {record.room: record.last for record in records}
    for record, subscription in work:
        if record.room not in newest and _listens(session, subscription):
            session.parts.broker.unsubscribe(session, record.room)  # left meanwhile, from another connection
            continue
        last = max(record.last, newest.get(record.room, 0))
        try:
            await _stream(session, record, subscription, last)
        except Refused as refusal:
            session.log.warn(
                "{user} cannot catch up in {room}: {error}", user=session.user, room=record.room, error=refusal
            )
            if not _listens(session, subscription):
                continue  # left meanwhile
            if refusal.code is DAMAGED:  # `history` says so; the other conversations, and what is new, must come
                subscription.cursor = max(subscription.cursor, last)
            if refusal.code is not DAMAGED or not _go_live(session, subscription):
                session.end(TRY_AGAIN.name, _COME_BACK)
        if session.gone:
            return


def _listens(session: ServerSession, subscription: Subscription) -> bool:
    """Whether the subscription is in force: its reader may have left, and come back, or be somebody else by now."""
    current = session.parts.broker.subscription(session, subscription.conversation)
    return current is subscription and not session.gone


def _go_live(session: ServerSession, subscription: Subscription) -> bool:
    """Says `live` to the reader if nothing more is to be read."""
    if not session.parts.broker.go_live(subscription):
        return False
    session.deliver(codec.encode(m.Live(room=subscription.conversation, seq=subscription.cursor)))
    return True


async def _stream(session: ServerSession, record: ConversationRecord, subscription: Subscription, last: int) -> None:
    parts = session.parts
    while _listens(session, subscription):
        if subscription.cursor >= last and _go_live(session, subscription):
            return
        page = await parts.store.read(
            session.user,
            record.room,
            after=subscription.cursor,
            before=None,
            limit=_PAGE,
            max_bytes=limits.PAGE_BYTES,
        )
        if not _listens(session, subscription):
            return
        if page.trimmed > subscription.cursor:  # they became too old just now: `sync` has to tell where to go on
            session.end(TRY_AGAIN.name, _COME_BACK)
            return
        for row in page.messages:
            if row.seq > subscription.cursor:
                subscription.cursor = row.seq
                session.deliver(_encode_row(row, session.user, record.peer) + b"\n")
        if not page.messages and _go_live(session, subscription):
            return
        await session.peer.drained()


async def typing(session: ServerSession, request: m.Typing) -> m.Reply:
    """Tells those who want to know, and have nothing else to read, that somebody types. Too often is once."""
    parts, room, user = session.parts, request.room, session.user
    who = user, session.device or "", room
    if parts.admission.typing(*who, parts.monotonic()):
        try:
            await parts.store.check_voice(user, room, session.now_ms())
        except Refused:
            parts.admission.typing_undone(*who)
            raise
        if parts.admission.typing_told(room, parts.monotonic()):
            parts.broker.hint(room, codec.encode(m.TypingEvent(room=room, user=user)), of=user)
    return m.Reply(id=request.id)


async def read(session: ServerSession, request: m.Read) -> m.Reply:
    """Moves the read marker, and tells the user's other connections."""
    parts = session.parts
    if await parts.store.move_read_marker(session.user, request.room, request.seq):
        line = codec.encode(m.ReadEvent(room=request.room, seq=request.seq))
        parts.broker.announce_to(parts.broker.readers_of(session.user), line, skip=session)
    return m.Reply(id=request.id)
