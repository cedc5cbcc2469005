"""Tests for looking for what was said, what this machine keeps of it, and the commands as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from securechat.client.commands import COMMANDS
from securechat.client.display import stamp
from securechat.client.kept import Kept
from securechat.client.panes import Panes
from securechat.client.store import CannotKeep, LocalStore
from securechat.client.view import Message
from securechat.crypto.trust import TrustState
from securechat.errors import Exit
from tests.doubles import PASSWORD, START, ChatCase, ChatClient


class FindCase(ChatCase):
    """Two people in two rooms; alice has said a few things."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "attic", "general")
        self.bob = self.registered("bob", "attic", "general")
        self.say(self.alice, "the red fox", "a blue bird", "/pm bob a red secret", "/switch attic", "red walls")

    def say(self, client: ChatClient, *lines: str) -> None:
        """Types lines that must be done, a second apart, and forgets what they showed."""
        for line in lines:
            self.assertEqual(Exit.OK, client.exit(line), client.view.text)
            self.pass_time(1)
        for each in self.clients:
            each.view.take()

    def pages(self, client: ChatClient) -> list[Kept]:
        """Everything that a client keeps of messages on disk."""
        self.pass_time(1)
        assert client.core.account is not None
        found: list[Kept] = []
        after: bytes | None = b""
        while after is not None:
            some, after = self.do(client.core.account.store.sweep(after, 32, list[Kept], lambda name, kept, size: kept))
            found += [each for page in some for each in page]
        return found


class SearchTests(FindCase):
    """Tests for /search and /jump."""

    def test_found(self) -> None:
        """The newest first, with their time, place and author, and a number to jump to."""
        when = [stamp((START + second) * 1000) for second in (0, 2, 4)]
        self.assertEqual(
            [
                f"1. {when[2]} [attic] <alice> red walls",
                f"2. {when[1]} [@alice] <alice> a red secret",
                f"3. {when[0]} [general] <alice> the red fox",
                "/jump N shows what was said around one of them.",
            ],
            self.bob.type("/search red"),
        )

    def test_narrowed(self) -> None:
        """What is typed behind it narrows it; that more was found is said."""
        for line, count in (
            ("/search red in:attic", 1),
            ("/search red in:@alice", 1),
            ("/search red from:me", 0),
            ("/search red fox", 1),
            ('/search "red fox"', 1),
            ("/search red -fox", 2),
            ("/find RED", 3),
        ):
            found = [text for text in self.bob.type(line) if text[1:2] == "."]
            self.assertEqual(count, len(found), line)
        for number in range(25):
            self.alice.type(f"many {number}")
        self.bob.view.take()
        lines = self.bob.type("/search many")
        self.assertEqual(22, len(lines))
        self.assertIn("These are the newest; add words", lines[20])

    def test_nothing(self) -> None:
        """That nothing was found is said, with how much was looked at and where more may be."""
        lines = self.bob.type("/search green")
        self.assertEqual("Nothing found in 4 messages on this machine.", lines[0])
        self.assertIn("/history ROOM 1000", lines[1])

    def test_offline(self) -> None:
        """Nothing is asked of the server."""
        self.network.go_down()
        self.settle()
        self.bob.view.take()
        self.assertEqual(4, len(self.bob.type("/search red")))

    def test_left(self) -> None:
        """What was said in a room that was left is found, and can be jumped to."""
        self.say(self.bob, "/leave attic")
        self.assertIn("[attic] <alice> red walls", self.bob.type("/search walls")[0])
        lines = self.bob.type("/jump")
        self.assertIn("red walls", lines[1])
        self.assertEqual(2, len(lines))

    def test_jump(self) -> None:
        """What was said around a find is shown as it stands now: edited, deleted, with reactions and answers."""
        self.say(
            self.alice, "/switch general", *(f"{n}" for n in range(8)), "/edit #4 four!", "/delete #5", "/code x\ny"
        )
        self.say(self.bob, "/switch general", "/reply #4 yes", "/react #6 +1")
        self.say(self.alice, "needle", "after")
        self.bob.type("/search needle")
        lines = self.bob.type("/jump 1")
        self.assertEqual("Around message 16 in general:", lines[0])
        self.assertEqual(["  ", "  ", "> ", "  "], [line[:2] for line in lines if "<" in line])
        self.assertIn("needle", next(line for line in lines if line.startswith("> ")))
        self.bob.type("/search four!")
        text = "\n".join(self.bob.type("/jump"))
        self.assertIn("four!", text)
        self.assertIn("(deleted)", text)
        self.assertNotIn("/switch", text)
        self.bob.type("/search walls")
        self.assertEqual("/switch attic goes there.", self.bob.type("/jump")[-1])

    def test_jump_where(self) -> None:
        """A number that is none of the list is refused."""
        self.bob.type("/search red")
        for line in ("/jump 0", "/jump 4", "/jump x", "/jump -1"):
            self.assertEqual(Exit.FIXABLE, self.bob.exit(line))
            self.assertIn("/jump takes a number from 1 to 3", self.bob.view.take()[-1])

    def test_another_account(self) -> None:
        """What one account found is not there for the next one."""
        self.bob.type("/search red")
        self.bob.type("/logout")
        self.bob.type(f"/register dora {PASSWORD}")
        self.assertIn("Nothing was searched for yet.", self.bob.type("/jump 1")[-1])
        self.assertIn("Nothing found", self.bob.type("/search red")[0])


