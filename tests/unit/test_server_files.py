"""Tests for the server's files: made at the first start, and refused where others could have read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.primitives import b64
from securechat.errors import StartupError
from securechat.private_files import private_directory, write_private
from securechat.server import files
from securechat.server.settings import DataDir
from tests.doubles import SERVER_KEY, SRV

NOW = 1_767_225_600.0  # 2026-01-01


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class FilesCase(SynchronousTestCase):
    """Tests in a data directory."""

    def setUp(self) -> None:
        self.data = DataDir(Path(self.mktemp()))

    def prepared(self) -> DataDir:
        """The directory, made and locked until the end of the test."""
        self.addCleanup(os.close, files.prepare(self.data))
        return self.data

    def refuse(self, *words: str, what: object, **keywords: object) -> None:
        """A call is refused, with these words."""
        error = self.assertRaises(StartupError, what, self.data, **keywords)  # type: ignore[arg-type]
        for word in words:
            self.assertIn(word, str(error))


class PrepareTests(FilesCase):
    """Tests for `prepare`."""

    def test_makes_the_directory(self) -> None:
        """A new directory is its owner's alone, and so is the lock in it."""
        self.data = DataDir(self.data.path / "deeper" / "still")
        self.prepared()
        self.assertEqual((0o700, 0o600), (mode(self.data.path), mode(self.data.lock)))

    def test_others_can_look_in(self) -> None:
        """A directory that others can look into is refused, with the command that closes it."""
        for bits in (0o750, 0o705, 0o777, 0o710):
            self.data.path.mkdir(exist_ok=True)
            self.data.path.chmod(bits)
            self.refuse(f"chmod 700 {self.data.path}", what=files.prepare)

    def test_locked(self) -> None:
        """A second daemon is refused, and the first keeps the lock; afterwards it is free."""
        descriptor = files.prepare(self.data)
        for _ in range(2):
            self.refuse("Another SecureChat daemon", "--data-dir", what=files.prepare)
        os.close(descriptor)
        os.close(files.prepare(self.data))

    def test_not_a_directory(self) -> None:
        """A file in its place is refused with why."""
        self.data.path.write_bytes(b"")
        self.refuse(str(self.data.path), what=files.prepare)


class IdentityTests(FilesCase):
    """Tests for `server_identity`."""

    def test_made_once(self) -> None:
        """It is made at the first start, for its owner alone, and stays."""
        self.prepared()
        first = files.server_identity(self.data)
        self.assertEqual(0o600, mode(self.data.identity))
        self.assertEqual(first.srv, files.server_identity(self.data).srv)

    def test_each_its_own(self) -> None:
        """Another server has another."""
        self.prepared()
        first = files.server_identity(self.data).srv
        self.data = DataDir(Path(self.mktemp()))
        self.prepared()
        self.assertNotEqual(first, files.server_identity(self.data).srv)

    def test_read(self) -> None:
        """It is a line of base64."""
        self.prepared()
        write_private(self.data.identity, b64(SERVER_KEY.private_bytes_raw()).encode() + b"\n")
        self.assertEqual(SRV, files.server_identity(self.data).srv)

    def test_missing_beside_a_database(self) -> None:
        """Where there is a database and no identity, none is made: clients would take it for an impostor."""
        self.prepared()
        self.data.database.touch()
        self.refuse("identity is missing", "Put it back", what=files.server_identity)
        self.assertFalse(self.data.identity.exists())

    def test_readable_by_others(self) -> None:
        """One that others can read is refused, with the command that closes it."""
        self.prepared()
        files.server_identity(self.data)
        for bits in (0o640, 0o604, 0o620):
            self.data.identity.chmod(bits)
            self.refuse(f"chmod 600 {self.data.identity}", what=files.server_identity)

    def test_damaged(self) -> None:
        """One that is damaged is refused, and left as it is."""
        self.prepared()
        for content in (b"", b"x", b64(b"short").encode(), b"\xff\xfe", b64(bytes(33)).encode()):
            write_private(self.data.identity, content)
            self.refuse("is damaged", "backup", what=files.server_identity)
            self.assertEqual(content, self.data.identity.read_bytes())

    def test_unreadable(self) -> None:
        """One that cannot be read is refused with why."""
        self.prepared()
        self.data.identity.mkdir(mode=0o700)
        self.refuse("cannot be read", what=files.server_identity)


