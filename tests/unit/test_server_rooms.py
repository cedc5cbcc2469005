"""Tests for rooms over the wire: who joins, leaves, is there, and who is told."""

from __future__ import annotations

from typing import Any

from securechat.errors import NO_SUCH_ROOM, NOT_MEMBER, RATE_LIMITED, ROOM_FULL, TOO_MANY_ROOMS
from securechat.wire import limits
from securechat.wire import messages as m
from tests.doubles import Caller, ServerCase, session_keys
from tests.unit.test_server_talk import Gate


class RoomCase(ServerCase):
    """Tests of rooms."""

    def events(self, caller: Caller) -> list[tuple[str, str, str]]:
        """What a caller was told about people since the last look: room, what, who."""
        return [(event.room, event.type, event.user) for event in caller.take(m.RoomEvent)]

    def second_device(self) -> Caller:
        """Alice's second device, synced."""
        caller = self.call()
        caller.ask(self.login_of(self.alice, caller, None))
        keys = m.KeyBundle.of(self.alice.bundle(2, (1, 2), previous=self.alice.keys().digest))
        caller.ask(m.Publish(device=self.alice.dev(2), proof=caller.proof(self.alice, 2), keys=keys))
        caller.ask(m.Sync())
        caller.take()
        return caller


class JoinTests(RoomCase):
    """Tests for `join`."""

    def test_makes_the_room(self) -> None:
        """The first to join makes the room; the next finds it."""
        alices, bobs = self.member(self.alice), self.member(self.bob)
        joined = m.JoinOk(id=3, room="ops", head=1, first=0, last=0, created=True)
        self.assertEqual(joined, alices.ask(m.Join(id=3, room="ops")))
        self.assertEqual(m.JoinOk(room="ops", head=2, first=0, last=0), bobs.ask(m.Join(room="ops")))

    def test_twice(self) -> None:
        """Joining again is harmless, and nobody is told."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        alices.take()
        self.assertEqual(m.JoinOk(room="ops", head=2, first=0, last=0), bobs.ask(m.Join(room="ops")))
        self.assertEqual([], alices.take())

    def test_first(self) -> None:
        """Who joins later begins after what was said before."""
        alices = self.member(self.alice, "ops")
        for number in (1, 2):
            alices.ask(self.send_of(number, 1, self.alice))
        bobs = self.member(self.bob)
        self.assertEqual(m.JoinOk(room="ops", head=2, first=2, last=2), bobs.ask(m.Join(room="ops")))
        alices.ask(self.send_of(3, 2, self.alice, self.bob))
        self.assertEqual([3], [message.seq for message in bobs.take(m.StoredMessage)])

    def test_others_are_told(self) -> None:
        """The members get the newcomer's keys and the new head, so that they can seal for both."""
        alices, outsider = self.member(self.alice, "ops"), self.member(self.carol)
        bobs = self.member(self.bob, "ops")
        event = m.RoomEvent(room="ops", type="joined", user="bob", head=2, first=0, keys=session_keys(self.bob))
        self.assertEqual([event], alices.take())
        self.assertEqual(([], []), (bobs.take(m.RoomEvent), outsider.take()))

    def test_own_devices(self) -> None:
        """It holds for all connections of the user: they are told, and hear what is said there."""
        first, bobs = self.member(self.alice), self.member(self.bob, "ops")
        second = self.second_device()
        first.ask(m.Join(room="ops"))
        self.assertEqual([("ops", "joined", "alice")], self.events(second))
        bobs.ask(self.send_of(1, 2, self.alice, self.bob))
        self.assertEqual([[1], [1]], [[one.seq for one in own.take(m.StoredMessage)] for own in (first, second)])

    def test_full(self) -> None:
        """A room takes no more than its limit, a user joins no more than theirs."""
        self.store = self.make_store(max_members=1, max_rooms=2)
        self.parts = _with_store(self)
        self.factory = self.listener()
        alices, bobs = self.member(self.alice, "one"), self.member(self.bob)
        self.assertFailed(ROOM_FULL, bobs.ask(m.Join(room="one")))
        alices.ask(m.Join(room="two"))
        self.assertFailed(TOO_MANY_ROOMS, alices.ask(m.Join(room="three")))

    def test_rate(self) -> None:
        """Joins and leaves have a rate: each makes all members seal anew."""
        alices = self.member(self.alice)
        for _ in range(int(limits.MEMBERSHIP_BURST) // 2):
            for request in (m.Join(room="ops"), m.Leave(room="ops")):
                self.assertNotIsInstance(alices.ask(request), m.Failed)
            self.reactor.advance(0.04)  # within what one connection may ask at all
        self.assertFailed(RATE_LIMITED, alices.ask(m.Join(room="ops")), retry_after=1.0)
        self.assertFailed(RATE_LIMITED, alices.ask(m.Leave(room="ops")), retry_after=1.0)

    def test_connection_lost_meanwhile(self) -> None:
        """Who is gone before the answer has joined all the same, and the others are told whom."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        self.writer.threads.held = True
        bobs.say(m.Join(room="ops"))
        bobs.lose()
        self.writer.threads.held = False
        self.writer.threads.run_next()
        event = m.RoomEvent(room="ops", type="joined", user="bob", head=2, first=0, keys=session_keys(self.bob))
        self.assertEqual([event], alices.take())

    def test_replaced_meanwhile(self) -> None:
        """So it is where the same device has come back already: its new connection hears what is said."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        gate = Gate(self, "join")
        bobs.say(m.Join(room="ops"))
        again = self.again(self.bob)
        gate.open()
        alices.ask(self.send_of(1, 2, self.alice, self.bob))
        self.assertEqual([1], [message.seq for message in again.take(m.StoredMessage)])

    def test_synced_between_commit_and_answer(self) -> None:
        """A connection that syncs after the join is stored and before it is handed out hears nothing twice."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        gate = Gate(self, "join")
        bobs.say(m.Join(room="ops"))
        again = self.again(self.bob)
        alices.ask(self.send_of(1, 2, self.alice, self.bob))
        gate.open()
        alices.ask(self.send_of(2, 2, self.alice, self.bob))
        self.assertEqual([1, 2], [message.seq for message in again.take(m.StoredMessage)])


def _with_store(case: ServerCase) -> Any:
    """The server's parts over another store."""
    from dataclasses import replace

    return replace(case.parts, store=case.store)


class LeaveTests(RoomCase):
    """Tests for `leave`."""

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        self.alices.take()

    def test_leaves(self) -> None:
        """Who left hears nothing more; the others are told, with the new head."""
        self.assertEqual(m.Reply(id=3), self.bobs.ask(m.Leave(id=3, room="ops")))
        self.assertEqual([m.RoomEvent(room="ops", type="left", user="bob", head=3)], self.alices.take())
        self.alices.ask(self.send_of(1, 3, self.alice))
        self.assertEqual([], self.bobs.take())

    def test_own_devices(self) -> None:
        """It holds for all connections of the user, who are told as well."""
        second = self.second_device()
        self.bobs.take()
        self.alices.ask(m.Leave(room="ops"))
        self.assertEqual([("ops", "left", "alice")], self.events(second))
        self.bobs.ask(self.send_of(1, 3, self.bob))
        self.assertEqual(([], []), (second.take(m.StoredMessage), self.alices.take(m.StoredMessage)))

    def test_not_a_member(self) -> None:
        """Only who is in a room leaves it."""
        self.assertFailed(NO_SUCH_ROOM, self.bobs.ask(m.Leave(room="nowhere")))
        self.bobs.ask(m.Leave(room="ops"))
        self.assertFailed(NOT_MEMBER, self.bobs.ask(m.Leave(room="ops")))

    def test_connection_lost_meanwhile(self) -> None:
        """Who is gone before the answer has left all the same, and the others are told who."""
        self.writer.threads.held = True
        self.bobs.say(m.Leave(room="ops"))
        self.bobs.lose()
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertIn(m.RoomEvent(room="ops", type="left", user="bob", head=3), self.alices.take())


class ListTests(RoomCase):
    """Tests for `rooms` and `members`."""

    def test_rooms(self) -> None:
        """All rooms by name, with how many are in them and whether one is; no private conversations."""
        alices = self.member(self.alice, "zoo", "ops")
        bobs = self.member(self.bob, "ops")
        alices.ask(self.pm_of(1, self.alice, self.bob))
        expected = (m.RoomEntry(room="ops", members=2, joined=True), m.RoomEntry(room="zoo", members=1))
        self.assertEqual(m.RoomsOk(id=3, rooms=expected), bobs.ask(m.Rooms(id=3)))

    def test_members(self) -> None:
        """The members by name, each with the number of their list and whether they are there, at the head."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        members = (m.Member(user="alice", version=1, online=True), m.Member(user="bob", version=1, online=True))
        self.assertEqual(
            m.MembersOk(id=3, room="ops", head=2, members=members), alices.ask(m.Members(id=3, room="ops"))
        )
        bobs.lose()
        self.assertEqual([True, False], [one.online for one in alices.ask(m.Members(room="ops")).members])

    def test_not_a_member(self) -> None:
        """Only members see who is there."""
        self.member(self.alice, "ops")
        bobs = self.member(self.bob)
        self.assertFailed(NOT_MEMBER, bobs.ask(m.Members(room="ops")))
        self.assertFailed(NO_SUCH_ROOM, bobs.ask(m.Members(room="nowhere")))


class PresenceTests(RoomCase):
    """Tests for who is there."""

    def setUp(self) -> None:
        super().setUp()
        self.alices, self.bobs = self.member(self.alice, "ops"), self.member(self.bob, "ops")
        self.alices.take()

    def test_offline_and_online(self) -> None:
        """The rooms of a user are told when the last connection is gone and when the first is back."""
        self.bobs.lose()
        self.assertEqual([("ops", "offline", "bob")], self.events(self.alices))
        self.again(self.bob)
        self.assertEqual([("ops", "online", "bob")], self.events(self.alices))

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
        second = self.second_device()
        self.bobs.take()
        second.lose()
        self.assertEqual([], self.bobs.take())
        self.alices.lose()
        self.assertEqual([("ops", "offline", "alice")], self.events(self.bobs))

    def test_logout(self) -> None:
        """A logout is as good as a lost connection."""
        self.bobs.ask(m.Logout())
        self.assertEqual([("ops", "offline", "bob")], self.events(self.alices))

    def test_other_rooms(self) -> None:
        """Who shares no room is not told."""
        outsider = self.member(self.carol, "elsewhere")
        self.bobs.lose()
        self.again(self.bob)
        self.assertEqual([], outsider.take())

    def test_private_conversations(self) -> None:
        """A private conversation alone does not tell who is there."""
        carols = self.member(self.carol)
        carols.ask(self.pm_of(1, self.carol, self.bob))
        self.bobs.lose()
        self.again(self.bob)
        self.assertEqual([], carols.take())

    def test_second_sync(self) -> None:
        """A second sync on one connection tells nobody."""
        self.bobs.ask(m.Sync())
        self.assertEqual([], self.alices.take())
