"""Tests for messages that were not shown at first: each reason that may pass, and that a lie gains nothing by it."""

from __future__ import annotations

import re
from typing import Any

from securechat import __version__
from securechat.client.healing import MOST, Lack
from securechat.crypto.envelope import seal
from securechat.crypto.findings import Finding
from securechat.errors import Exit
from tests.doubles import PASSWORD, ChatClient
from tests.evil import Said
from tests.evil_case import EvilCase

AT = r"\d{4}-\d\d-\d\d \d\d:\d\d"
OTHER_KEY = (
    "[ops] 1 message not shown: sealed for a key this device does not have (/backup fetch brings newer keys from your"
    " backup)"
)


class HealingCase(EvilCase):
    """Alice and bob in an open room."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.people("alice", "bob")

    def lacks(self, client: ChatClient, room: str = "ops") -> list[tuple[int, str]]:
        """What a client remembers as not shown in a room."""
        return [(lack.seq, lack.finding) for lack in client.core.healing.of(self.conversation(client, room))]

    def told(self, client: ChatClient) -> list[str]:
        """What was shown since the last look, without the times."""
        return [re.sub(AT, "AT", line) for line in client.view.take()]

    def asked_history(self, client: ChatClient) -> int:
        """How often a client asked for a history on its present connection."""
        return client.wire.commands.count("history")


class IdentityTests(HealingCase):
    """Somebody starts over, writes, and is trusted then."""

    def setUp(self) -> None:
        super().setUp()
        assert self.bob.exit(f"/reset-identity {PASSWORD} yes") is Exit.OK
        self.bob.type("/join ops")
        self.bob.type("it is me")
        self.bob.type("really")
        self.alice.view.take()

    def test_trust(self) -> None:
        """After /trust the messages are shown in one go, under a line that says so, and are forgotten as lacking."""
        self.assertEqual([(1, "IDENTITY_CHANGED"), (2, "IDENTITY_CHANGED")], self.lacks(self.alice))
        self.alice.type("/trust bob")
        self.assertEqual(0, self.asked_history(self.alice))
        self.alice.exit("/trust bob yes")
        self.assertEqual(
            [
                "The new identity of bob is trusted.",
                "[ops] * 2 messages of bob can be read now:",
                "AT [ops] <bob> it is me",
                "AT [ops] <bob> really",
            ],
            [line for line in self.told(self.alice) if not line.startswith(("The identity of", "  ", "Compare"))],
        )
        self.assertEqual([], self.lacks(self.alice))
        self.assertEqual(1, self.asked_history(self.alice))

    def test_goes_on(self) -> None:
        """What follows is shown without a word: the healed ones count in their author's chain."""
        self.alice.type("/trust bob")
        self.alice.type("/trust bob yes")
        self.bob.type("and now?")
        self.assertEqual(["[ops] <bob> and now?"], self.alice.view.take())

    def test_verify(self) -> None:
        """The same after /verify."""
        self.alice.view.answers = ["yes"]
        self.alice.exit("/verify bob")
        self.assertIn("AT [ops] <bob> really", self.told(self.alice))

    def test_restart(self) -> None:
        """What was not shown is remembered over a restart."""
        self.pass_time(1)
        fresh = self.again(self.alice)
        self.assertEqual([1, 2], [seq for seq, _ in self.lacks(fresh)])
        fresh.type("/trust bob")
        fresh.exit("/trust bob yes")
        self.assertIn("AT [ops] <bob> really", self.told(fresh))

    def test_link_lost(self) -> None:
        """Where the link breaks meanwhile, nothing is forgotten, and the next cause tries again."""
        self.network.faults["history"] = ["lost"]
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        self.assertEqual([1, 2], [seq for seq, _ in self.lacks(self.alice)])
        self.pass_time(2)
        self.alice.core.healing.trusted("bob")
        self.settle()
        self.assertIn("AT [ops] <bob> really", self.told(self.alice))

    def test_left_meanwhile(self) -> None:
        """Where the account is left while the server is asked, nothing is shown."""
        self.network.faults["history"] = ["unanswered"]
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        self.alice.start("/logout")
        self.pass_time(3)
        self.assertNotIn("can be read now", "\n".join(self.told(self.alice)))
        self.assertEqual(Exit.OK, self.alice.exit(f"/login alice {PASSWORD}"))

    def test_ignored(self) -> None:
        """Of somebody who is ignored nothing is said."""
        self.alice.core.attention.ignored.add("bob")
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        self.assertFalse([line for line in self.told(self.alice) if "can be read now" in line or "<bob>" in line])

    def test_another_message(self) -> None:
        """A server that gives another message for that place is found out, and nothing of it is shown."""

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if (user, kind) != ("alice", "history"):
                return None
            first, second = said["messages"]
            return [{**said, "messages": [{**second, "seq": 1}, {**first, "seq": 2}]}]

        self.evil.rule(rule)
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        lines = self.told(self.alice)
        self.assertTrue(any("The history the server gives now is not the one you saw before" in one for one in lines))
        self.assertFalse([line for line in lines if "<bob>" in line])

    def test_repeated(self) -> None:
        """Of two deliveries of one message that both were not shown, one is shown."""
        self.evil.insert("alice", self.evil.newest("alice", "ops"))
        self.settle()
        self.assertEqual([1, 2, 3], [seq for seq, _ in self.lacks(self.alice)])
        self.evil.change_messages("alice", lambda said: said)
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        self.assertEqual(1, len([line for line in self.told(self.alice) if line.endswith("<bob> really")]))
        self.alice.core.healing.trusted("bob")
        self.settle()
        self.assertEqual([], self.told(self.alice))

    def test_replayed_later(self) -> None:
        """A message that was healed is known from then on: once more it is a replay."""
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        self.alice.view.take()
        self.evil.insert("alice", self.evil.newest("alice", "ops"))
        self.settle()
        self.assertShown("replayed", self.alice)

    def test_change(self) -> None:
        """A change that could not be read until then is told as one, and leaves no message behind."""
        from securechat.crypto.body import Edit, to_text

        assert self.bob.core.outbox is not None
        conversation = self.conversation(self.bob, "ops")
        newest = conversation.timeline.newest()
        assert newest is not None
        self.start_sending(self.bob, to_text(Edit(newest.kept.id, "really, it is", ())))
        self.alice.type("/trust bob")
        self.alice.exit("/trust bob yes")
        lines = self.told(self.alice)
        self.assertIn("AT [ops] <bob (edited)> really, it is", lines)
        self.assertEqual([1, 2], [entry.seq for entry in self.conversation(self.alice, "ops").timeline])

    def start_sending(self, client: ChatClient, text: str) -> None:
        """Sends a body as it is."""
        from twisted.internet.defer import Deferred

        conversation, outbox = self.conversation(client, "ops"), client.core.outbox
        assert outbox is not None
        Deferred.fromCoroutine(outbox.put("ops", text, None, conversation.id))
        self.settle()


