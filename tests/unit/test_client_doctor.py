"""Tests for /doctor and /status, typed into real clients."""

from __future__ import annotations

import os
import re
from pathlib import Path

from securechat.client.slash import doctor
from securechat.errors import BUSY, Exit
from tests.doubles import PASSWORD, ChatCase, ChatClient
from tests.evil import Said
from tests.evil_case import EvilCase


def marked(client: ChatClient, mark: str = "BAD") -> list[str]:
    """The lines of /doctor with a mark, without it."""
    lines = client.type("/doctor")
    return [line[5:] for line in lines if line.startswith(mark)]


class DoctorTests(ChatCase):
    """What it looks at."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(doctor, "sys", type("Sys", (), {"__stdout__": type("Out", (), {"encoding": "utf-8"})}))
        self.alice = self.registered("alice", "general")
        for left in self.alice.directory.path.rglob("*.fresh"):  # by what makes stores quickly for tests
            left.unlink()

    def test_all_well(self) -> None:
        """With everything in order nothing is marked; the status is a success."""
        self.alice.type("hello")
        self.assertEqual(Exit.OK, self.alice.exit("/doctor"))
        lines = self.alice.view.take()
        self.assertEqual("All is well.", lines[-1])
        self.assertEqual([], [line for line in lines if line.startswith(("BAD", "WARN"))])
        said = "\n".join(lines)
        for part in (
            "connected to ", "its identity is pinned: ", "fits the server's (0.0 s apart)", "server SecureChat/test",
            "alice, device ", "1 RSA key here", "number 1 lies under your password", "0 known, 0 of them verified",
            "nothing waits to be sent", "all that came could be read", " free", "for you alone", "TERM=",
        ):  # fmt: skip
            self.assertIn(part, said)

    def test_not_logged_in(self) -> None:
        """Without a login the server is tried, and left again; what is not looked at is said."""
        stranger = self.client("stranger")
        self.assertEqual(Exit.OK, stranger.exit("/doctor"))
        lines = stranger.view.take()
        self.assertTrue(any(line.startswith("ok   link: connected to ") for line in lines), lines)
        self.assertIn("WARN account: nobody is logged in", "\n".join(lines))
        self.assertEqual("Type next: /help register", lines[-1])
        self.assertIs(None, stranger.core.link)

    def test_known_account(self) -> None:
        """Whose keys are here is named as the next step."""
        self.alice.type("/logout")
        self.assertEqual("Type next: /login alice", self.alice.type("/doctor")[-1])

    def test_server_gone(self) -> None:
        """Offline it says why, when the next attempt is, and what cannot be looked at."""
        self.network.go_down()
        self.settle()
        self.assertEqual(Exit.FIXABLE, self.alice.exit("/doctor"))
        said = "\n".join(self.alice.view.take())
        self.assertIn("BAD  link: ", said)
        self.assertTrue(re.search(r"the next attempt is in \d+ s", said), said)
        self.assertIn("the server was not asked", said)
        stranger = self.client("stranger")
        looking = stranger.start("/doctor")
        self.pass_time(2)
        self.assertEqual(Exit.FIXABLE, self.successResultOf(looking))
        lines = stranger.view.take()
        self.assertIn("BAD  link: 127.0.0.1:12345 is not reached: Nothing listens at", lines[0])
        self.assertEqual("No command helps with that: what is marked BAD says what to do.", lines[-1])

    def test_clock(self) -> None:
        """This machine's clock is held against the server's time of the newest message."""
        bob = self.registered("bob", "general")
        self.alice.core.clock = lambda: self.reactor.seconds() - 300
        bob.type("hello")
        self.assertIn("5 minutes behind the server's", "".join(marked(self.alice, "WARN")))
        self.alice.core.clock = self.reactor.seconds
        self.alice.type("hello")
        self.assertEqual([], marked(self.alice, "WARN"))

    def test_backup_not_to_be_had(self) -> None:
        """Where the server refuses a question, that one thing is not looked at."""
        self.network.refuse("backup", BUSY)
        self.assertIn("the server was not asked", "\n".join(self.alice.type("/doctor")))

    def test_files(self) -> None:
        """A file that others may read."""
        keystore = next(self.alice.directory.path.rglob("keystore.json"))
        os.chmod(keystore, 0o644)
        (line,) = marked(self.alice)
        self.assertIn(f"may open {keystore}", line)
        self.assertIn("chmod -R go-rwx", line)

    def test_files_counted(self) -> None:
        """What lies in the directory is added up."""
        place = Path(self.mktemp())
        place.mkdir(mode=0o700)
        (place / "one").write_bytes(b"x" * 1000)
        found = doctor._files(place)
        self.assertEqual((1000, True, (str(place / "one"),)), (found.size, found.writable, found.open))

    def test_terminal(self) -> None:
        """What shows all this, in words."""
        self.assertIn(
            "TERM=vt100, no colours (NO_COLOR), object,", doctor._terminal(object(), {"TERM": "vt100", "NO_COLOR": "1"})
        )


class TroubleTests(EvilCase):
    """What is wrong with people and messages."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.people("alice", "bob")

    def test_identity_changed(self) -> None:
        """Somebody started over: who, what is not shown for it, what waits; and after /verify nothing of it is left."""
        self.alice.exit("/pm bob hello")
        self.bob.exit(f"/reset-identity {PASSWORD} yes")
        self.bob.type("/join ops")
        self.bob.type("it is me")
        self.alice.exit("/pm bob are you?")
        lines = self.alice.type("/doctor")
        self.assertIn("BAD  people: the identity of bob changed → /verify bob", lines)
        self.assertIn("WARN outbox: what you wrote to @bob waits for your word → /verify bob", lines)
        self.assertIn(
            "WARN messages: 1 message in ops not shown: bob's identity changed (/verify bob", "\n".join(lines)
        )
        self.assertEqual("Type next: /verify bob", lines[-1])
        self.pass_time(1)
        self.alice = self.again(self.alice)
        self.settle()
        self.assertIn("1 message in ops not shown: bob's identity changed", "\n".join(self.alice.type("/doctor")))
        self.alice.view.answers = ["yes"]
        self.alice.exit(lines[-1].removeprefix("Type next: "))
        self.assertEqual([], marked(self.alice))
        self.assertNotIn("not shown", "\n".join(self.alice.type("/doctor")))

    def test_stopped(self) -> None:
        """A conversation in which nothing is sent, and what was typed there all the same."""
        conversation = self.conversation(self.alice, "ops")
        self.alice.core.lobby.alarm(conversation, "the log is forked")
        self.alice.exit("/send hello")
        lines = self.alice.type("/doctor")
        self.assertIn("nothing is sent to ops: the log is forked", "\n".join(lines))
        self.assertIn("WARN outbox: what you wrote to ops waits for your word → /continue ops", lines)
        self.assertEqual("Type next: /continue ops", lines[-1])
        self.assertIn("Sending is stopped: the log is forked.", "\n".join(self.alice.type("/status")))

    def test_not_given(self) -> None:
        """Messages that the server did not give."""

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user == "alice" and kind == "history":
                return [{**said, "messages": [one for one in said["messages"] if one["seq"] != 1]}]
            return [] if (user, kind) == ("alice", "event:message") and said["seq"] == 1 else None

        self.evil.rule(rule)
        for text in ("one", "two"):
            self.bob.type(text)
        said = "\n".join(self.alice.type("/doctor"))
        self.assertIn("WARN messages: the server did not give 1 message in ops → /history ops", said)

    def test_deleted_is_no_trouble(self) -> None:
        """What its author took back is not counted."""
        self.bob.type("oops")
        conversation = self.conversation(self.alice, "ops")
        from securechat.client.kept import as_shown
        from securechat.crypto.body import Delete, to_text

        entry = conversation.timeline[0]
        kept = entry.kept
        conversation.timeline.take(
            type(kept)(2, kept.at, kept.sender, kept.author, "0" * 64, to_text(Delete(kept.id)))
        )  # fmt: skip
        conversation.timeline.take(as_shown(entry))
        self.assertEqual([], list(doctor.hidden([conversation], self.alice.core.healing.of)))


