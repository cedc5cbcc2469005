"""Tests for what a server can do to rooms and their logs, and what their members are told (see test_evil)."""

from __future__ import annotations

import base64
from collections.abc import Callable

from securechat.client import acts
from securechat.crypto import primitives as p
from securechat.crypto.roomlog import AnyEvent, Invite, Join, Kick, RoomLog, SignedEvent, sign_event
from securechat.crypto.transcript import transcript_start
from securechat.errors import (
    STALE_HEAD,
    Exit,
)
from securechat.wire import messages as m
from tests.doubles import START, ChatClient, long_id
from tests.evil import Impostor, Said, as_packet
from tests.evil_case import EvilCase, MessageCase


def author_of(ghost: Impostor) -> acts.Author:
    """An impostor as the author of acts in rooms."""
    return acts.Author(ghost.srv, ghost.user, ghost.ik, ghost.dev, (1, ghost.keys.digest), START * 1000)


def signed_again(event: Said) -> SignedEvent:
    """A room event that passed by, as it was signed."""
    return SignedEvent(base64.b64decode(event["signed"]), base64.b64decode(event["sig"]))


class RoomCase(EvilCase):
    """Alice and bob in a private room that alice made; mallory outside."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.mallory = (self.registered(name) for name in ("alice", "bob", "mallory"))
        self.private_room(self.alice, self.bob)

    def add(self, ghost: Impostor, make: Callable[[acts.Author], acts.Make], *, unsigned: bool = False) -> None:
        """Puts an act of an impostor behind the log, for alice."""
        signed = ghost.sign(make(author_of(ghost))(self.log(self.alice, "den")))
        signed = SignedEvent(signed.data, bytes(64)) if unsigned else signed
        self.evil.add_event("alice", "den", signed, ghost.certificate)
        self.settle()

    def assertBroken(self, *parts: str) -> None:
        """Alice was told that the log does not check out, and sends nothing there until one does; nobody was let in."""
        said = "\n".join(self.alice.view.take())
        for part in (*parts, "Nothing is sent there until the server shows a log that checks out."):
            self.assertIn(part, said)
        self.assertEqual({"alice", "bob"}, set(self.log(self.alice, "den").members))
        self.assertWaits(self.alice, "/send for bob", "Nothing is sent to den: ")
        self.assertEqual(0, self.stored("den"))
        self.assertEqual(Exit.OK, self.alice.exit("/continue den"))  # the genuine log is there still
        self.assertEqual({"alice", "bob"}, set(self.log(self.alice, "den").members))
        self.assertEqual(1, self.stored("den"))


class GhostMemberTests(RoomCase):
    """The server adds a member of its own to a private room."""

    def test_unsigned(self) -> None:
        """A join without a signature that holds is no join."""
        self.add(self.impostor("mallory"), acts.join, unsigned=True)
        self.assertBroken("An event the server sent does not check out")

    def test_uninvited(self) -> None:
        """A join signed by a made-up device, of somebody whom nobody invited, breaks the room's rules."""
        self.add(self.impostor("mallory"), acts.join)
        self.assertBroken("Event 4 of the server's log breaks the rules: mallory joined (not_invited)")

    def test_under_a_members_name(self) -> None:
        """A made-up identity under a member's name is not that member."""
        self.add(self.impostor("bob"), acts.join)
        self.assertBroken("Event 4 of the server's log breaks the rules: bob joined (not_invited)")

    def test_false_invitation(self) -> None:
        """An invitation in a member's name, by another identity, is by no member."""
        ghost = self.impostor("mallory")
        make = self.impostor("alice")
        self.add(make, lambda author: acts.invite(author, "mallory", ghost.ik, (1, ghost.keys.digest)))
        self.assertBroken("Event 4 of the server's log breaks the rules: alice invited mallory (not_member)")

    def test_another_identity_than_invited(self) -> None:
        """An invitation is for one identity: the server's own under that name cannot use it."""
        self.alice.type("/invite mallory")
        ghost = self.impostor("mallory")
        self.evil.add_event(
            "alice", "den", ghost.sign(acts.join(author_of(ghost))(self.log(self.alice, "den"))), ghost.certificate
        )
        self.settle()
        self.assertBroken("Event 5 of the server's log breaks the rules: mallory joined (not_invited)")

    def test_false_policy(self) -> None:
        """Nor can it open the room."""
        self.add(self.impostor("alice"), lambda author: acts.policy(author, "join", "open"))
        self.assertBroken("breaks the rules")
        self.assertFalse(self.log(self.alice, "den").open)

    def test_server_says_so(self) -> None:
        """The server's own lists of who is there give nobody anything."""
        self.evil.rule(lambda user, kind, said: [{**said, "users": ["alice", "mallory"]}] if kind == "online" else None)
        self.assertNotIn("mallory", "\n".join(self.alice.type("/members")))
        self.alice.type("for bob")
        (package,) = [one["package"] for one in self.alice.wire.asked if one["cmd"] == "send"]
        self.assertEqual({"alice", "bob"}, set(package["encrypted_keys"]))

    def test_open_room(self) -> None:
        """Not stopped: anybody, so also the server under a name of its own, may enter an open room, and is seen to."""
        self.alice.type("/join ops")
        ghost = self.impostor("mallory2")
        signed = ghost.sign(acts.join(author_of(ghost))(self.log(self.alice)))
        self.evil.add_event("alice", "ops", signed, ghost.certificate)
        self.settle()
        self.assertShown("[ops] * mallory2 joined", self.alice)

    def test_open_room_under_a_members_name(self) -> None:
        """In an open room, somebody else under a member's name is told of, and nothing is sealed for them."""
        for client in (self.alice, self.bob):
            client.type("/join ops")
        self.compare(self.alice, "bob")
        ghost = self.impostor("bob")
        signed = ghost.sign(acts.join(author_of(ghost))(self.log(self.alice)))
        self.evil.add_event("alice", "ops", signed, ghost.certificate)
        self.settle()
        self.assertShown("The identity of bob changed since you compared it.", self.alice)
        self.lenient()
        self.alice.type("for bob")
        sent = [one["package"] for one in self.alice.wire.asked if one["cmd"] == "send"]
        self.assertEqual([{"alice"}], [set(package["encrypted_keys"]) for package in sent])

    def test_pushed_into_a_room(self) -> None:
        """A room whose log does not have one is not one's room, whatever the server sends from there."""
        events = [signed_again(event) for event in self.evil.events["den"]]
        certificates = {event["cert"]["cert"]: event["cert"] for event in self.evil.events["den"]}
        self.evil.give_log("mallory", "den", events, [])
        self.evil.rule(
            lambda user, kind, said: [{**said, "certs": [*certificates.values()]}] if kind == "roomlog" else None
        )
        self.evil.say("mallory", self.evil.events["den"][-1])
        self.settle()
        self.assertEqual(["roomlog"], self.mallory.wire.commands[-1:])
        self.assertEqual([], self.mallory.core.conversations.rooms())
        log = self.log(self.alice, "den")
        place = {"start": (0, transcript_start(log.id)), "last": 0, "first": 0, "read": 0, "unread": 0}
        state = {"room": "den", "id": log.id, "head": log.head, "events": log.count, **place}
        self.evil.rule(lambda user, kind, said: [{**said, "conversations": [state]}] if kind == "sync" else None)
        self.mallory.wire.cut()
        self.pass_time(10)
        self.assertEqual([], self.mallory.core.conversations.rooms())


