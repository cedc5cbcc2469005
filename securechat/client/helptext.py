"""What /help says: grouped, from the table of commands, never wider than 80 columns. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from securechat.client.commands import COMMANDS, GROUPS, Command, find, unknown
from securechat.client.views import keymap

WIDTH: Final = 80  # columns
FIRST: Final = ("register", "join", "pm", "history", "exit")  # to begin with
_USAGE: Final = 32  # columns for a command with its arguments, where what it does stands behind them


def help_lines(topic: str = "") -> Sequence[str]:
    """The text of /help, or of /help TOPIC: a group, ``keys``, ``all``, or a command.

    Where a group and a command have one name it is the group; a slash before it says that the command is meant.
    """
    if not topic:
        return list(_overview())
    word = topic.lower()
    if word == "all":
        return list(_everything())
    if word == "keys":
        return keymap.help_lines()
    if word in GROUPS:
        return list(_group(word))
    return _command(topic)


def _overview() -> Iterator[str]:
    yield "To begin with:"
    for name in FIRST:
        command = find(name)
        assert command is not None
        yield _line(command)
    yield "All commands, by groups:"
    for word, heading in GROUPS.items():
        names = " ".join(f"/{command.name}" for command in COMMANDS if command.group == heading)
        yield from textwrap.wrap(
            names, WIDTH, initial_indent=f"  {word:<9}", subsequent_indent=" " * 11, break_on_hyphens=False
        )
    yield "A line without / goes to the active room; //x sends a literal /x."
    yield "/help GROUP says what these do, /help NAME more of one, /help keys the keys."


def _everything() -> Iterator[str]:
    for word in GROUPS:
        yield from _list(word)
    yield "A line without / goes to the active room; //x sends a literal /x."
    yield "/help NAME says more."


def _group(word: str) -> Iterator[str]:
    yield from _list(word)
    if find(word) is None:
        yield "/help NAME says more."
    else:
        yield f"/help NAME says more; /help /{word} is the command of that name."


def _list(word: str) -> Iterator[str]:
    yield f"{GROUPS[word]}:"
    yield from (_line(command) for command in COMMANDS if command.group == GROUPS[word])


def _line(command: Command) -> str:
    return f"  {_typed(command):<{_USAGE}} {command.summary}"


def _typed(command: Command) -> str:
    return f"/{command.name} {command.usage}".rstrip()


def _command(topic: str) -> Sequence[str]:
    command = find(topic)
    if command is None:
        return [unknown(topic.removeprefix("/"))]
    lines = [_typed(command), f"  {command.summary}", *(f"  {detail}" for detail in command.details)]
    lines += [f"  as in: {example}" for example in command.examples]
    if command.aliases:
        lines.append("  also: " + " ".join(f"/{alias}" for alias in command.aliases))
    return lines
