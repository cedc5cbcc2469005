"""Tests for what a server can do to keys, devices and lists, and what those who use them are told (see test_evil)."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from securechat.client.acts import Author, create, leave
from securechat.crypto.envelope import unwrap
from securechat.crypto.identity import SignedBundle
from securechat.crypto.roomlog import RoomLog, sign_event
from securechat.crypto.trust import TrustState, identity_hash
from securechat.errors import Exit
from securechat.link import ConnectLine
from securechat.wire import messages as m
from tests.doubles import ADDRESS, PASSWORD, SRV, START, ChatClient, long_id, rsa_key
from tests.evil import Said, as_packet
from tests.evil_case import EvilCase, MessageCase

CHANGED = "The identity of bob changed since you first met. Nothing is sent to them until you compare again:"


class KeyCase(EvilCase):
    """Alice and bob, who have met in an open room and in a private one; the private one is active."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.people("alice", "bob")
        self.private_room(self.alice, self.bob)
        self.alice.type("hello bob")
        self.bob.view.take()

    def swap(self, bundle: SignedBundle, of: str = "bob", to: str = "alice") -> None:
        """The server says that a name has these keys now, and stays with it."""
        self.evil.announce_keys(to, of, bundle)
        self.settle()

    def state(self, client: ChatClient, user: str = "bob") -> TrustState | None:
        """How far somebody's identity is trusted."""
        assert client.core.people is not None
        return client.core.people.state(user)

    def assertNotSentTo(self, text: str, *clients: ChatClient) -> None:
        """Nobody of these was shown a text."""
        for client in clients:
            self.assertNotIn(text, client.view.text)


