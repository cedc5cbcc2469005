"""Tests for what was typed and is on its way."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.entries import Entry, Sealed, Turn, watched
from securechat.client.held import Grown, Held, IdentityChanged, Stopped
from securechat.client.outbox import LostMessages, Outbox
from securechat.client.protocol import LinkLost, refusal_of
from securechat.client.store import CannotKeep
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_HEADER,
    BAD_SESSION,
    BUSY,
    CODES,
    CTR_BEHIND,
    DEVICE_FIRST,
    FULL,
    LOGIN_FIRST,
    MID_CONFLICT,
    MUTED,
    NOT_MEMBER,
    OUT_OF_TURN,
    RATE_LIMITED,
    STALE_HEAD,
    STALE_KEYS,
    TRY_AGAIN,
    Code,
    Exit,
    InvalidKey,
    Refused,
)
from securechat.wire import messages as m

ROOM = "general"
TOKEN = "gAAAAAAAAAAA" + "x" * 100
LATER = (BAD_SESSION, DEVICE_FIRST, LOGIN_FIRST)  # about the connection, not the message


def package(number: int = 1) -> m.Package:
    """A package that is another than all others."""
    return m.Package(
        encrypted_message=TOKEN,
        encrypted_keys={"bob": bytes([number % 256]) * 384},
        kids={"bob": "b" * 32},
        hdr=b'{"number":%d}' % number,
        bind=bytes(32),
        sig=bytes(64),
    )


class Host:
    """A core whose disk, keys and server do as the test says.

    Attributes:
        sealing: what sealing for a conversation raises.
        sealing_gate: where there is one, sealing takes until it fires.
        id_of: conversation ids, by where a message goes; else the same.
        outcomes: of the next transmissions; an exception, or None for a good answer; after them all is good.
        renews: what comes of asking what a refusal calls for; an exception is raised.
        turn: what the server proves to be this device's newest message.
        disk: records by kind and name.
        happened: what came to pass, in order.
    """

    def __init__(self) -> None:
        self.online = True
        self.sealing: dict[str, Exception] = {}
        self.sealing_gate: Deferred[None] | None = None
        self.id_of: dict[str, str] = {}
        self.outcomes: list[Exception | Deferred[Any] | None] = []
        self.renews: bool | Exception = True
        self.turn: Turn | None = None
        self.disk: dict[tuple[str, str], Any] = {}
        self.disk_fails = False
        self.happened: list[tuple[Any, ...]] = []
        self.transmitted: list[tuple[str, str, Sealed]] = []
        self.sealed: list[tuple[str, Turn, tuple[str, ...] | None]] = []
        self._seqs: dict[str, int] = {}

    def can_send(self) -> bool:
        """As Host's."""
        return self.online

    async def seal(self, entry: Entry, turn: Callable[[str], Turn]) -> Sealed:
        """As Host's; each package is another."""
        if self.sealing_gate is not None:
            await self.sealing_gate
        if entry.where in self.sealing:
            raise self.sealing[entry.where]
        id = self.id_of.get(entry.where, entry.where)
        last = turn(id)
        self.sealed.append((entry.text, last, entry.seen))
        return Sealed(package(len(self.sealed)), id, last.ctr + 1, f"id {len(self.sealed)}")

    async def transmit(self, entry: Entry) -> m.SendOk:
        """As Host's."""
        assert entry.sealed is not None
        on_disk = self.disk[("outbox", str(entry.number))]
        assert Entry.from_record(entry.number, on_disk).sealed == entry.sealed, "sent before it was on disk"
        self.transmitted.append((entry.text, entry.mid, entry.sealed))
        self.happened.append(("transmit", entry.text))
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Deferred):
            outcome = await outcome
        if outcome is not None:
            raise outcome
        seq = self._seqs[entry.where] = self._seqs.get(entry.where, 0) + 1
        return m.SendOk(room=entry.where.replace("@", ""), seq=seq, ts=1, events=0)

    async def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
        """As Host's."""
        if self.disk_fails:
            raise CannotKeep("The disk is full.")
        self.disk.update({(kind, name): value for kind, name, value in puts})
        for key in deletes:
            self.disk.pop(key, None)

    def sent(self, entry: Entry, reply: m.SendOk) -> None:
        """As Host's."""
        self.happened.append(("sent", entry.text, reply.seq))

    async def renew(self, entry: Entry, refusal: Refused) -> bool:
        """As Host's."""
        self.happened.append(("renew", entry.text, refusal.code))
        if isinstance(self.renews, Exception):
            raise self.renews
        return self.renews

    def proven(self, sealed: Sealed, refusal: Refused) -> Turn | None:
        """As Host's."""
        return self.turn

    def not_sent(self, entry: Entry, error: Exception, *, waits: bool) -> None:
        """As Host's."""
        self.happened.append(("waits" if waits else "not sent", entry.text))

    def delayed(self, entry: Entry, error: Refused) -> None:
        """As Host's."""
        self.happened.append(("delayed", entry.text))

    @property
    def kept(self) -> dict[str, Any]:
        """The outbox as it is on disk."""
        return {name: value for (kind, name), value in self.disk.items() if kind == "outbox"}

    @property
    def turns(self) -> dict[str, Turn]:
        """The turns as they are on disk."""
        return {name: Turn.from_record(value) for (kind, name), value in self.disk.items() if kind == "turn"}


