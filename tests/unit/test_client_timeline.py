"""Tests for what was said in one conversation, as it stands now."""

from __future__ import annotations

import random
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.kept import DELETED, Entry, Kept, Taken, as_shown, target_of, to_keep
from securechat.client.timeline import MAX_CHANGES, MAX_LOOSE, Timeline
from securechat.crypto.body import Action, Body, Code, Delete, Edit, React, Text, to_text

SEED: Final = 20261124


def name_of(seq: int) -> str:
    """The id of message number `seq`."""
    return f"{seq:064x}"


def kept(seq: int, sender: str, what: Body, **changes: Any) -> Kept:
    """Message number `seq`; its author is the first identity of that name. Of a hidden one nothing is kept."""
    shown = "hidden" not in changes
    fields = {"at": seq * 1000, "id": name_of(seq), "author": f"{sender} 1" if shown else "", **changes}
    return Kept(**{"seq": seq, "sender": sender, "body": to_text(what) if shown else "", **fields})


def state(timeline: Timeline) -> list[tuple[Any, ...]]:
    """All that is seen of a timeline."""
    found = []
    for entry in timeline:
        shown = as_shown(entry)
        reactions = {} if entry.deleted else entry.reactions
        found.append((shown, entry.deleted, entry.edited and not entry.deleted, reactions))
    return found


def fed(*many: Kept) -> Timeline:
    """A timeline that took these in."""
    timeline = Timeline()
    timeline.take_all(many)
    return timeline


class FloodTests(SynchronousTestCase):
    """Tests for changes of messages that are not here, in any number."""

    def test_many_of_one(self) -> None:
        """Of too many the reactions go first: what its author did to a message counts once it comes."""
        timeline = fed(kept(2, "alice", Delete(name_of(1))))
        timeline.take_all(kept(seq, "mallory", React(name_of(1), "+1")) for seq in range(3, MAX_CHANGES + 9))
        timeline.take(kept(1, "alice", Text("hello")))
        self.assertTrue(timeline[0].deleted)
        self.assertEqual(MAX_CHANGES, len(timeline[0].changes))

    def test_many(self) -> None:
        """Those of the newest messages are remembered, of the others none."""
        timeline = Timeline()
        for seq in range(2000, 2000 + MAX_LOOSE + 1):
            timeline.take(kept(seq, "bob", React(name_of(seq - 1999), "+1")))
        timeline.take_all(kept(seq, "alice", Text("hello")) for seq in (1, 2))
        self.assertEqual([{}, {"+1": ["bob"]}], [entry.reactions for entry in timeline])


