"""`LocalStore`: what a client must not forget, sealed record by record: pins, cursors, counters, the outbox.

Pages of messages lie in a table of their own, since `load` reads all of the other at every login. Both are written in
one transaction, so that a cursor never stands beyond what was kept.

A reader of the disk sees how many records and pages there are, how long they are (pages to `PAD` bytes), which were
written after which, and with an earlier copy, which changed. What was deleted is overwritten at once; older states of
what was replaced may lie, sealed, in the write-ahead log until it is used again or the client ends.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from twisted.enterprise import adbapi

from securechat.crypto.keystore import RecordSealer
from securechat.crypto.primitives import NONCE_BYTES
from securechat.errors import SecureChatError, WrongSecret

PAGE: Final = "page"  # the kind whose records lie in the table of pages
ALL_PAGES: Final = (PAGE, "")  # among what is deleted: every page, also one that does not open any more
PAD: Final = 1024  # bytes: a page is as long as a multiple of it; 3 % more for full pages, and hides a text's length

_TAG_BYTES: Final = 16  # of ChaCha20-Poly1305
_TABLES: Final = ("record", "page")
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS {} (filed BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT"

Records = Mapping[str, Mapping[str, Any]]
Put = tuple[str, str, Any]
Row = tuple[bytes, bytes]
T = TypeVar("T")


class CannotKeep(SecureChatError):
    """The disk does not take what must not be forgotten, or does not give it; nothing was changed."""


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
        """Puts and deletes records in one transaction; on disk when it returns. `ALL_PAGES` go before any is put.

        Raises:
            CannotKeep.
        """
        rows: dict[str, list[Row]] = {table: [] for table in _TABLES}
        gone: dict[str, list[tuple[bytes]]] = {table: [] for table in _TABLES}
        all_pages = False
        for kind, name, value in puts:
            filed = self._sealer.name(kind, name)
            plain = _encoded(kind, name, value)
            rows[_table(kind)].append((filed, self._sealer.seal(filed, plain, secrets.token_bytes(NONCE_BYTES))))
        for kind, name in deletes:
            if (kind, name) == ALL_PAGES:
                all_pages = True
            else:
                gone[_table(kind)].append((self._sealer.name(kind, name),))
        try:
            await self._pool.runInteraction(_write, rows, gone, all_pages)
        except sqlite3.Error as error:
            raise CannotKeep(f"This machine's disk did not take it ({error}). Make room, then try again.") from error
        if all_pages or gone["page"]:
            # Or they would stay in the write-ahead log. Where this fails they do until it is used again, yet are gone.
            with suppress(sqlite3.Error):
                await self._pool.runQuery("PRAGMA wal_checkpoint(TRUNCATE)")

    async def fetch(self, kind: str, names: Sequence[str], shape: Any = Any) -> dict[str, Any]:
        """Those of some records that there are, by name. A damaged one is left out.

        Args:
            shape: the type of their values, for msgspec; any JSON otherwise.

        Raises:
            CannotKeep.
        """
        filed = {self._sealer.name(kind, name): name for name in names}
        found: dict[str, Any] = await self._read(self._fetch, _table(kind), filed, shape)
        return found

    async def _read(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self._pool.runInteraction(work, *arguments)
        except sqlite3.Error as error:
            raise CannotKeep(
                f"What this machine keeps cannot be read ({error}). Look at its disk, then try again."
            ) from error

    def _fetch(self, cursor: Any, table: str, names: Mapping[bytes, str], shape: Any) -> dict[str, Any]:
        found = {}
        for filed, name in names.items():
            for (sealed,) in cursor.execute(f"SELECT sealed FROM {table} WHERE filed = ?", (filed,)).fetchall():
                for _, value in self._opened(filed, sealed, shape):
                    found[name] = value
        return found

    def _opened(self, filed: bytes, sealed: bytes, shape: Any) -> Iterable[tuple[str, Any]]:
        """A record's name and value; nothing where it is damaged."""
        try:
            plain = self._sealer.unseal(filed, sealed)
            _, name, value = json.loads(plain) if shape is Any else msgspec.json.decode(plain, type=_record_of(shape))
        except (WrongSecret, ValueError):
            return ()
        return ((name, value),)

    async def sweep(
        self, after: bytes, count: int, shape: Any, take: Callable[[str, Any, int], T]
    ) -> tuple[Sequence[T], bytes | None]:
        """The next `count` pages in the order of the disk, as `take` makes them of name, value and sealed length.

        Args:
            after: where the last ones ended; b"" to begin.
            shape: the type of their values, for msgspec.
            take: called in the store's thread, so it must know nothing but its arguments.

        Returns:
            What was taken, and where it ended; None where there is no more.

        Raises:
            CannotKeep.
        """
        found: tuple[Sequence[T], bytes | None] = await self._read(self._sweep, after, count, shape, take)
        return found

    def _sweep(
        self, cursor: Any, after: bytes, count: int, shape: Any, take: Callable[[str, Any, int], T]
    ) -> tuple[Sequence[T], bytes | None]:
        query = "SELECT filed, sealed FROM page WHERE filed > ? ORDER BY filed LIMIT ?"
        rows: list[Row] = cursor.execute(query, (after, count)).fetchall()
        taken = [
            take(name, value, len(sealed))
            for filed, sealed in rows
            for name, value in self._opened(filed, sealed, shape)
        ]
        return taken, rows[-1][0] if len(rows) == count else None

    async def weigh(self) -> tuple[int, int]:
        """How many pages there are, and how many bytes they have, sealed. Raises CannotKeep."""
        count, size = await self._read(_weigh)
        return count, size

    async def dump(self) -> list[tuple[bytes, bytes]]:
        """All records but pages as they lie on disk, sealed: a file of keys carries no talk."""
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
            await store._pool.runInteraction(_write, {"record": rows}, {})
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
    for table in _TABLES:
        connection.execute(_SCHEMA.format(table))


def _table(kind: str) -> str:
    return "page" if kind == PAGE else "record"


def _encoded(kind: str, name: str, value: Any) -> bytes:
    if kind != PAGE:
        return json.dumps([kind, name, value], separators=(",", ":")).encode("ascii")
    plain = msgspec.json.encode((kind, name, value))
    return plain.ljust(-(-len(plain) // PAD) * PAD)  # JSON may end in spaces


def sealed_length(name: str, value: bytes) -> int:
    """How many bytes a page has on disk, sealed, whose value is spelt so in JSON."""
    length = len(msgspec.json.encode((PAGE, name))) + len(",") + len(value)
    return -(-length // PAD) * PAD + NONCE_BYTES + _TAG_BYTES


@cache
def _record_of(shape: Any) -> Any:
    return tuple[str, str, shape]


def _weigh(cursor: Any) -> Any:
    return cursor.execute("SELECT count(*), coalesce(sum(length(sealed)), 0) FROM page").fetchone()


def _write(
    cursor: Any, rows: Mapping[str, list[Row]], gone: Mapping[str, list[tuple[bytes]]], all_pages: bool = False
) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    if all_pages:
        cursor.execute("DELETE FROM page")
    for table, some in rows.items():
        cursor.executemany(f"INSERT OR REPLACE INTO {table} (filed, sealed) VALUES (?, ?)", some)
    for table, names in gone.items():
        cursor.executemany(f"DELETE FROM {table} WHERE filed = ?", names)
