"""Tests for the judgement of messages: every finding, what is shown of it, and that nothing false leaves a trace."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from functools import cache
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import envelope
from securechat.crypto import primitives as p
from securechat.crypto.envelope import Delivered, Examined, audience_digest, parse_header
from securechat.crypto.findings import Finding
from securechat.crypto.reading import DELAY, RECENT_MIDS, ConversationReader, Found, Verdict
from securechat.crypto.roomlog import Ban, ChangeTopic, Invite, Join, Kick, Leave, Mute, Unmute
from securechat.crypto.transcript import Transcript
from tests.cast import (
    NOW,
    Acquaintances,
    Conversation,
    Person,
    Posted,
    Room,
    audience_bytes,
    chained,
    examined,
    flipped,
    reader_of,
    rsa_public,
    sealed_by_hand,
)

alice, bob, carol = Person("alice", 0), Person("bob", 1), Person("carol", 2)
dave, mallory = Person("dave"), Person("mallory")
new_alice = Person("alice", 0, generation=2)
EVERYBODY: Final = (alice, bob, carol, dave, mallory)
AGAIN: Final = "you have it already, or it is older than all you were given"
CLOCK: Final = "/doctor looks at this machine's clock"
COUNTS: Final = {Finding.BEFORE_JOIN, Finding.NOT_FOR_YOU, Finding.OTHER_KEY, Finding.NEWER}  # genuine, if unread


def fork(author: str) -> str:
    """What to do where an author was shown another history."""
    return f"compare with {author} by another way; /audit checks all you have"


class ReadingCase(SynchronousTestCase):
    """Bob reads in a room of alice's, where carol is too."""

    def setUp(self) -> None:
        self.room = Room(alice, bob, carol)
        self.talk = Conversation(self.room.log, *EVERYBODY)
        self.reader = reader_of(bob, self.talk)
        self.trust = Acquaintances.of(EVERYBODY)
        self.before: dict[str, Any] = {}

    def see(self, message: Posted | Delivered, *, reader: ConversationReader | None = None, **changes: Any) -> Verdict:
        """Bob is given a message, altered or not; his verdict."""
        if isinstance(message, Posted):
            message = self.talk.deliver(message, bob, **changes)
        reader = self.reader if reader is None else reader
        self.before = dict(reader.chains)
        return reader.receive(examined(message, bob, self.trust), self.trust, self.talk.audience)

    def shown(self, verdict: Verdict) -> None:
        """The text is shown, and nothing is said beside it."""
        self.assertEqual(Verdict(), verdict)

    def hidden(self, finding: Finding, verdict: Verdict, text: str, cure: str) -> None:
        """The text is not shown, for that reason, in these words; and no chain has moved, unless it is genuine."""
        assert verdict.hidden is not None
        self.assertEqual((finding, False), (verdict.hidden.finding, verdict.hidden.finding.shown))
        self.assertEqual((text, cure), (verdict.hidden.text, verdict.hidden.cure))
        self.assertEqual(finding in COUNTS, self.before != self.reader.chains)

    def flagged(self, finding: Finding, verdict: Verdict, text: str, cure: str, *, alarm: bool = False) -> None:
        """The text is shown with this one flag, in these words; an alarm or not."""
        self.assertIs(None, verdict.hidden)
        self.assertEqual([finding], [found.finding for found in verdict.flags])
        (found,) = verdict.flags
        self.assertEqual((text, cure), (found.text, found.cure))
        self.assertEqual((True, alarm), (finding.shown, finding.alarm))
        self.assertEqual(verdict.flags if alarm else (), verdict.alarms)


