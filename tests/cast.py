"""People, their rooms and their messages, for tests of what is signed and sealed. Nothing here is slow.

`Person` has keys that its name alone gives. `act` makes the next event of a room's log, `Room` also takes it in.
`Conversation` plays honest authors and an honest server: `say` seals a message at its place and stores it, `deliver`
hands it to a reader. `Acquaintances` is what a reader knows of people, `reader_of` and `read` are the reader.

    room = Room(alice, bob)
    talk = Conversation(room.log, alice, bob)
    verdict, text = read(bob, reader_of(bob, talk), talk.deliver(talk.say(alice, "hello"), bob), talk)

What is left out in a call is what an honest client would do; every such field can be given, to be hostile.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_der_private_key

from securechat.crypto import envelope
from securechat.crypto.envelope import Delivered, Examined, Position, SealedMessage, examine, parse_header, seal
from securechat.crypto.identity import (
    AccountKeys,
    Device,
    SignedBundle,
    SignedCertificate,
    certify_device,
    private_conversation,
    server_id,
    sign_device_list,
    verify_bundle,
    verify_certificate,
)
from securechat.crypto.primitives import (
    ed25519_from_seed,
    ed25519_public,
    key_id,
    load_rsa_private,
    rsa_private_der,
    rsa_public_der,
    sign,
    vec,
)
from securechat.crypto.reading import ConversationReader, Verdict
from securechat.crypto.roomlog import (
    AnyEvent,
    Ban,
    ChangePolicy,
    ChangeTopic,
    ControlEvent,
    Create,
    Invite,
    Join,
    Kick,
    MembershipAct,
    Mute,
    RoomEvent,
    RoomLog,
    SignedEvent,
    replay,
    sign_event,
)
from securechat.crypto.signed import to_bytes
from securechat.crypto.transcript import Transcript, next_th, transcript_start
from securechat.wire.messages import Package

VECTORS: Final = Path(__file__).parent / "vectors"
NOW: Final = 1_700_000_000_000  # milliseconds since 1970, when everything happens unless a test says otherwise


# --- keys -------------------------------------------------------------------------------------------------------------


def figures(name: str) -> Any:
    """The contents of a file in tests/vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes with one bit changed."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def signing_key(*words: object) -> Ed25519PrivateKey:
    """The Ed25519 key that only these words give."""
    return ed25519_from_seed(hashlib.sha256(repr(words).encode()).digest())


@cache
def rsa_key(number: int = 0) -> RSAPrivateKey:
    """One of three RSA-3072 keys; a check of its arithmetic at each start would take longer than most tests."""
    key = load_der_private_key(
        base64.b64decode(figures("keys")["rsa"][number]), None, unsafe_skip_rsa_key_validation=True
    )
    assert isinstance(key, RSAPrivateKey)
    return key


def rsa_public(*words: object) -> bytes:
    """DER of an RSA-3072 public key that only these words give, and whose private half nobody has."""
    modulus = int.from_bytes(hashlib.shake_256(repr(words).encode()).digest(384), "big") | 1 << 3071 | 1
    return rsa_public_der(RSAPublicNumbers(65537, modulus).public_key())


def load_checked_before(der: bytes) -> RSAPrivateKey:
    """As `load_rsa_private`, which checks the arithmetic of a key for 0.15 s; that of `rsa_key` is right."""
    return _rsa_keys().get(der) or load_rsa_private(der)


@cache
def _rsa_keys() -> dict[bytes, RSAPrivateKey]:
    return {rsa_private_der(rsa_key(number)): rsa_key(number) for number in range(3)}


SERVER_KEY: Final = signing_key("server")
SRV: Final = server_id(ed25519_public(SERVER_KEY))


