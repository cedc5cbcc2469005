"""Pages of messages, as the archive keeps them: what one message is, what is written together, and what goes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from securechat.client.kept import Kept
from securechat.client.store import Put

MESSAGES: Final = 64  # in a page: small enough to be written anew for each message, large enough to be scanned at once
_KEPT_BY_EVICTION: Final = 0.9  # of the cap: what goes at once is the work of days

Key = tuple[str, int]
"""A conversation's id and the number of a page."""


Page = dict[int, Kept]


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a page on disk: its length there, and the latest time of its messages (milliseconds)."""

    size: int
    newest: int


@dataclass(slots=True)
class Batch:
    """What one write takes along: `puts` and `deletes` of the store, and what they mean here."""

    puts: list[Put] = field(default_factory=list)
    deletes: list[tuple[str, str]] = field(default_factory=list)
    added: dict[Key, Page] = field(default_factory=dict)
    pages: dict[Key, Page] = field(default_factory=dict)
    cards: dict[Key, Card] = field(default_factory=dict)
    evicted: set[Key] = field(default_factory=set)
    doomed: set[Key] = field(default_factory=set)
    wiped: bool = False

    def forgets(self, keys: Iterable[Key]) -> None:
        """Pages are forgotten while it is under way."""
        for key in keys:
            for kept in (self.added, self.pages, self.cards):
                kept.pop(key, None)


def laid_over(page: Page, *later: Page) -> Page:
    """A page with what came later in the place of what has its number.

    What cannot be shown takes no place of what could: a server can damage what it gives again.
    """
    merged = dict(page)
    for each in later:
        merged.update({seq: kept for seq, kept in each.items() if not _outlasts(merged.get(seq), kept)})
    return merged


def add(page: Page, kept: Kept) -> None:
    """Lays one message over a page."""
    if not _outlasts(page.get(kept.seq), kept):
        page[kept.seq] = spelt(kept)


def _outlasts(there: Kept | None, kept: Kept) -> bool:
    return there is not None and kept.obscured and not there.obscured


def evict(cards: Mapping[Key, Card], cap: int) -> set[Key]:
    """Which pages go when they are longer than `cap` bytes together: so many that a tenth of it is free again.

    Those go first whose newest message is the oldest, and the last page of each conversation after all others.
    """
    size = sum(card.size for card in cards.values())
    if size <= cap:
        return set()
    last: dict[str, int] = {}
    for conversation, number in cards:
        last[conversation] = max(number, last.get(conversation, 0))
    gone: set[Key] = set()
    for key in sorted(cards, key=lambda key: (last[key[0]] == key[1], cards[key].newest, key)):
        if size <= cap * _KEPT_BY_EVICTION:
            break
        size -= cards[key].size
        gone.add(key)
    return gone


def key_of(conversation: str, seq: int) -> Key:
    """The page that a message belongs to."""
    return conversation, seq // MESSAGES


def name_of(key: Key) -> str:
    """What a page is called in the store; `key_named` reads it."""
    return f"{key[0]} {key[1]}"


def key_named(name: str) -> Key:
    """The page that is called so."""
    conversation, _, number = name.rpartition(" ")
    return conversation, int(number)


def spelt(kept: Kept) -> Kept:
    """The same without halves of characters, which no UTF-8 can spell."""
    try:
        msgspec.json.encode(kept)
        return kept
    except UnicodeEncodeError:
        values = ((name, getattr(kept, name)) for name in kept.__struct_fields__)
        texts = {name: text.encode(errors="replace").decode() for name, text in values if isinstance(text, str)}
        return msgspec.structs.replace(kept, **texts)