class GoodTests(ReadingCase):
    """What is in order is shown, and nothing is said."""

    def test_conversation(self) -> None:
        """Several authors, in turn."""
        for author in (alice, carol, alice, bob, bob, carol):
            self.shown(self.see(self.talk.say(author, "x")))
        self.assertEqual({alice.dev(): 2, bob.dev(): 2, carol.dev(): 2}, {
            dev: chain.last for dev, chain in self.reader.chains.items()
        })  # fmt: skip
        self.assertEqual((6, self.talk.ths[6]), self.reader.transcript.place)

    def test_several_devices(self) -> None:
        """Each device of an author has a chain of its own."""
        keys = alice.keys(2, (1, 2), previous=alice.keys().digest)
        self.trust.meet(keys)
        for device in (1, 2, 1, 2):
            self.shown(self.see(self.talk.say(alice, "x", device=device, dl=(2, keys.digest))))
        self.assertEqual({2}, {chain.last for chain in self.reader.chains.values()})

    def test_while_members_change(self) -> None:
        """People come and go, and are put out; messages sealed for the members of their time are in order."""
        for step, who in (
            (Join, (dave,)), (Mute, (alice, dave)), (Leave, (dave,)), (Join, (mallory,)), (Kick, (alice, mallory)),
            (ChangeTopic, (alice,)),
        ):  # fmt: skip
            self.shown(self.see(self.talk.say(alice, "before")))
            self.room.do(step, *who)
            self.shown(self.see(self.talk.say(carol, "behind")))

    def test_joined_meanwhile(self) -> None:
        """A message sealed before somebody joined, and stored behind that, is in order: its head says for whom."""
        sealed = self.talk.seal(alice, "x")
        self.room.do(Join, dave)
        self.shown(self.see(self.talk.store(alice, "x", sealed)))

    def test_left_meanwhile(self) -> None:
        """So is one that still went to somebody who left meanwhile."""
        self.room.do(Join, dave)
        sealed = self.talk.seal(alice, "x")
        self.room.do(Leave, dave)
        self.shown(self.see(self.talk.store(alice, "x", sealed)))

    def test_private(self) -> None:
        """A private message, both ways."""
        self.talk = Conversation(None, alice, bob)
        self.reader = reader_of(bob, self.talk)
        for author in (alice, bob, alice):
            self.shown(self.see(self.talk.say(author, "psst")))

    def test_key_changed_since(self) -> None:
        """Messages sealed for a member's earlier RSA key raise no flag once that member has another."""
        posted = self.talk.say(alice, "x")
        old = carol.keys()
        newer = carol.keys(2, rk_der=rsa_public("carol", "new"), old_kids=old.kids, previous=old.digest)
        self.assertNotEqual(old.kid, newer.kid)
        self.trust.meet(newer)
        self.shown(self.see(posted))

    def test_identity_gone(self) -> None:
        """A member who has another identity today could have any key then: nobody can tell any more."""
        self.trust.meet(Person("carol", generation=2).keys())
        self.shown(self.see(self.talk.say(alice, "x")))

    def test_nobody_seals_for_an_identity_that_is_gone(self) -> None:
        """That a message was not sealed for a member whose identity is not in force any more is in order."""
        self.trust.meet(Person("carol", generation=2).keys())
        self.shown(self.see(self.talk.say(alice, "x", readers=(alice, bob))))

    def test_clocks(self) -> None:
        """Clocks may differ by ten minutes, either way."""
        for at in (NOW - DELAY, NOW + DELAY):
            self.shown(self.see(self.talk.say(alice, "x", at=at), ts=NOW))

    def test_timed_mute_over(self) -> None:
        """A mute that has ended when its target writes is none."""
        self.room.do(Mute, alice, carol, until=NOW + 1000)
        self.shown(self.see(self.talk.say(carol, "x", at=NOW + 1000)))

    def test_older_list(self) -> None:
        """An author may know an older list of their own devices than the reader does."""
        posted = self.talk.say(alice, "x")
        self.trust.meet(alice.keys(2))
        self.shown(self.see(posted))

    def test_paging_back(self) -> None:
        """400 messages back with an empty cache: pages judged by fresh readers, from the places told, raise no flag."""
        steps = {50: (Join, (dave,)), 120: (Leave, (dave,)), 200: (Join, (mallory,)), 290: (Kick, (alice, mallory))}
        for number in range(400):
            if number in steps:
                kind, who = steps[number]
                self.room.do(kind, *who)
            self.talk.say((alice, carol, bob)[number % 7 % 3], f"{number}")
        for first in range(336, -1, -64):
            reader = self.reader.elsewhere(first, self.talk.ths[first])
            for posted in self.talk.posted[first : first + 64]:
                self.shown(self.quickly(posted, reader))
        self.assertEqual({}, self.reader.chains)

    def quickly(self, posted: Posted, reader: ConversationReader) -> Verdict:
        """The verdict, with the package taken as examined already."""
        found = Examined(self.talk.deliver(posted, bob), parse_header(posted.sealed.hdr), posted.text)
        return reader.receive(found, self.trust, self.talk.audience)

    def test_own(self) -> None:
        """One's own message, as it was acknowledged, counts as if it had come back."""
        self.shown(self.see(self.talk.say(alice, "x")))
        mine = self.talk.say(bob, "mine")
        self.reader.own(mine.seq, mine.events, bob.dev(), 1, mine.sealed.id)
        self.assertEqual((2, self.talk.ths[2]), self.reader.transcript.place)
        self.shown(self.see(self.talk.say(alice, "x")))
        self.shown(self.see(self.talk.say(bob, "more")))

    def test_elsewhere(self) -> None:
        """A reader for another stretch leaves the first alone, and begins its chains there."""
        for number in range(4):
            self.shown(self.see(self.talk.say(alice, f"{number}")))
        before = dict(self.reader.chains), self.reader.transcript.place
        other = self.reader.elsewhere(1, self.talk.ths[1])
        self.shown(self.see(self.talk.posted[1], reader=other))
        self.shown(self.see(self.talk.posted[2], reader=other))
        self.assertEqual(before, (self.reader.chains, self.reader.transcript.place))


