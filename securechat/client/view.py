"""What the core says to a view, and what it may ask of one. Items are data: a view decides how they look.

Texts in items are as they came from others: `display.render` passes them through the one sanitiser.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from securechat.errors import Exit


@dataclass(frozen=True, slots=True)
class RoomMessage:
    """A message in a room. `at` (milliseconds) is given where the time matters: in history and in what was missed."""

    room: str
    sender: str
    text: str
    at: int | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class PrivateMessage:
    """A private message; `outgoing` where this account wrote it to `peer`."""

    peer: str
    text: str
    outgoing: bool = False
    at: int | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Membership:
    """Somebody `joined`, `left`, came `online` or went `offline`."""

    room: str
    user: str
    what: str


@dataclass(frozen=True, slots=True)
class Unshown:
    """`count` messages that are not shown, and the one reason; `room` is a room's name, or ``pm`` with a peer."""

    where: str
    count: int
    reason: str

    def same_as(self, other: Unshown) -> bool:
        """Whether one line may say both."""
        return (self.where, self.reason) == (other.where, other.reason)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command was asked to print: lines for standard output."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth knowing, for standard error where output is piped."""

    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A command or a message failed; the text says what to do next."""

    text: str
    exit: Exit = Exit.FIXABLE


Item = RoomMessage | PrivateMessage | Membership | Unshown | Answer | Notice | Failure


@dataclass(frozen=True, slots=True)
class Status:
    """What a prompt shows: who is logged in, which room is active, how the link is, what waits to be sent.

    `work` says how far a long job is, or nothing.
    """

    user: str = ""
    room: str = ""
    link: str = "offline"  # offline, connecting, online, or a sentence with the seconds to the next attempt
    waiting: int = 0
    work: str = ""


class View(Protocol):
    """What the core needs of a view."""

    @property
    def interactive(self) -> bool:
        """Whether a person is there to be asked."""

    def show(self, item: Item) -> None:
        """Shows an item, after all shown before it."""

    def status(self, status: Status) -> None:
        """The status changed."""

    def ask(self, question: str) -> Awaitable[str | None]:
        """Asks the person for a line; None where nobody can be asked, or they declined."""

    def ask_secret(self, question: str) -> Awaitable[str | None]:
        """The same, without echo and kept out of every history."""


class Client(Protocol):
    """What a view needs of the core."""

    @property
    def exiting(self) -> bool:
        """Set once /exit was typed: a view then calls `close` and stops."""

    def submit(self, line: str) -> Awaitable[Exit]:
        """Runs one typed line. Done when its effect is: a `/send` when it was acknowledged and shown."""

    def close(self, timeout: float) -> Awaitable[Exit]:
        """Waits for the outbox, at most `timeout` seconds, and disconnects; says what was not acknowledged."""

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        """Completions for the word that `text` ends in: how many characters they replace, and what is possible."""
