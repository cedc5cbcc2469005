"""Tests for what a server can do to messages, and what their readers are told; the other attacks stand in test_evil_*.

Each class is one attack of docs/threat-model.md. What the server may do without anybody's noticing is tested too, where
it can be: those tests say so in their first line.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from msgspec.structs import replace as replace_fields

from securechat.client.view import Message
from securechat.crypto import primitives as p
from securechat.crypto.envelope import parse_header
from securechat.crypto.signed import to_bytes
from securechat.errors import BAD_FIELD, Exit
from securechat.storage.queries import messages as storing
from tests.doubles import wrapped
from tests.evil import LENIENT, Said, as_packet, wire_package
from tests.evil_case import AGAIN, FORK, OTHER_TEXT, WRONG, MessageCase, changed, forked, package_of


class ForgeryTests(MessageCase):
    """The server makes up messages, or alters genuine ones."""

    def test_signature(self) -> None:
        """A message whose signature does not hold is not shown; that its author wrote another one shows at the next."""
        self.alice.type("one")
        self.evil.change_messages("bob", changed(sig=p.b64(bytes(64))))
        self.alice.type("two")
        self.evil.stop()
        self.alice.type("three")
        self.assertRead(
            "[ops] <alice> one",
            WRONG,
            "[ops] <alice> [1 message from alice missing before this (/history may bring them; else ask alice)] three",
        )

    def test_header(self) -> None:
        """The header is signed: neither number, time, readers nor anything else in it can be another."""

        def older(said: Said) -> Said:
            header = json.loads(base64.b64decode(said["package"]["hdr"]))
            return changed(hdr=p.b64(json.dumps({**header, "at": 1}, separators=(",", ":")).encode()))(said)

        self.evil.change_messages("bob", older)
        self.alice.type("one")
        self.assertRead(WRONG)

    def test_other_author(self) -> None:
        """The server cannot give a message to somebody else: it is another's device, or the signature does not hold."""
        self.evil.change_messages("bob", lambda said: {**said, "sender": "carol"})
        self.alice.type("one")
        self.assertRead(
            "[ops] 1 message not shown: from a device that carol did not sign (if it stays so, ask carol:"
            " /whois carol shows their devices)"
        )
        self.evil.stop()
        account = self.carol.core.account
        assert account is not None
        self.evil.change_messages("bob", lambda said: {**said, "sender": "carol", "device": account.keys.dev})
        self.alice.type("two")
        self.assertRead(WRONG.replace("alice", "carol"))

    def test_made_up(self) -> None:
        """What the server writes itself under a name is of a device that nobody vouches for."""
        ghost = self.impostor("alice")
        position = self.position(self.alice, dev=ghost.dev, ctr=1, prev="")
        made = ghost.write("send me your password", [self.keys_of(self.bob, "bob")], position)
        self.evil.say(
            "bob",
            {
                "event": "message", "room": "ops", "seq": 1, "sender": "alice", "device": ghost.dev,
                "mid": position.mid, "ts": position.at, "events": 3, "package": wire_package(made, "bob"),
            },
        )  # fmt: skip
        self.settle()
        (line,) = self.messages(self.bob)
        self.assertIn("1 message not shown: from a device that alice did not sign", line)

    def test_other_id(self) -> None:
        """What the server says beside the package must be what is signed in it."""
        self.evil.change_messages("bob", lambda said: {**said, "mid": "0" * 32})
        self.alice.type("one")
        (line,) = self.messages(self.bob)
        self.assertIn("1 message not shown: malformed (its author's client or the server is broken or lies)", line)

    def test_own_name(self) -> None:
        """Nor does anything appear under one's own name that one did not sign."""
        self.alice.type("one")
        self.evil.insert("bob", {**self.evil.newest("bob", "ops"), "sender": "bob"})
        self.settle()
        self.assertNotIn("<bob>", self.bob.view.text)
        self.assertIn("from a device that bob did not sign", self.bob.view.text)

    def test_other_time(self) -> None:
        """A message that is held back for an hour says so: its author signed the time."""
        self.evil.change_messages("bob", lambda said: {**said, "ts": said["ts"] + 3_600_000})
        self.alice.type("one")
        self.assertRead(
            "[ops] <alice> [signed at another time: 60 minutes apart (/doctor looks at this machine's clock)] one"
        )


