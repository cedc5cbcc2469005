"""Tests for keys that are carried in a file."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from securechat.client.openaccount import OpenAccount
from securechat.client.profile import Profile
from securechat.client.transfer import CannotTransfer, export_keys, import_keys
from securechat.crypto import primitives as p
from securechat.crypto.keystore import Keystore
from securechat.errors import WrongSecret
from tests.doubles import PASSWORD, SRV, ChatCase, quick_stretch

PHRASE = "a passphrase"


class TransferTests(ChatCase):
    """Tests for `export_keys` and `import_keys`."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice")
        account = self.alice.core.account
        assert account is not None
        self.account: OpenAccount = account
        self.file = self.home / "carried"
        self.shop = self.client("elsewhere").core.shop

    def export(self, path: Path | None = None) -> Any:
        """Writes the keys."""
        return self.start(export_keys(self.shop, self.account, path or self.file, PHRASE))

    def take(self, path: Path | None = None, phrase: str = PHRASE) -> Any:
        """Reads them, in an empty directory."""
        return self.start(import_keys(self.shop, path or self.file, phrase))

    def assertNothingMade(self) -> None:
        """The empty directory is still empty."""
        self.assertFalse(self.shop.directory.any_account())
        self.assertEqual([], list(self.shop.directory.path.glob("servers")))

    def make(self, content: object, salt: bytes = b"s" * 16) -> None:
        """A file that the right passphrase opens, with whatever inside."""
        plain = content if isinstance(content, bytes) else json.dumps(content).encode()
        key = quick_stretch(PHRASE, salt).keystore_key()
        sealed = p.seal(key, plain, p.digest("export", salt), b"n" * p.NONCE_BYTES)
        outer = {"t": "sc/export", "v": 1, "salt": p.b64(salt), "sealed": p.b64(sealed)}
        self.file.write_text(json.dumps(outer))

    def test_exported(self) -> None:
        """The file is its owner's alone, and shows neither name nor key."""
        self.successResultOf(self.export())
        self.assertEqual(0o600, stat.S_IMODE(self.file.stat().st_mode))
        outer = json.loads(self.file.read_bytes())
        self.assertEqual({"t", "v", "salt", "sealed"}, set(outer))
        for part in (b"alice", p.b64(self.account.keystore.box)[:40].encode(), SRV.encode()):
            self.assertNotIn(part, self.file.read_bytes())

    def test_imported(self) -> None:
        """It makes the very keystore and the very records, which the account's password opens."""
        self.successResultOf(self.export())
        profile: Profile = self.successResultOf(self.take())
        self.assertEqual(self.shop.directory.profile(SRV, "alice"), profile)
        self.assertEqual(self.account.keystore, profile.read_keystore())
        self.alice.quit()
        second = self.client("elsewhere")
        second.type(f"/login alice {PASSWORD}")
        self.assertEqual("alice", second.core.user)

    def test_replaces_no_file(self) -> None:
        """A file that is there stays as it is."""
        self.file.write_bytes(b"mine")
        self.failureResultOf(self.export(), CannotTransfer)
        self.assertEqual(b"mine", self.file.read_bytes())

    def test_not_written(self) -> None:
        """A place that cannot be written is told, whatever is wrong with it."""
        for path in (
            self.home / "nowhere" / "file",
            self.home / ("x" * 300),
            self.home / "a\0b",
            self.home / "alice" / "known.json" / "file",
        ):
            self.failureResultOf(self.export(path), CannotTransfer)

    def test_replaces_no_keys(self) -> None:
        """Where this account's keys are already, they stay."""
        self.successResultOf(self.export())
        profile = self.successResultOf(self.take())
        before = (profile.path / "keystore.json").read_bytes()
        self.failureResultOf(self.take(), CannotTransfer)
        self.assertEqual(before, (profile.path / "keystore.json").read_bytes())

    def test_wrong_passphrase(self) -> None:
        """Another passphrase, and an altered file, open nothing and make nothing."""
        self.successResultOf(self.export())
        self.failureResultOf(self.take(phrase="another"), WrongSecret)
        outer = json.loads(self.file.read_bytes())
        sealed = outer["sealed"]
        outer["sealed"] = ("B" if sealed[0] == "A" else "A") + sealed[1:]
        self.file.write_text(json.dumps(outer))
        self.failureResultOf(self.take(), WrongSecret)
        self.assertNothingMade()

    def test_not_such_a_file(self) -> None:
        """What is no such file, or of a newer client, is told; nothing is made."""
        good = {"t": "sc/export", "v": 1, "salt": p.b64(b"s" * 16), "sealed": p.b64(b"x" * 40)}
        for content in (
            b"",
            b"\xff",
            b"[]",
            b"7",
            b"{}",
            b"[" * 100_000,
            json.dumps(good | {"v": 2}).encode(),
            json.dumps(good | {"salt": "?"}).encode(),
            json.dumps(good | {"salt": p.b64(b"short")}).encode(),
            json.dumps(good | {"sealed": 7}).encode(),
        ):
            self.file.write_bytes(content)
            self.failureResultOf(self.take(), CannotTransfer)
        for path in (self.home / "nowhere", self.home, self.home / "a\0b"):
            self.failureResultOf(self.take(path), CannotTransfer)
        self.assertNothingMade()

    def test_hostile(self) -> None:
        """A file made by somebody else, with its passphrase, can name no place outside, and breaks nothing."""
        store = self.account.keystore

        def inner(**changes: Any) -> dict[str, Any]:
            fields = {"srv": store.srv, "user": store.user, "slots": store.slots, "box": store.box} | changes
            keystore = Keystore(**fields)
            return {"keystore": keystore.to_bytes().decode(), "records": []}

        contents: list[object] = [
            inner(user="../../../evil"),
            inner(user=".."),
            inner(user="Alice"),
            inner(srv="../../evil"),
            inner(srv="."),
            inner(srv="x" * 43 + "/"),
            inner() | {"records": [["?", "?"]]},
            inner() | {"records": [7]},
            inner() | {"keystore": "{}"},
            inner() | {"keystore": "\u00fc"},
            inner() | {"keystore": 7},
            {},
            [],
            b"not json",
            b"[" * 100_000,
        ]
        for content in contents:
            self.make(content)
            self.failureResultOf(self.take(), CannotTransfer)
        self.assertNothingMade()
        self.assertEqual([], list(self.home.rglob("*evil*")))
        self.make(inner())
        self.successResultOf(self.take())
