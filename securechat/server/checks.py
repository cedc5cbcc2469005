"""Password checks in threads of their own, and how often one may try."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from securechat.chat.buckets import BucketTable
from securechat.crypto.passwords import Hasher
from securechat.errors import BUSY, RATE_LIMITED, Refused
from securechat.wire import limits

T = TypeVar("T")
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_NICE: Final = 10  # niceness more: a tenth of the time of a core that others want too


class Behind(threading.Thread):
    """A thread that runs behind others, where threads have priorities of their own (Linux)."""

    def run(self) -> None:
        """As Thread's."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
        super().run()


class PasswordChecks:
    """bcrypt in a small pool that nothing else uses, behind everything else: a login storm slows logins, not messages.

    Args:
        threads: one hash a core at a time, with a core left for messages where there is one.
        queue: checks that may wait; more are refused as `busy`.
    """

    def __init__(
        self, reactor: IReactorFromThreads, hasher: Hasher, *, threads: int, queue: int = limits.HASH_QUEUE
    ) -> None:
        self._reactor = reactor
        self._hasher = hasher
        self._pool = ThreadPool(1, max(1, threads), name="passwords")
        self._pool.threadFactory = Behind
        self._queue = queue
        self._waiting = 0
        self._stopping = False

    def start(self) -> None:
        """Starts the threads."""
        self._pool.start()

    def stop(self) -> None:
        """Ends the threads, after the checks under way; those that wait are refused."""
        self._stopping = True
        self._pool.stop()

    async def verify(self, token: str, stored: str | None) -> bool:
        """Whether a token has this hash; None takes as long and is False. Raises Refused: `busy`."""
        return await self._run(lambda: self._hasher.verify(token, stored))

    async def hash(self, token: str) -> str:
        """A new hash. Raises Refused: `busy`."""
        return await self._run(lambda: self._hasher.hash(token))

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash is of an older kind than new ones; cheap."""
        return self._hasher.needs_rehash(stored)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._queue:
            raise Refused(BUSY, retry_after=2.0)
        self._waiting += 1
        try:
            result: T = await deferToThreadPool(self._reactor, self._pool, self._unless_stopping, work)
            return result
        finally:
            self._waiting -= 1

    def _unless_stopping(self, work: Callable[[], T]) -> T:
        if self._stopping:
            raise Refused(BUSY, retry_after=2.0)
        return work()


class Admission:
    """How often somebody may try a password.

    A stranger who guesses at an account uses up the bucket of that account *and the stranger's address*, so its owner
    elsewhere is not locked out; nor is the owner on the same address, whose device proves itself and has a bucket of
    its own.
    """

    def __init__(
        self,
        *,
        per_account: int = limits.LOGINS_PER_ACCOUNT,
        per_address: int = limits.LOGINS_PER_ADDRESS,
    ) -> None:
        self._accounts = BucketTable(per_account / _MINUTE, per_account)
        self._addresses = BucketTable(per_address / _MINUTE, per_address)
        self._devices = BucketTable(per_account / _MINUTE, per_account)
        self._members = BucketTable(limits.MEMBERSHIP_PER_SECOND, limits.MEMBERSHIP_BURST)
        self._acts = BucketTable(limits.ACTS_PER_HOUR / _HOUR, limits.ACTS_PER_HOUR)
        self._lists = BucketTable(limits.PUBLISH_PER_HOUR / _HOUR, limits.PUBLISH_BURST)
        self._notes = BucketTable(limits.NOTES_PER_SECOND, limits.NOTE_BURST)
        self._typists = BucketTable(1 / limits.TYPING_SECONDS, 1)
        self._typing = BucketTable(limits.TYPING_PER_SECOND, limits.TYPING_BURST)

    def known_device(self, user: str, device: str, now: float) -> None:
        """A device of the account proved itself. Raises Refused: `rate_limited`."""
        self._pass(self._devices.take((user, device), now))

    def stranger(self, user: str, address: str, now: float) -> None:
        """Anybody else. Raises Refused: `rate_limited`."""
        self.address(address, now)
        self._pass(self._accounts.take((user, address), now))

    def address(self, address: str, now: float) -> None:
        """An attempt that is not at one account, as a registration. Raises Refused: `rate_limited`."""
        self._pass(self._addresses.take(address, now))

    def membership(self, user: str, now: float, events: int = 1) -> None:
        """Somebody acts in a room, or gives back so many events. Raises Refused: `rate_limited`."""
        self._pass(self._members.take(user, now, events))

    def membership_undone(self, user: str, events: int) -> None:
        """Of what `membership` let through, so many events did not come into a log."""
        self._members.put_back(user, events)

    def act(self, user: str, room: str, now: float) -> float:
        """Somebody joins, leaves or invites: 0.0, or the seconds until they may do so again in this room."""
        return _whole(self._acts.take((user, room), now))

    def act_undone(self, user: str, room: str) -> None:
        """Nothing came of what `act` let through."""
        self._acts.put_back((user, room))

    def publish(self, user: str, now: float) -> None:
        """Somebody publishes a device list. Raises Refused: `rate_limited`."""
        self._pass(self._lists.take(user, now))

    def publish_undone(self, user: str) -> None:
        """Nothing came of what `publish` let through."""
        self._lists.put_back(user)

    def note(self, user: str, now: float) -> None:
        """Somebody stores a note. Raises Refused: `rate_limited`."""
        self._pass(self._notes.take(user, now))

    def typing(self, user: str, device: str, conversation: str, now: float) -> bool:
        """Whether others may be told that somebody types there; not again for a while, unless `typing_undone`."""
        return not self._typists.take((user, device, conversation), now)

    def typing_undone(self, user: str, device: str, conversation: str) -> None:
        """They may not type there, and nobody was told."""
        self._typists.put_back((user, device, conversation))

    def typing_told(self, conversation: str, now: float) -> bool:
        """Whether one more word of somebody who types may go out in a conversation."""
        return not self._typing.take(conversation, now)

    @staticmethod
    def _pass(wait: float) -> None:
        if wait:
            raise Refused(RATE_LIMITED, retry_after=_whole(wait))


def _whole(wait: float) -> float:
    """A wait in whole seconds, and long enough."""
    return float(int(wait) + 1) if wait else 0.0