class DeviceTests(HealingCase):
    """Somebody writes from a device that the server does not vouch for yet."""

    def test_list_comes_late(self) -> None:
        """Once the list with the device has come, what was written from it is shown."""
        self.evil.roll_back_list("bob")
        second = self.elsewhere_lying()
        second.type("/join ops")
        second.type("from my new machine")
        self.assertEqual([(1, "UNKNOWN_DEVICE")], self.lacks(self.alice))
        self.alice.view.take()
        self.evil.stop()
        self.alice.exit("/whois bob")
        self.assertIn("AT [ops] <bob> from my new machine", self.told(self.alice))
        self.assertEqual([], self.lacks(self.alice))

    def elsewhere_lying(self) -> ChatClient:
        """A second device of bob, of which alice hears nothing."""
        self.evil.stop()

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != "alice":
                return None
            if kind == "keys" and "bob" in said.get("keys", {}):
                return [{**said, "keys": {**said["keys"], "bob": self.evil.bundles["bob"][0]}}]
            return [] if kind == "event:member" and said["user"] == "bob" else None

        self.evil.rule(rule)
        return self.elsewhere("bob", "second")

    def test_revoked(self) -> None:
        """What a revoked device wrote against the list that revokes it waits for nothing."""
        lost = self.elsewhere("bob", "lost")
        account = lost.core.account
        assert account is not None
        self.bob.type(f"/revoke {account.keys.dev[:8]} {PASSWORD}")
        sealed = self.sealed(self.bob, "let me in", dev=account.keys.dev, ctr=1, prev="", signer=account.keys.device)
        self.evil.say("alice", self.as_event(sealed, "bob", 1, "alice"))
        self.settle()
        self.assertShown("from a device that bob did not sign", self.alice)
        self.assertEqual([], self.lacks(self.alice))


