"""Tests for what a view with panes asks of the core: what is in memory, drawn, and older messages brought to it."""

from __future__ import annotations

import random
from typing import Any, Final

from securechat.client import attention, scrollback
from securechat.client import panes as module
from securechat.client.conversations import Conversation
from securechat.client.kept import Kept
from securechat.client.panes import Panes
from securechat.client.scrollback import SCREEN, STRETCH
from securechat.client.telling import fold, item_of
from securechat.client.view import Item, Message
from securechat.crypto.body import Body, Delete, Edit, React, Text, to_text
from securechat.errors import INTERNAL, Exit
from tests.doubles import PASSWORD, ChatCase, ChatClient

SEED: Final = 20261124


def kept(seq: int, body: Body, sender: str = "bob", hidden: str = "") -> Kept:
    """A message as it lies in memory."""
    text, author = ("", "") if hidden else (to_text(body), f"{sender} 1")
    return Kept(seq, 1_700_000_000_000 + seq, sender, author, f"{seq:064x}", text, "", hidden, "message{s} not shown")


class PanesCase(ChatCase):
    """One person alone in a room, and another who may come."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.panes = Panes(self.alice.core)
        self.made = 0

    @property
    def general(self) -> Conversation:
        """The room."""
        conversation = self.alice.core.conversations.labelled("general")
        assert conversation is not None
        return conversation

    def counted(self) -> None:
        """From now on `made` says how many items were made."""

        def made(*arguments: Any, **more: Any) -> Item:
            self.made += 1
            return item_of(*arguments, **more)

        self.patch(module, "item_of", made)

    def whole(self) -> list[Item]:
        """What is to be drawn, made without any memory."""
        ignored = self.alice.core.attention.ignored
        shown = (entry for entry in self.general.timeline if entry.kept.sender not in ignored)
        return fold(item_of(entry, self.general, "alice", timed=True) for entry in shown)


class TalkTests(PanesCase):
    """Tests for the list of items."""

    def test_same(self) -> None:
        """It is the same list until something changes, and another one then: nobody's list changes under them."""
        self.assertEqual((), self.panes.talk("nowhere"))
        self.alice.type("one")
        first = self.panes.talk("general")
        self.assertIs(first, self.panes.talk("general"))
        before = list(first)
        self.alice.type("two")
        self.assertEqual(before, list(first))
        self.assertEqual(
            ["one", "two"], [item.text for item in self.panes.talk("general") if isinstance(item, Message)]
        )

    def test_one_of_many(self) -> None:
        """Where one of 20,000 is new or changed, one item is made."""
        self.general.timeline.take_all(kept(seq, Text(f"{seq}")) for seq in range(1, 20_001))
        self.panes.talk("general")
        self.counted()
        target = f"{7:064x}"
        for seq, body in enumerate((Text("new"), Edit(target, "7!"), React(target, "+"), Text("yes", target)), 20_001):
            self.made = 0
            self.general.timeline.take(kept(seq, body))
            drawn = self.panes.talk("general")
            self.assertEqual(1, self.made)
        self.made = 0
        self.general.timeline.take(kept(20_010, Delete(target)))
        self.assertEqual(self.whole(), list(self.panes.talk("general")))
        self.assertEqual(2, self.made)  # the message, and the one that answers it
        self.assertEqual(20_002, len(drawn))

    def test_always_right(self) -> None:
        """Whatever happens in whatever order: the list is what it would be if it were made from nothing."""
        dice = random.Random(SEED)
        for _ in range(60):
            self.general.timeline = type(self.general.timeline)()
            for _ in range(dice.randrange(1, 40)):
                seq, target = dice.randrange(1, 40), f"{dice.randrange(1, 40):064x}"
                body = dice.choice((
                    Text(f"{seq}"), Text(f"{seq}"), Text("re", target),
                    Edit(target, "x"), Delete(target), React(target, "+"),
                ))  # fmt: skip
                hidden = "DAMAGED" if dice.random() < 0.2 else ""
                if dice.random() < 0.05:
                    self.general.timeline.keep_newest(5)
                self.general.timeline.take(kept(seq, body, dice.choice(("bob", "alice")), hidden))
                if dice.random() < 0.6:
                    self.assertEqual(self.whole(), list(self.panes.talk("general")))
            self.assertEqual(self.whole(), list(self.panes.talk("general")))

    def test_quote_follows(self) -> None:
        """A message that answers one which is changed, or comes into memory later, is drawn anew."""
        self.general.timeline.take(kept(5, Text("yes", f"{2:064x}")))
        quotes = []
        for each in (kept(2, Text("secret")), kept(6, Edit(f"{2:064x}", "public")), kept(7, Delete(f"{2:064x}"))):
            self.panes.talk("general")
            self.general.timeline.take(each)
            item = next(i for i in self.panes.talk("general") if isinstance(i, Message) and i.seq == 5)
            quotes.append(item.quote and item.quote.text)
        self.assertEqual(["secret", "public", ""], quotes)

    def test_forgotten(self) -> None:
        """After /forget, or as somebody else, nothing of the list before is drawn, whatever the numbers are."""
        self.alice.type("one")
        self.assertEqual(1, len(self.panes.talk("general")))
        self.alice.type("/forget general yes")
        self.assertEqual((), tuple(self.panes.talk("general")))
        self.alice.type("two")
        self.assertEqual(["two"], [item.text for item in self.panes.talk("general") if isinstance(item, Message)])

    def test_ignored(self) -> None:
        """Whom one ignores is not drawn, at once; and again when heard."""
        self.registered("bob")
        self.general.timeline.take_all((kept(1, Text("one")), kept(2, Text("two"), "alice")))
        seen = []
        for line in ("/switch general", "/ignore bob", "/unignore bob"):
            self.alice.type(line)
            seen.append(len(self.panes.talk("general")))
        self.assertEqual([2, 1, 2], seen)
        self.assertEqual(["general"], self.alice.view.places[-1:])

    def test_pending(self) -> None:
        """What is not stored yet, and why."""
        self.network.go_down()
        self.settle()
        self.alice.start("half way")
        self.assertEqual([("half way", "waiting")], list(self.panes.pending("general")))
        self.assertEqual([], list(self.panes.pending("attic")))
        self.network.come_back()
        self.pass_time(40)
        self.assertEqual([], list(self.panes.pending("general")))

    def test_client(self) -> None:
        """It is a client as the core is."""
        self.assertFalse(self.panes.exiting)
        self.assertEqual((5, ["/join"]), self.panes.complete("/join"))
        self.assertEqual("auto", self.panes.preference("color"))
        self.assertEqual(Exit.USAGE, self.successResultOf(self.start(self.panes.submit("/join"))))
        closing = self.start(self.panes.close(1.0))
        self.settle()
        self.assertEqual(Exit.OK, self.successResultOf(closing))