class KeySwapTests(KeyCase):
    """The server gives its own keys for somebody's name."""

    def test_private(self) -> None:
        """Whoever was met before: private messages and private rooms stop, what was typed waits for /trust."""
        self.swap(self.impostor("bob").bundle)
        self.assertShown(CHANGED, self.alice)
        self.assertWaits(self.alice, "/send in the den", CHANGED)
        self.assertWaits(self.alice, "/pm bob for you", CHANGED)
        self.assertNotSentTo("in the den", self.bob)
        self.assertEqual((2, 1), (len(self.pending(self.alice)), self.stored("den")))
        self.assertShownFirst()

    def pending(self, client: ChatClient) -> list[str]:
        """What waits to be sent."""
        assert client.core.outbox is not None
        return [entry.text for entry in client.core.outbox.pending()]

    def assertShownFirst(self) -> None:
        """A `yes` on the line counts only for an identity that was shown before; both fingerprints are."""
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/trust bob yes"))
        lines = self.alice.view.take()
        self.assertEqual(["  before: ", "  now:    "], [line[:10] for line in lines if line.startswith("  ")])
        self.assertIn("Nothing is changed. If they are the same: /trust bob yes", lines)

    def test_trusted(self) -> None:
        """After /trust what waited for that person is sent, for the identity that was shown."""
        ghost = self.impostor("bob")
        self.swap(ghost.bundle)
        self.alice.exit("/pm bob for you")
        taken: list[Said] = []

        def take(user: str, said: Said) -> Said:
            taken.append(said["package"])
            return {"room": "pm:" + "0" * 64, "seq": 1, "ts": 1, "events": 0}

        self.evil.answer("pm", take)
        self.alice.type("/trust bob")
        self.alice.view.take()
        lines = self.alice.type("/trust bob yes")
        self.assertIn("The new identity of bob is trusted.", lines)
        self.assertEqual("[pm → bob] for you", lines[-1])
        ((kid, wrapped),) = ((taken[0]["kids"]["bob"], taken[0]["encrypted_keys"]["bob"]),)
        self.assertEqual(ghost.keys.kid, kid)
        self.assertEqual(44, len(unwrap(rsa_key(2), base64.b64decode(wrapped))))

    def test_private_room_after_trust(self) -> None:
        """Not even then is anything in a private room sealed for the new identity: it is no member."""
        self.lenient()
        self.swap(self.impostor("bob").bundle)
        self.alice.exit("/send in the den")
        self.alice.type("/trust bob")
        self.alice.type("/trust bob yes")
        packages = [one["package"] for one in self.alice.wire.asked if one["cmd"] == "send"]
        self.assertEqual({"alice"}, set(packages[-1]["encrypted_keys"]))

    def test_verified(self) -> None:
        """Who was compared needs to be compared again: /trust refuses, /verify lets it go."""
        self.compare(self.alice, "bob")
        self.swap(self.impostor("bob").bundle)
        why = "type /verify bob. What you wrote waits."
        self.assertWaits(self.alice, "/pm bob for you", why)
        self.assertEqual(Exit.FIXABLE, self.alice.exit("/trust bob yes"))
        self.assertShown("trusting it unseen would undo that. Compare again: /verify bob", self.alice)
        self.assertIs(TrustState.CHANGED, self.state(self.alice))
        self.evil.answer("pm", lambda user, said: {"room": "pm:" + "0" * 64, "seq": 1, "ts": 1, "events": 0})
        self.compare(self.alice, "bob")
        self.assertIs(TrustState.VERIFIED, self.state(self.alice))
        self.assertEqual([], self.pending(self.alice))

    def test_open_room(self) -> None:
        """In an open room somebody not compared is left out and marked; the others are written to."""
        self.lenient()
        self.swap(self.impostor("bob").bundle)
        self.alice.type("/switch ops")
        self.assertEqual("[ops] <alice> to all", self.alice.type("/send to all")[-1])
        (package,) = [
            one["package"] for one in self.alice.wire.asked if one.get("room") == "ops" and one["cmd"] == "send"
        ]
        self.assertEqual({"alice"}, set(package["encrypted_keys"]))
        self.assertIn("bob (member, identity changed)", self.alice.type("/members"))
        self.bob.type("/join ops")
        self.bob.type("what?")
        self.assertShown("[ops] <bob> [identity changed", self.alice)

    def test_open_room_verified(self) -> None:
        """In an open room with somebody who was compared, nothing is sent."""
        self.compare(self.alice, "bob")
        self.swap(self.impostor("bob").bundle)
        self.alice.type("/switch ops")
        self.assertWaits(self.alice, "/send to all", "type /verify bob. What you wrote waits.")

    def test_swapped_back(self) -> None:
        """If the server gives the genuine keys again, it is as before, and what waited goes to bob alone."""
        self.swap(self.impostor("bob").bundle)
        self.assertWaits(self.alice, "/send in the den", CHANGED)
        self.evil.stop()
        account = self.bob.core.account
        assert account is not None and account.own.bundle is not None
        bundle = as_packet(m.KeyBundle.of(account.own.bundle))
        self.evil.say("alice", {"event": "member", "user": "bob", "keys": bundle})
        self.settle()
        self.assertIs(TrustState.TOFU, self.state(self.alice))
        self.alice.type("/send and again")
        self.assertEqual(["[den] <alice> in the den", "[den] <alice> and again"], self.messages(self.bob))

    def test_messages_of_the_new_identity(self) -> None:
        """What the false identity writes is not shown either."""
        ghost = self.impostor("bob")
        self.swap(ghost.bundle)
        position = self.position(self.bob, "ops", dev=ghost.dev, dl=(1, ghost.keys.digest), ctr=1, prev="")
        made = ghost.write("it is me", [self.keys_of(self.alice, "alice")], position)
        self.evil.say("alice", self.as_event(made, "bob", 1, "alice"))
        self.settle()
        line = "[ops] 1 message not shown: bob's identity changed (/verify bob compares the new one)"
        self.assertIn(line, self.messages(self.alice))

    def test_first_contact(self) -> None:
        """Not stopped: at first contact, outside a room or invite, false keys are taken; the safety number tells."""
        carol = self.registered("carol")
        ghost = self.impostor("bob")
        self.evil.swap_keys("bob", ghost.bundle, "carol")
        taken: list[Said] = []

        def take(user: str, said: Said) -> Said | None:
            taken.append(said)
            return {"room": "pm:" + "0" * 64, "seq": 1, "ts": 1, "events": 0} if user == "carol" else None

        self.evil.answer("pm", take)
        carol.view.take()
        self.assertEqual("* First contact with bob: their identity is remembered.", carol.type("/pm bob secret")[0])
        self.assertEqual(44, len(unwrap(rsa_key(2), base64.b64decode(taken[0]["package"]["encrypted_keys"]["bob"]))))
        self.assertNotEqual(self.number(carol, "bob"), self.number(self.bob, "carol"))

    @staticmethod
    def number(client: ChatClient, user: str) -> list[str]:
        """A safety number."""
        return [line for line in client.type(f"/safety {user}") if line.startswith("    ")]

    def test_first_contact_then_genuine(self) -> None:
        """Once the genuine keys come, the swap shows: as a change."""
        carol = self.registered("carol")
        self.evil.swap_keys("bob", self.impostor("bob").bundle, "carol")
        carol.type("/whois bob")
        self.evil.stop()
        self.bob.type("/pm carol hello")
        self.assertIn(CHANGED, carol.view.text)
        self.assertIn("[@bob] 1 message not shown: bob's identity changed", carol.view.text)

    def test_keys_that_do_not_verify(self) -> None:
        """Keys that are not signed are refused; nothing is sent to who has no others."""
        account = self.bob.core.account
        assert account is not None and account.own.bundle is not None
        genuine = account.own.bundle
        ghost = self.impostor("bob").bundle
        self.swap(SignedBundle(genuine.list, ghost.sig, tuple(genuine.certs)))
        self.assertShown("The keys the server gave for bob are refused: ", self.alice)
        self.assertWaits(self.alice, "/pm bob for you", "The keys the server gave for bob are refused: ")

    def test_own_keys(self) -> None:
        """Other keys as one's own are refused as well."""
        ghost = self.impostor("alice")
        self.evil.say("alice", {"event": "member", "user": "alice", "keys": as_packet(m.KeyBundle.of(ghost.bundle))})
        self.settle()
        self.assertShown("The server sent keys as yours that are refused: the server has another identity", self.alice)


