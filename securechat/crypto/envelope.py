"""Envelope v1: the hybrid package with a signed header; and of envelope v2 what a server and a v1 client need.

The package is ``{"encrypted_message", "encrypted_keys"}``: a fresh Fernet key a message, wrapped by RSA-OAEP for each
reader. A reader who knows no more opens it: the OAEP plaintext is the 44 ASCII bytes of the Fernet key. Beside these
fields stand `hdr` (who, where, which number, after what), `bind` (proof that whoever made the header knew the key; it
also commits to the key, which Fernet does not) and `sig` by the author's device over both.

In envelope v2 the author's device and its readers share a chain of keys, so that a message has no part of its own for
each reader: a header, a ciphertext `ct`, a signature. Its `bind` is the hash of `ct`. This module checks who wrote one;
it opens none yet.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import UNSET, Meta, UnsetType, field

from securechat.crypto import primitives as p
from securechat.crypto.body import Body, checked_text, from_text
from securechat.crypto.findings import Finding
from securechat.crypto.identity import AccountKeys, Device
from securechat.crypto.signed import Count, Form, Hex128, Hex256, HexOrNone, Number, Signed, User, Version, to_bytes
from securechat.errors import InvalidKey, Undecryptable

OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
MAX_HEADER: Final = 2048  # bytes
BIND_BYTES: Final = 32
Place = tuple[Count, Hex256]
"""A place in a transcript: the number of a message, and `th` after it (see `transcript`)."""


class _Written(Signed):
    """What every version of a header begins with.

    Attributes:
        room: the room's id, or that of the private conversation.
        author, dev, dl: by whom: name, device, and the newest list of their devices as they know it.
        ctr: this device's count here, from 1; `prev` is the id of its message before, or "".
        mid: the client's id of the message.
        head: the link of the room log that it is sealed for; "" in private.
    """

    room: str
    author: User = field(name="from")
    dev: Hex128
    dl: Version
    ctr: Number
    prev: HexOrNone
    mid: Hex128
    head: HexOrNone


class Header(_Written, tag="sc/1"):
    """What an author signs of a message.

    Attributes:
        rcp: digest of the audience.
        mh: SHA-256 of the token.
        th: the newest place of the transcript that the author knows.
        at: the author's clock, milliseconds.
        sth: kept for the key log: its newest checkpoint as the author knows it. Nobody writes it yet.
    """

    rcp: Hex256
    mh: Hex256
    th: Place
    at: Count
    sth: Place | UnsetType = UNSET


class ChainHeader(_Written, tag="sc/2"):
    """What an author signs of a v2 message: its readers are those of a chain.

    Attributes:
        th, at: as in `Header`.
        cid: names the chain.
        gen: which of the chain's keys it was sealed with, from 0.
        rg: 4 random bytes that the nonce was mixed with.
    """

    th: Place
    at: Count
    cid: Hex256
    gen: Count
    rg: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]


AnyHeader = Header | ChainHeader

_HEADER: Final = Form(Header)
_CHAIN_HEADER: Final = Form(ChainHeader)


def parse_header(data: bytes) -> Header:
    """The header of these bytes. Raises InvalidKey."""
    if len(data) > MAX_HEADER:
        raise InvalidKey("a header is not that long")
    header: Header = _HEADER.parse(data)
    return header


def parse_chain_header(data: bytes) -> ChainHeader:
    """The v2 header of these bytes. Raises InvalidKey."""
    if len(data) > MAX_HEADER:
        raise InvalidKey("a header is not that long")
    header: ChainHeader = _CHAIN_HEADER.parse(data)
    return header


def body_hash(shared: bytes, kids: Mapping[str, str], wrapped: Mapping[str, bytes]) -> bytes:
    """Tells a resend, whose bytes are the same, from another message under the same mid.

    Args:
        shared: the part of the package that all readers get alike.
    """
    body = hashlib.sha256(shared)
    for user in sorted(wrapped):
        body.update(b"%b %b " % (user.encode(), kids[user].encode()))
        body.update(wrapped[user])
    return body.digest()


def bind_of(bind: bytes, ct: bytes) -> bytes:
    """What `sig` covers beside the header: `bind`, or SHA-256 of the ciphertext where the message is of shape v2."""
    return hashlib.sha256(ct).digest() if ct else bind


@dataclass(frozen=True, slots=True)
class Position:
    """Where a message is to stand: all of its header but what follows from its contents (see `Header`)."""

    room: str
    author: str
    dev: str
    dl: tuple[int, str]
    ctr: int
    prev: str
    mid: str
    head: str
    th: tuple[int, str]
    at: int


@dataclass(frozen=True, slots=True)
class SealedMessage:
    """A package, before it is a packet. `id` names the message for good: H("id", hdr, bind), 64 hex digits."""

    encrypted_message: str
    encrypted_keys: Mapping[str, bytes]
    kids: Mapping[str, str]
    hdr: bytes
    bind: bytes
    sig: bytes

    @property
    def id(self) -> str:
        """See `message_id`."""
        return message_id(self.hdr, self.bind)


def seal(text: str, readers: Iterable[AccountKeys], position: Position, device: p.SigningKey) -> SealedMessage:
    """Seals a text (see `body.to_text`) for exactly these accounts and signs it; 0.1 ms a reader and 0.2 ms.

    The token's time stamp is 0: a Fernet token shows it in clear.
    """
    key = Fernet.generate_key()
    token = Fernet(key).encrypt_at_time(text.encode("utf-8"), 0)
    wrapped: dict[str, bytes] = {}
    kids: dict[str, str] = {}
    for reader in readers:
        wrapped[reader.user] = reader.rk.encrypt(key, OAEP)
        kids[reader.user] = reader.kid
    hdr = to_bytes(
        Header(
            room=position.room,
            author=position.author,
            dev=position.dev,
            dl=position.dl,
            ctr=position.ctr,
            prev=position.prev,
            mid=position.mid,
            head=position.head,
            rcp=audience_digest(audience(kids)).hex(),
            mh=hashlib.sha256(token).hexdigest(),
            th=position.th,
            at=position.at,
        )
    )
    bind = _bind(key, hdr)
    return SealedMessage(
        token.decode("ascii"), wrapped, kids, hdr, bind, p.sign(device, "envelope", _signed_part(hdr, bind))
    )


def message_id(hdr: bytes, bind: bytes) -> str:
    """H("id", hdr, bind): names a message in `prev` and in transcripts; 64 hex digits."""
    return p.digest("id", hdr, bind).hex()


def verify_header(hdr: bytes, bind: bytes, sig: bytes, dk: bytes) -> Header:
    """The header of a message that this device signed. Raises InvalidKey."""
    p.verify(dk, "envelope", _signed_part(hdr, bind), sig)
    return parse_header(hdr)


def _signed_part(hdr: bytes, bind: bytes) -> bytes:
    return p.vec(hdr) + p.vec(bind)


def _bind(key: bytes, hdr: bytes) -> bytes:
    """HMAC-SHA256 over the header, under HKDF-SHA256 of the 44 bytes of the Fernet key."""
    bind_key = HKDF(hashes.SHA256(), 32, None, b"SecureChat 1 bind").derive(key)
    return hmac.new(bind_key, hdr, hashlib.sha256).digest()


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as the server hands it to one reader; all of it is the server's word until it was examined.

    Attributes:
        room: the conversation's id as the reader knows it.
        events: how many room events stood before it.
        wrapped, kid: the reader's own entry; None where there is none.
        chained: whether it is of shape v2; then `bind` is as `bind_of` says, and `token` empty.
    """

    room: str
    seq: int
    sender: str
    device: str
    mid: str
    ts: int
    events: int
    token: str
    hdr: bytes
    bind: bytes
    sig: bytes
    wrapped: bytes | None
    kid: str | None
    chained: bool = False

    @property
    def id(self) -> str:
        """See `message_id`."""
        return message_id(self.hdr, self.bind)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a package alone says, its signature checked.

    Attributes:
        header: None where `fault` says why there is none to go by.
        fault: what is wrong with the signed part.
        text: what was sealed; `body` says what it means.
        unread: why there is no text, though the header holds.
    """

    message: Delivered
    header: AnyHeader | None = None
    text: str = ""
    fault: Finding | None = None
    unread: Finding | None = None

    @property
    def body(self) -> Body:
        """What the text says; an empty one where there is none."""
        return from_text(self.text)


def examine(message: Delivered, device: Device | None, keys: Mapping[str, rsa.RSAPrivateKey]) -> Examined:
    """The checks that need nothing but the package; 4.5 ms: call it in a thread for more than a few.

    In this order: sizes, known device, signature, form of the header, agreement with what the server says; then the
    token's hash, OAEP, `bind`, Fernet, UTF-8.

    Args:
        device: the one that the server names, verified; None where nobody vouches for it.
        keys: the reader's private keys by id, old ones included.
    """
    if len(message.hdr) > MAX_HEADER or len(message.bind) != BIND_BYTES or len(message.sig) != 64:
        return Examined(message, fault=Finding.MALFORMED)
    if device is None or (device.user, device.dev) != (message.sender, message.device):
        return Examined(message, fault=Finding.UNKNOWN_DEVICE)
    label, parse = ("message", parse_chain_header) if message.chained else ("envelope", parse_header)
    try:
        p.verify(device.dk, label, _signed_part(message.hdr, message.bind), message.sig)
    except InvalidKey:
        return Examined(message, fault=Finding.BAD_SIGNATURE)
    header: AnyHeader
    try:
        header = parse(message.hdr)
    except InvalidKey:
        return Examined(message, fault=Finding.MALFORMED)
    if header.room != message.room:
        return Examined(message, fault=Finding.OTHER_ROOM)
    if (header.author, header.dev, header.mid) != (message.sender, message.device, message.mid):
        return Examined(message, fault=Finding.MALFORMED)
    if isinstance(header, ChainHeader):
        return Examined(message, header, unread=Finding.NEWER)
    try:
        return Examined(message, header, _open(message, header, keys))
    except Undecryptable as error:
        return Examined(message, header, unread=error.finding)


def _open(message: Delivered, header: Header, keys: Mapping[str, rsa.RSAPrivateKey]) -> str:
    """The text, of a known kind. Raises Undecryptable; which of the steps behind OAEP failed is told to nobody."""
    token = message.token.encode("ascii", "replace")
    if hashlib.sha256(token).hexdigest() != header.mh:
        raise Undecryptable(Finding.OTHER_TEXT)
    if message.wrapped is None or message.kid is None:
        raise Undecryptable(Finding.NOT_FOR_YOU)
    private = keys.get(message.kid)
    if private is None:
        raise Undecryptable(Finding.OTHER_KEY)
    key = unwrap(private, message.wrapped)
    if not hmac.compare_digest(_bind(key, message.hdr), message.bind):
        raise Undecryptable(Finding.OTHER_TEXT)
    try:
        plain = Fernet(key).decrypt(token)
    except (ValueError, InvalidToken):
        raise Undecryptable(Finding.DAMAGED) from None
    return checked_text(plain)


def unwrap(private: rsa.RSAPrivateKey, wrapped: bytes) -> bytes:
    """The 44 bytes of a Fernet key from its RSA-OAEP form. Raises Undecryptable."""
    try:
        if len(wrapped) != p.WRAPPED_BYTES:
            raise Undecryptable(Finding.DAMAGED)
        key = private.decrypt(wrapped, OAEP)
        if len(key) != 44 or base64.urlsafe_b64encode(base64.urlsafe_b64decode(key)) != key:
            raise Undecryptable(Finding.DAMAGED)
    except (ValueError, binascii.Error):
        raise Undecryptable(Finding.DAMAGED) from None
    return key


# --- audiences --------------------------------------------------------------------------------------------------------


def audience(kids: Mapping[str, str]) -> bytes:
    """The exact bytes that name who a package is sealed for: ``[["alice","<kid>"],…]``, names in byte order."""
    return b"[" + b",".join(b'["%b","%b"]' % (user.encode(), kids[user].encode()) for user in sorted(kids)) + b"]"


def audience_digest(audience_bytes: bytes) -> bytes:
    """`rcp`: H("rcp", audience), 32 bytes."""
    return p.digest("rcp", audience_bytes)


_AUDIENCE: Final = Form(tuple[tuple[User, Hex128], ...], limit=1024 * 1024)


def parse_audience(data: bytes, rcp: str) -> Mapping[str, str]:
    """Who an audience names, with the key each was sealed for. Raises InvalidKey: it is not that of the digest."""
    if audience_digest(data).hex() != rcp:
        raise InvalidKey("that is not the audience the message was signed with")
    named: Sequence[tuple[str, str]] = _AUDIENCE.parse(data)
    kids = dict(named)
    if audience(kids) != data:
        raise InvalidKey("an audience names everybody once, in order")
    return kids
