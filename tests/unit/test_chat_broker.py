"""Tests for the broker: who is there, who hears what, and that nobody hears anything twice or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from securechat.chat.broker import EVENT_SECONDS, MANY, RoomBroker, Subscription


class MemoryReader:
    """A connection that keeps what it is given, joined as it would be on the wire."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.lines: list[bytes] = []
        self.slow = False

    def deliver(self, lines: bytes) -> None:
        """As Reader's."""
        self.lines.append(lines)


def saying(text: bytes) -> Callable[[str], bytes]:
    """A message with a part for each reader alone."""
    return lambda user: text + b" for " + user.encode()


class PresenceTests(SynchronousTestCase):
    """Tests for who is connected."""

    def setUp(self) -> None:
        self.broker = RoomBroker()
        self.phone, self.laptop = MemoryReader("alice"), MemoryReader("alice")

    def connect(self) -> None:
        """Both are there."""
        for reader in (self.phone, self.laptop):
            self.broker.connect(reader)

    def share(self, *readers: MemoryReader) -> list[bool]:
        """They say that they are there; whether that was news of their user."""
        return [self.broker.share(reader, yes=True) for reader in readers]

    def test_first_and_last_connection(self) -> None:
        """A user comes online with the first connection that says so and goes offline with the last."""
        self.connect()
        self.assertFalse(self.broker.online("alice"))
        self.assertEqual([True, False], self.share(self.phone, self.laptop))
        self.assertTrue(self.broker.online("alice"))
        self.assertEqual([False, True], [self.broker.disconnect(self.phone), self.broker.disconnect(self.laptop)])
        self.assertFalse(self.broker.online("alice"))

    def test_nobody_says_so(self) -> None:
        """Connections that do not say that they are there come and go unnoticed."""
        self.connect()
        self.assertEqual([True], self.share(self.phone))
        self.assertEqual([False, True], [self.broker.disconnect(self.laptop), self.broker.disconnect(self.phone)])

    def test_another_mind(self) -> None:
        """Who says so no more goes offline, unless another connection does; saying it again is no news."""
        self.connect()
        self.assertEqual([True, False, False], self.share(self.phone, self.phone, self.laptop))
        self.assertEqual([False, True], [self.broker.share(one, yes=False) for one in (self.phone, self.laptop)])
        self.assertFalse(self.broker.share(self.laptop, yes=False))

    def test_told(self) -> None:
        """Of who is there hears who says so too, but for who it is about; all hear what came before in its place."""
        quiet, bob = MemoryReader("bob"), MemoryReader("bob")
        ends: list[Callable[[], None]] = []
        self.broker = RoomBroker(ends.append)
        for reader in (self.phone, quiet, bob):
            self.broker.connect(reader)
            self.broker.go_live(self.broker.subscribe(reader, "ops", 0))
        self.share(self.phone, bob)
        self.broker.publish("ops", 1, b"1\n")
        self.broker.announce_presence("ops", b"online\n", skip=self.phone)
        self.broker.publish("ops", 2, b"2\n")
        for end in ends:
            end()
        self.assertEqual(([b"1\nonline\n2\n"], [b"1\n2\n"], [b"1\n2\n"]), (bob.lines, quiet.lines, self.phone.lines))

    def test_told_nobody(self) -> None:
        """Where nobody listens or says that they are there, nothing waits."""
        self.connect()
        self.broker.announce_presence("ops", b"online\n", skip=self.phone)
        self.broker.subscribe(self.laptop, "ops", 0)
        self.broker.announce_presence("ops", b"online\n", skip=self.phone)
        self.assertEqual([], self.laptop.lines)

    def test_readers(self) -> None:
        """All connections of a user, and of no other."""
        bob = MemoryReader("bob")
        for reader in (self.phone, bob, self.laptop):
            self.broker.connect(reader)
        self.assertEqual([self.phone, self.laptop], self.broker.readers_of("alice"))
        self.broker.disconnect(self.phone)
        self.assertEqual(([self.laptop], [bob], []), tuple(map(self.broker.readers_of, ("alice", "bob", "eve"))))

    def test_disconnecting_twice(self) -> None:
        """Who is not connected goes offline no second time, nor takes the others along."""
        self.broker.connect(self.phone)
        self.share(self.phone)
        self.assertFalse(self.broker.disconnect(self.laptop))
        self.assertTrue(self.broker.disconnect(self.phone))
        self.assertFalse(self.broker.disconnect(self.phone))
        self.assertFalse(self.broker.online("alice"))

    def test_nothing_is_left(self) -> None:
        """When everybody is gone, nothing of them is kept."""
        for reader in (self.phone, self.laptop):
            self.broker.connect(reader)
            self.broker.subscribe(reader, "general", 0)
            self.share(reader)
            self.broker.want_typing(reader, yes=True)
        for reader in (self.phone, self.laptop):
            self.broker.disconnect(reader)
        self.assertEqual(5, sum(isinstance(kept, (dict, set)) for kept in vars(self.broker).values()))
        self.assertEqual([], [kept for kept in vars(self.broker).values() if isinstance(kept, (dict, set)) and kept])


