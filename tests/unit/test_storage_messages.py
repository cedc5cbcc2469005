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

from securechat.crypto.atrest import RowSealer
from securechat.crypto.envelope import audience, audience_digest
from securechat.crypto.identity import private_conversation
from securechat.crypto.roomlog import Ban, ChangePolicy, ChangeTopic, Invite, Join, Kick, Leave, Mute, Unmute
from securechat.crypto.transcript import next_th, transcript_start
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_HEADER,
    CTR_BEHIND,
    DAMAGED,
    INTERNAL,
    MID_CONFLICT,
    MUTED,
    NO_SUCH_ROOM,
    NO_SUCH_USER,
    NOT_MEMBER,
    OUT_OF_TURN,
    STALE_HEAD,
    STALE_KEYS,
    TRY_AGAIN,
    UNKNOWN_AUDIENCE,
    Refused,
)
from securechat.storage.interface import Appended, Backup, MessageRow, Page, Session
from securechat.storage.queries import messages as queries
from tests.doubles import (
    Person,
    StoreCase,
    device,
    hex_id,
    kid,
    long_id,
    new_account,
    new_keys,
    new_message,
    no_commit,
    pair,
    person,
    private_message,
    room_place,
    wrapped,
)

BOTH = ["alice", "bob"]
WRITES = ("INSERT", "UPDATE", "DELETE")