class HiddenTests(ReadingCase):
    """Findings that keep a text from being shown."""

    def test_stripped(self) -> None:
        """The signature is missing."""
        verdict = self.see(self.talk.say(alice, "x"), sig=b"")
        self.hidden(Finding.MALFORMED, verdict, "malformed", "its author's client or the server is broken or lies")

    def test_unknown_device(self) -> None:
        """A device that nobody vouches for, made up by the server."""
        verdict = self.see(self.talk.say(alice, "x", device=2))
        text, cure = (
            "from a device that alice did not sign",
            "if it stays so, ask alice: /whois alice shows their devices",
        )
        self.hidden(Finding.UNKNOWN_DEVICE, verdict, text, cure)

    def test_device_forgotten(self) -> None:
        """A device that was vouched for when the package was examined, and is not when it is judged."""
        posted = self.talk.say(alice, "x")
        found = examined(self.talk.deliver(posted, bob), bob, self.trust)
        verdict = self.reader.receive(found, Acquaintances([]), self.talk.audience)
        self.assertEqual(Verdict(Found(Finding.UNKNOWN_DEVICE, "alice")), verdict)

    def test_wrong_signature(self) -> None:
        """Anybody's signature but the author's device's."""
        text, cure = "signature wrong", "alice did not write that: the server or somebody else did"
        for signer in (mallory.device(), alice.device(2), alice.identity):
            posted = self.talk.say(alice, "x", signer=signer)
            self.hidden(Finding.BAD_SIGNATURE, self.see(posted), text, cure)

    def test_other_room(self) -> None:
        """A message of another room, moved here by the server."""
        other = Conversation(Room(alice, bob, carol, name="other").log, *EVERYBODY)
        moved = other.deliver(other.say(alice, "x"), bob, room=self.talk.id)
        text, cure = "written for another conversation", "the server moved it here"
        self.hidden(Finding.OTHER_ROOM, self.see(moved), text, cure)

    def test_private_in_a_room(self) -> None:
        """A private message moved into a room, and a room's into a private conversation."""
        text, cure = "written for another conversation", "the server moved it here"
        pm = Conversation(None, alice, bob)
        moved = pm.deliver(pm.say(alice, "psst"), bob, room=self.talk.id, events=3)
        self.hidden(Finding.OTHER_ROOM, self.see(moved), text, cure)
        public = self.talk.deliver(self.talk.say(alice, "x"), bob, room=pm.id, events=0)
        self.talk, self.reader = pm, reader_of(bob, pm)
        self.hidden(Finding.OTHER_ROOM, self.see(public), text, cure)

    def test_examined_for_another_room(self) -> None:
        """A message that was examined for one room is never judged in another that took its place meanwhile."""
        other = Conversation(Room(alice, bob, carol, name="other").log, *EVERYBODY)
        found = examined(other.deliver(other.say(alice, "x"), bob), bob, self.trust)
        self.assertIs(None, found.fault)
        verdict = self.reader.receive(found, self.trust, other.audience)
        self.hidden(Finding.OTHER_ROOM, verdict, "written for another conversation", "the server moved it here")
        self.assertEqual({}, self.reader.chains)

    def test_identity_changed(self) -> None:
        """A device of another identity than the pinned one."""
        room = Room(new_alice, bob)
        self.talk = Conversation(room.log, new_alice, bob)
        self.reader = reader_of(bob, self.talk)
        self.trust = Acquaintances([alice.keys(), bob.keys()], [new_alice.vouched()])
        text = "alice's identity changed"
        cure = "/verify alice compares the new one"
        posted = self.talk.say(new_alice, "x")
        self.hidden(Finding.IDENTITY_CHANGED, self.see(posted), text, cure)
        self.trust.meet(new_alice.keys())
        self.shown(self.see(posted))

    def test_not_a_member(self) -> None:
        """A stranger in the room."""
        text, cure = "from mallory, who was not a member", "the server let it in"
        self.hidden(Finding.NOT_MEMBER, self.see(self.talk.say(mallory, "x")), text, cure)

    def test_member_later(self) -> None:
        """Membership counts at the author's head, not later."""
        sealed = self.talk.seal(mallory, "x")
        self.room.do(Join, mallory)
        posted = self.talk.store(mallory, "x", sealed)
        text, cure = "from mallory, who was not a member", "the server let it in"
        self.hidden(Finding.NOT_MEMBER, self.see(posted), text, cure)

    def test_another_identity_is_the_member(self) -> None:
        """A name is a member by one identity; whoever else has the name, trusted though they be, is none."""
        self.trust.meet(new_alice.keys())
        posted = self.talk.say(new_alice, "x", dl=new_alice.dl)
        text, cure = "from alice, who was not a member", "the server let it in"
        self.hidden(Finding.NOT_MEMBER, self.see(posted), text, cure)

    def test_third_in_private(self) -> None:
        """Somebody else in a private conversation, and a message there that names a room's members."""
        self.talk = Conversation(None, alice, bob)
        self.reader = reader_of(bob, self.talk)
        text, cure = "from mallory, who was not a member", "the server let it in"
        self.hidden(Finding.NOT_MEMBER, self.see(self.talk.say(mallory, "x", readers=(alice, bob))), text, cure)
        text = "from alice, who was not a member"
        self.hidden(Finding.NOT_MEMBER, self.see(self.talk.say(alice, "x", head=self.room.log.head)), text, cure)

    def test_muted(self) -> None:
        """An author without a voice."""
        self.room.do(Mute, alice, carol)
        text, cure = "from carol, who had no voice", "the server let it in"
        self.hidden(Finding.MUTED, self.see(self.talk.say(carol, "x")), text, cure)
        self.room.do(Unmute, alice, carol)
        self.assertIs(None, self.see(self.talk.say(carol, "x")).hidden)

    def test_timed_mute(self) -> None:
        """The same, for a time."""
        self.room.do(Mute, alice, carol, until=NOW + 1000)
        text, cure = "from carol, who had no voice", "the server let it in"
        self.hidden(Finding.MUTED, self.see(self.talk.say(carol, "x", at=NOW + 999)), text, cure)

    def test_put_out(self) -> None:
        """An author who was kicked or banned before the message's place, though not by their own head."""
        text, cure = "from carol, who had been put out", "the server let it in"
        for kind in (Kick, Ban):
            self.setUp()
            sealed = self.talk.seal(carol, "x")
            self.room.do(kind, alice, carol)
            self.hidden(Finding.PUT_OUT, self.see(self.talk.store(carol, "x", sealed)), text, cure)

    def test_kicked(self) -> None:
        """An author who knows that they were kicked is no member."""
        self.room.do(Kick, alice, carol)
        text, cure = "from carol, who was not a member", "the server let it in"
        self.hidden(Finding.NOT_MEMBER, self.see(self.talk.say(carol, "x")), text, cure)

    def test_replayed(self) -> None:
        """The same message at another place, whatever the server says of its time; also the last but one."""
        first, second = self.talk.say(alice, "one"), self.talk.say(alice, "two")
        self.shown(self.see(first))
        self.shown(self.see(second))
        for posted, seq in ((first, 3), (second, 4), (first, 5)):
            verdict = self.see(posted, seq=seq, ts=NOW + 1)
            self.hidden(Finding.REPLAYED, verdict, "replayed", AGAIN)

    def test_exchanged_text(self) -> None:
        """Another token, another key, or both, under a header that alice signed; bob, who could make them, did not."""
        posted, other = self.talk.say(alice, "x"), self.talk.say(alice, "y")
        text, cure = "its text or key was exchanged", "ask alice to send it again"
        token, wrapped = other.sealed.encrypted_message, other.sealed.encrypted_keys["bob"]
        for change in ({"token": token}, {"wrapped": wrapped}, {"token": token, "wrapped": wrapped}):
            self.hidden(Finding.OTHER_TEXT, self.see(posted, **change), text, cure)

    def test_signed_by_another(self) -> None:
        """A member who is no reader signs alice's package as their own: `bind` is not of their header."""
        posted = self.talk.say(alice, "x", readers=(alice, bob))
        stolen = sealed_by_hand(carol, self.talk.position(carol), posted.sealed)
        text, cure = "its text or key was exchanged", "ask carol to send it again"
        self.hidden(Finding.OTHER_TEXT, self.see(self.talk.store(carol, "x", stolen)), text, cure)

    def test_before_join(self) -> None:
        """What was sealed before the reader was a member."""
        room = Room(alice, carol)
        self.talk = Conversation(room.log, *EVERYBODY)
        self.reader = reader_of(bob, self.talk)
        posted = self.talk.say(alice, "x")
        room.do(Join, bob)
        self.hidden(Finding.BEFORE_JOIN, self.see(posted), "sent before you joined", "")

    def test_not_for_you(self) -> None:
        """A member who is left out."""
        verdict = self.see(self.talk.say(alice, "x", readers=(alice, carol)))
        text, cure = "not addressed to you", "ask alice whether you were left out on purpose"
        self.hidden(Finding.NOT_FOR_YOU, verdict, text, cure)

    def test_other_key(self) -> None:
        """A message for a key that this device does not have."""
        verdict = self.see(self.talk.say(alice, "x"), kid=carol.kid)
        text = "sealed for a key this device does not have"
        self.hidden(Finding.OTHER_KEY, verdict, text, "/backup fetch brings newer keys from your backup")

    def test_damaged(self) -> None:
        """A wrapped key that does not open."""
        posted = self.talk.say(alice, "x")
        for wrapped in (posted.sealed.encrypted_keys["carol"], flipped(posted.sealed.encrypted_keys["bob"], 9), b""):
            verdict = self.see(posted, wrapped=wrapped)
            self.hidden(Finding.DAMAGED, verdict, "damaged or sealed wrongly", "ask alice to send it again")

    def test_newer(self) -> None:
        """A body of a kind that comes later."""
        verdict = self.see(self.talk.say(alice, '\x00{"t":"edit"}'))
        self.hidden(Finding.NEWER, verdict, "made by a newer client", "update SecureChat")

    def test_version_two(self) -> None:
        """A message of version 2 is for a newer client, and counts in its author's chain and in the transcript."""
        package = chained(alice, self.talk.position(alice))
        header = envelope.parse_chain_header(package.hdr)
        bind = envelope.bind_of(package.bind, package.ct)
        posted = self.talk.say(alice, "stands where the other one would")
        message = replace(
            self.talk.deliver(posted, bob), token="", hdr=package.hdr, bind=bind, sig=package.sig, mid=header.mid,
            wrapped=None, kid=None, chained=True,
        )  # fmt: skip
        examined = envelope.examine(message, alice.vouched(), bob.private)
        verdict = self.reader.receive(examined, self.trust, self.talk.audience)
        self.hidden(Finding.NEWER, verdict, "made by a newer client", "update SecureChat")
        self.assertEqual(posted.seq, self.reader.transcript.seq)
        self.assertNotEqual(self.talk.ths[-1], self.reader.transcript.th)
        self.assertEqual(1, len(self.reader.chains))

    def test_unread_counts(self) -> None:
        """A genuine message that this reader cannot open is no gap in its author's chain; neither is it new twice."""
        self.shown(self.see(self.talk.say(alice, "x")))
        left_out = self.talk.say(alice, "secret", readers=(alice, carol))
        self.see(left_out)
        self.shown(self.see(self.talk.say(alice, "x")))
        self.hidden(Finding.REPLAYED, self.see(left_out, seq=4), "replayed", AGAIN)

    def test_first_that_counts(self) -> None:
        """Of several reasons the first in the order of the checks is said."""
        self.room.do(Mute, alice, carol)
        posted = self.talk.say(carol, "x", readers=(alice,), at=NOW - 10**9)
        verdict = self.see(posted)
        self.hidden(Finding.MUTED, verdict, "from carol, who had no voice", "the server let it in")
        self.assertEqual((), verdict.flags)

    def test_no_trace(self) -> None:
        """After false messages the genuine ones are as if those had never come, but for the transcript."""
        posted = [self.talk.say(alice, f"{number}") for number in range(3)]
        seq = 0
        for number, genuine in enumerate(posted):
            for change in ({"sig": bytes(64)}, {"bind": bytes(32)}, {"mid": "0" * 32}, {"wrapped": bytes(384)}):
                seq += 1
                self.assertIsNot(None, self.see(genuine, seq=genuine.seq, **change).hidden)
                self.assertEqual(number, sum(chain.last for chain in self.reader.chains.values()))
                self.reader.transcript = Transcript(number, self.talk.ths[number])
            self.shown(self.see(genuine))


