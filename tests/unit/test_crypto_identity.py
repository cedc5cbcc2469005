"""Tests for certificates, device lists, and the proofs that are bound to one connection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import identity
from securechat.crypto import primitives as p
from securechat.crypto.identity import MAX_KIDS, AccountKeys, Device, SignedBundle, SignedCertificate
from securechat.errors import InvalidKey
from tests.cast import NOW, SERVER_KEY, SRV, Person, flipped, rsa_public, signing_key

OTHER_SRV = identity.server_id(p.ed25519_public(signing_key("another server")))
LK = p.ed25519_public(SERVER_KEY)

alice = Person("alice")
mallory = Person("mallory")

Fields = dict[str, Any]


def canonical(fields: Fields) -> bytes:
    """Any fields in the one form that signed objects have, whether or not they are one."""
    return json.dumps(fields, separators=(",", ":")).encode()


def altered_list(bundle: SignedBundle, change: Callable[[Fields], object], signer: Person = alice) -> SignedBundle:
    """The bundle with another list, signed as it should be: what only its owner, or a thief of the key, can make."""
    fields = json.loads(bundle.list)
    change(fields)
    signed = canonical(fields)
    return replace(bundle, list=signed, sig=p.sign(signer.identity, "devlist", signed))


def altered_certificate(
    certificate: SignedCertificate, change: Callable[[Fields], object], signer: Person = alice, device: int = 1
) -> SignedCertificate:
    """The certificate with other fields, signed by both as it should be."""
    fields = json.loads(certificate.cert)
    change(fields)
    signed = canonical(fields)
    return SignedCertificate(
        signed, p.sign(signer.identity, "device", signed), p.sign(signer.device(device), "device", signed)
    )


def bundle_of(certificates: Sequence[SignedCertificate], owner: Person = alice) -> SignedBundle:
    """A correct list of these certificates, whatever is in them."""
    return identity.sign_device_list(
        identity=owner.identity,
        srv=SRV,
        user=owner.user,
        version=1,
        previous="",
        rk_der=owner.rk_der,
        certificates=certificates,
    )


class BundleCase(SynchronousTestCase):
    """What the tests of bundles share."""

    def refuse(self, *bundles: SignedBundle, srv: str = SRV, user: str = "alice") -> None:
        """Each of these is refused."""
        for bundle in bundles:
            self.assertRaises(InvalidKey, identity.verify_bundle, bundle, srv=srv, user=user)


class VerifyBundleTests(BundleCase):
    """Tests for `verify_bundle`."""

    def test_good(self) -> None:
        """A good bundle says who the account is, what to seal for, and which devices it has."""
        bundle = alice.bundle(2, (1, 2), previous="aa" * 32, revoked=(3,))
        keys = identity.verify_bundle(bundle, srv=SRV, user="alice")
        self.assertEqual(("alice", alice.ik, alice.rk_der, 2), (keys.user, keys.ik, keys.rk_der, keys.version))
        devices = {alice.dev(number): p.ed25519_public(alice.device(number)) for number in (1, 2)}
        self.assertEqual((devices, {alice.dev(3)}), (keys.devices, keys.revoked))
        self.assertEqual(hashlib.sha256(bundle.list).hexdigest(), keys.digest)
        self.assertEqual("aa" * 32, keys.previous)
        self.assertEqual(hashlib.sha256(alice.rk_der).hexdigest()[:32], keys.kid)
        self.assertIs(bundle, keys.bundle)

    def test_every_bit_of_the_lists_signature(self) -> None:
        """One bit of the list's signature changed, and it is refused; in steps, for `verify` is tried with each."""
        bundle = alice.bundle()
        self.refuse(*(replace(bundle, sig=flipped(bundle.sig, bit)) for bit in range(0, 512, 5)))

    def test_every_byte_of_the_list(self) -> None:
        """One bit in any third byte of the signed list changed, and it is refused."""
        bundle = alice.bundle()
        self.refuse(*(replace(bundle, list=flipped(bundle.list, 8 * at)) for at in range(0, len(bundle.list), 3)))

    def test_every_bit_of_a_certificates_signatures(self) -> None:
        """One bit of either signature of a certificate changed, and the bundle is refused."""
        bundle = alice.bundle()
        (good,) = bundle.certs
        for bit in range(0, 512, 11):
            for wrong in (
                replace(good, ik_sig=flipped(good.ik_sig, bit)),
                replace(good, dk_sig=flipped(good.dk_sig, bit)),
            ):
                self.refuse(replace(bundle, certs=(wrong,)))

    def test_every_byte_of_a_certificate(self) -> None:
        """One bit in any third byte of a certificate changed, and the bundle is refused."""
        bundle = alice.bundle()
        (good,) = bundle.certs
        self.refuse(
            *(
                replace(bundle, certs=(replace(good, cert=flipped(good.cert, 8 * at)),))
                for at in range(0, len(good.cert), 3)
            )
        )

    def test_other_user_and_server(self) -> None:
        """A bundle is one user's on one server."""
        self.refuse(alice.bundle(), user="bob")
        self.refuse(alice.bundle(), srv=OTHER_SRV)
        self.refuse(Person("alice", srv=OTHER_SRV).bundle())

    def test_fields_of_the_list(self) -> None:
        """However well it is signed, a list with a wrong field is refused."""
        good = alice.bundle()
        self.assertEqual(alice.keys(), identity.verify_bundle(altered_list(good, dict), srv=SRV, user="alice"))
        changes: list[Fields] = [
            {"t": "sc/device"}, {"t": ""}, {"srv": OTHER_SRV}, {"user": "bob"}, {"user": "Alice"},
            {"ver": 0}, {"ver": 0, "prev": "00" * 32}, {"ver": 2}, {"ver": True}, {"ver": "1"}, {"prev": "00" * 32},
            {"prev": None}, {"ver": 2, "prev": "00"}, {"kids": []}, {"kids": [alice.kid] * 2}, {"kids": [mallory.kid]},
            {"kids": [mallory.kid, alice.kid]}, {"kids": [alice.kid, ""]}, {"kids": [alice.kid, 1]}, {"kids": ""},
            {"kids": [alice.kid, *(f"{number:032x}" for number in range(100))]},
            {"ver": 2**53}, {"ver": -1}, {"ik": p.b64(mallory.ik)}, {"ik": p.b64(alice.ik).rstrip("=")}, {"ik": ""},
            {"rk": ""}, {"rk": p.b64(b"no key")}, {"rk": p.b64(alice.rk_der + b"\0")}, {"rk": p.b64(alice.ik)},
            {"devs": []}, {"devs": ["00" * 32]}, {"devs": [1]}, {"devs": [None]}, {"devs": "x"}, {"devs": [["x"]]},
            {"revoked": [alice.dev()]}, {"revoked": [1]}, {"revoked": {}}, {"revoked": [[]]}, {"more": 1},
        ]  # fmt: skip
        self.refuse(*(altered_list(good, lambda fields, change=change: fields.update(change)) for change in changes))
        self.refuse(*(altered_list(good, lambda fields, name=name: fields.pop(name)) for name in json.loads(good.list)))

    def test_fields_of_a_certificate(self) -> None:
        """However well it is signed, a certificate with a wrong field is refused."""
        good = alice.certificate()
        identity.verify_bundle(bundle_of([altered_certificate(good, dict)]), srv=SRV, user="alice")
        changes: list[Fields] = [
            {"t": "sc/devlist"}, {"srv": OTHER_SRV}, {"user": "bob"}, {"ik": p.b64(mallory.ik)},
            {"dk": p.b64(p.ed25519_public(alice.device(2)))}, {"dk": p.b64(bytes(32))}, {"dk": ""},
            {"dev": alice.dev(2)}, {"dev": alice.dev().upper()}, {"dev": ""},
            {"name": 1}, {"env": "1"}, {"env": True}, {"created": -1}, {"created": 1.5e12}, {"more": 1},
        ]  # fmt: skip
        for change in changes:
            self.refuse(bundle_of([altered_certificate(good, lambda fields, change=change: fields.update(change))]))
        for name in json.loads(good.cert):
            self.refuse(bundle_of([altered_certificate(good, lambda fields, name=name: fields.pop(name))]))

    def test_certificate_needs_both_signatures(self) -> None:
        """A device that did not sign, and an identity that did not, make no certificate."""
        good, other = alice.certificate(1), alice.certificate(2)
        self.refuse(bundle_of([replace(good, dk_sig=good.ik_sig)]), bundle_of([replace(good, ik_sig=good.dk_sig)]))
        self.refuse(bundle_of([replace(good, dk_sig=other.dk_sig)]), bundle_of([replace(good, ik_sig=other.ik_sig)]))

    def test_certificates_are_those_named(self) -> None:
        """One missing, one too many, one twice and another one instead are refused."""
        bundle = alice.bundle(devices=(1, 2))
        first, second = bundle.certs
        third = alice.certificate(3)
        for certs in ((first,), (second,), (first, second, third), (first, third), (first, first), ()):
            self.refuse(replace(bundle, certs=certs))
        self.refuse(bundle_of([first, first]), bundle_of([]))
        self.assertEqual(
            alice.keys(devices=(1, 2)).devices,
            identity.verify_bundle(replace(bundle, certs=(second, first)), srv=SRV, user="alice").devices,
        )

    def test_somebody_elses_certificate(self) -> None:
        """A certificate that another identity signed is refused, whatever name stands in it."""
        hers = mallory.certificate()
        self.refuse(bundle_of([hers]))
        renamed = altered_certificate(hers, lambda fields: fields.update(user="alice"), signer=mallory)
        self.refuse(bundle_of([renamed]))

    def test_labels_are_apart(self) -> None:
        """A signature made for a certificate does not serve a list."""
        bundle = alice.bundle()
        self.refuse(replace(bundle, sig=p.sign(alice.identity, "device", bundle.list)))

    def test_hostile_lists(self) -> None:
        """What is no list at all is refused, however well signed."""
        bundle = alice.bundle()
        for data in (b"", b"[]", b"null", b'{"ik":1}', b"[" * 100_000, b"\xff", bundle.list + b" " + bundle.list):
            self.refuse(replace(bundle, list=data, sig=p.sign(alice.identity, "devlist", data)))

    def test_weak_identity(self) -> None:
        """An identity of small order, under which anybody can sign, is refused."""
        bundle = alice.bundle()
        self.refuse(altered_list(bundle, lambda fields: fields.update(ik=p.b64(bytes([1]) + bytes(31)))))


