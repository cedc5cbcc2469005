"""Talking: saying something, and changing what was said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import structs
from twisted.internet.defer import TimeoutError

from securechat.client import emoji
from securechat.client.entries import watched
from securechat.client.slash.common import Mistyped, account_of, meet, user_name, whole
from securechat.client.telling import beginning
from securechat.crypto.body import MARK, Action, Body, Code, Delete, Edit, React, Text, mentions_in, to_text
from securechat.errors import Exit
from securechat.wire import limits

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore
    from securechat.client.kept import Entry


async def do_send(core: ChatCore, text: str) -> Exit:
    """To the active room or person."""
    account_of(core)
    return await post(core, active_of(core), as_typed(text))


async def do_pm(core: ChatCore, name: str, text: str = "") -> Exit | None:
    """To one person; without a text, talk with them becomes the active one."""
    account_of(core)
    user = user_name(name)
    if user == core.user:
        raise Mistyped("A private message goes to somebody else. Name another user.")
    assert core.people is not None
    if core.people.known(user) is None and core.link is not None and core.link.protocol is not None:
        await meet(core, user)
    if text:
        return await post(core, f"@{user}", as_typed(text))
    core.go(f"@{user}")
    core.answer(f"What you type goes to {user} alone now. /switch ROOM goes back.")
    return None


async def do_me(core: ChatCore, text: str) -> Exit:
    """Says what one does."""
    account_of(core)
    return await post(core, active_of(core), Action(emoji.replace(text)))


async def do_code(core: ChatCore, text: str) -> Exit:
    """Lines that are shown as they are. A first word ``python:`` says what they are written in."""
    account_of(core)
    first, _, rest = text.partition("\n") if "\n" in text else text.partition(" ")
    named = _LANG.fullmatch(first.strip())
    body = Code(rest.strip("\n"), named[1].lower()) if named and rest.strip() else Code(text)
    return await post(core, active_of(core), body)


_LANG: Final = re.compile(r"([A-Za-z0-9+#.-]{1,32}):")
_FENCED: Final = re.compile(r"\A\s*```([A-Za-z0-9+#.-]{0,32})[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)


def as_typed(text: str) -> Text | Code:
    """A typed text as what it is: lines between ``` are code; elsewhere ``:tada:`` is an emoji."""
    fenced = _FENCED.match(text)
    return Code(fenced[2], fenced[1].lower()) if fenced else Text(emoji.replace(text))


def active_of(core: ChatCore) -> str:
    """The title of the active conversation. Raises Mistyped."""
    if not core.conversations.active:
        raise Mistyped("No room is active. Type /join ROOM (or /switch ROOM) first; /rooms lists them.")
    return core.conversations.active


def calling(core: ChatCore, where: str, body: Body) -> Body:
    """The same with the people in it whom it calls, of those who are there."""
    if not isinstance(body, (Text, Action, Edit)):
        return body
    conversation = core.conversations.titled(where)
    if where.startswith("@"):
        names = frozenset([where[1:]])
    else:
        log = None if conversation is None else conversation.log
        names = frozenset() if log is None else frozenset(log.members)
    return structs.replace(body, mentions=mentions_in(body.text, names - {core.user}))


async def post(core: ChatCore, where: str, body: Body) -> Exit:
    """Sends what somebody says there, or a change of what was said. Raises Mistyped, CannotKeep."""
    said = body.emoji if isinstance(body, React) else "" if isinstance(body, Delete) else body.text
    if len(said.encode("utf-8", "replace")) > limits.MAX_TEXT:
        raise Mistyped(f"A message has at most {limits.MAX_TEXT} bytes. Send it in parts.")
    if MARK in said or any(0xD800 <= ord(c) <= 0xDFFF for c in said):
        raise Mistyped("This text has characters in it that are no text. Nothing was sent.")
    text = to_text(calling(core, where, body))
    if len(text.encode("utf-8")) > limits.MAX_TEXT:
        raise Mistyped(f"With what is sent beside it, this is more than {limits.MAX_TEXT} bytes. Send it in parts.")
    assert core.outbox is not None
    room = None if where.startswith("@") else core.conversations.labelled(where)
    seen = None if room is None else room.readers_known()
    entry = await core.outbox.put(where, text, seen, "" if room is None else room.id)
    core.status_changed()
    waiting = watched(entry.done)
    if not core.view.interactive:
        waiting.addTimeout(core.timeout, core.reactor)  # a script is not held for ever; a person goes on typing
    try:
        status = await waiting
    except TimeoutError:
        core.timeout = 0.0  # all patience is used up: `close` says what was not acknowledged
        return Exit.NETWORK
    if status is Exit.OK and core.inbox is not None:
        await core.inbox.shown()
    return status


# --- what was said before ---------------------------------------------------------------------------------------------


async def do_reply(core: ChatCore, *arguments: str) -> Exit:
    """Answers a message: the newest of others, or the one that is named."""
    conversation, target, text = _meant(core, arguments, own=False)
    return await post(core, conversation.title, Text(emoji.replace(text), target.kept.id))


async def do_edit(core: ChatCore, *arguments: str) -> Exit:
    """Gives one's own newest message, or the one that is named, another text."""
    conversation, target, text = _meant(core, arguments, own=True)
    return await post(core, conversation.title, Edit(target.kept.id, emoji.replace(text)))


async def do_delete(core: ChatCore, *arguments: str) -> Exit:
    """Takes back one's own newest message, or the one that is named."""
    conversation, target, _ = _meant(core, arguments, own=True, text=False)
    status = await post(core, conversation.title, Delete(target.kept.id))
    if status is Exit.OK:
        core.answer("Deleted for everybody whose client follows. Who has read it may remember it.")
    return status


async def do_react(core: ChatCore, *arguments: str) -> Exit:
    """Reacts to the newest message of others, or the one that is named; the same again takes it back."""
    conversation, target, typed = _meant(core, arguments, own=False)
    reaction = emoji.replace(typed)
    if any(c.isspace() for c in reaction) or len(reaction) > _LONGEST_EMOJI:
        raise Mistyped("A reaction is one emoji, or one short word: /react 👍")
    off = core.user in target.reactions.get(reaction, [])
    return await post(core, conversation.title, React(target.kept.id, reaction, off))


_LONGEST_EMOJI: Final = 32


def _meant(
    core: ChatCore, arguments: Sequence[str], *, own: bool, text: bool = True
) -> tuple[Conversation, Entry, str]:
    """The conversation, the message that a command means, and the rest of its line.

    ``#12`` names a message by its number, ``@bob`` the newest of somebody; else it is the newest of others, or one's
    own. Raises Mistyped, Refused.
    """
    account_of(core)
    title = active_of(core)
    conversation = core.conversations.titled(title)
    if conversation is None:
        raise Mistyped(f"Nothing was said in {title} yet.")
    words = " ".join(arguments).strip()
    first, rest, *_ = [*words.split(maxsplit=1), "", ""]
    timeline = conversation.timeline
    if first[:1] == "#" and first[1:].isdecimal():
        number = whole(first[1:])
        target, words = None if number is None else timeline.by_seq(number), rest
        if target is None or target.deleted:
            raise Mistyped(
                f"There is no message {first[:20]} here. /set numbers on shows numbers; /history brings more."
            )
    elif first[:1] == "@" and not own:
        user, words = user_name(first), rest
        target = timeline.newest(by=user)
        if target is None:
            raise Mistyped(f"Nothing of {user} is at hand here. /history brings more.")
    else:
        target = timeline.newest(by=core.user) if own else timeline.newest(not_by={core.user, *core.attention.ignored})
        if target is None:
            raise Mistyped(f"Nothing of {'yours' if own else 'others'} is at hand here. /history brings more.")
    if own and target.kept.sender != core.user:
        raise Mistyped(f"That message is {target.kept.sender}'s: only its author can change it.")
    if target.kept.hidden:
        raise Mistyped("That message cannot be read here, so it cannot be meant.")
    if not text and words:
        raise Mistyped(f"Name the message by its number, or type /delete alone for your newest. {words} is neither.")
    if text and not words:
        raise Mistyped(f'Say what: the message meant is "{beginning(target.body.text)}".')
    return conversation, target, words


async def do_retry(core: ChatCore) -> None:
    """Tries again what waits to be sent."""
    account_of(core)
    assert core.outbox is not None
    waiting = core.outbox.pending()
    if not waiting:
        core.answer("Nothing waits to be sent.")
        return
    core.outbox.release()
    core.answer(*(f"Tried again: to {entry.where}: {entry.words}" for entry in waiting[:_LISTED]))
    if len(waiting) > _LISTED:
        core.answer(f"… and {len(waiting) - _LISTED} more.")


_LISTED: Final = 10