class DowngradeTests(MessageCase):
    """The package as it was before there were signatures; SignatureStripTests are the same from the reader's side."""

    def test_server(self) -> None:
        """The server stores no package without header, bind and signature."""
        package = as_packet(package_of(self.sealed(self.alice, "bare")))
        for name in ("hdr", "bind", "sig"):
            bare = {key: value for key, value in package.items() if key != name}
            line = json.dumps({"cmd": "send", "id": 99, "room": "ops", "package": bare})
            self.alice.wire._server.dataReceived(line.encode() + b"\n")
            self.reactor.advance(0)
            reply = json.loads((self.alice.wire.server.getOutBuffer() or b"").splitlines()[-1])
            self.assertEqual((99, BAD_FIELD.name), (reply["id"], reply["code"]), name)
        self.assertEqual(0, self.stored())


class SignatureStripTests(MessageCase):
    """The server takes the signed part off a message."""

    def test_reader(self) -> None:
        """A reader does not take that for a package at all: the connection ends, and nothing is shown."""

        def bare(said: Said) -> Said:
            kept = {name: said["package"][name] for name in ("encrypted_message", "encrypted_keys", "kids")}
            return {**said, "package": kept}

        self.evil.change_messages("bob", bare)
        self.alice.type("one")
        self.assertShown("The connection is lost", self.bob)
        self.evil.stop()
        self.pass_time(60)
        self.assertRead("[ops] <alice> one")

    def test_empty(self) -> None:
        """The same with empty fields in their place."""
        for name in ("hdr", "bind", "sig"):
            self.evil.change_messages("bob", changed(**{name: ""}))
            self.alice.type("one")
            self.assertEqual([], [item for item in self.bob.view.items if isinstance(item, Message)], name)


class ResignTests(MessageCase):
    """A member, with the server's help, signs another's ciphertext as their own."""

    def test_bind(self) -> None:
        """Whoever signs a text without its key is told from its author: nobody reads it under the wrong name."""
        taken: list[Said] = []
        self.evil.answer("send", lambda user, said: taken.append(said["package"]))  # and the genuine one stores it
        self.alice.type("my idea")
        self.evil.stop()
        self.bob.view.take()
        (package,) = taken
        hers = parse_header(base64.b64decode(package["hdr"]))
        own = self.sealed(self.carol, "")
        header = parse_header(own.hdr)
        hdr = to_bytes(replace_fields(header, mh=hers.mh, rcp=hers.rcp))
        for seq, bind in enumerate((base64.b64decode(package["bind"]), own.bind), 2):
            account = self.carol.core.account
            assert account is not None
            signed = replace(
                own,
                encrypted_message=package["encrypted_message"],
                encrypted_keys={name: base64.b64decode(key) for name, key in package["encrypted_keys"].items()},
                kids=package["kids"],
                hdr=hdr,
                bind=bind,
                sig=p.sign(account.keys.device, "envelope", p.vec(hdr) + p.vec(bind)),
            )
            self.evil.say("bob", self.as_event(signed, "carol", seq))
            self.settle()
            self.assertRead(OTHER_TEXT.replace("alice", "carol"))


