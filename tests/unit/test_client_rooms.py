"""Tests for rooms as people use them: making, entering, leaving and running one, and what everybody there is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any, Final

from securechat.client.slash import rooms
from securechat.client.view import Membership
from securechat.crypto.roomlog import ChangeTopic
from securechat.crypto.trust import identity_hash
from securechat.errors import NO_SUCH_ROOM, STALE_CTL, STALE_OWN, Exit
from securechat.link import ConnectLine
from tests.cast import Room
from tests.doubles import PASSWORD, SRV, START, ChatCase, ChatClient, person

OPEN = "an open room: anybody on this server, its operator too, can enter and read from then on"
PRIVATE = "a private room: only who is invited enters"
INTO = "What you type goes there, sealed for its members."
Said = dict[str, Any]


class RoomCase(ChatCase):
    """Tests of alice and bob, who are in no room yet."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.registered("alice"), self.registered("bob")

    def den(self, *others: ChatClient) -> None:
        """Alice makes a private room, and these enter it."""
        self.alice.type("/create den --private")
        for other in others:
            self.alice.type(f"/invite {other.name}")
            assert other.exit("/accept den") is Exit.OK, other.view.text
        self.quiet()

    def quiet(self) -> None:
        """What was shown so far is of no interest."""
        for client in self.clients:
            client.view.take()

    def refused(self, status: Exit, said: str, client: ChatClient, line: str) -> None:
        """A line is refused with that status, and its last words are these."""
        self.assertEqual(status, client.exit(line), client.view.text)
        self.assertEqual(f"! {said}", client.view.take()[-1])


class CreateTests(RoomCase):
    """Tests for /create, and for /join where there is nothing yet."""

    def test_open(self) -> None:
        """An open room is made, active, and said to be open."""
        self.assertEqual([f"You made ops, {OPEN}. {INTO}"], self.alice.type("/create #Ops"))
        self.assertEqual("ops", self.alice.core.conversations.active)
        self.assertEqual(["ops: 1 member"], self.bob.type("/rooms"))

    def test_private(self) -> None:
        """A private one is not listed, and nobody enters it uninvited; how to let others in is said."""
        self.assertEqual(
            [f"You made den, {PRIVATE}. {INTO}", "Let others in with /invite NAME."],
            self.alice.type("/create den --private"),
        )
        self.assertEqual(["There are no open rooms yet. /join NAME makes one."], self.bob.type("/rooms"))
        for line in ("/join den", "/accept den"):
            self.refused(
                Exit.NOT_THERE, "den is a private room. Ask one of its members to /invite you.", self.bob, line
            )

    def test_taken(self) -> None:
        """A name that is taken is not taken twice, whether or not one may enter that room."""
        self.alice.type("/create den --private")
        self.alice.type("/create ops")
        for name in ("den", "ops"):
            self.refused(
                Exit.FIXABLE, f"There is a room {name} already. /join {name} enters it.", self.bob, f"/create {name}"
            )
        self.assertEqual([], self.bob.core.conversations.rooms())

    def test_two_at_once(self) -> None:
        """Where somebody makes the room between the look and the making, one enters theirs."""
        self.network.refuse("roomlog", NO_SUCH_ROOM, room="ops")
        self.alice.type("/create ops")
        self.assertEqual([f"You are in ops, {OPEN}. (2 members)", INTO], self.bob.type("/join ops"))

    def test_gone(self) -> None:
        """A room that one knew is not made anew by itself: its members would be others."""
        self.alice.type("/join ops")
        self.alice.type("/leave")
        self.network.refuse("roomlog", NO_SUCH_ROOM, room="ops")
        self.refused(
            Exit.UNTRUSTED,
            "The room ops that you knew is gone, or the server hides it. It is not made anew by itself: if that is what"
            " you want, /create ops",
            self.alice,
            "/join ops",
        )

    def test_everybody_left(self) -> None:
        """An open room that all have left is still there; who enters it first runs it."""
        self.alice.type("/join ops")
        self.alice.type("/leave")
        self.bob.type("/join ops")
        self.assertEqual("bob (owner, you)", self.bob.type("/members")[-1])


