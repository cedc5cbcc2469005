"""Tests for who is told that somebody types, and that it costs no message anything."""

from __future__ import annotations

from securechat.crypto.identity import private_conversation
from securechat.crypto.roomlog import Join, Kick, Leave, Mute, Unmute
from securechat.errors import MUTED, NO_SUCH_ROOM, NOT_MEMBER, Code
from securechat.wire import limits
from securechat.wire import messages as m
from tests.doubles import START, Caller
from tests.unit.test_server_talk import Gate, TalkCase


class TypingCase(TalkCase):
    """Tests of alice, who types, and bob, who wants to know."""

    def setUp(self) -> None:
        super().setUp()
        self.bobs.ask(m.Sync(typing=True))
        self.alices.ask(m.Sync(typing=True))
        self.bobs.take()

    def type(self, by: Caller | None = None, room: str = "ops") -> m.Packet:
        """Somebody types, by whom else than alice is said; what that is answered."""
        reply: m.Packet = (by or self.alices).ask(m.Typing(id=9, room=room))
        return reply

    def heard(self, by: Caller | None = None) -> list[tuple[str, str]]:
        """Who typed where, as bob, or whoever is said, was told."""
        return [(event.room, event.user) for event in (by or self.bobs).take(m.TypingEvent)]

    def wait(self) -> None:
        """Time passes until the next word goes out."""
        self.reactor.advance(limits.TYPING_SECONDS)


class TypingTests(TypingCase):
    """Tests for `typing`."""

    def test_told(self) -> None:
        """Those in the room who want to know are told, the typist's own devices are not."""
        carols, second = self.member(self.carol, "ops"), self.second_device(self.alice, typing=True)
        self.assertEqual(m.Reply(id=9), self.type())
        self.assertEqual([("ops", "alice")], self.heard())
        self.assertEqual([], [*self.heard(carols), *self.heard(self.alices), *self.heard(second)])

    def test_no_more(self) -> None:
        """Who syncs without asking for it again is told no more."""
        self.bobs.ask(m.Sync(presence=True))
        self.type()
        self.assertEqual([], self.heard())

    def test_private(self) -> None:
        """In a private conversation the other one is told, and nobody else."""
        self.alices.ask(self.pm_of(1, self.alice, self.bob))
        carols = self.member(self.carol)
        carols.ask(m.Sync(typing=True))
        room = private_conversation(self.alice.ik, self.bob.ik)
        self.assertEqual(m.Reply(id=9), self.type(room=room))
        self.assertEqual([[(room, "alice")], []], [self.heard(), self.heard(carols)])
        self.assertFailed(NO_SUCH_ROOM, self.type(carols, room))
        self.assertEqual([], self.heard())

    def refused(self, code: Code, by: Caller, room: str = "ops") -> None:
        """It is refused, however often, and nobody is told."""
        for _ in range(2):
            self.assertFailed(code, self.type(by, room))
        self.assertEqual([], [*self.heard(), *self.heard(self.alices)])

    def test_not_a_member(self) -> None:
        """Who is not in a room, or no more, types to nobody there."""
        carols = self.member(self.carol)
        self.refused(NOT_MEMBER, carols)
        self.refused(NO_SUCH_ROOM, carols, "nowhere")
        self.perform(carols, Join, self.carol)
        self.assertEqual(m.Reply(id=9), self.type(carols))
        self.heard()
        self.heard(self.alices)
        self.wait()
        self.perform(self.alices, Kick, self.alice, self.carol)
        self.refused(NOT_MEMBER, carols)

    def test_muted(self) -> None:
        """Who has no voice does not type either, also after leaving and coming back, until it is given back."""
        self.perform(self.alices, Mute, self.alice, self.bob)
        self.refused(MUTED, self.bobs)
        for act in (Leave, Join):
            self.perform(self.bobs, act, self.bob)
        self.refused(MUTED, self.bobs)
        self.perform(self.alices, Unmute, self.alice, self.bob)
        self.assertEqual(m.Reply(id=9), self.type(self.bobs))
        self.assertEqual([("ops", "bob")], self.heard(self.alices))

    def test_muted_for_a_while(self) -> None:
        """A mute that has lapsed is none; a later one counts in its place."""
        self.perform(self.alices, Mute, self.alice, self.bob, until=(START + 30) * 1000)
        self.refused(MUTED, self.bobs)
        self.reactor.advance(31)
        self.assertEqual(m.Reply(id=9), self.type(self.bobs))
        self.wait()
        self.perform(self.alices, Mute, self.alice, self.bob, until=0)
        self.heard(self.alices)
        self.refused(MUTED, self.bobs)

    def test_nothing_is_stored(self) -> None:
        """Nothing is written."""
        before = self.writer.connection.total_changes
        self.type()
        self.assertEqual(before, self.writer.connection.total_changes)


