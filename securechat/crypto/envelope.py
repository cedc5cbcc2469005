"""The hybrid package: a fresh Fernet key a message, that key wrapped by RSA-OAEP for each reader.

A reader who knows no more than ``{"encrypted_message", "encrypted_keys"}`` opens it: the OAEP plaintext is the 44
ASCII bytes of the Fernet key. The signed header comes beside these fields and changes neither.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from securechat.crypto import primitives as p
from securechat.crypto.identity import AccountKeys
from securechat.errors import Undecryptable

_OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

# The fixed reasons for which a message is not shown.
NOT_FOR_YOU: Final = "not addressed to you"
OTHER_KEY: Final = "sealed for a key this device does not have"
DAMAGED: Final = "damaged or sealed wrongly"
NEWER: Final = "made by a newer client"


@dataclass(frozen=True, slots=True)
class SealedMessage:
    """A package, before it is a packet: the token, and by user the wrapped key and the id of the key it is for."""

    encrypted_message: str
    encrypted_keys: Mapping[str, bytes]
    kids: Mapping[str, str]


def seal(text: str, readers: Iterable[AccountKeys]) -> SealedMessage:
    """Seals a text for exactly these accounts; 0.1 ms a reader.

    The token's time stamp is 0: a Fernet token shows it in clear.
    """
    key = Fernet.generate_key()
    token = Fernet(key).encrypt_at_time(text.encode("utf-8"), 0)
    wrapped: dict[str, bytes] = {}
    kids: dict[str, str] = {}
    for reader in readers:
        wrapped[reader.user] = reader.rk.encrypt(key, _OAEP)
        kids[reader.user] = reader.kid
    return SealedMessage(token.decode("ascii"), wrapped, kids)


def open_package(token: str, wrapped: bytes | None, kid: str | None, keys: Mapping[str, rsa.RSAPrivateKey]) -> str:
    """Opens a package with the reader's own entry; 4 ms: call it in a thread for more than a few.

    Args:
        wrapped: the reader's entry of `encrypted_keys`, or None where there is none.
        kid: the reader's entry of `kids`.
        keys: the reader's private keys by id, old ones included.

    Raises:
        Undecryptable: with one of the fixed reasons; which check failed is not told apart further, to nobody.
    """
    if wrapped is None or kid is None:
        raise Undecryptable(NOT_FOR_YOU)
    private = keys.get(kid)
    if private is None:
        raise Undecryptable(OTHER_KEY)
    if len(wrapped) != p.WRAPPED_BYTES:
        raise Undecryptable(DAMAGED)
    try:
        key = private.decrypt(wrapped, _OAEP)
        if len(key) != 44 or base64.urlsafe_b64encode(base64.urlsafe_b64decode(key)) != key:
            raise Undecryptable(DAMAGED)
        body = Fernet(key).decrypt(token.encode("ascii"))
        if body.startswith(b"\x00"):
            raise Undecryptable(NEWER)
        text = body.decode("utf-8")
    except (ValueError, InvalidToken, binascii.Error):
        raise Undecryptable(DAMAGED) from None
    if "\x00" in text:
        raise Undecryptable(DAMAGED)
    return text


def audience(kids: Mapping[str, str]) -> bytes:
    """The exact bytes that name who a package is sealed for: ``[["alice","<kid>"],…]``, names in byte order."""
    return b"[" + b",".join(b'["%b","%b"]' % (user.encode(), kids[user].encode()) for user in sorted(kids)) + b"]"


def audience_digest(audience_bytes: bytes) -> bytes:
    """`rcp`: H("rcp", audience), 32 bytes."""
    return p.digest("rcp", audience_bytes)


def in_audience_order(wrapped: Mapping[str, bytes]) -> Sequence[bytes]:
    """The wrapped keys in the order of `audience`."""
    return [wrapped[user] for user in sorted(wrapped)]
