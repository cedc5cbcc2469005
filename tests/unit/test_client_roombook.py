"""Tests for the logs of rooms as a client keeps them: verified, in order, on disk; never the server's word alone."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client import acts
from securechat.client.conversations import Conversation
from securechat.client.people import People
from securechat.client.protocol import LinkLost
from securechat.client.roombook import CHUNK, RoomBook
from securechat.client.store import CannotKeep
from securechat.crypto.roomlog import (
    ChangeTopic,
    Join,
    Kick,
    Leave,
    Role,
    RoomLog,
    SignedEvent,
    replay,
)
from securechat.crypto.transcript import transcript_start
from securechat.crypto.trust import Pin, PinStore, Sighting, Source, TrustState
from securechat.errors import (
    NO_RIGHT,
    NO_SUCH_ROOM,
    NOT_INVITED,
    OLD_HEAD,
    ROOM_EXISTS,
    STALE_CTL,
    STALE_LOG,
    STALE_OWN,
    Code,
    InvalidKey,
    Refused,
)
from securechat.wire import limits
from securechat.wire import messages as m
from tests.cast import NOW, SRV, Person, Room, UnsignedRoom, act, flipped
from tests.doubles import ClientThreads, InlineReactor

ALICE, BOB, CAROL, MALLORY = (Person(name) for name in ("alice", "bob", "carol", "mallory"))
PEOPLE = {person.user: person for person in (ALICE, BOB, CAROL, MALLORY)}


def certificate(person: Person, device: int = 1) -> m.Certificate:
    """The certificate of a device, as a packet has it."""
    return m.Certificate.of(person.certificate(device))


def told(room: Room, number: int, **changes: Any) -> m.RoomEvent:
    """Event `number` of a room, as the server tells it."""
    signed = room.events[number - 1]
    made = {"room": room.log.name, "events": number, "signed": signed.data, "sig": signed.sig}
    return m.RoomEvent(**made | {"cert": certificate(PEOPLE[signed.event.by])} | changes)


class Host:
    """A core in alice's hands, and a server with one room.

    Attributes:
        room: as the server has it; None: there is none.
        per_page: events in one page.
        certs: what comes with a page.
        given: whose keys the directory has; an answer waits for `keys_gate`.
        answers: instead of the server's own ones, to the next requests; an exception is raised.
        gate: where there is one, the next answer is on its way until it fires.
    """

    def __init__(self, room: Room | None) -> None:
        self.room = room
        self.per_page = 256
        self.certs: tuple[m.Certificate, ...] = tuple(map(certificate, PEOPLE.values()))
        self.answers: list[m.Reply | Exception] = []
        self.gate: Deferred[None] | None = None
        self.asked: list[m.Request] = []
        self.under_way = self.most_under_way = 0
        self.disk: dict[str, Any] = {}
        self.disk_fails = False
        self.writes: list[list[str]] = []
        self.events: list[str] = []
        self.fetched = 0
        self.alarms: list[str] = []
        self.notices: list[str] = []
        self.said: list[str] = []
        self.pins: dict[str, Pin] = {}
        self.given: dict[str, Person] = {}
        self.keys_asked: list[tuple[str, ...]] = []
        self.keys_gate: Deferred[None] | None = None
        self.store = PinStore({}, self.pins.__setitem__)
        self.people: People | None = People(
            SRV,
            self.store,
            fetch=self._keys,
            run=ClientThreads(InlineReactor()).run,
            say=self.said.append,
            now_ms=lambda: NOW,
        )

    async def _keys(self, users: tuple[str, ...]) -> m.KeysOk:
        self.keys_asked.append(users)
        if self.keys_gate is not None:
            await self.keys_gate
        return m.KeysOk(keys={u: m.KeyBundle.of(self.given[u].bundle()) for u in users if u in self.given})

    def knows(self, person: Person) -> None:
        """Somebody was pinned in an earlier run."""
        self.store.consider(Sighting.of(person.keys()), NOW, Source.DIRECTORY)

    async def request(self, request: m.Request) -> Any:
        """As Host's. The server answers at once; its answer may take a while."""
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else self._answer(request)
        gate, self.gate = self.gate, None
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if gate is not None:
                await gate
        finally:
            self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask = request

    def _answer(self, request: m.Request) -> m.Reply | Exception:
        try:
            if isinstance(request, m.RoomLog):
                return self.page(request.after)
            if isinstance(request, m.DoAct):
                return self.acted(SignedEvent(request.signed, request.sig))
            if isinstance(request, m.Extend):
                return self._extended(request)
        except Refused as refusal:
            return refusal
        raise AssertionError(request)

    def page(self, after: int) -> m.RoomLogOk:
        """What the server has behind so many events."""
        if self.room is None:
            raise Refused(NO_SUCH_ROOM, room="ops")
        some = self.room.events[after : after + self.per_page]
        return m.RoomLogOk(
            id=len(self.asked),
            room=self.room.log.name,
            rid=self.room.log.id,
            acts=tuple(m.Act(signed=signed.data, sig=signed.sig) for signed in some),
            certs=self.certs,
            events=self.room.log.count,
            more=after + len(some) < self.room.log.count,
        )

    def acted(self, signed: SignedEvent) -> m.ActOk:
        """Takes in an act."""
        if self.room is None:
            self.room = Room.__new__(Room)
            self.room.log, self.room.events = RoomLog(SRV), []
        self.room.take(signed)
        return self.placed()

    def placed(self, number: int | None = None) -> m.ActOk:
        """The answer to the act that became event `number`, the newest one."""
        assert self.room is not None
        log = self.room.log
        number = number or log.count
        return m.ActOk(
            room=log.name, rid=log.id, events=number, link=log.links[number - 1], start=(0, transcript_start(log.id))
        )

    def _extended(self, request: m.Extend) -> m.ExtendOk:
        assert self.room is not None
        if request.after != self.room.log.count:
            raise Refused(STALE_LOG, room=self.room.log.name)
        for one in request.acts:
            self.room.take(SignedEvent(one.signed, one.sig))
        return m.ExtendOk(room=self.room.log.name, events=self.room.log.count)

    async def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
        """As Host's."""
        if self.disk_fails:
            raise CannotKeep("The disk is full.")
        self.writes.append([name for _, name, _ in puts])
        self.disk.update({name: value for kind, name, value in puts if kind == "log"})

    def room_event(self, conversation: Conversation, signed: SignedEvent) -> None:
        """As Host's."""
        self.events.append(f"{signed.event.by} {acts.what_happened(signed.event)}")

    def log_fetched(self, conversation: Conversation) -> None:
        """As Host's."""
        self.fetched += 1

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """As Host's, and as the core does."""
        if conversation.stop(reason):
            self.alarms.append(reason)

    def notice(self, text: str, where: str = "") -> None:
        """As Host's."""
        self.notices.append(text)

    @property
    def pages(self) -> list[int]:
        """Behind how many events pages were asked for."""
        return [request.after for request in self.asked if isinstance(request, m.RoomLog)]


