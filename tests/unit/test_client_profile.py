"""Tests for the client's files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.profile import ClientDir, Profile, ProfileBusy
from securechat.crypto.keystore import Keystore, Slot
from securechat.errors import InvalidKey
from securechat.link import ConnectLine
from tests.doubles import SRV

LINE = ConnectLine("chat.example", 12345)


def keystore(user: str = "alice", salt: bytes = b"s" * 16) -> Keystore:
    """A keystore that nothing opens."""
    return Keystore(SRV, user, (Slot(salt, b"sealed"),), b"box")


class DirCase(SynchronousTestCase):
    """An empty place for a data directory."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "deep" / "data"
        self.directory = ClientDir(self.path)

    def mode(self, path: Path) -> int:
        """Who may do what with a file."""
        return stat.S_IMODE(path.stat().st_mode)


class ProfileTests(DirCase):
    """Tests for one account's place."""

    def setUp(self) -> None:
        super().setUp()
        self.profile = self.directory.profile(SRV, "alice")

    def lock(self, profile: Profile | None = None) -> int:
        """Takes a profile, until the end of the test."""
        descriptor = (profile or self.profile).lock()
        self.addCleanup(os.close, descriptor)
        return descriptor

    def test_place(self) -> None:
        """Each account on each server has a place of its own, which is not made by looking."""
        self.assertEqual(self.path / "servers" / SRV / "alice", self.profile.path)
        self.assertFalse(self.profile.exists())
        self.assertIsNone(self.profile.read_keystore())
        self.assertFalse(self.path.exists())

    def test_lock(self) -> None:
        """A profile is taken by one process at a time; who comes second hears how to go on."""
        self.lock()
        with self.assertRaises(ProfileBusy) as caught:
            self.profile.lock()
        self.assertIn("alice is open in another SecureChat", str(caught.exception))
        self.assertIn("--data-dir", str(caught.exception))

    def test_let_go(self) -> None:
        """A profile that was let go can be taken again; others are free all the time."""
        os.close(self.profile.lock())
        self.lock()
        self.lock(self.directory.profile(SRV, "bob"))

    def test_private(self) -> None:
        """The directory and all in it are for their owner alone."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.lock()
        self.profile.write_keystore(keystore())
        self.assertEqual(0o700, self.mode(self.profile.path))
        for file in self.profile.path.iterdir():
            self.assertEqual(0o600, self.mode(file), file)

    def test_pending(self) -> None:
        """A registration's keystore is there before the answer, and gone after a refusal."""
        self.lock()
        self.profile.write_pending(keystore())
        self.assertTrue(self.profile.exists())
        self.assertEqual(keystore(), self.profile.read_keystore())
        self.profile.drop_pending()
        self.assertFalse(self.profile.exists())
        self.profile.drop_pending()

    def test_settled(self) -> None:
        """The keystore for good takes the place of the pending one."""
        self.lock()
        self.profile.write_pending(keystore())
        self.profile.write_keystore(keystore(salt=b"t" * 16))
        self.assertEqual(keystore(salt=b"t" * 16), self.profile.read_keystore())
        self.assertEqual(["keystore.json", "lock"], sorted(f.name for f in self.profile.path.iterdir()))

    def test_good_before_pending(self) -> None:
        """A pending one beside it does not hide the keystore for good."""
        self.lock()
        self.profile.write_keystore(keystore())
        self.profile.write_pending(keystore(salt=b"t" * 16))
        self.assertEqual(keystore(), self.profile.read_keystore())

    def test_of_another_account(self) -> None:
        """A keystore that was copied to another account's place is refused."""
        self.lock()
        self.profile.write_keystore(keystore("bob"))
        with self.assertRaisesRegex(InvalidKey, "belongs to another account"):
            self.profile.read_keystore()

    def test_damaged(self) -> None:
        """A file that is no keystore is refused."""
        self.lock()
        for content in (b"", b"{", b"[]", b"{}", b'{"t":"sc/keystore","v":2}', b"\xff"):
            self.profile.write_keystore(keystore())
            (self.profile.path / "keystore.json").write_bytes(content)
            with self.assertRaises(InvalidKey):
                self.profile.read_keystore()

    def test_users(self) -> None:
        """The accounts of a server are those with keys here, a pending registration among them."""
        self.assertEqual(([], False), (self.directory.users(SRV), self.directory.any_account()))
        for user in ("carol", "alice", "bob"):
            profile = self.directory.profile(SRV, user)
            os.close(profile.lock())
            if user == "carol":
                self.assertFalse(self.directory.any_account())
        self.directory.profile(SRV, "alice").write_keystore(keystore())
        self.directory.profile(SRV, "bob").write_pending(keystore("bob"))
        self.assertEqual((["alice", "bob"], True), (self.directory.users(SRV), self.directory.any_account()))
        self.assertEqual([], self.directory.users("x" * 43))


class KnownTests(DirCase):
    """Tests for which servers are known."""

    def test_nothing(self) -> None:
        """At first nothing is known, and looking makes no file."""
        self.assertEqual((None, None), (self.directory.last_line(), self.directory.known_id("chat.example", 12345)))
        self.assertFalse(self.path.exists())

    def test_remembered(self) -> None:
        """A server is known by its address, and another reader of the directory sees it at once."""
        other = ClientDir(self.path)
        self.directory.remember(LINE.known(SRV))
        self.assertEqual(SRV, other.known_id("chat.example", 12345))
        self.assertIsNone(other.known_id("chat.example", 1))
        self.assertEqual(0o600, self.mode(self.path / "known.json"))

    def test_last_line(self) -> None:
        """The last server is offered by its address alone: who answers there is held against what is known of it."""
        self.directory.remember(ConnectLine("::1", 1, tls=False).known("o" * 43))
        self.assertEqual(ConnectLine("::1", 1, tls=False), self.directory.last_line())
        self.directory.remember(LINE.known(SRV))
        self.assertEqual(LINE, self.directory.last_line())
        self.assertEqual("o" * 43, self.directory.known_id("::1", 1))

    def test_last_line_without_its_server(self) -> None:
        """Where the list of servers lost it, the id of the last line still counts."""
        self.directory.remember(LINE.known(SRV))
        known = json.loads((self.path / "known.json").read_bytes())
        (self.path / "known.json").write_text(json.dumps(known | {"servers": {}}))
        self.assertEqual(LINE.known(SRV), self.directory.last_line())

    def test_another_at_the_same_place(self) -> None:
        """Who is remembered later at an address replaces who was there."""
        self.directory.remember(LINE.known("o" * 43))
        self.directory.remember(LINE.known(SRV))
        self.assertEqual(SRV, self.directory.known_id("chat.example", 12345))

    def test_not_written_twice(self) -> None:
        """What is known already is not written again."""
        self.directory.remember(LINE.known(SRV))
        before = (self.path / "known.json").stat().st_ino
        self.directory.remember(LINE.known(SRV))
        self.assertEqual(before, (self.path / "known.json").stat().st_ino)

    def test_damaged(self) -> None:
        """A damaged file is as none, and is mended by the next server."""
        self.directory.remember(LINE.known(SRV))
        for content in (
            b"",
            b"{",
            b"[]",
            b"\xff",
            b'{"last":7,"servers":[]}',
            b'{"last":"http://x","servers":{"chat.example:12345":7}}',
        ):
            (self.path / "known.json").write_bytes(content)
            self.assertIsNone(self.directory.last_line(), content)
            self.assertIsNone(self.directory.known_id("chat.example", 12345), content)
            self.directory.remember(LINE.known(SRV))
            self.assertEqual(SRV, self.directory.known_id("chat.example", 12345), content)
