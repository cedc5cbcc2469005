"""Tests for notes as they are stored: one of each name, in the order they came, no more than an account may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from securechat.storage.interface import Backup, Note
from tests.doubles import StoreCase, hex_id, new_keys

PAGE: Final = 1 << 20


class NoteCase(StoreCase):
    """Tests of the notes of alice, who may have four of them, and 100 bytes."""

    def setUp(self) -> None:
        super().setUp()
        self.successResultOf(self.store.close())
        self.store = self.make_store(max_notes=4, max_notes_bytes=100)
        self.register("alice", "bob")

    def put(self, word: str, blob: bytes = b"x", user: str = "alice") -> int:
        """Stores a note whose name follows from a word; its version."""
        return self.do(self.store.put_note(user, hex_id(word), blob))

    def notes(self, after: int = 0, max_bytes: int = PAGE, user: str = "alice") -> Sequence[Note]:
        """A page of notes."""
        return self.do(self.store.notes(user, after=after, max_bytes=max_bytes)).notes

    def versions(self, after: int = 0) -> list[int]:
        """The versions of all notes."""
        return [note.version for note in self.notes(after)]


class PutTests(NoteCase):
    """Tests for what is stored."""

    def test_counts(self) -> None:
        """Versions count an account's notes from 1, whatever others do."""
        self.assertEqual([1, 2, 1, 3], [self.put("a"), self.put("b"), self.put("a", user="bob"), self.put("a")])

    def test_newest_of_a_name(self) -> None:
        """A newer note takes the place of the one of its name, and comes behind all others."""
        self.put("a", b"first")
        self.put("b", b"other")
        self.put("a", b"second")
        self.assertEqual([Note(hex_id("b"), 2, b"other"), Note(hex_id("a"), 3, b"second")], list(self.notes()))

    def test_own_alone(self) -> None:
        """Nobody gets another account's notes, also under the same name."""
        self.put("a", b"alice's")
        self.put("a", b"bob's", user="bob")
        self.assertEqual([b"bob's"], [note.blob for note in self.notes(user="bob")])

    def test_too_many(self) -> None:
        """One too many takes the place of that which is longest unchanged."""
        for word in "abcd":
            self.put(word)
        self.put("a")
        self.put("e")
        self.assertEqual([3, 4, 5, 6], self.versions())

    def test_too_long(self) -> None:
        """So does one for which there are too many bytes, of as many as it needs."""
        for word in "abc":
            self.put(word, bytes(33))
        self.put("d", bytes(1))
        self.assertEqual([1, 2, 3, 4], self.versions())
        self.put("d", bytes(60))
        self.assertEqual([3, 5], self.versions())

    def test_replaced_first(self) -> None:
        """The note that is replaced does not count any more."""
        self.put("a", bytes(60))
        self.put("b", bytes(40))
        self.put("a", bytes(60))
        self.assertEqual([2, 3], self.versions())

    def test_new_identity(self) -> None:
        """With a new identity all are gone, and numbers go on: a device that had come to one misses none."""
        for word in "abc":
            self.put(word)
        keys = new_keys("alice", generation=2)
        self.do(self.store.reset_identity("alice", keys, backup=Backup(1, b"x"), now=1))
        self.assertEqual([], self.versions())
        self.assertEqual(4, self.put("a"))
        self.assertEqual([4], self.versions(3))

    def test_deleted(self) -> None:
        """With the account they are gone."""
        self.put("a")
        self.put("a", user="bob")
        self.do(self.store.delete_user("alice", now=1))
        self.assertEqual(([], 1), (self.versions(), len(self.notes(user="bob"))))

    def test_nothing_readable(self) -> None:
        """What is on disk is sealed once more."""
        self.put("a", b"the very bytes of a client")
        (sealed,) = self.writer.connection.execute("SELECT sealed FROM note").fetchone()
        self.assertNotIn(b"the very bytes", sealed)


class ReadTests(NoteCase):
    """Tests for pages."""

    def setUp(self) -> None:
        super().setUp()
        for word in "abc":
            self.put(word, bytes(30))

    def test_after(self) -> None:
        """A page begins behind the version that is named."""
        self.assertEqual([[1, 2, 3], [2, 3], [], []], [self.versions(after) for after in (0, 1, 3, 99)])

    def test_bytes(self) -> None:
        """A page ends where it has enough bytes, but has one note at least, and says whether there are more."""
        for max_bytes, expected in ((1, (1, True)), (60, (2, True)), (89, (2, True)), (90, (3, False))):
            page = self.do(self.store.notes("alice", after=0, max_bytes=max_bytes))
            self.assertEqual(expected, (len(page.notes), page.more), max_bytes)

    def test_damaged(self) -> None:
        """One that does not check out, or was put in another's place, hides no other; the next of its name heals it."""
        connection = self.writer.connection
        connection.execute("UPDATE note SET version = 9 WHERE version = 1")
        connection.execute("UPDATE note SET sealed = zeroblob(100) WHERE version = 2")
        self.assertEqual([3], self.versions())
        self.put("b")
        self.assertEqual([3, 4], self.versions())
