"""`Archive`: every message of one account that this machine keeps, sealed page by page in the local store.

Messages n·64 to n·64+63 of a conversation are one page. What `put` is given waits in memory, apart from the pages on
disk, until the next write takes it along (`unsaved`): only then is a page fetched, the new laid over it, and both
written as one. So `put` never waits, and never overwrites what it has not seen.

A reader of the disk learns how many pages there are, how long each is to 1 KiB, and which were written after which: no
conversation, person, time or word, and nothing of what was searched for, as no index lies on disk.

There is no table of contents either. It would have to be written with every page, and only two need it: searching,
which reads all anyway, and eviction, which waits until the cap is passed. Both `load`: all pages are read once, in the
store's thread, and of each a `search.Leaf` stays in memory. The messages themselves do not: what is found or scrolled
to is read again, and some pages of that are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count as count_from
from itertools import islice
from typing import Any, Final

import msgspec
from twisted.internet.defer import DeferredLock

from securechat.client.kept import Kept
from securechat.client.pages import MESSAGES, Batch, Card, Key, Page, add, evict, key_named, key_of, laid_over, name_of
from securechat.client.search import BadQuery, Leaf, Line, Place, Query, leaf_of, scan
from securechat.client.store import ALL_PAGES, PAGE, LocalStore, sealed_length

CAP: Final = 64 * 2**20  # bytes of pages, sealed: some 300,000 messages of 100 letters
CACHED: Final = 128  # pages whose messages stay in memory; 5 MB with short ones
_DAMAGED: Final = 20_000  # pages that may be there although they do not open; how many is the server's word
_SWEEP: Final = 32  # pages read in one visit to the store's thread: a write waits for those, some 10 ms
_CHUNK: Final = 16  # pages opened at once, on the way through a conversation
_ABSENT: Final = 64  # pages in a row that are not there, after which it is cheaper to know which are

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found, and where."""

    conversation: str
    kept: Kept


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, newest first, and whether there is `more`."""

    hits: Sequence[Hit]
    more: bool


def _plain(body: str) -> str:
    return body


def _no_mention(kept: Kept) -> bool:
    return False


def _quiet(done: int, total: int) -> None:
    """Nobody wants to know."""


class Archive:
    """All messages of one account that this machine keeps.

    Args:
        run: calls a function in a thread.
        text_of: what a person sees of a body. Called in other threads: it must know nothing but its argument.
        mentions: whether a message calls upon this account's user; the same holds.
        cap: bytes of pages, sealed. Beyond it whole pages go, the oldest first; the newest of each conversation last.
    """

    def __init__(
        self,
        store: LocalStore,
        *,
        run: Callable[..., Awaitable[Any]],
        text_of: Callable[[str], str] = _plain,
        mentions: Callable[[Kept], bool] = _no_mention,
        cap: int = CAP,
    ) -> None:
        self._store = store
        self._run = run
        self._text_of = text_of
        self._mentions = mentions
        self._cap = cap
        self._fresh: dict[Key, Page] = {}  # put, and not in any write yet
        self._flying: Batch | None = None  # the write under way
        self._base: OrderedDict[Key, Page] = OrderedDict()  # pages as they lie on disk, the last used at the end
        self._doomed: set[Key] = set()  # forgotten, and to be deleted by the next write
        self._wipe = False  # all of them
        self._forgets = 0  # how often something was forgotten: what was asked before is not to be believed
        self._cards: dict[Key, Card] = {}  # of all pages once `_loaded`; before, of those written since
        self._leaves: dict[Key, Leaf] | None = None  # of pages on disk; None until loading begins
        self._loaded = False
        self._weighed: int | None = None  # bytes that were on disk at first
        self._saving = DeferredLock()
        self._loading = DeferredLock()

    # --- putting and saving -----------------------------------------------------------------------------------------

    def put(self, conversation: str, kept: Kept) -> None:
        """Keeps a message from now on, in the place of what had its number (see `laid_over`); written with the next."""
        add(self._fresh.setdefault(key_of(conversation, kept.seq), {}), kept)

    @asynccontextmanager
    async def unsaved(self) -> AsyncIterator[Batch]:
        """What the next write must take along; it counts as written when the block ends, unless that raises.

        A second one waits until the first has ended. All that was put before the block begins is in it, so a cursor
        read inside, or before, is never beyond what it holds::

            async with archive.unsaved() as batch:
                await store.write([*cursors(), *batch.puts], batch.deletes)
        """
        await self._saving.acquire()
        try:
            batch = await self._taken()
            try:
                yield batch
            except BaseException:
                self._lost(batch)
                raise
            self._saved(batch)
        finally:
            self._saving.release()

    async def _taken(self) -> Batch:
        if self._fresh and self._weighed is None:
            self._weighed = (await self._store.weigh())[1]
        await self._open(self._fresh)
        pages = self._merged()
        if not self._loaded and self._size_with(pages) > self._cap:
            await self.load()
            await self._open(self._fresh)
            pages = self._merged()
        # No await from here on: nothing is put in between.
        batch = Batch(added=self._fresh, doomed=self._doomed, wiped=self._wipe)
        self._fresh, self._doomed, self._wipe = {}, set(), False
        cards = {key: card for key, (_, _, card) in pages.items()}
        if self._loaded:
            batch.evicted = evict({**self._cards, **cards}, self._cap)
        for key, (page, encoded, card) in pages.items():
            if key not in batch.evicted:
                batch.pages[key], batch.cards[key] = page, card
                batch.puts.append((PAGE, name_of(key), msgspec.Raw(encoded)))
        gone = (batch.evicted | batch.doomed) - batch.pages.keys()
        batch.deletes = [ALL_PAGES] if batch.wiped else [(PAGE, name_of(key)) for key in sorted(gone)]
        self._flying = batch
        return batch

    def _merged(self) -> dict[Key, tuple[Page, bytes, Card]]:
        """Every page that something was put to as it shall lie on disk: its messages, those in JSON, its card."""
        merged = {}
        for key in self._fresh:
            page = self._page(key)
            encoded = msgspec.json.encode([page[seq] for seq in sorted(page)])
            card = Card(sealed_length(name_of(key), encoded), max(kept.at for kept in page.values()))
            merged[key] = (page, encoded, card)
        return merged

    def _size_with(self, pages: Mapping[Key, tuple[Page, bytes, Card]]) -> int:
        before = sum(self._cards[key].size for key in pages if key in self._cards)
        return self.size() - before + sum(card.size for _, _, card in pages.values())

    def _saved(self, batch: Batch) -> None:
        self._flying = None
        self._cards.update(batch.cards)
        for key, page in batch.pages.items():
            self._base[key] = page
            self._base.move_to_end(key)
            if self._leaves is not None:
                self._leaves[key] = self._leaf(page.values())
        self._drop(batch.evicted)
        self._trim()

    def _lost(self, batch: Batch) -> None:
        """It is not on disk: all of it waits for the next write, under what was put since."""
        self._flying = None
        for key, added in batch.added.items():
            self._fresh[key] = laid_over(added, self._fresh.get(key, {}))
        self._doomed |= batch.doomed
        self._wipe = self._wipe or batch.wiped

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._base.pop(key, None)
            self._cards.pop(key, None)
            if self._leaves is not None:
                self._leaves.pop(key, None)

    async def forget(self, conversation: str | None) -> None:
        """Drops the messages of one conversation, or all: here now, and on disk with the next write.

        Which pages one conversation has must be known first, so all is loaded. Damaged pages of it go too. Raises
        CannotKeep.
        """
        if conversation is not None:
            await self.load()
        self._forgets += 1
        flying = self._flying or Batch()
        known = {*self._cards, *self._fresh, *flying.pages, *flying.added}
        gone = {key for key in known if conversation in (None, key[0])}
        if conversation is None:
            self._wipe, self._loaded, self._leaves, self._doomed = True, True, {}, set()
            self._base.clear()
        else:
            last = max((number for _, number in gone), default=-1)
            gone |= {(conversation, number) for number in range(min(last, _DAMAGED) + 1)}
            self._doomed |= gone
        for key in gone:
            self._fresh.pop(key, None)
        flying.forgets(gone)
        self._drop(gone)

    # --- pages in memory --------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        while len(self._base) > CACHED:
            self._base.popitem(last=False)

    async def _open(self, keys: Collection[Key]) -> None:
        """Brings pages into memory as they lie on disk, those that are not there as empty ones.

        They are all there when it returns, and may be dropped at the next await. The store answers in the order in
        which it was asked, so what comes is never older than what was saved since.
        """
        self._trim()
        while missing := [key for key in keys if key not in self._base]:
            asked = self._forgets
            names = {name_of(key): key for key in missing if not self._is_gone(key)}
            found = await self._store.fetch(PAGE, list(names), list[Kept]) if names else {}
            if asked == self._forgets:
                for key in missing:  # what was saved meanwhile stays: a page may have been forgotten and begun anew
                    self._base.setdefault(key, {kept.seq: kept for kept in found.get(name_of(key), ())})
        for key in keys:
            self._base.move_to_end(key)

    def _is_gone(self, key: Key) -> bool:
        """Whether a page was forgotten and may still lie on disk."""
        flying = self._flying or Batch()
        return self._wipe or flying.wiped or key in self._doomed or key in flying.doomed

    def _page(self, key: Key) -> Page:
        """An open page with all that was put to it."""
        flying = {} if self._flying is None else self._flying.added.get(key, {})
        return laid_over(self._base[key], flying, self._fresh.get(key, {}))

    async def _pages(self, keys: Collection[Key]) -> Mapping[Key, Page]:
        """Pages with all that was put to them."""
        await self._open(keys)
        return {key: self._page(key) for key in keys}

    def _pending(self) -> set[Key]:
        """Pages that something was put to and that are not on disk so."""
        return {*self._fresh, *(() if self._flying is None else self._flying.added)}

    # --- reading ----------------------------------------------------------------------------------------------------

    async def at(self, conversation: str, seqs: Collection[int]) -> dict[int, Kept]:
        """Messages by number; those that are not kept are left out."""
        pages = await self._pages({key_of(conversation, seq) for seq in seqs})
        return {seq: kept for seq in seqs if (kept := pages[key_of(conversation, seq)].get(seq)) is not None}

    async def before(self, conversation: str, seq: int, count: int) -> Sequence[Kept]:
        """The `count` newest that are kept with a number below `seq`, ascending. Numbers show what lies between."""
        found = await self._walk(conversation, (seq - 1) // MESSAGES, -1, lambda kept: kept.seq < seq, count)
        return found[::-1]

    async def after(self, conversation: str, seq: int, count: int) -> Sequence[Kept]:
        """The `count` oldest that are kept with a number above `seq`, ascending."""
        return await self._walk(conversation, (seq + 1) // MESSAGES, 1, lambda kept: kept.seq > seq, count)

    async def _walk(
        self, conversation: str, start: int, step: int, wanted: Callable[[Kept], bool], count: int
    ) -> list[Kept]:
        """Up to `count` messages from page to page, in the direction of `step`."""
        found: list[Kept] = []
        numbers, absent = self._numbers(conversation, start, step), 0
        chunk = min(count // MESSAGES + 2, _CHUNK)
        while len(found) < count and (some := [(conversation, number) for number in islice(numbers, chunk)]):
            await self._open(some)
            for page in map(self._page, some):
                found += [page[seq] for seq in sorted(page, reverse=step < 0) if wanted(page[seq])]
                absent = 0 if page else absent + 1
            if absent >= _ABSENT and not self._loaded and len(found) < count:
                await self.load()
                numbers = self._numbers(conversation, some[-1][1] + step, step)
        return found[:count]

    def _numbers(self, conversation: str, start: int, step: int) -> Iterator[int]:
        """Pages from `start` on: those there are, or where that is not known, all there may be."""
        if not self._loaded:
            return iter(range(start, -1, -1)) if step < 0 else count_from(start)
        there = {number for where, number in {*self._cards, *self._pending()} if where == conversation}
        return iter(sorted((number for number in there if (number - start) * step >= 0), reverse=step < 0))

    # --- all of it --------------------------------------------------------------------------------------------------

    async def load(self, progress: Progress = _quiet) -> None:
        """Reads all pages once, so that they can be searched; whoever asks meanwhile waits for the same.

        Args:
            progress: told how many of how many pages were read.

        Raises:
            CannotKeep: the disk does not give them; reading the archive may raise it anywhere.
        """
        await self._loading.acquire()
        try:
            if not self._loaded:
                await self._load(progress)
        finally:
            self._loading.release()

    async def _load(self, progress: Progress) -> None:
        pages, _ = await self._store.weigh()
        leaves = self._leaves = {} if self._leaves is None else self._leaves
        after: bytes | None = b""
        done = 0
        while after is not None:
            some, after = await self._store.sweep(after, _SWEEP, list[Kept], self._card_and_leaf)
            if self._loaded:
                return  # all of it was forgotten meanwhile
            for key, card, leaf in some:  # never older than what was saved since: see `_open`
                self._cards[key], leaves[key] = card, leaf
            done += len(some)
            progress(min(done, pages), pages)
        self._loaded = True

    def _card_and_leaf(self, name: str, kept: Sequence[Kept], size: int) -> tuple[Key, Card, Leaf]:
        """Called in the store's thread."""
        leaf = self._leaf(kept)
        return key_named(name), Card(size, leaf.newest), leaf

    def _leaf(self, page: Iterable[Kept]) -> Leaf:
        return leaf_of([self._line(kept) for kept in sorted(page, key=lambda kept: kept.seq)])

    def _line(self, kept: Kept) -> Line:
        text = "" if kept.hidden else self._text_of(kept.body)
        return Line(kept.seq, kept.at, kept.sender, text, bool(text) and self._mentions(kept))

    async def search(
        self, query: Query, *, titles: Mapping[str, str], me: str, limit: int, progress: Progress = _quiet
    ) -> Found:
        """The newest messages that a query finds, in all conversations or those it names. Loads first.

        Args:
            titles: what conversations are called, by id: a room's name, ``@name`` in private.
            me: the account's user.
            limit: of hits.
            progress: of loading.

        Raises:
            BadQuery: it names a conversation that has no title.
        """
        called = {conversation: title.casefold() for conversation, title in titles.items()}
        for unknown in sorted(query.titles - set(called.values())):
            raise BadQuery(
                f"You are in no conversation called {unknown}. Write in:ROOM, or in:@NAME for a private one."
            )
        if "me" in query.senders:
            query = replace(query, senders=(query.senders - {"me"}) | {me})
        await self.load(progress)
        await self._open(self._pending())
        leaves = dict(self._leaves or {})
        for key in self._pending() & self._base.keys():
            leaves[key] = self._leaf(self._page(key).values())
        there = [
            (conversation, leaf)
            for (conversation, _), leaf in leaves.items()
            if not query.titles or called.get(conversation) in query.titles
        ]
        places, more = await self._run(scan, there, query, limit)
        return Found(await self._hits(places), more)

    async def _hits(self, places: Sequence[Place]) -> Sequence[Hit]:
        """The messages at these places; without those that were forgotten since."""
        pages = await self._pages({key_of(conversation, seq) for _, seq, conversation in places})
        found = [(conversation, pages[key_of(conversation, seq)].get(seq)) for _, seq, conversation in places]
        return [Hit(conversation, kept) for conversation, kept in found if kept is not None]

    def size(self) -> int:
        """Bytes of pages on disk, sealed. Until all is loaded: at most so many; 0 before anything was written."""
        written = sum(card.size for card in self._cards.values())
        return written if self._loaded else written + (self._weighed or 0)

    def count(self) -> int:
        """Messages on disk; known once all is loaded, 0 before."""
        return sum(len(leaf.seqs) for leaf in self._leaves.values()) if self._loaded and self._leaves else 0
