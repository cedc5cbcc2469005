"""Rooms and private conversations in the store."""

from __future__ import annotations

from securechat.crypto.roomlog import ChangePolicy, ChangeTopic, Invite, Join, Leave
from securechat.crypto.transcript import next_th, transcript_start
from securechat.errors import NO_SUCH_ROOM, NOT_MEMBER
from securechat.storage.interface import Backup, ConversationRecord, RoomSummary
from tests.doubles import StoreCase, new_keys, new_message, person, private_message


class ListTests(StoreCase):
    """Tests for `rooms`, `members`, `invitations` and `conversations`."""

    def test_rooms(self) -> None:
        """Open rooms come by name, with how many are in them and whether one is; private ones are nobody's."""
        self.gather("alice", "bob", room="zoo")
        self.meet("bob", room="ops")
        self.meet("alice", room="board", join="invite")
        self.do(self.store.append(private_message("alice", "bob")))
        expected = [RoomSummary("ops", 1, False), RoomSummary("zoo", 2, True)]
        self.assertEqual(expected, self.do(self.store.rooms("alice")))

    def test_closed_later(self) -> None:
        """A room that becomes private leaves the list, and comes back when it is opened."""
        self.gather("alice")
        self.act(ChangePolicy, person("alice"), join="invite")
        self.assertEqual([], self.do(self.store.rooms("alice")))
        self.act(ChangePolicy, person("alice"), join="open")
        self.assertEqual([RoomSummary("ops", 1, True)], self.do(self.store.rooms("alice")))

    def test_topics(self) -> None:
        """A room's topic is its newest; it is sealed at rest, and one that was altered is not shown."""
        self.gather("alice")
        for topic in ("first", "caf\u00e9"):
            self.act(ChangeTopic, person("alice"), topic=topic.encode())
        self.assertEqual([RoomSummary("ops", 1, True, "caf\u00e9")], self.do(self.store.rooms("alice")))
        (sealed,) = self.writer.connection.execute("SELECT topic FROM conversation").fetchone()
        self.assertNotIn("caf\u00e9".encode(), sealed)
        self.writer.connection.execute("UPDATE conversation SET topic = zeroblob(9)")
        self.assertEqual([RoomSummary("ops", 1, True)], self.do(self.store.rooms("alice")))

    def test_no_topic(self) -> None:
        """An empty topic is none."""
        self.gather("alice")
        for topic in (b"something", b""):
            self.act(ChangeTopic, person("alice"), topic=topic)
        self.assertEqual([RoomSummary("ops", 1, True)], self.do(self.store.rooms("alice")))

    def test_members(self) -> None:
        """Members come by name, but not under another identity than they joined with."""
        self.gather("carol", "bob", "alice")
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertEqual(["alice", "carol"], self.do(self.store.members("alice", "ops")))

    def test_members_for_members(self) -> None:
        """Who is in a room is told to those who are; a private conversation is no room."""
        self.gather("alice")
        self.register("bob")
        message = private_message("alice", "bob")
        self.do(self.store.append(message))
        self.assertRefused(NOT_MEMBER, self.store.members("bob", "ops"), room="ops")
        self.assertRefused(NO_SUCH_ROOM, self.store.members("bob", "none"), room="none")
        self.assertRefused(NO_SUCH_ROOM, self.store.members("bob", message.room), room=message.room)

    def test_invitations(self) -> None:
        """An invitation stands until it is used, declined or void, and is of the identity that was invited."""
        self.gather("alice", join="invite")
        self.meet("alice", room="more")
        self.register("bob", "carol")
        for room in ("ops", "more"):
            for user in ("bob", "carol"):
                self.act(Invite, person("alice"), person(user), room=room)
        self.assertEqual(["more", "ops"], self.do(self.store.invitations("bob")))
        self.act(Join, person("bob"))
        self.assertEqual(["more"], self.do(self.store.invitations("bob")))
        self.act(Leave, person("bob"), room="more")
        self.assertEqual([], self.do(self.store.invitations("bob")))
        self.do(self.store.reset_identity("carol", new_keys("carol", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertEqual([], self.do(self.store.invitations("carol")))

    def test_invitations_of_one_who_left(self) -> None:
        """When a member leaves, what they gave out is void."""
        self.gather("alice", "bob")
        self.register("carol")
        self.act(Invite, person("bob"), person("carol"))
        self.act(Leave, person("bob"))
        self.assertEqual([], self.do(self.store.invitations("carol")))

    def test_conversations(self) -> None:
        """A user's rooms and private conversations come with where each stands, and who the other one is."""
        self.gather("alice", "bob")
        self.meet("bob", room="other")
        message = new_message("alice", ["alice", "bob"])
        self.do(self.store.append(message))
        private = private_message("bob", "alice")
        self.do(self.store.append(private))
        log = self.rooms["ops"].log
        places = [
            (1, next_th(transcript_start(log.id), log.head, message.id)),
            (1, next_th(transcript_start(private.room), "", private.id)),
        ]
        expected = [
            ConversationRecord("ops", log.id, log.head, 2, last=1, first=0, read=0, start=places[0]),
            ConversationRecord(private.room, private.room, "", 0, 1, 0, 0, places[1], peer="bob"),
        ]
        self.assertEqual(expected, self.do(self.store.conversations("alice")))
        self.assertEqual([], self.do(self.store.conversations("nobody")))

    def test_after_a_reset(self) -> None:
        """A new identity is in nothing; to others the private conversation with the old one stays."""
        self.gather("alice", "bob")
        self.do(self.store.append(private_message("bob", "alice")))
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertEqual([], self.do(self.store.conversations("bob")))
        self.assertEqual([None, "bob"], [record.peer for record in self.do(self.store.conversations("alice"))])
        self.assertEqual([RoomSummary("ops", 1, True)], self.do(self.store.rooms("alice")))
        self.assertEqual([RoomSummary("ops", 1, False)], self.do(self.store.rooms("bob")))


class StartTests(StoreCase):
    """Tests for the place from which a reader goes on."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice")
        self.register("bob")
        log = self.rooms["ops"].log
        self.ths = [transcript_start(log.id)]
        for number in range(1, 5):
            if number == 3:
                self.act(Join, person("bob"))
            message = self.said("alice", list(log.members), number)
            self.do(self.store.append(message))
            self.ths.append(next_th(self.ths[-1], log.head, message.id))

    def assertStart(self, seq: int, user: str, since: dict[str, int], *, follows: bool = True) -> None:
        """With these cursors a user goes on behind that message."""
        named = {self.rooms["ops"].log.id if name == "ops" else name: seq for name, seq in since.items()}
        (record,) = self.do(self.store.conversations(user, named, follows=follows))
        self.assertEqual((seq, self.ths[seq]), record.start)

    def test_cursor(self) -> None:
        """A reader goes on from what they have, from the beginning to the newest."""
        for seq in range(5):
            self.assertStart(seq, "alice", {"ops": seq})

    def test_not_before_the_join(self) -> None:
        """Nobody goes on from before they joined."""
        self.assertStart(2, "bob", {"ops": 0})

    def test_read_marker(self) -> None:
        """Without a cursor here, or with one that is not there yet, it is the read marker."""
        self.do(self.store.move_read_marker("alice", "ops", 3))
        for since in ({}, {"ops": 5}, {"other": 1}):
            self.assertStart(3, "alice", since)

    def test_another_history(self) -> None:
        """With a cursor of a history that is no more it is what comes first, the cursor or the read marker."""
        self.do(self.store.move_read_marker("alice", "ops", 3))
        for seq, start in ((1, 1), (3, 3), (4, 3)):
            self.assertStart(start, "alice", {"ops": seq}, follows=False)

    def test_newest(self) -> None:
        """Whoever asks for no cursors gets the newest place."""
        (record,) = self.do(self.store.conversations("bob"))
        self.assertEqual((4, self.ths[4]), record.start)


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
        self.act(Join, person("bob"))
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
            self.store.audience("mallory", room, "0" * 64),
            self.store.append(new_message("mallory", ["mallory"], room=room, place=(room, ""))),
        ):
            self.assertRefused(NO_SUCH_ROOM, verb, room=room)
