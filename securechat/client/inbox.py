"""The inbox: everything that is shown goes through here, so that it is shown once and in order.

Opening a message costs 4 ms of RSA, so messages are opened in a thread, many at a time; what came between them (who
joined, own messages acknowledged) waits its turn in the same queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from msgspec import UNSET
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from securechat.client.conversations import Conversation
from securechat.client.display import BEFORE_JOIN, not_shown
from securechat.client.protocol import LinkLost
from securechat.client.view import Item, PrivateMessage, RoomMessage, Unshown
from securechat.crypto.envelope import open_package
from securechat.errors import Refused, Undecryptable
from securechat.wire import messages as m

BATCH: Final = 64  # messages opened in one visit to the thread


@dataclass(frozen=True, slots=True)
class OwnMessage:
    """A message of this very client, acknowledged; its text is known."""

    room: str
    peer: str | None
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A message with its text, or with the reason why there is none."""

    message: m.StoredMessage
    text: str = ""
    reason: str = ""


class Host(Protocol):
    """What the inbox needs of the core."""

    @property
    def user(self) -> str:
        """Who is logged in."""

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """The conversation a message belongs to; None where this account is not in it."""

    def show(self, item: Item) -> None:
        """Shows an item."""

    def shown(self, conversation: Conversation) -> None:
        """A conversation's cursor moved."""

    def own_came_back(self, mid: str) -> None:
        """A message of this account was seen in the history."""

    def mark_of(self, user: str) -> str:
        """What to say of somebody beside their name, or ""."""

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """Messages between two places, from the server. Raises Refused, LinkLost."""


Job = m.StoredMessage | OwnMessage | Callable[[], None]


