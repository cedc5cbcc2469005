"""Tests for passwords, on either side of the wire.

These run in an environment of their own as well, with passlib 1.7.4 beside bcrypt 5: so this module imports little.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import bcrypt
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from passlib.context import CryptContext
from passlib.hash import bcrypt as plain_bcrypt
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import passwords
from securechat.crypto.passwords import PasswordHasher, Stretched, stretch
from securechat.errors import StartupError

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "golden.json").read_text(encoding="utf-8")
)
SRV, OTHER_SRV = "A" * 43, "B" * 43
ROUNDS = 4  # the least that bcrypt knows


@cache
def stretched(password: str, salt: bytes) -> Stretched:
    """`stretch`, each once: it takes 64 MiB and a third of a second."""
    return stretch(password, salt)


@cache
def hasher(rounds: int = ROUNDS) -> PasswordHasher:
    """A hasher that costs next to nothing."""
    return PasswordHasher(rounds)


class StretchTests(SynchronousTestCase):
    """Tests for what a client makes of a password."""

    def test_argon2id_of_the_rfc(self) -> None:
        """The library's Argon2id reproduces RFC 9106, section 5.3."""
        kdf = Argon2id(
            salt=b"\2" * 16, length=32, iterations=3, lanes=4, memory_cost=32, ad=b"\4" * 12, secret=b"\3" * 8
        )
        self.assertEqual(
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659", kdf.derive(b"\1" * 32).hex()
        )

    def test_known_answer(self) -> None:
        """t=3, m=64 MiB, p=4 over the NFC form in UTF-8: the reference implementation's output, and all from it."""
        known = GOLDEN["password"]
        salt = base64.b64decode(known["salt"])
        root = stretched(known["password"], salt)
        self.assertEqual(known["root"], base64.b64encode(root.root).decode())
        self.assertEqual(known["auth_token"], root.auth_token(GOLDEN["server"]["srv"], "alice"))
        self.assertEqual(known["keystore_key"], base64.b64encode(root.keystore_key()).decode())
        self.assertEqual(known["backup_key"], base64.b64encode(root.backup_key()).decode())
        self.assertEqual(salt, root.salt)

    def test_normal_form(self) -> None:
        """However a keyboard composes its letters, it is the same password."""
        known = GOLDEN["password"]["password"]
        decomposed = unicodedata.normalize("NFD", known)
        self.assertNotEqual(known, decomposed)
        salt = base64.b64decode(GOLDEN["password"]["salt"])
        self.assertEqual(stretched(known, salt).root, stretched(decomposed, salt).root)

    def test_token_form(self) -> None:
        """47 characters: the scheme, a dollar sign, and 43 of base64url."""
        token = Stretched(b"r" * 32, bytes(16)).auth_token(SRV, "alice")
        self.assertEqual(47, len(token))
        self.assertRegex(token, r"^sc1\$[A-Za-z0-9_-]{43}\Z")

    def test_token_of_another_server_or_user(self) -> None:
        """What one server is given opens no account elsewhere, nor another one there."""
        root = Stretched(b"r" * 32, bytes(16))
        tokens = {root.auth_token(srv, user) for srv in (SRV, OTHER_SRV) for user in ("alice", "bob")}
        self.assertEqual(4, len(tokens))

    def test_keys_are_apart(self) -> None:
        """The server's token says nothing of the keys of the keystore and the backup, nor they of each other."""
        root = Stretched(b"r" * 32, bytes(16))
        token = base64.urlsafe_b64decode(root.auth_token(SRV, "alice")[4:] + "=")
        self.assertEqual(4, len({root.root, token, root.keystore_key(), root.backup_key()}))
        self.assertEqual({32}, {len(token), len(root.keystore_key()), len(root.backup_key())})

    def test_repr(self) -> None:
        """Its repr gives away nothing."""
        self.assertEqual("<Stretched password>", repr(Stretched(b"secret" * 5, b"s" * 16)))


class FakeSaltTests(SynchronousTestCase):
    """Tests for the salt of a user who does not exist."""

    def test_form(self) -> None:
        """16 bytes, always the same for a name, different for each name and server."""
        salt = passwords.fake_salt(b"s" * 32, "nobody")
        self.assertEqual(16, len(salt))
        self.assertEqual(salt, passwords.fake_salt(b"s" * 32, "nobody"))
        self.assertNotEqual(salt, passwords.fake_salt(b"s" * 32, "nobodx"))
        self.assertNotEqual(salt, passwords.fake_salt(b"t" * 32, "nobody"))

    def test_known_answer(self) -> None:
        """It stays the same over versions: a salt that changed would tell a name that does not exist."""
        expected = base64.b64decode(GOLDEN["password"]["fake_salt"])
        self.assertEqual(expected, passwords.fake_salt(b"\x09" * 32, "nobody"))


