"""Searching what is kept: what a person types as a `Query`, and the scan that answers it. Pure.

There is no index, neither on disk nor in memory. Each page of messages has one `Leaf`: its texts folded and joined in
one piece, so that one look at a few kilobytes says that none of 64 messages has a word. A leaf takes 2 kB and its
texts: 20 MB for 100,000 messages of 100 letters.

A word is found anywhere, also within another; upper and lower case are one, accents are not dropped.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from sys import intern
from typing import Final

from securechat.client.display import clean
from securechat.errors import SecureChatError
from securechat.wire.names import fold_user

LINK: Final = 1
CODE: Final = 2
MENTION: Final = 4
FEATURES: Final[Mapping[str, int]] = {"link": LINK, "code": CODE, "mention": MENTION}

_LINK: Final = re.compile(r"\b(?:https?|securechat)://\S")
_CODE: Final = re.compile(r"```|`[^`\n]+`")
_TOKEN: Final = re.compile(r'(-?)"([^"]*)"|(\S+)')
_DAYS_AGO: Final = re.compile(r"(\d{1,5})d\Z", re.ASCII)
_QUOTES: Final = str.maketrans("“”„«»", '"""""')  # what keyboards and editors make of "
_FOREVER: Final = 2**63 - 1


class BadQuery(SecureChatError):
    """What was typed cannot be searched for; the text says what to type."""


# --- the query --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for; all of it must hold.

    Attributes:
        words: folded, in UTF-8, as `Leaf.text` is: each must occur.
        without: none of these may.
        senders: user names, "me" for one's own; any of them. Empty: anybody.
        titles: what conversations are called, folded, ``@name`` for private ones; any of them. Empty: everywhere.
        since: milliseconds since 1970; from then on.
        until: and before then.
        features: bits of `FEATURES`, all of them.
    """

    words: tuple[bytes, ...] = ()
    without: tuple[bytes, ...] = ()
    senders: frozenset[str] = frozenset()
    titles: frozenset[str] = frozenset()
    since: int = -_FOREVER
    until: int = _FOREVER
    features: int = 0


@dataclass(slots=True)
class _Draft:
    """A query while it is read."""

    now: float
    tz: tzinfo | None
    words: list[bytes] = field(default_factory=list)
    without: list[bytes] = field(default_factory=list)
    senders: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    since: int = -_FOREVER
    until: int = _FOREVER
    features: int = 0

    def word(self, text: str, *, absent: bool) -> None:
        if folded := fold(text).encode():
            (self.without if absent else self.words).append(folded)

    def add_from(self, value: str) -> None:
        name = fold_user(value)
        if name is None:
            raise BadQuery(f"{_quoted(value)} is nobody's name. Write from:NAME, or from:me.")
        self.senders.add(name)

    def add_in(self, value: str) -> None:
        self.titles.add(clean(value.removeprefix("#"), name=True).casefold())

    def add_has(self, value: str) -> None:
        feature = FEATURES.get(value.lower().removesuffix("s"))
        if feature is None:
            raise BadQuery(f"has:{_quoted(value)} is not known. Write has:link, has:code or has:mention.")
        self.features |= feature

    def add_before(self, value: str) -> None:
        self.until = min(self.until, self._start(value, 0))

    def add_after(self, value: str) -> None:
        self.since = max(self.since, self._start(value, 1))

    def add_on(self, value: str) -> None:
        self.since = max(self.since, self._start(value, 0))
        self.until = min(self.until, self._start(value, 1))

    def _start(self, value: str, later: int) -> int:
        """When the day `later` days after the one that is named begins, in milliseconds."""
        try:
            day = _day(value.lower(), datetime.fromtimestamp(self.now, self.tz).date()) + timedelta(days=later)
            # Without a time zone of its own a datetime is in the machine's, with that day's summer time.
            return round(datetime(day.year, day.month, day.day, tzinfo=self.tz).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            raise BadQuery(
                f"{_quoted(value)} is no day. Write 2026-11-01, today, yesterday, or 7d for a week ago."
            ) from None


_FILTERS: Final[Mapping[str, Callable[[_Draft, str], None]]] = {
    "from": _Draft.add_from,
    "in": _Draft.add_in,
    "has": _Draft.add_has,
    "before": _Draft.add_before,
    "after": _Draft.add_after,
    "on": _Draft.add_on,
}


def parse_query(text: str, *, now: float, tz: tzinfo | None = None) -> Query:
    """What a person typed: words and ``"phrases"``, ``-word`` for what may not occur, and filters.

    ``from:NAME`` (or ``me``), ``in:ROOM`` (or ``@NAME``), ``has:link`` (or ``code``, ``mention``), ``on:DAY``,
    ``before:DAY`` and ``after:DAY``, which leave that day itself out. What only looks like a filter is a word.

    Args:
        now: seconds since 1970.
        tz: in which days begin; the machine's own otherwise.

    Raises:
        BadQuery: there is nothing to search for, or a filter that is none.
    """
    draft = _Draft(now, tz)
    text = text.translate(_QUOTES)
    for minus, phrase, bare in _TOKEN.findall(text):
        if not bare:
            draft.word(phrase, absent=bool(minus))
            continue
        _take(draft, bare)
    if not (draft.words or draft.without or draft.senders or draft.titles or draft.features) and (
        (draft.since, draft.until) == (-_FOREVER, _FOREVER)
    ):
        raise BadQuery("Nothing to search for. Write words or filters: /search deploy from:bob in:ops after:7d.")
    if draft.since >= draft.until:
        raise BadQuery("No day is both after and before those. Write the earlier day behind after:.")
    return Query(
        tuple(sorted(set(draft.words), key=len, reverse=True)),  # the longest is likely the rarest
        tuple(sorted(set(draft.without))),
        frozenset(draft.senders),
        frozenset(draft.titles),
        draft.since,
        draft.until,
        draft.features,
    )


def _take(draft: _Draft, token: str) -> None:
    """A token that is no phrase: a filter or a word."""
    if token.startswith(('"', '-"')):
        raise BadQuery('A quote is not closed. Write "all of the phrase" between two quotes.')
    absent = token.startswith("-") and len(token) > 1
    key, colon, value = token.removeprefix("-" if absent else "").partition(":")
    add = _FILTERS.get(key.lower()) if colon else None
    if add is None:
        draft.word(token[1:] if absent else token, absent=absent)
    elif absent:
        raise BadQuery(f"Only words can be left out with a minus. Write {key.lower()}: without it.")
    elif not value:
        raise BadQuery(
            f"Nothing stands behind {key.lower()}:. Write it without a space, such as {_EXAMPLES[key.lower()]}."
        )
    else:
        add(draft, value)


_EXAMPLES: Final = {
    "from": "from:bob", "in": "in:ops", "has": "has:link",
    "before": "before:2026-11-01", "after": "after:7d", "on": "on:yesterday",
}  # fmt: skip


def _day(value: str, today: date) -> date:
    if value in ("today", "yesterday"):
        return today - timedelta(days=value == "yesterday")
    if ago := _DAYS_AGO.match(value):
        return today - timedelta(days=int(ago[1]))
    return datetime.strptime(value, "%Y-%m-%d").date()


def _quoted(value: str) -> str:
    return clean(value[:40], name=True)


# --- what is searched -------------------------------------------------------------------------------------------------


def fold(text: str) -> str:
    """A text as it is compared: as it is shown, without case, in one normal form, with single blanks for any space."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", clean(text).casefold())
        return " ".join(text.split())
    return " ".join(clean(text).lower().split())


