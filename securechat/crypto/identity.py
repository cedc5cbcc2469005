"""Who an account is: identity, device and RSA keys, device certificates and the signed device list.

IK (Ed25519) is the account: it signs the certificates of its devices and the list of them. RK (RSA-3072) is what
messages are sealed for, one an account. DK (Ed25519) is one client profile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from msgspec import Meta

from securechat.crypto import primitives as p
from securechat.crypto.signed import (
    Count,
    Form,
    Hex128,
    Hex256,
    HexOrNone,
    Key32,
    Number,
    ServerId,
    Signed,
    User,
    to_bytes,
)
from securechat.errors import InvalidKey

ENVELOPE: Final = 1  # the highest envelope version this software opens
MAX_KIDS: Final = 100  # RSA keys that one identity may have had


class DeviceCertificate(Signed, tag="sc/device"):
    """One client profile of an account; signed by the identity and by the device itself (label "device")."""

    srv: ServerId
    user: User
    ik: Key32
    dk: Key32
    dev: Hex128
    name: Annotated[str, Meta(pattern=r"^[ !#-\[\]-~]{0,64}\Z")]
    env: Number
    created: Count


class DeviceList(Signed, tag="sc/devlist"):
    """The devices of an account; signed by the identity (label "devlist").

    `kids` names every RSA key this identity has had, the present one first: so whoever holds the newest list alone
    can judge whom an old message was sealed for.
    """

    srv: ServerId
    user: User
    ik: Key32
    ver: Number
    prev: HexOrNone
    rk: bytes
    kids: Annotated[tuple[Hex128, ...], Meta(min_length=1, max_length=MAX_KIDS)]
    devs: Annotated[tuple[Hex256, ...], Meta(min_length=1)]
    revoked: tuple[Hex128, ...]


_CERTIFICATE: Final = Form(DeviceCertificate)
_LIST: Final = Form(DeviceList)


class CertificateBytes(Protocol):
    """A device certificate as it travels (see `wire.messages.Certificate`)."""

    @property
    def cert(self) -> bytes: ...
    @property
    def ik_sig(self) -> bytes: ...
    @property
    def dk_sig(self) -> bytes: ...


class BundleBytes(Protocol):
    """A signed device list with its certificates, as it travels (see `wire.messages.KeyBundle`)."""

    @property
    def list(self) -> bytes: ...
    @property
    def sig(self) -> bytes: ...
    @property
    def certs(self) -> Sequence[CertificateBytes]: ...
    @property
    def past(self) -> Sequence[CertificateBytes]: ...


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """The bytes of a certificate and its two signatures."""

    cert: bytes
    ik_sig: bytes
    dk_sig: bytes


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """The bytes of a device list, its signature, and the certificates it names.

    `past` holds certificates of devices that are in force no more, of earlier identities too: what they signed is
    still read.
    """

    list: bytes
    sig: bytes
    certs: tuple[SignedCertificate, ...]
    past: tuple[SignedCertificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """What a verified certificate says: this identity vouches for this device key, and the device for itself."""

    user: str
    ik: bytes
    dev: str
    dk: bytes
    name: str = ""
    created: int = 0


@dataclass(frozen=True)
class AccountKeys:
    """What a verified bundle says: every signature in it was checked.

    Attributes:
        ik: the identity, 32 bytes.
        rk_der: the RSA key to seal for, DER.
        devices: id → public key of each device in force.
        revoked: ids of devices that are not any more.
        digest: SHA-256 of the list's bytes, in hex: the next list's `prev`.
        kids: ids of all RSA keys this identity has had, the present one first.
        known: every device a certificate was given for, by id: in force, revoked, or of an earlier identity.
    """

    user: str
    ik: bytes
    rk_der: bytes
    version: int
    devices: Mapping[str, bytes]
    revoked: frozenset[str]
    digest: str
    previous: str = ""
    kids: tuple[str, ...] = ()
    known: Mapping[str, Device] = field(default_factory=dict)
    bundle: BundleBytes | None = field(default=None, compare=False, repr=False)

    @cached_property
    def kid(self) -> str:
        """The id of the RSA key."""
        return p.key_id(self.rk_der)

    @cached_property
    def rk(self) -> rsa.RSAPublicKey:
        """The RSA key, loaded."""
        return p.load_rsa_public(self.rk_der)

    @property
    def fingerprint(self) -> str:
        """The identity for people: 64 hex digits of SHA-256(IK) in groups of four."""
        return fingerprint(self.ik)


def fingerprint(ik: bytes) -> str:
    """SHA-256 of an identity key, in sixteen groups of four hex digits."""
    digits = hashlib.sha256(ik).hexdigest()
    return " ".join(digits[at : at + 4] for at in range(0, 64, 4))


def server_id(lk: bytes) -> str:
    """A server's id from its Ed25519 key: base64url of SHA-256, 43 characters. `srv` in all signed objects."""
    return p.b64url(hashlib.sha256(lk).digest())


