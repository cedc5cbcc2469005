"""How a connection to the database file is set up, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from securechat.errors import DAMAGED, FULL, INTERNAL, TRY_AGAIN, Refused, StartupError

RETRY_AFTER: Final = 2.0  # seconds after which a client may ask again
_SILENCE: Final = 60.0  # seconds between two complaints about the same trouble

# Every PRAGMA on which a promise rests, with the value it must read back as. Builds differ in their defaults.
_PRAGMAS: Final[dict[str, str | int]] = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL, on disk when a commit returns; NORMAL loses acknowledged rows in a power cut
    "foreign_keys": 1,
    "busy_timeout": 5000,  # milliseconds that a tool on the same file may keep us waiting
    "trusted_schema": 0,
    "secure_delete": 1,  # what is deleted is overwritten
    "wal_autocheckpoint": 1000,  # pages
    "journal_size_limit": 64 * 1024 * 1024,  # bytes the WAL is cut back to
    "cache_size": -16 * 1024,  # KiB, negative as SQLite wants it: the default of 2 MiB holds few of our big pages
    "temp_store": 2,  # memory: no rows in files elsewhere
    "mmap_size": 0,  # an I/O error in mapped memory would be a SIGBUS
}

# The primary result codes after which the same request may well succeed.
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL,
    }
)  # fmt: skip


def arguments(path: Path) -> dict[str, Any]:
    """What `sqlite3.connect` is called with.

    Python begins no transactions of its own: it would begin them too late, after the first SELECT. A file
    that vanished is not made again.
    """
    return {
        "database": f"{path.absolute().as_uri()}?mode=rw",
        "uri": True,
        "isolation_level": None,
        "check_same_thread": False,  # adbapi closes connections in the reactor thread
    }


def configure(connection: sqlite3.Connection) -> None:
    """Sets the PRAGMAs of a connection that may write. Raises StartupError where one does not take."""
    for name, wanted in _PRAGMAS.items():
        _set(connection, name, wanted)


def configure_reader(connection: sqlite3.Connection) -> None:
    """The same for a connection that only reads."""
    configure(connection)
    _set(connection, "query_only", 1)


def _set(connection: sqlite3.Connection, name: str, value: str | int) -> None:
    connection.execute(f"PRAGMA {name} = {value}")
    row = connection.execute(f"PRAGMA {name}").fetchone()
    # A build without memory mapping answers nothing for it.
    if row != (value,) and not (name == "mmap_size" and row is None):
        raise StartupError(
            f"SQLite does not keep its promises here: PRAGMA {name} is {row and row[0]}, not {value}."
            " Put the database on a local disk, with an SQLite built in the usual way."
        )


class Refusals:
    """Turns what went wrong in a thread into the refusal that a client gets, and tells the operator.

    While the disk is full every request fails for the same reason: that is logged once a minute.

    Args:
        seconds: of any clock that only moves forward.
    """

    log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._silent_until = -inf

    def of_operation(self, failure: Failure) -> Refused:
        """For a verb that failed by itself."""
        error = failure.value
        if isinstance(error, Refused):
            if error.code is DAMAGED:
                self.log.error("Stored messages of {room} were altered: {cause}", cause=error.__cause__, **error.data)
            return error
        if _result_code(error) in _PASSING:
            return self.of_commit(failure)
        self.log.failure("A verb of the store failed.", failure)
        return Refused(INTERNAL)

    def of_commit(self, failure: Failure) -> Refused:
        """For a verb in a commit that failed, or one that failed for a reason that passes."""
        now = self._seconds()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE
            self.log.failure("The database does not work at the moment. Said once a minute while it lasts.", failure)
        if _result_code(failure.value) == sqlite3.SQLITE_FULL:
            return Refused(FULL)
        return Refused(TRY_AGAIN, retry_after=RETRY_AFTER)


def _result_code(error: BaseException | None) -> int | None:
    """The primary result code of SQLite; None for an error that it did not report."""
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