class AppendTests(StoreCase):
    """Tests for `append`: what is stored, and when it is refused."""

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
        """The answer says where the message is, when it arrived, and behind how many room events."""
        message = new_message("alice", BOTH, ts=77)
        self.assertEqual(Appended(1, 77, events=2), self.do(self.store.append(message)))
        self.act(ChangeTopic, person("alice"), topic=b"new")
        self.assertEqual(3, self.do(self.store.append(new_message("alice", BOTH, 2))).events)

    def test_resent(self) -> None:
        """The same message again is no error and stored once; it keeps its first place and time."""
        self.do(self.store.append(new_message("alice", BOTH, ts=77)))
        self.act(ChangeTopic, person("alice"), topic=b"new")
        again = self.do(self.store.append(new_message("alice", BOTH, ts=99)))
        self.assertEqual(Appended(1, 77, events=2, dup=True), again)
        self.assertEqual(1, self.last())

    def test_resent_whatever_holds_now(self) -> None:
        """A resend is answered after a rekey, after a kick, and even after leaving."""
        message = new_message("alice", BOTH)
        self.do(self.store.append(message))
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=1))
        self.assertTrue(self.do(self.store.append(message)).dup)
        self.act(Kick, person("alice"), person("bob"))
        self.assertTrue(self.do(self.store.append(message)).dup)
        self.act(Leave, person("alice"))
        self.assertTrue(self.do(self.store.append(message)).dup)

    def test_mid_conflict(self) -> None:
        """Another body under the same mid is refused before anything else is looked at."""
        message = new_message("alice", BOTH)
        self.do(self.store.append(message))
        other = new_message("alice", ["alice"], mid=message.header.mid, shared=b"other", ctr=9, head="")
        self.assertRefused(MID_CONFLICT, self.store.append(other))

    def test_mid_conflict_across_rooms(self) -> None:
        """The same mid and body in another room is another message: `dup` would name a wrong place."""
        self.meet(*BOTH, room="more")
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

    def test_other_room(self) -> None:
        """A header that names another room than the one it is sent to is refused."""
        message = new_message("alice", BOTH, place=(long_id("other"), self.rooms["ops"].log.head))
        self.assertRefused(BAD_HEADER, self.store.append(message), why="it is of another conversation")

    def test_not_member(self) -> None:
        """Only members talk in a room; that is said before the head is judged."""
        self.register("carol")
        message = self.said("carol", [*BOTH, "carol"], head=long_id("unknown"))
        self.assertRefused(NOT_MEMBER, self.store.append(message), room="ops")

    def test_other_identity(self) -> None:
        """Who has another identity by now is no member any more."""
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertRefused(NOT_MEMBER, self.store.append(new_message("bob", BOTH)), room="ops")

    def test_wrong_list(self) -> None:
        """The sender must know their own newest list: its number and its digest."""
        version, digest = person("alice").dl
        for wrong in ((version + 1, digest), (version, long_id("other"))):
            self.assertRefused(STALE_KEYS, self.store.append(new_message("alice", BOTH, dl=wrong)), users=("alice",))

    def test_out_of_turn(self) -> None:
        """A device counts its messages in each conversation from 1 without gaps."""
        for ctr in (2, 3):
            self.assertRefused(OUT_OF_TURN, self.store.append(new_message("alice", BOTH, ctr)), expected=1)
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        self.assertRefused(OUT_OF_TURN, self.store.append(new_message("alice", BOTH, 3)), expected=2)

    def test_wrong_previous(self) -> None:
        """A message that follows another than the device's last is out of turn, the first one too."""
        verb = self.store.append(new_message("alice", BOTH, 1, prev=long_id("none")))
        self.assertRefused(OUT_OF_TURN, verb, expected=1)
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        for prev in ("", long_id("other")):
            self.assertRefused(OUT_OF_TURN, self.store.append(new_message("alice", BOTH, 2, prev=prev)), expected=2)

    def test_ctr_behind(self) -> None:
        """A number that was used brings the device's newest message here, as its sender may have it."""
        for number in (1, 2):
            self.do(self.store.append(new_message("alice", BOTH, number)))
        self.do(self.store.append(new_message("bob", BOTH, 1)))
        newest = new_message("alice", BOTH, 2)
        proof = MessageRow(
            "ops", 2, "alice", newest.device, newest.header.mid, newest.ts, 2, newest.shared, kid("alice"),
            wrapped(newest.header.mid, "alice"),
        )  # fmt: skip
        for ctr in (1, 2):
            message = new_message("alice", BOTH, ctr, mid=hex_id("fresh", ctr))
            self.assertRefused(CTR_BEHIND, self.store.append(message), expected=3, proof=proof)

    def test_counters_are_apart(self) -> None:
        """Each device counts for itself, and in each conversation anew."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        for message in (
            new_message("alice", BOTH, 1, device=device("alice", 2)),
            new_message("bob", BOTH, 1),
            private_message("alice", "bob", 1, mid=hex_id("private")),
        ):
            self.assertFalse(self.do(self.store.append(message)).dup)

    def test_slot_of_another_size(self) -> None:
        """Two wrapped keys of wrong sizes that add up right are the caller's mistake: nothing is stored."""
        message = new_message("alice", BOTH, wrapped={"alice": b"a" * 383, "bob": b"b" * 385})
        self.assertRefused(INTERNAL, self.store.append(message))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual(0, self.last())

    def test_keys_of_other_readers(self) -> None:
        """So are wrapped keys for others than `kids` names: the slots would be of the wrong readers."""
        self.assertRefused(INTERNAL, self.store.append(new_message("alice", BOTH, wrapped={"alice": b"a" * 384})))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_one_audience_for_many_messages(self) -> None:
        """Who a message is for is stored once a conversation, not once a message."""
        count = "SELECT count(*) FROM audience"
        for number in (1, 2):
            self.do(self.store.append(new_message("alice", BOTH, number)))
        self.assertEqual((1,), self.writer.connection.execute(count).fetchone())
        self.act(Leave, person("bob"))
        self.do(self.store.append(self.said("alice", ["alice"], 3)))
        self.assertEqual((2,), self.writer.connection.execute(count).fetchone())
        self.act(Join, person("bob"))
        self.do(self.store.append(self.said("alice", BOTH, 4)))
        self.assertEqual((2,), self.writer.connection.execute(count).fetchone())

    def test_few_statements_a_message(self) -> None:
        """While nothing else is written, messages cost five statements together, however many, and ask for nothing."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        (record,) = self.do(self.store.conversations("alice"))
        statements: list[str] = []
        self.writer.connection.set_trace_callback(statements.append)
        for numbers in ([2], range(3, 12)):
            statements.clear()
            self.together(*(new_message("alice", BOTH, number, th=record.start) for number in numbers))
            ours = [sql.split()[0] for sql in statements]
            self.assertEqual(["INSERT"] * 4 + ["UPDATE"], [verb for verb in ours if verb in ("SELECT", *WRITES)])


class TogetherTests(StoreCase):
    """Tests for messages that share a commit."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        self.meet(*BOTH, room="more")

    def outcomes(self, *messages: Any) -> list[object]:
        """The seq, or the code of the refusal, of each."""
        return [answer.value.code if isinstance(answer, Failure) else answer.seq for answer in self.all_of(*messages)]

    def test_numbers(self) -> None:
        """They have the numbers that they would have had one by one, and can be read back."""
        messages = [
            new_message(user, BOTH, number, room=room, mid=hex_id(room, user, number))
            for number in (1, 2, 3)
            for room in ("ops", "more")
            for user in BOTH
        ]
        self.assertEqual([1, 2] * 2 + [3, 4] * 2 + [5, 6] * 2, self.outcomes(*messages))
        page = self.page(room="more")
        self.assertEqual([m.shared for m in messages if m.room == "more"], [row.shared for row in page.messages])
        self.assertEqual([m.wrapped["bob"] for m in messages if m.room == "more"], [r.wrapped for r in page.messages])

    def test_one_segment_a_conversation(self) -> None:
        """Those of one conversation are sealed together, 64 at most."""
        self.outcomes(
            *(new_message("alice", BOTH, number) for number in range(1, 100)), new_message("bob", BOTH, room="more")
        )
        rows = self.writer.connection.execute(
            "SELECT c.name, s.first_seq, count(*) FROM segment s JOIN message m ON m.segment_id = s.id"
            " JOIN conversation c ON c.id = s.conversation_id GROUP BY s.id ORDER BY s.id"
        ).fetchall()
        self.assertEqual([("ops", 1, 64), ("ops", 65, 35), ("more", 1, 1)], rows)

    def test_read_without_opening(self) -> None:
        """What was stored just now is read without opening its segment; what was opened once is not opened again."""
        self.outcomes(*(new_message("alice", BOTH, number) for number in range(1, 5)))
        opened: list[bytes] = []
        genuine = RowSealer.open

        def counting(*args: Any) -> bytes:
            opened.append(args[2].split(b'"')[1])
            return genuine(*args)

        self.patch(RowSealer, "open", counting)
        self.assertEqual(4, len(self.page().messages))
        self.assertEqual([b"audience"], opened)
        self.successResultOf(self.store.close())
        self.store = self.make_store()
        opened.clear()
        for _ in range(2):
            self.assertEqual(4, len(self.page().messages))
        self.assertEqual([b"audience", b"segment"], sorted(opened))

    def page(self, user: str = "bob", room: str = "ops") -> Page:
        """The history of a room."""
        return self.do(self.store.read(user, room, after=0, before=None, limit=9, max_bytes=10**6))

    def test_refusals_between(self) -> None:
        """One that is refused takes no number and hurts none of the others."""
        self.assertEqual(
            [1, OUT_OF_TURN, 2, BAD_AUDIENCE, NO_SUCH_ROOM, 3],
            self.outcomes(
                new_message("alice", BOTH, 1),
                new_message("alice", BOTH, 3),
                new_message("bob", BOTH, 1),
                new_message("alice", ["alice"], 2, place=room_place(tuple(BOTH), "ops")),
                new_message("alice", BOTH, 2, room="none"),
                new_message("alice", BOTH, 2),
            ),
        )

    def test_resent_at_once(self) -> None:
        """The same message twice in one commit is stored once; another of its mid is refused, whatever its number."""
        message = new_message("alice", BOTH, 1)
        again = self.all_of(message, message)
        self.assertEqual([(1, False), (1, True)], [(appended.seq, appended.dup) for appended in again])
        other = new_message("alice", BOTH, 2, mid=message.header.mid)
        self.assertEqual([MID_CONFLICT, 2], self.outcomes(other, new_message("bob", BOTH, 1)))
        both = (
            new_message("alice", BOTH, 2),
            new_message("alice", BOTH, 3, mid=new_message("alice", BOTH, 2).header.mid),
        )
        self.assertEqual([3, MID_CONFLICT], self.outcomes(*both))

    def test_places_of_the_same_commit(self) -> None:
        """A message may name a place of the transcript that was reached a moment ago, and no other."""
        first, second = new_message("alice", BOTH, 1), new_message("bob", BOTH, 1)
        _, head = room_place(tuple(BOTH), "ops")
        one = next_th(transcript_start(first.header.room), head, first.id)
        two = next_th(one, head, second.id)
        self.assertEqual(
            [1, 2, 3, BAD_HEADER, 4],
            self.outcomes(
                first,
                second,
                new_message("alice", BOTH, 2, th=(1, one)),
                new_message("alice", BOTH, 3, th=(1, two)),
                new_message("alice", BOTH, 3, th=(2, two)),
            ),
        )

    def test_older_places(self) -> None:
        """So may it name one that is long gone from memory."""
        self.patch(queries, "_PLACES", 2)
        self.outcomes(*(new_message("alice", BOTH, number) for number in range(1, 9)))
        ths = self.writer.connection.execute("SELECT seq, th FROM message WHERE conversation_id = 1").fetchall()
        for number, (seq, th) in enumerate(ths, 1):
            self.assertEqual([8 + number], self.outcomes(new_message("bob", BOTH, number, th=(seq, th.hex()))))
        self.assertEqual([BAD_HEADER], self.outcomes(new_message("bob", BOTH, 9, th=(1, "0" * 64))))

    def test_private_between(self) -> None:
        """A first private message among others makes its conversation, or leaves no trace of it."""
        self.register("carol")
        good, bad = (
            private_message("alice", "bob", mid="1" * 32),
            private_message("alice", "carol", ctr=2, mid="2" * 32),
        )
        self.assertEqual(
            [1, 1, OUT_OF_TURN, 2, 2],
            self.outcomes(
                new_message("alice", BOTH, 1), good, bad, new_message("alice", BOTH, 2),
                private_message("alice", "bob", 2, mid="3" * 32),
            ),
        )  # fmt: skip
        self.assertEqual([], self.do(self.store.conversations("carol")))
        self.assertEqual(1, self.do(self.store.append(private_message("alice", "carol", mid="4" * 32))).seq)

    def test_what_changes_in_between(self) -> None:
        """Whatever else is written between two messages counts for the second: a new list of devices, a kick."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=1))
        self.assertRefused(STALE_KEYS, self.store.append(new_message("alice", BOTH, 2)), users=("bob",))
        self.act(Kick, person("alice"), person("bob"))
        self.assertRefused(NOT_MEMBER, self.store.append(new_message("bob", BOTH, 1)), room="ops")

    def test_rolled_back(self) -> None:
        """After a commit that failed nothing of it is remembered: not its numbers, nor its audience."""
        self.writer.connection.set_authorizer(no_commit)
        for _ in range(2):
            self.assertEqual(
                [TRY_AGAIN, TRY_AGAIN], self.outcomes(new_message("alice", BOTH, 1), new_message("alice", BOTH, 2))
            )
        self.writer.connection.set_authorizer(None)
        self.flushLoggedErrors()
        self.assertEqual([1, 2], self.outcomes(new_message("alice", BOTH, 1), new_message("alice", BOTH, 2)))
        self.assertEqual(2, len(self.page().messages))

    def test_audience_rolled_back(self) -> None:
        """An audience of a commit that failed is not taken for the one that comes in its place."""
        self.register("carol")
        old = new_message("alice", BOTH, 1)
        self.act(Join, person("carol"))
        new = self.said("bob", [*BOTH, "carol"], 1)
        self.writer.connection.set_authorizer(no_commit)
        # The second is behind: the proof brings the audience of the first into the readers' memory.
        self.outcomes(old, new_message("alice", BOTH, 1, mid=hex_id("fresh")))
        self.writer.connection.set_authorizer(None)
        self.flushLoggedErrors()
        self.assertEqual([1, 2], self.outcomes(new, old))
        for user in ("bob", "carol"):
            row = self.page(user).messages[0]
            self.assertEqual((kid(user), new.wrapped[user]), (row.kid, row.wrapped))

    def test_one_at_fault(self) -> None:
        """One with a used mid is refused without making the others of its commit forget what is remembered."""
        self.outcomes(new_message("alice", BOTH, 1), new_message("bob", BOTH, 1, room="more"))
        forgotten: list[int] = []
        genuine = self.store._at_rest.rosters.clear
        self.patch(self.store._at_rest.rosters, "clear", lambda: (forgotten.append(1), genuine()))
        clash = new_message("bob", BOTH, 2, room="more", mid=new_message("bob", BOTH, 1).header.mid)
        others = [new_message("alice", BOTH, number) for number in range(2, 40)]
        self.assertEqual([*range(2, 40), MID_CONFLICT], self.outcomes(*others, clash))
        self.assertEqual(1, len(forgotten))

    def test_apart(self) -> None:
        """What is written without forgetting where conversations stand touches nothing that messages rest on."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        written: set[tuple[str, str]] = set()

        def note(action: int, table: str | None, column: str | None, *_: str | None) -> int:
            if action in (sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE):
                written.add((str(table), str(column)))
            return sqlite3.SQLITE_OK

        self.writer.connection.set_authorizer(note)
        now, token = 1, b"t" * 32
        self.do(self.store.register(new_account("dave"), invite_hash=None, now=now))
        self.do(self.store.rehash("alice", old="hash of alice", new="another"))
        self.do(self.store.put_backup("alice", Backup(2, b"sealed")))
        self.do(self.store.open_session(token, Session("alice", None), now))
        self.do(self.store.bind_session(token, device("alice")))
        self.do(self.store.session(token, now + 10**8))
        change = self.store.change_password(
            "alice", password_hash="h", salt=b"s" * 16, backup=None, keep=token, now=now
        )
        self.do(change)
        self.do(self.store.add_invite(b"c" * 32, uses=1, expires=9, now=now))
        self.do(self.store.close_session(token))
        self.do(self.store.move_read_marker("bob", "ops", 1))
        self.writer.connection.set_authorizer(None)
        self.assertIsNotNone(self.store._at_rest.standings.get("ops"))
        resting = {
            "message",
            "message_keys",
            "segment",
            "audience",
            "counter",
            "conversation",
            "room_event",
            "invitation",
        }
        self.assertEqual(set(), {table for table, _ in written} & resting)
        self.assertEqual({("member", "read_seq")}, {place for place in written if place[0] == "member"})
        keys = {"name", "kid", "version", "list_digest", "ik", "keys"}
        self.assertEqual(set(), {column for table, column in written if table == "account"} & keys)
        self.act(ChangeTopic, person("alice"), topic=b"new")
        self.assertIsNone(self.store._at_rest.standings.get("ops"))


