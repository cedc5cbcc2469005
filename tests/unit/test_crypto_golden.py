"""Every signed object and sealed format, byte for byte: what lies on disks and was signed must stay readable.

tests/vectors/golden.json was made by a script that shares no code with the package.
"""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import envelope, identity
from securechat.crypto import primitives as p
from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.crypto.backup import (
    AccountSecrets,
    code_key,
    format_code,
    needs_code,
    open_backup,
    parse_code,
    seal_backup,
)
from securechat.crypto.identity import SignedBundle, SignedCertificate
from securechat.crypto.keystore import Keystore, ProfileKeys, RecordSealer, make_box, make_slot
from tests.doubles import figures, load_checked_before, rsa_key

GOLDEN: dict[str, Any] = figures("golden")
SRV: str = GOLDEN["server"]["srv"]


def seed(number: int) -> bytes:
    """One byte, 32 times."""
    return bytes([number]) * 32


LK = p.ed25519_from_seed(seed(GOLDEN["server"]["seed"]))
IDENTITY = p.ed25519_from_seed(seed(GOLDEN["keys"]["identity_seed"]))
DEVICES = [p.ed25519_from_seed(seed(GOLDEN["keys"][name])) for name in ("device_seed", "second_device_seed")]
RK = [p.rsa_public_der(rsa_key(number).public_key()) for number in (0, 1)]


def certificate(name: str) -> SignedCertificate:
    """A certificate of the file."""
    fields = GOLDEN[name]
    return SignedCertificate(fields["cert"].encode(), p.unb64(fields["ik_sig"]), p.unb64(fields["dk_sig"]))


def bundle(name: str, *certificates: str) -> SignedBundle:
    """A device list of the file, with certificates."""
    fields = GOLDEN[name]
    return SignedBundle(fields["list"].encode(), p.unb64(fields["sig"]), tuple(map(certificate, certificates)))


FIRST = bundle("device_list", "certificate")
SECOND = bundle("second_device_list", "second_certificate")


class SignedObjectTests(SynchronousTestCase):
    """What is signed."""

    def test_server(self) -> None:
        """The server's id."""
        lk = p.ed25519_public(LK)
        self.assertEqual((GOLDEN["server"]["lk"], SRV), (p.b64(lk), identity.server_id(lk)))

    def test_ids(self) -> None:
        """Ids of devices and RSA keys, and the fingerprint for people."""
        keys = GOLDEN["keys"]
        ik = p.ed25519_public(IDENTITY)
        self.assertEqual((keys["ik"], keys["fingerprint"]), (p.b64(ik), identity.fingerprint(ik)))
        self.assertEqual([keys["dev"], keys["second_dev"]], [p.key_id(p.ed25519_public(key)) for key in DEVICES])
        self.assertEqual([keys["kid"], keys["second_kid"]], [p.key_id(der) for der in RK])

    def test_certificates(self) -> None:
        """Device certificates, both signatures included."""
        for device, name in zip(DEVICES, ("certificate", "second_certificate"), strict=True):
            made = identity.certify_device(
                identity=IDENTITY,
                device=device,
                srv=SRV,
                user="alice",
                name=GOLDEN[name]["name"],
                created=GOLDEN[name]["created"],
            )
            self.assertEqual(certificate(name), made)

    def test_device_lists(self) -> None:
        """A first device list, and its successor with another RSA key and a revoked device."""
        first = identity.sign_device_list(
            identity=IDENTITY,
            srv=SRV,
            user="alice",
            version=1,
            previous="",
            rk_der=RK[0],
            certificates=[certificate("certificate")],
        )
        self.assertEqual(FIRST, first)
        second = identity.sign_device_list(
            identity=IDENTITY,
            srv=SRV,
            user="alice",
            version=2,
            previous=hashlib.sha256(first.list).hexdigest(),
            rk_der=RK[1],
            certificates=[certificate("second_certificate")],
            revoked=[GOLDEN["keys"]["dev"]],
        )
        self.assertEqual(SECOND, second)

    def test_verified(self) -> None:
        """Both verify, and one follows the other."""
        first, second = (identity.verify_bundle(one, srv=SRV, user="alice") for one in (FIRST, SECOND))
        identity.check_successor(first, second)
        self.assertEqual([GOLDEN["keys"]["kid"], GOLDEN["keys"]["second_kid"]], [first.kid, second.kid])

    def test_proofs(self) -> None:
        """The greeting over TLS and plain, and a device's login."""
        connection = GOLDEN["connection"]
        exporter, nonce = p.unb64(connection["exporter"]), p.unb64(connection["nonce"])
        made = {
            "hello": identity.hello_signature(LK, exporter=exporter, nonce=nonce),
            "hello_plain": identity.hello_signature(LK, exporter=b"", nonce=nonce),
            "login": identity.login_proof(
                DEVICES[0], lk=p.ed25519_public(LK), exporter=exporter, nonce=nonce, user="alice"
            ),
        }
        self.assertEqual({name: connection[name] for name in made}, {name: p.b64(sig) for name, sig in made.items()})

    def test_private_conversation(self) -> None:
        """The id of a private conversation."""
        other = p.unb64(GOLDEN["private_conversation"]["with"])
        made = identity.private_conversation(p.ed25519_public(IDENTITY), other)
        self.assertEqual(GOLDEN["private_conversation"]["id"], made)

    def test_audience(self) -> None:
        """Who a package is for, and its digest."""
        made = envelope.audience({"bob": GOLDEN["keys"]["second_kid"], "alice": GOLDEN["keys"]["kid"]})
        self.assertEqual(GOLDEN["audience"]["bytes"].encode(), made)
        self.assertEqual(GOLDEN["audience"]["rcp"], p.b64(envelope.audience_digest(made)))


