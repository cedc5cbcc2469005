"""What a word being typed may become: commands, their arguments, names, emoji."""

from __future__ import annotations

from collections.abc import Sequence

from securechat.client import emoji
from securechat.client.commands import BY_NAME, COMMANDS, GROUPS, find


def completions(text: str, rooms: Sequence[str], users: Sequence[str]) -> tuple[int, Sequence[str]]:
    """What the word at the end of a typed text may become.

    Args:
        text: what is typed up to the cursor.
        rooms: names that may be meant, the likeliest first; they are offered in this order.
        users: the same for people; put who spoke last first.

    Returns:
        How many characters of `text` a candidate replaces, and the candidates. There are none for a password,
        nor for a file: this module looks at no disk.
    """
    if not text.startswith("/") or text.startswith("//"):
        return _mention(text, users, address=True)
    word = text[_last_blank(text) + 1 :]
    place = len(text.split()) - (1 if word else 0)
    if place == 0:
        return len(word), _commands(word)
    command = find(text.split()[0])
    if command is None or place - 1 in command.secrets:
        return len(word), []
    kind = command.kinds[min(place, len(command.kinds)) - 1] if command.kinds else ""
    if kind == "text":
        return _mention(text, users, address=False)
    return len(word), _argument(kind, word, rooms, users) if place <= len(command.kinds) else []


def _last_blank(text: str) -> int:
    return max((place for place, c in enumerate(text) if c.isspace()), default=-1)


def _commands(word: str) -> Sequence[str]:
    """Names that begin as `word` does; aliases only where no name does."""
    start = word.removeprefix("/").lower()
    names = sorted(c.name for c in COMMANDS if c.name.startswith(start))
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
    if kind == "user" or (kind == "room" and word.startswith("@")):
        return _beginning(word, users, "@")
    return _beginning(word, rooms, "#") if kind == "room" else []


def _beginning(word: str, names: Sequence[str], sigil: str) -> Sequence[str]:
    """The names that begin as `word` does, which may have its sigil: it stays."""
    shown = sigil if word.startswith(sigil) else ""
    start = word.removeprefix(sigil).lower()
    return [shown + name for name in names if name.startswith(start)]