class HintTests(SynchronousTestCase):
    """Tests for words that somebody types."""

    def setUp(self) -> None:
        self.broker = RoomBroker(lambda call: None)
        self.typist, self.reader = MemoryReader("alice"), MemoryReader("bob")
        for reader in (self.typist, self.reader):
            self.broker.connect(reader)
            self.broker.want_typing(reader, yes=True)
            self.broker.go_live(self.broker.subscribe(reader, "ops", 0))

    def heard(self) -> list[bytes]:
        """What reaches bob of alice's typing."""
        self.broker.hint("ops", b"typing\n", of="alice")
        self.assertEqual([], self.typist.lines)
        return self.reader.lines

    def test_at_once(self) -> None:
        """It goes out at once, to others alone, and nothing of it waits."""
        self.assertEqual([b"typing\n"], self.heard())

    def test_not_wanted(self) -> None:
        """Who has not asked for it, or not any more, does not get it."""
        self.broker.want_typing(self.reader, yes=False)
        self.assertEqual([], self.heard())

    def test_slow(self) -> None:
        """Who has something else to read does not get it, now or later."""
        self.reader.slow = True
        self.assertEqual([], self.heard())
        self.reader.slow = False
        self.broker.publish("ops", 1, b"1\n")
        self.broker.catch_up(self.reader, "ops")
        self.assertEqual([b"1\n"], self.reader.lines)

    def test_not_live(self) -> None:
        """Who still reads what was missed does not get it."""
        self.broker.subscribe(self.reader, "ops", 0)
        self.assertEqual([], self.heard())

    def test_nobody_listens(self) -> None:
        """In a conversation that nobody listens to it goes nowhere."""
        self.broker.hint("den", b"typing\n", of="alice")
        self.assertEqual([], self.reader.lines)