@dataclass(frozen=True, slots=True)
class Line:
    """One message as it is searched; `text` as it is shown, "" where nothing of it is."""

    seq: int
    at: int
    sender: str
    text: str
    mentions: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """A page of messages, ready to be searched: one entry a message in each of these.

    Attributes:
        text: folded, in UTF-8 (so that one letter beyond ASCII does not double the page), a line a message.
        features: a byte of bits a message.
        newest: the latest time of any of them, milliseconds since 1970; `oldest` the earliest.
    """

    seqs: array[int]
    times: array[int]
    senders: tuple[str, ...]
    text: bytes
    features: bytes
    newest: int
    oldest: int


def leaf_of(lines: Sequence[Line]) -> Leaf:
    """A page as it is searched; at least one message, in the order of their numbers."""
    times = array("q", [line.at for line in lines])
    return Leaf(
        array("q", [line.seq for line in lines]),
        times,
        tuple(intern(line.sender) for line in lines),
        "\n".join([fold(line.text) for line in lines]).encode(),
        bytes(map(_features, lines)),
        max(times),
        min(times),
    )


def _features(line: Line) -> int:
    found = MENTION if line.mentions else 0
    if "://" in line.text and _LINK.search(line.text):
        found |= LINK
    if "`" in line.text and _CODE.search(line.text):
        found |= CODE
    return found


# --- the scan ---------------------------------------------------------------------------------------------------------

Place = tuple[int, int, str]
"""A message that was found: its time, its number, its conversation. They sort from oldest to newest."""


def scan(leaves: Iterable[tuple[str, Leaf]], query: Query, limit: int) -> tuple[Sequence[Place], bool]:
    """The newest messages that a query finds, newest first, and whether there are more than `limit`.

    Args:
        leaves: each with the conversation it is of; of those that may be looked at.
        query: `titles` are the caller's to heed.
        limit: at least 1.
    """
    found: list[Place] = []
    for conversation, leaf in sorted(leaves, key=lambda each: each[1].newest, reverse=True):
        if len(found) > limit and leaf.newest < found[limit][0]:
            break  # there are enough, and all that follow are older
        found += [(leaf.times[i], leaf.seqs[i], conversation) for i in _matches(leaf, query)]
        if len(found) > limit:
            found.sort(reverse=True)
            del found[limit + 1 :]
    found.sort(reverse=True)
    return found[:limit], len(found) > limit


def _matches(leaf: Leaf, query: Query) -> Iterable[int]:
    """The places in a page of what is found there: what costs least and rules out most comes first."""
    if leaf.newest < query.since or leaf.oldest >= query.until:
        return ()
    if not all(word in leaf.text for word in query.words):
        return ()
    if query.senders and query.senders.isdisjoint(leaf.senders):
        return ()
    lines = leaf.text.split(b"\n")
    places: Sequence[int] = range(len(lines))
    for word in query.words:
        places = [i for i in places if word in lines[i]]
    for word in query.without:
        places = [i for i in places if word not in lines[i]]
    if not query.words:
        places = [i for i in places if lines[i]]  # what shows nothing is never found
    if query.senders:
        places = [i for i in places if leaf.senders[i] in query.senders]
    if query.features:
        places = [i for i in places if leaf.features[i] & query.features == query.features]
    if leaf.oldest < query.since or leaf.newest >= query.until:
        places = [i for i in places if query.since <= leaf.times[i] < query.until]
    return places
