"""Tests for rooms over the wire: signed acts, what they do, who is told, and who may look."""

from __future__ import annotations

from dataclasses import replace as replace_part
from typing import Any

from msgspec.structs import replace

from securechat.crypto.roomlog import (
    Ban,
    ChangePolicy,
    ChangeTopic,
    Invite,
    Join,
    Kick,
    Leave,
    Mute,
    RoomEvent,
    SignedEvent,
)
from securechat.crypto.transcript import transcript_start
from securechat.errors import (
    ALREADY_MEMBER,
    BAD_EVENT,
    BANNED,
    NO_RIGHT,
    NO_SUCH_ROOM,
    NOT_INVITED,
    NOT_MEMBER,
    OLD_HEAD,
    RATE_LIMITED,
    ROOM_EXISTS,
    ROOM_FULL,
    STALE_CTL,
    STALE_KEYS,
    STALE_LOG,
    STALE_OWN,
    TOO_MANY_ROOMS,
    Code,
)
from securechat.wire import limits
from securechat.wire import messages as m
from tests.cast import Room
from tests.doubles import START, Caller, Person, ServerCase
from tests.unit.test_server_talk import Gate

HOUR = 3600


class RoomCase(ServerCase):
    """Tests of rooms."""

    def event(self, signed: SignedEvent, number: int, author: Person, room: str = "ops") -> m.RoomEvent:
        """What is told of an event by somebody's first device."""
        certificate = m.Certificate.of(author.certificate())
        return m.RoomEvent(room=room, events=number, signed=signed.data, sig=signed.sig, cert=certificate)

    def told(self, caller: Caller) -> list[int]:
        """The numbers of the room events that a caller was told of since the last look."""
        return [event.events for event in caller.take(m.RoomEvent)]

    def newest(self, author: Person, room: str = "ops") -> m.RoomEvent:
        """What is told of the newest event of a room."""
        return self.event(self.rooms[room].events[-1], self.rooms[room].log.count, author, room)


