"""Tests for the keystore: slots, the box, and the sealed records beside it."""

from __future__ import annotations

import json
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.keystore import Keystore, ProfileKeys, RecordSealer, Slot, make_box, make_slot
from securechat.errors import InvalidKey, WrongSecret
from tests.cast import SRV, Person, flipped, load_checked_before, rsa_key, signing_key

DATA_KEY = b"d" * 32
OLD_KEY, NEW_KEY = b"o" * 32, b"n" * 32
OLD_SALT, NEW_SALT = b"salt of the old!", b"salt of the new!"
alice = Person("alice")
KEYS = ProfileKeys(alice.device(), (rsa_key(),), alice.ik)


def slot(salt: bytes = OLD_SALT, key: bytes = OLD_KEY, user: str = "alice", srv: str = SRV) -> Slot:
    """The data key under a password."""
    return make_slot(srv, user, salt, key, DATA_KEY, b"0" * 12)


KEYSTORE = Keystore(SRV, "alice", (slot(),), make_box(SRV, "alice", KEYS, DATA_KEY, b"1" * 12))


class SlotTests(SynchronousTestCase):
    """Tests for the slots."""

    def test_open(self) -> None:
        """The password's key gives the data key."""
        self.assertEqual(DATA_KEY, KEYSTORE.open_slot(KEYSTORE.slots[0], OLD_KEY))

    def test_wrong_password(self) -> None:
        """Another one does not."""
        self.assertRaises(WrongSecret, KEYSTORE.open_slot, KEYSTORE.slots[0], NEW_KEY)

    def test_two_passwords(self) -> None:
        """While the password changes, the old one and the new one both open it, each its own slot."""
        both = KEYSTORE.with_slot(slot(NEW_SALT, NEW_KEY))
        self.assertEqual([OLD_SALT, NEW_SALT], [one.salt for one in both.slots])
        old, new = both.slots
        self.assertEqual([DATA_KEY] * 2, [both.open_slot(old, OLD_KEY), both.open_slot(new, NEW_KEY)])
        self.assertRaises(WrongSecret, both.open_slot, old, NEW_KEY)
        self.assertRaises(WrongSecret, both.open_slot, new, OLD_KEY)

    def test_third_password(self) -> None:
        """There are at most two: with a third, the oldest goes."""
        third = slot(b"salt of a third!", b"3" * 32)
        kept = KEYSTORE.with_slot(slot(NEW_SALT, NEW_KEY)).with_slot(third)
        self.assertEqual([NEW_SALT, third.salt], [one.salt for one in kept.slots])

    def test_only(self) -> None:
        """Once the new password served, its slot is the only one."""
        new = slot(NEW_SALT, NEW_KEY)
        self.assertEqual((new,), KEYSTORE.with_slot(new).with_only(new).slots)

    def test_box_stays(self) -> None:
        """What is done with slots leaves the box and the names alone."""
        changed = KEYSTORE.with_slot(slot(NEW_SALT, NEW_KEY))
        self.assertEqual((KEYSTORE.box, SRV, "alice"), (changed.box, changed.srv, changed.user))

    def test_moved(self) -> None:
        """A slot of another user's or server's keystore, or with another salt on it, does not open here."""
        for moved in (
            slot(user="bob"),
            slot(srv="B" * 43),
            replace(slot(), salt=NEW_SALT),
            Slot(OLD_SALT, slot(NEW_SALT).sealed),
        ):
            self.assertRaises(WrongSecret, KEYSTORE.open_slot, moved, OLD_KEY)

    def test_altered(self) -> None:
        """One bit changed, and it does not open."""
        good = KEYSTORE.slots[0]
        for bit in range(8 * len(good.sealed)):
            self.assertRaises(WrongSecret, KEYSTORE.open_slot, replace(good, sealed=flipped(good.sealed, bit)), OLD_KEY)


class BoxTests(SynchronousTestCase):
    """Tests for the keys inside."""

    def setUp(self) -> None:
        self.patch(p, "load_rsa_private", load_checked_before)

    def test_round_trip(self) -> None:
        """The keys come back; the identity's private half was never there."""
        opened = KEYSTORE.open_box(DATA_KEY)
        self.assertEqual(alice.dev(), opened.dev)
        self.assertEqual(alice.ik, opened.ik)
        self.assertEqual({p.key_id(p.rsa_public_der(rsa_key().public_key()))}, opened.by_kid().keys())

    def test_wrong_key(self) -> None:
        """Another data key does not open it."""
        self.assertRaises(WrongSecret, KEYSTORE.open_box, b"x" * 32)

    def test_moved(self) -> None:
        """The box of another user or server does not open here."""
        for elsewhere in (replace(KEYSTORE, user="bob"), replace(KEYSTORE, srv="B" * 43)):
            self.assertRaises(WrongSecret, elsewhere.open_box, DATA_KEY)

    def test_altered(self) -> None:
        """One bit changed, and it does not open."""
        box = KEYSTORE.box
        for bit in (*range(256), *range(256, 8 * len(box), 499), 8 * len(box) - 1):
            self.assertRaises(WrongSecret, replace(KEYSTORE, box=flipped(box, bit)).open_box, DATA_KEY)

    def test_no_slot_key_opens_it(self) -> None:
        """Neither the key of a slot nor the bare data key is the key of the box."""
        context = p.digest("keystore box", SRV.encode(), b"alice")
        for key in (OLD_KEY, DATA_KEY):
            self.assertRaises(WrongSecret, p.unseal, key, KEYSTORE.box, context)

    def test_holds_no_keys(self) -> None:
        """What opens but holds no keys is refused as such."""
        context = p.digest("keystore box", SRV.encode(), b"alice")
        for body in (
            b"{}",
            b"[]",
            b"1",
            b"null",
            b'{"dk":1,"rks":[],"ik":""}',
            b'{"dk":"x","rks":[],"ik":""}',
            b"x",
            b"\xff",
        ):
            box = p.seal(p.expand(DATA_KEY, "box", b"", 32), body, context, b"0" * 12)
            error = self.assertRaises((WrongSecret, InvalidKey), replace(KEYSTORE, box=box).open_box, DATA_KEY)
            self.assertTrue(str(error))


