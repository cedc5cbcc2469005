"""The keys of the terminal views as one table: bindings, /help keys and the documents all come from it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

WRITING: Final = "Writing"
ROOMS: Final = "Going to another conversation"
READING: Final = "Reading"
SCREEN: Final = "Screen and end"
GROUPS: Final = (WRITING, ROOMS, READING, SCREEN)

BOTH: Final = ("inline", "full")
FULL: Final = ("full",)


@dataclass(frozen=True, slots=True)
class Key:
    """One row: keys that do the same.

    Attributes:
        shown: the keys as people call them.
        act: what they do: a view's method of that name behind ``act_``; "" where the line editor does it by itself.
        about: the same in words.
        group: the heading it stands under.
        keys: as the toolkit calls them; several with blanks between are pressed one after the other.
        views: which of the two have it.
        asked: whether it does the same while a question is open; else it then does nothing.
    """

    shown: str
    act: str
    about: str
    group: str
    keys: tuple[str, ...] = ()
    views: tuple[str, ...] = BOTH
    asked: bool = False


KEYS: Final[tuple[Key, ...]] = (
    Key("Enter", "enter", "send the line, or answer the question", WRITING, ("enter",), asked=True),
    Key("Alt+Enter", "newline", "a new line in the message", WRITING, ("escape enter",)),
    Key("Tab", "complete", "complete a command, name or room; again: the next one", WRITING, ("tab",), asked=True),
    Key("Shift+Tab", "complete_back", "the completion before", WRITING, ("s-tab",), asked=True),
    Key("Up", "older_line", "what you typed before", WRITING, ("up",), asked=True),
    Key("Down", "newer_line", "what you typed after that", WRITING, ("down",), asked=True),
    Key("Ctrl+R", "search_back", "search what you typed, backwards", WRITING, ("c-r",)),
    Key("Ctrl+S", "search_on", "search it forwards", WRITING, ("c-s",)),
    Key("Ctrl+O, Ctrl+X Ctrl+E", "edit", "write the message in $VISUAL or $EDITOR", WRITING, ("c-o", "c-x c-e")),
    Key("Ctrl+A, Ctrl+E", "", "to the beginning, to the end of the line", WRITING),
    Key("Alt+B, Alt+F", "", "a word back, a word forward", WRITING),
    Key("Ctrl+W, Alt+D", "", "delete the word before, after the cursor", WRITING),
    Key("Ctrl+U, Ctrl+K", "", "delete to the beginning, to the end of the line", WRITING),
    Key("Ctrl+Y", "", "put back what was deleted", WRITING),
    Key("Ctrl+T", "", "swap two characters", WRITING),
    Key("Ctrl+_", "", "undo", WRITING),
    Key("Alt+1 … Alt+9, Alt+0", "numbered", "to the conversation of that number in the list", ROOMS,
        tuple(f"escape {number}" for number in range(10))),
    Key("Ctrl+N, Alt+Right, Alt+Down", "next", "to the next one", ROOMS, ("c-n", "escape right", "escape down")),
    Key("Ctrl+P, Alt+Left, Alt+Up", "previous", "to the one before", ROOMS, ("c-p", "escape left", "escape up")),
    Key("Alt+A", "active", "to the one that most wants to be read", ROOMS, ("escape a",)),
    Key("Alt+<, Alt+>", "visited", "back and forward among those you went to", ROOMS, ("escape <", "escape >")),
    Key("Alt+/", "last", "to the one you were in last; again: back", ROOMS, ("escape /",)),
    Key("Alt+K", "switch", "choose by a few letters; Tab and the arrows choose among those found", ROOMS,
        ("escape k",), asked=True),
    Key("PgUp, PgDn", "page", "scroll; at the top older messages are fetched", READING, ("pageup", "pagedown"), FULL),
    Key("Alt+Home, Alt+End", "edge", "to the oldest, to the newest", READING, ("escape home", "escape end"), FULL),
    Key("Alt+U", "unread", "to the first that was unread when you came", READING, ("escape u",), FULL),
    Key("Alt+N", "members", "show or hide the members", SCREEN, ("escape n",), FULL),
    Key("Alt+Shift+B", "bare", "show or hide what stands beside the messages, so that the mouse copies whole lines",
        SCREEN, ("escape B",), FULL),
    Key("Ctrl+L", "redraw", "draw the screen anew", SCREEN, ("c-l",), asked=True),
    Key("Ctrl+C", "interrupt", "clear the line; twice: leave", SCREEN, ("c-c",), asked=True),
    Key("Ctrl+D", "end_of_input", "on an empty line: leave", SCREEN, ("c-d",), asked=True),
    Key("Ctrl+Z", "suspend", "put the client to sleep; fg wakes it", SCREEN, ("c-z",), asked=True),
)  # fmt: skip


def of_view(view: str) -> Iterator[Key]:
    """The rows that one of the views has."""
    return (key for key in KEYS if view in key.views)


def help_lines() -> list[str]:
    """The text of /help keys, at most 80 columns wide."""
    lines = []
    for group in GROUPS:
        lines.append(f"{group}:")
        for key in KEYS:
            if key.group == group:
                about = key.about if key.views == BOTH else f"(full view) {key.about}"
                head = f"  {key.shown:<27} "
                lines += _filled(head, about)
    return lines


def _filled(head: str, text: str, width: int = 80) -> list[str]:
    lines = [head.rstrip()]
    room = head
    for word in text.split():
        if len(room) + len(word) > width:
            room = " " * len(head)
            lines.append("")
        room += f"{word} "
        lines[-1] = room.rstrip()
    return lines
