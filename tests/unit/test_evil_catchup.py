"""Attacks on catching up: a server that says one has come to another place than one has."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from twisted.internet.error import ConnectionRefusedError

from securechat.crypto.transcript import transcript_start
from securechat.errors import Exit
from tests.doubles import ADDRESS, PASSWORD, ChatClient
from tests.evil import Said
from tests.evil_case import EvilCase

OTHER_PLACE: Final = "[ops] The server goes on at another place than you had come to. Sending there is stopped."
AS_IF_OUT: Final = "The server passed over messages, as if you had been out of the room meanwhile."
READ_AGAIN: Final = "The server's history is not the one this client knew"


class SkippingTests(EvilCase):
    """Bob is away; what was said meanwhile is to be kept from him."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = self.people("alice", "bob", "carol")

    def away(self, client: ChatClient) -> None:
        """Cuts a client off until `back`."""
        self.network.failure = ConnectionRefusedError()
        client.wire.cut()
        self.settle()

    def back(self) -> None:
        """There is a way to the server again."""
        self.network.come_back()
        self.pass_time(60)

    def skip_to(self, **changes: object) -> None:
        """From now on bob is told that he comes in behind the newest message, of which nothing is given him."""
        place = list(self.carol.core.conversations.get("ops").reader.transcript.place)  # type: ignore[union-attr]
        told = {"start": place, **{name: place[0] if value is None else value for name, value in changes.items()}}

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != "bob":
                return None
            if kind == "sync":
                states = [{**one, **told} if one["room"] == "ops" else one for one in said["conversations"]]
                return [{**said, "conversations": states, **({"epoch": "ab" * 16} if "reset" in changes else {})}]
            return [] if kind == "message" and said["seq"] <= place[0] else None

        self.evil.rule(rule)

    def assertStopped(self, said: str) -> None:
        """Bob was told, and nothing of his leaves."""
        self.assertShown(said, self.bob)
        self.bob.type("/switch ops")
        self.assertWaits(self.bob, "/send hello", "Sending to ops is stopped:")

    def test_before_the_first(self) -> None:
        """Nor is anything passed over in a room of which nothing was shown yet."""
        self.away(self.bob)
        self.alice.type("do not trust the operator")
        self.skip_to()
        self.back()
        self.assertStopped(OTHER_PLACE)

    def test_as_after_a_restore(self) -> None:
        """A new epoch is a reason to give more again, not less."""
        self.alice.type("seen")
        self.away(self.bob)
        self.carol.type("hidden")
        self.skip_to(reset=True)
        self.back()
        self.assertStopped(OTHER_PLACE)

    def test_as_if_put_out(self) -> None:
        """Who is said to have joined again has an event in the log, or there is a lie."""
        self.alice.type("seen")
        self.away(self.bob)
        self.carol.type("hidden")
        self.skip_to(first=None)
        self.back()
        self.assertStopped(AS_IF_OUT)

    def test_by_way_of_another_device(self) -> None:
        """Nor is a room passed over that is hidden first, and then appears as if another device had entered it."""
        self.alice.type("seen")
        self.evil.rule(
            lambda user, kind, said: [{**said, "conversations": []}] if kind == "sync" and user == "bob" else None
        )
        self.away(self.bob)
        self.back()
        self.assertShown("You are no longer in ops.", self.bob)
        self.carol.type("hidden")
        self.evil.stop()
        self.skip_to(first=None)
        self.alice.type("/topic anything")
        self.pass_time(2)
        lines = self.bob.view.take()
        self.assertEqual([], [line for line in lines if "bob joined" in line])
        self.assertIn(AS_IF_OUT, "\n".join(lines))

    def test_reset_of_what_is_new(self) -> None:
        """A conversation that this client did not name was not followed: nothing of it is said to be read again."""

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "sync":
                return None
            return [{**said, "conversations": [{**one, "reset": True} for one in said["conversations"]]}]

        self.evil.rule(rule)
        again = self.client("elsewhere")
        again.type(f"/login bob {PASSWORD}")
        self.assertNotIn(READ_AGAIN, again.view.text)


class InviteLineTests(EvilCase):
    """A friend's line names a room and its maker by what cannot be forged."""

    def test_false_room(self) -> None:
        """A server that puts a newcomer into another room of that name at once does not make it the one meant."""
        (mallory,) = self.people("mallory")
        false = mallory.core.conversations.get("ops")
        assert false is not None and false.log is not None
        state = {
            "room": "ops",
            "id": false.id,
            "head": false.log.head,
            "events": false.log.count,
            **dict.fromkeys(("last", "first", "read", "unread"), 0),
            "start": [0, transcript_start(false.id)],
        }
        self.evil.rule(lambda user, kind, said: [{**said, "conversations": [state]}] if kind == "sync" else None)
        line = replace(ADDRESS, room="ops", rid="ab" * 32, inviter="alice:" + "x" * 43)
        bob = self.client("bob", line=line)
        self.assertEqual(Exit.UNTRUSTED, bob.exit(f"/register bob {PASSWORD}"))
        self.assertShown("not the one you knew under that name, or were invited to.", bob)
        self.assertEqual("ab" * 32, bob.core.conversations.names["ops"])

    def test_false_maker(self) -> None:
        """The maker's identity counts from the first word of the server on."""
        (alice,) = self.people("alice")
        alice.type("/pm alice2 hello")
        line = replace(ADDRESS, room="ops", inviter="alice:" + "x" * 43)
        bob = self.client("bob", line=line)
        bob.exit(f"/register bob {PASSWORD}")
        self.assertIn("not the one your invite line names", bob.view.text)
        people = bob.core.people
        assert people is not None
        self.assertIsNone(people.identity("alice"))


class RelabelTests(EvilCase):
    """Private messages under another name."""

    def test_after_a_restart(self) -> None:
        """Whose conversation it is was found by identities; another word of the server's changes nothing, ever."""
        alice, bob, _ = self.people("alice", "bob", "carol")
        alice.type("/pm bob hello")
        bob.type("/pm alice hello")
        self.pass_time(5)  # so that it is on disk
        alice.quit()
        self.clients.remove(alice)

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "sync" or user != "alice":
                return None
            states = [{**one, "peer": "carol"} if "peer" in one else one for one in said["conversations"]]
            return [{**said, "conversations": states}]

        self.evil.rule(rule)
        again = self.client("alice")
        self.assertEqual(Exit.OK, again.exit(f"/login alice {PASSWORD}"))
        bob.type("/pm alice still here")
        self.assertShown("[pm] <bob> still here", again)
        self.assertEqual(["bob"], [c.peer for c in again.core.conversations if c.peer is not None])