class OrderTests(StoreCase):
    """Tests for the order of the checks."""

    def test_order_of_checks(self) -> None:
        """Where everything is wrong at once, mending one thing shows the next, in the documented order."""
        self.gather(*BOTH)
        self.register("carol", "dave", "erin")
        self.act(Join, person("carol"))
        self.act(Join, person("dave"))
        early = self.rooms["ops"].log.head
        self.act(Join, person("erin"))
        self.act(Kick, person("alice"), person("erin"))
        self.act(Leave, person("dave"))
        self.act(Mute, person("alice"), person("carol"))
        self.do(self.store.append(self.said("alice", [*BOTH, "carol"], 1)))
        log = self.rooms["ops"].log
        stale = {"alice": kid("alice"), "bob": "0" * 32}
        wrong: dict[str, Any] = {
            "room": "none",
            "place": (long_id("other"), early),
            "mid": new_message("alice", BOTH, 1).header.mid,
            "device": device("alice"),
            "shared": b"other",
            "dl": (9, long_id("list")),
            "kids": stale,
            "rcp": long_id("rcp"),
            "th": (1, long_id("th")),
            "ctr": 9,
        }
        members = [*BOTH, "carol"]
        mended: list[tuple[str, dict[str, Any]]] = [
            ("alice", {}),
            ("dave", {"mid": hex_id("fresh"), "device": device("dave")}),
            ("dave", {"room": "ops"}),
            ("dave", {"place": (log.id, early)}),
            ("carol", {"device": device("carol")}),
            ("alice", {"device": device("alice")}),
            ("alice", {"place": (log.id, log.head)}),
            ("alice", {"dl": person("alice").dl}),
            ("alice", {"kids": {user: kid(user) for user in members} | stale}),
            ("alice", {"kids": {user: kid(user) for user in members}}),
            ("alice", {"rcp": audience_digest(audience({user: kid(user) for user in members})).hex()}),
            ("alice", {"th": (0, transcript_start(log.id))}),
            ("alice", {"ctr": 1}),
            ("alice", {"ctr": 2}),
        ]
        seen = []
        for sender, step in mended:
            wrong |= step
            seen.append(self.result_of(self.store.append(new_message(sender, members, **wrong))))
        codes = [
            MID_CONFLICT,
            NO_SUCH_ROOM,
            BAD_HEADER,
            NOT_MEMBER,
            MUTED,
            STALE_HEAD,
            STALE_KEYS,
            BAD_AUDIENCE,
            STALE_KEYS,
            BAD_HEADER,
            BAD_HEADER,
            OUT_OF_TURN,
            CTR_BEHIND,
        ]
        self.assertEqual(codes, seen[:-1])
        self.assertEqual(OUT_OF_TURN, seen[-1])  # it follows another message than the last
        good = new_message("alice", members, 2, **{**wrong, "prev": new_message("alice", members, 1).id})
        self.assertEqual(2, self.do(self.store.append(good)).seq)

    def result_of(self, verb: Coroutine[Deferred[Any], Any, Appended]) -> object:
        """The code with which a verb is refused, or what it answers."""

        def code(failure: Failure) -> object:
            assert isinstance(failure.value, Refused)
            return failure.value.code

        return self.successResultOf(self.start(verb).addErrback(code))