class KeyTests(HealingCase):
    """A message is sealed for a key that another device of the account made."""

    def setUp(self) -> None:
        super().setUp()
        self.lost, self.third = self.elsewhere("bob", "lost"), self.elsewhere("bob", "third")
        account = self.lost.core.account
        assert account is not None
        self.bob.type(f"/revoke {account.keys.dev[:8]} {PASSWORD}")
        self.third.type("/join ops")
        self.third.view.take()
        self.alice.type("new key, who reads?")

    def test_fetch(self) -> None:
        """/backup fetch brings the key, and shows what it opens; what follows is read without a word."""
        self.assertEqual([OTHER_KEY], self.messages(self.third))
        self.assertEqual(Exit.OK, self.third.exit(f"/backup fetch {PASSWORD}"))
        self.assertEqual(
            [
                "1 newer key is on this machine now. What they open is shown.",
                "[ops] * 1 message of alice can be read now:",
                "AT [ops] <alice> new key, who reads?",
            ],
            self.told(self.third),
        )
        self.alice.type("good")
        self.assertEqual(["[ops] <alice> good"], self.third.view.take())
        self.assertEqual(Exit.OK, self.third.exit(f"/backup fetch {PASSWORD}"))
        self.assertIn("no key that is not on this machine", self.third.view.take()[-1])

    def test_login(self) -> None:
        """So does a login."""
        self.pass_time(1)
        self.third.exit("/logout")
        self.third.exit(f"/login bob {PASSWORD}")
        self.assertIn("AT [ops] <alice> new key, who reads?", self.told(self.third))

    def test_wrong_password(self) -> None:
        """With another password nothing is changed, and it is said why."""
        self.assertEqual(Exit.LOGIN_REFUSED, self.third.exit("/backup fetch another-one"))
        self.assertIn("That is not the password of bob", self.third.view.text)
        self.assertEqual([(1, "OTHER_KEY")], self.lacks(self.third))

    def test_no_key_no_try(self) -> None:
        """As long as the key is not there, the server is not asked."""
        before = self.asked_history(self.third)
        self.third.core.healing.keys_came()
        self.settle()
        self.assertEqual(before, self.asked_history(self.third))


class LogTests(HealingCase):
    """A room's log is not given as far as a message says it goes."""

    def test_log_comes_late(self) -> None:
        """Once it goes so far, what somebody wrote who had come in meanwhile is shown."""

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            return [] if (user, kind) == ("alice", "event:room") else None

        def refuse(user: str, said: Said) -> Said | None:
            gone = {"status": "error", "code": "no_such_room", "msg": "There is no such room."}
            return gone if user == "alice" else None

        carol = self.registered("carol")
        self.alice.type("/whois carol")
        self.evil.rule(rule)
        self.evil.answer("roomlog", refuse)
        carol.type("/join ops")
        carol.type("hello")
        self.assertEqual([(1, "NOT_MEMBER")], self.lacks(self.alice))
        self.evil.stop()
        self.alice.view.take()
        self.bob.type("/leave")
        self.assertIn("AT [ops] <carol> hello", self.told(self.alice))

    def stranger(self) -> Said:
        """What the server gives alice of carol, who was there and left before she sealed it."""
        carol = self.registered("carol", "ops")
        carol.type("/leave")
        account = carol.core.account
        assert account is not None
        position = self.position(
            self.bob, author="carol", dev=account.keys.dev, dl=(account.own.version, account.own.digest)
        )
        sealed = seal("boo", [self.keys_of(self.bob, "alice")], position, account.keys.device)
        return self.as_event(sealed, "carol", 1, "alice")

    def test_never_a_member(self) -> None:
        """Somebody who was not a member by a log that is whole waits for nothing."""
        self.evil.say("alice", self.stranger())
        self.settle()
        self.assertEqual("NOT_MEMBER", self.conversation(self.alice, "ops").timeline[0].kept.hidden)
        self.assertEqual([], self.lacks(self.alice))

    def test_tried_once(self) -> None:
        """What does not count by the whole log either is not asked for again with each event of the room."""
        given = self.stranger()
        self.evil.say("alice", given)
        self.settle()
        conversation, healing = self.conversation(self.alice, "ops"), self.alice.core.healing
        id = conversation.timeline[0].kept.id
        healing.load({conversation.id: [[1, id, "carol", "NOT_MEMBER", "", given["events"], ""]]})
        message = {name: value for name, value in given.items() if name != "event"}

        def answer(user: str, said: Said) -> Said | None:
            return {"status": "ok", "room": "ops", "messages": [message], "more": False} if user == "alice" else None

        self.evil.answer("history", answer)
        before = self.asked_history(self.alice)
        for line in ("/topic one", "/topic two", "/topic three"):
            self.alice.type(line)
        self.assertEqual(before + 1, self.asked_history(self.alice))
        self.assertEqual([], self.lacks(self.alice))


