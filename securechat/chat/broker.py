"""`RoomBroker`: who is connected, who hears which conversation, and fan-out.

The truth is the history in the store; what is handed out here is the fast way to the same. Each subscription has a
cursor, the newest message its reader was given. A live one is given the next message as it is published; one that is
catching up is not, since it will read it from the history. Going live happens in one step with the check that nothing
was published beyond the cursor. So there is no gap and no double, whatever the order of events.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

MANY: Final = 50  # who listen to one conversation
EVENT_SECONDS: Final = 0.1  # that an event waits for others where many listen


class Reader(Protocol):
    """A connection that takes finished lines."""

    @property
    def user(self) -> str: ...

    @property
    def slow(self) -> bool:
        """Whether it has not yet read all that is its own."""

    def deliver(self, lines: bytes) -> None:
        """Queues lines to be written, each with its newline; never blocks, never raises."""


class Subscription:
    """One reader's place in one conversation.

    Attributes:
        cursor: the newest message given to the reader.
        live: whether published messages are handed on.
        had: how much of what waits for the end of the turn it has had already, or does not concern it.
    """

    __slots__ = ("conversation", "cursor", "had", "live", "reader")

    def __init__(self, reader: Reader, conversation: str, cursor: int) -> None:
        self.reader = reader
        self.conversation = conversation
        self.cursor = cursor
        self.live = False
        self.had = 0


class _Waiting(NamedTuple):
    """A message, or an event about the conversation, that waits for the end of the turn.

    Attributes:
        seq: of the message; None for an event, which is for everybody who subscribes, live or not.
        line: what all readers get alike.
        line_for: the line of each user, where they differ.
        skip: who gets nothing.
        only: who alone get something; None: all.
    """

    seq: int | None
    line: bytes
    line_for: Callable[[str], bytes] | None = None
    skip: Reader | None = None
    only: Container[Reader] | None = None

    def concerns(self, subscription: Subscription) -> bool:
        """Whether it is for this reader, and new."""
        if self.seq is None:
            reader = subscription.reader
            return reader is not self.skip and (self.only is None or reader in self.only)
        return subscription.live and self.seq > subscription.cursor


class _Due(IntEnum):
    """When what waits is handed out."""

    NOT = 0
    IN_A_WHILE = 1
    SOON = 2


class _Audience:
    """The subscriptions of one conversation, and the newest message published since the first of them."""

    __slots__ = ("due", "newest", "subscriptions", "waiting")

    def __init__(self) -> None:
        self.due = _Due.NOT
        self.subscriptions: dict[Reader, Subscription] = {}
        self.newest = 0
        self.waiting: list[_Waiting] = []


class RoomBroker:
    """Presence, subscriptions and fan-out, in memory; a conversation nobody listens to costs nothing.

    What is published or announced waits for the end of the turn, so that a commit of many messages, or of many joins,
    is one write a reader.

    Events about a conversation that many listen to wait a little longer, for more of their kind: when a thousand people
    come at once, each of them is told of all in few writes (docs/performance.md).

    Args:
        later: calls something at the end of the turn, or at once.
        delayed: calls something after so many seconds; None: events wait no longer than messages.
    """

    def __init__(
        self,
        later: Callable[[Callable[[], None]], object] = lambda call: call(),
        delayed: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._later = later
        self._delayed = delayed
        self._readers: dict[str, tuple[Reader, ...]] = {}  # nearly all have one connection
        self._audiences: dict[str, _Audience] = {}
        self._subscribed: dict[Reader, list[str]] = {}
        self._sharing: set[Reader] = set()  # who say that they are there, and are told who else is
        self._typing: set[Reader] = set()  # who are told that somebody types

    # --- who is connected -------------------------------------------------------------------------------------------

    def connect(self, reader: Reader) -> None:
        """A reader is there. It shares nothing and wants nothing yet."""
        self._readers[reader.user] = (*self._readers.get(reader.user, ()), reader)
        self._subscribed[reader] = []

    def share(self, reader: Reader, *, yes: bool) -> bool:
        """Whether a connected reader says that it is there; True if its user came online, or went offline, by that."""
        before = self.online(reader.user)
        (self._sharing.add if yes else self._sharing.discard)(reader)
        return self.online(reader.user) != before

    def want_typing(self, reader: Reader, *, yes: bool) -> None:
        """Whether a connected reader is told that somebody types."""
        (self._typing.add if yes else self._typing.discard)(reader)

    def disconnect(self, reader: Reader) -> bool:
        """A reader is gone, with its subscriptions; True if its user was online, and is not any more."""
        gone = self.share(reader, yes=False)
        self._typing.discard(reader)
        for conversation in self._subscribed.pop(reader, ()):
            self._drop(reader, conversation)
        readers = self._readers.get(reader.user, ())
        others = tuple(other for other in readers if other is not reader)
        if others:
            self._readers[reader.user] = others
        else:
            self._readers.pop(reader.user, None)
        return gone

    def online(self, user: str) -> bool:
        """Whether a user has a connection that says that it is there."""
        return any(reader in self._sharing for reader in self._readers.get(user, ()))

    def readers_of(self, user: str) -> list[Reader]:
        """The connections of a user."""
        return list(self._readers.get(user, ()))

    # --- who hears what ---------------------------------------------------------------------------------------------

    def subscribe(self, reader: Reader, conversation: str, cursor: int) -> Subscription:
        """Starts a subscription, not live yet; a second one of the same reader replaces the first."""
        audience = self._audiences.setdefault(conversation, _Audience())
        subscription = audience.subscriptions[reader] = Subscription(reader, conversation, cursor)
        subscription.had = len(audience.waiting)
        if conversation not in self._subscribed[reader]:
            self._subscribed[reader].append(conversation)
        return subscription

    def subscription(self, reader: Reader, conversation: str) -> Subscription | None:
        """A reader's place in a conversation."""
        audience = self._audiences.get(conversation)
        return None if audience is None else audience.subscriptions.get(reader)

    def conversations_of(self, reader: Reader) -> list[str]:
        """What a reader subscribes to."""
        return list(self._subscribed.get(reader, ()))

    @property
    def subscriptions(self) -> int:
        """How many there are, of all readers."""
        return sum(map(len, self._subscribed.values()))

    def unsubscribe(self, reader: Reader, conversation: str) -> None:
        """Ends a subscription; none is no error."""
        subscribed = self._subscribed.get(reader, [])
        if conversation in subscribed:
            subscribed.remove(conversation)
            self.catch_up(reader, conversation)
        self._drop(reader, conversation)

    def _drop(self, reader: Reader, conversation: str) -> None:
        audience = self._audiences.get(conversation)
        if audience is None:
            return
        audience.subscriptions.pop(reader, None)
        if not audience.subscriptions:
            del self._audiences[conversation]

    def go_live(self, subscription: Subscription) -> bool:
        """Makes a subscription live if its cursor has everything that was published; False if there is more to read."""
        audience = self._audiences.get(subscription.conversation)
        if audience is None or audience.subscriptions.get(subscription.reader) is not subscription:
            return True  # ended meanwhile: nothing more to do for it
        if subscription.cursor < audience.newest:
            return False
        subscription.live = True
        return True

    # --- fan-out ----------------------------------------------------------------------------------------------------

    def publish(
        self,
        conversation: str,
        seq: int,
        line: bytes,
        line_for: Callable[[str], bytes] | None = None,
        skip: Reader | None = None,
    ) -> None:
        """Hands a stored message to every live subscription that has not got it.

        Args:
            seq: called in the order of the history.
            line: what all readers get alike.
            line_for: the line of each user, where they differ; instead of `line`.
            skip: the sender's own connection, whose reply says it all; its cursor moves too.
        """
        audience = self._audiences.get(conversation)
        if audience is None:
            return
        audience.newest = max(audience.newest, seq)
        own = None if skip is None else audience.subscriptions.get(skip)
        if own is not None and own.live and seq > own.cursor:
            _give(own, audience.waiting[own.had :])  # what came before must go out before the reply
            own.cursor = seq
        self._wait(audience, _Waiting(seq, line, line_for))

    def announce(
        self, conversation: str, line: bytes, skip: Reader | None = None, at_once: Reader | None = None
    ) -> None:
        """Hands an event about a conversation to everybody who subscribes to it, live or not.

        Args:
            at_once: who must have had it when this returns.
        """
        audience = self._audiences.get(conversation)
        if audience is not None:
            self._wait(audience, _Waiting(None, line, None, skip))
            if at_once is not None:
                self.catch_up(at_once, conversation)

    def announce_presence(self, conversation: str, line: bytes, skip: Reader) -> None:
        """Hands an event about who is there to those who subscribe and share their own presence."""
        audience = self._audiences.get(conversation)
        if audience is not None and self._sharing:
            self._wait(audience, _Waiting(None, line, skip=skip, only=self._sharing))

    def hint(self, conversation: str, line: bytes, of: str) -> None:
        """Hands a word that somebody types to those who want it, are live, and have nothing else to read.

        Args:
            of: who types: none of their own connections gets it.
        """
        audience = self._audiences.get(conversation)
        for reader, subscription in () if audience is None else audience.subscriptions.items():
            if subscription.live and reader in self._typing and reader.user != of and not reader.slow:
                reader.deliver(line)

    def catch_up(self, reader: Reader, conversation: str) -> None:
        """Gives one reader what waits for it."""
        audience = self._audiences.get(conversation)
        if audience is not None and reader in audience.subscriptions:
            subscription = audience.subscriptions[reader]
            _give(subscription, audience.waiting[subscription.had :])

    def _wait(self, audience: _Audience, waiting: _Waiting) -> None:
        """Puts something behind what waits."""
        audience.waiting.append(waiting)
        due = _Due.SOON
        if waiting.seq is None and self._delayed is not None and len(audience.subscriptions) >= MANY:
            due = _Due.IN_A_WHILE
        if due <= audience.due:
            return
        audience.due = due
        if due is _Due.IN_A_WHILE and self._delayed is not None:
            self._delayed(EVENT_SECONDS, lambda: _hand_out(audience))
        else:
            self._later(lambda: _hand_out(audience))

    def listeners(self, conversations: Iterable[str]) -> list[Reader]:
        """Everybody who subscribes to any of these, each once."""
        found: dict[Reader, None] = {}
        for conversation in conversations:
            if (audience := self._audiences.get(conversation)) is not None:
                found.update(dict.fromkeys(audience.subscriptions))
        return list(found)

    def announce_to(self, readers: Iterable[Reader], line: bytes, skip: Reader | None = None) -> None:
        """Hands an event to these readers."""
        for reader in readers:
            if reader is not skip:
                reader.deliver(line)


