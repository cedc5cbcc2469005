"""Tests for a client that logs in before anything is typed."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from securechat.errors import Exit
from tests.doubles import PASSWORD, ChatCase, ChatClient


class BeginTests(ChatCase):
    """A client of alice, who has an account, and of nobody else."""

    def started(self, password: str | None = PASSWORD, *, interactive: bool = False) -> ChatClient:
        """A client that was told who logs in."""
        client = self.again(self.registered("alice", "ops"), login=False, interactive=interactive)
        client.core.orders.begin("alice", password)
        return client

    def close(self, client: ChatClient, timeout: float = 30.0) -> Exit:
        """Closes it."""
        closing = Deferred.fromCoroutine(client.core.close(timeout))
        self.pass_time(3)
        return self.successResultOf(closing)

    def test_first_line_waits(self) -> None:
        """The first line runs when the account is open, though it was typed before."""
        client = self.started()
        typed = Deferred.fromCoroutine(client.core.orders.submit("/whoami"))
        self.assertNoResult(typed)
        self.settle()
        self.assertEqual(Exit.OK, self.successResultOf(typed))
        self.assertEqual("Logged in as alice.", client.view.take()[0])
        self.assertEqual(Exit.OK, client.exit("/whoami"))

    def test_refused_script(self) -> None:
        """In a script every line fails as the login did, and so does an end without any line."""
        client = self.started("not-it-at-all")
        for _ in range(2):
            self.assertEqual(Exit.LOGIN_REFUSED, client.exit("/whoami"))
        self.assertEqual(Exit.LOGIN_REFUSED, self.close(client))
        self.assertNotIn("You are alice", client.view.text)
        self.assertNotIn("not-it-at-all", client.view.text)

    def test_refused_person(self) -> None:
        """A person is told, and may try again."""
        client = self.started("not-it-at-all", interactive=True)
        self.settle()
        self.assertEqual(1, len(client.view.take()))
        self.assertEqual(Exit.OK, client.exit(f"/login alice {PASSWORD}"))

    def test_no_line_at_all(self) -> None:
        """Where nothing is typed the login is all there is to do, and it is done before the end."""
        client = self.started()
        self.assertEqual(Exit.OK, self.close(client))
        self.assertIn("Logged in as alice.", client.view.take())

    def test_person_who_leaves(self) -> None:
        """Who leaves at once, or is ended from outside, does not wait for a login."""
        for interactive, timeout in ((True, 30.0), (False, 0.0)):
            client = self.started_unanswered(interactive=interactive)
            self.assertEqual(Exit.OK, self.close(client, timeout))
            self.network.changes.clear()

    def started_unanswered(self, *, interactive: bool) -> ChatClient:
        """One whose login gets no answer."""
        client = self.again(self.registered("bob" if interactive else "carol"), login=False, interactive=interactive)
        self.network.changes.append(lambda said: said if "event" in said else None)
        client.core.orders.begin(client.name, PASSWORD)
        self.settle()
        return client

    def test_without_password(self) -> None:
        """Without a password a person is asked for it, and a script fails with the way to name one."""
        client = self.again(self.registered("alice"), login=False)
        client.view.answers = [PASSWORD]
        client.core.orders.begin("alice")
        self.settle()
        self.assertEqual((["Password of alice: "], "alice"), (client.view.asked, client.core.user))
        script = self.again(client, login=False, interactive=False)
        script.core.orders.begin("alice")
        self.assertEqual(Exit.FIXABLE, script.exit("/whoami"))
        self.assertIn("--password-file FILE", script.view.text)