class ChangeTests(SynchronousTestCase):
    """Tests for edits, deletions and reactions."""

    def setUp(self) -> None:
        self.timeline = fed(kept(1, "alice", Text("helo", name_of(9), ("bob",))))

    def take(self, seq: int, sender: str, what: Body, **changes: Any) -> Taken:
        """A message of somebody taken in."""
        return self.timeline.take(kept(seq, sender, what, **changes))

    @property
    def entry(self) -> Entry:
        """The message that is there."""
        return self.timeline[0]

    def test_edit(self) -> None:
        """The newest edit is what a message says; what it answers stays, whom it calls does not."""
        taken = self.take(2, "alice", Edit(name_of(1), "hello", ("carol",)))
        self.assertEqual(
            (self.entry, Text("helo", name_of(9), ("bob",)), ""), (taken.entry, taken.before, taken.refused)
        )
        self.take(3, "alice", Edit(name_of(1), "hello!"))
        self.assertEqual(Text("hello!", name_of(9)), self.entry.body)
        self.assertTrue(self.entry.edited and not self.entry.deleted)
        self.assertEqual(1, len(self.timeline))

    def test_kinds_stay(self) -> None:
        """An edited action is one still, and so is code in its language."""
        timeline = fed(
            kept(1, "alice", Action("wave", ("bob",))),
            kept(2, "alice", Code("x", "python")),
            kept(3, "alice", Edit(name_of(1), "waves")),
            kept(4, "alice", Edit(name_of(2), "y")),
        )
        self.assertEqual([Action("waves"), Code("y", "python")], [entry.body for entry in timeline])

    def test_delete(self) -> None:
        """A text that was taken back is in no part of what is kept, nor an edit of it, before or behind."""
        self.take(2, "alice", Edit(name_of(1), "secret two"))
        taken = self.take(3, "alice", Delete(name_of(1)))
        self.assertEqual(Text("secret two", name_of(9)), taken.before)
        late = self.take(4, "alice", Edit(name_of(1), "secret three"))
        self.assertEqual("the message was deleted before", late.refused)
        everything = repr([to_keep(taken), to_keep(late), self.entry.kept, self.entry.changes])
        self.assertNotIn("secret", everything)
        self.assertNotIn("helo", everything)
        self.assertTrue(self.entry.deleted)
        self.assertEqual({1, 2, 3}, {each.seq for each in to_keep(taken)})
        self.assertEqual([4], [each.seq for each in to_keep(late)])

    def test_given_again(self) -> None:
        """A server that gives a deleted message once more brings its text back neither to memory nor to disk."""
        self.take(3, "alice", Delete(name_of(1)))
        taken = self.take(1, "alice", Text("helo"))
        self.assertFalse(taken.new)
        self.assertEqual([DELETED], [each.hidden for each in to_keep(taken)])
        self.assertEqual(Text(""), self.entry.body)

    def test_edited_given_again(self) -> None:
        """An edited message that comes once more is kept with its new text."""
        self.take(2, "alice", Edit(name_of(1), "hello"))
        (again,) = to_keep(self.take(1, "alice", Text("helo")))
        self.assertEqual("hello", again.said().text)  # type: ignore[union-attr]  # it is a text

    def test_reaction_to_what_was_deleted(self) -> None:
        """It says nothing of what stood there."""
        self.take(2, "alice", Delete(name_of(1)))
        self.assertIsNone(self.take(3, "bob", React(name_of(1), "+1")).before)

    def test_reactions(self) -> None:
        """Each counts once a person and emoji, in the order of the first; taken back it is gone."""
        for seq, sender, emoji, off in (
            (2, "bob", "+1", False), (3, "carol", "+1", False), (4, "bob", "+1", False), (5, "bob", "ok", False),
            (6, "carol", "no", False), (7, "carol", "no", True), (8, "bob", "+1", True), (9, "dave", "+1", True),
        ):  # fmt: skip
            self.assertEqual("", self.take(seq, sender, React(name_of(1), emoji, off)).refused)
        self.assertEqual({"+1": ["carol"], "ok": ["bob"]}, self.entry.reactions)

    def test_wrong(self) -> None:
        """A change by another, by another identity of that name, or of a later message does not count."""
        self.take(5, "bob", Text("mine"))
        for seq, sender, body, why, changes in (
            (6, "bob", Edit(name_of(1), "x"), "the message is alice's", {}),
            (7, "bob", Delete(name_of(1)), "the message is alice's", {}),
            (8, "alice", Delete(name_of(1)), "the message is by another identity of alice", {"author": "alice 2"}),
            (9, "alice", Edit(name_of(1), "x"), "the message is by another identity of alice", {"author": "alice 2"}),
            (4, "bob", Edit(name_of(5), "x"), "it names a message that came later", {}),
            (3, "carol", React(name_of(5), "+1"), "it names a message that came later", {}),
        ):
            taken = self.take(seq, sender, body, **changes)
            self.assertEqual(why, taken.refused)
            self.assertEqual([seq], [each.seq for each in to_keep(taken)])
        self.assertEqual(["helo", "mine"], [entry.body.text for entry in self.timeline])
        self.assertEqual([[], []], [entry.changes for entry in self.timeline])

    def test_unknown(self) -> None:
        """A change of a message that is nowhere changes nothing and is no message."""
        taken = self.take(2, "bob", Delete("ee" * 32))
        self.assertEqual((None, ""), (taken.entry, taken.refused))
        self.assertEqual(1, len(self.timeline))
        self.assertTrue(self.timeline.has(2))

    def test_hidden(self) -> None:
        """What is not shown is changed by nobody, and a change that is not shown changes nothing."""
        self.take(2, "bob", Text("x"), hidden="REPLAY", id=name_of(1))
        self.take(3, "bob", Delete(name_of(1)), hidden="REPLAY")
        self.take(4, "alice", Edit(name_of(1), "hello"))
        self.assertEqual(["hello", "", ""], [entry.body.text for entry in self.timeline])
        self.assertEqual([False] * 3, [entry.deleted for entry in self.timeline])

    def test_judged_anew(self) -> None:
        """What could not be shown at first may be shown later: as a change, it is no message any more; and back."""
        hidden = kept(2, "alice", Text(""), hidden="IDENTITY_CHANGED", why="…")
        self.timeline.take(hidden)
        self.assertEqual(2, len(self.timeline))
        self.take(2, "alice", Edit(name_of(1), "hello"))
        self.assertEqual(["hello"], [entry.body.text for entry in self.timeline])
        self.timeline.take(hidden)
        self.assertEqual(["helo", ""], [entry.body.text for entry in self.timeline])
        self.assertFalse(self.entry.edited)

    def test_too_many(self) -> None:
        """Of thousands of changes the oldest reactions go first; a deletion never does."""
        self.take(2, "alice", Delete(name_of(1)))
        for seq in range(3, MAX_CHANGES + 10):
            self.take(seq, "bob", React(name_of(1), "+1"))
        self.assertEqual(MAX_CHANGES, len(self.entry.changes))
        self.assertTrue(self.entry.deleted)
        self.assertEqual([2, 11], [seq for seq, _, _ in self.entry.changes[:2]])

    def test_target(self) -> None:
        """Which message one changes is known of those alone that change one."""
        self.assertEqual(
            ["", name_of(1), name_of(2), name_of(3), ""],
            [
                target_of(kept(9, "a", Text("x", name_of(7)))),
                target_of(kept(9, "a", Edit(name_of(1), "x"))),
                target_of(kept(9, "a", Delete(name_of(2)))),
                target_of(kept(9, "a", React(name_of(3), "x"))),
                target_of(kept(9, "a", Delete(name_of(2)), hidden="REPLAY")),
            ],
        )


