"""The store as a whole: opening, what survives a restart, a full disk, closing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.roomlog import Join
from securechat.errors import FULL, TRY_AGAIN, StartupError
from securechat.storage import connection
from securechat.storage.interface import Appended, ChatStore, Page, Session
from tests.doubles import StoreCase, device, gathered, new_message, no_commit, person, private_message

BOTH = ["alice", "bob"]
TOKEN = b"t" * 32


class OpenTests(StoreCase):
    """Tests for `open`."""

    def test_is_a_chat_store(self) -> None:
        """It has every verb of the interface."""
        store: ChatStore = self.store
        verbs = {name for name in vars(ChatStore) if not name.startswith("_")}
        self.assertEqual(set(), {verb for verb in verbs if verb not in vars(type(store))})

    def test_epoch_and_secret(self) -> None:
        """They are made once, at random, and stay."""
        first = self.store.epoch, self.store.secret
        self.assertRegex(first[0], r"^[0-9a-f]{32}\Z")
        self.assertEqual(32, len(first[1]))
        again = self.make_store()
        self.assertEqual(first, (again.epoch, again.secret))
        self.path = Path(self.mktemp())
        another = self.make_store()
        self.assertNotEqual(first[0], another.epoch)
        self.assertNotEqual(first[1], another.secret)

    def test_time_of_making(self) -> None:
        """The time of day says when the database was made."""
        self.path = Path(self.mktemp())
        self.make_store(now=lambda: 12.5)
        row = self.writer.connection.execute("SELECT meta.created, dek.created FROM meta, dek").fetchone()
        self.assertEqual((12500, 12500), row)

    def test_wrong_key(self) -> None:
        """With another key file it does not start, and says so."""
        kek = KeyEncryptionKeys(new_key_file())
        error = self.assertRaises(StartupError, self.make_store, kek=kek)
        self.assertIn("--key-file", str(error))

    def test_newer_key_before_the_old(self) -> None:
        """A key file with a new key before the old one opens what the old one sealed."""
        old = self.KEY_FILE.splitlines()[-1]
        kek = KeyEncryptionKeys(f"{new_key_file()}{old}\n")
        self.assertEqual(self.store.epoch, self.make_store(kek=kek).epoch)

    def test_newest_data_key(self) -> None:
        """Of several data keys the newest seals, and each opens what it sealed."""
        self.gather(*BOTH)
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        dek = KeyEncryptionKeys(self.KEY_FILE).wrap_new()
        self.writer.connection.execute("INSERT INTO dek (wrapped, created) VALUES (?, 1)", (dek,))
        self.store = self.make_store()
        self.do(self.store.append(new_message("alice", BOTH, 2)))
        rows = self.writer.connection.execute("SELECT dek_id FROM segment ORDER BY first_seq").fetchall()
        self.assertEqual([(1,), (2,)], rows)
        page = self.do(self.store.read("bob", "ops", after=0, before=None, limit=9, max_bytes=10**6))
        self.assertEqual(2, len(page.messages))

    def test_damaged_inside(self) -> None:
        """A database whose own tables cannot be read is refused with what to do."""
        self.successResultOf(self.store.close())
        with closing(sqlite3.connect(self.path)) as damaged:
            damaged.execute("DROP TABLE meta")
        error = self.assertRaises(StartupError, self.make_store)
        self.assertIn(str(self.path), str(error))

    def test_plaintext_is_not_in_the_file(self) -> None:
        """What was said, and for whom, does not stand in the files."""
        self.gather(*BOTH)
        self.do(self.store.append(new_message("alice", BOTH, shared=b"the package itself")))
        content = b"".join(path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*"))
        self.assertNotIn(b"the package itself", content)
        self.assertNotIn(b'["alice"', content)
        self.assertIn(b"alice", content)


class PragmaTests(StoreCase):
    """Tests for how connections are set up."""

    def test_every_connection(self) -> None:
        """Writer and readers have the settings that durability rests on; only readers cannot write."""
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
        for pool, query_only in zip(self.pools, (0, 1, 1), strict=True):
            for name, value in (wanted | {"query_only": query_only, "secure_delete": 1}).items():
                self.assertEqual((value,), pool.connection.execute(f"PRAGMA {name}").fetchone(), name)

    def test_asserted(self) -> None:
        """Where a setting does not take, the server does not start: a database in memory cannot have a WAL."""
        with closing(sqlite3.connect(":memory:")) as memory:
            error = self.assertRaises(StartupError, connection.configure, memory)
        self.assertIn("journal_mode is memory, not wal", str(error))

    def test_vanished_file(self) -> None:
        """A file that vanished is not made again by a connection opened later: nothing would be in it."""
        with self.assertRaises(sqlite3.OperationalError):
            sqlite3.connect(**connection.arguments(Path(self.mktemp())))


class RestartTests(StoreCase):
    """Tests for what a later start finds."""

    def test_everything_is_there(self) -> None:
        """Accounts, sessions, rooms, messages, numbers and markers survive."""
        self.gather(*BOTH)
        self.do(self.store.open_session(TOKEN, Session("alice", device("alice")), 5))
        sent = [new_message("alice", BOTH, 1), private_message("alice", "bob", 1, mid="0" * 32)]
        for message in sent:
            self.do(self.store.append(message))
        self.do(self.store.move_read_marker("bob", "ops", 1))
        self.do(self.store.add_invite(b"code", uses=1, expires=99, now=1))
        before = self.seen()
        self.successResultOf(self.store.close())
        self.store = self.make_store()
        self.assertEqual(before, self.seen())
        self.assertTrue(self.do(self.store.append(sent[0])).dup)
        self.assertEqual(Appended(2, 1_000_002, events=2), self.do(self.store.append(new_message("alice", BOTH, 2))))

    def seen(self) -> list[Any]:
        """What the store answers."""
        return [
            *(self.do(self.store.account(user)) for user in BOTH),
            self.do(self.store.session(TOKEN, 6)),
            self.do(self.store.conversations("bob")),
            self.do(self.store.members("bob", "ops")),
            self.do(self.store.invite_holds(b"code", 5)),
            self.page(),
        ]

    def page(self) -> Page:
        return self.do(self.store.read("bob", "ops", after=None, before=None, limit=9, max_bytes=10**6))

    def test_after_a_crash(self) -> None:
        """What was answered is there although nothing was closed: the WAL beside the file counts."""
        self.gather(*BOTH)
        self.do(self.store.append(new_message("alice", BOTH)))
        crashed = Path(self.mktemp())
        for suffix in ("", "-wal"):
            source = self.path.with_name(self.path.name + suffix)
            crashed.with_name(crashed.name + suffix).write_bytes(source.read_bytes())
        self.path = crashed
        self.store = self.make_store()
        self.assertEqual([1], [row.seq for row in self.page().messages])


class FullTests(StoreCase):
    """Tests for a disk that is full."""

    def test_refused_then_stored(self) -> None:
        """While there is no space sends are `full` and reads go on; later the same message is stored, once."""
        self.gather(*BOTH)
        writer = self.writer.connection
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        big = new_message("alice", BOTH, shared=b"x" * 50_000)
        for _ in range(2):
            self.assertRefused(FULL, self.store.append(big))
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.assertEqual(0, self.do(self.store.conversations("alice"))[0].last)
        writer.execute("PRAGMA max_page_count = 1000000")
        self.assertEqual(Appended(1, big.ts, events=2), self.do(self.store.append(big)))


class UndoneTests(StoreCase):
    """Tests for what is remembered beside the database, after a transaction that is not."""

    def test_members_of_a_commit_that_failed(self) -> None:
        """A room's members, and its log, as a failed commit had them are forgotten: its place may get another act."""
        self.gather("alice")
        self.register("bob", "carol")
        threads = self.writer.threads
        threads.held = True
        first = self.start(self.store.add_invite(b"code", uses=1, expires=99, now=1))
        joined = self.start(self.acting(Join, person("bob")))
        said = self.start(self.store.append(new_message("alice", BOTH)))
        threads.run_next()
        self.successResultOf(first)
        writer = self.writer.connection
        writer.set_authorizer(no_commit)
        threads.run_next()
        writer.set_authorizer(None)
        for answer in (joined, said):
            self.assertEqual(TRY_AGAIN, self.failureResultOf(answer).value.code)
        threads.held = False
        self.flushLoggedErrors(sqlite3.DatabaseError)
        self.assertEqual(2, self.act(Join, person("carol")).events)
        self.do(self.store.append(self.said("alice", ["alice", "carol"])))