class GhostDeviceTests(KeyCase):
    """The server adds a device of its own to somebody's account."""

    def test_added(self) -> None:
        """A device that is not in the signed list makes the whole bundle worthless; sending stops."""
        self.evil.add_ghost_device("bob", self.impostor("bob"))
        account = self.bob.core.account
        assert account is not None and account.own.bundle is not None
        self.alice.type("/whois bob")
        self.assertIn(
            "The keys the server gave for bob are refused: a device certificate is not of", self.alice.view.text
        )
        self.alice.view.take()
        self.assertWaits(self.alice, "/send in the den", "The server gives no usable keys of bob")

    def test_signs(self) -> None:
        """What such a device signs is of an unknown device."""
        ghost = self.impostor("bob")
        self.evil.add_ghost_device("bob", ghost)
        position = self.position(self.bob, "den", dev=ghost.dev, ctr=1, prev="")
        made = ghost.write("it is me", [self.keys_of(self.alice, "alice")], position)
        self.evil.say("alice", self.as_event(made, "bob", 2, "alice", "den"))
        self.settle()
        self.assertNotSentTo("it is me", self.alice)
        self.assertIn("1 message not shown: from a device that bob did not sign", self.alice.view.text)

    def test_own(self) -> None:
        """A device that appears in one's own list is told: somebody has the password."""
        self.elsewhere("alice")
        self.assertShown(
            "Your account has another device list since you were last here: /devices shows it.", self.alice
        )


