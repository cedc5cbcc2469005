"""Every signed object and sealed format, byte for byte: what lies on disks and was signed must stay readable.

tests/vectors/golden.json was made by a script that shares no code with the package.
"""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.fernet import Fernet
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
from securechat.crypto.envelope import Delivered, Position
from securechat.crypto.identity import SignedBundle, SignedCertificate
from securechat.crypto.keystore import Keystore, ProfileKeys, RecordSealer, make_box, make_slot
from securechat.crypto.notes import NoteKeys, note_name, open_note, seal_note
from securechat.crypto.roomlog import (
    AnyEvent,
    Ban,
    ChangePolicy,
    ChangeRole,
    ChangeTopic,
    Create,
    Invite,
    Join,
    Kick,
    Leave,
    MembershipAct,
    Mute,
    RoomLog,
    SignedEvent,
    Unban,
    Unmute,
    sign_event,
)
from securechat.crypto.signed import to_bytes
from securechat.crypto.transcript import next_th, transcript_start
from securechat.crypto.trust import half_fingerprint, identity_hash, safety_bytes, safety_number
from tests.cast import figures, load_checked_before, rsa_key

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
ALICE = identity.verify_bundle(FIRST, srv=SRV, user="alice")
BOB = identity.verify_bundle(bundle("bob_device_list", "bob_certificate"), srv=SRV, user="bob")
BOB_DEVICE = p.ed25519_from_seed(seed(GOLDEN["keys"]["bob_device_seed"]))


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
        bobs = p.ed25519_from_seed(seed(GOLDEN["keys"]["bob_identity_seed"]))
        for user, owner, device, name in (
            ("alice", IDENTITY, DEVICES[0], "certificate"),
            ("alice", IDENTITY, DEVICES[1], "second_certificate"),
            ("bob", bobs, BOB_DEVICE, "bob_certificate"),
        ):
            made = identity.certify_device(
                identity=owner,
                device=device,
                srv=SRV,
                user=user,
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
            old_kids=[GOLDEN["keys"]["kid"]],
        )
        self.assertEqual(SECOND, second)

    def test_verified(self) -> None:
        """Both verify, and one follows the other."""
        first, second = (identity.verify_bundle(one, srv=SRV, user="alice") for one in (FIRST, SECOND))
        identity.check_successor(first, second)
        self.assertEqual([GOLDEN["keys"]["kid"], GOLDEN["keys"]["second_kid"]], [first.kid, second.kid])
        self.assertEqual((second.kid, first.kid), second.kids)

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
        self.assertEqual(GOLDEN["audience"]["rcp"], envelope.audience_digest(made).hex())

    def test_safety_number(self) -> None:
        """What two people read out to each other, the same as a code, and how an invite line names an identity."""
        known = GOLDEN["safety"]
        halves = [half_fingerprint(ik, f"{user}@{SRV}".encode()) for user, ik in (("alice", ALICE.ik), ("bob", BOB.ik))]
        self.assertEqual((known["number"], known["code"]), (safety_number(*halves), p.b64(safety_bytes(*halves))))
        self.assertEqual(known["identity_hash"], identity_hash(ALICE.ik))


class RoomTests(SynchronousTestCase):
    """Each of the twelve room events, in one log."""

    events: list[dict[str, str]] = GOLDEN["room"]["events"]
    signed = [SignedEvent(fields["data"].encode(), p.unb64(fields["sig"])) for fields in events]

    def test_every_kind(self) -> None:
        """There is one of each."""
        self.assertEqual(set(AnyEvent.__args__), {type(signed.event) for signed in self.signed})  # type: ignore[attr-defined]

    def test_bytes(self) -> None:
        """What they say is written down with the same bytes again, and signed with the same signature."""
        for signed in self.signed:
            device = DEVICES[0] if signed.event.by == "alice" else BOB_DEVICE
            self.assertEqual(signed, sign_event(device, signed.event))

    def test_made(self) -> None:
        """Made field by field, they are the same."""
        log = RoomLog(SRV)
        at = 1_700_000_000_100
        for number, (kind, author, fields) in enumerate((
            (Create, ALICE, {"name": "ops", "salt": bytes([22]) * 16, "join": "invite", "invite": "admin", "env": 1}),
            (Invite, ALICE, {"user": "bob", "user_ik": BOB.ik, "dl": (1, BOB.digest)}),
            (Join, BOB, {}),
            (ChangeRole, ALICE, {"user": "bob", "role": "mod"}),
            (ChangeTopic, BOB, {"topic": "Grüße".encode()}),
            (Mute, ALICE, {"user": "bob", "until": 1_700_000_060_000}),
            (Unmute, ALICE, {"user": "bob"}),
            (ChangePolicy, ALICE, {"join": "open", "invite": "member", "env": 1}),
            (Leave, BOB, {}),
            (Join, BOB, {}),
            (Kick, ALICE, {"user": "bob", "reason": b"enough"}),
            (Ban, ALICE, {"user": "bob", "until": 0, "reason": b""}),
            (Unban, ALICE, {"user": "bob"}),
        )):  # fmt: skip
            made: dict[str, Any] = {
                "srv": SRV, "room": log.id, "by": author.user, "ik": author.ik, "dev": next(iter(author.devices)),
                "after": log.head, "at": at + number,
            } | fields  # fmt: skip
            if kind in (Create, Join):
                made["dl"] = (1, author.digest)
            if issubclass(kind, MembershipAct):
                made["own"] = log.standing.get(made.get("user", author.user), "")
            elif kind is not Create:
                made["ctl"] = log.ctl
            self.assertEqual(self.events[number]["data"].encode(), to_bytes(kind(**made)))
            log.append(self.signed[number])

    def test_log(self) -> None:
        """They verify, each follows, and their hashes and links are known; the room's id is the first one's hash."""
        log = RoomLog(SRV)
        for fields, signed in zip(self.events, self.signed, strict=True):
            keys = ALICE if signed.event.by == "alice" else BOB
            signed.verify(keys.known[signed.event.dev])
            log.append(signed)
            self.assertEqual((fields["eh"], fields["link"]), (signed.eh, log.head))
        self.assertEqual((GOLDEN["room"]["id"], "ops", "Grüße"), (log.id, log.name, log.topic))
        self.assertEqual({"alice": ALICE.ik}, log.members_at(12))
        self.assertEqual({"alice": ALICE.ik, "bob": BOB.ik}, log.members_at(9))


