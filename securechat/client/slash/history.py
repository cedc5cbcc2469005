"""/history: what was said before, from the server, else from this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import TimeoutError

from securechat.client.conversations import NEWEST_GONE
from securechat.client.entries import watched
from securechat.client.protocol import LinkLost
from securechat.client.slash.common import Mistyped, account_of, room_name, room_of, user_name, whole
from securechat.client.telling import fold, item_of
from securechat.client.timeline import Timeline
from securechat.client.view import Item
from securechat.wire import limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore

_OWN_SECONDS: Final = 3.0  # that /history waits for one's own messages to be stored


async def do_history(core: ChatCore, *arguments: str) -> None:
    """The newest messages of a room or of a private conversation, paging by itself."""
    account_of(core)
    words = list(arguments)
    number = whole(words[-1]) if words else None
    count = 0
    # Alone, a number is a room of that name, if there is one.
    if number is not None and (len(words) == 2 or core.conversations.labelled(words[0]) is None):
        count = number
        del words[-1]
    if len(words) == 2:
        raise Mistyped("Usage: /history [room] [count]")
    where = words[0] if words else core.conversations.active
    if not where:
        raise Mistyped("No room is active. Type /history ROOM.")
    conversation = await _named(core, where)
    await _own_first(core, conversation)
    try:
        await _from_server(core, conversation, count or limits.HISTORY_DEFAULT)
    except LinkLost:
        # A script needs all of it, or to know that it has not.
        if not core.view.interactive or not await _from_here(core, conversation, count or limits.HISTORY_DEFAULT):
            raise


async def _from_here(core: ChatCore, conversation: Conversation, count: int) -> bool:
    """Shows the newest messages that this machine keeps; whether there are any."""
    assert core.archive is not None
    kept = await core.archive.before(conversation.id, conversation.cursor + 1, count)
    stretch = Timeline()
    stretch.take_all(kept)
    if kept:
        core.notice("There is no connection to the server now: this is what this machine keeps.", conversation.title)
    _show(core, fold(item_of(entry, conversation, core.user, timed=True, among=stretch) for entry in stretch))
    return bool(kept)


def _show(core: ChatCore, items: Iterable[Item]) -> None:
    """Shows items, but those of people whom its user ignores."""
    for item in items:
        if core.attention.hears(item):
            core.show(item)


async def _from_server(core: ChatCore, conversation: Conversation, count: int) -> None:
    """Shows the newest messages that the server gives. Raises Refused, LinkLost."""
    seen = conversation.cursor
    pages = await _newest(core, conversation.room, count)
    if conversation.lacks_newest(seen, pages):
        core.lobby.alarm(conversation, NEWEST_GONE)
    assert core.inbox is not None
    items = await core.inbox.page(conversation, pages, core.progress)
    removed = pages[0].trimmed if pages else 0
    if removed and (not pages[0].messages or pages[0].messages[0].seq == removed + 1):
        core.notice(
            f"Older messages (up to number {removed}) were removed by the server: it does not keep them longer."
        )
    _show(core, items)
    if not any(page.messages for page in pages):
        core.answer(f"{conversation.title} has no messages {'any more' if removed else 'yet'}.")


async def _own_first(core: ChatCore, conversation: Conversation) -> None:
    """Waits a moment for what was typed there before: it belongs into the history that is asked for."""
    if core.outbox is None or not core.post.can_send():
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
