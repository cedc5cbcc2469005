"""Tests for notes over the wire: stored, told to one's own other connections, read back."""

from __future__ import annotations

from typing import Any

from securechat.errors import RATE_LIMITED
from securechat.wire import limits
from securechat.wire import messages as m
from tests.doubles import ServerCase, hex_id


def note(word: str, blob: bytes = b"sealed", **fields: Any) -> m.PutNote:
    """A note whose name follows from a word."""
    return m.PutNote(name=hex_id(word), blob=blob, **fields)


class NoteTests(ServerCase):
    """Tests for `note` and `notes`."""

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")

    def test_stored(self) -> None:
        """What was stored is read back by another device, by version."""
        self.assertEqual(m.NoteOk(id=3, version=1), self.alices.ask(note("a", id=3)))
        self.assertEqual(m.NoteOk(version=2), self.alices.ask(note("b", b"other")))
        second = self.second_device(self.alice)
        first = m.StoredNote(name=hex_id("a"), version=1, blob=b"sealed")
        other = m.StoredNote(name=hex_id("b"), version=2, blob=b"other")
        self.assertEqual(m.NotesOk(id=4, notes=(first, other)), second.ask(m.Notes(id=4)))
        self.assertEqual((other,), second.ask(m.Notes(after=1)).notes)

    def test_told(self) -> None:
        """The account's other connections are told, once they have synced; the one it is from, and others, are not."""
        second = self.second_device(self.alice)
        third = self.again(self.alice, 1, sync=False)
        self.bobs.take()
        second.ask(note("a"))
        third.ask(m.Sync())
        second.ask(note("b"))
        expected = m.NoteEvent(name=hex_id("b"), version=2, blob=b"sealed")
        self.assertEqual([expected], third.take(m.NoteEvent))
        self.assertEqual([], [*second.take(m.NoteEvent), *self.bobs.take()])

    def test_pages(self) -> None:
        """What is more than a page is read page by page, each within its bytes, up to its end."""
        for word in range(25):
            self.alices.ask(note(str(word), bytes(limits.MAX_NOTE)))
        versions: list[int] = []
        sizes: list[int] = []
        more = True
        while more:
            page = self.alices.ask(m.Notes(after=versions[-1] if versions else 0))
            versions += [one.version for one in page.notes]
            sizes.append(sum(len(one.blob) for one in page.notes))
            more = page.more
        self.assertEqual([*range(1, 26)], versions)
        self.assertEqual(3, len(sizes))
        self.assertLessEqual(max(sizes), limits.PAGE_BYTES)

    def test_bounded(self) -> None:
        """An account keeps no more than a megabyte, whatever it stores."""
        for word in range(60):
            self.alices.ask(note(str(word), bytes(limits.MAX_NOTE)))
        (size,) = self.writer.connection.execute("SELECT sum(size) FROM note").fetchone()
        self.assertEqual(limits.MAX_NOTES_BYTES // limits.MAX_NOTE * limits.MAX_NOTE, size)

    def test_rate(self) -> None:
        """An account that stores too fast, by however many connections, is told when it may again; others are not."""
        second = self.second_device(self.alice)
        for number in range(int(limits.NOTE_BURST)):
            (second if number % 2 else self.alices).ask(note("a"))
        self.assertFailed(RATE_LIMITED, second.ask(note("a")), retry_after=2.0)
        self.assertEqual(m.NoteOk(version=1), self.bobs.ask(note("a")))
        self.reactor.advance(2)
        self.assertEqual(m.NoteOk(version=101), second.ask(note("a")))

    def test_new_identity(self) -> None:
        """The reset of an identity leaves none: nobody could open them."""
        self.alices.ask(note("a"))
        other = type(self.alice)("alice", generation=2)
        reset = m.ResetIdentity(
            password=self.login_of(self.alice, self.alices).password,
            keys=m.KeyBundle.of(other.bundle()),
            backup=m.Backup(version=1, blob=b"x"),
        )
        self.assertIsInstance(self.alices.ask(reset), m.LoginOk)
        self.assertEqual(m.NotesOk(notes=()), self.alices.ask(m.Notes()))