class ReplayTests(MessageCase):
    """The server hands out messages a second time."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("pay bob")
        self.alice.type("thanks")
        self.bob.view.take()
        self.first = self.evil.seen["bob", "ops", 1]

    def replay(self, message: Said | None = None) -> None:
        """Hands the first message to bob as the next one."""
        self.evil.insert("bob", message or self.first)
        self.settle()

    def test_once_more(self) -> None:
        """A message that comes again is not shown again."""
        self.replay()
        self.replay(self.evil.seen["bob", "ops", 2])
        self.assertRead(*[f"[ops] {AGAIN}"] * 2)

    def test_restart(self) -> None:
        """Nor is it after a restart: what was read is on disk."""
        self.pass_time(1)
        self.bob = self.again(self.bob)
        self.bob.view.take()
        self.replay()
        self.assertRead(f"[ops] {AGAIN}")

    def test_left_and_back(self) -> None:
        """Nor to somebody who left the room and came back, in one run or in the next."""
        for restart in (False, True):
            self.pass_time(1)
            self.bob.type("/leave ops")
            if restart:
                self.bob = self.again(self.bob)
            self.bob.type("/join ops")
            self.bob.view.take()
            self.replay()
            self.evil.stop()
            self.assertRead(f"[ops] {AGAIN}")

    def test_private(self) -> None:
        """The same in private."""
        self.alice.type("/pm bob psst")
        (event,) = (said for (reader, room, _), said in self.evil.seen.items() if reader == "bob" and room != "ops")
        self.bob.view.take()
        self.replay(event)
        self.assertRead(f"[@alice] {AGAIN}")

    def test_own(self) -> None:
        """One's own message does not come back as another's, or as a second one."""
        self.bob.type("mine")
        self.bob.view.take()
        own = self.evil.seen["alice", "ops", 3]
        self.evil.insert("bob", {**own, "package": {**own["package"], "encrypted_keys": {}, "kids": {}}})
        self.settle()
        self.assertRead(f"[ops] {AGAIN}")

    def test_others_saw_it_once(self) -> None:
        """That the others were not given it twice shows at the next message."""
        self.replay()
        self.bob.view.take()
        self.carol.type("hello")
        self.carol.type("anybody?")
        self.assertRead("[ops] <carol> hello", f"[ops] <carol> [{forked('carol')}] anybody?")
        self.assertStopped(self.bob)


class ReorderTests(MessageCase):
    """The server hands out messages in another order."""

    def test_one_author(self) -> None:
        """What an author wrote second comes first: both are shown, and flagged."""
        self.alice.type("will you?")
        self.bob.view.take()
        self.evil.swap_next("bob", "ops")
        self.alice.type("yes")
        self.alice.type("no")
        first, second = self.messages(self.bob)
        self.assertIn(FORK, first)
        self.assertTrue(first.endswith("no"), first)
        self.assertEqual("[ops] <alice> [arrived late, out of order] yes", second)
        self.assertStopped(self.bob)

    def test_two_authors(self) -> None:
        """An answer that comes before its question is flagged: who wrote it had seen the question."""
        self.evil.swap_next("bob", "ops")
        self.alice.type("shall we attack?")
        self.carol.type("no")
        self.assertRead(f"[ops] <carol> [{forked('carol')}] no", "[ops] <alice> shall we attack?")
        self.assertStopped(self.bob)


class DropTests(MessageCase):
    """The server keeps messages back."""

    def test_same_author(self) -> None:
        """What an author wrote before is missed when they write again, though the numbers show no gap."""
        self.alice.type("one")
        self.evil.drop_next("bob", "ops")
        self.alice.type("two")
        self.alice.type("three")
        (first, last) = self.messages(self.bob)
        self.assertEqual("[ops] <alice> one", first)
        self.assertIn("1 message from alice missing before this", last)
        self.assertIn(FORK, last)

    def test_gap(self) -> None:
        """A gap in the numbers that the server does not fill is one line."""
        self.alice.type("one")
        self.network.changes.append(lambda said: None if said.get("event") == "message" and said["seq"] == 2 else said)
        self.evil.change_messages("bob", lambda said: said if said["seq"] != 2 else None)
        self.evil._offsets.clear()
        self.alice.type("two")
        self.evil.moved("bob", "ops", 1)
        self.alice.type("three")
        lines = self.messages(self.bob)
        self.assertEqual(["[ops] <alice> one", "[ops] 1 message not shown: the server did not give them"], lines[:2])
        self.assertIn("1 message from alice missing before this", lines[2])

    def test_newest(self) -> None:
        """Not stopped: what nobody refers to yet can be kept from somebody, as a server that is slow would."""
        self.evil.drop_next("bob", "ops")
        self.alice.type("one")
        self.assertRead()
        self.assertRead("[ops] <alice> one", by=self.carol)

    def test_acknowledged(self) -> None:
        """Not stopped: a server may say that it stored what it threw away; the next message of its author tells."""
        self.evil.answer("send", lambda user, said: {"room": "ops", "seq": 1, "ts": 1, "events": 3})
        self.assertEqual(["[ops] <alice> one"], self.alice.type("one"))
        self.evil.stop()
        self.patch(storing, "_was_at", LENIENT["_was_at"])
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send two"))
        self.assertShown("it lost messages, or it lies. What you wrote waits.", self.alice)
        self.assertRead()


class MoveTests(MessageCase):
    """The server hands out a message in another conversation than it was written for."""

    def setUp(self) -> None:
        super().setUp()
        for client in (self.alice, self.bob):
            client.type("/join attic")
            client.view.take()

    def assertMoved(self, origin: str, **fields: object) -> None:
        """Bob's newest message of a room is refused in another place."""
        self.bob.view.take()
        self.evil.insert("bob", self.evil.newest("bob", origin), **fields)
        self.settle()
        (line,) = self.messages(self.bob)
        self.assertIn("1 message not shown: written for another conversation (the server moved it here)", line)

    def test_room_to_room(self) -> None:
        """A message of one room is not read in another."""
        self.alice.type("burn it")
        self.assertMoved("attic", room="ops", events=3)

    def test_private_to_room(self) -> None:
        """A private message is not read in a room, and the other way round."""
        self.alice.type("/pm bob I quit")
        (pm,) = (room for reader, room, _ in self.evil.seen if reader == "bob" and room.startswith("pm:"))
        self.assertMoved(pm, room="ops", events=3)
        self.alice.type("burn it")
        self.assertMoved("attic", room=pm, events=0, to="bob")

    def test_private_to_somebody_else(self) -> None:
        """A private message from one is not read as from another: the conversation is of two identities."""
        self.carol.type("/pm bob it is me")
        self.bob.view.take()
        self.alice.type("/pm bob it is alice")
        self.bob.view.take()
        mine = {
            said["sender"]: room for (r, room, _), said in self.evil.seen.items() if r == "bob" and room[:3] == "pm:"
        }
        self.evil.insert("bob", self.evil.newest("bob", mine["carol"]), room=mine["alice"])
        self.settle()
        (line,) = self.messages(self.bob)
        self.assertIn("written for another conversation", line)

    def test_told_another_room(self) -> None:
        """Where one's own message went is what one signed, not what the server says it stored."""
        self.alice.type("/switch ops")
        self.evil.rule(lambda user, kind, said: [{**said, "room": "attic"}] if kind == "send" else None)
        self.assertEqual(["[ops] <alice> hello"], self.alice.type("hello"))
        self.evil.stop()
        self.evil.rule(lambda user, kind, said: [{**said, "room": "attic"}] if kind == "pm" else None)
        self.assertEqual("[pm → bob] hello", self.alice.type("/pm bob hello")[-1])


