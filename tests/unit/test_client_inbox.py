"""Tests for what is shown: once, in order, and with a reason where there is no text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from functools import cache
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.conversations import Conversation
from securechat.client.display import render
from securechat.client.inbox import BATCH, Inbox, Opened, OwnMessage, fold, open_messages, to_item
from securechat.client.protocol import LinkLost
from securechat.client.view import Answer, Item, RoomMessage, Unshown
from securechat.crypto.envelope import DAMAGED, NEWER, NOT_FOR_YOU, OTHER_KEY, seal
from securechat.crypto.primitives import rsa_public_der
from securechat.errors import NOT_MEMBER, Refused
from securechat.wire import messages as m
from tests.doubles import ClientThreads, InlineReactor, Person, hex_id, rsa_key

PM = "pm:" + "a" * 64


@cache
def alice() -> Person:
    """Who reads, with an RSA key whose private half there is."""
    return Person("alice", rk_der=rsa_public_der(rsa_key().public_key()))


@cache
def package(text: str) -> m.Package:
    """A text sealed for alice and bob, cut down to alice."""
    sealed = seal(text, [alice().keys()])
    return m.Package(
        encrypted_message=sealed.encrypted_message,
        encrypted_keys=dict(sealed.encrypted_keys),
        kids=dict(sealed.kids),
    )


EMPTY = m.Package(encrypted_message="", encrypted_keys={}, kids={})


def message(
    seq: int, sender: str = "bob", *, room: str = "general", text: str = "hello", **changes: Any
) -> m.StoredMessage:
    """A message as the server gives it to alice."""
    fields: dict[str, Any] = {"device": hex_id(sender), "mid": hex_id(sender, seq), "ts": seq * 60_000}
    fields["package"] = package(text)
    return m.StoredMessage(room=room, seq=seq, sender=sender, **fields | changes)


class Host:
    """A core that is alice in the room general, and a server that has what the test puts into `history`."""

    user = "alice"

    def __init__(self) -> None:
        self.conversations = {"general": Conversation("general", live=True)}
        self.items: list[Item] = []
        self.cursors: list[tuple[str, int]] = []
        self.back: list[str] = []
        self.marks: dict[str, str] = {}
        self.history: list[m.StoredMessage] = []
        self.failure: Exception | None = None
        self.asked: list[tuple[str, int, int]] = []
        self.happened: list[str] = []

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """As Host's."""
        return self.conversations.get(message.room)

    def show(self, item: Item) -> None:
        """As Host's."""
        self.happened.append("shown")
        self.items.append(item)

    def shown(self, conversation: Conversation) -> None:
        """As Host's."""
        self.happened.append("noted")
        self.cursors.append((conversation.room, conversation.cursor))

    def own_came_back(self, mid: str) -> None:
        """As Host's."""
        self.back.append(mid)

    def mark_of(self, user: str) -> str:
        """As Host's."""
        return self.marks.get(user, "")

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """As Host's."""
        self.asked.append((room, after, before))
        if self.failure is not None:
            raise self.failure
        return self.history

    @property
    def lines(self) -> list[str]:
        """What was shown."""
        return [line for item in self.items for line in render(item, tz=UTC)]


class InboxCase(SynchronousTestCase):
    """An inbox with nothing in it."""

    def setUp(self) -> None:
        self.host = Host()
        self.threads = ClientThreads(InlineReactor())
        self.inbox = Inbox(self.host, self.threads.run, {alice().kid: rsa_key()})

    def say(self, text: str) -> None:
        """Queues a line between the messages."""
        self.inbox.put(lambda: self.host.show(Answer([text])))

    def resume(self) -> None:
        """Runs what waits for a thread."""
        self.threads.held = False
        while self.threads.waiting:
            self.threads.run_next()


