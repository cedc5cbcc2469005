"""Rooms one enters, is in and is put out of: what happens there is taken in and told, or stops what is sent there."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET
from twisted.internet.defer import Deferred, DeferredLock

from securechat.client.acts import what_happened
from securechat.client.conversations import Conversation
from securechat.client.protocol import LinkLost
from securechat.client.store import CannotKeep
from securechat.client.view import Failure, Item, Membership, Notice
from securechat.crypto.envelope import bind_of, message_id
from securechat.crypto.roomlog import AnyEvent, Create, Join, Leave, SignedEvent
from securechat.crypto.transcript import transcript_start
from securechat.errors import NO_SUCH_ROOM, NOT_INVITED, NOT_MEMBER, Exit, InvalidKey, Refused
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

NOT_IN: Final = (NO_SUCH_ROOM, NOT_INVITED, NOT_MEMBER)  # what the server says of a room one is not in any more
_INVITES: Final = 20  # looked at, or waiting for it, at a time; the server can name any number
_LINES: Final = 8  # about what happened in a room meanwhile; of more, only the people are named
_TRIES: Final = 3  # to find a moment in which nothing is shown


class Lobby:
    """One account's rooms, as far as coming and going and the alarms there are concerned."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._entering: dict[str, list[m.StoredMessage | m.RoomEvent]] = {}  # on the way in: what came meanwhile
        self._ways: Counter[str] = Counter()  # how many are on the way into a room: a command, another device's join
        self._looking: set[str] = set()  # rooms that one is said to be invited to
        self._looks = DeferredLock()

    def holds(self, event: m.AnyEvent) -> bool:
        """Takes an event of a room that one is on the way into: its turn comes when the room is there."""
        if isinstance(event, (m.StoredMessage, m.RoomEvent)) and event.room in self._entering:
            self._entering[event.room].append(event)
            return True
        return False

    async def pin_name(self, conversation: Conversation) -> None:
        """The first room of a name that one was in keeps it."""
        if self._core.conversations.names.setdefault(conversation.room, conversation.id) == conversation.id:
            await self._core.keep([("name", conversation.room, conversation.id)], [])

    async def look(self, room: str, events: Callable[[int], None] | None = None) -> Conversation:
        """A room one is not in: its log, verified, going on from what was known of it. Raises Refused, InvalidKey."""
        found = await self._core.book.look(room, events)
        known = self._core.conversations.known(found.id)
        if known is not None and found.log is not None and (known.broken or not known.extended_by(found.log)):
            how = "less of the log" if found.behind(known) else "another log"
            raise InvalidKey(f"the server shows {how} of {room} than the one you knew: it is not entered")
        return found

    async def look_at(self, rooms: Iterable[str]) -> None:
        """Looks at invitations, one after the other."""
        for room in islice(rooms, _INVITES):
            await self.invited(room)

    async def invited(self, room: str) -> None:
        """Somebody invites this account: who, is in the room's log. One at a time: the server can name any room."""
        if room in self._looking or len(self._looking) >= _INVITES:
            return
        self._looking.add(room)
        try:
            await self._looks.run(lambda: Deferred.fromCoroutine(self._look_into(room)))
        finally:
            self._looking.discard(room)

    async def _look_into(self, room: str) -> None:
        try:
            found = await self.look(room)
        except LinkLost:
            return  # the next `sync` names it again
        except (Refused, InvalidKey) as error:
            self._core.notice(f"An invitation to {room} does not check out: {error}")
            return
        log, account = found.log, self._core.account
        if log is None or account is None:
            return
        by = log.invites.get(account.user, {}).get(account.own.ik)
        if by is None or self._core.people is None:
            return
        label = self._core.conversations.label(room, log.id)
        if self._core.people.identity(by) not in (None, log.members[by].ik):
            self._core.notice(
                f"Somebody invites you to {label} as {by}, by another identity than the {by} you know. Ask {by} by"
                " another way before you /accept."
            )
        else:
            self._core.notice(f"{by} invites you to {label}. /accept {label} enters it.")

    def lose(self, conversation: Conversation, *, said: bool = False) -> None:
        """Not in it any more, without having typed /leave: what is typed next must not go elsewhere by itself.

        Args:
            said: whether a line of the room's own has said it.
        """
        was_active = self._core.conversations.lose(conversation.room)
        if was_active or not said:
            active = " No room is active: /switch ROOM." if was_active else ""
            self._core.notice(f"You are no longer in {conversation.title}.{active}")
        self._core.saving.shown(conversation)
        self._core.status_changed()

    def take_event(self, event: m.RoomEvent) -> None:
        """The server tells of the next event of a room."""
        conversation = self._core.conversations.get(event.room)
        if conversation is None:
            # Another device of this account joined; what comes now is for this one too.
            self._core.own_task(self._appeared(event.room), "taking up a room")
        elif not self._core.book.live(conversation, event):
            self._core.own_task(self._bring(conversation, event.events), "fetching a room's log")

    async def _bring(self, conversation: Conversation, events: int) -> None:
        try:
            with self._or_again():
                await self._core.book.reach(conversation, events)
        except Refused as refusal:
            if refusal.code in NOT_IN:
                self.lose(conversation)
                self._core.catchup.check()

    @contextlib.contextmanager
    def _or_again(self) -> Iterator[None]:
        """What a lost connection or a full disk stops is brought by the next `sync`."""
        try:
            yield
        except LinkLost:
            pass
        except CannotKeep as error:
            self._core.give_up_link(str(error))

    async def _appeared(self, room: str) -> None:
        """An event of a room this client is not in: another device of this account entered it, if that is true."""
        try:
            with self._or_again():
                await self.take_up(room)
        except Refused:
            return  # it was left again meanwhile
        except InvalidKey as error:
            self._core.notice(f"Another device of yours entered {room}, which cannot be taken up here: {error}.")

    async def take_up(self, room: str) -> None:
        """A room that another device of this account entered: taken up from where its messages come to this one too.

        Raises:
            Refused, InvalidKey, LinkLost, CannotKeep.
        """
        with self.entering(room):
            found = await self.look(room)
            if not self.in_by_log(found) or self._core.conversations.get(room) is not None:
                return  # the server's word alone lets nobody in
            known = self._core.conversations.known(found.id)
            # A history does not say where a room stands in which nothing was said since.
            since = {found.id: 0 if known is None else known.cursor}
            reply: m.SyncOk = await self._core.ask(m.Sync(epoch=self._core.catchup.epoch or None, since=since))
            state = next((state for state in reply.conversations if state.id == found.id), None)
            if state is None or found.log is None:
                return  # it was left again meanwhile
            entry, place = (-1, state.start) if known is None else (known.entry, known.reader.transcript.place)
            anew = found.log.entered(self._core.user) > entry
            room_found = await self._take_up_room(found, state.start, state.first)
            room_found.read = state.read
            self._core.attention.read_elsewhere(room_found, max(state.read, state.first))
            lost = state.reset and state.last < place[0] >= state.start[0]  # after a restore, as catching up has it
            if not anew and state.start != place and not lost and not self._core.catchup.removed(state, place[0]):
                self.alarm(room_found, "the server passed over messages, as if you had been out of the room meanwhile")
            entered = next((one.event for one in reversed(found.events) if one.event.by == self._core.user), None)
            if self._core.inbox is not None and entered is not None and anew:
                self._core.inbox.put(
                    lambda: self._core.show(Membership(room_found.title, entered.by, what_happened(entered)))
                )

    @contextlib.contextmanager
    def entering(self, room: str) -> Iterator[None]:
        """While this account is on its way into a room, what comes from there waits."""
        self._entering.setdefault(room, [])
        self._ways[room] += 1
        try:
            yield
        finally:
            self._ways[room] -= 1
            if not self._ways[room]:
                del self._ways[room]
                for event in self._entering.pop(room):
                    if self._core.conversations.get(room) is not None:
                        self._core.online.link_event(event)

    def room_event(self, conversation: Conversation, signed: SignedEvent) -> None:
        """An event was taken in as it happened: said in its turn, and one's own end there taken note of."""
        self._tell_event(conversation, signed.event)
        self._core.healing.log_grew(conversation)

    def _tell_event(self, conversation: Conversation, event: AnyEvent) -> None:
        self._core.saving.shown(conversation)
        if self._core.inbox is None or self._core.account is None:
            return
        self.tell_events(conversation)
        here = _answered(event, self._core.account.keys.dev)
        log = conversation.log
        if log is not None and not log.role(self._core.user, self._core.account.own.ik):
            self._core.inbox.put(lambda: self._put_out(conversation, quietly=here))

    def log_fetched(self, conversation: Conversation) -> None:
        """A log was brought to where the server has it: one's own end there may be among what was not told."""
        self._tell_log(conversation)
        self._core.healing.log_grew(conversation)

    def _tell_log(self, conversation: Conversation) -> None:
        log = conversation.log
        if self._core.inbox is None or self._core.account is None or log is None:
            return
        self.tell_events(conversation)
        if not log.role(self._core.user, self._core.account.own.ik):
            self._core.inbox.put(lambda: self._put_out(conversation, quietly=False))

    def tell_events(self, conversation: Conversation) -> None:
        """Says what was not said yet of a room's log, in its turn; from then on its user knows who is there."""
        if self._core.inbox is None or self._core.account is None:
            return
        since, count = max(conversation.told, conversation.queued), len(conversation.events)
        if since >= count:
            return
        conversation.queued = count
        lines: list[Item] = []
        if since or conversation.entry >= 0:  # of a room new to this client, who is there is all that there is to say
            own = self._core.account.keys.dev
            events = [one.event for one in conversation.events[since:] if not _answered(one.event, own)]
            lines = [Membership(conversation.title, event.by, what_happened(event)) for event in events]
            if len(lines) > _LINES:
                came = sorted({event.by for event in events if isinstance(event, Join)} & self._members(conversation))
                people = f" Came in: {', '.join(came)}." if came else ""
                lines = [Notice(f"{len(lines)} things happened here meanwhile.{people}", conversation.title)]

        def tell() -> None:
            conversation.told = max(conversation.told, count)
            self._core.saving.shown(conversation)
            for line in lines:
                self._core.show(line)

        self._core.inbox.put(tell)

    @staticmethod
    def _members(conversation: Conversation) -> set[str]:
        return set() if conversation.log is None else set(conversation.log.members)

    def in_by_log(self, conversation: Conversation) -> bool:
        """Whether this account is a member of a room, by its log."""
        account, log = self._core.account, conversation.log
        return account is not None and log is not None and bool(log.role(account.user, account.own.ik))

    def _put_out(self, conversation: Conversation, *, quietly: bool) -> None:
        if self._core.conversations.get(conversation.room) is not conversation:
            return
        if quietly:
            self._core.conversations.drop(conversation.room)
        else:
            self.lose(conversation, said=True)
        self._core.catchup.check()  # it may have been the last one that was waited for

    def presence(self, event: m.PresenceEvent) -> None:
        """Shown by /members; a line for each would bury the talk."""
        conversation = self._core.conversations.get(event.room)
        if conversation is not None:
            (conversation.online.add if event.online else conversation.online.discard)(event.user)

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """Something does not check out: sending there waits for a word."""
        if conversation.stop(reason) and conversation.kept:
            self._core.saving.shown(conversation)
            then = (
                "Nothing is sent there until the server shows a log that checks out. Tell the others by another way;"
                f" /continue {conversation.title} looks again."
                if conversation.broken
                else "Sending there is stopped. Compare with the others by another way;"
                f" /continue {conversation.title} goes on all the same."
            )
            self._core.show(Failure(f"[{conversation.title}] {reason[:1].upper()}{reason[1:]}. {then}", Exit.UNTRUSTED))

    async def act(self, conversation: Conversation, make: Callable[[Any], AnyEvent]) -> m.ActOk:
        """Signs an act by this device and has the server take it in. Raises Refused, InvalidKey, LinkLost."""
        assert self._core.account is not None
        return await self._core.book.act(conversation, make, self._core.account.keys.device)

    async def enter_room(self, found: Conversation, done: m.ActOk) -> Conversation:
        """One is in a room now: its messages come from here on."""
        conversation = await self._take_up_room(found, done.start, done.start[0])
        await self._core.book.reach(conversation, done.events, done.link)
        self._core.catchup.check_entry(conversation.room, passed_over=False)
        return conversation

    async def _take_up_room(self, found: Conversation, start: tuple[int, str], first: int) -> Conversation:
        """A room one is in from now on; what was known of it before goes on: chains, alarms, log."""
        conversation = self._core.conversations.known(found.id) or found
        if conversation is not found:
            if found.log is None or not conversation.extended_by(found.log):
                raise InvalidKey(f"the server shows another log of {found.room} than the one you knew")
            self._core.book.go_on_with(conversation, found)
            if conversation.cursor < start[0]:
                self.passed_over(conversation)
        conversation.restart(*start)
        conversation.first = first
        conversation.live = True
        conversation.label = self._core.conversations.label(conversation.room, conversation.id)
        conversation.told = conversation.queued = len(conversation.events)
        self._core.conversations.add(conversation)
        await self._core.book.adopt(conversation)
        await self.pin_name(conversation)
        self._core.catchup.check_entry(conversation.room, passed_over=False)
        self._core.attention.read_elsewhere(conversation, first)  # nothing from before is to be read here
        self._core.saving.shown(conversation)
        return conversation

    def passed_over(self, conversation: Conversation) -> None:
        """One was out of a room meanwhile: what others sent there until now is not missing."""
        conversation.reader.passed_over()
        for device in conversation.reader.chains:
            self._core.saving.shown(conversation, device)

    async def go_on(self, conversation: Conversation) -> None:
        """The owner's word: what did not check out there is put up with, and what waits is sent.

        The transcript goes on from what the server shows now; pins, chains and the log never go back.
        """
        reasons = list(conversation.stopped)
        if reasons:
            conversation.audiences.clear()
            await self._believe(conversation)
        conversation.stopped = [reason for reason in conversation.stopped if reason not in reasons]
        self._core.saving.shown(conversation)
        if self._core.outbox is not None:
            self._core.outbox.go_on(conversation.title, conversation.readers_known())
        self._core.healing.given_again(conversation)

    async def look_again(self, conversation: Conversation) -> None:
        """A log that did not check out: the server may give a better one now. What was verified of it stays."""
        conversation.broken = False
        try:
            await self._core.book.reach(conversation, len(conversation.events) + 1, quietly=True)
        except BaseException:
            conversation.broken = True  # nothing was seen that would speak for it
            raise
        self._core.saving.shown(conversation)

    async def _believe(self, conversation: Conversation) -> None:
        """The transcript goes on, at the newest message shown, as the server says it is now: nothing is passed over.

        Raises:
            InvalidKey: the server's answer makes no sense.
        """
        for _ in range(_TRIES):
            seq = conversation.cursor
            page: m.HistoryOk = await self._core.ask(m.History(room=conversation.room, before=seq + 1, limit=1))
            if conversation.cursor != seq:
                continue  # more was shown meanwhile
            if not page.messages:
                if page.start is not UNSET:  # all were removed as too old
                    conversation.restart(*page.start)
                elif not conversation.first:  # nothing of it is left
                    conversation.restart(0, transcript_start(conversation.id))
                return
            if len(page.messages) != 1 or page.start is UNSET or page.messages[0].seq != page.start[0] + 1:
                raise InvalidKey("the server does not say how the history goes on")
            (newest,) = page.messages
            conversation.restart(*page.start)
            link, package = conversation.reader.link_at(newest.events) or "", newest.package
            newest_id = message_id(package.hdr, bind_of(package.bind, package.ct))
            conversation.reader.transcript.advance(newest.seq, link, newest_id)
            return


def _answered(event: AnyEvent, own: str) -> bool:
    """Whether this device's answer to a command has said what happened."""
    return event.dev == own and isinstance(event, (Create, Join, Leave))
