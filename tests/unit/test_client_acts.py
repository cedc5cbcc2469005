"""Tests for acts in rooms: made from what was typed, and told in words."""

from __future__ import annotations

from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client import acts
from securechat.client.display import render
from securechat.client.view import Membership
from securechat.crypto.roomlog import (
    MAX_REASON,
    MAX_TOPIC,
    AnyEvent,
    Ban,
    ChangePolicy,
    ChangeRole,
    ChangeTopic,
    Create,
    Invite,
    Join,
    Kick,
    Leave,
    Mute,
    Role,
    RoomLog,
    SignedEvent,
    Unban,
    Unmute,
    sign_event,
)
from securechat.errors import BANNED, NO_RIGHT, NOT_INVITED, STALE_CTL, STALE_OWN, Code, Refused
from tests.cast import NOW, SRV, Person, Room, event

ALICE, BOB, CAROL = Person("alice"), Person("bob"), Person("carol")
HOUR = 3_600_000


def author(person: Person, now: int = NOW) -> acts.Author:
    """Somebody at their first device."""
    return acts.Author(SRV, person.user, person.ik, person.dev(), person.dl, now)


class ActsCase(SynchronousTestCase):
    """A room that alice made, with bob in it."""

    def setUp(self) -> None:
        self.room = Room(ALICE, BOB)
        self.log = self.room.log

    def do(self, person: Person, make: acts.Make) -> SignedEvent:
        """Somebody does something: signed, by the rules, and taken in."""
        signed = sign_event(person.device(), make(self.log))
        signed.verify(person.vouched())
        return self.room.take(signed)

    def assertRefused(self, code: Code, person: Person, make: acts.Make) -> None:
        """The rules refuse it."""
        with self.assertRaises(Refused) as caught:
            self.do(person, make)
        self.assertEqual(code, caught.exception.code)