class LabelTests(RoomCase):
    """Tests for another room under a name that was known."""

    def setUp(self) -> None:
        super().setUp()
        self.den()
        self.alice.type("/leave den")
        self.bob.type("/create den")
        assert self.bob.core.conversations.labelled("den") is not None
        self.room_id = self.bob.core.conversations.labelled("den").id  # type: ignore[union-attr]
        self.label = f"den#{self.room_id[:4]}"

    def test_not_by_its_name(self) -> None:
        """It is not entered by the name alone; its own label is named."""
        self.refused(
            Exit.UNTRUSTED,
            "The server's room den is not the one you knew under that name, or were invited to. If you want the other"
            f" one all the same: /join {self.label}",
            self.alice,
            "/join den",
        )

    def test_by_its_label(self) -> None:
        """By its label it is, and keeps that label: in what is shown, in /rooms, for /switch, and after a restart."""
        self.assertEqual(f"You are in {self.label}, {OPEN}. (2 members)", self.alice.type(f"/join {self.label}")[0])
        self.alice.type("/join ops")
        self.assertEqual([f"{self.label} is active."], self.alice.type(f"/switch {self.label}"))
        self.assertEqual([f"[{self.label}] <alice> hello"], self.alice.type("hello"))
        self.assertEqual("[den] <alice> hello", self.bob.view.take()[-1])
        self.assertEqual(f"{self.label}: 2 members (active)", self.alice.type("/rooms")[0])
        self.refused(Exit.NOT_THERE, "You are not in den. Type /join den first.", self.alice, "/switch den")
        self.pass_time(1)
        fresh = self.again(self.alice)
        self.assertIn(f"Your rooms: {self.label}, ops.", fresh.view.text)
        self.assertIn("[den] <alice> again", self.bob_hears(fresh, f"/switch {self.label}", "again"))

    def bob_hears(self, client: ChatClient, *lines: str) -> list[str]:
        """What bob sees when somebody types these."""
        self.quiet()
        for line in lines:
            client.type(line)
        return self.bob.view.take()

    def test_another_label(self) -> None:
        """A label of no room there is refused with the right one."""
        other = "0000" if self.room_id[:4] != "0000" else "1111"
        said = f"The server's room den is not den#{other} but {self.label}"
        self.refused(Exit.UNTRUSTED, said, self.alice, f"/join den#{other}")


class InviteTests(RoomCase):
    """Tests for /invite, /accept, and /leave of a room one is only invited to."""

    def test_invited(self) -> None:
        """Who is invited is told by whom, enters by /accept, and reads what is written from then on."""
        self.den()
        self.assertEqual(
            ["[den] * alice invited bob", "bob is invited to den: they type /accept den"],
            self.alice.type("/invite bob")[-2:],
        )
        self.alice.type("/send before")
        self.assertEqual(["* alice invites you to den. /accept den enters it."], self.bob.view.take())
        self.assertEqual(
            [
                f"You are in den, {PRIVATE}. (2 members)",
                INTO,
                "[den] 1 earlier message, from before you joined",
            ],
            self.bob.type("/accept den"),
        )
        self.alice.type("/send after")
        self.assertEqual(["[den] <alice> after"], self.bob.view.take())
        self.assertIn("[den] * bob joined", self.alice.view.text)
        self.refused(
            Exit.FIXABLE,
            "You are in den already. /switch den makes it the active one.",
            self.bob,
            "/accept den",
        )

    def test_history_from_the_join(self) -> None:
        """The history of a private room begins at the join."""
        self.den()
        for text in ("one", "two"):
            self.alice.type(f"/send {text}")
        self.alice.type("/invite bob")
        self.bob.type("/accept den")
        self.alice.type("/send three")
        self.bob.view.take()
        self.assertEqual(["2023-11-14 22:13 [den] <alice> three"], self.bob.type("/history den"))

    def test_while_away(self) -> None:
        """An invitation that came while one was away is told at the login, until it is used."""
        self.den()
        self.bob.quit()
        self.alice.type("/invite bob")
        fresh = self.bob
        for _ in range(2):
            fresh = self.again(fresh)
            self.assertIn("* alice invites you to den. /accept den enters it.", fresh.view.text)
        fresh.type("/accept den")
        self.assertNotIn("invites you", self.again(fresh).view.text)

    def test_declined(self) -> None:
        """/leave declines; the invitation is used up, and the others see it."""
        self.den()
        self.alice.type("/invite bob")
        self.quiet()
        self.assertEqual(["You declined the invitation to den."], self.bob.type("/leave den"))
        self.assertEqual(["[den] * bob left"], self.alice.view.take())
        self.assertEqual(Exit.NOT_THERE, self.bob.exit("/accept den"))
        self.refused(Exit.NOT_THERE, "You are not in den. Type /join den first.", self.bob, "/leave den")

    def test_serves_once(self) -> None:
        """An invitation serves one join: who left needs another."""
        self.den(self.bob)
        self.bob.type("/leave den")
        self.assertEqual(Exit.NOT_THERE, self.bob.exit("/join den"))
        self.alice.type("/invite bob")
        self.assertEqual(Exit.OK, self.bob.exit("/accept den"))

    def test_by_join(self) -> None:
        """An invitation also opens the room to /join."""
        self.den()
        self.alice.type("/invite bob")
        self.assertEqual(Exit.OK, self.bob.exit("/join den"))

    def test_members_invite(self) -> None:
        """Every member may invite, until the owner keeps that to admins."""
        carol = self.registered("carol")
        self.den(self.bob)
        self.assertEqual(Exit.OK, self.bob.exit("/invite carol"))
        self.alice.type("/policy invite admin")
        self.refused(
            Exit.FIXABLE,
            "Your role in den, member, does not allow that. /members shows who can.",
            self.bob,
            "/invite carol",
        )
        self.assertEqual(Exit.OK, carol.exit("/accept den"))

    def test_void(self) -> None:
        """What somebody had invited is void once they are put out."""
        carol = self.registered("carol")
        self.den(self.bob)
        self.bob.type("/invite carol")
        self.alice.type("/kick bob")
        self.assertEqual(Exit.NOT_THERE, carol.exit("/accept den"))

    def test_into_another(self) -> None:
        """A room on the line is meant in the place of the active one."""
        self.den()
        self.alice.type("/join ops")
        self.assertIn("bob is invited to den: they type /accept den", self.alice.type("/invite bob den"))

    def test_changed(self) -> None:
        """Nobody is invited whose identity changed, until one's own word; then it is the new one that is invited."""
        self.den(self.bob)
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.refused(
            Exit.UNTRUSTED,
            "The identity of bob changed: compare with /safety bob, then /trust bob, then invite",
            self.alice,
            "/invite bob",
        )
        self.alice.view.answers = ["yes"]
        self.alice.type("/trust bob")
        self.alice.type("/invite bob")
        self.assertEqual(Exit.OK, self.bob.exit("/accept den"))
        self.alice.type("/send welcome back")
        self.assertIn("[den] <alice> welcome back", self.bob.view.take())


