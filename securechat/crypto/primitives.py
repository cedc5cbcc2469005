"""Labels, signatures, hashes and key checks: a thin layer that is run on published test vectors.

`H`, `vec`, `Expand` and `Sign` are RFC 9420's (sections 2.1.2, 5.1.2, 8) with the prefix "SecureChat 1 " in place of
"MLS 1.0 "; the prefix is an argument so that tests run this very code on the RFC's vectors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securechat.errors import InvalidKey, WrongSecret

RSA_BITS: Final = 3072
RSA_EXPONENT: Final = 65537
WRAPPED_BYTES: Final = RSA_BITS // 8
NONCE_BYTES: Final = 12

# y of the points of small order on edwards25519: a signature by such a "key" proves nothing.
_P: Final = 2**255 - 19
_Y8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7  # y of a point of order 8
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})

PREFIX: Final = b"SecureChat 1 "

SigningKey = ed25519.Ed25519PrivateKey


_SHORT: Final = tuple(bytes([size]) for size in range(1 << 6))


def vec(data: bytes) -> bytes:
    """RFC 9420's variable-length vector: the length in 1, 2 or 4 bytes, then the bytes."""
    size = len(data)
    if size < 1 << 6:
        return _SHORT[size] + data
    if size < 1 << 14:
        return (size | 1 << 14).to_bytes(2, "big") + data
    if size < 1 << 30:
        return (size | 2 << 30).to_bytes(4, "big") + data
    raise ValueError("vector too long")


def digest(label: str, *parts: bytes) -> bytes:
    """H(label, parts…) = SHA-256 of each as a vector, the label first: 32 bytes."""
    return hashlib.sha256(b"".join([vec(label.encode("ascii")), *map(vec, parts)])).digest()


def expand(secret: bytes, label: str, context: bytes, length: int, *, prefix: bytes = PREFIX) -> bytes:
    """ExpandWithLabel (RFC 9420, section 8) with HKDF-SHA256: `length` bytes."""
    info = length.to_bytes(2, "big") + vec(prefix + label.encode("ascii")) + vec(context)
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


def sign(key: ed25519.Ed25519PrivateKey, label: str, content: bytes, *, prefix: bytes = PREFIX) -> bytes:
    """SignWithLabel (RFC 9420, section 5.1.2) with Ed25519: 64 bytes."""
    return key.sign(vec(prefix + label.encode("ascii")) + vec(content))


def verify(public: bytes, label: str, content: bytes, signature: bytes, *, prefix: bytes = PREFIX) -> None:
    """VerifyWithLabel.

    Raises:
        InvalidKey: the public key is unusable, or the signature is not of this key, label and content.
    """
    key = load_ed25519(public)
    try:
        key.verify(signature, vec(prefix + label.encode("ascii")) + vec(content))
    except InvalidSignature:
        raise InvalidKey(f"the signature on this {label} is wrong") from None


def load_ed25519(public: bytes) -> ed25519.Ed25519PublicKey:
    """An Ed25519 public key of 32 bytes, canonical and not of small order. Raises InvalidKey."""
    if len(public) != 32:
        raise InvalidKey("an Ed25519 key has 32 bytes")
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if y >= _P or y in _SMALL_ORDER_Y:
        raise InvalidKey("this Ed25519 key is not canonical or of small order")
    try:
        return ed25519.Ed25519PublicKey.from_public_bytes(public)
    except ValueError:
        raise InvalidKey("this is not an Ed25519 key") from None


def new_ed25519() -> ed25519.Ed25519PrivateKey:
    """A fresh signing key."""
    return ed25519.Ed25519PrivateKey.generate()


def ed25519_from_seed(seed: bytes) -> ed25519.Ed25519PrivateKey:
    """The signing key of a stored 32-byte seed. Raises InvalidKey."""
    try:
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    except ValueError:
        raise InvalidKey("an Ed25519 seed has 32 bytes") from None


def ed25519_seed(key: ed25519.Ed25519PrivateKey) -> bytes:
    """The 32-byte seed to store."""
    return key.private_bytes_raw()


def ed25519_public(key: ed25519.Ed25519PrivateKey) -> bytes:
    """The 32-byte public half."""
    return key.public_key().public_bytes_raw()


def new_rsa() -> rsa.RSAPrivateKey:
    """A fresh RSA-3072 key. Takes 0.1 to 2 s of CPU: call it in a thread."""
    return rsa.generate_private_key(RSA_EXPONENT, RSA_BITS)


def load_rsa_public(der: bytes) -> rsa.RSAPublicKey:
    """An RSA public key in DER (SubjectPublicKeyInfo): 3072 bits, e = 65537, an odd modulus. Raises InvalidKey.

    The library itself loads keys with e = 3, an even modulus, or 1024 bits.
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidKey("this is not a public key in DER") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise InvalidKey("this is not an RSA key")
    numbers = key.public_numbers()
    if key.key_size != RSA_BITS or numbers.e != RSA_EXPONENT or numbers.n % 2 == 0:
        raise InvalidKey(f"an RSA key has {RSA_BITS} bits, e = {RSA_EXPONENT} and an odd modulus")
    if rsa_public_der(key) != der:
        raise InvalidKey("this RSA key is not in canonical DER")
    return key


def rsa_public_der(key: rsa.RSAPublicKey) -> bytes:
    """DER of the SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def rsa_private_der(key: rsa.RSAPrivateKey) -> bytes:
    """DER of the PKCS#8 private key, in clear: seal it before it is stored anywhere."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_rsa_private(der: bytes) -> rsa.RSAPrivateKey:
    """The private key of `rsa_private_der`. Raises InvalidKey."""
    try:
        key = serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidKey("this is not a private key in DER") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidKey("this is not an RSA key")
    load_rsa_public(rsa_public_der(key.public_key()))
    return key


def key_id(public: bytes) -> str:
    """The id of a key: the first 16 bytes of SHA-256 of its raw (Ed25519) or DER (RSA) form, 32 hex digits."""
    return hashlib.sha256(public).digest()[:16].hex()


def seal(key: bytes, plaintext: bytes, associated: bytes, nonce: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439): nonce ‖ ciphertext ‖ tag. A nonce (12 random bytes) serves once a key."""
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """What `seal` sealed. Raises WrongSecret: another key, other associated data, or altered bytes."""
    if len(sealed) < NONCE_BYTES + 16:
        raise WrongSecret("this sealed object is cut short")
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except InvalidTag:
        raise WrongSecret("this sealed object does not open with that secret") from None


def b64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    """Canonical standard base64: encode(decode(x)) = x. Raises InvalidKey."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKey("this is not base64") from None
    if b64(data) != text:
        raise InvalidKey("this base64 is not canonical")
    return data


def b64url(data: bytes) -> str:
    """URL-safe base64 without padding, for what people copy."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def unb64url(text: str) -> bytes:
    """Canonical URL-safe base64 without padding. Raises InvalidKey."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKey("this is not base64url") from None
    if b64url(data) != text:
        raise InvalidKey("this base64url is not canonical")
    return data
