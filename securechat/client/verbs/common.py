"""What the verbs share: how one is run, whom it means, and how far a message is trusted."""

from __future__ import annotations

from typing import Protocol

from securechat.client.conversations import Conversation
from securechat.client.core import ChatCore
from securechat.client.slash.common import room_name, user_name
from securechat.client.views.script import ScriptView
from securechat.crypto.trust import identity_hash
from securechat.errors import NOT_MEMBER, Exit, Refused


class Verb(Protocol):
    """One thing that a script does."""

    reads: bool
    """Whether standard input is read."""
    prints: bool
    """Whether it ends, well done, once nobody reads what it prints."""

    def start(self, core: ChatCore, view: ScriptView) -> None:
        """Before the login, which shows what was missed."""

    async def before(self) -> None:
        """What is to be had before anybody connects. Raises SecureChatError."""

    async def run(self) -> Exit:
        """Once logged in and caught up. Raises SecureChatError."""

    def last_words(self) -> None:
        """It was ended from outside: says what is left undone."""


def trust_of(core: ChatCore, user: str, author: str) -> str:
    """How far the identity is trusted that signed a message: "verified", "tofu", "changed", or "unknown".

    Args:
        author: a short hash of that identity; one that is not the pinned one is *changed*.
    """
    people = core.people
    ik, state = (None, None) if people is None else (people.identity(user), people.state(user))
    if ik is None or state is None:
        return "unknown"
    return state.value if author in ("", identity_hash(ik)[: len(author)]) else "changed"


def target_of(typed: str) -> str:
    """A room's label or ``@user`` as typed, in its canonical form. Raises Mistyped."""
    return f"@{user_name(typed[1:])}" if typed.startswith("@") else room_name(typed)


def conversation_at(core: ChatCore, where: str) -> Conversation | None:
    """The conversation meant; None: nothing was said yet with that person. Raises NotMember."""
    if where.startswith("@"):
        return core.with_peer(where[1:])
    found = core.conversations.labelled(where)
    if found is None:
        raise NotMember(where, core.user)
    return found


class NotMember(Refused):
    """A script enters no room by itself."""

    def __init__(self, room: str, user: str) -> None:
        super().__init__(NOT_MEMBER, room=room)
        self.args = (
            f"{user} is not in {room}. Enter it once: echo '/join {room}' | securechat --plain --user {user}"
            " --password-file FILE",
        )