def refusal(code: Code, **data: Any) -> Refused:
    """A refusal as it comes from the server."""
    return refusal_of(m.Failed(code=code.name, msg="The server's words.", **data))


class OutboxCase(SynchronousTestCase):
    """An empty outbox."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.host = Host()
        self.outbox = Outbox(self.host, self.clock, {})

    def start(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Calls a coroutine."""
        return Deferred.fromCoroutine(work)

    def put(self, text: str, where: str = ROOM, seen: tuple[str, ...] | None = None) -> Entry:
        """Types a message."""
        entry: Entry = self.successResultOf(self.start(self.outbox.put(where, text, seen)))
        return entry

    def status(self, entry: Entry) -> Exit:
        """What an entry came to."""
        return self.successResultOf(entry.done)

    def restarted(self) -> None:
        """The process was killed and came back: what is on disk is left."""
        self.outbox.stop()
        self.outbox = Outbox(self.host, self.clock, self.host.turns)
        self.outbox.restore(self.host.kept)

    @property
    def texts(self) -> list[str]:
        """The texts of all transmissions, in order."""
        return [text for text, *_ in self.host.transmitted]

    @property
    def numbers(self) -> list[tuple[str, int]]:
        """The same with their numbers."""
        return [(text, sealed.ctr) for text, _, sealed in self.host.transmitted]

    def waits(self, text: str) -> int:
        """How often it was told that a message waits for its author's word."""
        return self.host.happened.count(("waits", text))


