"""Tests for what a member can do to the others, alone or with the server's help (see test_evil)."""

from __future__ import annotations

from dataclasses import replace

from securechat.crypto import primitives as p
from securechat.crypto.envelope import seal
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_HEADER,
    MUTED,
    NOT_MEMBER,
    STALE_HEAD,
    STALE_KEYS,
    Exit,
    Refused,
)
from securechat.wire import messages as m
from tests.doubles import long_id
from tests.evil_case import MessageCase


class FalseBobTests(MessageCase):
    """A newcomer is given a false identity of a member."""

    def setUp(self) -> None:
        super().setUp()
        self.false = self.impostor("bob")
        self.evil.swap_keys("bob", self.false.bundle, "dave")

    def test_open_room(self) -> None:
        """The room's log pins its members: the false one is not sealed for, and that is said."""
        self.lenient()
        dave = self.registered("dave", "ops")
        self.assertIn("The identity of bob changed since you first met.", dave.view.text)
        dave.type("for bob")
        (package,) = [one["package"] for one in dave.wire.asked if one["cmd"] == "send"]
        self.assertEqual({"alice", "carol", "dave"}, set(package["encrypted_keys"]))
        self.assertEqual(Exit.UNTRUSTED, dave.exit("/pm bob for you alone"))

    def test_private_room(self) -> None:
        """In a private room nothing is sent at all."""
        dave = self.registered("dave")
        self.private_room(self.alice, self.bob)
        self.alice.type("/invite dave")
        dave.type("/accept den")
        dave.view.take()
        self.assertWaits(dave, "/send hello", "The identity of bob changed since you first met.")

    def test_reads_the_genuine_one(self) -> None:
        """What the genuine one writes is theirs; what the false one writes is not shown."""
        dave = self.registered("dave", "ops")
        dave.view.take()
        self.bob.type("hello dave")
        (line,) = self.messages(dave)
        self.assertTrue(line.startswith("[ops] <bob> [identity changed;") and line.endswith("hello dave"), line)
        position = self.position(self.bob, dev=self.false.dev)
        ghost = self.false.write("hello dave", [self.keys_of(dave, "dave")], position)
        self.evil.say("dave", self.as_event(ghost, "bob", 2, "dave"))
        self.settle()
        self.assertRead(
            "[ops] 1 message not shown: bob's identity changed (/verify bob compares the new one)",
            by=dave,
        )


class AudienceTests(MessageCase):
    """A member, with the server's help, seals for others than the members."""

    def hand_in_leniently(self, *readers: str) -> None:
        """Carol writes to just these."""
        sealed = self.sealed(self.carol, "psst", readers=[self.keys_of(self.carol, name) for name in readers])
        reply = self.hand_in(self.carol, sealed)
        self.assertIsInstance(reply, m.SendOk)

    def test_genuine_server(self) -> None:
        """A genuine server refuses it."""
        for readers in (("carol", "bob"), ("carol", "bob", "alice", "mallory")):
            self.registered("mallory") if "mallory" in readers else None
            sealed = self.sealed(self.carol, "psst", readers=[self.keys_of(self.carol, name) for name in readers])
            self.assertEqual(BAD_AUDIENCE, self.hand_in(self.carol, sealed).code)

    def test_left_out(self) -> None:
        """Who was left out is named to the others, and told it themselves."""
        self.lenient()
        self.hand_in_leniently("carol", "bob")
        self.assertRead("[ops] <carol> [was not sealed for alice] psst")
        self.assertRead(
            "[ops] 1 message not shown: not addressed to you (ask carol whether you were left out on purpose)",
            by=self.alice,
        )

    def test_one_more(self) -> None:
        """Who got it without being a member is named."""
        self.lenient()
        self.registered("mallory")
        self.hand_in_leniently("carol", "bob", "alice", "mallory")
        line = "[ops] <carol> [went to mallory, not a member (its author's client was told so, or is broken)] psst"
        self.assertRead(line)
        self.assertRead(line, by=self.alice)

    def test_somebody_elses_key(self) -> None:
        """A member's name on another's key is not that member: the server, and whoever seals so, could read along."""
        self.lenient()
        readers = [self.keys_of(self.carol, name) for name in ("bob", "carol")]
        self.hand_in(self.carol, self.sealed(self.carol, "psst", readers=[*readers, self.impostor("alice").keys]))
        flag = "was sealed for a key of alice that their device list does not name (compare with alice)"
        self.assertRead(f"[ops] <carol> [{flag}] psst")
        self.assertStopped(self.bob)

    def test_not_told(self) -> None:
        """A server that does not say whom a message was for, or says something else, stops the room."""
        self.lenient()
        refused = {"status": "error", "code": "unknown_audience", "msg": "No message of ops has that audience."}
        for number, answer in enumerate((refused, {"room": "ops", "audience": p.b64(b'[["bob","x"]]')})):
            self.evil.answer("audience", lambda user, said, answer=answer: answer)
            people = [self.keys_of(self.carol, name) for name in ("carol", ("bob", "alice")[number])]
            self.evil.say(
                "bob", self.as_event(self.sealed(self.carol, f"{number}", readers=people), "carol", number + 1)
            )
            self.settle()
        line = "the server does not say whom it was sealed for"
        self.assertEqual(1, sum(line in shown for shown in self.messages(self.bob)))
        self.assertStopped(self.bob)