class SealedFormatTests(SynchronousTestCase):
    """What is sealed."""

    def setUp(self) -> None:
        self.patch(p, "load_rsa_private", load_checked_before)

    def test_recovery_code(self) -> None:
        """A code, both ways, and its key."""
        known = GOLDEN["recovery_code"]
        secret = p.unb64(known["secret"])
        self.assertEqual((known["code"], secret), (format_code(secret), parse_code(known["code"])))
        self.assertEqual(known["key"], p.b64(code_key(secret)))

    def test_backup(self) -> None:
        """A backup under the password, sealed and opened; one under a code, sealed."""
        known = GOLDEN["backup"]
        key = p.unb64(GOLDEN["password"]["backup_key"])
        secrets = AccountSecrets(IDENTITY, (rsa_key(),), known["list_version"], known["pins"])
        where = {"srv": SRV, "user": "alice", "nonce": p.unb64(known["nonce"])}
        blob = seal_backup(key, secrets, version=known["version"], **where)
        self.assertEqual(known["blob"], p.b64(blob))
        by_code = seal_backup(p.unb64(GOLDEN["recovery_code"]["key"]), secrets, version=4, by_code=True, **where)
        self.assertEqual(known["by_code"], hashlib.sha256(by_code).hexdigest())
        self.assertEqual((False, True), (needs_code(blob), needs_code(by_code)))
        opened = open_backup(key, p.unb64(known["blob"]), srv=SRV, user="alice", version=known["version"])
        self.assertEqual(p.ed25519_seed(IDENTITY), p.ed25519_seed(opened.identity))
        self.assertEqual((known["list_version"], known["pins"]), (opened.list_version, opened.pins))
        self.assertEqual(RK[:1], [p.rsa_public_der(key.public_key()) for key in opened.rsa_keys])

    def test_keystore(self) -> None:
        """A keystore's file, written and read."""
        known, password = GOLDEN["keystore"], GOLDEN["password"]
        data_key = p.unb64(known["data_key"])
        salt, key = p.unb64(password["salt"]), p.unb64(password["keystore_key"])
        keys = ProfileKeys(DEVICES[0], (rsa_key(),), p.ed25519_public(IDENTITY))
        slot = make_slot(SRV, "alice", salt, key, data_key, p.unb64(known["slot_nonce"]))
        box = make_box(SRV, "alice", keys, data_key, p.unb64(known["box_nonce"]))
        self.assertEqual(known["file"].encode(), Keystore(SRV, "alice", (slot,), box).to_bytes())
        read = Keystore.from_bytes(known["file"].encode())
        self.assertEqual(data_key, read.open_slot(read.slots[0], key))
        opened = read.open_box(data_key)
        self.assertEqual((GOLDEN["keys"]["dev"], [GOLDEN["keys"]["kid"]]), (opened.dev, list(opened.by_kid())))

    def test_record(self) -> None:
        """A record of the local store, and the name it is filed under."""
        known = GOLDEN["record"]
        sealer = RecordSealer(p.unb64(GOLDEN["keystore"]["data_key"]))
        filed = sealer.name(known["kind"], known["name"])
        sealed = sealer.seal(filed, known["plaintext"].encode(), p.unb64(known["nonce"]))
        self.assertEqual((known["filed"], known["sealed"]), (p.b64(filed), p.b64(sealed)))
        self.assertEqual(known["plaintext"].encode(), sealer.unseal(filed, p.unb64(known["sealed"])))

    def test_package(self) -> None:
        """A package that others made opens."""
        known = GOLDEN["package"]
        kid = GOLDEN["keys"]["kid"]
        text = envelope.open_package(known["encrypted_message"], p.unb64(known["wrapped"]), kid, {kid: rsa_key()})
        self.assertEqual(known["text"], text)

    def test_at_rest(self) -> None:
        """A stored row opens with its key file."""
        known = GOLDEN["at_rest"]
        dek = KeyEncryptionKeys(known["key_file"]).unwrap(known["wrapped_dek"].encode())
        body = RowSealer({7: dek}, 7).open(7, known["place"].encode(), known["token"].encode())
        self.assertEqual(known["body"].encode(), body)
