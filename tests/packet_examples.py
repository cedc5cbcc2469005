"""The worked examples of PacketDiagram.md, made by the code they are examples of.

    python -m tests.packet_examples

writes them into the document again, after a change of the protocol: every fenced block that follows a line
``<!-- example:NAME -->``; and the flow diagram into README.md. `tests.unit.test_docs_packets` compares them.

Nothing here is random: keys come from what they are called, and the wrapped keys from an OAEP written out below. So
the examples are the same on every machine, and none of these keys may be used for anything else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import sqlite3
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed

from securechat.chat.broker import RoomBroker
from securechat.crypto import backup as sealed_backup
from securechat.crypto import primitives as p
from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.envelope import Header, audience, audience_digest, message_id, parse_header
from securechat.crypto.identity import (
    AccountKeys,
    certify_device,
    fingerprint,
    login_proof,
    private_conversation,
    sign_device_list,
    verify_bundle,
)
from securechat.crypto.notes import NoteKeys, note_name, seal_note
from securechat.crypto.passwords import Stretched, fake_salt, stretch
from securechat.crypto.roomlog import (
    ChangeTopic,
    Create,
    Invite,
    Join,
    Kick,
    RoomLog,
    SignedEvent,
    next_link,
    sign_event,
)
from securechat.crypto.signed import to_bytes
from securechat.crypto.transcript import next_th, transcript_start
from securechat.crypto.trust import half_fingerprint, safety_number
from securechat.errors import Refused
from securechat.server.checks import Admission
from securechat.server.session import Logins, Registration, ServerIdentity, ServerSession, SessionParts
from securechat.storage.sqlite import SQLiteStore
from securechat.wire import codec
from securechat.wire import messages as m
from tests.doubles import InlinePool, InlineReactor

DOCUMENT: Final = Path(__file__).parent.parent / "PacketDiagram.md"
README: Final = DOCUMENT.with_name("README.md")
FLOW: Final = re.compile(r"<!-- flow:begin -->\n(.*?)<!-- flow:end -->", re.DOTALL)
BLOCK: Final = re.compile(r"(?m)^<!-- example:([\w-]+) -->\n```\w*\n(.*?)^```$", re.DOTALL)
WIDTH: Final = 100  # of a wrapped value

START: Final = 1_795_000_000  # seconds since 1970: when the examples happen
PASSWORD: Final = "cafe\u0301 at noon"  # as typed, with a combining accent; its NFC form has one character there


def fixed(name: str, length: int = 32) -> bytes:
    """Bytes that are the same each time."""
    return hashlib.shake_256(f"SecureChat example: {name}".encode()).digest(length)


@cache
def rsa_key(name: str, p_offset: int, q_offset: int) -> rsa.RSAPrivateKey:
    """An RSA-3072 key whose primes follow fixed numbers at these offsets."""
    first, second = (
        (int.from_bytes(fixed(f"RK {name} {prime}", 192)) | 3 << 1534 | 1) + offset
        for prime, offset in (("p", p_offset), ("q", q_offset))
    )
    d = pow(p.RSA_EXPONENT, -1, (first - 1) * (second - 1))
    public = rsa.RSAPublicNumbers(p.RSA_EXPONENT, first * second)
    exponents = rsa.rsa_crt_dmp1(d, first), rsa.rsa_crt_dmq1(d, second), rsa.rsa_crt_iqmp(first, second)
    return rsa.RSAPrivateNumbers(first, second, d, *exponents, public).private_key()


def oaep(key: rsa.RSAPublicKey, message: bytes, seed: bytes) -> bytes:
    """RSAES-OAEP (RFC 8017, section 7.1.1) with SHA-256, MGF1-SHA-256, no label, and a seed that is given."""
    size = key.key_size // 8
    block = hashlib.sha256().digest() + bytes(size - len(message) - 66) + b"\x01" + message
    masked_block = _xor(block, _mgf1(seed, len(block)))
    masked_seed = _xor(seed, _mgf1(masked_block, 32))
    numbers = key.public_numbers()
    encoded = int.from_bytes(b"\x00" + masked_seed + masked_block)
    return pow(encoded, numbers.e, numbers.n).to_bytes(size)


def _mgf1(seed: bytes, length: int) -> bytes:
    blocks = (hashlib.sha256(seed + counter.to_bytes(4)).digest() for counter in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def fernet(key: bytes, text: bytes, iv: bytes) -> bytes:
    """A Fernet token with the time stamp 0 and an IV that is given."""
    raw, padding = base64.urlsafe_b64decode(key), 16 - len(text) % 16
    encryptor = Cipher(algorithms.AES128(raw[16:]), modes.CBC(iv)).encryptor()
    token = b"\x80" + bytes(8) + iv + encryptor.update(text + bytes([padding]) * padding) + encryptor.finalize()
    return base64.urlsafe_b64encode(token + hmac.digest(raw[:16], token, "sha256"))


# --- people -----------------------------------------------------------------------------------------------------------


class Server:
    """The server's own key."""

    key = p.ed25519_from_seed(fixed("LK"))
    identity = ServerIdentity(key)
    lk = identity.lk
    srv = identity.srv


