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
from tests.doubles import SRV, ChatCase, ChatClient

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
    """A service whose view and reactor are the test's: its welcome is called as a start would."""

    registration = Registration.OPEN

    def service(self, client: ChatClient) -> Any:
        """The service that has this client's core."""
        self.statuses: list[Exit] = []
        return TerminalClient(self.reactor, data_dir=str(client.directory.path), done=self.statuses.append, environ={})


class WelcomeTests(ServiceCase):
    """Tests for how it asks at the start."""

    def welcome(self, service: Any, client: ChatClient, why_plain: str | None = None) -> list[str]:
        """What happens at the start."""
        self.successResultOf(Deferred.fromCoroutine(service._welcome(client.core, why_plain)))
        return client.view.take()

    def test_plain(self) -> None:
        """It says why there is no prompt, where nobody asked for that."""
        client = self.registered("alice")
        client.quit()
        self.assertIn(
            "(Plain view: this terminal is dumb.)", self.welcome(self.service(client), client, "this terminal is dumb")
        )

    def test_chosen(self) -> None:
        """A server that was used before, or is named by the environment, is not asked for."""
        client = self.registered("alice")
        client.quit()
        fresh = self.client("alice")
        self.welcome(self.service(fresh), fresh)
        self.assertEqual(["Password of alice (Enter: the prompt): "], fresh.view.asked)
        stranger = self.client("stranger")
        service = self.service(stranger)
        service._environ = ENVIRON
        self.welcome(service, stranger)
        self.assertEqual(["Choose a name (Enter: the prompt): "], stranger.view.asked)

    def test_exit(self) -> None:
        """Who answers /exit is let go, once the core is closed."""
        client = self.client("alice")
        client.view.answers = ["/exit"]
        service = self.service(client)
        service._environ = ENVIRON
        self.welcome(service, client)
        self.assertEqual([Exit.OK], self.statuses)


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
