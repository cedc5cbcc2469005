"""The transcript of a conversation, and each device's chain in it: what makes a drop, a replay or a fork visible.

th_i = H("th", th_{i-1}, link in force at i, id_i) runs over everything the server stored, in its order; authors sign
the newest place they know. A device counts its messages and names the one before. Both are kept by every reader.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from securechat.crypto import primitives as p
from securechat.crypto.findings import Finding

REMEMBERED: Final = 1024  # places of a transcript, to compare with what others saw
RECENT: Final = 64  # messages of a device whose ids are kept, to tell a replay from a counter used twice
TWINS: Final = 4  # messages with one number that are told apart; more of them are shown again where they come again
MAX_MISSING: Final = 256  # numbers of a device still waited for; older ones are given up


def transcript_start(conversation: str) -> str:
    """th_0 = H("th0", conversation id): 64 hex digits."""
    return p.digest("th0", conversation.encode("ascii")).hex()


def next_th(th: str, link: str, message_id: str) -> str:
    """th_i from th_{i-1}; `link` is "" in private."""
    return p.digest("th", bytes.fromhex(th), bytes.fromhex(link), bytes.fromhex(message_id)).hex()


class Transcript:
    """One reader's transcript of one conversation.

    Args:
        seq, th: a place to start from: after message `seq`.
    """

    def __init__(self, seq: int, th: str) -> None:
        self.seq = seq
        self.th = th
        self._places: OrderedDict[int, str] = OrderedDict({seq: th})

    def advance(self, seq: int, link: str, message_id: str) -> None:
        """Takes in the next message. A number that is not the next one starts a stretch of its own."""
        self.th = next_th(self.th, link, message_id)
        self.seq = seq
        self._places[seq] = self.th
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)

    def at(self, seq: int) -> str | None:
        """th after a message; None where it is not remembered."""
        return self._places.get(seq)

    @property
    def place(self) -> tuple[int, str]:
        """The newest place."""
        return self.seq, self.th


@dataclass(frozen=True)
class Link:
    """What a device's next message looked like, held against its chain.

    Attributes:
        finding: None: it is the one that was due. REPLAYED: had already. Others are flags.
        missing: how many before it are.
    """

    finding: Finding | None = None
    missing: int = 0


@dataclass(frozen=True)
class SenderChain:
    """One device's messages in one conversation, as a reader has seen them. A value: `after` makes the next.

    Attributes:
        last: the highest number seen.
        ids: of the newest messages by number; one each, unless a counter was used twice.
        missing: numbers below `last` that never came.
        apart: the reader was out meanwhile: whatever came between is not theirs, and none of it is missing.
    """

    last: int
    ids: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    missing: frozenset[int] = frozenset()
    apart: bool = False

    @classmethod
    def begin(cls, ctr: int, message_id: str) -> SenderChain:
        """The chain starts for a reader at the first message it was given."""
        return cls(ctr, {ctr: (message_id,)})

    def judge(self, ctr: int, prev: str, message_id: str) -> Link:
        """What a message of that device is, by its number and the one it names before it."""
        if ctr <= self.last:
            known = self.ids.get(ctr)
            if known is not None and message_id not in known:
                return Link(Finding.USED_TWICE)
            return Link(Finding.LATE if ctr in self.missing else Finding.REPLAYED)
        if ctr > self.last + 1:
            return Link() if self.apart else Link(Finding.MISSING, ctr - self.last - 1)
        before = self.ids.get(self.last)
        return Link() if before is None or prev in before else Link(Finding.OTHER_PREVIOUS)

    def after(self, ctr: int, message_id: str) -> SenderChain:
        """The chain with a message taken in."""
        if ctr <= self.last:
            known = self.ids.get(ctr, ())
            twins = (*known, message_id)[:TWINS] if message_id not in known else known
            return replace(self, ids={**self.ids, ctr: twins}, missing=self.missing - {ctr})
        between = frozenset(range(max(self.last + 1, ctr - MAX_MISSING), ctr))
        lacking = self.missing if self.apart else self.missing | between
        ids = {number: known for number, known in self.ids.items() if number > ctr - RECENT}
        return SenderChain(ctr, ids | {ctr: (message_id,)}, frozenset(sorted(lacking)[-MAX_MISSING:]))

    def to_fields(self) -> dict[str, Any]:
        """For storage, as JSON."""
        return {
            "last": self.last,
            "ids": {str(ctr): " ".join(known) for ctr, known in self.ids.items()},
            "missing": sorted(self.missing),
            "apart": self.apart,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> SenderChain:
        """Reads `to_fields`."""
        ids = {int(ctr): tuple(str(known).split()) for ctr, known in fields["ids"].items()}
        return cls(int(fields["last"]), ids, frozenset(map(int, fields["missing"])), bool(fields["apart"]))