class WrappedKeySwapTests(MessageCase):
    """The server exchanges what is not signed: the wrapped keys, and the token."""

    def test_key_of_another_message(self) -> None:
        """Another message's key in its place is found out before anything is opened with it."""
        self.alice.type("one")
        before = self.evil.newest("bob", "ops")["package"]["encrypted_keys"]
        self.bob.view.take()
        self.evil.change_messages("bob", changed(encrypted_keys=before))
        self.alice.type("two")
        self.assertRead(OTHER_TEXT)
        self.assertRead("[ops] <alice> one", "[ops] <alice> two", by=self.carol)

    def test_token(self) -> None:
        """Another message's text in its place is found out."""
        self.alice.type("one")
        before = self.evil.newest("bob", "ops")["package"]["encrypted_message"]
        self.bob.view.take()
        self.evil.change_messages("bob", changed(encrypted_message=before))
        self.alice.type("two")
        self.assertRead(OTHER_TEXT)

    def test_noise(self) -> None:
        """One message can be made unreadable for one reader, who is told so; the others read it."""
        self.evil.change_messages("bob", changed(encrypted_keys={"bob": p.b64(wrapped("x", "bob"))}))
        self.alice.type("one")
        self.assertRead("[ops] 1 message not shown: damaged or sealed wrongly (ask alice to send it again)")
        self.assertRead("[ops] <alice> one", by=self.carol)

    def test_left_out(self) -> None:
        """An entry that the server takes away is said."""
        self.evil.change_messages("bob", changed(encrypted_keys={}, kids={}))
        self.alice.type("one")
        self.alice.type("two")
        line = "[ops] 1 message not shown: not addressed to you (ask alice whether you were left out on purpose)"
        self.assertRead(line, line)

    def test_another_key_named(self) -> None:
        """So is one that is said to be for a key this device does not have."""
        self.evil.change_messages("bob", changed(kids={"bob": "0" * 32}))
        self.alice.type("one")
        self.assertRead(
            "[ops] 1 message not shown: sealed for a key this device does not have (/backup fetch brings newer keys"
            " from your backup)"
        )