class FlagTests(ReadingCase):
    """Findings beside a text."""

    def test_missing(self) -> None:
        """Messages of the same author that were not given, one or several."""
        posted = [self.talk.say(alice, f"{number}") for number in range(6)]
        self.see(posted[0])
        cure = "/history may bring them; else ask alice"
        self.reader.transcript = Transcript(2, self.talk.ths[2])
        self.flagged(Finding.MISSING, self.see(posted[2]), "1 message from alice missing before this", cure)
        self.reader.transcript = Transcript(5, self.talk.ths[5])
        self.flagged(Finding.MISSING, self.see(posted[5]), "2 messages from alice missing before this", cure)

    def test_late(self) -> None:
        """One that was missed comes after all: shown once."""
        posted = [self.talk.say(alice, f"{number}") for number in range(3)]
        self.see(posted[0])
        self.see(posted[2])
        self.flagged(Finding.LATE, self.see(posted[1], seq=4), "arrived late, out of order", "")
        self.hidden(Finding.REPLAYED, self.see(posted[1], seq=5), "replayed", AGAIN)

    def test_used_twice(self) -> None:
        """Two messages with one number: both shown, the second flagged; given again, it is a replay."""
        one = self.talk.seal(alice, "one")
        two = self.talk.store(alice, "two", self.talk.seal(alice, "two", mid="2" * 32))
        self.shown(self.see(self.talk.deliver(Posted(alice, "one", one, 1, 3), bob)))
        text, cure = "counter used twice by alice", "two copies of one profile, or a lie"
        self.flagged(Finding.USED_TWICE, self.see(two, seq=2), text, cure, alarm=True)
        self.hidden(Finding.REPLAYED, self.see(two, seq=3), "replayed", AGAIN)

    def test_sent_twice(self) -> None:
        """One text under two numbers, for the server refused what it had stored: the second is flagged."""
        text = "sent before, under another number"
        cure = "one of the two is a repetition: alice's client was told to send again"
        self.shown(self.see(self.talk.say(alice, "x", mid="1" * 32)))
        self.shown(self.see(self.talk.say(carol, "x", mid="1" * 32)))
        self.shown(self.see(self.talk.say(alice, "y")))
        again = self.talk.say(alice, "x", mid="1" * 32)
        self.flagged(Finding.SENT_TWICE, self.see(again), text, cure)
        self.hidden(Finding.REPLAYED, self.see(again, seq=5), "replayed", AGAIN)
        self.shown(self.see(again, reader=self.reader.elsewhere(4, self.talk.ths[4])))

    def test_sent_twice_while_it_is_remembered(self) -> None:
        """A reader remembers the newest messages of each device for that, and no more of them."""
        for number in range(RECENT_MIDS):
            self.shown(self.see(self.talk.say(alice, "x", mid=f"{number:032x}")))
        again = self.see(self.talk.say(alice, "x", mid=f"{0:032x}"))
        self.assertEqual((Found(Finding.SENT_TWICE, "alice"),), again.flags)
        self.shown(self.see(self.talk.say(alice, "x", mid="f" * 32)))
        self.shown(self.see(self.talk.say(alice, "x", mid=f"{0:032x}")))
        self.assertEqual({RECENT_MIDS}, set(map(len, self.reader.mids.values())))

    def test_false_messages_are_not_remembered(self) -> None:
        """What is not shown does not make the genuine one that follows a repetition."""
        posted = self.talk.say(alice, "x", mid="1" * 32)
        self.see(posted, bind=bytes(32))
        self.see(self.talk.say(alice, "x", ctr=9, mid="1" * 32), wrapped=bytes(384), seq=2)
        self.shown(self.see(posted, seq=1))

    def test_one_header_two_binds(self) -> None:
        """One header with two binds, for two readers: what follows shows each that the others got another message."""
        posted = self.talk.say(alice, "for carol")
        twin = sealed_by_hand(alice, self.talk.position(alice, ctr=1, prev=""), posted.sealed, hdr=posted.sealed.hdr)
        self.assertEqual(posted.sealed.hdr, twin.hdr)
        self.assertNotEqual(posted.sealed.id, twin.id)
        self.reader.own(1, 3, alice.dev(), 1, twin.id)  # what the server made bob take
        following = self.see(self.talk.say(alice, "next"))
        self.assertEqual([Finding.OTHER_PREVIOUS, Finding.FORK], [found.finding for found in following.flags])
        answer = self.see(self.talk.say(carol, "answer"))
        self.flagged(
            Finding.FORK, answer, "its author was shown another history of this conversation", fork("carol"), alarm=True
        )

    def test_other_previous(self) -> None:
        """A message that names another before it than the reader was given."""
        self.see(self.talk.say(alice, "x"))
        verdict = self.see(self.talk.say(alice, "y", prev="0" * 64))
        text = "alice's message before this one was another than you were given"
        self.flagged(Finding.OTHER_PREVIOUS, verdict, text, "compare with alice", alarm=True)

    def test_delayed(self) -> None:
        """A message signed long before or after the server says it came."""
        posted = self.talk.say(alice, "x", at=NOW)
        verdict = self.see(posted, ts=NOW + DELAY + 1)
        self.flagged(Finding.DELAYED, verdict, "signed at another time: 10 minutes apart", CLOCK)
        verdict = self.see(self.talk.say(alice, "x", at=NOW), ts=NOW - 3 * DELAY)
        self.flagged(Finding.DELAYED, verdict, "signed at another time: 30 minutes apart", CLOCK)

    def test_revoked_since(self) -> None:
        """A device that its owner has revoked since."""
        posted = self.talk.say(alice, "x")
        self.trust.meet(alice.keys(2, (2,), previous=alice.keys().digest, revoked=(1,), past=[alice.certificate()]))
        text = "from a device that alice has revoked since"
        self.flagged(Finding.REVOKED_SINCE, self.see(posted), text, "")

    def test_names_the_list_that_revokes_it(self) -> None:
        """A revoked device that names the very list it is not in was never a device of that list."""
        keys = alice.keys(2, (2,), previous=alice.keys().digest, revoked=(1,), past=[alice.certificate()])
        self.trust.meet(keys)
        verdict = self.see(self.talk.say(alice, "x", dl=(2, keys.digest)))
        assert verdict.hidden is not None
        self.assertIs(Finding.UNKNOWN_DEVICE, verdict.hidden.finding)

    def test_earlier_identity(self) -> None:
        """What somebody wrote before they started over is shown as that, once their new identity is trusted."""
        posted = self.talk.say(alice, "x")
        self.trust.meet(new_alice.keys())
        self.trust.put_aside["alice"] = (alice.keys().ik,)
        text = "by the identity that alice had before"
        self.flagged(Finding.EARLIER_IDENTITY, self.see(posted), text, "")

    def test_newer_list(self) -> None:
        """An author who names a newer device list than the reader was given, or another one of that number."""
        text, digest = "refers to a newer device list of alice than the server gives", alice.keys().digest
        for dl in ((2, "0" * 64), (1, "0" * 64), (2**53 - 1, digest)):
            verdict = self.see(self.talk.say(alice, "x", dl=dl))
            self.flagged(Finding.NEWER_LIST, verdict, text, "/whois alice asks for it again", alarm=True)

    def test_ghost(self) -> None:
        """A reader who is no member, named; several of them in order."""
        cure = "its author's client was told so, or is broken"
        verdict = self.see(self.talk.say(alice, "x", readers=(alice, bob, carol, mallory)))
        self.flagged(Finding.WENT_TO, verdict, "went to mallory, not a member", cure)
        verdict = self.see(self.talk.say(alice, "x", readers=(mallory, alice, bob, carol, dave)))
        self.flagged(Finding.WENT_TO, verdict, "went to dave, mallory, not a member", cure)

    def test_ghost_key(self) -> None:
        """A key that is no member's under a member's name is worse: somebody else reads along."""
        ghost = Person("carol", generation=7)
        verdict = self.see(self.talk.say(alice, "x", readers=(alice, bob, ghost)))
        text = "was sealed for a key of carol that their device list does not name"
        self.flagged(Finding.WRONG_KEY, verdict, text, "compare with carol", alarm=True)

    def test_list_withheld(self) -> None:
        """So is any key of a member whose list the server does not give, though their identity is pinned."""
        del self.trust.keys["carol"]
        verdict = self.see(self.talk.say(alice, "x"))
        self.assertEqual((Found(Finding.WRONG_KEY, "carol"),), verdict.flags)

    def test_ghost_in_private(self) -> None:
        """A third reader of a private message."""
        self.talk = Conversation(None, alice, bob)
        self.reader = reader_of(bob, self.talk)
        verdict = self.see(self.talk.say(alice, "x", readers=(alice, bob, mallory)))
        cure = "its author's client was told so, or is broken"
        self.flagged(Finding.WENT_TO, verdict, "went to mallory, not a member", cure)

    def test_left_out(self) -> None:
        """A member who was left out, named."""
        self.room.do(Join, dave)
        verdict = self.see(self.talk.say(alice, "x", readers=(alice, bob)))
        self.flagged(Finding.NOT_TO, verdict, "was not sealed for carol, dave", "")

    def test_wider_and_narrower(self) -> None:
        """Both at once are both said."""
        verdict = self.see(self.talk.say(alice, "x", readers=(alice, bob, mallory)))
        self.assertEqual((Found(Finding.WENT_TO, "mallory"), Found(Finding.NOT_TO, "carol")), verdict.flags)

    def test_audience_unknown(self) -> None:
        """The server does not say whom a message is for."""
        posted = self.talk.say(alice, "x")
        self.talk.audiences.clear()
        text = "the server does not say whom it was sealed for"
        cure = "ask alice by another way whom it went to"
        self.flagged(Finding.AUDIENCE_UNKNOWN, self.see(posted), text, cure, alarm=True)

    def test_kick_hidden(self) -> None:
        """A message that went to somebody who had been put out before its place."""
        for kind in (Kick, Ban):
            self.setUp()
            self.room.do(Join, mallory)
            sealed = self.talk.seal(alice, "x")
            self.room.do(kind, alice, mallory)
            verdict = self.see(self.talk.store(alice, "x", sealed))
            text = "went to mallory too: the server hid from its author that they were put out"
            self.flagged(Finding.KICK_HIDDEN, verdict, text, "tell its author by another way", alarm=True)

    def test_kick_and_back(self) -> None:
        """Whoever was put out and is back by then was put out all the same."""
        self.room.do(Join, mallory)
        sealed = self.talk.seal(alice, "x")
        self.room.do(Kick, alice, mallory)
        self.room.do(Join, mallory)
        verdict = self.see(self.talk.store(alice, "x", sealed))
        self.assertEqual((Found(Finding.KICK_HIDDEN, "mallory"),), verdict.flags)

    def test_unknown_head(self) -> None:
        """A head that the reader's log does not have, or not before the message."""
        text = "refers to members the server does not show you"
        verdict = self.see(self.talk.say(alice, "x", head="0" * 64))
        cure = "compare /members with alice by another way"
        self.flagged(Finding.UNKNOWN_HEAD, verdict, text, cure, alarm=True)
        sooner = self.talk.events
        self.room.do(Join, dave)
        verdict = self.see(self.talk.say(alice, "x"), events=sooner)
        self.assertIn(Found(Finding.UNKNOWN_HEAD, "alice"), verdict.flags)

    def test_unknown_head_lets_nobody_in(self) -> None:
        """Under a head that nobody knows, its author must still be a member at the message's own place."""
        verdict = self.see(self.talk.say(mallory, "x", head="0" * 64))
        assert verdict.hidden is not None
        self.assertIs(Finding.NOT_MEMBER, verdict.hidden.finding)

    def test_fork(self) -> None:
        """An author who was shown another transcript, or one that reaches behind their own message."""
        text = "its author was shown another history of this conversation"
        self.see(self.talk.say(alice, "x"))
        verdict = self.see(self.talk.say(alice, "y", th=(1, "0" * 64)))
        self.flagged(Finding.FORK, verdict, text, fork("alice"), alarm=True)
        for ahead in (3, 4, 2**53 - 1):
            verdict = self.see(self.talk.say(carol, "z", th=(ahead, "0" * 64)), seq=3)
            self.assertIn(Found(Finding.FORK, "carol"), verdict.flags)

    def test_place_not_remembered(self) -> None:
        """A place before the reader's first is no fork: it cannot be compared."""
        for number in range(3):
            self.talk.say(alice, f"{number}")
        reader = self.reader.elsewhere(3, self.talk.ths[3])
        self.shown(self.see(self.talk.say(alice, "x", th=(1, "0" * 64)), reader=reader))

    def test_dropped_for_one(self) -> None:
        """The server drops carol's message for bob alone: alice's next shows him so, carol's next too."""
        self.see(self.talk.say(carol, "one"))
        self.talk.say(carol, "dropped")
        answer = self.see(self.talk.say(alice, "answer"), seq=2)
        self.assertEqual((Found(Finding.FORK, "alice"),), answer.flags)
        verdict = self.see(self.talk.say(carol, "three"), seq=3)
        self.assertEqual((Found(Finding.MISSING, "carol", 1), Found(Finding.FORK, "carol")), verdict.flags)

    def test_reordered(self) -> None:
        """The server gives two authors' messages in another order: the next that was written behind them shows it."""
        one, two = self.talk.say(alice, "one"), self.talk.say(carol, "two", th=(0, self.talk.ths[0]))
        self.shown(self.see(two, seq=1))
        self.shown(self.see(one, seq=2))
        verdict = self.see(self.talk.say(alice, "three"))
        self.assertEqual((Found(Finding.FORK, "alice"),), verdict.flags)

    def test_flags_beside_an_unread_text(self) -> None:
        """What is known of a genuine message that does not open is said too."""
        self.see(self.talk.say(alice, "x"))
        verdict = self.see(self.talk.say(alice, "y", readers=(alice,), ctr=4))
        self.assertEqual(Finding.NOT_FOR_YOU, verdict.hidden.finding if verdict.hidden else None)
        self.assertEqual((Found(Finding.MISSING, "alice", 2),), verdict.flags)


