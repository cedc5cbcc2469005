"""What a user or room name may be, and the names of conversations."""

from __future__ import annotations

import re
from typing import Final

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_.-]{0,31}\Z"  # ASCII only: no confusables, no case to fold wrong
CONVERSATION_PATTERN: Final = r"^([a-z0-9][a-z0-9_.-]{0,31}|pm:[0-9a-f]{64})\Z"
NAME_RULE: Final = "a to z, 0 to 9, and . _ - inside; at most 32 characters"
PRIVATE_PREFIX: Final = "pm:"  # `:` cannot occur in a room's name

_NAME = re.compile(NAME_PATTERN)


def fold_user(typed: str) -> str | None:
    """The canonical form of a user name as typed (a leading ``@`` is allowed), or None where it cannot be one."""
    return _fold(typed.removeprefix("@"))


def fold_room(typed: str) -> str | None:
    """The canonical form of a room name as typed (a leading ``#`` is allowed), or None where it cannot be one."""
    return _fold(typed.removeprefix("#"))


def _fold(typed: str) -> str | None:
    name = typed.lower()
    # Looked at as typed: the Kelvin sign, for one, folds to an ASCII letter.
    return name if typed.isascii() and _NAME.match(name) else None


def is_private(conversation: str) -> bool:
    """Whether a conversation id names a pair of users, not a room."""
    return conversation.startswith(PRIVATE_PREFIX)
