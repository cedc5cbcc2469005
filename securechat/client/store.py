"""`LocalStore`: what a client must not forget, sealed record by record: pins, cursors, counters, the outbox.

A reader of the disk sees how many records there are and how long they are.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.enterprise import adbapi

from securechat.crypto.keystore import RecordSealer
from securechat.crypto.primitives import NONCE_BYTES
from securechat.errors import SecureChatError, WrongSecret

_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS record (filed BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT"

Records = Mapping[str, Mapping[str, Any]]
Put = tuple[str, str, Any]


class CannotKeep(SecureChatError):
    """The disk does not take what must not be forgotten; nothing was changed."""


class LocalStore:
    """Records by (kind, name), each a JSON value.

    Args:
        path: the database file; made if it is not there.
        sealer: under the profile's data key.
        reactor: for the pool of one thread that does all of it, in order.
        pool: makes that pool.
    """

    def __init__(
        self,
        path: Path,
        sealer: RecordSealer,
        *,
        reactor: Any,
        pool: Callable[..., adbapi.ConnectionPool] = adbapi.ConnectionPool,
    ) -> None:
        self._sealer = sealer
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would use the umask's mode
        self._pool = pool(
            "sqlite3",
            str(path),
            cp_min=1,
            cp_max=1,
            cp_reactor=reactor,
            cp_openfun=_prepare,
            cp_noisy=False,
            check_same_thread=False,
            isolation_level=None,
        )

    async def load(self) -> Records:
        """All records, by kind and name. A damaged one is left out: the server can give most of them again."""
        rows: list[tuple[bytes, bytes]] = await self._pool.runQuery("SELECT filed, sealed FROM record")
        found: dict[str, dict[str, Any]] = {}
        for filed, sealed in rows:
            try:
                kind, name, value = json.loads(self._sealer.unseal(filed, sealed))
            except (WrongSecret, ValueError):
                continue
            found.setdefault(kind, {})[name] = value
        return found

    async def write(self, puts: Iterable[Put] = (), deletes: Iterable[tuple[str, str]] = ()) -> None:
        """Puts and deletes records in one transaction; on disk when it returns. Raises CannotKeep."""
        rows = []
        for kind, name, value in puts:
            filed = self._sealer.name(kind, name)
            plain = json.dumps([kind, name, value], separators=(",", ":")).encode("ascii")
            rows.append((filed, self._sealer.seal(filed, plain, secrets.token_bytes(NONCE_BYTES))))
        gone = [(self._sealer.name(kind, name),) for kind, name in deletes]
        try:
            await self._pool.runInteraction(_write, rows, gone)
        except sqlite3.Error as error:
            raise CannotKeep(f"This machine's disk did not take it ({error}). Make room, then try again.") from error

    async def dump(self) -> list[tuple[bytes, bytes]]:
        """All records as they lie on disk, sealed."""
        rows: list[tuple[bytes, bytes]] = await self._pool.runQuery("SELECT filed, sealed FROM record")
        return rows

    @classmethod
    async def make(
        cls,
        path: Path,
        rows: list[tuple[bytes, bytes]],
        *,
        reactor: Any,
        pool: Callable[..., adbapi.ConnectionPool] = adbapi.ConnectionPool,
    ) -> None:
        """A store of these sealed records."""
        store = cls(path, RecordSealer(bytes(32)), reactor=reactor, pool=pool)
        try:
            await store._pool.runInteraction(_write, rows, [])
        finally:
            store.close()

    def close(self) -> None:
        """Ends the thread, after what was asked before."""
        self._pool.close()


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute(_SCHEMA)


def _write(cursor: Any, rows: list[tuple[bytes, bytes]], gone: list[tuple[bytes]]) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    cursor.executemany("INSERT OR REPLACE INTO record (filed, sealed) VALUES (?, ?)", rows)
    cursor.executemany("DELETE FROM record WHERE filed = ?", gone)