def certify_device(
    *,
    identity: ed25519.Ed25519PrivateKey,
    device: ed25519.Ed25519PrivateKey,
    srv: str,
    user: str,
    name: str,
    created: int,
) -> SignedCertificate:
    """A certificate for a device key, signed by the identity and by the device itself (label "device").

    Args:
        name: what the owner calls the device; printable ASCII without quotes and backslashes, at most 64 characters.
        created: milliseconds since 1970.
    """
    dk = p.ed25519_public(device)
    cert = to_bytes(
        DeviceCertificate(
            srv=srv,
            user=user,
            ik=p.ed25519_public(identity),
            dk=dk,
            dev=p.key_id(dk),
            name=name,
            env=ENVELOPE,
            created=created,
        )
    )
    return SignedCertificate(cert, p.sign(identity, "device", cert), p.sign(device, "device", cert))


def sign_device_list(
    *,
    identity: ed25519.Ed25519PrivateKey,
    srv: str,
    user: str,
    version: int,
    previous: str,
    rk_der: bytes,
    certificates: Sequence[CertificateBytes],
    revoked: Sequence[str] = (),
    old_kids: Sequence[str] = (),
) -> SignedBundle:
    """A device list, signed by the identity (label "devlist").

    Args:
        version: 1 for the first, then one more each time.
        previous: `AccountKeys.digest` of the list before; "" for the first.
        revoked: ids of devices no longer in force.
        old_kids: `AccountKeys.kids` of the list before; the id of `rk_der` comes in front unless it stands there.
    """
    kid = p.key_id(rk_der)
    kids = tuple(old_kids) if old_kids and old_kids[0] == kid else (kid, *old_kids)
    signed = to_bytes(
        DeviceList(
            srv=srv,
            user=user,
            ik=p.ed25519_public(identity),
            ver=version,
            prev=previous,
            rk=rk_der,
            kids=kids[:MAX_KIDS],
            devs=tuple(hashlib.sha256(c.cert).hexdigest() for c in certificates),
            revoked=tuple(revoked),
        )
    )
    certs = tuple(SignedCertificate(c.cert, c.ik_sig, c.dk_sig) for c in certificates)
    return SignedBundle(signed, p.sign(identity, "devlist", signed), certs)


def verify_bundle(bundle: BundleBytes, *, srv: str, user: str) -> AccountKeys:
    """Checks every signature and field of an account's keys.

    This proves that whoever holds the identity in it made it. It does not prove whose identity that is: `trust` does.

    Raises:
        InvalidKey: anything in it is wrong; nothing of it may be used.
    """
    fields: DeviceList = _LIST.parse(bundle.list)
    p.verify(fields.ik, "devlist", bundle.list, bundle.sig)
    if fields.srv != srv or fields.user != user:
        raise InvalidKey(f"this device list is not {user}'s on this server")
    if (fields.ver == 1) != (fields.prev == ""):
        raise InvalidKey("this device list has no place in its chain")
    p.load_rsa_public(fields.rk)
    if fields.kids[0] != p.key_id(fields.rk) or len(set(fields.kids)) != len(fields.kids):
        raise InvalidKey("this device list does not name its own key first")
    devices: dict[str, bytes] = {}
    known: dict[str, Device] = {}
    named: list[str] = []
    for certificate in bundle.certs:
        device = verify_certificate(certificate, srv=srv, user=user)
        if device.ik != fields.ik:
            raise InvalidKey("a device certificate is not of this account")
        devices[device.dev] = device.dk
        known[device.dev] = device
        named.append(hashlib.sha256(certificate.cert).hexdigest())
    if sorted(named) != sorted(fields.devs) or len(devices) != len(named) or not devices:
        raise InvalidKey("the certificates are not those of the device list")
    revoked = frozenset(fields.revoked)
    if revoked & devices.keys():
        raise InvalidKey("a device is both listed and revoked")
    for certificate in bundle.past:
        device = verify_certificate(certificate, srv=srv, user=user)
        if device.dev in devices or (device.ik == fields.ik and device.dev not in revoked):
            raise InvalidKey("a device that was never removed is called a past one")
        known[device.dev] = device
    digest = hashlib.sha256(bundle.list).hexdigest()
    return AccountKeys(
        user, fields.ik, fields.rk, fields.ver, devices, revoked, digest, fields.prev, fields.kids, known, bundle
    )


