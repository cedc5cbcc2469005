"""Copies of the database: backups of one in use, checked by opening them, and putting one back. Blocking."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.errors import AtRestMismatch, BackupFailed
from securechat.storage import migrate
from securechat.storage.connection import arguments
from securechat.storage.interface import BackupReport
from securechat.storage.queries import sealed
from securechat.storage.queries.sealing import found

_BATCH: Final = 500  # rows opened between two words on the progress
_STEPS: Final = 100_000  # of SQLite's machine between two looks at whether to stop

Tell = Callable[[str, int, int], None]


def copy_to(
    database: Path, target: Path, sealer: RowSealer, tell: Tell, stop: Callable[[], bool] = lambda: False
) -> BackupReport:
    """Copies a database that may be in use to a new file (0600), complete and checked once it has its name.

    Args:
        tell: told what it is at, how much is done, of how much.
        stop: whether to give up; asked often.

    Raises:
        BackupFailed: nothing is left of it.
    """
    if target.exists():
        raise BackupFailed(f"There is a file {target} already. Name another: a backup is never written over.")
    with _made(target) as part:
        with closing(sqlite3.connect(**arguments(database))) as connection:
            connection.set_progress_handler(stop, _STEPS)
            tell("copying", 0, 0)
            connection.execute("VACUUM INTO ?", (str(part),))
        report = _opened(part, sealer, tell, stop)
        migrate.sync(part)
    return report


def put_back(backup: Path, target: Path, kek: KeyEncryptionKeys, tell: Tell, *, now: int) -> BackupReport:
    """Puts a backup in the place of a database that is not there, under a new epoch; upgraded where it is older.

    Raises:
        BackupFailed: it is no backup, damaged, or cannot be read; nothing is left of it.
        StartupError: these keys do not open it; it is from a newer version, or of another program.
    """
    for suffix in ("-wal", "-journal"):
        if backup.with_name(backup.name + suffix).exists():
            raise BackupFailed(
                f"{backup} is a database in use, or was not closed: {backup.name}{suffix} lies beside it. Restore what"
                " securechat admin backup wrote, or start and stop the daemon on it first."
            )
    with _made(target) as part:
        with backup.open("rb") as source, part.open("wb") as copy:
            while block := source.read(1 << 20):
                copy.write(block)
        migrate.upgrade(part)
        with migrate.damage_explained(backup), closing(sqlite3.connect(**arguments(part))) as connection:
            connection.execute("BEGIN IMMEDIATE")
            foundation = found(connection.cursor(), kek, now)
            connection.execute("UPDATE meta SET epoch = ?", (secrets.token_hex(16),))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, whatever it was
        report = _opened(part, foundation.at_rest.sealer, tell, lambda: False)
        migrate.sync(part)
    return report


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A file for a copy, which gets its name when all went well. Raises BackupFailed."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
        os.link(part, target)  # a rename would replace what somebody else has put there meanwhile
        part.unlink()
        migrate.sync(target.parent)
    except OSError as error:
        raise BackupFailed(f"{target} cannot be written: {error.strerror or error}. Nothing was left there.") from None
    except sqlite3.Error as error:
        raise BackupFailed(f"The copy for {target} could not be made: {error}. Nothing was left there.") from None
    finally:
        for left in part.parent.glob(f"{part.name}*"):
            left.unlink(missing_ok=True)


def _opened(part: Path, sealer: RowSealer, tell: Tell, stop: Callable[[], bool]) -> BackupReport:
    """Opens a copy as a restore would, and every sealed row in it. Raises BackupFailed, StartupError."""
    with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.set_progress_handler(stop, _STEPS)
        cursor = connection.cursor()
        marks = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if marks != [migrate.APPLICATION_ID, migrate.newest_version()]:
            raise BackupFailed("The copy is not a database of this SecureChat.")
        tell("reading the file", 0, 0)
        said = cursor.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if said != "ok":
            raise BackupFailed(f"The database is damaged: {said}. Look with securechat admin check.")
        total, done = sealed.count(cursor), 0
        for kind in sealed.KINDS:
            after = 0
            while some := sealed.rows(cursor, kind, after, _BATCH):
                if stop():
                    raise BackupFailed("The server stops. Nothing was left of the backup.")
                for row in some:
                    _open(sealer, kind, row)
                after, done = some[-1].id, done + len(some)
                tell("opening rows", done, total)
        accounts, rooms, messages = (
            cursor.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
            for what in ("account", "conversation WHERE private = 0 AND removed = 0", "message")
        )
    return BackupReport(part.stat().st_size, accounts, rooms, messages, total)


def _open(sealer: RowSealer, kind: sealed.Kind, row: sealed.SealedRow) -> None:
    if row.token and row.dek_id is not None:
        try:
            sealer.open(row.dek_id, row.place, row.token)
        except AtRestMismatch as error:
            raise BackupFailed(
                f"Row {row.id} of {kind.table} ({row.where}) does not check out: {error}. The database is damaged, so"
                " this would be no backup: look with securechat admin check."
            ) from None
