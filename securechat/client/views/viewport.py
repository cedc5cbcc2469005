"""The window on a conversation: which rows of how many messages are seen. Nothing that is not seen is wrapped. Pure.

Where it stands is said by the message whose rows are at its lower edge, so what comes above or below moves nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo
from typing import Any, Final

from securechat.client.display import Pieces, rows, stamp
from securechat.client.view import Answer, Failure, Item, Membership, Message, Unshown
from securechat.client.views.bars import fate
from securechat.client.views.lines import date_row, unread_row
from securechat.client.views.wrap import wrapped

CACHED: Final = 4000  # wrapped items that are remembered: some screens up and down
_LOOK_BACK: Final = 50  # items without a time in a row, across which a change of the day is still seen


@dataclass(frozen=True, slots=True)
class Local:
    """A line of the view's own: an answer, a notice.

    Attributes:
        number: counts them.
        after: it stands behind the message of this number.
        at: when it was shown, milliseconds.
    """

    number: int
    after: int
    at: int
    item: Item


Place = tuple[str, int]
"""What an item is found again by: "m" and a message's number, "l" and a local line's, "p" and how many wait before."""


class Viewport:
    """Rows of one conversation.

    Args:
        tz: for tests.

    Attributes:
        wrapped: how many items were laid out so far, for tests.
        times, numbers: whether a message's time and number stand before it.
    """

    def __init__(self, tz: tzinfo | None = None) -> None:
        self._tz = tz
        self._talk: Sequence[Item] = ()
        self._locals: Sequence[Local] = ()
        self._places: list[int] = []  # of the local lines, among all
        self._pending: Sequence[tuple[str, str]] = ()
        self._marker = self._known = 0
        self._user = ""
        self._bottom: tuple[Place, int] | None = None  # and how many of its rows are seen; None: follows the end
        self._cache: dict[Hashable, list[Pieces]] = {}
        self.wrapped = 0
        self.times = True
        self.numbers = False

    def load(
        self,
        talk: Sequence[Item],
        local: Sequence[Local] = (),
        pending: Sequence[tuple[str, str]] = (),
        *,
        marker: int = 0,
        known: int = 0,
        user: str = "",
    ) -> None:
        """What there is now.

        Args:
            talk: messages by number, ascending; only those that are seen are asked for.
            local: in the order of their numbers.
            pending: texts that are not stored yet, and why.
            marker: the number of the last message that had been seen; 0: no line is drawn.
            known: the newest number when the conversation was opened: what came later was not missed; 0: all counts.
            user: who writes the pending ones.
        """
        self._talk, self._locals, self._pending = talk, local, pending
        self._marker, self._known, self._user = marker, known, user
        before = [bisect_right(talk, each.after, key=_seq) for each in local]
        self._places = [place + index for index, place in enumerate(sorted(before))]

    def clear(self) -> None:
        """Another conversation is seen from now on, at its end."""
        self._bottom = None
        self.load(())

    def __len__(self) -> int:
        return len(self._talk) + len(self._locals) + len(self._pending)

    @property
    def following(self) -> bool:
        """Whether it shows the end, whatever comes."""
        return self._bottom is None

    @property
    def below(self) -> int:
        """How many items lie further down than what is seen."""
        return 0 if self._bottom is None else max(0, len(self) - 1 - self._index(self._bottom[0]))

    # --- moving -----------------------------------------------------------------------------------------------------

    def up(self, count: int, width: int, height: int) -> bool:
        """Moves so many rows up; whether the first row of all is seen now."""
        above = self._take(self._upward(width), height + count)
        shift = min(count, max(0, len(above) - height))
        if shift and shift < len(above):
            index, row, _ = above[shift]
            self._bottom = self._place(index), row + 1
        return len(above) < height + count

    def down(self, count: int, width: int) -> None:
        """Moves so many rows down; at the end it follows again."""
        if self._bottom is None:
            return
        index, seen = self._start(width)
        below = self._take(self._downward(index, seen, width), count + 1)
        if len(below) <= count:
            self._bottom = None
            return
        index, row, _ = below[count - 1]
        self._bottom = self._place(index), row + 1

    def to_end(self) -> None:
        """Follows the end."""
        self._bottom = None

    def to_top(self, width: int, height: int) -> None:
        """Shows the first row on top."""
        self._show_from(0, width, height)

    def to_unread(self, width: int, height: int) -> bool:
        """Shows the first message that had not been seen on top; False where there is none."""
        message = bisect_right(self._talk, self._marker, key=_seq)
        if not self._marker or message >= len(self._talk):
            return False
        self._show_from(self._merged(message), width, height)
        return True

    def _show_from(self, index: int, width: int, height: int) -> None:
        rows_seen = self._take(self._downward(index, 0, width), height + 1)
        if len(rows_seen) <= height:
            self._bottom = None
            return
        last, row, _ = rows_seen[height - 1]
        self._bottom = self._place(last), row + 1

    # --- rows -------------------------------------------------------------------------------------------------------

    def rows(self, width: int, height: int) -> list[Pieces]:
        """What is seen, from the top, `height` rows at most."""
        if self._bottom is not None:
            above = self._take(self._upward(width), height)
            if len(above) < height:  # so near the beginning that there is room below
                self._show_from(0, width, height)
        return [row for _, _, row in reversed(self._take(self._upward(width), height))]

    @staticmethod
    def _take(source: Iterator[tuple[int, int, Pieces]], count: int) -> list[tuple[int, int, Pieces]]:
        return [each for _, each in zip(range(count), source, strict=False)]  # in this order: not one too many is made

    def _upward(self, width: int) -> Iterator[tuple[int, int, Pieces]]:
        """From the lower edge up: an item's index, the number of the row in it, the row."""
        index, seen = self._start(width)
        while index >= 0:
            block = self._block(index, width)
            for row in reversed(range(min(seen, len(block)))):
                yield index, row, block[row]
            index, seen = index - 1, 1 << 30

    def _downward(self, index: int, row: int, width: int) -> Iterator[tuple[int, int, Pieces]]:
        """The same from a row of an item down to the end."""
        while index < len(self):
            block = self._block(index, width)
            for each in range(row, len(block)):
                yield index, each, block[each]
            index, row = index + 1, 0

    def _start(self, width: int) -> tuple[int, int]:
        """The item at the lower edge, and how many of its rows are seen."""
        if self._bottom is None:
            return len(self) - 1, 1 << 30
        place, seen = self._bottom
        index = self._index(place)
        return index, max(1, min(seen, len(self._block(index, width)))) if 0 <= index < len(self) else seen

    # --- items by their index ---------------------------------------------------------------------------------------

    def _merged(self, message: int) -> int:
        """The index among all of the message of that index."""
        low, high = 0, len(self._places)
        while low < high:  # local lines before it: those whose place, less those before them, is not behind it
            middle = (low + high) // 2
            if self._places[middle] - middle <= message:
                low = middle + 1
            else:
                high = middle
        return message + low

    def _at(self, index: int) -> Item | Local | tuple[str, str]:
        if index >= len(self._talk) + len(self._locals):
            return self._pending[index - len(self._talk) - len(self._locals)]
        before = bisect_left(self._places, index)
        if before < len(self._places) and self._places[before] == index:
            return self._locals[before]
        return self._talk[index - before]

    def _place(self, index: int) -> Place:
        found = self._at(index)
        if isinstance(found, Local):
            return "l", found.number
        if isinstance(found, tuple):
            return "p", index - len(self._talk) - len(self._locals)
        return "m", _seq(found)

    def _index(self, place: Place) -> int:
        """Where an item is now; where it is gone, the one before it."""
        kind, name = place
        if kind == "p":
            return min(len(self._talk) + len(self._locals) + name, len(self) - 1)
        if kind == "l":
            numbers = bisect_left(self._locals, name, key=_number)
            if numbers < len(self._locals):
                return self._places[numbers]
            return len(self) - 1
        message = bisect_left(self._talk, name, key=_seq)
        return self._merged(min(message, len(self._talk) - 1)) if self._talk else len(self) - 1

    # --- how an item looks ------------------------------------------------------------------------------------------

    def _block(self, index: int, width: int) -> list[Pieces]:
        """The rows of an item, with the lines that stand before it."""
        found = self._at(index)
        day, new = self._day_before(index, found), self._new_before(found)
        key = (_identity(found), day, new, width, self.times, self.numbers)
        block = self._cache.get(key)
        if block is None:
            self.wrapped += 1
            if len(self._cache) >= CACHED:
                self._cache.clear()
            lead = [day_row(day)] if day else []
            lead += [unread_row(new)] if new else []
            block = self._cache[key] = [*lead, *self._told(found, width)]
        return block

    def _told(self, found: Item | Local | tuple[str, str], width: int) -> list[Pieces]:
        if isinstance(found, tuple):
            text, state = found
            item = Message("", self._user, f"{text} ({fate(state)})", own=True)
            return self._beside("", item, width)
        if isinstance(found, Local):
            return self._beside(clock_of(when(found), self._tz), found.item, width)
        return self._beside(clock_of(when(found), self._tz), alone(found), width)

    def _beside(self, clock: str, item: Item, width: int) -> list[Pieces]:
        """An item behind its time and number: nobody's text reaches the columns that those stand in."""
        called = isinstance(item, Message) and item.mention
        seq = f"#{_seq(item)} " if self.numbers and isinstance(item, Message) and _seq(item) else ""
        gutter = f"{seq}{clock:<5}{'!' if called else ' '} " if self.times else seq + ("! " if called else "")
        column = len(gutter)
        told: list[Pieces] = []
        for row in rows(item, tz=self._tz):
            for line in wrapped(row, width - column):
                told.append([("time", " " * column if told else gutter), *line] if column else line)
        return told

    def _day_before(self, index: int, found: Item | Local | tuple[str, str]) -> date | None:
        """The day that begins with an item, or None."""
        at = when(found)
        if not at:
            return None
        day = day_of(at, self._tz)
        for before in range(index - 1, max(-1, index - 1 - _LOOK_BACK), -1):
            earlier = when(self._at(before))
            if earlier:
                return day if day_of(earlier, self._tz) != day else None
        return day

    def _new_before(self, found: Item | Local | tuple[str, str]) -> int:
        """How many messages had not been seen, where those begin with it; else 0."""
        if not self._marker or isinstance(found, (Local, tuple)) or _seq(found) <= self._marker:
            return 0
        message = bisect_left(self._talk, _seq(found), key=_seq)
        if message and _seq(self._talk[message - 1]) > self._marker:
            return 0
        missed = bisect_right(self._talk, self._known, key=_seq) if self._known else len(self._talk)
        return max(0, missed - message)