class AudienceTests(StoreCase):
    """Tests for heads, and for whom a message must be sealed."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        self.register("carol", "mallory")
        self.old = (self.rooms["ops"].log.id, self.rooms["ops"].log.head)

    def sealed(self, *readers: str, **changes: Any) -> Coroutine[Deferred[Any], Any, Appended]:
        """The verb that stores alice's first message, sealed for these at the present head."""
        return self.store.append(self.said("alice", readers, **changes))

    def test_exactly_the_members(self) -> None:
        """One reader too few and one too many are refused."""
        for readers in (["alice"], [*BOTH, "mallory"], ["alice", "mallory"], []):
            self.assertRefused(BAD_AUDIENCE, self.sealed(*readers), room="ops")

    def test_after_a_message(self) -> None:
        """The audience is checked for the second message as for the first."""
        self.do(self.sealed(*BOTH))
        self.assertRefused(BAD_AUDIENCE, self.store.append(self.said("alice", ["alice"], 2)), room="ops")

    def test_somebody_who_does_not_exist(self) -> None:
        """A reader who has no account is one too many."""
        self.assertRefused(BAD_AUDIENCE, self.sealed(*BOTH, "nobody"), room="ops")

    def test_joined_since(self) -> None:
        """At an older head a newcomer may be missing or not; nobody else."""
        self.act(Join, person("carol"))
        self.do(self.sealed(*BOTH, place=self.old))
        self.do(self.store.append(self.said("alice", [*BOTH, "carol"], 2, place=self.old)))
        verb = self.store.append(self.said("alice", ["alice", "carol"], 3, place=self.old))
        self.assertRefused(BAD_AUDIENCE, verb, room="ops")

    def test_left_since(self) -> None:
        """So it is with whoever left by themselves."""
        self.act(Leave, person("bob"))
        self.do(self.sealed(*BOTH, place=self.old))
        self.do(self.store.append(self.said("alice", ["alice"], 2, place=self.old)))
        self.assertRefused(BAD_AUDIENCE, self.store.append(self.said("alice", BOTH, 3)), room="ops")

    def test_put_out_since(self) -> None:
        """A message whose author has not heard of a kick or ban is refused, with the head to seal for."""
        for kind in (Kick, Ban):
            self.act(Join, person("carol"))
            before = (self.old[0], self.rooms["ops"].log.head)
            self.act(kind, person("alice"), person("carol"))
            head = self.rooms["ops"].log.head
            self.assertRefused(STALE_HEAD, self.sealed(*BOTH, place=before), room="ops", head=head)
            if kind is Kick:
                continue
            self.do(self.sealed(*BOTH))

    def test_unknown_head(self) -> None:
        """A head that the log never had is refused, and so is none."""
        head = self.old[1]
        for wrong in (long_id("other"), ""):
            self.assertRefused(STALE_HEAD, self.sealed(*BOTH, head=wrong), room="ops", head=head)

    def test_old_head(self) -> None:
        """So is one that is not of the last 1024 links, though nobody was put out."""
        room = self.rooms["ops"]
        for number in range(1023):
            self.act(ChangeTopic, person("alice"), topic=b"%d" % number)
        self.do(self.sealed(*BOTH, place=self.old))
        self.act(ChangeTopic, person("alice"), topic=b"last")
        verb = self.store.append(self.said("alice", BOTH, 2, place=self.old))
        self.assertRefused(STALE_HEAD, verb, room="ops", head=room.log.head)

    def test_stale_keys(self) -> None:
        """All whose key is not the newest are named, in order."""
        for user in ("bob", "alice"):
            self.do(self.store.publish(user, new_keys(user, 2, rk_kid=kid(user, 2)), backup=None, now=1))
        newest = person("alice").keys(2).version, person("alice").keys(2).digest
        self.assertRefused(STALE_KEYS, self.sealed(*BOTH, dl=newest), users=("alice", "bob"))
        mixed = {"alice": kid("alice"), "bob": kid("bob", 2)}
        self.assertRefused(STALE_KEYS, self.sealed(*BOTH, dl=newest, kids=mixed), users=("alice",))
        both = {"alice": kid("alice", 2), "bob": kid("bob", 2)}
        self.do(self.sealed(*BOTH, dl=newest, kids=both))

    def test_stale_key_of_one_who_left(self) -> None:
        """Whoever is named must be named with the newest key, members or not."""
        self.act(Leave, person("bob"))
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=1))
        self.assertRefused(STALE_KEYS, self.sealed(*BOTH, place=self.old), users=("bob",))

    def test_other_identity(self) -> None:
        """Who has another identity by now is no reader; an author who does not know it is told whom to look up."""
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertRefused(STALE_KEYS, self.sealed(*BOTH), users=("bob",))
        self.do(self.sealed("alice"))

    def test_rcp(self) -> None:
        """The digest in the header is that of the readers, whether they are just the members or not."""
        wrong = {"rcp": long_id("other")}
        why = "rcp is not the digest of the readers"
        self.assertRefused(BAD_HEADER, self.sealed(*BOTH, **wrong), why=why)
        self.act(Join, person("carol"))
        self.assertRefused(BAD_HEADER, self.sealed(*BOTH, place=self.old, **wrong), why=why)