class MutedAuthorTests(MessageCase):
    """A member without a voice writes all the same."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("/mute carol")
        self.bob.view.take()

    def test_genuine_server(self) -> None:
        """A genuine server refuses it."""
        self.assertEqual(MUTED, self.hand_in(self.carol, self.sealed(self.carol, "let me speak")).code)

    def test_slow_clock(self) -> None:
        """A mute ends when it is over by the author's clock too: readers go by that, and see no lie of the server."""
        self.alice.type("/unmute carol")
        self.alice.type("/mute carol 1m")
        self.pass_time(61)
        late = self.sealed(self.carol, "let me speak", at=self.carol.core.now_ms() - 5000)
        self.assertEqual(MUTED, self.hand_in(self.carol, late).code)
        self.bob.view.take()
        self.assertEqual("[ops] <carol> at last", self.carol.type("at last")[-1])
        self.assertRead("[ops] <carol> at last")

    def test_lenient_server(self) -> None:
        """If the server lets it in, no reader is shown it."""
        self.lenient()
        self.hand_in(self.carol, self.sealed(self.carol, "let me speak"))
        self.assertRead("[ops] 1 message not shown: from carol, who had no voice (the server let it in)")

    def test_old_head(self) -> None:
        """Nor if its author pretends not to have heard of it: the place of the message counts, and it says its head."""
        self.lenient()
        before = self.log(self.carol).links[-2]
        self.hand_in(self.carol, self.sealed(self.carol, "let me speak", head=before))
        (line,) = self.messages(self.bob)
        self.assertNotIn("let me speak", line)

    def test_not_a_member(self) -> None:
        """Who left, or never was there, is not shown either."""
        self.carol.type("/leave ops")
        self.bob.view.take()
        account = self.carol.core.account
        assert account is not None
        position = self.position(
            self.bob, author="carol", dev=account.keys.dev, dl=(account.own.version, account.own.digest)
        )
        sealed = seal("boo", [self.keys_of(self.bob, "bob")], position, account.keys.device)
        self.evil.say("bob", self.as_event(sealed, "carol", 1))
        self.settle()
        self.assertRead("[ops] 1 message not shown: from carol, who was not a member (the server let it in)")


class InsiderTests(MessageCase):
    """A member sends what would make others suspect an honest server."""

    def assertRefused(self, code: object, *rooms: str, **changes: object) -> None:  # type: ignore[override]
        """A genuine server does not take a message of carol's with such a header, and nobody is shown anything."""
        reply = self.hand_in(self.carol, self.sealed(self.carol, "oops", **changes))
        self.assertIsInstance(reply, Refused)
        self.assertEqual(code, reply.code)
        self.assertEqual(0, self.stored())
        self.assertRead()

    def test_transcript(self) -> None:
        """A place of the transcript that never was, or is to come, is refused."""
        self.assertRefused(BAD_HEADER, th=(0, long_id("th")))
        self.assertRefused(BAD_HEADER, th=(7, long_id("th")))

    def test_head(self) -> None:
        """So is a head that is no link of the log."""
        self.assertRefused(STALE_HEAD, head=long_id("head"))

    def test_device_list(self) -> None:
        """So is a device list that the server does not have."""
        self.assertRefused(STALE_KEYS, dl=(7, long_id("dl")))

    def test_room(self) -> None:
        """So is another room."""
        self.assertRefused(BAD_HEADER, room=long_id("room"))

    def test_readers(self) -> None:
        """So is a digest of other readers than those it is sealed for."""
        sealed = self.sealed(self.carol, "oops")
        less = {name: key for name, key in sealed.encrypted_keys.items() if name != "alice"}
        kids = {name: kid for name, kid in sealed.kids.items() if name != "alice"}
        self.carol.type("/leave ops")
        self.assertEqual(NOT_MEMBER, self.hand_in(self.carol, sealed).code)
        self.carol.type("/join ops")
        sealed = self.sealed(self.carol, "oops")
        reply = self.hand_in(self.carol, replace(sealed, encrypted_keys=less, kids=kids))
        self.assertEqual(BAD_AUDIENCE, reply.code)

    def test_sender(self) -> None:
        """So is a message in another's name, or of another device."""
        self.assertRefused(BAD_HEADER, author="alice")
        self.assertRefused(BAD_HEADER, dev="0" * 32)
