"""Who an account is: identity, device and RSA keys, device certificates and the signed device list.

IK (Ed25519) is the account: it signs the certificates of its devices and the list of them. RK (RSA-3072) is what
messages are sealed for, one an account. DK (Ed25519) is one client profile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from securechat.crypto import primitives as p
from securechat.errors import InvalidKey

ENVELOPE: Final = 1  # the highest envelope version this software opens
_CERTIFICATE: Final[dict[str, Any]] = {
    "t": str, "srv": str, "user": str, "ik": str, "dk": str, "dev": str, "name": str, "env": int, "created": int,
}  # fmt: skip
_LIST: Final[dict[str, Any]] = {
    "t": str, "srv": str, "user": str, "ik": str, "ver": int, "prev": str, "rk": str, "devs": list, "revoked": list,
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """The bytes of a certificate and its two signatures."""

    cert: bytes
    ik_sig: bytes
    dk_sig: bytes


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """The bytes of a device list, its signature, and the certificates it names."""

    list: bytes
    sig: bytes
    certs: tuple[SignedCertificate, ...]


@dataclass(frozen=True)
class AccountKeys:
    """What a verified bundle says: every signature in it was checked.

    Attributes:
        ik: the identity, 32 bytes.
        rk_der: the RSA key to seal for, DER.
        devices: id → public key of each device in force.
        revoked: ids of devices that are not any more.
        digest: SHA-256 of the list's bytes, in hex: the next list's `prev`.
    """

    user: str
    ik: bytes
    rk_der: bytes
    version: int
    devices: Mapping[str, bytes]
    revoked: frozenset[str]
    digest: str
    previous: str = ""
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
        name: what the owner calls the device; ASCII, at most 64 characters.
        created: milliseconds since 1970.
    """
    dk = p.ed25519_public(device)
    cert = p.signed_json(
        {
            "t": "sc/device",
            "srv": srv,
            "user": user,
            "ik": p.b64(p.ed25519_public(identity)),
            "dk": p.b64(dk),
            "dev": p.key_id(dk),
            "name": name,
            "env": ENVELOPE,
            "created": created,
        }
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
) -> SignedBundle:
    """A device list, signed by the identity (label "devlist").

    Args:
        version: 1 for the first, then one more each time.
        previous: `AccountKeys.digest` of the list before; "" for the first.
        revoked: ids of devices no longer in force.
    """
    signed = p.signed_json(
        {
            "t": "sc/devlist",
            "srv": srv,
            "user": user,
            "ik": p.b64(p.ed25519_public(identity)),
            "ver": version,
            "prev": previous,
            "rk": p.b64(rk_der),
            "devs": [hashlib.sha256(c.cert).hexdigest() for c in certificates],
            "revoked": list(revoked),
        }
    )
    certs = tuple(SignedCertificate(c.cert, c.ik_sig, c.dk_sig) for c in certificates)
    return SignedBundle(signed, p.sign(identity, "devlist", signed), certs)


def verify_bundle(bundle: BundleBytes, *, srv: str, user: str) -> AccountKeys:
    """Checks every signature and field of an account's keys.

    This proves that whoever holds the identity in it made it. It does not prove whose identity that is: `trust` does.

    Raises:
        InvalidKey: anything in it is wrong; nothing of it may be used.
    """
    claimed = _claimed_identity(bundle.list)
    p.verify(claimed, "devlist", bundle.list, bundle.sig)
    fields = p.strict_json(bundle.list, _LIST)
    if fields["t"] != "sc/devlist" or fields["srv"] != srv or fields["user"] != user:
        raise InvalidKey(f"this device list is not {user}'s on this server")
    if fields["ver"] < 1 or (fields["ver"] == 1) != (fields["prev"] == ""):
        raise InvalidKey("this device list has no place in its chain")
    ids = [fields["devs"], fields["revoked"]]
    if not all(type(entry) is str for entries in ids for entry in entries):
        raise InvalidKey("this device list names no devices")
    rk_der = p.unb64(fields["rk"])
    p.load_rsa_public(rk_der)
    devices: dict[str, bytes] = {}
    named: list[str] = []
    for certificate in bundle.certs:
        dev, dk = _verify_certificate(certificate, claimed, srv, user)
        devices[dev] = dk
        named.append(hashlib.sha256(certificate.cert).hexdigest())
    if sorted(named) != sorted(fields["devs"]) or len(devices) != len(named) or not devices:
        raise InvalidKey("the certificates are not those of the device list")
    revoked = frozenset(fields["revoked"])
    if revoked & devices.keys():
        raise InvalidKey("a device is both listed and revoked")
    digest = hashlib.sha256(bundle.list).hexdigest()
    return AccountKeys(user, claimed, rk_der, fields["ver"], devices, revoked, digest, fields["prev"], bundle)


def _claimed_identity(signed: bytes) -> bytes:
    """The key a list says it is signed by: needed to verify it, and worth nothing before."""
    return p.unb64(p.strict_json(signed, _LIST)["ik"])


def _verify_certificate(certificate: CertificateBytes, ik: bytes, srv: str, user: str) -> tuple[str, bytes]:
    p.verify(ik, "device", certificate.cert, certificate.ik_sig)
    fields = p.strict_json(certificate.cert, _CERTIFICATE)
    dk = p.unb64(fields["dk"])
    p.verify(dk, "device", certificate.cert, certificate.dk_sig)
    expected = ("sc/device", srv, user, p.b64(ik), p.key_id(dk))
    if tuple(fields[name] for name in ("t", "srv", "user", "ik", "dev")) != expected:
        raise InvalidKey("a device certificate is not of this account")
    return fields["dev"], dk


def stored_device_key(bundle: BundleBytes, dev: str) -> bytes | None:
    """The key of a device in force, from a bundle that was verified when it was stored; None where there is none.

    No signature is checked again, so a guess at a device costs the same few microseconds whether or not it hits.
    """
    for certificate in bundle.certs:
        fields = p.strict_json(certificate.cert, _CERTIFICATE)
        if fields["dev"] == dev:
            return p.unb64(fields["dk"])
    return None


def check_successor(old: AccountKeys, new: AccountKeys) -> None:
    """Whether a list follows another of the same identity. Raises InvalidKey, saying why not."""
    if new.ik != old.ik:
        raise InvalidKey("the identity differs")
    if new.version != old.version + 1 or new.previous != old.digest:
        raise InvalidKey("the device list is not the next one")
    if old.revoked - new.revoked:
        raise InvalidKey("a revoked device is back")


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
