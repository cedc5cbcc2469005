"""Signed objects: the exact bytes that were signed, and the frozen struct that they mean.

An object is JSON in its one canonical form: its fields in the order of its class, the type tag ``t`` first, no blanks,
shortest escapes. Encoding what was decoded gives the same bytes, or the object is refused: so there are no duplicate
or unknown fields, no floats, no numbers beyond 2^53 - 1, no byte order mark and no second spelling of anything.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, dataclass_transform

from msgspec import Meta, MsgspecError, Struct, field
from msgspec.json import Decoder, encode

from securechat.errors import InvalidKey

MAX_OBJECT: Final = 16 * 1024  # bytes of any signed object; each packet that carries one is stricter

# The same names as in `wire.names`, which this layer does not import; a test holds the two together.
USER_PATTERN: Final = r"^[a-z0-9][a-z0-9_.-]{0,31}\Z"

User = Annotated[str, Meta(pattern=USER_PATTERN)]
ServerId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
Hex128 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Hex256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
HexOrNone = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""A hash, or "" where there is nothing before."""
Key32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Number = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Version = tuple[Number, Hex256]
"""A device list: its number, and SHA-256 of its bytes."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Signed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of what is signed. Every field is always there."""


def to_bytes(signed: Signed) -> bytes:
    """The bytes to sign."""
    return encode(signed)


class Form:
    """One kind of signed object, or several that their tags tell apart.

    Args:
        kind: its class, or a union of classes.
        limit: bytes.
    """

    def __init__(self, kind: Any, *, limit: int = MAX_OBJECT) -> None:
        self._decode = Decoder(kind).decode
        self._limit = limit

    def parse(self, data: bytes) -> Any:
        """What the bytes mean; verify their signature first. Raises InvalidKey: they are worth nothing."""
        if len(data) > self._limit or not data.isascii():
            raise InvalidKey("a signed object is ASCII, and not that long")
        try:
            value = self._decode(data)
        except (MsgspecError, ValueError, RecursionError):
            raise InvalidKey("a signed object has not exactly its fields") from None
        if encode(value) != data:
            raise InvalidKey("a signed object is not in its canonical form")
        return value
