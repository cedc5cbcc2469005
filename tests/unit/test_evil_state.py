"""What a client knows never goes back: not by what the server leaves out, renames, gives late or gives again."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionRefusedError

from securechat.client import acts
from securechat.client.store import CannotKeep
from securechat.crypto.primitives import b64
from securechat.crypto.transcript import transcript_start
from securechat.errors import Exit
from securechat.wire import messages as m
from tests.doubles import PASSWORD, START, ChatClient
from tests.evil import Said, as_packet
from tests.evil_case import EvilCase


class StateCase(EvilCase):
    """Tests in which a client comes back to a server that says something else than before."""

    def at_sync(self, user: str, change: Any) -> None:
        """What somebody's next `sync` is answered."""
        self.evil.rule(lambda who, kind, said: [change(said)] if (who, kind) == (user, "sync") else None)

    def come_back(self, client: ChatClient) -> None:
        """The connection breaks, and is made again."""
        client.wire.cut()
        self.pass_time(40)

    def anew(self, client: ChatClient) -> ChatClient:
        """The client is ended and started again."""
        self.pass_time(2)
        fresh = self.again(client, login=False)
        fresh.start(f"/login {client.name} {PASSWORD}")
        self.settle()
        return fresh


class LeftOutTests(StateCase):
    """Tests for conversations that the server does not name for a while."""

    def test_shorter_log(self) -> None:
        """A room that comes back with a log cut before a kick: the kick stays, and so do alarms."""
        alice, bob, mallory = (self.registered(name) for name in ("alice", "bob", "mallory"))
        self.private_room(alice, bob, mallory)
        bob.type("first")
        alice.type("/kick mallory")
        room = self.conversation(alice, "den")
        alice.core.lobby.alarm(room, "something happened")
        log = self.log(alice, "den")
        self.at_sync("alice", lambda said: {**said, "conversations": []})
        self.come_back(alice)
        self.assertIn("You are no longer in den.", alice.view.text)
        self.evil.stop()
        short, link = log.count - 1, log.links[-2]

        def cut(user: str, kind: str, said: Said) -> list[Said] | None:
            if user == "alice" and kind == "sync":
                state = {"events": short, "head": link, "start": [0, transcript_start(log.id)]}
                return [{**said, "conversations": [{**one, **state} for one in said["conversations"]]}]
            if user == "alice" and kind == "roomlog" and "acts" in said:
                return [{**said, "acts": said["acts"][:short], "events": short, "more": False}]
            return None

        self.evil.rule(cut)
        self.come_back(alice)
        self.assertEqual({"alice", "bob"}, self.log(alice, "den").members.keys())
        self.assertIn("something happened", self.conversation(alice, "den").stopped)
        alice.view.take()
        self.evil.insert("alice", self.evil.seen["alice", "den", 1])
        self.settle()
        self.assertNotIn("[den] <bob> first", alice.view.take())
        alice.core.conversations.activate("den")
        self.assertEqual(Exit.UNTRUSTED, alice.exit("/send not for mallory"))
        self.assertNotIn("not for mallory", mallory.view.text)

    def test_private(self) -> None:
        """A private conversation that is not named is there all the same: what stopped it stops it still."""
        alice, bob = self.people("alice", "bob")
        alice.type("/pm bob hi")
        bob.type("/pm alice hi")
        bob.core.lobby.alarm(self.conversation(bob, "@alice"), "something happened")
        self.at_sync("bob", lambda said: {
            **said, "conversations": [one for one in said["conversations"] if not one["room"].startswith("pm:")]
        })  # fmt: skip
        self.come_back(bob)
        self.assertEqual(Exit.UNTRUSTED, bob.exit("/pm alice secret"))
        self.assertNotIn("secret", alice.view.text)
        self.assertEqual(1, alice.view.text.count("[pm] <bob> hi"))


