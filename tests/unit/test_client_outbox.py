"""Tests for what was typed and is on its way."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.outbox import Entry, Outbox, watched
from securechat.client.people import IdentityChanged
from securechat.client.protocol import LinkLost, refusal_of
from securechat.client.store import CannotKeep
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_SESSION,
    BUSY,
    CODES,
    DEVICE_FIRST,
    FULL,
    LOGIN_FIRST,
    MID_CONFLICT,
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
from tests.doubles import kid, wrapped

ROOM = "general"
TOKEN = "gAAAAAAAAAAA" + "x" * 100


class Host:
    """A core whose disk, keys and server do as the test says.

    Attributes:
        outcomes: of the next transmissions; an exception, or None for a good answer; after them all is good.
        disk: records by kind and name.
        happened: what came to pass, in order.
    """

    def __init__(self) -> None:
        self.online = True
        self.sealing: dict[str, Exception] = {}
        self.outcomes: list[Exception | Deferred[Any] | None] = []
        self.disk: dict[tuple[str, str], Any] = {}
        self.disk_fails = False
        self.happened: list[tuple[Any, ...]] = []
        self.transmitted: list[tuple[str, str, int, int, m.Package]] = []
        self.head = 1
        self.sealed = 0
        self._seqs: dict[str, int] = {}

    def can_send(self, where: str) -> bool:
        """As Host's."""
        return self.online

    async def seal(self, where: str, text: str) -> tuple[m.Package, int]:
        """As Host's; each package is another."""
        if where in self.sealing:
            raise self.sealing[where]
        self.sealed += 1
        key = wrapped(str(self.sealed), "bob")
        package = m.Package(encrypted_message=TOKEN, encrypted_keys={"bob": key}, kids={"bob": kid("bob")})
        return package, self.head

    async def transmit(self, entry: Entry) -> m.SendOk:
        """As Host's."""
        assert entry.package is not None
        on_disk = self.disk[("outbox", str(entry.number))]
        assert Entry.from_record(entry.number, on_disk).package == entry.package, "sent before it was on disk"
        self.transmitted.append((entry.text, entry.mid, entry.ctr, entry.head, entry.package))
        self.happened.append(("transmit", entry.text))
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Deferred):
            outcome = await outcome
        if outcome is not None:
            raise outcome
        seq = self._seqs[entry.where] = self._seqs.get(entry.where, 0) + 1
        return m.SendOk(room=entry.where.replace("@", ""), seq=seq, ts=1)

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

    def stale(self, where: str, users: tuple[str, ...]) -> None:
        """As Host's."""
        self.happened.append(("stale", where, users))

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
    def counters(self) -> dict[str, int]:
        """The counters as they are on disk."""
        return {name: value for (kind, name), value in self.disk.items() if kind == "counter"}


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

    def put(self, text: str, where: str = ROOM) -> Entry:
        """Types a message."""
        entry: Entry = self.successResultOf(self.start(self.outbox.put(where, text)))
        return entry

    def status(self, entry: Entry) -> Exit:
        """What an entry came to."""
        return self.successResultOf(entry.done)

    def restarted(self) -> None:
        """The process was killed and came back: what is on disk is left."""
        self.outbox.stop()
        self.outbox = Outbox(self.host, self.clock, self.host.counters)
        self.outbox.restore(self.host.kept)

    @property
    def texts(self) -> list[str]:
        """The texts of all transmissions, in order."""
        return [text for text, *_ in self.host.transmitted]