class FindingTests(SynchronousTestCase):
    """Tests for the list of findings."""

    def test_each_has_a_test(self) -> None:
        """Every finding is asserted above, in its words."""
        source = inspect.getsource(sys.modules[__name__])
        lacking = [
            finding.name
            for finding in Finding
            if f"self.{'flagged' if finding.shown else 'hidden'}(Finding.{finding.name},"
            not in source.replace("\n            ", "")
        ]
        self.assertEqual([], lacking)

    def test_texts_are_apart(self) -> None:
        """Their texts differ, and every gap in them is one that is filled."""
        texts = [Found(finding, "alice", 2).text for finding in Finding]
        self.assertEqual(len(Finding), len(set(texts)))
        for finding in Finding:
            self.assertNotIn("{", Found(finding, "alice", 2).text + Found(finding, "alice", 2).cure)

    def test_alarms_are_shown(self) -> None:
        """Whatever is an alarm is shown: nothing that is hidden stops anybody from writing."""
        self.assertEqual([], [finding for finding in Finding if finding.alarm and not finding.shown])

    def test_plural(self) -> None:
        """One message, and two messages."""
        self.assertEqual("1 message from bob missing before this", Found(Finding.MISSING, "bob", 1).text)
        self.assertEqual("2 messages from bob missing before this", Found(Finding.MISSING, "bob", 2).text)


