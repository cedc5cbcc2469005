"""Tests for the package: who can open it, what of it cannot be changed, and what it says when it was."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any, Final

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from msgspec.structs import replace as replace_fields
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import envelope
from securechat.crypto import primitives as p
from securechat.crypto.envelope import MAX_HEADER, OAEP, Delivered, Examined, Header
from securechat.crypto.findings import Finding
from securechat.crypto.identity import Device
from securechat.crypto.signed import to_bytes
from securechat.errors import InvalidKey, Undecryptable
from securechat.wire.messages import Package
from tests.cast import NOW, Conversation, Person, Room, chained, figures, flipped, readers_of, rsa_key
from tests.unit.test_crypto_primitives import hkdf_sha256

alice, bob, mallory = Person("alice", 0), Person("bob", 1), Person("mallory", 2)
TEXT: Final = "Hello everyone! Grüße \U0001f44b"


def plain_reader(package: str, user: str, private: RSAPrivateKey) -> str:
    """Opens a package knowing nothing but the two fields that the product has always had."""
    fields = json.loads(package)
    wrapped = base64.b64decode(fields["encrypted_keys"][user])
    key = private.decrypt(
        wrapped,
        padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None),
    )
    return Fernet(key).decrypt(fields["encrypted_message"]).decode()


def wrapped_for(person: Person, plaintext: bytes) -> bytes:
    """Anything, encrypted for a person as message keys are."""
    return next(iter(person.private.values())).public_key().encrypt(plaintext, OAEP)


def bind_by_hand(key: bytes, hdr: bytes) -> bytes:
    """HMAC-SHA256 under HKDF-SHA256 of the 44 bytes, written down a second time."""
    return hmac.digest(hkdf_sha256(key, b"", b"SecureChat 1 bind", 32), hdr, "sha256")


class EnvelopeCase(SynchronousTestCase):
    """What the tests of packages share: one that alice sealed for bob and herself, and what is made of it."""

    room = Room(alice, bob)
    talk = Conversation(room.log, alice, bob)
    posted = talk.say(alice, TEXT)
    sealed = posted.sealed
    good = talk.deliver(posted, bob)
    header = envelope.parse_header(sealed.hdr)

    def examine(self, message: Delivered, device: Device | None = None, reader: Person = bob) -> Examined:
        """What bob finds, who knows alice's device."""
        return envelope.examine(message, alice.vouched() if device is None else device, reader.private)

    def fault(self, expected: Finding, *messages: Delivered, device: Device | None = None) -> None:
        """The signed part is refused, for that reason; nothing of the text comes out."""
        for message in messages:
            self.assertEqual(Examined(message, fault=expected), self.examine(message, device))

    def unread(self, expected: Finding, *messages: Delivered, reader: Person = bob) -> None:
        """The header holds, but there is no text, for that reason."""
        for message in messages:
            found = self.examine(message, reader=reader)
            header = envelope.parse_header(message.hdr)
            self.assertEqual(Examined(message, header, unread=expected), found)

    def signed(self, hdr: bytes, bind: bytes | None = None, author: Person = alice) -> dict[str, bytes]:
        """A signed part that only its author could make, of any header."""
        bind = bytes(32) if bind is None else bind
        return {"hdr": hdr, "bind": bind, "sig": p.sign(author.device(), "envelope", p.vec(hdr) + p.vec(bind))}

    def package(
        self, token: bytes | str, key_plaintext: bytes, *, key: bytes | None = None, **changes: Any
    ) -> Delivered:
        """A package for bob of any token and any OAEP plaintext, correctly hashed, bound and signed by its author."""
        raw = token.encode() if isinstance(token, str) else token
        header = replace_fields(self.header, mh=hashlib.sha256(raw).hexdigest())
        hdr = to_bytes(header)
        made = self.signed(hdr, bind_by_hand(key_plaintext if key is None else key, hdr))
        wrapped = wrapped_for(bob, key_plaintext)
        return replace(self.good, token=raw.decode("latin-1"), wrapped=wrapped, **(made | changes))

    def body(self, body: bytes) -> Delivered:
        """A package for bob of any body."""
        key = Fernet.generate_key()
        return self.package(Fernet(key).encrypt_at_time(body, 0), key)