class Person:
    """Somebody with an account: the private keys, and what is signed with them.

    Args:
        user: the name; the keys follow from it.
        rsa: which of the three RSA keys with a private half; None: a public key that nobody can open with.
        generation: another one is another identity of the same name.
        srv: the server's id.
    """

    def __init__(self, user: str, rsa: int | None = None, *, generation: int = 1, srv: str = SRV) -> None:
        self.user = user
        self.srv = srv
        self.generation = generation
        self.identity = signing_key("identity", user, generation)
        self.ik = ed25519_public(self.identity)
        self.rk_der = rsa_public(user, generation) if rsa is None else rsa_public_der(rsa_key(rsa).public_key())
        self.kid = key_id(self.rk_der)
        self.private: dict[str, RSAPrivateKey] = {} if rsa is None else {self.kid: rsa_key(rsa)}
        self._keys: dict[str, AccountKeys] = {}

    def __repr__(self) -> str:
        return f"<{self.user} {self.generation}>"

    def device(self, number: int = 1) -> Ed25519PrivateKey:
        """The key of a device."""
        return signing_key("device", self.user, self.generation, number)

    def dev(self, number: int = 1) -> str:
        """The id of a device."""
        return key_id(ed25519_public(self.device(number)))

    def vouched(self, number: int = 1) -> Device:
        """What the verified certificate of a device says."""
        return verify_certificate(self.certificate(number), srv=self.srv)

    def certificate(self, number: int = 1) -> SignedCertificate:
        """The certificate of a device."""
        return certify_device(
            identity=self.identity,
            device=self.device(number),
            srv=self.srv,
            user=self.user,
            name=f"device {number}",
            created=NOW + number,
        )

    def bundle(
        self,
        version: int = 1,
        devices: Sequence[int] = (1,),
        *,
        previous: str | None = None,
        revoked: Sequence[int] = (),
        rk_der: bytes | None = None,
        old_kids: Sequence[str] = (),
        past: Sequence[SignedCertificate] = (),
    ) -> SignedBundle:
        """A signed device list; one above number 1 follows those with the same devices."""
        if previous is None:
            previous = "" if version == 1 else self.keys(version - 1, devices).digest
        made = sign_device_list(
            identity=self.identity,
            srv=self.srv,
            user=self.user,
            version=version,
            previous=previous,
            rk_der=rk_der or self.rk_der,
            certificates=[self.certificate(number) for number in devices],
            revoked=[self.dev(number) for number in revoked],
            old_kids=old_kids,
        )
        return replace(made, past=tuple(past))

    def keys(self, version: int = 1, devices: Sequence[int] = (1,), **changes: Any) -> AccountKeys:
        """What the verified bundle says; the arguments are those of `bundle`."""
        made = repr((version, tuple(devices), changes))
        if made not in self._keys:
            bundle = self.bundle(version, devices, **changes)
            self._keys[made] = verify_bundle(bundle, srv=self.srv, user=self.user)
        return self._keys[made]

    @property
    def dl(self) -> tuple[int, str]:
        """Number and digest of the first device list."""
        return self.keys().version, self.keys().digest


# --- rooms ------------------------------------------------------------------------------------------------------------

_DEFAULTS: Final[Mapping[type[RoomEvent], Mapping[str, Any]]] = {
    Create: {"name": "ops", "salt": bytes(16), "join": "open", "invite": "member", "env": 1, "after": "", "room": ""},
    Kick: {"reason": b""},
    Ban: {"until": 0, "reason": b""},
    Mute: {"until": 0},
    ChangePolicy: {"join": "open", "invite": "member", "env": 1},
    ChangeTopic: {"topic": b""},
}


def event(
    log: RoomLog, kind: type[RoomEvent], author: Person, whom: Person | None = None, *, device: int = 1, **fields: Any
) -> AnyEvent:
    """The event that would be the next one of a log, not signed yet.

    Args:
        kind: its class.
        whom: the person it is about, where that is not its author.
        device: which of the author's signs it.
        fields: any field, instead of the one that an honest client would write.
    """
    made: dict[str, Any] = {
        "srv": author.srv,
        "room": log.id,
        "by": author.user,
        "ik": author.ik,
        "dev": author.dev(device),
        "after": log.head,
        "at": NOW,
        **_DEFAULTS.get(kind, {}),
    }
    if whom is not None:
        made["user"] = whom.user
    if kind is Invite and whom is not None:
        made |= {"user_ik": whom.ik, "dl": whom.dl}
    if kind in (Create, Join):
        made["dl"] = author.dl
    if issubclass(kind, MembershipAct):
        made["own"] = log.standing.get(made.get("user", author.user), "")
    if issubclass(kind, ControlEvent):
        made["ctl"] = log.ctl
    whole: AnyEvent = kind(**(made | fields))  # type: ignore[assignment]  # every kind is one of them
    return whole