class ActTests(RoomCase):
    """Tests for `act`: what it is answered, and who is told."""

    def test_create(self) -> None:
        """Who makes a room is in it, and is told its id, the first link, and where the transcript begins."""
        alices = self.member(self.alice)
        reply = self.enter(alices, self.alice, "ops")
        log = self.rooms["ops"].log
        expected = m.ActOk(id=1, room="ops", rid=log.id, events=1, link=log.head, start=(0, transcript_start(log.id)))
        self.assertEqual(expected, reply)
        self.assertEqual([self.newest(self.alice)], alices.take())

    def test_join(self) -> None:
        """Who joins later begins after what was said before; everybody there is told, the newcomer too."""
        alices, outsider = self.member(self.alice, "ops"), self.member(self.carol)
        for number in (1, 2):
            alices.ask(self.send_of(number, self.alice))
        bobs = self.member(self.bob)
        reply = self.enter(bobs, self.bob, "ops")
        self.assertEqual((2, self.rooms["ops"].log.head, 2), (reply.events, reply.link, reply.start[0]))
        event = self.newest(self.bob)
        self.assertEqual(([event], [event], []), (alices.take(), bobs.take(), outsider.take()))
        alices.ask(self.send_of(3, self.alice, self.bob))
        self.assertEqual([3], [message.seq for message in bobs.take(m.StoredMessage)])

    def test_told_before_the_answer(self) -> None:
        """On the author's own connection the event comes before the answer: what is said next may need it."""
        alices = self.member(self.alice, "ops")
        before = len(alices.raw)
        self.perform(alices, ChangeTopic, self.alice, topic=b"x")
        first, second = alices.raw[before:].splitlines()
        self.assertIn(b'"event":"room"', first)
        self.assertIn(b'"status":"ok"', second)

    def test_again(self) -> None:
        """The same again is answered the same, as `dup`, and nobody is told again."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        request = self.act_of(Join, self.bob)
        first = bobs.ask(request)
        alices.ask(self.send_of(1, self.alice))
        for caller in (alices, bobs):
            caller.take()
        self.assertEqual(replace(first, dup=True), bobs.ask(request))
        self.assertEqual(([], []), (alices.take(), bobs.take()))

    def test_own_devices(self) -> None:
        """It holds for all connections of the user: they are told, and hear what is said there."""
        first, bobs = self.member(self.alice), self.member(self.bob, "ops")
        second = self.second_device(self.alice)
        first.take()
        self.enter(first, self.alice, "ops")
        self.assertEqual([[2], [2]], [self.told(own) for own in (first, second)])
        bobs.ask(self.send_of(1, self.bob, self.alice))
        self.assertEqual([[1], [1]], [[one.seq for one in own.take(m.StoredMessage)] for own in (first, second)])

    def test_second_device_acts(self) -> None:
        """What another device signs comes with that device's certificate."""
        bobs = self.member(self.bob, "ops")
        second = self.second_device(self.alice)
        newest = self.lists["alice"]
        self.perform(second, Join, self.alice, device=2, dl=newest)
        (event,) = bobs.take(m.RoomEvent)[-1:]
        self.assertEqual(m.Certificate.of(self.alice.certificate(2)), event.cert)

    def test_leave(self) -> None:
        """Who left is told so, on all connections, and hears nothing more; the others are told."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        second = self.second_device(self.bob)
        alices.take()
        bobs.take()
        self.perform(bobs, Leave, self.bob)
        event = self.newest(self.bob)
        self.assertEqual([[event]] * 3, [caller.take() for caller in (alices, bobs, second)])
        alices.ask(self.send_of(1, self.alice))
        self.perform(alices, ChangeTopic, self.alice, topic=b"x")
        self.assertEqual(([], []), (bobs.take(), second.take()))

    def test_put_out(self) -> None:
        """So it is with who is kicked or banned."""
        alices = self.member(self.alice, "ops")
        for kind, person in ((Kick, self.bob), (Ban, self.carol)):
            caller = self.member(person, "ops")
            self.perform(alices, kind, self.alice, person)
            self.assertEqual([self.newest(self.alice)], caller.take())
            self.perform(alices, ChangeTopic, self.alice, topic=b"x")
            self.assertEqual([], caller.take())

    def test_invite(self) -> None:
        """Who is invited is told, on all connections, and nobody else; the members see the event."""
        alices, bobs, carols = self.member(self.alice, "ops"), self.member(self.bob), self.member(self.carol)
        alices.take()
        self.perform(alices, Invite, self.alice, self.bob)
        self.assertEqual([m.InvitedEvent(room="ops")], bobs.take())
        self.assertEqual(([self.newest(self.alice)], []), (alices.take(), carols.take()))

    def test_decline(self) -> None:
        """An invitation can be declined by who never was in the room."""
        alices, bobs = self.member(self.alice), self.member(self.bob)
        self.enter(alices, self.alice, "ops", join="invite")
        self.perform(alices, Invite, self.alice, self.bob)
        self.perform(bobs, Leave, self.bob)
        self.assertFailed(NOT_INVITED, bobs.ask(self.act_of(Join, self.bob)))

    def test_published_after_the_commit(self) -> None:
        """Until it is on disk nobody is told; who is gone before the answer has acted all the same."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        alices.take()
        self.writer.threads.held = True
        bobs.say(self.act_of(Join, self.bob))
        bobs.lose()
        self.assertEqual([], alices.take())
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([2], self.told(alices))

    def test_replaced_meanwhile(self) -> None:
        """Where the same device has come back already, its new connection hears what is said."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        gate = Gate(self, "act")
        bobs.say(self.act_of(Join, self.bob))
        self.rooms["ops"].do(Join, self.bob)
        again = self.again(self.bob)
        gate.open()
        alices.ask(self.send_of(1, self.alice, self.bob))
        self.assertEqual([1], [message.seq for message in again.take(m.StoredMessage)])

    def test_synced_between_commit_and_answer(self) -> None:
        """A connection that syncs after the join is stored and before it is handed out hears nothing twice."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        gate = Gate(self, "act")
        bobs.say(self.act_of(Join, self.bob))
        self.rooms["ops"].do(Join, self.bob)
        again = self.again(self.bob)
        alices.ask(self.send_of(1, self.alice, self.bob))
        gate.open()
        alices.ask(self.send_of(2, self.alice, self.bob))
        self.assertEqual([1, 2], [message.seq for message in again.take(m.StoredMessage)])