class AtRestKeyTests(FilesCase):
    """Tests for `at_rest_keys`."""

    def keys(self, key_file: str = "", **environ: str) -> KeyEncryptionKeys:
        """The keys, with these settings."""
        return files.at_rest_keys(self.data, key_file, environ)

    def same(self, one: KeyEncryptionKeys, two: KeyEncryptionKeys) -> None:
        """Both are the same keys."""
        two.unwrap(one.wrap_new())

    def test_made_once(self) -> None:
        """It is made at the first start, for its owner alone, and stays."""
        self.prepared()
        first = self.keys()
        self.assertEqual(0o600, mode(self.data.at_rest_key))
        self.same(first, self.keys())

    def test_elsewhere(self) -> None:
        """It may lie elsewhere, and then lies nowhere else."""
        self.prepared()
        elsewhere = Path(self.mktemp())
        first = self.keys(str(elsewhere))
        self.assertEqual((0o600, False), (mode(elsewhere), self.data.at_rest_key.exists()))
        self.same(first, self.keys(str(elsewhere)))

    def test_credential(self) -> None:
        """A systemd credential comes before both, whatever its mode; none is made there."""
        self.prepared()
        credentials = Path(self.mktemp())
        credentials.mkdir()
        self.keys(CREDENTIALS_DIRECTORY=str(credentials))
        self.assertTrue(self.data.at_rest_key.exists())
        (credentials / "securechat.key").write_text(new_key_file())
        (credentials / "securechat.key").chmod(0o440)
        from_credential = self.keys(CREDENTIALS_DIRECTORY=str(credentials))
        self.same(from_credential, KeyEncryptionKeys((credentials / "securechat.key").read_text()))
        self.assertRaises(StartupError, self.keys().unwrap, from_credential.wrap_new())

    def test_missing_beside_a_database(self) -> None:
        """Where there is a database and no key, none is made: it would open nothing."""
        self.prepared()
        self.data.database.touch()
        error = self.assertRaises(StartupError, self.keys)
        self.assertIn("at-rest key is missing", str(error))
        self.assertFalse(self.data.at_rest_key.exists())

    def test_readable_by_others(self) -> None:
        """One that others can read is refused, with the command that closes it."""
        self.prepared()
        self.keys()
        self.data.at_rest_key.chmod(0o640)
        error = self.assertRaises(StartupError, self.keys)
        self.assertIn(f"chmod 600 {self.data.at_rest_key}", str(error))

    def test_damaged(self) -> None:
        """One that holds no key is refused."""
        self.prepared()
        for content in (b"", b"x\n", b"\xff\xfe\n"):
            write_private(self.data.at_rest_key, content)
            self.assertRaises(StartupError, self.keys)

    def test_cannot_be_written(self) -> None:
        """Where it cannot be made, it says where and why."""
        self.prepared()
        error = self.assertRaises(StartupError, self.keys, str(self.data.path / "no" / "directory"))
        self.assertIn("cannot be written", str(error))
        self.assertIn("No such file", str(error))