def act(
    log: RoomLog, kind: type[RoomEvent], author: Person, whom: Person | None = None, *, device: int = 1, **fields: Any
) -> SignedEvent:
    """The next event of a log, signed (see `event`); the log is left alone."""
    return sign_event(author.device(device), event(log, kind, author, whom, device=device, **fields))


def unsigned(made: AnyEvent) -> SignedEvent:
    """An event with a signature of zeros, for what does not look at signatures: the rules of a log."""
    return SignedEvent(to_bytes(made), bytes(64))


class Room:
    """A room's log as it grows, and its events.

    Args:
        maker: who makes it, and owns it.
        members: they join, in this order; in a private room the maker invites each before.
        policy: fields of its `Create`.
    """

    def __init__(self, maker: Person, *members: Person, **policy: Any) -> None:
        self.log = RoomLog(maker.srv)
        self.events: list[SignedEvent] = []
        self.do(Create, maker, **policy)
        for member in members:
            self.enter(member, maker)

    def do(self, kind: type[RoomEvent], author: Person, whom: Person | None = None, **fields: Any) -> SignedEvent:
        """Makes the next event and takes it in. Raises as `RoomLog.append` does, and nothing has happened then."""
        return self.take(self.draft(kind, author, whom, **fields))

    def draft(self, kind: type[RoomEvent], author: Person, whom: Person | None = None, **fields: Any) -> SignedEvent:
        """The event that would be the next one (see `act`)."""
        return act(self.log, kind, author, whom, **fields)

    def take(self, signed: SignedEvent) -> SignedEvent:
        """Takes in an event made elsewhere."""
        self.log.append(signed)
        self.events.append(signed)
        return signed

    def enter(self, member: Person, by: Person) -> None:
        """Somebody joins; where that needs an invitation, `by` writes one."""
        if not self.log.open:
            self.do(Invite, by, member)
        self.do(Join, member)

    def replayed(self, count: int | None = None) -> RoomLog:
        """A fresh log of the first so many events."""
        return replay(self.log.srv, self.events[:count])


class UnsignedRoom(Room):
    """A room whose events have no signatures, where there are thousands of them and only the rules matter."""

    def draft(self, kind: type[RoomEvent], author: Person, whom: Person | None = None, **fields: Any) -> SignedEvent:
        """As `Room.draft`."""
        return unsigned(event(self.log, kind, author, whom, **fields))


# --- messages ---------------------------------------------------------------------------------------------------------


def readers_of(people: Iterable[Person]) -> list[AccountKeys]:
    """Whom `envelope.seal` seals for."""
    return [person.keys() for person in people]


def delivered(
    sealed: SealedMessage,
    reader: str,
    *,
    room: str,
    seq: int,
    sender: str,
    device: str,
    events: int = 0,
    **changes: Any,
) -> Delivered:
    """A package as an honest server hands it to a reader: with that reader's own entry, if there is one."""
    made: dict[str, Any] = {
        "room": room,
        "seq": seq,
        "sender": sender,
        "device": device,
        "mid": parse_header(sealed.hdr).mid,
        "ts": parse_header(sealed.hdr).at,
        "events": events,
        "token": sealed.encrypted_message,
        "hdr": sealed.hdr,
        "bind": sealed.bind,
        "sig": sealed.sig,
        "wrapped": sealed.encrypted_keys.get(reader),
        "kid": sealed.kids.get(reader),
    }
    return Delivered(**(made | changes))


def sealed_by_hand(
    author: Person, position: Position, other: SealedMessage, *, hdr: bytes | None = None, bind: bytes | None = None
) -> SealedMessage:
    """Token and wrapped keys of another package, under a header that an author signs over them without their key.

    Args:
        hdr: instead of the header for that position.
        bind: instead of 32 zero bytes.
    """
    if hdr is None:
        header = parse_header(other.hdr)
        fields = {name: getattr(position, name) for name in Position.__dataclass_fields__}
        hdr = to_bytes(envelope.Header(**fields, rcp=header.rcp, mh=header.mh))
    bind = bytes(envelope.BIND_BYTES) if bind is None else bind
    return replace(other, hdr=hdr, bind=bind, sig=sign(author.device(), "envelope", vec(hdr) + vec(bind)))


