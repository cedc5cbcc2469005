"""Tests for the check of everything stored, for copies of it, and for new keys."""

from __future__ import annotations

import errno
import random
import sqlite3
import stat
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.roomlog import ChangeTopic, Mute
from securechat.errors import BackupFailed, Refused, StartupError
from securechat.storage import copies, migrate
from securechat.storage.interface import Fault
from securechat.storage.queries import rotation, sealed
from securechat.storage.sqlite import SQLiteStore
from securechat.wire import messages as m
from tests.doubles import SRV, InlinePool, InlineReactor, flipped, hex_id
from tests.unit.test_server_talk import TalkCase

FLIPS: Final = 200
SEED: Final = 20_261_124  # of the bits; another one finds other shares, and never a wrong text


def unheard(what: str, done: int, of: int) -> None:
    """Takes no notice of the progress."""


class WholeCase(TalkCase):
    """Tests of a server with two rooms, a topic, messages and a private conversation."""

    def setUp(self) -> None:
        super().setUp()
        self.many(3)
        self.perform(self.alices, ChangeTopic, self.alice, topic=b"what it is about")
        self.enter(self.bobs, self.bob, "more")
        self.bobs.ask(self.send_of(1, self.bob, into="more"))
        self.alices.ask(self.pm_of(1, self.alice, self.bob))
        for number in (1, 2):
            self.bobs.ask(m.PutNote(name=hex_id(number), blob=b"sealed by bob's devices"))
        self.perform(self.alices, Mute, self.alice, self.bob)

    def check(self) -> list[Fault]:
        """What a check finds."""
        return list(self.do(self.store.check(SRV, unheard)))

    def sql(self, statement: str, *parameters: Any) -> None:
        """Does something to the database by hand."""
        self.writer.connection.execute("PRAGMA foreign_keys = OFF")
        self.writer.connection.execute(statement, parameters)


