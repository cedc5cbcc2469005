"""Tests for what is shown: once, in order, judged first, and with a reason where there is no text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.conversations import Conversation
from securechat.client.display import render
from securechat.client.inbox import BATCH, STEP, Inbox, OwnMessage
from securechat.client.kept import Taken
from securechat.client.protocol import LinkLost
from securechat.client.telling import fold
from securechat.client.view import Answer, Item, Message, Unshown
from securechat.crypto.envelope import Examined, message_id, parse_header
from securechat.crypto.findings import Finding
from securechat.crypto.reading import Found
from securechat.crypto.roomlog import Join
from securechat.crypto.transcript import next_th
from securechat.errors import NOT_MEMBER, Refused
from securechat.wire import messages as m
from tests import cast
from tests.cast import Acquaintances, Person, Posted, Room, flipped, rsa_key
from tests.doubles import ClientThreads, InlineReactor

ALICE, BOB, CAROL = Person("alice", 0), Person("bob"), Person("carol")
NOT_GIVEN = "message{s} not shown: the server did not give them"
REPLAYED = "[general] 1 message not shown: replayed (you have it already, or it is older than all you were given)"
NOT_FOR_ALICE = "not addressed to you (ask bob whether you were left out on purpose)"


def stored(room: str, posted: Posted, **changes: Any) -> m.StoredMessage:
    """A message as the server gives it to alice."""
    sealed, header = posted.sealed, parse_header(posted.sealed.hdr)
    entry = {user: key for user, key in sealed.encrypted_keys.items() if user == "alice"}
    package = m.Package(
        encrypted_message=sealed.encrypted_message,
        encrypted_keys=entry,
        kids={user: sealed.kids[user] for user in entry},
        hdr=sealed.hdr,
        bind=sealed.bind,
        sig=sealed.sig,
    )
    made: dict[str, Any] = {
        "room": room,
        "seq": posted.seq,
        "sender": posted.author.user,
        "device": posted.author.dev(posted.device),
        "mid": header.mid,
        "ts": header.at,
        "events": posted.events,
        "package": package,
    }
    return m.StoredMessage(**made | changes)


def signed_wrong(message: m.StoredMessage) -> m.StoredMessage:
    """The same with another signature."""
    return replace(message, package=replace(message.package, sig=flipped(message.package.sig, 1)))


class Host:
    """A core that is alice, and a server that has what the test puts into `history`.

    Attributes:
        talks: as the server has them, by their names on the wire.
        preparing: what fetching what judging needs raises; before that it takes until `gate` fires.
        failure: the same of what is missing.
    """

    user = "alice"

    def __init__(self) -> None:
        self.people: Any = Acquaintances.of([ALICE, BOB, CAROL])
        self.conversations: dict[str, Conversation] = {}
        self.talks: dict[str, cast.Conversation] = {}
        self.items: list[Item] = []
        self.noted: list[tuple[str, int, str]] = []
        self.back: list[str] = []
        self.marks: dict[str, str] = {}
        self.alarms: list[str] = []
        self.history: list[m.StoredMessage] = []
        self.failure: Exception | None = None
        self.preparing: Exception | None = None
        self.gate: Deferred[None] | None = None
        self.prepared: list[tuple[str, list[int]]] = []
        self.asked: list[tuple[str, int, int]] = []
        self.happened: list[str] = []
        self.taken: list[Taken] = []
        self.hidden: list[Finding] = []
        self.lacking: list[tuple[int, int]] = []
        self.ignored: set[str] = set()

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """As Host's."""
        return self.conversations.get(message.room)

    def show(self, item: Item) -> None:
        """As Host's."""
        self.happened.append("shown")
        self.items.append(item)

    def shown(self, conversation: Conversation, device: str) -> None:
        """As Host's."""
        self.happened.append("noted")
        self.noted.append((conversation.room, conversation.cursor, device))

    def own_came_back(self, mid: str) -> None:
        """As Host's."""
        self.back.append(mid)

    def mark_of(self, user: str) -> str:
        """As Host's."""
        return self.marks.get(user, "")

    def author_hash(self, user: str, device: str) -> str:
        """As Host's."""
        return user

    def took(self, conversation: Conversation, taken: Taken) -> bool:
        """As Host's."""
        self.taken.append(taken)
        return taken.kept.sender not in self.ignored

    def read_back(self, conversation: Conversation, taken: Sequence[Taken]) -> None:
        """As Host's."""
        self.taken += taken

    def hid(self, conversation: Conversation, examined: Examined, found: Found) -> None:
        """As Host's."""
        self.hidden.append(found.finding)

    def not_given(self, conversation: Conversation, first: int, count: int) -> None:
        """As Host's."""
        self.lacking.append((first, count))

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """As Host's."""
        self.alarms.append(reason)

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """As Host's."""
        self.asked.append((room, after, before))
        if self.failure is not None:
            raise self.failure
        return self.history

    async def prepare_reading(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> None:
        """As Host's."""
        self.prepared.append((conversation.room, [message.seq for message in messages]))
        if self.gate is not None:
            await self.gate
        if self.preparing is not None:
            raise self.preparing

    async def prepare_audiences(self, conversation: Conversation, examined: Sequence[Examined]) -> None:
        """As Host's."""
        conversation.audiences.update(self.talks[conversation.room].audiences)

    @property
    def lines(self) -> list[str]:
        """What was shown."""
        return [line for item in self.items for line in render(item, tz=UTC)]


class InboxCase(SynchronousTestCase):
    """An inbox with nothing in it, and a room in which bob, alice and carol talk."""

    def setUp(self) -> None:
        self.host = Host()
        self.threads = ClientThreads(InlineReactor())
        self.inbox = Inbox(self.host, self.threads.run, {ALICE.kid: rsa_key()})
        self.general, self.talk = self.room("general")

    def room(self, name: str) -> tuple[Conversation, cast.Conversation]:
        """A room: as this client knows it, and as it is."""
        log = Room(BOB, ALICE, CAROL, name=name).log
        conversation = Conversation(name, id=log.id, live=True)
        conversation.log = conversation.reader.log = log
        return self.take(conversation, cast.Conversation(log, BOB, ALICE, CAROL))

    def take(self, conversation: Conversation, talk: cast.Conversation) -> tuple[Conversation, cast.Conversation]:
        """The client is in a conversation."""
        conversation.reader.user = "alice"
        self.host.conversations[conversation.room] = conversation
        self.host.talks[conversation.room] = talk
        return conversation, talk

    def private(self) -> tuple[Conversation, cast.Conversation]:
        """A private conversation of alice and bob."""
        talk = cast.Conversation(None, ALICE, BOB)
        conversation, _ = self.take(Conversation(talk.id, "bob", live=True), talk)
        conversation.reader.pair = talk.pair
        return conversation, talk

    def said(self, text: str, author: Person = BOB, **changes: Any) -> m.StoredMessage:
        """Somebody says something in the room: as the server gives it."""
        return stored("general", self.talk.say(author, text, **changes))

    def many(self, *texts: str) -> list[m.StoredMessage]:
        """Bob says all these."""
        return [self.said(text) for text in texts]

    def own(self, text: str, talk: cast.Conversation | None = None, peer: str | None = None) -> OwnMessage:
        """Alice says something on this very client: as it is acknowledged."""
        posted = (talk or self.talk).say(ALICE, text)
        header = parse_header(posted.sealed.hdr)
        room = "general" if talk is None else talk.id
        return OwnMessage(room, peer, posted.seq, posted.events, header.ctr, posted.sealed.id, ALICE.dev(), text)

    def put(self, *jobs: m.StoredMessage | OwnMessage) -> None:
        """All of these come."""
        for job in jobs:
            self.inbox.put(job)

    def line(self, text: str) -> None:
        """Queues a line between the messages."""
        self.inbox.put(lambda: self.host.show(Answer([text])))

    def resume(self) -> None:
        """Runs what waits for a thread."""
        self.threads.held = False
        while self.threads.waiting:
            self.threads.run_next()

    def assertTexts(self, *texts: str) -> None:
        """Bob's texts were shown, in this order, and nothing else."""
        self.assertEqual([f"[general] <bob> {text}" for text in texts], self.host.lines)


class OrderTests(InboxCase):
    """Tests for the queue."""

    def test_shown(self) -> None:
        """A message is opened, judged, shown; its place and its author's device are noted."""
        self.put(self.said("hello"))
        self.assertTexts("hello")
        self.assertEqual([("general", 1, BOB.dev())], self.host.noted)
        self.assertEqual((1, self.talk.ths[1]), self.general.reader.transcript.place)
        self.assertEqual([], self.host.alarms)

    def test_between(self) -> None:
        """What comes between messages stays between them, though they take a thread and it does not."""
        self.threads.held = True
        self.line("before")
        self.put(self.said("one"))
        self.line("between")
        self.put(self.said("two"), self.own("mine"))
        self.line("after")
        self.resume()
        self.assertEqual(
            [
                "before",
                "[general] <bob> one",
                "between",
                "[general] <bob> two",
                "[general] <alice> mine",
                "after",
            ],
            self.host.lines,
        )
        self.assertEqual((3, self.talk.ths[3]), self.general.reader.transcript.place)

    def test_many_at_once(self) -> None:
        """What came while a thread was busy is examined together, so many at a time."""
        self.threads.held = True
        for number in range(BATCH + 2):
            self.put(self.said(str(number), readers=[BOB]))
        visits = 0
        while self.threads.waiting:
            self.threads.run_next()
            visits += 1
        self.assertEqual((3, BATCH + 2), (visits, len(self.host.noted)))

    def test_several_conversations_at_once(self) -> None:
        """Messages of several conversations that come mixed are shown in the order they came."""
        _, games = self.room("games")
        self.threads.held = True
        self.put(
            self.said("1"),
            stored("games", games.say(BOB, "2")),
            self.said("3"),
            stored("games", games.say(CAROL, "4")),
        )
        self.resume()
        self.assertEqual(
            ["[general] <bob> 1", "[games] <bob> 2", "[general] <bob> 3", "[games] <carol> 4"], self.host.lines
        )

    def test_run_of_unshown(self) -> None:
        """Messages that are not shown for one reason and come together are one line, in their place."""
        self.threads.held = True
        self.put(self.said("one"), *(self.said("x", readers=[BOB]) for _ in range(3)))
        self.line("between")
        self.put(self.said("x", readers=[BOB]), self.said("six"), self.said("x", readers=[BOB]))
        self.resume()
        self.assertEqual(
            [
                "[general] <bob> one",
                f"[general] 3 messages not shown: {NOT_FOR_ALICE}",
                "between",
                f"[general] 1 message not shown: {NOT_FOR_ALICE}",
                "[general] <bob> six",
                f"[general] 1 message not shown: {NOT_FOR_ALICE}",
            ],
            self.host.lines,
        )

    def test_once(self) -> None:
        """A message that was shown is not shown again, nor one before it."""
        one, two, three = self.many("1", "2", "3")
        self.put(one, two, one, two, three)
        self.assertTexts("1", "2", "3")

    def test_own_once(self) -> None:
        """One's own message is shown once, whether the answer or the history brings it first."""
        first = self.own("one")
        copy = stored("general", self.talk.posted[-1])
        self.put(first, copy)
        second = self.own("two")
        self.put(stored("general", self.talk.posted[-1]), second)
        self.assertEqual(["[general] <alice> one", "[general] <alice> two"], self.host.lines)
        self.assertEqual([ALICE.dev()] * 2, [device for _, _, device in self.host.noted])

    def test_own_counts(self) -> None:
        """One's own messages count in this device's chain: a copy in another place is a replay."""
        self.put(self.own("one"))
        self.put(stored("general", self.talk.posted[0], seq=2))
        self.assertEqual(REPLAYED, self.host.lines[-1])

    def test_acknowledged_out_of_order(self) -> None:
        """Answers that overtake each other, or others' messages, are shown in the order of the conversation."""
        one, mine, two, again = self.said("1"), self.own("mine"), self.said("2"), self.own("again")
        self.host.history = [one]
        self.put(mine)
        self.host.history = [two]
        self.put(again, one, mine, two)
        self.assertEqual(
            ["[general] <bob> 1", "[general] <alice> mine", "[general] <bob> 2", "[general] <alice> again"],
            self.host.lines,
        )
        self.assertEqual((4, self.talk.ths[4]), self.general.reader.transcript.place)

    def test_own_came_back(self) -> None:
        """One's own messages from the history are told, so that none of them is sent again; others' are not."""
        mine, bobs = self.said("1", ALICE), self.said("2")
        self.put(mine, bobs, mine)
        self.assertEqual([mine.mid] * 2, self.host.back)

    def test_not_there(self) -> None:
        """A message of a room one is not in is passed over."""
        message, own = self.said("1"), self.own("2")
        del self.host.conversations["general"]
        self.put(message, own)
        self.assertEqual(([], []), (self.host.items, self.host.prepared))

    def test_left_meanwhile(self) -> None:
        """So is one of a room that was left while it was examined."""
        self.threads.held = True
        self.put(self.said("1"))
        del self.host.conversations["general"]
        self.resume()
        self.assertEqual([], self.host.items)

    def test_another_room_meanwhile(self) -> None:
        """One that was examined for a room in whose place another of that name came is judged for that one."""
        self.threads.held = True
        self.put(self.said("1"))
        self.take(Conversation("general", id="ab" * 32), self.talk)
        self.resume()
        self.assertIn("written for another conversation", self.host.lines[0])

    def test_marked(self) -> None:
        """What is said of somebody stands beside their name."""
        self.host.marks["bob"] = "identity changed"
        self.put(self.said("hello"))
        self.assertEqual(["[general] <bob> [identity changed] hello"], self.host.lines)

    def test_private(self) -> None:
        """A private message is shown with its sender, one's own with whom it is for."""
        conversation, talk = self.private()
        self.put(
            stored(talk.id, talk.say(BOB, "psst"), to="alice"),
            stored(talk.id, talk.say(ALICE, "what?"), to="bob"),
            self.own("well?", talk, "bob"),
        )
        self.assertEqual(["[pm] <bob> psst", "[pm → bob] what?", "[pm → bob] well?"], self.host.lines)
        self.assertEqual((3, talk.ths[3]), conversation.reader.transcript.place)

    def test_other_keys(self) -> None:
        """A key that the account got meanwhile opens what comes from then on."""
        self.inbox.use({})
        self.put(self.said("one"))
        self.inbox.use({ALICE.kid: rsa_key()})
        self.put(self.said("two"))
        self.assertIn("sealed for a key this device does not have", self.host.lines[0])
        self.assertEqual("[general] <bob> two", self.host.lines[1])


class JudgeTests(InboxCase):
    """Tests for messages that do not check out."""

    def test_not_shown(self) -> None:
        """What did not come from whom it says is not shown, and moves nobody's chain; the cursor goes on."""
        good = self.said("good")
        forged = signed_wrong(good)
        self.put(forged)
        (line,) = self.host.lines
        self.assertEqual(
            "[general] 1 message not shown: signature wrong (bob did not write that: the server or somebody else did)",
            line,
        )
        self.assertEqual((1, {}), (self.general.cursor, self.general.reader.chains))

    def test_unknown_device(self) -> None:
        """A message of a device that nobody vouches for is not shown."""
        self.put(self.said("x", device=2))
        self.assertIn("from a device that bob did not sign", self.host.lines[0])

    def test_replayed(self) -> None:
        """The same message in another place is not shown again."""
        self.put(self.said("one"), stored("general", self.talk.posted[0], seq=2))
        self.assertEqual(["[general] <bob> one", REPLAYED], self.host.lines)

    def test_flagged(self) -> None:
        """What is said of a message stands before its text, and what to do."""
        self.put(self.said("one"), self.said("four", ctr=4))
        self.assertEqual(
            "[general] <bob> [2 messages from bob missing before this (/history may bring them; else ask bob)] four",
            self.host.lines[1],
        )
        self.assertEqual([], self.host.alarms)

    def test_own_missing(self) -> None:
        """Who wrote what is missing is not told to ask themselves for it."""
        self.put(self.said("one", ALICE), self.said("three", ALICE, ctr=3), self.said("six", ALICE, ctr=6))
        given = "not in the history the server gives (send"
        self.assertEqual(
            [
                f"[general] <alice> [before this, 1 message of yours is {given} it again if that matters)] three",
                f"[general] <alice> [before this, 2 messages of yours are {given} them again if that matters)] six",
            ],
            self.host.lines[1:],
        )

    def test_own_other_flags(self) -> None:
        """Whatever else is found about one's own message is said as of anybody's."""
        self.put(self.said("one", ALICE), self.said("three", ALICE, ctr=3))
        self.put(self.said("two", ALICE, ctr=2))
        self.assertEqual("[general] <alice> [arrived late, out of order] two", self.host.lines[-1])

    def test_alarm(self) -> None:
        """What only a lie explains is an alarm of its conversation; the text is shown all the same."""
        self.put(self.said("one"))
        self.put(self.said("two", th=(1, "ab" * 32)))
        self.assertEqual(["its author was shown another history of this conversation"], self.host.alarms)
        self.assertIn("two", self.host.lines[1])

    def test_audience(self) -> None:
        """Whom the author left out, or sealed for besides, is said by name."""
        self.put(self.said("hello", readers=[ALICE, BOB, Person("mallory")]))
        self.assertIn("[went to mallory, not a member", self.host.lines[0])
        self.assertIn("was not sealed for carol] hello", self.host.lines[0])

    def test_audience_unknown(self) -> None:
        """Where the server does not say whom it was for, that is an alarm."""
        message = self.said("hello")
        self.talk.audiences.clear()
        self.put(message)
        self.assertEqual(["the server does not say whom it was sealed for"], self.host.alarms)

    def test_before_one_joined(self) -> None:
        """What was sealed before this account was a member is told as that."""
        log = Room(BOB, CAROL, name="attic").log
        talk = cast.Conversation(log, BOB, ALICE, CAROL)
        early = [talk.say(BOB, "early") for _ in range(2)]
        log.append(cast.act(log, Join, ALICE))
        conversation = Conversation("attic", id=log.id)
        conversation.log = conversation.reader.log = log
        self.take(conversation, talk)
        self.put(*(stored("attic", posted) for posted in early), stored("attic", talk.say(BOB, "hello")))
        self.assertEqual(["[attic] 2 messages sent before you joined", "[attic] <bob> hello"], self.folded())

    def folded(self) -> list[str]:
        """What was shown, with runs of one reason as one line however they came."""
        return [line for item in fold(self.host.items) for line in render(item, tz=UTC)]

    def test_changed_identity(self) -> None:
        """Of another identity than the pinned one nothing is shown; what is advised depends on whether it is open."""
        newer = Person("bob", generation=2)
        self.host.people.meet(newer.keys())
        self.host.marks["bob"] = "identity changed"
        self.put(self.said("one"))
        self.host.marks.clear()
        self.put(self.said("two"))
        self.assertEqual(
            [
                "[general] 1 message not shown: bob's identity changed (/verify bob compares the new one)",
                "[general] 1 message not shown: signed by another identity of bob than the one you know",
            ],
            self.host.lines,
        )

    def test_not_utf8_name(self) -> None:
        """A private message that does not open names the other one."""
        _, talk = self.private()
        self.put(signed_wrong(stored(talk.id, talk.say(BOB, "x"), to="alice")))
        self.assertIn("[@bob] 1 message not shown: signature wrong", self.host.lines[0])


class WaitingTests(InboxCase):
    """Tests for those who wait until something was shown."""

    def test_shown(self) -> None:
        """It is told when all that was queued before was shown, not earlier."""
        self.threads.held = True
        self.put(self.said("hello"))
        shown = self.inbox.shown()
        self.assertNoResult(shown)
        self.resume()
        self.successResultOf(shown)
        self.assertEqual(1, len(self.host.items))

    def test_stopped(self) -> None:
        """A stopped inbox shows nothing more, and nobody waits for it for ever."""
        self.threads.held = True
        self.put(self.said("1"))
        shown = self.inbox.shown()
        self.inbox.stop()
        self.successResultOf(shown)
        self.put(self.said("2"))
        self.resume()
        self.successResultOf(self.inbox.shown())
        self.assertEqual(([], 0), (self.host.items, self.general.cursor))

    def test_account_left(self) -> None:
        """An account that was left while messages were examined shows none of them, and that is no fault."""
        for stage in ("prepare", "thread"):
            self.setUp()
            self.host.gate = Deferred() if stage == "prepare" else None
            self.threads.held = True
            self.put(self.said("1"))
            self.inbox.stop()
            self.host.people = None
            if self.host.gate is not None:
                self.host.gate.callback(None)
            self.resume()
            self.assertEqual(([], 0), (self.host.items, self.general.cursor))

    def test_a_fault_between(self) -> None:
        """A fault of what stands in the queue is logged; what waits behind it is shown, in its order."""
        self.threads.held = True
        self.put(self.said("hello"))
        self.inbox.put(lambda: 1 // 0)  # type: ignore[arg-type]  # what it answers is not looked at
        self.line("one")
        self.put(self.said("two"))
        for _ in range(BATCH):
            self.inbox.put(lambda: None)
        self.line("three")
        shown = self.inbox.shown()
        self.resume()
        self.assertEqual(["[general] <bob> hello", "one", "[general] <bob> two", "three"], self.host.lines)
        self.successResultOf(shown)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class LinkLostTests(InboxCase):
    """Tests for links that break while something is judged."""

    def test_comes_again(self) -> None:
        """What was not judged then is judged when it comes again; nothing is shown twice or passed over."""
        one, two, three = self.many("1", "2", "3")
        self.put(one)
        self.host.preparing = LinkLost("gone")
        self.put(two, three)
        self.assertEqual(1, self.general.cursor)
        self.host.preparing = None
        self.put(two, three)
        self.assertTexts("1", "2", "3")

    def test_who_waits_is_told(self) -> None:
        """Whoever waits behind such messages is told, in order, and not before what is shown in between."""
        self.line("first")
        gate = self.host.gate = Deferred()
        self.put(self.said("1"))
        self.line("second")
        shown = self.inbox.shown()
        self.line("third")
        gate.errback(LinkLost("gone"))
        self.successResultOf(shown)
        self.assertEqual(["first", "second", "third"], self.host.lines)

    def test_half_of_a_batch(self) -> None:
        """If it breaks at a gap in the middle, what was before it is shown, and what is behind it is not."""
        self.threads.held = True
        one, two, three, four = self.many("1", "2", "3", "4")
        self.host.failure = LinkLost("gone")
        self.put(one, three, four)
        self.resume()
        self.assertTexts("1")
        self.put(two, three, four)
        self.assertTexts("1", "2", "3", "4")

    def test_own(self) -> None:
        """An own message whose place cannot be looked at then comes again from the history, and is shown once."""
        own = self.own("mine")
        self.host.preparing = LinkLost("gone")
        self.put(own)
        self.assertEqual(([], 0), (self.host.items, self.general.cursor))
        self.host.preparing = None
        self.put(stored("general", self.talk.posted[0]), own)
        self.assertEqual(["[general] <alice> mine"], self.host.lines)

    def test_one_conversation(self) -> None:
        """What lies in the queue of another conversation, and needs nothing, is shown."""
        _, games = self.room("games")
        self.host.gate = Deferred()
        self.put(self.said("1"))
        self.put(stored("games", games.say(BOB, "2")))
        gate, self.host.gate = self.host.gate, None
        gate.errback(LinkLost("gone"))
        self.assertEqual(["[games] <bob> 2"], self.host.lines)


class GapTests(InboxCase):
    """Tests for messages that the server did not give in their turn."""

    def test_filled(self) -> None:
        """A gap is filled from the history before what comes after it is shown."""
        one, two, three = self.many("1", "2", "3")
        self.host.history = [one, two]
        self.put(three)
        self.assertEqual([("general", 0, 3)], self.host.asked)
        self.assertTexts("1", "2", "3")
        self.assertEqual((3, self.talk.ths[3]), self.general.reader.transcript.place)

    def test_filled_before_own(self) -> None:
        """Also before one's own message."""
        self.host.history = [self.said("1")]
        self.put(self.own("2"))
        self.assertEqual(["[general] <bob> 1", "[general] <alice> 2"], self.host.lines)

    def test_not_given(self) -> None:
        """What the server does not give either is one line with its number, at its place."""
        messages = self.many(*"123456")
        self.host.history = [messages[2]]
        self.put(messages[5])
        lost = Unshown("general", 2, NOT_GIVEN)
        self.assertEqual([lost, lost], [item for item in self.host.items if isinstance(item, Unshown)])
        self.assertEqual(["3", "6"], [item.text for item in self.host.items if isinstance(item, Message)])
        self.assertEqual([Unshown, Message, Unshown, Message], [type(item) for item in self.host.items])
        self.assertIn("2 messages from bob missing", self.host.lines[3])

    def test_refused(self) -> None:
        """The same where the server refuses the history."""
        self.host.failure = Refused(NOT_MEMBER, room="general")
        self.put(self.many(*"1234")[3])
        self.assertEqual("[general] 3 messages not shown: the server did not give them", self.host.lines[0])
        self.assertEqual((2, 4), (len(self.host.lines), self.general.cursor))

    def test_link_lost(self) -> None:
        """A connection that breaks meanwhile loses nothing: the cursor stays, and all comes again by `sync`."""
        messages = self.many(*"123")
        own = self.own("mine")
        self.host.failure = LinkLost("gone")
        for job in (messages[2], own):
            self.put(job)
            self.assertEqual(([], 0), (self.host.items, self.general.cursor))
        self.put(*messages, own)
        self.assertEqual(4, len(self.host.items))

    def test_nonsense(self) -> None:
        """Messages that are not of the gap, out of order or twice, are not shown."""
        messages = self.many(*"123456789")
        self.put(messages[0])
        self.host.history = [messages[seq - 1] for seq in (3, 2, 3, 1, 9)]
        self.put(messages[3])
        self.assertEqual(["1", "3", "4"], [item.text for item in self.host.items if isinstance(item, Message)])
        self.assertEqual([Unshown("general", 1, NOT_GIVEN)], [i for i in self.host.items if isinstance(i, Unshown)])

    def test_folded(self) -> None:
        """Messages in a gap that are not shown for one reason are one line."""
        self.host.history = [self.said("x", readers=[BOB]) for _ in range(3)]
        self.put(self.said("hello"))
        self.assertEqual([f"[general] 3 messages not shown: {NOT_FOR_ALICE}", "[general] <bob> hello"], self.host.lines)

    def test_stopped_while_asking(self) -> None:
        """An inbox that is stopped while it asks shows nothing of the answer."""
        self.threads.held = True
        one, two = self.many("1", "2")
        self.host.history = [one]
        self.put(two)
        self.threads.run_next()
        self.inbox.stop()
        self.resume()
        self.assertEqual(([], 0), (self.host.items, self.general.cursor))

    def test_moved_on_while_asking(self) -> None:
        """If the conversation goes on from another place meanwhile, nothing goes back, nor is anything shown twice."""
        messages = self.many(*"1234")
        self.threads.held = True
        self.host.history = messages[:2]
        self.put(messages[2])
        self.threads.run_next()  # it is examined; what is missing before it is on its way
        self.general.restart(3, self.talk.ths[3])
        self.resume()
        self.put(messages[3])
        self.assertTexts("4")
        self.assertEqual((4, self.talk.ths[4]), self.general.reader.transcript.place)

    def test_moved_back_while_examining(self) -> None:
        """If the server lost something meanwhile, and the conversation goes on before it, the gap is filled."""
        messages = self.many("1", "2")
        self.put(messages[0])
        self.threads.held = True
        self.put(messages[1])
        self.general.reader.chains.clear()
        self.general.restart(0, self.talk.ths[0])
        self.host.history = messages[:1]
        self.resume()
        self.assertTexts("1", "1", "2")
        self.assertEqual((2, self.talk.ths[2]), self.general.reader.transcript.place)


class PageTests(InboxCase):
    """Tests for pages of a history."""

    def setUp(self) -> None:
        super().setUp()
        self.progress: list[tuple[int, int]] = []

    def page(self, messages: Sequence[m.StoredMessage], start: tuple[int, str] | None = None) -> m.HistoryOk:
        """A page as an honest server gives it, or with another place before it."""
        first = messages[0].seq
        return m.HistoryOk(
            room="general", messages=tuple(messages), start=start or (first - 1, self.talk.ths[first - 1])
        )

    def shown(self, *pages: m.HistoryOk) -> list[str]:
        """How they are shown."""
        work = self.inbox.page(self.general, pages, lambda done, of: self.progress.append((done, of)))
        items = self.successResultOf(Deferred.fromCoroutine(work))
        return [line for item in items for line in render(item, tz=UTC)]

    def test_shown(self) -> None:
        """Each message has its time; nothing that is known of the conversation moves by looking back."""
        self.put(*self.many("1", "2"))
        before = self.general.record(), dict(self.general.reader.chains)
        lines = self.shown(self.page([stored("general", posted) for posted in self.talk.posted]))
        self.assertEqual([f"2023-11-14 22:13 [general] <bob> {text}" for text in "12"], lines)
        self.assertEqual(before, (self.general.record(), dict(self.general.reader.chains)))
        self.assertEqual([], self.host.alarms)

    def test_never_seen(self) -> None:
        """So it is for what this client never had; it is checked in itself."""
        self.assertEqual(2, len(self.shown(self.page(self.many("1", "2", "3")[1:]))))
        self.assertEqual([], self.host.alarms)

    def test_pages(self) -> None:
        """Pages that go on where the one before ended are one stretch; how far it is, is told."""
        messages = self.many(*map(str, range(STEP + 3)))
        lines = self.shown(self.page(messages[:10]), self.page(messages[10:]))
        self.assertEqual(STEP + 3, len(lines))
        self.assertEqual([(STEP, STEP + 3), (STEP + 3, STEP + 3)], self.progress)
        self.assertEqual([], self.host.alarms)

    def test_folded(self) -> None:
        """Runs that are not shown for one reason are one line."""
        messages = [self.said("x", readers=[BOB]) for _ in range(3)]
        self.assertEqual([f"[general] 3 messages not shown: {NOT_FOR_ALICE}"], self.shown(self.page(messages)))

    def test_hidden(self) -> None:
        """What does not check out is not shown there, either."""
        self.assertIn("signature wrong", self.shown(self.page([signed_wrong(self.said("x"))]))[0])

    def test_another_history(self) -> None:
        """A history that is not the one that was seen is an alarm: another message, one less, another beginning."""
        for change in ("other", "less", "start"):
            self.setUp()
            self.put(*self.many("1", "2", "3"))
            messages = [stored("general", posted) for posted in self.talk.posted]
            if change == "other":
                other = cast.Conversation(self.talk.log, BOB, ALICE, CAROL)
                messages[1] = stored("general", other.say(BOB, "another"), seq=2)
            page = self.page(messages)
            if change == "less":
                page = self.page([messages[0], messages[2]])
            elif change == "start":
                page = self.page(messages[1:], (1, "ab" * 32))
            self.shown(page)
            self.assertEqual(["the history the server gives now is not the one you saw before"], self.host.alarms)

    def test_hole_between_pages(self) -> None:
        """A page that does not begin where the one before it ended is the same, though each is right in itself."""
        messages = self.many("1", "2", "3", "4")
        for pages in (
            (self.page(messages[:1]), self.page(messages[2:])),
            (self.page(messages[:2]), self.page(messages[2:], (2, "ab" * 32))),
            (self.page(messages[:3]), self.page(messages[2:])),
        ):
            self.host.alarms.clear()
            self.shown(*pages)
            self.assertEqual(["the history the server gives now is not the one you saw before"], self.host.alarms)

    def test_no_start(self) -> None:
        """A page that does not say where it begins, or begins elsewhere, cannot be checked: the same."""
        self.put(*self.many("1", "2"))
        messages = [stored("general", posted) for posted in self.talk.posted]
        for page in (
            m.HistoryOk(room="general", messages=tuple(messages), start=UNSET),
            self.page(messages, (1, self.talk.ths[1])),
        ):
            self.host.alarms.clear()
            self.shown(page)
            self.assertEqual(1, len(self.host.alarms))

    def test_nothing(self) -> None:
        """An empty history is nothing."""
        self.assertEqual([], self.shown(m.HistoryOk(room="general", messages=())))
        self.assertEqual([], self.shown())

    def test_link_lost(self) -> None:
        """A link that breaks meanwhile is told to who asked."""
        self.host.preparing = LinkLost("gone")
        work = self.inbox.page(self.general, [self.page(self.many("1"))], lambda done, of: None)
        self.failureResultOf(Deferred.fromCoroutine(work), LinkLost)


class FoldTests(SynchronousTestCase):
    """Tests for `fold`."""

    def test_fold(self) -> None:
        """Runs of one reason in one place become one line; what stands between them stays."""
        text = Message("general", "bob", "hello")
        a, b, c = Unshown("general", 1, "x"), Unshown("general", 2, "y"), Unshown("attic", 1, "x")
        self.assertEqual([Unshown("general", 3, "x"), b, a, text, a, c], fold([a, a, a, b, a, text, a, c]))
        self.assertEqual([], fold([]))


class SlowThreadTests(InboxCase):
    """Tests for a thread that fails."""

    def test_refused_work(self) -> None:
        """A pool that is gone is logged, and does not stop the inbox for ever, nor who waits for it."""
        answers: list[Deferred[Any]] = []

        def run(*work: Any) -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        inbox = Inbox(self.host, run, {})
        one, two = self.many("1", "2")
        inbox.put(one)
        shown = inbox.shown()
        inbox.put(two)
        answers[0].errback(RuntimeError("no threads"))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertNoResult(shown)
        self.host.history = [one]
        for answer, message in zip(answers[1:], (two,), strict=True):
            answer.callback([self.opened(message)])
        answers[2].callback([self.opened(one)])
        self.assertTexts("1", "2")
        self.successResultOf(shown)

    def opened(self, message: m.StoredMessage) -> Examined:
        """What the thread would have made of it."""
        posted = self.talk.posted[message.seq - 1]
        return cast.examined(self.talk.deliver(posted, ALICE), ALICE, self.host.people)


class TranscriptTests(InboxCase):
    """Tests for what is held against the others' view."""

    def test_own_link(self) -> None:
        """An own message takes its place behind as many room events as the server said it stands behind."""
        own = self.own("mine")
        self.put(own)
        head = self.general.log.links[-1] if self.general.log is not None else ""
        self.assertEqual(next_th(self.talk.ths[0], head, own.id), self.general.reader.transcript.th)

    def test_lost_ones_leave_another_transcript(self) -> None:
        """Behind messages that were not given the transcript is another, and the next author's word shows it."""
        messages = self.many("1", "2", "3")
        self.put(messages[0], messages[2], self.said("4", CAROL))
        self.assertEqual(["its author was shown another history of this conversation"] * 2, self.host.alarms)

    def test_hidden_ones_count(self) -> None:
        """A message that is not shown has its place all the same: no fork is seen where there is none."""
        bad = signed_wrong(self.said("1"))
        self.put(bad)
        assert self.talk.log is not None
        th = next_th(self.talk.ths[0], self.talk.log.head, message_id(bad.package.hdr, bad.package.bind))
        self.assertEqual((1, th), self.general.reader.transcript.place)
        self.put(self.said("2", CAROL))
        self.assertEqual([], self.host.alarms)
