"""Tests for the server's own layer over what it stores."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer, new_key_file
from securechat.errors import AtRestMismatch, StartupError
from tests.cast import flipped


class KeyFileTests(SynchronousTestCase):
    """Tests for the key file and what it wraps."""

    def test_wraps_and_unwraps(self) -> None:
        """A data key comes back under the key file that wrapped it, read again."""
        key_file = new_key_file()
        wrapped = KeyEncryptionKeys(key_file).wrap_new()
        dek = KeyEncryptionKeys(key_file).unwrap(wrapped)
        self.assertEqual(b"x", KeyEncryptionKeys(key_file).unwrap(wrapped).decrypt(dek.encrypt(b"x")))

    def test_new_files_differ(self) -> None:
        """Each new key file has a key of its own, and so has each data key."""
        self.assertNotEqual(new_key_file(), new_key_file())
        kek = KeyEncryptionKeys(new_key_file())
        one, two = kek.unwrap(kek.wrap_new()), kek.unwrap(kek.wrap_new())
        self.assertRaises(InvalidToken, two.decrypt, one.encrypt(b"x"))

    def test_wrong_key(self) -> None:
        """Another key file does not unwrap it, and the text says which one would."""
        wrapped = KeyEncryptionKeys(new_key_file()).wrap_new()
        error = self.assertRaises(StartupError, KeyEncryptionKeys(new_key_file()).unwrap, wrapped)
        self.assertIn("--key-file", str(error))

    def test_altered_wrapping(self) -> None:
        """A wrapped key with one bit changed, or none at all, is refused the same way."""
        kek = KeyEncryptionKeys(new_key_file())
        raw = base64.urlsafe_b64decode(kek.wrap_new())
        for bit in (0, 80, 300, 8 * len(raw) - 1):
            self.assertRaises(StartupError, kek.unwrap, base64.urlsafe_b64encode(flipped(raw, bit)))
        self.assertRaises(StartupError, kek.unwrap, b"")

    def test_rotation(self) -> None:
        """With a new key in front, what the old one wrapped still opens; the new one wraps."""
        old, new = (new_key_file().splitlines()[-1] for _ in range(2))
        wrapped = KeyEncryptionKeys(old).wrap_new()
        both = KeyEncryptionKeys(f"{new}\n{old}\n")
        both.unwrap(wrapped)
        KeyEncryptionKeys(new).unwrap(both.wrap_new())
        self.assertRaises(StartupError, KeyEncryptionKeys(old).unwrap, both.wrap_new())

    def test_comments_and_space(self) -> None:
        """Comments, blank lines and white space around a key are nothing."""
        key = new_key_file().splitlines()[-1]
        wrapped = KeyEncryptionKeys(key).wrap_new()
        KeyEncryptionKeys(f"# old\r\n\r\n  {key}  \r\n#{key}\n").unwrap(wrapped)

    def test_empty(self) -> None:
        """A file without a key is refused, with what to do."""
        for content in ("", "\n", "# only a comment\n"):
            error = self.assertRaises(StartupError, KeyEncryptionKeys, content)
            self.assertIn("empty", str(error))

    def test_damaged(self) -> None:
        """A line that is no key is refused, with what to do, and is not repeated in the text."""
        key = new_key_file().splitlines()[-1]
        for line in (key[:-2], key[:-1] + "A", key[:-1], "not a key", "\ufffd" * 44, "=" * 44):
            error = self.assertRaises(StartupError, KeyEncryptionKeys, f"{key}\n{line}\n")
            self.assertIn("damaged", str(error))
            self.assertNotIn(line, str(error))

    def test_repr(self) -> None:
        """Their reprs give away nothing."""
        key_file = new_key_file()
        self.assertEqual("<KeyEncryptionKeys>", repr(KeyEncryptionKeys(key_file)))
        self.assertEqual("<RowSealer>", repr(RowSealer({1: Fernet(Fernet.generate_key())}, 1)))

    def test_header_says_what_it_is(self) -> None:
        """The file says in a comment what whoever has it can do."""
        first, *keys = new_key_file().splitlines()
        self.assertTrue(first.startswith("# SecureChat at-rest key"))
        self.assertEqual(1, len(keys))


class RowSealerTests(SynchronousTestCase):
    """Tests for `RowSealer`."""

    deks = {1: Fernet(Fernet.generate_key()), 2: Fernet(Fernet.generate_key())}
    sealer = RowSealer(deks, 2)

    def test_round_trip(self) -> None:
        """A row opens where it was sealed, newlines and all."""
        for body in (b"", b"body", b"\n", b"a\nb\n", bytes(range(256))):
            token = self.sealer.seal(b"message general 1", body)
            self.assertEqual(body, self.sealer.open(2, b"message general 1", token))

    def test_moved(self) -> None:
        """A row moved to another room or number, or to one whose name begins the same, is refused."""
        token = self.sealer.seal(b"message general 1", b"body")
        for place in (
            b"message general 2",
            b"message ops 1",
            b"message general 11",
            b"message general ",
            b"",
            b"message",
        ):
            error = self.assertRaises(AtRestMismatch, self.sealer.open, 2, place, token)
            self.assertIn("moved", str(error))

    def test_body_is_no_place(self) -> None:
        """A body that looks like a place does not make the row one of that place."""
        token = self.sealer.seal(b"message general 1", b"message general 2\nbody")
        self.assertRaises(AtRestMismatch, self.sealer.open, 2, b"message general 1\nmessage general 2x", token)
        self.assertRaises(AtRestMismatch, self.sealer.open, 2, b"message general 2", token)

    def test_newest_key_seals(self) -> None:
        """New rows are sealed under the newest data key; older rows open under theirs."""
        old = RowSealer(self.deks, 1).seal(b"place", b"old")
        new = self.sealer.seal(b"place", b"new")
        self.assertEqual([b"old", b"new"], [self.sealer.open(1, b"place", old), self.sealer.open(2, b"place", new)])
        self.assertEqual(2, self.sealer.newest)

    def test_other_key(self) -> None:
        """A row under another data key than its column says, or one that is gone, is refused."""
        token = self.sealer.seal(b"place", b"body")
        for dek in (1, 3):
            self.assertRaises(AtRestMismatch, self.sealer.open, dek, b"place", token)

    def test_altered(self) -> None:
        """One bit changed, or a token cut short, is refused."""
        raw = base64.urlsafe_b64decode(self.sealer.seal(b"place", b"body"))
        for bit in (0, 80, 300, 8 * len(raw) - 1):
            altered = base64.urlsafe_b64encode(flipped(raw, bit))
            self.assertRaises(AtRestMismatch, self.sealer.open, 2, b"place", altered)
        for token in (b"", b"x", base64.urlsafe_b64encode(raw[:-1])):
            self.assertRaises(AtRestMismatch, self.sealer.open, 2, b"place", token)

    def test_no_time_inside(self) -> None:
        """A token shows no time: its stamp is 0."""
        raw = base64.urlsafe_b64decode(self.sealer.seal(b"place", b"body"))
        self.assertEqual(b"\x80" + bytes(8), raw[:9])