class PasswordHasherTests(SynchronousTestCase):
    """Tests for the server's hashing: with whichever passlib and bcrypt are installed."""

    token = "sc1$" + "t" * 43

    def test_scheme(self) -> None:
        """New hashes are bcrypt_sha256 of the cost asked for, each with a salt of its own."""
        one, two = hasher().hash(self.token), hasher().hash(self.token)
        self.assertRegex(one, r"^\$bcrypt-sha256\$v=2,t=2b,r=4\$[./A-Za-z0-9]{22}\$[./A-Za-z0-9]{31}\Z")
        self.assertNotEqual(one, two)

    def test_verify(self) -> None:
        """The right token verifies; any other does not."""
        stored = hasher().hash(self.token)
        self.assertIs(True, hasher().verify(self.token, stored))
        for wrong in ("", self.token[:-1], self.token + "t", self.token.upper(), "sc1$" + "t" * 42 + "u"):
            self.assertIs(False, hasher().verify(wrong, stored))

    def test_known_hash(self) -> None:
        """A hash made once with the maintained pair verifies with whatever pair is here."""
        stored = "$bcrypt-sha256$v=2,t=2b,r=4$Ptz1U2p8d/ApjOmKJtl.6O$FCUL/3cvFovWPM3glULUOVEhaejgGW2"
        self.assertTrue(hasher().verify(self.token, stored))
        self.assertFalse(hasher().verify(self.token + "x", stored))

    def test_no_account(self) -> None:
        """None is no account: False, whatever the token, also that of the hash which stands in."""
        self.assertIs(False, hasher().verify(self.token, None))
        self.assertIs(False, hasher().verify("no account has this", None))

    def test_no_account_costs_the_same(self) -> None:
        """For None one hash of the very cost is computed."""
        calls: list[bytes] = []
        genuine = bcrypt.hashpw

        def counted(password: bytes, salt: bytes) -> bytes:
            calls.append(salt[:7])
            return genuine(password, salt)

        stored = hasher().hash(self.token)
        self.patch(bcrypt, "hashpw", counted)
        for known in (stored, None):
            hasher().verify(self.token, known)
        self.assertEqual([b"$2b$04$"] * 2, calls)

    def test_long_secrets(self) -> None:
        """Beyond 72 bytes, where bcrypt alone stops to look, secrets still differ."""
        stored = hasher().hash("x" * 72 + "a")
        self.assertTrue(hasher().verify("x" * 72 + "a", stored))
        self.assertFalse(hasher().verify("x" * 72 + "b", stored))
        self.assertFalse(hasher().verify("x" * 72, stored))

    def test_old_plain_bcrypt(self) -> None:
        """A plain bcrypt hash still verifies, and is to be replaced."""
        old = bcrypt.hashpw(self.token.encode(), bcrypt.gensalt(ROUNDS)).decode()
        self.assertTrue(hasher().verify(self.token, old))
        self.assertFalse(hasher().verify(self.token + "x", old))
        self.assertTrue(hasher().needs_rehash(old))

    def test_old_cost(self) -> None:
        """A hash of less cost is to be replaced; a new one is not."""
        self.assertTrue(hasher(5).needs_rehash(hasher().hash(self.token)))
        self.assertFalse(hasher().needs_rehash(hasher().hash(self.token)))

    def test_nothing_stays_patched(self) -> None:
        """What an old passlib needs in order to start is put back at once."""
        hasher()
        self.assertEqual("bcrypt", bcrypt.hashpw.__module__.partition(".")[0].strip("_"))
        self.assertRegex(bcrypt.hashpw(b"x", b"$2b$04$" + b"a" * 21 + b"u").decode(), r"^\$2b\$04\$")

    def test_mismatch_stops_the_start(self) -> None:
        """Where the libraries do not work together, the text has the command that mends it."""

        def broken(*_: object) -> object:
            raise ValueError("password cannot be longer than 72 bytes")

        hasher()
        self.patch(bcrypt, "hashpw", broken)
        error = self.assertRaises(StartupError, PasswordHasher, ROUNDS)
        self.assertIn("longer than 72 bytes", str(error))
        self.assertIn("pip uninstall -y passlib libpass bcrypt && pip install 'libpass[bcrypt]", str(error))

    def test_hash_that_does_not_verify_stops_the_start(self) -> None:
        """Where a fresh hash does not verify, it does not start either."""
        self.patch(CryptContext, "verify", lambda *_, **__: False)
        error = self.assertRaises(StartupError, PasswordHasher, ROUNDS)
        self.assertIn("does not verify", str(error))
        self.assertIn("pip install", str(error))

    def test_backend(self) -> None:
        """The hashing is done by the bcrypt library, not by something slower."""
        hasher()
        self.assertEqual("bcrypt", plain_bcrypt.get_backend())


class MendingCommandTests(SynchronousTestCase):
    """Tests for the command in the text."""

    def test_bounds_are_those_of_the_package(self) -> None:
        """It installs within the bounds that setup.cfg declares."""
        setup = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
        declared = re.findall(r"^ +((?:libpass|bcrypt)\S*)$", setup, re.MULTILINE)
        self.patch(CryptContext, "verify", lambda *_, **__: False)
        error = str(self.assertRaises(StartupError, PasswordHasher, ROUNDS))
        self.assertEqual(declared, re.findall(r"'(\S+)'", error))