class MissingTests(HealingCase):
    """The server does not give a message at first."""

    def setUp(self) -> None:
        super().setUp()
        self.withhold: set[int] = {2}

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != "alice":
                return None
            if kind == "event:message":
                return [] if said["seq"] in self.withhold else None
            if kind == "history" and "messages" in said:
                kept = [one for one in said["messages"] if one["seq"] not in self.withhold]
                return [{**said, "messages": kept}]
            return None

        self.evil.rule(rule)
        for text in ("zero", "one", "two"):
            self.bob.type(text)

    def test_given_later(self) -> None:
        """What it gives once its user has gone on is shown."""
        self.assertEqual([(2, "MISSING")], self.lacks(self.alice))
        self.alice.view.take()
        self.withhold = set()
        self.alice.exit("/continue ops")
        self.assertIn("AT [ops] <bob> [arrived late, out of order] one", self.told(self.alice))
        self.assertEqual([], self.lacks(self.alice))

    def test_not_given(self) -> None:
        """Where it goes on to give nothing, it is asked once a connection."""
        self.alice.type("/continue ops")
        self.assertEqual([(2, "MISSING")], self.lacks(self.alice))
        before = self.asked_history(self.alice)
        self.bob.type("three")
        self.assertEqual(before, self.asked_history(self.alice))

    def test_another_than_was_there(self) -> None:
        """A message that does not fit what its author's successors saw there is not shown."""
        self.withhold = set()
        self.alice.view.take()
        self.alice.core.healing.given_again()
        self.settle()
        self.assertFalse([line for line in self.told(self.alice) if "<bob> one" in line])


class NewerTests(HealingCase):
    """A message that only a newer client can read."""

    def test_updated(self) -> None:
        """It is tried again by another version, and not before."""
        self.bob.type("hello")
        conversation, healing = self.conversation(self.alice, "ops"), self.alice.core.healing
        kept = conversation.timeline[0].kept
        for version, shown in ((__version__, False), ("0.0.1", True)):
            self.alice.view.take()
            healing.load(
                {conversation.id: [[kept.seq, kept.id, "bob", Finding.NEWER.name, "", conversation.told, version]]}
            )
            healing.updated()
            self.settle()
            self.assertEqual(shown, "AT [ops] <bob> hello" in self.told(self.alice))


class RememberedTests(HealingCase):
    """What is remembered is bounded, and read back with care."""

    def test_bound(self) -> None:
        """The newest of a conversation, so many."""
        conversation, healing = self.conversation(self.alice, "ops"), self.alice.core.healing
        healing.not_given(conversation, 1, 3 * MOST)
        healing.not_given(conversation, 3 * MOST + 1, 1)
        seqs = [lack.seq for lack in healing.of(conversation)]
        self.assertEqual((MOST, 2 * MOST + 2, 3 * MOST + 1), (len(seqs), seqs[0], seqs[-1]))

    def test_damaged(self) -> None:
        """A record that is none is left out."""
        conversation, healing = self.conversation(self.alice, "ops"), self.alice.core.healing
        good: list[Any] = [3, "", "bob", Finding.OTHER_KEY.name]
        healing.load({conversation.id: [good], "other": "damaged", "third": [["x"]]})
        self.assertEqual([Lack(3, "", "bob", "OTHER_KEY")], healing.of(conversation))
