"""Tests for the rooms and private conversations one is in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.conversations import Conversation, Conversations

PM = "pm:" + "a" * 64


class ConversationTests(SynchronousTestCase):
    """Tests for one conversation."""

    def test_title(self) -> None:
        """A room is called by its name, a private conversation by its other user."""
        self.assertEqual("general", Conversation("general").title)
        self.assertEqual("@bob", Conversation(PM, "bob").title)

    def room(self) -> Conversation:
        """A room whose members are known at head 2."""
        return Conversation("general", head=2, members={"alice": 1, "bob": 1}, members_head=2)

    def test_joined(self) -> None:
        """Who joins next is a member, with the version of their keys, and there."""
        room = self.room()
        room.joined("carol", 3, 7)
        self.assertEqual({"alice": 1, "bob": 1, "carol": 7}, room.present_members())
        self.assertEqual((3, {"carol"}), (room.head, room.online))

    def test_left(self) -> None:
        """Who leaves is no member any more, and not there."""
        room = self.room()
        room.online.add("bob")
        room.left("bob", 3)
        self.assertEqual(({"alice": 1}, set()), (room.present_members(), room.online))

    def test_missed_a_change(self) -> None:
        """After a change that was not told, the members are not known: they must be asked for."""
        for change in (lambda room: room.joined("carol", 4, 1), lambda room: room.left("bob", 4)):
            room = self.room()
            change(room)
            self.assertIsNone(room.present_members())
            self.assertEqual(4, room.head)

    def test_old_news(self) -> None:
        """News of a change that is in the members already changes nothing."""
        room = self.room()
        room.joined("bob", 2, 5)
        self.assertEqual({"alice": 1, "bob": 1}, room.present_members())
        self.assertEqual(2, room.head)

    def test_never_asked(self) -> None:
        """Where the members were never asked for, a newcomer does not make them known."""
        room = Conversation("general")
        room.joined("alice", 1, 1)
        self.assertIsNone(room.present_members())


class ConversationsTests(SynchronousTestCase):
    """Tests for all of them."""

    def setUp(self) -> None:
        self.conversations = Conversations()
        for room in ("general", "games", "attic"):
            self.conversations.ensure(room)

    def test_ensure(self) -> None:
        """A conversation is made once; later the peer may become known."""
        made = self.conversations.ensure(PM)
        self.assertIs(made, self.conversations.ensure(PM, "bob"))
        self.assertIs(made, self.conversations.ensure(PM))
        self.assertEqual("bob", made.peer)

    def test_rooms(self) -> None:
        """The rooms are listed by name, without private conversations."""
        self.conversations.ensure(PM, "bob")
        self.assertEqual(["attic", "games", "general"], self.conversations.rooms())

    def test_with_peer(self) -> None:
        """A person whose identity changed has several conversations: the newest counts."""
        self.assertIsNone(self.conversations.with_peer("bob"))
        self.conversations.ensure(PM, "bob")
        newest = self.conversations.ensure("pm:" + "b" * 64, "bob")
        self.assertIs(newest, self.conversations.with_peer("bob"))

    def test_active(self) -> None:
        """No room is active at first; the one entered last is."""
        self.assertEqual("", self.conversations.active)
        self.conversations.activate("general")
        self.conversations.activate("games")
        self.assertEqual("games", self.conversations.active)

    def test_left(self) -> None:
        """When the active room is left, the one before it that is still there becomes active."""
        for room in ("attic", "general", "games", "general"):
            self.conversations.activate(room)
        self.conversations.drop("games")
        self.assertEqual("general", self.conversations.active)
        self.conversations.drop("general")
        self.assertEqual("attic", self.conversations.active)
        self.conversations.drop("attic")
        self.assertEqual(("", []), (self.conversations.active, self.conversations.rooms()))

    def test_drop_unknown(self) -> None:
        """To leave what one is not in is no error."""
        self.conversations.drop("nowhere")
        self.assertEqual(3, len(self.conversations.rooms()))

    def test_walk(self) -> None:
        """Conversations may be dropped on a walk through them."""
        for conversation in self.conversations:
            self.conversations.drop(conversation.room)
        self.assertEqual([], list(self.conversations))
