"""What wants its user's attention: unread messages and mentions, what draws an alert, and in which order to look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from securechat.client.conversations import Conversation
from securechat.client.kept import Entry, Taken, target_of, to_keep
from securechat.client.telling import calls
from securechat.client.view import Alert, Changed, Item, Message, RoomState
from securechat.wire.names import fold_user

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

LEVELS: Final = ("all", "mentions", "none")  # which messages of a conversation draw attention; "mentions" if not set
IN_MEMORY: Final = 1000  # messages of a conversation; when twice as many are there, the older ones are let go
ACTIVE_IN_MEMORY: Final = 10_000  # the same of the active one, through which its user may be scrolling


class Attention:
    """One account's unread messages.

    Attributes:
        levels: by the id of a conversation: one of `LEVELS`.
        ignored: people whose messages are neither shown nor counted.
    """

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self.levels: dict[str, str] = {}
        self.ignored: set[str] = set()

    def level(self, conversation: Conversation) -> str:
        """Which of its messages draw attention."""
        return self.levels.get(conversation.id, "mentions")

    def set_level(self, conversation: Conversation, level: str) -> None:
        """Which of its messages draw attention from now on, on all devices of this account."""
        self.levels[conversation.id] = level
        if self._core.notes is not None:
            self._core.notes.put("level", conversation.id, level)
        self._core.status_changed()

    def take_level(self, subject: str, value: object) -> None:
        """The same from before, or from another device."""
        if value in LEVELS:
            self.levels[subject] = str(value)

    def ignore(self, user: str, *, ignored: bool) -> None:
        """Whether somebody's messages are neither shown nor counted, on all devices of this account."""
        (self.ignored.add if ignored else self.ignored.discard)(user)
        if self._core.notes is not None:
            self._core.notes.put("ignore", user, ignored)
        self._redraw()

    def take_ignored(self, subject: str, value: object) -> None:
        """The same from before, or from another device."""
        if fold_user(subject) == subject:
            (self.ignored.add if value is True else self.ignored.discard)(subject)
            self._redraw()

    def _redraw(self) -> None:
        if self._core.conversations.active:
            self._core.view.opened(self._core.conversations.active)

    def hears(self, item: Item) -> bool:
        """Whether an item is to be shown: not what somebody says or does whom its user ignores."""
        who = item.sender if isinstance(item, Message) else item.who if isinstance(item, Changed) else ""
        return who not in self.ignored

    def took(self, conversation: Conversation, taken: Taken) -> bool:
        """A message has just come: kept, counted, perhaps said aloud. Whether it is to be shown."""
        self.keep(conversation, [taken])
        kept, entry = taken.kept, taken.entry
        sender = kept.sender
        self._core.company.spoke(conversation, sender)
        active = conversation.title == self._core.conversations.active
        most = ACTIVE_IN_MEMORY if active else IN_MEMORY
        if len(conversation.timeline) > 2 * most:
            conversation.timeline.keep_newest(most)
        new = taken.change is None and entry is not None and not kept.hidden and sender != self._core.user
        counts = new and sender not in self.ignored and kept.seq > conversation.read_to
        called = counts and entry is not None and self._calls(conversation, entry)
        followed = self._core.view.follows(conversation.title)
        if followed or not (counts or conversation.unread):
            conversation.read_to = max(conversation.read_to, kept.seq)
        elif counts:
            if not conversation.unread:
                conversation.marker = conversation.read_to
            conversation.unread += 1
            conversation.mentions += called
        if not followed:
            self._core.status_changed()
        if counts and entry is not None and self._core.synced:
            self._alert(conversation, entry, called=called)
        own = sender == self._core.user
        return sender not in self.ignored and (own or self._core.view.prints(conversation.title))

    def keep(self, conversation: Conversation, taken: Iterable[Taken]) -> None:
        """What was taken in goes to the archive, and how it leaves an earlier message."""
        for each in taken:
            for kept in to_keep(each):
                self._core.saving.archived(conversation, kept)
            if each.entry is None and target_of(each.kept):
                self._core.scrollback.mend(conversation, each.kept)

    def _calls(self, conversation: Conversation, entry: Entry) -> bool:
        return conversation.peer is not None or calls(entry.body, self._core.user)

    def _alert(self, conversation: Conversation, entry: Entry, *, called: bool) -> None:
        level = self.level(conversation)
        if level == "none" or (level == "mentions" and not called):
            return
        sender = entry.kept.sender
        title = f"{sender} writes to you" if conversation.peer is not None else f"{sender} in {conversation.title}"
        text = entry.body.text if self._core.preferences.on("notify-text") else ""
        self._core.view.alert(Alert(conversation.title, sender, title, text))

    def seen(self, conversation: Conversation) -> None:
        """Its user has all of it before their eyes."""
        if conversation.read_to < conversation.cursor or conversation.unread:
            conversation.read_to = max(conversation.read_to, conversation.cursor)
            conversation.unread = conversation.mentions = 0
            self._core.saving.shown(conversation)
            self._core.status_changed()

    def read_elsewhere(self, conversation: Conversation, seq: int) -> None:
        """Another device of this account has come so far; what is behind that is counted anew."""
        if seq > conversation.read_to:
            conversation.read = max(conversation.read, seq)
            self.read_up_to(conversation, seq)

    def read_up_to(self, conversation: Conversation, seq: int) -> None:
        """Everything up to a message was seen; what is behind it stays as it is."""
        if seq <= conversation.read_to:
            return
        conversation.read_to = seq
        timeline = conversation.timeline
        left = [entry for entry in timeline.since(seq) if self._unread(entry)]
        unread, mentions = len(left), sum(self._calls(conversation, entry) for entry in left)
        if seq < conversation.cursor and not 0 < timeline.first <= seq + 1:  # not all of them are in memory
            unread, mentions = conversation.cursor - seq, conversation.mentions
        conversation.unread = min(conversation.unread, unread)
        conversation.mentions = min(conversation.mentions, mentions, conversation.unread)
        self._core.saving.shown(conversation)
        self._core.status_changed()

    def _unread(self, entry: Entry) -> bool:
        kept = entry.kept
        return not kept.hidden and not entry.deleted and kept.sender not in self.ignored | {self._core.user}

    # --- lists and orders -------------------------------------------------------------------------------------------

    def listed(self) -> list[Conversation]:
        """All conversations as they are listed: rooms, then people, each by name."""
        here = [c for c in self._core.conversations if c.peer is None or c.cursor or c.timeline or c.draft]
        return sorted(here, key=lambda c: (c.peer is not None, c.title))

    def states(self) -> tuple[RoomState, ...]:
        """The list, for a view."""
        active = self._core.conversations.active
        return tuple(
            RoomState(
                c.title, c.unread, c.mentions, c.title == active, self.level(c) == "none", bool(c.stopped),
                bool(c.draft) and c.title != active, "" if c.log is None else c.log.topic,
            )
            for c in self.listed()
        )  # fmt: skip

    def next_active(self) -> str:
        """The conversation that most wants to be read: mentions and private messages first, then the most recent."""
        active = self._core.conversations.active
        waiting = [c for c in self.listed() if c.unread and c.title != active]
        waiting.sort(key=lambda c: (self.level(c) == "none", not c.mentions, -_newest(c)))
        return waiting[0].title if waiting else ""

    def next_room(self, step: int) -> str:
        """The conversation so many places further in the list, round its end."""
        titles = [c.title for c in self.listed()]
        active = self._core.conversations.active
        if not titles:
            return ""
        place = titles.index(active) if active in titles else (-1 if step > 0 else 0)
        return titles[(place + step) % len(titles)]

    @staticmethod
    def fits_alike(typed: str, title: str, other: str) -> bool:
        """Whether a few letters fit two titles in the same way."""
        one, two = fuzzy(typed, title), fuzzy(typed, other)
        return one is not None and two is not None and one[0] == two[0]

    def best_match(self, typed: str) -> list[str]:
        """The conversations that a few typed letters may mean, the likeliest first."""
        found = [(score, -_newest(c), c.title) for c in self.listed() if (score := fuzzy(typed, c.title)) is not None]
        return [title for _, _, title in sorted(found)]


def _newest(conversation: Conversation) -> int:
    """When something was said there last, milliseconds."""
    return conversation.timeline[-1].kept.at if len(conversation.timeline) else 0


def fuzzy(typed: str, title: str) -> tuple[int, int] | None:
    """How well a few letters fit a title, less is better; None: they do not occur in it in this order."""
    name, typed = title.lower(), typed.lower().removeprefix("#")
    if "#" in name and "#" not in typed:
        return None  # another room took that name: who means it says so
    if typed == name or typed == name.removeprefix("@"):
        return (0, 0)
    if name.removeprefix("@").startswith(typed.removeprefix("@")):
        return (1, len(name))
    if typed in name:
        return (2, name.index(typed))
    place, gaps = -1, 0
    for letter in typed:
        found = name.find(letter, place + 1)
        if found < 0:
            return None
        gaps += found - place - 1
        place = found
    return (3, gaps)
