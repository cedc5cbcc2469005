"""Catching up: where every conversation stands by the server's word, held against what is known of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from msgspec import UNSET
from twisted.internet.defer import Deferred

from securechat.client.lobby import NOT_IN
from securechat.client.protocol import LinkLost
from securechat.client.store import CannotKeep
from securechat.errors import Refused
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


_DAY: Final = 24 * 3600 * 1000  # milliseconds


class CatchUp:
    """One account's catching up with the server, at the login and whenever the connection is back.

    Attributes:
        epoch: of the server's history, as far as it was followed; "" before the first time.
        synced: whether everything that was missed has been shown.
        followed: until when (milliseconds since 1970) everything new came as it was said; 0: unknown.
    """

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._round = 0
        self._waiters: list[Deferred[None]] = []
        self.epoch = ""
        self.synced = False
        self.followed = 0

    async def run(self) -> None:
        """Brings every conversation up to date, then lets the outbox go on."""
        self.end()
        for conversation in self._core.conversations:
            conversation.live = False
        asked = self._asked()
        followed = asked.since
        reply = await self._core.request(asked)
        present, passed_over = set(), set()
        for state in reply.conversations:
            present.add(state.room)
            if self._take_state(state, known=state.id in followed, same_epoch=reply.epoch == self.epoch):
                passed_over.add(state.room)
        for conversation in self._core.conversations:
            if conversation.room in present:
                continue
            if is_private(conversation.room):
                conversation.live = True  # nobody is put out of one: there is nothing to say of it, or it is hidden
            else:
                self._core.lobby.lose(conversation)
        if reply.epoch != self.epoch:
            self.epoch = reply.epoch
            if self._core.outbox is not None:
                self._core.outbox.new_epoch()
            await self._core.keep([("meta", "epoch", reply.epoch)], [])
        put_back = {state.id for state in reply.conversations if state.reset and state.id in followed}
        for conversation in self._core.conversations:
            if conversation.id in put_back and self._core.outbox is not None:
                await self._core.outbox.reseal(conversation.title)
        for state in reply.conversations:
            await self._bring_log(state)
            self.check_entry(state.room, passed_over=state.room in passed_over)
        for conversation in self._core.conversations:
            self._core.lobby.tell_events(conversation)  # what a client that was ended in between had not said
        self._core.own_task(self._core.lobby.look_at(reply.invites), "looking at invitations")
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)  # not before: nothing is sealed for members of an old log
        self.check()
        await waiter

    def _asked(self) -> m.Sync:
        """What is asked of the server: what came behind what is known, and what this client's user wishes."""
        # Also at 0: whoever is in one that has no message yet was told of the first place there.
        followed = {c.id: c.cursor for c in self._core.conversations.all_known() if c.cursor or c.here}
        return m.Sync(
            epoch=self.epoch or None,
            since=followed,
            presence=self._core.company.shares_presence,
            typing=self._core.company.wants_typing,
        )

    async def tell_wishes(self) -> None:
        """Tells the server that its user wishes something else by now, in the middle of a connection.

        Nothing streams by this that does not already, and where everything stands is known: no need for the answer.

        Raises:
            Refused, LinkLost: then it is told when the connection is back.
        """
        await self._core.request(self._asked())
        if not self._core.company.shares_presence:
            for conversation in self._core.conversations:
                conversation.online.clear()

    def end(self) -> None:
        """What was caught up counts no more, nor does what is still to be shown of it."""
        if self.synced:
            self._note_time()
        self.synced = False
        self._round += 1
        for conversation in self._core.conversations:
            conversation.online.clear()  # who is there is asked anew

    def _take_state(self, state: m.ConversationState, *, known: bool, same_epoch: bool) -> bool:
        """Where one conversation stands by the server's word.

        Args:
            known: whether its messages were followed up to the cursor that the server was told.

        Returns:
            Whether it passes over messages, as if this account had been out of the room: its log has to show that.
        """
        room, private = state.room, is_private(state.room)
        before, peer = self._core.conversations.get(room), None if state.peer is UNSET else state.peer
        named = self._core.conversations.known(state.id)
        if (private and state.id != room) or (named is not None and named.room != room):
            self._core.notice("The server gives one conversation under two names. The second one is left out.", room)
            return False
        conversation = self._core.conversations.ensure(room, peer, state.id)
        if before is not None and conversation is not before:
            self._core.notice(
                f"The server has another room under this name than the one you were in. It is {conversation.label}"
                " here; the one you knew is gone, or hidden.",
                before.title,
            )
        conversation.first, conversation.read = state.first, state.read
        self._core.attention.read_elsewhere(conversation, min(max(state.read, state.first), state.last))
        self._core.saving.shown(conversation)
        seq = conversation.cursor
        seen = conversation.reader.transcript.at(state.start[0])  # some more may have been shown while this was asked
        if known and not state.reset and seen is not None:
            if state.start[1] != seen:
                self._core.lobby.alarm(conversation, "the server's history up to here is not the one you saw")
            return False
        lost = state.reset and (not same_epoch or seq > state.last) and state.start[0] <= seq
        passed_over = known and not lost and not private and seq < state.start[0] == state.first
        if passed_over:  # whether one was out is held against the log, once that is there
            self._core.lobby.passed_over(conversation)
        elif known and not lost and not self.removed(state, seq):
            self._core.lobby.alarm(conversation, "the server goes on at another place than you had come to")
        conversation.restart(*state.start)
        if known and state.reset:
            self._core.notice(
                "The server's history is not the one this client knew (was a backup restored?): it is read again.",
                conversation.title,
            )
        return passed_over

    def _note_time(self) -> None:
        """Takes note of until when this client was there: what came before that is not missing."""
        self.followed = self._core.now_ms()
        self._core.own_task(self._keep_time(), "taking note of the time")

    async def _keep_time(self) -> None:
        with contextlib.suppress(CannotKeep):  # then an earlier time counts, at the next start
            await self._core.keep([("meta", "followed", self.followed)], [])

    def removed(self, state: m.ConversationState, seq: int) -> bool:
        """Whether messages behind number `seq` are gone because they were too old; then that is said.

        A server could drop any and say so. But what came while this client was away is no older than that is ago.
        """
        trimmed, days = state.trimmed, state.kept or 1
        if not seq < state.start[0] == trimmed or self._core.now_ms() - self.followed < days * _DAY:
            return False
        kept = f": it keeps them for {state.kept} day{'s' if state.kept > 1 else ''}" if state.kept else ""
        conversation = self._core.conversations.ensure(state.room, None, state.id)
        which = f"Message {trimmed} was" if trimmed == seq + 1 else f"Messages {seq + 1} to {trimmed} were"
        self._core.notice(f"{which} removed by the server before you read them{kept}.", conversation.title)
        self._core.lobby.passed_over(conversation)
        return True

    def check_entry(self, room: str, *, passed_over: bool) -> None:
        """Takes note of where one entered; an alarm if messages were `passed_over` and the log shows no new entry."""
        conversation = self._core.conversations.get(room)
        if conversation is None or conversation.log is None:
            return
        entered = conversation.log.entered(self._core.user)
        if passed_over and entered <= conversation.entry:
            self._core.lobby.alarm(
                conversation, "the server passed over messages, as if you had been out of the room meanwhile"
            )
        conversation.entry = entered

    async def _bring_log(self, state: m.ConversationState) -> None:
        """A room's log as far as the server has it; what the server lost of it is given back."""
        conversation = self._core.conversations.get(state.room)
        if conversation is None or is_private(state.room):
            return
        log = conversation.log
        try:
            if log is not None and state.events < log.count:
                if not state.events or log.links[state.events - 1] != state.head:
                    self._core.lobby.alarm(conversation, "the server shows another log of this room than before")
                    return
                await self._core.book.give_back(conversation, state.events)
                if not conversation.broken:
                    self._core.notice(
                        "The server had lost the end of this room's log: it has it again.", conversation.title
                    )
                return
            await self._core.book.reach(conversation, state.events, state.head)
            if conversation.id != state.id:
                self._core.lobby.alarm(conversation, "the server names this room by another id than its log has")
            if self._core.lobby.in_by_log(conversation):  # the server's word alone gives no room its name
                await self._core.lobby.pin_name(conversation)
        except Refused as refusal:
            if refusal.code in NOT_IN:
                self._core.lobby.lose(conversation)
                return
            self._core.lobby.alarm(conversation, f"the room's log cannot be had: {refusal}")

    def live(self, event: m.Live) -> None:
        """All that `sync` had to stream of a conversation has come."""
        conversation = self._core.conversations.get(event.room)
        if conversation is not None:
            conversation.live = True
        self.check()

    def check(self) -> None:
        """If all have come: once what was missed is shown, what is new may be sent."""
        if not all(conversation.live for conversation in self._core.conversations) or not self._waiters:
            return
        present = self._round

        def caught_up() -> None:
            if present != self._round:
                return  # the connection it came over is gone
            self.synced = True
            self._note_time()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)
            if self._core.outbox is not None:
                self._core.outbox.kick()

        # What was missed is shown before anything new is sent.
        if self._core.inbox is not None:
            self._core.inbox.put(caught_up)

    def give_up(self) -> None:
        """The account is left: whoever waits hears that not everything has come."""
        self.end()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(LinkLost("the connection was closed before everything had come"))