class RateTests(TypingCase):
    """Tests for how often others are told."""

    def test_one_device(self) -> None:
        """One word of a device in a conversation goes out in three seconds; what comes sooner is answered the same."""
        self.assertEqual([m.Reply(id=9)] * 3, [self.type() for _ in range(3)])
        self.assertEqual(1, len(self.heard()))
        self.wait()
        self.type()
        self.assertEqual(1, len(self.heard()))

    def test_each_conversation(self) -> None:
        """Conversations are counted apart."""
        self.enter(self.alices, self.alice, "more")
        self.enter(self.bobs, self.bob, "more")
        for room in ("ops", "more"):
            self.type(room=room)
        self.assertEqual([("ops", "alice"), ("more", "alice")], self.heard())

    def test_many_typists(self) -> None:
        """Of so many who type in one conversation that nobody could read it, some are not told of."""
        admission, now = self.parts.admission, self.reactor.seconds()
        told = [admission.typing_told("ops", now) for _ in range(20)]
        self.assertEqual([True] * int(limits.TYPING_BURST), told[: int(limits.TYPING_BURST)])
        self.assertFalse(any(told[int(limits.TYPING_BURST) :]))
        self.assertEqual(m.Reply(id=9), self.type())
        self.assertEqual([], self.heard())


class BesideTests(TypingCase):
    """Tests for what typing must not do to messages."""

    def test_no_message_waits(self) -> None:
        """While it is looked up who may type, messages behind it are stored and answered."""
        gate = Gate(self, "check_voice")
        self.alices.say(m.Typing(id=9, room="ops"), self.send_of(1, self.alice, self.bob), m.Ping(id=10))
        self.assertEqual([1, 10], [reply["id"] for reply in self.alices.replies()])
        self.assertEqual([1], self.seqs(self.bobs))
        gate.open()
        self.assertEqual([9], [reply["id"] for reply in self.alices.replies()])
        self.assertEqual([("ops", "alice")], self.heard())

    def test_between_sends(self) -> None:
        """It does not part the messages that share a commit."""
        gate = Gate(self, "append")
        self.alices.say(
            self.send_of(1, self.alice, self.bob), m.Typing(id=9, room="ops"), self.send_of(2, self.alice, self.bob)
        )
        self.assertEqual([9], [reply["id"] for reply in self.alices.replies()])
        self.assertEqual(2, len(gate._waiting))
        gate.open()
        self.assertEqual([1, 2], [reply["seq"] for reply in self.alices.replies()])

    def test_slow_reader(self) -> None:
        """Who has not read what is their own is told nothing, then or later."""
        queue = self.bobs.protocol._out
        queue.pauseProducing()
        self.type()
        queue.resumeProducing()
        self.assertEqual([], self.heard())
        self.wait()
        self.type()
        self.assertEqual([("ops", "alice")], self.heard())

    def test_gone_meanwhile(self) -> None:
        """A connection that is lost while it is looked up does no harm."""
        gate = Gate(self, "check_voice")
        self.alices.say(m.Typing(id=9, room="ops"))
        self.alices.lose()
        gate.open()
        self.assertEqual(1, self.bobs.ask(self.send_of(1, self.bob, self.alice)).seq)