class RefusedActTests(RoomCase):
    """Tests for acts that are refused: each reason, by one case."""

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        self.carols = self.member(self.carol)
        self.alices.take()

    def assertActRefused(
        self, code: Code, caller: Caller, kind: type[RoomEvent], author: Person, whom: Person | None = None, **more: Any
    ) -> None:
        """An act is refused with that code, and nobody is told."""
        fields = {name: more.pop(name) for name in ("users",) if name in more}
        self.assertFailed(code, caller.ask(self.act_of(kind, author, whom, **more)), **fields)
        self.assertEqual([], self.alices.take(m.RoomEvent))

    def test_no_event(self) -> None:
        """What is no event, or not in its one canonical form, is refused."""
        good = self.act_of(Leave, self.bob)
        for signed in (b"{}", b"[[", good.signed + b" ", good.signed.replace(b'"at":', b'"at": ')):
            self.assertFailed(BAD_EVENT, self.bobs.ask(replace(good, signed=signed)))

    def test_signature(self) -> None:
        """It is signed by the very device of the connection."""
        good = self.act_of(Leave, self.bob)
        for sig in (bytes(64), self.act_of(Leave, self.alice).sig, b"\xff" * 64):
            self.assertFailed(BAD_EVENT, self.bobs.ask(replace(good, sig=sig)))
        self.assertEqual("ok", self.bobs.ask(good).__struct_config__.tag)

    def test_by_somebody_else(self) -> None:
        """Nobody hands in an event of another user, of another device of theirs, or of another identity."""
        self.assertActRefused(BAD_EVENT, self.bobs, Leave, self.alice)
        self.assertActRefused(BAD_EVENT, self.bobs, Leave, self.bob, device=2)
        self.assertActRefused(BAD_EVENT, self.bobs, Leave, self.bob, ik=self.alice.ik)
        self.assertActRefused(BAD_EVENT, self.bobs, Leave, self.bob, by="alice")

    def test_other_server(self) -> None:
        """An event of another server is none here."""
        self.assertActRefused(BAD_EVENT, self.bobs, Leave, self.bob, srv="s" * 43)

    def test_from_the_future(self) -> None:
        """Its author's clock may be ten minutes ahead, and not a millisecond more; it may be as late as it likes."""
        ahead = START * 1000 + 600_000
        self.assertActRefused(BAD_EVENT, self.alices, ChangeTopic, self.alice, topic=b"x", at=ahead + 1)
        for at in (ahead, 0):
            self.perform(self.alices, ChangeTopic, self.alice, topic=b"x", at=at)

    def test_other_name(self) -> None:
        """A room is made under the name that its first event bears."""
        request = self.create_of(self.carol, "more")
        self.assertFailed(BAD_EVENT, self.carols.ask(replace(request, room="other")))
        self.assertEqual(1, self.carols.ask(request).events)

    def test_rules_of_the_log(self) -> None:
        """What the log's rules refuse is refused in their words."""
        self.assertActRefused(NO_RIGHT, self.bobs, Kick, self.bob, self.alice)
        self.assertActRefused(NOT_MEMBER, self.carols, ChangeTopic, self.carol)
        self.assertActRefused(ALREADY_MEMBER, self.bobs, Join, self.bob)
        self.assertActRefused(STALE_OWN, self.carols, Join, self.carol, own="0" * 64)
        self.assertActRefused(STALE_CTL, self.alices, ChangeTopic, self.alice, ctl="0" * 64)
        self.assertActRefused(OLD_HEAD, self.alices, ChangeTopic, self.alice, after="0" * 64)
        self.assertActRefused(BAD_EVENT, self.alices, Kick, self.alice, self.carol)

    def test_room(self) -> None:
        """There is no act in a room that is not there, nor a second room of a name."""
        request = self.act_of(Leave, self.bob)
        self.assertFailed(NO_SUCH_ROOM, self.bobs.ask(replace(request, room="nowhere")))
        second = Room(self.carol, salt=b"another of them!").events[0]
        self.assertFailed(ROOM_EXISTS, self.carols.ask(m.DoAct(room="ops", signed=second.data, sig=second.sig)))

    def test_not_invited(self) -> None:
        """Into a room that is not open nobody comes uninvited."""
        self.perform(self.alices, ChangePolicy, self.alice, join="invite")
        self.alices.take()
        self.assertActRefused(NOT_INVITED, self.carols, Join, self.carol)

    def test_banned(self) -> None:
        """A timed ban lasts by the server's clock, even if the author's is ahead."""
        until = START * 1000 + 300_000
        self.perform(self.alices, Ban, self.alice, self.bob, until=until)
        self.alices.take()
        self.assertActRefused(BANNED, self.bobs, Join, self.bob, at=until)
        self.reactor.advance(300)
        self.perform(self.again(self.bob), Join, self.bob, at=until)

    def test_stale_list(self) -> None:
        """Who joins names their newest list, and who invites, the newest of whom they invite."""
        self.assertActRefused(STALE_KEYS, self.carols, Join, self.carol, dl=(2, "0" * 64), users=("carol",))
        stale = {"dl": (2, "0" * 64), "users": ("carol",)}
        self.assertActRefused(STALE_KEYS, self.alices, Invite, self.alice, self.carol, **stale)
        other = Person("carol", generation=2)
        self.assertActRefused(STALE_KEYS, self.alices, Invite, self.alice, other, users=("carol",))

    def test_full(self) -> None:
        """A room takes no more than its limit, a user joins no more than theirs."""
        self.rooms.clear()
        self.successResultOf(self.store.close())
        self.path.write_bytes(self.fresh())
        self.store = self.make_store(max_members=1, max_rooms=2)
        self.parts = replace_part(self.make_parts(), store=self.store)
        self.factory = self.listener()
        alices, bobs = self.member(self.alice, "ops", "two"), self.member(self.bob)
        self.assertFailed(ROOM_FULL, bobs.ask(self.act_of(Join, self.bob)))
        self.assertFailed(TOO_MANY_ROOMS, alices.ask(self.create_of(self.alice, "three")))