class MutedTests(StoreCase):
    """Tests for those who have no voice."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)

    def speaks(self, number: int = 1, **changes: Any) -> Coroutine[Deferred[Any], Any, Appended]:
        """The verb that stores bob's message of that number."""
        return self.store.append(self.said("bob", BOTH, number, **changes))

    def test_muted(self) -> None:
        """Without a voice nobody writes, until it is given back."""
        self.act(Mute, person("alice"), person("bob"))
        self.assertRefused(MUTED, self.speaks(), room="ops")
        self.act(Unmute, person("alice"), person("bob"))
        self.do(self.speaks())

    def test_lapses_by_both_clocks(self) -> None:
        """A timed one ends at its very millisecond, by the server's clock and by the author's, which readers go by."""
        self.act(Mute, person("alice"), person("bob"), until=5000)
        for ts, at in ((4999, 9999), (9999, 4999)):
            self.assertRefused(MUTED, self.speaks(ts=ts, at=at), room="ops")
        self.do(self.speaks(ts=5000, at=5000))


class TranscriptTests(StoreCase):
    """Tests for the transcript: what it runs over, and the place that a header names."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        self.id = self.rooms["ops"].log.id

    def test_runs_over_everything(self) -> None:
        """th follows from ids and the links in force, in the order of the history."""
        head = self.rooms["ops"].log.head
        first = new_message("alice", BOTH, 1)
        self.do(self.store.append(first))
        self.act(ChangeTopic, person("alice"), topic=b"new")
        second = self.said("bob", BOTH, 1)
        self.do(self.store.append(second))
        th = next_th(next_th(transcript_start(self.id), head, first.id), self.rooms["ops"].log.head, second.id)
        self.assertEqual((2, th), self.do(self.store.conversations("alice"))[0].start)

    def test_in_private(self) -> None:
        """In private there is no link."""
        message = private_message("alice", "bob")
        self.do(self.store.append(message))
        th = next_th(transcript_start(message.room), "", message.id)
        self.assertEqual([(1, th)], [r.start for r in self.do(self.store.conversations("bob")) if r.peer])

    def test_any_place_so_far(self) -> None:
        """A header names the beginning, the newest place, or any between."""
        places = [(0, transcript_start(self.id))]
        for number in range(1, 5):
            self.do(self.store.append(new_message("alice", BOTH, number, th=places[number // 2])))
            places.append(self.do(self.store.conversations("alice"))[0].start)
        self.do(self.store.append(new_message("alice", BOTH, 5, th=places[-1])))

    def test_no_place(self) -> None:
        """Another value at a place, or a place that is not there yet, is refused."""
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        (record,) = self.do(self.store.conversations("alice"))
        start = (0, transcript_start(self.id))
        for wrong in ((0, record.start[1]), (1, start[1]), (2, record.start[1]), (1, long_id("x"))):
            verb = self.store.append(new_message("alice", BOTH, 2, th=wrong))
            self.assertRefused(BAD_HEADER, verb, why="th is no place of this conversation")


class EpochTests(StoreCase):
    """Tests for numbers after a restore, when messages that others have seen may be gone."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        self.successResultOf(self.store.close())
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE meta SET epoch = ?", ("e" * 32,))
            connection.commit()
        self.store = self.make_store()

    def test_any_higher_number_once(self) -> None:
        """The first message of a device may have any number above the last stored; then they count on."""
        self.do(self.store.append(new_message("alice", BOTH, 5)))
        self.assertRefused(OUT_OF_TURN, self.store.append(new_message("alice", BOTH, 7)), expected=6)
        self.do(self.store.append(new_message("alice", BOTH, 6)))

    def test_not_a_lower_one(self) -> None:
        """A number that is stored is not taken again: nothing can be replayed."""
        message = new_message("alice", BOTH, 1, mid=hex_id("fresh"))
        self.assertIs(CTR_BEHIND, self.refusal(self.store.append(message)).code)

    def test_device_that_is_new_here(self) -> None:
        """So it is for a device all of whose messages may be gone."""
        self.do(self.store.append(new_message("bob", BOTH, 9)))
        self.assertRefused(OUT_OF_TURN, self.store.append(new_message("bob", BOTH, 11)), expected=10)

    def test_not_in_the_first_epoch(self) -> None:
        """A server that was never restored takes the first number only."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE meta SET first_epoch = epoch")
            connection.commit()
        self.store = self.make_store()
        self.assertRefused(OUT_OF_TURN, self.store.append(new_message("bob", BOTH, 9)), expected=1)


class PrivateTests(StoreCase):
    """Tests for private conversations."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob", "carol")

    def test_made_by_its_first_message(self) -> None:
        """The first message makes it, for both; whoever writes second finds it."""
        first = self.do(self.store.append(private_message("alice", "bob")))
        self.assertEqual(Appended(1, 1_000_001, events=0, fresh_conversation=True), first)
        second = self.do(self.store.append(private_message("bob", "alice")))
        self.assertEqual(Appended(2, 1_000_001, events=0), second)

    def test_no_head(self) -> None:
        """A private conversation has no room log to be up to date with."""
        verb = self.store.append(private_message("alice", "bob", 1, head=long_id("link")))
        self.assertRefused(BAD_HEADER, verb, why="a private conversation has no head")

    def test_other_pair(self) -> None:
        """A conversation that is not that of the two identities is refused, naming whose keys to fetch."""
        message = private_message("alice", "bob", room=pair("alice", "carol"), place=(pair("alice", "carol"), ""))
        self.assertRefused(STALE_KEYS, self.store.append(message), users=("bob",))

    def test_no_such_user(self) -> None:
        """Nobody writes to somebody who does not exist."""
        self.assertRefused(NO_SUCH_USER, self.store.append(private_message("alice", "nobody")), user="nobody")

    def test_after_a_reset(self) -> None:
        """A new identity of the other is another conversation; the old one stays, and a resend is still found there."""
        message = private_message("alice", "bob")
        self.do(self.store.append(message))
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertRefused(STALE_KEYS, self.store.append(private_message("alice", "bob", 2)), users=("bob",))
        self.assertTrue(self.do(self.store.append(message)).dup)
        room = private_conversation(person("alice").ik, Person("bob", generation=2).ik)
        kids = {"alice": kid("alice"), "bob": Person("bob", generation=2).kid}
        renewed = private_message("alice", "bob", 1, mid=hex_id("x"), room=room, place=(room, ""), kids=kids)
        self.assertTrue(self.do(self.store.append(renewed)).fresh_conversation)
        self.assertEqual(
            {(message.room, "bob"), (room, "bob")},
            {(record.room, record.peer) for record in self.do(self.store.conversations("alice"))},
        )
        self.assertEqual([room], [record.room for record in self.do(self.store.conversations("bob"))])

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
            sent.header.mid,
            sent.ts,
            2,
            sent.shared,
            kid("bob"),
            wrapped(sent.header.mid, "bob"),
        )
        self.assertEqual([expected], list(self.read("bob", after=0, limit=1).messages))

    def test_slots_follow_names(self) -> None:
        """Each reader gets their own slot, in whatever order the sender named them."""
        members = ["zoe", "alice", "bob"]
        self.register("zoe")
        self.act(Join, person("zoe"))
        message = self.said("bob", members, 1)
        self.do(self.store.append(message))
        for user in members:
            (row,) = self.read(user, limit=1).messages
            self.assertEqual((kid(user), wrapped(message.header.mid, user)), (row.kid, row.wrapped))

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
        self.act(Join, person("carol"))
        self.do(self.store.append(self.said("bob", [*BOTH, "carol"], 1)))
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
        self.meet("alice", room="quiet")
        verb = self.store.read("alice", "quiet", after=None, before=None, limit=9, max_bytes=9)
        self.assertEqual(Page([], False), self.do(verb))

    def test_start(self) -> None:
        """A page comes with the place before its first message, so that a reader can check it by itself."""
        room = self.rooms["ops"].log
        ths = [transcript_start(room.id)]
        for number in range(1, 6):
            ths.append(next_th(ths[-1], room.head, new_message("alice", BOTH, number).id))
        places = [self.read(**how).start for how in ({"after": 0}, {"after": 2}, {"limit": 2}, {"before": 3})]
        self.assertEqual([(0, ths[0]), (2, ths[2]), (3, ths[3]), (0, ths[0])], places)
        self.assertIsNone(self.read(after=5).start)