class ForgetTests(FindCase):
    """Tests for /forget."""

    def test_asks(self) -> None:
        """It asks; without a yes nothing is removed, and how to go without asking is said."""
        for answer in ("no", None):
            self.bob.view.answers = [answer]
            self.assertEqual(
                ["Nothing was removed. /forget general yes does not ask."], self.bob.type("/forget general")
            )
        self.assertEqual(4, len(self.pages(self.bob)))
        self.assertIn("what this machine keeps of general? The server keeps its own.", self.bob.view.asked[-1])
        self.bob.view.answers = ["yes"]
        self.assertIn("This machine keeps nothing of general any more.", self.bob.type("/forget general")[0])

    def test_one(self) -> None:
        """Of one conversation nothing is left, in memory, on disk or to be found; the others stay."""
        for name, left in (("general", 2), ("@alice", 1)):
            self.say(self.bob, f"/forget {name} yes")
            self.assertEqual(left, len(self.pages(self.bob)))
        self.assertEqual((), tuple(Panes(self.bob.core).talk("general")))
        self.assertEqual(2, len(self.bob.type("/search red")))
        self.assertEqual(["red walls"], [kept.said().text for kept in self.pages(self.bob)])  # type: ignore[union-attr]

    def test_all(self) -> None:
        """Of all nothing is left, also after a restart; what comes then is kept again."""
        self.say(self.bob, "/forget all yes")
        self.assertEqual([], self.pages(self.bob))
        self.say(self.alice, "new")
        bob = self.again(self.bob)
        self.assertEqual(1, len(self.pages(bob)))
        self.assertIn("Nothing found", bob.type("/search red")[0])
        self.assertIn("new", bob.type("/search new")[0])

    def test_a_room_called_all(self) -> None:
        """A room of that name is meant, where there is one."""
        self.say(self.bob, "/join all", "/forget all yes")
        self.assertEqual(4, len(self.pages(self.bob)))

    def test_left(self) -> None:
        """A room that was left can be forgotten."""
        self.say(self.bob, "/leave attic", "/forget attic yes")
        self.assertEqual(3, len(self.pages(self.bob)))


