"""Tests for how the client is put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.profile import ClientDir
from securechat.client.service import TerminalClient, choose_line
from securechat.errors import Exit
from securechat.link import BadAddress, ConnectLine
from securechat.server.session import Registration
from tests.doubles import PASSWORD, SRV, ChatCase, ChatClient

GIVEN = "securechat://given.example:1/"
ENVIRON = {"SECURECHAT_CONNECT": "securechat://environ.example:2/"}
LAST = ConnectLine("last.example", 3)


class ChooseTests(SynchronousTestCase):
    """Tests for `choose_line`."""

    def setUp(self) -> None:
        self.directory = ClientDir(Path(self.mktemp()))

    def test_precedence(self) -> None:
        """What is given comes before the environment, that before the last server, that before this machine."""
        self.assertEqual(ConnectLine("127.0.0.1", 12345), choose_line(None, self.directory, {}))
        self.directory.remember(LAST.known(SRV))
        self.assertEqual(LAST, choose_line(None, self.directory, {}))
        self.assertEqual("environ.example", choose_line(None, self.directory, ENVIRON).host)
        self.assertEqual("given.example", choose_line(GIVEN, self.directory, ENVIRON).host)

    def test_empty_is_none(self) -> None:
        """An empty environment variable is none."""
        self.assertEqual("127.0.0.1", choose_line("", self.directory, {"SECURECHAT_CONNECT": ""}).host)

    def test_bad(self) -> None:
        """A line that is none is an error, not another server."""
        self.directory.remember(LAST.known(SRV))
        for given, environ in (("http://x", {}), (None, {"SECURECHAT_CONNECT": "securechat://h/#id=short"})):
            with self.assertRaises(BadAddress):
                choose_line(given, self.directory, environ)

    def test_damaged_memory(self) -> None:
        """A last server that cannot be understood is passed over."""
        self.directory.prepare()
        (self.directory.path / "known.json").write_text('{"last": "nonsense://"}')
        self.assertEqual("127.0.0.1", choose_line(None, self.directory, {}).host)


class ServiceCase(ChatCase):
    """A service whose view and reactor are the test's: its greeting and welcome are called as a start would."""

    registration = Registration.OPEN

    def service(self, client: ChatClient) -> Any:
        """The service that has this client's core."""
        self.statuses: list[Exit] = []
        return TerminalClient(self.reactor, data_dir=str(client.directory.path), done=self.statuses.append, environ={})


class WelcomeTests(ServiceCase):
    """Tests for a newcomer with an invite line."""

    LINE = ConnectLine("127.0.0.1", 12345, SRV, "i" * 22, "general", tls=False)

    def welcome(self, client: ChatClient, *answers: str | Deferred[str | None]) -> Deferred[None]:
        """What happens at the start, for somebody who answers so."""
        client.view.answers = list(answers)
        result = Deferred.fromCoroutine(self.service(client)._welcome(client.core))
        self.settle()
        return result

    def test_minute(self) -> None:
        """A name and a password, typed twice, and they are in the room."""
        client = self.client("carol", line=self.LINE)
        self.successResultOf(self.welcome(client, "Carol", PASSWORD, PASSWORD))
        self.assertEqual(["Choose a name: ", "New password for carol: ", "The same again: "], client.view.asked)
        self.assertEqual(("carol", "general"), (client.core.user, client.core.conversations.active))
        self.assertEqual("You are invited to 127.0.0.1.", client.view.take()[0])

    def test_asked_again(self) -> None:
        """A name that cannot be one, or is taken, and a password too short, are asked for again."""
        self.registered("alice")
        client = self.client("carol", line=self.LINE)
        done = self.welcome(
            client, "no name!", "alice", PASSWORD, PASSWORD, "carol", "short", "carol", PASSWORD, PASSWORD
        )
        self.successResultOf(done)
        self.assertEqual("carol", client.core.user)
        self.assertIn("That cannot be a name here: a to z", client.view.text)
        self.assertIn("The name alice is taken.", client.view.text)

    def test_declined(self) -> None:
        """Who gives no name is left in peace, and nothing is connected."""
        client = self.client("carol", line=self.LINE)
        self.successResultOf(self.welcome(client))
        self.assertEqual(([], ["Choose a name: "]), (self.network.wires, client.view.asked))

    def test_account_here(self) -> None:
        """Who has an account there on this machine is not asked: /login is what they want."""
        client = self.again(self.registered("alice"), login=False, line=self.LINE)
        self.successResultOf(self.welcome(client, "carol"))
        self.assertEqual([], client.view.asked)

    def test_typed_meanwhile(self) -> None:
        """Who logs in by another command meanwhile is not asked for another name."""
        client = self.client("carol", line=self.LINE)
        answer: Deferred[str | None] = Deferred()
        welcome = self.welcome(client, answer)
        client.type(f"/register carol {PASSWORD}")
        answer.callback("nonsense!")
        self.settle()
        self.successResultOf(welcome)
        self.assertEqual(["Choose a name: "], client.view.asked)


class GreetTests(ServiceCase):
    """Tests for what is shown at the start."""

    def greeting(self, client: ChatClient, why_plain: str | None = None) -> str:
        """The first lines."""
        self.service(client)._greet(client.core, why_plain)
        return "\n".join(client.view.take())

    def test_new(self) -> None:
        """It shows what can be typed."""
        text = self.greeting(self.client())
        for part in ("/register NAME", "/login NAME", "/join ROOM", "/pm NAME TEXT", "/help", "/exit"):
            self.assertIn(part, text)
        self.assertNotIn("Plain view", text)

    def test_known(self) -> None:
        """With one account on this machine the login names it, whether or not the line has the server's id."""
        alice = self.registered("alice")
        for line in (ConnectLine("127.0.0.1", 12345), ConnectLine("127.0.0.1", 12345, SRV)):
            alice.core.line = line
            self.assertIn("/login alice", self.greeting(alice))

    def test_plain(self) -> None:
        """It says why there is no prompt."""
        self.assertIn("(Plain view: this terminal is dumb.)", self.greeting(self.client(), "this terminal is dumb"))


class EndTests(ServiceCase):
    """Tests for the end."""

    def test_status(self) -> None:
        """The status is told once, and kept."""
        service = self.service(self.client())
        service._ended(Exit.NETWORK)
        self.assertEqual(([Exit.NETWORK], Exit.NETWORK), (self.statuses, service.status))

    def test_stopped_before_it_started(self) -> None:
        """A service that never started stops at once."""
        service = self.service(self.client())
        self.successResultOf(service.stopService())
