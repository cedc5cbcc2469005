"""Tests for notes: what an account's devices share opens for them alone, and only as what it was written."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.notes import KID_BYTES, MAX_PLAINTEXT, STEP, NoteKeys, note_name, open_note, seal_note
from securechat.errors import InvalidKey, WrongSecret
from securechat.wire import limits
from tests.doubles import SRV, flipped, rsa_key

OLD, NEW = NoteKeys.of([rsa_key(0)]), NoteKeys.of([rsa_key(1), rsa_key(0)])
NAME = note_name(OLD, "draft", "ops")


def sealed(plaintext: bytes = b"half a sen", keys: NoteKeys = OLD, **changes: Any) -> bytes:
    """A note of alice's."""
    return seal_note(keys, NAME, plaintext, **{"srv": SRV, "user": "alice", "nonce": bytes(12)} | changes)


def opened(blob: bytes, keys: NoteKeys = OLD, name: str = NAME, **changes: Any) -> bytes:
    """What alice finds in it."""
    return open_note(keys, name, blob, **{"srv": SRV, "user": "alice"} | changes)


class SealingTests(SynchronousTestCase):
    """Tests for what is in a note."""

    def test_round_trip(self) -> None:
        """What is sealed opens as it was, also nothing, and as much as there may be."""
        for plaintext in (b"", b"x", b"\0", "Grüße".encode(), bytes(MAX_PLAINTEXT)):
            self.assertEqual(plaintext, opened(sealed(plaintext)))

    def test_length(self) -> None:
        """Of its length shows only in which step it is, and the longest is within the limit of the wire."""
        self.assertEqual(len(sealed(b"")), len(sealed(bytes(STEP - 4))))
        self.assertEqual(STEP, len(sealed(bytes(STEP - 3))) - len(sealed(b"")))
        self.assertLessEqual(len(sealed(bytes(MAX_PLAINTEXT))), limits.MAX_NOTE)
        self.assertGreater(len(sealed(bytes(MAX_PLAINTEXT))) + STEP, limits.MAX_NOTE)

    def test_too_long(self) -> None:
        """One that would not fit is refused before it is sealed."""
        self.assertRaises(ValueError, sealed, bytes(MAX_PLAINTEXT + 1))

    def test_elsewhere(self) -> None:
        """A note put in another's place, or given as another user's or server's, does not open."""
        blob = sealed()
        other = note_name(OLD, "draft", "general")
        for changes in ({"name": other}, {"user": "bob"}, {"srv": SRV[::-1]}):
            self.assertRaises(WrongSecret, opened, blob, **changes)

    def test_altered(self) -> None:
        """No byte of it can be another."""
        blob = sealed()
        for at in range(len(blob)):
            self.assertRaises(InvalidKey if at < KID_BYTES else WrongSecret, opened, flipped(blob, 8 * at))

    def test_cut_short(self) -> None:
        """No part of it opens."""
        blob = sealed()
        for size in range(len(blob)):
            self.assertRaises(InvalidKey if size < KID_BYTES else WrongSecret, opened, blob[:size])

    def test_other_padding(self) -> None:
        """What was sealed by the right key, but not as notes are, is none."""
        kid = p.key_id(p.rsa_public_der(rsa_key(0).public_key()))
        associated = p.digest("note", SRV.encode(), b"alice", bytes.fromhex(NAME))
        for plain in (b"", b"\0\0\0", b"\0\0\0\2x", b"\0\0\0\1xy", b"\xff\xff\xff\xffx"):
            blob = bytes.fromhex(kid) + p.seal(OLD.sealing[kid], plain, associated, bytes(12))
            self.assertRaises(WrongSecret, opened, blob)

    def test_nothing_shows(self) -> None:
        """The keys are in no representation of them."""
        self.assertNotIn(repr(OLD.naming), repr(OLD))
        self.assertNotIn("sealing", repr(OLD))


class KeyTests(SynchronousTestCase):
    """Tests for which of an account's RSA keys does what."""

    def test_newest_seals(self) -> None:
        """What is new is sealed by the newest key, and says so; a device without it learns that it lacks a key."""
        blob = sealed(keys=NEW)
        self.assertEqual(p.key_id(p.rsa_public_der(rsa_key(1).public_key())), blob[:KID_BYTES].hex())
        self.assertEqual(b"half a sen", opened(blob, NEW))
        self.assertRaises(InvalidKey, opened, blob, OLD)

    def test_older_opens(self) -> None:
        """What was sealed before the keys changed still opens."""
        self.assertEqual(b"half a sen", opened(sealed(), NEW))

    def test_names_stay(self) -> None:
        """The names of notes are the same after the keys have changed."""
        self.assertEqual(NAME, note_name(NEW, "draft", "ops"))

    def test_names_differ(self) -> None:
        """Each kind and subject has a name of its own, however they are cut, and another account has others."""
        named = [("draft", "ops"), ("draft", "op"), ("drafto", "ps"), ("read", "ops"), ("draft", ""), ("", "draft")]
        names = {note_name(OLD, kind, subject) for kind, subject in named}
        self.assertEqual(len(named), len(names))
        self.assertNotIn(note_name(NoteKeys.of([rsa_key(2)]), "draft", "ops"), names)

    def test_other_account(self) -> None:
        """An account with other keys opens none."""
        self.assertRaises(InvalidKey, opened, sealed(), NoteKeys.of([rsa_key(2)]))

    def test_key_of_another(self) -> None:
        """A note whose key id was exchanged does not open by the key that it names."""
        blob = sealed()
        self.assertRaises(WrongSecret, opened, sealed(keys=NEW)[:KID_BYTES] + blob[KID_BYTES:], NEW)
