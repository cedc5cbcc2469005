"""Tests for kinds of messages between two clients: sent, told, drawn, kept, and refused where they do not count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from twisted.internet.task import deferLater

from securechat.client.conversations import Conversation
from securechat.client.kept import Kept
from securechat.client.panes import Panes
from securechat.client.view import Message, Quote, Unshown
from securechat.crypto.body import Body, Delete, Edit, React, to_text
from securechat.errors import Exit
from securechat.wire import limits
from tests.doubles import PASSWORD, ChatCase, ChatClient


def ids(client: ChatClient, where: str = "general") -> dict[int, str]:
    """The ids of messages by their number, as a client has them in memory."""
    conversation = client.core.conversations.titled(where)
    assert conversation is not None
    return {entry.seq: entry.kept.id for entry in conversation.timeline}


class TalkCase(ChatCase):
    """Two people in a room, whose views follow everything."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.view.take()

    def say(self, client: ChatClient, *lines: str) -> None:
        """Types lines that must be done, and forgets what they showed."""
        for line in lines:
            self.assertEqual(Exit.OK, client.exit(line), client.view.text)
        for each in self.clients:
            each.view.take()

    def post(self, client: ChatClient, body: Body, where: str = "general") -> None:
        """Sends a body that a client of ours would not send."""
        assert client.core.outbox is not None
        conversation = client.core.conversations.titled(where)
        self.start(client.core.outbox.put(where, to_text(body), None, "" if conversation is None else conversation.id))
        self.settle()

    def all_and_again(self) -> Iterator[ChatClient]:
        """Both, and the second one once more after it was ended and started."""
        yield from (self.alice, self.bob)
        self.pass_time(1)
        yield self.again(self.bob)

    def told(self, client: ChatClient, line: str, *other: str) -> None:
        """What both are told once somebody has typed a line; `other`: what the other one is told instead."""
        mine = client.type(line)
        (theirs,) = [each.view.take() for each in self.clients if each is not client and each.core.account is not None]
        self.assertEqual(list(other) or mine, theirs)
        self.lines = mine

    def talk(self, client: ChatClient, where: str = "general") -> Sequence[Any]:
        """What a view with panes draws."""
        return Panes(client.core).talk(where)

    def pages(self, client: ChatClient) -> str:
        """Everything that a client keeps of messages on disk, in clear."""
        self.pass_time(1)
        assert client.core.account is not None
        found: list[Any] = []
        after: bytes | None = b""
        while after is not None:
            some, after = self.do(
                client.core.account.store.sweep(after, 32, list[Kept], lambda name, kept, size: repr(kept))
            )
            found += some
        return "\n".join(found)


