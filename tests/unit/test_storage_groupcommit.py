"""Group commit: many writes, one transaction, each answered for itself; and reads beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from securechat.errors import BUSY, DAMAGED, FULL, INTERNAL, NOT_MEMBER, TRY_AGAIN, Refused
from securechat.storage import connection, groupcommit, readpool
from securechat.storage.groupcommit import GroupCommit
from securechat.storage.queries.common import Cursor
from securechat.storage.readpool import ReadPool
from tests.doubles import InlinePool, InlineReactor


def insert(cursor: Cursor, value: int) -> int:
    """An operation that writes a row and answers with it."""
    cursor.execute("INSERT INTO t VALUES (?)", (value,))
    return value


def refuse(cursor: Cursor, value: int) -> None:
    """An operation that is refused half-way."""
    insert(cursor, value)
    raise Refused(NOT_MEMBER, room="ops")


def violate(cursor: Cursor) -> None:
    """An operation whose failure SQLite finds only when it commits."""
    cursor.execute("INSERT INTO child VALUES (99)")


def roll_back(cursor: Cursor) -> None:
    """An operation that fails so badly that SQLite rolls the whole transaction back."""
    cursor.execute("ROLLBACK")
    raise sqlite3.OperationalError("disk I/O error")


def fill(cursor: Cursor) -> None:
    """An operation that needs more pages."""
    cursor.executemany("INSERT INTO parent VALUES (?)", [(value,) for value in range(3000)])


class PoolCase(SynchronousTestCase):
    """Tests with a table in a file, and a pool whose one thread does its work when the test says so."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.other.close)
        self.other.executescript(
            "CREATE TABLE t (value INTEGER) STRICT; CREATE TABLE parent (id INTEGER PRIMARY KEY) STRICT;"
            "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED) STRICT;"
        )
        self.clock = Clock()
        self.refusals = connection.Refusals(self.clock.seconds)
        self.pool = self.make_pool(connection.configure)

    def make_pool(self, setup: Callable[[sqlite3.Connection], None]) -> InlinePool:
        pool = InlinePool(
            "sqlite3",
            **connection.arguments(self.path),
            cp_min=1,
            cp_max=1,
            cp_openfun=setup,
            cp_reactor=InlineReactor(),
        )
        self.addCleanup(pool.close)
        return pool

    def stored(self) -> list[int]:
        """What another connection sees: what is committed."""
        return [value for (value,) in self.other.execute("SELECT value FROM t ORDER BY rowid")]

    def codes(self, *answers: Deferred[Any]) -> list[object]:
        """What each was refused with."""
        failures = [self.failureResultOf(answer, Refused).value for answer in answers]
        return [failure.code for failure in failures if isinstance(failure, Refused)]


