"""`Panes`: what a view with room list and scrollback asks of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from securechat.client.conversations import Conversation
from securechat.client.telling import fold, item_of
from securechat.client.timeline import Entry, Kept
from securechat.client.view import Item
from securechat.crypto.trust import TrustState
from securechat.errors import Exit

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


class Panes:
    """A core as `view.Desktop`."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._drawn: dict[str, tuple[int, Sequence[Item]]] = {}
        self._items: dict[Entry, tuple[Kept, int, Item]] = {}

    @property
    def exiting(self) -> bool:
        """As view.Client's."""
        return self._core.exiting

    async def submit(self, line: str) -> Exit:
        """As view.Client's."""
        return await self._core.submit(line)

    async def close(self, timeout: float) -> Exit:
        """As view.Client's."""
        return await self._core.close(timeout)

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        """As view.Client's."""
        return self._core.complete(text)

    def talk(self, where: str) -> Sequence[Item]:
        """What is in memory of a conversation; the same list until something changes."""
        conversation = self._core.conversations.titled(where)
        if conversation is None:
            return ()
        version, items = self._drawn.get(conversation.id, (-1, ()))
        if version != conversation.timeline.version:
            shown = (e for e in conversation.timeline if e.kept.sender not in self._core.attention.ignored)
            items = fold(self._item(entry, conversation) for entry in shown)
            self._drawn = {conversation.id: (conversation.timeline.version, items)}  # one is before anybody's eyes
        return items

    def _item(self, entry: Entry, conversation: Conversation) -> Item:
        kept, changes, item = self._items.get(entry, (None, 0, None))
        if item is None or kept is not entry.kept or changes != len(entry.changes):
            item = item_of(entry, conversation, self._core.user, timed=True)
            if len(self._items) > 50_000:
                self._items.clear()
            self._items[entry] = (entry.kept, len(entry.changes), item)
        return item

    async def older(self, where: str) -> int:
        """Brings older messages; how many."""
        conversation = self._core.conversations.titled(where)
        return 0 if conversation is None else await self._core.scrollback.older(conversation)

    def pending(self, where: str) -> Sequence[tuple[str, str]]:
        """What was typed there and is not stored yet."""
        outbox = self._core.outbox
        if outbox is None:
            return ()
        moving = set(map(id, outbox.moving()))
        way = "sending" if self._core.can_send() else "waiting"
        return [(e.words, way if id(e) in moving else "held") for e in outbox.pending() if e.where == where]

    def marker(self, where: str) -> int:
        """The last message that was seen before the conversation was opened."""
        conversation = self._core.conversations.titled(where)
        return 0 if conversation is None else conversation.marker

    def seen(self, where: str) -> None:
        """Its user has it before their eyes."""
        conversation = self._core.conversations.titled(where)
        if conversation is not None:
            self._core.attention.seen(conversation)

    def go(self, where: str) -> None:
        """Makes it the active one."""
        self._core.go(where)

    def next_room(self, step: int) -> str:
        """So many places further in the list."""
        return self._core.attention.next_room(step)

    def next_active(self) -> str:
        """The one that most wants to be read."""
        return self._core.attention.next_active()

    def visited(self, step: int) -> str:
        """The one visited before or after."""
        return self._core.conversations.step(step)

    def members(self, where: str) -> Sequence[tuple[str, str]]:
        """Who is in a room: names, and their role, trust and presence in a few words."""
        conversation, people = self._core.conversations.titled(where), self._core.people
        if conversation is None or conversation.log is None or people is None:
            return ()
        found = []
        for user, member in sorted(conversation.log.members.items(), key=lambda each: (-each[1].role, each[0])):
            words = [] if member.role.label == "member" else [member.role.label]
            if user == self._core.user:
                words.append("you")
            elif people.state(user) is TrustState.CHANGED:
                words.append("identity changed")
            elif people.state(user) is TrustState.VERIFIED:
                words.append("verified")
            if user in conversation.online:
                words.append("online")
            found.append((user, ", ".join(words)))
        return found

    def draft(self, where: str) -> str:
        """What lies half typed there."""
        return self._core.drafts.get(where)

    def set_draft(self, where: str, text: str) -> None:
        """Keeps what is half typed there."""
        self._core.drafts.put(where, text)
        conversation = self._core.conversations.titled(where)
        if conversation is not None and text and not text.startswith("/"):
            self._core.company.typing(conversation)

    def preference(self, name: str) -> str:
        """As its user wants it."""
        return self._core.preferences[name]
