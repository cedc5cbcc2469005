"""Fakes, and builders of small things, that several test modules use."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from msgspec.structs import replace as replace_fields
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from securechat.chat.broker import RoomBroker
from securechat.crypto import primitives
from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.envelope import Header, audience, audience_digest, message_id
from securechat.crypto.identity import list_version, login_proof, private_conversation
from securechat.crypto.passwords import Stretched, stretch
from securechat.crypto.primitives import b64url, load_rsa_private, new_rsa, rsa_private_der
from securechat.crypto.roomlog import Join, RoomEvent, SignedEvent
from securechat.crypto.signed import to_bytes
from securechat.crypto.transcript import transcript_start
from securechat.errors import Code, Exit, Refused
from securechat.link import ConnectLine
from securechat.server.checks import Admission, PasswordChecks
from securechat.server.connections import ConnectionLimits, SharedLimits
from securechat.server.protocol import ChatServerFactory
from securechat.server.session import Logins, Registration, ServerIdentity, SessionParts
from securechat.storage.interface import Appended, Backup, NewAccount, NewKeys, NewMessage, Placed
from securechat.storage.sqlite import SQLiteStore
from securechat.wire import codec
from securechat.wire import messages as m
from securechat.wire.codec import encode
from securechat.wire.messages import Failed, Packet
from tests.cast import SERVER_KEY as SERVER_KEY
from tests.cast import SRV as SRV
from tests.cast import Person as Person
from tests.cast import Room, UnsignedRoom
from tests.cast import figures as figures
from tests.cast import flipped as flipped
from tests.cast import rsa_key as rsa_key
from tests.cast import rsa_public as rsa_public
from tests.cast import signing_key as signing_key

if TYPE_CHECKING:
    from securechat.client.view import Alert, Item, Status

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


def no_commit(action: int, operation: str | None, *_: str | None) -> int:
    """An authorizer under which everything works but COMMIT."""
    denied = (action, operation) == (sqlite3.SQLITE_TRANSACTION, "COMMIT")
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


# --- storage: small accounts and messages -----------------------------------------------------------------


def hex_id(*words: object) -> str:
    """32 hex digits that only these words give."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


@cache
def person(user: str) -> Person:
    """The first identity of that name."""
    return Person(user)


def kid(user: str, generation: int = 1) -> str:
    """The id of a user's RSA key; of later ones nobody has more than the id."""
    return person(user).kid if generation == 1 else hex_id("kid", user, generation)


def device(user: str, number: int = 1) -> str:
    """The id of one of a user's devices."""
    return person(user).dev(number)