class FileTests(SynchronousTestCase):
    """Tests for the bytes of the file."""

    def test_round_trip(self) -> None:
        """With one slot and with two it comes back."""
        for keystore in (KEYSTORE, KEYSTORE.with_slot(slot(NEW_SALT, NEW_KEY))):
            self.assertEqual(keystore, Keystore.from_bytes(keystore.to_bytes()))

    def test_no_key_in_clear(self) -> None:
        """Neither the data key nor a private key stands in it."""
        content = KEYSTORE.to_bytes()
        for secret in (DATA_KEY, OLD_KEY, p.ed25519_seed(alice.device()), p.rsa_private_der(rsa_key())):
            self.assertNotIn(secret, content)
            self.assertNotIn(p.b64(secret).encode(), content)

    def test_newer(self) -> None:
        """A keystore of a newer version is refused as that."""
        for change in ({"v": 2}, {"t": "sc/other"}):
            fields = json.loads(KEYSTORE.to_bytes()) | change
            error = self.assertRaises(InvalidKey, Keystore.from_bytes, json.dumps(fields).encode())
            self.assertIn("newer client", str(error))

    def test_damaged(self) -> None:
        """What is no keystore is refused, whatever it is."""
        fields = json.loads(KEYSTORE.to_bytes())
        documents = [json.dumps({key: fields[key] for key in fields if key != name}).encode() for name in fields]
        for change in (
            {"box": 1},
            {"box": "?"},
            {"slots": 1},
            {"slots": [1]},
            {"slots": [{}]},
            {"slots": [{"salt": "?"}]},
        ):
            documents.append(json.dumps(fields | change).encode())
        content = KEYSTORE.to_bytes()
        for document in (
            *documents,
            b"",
            b"[]",
            b"null",
            b"1",
            b"\xff\xfe",
            b"[" * 100_000,
            content[: len(content) // 2],
        ):
            self.assertRaises(InvalidKey, Keystore.from_bytes, document)

    def test_repr(self) -> None:
        """Their reprs give away nothing."""
        self.assertEqual("<Keystore alice>", repr(KEYSTORE))
        self.assertEqual("<ProfileKeys>", repr(KEYS))


class RecordSealerTests(SynchronousTestCase):
    """Tests for records of the local store."""

    sealer = RecordSealer(DATA_KEY)

    def test_round_trip(self) -> None:
        """A record opens at the place it was sealed for."""
        filed = self.sealer.name("pin", "bob")
        self.assertEqual(b"record", self.sealer.unseal(filed, self.sealer.seal(filed, b"record", b"n" * 12)))

    def test_moved(self) -> None:
        """A record moved to another place does not open there."""
        filed = self.sealer.name("pin", "bob")
        sealed = self.sealer.seal(filed, b"record", b"n" * 12)
        for elsewhere in (self.sealer.name("pin", "eve"), self.sealer.name("cursor", "bob"), b""):
            self.assertRaises(WrongSecret, self.sealer.unseal, elsewhere, sealed)

    def test_other_key(self) -> None:
        """Another profile's sealer neither opens it nor files it under the same name."""
        other = RecordSealer(b"x" * 32)
        filed = self.sealer.name("pin", "bob")
        sealed = self.sealer.seal(filed, b"record", b"n" * 12)
        self.assertRaises(WrongSecret, other.unseal, filed, sealed)
        self.assertNotEqual(filed, other.name("pin", "bob"))

    def test_names(self) -> None:
        """A name is 16 bytes, always the same, and of its kind and name only."""
        names = {self.sealer.name(kind, name) for kind in ("pin", "pinb", "cursor") for name in ("bob", "ob", "", "ö")}
        self.assertEqual(12, len(names))
        self.assertEqual({16}, {len(name) for name in names})
        self.assertEqual(self.sealer.name("pin", "bob"), RecordSealer(DATA_KEY).name("pin", "bob"))

    def test_device_key_is_apart(self) -> None:
        """Another device, another id."""
        other = ProfileKeys(signing_key("other"), (), alice.ik)
        self.assertNotEqual(KEYS.dev, other.dev)
