"""The store with its real threads: order, group commit, reading beside writing, stopping, and a crash."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

import securechat
from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.errors import TRY_AGAIN, Refused
from securechat.storage.interface import Appended, NewMessage
from securechat.storage.sqlite import SQLiteStore
from tests.doubles import gathered, new_account, new_message

READERS = ["alice", "bob", "carol"]


def open_store(path: Path, pool: Callable[..., ConnectionPool] = ConnectionPool) -> SQLiteStore:
    """A store on the file, under the key file beside it."""
    key_file = path.with_suffix(".key")
    if not key_file.exists():
        key_file.write_text(new_key_file())
    clock: Any = reactor
    store = SQLiteStore(path, KeyEncryptionKeys(key_file.read_text()), reactor=clock, pool=pool)
    store.open()
    return store


async def gather(store: SQLiteStore) -> None:
    """Makes three accounts, and a room of them."""
    for user in READERS:
        await store.register(new_account(user), invite_hash=None, now=1)
    for signed in gathered(READERS).events:
        await store.act("ops", signed, wait=0.0, now=1)


async def write_until_killed(path: Path) -> None:
    """Appends without end, and prints the number of each message once it is acknowledged."""
    store = open_store(path)
    await gather(store)
    number = 0
    while True:
        batch = [new_message("alice", READERS, number + more) for more in range(1, 9)]
        for appended in await gatherResults([Deferred.fromCoroutine(store.append(message)) for message in batch]):
            print(appended.seq, flush=True)
        number += len(batch)


class StoreTests(TestCase):
    """Tests on a file of their own."""

    timeout = 20

    def setUp(self) -> Any:  # twisted's waits for what setUp returns, unittest's does not
        self.path = Path(self.mktemp())
        self.threads = set(threading.enumerate())
        self.pools: list[ConnectionPool] = []
        self.store = open_store(self.path, self.make_pool)
        self.addCleanup(lambda: self.store.close())
        return Deferred.fromCoroutine(gather(self.store))

    def make_pool(self, *args: Any, **kw: Any) -> ConnectionPool:
        self.pools.append(ConnectionPool(*args, **kw))
        return self.pools[-1]

    def append(self, message: NewMessage) -> Deferred[Appended]:
        return Deferred.fromCoroutine(self.store.append(message))

    @contextmanager
    def commits(self) -> Iterator[list[str]]:
        """Meanwhile, collects the COMMITs of the writer."""
        (writer,) = self.pools[0].connections.values()
        seen: list[str] = []
        writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
        yield seen
        writer.set_trace_callback(None)

    async def test_order(self) -> None:
        """Concurrent sends are numbered in the order of the calls, answered in it, in the reactor's thread."""
        heard: list[tuple[str, int, int]] = []

        def hear(appended: Appended, sender: str) -> None:
            heard.append((sender, appended.seq, threading.get_ident()))

        calls = [(user, number) for number in range(1, 41) for user in READERS]
        with self.commits() as commits:
            await gatherResults(
                [self.append(new_message(user, READERS, number)).addCallback(hear, user) for user, number in calls]
            )
        here = threading.get_ident()
        self.assertEqual([(user, seq, here) for seq, (user, _) in enumerate(calls, 1)], heard)
        # The first send may have a commit for itself; all that came meanwhile share one.
        self.assertIn(len(commits), (1, 2))

    async def test_answered_in_one_turn(self) -> None:
        """All answers of a commit arrive in one turn of the reactor, so that they can leave together."""
        turn = 0

        def count() -> None:
            nonlocal turn
            turn += 1

        counting = task.LoopingCall(count)
        counting.start(0)
        first = self.append(new_message("alice", READERS, 1))
        turns = [self.append(new_message("alice", READERS, n)).addCallback(lambda _: turn) for n in range(2, 50)]
        await first
        self.assertEqual(1, len(set(await gatherResults(turns))))
        counting.stop()

    async def test_reading_beside_writing(self) -> None:
        """Pages read while others write have no gap and no message out of order."""
        writing = gatherResults([self.append(new_message("alice", READERS, n)) for n in range(1, 301)])
        pages = []
        while not writing.called:
            pages.append(await self.store.read("bob", "ops", after=0, before=None, limit=200, max_bytes=10**7))
        await writing
        for page in pages:
            self.assertEqual(list(range(1, len(page.messages) + 1)), [row.seq for row in page.messages])

    async def test_what_was_answered_can_be_read(self) -> None:
        """Whoever reads after an answer sees what was answered."""
        for number in range(1, 21):
            await self.append(new_message("alice", READERS, number))
            page = await self.store.read("bob", "ops", after=None, before=None, limit=1, max_bytes=10**7)
            self.assertEqual([number], [row.seq for row in page.messages])

    async def test_cancelled(self) -> None:
        """Who gives up waiting disturbs nobody."""
        answers = [self.append(new_message("alice", READERS, number)) for number in range(1, 11)]
        answers[4].addErrback(lambda failure: failure.trap(CancelledError))
        answers[4].cancel()
        await gatherResults(answers)
        (record,) = await self.store.conversations("alice")
        self.assertEqual(10, record.last)

    async def test_stop(self) -> None:
        """Stopping answers what was asked, leaves no thread, and leaves one file."""
        answers = [self.append(new_message("alice", READERS, number)) for number in range(1, 101)]
        reading = Deferred.fromCoroutine(self.store.rooms("alice"))
        await self.store.close()
        self.assertTrue(reading.called)
        self.assertEqual([True] * 100, [answer.called for answer in answers])
        self.assertEqual(100, len(await gatherResults(answers)))
        self.assertEqual(set(), set(threading.enumerate()) - self.threads)
        files = {path.name for path in self.path.parent.glob(f"{self.path.name}*")}
        self.assertEqual({self.path.name, f"{self.path.name}.key"}, files)
        with self.assertRaises(Refused) as refused:
            await self.append(new_message("alice", READERS, 101))
        self.assertIs(TRY_AGAIN, refused.exception.code)


class CrashTests(TestCase):
    """Tests for a server that is killed."""

    timeout = 60

    async def test_acknowledged_means_stored(self) -> None:
        """What was acknowledged before a SIGKILL is in the history, without gaps."""
        path = Path(self.mktemp()).absolute()
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.test_storage_sqlite", str(path)],
            cwd=Path(securechat.__file__).parent.parent,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        acknowledged += map(int, child.stdout.read().split())
        child.wait()
        child.stdout.close()
        store = open_store(path)
        self.addCleanup(store.close)
        (record,) = await store.conversations("bob")
        self.assertEqual(list(range(1, len(acknowledged) + 1)), acknowledged)
        self.assertGreaterEqual(record.last, acknowledged[-1])
        seqs: list[int] = []
        while rows := (
            await store.read("bob", "ops", after=len(seqs), before=None, limit=200, max_bytes=10**7)
        ).messages:
            seqs += [row.seq for row in rows]
        self.assertEqual(list(range(1, record.last + 1)), seqs)


if __name__ == "__main__":
    task.react(lambda _: Deferred.fromCoroutine(write_until_killed(Path(sys.argv[1]))))