class SendTests(OutboxCase):
    """Tests for messages that nothing stands in the way of."""

    def test_sent(self) -> None:
        """A message is kept, sent, told and forgotten; its number counts up in its conversation."""
        entries = [self.put("one"), self.put("two"), self.put("psst", "@bob")]
        self.assertEqual([Exit.OK] * 3, [self.status(entry) for entry in entries])
        self.assertEqual([("one", 1), ("two", 2), ("psst", 1)], self.numbers)
        self.assertEqual({ROOM: Turn(2, "id 2"), "@bob": Turn(1, "id 3")}, self.host.turns)
        self.assertEqual({}, self.host.kept)
        self.assertEqual(3, len({mid for _, mid, *_ in self.host.transmitted}))
        self.assertEqual([], self.outbox.pending())

    def test_names_the_one_before(self) -> None:
        """Each message is sealed behind the one that was stored before it in its conversation."""
        for text in ("one", "two"):
            self.put(text)
        self.put("psst", "@bob")
        before = [Turn(), Turn(1, "id 1"), Turn()]
        self.assertEqual(before, [turn for _, turn, _ in self.host.sealed])

    def test_turns_go_by_conversation(self) -> None:
        """Numbers belong to the conversation, not to the name: a new identity begins another one."""
        self.host.id_of = {"@bob": "pm:a"}
        self.put("one", "@bob")
        self.host.id_of = {"@bob": "pm:b"}
        self.put("two", "@bob")
        self.host.id_of = {"@bob": "pm:a"}
        self.put("three", "@bob")
        self.assertEqual([("one", 1), ("two", 1), ("three", 2)], self.numbers)

    def test_on_disk_first(self) -> None:
        """A message that the disk does not take is neither kept nor sent, and who typed it hears it."""
        self.host.disk_fails = True
        self.failureResultOf(self.start(self.outbox.put(ROOM, "one")), CannotKeep)
        self.assertEqual(([], []), (self.outbox.pending(), self.host.transmitted))
        self.host.disk_fails = False
        self.outbox.kick()
        self.assertEqual([], self.host.transmitted)

    def test_sealed_bytes_on_disk_first(self) -> None:
        """If the disk takes the text but not the sealed bytes, nothing is sent until it takes them."""
        self.host.online = False
        entry = self.put("one")
        self.host.online, self.host.disk_fails = True, True
        self.outbox.kick()
        self.assertEqual([], self.host.transmitted)
        self.assertEqual([("waits", "one")], self.host.happened)
        self.assertEqual(Exit.FIXABLE, self.status(entry))
        self.outbox.release()
        self.assertEqual([], self.host.transmitted)
        self.host.disk_fails = False
        self.outbox.release()
        self.assertEqual(["one"], self.texts)

    def test_one_at_a_time(self) -> None:
        """The next message of a conversation leaves when the one before it is stored; others go beside it."""
        first: Deferred[None] = Deferred()
        self.host.outcomes = [first]
        self.put("one")
        self.put("two")
        self.put("psst", "@bob")
        self.assertEqual(["one", "psst"], self.texts)
        first.callback(None)
        self.assertEqual(["one", "psst", "two"], self.texts)

    def test_offline(self) -> None:
        """While there is no connection all is kept, and leaves in the order it was typed when there is one."""
        self.host.online = False
        entries = [self.put(text) for text in ("one", "two", "three")]
        self.assertEqual([], self.texts)
        self.assertEqual(entries, self.outbox.pending())
        self.host.online = True
        self.outbox.kick()
        self.assertEqual(["one", "two", "three"], self.texts)

    def test_restart(self) -> None:
        """What an earlier run left leaves in the order it was typed, ten and more, before anything new."""
        self.host.online = False
        texts = [str(number) for number in range(12)]
        for text in texts:
            self.put(text)
        self.restarted()
        self.put("new")
        self.host.online = True
        self.outbox.kick()
        self.assertEqual([*texts, "new"], self.texts)
        self.assertEqual({}, self.host.kept)

    def test_idle(self) -> None:
        """It is idle when everything was answered, not before."""
        self.successResultOf(self.outbox.idle())
        answer: Deferred[None] = Deferred()
        self.host.outcomes = [answer]
        self.put("one")
        idle = self.outbox.idle()
        self.assertNoResult(idle)
        answer.callback(None)
        self.successResultOf(idle)

    def test_stopped(self) -> None:
        """A stopped outbox sends nothing, not even what waits for its time: it stays on disk for the next run."""
        self.host.outcomes = [refusal(RATE_LIMITED, retry_after=5.0)]
        self.put("one")
        self.outbox.stop()
        self.clock.advance(5)
        self.outbox.kick()
        self.assertEqual(["one"], self.texts)
        self.assertEqual(1, len(self.host.kept))

    def test_stopped_while_sealing(self) -> None:
        """One that is stopped while it seals does not send what it sealed, either."""
        self.host.sealing_gate = Deferred()
        self.put("one")
        self.outbox.stop()
        self.host.sealing_gate.callback(None)
        self.assertEqual([], self.texts)
        self.assertEqual(1, len(self.host.kept))

    def test_typed_while_the_disk_is_slow(self) -> None:
        """What is not on disk yet counts as pending, and is not idle; it leaves in its order."""
        gate: Deferred[None] = Deferred()
        genuine = self.host.keep

        async def slow(puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
            await gate
            await genuine(puts, deletes)

        self.host.keep = slow  # type: ignore[method-assign]
        works = [self.start(self.outbox.put(ROOM, text)) for text in ("one", "two")]
        self.assertEqual(["one", "two"], [entry.text for entry in self.outbox.pending()])
        idle = self.outbox.idle()
        self.assertNoResult(idle)
        gate.callback(None)
        self.assertEqual(["one", "two"], self.texts)
        self.successResultOf(idle)
        for work in works:
            self.successResultOf(work)


class LostTests(OutboxCase):
    """Tests for connections that break in the middle."""

    def test_resent(self) -> None:
        """What was under way leaves again with the very same bytes, mid and number; what was behind it follows."""
        self.host.outcomes = [LinkLost("gone")]
        self.put("one")
        self.host.online = False
        self.put("two")
        self.host.online = True
        self.outbox.kick()
        first, again, _ = self.host.transmitted
        self.assertEqual(first, again)
        self.assertEqual([("one", 1), ("one", 1), ("two", 2)], self.numbers)

    def test_resent_after_a_crash(self) -> None:
        """Also after the process was killed."""
        self.host.outcomes = [LinkLost("gone")]
        self.put("one")
        self.restarted()
        self.outbox.kick()
        first, again = self.host.transmitted
        self.assertEqual(first, again)
        self.assertEqual({ROOM: Turn(1, "id 1")}, self.host.turns)

    def test_lost_while_sealing(self) -> None:
        """A link that breaks while keys are fetched for it leaves it unsealed; then it goes."""
        self.host.sealing = {ROOM: LinkLost("gone")}
        entry = self.put("one")
        self.assertEqual(([], None), (self.texts, entry.sealed))
        self.host.sealing = {}
        self.outbox.kick()
        self.assertEqual(["one"], self.texts)

    def test_counts_on_after_a_restart(self) -> None:
        """The numbers go on where they were."""
        self.put("one")
        self.restarted()
        self.put("two")
        self.assertEqual((("two", 2), Turn(1, "id 1")), (self.numbers[-1], self.host.sealed[-1][1]))

    def test_came_back_by_itself(self) -> None:
        """A message that is in the history already is done: it is not sent again, and the next one counts on."""
        self.host.outcomes = [LinkLost("gone")]
        entry = self.put("one")
        self.assertIs(entry, self.outbox.seen(entry.mid))
        self.put("two")
        self.assertEqual([("one", 1), ("two", 2)], self.numbers)
        self.assertEqual(Turn(1, "id 1"), self.host.sealed[-1][1])
        self.assertEqual({}, self.host.kept)

    def test_came_back_while_under_way(self) -> None:
        """The same while the answer is still awaited: it is forgotten once, and the answer does no harm."""
        answer: Deferred[Any] = Deferred()
        self.host.outcomes = [answer]
        entry = self.put("one")
        self.put("two")
        self.outbox.seen(entry.mid)
        answer.callback(None)
        self.assertEqual(["one", "two"], self.texts)
        self.assertEqual([], self.outbox.pending())

    def test_came_back_while_sealing(self) -> None:
        """The same while it is sealed (another copy of this profile sent it): nothing is left, on disk neither."""
        self.host.sealing_gate = Deferred()
        entry = self.put("one")
        self.put("two")
        self.outbox.seen(entry.mid)
        self.host.sealing_gate.callback(None)
        self.assertEqual((["two"], {}), (self.texts, self.host.kept))

    def test_came_back_while_patient(self) -> None:
        """The same while the server has asked for patience: then the next one goes."""
        self.host.outcomes = [refusal(BUSY, retry_after=7.0)]
        entry = self.put("one")
        self.put("two")
        self.outbox.seen(entry.mid)
        self.clock.advance(7)
        self.assertEqual(["one", "two"], self.texts)

    def test_came_back_then_refused(self) -> None:
        """So does a refusal that comes for it late."""
        answer: Deferred[Any] = Deferred()
        self.host.outcomes = [answer]
        entry = self.put("one")
        self.outbox.seen(entry.mid)
        answer.callback(refusal(NOT_MEMBER))
        self.assertEqual([], self.outbox.pending())
        self.assertEqual(Exit.OK, self.status(self.put("two")))

    def test_not_ours(self) -> None:
        """A message that does not wait here is none of it."""
        self.assertIsNone(self.outbox.seen("0" * 32))


class RefusedTests(OutboxCase):
    """Tests for what the server does not take."""

    def test_sealed_anew(self) -> None:
        """Where nothing was stored, the same mid leaves with other bytes, once it was learnt what they must be."""
        for code in (STALE_HEAD, BAD_AUDIENCE, STALE_KEYS):
            self.setUp()
            self.host.outcomes = [refusal(code)]
            entry = self.put("one")
            first, again = self.host.transmitted
            self.assertEqual((first[:2], 1, 1), (again[:2], first[2].ctr, again[2].ctr))
            self.assertNotEqual(first[2].package, again[2].package)
            self.assertEqual(("renew", "one", code), self.host.happened[1])
            self.assertEqual(Exit.OK, self.status(entry))

    def test_not_called_for(self) -> None:
        """Where nothing that is known calls for other bytes, the same ones are tried again, later."""
        self.host.outcomes = [refusal(STALE_HEAD)]
        self.host.renews = False
        entry = self.put("one")
        self.assertEqual(["one"], self.texts)
        self.clock.advance(5)
        self.assertEqual(self.host.transmitted[0], self.host.transmitted[1])
        self.assertEqual(Exit.OK, self.status(entry))

    def test_lost_while_learning(self) -> None:
        """A link that breaks meanwhile leaves it as it is; the next time it is refused and sealed anew."""
        self.host.outcomes = [refusal(STALE_KEYS), refusal(STALE_KEYS)]
        self.host.renews = LinkLost("gone")
        self.put("one")
        self.host.renews = True
        self.outbox.kick()
        self.assertEqual(["one"] * 3, self.texts)
        self.assertEqual({}, self.host.kept)

    def test_held_while_learning(self) -> None:
        """What is learnt may be a reason to wait for the author's word, or a disk may be full: nothing is stuck."""
        for error in (IdentityChanged(["bob"]), InvalidKey("no keys"), CannotKeep("The disk is full.")):
            self.setUp()
            self.host.outcomes = [refusal(STALE_KEYS)]
            self.host.renews = error
            entry = self.put("one")
            self.assertEqual((1, True), (self.waits("one"), entry.done.called))
            self.host.renews = True
            self.outbox.release()
            self.assertEqual(["one", "one"], self.texts)

    def test_no_voice(self) -> None:
        """Who has no voice hears it once: other bytes would change nothing, though nothing was stored."""
        self.host.outcomes = [refusal(MUTED)] * 30
        entry = self.put("one")
        self.assertEqual((["one"], Exit.FIXABLE), (self.texts, self.status(entry)))
        self.assertEqual(("not sent", "one"), self.host.happened[-1])

    def test_bad_header(self) -> None:
        """Nor would they where the server does not take what was signed."""
        self.host.outcomes = [refusal(BAD_HEADER)]
        self.assertEqual(Exit.UNTRUSTED, self.status(self.put("one")))
        self.assertEqual(["one"], self.texts)

    def test_order_under_refusals(self) -> None:
        """However often messages are refused and sealed anew, they are stored in the order they were typed."""
        self.host.online = False
        for text in ("one", "two", "three"):
            self.put(text)
        self.host.outcomes = [
            refusal(STALE_HEAD),
            refusal(STALE_KEYS, users=("bob",)),
            None,
            refusal(STALE_HEAD),
            None,
        ]
        self.host.online = True
        self.outbox.kick()
        self.assertEqual(
            [("sent", "one", 1), ("sent", "two", 2), ("sent", "three", 3)],
            [happened for happened in self.host.happened if happened[0] == "sent"],
        )

    def test_pauses(self) -> None:
        """Where members come and go faster than one can seal, it pauses after 20 tries, and loses nothing."""
        self.host.outcomes = [refusal(STALE_HEAD)] * 21
        entry = self.put("one")
        self.assertEqual(["one"] * 20, self.texts)
        self.clock.advance(4.9)
        self.assertEqual(["one"] * 20, self.texts)
        self.clock.advance(0.2)
        self.assertEqual(["one"] * 22, self.texts)
        self.assertEqual(Exit.OK, self.status(entry))

    def test_patience(self) -> None:
        """A server that asks for patience gets it, to the second; then the very same bytes leave again."""
        for code in (RATE_LIMITED, BUSY, TRY_AGAIN):
            self.setUp()
            self.host.outcomes = [refusal(code, retry_after=7.0)]
            entry = self.put("one")
            self.put("two")
            self.clock.advance(6.9)
            self.assertEqual(["one"], self.texts, code)
            self.clock.advance(0.2)
            self.assertEqual(["one", "one", "two"], self.texts, code)
            self.assertEqual(self.host.transmitted[0], self.host.transmitted[1])
            self.assertEqual(Exit.OK, self.status(entry))

    def test_patience_without_a_time(self) -> None:
        """Where no time is named it is five seconds."""
        self.host.outcomes = [refusal(FULL)]
        self.put("one")
        self.clock.advance(4.9)
        self.assertEqual(["one"], self.texts)
        self.clock.advance(0.2)
        self.assertEqual(["one", "one"], self.texts)

    def test_patience_is_told_once(self) -> None:
        """However long it takes, a delay is one line a message."""
        self.host.outcomes = [refusal(FULL)] * 5
        self.put("one")
        self.clock.pump([1.0] * 60)
        self.assertEqual(6, len(self.texts))
        self.assertEqual(1, self.host.happened.count(("delayed", "one")))

    def test_patience_holds_one_conversation(self) -> None:
        """Other conversations go on meanwhile."""
        self.host.outcomes = [refusal(RATE_LIMITED, retry_after=7.0)]
        self.put("one")
        self.put("psst", "@bob")
        self.assertEqual(["one", "psst"], self.texts)

    def test_lost_while_patient(self) -> None:
        """A connection that breaks and comes back meanwhile does not make it leave twice."""
        self.host.outcomes = [refusal(RATE_LIMITED, retry_after=7.0)]
        self.put("one")
        self.host.online = False
        self.host.online = True
        self.outbox.kick()
        self.assertEqual(["one"], self.texts)
        self.clock.advance(7)
        self.assertEqual(["one", "one"], self.texts)

    def test_for_good(self) -> None:
        """Any other refusal is for good: it is told, with the code's status, and the next message leaves."""
        self.host.online = False
        one, two = self.put("one"), self.put("two")
        self.host.outcomes = [refusal(NOT_MEMBER)]
        self.host.online = True
        self.outbox.kick()
        self.assertEqual(("not sent", "one"), self.host.happened[1])
        self.assertEqual([Exit.NOT_THERE, Exit.OK], [self.status(one), self.status(two)])
        self.assertEqual({}, self.host.kept)

    def test_every_code_ends(self) -> None:
        """There is no code at which a message neither leaves nor is told of."""
        for code in {*CODES.values()} - {*LATER}:
            self.setUp()
            self.host.outcomes = [refusal(code, expected=1)]
            entry = self.put("one")
            self.clock.advance(60)
            self.assertTrue(entry.done.called, code.name)

    def test_not_logged_in(self) -> None:
        """A refusal that is about the connection keeps the message for the next one, and those behind it."""
        for code in LATER:
            self.setUp()
            self.host.outcomes = [refusal(code)]
            self.put("one")
            self.host.online = False
            self.put("two")
            self.assertEqual((["one"], 2), (self.texts, len(self.host.kept)))
            self.host.online = True
            self.outbox.kick()
            self.assertEqual(["one", "one", "two"], self.texts)
            self.assertEqual(self.host.transmitted[0], self.host.transmitted[1])

    def test_conflict(self) -> None:
        """Another message under the same mid is no proof that nothing was stored: no other bytes leave."""
        self.host.outcomes = [refusal(MID_CONFLICT)]
        self.put("one")
        self.assertEqual(["one"], self.texts)


class TurnTests(OutboxCase):
    """Tests for a server that counts otherwise."""

    def test_proven(self) -> None:
        """A newer message of this very device, proven by its signature, is believed: from there it counts on."""
        self.host.outcomes = [refusal(CTR_BEHIND, expected=8)]
        self.host.turn = Turn(7, "theirs")
        self.put("one")
        self.put("two")
        self.assertEqual([("one", 1), ("one", 8), ("two", 9)], self.numbers)
        self.assertEqual(Turn(7, "theirs"), self.host.sealed[1][1])
        self.assertEqual(Turn(9, "id 3"), self.host.turns[ROOM])
        self.assertNotEqual(self.host.transmitted[0][2].package, self.host.transmitted[1][2].package)
        self.assertEqual(self.host.transmitted[0][1], self.host.transmitted[1][1])

    def proof(self, number: int) -> m.StoredMessage:
        """A message as the server shows it: the one that was sealed as that number."""
        return m.StoredMessage(
            room=ROOM, seq=9, sender="alice", device="d" * 32, mid="e" * 32, ts=7, events=3, package=package(number)
        )

    def test_proof_of_this_very_message(self) -> None:
        """A refusal whose proof is the refused message itself says that it is stored: it is not sent once more."""
        self.host.outcomes = [refusal(CTR_BEHIND, expected=2, proof=self.proof(1))]
        self.host.turn = Turn(1, "id 1", "f" * 32)
        entry = self.put("one")
        self.assertEqual([("one", 1)], self.numbers)
        self.assertEqual(Exit.OK, self.status(entry))
        self.assertEqual([("sent", "one", 9)], [event for event in self.host.happened if event[0] == "sent"])
        self.assertEqual((Turn(1, "id 1"), {}), (self.host.turns[ROOM], self.host.kept))
        self.put("two")
        self.assertEqual([("one", 1), ("two", 2)], self.numbers)
        self.assertEqual(Turn(1, "id 1"), self.host.sealed[1][1])

    def test_proof_of_an_earlier_seal(self) -> None:
        """So does one of the same text as it was sealed another time: what is shown and followed is what is stored."""
        self.host.online = False
        entry = self.put("one")
        self.host.online = True
        self.host.outcomes = [refusal(CTR_BEHIND, expected=8, proof=self.proof(77))]
        self.host.turn = Turn(7, "theirs", entry.mid)
        self.outbox.kick()
        self.assertEqual(([("one", 1)], Exit.OK), (self.numbers, self.status(entry)))
        self.assertEqual(Sealed(package(77), ROOM, 7, "theirs"), entry.sealed)
        self.put("two")
        self.assertEqual((Turn(7, "theirs"), 8), (self.host.sealed[1][1], self.numbers[-1][1]))

    def test_proof_of_a_stored_one_below(self) -> None:
        """Where it was stored under a lower number than counted since, the count does not go back for that."""
        self.host.outcomes = [None, refusal(CTR_BEHIND, expected=2, proof=self.proof(1))]
        self.put("one")
        self.host.online = False
        entry = self.put("two")
        self.host.online, self.host.turn = True, Turn(1, "theirs", entry.mid)
        self.outbox.kick()
        self.assertEqual((Exit.OK, Turn(1, "id 1")), (self.status(entry), self.host.turns[ROOM]))

    def test_unproven_is_not_stored(self) -> None:
        """The server's word alone, without that signature, makes nothing stored."""
        self.host.outcomes = [refusal(CTR_BEHIND, expected=2, proof=self.proof(1))]
        entry = self.put("one")
        self.assertEqual((Exit.UNTRUSTED, [entry]), (self.status(entry), self.outbox.pending()))

    def test_proof_travels(self) -> None:
        """The proof comes with the refusal, as the message it is."""
        proof = m.StoredMessage(
            room=ROOM, seq=1, sender="alice", device="d" * 32, mid="e" * 32, ts=1, events=0, package=package()
        )
        error = refusal(CTR_BEHIND, expected=8, proof=proof)
        self.assertEqual((8, proof), (error.data["expected"], error.data["proof"]))

    def test_not_proven(self) -> None:
        """Without a proof, or with one of an older message, it lost messages or lies: that is for the author."""
        for code, turn in (
            (CTR_BEHIND, None),
            (CTR_BEHIND, Turn(2, "old")),
            (OUT_OF_TURN, None),
            (OUT_OF_TURN, Turn(9, "not for this")),
        ):
            self.setUp()
            for text in ("one", "two"):
                self.put(text)
            self.host.outcomes = [refusal(code, expected=3)]
            self.host.turn = turn
            entry = self.put("three")
            self.assertEqual(["one", "two", "three"], self.texts)
            self.assertEqual((Exit.UNTRUSTED, 1), (self.status(entry), self.waits("three")))
            self.assertEqual((Turn(2, "id 2"), [entry]), (self.host.turns[ROOM], self.outbox.pending()))

    def test_counts_never_go_back(self) -> None:
        """The author's word does not turn the count back; where the server has found its messages, it goes on."""
        self.put("one")
        self.host.outcomes = [refusal(OUT_OF_TURN, expected=1)]
        self.put("two")
        self.outbox.go_on(ROOM, None)
        self.assertEqual([("one", 1), ("two", 2), ("two", 2)], self.numbers)
        self.assertEqual({}, self.host.kept)

    def test_the_same_proof_again(self) -> None:
        """A server that shows the same proof whatever comes does not keep this client busy for ever."""
        self.host.outcomes = [refusal(CTR_BEHIND, expected=8)] * 9
        self.host.turn = Turn(7, "theirs")
        self.put("one")
        self.assertEqual(([("one", 1), ("one", 8)], 1), (self.numbers, self.waits("one")))

    def test_after_a_restart(self) -> None:
        """What waits so is refused again by a later run, with the bytes that lie on disk, and waits again."""
        self.put("one")
        self.host.outcomes = [refusal(OUT_OF_TURN, expected=1)] * 2
        self.put("two")
        self.restarted()
        self.outbox.kick()
        self.assertEqual([("one", 1), ("two", 2), ("two", 2)], self.numbers)
        self.assertEqual(2, self.waits("two"))

    def test_new_epoch(self) -> None:
        """Once the server says that it lost something, what waited for that goes by itself, and nothing else."""
        self.put("one")
        self.host.outcomes = [refusal(OUT_OF_TURN, expected=1)]
        self.put("two")
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.put("psst", "@bob")
        self.host.sealing = {}
        self.outbox.kick()
        self.assertEqual(["one", "two"], self.texts)
        self.outbox.new_epoch()
        self.outbox.kick()
        self.assertEqual([("one", 1), ("two", 2), ("two", 2)], self.numbers)
        self.assertEqual(["psst"], [entry.text for entry in self.outbox.pending()])

    def test_what_it_says(self) -> None:
        """The text names the conversation and the number, and it is one of those that wait for a word."""
        for where in (ROOM, "@bob"):
            text = str(LostMessages(where, 3))
            self.assertIn(where, text)
            self.assertIn("number 3", text)
        self.assertIsInstance(LostMessages(ROOM, 3), Held)


class HeldTests(OutboxCase):
    """Tests for messages that wait for their author's word."""

    def test_held(self) -> None:
        """A changed identity holds its conversation alone; what is typed there waits, in order, and is on disk."""
        for error in (IdentityChanged(["bob"]), InvalidKey("no keys"), Stopped("@bob", ["a fork"])):
            self.setUp()
            self.host.sealing = {"@bob": error}
            entries = [self.put("one", "@bob"), self.put("two", "@bob")]
            other = self.put("hello")
            self.assertEqual([Exit.UNTRUSTED, Exit.UNTRUSTED], [self.status(entry) for entry in entries])
            self.assertEqual(Exit.OK, self.status(other))
            self.assertEqual(["hello"], self.texts)
            self.assertEqual((entries, []), (self.outbox.pending(), self.outbox.moving()))
            self.assertEqual(2, len(self.host.kept))
            self.successResultOf(self.outbox.idle())

    def test_what_waited_behind_it_is_told(self) -> None:
        """Who waits for a message behind the one that is held hears it, too."""
        self.host.online = False
        entries = [self.put("one", "@bob"), self.put("two", "@bob")]
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.host.online = True
        self.outbox.kick()
        self.assertEqual([Exit.UNTRUSTED] * 2, [self.status(entry) for entry in entries])
        self.assertEqual(1, self.host.happened.count(("waits", "one")))

    def test_reconnecting_does_not_release(self) -> None:
        """A new connection is no word of its author's."""
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.put("one", "@bob")
        self.outbox.kick()
        self.assertEqual(1, self.host.happened.count(("waits", "one")))

    def test_released(self) -> None:
        """After the word all of it leaves, in the order it was typed."""
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        for text in ("one", "two", "three"):
            self.put(text, "@bob")
        self.host.sealing = {}
        self.outbox.release()
        self.assertEqual(["one", "two", "three"], self.texts)

    def test_still_held(self) -> None:
        """A word about somebody else releases nothing that is still changed."""
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.put("one", "@bob")
        self.outbox.release()
        self.assertEqual(([], 1), (self.texts, len(self.outbox.pending())))

    def test_restart(self) -> None:
        """What was held waits over a restart, and is told again."""
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.put("one", "@bob")
        self.restarted()
        self.outbox.kick()
        self.assertEqual(([], 2), (self.texts, self.host.happened.count(("waits", "one"))))

    def test_typed_while_it_waits(self) -> None:
        """A new message tries again what waits there, from the first one on: it does not pass it."""
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.put("one", "@bob")
        self.host.sealing = {}
        self.put("two", "@bob")
        self.assertEqual(["one", "two"], self.texts)

    def test_released_there_only(self) -> None:
        """A word about one conversation releases that one."""
        self.host.sealing = {name: IdentityChanged([name[1:]]) for name in ("@bob", "@carol")}
        for name in ("@bob", "@carol"):
            self.put(name, name)
        self.host.sealing = {}
        self.outbox.kick("@carol")
        self.assertEqual(["@carol"], self.texts)
        self.assertEqual(["@bob"], [entry.text for entry in self.outbox.pending()])

    def test_released_while_offline(self) -> None:
        """A word that is given while there is no connection counts when there is one."""
        self.host.sealing = {"@bob": IdentityChanged(["bob"])}
        self.put("one", "@bob")
        self.host.sealing, self.host.online = {}, False
        self.outbox.release()
        self.assertEqual([], self.texts)
        self.host.online = True
        self.outbox.kick()
        self.assertEqual(["one"], self.texts)

    def test_released_while_it_is_tried(self) -> None:
        """A word that is given while it is tried anyway does not send it twice."""
        self.host.sealing_gate = Deferred()
        self.put("one", "@bob")
        self.outbox.release()
        self.outbox.kick("@bob")
        self.host.sealing_gate.callback(None)
        self.assertEqual(["one"], self.texts)

    def test_who_was_there(self) -> None:
        """Who was in a private room when a message was typed is known when it is sealed, also by a later run."""
        self.host.sealing = {ROOM: Grown(ROOM, ["mallory"])}
        self.put("one", seen=("alice", "bob"))
        self.assertEqual((1, Exit.UNTRUSTED), (self.waits("one"), Grown(ROOM, ["mallory"]).exit))
        self.restarted()
        self.host.sealing = {}
        self.outbox.kick()
        self.assertEqual([("one", Turn(), ("alice", "bob"))], self.host.sealed)

    def test_go_on(self) -> None:
        """Once its author saw who came in, all that waits there goes to them too, and nothing elsewhere."""
        self.host.sealing = {name: Grown(name, ["mallory"]) for name in (ROOM, "attic")}
        for text, where in (("one", ROOM), ("two", ROOM), ("three", "attic")):
            self.put(text, where, ("alice",))
        self.host.sealing = {}
        there = ("alice", "mallory")
        self.outbox.go_on(ROOM, there)
        self.assertEqual([("one", there), ("two", there)], [(text, seen) for text, _, seen in self.host.sealed])

    def test_go_on_with_nothing(self) -> None:
        """Where nothing waits, that changes nothing."""
        self.outbox.go_on(ROOM, None)
        self.assertEqual([], self.texts)


class RecordTests(SynchronousTestCase):
    """Tests for entries on disk."""

    def test_there_and_back(self) -> None:
        """An entry comes back as it was, sealed or not."""
        for sealed, seen in ((None, None), (None, ()), (Sealed(package(), "pm:x", 4, "id"), ("alice", "bob"))):
            entry = Entry(7, "@bob", "grüße", "a" * 32, seen, sealed=sealed)
            back = Entry.from_record(7, json.loads(json.dumps(entry.record())))
            self.assertEqual(
                (7, "@bob", "grüße", "a" * 32, seen, sealed),
                (back.number, back.where, back.text, back.mid, back.seen, back.sealed),
            )

    def test_turn(self) -> None:
        """So does a turn."""
        self.assertEqual(Turn(3, "id"), Turn.from_record([3, "id"]))

    def test_watched(self) -> None:
        """Several may wait for one message, and one of them may give up."""
        done: Deferred[Exit] = Deferred()
        first, second = watched(done), watched(done)
        first.cancel()
        self.failureResultOf(first)
        done.callback(Exit.OK)
        self.assertEqual((Exit.OK, Exit.OK), (self.successResultOf(second), self.successResultOf(done)))

    def test_settled_once(self) -> None:
        """What an entry came to is told once; later news change nothing."""
        entry = Entry(1, ROOM, "one", "a" * 32)
        entry.settle(Exit.OK)
        entry.settle(Exit.NETWORK)
        self.assertEqual(Exit.OK, self.successResultOf(entry.done))