class ListRollbackTests(KeyCase):
    """The server shows an old device list."""

    def setUp(self) -> None:
        super().setUp()
        other = self.elsewhere("bob")
        self.dev = next(dev for dev in other.core.account.own.devices if dev != other.core.account.keys.dev)  # type: ignore[union-attr]
        self.other = other

    def test_known_newer(self) -> None:
        """Where the newer one was seen, the old one is refused, and so are its keys."""
        self.evil.roll_back_list("bob")
        self.alice.view.take()
        self.alice.type("/whois bob")
        why = "The keys the server gave for bob are refused: the server gave an older device list of bob than"
        self.assertIn(why, self.alice.view.text)

    def test_not_known(self) -> None:
        """Where it was not, the next message of its owner names it: that is flagged, and sending stops."""
        account = self.other.core.account
        assert account is not None and account.own.bundle is not None
        self.evil.swap_keys("bob", account.own.bundle, "alice")  # the one she has
        self.assertEqual(Exit.OK, self.other.exit(f"/revoke {self.dev[:8]} {PASSWORD}"), self.other.view.text)
        self.alice.view.take()
        self.other.type("/switch den")
        self.other.type("I lost my phone")
        flag = "refers to a newer device list of bob than the server gives"
        self.assertShown(f"[den] <bob> [{flag}", self.alice)
        self.assertWaits(self.alice, "/send oh no", f"Sending to den is stopped: {flag}")

    def test_two_of_one_number(self) -> None:
        """Two lists of one number cannot both be genuine."""
        account = self.other.core.account
        assert account is not None
        self.evil.rule(lambda user, kind, said: [] if kind == "event:member" else None)
        self.alice.type("/whois bob")
        assert self.alice.core.people is not None
        pin = self.alice.core.people.pins.get("bob")
        assert pin is not None
        self.alice.core.people.pins._put("bob", type(pin)(pin.ik, pin.first_seen, pin.version, long_id("other")))
        self.alice.view.take()
        self.alice.type("/whois bob")
        self.assertIn("the server gave two different device lists of bob with one number", self.alice.view.text)

    def test_own(self) -> None:
        """One's own list is watched in the same way: an older one ends the login."""
        bob = self.again(self.other, login=False, interactive=False)
        self.evil.roll_back_list("bob")
        self.assertNotEqual(Exit.OK, bob.exit(f"/login bob {PASSWORD}"))
        self.assertShown("he server gave an older device list of bob than it had given before", bob)