def chained(author: Person, position: Position, ct: bytes = b"ciphertext, and its tag", **changes: Any) -> Package:
    """A package of version 2 at that place, signed by its author; nobody opens it. `changes`: fields of its header."""
    fields = {name: getattr(position, name) for name in Position.__dataclass_fields__}
    hdr = to_bytes(envelope.ChainHeader(**fields | {"cid": "c" * 64, "gen": 0, "rg": "0" * 8} | changes))
    sig = sign(author.device(), "message", vec(hdr) + vec(envelope.bind_of(b"", ct)))
    return Package(hdr=hdr, ct=ct, sig=sig)


@dataclass(frozen=True)
class Posted:
    """A message that was stored.

    Attributes:
        text: what its author wrote.
        seq: its number in the conversation, from 1.
        events: how many room events stood before it.
    """

    author: Person
    text: str
    sealed: SealedMessage
    seq: int
    events: int
    device: int = 1


@dataclass
class _Turn:
    """Where a device's next message stands in its chain."""

    ctr: int = 1
    prev: str = ""


@dataclass
class Conversation:
    """Honest authors and an honest server: every message is sealed at its place, stored, and counted in the transcript.

    Args:
        log: of the room; None: the private conversation of the two people.
        people: everybody who is looked up by name.
    """

    log: RoomLog | None
    people: dict[str, Person]
    id: str
    posted: list[Posted] = field(default_factory=list)
    ths: list[str] = field(default_factory=list)  # th_0, th_1, …
    audiences: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by digest, as the server keeps them
    turns: dict[str, _Turn] = field(default_factory=dict)  # by device

    def __init__(self, log: RoomLog | None, *people: Person) -> None:
        self.log = log
        self.people = {person.user: person for person in people}
        self.id = log.id if log is not None else private_conversation(*(person.ik for person in people))
        self.posted, self.audiences, self.turns = [], {}, {}
        self.ths = [transcript_start(self.id)]

    @property
    def pair(self) -> Mapping[str, bytes]:
        """The identities of a private conversation; nobody in a room."""
        return {user: person.ik for user, person in self.people.items()} if self.log is None else {}

    @property
    def events(self) -> int:
        """How many room events there are by now."""
        return 0 if self.log is None else self.log.count

    def members(self) -> list[Person]:
        """Whom an honest author seals for now."""
        return list(self.people.values()) if self.log is None else [self.people[user] for user in self.log.members]

    def position(self, author: Person, device: int = 1, **changes: Any) -> Position:
        """Where an honest author's next message stands."""
        turn = self.turns.setdefault(author.dev(device), _Turn())
        made: dict[str, Any] = {
            "room": self.id,
            "author": author.user,
            "dev": author.dev(device),
            "dl": author.dl,
            "ctr": turn.ctr,
            "prev": turn.prev,
            "mid": hashlib.sha256(f"{author.dev(device)} {turn.ctr}".encode()).hexdigest()[:32],
            "head": "" if self.log is None else self.log.head,
            "th": (len(self.posted), self.ths[-1]),
            "at": NOW,
        }
        return Position(**(made | changes))

    def seal(
        self,
        author: Person,
        text: str,
        *,
        device: int = 1,
        readers: Iterable[Person] | None = None,
        signer: Ed25519PrivateKey | None = None,
        **changes: Any,
    ) -> SealedMessage:
        """Seals a message at its place; nothing is stored.

        Args:
            readers: whom it is sealed for; the present members.
            signer: another device's key.
            changes: fields of its `Position`.
        """
        position = self.position(author, device, **changes)
        to = readers_of(self.members() if readers is None else readers)
        return seal(text, to, position, author.device(device) if signer is None else signer)

    def store(self, author: Person, text: str, sealed: SealedMessage, device: int = 1) -> Posted:
        """Puts a package behind the others, and its author's chain one further."""
        header = parse_header(sealed.hdr)
        self.turns[author.dev(device)] = _Turn(header.ctr + 1, sealed.id)
        self.audiences[header.rcp] = dict(sealed.kids)
        link = "" if self.log is None else self.log.head
        self.ths.append(next_th(self.ths[-1], link, sealed.id))
        self.posted.append(Posted(author, text, sealed, len(self.posted) + 1, self.events, device))
        return self.posted[-1]

    def say(self, author: Person, text: str, *, device: int = 1, **changes: Any) -> Posted:
        """Seals and stores; `changes` are those of `seal`."""
        return self.store(author, text, self.seal(author, text, device=device, **changes), device)

    def deliver(self, posted: Posted, reader: Person, **changes: Any) -> Delivered:
        """A stored message as it is handed to a reader, whether or not a member."""
        made: dict[str, Any] = {
            "room": self.id,
            "seq": posted.seq,
            "sender": posted.author.user,
            "device": posted.author.dev(posted.device),
            "events": posted.events,
        }
        return delivered(posted.sealed, reader.user, **(made | changes))

    def audience(self, rcp: str) -> Mapping[str, str] | None:
        """Who an audience names, as `ConversationReader.receive` asks it."""
        return self.audiences.get(rcp)


