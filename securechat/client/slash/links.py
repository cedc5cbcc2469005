"""Links of a conversation: /links, /open."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

from securechat.client.display import clean
from securechat.client.launch import spawner
from securechat.client.links import disguised, find_links, host_of
from securechat.client.slash.common import Mistyped, account_of

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore

LISTED: Final = 20  # links that /links lists
_OPENER: Final = "open" if sys.platform == "darwin" else "xdg-open"


async def do_links(core: ChatCore) -> None:
    """The newest links, numbered from the newest on; /open means these numbers until the next list."""
    account_of(core)
    title = core.conversations.active
    conversation = core.conversations.titled(title) if title else None
    if conversation is None:
        raise Mistyped("No room is active. Type /switch ROOM first.")
    core.listed_links = _newest(core, conversation)
    if not core.listed_links:
        core.answer(f"There is no link in what is here of {title}.")
        return
    core.answer(*(f"{number:>3}  {_told(link)}" for number, link in enumerate(core.listed_links, 1)))


def _newest(core: ChatCore, conversation: Conversation) -> list[str]:
    found: dict[str, None] = {}
    for entry in reversed(list(conversation.timeline)):
        if entry.kept.hidden or entry.deleted or entry.kept.sender in core.attention.ignored:
            continue
        found.update(dict.fromkeys(reversed(find_links(clean(entry.body.text)))))
        if len(found) >= LISTED:
            break
    return list(found)[:LISTED]


def _told(link: str) -> str:
    return f"{link}  (leads to {host_of(link)})" if disguised(link) else link


async def do_open(core: ChatCore, number: str) -> None:
    """Opens one of them with the program of the machine or of the preference `open-command`; says which link it is."""
    account_of(core)
    if not core.listed_links:
        raise Mistyped("No links are listed. Type /links first: /open takes their numbers.")
    link = {str(place): listed for place, listed in enumerate(core.listed_links, 1)}.get(number)
    if link is None:
        raise Mistyped(f"/open takes a number of the list, 1 to {len(core.listed_links)}. /links shows a new one.")
    core.answer(_told(link))
    if not link.startswith("http"):
        raise Mistyped("This leads into SecureChat, not to a page: start securechat with it, in quotes.")
    try:
        words = shlex.split(core.preferences["open-command"]) or [_OPENER]
    except ValueError:
        raise Mistyped("The preference open-command has a quote that is not closed. Set it anew.") from None

    def ended(problem: str) -> None:
        if problem:
            core.notice(f"The link was not opened: {problem}. Copy it by hand, or /set open-command to a browser.")

    spawner(core.reactor, os.environ)([*words, link], {}, ended)