class RateTests(RoomCase):
    """Tests for how often somebody may act."""

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob)

    def flap(self, times: int) -> None:
        """Bob joins and leaves."""
        for _ in range(times):
            for kind in (Join, Leave):
                self.perform(self.bobs, kind, self.bob)

    def test_six_an_hour(self) -> None:
        """Six joins, leaves and invitations of a user in a room an hour; then one every ten minutes."""
        self.flap(3)
        self.assertFailed(RATE_LIMITED, self.bobs.ask(self.act_of(Join, self.bob)), retry_after=601.0)
        self.reactor.advance(HOUR / limits.ACTS_PER_HOUR + 1)
        again = self.again(self.bob)
        self.perform(again, Join, self.bob)

    def test_each_room_by_itself(self) -> None:
        """One room's acts do not count in another."""
        self.flap(3)
        self.enter(self.alices, self.alice, "more")
        self.perform(self.bobs, Join, self.bob, room="more")

    def test_same_again(self) -> None:
        """The same again is answered also to one who must wait, and counts for nothing."""
        self.flap(2)
        self.perform(self.bobs, Join, self.bob)
        request = self.act_of(Leave, self.bob)
        first = self.bobs.ask(request)
        for _ in range(3):
            self.assertEqual(replace(first, dup=True), self.bobs.ask(request))

    def test_refused_acts_do_not_count(self) -> None:
        """What was refused for another reason is no act."""
        for _ in range(10):
            self.assertFailed(STALE_OWN, self.bobs.ask(self.act_of(Join, self.bob, own="0" * 64)))
        self.flap(3)

    def test_control_is_not_counted(self) -> None:
        """Those who run a room act as often as they need to."""
        self.perform(self.bobs, Join, self.bob)
        for _ in range(10):
            self.perform(self.alices, Mute, self.alice, self.bob)

    def test_all_acts_of_a_user(self) -> None:
        """All acts of a user together have a rate, whatever they are."""
        for number in range(int(limits.MEMBERSHIP_BURST) - 1):
            self.perform(self.alices, ChangeTopic, self.alice, topic=b"%d" % number)
            self.reactor.advance(0.02)  # within what one connection may ask at all
        self.alices.ask(self.act_of(ChangeTopic, self.alice, topic=b"x"))
        self.rooms["ops"].do(ChangeTopic, self.alice, topic=b"x")
        refused = self.alices.ask(self.act_of(ChangeTopic, self.alice, topic=b"y"))
        self.assertEqual(RATE_LIMITED.name, getattr(refused, "code", None))


