"""Reading, beside the writer: a few threads with connections that cannot write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from securechat.errors import BUSY, TRY_AGAIN, Refused
from securechat.storage.connection import RETRY_AFTER, Refusals
from securechat.storage.queries.common import Cursor

READS: Final = 2_000  # reads running and waiting, a second's worth; then new ones are refused

P = ParamSpec("P")
T = TypeVar("T")


class ReadPool:
    """Reads that run side by side, each on one consistent view of what is committed.

    Args:
        pool: of connections in autocommit mode that may only read.
        refusals: what failures become.
    """

    def __init__(self, pool: ConnectionPool, refusals: Refusals) -> None:
        self._pool = pool
        self._refusals = refusals
        self._running = 0
        self._closed: Deferred[None] | None = None

    def submit(self, function: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Calls a function in a reader's thread; what it raises arrives as Refused.

        Raises:
            Refused: `busy`; `try_again` while the server stops.
        """
        return self._start(lambda: self._pool.runInteraction(self._read, function, *args, **kwargs))

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Calls what opens connections of its own in a reader's thread; else as `submit`."""
        return self._start(lambda: self._pool.runWithConnection(lambda connection: work()))

    def _start(self, begin: Callable[[], Deferred[T]]) -> Deferred[T]:
        if self._closed is not None:
            raise Refused(TRY_AGAIN, retry_after=RETRY_AFTER)
        if self._running >= READS:
            raise Refused(BUSY, retry_after=1.0)
        self._running += 1
        answer: Deferred[T] = Deferred()
        # Not the pool's own Deferred: who cancels must not hide from `close` that the thread still reads.
        maybeDeferred(begin).addBoth(self._answer, answer)
        return answer

    def close(self) -> Deferred[None]:
        """Takes nothing more; fires when all reads have been answered."""
        self._closed = Deferred()
        if not self._running:
            self._closed.callback(None)
        return self._closed

    def _read(self, transaction: Any, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        cursor = transaction.connection.cursor()
        cursor.execute("BEGIN")  # all queries of one verb see the same; adbapi's commit() or rollback() ends it
        return function(cursor, *args, **kwargs)

    def _answer(self, outcome: object, answer: Deferred[Any]) -> None:
        answer.callback(Failure(self._refusals.of_operation(outcome)) if isinstance(outcome, Failure) else outcome)
        self._running -= 1  # not before: whoever was answered may have called `close`
        if self._closed is not None and not self._running:
            self._closed.callback(None)
