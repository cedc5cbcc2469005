"""Messages in the store: appended in order, for the right readers, and read back unaltered."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from securechat.errors import (
    BAD_AUDIENCE,
    DAMAGED,
    INTERNAL,
    MID_CONFLICT,
    NO_SUCH_ROOM,
    NOT_MEMBER,
    OUT_OF_TURN,
    STALE_HEAD,
    STALE_KEYS,
    Refused,
)
from securechat.storage.interface import Appended, MessageRow, Page
from tests.doubles import (
    StoreCase,
    device,
    hex_id,
    kid,
    new_keys,
    new_message,
    private_message,
    wrapped,
)

BOTH = ["alice", "bob"]


class AppendTests(StoreCase):
    """Tests for `append`: what is stored, and each refusal."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)

    def last(self, room: str = "ops") -> int:
        return next(record.last for record in self.do(self.store.conversations("alice")) if record.room == room)

    def test_numbers(self) -> None:
        """Messages of all senders share one row of numbers without gaps, from 1."""
        order = [("alice", 1), ("bob", 1), ("bob", 2), ("alice", 2)]
        seqs = [self.do(self.store.append(new_message(user, BOTH, ctr))).seq for user, ctr in order]
        self.assertEqual([1, 2, 3, 4], seqs)

    def test_refused_one_takes_no_number(self) -> None:
        """A refusal uses up neither a number of the room nor one of the device."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        self.assertRefused(OUT_OF_TURN, self.store.append(new_message("alice", BOTH, 3)), expected=2)
        self.assertEqual(2, self.do(self.store.append(new_message("alice", BOTH, 2))).seq)

    def test_answer(self) -> None:
        """The answer says where the message is and when it arrived."""
        message = new_message("alice", BOTH, ts=77)
        self.assertEqual(Appended(1, 77), self.do(self.store.append(message)))

    def test_resent(self) -> None:
        """The same message again is no error and stored once; it keeps its first place and time."""
        self.do(self.store.append(new_message("alice", BOTH, ts=77)))
        again = self.do(self.store.append(new_message("alice", BOTH, ts=99)))
        self.assertEqual(Appended(1, 77, dup=True), again)
        self.assertEqual(1, self.last())

    def test_resent_whatever_holds_now(self) -> None:
        """A resend is answered after a rekey, at a stale head, and even after leaving."""
        message = new_message("alice", BOTH)
        self.do(self.store.append(message))
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=1))
        self.assertTrue(self.do(self.store.append(message)).dup)
        self.do(self.store.leave("bob", "ops", 1))
        self.assertTrue(self.do(self.store.append(message)).dup)
        self.do(self.store.leave("alice", "ops", 1))
        self.assertTrue(self.do(self.store.append(message)).dup)

    def test_mid_conflict(self) -> None:
        """Another body under the same mid is refused before anything else is looked at."""
        message = new_message("alice", BOTH)
        self.do(self.store.append(message))
        other = new_message("alice", ["alice"], mid=message.mid, shared=b"other", ctr=9, head=9)
        self.assertRefused(MID_CONFLICT, self.store.append(other))

    def test_mid_conflict_across_rooms(self) -> None:
        """The same mid and body in another room is another message: `dup` would name a wrong place."""
        for user in BOTH:
            self.do(self.store.join(user, "more", 1))
        self.do(self.store.append(new_message("alice", BOTH)))
        self.assertRefused(MID_CONFLICT, self.store.append(new_message("alice", BOTH, room="more")))

    def test_mid_is_the_devices_own(self) -> None:
        """Two senders, or two devices of one, may use the same mid."""
        mid = hex_id("shared")
        for user, number in (("alice", 1), ("bob", 1), ("alice", 2)):
            message = new_message(user, BOTH, mid=mid, device=device(user, number), ctr=1)
            self.assertFalse(self.do(self.store.append(message)).dup)

    def test_no_such_room(self) -> None:
        """A room is not made by talking in it."""
        verb = self.store.append(new_message("alice", BOTH, room="none"))
        self.assertRefused(NO_SUCH_ROOM, verb, room="none")

    def test_not_member(self) -> None:
        """Only members talk in a room; that is said before the head is judged."""
        self.register("carol")
        message = new_message("carol", [*BOTH, "carol"], head=99)
        self.assertRefused(NOT_MEMBER, self.store.append(message), room="ops")

    def test_stale_head(self) -> None:
        """A message for other members than the present ones is refused with the head to seal for."""
        message = new_message("alice", BOTH)
        self.register("carol")
        self.do(self.store.join("carol", "ops", 1))
        self.assertRefused(STALE_HEAD, self.store.append(message), room="ops", head=3)

    def test_head_from_the_future(self) -> None:
        """A head that the room has not reached is as wrong as an old one."""
        self.assertRefused(STALE_HEAD, self.store.append(new_message("alice", BOTH, head=3)), room="ops", head=2)

    def test_bad_audience(self) -> None:
        """One reader too few and one too many are refused."""
        self.register("mallory")
        for readers in (["alice"], [*BOTH, "mallory"], ["alice", "mallory"], []):
            message = new_message("alice", readers, head=2)
            self.assertRefused(BAD_AUDIENCE, self.store.append(message), room="ops")

    def test_audience_after_a_message(self) -> None:
        """The audience is checked for the second message as for the first."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        message = new_message("alice", ["alice"], 2, head=2)
        self.assertRefused(BAD_AUDIENCE, self.store.append(message), room="ops")

    def test_keys_of_other_readers(self) -> None:
        """Wrapped keys for others than `kids` names are refused: the slots would be of the wrong readers."""
        message = new_message("alice", BOTH, wrapped={"alice": b"a" * 384})
        self.assertRefused(BAD_AUDIENCE, self.store.append(message), room="ops")

    def test_slot_of_another_size(self) -> None:
        """Two wrapped keys of wrong sizes that add up right are the caller's mistake: nothing is stored."""
        message = new_message("alice", BOTH, wrapped={"alice": b"a" * 383, "bob": b"b" * 385})
        self.assertRefused(INTERNAL, self.store.append(message))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual(0, self.last())

    def test_stale_keys(self) -> None:
        """All whose key is not the newest are named, in order."""
        for user in ("bob", "alice"):
            keys = new_keys(user, 2, rk_kid=kid(user, 2))
            self.do(self.store.publish(user, keys, backup=None, now=1))
        self.assertRefused(STALE_KEYS, self.store.append(new_message("alice", BOTH)), users=("alice", "bob"))
        mixed = new_message("alice", BOTH, kids={"alice": kid("alice"), "bob": kid("bob", 2)})
        self.assertRefused(STALE_KEYS, self.store.append(mixed), users=("alice",))

    def test_out_of_turn(self) -> None:
        """A device counts its messages in each conversation from 1 without gaps."""
        for ctr in (2, 3):
            self.assertRefused(OUT_OF_TURN, self.store.append(new_message("alice", BOTH, ctr)), expected=1)
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        for ctr in (1, 3):
            message = new_message("alice", BOTH, ctr, mid=hex_id("fresh", ctr))
            self.assertRefused(OUT_OF_TURN, self.store.append(message), expected=2)

    def test_counters_are_apart(self) -> None:
        """Each device counts for itself, and in each conversation anew."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        for message in (
            new_message("alice", BOTH, 1, device=device("alice", 2)),
            new_message("bob", BOTH, 1),
            private_message("alice", "bob", 1, mid=hex_id("private")),
        ):
            self.assertFalse(self.do(self.store.append(message)).dup)

    def test_order_of_checks(self) -> None:
        """Where everything is wrong at once, mending one thing shows the next, in the documented order."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        self.register("carol")
        wrong: dict[str, Any] = {
            "mid": new_message("alice", BOTH, 1).mid,
            "head": 7,
            "shared": b"other",
            "kids": {"alice": "0" * 32},
            "wrapped": {"alice": b"w" * 384},
            "ctr": 9,
        }
        stale = {"kids": {"alice": kid("alice"), "bob": "0" * 32}, "wrapped": dict.fromkeys(BOTH, b"w" * 384)}
        mended: list[dict[str, Any]] = [
            {},
            {"mid": hex_id("fresh"), "sender": "carol", "device": device("carol")},
            {"sender": "alice", "device": device("alice")},
            {"head": 2},
            stale,
            {"kids": {user: kid(user) for user in BOTH}},
            {"ctr": 2},
        ]
        seen = []
        for step in mended:
            wrong |= step
            seen.append(self.result_of(self.store.append(new_message("alice", BOTH, **wrong))))
        codes = [
            MID_CONFLICT,
            NOT_MEMBER,
            STALE_HEAD,
            BAD_AUDIENCE,
            STALE_KEYS,
            OUT_OF_TURN,
            Appended(2, 1_000_001),
        ]
        self.assertEqual(codes, seen)

    def result_of(self, verb: Coroutine[Deferred[Any], Any, Appended]) -> object:
        """The code with which a verb is refused, or what it answers."""

        def code(failure: Failure) -> object:
            assert isinstance(failure.value, Refused)
            return failure.value.code

        return self.successResultOf(self.start(verb).addErrback(code))

    def test_one_audience_for_many_messages(self) -> None:
        """Who a message is for is stored once a conversation, not once a message."""
        count = "SELECT count(*) FROM audience"
        for number in (1, 2):
            self.do(self.store.append(new_message("alice", BOTH, number)))
        self.assertEqual((1,), self.writer.connection.execute(count).fetchone())
        self.do(self.store.leave("bob", "ops", 1))
        self.do(self.store.append(new_message("alice", ["alice"], 3, head=3)))
        self.assertEqual((2,), self.writer.connection.execute(count).fetchone())
        self.do(self.store.join("bob", "ops", 1))
        self.do(self.store.append(new_message("alice", BOTH, 4, head=4)))
        self.assertEqual((2,), self.writer.connection.execute(count).fetchone())

    def test_members_are_not_asked_for_each_message(self) -> None:
        """While members and keys stay the same, storing a message does not query them."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        statements: list[str] = []
        self.writer.connection.set_trace_callback(statements.append)
        self.do(self.store.append(new_message("alice", BOTH, 2)))
        self.assertTrue(statements)
        self.assertEqual([], [sql for sql in statements if " member " in sql or "audience " in sql.split(" (")[0]])


class PrivateTests(StoreCase):
    """Tests for private conversations."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob", "carol")

    def test_made_by_its_first_message(self) -> None:
        """The first message makes it, for both; whoever writes second finds it."""
        first = self.do(self.store.append(private_message("alice", "bob")))
        self.assertEqual(Appended(1, 1_000_001, fresh_conversation=True), first)
        second = self.do(self.store.append(private_message("bob", "alice")))
        self.assertEqual(Appended(2, 1_000_001), second)

    def test_head_is_ignored(self) -> None:
        """A private conversation has no head to be stale."""
        self.do(self.store.append(private_message("alice", "bob", 1, head=5)))
        self.do(self.store.append(private_message("alice", "bob", 2, head=6)))

    def test_exactly_two_readers(self) -> None:
        """It is sealed for the two and nobody else; a refused first message makes nothing."""
        for readers in (["alice"], ["bob"], ["alice", "bob", "carol"]):
            message = private_message(
                "alice",
                "bob",
                kids={user: kid(user) for user in readers},
                wrapped=dict.fromkeys(readers, b"w" * 384),
            )
            self.assertRefused(BAD_AUDIENCE, self.store.append(message), room=message.room)
        self.assertEqual([], self.do(self.store.conversations("alice")))

    def test_newest_keys(self) -> None:
        """The newest keys count here too."""
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=1))
        self.assertRefused(STALE_KEYS, self.store.append(private_message("alice", "bob")), users=("bob",))

    def test_refused_first_message_leaves_no_trace(self) -> None:
        """The next conversation may get the number of one that was refused; its people are its own."""
        refused = private_message("alice", "bob", ctr=2)
        self.assertRefused(OUT_OF_TURN, self.store.append(refused), expected=1)
        self.assertTrue(self.do(self.store.append(private_message("bob", "carol"))).fresh_conversation)
        self.do(self.store.append(private_message("carol", "bob")))
        self.assertEqual([], self.do(self.store.conversations("alice")))

    def test_without_a_peer(self) -> None:
        """A message that does not say to whom makes no conversation, but continues one."""
        message = private_message("alice", "bob", peer=None)
        self.assertRefused(NO_SUCH_ROOM, self.store.append(message), room=message.room)
        self.do(self.store.append(private_message("bob", "alice")))
        self.assertEqual(2, self.do(self.store.append(message)).seq)