class CloseTests(StoreCase):
    """Tests for `close`."""

    def test_one_file_left(self) -> None:
        """After closing, everything is in the one file, which can be copied."""
        self.gather(*BOTH)
        self.successResultOf(self.store.close())
        names = {path.name for path in self.path.parent.glob(f"{self.path.name}*")}
        self.assertEqual({self.path.name}, names)

    def test_one_file_beside_a_tool(self) -> None:
        """Also while another program has the file open, everything moves into it."""
        self.gather(*BOTH)
        with closing(sqlite3.connect(self.path)) as tool:
            tool.execute("SELECT count(*) FROM account").fetchone()
            self.successResultOf(self.store.close())
            self.assertEqual(0, self.path.with_name(f"{self.path.name}-wal").stat().st_size)

    def test_waits_for_what_was_asked(self) -> None:
        """What was asked before is answered first; what comes after is refused."""
        self.register("alice")
        threads = self.writer.threads
        reader = self.pools[1].threads
        threads.held = reader.held = True
        made = [gathered(["alice"], room).events[0] for room in ("ops", "more", "late")]
        first = self.start(self.store.act("ops", made[0], wait=0.0, now=1))
        second = self.start(self.store.act("more", made[1], wait=0.0, now=1))
        reading = self.start(self.store.rooms("alice"))
        closed = self.store.close()
        self.assertRefused(TRY_AGAIN, self.store.act("late", made[2], wait=0.0, now=1), retry_after=2.0)
        self.assertRefused(TRY_AGAIN, self.store.account("alice"), retry_after=2.0)
        while threads.waiting:
            self.assertNoResult(closed)
            threads.run_next()
        self.assertNoResult(closed)
        reader.run_next()
        threads.run_next()
        self.successResultOf(closed)
        self.assertEqual(2, len(self.successResultOf(reading)))
        self.assertEqual([1, 1], [self.successResultOf(one).events for one in (first, second)])

    def test_twice(self) -> None:
        """Closing again, or what was never opened, does nothing."""
        for _ in range(2):
            self.successResultOf(self.store.close())