class SuccessorTests(SynchronousTestCase):
    """Tests for `check_successor`."""

    old = alice.keys(1, (1, 2), revoked=(9,))

    def refuse(self, new: AccountKeys, why: str) -> None:
        """It does not follow, for that reason."""
        error = self.assertRaises(InvalidKey, identity.check_successor, self.old, new)
        self.assertIn(why, str(error))

    def next(self, version: int = 2, devices: Sequence[int] = (1, 3), **changes: Any) -> AccountKeys:
        """The next list, or nearly."""
        changes = {"previous": self.old.digest, "revoked": (9, 2)} | changes
        return alice.keys(version, devices, **changes)

    def test_next(self) -> None:
        """The next number over the old one's digest follows, also with other devices and another RSA key."""
        identity.check_successor(self.old, self.next())
        identity.check_successor(self.old, self.next(rk_der=rsa_public("alice", "new"), old_kids=self.old.kids))

    def test_numbers(self) -> None:
        """The same number, one left out and one before do not follow."""
        self.refuse(self.old, "not the next one")
        self.refuse(self.next(3), "not the next one")
        newer = self.next()
        self.assertRaises(InvalidKey, identity.check_successor, newer, self.old)

    def test_chain(self) -> None:
        """A list over another one of the same number does not follow."""
        self.refuse(self.next(previous="00" * 32), "not the next one")

    def test_identity(self) -> None:
        """Another identity does not follow, whatever it signs."""
        self.refuse(Person("alice", generation=2).keys(2, previous=self.old.digest), "identity")

    def test_earlier_keys(self) -> None:
        """A list that forgets an RSA key or makes one up does not follow: old messages would be judged by it."""
        new = {"rk_der": rsa_public("alice", "new")}
        twice = alice.keys(2, (1, 3), previous=self.old.digest, revoked=(9, 2), old_kids=self.old.kids, **new)
        self.assertEqual((twice.kid, *self.old.kids), twice.kids)
        self.refuse(self.next(**new), "forgets earlier keys")
        self.refuse(self.next(**new, old_kids=(mallory.kid, *self.old.kids)), "forgets earlier keys")
        self.refuse(self.next(old_kids=(*self.old.kids, mallory.kid)), "forgets earlier keys")

    def test_many_keys(self) -> None:
        """Of more than a hundred RSA keys the oldest are forgotten, and the list still follows."""
        many = tuple(f"{number:032x}" for number in range(MAX_KIDS - 1))
        old = alice.keys(1, (1, 2), revoked=(9,), old_kids=many)
        self.assertEqual((alice.kid, *many), old.kids)
        new = self.next(previous=old.digest, rk_der=rsa_public("alice", "new"), old_kids=old.kids)
        identity.check_successor(old, new)
        self.assertEqual((MAX_KIDS, many[-2]), (len(new.kids), new.kids[-1]))

    def test_device_gone(self) -> None:
        """A device is not simply left out: it is revoked, so that everybody knows."""
        self.refuse(self.next(revoked=(9,)), "gone without being revoked")

    def test_revoked_device_back(self) -> None:
        """A list that forgets a revocation does not follow, with the device in force again or not."""
        self.refuse(self.next(revoked=()), "revoked")
        self.refuse(self.next(devices=(1, 9), revoked=(2,)), "revoked")


