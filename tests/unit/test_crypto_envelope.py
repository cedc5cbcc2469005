"""Tests for the package: who can open it, and what of it cannot be changed."""

from __future__ import annotations

import base64
import hashlib
import json
import os

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import envelope
from securechat.crypto.envelope import DAMAGED, NEWER, NOT_FOR_YOU, OTHER_KEY
from securechat.crypto.primitives import rsa_public_der
from securechat.errors import Undecryptable
from tests.doubles import Person, figures, flipped, rsa_key

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

alice, bob = (Person(user, rk_der=rsa_public_der(rsa_key(at).public_key())) for at, user in enumerate(("alice", "bob")))
ALICE, BOB = {alice.kid: rsa_key(0)}, {bob.kid: rsa_key(1)}


def plain_reader(package: str, user: str, private: RSAPrivateKey) -> str:
    """Opens a package knowing nothing but the two fields that the product has always had."""
    fields = json.loads(package)
    wrapped = base64.b64decode(fields["encrypted_keys"][user])
    key = private.decrypt(
        wrapped,
        padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None),
    )
    return Fernet(key).decrypt(fields["encrypted_message"]).decode()


class EnvelopeCase(SynchronousTestCase):
    """What the tests of packages share: one of them, and refusals."""

    text = "Hello everyone! Grüße \U0001f44b"
    sealed = envelope.seal(text, [alice.keys(), bob.keys()])

    def open(self, token: str | None = None, wrapped: bytes | None = None) -> str:
        """Opens the package as bob, with another token or another wrapped key."""
        return envelope.open_package(
            self.sealed.encrypted_message if token is None else token,
            self.sealed.encrypted_keys["bob"] if wrapped is None else wrapped,
            bob.kid,
            BOB,
        )

    def refuse(self, reason: str, token: str | None = None, wrapped: bytes | None = None) -> None:
        """It does not open, for that fixed reason and without a trace of another."""
        error = self.assertRaises(Undecryptable, self.open, token, wrapped)
        self.assertEqual((reason,), error.args)
        self.assertTrue(error.__suppress_context__ or error.__context__ is None)

    def made(self, body: bytes, key_plaintext: bytes | None = None) -> tuple[str, bytes]:
        """A package for bob of any body and any OAEP plaintext."""
        key = Fernet.generate_key()
        wrapped = rsa_key(1).public_key().encrypt(key if key_plaintext is None else key_plaintext, OAEP)
        return Fernet(key).encrypt_at_time(body, 0).decode(), wrapped


class SealTests(EnvelopeCase):
    """Tests for `seal`."""

    def test_each_reader_opens(self) -> None:
        """Everybody it is sealed for opens it with their own entry."""
        for person, keys in ((alice, ALICE), (bob, BOB)):
            wrapped, kid = self.sealed.encrypted_keys[person.user], self.sealed.kids[person.user]
            self.assertEqual(person.kid, kid)
            self.assertEqual(self.text, envelope.open_package(self.sealed.encrypted_message, wrapped, kid, keys))

    def test_nobody_else(self) -> None:
        """There are entries for these readers and no others."""
        self.assertEqual({"alice", "bob"}, self.sealed.encrypted_keys.keys())
        self.assertEqual({"alice", "bob"}, self.sealed.kids.keys())

    def test_plain_reader(self) -> None:
        """A reader of the product's original package opens it as it is."""
        entries = {user: base64.b64encode(key).decode() for user, key in self.sealed.encrypted_keys.items()}
        package = json.dumps({"encrypted_message": self.sealed.encrypted_message, "encrypted_keys": entries})
        self.assertEqual(self.text, plain_reader(package, "alice", rsa_key(0)))
        self.assertEqual(self.text, plain_reader(package, "bob", rsa_key(1)))

    def test_no_time_inside(self) -> None:
        """The token shows no time: its stamp is 0."""
        token = base64.urlsafe_b64decode(self.sealed.encrypted_message)
        self.assertEqual(b"\x80" + bytes(8), token[:9])

    def test_nothing_is_used_twice(self) -> None:
        """The same text sealed again shares neither key nor token."""
        again = envelope.seal(self.text, [bob.keys()])
        self.assertNotEqual(again.encrypted_message, self.sealed.encrypted_message)
        keys = [rsa_key(1).decrypt(one.encrypted_keys["bob"], OAEP) for one in (again, self.sealed)]
        self.assertNotEqual(*keys)
        self.assertEqual([44, 44], [len(key) for key in keys])

    def test_entry_size(self) -> None:
        """Each entry has the 384 bytes that its slot in the store has."""
        self.assertEqual({384}, {len(key) for key in self.sealed.encrypted_keys.values()})

    def test_texts(self) -> None:
        """Any text comes back as it was: empty, one line of many bytes, every script."""
        for text in ("", "x" * 16384, "\u202e\U0010ffff\ufeff\r\n\t"):
            sealed = envelope.seal(text, [bob.keys()])
            self.assertEqual(
                text, envelope.open_package(sealed.encrypted_message, sealed.encrypted_keys["bob"], bob.kid, BOB)
            )


