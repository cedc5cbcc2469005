"""What stands around the messages: the bar with the state of things, the lists of rooms and members. Pure.

All names come from others: each passes `display.clean` here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from prompt_toolkit.utils import get_cwidth

from securechat.client.display import Pieces, clean
from securechat.client.view import RoomState, Status
from securechat.client.views.switcher import Switcher

ROOMS_WIDTH: Final = 20  # columns of the list of rooms
MEMBERS_WIDTH: Final = 18
PENDING: Final = 3  # messages that wait, shown above the line being typed
_TYPING: Final = 3  # names of those who type; of more, their number
_CUT: Final = "…"


def cut(text: str, width: int) -> str:
    """A text in so many columns at most; what is left out shows as an ellipsis."""
    if get_cwidth(text) <= width:
        return text
    kept, taken = "", get_cwidth(_CUT)
    for character in text:
        taken += get_cwidth(character)
        if taken > width:
            break
        kept += character
    return kept + _CUT if width > 0 else ""


def padded(text: str, width: int) -> str:
    """A text in exactly so many columns."""
    shown = cut(text, width)
    return shown + " " * (width - get_cwidth(shown))


def _name(text: str) -> str:
    return clean(text, name=True)


def link(status: Status, now: float) -> str:
    """How the connection is, with the seconds to the next attempt.

    Args:
        now: seconds since 1970.
    """
    if status.link == "online" or status.retry_at <= now:
        return _name(status.link)
    return f"{_name(status.link)}, next try in {math.ceil(status.retry_at - now)} s"


def number(place: int) -> str:
    """By which key a place of the list is reached, as it is shown; "" beyond the tenth."""
    return f"{(place + 1) % 10}:" if place < 10 else ""


def unread(rooms: Sequence[RoomState]) -> list[str]:
    """The conversations with something unread, as ``2:ops(3)``; ``!`` stands where somebody is called."""
    return [
        f"{number(place)}{_name(room.where)}({room.unread}{'!' if room.mentions else ''})"
        for place, room in enumerate(rooms)
        if room.unread and (room.mentions or not room.muted)
    ]


def typing(names: Sequence[str]) -> str:
    """Who is typing, in a few words."""
    if not names:
        return ""
    if len(names) > _TYPING:
        return f"{len(names)} are typing"
    return f"{', '.join(map(_name, names))} {'is' if len(names) == 1 else 'are'} typing"


def bar(status: Status, width: int, now: float, *, first: str = "", below: int = 0) -> Pieces:
    """The one row with the state of things; what matters most stands on the left, and a narrow terminal cuts the rest.

    Args:
        first: what is to be said before all else.
        below: messages further down than what is seen.
    """
    here = next((room for room in status.rooms if room.active), None)
    where = ":".join(filter(None, [_name(status.user), _name(status.room)]))
    parts = [
        ("bar.warn", first),
        ("bar.warn", f"{below} below, Alt+End" if below else ""),
        ("bar", where),
        ("bar" if status.link == "online" else "bar.warn", link(status, now)),
        ("bar.warn", "sending stopped here" if here is not None and here.stopped else ""),
        ("bar", f"{status.waiting} waiting" if status.waiting else ""),
        ("bar", clean(status.work)),
        ("bar", " ".join(unread(status.rooms))),
        ("bar", typing(status.typing)),
    ]
    row: Pieces = [("bar", " ")]
    left = width - 1
    for kind, text in parts:
        if text and left > 0:
            shown = cut(text.replace("\n", " "), left)
            row += [(kind, shown), ("bar", "  ")]
            left -= get_cwidth(shown) + 2
    row.append(("bar", " " * max(0, left)))
    return row


def marks(room: RoomState) -> str:
    """What a row of the list says of a conversation: unread (with ``!`` where it calls), stopped, muted, draft."""
    said = [
        f"({room.unread}{'!' if room.mentions else ''})" if room.unread else "",
        "[!]" if room.stopped else "",
        "muted" if room.muted else "",
        "~" if room.draft else "",
    ]
    return " ".join(filter(None, said))


def room_rows(rooms: Sequence[RoomState], width: int, height: int) -> list[Pieces]:
    """The list of conversations: a window of it around the active one, which has a ``>``."""
    active = next((place for place, room in enumerate(rooms) if room.active), 0)
    first = max(0, min(active - height // 2, len(rooms) - height))
    shown = []
    for place, room in enumerate(rooms[first : first + height], first):
        said = marks(room)
        lead = f"{'>' if room.active else ' '}{number(place):>3}"
        space = width - len(lead) - (get_cwidth(said) + 1 if said else 0) - 1
        kind = "active" if room.active else "unread" if room.unread and not room.muted else "pane"
        text = f"{lead}{padded(_name(room.where), max(space, 4))}{' ' + said if said else ''}"
        shown.append([(kind, padded(text, width))])
    return shown


def member_rows(members: Sequence[tuple[str, str]], width: int, height: int) -> list[Pieces]:
    """The list of members; how many more there are where they do not fit."""
    shown = members if len(members) <= height else members[: height - 1]
    rows: list[Pieces] = []
    for name, said in shown:
        user, beside = _name(name), f" {_name(said)}" if said else ""
        rows.append([("", " "), ("sender", cut(user, width - 1)), ("", cut(beside, width - 1 - get_cwidth(user)))])
    if len(shown) < len(members):
        rows.append([("", cut(f" and {len(members) - len(shown)} more", width))])
    return rows


def title(status: Status, width: int, more: str = "") -> Pieces:
    """The row above the messages: where one is, what it is about, and what is being fetched."""
    here = next((room for room in status.rooms if room.active), None)
    topic = "" if here is None else " ".join(clean(here.topic).split())
    text = " - ".join(filter(None, [_name(status.room) or "SecureChat", topic]))
    beside = f"  {more}" if more else ""
    return [("bar", padded(f" {cut(text, width - 1 - len(beside))}{beside}", width))]


def switcher_rows(switcher: Switcher, width: int) -> list[Pieces]:
    """The conversations found, one a row; the chosen one has a ``>``."""
    rows: list[Pieces] = []
    for room, chosen in switcher.window():
        text = f"{'>' if chosen else ' '} {_name(room.where)} {marks(room)}"
        rows.append([("chosen" if chosen else "", padded(text.rstrip(), width))])
    return rows or [[("", padded("  none of that name", width))]]


def fate(state: str) -> str:
    """What is said of a message that is not stored yet."""
    return "not sent: /retry" if state == "held" else state


def pending_rows(pending: Sequence[tuple[str, str]], user: str, width: int) -> list[Pieces]:
    """What was typed and waits, the newest last, one row each; of more than `PENDING` how many there are besides."""
    more = len(pending) - PENDING
    rows: list[Pieces] = [[("time", cut(f"… {more} more wait", width))]] if more > 0 else []
    for text, state in pending[-PENDING:]:
        head, end = f"<{_name(user)}> ", f" ({fate(state)})"
        line = " ".join(clean(text).split())
        rows.append([("own", head), ("", cut(line, width - get_cwidth(head) - get_cwidth(end))), ("time", end)])
    return rows


def switcher_line(switcher: Switcher, width: int) -> Pieces:
    """The same in one row."""
    row: Pieces = []
    left = width
    for room, chosen in switcher.window():
        text = cut(f"{'>' if chosen else ' '}{_name(room.where)}{marks(room)} ", left)
        row.append(("chosen" if chosen else "", text))
        left -= get_cwidth(text)
    return row or [("", cut(" none of that name", width))]