class PastTests(BundleCase):
    """Tests for the certificates of devices that are in force no more."""

    former = Person("alice", generation=2)

    def test_revoked_device(self) -> None:
        """A revoked device is known by its certificate, but not in force."""
        keys = alice.keys(2, (2,), previous="aa" * 32, revoked=(1,), past=[alice.certificate(1)])
        self.assertEqual(({alice.dev(2)}, {alice.dev(1)}), (set(keys.devices), set(keys.revoked)))
        self.assertEqual({alice.dev(number): alice.vouched(number) for number in (1, 2)}, keys.known)

    def test_earlier_identity(self) -> None:
        """A device of an earlier identity of that name is known as that one's: the pins say what it is worth."""
        keys = alice.keys(past=[self.former.certificate()])
        self.assertEqual(self.former.ik, keys.known[self.former.dev()].ik)
        self.assertEqual({alice.dev()}, set(keys.devices))

    def test_still_in_force(self) -> None:
        """A device that was never removed is no past one, nor is one that nobody revoked."""
        for number in (1, 2):
            self.refuse(alice.bundle(past=[alice.certificate(number)]))

    def test_verified_like_the_others(self) -> None:
        """Both signatures, name and server count there too."""
        good = alice.certificate(3)
        for wrong in (
            replace(good, ik_sig=bytes(64)), replace(good, dk_sig=good.ik_sig), mallory.certificate(),
            Person("alice", generation=2, srv=OTHER_SRV).certificate(), replace(good, cert=good.cert + b" "),
        ):  # fmt: skip
            self.refuse(alice.bundle(2, previous="aa" * 32, revoked=(3,), past=[wrong]))
        verified = identity.verify_bundle(
            alice.bundle(2, previous="aa" * 32, revoked=(3,), past=[good]), srv=SRV, user="alice"
        )
        self.assertIn(alice.dev(3), verified.known)

    def test_no_key_of_a_device_in_force(self) -> None:
        """An earlier identity's certificate for a device key in force does not take that device's place."""
        shared = identity.certify_device(
            identity=self.former.identity, device=alice.device(), srv=SRV, user="alice", name="x", created=1
        )
        self.refuse(alice.bundle(past=[shared]))


