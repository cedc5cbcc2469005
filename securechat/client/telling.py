"""How judged messages are kept, and how what was kept is told: from a verdict to `Kept`, from there to items. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from securechat.client.display import clean, not_shown
from securechat.client.kept import DELETED, Entry, Kept, Taken
from securechat.client.timeline import Timeline
from securechat.client.view import Changed, Item, Message, Quote, Unshown
from securechat.crypto.body import Action, Body, Code, Delete, Edit, React, Said, Text, from_text
from securechat.crypto.envelope import Examined
from securechat.crypto.findings import Finding
from securechat.crypto.reading import Found, Verdict
from securechat.errors import Undecryptable

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation

QUOTED: Final = 48  # characters of an earlier message that are shown to say which one is meant


def kept_of(examined: Examined, verdict: Verdict, user: str, author: str, mark: str) -> Kept:
    """One judged message as it is kept.

    Args:
        user: who reads.
        author: short hash of the identity it was by; "" where that is not known.
        mark: what is to be said of its author, or "".
    """
    message = examined.message
    hidden = verdict.hidden
    own = message.sender == user
    said = [_said_of_own(found, user) if own else _said(found, user) for found in verdict.flags]
    marks = "; ".join([*filter(None, [mark]), *said])
    return Kept(
        message.seq, message.ts, message.sender,
        author if hidden is None else "",
        message.id,
        examined.text if hidden is None else "",
        marks,
        "" if hidden is None else hidden.finding.name,
        "" if hidden is None else _why(hidden, user, changed=bool(mark)),
    )  # fmt: skip


def item_of(
    entry: Entry, conversation: Conversation, user: str, *, timed: bool = False, among: Timeline | None = None
) -> Message | Unshown:
    """A message as it stands now; what it answers is looked for `among` others first, if given."""
    kept = entry.kept
    if kept.hidden and kept.hidden != DELETED:
        return Unshown(conversation.title, 1, kept.why, kept.seq, kept.hidden, kept.sender)
    body = entry.body
    return Message(
        conversation.title,
        kept.sender,
        "" if entry.deleted else body.text,
        kept.at if timed else None,
        kept.mark,
        own=kept.sender == user,
        kind=_KINDS[type(body)],
        lang=body.lang if isinstance(body, Code) else "",
        quote=quote_of(body, *([] if among is None else [among]), conversation.timeline),
        mention=calls(body, user),
        edited=entry.edited and not entry.deleted,
        deleted=entry.deleted,
        reactions=() if entry.deleted else tuple((emoji, tuple(who)) for emoji, who in entry.reactions.items()),
        seq=kept.seq,
        ts=kept.at,
        id=kept.id,
        reply=body.reply if isinstance(body, Text) else "",
        author=kept.author,
    )


_KINDS: Final[dict[type, str]] = {Text: "text", Action: "me", Code: "code"}


def calls(body: Said, user: str) -> bool:
    """Whether a message calls somebody."""
    return not isinstance(body, Code) and user in body.mentions


def quote_of(body: Said, *timelines: Timeline) -> Quote | None:
    """What a message answers, as far as that is known here."""
    if not isinstance(body, Text) or not body.reply:
        return None
    target = next((found for each in timelines if (found := each.by_id(body.reply)) is not None), None)
    if target is None:
        return Quote("", "")
    return Quote(target.kept.sender, "" if target.deleted else beginning(target.body.text))


def beginning(text: str) -> str:
    """How a message begins, in one line."""
    line = " ".join(clean(text).split())
    return line if len(line) <= QUOTED else line[: QUOTED - 1] + "…"


_CHANGES: Final[dict[type, str]] = {Edit: "edited", Delete: "deleted", React: "reacted"}


def told(taken: Taken, conversation: Conversation, user: str) -> Item:
    """What is said of a message that has just come."""
    if taken.change is None:
        assert taken.entry is not None
        return item_of(taken.entry, conversation, user)
    change, kept, entry = taken.change, taken.kept, taken.entry
    what = "unreacted" if isinstance(change, React) and change.off else _CHANGES[type(change)]
    if taken.refused:
        return Unshown(conversation.title, 1, not_shown(f"{kept.sender} {_TRIED[what]}, but {taken.refused}"), kept.seq)
    text = change.text if isinstance(change, Edit) else change.emoji if isinstance(change, React) else ""
    return Changed(
        conversation.title,
        kept.sender,
        what,
        text,
        "" if taken.before is None else beginning(taken.before.text),
        "" if entry is None else entry.kept.sender,
        0 if entry is None else entry.seq,
        change.to if isinstance(change, React) else change.of,
        kept.at,
        kept.seq,
    )


_TRIED: Final = {
    "edited": "wants to change a message",
    "deleted": "wants to delete a message",
    "reacted": "reacts to a message",
    "unreacted": "takes back a reaction",
}


def history(taken: Sequence[Taken], conversation: Conversation, user: str) -> list[Item]:
    """Messages of a history as they stand now; a change is said only where its message is not among them."""
    shown = {id(each.entry) for each in taken if each.change is None and each.entry is not None}
    items: list[Item] = []
    for each in taken:
        if each.change is None and each.entry is not None:
            items.append(item_of(each.entry, conversation, user, timed=True))
        elif id(each.entry) not in shown:
            items.append(told(each, conversation, user))
    return fold(items)


def fold(items: Iterable[Item]) -> list[Item]:
    """Runs of messages that are not shown for one reason become one line."""
    folded: list[Item] = []
    for item in items:
        last = folded[-1] if folded else None
        if isinstance(item, Unshown) and isinstance(last, Unshown) and item.same_as(last):
            folded[-1] = replace(last, count=last.count + item.count)
        else:
            folded.append(item)
    return folded


def _said(found: Found, user: str) -> str:
    cure = found.cure_for(user)
    return f"{found.text} ({cure})" if cure else found.text


def _said_of_own(found: Found, user: str) -> str:
    """What is said to the author of a message, who can ask nobody else for those that are missing before it."""
    if found.finding is not Finding.MISSING:
        return _said(found, user)
    messages, them = ("1 message of yours is", "it") if found.n == 1 else (f"{found.n} messages of yours are", "them")
    return f"before this, {messages} not in the history the server gives (send {them} again if that matters)"


def _why(found: Found, user: str, *, changed: bool) -> str:
    if found.finding is Finding.IDENTITY_CHANGED and not changed:  # it is settled which identity counts
        return not_shown(f"signed by another identity of {found.who} than the one you know")
    if found.finding is Finding.BEFORE_JOIN:
        return f"message{{s}} {found.text}"
    return not_shown(_said(found, user))


def searched(body: str) -> str:
    """What a person sees of a kept body, for searching."""
    said = _parsed(body)
    return "" if isinstance(said, (Delete, React, Edit)) else said.text  # an edit shows in the place of its message


def calls_in(kept: Kept, user: str) -> bool:
    """Whether a kept message calls somebody."""
    said = _parsed(kept.body)
    return isinstance(said, (Text, Action)) and user in said.mentions


def _parsed(body: str) -> Body:
    try:
        return from_text(body)
    except Undecryptable:
        return Text("")