class OrderTests(InboxCase):
    """Tests for the queue."""

    def test_shown(self) -> None:
        """A message is opened, shown, and its place noted afterwards."""
        self.inbox.put(message(1))
        self.assertEqual(["[general] <bob> hello"], self.host.lines)
        self.assertEqual([("general", 1)], self.host.cursors)
        self.assertEqual(["shown", "noted"], self.host.happened)

    def test_between(self) -> None:
        """What comes between messages stays between them, though they take a thread and it does not."""
        self.threads.held = True
        self.say("before")
        self.inbox.put(message(1, text="one"))
        self.say("between")
        self.inbox.put(message(2, text="two"))
        self.inbox.put(OwnMessage("general", None, 3, "mine"))
        self.say("after")
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

    def test_many_at_once(self) -> None:
        """What came while a thread was busy is opened together, so many at a time."""
        self.threads.held = True
        for seq in range(1, BATCH + 3):
            self.inbox.put(message(seq, package=EMPTY))
        visits = 0
        while self.threads.waiting:
            self.threads.run_next()
            visits += 1
        self.assertEqual((3, BATCH + 2), (visits, len(self.host.cursors)))

    def test_run_of_unshown(self) -> None:
        """Messages that do not open for one reason and come together are one line, in their place."""
        self.threads.held = True
        self.inbox.put(message(1, text="one"))
        for seq in (2, 3, 4):
            self.inbox.put(message(seq, package=EMPTY))
        self.say("between")
        self.inbox.put(message(5, package=EMPTY))
        self.inbox.put(message(6, text="six"))
        self.inbox.put(message(7, package=EMPTY))
        self.resume()
        self.assertEqual(
            [
                "[general] <bob> one",
                "[general] 3 messages not shown: not addressed to you",
                "between",
                "[general] 1 message not shown: not addressed to you",
                "[general] <bob> six",
                "[general] 1 message not shown: not addressed to you",
            ],
            self.host.lines,
        )

    def test_once(self) -> None:
        """A message that was shown is not shown again, nor one before it."""
        for seq in (1, 2, 1, 2, 3):
            self.inbox.put(message(seq, text=str(seq)))
        self.assertEqual([f"[general] <bob> {seq}" for seq in (1, 2, 3)], self.host.lines)

    def test_own_once(self) -> None:
        """One's own message is shown once, whether the answer or the history brings it first."""
        self.inbox.put(OwnMessage("general", None, 1, "one"))
        self.inbox.put(message(1, "alice", text="one"))
        self.inbox.put(message(2, "alice", text="two"))
        self.inbox.put(OwnMessage("general", None, 2, "two"))
        self.assertEqual(["[general] <alice> one", "[general] <alice> two"], self.host.lines)

    def test_own_came_back(self) -> None:
        """One's own messages from the history are told, so that none of them is sent again; others' are not."""
        self.host.conversations["general"].cursor = 1
        self.inbox.put(message(1, "alice"))
        self.inbox.put(message(2, "bob"))
        self.assertEqual([hex_id("alice", 1)], self.host.back)

    def test_not_there(self) -> None:
        """A message of a room one is not in is passed over."""
        self.inbox.put(message(1, room="attic"))
        self.inbox.put(OwnMessage("attic", None, 1, "x"))
        self.assertEqual([], self.host.items)

    def test_marked(self) -> None:
        """What is said of somebody stands beside their name."""
        self.host.marks["bob"] = "identity changed"
        self.inbox.put(message(1))
        self.assertEqual(["[general] <bob> [identity changed] hello"], self.host.lines)

    def test_private(self) -> None:
        """A private message is shown with its sender, one's own with whom it is for."""
        self.host.conversations[PM] = Conversation(PM, "bob")
        self.inbox.put(message(1, room=PM, to="alice", text="psst"))
        self.inbox.put(message(2, "alice", room=PM, to="bob", text="what?"))
        self.inbox.put(OwnMessage(PM, "bob", 3, "well?"))
        self.assertEqual(["[pm] <bob> psst", "[pm → bob] what?", "[pm → bob] well?"], self.host.lines)