class CertificateTests(SynchronousTestCase):
    """Tests for single certificates."""

    def test_what_it_says(self) -> None:
        """A verified certificate says whose device it is; a stored one says the same without being verified again."""
        good = alice.certificate(2)
        expected = Device("alice", alice.ik, alice.dev(2), p.ed25519_public(alice.device(2)), "device 2", NOW + 2)
        self.assertEqual(expected, identity.verify_certificate(good, srv=SRV))
        self.assertEqual(expected, identity.verify_certificate(good, srv=SRV, user="alice"))
        self.assertEqual(expected, identity.device_of(replace(good, ik_sig=b"", dk_sig=b"")))

    def test_refused(self) -> None:
        """Another name or server than asked for, and any wrong signature, are refused."""
        good = alice.certificate()
        self.assertRaises(InvalidKey, identity.verify_certificate, good, srv=SRV, user="bob")
        self.assertRaises(InvalidKey, identity.verify_certificate, good, srv=OTHER_SRV)
        for wrong in (replace(good, ik_sig=good.dk_sig), replace(good, dk_sig=good.ik_sig)):
            self.assertRaises(InvalidKey, identity.verify_certificate, wrong, srv=SRV)

    def test_names(self) -> None:
        """A device's name is printable ASCII without quotes and backslashes, so that it has one spelling."""
        for name in ("", "x" * 64, "Alice's laptop (home) ~!", " "):
            self.assertEqual(name, identity.verify_certificate(self.named(name), srv=SRV).name)
        for name in ("x" * 65, 'a"b', "a\\b", "é", "a\n", "\x7f", "\x1b[2J"):
            self.assertRaises(InvalidKey, identity.verify_certificate, self.named(name), srv=SRV)

    @staticmethod
    def named(name: str) -> SignedCertificate:
        """A certificate of a device with that name."""
        return identity.certify_device(
            identity=alice.identity, device=alice.device(), srv=SRV, user="alice", name=name, created=0
        )

    def test_list_version(self) -> None:
        """Number and digest of a stored list."""
        bundle = alice.bundle(2, previous="aa" * 32)
        self.assertEqual((2, hashlib.sha256(bundle.list).hexdigest()), identity.list_version(bundle))