class ExportTests(FindCase):
    """Tests for /export."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp()).resolve()

    def test_file(self) -> None:
        """All that is kept of one conversation is in the file, in clear, for its owner alone, as it stands now."""
        self.say(self.alice, "/switch general", "/edit #1 the green fox", "/delete #2", "/code a\nb")
        self.say(self.bob, "/switch general", "/reply #1 yes")
        self.say(self.alice, *(f"{n}" for n in range(10)))
        bob = self.again(self.bob)
        lines = bob.type(f"/export general {self.path}")
        self.assertEqual(f"14 messages of general are in {self.path}.", lines[0])
        self.assertIn("They lie there in clear", lines[1])
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)
        text = self.path.read_text()
        for part in ("<alice (edited)> the green fox", "<alice (deleted)>", '<bob to alice "the green fox"> yes', "9"):
            self.assertIn(part, text)
        for gone in ("red", "blue"):
            self.assertNotIn(gone, text)

    def test_refused(self) -> None:
        """A file that is there is left alone; what cannot be written is said."""
        self.path.write_text("mine")
        for target, said in (
            (str(self.path), "is there already. Name another file."),
            (f"{self.path}/talk", "cannot be written: Not a directory."),
            (f"{self.path}-2/talk", "cannot be written: No such file or directory."),
            ("~nobody-of-that-name/talk", "is in nobody's home. Name a file of yours."),
        ):
            self.assertEqual(Exit.FIXABLE, self.bob.exit(f"/export general {target}"), target)
            self.assertIn(said, self.bob.view.take()[-1])
        self.assertEqual("mine", self.path.read_text())

    def test_private(self) -> None:
        """A private conversation too."""
        self.assertIn("1 messages of @alice", self.bob.type(f"/export @alice {self.path}")[0])
        self.assertIn("a red secret", self.path.read_text())


class WrittenTests(FindCase):
    """Tests for messages and cursors on disk."""

    def test_one_write(self) -> None:
        """A message and the cursor behind it are in one transaction: a crash leaves none without the other."""
        writes: list[set[str]] = []
        genuine = LocalStore.write

        async def noted(store: LocalStore, puts: Any, deletes: Any = ()) -> None:
            writes.append({kind for kind, _, _ in puts})
            await genuine(store, puts, deletes)

        self.patch(LocalStore, "write", noted)
        self.alice.type("one more")
        self.pass_time(1)
        for kinds in writes:
            self.assertEqual("page" in kinds, "conv" in kinds and "page" in kinds)
        self.assertTrue(any({"page", "conv", "chain"} <= kinds for kinds in writes), writes)

    def test_full_disk(self) -> None:
        """What could not be written is written with the next, and shown once meanwhile."""
        full = [True]
        genuine = LocalStore.write

        async def write(store: LocalStore, puts: Any, deletes: Any = ()) -> None:
            if full and any(kind == "conv" for kind, _, _ in puts):
                raise CannotKeep("the disk is full")
            await genuine(store, puts, deletes)

        self.patch(LocalStore, "write", write)
        self.alice.type("one")
        self.pass_time(1)
        self.assertEqual(2, len(self.flushLoggedErrors(CannotKeep)))  # each of both has its disk
        before = len(self.pages(self.bob))
        full.clear()
        self.alice.type("two")
        self.pass_time(1)
        self.assertEqual(before + 2, len(self.pages(self.bob)))
        bob = self.again(self.bob)
        bob.type("/switch attic")
        texts = [item.text for item in Panes(bob.core).talk("attic") if isinstance(item, Message)]
        self.assertEqual(["red walls", "one", "two"], texts)


class EveryCommandTests(ChatCase):
    """Every command of the table, done once with success."""

    DONE: ClassVar[dict[str, tuple[str, ...]]] = {
        "help": ("/help", "/help keys"),
        "bare": ("/bare",),
        "send": ("/send hello",),
        "pm": ("/pm bob hello", "/pm bob", "/switch general"),
        "history": ("/history",),
        "reply": ("/reply hello",),
        "edit": ("/edit hello again",),
        "react": ("/react 👍",),
        "me": ("/me waves",),
        "code": ("/code python: x = 1",),
        "delete": ("/delete",),
        "retry": ("/retry",),
        "search": ("/search hello",),
        "jump": ("/jump",),
        "unread": ("/unread",),
        "links": ("/send see https://example.org", "/links"),
        "open": ("/set open-command no-such-program", "/open 1"),
        "status": ("/status",),
        "doctor": ("/doctor",),
        "join": ("/join attic",),
        "switch": ("/switch gen",),
        "leave": ("/leave attic",),
        "rooms": ("/rooms",),
        "members": ("/members",),
        "create": ("/create den --private",),
        "invite": ("/invite bob",),
        "accept": (),  # bob's
        "continue": ("/continue den",),
        "role": ("/role bob mod", "/role bob member"),
        "mute": ("/mute bob 5m",),
        "unmute": ("/unmute bob",),
        "topic": ("/topic quiet",),
        "policy": ("/policy invite admin",),
        "kick": ("/kick bob",),
        "ban": ("/ban bob 5m",),
        "unban": ("/unban bob",),
        "safety": ("/safety bob",),
        "verify": ("/verify bob", "/verify bob yes"),
        "whoami": ("/whoami",),
        "trust": ("/trust carol", "/trust carol yes"),
        "whois": ("/whois bob",),
        "audit": ("/audit",),
        "whatserverknows": ("/whatserverknows",),
        "ignore": ("/ignore bob",),
        "unignore": ("/unignore bob",),
        "set": ("/set color never",),
        "notify": ("/notify all",),
        "alias": ("/alias hi /send hi", "/alias hi", "/alias"),
        "unalias": ("/unalias hi",),
        "forget": ("/forget general yes",),
        "export": ("/export general EXPORTED",),
        "devices": ("/devices",),
        "revoke": ("/revoke DEVICE " + PASSWORD,),
        "keys": ("/keys",),
        "backup": ("/backup code " + PASSWORD,),
        "passwd": (f"/passwd {PASSWORD} another-password-1",),
        "reset-identity": ("/reset-identity another-password-1 yes",),
        "reconnect": ("/reconnect",),
        "logout": ("/logout",),
        "login": (),  # the last thing, and the first of another device
        "register": (),  # the first thing
        "connect": ("/connect 127.0.0.1:12345",),
        "exit": ("/exit",),
    }

    KNOWN: ClassVar = {
        "verify": ("bob", TrustState.VERIFIED),
        "trust": ("carol", TrustState.TOFU),
    }

    def test_table(self) -> None:
        """No command is without a line that does it."""
        self.assertEqual({command.name for command in COMMANDS}, set(self.DONE))

    def test_each(self) -> None:
        """Each is done, in one session that goes through all of them."""
        carol = self.registered("carol")
        bob = self.registered("bob", "general")
        alice = self.registered("alice", "general")
        alice.type("/whois carol")
        carol.type(f"/reset-identity {PASSWORD} yes")
        bob.type("from bob")
        other = self.client("alice-2")
        self.assertEqual(Exit.OK, other.exit(f"/login alice {PASSWORD}"))
        assert other.core.account is not None
        words = {"EXPORTED": str(Path(self.mktemp()).resolve()), "DEVICE": other.core.account.keys.dev[:8]}
        for name, lines in self.DONE.items():
            for line in lines:
                for word, meant in words.items():
                    line = line.replace(word, meant)
                self.assertEqual(Exit.OK, alice.exit(line), f"{line}: {alice.view.take()[-3:]}")
                self.pass_time(2)
            if name in self.KNOWN:
                who, state = self.KNOWN[name]
                assert alice.core.people is not None
                self.assertIs(state, alice.core.people.state(who))
            if name == "accept":
                self.assertEqual(Exit.OK, bob.exit("/accept den"))
        self.assertTrue(alice.core.exiting)