class LogTests(RoomCase):
    """Tests for `roomlog`."""

    def test_roomlog(self) -> None:
        """A room's events as they were signed, and the certificates that they need, from any event on."""
        self.member(self.alice, "ops"), self.member(self.bob, "ops")
        carols = self.member(self.carol)
        room = self.rooms["ops"]
        acts = tuple(m.Act(signed=signed.data, sig=signed.sig) for signed in room.events)
        certs = tuple(m.Certificate.of(person.certificate()) for person in (self.alice, self.bob))
        whole = m.RoomLogOk(id=3, room="ops", rid=room.log.id, acts=acts, certs=certs, events=2)
        self.assertEqual(whole, carols.ask(m.RoomLog(id=3, room="ops")))
        rest = m.RoomLogOk(room="ops", rid=room.log.id, acts=acts[1:], certs=certs[1:], events=2)
        self.assertEqual(rest, carols.ask(m.RoomLog(room="ops", after=1)))

    def test_pages(self) -> None:
        """A long log comes in pages."""
        alices = self.member(self.alice, "ops")
        for number in range(limits.EVENTS_PER_PAGE):
            signed = self.rooms["ops"].do(ChangeTopic, self.alice, topic=b"%d" % number)
            self.do(self.store.act("ops", signed, wait=0.0, now=1))
        page = alices.ask(m.RoomLog(room="ops"))
        self.assertEqual((limits.EVENTS_PER_PAGE, True), (len(page.acts), page.more))
        page = alices.ask(m.RoomLog(room="ops", after=limits.EVENTS_PER_PAGE))
        self.assertEqual((1, False), (len(page.acts), page.more))

    def test_who_may(self) -> None:
        """A room that is not open shows its log to members and to those invited."""
        alices, bobs, carols = self.member(self.alice), self.member(self.bob), self.member(self.carol)
        self.enter(alices, self.alice, "ops", join="invite")
        self.perform(alices, Invite, self.alice, self.bob)
        self.assertEqual(2, bobs.ask(m.RoomLog(room="ops")).events)
        self.assertFailed(NOT_INVITED, carols.ask(m.RoomLog(room="ops")))
        self.assertFailed(NO_SUCH_ROOM, carols.ask(m.RoomLog(room="nowhere")))


class ExtendTests(RoomCase):
    """Tests for `extend`, at a server that was put back to an older state."""

    def setUp(self) -> None:
        super().setUp()
        self.restore()
        self.parts = self.make_parts()
        self.factory = self.listener()

    def lost(self, *acts: tuple[type[RoomEvent], Person]) -> tuple[m.Act, ...]:
        """Acts that this server has not heard of, as a client has them."""
        signed = [self.rooms["ops"].do(kind, author) for kind, author in acts]
        return tuple(m.Act(signed=one.data, sig=one.sig) for one in signed)

    def test_extend(self) -> None:
        """Events that were lost come back, take effect, and everybody there is told, as of any other."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        alices.take()
        acts = self.lost((Join, self.bob), (Join, self.carol))
        reply = alices.ask(m.Extend(id=3, room="ops", after=1, acts=acts))
        self.assertEqual(m.ExtendOk(id=3, room="ops", events=3), reply)
        events = [
            self.event(signed, number, author)
            for signed, number, author in zip(self.rooms["ops"].events[1:], (2, 3), (self.bob, self.carol), strict=True)
        ]
        self.assertEqual((events, events), (alices.take(), bobs.take()))
        alices.ask(self.send_of(1, self.alice, self.bob, self.carol))
        self.assertEqual([1], [message.seq for message in bobs.take(m.StoredMessage)])

    def test_extend_ends_memberships(self) -> None:
        """Who had left by what comes back hears no more."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        alices.ask(m.Extend(room="ops", after=2, acts=self.lost((Leave, self.bob))))
        bobs.take()
        alices.ask(self.send_of(1, self.alice))
        self.assertEqual([], bobs.take())

    def test_extend_refused(self) -> None:
        """What does not go on where the log ends, or is no event of this server, is refused."""
        alices, carols = self.member(self.alice, "ops"), self.member(self.carol)
        (act,) = self.lost((Join, self.bob))
        self.assertFailed(STALE_LOG, alices.ask(m.Extend(room="ops", after=2, acts=(act,))))
        for wrong in (replace(act, sig=bytes(64)), replace(act, signed=b"{}")):
            self.assertFailed(BAD_EVENT, alices.ask(m.Extend(room="ops", after=1, acts=(wrong,))))
        self.assertFailed(NOT_MEMBER, carols.ask(m.Extend(room="ops", after=1, acts=(act,))))
        other = Room(self.alice, name="other").events[0]
        made = (m.Act(signed=other.data, sig=other.sig),)
        self.assertFailed(BAD_EVENT, alices.ask(m.Extend(room="more", after=0, acts=made)))
        self.assertEqual(1, alices.ask(m.RoomLog(room="ops")).events)

    def test_extend_at_the_first_epoch(self) -> None:
        """A server that lost nothing takes nothing back, from nobody."""
        self.writer.connection.execute("UPDATE meta SET first_epoch = epoch")
        self.store = self.make_store()
        self.parts = self.make_parts()
        self.factory = self.listener()
        alices, carols = self.member(self.alice, "ops"), self.member(self.carol)
        for caller, who in ((alices, self.bob), (carols, self.carol)):
            act = self.act_of(Join, who)
            acts = (m.Act(signed=act.signed, sig=act.sig),)
            self.assertFailed(STALE_LOG, caller.ask(m.Extend(room="ops", after=1, acts=acts)))
        self.assertEqual(1, alices.ask(m.RoomLog(room="ops")).events)

    def test_extend_counts_events(self) -> None:
        """Each event that comes back counts as an act does; of those refused only the attempt."""
        alices = self.member(self.alice, "ops")
        topics = [self.rooms["ops"].do(ChangeTopic, self.alice, topic=b"%d" % number) for number in range(120)]
        acts = tuple(m.Act(signed=one.data, sig=one.sig) for one in topics)
        for _ in range(3):
            self.assertFailed(STALE_LOG, alices.ask(m.Extend(room="ops", after=2, acts=acts)))
        self.assertIsInstance(alices.ask(m.Extend(room="ops", after=1, acts=acts)), m.ExtendOk)
        again = m.Extend(room="ops", after=121, acts=self.lost((Leave, self.alice)))
        self.assertFailed(RATE_LIMITED, alices.ask(again), retry_after=51.0)  # 100 of burst, less 1 + 3 + 120
        self.reactor.advance(51)
        self.assertIsInstance(alices.ask(again), m.ExtendOk)


