"""What the core says to a view, and what it may ask of one. Items are data: a view decides how they look.

Texts in items are as they came from others: `display.render` passes them through the one sanitiser.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from securechat.errors import Exit


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that another one answers: by whom, and how it begins; `sender` "" where it is not known here."""

    sender: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said in a room, or in private where `where` is ``@peer``.

    Attributes:
        at: milliseconds, given where the time matters: in history and in what was missed.
        mark: what is said beside it.
        own: whether this account wrote it.
        kind: "text", "me" for an action, or "code" written in `lang`.
        quote: what it answers.
        mention: whether it calls this account.
        edited, deleted: whether its author changed it, or took it back.
        reactions: emoji and who reacted with it.
        seq, ts: its number there, and the server's time, milliseconds; 0 where unknown. No part of what is said.
        id, reply: its own id, and that of the message it answers, 64 hex digits; "" where there is none. Nor are these.
        author: a short hash of the identity that signed it; "" where that is not known.
    """

    where: str
    sender: str
    text: str
    at: int | None = None
    mark: str = ""
    own: bool = False
    kind: str = "text"
    lang: str = ""
    quote: Quote | None = None
    mention: bool = False
    edited: bool = False
    deleted: bool = False
    reactions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seq: int = field(default=0, compare=False)
    ts: int = field(default=0, compare=False)
    id: str = field(default="", compare=False)
    reply: str = field(default="", compare=False)
    author: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Changed:
    """Somebody changed an earlier message: `what` is "edited", "deleted", "reacted" or "unreacted".

    Attributes:
        text: the new text, or the emoji.
        before: how the message began, "" where it is not known here.
        sender: whose message that is; "" likewise.
        seq: of the message that changed, 0 likewise.
        id: of the message that changed, which is always known.
        ts, number: of the change itself: the server's time, milliseconds, and its number in the conversation.
    """

    where: str
    who: str
    what: str
    text: str = ""
    before: str = ""
    sender: str = ""
    seq: int = field(default=0, compare=False)
    id: str = field(default="", compare=False)
    ts: int = field(default=0, compare=False)
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Membership:
    """Somebody `joined`, `left`, came `online` or went `offline`."""

    room: str
    user: str
    what: str


@dataclass(frozen=True, slots=True)
class Unshown:
    """`count` messages that are not shown, from number `seq` on, and the one reason.

    Attributes:
        finding: its name in `crypto.findings`; "" where it is none of those.
        sender: by whom the first of them is said to be.
    """

    where: str
    count: int
    reason: str
    seq: int = field(default=0, compare=False)
    finding: str = field(default="", compare=False)
    sender: str = field(default="", compare=False)

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
    """A command or a message failed; the text says what to do next, `code` is the wire code where it has one."""

    text: str
    exit: Exit = Exit.FIXABLE
    code: str = field(default="", compare=False)


Item = Message | Changed | Membership | Unshown | Answer | Notice | Failure


@dataclass(frozen=True, slots=True)
class RoomState:
    """One conversation in a list of them.

    Attributes:
        where: its title: a room's label, or ``@peer``.
        unread, mentions: messages its user has not seen, and how many of them call them (in private: all).
        active: whether what is typed goes there.
        muted: whether it draws no attention.
        stopped: whether sending there waits for a word.
        draft: whether a line lies there half typed.
        topic: of a room.
    """

    where: str
    unread: int = 0
    mentions: int = 0
    active: bool = False
    muted: bool = False
    stopped: bool = False
    draft: bool = False
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What a prompt shows.

    Attributes:
        user: who is logged in.
        room: the title of the active conversation.
        link: offline, connecting, online.
        retry_at: when the next attempt is made, in the clock's seconds since 1970; 0: none is planned.
        waiting: messages that wait to be sent.
        work: how far a long job is, or nothing.
        rooms: all conversations, in the order in which Alt+1 … reach them.
        typing: who is typing in the active one.
    """

    user: str = ""
    room: str = ""
    link: str = "offline"
    waiting: int = 0
    work: str = ""
    retry_at: float = 0.0
    rooms: tuple[RoomState, ...] = ()
    typing: tuple[str, ...] = ()


class View(Protocol):
    """What the core needs of a view."""

    @property
    def interactive(self) -> bool:
        """Whether a person is there to be asked."""

    def show(self, item: Item) -> None:
        """Shows an item, after all shown before it."""

    def status(self, status: Status) -> None:
        """The status changed."""

    def follows(self, where: str) -> bool:
        """Whether what comes in a conversation is before its user's eyes at once; else it counts as unread."""

    def prints(self, where: str) -> bool:
        """Whether what others say in a conversation is to be given to `show` as it comes; one's own always is."""

    def opened(self, where: str) -> None:
        """Another conversation became the active one, or what there is in it changed as a whole."""

    def alert(self, alert: Alert) -> None:
        """Draws attention to what its user does not see."""

    def ask(self, question: str) -> Awaitable[str | None]:
        """Asks the person for a line; None where nobody can be asked, or they declined."""

    def ask_secret(self, question: str) -> Awaitable[str | None]:
        """The same, without echo and kept out of every history."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that its user should know of: a mention or a private message.

    Attributes:
        title: who and where; without what they said, unless its user wants that.
        text: what they said, where its user wants that; else "".
    """

    where: str
    sender: str
    title: str
    text: str = ""


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


class Desktop(Client, Protocol):
    """What a view with panes needs besides."""

    def talk(self, where: str) -> Sequence[Item]:
        """What is in memory of a conversation, oldest first, as it stands now; messages carry their number."""

    def older(self, where: str) -> Awaitable[int]:
        """Brings older messages, from this machine or the server, so that `talk` has them; how many."""

    def pending(self, where: str) -> Sequence[tuple[str, str]]:
        """What was typed there and is not stored yet: the text, and "sending", "waiting" or "held"."""

    def marker(self, where: str) -> int:
        """The number of the last message there that was seen before the conversation was opened; 0: none."""

    def seen(self, where: str) -> None:
        """Its user has everything there before their eyes."""

    def go(self, where: str) -> None:
        """Makes a conversation the active one; marks nothing read by itself."""

    def next_room(self, step: int) -> str:
        """The conversation so many places further in the list; "" where there is none."""

    def next_active(self) -> str:
        """The conversation that most wants to be read; "" where none does."""

    def visited(self, step: int) -> str:
        """The one visited before (-1) or after (+1) this one; "" where there is none."""

    def members(self, where: str) -> Sequence[tuple[str, str]]:
        """Who is in a room: names, and what is said beside them."""

    def draft(self, where: str) -> str:
        """What lies half typed in a conversation."""

    def set_draft(self, where: str, text: str) -> None:
        """Keeps what is half typed there; "" drops it."""

    def preference(self, name: str) -> str:
        """One of `preferences.PREFERENCES`, as its user wants it."""