class Person:
    """An account with one device, or with two once `second_device` was called."""

    def __init__(self, user: str, name: str, rk: rsa.RSAPrivateKey, *, generation: str = "") -> None:
        self.user = user
        self.ik = p.ed25519_from_seed(fixed(f"IK {user}{generation}"))
        self.dk = p.ed25519_from_seed(fixed(f"DK {user}{generation}"))
        self.rk = rk
        self.certificates = [self._certificate(self.dk, name, START * 1000)]
        self.bundle = self._sign_list(1, "")

    def _certificate(self, device: p.SigningKey, name: str, created: int) -> Any:
        return certify_device(
            identity=self.ik, device=device, srv=Server.srv, user=self.user, name=name, created=created
        )

    def _sign_list(self, version: int, previous: str) -> m.KeyBundle:
        signed = sign_device_list(
            identity=self.ik,
            srv=Server.srv,
            user=self.user,
            version=version,
            previous=previous,
            rk_der=p.rsa_public_der(self.rk.public_key()),
            certificates=self.certificates,
            old_kids=self.keys.kids if version > 1 else (),
        )
        return m.KeyBundle.of(signed)

    def second_device(self, name: str) -> p.SigningKey:
        """Adds a device, and makes the next list."""
        device = p.ed25519_from_seed(fixed(f"DK {self.user} {name}"))
        self.certificates.append(self._certificate(device, name, START * 1000 + 60_000))
        self.bundle = self._sign_list(self.keys.version + 1, self.keys.digest)
        return device

    @property
    def keys(self) -> AccountKeys:
        """The keys, verified as everybody does it."""
        return verify_bundle(self.bundle, srv=Server.srv, user=self.user)

    @property
    def dev(self) -> str:
        """The first device."""
        return p.key_id(p.ed25519_public(self.dk))

    def backup(self, version: int, key: bytes, *, list_version: int, pins: Mapping[str, Any], code: bool) -> m.Backup:
        """A sealed backup."""
        secrets = sealed_backup.AccountSecrets(self.ik, (self.rk,), list_version, pins)
        nonce = fixed(f"backup {self.user} {version}", 12)
        blob = sealed_backup.seal_backup(
            key, secrets, srv=Server.srv, user=self.user, version=version, nonce=nonce, by_code=code
        )
        return m.Backup(version=version, blob=blob)


def short_backup(version: int) -> m.Backup:
    """Stands for bob's backups in the document: a real one takes 4 KB more, and the server opens none."""
    return m.Backup(version=version, blob=b"c" + fixed(f"backup bob {version}", 59))


class Message:
    """A sealed text, and how it came about.

    Args:
        number: what its keys follow from.
    """

    def __init__(self, number: int, text: str, readers: Sequence[AccountKeys]) -> None:
        self.number = number
        self.text = text
        self.key = base64.urlsafe_b64encode(fixed(f"Fernet key {number}"))
        self.iv = fixed(f"IV {number}", 16)
        self.token = fernet(self.key, text.encode(), self.iv).decode()
        self.wrapped = {
            reader.user: oaep(reader.rk, self.key, fixed(f"OAEP {number} {reader.user}")) for reader in readers
        }
        self.kids = {reader.user: reader.kid for reader in readers}

    def signed(self, author: Person, device: p.SigningKey, **place: Any) -> m.Package:
        """The package at a place: fields of the header; `mid` follows from a word."""
        word = place.pop("mid", str(self.number))
        keys, rcp = author.keys, audience_digest(audience(self.kids)).hex()
        header = {
            "author": author.user,
            "dev": p.key_id(p.ed25519_public(device)),
            "dl": (keys.version, keys.digest),
            "ctr": 1,
            "prev": "",
            "mid": fixed(f"mid {word}", 16).hex(),
            "head": "",
            "rcp": rcp,
            "mh": hashlib.sha256(self.token.encode()).hexdigest(),
            "th": (0, transcript_start(place["room"])),
            "at": START * 1000 + 10_000 + self.number,
        }
        hdr = to_bytes(Header(**header | place))
        bind = envelope_bind(self.key, hdr)
        return m.Package(
            encrypted_message=self.token,
            encrypted_keys=self.wrapped,
            kids=self.kids,
            hdr=hdr,
            bind=bind,
            sig=p.sign(device, "envelope", p.vec(hdr) + p.vec(bind)),
        )


def envelope_bind(key: bytes, hdr: bytes) -> bytes:
    """`bind` of a header under a Fernet key."""
    return hmac.digest(HKDF(SHA256(), 32, None, b"SecureChat 1 bind").derive(key), hdr, "sha256")


# --- a server in this thread ------------------------------------------------------------------------------------------


class Passwords:
    """`server.checks.PasswordChecks` without threads and without bcrypt: neither shows on the wire."""

    async def verify(self, token: str, stored: str | None) -> bool:
        return token == stored

    async def hash(self, token: str) -> str:
        return token

    def needs_rehash(self, stored: str) -> bool:
        return False