class LineTests(RoomCase):
    """Tests for /invite without a name: a line for a friend."""

    def line(self) -> ConnectLine:
        """The line that alice is shown."""
        heading, shown, rest = self.alice.type("/invite")[-3:]
        self.assertIn("It names you and this server, so that nobody can pass for either.", heading)
        self.assertIn("by invitation only, its operator's line is needed besides.", rest)
        return ConnectLine.parse(shown.strip("'"))

    def test_open_room(self) -> None:
        """It names the server, who made it, and the active room if that is open."""
        self.alice.type("/create ops")
        line = self.line()
        account = self.alice.core.account
        assert account is not None
        self.assertEqual(SRV, line.id)
        self.assertEqual(f"alice:{identity_hash(account.own.ik)}", line.inviter)
        self.assertEqual(("ops", self.alice.core.conversations.names["ops"]), (line.room, line.rid))

    def test_private_room(self) -> None:
        """A private room does not stand in it, nor does one where none is active."""
        self.assertIsNone(self.line().room)
        self.den()
        self.assertIsNone(self.line().room)

    def test_friend(self) -> None:
        """A friend who comes by it is led into the room, and knows its maker by the line."""
        self.alice.type("/create ops")
        carol = self.client("carol", line=self.line())
        self.assertEqual(Exit.OK, carol.exit(f"/register carol {PASSWORD}"))
        self.assertEqual("ops", carol.core.conversations.active)
        assert carol.core.people is not None
        pin = carol.core.people.pins.get("alice")
        self.assertEqual("invite line", pin and pin.source)

    def test_another_maker(self) -> None:
        """Whom the server gives for that person instead is refused, whatever the server says."""
        line = self.line()
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        carol = self.client("carol", line=line)
        carol.exit(f"/register carol {PASSWORD}")
        carol.view.take()
        self.assertNotEqual(Exit.OK, carol.exit("/pm alice hello"))
        self.assertIn("is not the one your invite line names", carol.view.text)
        self.assertNotIn("hello", self.alice.view.text)

    def test_another_room(self) -> None:
        """Another room in the place of the one that the line names is not entered by itself."""
        self.den()
        self.alice.type("/policy join open")
        line = self.line()
        self.alice.type("/policy join invite")
        self.alice.type("/leave")
        self.bob.type("/create den")
        carol = self.client("carol", line=line)
        self.assertEqual(Exit.UNTRUSTED, carol.exit(f"/register carol {PASSWORD}"))
        self.assertIn("is not the one you knew under that name, or were invited to", carol.view.take()[-1])
        self.assertEqual("carol", carol.core.user)


