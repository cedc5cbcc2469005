"""Lines between messages: days, what is new, and comings and goings in one. Pure; both views of a terminal use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Final

from securechat.client.display import Pieces, clean
from securechat.client.view import Item, Membership, Notice

FOLDED: Final = 4  # comings and goings in a row from which on one line says them
NAMED: Final = 6  # people whom such a line names
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def date_row(day: date) -> Pieces:
    """The line before the first message of a day. Its words are the same in every locale, as all others are."""
    return [("date", f"--- {_DAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year:04} ---")]


def unread_row(count: int) -> Pieces:
    """The line before what its user has not seen: so many messages of others."""
    return [("unread", f"--- {count} new ---")]


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
