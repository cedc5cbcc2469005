"""Copies of the database: backups of one in use, checked by opening them, and putting one back. Blocking."""

from __future__ import annotations

import glob
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from securechat.crypto.atrest import KeyEncryptionKeys, RowSealer
from securechat.errors import AtRestMismatch, BackupFailed, StartupError
from securechat.storage import migrate
from securechat.storage.connection import arguments
from securechat.storage.interface import BackupReport
from securechat.storage.queries import integrity, sealed
from securechat.storage.queries.common import Cursor
from securechat.storage.queries.sealing import found

_BATCH: Final = 500  # rows opened between two words on the progress
_BLOCK: Final = 1 << 20  # bytes copied at once
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
    with _made(target) as part:
        with closing(sqlite3.connect(**arguments(database))) as connection:
            connection.set_progress_handler(stop, _STEPS)
            tell("copying", 0, 0)
            connection.execute("VACUUM INTO ?", (str(part),))
        report = _opened(part, sealer, tell, stop, _no_backup)
        migrate.sync(part)
    return report


def put_back(backup: Path, target: Path, kek: KeyEncryptionKeys, srv: str, tell: Tell, *, now: int) -> BackupReport:
    """Puts a backup in the place of a database that is not there, under a new epoch; upgraded where it is older.

    Args:
        srv: the identity of the server that is to serve it.

    Raises:
        BackupFailed: it is no backup, damaged, from a newer version, another server's, or cannot be read; nothing is
            left of it.
        StartupError: these keys do not open it.
    """
    for suffix in ("-wal", "-journal"):
        if backup.with_name(backup.name + suffix).exists():
            raise BackupFailed(
                f"{backup} is a database in use, or was not closed: {backup.name}{suffix} lies beside it. Restore what"
                " securechat admin backup wrote, or start and stop the daemon on it first."
            )
    with _made(target) as part, _damage_told(backup):
        _fill(part, backup)
        _refuse_what_is_none(part, backup)
        _upgrade(part, backup)
        with closing(sqlite3.connect(**arguments(part))) as connection:
            connection.execute("BEGIN IMMEDIATE")
            cursor = connection.cursor()
            foundation = found(cursor, kek, now)
            _refuse_of_another_server(cursor, srv, backup)
            connection.execute("UPDATE meta SET epoch = ?", (secrets.token_hex(16),))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, whatever it was
        report = _opened(
            part, foundation.at_rest.sealer, tell, lambda: False, lambda what: _damaged(backup, f" ({what})")
        )
        migrate.sync(part)
    return report


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A file for a copy, which gets its name when all went well. Raises BackupFailed."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.is_dir():
            raise BackupFailed(f"{target} is a directory. Name a file in it that is not there yet.")
        if target.exists():
            raise BackupFailed(f"There is a file {target} already. Name another: a backup is never written over.")
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            yield part
            os.link(part, target)  # a rename would replace what somebody else has put there meanwhile
            part.unlink()
            migrate.sync(target.parent)
        finally:
            for left in part.parent.glob(f"{glob.escape(part.name)}*"):
                left.unlink(missing_ok=True)
    except OSError as error:
        raise BackupFailed(f"{target} cannot be written: {error.strerror or error}. Nothing was left there.") from None
    except sqlite3.Error as error:
        raise BackupFailed(f"The copy for {target} could not be made: {error}. Nothing was left there.") from None


# --- what is no backup ------------------------------------------------------------------------------------------------


def _no_backup(what: str) -> str:
    return f"The database is damaged, so this would be no backup ({what}). Look with securechat admin check."


def _damaged(backup: Path, what: str = ", or no database at all") -> str:
    return f"{backup} is damaged{what}: take another backup."


@contextmanager
def _damage_told(backup: Path) -> Iterator[None]:
    """Turns what SQLite says of a copy that is damaged into words on the backup. Raises BackupFailed."""
    try:
        yield
    except sqlite3.OperationalError:  # of the place, not of the file: no space is left, for instance
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # the latter: SQLite quotes what it cannot read
        raise BackupFailed(_damaged(backup)) from None


def _fill(part: Path, backup: Path) -> None:
    """Copies the backup's bytes. Raises BackupFailed: it cannot be read; OSError: the copy cannot be written."""
    try:
        source = backup.open("rb")
    except OSError as error:
        raise BackupFailed(f"{backup} cannot be read: {error.strerror}.") from None
    with source, part.open("wb") as copy:
        while block := source.read(_BLOCK):
            copy.write(block)


def _refuse_what_is_none(part: Path, backup: Path) -> None:
    """Looks whose database a copy is, before anything is done to it. Raises BackupFailed."""
    application, version, tables = migrate.marks(part, "rw")
    if (application, version, tables) == (0, 0, 0):
        raise BackupFailed(f"{backup} is empty: no backup.")
    if application != migrate.APPLICATION_ID or version < 1:
        raise BackupFailed(f"{backup} is a database of another program: no backup.")
    if version > migrate.newest_version():
        raise BackupFailed(
            f"A newer SecureChat made {backup} (version {version}, this one knows {migrate.newest_version()}). Restore"
            " it with that."
        )


def _upgrade(part: Path, backup: Path) -> None:
    try:
        migrate.upgrade(part)
    except StartupError as error:
        raise BackupFailed(
            f"{backup} is of an older version and could not be upgraded: {error.__cause__ or error}. Restore it with"
            " the SecureChat that made it, and report this."
        ) from None


def _refuse_of_another_server(cursor: Cursor, srv: str, backup: Path) -> None:
    """Raises BackupFailed where no account's signed keys are for this server: every client would refuse it."""
    accounts = integrity.accounts(cursor, srv, 0)
    if accounts.rows and accounts.rows == len({fault.row for fault in accounts.faults}):
        raise BackupFailed(f"This server.key is not the one the accounts in {backup} were made for.")


# --- what a copy holds ------------------------------------------------------------------------------------------------


def _opened(
    part: Path, sealer: RowSealer, tell: Tell, stop: Callable[[], bool], damaged: Callable[[str], str]
) -> BackupReport:
    """Opens a copy as a restore would, and every sealed row in it.

    Args:
        damaged: the text for what is damaged.

    Raises:
        BackupFailed.
    """
    with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.set_progress_handler(stop, _STEPS)
        cursor = connection.cursor()
        marks = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if marks != [migrate.APPLICATION_ID, migrate.newest_version()]:
            raise BackupFailed("The copy is not a database of this SecureChat.")
        tell("reading the file", 0, 0)
        said = cursor.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if said != "ok":
            raise BackupFailed(damaged(said))
        total, done = sealed.count(cursor), 0
        for kind in sealed.KINDS:
            after = 0
            while some := sealed.rows(cursor, kind, after, _BATCH):
                if stop():
                    raise BackupFailed("The server stops. Nothing was left of the backup.")
                for row in some:
                    _open(sealer, kind, row, damaged)
                after, done = some[-1].id, done + len(some)
                tell("opening rows", done, total)
        accounts, rooms, messages = (
            cursor.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
            for what in ("account", "conversation WHERE private = 0 AND removed = 0", "message")
        )
    return BackupReport(part.stat().st_size, accounts, rooms, messages, total)


def _open(sealer: RowSealer, kind: sealed.Kind, row: sealed.SealedRow, damaged: Callable[[str], str]) -> None:
    if row.token and row.dek_id is not None:
        try:
            sealer.open(row.dek_id, row.place, row.token)
        except AtRestMismatch as error:
            what = f"Row {row.id} of {kind.table} ({row.where}) does not check out: {error}"
            raise BackupFailed(damaged(what)) from None
