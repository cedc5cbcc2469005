"""Tests for who is there and who is typing."""

from __future__ import annotations

from securechat.client.panes import Panes
from securechat.errors import Exit
from securechat.wire import messages as m
from tests.doubles import ChatCase, ChatClient


class CompanyCase(ChatCase):
    """Two people in a room, with nothing wanted yet."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.view.take()

    def want(self, *clients: ChatClient, what: str = "typing") -> None:
        """These choose to tell and to be told."""
        for client in clients:
            self.assertEqual(Exit.OK, client.exit(f"/set {what} on"))
        self.settle()
        for client in self.clients:
            client.view.take()

    def types(self, client: ChatClient, text: str, where: str = "general") -> None:
        """Somebody has typed so much."""
        Panes(client.core).set_draft(where, text)
        self.settle()

    def typing(self, client: ChatClient, where: str = "general") -> tuple[str, ...]:
        """Who types, as a client knows it."""
        return client.core.company.who(where)


class TypingTests(CompanyCase):
    """Tests for who is typing."""

    def test_both_want(self) -> None:
        """Who types is told to those who tell the same, while it lasts; a prompt hears of it and of its end."""
        self.want(self.alice, self.bob)
        self.types(self.bob, "hel")
        self.assertEqual(("bob",), self.typing(self.alice))
        self.assertEqual(("bob",), self.alice.view.states[-1].typing)
        self.pass_time(5.9)
        self.assertEqual(("bob",), self.typing(self.alice))
        self.pass_time(0.2)
        self.assertEqual((), self.typing(self.alice))
        self.assertEqual((), self.alice.view.states[-1].typing)
        self.assertEqual((), self.typing(self.bob))

    def test_flood(self) -> None:
        """However often the server says it, there is one timer, and its end is seen in time."""
        self.want(self.alice, self.bob)
        waiting = len(self.reactor.getDelayedCalls())
        for _ in range(50):
            self.alice.wire.say(m.TypingEvent(room="general", user="bob"))
        self.settle()
        self.assertEqual(waiting + 1, len(self.reactor.getDelayedCalls()))
        self.pass_time(3)
        self.alice.wire.say(m.TypingEvent(room="general", user="bob"))
        self.pass_time(5.9)
        self.assertEqual(("bob",), self.alice.view.states[-1].typing)
        self.pass_time(0.2)
        self.assertEqual((), self.alice.view.states[-1].typing)

    def test_one_wants(self) -> None:
        """Who does not tell is not told, and the other way round."""
        for one, other in ((self.alice, self.bob), (self.bob, self.alice)):
            for client in (one, other):
                client.type("/set typing off")
            self.want(one)
            before = other.wire.commands.count("typing")
            self.types(one, "a")
            self.types(other, "b")
            self.assertEqual(((), ()), (self.typing(one), self.typing(other)))
            self.assertEqual(before, other.wire.commands.count("typing"))

    def test_not_wanted_any_more(self) -> None:
        """What a server says of it all the same is not shown."""
        self.alice.wire.say(m.TypingEvent(room="general", user="bob"))
        self.assertEqual((), self.typing(self.alice))

    def test_not_with_every_key(self) -> None:
        """It is told every three seconds at most, each conversation for itself; a command is no message."""
        self.want(self.alice, self.bob)
        self.bob.type("/join attic")
        for text in ("h", "he", "hel"):
            self.types(self.bob, text)
        self.types(self.bob, "x", "attic")
        self.assertEqual(2, self.bob.wire.commands.count("typing"))
        self.pass_time(2.9)
        self.types(self.bob, "hell")
        self.assertEqual(2, self.bob.wire.commands.count("typing"))
        self.pass_time(0.2)
        for text in ("hell", "", "/join attic", "  /login bob secret"):
            self.types(self.bob, text)
        self.assertEqual(2, self.bob.wire.commands.count("typing"))
        self.types(self.bob, "hello")
        self.assertEqual(3, self.bob.wire.commands.count("typing"))

    def test_spoke(self) -> None:
        """Whoever has sent it is not typing it any more."""
        self.want(self.alice, self.bob)
        self.types(self.bob, "hello")
        self.bob.type("hello")
        self.assertEqual((), self.typing(self.alice))

    def test_private(self) -> None:
        """In private it is the other one alone who can be typing."""
        self.want(self.alice, self.bob)
        self.alice.type("/pm bob hello")
        self.types(self.bob, "x", "@alice")
        self.assertEqual((("bob",), ()), (self.typing(self.alice, "@bob"), self.typing(self.alice)))

    def test_who_cannot(self) -> None:
        """Nobody types where they are not, whom one ignores, nor oneself on another device."""
        self.registered("carol")
        self.want(self.alice, self.bob)
        self.alice.type("/ignore bob")
        for user in ("bob", "carol", "alice", "nobody"):
            self.alice.wire.say(m.TypingEvent(room="general", user=user))
        self.alice.wire.say(m.TypingEvent(room="nowhere", user="bob"))
        self.assertEqual((), self.typing(self.alice))
        self.assertEqual((), self.typing(self.alice, "nowhere"))

    def test_offline(self) -> None:
        """Without a connection nothing is told, and nothing is owed."""
        self.want(self.alice, self.bob)
        self.network.go_down()
        self.settle()
        self.types(self.bob, "hello")
        self.network.come_back()
        self.pass_time(40)
        self.assertEqual((), self.typing(self.alice))
        self.types(self.bob, "hello?")
        self.assertEqual(("bob",), self.typing(self.alice))


class PresenceTests(CompanyCase):
    """Tests for who is there."""

    def words(self, client: ChatClient) -> dict[str, str]:
        """What is said beside the members of the room."""
        return dict(Panes(client.core).members("general"))

    def test_both_want(self) -> None:
        """Who shares it is online to those who do; to nobody else, nor after they stopped."""
        self.want(self.alice, self.bob, what="presence")
        self.assertIn("online", self.words(self.alice)["bob"])
        self.assertIn("online", self.words(self.bob)["alice"])
        carol = self.registered("carol", "general")
        self.assertNotIn("online", self.words(self.alice)["carol"])
        self.assertNotIn("online", self.words(carol)["bob"])
        self.bob.quit()
        self.assertNotIn("online", self.words(self.alice)["bob"])
        self.alice.type("/set presence off")
        self.assertNotIn("online", repr(self.words(self.alice)))

    def test_back(self) -> None:
        """Who is there is known again after the connection was lost, also by those who come back first."""
        self.want(self.alice, self.bob, what="presence")
        self.network.go_down()
        self.settle()
        self.assertNotIn("online", repr((self.words(self.alice), self.words(self.bob))))
        self.assertLess(0.0, self.alice.view.states[-1].retry_at)
        self.network.come_back()
        self.pass_time(40)
        self.assertEqual(0.0, self.alice.view.states[-1].retry_at)
        self.assertIn("online", self.words(self.alice)["bob"])
        self.assertIn("online", self.words(self.bob)["alice"])

    def test_still_sends(self) -> None:
        """To choose it while online holds nothing up: what is typed afterwards goes."""
        self.want(self.alice, what="presence")
        self.assertEqual(["[general] <alice> one"], self.alice.type("one"))
        self.alice.type("/set typing on")
        self.alice.type("/set presence off")
        self.assertEqual(["[general] <alice> two"], self.alice.type("two"))

    def test_nothing_twice(self) -> None:
        """Choosing it catches up anew: no message is shown or counted twice, and none is lost."""
        self.bob.type("one")
        self.alice.view.take()
        self.want(self.alice, what="presence")
        self.bob.type("two")
        self.assertEqual(["[general] <bob> two"], self.alice.view.take())
        self.assertEqual(["one", "two"], [item.text for item in Panes(self.alice.core).talk("general")])

    def test_members(self) -> None:
        """Roles, oneself and trust stand beside names."""
        self.assertEqual({"alice": "owner, you", "bob": ""}, self.words(self.alice))
        self.assertEqual((), Panes(self.alice.core).members("@bob"))
