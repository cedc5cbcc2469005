"""Tests for what wants its user's attention: unread messages, mentions, alerts, and the order to look in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.attention import fuzzy
from securechat.client.conversations import Conversation
from securechat.client.panes import Panes
from securechat.client.view import Alert, RoomState
from securechat.errors import Exit
from securechat.wire import messages as m
from tests.doubles import PASSWORD, ChatCase, ChatClient


def room(client: ChatClient, title: str = "general") -> Conversation:
    """A conversation as a client knows it."""
    conversation = client.core.conversations.titled(title)
    assert conversation is not None
    return conversation


def counts(client: ChatClient, title: str = "general") -> tuple[int, int]:
    """Its unread messages, and how many of them call."""
    return room(client, title).unread, room(client, title).mentions


class AttentionCase(ChatCase):
    """Two people in two rooms; bob's view shows nothing by itself."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "attic", "general")
        self.bob = self.registered("bob", "attic", "general")
        self.bob.view.sees = set()
        self.alice.view.take()

    def say(self, *lines: str, by: ChatClient | None = None) -> None:
        """Alice types lines, or another."""
        for line in lines:
            self.assertEqual(Exit.OK, (by or self.alice).exit(line), self.alice.view.text)

    def restarted(self, client: ChatClient, *, sees: set[str] | None = None) -> ChatClient:
        """The same after what was shown was written down, it was ended, and started; its view shows only so much."""
        self.pass_time(1)
        fresh = self.again(client, login=False)
        fresh.view.sees = set() if sees is None else sees
        fresh.type(f"/login {client.name.partition('-')[0]} {PASSWORD}")
        return fresh

    def second(self, name: str, data: str) -> ChatClient:
        """Another device of an account."""
        client = self.client(data)
        client.view.sees = set()
        client.type(f"/login {name} {PASSWORD}")
        client.view.take()
        return client


class CountTests(AttentionCase):
    """Tests for what counts as unread."""

    def test_counts(self) -> None:
        """What others say counts where it is not seen; a change of it does not, nor one's own, nor what is hidden."""
        self.say("one", "@bob two")
        self.assertEqual((2, 1), counts(self.bob))
        self.say("/edit @bob again", "/me three", "/code four", "/delete")
        self.assertEqual((4, 1), counts(self.bob))
        self.say("five", by=self.bob)
        self.assertEqual((4, 1), counts(self.bob))
        self.assertEqual((0, 0), counts(self.alice))

    def test_followed(self) -> None:
        """What is before its user's eyes is read, and the server is told so."""
        self.bob.view.sees = {"general"}
        self.say("one", "/switch attic", "two")
        self.assertEqual(((0, 0), (1, 0)), (counts(self.bob), counts(self.bob, "attic")))
        self.pass_time(1)
        self.assertEqual((1, 0), (room(self.bob).read, room(self.bob, "attic").read))
        self.assertEqual({"general"}, {asked["room"] for asked in self.bob.wire.asked if asked["cmd"] == "read"})

    def test_private(self) -> None:
        """Every private message calls."""
        self.say("/pm bob one", "/pm bob two")
        self.assertEqual((2, 2), counts(self.bob, "@alice"))

    def test_ignored(self) -> None:
        """Whom one ignores is neither shown, counted nor announced; one who is heard again is."""
        self.say("/ignore alice", by=self.bob)
        self.bob.view.take()
        self.say("@bob one", "/pm bob two", "/me three")
        self.assertEqual([], self.bob.view.take())
        self.assertEqual(((0, 0), (0, 0)), (counts(self.bob), counts(self.bob, "@alice")))
        self.assertEqual([], self.bob.view.alerts)
        self.say("/unignore alice", by=self.bob)
        self.say("@bob four")
        self.assertEqual((1, 1), counts(self.bob))

    def test_marker(self) -> None:
        """The marker is the last one seen before; what is seen counts no more, and the marker stays until more come."""
        panes = Panes(self.bob.core)
        self.bob.view.sees = {"general"}
        self.say("one", "two")
        self.bob.view.sees = set()
        self.say("three", "four")
        self.assertEqual((2, (2, 0)), (panes.marker("general"), counts(self.bob)))
        panes.seen("general")
        self.assertEqual((2, (0, 0)), (panes.marker("general"), counts(self.bob)))
        self.say("five")
        self.assertEqual((4, (1, 0)), (panes.marker("general"), counts(self.bob)))
        self.assertEqual(0, panes.marker("nowhere"))

    def test_going_marks_nothing(self) -> None:
        """To make a room the active one marks nothing of it as read."""
        self.say("one")
        Panes(self.bob.core).go("attic")
        Panes(self.bob.core).go("general")
        self.assertEqual((1, 0), counts(self.bob))

    def test_restart(self) -> None:
        """Counts and marker survive a restart, and what came meanwhile is added."""
        self.say("one", "@bob two")
        bob = self.restarted(self.bob)
        self.assertEqual((2, 1), counts(bob))
        bob.quit()
        self.say("@bob three")
        bob = self.restarted(bob)
        self.assertEqual((3, 2), counts(bob))
        bob.type("/switch general")
        self.assertEqual((3, 2), counts(bob))
        self.assertEqual(["one", "@bob two", "@bob three"], [i.text for i in Panes(bob.core).talk("general")])

    def test_left_and_entered(self) -> None:
        """Of a room that was left and entered again, what was said meanwhile is not unread: it was not for one."""
        self.say("one")
        self.say("/leave general", by=self.bob)
        self.say("two", "three")
        self.say("/join general", by=self.bob)
        self.assertEqual((0, 0), counts(self.bob))
        self.say("four")
        self.assertEqual((1, 0), counts(self.bob))