class ReadTests(StoreCase):
    """Tests for `read`."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        for number in range(1, 6):
            self.do(self.store.append(new_message("alice", BOTH, number)))

    def read(self, user: str = "alice", **how: int) -> Page:
        where: dict[str, Any] = {"after": None, "before": None, "limit": 50, "max_bytes": 10**6}
        return self.do(self.store.read(user, "ops", **where | how))

    def seqs(self, **how: int) -> tuple[list[int], bool]:
        page = self.read("alice", **how)
        return [row.seq for row in page.messages], page.more

    def test_row(self) -> None:
        """A message comes back byte for byte, with the reader's own key and no other."""
        sent = new_message("alice", BOTH, 1)
        expected = MessageRow(
            "ops",
            1,
            "alice",
            sent.device,
            sent.mid,
            sent.ts,
            sent.shared,
            kid("bob"),
            wrapped(sent.mid, "bob"),
        )
        self.assertEqual([expected], list(self.read("bob", after=0, limit=1).messages))

    def test_slots_follow_names(self) -> None:
        """Each reader gets their own slot, in whatever order the sender named them."""
        members = ["zoe", "alice", "bob"]
        self.register("zoe")
        self.do(self.store.join("zoe", "ops", 1))
        message = new_message("bob", members, 1)
        self.do(self.store.append(message))
        for user in members:
            (row,) = self.read(user, limit=1).messages
            self.assertEqual((kid(user), wrapped(message.mid, user)), (row.kid, row.wrapped))

    def test_newest(self) -> None:
        """Without a place, the newest come, oldest first; `more` says that older ones are there."""
        self.assertEqual(([4, 5], True), self.seqs(limit=2))
        self.assertEqual(([1, 2, 3, 4, 5], False), self.seqs(limit=5))

    def test_before(self) -> None:
        """Backwards: the newest below the place, oldest first."""
        self.assertEqual(([2, 3], True), self.seqs(before=4, limit=2))
        self.assertEqual(([1, 2, 3], False), self.seqs(before=4, limit=3))
        self.assertEqual(([], False), self.seqs(before=1))

    def test_after(self) -> None:
        """Forwards: the oldest above the place."""
        self.assertEqual(([3, 4], True), self.seqs(after=2, limit=2))
        self.assertEqual(([3, 4, 5], False), self.seqs(after=2, limit=3))
        self.assertEqual(([], False), self.seqs(after=5))
        self.assertEqual(([1], True), self.seqs(after=0, limit=1))

    def test_max_bytes(self) -> None:
        """A page ends before the message that does not fit, its wrapped key counted, in both directions."""
        size = len(new_message("alice", BOTH, 1).shared) + 384
        self.assertEqual(([1, 2], True), self.seqs(after=0, max_bytes=2 * size))
        self.assertEqual(([1], True), self.seqs(after=0, max_bytes=2 * size - 1))
        self.assertEqual(([4, 5], True), self.seqs(max_bytes=2 * size))
        self.assertEqual(([5], True), self.seqs(max_bytes=2 * size - 1))
        self.assertEqual(([1, 2, 3, 4, 5], False), self.seqs(max_bytes=5 * size))

    def test_one_at_least(self) -> None:
        """A message that alone is bigger than a page comes alone."""
        self.assertEqual(([1], True), self.seqs(after=0, max_bytes=1))

    def test_paging(self) -> None:
        """Page after page, both ways, each message comes once."""
        forward: list[int] = []
        at = 0
        while page := self.read(after=at, limit=2).messages:
            forward += [row.seq for row in page]
            at = page[-1].seq
        backward: list[int] = []
        at = 6
        while page := self.read(before=at, limit=2).messages:
            backward = [row.seq for row in page] + backward
            at = page[0].seq
        self.assertEqual(([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), (forward, backward))

    def test_not_sealed_for_the_reader(self) -> None:
        """What was said before one joined comes without a key."""
        self.register("carol")
        self.do(self.store.join("carol", "ops", 1))
        self.do(self.store.append(new_message("bob", [*BOTH, "carol"], 1)))
        old, new = self.read("carol", limit=2).messages
        self.assertEqual((None, None), (old.kid, old.wrapped))
        self.assertEqual((kid("carol"), True), (new.kid, new.wrapped is not None))

    def test_key_of_its_time(self) -> None:
        """The kid beside a message is the one it was sealed for, not the newest."""
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=1))
        kids = {"alice": kid("alice"), "bob": kid("bob", 2)}
        self.do(self.store.append(new_message("alice", BOTH, 6, kids=kids)))
        self.assertEqual([kid("bob"), kid("bob", 2)], [row.kid for row in self.read("bob", limit=2).messages])

    def test_only_members(self) -> None:
        """History is for members."""
        self.register("carol")
        for room, code in (("ops", NOT_MEMBER), ("none", NO_SUCH_ROOM)):
            verb = self.store.read("carol", room, after=None, before=None, limit=1, max_bytes=1)
            self.assertRefused(code, verb, room=room)

    def test_empty(self) -> None:
        """A room in which nobody spoke has an empty page."""
        self.do(self.store.join("alice", "quiet", 1))
        verb = self.store.read("alice", "quiet", after=None, before=None, limit=9, max_bytes=9)
        self.assertEqual(Page([], False), self.do(verb))


