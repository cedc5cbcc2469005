"""Makes the database file, and brings one that an older version made up to date.

Blocking: called before anything is served. Each step is one transaction, `PRAGMA user_version` included, so a
crash leaves the file at one of the versions; before the first step on an existing database, a copy is put
beside it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from securechat.errors import StartupError

APPLICATION_ID: Final = 0x53436874  # "SCht", in the file's header: tells our databases from others
PAGE_SIZE: Final = 16384  # bytes; big rows: 61,000 a second against 52,000 with the usual 4096
OLDEST_SQLITE: Final = (3, 37, 0)  # for STRICT tables
_CHUNK: Final = 1024 * 1024  # bytes written at once
SCHEMA: Final = Path(__file__).parent / "schema"

_log = Logger()


def upgrade(path: Path, schema: Path = SCHEMA) -> None:
    """Leaves at `path` a database of the newest schema, readable by its owner alone.

    Args:
        schema: the directory with the steps, ``0001.sql`` and so on.

    Raises:
        StartupError: the file is not ours, damaged, from a newer version, or could not be upgraded. It is as
            it was, except that steps that succeeded stay.
    """
    check_sqlite(sqlite3.sqlite_version_info)
    steps = _steps(schema)
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        version = _version(path)
        if version > len(steps):
            raise StartupError(
                f"A newer SecureChat made {path} (version {version}, this one knows {len(steps)}). Install that again."
            )
        os.chmod(path, 0o600)
        _write_anew(path.with_name(f"{path.name}-wal"))
        if version < len(steps):
            _apply(path, steps, version)
    except OSError as error:
        raise StartupError(
            f"The database {path} cannot be made or opened: {error.strerror}. Its directory must exist,"
            " belong to the user the server runs as, and have space left."
        ) from error


def check_sqlite(version: tuple[int, ...]) -> None:
    """Raises StartupError where SQLite is too old."""
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, numbers)) for numbers in (version, OLDEST_SQLITE))
        raise StartupError(f"This Python has SQLite {have}; SecureChat needs {need}. Install a newer Python.")


@contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Turns an SQLite error met while opening `path` into a StartupError that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StartupError(
            f"The database {path} cannot be opened: {error}. Does another server or tool have it open?"
            " Is the disk full?"
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: SQLite quotes what it cannot read
        raise StartupError(
            f"{path} is damaged, or no database at all: {error}. Put a backup in its place, or move it away"
            " to start an empty server."
        ) from error


def newest_version(schema: Path = SCHEMA) -> int:
    """The version that `upgrade` leaves."""
    return len(_steps(schema))


def _steps(schema: Path) -> list[str]:
    """The SQL of each step, in order."""
    names = sorted(path.name for path in schema.glob("*.sql"))
    if names != [f"{number:04}.sql" for number in range(1, len(names) + 1)]:
        raise ValueError(f"the steps in {schema} are not numbered 0001.sql, 0002.sql, …")
    return [(schema / name).read_text(encoding="utf-8") for name in names]


def _version(path: Path) -> int:
    """The version of a database, 0 for an empty file. Opened read-only, a foreign one stays as it is."""
    with damage_explained(path):
        try:
            application, version, tables = marks(path, "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A crash left a rollback journal: in a database of ours only one at its very beginning does, before
            # it has a WAL. Any reader must take such a change back first, which one that may not write cannot.
            application, version, tables = marks(path, "rw")
    if application == APPLICATION_ID and version > 0:
        return int(version)
    if (application, version, tables) == (0, 0, 0):
        return 0
    raise StartupError(f"{path} belongs to another program. Name another file for SecureChat's database.")


def marks(path: Path, mode: str) -> tuple[int, int, int]:
    """Whose a database is, its version, and how many tables and indexes it has. Raises sqlite3.Error."""
    queries = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
    with closing(_connect(path, mode)) as connection:
        application, version, tables = (connection.execute(sql).fetchone()[0] for sql in queries)
    return application, version, tables


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _apply(path: Path, steps: list[str], version: int) -> None:
    with damage_explained(path), closing(_connect(path, "rw")) as connection:
        advice = ""
        if version:
            copy = path.with_name(f"{path.name}.before-{version + 1}")
            _copy(connection, copy)
            advice = f" A copy from before is {copy}."
        else:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute("PRAGMA journal_mode = WAL")
        for number in range(version + 1, len(steps) + 1):
            try:
                _step(connection, number, steps[number - 1])
            except sqlite3.Error as error:
                raise StartupError(
                    f"Upgrading {path} to version {number} failed: {error}. Nothing of that step was kept."
                    f"{advice} Start the SecureChat that worked before, and report this."
                ) from error
            _log.info("The database {path} is now of version {number}.", path=path, number=number)
    sync(path.parent)


def _step(connection: sqlite3.Connection, number: int, sql: str) -> None:
    """One step, all of it or nothing: where it raises, closing the connection takes the rest back."""
    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
    # One script: executescript would first commit a transaction opened before it.
    connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\n{marks}")
    # Steps run without enforcement of references, for a table is rebuilt by dropping it: check them now.
    if connection.execute("PRAGMA foreign_key_check").fetchone():
        raise sqlite3.IntegrityError("it leaves rows that refer to nothing")
    connection.execute("COMMIT")


def _copy(connection: sqlite3.Connection, copy: Path) -> None:
    """A consistent copy, on disk before this returns. It gets its name last: under that, it is complete."""
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        sync(part)
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)
    sync(copy.parent)


def _write_anew(wal: Path) -> None:
    """Writes the WAL that a crash left, byte for byte as it reads, and puts it on disk.

    If a sync failed before the crash, the kernel goes on showing what it could not write, and takes it for written. So
    the disk lacks commits that SQLite finds in the WAL: what it appends behind them, or moves from them into the
    database, would not outlive a power cut.
    """
    try:
        descriptor = os.open(wal, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        at = 0
        while chunk := os.pread(descriptor, _CHUNK, at):
            at += os.pwrite(descriptor, chunk, at)
        if at:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Puts a file or a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