class RenamedTests(StateCase):
    """Tests for conversations under another name, or another person's."""

    def test_peer_of_a_room(self) -> None:
        """A room has no other person: what is written there is not shown as if somebody wrote in private."""
        alice, bob, _ = self.people("alice", "bob", "carol")
        self.at_sync("bob", lambda said: {
            **said, "conversations": [{**one, "peer": "carol"} for one in said["conversations"]]
        })  # fmt: skip
        self.come_back(bob)
        alice.type("/send you are fired")
        self.assertEqual("[ops] <alice> you are fired", bob.view.take()[-1])

    def test_other_peer(self) -> None:
        """A private conversation stays with whom it is, whatever name the server gives them later."""
        alice, bob, _ = self.people("alice", "bob", "carol")
        alice.type("/pm bob hi")
        self.at_sync("bob", lambda said: {
            **said, "conversations": [{**one, "peer": "carol"} for one in said["conversations"]]
        })  # fmt: skip
        self.come_back(bob)
        alice.type("/pm bob again")
        self.assertEqual("[pm] <alice> again", bob.view.take()[-1])

    def test_two_names(self) -> None:
        """A second name for a private conversation gives nothing of it again."""
        alice, bob = self.people("alice", "bob")
        alice.type("/pm bob yes, do it")
        pm, false = self.conversation(bob, "@alice").room, "pm:" + "ab" * 32
        state = {
            "room": false, "id": pm, "head": "", "events": 0, "last": 1, "first": 0, "read": 0, "unread": 0,
            "start": [0, transcript_start(pm)], "peer": "alice",
        }  # fmt: skip
        self.at_sync("bob", lambda said: {**said, "conversations": [*said["conversations"], state]})
        self.come_back(bob)
        bob.view.take()
        self.evil.say("bob", {**self.evil.seen["bob", pm, 1], "room": false})
        self.settle()
        self.assertNotIn("yes, do it", "\n".join(bob.view.take()))


class PassedOverTests(StateCase):
    """Tests for messages that the server passes over."""

    def test_as_if_out_of_the_room(self) -> None:
        """Nobody was out of a room whose log does not say so."""
        alice, bob, carol = self.people("alice", "bob", "carol")
        carol.type("/send zero")
        bob.wire.cut()
        self.network.failure = ConnectionRefusedError()
        alice.type("/send do NOT deploy")
        seq, th = self.conversation(alice, "ops").reader.transcript.place
        self.at_sync("bob", lambda said: {
            **said, "conversations": [{**one, "first": seq, "start": [seq, th]} for one in said["conversations"]]
        })  # fmt: skip
        self.evil.change_messages("bob", lambda message: None if message["seq"] <= seq else message)
        self.network.failure = None
        self.pass_time(40)
        self.assertIn("The server passed over messages, as if you had been out of the room meanwhile", bob.view.text)
        self.assertEqual(Exit.UNTRUSTED, bob.exit("/send yes go"))


class MembersTests(StateCase):
    """Tests for people who come into a private room while one is not told."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.eve = (self.registered(name) for name in ("alice", "bob", "eve"))
        self.private_room(self.alice, self.bob)

    def let_in(self) -> None:
        """Alice lets eve in, and writes."""
        self.alice.type("/invite eve")
        self.eve.type("/accept den")
        self.alice.type("/send welcome")

    def test_while_away(self) -> None:
        """Who comes back is told who came in."""
        self.pass_time(2)
        self.bob.quit()
        self.let_in()
        bob = self.anew(self.bob)
        self.assertIn("[den] * eve joined", bob.view.take())

    def test_withheld(self) -> None:
        """Who is not told as it happens is told before anything of theirs is sealed for the newcomer."""
        self.evil.rule(lambda user, kind, said: [] if (user, kind) == ("bob", "event:room") else None)
        self.let_in()
        self.assertIn("[den] * eve joined", self.bob.view.take())


class OwnListTests(StateCase):
    """Tests for one's own device list."""

    def test_rolled_back(self) -> None:
        """An older list of one's own is refused, and nothing is sealed for the key of a revoked device."""
        alice, _ = self.people("alice", "bob")
        stolen = self.elsewhere("alice")
        assert stolen.core.account is not None and alice.core.account is not None
        old = self.evil.bundles["alice"][-1]
        alice.exit(f"/revoke {stolen.core.account.keys.dev[:8]} {PASSWORD}")
        present = alice.core.account.own.kid
        self.evil.say("alice", {"event": "member", "user": "alice", "keys": old})
        self.settle()
        self.assertIn("keys as yours that are refused", alice.view.text)
        self.assertEqual(Exit.OK, alice.exit("/pm bob hello"))
        (sent,) = [asked["package"] for asked in alice.wire.asked if asked["cmd"] == "pm"]
        self.assertEqual(present, sent["kids"]["alice"])


