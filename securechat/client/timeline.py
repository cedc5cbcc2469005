"""What was said in one conversation, as it stands now: edits, deletions and reactions applied. Pure.

A change counts only for a message of this conversation; an edit and a deletion only by that message's own author, as
who they were then. In whatever order messages are given (history comes later than what is new), the result is the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from securechat.client.kept import DELETED, Entry, Kept, Taken, blank
from securechat.crypto.body import Change, Delete, Edit, React, Text

MAX_LOOSE: Final = 1000  # messages that are not here of which changes are remembered
MAX_CHANGES: Final = 1000  # kept for one message; of more, the oldest reactions do not count, then the oldest edits


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
        blank(known)
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
        blank(entry)
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
