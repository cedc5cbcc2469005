"""Looking for what was said: /search, /jump; and what this machine keeps: /forget, /export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from securechat.client.display import INDENT, render, stamp
from securechat.client.kept import Entry, Kept
from securechat.client.search import parse_query
from securechat.client.slash.common import Mistyped, account_of, agreed, room_name, user_name, whole
from securechat.client.telling import beginning, fold, item_of
from securechat.client.timeline import Timeline
from securechat.client.transfer import CannotTransfer
from securechat.private_files import write_private

if TYPE_CHECKING:
    from securechat.client.archive import Archive
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore

HITS: Final = 20  # that /search lists
AROUND: Final = 5  # messages before and behind the one that /jump goes to
_STRETCH: Final = 500  # messages read at a time for /export


async def do_search(core: ChatCore, text: str) -> None:
    """Looks through all that this machine keeps, without asking the server."""
    account_of(core)
    archive = _archive(core)
    titles = {conversation.id: conversation.title for conversation in core.conversations.all_known()}
    query = parse_query(text, now=core.clock())
    found = await archive.search(query, titles=titles, me=core.user, limit=HITS, progress=core.progress)
    core.found = [(hit.conversation, hit.kept.seq) for hit in found.hits]
    if not found.hits:
        core.answer(
            f"Nothing found in {archive.count()} messages on this machine.",
            "Older ones may be at the server: /history ROOM 1000 brings them here.",
        )
        return
    for number, hit in enumerate(found.hits, 1):
        said = beginning(Entry(hit.kept).body.text)
        where = titles.get(hit.conversation, "a room you left")
        core.answer(f"{number}. {stamp(hit.kept.at)} [{where}] <{hit.kept.sender}> {said}")
    if found.more:
        core.answer("These are the newest; add words, from:NAME, in:ROOM or before:DATE to see others.")
    core.answer("/jump N shows what was said around one of them.")


async def do_jump(core: ChatCore, number: str = "1") -> None:
    """Shows what was said around something that was found."""
    account_of(core)
    if not core.found:
        raise Mistyped("Nothing was searched for yet. /search WORDS first.")
    place = whole(number)
    if place is None or not 1 <= place <= len(core.found):
        raise Mistyped(f"/jump takes a number from 1 to {len(core.found)}: that of a line of the last /search.")
    id, seq = core.found[place - 1]
    conversation = core.conversations.known(id)
    if conversation is None:
        raise Mistyped("That conversation is gone.")
    archive = _archive(core)
    near = [*await archive.before(id, seq + 1, AROUND + 1), *await archive.after(id, seq, AROUND)]
    core.answer(f"Around message {seq} in {conversation.title}:")
    await _show(core, conversation, near, seq)
    if conversation.here and core.conversations.active != conversation.title:
        core.answer(f"/switch {conversation.title} goes there.")


async def _show(core: ChatCore, conversation: Conversation, many: list[Kept], meant: int) -> None:
    stretch = Timeline()
    stretch.take_all(many)
    for entry in stretch:
        lines = render(item_of(entry, conversation, core.user, timed=True, among=stretch), multiline=True)
        mark = "> " if entry.seq == meant else INDENT
        core.answer(*(f"{mark if not place else INDENT}{line}" for place, line in enumerate(lines)))


async def do_forget(core: ChatCore, name: str, sure: str = "") -> None:
    """Removes from this machine what was said in one conversation, or all."""
    account_of(core)
    archive = _archive(core)
    everything = name.lower() == "all" and core.conversations.labelled("all") is None
    conversation = None if everything else _named(core, name)
    what = "all conversations" if conversation is None else conversation.title
    if not await agreed(core, sure, f"Remove what this machine keeps of {what}? The server keeps its own. [yes/no] "):
        core.answer(f"Nothing was removed. /forget {name} yes does not ask.")
        return
    await archive.forget(None if conversation is None else conversation.id)
    for each in core.conversations.all_known() if conversation is None else [conversation]:
        each.timeline = Timeline()
    core.found = []
    await core.saving.save()
    core.view.opened(core.conversations.active)
    core.answer(f"This machine keeps nothing of {what} any more. What comes from now on is kept again.")


async def do_export(core: ChatCore, name: str, path: str) -> None:
    """Writes what this machine keeps of a conversation into a file, in clear."""
    account_of(core)
    conversation, archive = _named(core, name), _archive(core)
    try:
        target = Path(path).expanduser()
    except RuntimeError:  # the home of nobody
        raise CannotTransfer(f"{path} is in nobody's home. Name a file of yours.") from None
    if target.exists():
        raise CannotTransfer(f"{target} is there already. Name another file.")
    talk, at = Timeline(), 0
    while many := await archive.after(conversation.id, at, _STRETCH):
        talk.take_all(many)
        at = many[-1].seq
        core.progress(at, max(conversation.cursor, at + 1))
    core.progress(1, 1)
    items = [item_of(entry, conversation, core.user, timed=True, among=talk) for entry in talk]
    lines = [line for item in fold(items) for line in render(item, multiline=True)]
    try:
        write_private(target, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    except OSError as error:
        raise CannotTransfer(f"{target} cannot be written: {error.strerror}.") from None
    core.answer(
        f"{len(talk)} messages of {conversation.title} are in {target}.",
        "They lie there in clear: whoever reads that file reads them. /history brings more from the server first.",
    )


def _archive(core: ChatCore) -> Archive:
    if core.archive is None:
        raise Mistyped("This machine keeps no messages of this account.")
    return core.archive


def _named(core: ChatCore, where: str) -> Conversation:
    title = f"@{user_name(where)}" if where.startswith("@") else room_name(where)
    found = core.conversations.titled(title)
    known = found or next((c for c in core.conversations.all_known() if c.title == title), None)
    if known is None:
        raise Mistyped(f"This machine knows no {title}.")
    return known
