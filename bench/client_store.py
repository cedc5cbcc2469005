"""What a client's archive costs on this machine: ``python -m bench.client_store`` from the checkout.

100,000 messages in 50 conversations, half of them in one; times of the middle one of some rounds, in one thread, with
the database on disk and its pages in the kernel's cache.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from bench.crypto import row
from securechat.client.archive import Archive
from securechat.client.kept import Kept
from securechat.client.pages import MESSAGES
from securechat.client.search import parse_query
from securechat.client.store import LocalStore
from securechat.crypto.keystore import RecordSealer
from tests.doubles import InlinePool, InlineReactor

COUNT: Final = 100_000
ROOMS: Final = 50
ROUNDS: Final = 5
WRITTEN: Final = 2_000  # messages that are put between two writes
NOW: Final = 1_790_000_000  # seconds since 1970; a message a second ends there
GOAL_MS: Final = 100.0

QUERIES: Final = {  # figure, and what is typed for it
    "everywhere_ms": "every",
    "apart_ms": "odd even",
    "nowhere_ms": "nowhere",
    "one_ms": "needle",
    "letter_ms": "ß",
    "nobody_ms": "from:nobody",
    "without_ms": "-every",
    "filters_ms": '"every day" from:user4 in:room1 has:link after:7d',
}
_MEANING: Final = {
    "everywhere_ms": "a word in every message",
    "apart_ms": "two common words, never together",
    "nowhere_ms": "a word that is nowhere",
    "one_ms": "a word in one message",
    "letter_ms": "a rare letter",
    "nobody_ms": "somebody who wrote nothing",
    "without_ms": "all but a word in every message",
    "filters_ms": "a phrase with filters",
}


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that waits for nothing. Raises what it raises."""
    found: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(found.append)
    (answer,) = found
    return answer.raiseException() if hasattr(answer, "raiseException") else answer


def message(number: int, dice: random.Random) -> tuple[str, Kept]:
    """A message of some 100 letters, and its room."""
    room = 0 if number % 2 else 1 + dice.randrange(ROOMS - 1)
    words = ["every day", "odd" if number % 2 else "even", *(f"word{dice.randrange(20_000)}" for _ in range(9))]
    if number % 40 == 0:
        words.append("https://example.org/page")
    if number == COUNT // 2:
        words.append("needle in the Straße")
    body = " ".join(words)
    kept = Kept(
        number, (NOW - COUNT + number) * 1000, f"user{number % 30}", f"{number % 30:016x}", f"{number:064x}", body
    )
    return f"{room:064x}", kept


class Bench:
    """One archive in a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "local.db"
        self._seqs: dict[str, int] = {}

    def archive(self) -> tuple[LocalStore, Archive]:
        """The archive as a client has it that has just started."""
        store = LocalStore(self._path, RecordSealer(b"k" * 32), reactor=InlineReactor(), pool=InlinePool)
        return store, Archive(store, run=lambda work, *args: succeed(work(*args)))

    def fill(self) -> dict[str, float]:
        """Writes all of it, as it would come."""
        store, archive = self.archive()
        dice, spent, pages = random.Random(1), 0.0, 0
        for first in range(0, COUNT, WRITTEN):
            for number in range(first, first + WRITTEN):
                room, kept = message(number, dice)
                seq = self._seqs[room] = self._seqs.get(room, 0) + 1
                archive.put(room, Kept(seq, kept.at, kept.sender, kept.author, kept.id, kept.body))
            before = perf_counter()
            pages += done(_write(store, archive))
            spent += perf_counter() - before
        on_disk, sealed = done(store.weigh())
        store.close()
        return {
            "pages_s": pages / spent,
            "kept_s": COUNT / spent,
            "page_bytes": sealed / on_disk,
            "mb": sealed / 1e6,
        }

    def one_more(self) -> float:
        """Milliseconds to keep one message of a conversation that is known, with its fsync."""
        store, archive = self.archive()
        room, seq = next(iter(self._seqs.items()))
        times = []
        for number in range(40):
            archive.put(room, Kept(seq + 1 + number, NOW * 1000, "user1", "", "", "one more"))
            times.append(_timed(lambda: done(_write(store, archive))))
        store.close()
        return median(times)

    def search(self) -> dict[str, float]:
        """Loading, scrolling and searching."""
        titles = {f"{room:064x}": f"room{room}" for room in range(ROOMS)}
        store, archive = self.archive()
        scroll = _timed(lambda: done(archive.before(f"{0:064x}", COUNT // 4, 50)))
        tracemalloc.start()
        done(archive.load())
        memory = tracemalloc.get_traced_memory()[0] / 1e6
        tracemalloc.stop()
        store.close()
        store, archive = self.archive()
        load = _timed(lambda: done(archive.load()))
        found = {"scroll_ms": scroll, "load_ms": load, "memory_mb": memory}
        for name, typed in QUERIES.items():
            query = parse_query(typed, now=NOW)
            search = partial(archive.search, query, titles=titles, me="user1", limit=50)
            found[name] = median([_timed(partial(_searched, search)) for _ in range(ROUNDS)])
        store.close()
        found["search_ms"] = max(found[name] for name in QUERIES)
        return found


async def _write(store: LocalStore, archive: Archive) -> int:
    async with archive.unsaved() as batch:
        await store.write(batch.puts, batch.deletes)
        return len(batch.puts)


def _searched(search: Callable[[], Coroutine[Any, Any, object]]) -> None:
    done(search())


def _timed(work: Callable[[], object]) -> float:
    before = perf_counter()
    work()
    return (perf_counter() - before) * 1000


def figures() -> dict[str, float]:
    """All of it by name: milliseconds, but for what says otherwise."""
    with tempfile.TemporaryDirectory(prefix="securechat-bench-") as work:
        bench = Bench(Path(work))
        return {**bench.fill(), "one_more_ms": bench.one_more(), **bench.search()}


def main() -> None:
    """Prints the table; with ``--json``, the figures alone."""
    found = figures()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found, indent=1))
        return
    print(f"{f'{COUNT:,} messages, {MESSAGES} a page':<44}{'':>12}{'goal':>10}")
    for title, name in (
        ("messages kept a second", "kept_s"),
        ("pages written a second", "pages_s"),
        ("bytes of a page, sealed", "page_bytes"),
        ("MB on disk", "mb"),
        ("MB of memory, loaded", "memory_mb"),
        ("ms to keep one more", "one_more_ms"),
        ("ms to scroll to 50 others, first time", "scroll_ms"),
        ("ms to load all", "load_ms"),
    ):
        row(title, found[name])
    for name in QUERIES:
        row(f"ms to search {_MEANING[name]}", found[name], GOAL_MS)


if __name__ == "__main__":
    main()