class KindTests(TalkCase):
    """Tests for each kind, told in plain lines."""

    def test_told(self) -> None:
        """Each kind is said in one line that reads by itself, to both."""
        for client, line, expected in (
            (self.alice, "hello", "[general] <alice> hello"),
            (self.bob, "/reply hi", '[general] <bob to alice "hello"> hi'),
            (self.alice, "/me waves", "[general] * <alice> waves"),
            (self.alice, "/code python: x = 1", "[general] <alice> code (python): ⏎ x = 1"),
            (self.alice, "/code x = 1", "[general] <alice> code: ⏎ x = 1"),
            (self.alice, "```sh\nls\n  -l\n```", "[general] <alice> code (sh): ⏎ ls ⏎   -l"),
            (self.bob, "/react 👍", '[general] * bob reacted 👍 to alice\'s "ls -l"'),
            (self.bob, "/react 👍", '[general] * bob took back 👍 from alice\'s "ls -l"'),
            (self.bob, "/react #1 +1", '[general] * bob reacted +1 to alice\'s "hello"'),
            (self.bob, "/react @alice +1", '[general] * bob reacted +1 to alice\'s "ls -l"'),
            (self.bob, "/edit hi!", '[general] * bob changed "hi": hi!'),
            (self.alice, "/edit #1 hello all", '[general] * alice changed "hello": hello all'),
            (self.bob, "/reply #1 and you", '[general] <bob to alice "hello all"> and you'),
            (self.bob, "/reply @alice nice", '[general] <bob to alice "ls -l"> nice'),
        ):
            self.told(client, line)
            self.assertEqual([expected], self.lines)
        self.told(self.alice, "/delete #1", '[general] * alice deleted "hello all"')
        self.assertEqual('[general] * alice deleted "hello all"', self.lines[0])
        self.assertIn("Who has read it may remember it.", self.lines[1])
        self.told(self.bob, "/reply #2 myself", '[general] <bob to bob "hi!"> myself')

    def test_stands(self) -> None:
        """In panes, in the history, and after a restart, each message stands as it is now."""
        self.say(self.alice, "hello", "/me waves", "/code python: x = 1")
        self.say(self.bob, "/reply #1 hi", "/react #2 👍", "/edit hi there", "/reply @alice gone", "/delete")
        self.say(self.alice, "/edit #1 hello @bob")
        expected = [
            Message("general", "alice", "hello @bob", mention=False, edited=True),
            Message("general", "alice", "waves", kind="me", reactions=(("👍", ("bob",)),)),
            Message("general", "alice", "x = 1", kind="code", lang="python"),
            Message("general", "bob", "hi there", quote=Quote("alice", "hello @bob"), edited=True),
            Message("general", "bob", "", deleted=True),
        ]
        for client in self.all_and_again():
            client.type("/switch general")
            for items in (self.talk(client), self.history(client)):
                self.assertEqual(
                    [(m.sender, m.text, m.kind, m.lang, m.edited, m.deleted, m.reactions) for m in expected],
                    [(m.sender, m.text, m.kind, m.lang, m.edited, m.deleted, m.reactions) for m in items],
                )
                self.assertEqual(Quote("alice", "hello @bob"), items[3].quote)
                self.assertEqual(client.name == "bob", items[0].mention)
                self.assertEqual([item.sender == client.name for item in items], [item.own for item in items])

    def history(self, client: ChatClient) -> Sequence[Any]:
        """What /history shows."""
        before = len(client.view.items)
        client.type("/history general")
        return client.view.items[before:]

    def test_private(self) -> None:
        """All of it works in private too, whoever begins."""
        self.say(self.alice, "/pm bob one", "/pm bob", "two", "/me three")
        self.assertEqual("@bob", self.alice.core.conversations.active)
        self.say(self.bob, "/pm alice", "/reply #1 four")
        self.told(self.bob, "/react #3 👍", '[@bob] * bob reacted 👍 to alice\'s "three"')
        self.assertEqual(['[@alice] * bob reacted 👍 to alice\'s "three"'], self.lines)
        self.told(self.alice, "/delete #2", '[@alice] * alice deleted "two"')

    def test_most_text(self) -> None:
        """A text of the most bytes goes; with what an answer carries beside it, one is told that it is too much."""
        self.say(self.bob, "x" * limits.MAX_TEXT)
        self.assertEqual(Exit.OK, self.alice.exit("/reply " + "y" * (limits.MAX_TEXT - 200)))
        before = self.alice.core.conversations.labelled("general")
        assert before is not None
        for line in (
            "/reply " + "y" * (limits.MAX_TEXT - 40),
            "/edit " + "ü" * (limits.MAX_TEXT // 2),
            "/me " + '"' * (limits.MAX_TEXT - 100),
            "/code " + "\n" * 100 + "z" * limits.MAX_TEXT,
        ):
            cursor = before.cursor
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line))
            self.assertIn("Send it in parts.", self.alice.view.take()[-1])
            self.assertEqual(cursor, before.cursor)

    def test_no_text(self) -> None:
        """What is no text is not sent in any kind: nobody could show it."""
        self.say(self.bob, "hello")
        for line in (
            "/me a\0b",
            "/reply a\0b",
            "/code a\0b",
            "/react \0",
            "/me \udc80",
            "/reply \udc80",
            "/react \udc80",
        ):
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line), line)
            self.assertIn("Nothing was sent.", self.alice.view.take()[-1])
        self.assertEqual([], self.bob.view.take())

    def test_mentions(self) -> None:
        """Only members are called, never oneself; an edit calls anew; nobody is called in code."""
        self.registered("carol")
        self.say(self.alice, "@bob @carol @alice see", "/me asks @bob", "/code @bob", "/edit #1 see @carol", "plain")
        self.assertEqual([False, True, False, False], [item.mention for item in self.talk(self.bob)])
        self.assertEqual([False] * 4, [item.mention for item in self.talk(self.alice)])
        self.say(self.bob, "/pm alice @alice @carol")
        self.assertEqual([True], [item.mention for item in self.talk(self.alice, "@bob")])

    def test_which(self) -> None:
        """Without a name the newest of others is meant, or one's own; what cannot be meant is said."""
        for line, said in (
            ("/reply yes", "Nothing of others is at hand here."),
            ("/edit yes", "Nothing of yours is at hand here."),
            ("/delete", "Nothing of yours is at hand here."),
        ):
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line))
            self.assertIn(said, self.alice.view.take()[-1])
        self.say(self.alice, "mine")
        self.say(self.bob, "yours")
        for line, said in (
            ("/edit #2 x", "That message is bob's: only its author can change it."),
            ("/delete #2", "That message is bob's: only its author can change it."),
            ("/delete mine", "Name the message by its number, or type /delete alone for your newest."),
            ("/reply #9 x", "There is no message #9 here."),
            ("/reply @carol x", "Nothing of carol is at hand here."),
            ("/reply #2", 'Say what: the message meant is "yours".'),
            ("/react two words", "A reaction is one emoji, or one short word"),
            ("/react " + "x" * 33, "A reaction is one emoji, or one short word"),
        ):
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line), line)
            self.assertIn(said, self.alice.view.take()[-1])
        self.say(self.alice, "/reply #2\ntwo lines")
        self.assertEqual(
            ("two lines", Quote("bob", "yours")), (self.talk(self.bob)[-1].text, self.talk(self.bob)[-1].quote)
        )

    def test_no_such_number(self) -> None:
        """A number that no message has, were it thousands of digits long, is said to be none."""
        self.say(self.alice, "hello")
        for number in ("7", "9" * 5000):
            for line in (f"/edit #{number} x", f"/delete #{number}", f"/react #{number} +1"):
                self.assertEqual(Exit.FIXABLE, self.alice.exit(line), line[:9])

    def test_ignored_is_not_meant(self) -> None:
        """Whom one ignores is answered by name alone, and is not in what the history shows."""
        carol = self.registered("carol", "general")
        self.say(self.bob, "one")
        self.say(carol, "two", "/react 👍")
        self.say(self.alice, "/ignore carol", "/reply yes")
        self.assertEqual(Quote("bob", "one"), self.talk(self.alice)[-1].quote)
        self.assertEqual(["bob", "alice"], [item.sender for item in self.talk(self.alice)])
        self.assertNotIn("carol>", "\n".join(self.alice.type("/history")))
        self.say(self.alice, "/unignore carol")
        self.assertEqual(["bob", "carol", "alice"], [item.sender for item in self.talk(self.alice)])