class DeviceTests(AttentionCase):
    """Tests for one account on two machines."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.second("bob", "bob-2")

    def test_read_elsewhere(self) -> None:
        """What is read on one device is read on the other; what came since counts on."""
        self.say("one", "@bob two", "three")
        self.assertEqual((3, 1), counts(self.other))
        Panes(self.bob.core).seen("general")
        self.pass_time(1)
        self.assertEqual((0, 0), counts(self.other))
        self.say("@bob four")
        self.assertEqual(((1, 1), (1, 1)), (counts(self.bob), counts(self.other)))

    def test_in_part(self) -> None:
        """A marker in the middle leaves what is behind it."""
        self.say("@bob one", "two", "@bob three", "/delete", "four")
        self.other.wire.say(m.ReadEvent(room="general", seq=2))
        self.settle()
        self.assertEqual((1, 0), counts(self.other))
        self.other.wire.say(m.ReadEvent(room="general", seq=1))
        self.other.wire.say(m.ReadEvent(room="attic", seq=5))
        self.other.wire.say(m.ReadEvent(room="nowhere", seq=5))
        self.settle()
        self.assertEqual((1, 0), counts(self.other))
        self.assertEqual(0, room(self.other, "attic").read_to)

    def test_in_part_after_a_restart(self) -> None:
        """Where the messages are not in memory, no more is taken away than may have been read."""
        self.say("@bob one", "two", "three", "@bob four")
        other = self.restarted(self.other)
        self.assertEqual(0, len(room(other).timeline))
        other.wire.say(m.ReadEvent(room="general", seq=2))
        self.settle()
        self.assertEqual(2, room(other).unread)
        other.wire.say(m.ReadEvent(room="general", seq=4))
        self.settle()
        self.assertEqual((0, 0), counts(other))

    def test_read_while_away(self) -> None:
        """What was read on another device while this one was away is not unread here, though it comes only now."""
        self.say("one")
        self.pass_time(1)
        self.other.quit()
        self.say("@bob two", "three")
        Panes(self.bob.core).seen("general")
        self.pass_time(1)
        self.say("four")
        other = self.again(self.other, login=False)
        other.view.sees = set()
        other.type(f"/login bob {PASSWORD}")
        self.assertEqual((1, 0), counts(other))

    def test_fresh_device(self) -> None:
        """A new device does not count what was read before on another."""
        self.say("one", "@bob two")
        Panes(self.bob.core).seen("general")
        self.pass_time(1)
        third = self.second("bob", "bob-3")
        self.assertEqual((0, 0), counts(third))
        self.say("three")
        self.assertEqual((1, 0), counts(third))

    def test_levels_and_ignored_follow(self) -> None:
        """Whom one ignores and what is announced is so on the other device too."""
        self.say("/notify all general", "/ignore alice", by=self.bob)
        self.pass_time(5)
        self.assertEqual("all", self.other.core.attention.level(room(self.other)))
        self.assertEqual({"alice"}, self.other.core.attention.ignored)
        self.say("/unignore alice", by=self.other)
        self.pass_time(5)
        self.assertEqual(set(), self.bob.core.attention.ignored)


class AlertTests(AttentionCase):
    """Tests for what is announced."""

    def test_mentions(self) -> None:
        """A mention and a private message are announced, without what they say."""
        self.say("one", "@bob two", "/pm bob three")
        self.assertEqual(
            [Alert("general", "alice", "alice in general"), Alert("@alice", "alice", "alice writes to you")],
            self.bob.view.alerts,
        )

    def test_text(self) -> None:
        """What they say is told where its user wants it."""
        self.say("/set notify-text on", by=self.bob)
        self.say("@bob two")
        self.assertEqual([Alert("general", "alice", "alice in general", "@bob two")], self.bob.view.alerts)

    def test_levels(self) -> None:
        """All of a room's messages may be announced, or none; of one's own none ever."""
        for level, count in (("all", 2), ("none", 0), ("mentions", 1)):
            self.say(f"/notify {level} general", by=self.bob)
            self.bob.view.alerts.clear()
            self.say("one", "@bob two")
            self.say("three", by=self.bob)
            self.assertEqual(count, len(self.bob.view.alerts), level)
        self.assertEqual([], self.alice.view.alerts)

    def test_missed(self) -> None:
        """What was missed is counted and not announced."""
        self.bob.quit()
        self.say("@bob one", "/pm bob two")
        bob = self.restarted(self.bob)
        self.assertEqual(((1, 1), (1, 1)), (counts(bob), counts(bob, "@alice")))
        self.assertEqual([], bob.view.alerts)
        self.say("@bob three")
        self.assertEqual(1, len(bob.view.alerts))

    def test_level_survives(self) -> None:
        """What is announced is so after a restart; /notify says what is."""
        self.say("/notify none general", by=self.bob)
        bob = self.restarted(self.bob)
        self.assertEqual(["general: nothing is announced (none)."], bob.type("/notify general")[-1:])
        self.assertTrue(next(state for state in bob.core.attention.states() if state.where == "general").muted)


class ListTests(AttentionCase):
    """Tests for the list of conversations, and ways through it."""

    def test_states(self) -> None:
        """Rooms, then people, each by name, with what a list of them shows."""
        self.say("/topic what is up", "@bob one", "/pm bob two")
        self.bob.core.drafts.put("attic", "half")
        self.assertEqual(
            (
                RoomState("attic", draft=True),
                RoomState("general", 1, 1, active=True, topic="what is up"),
                RoomState("@alice", 1, 1),
            ),
            self.bob.core.attention.states(),
        )
        self.assertEqual(["general: 1 unread, 1 for you", "@alice: 1 unread"], self.bob.type("/unread")[-2:])

    def test_nothing_unread(self) -> None:
        """That nothing is unread is said."""
        self.assertEqual(["Nothing is unread."], self.bob.type("/unread"))

    def test_next_active(self) -> None:
        """Those that call come first, the most recent of them; muted ones last; never the one that is open."""
        panes = Panes(self.bob.core)
        self.assertEqual("", panes.next_active())
        self.say("/join cellar", by=self.bob)
        for line in (
            "one",
            "/switch attic",
            "two",
            "/join cellar",
            "three",
            "/pm bob four",
            "/switch attic",
            "@bob five",
        ):
            self.pass_time(1)
            self.say(line)
        visited = []
        while where := panes.next_active():
            visited.append(where)
            panes.go(where)
            panes.seen(where)
        self.assertEqual(["attic", "@alice", "cellar", "general"], visited)
        self.say("/notify none attic", by=self.bob)
        self.say("@bob six", "/switch cellar", "seven")
        self.assertEqual("cellar", panes.next_active())

    def test_next_room(self) -> None:
        """Round the list in both directions."""
        panes = Panes(self.bob.core)
        self.say("/pm bob hello")
        self.assertEqual(["@alice", "attic", "general"], [panes.next_room(step) for step in (1, -1, 3)])

    def test_visited(self) -> None:
        """Back and forward among those that were open."""
        panes = Panes(self.bob.core)
        for where in ("attic", "general", "attic"):
            panes.go(where)
        found = []
        for step in (-1, -1, 1, 1, 1):
            found.append(panes.visited(step))
            if found[-1]:
                panes.go(found[-1])
        self.assertEqual(["general", "attic", "general", "attic", ""], found)

    def test_switch(self) -> None:
        """A few letters are enough where they fit one alone."""
        for room_name in ("general-2", "ops"):
            self.say(f"/join {room_name}", by=self.bob)
        self.say("/pm bob hello")
        for typed, said in (
            ("gen", "gen fits general, general-2."),
            ("general", "general is active."),
            ("l-2", "general-2 is active."),
            ("#OPS", "ops is active."),
            ("al", "@alice is active."),
            ("@ALICE", "@alice is active."),
            ("atc", "attic is active."),
            ("xyz", "You are not in xyz."),
        ):
            self.assertIn(said, self.bob.type(f"/switch {typed}")[-1])


class FuzzyTests(SynchronousTestCase):
    """Tests for how well a few letters fit a title."""

    def test_order(self) -> None:
        """The whole name, its beginning, a piece of it, its letters in their order; the nearer the better."""
        fits = [fuzzy("ops", title) for title in ("ops", "@ops", "ops-2", "ops-23", "devops", "o-p-s", "oh-pps")]
        self.assertNotIn(None, fits)
        self.assertEqual(fits, sorted(fits, key=lambda fit: fit or ()))
        self.assertEqual(fits[0], fits[1])

    def test_none(self) -> None:
        """Letters that are not there, or not in this order, fit nothing; another room of a name says so itself."""
        for typed, title in (("x", "ops"), ("spo", "ops"), ("opss", "ops"), ("ops", "ops#4f2a")):
            self.assertIsNone(fuzzy(typed, title))
        self.assertEqual((0, 0), fuzzy("ops#4f2a", "ops#4f2a"))
        self.assertEqual((0, 0), fuzzy("#OPS", "ops"))