class TurnTests(SynchronousTestCase):
    """Tests for what is handed out at the end of a turn, all at once."""

    def setUp(self) -> None:
        self.ends: list[Callable[[], None]] = []
        self.broker = RoomBroker(self.ends.append)
        self.sender, self.reader = MemoryReader("alice"), MemoryReader("bob")
        for each in (self.sender, self.reader):
            self.broker.connect(each)
            self.broker.go_live(self.broker.subscribe(each, "ops", 0))

    def end(self) -> None:
        """The turn ends."""
        for call in self.ends:
            call()
        self.ends.clear()

    def test_one_write(self) -> None:
        """Messages that are the same for all readers are one delivery, however many; one call of the turn's does it."""
        for seq in (1, 2, 3):
            self.broker.publish("ops", seq, b"%d\n" % seq)
        self.assertEqual(([], 1), (self.reader.lines, len(self.ends)))
        self.end()
        self.assertEqual([b"1\n2\n3\n"], self.reader.lines)
        self.broker.publish("ops", 4, b"4\n")
        self.end()
        self.assertEqual([b"1\n2\n3\n", b"4\n"], self.reader.lines)

    def test_both_shapes(self) -> None:
        """So are those that differ, in their order among the others."""
        self.broker.publish("ops", 1, b"1\n")
        self.broker.publish("ops", 2, b"", saying(b"2"))
        self.broker.publish("ops", 3, b"3\n")
        self.end()
        self.assertEqual([b"1\n2 for bob3\n"], self.reader.lines)

    def test_sender(self) -> None:
        """A sender is given what came before its own message at once: its reply follows."""
        self.broker.publish("ops", 1, b"1\n")
        self.broker.publish("ops", 2, b"2\n", skip=self.sender)
        self.assertEqual([b"1\n"], self.sender.lines)
        self.broker.publish("ops", 3, b"3\n")
        self.end()
        self.assertEqual([b"1\n", b"3\n"], self.sender.lines)

    def test_event_after_messages(self) -> None:
        """An event that comes after messages is told after them."""
        self.broker.publish("ops", 1, b"1\n")
        self.broker.announce("ops", b"event\n")
        self.end()
        self.assertEqual([b"1\nevent\n"], self.reader.lines)

    def test_events(self) -> None:
        """Events reach who is not live too, but for whom they skip, and only who was there when they happened."""
        behind, about, late = MemoryReader("dave"), MemoryReader("erin"), MemoryReader("frank")
        for reader in (behind, about, late):
            self.broker.connect(reader)
        for reader in (behind, about):
            self.broker.subscribe(reader, "ops", 0)
        self.broker.announce("ops", b"event\n", skip=about)
        self.broker.publish("ops", 1, b"1\n")
        self.broker.subscribe(late, "ops", 1)
        self.broker.announce("ops", b"another\n")
        self.end()
        self.assertEqual([b"event\n1\nanother\n"], self.reader.lines)
        self.assertEqual([b"event\nanother\n"], behind.lines)
        self.assertEqual(([b"another\n"], [b"another\n"]), (late.lines, about.lines[-1:]))
        self.assertNotIn(b"event\n", about.lines)

    def test_at_once(self) -> None:
        """Who is about to be answered is given an event, and all before it, at once; and nothing of it again."""
        self.broker.publish("ops", 1, b"1\n")
        self.broker.announce("ops", b"event\n", at_once=self.sender)
        self.assertEqual([b"1\nevent\n"], self.sender.lines)
        self.broker.publish("ops", 2, b"2\n")
        self.end()
        self.assertEqual([b"1\nevent\n", b"2\n"], self.sender.lines)
        self.broker.publish("ops", 3, b"3\n")
        self.end()
        self.assertEqual(b"3\n", self.sender.lines[-1])

    def test_many_listen(self) -> None:
        """Where many listen, events wait for more of their kind, but no message waits, nor what comes before one."""
        waits: list[tuple[float, Callable[[], None]]] = []
        self.broker = RoomBroker(self.ends.append, lambda seconds, call: waits.append((seconds, call)))
        readers = [MemoryReader(f"user{number}") for number in range(MANY)]
        for reader in readers:
            self.broker.connect(reader)
            self.broker.go_live(self.broker.subscribe(reader, "ops", 0))
        for _ in range(3):
            self.broker.announce("ops", b"event\n")
        self.assertEqual(([], [EVENT_SECONDS]), (self.ends, [seconds for seconds, _ in waits]))
        waits.pop()[1]()
        self.assertEqual([b"event\nevent\nevent\n"], readers[-1].lines)
        self.broker.announce("ops", b"event\n")
        self.broker.publish("ops", 1, b"1\n")
        self.broker.announce("ops", b"another\n")
        self.end()
        self.assertEqual(b"event\n1\nanother\n", readers[-1].lines[-1])
        waits.pop()[1]()
        self.assertEqual(2, len(readers[-1].lines))
        self.broker.unsubscribe(readers[0], "ops")
        self.broker.announce("ops", b"few\n")
        self.end()
        self.assertEqual(([], b"few\n"), (waits, readers[-1].lines[-1]))

    def test_leaving(self) -> None:
        """Who leaves in the turn has had all that came before."""
        self.broker.announce("ops", b"you are out\n")
        self.broker.unsubscribe(self.reader, "ops")
        self.assertEqual([b"you are out\n"], self.reader.lines)
        self.broker.publish("ops", 1, b"1\n")
        self.end()
        self.assertEqual([b"you are out\n"], self.reader.lines)

    def test_gone_live_meanwhile(self) -> None:
        """Who went live in the turn, having read what waits, is not given it again."""
        late = MemoryReader("carol")
        self.broker.connect(late)
        self.broker.publish("ops", 1, b"1\n")
        self.assertTrue(self.broker.go_live(self.broker.subscribe(late, "ops", 1)))
        self.broker.publish("ops", 2, b"2\n")
        self.end()
        self.assertEqual([b"2\n"], late.lines)


