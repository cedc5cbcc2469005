"""Notes: small records that an account's own devices share through a server that can read neither name nor content.

All devices of an account have its RSA keys, so each key is the root of two others: one seals notes, one names them.
What is new is sealed under the newest key; names come from the oldest, and so stay what they are when the keys change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.crypto import primitives as p
from securechat.errors import InvalidKey, WrongSecret

STEP: Final = 256  # bytes to a multiple of which a note is padded: of its length no more shows
KID_BYTES: Final = 16
NAME_BYTES: Final = 16
MAX_PLAINTEXT: Final = 24_316  # bytes of one note: padded and sealed it has at most 24,364, within 24 KiB
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class NoteKeys:
    """What an account's notes are named and sealed by.

    Attributes:
        naming: 32 bytes, from the oldest RSA key.
        newest: the id of the RSA key that new notes are sealed by.
        sealing: 32 bytes by the id of each RSA key.
    """

    naming: bytes = field(repr=False)
    newest: str
    sealing: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, rsa_keys: Sequence[rsa.RSAPrivateKey]) -> NoteKeys:
        """The keys that follow from an account's RSA keys.

        Args:
            rsa_keys: the newest first, at least one, as in a keystore or backup.
        """
        roots = {p.key_id(p.rsa_public_der(key.public_key())): _root(key) for key in rsa_keys}
        *_, oldest = roots.values()
        sealing = {kid: p.expand(root, "note", b"", 32) for kid, root in roots.items()}
        return cls(p.expand(oldest, "note names", b"", 32), next(iter(roots)), sealing)


def _root(key: rsa.RSAPrivateKey) -> bytes:
    """HKDF-SHA256 of a private key, 32 bytes."""
    return HKDF(SHA256(), 32, None, b"SecureChat 1 notes").derive(p.rsa_private_der(key))


def note_name(keys: NoteKeys, kind: str, subject: str) -> str:
    """The name under which the server keeps a note: 32 hex digits that tell nobody else what it is about.

    Args:
        kind: what sort of note, in ASCII: ``draft``.
        subject: of what, in its sort: the id of a conversation, or "" where there is one alone.
    """
    return p.expand(keys.naming, "note name", _pair(kind, subject), NAME_BYTES).hex()


def seal_note(keys: NoteKeys, name: str, plaintext: bytes, *, srv: str, user: str, nonce: bytes) -> bytes:
    """A note as the server keeps it: the id of the RSA key, then what is sealed.

    Args:
        name: of `note_name`.
        plaintext: at most MAX_PLAINTEXT bytes.
        nonce: 12 fresh random bytes.

    Raises:
        ValueError: it is too long.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise ValueError(f"a note has at most {MAX_PLAINTEXT} bytes")
    padded = len(plaintext).to_bytes(_LENGTH_BYTES, "big") + plaintext
    padded += bytes(-len(padded) % STEP)
    sealed = p.seal(keys.sealing[keys.newest], padded, _associated(srv, user, name), nonce)
    return bytes.fromhex(keys.newest) + sealed


def open_note(keys: NoteKeys, name: str, blob: bytes, *, srv: str, user: str) -> bytes:
    """What `seal_note` sealed.

    That it is the newest of its name is the server's word: it can give an older one.

    Raises:
        InvalidKey: it is sealed by an RSA key that is not among these; another device may have a newer one.
        WrongSecret: it does not open: it is altered, cut short, or of another name, user or server.
    """
    key = keys.sealing.get(blob[:KID_BYTES].hex())
    if key is None:
        raise InvalidKey("this note is sealed by a key that this device does not have")
    padded = p.unseal(key, blob[KID_BYTES:], _associated(srv, user, name))
    size = int.from_bytes(padded[:_LENGTH_BYTES], "big")
    plaintext, rest = padded[_LENGTH_BYTES : _LENGTH_BYTES + size], padded[_LENGTH_BYTES + size :]
    if len(padded) < _LENGTH_BYTES or len(plaintext) != size or any(rest):
        raise WrongSecret("this note opens, but is not padded as notes are")
    return plaintext


def _pair(kind: str, subject: str) -> bytes:
    return p.vec(kind.encode("ascii")) + p.vec(subject.encode("utf-8"))


def _associated(srv: str, user: str, name: str) -> bytes:
    return p.digest("note", srv.encode("ascii"), user.encode("ascii"), bytes.fromhex(name))
