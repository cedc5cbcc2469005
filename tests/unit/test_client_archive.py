"""Tests for the archive of messages, over a real file and in the caller's thread."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.archive import CACHED, Archive, Found
from securechat.client.kept import DELETED
from securechat.client.pages import MESSAGES, Card, Kept, evict, key_named, name_of
from securechat.client.search import BadQuery, parse_query
from securechat.client.store import CannotKeep, LocalStore
from securechat.crypto.keystore import RecordSealer
from tests.doubles import InlinePool, InlineReactor, InlineThreads

KEY: Final = b"k" * 32
ROOM: Final = "a" * 64
OTHER: Final = "b" * 64
PRIVATE: Final = "pm:" + "c" * 64
TITLES: Final = {ROOM: "ops", PRIVATE: "@bob"}


def kept(seq: int, body: str = "", *, at: int | None = None, sender: str = "alice", hidden: str = "") -> Kept:
    """A message; by itself its text is its number, and so is its time."""
    return Kept(seq, seq if at is None else at, sender, "", f"{seq:064x}", body or f"text {seq}", "", hidden)


class ArchiveCase(SynchronousTestCase):
    """A store, an archive over it, and short ways to use them."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.pool: Any = None
        self.reopen()

    def reopen(self, **options: Any) -> Archive:
        """Another run of the client: what was not written is lost."""

        def pool(*args: Any, **kw: Any) -> InlinePool:
            made = self.pool = InlinePool(*args, **kw)
            return made

        self.store = LocalStore(self.path, RecordSealer(KEY), reactor=InlineReactor(), pool=pool)
        self.addCleanup(self.store.close)
        options.setdefault("run", lambda work, *args: succeed(work(*args)))
        self.archive = Archive(self.store, **options)
        return self.archive

    @property
    def threads(self) -> InlineThreads:
        """The store's thread."""
        threads: InlineThreads = self.pool.threads
        return threads

    def do(self, verb: Any) -> Any:
        """What a verb answers that has nothing to wait for."""
        return self.successResultOf(Deferred.fromCoroutine(verb))

    async def write(self, cursor: int = 0) -> None:
        """One write, with a cursor beside the pages."""
        async with self.archive.unsaved() as batch:
            await self.store.write([("conv", ROOM, cursor), *batch.puts], batch.deletes)

    def save(self) -> None:
        """One write, which the disk takes."""
        self.do(self.write())

    def put(self, seqs: Iterable[int], conversation: str = ROOM, body: str = "") -> None:
        """Puts messages."""
        for seq in seqs:
            self.archive.put(conversation, kept(seq, body))

    def bodies(self, seqs: Iterable[int], conversation: str = ROOM) -> dict[int, str]:
        """What is kept of some messages."""
        found = self.do(self.archive.at(conversation, list(seqs)))
        return {seq: each.body for seq, each in found.items()}

    def before(self, seq: int, count: int, conversation: str = ROOM) -> list[int]:
        """Numbers of the newest before one."""
        return [each.seq for each in self.do(self.archive.before(conversation, seq, count))]

    def after(self, seq: int, count: int, conversation: str = ROOM) -> list[int]:
        """Numbers of the oldest behind one."""
        return [each.seq for each in self.do(self.archive.after(conversation, seq, count))]

    def found(self, text: str, limit: int = 10, **more: Any) -> Found:
        """What a search finds."""
        options = {"titles": TITLES, "me": "alice", "limit": limit, **more}
        result: Found = self.do(self.archive.search(parse_query(text, now=1_790_000_000), **options))
        return result

    def hits(self, text: str, **more: Any) -> list[tuple[str, int]]:
        """Where."""
        return [(hit.conversation, hit.kept.seq) for hit in self.found(text, **more).hits]

    def sql(self, query: str, *values: Any) -> list[Any]:
        """A look at the file, or a change of it, from outside."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(query, values).fetchall()

    def on_disk(self, conversation: str = ROOM, last: int = 200) -> list[int]:
        """The pages of a conversation that the file has."""
        there = {filed for (filed,) in self.sql("SELECT filed FROM page")}
        return [n for n in range(last) if RecordSealer(KEY).name("page", name_of((conversation, n))) in there]


class KeepingTests(ArchiveCase):
    """What was put is there, now and in another run."""

    def test_forget_of_any_number(self) -> None:
        """A number that a server made up is forgotten like others, and costs no more."""
        self.put([1, 70, 2**53 - 1])
        self.save()
        self.do(self.archive.forget(ROOM))
        self.save()
        self.assertEqual([], self.after(0, 9))
        self.assertEqual([(0,)], self.sql("SELECT count(*) FROM page"))

    def test_shown_outlasts_hidden(self) -> None:
        """What cannot be shown replaces nothing that could, on disk or not; what was taken back and what heals do."""
        self.put([1, 2])
        self.save()
        self.put([3])
        for seq in (1, 3, 4):
            self.archive.put(ROOM, kept(seq, "nothing", hidden="DAMAGED"))
        self.archive.put(ROOM, kept(2, "gone", hidden=DELETED))
        self.save()
        self.put([4])
        self.save()
        self.assertEqual({1: "text 1", 2: "gone", 3: "text 3", 4: "text 4"}, self.bodies(range(1, 5)))

    def test_empty(self) -> None:
        """Nothing is kept, and a write takes nothing along."""
        self.save()
        self.assertEqual([], self.before(100, 5))
        self.assertEqual([], self.after(0, 5))
        self.assertEqual({}, self.bodies([1, 2]))
        self.assertEqual(([], False), (list(self.found("x").hits), self.found("x").more))
        self.assertEqual((0, 0), (self.archive.size(), self.archive.count()))

    def test_at_once(self) -> None:
        """What was put is there before it is written."""
        self.put([1, 2, 3])
        self.assertEqual([1, 2], self.before(3, 5))
        self.assertEqual([(ROOM, 2)], self.hits('"text 2"'))

    def test_another_run(self) -> None:
        """All of a message survives; what was not written does not."""
        full = Kept(70, 2**53, "bob", "4f2a", "ab" * 32, '\x00{"k":"me"}', "a mark", "")
        self.archive.put(ROOM, full)
        self.save()
        self.put([71])
        self.reopen()
        self.assertEqual({70: full}, self.do(self.archive.at(ROOM, [70, 71])))

    def test_half_a_character(self) -> None:
        """What no UTF-8 can spell is kept as a question mark, and spoils no other message."""
        self.archive.put(ROOM, kept(1, "a\ud800b"))
        self.put([2])
        self.save()
        self.reopen()
        self.assertEqual({1: "a?b", 2: "text 2"}, self.bodies([1, 2]))

    def test_replaced(self) -> None:
        """A message takes the place of what had its number: on disk, in memory, and for searches."""
        self.put(range(1, 70))
        self.save()
        self.reopen()
        self.assertEqual([(ROOM, 60)], self.hits('"text 60"'))
        self.archive.put(ROOM, kept(60, "edited"))
        self.assertEqual([], self.hits('"text 60"'))
        self.assertEqual([(ROOM, 60)], self.hits("edited"))
        self.save()
        self.assertEqual([(ROOM, 60)], self.hits("edited"))
        self.reopen()
        self.assertEqual({4: "text 4", 60: "edited", 64: "text 64"}, self.bodies([4, 60, 64]))

    def test_what_a_write_takes(self) -> None:
        """Only pages that something was put to."""
        self.put(range(1, 300))
        self.save()
        self.put([100])

        async def names() -> list[str]:
            async with self.archive.unsaved() as batch:
                return [name for _, name, _ in batch.puts]

        self.assertEqual([f"{ROOM} 1"], self.do(names()))

    def test_scrolling(self) -> None:
        """Backwards and forwards, over pages, gaps, and what is not kept; also once all is loaded."""
        self.put([1, 2, 63, 64, 65, 200, 20_000])
        self.put([7], OTHER)
        self.save()
        for loaded in (False, True):
            self.reopen()
            if loaded:
                self.do(self.archive.load())
            self.put([66])
            with self.subTest(loaded=loaded):
                self.assertEqual([2, 63, 64], self.before(65, 3))
                self.assertEqual([1, 2], self.before(63, 10))
                self.assertEqual([66, 200, 20_000], self.before(10**6, 3))
                self.assertEqual([], self.before(1, 3))
                self.assertEqual([64, 65], self.after(63, 2))
                self.assertEqual([66, 200, 20_000], self.after(65, 9))
                self.assertEqual([], self.after(20_000, 3))
                self.assertEqual([7], self.before(10**9, 3, OTHER))

    def test_few_pages_stay_in_memory(self) -> None:
        """However much is read."""
        self.put(range(0, 64 * (CACHED + 50), 16))
        self.save()
        self.assertEqual(CACHED, len(self.archive._base))
        self.assertEqual(64 * (CACHED + 50) // 16, len(self.before(10**6, 10**6)))
        self.assertLessEqual(len(self.archive._base), CACHED + 16)  # and those that were opened last


class SavingTests(ArchiveCase):
    """A write that fails, or meets others."""

    def test_failed(self) -> None:
        """What the disk does not take waits for the next write, under what was put since."""
        self.put([1, 2])
        self.save()
        self.put([2, 3], body="newer")

        async def fails() -> None:
            async with self.archive.unsaved():
                self.put([3], body="newest")
                raise CannotKeep("full")

        self.failureResultOf(Deferred.fromCoroutine(fails()), CannotKeep)
        expected = {1: "text 1", 2: "newer", 3: "newest"}
        self.assertEqual(expected, self.bodies([1, 2, 3]))
        self.save()
        self.reopen()
        self.assertEqual(expected, self.bodies([1, 2, 3]))

    def test_one_transaction(self) -> None:
        """Cursor and pages are on disk both or neither."""
        self.put([1])
        self.do(self.write(1))
        self.put(range(2, 3000), body="long " * 50)
        self.pool.connection.execute("PRAGMA max_page_count = 1")
        self.failureResultOf(Deferred.fromCoroutine(self.write(2999)), CannotKeep)
        self.reopen()
        self.assertEqual({"conv": {ROOM: 1}}, self.do(self.store.load()))
        self.assertEqual([1], self.before(10**6, 5))

    def test_put_to_a_page_on_disk(self) -> None:
        """The page is fetched, and what it had stays."""
        self.put([1, 2])
        self.save()
        self.reopen()
        self.put([3])
        self.save()
        self.reopen()
        self.assertEqual([1, 2, 3], self.before(10, 10))

    def test_put_while_a_page_is_fetched(self) -> None:
        """The write takes along what was put until its pages were there."""
        self.put([1, 2])
        self.save()
        self.reopen()
        self.put([3])
        self.threads.held = True
        writing = Deferred.fromCoroutine(self.write())
        self.put([4, 70])
        while self.threads.waiting:
            self.threads.run_next()
        self.successResultOf(writing)
        self.reopen()
        self.assertEqual([1, 2, 3, 4, 70], self.before(100, 10))

    def test_put_while_a_write_is_under_way(self) -> None:
        """It is seen at once, and goes with the next write, which waits for the first and forgets nothing of it."""
        self.put([1, 2])
        self.save()
        self.put([2], body="newer")
        self.threads.held = True
        first = Deferred.fromCoroutine(self.write())
        self.put([3])
        second = Deferred.fromCoroutine(self.write())
        self.put([4])
        reading = Deferred.fromCoroutine(self.archive.at(ROOM, [1, 2, 3, 4]))
        expected = {1: "text 1", 2: "newer", 3: "text 3", 4: "text 4"}
        self.assertEqual(expected, {seq: each.body for seq, each in self.successResultOf(reading).items()})
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.threads.run_next()
        self.successResultOf(first)
        self.threads.run_next()
        self.successResultOf(second)
        self.threads.held = False
        self.reopen()
        self.assertEqual(expected, self.bodies([1, 2, 3, 4]))

    def test_read_before_a_write_and_answered_behind(self) -> None:
        """What was asked of the disk before a write does not stay as it was."""
        self.put([1])
        self.save()
        self.reopen()
        self.threads.held = True
        reading = Deferred.fromCoroutine(self.archive.at(ROOM, [1, 2]))
        self.put([2])
        writing = Deferred.fromCoroutine(self.write())
        while self.threads.waiting:
            self.threads.run_next()
        self.successResultOf(writing)
        self.threads.held = False
        self.assertEqual([1, 2], sorted(self.successResultOf(reading)))
        self.assertEqual({1: "text 1", 2: "text 2"}, self.bodies([1, 2]))


class DamageTests(ArchiveCase):
    """Pages that are not what was written."""

    def setUp(self) -> None:
        super().setUp()
        self.put(range(1, 256))
        self.save()
        name = RecordSealer(KEY).name
        self.filed = [name("page", f"{ROOM} {number}") for number in range(4)]

    def test_left_out(self) -> None:
        """A damaged page, and one moved to another's place, are as if they were not there; the others are."""
        ((sealed,),) = self.sql("SELECT sealed FROM page WHERE filed = ?", self.filed[0])
        self.sql("UPDATE page SET sealed = ? WHERE filed = ?", sealed, self.filed[1])
        self.sql("UPDATE page SET sealed = ? WHERE filed = ?", sealed[:-1] + bytes([sealed[-1] ^ 1]), self.filed[2])
        for loaded in (False, True):
            self.reopen()
            if loaded:
                self.do(self.archive.load())
                self.assertEqual(63 + 64, self.archive.count())
            self.assertEqual([62, 63, 192, 193], self.before(194, 4))
            self.assertEqual(
                [(ROOM, 250), (ROOM, 59)], [*self.hits('"text 250"'), *self.hits('"text 59" before:1970-01-03')]
            )

    def test_written_anew(self) -> None:
        """What is put to a damaged page is kept."""
        self.sql("UPDATE page SET sealed = x'00' WHERE filed = ?", self.filed[1])
        self.reopen()
        self.put([100])
        self.save()
        self.reopen()
        self.assertEqual([62, 63, 100, 128], self.before(129, 4))

    def test_another_shape(self) -> None:
        """A page of a client that knows other fields is read as far as it goes; one that is nonsense is left out."""
        more = ["page", f"{ROOM} 0", [[1, 2, "bob", "", "", "hello", "", "", "a field of later"]]]
        self.do(self.store.write([(more[0], more[1], more[2]), ("page", f"{ROOM} 1", [["x"]])]))
        self.reopen()
        self.assertEqual({1: "hello"}, self.bodies([1, 100]))


