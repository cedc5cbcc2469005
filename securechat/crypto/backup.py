"""The sealed backup: what an account needs to be itself again from an empty directory.

It holds the identity's private half, the RSA keys, the pins and the newest list version, padded to 4 KiB steps, under
a key from the password (or from a recovery code). The server keeps the blob and can do nothing with it but guess.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.crypto import primitives as p
from securechat.errors import InvalidKey, WrongSecret

STEP: Final = 4096
CODE_BYTES: Final = 16
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: no I, L, O, U
_BY_PASSWORD: Final = b"p"
_BY_CODE: Final = b"c"


@dataclass(frozen=True)
class AccountSecrets:
    """The contents of a backup.

    Attributes:
        identity: IK.
        rsa_keys: RKs, the newest first.
        list_version: the newest device list its owner has seen.
        pins: user → identity (base64) and state, as `trust` writes them.
    """

    identity: ed25519.Ed25519PrivateKey
    rsa_keys: tuple[rsa.RSAPrivateKey, ...]
    list_version: int
    pins: Mapping[str, Mapping[str, str | int]]

    def __repr__(self) -> str:
        return "<AccountSecrets>"

    def with_pins(self, pins: Mapping[str, Mapping[str, str | int]], list_version: int) -> AccountSecrets:
        """The same secrets with newer public knowledge."""
        return replace(self, pins=dict(pins), list_version=list_version)


def needs_code(blob: bytes) -> bool:
    """Whether a backup lies under a recovery code, not under the password."""
    return blob[:1] == _BY_CODE


def seal_backup(
    key: bytes, secrets: AccountSecrets, *, srv: str, user: str, version: int, nonce: bytes, by_code: bool = False
) -> bytes:
    """A backup as a blob.

    Args:
        key: 32 bytes: `Stretched.backup_key`, or `code_key`.
        version: one more than the last; part of what is authenticated, so an older blob cannot pass for a newer.
        nonce: 12 fresh random bytes.
    """
    body = json.dumps(
        {
            "t": "sc/backup",
            "ik": p.b64(p.ed25519_seed(secrets.identity)),
            "rks": [p.b64(p.rsa_private_der(key)) for key in secrets.rsa_keys],
            "ver": secrets.list_version,
            "pins": secrets.pins,
        },
        separators=(",", ":"),
    ).encode("ascii")
    padded = len(body).to_bytes(4, "big") + body
    padded += bytes(-len(padded) % STEP)
    kind = _BY_CODE if by_code else _BY_PASSWORD
    return kind + p.seal(key, padded, _associated(kind, srv, user, version), nonce)


def open_backup(key: bytes, blob: bytes, *, srv: str, user: str, version: int) -> AccountSecrets:
    """What `seal_backup` sealed. Raises WrongSecret, also where the blob is another account's or version's."""
    padded = p.unseal(key, blob[1:], _associated(blob[:1], srv, user, version))
    size = int.from_bytes(padded[:4], "big")
    try:
        fields = json.loads(padded[4 : 4 + size])
        return AccountSecrets(
            identity=p.ed25519_from_seed(p.unb64(fields["ik"])),
            rsa_keys=tuple(p.load_rsa_private(p.unb64(der)) for der in fields["rks"]),
            list_version=int(fields["ver"]),
            pins=dict(fields["pins"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, InvalidKey):
        raise WrongSecret("this backup opens, but holds no account keys") from None


def _associated(kind: bytes, srv: str, user: str, version: int) -> bytes:
    return p.digest("backup", kind, srv.encode("ascii"), user.encode("ascii"), version.to_bytes(8, "big"))


# --- recovery codes ---------------------------------------------------------------------------------------------------


def format_code(secret: bytes) -> str:
    """A recovery code for people: 16 bytes as seven groups of four, the last two characters a checksum."""
    check = hashlib.sha256(b"SecureChat recovery code" + secret).digest()
    bits = int.from_bytes(secret, "big") << 12 | int.from_bytes(check[:2], "big") >> 4  # 140 bits: 28 digits
    digits = "".join(_ALPHABET[bits >> shift & 31] for shift in range(135, -1, -5))
    return "-".join(digits[at : at + 4] for at in range(0, 28, 4))


def parse_code(typed: str) -> bytes:
    """The 16 bytes of a recovery code as typed; case, hyphens and look-alikes are forgiven. Raises WrongSecret."""
    folded = typed.upper().translate(str.maketrans("OIL", "011", "- "))
    if len(folded) != 28 or any(digit not in _ALPHABET for digit in folded):
        raise WrongSecret("a recovery code has seven groups of four letters and digits")
    bits = 0
    for digit in folded:
        bits = bits << 5 | _ALPHABET.index(digit)
    secret = (bits >> 12).to_bytes(CODE_BYTES, "big")
    if format_code(secret).replace("-", "") != folded:
        raise WrongSecret("that recovery code has a typing mistake in it")
    return secret


def code_key(secret: bytes) -> bytes:
    """The backup key of a recovery code: HKDF-SHA256, 32 bytes. 128 random bits need no stretching."""
    return HKDF(SHA256(), 32, None, b"SecureChat 1 recovery code").derive(secret)