class OpenTests(EnvelopeCase):
    """Tests for `open_package`."""

    def test_published_token(self) -> None:
        """The token of Fernet's specification opens; its broken ones do not."""
        fernet = figures("published")["fernet"]
        wrapped = rsa_key(1).public_key().encrypt(fernet["secret"].encode(), OAEP)
        self.assertEqual(fernet["text"], self.open(fernet["token"], wrapped))
        self.assertEqual(6, len(fernet["invalid"]))
        for token in fernet["invalid"].values():
            self.refuse(DAMAGED, token, wrapped)

    def test_no_entry(self) -> None:
        """Without an entry of one's own it is for others."""
        wrapped = self.sealed.encrypted_keys["bob"]
        for entry in ((None, None), (None, bob.kid), (wrapped, None)):
            error = self.assertRaises(Undecryptable, envelope.open_package, self.sealed.encrypted_message, *entry, BOB)
            self.assertEqual(NOT_FOR_YOU, str(error))

    def test_unknown_key(self) -> None:
        """An entry for a key that the reader does not have is told apart."""
        wrapped = self.sealed.encrypted_keys["bob"]
        for kid in (alice.kid, "", bob.kid.upper()):
            error = self.assertRaises(
                Undecryptable, envelope.open_package, self.sealed.encrypted_message, wrapped, kid, BOB
            )
            self.assertEqual(OTHER_KEY, str(error))

    def test_old_key(self) -> None:
        """A reader with several RSA keys opens with the one named."""
        sealed = envelope.seal("old", [Person("bob", rk_der=rsa_public_der(rsa_key(2).public_key())).keys()])
        keys = {**BOB, sealed.kids["bob"]: rsa_key(2)}
        opened = envelope.open_package(sealed.encrypted_message, sealed.encrypted_keys["bob"], sealed.kids["bob"], keys)
        self.assertEqual("old", opened)

    def test_somebody_elses_entry(self) -> None:
        """Alice's entry under bob's key does not open; nor does bob's key of another message."""
        self.refuse(DAMAGED, wrapped=self.sealed.encrypted_keys["alice"])
        other = envelope.seal("other", [bob.keys()])
        self.refuse(DAMAGED, wrapped=other.encrypted_keys["bob"])

    def test_flipped_entry(self) -> None:
        """One bit of the wrapped key changed, and it does not open."""
        wrapped = self.sealed.encrypted_keys["bob"]
        for bit in range(0, 3072, 191):
            self.refuse(DAMAGED, wrapped=flipped(wrapped, bit))

    def test_flipped_token(self) -> None:
        """One bit of the token changed, and it does not open, be it version, time, IV, text or MAC."""
        token = base64.urlsafe_b64decode(self.sealed.encrypted_message)
        for bit in (0, 7, 8, 71, 72, 199, 200, 8 * len(token) - 257, 8 * len(token) - 256, 8 * len(token) - 1):
            self.refuse(DAMAGED, base64.urlsafe_b64encode(flipped(token, bit)).decode())

    def test_entry_of_another_size(self) -> None:
        """A wrapped key of other than 384 bytes does not even reach RSA."""
        wrapped = self.sealed.encrypted_keys["bob"]
        for wrong in (b"", wrapped[:-1], b"\0" + wrapped, wrapped + b"\0", wrapped * 2):
            self.refuse(DAMAGED, wrapped=wrong)

    def test_entry_above_the_modulus(self) -> None:
        """384 bytes that are no number below the modulus do not open."""
        self.refuse(DAMAGED, wrapped=b"\xff" * 384)
        self.refuse(DAMAGED, wrapped=bytes(384))

    def test_key_of_another_length(self) -> None:
        """A key of 43 or 45 bytes, or none, is refused, also where base64 would forgive it."""
        key = Fernet.generate_key()
        token = Fernet(key).encrypt_at_time(b"x", 0).decode()
        for plaintext in (
            key[:-1],
            key + b"=",
            key + b"\n",
            b"\n" + key,
            key + b" ",
            b"",
            base64.urlsafe_b64decode(key),
        ):
            wrapped = rsa_key(1).public_key().encrypt(plaintext, OAEP)
            self.refuse(DAMAGED, token, wrapped)

    def test_key_not_canonical(self) -> None:
        """44 bytes that are not the one spelling of their key are refused."""
        raw = b"\xfb" * 32  # "-_" in the URL-safe alphabet
        key = base64.urlsafe_b64encode(raw)
        token = Fernet(key).encrypt_at_time(b"x", 0).decode()
        spellings = (base64.b64encode(raw), key[:42] + b"7=", key[:40] + b"\n" + key[40:43], b"\xff" * 44, b"=" * 44)
        for plaintext in spellings:
            self.assertEqual(44, len(plaintext))
            self.refuse(DAMAGED, token, rsa_key(1).public_key().encrypt(plaintext, OAEP))
        self.assertEqual("x", self.open(token, rsa_key(1).public_key().encrypt(key, OAEP)))

    def test_other_padding(self) -> None:
        """The key wrapped with SHA-1, with a label, or by PKCS#1 v1.5 does not open."""
        key = Fernet.generate_key()
        token = Fernet(key).encrypt_at_time(b"x", 0).decode()
        for other in (
            padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
            padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA256(), None),
            padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"label"),
            padding.PKCS1v15(),
        ):
            self.refuse(DAMAGED, token, rsa_key(1).public_key().encrypt(key, other))

    def test_newer_body(self) -> None:
        """A body that begins with 0x00 is of a kind that comes later."""
        for body in (b"\x00", b'\x00{"t":"edit"}', b"\x00\xff"):
            self.refuse(NEWER, *self.made(body))

    def test_nul_inside(self) -> None:
        """Text has no U+0000."""
        self.refuse(DAMAGED, *self.made(b"a\x00b"))

    def test_not_utf8(self) -> None:
        """A body that is not UTF-8 is not shown: overlong forms, surrogates and stray bytes included."""
        for body in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xe2\x82", b"\xf4\x90\x80\x80"):
            self.refuse(DAMAGED, *self.made(body))

    def test_hostile_tokens(self) -> None:
        """Tokens that are no token do not open and raise nothing else."""
        for token in ("", "gAAAAA", "é" * 100, "\0", "=" * 100, "g" * 100_000, self.sealed.encrypted_message[:-4]):
            self.refuse(DAMAGED, token)

    def test_reasons_say_nothing_else(self) -> None:
        """The reasons are four, fixed, and different."""
        self.assertEqual(4, len({NOT_FOR_YOU, OTHER_KEY, DAMAGED, NEWER}))


