"""Tests for sealing and sending, and for what is fetched before messages are judged, without a server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.conversations import Conversation, Conversations
from securechat.client.desk import Desk
from securechat.client.entries import Entry, Sealed, Turn
from securechat.client.held import Grown, IdentityChanged, Stopped
from securechat.client.people import People
from securechat.client.post import Post
from securechat.client.protocol import LinkLost
from securechat.crypto.envelope import Header, audience_digest, parse_header, verify_header
from securechat.crypto.identity import private_conversation
from securechat.crypto.primitives import ed25519_public
from securechat.crypto.roomlog import Join, Kick
from securechat.crypto.transcript import transcript_start
from securechat.crypto.trust import PinStore, Sighting, Source
from securechat.errors import (
    BAD_AUDIENCE,
    CTR_BEHIND,
    NO_SUCH_USER,
    NOT_MEMBER,
    RATE_LIMITED,
    STALE_HEAD,
    STALE_KEYS,
    UNKNOWN_AUDIENCE,
    Code,
    InvalidKey,
    Refused,
)
from securechat.wire import messages as m
from tests import cast
from tests.cast import NOW, SRV, Person, Room, audience_bytes
from tests.doubles import ClientThreads, InlineReactor

ALICE, BOB, CAROL, MALLORY = Person("alice", 0), Person("bob", 1), Person("carol"), Person("mallory")
MID = "c" * 32


class Core:
    """As much of the core as these two need; alice's. A room's log grows by what the test does in `room`.

    Attributes:
        given: the people whose keys the server gives; it takes until `gate` fires.
        answers: of the server to anything else, in order.
        reached: how far logs were to be brought, and what happens then.
    """

    user = "alice"

    def __init__(self) -> None:
        keys = SimpleNamespace(dev=ALICE.dev(), device=ALICE.device())
        self.account: Any = SimpleNamespace(user="alice", own=ALICE.keys(), keys=keys)
        self.conversations = Conversations()
        self.synced = True
        self.given: dict[str, Person] = {person.user: person for person in (BOB, CAROL, MALLORY)}
        self.versions: dict[str, int] = {}
        self.gate: Deferred[None] | None = None
        self.fetched: list[tuple[str, ...]] = []
        self.said: list[str] = []
        self.notices: list[tuple[str, str]] = []
        self.answers: list[Any] = []
        self.asked: list[m.Request] = []
        self.reached: list[int] = []
        self.on_reach: Callable[[], None] = lambda: None
        self.renewed = 0
        self.threads = ClientThreads(InlineReactor())
        self.run = self.threads.run
        self.book = self
        self.store = PinStore({}, lambda user, pin: None)
        self.people: People | None = People(
            SRV, self.store, fetch=self._keys, run=self.run, say=self.said.append, now_ms=self.now_ms
        )

    def now_ms(self) -> int:
        """As the core's."""
        return NOW

    def notice(self, text: str, where: str = "") -> None:
        """As the core's."""
        self.notices.append((where, text))

    async def _keys(self, users: tuple[str, ...]) -> m.KeysOk:
        self.fetched.append(users)
        if self.gate is not None:
            await self.gate
        found = {user: self.given[user] for user in users if user in self.given}
        bundles = {user: person.bundle(self.versions.get(user, 1)) for user, person in found.items()}
        return m.KeysOk(keys={user: m.KeyBundle.of(bundle) for user, bundle in bundles.items()})

    async def request(self, request: m.Request) -> Any:
        """As the core's."""
        if isinstance(request, m.Keys):
            return await self._keys(request.users)
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask = request

    async def reach(self, conversation: Conversation, events: int, head: str = "", *, quietly: bool = False) -> None:
        """As the book's."""
        self.reached.append(events)
        self.on_reach()

    async def fetch_anew(self, users: Collection[str]) -> None:
        """As the core's."""
        await self.people.fetch([user for user in users if user != self.user])
        if self.user in users:
            self.renewed += 1


