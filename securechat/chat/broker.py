"""`RoomBroker`: who is connected, who hears which conversation, and fan-out.

The truth is the history in the store; what is handed out here is the fast way to the same. Each subscription has a
cursor, the newest message its reader was given. A live one is given the next message as it is published; one that is
catching up is not, since it will read it from the history. Going live happens in one step with the check that nothing
was published beyond the cursor. So there is no gap and no double, whatever the order of events.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple, Protocol


class Reader(Protocol):
    """A connection that takes finished lines."""

    @property
    def user(self) -> str: ...

    def deliver(self, lines: bytes) -> None:
        """Queues lines to be written, each with its newline; never blocks, never raises."""


class Subscription:
    """One reader's place in one conversation.

    Attributes:
        cursor: the newest message given to the reader.
        live: whether published messages are handed on.
    """

    __slots__ = ("conversation", "cursor", "live", "reader")

    def __init__(self, reader: Reader, conversation: str, cursor: int) -> None:
        self.reader = reader
        self.conversation = conversation
        self.cursor = cursor
        self.live = False


class _Published(NamedTuple):
    """A message that waits for the end of the turn: a line for all, or one made for each user."""

    seq: int
    line: bytes
    line_for: Callable[[str], bytes] | None


_seq = attrgetter("seq")


class _Audience:
    """The subscriptions of one conversation, and the newest message published since the first of them.

    Attributes:
        pending: what was published in this turn. A subscription whose cursor is behind has not got it yet.
    """

    __slots__ = ("newest", "pending", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: dict[Reader, Subscription] = {}
        self.newest = 0
        self.pending: list[_Published] = []


class RoomBroker:
    """Presence, subscriptions and fan-out, in memory; a conversation nobody listens to costs nothing.

    What is published waits for the end of the turn, so that a commit of many messages is one write a reader.

    Args:
        later: calls something at the end of the turn, or at once.
    """

    def __init__(self, later: Callable[[Callable[[], None]], object] = lambda call: call()) -> None:
        self._later = later
        self._readers: dict[str, tuple[Reader, ...]] = {}  # nearly all have one connection
        self._audiences: dict[str, _Audience] = {}
        self._subscribed: dict[Reader, list[str]] = {}

    # --- who is connected -------------------------------------------------------------------------------------------

    def connect(self, reader: Reader) -> bool:
        """A reader logged in; True if its user was not online before."""
        readers = self._readers.get(reader.user, ())
        self._readers[reader.user] = (*readers, reader)
        self._subscribed[reader] = []
        return not readers

    def disconnect(self, reader: Reader) -> bool:
        """A reader is gone, with its subscriptions; True if its user is offline now."""
        for conversation in self._subscribed.pop(reader, ()):
            self._drop(reader, conversation)
        readers = self._readers.get(reader.user, ())
        if reader not in readers:
            return False
        others = tuple(other for other in readers if other is not reader)
        if others:
            self._readers[reader.user] = others
        else:
            del self._readers[reader.user]
        return not others

    def online(self, user: str) -> bool:
        """Whether a user has a connection."""
        return user in self._readers

    def readers_of(self, user: str) -> list[Reader]:
        """The connections of a user."""
        return list(self._readers.get(user, ()))

    # --- who hears what ---------------------------------------------------------------------------------------------

    def subscribe(self, reader: Reader, conversation: str, cursor: int) -> Subscription:
        """Starts a subscription, not live yet; a second one of the same reader replaces the first."""
        audience = self._audiences.setdefault(conversation, _Audience())
        subscription = audience.subscriptions[reader] = Subscription(reader, conversation, cursor)
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

    def unsubscribe(self, reader: Reader, conversation: str) -> None:
        """Ends a subscription; none is no error."""
        subscribed = self._subscribed.get(reader, [])
        if conversation in subscribed:
            subscribed.remove(conversation)
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
            _catch_up(own, audience.pending)  # what came before must go out before the reply
            own.cursor = seq
        audience.pending.append(_Published(seq, line, line_for))
        if len(audience.pending) == 1:
            self._later(lambda: self._flush(audience))

    @staticmethod
    def _flush(audience: _Audience) -> None:
        """Gives everybody what waits."""
        pending, audience.pending = audience.pending, []
        if not pending:
            return
        first, last = pending[0].seq, pending[-1].seq
        alike = all(published.line_for is None for published in pending)
        lines = b"".join([published.line for published in pending]) if alike else b""
        for reader, subscription in audience.subscriptions.items():
            if not subscription.live or subscription.cursor >= last:
                continue
            if alike and subscription.cursor < first:
                subscription.cursor = last
                reader.deliver(lines)
            else:
                _catch_up(subscription, pending)

    def announce(self, conversation: str, line: bytes, skip: Reader | None = None) -> None:
        """Hands an event about a conversation to everybody who subscribes to it, live or not."""
        audience = self._audiences.get(conversation)
        if audience is not None:
            self._flush(audience)  # what was published before it comes before it
            for reader in audience.subscriptions:
                if reader is not skip:
                    reader.deliver(line)

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


def _catch_up(subscription: Subscription, pending: list[_Published]) -> None:
    """Gives one subscription what it has not got of these."""
    new = pending[bisect_right(pending, subscription.cursor, key=_seq) :]
    if new:
        subscription.cursor = new[-1].seq
        user = subscription.reader.user
        lines = [line if line_for is None else line_for(user) for _, line, line_for in new]
        subscription.reader.deliver(b"".join(lines))
