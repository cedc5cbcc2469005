"""Items as the rows of a conversation: dates, times, what is new, and comings and goings folded. Pure.

Both views of a terminal use it. Nothing here knows how wide that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Final

from securechat.client.display import Pieces, clean, rows
from securechat.client.view import Item, Membership, Message, Notice

FOLDED: Final = 4  # comings and goings in a row from which on one line says them
NAMED: Final = 6  # people whom such a line names
_UNKNOWN: Final = "??:??"
_NO_TIME: Final = "     "
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a conversation, not wrapped.

    Attributes:
        pieces: kinds and cleaned texts, as `display.pieces` has them; besides: "date" and "unread".
        seq: the number of the message it belongs to; 0: none.
        continued: it goes on with the item of the row before it.
    """

    pieces: Pieces
    seq: int = 0
    continued: bool = False


def laid_out(
    items: Sequence[Item], *, where: str = "", marker: int = 0, times: bool = True, tz: tzinfo | None = None
) -> list[Row]:
    """A conversation as rows: a line for each new day, one before what is new, a column with the time.

    Args:
        items: oldest first.
        where: the conversation that is shown: what is in it does not name it again.
        marker: the number of the last message seen before the conversation was opened; 0: nothing there is new.
        times: whether there is a column HH:MM.
        tz: for tests; the machine's own time zone otherwise.
    """
    found: list[Row] = []
    today: date | None = None
    left = _new(items, marker)
    for item in folded(items):
        at = _moment(item, tz)
        if at is not None and at.date() != today:
            today = at.date()
            found.append(date_row(today))
        seq = getattr(item, "seq", 0)
        if left and seq > marker:
            found.append(unread_row(left))
            left = 0
        found += _rows(item, where, _column(item, at) if times else "", seq, tz)
    return found


def _new(items: Iterable[Item], marker: int) -> int:
    """How many messages of others are behind the marker."""
    return sum(isinstance(item, Message) and item.seq > marker and not item.own for item in items) if marker else 0


def _rows(item: Item, where: str, column: str, seq: int, tz: tzinfo | None) -> Iterator[Row]:
    here = ("where", f"[{clean(where, name=True)}] ")
    for place, row in enumerate(rows(item, tz=tz)):
        shown = [piece for piece in row if piece[0] != "time" or not column]
        if where and not place and here in shown:
            shown.remove(here)
        if column:
            shown.insert(0, ("time", f"{_NO_TIME if place else column} "))
        yield Row(shown, seq, continued=place > 0)


def _moment(item: Item, tz: tzinfo | None) -> datetime | None:
    """When a message was stored; None where nobody says so, or no calendar has it."""
    ms = (item.ts or item.at or 0) if isinstance(item, Message) else 0
    try:
        return datetime.fromtimestamp(ms / 1000, tz) if ms else None
    except (OverflowError, OSError, ValueError):
        return None


def _column(item: Item, at: datetime | None) -> str:
    if at is not None:
        return f"{at:%H:%M}"
    return _UNKNOWN if isinstance(item, Message) and (item.ts or item.at) else _NO_TIME


def date_row(day: date) -> Row:
    """The line before the first message of a day. Its words are the same in every locale, as all others are."""
    return Row([("date", f"--- {_DAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year:04} ---")])


def unread_row(count: int) -> Row:
    """The line before what its user has not seen: so many messages of others."""
    return Row([("unread", f"--- {count} new ---")])


def folded(items: Iterable[Item]) -> Iterator[Item]:
    """Items with `FOLDED` or more comings and goings in a row told as one.

    Whoever joined and left, or the other way round, in one such run is told apart: nothing was said meanwhile, but
    that they were there is no secret. What else happens in a room (somebody made an admin, put out) stands alone.
    """
    run: list[Membership] = []
    for item in items:
        if isinstance(item, Membership) and item.what in _TELLS and (not run or run[0].room == item.room):
            run.append(item)
            continue
        yield from _told(run)
        run = []
        if isinstance(item, Membership) and item.what in _TELLS:
            run.append(item)
        else:
            yield item
    yield from _told(run)


# What happens, and its opposite.
_TELLS: Final = {"joined": "left", "left": "joined", "online": "offline", "offline": "online"}
_WORDS: Final = {
    "joined": "joined", "left": "left", "came": "came and went", "again": "left and came back",
    "online": "came online", "offline": "went offline", "briefly": "online and gone", "back": "gone and online again",
}  # fmt: skip
_BOTH: Final = {"joined": "came", "left": "again", "online": "briefly", "offline": "back"}


def _told(run: Sequence[Membership]) -> Iterable[Item]:
    """A run as it is told: as it came, or in one line."""
    if len(run) < FOLDED:
        return run
    first: dict[tuple[str, bool], str] = {}
    last: dict[tuple[str, bool], str] = {}
    for item in run:
        about = (item.user, item.what in ("joined", "left"))
        first.setdefault(about, item.what)
        last[about] = item.what
    told: dict[str, list[str]] = {what: [] for what in _WORDS}
    for about, what in first.items():
        told[what if last[about] == what else _BOTH[what]].append(about[0])
    counts = ", ".join(f"{len(who)} {_WORDS[what]}" for what, who in told.items() if who)
    people = list(dict.fromkeys(user for user, _ in first))
    names = ", ".join(clean(user, name=True) for user in people[:NAMED])
    more = f" and {len(people) - NAMED} more" if len(people) > NAMED else ""
    return [Notice(f"{counts}: {names}{more}", run[0].room)]
