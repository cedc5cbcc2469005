"""One message as this client judged it, and as it stands now with what changed it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct, structs

from securechat.crypto.body import Action, Body, Change, Code, Delete, Edit, React, Said, Text, from_text, to_text
from securechat.errors import Undecryptable

DELETED: Final = "DELETED"  # in `Kept.hidden`: its author took it back, and its text is gone from this machine


class Kept(Struct, frozen=True, array_like=True, gc=False):
    """One message as this client judged it, to be kept.

    Attributes:
        seq, at: its number in the conversation; the server's time, milliseconds.
        sender, author: the user's name; a short hash of the identity it was by, "" where that is not known.
        id: of the message, 64 hex digits.
        body: the sealed text (`crypto.body`); "" where there is none.
        mark: what is said beside it.
        hidden: the name of the finding for which its text is not shown, or `DELETED`; "" where it is.
        why: what is said in its place.
    """

    seq: int
    at: int
    sender: str
    author: str
    id: str
    body: str
    mark: str = ""
    hidden: str = ""
    why: str = ""

    @property
    def obscured(self) -> bool:
        """Whether there is a text that cannot be shown; of one that was taken back there is none."""
        return self.hidden not in ("", DELETED)

    def said(self) -> Body:
        """What it says; an empty text where nothing can be shown."""
        try:
            return from_text(self.body)
        except Undecryptable:  # kept by a newer client, in the same profile
            return Text("")


@dataclass(eq=False, slots=True)
class Entry:
    """A message that stands for itself, with what changed it.

    Attributes:
        kept: as it came; once its author took it back, without what it said.
        changes: those that count, by their number.
        version: that of the timeline when it last changed, or the message that it answers did.
        drawn: what whoever draws it made of it, for the next time.
    """

    kept: Kept
    changes: list[tuple[int, Kept, Change]] = field(default_factory=list)
    version: int = 0
    drawn: Any = None

    @property
    def seq(self) -> int:
        """Its number."""
        return self.kept.seq

    @property
    def deleted(self) -> bool:
        """Whether its author took it back."""
        return self.kept.hidden == DELETED or any(isinstance(change, Delete) for _, _, change in self.changes)

    @property
    def edited(self) -> bool:
        """Whether its text is another than at first."""
        return any(isinstance(change, Edit) for _, _, change in self.changes)

    @property
    def body(self) -> Said:
        """What it says now."""
        said = self.kept.said()
        if isinstance(said, (Edit, Delete, React)):  # such a one never stands for itself
            return Text("")
        edits = [change for _, _, change in self.changes if isinstance(change, Edit)]
        return said if not edits else _with_text(said, edits[-1])

    @property
    def reactions(self) -> dict[str, list[str]]:
        """Who reacted with what, in the order of the first of each."""
        found: dict[str, list[str]] = {}
        for _, by, change in self.changes:
            if not isinstance(change, React):
                continue
            who = found.setdefault(change.emoji, [])
            if change.off and by.sender in who:
                who.remove(by.sender)
            elif not change.off and by.sender not in who:
                who.append(by.sender)
        return {emoji: who for emoji, who in found.items() if who}


def _with_text(said: Said, edit: Edit) -> Said:
    if isinstance(said, Text):
        return Text(edit.text, said.reply, edit.mentions)
    return Action(edit.text, edit.mentions) if isinstance(said, Action) else Code(edit.text, said.lang)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a message.

    Attributes:
        entry: it, or the message that it changes; None: that is not known here.
        change: what changed; None where it stands for itself.
        before: what that one said before.
        refused: the change does not count, and why.
        new: whether it was not known before.
    """

    kept: Kept
    entry: Entry | None = None
    change: Change | None = None
    before: Said | None = None
    refused: str = ""
    new: bool = True


def as_shown(entry: Entry) -> Kept:
    """How an entry is to be kept now: with its present text, and without one that was deleted."""
    kept = entry.kept
    if entry.deleted:
        return Kept(kept.seq, kept.at, kept.sender, kept.author, kept.id, "", "", DELETED)
    return structs.replace(kept, body=to_text(entry.body)) if entry.edited else kept


def to_keep(taken: Taken) -> list[Kept]:
    """What is to be kept of a message that was taken in: it, and how it leaves the message that it changes.

    Of a message that was taken back no word stays, nor of the edits before and behind that.
    """
    entry = taken.entry
    if taken.change is None:
        return [taken.kept] if entry is None else [as_shown(entry)]
    if entry is None:
        return [taken.kept]
    own = _wordless(taken.kept, taken.change) if entry.deleted else taken.kept
    if taken.refused:
        return [own]
    earlier = [by for _, by, change in entry.changes if isinstance(change, Edit)] if entry.deleted else []
    return [own, *(by for by in earlier if by.seq != own.seq), as_shown(entry)]


def target_of(kept: Kept) -> str:
    """The id of the message that a kept one changes; "" where it stands for itself."""
    said = Text("") if kept.hidden else kept.said()
    return said.to if isinstance(said, React) else said.of if isinstance(said, (Edit, Delete)) else ""


def _wordless(by: Kept, change: Change) -> Kept:
    return structs.replace(by, body=to_text(_without_text(change))) if isinstance(change, Edit) else by


def _without_text(change: Change) -> Change:
    return Edit(change.of, "") if isinstance(change, Edit) else change


def blank(entry: Entry) -> None:
    """What was taken back is not kept in memory either."""
    if entry.deleted:
        entry.kept = as_shown(entry)
        entry.changes = [(seq, _wordless(by, change), _without_text(change)) for seq, by, change in entry.changes]
