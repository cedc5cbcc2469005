"""Tests for what a client must not forget."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.store import ALL_PAGES, PAD, CannotKeep, LocalStore, sealed_length
from securechat.crypto.keystore import RecordSealer
from tests.doubles import InlinePool, InlineReactor

KEY = b"k" * 32
VALUES: dict[str, Any] = {
    "text": "grüße \U0001f984\n\0",
    "lone": "\ud800",
    "number": 2**53 - 1,
    "list": [1, [2, None]],
    "object": {"a": {"b": True}},
    "nothing": None,
}


class StoreTests(SynchronousTestCase):
    """Tests for `LocalStore`, on a real file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.reactor = InlineReactor()
        self.store = self.open()

    def open(self, key: bytes = KEY) -> LocalStore:
        """Opens the file, until the end of the test."""
        self.pool: Any = None

        def pool(*args: Any, **kw: Any) -> InlinePool:
            made = self.pool = InlinePool(*args, **kw)
            return made

        store = LocalStore(self.path, RecordSealer(key), reactor=self.reactor, pool=pool)
        self.addCleanup(store.close)
        return store

    def do(self, verb: Any) -> Any:
        """What a verb answers."""
        return self.successResultOf(Deferred.fromCoroutine(verb))

    def test_empty(self) -> None:
        """A new store has nothing."""
        self.assertEqual({}, self.do(self.store.load()))

    def test_there_and_back(self) -> None:
        """What was written comes back by kind and name, also in another run."""
        self.do(self.store.write([("kind", name, value) for name, value in VALUES.items()]))
        self.do(self.store.write([("other", "text", 1)]))
        expected = {"kind": VALUES, "other": {"text": 1}}
        self.assertEqual(expected, self.do(self.store.load()))
        self.store.close()
        self.assertEqual(expected, self.do(self.open().load()))

    def test_replaced(self) -> None:
        """A record is replaced by one of the same kind and name, and by no other."""
        self.do(self.store.write([("a", "x", 1), ("a", "y", 2), ("b", "x", 3)]))
        self.do(self.store.write([("a", "x", 4)]))
        self.assertEqual({"a": {"x": 4, "y": 2}, "b": {"x": 3}}, self.do(self.store.load()))

    def test_deleted(self) -> None:
        """A deleted record is gone; one that is not there is no error."""
        self.do(self.store.write([("a", "x", 1), ("a", "y", 2)]))
        self.do(self.store.write([("a", "z", 3)], [("a", "x"), ("b", "nothing")]))
        self.assertEqual({"a": {"y": 2, "z": 3}}, self.do(self.store.load()))

    def test_nothing_readable(self) -> None:
        """Neither names nor kinds nor values stand in the file."""
        self.do(self.store.write([("outbox", "alice-and-bob", "the secret text")]))
        self.store.close()
        content = b"".join(file.read_bytes() for file in self.path.parent.glob(self.path.name + "*"))
        for part in (b"outbox", b"alice", b"secret"):
            self.assertNotIn(part, content)

    def test_another_key(self) -> None:
        """With another key nothing is there, and nothing fails."""
        self.do(self.store.write([("a", "x", 1)]))
        self.assertEqual({}, self.do(self.open(b"o" * 32).load()))

    def test_damaged(self) -> None:
        """A damaged record, or one moved to another's place, is left out; the others stay."""
        self.do(self.store.write([("a", name, name) for name in "wxyz"]))
        names = {name: RecordSealer(KEY).name("a", name) for name in "wxyz"}
        with closing(sqlite3.connect(self.path)) as connection, connection:
            (sealed,) = connection.execute("SELECT sealed FROM record WHERE filed = ?", (names["x"],)).fetchone()
            for name, content in (("x", sealed[:-1] + bytes([sealed[-1] ^ 1])), ("y", sealed), ("z", b"")):
                connection.execute("UPDATE record SET sealed = ? WHERE filed = ?", (content, names[name]))
        self.assertEqual({"a": {"w": "w"}}, self.do(self.store.load()))

    def test_all_or_nothing(self) -> None:
        """What the disk does not take leaves all as it was, and is told in words for a person."""
        self.do(self.store.write([("a", "x", 1)]))
        self.pool.connection.execute("PRAGMA max_page_count = 1")
        writing = Deferred.fromCoroutine(self.store.write([("a", "z", 1), ("a", "y", "y" * 100_000)], [("a", "x")]))
        self.assertIn("disk", str(self.failureResultOf(writing, CannotKeep).value))
        self.pool.connection.execute("PRAGMA max_page_count = 1000000")
        self.assertEqual({"a": {"x": 1}}, self.do(self.store.load()))
        self.do(self.store.write([("a", "y", 2)]))
        self.assertEqual({"a": {"x": 1, "y": 2}}, self.do(self.store.load()))

    def test_durable(self) -> None:
        """Every connection writes through to the disk and leaves nothing of what was deleted."""
        pragmas = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
        self.do(self.store.load())
        found = {name: self.pool.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas}
        self.assertEqual(pragmas, found)

    def test_pages_apart(self) -> None:
        """Pages are written with other records, and read by name or in turn, never with all others."""
        self.do(self.store.write([("a", "x", 1), ("page", "p 0", [1, 2]), ("page", "p 1", ["é"])]))
        self.assertEqual({"a": {"x": 1}}, self.do(self.store.load()))
        self.assertEqual({"p 0": [1, 2], "p 1": ["é"]}, self.do(self.store.fetch("page", ["p 1", "p 0", "p 2"])))
        self.assertEqual({"p 0": [1, 2]}, self.do(self.store.fetch("page", ["p 0", "p 1"], list[int])))
        self.assertEqual({"x": 1}, self.do(self.store.fetch("a", ["x", "p 0"])))
        self.do(self.store.write([("a", "y", 2)], [("page", "p 0"), ("a", "x")]))
        self.assertEqual({"p 1": ["é"]}, self.do(self.store.fetch("page", ["p 0", "p 1"])))
        self.assertEqual({"a": {"y": 2}}, self.do(self.store.load()))

    def test_all_pages_go(self) -> None:
        """Before those that the same write puts; other records stay."""
        self.do(self.store.write([("a", "x", 1), ("page", "p 0", 1), ("page", "p 1", 1)]))
        self.do(self.store.write([("page", "p 2", 2)], [ALL_PAGES]))
        self.assertEqual({"p 2": 2}, self.do(self.store.fetch("page", ["p 0", "p 1", "p 2"])))
        self.assertEqual({"a": {"x": 1}}, self.do(self.store.load()))

    def test_swept(self) -> None:
        """All pages in steps, each once; a damaged one is left out, and one that comes meanwhile stops nothing."""
        names = {f"p {number}" for number in range(10)}
        self.do(self.store.write([("page", name, [name]) for name in names]))
        self.pool.connection.execute(
            "UPDATE page SET sealed = x'' WHERE filed = ?", [RecordSealer(KEY).name("page", "p 3")]
        )
        found: list[str] = []
        after: bytes | None = b""
        steps = 0
        while after is not None:
            some, after = self.do(self.store.sweep(after, 4, list[str], lambda name, value, size: (name, value, size)))
            self.assertTrue(all(value == [name] and size == PAD + 28 for name, value, size in some))
            found += [name for name, _, _ in some]
            steps += 1
        self.assertEqual((sorted(names - {"p 3"}), 3), (sorted(found), steps))
        self.assertEqual(10, self.do(self.store.weigh())[0])

    def test_length_of_pages(self) -> None:
        """A page's length is told in whole kilobytes, and is what it was said to be."""
        for size in (0, 1, 900, 990, 1000, 1100, 5000):
            spelt = msgspec.json.encode("x" * size)
            self.do(self.store.write([("page", "p 0", msgspec.Raw(spelt))]))
            ((length,),) = self.pool.connection.execute("SELECT length(sealed) FROM page").fetchall()
            self.assertEqual((0, sealed_length("p 0", spelt)), ((length - 28) % PAD, length))

    def test_keys_carry_no_talk(self) -> None:
        """Pages are not among what is carried to another machine."""
        self.do(self.store.write([("a", "x", 1), ("page", "p 0", 1)]))
        rows = self.do(self.store.dump())
        self.assertEqual([RecordSealer(KEY).name("a", "x")], [filed for filed, _ in rows])
        self.path = Path(self.mktemp())
        self.do(LocalStore.make(self.path, rows, reactor=self.reactor, pool=InlinePool))
        carried = self.open()
        self.assertEqual((0, 0), self.do(carried.weigh()))
        self.assertEqual({"a": {"x": 1}}, self.do(carried.load()))

    def test_deleted_though_the_log_stays(self) -> None:
        """Where the write-ahead log cannot be cut, deleting pages works all the same."""

        def no_pragma(action: int, *_: str | None) -> int:
            return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_PRAGMA else sqlite3.SQLITE_OK

        self.do(self.store.write([("page", "p 0", 1), ("page", "p 1", 1)]))
        self.pool.connection.set_authorizer(no_pragma)
        self.do(self.store.write([], [("page", "p 1")]))
        self.assertEqual({"p 0": 1}, self.do(self.store.fetch("page", ["p 0", "p 1"])))
        self.pool.connection.set_authorizer(None)
        with closing(sqlite3.connect(self.path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM page").fetchall()
            self.pool.connection.execute("PRAGMA busy_timeout = 0")
            self.do(self.store.write([], [("page", "p 0")]))
        self.assertEqual((0, 0), self.do(self.store.weigh()))

    def test_carried(self) -> None:
        """The sealed records make the same store elsewhere, without their key."""
        self.do(self.store.write([("a", "x", 1), ("b", "y", [2])]))
        rows = self.do(self.store.dump())
        self.path = Path(self.mktemp())
        self.do(LocalStore.make(self.path, rows, reactor=self.reactor, pool=InlinePool))
        self.assertEqual({"a": {"x": 1}, "b": {"y": [2]}}, self.do(self.open().load()))