class Connection:
    """One client's connection: `server.session.Peer`, which keeps what the server writes."""

    def __init__(self, story: Story, name: str, registration: Registration) -> None:
        self.address = "192.0.2.7"
        self.registration = registration
        self.exporter = fixed(f"exporter {name}")
        self._story = story
        self._written = b""
        self.session = ServerSession(story.parts, self)
        self.deliver(self.session.hello())

    def deliver(self, lines: bytes) -> None:
        self._written += lines

    def drained(self) -> Deferred[None]:
        return succeed(None)

    @property
    def slow(self) -> bool:
        return False

    def say_bye(self, bye: m.Bye) -> None:
        self.deliver(codec.encode(bye))

    def logged_in(self, yes: bool) -> None:
        """There are no timers here."""

    def proof(self, device: p.SigningKey, user: str) -> bytes:
        """The device's signature over this connection."""
        nonce = self.session.nonce
        return login_proof(device, lk=Server.lk, exporter=self.exporter, nonce=nonce, user=user)

    def heard(self) -> list[str]:
        """What the server wrote since the last look."""
        written, self._written = self._written, b""
        return [f"S: {line}" for line in written.decode("ascii").splitlines()]

    def ask(self, request: m.Request | bytes) -> list[str]:
        """What a client writes, and what comes back to it."""
        self._story.now += 1
        line = request if isinstance(request, bytes) else codec.encode(request).rstrip(b"\n")
        try:
            decoded = codec.decode_request(line)
        except Refused as refusal:
            self.session.refuse(refusal.data.get("id"), refusal)
        else:
            self._story.run(self.session.handle(decoded))
        return [f"C: {line.decode()}", *self.heard()]