class BookCase(SynchronousTestCase):
    """A room of alice and bob, of which this client (alice's) knows nothing yet."""

    def setUp(self) -> None:
        self.use(Room(ALICE, BOB))

    def use(self, room: Room) -> None:
        """The room that the server has."""
        self.room = room
        self.host = Host(room)
        self.threads = ClientThreads(InlineReactor())
        self.book = RoomBook(SRV, self.host, self.host, self.threads.run)
        self.ops = Conversation("ops", id=room.log.id)

    def start(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Calls a coroutine."""
        return Deferred.fromCoroutine(work)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Calls a coroutine that ends at once."""
        return self.successResultOf(self.start(work))

    def reach(self, events: int | None = None, head: str = "", **how: Any) -> None:
        """Brings the log to where the server has it, or to so many events."""
        self.do(self.book.reach(self.ops, self.room.log.count if events is None else events, head, **how))

    def live(self, number: int, **changes: Any) -> bool:
        """The server tells event `number`."""
        return self.book.live(self.ops, told(self.room, number, **changes))

    def talk(self, count: int, author: Person = ALICE) -> None:
        """So many topics are set in the room."""
        for number in range(count):
            self.room.do(ChangeTopic, author, topic=b"topic %d" % number)

    def assertKnown(self, count: int) -> None:
        """The client has so many events, and they are those of the room."""
        log = self.ops.log
        assert log is not None
        self.assertEqual((count, self.room.log.links[:count]), (log.count, log.links))
        self.assertEqual([one.eh for one in self.room.events[:count]], [one.eh for one in self.ops.events])

    def assertAlarm(self, piece: str, *, broken: bool = True, known: int = 0) -> None:
        """There was one alarm, which says this, and so many events are known."""
        self.assertEqual(1, len(self.host.alarms), self.host.alarms)
        self.assertIn(piece, self.host.alarms[0])
        self.assertEqual((broken, known), (self.ops.broken, len(self.ops.events)))


class ReachTests(BookCase):
    """Tests for logs that come in pages."""

    def test_verified_and_kept(self) -> None:
        """A log is fetched, verified, kept, its members pinned as the room log's, and its head is the server's."""
        self.reach(head=self.room.log.head)
        self.assertKnown(2)
        self.assertIs(self.ops.log, self.ops.reader.log)
        self.assertEqual([], self.host.alarms)
        self.assertEqual({"alice": ALICE.ik, "bob": BOB.ik}, {user: pin.ik for user, pin in self.host.pins.items()})
        self.assertEqual(("room log", 1), (self.host.pins["bob"].source, self.host.pins["bob"].version))
        self.assertEqual([f"{self.room.log.id} 000000"], list(self.host.disk))
        assert self.host.people is not None
        self.assertIsNotNone(self.host.people.device("bob", BOB.dev()))

    def test_pages(self) -> None:
        """As many pages as it takes, each behind the one before."""
        self.talk(8)
        self.host.per_page = 3
        self.reach()
        self.assertEqual([0, 3, 6, 9], self.host.pages)
        self.assertKnown(10)

    def test_no_more_than_needed(self) -> None:
        """It stops where it was to go, and asks for nothing that is there already."""
        self.talk(8)
        self.host.per_page = 3
        self.reach(5)
        self.reach(6)
        self.assertEqual([0, 3], self.host.pages)
        self.assertKnown(6)

    def test_not_given(self) -> None:
        """A server that says the log goes further than it gives it is an alarm; the log itself is sound."""
        self.reach(3)
        self.assertAlarm("as far as it says", broken=False, known=2)
        self.talk(1)
        self.reach()
        self.assertKnown(3)

    def test_not_given_quietly(self) -> None:
        """Where nobody said that it goes further, that is no alarm, with a head to compare or without."""
        self.reach(3, quietly=True)
        self.reach(3, "ab" * 32, quietly=True)
        self.assertEqual([], self.host.alarms)

    def test_another_head(self) -> None:
        """A head that is not that of the events is an alarm, and the very same again is none anew."""
        self.talk(1)
        for _ in range(2):
            self.reach(3, self.room.log.links[1])
        self.assertAlarm("another log of this room", broken=False, known=3)

    def test_head_further_back(self) -> None:
        """A head is compared at its own place, wherever the log goes by then."""
        self.talk(3)
        self.reach()
        self.reach(3, self.room.log.links[2])
        self.assertEqual([], self.host.alarms)

    def test_wrong_signature(self) -> None:
        """One wrong signature: nothing of that page is taken in, and the room goes no further."""
        self.talk(3)
        self.room.events[3] = replace(self.room.events[3], sig=flipped(self.room.events[3].sig, 7))
        self.reach()
        self.assertAlarm("does not check out")
        self.reach()
        self.assertEqual([0], self.host.pages)
        self.assertEqual(1, len(self.host.alarms))

    def test_signed_by_another(self) -> None:
        """An act in bob's name, signed by a device of mallory's, is refused though mallory vouches for it."""
        own = self.room.log.standing["bob"]
        self.room.take(act(self.room.log, Leave, MALLORY, by="bob", ik=BOB.ik, own=own))
        self.reach()
        self.assertAlarm("nobody vouches for the device that bob signed with")

    def test_of_another_identity(self) -> None:
        """So is an act in bob's name by a device that somebody else, under his name, vouches for."""
        other = Person("bob", generation=2)
        self.host.certs = (*self.host.certs, certificate(other))
        self.room.take(act(self.room.log, Leave, other, ik=BOB.ik, own=self.room.log.standing["bob"]))
        self.reach()
        self.assertAlarm("not of that device")

    def test_certificate_missing(self) -> None:
        """A device that nobody vouches for signs nothing; one that is known needs no certificate again."""
        self.host.certs = (certificate(ALICE),)
        self.reach()
        self.assertAlarm("nobody vouches")
        self.setUp()
        self.host.certs = ()
        assert self.host.people is not None
        for person in (ALICE, BOB):
            self.host.people.add_device(person.vouched())
        self.reach()
        self.assertKnown(2)

    def test_certificate_wrong(self) -> None:
        """A certificate of another server, or a forged one, is none."""
        for bad in (
            certificate(Person("alice", srv="x" * 43)),
            m.Certificate(cert=ALICE.certificate().cert, ik_sig=bytes(64), dk_sig=ALICE.certificate().dk_sig),
        ):
            self.setUp()
            self.host.certs = (bad, certificate(BOB))
            self.reach()
            self.assertAlarm("does not check out")

    def test_no_event(self) -> None:
        """What is no event at all is an alarm, not an error."""
        self.room.events[1] = SignedEvent(b"{}", bytes(64))
        self.reach()
        self.assertAlarm("does not check out")

    def test_broken_rule(self) -> None:
        """An event that breaks a rule ends the log there: those before it count, those behind it do not."""
        for person in (BOB, ALICE):
            self.room.events.append(act(self.room.log, ChangeTopic, person, topic=b"mine"))
        self.reach(4)
        self.assertAlarm("event 3 of the server's log breaks the rules", known=2)

    def test_another_room(self) -> None:
        """Another room of the same name is an alarm, whether the server says so itself or not; nothing is kept."""
        other = Room(MALLORY, salt=b"m" * 16)
        for honest in (True, False):
            self.setUp()
            rid = other.log.id if honest else self.room.log.id
            self.host.answers = [structs_replace(Host(other).page(0), rid=rid)]
            self.reach()
            self.assertAlarm("another room")
            self.assertEqual(({}, self.room.log.id), (self.host.disk, self.ops.id))

    def test_another_name(self) -> None:
        """A log that begins with another name is not that of this room."""
        self.use(Room(ALICE, name="games"))
        self.ops = Conversation("ops")
        self.reach()
        self.assertAlarm("another room")

    def test_refused_or_lost(self) -> None:
        """A refusal and a broken link change nothing; the next time it goes on where it was."""
        self.reach()
        self.talk(2)
        for error in (Refused(NOT_INVITED, room="ops"), LinkLost("gone")):
            self.host.answers = [error]
            self.failureResultOf(self.start(self.book.reach(self.ops, 4)), type(error))
            self.assertKnown(2)
        self.reach()
        self.assertKnown(4)
        self.assertEqual([], self.host.alarms)

    def test_lost_half_way(self) -> None:
        """What came before the link broke is kept, and not fetched again."""
        self.talk(4)
        self.host.per_page = 3
        self.host.answers = [self.host.page(0), LinkLost("gone")]
        self.failureResultOf(self.start(self.book.reach(self.ops, 6)), LinkLost)
        self.assertKnown(3)
        self.reach()
        self.assertEqual([0, 3, 3], self.host.pages)
        self.assertKnown(6)

    def test_one_at_a_time(self) -> None:
        """However many want it: one page of a room is under way, in whatever order they come and go."""
        self.talk(8)
        self.host.per_page = 3
        gates: list[Deferred[None]] = []
        works = []
        for events in (3, 6):
            self.host.gate = Deferred()
            gates.append(self.host.gate)
            works.append(self.start(self.book.reach(self.ops, events)))
        second: Deferred[None] = Deferred()
        self.host.gate = second
        gates[0].callback(None)  # the first is done, and the second begins
        self.host.gate = None
        works.append(self.start(self.book.reach(self.ops, 9)))
        self.assertEqual([0, 3], self.host.pages)
        second.callback(None)
        for work in works:
            self.successResultOf(work)
        self.assertEqual(([0, 3, 6], 1), (self.host.pages, self.host.most_under_way))
        self.assertKnown(9)

    def test_another_room_beside_it(self) -> None:
        """Rooms do not wait for each other."""
        self.host.gate = Deferred()
        waiting = self.start(self.book.reach(self.ops, 2))
        found = self.do(self.book.look("ops"))
        self.assertEqual(2, found.log.count)
        self.assertNoResult(waiting)

    def test_changed_identity(self) -> None:
        """A member under another identity than the pinned one is said, where the directory does not know better."""
        for given in ({}, {"bob": BOB}):
            self.use(self.room)
            self.host.knows(Person("bob", generation=2))
            self.host.given = given
            self.reach()
            self.assertKnown(2)
            assert self.host.people is not None
            self.assertEqual(([], TrustState.CHANGED), (self.host.alarms, self.host.people.state("bob")))
            self.assertEqual([("bob",)], self.host.keys_asked)
            self.assertIn("The identity of bob changed", self.host.said[0])

    def test_earlier_identity(self) -> None:
        """Who started over and has not left a room is in its log under an identity of before: that is no news."""
        newer = Person("bob", generation=2)
        self.host.knows(newer)
        self.host.given = {"bob": newer}
        self.reach()
        self.assertKnown(2)
        assert self.host.people is not None
        self.assertEqual(([], TrustState.TOFU), (self.host.said, self.host.people.state("bob")))

    def test_live_while_keys_are_asked_for(self) -> None:
        """Events that come live while a doubtful identity is looked up are taken in once."""
        self.host.knows(Person("bob", generation=2))
        self.talk(1)
        self.ops.log, self.ops.events = self.room.replayed(1), self.room.events[:1]
        gate: Deferred[None] = Deferred()
        self.host.keys_gate = gate
        work = self.start(self.book.reach(self.ops, 3))
        for number in (2, 3):
            self.assertTrue(self.live(number))
        gate.callback(None)
        self.successResultOf(work)
        self.assertKnown(3)
        self.assertEqual([], self.host.alarms)

    def test_two_lists(self) -> None:
        """A device list that is not the one seen under that number is an alarm of the room that names it."""
        assert self.host.people is not None
        self.host.people.take_in({"bob": m.KeyBundle.of(BOB.bundle(1, (1, 2)))}, quietly=True)
        self.reach()
        self.assertAlarm("two different device lists of bob", broken=False, known=2)

    def test_who_left_is_not_pinned(self) -> None:
        """Somebody who is not in the room any more, or is under another identity by now, is not met by its log."""
        newer = Person("carol", generation=2)
        self.host.certs = (*self.host.certs, certificate(newer))
        self.room.do(Join, MALLORY)
        self.room.do(Leave, MALLORY)
        self.room.do(Join, CAROL)
        self.room.do(Kick, ALICE, CAROL)
        self.room.do(Join, newer)
        self.reach()
        expected = {"alice": ALICE.ik, "bob": BOB.ik, "carol": newer.ik}
        self.assertEqual(expected, {user: pin.ik for user, pin in self.host.pins.items()})

    def test_a_long_one_is_said(self) -> None:
        """While a long log of one's own is checked, a person hears how far it is."""
        room = UnsignedRoom(ALICE)
        for number in range(1100):
            room.do(ChangeTopic, ALICE, topic=b"%d" % number)
        self.use(room)
        self.ops.log, self.ops.events = room.replayed(1050), room.events[:1050]
        self.host.answers = [structs_replace(self.host.page(1050), acts=(), more=True)]
        self.do(self.book.reach(self.ops, 1101, quietly=True))
        self.assertEqual(["The room's log is being checked: 1050 of 1101 events."], self.host.notices)

    def test_told_once_it_is_there(self) -> None:
        """Whoever looks whether they are still in the room is told when a log has come whole, and has grown."""
        self.talk(4)
        self.host.per_page = 3
        self.reach()
        self.reach()
        self.assertEqual(1, self.host.fetched)
        self.reach(9)
        self.assertEqual(1, self.host.fetched)

    def test_disk_full(self) -> None:
        """Events that the disk did not take are written with the next ones."""
        self.host.disk_fails = True
        self.failureResultOf(self.start(self.book.reach(self.ops, 2)), CannotKeep)
        self.host.disk_fails = False
        self.talk(1)
        self.reach()
        (record,) = self.host.disk.values()
        self.assertEqual(3, len(record))

    def test_account_left(self) -> None:
        """An account that is left while a page is on its way takes nothing in."""
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        work = self.start(self.book.reach(self.ops, 2))
        self.host.people = None
        gate.callback(None)
        self.failureResultOf(work, LinkLost)
        self.assertEqual([], self.ops.events)


def structs_replace(reply: m.RoomLogOk, **changes: Any) -> m.RoomLogOk:
    """A reply with other fields."""
    fields = {name: getattr(reply, name) for name in reply.__struct_fields__}
    return m.RoomLogOk(**fields | changes)


class LiveTests(BookCase):
    """Tests for events as they happen."""

    def setUp(self) -> None:
        super().setUp()
        self.reach()
        self.host.asked.clear()

    def test_next(self) -> None:
        """The next event is taken in, its author pinned, and it is said; on disk it comes with the other news."""
        self.room.do(Join, CAROL)
        self.assertTrue(self.live(3))
        self.assertKnown(3)
        self.assertEqual((["carol joined"], CAROL.ik), (self.host.events, self.host.pins["carol"].ik))
        self.assertEqual((2, 1), (self.ops.saved, len(self.book.unsaved(self.ops))))
        self.assertEqual([], self.host.asked)

    def test_had_already(self) -> None:
        """An event that a page brought before is not said, nor taken in twice."""
        self.room.do(Join, CAROL)
        self.reach()
        for number in (1, 2, 3):
            self.assertTrue(self.live(number))
        self.assertKnown(3)
        self.assertEqual(([], []), (self.host.events, self.host.alarms))

    def test_gap(self) -> None:
        """Behind a gap an event waits for `reach`."""
        self.talk(2)
        self.assertFalse(self.live(4))
        self.assertKnown(2)
        self.reach(4)
        self.assertKnown(4)

    def test_before_the_log(self) -> None:
        """So does the first one of a log that is not known at all."""
        self.ops = Conversation("ops")
        self.assertFalse(self.live(1))

    def test_while_a_page_is_under_way(self) -> None:
        """Events that come live while a page with them is under way are taken once, and those behind them stay."""
        self.talk(3)
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        work = self.start(self.book.reach(self.ops, 5))
        self.talk(1)
        for number in (3, 4, 5, 6):
            self.assertTrue(self.live(number))
        gate.callback(None)
        self.successResultOf(work)
        self.assertKnown(6)
        self.assertEqual(([], 4), (self.host.alarms, len(self.host.events)))

    def test_some_while_a_page_is_under_way(self) -> None:
        """The same where the page goes further than what came live."""
        self.talk(3)
        self.threads.held = True
        work = self.start(self.book.reach(self.ops, 5))
        self.assertTrue(self.live(3))
        self.threads.run_next()
        self.successResultOf(work)
        self.assertKnown(5)

    def test_another_while_a_page_is_under_way(self) -> None:
        """A page that has another event than the one told live shows that the server has two logs."""
        page = [act(self.room.log, ChangeTopic, ALICE, topic=b"other")]
        self.talk(1)
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        self.host.answers = [
            structs_replace(self.host.page(2), acts=tuple(m.Act(signed=one.data, sig=one.sig) for one in page))
        ]
        work = self.start(self.book.reach(self.ops, 3))
        self.assertTrue(self.live(3))
        gate.callback(None)
        self.successResultOf(work)
        self.assertAlarm("another log of this room", known=3)

    def test_another_at_its_place(self) -> None:
        """So does an event told at a number that is taken by another."""
        self.talk(1)
        self.live(3)
        self.room.events[2] = act(self.room.replayed(2), ChangeTopic, ALICE, topic=b"other")
        self.assertTrue(self.live(3))
        self.assertAlarm("another log of this room", known=3)

    def test_wrong(self) -> None:
        """A wrong signature, a broken rule, an unknown author: an alarm, nothing taken in, nothing said."""
        stranger = act(self.room.log, ChangeTopic, BOB, topic=b"x")
        for changes, piece in (
            ({"sig": bytes(64)}, "does not check out"),
            ({"signed": b"{}"}, "does not check out"),
            ({"signed": stranger.data, "sig": stranger.sig}, "breaks the rules"),
        ):
            self.setUp()
            self.talk(1)
            self.assertTrue(self.live(3, **changes))
            self.assertAlarm(piece, known=2)
            self.assertEqual([], self.host.events)

    def test_changed_identity(self) -> None:
        """Who joins under another identity than the pinned one has a new one, whatever was known of their keys."""
        newer = Person("bob", generation=2)
        assert self.host.people is not None
        self.host.people.take_in({"bob": m.KeyBundle.of(BOB.bundle())})
        self.room.do(Leave, BOB)
        self.room.do(Join, newer)
        self.live(3)
        self.live(4, cert=certificate(newer))
        self.assertKnown(4)
        self.assertEqual((TrustState.CHANGED, None), (self.host.people.state("bob"), self.host.people.known("bob")))

    def test_no_certificate(self) -> None:
        """A newcomer's event with somebody else's certificate is not believed."""
        self.use(self.room)
        self.host.certs = (certificate(ALICE), certificate(BOB))
        self.reach()
        self.room.do(Join, CAROL)
        self.assertTrue(self.live(3, cert=certificate(MALLORY)))
        self.assertAlarm("nobody vouches", known=2)

    def test_nothing_goes_on_behind_a_break(self) -> None:
        """After an alarm of that kind nothing is taken in any more, by neither way."""
        self.talk(2)
        self.live(3, sig=bytes(64))
        self.assertTrue(self.live(3))
        self.reach()
        self.assertAlarm("does not check out", known=2)
        self.assertEqual([], self.host.asked)

    def test_broken_while_a_page_is_under_way(self) -> None:
        """Nor what a page brings that was under way then."""
        self.talk(2)
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        work = self.start(self.book.reach(self.ops, 4))
        self.live(3, sig=bytes(64))
        gate.callback(None)
        self.successResultOf(work)
        self.assertAlarm("does not check out", known=2)

    def test_revoked_device(self) -> None:
        """An act of a device that its owner is known to have revoked is taken in, and is an alarm."""
        assert self.host.people is not None
        self.host.people.take_in({"bob": m.KeyBundle.of(BOB.bundle(1, (1, 2)))}, quietly=True)
        self.setUp()
        assert self.host.people is not None
        revoking = BOB.bundle(2, (2,), previous=BOB.keys().digest, revoked=(1,))
        self.host.people.take_in({"bob": m.KeyBundle.of(revoking)}, quietly=True)
        self.room.do(Leave, BOB)
        self.live(3)
        self.assertAlarm("a device that bob revoked", broken=False, known=3)


class LookTests(BookCase):
    """Tests for rooms one is not in."""

    def test_look(self) -> None:
        """The whole log comes, verified, into a conversation that is not kept; its transcript is the room's."""
        self.talk(4)
        self.host.per_page = 4
        self.ops = self.do(self.book.look("ops"))
        self.assertKnown(6)
        self.assertEqual((self.room.log.id,) * 2, (self.ops.id, self.ops.reader.room))
        self.assertEqual((0, transcript_start(self.room.log.id)), self.ops.reader.transcript.place)
        self.assertEqual((False, {}, 0), (self.ops.kept, self.host.disk, self.host.fetched))

    def test_bad(self) -> None:
        """A log that does not check out, or is empty, is an error that says why."""
        self.room.events[1] = replace(self.room.events[1], sig=bytes(64))
        error = self.failureResultOf(self.start(self.book.look("ops")), InvalidKey).value
        self.assertIn("the server's log of ops does not check out: the server's log of this room", str(error))
        self.room.events.clear()
        error = self.failureResultOf(self.start(self.book.look("ops")), InvalidKey).value
        self.assertIn("empty", str(error))

    def test_refused(self) -> None:
        """Refusals and broken links go to who asked."""
        for error in (Refused(NO_SUCH_ROOM, room="ops"), LinkLost("gone")):
            self.host.answers = [error]
            self.failureResultOf(self.start(self.book.look("ops")), type(error))

    def test_changed_room_meanwhile(self) -> None:
        """A server that gives the second page of another room is found out."""
        self.talk(4)
        self.host.per_page = 4
        self.host.answers = [self.host.page(0), structs_replace(self.host.page(4), rid="ab" * 32)]
        error = self.failureResultOf(self.start(self.book.look("ops")), InvalidKey).value
        self.assertIn("another room", str(error))

    def test_adopted(self) -> None:
        """Once it is one's own, all of its log is on disk, whatever came since it was looked at."""
        self.ops = self.do(self.book.look("ops"))
        self.talk(1)
        self.live(3)
        self.do(self.book.adopt(self.ops))
        self.assertEqual((True, 3, [3]), (self.ops.kept, self.ops.saved, list(map(len, self.host.disk.values()))))


class DiskTests(SynchronousTestCase):
    """Tests for logs on disk."""

    def setUp(self) -> None:
        self.room = UnsignedRoom(ALICE)

    def fill(self, count: int) -> None:
        """The room has so many events."""
        while self.room.log.count < count:
            self.room.do(ChangeTopic, ALICE, topic=b"%d" % self.room.log.count)

    def kept(self, count: int) -> tuple[RoomBook, Host, Conversation]:
        """A client that has so many events of the room on disk."""
        host = Host(self.room)
        book = RoomBook(SRV, host, host, ClientThreads(InlineReactor()).run)
        ops = Conversation("ops", id=self.room.log.id)
        ops.log, ops.events = self.room.replayed(count), self.room.events[:count]
        self.successResultOf(Deferred.fromCoroutine(book.take(ops, (), ())))
        return book, host, ops

    def loaded(self, host: Host, id: str | None = None) -> Conversation:
        """The log as it comes from disk."""
        ops = Conversation("ops", id=id or self.room.log.id)
        book = RoomBook(SRV, host, host, ClientThreads(InlineReactor()).run)
        chunks = {name.partition(" ")[2]: chunk for name, chunk in host.disk.items()}
        self.successResultOf(Deferred.fromCoroutine(book.load(ops, chunks)))
        assert ops.log is not None and ops.log is ops.reader.log
        return ops

    def test_there_and_back(self) -> None:
        """A log of any length comes back as it was, over the borders of its records, and grows on from there."""
        for count in (1, CHUNK - 1, CHUNK, CHUNK + 1, 300):
            self.fill(count + 1)
            _, host, _ = self.kept(count)
            self.assertEqual(-(-count // CHUNK), len(host.disk), count)
            ops = self.loaded(host)
            assert ops.log is not None
            self.assertEqual((count, count, False), (ops.log.count, ops.saved, ops.broken))
            self.assertEqual(self.room.replayed(count), ops.log)
            self.assertEqual(self.room.events[:count], ops.events)
            self.assertEqual([], RoomBook.unsaved(ops))

    def test_only_what_is_new(self) -> None:
        """What is written is the records that changed, not the log; a full one is not written again."""
        for count, more, records in (
            (1, 1, ["000000"]),
            (CHUNK - 1, 1, ["000000"]),
            (CHUNK, 1, ["000001"]),
            (CHUNK - 1, 2, ["000000", "000001"]),
            (CHUNK + 3, 2 * CHUNK, ["000001", "000002", "000003"]),
        ):
            self.fill(count + more)
            book, host, ops = self.kept(count)
            host.writes.clear()
            events = self.room.events[count : count + more]
            self.successResultOf(Deferred.fromCoroutine(book.take(ops, events, ())))
            self.assertEqual([[f"{self.room.log.id} {record}" for record in records]], host.writes, (count, more))
            self.assertEqual(count + more, len(self.loaded(host).events))

    def test_in_small_pieces(self) -> None:
        """Events that come one by one are all there, whenever they were written."""
        self.fill(2 * CHUNK + 5)
        book, host, ops = self.kept(1)
        for number, signed in enumerate(self.room.events[1:]):
            assert ops.log is not None
            ops.log.append(signed)
            ops.events.append(signed)
            if number % 50 == 7:
                self.successResultOf(Deferred.fromCoroutine(book.take(ops, (), ())))
        self.successResultOf(Deferred.fromCoroutine(book.take(ops, (), ())))
        self.assertEqual(self.room.log.head, self.loaded(host).log.head)  # type: ignore[union-attr]

    def test_damaged(self) -> None:
        """Records that are not a log by the rules are worth nothing: it is fetched again, without an alarm."""
        self.fill(300)
        for damage in (
            lambda disk: disk.pop(f"{self.room.log.id} 000001"),
            lambda disk: disk.pop(f"{self.room.log.id} 000000"),
            lambda disk: disk[f"{self.room.log.id} 000002"].append(["e30=", ""]),
            lambda disk: disk[f"{self.room.log.id} 000002"].append(["?", ""]),
        ):
            _, host, _ = self.kept(300)
            damage(host.disk)
            ops = self.loaded(host)
            assert ops.log is not None
            self.assertEqual((0, [], 0, False), (ops.log.count, ops.events, ops.saved, ops.broken))

    def test_of_another_room(self) -> None:
        """Neither is the log of another room."""
        self.fill(3)
        _, host, _ = self.kept(3)
        self.assertEqual([], self.loaded(host, "ab" * 32).events)

    def test_not_kept(self) -> None:
        """Of a room that one only looks at nothing is written."""
        self.fill(3)
        book, host, ops = self.kept(2)
        ops.kept = False
        host.disk.clear()
        self.successResultOf(Deferred.fromCoroutine(book.take(ops, self.room.events[2:], ())))
        self.assertEqual(({}, 3), (host.disk, len(ops.events)))


class ActCase(BookCase):
    """Alice, who owns the room, and knows its log."""

    def setUp(self) -> None:
        super().setUp()
        self.reach()
        self.host.asked.clear()

    def act(self, make: acts.Make, conversation: Conversation | None = None) -> Deferred[Any]:
        """Alice does something."""
        return self.start(self.book.act(conversation or self.ops, make, ALICE.device()))

    def author(self) -> acts.Author:
        """Alice, at her device."""
        return acts.Author(SRV, "alice", ALICE.ik, ALICE.dev(), ALICE.dl, NOW)

    def topic(self, text: str = "hello") -> acts.Make:
        """Alice sets the topic."""
        return acts.topic(self.author(), text)

    @property
    def tried(self) -> list[SignedEvent]:
        """The acts that went to the server."""
        return [SignedEvent(one.signed, one.sig) for one in self.host.asked if isinstance(one, m.DoAct)]


class ActTests(ActCase):
    """Tests for acts."""

    def test_done(self) -> None:
        """An act is signed by this device behind the newest event, and taken into the log when it is told."""
        done = self.successResultOf(self.act(self.topic()))
        self.assertEqual(3, done.events)
        (signed,) = self.tried
        signed.verify(ALICE.vouched())
        self.assertEqual(self.room.log.links[1], signed.event.after)
        self.assertKnown(2)
        self.live(3)
        self.assertKnown(3)
        self.assertEqual(["alice set the topic: hello"], self.host.events)

    def test_told_before_the_answer(self) -> None:
        """The same where the log tells it before the answer comes: it is there once."""
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        work = self.act(self.topic())
        self.live(3)
        gate.callback(None)
        self.assertEqual(3, self.successResultOf(work).events)
        self.assertKnown(3)
        self.assertEqual(1, len(self.host.events))

    def test_others_meanwhile(self) -> None:
        """What others do while an act is under way is taken in as ever."""
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        work = self.act(self.topic())
        self.room.do(Join, CAROL)
        for number in (3, 4):
            self.live(number)
        gate.callback(None)
        self.assertEqual(3, self.successResultOf(work).events)
        self.assertKnown(4)

    def test_refused_here(self) -> None:
        """What the rules do not let one do is not even sent."""
        self.room.do(Kick, ALICE, BOB)
        self.reach()
        self.host.asked.clear()
        self.failureResultOf(self.act(acts.kick(self.author(), "bob", "")), Refused)
        bob = acts.Author(SRV, "bob", BOB.ik, BOB.dev(), BOB.dl, NOW)
        self.failureResultOf(self.start(self.book.act(self.ops, acts.topic(bob, "x"), BOB.device())), Refused)
        self.assertEqual([], self.host.asked)

    def test_again_on_what_is_new(self) -> None:
        """Somebody was quicker: the log is brought up to date and the act signed anew, behind the newest event."""
        self.room.do(ChangeTopic, ALICE, device=2, topic=b"quicker")
        self.host.certs = (*self.host.certs, certificate(ALICE, 2))
        done = self.successResultOf(self.act(self.topic()))
        first, again = self.tried
        self.assertEqual(4, done.events)
        self.assertEqual([self.room.log.links[1], self.room.log.links[2]], [first.event.after, again.event.after])
        self.assertEqual(self.room.events[2].eh, again.event.ctl)  # type: ignore[union-attr]

    def test_stale_codes(self) -> None:
        """So it is for each way in which an act can be out of date."""
        for code in (STALE_OWN, STALE_CTL, OLD_HEAD):
            self.setUp()
            self.room.do(Join, CAROL)
            self.host.answers = [Refused(code, room="ops", user="alice")]
            self.successResultOf(self.act(self.topic()))
            first, again = self.tried
            self.assertEqual((4, self.room.log.links[2]), (self.room.log.count, again.event.after), code)
            self.assertNotEqual(first.eh, again.eh)

    def test_own_membership(self) -> None:
        """An act on a membership names what changed it last, as it is by then."""
        self.room.do(Join, CAROL)
        self.room.do(Leave, CAROL)
        self.successResultOf(self.act(acts.invite(self.author(), "carol", CAROL.ik, CAROL.dl)))
        self.assertEqual(
            ["", self.room.events[3].eh],
            [signed.event.own for signed in self.tried],  # type: ignore[union-attr]
        )

    def test_no_right_any_more(self) -> None:
        """What is new may say that one cannot do it any more: then that is the answer."""
        self.use(Room(BOB, ALICE))
        self.reach()
        self.room.do(Kick, BOB, ALICE)
        self.host.answers = [Refused(STALE_OWN, user="alice", room="ops")]
        refusal = self.failureResultOf(self.act(acts.leave(self.author())), Refused).value
        self.assertEqual("not_member", refusal.code.name)
        self.assertEqual(1, len(self.tried))

    def test_gives_up(self) -> None:
        """Where others are always quicker, or the server only says so, it ends after six tries."""
        self.host.answers = [
            answer for _ in range(6) for answer in (Refused(STALE_CTL, room="ops"), self.host.page(self.room.log.count))
        ]
        refusal = self.failureResultOf(self.act(self.topic()), Refused).value
        self.assertEqual((STALE_CTL, 6), (refusal.code, len(self.tried)))
        self.assertEqual([], self.host.alarms)

    def test_refused_for_good(self) -> None:
        """Any other refusal, and a broken link, go to who asked, at once."""
        for error in (Refused(NO_RIGHT, room="ops", role="owner"), LinkLost("gone")):
            self.setUp()
            self.host.answers = [error]
            self.failureResultOf(self.act(self.topic()), type(error))
            self.assertEqual(1, len(self.tried))

    def test_lost_while_it_is_brought_up_to_date(self) -> None:
        """A link that breaks between the two tries is told; the act was not taken in."""
        self.host.answers = [Refused(STALE_CTL, room="ops"), LinkLost("gone")]
        self.failureResultOf(self.act(self.topic()), LinkLost)
        self.assertEqual(1, len(self.tried))

    def test_broken_between(self) -> None:
        """If the log turns out to be a lie between the two tries, that is an alarm, whatever becomes of the act."""
        self.talk(1)
        self.room.events[2] = replace(self.room.events[2], sig=bytes(64))
        self.host.answers = [Refused(STALE_CTL, room="ops"), self.host.page(2), self.host.placed()]
        self.successResultOf(self.act(self.topic()))
        self.assertAlarm("does not check out", known=2)

    def test_another_in_its_place(self) -> None:
        """An act that the server calls number 3, where its log has another, was not taken in."""
        gate: Deferred[None] = Deferred()
        self.host.gate = gate
        self.room.do(Join, CAROL)
        self.host.answers = [self.host.placed(3)]
        work = self.act(self.topic())
        self.live(3)
        gate.callback(None)
        self.failureResultOf(work, InvalidKey)

    def test_makes_a_room(self) -> None:
        """The act that makes a room begins its log, and is on disk."""
        self.host.room = None
        made = Conversation("games")
        done = self.successResultOf(self.act(acts.create(self.author(), "games", bytes(16), private=True), made))
        assert made.log is not None
        self.assertEqual((1, "games", made.log.id), (done.events, made.log.name, made.id))
        self.assertEqual((Role.OWNER, False), (made.log.role("alice", ALICE.ik), made.log.open))
        self.assertEqual([f"{made.id} 000000"], list(self.host.disk)[-1:])
        self.assertEqual((0, transcript_start(made.id)), made.reader.transcript.place)

    def test_a_room_that_is_there(self) -> None:
        """A room that cannot be made is not tried again, nor begun here."""
        code: Code
        for code in (ROOM_EXISTS, STALE_OWN):
            self.setUp()
            made = Conversation("ops")
            self.host.answers = [Refused(code, room="ops", user="alice")]
            self.failureResultOf(self.act(acts.create(self.author(), "ops", bytes(16), private=False), made), Refused)
            self.assertEqual((1, None), (len(self.tried), made.log))


class GiveBackTests(BookCase):
    """Tests for servers that lost the end of a log."""

    def lose(self, room: Room, left: int) -> None:
        """The client knows all of a room's log; of the server's so many events are left."""
        self.use(room)
        self.ops.log, self.ops.events = room.replayed(), list(room.events)
        self.full = list(room.events)
        self.rest(left)

    def rest(self, left: int) -> None:
        """So many events the server has."""
        room = Room.__new__(Room)
        room.log, room.events = replay(SRV, self.full[:left]), self.full[:left]
        self.host.room = room

    def give(self, after: int) -> Deferred[None]:
        """The client gives what is behind so many events."""
        return self.start(self.book.give_back(self.ops, after))

    def test_given(self) -> None:
        """The server has them again, the very same, in portions as it takes them."""
        room = UnsignedRoom(ALICE, BOB)
        for number in range(limits.EVENTS_PER_PAGE + 10):
            room.do(ChangeTopic, ALICE, topic=b"%d" % number)
        self.lose(room, 2)
        self.successResultOf(self.give(2))
        assert self.host.room is not None
        self.assertEqual(room.log.head, self.host.room.log.head)
        self.assertEqual([limits.EVENTS_PER_PAGE, 10], [len(one.acts) for one in self.host.asked])  # type: ignore[attr-defined]
        self.assertEqual([], self.host.alarms)

    def test_all_of_it(self) -> None:
        """Also a room that it does not know any more."""
        self.lose(Room(ALICE, BOB, CAROL), 0)
        self.successResultOf(self.give(0))
        assert self.host.room is not None
        self.assertEqual(self.ops.log, self.host.room.log)

    def test_certificates(self) -> None:
        """The certificates that are known come along: the server may have lost those devices, too."""
        self.lose(Room(ALICE, BOB, CAROL), 1)
        assert self.host.people is not None
        self.host.people.take_in({"bob": m.KeyBundle.of(BOB.bundle())}, quietly=True)
        self.successResultOf(self.give(1))
        (request,) = self.host.asked
        assert isinstance(request, m.Extend)
        self.assertEqual((certificate(BOB),), request.certs)

    def test_somebody_was_quicker(self) -> None:
        """If another member gave some or all of it back meanwhile, the rest is given, and nothing is wrong."""
        for given in (3, 4, 5):
            self.lose(Room(ALICE, BOB, CAROL, MALLORY), 1)
            self.talk(1)
            self.ops.log, self.ops.events, self.full = self.room.log, self.room.events, self.room.events
            self.rest(given)
            self.successResultOf(self.give(1))
            assert self.host.room is not None
            self.assertEqual((self.ops.log, []), (self.host.room.log, self.host.alarms), given)

    def test_another_end(self) -> None:
        """If the server has another end of the log by then, that is an alarm."""
        self.lose(Room(ALICE, BOB, CAROL), 1)
        assert self.host.room is not None
        self.host.room.do(Join, MALLORY)
        self.successResultOf(self.give(1))
        self.assertAlarm("another log of this room", known=3)

    def test_refused(self) -> None:
        """A server that neither takes them nor has them is told as that."""
        self.lose(Room(ALICE, BOB), 1)
        self.host.answers = [Refused(STALE_LOG, room="ops")]
        self.failureResultOf(self.give(1), Refused)
        self.host.answers = [Refused(NO_RIGHT, room="ops", role="member")]
        self.failureResultOf(self.give(1), Refused)
        self.host.answers = [LinkLost("gone")]
        self.failureResultOf(self.give(1), LinkLost)
