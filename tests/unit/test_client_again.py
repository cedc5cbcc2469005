"""Tests of coming back: into a room one was out of, on one device or two, and after a restore."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError

from securechat.errors import BUSY, Exit
from tests.doubles import PASSWORD, ChatCase, ChatClient


class AgainCase(ChatCase):
    """Tests of alice and bob in one room."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = (self.registered(name, "ops") for name in ("alice", "bob"))
        self.quiet()

    def quiet(self) -> None:
        """What was shown so far is of no interest."""
        for client in self.clients:
            client.view.take()

    def second(self, user: str) -> ChatClient:
        """Another device of somebody's."""
        client = self.client(f"{user}2")
        self.assertEqual(Exit.OK, client.exit(f"/login {user} {PASSWORD}"))
        client.view.take()
        return client

    def cut(self, client: ChatClient) -> None:
        """Takes the network from one client, until `network.come_back`."""
        self.network.failure = ConnectionRefusedError()
        client.wire.cut()
        self.settle()

    def assertSound(self, *clients: ChatClient) -> None:
        """Nothing is stopped, nothing waits."""
        for client in clients:
            self.assertEqual([], [c.stopped for c in client.core.conversations if c.stopped])
            assert client.core.outbox is not None
            self.assertEqual([], client.core.outbox.pending())


class LeftAndBackTests(AgainCase):
    """Out of a room, and in again."""

    def assertNothingMissing(self, client: ChatClient, text: str) -> None:
        """A message was shown, and nothing said beside it."""
        self.assertIn(text, client.view.text.splitlines())
        self.assertNotIn("missing", client.view.text)

    def test_left(self) -> None:
        """What others said while one was out is not missing: one was told that it is from before."""
        self.alice.type("one")
        self.bob.type("/leave ops")
        self.alice.type("two")
        self.bob.type("/join ops")
        self.alice.type("three")
        self.assertNothingMissing(self.bob, "[ops] <alice> three")

    def test_left_and_restarted(self) -> None:
        """Nor after a restart of the client, before or after."""
        self.alice.type("one")
        self.bob.type("/leave ops")
        self.pass_time(5)
        self.bob.quit()
        self.clients.remove(self.bob)
        self.alice.type("two")
        bob = self.client("bob")
        bob.type(f"/login bob {PASSWORD}")
        bob.type("/join ops")
        self.pass_time(5)
        bob.quit()
        self.clients.remove(bob)
        bob = self.client("bob")
        bob.type(f"/login bob {PASSWORD}")
        self.alice.type("three")
        self.assertNothingMissing(bob, "[ops] <alice> three")

    def test_kicked_while_away(self) -> None:
        """Nor where one was put out while away, and let in again by another device."""
        other = self.second("bob")
        self.alice.type("one")
        self.cut(self.bob)
        self.alice.type("/kick bob")
        self.alice.type("two")
        other.type("/join ops")
        self.alice.type("three")
        self.network.come_back()
        self.pass_time(60)
        self.assertNothingMissing(self.bob, "[ops] <alice> three")
        self.assertSound(self.bob, other, self.alice)


class TwoDevicesTests(AgainCase):
    """Two devices of one account."""

    def test_nothing_said_yet(self) -> None:
        """What is said first in a room while a device is away comes to it as to the other."""
        other = self.second("bob")
        self.alice.type("/create new")
        self.bob.type("/join new")
        self.cut(other)
        for number in range(3):
            self.alice.type(f"m{number}")
        self.network.come_back()
        self.pass_time(60)
        lines = [line for line in other.view.text.splitlines() if "<alice> m" in line]
        self.assertEqual([f"[new] <alice> m{number}" for number in range(3)], lines)
        self.assertSound(other)

    def test_both_at_once(self) -> None:
        """Both enter at once: one by its join, the other by the first one's; both are in, and it is active on both."""
        other = self.second("bob")
        self.bob.type("/leave ops")
        self.bob.wire.held = other.wire.held = True
        answers = [self.bob.start("/join ops"), other.start("/join ops")]
        for client in (self.bob, other):
            client.wire.held = False
            self.settle()
        self.pass_time(5)
        self.assertEqual([Exit.OK, Exit.OK], [self.successResultOf(answer) for answer in answers])
        self.alice.type("hello")
        for client in (self.bob, other):
            self.assertEqual("ops", client.core.conversations.active)
            self.assertIn("[ops] <alice> hello", client.view.text.splitlines())
        self.assertSound(self.bob, other)

    def test_busy(self) -> None:
        """A server that asks for patience just then is asked again."""
        other = self.second("bob")
        self.bob.type("/leave ops")
        self.network.refuse("sync", BUSY, 1)
        self.bob.type("/join ops")
        self.pass_time(10)
        self.alice.type("hello")
        self.assertIn("[ops] <alice> hello", other.view.text.splitlines())


class AnotherRoomTests(AgainCase):
    """A room that is made anew under a name, while something waits for the one before."""

    def test_typed_for_the_one_before(self) -> None:
        """It goes nowhere, is said to, and keeps nothing else waiting."""
        self.alice.type("/create den --private")
        self.alice.type("/invite bob")
        self.bob.type("/accept den")
        self.alice.exit(f"/reset-identity {PASSWORD} yes")
        self.assertEqual(Exit.UNTRUSTED, self.bob.exit("for the old room"))
        self.bob.type("/leave den")
        self.bob.type("/create den --private")
        self.quiet()
        self.assertEqual(Exit.OK, self.bob.exit("for the new one"))
        self.assertEqual(
            [
                "! This was typed for another room that was called den then. It goes nowhere."
                " Not sent: for the old room",
                "[den] <bob> for the new one",
            ],
            self.bob.view.take(),
        )
        self.assertSound(self.bob)