def _seq(item: Any) -> int:
    return getattr(item, "seq", 0)


def _number(local: Local) -> int:
    return local.number


def when(found: object) -> int:
    """When an item was, milliseconds; 0 where it has no time: an answer is no part of the talk."""
    if isinstance(found, Local):
        return 0 if isinstance(found.item, (Answer, Message, Unshown)) else found.at
    return found.ts or found.at or 0 if isinstance(found, Message) else 0


def _identity(found: Item | Local | tuple[str, str]) -> Hashable:
    """What changes whenever an item looks different."""
    if isinstance(found, Local):
        return "l", found.number
    return found, _seq(found), when(found)


def without_place(item: Item) -> Item:
    """An item without where it was, which is said already."""
    if isinstance(item, Membership):
        return replace(item, room="")
    return item if isinstance(item, (Answer, Failure)) else replace(item, where="")


def alone(item: Item) -> Item:
    """The same without its time, which stands beside it."""
    return without_place(replace(item, at=None) if isinstance(item, Message) else item)


def clock_of(at: float, tz: tzinfo | None) -> str:
    """``19:05``; at in milliseconds, 0 for none."""
    return stamp(int(at), tz)[-5:] if at else ""


def day_of(at: float, tz: tzinfo | None) -> date | None:
    """The day; at in milliseconds. None where no calendar has it."""
    try:
        return datetime.fromtimestamp(at / 1000, tz).date()
    except (OverflowError, OSError, ValueError):
        return None


def day_row(day: date) -> Pieces:
    """The line before the first message of a day."""
    return date_row(day)