class RunTests(RoomCase):
    """Tests for what those do who run a room. Alice owns the room ops; bob and carol are members."""

    def setUp(self) -> None:
        super().setUp()
        self.carol = self.registered("carol")
        for client in (self.alice, self.bob, self.carol):
            client.type("/join ops")
        self.quiet()

    def told(self, line: str, who: ChatClient | None = None) -> str:
        """What a bystander is told of a command of alice, or of another."""
        self.quiet()
        (who or self.alice).type(line)
        return "\n".join((self.bob if who is None else self.alice).view.take())

    def test_kick(self) -> None:
        """A kick puts out; all are told with the reason, and the one concerned what is active now: nothing."""
        self.assertEqual("[ops] * alice put carol out (too loud)", self.told("/kick carol too loud"))
        self.assertEqual(
            ["[ops] * alice put carol out (too loud)", "* You are no longer in ops. No room is active: /switch ROOM."],
            self.carol.view.take(),
        )
        self.alice.type("/send without carol")
        self.assertNotIn("without carol", self.carol.view.text)
        self.assertEqual(Exit.FIXABLE, self.carol.exit("/send hello?"))
        self.assertEqual([], self.carol.core.conversations.rooms())

    def test_back_after_a_kick(self) -> None:
        """Into an open room they may come back; they read on from there, and their own messages are in turn."""
        self.carol.type("/send one")
        self.alice.type("/kick carol")
        self.alice.type("/send between")
        self.carol.view.take()
        self.carol.type("/join ops")
        self.assertEqual(["[ops] <carol> two"], self.carol.type("/send two"))
        self.assertEqual("[ops] <carol> two", self.bob.view.take()[-1])
        lines = self.carol.type("/history ops")
        self.assertEqual(["one", "two"], [line.rsplit(" ", 1)[1] for line in lines if "<carol>" in line])
        self.assertIn("[ops] 1 message sent before you joined", lines)

    def test_kicked_while_away(self) -> None:
        """Who was put out while away learns it at the login, and nothing of what came after."""
        self.pass_time(1)
        self.carol.quit()
        self.alice.type("/kick carol")
        self.alice.type("/send without carol")
        fresh = self.again(self.carol)
        self.assertEqual([], fresh.core.conversations.rooms())
        self.assertNotIn("without carol", fresh.view.text)
        self.assertEqual(Exit.NOT_THERE, fresh.exit("/history ops"))

    def test_kicked_while_the_link_is_down(self) -> None:
        """The same over a lost connection: what was typed meanwhile is told as not sent."""
        self.carol.wire.cut()
        sending = self.carol.start("/send hello")
        self.alice.type("/kick carol")
        self.pass_time(10)
        self.assertEqual(Exit.NOT_THERE, self.successResultOf(sending))
        self.assertIn("! You are not in ops. Type /join ops first. Not sent: hello", self.carol.view.text)
        self.assertIn("* You are no longer in ops. No room is active: /switch ROOM.", self.carol.view.text)

    def test_ban(self) -> None:
        """A ban keeps out until it is ended; all are told."""
        self.assertEqual("[ops] * alice banned carol (spam)", self.told("/ban carol spam"))
        self.assertIn("Banned: carol", self.alice.type("/members"))
        self.refused(
            Exit.NOT_THERE,
            "carol is banned from ops. Those who run it can end that with /unban carol.",
            self.carol,
            "/join ops",
        )
        self.assertEqual("[ops] * alice ended the ban of carol", self.told("/unban carol"))
        self.assertEqual(Exit.OK, self.carol.exit("/join ops"))

    def test_ban_for_a_time(self) -> None:
        """A ban with a duration ends by itself."""
        self.assertEqual("[ops] * alice banned carol for a time (cool down)", self.told("/ban carol 30m cool down"))
        self.pass_time(29 * 60)
        self.assertEqual(Exit.NOT_THERE, self.carol.exit("/join ops"))
        self.pass_time(2 * 60)
        self.assertEqual(Exit.OK, self.carol.exit("/join ops"))

    def test_ban_of_a_stranger(self) -> None:
        """Somebody who is not there can be banned, too."""
        dave = self.registered("dave")
        self.alice.type("/ban dave 1w")
        self.assertEqual(Exit.NOT_THERE, dave.exit("/join ops"))

    def test_mute(self) -> None:
        """Who has no voice cannot send, and is told who can end that; the others see it."""
        self.assertEqual("[ops] * alice muted carol", self.told("/mute carol"))
        self.assertIn("carol (member, not compared, muted)", self.alice.type("/members"))
        self.assertEqual(Exit.FIXABLE, self.carol.exit("/send hmpf"))
        self.assertEqual(
            "! You have no voice in ops. Those who run it can end that with /unmute. Not sent: hmpf",
            self.carol.view.take()[-1],
        )
        self.assertEqual("[ops] * alice gave carol their voice back", self.told("/unmute carol"))
        self.assertEqual(Exit.OK, self.carol.exit("/send thanks"))
        self.assertEqual("[ops] <carol> thanks", self.bob.view.take()[-1])

    def test_mute_for_a_time(self) -> None:
        """Muted for a time, the voice comes back by itself."""
        self.assertEqual("[ops] * alice muted carol for a time", self.told("/mute carol 10m"))
        self.assertEqual(Exit.FIXABLE, self.carol.exit("/send hmpf"))
        self.pass_time(11 * 60)
        self.assertEqual(Exit.OK, self.carol.exit("/send thanks"))
        self.assertEqual("[ops] <carol> thanks", self.bob.view.take()[-1])

    def test_role(self) -> None:
        """Roles give rights, down to below one's own rank."""
        self.assertEqual("[ops] * alice made bob an admin", self.told("/role bob Admin"))
        self.assertEqual("[ops] * bob made carol a mod", self.told("/role carol mod", self.bob))
        no_right = "Your role in ops, mod, does not allow that. /members shows who can."
        for line in ("/kick bob", "/role bob member", "/policy join invite"):
            self.refused(Exit.FIXABLE, no_right, self.carol, line)
        self.assertEqual(Exit.OK, self.carol.exit("/topic of carol"))
        self.assertEqual(
            ["alice (owner, you)", "bob (admin, not compared)", "carol (mod, not compared)"],
            self.alice.type("/members")[-3:],
        )

    def test_another_owner(self) -> None:
        """An owner may name another owner, and leave; a rejoin is a plain member's."""
        self.alice.type("/role bob owner")
        self.alice.type("/leave")
        self.alice.type("/join ops")
        self.assertIn("alice (member, not compared)", self.bob.type("/members"))

    def test_members_cannot(self) -> None:
        """A member can do none of it."""
        for line in ("/kick carol", "/ban carol", "/mute carol", "/role carol mod", "/topic x", "/policy join invite"):
            self.refused(
                Exit.FIXABLE, "Your role in ops, member, does not allow that. /members shows who can.", self.bob, line
            )
        self.assertEqual(1, self.bob.wire.commands.count("act"))  # its own join: what the rules forbid is not even sent

    def test_nobody_there(self) -> None:
        """What is meant for somebody who is not there, or not in that state, is refused with the reason."""
        for line, why in (
            ("/kick dave", "dave is not a member"),
            ("/mute dave", "dave is not a member"),
            ("/role dave mod", "dave is not a member"),
            ("/unban dave", "dave is not banned"),
            ("/unmute bob", "bob is not muted"),
        ):
            self.refused(Exit.FIXABLE, f"The room does not take that act: {why}.", self.alice, line)

    def test_too_long(self) -> None:
        """A reason and a topic have their limits."""
        for line in (f"/kick bob {'x' * 257}", f"/ban bob 7d {'x' * 257}"):
            self.refused(Exit.FIXABLE, "That is too long: 256 bytes at most.", self.alice, line)
        self.refused(Exit.FIXABLE, "That is too long: 512 bytes at most.", self.alice, f"/topic {'ü' * 257}")

    def test_topic(self) -> None:
        """The topic is set, told, shown, and said to who enters; it stands in the list."""
        self.assertEqual(["ops has no topic. /topic TEXT sets one."], self.alice.type("/topic"))
        self.assertEqual("[ops] * alice set the topic: tea and biscuits", self.told("/topic tea and biscuits"))
        self.assertEqual(["tea and biscuits"], self.bob.type("/topic"))
        self.assertEqual(["ops: 3 members (active) · tea and biscuits"], self.bob.type("/rooms"))
        dave = self.registered("dave")
        self.assertEqual(["ops: 3 members · tea and biscuits"], dave.type("/rooms"))
        self.assertIn("Topic: tea and biscuits", dave.type("/join ops"))

    def test_policy(self) -> None:
        """The policy is shown with what its words mean, and changed by its owner; an open room can be closed."""
        self.assertEqual(
            [
                f"ops: {OPEN}.",
                "  join: open      open: anybody may enter; invite: only who is invited",
                "  invite: member    member: every member may invite; admin: admins and owners only",
                "  history: from-join    members read what was sent since they joined",
            ],
            self.alice.type("/policy"),
        )
        self.assertEqual(
            "[ops] * alice changed the policy: only who is invited may enter, members invite",
            self.told("/policy JOIN Invite"),
        )
        dave = self.registered("dave")
        self.assertEqual(Exit.NOT_THERE, dave.exit("/join ops"))
        self.assertEqual(f"ops: {PRIVATE}.", self.bob.type("/policy")[0])
        self.assertEqual(
            "[ops] * alice changed the policy: only who is invited may enter, admins invite",
            self.told("/policy invite admin"),
        )

    def test_policy_misuse(self) -> None:
        """Words that no policy has are answered by those it has."""
        for line, said in (
            ("/policy join", "The policy join is one of: open, invite."),
            ("/policy join sometimes", "The policy join is one of: open, invite."),
            ("/policy colour blue", "A policy is one of: join, invite, history."),
            (
                "/policy history from-join",
                "History is from-join already: members read what was sent since they joined. It has no other value.",
            ),
            ("/policy history all", "The policy history is one of: from-join."),
        ):
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line))
            self.assertEqual(f"! {said}".lower(), self.alice.view.take()[-1].lower(), line)

    def test_quicker(self) -> None:
        """Where another act came first, one's own is signed again on top of it."""
        self.alice.type("/role bob mod")
        changes: list[Any] = [lambda said: None if said.get("event") == "room" else said]
        self.network.changes = changes
        self.bob.type("/topic of bob")
        changes.clear()
        self.assertEqual(Exit.OK, self.alice.exit("/topic of alice"))
        self.assertEqual(["of alice"], self.alice.type("/topic")[-1:])
        self.carol.type("/send hello")
        self.assertEqual(["of alice"], self.carol.type("/topic"))

    def test_not_for_ever(self) -> None:
        """A server that refuses every try is believed after some."""
        for line, code in (("/topic x", STALE_CTL), ("/leave", STALE_OWN)):
            self.network.refuse("act", code, times=20, room="ops", user="alice")
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line))
            self.assertEqual(14, len(self.network.faults["act"]))
            self.network.faults.clear()

    def test_another_event_in_its_place(self) -> None:
        """A server that says it took an act in, and shows another in its place, is not believed."""
        self.alice.type("/topic one")

        def shifted(said: Said) -> Said:
            return said | {"events": said["events"] - 1} if "rid" in said and "link" in said else said

        self.network.changes.append(shifted)
        self.refused(
            Exit.UNTRUSTED, "The server says it took an act in, and its log shows another", self.alice, "/topic two"
        )

    def test_too_many_acts(self) -> None:
        """Somebody who comes and goes all the time is asked for patience."""
        for number in range(5):
            self.assertEqual(Exit.OK, self.bob.exit("/join ops" if number % 2 else "/leave ops"))
        self.assertEqual(Exit.RATE_LIMITED, self.bob.exit("/join ops"))
        self.assertIn("! Too many attempts. Try again in", self.bob.view.take()[-1])