class Story:
    """What happens in the examples, from the first `hello` on, on a real store.

    Attributes:
        lines: what was written, by the name of the example.
        values: long values by the name under which the document has them.
    """

    def __init__(self, directory: Path) -> None:
        self.now = START
        self.lines: dict[str, list[str]] = {}
        self.values: dict[str, str] = {}
        self._drawn = 0
        self.store = _store(directory / "chat.db")
        self.parts = SessionParts(
            store=self.store,
            broker=RoomBroker(),
            passwords=Passwords(),
            admission=Admission(),
            identity=Server.identity,
            logins=Logins(),
            now=lambda: self.now,
            monotonic=lambda: self.now,
            random=self._random,
            version="0.1.0",
        )

    def _random(self, length: int) -> bytes:
        self._drawn += 1
        return fixed(f"random {self._drawn}", length)

    def run(self, work: Any) -> Any:
        """The result of a coroutine that needs no reactor."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(work).addCallbacks(outcome.append, outcome.append)
        (result,) = outcome
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def tell(self) -> None:
        """Plays it."""
        lines = self.lines
        self.alice, self.bob = alice, bob = alice_and_bob()
        self.stretched = stretched = stretch(PASSWORD, fixed("salt alice", 16))
        token = stretched.auth_token(Server.srv, "alice")
        bob_token = Stretched(fixed("root bob"), fixed("salt bob", 16)).auth_token(Server.srv, "bob")
        self.code = fixed("recovery code", 16)
        code_key = sealed_backup.code_key(self.code)
        self.keep("alice-keys-1", alice.bundle)
        self.keep("bob-keys-1", bob.bundle)
        self.first_backup = alice.backup(1, stretched.backup_key(), list_version=1, pins={}, code=False)
        self.keep("alice-backup-1", self.first_backup)
        bob_backup = short_backup(1)
        self.keep("bob-backup-1", bob_backup)

        # Alice opens an account on this machine, and a room.
        laptop = self.laptop = Connection(self, "laptop", Registration.OPEN)
        lines["hello"] = laptop.heard()
        lines["ping"] = laptop.ask(m.Ping(id=1))
        lines["register"] = laptop.ask(
            m.Register(
                id=2,
                user="alice",
                password=token,
                salt=stretched.salt,
                keys=alice.bundle,
                proof=laptop.proof(alice.dk, "alice"),
                backup=self.first_backup,
            )
        )
        lines["sync"] = laptop.ask(m.Sync(id=3, presence=True))
        self.general, self.ops = RoomLog(Server.srv), RoomLog(Server.srv)
        create = self.act(
            self.general, Create, alice, name="general", salt=fixed("salt general", 16), join="open", invite="member",
            env=1, dl=self.dl(alice),
        )  # fmt: skip
        self.keep_bytes("general-create", create.data)
        self.keep("alice-certificate", m.Certificate.of(alice.certificates[0]))
        self.keep("bob-certificate", m.Certificate.of(bob.certificates[0]))
        lines["create"] = laptop.ask(self.do(4, "general", create))
        lines["act-again"] = laptop.ask(self.do(5, "general", create))

        # Bob comes with an invitation.
        code = p.b64url(fixed("invite", 16))
        invite_hash = hashlib.sha256(code.encode()).digest()
        self.run(self.store.add_invite(invite_hash, uses=1, expires=2 * START * 1000, now=0))
        desk = Connection(self, "desk", Registration.INVITE)
        desk.heard()
        register = m.Register(
            id=1,
            user="bob",
            password=bob_token,
            salt=fixed("salt bob", 16),
            keys=bob.bundle,
            proof=desk.proof(bob.dk, "bob"),
            backup=bob_backup,
        )
        lines["error-invite"] = desk.ask(register)
        lines["register-invite"] = bob_registers = desk.ask(
            m.Register(
                id=2,
                user="bob",
                password=bob_token,
                salt=fixed("salt bob", 16),
                keys=bob.bundle,
                proof=desk.proof(bob.dk, "bob"),
                backup=bob_backup,
                invite=code,
            )
        )
        bob_session = json.loads(bob_registers[1][3:])["token"]
        desk.ask(m.Sync(id=3, presence=True, typing=True))
        lines["roomlog"] = desk.ask(m.RoomLog(id=4, room="general"))
        join = self.act(self.general, Join, bob, own="", dl=self.dl(bob))
        self.keep_bytes("bob-joins", join.data)
        lines["join"] = desk.ask(self.do(5, "general", join))
        lines["event-room"] = laptop.heard()

        # They talk.
        lines["online"] = laptop.ask(m.Online(id=6, room="general"))
        lines["keys"] = laptop.ask(m.Keys(id=7, users=("bob", "nobody")))
        self.message = first = Message(1, "Hello everyone!", [alice.keys, bob.keys])
        self.keep_wrapped("m1", first)
        in_general = {"room": self.general.id, "head": self.general.head}
        first_package = first.signed(alice, alice.dk, **in_general)
        self.keep_bytes("m1-hdr", first_package.hdr)
        send = m.Send(id=8, room="general", package=first_package)
        self.full_send = codec.encode(send).decode().rstrip("\n")
        lines["send"] = laptop.ask(send)
        lines["event-message"] = desk.heard()
        self.full_event = lines["event-message"][0][3:]
        lines["send-again"] = laptop.ask(m.Send(id=9, room="general", package=first_package))
        private = Message(2, "Only you read this.", [alice.keys, bob.keys])
        self.keep_wrapped("m2", private)
        self.private = private_conversation(alice.keys.ik, bob.keys.ik)
        second_package = private.signed(bob, bob.dk, room=self.private)
        self.keep_bytes("m2-hdr", second_package.hdr)
        lines["pm"] = desk.ask(m.Pm(id=6, user="alice", package=second_package))
        lines["event-message-private"] = laptop.heard()
        lines["history"] = desk.ask(m.History(id=7, room="general", limit=2))
        rcp = parse_header(first_package.hdr).rcp
        lines["audience"] = desk.ask(m.Audience(id=8, room="general", rcp=rcp))
        lines["rooms"] = desk.ask(m.Rooms(id=9))

        lines["typing"] = laptop.ask(m.Typing(id=10, room="general"))
        lines["event-typing"] = desk.heard()

        # A private room, out of which Bob is put.
        private_room = self.act(
            self.ops, Create, alice, name="ops", salt=fixed("salt ops", 16), join="invite", invite="member",
            env=1, dl=self.dl(alice),
        )  # fmt: skip
        laptop.ask(self.do(10, "ops", private_room))
        invite = self.act(self.ops, Invite, alice, own="", user="bob", user_ik=bob.keys.ik, dl=self.dl(bob))
        self.keep_bytes("alice-invites", invite.data)
        lines["invite"] = laptop.ask(self.do(11, "ops", invite))
        lines["event-invited"] = desk.heard()
        accepted = self.act(self.ops, Join, bob, own=self.ops.standing["bob"], dl=self.dl(bob))
        desk.ask(self.do(10, "ops", accepted))
        laptop.heard()
        before = self.ops.head
        topic = self.draft(ChangeTopic, alice, self.ops, ctl=self.ops.ctl, topic=b"Plans")
        kick = self.act(self.ops, Kick, alice, ctl=self.ops.ctl, user="bob", reason=b"a mistake")
        self.keep_bytes("alice-kicks", kick.data)
        self.keep_bytes("alice-topic", topic.data)
        lines["kick"] = laptop.ask(self.do(12, "ops", kick))
        lines["error-stale-ctl"] = laptop.ask(self.do(13, "ops", topic))
        desk.heard()

        # What a send may meet.
        other = Message(3, "Second.", [alice.keys, bob.keys])
        self.keep_wrapped("m3", other)

        def sealed(name: str, **place: Any) -> m.Package:
            package = other.signed(alice, place.pop("device", alice.dk), **{**in_general, **place})
            self.keep_bytes(f"hdr-{name}", package.hdr)
            return package

        first_id = message_id(first_package.hdr, first_package.bind)
        package = sealed("stale-head", room=self.ops.id, head=before)
        lines["error-stale-head"] = laptop.ask(m.Send(id=14, room="ops", package=package))
        package = sealed("out-of-turn", ctr=3, prev=first_id)
        lines["error-out-of-turn"] = laptop.ask(m.Send(id=15, room="general", package=package))
        package = sealed("ctr-behind")
        lines["error-ctr-behind"] = laptop.ask(m.Send(id=16, room="general", package=package))
        package = sealed("mid-conflict", ctr=2, prev=first_id, mid="1")
        lines["error-mid-conflict"] = laptop.ask(m.Send(id=17, room="general", package=package))

        # What the server never had, or has lost.
        lost = self.act(
            RoomLog(Server.srv), Create, alice, name="attic", salt=fixed("salt attic", 16), join="open",
            invite="member", env=1, dl=self.dl(alice),
        )  # fmt: skip
        self.keep_bytes("attic-create", lost.data)
        acts = (m.Act(signed=lost.data, sig=lost.sig),)
        lines["extend"] = laptop.ask(m.Extend(id=18, room="attic", after=0, acts=acts))
        laptop.heard()
        lines["stored"] = laptop.ask(m.Stored(id=19))

        # Alice's second device.
        phone = Connection(self, "phone", Registration.OPEN)
        phone.heard()
        lines["prelogin"] = phone.ask(m.Prelogin(id=1, user="alice")) + phone.ask(m.Prelogin(id=2, user="nobody"))
        lines["login"] = phone.ask(m.Login(id=3, user="alice", password=token))
        lines["error-device-first"] = phone.ask(m.Rooms(id=4))
        lines["backup-fetch"] = phone.ask(m.BackupRequest(id=5))
        device = alice.second_device("phone")
        self.keep("alice-keys-2", alice.bundle)
        pins = {"bob": {"ik": p.b64(bob.keys.ik), "seen": START * 1000, "ver": 1, "digest": bob.keys.digest}}
        second = alice.backup(2, code_key, list_version=2, pins=pins, code=True)
        self.keep("alice-backup-2", second)
        dev = p.key_id(p.ed25519_public(device))
        lines["publish"] = phone.ask(
            m.Publish(id=6, device=dev, proof=phone.proof(device, "alice"), keys=alice.bundle, backup=second)
        )
        lines["event-member"] = desk.heard()
        laptop.heard()
        lines["error-stale-backup"] = phone.ask(m.BackupRequest(id=7, backup=self.first_backup))
        lines["sync-missed"] = phone.ask(m.Sync(id=8, epoch=self.store.epoch, since={self.general.id: 0}))
        lines["read"] = phone.ask(m.Read(id=9, room="general", seq=1))
        lines["event-read"] = laptop.heard()
        name, note = self.note(alice, "I wanted to")
        lines["note"] = phone.ask(m.PutNote(id=10, name=name, blob=note))
        lines["event-note"] = laptop.heard()
        lines["notes"] = laptop.ask(m.Notes(id=20))

        # Bob's connection breaks, and comes back.
        desk.session.connection_lost()
        lines["event-presence"] = laptop.heard()
        phone.heard()
        again = Connection(self, "again", Registration.INVITE)
        again.heard()
        lines["resume"] = again.ask(m.Resume(id=1, token=bob_session, proof=again.proof(bob.dk, "bob")))
        lines["sync-again"] = again.ask(
            m.Sync(id=2, epoch=self.store.epoch, since={self.general.id: 1, self.private: 1})
        )
        lines["sync-reset"] = again.ask(m.Sync(id=3, epoch=fixed("other epoch", 16).hex(), since={self.general.id: 7}))
        phone.heard()

        # The end of several things.
        new = Stretched(fixed("new root alice"), fixed("new salt alice", 16))
        new_token = new.auth_token(Server.srv, "alice")
        lines["passwd"] = phone.ask(m.Passwd(id=10, password=token, new_password=new_token, new_salt=new.salt))
        lines["event-bye"] = laptop.heard()[-1:]
        fresh = Person("bob", "desk", rsa_key("bob later", 488, 888), generation=" later")
        self.keep("bob-keys-new", fresh.bundle)
        fresh_backup = short_backup(2)
        self.keep("bob-backup-new", fresh_backup)
        lines["reset-identity"] = again.ask(
            m.ResetIdentity(id=6, password=bob_token, keys=fresh.bundle, backup=fresh_backup)
        )
        past = tuple(map(m.Certificate.of, bob.certificates))
        self.keep("bob-keys-after", replace(fresh.bundle, past=past))
        lines["event-member-reset"] = phone.heard()
        late = sealed("stale-keys", device=device)
        lines["error-stale-keys"] = phone.ask(m.Send(id=11, room="general", package=late))
        lines["error-not-member"] = again.ask(m.Online(id=8, room="general"))
        lines["logout"] = phone.ask(m.Logout(id=12))
        self.login_proof = phone.proof(device, "alice")
        lines["login-device"] = phone.ask(
            m.Login(id=13, user="alice", password=new_token, device=dev, proof=self.login_proof)
        )
        self.phone = phone
        stranger = Connection(self, "stranger", Registration.OPEN)
        stranger.heard()
        lines["error-bad-login"] = stranger.ask(m.Login(id=1, user="nobody", password=token))
        while "rate_limited" not in (refused := stranger.ask(m.Login(id=2, user="nobody", password=token)))[1]:
            pass
        lines["error-rate-limited"] = refused
        lines["error-login-first"] = stranger.ask(m.Rooms(id=3))
        lines["error-bad-field"] = stranger.ask(b'{"cmd":"prelogin","id":4,"user":"Alice"}')
        lines["error-unknown-command"] = stranger.ask(b'{"cmd":"whois","id":"a","user":"alice"}')
        lines["error-bad-packet"] = stranger.ask(b'["ping"]')

    def note(self, person: Person, draft: str) -> tuple[str, bytes]:
        """What somebody has half written in the room general, as a note: its name and its blob."""
        keys, nonce = NoteKeys.of([person.rk]), fixed(f"note {person.user}", 12)
        name = note_name(keys, "draft", self.general.id)
        return name, seal_note(keys, name, draft.encode(), srv=Server.srv, user=person.user, nonce=nonce)

    # --- acts ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def dl(person: Person) -> tuple[int, str]:
        """Somebody's newest device list, as signed objects name it."""
        return person.keys.version, person.keys.digest

    def draft(self, kind: Any, author: Person, log: RoomLog, **fields: Any) -> SignedEvent:
        """An act signed for a log as it is now."""
        event = kind(
            srv=Server.srv, room=log.id, by=author.user, ik=author.keys.ik, dev=author.dev, after=log.head,
            at=self.now * 1000, **fields,
        )  # fmt: skip
        return sign_event(author.dk, event)

    def act(self, log: RoomLog, kind: Any, author: Person, **fields: Any) -> SignedEvent:
        """The next act of a log, which takes it in."""
        signed = self.draft(kind, author, log, **fields)
        log.append(signed)
        return signed

    @staticmethod
    def do(number: int, room: str, signed: SignedEvent) -> m.DoAct:
        """The request that puts an act into a room's log."""
        return m.DoAct(id=number, room=room, signed=signed.data, sig=signed.sig)

    # --- long values --------------------------------------------------------------------------------------------------

    def keep(self, name: str, packet: m.Packet) -> None:
        """From now on the document writes ``<name>`` for this."""
        self.values[name] = codec.encode(packet).decode().rstrip("\n")

    def keep_bytes(self, name: str, data: bytes) -> None:
        """The same for bytes."""
        self.values[name] = json.dumps(p.b64(data))

    def keep_wrapped(self, name: str, message: Message) -> None:
        """The same for the parts of a package."""
        self.values[f"{name}-token"] = json.dumps(message.token)
        for user, wrapped in message.wrapped.items():
            self.values[f"{name}-for-{user}"] = json.dumps(p.b64(wrapped))

    def shorten(self, line: str) -> str:
        """A line with names in the place of long values."""
        for name, value in sorted(self.values.items(), key=lambda item: -len(item[1])):
            line = line.replace(value, f"<{name}>")
        return line