class ClosedRoomTests(StoreCase):
    """Tests for the history of a room that is not open."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice", join="invite")
        self.register("bob")
        for number in (1, 2):
            self.do(self.store.append(self.said("alice", ["alice"], number)))
        self.act(Invite, person("alice"), person("bob"))
        self.act(Join, person("bob"))
        for number in (3, 4):
            self.do(self.store.append(self.said("alice", BOTH, number)))

    def seqs(self, user: str, **how: Any) -> tuple[list[int], bool]:
        where: dict[str, Any] = {"after": None, "before": None, "limit": 50, "max_bytes": 10**6}
        page = self.do(self.store.read(user, "ops", **where | how))
        return [row.seq for row in page.messages], page.more

    def test_begins_with_the_join(self) -> None:
        """What was said before one joined is not given out, and nothing says that there is more."""
        self.assertEqual(([3, 4], False), self.seqs("bob"))
        self.assertEqual(([3, 4], False), self.seqs("bob", after=0))
        self.assertEqual(([], False), self.seqs("bob", before=3))
        self.assertEqual(([4], True), self.seqs("bob", limit=1))

    def test_all_for_the_first(self) -> None:
        """Who was there has all of it."""
        self.assertEqual(([1, 2, 3, 4], False), self.seqs("alice"))

    def test_open_room(self) -> None:
        """Once a room is open, everybody in it may have what they cannot read."""
        self.act(ChangePolicy, person("alice"), join="open")
        self.assertEqual(([1, 2, 3, 4], False), self.seqs("bob"))


class AudienceOfTests(StoreCase):
    """Tests for reading an audience back by its digest."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        self.message = new_message("alice", BOTH)
        self.do(self.store.append(self.message))
        self.rcp = self.message.header.rcp

    def test_bytes(self) -> None:
        """A member gets the exact bytes that the digest is of."""
        self.assertEqual(audience(self.message.kids), self.do(self.store.audience("bob", "ops", self.rcp)))

    def test_unknown(self) -> None:
        """A digest that no message of this conversation has is refused, also where another's has it."""
        self.meet(*BOTH, room="more")
        for room, rcp in (("ops", long_id("other")), ("more", self.rcp)):
            self.assertRefused(UNKNOWN_AUDIENCE, self.store.audience("bob", room, rcp), room=room)

    def test_only_members(self) -> None:
        """Whom messages are for is told to those who are there."""
        self.register("carol")
        self.assertRefused(NOT_MEMBER, self.store.audience("carol", "ops", self.rcp), room="ops")
        self.assertRefused(NO_SUCH_ROOM, self.store.audience("carol", "none", self.rcp), room="none")

    def test_altered(self) -> None:
        """One that was changed in the database is refused."""
        self.writer.connection.execute("UPDATE audience SET sealed = zeroblob(9)")
        self.assertRefused(DAMAGED, self.store.audience("bob", "ops", self.rcp), room="ops")


