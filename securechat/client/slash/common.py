"""What the slash commands share: names as typed, the account, the room that is meant, secrets, and a yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securechat.client.acts import Author
from securechat.client.openaccount import OpenAccount
from securechat.crypto.identity import AccountKeys
from securechat.errors import LOGIN_FIRST, NO_SUCH_USER, NOT_MEMBER, Exit, InvalidKey, Refused, SecureChatError
from securechat.wire import messages as m
from securechat.wire.names import NAME_RULE, fold_room, fold_user

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore


_DIGITS: Final = 15  # of a number that somebody types


class Mistyped(SecureChatError):
    """What was typed cannot be done; the text says what to type instead."""

    exit = Exit.FIXABLE


def not_in(room: str) -> Refused:
    """The error of somebody who is not in a room."""
    return Refused(NOT_MEMBER, room=room)


def room_name(typed: str) -> str:
    """The canonical form of a room's name, or of its label (``name#4f2a``). Raises Mistyped."""
    name, mark, piece = typed.removeprefix("#").partition("#")
    room = fold_room(name)
    if room is None or (mark and not (len(piece) == 4 and all(c in "0123456789abcdef" for c in piece))):
        raise Mistyped(f"{typed} cannot be the name of a room: {NAME_RULE}.")
    return room + mark + piece


def whole(typed: str) -> int | None:
    """A whole number that was typed; None where it is none, or no number of anything here."""
    return int(typed) if typed.isdecimal() and len(typed) <= _DIGITS else None


def user_name(typed: str) -> str:
    """The canonical form of a user's name. Raises Mistyped."""
    user = fold_user(typed)
    if user is None:
        raise Mistyped(f"{typed} cannot be the name of a user: {NAME_RULE}.")
    return user


def account_of(core: ChatCore) -> OpenAccount:
    """The account that is logged in. Raises Refused: `login_first`."""
    if core.account is None:
        raise Refused(LOGIN_FIRST)
    return core.account


def author_of(core: ChatCore) -> Author:
    """The account as the author of acts in rooms."""
    account = account_of(core)
    own = account.own
    return Author(account.profile.srv, own.user, own.ik, account.keys.dev, (own.version, own.digest), core.now_ms())


def room_of(core: ChatCore, label: str) -> Conversation:
    """A room one is in. Raises Refused: `not_member`."""
    account_of(core)
    conversation = core.conversations.labelled(label)
    if conversation is None:
        raise not_in(label)
    return conversation


def room_meant(core: ChatCore, typed: str, usage: str = "") -> Conversation:
    """The room that was typed, else the active one.

    Args:
        usage: how to name a room on the line; "" where it is always the active one.

    Raises:
        Mistyped, Refused.
    """
    account_of(core)
    label = room_name(typed) if typed else core.conversations.active
    if not label:
        raise Mistyped(f"No room is active. Type {f'{usage}, or ' if usage else ''}/switch ROOM first.")
    return room_of(core, label)


async def secret(core: ChatCore, given: str | None, question: str) -> str:
    """A password given on the line, or asked for without echo."""
    typed = given if given is not None else await core.view.ask_secret(question)
    if not typed:
        raise Mistyped(
            "No password was given. On a pipe it stands on the line: /login NAME PASSWORD; or nobody types it:"
            " securechat --user NAME --password-file FILE"
        )
    return typed


async def agreed(core: ChatCore, word: str, question: str) -> bool:
    """Whether the person says yes, on the line or when asked."""
    if not word and core.view.interactive:
        word = await core.view.ask(question) or ""
    return word.strip().lower() in ("yes", "y")


async def keys_of(core: ChatCore, user: str, *, anew: bool = False) -> AccountKeys:
    """Somebody's verified keys. Raises Refused where there is no such user, InvalidKey where they do not check out."""
    account, people = account_of(core), core.people
    assert people is not None
    if user == core.user:
        return account.own
    if anew or people.known(user) is None:
        await meet(core, user)
    keys = people.known(user)
    if keys is None:
        raise InvalidKey(f"the server gives no usable keys of {user}")
    return keys


async def meet(core: ChatCore, user: str) -> None:
    """Fetches somebody's keys. Raises Refused where there is no such user."""
    assert core.people is not None
    reply = await core.request(m.Keys(users=(user,)))
    if user not in reply.keys:
        raise Refused(NO_SUCH_USER, user=user)
    core.people.take_in(reply.keys)