class RefusedTests(TalkCase):
    """Tests for changes that do not count."""

    BODIES: ClassVar[Sequence[Any]] = (lambda id: Edit(id, "forged"), lambda id: Delete(id))

    def test_anothers(self) -> None:
        """Nobody changes what another said; it is said that they tried."""
        self.say(self.alice, "hello")
        for make, said in zip(self.BODIES, ("change", "delete"), strict=True):
            self.post(self.bob, make(ids(self.alice)[1]))
            line = f"[general] 1 message not shown: bob wants to {said} a message, but the message is alice's"
            self.assertEqual([line], self.alice.view.take())
            self.assertEqual([line], self.bob.view.take())
        self.assertEqual([("hello", False, False)], [(m.text, m.edited, m.deleted) for m in self.talk(self.alice)])

    def test_elsewhere(self) -> None:
        """A message of another conversation, or of none, is not reached."""
        self.say(self.alice, "/join attic", "in the attic", "/switch general", "hello")
        for id in (ids(self.alice, "attic")[1], "ab" * 32):
            self.post(self.alice, Edit(id, "forged"))
            self.post(self.alice, Delete(id))
            self.post(self.alice, React(id, "+1"))
        self.assertEqual(
            ["changed an earlier message: forged", "deleted an earlier message", "reacted +1 to an earlier message"]
            * 2,
            [line.split("alice ")[1] for line in self.bob.view.take() if "alice " in line],
        )
        self.pass_time(1)
        self.assertEqual(["in the attic"], [item.text for item in self.talk(self.alice, "attic")])
        self.assertEqual(["hello"], [item.text for item in self.talk(self.bob)])

    def test_identity_reset(self) -> None:
        """Who has another identity under the same name does not change what the first one said."""
        self.say(self.alice, "hello")
        id = ids(self.bob)[1]
        self.say(self.alice, f"/reset-identity {PASSWORD} yes", "/join general")
        self.say(self.bob, "/trust alice", "/trust alice yes")
        for make in self.BODIES:
            self.post(self.alice, make(id))
        lines = [line for line in self.bob.view.take() if "not shown" in line]
        self.assertEqual(2, len(lines), self.bob.view.text)
        for line in lines:
            self.assertIn("the message is by another identity of alice", line)
        self.assertEqual("hello", self.talk(self.bob)[0].text)

    def test_hostile_reaction(self) -> None:
        """What a reaction holds obeys no terminal."""
        self.say(self.alice, "hello")
        self.post(self.bob, React(ids(self.bob)[1], "\x1b[2J"))
        (line,) = self.alice.view.take()
        self.assertNotIn("\x1b", line)
        self.assertIn("reacted \ufffd\ufffd2J to", line)

    def test_newer(self) -> None:
        """A kind of a newer client is one line that says so, in every view; what follows it is shown as ever."""
        newer = '\0{"k":"poll","text":"?"}'
        assert self.bob.core.outbox is not None
        self.start(self.bob.core.outbox.put("general", newer, None, self.room(self.bob).id))
        self.settle()
        line = "[general] 1 message not shown: made by a newer client (update SecureChat)"
        self.assertEqual([line], self.alice.view.take())
        self.assertEqual(
            [Unshown("general", 1, "message{s} not shown: made by a newer client (update SecureChat)")],
            self.talk(self.alice),
        )
        self.say(self.bob, "fine")
        self.assertEqual(["fine"], [item.text for item in self.talk(self.alice) if isinstance(item, Message)])

    def room(self, client: ChatClient) -> Conversation:
        """The room as a client knows it."""
        conversation = client.core.conversations.labelled("general")
        assert conversation is not None
        return conversation