class StoredDeviceKeyTests(SynchronousTestCase):
    """Tests for `stored_device_key`."""

    def test_devices_in_force(self) -> None:
        """It finds the key of each device in force, and none of others."""
        bundle = alice.bundle(2, (1, 2), previous="aa" * 32, revoked=(3,))
        for number in (1, 2):
            found = identity.stored_device_key(bundle, alice.dev(number))
            self.assertEqual(p.ed25519_public(alice.device(number)), found)
        for dev in (alice.dev(3), mallory.dev(), ""):
            self.assertIs(None, identity.stored_device_key(bundle, dev))


class ProofTests(SynchronousTestCase):
    """Tests for the proofs of the login and the greeting."""

    place = {"lk": LK, "exporter": b"e" * 32, "nonce": b"n" * 32, "user": "alice"}
    elsewhere = (
        {"lk": p.ed25519_public(signing_key("another server"))}, {"exporter": b"f" * 32}, {"exporter": b""},
        {"nonce": b"m" * 32}, {"user": "bob"},
    )  # fmt: skip

    def test_login(self) -> None:
        """The proof holds for its device, server, connection, greeting and user, and nowhere else."""
        dk = p.ed25519_public(alice.device())
        proof = identity.login_proof(alice.device(), **self.place)
        identity.check_login_proof(dk, proof, **self.place)
        for change in self.elsewhere:
            self.assertRaises(InvalidKey, identity.check_login_proof, dk, proof, **(self.place | change))
        other = p.ed25519_public(alice.device(2))
        self.assertRaises(InvalidKey, identity.check_login_proof, other, proof, **self.place)

    def test_login_without_a_key(self) -> None:
        """Where there is no device key, nothing is a proof."""
        proof = identity.login_proof(alice.device(), **self.place)
        self.assertRaises(InvalidKey, identity.check_login_proof, b"", proof, **self.place)

    def test_hello(self) -> None:
        """The greeting holds for its server and this connection: relayed into another one it does not verify."""
        signature = identity.hello_signature(SERVER_KEY, exporter=b"e" * 32, nonce=b"n" * 32)
        identity.check_hello(LK, signature, exporter=b"e" * 32, nonce=b"n" * 32)
        for lk, exporter, nonce in (
            (LK, b"f" * 32, b"n" * 32),
            (LK, b"", b"n" * 32),
            (LK, b"e" * 32, b"m" * 32),
            (p.ed25519_public(signing_key("another server")), b"e" * 32, b"n" * 32),
        ):
            self.assertRaises(InvalidKey, identity.check_hello, lk, signature, exporter=exporter, nonce=nonce)

    def test_exporter_and_nonce_are_apart(self) -> None:
        """A byte that moves from the exporter to the nonce makes another greeting."""
        signature = identity.hello_signature(SERVER_KEY, exporter=b"ab", nonce=b"c")
        self.assertRaises(InvalidKey, identity.check_hello, LK, signature, exporter=b"a", nonce=b"bc")

    def test_one_does_not_serve_as_the_other(self) -> None:
        """A server cannot pass off its greeting as a device's login, nor the other way round."""
        hello = identity.hello_signature(alice.device(), exporter=b"e" * 32, nonce=b"n" * 32)
        dk = p.ed25519_public(alice.device())
        self.assertRaises(InvalidKey, identity.check_login_proof, dk, hello, **self.place)
        login = identity.login_proof(SERVER_KEY, **self.place)
        self.assertRaises(InvalidKey, identity.check_hello, LK, login, exporter=b"e" * 32, nonce=b"n" * 32)


class NameTests(SynchronousTestCase):
    """Tests for what is derived from keys."""

    def test_private_conversation(self) -> None:
        """Both sides compute the same id; other people, another one; and it is no room's name."""
        bob = Person("bob")
        between = identity.private_conversation(alice.ik, bob.ik)
        self.assertEqual(between, identity.private_conversation(bob.ik, alice.ik))
        self.assertNotEqual(between, identity.private_conversation(alice.ik, mallory.ik))
        self.assertRegex(between, r"^pm:[0-9a-f]{64}\Z")

    def test_fingerprint(self) -> None:
        """Sixteen groups of four hex digits of SHA-256 of the identity."""
        shown = alice.keys().fingerprint
        self.assertRegex(shown, r"^([0-9a-f]{4} ){15}[0-9a-f]{4}\Z")
        self.assertEqual(hashlib.sha256(alice.ik).hexdigest(), shown.replace(" ", ""))

    def test_server_id(self) -> None:
        """43 characters of base64url."""
        self.assertRegex(SRV, r"^[A-Za-z0-9_-]{43}\Z")
        self.assertNotEqual(SRV, OTHER_SRV)