def _hand_out(audience: _Audience) -> None:
    """Gives everybody what waits."""
    waiting, audience.waiting = audience.waiting, []
    audience.due = _Due.NOT
    if not waiting:  # handed out meanwhile
        return
    seqs = [each.seq for each in waiting if each.seq is not None]
    # What nearly every reader gets: all of it, joined once.
    alike = all(each.line_for is None and each.skip is None and each.only is None for each in waiting)
    lines = [each.line for each in waiting] if alike else []
    joined = b"".join(lines)
    for subscription in list(audience.subscriptions.values()):
        had, subscription.had = subscription.had, 0
        if alike and not seqs:
            if had < len(lines):
                subscription.reader.deliver(b"".join(lines[had:]) if had else joined)
        elif alike and not had and subscription.live and subscription.cursor < seqs[0]:
            subscription.cursor = seqs[-1]
            subscription.reader.deliver(joined)
        else:
            _give(subscription, waiting[had:])
            subscription.had = 0


def _give(subscription: Subscription, waiting: list[_Waiting]) -> None:
    """Gives one reader what it has not had of this."""
    user = subscription.reader.user
    lines = []
    for each in waiting:
        if each.concerns(subscription):
            lines.append(each.line if each.line_for is None else each.line_for(user))
            if each.seq is not None:
                subscription.cursor = each.seq
    subscription.had += len(waiting)
    if lines:
        subscription.reader.deliver(lines[0] if len(lines) == 1 else b"".join(lines))