class SealTests(EnvelopeCase):
    """Tests for `seal`."""

    def test_each_reader_opens(self) -> None:
        """Everybody it is sealed for opens it with their own entry."""
        for person in (alice, bob):
            found = self.examine(self.talk.deliver(self.posted, person), reader=person)
            self.assertEqual((TEXT, None, None), (found.text, found.fault, found.unread))
            self.assertEqual(person.kid, self.sealed.kids[person.user])

    def test_nobody_else(self) -> None:
        """There are entries for these readers and no others."""
        self.assertEqual({"alice", "bob"}, self.sealed.encrypted_keys.keys())
        self.assertEqual({"alice", "bob"}, self.sealed.kids.keys())

    def test_plain_reader(self) -> None:
        """A reader of the product's original package opens it as it is."""
        entries = {user: base64.b64encode(key).decode() for user, key in self.sealed.encrypted_keys.items()}
        package = json.dumps({"encrypted_message": self.sealed.encrypted_message, "encrypted_keys": entries})
        self.assertEqual(TEXT, plain_reader(package, "alice", rsa_key(0)))
        self.assertEqual(TEXT, plain_reader(package, "bob", rsa_key(1)))

    def test_header(self) -> None:
        """The header says who, where, after what and for whom, and what was sealed."""
        position = self.talk.position(bob)
        sealed = envelope.seal("x", readers_of([alice, bob]), position, bob.device())
        header = envelope.parse_header(sealed.hdr)
        for name in ("room", "author", "dev", "dl", "ctr", "prev", "mid", "head", "th", "at"):
            self.assertEqual(getattr(position, name), getattr(header, name), name)
        self.assertEqual(hashlib.sha256(sealed.encrypted_message.encode()).hexdigest(), header.mh)
        self.assertEqual(p.digest("rcp", envelope.audience(sealed.kids)).hex(), header.rcp)

    def test_bind_by_hand(self) -> None:
        """`bind` is HMAC over the header, under a key that HKDF makes of the message key's 44 bytes."""
        key = rsa_key(1).decrypt(self.sealed.encrypted_keys["bob"], OAEP)
        self.assertEqual(44, len(key))
        self.assertEqual(bind_by_hand(key, self.sealed.hdr), self.sealed.bind)

    def test_id_by_hand(self) -> None:
        """H("id", hdr, bind): so two binds of one header are two messages; the signature is no part of it."""
        hdr, bind = self.sealed.hdr, self.sealed.bind
        self.assertEqual(p.digest("id", hdr, bind).hex(), self.sealed.id)
        self.assertEqual(self.sealed.id, self.good.id)
        self.assertNotEqual(self.sealed.id, replace(self.sealed, bind=bytes(32)).id)
        self.assertEqual(self.sealed.id, replace(self.sealed, sig=bytes(64)).id)

    def test_signature(self) -> None:
        """The author's device signs header and bind, each with its length."""
        content = p.vec(self.sealed.hdr) + p.vec(self.sealed.bind)
        p.verify(p.ed25519_public(alice.device()), "envelope", content, self.sealed.sig)

    def test_verify_header(self) -> None:
        """Whoever knows the device reads the header without opening anything, and nobody else does."""
        signed = (self.sealed.hdr, self.sealed.bind, self.sealed.sig)
        self.assertEqual(self.header, envelope.verify_header(*signed, p.ed25519_public(alice.device())))
        self.assertRaises(InvalidKey, envelope.verify_header, *signed, p.ed25519_public(bob.device()))
        for at in range(3):
            wrong = [flipped(part, 7) if at == number else part for number, part in enumerate(signed)]
            self.assertRaises(InvalidKey, envelope.verify_header, *wrong, p.ed25519_public(alice.device()))

    def test_no_time_inside(self) -> None:
        """The token shows no time: its stamp is 0."""
        token = base64.urlsafe_b64decode(self.sealed.encrypted_message)
        self.assertEqual(b"\x80" + bytes(8), token[:9])

    def test_nothing_is_used_twice(self) -> None:
        """The same text sealed again shares neither key nor token."""
        again = self.talk.seal(alice, TEXT)
        self.assertNotEqual(again.encrypted_message, self.sealed.encrypted_message)
        keys = [rsa_key(1).decrypt(one.encrypted_keys["bob"], OAEP) for one in (again, self.sealed)]
        self.assertNotEqual(*keys)

    def test_entry_size(self) -> None:
        """Each entry has the 384 bytes that its slot in the store has."""
        self.assertEqual({384}, {len(key) for key in self.sealed.encrypted_keys.values()})

    def test_texts(self) -> None:
        """Any text comes back as it was: empty, one line of many bytes, every script."""
        for text in ("", "x" * 16384, "\u202e\U0010ffff\ufeff\r\n\t"):
            talk = Conversation(self.room.log, alice, bob)
            self.assertEqual(text, self.examine(talk.deliver(talk.say(alice, text), bob)).text)


