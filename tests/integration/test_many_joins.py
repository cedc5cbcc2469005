"""A thousand people enter one room at once, over real connections."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from securechat.crypto.identity import login_proof
from securechat.crypto.primitives import b64url
from securechat.crypto.roomlog import Join
from securechat.server import files
from securechat.server.settings import DataDir
from securechat.storage.interface import Backup, NewAccount, Session
from securechat.storage.sqlite import SQLiteStore
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests.cast import Person, Room, act
from tests.doubles import InlinePool, InlineReactor
from tests.integration.harness import Daemon, free_port

PEOPLE = limits.MAX_MEMBERS
PATIENCE = 60.0  # seconds from the first join to the last answer, on a machine with two cores


class Newcomer(LineReceiver):
    """A light client: it signs what it must, and reads no more than the numbers of what it is told.

    Attributes:
        ready: fires when it has caught up and may act.
        joined: fires with the answer to its join, `online` with who is there.
        told: the numbers of the room events it was told of.
    """

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, person: Person, token: str) -> None:
        self._person = person
        self._token = token
        self.ready: Deferred[None] = Deferred()
        self.joined: Deferred[m.ActOk] = Deferred()
        self.online: Deferred[m.OnlineOk] = Deferred()
        self.told: list[int] = []
        self.lost = False
        self._waited: Deferred[Any] = self.ready

    def ask(self, request: m.Request, waited: Deferred[Any] | None = None) -> None:
        """Says a request; `waited` is what somebody waits for from then on."""
        assert self.transport is not None
        self._waited = waited or self._waited
        self.transport.write(codec.encode(request))

    def lineReceived(self, line: bytes) -> None:
        """One packet; nearly all of them are room events."""
        if line.startswith(b'{"event":"room"'):
            self.told.append(int(line.split(b'"events":', 1)[1].split(b",", 1)[0]))
        elif line.startswith(b'{"event":"hello"'):
            hello: Any = codec.decode_event(line)
            proof = login_proof(
                self._person.device(), lk=hello.lk, exporter=b"", nonce=hello.nonce, user=self._person.user
            )
            self.ask(m.Resume(id=1, token=self._token, proof=proof))
        elif b'"status":"ok"' in line[:40]:
            number = codec.decode_heading(line).id
            if number == 1:
                self.ask(m.Sync(id=2, presence=True))
            elif number == 2:
                self.ready.callback(None)
            elif number == 3:
                self.joined.callback(codec.decode_reply(line, m.DoAct))
            elif number == 4:
                self.online.callback(codec.decode_reply(line, m.Online))
        elif not line.startswith((b'{"event":"live"', b'{"event":"presence"')):
            self.fail(AssertionError(line.decode()))

    def fail(self, why: BaseException) -> None:
        """Whoever waits for something waits in vain."""
        if not self._waited.called:
            self._waited.errback(why)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """For Twisted."""
        self.lost = True
        self.fail(reason.value)


class ManyJoinsTests(TestCase):
    """Tests at the limit of a room."""

    timeout = 240

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="securechat-test-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.plain = free_port()
        self.daemon = Daemon(self.directory, settings={"insecure_loopback": f"127.0.0.1:{self.plain}"})

    def prepare(self) -> tuple[list[Person], Room]:
        """A server's directory with as many accounts as a room takes members, each logged in once, and the room."""
        data = DataDir(self.daemon.data)
        lock = files.prepare(data)
        srv = files.server_identity(data).srv
        people = [Person(f"user{number:04}", rsa=0, srv=srv) for number in range(PEOPLE)]
        room = Room(people[0])
        store = SQLiteStore(data.database, files.at_rest_keys(data, "", {}), reactor=InlineReactor(), pool=InlinePool)
        store.open()

        async def fill() -> None:
            for person in people:
                await store.register(self.account(person), invite_hash=None, now=1)
                login = Session(person.user, person.dev())
                await store.open_session(self.token_hash(person), login, int(time.time() * 1000))
            await store.act("ops", room.events[0], wait=0.0, now=1)
            await store.close()

        failures: list[Failure] = []
        Deferred.fromCoroutine(fill()).addErrback(failures.append)
        os.close(lock)
        for failure in failures:
            failure.raiseException()
        return people, room

    @staticmethod
    def account(person: Person) -> NewAccount:
        """An account that nobody logs in to by password."""
        return NewAccount(
            person.user, "none", bytes(16), person.ik, person.kid, 1, (person.dev(),), person.bundle(), Backup(1, b"x")
        )

    @staticmethod
    def token(person: Person) -> str:
        """The token of a person's session."""
        return b64url(hashlib.sha256(person.user.encode()).digest())

    def token_hash(self, person: Person) -> bytes:
        """What the server knows of it."""
        return hashlib.sha256(self.token(person).encode()).digest()

    async def test_a_thousand(self) -> None:
        """All end as members within a minute, and each is told of every event from its own on, once and in order."""
        people, room = self.prepare()
        self.daemon.start()
        self.addCleanup(self.daemon.end)
        clients = [Newcomer(person, self.token(person)) for person in people]
        for client in clients:
            self.connect(client)
        self.addCleanup(self.disconnect, clients)
        await DeferredList([client.ready for client in clients], fireOnOneErrback=True, consumeErrors=True)
        joins = [act(room.log, Join, person) for person in people[1:]]

        began = time.monotonic()
        for client, signed in zip(clients[1:], joins, strict=True):
            client.ask(m.DoAct(id=3, room="ops", signed=signed.data, sig=signed.sig), client.joined)
        joined = DeferredList([client.joined for client in clients[1:]], fireOnOneErrback=True, consumeErrors=True)
        answers = [answer for _, answer in await joined]
        took = time.monotonic() - began
        self.assertLess(took, PATIENCE)

        self.assertEqual([*range(2, PEOPLE + 1)], sorted(answer.events for answer in answers))
        await self.until(lambda: all(client.told[-1:] == [PEOPLE] for client in clients))
        for client, first in zip(clients, (2, *(answer.events for answer in answers)), strict=True):
            self.assertEqual([*range(first, PEOPLE + 1)], client.told)
            self.assertFalse(client.lost)
        clients[0].ask(m.Online(id=4, room="ops"), clients[0].online)
        self.assertEqual(PEOPLE, len((await clients[0].online).users))
        self.assertEqual([], self.daemon.faults())

    async def disconnect(self, clients: list[Newcomer]) -> None:
        """Ends all connections, and waits until nothing of them is left."""
        connected = [client for client in clients if client.connected]
        for client in connected:
            client.transport.abortConnection()
        await self.until(lambda: all(client.lost for client in connected))

    def connect(self, client: Newcomer) -> None:
        """Connects a client to the listener without TLS: what it costs is another matter."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.plain)
        connectProtocol(endpoint, client).addErrback(client.ready.errback)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for something to become true."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            self.assertLess(time.monotonic(), deadline)
            await deferLater(reactor, 0.05)