class RevokedDeviceTests(KeyCase):
    """A device that its owner shut out, and a key that was replaced."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("/switch ops")
        self.lost = self.elsewhere("bob", "lost")
        self.lost.type("/join ops")
        self.lost.type("from the train")
        self.alice.view.take()

    def revoke(self) -> None:
        """Bob shuts the lost device out."""
        account = self.lost.core.account
        assert account is not None
        self.assertEqual(Exit.OK, self.bob.exit(f"/revoke {account.keys.dev[:8]} {PASSWORD}"), self.bob.view.text)
        self.alice.view.take()

    def test_earlier_messages(self) -> None:
        """What it wrote before is shown, flagged; what others wrote, for the key of before, is not flagged at all."""
        self.alice.type("safe trip")
        self.revoke()
        lines = [line.split("22:13 ")[-1] for line in self.alice.type("/history ops")]
        self.assertEqual(
            ["[ops] <bob> [from a device that bob has revoked since] from the train", "[ops] <alice> safe trip"], lines
        )
        fresh = self.elsewhere("alice")
        fresh.type("/join ops")
        self.assertEqual(lines, [line.split("22:13 ")[-1] for line in fresh.type("/history ops")])

    def test_gets_nothing(self) -> None:
        """It cannot log in as that device, and opens nothing that is written from then on."""
        self.revoke()
        self.alice.type("he is gone")
        self.assertNotSentTo("he is gone", self.lost)
        self.assertIn("he is gone", self.bob.view.text)

    def test_writes_on(self) -> None:
        """What it signs from then on is flagged, if the server lets it in: its owner does not stand for it any more."""
        account = self.lost.core.account
        assert account is not None
        sealed = self.sealed(self.lost, "send money")
        self.revoke()
        self.evil.say("alice", self.as_event(sealed, "bob", 2, "alice"))
        self.settle()
        self.assertShown("[ops] <bob> [from a device that bob has revoked since] send money", self.alice)

    def test_acts(self) -> None:
        """An act in a room by such a device is an alarm."""
        account = self.lost.core.account
        assert account is not None
        own = account.own
        author = Author(SRV, "bob", own.ik, account.keys.dev, (own.version, own.digest), START * 1000)
        signed = sign_event(account.keys.device, leave(author)(self.log(self.alice)))
        certificate = next(c for c in own.bundle.certs if json.loads(c.cert)["dev"] == account.keys.dev)  # type: ignore[union-attr]
        self.revoke()
        self.evil.add_event("alice", "ops", signed, certificate)
        self.settle()
        self.assertShown("[ops] The server let in an act of a device that bob revoked.", self.alice)

    def test_key_that_another_device_has(self) -> None:
        """A device that missed the new key says so, with the cure; after /logout and /login it opens what it missed."""
        third = self.elsewhere("bob", "third")
        third.type("/join ops")
        self.revoke()
        third.view.take()
        self.alice.type("new key, who reads?")
        line = (
            "[ops] 1 message not shown: sealed for a key this device does not have (/backup fetch brings newer keys"
            " from your backup)"
        )
        self.assertIn(line, self.messages(third))
        third.type("/logout")
        third.type(f"/login bob {PASSWORD}")
        third.type("/join ops")
        self.assertTrue(any(line.endswith("<alice> new key, who reads?") for line in third.type("/history ops")))


class InviteLineTests(EvilCase):
    """Somebody in between meets a newcomer who has an invite line."""

    def setUp(self) -> None:
        super().setUp()
        (self.alice,) = self.people("alice")
        account = self.alice.core.account
        assert account is not None
        self.line = ConnectLine(
            ADDRESS.host, ADDRESS.port, tls=False, room="ops", rid=self.log(self.alice).id,
            inviter=f"alice:{identity_hash(account.own.ik)}",
        )  # fmt: skip

    def newcomer(self) -> ChatClient:
        """Somebody who registers with the line."""
        bob = self.client("bob", line=self.line)
        bob.start(f"/register bob {PASSWORD}")
        return bob

    def test_genuine(self) -> None:
        """With a genuine server they are in the room, and know who invited them."""
        bob = self.newcomer()
        self.assertIn("You are in ops", bob.view.text)
        self.assertIn("by the invite line", "\n".join(bob.type("/whois alice")))

    def test_false_inviter(self) -> None:
        """Another identity for the inviter's name is refused: nothing is sent to it."""
        self.line = replace(self.line, room=None, rid=None)
        self.evil.swap_keys("alice", self.impostor("alice").bundle, "bob")
        bob = self.newcomer()
        bob.view.take()
        self.assertNotEqual(Exit.OK, bob.exit("/pm alice hello"))
        self.assertIn("is not the one your invite line names: somebody is in between", bob.view.text)
        self.assertEqual(0, self.sends(bob))

    def test_false_room(self) -> None:
        """Another room under the name in the line is refused."""
        ghost = self.impostor("alice")
        author = Author(SRV, "alice", ghost.ik, ghost.dev, (1, ghost.keys.digest), START * 1000)
        made = ghost.sign(create(author, "ops", bytes(16), private=False)(RoomLog(SRV)))
        self.evil.give_log("bob", "ops", [made], [ghost.certificate])
        bob = self.newcomer()
        self.assertIn("is not the one you knew under that name, or were invited to", bob.view.text)
        self.assertEqual([], bob.core.conversations.rooms())

    def test_hidden_room(self) -> None:
        """A room that the line names, and the server hides, is not made anew."""
        refused = {"status": "error", "code": "no_such_room", "msg": "There is no room ops here."}
        self.evil.answer("roomlog", lambda user, said: refused if user == "bob" else None)
        bob = self.newcomer()
        self.assertIn("The room ops that you knew is gone, or the server hides it.", bob.view.text)
        self.assertNotIn("act", bob.wire.commands)


class CrossServerTests(MessageCase):
    """What is signed for one server is nothing on another."""

    def test_keys(self) -> None:
        """Keys of the same person on another server are refused."""
        ghost = self.impostor("bob")
        ghost.srv = "A" * 43
        account = self.bob.core.account
        assert account is not None
        self.evil.announce_keys("alice", "bob", ghost.signed_list())
        self.settle()
        self.assertShown("The keys the server gave for bob are refused: this device list is not bob's", self.alice)