class GroupCommitTests(PoolCase):
    """Tests for GroupCommit."""

    def setUp(self) -> None:
        super().setUp()
        self.undone = 0
        self.commits = GroupCommit(self.pool, self.refusals, self.undo)
        self.statements: list[str] = []
        self.pool.connection.set_trace_callback(self.statements.append)

    def undo(self) -> None:
        self.undone += 1

    def submit_together(self, *operations: tuple[Any, ...]) -> list[Deferred[Any]]:
        """Operations of one batch, not yet run: they arrive while the commit of a first one runs."""
        threads = self.pool.threads
        threads.held = True
        first = self.commits.submit(insert, 0)
        answers = [self.commits.submit(*operation) for operation in operations]
        self.statements.clear()
        threads.run_next()
        self.successResultOf(first)
        return answers

    def run_batches(self) -> int:
        """Lets the thread run all it is given; answers how many commits that were."""
        self.statements.clear()
        while self.pool.threads.waiting:
            self.pool.threads.run_next()
        return self.statements.count("COMMIT")

    def test_result(self) -> None:
        """An operation's result arrives once another connection can see its work."""
        self.assertEqual(7, self.successResultOf(self.commits.submit(insert, 7)))
        self.assertEqual([7], self.stored())

    def test_named_arguments(self) -> None:
        """Arguments may be named."""
        self.assertEqual(7, self.successResultOf(self.commits.submit(insert, value=7)))

    def test_one_commit_for_many(self) -> None:
        """What arrives while a commit runs shares the next one, in the order in which it came."""
        answers = self.submit_together(*((insert, value) for value in range(1, 51)))
        self.assertEqual(1, self.run_batches())
        self.assertEqual(list(range(1, 51)), [self.successResultOf(answer) for answer in answers])
        self.assertEqual(list(range(51)), self.stored())

    def test_nothing_answered_before_the_commit(self) -> None:
        """Until the commit returned nobody hears anything."""
        answers = self.submit_together((insert, 1), (refuse, 2))
        self.assertEqual([0], self.stored())
        for answer in answers:
            self.assertNoResult(answer)
        self.run_batches()
        self.successResultOf(answers[0])
        self.assertEqual([NOT_MEMBER], self.codes(answers[1]))

    def test_order_of_answers(self) -> None:
        """Results and refusals come in the order of the calls, and the next batch's after all of them."""
        heard: list[int] = []

        def hear(_: object, number: int) -> None:
            heard.append(number)

        answers = self.submit_together((insert, 1), (refuse, 2), (insert, 3))
        for number, answer in enumerate(answers, 1):
            answer.addBoth(hear, number)
        self.pool.threads.held = False
        self.pool.threads.run_next()
        self.commits.submit(insert, 4).addCallback(hear, 4)
        self.assertEqual([1, 2, 3, 4], heard)

    def test_answered_while_the_next_runs(self) -> None:
        """The writer does not wait for those who hear of the last commit."""
        (first,) = self.submit_together((insert, 1))
        waiting: Deferred[int] = first.addCallback(lambda _: self.pool.threads.waiting)
        self.commits.submit(insert, 2)
        self.pool.threads.run_next()
        self.assertEqual(1, self.successResultOf(waiting))

    def test_asked_by_an_answer(self) -> None:
        """Whoever hears an answer may ask again at once."""
        again = self.commits.submit(insert, 1).addCallback(lambda _: self.commits.submit(insert, 2))
        self.assertEqual(2, self.successResultOf(again))
        self.assertEqual([1, 2], self.stored())

    def test_bounded_batch(self) -> None:
        """A commit takes so many operations and no more; the rest follow in the next."""
        self.patch(groupcommit, "BATCH", 3)
        answers = self.submit_together(*((insert, value) for value in range(1, 8)))
        self.assertEqual(3, self.run_batches())
        self.assertEqual(list(range(1, 8)), [self.successResultOf(answer) for answer in answers])
        self.assertEqual(list(range(8)), self.stored())

    def test_bounded_queue(self) -> None:
        """A full queue takes nothing more until the writer caught up."""
        self.patch(groupcommit, "QUEUE", 2)
        self.submit_together((insert, 1))
        for value in (2, 3):
            self.commits.submit(insert, value)
        error = self.assertRaises(Refused, self.commits.submit, insert, 4)
        self.assertEqual((BUSY, {"retry_after": 1.0}), (error.code, error.data))
        self.run_batches()
        self.commits.submit(insert, 4)
        self.run_batches()
        self.assertEqual([0, 1, 2, 3, 4], self.stored())

    def test_grouped(self) -> None:
        """Operations of one function that come one after the other are one call; each has its own outcome."""
        calls: list[list[int]] = []

        def insert_all(cursor: Any, values: Sequence[int]) -> list[object]:
            calls.append(list(values))
            return [Refused(NOT_MEMBER, room="ops") if value == 3 else insert(cursor, value) for value in values]

        self.pool.threads.held = True
        first = self.commits.submit(insert, 0)
        grouped = [self.commits.submit_grouped(insert_all, value) for value in (1, 2, 3, 4)]
        between = self.commits.submit(insert, 5)
        last = self.commits.submit_grouped(insert_all, 6)
        self.pool.threads.run_next()
        self.assertEqual(1, self.run_batches())
        self.assertEqual([[1, 2, 3, 4], [6]], calls)
        self.assertEqual([1, 2, 4], [self.successResultOf(grouped[at]) for at in (0, 1, 3)])
        self.assertEqual([NOT_MEMBER], self.codes(grouped[2]))
        self.assertEqual([0, 5, 6], [self.successResultOf(answer) for answer in (first, between, last)])
        self.assertEqual(([0, 1, 2, 4, 5, 6], 0), (self.stored(), self.undone))

    def test_grouped_fault(self) -> None:
        """Where one of them is at fault, each is tried again alone, that one twice; the others are stored."""

        def insert_all(cursor: Any, values: Sequence[int]) -> list[object]:
            done = [insert(cursor, value) for value in values]
            if 2 in values:
                raise ZeroDivisionError
            return done

        self.pool.threads.held = True
        self.commits.submit(insert, 0)
        grouped = [self.commits.submit_grouped(insert_all, value) for value in (1, 2, 3)]
        self.pool.threads.run_next()
        self.assertEqual(1, self.run_batches())
        self.assertEqual([INTERNAL], self.codes(grouped[1]))
        self.assertEqual([1, 3], [self.successResultOf(grouped[at]) for at in (0, 2)])
        self.assertEqual([0, 1, 3], self.stored())
        self.assertEqual(3, self.undone)  # for all, and for the one at fault, alone and again
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_grouped_remembered(self) -> None:
        """One that fails by what was remembered alone is stored, once that is forgotten."""
        remembered = {2}

        def insert_all(cursor: Any, values: Sequence[int]) -> list[object]:
            if remembered & {*values}:
                raise ZeroDivisionError
            return [insert(cursor, value) for value in values]

        commits = GroupCommit(self.pool, self.refusals, remembered.clear)
        self.assertEqual(2, self.successResultOf(commits.submit_grouped(insert_all, 2)))

    def test_broken_queue(self) -> None:
        """A fault of the queue itself keeps nobody waiting, and the queue goes on; so does who closes it."""
        genuine = self.pool.runInteraction

        def broken(*args: Any, **kw: Any) -> Any:
            self.pool.runInteraction = genuine
            raise KeyboardInterrupt

        self.pool.threads.held = True
        first = self.commits.submit(insert, 1)
        waiting = [self.commits.submit(insert, value) for value in (2, 3)]
        self.patch(groupcommit, "BATCH", 1)
        self.pool.runInteraction = broken
        self.pool.threads.held = False
        with contextlib.suppress(KeyboardInterrupt):
            self.pool.threads.run_next()
        self.assertEqual(1, self.successResultOf(first))
        self.assertEqual([TRY_AGAIN] * 2, self.codes(*waiting))
        self.flushLoggedErrors()
        self.assertEqual(4, self.successResultOf(self.commits.submit(insert, 4)))
        self.successResultOf(self.commits.close())

    def test_before(self) -> None:
        """Each operation that is not grouped is announced before it runs."""
        seen: list[object] = []
        commits = GroupCommit(self.pool, self.refusals, self.undo, seen.append)
        self.successResultOf(commits.submit(insert, 1))
        self.successResultOf(commits.submit_grouped(lambda cursor, values: values, 2))
        self.assertEqual([insert], seen)

    def test_refused_one_hurts_nobody(self) -> None:
        """A refusal takes back what its operation did, and nothing else of the batch."""
        before, refused, after = self.submit_together((insert, 1), (refuse, 2), (insert, 3))
        self.assertEqual(1, self.run_batches())
        self.assertEqual((1, 3), (self.successResultOf(before), self.successResultOf(after)))
        self.assertEqual([NOT_MEMBER], self.codes(refused))
        self.assertEqual([0, 1, 3], self.stored())
        self.assertEqual(0, self.undone)

    def test_broken_one_hurts_nobody(self) -> None:
        """A bug in one operation, in Python or SQL, is logged and is `internal` for it alone."""

        def broken_sql(cursor: Cursor) -> None:
            insert(cursor, 2)
            cursor.execute("INSERT INTO t VALUES ('text')")

        before, python, sql, after = self.submit_together((insert, 1), (insert,), (broken_sql,), (insert, 3))
        self.run_batches()
        self.assertEqual([INTERNAL, INTERNAL], self.codes(python, sql))
        self.assertEqual((1, 3), (self.successResultOf(before), self.successResultOf(after)))
        self.assertEqual([0, 1, 3], self.stored())
        self.assertEqual(2, len(self.flushLoggedErrors(TypeError, sqlite3.IntegrityError)))

    def test_commit_fails(self) -> None:
        """If the commit itself fails nothing is acknowledged, nothing is stored, and the next one works."""
        answers = self.submit_together((insert, 1), (violate,), (insert, 2))
        self.run_batches()
        self.assertEqual([TRY_AGAIN] * 3, self.codes(*answers))
        self.assertEqual([0], self.stored())
        self.assertEqual(1, self.undone)
        self.assertEqual(1, len(self.flushLoggedErrors(sqlite3.IntegrityError)))
        self.pool.threads.held = False
        self.assertEqual(3, self.successResultOf(self.commits.submit(insert, 3)))
        self.assertEqual([0, 3], self.stored())

    def test_rolled_back_by_sqlite(self) -> None:
        """If SQLite gives up the transaction, those whose work went with it are not told it is stored."""
        answers = self.submit_together((insert, 1), (roll_back,), (insert, 2))
        self.run_batches()
        self.assertEqual([TRY_AGAIN] * 3, self.codes(*answers))
        self.assertEqual([0], self.stored())
        self.assertEqual(1, self.undone)
        self.flushLoggedErrors(sqlite3.OperationalError)

    def test_locked_from_the_start(self) -> None:
        """What an operation read stays true until it is committed: nobody writes in between."""

        def add_one(cursor: Cursor) -> str:
            cursor.execute("SELECT count(*) FROM t")
            self.other.execute("PRAGMA busy_timeout = 0")
            error = self.assertRaises(sqlite3.OperationalError, self.other.execute, "INSERT INTO t VALUES (9)")
            return str(error)

        self.assertIn("locked", self.successResultOf(self.commits.submit(add_one)))

    def test_locked(self) -> None:
        """While a tool on the same file holds its lock for too long, everybody is asked to try again."""
        self.pool.connection.execute("PRAGMA busy_timeout = 0")
        self.other.execute("BEGIN IMMEDIATE")
        answer = self.commits.submit(insert, 1)
        failure = self.failureResultOf(answer, Refused).value
        assert isinstance(failure, Refused)
        self.assertEqual((TRY_AGAIN, {"retry_after": 2.0}), (failure.code, failure.data))
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.other.execute("ROLLBACK")
        self.assertEqual(2, self.successResultOf(self.commits.submit(insert, 2)))

    def test_disk_full(self) -> None:
        """A full disk is `full` to the whole commit, for SQLite gives it up; with space again all goes on."""
        writer = self.pool.connection
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        answers = self.submit_together((insert, 1), (fill,), (insert, 2))
        self.run_batches()
        self.assertEqual([FULL] * 3, self.codes(*answers))
        self.assertEqual([0], self.stored())
        self.flushLoggedErrors(sqlite3.OperationalError)
        writer.execute("PRAGMA max_page_count = 1000000")
        self.pool.threads.held = False
        self.successResultOf(self.commits.submit(fill))
        self.assertEqual((3000,), self.other.execute("SELECT count(*) FROM parent").fetchone())

    def test_trouble_is_logged_once_a_minute(self) -> None:
        """However many requests fail for the same passing reason, the operator reads one line a minute."""
        writer = self.pool.connection
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        logged = []
        for seconds in (0, 30, 29, 1):
            self.clock.advance(seconds)
            self.assertEqual([FULL], self.codes(self.commits.submit(fill)))
            logged.append(len(self.flushLoggedErrors(sqlite3.OperationalError)))
        self.assertEqual([1, 0, 0, 1], logged)

    def test_cancelled(self) -> None:
        """Who gives up an answer harms neither the batch nor their own operation."""
        before, cancelled, after = self.submit_together((insert, 1), (insert, 2), (insert, 3))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.run_batches()
        self.assertEqual((1, 3), (self.successResultOf(before), self.successResultOf(after)))
        self.assertEqual([0, 1, 2, 3], self.stored())

    def test_close_waits(self) -> None:
        """Closing answers all that was asked before, and refuses what comes after."""
        answers = self.submit_together((insert, 1), (insert, 2))
        closed = self.commits.close()
        self.assertNoResult(closed)
        error = self.assertRaises(Refused, self.commits.submit, insert, 3)
        self.assertEqual(TRY_AGAIN, error.code)
        self.run_batches()
        self.successResultOf(closed)
        self.assertEqual([1, 2], [self.successResultOf(answer) for answer in answers])

    def test_close_idle(self) -> None:
        """With nothing to wait for, it closes at once."""
        self.successResultOf(self.commits.close())

    def test_closed_by_an_answer(self) -> None:
        """Whoever hears an answer may close."""
        closed = self.commits.submit(insert, 1).addCallback(lambda _: self.commits.close())
        self.assertIsNone(self.successResultOf(closed))

    def test_no_transaction_left(self) -> None:
        """Whatever happened, the connection is left without a transaction, as adbapi expects it."""
        for operation in (insert, refuse):
            self.commits.submit(operation, 1).addErrback(lambda _: None)
            self.assertFalse(self.pool.connection.in_transaction)
        self.commits.submit(violate).addErrback(lambda _: None)
        self.assertFalse(self.pool.connection.in_transaction)
        self.flushLoggedErrors(sqlite3.IntegrityError)


