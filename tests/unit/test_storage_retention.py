"""Tests for how much is kept, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from securechat.crypto.roomlog import Kick
from securechat.errors import CTR_BEHIND, OVER_QUOTA
from securechat.storage.interface import ConversationRecord, Page
from tests.doubles import StoreCase, new_message, person, private_message

DAY: Final = 24 * 3600 * 1000
BOTH: Final = ("alice", "bob")


class RetentionCase(StoreCase):
    """Tests of alice and bob in the room ops, whose messages are kept for ten days."""

    QUOTAS: dict[str, int] = {"retention": 10}

    def setUp(self) -> None:
        super().setUp()
        self.successResultOf(self.store.close())
        self.store = self.make_store(**self.QUOTAS)
        self.gather(*BOTH)

    def say(self, user: str, number: int, day: int, **changes: Any) -> int:
        """A message of that number, on a day."""
        return self.do(self.store.append(new_message(user, BOTH, number, ts=day * DAY, **changes))).seq

    def trim(self, day: int) -> int:
        """Removes what is too old on a day, as often as there is something; how many."""
        removed = 0
        while some := self.do(self.store.trim(now=day * DAY)):
            removed += some
        return removed

    def record(self, user: str = "alice", since: int | None = None) -> ConversationRecord:
        """Where ops stands for somebody."""
        given = None if since is None else {self.rooms["ops"].log.id: since}
        (record,) = self.do(self.store.conversations(user, given))
        return record

    def page(self, **where: Any) -> Page:
        """A page of the history, as alice reads it."""
        asked = {"after": None, "before": None, "limit": 100, "max_bytes": 1 << 20} | where
        return self.do(self.store.read("alice", "ops", **asked))

    def count(self, table: str) -> int:
        """The rows of a table."""
        return int(self.writer.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def assertWhole(self) -> None:
        """What is counted is what there is, and what a check finds of messages is nothing."""
        connection = self.writer.connection
        sums = connection.execute(
            "SELECT (SELECT sum(bytes) FROM conversation), (SELECT coalesce(sum(size), 0) FROM message),"
            " (SELECT sum(bytes) FROM counter)"
        ).fetchone()
        self.assertEqual(1, len(set(sums)), sums)


class TrimTests(RetentionCase):
    """Tests for the removal of what is too old."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(1, 6):
            self.say("alice", number, number)

    def test_only_what_is_too_old(self) -> None:
        """Messages go on the day after the last on which they are kept, and none before."""
        self.assertEqual([0, 1, 2], [self.trim(day) for day in (11, 12, 14)])
        self.assertEqual([4, 5], [message.seq for message in self.page().messages])
        self.assertWhole()

    def test_numbers_and_places_go_on(self) -> None:
        """A history begins at the place behind the last one removed, and the next message has the next number."""
        before = self.page(after=3)
        self.trim(14)
        page = self.page()
        self.assertEqual(
            (before.start, before.messages, 3, False), (page.start, page.messages, page.trimmed, page.more)
        )
        self.assertEqual(6, self.say("alice", 6, 14))
        self.assertEqual((3, 10), (self.record().trimmed, self.record().kept))

    def test_all_of_them(self) -> None:
        """Of an empty history the place is known, and the next message goes on from it."""
        _, th = self.record().start
        self.assertEqual(5, self.trim(30))
        page = self.page()
        self.assertEqual(([], (5, th), 5), (page.messages, page.start, page.trimmed))
        self.assertEqual((5, th), self.record().start)
        self.assertEqual(6, self.say("bob", 1, 30))
        self.assertEqual((5, th), self.page().start)
        self.assertWhole()

    def test_bodies_and_keys_go(self) -> None:
        """Only the row of each device's newest message is left; and that goes when there is one newer."""
        self.assertEqual((5, 5, 5), tuple(map(self.count, ("message", "segment", "message_keys"))))
        self.trim(30)
        self.assertEqual((1, 0, 0), tuple(map(self.count, ("message", "segment", "message_keys"))))
        self.say("alice", 6, 30)
        self.say("alice", 7, 31)
        self.trim(41)
        self.assertEqual((1, 1, 1), tuple(map(self.count, ("message", "segment", "message_keys"))))

    def test_resent(self) -> None:
        """A device's newest message is known when it comes again, though it was removed."""
        self.trim(30)
        again = self.do(self.store.append(new_message("alice", BOTH, 5, ts=30 * DAY)))
        self.assertEqual((5, True), (again.seq, again.dup))

    def test_lost_count(self) -> None:
        """Where the proof of a device's count was removed it is refused without."""
        self.trim(30)
        self.assertRefused(CTR_BEHIND, self.store.append(new_message("alice", BOTH, 4, mid="ab" * 16)), expected=6)

    def test_cursor_before_it(self) -> None:
        """A reader whose cursor is at something removed goes on behind it; one behind that, from where they were."""
        self.trim(14)
        self.assertEqual([3, 3, 4], [self.record("bob", since).start[0] for since in (0, 3, 4)])

    def test_old_place(self) -> None:
        """An author may name a place that was removed: those who remember it judge that."""
        old = self.page(after=1, limit=1).start
        assert old is not None
        self.trim(14)
        self.assertEqual(6, self.say("alice", 6, 14, th=old))

    def test_acts_of_before(self) -> None:
        """An act that comes again is answered with a place that there still is."""
        signed = self.rooms["ops"].draft(Kick, person("alice"), person("bob"))
        self.do(self.store.act("ops", signed, wait=0.0, now=1))
        again = self.rooms["ops"].events[1]
        self.trim(30)
        placed = self.do(self.store.act("ops", again, wait=0.0, now=1))
        self.assertEqual((True, 5), (placed.dup, placed.start[0]))

    def test_rooms_own(self) -> None:
        """A room's own number wins over the setting; 0 is for ever."""
        self.do(self.store.set_retention("ops", 0))
        self.assertEqual(0, self.trim(1000))
        self.do(self.store.set_retention("ops", 20))
        self.assertEqual([0, 1], [self.trim(day) for day in (21, 22)])
        self.do(self.store.set_retention("ops", None))
        self.assertEqual(3, self.trim(15))

    def test_for_ever(self) -> None:
        """By default nothing goes."""
        self.successResultOf(self.store.close())
        self.store = self.make_store()
        self.assertEqual(0, self.trim(10_000))

    def test_private(self) -> None:
        """Private conversations go by the setting too."""
        self.do(self.store.append(private_message("alice", "bob", mid="cd" * 16, ts=DAY)))
        self.assertEqual(6, self.trim(30))