class WaitingTests(InboxCase):
    """Tests for those who wait until something was shown."""

    def test_shown(self) -> None:
        """It is told when all that was queued before was shown, not earlier."""
        self.threads.held = True
        self.inbox.put(message(1))
        shown = self.inbox.shown()
        self.assertNoResult(shown)
        self.resume()
        self.successResultOf(shown)
        self.assertEqual(1, len(self.host.items))

    def test_stopped(self) -> None:
        """A stopped inbox shows nothing more, and nobody waits for it for ever."""
        self.threads.held = True
        self.inbox.put(message(1))
        shown = self.inbox.shown()
        self.inbox.stop()
        self.successResultOf(shown)
        self.inbox.put(message(2))
        self.resume()
        self.successResultOf(self.inbox.shown())
        self.assertEqual([], self.host.items)

    def test_a_fault_between(self) -> None:
        """A fault of what stands in the queue is logged; what waits behind it is shown, in its order."""
        self.threads.held = True
        self.inbox.put(message(1))
        self.inbox.put(lambda: 1 // 0)  # type: ignore[arg-type]
        for _ in range(BATCH):
            self.inbox.put(lambda: None)
        for text in ("one", "two", "three"):
            self.say(text)
        self.resume()
        self.assertEqual(["[general] <bob> hello", "one", "two", "three"], self.host.lines)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class GapTests(InboxCase):
    """Tests for messages that the server did not give in their turn."""

    def test_filled(self) -> None:
        """A gap is filled from the history before what comes after it is shown."""
        self.host.history = [message(seq, text=str(seq)) for seq in (1, 2)]
        self.inbox.put(message(3, text="3"))
        self.assertEqual([("general", 0, 3)], self.host.asked)
        self.assertEqual([f"[general] <bob> {seq}" for seq in (1, 2, 3)], self.host.lines)

    def test_filled_before_own(self) -> None:
        """Also before one's own message."""
        self.host.history = [message(1, text="1")]
        self.inbox.put(OwnMessage("general", None, 2, "2"))
        self.assertEqual(["[general] <bob> 1", "[general] <alice> 2"], self.host.lines)

    def test_not_given(self) -> None:
        """What the server does not give either is one line with its number, at its place."""
        self.host.history = [message(3, text="3")]
        self.inbox.put(message(6, text="6"))
        lost = "message{s} not shown: the server did not give them"
        self.assertEqual(
            [
                Unshown("general", 2, lost),
                RoomMessage("general", "bob", "3"),
                Unshown("general", 2, lost),
                RoomMessage("general", "bob", "6"),
            ],
            self.host.items,
        )

    def test_refused(self) -> None:
        """The same where the server refuses the history."""
        self.host.failure = Refused(NOT_MEMBER, room="general")
        self.inbox.put(message(4))
        self.assertEqual(
            ["[general] 3 messages not shown: the server did not give them", "[general] <bob> hello"],
            self.host.lines,
        )
        self.assertEqual(4, self.host.conversations["general"].cursor)

    def test_link_lost(self) -> None:
        """A connection that breaks meanwhile loses nothing: the cursor stays, and all comes again by `sync`."""
        for job in (message(4), OwnMessage("general", None, 4, "mine")):
            self.host.failure = LinkLost("gone")
            self.inbox.put(job)
            self.assertEqual(([], 0), (self.host.items, self.host.conversations["general"].cursor))
        self.host.failure = None
        for seq in range(1, 5):
            self.inbox.put(message(seq))
        self.assertEqual(4, len(self.host.items))

    def test_nonsense(self) -> None:
        """Messages that are not of the gap, out of order or twice, are not shown."""
        self.host.conversations["general"].cursor = 1
        self.host.history = [message(seq, text=str(seq)) for seq in (3, 2, 3, 1, 9)]
        self.inbox.put(message(4, text="4"))
        self.assertEqual(
            [
                "[general] 1 message not shown: the server did not give them",
                "[general] <bob> 3",
                "[general] <bob> 4",
            ],
            self.host.lines,
        )

    def test_folded(self) -> None:
        """Messages in a gap that do not open for one reason are one line."""
        self.host.conversations["general"].first = 3
        self.host.history = [message(seq, package=EMPTY) for seq in (1, 2, 3)]
        self.inbox.put(message(4))
        self.assertEqual(
            ["[general] 3 earlier messages, from before you joined", "[general] <bob> hello"], self.host.lines
        )

    def test_stopped_while_asking(self) -> None:
        """An inbox that is stopped while it asks shows nothing of the answer."""
        self.threads.held = True
        self.host.history = [message(1)]
        self.inbox.put(message(2))
        self.threads.run_next()
        self.inbox.stop()
        self.resume()
        self.assertEqual(([], 0), (self.host.items, self.host.conversations["general"].cursor))


class OpenTests(SynchronousTestCase):
    """Tests for messages that do not open."""

    def opened(self, *packages: m.Package) -> list[tuple[str, str]]:
        """Text and reason of each."""
        messages = [message(seq, package=package) for seq, package in enumerate(packages, 1)]
        return [(o.text, o.reason) for o in open_messages("alice", messages, {alice().kid: rsa_key()})]

    def test_reasons(self) -> None:
        """Each has its reason, and one that does not open does not keep the next from opening."""
        good = package("hello")
        wrapped = good.encrypted_keys["alice"]
        self.assertEqual(
            [
                ("", NOT_FOR_YOU),
                ("", OTHER_KEY),
                ("", DAMAGED),
                ("", DAMAGED),
                ("", NEWER),
                ("hello", ""),
            ],
            self.opened(
                EMPTY,
                replace(good, kids={"alice": "0" * 32}),
                replace(good, encrypted_keys={"alice": bytes([wrapped[0] ^ 1]) + wrapped[1:]}),
                replace(good, encrypted_message=package("another").encrypted_message),
                package("\0{}"),
                good,
            ),
        )

    def test_before_one_joined(self) -> None:
        """What was never sealed for a newcomer is told as that; later ones as not addressed to them."""
        room = Conversation("general", first=5)
        shown = [to_item(Opened(message(seq, package=EMPTY), reason=NOT_FOR_YOU), room, "alice", "") for seq in (5, 6)]
        self.assertEqual(
            [
                "[general] 1 earlier message, from before you joined",
                "[general] 1 message not shown: not addressed to you",
            ],
            [line for item in shown for line in render(item)],
        )

    def test_private(self) -> None:
        """A private message that does not open names the other one."""
        item = to_item(Opened(message(1, room=PM), reason=DAMAGED), Conversation(PM, "bob"), "alice", "")
        self.assertEqual(["[@bob] 1 message not shown: damaged or sealed wrongly"], render(item))

    def test_time(self) -> None:
        """In a history each message has its time."""
        item = to_item(Opened(message(1), "hello"), Conversation("general"), "alice", "", timed=True)
        self.assertEqual(["1970-01-01 00:01 [general] <bob> hello"], render(item, tz=UTC))

    def test_fold(self) -> None:
        """Runs of one reason in one place become one line; what stands between them stays."""
        text = RoomMessage("general", "bob", "hello")
        a, b, c = Unshown("general", 1, "x"), Unshown("general", 2, "y"), Unshown("attic", 1, "x")
        self.assertEqual(
            [Unshown("general", 3, "x"), b, a, text, a, c],
            fold([a, a, a, b, a, text, a, c]),
        )
        self.assertEqual([], fold([]))


class SlowThreadTests(SynchronousTestCase):
    """Tests for a thread that fails."""

    def test_refused_work(self) -> None:
        """A pool that is gone is logged, and does not stop the inbox for ever."""
        host = Host()
        answers: list[Deferred[Any]] = []

        def run(*work: Any) -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        inbox = Inbox(host, run, {})
        inbox.put(message(1))
        inbox.put(message(2))
        answers[0].errback(RuntimeError("no threads"))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        host.conversations["general"].cursor = 1
        answers[1].callback([Opened(message(2), "two")])
        self.assertEqual(["[general] <bob> two"], host.lines)