class CoreCase(SynchronousTestCase):
    """Alice in a private room with bob."""

    def setUp(self) -> None:
        self.core = Core()
        self.use(Room(ALICE, BOB, join="invite"))

    def use(self, room: Room) -> None:
        """Alice is in a room."""
        self.room = room
        self.ops = Conversation("ops", id=room.log.id, log=room.log)
        self.ops.reader.user = "alice"
        self.core.conversations.add(self.ops)

    @property
    def people(self) -> People:
        """Whom alice knows."""
        assert self.core.people is not None
        return self.core.people

    def start(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Calls a coroutine."""
        return Deferred.fromCoroutine(work)

    def changes(self, person: Person, *, verified: bool = False) -> Person:
        """Somebody alice knew starts over; it is the new one."""
        newer = Person(person.user, person.generation, generation=person.generation + 1)
        self.people.take_in({person.user: m.KeyBundle.of(person.bundle())})
        if verified:
            self.people.accept(person.user, person.ik, Source.VERIFIED)
        self.people.take_in({person.user: m.KeyBundle.of(newer.bundle())})
        self.core.given[person.user] = newer
        return newer


class PostCase(CoreCase):
    """What the outbox calls."""

    def setUp(self) -> None:
        super().setUp()
        self.post = Post(self.core)  # type: ignore[arg-type]
        self.turn = Turn()

    def sealing(self, where: str = "ops", seen: tuple[str, ...] | None = None) -> Deferred[Sealed]:
        """Seals a message."""
        return self.start(self.post.seal(Entry(1, where, "hello", MID, seen), lambda room: self.turn))

    def sealed(self, where: str = "ops", **how: Any) -> Sealed:
        """The same where nothing stands in the way."""
        return self.successResultOf(self.sealing(where, **how))

    def header(self, sealed: Sealed) -> Header:
        """What it says, signed by alice's device."""
        package = sealed.package
        return verify_header(package.hdr, package.bind, package.sig, ed25519_public(ALICE.device()))

    def assertFor(self, sealed: Sealed, *people: Person) -> None:
        """It is sealed for exactly these, and says so."""
        kids = {person.user: person.kid for person in people}
        self.assertEqual((kids, kids.keys()), (sealed.package.kids, sealed.package.encrypted_keys.keys()))
        self.assertEqual(audience_digest(audience_bytes(people)).hex(), self.header(sealed).rcp)


class SealTests(PostCase):
    """Tests for `Post.seal`."""

    def test_room(self) -> None:
        """A message is sealed for the members by the log, under its head, behind this device's last one."""
        self.turn = Turn(4, "d" * 64)
        self.ops.restart(7, "e" * 64)
        sealed = self.sealed()
        self.assertFor(sealed, ALICE, BOB)
        header = self.header(sealed)
        self.assertEqual((self.ops.id, 5), (sealed.conversation, sealed.ctr))
        self.assertEqual(
            (self.ops.id, "alice", ALICE.dev(), ALICE.dl, 5, "d" * 64, MID, self.room.log.head, (7, "e" * 64), NOW),
            (
                header.room, header.author, header.dev, header.dl, header.ctr, header.prev, header.mid, header.head,
                header.th, header.at,
            ),
        )  # fmt: skip

    def test_bob_reads_it(self) -> None:
        """And they can read it."""
        talk = cast.Conversation(self.room.log, ALICE, BOB)
        package = self.sealed().package
        delivered = cast.delivered(
            cast.SealedMessage(**{name: getattr(package, name) for name in package.__struct_fields__ if name != "ct"}),
            "bob", room=talk.id, seq=1, sender="alice", device=ALICE.dev(), events=self.room.log.count,
        )  # fmt: skip
        talk.audiences[parse_header(package.hdr).rcp] = dict(package.kids)
        verdict, text = cast.read(BOB, cast.reader_of(BOB, talk), delivered, talk)
        self.assertEqual((None, (), "hello"), (verdict.hidden, verdict.flags, text))

    def test_private(self) -> None:
        """A private message is sealed for the two, in the conversation of their identities, which may be new."""
        sealed = self.sealed("@bob")
        self.assertFor(sealed, ALICE, BOB)
        room, header = private_conversation(ALICE.ik, BOB.ik), self.header(sealed)
        self.assertEqual((room, room, ""), (sealed.conversation, header.room, header.head))
        self.assertEqual((0, transcript_start(room)), header.th)
        self.core.conversations.ensure(room, "bob").restart(3, "e" * 64)
        self.assertEqual((3, "e" * 64), self.header(self.sealed("@bob")).th)

    def test_in_a_thread(self) -> None:
        """For many it is sealed in a thread."""
        crowd = [Person(f"user{number}") for number in range(9)]
        self.core.given |= {person.user: person for person in crowd}
        self.use(Room(ALICE, *crowd))
        self.successResultOf(self.start(self.post.prepare(self.ops)))
        self.core.threads.held = True
        work = self.sealing()
        self.assertNoResult(work)
        self.core.threads.run_next()
        self.assertFor(self.successResultOf(work), ALICE, *crowd)

    def test_somebody_comes_meanwhile(self) -> None:
        """Who comes in while keys are fetched can read it: members and head are those of one moment."""
        self.use(Room(ALICE, BOB))
        self.core.gate = Deferred()
        work = self.sealing()
        self.room.do(Join, CAROL)
        self.core.gate.callback(None)
        sealed = self.successResultOf(work)
        self.assertFor(sealed, ALICE, BOB, CAROL)
        self.assertEqual(self.room.log.head, self.header(sealed).head)

    def test_somebody_is_put_out_meanwhile(self) -> None:
        """Who is put out while keys are fetched cannot."""
        self.use(Room(ALICE, BOB, CAROL))
        self.core.gate = Deferred()
        work = self.sealing()
        self.room.do(Kick, ALICE, CAROL)
        self.core.gate.callback(None)
        sealed = self.successResultOf(work)
        self.assertFor(sealed, ALICE, BOB)
        self.assertEqual(self.room.log.head, self.header(sealed).head)

    def test_grown(self) -> None:
        """Who came into a private room since it was typed is named, also if that was a moment ago."""
        self.assertFor(self.sealed(seen=("alice", "bob")), ALICE, BOB)
        self.people.forget(["bob"])
        self.core.gate = Deferred()
        work = self.sealing(seen=("alice", "bob"))
        self.room.enter(CAROL, ALICE)
        self.core.gate.callback(None)
        error = self.failureResultOf(work, Grown).value
        self.assertIn("carol came into ops since you typed this", str(error))
        self.assertFor(self.sealed(), ALICE, BOB, CAROL)

    def test_who_left_since(self) -> None:
        """Who left since is no reason to ask."""
        self.room.do(Kick, ALICE, BOB)
        self.assertFor(self.sealed(seen=("alice", "bob")), ALICE)

    def test_stopped(self) -> None:
        """Where something did not check out nothing is sealed, in rooms and in private."""
        self.core.conversations.ensure(private_conversation(ALICE.ik, BOB.ik), "bob")
        for where, conversation in (("ops", self.ops), ("@bob", self.core.conversations.with_peer("bob"))):
            assert conversation is not None
            conversation.stop("a fork")
            error = self.failureResultOf(self.sealing(where), Stopped).value
            self.assertIn("a fork", str(error))
            self.assertIn(where, str(error))

    def test_changed_identity(self) -> None:
        """Of whom the identity changed, nothing is sealed in private, nor in a private room they are in."""
        self.changes(BOB)
        for where in ("@bob", "ops"):
            error = self.failureResultOf(self.sealing(where), IdentityChanged).value
            self.assertEqual(("bob",), error.users)

    def test_changed_identity_in_an_open_room(self) -> None:
        """In an open room they are left out, unless they had been compared: then it waits there, too."""
        self.use(Room(ALICE, BOB, CAROL))
        self.changes(BOB)
        self.assertFor(self.sealed(), ALICE, CAROL)
        self.changes(CAROL, verified=True)
        error = self.failureResultOf(self.sealing(), IdentityChanged).value
        self.assertEqual(("carol",), error.users)
        self.assertIn("/verify carol", str(error))

    def test_trusted_identity(self) -> None:
        """An identity that is trusted by now is no member where the one before it was: nothing is sealed for it."""
        newer = self.changes(BOB)
        self.people.accept("bob", newer.ik, Source.OWNER)
        self.assertFor(self.sealed(), ALICE)
        self.assertFor(self.sealed("@bob"), ALICE, newer)

    def test_no_keys(self) -> None:
        """Where the server gives no keys of a member nothing is sealed: nobody is left out in silence."""
        del self.core.given["bob"]
        error = self.failureResultOf(self.sealing(), InvalidKey).value
        self.assertIn("no usable keys of bob", str(error))

    def test_no_keys_in_an_open_room(self) -> None:
        """In an open room they are left out, which is said of each once; whoever has keys again is sealed for."""
        self.use(Room(ALICE, BOB, CAROL, MALLORY))
        given = {user: self.core.given.pop(user) for user in ("mallory", "carol")}
        for _ in range(2):
            self.assertFor(self.sealed(), ALICE, BOB)
        text = "gets nothing here: the server gives no usable keys of them."
        self.assertEqual([("ops", f"carol {text}"), ("ops", f"mallory {text}")], self.core.notices)
        self.core.given |= given
        self.assertFor(self.sealed(), ALICE, BOB, CAROL, MALLORY)

    def test_newer_list_withheld_in_an_open_room(self) -> None:
        """Nor is anything sealed for keys that a room's log calls old."""
        self.use(Room(ALICE, BOB, CAROL))
        self.sealed()
        self.core.store.consider(Sighting("bob", BOB.ik, 2, BOB.keys(2).digest), NOW, Source.ROOM)
        del self.core.given["bob"]
        self.assertFor(self.sealed(), ALICE, CAROL)
        self.assertEqual(1, len(self.core.notices))

    def test_nobody(self) -> None:
        """Somebody who is not there at all is told as that."""
        error = self.failureResultOf(self.sealing("@nobody"), Refused).value
        self.assertEqual(NO_SUCH_USER, error.code)

    def test_newer_list(self) -> None:
        """Keys that a room's log calls old are fetched anew first."""
        self.sealed()
        self.core.store.consider(Sighting("bob", BOB.ik, 2, BOB.keys(2).digest), NOW, Source.ROOM)
        self.core.versions["bob"] = 2
        self.core.fetched.clear()
        self.assertFor(self.sealed(), ALICE, BOB)
        self.assertEqual([("bob",)], self.core.fetched)

    def test_not_there(self) -> None:
        """A room one is not in is told as that, and while all is still to come it waits."""
        error = self.failureResultOf(self.sealing("attic"), Refused).value
        self.assertEqual(NOT_MEMBER, error.code)
        self.core.synced = False
        self.failureResultOf(self.sealing("attic"), LinkLost)

    def test_link_lost(self) -> None:
        """A link that breaks while keys are fetched is told as that."""
        self.core.gate = Deferred()
        work = self.sealing()
        self.core.gate.errback(LinkLost("gone"))
        self.failureResultOf(work, LinkLost)


class RenewTests(PostCase):
    """Tests for `Post.renew`."""

    def setUp(self) -> None:
        super().setUp()
        self.use(Room(ALICE, BOB))
        self.entry = Entry(1, "ops", "hello", MID, sealed=self.sealed())
        self.private = Entry(2, "@bob", "hello", MID, sealed=self.sealed("@bob"))
        self.core.fetched.clear()

    def renew(self, code: Code, entry: Entry | None = None, **data: Any) -> bool:
        """What a refusal calls for."""
        refusal = Refused(code, room="ops", **data)
        return bool(self.successResultOf(self.start(self.post.renew(entry or self.entry, refusal))))

    def test_stale_keys(self) -> None:
        """The keys that are named are fetched, one's own too; other bytes are called for."""
        self.assertTrue(self.renew(STALE_KEYS, users=("alice", "bob")))
        self.assertEqual(([("bob",)], 1), (self.core.fetched, self.core.renewed))

    def test_put_out(self) -> None:
        """A head is stale where somebody was put out behind it, once the log says so."""
        self.room.do(Join, CAROL)
        self.core.on_reach = lambda: (self.room.do(Kick, ALICE, CAROL), None)[1]
        self.assertTrue(self.renew(STALE_HEAD))
        self.assertEqual([4], self.core.reached)

    def test_not_put_out(self) -> None:
        """If nobody was, by the log, the server's word changes nothing."""
        self.core.on_reach = lambda: (self.room.do(Join, CAROL), None)[1]
        self.assertFalse(self.renew(STALE_HEAD))

    def test_audience(self) -> None:
        """Where the members are others, or their keys, log and keys are brought up to date."""
        self.assertTrue(self.renew(BAD_AUDIENCE))
        self.assertEqual(([("bob",)], [3]), (self.core.fetched, self.core.reached))

    def test_audience_without_keys(self) -> None:
        """A server that wants somebody in it of whom it gives no usable keys is not asked for ever: that is held."""
        del self.core.given["bob"]
        self.people.forget(["bob"])
        work = self.start(self.post.renew(self.entry, Refused(BAD_AUDIENCE, room="ops")))
        self.assertIn("no usable keys of bob", str(self.failureResultOf(work, InvalidKey).value))

    def test_private(self) -> None:
        """In private the other's keys are fetched; a changed identity is found when it is sealed."""
        for code in (STALE_HEAD, BAD_AUDIENCE):
            self.assertTrue(self.renew(code, self.private))
        self.assertEqual([("bob",)] * 2, self.core.fetched)

    def test_server_refuses(self) -> None:
        """A server that does not say what is new, or a room that was left, calls for no other bytes."""
        self.core.gate = Deferred()
        work = self.start(self.post.renew(self.entry, Refused(STALE_KEYS, users=("bob",))))
        self.core.gate.errback(Refused(RATE_LIMITED, retry_after=1.0))
        self.assertFalse(self.successResultOf(work))
        self.core.conversations.drop("ops")
        self.assertFalse(self.renew(BAD_AUDIENCE))


class ProvenTests(PostCase):
    """Tests for `Post.proven`: this device's own newest message."""

    def proof(self, author: Person = ALICE, ctr: int = 7, device: int = 1, **changes: Any) -> m.StoredMessage:
        """A message as the server may show it."""
        talk = cast.Conversation(self.room.log, ALICE, BOB)
        sealed = talk.seal(author, "before", device=device, ctr=ctr, prev="d" * 64, **changes)
        package = m.Package(**{name: getattr(sealed, name) for name in m.Package.__struct_fields__ if name != "ct"})
        return m.StoredMessage(
            room="ops", seq=9, sender="alice", device=ALICE.dev(), mid=MID, ts=NOW, events=2, package=package
        )

    def proven(self, proof: object, expected: int = 8) -> Turn | None:
        """What it proves."""
        return self.post.proven(self.sealed(), Refused(CTR_BEHIND, expected=expected, proof=proof))

    def test_own(self) -> None:
        """This device's own signature, in this conversation, of the number before the expected one."""
        proof = self.proof()
        turn = self.proven(proof)
        id, mid = cast.envelope.message_id(proof.package.hdr, proof.package.bind), parse_header(proof.package.hdr).mid
        self.assertEqual(Turn(7, id, mid), turn)

    def test_nothing_else(self) -> None:
        """Anything else proves nothing: another number, device, author or conversation, or no message."""
        self.assertIsNone(self.proven(self.proof(), expected=9))
        self.assertIsNone(self.proven(self.proof(device=2)))
        self.assertIsNone(self.proven(self.proof(BOB)))
        self.assertIsNone(self.proven(self.proof(room="ab" * 32)))
        self.assertIsNone(self.proven(None))
        refusal = Refused(CTR_BEHIND, expected=8)
        self.assertIsNone(self.post.proven(self.sealed(), refusal))

    def test_account_left(self) -> None:
        """Nor anything at all once the account was left."""
        sealed = self.sealed()
        self.core.account = None
        self.assertIsNone(self.post.proven(sealed, Refused(CTR_BEHIND, expected=8, proof=self.proof())))


class DeskCase(CoreCase):
    """What the inbox calls before it judges."""

    def setUp(self) -> None:
        super().setUp()
        self.desk = Desk(self.core)  # type: ignore[arg-type]

    def message(self, sender: str = "bob", device: str = BOB.dev(), events: int = 2) -> m.StoredMessage:
        """A message, of which only its author and its place matter."""
        package = m.Package(encrypted_message="", encrypted_keys={}, kids={}, hdr=b"{}", bind=bytes(32), sig=bytes(64))
        return m.StoredMessage(
            room="ops", seq=1, sender=sender, device=device, mid=MID, ts=NOW, events=events, package=package
        )

    def prepare(self, *messages: m.StoredMessage, conversation: Conversation | None = None) -> Deferred[None]:
        """Fetches what judging these needs."""
        return self.start(self.desk.prepare_reading(conversation or self.ops, messages))


class PrepareTests(DeskCase):
    """Tests for `Desk.prepare`."""

    def test_log_and_devices(self) -> None:
        """The log is brought as far as the newest message, and the devices of all authors are known."""
        self.successResultOf(self.prepare(self.message(), self.message("carol", CAROL.dev(), 5)))
        self.assertEqual([5], self.core.reached)
        self.assertIsNotNone(self.people.device("bob", BOB.dev()))
        self.assertIsNotNone(self.people.device("carol", CAROL.dev()))
        self.assertEqual({"bob", "carol"}, {user for users in self.core.fetched for user in users})

    def test_log_not_begun(self) -> None:
        """Also a log that is not begun yet: without one, a room's messages would be judged as private ones."""
        self.ops = Conversation("ops", id=self.room.log.id)
        self.successResultOf(self.prepare(self.message(), conversation=self.ops))
        self.assertEqual([2], self.core.reached)

    def test_once(self) -> None:
        """What is known is not asked for again, nor again and again what the server does not know."""
        for _ in range(3):
            self.successResultOf(self.prepare(self.message(device=BOB.dev(2))))
        self.assertLessEqual(len(self.core.fetched), 2)
        self.core.fetched.clear()
        self.successResultOf(self.prepare(self.message(device=BOB.dev(2))))
        self.assertEqual([], self.core.fetched)

    def test_again_after_a_broken_link(self) -> None:
        """But again after the link broke in between."""
        self.people.take_in({"bob": m.KeyBundle.of(BOB.bundle())})
        self.core.gate = Deferred()
        work = self.prepare(self.message(device=BOB.dev(2)))
        self.core.gate.errback(LinkLost("gone"))
        self.failureResultOf(work, LinkLost)
        self.core.gate = None
        self.successResultOf(self.prepare(self.message(device=BOB.dev(2))))
        self.assertEqual([("bob",)] * 2, self.core.fetched)

    def test_own_other_device(self) -> None:
        """A device of this very account that is not known is looked up among its own keys."""
        self.people.meet_self(ALICE.keys(), fresh=True)
        for _ in range(2):
            self.successResultOf(self.prepare(self.message("alice", ALICE.dev(2))))
        self.assertEqual(([], 1), (self.core.fetched, self.core.renewed))

    def test_refused(self) -> None:
        """A server that refuses leaves it to the judgement."""
        self.core.gate = Deferred()
        work = self.prepare(self.message())
        self.core.gate.errback(Refused(RATE_LIMITED, retry_after=1.0))
        self.successResultOf(work)

    def test_pair(self) -> None:
        """A private conversation is of the two whose identities give its name, and of nobody else."""
        talk = Conversation(private_conversation(ALICE.ik, BOB.ik), "bob")
        self.successResultOf(self.prepare(self.message(events=0), conversation=talk))
        self.assertEqual({"alice": ALICE.ik, "bob": BOB.ik}, talk.reader.pair)
        self.assertEqual([], self.core.reached)
        other = Conversation(private_conversation(ALICE.ik, MALLORY.ik), "bob")
        self.successResultOf(self.prepare(self.message(events=0), conversation=other))
        self.assertEqual({}, other.reader.pair)

    def test_account_left(self) -> None:
        """Nothing is asked for once the account was left."""
        self.core.people = None
        self.successResultOf(self.prepare(self.message()))
        self.assertEqual([], self.core.reached)


class AudienceTests(DeskCase):
    """Tests for `Desk.audiences`."""

    def setUp(self) -> None:
        super().setUp()
        self.talk = cast.Conversation(self.room.log, ALICE, BOB)
        self.people.meet_self(ALICE.keys(), fresh=True)

    def audiences(self, *posted: cast.Posted, author: Person = BOB) -> Mapping[str, Mapping[str, str] | None]:
        """What is known after these messages."""
        trust = cast.Acquaintances.of([ALICE, BOB])
        examined = [cast.examined(self.talk.deliver(one, ALICE), ALICE, trust) for one in posted]
        self.successResultOf(self.start(self.desk.prepare_audiences(self.ops, examined)))
        return self.ops.audiences

    def rcp(self, posted: cast.Posted) -> str:
        """The digest of whom a message is for."""
        return parse_header(posted.sealed.hdr).rcp

    def test_known(self) -> None:
        """Who should be named is found out without the server, from the members and their keys."""
        posted = self.talk.say(BOB, "hello")
        self.assertEqual({self.rcp(posted): {"alice": ALICE.kid, "bob": BOB.kid}}, self.audiences(posted))
        self.assertEqual([], self.core.asked)

    def test_asked(self) -> None:
        """Others are asked for, once, and believed because the digest names them."""
        posted = [self.talk.say(BOB, text, readers=[ALICE, BOB, MALLORY]) for text in ("one", "two")]
        self.core.answers = [m.AudienceOk(room="ops", audience=audience_bytes([ALICE, BOB, MALLORY]))]
        found = self.audiences(*posted)[self.rcp(posted[0])]
        self.assertEqual({"alice": ALICE.kid, "bob": BOB.kid, "mallory": MALLORY.kid}, found)
        self.audiences(self.talk.say(BOB, "three", readers=[ALICE, BOB, MALLORY]))
        self.assertEqual([m.Audience(room="ops", rcp=self.rcp(posted[0]))], self.core.asked)

    def test_lied_to(self) -> None:
        """What the digest does not name, or the server does not give, is not known."""
        for answer in (
            m.AudienceOk(room="ops", audience=audience_bytes([ALICE, BOB])),
            m.AudienceOk(room="ops", audience=b"[]"),
            Refused(UNKNOWN_AUDIENCE, room="ops"),
        ):
            self.ops.audiences.clear()
            posted = self.talk.say(BOB, "x", readers=[ALICE, BOB, MALLORY])
            self.core.answers = [answer]
            self.assertEqual({self.rcp(posted): None}, self.audiences(posted))

    def test_newer_list(self) -> None:
        """A list that an author names and this client has not is fetched before their message is judged."""
        self.people.take_in({"bob": m.KeyBundle.of(BOB.bundle())})
        self.core.versions["bob"] = 2
        posted = self.talk.say(BOB, "hello", dl=(2, BOB.keys(2).digest))
        self.audiences(posted)
        self.assertEqual((2, BOB.keys(2).digest), self.people.newest_list("bob"))

    def test_many(self) -> None:
        """However many there were: what a message that is judged next needs is not what is forgotten for it."""
        first = self.talk.say(BOB, "first")
        self.audiences(first)
        for number in range(255):
            self.ops.audiences[f"{number:064}"] = {}
        other = self.talk.say(BOB, "other", readers=[ALICE, BOB, MALLORY])
        self.core.answers = [m.AudienceOk(room="ops", audience=audience_bytes([ALICE, BOB, MALLORY]))]
        found = self.audiences(first, other)
        self.assertEqual((256, True), (len(found), {self.rcp(first), self.rcp(other)} <= found.keys()))


class MissingTests(DeskCase):
    """Tests for `Desk.missing`."""

    def page(self, *seqs: int, more: bool = False) -> m.HistoryOk:
        """A page with these messages."""
        messages = []
        for seq in seqs:
            fields = {name: getattr(self.message(), name) for name in m.StoredMessage.__struct_fields__}
            messages.append(m.StoredMessage(**{**fields, "seq": seq}))
        return m.HistoryOk(room="ops", messages=tuple(messages), more=more)

    def missing(self, after: int, before: int, *answers: Any) -> list[int]:
        """What is found between."""
        self.core.answers = list(answers)
        found = self.successResultOf(self.start(self.desk.missing("ops", after, before)))
        self.assertEqual([], self.core.answers)
        return [message.seq for message in found]

    def test_pages(self) -> None:
        """As many pages as lie between, and none beyond."""
        self.assertEqual([3, 4, 5, 6], self.missing(2, 7, self.page(3, 4, more=True), self.page(5, 6, 7, 8, more=True)))
        self.assertEqual([2, 4], [request.after for request in self.core.asked if isinstance(request, m.History)])

    def test_one(self) -> None:
        """Nothing more is asked for once it is whole."""
        self.assertEqual([3, 4], self.missing(2, 5, self.page(3, 4, more=True)))

    def test_no_end(self) -> None:
        """A server that always says that there is more, and gives nothing, or the same again, is not asked for ever."""
        self.assertEqual([], self.missing(2, 9, self.page(more=True)))
        self.assertEqual([3, 3], self.missing(2, 9, self.page(3, more=True), self.page(3, more=True)))

    def test_refused(self) -> None:
        """A refusal is told to who asked."""
        self.core.answers = [Refused(NOT_MEMBER, room="ops")]
        self.failureResultOf(self.start(self.desk.missing("ops", 2, 9)), Refused)