class SignedPartTests(EnvelopeCase):
    """Tests for `examine`: what is looked at before any key is used."""

    def test_stripped(self) -> None:
        """Without a signature, or with one cut short, it is no package."""
        for sig in (b"", self.sealed.sig[:63], self.sealed.sig + b"\0"):
            self.fault(Finding.MALFORMED, replace(self.good, sig=sig))

    def test_sizes(self) -> None:
        """A bind of other than 32 bytes, and a header above its limit, are refused before they are looked at."""
        for bind in (b"", self.sealed.bind[:31], self.sealed.bind + b"\0"):
            self.fault(Finding.MALFORMED, replace(self.good, **self.signed(self.sealed.hdr, bind)))
        self.fault(Finding.MALFORMED, replace(self.good, hdr=b"x" * (MAX_HEADER + 1)))

    def test_wrong_signature(self) -> None:
        """A signature of nobody, of another device, person or label is refused."""
        content = p.vec(self.sealed.hdr) + p.vec(self.sealed.bind)
        for sig in (
            bytes(64), p.sign(alice.device(2), "envelope", content), p.sign(bob.device(), "envelope", content),
            p.sign(alice.device(), "room", content), p.sign(alice.identity, "envelope", content),
            p.sign(alice.device(), "envelope", self.sealed.hdr + self.sealed.bind),
        ):  # fmt: skip
            self.fault(Finding.BAD_SIGNATURE, replace(self.good, sig=sig))

    def test_every_byte_of_the_signed_part(self) -> None:
        """One bit of header, bind or signature changed, and it is refused."""
        for name, step in (("hdr", 61), ("bind", 37), ("sig", 41)):
            part = getattr(self.good, name)
            for bit in range(0, 8 * len(part), step):
                self.fault(Finding.BAD_SIGNATURE, replace(self.good, **{name: flipped(part, bit)}))

    def test_a_byte_moves(self) -> None:
        """A byte that moves from the header to the bind makes another package."""
        hdr, bind = self.sealed.hdr, self.sealed.bind
        self.fault(Finding.BAD_SIGNATURE, replace(self.good, hdr=hdr[:-1], bind=hdr[-1:] + bind[:-1]))

    def test_unknown_device(self) -> None:
        """A device that nobody vouches for, or that the server attributes to somebody else, wrote nothing."""
        found = envelope.examine(self.good, None, bob.private)
        self.assertEqual(Finding.UNKNOWN_DEVICE, found.fault)
        self.fault(Finding.UNKNOWN_DEVICE, self.good, device=alice.vouched(2))
        self.fault(Finding.UNKNOWN_DEVICE, self.good, device=bob.vouched())
        self.fault(Finding.UNKNOWN_DEVICE, replace(self.good, sender="bob"), replace(self.good, device=bob.dev()))

    def test_sender_is_the_author(self) -> None:
        """What the server says of sender, device and message id is what the header says, or it is refused."""
        for change in ({"author": "bob"}, {"dev": bob.dev()}, {"mid": "0" * 32}):
            made = self.signed(to_bytes(replace_fields(self.header, **change)))
            self.fault(Finding.MALFORMED, replace(self.good, **made))
        self.fault(Finding.MALFORMED, replace(self.good, mid="0" * 32))

    def test_not_a_header(self) -> None:
        """What its author signed, but is no header, is refused: no JSON, other fields, another spelling."""
        hdr = self.sealed.hdr
        for wrong in (
            b"", b"{}", b"null", hdr + b" ", hdr.replace(b'"ctr":1', b'"ctr":1.0'), hdr.replace(b'"ctr":1', b'"ctr":0'),
            hdr.replace(b'"t":"sc/1"', b'"t":"sc/2"'), b"[" * 2000, b"\xff" * 9, alice.bundle().list,
        ):  # fmt: skip
            self.fault(Finding.MALFORMED, replace(self.good, **self.signed(wrong)))

    def test_other_room(self) -> None:
        """A package of another room is refused, whoever moves it."""
        other = Room(alice, bob, name="other")
        self.fault(Finding.OTHER_ROOM, replace(self.good, room=other.log.id))

    def test_private_and_room(self) -> None:
        """A private message is none of a room, and the other way round."""
        pm = Conversation(None, alice, bob)
        private = pm.deliver(pm.say(alice, "psst"), bob)
        self.assertEqual("psst", self.examine(private).text)
        self.fault(Finding.OTHER_ROOM, replace(private, room=self.talk.id), replace(self.good, room=pm.id))

    def test_header_fields(self) -> None:
        """Each field of a header is there and of its form."""
        whole = json.loads(self.sealed.hdr)
        self.assertEqual(
            ["t", "room", "from", "dev", "dl", "ctr", "prev", "mid", "head", "rcp", "mh", "th", "at"], list(whole)
        )
        for name in whole:
            rest = {key: whole[key] for key in whole if key != name}
            self.assertRaises(InvalidKey, envelope.parse_header, json.dumps(rest, separators=(",", ":")).encode())
        wrong: dict[str, tuple[Any, ...]] = {
            "t": ("sc/0", None), "from": ("Alice", "", "a" * 33, None), "dev": ("", "x" * 32, alice.dev().upper()),
            "dl": ([0, "a" * 64], [1], ["1", "a" * 64], [1, ""]), "ctr": (0, -1, 1.0, True, 2**53, "1"),
            "prev": (None, "a" * 63), "mid": ("", "a" * 64), "head": ("a", None), "rcp": ("",), "mh": ("",),
            "th": ([0], [-1, "a" * 64], [0, ""]), "at": (-1, 1.5, 2**53), "room": (1, None),
        }  # fmt: skip
        self.assertEqual(set(whole), set(wrong))
        for name, values in wrong.items():
            for value in values:
                data = json.dumps(whole | {name: value}, separators=(",", ":")).encode()
                self.assertRaises(InvalidKey, envelope.parse_header, data)