class CheckTests(WholeCase):
    """Tests for `check`."""

    def test_good(self) -> None:
        """Nothing is found where nothing is wrong; the progress goes to its end."""
        told: list[tuple[str, int, int]] = []
        self.assertEqual([], self.do(self.store.check(SRV, lambda *one: told.append(one))))
        self.assertEqual({told[-1][1]}, {told[-1][2]})
        self.assertEqual(sorted(done for _, done, _ in told), [done for _, done, _ in told])

    def test_faults(self) -> None:
        """Each thing done by hand is found, where it is."""
        self.successResultOf(self.store.close())
        good = self.path.read_bytes()
        for table, where, statement in (
            ("message", "ops", "UPDATE message SET ts = ts + 1 WHERE id = 2"),
            ("message", "ops", "UPDATE message SET events = 1 WHERE id = 2"),
            ("message", "ops", "UPDATE message SET th = zeroblob(32) WHERE id = 2"),
            ("message", "ops", "UPDATE message SET digest = zeroblob(32) WHERE id = 1"),
            ("message", "ops", "UPDATE message SET body_hash = zeroblob(32) WHERE id = 1"),
            ("message", "ops", "UPDATE message SET size = 1 WHERE id = 1"),
            ("message", "ops", "DELETE FROM message WHERE id = 2"),
            ("message", "ops", "DELETE FROM segment WHERE id = 1"),
            ("message", "ops", "DELETE FROM message_keys WHERE message_id = 3"),
            ("message", "ops", "UPDATE message_keys SET slots = zeroblob(768) WHERE message_id = 3"),
            ("message", "more", "UPDATE message SET audience_id = 1 WHERE id = 4"),
            ("segment", "ops", "UPDATE segment SET sealed = (SELECT sealed FROM segment WHERE id = 2) WHERE id = 1"),
            ("segment", "ops", "UPDATE segment SET conversation_id = 1, first_seq = 9 WHERE id = 1"),
            ("audience", "ops", "UPDATE audience SET rcp = zeroblob(32) WHERE id = 1"),
            ("room_event", "ops", "UPDATE room_event SET seq = seq + 1 WHERE id = 2"),
            ("conversation", "ops", "UPDATE conversation SET th = zeroblob(32) WHERE name = 'ops'"),
            ("conversation", "ops", "UPDATE conversation SET last_seq = last_seq + 1 WHERE name = 'ops'"),
            ("conversation", "ops", "UPDATE conversation SET head = zeroblob(32) WHERE name = 'ops'"),
            ("conversation", "ops", "UPDATE conversation SET members = 1 WHERE name = 'ops'"),
            ("conversation", "ops", "UPDATE conversation SET open = 0 WHERE name = 'ops'"),
            ("conversation", "ops", "UPDATE conversation SET bytes = 1 WHERE name = 'ops'"),
            ("conversation", "ops", "UPDATE conversation SET topic = zeroblob(64) WHERE name = 'ops'"),
            ("conversation", "ops", "DELETE FROM room_event WHERE id = 3"),
            ("member", "ops", "DELETE FROM member WHERE conversation_id = 1 AND account_id = 2"),
            ("counter", "ops", "UPDATE counter SET seq = 2 WHERE conversation_id = 1"),
            ("account", "bob", "UPDATE account SET ik = zeroblob(32) WHERE name = 'bob'"),
            ("account", "bob", "UPDATE account SET version = 2 WHERE name = 'bob'"),
            ("account", "bob", "UPDATE account SET backup_version = 2 WHERE name = 'bob'"),
            ("account", "bob", "UPDATE account SET keys = x'90' WHERE name = 'bob'"),
            ("note", "bob", "UPDATE note SET version = 9 WHERE id = 1"),
            ("note", "bob", "UPDATE note SET name = zeroblob(16) WHERE id = 1"),
            ("note", "bob", "UPDATE note SET size = 1 WHERE id = 1"),
            ("note", "alice", "UPDATE note SET account_id = 1 WHERE id = 1"),
            ("note", "bob", "UPDATE account SET notes = 1 WHERE name = 'bob'"),
            ("mute", "ops", "UPDATE mute SET until = 1"),
            ("mute", "ops", "DELETE FROM mute"),
            ("device", "bob", "UPDATE device SET id = zeroblob(16) WHERE account_id = 2"),
            ("member", "", "UPDATE member SET account_id = 99 WHERE account_id = 2"),
        ):
            with self.subTest(statement=statement):
                self.put_back(good)
                self.sql(statement)
                found = self.check()
                self.assertIn((table, where), {(fault.table, fault.where) for fault in found}, found)

    def put_back(self, content: bytes) -> None:
        """The store is one of this file from now on."""
        self.successResultOf(self.store.close())
        self.path.write_bytes(content)
        self.store = self.make_store()

    def test_flips(self) -> None:
        """Of random bit flips none shows as another text; what matters is found, where readers see it too."""
        whole = self.texts(self.store)
        assert whole is not None
        self.successResultOf(self.store.close())
        good, dice = self.path.read_bytes(), random.Random(SEED)
        used = [at for at, byte in enumerate(good) if byte]  # pages are big: most of so small a file is empty
        found: Counter[str] = Counter()
        for _ in range(FLIPS):
            self.path.write_bytes(flipped(good, 8 * dice.choice(used) + dice.randrange(8)))
            found[self.outcome(whole)] += 1
        self.flushLoggedErrors()  # the operator hears of them
        self.path.write_bytes(good)
        self.store = self.make_store()
        print(f"\n    {dict(found)}", end=" ")
        self.assertEqual(0, found["seen by readers alone"] + found["a wrong text"], found)
        self.assertGreater(found["refused at the start"] + found["found"], FLIPS // 2)

    def texts(self, store: SQLiteStore) -> dict[int, Any] | None:
        """What alice reads in ops; None where that is refused."""
        found: list[Any] = []
        reading = self.start(store.read("alice", "ops", after=None, before=None, limit=100, max_bytes=1 << 20))
        reading.addCallbacks(found.append, lambda failure: failure.trap(Refused) and None)
        return {row.seq: (row.sender, row.mid, row.ts, row.shared) for row in found[0].messages} if found else None

    def outcome(self, whole: dict[int, Any]) -> str:
        """What becomes of a database with one bit flipped."""
        store = SQLiteStore(self.path, KeyEncryptionKeys(self.KEY_FILE), reactor=InlineReactor(), pool=InlinePool)
        try:
            store.open()
        except (StartupError, sqlite3.Error):
            return "refused at the start"
        read = self.texts(store)
        found = self.do(store.check(SRV, unheard))
        self.successResultOf(store.close())
        if read is not None and any(whole.get(seq) != text for seq, text in read.items()):
            return "a wrong text"
        if found:
            return "found"
        return "without effect" if read == whole else "seen by readers alone"


class CopyTests(WholeCase):
    """Tests for backups and restores."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.target = self.directory / "backup"

    def restored(self, *, key_file: str | None = None, srv: str = SRV) -> Any:
        """Puts the backup back."""
        kek = KeyEncryptionKeys(self.KEY_FILE if key_file is None else key_file)
        return copies.put_back(self.target, self.directory / "chat.db", kek, srv, unheard, now=1)

    def test_there_and_back(self) -> None:
        """What was in the database is in the backup and in what is made of it, but for the epoch."""
        made = self.do(self.store.copy_to(self.target, unheard))
        self.assertEqual((3, 2, 5), (made.accounts, made.rooms, made.messages))
        self.assertEqual(0o600, stat.S_IMODE(self.target.stat().st_mode))
        back = self.restored()
        self.assertEqual((made.accounts, made.messages, made.sealed), (back.accounts, back.messages, back.sealed))
        self.assertEqual(["backup", "chat.db"], sorted(path.name for path in self.directory.iterdir()))
        self.assertEqual(0o600, stat.S_IMODE((self.directory / "chat.db").stat().st_mode))
        kek = KeyEncryptionKeys(self.KEY_FILE)
        store = SQLiteStore(self.directory / "chat.db", kek, reactor=self.reactor, pool=InlinePool)
        store.open()
        self.addCleanup(lambda: self.successResultOf(store.close()))
        self.assertNotEqual(self.store.epoch, store.epoch)
        self.assertTrue(store._at_rest.restored)
        self.assertEqual([], self.do(store.check(SRV, unheard)))

    def test_no_key_in_it(self) -> None:
        """The key that opens it is not in it."""
        self.do(self.store.copy_to(self.target, unheard))
        self.assertNotIn(self.KEY_FILE.split()[-1].encode(), self.target.read_bytes())

    def test_never_over_a_file(self) -> None:
        """Neither a backup nor a restore replaces anything."""
        self.target.write_text("precious")
        error = self.failureResultOf(self.start(self.store.copy_to(self.target, unheard)), BackupFailed)
        self.assertIn("already", error.getErrorMessage())
        self.assertEqual("precious", self.target.read_text())

    def test_nowhere(self) -> None:
        """Where nothing can be written that is said, and nothing is left."""
        error = self.failureResultOf(
            self.start(self.store.copy_to(self.directory / "none" / "x", unheard)), BackupFailed
        )
        self.assertIn("cannot be written", error.getErrorMessage())

    def test_no_place(self) -> None:
        """A name that no file can have, a directory, and one that may not be searched are refused in words."""
        closed = self.directory / "closed"
        closed.mkdir()

        def stat_refused(path: Path, **_: Any) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        for target, said in (
            (self.directory / ("x" * 300), "cannot be written: File name too long. Nothing was left there."),
            (closed, "is a directory"),
        ):
            error = self.failureResultOf(self.start(self.store.copy_to(target, unheard)), BackupFailed)
            self.assertIn(f"{target} {said}", error.getErrorMessage())
        self.patch(Path, "is_dir", stat_refused)  # root, who may run this, may search everything
        error = self.failureResultOf(self.start(self.store.copy_to(closed / "x", unheard)), BackupFailed)
        said = f"{closed / 'x'} cannot be written: Permission denied. Nothing was left there."
        self.assertEqual(said, error.getErrorMessage())

    def test_nothing_left_by_any_name(self) -> None:
        """Also where the name looks like a pattern."""
        self.sql("UPDATE segment SET sealed = zeroblob(100) WHERE id = 1")
        target = self.directory / "backup[1]*.db"
        self.failureResultOf(self.start(self.store.copy_to(target, unheard)), BackupFailed)
        self.assertEqual([], list(self.directory.iterdir()))

    def test_damaged(self) -> None:
        """A database with a row that does not open makes no backup."""
        self.sql("UPDATE segment SET sealed = zeroblob(100) WHERE id = 1")
        error = self.failureResultOf(self.start(self.store.copy_to(self.target, unheard)), BackupFailed)
        self.assertIn("Row 1 of segment (ops)", error.getErrorMessage())
        self.assertEqual([], list(self.directory.iterdir()))

    def test_stopping(self) -> None:
        """A store that closes does not wait for a backup to be whole."""
        self.store._stopping.set()
        self.failureResultOf(self.start(self.store.copy_to(self.target, unheard)), BackupFailed)
        self.assertEqual([], list(self.directory.iterdir()))

    def test_other_key(self) -> None:
        """With another key it is refused, and nothing is left."""
        self.do(self.store.copy_to(self.target, unheard))
        self.assertRaises(StartupError, self.restored, key_file=new_key_file())
        self.assertEqual([self.target], list(self.directory.iterdir()))

    def test_no_backup(self) -> None:
        """What is no backup, a damaged one, and a database in use are refused, and nothing is left."""
        damaged = f"{self.target} is damaged, or no database at all: take another backup."
        self.target.write_bytes(b"nothing of the kind" * 1000)
        self.assertEqual(damaged, str(self.assertRaises(BackupFailed, self.restored)))
        self.target.unlink()
        self.do(self.store.copy_to(self.target, unheard))
        whole = self.target.read_bytes()
        self.target.write_bytes(whole[: len(whole) // 2])
        self.assertEqual(damaged, str(self.assertRaises(BackupFailed, self.restored)))
        self.target.write_bytes(whole)
        with closing(sqlite3.connect(self.target)) as database, database:
            database.execute("UPDATE room_event SET sealed = zeroblob(9)")
        said = str(self.assertRaises(BackupFailed, self.restored))
        self.assertIn("room_event", said)
        self.assertTrue(said.startswith(f"{self.target} is damaged (") and said.endswith("): take another backup."))
        self.target.with_name("backup-wal").write_bytes(b"")
        self.assertIn("in use", str(self.assertRaises(BackupFailed, self.restored)))
        self.assertEqual(["backup", "backup-wal"], sorted(path.name for path in self.directory.iterdir()))

    def test_empty(self) -> None:
        """An empty file, and a database without a table, are no backup of an empty server."""
        self.target.write_bytes(b"")
        said = f"{self.target} is empty: no backup."
        self.assertEqual(said, str(self.assertRaises(BackupFailed, self.restored)))
        with closing(sqlite3.connect(self.target)) as database:
            database.execute("VACUUM")
        self.assertEqual(said, str(self.assertRaises(BackupFailed, self.restored)))
        self.assertEqual([self.target], list(self.directory.iterdir()))

    def test_others_databases(self) -> None:
        """One of another program, or from a newer version, is named as what it is, by its own name."""
        for statement, said in (
            ("CREATE TABLE other (x)", "is a database of another program"),
            (f"PRAGMA application_id = {migrate.APPLICATION_ID}; PRAGMA user_version = 99", "A newer SecureChat made"),
        ):
            with closing(sqlite3.connect(self.target)) as database:
                database.executescript(statement)
            error = str(self.assertRaises(BackupFailed, self.restored))
            self.assertIn(said, error)
            self.assertIn(str(self.target), error)
            self.assertNotIn(".part", error)
        self.assertEqual([self.target], list(self.directory.iterdir()))

    def test_other_server(self) -> None:
        """With another server's identity it is refused, for no client would take its accounts; nothing is left."""
        self.do(self.store.copy_to(self.target, unheard))
        other = "A" * len(SRV)
        error = self.assertRaises(BackupFailed, self.restored, srv=other)
        said = f"This server.key is not the one the accounts in {self.target} were made for."
        self.assertEqual(said, str(error))
        self.assertEqual([self.target], list(self.directory.iterdir()))
        with closing(sqlite3.connect(self.target)) as database, database:
            database.execute("UPDATE account SET keys = x'90' WHERE name = 'bob'")  # damage, which check is for
        self.assertEqual(3, self.restored().accounts)


class RotationTests(WholeCase):
    """Tests for new keys."""

    def rotate(self, key_file: str | None = None) -> Any:
        """Rotates, by this key file."""
        kek = KeyEncryptionKeys(self.KEY_FILE if key_file is None else key_file)
        return self.do(self.store.rotate(kek, unheard, now=1))

    def under(self) -> dict[str, set[int]]:
        """The data keys that are named, by table, and those there are."""
        connection = self.writer.connection
        named = {
            kind.table: {number for (number,) in connection.execute(f"SELECT DISTINCT {kind.dek} FROM {kind.table}")}
            - {None}
            for kind in sealed.KINDS
        }
        return {**named, "dek": {number for (number,) in connection.execute("SELECT id FROM dek")}}

    def test_everything(self) -> None:
        """Every row of every table is under the new key, and the old one is gone; all is as it was."""
        before = self.do(self.store.read("alice", "ops", after=0, before=None, limit=9, max_bytes=1 << 20))
        self.assertEqual({1}, set.union(*self.under().values()))
        rotated = self.rotate()
        self.assertEqual({2}, set.union(*self.under().values()))
        self.assertEqual((True, 0), (rotated.rows >= 5 + 4 + 3 + 1, rotated.damaged))
        self.assertEqual([], self.check())
        self.store._at_rest.segments.clear()
        after = self.do(self.store.read("alice", "ops", after=0, before=None, limit=9, max_bytes=1 << 20))
        self.assertEqual(before, after)
        self.assertEqual(b"sealed", self.do(self.store.backup("alice")).blob[:6])  # type: ignore[union-attr]

    def test_new_line_on_top(self) -> None:
        """The first line of the key file opens all afterwards, alone."""
        fresh = new_key_file()
        self.rotate(fresh + self.KEY_FILE)
        self.successResultOf(self.store.close())
        self.assertRaises(StartupError, self.make_store)
        self.store = self.make_store(kek=KeyEncryptionKeys(fresh))
        self.assertEqual([], self.check())

    def test_other_key_file(self) -> None:
        """A key file that does not open the database changes nothing."""
        verb = self.store.rotate(KeyEncryptionKeys(new_key_file()), unheard, now=1)
        self.failureResultOf(self.start(verb), StartupError)
        self.assertEqual({1}, set.union(*self.under().values()))

    def test_new_rows_at_once(self) -> None:
        """What is stored while the old is sealed anew is under the new key, and everybody can read it meanwhile."""
        seen: list[set[int]] = []

        def meanwhile(what: str, done: int, of: int) -> None:
            number = 4 + len(seen)
            self.alices.ask(self.send_of(number, self.alice, self.bob))
            newest = self.writer.connection.execute("SELECT dek_id FROM segment ORDER BY id DESC LIMIT 1").fetchone()
            seen.append(set(newest))
            self.store._at_rest.segments.clear()
            page = self.do(self.store.read("bob", "ops", after=0, before=None, limit=99, max_bytes=1 << 20))
            self.assertEqual(number, len(page.messages))

        self.do(self.store.rotate(KeyEncryptionKeys(self.KEY_FILE), meanwhile, now=1))
        self.assertEqual({2}, set.union(*seen))
        self.assertEqual({2}, set.union(*self.under().values()))

    def test_gone_on_with(self) -> None:
        """One that did not come to its end is gone on with, by its own key."""
        self.patch(rotation, "put", lambda *_: 1 / 0)
        self.failureResultOf(self.start(self.store.rotate(KeyEncryptionKeys(self.KEY_FILE), unheard, now=1)), Refused)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual({1, 2}, self.under()["dek"])
        self.successResultOf(self.store.close())
        self.restore_put()
        self.store = self.make_store()
        self.rotate()
        self.assertEqual({2}, set.union(*self.under().values()))

    def restore_put(self) -> None:
        """Takes `test_gone_on_with`'s fault away again."""
        for patch in reversed(self._cleanups):
            if getattr(patch[0], "__name__", "") == "restore":
                patch[0]()

    def test_damaged(self) -> None:
        """A row that does not open stays as it is, with its key; it is counted, and the rest goes on."""
        self.sql("UPDATE segment SET sealed = zeroblob(100) WHERE id = 1")
        rotated = self.rotate()
        self.assertEqual(1, rotated.damaged)
        self.assertEqual(
            {"segment": {1, 2}, "audience": {2}, "dek": {1, 2}},
            {k: self.under()[k] for k in ("segment", "audience", "dek")},
        )
        for newest in (3, 4):  # and each later rotation makes a key of its own all the same
            self.assertEqual(1, self.rotate().damaged)
            self.assertEqual({1, newest}, self.under()["dek"])
