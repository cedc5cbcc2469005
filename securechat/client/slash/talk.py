"""Talking: /send, /pm, /history."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import TimeoutError

from securechat.client.conversations import NEWEST_GONE
from securechat.client.outbox import watched
from securechat.client.slash.common import Mistyped, account_of, meet, room_name, room_of, user_name
from securechat.errors import Exit
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.names import fold_room

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore

_OWN_SECONDS: Final = 3.0  # that /history waits for one's own messages to be stored


async def do_send(core: ChatCore, text: str) -> Exit:
    """To the active room."""
    account_of(core)
    room = core.conversations.active
    if not room:
        raise Mistyped("No room is active. Type /join ROOM (or /switch ROOM) first; /rooms lists them.")
    return await _post(core, room, text)


async def do_pm(core: ChatCore, name: str, text: str) -> Exit:
    """To one person."""
    account_of(core)
    user = user_name(name)
    if user == core.user:
        raise Mistyped("A private message goes to somebody else. Name another user.")
    assert core.people is not None
    if core.people.known(user) is None and core.link is not None and core.link.protocol is not None:
        await meet(core, user)
    return await _post(core, f"@{user}", text)


async def _post(core: ChatCore, where: str, text: str) -> Exit:
    if len(text.encode("utf-8", "replace")) > limits.MAX_TEXT:
        raise Mistyped(f"A message has at most {limits.MAX_TEXT} bytes. Send it in parts.")
    if "\x00" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise Mistyped("This text has characters in it that are no text. Nothing was sent.")
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


async def do_history(core: ChatCore, *arguments: str) -> None:
    """The newest messages of a room or of a private conversation, paging by itself."""
    account_of(core)
    words = list(arguments)
    count = int(words.pop()) if words and words[-1].isdecimal() and (len(words) == 2 or not fold_room(words[-1])) else 0
    if len(words) == 2:
        raise Mistyped("Usage: /history [room] [count]")
    if len(words) == 1 and words[0].isdecimal() and core.conversations.labelled(words[0]) is None:
        count = int(words.pop())
    where = words[0] if words else core.conversations.active
    if not where:
        raise Mistyped("No room is active. Type /history ROOM.")
    conversation = await _named(core, where)
    await _own_first(core, conversation)
    seen = conversation.cursor
    pages = await _newest(core, conversation.room, count or limits.HISTORY_DEFAULT)
    if conversation.lacks_newest(seen, pages):
        core.alarm(conversation, NEWEST_GONE)
    assert core.inbox is not None
    items = await core.inbox.page(conversation, pages, core.progress)
    removed = pages[0].trimmed if pages else 0
    if removed and (not pages[0].messages or pages[0].messages[0].seq == removed + 1):
        core.notice(
            f"Older messages (up to number {removed}) were removed by the server: it does not keep them longer."
        )
    for item in items:
        core.show(item)
    if not any(page.messages for page in pages):
        core.answer(f"{conversation.title} has no messages {'any more' if removed else 'yet'}.")


async def _own_first(core: ChatCore, conversation: Conversation) -> None:
    """Waits a moment for what was typed there before: it belongs into the history that is asked for."""
    if core.outbox is None or not core.can_send():
        return
    for entry in core.outbox.moving():
        if entry.where == conversation.title:
            with contextlib.suppress(TimeoutError):
                await watched(entry.done).addTimeout(_OWN_SECONDS, core.reactor)


async def _named(core: ChatCore, where: str) -> Conversation:
    if not where.startswith("@"):
        return room_of(core, room_name(where))
    found = core.with_peer(user_name(where))
    if found is None:
        raise Mistyped(f"You have no private messages with {where[1:]} yet. Type /pm {where[1:]} MESSAGE.")
    return found


async def _newest(core: ChatCore, room: str, count: int) -> Sequence[m.HistoryOk]:
    """Pages of the newest messages, oldest first."""
    pages: list[m.HistoryOk] = []
    before: int | None = None
    while count > 0:
        page: m.HistoryOk = await core.request(
            m.History(room=room, before=before, limit=min(count, limits.HISTORY_MAX))
        )
        pages.insert(0, page)
        count -= len(page.messages)
        if not page.more or not page.messages:
            break
        before = page.messages[0].seq
    return pages
