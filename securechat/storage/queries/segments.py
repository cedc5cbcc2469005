"""Bodies of messages, sealed together: what one commit stores of one conversation is one token, a segment.

Sealing costs by the token more than by the byte: 64 messages as one take a fifth of the time that they take one by one.
A segment holds messages of consecutive numbers. What a row is found, ordered and shown by stands inside it too, so that
a row altered or moved by hand is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from securechat.errors import AtRestMismatch
from securechat.storage.queries.common import Cursor
from securechat.storage.queries.sealing import AtRest, place

MESSAGES: Final = 64  # of a segment: whoever reads one of them opens them all


class Body(NamedTuple):
    """One message in a segment: `shared` (see `NewMessage`), and all that its row says of it."""

    mid: bytes
    sender: str
    device: bytes
    ts: int
    events: int
    digest: bytes
    th: bytes
    shared: bytes


class Segment(NamedTuple):
    """The messages from number `first` on."""

    first: int
    bodies: Sequence[Body]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Body]).decode


def seal(at_rest: AtRest, segment_id: int, room_id: str, segment: Segment) -> bytes:
    """The token of a segment; whoever reads it soon needs not open it.

    Args:
        segment_id: never one of another segment, not even of one that was rolled back.
    """
    plain = _encode(segment.bodies)
    at_rest.segments.put((room_id, segment_id), segment, len(plain))
    return at_rest.sealer.seal(segment_place(room_id, segment.first), plain)


def opened(cursor: Cursor, at_rest: AtRest, room_id: str, segment_id: int) -> Segment:
    """A stored segment. Raises AtRestMismatch."""
    key = (room_id, segment_id)  # the room too: a row that names another room's segment must not find it here
    segment = at_rest.segments.get(key)
    if segment is None:
        cursor.execute("SELECT first_seq, dek_id, sealed FROM segment WHERE id = ?", (segment_id,))
        row = cursor.fetchone()
        if row is None:
            raise AtRestMismatch("a stored message lacks its body")
        segment, size = unsealed(at_rest, room_id, *row)
        at_rest.segments.put(key, segment, size)
    return segment


def unsealed(at_rest: AtRest, room_id: str, first: int, dek_id: int, sealed: bytes) -> tuple[Segment, int]:
    """A segment from its token, and how many bytes it is. Raises AtRestMismatch."""
    plain = at_rest.sealer.open(dek_id, segment_place(room_id, first), sealed)
    return Segment(first, _decode(plain)), len(plain)


def body_of(segment: Segment, seq: int, expected: Body) -> bytes:
    """The `shared` of message `seq`.

    Args:
        expected: what its row says, `shared` left empty.

    Raises:
        AtRestMismatch: the segment says otherwise, or has no such message.
    """
    at = seq - segment.first
    if not 0 <= at < len(segment.bodies) or segment.bodies[at][:-1] != expected[:-1]:
        raise AtRestMismatch("a stored message was altered, or moved from another place")
    return segment.bodies[at].shared


def segment_place(room_id: str, first: int) -> bytes:
    """Where a segment is sealed to."""
    return place("segment", room_id, first)
