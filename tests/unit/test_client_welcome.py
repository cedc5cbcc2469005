"""Tests for what a person is asked at the start."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.connection import listens
from securechat.client.welcome import Welcome
from securechat.errors import INVITE_NEEDED, Exit
from securechat.link import ConnectLine
from tests.doubles import ADDRESS, PASSWORD, SRV, ChatCase, ChatClient

NAME = "Choose a name (Enter: the prompt): "
NEW = "New password for {}: "
AGAIN = "The same again: "
ROOM = "Number or name (Enter: none): "
FIRST_ROOM = "A name for it (Enter: none): "
HERE = "Server (Enter: this machine): "
LINE = "securechat+insecure://127.0.0.1:12345/#id="
BACK = "Password of {} (Enter: the prompt): "


class WelcomeCase(ChatCase):
    """A client that is greeted."""

    def welcome(
        self, client: ChatClient, *answers: str | Deferred[str | None], chosen: bool = True, listening: bool = True
    ) -> Deferred[None]:
        """The start, for somebody who answers so, and then declines."""

        async def probe() -> bool:
            return listening

        client.view.answers = list(answers)
        done = Deferred.fromCoroutine(Welcome(client.core, chosen=chosen, listens=probe).run())
        self.settle()
        return done

    def assertAsked(self, client: ChatClient, *questions: str) -> None:
        """These and no others were asked."""
        self.assertEqual(list(questions), client.view.asked)

    def assertAtPrompt(self, client: ChatClient, login: str = "/login NAME") -> None:
        """It closes with what can be typed at the prompt."""
        text = "\n".join(client.view.take()[-3:])
        for part in ("/register NAME", f"{login}  logs in", "/join ROOM", "/pm NAME TEXT", "/help", "/exit"):
            self.assertIn(part, text)


class StrangerTests(WelcomeCase):
    """Tests for somebody with nothing set up."""

    def test_minute(self) -> None:
        """Three questions, and they are in a room they made, and know what to type."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, "", "Alice", PASSWORD, PASSWORD, "den", chosen=False))
        self.assertAsked(client, HERE, NAME, NEW.format("alice"), AGAIN, FIRST_ROOM)
        self.assertEqual(("alice", "den"), (client.core.user, client.core.conversations.active))
        lines = client.view.take()
        self.assertEqual(1, sum("Nobody can recover" in line or "nobody can recover" in line for line in lines))
        self.assertEqual(
            [
                "Now type a message: Enter sends it to den, sealed for its members.",
                "/invite makes a line for a friend, /help lists the rest, /exit leaves.",
            ],
            lines[-2:],
        )

    def test_server_here(self) -> None:
        """The server of this machine is offered only if something listens there."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, "", chosen=False, listening=False))
        self.assertAsked(client, "Server: ", "Server: ")
        self.assertIn("! A line is needed. For a server of your own, start one first: twistd", client.view.text)

    def test_server_line(self) -> None:
        """A bad line says what is wrong and is asked for again; quotes around a good one do no harm."""
        client = self.client("alice")
        self.successResultOf(
            self.welcome(
                client, "http://x", f"{LINE}short", f"'{LINE}{SRV}'", "alice", PASSWORD, PASSWORD, chosen=False
            )
        )
        self.assertEqual([HERE] * 3, client.view.asked[:3])
        self.assertIn("! A connect line starts with securechat://, not http://.", client.view.text)
        self.assertIn("The id in this connect line is cut short.", client.view.text)
        self.assertEqual(("alice", SRV), (client.core.user, client.core.line.id))

    def test_server_unreachable(self) -> None:
        """So is one whose server cannot be reached, or is another."""
        client = self.client("alice")
        done = self.welcome(client, f"{LINE}{'x' * 43}", chosen=False)
        self.successResultOf(done)
        self.assertAsked(client, HERE, HERE)
        self.assertIn("is not the server of this connect line", client.view.text)
        self.assertIsNone(client.core.link)

    def test_chosen_server(self) -> None:
        """A server that was named is not asked for, and not called before there is a name."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client))
        self.assertAsked(client, NAME)
        self.assertEqual([], self.network.wires)
        self.assertAtPrompt(client)

    def test_enter_alone(self) -> None:
        """Enter alone instead of a name leads to the prompt."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, ""))
        self.assertAsked(client, NAME)
        self.assertAtPrompt(client)

    def test_every_question_can_be_declined(self) -> None:
        """Wherever somebody has enough, nothing more is asked; what was done stays done."""
        answers = ["", "alice", PASSWORD, PASSWORD]
        for count in range(len(answers)):
            client = self.client(f"client{count}")
            self.successResultOf(self.welcome(client, *answers[:count], chosen=False))
            self.assertEqual(count + 1, len(client.view.asked))
            self.assertEqual("", client.core.user)
            self.assertAtPrompt(client)
        client = self.client("last")
        self.successResultOf(self.welcome(client, *answers, chosen=False))
        self.assertEqual(("alice", ""), (client.core.user, client.core.conversations.active))

    def test_asked_again(self) -> None:
        """A name that cannot be one, a password too short, and two that differ are asked for again."""
        client = self.client("alice")
        done = self.welcome(client, "no name!", "alice", "short", PASSWORD, "another", PASSWORD, PASSWORD)
        self.successResultOf(done)
        new = NEW.format("alice")
        self.assertAsked(client, NAME, NAME, new, new, AGAIN, new, AGAIN, FIRST_ROOM)
        self.assertEqual("alice", client.core.user)
        for part in ("That cannot be a name here: a to z", "at least 8 characters", "The two were not the same."):
            self.assertIn(part, client.view.text)

    def test_taken(self) -> None:
        """Of a name that is taken another is asked for, and the password needs no typing again."""
        self.registered("alice")
        client = self.client("somebody")
        self.successResultOf(self.welcome(client, "alice", PASSWORD, PASSWORD, "alicia"))
        question = "Another name, or yes if alice is yours: "
        self.assertAsked(client, NAME, NEW.format("alice"), AGAIN, question, FIRST_ROOM)
        self.assertEqual("alicia", client.core.user)

    def test_taken_by_oneself(self) -> None:
        """Whose name it is logs in, and has their rooms; a wrong password leads back to the name."""
        self.registered("alice", "general")
        client = self.client("somebody")
        done = self.welcome(client, "alice", PASSWORD, PASSWORD, "yes", "wrongsecret", "alice", "yes", PASSWORD)
        self.successResultOf(done)
        self.assertEqual(("alice", ["general"]), (client.core.user, client.core.conversations.rooms()))
        self.assertNotIn(ROOM, client.view.asked)

    def test_refused(self) -> None:
        """Where a registration is refused, nothing more is asked: the reason says what is needed."""
        self.network.refuse("register", INVITE_NEEDED)
        client = self.client("alice")
        self.successResultOf(self.welcome(client, "alice", PASSWORD, PASSWORD))
        self.assertEqual(3, len(client.view.asked))
        self.assertIn("! ", client.view.text)
        self.assertAtPrompt(client)

    def test_rooms(self) -> None:
        """Open rooms are listed, the biggest first, and entered by number or name."""
        bob = self.registered("bob", "attic", "general")
        bob.type("/topic what it is about")
        self.registered("carol", "general")
        for number, answer in enumerate(("1", "general", "new")):
            client = self.client(f"client{number}")
            self.successResultOf(self.welcome(client, f"user{number}", PASSWORD, PASSWORD, answer))
            lines = client.view.take()
            self.assertRegex("\n".join(lines), r"(?m)^   1  general: \d members · what it is about$")
            self.assertIn("   2  attic: 1 member", lines)
            self.assertEqual("general" if answer == "1" else answer, client.core.conversations.active)

    def test_number_of_no_room(self) -> None:
        """A number that is in no list makes no room of that name: it is said, and asked for again."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, "alice", PASSWORD, PASSWORD, "1", "den"))
        self.assertIn("There is no number 1 here. Type a name; /join 1 makes a room of that name.", client.view.text)
        self.assertEqual(["den"], client.core.conversations.rooms())

    def test_room_refused(self) -> None:
        """A name that cannot be one is said, and asked for again."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, "alice", PASSWORD, PASSWORD, "no room!", "den"))
        self.assertEqual([FIRST_ROOM, FIRST_ROOM], client.view.asked[-2:])
        self.assertEqual("den", client.core.conversations.active)


class InvitedTests(WelcomeCase):
    """Tests for a newcomer with an invite line."""

    INVITED = ConnectLine("127.0.0.1", 12345, SRV, "i" * 22, "general", tls=False)

    def test_invited(self) -> None:
        """A name and a password, and they are in the room, without being asked for one."""
        client = self.client("carol", line=self.INVITED)
        self.successResultOf(self.welcome(client, "Carol", PASSWORD, PASSWORD))
        self.assertAsked(client, NAME, NEW.format("carol"), AGAIN)
        self.assertEqual(("carol", "general"), (client.core.user, client.core.conversations.active))
        self.assertIn("You are invited to 127.0.0.1.", client.view.take())

    def test_pasted(self) -> None:
        """So it is where the line was pasted."""
        client = self.client("carol")
        self.successResultOf(self.welcome(client, str(self.INVITED), "carol", PASSWORD, PASSWORD, chosen=False))
        self.assertAsked(client, HERE, NAME, NEW.format("carol"), AGAIN)
        self.assertEqual("general", client.core.conversations.active)

    def test_account_here(self) -> None:
        """Who has an account there on this machine logs in with it, and enters the room."""
        self.registered("bob", "general")
        alice = self.registered("alice")
        fresh = self.again(alice, login=False, line=self.INVITED)
        self.successResultOf(self.welcome(fresh, PASSWORD))
        self.assertAsked(fresh, BACK.format("alice"))
        self.assertEqual(("alice", "general"), (fresh.core.user, fresh.core.conversations.active))


class BackTests(WelcomeCase):
    """Tests for somebody who comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.pass_time(1)
        self.alice.quit()

    def test_password(self) -> None:
        """One account: its password is asked for at once, and again where it is wrong."""
        fresh = self.client("alice")
        self.successResultOf(self.welcome(fresh, "wrongpassword", PASSWORD))
        self.assertAsked(fresh, BACK.format("alice"), BACK.format("alice"))
        self.assertEqual("alice", fresh.core.user)
        self.assertNotIn(PASSWORD, fresh.view.text)

    def test_server_away(self) -> None:
        """Also while the server is away: the account opens all the same."""
        self.network.go_down()
        fresh = self.client("alice")
        self.successResultOf(self.welcome(fresh, PASSWORD))
        self.assertEqual(("alice", ["general"]), (fresh.core.user, fresh.core.conversations.rooms()))

    def test_enter_alone(self) -> None:
        """Enter alone leads to the prompt, which names the account."""
        for answers in ([""], []):
            fresh = self.client("alice")
            self.successResultOf(self.welcome(fresh, *answers))
            self.assertAsked(fresh, BACK.format("alice"))
            self.assertAtPrompt(fresh, "/login alice")

    def test_several(self) -> None:
        """Of several accounts the one is chosen by number or name."""
        other = self.client("alice")
        other.type(f"/register bob {PASSWORD}")
        other.quit()
        for answers, user in ((["2", PASSWORD], "bob"), (["alice", PASSWORD], "alice"), (["no!", "1", ""], "")):
            fresh = self.client("alice")
            self.successResultOf(self.welcome(fresh, *answers))
            self.assertEqual(user, fresh.core.user)
            self.assertIn("   2  bob", fresh.view.text)
            fresh.quit()

    def test_refused(self) -> None:
        """What the password is not to blame for leads to the prompt."""
        other = self.client("alice")
        other.type(f"/login alice {PASSWORD}")
        fresh = self.client("alice")
        self.successResultOf(self.welcome(fresh, PASSWORD))
        self.assertAsked(fresh, BACK.format("alice"))
        self.assertAtPrompt(fresh, "/login alice")