class ScrollbackTests(PanesCase):
    """Tests for older messages."""

    COUNT: Final = 2 * STRETCH + 50

    def fill(self, count: int) -> None:
        """Messages that lie on alice's disk and are newest there, without a server that has them."""
        for seq in range(1, count + 1):
            self.alice.core.saving.archived(self.general, kept(seq, Text(f"{seq}")))
        self.general.restart(count, "ab" * 32)
        self.pass_time(1)

    def older(self, client: ChatClient | None = None) -> int:
        """Brings a stretch; how many messages."""
        done = self.start(Panes((client or self.alice).core).older("general"))
        self.settle()
        return self.successResultOf(done)

    def texts(self, client: ChatClient) -> list[str]:
        """What is in memory."""
        return [i.text if isinstance(i, Message) else "?" for i in Panes(client.core).talk("general")]

    def test_from_disk(self) -> None:
        """A screenful is there when a room is opened, then a stretch at a time, to the first message and no further."""
        self.fill(self.COUNT)
        self.panes.go("general")
        self.settle()
        self.assertEqual(STRETCH, len(self.panes.talk("general")))
        self.assertGreaterEqual(STRETCH, SCREEN)
        self.assertEqual([STRETCH, 50, 0, 0], [self.older() for _ in range(4)])
        self.assertEqual([f"{seq}" for seq in range(1, self.COUNT + 1)], self.texts(self.alice))
        self.assertNotIn("history", self.alice.wire.commands)

    def test_unread_is_there(self) -> None:
        """All that is unread is in memory when a room is opened, however much it is."""
        self.fill(self.COUNT)
        self.general.unread, self.general.read_to = self.COUNT - 20, 20
        self.panes.go("general")
        self.settle()
        self.assertLessEqual(self.general.timeline.first, 21)

    def test_at_once(self) -> None:
        """Two that ask for more at the same time get it once."""
        client = self.forgetful(3)
        client.wire.held = True
        first, second = (self.start(Panes(client.core).older("general")) for _ in range(2))
        self.assertEqual(0, self.successResultOf(second))
        client.wire.held = False
        self.settle()
        self.assertEqual(3, self.successResultOf(first))

    def test_nowhere(self) -> None:
        """Of a conversation that there is not, none are older."""
        self.assertEqual(0, self.successResultOf(self.start(self.panes.older("attic"))))

    def talked(self, count: int) -> ChatClient:
        """Another device of alice's, set up after so many messages, with none of them on its disk."""
        for number in range(1, count + 1):
            self.alice.type(f"{number}")
        fresh = self.client("alice-2")
        fresh.type(f"/login alice {PASSWORD}")
        conversation = fresh.core.conversations.labelled("general")
        assert conversation is not None
        return fresh

    def forgetful(self, count: int) -> ChatClient:
        """Alice with nothing in memory nor on disk of what she saw."""
        self.talked(count)
        self.alice.type("/forget general yes")
        self.settle()
        return self.alice

    def test_from_server(self) -> None:
        """What is not on disk the server gives, to the first message; it is kept from then on."""
        client = self.forgetful(5)
        self.assertEqual([5, 0], [self.older(client), self.older(client)])
        self.assertEqual(["1", "2", "3", "4", "5"], self.texts(client))
        self.pass_time(1)
        again = self.again(client)
        again.type("/switch general")
        self.assertEqual(["1", "2", "3", "4", "5"], self.texts(again))
        self.assertNotIn("history", again.wire.commands)

    def test_gap(self) -> None:
        """Where messages are missing on disk, those come from the server, and then older ones from the disk again."""
        client = self.forgetful(6)
        self.older(client)
        conversation = client.core.conversations.labelled("general")
        assert conversation is not None and client.core.archive is not None
        some = [entry.kept for entry in conversation.timeline if entry.seq in (1, 2, 6)]
        client.type("/forget general yes")
        for each in some:
            client.core.archive.put(conversation.id, each)
        asked = client.wire.commands.count("history")
        self.assertEqual(1, self.older(client))
        self.assertEqual(["6"], self.texts(client))
        self.assertEqual(asked, client.wire.commands.count("history"))
        self.older(client)
        self.assertEqual(["1", "2", "3", "4", "5", "6"], self.texts(client))
        self.assertEqual(asked + 1, client.wire.commands.count("history"))

    def test_offline(self) -> None:
        """Without a server there is what is on disk; with one that refuses, nothing is lost."""
        client = self.forgetful(3)
        self.network.refuse("history", INTERNAL)
        self.assertEqual(0, self.older(client))
        self.network.go_down()
        self.settle()
        self.assertEqual(0, self.older(client))
        self.network.come_back()
        self.pass_time(40)
        self.assertEqual(3, self.older(client))

    def test_from_where_one_entered(self) -> None:
        """Whoever joined later is not given what was said before, and does not ask for it for ever."""
        for number in range(3):
            self.alice.type(f"{number}")
        bob = self.registered("bob", "general")
        self.alice.type("hello")
        bob.type("/forget general yes")
        self.assertEqual([1, 0], [self.older(bob), self.older(bob)])
        self.assertEqual(["hello"], self.texts(bob))
        self.assertEqual(1, bob.wire.commands.count("history"))

    def test_active_let_go(self) -> None:
        """The active one keeps more, and not without end."""
        self.patch(attention, "ACTIVE_IN_MEMORY", 3)
        bob = self.registered("bob", "general")
        for number in range(1, 9):
            self.alice.type(f"{number}")
            self.assertLessEqual(len(self.texts(bob)), 6)
        self.assertEqual("8", self.texts(bob)[-1])

    def test_very_much_unread(self) -> None:
        """Of very much that is unread the newest are brought when the room is opened; scrolling brings the others."""
        self.patch(scrollback, "UNREAD", 10)
        self.patch(scrollback, "SCREEN", 2)
        self.patch(scrollback, "STRETCH", 4)
        bob = self.registered("bob", "general", "attic")
        bob.view.sees = {"attic"}
        for number in range(1, 31):
            self.alice.type(f"{number}")
        self.pass_time(1)
        bob = self.again(bob)
        bob.type("/switch general")
        self.assertEqual([f"{number}" for number in range(19, 31)], self.texts(bob))
        self.older(bob)
        self.assertEqual("15", self.texts(bob)[0])

    def test_let_go(self) -> None:
        """A room that nobody looks at keeps its newest messages in memory; the others come back from disk."""
        self.patch(attention, "IN_MEMORY", 3)
        bob = self.registered("bob", "attic", "general")
        bob.type("/switch attic")
        for number in range(1, 9):
            self.alice.type(f"{number}")
        self.assertLessEqual(len(self.texts(bob)), 6)
        self.pass_time(1)
        bob.type("/switch general")
        self.assertEqual([f"{number}" for number in range(1, 9)], self.texts(bob))
