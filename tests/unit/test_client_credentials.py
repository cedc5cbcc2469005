"""Tests for who logs in without typing, and where the password comes from."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.credentials import MOST, NoPassword, WhichAccount, choose_user, find_password
from securechat.client.profile import ClientDir
from securechat.errors import Exit
from securechat.link import ConnectLine
from tests.doubles import SRV

LINE = ConnectLine("chat.example", 1)


class PasswordTests(SynchronousTestCase):
    """Tests for `find_password`."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def file(self, content: str | bytes, mode: int = 0o600, name: str = "pw") -> str:
        """A password file."""
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return str(path)

    def descriptor(self, content: bytes) -> int:
        """A pipe with something in it, whose other end is closed."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, content)
        os.close(writing)
        return reading

    def test_nowhere(self) -> None:
        """Where no place is named there is none; an empty variable names none."""
        environ = {"SECURECHAT_PASSWORD_FILE": "", "CREDENTIALS_DIRECTORY": str(self.directory)}
        self.assertIsNone(find_password(None, None, {}))
        self.assertIsNone(find_password(None, None, environ))

    def test_file(self) -> None:
        """A file holds it in one line; one line ending is not part of it, blanks are."""
        for content in (" pass word ", " pass word \n", " pass word \r\n"):
            self.assertEqual(" pass word ", find_password(self.file(content), None, {}))

    def test_precedence(self) -> None:
        """Options come before the environment, that before systemd."""
        option, variable = self.file("from option"), self.file("from variable", name="variable")
        self.file("from systemd", name="securechat.password")
        environ = {"CREDENTIALS_DIRECTORY": str(self.directory)}
        self.assertEqual("from systemd", find_password(None, None, environ))
        environ["SECURECHAT_PASSWORD_FILE"] = variable
        self.assertEqual("from variable", find_password(None, None, environ))
        self.assertEqual("from descriptor", find_password(None, self.descriptor(b"from descriptor\n"), environ))
        self.assertEqual("from option", find_password(option, None, environ))

    def test_readable_by_others(self) -> None:
        """A file that others can read is refused with what to type; its content is not told."""
        for mode in (0o640, 0o604, 0o620):
            with self.assertRaises(NoPassword) as caught:
                find_password(self.file("hunter22", mode), None, {})
            self.assertIn(f"chmod 600 {self.directory / 'pw'}", str(caught.exception))
            self.assertNotIn("hunter22", str(caught.exception))

    def test_credential_is_guarded(self) -> None:
        """Of a credential systemd says who may read it."""
        self.file("from systemd", 0o440, "securechat.password")
        self.assertEqual("from systemd", find_password(None, None, {"CREDENTIALS_DIRECTORY": str(self.directory)}))

    def test_missing(self) -> None:
        """A file that is not there is an error that names it, also where the environment does."""
        missing = str(self.directory / "missing")
        for file, environ in ((missing, {}), (None, {"SECURECHAT_PASSWORD_FILE": missing})):
            with self.assertRaises(NoPassword) as caught:
                find_password(file, None, environ)
            self.assertIn(missing, str(caught.exception))

    def test_no_password(self) -> None:
        """What is empty, several lines, too long or no text is no password, and is not shown."""
        for content in (b"", b"\n", b"one\ntwo\n", b"x" * (MOST + 1), b"\xff\xfe", b"a\x1b[2J"):
            with self.assertRaises(NoPassword) as caught:
                find_password(self.file(content), None, {})
            self.assertIn("one line of text", str(caught.exception))
            self.assertNotIn("\x1b", str(caught.exception))

    def test_descriptor(self) -> None:
        """Of a descriptor the first line is taken, and not a byte more."""
        descriptor = self.descriptor(b"secret\nthe message\n")
        self.assertEqual("secret", find_password(None, descriptor, {}))
        self.assertEqual(b"the message\n", os.read(descriptor, 100))

    def test_closed_descriptor(self) -> None:
        """A descriptor that is not open says how to open it."""
        with self.assertRaises(NoPassword) as caught:
            find_password(None, 987, {})
        self.assertIn("--password-fd 987 987< FILE", str(caught.exception))


class UserTests(SynchronousTestCase):
    """Tests for `choose_user`."""

    def setUp(self) -> None:
        self.directory = ClientDir(Path(self.mktemp()))
        self.directory.remember(LINE.known(SRV))

    def account(self, *users: str) -> None:
        """Accounts whose keys seem to be here."""
        for user in users:
            profile = self.directory.profile(SRV, user)
            profile.make()
            (profile.path / "keystore.json").write_text("{}")

    def refused(self, given: str | None = None, line: ConnectLine = LINE) -> str:
        """What is said where it is not plain who is meant."""
        with self.assertRaises(WhichAccount) as caught:
            choose_user(given, self.directory, line)
        self.assertEqual(Exit.USAGE, caught.exception.exit)
        return str(caught.exception)

    def test_given(self) -> None:
        """Whoever is named it is, in the canonical form; what is no name is refused."""
        self.assertEqual("alice", choose_user("Alice", self.directory, LINE))
        self.assertIn("cannot be the name of a user", self.refused("no name"))

    def test_only_one(self) -> None:
        """Else the only account this machine has there, by the server's id or its address."""
        self.account("alice")
        self.assertEqual("alice", choose_user(None, self.directory, LINE))
        self.assertEqual("alice", choose_user(None, self.directory, ConnectLine("elsewhere", 2, SRV)))

    def test_several(self) -> None:
        """Of several none is guessed: they are listed."""
        self.account("bob", "alice")
        self.assertIn("alice, bob. Say which: --user NAME", self.refused())

    def test_none(self) -> None:
        """Where there is none, it says what to do."""
        self.assertIn("/register NAME", self.refused())
        self.assertIn("--user NAME", self.refused(line=ConnectLine("unknown", 2)))
