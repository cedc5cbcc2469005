"""Rooms and private conversations in the store."""

from __future__ import annotations

from securechat.errors import NO_SUCH_ROOM, NOT_MEMBER, ROOM_FULL, TOO_MANY_ROOMS
from securechat.storage.interface import ConversationRecord, Joined, RoomSummary
from tests.doubles import StoreCase, new_keys, new_message, private_message


class JoinTests(StoreCase):
    """Tests for `join` and `leave`."""

    def test_makes_the_room(self) -> None:
        """Who joins a room that is not there makes it, and is its first change of membership."""
        self.register("alice")
        expected = Joined(head=1, first=0, last=0, created=True, fresh=True)
        self.assertEqual(expected, self.do(self.store.join("alice", "ops", 1)))

    def test_later_member(self) -> None:
        """A later member starts after the newest message; the head counts them."""
        self.gather("alice")
        self.register("bob")
        for number in (1, 2):
            self.do(self.store.append(new_message("alice", ["alice"], number)))
        expected = Joined(head=2, first=2, last=2, created=False, fresh=True)
        self.assertEqual(expected, self.do(self.store.join("bob", "ops", 1)))

    def test_twice(self) -> None:
        """Joining again is harmless: nothing counts up, and the place where one started stays."""
        self.gather("alice", "bob")
        self.do(self.store.append(new_message("alice", ["alice", "bob"])))
        expected = Joined(head=2, first=0, last=1, created=False, fresh=False)
        self.assertEqual(expected, self.do(self.store.join("bob", "ops", 1)))
        self.assertEqual([RoomSummary("ops", 2, True)], self.do(self.store.rooms("bob")))

    def test_room_full(self) -> None:
        """A full room takes nobody new, but its members may join again; a place that frees is given."""
        self.store = self.make_store(max_members=2)
        self.gather("alice", "bob")
        self.register("carol")
        self.assertRefused(ROOM_FULL, self.store.join("carol", "ops", 1), room="ops", limit=2)
        self.assertFalse(self.do(self.store.join("bob", "ops", 1)).fresh)
        self.do(self.store.leave("bob", "ops", 1))
        self.assertEqual(4, self.do(self.store.join("carol", "ops", 1)).head)

    def test_too_many_rooms(self) -> None:
        """Nobody is in more rooms than allowed; private conversations do not count; no room is left behind."""
        self.store = self.make_store(max_rooms=1)
        self.register("alice", "bob")
        self.do(self.store.append(private_message("alice", "bob")))
        self.do(self.store.join("alice", "ops", 1))
        self.assertRefused(TOO_MANY_ROOMS, self.store.join("alice", "more", 1), limit=1)
        self.assertEqual(["ops"], [room.room for room in self.do(self.store.rooms("alice"))])
        self.do(self.store.leave("alice", "ops", 1))
        self.do(self.store.join("alice", "more", 1))

    def test_leave(self) -> None:
        """Leaving counts the head up and ends the membership; an empty room stays, but is not listed."""
        self.gather("alice", "bob")
        self.assertEqual(3, self.do(self.store.leave("bob", "ops", 1)))
        self.assertEqual((3, [("alice", 1)]), self.do(self.store.members("alice", "ops")))
        self.assertEqual([], self.do(self.store.conversations("bob")))
        self.assertEqual(4, self.do(self.store.leave("alice", "ops", 1)))
        self.assertEqual([], self.do(self.store.rooms("bob")))
        self.assertEqual(5, self.do(self.store.join("bob", "ops", 1)).head)

    def test_leave_where_one_is_not(self) -> None:
        """Nobody leaves a room that is not there, or twice."""
        self.gather("alice")
        self.register("bob")
        self.assertRefused(NO_SUCH_ROOM, self.store.leave("bob", "none", 1), room="none")
        self.assertRefused(NOT_MEMBER, self.store.leave("bob", "ops", 1), room="ops")

    def test_rejoin(self) -> None:
        """Who comes back starts after what was said meanwhile."""
        self.gather("alice", "bob")
        self.do(self.store.leave("bob", "ops", 1))
        self.do(self.store.append(new_message("alice", ["alice"], 1, head=3)))
        expected = Joined(head=4, first=1, last=1, created=False, fresh=True)
        self.assertEqual(expected, self.do(self.store.join("bob", "ops", 1)))