class CommandTests(WelcomeCase):
    """Tests for commands typed at a question."""

    def test_command(self) -> None:
        """A command is carried out, and nothing more is asked."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, f"/register alice {PASSWORD}"))
        self.assertAsked(client, NAME)
        self.assertEqual("alice", client.core.user)

    def test_help(self) -> None:
        """/help helps, and the question stays."""
        client = self.client("alice")
        self.successResultOf(self.welcome(client, "/help", "alice", PASSWORD, PASSWORD, ""))
        self.assertEqual([NAME, NAME], client.view.asked[:2])
        self.assertEqual("alice", client.core.user)

    def test_at_a_password(self) -> None:
        """Also at a password: a known command with its arguments is none."""
        self.registered("alice").quit()
        client = self.client("alice")
        self.successResultOf(self.welcome(client, f"/register bob {PASSWORD}"))
        self.assertEqual("bob", client.core.user)

    def test_exit(self) -> None:
        """/exit says no more."""
        client = self.client("alice")
        client.view.take()
        self.successResultOf(self.welcome(client, "/exit"))
        self.assertTrue(client.core.exiting)
        self.assertNotIn("/register", client.view.text)

    def test_in_their_order(self) -> None:
        """What is typed after a command that was typed at a question waits for it."""
        client = self.client("alice")
        client.threads.held = True
        welcome = self.welcome(client, f"/register alice {PASSWORD}")
        join = client.start("/join den")
        self.assertNoResult(join)
        client.threads.held = False
        while client.threads.waiting:
            client.threads.run_next()
            self.settle()
        self.successResultOf(welcome)
        self.assertEqual((Exit.OK, "den"), (self.successResultOf(join), client.core.conversations.active))

    def test_typed_before(self) -> None:
        """Who typed a command before anything could be asked is not asked."""
        client = self.client("alice")
        register = client.start(f"/register alice {PASSWORD}")
        self.successResultOf(self.welcome(client, chosen=False))
        self.assertEqual(Exit.OK, self.successResultOf(register))
        self.assertAsked(client)

    def test_typed_meanwhile(self) -> None:
        """Who logs in by another command meanwhile is not asked any further."""
        client = self.client("alice")
        answer: Deferred[str | None] = Deferred()
        welcome = self.welcome(client, answer)
        client.type(f"/register alice {PASSWORD}")
        answer.callback("nonsense!")
        self.settle()
        self.successResultOf(welcome)
        self.assertAsked(client, NAME)


class ListensTests(SynchronousTestCase):
    """Tests for `listens`."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.result = Deferred.fromCoroutine(listens(self.reactor, replace(ADDRESS, port=1)))
        ((_, _, self.factory, *_),) = self.reactor.tcpClients

    def test_yes(self) -> None:
        """Whoever takes the connection listens; nothing is said to them."""
        protocol: Any = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport = StringTransport()
        transport.abortConnection = lambda: transport.loseConnection()  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        self.assertTrue(self.successResultOf(self.result))
        self.assertEqual((b"", True), (transport.value(), transport.disconnecting))

    def test_no(self) -> None:
        """A refusal is a no, and so is silence."""
        self.factory.clientConnectionFailed(None, Failure(ConnectError()))
        self.assertFalse(self.successResultOf(self.result))
        silent = Deferred.fromCoroutine(listens(self.reactor, ADDRESS))
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(TimeoutError()))
        self.assertFalse(self.successResultOf(silent))
