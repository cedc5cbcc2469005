"""Holds what a server promised against what is there: the history checker of the crash tests. Pure.

The promise: what was acknowledged is in the history once, at the place that was told; `seq` has no gap; every reader
saw exactly the history; and what was sent after another message's acknowledgement stands behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf
from typing import Final

LOST: Final = "lost"  # acknowledged, and not in the table
UNANSWERED: Final = "unanswered"  # sent, and never acknowledged, though there was time
DUPLICATED: Final = "duplicated"  # in the table more than once
MOVED: Final = "moved"  # in the table at another place than acknowledged
TOLD_TWICE: Final = "told twice"  # two acknowledgements of one message name two places
FOREIGN: Final = "foreign"  # in the table, and nobody sent it, or another sent it
GAP: Final = "gap"  # the seqs of a room are not 1, 2, 3, …
READER: Final = "reader"  # a reader saw something else than the table
ALTERED: Final = "altered"  # a reader got another body than was sent
ORDER: Final = "order"  # sent after another's acknowledgement, and stands before it
TOOTHLESS: Final = "toothless"  # no resend was ever answered as one: the run tested nothing


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the table."""

    room: str
    seq: int
    sender: str
    mid: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A message as a reader got it."""

    seq: int
    sender: str
    mid: str
    body: str


@dataclass(slots=True)
class Sent:
    """A message as its sender knows it.

    Attributes:
        at: when its first byte left, seconds of one clock for all.
        acked: when its first acknowledgement came.
        places: (room, seq) of every acknowledgement.
        dups: acknowledgements that said `dup`.
    """

    room: str
    sender: str
    body: str
    at: float
    acked: float = inf
    places: list[tuple[str, int]] = field(default_factory=list)
    dups: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    kind: str
    what: str


Histories = Mapping[str, Mapping[str, Sequence[Seen]]]
"""By reader and room, in the order of arrival."""


def check(
    sent: Mapping[str, Sent], table: Iterable[Row], readers: Histories, *, crashed: bool = True
) -> list[Violation]:
    """All violations; none is what one hopes for.

    Args:
        sent: by mid.
        table: in any order.
        crashed: whether there were crashes, so that some acknowledgement must have said `dup`.
    """
    rooms: dict[str, list[Row]] = {}
    for row in sorted(table, key=lambda row: (row.room, row.seq)):
        rooms.setdefault(row.room, []).append(row)
    found = [*_acknowledgements(sent, rooms), *_rows(sent, rooms), *_order(sent, rooms)]
    for reader, histories in sorted(readers.items()):
        for room in sorted({*rooms, *histories}):
            found += _reader(f"{reader} in {room}", histories.get(room, ()), rooms.get(room, ()), sent)
    if crashed and not any(message.dups for message in sent.values()):
        found.append(Violation(TOOTHLESS, "no resend was answered as dup"))
    return found


def kinds(violations: Iterable[Violation]) -> Counter[str]:
    """How many of each kind."""
    return Counter(violation.kind for violation in violations)


def _acknowledgements(sent: Mapping[str, Sent], rooms: Mapping[str, Sequence[Row]]) -> Iterable[Violation]:
    places: dict[str, list[tuple[str, int]]] = {}
    for room, rows in rooms.items():
        for row in rows:
            places.setdefault(row.mid, []).append((room, row.seq))
    for mid, message in sent.items():
        stored = places.get(mid, [])
        if len(set(message.places)) > 1:
            yield Violation(TOLD_TWICE, f"{mid}: {sorted(set(message.places))}")
        if len(stored) > 1:
            yield Violation(DUPLICATED, f"{mid}: {stored}")
        if not message.places:
            yield Violation(UNANSWERED, mid)
        elif not stored:
            yield Violation(LOST, f"{mid}: acknowledged at {message.places[0]}")
        elif message.places[-1] not in stored:
            yield Violation(MOVED, f"{mid}: acknowledged at {message.places[-1]}, stored at {stored}")


def _rows(sent: Mapping[str, Sent], rooms: Mapping[str, Sequence[Row]]) -> Iterable[Violation]:
    for room, rows in rooms.items():
        for expected, row in enumerate(rows, start=1):
            if row.seq != expected:
                yield Violation(GAP, f"{room}: {row.seq} stands where {expected} should")
                break
        for row in rows:
            message = sent.get(row.mid)
            if message is None or (message.room, message.sender) != (room, row.sender):
                yield Violation(FOREIGN, f"{room} {row.seq}: {row.mid} of {row.sender}")


def _order(sent: Mapping[str, Sent], rooms: Mapping[str, Sequence[Row]]) -> Iterable[Violation]:
    """Going back through a room: nothing may have been sent after the acknowledgement of something behind it."""
    for room, rows in rooms.items():
        earliest, whose = inf, ""
        for row in reversed(rows):
            message = sent.get(row.mid)
            if message is None:
                continue
            if message.at > earliest:
                yield Violation(ORDER, f"{room}: {row.mid} was sent after {whose} was acknowledged, and stands before")
            if message.acked < earliest:
                earliest, whose = message.acked, row.mid


def _reader(where: str, history: Sequence[Seen], rows: Sequence[Row], sent: Mapping[str, Sent]) -> Iterable[Violation]:
    for number, (seen, row) in enumerate(zip_longest(history, rows), start=1):
        saw = None if seen is None else (seen.seq, seen.sender, seen.mid)
        stands = None if row is None else (row.seq, row.sender, row.mid)
        if saw != stands:
            yield Violation(READER, f"{where}: message {number} was {saw}, the table has {stands}")
            return  # what follows is out of step, and says nothing new
        if seen is not None and seen.mid in sent and seen.body != sent[seen.mid].body:
            yield Violation(ALTERED, f"{where}: the body of {seen.mid}")
