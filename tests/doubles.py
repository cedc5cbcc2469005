"""Fakes, and builders of small things, that several test modules use."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.identity import SignedBundle, SignedCertificate
from securechat.errors import Refused
from securechat.storage.interface import Backup, NewAccount, NewKeys, NewMessage
from securechat.storage.sqlite import SQLiteStore

T = TypeVar("T")

# --- storage: pools without threads -----------------------------------------------------------------------


class InlineThreads:
    """Stands in for a ThreadPool: runs work in the caller's thread, at once; or, while `held`, in `run_next`."""

    def __init__(self) -> None:
        self.held = False
        self._waiting: deque[Callable[[], None]] = deque()

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object], func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """As ThreadPool's."""

        def work() -> None:
            try:
                outcome = True, func(*args, **kw)
            except BaseException:
                outcome = False, Failure()
            onResult(*outcome)

        if self.held:
            self._waiting.append(work)
        else:
            work()

    def run_next(self) -> None:
        """Runs what was asked first, and delivers its result."""
        self._waiting.popleft()()

    @property
    def waiting(self) -> int:
        """How much was asked and has not run."""
        return len(self._waiting)

    def stop(self) -> None:
        """As ThreadPool's."""


class InlineReactor(MemoryReactorClock):
    """A clock that threads may call into."""

    def callFromThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """As the reactor's, but at once."""
        f(*args, **kw)


class InlinePool(ConnectionPool):
    """adbapi's pool, all of it but the threads."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.threads = InlineThreads()
        self.threadpool: Any = self.threads

    @property
    def connection(self) -> Any:
        """The one connection, opened already or now."""
        return self.connect()


# --- storage: small accounts and messages -----------------------------------------------------------------


def hex_id(*words: object) -> str:
    """32 hex digits that only these words give."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


def kid(user: str, generation: int = 1) -> str:
    """The id of a user's RSA key."""
    return hex_id("kid", user, generation)


def device(user: str, number: int = 1) -> str:
    """The id of one of a user's devices."""
    return hex_id("device", user, number)


def new_keys(user: str, version: int = 1, devices: Sequence[int] = (1,), **changes: Any) -> NewKeys:
    """Keys that storage takes for good; it looks into none of them."""
    certificates = tuple(SignedCertificate(b"cert %d" % number, b"i" * 64, b"d" * 64) for number in devices)
    fields: dict[str, Any] = {
        "ik": hashlib.sha256(user.encode()).digest(),
        "rk_kid": kid(user),
        "version": version,
        "devices": tuple(device(user, number) for number in devices),
        "keys": SignedBundle(f"list {version} of {user}".encode(), b"s" * 64, certificates),
    }
    return NewKeys(**fields | changes)


def new_account(user: str, **changes: Any) -> NewAccount:
    """A fresh account with one device and a first backup."""
    keys = new_keys(user)
    fields: dict[str, Any] = {
        "user": user,
        "password_hash": f"hash of {user}",
        "salt": b"sixteen of salt!",
        "ik": keys.ik,
        "rk_kid": keys.rk_kid,
        "version": keys.version,
        "devices": keys.devices,
        "keys": keys.keys,
        "backup": Backup(1, b"sealed"),
    }
    return NewAccount(**fields | changes)


def wrapped(mid: str, user: str) -> bytes:
    """The 384 bytes that stand for a message's key, wrapped for a user."""
    return hashlib.shake_256(f"{mid} {user}".encode()).digest(384)


def new_message(sender: str, readers: Sequence[str], number: int = 1, /, **changes: Any) -> NewMessage:
    """The message of that number of the sender's first device, to the room ops as those readers made it.

    Args:
        readers: in a room that nobody left, its members; their count is then the head.
    """
    mid = hex_id("mid", sender, number)
    fields: dict[str, Any] = {
        "room": "ops",
        "peer": None,
        "sender": sender,
        "device": device(sender),
        "mid": mid,
        "ctr": number,
        "head": len(readers),
        "shared": f"message {number} of {sender}".encode(),
        "kids": {user: kid(user) for user in readers},
        "wrapped": {user: wrapped(mid, user) for user in readers},
        "ts": 1_000_000 + number,
    }
    fields |= changes
    fields.setdefault("body_hash", hashlib.sha256(fields["shared"]).digest())
    return NewMessage(**fields)


def private_message(sender: str, peer: str, number: int = 1, /, **changes: Any) -> NewMessage:
    """The message of that number to another user alone."""
    room = "pm:" + hashlib.sha256(repr(sorted((sender, peer))).encode()).hexdigest()
    return new_message(sender, (sender, peer), number, **{"room": room, "peer": peer, "head": 0} | changes)


class StoreCase(SynchronousTestCase):
    """Tests of a real store on a real file, all in the caller's thread."""

    KEY_FILE = new_key_file()
    _fresh: ClassVar[bytes] = b""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_bytes(self.fresh())
        self.reactor = InlineReactor()
        self.store = self.make_store()

    def fresh(self) -> bytes:
        """The file of a new store: made once, for making it takes longer than most tests."""
        if not StoreCase._fresh:
            path = Path(self.mktemp())
            kek = KeyEncryptionKeys(self.KEY_FILE)
            SQLiteStore(path, kek, reactor=InlineReactor(), pool=InlinePool).open()
            StoreCase._fresh = path.read_bytes()
        return StoreCase._fresh

    def make_store(self, **settings: Any) -> SQLiteStore:
        """Opens the store of this test's file; closed at the end if the test does not."""
        self.pools: list[InlinePool] = []

        def pool(*args: Any, **kw: Any) -> InlinePool:
            self.pools.append(InlinePool(*args, **kw))
            return self.pools[-1]

        kek = settings.pop("kek", KeyEncryptionKeys(self.KEY_FILE))
        store = SQLiteStore(self.path, kek, reactor=self.reactor, pool=pool, **settings)
        store.open()
        self.addCleanup(lambda: self.successResultOf(store.close()))
        return store

    @property
    def writer(self) -> InlinePool:
        """The store's pool of one connection that writes."""
        return self.pools[0]

    def start(self, verb: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """Calls a verb."""
        return Deferred.fromCoroutine(verb)

    def do(self, verb: Coroutine[Deferred[Any], Any, T]) -> T:
        """What a verb answers."""
        return self.successResultOf(self.start(verb))

    def refusal(self, verb: Coroutine[Deferred[Any], Any, object]) -> Refused:
        """How a verb is refused."""
        error = self.failureResultOf(self.start(verb), Refused).value
        assert isinstance(error, Refused)
        return error

    def assertRefused(self, code: object, verb: Coroutine[Deferred[Any], Any, object], **data: object) -> None:
        """A verb is refused with that code and just that data."""
        refused = self.refusal(verb)
        self.assertEqual((code, data), (refused.code, refused.data))

    def register(self, *users: str) -> None:
        """Makes accounts."""
        for user in users:
            self.do(self.store.register(new_account(user), invite_hash=None, now=1))

    def gather(self, *users: str, room: str = "ops") -> None:
        """Makes accounts, and a room of them."""
        self.register(*users)
        for user in users:
            self.do(self.store.join(user, room, 1))