class ForgettingTests(ArchiveCase):
    """What is forgotten is gone here at once, and from the disk with the next write."""

    def setUp(self) -> None:
        super().setUp()
        self.put(range(1, 200), ROOM, "secret")
        self.put(range(1, 100), OTHER, "harmless")
        self.save()

    def test_one(self) -> None:
        """One conversation, with what waited to be written; the others stay. A damaged page of it goes too."""
        damaged = RecordSealer(KEY).name("page", f"{ROOM} 1")
        self.sql("UPDATE page SET sealed = x'00' WHERE filed = ?", damaged)
        for loaded in (False, True):
            if not loaded:
                self.reopen()
            self.put([200], ROOM, "secret")
            self.do(self.archive.forget(ROOM))
            self.assertEqual([], self.before(10**6, 5))
            self.assertEqual([], self.hits("secret"))
            self.assertEqual(2, len(self.hits("harmless", limit=2)))
            self.save()
            self.assertEqual(([], [0, 1]), (self.on_disk(ROOM), self.on_disk(OTHER)))
            self.assertEqual(99, self.archive.count())

    def test_all(self) -> None:
        """Everything, without reading it first; also pages that open no more."""
        self.sql("UPDATE page SET sealed = x'00' WHERE filed = ?", RecordSealer(KEY).name("page", f"{ROOM} 1"))
        self.reopen()
        self.do(self.archive.forget(None))
        self.assertEqual(([], [], []), (self.before(900, 5), self.before(900, 5, OTHER), self.hits("secret")))
        self.save()
        self.assertEqual([(0,)], self.sql("SELECT count(*) FROM page"))
        self.assertEqual((0, 0), (self.archive.size(), self.archive.count()))

    def test_nothing_lingers(self) -> None:
        """No sealed byte of a forgotten page is in the database or its log."""
        sealed = [row[0] for row in self.sql("SELECT sealed FROM page")]
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        middles = [each[500:516] for each in sealed] + [each[-600:-584] for each in sealed]
        content = b"".join(file.read_bytes() for file in files)
        self.assertTrue(any(middle in content for middle in middles))
        self.do(self.archive.forget(None))
        self.save()
        content = b"".join(file.read_bytes() for file in files)
        self.assertEqual([], [middle for middle in middles if middle in content])
        self.assertNotIn(b"secret", content)

    def test_put_after(self) -> None:
        """What comes later is kept, and nothing of before comes back with it."""
        for what in (ROOM, None):
            self.put([1, 2, 3], ROOM, "secret")
            self.save()
            self.do(self.archive.forget(what))
            self.put([2])
            self.assertEqual({2: "text 2"}, self.bodies(range(200)))
            self.save()
            self.assertEqual({2: "text 2"}, self.bodies(range(200)))
            self.reopen()
            self.assertEqual({2: "text 2"}, self.bodies(range(200)))

    def test_the_write_fails(self) -> None:
        """It stays forgotten, and the next write deletes it."""

        async def fails() -> None:
            async with self.archive.unsaved():
                self.assertEqual({}, await self.archive.at(ROOM, [1, 70]))
                raise CannotKeep("full")

        for what, others in ((ROOM, [0, 1]), (None, [])):
            self.do(self.archive.forget(what))
            self.failureResultOf(Deferred.fromCoroutine(fails()), CannotKeep)
            self.put([5])
            self.assertEqual({5: "text 5"}, self.bodies(range(200)))
            self.save()
            self.assertEqual(([0], others), (self.on_disk(), self.on_disk(OTHER)))
            self.put([1, 70])
            self.save()

    def test_while_a_write_is_under_way(self) -> None:
        """What that write brings to disk, the next one deletes."""
        for what in (ROOM, None):
            self.do(self.archive.load())
            self.put([300], ROOM, "secret")
            self.do(self.archive.at(ROOM, [300]))
            self.threads.held = True
            writing = Deferred.fromCoroutine(self.write())
            self.successResultOf(Deferred.fromCoroutine(self.archive.forget(what)))
            self.threads.run_next()
            self.successResultOf(writing)
            self.threads.held = False
            self.assertEqual([4], [number for number in self.on_disk() if number == 4])
            self.assertEqual({}, self.bodies([300]))
            self.save()
            self.assertEqual([], self.on_disk())

    def test_begun_anew_while_others_are_read(self) -> None:
        """A page that is on disk again is not taken for a forgotten one, though it was when the others were asked."""
        self.do(self.archive.forget(OTHER))
        self.put([1, 70], OTHER)  # all pages that it had, so that none is deleted
        self.threads.held = True
        writing = Deferred.fromCoroutine(self.write())
        self.archive._base.clear()  # as if others had taken the place of all
        reading = Deferred.fromCoroutine(self.archive._pages([(OTHER, 0), (ROOM, 0)]))
        while self.threads.waiting:
            self.threads.run_next()
        self.successResultOf(writing)
        self.successResultOf(reading)
        self.threads.held = False
        self.assertEqual({1: "text 1"}, self.bodies([1, 2], OTHER))

    def test_while_pages_are_read(self) -> None:
        """What was asked before is not believed any more."""
        self.reopen()
        self.threads.held = True
        reading = Deferred.fromCoroutine(self.archive.at(ROOM, [1]))
        loading = Deferred.fromCoroutine(self.archive.load())
        self.successResultOf(Deferred.fromCoroutine(self.archive.forget(None)))
        while self.threads.waiting:
            self.threads.run_next()
        self.assertEqual({}, self.successResultOf(reading))
        self.successResultOf(loading)
        self.threads.held = False
        self.assertEqual(([], 0), (self.hits("secret"), self.archive.count()))