class KeptTests(TalkCase):
    """Tests for what the local store has of what was changed."""

    def test_deleted_is_gone(self) -> None:
        """Of a deleted text nothing is on either one's disk, nor of what it was edited to; nothing finds it."""
        self.say(self.alice, "firstword", "/edit secondword", "other")
        self.pass_time(1)
        self.assertIn("secondword", self.pages(self.bob))
        self.say(self.alice, "/delete #1")
        for client in (self.alice, self.bob):
            pages = self.pages(client)
            self.assertNotIn("firstword", pages)
            self.assertNotIn("secondword", pages)
            self.assertIn("other", pages)
            self.assertIn("Nothing found", client.type("/search secondword")[0])

    def test_edited(self) -> None:
        """An edited message is found by its new text, once, and by its old one no more."""
        self.say(self.alice, "firstword", "/edit secondword")
        for client in self.all_and_again():
            self.assertIn("Nothing found", client.type("/search firstword")[0])
            lines = client.type("/search secondword")
            self.assertEqual(2, len(lines), lines)
            self.assertTrue(lines[0].endswith("[general] <alice> secondword"), lines)

    def test_after_a_restart(self) -> None:
        """A change of a message that is on disk alone reaches it there."""
        self.say(self.alice, "firstword", "secondword", "/edit #2 between", *(f"{n}" for n in range(5)))
        self.bob.type("/join elsewhere")  # which is active after the restart
        self.pass_time(1)
        bob = self.again(self.bob)
        general = bob.core.conversations.labelled("general")
        assert general is not None
        self.assertEqual(0, len(general.timeline))
        self.say(self.alice, "/edit #1 thirdword", "/delete #2")
        pages = self.pages(bob)
        for gone in ("firstword", "secondword", "between"):
            self.assertNotIn(gone, pages)
            self.assertIn("Nothing found", bob.type(f"/search {gone}")[0])
        self.assertIn("thirdword", bob.type("/search thirdword")[0])
        bob.type("/switch general")
        first, second, *_ = self.talk(bob)
        self.assertEqual(("thirdword", True, True), (first.text, first.edited, second.deleted))

    def test_from_the_server(self) -> None:
        """What the server gives once more of a deleted message does not come back to the disk."""
        self.say(self.alice, "firstword", "/delete", "other")
        self.pass_time(1)
        bob = self.again(self.bob)
        bob.type("/history general")
        bob.type("/history general 1")
        self.assertNotIn("firstword", self.pages(bob))
        self.assertNotIn("firstword", "\n".join(bob.type("/history general")))


