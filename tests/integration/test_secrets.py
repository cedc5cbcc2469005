"""What the server must never have: passwords, texts, private keys; sought in every byte it has on disk or in memory."""

from __future__ import annotations

import base64
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.crypto.backup import open_backup
from securechat.crypto.keystore import Keystore
from securechat.storage.queries.sealing import place
from tests.integration.harness import PATIENCE, Daemon, IntegrationTestCase, PlainClient, stretched

PASSWORD = "canary-password-4711"
NEW_PASSWORD = "another-canary-0815"
PUBLIC = "the-garden"  # a room's name, which the server knows: what is sought must be found where it is
ROOM_TEXT = "canary in the room: the tea is cold"
PRIVATE_TEXT = "canary for bob alone: bring the kettle"
PASSPHRASE = "passphrase-canary-99"


def spellings(name: str, secret: bytes) -> Iterator[tuple[str, bytes]]:
    """The forms a secret may lie about in: as it is, backwards as OpenSSL keeps numbers, in hex and in base64."""
    yield name, secret
    yield f"{name}, backwards", secret[::-1]
    yield f"{name}, hex", secret.hex().encode()
    for shift in range(3):  # where it may begin inside a longer text in base64
        inner = base64.b64encode(bytes(shift) + secret)
        first, last = -(-shift * 8 // 6) + (shift > 0), len(inner) - 4
        for standard in (inner[first:last], inner[first:last].replace(b"+", b"-").replace(b"/", b"_")):
            yield f"{name}, base64 shifted by {shift}", standard


def found_in(chunks: Iterable[tuple[str, bytes]], secrets: Mapping[str, bytes]) -> list[str]:
    """Which secrets stand where."""
    sought = [form for name, secret in secrets.items() for form in spellings(name, secret)]
    return [f"{name} in {where}" for where, chunk in chunks for name, form in sought if form in chunk]


def files_of(*directories: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below, whole."""
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                yield path.name, path.read_bytes()


def memory_of(pid: int) -> Iterator[tuple[str, bytes]]:
    """All that a process may read or write. Raises SkipTest where that is not allowed."""
    try:
        mappings = Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines()
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for mapping in mappings:
                span, rights, *rest = mapping.split(maxsplit=5)
                if "r" not in rights or rest[-1] in ("[vvar]", "[vsyscall]"):
                    continue
                start, end = (int(number, 16) for number in span.split("-"))
                try:
                    memory.seek(start)
                    yield mapping, memory.read(end - start)
                except (OSError, OverflowError, ValueError):
                    continue  # given back meanwhile, or a device
    except (PermissionError, FileNotFoundError) as error:
        raise SkipTest(f"the memory of another process cannot be read here: {error}") from None


class SecretsTests(IntegrationTestCase):
    """Two people with a past, and a search over what the server has of it."""

    def setUp(self) -> None:
        """alice and bob talk, change and export things; alice's keys are taken out of her own keystore."""
        super().setUp()
        self.server = self.daemon()
        self.clients: list[PlainClient] = []
        for name in ("alice", "bob"):
            client = self.client(name, self.server.line)
            client.type(f"/register {name} {PASSWORD}")
            self.clients.append(client)
        alice, bob = self.clients
        for client in self.clients:
            client.ask(f"/join {PUBLIC}", f" {PUBLIC}, an open room")
        alice.wait_for("bob joined")  # what she sealed before would not be for him
        alice.ask(ROOM_TEXT, ROOM_TEXT)
        bob.wait_for(ROOM_TEXT)
        alice.ask(f"/pm bob {PRIVATE_TEXT}", PRIVATE_TEXT)
        bob.wait_for(PRIVATE_TEXT)
        bob.ask(f"/history {PUBLIC}", ROOM_TEXT)
        alice.ask(f"/passwd {PASSWORD} {NEW_PASSWORD}", "The password is changed.")
        alice.ask(f"/keys export {self.directory / 'exported'} {PASSPHRASE}", "sealed with that passphrase")
        self.secrets = {
            "password": PASSWORD.encode(),
            "new password": NEW_PASSWORD.encode(),
            "passphrase": PASSPHRASE.encode(),
            "room text": ROOM_TEXT.encode(),
            "private text": PRIVATE_TEXT.encode(),
        }
        self.tokens: dict[str, bytes] = {}  # the daemon has these in its hands at a login, and keeps their hashes
        for name, password in (("alice", NEW_PASSWORD), ("bob", PASSWORD)):
            keys, token = _keys(self.server, self.directory / name, name, password)
            self.secrets |= keys
            self.tokens[f"{name}'s auth token"] = token

    def test_memory(self) -> None:
        """No secret is in the daemon's memory while it serves."""
        where = [name for name, chunk in memory_of(self.server.process.pid) if PUBLIC.encode() in chunk]
        self.assertNotEqual([], where, "the search does not find what is there")
        self.assertEqual([], found_in(memory_of(self.server.process.pid), self.secrets))

    def test_process(self) -> None:
        """No secret, nor a key of the server's own, is in what `ps` shows of the daemon: command line, environment."""
        own = {name: (self.server.data / name).read_bytes().strip() for name in ("server.key", "atrest.key")}
        process = Path(f"/proc/{self.server.process.pid}")
        if not process.exists():
            raise SkipTest("there is no /proc here")
        shown = [(name, (process / name).read_bytes()) for name in ("cmdline", "environ")]
        self.assertIn(str(self.server.data).encode(), shown[0][1], "the search does not find what is there")
        self.assertEqual([], found_in(shown, self.secrets | self.tokens | own))

    def test_core(self) -> None:
        """Nor is any in what a core dump would be."""
        dumper = shutil.which("gcore")
        if dumper is None:
            raise SkipTest("gcore is not installed (it comes with gdb)")
        pid = self.server.process.pid
        dumped = subprocess.run(
            [dumper, "-o", str(self.directory / "core"), str(pid)], capture_output=True, timeout=PATIENCE, check=False
        )
        core = self.directory / f"core.{pid}"
        if not core.exists():
            raise SkipTest(f"no core dump can be made here: {dumped.stderr.decode()[-200:]}")
        content = core.read_bytes()
        self.assertIn(PUBLIC.encode(), content, "the search does not find what is there")
        self.assertEqual([], found_in([("the core dump", content)], self.secrets))

    def test_files(self) -> None:
        """No secret is in the database, its WAL, the log or any other file: running, killed, and stopped."""
        kept = self.server.directory
        for end, holder in ((lambda: None, "chat.db-wal"), (self.server.kill, "chat.db-wal"), (self._stop, "chat.db")):
            end()
            names = [name for name, chunk in files_of(kept) if PUBLIC.encode() in chunk]
            self.assertIn(holder, names, "the search does not find what is there")
            self.assertEqual([], found_in(files_of(kept), self.secrets | self.tokens))
        self._files_of_clients()

    def _stop(self) -> None:
        self.server.restart()
        self.server.stop()

    def _files_of_clients(self) -> None:
        """Nor is any in the files of the clients, which are for their owners alone."""
        directories = [self.directory / name for name in ("alice", "bob")]
        exported = self.directory / "exported"
        files = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
        for path in (*directories, *files, exported):
            self.assertEqual(0, path.stat().st_mode & 0o077, path)
        self.assertEqual([], found_in(files_of(*directories), self.secrets))
        self.assertEqual([], found_in([("the exported file", exported.read_bytes())], self.secrets))


class SearchTests(SynchronousTestCase):
    """The search itself."""

    def test_found_where_it_is(self) -> None:
        """It finds a secret in every form it looks for, wherever it begins."""
        secret = bytes(range(100, 132))
        forms = [base64.b64encode(b"x" * before + secret) for before in range(6)]
        for form in (secret, secret[::-1], secret.hex().encode(), *forms):
            self.assertNotEqual([], found_in([("here", b"..." + form + b"...")], {"secret": secret}))


def _keys(daemon: Daemon, directory: Path, user: str, password: str) -> tuple[dict[str, bytes], bytes]:
    """All private keys of an account, from its own keystore and backup; and what goes to the server as its password."""
    (path,) = directory.rglob("keystore.json")
    keystore = Keystore.from_bytes(path.read_bytes())
    slot = keystore.slots[-1]
    secret = stretched(password, slot.salt)
    keys = keystore.open_box(keystore.open_slot(slot, secret.keystore_key()))
    with closing(sqlite3.connect(f"file:{daemon.data / 'chat.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT backup, backup_version, wrapped FROM account JOIN dek ON dek.id = backup_dek WHERE name = ?"
        sealed, version, wrapped = connection.execute(query, (user,)).fetchone()
    at_rest = KeyEncryptionKeys((daemon.data / "atrest.key").read_text())
    sealer = RowSealer({1: at_rest.unwrap(wrapped)}, 1)
    blob = sealer.open(1, place("backup", user, version), sealed)
    opened = open_backup(secret.backup_key(), blob, srv=keystore.srv, user=user, version=version)
    numbers: Any = keys.rsa_keys[0].private_numbers()
    private = {
        f"{user}'s identity": p.ed25519_seed(opened.identity),
        f"{user}'s device": p.ed25519_seed(keys.device),
        f"{user}'s RSA prime": numbers.p.to_bytes(192, "big"),
        f"{user}'s other RSA prime": numbers.q.to_bytes(192, "big"),
        f"{user}'s RSA exponent": numbers.d.to_bytes(384, "big"),
        f"{user}'s password, stretched": secret.root,
        f"{user}'s backup key": secret.backup_key(),
    }
    return private, secret.auth_token(keystore.srv, user).encode()