class FanOutTests(SynchronousTestCase):
    """Tests for `publish` and the announcements."""

    def setUp(self) -> None:
        self.broker = RoomBroker()

    def listener(self, user: str, *rooms: str, cursor: int = 0, live: bool = True) -> MemoryReader:
        """Somebody who listens to these rooms."""
        reader = MemoryReader(user)
        self.broker.connect(reader)
        for room in rooms:
            subscription = self.broker.subscribe(reader, room, cursor)
            if live:
                self.assertTrue(self.broker.go_live(subscription))
        return reader

    def test_each_gets_their_own_tail(self) -> None:
        """The shared part goes to all, with each user's own entry; several connections of a user get the same."""
        alice, phone, laptop = self.listener("alice", "ops"), self.listener("bob", "ops"), self.listener("bob", "ops")
        self.broker.publish("ops", 1, b"", saying(b"hello"))
        self.assertEqual([b"hello for alice"], alice.lines)
        self.assertEqual([b"hello for bob"], phone.lines)
        self.assertEqual(phone.lines, laptop.lines)

    def test_only_this_conversation(self) -> None:
        """Who listens elsewhere hears nothing; a room without listeners costs nothing."""
        other = self.listener("eve", "general")
        self.broker.publish("ops", 1, b"", saying(b"hello"))
        self.assertEqual([], other.lines)

    def test_skip(self) -> None:
        """The sender's own connection is told by its reply; its other connections are told here."""
        sender, other = self.listener("alice", "ops"), self.listener("alice", "ops")
        self.broker.publish("ops", 1, b"", saying(b"hello"), skip=sender)
        self.assertEqual(([], [b"hello for alice"]), (sender.lines, other.lines))
        subscription = self.broker.subscription(sender, "ops")
        assert subscription is not None
        self.assertEqual(1, subscription.cursor)

    def test_not_twice(self) -> None:
        """What a reader has, by its cursor, it is not given again."""
        reader = self.listener("alice", "ops", cursor=5)
        for seq in (4, 5, 6, 6):
            self.broker.publish("ops", seq, b"", saying(b"%d" % seq))
        self.assertEqual([b"6 for alice"], reader.lines)

    def test_not_live(self) -> None:
        """Who is still catching up is given nothing, and cannot go live over what was published meanwhile."""
        reader = self.listener("alice", "ops", live=False)
        subscription = self.broker.subscription(reader, "ops")
        assert subscription is not None
        self.broker.publish("ops", 1, b"", saying(b"hello"))
        self.assertEqual([], reader.lines)
        self.assertFalse(self.broker.go_live(subscription))
        subscription.cursor = 1
        self.assertTrue(self.broker.go_live(subscription))
        self.broker.publish("ops", 2, b"", saying(b"again"))
        self.assertEqual([b"again for alice"], reader.lines)

    def test_replaced_subscription(self) -> None:
        """A second subscription replaces the first, which is given nothing and changes nothing any more."""
        reader = self.listener("alice", "ops", live=False)
        first = self.broker.subscription(reader, "ops")
        second = self.broker.subscribe(reader, "ops", 0)
        assert first is not None
        self.assertTrue(self.broker.go_live(first))
        self.assertEqual((False, False), (first.live, second.live))
        self.broker.publish("ops", 1, b"", saying(b"hello"))
        self.assertEqual([], reader.lines)
        self.assertIs(second, self.broker.subscription(reader, "ops"))

    def test_unsubscribed(self) -> None:
        """Who left hears nothing more, and leaving twice is harmless."""
        reader, other = self.listener("alice", "ops"), self.listener("bob", "ops")
        for _ in range(2):
            self.broker.unsubscribe(reader, "ops")
        self.broker.publish("ops", 1, b"", saying(b"hello"))
        self.assertEqual(([], [b"hello for bob"]), (reader.lines, other.lines))
        self.assertEqual([], self.broker.conversations_of(reader))
        self.assertIs(None, self.broker.subscription(reader, "ops"))

    def test_live_after_the_end(self) -> None:
        """A subscription that ended meanwhile has nothing more to read, and does not come to life."""
        reader = self.listener("alice", "ops", live=False)
        subscription = self.broker.subscription(reader, "ops")
        assert subscription is not None
        self.broker.publish("ops", 1, b"", saying(b"hello"))
        self.broker.unsubscribe(reader, "ops")
        self.assertTrue(self.broker.go_live(subscription))
        self.assertFalse(subscription.live)

    def test_disconnected(self) -> None:
        """Who is gone hears nothing more anywhere."""
        reader = self.listener("alice", "ops", "general")
        self.broker.disconnect(reader)
        for room in ("ops", "general"):
            self.broker.publish(room, 1, b"", saying(b"hello"))
            self.broker.announce(room, b"event")
        self.assertEqual(([], []), (reader.lines, self.broker.conversations_of(reader)))

    def test_announce(self) -> None:
        """An event reaches everybody who listens, live or not, but for the one it is about."""
        live, behind = self.listener("alice", "ops"), self.listener("bob", "ops", live=False)
        about, elsewhere = self.listener("carol", "ops"), self.listener("dave", "general")
        self.broker.announce("ops", b"joined", skip=about)
        self.broker.announce("nobody-is-here", b"joined")
        self.assertEqual([[b"joined"], [b"joined"], [], []], [one.lines for one in (live, behind, about, elsewhere)])

    def test_listeners(self) -> None:
        """Everybody who listens to any of some conversations, each once."""
        both, one = self.listener("alice", "ops", "general"), self.listener("bob", "general")
        self.listener("carol", "elsewhere")
        self.assertEqual([both, one], self.broker.listeners(["ops", "general", "nobody-is-here"]))
        self.broker.announce_to([both, one], b"keys", skip=both)
        self.assertEqual(([], [b"keys"]), (both.lines, one.lines))

    def test_conversations(self) -> None:
        """What a reader listens to."""
        reader = self.listener("alice", "ops", "general")
        self.assertEqual({"ops", "general"}, set(self.broker.conversations_of(reader)))
        self.assertEqual([], self.broker.conversations_of(MemoryReader("eve")))

    def test_audience_forgotten_and_made_again(self) -> None:
        """Where the last listener left, the next one starts from the history, not from what was published once."""
        first = self.listener("alice", "ops")
        self.broker.publish("ops", 7, b"", saying(b"hello"))
        self.broker.unsubscribe(first, "ops")
        late = self.listener("bob", "ops", cursor=7)
        self.broker.publish("ops", 8, b"", saying(b"again"))
        self.assertEqual([b"again for bob"], late.lines)


