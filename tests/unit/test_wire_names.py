"""Tests for names: one canonical form, and nothing else."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from securechat.wire.names import CONVERSATION_PATTERN, NAME_PATTERN, fold_room, fold_user, is_private

GOOD = ("a", "0", "alice", "a.b_c-d", "a" * 32, "9-", "a..", "x_-.")
WRONG = (
    "", " ", "a b", "a" * 33, "-a", ".a", "_a", "a\n", "\na", "a:b", "pm:" + "0" * 64, "a/b", "a\\b", "a\0", "a\u200b",
    # Among others: a Kelvin sign, which folds to k, dotless i, a Cyrillic a, a full-width 1, an accent of its own.
    "é", "ß", "ﬀ", "\u212a", "\u0131", "İ", "\u0430", "\uff11", "a\u0301", "a@b", "a#b",
)  # fmt: skip


class NameTests(SynchronousTestCase):
    """Tests for `fold_user` and `fold_room`."""

    def test_good(self) -> None:
        """A name in canonical form stays as it is."""
        for name in GOOD:
            self.assertEqual((name, name), (fold_user(name), fold_room(name)))

    def test_wrong(self) -> None:
        """Nothing else is a name: no letters that look like others, none that fold into ASCII."""
        for name in WRONG:
            self.assertEqual((None, None), (fold_user(name), fold_room(name)), name)

    def test_case(self) -> None:
        """Case is folded."""
        self.assertEqual(("alice", "ops-2"), (fold_user("ALICE"), fold_room("Ops-2")))

    def test_marks(self) -> None:
        """One leading @ of a user, one leading # of a room, and neither of the other."""
        self.assertEqual(("alice", "ops"), (fold_user("@alice"), fold_room("#Ops")))
        self.assertEqual(
            (None, None, None, None), (fold_user("#alice"), fold_room("@ops"), fold_user("@@a"), fold_room("##a"))
        )

    def test_folding_twice(self) -> None:
        """A folded name folds to itself."""
        for name in (*GOOD, "ALICE", "@Bob"):
            folded = fold_user(name)
            assert folded is not None
            self.assertEqual(folded, fold_user(folded))

    def test_same_as_the_pattern(self) -> None:
        """What folds to itself is what the wire takes."""
        for name in (*GOOD, *WRONG):
            self.assertEqual(bool(re.match(NAME_PATTERN, name)), fold_user(name) == name, name)


class ConversationTests(SynchronousTestCase):
    """Tests for the names of conversations."""

    def test_private(self) -> None:
        """A private conversation is told from a room by its prefix, which no room can have."""
        self.assertTrue(is_private("pm:" + "0" * 64))
        self.assertFalse(is_private("pm"))
        for name in GOOD:
            self.assertFalse(is_private(name))
        self.assertIs(None, fold_room("pm:x"))

    def test_pattern(self) -> None:
        """Rooms, and `pm:` with 64 hex digits."""
        for name in (*GOOD, "pm:" + "0" * 64, "pm:" + "f" * 64):
            self.assertTrue(re.match(CONVERSATION_PATTERN, name), name)
        for name in (
            "pm:",
            "pm:" + "0" * 63,
            "pm:" + "0" * 65,
            "pm:" + "F" * 64,
            "PM:" + "0" * 64,
            "pm:" + "0" * 64 + "\n",
        ):
            self.assertFalse(re.match(CONVERSATION_PATTERN, name), name)