class EquivocationTests(MessageCase):
    """An author who has the server on their side shows different people different things."""

    def hand_out(self, sealed: object, seq: int, *readers: str) -> None:
        """Hands a message of carol's to some."""
        for reader in readers:
            self.evil.say(reader, self.as_event(sealed, "carol", seq, reader))
        self.settle()

    def test_one_number_twice(self) -> None:
        """Two messages under one number: whoever gets both sees both, flagged, and sends nothing more there."""
        self.hand_out(self.sealed(self.carol, "yes"), 1, "bob")
        self.hand_out(self.sealed(self.carol, "no"), 2, "bob")
        self.assertRead(
            "[ops] <carol> yes",
            "[ops] <carol> [counter used twice by carol (two copies of one profile, or a lie)] no",
        )
        self.assertStopped(self.bob)

    def test_one_number_for_each(self) -> None:
        """Each gets one of the two: the next message names the one before it, and one of them sees that."""
        yes, no = self.sealed(self.carol, "yes"), self.sealed(self.carol, "no")
        self.hand_out(yes, 1, "bob")
        self.hand_out(no, 1, "alice")
        self.hand_out(self.sealed(self.carol, "well", ctr=2, prev=yes.id), 2, "alice", "bob")
        self.assertRead("[ops] <carol> yes", "[ops] <carol> well")
        self.assertRead(
            "[ops] <carol> no",
            "[ops] <carol> [carol's message before this one was another than you were given (compare with carol)] well",
            by=self.alice,
        )
        self.assertStopped(self.alice)

    def test_two_keys(self) -> None:
        """A key for one reader that is not the others' is found out: bind commits to it, as Fernet does not."""
        sealed = self.sealed(self.carol, "yes")
        other = self.sealed(self.carol, "no")
        self.hand_out(replace(sealed, encrypted_keys=other.encrypted_keys), 1, "bob")
        self.hand_out(sealed, 1, "alice")
        self.assertRead(OTHER_TEXT.replace("alice", "carol"))
        self.assertRead("[ops] <carol> yes", by=self.alice)
