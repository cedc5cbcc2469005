"""What was said in one conversation, as it stands now: edits, deletions and reactions applied. Pure.

A change counts only for a message of this conversation; an edit and a deletion only by that message's own author, as
who they were then. In whatever order messages are given (history comes later than what is new), the result is the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct, structs

from securechat.crypto.body import Action, Body, Change, Code, Delete, Edit, React, Said, Text, from_text, to_text
from securechat.errors import Undecryptable

DELETED: Final = "DELETED"  # in `Kept.hidden`: its author took it back, and its text is gone from this machine
MAX_LOOSE: Final = 1000  # messages that are not here of which changes are remembered
MAX_CHANGES: Final = 1000  # kept for one message; of more, the oldest reactions do not count, then the oldest edits


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


class Timeline:
    """The messages of one conversation that are in memory, by number.

    Attributes:
        version: another after every change, for those who draw it.
        lost: how often messages were taken out again.
    """

    def __init__(self) -> None:
        self.version = 0
        self.lost = 0
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        self._loose: dict[str, list[tuple[int, Kept, Change]]] = {}  # changes of messages that are not here
        self._answers: dict[str, list[Entry]] = {}  # by the id of a message: those that answer it
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __getitem__(self, place: int) -> Entry:
        return self._entries[place]

    def has(self, seq: int) -> bool:
        """Whether message number `seq` was taken in, be it a change."""
        return seq in self._seen

    @property
    def first(self) -> int:
        """The lowest number taken in; 0: none."""
        return min(self._seen, default=0)

    def outlasts(self, kept: Kept) -> bool:
        """Whether what is shown under a number stays: a server may damage what it gives once more."""
        entry = self.by_seq(kept.seq)
        return kept.obscured and self.has(kept.seq) and (entry is None or not entry.kept.obscured)

    def by_id(self, id: str) -> Entry | None:
        """A message by its id."""
        return self._by_id.get(id)

    def by_seq(self, seq: int) -> Entry | None:
        """A message by its number."""
        place = bisect_left(self._entries, seq, key=lambda entry: entry.seq)
        found = self._entries[place] if place < len(self._entries) else None
        return found if found is not None and found.seq == seq else None

    def since(self, seq: int) -> Sequence[Entry]:
        """Those behind number `seq`."""
        return self._entries[bisect_left(self._entries, seq + 1, key=lambda entry: entry.seq) :]

    def before(self, seq: int, count: int) -> Sequence[Entry]:
        """The `count` newest with a number below `seq`."""
        end = bisect_left(self._entries, seq, key=lambda entry: entry.seq)
        return self._entries[max(end - count, 0) : end]

    def newest(self, *, by: str = "", not_by: Collection[str] = ()) -> Entry | None:
        """The newest that still stands, by somebody, or by none of some."""
        for entry in reversed(self._entries):
            sender = entry.kept.sender
            if not entry.kept.hidden and not entry.deleted and by in ("", sender) and sender not in not_by:
                return entry
        return None

    def speakers(self) -> list[str]:
        """Who said something, the last one first."""
        return list(dict.fromkeys(entry.kept.sender for entry in reversed(self._entries) if not entry.kept.hidden))

    def take(self, kept: Kept) -> Taken:
        """Takes in a message; one of a number that is here already takes its place."""
        self.version += 1
        new = kept.seq not in self._seen
        self._seen.add(kept.seq)
        said = Text("") if kept.hidden else kept.said()
        change = isinstance(said, (Edit, Delete, React))
        if not new and change is not (self.by_seq(kept.seq) is None):
            self._drop(kept.seq)  # judged anew, it is another kind of thing than it was taken for
        if isinstance(said, (Edit, Delete, React)):
            return self._change(kept, said, new=new)
        return Taken(kept, self._add(kept), new=new)

    def take_all(self, many: Iterable[Kept]) -> None:
        """Takes in many, as they come from the disk or a page of history."""
        for kept in many:
            self.take(kept)

    def keep_newest(self, count: int) -> None:
        """Lets go of all but the newest `count`; they are on disk."""
        if len(self._entries) <= count:
            return
        self.version += 1
        self.lost += 1
        gone, self._entries = self._entries[:-count], self._entries[-count:]
        least = self._entries[0].seq
        for entry in gone:
            self._touch(entry)
            self._unlink(entry)
            # What changed it is not older than what stays: it is there when the message comes back.
            self._loose.setdefault(entry.kept.id, []).extend(entry.changes)
        self._seen = {seq for seq in self._seen if seq >= least}
        self._loose = {
            id: left for id, some in self._loose.items() if (left := [change for change in some if change[0] >= least])
        }

    def _add(self, kept: Kept) -> Entry:
        known = self.by_seq(kept.seq)
        if known is None:
            known = Entry(kept)
            insort(self._entries, known, key=lambda entry: entry.seq)
        elif known.kept.id != kept.id:
            self._unlink(known)
            known.kept, known.changes = kept, []
        else:
            known.kept = kept
        self._link(known)
        if kept.hidden in ("", DELETED) and self._by_id.setdefault(kept.id, known) is known:
            # What is not shown is changed by nobody: a replay has the id of the genuine one.
            for change in self._loose.pop(kept.id, []):
                if not _why_not(known, change[1], change[2]):
                    _insert(known.changes, change)
        _blank(known)
        self._touch(known)
        return known

    def _link(self, entry: Entry) -> None:
        said = entry.kept.said()
        if isinstance(said, Text) and said.reply:
            answers = self._answers.setdefault(said.reply, [])
            if entry not in answers:
                answers.append(entry)

    def _unlink(self, entry: Entry) -> None:
        if self._by_id.get(entry.kept.id) is entry:
            del self._by_id[entry.kept.id]
        said = entry.kept.said()
        if isinstance(said, Text) and entry in self._answers.get(said.reply, ()):
            self._answers[said.reply].remove(entry)

    def _touch(self, entry: Entry) -> None:
        for each in (entry, *self._answers.get(entry.kept.id, ())):
            each.version = self.version

    def _drop(self, seq: int) -> None:
        """Takes back what number `seq` did, as a message or as a change."""
        entry = self.by_seq(seq)
        if entry is not None:
            self.lost += 1
            self._entries.remove(entry)
            self._unlink(entry)
            self._touch(entry)
            self._loose.setdefault(entry.kept.id, []).extend(entry.changes)
            return
        for entry in self._entries:
            left = [change for change in entry.changes if change[0] != seq]
            if len(left) < len(entry.changes):
                entry.changes = left
                self._touch(entry)
        self._loose = {id: [change for change in some if change[0] != seq] for id, some in self._loose.items()}

    def _change(self, kept: Kept, change: Change, *, new: bool) -> Taken:
        standing = self.by_seq(kept.seq)
        if standing is not None and standing.kept.hidden and standing.kept.id == kept.id:
            self._entries.remove(standing)  # what could not be read until now is a change of another message
        target = change.to if isinstance(change, React) else change.of
        entry = self._by_id.get(target)
        if entry is None:
            self._wait(target, (kept.seq, kept, change))
            return Taken(kept, None, change, new=new)
        refused = _why_not(entry, kept, change)
        if refused:
            return Taken(kept, entry, change, refused=refused, new=new)
        before = None if entry.deleted else entry.body
        _insert(entry.changes, (kept.seq, kept, change))
        _blank(entry)
        self._touch(entry)
        return Taken(kept, entry, change, before, new=new)

    def _wait(self, target: str, change: tuple[int, Kept, Change]) -> None:
        """A change waits for its message; where too many do, those that came first are let go: they are on disk."""
        _insert(self._loose.setdefault(target, []), change)
        while len(self._loose) > MAX_LOOSE:
            del self._loose[next(iter(self._loose))]


def _insert(changes: list[tuple[int, Kept, Change]], change: tuple[int, Kept, Change]) -> None:
    if all(change[0] != seq for seq, _, _ in changes):
        insort(changes, change, key=lambda one: one[0])
        if len(changes) > MAX_CHANGES:
            changes.remove(min(changes, key=lambda one: (_WEIGHT[type(one[2])], one[0])))


_WEIGHT: Final[dict[type, int]] = {React: 0, Edit: 1, Delete: 2}  # what goes first where there are too many


def _blank(entry: Entry) -> None:
    """What was taken back is not kept in memory either."""
    if entry.deleted:
        entry.kept = as_shown(entry)
        entry.changes = [(seq, _wordless(by, change), _without_text(change)) for seq, by, change in entry.changes]


def _without_text(change: Change) -> Change:
    return Edit(change.of, "") if isinstance(change, Edit) else change


def _wordless(by: Kept, change: Change) -> Kept:
    return structs.replace(by, body=to_text(_without_text(change))) if isinstance(change, Edit) else by


def _why_not(entry: Entry, by: Kept, change: Change) -> str:
    """Why a change does not count; "" where it does."""
    if by.seq < entry.seq:
        return "it names a message that came later"
    if isinstance(change, React):
        return ""
    if (entry.kept.sender, entry.kept.author) != (by.sender, by.author):
        if entry.kept.sender == by.sender:
            return f"the message is by another identity of {by.sender}"
        return f"the message is {entry.kept.sender}'s"
    return "the message was deleted before" if entry.deleted and isinstance(change, Edit) else ""


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


__all__ = [
    "DELETED",
    "MAX_CHANGES",
    "MAX_LOOSE",
    "Entry",
    "Kept",
    "Taken",
    "Timeline",
    "as_shown",
    "target_of",
    "to_keep",
]