class SendTests(OutboxCase):
    """Tests for messages that nothing stands in the way of."""

    def test_sent(self) -> None:
        """A message is kept, sent, told and forgotten; its number counts up in its conversation."""
        entries = [self.put("one"), self.put("two"), self.put("psst", "@bob")]
        self.assertEqual([Exit.OK] * 3, [self.status(entry) for entry in entries])
        self.assertEqual([("one", 1), ("two", 2), ("psst", 1)], [(t, c) for t, _, c, *_ in self.host.transmitted])
        self.assertEqual(({}, {ROOM: 2, "@bob": 1}), (self.host.kept, self.host.counters))
        self.assertEqual(3, len({mid for _, mid, *_ in self.host.transmitted}))
        self.assertEqual([], self.outbox.pending())

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
        sealing: Deferred[Any] = Deferred()
        genuine = self.host.seal

        async def slow(where: str, text: str) -> tuple[m.Package, int]:
            await sealing
            return await genuine(where, text)

        self.host.seal = slow  # type: ignore[method-assign]
        self.put("one")
        self.outbox.stop()
        sealing.callback(None)
        self.assertEqual([], self.texts)


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
        first, again, two = self.host.transmitted
        self.assertEqual(first, again)
        self.assertEqual(("two", 2), (two[0], two[2]))

    def test_resent_after_a_crash(self) -> None:
        """Also after the process was killed."""
        self.host.outcomes = [LinkLost("gone")]
        self.put("one")
        self.restarted()
        self.host.head = 9
        self.outbox.kick()
        first, again = self.host.transmitted
        self.assertEqual(first, again)
        self.assertEqual({ROOM: 1}, self.host.counters)

    def test_came_back_by_itself(self) -> None:
        """A message that is in the history already is done: it is not sent again, and the next one counts on."""
        self.host.outcomes = [LinkLost("gone")]
        entry = self.put("one")
        self.assertIs(entry, self.outbox.seen(entry.mid))
        self.put("two")
        self.assertEqual([("one", 1), ("two", 2)], [(t, c) for t, _, c, *_ in self.host.transmitted])
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
        """Where nothing was stored, the same mid leaves with other bytes, after what is stale was forgotten."""
        for code in (STALE_HEAD, BAD_AUDIENCE):
            self.setUp()
            self.host.outcomes = [refusal(code)]
            self.host.head = 5
            entry = self.put("one")
            first, again = self.host.transmitted
            self.assertEqual(first[:3], again[:3])
            self.assertNotEqual(first[4], again[4])
            self.assertEqual(("stale", ROOM, ()), self.host.happened[1])
            self.assertEqual(Exit.OK, self.status(entry))

    def test_stale_keys(self) -> None:
        """The people whose keys are old are named to those who fetch them."""
        self.host.outcomes = [refusal(STALE_KEYS, users=("bob", "carol"))]
        self.put("one")
        self.assertEqual(("stale", ROOM, ("bob", "carol")), self.host.happened[1])
        self.assertEqual(["one", "one"], self.texts)

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

    def test_out_of_turn(self) -> None:
        """The server knows which number is next; from there it counts on."""
        self.host.outcomes = [refusal(OUT_OF_TURN, expected=8)]
        self.put("one")
        self.put("two")
        self.assertEqual([("one", 1), ("one", 8), ("two", 9)], [(t, c) for t, _, c, *_ in self.host.transmitted])
        self.assertEqual({ROOM: 9}, self.host.counters)

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
        for code in {*CODES.values()} - {BAD_SESSION, DEVICE_FIRST, LOGIN_FIRST}:  # not the message's fault
            self.setUp()
            self.host.outcomes = [refusal(code, expected=1)]
            entry = self.put("one")
            self.clock.advance(60)
            self.assertTrue(entry.done.called, code.name)

    def test_not_logged_in(self) -> None:
        """A refusal that is about the connection keeps the message for the next one, and those behind it."""
        for code in (BAD_SESSION, DEVICE_FIRST, LOGIN_FIRST):
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


class HeldTests(OutboxCase):
    """Tests for messages that wait for their author's word."""

    def test_held(self) -> None:
        """A changed identity holds its conversation alone; what is typed there waits, in order, and is on disk."""
        for error in (IdentityChanged(["bob"]), InvalidKey("no keys")):
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


class RecordTests(SynchronousTestCase):
    """Tests for entries on disk."""

    def test_there_and_back(self) -> None:
        """An entry comes back as it was, sealed or not."""
        package = m.Package(encrypted_message=TOKEN, encrypted_keys={"bob": b"w" * 384}, kids={"bob": kid("bob")})
        for sealed, head, ctr in ((None, 0, 0), (package, 3, 4)):
            entry = Entry(7, "@bob", "grüße", "a" * 32, sealed, head, ctr)
            back = Entry.from_record(7, entry.record())
            self.assertEqual(entry.record(), back.record())
            self.assertEqual((7, sealed), (back.number, back.package))

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