def _store(path: Path) -> SQLiteStore:
    """A store whose epoch and secret are fixed."""

    def make() -> SQLiteStore:
        store = SQLiteStore(path, kek, reactor=InlineReactor(), pool=InlinePool)
        store.open()
        return store

    kek = KeyEncryptionKeys(new_key_file())
    Deferred.fromCoroutine(make()._close())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE meta SET epoch = ?, secret = ?", (fixed("epoch", 16).hex(), fixed("secret")))
    connection.close()
    return make()


def alice_and_bob() -> tuple[Person, Person]:
    """The two, each with a first device."""
    return Person("alice", "laptop", rsa_key("alice", 6440, 3136)), Person("bob", "desk", rsa_key("bob", 1374, 1374))


# --- derivations, step by step ----------------------------------------------------------------------------------------


def table(rows: Sequence[tuple[str, object]]) -> str:
    """Names and values; bytes as hex, long values wrapped."""
    width = max(len(name) for name, _ in rows)
    lines: list[str] = []
    for name, value in rows:
        text = value.hex() if isinstance(value, bytes) else str(value)
        first, *more = textwrap.wrap(text, WIDTH, break_on_hyphens=False, drop_whitespace=False) or [""]
        lines.append(f"{name:{width}} = {first}".rstrip())
        lines += [f"{'':{width}}   {part}" for part in more]
    return "\n".join(lines) + "\n"