class ListTests(RoomCase):
    """Tests for /rooms and /members."""

    def test_rooms(self) -> None:
        """Open rooms are listed with who is in; one's own private ones stand in a line of their own."""
        self.den(self.bob)
        self.alice.type("/create ops")
        self.bob.type("/create attic")
        self.assertEqual(
            ["attic: 1 member", "ops: 1 member (active)", "Private rooms are not listed. Yours: den"],
            self.alice.type("/rooms"),
        )

    def test_invited(self) -> None:
        """Who is invited is listed with who did it."""
        self.den()
        self.alice.type("/invite bob")
        self.assertEqual(
            [f"den is {PRIVATE}.", "alice (owner, you)", "bob (invited by alice)"],
            self.alice.type("/members"),
        )

    def test_earlier_identity(self) -> None:
        """Somebody who started over, and was trusted, is there under the identity before: nothing goes to it."""
        self.den(self.bob)
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.alice.view.answers = ["yes"]
        self.alice.type("/trust bob")
        self.assertEqual("bob (member, here under an earlier identity: gets nothing)", self.alice.type("/members")[-1])
        self.assertEqual(["[den] <alice> to nobody else"], self.alice.type("to nobody else"))

    def test_lapsed(self) -> None:
        """A mute or ban for a time is not shown any more once it has lapsed; one for good is."""
        self.carol, self.dave = self.registered("carol"), self.registered("dave")
        for client in (self.alice, self.bob, self.carol, self.dave):
            client.type("/join ops")
        for line in ("/mute bob 10m", "/ban carol 10m", "/ban dave"):
            self.alice.type(line)
        self.pass_time(9 * 60)
        lines = self.alice.type("/members")
        self.assertIn("bob (member, not compared, muted)", lines)
        self.assertEqual("Banned: carol, dave", lines[-1])
        self.pass_time(2 * 60)
        lines = self.alice.type("/members")
        self.assertIn("bob (member, not compared)", lines)
        self.assertEqual("Banned: dave", lines[-1])
        self.alice.type("/unban dave")
        self.assertNotIn("Banned", "".join(self.alice.type("/members")))

    def test_verified(self) -> None:
        """Whom one compared is marked so."""
        self.den(self.bob)
        self.alice.view.answers = ["yes"]
        self.alice.type("/verify bob")
        self.assertEqual("bob (member, verified)", self.alice.type("/members")[-1])