# --- whatever the server does -----------------------------------------------------------------------------------------


@cache
def stream() -> tuple[Conversation, tuple[Posted, ...]]:
    """A room with several authors, people who come, go and are put out, and messages that should not be there."""
    room = Room(alice, bob, carol)
    talk = Conversation(room.log, *EVERYBODY)
    for number in range(3):
        talk.say(alice, f"alice {number}")
        talk.say(carol, f"carol {number}")
    room.do(Join, dave)
    talk.say(dave, "dave 0")
    talk.say(bob, "bob 0", readers=(bob, carol, dave))
    talk.say(mallory, "a stranger")
    room.do(Kick, alice, dave)
    talk.say(dave, "put out")
    talk.say(alice, "alice 3")
    talk.say(carol, "not for bob", readers=(alice, carol))
    talk.say(carol, "carol 4")
    return talk, tuple(talk.posted)


class HostileServerTests(SynchronousTestCase):
    """However the server mixes messages, no text is false, none is another's, and what is false leaves no trace."""

    SHOWN: Final = {"alice": "alice", "carol": "carol", "dave": "dave", "bob": "bob"}
    examined: dict[Delivered, Examined] = {}

    def look(self, message: Delivered, trust: Acquaintances) -> Examined:
        """Examines each altered message once: the others come hundreds of times."""
        if message not in self.examined:
            self.examined[message] = examined(message, bob, trust)
        return self.examined[message]

    def altered(self, data: st.DataObject, message: Delivered) -> Delivered:
        """The message with a bit or field changed."""
        name = data.draw(st.sampled_from((
            "hdr", "bind", "sig", "wrapped", "token", "sender", "device", "mid", "kid", "room", "seq", "ts", "events",
            "no entry",
        )))  # fmt: skip
        if name == "no entry":
            return replace(message, wrapped=None, kid=None)
        value = getattr(message, name)
        if isinstance(value, bytes):
            return replace(message, **{name: flipped(value, data.draw(st.integers(0, 8 * len(value) - 1)))})
        if isinstance(value, int):
            return replace(message, **{name: data.draw(st.integers(0, 30))})
        if name == "token":
            at = data.draw(st.integers(0, len(value) - 1))
            return replace(message, token=value[:at] + "A" + value[at + 1 :])
        others = {"sender": [person.user for person in EVERYBODY], "device": [person.dev() for person in EVERYBODY],
                  "mid": ["0" * 32], "kid": [person.kid for person in EVERYBODY], "room": ["0" * 64]}  # fmt: skip
        return replace(message, **{name: data.draw(st.sampled_from(others[name]))})

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def test_any_mixture(self, data: st.DataObject) -> None:
        """Shuffled, doubled, cut, renumbered and with bits flipped."""
        talk, posted = stream()
        trust = Acquaintances.of(EVERYBODY)
        start = data.draw(st.integers(0, len(posted)))
        reader = reader_of(bob, talk, start)
        true = {p.digest("id", each.sealed.hdr, each.sealed.bind).hex(): each for each in posted}
        shown: list[str] = []
        for seq in range(start + 1, start + 1 + data.draw(st.integers(0, 14))):
            each = data.draw(st.sampled_from(posted))
            message = talk.deliver(each, bob, seq=seq)
            if message.wrapped is None and data.draw(st.booleans()):  # another's entry
                message = replace(message, wrapped=posted[0].sealed.encrypted_keys["bob"], kid=bob.kid)
            if data.draw(st.booleans()):
                message = self.altered(data, message)
            before, look = dict(reader.chains), self.look(message, trust)
            verdict = reader.receive(look, trust, talk.audience)
            if verdict.hidden is not None:
                if verdict.hidden.finding not in COUNTS:
                    self.assertEqual(before, reader.chains)
                continue
            genuine = true[message.id]  # or a KeyError: it was never written
            self.assertEqual(
                (genuine.text, genuine.author.user, genuine.author.dev()), (look.text, message.sender, message.device)
            )
            self.assertTrue(look.text.startswith(self.SHOWN[message.sender]))
            shown.append(message.id)
        self.assertEqual(len(shown), len(set(shown)))

    def test_as_it_was(self) -> None:
        """Given as it was stored, exactly what should be read is read."""
        talk, posted = stream()
        trust, reader = Acquaintances.of(EVERYBODY), reader_of(bob, talk)
        texts, reasons = [], []
        for each in posted:
            look = self.look(talk.deliver(each, bob), trust)
            verdict = reader.receive(look, trust, talk.audience)
            if verdict.hidden is None:
                texts.append(look.text)
                self.assertEqual(
                    (Found(Finding.NOT_TO, "alice"),) if look.text == "bob 0" else (), verdict.flags, look.text
                )
            else:
                reasons.append(verdict.hidden.finding)
        self.assertEqual(
            [each.text for each in posted if each.text not in ("a stranger", "put out", "not for bob")], texts
        )
        self.assertEqual([Finding.NOT_MEMBER, Finding.NOT_MEMBER, Finding.NOT_FOR_YOU], reasons)

    def test_audience_that_is_not_the_one_signed(self) -> None:
        """An audience is asked for by the digest that the author signed: another one never answers for it."""
        talk, posted = stream()
        asked: list[str] = []
        trust, reader = Acquaintances.of(EVERYBODY), reader_of(bob, talk)
        look = self.look(talk.deliver(posted[0], bob), trust)
        verdict = reader.receive(look, trust, lambda rcp: asked.append(rcp))  # type: ignore[func-returns-value]
        self.assertEqual([audience_digest(audience_bytes([alice, bob, carol])).hex()], asked)
        self.assertEqual((Found(Finding.AUDIENCE_UNKNOWN, "alice"),), verdict.flags)

    def test_private_room(self) -> None:
        """A newcomer reads nothing that was sealed before, and everything behind."""
        room = Room(alice, carol, join="invite")
        talk = Conversation(room.log, *EVERYBODY)
        trust, reader = Acquaintances.of(EVERYBODY), reader_of(bob, talk)
        talk.say(alice, "before")
        room.do(Invite, carol, bob)
        talk.say(alice, "invited")
        room.do(Join, bob)
        talk.say(alice, "behind")
        verdicts = [
            reader.receive(self.look(talk.deliver(each, bob), trust), trust, talk.audience) for each in talk.posted
        ]
        found = [verdict.hidden.finding if verdict.hidden else None for verdict in verdicts]
        self.assertEqual([Finding.BEFORE_JOIN, Finding.BEFORE_JOIN, None], found)
        self.assertEqual([()] * 3, [verdict.flags for verdict in verdicts])