class DamageTests(StoreCase):
    """Tests for rows that somebody changed in the file: refused, never shown, and the operator is told."""

    def setUp(self) -> None:
        super().setUp()
        self.gather(*BOTH)
        self.meet(*BOTH, room="more")
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
            "UPDATE segment SET sealed = (SELECT sealed FROM segment WHERE id = 2) WHERE id = 1",
            "UPDATE segment SET sealed = (SELECT sealed FROM segment WHERE id = 3) WHERE id = 1",
            "UPDATE message SET segment_id = 2 WHERE id = 1",
            "UPDATE message SET segment_id = 3 WHERE id = 1",
            "UPDATE segment SET first_seq = 0 WHERE id = 1",
        )

    def test_relabelled(self) -> None:
        """A row of another sender, device, mid, time, count of events, id or transcript than was stored is refused."""
        self.assertRefusedAfter(
            "UPDATE message SET sender_id = 2 WHERE id = 1",
            "UPDATE message SET device = zeroblob(16) WHERE id = 1",
            "UPDATE message SET mid = zeroblob(16) WHERE id = 1",
            "UPDATE message SET ts = ts + 1 WHERE id = 1",
            "UPDATE message SET events = events + 1 WHERE id = 1",
            "UPDATE message SET digest = zeroblob(32) WHERE id = 1",
            "UPDATE message SET th = zeroblob(32) WHERE id = 1",
        )

    def test_edited(self) -> None:
        """An altered token, or one said to be under another data key, is refused."""
        self.assertRefusedAfter(
            "UPDATE segment SET sealed = CAST(substr(sealed, 1, length(sealed) - 8) || 'AAAAAAA=' AS BLOB)"
            " WHERE id = 1",
            "UPDATE segment SET dek_id = 99 WHERE id = 1",
            "DELETE FROM segment WHERE id = 1",
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