class StatusTests(ChatCase):
    """Tests for /status."""

    def test_nobody(self) -> None:
        """Without a login: the server, and what to type."""
        (line,) = self.client("stranger").type("/status")
        self.assertIn("Nobody is logged in. The server is 127.0.0.1:12345. Type /login NAME, or /register NAME.", line)

    def test_room(self) -> None:
        """Who, the link, the room and that it is encrypted, unread, waiting."""
        alice, bob = self.registered("alice", "general"), self.registered("bob", "general")
        alice.view.answers = ["yes"]
        alice.exit("/verify bob")
        alice.view.sees = set()
        bob.type("hello")
        alice.view.take()
        lines = alice.type("/status")
        self.assertTrue(lines[0].startswith("You are alice on 127.0.0.1:12345, on device "), lines[0])
        self.assertTrue(lines[1].startswith("Link: online since "), lines[1])
        self.assertEqual(
            "Active: general, an open room: whoever has an account here can enter; members: you and 1, 1 of them"
            " verified. Everything here is end-to-end encrypted.",
            lines[2],
        )
        self.assertEqual("Unread: 1 in 1 conversation. Waiting to be sent: 0.", lines[3])
        self.assertEqual(5, len(lines))
        bob.type("/pm alice hello")
        alice.view.take()
        self.assertEqual(
            "Unread: 2 in 2 conversations, 1 of them for you. Waiting to be sent: 0.", alice.type("/status")[3]
        )

    def test_elsewhere(self) -> None:
        """In a private room, in private talk, and with nothing active."""
        alice, bob = self.registered("alice"), self.registered("bob")
        self.assertIn("No room is active: ", alice.type("/status")[2])
        alice.type("/create den --private")
        self.assertIn("Active: den, a private room; you are alone there.", alice.type("/status")[2])
        bob.type("/pm alice hello")
        alice.core.conversations.activate("@bob")
        alice.view.take()
        self.assertIn(
            "Active: @bob, private talk with bob, not compared (/verify bob).", alice.type("/status")[2]
        )  # fmt: skip

    def test_offline(self) -> None:
        """The link is gone: why, and when it is tried again."""
        alice = self.registered("alice", "general")
        self.network.go_down()
        self.settle()
        alice.start("kept")
        alice.view.take()
        lines = alice.type("/status")
        self.assertRegex(lines[1], r"Link: offline \(.+\), the next attempt is in \d+ s\.")
        self.assertIn("Waiting to be sent: 1.", lines[3])
