"""Which identity belongs to which name, as this account has seen it: pins, and how two people compare them.

First contact pins. Another identity for a pinned name makes the state *changed*; only its owner's word ends that, and
for somebody who was *verified* only a new comparison. A device list never goes back. An identity enters the pins
through `PinStore.consider` and nowhere else: one way in, whoever says it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from securechat.crypto import primitives as p
from securechat.crypto.identity import AccountKeys
from securechat.errors import InvalidKey

_MOST_EARLIER: Final = 8  # identities of one name that are remembered


class TrustState(StrEnum):
    """How far a name's identity is trusted."""

    TOFU = "tofu"
    VERIFIED = "verified"
    CHANGED = "changed"


class Source(StrEnum):
    """Who says that an identity belongs to a name."""

    INVITE = "invite line"
    ROOM = "room log"
    DIRECTORY = "directory"
    OWNER = "trusted by you"  # /trust
    VERIFIED = "compared by you"  # /verify


class Finding(StrEnum):
    """What `PinStore.consider` found."""

    FIRST = "first"
    SAME = "same"
    NEWER_LIST = "newer_list"
    CHANGED = "changed"


class Sighting(NamedTuple):
    """An identity seen under a name, with the device list it came with (number and digest).

    Who saw the list itself knows the ids of its keys, and of the devices it revokes; a room log names neither.
    """

    user: str
    ik: bytes
    version: int
    digest: str
    kids: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: AccountKeys) -> Sighting:
        """What verified keys say."""
        return cls(keys.user, keys.ik, keys.version, keys.digest, keys.kids, tuple(sorted(keys.revoked)))