class BrokenTests(StateCase):
    """Tests for a room whose log cannot go on."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.registered("alice"), self.registered("bob")
        self.private_room(self.alice, self.bob)
        ghost = self.impostor("mallory")
        author = acts.Author(ghost.srv, ghost.user, ghost.ik, ghost.dev, (1, ghost.keys.digest), START * 1000)
        self.ghost = ghost.sign(acts.join(author)(self.log(self.bob, "den")))
        self.evil.add_event("bob", "den", self.ghost, ghost.certificate)
        self.settle()
        self.cert = as_packet(m.Certificate.of(ghost.certificate))

    def lie_on(self) -> None:
        """The server keeps the false event in the log that it gives bob."""
        act = {"signed": b64(self.ghost.data), "sig": b64(self.ghost.sig)}

        def longer(user: str, kind: str, said: Said) -> list[Said] | None:
            if (user, kind) != ("bob", "roomlog") or "acts" not in said:
                return None
            more = {"acts": [*said["acts"], act], "certs": [*said["certs"], self.cert], "events": said["events"] + 1}
            return [{**said, **more}]

        self.evil.rule(longer)

    def test_over_a_restart(self) -> None:
        """It does not go on after a restart either, as long as the server shows the same."""
        bob = self.bob
        self.assertIn("Nothing is sent there until the server shows a log that checks out.", bob.view.text)
        self.lie_on()
        bob = self.anew(bob)
        self.assertEqual(Exit.UNTRUSTED, bob.exit("/continue den"))
        bob.core.conversations.activate("den")
        self.assertEqual(Exit.UNTRUSTED, bob.exit("/send hi"))

    def test_looked_at_again(self) -> None:
        """Once the server shows a log that checks out, what waited is sent: the verified part was never lost."""
        self.assertEqual(Exit.UNTRUSTED, self.bob.exit("/send hi"))
        self.assertEqual(Exit.OK, self.bob.exit("/continue den"))
        self.assertEqual("[den] <bob> hi", self.alice.view.take()[-1])


class DiskTests(StateCase):
    """Tests for a disk that is full while the connection comes back."""

    def test_free_again(self) -> None:
        """It is said, tried again by itself, and goes on once there is room."""
        alice, _ = self.people("alice", "bob")
        carol = self.registered("carol")
        alice.wire.cut()
        self.network.failure = ConnectionRefusedError()
        self.settle()
        self.network.failure = None
        carol.type("/join ops")
        assert alice.core.account is not None
        store = alice.core.account.store
        genuine = store.write

        async def full(puts: Any = (), deletes: Any = ()) -> None:
            raise CannotKeep("The disk is full.")

        store.write = full  # type: ignore[method-assign]
        self.pass_time(40)
        self.assertIn("! The disk is full.", alice.view.text)
        store.write = genuine  # type: ignore[method-assign]
        self.pass_time(200)
        self.assertEqual(Exit.OK, alice.exit("/send hello"))
        self.flushLoggedErrors(CannotKeep)  # of notes that come again by themselves