class CompletionTests(TalkCase):
    """Tests for what completion knows of the talk."""

    def test_order(self) -> None:
        """Who spoke last comes first, then the members, and one's own name not at all; /edit has one's own words."""
        self.registered("carol", "general")
        self.registered("anna")
        self.say(self.alice, "hello")
        self.say(self.bob, "hi")
        self.assertEqual((0, ["bob", "carol"]), self.alice.core.orders.complete("/whois "))
        self.say(self.clients[2], "me too")
        self.assertEqual((0, ["carol", "bob"]), self.alice.core.orders.complete("/whois "))
        self.assertEqual((0, ["hello"]), self.alice.core.orders.complete("/edit "))
        self.alice.type("/alias hullo /me waves")
        self.assertEqual((3, ["/hullo"]), self.alice.core.orders.complete("/hu"))

    def test_flood(self) -> None:
        """Changes of a message that nobody has cost one look at a time, and those of one that is there still count."""
        self.say(self.alice, "firstword", "secondword")
        self.bob.type("/join elsewhere")
        self.pass_time(1)
        bob = self.again(self.bob)
        archive = bob.core.archive
        assert archive is not None
        before, looks = archive.before, list[int]()

        async def counted(conversation: str, seq: int, count: int) -> Sequence[Kept]:
            looks.append(seq)
            await deferLater(self.reactor, 1)  # a long one
            return await before(conversation, seq, count)

        self.patch(archive, "before", counted)
        known = ids(self.alice)
        for number in range(20):
            self.post(self.alice, React("ab" * 32, f"+{number}"))
        self.post(self.alice, Delete(known[1]))
        self.post(self.alice, Edit(known[2], "thirdword"))
        self.pass_time(20)
        self.assertLess(len(looks), 8)
        self.patch(archive, "before", before)
        bob.view.take()
        pages = self.pages(bob)
        for gone in ("firstword", "secondword"):
            self.assertNotIn(gone, pages)
        self.assertIn("Nothing found", bob.type("/search firstword")[0])
        self.assertIn("thirdword", bob.type("/search thirdword")[0])