class FixedFernet(Fernet):
    """Fernet without its dice: the key and the IV of the file."""

    @classmethod
    def generate_key(cls) -> bytes:
        """As Fernet's."""
        key: str = GOLDEN["message"]["fernet_key"]
        return key.encode()

    def encrypt_at_time(self, data: bytes, current_time: int) -> bytes:
        """As Fernet's."""
        return self._encrypt_from_parts(data, current_time, p.unb64(GOLDEN["message"]["iv"]))


class MessageTests(SynchronousTestCase):
    """Packages: two in a room, one behind the other, and a private one."""

    known: dict[str, Any] = GOLDEN["message"]
    head: str = GOLDEN["room"]["events"][GOLDEN["message"]["events"] - 1]["link"]

    def position(self, which: str) -> Position:
        """Where each stands."""
        private = which == "private"
        return Position(
            room=GOLDEN["private_conversation" if private else "room"]["id"],
            author="alice",
            dev=GOLDEN["keys"]["dev"],
            dl=(1, ALICE.digest),
            ctr=2 if which == "second" else 1,
            prev=self.known["first"]["id"] if which == "second" else "",
            mid=self.known["mid"],
            head="" if private else self.head,
            th=(1, self.known["th"][1]) if which == "second" else (0, self.known["private_th" if private else "th"][0]),
            at=self.known["at"],
        )

    def test_sealed(self) -> None:
        """Token, header, bind, signature and id, with the dice fixed; what RSA makes is another each time."""
        self.patch(envelope, "Fernet", FixedFernet)
        for which in ("first", "second", "private"):
            expected = self.known[which]
            made = envelope.seal(self.known["text"], [ALICE, BOB], self.position(which), DEVICES[0])
            self.assertEqual(expected["hdr"].encode(), made.hdr)
            self.assertEqual((self.known["encrypted_message"], expected["bind"], expected["sig"], expected["id"]), (
                made.encrypted_message, p.b64(made.bind), p.b64(made.sig), made.id
            ))  # fmt: skip

    def test_opened(self) -> None:
        """A package that others made opens, and says what they wrote."""
        for which in ("first", "second", "private"):
            expected, position = self.known[which], self.position(which)
            message = Delivered(
                room=position.room, seq=1, sender="alice", device=position.dev, mid=position.mid, ts=0, events=0,
                token=self.known["encrypted_message"], hdr=expected["hdr"].encode(), bind=p.unb64(expected["bind"]),
                sig=p.unb64(expected["sig"]), wrapped=p.unb64(self.known["wrapped"]), kid=BOB.kid,
            )  # fmt: skip
            found = envelope.examine(message, ALICE.known[position.dev], {BOB.kid: rsa_key(1)})
            self.assertEqual((self.known["text"], None, None), (found.text, found.fault, found.unread))
            self.assertEqual(expected["id"], message.id)

    def test_transcripts(self) -> None:
        """th from its start on, in the room across a link, and in private."""
        room, private = GOLDEN["room"]["id"], GOLDEN["private_conversation"]["id"]
        first = next_th(transcript_start(room), self.head, self.known["first"]["id"])
        second = next_th(first, GOLDEN["room"]["events"][-1]["link"], self.known["second"]["id"])
        self.assertEqual(self.known["th"], [transcript_start(room), first, second])
        start = transcript_start(private)
        self.assertEqual(self.known["private_th"], [start, next_th(start, "", self.known["private"]["id"])])


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

    def test_note(self) -> None:
        """A note, named by the oldest RSA key and sealed by the newest; the bytes, and what they say."""
        known = GOLDEN["note"]
        keys = NoteKeys.of([rsa_key(1), rsa_key(0)])
        name = note_name(keys, known["kind"], known["subject"])
        where = {"srv": SRV, "user": "alice"}
        blob = seal_note(keys, name, known["plaintext"].encode(), nonce=p.unb64(known["nonce"]), **where)
        self.assertEqual((known["name"], known["blob"]), (name, p.b64(blob)))
        self.assertEqual(known["plaintext"].encode(), open_note(keys, name, p.unb64(known["blob"]), **where))

    def test_at_rest(self) -> None:
        """A stored row opens with its key file."""
        known = GOLDEN["at_rest"]
        dek = KeyEncryptionKeys(known["key_file"]).unwrap(known["wrapped_dek"].encode())
        body = RowSealer({7: dek}, 7).open(7, known["place"].encode(), known["token"].encode())
        self.assertEqual(known["body"].encode(), body)