def _signed(label: str, content: bytes) -> bytes:
    """What Ed25519 signs for SignWithLabel."""
    return p.vec(p.PREFIX + label.encode()) + p.vec(content)


def derivations(story: Story) -> Iterator[tuple[str, str]]:
    """The tables of worked values, by name of the example."""
    alice, bob = story.alice, story.bob
    zeros = bytes(32)
    yield (
        "notation",
        table(
            [
                ('vec("abc")', p.vec(b"abc")),
                ("vec(100 bytes 00), start", p.vec(bytes(100))[:4]),
                ('H("example", "abc")', p.digest("example", b"abc")),
                ("  SHA-256 of", p.vec(b"example") + p.vec(b"abc")),
                ('Expand(32 bytes 00, "example", "abc", 16)', p.expand(zeros, "example", b"abc", 16)),
                ("  info", (16).to_bytes(2) + p.vec(p.PREFIX + b"example") + p.vec(b"abc")),
                (
                    'Sign(key of seed 32 bytes 00, "example", "abc")',
                    p.sign(p.ed25519_from_seed(zeros), "example", b"abc"),
                ),
                ("  Ed25519 over", _signed("example", b"abc")),
            ]
        ),
    )
    laptop = story.laptop
    content = p.digest("hello", Server.lk, laptop.exporter, laptop.session.nonce)
    yield (
        "hello-signature",
        table(
            [
                ("LK, seed", fixed("LK")),
                ("lk", Server.lk),
                ("server id", Server.srv),
                ("exporter", laptop.exporter),
                ("nonce", laptop.session.nonce),
                ("content", content),
                ("Ed25519 over", _signed("hello", content)),
                ("sig", p.b64(Server.identity.prove(laptop.exporter, laptop.session.nonce))),
            ]
        ),
    )
    stretched = story.stretched
    context = p.digest("auth", Server.srv.encode(), b"alice")
    yield (
        "password",
        table(
            [
                ("password", "caf\u00e9 at noon"),
                ("NFC in UTF-8", "caf\u00e9 at noon".encode()),
                ("salt", stretched.salt),
                ("root", stretched.root),
                ('H("auth", srv, "alice")', context),
                ("auth", p.expand(stretched.root, "auth", context, 32)),
                ("token", stretched.auth_token(Server.srv, "alice")),
                ("keystore key", stretched.keystore_key()),
                ("backup key", stretched.backup_key()),
            ]
        ),
    )
    first = alice.certificates[0]
    yield (
        "certificate",
        table(
            [
                ("IK, seed", fixed("IK alice")),
                ("IK, public", alice.keys.ik),
                ("DK, seed", fixed("DK alice")),
                ("DK, public", p.ed25519_public(alice.dk)),
                ("cert", first.cert.decode()),
                ("Ed25519 over", f"{_signed('device', first.cert)[: -len(first.cert)].hex()} and the bytes of cert"),
                ("ik_sig", p.b64(first.ik_sig)),
                ("dk_sig", p.b64(first.dk_sig)),
            ]
        ),
    )
    one = m.KeyBundle.of(_first_list(alice))
    yield (
        "device-list",
        table(
            [
                ("list", one.list.decode()),
                ("Ed25519 over", f"{_signed('devlist', one.list)[: -len(one.list)].hex()} and the bytes of list"),
                ("sig", p.b64(one.sig)),
                ("digest", hashlib.sha256(one.list).hexdigest()),
                ("kid", alice.keys.kid),
                ("fingerprint", fingerprint(alice.keys.ik)),
            ]
        ),
    )
    phone = story.phone
    content = p.digest("login", Server.lk, phone.exporter, phone.session.nonce, b"alice")
    yield (
        "login-proof",
        table(
            [
                ("DK, seed", fixed("DK alice phone")),
                ("exporter", phone.exporter),
                ("nonce", phone.session.nonce),
                ("content", content),
                ("proof", p.b64(story.login_proof)),
            ]
        ),
    )
    yield (
        "conversation",
        table([("IK of alice", alice.keys.ik), ("IK of bob", bob.keys.ik), ("conversation", story.private)]),
    )
    yield "safety-number", _safety_table(story)
    yield "room-event", _events_table(story)
    yield "links", _links_table(story)
    yield "header", _header_table(story)
    yield "backup", _backup_table(story)
    yield "recovery-code", _code_table(story)
    yield "note-sealed", _note_table(story)
    yield "package", _package_table(story)
    yield (
        "fake-salt",
        table(
            [
                ("secret", fixed("secret")),
                ('fake salt of "nobody"', p.b64(fake_salt(fixed("secret"), "nobody"))),
            ]
        ),
    )


