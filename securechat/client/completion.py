"""What a word being typed may become: commands, their arguments, names, emoji."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from securechat.client import emoji
from securechat.client.commands import BY_NAME, COMMANDS, GROUPS, find
from securechat.client.preferences import PREFERENCES
from securechat.client.search import FEATURES

FILTERS: Final = ("from", "in", "before", "after", "on", "has")  # of /search


def completions(
    text: str, rooms: Sequence[str], users: Sequence[str], *, own: str = "", aliases: Collection[str] = ()
) -> tuple[int, Sequence[str]]:
    """What the word at the end of a typed text may become.

    Args:
        text: what is typed up to the cursor.
        rooms: names that may be meant, the likeliest first; they are offered in this order.
        users: the same for people; put who spoke last first.
        own: the newest message of one's own, for /edit.
        aliases: commands of its user's own.

    Returns:
        How many characters of `text` a candidate replaces, and the candidates. There are none for a password,
        nor for a file: this module looks at no disk.
    """
    if not text.startswith("/") or text.startswith("//"):
        return _mention(text, users, address=True)
    word = text[_last_blank(text) + 1 :]
    place = len(text.split()) - (1 if word else 0)
    if place == 0:
        return len(word), _commands(word, aliases)
    first, *arguments = text.split()
    command = find(first)
    if command is None or place - 1 in command.secrets:
        return len(word), []
    kind = command.kinds[min(place, len(command.kinds)) - 1] if command.kinds else ""
    if kind == "text":
        return _mention(text, users, address=False)
    if kind == "own":
        return len(word), [own] if place == 1 and own and own.startswith(word) else []
    if kind == "value":
        return len(word), _beginning(word, _values(arguments[0]), "")
    more = place <= len(command.kinds) or kind in ("query", "emoji")  # which take the rest of the line
    return len(word), _argument(kind, word, rooms, users) if more else []


def _last_blank(text: str) -> int:
    return max((place for place, c in enumerate(text) if c.isspace()), default=-1)


def _commands(word: str, own: Collection[str] = ()) -> Sequence[str]:
    """Names that begin as `word` does; those that are only other names of a command where nothing else does."""
    start = word.removeprefix("/").lower()
    names = sorted(name for name in (*(c.name for c in COMMANDS), *own) if name.startswith(start))
    return [f"/{n}" for n in names or sorted(n for n in BY_NAME if n.startswith(start))]


def _mention(text: str, users: Sequence[str], *, address: bool) -> tuple[int, Sequence[str]]:
    """Names inside a message, and those of emoji behind a colon; one that opens it is addressed, ``bob:``."""
    word = text[_last_blank(text) + 1 :]
    if word.startswith(":"):
        return len(word), emoji.complete(word)
    if not word.removeprefix("@"):
        return len(word), []
    end = ":" if address and word == text else ""
    return len(word), [name + end for name in _beginning(word, users, "@")]


def _argument(kind: str, word: str, rooms: Sequence[str], users: Sequence[str]) -> Sequence[str]:
    if kind.startswith("="):
        return [choice for choice in kind[1:].split("|") if choice.startswith(word.lower())]
    if kind == "topic":
        if word.startswith("/"):
            return _commands(word)
        topics = [topic for topic in (*GROUPS, "all") if topic.startswith(word.lower())]
        return list(dict.fromkeys([*topics, *(name.removeprefix("/") for name in _commands(word))]))
    if kind == "emoji":
        return emoji.complete(word)
    if kind == "setting":
        return _beginning(word, [row.name for row in PREFERENCES], "")
    if kind == "query":
        return _filter(word, rooms, users)
    if kind == "user" or (kind == "room" and word.startswith("@")):
        return _beginning(word, users, "@")
    return _beginning(word, rooms, "#") if kind == "room" else []


def _values(name: str) -> Sequence[str]:
    """What a setting may be."""
    return next((row.choices for row in PREFERENCES if row.name == name.lower()), ())


def _filter(word: str, rooms: Sequence[str], users: Sequence[str]) -> Sequence[str]:
    """Filters of a search, and what may stand behind their colon."""
    head, colon, rest = word.partition(":")
    if not colon:
        return [name + ":" for name in FILTERS if name.startswith(head.lower())] if head else []
    behind = {
        "from": ["me", *users], "in": [*rooms, *(f"@{user}" for user in users)], "has": sorted(FEATURES),
        "before": _DAYS, "after": _DAYS, "on": _DAYS,
    }.get(head.lower(), [])  # fmt: skip
    return [f"{head}:{name}" for name in behind if name.startswith(rest.lower())]


_DAYS: Final = ["today", "yesterday", "7d", "30d"]


def _beginning(word: str, names: Sequence[str], sigil: str) -> Sequence[str]:
    """The names that begin as `word` does, which may have its sigil: it stays."""
    shown = sigil if word.startswith(sigil) else ""
    start = word.removeprefix(sigil).lower()
    return [shown + name for name in names if name.startswith(start)]