class EvictionTests(ArchiveCase):
    """What goes when there is too much."""

    def test_order(self) -> None:
        """The oldest by their newest message; the last page of each conversation after all others."""
        cards = {("a", 0): Card(10, 50), ("a", 1): Card(10, 1), ("b", 0): Card(10, 40), ("b", 5): Card(10, 60)}
        self.assertEqual(set(), evict(cards, 40))
        self.assertEqual({("b", 0)}, evict(cards, 39 - 5))
        self.assertEqual({("b", 0), ("a", 0)}, evict(cards, 25))
        self.assertEqual({("b", 0), ("a", 0), ("a", 1)}, evict(cards, 12))
        self.assertEqual(set(cards), evict(cards, 5))

    def test_beyond_the_cap(self) -> None:
        """The oldest pages go with the write that would pass it, down to nine tenths."""
        cap = 100_000
        self.reopen(cap=cap)
        self.put(range(1, 33), OTHER, "y" * 400)
        self.save()
        for start in range(100, 2000, 64):
            self.put(range(start, start + 64), body="x" * 100)
            self.save()
            self.assertLessEqual(self.do(self.store.weigh())[1], cap)
        self.assertEqual(self.do(self.store.weigh())[1], self.archive.size())
        self.assertGreater(self.archive.size(), cap // 2)
        numbers = self.on_disk()
        self.assertEqual(list(range(numbers[0], 32)), numbers)
        self.assertGreater(numbers[0], 5)
        self.assertEqual([0], self.on_disk(OTHER))
        self.assertEqual([], self.before(numbers[0] * MESSAGES, 5))
        self.assertEqual(self.before(10**6, 10**6)[0], numbers[0] * MESSAGES)

    def test_a_smaller_cap(self) -> None:
        """In a run that has loaded nothing, too; what is on disk counts from the first write on."""
        self.put(range(1, 1000), body="x" * 100)
        self.save()
        self.reopen(cap=50_000)
        self.put([1000])
        self.save()
        self.assertLessEqual(self.do(self.store.weigh())[1], 45_000)
        self.assertEqual([1000], self.before(10**6, 1))

    def test_the_write_fails(self) -> None:
        """Nothing went, and it goes with the next."""
        self.put(range(1, 1000), body="x" * 100)
        self.save()
        before = self.on_disk()
        self.reopen(cap=50_000)
        self.put([1000])

        async def fails() -> None:
            async with self.archive.unsaved() as batch:
                self.assertTrue(batch.deletes)
                raise CannotKeep("full")

        self.failureResultOf(Deferred.fromCoroutine(fails()), CannotKeep)
        self.assertEqual(before, self.on_disk())
        self.assertEqual({1: "x" * 100}, self.bodies([1]))
        self.save()
        self.assertLessEqual(self.do(self.store.weigh())[1], 45_000)


class SearchTests(ArchiveCase):
    """Searching over all of it."""

    def setUp(self) -> None:
        super().setUp()
        self.archive.put(ROOM, kept(1, "deploy is done", at=1000))
        self.archive.put(PRIVATE, kept(1, "Deploy it", at=2000, sender="bob"))
        self.archive.put(OTHER, kept(1, "deploy never", at=3000, sender="carol"))
        self.archive.put(ROOM, kept(2, "deploy", at=4000, sender="mallory", hidden="PUT_OUT"))
        self.save()

    def test_where_and_who(self) -> None:
        """Newest first; in the conversations and of the people that are named. What is not shown is not found."""
        for text, expected in (
            ("deploy", [OTHER, PRIVATE, ROOM]),
            ("deploy in:ops", [ROOM]),
            ("deploy in:@Bob", [PRIVATE]),
            ("deploy in:#ops in:@bob", [PRIVATE, ROOM]),
            ("from:me", [ROOM]),
            ("from:me from:bob", [PRIVATE, ROOM]),
            ("from:mallory", []),
            ("in:@bob from:me", []),
        ):
            self.assertEqual([(conversation, 1) for conversation in expected], self.hits(text), text)

    def test_a_conversation_that_is_none(self) -> None:
        """Its name is said, and what to write."""
        searching = self.archive.search(parse_query("in:nowhere x", now=0), titles=TITLES, me="alice", limit=1)
        failure = self.failureResultOf(Deferred.fromCoroutine(searching), BadQuery)
        self.assertIn("nowhere. Write in:ROOM", str(failure.value))

    def test_what_is_shown_is_searched(self) -> None:
        """Not how it is spelt; and a mention is what the archive was told that it is."""
        self.reopen(
            text_of=lambda body: body.removeprefix("\x00").swapcase() + "!",
            mentions=lambda each: each.sender == "bob",
        )
        self.assertEqual([(PRIVATE, 1)], self.hits('has:mention "it!"'))
        self.archive.put(ROOM, kept(3, "\x00new", at=9000, sender="bob"))
        self.assertEqual([(ROOM, 3), (PRIVATE, 1)], self.hits("has:mention"))
        self.assertEqual([(ROOM, 3)], self.hits("new!"))

    def test_limit(self) -> None:
        """Whether there is more is said."""
        self.assertEqual((2, True), (len(self.found("deploy", limit=2).hits), self.found("deploy", limit=2).more))
        self.assertEqual((3, False), (len(self.found("deploy", limit=3).hits), self.found("deploy", limit=3).more))

    def test_loaded_once(self) -> None:
        """Two that ask at once wait for the same; progress is told, and nothing is read again."""
        self.put(range(1, 64 * 70, 64), OTHER)
        self.save()
        self.reopen()
        told: list[tuple[int, int]] = []
        self.threads.held = True
        loads = [Deferred.fromCoroutine(self.archive.load(lambda *how: told.append(how))) for _ in range(2)]
        visits = 0
        while self.threads.waiting:
            self.threads.run_next()
            visits += 1
        for loading in loads:
            self.successResultOf(loading)
        self.assertEqual(([(32, 72), (64, 72), (72, 72)], 1 + 3), (told, visits))
        self.do(self.archive.load())
        self.assertEqual(0, self.threads.waiting)

    def test_written_while_all_is_read(self) -> None:
        """What is newer than what was read stays."""
        self.put(range(1, 64 * 70, 64), OTHER)
        self.save()
        self.reopen()
        self.do(self.archive.at(OTHER, range(64 * 70)))
        self.threads.held = True
        loading = Deferred.fromCoroutine(self.archive.load())
        self.threads.run_next()
        self.threads.run_next()
        self.put(range(1, 64 * 70, 64), OTHER, "newer")
        writing = Deferred.fromCoroutine(self.write())
        while self.threads.waiting:
            self.threads.run_next()
        self.successResultOf(loading)
        self.successResultOf(writing)
        self.threads.held = False
        self.assertEqual(70, len(self.hits("newer", limit=100)))
        self.assertEqual([], [hit for hit in self.hits("text", limit=100) if hit[0] == OTHER])

    def test_reading_fails(self) -> None:
        """It is told, and the next one begins anew."""
        self.reopen()
        self.do(self.store.weigh())
        self.sql("ALTER TABLE page RENAME TO away")
        failure = self.failureResultOf(Deferred.fromCoroutine(self.archive.load()), CannotKeep)
        self.assertIn("Look at its disk", str(failure.value))
        self.sql("ALTER TABLE away RENAME TO page")
        self.assertEqual(3, len(self.hits("deploy")))


class RandomTests(ArchiveCase):
    """The archive against a dict."""

    def test_like_a_dict(self) -> None:
        """Two hundred random things to do, with writes that fail and clients that end, find what a dict finds."""
        dice = random.Random(5)
        rooms = (ROOM, OTHER, PRIVATE)
        model: dict[tuple[str, int], Kept] = {}
        disk: dict[tuple[str, int], Kept] = {}

        async def fails() -> None:
            async with self.archive.unsaved():
                raise CannotKeep("full")

        for step in range(200):
            room, seq = dice.choice(rooms), dice.randrange(1, 400)
            match dice.choice(("put", "put", "put", "read", "read", "save", "fail", "end", "search", "forget")):
                case "put":
                    for number in range(seq, seq + dice.randrange(1, 100)):
                        model[room, number] = kept(number, f"said {step}", at=step)
                        self.archive.put(room, model[room, number])
                case "save":
                    self.save()
                    disk = dict(model)
                case "fail":
                    self.failureResultOf(Deferred.fromCoroutine(fails()), CannotKeep)
                case "end":
                    self.reopen()
                    model = dict(disk)
                case "forget" if dice.random() < 0.3:
                    self.do(self.archive.forget(room))
                    model = {key: each for key, each in model.items() if key[0] != room}
                case "search":
                    word = f"said {dice.randrange(step + 1)}"
                    expected = {key for key, each in model.items() if each.body.startswith(word)}
                    self.assertEqual(expected, set(self.hits(f'"{word}"', limit=10_000)))
            there = sorted(number for where, number in model if where == room)
            self.assertEqual([number for number in there if number < seq][-7:], self.before(seq, 7, room))
            self.assertEqual([number for number in there if number > seq][:7], self.after(seq, 7, room))
            found = self.do(self.archive.at(room, range(seq, seq + 90)))
            self.assertEqual({number: model[room, number] for number in there if seq <= number < seq + 90}, found)
        self.assertGreater(len(model), 100)


class NameTests(SynchronousTestCase):
    """What pages are called."""

    def test_there_and_back(self) -> None:
        """A page's name says conversation and number."""
        for key in ((ROOM, 0), (PRIVATE, 12_345)):
            self.assertEqual(key, key_named(name_of(key)))