class DamageTests(StoreCase):
    """Tests for rows that somebody changed in the file: refused, never shown, and the operator is told."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        for user in BOTH:
            self.do(self.store.join(user, "more", 1))
        for number in (1, 2):
            self.do(self.store.append(new_message("alice", BOTH, number)))
        self.do(self.store.append(new_message("bob", BOTH, 1, room="more")))
        self.successResultOf(self.store.close())
        self.whole = self.path.read_bytes()

    def read(self) -> Coroutine[Deferred[Any], Any, Page]:
        return self.store.read("bob", "ops", after=None, before=None, limit=9, max_bytes=10**6)

    def damage(self, sql: str) -> None:
        """Changes a fresh copy of the file behind the store's back."""
        self.path = Path(self.mktemp())
        self.path.write_bytes(self.whole)
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertNotEqual(0, connection.execute(sql).rowcount)
            connection.commit()
        self.store = self.make_store()

    def assertRefusedAfter(self, *statements: str) -> None:
        """Each of the changes, alone, makes the room's history refused."""
        for sql in statements:
            self.damage(sql)
            with capturedLogs() as events:
                self.assertRefused(DAMAGED, self.read(), room="ops")
            self.assertEqual(["ops"], [event["room"] for event in events if "room" in event], sql)

    def test_whole(self) -> None:
        """A change that touches no row of the room leaves it readable."""
        self.damage("UPDATE account SET suspended = 1 WHERE name = 'alice'")
        self.assertEqual([1, 2], [row.seq for row in self.do(self.read()).messages])

    def test_moved(self) -> None:
        """A row put at another place of the room, or into another room, is refused."""
        self.assertRefusedAfter(
            "UPDATE message SET seq = 3 WHERE id = 2",
            "UPDATE message SET conversation_id = 1, seq = 3 WHERE id = 3",
        )

    def test_swapped(self) -> None:
        """A row that holds another row's token is refused, from the same room or another."""
        self.assertRefusedAfter(
            "UPDATE message SET sealed = (SELECT sealed FROM message WHERE id = 2) WHERE id = 1",
            "UPDATE message SET sealed = (SELECT sealed FROM message WHERE id = 3) WHERE id = 1",
        )

    def test_relabelled(self) -> None:
        """A row of another sender, device, mid or time than was stored is refused."""
        self.assertRefusedAfter(
            "UPDATE message SET sender_id = 2 WHERE id = 1",
            "UPDATE message SET device = zeroblob(16) WHERE id = 1",
            "UPDATE message SET mid = zeroblob(16) WHERE id = 1",
            "UPDATE message SET ts = ts + 1 WHERE id = 1",
        )

    def test_edited(self) -> None:
        """An altered token, or one said to be under another data key, is refused."""
        self.assertRefusedAfter(
            "UPDATE message SET sealed = CAST(substr(sealed, 1, length(sealed) - 8) || 'AAAAAAA=' AS BLOB)"
            " WHERE id = 1",
            "UPDATE message SET dek_id = 99 WHERE id = 1",
        )

    def test_audience(self) -> None:
        """An audience that is gone, altered or another room's is refused."""
        self.assertRefusedAfter(
            "DELETE FROM audience WHERE id = 1",
            "UPDATE audience SET rcp = zeroblob(32) WHERE id = 1",
            "UPDATE audience SET sealed = (SELECT sealed FROM audience WHERE id = 2) WHERE id = 1",
            "UPDATE message SET audience_id = 2 WHERE id = 1",
        )

    def test_cached_audience(self) -> None:
        """Another room's audience is refused also where a reader of that room brought it into memory."""
        self.damage("UPDATE message SET audience_id = 2 WHERE id = 1")
        verb = self.store.read("bob", "more", after=None, before=None, limit=9, max_bytes=10**6)
        self.assertEqual(1, len(self.do(verb).messages))
        self.assertRefused(DAMAGED, self.read(), room="ops")

    def test_keys(self) -> None:
        """Wrapped keys that are gone or cut short are refused."""
        self.assertRefusedAfter(
            "DELETE FROM message_keys WHERE message_id = 1",
            "UPDATE message_keys SET slots = substr(slots, 1, 384) WHERE message_id = 1",
            "UPDATE message_keys SET slots = substr(slots, 1, 767) WHERE message_id = 1",
        )