class ListTests(StoreCase):
    """Tests for `rooms`, `members` and `conversations`."""

    def test_rooms(self) -> None:
        """All rooms come by name, with how many are in them and whether one is; private ones are nobody's."""
        self.gather("alice", "bob", room="zoo")
        self.do(self.store.join("bob", "ops", 1))
        self.do(self.store.append(private_message("alice", "bob")))
        expected = [RoomSummary("ops", 1, False), RoomSummary("zoo", 2, True)]
        self.assertEqual(expected, self.do(self.store.rooms("alice")))

    def test_members(self) -> None:
        """Members come by name with the version of their device list, at the head they hold for."""
        self.gather("bob", "alice")
        self.do(self.store.publish("bob", new_keys("bob", 2), backup=None, now=1))
        self.assertEqual((2, [("alice", 1), ("bob", 2)]), self.do(self.store.members("alice", "ops")))

    def test_members_for_members(self) -> None:
        """Who is in a room is told to those who are."""
        self.gather("alice")
        self.register("bob")
        self.assertRefused(NOT_MEMBER, self.store.members("bob", "ops"), room="ops")
        self.assertRefused(NO_SUCH_ROOM, self.store.members("bob", "none"), room="none")

    def test_conversations(self) -> None:
        """A user's rooms and private conversations come with where each stands, and who the other one is."""
        self.gather("alice", "bob")
        self.do(self.store.join("bob", "other", 1))
        self.do(self.store.append(new_message("alice", ["alice", "bob"])))
        private = private_message("bob", "alice")
        self.do(self.store.append(private))
        expected = [
            ConversationRecord("ops", head=2, last=1, first=0, read=0),
            ConversationRecord(private.room, head=0, last=1, first=0, read=0, peer="bob"),
        ]
        self.assertEqual(expected, self.do(self.store.conversations("alice")))
        self.assertEqual([], self.do(self.store.conversations("nobody")))


class ReadMarkerTests(StoreCase):
    """Tests for `move_read_marker`."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice")
        self.register("bob")
        for number in (1, 2, 3):
            self.do(self.store.append(new_message("alice", ["alice"], number)))

    def marker(self, user: str) -> int:
        (record,) = self.do(self.store.conversations(user))
        return record.read

    def test_forward_only(self) -> None:
        """The marker moves forward and says whether it did; it never moves back."""
        moved = [self.do(self.store.move_read_marker("alice", "ops", seq)) for seq in (2, 2, 1, 3)]
        self.assertEqual([True, False, False, True], moved)
        self.assertEqual(3, self.marker("alice"))

    def test_not_beyond_the_last(self) -> None:
        """Nobody has read what is not there: the marker stops at the newest message."""
        self.assertTrue(self.do(self.store.move_read_marker("alice", "ops", 2**53)))
        self.assertEqual(3, self.marker("alice"))
        self.assertFalse(self.do(self.store.move_read_marker("alice", "ops", 2**53)))

    def test_starts_where_one_joined(self) -> None:
        """What was there before one joined counts as read."""
        self.do(self.store.join("bob", "ops", 1))
        self.assertEqual(3, self.marker("bob"))
        self.assertFalse(self.do(self.store.move_read_marker("bob", "ops", 2)))

    def test_only_members(self) -> None:
        """There is no marker where one is not a member."""
        self.assertRefused(NOT_MEMBER, self.store.move_read_marker("bob", "ops", 1), room="ops")
        self.assertRefused(NO_SUCH_ROOM, self.store.move_read_marker("bob", "none", 1), room="none")


class PrivateTests(StoreCase):
    """Tests for what a third person may learn and do about a private conversation."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob", "mallory")
        self.message = private_message("alice", "bob")
        self.do(self.store.append(self.message))

    def test_looks_as_if_it_were_not(self) -> None:
        """To others it does not exist: its id can be computed, so nothing may tell if two ever talked."""
        room = self.message.room
        for verb in (
            self.store.members("mallory", room),
            self.store.read("mallory", room, after=None, before=None, limit=1, max_bytes=1),
            self.store.move_read_marker("mallory", room, 1),
            self.store.leave("mallory", room, 1),
            self.store.append(new_message("mallory", ["mallory"], room=room)),
        ):
            self.assertRefused(NO_SUCH_ROOM, verb, room=room)

    def test_cannot_be_left(self) -> None:
        """It is no room: its two people stay in it."""
        self.assertRefused(NO_SUCH_ROOM, self.store.leave("alice", self.message.room, 1), room=self.message.room)
        self.assertEqual((0, [("alice", 1), ("bob", 1)]), self.do(self.store.members("bob", self.message.room)))