def verify_certificate(certificate: CertificateBytes, *, srv: str, user: str | None = None) -> Device:
    """What a device certificate says, once both its signatures were checked.

    Args:
        user: whose it must be; None: whoever's it is.

    Raises:
        InvalidKey: anything in it is wrong.
    """
    fields: DeviceCertificate = _CERTIFICATE.parse(certificate.cert)
    p.verify(fields.ik, "device", certificate.cert, certificate.ik_sig)
    p.verify(fields.dk, "device", certificate.cert, certificate.dk_sig)
    if fields.srv != srv or (user is not None and fields.user != user) or fields.dev != p.key_id(fields.dk):
        raise InvalidKey("a device certificate is not of this account")
    return Device(fields.user, fields.ik, fields.dev, fields.dk, fields.name, fields.created)


def device_of(certificate: CertificateBytes) -> Device:
    """What a certificate says that was verified when it was stored; no signature is checked again."""
    fields: DeviceCertificate = _CERTIFICATE.parse(certificate.cert)
    return Device(fields.user, fields.ik, fields.dev, fields.dk, fields.name, fields.created)


def stored_device_key(bundle: BundleBytes, dev: str) -> bytes | None:
    """The key of a device in force, from a bundle that was verified when it was stored; None where there is none.

    No signature is checked again, so a guess at a device costs the same few microseconds whether or not it hits.
    """
    for certificate in bundle.certs:
        device = device_of(certificate)
        if device.dev == dev:
            return device.dk
    return None


def list_version(bundle: BundleBytes) -> tuple[int, str]:
    """Number and digest of a stored device list."""
    fields: DeviceList = _LIST.parse(bundle.list)
    return fields.ver, hashlib.sha256(bundle.list).hexdigest()


def check_successor(old: AccountKeys, new: AccountKeys) -> None:
    """Whether a list follows another of the same identity. Raises InvalidKey, saying why not."""
    if new.ik != old.ik:
        raise InvalidKey("the identity differs")
    if new.version != old.version + 1 or new.previous != old.digest:
        raise InvalidKey("the device list is not the next one")
    if (old.revoked | old.devices.keys()) - new.revoked - new.devices.keys():
        raise InvalidKey("a device is gone without being revoked")
    if old.revoked - new.revoked:
        raise InvalidKey("a revoked device is back")
    if new.kids != old.kids and new.kids != (new.kid, *old.kids)[:MAX_KIDS]:
        raise InvalidKey("the device list forgets earlier keys")


def login_proof(device: ed25519.Ed25519PrivateKey, *, lk: bytes, exporter: bytes, nonce: bytes, user: str) -> bytes:
    """A device's signature (label "login") that it holds this very connection."""
    return p.sign(device, "login", _login_content(lk, exporter, nonce, user))


def check_login_proof(dk: bytes, proof: bytes, *, lk: bytes, exporter: bytes, nonce: bytes, user: str) -> None:
    """Checks `login_proof`. Raises InvalidKey."""
    p.verify(dk, "login", _login_content(lk, exporter, nonce, user), proof)


def _login_content(lk: bytes, exporter: bytes, nonce: bytes, user: str) -> bytes:
    return p.digest("login", lk, exporter, nonce, user.encode("ascii"))


def hello_signature(server: ed25519.Ed25519PrivateKey, *, exporter: bytes, nonce: bytes) -> bytes:
    """The server's signature (label "hello") over this TLS connection: a relayed greeting does not verify."""
    return p.sign(server, "hello", p.digest("hello", p.ed25519_public(server), exporter, nonce))


def check_hello(lk: bytes, signature: bytes, *, exporter: bytes, nonce: bytes) -> None:
    """Checks `hello_signature`. Raises InvalidKey."""
    p.verify(lk, "hello", p.digest("hello", lk, exporter, nonce), signature)


def private_conversation(ik_a: bytes, ik_b: bytes) -> str:
    """The id of the private conversation of two identities: ``pm:`` and 64 hex digits, the same from both sides."""
    return "pm:" + p.digest("pm", *sorted((ik_a, ik_b))).hex()
