"""Older messages of a conversation: brought into memory from this machine, else from the server.

And what happens to those that stay on disk when a message says that one of them is another now."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, DeferredLock

from securechat.client.conversations import Conversation
from securechat.client.protocol import LinkLost
from securechat.client.timeline import Kept, Timeline, target_of, to_keep
from securechat.crypto.body import React
from securechat.errors import Refused
from securechat.wire import limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

SCREEN: Final = 100  # messages that are in memory when a conversation is opened, if there are so many
MENDING: Final = 20  # changes of messages on disk that wait for their turn; one more shows, and that is all
STRETCH: Final = 200  # messages brought at a time


class Scrollback:
    """One account's older messages."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._bringing: set[str] = set()
        self._turns = DeferredLock()
        self._mending = 0

    async def fill(self, conversation: Conversation) -> None:
        """Sees to it that the newest screenful, and all that is unread, is in memory, as far as it is on this machine.

        Nothing is asked of the server: opening a conversation must not wait for it.
        """
        timeline = conversation.timeline
        while len(timeline) < SCREEN or (conversation.unread and timeline.first > conversation.read_to + 1):
            if not await self._from_disk(conversation):
                return

    async def older(self, conversation: Conversation) -> int:
        """Brings a stretch of older messages; how many. 0: there are none, or they cannot be had now."""
        if conversation.id in self._bringing:
            return 0
        self._bringing.add(conversation.id)
        try:
            return await self._from_disk(conversation) or await self._from_server(conversation)
        finally:
            self._bringing.discard(conversation.id)

    async def reach(self, conversation: Conversation, seq: int) -> bool:
        """Brings older messages until number `seq` is among them; whether it is."""
        while conversation.timeline.first > seq or not conversation.timeline.first:
            if not await self.older(conversation):
                break
        return conversation.timeline.has(seq)

    def mend(self, conversation: Conversation, change: Kept) -> None:
        """An edit or deletion of a message that is not in memory has come: on disk it is changed, if it is there.

        One search at a time, and few that wait: anybody can name messages that never were.
        """
        if self._mending < MENDING and not isinstance(change.said(), React):
            self._mending += 1
            self._core.own_task(self._in_turn(conversation, change), "changing a message on disk")

    async def _in_turn(self, conversation: Conversation, change: Kept) -> None:
        try:
            await self._turns.run(lambda: Deferred.fromCoroutine(self._mend(conversation, change)))
        finally:
            self._mending -= 1

    async def _mend(self, conversation: Conversation, change: Kept) -> None:
        archive, target, before = self._core.archive, target_of(change), change.seq
        near: list[Kept] = [change]
        while archive is not None and near[0].id != target:
            older = await archive.before(conversation.id, before, STRETCH)
            if not older or archive is not self._core.archive:
                return
            before = older[0].seq
            near += [kept for kept in older if target_of(kept) == target]
            near[:0] = [kept for kept in older if kept.id == target][:1]
        stretch = Timeline()
        stretch.take_all(near[:1])
        for taken in [stretch.take(kept) for kept in sorted(near[1:], key=lambda kept: kept.seq)]:
            for kept in to_keep(taken):
                self._core.saving.archived(conversation, kept)

    def _before(self, conversation: Conversation) -> int:
        return conversation.timeline.first or conversation.cursor + 1

    async def _from_disk(self, conversation: Conversation) -> int:
        archive, before = self._core.archive, self._before(conversation)
        if archive is None:
            return 0
        kept = _unbroken(await archive.before(conversation.id, before, STRETCH), before)
        conversation.timeline.take_all(kept)
        return len(kept)

    async def _from_server(self, conversation: Conversation) -> int:
        before, inbox = self._before(conversation), self._core.inbox
        if before <= conversation.first + 1 or inbox is None:
            return 0
        with contextlib.suppress(LinkLost, Refused):
            count = min(STRETCH, limits.HISTORY_MAX, before - 1 - conversation.first)  # no further than one may read
            asked = m.History(room=conversation.room, before=before, limit=count)
            page: m.HistoryOk = await self._core.request(asked)
            await inbox.page(conversation, [page], self._core.progress)
            return len(page.messages)
        return 0


def _unbroken(kept: Sequence[Kept], before: int) -> Sequence[Kept]:
    """The end of it without a gap up to number `before`: what is missing between is the server's to give."""
    place = len(kept)
    while place and kept[place - 1].seq == before - 1:
        place, before = place - 1, before - 1
    return kept[place:]