WALKS, STEPS = 400, 60  # as many as find, several times over, each fault that was put in to try


class ClientReader:
    """A client's connection: what it is given is the client's.

    Attributes:
        last: the newest message when that was looked up, after subscribing; None before.
        page: one that was read and has not arrived yet.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.user = client.user
        self.subscription: Subscription | None = None
        self.last: int | None = None
        self.page: list[int] | None = None

    def deliver(self, lines: bytes) -> None:
        """As Reader's."""
        for line in lines.decode().splitlines():
            seq, user = line.split()
            assert user in (self.user, "everybody")
            self.client.given.append(int(seq))


class Client:
    """One client: what it was ever given, and the connection it has, if any."""

    def __init__(self, conversation: Conversation, user: str) -> None:
        self.conversation = conversation
        self.broker = conversation.broker
        self.user = user
        self.start: int | None = None
        self.given: list[int] = []
        self.reader: ClientReader | None = None

    def actions(self) -> Iterator[Callable[[], object]]:
        """What may happen to this client next."""
        reader = self.reader
        if reader is None:
            yield self.connect
            return
        yield self.disconnect
        subscription = reader.subscription
        if subscription is None:
            yield self.subscribe
            return
        yield self.unsubscribe
        yield self.look_up
        if reader.page is not None:
            yield self.page_arrives
        elif not subscription.live:
            yield self.read_page
        if not subscription.live and reader.last is not None and subscription.cursor >= reader.last:
            yield lambda: self.broker.go_live(subscription)

    def connect(self) -> None:
        """It comes, or comes back on a new connection."""
        self.reader = ClientReader(self)
        self.broker.connect(self.reader)

    def disconnect(self) -> None:
        """Its connection is lost, with the page on its way."""
        assert self.reader
        self.broker.disconnect(self.reader)
        self.reader = None

    def subscribe(self) -> None:
        """It says how far it has got; at first, that it starts at the end."""
        assert self.reader
        if self.start is None:
            self.start = self.conversation.stored
        cursor = self.given[-1] if self.given else self.start
        self.reader.subscription = self.broker.subscribe(self.reader, "ops", cursor)

    def unsubscribe(self) -> None:
        """It leaves; the page on its way is thrown away."""
        assert self.reader
        self.broker.unsubscribe(self.reader, "ops")
        self.reader.subscription = self.reader.last = self.reader.page = None

    def look_up(self) -> None:
        """The server looks up where the conversation stands, for somebody who subscribes to it already."""
        assert self.reader
        self.reader.last = self.conversation.stored

    def read_page(self) -> None:
        """A page is read from what is stored now."""
        assert self.reader and self.reader.subscription
        after = self.reader.subscription.cursor
        self.reader.page = list(range(after + 1, self.conversation.stored + 1)[:2])

    def page_arrives(self) -> None:
        """It arrives, perhaps much later."""
        assert self.reader and self.reader.subscription and self.reader.page is not None
        for seq in self.reader.page:
            if seq > self.reader.subscription.cursor:
                self.reader.subscription.cursor = seq
                self.reader.deliver(b"%d everybody\n" % seq)
        self.reader.page = None