def new_keys(
    user: str, version: int = 1, devices: Sequence[int] = (1,), *, generation: int = 1, **changes: Any
) -> NewKeys:
    """Keys that storage takes for good."""
    who = person(user) if generation == 1 else Person(user, generation=generation)
    fields: dict[str, Any] = {
        "ik": who.ik,
        "rk_kid": who.kid,
        "version": version,
        "devices": tuple(who.dev(number) for number in devices),
        "keys": who.bundle(max(1, version), devices),
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


def gathered(users: Sequence[str], room: str = "ops", **policy: Any) -> UnsignedRoom:
    """A room that the first of these people made, and the others joined; always the same."""
    return UnsignedRoom(*map(person, users), name=room, **policy)


@cache
def room_place(users: tuple[str, ...], room: str) -> tuple[str, str]:
    """The id of that room, and the head of its log."""
    log = gathered(users, room).log
    return log.id, log.head


def long_id(*words: object) -> str:
    """64 hex digits that only these words give."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


def new_message(sender: str, readers: Sequence[str], number: int = 1, /, **changes: Any) -> NewMessage:
    """The message of that number of the sender's first device, to the room ops that `gathered` these people.

    Args:
        changes: of fields of the message, or of its header.
    """
    room = changes.pop("room", "ops")
    room_id, head = changes.pop("place", None) or room_place(tuple(readers) or (sender,), room)
    dev = changes.get("device", device(sender))
    mid = changes.pop("mid", hex_id("mid", sender, number))
    kids = changes.setdefault("kids", {user: kid(user) for user in readers})
    header: dict[str, Any] = {
        "room": room_id,
        "author": sender,
        "dev": dev,
        "dl": person(sender).dl,
        "ctr": number,
        "prev": long_id("id", sender, dev, room, number - 1) if number > 1 else "",
        "mid": mid,
        "head": head,
        "rcp": audience_digest(audience(kids)).hex(),
        "mh": long_id("token", mid),
        "th": (0, transcript_start(room_id)),
        "at": 1_000_000 + number,
    }
    header |= {name: changes.pop(name) for name in header.keys() & changes.keys()}
    fields: dict[str, Any] = {
        "room": room,
        "peer": None,
        "sender": sender,
        "device": dev,
        "header": Header(**header),
        "id": long_id("id", sender, dev, room, header["ctr"]),
        "shared": f"message {number} of {sender}".encode(),
        "wrapped": {user: wrapped(mid, user) for user in readers},
        "ts": 1_000_000 + number,
    }
    fields |= changes
    fields.setdefault("body_hash", hashlib.sha256(fields["shared"]).digest())
    return NewMessage(**fields)


def pair(one: str, other: str) -> str:
    """The private conversation of two users."""
    return private_conversation(person(one).ik, person(other).ik)


def private_message(sender: str, peer: str, number: int = 1, /, **changes: Any) -> NewMessage:
    """The message of that number to another user alone."""
    room = pair(sender, peer)
    fields = {"room": room, "place": (room, ""), "peer": peer}
    return new_message(sender, (sender, peer), number, **fields | changes)


class StoreCase(SynchronousTestCase):
    """Tests of a real store on a real file, all in the caller's thread."""

    KEY_FILE = new_key_file()
    _fresh: ClassVar[bytes] = b""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_bytes(self.fresh())
        self.reactor = InlineReactor()
        self.rooms: dict[str, Room] = {}
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

    def restore(self) -> None:
        """The store is opened as one that was put back to an older state, and says so."""
        self.successResultOf(self.store.close())
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE meta SET epoch = ?", (hex_id("epoch"),))
        self.store = self.make_store()

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

    def together(self, *messages: NewMessage) -> list[Appended]:
        """Where messages were put that share one commit."""
        return [answer for answer in self.all_of(*messages) if not isinstance(answer, Failure)]

    def all_of(self, *messages: NewMessage) -> list[Any]:
        """What `append` answers to messages that share one commit: where they are, or a Failure."""
        writes = self.store._writes
        writes._running = True  # so that they wait for each other
        answers: list[Any] = []
        for message in messages:
            self.start(self.store.append(message)).addBoth(answers.append)
        writes._running = False
        self.do(writes._drain())
        return answers

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

    def gather(self, *users: str, room: str = "ops", **policy: Any) -> None:
        """Makes accounts, and a room of them."""
        self.register(*users)
        self.meet(*users, room=room, **policy)

    def meet(self, *users: str, room: str = "ops", **policy: Any) -> None:
        """Makes a room of people who have accounts."""
        self.rooms[room] = gathered(users, room, **policy)
        for signed in self.rooms[room].events:
            self.do(self.store.act(room, signed, wait=0.0, now=1))

    def said(self, sender: str, readers: Sequence[str], number: int = 1, /, **changes: Any) -> NewMessage:
        """As `new_message`, sealed for the present members of a room of this test."""
        log = self.rooms[changes.get("room", "ops")].log
        return new_message(sender, readers, number, **{"place": (log.id, log.head)} | changes)

    def acting(
        self,
        kind: type[RoomEvent],
        author: Person,
        whom: Person | None = None,
        *,
        room: str = "ops",
        wait: float = 0.0,
        now: int = 1,
        **fields: Any,
    ) -> Coroutine[Deferred[Any], Any, Placed]:
        """The verb that puts somebody's next act into a room's log."""
        return self.store.act(room, self.rooms[room].draft(kind, author, whom, **fields), wait=wait, now=now)

    def act(
        self, kind: type[RoomEvent], author: Person, whom: Person | None = None, *, room: str = "ops", **fields: Any
    ) -> Placed:
        """Lets somebody act in a room."""
        verb = {name: fields.pop(name) for name in ("wait", "now") if name in fields}
        signed = self.rooms[room].draft(kind, author, whom, **fields)
        placed = self.do(self.store.act(room, signed, **{"wait": 0.0, "now": 1} | verb))
        self.rooms[room].take(signed)
        return placed


# --- crypto: keys that are the same in every run, and who holds them --------------------------------------

UNPROVEN: Final = bytes(64)  # in a registration: `Caller.say` puts the proof in its place


# --- clients: several of them and a server, joined in memory ----------------------------------------------

START: Final = 1_700_000_000  # seconds since 1970, when every test begins
PASSWORD: Final = "secretpassword"
ADDRESS: Final = ConnectLine("127.0.0.1", 12345, tls=False)


class MemoryView:
    """A view that keeps what it is shown, and answers questions from what the test has prepared."""

    def __init__(self, *, interactive: bool = True) -> None:
        self.interactive = interactive
        self.items: list[Item] = []
        self.states: list[Status] = []
        self.asked: list[str] = []
        self.answers: list[str | Deferred[str | None]] = []
        self.sees: set[str] | None = None  # the conversations before its user's eyes; None: all
        self.printed: set[str] | None = None  # the conversations that are shown as they come; None: all
        self.places: list[str] = []
        self.alerts: list[Alert] = []
        self._taken = 0

    def show(self, item: Item) -> None:
        """As View's."""
        self.items.append(item)

    def status(self, status: Status) -> None:
        """As View's."""
        self.states.append(status)

    def follows(self, where: str) -> bool:
        """As View's."""
        return self.sees is None or where in self.sees

    def prints(self, where: str) -> bool:
        """As View's."""
        return self.printed is None or where in self.printed

    def opened(self, where: str) -> None:
        """As View's."""
        self.places.append(where)

    def alert(self, alert: Alert) -> None:
        """As View's."""
        self.alerts.append(alert)

    def ask(self, question: str) -> Deferred[str | None]:
        """As View's: the next prepared answer, or None."""
        self.asked.append(question)
        answer = self.answers.pop(0) if self.answers else None
        return answer if isinstance(answer, Deferred) else succeed(answer)

    def ask_secret(self, question: str) -> Deferred[str | None]:
        """The same."""
        return self.ask(question)

    def take(self) -> list[str]:
        """What was shown since the last call, as lines of text."""
        from securechat.client.display import render

        new, self._taken = self.items[self._taken :], len(self.items)
        return [line for item in new for line in render(item, tz=UTC)]

    @property
    def text(self) -> str:
        """All that was ever shown or asked."""
        from securechat.client.display import render

        return "\n".join([*(line for item in self.items for line in render(item, tz=UTC)), *self.asked])


class MemoryEnd(FakeTransport):
    """One end of a connection in memory, which loses what waits in it when it is aborted."""

    def abortConnection(self) -> None:
        """As a TCP transport's."""
        self.stream.clear()
        self.disconnecting = True


class Wire:
    """One connection between a client and the server; `move` hands over what either wrote, line by line.

    Attributes:
        asked, told: what the client, and what the server, has said so far.
        held: while set, nothing moves.
    """

    def __init__(self, network: Network, client: Any, server: Any) -> None:
        self._network = network
        self.asked: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.held = False
        self.open = True
        self._unanswered: set[Any] = set()
        self._client, self._server = client, server
        self.client = MemoryEnd(client, False)
        self.server = MemoryEnd(server, True, peerAddress=IPv4Address("TCP", "127.0.0.1", 40000))
        server.makeConnection(self.server)
        client.makeConnection(self.client)

    @property
    def commands(self) -> list[str]:
        """The names of all that the client asked for."""
        return [request["cmd"] for request in self.asked]

    def move(self) -> bool:
        """Hands over what waits; whether there was anything."""
        if self.held or not self.open:
            return False
        lines = (self.client.getOutBuffer() or b"").splitlines(keepends=True)
        for line in lines:
            if self.open:
                self._ask(line)
        told = (self.server.getOutBuffer() or b"").splitlines(keepends=True)
        for line in told:
            if self.open:
                self._tell(line)
        if lines or told:
            return True
        if self.open and (self.client.disconnecting or self.server.disconnecting):
            self.cut(ConnectionDone())
            return True
        return False

    def cut(self, why: Exception | None = None) -> None:
        """Ends the connection for both ends; nothing that waits in it arrives."""
        if self.open:
            self.open = False
            self.client.disconnecting = self.server.disconnecting = True
            self._server.connectionLost(Failure(why or ConnectionLost()))
            self._client.connectionLost(Failure(why or ConnectionLost()))

    def _ask(self, line: bytes) -> None:
        request = json.loads(line)
        self.asked.append(request)
        faults = self._network.faults.get(request["cmd"])
        fault = faults.pop(0) if faults else None
        if fault == "lost":
            self.cut()
        elif isinstance(fault, Failed):
            self.say(replace_fields(fault, id=request["id"]))
        else:
            if fault == "unanswered":
                self._unanswered.add(request["id"])
            self._server.dataReceived(line)

    def _tell(self, line: bytes) -> None:
        said = json.loads(line)
        if "event" not in said and said.get("id") in self._unanswered:
            self.cut()
            return
        for change in self._network.changes:
            said, before = change(said), said
            if said is None:
                return
            if said is not before:
                line = json.dumps(said).encode() + b"\n"
        self.told.append(said)
        self._client.dataReceived(line)

    def say(self, packet: Packet | bytes) -> None:
        """Gives the client a line as if from the server."""
        self._client.dataReceived(packet if isinstance(packet, bytes) else encode(packet))


@implementer(IStreamClientEndpoint)
class Network:
    """Where the clients of one test connect to, and what may go wrong there.

    Attributes:
        server: makes the server's end of each connection.
        failure: how a connection attempt fails; None: it does not.
        wires: all connections there ever were.
        faults: by command, what happens to its next requests: "lost", "unanswered", or what is answered instead of
            passing it on; None for nothing.
        changes: what each line from the server is put through; None drops it.
    """

    def __init__(self) -> None:
        self.server: Any = None
        self.failure: Exception | None = None
        self.wires: list[Wire] = []
        self.faults: dict[str, list[Any]] = {}
        self.changes: list[Callable[[dict[str, Any]], dict[str, Any] | None]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        """As an endpoint's."""
        if self.failure is not None:
            return fail(self.failure)
        address = IPv4Address("TCP", "127.0.0.1", 12345)
        client = factory.buildProtocol(address)
        self.wires.append(Wire(self, client, self.server.buildProtocol(address)))
        return succeed(client)

    def refuse(self, command: str, code: Code, times: int = 1, **fields: Any) -> None:
        """The next requests of that name are refused, without the server's knowing of them."""
        shown = {"retry_after": 1.0, "room": "general", "user": "somebody", "expected": 1, "version": 1} | fields
        told = {name: value for name, value in fields.items() if name in Failed.__struct_fields__}
        answer = Failed(code=code.name, msg=code.text.format(**shown), **told)
        self.faults.setdefault(command, []).extend([answer] * times)

    def go_down(self) -> None:
        """The server is gone: every connection breaks, and none can be made."""
        self.failure = ConnectionRefusedError()
        for wire in self.wires:
            wire.cut()

    def come_back(self) -> None:
        """The server is there again."""
        self.failure = None


class NoHashing:
    """Stands in for PasswordChecks: what it calls a hash is none."""

    async def verify(self, token: str, stored: str | None) -> bool:
        """As PasswordChecks'."""
        return stored == f"hash of {token}"

    async def hash(self, token: str) -> str:
        """The same."""
        return f"hash of {token}"

    def needs_rehash(self, stored: str) -> bool:
        """The same."""
        return False


class ClientThreads(InlineThreads):
    """Runs a client's work at once; what takes long by design is replaced by something as good for a test.

    Attributes:
        stretched: every password that was stretched.
        inside: whether a thread is what runs at present.
    """

    def __init__(self, reactor: InlineReactor) -> None:
        super().__init__()
        self._reactor = reactor
        self._made = 0
        self.stretched: list[str] = []
        self.inside = False

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """What the core calls."""
        if work is stretch:
            self.stretched.append(arguments[0])
            work = quick_stretch
        elif work is new_rsa:
            work = self._next_key
        return deferToThreadPool(self._reactor, self, self._inside, work, *arguments)  # type: ignore[arg-type]  # a pool

    def _inside(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self.inside = True
        try:
            return work(*arguments)
        finally:
            self.inside = False

    def _next_key(self) -> RSAPrivateKey:
        self._made += 1
        return rsa_key((self._made - 1) % 3)


def quick_stretch(password: str, salt: bytes) -> Stretched:
    """As `stretch`, for those who guess nothing."""
    return Stretched(hashlib.sha256(salt + password.encode()).digest(), salt)


def load_checked_before(der: bytes, genuine: Callable[[bytes], RSAPrivateKey] = load_rsa_private) -> RSAPrivateKey:
    """As `load_rsa_private`, which checks the arithmetic of a key for 0.15 s; that of `rsa_key` is right."""
    return _rsa_keys().get(der) or genuine(der)


@cache
def _rsa_keys() -> dict[bytes, RSAPrivateKey]:
    return {rsa_private_der(rsa_key(number)): rsa_key(number) for number in range(3)}


class ChatClient:
    """A core with its view and its files, and the hands that type.

    Args:
        name: of its data directory; two of one name share it.
        line: where it connects.
        timeout: as the core's.
    """

    _fresh: ClassVar[bytes] = b""

    def __init__(
        self,
        case: ChatCase,
        name: str,
        *,
        line: ConnectLine = ADDRESS,
        interactive: bool = True,
        timeout: float = 30.0,
    ) -> None:
        from securechat.client.connection import ServerLink
        from securechat.client.core import ChatCore
        from securechat.client.profile import ClientDir

        self._case = case
        self.name = name
        self.directory = ClientDir(case.home / name)
        self.view = MemoryView(interactive=interactive)
        self.threads = ClientThreads(case.reactor)
        self.threads._made = case.keys_made
        case.keys_made += 1
        self.pools: list[InlinePool] = []
        self.core = ChatCore(
            self.directory,
            line,
            self.view,
            reactor=case.reactor,
            run=self.threads.run,
            timeout=timeout,
            clock=case.reactor.seconds,
            make_link=partial(ServerLink, endpoint=case.network, jitter=lambda: 0.5),
        )
        self.core.shop = replace(self.core.shop, pool=self._pool)
        self.core.start()

    def _pool(self, driver: str, path: str, *, cp_openfun: Callable[[Any], object], **kw: Any) -> InlinePool:
        def hurried(connection: Any) -> None:
            cp_openfun(connection)
            connection.execute("PRAGMA synchronous = OFF")

        if not ChatClient._fresh:  # made once, for making it takes longer than most tests
            with closing(sqlite3.connect(f"{path}.fresh", isolation_level=None)) as connection:
                cp_openfun(connection)
            ChatClient._fresh = Path(f"{path}.fresh").read_bytes()
        if not Path(path).exists():
            Path(path).write_bytes(ChatClient._fresh)
        self.pools.append(InlinePool(driver, path, cp_openfun=hurried, **kw))
        return self.pools[-1]

    def start(self, line: str) -> Deferred[Exit]:
        """Types a line, and lets everything happen that can without time passing."""
        result = Deferred.fromCoroutine(self.core.orders.submit(line))
        self._case.settle()
        return result

    def type(self, line: str) -> list[str]:
        """Types a line whose effect is there at once; answers what was shown since the last look."""
        self._case.successResultOf(self.start(line))
        return self.view.take()

    def exit(self, line: str) -> Exit:
        """The same; answers the status."""
        return self._case.successResultOf(self.start(line))

    @property
    def wire(self) -> Wire:
        """The present connection."""
        return next(w for w in reversed(self._case.network.wires) if w._client._protocol is self.protocol)

    @property
    def protocol(self) -> Any:
        """The client's end of it."""
        assert self.core.link is not None
        return self.core.link.protocol

    def quit(self) -> None:
        """Ends without a word to anybody, as a process that is killed: only what is on disk is left."""
        core = self.core
        if core.outbox is not None:
            core.outbox.stop()
        if core.inbox is not None:
            core.inbox.stop()
        link, core.link = core.link, None
        account, core.account = core.account, None
        if link is not None:
            link.stop()
        if account is not None:
            account.close()
        self._case.settle()


class ChatCase(StoreCase):
    """Tests of clients that talk to a real server, everything in one thread and on one clock."""

    registration: ClassVar[Registration] = Registration.OPEN

    def setUp(self) -> None:
        super().setUp()
        self.patch(primitives, "load_rsa_private", load_checked_before)
        self.patch(os, "fsync", lambda descriptor: None)  # no test pulls the plug
        self.writer.connection.execute("PRAGMA synchronous = OFF")
        self.reactor.advance(START)
        self.home = Path(self.mktemp())
        self.home.mkdir()
        self.keys_made = 0
        self.network = Network()
        self.clients: list[ChatClient] = []
        self.serve()
        self.addCleanup(self._leave)

    def _leave(self) -> None:
        for client in self.clients:
            client.quit()

    def serve(self, identity: Ed25519PrivateKey = SERVER_KEY) -> None:
        """Starts the server on the store; a second call is a restart."""
        self.parts = SessionParts(
            store=self.store,
            broker=RoomBroker(),
            passwords=cast(Any, NoHashing()),
            admission=Admission(per_account=100, per_address=100),
            identity=ServerIdentity(identity),
            logins=Logins(),
            now=self.reactor.seconds,
            monotonic=self.reactor.seconds,
            random=secrets.token_bytes,
            version="test",
        )
        shared = SharedLimits(ConnectionLimits(), self.reactor)
        self.network.server = ChatServerFactory(
            self.parts, shared, self.reactor, tls=False, registration=self.registration
        )

    def client(self, name: str = "somebody", **settings: Any) -> ChatClient:
        """A client that was just started."""
        client = ChatClient(self, name, **settings)
        self.clients.append(client)
        return client

    def registered(self, name: str, *rooms: str, **settings: Any) -> ChatClient:
        """A client whose account was just made, in these rooms."""
        client = self.client(name, **settings)
        for line in (f"/register {name} {PASSWORD}", *(f"/join {room}" for room in rooms)):
            assert client.exit(line) is Exit.OK, client.view.text
        client.view.take()
        return client

    def again(self, client: ChatClient, *, login: bool = True, **settings: Any) -> ChatClient:
        """The same client after it was killed and started anew."""
        client.quit()
        fresh = self.client(client.name, **settings)
        if login:
            fresh.type(f"/login {client.name} {PASSWORD}")
        return fresh

    def settle(self) -> None:
        """Lets everything happen that can without time passing."""
        for _ in range(10_000):
            moved = [wire.move() for wire in self.network.wires if wire.open]
            due = [call for call in self.reactor.getDelayedCalls() if call.getTime() <= self.reactor.seconds()]
            if due:
                self.reactor.advance(0)
            elif not any(moved):
                return
        raise AssertionError("it never comes to rest")

    def pass_time(self, seconds: float) -> None:
        """Lets time pass, from one thing that happens to the next."""
        self.settle()
        end = self.reactor.seconds() + seconds
        while (calls := self.reactor.getDelayedCalls()) and (at := min(c.getTime() for c in calls)) <= end:
            self.reactor.advance(max(0.0, at - self.reactor.seconds()) + 1e-6)  # or rounding might fall short of it
            self.settle()
        self.reactor.advance(max(0.0, end - self.reactor.seconds()))
        self.settle()


# --- server: connections to it in memory, line by line ----------------------------------------------------


class CountingHasher:
    """Stands in for PasswordHasher: its hashes are none, and it keeps what it was asked.

    Attributes:
        verified: what every verification was about: a hash, or None for no account.
    """

    def __init__(self) -> None:
        self.verified: list[str | None] = []
        self.hashed: list[str] = []

    def hash(self, token: str) -> str:
        """As Hasher's."""
        self.hashed.append(token)
        return f"new {token}"

    def verify(self, token: str, stored: str | None) -> bool:
        """As Hasher's."""
        self.verified.append(stored)
        return stored is not None and stored.partition(" ")[2] == token

    def needs_rehash(self, stored: str) -> bool:
        """As Hasher's: those that begin otherwise are old."""
        return not stored.startswith("new ")


class InlineChecks(PasswordChecks):
    """Password checks, all of it but the threads."""

    def __init__(self, reactor: InlineReactor, hasher: CountingHasher, *, queue: int = 32) -> None:
        super().__init__(reactor, hasher, threads=1, queue=queue)
        self.threads = InlineThreads()
        self._pool: Any = self.threads


class SteadyRandom:
    """Bytes that nobody could guess, were they not the same in every run."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self, size: int) -> bytes:
        """As `secrets.token_bytes`."""
        self._asked += 1
        return hashlib.shake_256(b"%d" % self._asked).digest(size)


def auth_token(person: Person, password: str = "password") -> str:
    """What goes to the server in the place of a password."""
    return "sc1$" + b64url(hashlib.sha256(f"{person.user} {password}".encode()).digest())


def session_keys(person: Person, *changes: Any, **more: Any) -> m.KeyBundle:
    """A person's signed keys as part of a packet."""
    return m.KeyBundle.of(person.bundle(*changes, **more))


class Caller:
    """A client's end of a connection: says lines, and reads what is said.

    Attributes:
        hello: the greeting.
        events: what came by itself, since they were last taken.
        raw: every byte that was ever said to it.
    """

    def __init__(self, reactor: InlineReactor, factory: ChatServerFactory, address: str) -> None:
        self._reactor = reactor
        where = IPv4Address("TCP", address, 50000)
        self.transport = StringTransport(peerAddress=where)
        self.protocol = factory.buildProtocol(where)
        self.protocol.makeConnection(self.transport)
        self.events: list[m.AnyEvent] = []
        self._replies: list[bytes] = []
        self._read = 0
        self.listen()
        self.hello: Any = self.events.pop() if self.events else None

    @property
    def raw(self) -> bytes:
        """Everything that was said to it."""
        return self.transport.value()

    @property
    def closing(self) -> bool:
        """Whether the server wants to close the connection, or has cut it."""
        return self.transport.disconnecting

    def listen(self) -> None:
        """Reads what has come."""
        self._reactor.advance(0)
        lines = self.raw[self._read :].split(b"\n")
        self._read = len(self.raw) - len(lines[-1])
        for line in lines[:-1]:
            event = codec.decode_event(line)
            if event is None:
                self._replies.append(line)
            else:
                self.events.append(event)

    def take(self, *kinds: type[m.Packet]) -> list[Any]:
        """The events of some kinds, or all, that came since they were last taken; the others stay."""
        self.listen()
        wanted = [event for event in self.events if not kinds or isinstance(event, kinds)]
        self.events = [event for event in self.events if kinds and not isinstance(event, kinds)]
        return wanted

    def replies(self) -> list[dict[str, Any]]:
        """The replies that came since they were last taken, as JSON."""
        self.listen()
        replies, self._replies = self._replies, []
        return [json.loads(reply) for reply in replies]

    def say(self, *requests: m.Packet | bytes) -> None:
        """Says lines, in one piece. A registration gets its proof here, where the connection is known."""
        proven = [self._proven(one) if isinstance(one, m.Register) else one for one in requests]
        lines = [one + b"\n" if isinstance(one, bytes) else codec.encode(one) for one in proven]
        self.protocol.dataReceived(b"".join(lines))

    def _proven(self, request: m.Register) -> m.Register:
        if request.proof != UNPROVEN:
            return request
        named = json.loads(request.keys.certs[0].cert)
        people = [Person(named["user"], generation=generation) for generation in (1, 2, 3)]
        held = [(person, number) for person in people for number in (1, 2) if person.dev(number) == named["dev"]]
        person, number = held[0]
        device = person.device(number)
        proof = login_proof(device, lk=self.hello.lk, exporter=b"", nonce=self.hello.nonce, user=request.user)
        return replace_fields(request, proof=proof)

    def ask(self, request: m.Request) -> Any:
        """The reply to a request that is answered at once."""
        self.say(request)
        self.listen()
        (reply,), self._replies = self._replies, []
        return codec.decode_reply(reply, type(request))

    def lose(self) -> None:
        """The connection is lost."""
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def proof(self, person: Person, device: int = 1) -> bytes:
        """A device's proof that it holds this connection."""
        return login_proof(
            person.device(device), lk=self.hello.lk, exporter=b"", nonce=self.hello.nonce, user=person.user
        )


class ServerCase(StoreCase):
    """Tests of a server on a real store, everything in one thread and on one clock.

    Attributes:
        LIMITS: what a connection may use.
        REGISTRATION: who may make an account.
        LOGINS: how often a minute somebody may try, by account and by address.
        PEOPLE: who has an account already.
    """

    LIMITS: ClassVar[ConnectionLimits] = ConnectionLimits()
    REGISTRATION: ClassVar[Registration] = Registration.OPEN
    LOGINS: ClassVar[int] = 1000
    PEOPLE: ClassVar[tuple[Person, ...]] = tuple(Person(user) for user in ("alice", "bob", "carol"))
    _files: ClassVar[dict[tuple[Person, ...], bytes]] = {}

    def setUp(self) -> None:
        super().setUp()
        # What these tests are about is not what survives a power cut.
        self.writer.connection.execute("PRAGMA synchronous = OFF")
        self.reactor.advance(START)
        self.hasher = CountingHasher()
        self.checks = InlineChecks(self.reactor, self.hasher)
        self.parts = self.make_parts()
        self.shared = SharedLimits(self.LIMITS, self.reactor)
        self.factory = self.listener()
        self.ids: dict[tuple[str, str, int], str] = {}  # of messages by conversation, device and number
        self.lists: dict[str, tuple[int, str]] = {}  # number and digest of lists that a test published, by user
        self.alice, self.bob, self.carol = ServerCase.PEOPLE

    def fresh(self) -> bytes:
        """The file of a store in which these people have accounts: made once."""
        if self.PEOPLE not in ServerCase._files:
            path = Path(self.mktemp())
            path.write_bytes(super().fresh())
            store = SQLiteStore(path, KeyEncryptionKeys(self.KEY_FILE), reactor=InlineReactor(), pool=InlinePool)
            store.open()
            for person in self.PEOPLE:
                keys = person.keys()
                fields = {"ik": keys.ik, "rk_kid": keys.kid, "devices": (person.dev(),), "keys": person.bundle()}
                password_hash = f"new {auth_token(person)}"
                self.do(
                    store.register(
                        new_account(person.user, password_hash=password_hash, **fields), invite_hash=None, now=1
                    )
                )
            self.successResultOf(store.close())
            ServerCase._files[self.PEOPLE] = path.read_bytes()
        return ServerCase._files[self.PEOPLE]

    def make_parts(self) -> SessionParts:
        """The parts of a server that has just been started."""
        return SessionParts(
            store=self.store,
            broker=RoomBroker(),
            passwords=self.checks,
            admission=Admission(per_account=self.LOGINS, per_address=self.LOGINS),
            identity=ServerIdentity(SERVER_KEY),
            logins=Logins(),
            now=self.reactor.seconds,
            monotonic=self.reactor.seconds,
            random=SteadyRandom(),
            version="test",
        )

    def listener(self, *, tls: bool = False, registration: Registration | None = None) -> ChatServerFactory:
        """One more listener of the server."""
        return ChatServerFactory(
            self.parts, self.shared, self.reactor, tls=tls, registration=registration or self.REGISTRATION
        )

    def call(self, address: str = "192.0.2.1", factory: ChatServerFactory | None = None) -> Caller:
        """A new connection, greeted."""
        return Caller(self.reactor, factory or self.factory, address)

    def registration_of(self, person: Person, **changes: Any) -> m.Register:
        """A person's good registration."""
        fields: dict[str, Any] = {
            "id": 1, "user": person.user, "password": auth_token(person), "salt": b"sixteen of salt!",
            "keys": session_keys(person), "proof": UNPROVEN, "backup": m.Backup(version=1, blob=b"sealed"),
        }  # fmt: skip
        return m.Register(**fields | changes)

    def login_of(self, person: Person, caller: Caller, device: int | None = 1, **changes: Any) -> m.Login:
        """A person's good login, as one of their devices, or as none yet."""
        fields: dict[str, Any] = {"id": 1, "user": person.user, "password": auth_token(person)}
        if device is not None:
            fields |= {"device": person.dev(device), "proof": caller.proof(person, device)}
        return m.Login(**fields | changes)

    def member(self, person: Person, *rooms: str, address: str = "192.0.2.1") -> Caller:
        """A connection of one of the `PEOPLE`, logged in as the first device, synced and in these rooms."""
        caller = self.call(address)
        for request in (self.login_of(person, caller), m.Sync()):
            reply = caller.ask(request)
            assert not isinstance(reply, m.Failed), reply
        for room in rooms:
            self.enter(caller, person, room)
        caller.take()
        return caller

    def enter(self, caller: Caller, who: Person, room: str, **fields: Any) -> m.ActOk:
        """Somebody joins a room, or makes it where this test has made none."""
        fields = {"dl": self.lists.get(who.user, who.dl)} | fields
        if room in self.rooms:
            return self.perform(caller, Join, who, room=room, **fields)
        self.create_of(who, room, **fields)
        return self._acted(caller, room, self.rooms[room].events[0])

    def create_of(self, who: Person, room: str, **fields: Any) -> m.DoAct:
        """The request that makes a room, which this test knows from then on."""
        self.rooms[room] = Room(who, name=room, **fields)
        (signed,) = self.rooms[room].events
        return m.DoAct(id=1, room=room, signed=signed.data, sig=signed.sig)

    @staticmethod
    def _acted(caller: Caller, room: str, signed: SignedEvent) -> m.ActOk:
        reply = caller.ask(m.DoAct(id=1, room=room, signed=signed.data, sig=signed.sig))
        assert isinstance(reply, m.ActOk), reply
        return reply

    def act_of(
        self, kind: type[RoomEvent], author: Person, whom: Person | None = None, *, room: str = "ops", **fields: Any
    ) -> m.DoAct:
        """The request that puts somebody's next act into a room's log."""
        signed = self.rooms[room].draft(kind, author, whom, **fields)
        return m.DoAct(id=1, room=room, signed=signed.data, sig=signed.sig)

    def perform(
        self,
        caller: Caller,
        kind: type[RoomEvent],
        author: Person,
        whom: Person | None = None,
        *,
        room: str = "ops",
        **fields: Any,
    ) -> m.ActOk:
        """Lets somebody act in a room."""
        signed = self.rooms[room].draft(kind, author, whom, **fields)
        reply = self._acted(caller, room, signed)
        self.rooms[room].take(signed)
        return reply

    def again(self, person: Person, device: int = 1, *, sync: bool = True, **flags: bool) -> Caller:
        """One more connection of somebody, logged in as a device, and synced with these flags."""
        caller = self.call()
        reply = caller.ask(self.login_of(person, caller, device))
        assert isinstance(reply, m.LoginOk), reply
        if sync:
            caller.ask(m.Sync(**flags))
            caller.take()
        return caller

    def second_device(self, who: Person, **flags: bool) -> Caller:
        """A second device of somebody: published, synced with these flags, and nothing taken note of yet."""
        caller = self.call()
        caller.ask(self.login_of(who, caller, None))
        bundle = who.bundle(2, (1, 2), previous=who.keys().digest)
        published = m.Publish(device=who.dev(2), proof=caller.proof(who, 2), keys=m.KeyBundle.of(bundle))
        assert isinstance(caller.ask(published), m.PublishOk)
        self.lists[who.user] = list_version(bundle)
        caller.ask(m.Sync(**flags))
        caller.take()
        return caller

    def package(self, room: str, number: int, author: Person, /, *readers: Person, **changes: Any) -> m.Package:
        """A package that the server takes for good, of the author's message of that number; it can open none.

        Args:
            room: its id.
            changes: of fields of its header, or of itself; `device` is the number of the author's.
        """
        dev = author.dev(changes.pop("device", 1))
        mid = changes.pop("mid", hex_id("mid", room, dev, number))
        token = "gAAAAAAAAAAA" + b64url(hashlib.shake_256(mid.encode()).digest(66))
        kids = {reader.user: reader.kid for reader in readers}
        header: dict[str, Any] = {
            "room": room,
            "author": author.user,
            "dev": dev,
            "dl": self.lists.get(author.user, author.dl),
            "ctr": number,
            "prev": self.ids.get((room, dev, number - 1), ""),
            "mid": mid,
            "head": "",
            "rcp": audience_digest(audience(kids)).hex(),
            "mh": hashlib.sha256(token.encode()).hexdigest(),
            "th": (0, transcript_start(room)),
            "at": START * 1000,
        }
        header |= {name: changes.pop(name) for name in header.keys() & changes.keys()}
        fields: dict[str, Any] = {
            "encrypted_message": token,
            "encrypted_keys": {reader.user: wrapped(mid, reader.user) for reader in readers},
            "kids": kids,
            "hdr": to_bytes(Header(**header)),
            "bind": bytes(32),
            "sig": bytes(64),
        }
        package = m.Package(**fields | changes)
        self.ids[room, dev, number] = message_id(package.hdr, package.bind)
        return package

    def send_of(self, number: int, author: Person, /, *others: Person, into: str = "ops", **changes: Any) -> m.Send:
        """The send of that number of an author, into a room with these others; `changes` as of `package`."""
        log = self.rooms[into].log
        package = self.package(log.id, number, author, author, *others, **{"head": log.head} | changes)
        return m.Send(id=number, room=into, package=package)

    def pm_of(self, number: int, sender: Person, to: Person, /, **changes: Any) -> m.Pm:
        """The private message of that number."""
        package = self.package(private_conversation(sender.ik, to.ik), number, sender, sender, to, **changes)
        return m.Pm(id=number, user=to.user, package=package)

    def assertFailed(self, code: Code, reply: object, **fields: object) -> None:
        """A reply is a refusal with that code, and just these fields of its own."""
        assert isinstance(reply, m.Failed), reply
        found = {name: getattr(reply, name) for name in ("retry_after", "expected", "head", "version", "users")}
        self.assertEqual(
            (code.name, fields), (reply.code, {name: value for name, value in found.items() if value is not m.UNSET})
        )
