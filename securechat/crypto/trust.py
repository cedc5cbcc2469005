"""Which identity belongs to which name, as this account has seen it: pins.

First contact pins. Another identity for a pinned name makes the state *changed*; only its owner's `/trust` ends that.
A device list never goes back. A key enters the pins through `PinStore.consider` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from securechat.crypto import primitives as p
from securechat.crypto.identity import AccountKeys
from securechat.errors import InvalidKey


class TrustState(StrEnum):
    """How far a name's identity is trusted."""

    TOFU = "tofu"
    CHANGED = "changed"


class Finding(StrEnum):
    """What `PinStore.consider` found."""

    FIRST = "first"
    SAME = "same"
    NEWER_LIST = "newer_list"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Pin:
    """What is known of one name.

    Attributes:
        ik: the identity trusted, 32 bytes.
        first_seen: milliseconds since 1970.
        version: the newest device list seen.
        digest: of that list.
        claimed: another identity the server now gives for the name; None unless `changed`.
    """

    ik: bytes
    first_seen: int
    version: int
    digest: str
    claimed: bytes | None = None

    @property
    def state(self) -> TrustState:
        """*changed* as long as a claim is open."""
        return TrustState.CHANGED if self.claimed is not None else TrustState.TOFU

    def to_fields(self) -> dict[str, str | int]:
        """For storage, as JSON."""
        fields: dict[str, str | int] = {
            "ik": p.b64(self.ik), "seen": self.first_seen, "ver": self.version, "digest": self.digest,
        }  # fmt: skip
        if self.claimed is not None:
            fields["claimed"] = p.b64(self.claimed)
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
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise InvalidKey("this pin is damaged") from None


class PinStore:
    """The pins of one account.

    Args:
        pins: as loaded.
        save: called with each pin that changed, before it has any effect elsewhere.
    """

    def __init__(self, pins: Mapping[str, Pin], save: Callable[[str, Pin], None]) -> None:
        self._pins = dict(pins)
        self._save = save

    def get(self, user: str) -> Pin | None:
        """The pin of a name."""
        return self._pins.get(user)

    def all(self) -> Mapping[str, Pin]:
        """All pins by name."""
        return self._pins

    def consider(self, keys: AccountKeys, now_ms: int) -> Finding:
        """The one way in: what verified keys mean for the pin of their name.

        Raises:
            InvalidKey: the server gives an older list than was seen, or two lists of one version.
        """
        pin = self._pins.get(keys.user)
        if pin is None:
            self._put(keys.user, Pin(keys.ik, now_ms, keys.version, keys.digest))
            return Finding.FIRST
        if keys.ik != pin.ik:
            if pin.claimed != keys.ik:
                self._put(keys.user, replace(pin, claimed=keys.ik))
            return Finding.CHANGED
        if keys.version < pin.version:
            raise InvalidKey(f"the server gave an older device list of {keys.user} than it had given before")
        if keys.version == pin.version and keys.digest != pin.digest:
            raise InvalidKey(f"the server gave two different device lists of {keys.user} with one number")
        if pin.claimed is not None:  # the server is back at the identity that was trusted all along
            pin = replace(pin, claimed=None)
            self._put(keys.user, pin)
        if keys.version == pin.version:
            return Finding.SAME
        self._put(keys.user, replace(pin, version=keys.version, digest=keys.digest))
        return Finding.NEWER_LIST

    def trust(self, keys: AccountKeys, now_ms: int) -> None:
        """Accepts the identity in verified keys, by its owner's word."""
        self._put(keys.user, Pin(keys.ik, now_ms, keys.version, keys.digest))

    def _put(self, user: str, pin: Pin) -> None:
        self._save(user, pin)
        self._pins[user] = pin
