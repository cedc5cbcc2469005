"""Sealing and sending: for whom, under which place of the log; what a refusal asks for, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from securechat.client import slash
from securechat.client.conversations import Conversation
from securechat.client.entries import Entry, Sealed, Turn
from securechat.client.held import Elsewhere, Grown, IdentityChanged, Stopped
from securechat.client.inbox import OwnMessage
from securechat.client.orders import code
from securechat.client.protocol import LinkLost
from securechat.client.view import Failure
from securechat.crypto import primitives as p
from securechat.crypto.envelope import Position, SealedMessage, message_id, parse_header, seal, verify_header
from securechat.crypto.identity import AccountKeys, private_conversation
from securechat.crypto.roomlog import RoomLog
from securechat.crypto.transcript import transcript_start
from securechat.errors import BAD_AUDIENCE, BAD_HEADER, STALE_HEAD, STALE_KEYS, Exit, InvalidKey, Refused
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_SEAL_IN_THREAD: Final = 8  # readers; each costs 0.1 ms


class Post:
    """The core as `outbox.Host`: what that needs to know of people and rooms, and who hears what became of it all."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core

    def can_send(self) -> bool:
        """Whether there is a connection that has caught up."""
        core = self._core
        return core.synced and core.link is not None and core.link.protocol is not None

    async def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
        """Writes records of the account. Raises CannotKeep."""
        await self._core.keep(puts, deletes)

    async def seal(self, entry: Entry, turn: Callable[[str], Turn]) -> Sealed:
        """Seals an entry for its present readers, as this device's next message there. See `outbox.Host.seal`."""
        core = self._core
        account = core.account
        assert account is not None and core.people is not None
        readers: dict[str, AccountKeys]
        if entry.where.startswith("@"):
            user = entry.where[1:]
            if core.people.known(user) is None:
                await slash.meet(core, user)  # who is not there at all is told as that
            readers = await core.people.keys_of([user])
            peer = readers[user]
            room, head = private_conversation(account.own.ik, peer.ik), ""
            conversation = core.conversations.known(room)
        else:
            conversation, log = self._room(entry.where)
            if entry.room not in ("", conversation.id):
                raise Elsewhere(conversation.title)
            readers = await self._readers(conversation, log, entry)
            room, head = conversation.id, log.head  # not before: somebody may have come or gone meanwhile
        if conversation is not None and conversation.stopped:
            raise Stopped(conversation.title, conversation.stopped, broken=conversation.broken)
        readers[account.user] = account.own
        last = turn(room)
        position = Position(
            room=room,
            author=account.user,
            dev=account.keys.dev,
            dl=(account.own.version, account.own.digest),
            ctr=last.ctr + 1,
            prev=last.id,
            mid=entry.mid,
            head=head,
            th=(0, transcript_start(room)) if conversation is None else conversation.reader.transcript.place,
            at=core.now_ms(),
        )
        work = entry.text, list(readers.values()), position, account.keys.device
        sealed = await core.run(seal, *work) if len(readers) > _SEAL_IN_THREAD else seal(*work)
        return Sealed(_package(sealed), room, position.ctr, sealed.id)

    def _room(self, label: str) -> tuple[Conversation, RoomLog]:
        core = self._core
        conversation = core.conversations.labelled(label)
        if conversation is None or conversation.log is None:
            raise slash.not_in(label) if core.synced else LinkLost("the room is not there yet")
        return conversation, conversation.log

    async def _readers(self, conversation: Conversation, log: RoomLog, entry: Entry) -> dict[str, AccountKeys]:
        """Whom a message to a room is sealed for: the log's members, each by the identity that is one.

        Nobody can be sealed for whose identity is not in force any more. A changed one stops the message in a private
        room, and in an open one if it had been compared before; else the person is only marked: anybody, so also
        somebody else under that name, may be in an open room. For the same reason one of whom the server gives no
        usable keys stops a message in a private room only; in an open one they are left out, which is said.
        """
        core, people = self._core, self._core.people
        assert people is not None
        head = None
        while head != log.head:  # else somebody came or went while keys were fetched
            head = log.head
            members = {user: member.ik for user, member in log.members.items() if user != core.user}
            if entry.seen is not None and (new := sorted(members.keys() - set(entry.seen))):
                raise Grown(conversation.title, new)
            await people.know(members)
        changed = people.changed(members)
        if blocking := [user for user in changed if conversation.private or people.verified(user)]:
            raise IdentityChanged(blocking, verified=people.verified(blocking[0]))
        if conversation.private:
            people.demand(list(members))
        lacking = people.lacking(members)
        for user in people.left_out(lacking):
            core.notice(f"{user} gets nothing here: the server gives no usable keys of them.", conversation.title)
        keys = {user: people.known(user) for user in members if user not in lacking}
        return {user: own for user, own in keys.items() if own is not None and own.ik == members[user]}

    async def prepare(self, conversation: Conversation) -> None:
        """Gets the keys of a room's members, so that the first message leaves at once. Raises Refused, LinkLost."""
        if self._core.people is not None and conversation.log is not None:
            await self._core.people.know([user for user in conversation.log.members if user != self._core.user])

    async def transmit(self, entry: Entry) -> m.SendOk:
        """Sends one sealed message. Raises Refused, LinkLost."""
        sealed = entry.sealed
        assert sealed is not None
        if entry.where.startswith("@"):
            reply = await self._core.request(m.Pm(user=entry.where[1:], package=sealed.package))
        else:
            reply = await self._core.request(m.Send(room=self._room(entry.where)[0].room, package=sealed.package))
        ok: m.SendOk = reply
        return ok

    async def renew(self, entry: Entry, refusal: Refused) -> bool:
        """Learns what a refusal says that the client lacks; whether other bytes are called for.

        A head that is stale although nobody was put out since is no reason to seal anew: that is tried again.

        Raises:
            LinkLost: the connection is gone.
            InvalidKey: the server wants it sealed for somebody, too, of whom it gives no usable keys.
        """
        core = self._core
        assert core.people is not None and entry.sealed is not None
        users = tuple(refusal.data.get("users", ()))
        try:
            if refusal.code is STALE_KEYS:
                await core.fetch_anew(users)
                return True
            if entry.where.startswith("@"):
                await core.people.fetch([entry.where[1:]])
                return True
            conversation, log = self._room(entry.where)
            await core.book.reach(conversation, log.count + 1, quietly=True)
            if refusal.code is STALE_HEAD:
                since = log.changed_since(parse_header(entry.sealed.package.hdr).head)
                return since is None or since[1]
            others = [user for user in log.members if user != core.user]
            await core.people.fetch(others)
            if refusal.code is BAD_AUDIENCE:
                core.people.demand(others)
        except Refused:
            return False
        return True

    def proven(self, sealed: Sealed, refusal: Refused) -> Turn | None:
        """This device's newest message there, from the server's proof: its own signature says so, or it is none."""
        account, proof = self._core.account, refusal.data.get("proof")
        if account is None or not isinstance(proof, m.StoredMessage):
            return None
        package = proof.package
        try:
            own = p.ed25519_public(account.keys.device)
            header = verify_header(package.hdr, package.bind, package.sig, own)
        except InvalidKey:
            return None
        if header.room != sealed.conversation or header.ctr != refusal.data.get("expected", 0) - 1:
            return None
        return Turn(header.ctr, message_id(package.hdr, package.bind), header.mid)

    # --- what became of it ------------------------------------------------------------------------------------------

    def sent(self, entry: Entry, reply: m.SendOk) -> None:
        """A message is stored: it is shown in its place among the others."""
        core = self._core
        peer = entry.where[1:] if entry.where.startswith("@") else None
        sealed, account = entry.sealed, core.account
        if not reply.dup:
            core.signs.heard(reply.ts, core.now_ms())
        if core.inbox is not None and sealed is not None and account is not None:
            # Where it went is what was signed, whatever the server says it stored.
            conversation = core.conversations.labelled(entry.where)
            if peer is not None:
                conversation = core.conversations.begun(sealed.conversation, peer)
            if conversation is not None and conversation.id == sealed.conversation:
                events = reply.events if peer is None else 0
                own = OwnMessage(
                    conversation.room, peer, reply.seq, events, sealed.ctr, sealed.id, account.keys.dev, entry.text,
                    reply.ts,
                )  # fmt: skip
                core.inbox.put(own)
        core.status_changed()

    def not_sent(self, entry: Entry, error: Exception, *, waits: bool) -> None:
        """A message was refused, or waits for its author's word."""
        core, where = self._core, entry.where
        status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.UNTRUSTED)
        fate = "" if waits else f" Not sent: {entry.words}"
        text = str(error)
        if isinstance(error, InvalidKey):  # the others may start with a name
            text = f"{text[:1].upper()}{text[1:]}."
        core.show(Failure(f"{text}{fate}", status, code(error)))
        known = core.with_peer(where[1:]) if where[0] == "@" else core.conversations.labelled(where)
        if isinstance(error, Refused) and error.code is BAD_HEADER and known is not None:
            core.lobby.alarm(known, "the server does not know the history that it gave you")
        core.status_changed()

    def delayed(self, entry: Entry, error: Refused) -> None:
        """The server asks for patience."""
        self._core.notice(f"Not sent yet: {error} It is tried again by itself.", entry.where)


def _package(sealed: SealedMessage) -> m.Package:
    return m.Package(
        encrypted_message=sealed.encrypted_message,
        encrypted_keys=dict(sealed.encrypted_keys),
        kids=dict(sealed.kids),
        hdr=sealed.hdr,
        bind=sealed.bind,
        sig=sealed.sig,
    )