# --- readers ----------------------------------------------------------------------------------------------------------


class Acquaintances:
    """What a reader knows of people (`reading.Trust`): their verified keys, and the identity that is pinned.

    Args:
        keys: of each name; that identity is the pinned one.
        more: devices vouched for besides, of other identities too.
    """

    def __init__(self, keys: Iterable[AccountKeys], more: Iterable[Device] = ()) -> None:
        self.keys: dict[str, AccountKeys] = {}
        self.pins: dict[str, bytes] = {}
        self.put_aside: dict[str, tuple[bytes, ...]] = {}
        self.devices: dict[tuple[str, str], Device] = {(device.user, device.dev): device for device in more}
        for each in keys:
            self.meet(each)

    @classmethod
    def of(cls, people: Iterable[Person]) -> Acquaintances:
        """Everybody's first device list."""
        return cls(readers_of(people))

    def meet(self, keys: AccountKeys) -> None:
        """Takes in somebody's keys, as if the owner trusted them."""
        self.keys[keys.user] = keys
        self.pins[keys.user] = keys.ik
        self.devices |= {(keys.user, device.dev): device for device in keys.known.values()}

    def identity(self, user: str) -> bytes | None:
        """As `reading.Trust`."""
        return self.pins.get(user)

    def earlier(self, user: str) -> Collection[bytes]:
        """As `reading.Trust`."""
        return self.put_aside.get(user, ())

    def device(self, user: str, dev: str) -> Device | None:
        """As `reading.Trust`."""
        return self.devices.get((user, dev))

    def newest_list(self, user: str) -> tuple[int, str]:
        """As `reading.Trust`."""
        keys = self.keys.get(user)
        return (0, "") if keys is None else (keys.version, keys.digest)

    def revoked(self, user: str, dev: str) -> bool:
        """As `reading.Trust`."""
        return user in self.keys and dev in self.keys[user].revoked

    def kids(self, user: str, ik: bytes) -> frozenset[str] | None:
        """As `reading.Trust`."""
        keys = self.keys.get(user)
        return frozenset(keys.kids) if keys is not None and keys.ik == ik else None


def reader_of(person: Person, talk: Conversation, after: int = 0) -> ConversationReader:
    """A fresh reader of a conversation, from behind message `after` on."""
    return ConversationReader(talk.id, person.user, talk.log, talk.pair, Transcript(after, talk.ths[after]))


def examined(message: Delivered, person: Person, trust: Acquaintances) -> Examined:
    """What a package says to a person, who looks its device up among acquaintances."""
    return examine(message, trust.device(message.sender, message.device), person.private)


def read(
    person: Person,
    reader: ConversationReader,
    message: Delivered,
    talk: Conversation,
    trust: Acquaintances | None = None,
) -> tuple[Verdict, str]:
    """Examines and judges a message: the verdict, and the text that is shown, "" where none is."""
    known = Acquaintances.of(talk.people.values()) if trust is None else trust
    found = examined(message, person, known)
    verdict = reader.receive(found, known, talk.audience)
    return verdict, found.text if verdict.hidden is None else ""


def audience_bytes(people: Iterable[Person]) -> bytes:
    """Who a package for these people's first keys is for."""
    return envelope.audience({person.user: person.kid for person in people})
