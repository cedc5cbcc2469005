"""The keystore: one profile's keys, as the bytes of a file.

A random data key seals the keys (and, record by record, the profile's local store); at most two slots hold that data
key, each under one password with its own salt, so that a password change can never lock its owner out half-way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from securechat.crypto import primitives as p
from securechat.errors import InvalidKey, WrongSecret

DATA_KEY_BYTES: Final = 32
MAX_SLOTS: Final = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """The data key under one password: the password's salt, and the sealed key."""

    salt: bytes
    sealed: bytes


@dataclass(frozen=True)
class ProfileKeys:
    """What a keystore seals: the device's key and the account's RSA keys. The identity's private half is not here."""

    device: ed25519.Ed25519PrivateKey
    rsa_keys: tuple[rsa.RSAPrivateKey, ...]
    ik: bytes

    def __repr__(self) -> str:
        return "<ProfileKeys>"

    @property
    def dev(self) -> str:
        """The device's id."""
        return p.key_id(p.ed25519_public(self.device))

    def by_kid(self) -> Mapping[str, rsa.RSAPrivateKey]:
        """The RSA keys by id, for `envelope.open_package`."""
        return {p.key_id(p.rsa_public_der(key.public_key())): key for key in self.rsa_keys}


@dataclass(frozen=True)
class Keystore:
    """A keystore as it lies on disk; nothing in it is readable without a password of one of its slots."""

    srv: str
    user: str
    slots: tuple[Slot, ...]
    box: bytes

    def __repr__(self) -> str:
        return f"<Keystore {self.user}>"

    def to_bytes(self) -> bytes:
        """The file's contents: JSON."""
        fields = {
            "t": "sc/keystore",
            "v": 1,
            "srv": self.srv,
            "user": self.user,
            "slots": [{"salt": p.b64(slot.salt), "key": p.b64(slot.sealed)} for slot in self.slots],
            "box": p.b64(self.box),
        }
        return json.dumps(fields, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Keystore:
        """Reads `to_bytes`. Raises InvalidKey where it is not a keystore, or one of a newer version."""
        try:
            fields: dict[str, Any] = json.loads(data)
            if fields["t"] != "sc/keystore" or fields["v"] != 1:
                raise InvalidKey("this keystore was made by a newer client: use that one")
            slots = tuple(Slot(p.unb64(slot["salt"]), p.unb64(slot["key"])) for slot in fields["slots"])
            return cls(str(fields["srv"]), str(fields["user"]), slots, p.unb64(fields["box"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidKey("this file is not a keystore") from None

    def open_slot(self, slot: Slot, keystore_key: bytes) -> bytes:
        """The data key from one slot. Raises WrongSecret."""
        return p.unseal(keystore_key, slot.sealed, _slot_context(self.srv, self.user, slot.salt))

    def open_box(self, data_key: bytes) -> ProfileKeys:
        """The keys. Raises WrongSecret, InvalidKey."""
        plain = p.unseal(_box_key(data_key), self.box, _box_context(self.srv, self.user))
        try:
            fields = json.loads(plain)
            return ProfileKeys(
                device=p.ed25519_from_seed(p.unb64(fields["dk"])),
                rsa_keys=tuple(p.load_rsa_private(p.unb64(der)) for der in fields["rks"]),
                ik=p.unb64(fields["ik"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            raise WrongSecret("this keystore opens, but holds no keys") from None

    def with_slot(self, slot: Slot) -> Keystore:
        """The same with one more slot; the oldest goes when there are two already."""
        return Keystore(self.srv, self.user, (*self.slots[-(MAX_SLOTS - 1) :], slot), self.box)

    def with_only(self, slot: Slot) -> Keystore:
        """The same with this slot alone."""
        return Keystore(self.srv, self.user, (slot,), self.box)


def make_slot(srv: str, user: str, salt: bytes, keystore_key: bytes, data_key: bytes, nonce: bytes) -> Slot:
    """A slot that gives `data_key` to whoever has the password behind `keystore_key`."""
    return Slot(salt, p.seal(keystore_key, data_key, _slot_context(srv, user, salt), nonce))


def make_box(srv: str, user: str, keys: ProfileKeys, data_key: bytes, nonce: bytes) -> bytes:
    """The keys, sealed under the data key."""
    fields = {
        "dk": p.b64(p.ed25519_seed(keys.device)),
        "rks": [p.b64(p.rsa_private_der(key)) for key in keys.rsa_keys],
        "ik": p.b64(keys.ik),
    }
    return p.seal(_box_key(data_key), json.dumps(fields).encode("ascii"), _box_context(srv, user), nonce)


def _box_key(data_key: bytes) -> bytes:
    return p.expand(data_key, "box", b"", 32)


def _box_context(srv: str, user: str) -> bytes:
    return p.digest("keystore box", srv.encode("ascii"), user.encode("ascii"))


def _slot_context(srv: str, user: str, salt: bytes) -> bytes:
    return p.digest("keystore slot", srv.encode("ascii"), user.encode("ascii"), salt)


class RecordSealer:
    """Seals the records of a profile's local store one by one, and hides what their keys are called."""

    def __init__(self, data_key: bytes) -> None:
        self._key = p.expand(data_key, "record", b"", 32)
        self._names = p.expand(data_key, "record name", b"", 32)

    def name(self, kind: str, name: str) -> bytes:
        """The name under which a record is filed: 16 bytes that tell a reader of the disk nothing."""
        return p.expand(self._names, kind, name.encode("utf-8"), 16)

    def seal(self, filed: bytes, plaintext: bytes, nonce: bytes) -> bytes:
        """A record for the place `filed`."""
        return p.seal(self._key, plaintext, filed, nonce)

    def unseal(self, filed: bytes, sealed: bytes) -> bytes:
        """What was sealed for this place. Raises WrongSecret, also where a record was moved."""
        return p.unseal(self._key, sealed, filed)
