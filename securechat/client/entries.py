"""What the outbox holds: a message on its way, its sealed bytes, and this device's turn in a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from securechat.crypto.body import Delete, React, from_text
from securechat.errors import Exit
from securechat.wire import messages as m


@dataclass(frozen=True, slots=True)
class Turn:
    """This device's last stored message in a conversation: its number, 0 if none, and its id, "" if none.

    Attributes:
        mid: what its signed header says, where the server proved it; else "".
    """

    ctr: int = 0
    id: str = ""
    mid: str = ""

    @classmethod
    def from_record(cls, record: Any) -> Turn:
        """Reads a record of the local store."""
        return cls(int(record[0]), str(record[1]))


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message with its bytes: the conversation they are for, their number in it, and their id."""

    package: m.Package
    conversation: str
    ctr: int
    id: str


@dataclass(eq=False)
class Entry:
    """One message on its way.

    Attributes:
        number: its place among all that was typed.
        where: a room, or ``@user``.
        text: what is sealed (see `crypto.body`); `words` is what its author knows it by.
        sealed: once it is; a resend repeats these very bytes.
        seen: who was in a private room when it was typed; None elsewhere.
        room: the id of that room; another that gets its name is not what was meant.
        done: fires with the exit status once it is stored, refused, or must wait for its author's word.
        reseals: refusals that asked for other bytes, or to be tried again.
        delayed: whether its author was told that the server asks for patience.
    """

    number: int
    where: str
    text: str
    mid: str
    seen: tuple[str, ...] | None = None
    room: str = ""
    sealed: Sealed | None = None
    done: Deferred[Exit] = field(default_factory=Deferred)
    reseals: int = 0
    delayed: bool = False

    @property
    def words(self) -> str:
        """How it begins, in one line."""
        body = from_text(self.text)
        said = body.emoji if isinstance(body, React) else "(a deletion)" if isinstance(body, Delete) else body.text
        return " ".join(said[:200].split())[:60]

    def record(self) -> dict[str, Any]:
        """For the local store."""
        sealed = self.sealed
        return {
            "where": self.where,
            "text": self.text,
            "mid": self.mid,
            "seen": self.seen,
            "room": self.room,
            "sealed": sealed
            and [
                msgspec.json.encode(sealed.package).decode("ascii"), sealed.conversation, sealed.ctr, sealed.id
            ],
        }  # fmt: skip

    @classmethod
    def from_record(cls, number: int, record: dict[str, Any]) -> Entry:
        """Reads `record`."""
        seen, sealed = record["seen"], record["sealed"]
        seen = None if seen is None else tuple(seen)
        entry = cls(number, record["where"], record["text"], record["mid"], seen, record["room"])
        if sealed is not None:
            entry.sealed = Sealed(msgspec.json.decode(sealed[0], type=m.Package), *sealed[1:])
        return entry

    def settle(self, status: Exit) -> None:
        """Tells whoever waits."""
        if not self.done.called:
            self.done.callback(status)


def watched(done: Deferred[Exit]) -> Deferred[Exit]:
    """Another Deferred that fires with the same: several may wait for one message, and one may give up waiting."""
    follower: Deferred[Exit] = Deferred()

    def fire(status: Exit) -> Exit:
        if not follower.called:
            follower.callback(status)
        return status

    done.addCallback(fire)
    return follower