def _first_list(person: Person) -> Any:
    """The list as it was before the second device."""
    return sign_device_list(
        identity=person.ik,
        srv=Server.srv,
        user=person.user,
        version=1,
        previous="",
        rk_der=p.rsa_public_der(person.rk.public_key()),
        certificates=person.certificates[:1],
    )


def _backup_table(story: Story) -> str:
    key, blob = story.stretched.backup_key(), story.first_backup.blob
    associated = p.digest("backup", b"p", Server.srv.encode(), b"alice", (1).to_bytes(8))
    padded = p.unseal(key, blob[1:], associated)
    size = int.from_bytes(padded[:4])
    return table(
        [
            ("key", key),
            ("associated data", associated),
            ("nonce", blob[1:13]),
            ("plaintext, first 24 bytes", padded[:24]),
            ("length of JSON", size),
            ("length of plaintext", len(padded)),
            ("SHA-256 of JSON", hashlib.sha256(padded[4 : 4 + size]).digest()),
            ("blob, first 24 bytes", blob[:24]),
            ("blob, last 16 bytes", blob[-16:]),
            ("length of blob", len(blob)),
        ]
    )


def _code_table(story: Story) -> str:
    check = hashlib.sha256(b"SecureChat recovery code" + story.code).digest()
    return table(
        [
            ("secret", story.code),
            ("check, 12 bits", check.hex()[:3]),
            ("code", sealed_backup.format_code(story.code)),
            ("backup key", sealed_backup.code_key(story.code)),
        ]
    )


def _note_table(story: Story) -> str:
    der, room = p.rsa_private_der(story.bob.rk), story.general.id
    name, blob = story.note(story.bob, "Not yet.")
    root = HKDF(SHA256(), 32, None, b"SecureChat 1 notes").derive(der)
    key = p.expand(root, "note", b"", 32)
    associated = p.digest("note", Server.srv.encode(), b"bob", bytes.fromhex(name))
    padded = p.unseal(key, blob[16:], associated)
    return table(
        [
            ("SHA-256 of RK's DER", hashlib.sha256(der).digest()),
            ("root", root),
            ("names", p.expand(root, "note names", b"", 32)),
            ("kind", "draft"),
            ("subject", room),
            ("name", name),
            ("key", key),
            ("associated data", associated),
            ("nonce", blob[16:28]),
            ("plaintext, first 24 bytes", padded[:24]),
            ("length of plaintext", len(padded)),
            ("blob", blob),
        ]
    )


def _safety_table(story: Story) -> str:
    halves = {
        person.user: half_fingerprint(person.keys.ik, f"{person.user}@{Server.srv}".encode())
        for person in alice_and_bob()
    }
    number = safety_number(*halves.values())
    groups = " ".join(number[at : at + 5] for at in range(0, 60, 5))
    return table([*((f"half({user})", half) for user, half in halves.items()), ("number", groups)])


