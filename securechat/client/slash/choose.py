"""What its user wants of the client: /set, /alias, /ignore, /notify, /unread, /reconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securechat.client.attention import LEVELS
from securechat.client.commands import find
from securechat.client.preferences import PREFERENCES, preference
from securechat.client.slash.common import Mistyped, account_of, room_name, user_name
from securechat.wire.names import NAME_RULE

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore

_NOW: Final = frozenset({"typing", "presence"})  # what the server must be told when it changes


async def do_set(core: ChatCore, name: str = "", value: str | None = None) -> None:
    """Shows or changes settings."""
    chosen = core.preferences
    if not name:
        core.answer(*(f"{row.name} = {chosen[row.name] or '(nothing)'}" for row in PREFERENCES))
        core.answer("/set NAME says what one is for; /set NAME VALUE changes it.")
        return
    row = preference(name)
    if value is None:
        choices = f" One of {', '.join(row.choices)}." if row.choices else ""
        core.answer(f"{row.name} = {chosen[row.name] or '(nothing)'}: {row.about}.{choices}")
        return
    kept = chosen.choose(row.name, "" if value == '""' else value)
    core.answer(f"{row.name} = {kept or '(nothing)'}")
    if row.name in _NOW:
        core.company.share_anew()
    core.status_changed()


async def do_alias(core: ChatCore, name: str = "", text: str = "") -> None:
    """Makes a command of one's own, or shows them."""
    aliases = core.preferences.aliases
    word = name.removeprefix("/").lower()
    if not word:
        listed = [f"/{short} = {long}" for short, long in sorted(aliases.items())]
        core.answer(*(listed or ["There are no aliases yet. /alias NAME TEXT makes one."]))
        return
    if find(word) is not None:
        raise Mistyped(f"/{word} is a command already. Choose another name.")
    if not word.replace("-", "").isalnum():
        raise Mistyped(f"/{word} cannot be the name of a command: {NAME_RULE}.")
    if not text:
        core.answer(f"/{word} = {aliases[_alias(core, word)]}")
        return
    stands_for = find(text.split()[0]) if text.lstrip().startswith("/") else None
    if stands_for is not None and stands_for.secrets:
        raise Mistyped(f"An alias cannot stand for /{stands_for.name}: a password typed behind it would show.")
    core.preferences.alias(word, text)
    core.answer(f"/{word} = {text}")


async def do_unalias(core: ChatCore, name: str) -> None:
    """Ends a command of one's own."""
    word = _alias(core, name.removeprefix("/").lower())
    core.preferences.alias(word, "")
    core.answer(f"/{word} is gone.")


def _alias(core: ChatCore, word: str) -> str:
    """The name of an alias that there is. Raises Mistyped."""
    if word not in core.preferences.aliases:
        raise Mistyped(f"There is no alias /{word}. /alias {word} TEXT makes one.")
    return word


async def do_ignore(core: ChatCore, name: str = "") -> None:
    """Shows nothing of somebody any more; alone: whom."""
    account_of(core)
    ignored = core.attention.ignored
    if not name:
        core.answer(f"Ignored: {', '.join(sorted(ignored))}" if ignored else "Nobody is ignored.")
        return
    user = user_name(name)
    if user == core.user:
        raise Mistyped("That is you.")
    core.attention.ignore(user, ignored=True)
    core.answer(f"Nothing {user} writes is shown any more, nor told to them. /unignore {user} ends that.")


async def do_unignore(core: ChatCore, name: str) -> None:
    """Shows what somebody writes again."""
    account_of(core)
    user = user_name(name)
    if user not in core.attention.ignored:
        raise Mistyped(f"{user} is not ignored.")
    core.attention.ignore(user, ignored=False)
    core.answer(f"{user} is heard again; /history shows what they wrote meanwhile.")


async def do_notify(core: ChatCore, *arguments: str) -> None:
    """Which messages of a conversation draw attention."""
    account_of(core)
    words = list(arguments)
    level = words.pop(0).lower() if words and words[0].lower() in LEVELS else ""
    if len(words) == 1 and not level and core.conversations.titled(words[0].lower()) is None:
        raise Mistyped(
            f"{words[0]} is neither a level nor a conversation of yours. The levels are: {', '.join(LEVELS)}."
        )
    conversation = _named(core, words[0] if words else core.conversations.active)
    if level:
        core.attention.set_level(conversation, level)
    core.answer(f"{conversation.title}: {_LEVEL[core.attention.level(conversation)]}")


_LEVEL: Final = {
    "all": "every message is announced (all).",
    "mentions": "what calls you, and private messages, are announced (mentions).",
    "none": "nothing is announced (none).",
}


def _named(core: ChatCore, where: str) -> Conversation:
    if not where:
        raise Mistyped("No room is active. Type /notify all|mentions|none ROOM.")
    title = f"@{user_name(where)}" if where.startswith("@") else room_name(where)
    conversation = core.conversations.titled(title)
    if conversation is None:
        raise Mistyped(f"You are not in {title}.")
    return conversation


async def do_unread(core: ChatCore) -> None:
    """Where something was said that one has not seen."""
    account_of(core)
    waiting = [state for state in core.attention.states() if state.unread]
    for state in waiting:
        calls = f", {state.mentions} for you" if state.mentions and not state.where.startswith("@") else ""
        core.answer(f"{state.where}: {state.unread} unread{calls}")
    if not waiting:
        core.answer("Nothing is unread.")


async def do_reconnect(core: ChatCore) -> None:
    """Leaves the connection and makes another at once."""
    account_of(core)
    if core.link is None:
        raise Mistyped("There is no connection to make anew. Type /login NAME.")
    core.link.hurry()
    core.answer("Connecting anew.")