class ListTests(RoomCase):
    """Tests for `rooms` and `online`."""

    def test_rooms(self) -> None:
        """Open rooms by name, with how many are in them, whether one is, and what they are about; no others."""
        alices, bobs = self.member(self.alice, "zoo", "ops"), self.member(self.bob, "ops")
        self.enter(alices, self.alice, "board", join="invite")
        self.perform(alices, ChangeTopic, self.alice, topic=b"all of it")
        alices.ask(self.pm_of(1, self.alice, self.bob))
        expected = (
            m.RoomEntry(room="ops", members=2, joined=True, topic="all of it"), m.RoomEntry(room="zoo", members=1)
        )  # fmt: skip
        self.assertEqual(m.RoomsOk(id=3, rooms=expected), bobs.ask(m.Rooms(id=3)))

    def test_online(self) -> None:
        """The members who are connected and say so, by name; also to who does not."""
        alices, bobs, carols = (self.member(one, "ops") for one in (self.alice, self.bob, self.carol))
        self.assertEqual((), alices.ask(m.Online(room="ops")).users)
        for caller in (alices, bobs):
            caller.ask(m.Sync(presence=True))
        self.assertEqual(("alice", "bob"), carols.ask(m.Online(room="ops")).users)
        self.assertEqual(m.OnlineOk(id=3, room="ops", users=("alice", "bob")), alices.ask(m.Online(id=3, room="ops")))
        bobs.lose()
        self.assertEqual(("alice",), alices.ask(m.Online(room="ops")).users)

    def test_not_a_member(self) -> None:
        """Only members see who is there."""
        self.member(self.alice, "ops")
        bobs = self.member(self.bob)
        self.assertFailed(NOT_MEMBER, bobs.ask(m.Online(room="ops")))
        self.assertFailed(NO_SUCH_ROOM, bobs.ask(m.Online(room="nowhere")))


