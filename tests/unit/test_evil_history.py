"""Tests for what a server can do to the history of a conversation, and what its readers are told (see test_evil)."""

from __future__ import annotations

from securechat.client.panes import Panes
from securechat.client.view import Message
from securechat.crypto import primitives as p
from securechat.crypto.transcript import transcript_start
from securechat.errors import Exit
from tests.doubles import PASSWORD
from tests.evil import Said
from tests.evil_case import AGAIN, FORK, OTHER_TEXT, WRONG, MessageCase, changed, forked


class EpochReplayTests(MessageCase):
    """The server says that it was restored from a backup, so that everything is read again."""

    def test_no_message_twice(self) -> None:
        """A new epoch moves cursors and nothing else: what was read is not shown as new."""
        for text in ("one", "two", "three"):
            self.alice.type(text)
        self.pass_time(1)
        self.bob.view.take()
        start = [0, transcript_start(self.conversation(self.bob, "ops").id)]

        def restored(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != "bob" or kind != "sync":
                return None
            states = [{**one, "reset": True, "start": start} for one in said["conversations"]]
            return [{**said, "epoch": "f" * 32, "conversations": states}]

        self.evil.rule(restored)
        self.bob.wire.cut()
        self.pass_time(10)
        for number in (1, 2, 3):
            self.evil.say("bob", self.evil.seen["bob", "ops", number])
        self.settle()
        lines = self.bob.view.take()
        self.assertIn("(was a backup restored?): it is read again.", "\n".join(lines))
        self.assertEqual(3, lines.count(f"[ops] {AGAIN}"))
        self.assertEqual([], [line for line in lines if "<alice>" in line])


class RewrittenHistoryTests(MessageCase):
    """Somebody with the database and the at-rest key changes what is stored."""

    def setUp(self) -> None:
        super().setUp()
        for text in ("one", "two", "three"):
            self.alice.type(text)
        self.pass_time(1)
        for client in (self.alice, self.bob):
            client.view.take()

    def test_text(self) -> None:
        """A text that was exchanged is shown as that, in the history of each reader; the others stand."""
        yours = "1 message of yours is not in the history the server gives (send it again if that matters)"
        missing = {
            self.alice: f"before this, {yours}",
            self.bob: "1 message from alice missing before this (/history may bring them; else ask alice)",
        }
        exchanged = {
            self.alice: OTHER_TEXT.replace("ask alice to send it again", "the server did that: send it again"),
            self.bob: OTHER_TEXT,
        }
        self.evil.rewrite_message("ops", 2, lambda shared: {**shared, "encrypted_message": "gAAAAAAAAAAA" + "A" * 88})
        for client in (self.alice, self.bob):
            lines = client.type("/history")
            self.assertEqual(
                ["[ops] <alice> one", exchanged[client], f"[ops] <alice> [{missing[client]}] three"],
                [line.split("22:13 ")[-1] for line in lines],
            )

    def test_kept_stays(self) -> None:
        """What this machine has of a message, and of an edit, is not lost by what the server gives later."""
        self.alice.type("/edit #3 third")
        for seq in (2, 4):
            self.evil.rewrite_message(
                "ops", seq, lambda shared: {**shared, "encrypted_message": "gAAAAAAAAAAA" + "A" * 88}
            )
        for _ in range(2):
            self.assertIn(OTHER_TEXT, "\n".join(self.bob.type("/history")))
            talk = [(item.text, item.edited) for item in Panes(self.bob.core).talk("ops") if isinstance(item, Message)]
            self.assertEqual([("one", False), ("two", False), ("third", True)], talk)
            self.pass_time(1)
            for word in ("two", "third"):
                self.assertIn(f"<alice> {word}", self.bob.type(f"/search {word}")[0])
            self.bob.quit()
            self.bob = self.again(self.bob)
            self.bob.type("/switch ops")

    def test_while_away(self) -> None:
        """The same for somebody who catches up."""
        self.bob.quit()
        self.alice.type("four")
        self.evil.rewrite_message("ops", 4, lambda shared: {**shared, "sig": p.b64(bytes(64))})
        self.bob = self.again(self.bob, login=False)
        self.assertIn(WRONG, self.bob.type(f"/login bob {PASSWORD}"))

    def test_another_message(self) -> None:
        """A genuine message put in another's place is no message of that place, and the history is not the one seen."""
        taken: list[Said] = []
        self.evil.rewrite_message("ops", 1, lambda shared: taken.append(shared) or shared)
        self.evil.rewrite_message("ops", 2, lambda shared: taken[0])
        lines = self.bob.type("/history")
        self.assertIn(
            "The history the server gives now is not the one you saw before. Sending there is stopped.", lines[0]
        )
        self.assertNotIn("two", "\n".join(lines))
        self.assertStopped(self.bob)

    def test_newest_deleted(self) -> None:
        """That the newest messages are gone is said by /history and by /audit, and sending stops."""
        self.evil.delete_newest("ops", 2)
        lines = self.bob.type("/audit")
        self.assertIn("  ops: the server does not give the newest messages any more that you saw", lines)
        self.assertStopped(self.bob)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send four"))
        self.assertShown("[ops] The server does not know the history that it gave you. Sending", self.alice)
        self.alice.type("/continue ops")
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send five"))
        self.assertShown("it lost messages, or it lies. What you wrote waits.", self.alice)
        lines = self.carol.type("/history")
        self.assertIn("The server does not give the newest messages any more that you saw.", lines[-2] + lines[0])

    def test_audit(self) -> None:
        """/audit says what does not hold, and keeps a report of it."""
        self.assertEqual(Exit.OK, self.bob.exit("/audit"))
        self.evil.rewrite_message("ops", 1, lambda shared: {**shared, "encrypted_message": "gAAAAAAAAAAA" + "A" * 88})
        self.assertEqual(Exit.UNTRUSTED, self.bob.exit("/audit"))
        self.assertShown("  ops: message 1: its text or key was exchanged", self.bob)
        self.evil.rewrite_message("ops", 3, lambda shared: {**shared, "bind": p.b64(bytes(32))})
        self.bob.view.take()
        self.assertEqual(Exit.UNTRUSTED, self.bob.exit("/audit"))
        self.assertShown("the history the server gives now is not the one you saw before", self.bob)
        account = self.bob.core.account
        assert account is not None
        report = (account.profile.path / "audit.txt").read_text(encoding="utf-8")
        self.assertIn("FAULT ops: the history the server gives now is not the one you saw before", report)


class ForkTests(MessageCase):
    """The server shows people different histories of one conversation."""

    def setUp(self) -> None:
        super().setUp()
        self.lenient()

    def test_dropped_for_one(self) -> None:
        """Who was kept from a message learns it at the next one whose author saw it; sending stops until a word."""
        self.evil.drop_next("bob", "ops")
        self.alice.type("one")
        self.carol.type("two")
        lines = self.bob.view.take()
        self.assertEqual(
            "! [ops] Its author was shown another history of this conversation. Sending there is stopped. Compare with"
            " the others by another way; /continue ops goes on all the same.",
            lines[0],
        )
        self.assertEqual(f"[ops] <carol> [{forked('carol')}] two", lines[1])
        self.assertStopped(self.bob)
        self.evil.stop()
        replayed = f"[ops] {AGAIN}"
        self.assertEqual(
            [f"You go on although: {FORK}.", "What waited for ops is tried again.", replayed, "[ops] <bob> may I?"],
            self.bob.type("/continue ops"),
        )
        self.carol.type("three")
        self.assertRead("[ops] <carol> three")
        self.assertTrue(any(line.endswith("[ops] <alice> one") for line in self.bob.type("/history")))

    def test_stays_stopped(self) -> None:
        """A restart does not make it good."""
        self.evil.drop_next("bob", "ops")
        self.alice.type("one")
        self.carol.type("two")
        self.pass_time(1)
        self.evil.stop()
        self.bob = self.again(self.bob)
        self.bob.type("/join ops")
        self.bob.view.take()
        self.assertStopped(self.bob)

    def test_extra_for_one(self) -> None:
        """Something that only one was given shows there too, even if it was refused."""
        self.alice.type("one")
        self.bob.view.take()
        self.evil.insert("bob", changed(sig=p.b64(bytes(64)))(self.evil.newest("bob", "ops")))
        self.carol.type("two")
        self.carol.type("three")
        self.assertRead(WRONG, "[ops] <carol> two", f"[ops] <carol> [{forked('carol')}] three")
        self.assertStopped(self.bob)

    def test_the_others(self) -> None:
        """What was written on a forked history is flagged by the others as well."""
        self.evil.drop_next("bob", "ops")
        self.alice.type("one")
        self.bob.type("hello")
        self.bob.type("anybody?")
        self.assertRead(
            "[ops] <alice> one", "[ops] <bob> hello", f"[ops] <bob> [{forked('bob')}] anybody?", by=self.carol
        )
        self.assertStopped(self.carol)

    def test_private(self) -> None:
        """The same between two."""
        self.alice.type("/pm bob one")
        pm = next(room for reader, room, _ in self.evil.seen if reader == "bob" and room.startswith("pm:"))
        self.evil.drop_next("bob", pm)
        self.alice.type("/pm bob two")
        self.bob.type("/pm alice well?")
        self.bob.type("/pm alice what?")
        self.assertShown(f"[pm] <bob> [{forked('bob')}] what?", self.alice)
        self.assertWaits(self.alice, "/pm bob nothing", "Sending to @bob is stopped: ")

    def test_split_for_good(self) -> None:
        """Not stopped: groups that never hear each other again are not told of each other."""
        self.evil.change_messages("bob", lambda said: said if said["sender"] == "bob" else None)
        for other in ("alice", "carol"):
            self.evil.change_messages(other, lambda said: said if said["sender"] != "bob" else None)
        self.alice.type("one")
        self.assertEqual(["[ops] <bob> two"], self.bob.type("two"))
        self.alice.type("three")
        self.assertRead()
        self.assertRead("[ops] <alice> one", "[ops] <alice> three", by=self.carol)
        self.assertNotIn("stopped", self.bob.view.text + self.carol.view.text)