class ForgedLogTests(RoomCase):
    """The server gives another log than the one its people signed."""

    def setUp(self) -> None:
        super().setUp()
        self.false = self.impostor("alice")

    def false_log(self, name: str, *more: Callable[[acts.Author], acts.Make]) -> list[SignedEvent]:
        """A room that an impostor made."""
        author = author_of(self.false)
        log, events = RoomLog(author.srv), []
        for make in (lambda author: acts.create(author, name, bytes(16), private=False), *more):
            events.append(self.false.sign(make(author)(log)))
            log.append(events[-1])
        return events

    def give(self, to: str, room: str, events: list[SignedEvent]) -> None:
        """Gives somebody that log under a name."""
        self.evil.give_log(to, room, events, [self.false.certificate])

    def test_another_room_of_a_known_name(self) -> None:
        """Another room under the name of one that was left is refused under that name; its own label enters it."""
        self.bob.type("/join ops")
        self.bob.type("/leave ops")
        self.give("bob", "ops", self.false_log("ops"))
        self.assertNotEqual(Exit.OK, self.bob.exit("/join ops"))
        (line,) = (line for line in self.bob.view.take() if line.startswith("! "))
        self.assertIn("The server's room ops is not the one you knew under that name, or were invited to.", line)
        self.assertRegex(line, r"/join ops#[0-9a-f]{4}$")
        self.assertEqual(["den"], self.bob.core.conversations.rooms())

    def test_entered_by_its_label(self) -> None:
        """Whoever wants it all the same has it under its label; what is typed there is not for the room one knew."""
        self.bob.type("/join ops")
        self.bob.type("/leave ops")
        events = self.false_log("ops")
        label = f"ops#{events[0].eh[:4]}"

        def take(user: str, said: Said) -> Said:
            events.append(signed_again(said))
            self.give("bob", "ops", events)
            link = self.replayed(events).head
            start = (0, transcript_start(events[0].eh))
            return {"room": "ops", "rid": events[0].eh, "events": 2, "link": link, "start": start}

        self.give("bob", "ops", events)
        self.evil.answer("act", take)
        self.assertIn(f"You are in {label}, an open room", self.bob.type(f"/join {label}")[0])
        self.assertEqual(["den", label], self.bob.core.conversations.rooms())
        self.assertEqual(self.bob.core.conversations.names["ops"], self.evil_id_of_ops())

    def evil_id_of_ops(self) -> str:
        """The id of the genuine room."""
        return p.digest("event", base64.b64decode(self.evil.events["ops"][0]["signed"])).hex()

    def test_hidden(self) -> None:
        """A room that one knew, and that the server says is not there, is not made anew."""
        self.bob.type("/join ops")
        self.bob.type("/leave ops")
        self.evil.rule(self.no_room)
        self.assertNotEqual(Exit.OK, self.bob.exit("/join ops"))
        self.assertShown("The room ops that you knew is gone, or the server hides it.", self.bob)
        self.assertEqual(1, self.bob.wire.commands.count("act") - 2)

    @staticmethod
    def no_room(user: str, kind: str, said: Said) -> list[Said] | None:
        """Says that there is no such room."""
        if kind != "roomlog":
            return None
        return [{"id": said["id"], "status": "error", "code": "no_such_room", "msg": "There is no room ops here."}]

    def test_newcomer(self) -> None:
        """Who was invited is not led into another room of that name: only the one that names them takes them in."""
        self.alice.type("/invite mallory")
        self.give("mallory", "den", self.false_log("den"))
        self.assertNotEqual(Exit.OK, self.mallory.exit("/accept den"))
        self.assertShown("den is a private room", self.mallory)
        self.assertEqual([], self.mallory.core.conversations.rooms())

    def test_of_another_name(self) -> None:
        """A log says which room it is of."""
        self.give("mallory", "ops", self.false_log("attic"))
        self.assertNotEqual(Exit.OK, self.mallory.exit("/join ops"))
        self.assertShown("does not check out: the server gives the log of another room", self.mallory)

    def test_breaks_the_rules(self) -> None:
        """A log in which one event may not stand where it stands is refused whole."""
        events = self.false_log("ops")
        twice = self.false.sign(acts.kick(author_of(self.false), "bob", "")(self.replayed(events)))
        self.give("mallory", "ops", [*events, twice])
        self.assertNotEqual(Exit.OK, self.mallory.exit("/join ops"))
        self.assertShown("event 2 of the server's log breaks the rules: alice put bob out (bad_event)", self.mallory)

    @staticmethod
    def replayed(events: list[SignedEvent]) -> RoomLog:
        """A log of some events."""
        log = RoomLog(events[0].event.srv)
        for event in events:
            log.append(event)
        return log

    def test_other_head(self) -> None:
        """A server that names another head than before, at as many events, is not believed any more."""

        def other(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "sync":
                return None
            return [{**said, "conversations": [{**one, "head": long_id("head")} for one in said["conversations"]]}]

        self.evil.rule(other)
        self.bob.wire.cut()
        self.pass_time(10)
        self.assertShown("[den] The server shows another log of this room than before. Sending", self.bob)
        self.assertWaits(self.bob, "/send hello?", "Sending to den is stopped: ")

    def test_shorter(self) -> None:
        """A log that is shorter than it was, and has another end, is not given back to: it is another log."""

        def shorter(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "sync":
                return None
            states = [{**one, "head": long_id("head"), "events": 2} for one in said["conversations"]]
            return [{**said, "conversations": states}]

        self.evil.rule(shorter)
        self.bob.wire.cut()
        self.pass_time(10)
        self.assertShown("[den] The server shows another log of this room than before.", self.bob)
        self.assertNotIn("extend", self.bob.wire.commands)

    def test_longer_in_words_only(self) -> None:
        """A log that is said to go further than it is given is not believed either."""

        def longer(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "sync":
                return None
            return [{**said, "conversations": [{**one, "events": 9} for one in said["conversations"]]}]

        self.evil.rule(longer)
        self.bob.wire.cut()
        self.pass_time(10)
        self.assertShown("[den] The server does not give this room's log as far as it says it goes.", self.bob)

    def test_left_out_of_the_list(self) -> None:
        """A server that does not name one's room any more is told from a room that one is out of, by its log."""
        self.evil.rule(lambda user, kind, said: [{**said, "conversations": []}] if kind == "sync" else None)
        self.bob.wire.cut()
        self.pass_time(10)
        self.assertShown("You are no longer in den. No room is active: /switch ROOM.", self.bob)
        self.assertNotEqual(Exit.OK, self.bob.exit("/send hello?"))
        self.assertNotEqual(Exit.OK, self.bob.exit("/join den"))
        self.assertShown("You are in den already by its log, and the server did not say so.", self.bob)

    def test_false_invitation(self) -> None:
        """An invitation into a room of false people says so: who was met before does not invite, nor get anything."""
        account = self.bob.core.account
        assert account is not None
        own = account.own
        events = self.false_log("club", lambda author: acts.policy(author, "join", "invite"))
        self.give("bob", "club", events)
        invite = acts.invite(author_of(self.false), "bob", own.ik, (own.version, own.digest))
        self.give("bob", "club", [*events, self.false.sign(invite(self.replayed(events)))])
        self.bob.view.take()
        self.evil.say("bob", {"event": "invited", "room": "club"})
        self.settle()
        self.assertShown("invites you to club as alice, by another identity than the alice you know.", self.bob)
        events = [*events, self.false.sign(invite(self.replayed(events)))]

        def take(user: str, said: Said) -> Said:
            events.append(signed_again(said))
            self.give("bob", "club", events)
            start = (0, transcript_start(events[0].eh))
            return {
                "room": "club", "rid": events[0].eh, "events": len(events), "link": self.replayed(events).head,
                "start": start,
            }  # fmt: skip

        self.evil.answer("act", take)
        self.bob.type("/accept club")
        self.assertIn("Here under another identity than you know, and gets nothing of yours: alice", self.bob.view.text)
        self.evil.answer("send", lambda user, said: {"room": "club", "seq": 1, "ts": 1, "events": len(events)})
        self.bob.type("who is here?")
        (package,) = [one["package"] for one in self.bob.wire.asked if one["cmd"] == "send"]
        self.assertEqual({"bob"}, set(package["encrypted_keys"]))

    def test_swapped_meanwhile(self) -> None:
        """Another room in the place of one's own has another label, and what is typed does not go there."""
        self.bob.type("/join ops")
        events = self.false_log("ops")
        room_id = events[0].eh

        def swapped(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "sync" or user != "bob":
                return None
            states = [{**one, "id": room_id} if one["room"] == "ops" else one for one in said["conversations"]]
            return [{**said, "conversations": states}]

        self.evil.rule(swapped)
        self.give("bob", "ops", events)
        self.bob.wire.cut()
        self.pass_time(10)
        self.assertShown("[ops] * The server has another room under this name than the one you were in.", self.bob)
        self.assertNotEqual(Exit.OK, self.bob.exit("/send hello?"))
        self.assertEqual(0, self.sends(self.bob))
        self.assertEqual(["den"], self.bob.core.conversations.rooms())


class HiddenKickTests(MessageCase):
    """The server hides from somebody that a member was put out."""

    def setUp(self) -> None:
        super().setUp()
        (self.mallory,) = self.people("mallory")
        self.alice.type("/role bob mod")

    def kick_unseen(self) -> None:
        """Bob puts mallory out, and alice is not told."""
        self.evil.withhold_events("alice", "ops", lambda event: isinstance(event, Kick))
        self.assertEqual(Exit.OK, self.bob.exit("/kick mallory"), self.bob.view.text)
        for client in (self.alice, self.bob, self.carol, self.mallory):
            client.view.take()
        self.assertIn("mallory", self.log(self.alice).members)

    def test_honest_server(self) -> None:
        """A server that is merely slow says that the head is old: the message is sealed anew, without who is out."""
        self.network.changes.append(lambda said: None if said.get("event") == "room" else said)
        self.bob.type("/kick mallory")
        self.network.changes.clear()
        self.assertEqual("[ops] <alice> for members only", self.alice.type("for members only")[-1])
        self.assertEqual(2, self.sends(self.alice))
        sent = [one["package"] for one in self.alice.wire.asked if one["cmd"] == "send"]
        self.assertIn("mallory", sent[0]["encrypted_keys"])
        self.assertNotIn("mallory", sent[1]["encrypted_keys"])
        self.assertEqual(STALE_HEAD.name, [said["code"] for said in self.alice.wire.told if "code" in said][-1])
        self.assertRead("[ops] <alice> for members only")

    def test_no_reason(self) -> None:
        """A server that says the head is old, and shows nobody put out since, gets nothing sealed anew."""
        self.evil.rule(self.stale)
        sending = self.alice.start("/send wait for it")
        self.assertNoResult(sending)
        self.pass_time(12)
        bodies = {one["package"]["encrypted_message"] for one in self.alice.wire.asked if one["cmd"] == "send"}
        self.assertEqual(1, len(bodies))

    @staticmethod
    def stale(user: str, kind: str, said: Said) -> list[Said] | None:
        """Refuses every message for its head."""
        if kind != "send":
            return None
        return [{"id": said["id"], "status": "error", "code": STALE_HEAD.name, "msg": "", "head": long_id("head")}]

    def test_the_others_are_told(self) -> None:
        """If the server takes the message all the same, all others read who got it too, and stop."""
        self.lenient()
        self.kick_unseen()
        self.alice.type("for members only")
        line = (
            "[ops] <alice> [went to mallory too: the server hid from its author that they were put out"
            " (tell its author by another way)] for members only"
        )
        self.assertRead(line)
        self.assertRead(line, by=self.carol)
        self.assertStopped(self.carol)

    def test_next_message(self) -> None:
        """Who was not told learns it at the next message of somebody who was: its head is of another log."""
        self.lenient()
        self.kick_unseen()
        self.carol.type("good that she is gone")
        lines = self.alice.view.take()
        self.assertIn("[ops] Refers to members the server does not show you. Sending there is stopped.", lines[0])
        self.assertStopped(self.alice)

    def test_reconnected(self) -> None:
        """A server that goes on hiding it at the next login is found out all the same."""
        self.lenient()
        self.kick_unseen()
        self.pass_time(1)
        self.alice = self.again(self.alice)
        self.alice.type("/join ops")
        self.assertIn("mallory", self.log(self.alice).members)
        self.carol.type("good that she is gone")
        self.assertStopped(self.alice)

    def test_put_out_author(self) -> None:
        """What somebody who was put out writes afterwards is shown to nobody who knows of it."""
        self.evil.withhold_events("mallory", "ops", lambda event: isinstance(event, Kick))
        self.lenient()
        sealed = self.sealed(self.mallory, "I am still here")
        self.bob.type("/kick mallory")
        self.bob.view.take()
        self.evil.say("bob", self.as_event(sealed, "mallory", 1))
        self.settle()
        self.assertRead("[ops] 1 message not shown: from mallory, who had been put out (the server let it in)")


class WithheldEventTests(MessageCase):
    """The server keeps room events from somebody."""

    def setUp(self) -> None:
        super().setUp()
        self.lenient()

    def test_join(self) -> None:
        """A member who was kept secret is found out by the first message of anybody who knew them."""
        self.evil.withhold_events("alice", "ops", lambda event: isinstance(event, Join) and event.by == "dave")
        (dave,) = self.people("dave")
        self.alice.type("just us")
        self.assertEqual([], self.messages(dave)[1:])
        self.alice.view.take()
        self.carol.type("hi dave")
        self.assertShown("Refers to members the server does not show you.", self.alice)
        self.assertStopped(self.alice)

    def test_in_the_middle(self) -> None:
        """An event left out of the middle changes every link behind it: the next one does not verify there."""
        log: list[Said] = []
        self.alice.type("/role bob mod")
        self.evil.rule(lambda user, kind, said: self.without_first(user, kind, said, log))
        self.people("dave")
        self.assertEqual(Exit.OK, self.bob.exit("/topic nothing new"))
        self.assertShown("breaks the rules: bob set the topic: nothing new (old_head)", self.alice)
        self.assertWaits(self.alice, "/send may I?", "Nothing is sent to ops: ")

    @staticmethod
    def without_first(user: str, kind: str, said: Said, log: list[Said]) -> list[Said] | None:
        """Leaves one event out for alice and moves what follows."""
        if user != "alice" or kind != "event:room":
            return None
        log.append(said)
        return [] if len(log) == 1 else [{**said, "events": said["events"] - 1}]


class ReinsertedEventTests(RoomCase):
    """The server keeps a signed act back, or takes an old one, and puts it into the log later."""

    def assertStale(self, signed: SignedEvent, cert: Said, what: str = "mallory joined") -> None:
        """An act put behind the log is refused: it does not go on from where its subject stands."""
        number = max(event["events"] for event in self.evil.events["den"]) + 1
        told = {"signed": base64.b64encode(signed.data).decode(), "sig": base64.b64encode(signed.sig).decode()}
        self.evil.say("alice", {"event": "room", "room": "den", "events": number, **told, "cert": cert})
        self.settle()
        said = "\n".join(self.alice.view.take())
        self.assertIn(f"Event {number} of the server's log breaks the rules: {what} (stale_own)", said)
        self.assertNotIn("mallory", self.log(self.alice, "den").members)
        self.assertWaits(self.alice, "/send for bob", "Nothing is sent to den: ")

    def test_old_join(self) -> None:
        """The join of somebody who was put out since does not bring them back."""
        self.alice.type("/invite mallory")
        self.mallory.type("/accept den")
        self.alice.type("/kick mallory")
        join = self.evil.events["den"][4]
        self.assertIsInstance(signed_again(join).event, Join)
        self.assertStale(signed_again(join), join["cert"])

    def test_old_invitation(self) -> None:
        """Nor does the invitation that they had used."""
        self.alice.type("/invite mallory")
        self.mallory.type("/accept den")
        self.alice.type("/kick mallory")
        invite = self.evil.events["den"][3]
        self.assertIsInstance(signed_again(invite).event, Invite)
        self.assertStale(signed_again(invite), invite["cert"], "alice invited mallory")

    def test_withheld_join(self) -> None:
        """A join that the server kept back is worthless after the next act on its author."""
        self.alice.type("/invite mallory")
        author = self.author(self.mallory)
        kept = self.signed_by(self.mallory, acts.join(author)(self.log(self.alice, "den")))
        self.mallory.type("/leave den")
        self.alice.view.take()
        cert = self.certificate(self.mallory)
        self.assertStale(kept, cert)

    def author(self, client: ChatClient) -> acts.Author:
        """A client's account as an author."""
        account = client.core.account
        assert account is not None
        own = account.own
        listed = own.version, own.digest
        return acts.Author(account.profile.srv, own.user, own.ik, account.keys.dev, listed, START * 1000)

    @staticmethod
    def signed_by(client: ChatClient, event: AnyEvent) -> SignedEvent:
        """An event signed by a client's device."""
        account = client.core.account
        assert account is not None
        return sign_event(account.keys.device, event)

    @staticmethod
    def certificate(client: ChatClient) -> Said:
        """The certificate of a client's device."""
        account = client.core.account
        assert account is not None and account.own.bundle is not None
        said: Said = as_packet(m.Certificate.of(account.own.bundle.certs[0]))
        return said