class AudienceTests(SynchronousTestCase):
    """Tests for the bytes that name the readers."""

    def test_exact_bytes(self) -> None:
        """Compact JSON, the names in byte order whatever order they came in."""
        kids = {
            "bob": "b" * 32,
            "al-ice": "a" * 32,
            "alice": "c" * 32,
            "0": "d" * 32,
            "al.x": "e" * 32,
            "al_x": "f" * 32,
        }
        expected = json.dumps([[user, kids[user]] for user in sorted(kids)], separators=(",", ":")).encode()
        self.assertEqual(expected, envelope.audience(kids))
        self.assertEqual(expected, envelope.audience(dict(reversed(kids.items()))))
        order = [entry[0] for entry in json.loads(expected)]
        self.assertEqual(["0", "al-ice", "al.x", "al_x", "alice", "bob"], order)

    def test_digest(self) -> None:
        """H("rcp", audience)."""
        body = envelope.audience({"alice": "a" * 32})
        self.assertEqual(
            hashlib.sha256(b"\x03rcp" + bytes([len(body)]) + body).digest(), envelope.audience_digest(body)
        )

    def test_slots_are_in_the_same_order(self) -> None:
        """The wrapped keys lie in the order in which the audience names them."""
        wrapped = {user: os.urandom(4) for user in ("bob", "alice", "a.b", "a-b")}
        named = [user for user, _ in json.loads(envelope.audience(dict.fromkeys(wrapped, "k")))]
        self.assertEqual([wrapped[user] for user in named], envelope.in_audience_order(wrapped))

    def test_empty(self) -> None:
        """Nobody is an empty list."""
        self.assertEqual(b"[]", envelope.audience({}))