class Conversation:
    """Messages stored, published, read back and heard by several clients, in any order that can be.

    A message is stored before it is published. Pages are read from what is stored, and arrive later than they were
    read. A client that comes back says how far it has got.
    """

    def __init__(self, clients: int) -> None:
        self.ends: list[Callable[[], None]] = []
        self.broker = RoomBroker(self.ends.append)
        self.stored = self.published = 0
        self.clients = [Client(self, user) for user in ("alice", "bob", "alice")[:clients]]

    def actions(self) -> Iterator[Callable[[], object]]:
        """What may happen next."""
        yield self.store
        if self.ends:
            yield self.turn_ends
        if self.published < self.stored:
            yield lambda: self.publish(None)
            for client in self.clients:
                if client.reader is not None:
                    yield lambda reader=client.reader: self.publish(reader)
        for client in self.clients:
            yield from client.actions()

    def store(self) -> None:
        """A commit."""
        self.stored += 1

    def publish(self, sender: ClientReader | None) -> None:
        """The oldest message that is stored and not published; a sender that is live knows it from its reply."""
        self.published += 1
        seq = self.published
        subscription = sender and sender.subscription
        told = subscription and subscription.live and subscription.cursor < seq
        if seq % 3:
            self.broker.publish("ops", seq, b"%d everybody\n" % seq, skip=sender)
        else:
            self.broker.publish("ops", seq, b"", lambda user: f"{seq} {user}\n".encode(), skip=sender)
        if sender is not None and told:
            sender.client.given.append(seq)

    def turn_ends(self) -> None:
        """What was published is handed out."""
        for call in self.ends:
            call()
        self.ends.clear()

    def come_to_rest(self) -> None:
        """All that is stored is published, and everybody who listens reads to the end."""
        while self.published < self.stored:
            self.publish(None)
        self.turn_ends()
        for client in self.clients:
            while client.reader and (subscription := client.reader.subscription) and not subscription.live:
                for step in (client.page_arrives, client.look_up):
                    if step in list(client.actions()):
                        step()
                if not (subscription.cursor >= self.stored and self.broker.go_live(subscription)):
                    client.read_page()


class NoGapNoDoubleTests(SynchronousTestCase):
    """The promise of the broker, under every order of events."""

    def test_every_interleaving(self) -> None:
        """Each reader is given each message once and in order, whatever storing, publishing and reading do."""
        for seed in range(WALKS):
            self.walk(Conversation(1 + seed % 3), random.Random(seed))

    def walk(self, conversation: Conversation, rng: random.Random) -> None:
        """One thing after another that may happen, drawn by lot; then everything comes to rest."""
        for _ in range(STEPS):
            rng.choice(list(conversation.actions()))()
            for client in conversation.clients:
                start = client.start or 0
                self.assertEqual(list(range(start + 1, start + 1 + len(client.given))), client.given)
        conversation.come_to_rest()
        for client in conversation.clients:
            if client.reader and client.reader.subscription and client.start is not None:
                self.assertEqual(list(range(client.start + 1, conversation.stored + 1)), client.given)