class ReadPoolTests(PoolCase):
    """Tests for ReadPool."""

    def setUp(self) -> None:
        super().setUp()
        self.other.execute("INSERT INTO t VALUES (1)")
        self.pool.connection  # noqa: B018  # makes it a WAL database, in which readers and writers do not wait
        self.readers = self.make_pool(connection.configure_reader)
        self.reads = ReadPool(self.readers, self.refusals)

    @staticmethod
    def sum(cursor: Cursor) -> int:
        """A read."""
        cursor.execute("SELECT sum(value) FROM t")
        return int(cursor.fetchone()[0])

    def test_result(self) -> None:
        """A read answers with what is committed."""
        self.assertEqual(1, self.successResultOf(self.reads.submit(self.sum)))
        self.other.execute("INSERT INTO t VALUES (2)")
        self.assertEqual(3, self.successResultOf(self.reads.submit(self.sum)))

    def test_one_view(self) -> None:
        """All queries of one read see the same, whatever is committed in between."""

        def twice(cursor: Cursor) -> tuple[int, int]:
            first = self.sum(cursor)
            self.other.execute("INSERT INTO t VALUES (10)")
            return first, self.sum(cursor)

        self.assertEqual((1, 1), self.successResultOf(self.reads.submit(twice)))

    def test_cannot_write(self) -> None:
        """A reader's connection refuses to write."""
        self.assertEqual([INTERNAL], self.codes(self.reads.submit(insert, 2)))
        self.assertEqual([1], self.stored())
        self.assertIn("readonly", str(self.flushLoggedErrors(sqlite3.OperationalError)[0].value))

    def test_refused(self) -> None:
        """A refusal arrives as it is and leaves no transaction behind."""

        def refused(cursor: Cursor) -> None:
            raise Refused(NOT_MEMBER, room="ops")

        self.assertEqual([NOT_MEMBER], self.codes(self.reads.submit(refused)))
        self.assertFalse(self.readers.connection.in_transaction)

    def test_damage_is_logged(self) -> None:
        """Altered rows are the operator's business too."""

        def damaged(cursor: Cursor) -> None:
            raise Refused(DAMAGED, room="ops")

        with capturedLogs() as events:
            self.assertEqual([DAMAGED], self.codes(self.reads.submit(damaged)))
        self.assertEqual(["ops"], [event["room"] for event in events])

    def test_bounded(self) -> None:
        """So many may wait and no more; when they were answered there is room again."""
        self.patch(readpool, "READS", 2)
        self.readers.threads.held = True
        answers = [self.reads.submit(self.sum) for _ in range(2)]
        error = self.assertRaises(Refused, self.reads.submit, self.sum)
        self.assertEqual((BUSY, {"retry_after": 1.0}), (error.code, error.data))
        self.readers.threads.run_next()
        self.assertEqual(1, self.successResultOf(answers[0]))
        self.reads.submit(self.sum)

    def test_close_waits(self) -> None:
        """Closing waits for reads that still run, also for one whose caller gave up."""
        self.readers.threads.held = True
        answer = self.reads.submit(self.sum)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        closed = self.reads.close()
        self.assertNoResult(closed)
        self.assertEqual(TRY_AGAIN, self.assertRaises(Refused, self.reads.submit, self.sum).code)
        self.readers.threads.run_next()
        self.successResultOf(closed)

    def test_closed_by_an_answer(self) -> None:
        """Whoever hears an answer may close."""
        closed = self.reads.submit(self.sum).addCallback(lambda _: self.reads.close())
        self.assertIsNone(self.successResultOf(closed))