class CertificateTests(FilesCase):
    """Tests for `certificate`."""

    def names(self) -> list[str]:
        """What the certificate in the directory is for."""
        found = x509.load_pem_x509_certificate(self.data.tls_chain.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name.value) for name in names]

    def test_made_once(self) -> None:
        """It is made where there is none, for its owner alone, and stays."""
        self.prepared()
        files.certificate(self.data, ["chat.example.org", "192.0.2.7"], lambda: NOW)
        self.assertEqual((0o600, 0o600), (mode(self.data.tls_key), mode(self.data.tls_chain)))
        before = self.data.tls_chain.read_bytes()
        files.certificate(self.data, ["another"], lambda: NOW)
        self.assertEqual(before, self.data.tls_chain.read_bytes())

    def test_one_of_two(self) -> None:
        """Where one of key and certificate is gone, both are made anew: they belong together."""
        self.prepared()
        for lost in (self.data.tls_key, self.data.tls_chain):
            files.certificate(self.data, [], lambda: NOW)
            before = self.data.tls_key.read_bytes(), self.data.tls_chain.read_bytes()
            lost.unlink()
            files.certificate(self.data, [], lambda: NOW)
            after = self.data.tls_key.read_bytes(), self.data.tls_chain.read_bytes()
            self.assertEqual([False, False], [one == two for one, two in zip(before, after, strict=True)])

    def test_names(self) -> None:
        """It is for the names given, and for this machine; each once."""
        self.prepared()
        files.certificate(self.data, ["chat.example.org", "192.0.2.7", "localhost"], lambda: NOW)
        names = self.names()
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({"chat.example.org", "192.0.2.7", "localhost", "127.0.0.1", "::1"}, set(names))


class WritePrivateTests(SynchronousTestCase):
    """Tests for `write_private`."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "file"

    def test_new(self) -> None:
        """A new file is its owner's alone, whatever the umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        write_private(self.path, b"content")
        self.assertEqual((b"content", 0o600), (self.path.read_bytes(), mode(self.path)))

    def test_replaces(self) -> None:
        """An old one is replaced, its mode too, and nothing else is left."""
        self.path.write_bytes(b"old and longer")
        self.path.chmod(0o644)
        write_private(self.path, b"new")
        self.assertEqual((b"new", 0o600), (self.path.read_bytes(), mode(self.path)))
        self.assertEqual(["file"], os.listdir(self.directory))

    def test_does_not_follow(self) -> None:
        """A symbolic link is replaced, not written through."""
        elsewhere = self.directory / "elsewhere"
        elsewhere.write_bytes(b"theirs")
        self.path.symlink_to(elsewhere)
        write_private(self.path, b"ours")
        self.assertEqual((b"theirs", b"ours"), (elsewhere.read_bytes(), self.path.read_bytes()))
        self.assertFalse(self.path.is_symlink())

    def test_whole_or_not_at_all(self) -> None:
        """Where the disk fails, the old file stays as it was, and nothing is left beside it."""
        self.path.write_bytes(b"old")

        synced: list[int] = []

        def fails_once(descriptor: int) -> None:
            synced.append(descriptor)
            if len(synced) == 1:
                raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fails_once)
        self.assertRaises(OSError, write_private, self.path, b"new")
        self.assertEqual((b"old", ["file"]), (self.path.read_bytes(), os.listdir(self.directory)))
        write_private(self.path, b"new")
        self.assertEqual((b"new", 3), (self.path.read_bytes(), len(synced)))  # the file, and its name


class PrivateDirectoryTests(SynchronousTestCase):
    """Tests for `private_directory`."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_new(self) -> None:
        """A new directory is its owner's alone, and so are those above it that were asked for."""
        private_directory(self.path / "a" / "b", above=1)
        self.assertEqual([0o700, 0o700], [mode(self.path / "a" / "b"), mode(self.path / "a")])

    def test_old(self) -> None:
        """One that is there becomes so; what is above it is left alone."""
        (self.path / "a").mkdir(parents=True)
        for path in (self.path, self.path / "a"):
            path.chmod(0o755)
        private_directory(self.path / "a")
        self.assertEqual([0o755, 0o700], [mode(self.path), mode(self.path / "a")])

    def test_shared(self) -> None:
        """One that is shared by design, and one of somebody else's, are refused and left as they are."""
        self.path.mkdir()
        self.path.chmod(0o1777)
        self.assertRaises(StartupError, private_directory, self.path)
        self.assertEqual(0o1777, mode(self.path))
        self.path.chmod(0o755)
        self.patch(os, "geteuid", lambda: self.path.stat().st_uid + 1)
        error = self.assertRaises(StartupError, private_directory, self.path)
        self.assertIn("--data-dir", str(error))
        self.assertEqual(0o755, mode(self.path))