def _told(story: Story, name: str) -> Any:
    """What a client wrote in an example."""
    return json.loads(story.lines[name][0].removeprefix("C: "))


def _acts(story: Story) -> Mapping[str, SignedEvent]:
    """The two acts that are worked out."""
    told = {name: _told(story, name) for name in ("create", "join")}
    return {name: SignedEvent(p.unb64(act["signed"]), p.unb64(act["sig"])) for name, act in told.items()}


def _events_table(story: Story) -> str:
    lines: list[tuple[str, object]] = []
    for name, act in _acts(story).items():
        prefix = _signed("room", act.data)[: -len(act.data)].hex()
        lines += [
            (name, act.data.decode()),
            ("  Ed25519 over", f"{prefix} and the bytes of {name}"),
            (f"sig of {name}", p.b64(act.sig)),
            (f"eh of {name}", act.eh),
        ]
    return table(lines)


def _links_table(story: Story) -> str:
    link, lines = "", []
    for number, act in enumerate(_acts(story).values(), 1):
        over = b"".join(p.vec(part) for part in (b"link", bytes.fromhex(link), bytes.fromhex(act.eh)))
        link = next_link(link, act.eh)
        lines += [(f"link {number}", link), ("  SHA-256 of", over)]
    return table(lines)


def _header_table(story: Story) -> str:
    package = json.loads(story.full_send)["package"]
    hdr, bind = p.unb64(package["hdr"]), p.unb64(package["bind"])
    header, named = parse_header(hdr), audience(package["kids"])
    key = HKDF(SHA256(), 32, None, b"SecureChat 1 bind").derive(story.message.key)
    signed = _signed("envelope", p.vec(hdr) + p.vec(bind))
    start, end = len(signed) - len(hdr) - len(p.vec(bind)), len(signed) - len(p.vec(bind))
    before = transcript_start(header.room)
    return table(
        [
            ("A", named.decode()),
            ("rcp", audience_digest(named)),
            ("mh", header.mh),
            ("hdr", hdr.decode()),
            ("bind key", key),
            ("bind", bind),
            ("Ed25519 over", f"{signed[:start].hex()}, the bytes of hdr, {signed[end:].hex()}"),
            ("sig", package["sig"]),
            ("id", message_id(hdr, bind)),
            ("th_0", before),
            ("th_1", next_th(before, header.head, message_id(hdr, bind))),
        ]
    )


def _package_table(story: Story) -> str:
    message = story.message
    raw, token = base64.urlsafe_b64decode(message.key), base64.urlsafe_b64decode(message.token)
    padding = 16 - len(message.text) % 16
    return table(
        [
            ("text", message.text),
            ("Fernet key", message.key.decode()),
            ("  HMAC key, bytes 0 to 15", raw[:16]),
            ("  AES key, bytes 16 to 31", raw[16:]),
            ("IV", message.iv),
            ("padded text", message.text.encode() + bytes([padding]) * padding),
            ("AES-128-CBC", token[25:-32]),
            ("HMAC over", token[:-32]),
            ("HMAC-SHA-256", token[-32:]),
            ("encrypted_message", message.token),
            ("OAEP seed for bob", fixed("OAEP 1 bob")),
            ("encrypted_keys.bob", p.b64(message.wrapped["bob"])),
            ("kids.bob", story.bob.keys.kid),
        ]
    )


# --- blocks -----------------------------------------------------------------------------------------------------------


@cache
def blocks() -> Mapping[str, str]:
    """What stands in the document, by name of the example."""
    with tempfile.TemporaryDirectory() as directory:
        story = Story(Path(directory))
        story.tell()
        Deferred.fromCoroutine(story.store._close())
    found = {name: "".join(f"{story.shorten(line)}\n" for line in lines) for name, lines in story.lines.items()}
    found.update(derivations(story))
    found["send-whole"] = f"{story.full_send}\n"
    found["event-message-whole"] = f"{story.full_event}\n"
    found["private-key"] = story.bob.rk.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    for name, value in story.values.items():
        found[f"value-{name}"] = "".join(f"{part}\n" for part in textwrap.wrap(value, WIDTH, break_on_hyphens=False))
    return found


def written(document: str) -> Mapping[str, str]:
    """The blocks as a document has them."""
    return {found[1]: found[2] for found in BLOCK.finditer(document)}


def write() -> str:
    """Writes the blocks into the document; says what it did."""
    fresh = blocks()

    def replace(found: re.Match[str]) -> str:
        head = found[0][: found.start(2) - found.start()]
        return f"{head}{fresh[found[1]]}```"

    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(BLOCK.sub(replace, text), encoding="utf-8")
    absent = sorted(fresh.keys() - written(text).keys())
    return f"{len(written(text))} examples written" + (f"; without a place: {', '.join(absent)}" if absent else "")


def copy_flow() -> str:
    """Writes the document's diagram into README.md, between the same marks; says what it did."""
    diagram = FLOW.search(DOCUMENT.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    if diagram is None or FLOW.search(text) is None:
        return "no place for the diagram"
    README.write_text(FLOW.sub(lambda _: diagram[0], text), encoding="utf-8")
    return "diagram written"


if __name__ == "__main__":
    print(write())
    print(copy_flow())