class GrownTests(RoomCase):
    """Tests for a private room that somebody enters while a message waits."""

    def setUp(self) -> None:
        super().setUp()
        self.carol = self.registered("carol")
        self.den(self.bob)
        self.alice.type("/invite carol")
        self.alice.wire.cut()
        self.sending = self.alice.start("/send for bob alone")
        self.carol.type("/accept den")
        self.quiet()
        self.pass_time(10)

    def test_waits(self) -> None:
        """Nobody reads what was typed before they were there, without a word of its author."""
        self.assertEqual(Exit.UNTRUSTED, self.successResultOf(self.sending))
        self.assertIn(
            "! carol came into den since you typed this. It waits: /continue den sends it to them too.",
            self.alice.view.take(),
        )
        self.assertNotIn("for bob alone", self.bob.view.text + self.carol.view.text)

    def test_continue(self) -> None:
        """/continue sends it to all who are there now."""
        self.assertIn("What waited for den is tried again.", self.alice.type("/continue den"))
        for client in (self.bob, self.carol):
            self.assertEqual("[den] <alice> for bob alone", client.view.take()[-1])

    def test_over_a_restart(self) -> None:
        """It waits over a restart, too."""
        fresh = self.again(self.alice)
        self.assertIn("carol came into den since you typed this.", fresh.view.text)
        fresh.type("/continue den")
        self.assertIn("[den] <alice> for bob alone", self.carol.view.take())