class MakeTests(ActsCase):
    """Tests for the builders, against the rules."""

    def test_create(self) -> None:
        """A room is made open or private, with its maker as owner."""
        for private in (False, True):
            self.log = RoomLog(SRV)
            self.room.log, self.room.events = self.log, []
            signed = self.do(ALICE, acts.create(author(ALICE), "games", b"s" * 16, private=private))
            self.assertEqual(("games", not private, Role.OWNER), (self.log.name, self.log.open, self.log.role("alice")))
            self.assertEqual((NOW, signed.eh), (self.log.created, self.log.id))

    def test_join_and_leave(self) -> None:
        """Who enters is a member as who they are, with their device list; who leaves is none."""
        joined = self.do(CAROL, acts.join(author(CAROL))).event
        assert isinstance(joined, Join)
        self.assertEqual((CAROL.ik, CAROL.dl, ""), (self.log.members["carol"].ik, joined.dl, joined.own))
        self.do(CAROL, acts.leave(author(CAROL)))
        self.assertEqual(Role.NONE, self.log.role("carol"))
        self.do(CAROL, acts.join(author(CAROL)))
        self.assertEqual(Role.MEMBER, self.log.role("carol"))

    def test_invite(self) -> None:
        """An invitation is for an identity; it lets that one in, once, and can be declined."""
        self.do(ALICE, acts.policy(author(ALICE), "join", "invite"))
        self.assertRefused(NOT_INVITED, CAROL, acts.join(author(CAROL)))
        for end in (acts.leave, acts.join):
            self.do(BOB, acts.invite(author(BOB), "carol", CAROL.ik, CAROL.dl))
            self.assertEqual({CAROL.ik: "bob"}, self.log.invites["carol"])
            self.do(CAROL, end(author(CAROL)))
            self.assertEqual({}, self.log.invites)
        self.assertEqual(Role.MEMBER, self.log.role("carol", CAROL.ik))

    def test_kick(self) -> None:
        """Who is put out is out; the reason is on record."""
        signed = self.do(ALICE, acts.kick(author(ALICE), "bob", "spam ✂"))
        assert isinstance(signed.event, Kick)
        self.assertEqual(("spam ✂", Role.NONE), (signed.event.reason.decode(), self.log.role("bob")))

    def test_ban(self) -> None:
        """Who is banned is out and kept out, until then or for good; and back after the ban was ended."""
        self.do(ALICE, acts.ban(author(ALICE), "bob", NOW + HOUR, ""))
        self.assertEqual({"bob": NOW + HOUR}, self.log.bans)
        self.assertRefused(BANNED, BOB, acts.join(author(BOB)))
        self.do(BOB, acts.join(author(BOB, NOW + HOUR)))
        self.do(ALICE, acts.ban(author(ALICE), "bob", 0, "again"))
        self.assertRefused(BANNED, BOB, acts.join(author(BOB, NOW + 1000 * HOUR)))
        self.do(ALICE, acts.unban(author(ALICE), "bob"))
        self.do(BOB, acts.join(author(BOB)))

    def test_mute(self) -> None:
        """A voice is taken and given back."""
        self.do(ALICE, acts.mute(author(ALICE), "bob", NOW + HOUR))
        self.assertEqual({"bob": NOW + HOUR}, self.log.mutes)
        self.do(ALICE, acts.unmute(author(ALICE), "bob"))
        self.assertEqual({}, self.log.mutes)

    def test_role(self) -> None:
        """Every role that there is can be given, by whom the rules let; another one is named with those."""
        for name in ("mod", "admin", "member", "owner"):
            self.setUp()
            self.do(ALICE, acts.role(author(ALICE), "bob", name))
            self.assertEqual(name, self.log.role("bob").label)
        for name in ("none", "king", ""):
            with self.assertRaises(acts.BadWord) as caught:
                acts.role(author(ALICE), "bob", name)
            self.assertIn("member, mod, admin, owner", str(caught.exception))
        self.do(CAROL, acts.join(author(CAROL)))
        self.assertRefused(NO_RIGHT, CAROL, acts.role(author(CAROL), "alice", "member"))

    def test_topic(self) -> None:
        """The topic is any text, and may be taken away."""
        for text in ("naïve 日本語", ""):
            self.do(ALICE, acts.topic(author(ALICE), text))
            self.assertEqual(text, self.log.topic)

    def test_policy(self) -> None:
        """One part of a policy changes; the others stay as they are by then."""
        make = acts.policy(author(ALICE), "invite", "admin")
        self.do(ALICE, acts.policy(author(ALICE), "join", "invite"))
        self.do(ALICE, make)
        self.assertEqual(("invite", "admin", 1), (self.log.policy.join, self.log.policy.invite, self.log.policy.env))
        self.do(ALICE, acts.policy(author(ALICE), "join", "open"))
        self.assertEqual(("open", "admin"), (self.log.policy.join, self.log.policy.invite))

    def test_policy_words(self) -> None:
        """Another name or value is told with those that there are; the history has no choice yet, and says so."""
        for name, value, piece in (
            ("colour", "red", "one of: join, invite, history"),
            ("join", "member", "one of: open, invite"),
            ("invite", "", "one of: member, admin"),
            ("history", "shared", "one of: from-join"),
            ("history", "from-join", "from-join already"),
        ):
            with self.assertRaises(acts.BadWord) as caught:
                acts.policy(author(ALICE), name, value)
            self.assertIn(piece, str(caught.exception))

    def test_too_long(self) -> None:
        """A reason or topic counts in bytes, and one too long is told before anything is signed."""
        self.do(ALICE, acts.topic(author(ALICE), "é" * (MAX_TOPIC // 2)))
        self.do(ALICE, acts.kick(author(ALICE), "bob", "é" * (MAX_REASON // 2)))
        for make in (
            lambda log: acts.topic(author(ALICE), "é" * (MAX_TOPIC // 2) + "x")(log),
            lambda log: acts.kick(author(ALICE), "bob", "x" * (MAX_REASON + 1))(log),
            lambda log: acts.ban(author(ALICE), "bob", 0, "x" * (MAX_REASON + 1))(log),
        ):
            with self.assertRaises(acts.BadWord):
                make(self.log)

    def test_half_a_character(self) -> None:
        """What is no text becomes text that every reader's rules take."""
        self.do(ALICE, acts.topic(author(ALICE), "a\ud83d"))
        self.assertEqual("a?", self.log.topic)

    def test_on_the_log_as_it_is(self) -> None:
        """A builder may be used again, on a log that went on: the act is signed behind what is new."""
        make = acts.topic(author(ALICE), "hello")
        old = sign_event(ALICE.device(), make(self.log))
        self.do(ALICE, acts.mute(author(ALICE), "bob", 0))
        with self.assertRaises(Refused) as caught:
            self.room.take(old)
        self.assertEqual(STALE_CTL, caught.exception.code)
        self.do(ALICE, make)
        leave = acts.leave(author(BOB))
        old = sign_event(BOB.device(), leave(self.log))
        self.do(ALICE, acts.kick(author(ALICE), "bob", ""))
        self.do(BOB, acts.join(author(BOB)))
        with self.assertRaises(Refused) as caught:
            self.room.take(old)
        self.assertEqual(STALE_OWN, caught.exception.code)
        self.do(BOB, leave)


class DurationTests(SynchronousTestCase):
    """Tests for `until`."""

    def test_durations(self) -> None:
        """A number and a unit, in either case, from now on."""
        for typed, seconds in (
            ("45s", 45), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600), ("7D", 604_800), ("1s", 1),
        ):  # fmt: skip
            self.assertEqual(NOW + seconds * 1000, acts.until(typed, NOW), typed)

    def test_longest(self) -> None:
        """The longest one can still be signed."""
        end = acts.until("999999w", NOW)
        assert end is not None
        self.assertLess(end, 2**53)

    def test_no_duration(self) -> None:
        """Anything else is none, and belongs to the reason: a reason may begin with a number."""
        for typed in ("", "7", "d", "0m", "07d", "-1d", "1.5h", "7 d", "7y", "1000000m", "3rd", "7d!", "٣d", "7d\n"):
            self.assertIsNone(acts.until(typed, NOW), typed)

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.text(max_size=8))
    def test_fuzz(self, typed: str) -> None:
        """Whatever is typed is a time in the future or none."""
        end = acts.until(typed, NOW)
        self.assertTrue(end is None or end > NOW)


class WordsTests(SynchronousTestCase):
    """Tests for `what_happened`."""

    def setUp(self) -> None:
        self.log = Room(ALICE, BOB).log

    def made(self, kind: type, **fields: object) -> AnyEvent:
        """An event of alice's about bob, if it is about anybody."""
        about = BOB if "user" in kind.__struct_fields__ else None
        return event(self.log, kind, ALICE, about, **fields)

    def test_each(self) -> None:
        """Each event is told as the end of a sentence that begins with its author."""
        words = {
            "made the room": self.made(Create),
            "invited bob": self.made(Invite),
            "joined": self.made(Join),
            "left": self.made(Leave),
            "put bob out": self.made(Kick),
            "put bob out (spam)": self.made(Kick, reason=b"spam"),
            "banned bob": self.made(Ban),
            "banned bob for a time (spam)": self.made(Ban, until=NOW, reason=b"spam"),
            "ended the ban of bob": self.made(Unban),
            "muted bob": self.made(Mute),
            "muted bob for a time": self.made(Mute, until=NOW),
            "gave bob their voice back": self.made(Unmute),
            "made bob a mod": self.made(ChangeRole, role="mod"),
            "made bob a member": self.made(ChangeRole, role="member"),
            "made bob an admin": self.made(ChangeRole, role="admin"),
            "made bob an owner": self.made(ChangeRole, role="owner"),
            "changed the policy: anybody may enter, members invite": self.made(ChangePolicy),
            "changed the policy: only who is invited may enter, admins invite": self.made(
                ChangePolicy, join="invite", invite="admin"
            ),
            "set the topic: naïve": self.made(ChangeTopic, topic="naïve".encode()),
        }
        self.assertEqual(list(words), [acts.what_happened(made) for made in words.values()])
        self.assertEqual(set(get_args(AnyEvent)), set(map(type, words.values())))

    def test_no_topic(self) -> None:
        """A topic that is taken away is said as that."""
        self.assertEqual("took the topic away", acts.what_happened(self.made(ChangeTopic)))

    def test_hostile(self) -> None:
        """Whatever a reason or a topic holds: one line, which nothing in it can end or imitate."""
        evil = b"x\x1b[2J\n[ops] <bob> y\xff\xe2\x80\xae"
        for made in (self.made(Kick, reason=evil), self.made(Ban, reason=evil), self.made(ChangeTopic, topic=evil)):
            (line,) = render(Membership("ops", "alice", acts.what_happened(made)))
            self.assertEqual(
                (1, 0), (line.count("["), sum(line.count(mark) for mark in ("<", "\x1b", "\n", "\u202e"))), line
            )

    def test_not_a_presence(self) -> None:
        """What is typed into a room never looks like somebody coming or going by itself."""
        for made in (self.made(ChangeTopic, topic=b"online"), self.made(Kick, reason=b"offline")):
            self.assertNotIn("is o", render(Membership("ops", "alice", acts.what_happened(made)))[0])