class SegmentTests(RetentionCase):
    """Tests for messages that were stored together."""

    def test_whole_segments(self) -> None:
        """A segment stays until its last message is too old; many go in several steps."""
        self.say("alice", 1, 1)
        self.burst(2, [1, *(2 for _ in range(3, 202))])
        self.burst(202, [*(2 for _ in range(202, 403)), 9])
        self.assertLess(self.count("segment"), 15)
        self.trim(13)
        left = self.page(limit=1000).messages
        self.assertLess(len(left), 65)
        self.assertEqual(403, left[-1].seq)
        self.assertEqual(left[0].seq - 1, self.record().trimmed)
        self.assertWhole()

    def burst(self, first: int, days: Sequence[int]) -> None:
        """Many messages in one commit, but for the first one."""
        threads, place = self.writer.threads, self.record().start
        threads.held = True
        waiting = [
            self.start(self.store.append(new_message("alice", BOTH, number, ts=day * DAY, th=place)))
            for number, day in enumerate(days, first)
        ]
        while threads.waiting:
            threads.run_next()
        threads.held = False
        for number, one in enumerate(waiting, first):
            self.assertEqual(number, self.successResultOf(one).seq)


class QuotaTests(RetentionCase):
    """Tests for how much there may be."""

    QUOTAS = {"room_quota": 3_000_000, "user_quota": 4_000_000}

    def fill(self, user: str, bytes_: int) -> None:
        """Lets the database say that somebody has stored so much in ops."""
        connection = self.writer.connection
        connection.execute(
            "UPDATE counter SET bytes = ? WHERE account_id = (SELECT id FROM account WHERE name = ?)", (bytes_, user)
        )
        connection.execute("UPDATE conversation SET bytes = ? WHERE name = 'ops'", (bytes_,))
        self.store._at_rest.undone()

    def over(self, user: str, number: int, who: str, limit: int) -> None:
        """The next message of somebody is refused."""
        self.assertRefused(OVER_QUOTA, self.store.append(new_message(user, BOTH, number)), who=who, limit=limit)

    def test_room(self) -> None:
        """A full room takes nothing more, from nobody; one that gets more room does."""
        self.say("alice", 1, 1)
        self.fill("alice", 2_999_999)
        self.over("alice", 2, "ops has", 3)
        self.over("bob", 1, "ops has", 3)
        self.do(self.store.set_room_quota("ops", 5_000_000))
        self.say("bob", 1, 1)
        self.do(self.store.set_room_quota("ops", None))
        self.over("bob", 2, "ops has", 3)
        self.do(self.store.set_room_quota("ops", 0))
        self.say("bob", 2, 1)

    def test_user(self) -> None:
        """Who has stored enough stores nothing more, whatever the room; others do, and so do they with more room."""
        self.do(self.store.set_room_quota("ops", 0))
        self.say("alice", 1, 1)
        self.fill("alice", 3_999_999)
        self.over("alice", 2, "You have", 4)
        self.assertRefused(
            OVER_QUOTA, self.store.append(private_message("alice", "bob", mid="cd" * 16)), who="You have", limit=4
        )
        self.say("bob", 1, 1)
        self.do(self.store.set_user_quota("alice", 0))
        self.say("alice", 2, 1)

    def test_exactly(self) -> None:
        """The message that just fits is taken, the next one is not; also within one commit."""
        self.say("alice", 1, 1)
        size = self.do(self.store.all_rooms())[0].stored
        self.fill("alice", 3_000_000 - 2 * size)
        threads = self.writer.threads
        threads.held = True
        waiting = [self.start(self.store.append(new_message("alice", BOTH, number))) for number in (2, 3, 4)]
        while threads.waiting:
            threads.run_next()
        threads.held = False
        self.assertEqual([2, 3], [self.successResultOf(one).seq for one in waiting[:2]])
        self.failureResultOf(waiting[2])

    def test_what_is_removed_makes_room(self) -> None:
        """What is too old counts no more."""
        self.say("alice", 1, 1)
        before = self.do(self.store.users(1))[0].stored
        self.assertGreater(before, 2 * 384)
        self.do(self.store.set_retention("ops", 1))
        self.trim(5)
        self.assertEqual(0, self.do(self.store.users(1))[0].stored)
        self.assertEqual(0, self.do(self.store.all_rooms())[0].stored)