class Inbox:
    """The queue of what is to be shown.

    Args:
        run: calls a function in a thread.
        keys: the account's RSA keys by id.
    """

    log = Logger()

    def __init__(self, host: Host, run: Callable[..., Awaitable[Any]], keys: Mapping[str, Any]) -> None:
        self._host = host
        self._run = run
        self._keys = keys
        self._queue: deque[Job] = deque()
        self._working = False
        self._stopped = False
        self._unshown: Unshown | None = None  # the last item, if one like it may follow
        self._waiters: list[Deferred[None]] = []

    def put(self, job: Job) -> None:
        """Queues something to show, or a call to make once all before it was shown."""
        self._queue.append(job)
        self._start()

    def _start(self) -> None:
        if self._queue and not self._working and not self._stopped:
            self._working = True
            working = Deferred.fromCoroutine(self._work())
            working.addErrback(lambda failure: self.log.failure("showing failed", failure=failure))
            working.addBoth(self._rest)

    def stop(self) -> None:
        """Shows nothing more; what waits comes again by `sync`."""
        self._stopped = True
        self._queue.clear()
        for waiter in list(self._waiters):
            self._tell(waiter)

    def shown(self) -> Deferred[None]:
        """Fires when everything queued so far was shown, or never will be."""
        done: Deferred[None] = Deferred()
        self._waiters.append(done)
        if self._stopped:
            self._tell(done)
        else:
            self.put(lambda: self._tell(done))
        return done

    def _tell(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            waiter.callback(None)

    def _rest(self, result: object) -> None:
        self._working = False
        self._start()

    async def _work(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            messages = [job for job in batch if isinstance(job, m.StoredMessage)]
            opened = deque(await self.open_all(messages) if messages else ())
            try:
                for job in batch:
                    if self._stopped:
                        return
                    if isinstance(job, m.StoredMessage):
                        await self._show(opened.popleft())
                    elif isinstance(job, OwnMessage):
                        await self._show_own(job)
                    else:
                        self._say(None)
                        job()
            finally:
                self._say(None)

    def _say(self, item: Item | None) -> None:
        """Shows an item, a run of those that did not open as one line; None: shows what is held back for that."""
        run = [self._unshown] if self._unshown is not None else []
        self._unshown = None
        folded = fold([*run, *([item] if item is not None else [])])
        last = folded[-1] if folded else None
        if item is not None and isinstance(last, Unshown):
            self._unshown = last
            folded.pop()
        for each in folded:
            self._host.show(each)

    async def open_all(self, messages: Sequence[m.StoredMessage]) -> Sequence[Opened]:
        """Opens messages in a thread; never raises for one that does not open."""
        opened: Sequence[Opened] = await self._run(open_messages, self._host.user, messages, self._keys)
        return opened

    async def _show(self, opened: Opened) -> None:
        message = opened.message
        conversation = self._host.conversation_of(message)
        if message.sender == self._host.user:
            self._host.own_came_back(message.mid)
        if conversation is None or message.seq <= conversation.cursor:
            return
        if not await self._filled(conversation, message.seq):
            return
        self._say(to_item(opened, conversation, self._host.user, self._host.mark_of(message.sender)))
        conversation.cursor = message.seq
        self._host.shown(conversation)

    async def _filled(self, conversation: Conversation, before: int) -> bool:
        """Fetches what is missing before a message. The server streams without gaps; this is for when it does not.

        Returns:
            Whether the message is next: not if the connection broke. Then all of it comes again by `sync`.
        """
        if before <= conversation.cursor + 1:
            return True
        found: Sequence[m.StoredMessage] = ()
        try:
            found = await self._host.missing(conversation.room, conversation.cursor, before)
        except LinkLost:
            return False
        except Refused:
            pass  # said below, with their number
        all_opened = await self.open_all(found)
        if self._stopped:
            return False
        items: list[Item] = []
        for opened in all_opened:
            lost = opened.message.seq - conversation.cursor - 1
            if lost >= 0 and opened.message.seq < before:
                items += self._not_given(conversation, lost)
                mark = self._host.mark_of(opened.message.sender)
                items.append(to_item(opened, conversation, self._host.user, mark))
                conversation.cursor = opened.message.seq
        items += self._not_given(conversation, before - conversation.cursor - 1)
        conversation.cursor = before - 1
        for item in items:
            self._say(item)
        return True

    @staticmethod
    def _not_given(conversation: Conversation, count: int) -> list[Item]:
        return [Unshown(conversation.title, count, not_shown("the server did not give them"))] if count else []

    async def _show_own(self, own: OwnMessage) -> None:
        message = m.StoredMessage(
            room=own.room, seq=own.seq, sender=self._host.user, device="", mid="", ts=0,
            package=m.Package(encrypted_message="", encrypted_keys={}, kids={}),
            to=UNSET if own.peer is None else own.peer,
        )  # fmt: skip
        conversation = self._host.conversation_of(message)
        if conversation is None or own.seq <= conversation.cursor:
            return
        if not await self._filled(conversation, own.seq):
            return
        self._say(to_item(Opened(message, own.text), conversation, self._host.user, ""))
        conversation.cursor = own.seq
        self._host.shown(conversation)


def open_messages(user: str, messages: Sequence[m.StoredMessage], keys: Mapping[str, Any]) -> Sequence[Opened]:
    """Opens messages with one's own entries; blocking, 4 ms each."""
    opened = []
    for message in messages:
        package = message.package
        wrapped, kid = package.encrypted_keys.get(user), package.kids.get(user)
        try:
            opened.append(Opened(message, open_package(package.encrypted_message, wrapped, kid, keys)))
        except Undecryptable as error:
            opened.append(Opened(message, reason=str(error)))
    return opened


def to_item(opened: Opened, conversation: Conversation, user: str, mark: str, *, timed: bool = False) -> Item:
    """How one message is shown."""
    message = opened.message
    at = message.ts if timed else None
    if opened.reason:
        before = message.seq <= conversation.first and not message.package.encrypted_keys
        return Unshown(conversation.title, 1, BEFORE_JOIN if before else not_shown(opened.reason))
    if conversation.peer is not None:
        return PrivateMessage(conversation.peer, opened.text, message.sender == user, at, mark)
    return RoomMessage(conversation.room, message.sender, opened.text, at, mark)


def fold(items: Sequence[Item]) -> list[Item]:
    """Runs of messages that are not shown for one reason become one line."""
    folded: list[Item] = []
    for item in items:
        last = folded[-1] if folded else None
        if isinstance(item, Unshown) and isinstance(last, Unshown) and item.same_as(last):
            folded[-1] = Unshown(last.where, last.count + item.count, last.reason)
        else:
            folded.append(item)
    return folded
