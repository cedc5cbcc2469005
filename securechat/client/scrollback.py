"""Older messages of a conversation: brought into memory from this machine, else from the server.

And what happens to those that stay on disk when a message says that one of them is another now."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.task import deferLater

from securechat.client.conversations import Conversation
from securechat.client.kept import Kept, target_of, to_keep
from securechat.client.protocol import LinkLost
from securechat.client.timeline import Timeline
from securechat.errors import Refused
from securechat.wire import limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.archive import Archive
    from securechat.client.core import ChatCore

SCREEN: Final = 100  # messages that are in memory when a conversation is opened, if there are so many
MEND_REST: Final = 4  # times as long as a look at all of a conversation took, the disk has rest from the next one
UNREAD: Final = 2000  # unread messages that are brought when a conversation is opened
STRETCH: Final = 200  # messages brought at a time


class Scrollback:
    """One account's older messages."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._bringing: set[str] = set()
        self._changes: dict[tuple[Archive, Conversation], list[Kept]] = {}  # of messages that are not in memory
        self._mending = False

    async def fill(self, conversation: Conversation) -> None:
        """Sees to it that the newest screenful, and what is unread, is in memory, as far as it is on this machine.

        Of very much that is unread, the newest `UNREAD`: scrolling brings the rest. Nothing is asked of the server:
        opening a conversation must not wait for it.
        """
        timeline, wanted = conversation.timeline, UNREAD if conversation.unread else SCREEN
        while len(timeline) < SCREEN or (timeline.first > conversation.read_to + 1 and len(timeline) < wanted):
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

    def mend(self, conversation: Conversation, change: Kept) -> None:
        """A change of a message that is not in memory has come: where that one is on disk, it is changed there.

        That takes a look at all that is kept of the conversation: there is one at a time, for all that came meanwhile.
        """
        if self._core.archive is not None:
            self._changes.setdefault((self._core.archive, conversation), []).append(change)
            if not self._mending:
                self._mending = True
                self._core.own_task(self._mend_all(), "changing messages on disk")

    async def _mend_all(self) -> None:
        try:
            while self._changes:
                (archive, conversation), changes = self._changes.popitem()
                began = self._core.reactor.seconds()
                await self._mend(archive, conversation, changes)
                await deferLater(self._core.reactor, MEND_REST * (self._core.reactor.seconds() - began))
        finally:
            self._mending = False

    async def _mend(self, archive: Archive, conversation: Conversation, changes: Sequence[Kept]) -> None:
        before = max(change.seq for change in changes)
        near: dict[str, dict[int, Kept]] = {}  # by the id of a message: what changes it, and at last itself
        for change in changes:
            near.setdefault(target_of(change), {})[change.seq] = change
        left = set(near)
        while left:
            older = await archive.before(conversation.id, before, STRETCH)
            if not older or archive is not self._core.archive:  # there is no more, or the account was left
                return
            before = older[0].seq
            for kept in older:
                target = target_of(kept)
                if target in left:
                    near[target].setdefault(kept.seq, kept)
            for kept in older:
                if kept.id in left and not kept.obscured:
                    left.discard(kept.id)
                    self._apply(conversation, kept, near[kept.id])

    def _apply(self, conversation: Conversation, kept: Kept, changes: Mapping[int, Kept]) -> None:
        stretch = Timeline()
        stretch.take(kept)
        for taken in [stretch.take(changes[seq]) for seq in sorted(changes)]:
            for each in to_keep(taken):
                self._core.saving.archived(conversation, each)

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