class DeviceTests(RoomCase):
    """Tests for two devices of one account."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.client("elsewhere")
        self.other.type(f"/login alice {PASSWORD}")
        self.quiet()

    def test_made_on_one(self) -> None:
        """A room that one device makes appears on the other, which can talk there."""
        self.alice.type("/create ops")
        self.assertEqual(["[ops] * alice made the room"], self.other.view.take())
        self.other.type("/switch ops")
        self.assertEqual(["[ops] <alice> from elsewhere"], self.other.type("from elsewhere"))
        self.assertEqual(["[ops] <alice> from elsewhere"], self.alice.view.take())

    def test_joined_on_one(self) -> None:
        """A room that one device enters appears on the other, from the same place on."""
        self.bob.type("/create ops")
        self.bob.type("/send before")
        self.alice.type("/join ops")
        self.bob.type("/send after")
        self.assertEqual(["[ops] * alice joined", "[ops] <bob> after"], self.other.view.take())
        self.assertIn("[ops] 1 message sent before you joined", self.other.type("/history ops")[0])

    def test_invitation(self) -> None:
        """An invitation is told on both; accepted on one, it is on both."""
        self.bob.type("/create den --private")
        self.bob.type("/invite alice")
        for client in (self.alice, self.other):
            self.assertEqual(["* bob invites you to den. /accept den enters it."], client.view.take())
        self.alice.type("/accept den")
        self.bob.type("/send welcome")
        for client in (self.alice, self.other):
            self.assertEqual("[den] <bob> welcome", client.view.take()[-1])

    def test_turns(self) -> None:
        """Both send into the same room and to the same person, each counting for itself: nobody sees anything odd."""
        for client in (self.alice, self.other):
            client.type("/join ops")
        self.bob.type("/join ops")
        self.quiet()
        for number in range(4):
            client = (self.alice, self.other)[number % 2]
            client.type(f"/send {number}")
            client.type(f"/pm bob {number}")
        expected = [line for n in range(4) for line in (f"[ops] <alice> {n}", f"[pm] <alice> {n}")]
        self.assertEqual(expected, [line for line in self.bob.view.take() if line.startswith("[")])

    def test_left_on_one(self) -> None:
        """A room that one device leaves is gone from the other, which says so."""
        self.alice.type("/create ops")
        self.quiet()
        self.alice.type("/leave ops")
        self.assertEqual(["[ops] * alice left"], self.other.view.take())
        self.assertEqual([], self.other.core.conversations.rooms())

    def test_joined_while_the_other_was_away(self) -> None:
        """What one entered while the other was away is there when it comes back."""
        self.other.quit()
        self.alice.type("/create ops")
        self.alice.type("/send one")
        fresh = self.again(self.other, login=False)
        fresh.type(f"/login alice {PASSWORD}")
        self.assertEqual(["ops"], fresh.core.conversations.rooms())
        self.alice.type("/send two")
        self.assertEqual("[ops] <alice> two", fresh.view.take()[-1])


class RestartTests(RoomCase):
    """Tests for clients and servers that end and begin again."""

    def setUp(self) -> None:
        super().setUp()
        self.den(self.bob)
        self.alice.type("/send one")
        self.bob.type("/send two")
        self.pass_time(1)
        self.quiet()

    def test_client(self) -> None:
        """A client that comes back has its log, its place and its chains from disk: nothing is fetched or odd."""
        fresh = self.again(self.alice)
        self.assertNotIn("roomlog", fresh.wire.commands)
        log = fresh.core.conversations.labelled("den")
        assert log is not None and log.log is not None and fresh.core.account is not None
        self.assertEqual((3, ["alice", "bob"]), (log.log.count, sorted(log.log.members)))
        self.assertEqual(2, log.cursor)
        self.assertEqual(2, len(log.reader.chains))
        fresh.type("/switch den")
        self.assertEqual(["[den] <alice> three"], fresh.type("three"))
        self.assertEqual(["[den] <alice> three"], self.bob.view.take())
        self.bob.type("/send four")
        self.assertEqual(["[den] <bob> four"], fresh.view.take())

    def test_alarm(self) -> None:
        """What stopped sending there stands over a restart, until /continue."""
        conversation = self.alice.core.conversations.labelled("den")
        assert conversation is not None
        self.alice.core.lobby.alarm(conversation, "the server did something")
        self.assertEqual(
            [
                "! [den] The server did something. Sending there is stopped. Compare with the others by another way;"
                " /continue den goes on all the same."
            ],
            self.alice.view.take(),
        )
        self.pass_time(1)
        fresh = self.again(self.alice)
        fresh.type("/switch den")
        self.assertEqual(Exit.UNTRUSTED, fresh.exit("/send hello"))
        self.assertIn("! Sending to den is stopped: the server did something.", fresh.view.take()[-1])
        self.assertEqual([], self.bob.view.take())
        lines = fresh.type("/continue den")
        self.assertEqual(
            ["You go on although: the server did something.", "What waited for den is tried again."],
            [line for line in lines if not line.startswith("[")],
        )
        self.assertEqual(["[den] <alice> hello"], self.bob.view.take())
        self.pass_time(1)
        fresh = self.again(fresh)
        fresh.type("/switch den")
        self.assertEqual(Exit.OK, fresh.exit("/send again"))

    def test_alarm_in_private(self) -> None:
        """A private conversation is named with its @, and goes on by that or by the bare name."""
        self.alice.type("/pm bob hello")
        for name in ("@bob", "bob"):
            conversation = self.alice.core.conversations.with_peer("bob")
            assert conversation is not None
            self.alice.core.lobby.alarm(conversation, "the server did something")
            self.assertIn("/continue @bob goes on all the same.", self.alice.view.take()[-1])
            self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob again"))
            self.assertIn("What waited for @bob is tried again.", self.alice.type(f"/continue {name}"))
        self.assertEqual(2, self.bob.view.text.count("[pm] <alice> again"))

    def test_outbox(self) -> None:
        """What was typed before a kill goes out at the next login, once, sealed as it was."""
        self.network.faults["send"] = ["unanswered"]
        for text in ("three", "four"):
            self.alice.start(f"/send {text}")
        fresh = self.again(self.alice)
        self.assertIn("* 2 messages of an earlier time are being sent.", fresh.view.text)
        self.assertEqual(["[den] <alice> three", "[den] <alice> four"], self.bob.view.take())
        rows = self.do(self.store.read("bob", "den", after=2, before=None, limit=50, max_bytes=10**6)).messages
        self.assertEqual(2, len(rows))

    def test_server(self) -> None:
        """A server that restarts finds rooms, members and turns as they were."""
        self.network.go_down()
        self.settle()
        self.alice.start("/send while away")
        self.successResultOf(self.store.close())
        self.store = self.make_store()
        self.serve()
        self.network.come_back()
        self.pass_time(40)
        self.assertEqual("[den] <alice> while away", [line for line in self.bob.view.take() if "<" in line][-1])
        self.assertEqual(["[den] <bob> and back"], self.bob.type("/send and back"))
        self.alice.type("/kick bob")
        self.assertEqual([], self.bob.core.conversations.rooms())
        self.assertNotIn("stopped", self.alice.view.text + self.bob.view.text)


class LongLogTests(RoomCase):
    """Tests for a room in which a thousand things have happened."""

    EVENTS: Final = 1100  # five pages, and more than one word about the progress

    def setUp(self) -> None:
        super().setUp()
        self.patch(rooms, "_CHECKED", 512)
        crowd = [person(f"user{number}") for number in range(20)]
        self.register(*(one.user for one in crowd))
        room = self.rooms["ops"] = Room(*crowd, name="ops")
        while room.log.count < self.EVENTS:
            room.do(ChangeTopic, crowd[0], topic=b"topic %d" % room.log.count)
        for signed in room.events:
            self.do(self.store.act("ops", signed, wait=0.0, now=START))
        self.alice.type("/join ops")

    def test_entered(self) -> None:
        """It is checked from its first event on, a word is said meanwhile, and its topic and members are known."""
        text = self.alice.view.text
        self.assertIn("ops has a long log; 1024 of its events are checked so far.", text)
        self.assertIn(f"You are in ops, {OPEN}. (21 members)", text)
        self.assertIn(f"Topic: topic {self.EVENTS - 1}", text)
        asked = [request.get("after", 0) for request in self.alice.wire.asked if request["cmd"] == "roomlog"]
        self.assertEqual([*(256 * page for page in range(5)), self.EVENTS], asked)

    def test_kept(self) -> None:
        """A second start replays it from disk: nothing of it is fetched, and it goes on where it was."""
        self.pass_time(1)
        fresh = self.again(self.alice)
        self.assertNotIn("roomlog", fresh.wire.commands)
        found = fresh.core.conversations.labelled("ops")
        assert found is not None and found.log is not None
        self.assertEqual(self.EVENTS + 1, found.log.count)
        self.bob.type("/join ops")
        self.assertIn("[ops] * bob joined", fresh.view.text)
        self.assertEqual(self.EVENTS + 2, found.log.count)

    def test_most_of_it(self) -> None:
        """What happened while one was away is fetched from there on, and nothing of it twice."""
        self.pass_time(1)
        self.alice.quit()
        self.bob.type("/join ops")
        fresh = self.again(self.alice)
        asked = [request["after"] for request in fresh.wire.asked if request["cmd"] == "roomlog"]
        self.assertEqual([self.EVENTS + 1], asked)

    def test_damaged(self) -> None:
        """What is damaged on disk is fetched and checked anew."""
        self.pass_time(1)
        self.alice.quit()
        account = self.alice.directory.profile(SRV, "alice")
        with closing(sqlite3.connect(account.database)) as connection, connection:
            connection.execute(
                "UPDATE record SET sealed = zeroblob(length(sealed)) WHERE filed IN"
                " (SELECT filed FROM record ORDER BY length(sealed) DESC LIMIT 1)"
            )
        fresh = self.again(self.alice)
        found = fresh.core.conversations.labelled("ops")
        assert found is not None and found.log is not None
        self.assertEqual((self.EVENTS + 1, []), (found.log.count, found.stopped))
        self.assertIn("roomlog", fresh.wire.commands)


class ShownTests(RoomCase):
    """Tests for how acts are shown to a view."""

    def test_item(self) -> None:
        """Each is one item: where, who, and the rest of the sentence."""
        self.den()
        self.alice.type("/topic tea")
        self.assertIn(Membership("den", "alice", "set the topic: tea"), self.alice.view.items)

    def test_hostile_text(self) -> None:
        """A topic cannot draw on anybody's terminal."""
        self.den(self.bob)
        self.alice.type("/topic \x1b[31mred\u202e")
        self.assertNotIn("\x1b", self.bob.view.text)
        self.assertNotIn("\x1b", "".join(self.bob.type("/topic")))
