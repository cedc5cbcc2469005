"""Many writers, one commit: what arrives while one commit runs shares the next one, and its fsync."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from securechat.errors import BUSY, TRY_AGAIN, Refused
from securechat.storage.connection import RETRY_AFTER, Refusals
from securechat.storage.queries.common import Cursor

BATCH: Final = 512  # operations a commit: more made it no faster, but would keep the first one waiting
QUEUE: Final = 10_000  # operations waiting, a second's worth; then new ones are refused

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


@dataclass(slots=True)
class _Operation:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    answer: Deferred[Any]
    grouped: bool = False


class GroupCommit:
    """The queue in front of the one connection that writes.

    Args:
        pool: of one connection, in autocommit mode: transactions are begun and ended here. adbapi's own
            commit() and rollback() around each interaction then find none open, unless ours failed half-way;
            then its rollback() ends it.
        refusals: what failures become.
        undone: called in the writer's thread when more than one operation was rolled back.
        before: called in the writer's thread with the function of each operation that is not grouped, before it runs.
    """

    log = Logger()

    def __init__(
        self,
        pool: ConnectionPool,
        refusals: Refusals,
        undone: Callable[[], None],
        before: Callable[[Callable[..., Any]], None] = lambda function: None,
    ) -> None:
        self._pool = pool
        self._refusals = refusals
        self._undone = undone
        self._before = before
        self._queue: deque[_Operation] = deque()
        self._taken: list[_Operation] = []
        self._running = False
        self._closed: Deferred[None] | None = None

    def submit(self, function: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Queues an operation; in the reactor's thread.

        Args:
            function: called in the writer's thread, inside a savepoint of its own.

        Returns:
            What it returned, once that is on disk; or Refused. Cancelling it gives up the answer, not the
            operation.

        Raises:
            Refused: `busy`; `try_again` while the server stops.
        """
        return self._queued(_Operation(function, args, kwargs, Deferred()))

    def submit_grouped(self, function: Callable[[Cursor, Sequence[A]], Sequence[T | Refused]], item: A) -> Deferred[T]:
        """As `submit`, but those of one function that come one after the other are one call.

        Args:
            function: called with all their items, inside one savepoint; answers an outcome for each. Where it raises,
                it is called again with each alone; where one alone raises, once more after `undone`.
        """
        return self._queued(_Operation(function, (item,), {}, Deferred(), grouped=True))

    def _queued(self, operation: _Operation) -> Deferred[Any]:
        if self._closed is not None:
            raise Refused(TRY_AGAIN, retry_after=RETRY_AFTER)
        if len(self._queue) >= QUEUE:
            raise Refused(BUSY, retry_after=1.0)
        self._queue.append(operation)
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._drain()).addErrback(self._broke)
        return operation.answer

    def close(self) -> Deferred[None]:
        """Takes nothing more; fires when all that was queued has been answered."""
        self._closed = Deferred()
        if not self._running:
            self._closed.callback(None)
        return self._closed

    def _broke(self, failure: Failure) -> None:
        """A fault of ours in the queue itself: nobody must wait for ever, and what comes next must be stored."""
        left, self._queue = list(self._queue), deque()
        for operation in (*self._taken, *left):
            if not operation.answer.called:
                operation.answer.errback(Refused(TRY_AGAIN, retry_after=RETRY_AFTER))
        self._ran_dry()
        self.log.failure("The queue of the store broke; it goes on.", failure)

    def _ran_dry(self) -> None:
        self._running = False
        self._taken = []
        if self._closed is not None and not self._closed.called:
            self._closed.callback(None)

    async def _drain(self) -> None:
        answers: list[tuple[_Operation, object]] = []
        while self._queue or answers:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._taken = [*(operation for operation, _ in answers), *batch]
            commit = maybeDeferred(self._pool.runInteraction, self._commit, batch) if batch else None
            # The previous commit is answered while this one runs.
            for operation, outcome in answers:
                operation.answer.callback(outcome)
            answers = list(zip(batch, await self._outcomes(commit, batch), strict=True)) if commit else []
        self._ran_dry()

    async def _outcomes(self, commit: Deferred[list[object]], batch: list[_Operation]) -> list[object]:
        """What each operation is answered: a result, or a Failure of Refused."""
        try:
            outcomes = await commit
        except Exception:  # whatever it was, nothing of the batch is stored
            failure = Failure()
            return [Failure(self._refusals.of_commit(failure)) for _ in batch]
        return [
            Failure(self._refusals.of_operation(outcome)) if isinstance(outcome, Failure) else outcome
            for outcome in outcomes
        ]

    def _commit(self, transaction: Any, batch: list[_Operation]) -> list[object]:
        """Runs a batch in one transaction; in the writer's thread.

        Returns:
            Each operation's result or Failure, all on disk.

        Raises:
            Exception: nothing of the batch is stored.
        """
        cursor = transaction.connection.cursor()  # not adbapi's wrapper, which looks up every method twice
        try:
            cursor.execute("BEGIN IMMEDIATE")
            outcomes: list[object] = []
            for grouped, run in groupby(batch, lambda operation: operation.grouped and operation.function):
                if grouped:
                    outcomes += self._attempt_group(cursor, list(run))
                else:
                    outcomes += [self._attempt(cursor, operation) for operation in run]
            cursor.execute("COMMIT")
        except BaseException:
            self._undone()
            raise
        return outcomes

    def _attempt_group(self, cursor: Any, operations: list[_Operation], *, again: bool = False) -> list[object]:
        cursor.execute("SAVEPOINT operation")
        try:
            outcomes = operations[0].function(cursor, [operation.arguments[0] for operation in operations])
        except Exception:  # one of them is at fault
            self._undone()
            if not cursor.connection.in_transaction:
                raise  # SQLite itself rolled everything back
            failure = Failure()
            cursor.execute("ROLLBACK TO operation")
            cursor.execute("RELEASE operation")
            if again:
                return [failure]
            if len(operations) == 1:  # what was remembered may be at fault, and is forgotten now
                return self._attempt_group(cursor, operations, again=True)
            alone = [self._attempt_group(cursor, [operation]) for operation in operations]
            return [outcome for (outcome,) in alone]
        cursor.execute("RELEASE operation")
        return [Failure(outcome) if isinstance(outcome, Refused) else outcome for outcome in outcomes]

    def _attempt(self, cursor: Any, operation: _Operation) -> object:
        self._before(operation.function)
        cursor.execute("SAVEPOINT operation")
        try:
            outcome = operation.function(cursor, *operation.arguments, **operation.named)
        except Exception as error:  # whatever it was, it is this operation's alone
            if not cursor.connection.in_transaction:
                raise  # SQLite itself rolled everything back, the operations before included
            outcome = Failure(error.with_traceback(None)) if isinstance(error, Refused) else Failure()
            cursor.execute("ROLLBACK TO operation")
        cursor.execute("RELEASE operation")
        return outcome
