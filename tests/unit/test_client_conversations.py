"""Tests for the rooms and private conversations one is in."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.conversations import Conversation, Conversations
from securechat.crypto.transcript import transcript_start
from tests.cast import Person, Room

PM = "pm:" + "a" * 64
ID, OTHER = "4f2a" * 16, "beef" * 16


class ConversationTests(SynchronousTestCase):
    """Tests for one conversation."""

    def test_title(self) -> None:
        """A room is called by its name, a private conversation by its other user."""
        self.assertEqual("general", Conversation("general").title)
        self.assertEqual("@bob", Conversation(PM, "bob").title)

    def test_label(self) -> None:
        """A room that has a label of its own is called by that."""
        self.assertEqual("ops#4f2a", Conversation("ops", label="ops#4f2a").title)

    def test_id(self) -> None:
        """A private conversation is its own id; a room's is known once its log is. Both transcripts begin there."""
        self.assertEqual((PM, ""), (Conversation(PM, "bob").id, Conversation("ops").id))
        for conversation in (Conversation(PM, "bob"), Conversation("ops", id=ID)):
            self.assertEqual(conversation.id, conversation.reader.room)
            self.assertEqual((0, transcript_start(conversation.id)), conversation.reader.transcript.place)

    def test_private(self) -> None:
        """Nobody enters by themselves where one must be invited, in private, and where that is not known."""
        for policy, private in (("open", False), ("invite", True)):
            room = Conversation("ops", log=Room(Person("alice"), join=policy).log)
            self.assertEqual(private, room.private)
            self.assertIs(room.log, room.reader.log)
        self.assertTrue(Conversation("ops").private and Conversation(PM, "bob").private)

    def test_stopped(self) -> None:
        """A reason to stop is one once."""
        room = Conversation("ops")
        self.assertEqual([True, False, True], [room.stop(reason) for reason in ("a", "a", "b")])
        self.assertEqual(["a", "b"], room.stopped)

    def test_restart(self) -> None:
        """A transcript that goes on from elsewhere leaves the chains: nothing is taken twice."""
        room = Conversation("ops", id=ID)
        room.reader.own(1, 0, "d", 1, "e" * 64)
        room.restart(7, "f" * 64)
        self.assertEqual(
            (7, (7, "f" * 64), {"d"}), (room.cursor, room.reader.transcript.place, set(room.reader.chains))
        )

    def test_there_and_back(self) -> None:
        """What is stored of a conversation comes back as it was."""
        for room in (Conversation("ops", id=ID, label="ops#4f2a"), Conversation(PM, "bob")):
            room.reader.own(1, 0, "d", 1, "e" * 64)
            room.stop("a fork")
            record = json.loads(json.dumps(room.record()))
            chains = {dev: chain.to_fields() for dev, chain in room.reader.chains.items()}
            back = Conversation(record["room"], record["peer"], room.id)
            back.restore(record, chains)
            self.assertEqual(
                (room.label, room.peer, room.stopped, room.reader.transcript.place, room.reader.chains),
                (back.label, back.peer, back.stopped, back.reader.transcript.place, back.reader.chains),
            )


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

    def test_labels(self) -> None:
        """The first room of a name has it; another of that name has a piece of its id besides. Private ones do not."""
        conversations = Conversations({"ops": ID})
        self.assertEqual("ops", conversations.label("ops", ID))
        self.assertEqual("ops#beef", conversations.label("ops", OTHER))
        self.assertEqual(["ops", "new"], [conversations.label("ops", ""), conversations.label("new", OTHER)])
        self.assertEqual(PM, conversations.label(PM, OTHER))
        room = conversations.ensure("ops", None, OTHER)
        self.assertEqual((room, None), (conversations.labelled("ops#beef"), conversations.labelled("ops")))
        self.assertEqual(["ops#beef"], conversations.rooms())

    def test_labelled(self) -> None:
        """A private conversation is no room, whatever it is called."""
        self.conversations.ensure(PM, "bob")
        self.assertIsNone(self.conversations.labelled(PM))
        self.assertIs(self.conversations.get("games"), self.conversations.labelled("games"))

    def test_another_room_of_that_name(self) -> None:
        """Another room in the place of one is another conversation: what is typed for the one does not go there."""
        for way in ("ensure", "add"):
            conversations = Conversations({"ops": ID})
            first = conversations.ensure("ops", None, ID)
            conversations.ensure("games")
            for label in ("games", "ops"):
                conversations.activate(label)
            self.assertIs(first, conversations.ensure("ops", None, ID))
            if way == "ensure":
                second = conversations.ensure("ops", None, OTHER)
            else:
                second = Conversation("ops", id=OTHER, label="ops#beef")
                conversations.add(second)
            self.assertIsNot(first, second)
            self.assertEqual((second, "ops#beef", ""), (conversations.get("ops"), second.label, conversations.active))

    def test_the_same_room_anew(self) -> None:
        """A room that is taken up anew stays the active one."""
        self.conversations.activate("games")
        self.conversations.add(Conversation("games"))
        self.assertEqual("games", self.conversations.active)

    def test_known(self) -> None:
        """A room that was left is known by its id, so that nothing said before counts as new after a return."""
        room = self.conversations.ensure("ops", None, ID)
        self.assertIs(room, self.conversations.known(ID))
        self.conversations.drop("ops")
        self.assertEqual((room, None), (self.conversations.known(ID), self.conversations.get("ops")))
        self.assertIsNone(self.conversations.known(OTHER))

    def test_lost(self) -> None:
        """Whoever is put out of the active room has none; out of another one, that changes nothing."""
        for label in ("attic", "games"):
            self.conversations.activate(label)
        self.assertEqual((False, "games"), (self.conversations.lose("attic"), self.conversations.active))
        self.assertEqual((True, ""), (self.conversations.lose("games"), self.conversations.active))
        self.assertEqual((False, ["general"]), (self.conversations.lose("nowhere"), self.conversations.rooms()))
