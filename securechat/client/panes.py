"""`Panes`: what a view with room list and scrollback asks of the core."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from securechat.client.conversations import Conversation
from securechat.client.kept import Entry
from securechat.client.telling import fold, item_of
from securechat.client.timeline import Timeline
from securechat.client.view import Item, Message, Unshown
from securechat.crypto.trust import TrustState
from securechat.errors import Exit

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


_FEW: Final = 200  # entries that changed since a list was made, with which it is not made anew


@dataclass(eq=False, slots=True)
class _Drawn:
    """A list that was made, and of what: of a timeline at a version, with so many entries `lost`, up to the `last`."""

    timeline: Timeline
    where: str
    ignored: frozenset[str]
    version: int = -1
    lost: int = 0
    last: int = 0
    items: Sequence[Item] = ()

    def fits(self, timeline: Timeline, where: str, ignored: frozenset[str]) -> bool:
        """Whether it is of that timeline, told in the same words to the same person."""
        return self.timeline is timeline and (self.where, self.ignored) == (where, ignored)


def _seq(item: Item) -> int:
    return item.seq if isinstance(item, (Message, Unshown)) else 0


class Panes:
    """A core as `view.Desktop`."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._drawn: _Drawn | None = None  # one is before anybody's eyes

    @property
    def exiting(self) -> bool:
        """As view.Client's."""
        return self._core.exiting

    async def submit(self, line: str) -> Exit:
        """As view.Client's."""
        return await self._core.orders.submit(line)

    async def close(self, timeout: float) -> Exit:
        """As view.Client's."""
        return await self._core.close(timeout)

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        """As view.Client's."""
        return self._core.orders.complete(text)

    def talk(self, where: str) -> Sequence[Item]:
        """What is in memory of a conversation; the same list until something changes."""
        conversation = self._core.conversations.titled(where)
        if conversation is None:
            return ()
        timeline, ignored = conversation.timeline, frozenset(self._core.attention.ignored)
        drawn = self._drawn
        if drawn is None or not drawn.fits(timeline, where, ignored):
            self._drawn = drawn = _Drawn(timeline, where, ignored)
        if drawn.version != timeline.version:
            drawn.items = self._anew(conversation, drawn)
            drawn.version, drawn.lost = timeline.version, timeline.lost
            drawn.last = timeline[-1].seq if len(timeline) else 0
        return drawn.items

    def _anew(self, conversation: Conversation, drawn: _Drawn) -> Sequence[Item]:
        """The list as it is now: where only a few entries are new or changed, by what they change alone."""
        timeline = conversation.timeline
        changed = [entry for entry in timeline if entry.version > drawn.version]
        if len(changed) > _FEW or timeline.lost != drawn.lost:
            return fold(self._item(entry, conversation) for entry in timeline if entry.kept.sender not in drawn.ignored)
        items = list(drawn.items)
        for entry in changed:
            if entry.kept.sender in drawn.ignored:
                continue
            item, place = self._item(entry, conversation), bisect_left(items, entry.seq, key=_seq)
            there = items[place] if place < len(items) else None
            if entry.seq > drawn.last:
                items[-1:] = fold([*items[-1:], item])
            elif isinstance(item, Message) and isinstance(there, Message) and there.seq == entry.seq:
                items[place] = item
            else:  # something between the others, or a line for several
                everyone = (each for each in timeline if each.kept.sender not in drawn.ignored)
                return fold(self._item(each, conversation) for each in everyone)
        return items

    def _item(self, entry: Entry, conversation: Conversation) -> Item:
        drawn: tuple[int, str, Item] | None = entry.drawn
        if drawn is None or drawn[:2] != (entry.version, conversation.title):
            item = item_of(entry, conversation, self._core.user, timed=True)
            drawn = entry.drawn = (entry.version, conversation.title, item)
        return drawn[2]

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
        way = "sending" if self._core.post.can_send() else "waiting"
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
        """Keeps what is half typed there; that something is typed may be told."""
        conversation = self._core.conversations.titled(where)
        if conversation is not None and text not in ("", conversation.draft) and text.lstrip()[:1] not in ("", "/"):
            self._core.company.typing(conversation)
        self._core.drafts.put(where, text)

    def preference(self, name: str) -> str:
        """As its user wants it."""
        return self._core.preferences[name]