class PresenceTests(RoomCase):
    """Tests for who is there."""

    ONLINE = m.PresenceEvent(room="ops", user="bob", online=True)
    OFFLINE = m.PresenceEvent(room="ops", user="bob", online=False)

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        for caller in (self.alices, self.bobs):
            caller.ask(m.Sync(presence=True))
        self.alices.take()

    def test_offline_and_online(self) -> None:
        """The rooms of a user are told when the last connection is gone and when the first is back."""
        self.bobs.lose()
        self.assertEqual([self.OFFLINE], self.alices.take())
        self.again(self.bob, presence=True)
        self.assertEqual([self.ONLINE], self.alices.take())

    def test_not_shared(self) -> None:
        """Who does not say that they are there is told of nobody, and nobody of them."""
        carols = self.member(self.carol, "ops")
        self.alices.take()
        self.bobs.lose()
        self.again(self.bob, presence=True)
        self.assertEqual([], carols.take())
        self.alices.take()
        carols.lose()
        self.again(self.carol, typing=True)
        self.assertEqual([], self.alices.take())
        self.assertEqual(("alice", "bob"), self.alices.ask(m.Online(room="ops")).users)

    def test_another_mind(self) -> None:
        """The newest sync counts: one goes offline by it and comes online, and others are told."""
        self.bobs.ask(m.Sync())
        self.assertEqual([self.OFFLINE], self.alices.take())
        self.assertEqual(("alice",), self.bobs.ask(m.Online(room="ops")).users)
        self.alices.ask(m.Sync())
        self.alices.ask(m.Sync(presence=True))
        self.assertEqual([], self.bobs.take(m.PresenceEvent))
        self.bobs.ask(m.Sync(presence=True))
        self.assertEqual([self.ONLINE], self.alices.take())

    def test_one_of_two(self) -> None:
        """As long as one connection of somebody says so, they are there."""
        second = self.second_device(self.bob)
        self.alices.take()
        second.lose()
        self.assertEqual([], self.alices.take())
        second = self.again(self.bob, 2)
        self.bobs.lose()
        self.assertEqual([self.OFFLINE], self.alices.take())
        second.ask(m.Sync(presence=True))
        self.assertEqual([self.ONLINE], self.alices.take())

    def test_online_with_the_sync(self) -> None:
        """Online is who listens: a login alone tells nobody."""
        self.bobs.lose()
        self.alices.take()
        caller = self.again(self.bob, sync=False)
        self.assertEqual([], self.alices.take())
        caller.lose()
        self.assertEqual([], self.alices.take())

    def test_several_connections(self) -> None:
        """One connection more or less of somebody who is there is no news."""
        second = self.second_device(self.alice, presence=True)
        self.bobs.take()
        second.lose()
        self.assertEqual([], self.bobs.take())
        self.alices.lose()
        self.assertEqual([m.PresenceEvent(room="ops", user="alice", online=False)], self.bobs.take())

    def test_logout(self) -> None:
        """A logout is as good as a lost connection."""
        self.bobs.ask(m.Logout())
        self.assertEqual([self.OFFLINE], self.alices.take())

    def test_other_rooms(self) -> None:
        """Who shares no room is not told."""
        outsider = self.member(self.carol, "elsewhere")
        outsider.ask(m.Sync(presence=True))
        outsider.take()
        self.bobs.lose()
        self.again(self.bob, presence=True)
        self.assertEqual([], outsider.take())

    def test_private_conversations(self) -> None:
        """A private conversation alone does not tell who is there."""
        carols = self.member(self.carol)
        carols.ask(self.pm_of(1, self.carol, self.bob))
        carols.ask(m.Sync(presence=True))
        carols.take()
        self.bobs.lose()
        self.again(self.bob, presence=True)
        self.assertEqual([], carols.take())

    def test_second_sync(self) -> None:
        """A second sync like the first on one connection tells nobody."""
        self.bobs.ask(m.Sync(presence=True))
        self.assertEqual([], self.alices.take())

    def test_after_a_reset(self) -> None:
        """Who has reset their identity was last there as who they were."""
        other = Person("bob", generation=2)
        reset = m.ResetIdentity(
            password=self.login_of(self.bob, self.bobs).password,
            keys=m.KeyBundle.of(other.bundle()),
            backup=m.Backup(version=1, blob=b"x"),
        )
        self.bobs.ask(reset)
        self.assertEqual([self.OFFLINE], self.alices.take(m.PresenceEvent))
        self.bobs.ask(m.Sync())
        self.bobs.lose()
        self.assertEqual([], self.alices.take(m.PresenceEvent))