class OrderTests(SynchronousTestCase):
    """Tests for messages that come in any order."""

    def drawn(self, dice: random.Random) -> list[Kept]:
        """A conversation of three people, honest and not."""
        made: list[Kept] = []
        for seq in range(1, dice.randrange(4, 24)):
            sender = dice.choice(("alice", "bob", "carol"))
            target = name_of(dice.randrange(1, 26))
            body = dice.choice((
                Text(f"text {seq}"), Text(f"answer {seq}", target), Action(f"act {seq}"), Code(f"code {seq}"),
                Edit(target, f"edit {seq}"), Edit(target, f"edit {seq}"), Delete(target),
                React(target, dice.choice("+-")), React(target, "+", off=True),
            ))  # fmt: skip
            changes: dict[str, Any] = {"author": f"{sender} {dice.choice((1, 1, 1, 2))}"}
            if dice.random() < 0.1:
                changes |= {"hidden": "DAMAGED", "author": "", "why": "damaged"}
            made.append(kept(seq, sender, body, **changes))
        return made

    def test_any_order(self) -> None:
        """In whatever order, and however often, messages are taken in: the result is the same."""
        dice = random.Random(SEED)
        for _ in range(400):
            made = self.drawn(dice)
            expected = state(fed(*made))
            mixed = dice.sample(made, len(made)) + dice.sample(made, len(made) // 2)
            self.assertEqual(expected, state(fed(*mixed)), mixed)

    def test_from_disk(self) -> None:
        """What was kept, in the order in which that happened, gives the same after a restart."""
        dice = random.Random(SEED + 1)
        for _ in range(200):
            made = self.drawn(dice)
            timeline, disk = Timeline(), dict[int, Kept]()
            for each in made:
                disk |= {one.seq: one for one in to_keep(timeline.take(each))}
            again = fed(*(disk[seq] for seq in sorted(disk, reverse=True)))
            self.assertEqual(state(timeline), state(again), made)

    def test_let_go(self) -> None:
        """What was let go and comes back has the reactions that are newer than all that stayed."""
        many = [kept(seq, "alice", Text(f"{seq}")) for seq in range(1, 8)]
        many += [kept(8, "bob", React(name_of(2), "+1")), kept(9, "bob", React(name_of(7), "ok"))]
        timeline = fed(*many)
        expected = state(timeline)
        timeline.keep_newest(3)
        self.assertEqual(([5, 6, 7], 5), ([entry.seq for entry in timeline], timeline.first))
        self.assertFalse(timeline.has(4))
        timeline.take_all(many[:4])
        self.assertEqual(expected, state(timeline))

    def test_another_at_its_place(self) -> None:
        """A server that gives another message under a number: that one has nothing of the first."""
        timeline = fed(kept(1, "alice", Text("x")), kept(2, "alice", Edit(name_of(1), "y")))
        timeline.take(kept(1, "mallory", Text("z"), id="dd" * 32))
        self.assertEqual([("mallory", "z", False)], [(e.kept.sender, e.body.text, e.edited) for e in timeline])
        self.assertIsNone(timeline.by_id(name_of(1)))


class LookTests(SynchronousTestCase):
    """Tests for finding messages."""

    def setUp(self) -> None:
        self.timeline = fed(
            kept(2, "alice", Text("a")),
            kept(4, "bob", Text("b")),
            kept(5, "bob", React(name_of(2), "+1")),
            kept(7, "alice", Text(""), hidden="DAMAGED"),
            kept(9, "carol", Text("c")),
            kept(10, "carol", Delete(name_of(9))),
        )

    def seqs(self, *entries: Entry | None) -> list[int]:
        """Their numbers."""
        return [0 if entry is None else entry.seq for entry in entries]

    def test_places(self) -> None:
        """By number and id, before and behind one."""
        timeline = self.timeline
        self.assertEqual([4, 0, 0], self.seqs(*map(timeline.by_seq, (4, 5, 11))))
        self.assertEqual([2, 0], self.seqs(timeline.by_id(name_of(2)), timeline.by_id(name_of(7))))
        self.assertEqual([7, 9], self.seqs(*timeline.since(4)))
        self.assertEqual([4, 7], self.seqs(*timeline.before(9, 2)))
        self.assertEqual([2], self.seqs(*timeline.before(4, 5)))
        self.assertEqual((2, 0), (timeline.first, Timeline().first))

    def test_newest(self) -> None:
        """The newest that still stands, by or not by somebody."""
        newest = self.timeline.newest
        self.assertEqual(
            [4, 2, 2, 0, 0],
            self.seqs(newest(), newest(by="alice"), newest(not_by={"bob"}), newest(by="carol"), newest(by="dave")),
        )

    def test_speakers(self) -> None:
        """Who said something, the last one first; what is not shown was said by nobody."""
        self.assertEqual(["bob", "alice"], self.timeline.speakers())

    def test_version(self) -> None:
        """What changed since, and what answers it, is told by a number that only rises."""
        for change, expected in (
            (kept(11, "bob", Text("yes", name_of(2))), [11]),
            (kept(12, "alice", Edit(name_of(2), "A")), [2, 11]),
            (kept(1, "alice", Text("first")), [1]),
        ):
            before = self.timeline.version
            self.timeline.take(change)
            self.assertEqual(expected, self.seqs(*(entry for entry in self.timeline if entry.version > before)))

    def test_newer_client(self) -> None:
        """What a newer client kept in this profile stays as it is."""
        strange = kept(1, "alice", Text("x"), body='\0{"k":"poll"}')
        (same,) = to_keep(fed().take(strange))
        self.assertEqual(strange, same)
        self.assertEqual(Text(""), fed(strange)[0].body)


class HostileTests(SynchronousTestCase):
    """Tests for what a server or a member could do with messages that never were, or are given again."""

    def test_damaged_when_given_again(self) -> None:
        """What was read stays where the same number, given again, cannot be shown; also a change."""
        timeline = fed(kept(1, "bob", Text("one")), kept(2, "bob", Edit(name_of(1), "two")))
        for seq in (1, 2):
            self.assertTrue(timeline.outlasts(kept(seq, "bob", Text("x"), hidden="OTHER_TEXT")))
            self.assertFalse(timeline.outlasts(kept(seq, "bob", Text("x"))))
        self.assertFalse(timeline.outlasts(kept(3, "bob", Text("x"), hidden="OTHER_TEXT")))
        timeline.take(kept(3, "bob", Text("x"), hidden="OTHER_TEXT"))
        self.assertFalse(timeline.outlasts(kept(3, "bob", Text("x"), hidden="OTHER_TEXT")))

    def test_changes_of_nothing(self) -> None:
        """Changes of messages that are not here are remembered for a bounded number of them, each a bounded number."""
        timeline = Timeline()
        for seq in range(1, 2 * MAX_CHANGES):
            timeline.take(kept(seq, "bob", React(name_of(5000), "x")))
        for seq in range(10_000, 10_000 + 2 * MAX_LOOSE):
            timeline.take(kept(seq, "bob", React(name_of(seq + 50_000), "x")))
        self.assertLessEqual(len(timeline._loose), MAX_LOOSE)
        self.assertLessEqual(max(map(len, timeline._loose.values())), MAX_CHANGES)