class OpenTests(EnvelopeCase):
    """Tests for `examine`: what is opened."""

    def test_made_by_hand(self) -> None:
        """The tests below make packages that differ from good ones in one thing only."""
        self.assertEqual("by hand", self.examine(self.body(b"by hand")).text)

    def test_published_token(self) -> None:
        """The token of Fernet's specification opens; its broken ones do not."""
        fernet = figures("published")["fernet"]
        secret = fernet["secret"].encode()
        self.assertEqual(fernet["text"], self.examine(self.package(fernet["token"], secret)).text)
        self.assertEqual(6, len(fernet["invalid"]))
        for token in fernet["invalid"].values():
            self.unread(Finding.DAMAGED, self.package(token, secret))

    def test_no_entry(self) -> None:
        """Without an entry of one's own it is for others."""
        self.unread(
            Finding.NOT_FOR_YOU,
            replace(self.good, wrapped=None, kid=None),
            replace(self.good, wrapped=None),
            replace(self.good, kid=None),
        )

    def test_unknown_key(self) -> None:
        """An entry for a key that the reader does not have is told apart."""
        self.unread(Finding.OTHER_KEY, *(replace(self.good, kid=kid) for kid in (alice.kid, "", bob.kid.upper())))

    def test_old_key(self) -> None:
        """A reader with several RSA keys opens with the one named."""
        keys = bob.private | mallory.private
        self.assertEqual(TEXT, envelope.examine(self.good, alice.vouched(), keys).text)
        other = replace(self.good, kid=mallory.kid)
        self.assertEqual(Finding.DAMAGED, envelope.examine(other, alice.vouched(), keys).unread)

    def test_another_token(self) -> None:
        """Another token, though it opens under the same key, is not the one that was signed."""
        key = rsa_key(1).decrypt(self.sealed.encrypted_keys["bob"], OAEP)
        token = Fernet(key).encrypt_at_time(b"forged", 0).decode()
        self.unread(Finding.OTHER_TEXT, replace(self.good, token=token))

    def test_another_token_and_key(self) -> None:
        """Nor do body and key of somebody else's making pass under alice's header."""
        key = Fernet.generate_key()
        token = Fernet(key).encrypt_at_time(b"forged", 0).decode()
        self.unread(Finding.OTHER_TEXT, replace(self.good, token=token, wrapped=wrapped_for(bob, key)))

    def test_flipped_token(self) -> None:
        """One bit of the token changed, and it is another."""
        token = self.good.token.encode()
        for bit in range(0, 8 * len(token), 29):
            altered = flipped(token, bit).decode("latin-1")
            self.unread(Finding.OTHER_TEXT, replace(self.good, token=altered))

    def test_hostile_tokens(self) -> None:
        """Tokens that are no token raise nothing, be they exchanged or signed by their author."""
        tokens = ("", "gAAAAA", "\0", "=" * 100, "g" * 100_000, self.sealed.encrypted_message[:-4])
        self.unread(Finding.OTHER_TEXT, *(replace(self.good, token=token) for token in (*tokens, "é" * 9, "\ud800")))
        key = Fernet.generate_key()
        self.unread(Finding.DAMAGED, *(self.package(token, key) for token in tokens))

    def test_another_key(self) -> None:
        """A wrapped key that opens, but is another message's or anybody's, is found out before the token is opened."""
        other = self.talk.seal(alice, "other")
        self.unread(Finding.OTHER_TEXT, replace(self.good, wrapped=other.encrypted_keys["bob"]))
        self.unread(Finding.OTHER_TEXT, replace(self.good, wrapped=wrapped_for(bob, Fernet.generate_key())))

    def test_somebody_elses_entry(self) -> None:
        """Alice's entry under bob's key does not open."""
        self.unread(Finding.DAMAGED, replace(self.good, wrapped=self.sealed.encrypted_keys["alice"]))

    def test_flipped_entry(self) -> None:
        """One bit of the wrapped key changed, and it does not open."""
        wrapped = self.sealed.encrypted_keys["bob"]
        self.unread(
            Finding.DAMAGED, *(replace(self.good, wrapped=flipped(wrapped, bit)) for bit in range(0, 3072, 307))
        )

    def test_entry_of_another_size(self) -> None:
        """A wrapped key of other than 384 bytes does not even reach RSA."""
        wrapped = self.sealed.encrypted_keys["bob"]
        for wrong in (b"", wrapped[:-1], b"\0" + wrapped, wrapped + b"\0", wrapped * 2):
            self.unread(Finding.DAMAGED, replace(self.good, wrapped=wrong))

    def test_entry_above_the_modulus(self) -> None:
        """384 bytes that are no number below the modulus do not open."""
        self.unread(Finding.DAMAGED, replace(self.good, wrapped=b"\xff" * 384), replace(self.good, wrapped=bytes(384)))

    def test_key_of_another_length(self) -> None:
        """A key of 43 or 45 bytes, or none, is refused, also where base64 would forgive it and its author bound it."""
        key = Fernet.generate_key()
        token = Fernet(key).encrypt_at_time(b"x", 0)
        for plaintext in (
            key[:-1], key + b"=", key + b"\n", b"\n" + key, key + b" ", b"", base64.urlsafe_b64decode(key),
        ):  # fmt: skip
            self.unread(Finding.DAMAGED, self.package(token, plaintext))

    def test_key_not_canonical(self) -> None:
        """44 bytes that are not the one spelling of their key are refused."""
        raw = b"\xfb" * 32  # "-_" in the URL-safe alphabet
        key = base64.urlsafe_b64encode(raw)
        token = Fernet(key).encrypt_at_time(b"x", 0)
        spellings = (base64.b64encode(raw), key[:42] + b"7=", key[:40] + b"\n" + key[40:43], b"\xff" * 44, b"=" * 44)
        for plaintext in spellings:
            self.assertEqual(44, len(plaintext))
            self.unread(Finding.DAMAGED, self.package(token, plaintext))
        self.assertEqual("x", self.examine(self.package(token, key)).text)

    def test_other_padding(self) -> None:
        """The key wrapped with SHA-1, with a label, or by PKCS#1 v1.5 does not open."""
        key = rsa_key(1).decrypt(self.sealed.encrypted_keys["bob"], OAEP)
        for other in (
            padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
            padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA256(), None),
            padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"label"),
            padding.PKCS1v15(),
        ):
            self.unread(Finding.DAMAGED, replace(self.good, wrapped=rsa_key(1).public_key().encrypt(key, other)))

    def test_newer_body(self) -> None:
        """A body that begins with 0x00 is of a kind that comes later."""
        self.unread(Finding.NEWER, *map(self.body, (b"\x00", b'\x00{"t":"edit"}', b"\x00\xff")))

    def test_nul_inside(self) -> None:
        """Text has no U+0000."""
        self.unread(Finding.DAMAGED, self.body(b"a\x00b"))

    def test_not_utf8(self) -> None:
        """A body that is not UTF-8 is not shown: overlong forms, surrogates and stray bytes included."""
        self.unread(
            Finding.DAMAGED, *map(self.body, (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xe2\x82", b"\xf4\x90\x80\x80"))
        )

    def test_unwrap(self) -> None:
        """`unwrap` alone gives the key, and one fixed reason for all that it does not."""
        key = envelope.unwrap(rsa_key(1), self.sealed.encrypted_keys["bob"])
        self.assertEqual(44, len(key))
        for wrong in (b"", bytes(384), self.sealed.encrypted_keys["alice"], wrapped_for(bob, b"a" * 40)):
            error = self.assertRaises(Undecryptable, envelope.unwrap, rsa_key(1), wrong)
            self.assertEqual(Finding.DAMAGED, error.finding)
            self.assertTrue(error.__suppress_context__ or error.__context__ is None)


class VersionTwoTests(EnvelopeCase):
    """Tests for packages of version 2: who wrote them is checked, and that is all that this client can do."""

    def delivered(self, package: Package, **changes: Any) -> Delivered:
        """As the server hands it over."""
        fields: dict[str, Any] = {
            "token": "", "hdr": package.hdr, "bind": envelope.bind_of(package.bind, package.ct), "sig": package.sig,
            "wrapped": None, "kid": None, "mid": envelope.parse_chain_header(package.hdr).mid, "chained": True,
        }  # fmt: skip
        return replace(self.good, **fields | changes)

    def test_genuine(self) -> None:
        """Its header counts; its text is for a newer client."""
        position = self.talk.position(alice)
        message = self.delivered(chained(alice, position))
        found = self.examine(message)
        self.assertEqual((None, Finding.NEWER, ""), (found.fault, found.unread, found.text))
        header = found.header
        assert isinstance(header, envelope.ChainHeader)
        self.assertEqual((position.room, "alice", position.ctr), (header.room, header.author, header.ctr))
        self.assertEqual(
            envelope.message_id(message.hdr, hashlib.sha256(b"ciphertext, and its tag").digest()), message.id
        )

    def test_altered(self) -> None:
        """Another ciphertext, another signer, and a header of version 1 under a signature for version 2."""
        package = chained(alice, self.talk.position(alice))
        self.fault(Finding.BAD_SIGNATURE, self.delivered(package, bind=envelope.bind_of(b"", b"another ciphertext")))
        self.fault(Finding.BAD_SIGNATURE, self.delivered(chained(mallory, self.talk.position(alice))))
        self.fault(Finding.BAD_SIGNATURE, replace(self.good, chained=True), self.delivered(package, chained=False))
        bind = envelope.bind_of(b"", package.ct)
        sig = p.sign(alice.device(), "message", p.vec(self.sealed.hdr) + p.vec(bind))
        self.fault(Finding.MALFORMED, replace(self.good, chained=True, bind=bind, sig=sig))

    def test_elsewhere(self) -> None:
        """One written for another conversation, or given out as another's."""
        self.fault(Finding.OTHER_ROOM, self.delivered(chained(alice, self.talk.position(alice), room="f" * 64)))
        self.fault(Finding.MALFORMED, self.delivered(chained(alice, self.talk.position(alice)), mid="f" * 32))

    def test_header(self) -> None:
        """Its header has exactly its fields, in one form, and is not too long."""
        hdr = chained(alice, self.talk.position(alice)).hdr
        for wrong in (hdr[:-1] + b" }", hdr.replace(b'"gen":0', b'"gen":-1'), hdr.replace(b"sc/2", b"sc/1"), b"{}"):
            self.assertRaises(InvalidKey, envelope.parse_chain_header, wrong)
        self.assertRaises(InvalidKey, envelope.parse_chain_header, hdr + b" " * MAX_HEADER)


class BindTests(EnvelopeCase):
    """Tests for what only `bind` prevents."""

    def resealed(self, key: bytes | None) -> Delivered:
        """Mallory's header over alice's very token and entry for bob; bound with what she knows of the key."""
        position = self.talk.position(mallory)
        header = Header(
            room=position.room, author="mallory", dev=mallory.dev(), dl=mallory.dl, ctr=1, prev="", mid=position.mid,
            head=position.head, rcp=self.header.rcp, mh=self.header.mh, th=position.th, at=NOW,
        )  # fmt: skip
        hdr = to_bytes(header)
        bind = self.sealed.bind if key is None else bind_by_hand(key, hdr)
        made = self.signed(hdr, bind, mallory)
        return replace(self.good, sender="mallory", device=mallory.dev(), mid=position.mid, **made)

    def test_signed_by_another(self) -> None:
        """Whoever could not open a message cannot pass it off as theirs: alice's bind is not of their header."""
        for key in (None, Fernet.generate_key()):
            found = envelope.examine(self.resealed(key), mallory.vouched(), bob.private)
            self.assertEqual(Finding.OTHER_TEXT, found.unread)

    def test_signed_by_a_reader(self) -> None:
        """Whoever could open it can: that is quoting. So the test above would notice a bind that is not compared."""
        key = rsa_key(1).decrypt(self.sealed.encrypted_keys["bob"], OAEP)
        found = envelope.examine(self.resealed(key), mallory.vouched(), bob.private)
        self.assertEqual((TEXT, None), (found.text, found.unread))

    def test_fernet_does_not_commit_to_its_key(self) -> None:
        """One token that two keys open, to two texts: the package opens under the one it was bound to, and only so.

        A Fernet key is a MAC key and an AES key. Keys with one MAC key and two AES keys both accept the token; the
        second decrypts to noise, which after some tries ends in a good padding.
        """
        mac, aes, other = b"m" * 16, b"a" * 16, b"b" * 16
        padded = b"pay bob".ljust(16, b"\x09")
        iv = ciphertext = b""
        for attempt in range(10_000):
            iv = hashlib.sha256(b"%d" % attempt).digest()[:16]
            encryptor = Cipher(algorithms.AES(aes), modes.CBC(iv)).encryptor()
            ciphertext = encryptor.update(padded) + encryptor.finalize()
            decryptor = Cipher(algorithms.AES(other), modes.CBC(iv)).decryptor()
            noise = decryptor.update(ciphertext) + decryptor.finalize()
            if noise.endswith(b"\x01"):
                break
        content = b"\x80" + bytes(8) + iv + ciphertext
        token = base64.urlsafe_b64encode(content + hmac.digest(mac, content, "sha256"))
        first, second = (base64.urlsafe_b64encode(mac + half) for half in (aes, other))
        self.assertEqual(b"pay bob", Fernet(first).decrypt(token))
        self.assertEqual(15, len(Fernet(second).decrypt(token)))  # Fernet alone takes it

        message = self.package(token, first)
        self.assertEqual("pay bob", self.examine(message).text)
        self.unread(Finding.OTHER_TEXT, replace(message, wrapped=wrapped_for(bob, second)))

    def test_one_header_two_binds(self) -> None:
        """Its author can sign one header with two binds; then they are two messages, by their ids."""
        key, other = Fernet.generate_key(), Fernet.generate_key()
        token = Fernet(key).encrypt_at_time(b"x", 0)
        one, two = self.package(token, key), self.package(token, key, key=other)
        self.assertEqual(one.hdr, two.hdr)
        self.assertNotEqual(one.id, two.id)
        self.assertEqual("x", self.examine(one).text)
        self.unread(Finding.OTHER_TEXT, two)


class AudienceTests(SynchronousTestCase):
    """Tests for the bytes that name the readers."""

    kids = {"bob": "b" * 32, "al-ice": "a" * 32, "alice": "c" * 32, "0": "d" * 32, "al.x": "e" * 32, "al_x": "f" * 32}

    def test_exact_bytes(self) -> None:
        """Compact JSON, the names in byte order whatever order they came in."""
        expected = json.dumps([[user, self.kids[user]] for user in sorted(self.kids)], separators=(",", ":")).encode()
        self.assertEqual(expected, envelope.audience(self.kids))
        self.assertEqual(expected, envelope.audience(dict(reversed(self.kids.items()))))
        order = [entry[0] for entry in json.loads(expected)]
        self.assertEqual(["0", "al-ice", "al.x", "al_x", "alice", "bob"], order)

    def test_digest(self) -> None:
        """H("rcp", audience)."""
        body = envelope.audience({"alice": "a" * 32})
        self.assertEqual(
            hashlib.sha256(b"\x03rcp" + bytes([len(body)]) + body).digest(), envelope.audience_digest(body)
        )

    def test_round_trip(self) -> None:
        """Who is named comes back, under the digest that was signed."""
        body = envelope.audience(self.kids)
        self.assertEqual(self.kids, envelope.parse_audience(body, envelope.audience_digest(body).hex()))

    def test_other_digest(self) -> None:
        """Other bytes than those of the digest are refused, however good they are."""
        one, other = envelope.audience(self.kids), envelope.audience({"alice": "a" * 32})
        digest = envelope.audience_digest(one).hex()
        self.assertRaises(InvalidKey, envelope.parse_audience, other, digest)
        self.assertRaises(InvalidKey, envelope.parse_audience, one, digest.upper())
        self.assertRaises(InvalidKey, envelope.parse_audience, one, "")

    def test_not_an_audience(self) -> None:
        """What its author signed, but is no audience, is refused: no order, somebody twice, other forms."""
        a, b = '["alice","' + "a" * 32 + '"]', '["bob","' + "b" * 32 + '"]'
        for text in (
            f"[{b},{a}]", f"[{a},{a}]", f"[{a},{a.replace('aaaa', 'bbbb')}]", f"[{a}, {b}]", f"[{a}]\n", "null", "",
            "{}", "[[]]", '[["alice"]]', f"[{a[:-1]},1]]", a.upper(), f"[{a.replace('alice', 'Alice')}]", "[" * 9999,
        ):  # fmt: skip
            digest = envelope.audience_digest(text.encode()).hex()
            self.assertRaises(InvalidKey, envelope.parse_audience, text.encode(), digest)

    def test_empty(self) -> None:
        """Nobody is an empty list."""
        self.assertEqual(b"[]", envelope.audience({}))

    def test_a_thousand(self) -> None:
        """A full room's audience is parsed whole."""
        kids = {f"user{number}": f"{number:032x}" for number in range(1000)}
        body = envelope.audience(kids)
        self.assertEqual(kids, envelope.parse_audience(body, envelope.audience_digest(body).hex()))
