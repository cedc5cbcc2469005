"""Making a database file, and bringing an older one up to date."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from securechat.errors import StartupError
from securechat.storage import migrate


def query(path: Path, sql: str) -> Any:
    """The first row of a query on a database file."""
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute(sql).fetchone()
        connection.commit()
        return row


class MigrateCase(SynchronousTestCase):
    """Tests on a file of their own, with a directory of steps to which a test adds."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "chat.db"
        self.schema = Path(self.mktemp())
        self.schema.mkdir()
        self.step(1, "CREATE TABLE one (a INTEGER PRIMARY KEY) STRICT; INSERT INTO one VALUES (1);")

    def step(self, number: int, sql: str) -> None:
        """Adds a step."""
        (self.schema / f"{number:04}.sql").write_text(sql, encoding="utf-8")

    def upgrade(self) -> None:
        migrate.upgrade(self.path, self.schema)

    def refusal(self) -> str:
        """Why the upgrade is refused."""
        return str(self.assertRaises(StartupError, self.upgrade))

    def files(self) -> set[str]:
        """The files there are, but for what SQLite itself keeps beside an open database."""
        return {name for name in os.listdir(self.directory) if not name.endswith(("-wal", "-shm"))}


class NewTests(MigrateCase):
    """Tests for a database that is not there yet."""

    def test_our_schema(self) -> None:
        """The steps that are shipped make a database with every table, all of them STRICT."""
        migrate.upgrade(self.path)
        sql = "SELECT count(*), sum(strict) FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
        tables, strict = query(self.path, sql)
        self.assertEqual(17, tables)
        self.assertEqual(tables, strict)

    def test_marked(self) -> None:
        """The file says whose it is and of which version, and has the big pages and the WAL that we want."""
        self.upgrade()
        marks = [
            query(self.path, f"PRAGMA {name}")[0]
            for name in ("application_id", "user_version", "page_size", "journal_mode")
        ]
        self.assertEqual([0x53436874, 1, 16384, "wal"], marks)

    def test_private(self) -> None:
        """Nobody but its owner can read it, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        self.upgrade()
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)

    def test_empty_file(self) -> None:
        """An empty file, as a crash at the very beginning leaves it, is filled."""
        self.path.touch()
        self.upgrade()
        self.assertEqual((1,), query(self.path, "SELECT a FROM one"))
        self.assertEqual({"chat.db"}, self.files())

    def test_crash_at_the_very_beginning(self) -> None:
        """What a crash left of the first change of all, with the journal of it, is taken back, and the file filled."""
        crashed = Path(self.mktemp())
        with closing(sqlite3.connect(crashed, isolation_level=None)) as connection:
            connection.executescript("PRAGMA cache_size = 1; BEGIN; CREATE TABLE t (a);")
            connection.executemany("INSERT INTO t VALUES (zeroblob(?))", [(4000,)] * 100)
            journal = crashed.with_name(f"{crashed.name}-journal")
            self.path.write_bytes(crashed.read_bytes())
            self.path.with_name("chat.db-journal").write_bytes(journal.read_bytes())
        self.assertGreater(self.path.stat().st_size, 0)
        self.upgrade()
        self.assertEqual((1,), query(self.path, "SELECT a FROM one"))
        self.assertEqual({"chat.db"}, self.files())

    def test_all_steps(self) -> None:
        """A new database takes all steps, and there is nothing to copy before."""
        self.step(2, "CREATE TABLE two (b INTEGER) STRICT;")
        self.upgrade()
        self.assertEqual((2,), query(self.path, "PRAGMA user_version"))
        self.assertEqual({"chat.db"}, self.files())

    def test_no_directory(self) -> None:
        """Where the directory is missing, the refusal names the file and what is needed."""
        self.path = self.directory / "missing" / "chat.db"
        text = self.refusal()
        self.assertIn(str(self.path), text)
        self.assertIn("directory must exist", text)

    def test_gap_in_the_steps(self) -> None:
        """Steps that are not numbered one after the other are a mistake of ours, found at once."""
        self.step(3, "SELECT 1;")
        self.assertRaises(ValueError, self.upgrade)


class UpgradeTests(MigrateCase):
    """Tests for a database that is there."""

    def setUp(self) -> None:
        super().setUp()
        self.upgrade()

    def test_current(self) -> None:
        """A database of the newest version stays as it is, and is not copied."""
        before = self.path.read_bytes()
        self.upgrade()
        self.assertEqual(before, self.path.read_bytes())
        self.assertEqual({"chat.db"}, self.files())

    def test_readable_by_others(self) -> None:
        """Permissions that are too wide are narrowed."""
        self.path.chmod(0o644)
        self.upgrade()
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)

    def test_older(self) -> None:
        """An older database takes the steps it lacks and keeps its rows."""
        self.step(2, "ALTER TABLE one ADD COLUMN b INTEGER NOT NULL DEFAULT 7;")
        self.step(3, "UPDATE one SET b = b + 1;")
        self.upgrade()
        self.assertEqual((1, 8), query(self.path, "SELECT a, b FROM one"))
        self.assertEqual((3,), query(self.path, "PRAGMA user_version"))

    def test_copied_first(self) -> None:
        """Before an upgrade the database is copied, whole, marked and private, under the next version's number."""
        self.addCleanup(os.umask, os.umask(0))
        self.step(2, "DELETE FROM one;")
        self.upgrade()
        copy = self.directory / "chat.db.before-2"
        self.assertEqual({"chat.db", "chat.db.before-2"}, self.files())
        self.assertEqual((1,), query(copy, "SELECT a FROM one"))
        self.assertEqual(0o600, copy.stat().st_mode & 0o777)
        with_the_old_steps = Path(self.mktemp())
        with_the_old_steps.mkdir()
        (self.schema / "0001.sql").rename(with_the_old_steps / "0001.sql")
        migrate.upgrade(copy, with_the_old_steps)

    def test_copy_is_on_disk(self) -> None:
        """The copy and its name are on disk before the first step: a power cut during the upgrade leaves it."""
        synced: list[int] = []
        self.patch(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
        self.step(2, "DELETE FROM missing;")
        self.refusal()
        copy = self.directory / "chat.db.before-2"
        self.assertEqual([copy.stat().st_ino, self.directory.stat().st_ino], synced)

    def test_wal_is_written_anew(self) -> None:
        """The WAL of a crash is on disk, as it reads, before the database is opened to be written."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE one SET a = 2")
            connection.commit()
            crashed = Path(self.mktemp())
            crashed.mkdir()
            for name in ("chat.db", "chat.db-wal"):
                (crashed / name).write_bytes(self.path.with_name(name).read_bytes())
        wal = crashed / "chat.db-wal"
        before = wal.read_bytes()
        written: list[tuple[int, bytes]] = []
        synced: list[int] = []

        def write(descriptor: int, data: bytes, at: int) -> int:
            written.append((at, data))
            return len(data)

        self.patch(migrate, "_CHUNK", 10_000)
        self.patch(os, "pwrite", write)
        self.patch(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
        node = wal.stat().st_ino
        migrate.upgrade(crashed / "chat.db", self.schema)
        self.assertEqual(before, b"".join(data for _, data in written))
        self.assertEqual(list(range(0, len(before), 10_000)), [at for at, _ in written])
        self.assertEqual([node], synced)
        self.assertEqual((2,), query(crashed / "chat.db", "SELECT a FROM one"))

    def test_no_room_for_the_copy(self) -> None:
        """Without a copy there is no upgrade: where it cannot be made, nothing happens."""
        (self.directory / "chat.db.before-2").mkdir()
        self.step(2, "DELETE FROM one;")
        self.assertIn(str(self.path), self.refusal())
        self.assertEqual((1,), query(self.path, "SELECT a FROM one"))
        self.assertEqual({"chat.db", "chat.db.before-2"}, self.files())

    def test_failing_step(self) -> None:
        """A step that fails half-way leaves the version before; the refusal says where the copy is."""
        self.step(2, "UPDATE one SET a = 2;")
        self.step(3, "DELETE FROM one; INSERT INTO missing VALUES (1);")
        text = self.refusal()
        self.assertIn("version 3 failed", text)
        self.assertIn(str(self.directory / "chat.db.before-2"), text)
        self.assertEqual((2,), query(self.path, "SELECT a FROM one"))
        self.assertEqual((2,), query(self.path, "PRAGMA user_version"))

    def test_step_that_breaks_references(self) -> None:
        """A step after which rows refer to nothing is not kept."""
        self.step(2, "CREATE TABLE two (a INTEGER REFERENCES one) STRICT; INSERT INTO two VALUES (1);")
        self.upgrade()
        self.step(3, "DELETE FROM one;")
        self.assertIn("refer to nothing", self.refusal())
        self.assertEqual((1,), query(self.path, "SELECT a FROM one"))


class RefusedTests(MigrateCase):
    """Tests for files that are not touched."""

    def assertUntouched(self, part: str) -> None:
        """The upgrade is refused with a text that has the part, and the file stays byte for byte."""
        before, mode = self.path.read_bytes(), self.path.stat().st_mode
        self.assertIn(part, self.refusal())
        self.assertEqual((before, mode), (self.path.read_bytes(), self.path.stat().st_mode))
        self.assertEqual({"chat.db"}, self.files())

    def test_from_the_future(self) -> None:
        """A newer version's database is left to it."""
        self.step(2, "CREATE TABLE two (b INTEGER) STRICT;")
        self.upgrade()
        (self.schema / "0002.sql").unlink()
        self.assertUntouched("newer SecureChat")

    def test_from_the_future_after_a_crash(self) -> None:
        """Not even the WAL that a crash of the newer version left is folded in."""
        self.upgrade()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA user_version = 9")
            wal = self.path.with_name("chat.db-wal")
            crashed = Path(self.mktemp())
            crashed.mkdir()
            (crashed / "chat.db").write_bytes(self.path.read_bytes())
            (crashed / "chat.db-wal").write_bytes(wal.read_bytes())
        self.directory, self.path = crashed, crashed / "chat.db"
        before = (crashed / "chat.db-wal").read_bytes()
        self.assertUntouched("version 9")
        self.assertEqual(before, (crashed / "chat.db-wal").read_bytes())

    def test_not_a_database(self) -> None:
        """A file that is something else is refused with what to do."""
        self.path.write_bytes(b"a letter to my aunt\n" * 100)
        self.assertUntouched("Put a backup in its place")

    def test_cut_short(self) -> None:
        """A database that lost its end is refused as damaged."""
        self.upgrade()
        self.path.write_bytes(self.path.read_bytes()[:-16384])
        self.assertUntouched("is damaged")

    def test_another_programs(self) -> None:
        """Another program's database is refused, whether it marks its files or not."""
        for application, version in ((0, 0), (7, 0), (7, 1), (migrate.APPLICATION_ID, 0)):
            self.path.unlink(missing_ok=True)
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("CREATE TABLE theirs (a)")
                connection.execute(f"PRAGMA application_id = {application}")
                connection.execute(f"PRAGMA user_version = {version}")
            self.assertUntouched("another program")

    def test_old_sqlite(self) -> None:
        """An SQLite without STRICT tables is refused, with the version it has and the one needed."""
        error = self.assertRaises(StartupError, migrate.check_sqlite, (3, 36, 9))
        self.assertIn("has SQLite 3.36.9; SecureChat needs 3.37.0", str(error))
        migrate.check_sqlite((3, 37, 0))