@dataclass(frozen=True, slots=True)
class Pin:
    """What is known of one name.

    Attributes:
        ik: the identity trusted, 32 bytes.
        first_seen: milliseconds since 1970.
        version: the newest device list seen.
        digest: of that list.
        claimed: another identity given for the name since; None unless `changed`.
        verified: whether the owner compared this identity.
        source: who said it first.
        kids: ids of the RSA keys this identity has had, as far as its lists were seen: whom old messages were for.
        earlier: identities that were pinned before, the newest last: old messages were by them.
        revoked: ids of the devices this identity has revoked, as far as its lists were seen.
    """

    ik: bytes
    first_seen: int
    version: int
    digest: str
    claimed: bytes | None = None
    verified: bool = False
    source: str = Source.DIRECTORY.value
    kids: tuple[str, ...] = ()
    earlier: tuple[bytes, ...] = ()
    revoked: tuple[str, ...] = ()

    @property
    def state(self) -> TrustState:
        """*changed* as long as a claim is open."""
        if self.claimed is not None:
            return TrustState.CHANGED
        return TrustState.VERIFIED if self.verified else TrustState.TOFU

    def to_fields(self) -> dict[str, str | int]:
        """For storage, as JSON."""
        fields: dict[str, str | int] = {
            "ik": p.b64(self.ik), "seen": self.first_seen, "ver": self.version, "digest": self.digest,
            "source": self.source,
        }  # fmt: skip
        if self.claimed is not None:
            fields["claimed"] = p.b64(self.claimed)
        if self.verified:
            fields["verified"] = 1
        if self.kids:
            fields["kids"] = " ".join(self.kids)
        if self.earlier:
            fields["earlier"] = " ".join(map(p.b64, self.earlier))
        if self.revoked:
            fields["revoked"] = " ".join(self.revoked)
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Pin:
        """Reads `to_fields`. Raises InvalidKey."""
        try:
            claimed = fields.get("claimed")
            return cls(
                p.unb64(fields["ik"]),
                int(fields["seen"]),
                int(fields["ver"]),
                str(fields["digest"]),
                None if claimed is None else p.unb64(claimed),
                bool(fields.get("verified")),
                str(fields.get("source", Source.DIRECTORY.value)),
                tuple(str(fields.get("kids", "")).split()),
                tuple(map(p.unb64, str(fields.get("earlier", "")).split())),
                tuple(str(fields.get("revoked", "")).split()),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise InvalidKey("this pin is damaged") from None


class PinStore:
    """The pins of one account.

    Args:
        pins: as loaded.
        save: called with each pin that changed, before it has any effect elsewhere.
        expected: identities that an invite line named, by user: base64url of their SHA-256. They count at first
            contact.
    """

    def __init__(
        self, pins: Mapping[str, Pin], save: Callable[[str, Pin], None], expected: Mapping[str, str] | None = None
    ) -> None:
        self._pins = dict(pins)
        self._save = save
        self._expected = dict(expected or {})

    def get(self, user: str) -> Pin | None:
        """The pin of a name."""
        return self._pins.get(user)

    def all(self) -> Mapping[str, Pin]:
        """All pins by name."""
        return self._pins

    def consider(self, seen: Sighting, now_ms: int, source: Source) -> Finding:
        """The one way in: what an identity under a name means for its pin.

        Args:
            source: the owner's own word (OWNER, VERIFIED) replaces what was pinned; anybody else's never does.

        Raises:
            InvalidKey: an older device list than was seen, two lists of one number, or another identity than the
                invite line named. Nothing is changed.
        """
        if source in (Source.OWNER, Source.VERIFIED):
            return self._take_word(seen, now_ms, source)
        pin = self._pins.get(seen.user)
        if pin is None:
            return self._meet(seen, now_ms, source)
        if seen.ik != pin.ik:
            if pin.claimed != seen.ik:
                self._put(seen.user, replace(pin, claimed=seen.ik))
            return Finding.CHANGED
        if seen.version == pin.version and seen.digest != pin.digest:
            raise InvalidKey(f"the server gave two different device lists of {seen.user} with one number")
        if source is Source.DIRECTORY:
            if seen.version < pin.version:
                raise InvalidKey(f"the server gave an older device list of {seen.user} than it had given before")
            if pin.claimed is not None:  # the server is back at the identity that was trusted all along
                pin = replace(pin, claimed=None)
                self._put(seen.user, pin)
        told = not seen.kids or (seen.kids, seen.revoked) == (pin.kids, pin.revoked)
        if seen.version < pin.version or (seen.version == pin.version and told):
            return Finding.SAME  # a room log tells of the time it was written, and names no keys
        self._put(seen.user, _renewed(pin, seen))
        return Finding.NEWER_LIST if seen.version > pin.version else Finding.SAME

    def _meet(self, seen: Sighting, now_ms: int, source: Source) -> Finding:
        expected = self._expected.get(seen.user)
        if expected is not None:
            if identity_hash(seen.ik) != expected:
                raise InvalidKey(
                    f"the identity the server gives for {seen.user} is not the one your invite line names: somebody is"
                    f" in between, or {seen.user} started over since. Ask {seen.user} for a new line"
                )
            source = Source.INVITE
        pin = Pin(seen.ik, now_ms, seen.version, seen.digest, source=source.value, kids=seen.kids, revoked=seen.revoked)
        self._put(seen.user, pin)
        return Finding.FIRST

    def _take_word(self, seen: Sighting, now_ms: int, source: Source) -> Finding:
        pin, verified = self._pins.get(seen.user), source is Source.VERIFIED
        same = pin is not None and pin.ik == seen.ik
        if pin is not None and same:
            newer = pin if pin.version >= seen.version else _renewed(pin, seen)
            self._put(seen.user, replace(newer, claimed=None, verified=verified or pin.verified))
            return Finding.SAME
        fresh = Pin(
            seen.ik,
            now_ms,
            seen.version,
            seen.digest,
            verified=verified,
            source=source.value,
            kids=seen.kids,
            earlier=() if pin is None else (*pin.earlier, pin.ik)[-_MOST_EARLIER:],
            revoked=seen.revoked,
        )
        self._expected.pop(seen.user, None)
        self._put(seen.user, fresh)
        return Finding.FIRST if pin is None else Finding.CHANGED

    def complete(self, pins: Mapping[str, Pin]) -> None:
        """More pins of the same account, as loaded: those of names that are not known yet."""
        self._pins = {**pins, **self._pins}

    def _put(self, user: str, pin: Pin) -> None:
        self._save(user, pin)
        self._pins[user] = pin


def _renewed(pin: Pin, seen: Sighting) -> Pin:
    newer = replace(pin, version=seen.version, digest=seen.digest)
    return replace(newer, kids=seen.kids, revoked=seen.revoked) if seen.kids else newer


def identity_hash(ik: bytes) -> str:
    """How an invite line names an identity: base64url of SHA-256(IK), 43 characters."""
    return p.b64url(hashlib.sha256(ik).digest())


# --- safety numbers ---------------------------------------------------------------------------------------------------

ITERATIONS: Final = 5200
_VERSION: Final = (0).to_bytes(2, "big")


def half_fingerprint(key: bytes, stable_id: bytes) -> bytes:
    """One person's half: Signal's numeric fingerprint, version 0, 5200 times SHA-512; 32 bytes of it.

    Args:
        key: the identity's public key.
        stable_id: ``user@server id``.
    """
    state = _VERSION + key + stable_id
    for _ in range(ITERATIONS):
        state = hashlib.sha512(state + key).digest()
    return state[:32]


def safety_number(one: bytes, other: bytes) -> str:
    """60 digits from two halves, the same whoever's comes first."""
    return "".join(sorted(_digits(half) for half in (one, other)))


def _digits(half: bytes) -> str:
    return "".join(f"{int.from_bytes(half[at : at + 5], 'big') % 100_000:05}" for at in range(0, 30, 5))


def safety_bytes(one: bytes, other: bytes) -> bytes:
    """The same for a QR code: both halves whole, in order; 64 bytes."""
    return b"".join(sorted((one, other)))
