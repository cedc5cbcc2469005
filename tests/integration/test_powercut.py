"""Power cuts: whatever a disk has kept of what was not synced, everything acknowledged is there."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from securechat.storage import migrate
from tests import powercut, shim
from tests.powercut import NORMAL, OFF, Found

CUTS: Final = 50  # of each kind of recording
ATTEMPTS: Final = 12  # to find a fault that shows in every second recording


class PowerCutTests(SynchronousTestCase):
    """A real store writes; crash images are made of what it wrote, and opened as the daemon does."""

    def setUp(self) -> None:
        if shim.library() is None:
            raise SkipTest(shim.MISSING)
        self.directory = Path(tempfile.mkdtemp(prefix="securechat-test-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.seed = int(os.environ.get("SECURECHAT_TEST_SEED") or secrets.randbits(32))

    def found(self, name: str, cuts: int, more: int = 0, **kind: int) -> Found:
        """Cuts of one recording; `more` is added to the seed."""
        seed = self.seed + more
        return powercut.cut(powercut.record(self.directory / name, seed=seed, **kind), cuts, seed)

    def test_nothing_acknowledged_is_lost(self) -> None:
        """Of 200 images each opens, is whole and has all that was acknowledged; also after syncs that failed."""
        total = Found()
        for number, kind in enumerate(powercut.KINDS):
            total.add(self.found(str(number), CUTS, **kind))
        why = f"seed {self.seed}: {total}"
        self.assertEqual((4 * CUTS, 0, 0), (total.cuts, total.lost, total.damaged), why)
        self.assertGreater(total.recovered, 0, why)
        self.assertGreaterEqual(total.failed_syncs, 8, why)

    def test_upgrade(self) -> None:
        """A power cut while a database is made or upgraded leaves one that the next start brings to its end, whole."""
        schema = self.directory / "schema"
        schema.mkdir()
        rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000)"
        (schema / "0001.sql").write_text(f"CREATE TABLE t (a INTEGER, b TEXT) STRICT; {rows} INSERT INTO t"
                                         " SELECT x, hex(randomblob(40)) FROM n;")  # fmt: skip
        (schema / "0002.sql").write_text("UPDATE t SET a = a + 5000; CREATE INDEX i ON t (b);")
        log = powercut.record_upgrade(self.directory / "upgrade", schema)
        wanted = self._rows(self.directory / "upgrade" / "data" / "chat.db")[1:]

        def look(image: Path, said: Sequence[str]) -> str:
            path = image / "chat.db"
            migrate.upgrade(path, schema)
            version, *got = self._rows(path)
            # What was being made at the cut is made anew, with other random bytes.
            return "" if version == 2 and (got == wanted or not said) and got[0] == wanted[0] else f"{version}, {got}"

        found = Found()
        powercut.play(log, CUTS * 2, self.seed, look, found)
        self.assertEqual("", found.first, f"seed {self.seed}")

    def _rows(self, path: Path) -> list[object]:
        """The version, the sum of the numbers, and all the texts of the database that `test_upgrade` makes."""
        with closing(sqlite3.connect(path)) as connection:
            queries = ("PRAGMA user_version", "SELECT sum(a) FROM t", "SELECT group_concat(b) FROM t")
            found = [connection.execute(sql).fetchone()[0] for sql in queries]
            self.assertEqual(("ok",), connection.execute("PRAGMA integrity_check").fetchone())
        return found

    def test_missing_fsync(self) -> None:
        """Mutants that sync less than they should lose what they acknowledged, so the images have teeth."""
        for name, level in (("normal", NORMAL), ("off", OFF)):
            found = self.found(name, 60, messages=40, autocheckpoint=32, synchronous=level)
            self.assertGreater(found.lost, 0, f"synchronous={name}, seed {self.seed}: {found}")

    def test_wal_as_it_reads(self) -> None:
        """A mutant that uses the WAL of a crash as it reads loses or damages something, after a sync that failed."""
        found = Found()
        for attempt in range(ATTEMPTS):
            found.add(self.found(f"attempt{attempt}", 2 * CUTS, attempt, write_anew=0, **powercut.KINDS[2]))
            if found.lost or found.damaged:
                return
        self.fail(f"not found, seed {self.seed}: {found}")
