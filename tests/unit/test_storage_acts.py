"""Room logs in the store: acts put in their place, what they change, and what is read back."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from securechat.crypto.identity import SignedCertificate, certify_device
from securechat.crypto.roomlog import (
    Ban,
    ChangePolicy,
    ChangeRole,
    ChangeTopic,
    Invite,
    Join,
    Kick,
    Leave,
    Mute,
    RoomLog,
    SignedEvent,
    sign_event,
)
from securechat.crypto.transcript import transcript_start
from securechat.errors import (
    ALREADY_MEMBER,
    BAD_EVENT,
    BANNED,
    DAMAGED,
    NO_RIGHT,
    NO_SUCH_ROOM,
    NO_SUCH_USER,
    NOT_INVITED,
    NOT_MEMBER,
    RATE_LIMITED,
    ROOM_EXISTS,
    ROOM_FULL,
    STALE_CTL,
    STALE_KEYS,
    STALE_LOG,
    STALE_OWN,
    TOO_MANY_ROOMS,
)
from securechat.storage.interface import Backup, Extension, LogPage, Placed
from tests.cast import NOW, Person, Room, UnsignedRoom, event
from tests.doubles import SRV, StoreCase, gathered, long_id, new_keys, new_message, person, private_message

BOTH = ["alice", "bob"]
alice, bob, carol = map(person, ("alice", "bob", "carol"))


class ActTests(StoreCase):
    """Tests for `act`: where an event is put, and what follows."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob", "carol")

    def test_create(self) -> None:
        """The first event makes the room, which bears its hash."""
        room = gathered(["alice"])
        placed = self.do(self.store.act("ops", room.events[0], wait=0.0, now=1))
        start = (0, transcript_start(room.log.id))
        self.assertEqual(Placed(room.log.id, 1, room.log.head, start), placed)
        self.assertEqual(["alice"], self.do(self.store.members("alice", "ops")))

    def test_join(self) -> None:
        """Who joins begins behind what was said before."""
        self.meet("alice")
        for number in (1, 2):
            self.do(self.store.append(new_message("alice", ["alice"], number)))
        placed = self.act(Join, bob)
        log = self.rooms["ops"].log
        (record,) = self.do(self.store.conversations("bob"))
        self.assertEqual(Placed(log.id, 2, log.head, record.start), placed)
        self.assertEqual((2, 2, 2, log.head, 2), (record.first, record.read, record.last, record.head, record.events))

    def test_again(self) -> None:
        """The same event again is no error, keeps its place, and says what it said the first time."""
        self.meet("alice")
        joining = self.rooms["ops"].draft(Join, bob)
        first = self.do(self.store.act("ops", joining, wait=0.0, now=1))
        self.do(self.store.append(new_message("alice", BOTH)))
        self.rooms["ops"].take(joining)
        self.act(Leave, bob)
        again = self.do(self.store.act("ops", joining, wait=60.0, now=1))
        self.assertEqual(replace(first, dup=True), again)
        self.assertEqual([], self.do(self.store.conversations("bob")))

    def test_create_again(self) -> None:
        """So it is with the event that made the room."""
        self.meet("alice", "bob")
        again = self.do(self.store.act("ops", self.rooms["ops"].events[0], wait=0.0, now=1))
        self.assertEqual((1, True), (again.events, again.dup))

    def test_wait(self) -> None:
        """What is new is refused to one who must wait."""
        self.meet("alice")
        self.assertRefused(RATE_LIMITED, self.acting(Join, bob, wait=7.0), retry_after=7.0)

    def test_leave(self) -> None:
        """Who leaves is in it no more; an empty open room stays, and the next one runs it."""
        self.meet("alice")
        self.act(Leave, alice)
        self.assertEqual([], self.do(self.store.conversations("alice")))
        self.assertEqual([], self.do(self.store.rooms("alice")))
        self.act(Join, bob)
        self.act(ChangeTopic, bob, topic=b"mine")

    def test_put_out(self) -> None:
        """A kick and a ban end a membership; after a ban there is no way back."""
        self.meet("alice", "bob", "carol")
        self.act(Kick, alice, bob)
        self.act(Ban, alice, carol)
        self.assertEqual(["alice"], self.do(self.store.members("alice", "ops")))
        self.act(Join, bob)
        self.assertRefused(BANNED, self.acting(Join, carol), user="carol", room="ops")

    def test_rejoin_with_another_identity(self) -> None:
        """A new identity joins anew in the place of the old one, and is counted once."""
        self.meet("alice", "bob")
        again = Person("bob", generation=2)
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.act(Join, again)
        self.assertEqual(BOTH, self.do(self.store.members("bob", "ops")))
        self.assertEqual([2], [room.members for room in self.do(self.store.rooms("bob"))])

    def test_put_out_with_another_identity(self) -> None:
        """Who has another identity by now can be put out of the log, and is not counted out twice."""
        self.meet("alice", "bob")
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        self.act(Kick, alice, bob)
        self.assertEqual([1], [room.members for room in self.do(self.store.rooms("alice"))])

    def test_after_a_restart(self) -> None:
        """The log goes on where it was, its rules known again."""
        self.meet("alice", "bob")
        self.act(ChangeRole, alice, bob, role="mod")
        self.successResultOf(self.store.close())
        self.store = self.make_store()
        self.act(ChangeTopic, bob, topic=b"by a mod")
        self.assertRefused(NO_RIGHT, self.acting(ChangePolicy, bob), room="ops", role="mod")

    def test_refused_act_changes_nothing(self) -> None:
        """After a refusal the log is as it was, in the database and in memory."""
        self.meet("alice", "bob")
        self.assertRefused(NO_RIGHT, self.acting(Kick, bob, alice), room="ops", role="member")
        self.assertEqual(3, self.act(ChangeTopic, alice, topic=b"x").events)

    def test_fault_in_the_middle(self) -> None:
        """Where the database fails in the middle of an act, what is in memory is what is on disk."""
        self.meet("alice")
        fault = "CREATE TEMP TRIGGER fault BEFORE INSERT ON main.member BEGIN SELECT RAISE(ABORT, 'no'); END"
        self.writer.connection.execute(fault)
        self.assertEqual("internal", self.refusal(self.acting(Join, bob)).code.name)
        self.flushLoggedErrors(sqlite3.IntegrityError)
        self.writer.connection.execute("DROP TRIGGER temp.fault")
        self.assertEqual(2, self.act(Join, carol).events)


class RefusedActTests(StoreCase):
    """Tests for acts that are refused."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob", "carol")

    def test_author_of_another_identity(self) -> None:
        """An event by an identity that the account no longer has is worth nothing."""
        self.meet("alice")
        self.do(self.store.reset_identity("bob", new_keys("bob", generation=2), backup=Backup(1, b"x"), now=1))
        why = "its author has another identity, or has revoked this device"
        self.assertRefused(BAD_EVENT, self.acting(Join, bob), why=why)

    def test_revoked_device(self) -> None:
        """So is one by a device that was revoked."""
        self.meet("alice")
        self.do(self.store.publish("bob", new_keys("bob", 2, (1, 2)), backup=None, now=1))
        keys = new_keys("bob", 3, (2,), revoked=(bob.dev(1),))
        self.do(self.store.publish("bob", keys, backup=None, now=1))
        self.assertIs(BAD_EVENT, self.refusal(self.acting(Join, bob)).code)
        newest = keys.version, bob.keys(3, (2,)).digest
        self.do(self.acting(Join, bob, device=2, dl=newest))

    def test_stale_list(self) -> None:
        """Who joins, or makes a room, names their newest list: its number and its digest."""
        self.meet("alice")
        version, digest = bob.dl
        for wrong in ((version + 1, digest), (version, long_id("other"))):
            self.assertRefused(STALE_KEYS, self.acting(Join, bob, dl=wrong), users=("bob",))
            made = UnsignedRoom(bob, name="more", dl=wrong).events[0]
            self.assertRefused(STALE_KEYS, self.store.act("more", made, wait=0.0, now=1), users=("bob",))

    def test_invited(self) -> None:
        """An invitation names somebody who exists, as they are now."""
        self.meet("alice")
        self.assertRefused(NO_SUCH_USER, self.acting(Invite, alice, Person("nobody")), user="nobody")
        other = Person("bob", generation=2)
        self.assertRefused(STALE_KEYS, self.acting(Invite, alice, other), users=("bob",))
        self.assertRefused(STALE_KEYS, self.acting(Invite, alice, bob, dl=(2, bob.dl[1])), users=("bob",))
        self.act(Invite, alice, bob)

    def test_no_such_room(self) -> None:
        """There is nothing to do in a room that was not made."""
        self.rooms["none"] = gathered(["alice"], "none")
        self.assertRefused(NO_SUCH_ROOM, self.acting(Join, bob, room="none"), room="none")

    def test_other_room(self) -> None:
        """An event of another room is refused."""
        self.meet("alice")
        self.meet("alice", room="more")
        signed = self.rooms["more"].draft(Join, bob)
        verb = self.store.act("ops", signed, wait=0.0, now=1)
        self.assertRefused(BAD_EVENT, verb, why="it is of another room")

    def test_room_exists(self) -> None:
        """A name that is in use makes no second room, also where an open room is empty."""
        self.meet("alice")
        other = gathered(["bob"]).events[0]
        self.assertRefused(ROOM_EXISTS, self.store.act("ops", other, wait=0.0, now=1), room="ops")
        self.act(Leave, alice)
        self.assertRefused(ROOM_EXISTS, self.store.act("ops", other, wait=0.0, now=1), room="ops")

    def test_rules_of_the_log(self) -> None:
        """What the rules refuse is refused in their words."""
        self.meet("alice", "bob", join="invite")
        bob_out = self.rooms["ops"].draft(Kick, alice, bob)
        self.assertRefused(NOT_INVITED, self.acting(Join, carol), room="ops")
        self.assertRefused(ALREADY_MEMBER, self.acting(Join, bob), user="bob", room="ops")
        self.assertRefused(STALE_OWN, self.acting(Leave, bob, own=""), user="bob", room="ops")
        self.act(ChangeTopic, alice, topic=b"x")
        self.assertRefused(STALE_CTL, self.store.act("ops", bob_out, wait=0.0, now=1), room="ops")
        self.assertRefused(NOT_MEMBER, self.acting(Mute, carol, bob), room="ops")

    def test_room_full(self) -> None:
        """A full room takes nobody new; a place that frees is given."""
        self.store = self.make_store(max_members=2)
        self.meet("alice", "bob")
        self.assertRefused(ROOM_FULL, self.acting(Join, carol), room="ops", limit=2)
        self.act(Leave, bob)
        self.act(Join, carol)

    def test_too_many_rooms(self) -> None:
        """Nobody is in more rooms than allowed; private conversations do not count; no room is left behind."""
        self.store = self.make_store(max_rooms=1)
        self.do(self.store.append(private_message("alice", "bob")))
        self.meet("alice")
        made = gathered(["alice"], "more").events[0]
        self.assertRefused(TOO_MANY_ROOMS, self.store.act("more", made, wait=0.0, now=1), limit=1)
        self.assertEqual(["ops"], [room.room for room in self.do(self.store.rooms("alice"))])
        self.meet("bob", room="other")
        self.assertRefused(TOO_MANY_ROOMS, self.acting(Join, alice, room="other"), limit=1)
        self.act(Leave, alice)
        self.do(self.store.act("more", made, wait=0.0, now=1))


class ClockTests(StoreCase):
    """Tests for what lasts by this server's clock."""

    def test_timed_ban(self) -> None:
        """A ban ends at its very millisecond by the server's clock, whatever the author's says; one for ever never."""
        self.gather("alice", "bob", "carol")
        self.act(Ban, alice, bob, until=5000)
        self.act(Ban, alice, carol)
        self.assertRefused(BANNED, self.acting(Join, bob, at=9999, now=4999), user="bob", room="ops")
        self.assertRefused(BANNED, self.acting(Join, carol, at=9999, now=9999), user="carol", room="ops")
        self.act(Join, bob, at=9999, now=5000)


class NameTests(StoreCase):
    """Tests for names that dead rooms hold."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice", join="invite")
        self.register("bob", "carol")
        self.other = gathered(["bob"]).events[0]

    def make(self) -> Coroutine[Deferred[Any], Any, Placed]:
        """Bob makes a room of the same name."""
        return self.store.act("ops", self.other, wait=0.0, now=1)

    def test_given_up(self) -> None:
        """An invite-only room that all have left gives up its name; its messages stay in no room of the list."""
        message = self.said("alice", ["alice"])
        self.do(self.store.append(message))
        left = self.rooms["ops"].draft(Leave, alice)
        self.act(Leave, alice)
        self.assertFalse(self.do(self.make()).dup)
        self.assertEqual([("ops", 1)], [(room.room, room.members) for room in self.do(self.store.rooms("alice"))])
        self.assertTrue(self.do(self.store.append(message)).dup)
        self.assertEqual(
            (2, True), ((again := self.do(self.store.act("ops", left, wait=0.0, now=1))).events, again.dup)
        )

    def test_kept_by_a_member(self) -> None:
        """While anybody is in it, it keeps its name."""
        self.assertRefused(ROOM_EXISTS, self.make(), room="ops")

    def test_of_former_identities(self) -> None:
        """A room whose members all have other identities by now is dead too, but for somebody they invited."""
        self.act(Invite, alice, carol)
        self.do(self.store.reset_identity("alice", new_keys("alice", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertRefused(ROOM_EXISTS, self.make(), room="ops")
        self.act(Leave, carol)
        self.do(self.make())

    def test_twice(self) -> None:
        """One name may be given up again and again."""
        self.act(Leave, alice)
        for salt in (b"1" * 16, b"2" * 16):
            self.rooms["ops"] = UnsignedRoom(bob, name="ops", join="invite", salt=salt)
            self.do(self.store.act("ops", self.rooms["ops"].events[0], wait=0.0, now=1))
            self.act(Leave, bob)


class LogTests(StoreCase):
    """Tests for reading a log."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice", "bob")
        self.register("carol")

    def page(self, user: str = "carol", **how: int) -> LogPage:
        where: dict[str, int] = {"after": 0, "limit": 100, "max_bytes": 10**6}
        return self.do(self.store.room_log(user, "ops", **where | how))

    def assertRefusedTo(self, user: str, code: object, room: str = "ops") -> None:
        verb = self.store.room_log(user, room, after=0, limit=1, max_bytes=1)
        self.assertRefused(code, verb, room=room)

    def test_whole(self) -> None:
        """All events byte for byte, and the certificate of each device that signed one, once."""
        self.act(ChangeTopic, alice, topic=b"x")
        room = self.rooms["ops"]
        certs = [alice.certificate(), bob.certificate()]
        self.assertEqual(LogPage(room.log.id, room.events, certs, 3, more=False), self.page())

    def test_pages(self) -> None:
        """Page after page, each event comes once, with the certificates that its page needs."""
        self.act(ChangeTopic, alice, topic=b"x")
        first, second = self.page(limit=2), self.page(after=2, limit=2)
        self.assertEqual((True, False), (first.more, second.more))
        self.assertEqual(self.rooms["ops"].events, [*first.acts, *second.acts])
        self.assertEqual([alice.certificate()], second.certs)
        self.assertEqual(([], [], False), ((last := self.page(after=3)).acts, last.certs, last.more))
        self.assertEqual([], self.page(after=9).acts)

    def test_max_bytes(self) -> None:
        """A page ends before the event that does not fit, its certificate counted; one comes at least."""
        one, two = (
            len(signed.data) + len(who.certificate().cert)
            for signed, who in zip(self.rooms["ops"].events, (alice, bob), strict=True)
        )
        self.assertEqual([2, 1, 1], [len(self.page(max_bytes=size).acts) for size in (one + two, one + two - 1, 1)])

    def test_revoked_and_former_devices(self) -> None:
        """What a device signed stays readable after it was revoked, and after its identity was reset."""
        self.do(self.store.publish("bob", new_keys("bob", 2, (1, 2)), backup=None, now=1))
        self.do(self.store.publish("bob", new_keys("bob", 3, (2,), revoked=(bob.dev(1),)), backup=None, now=1))
        self.do(self.store.reset_identity("alice", new_keys("alice", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertEqual([alice.certificate(), bob.certificate()], self.page().certs)

    def test_who_may(self) -> None:
        """An open room's is for everybody; another's for members and those invited, as whom they were."""
        self.assertRefusedTo("carol", NO_SUCH_ROOM, "none")
        self.page("carol")
        self.act(ChangePolicy, alice, join="invite")
        self.assertRefusedTo("carol", NOT_INVITED)
        self.page("bob")
        self.act(Invite, alice, carol)
        self.page("carol")
        self.do(self.store.reset_identity("carol", new_keys("carol", generation=2), backup=Backup(1, b"x"), now=1))
        self.assertRefusedTo("carol", NOT_INVITED)
        self.act(Kick, alice, bob)
        self.assertRefusedTo("bob", NOT_INVITED)

    def test_private_conversation(self) -> None:
        """A private conversation has no log."""
        message = private_message("alice", "bob")
        self.do(self.store.append(message))
        self.assertRefusedTo("alice", NO_SUCH_ROOM, message.room)


class DamageTests(StoreCase):
    """Tests for logs that somebody changed in the file: refused to readers and to writers."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice", "bob")
        self.meet("bob", "alice", room="more")
        self.act(ChangeTopic, alice, topic=b"first")
        self.successResultOf(self.store.close())
        self.whole = self.path.read_bytes()

    def damage(self, *statements: str) -> None:
        """Changes a fresh copy of the file behind the store's back."""
        self.path = Path(self.mktemp())
        self.path.write_bytes(self.whole)
        with closing(sqlite3.connect(self.path)) as connection:
            for sql in statements:
                self.assertNotEqual(0, connection.execute(sql).rowcount)
            connection.commit()
        self.store = self.make_store()

    def assertRefusedAfter(self, *changes: str) -> None:
        """Each of the changes, alone, makes the room's log refused, and any act in it and message to it."""
        for change in changes:
            self.damage(*change.split(";"))
            for verb in (
                self.store.room_log("alice", "ops", after=0, limit=9, max_bytes=10**6),
                self.acting(ChangeTopic, alice, topic=b"x"),
                self.store.append(self.said("alice", BOTH)),
            ):
                self.assertRefused(DAMAGED, verb, room="ops")

    def test_whole(self) -> None:
        """A log that nobody touched is read and goes on."""
        self.damage("UPDATE account SET suspended = 1 WHERE name = 'bob'")
        self.assertEqual(4, self.act(ChangeTopic, alice, topic=b"x").events)

    def test_moved(self) -> None:
        """An event put at another place, or into another room's log, is refused."""
        swap = "UPDATE room_event SET number = {} WHERE conversation_id = 1 AND number = {}"
        self.assertRefusedAfter(
            ";".join(swap.format(*pair) for pair in ((9, 2), (2, 3), (3, 9))),
            "DELETE FROM room_event WHERE conversation_id = 1 AND number = 2;"
            "UPDATE room_event SET conversation_id = 1 WHERE conversation_id = 2 AND number = 2",
        )

    def test_swapped(self) -> None:
        """An event that holds another's token is refused."""
        other = "UPDATE room_event SET sealed = (SELECT sealed FROM room_event WHERE id = {}) WHERE id = 2"
        self.assertRefusedAfter(other.format(1), other.format(4))

    def test_relabelled(self) -> None:
        """An event of another hash, or behind another message, than was stored is refused."""
        self.assertRefusedAfter(
            "UPDATE room_event SET eh = zeroblob(32) WHERE id = 2",
            "UPDATE room_event SET seq = 1 WHERE id = 2",
            "UPDATE room_event SET sealed = zeroblob(100) WHERE id = 2",
            "UPDATE room_event SET dek_id = 99 WHERE id = 2",
        )

    def test_cut(self) -> None:
        """A log that lacks an event, in the middle or at its end, is refused."""
        delete = "DELETE FROM room_event WHERE conversation_id = 1 AND number = {}"
        self.assertRefusedAfter(delete.format(2), delete.format(3))

    def test_another_end(self) -> None:
        """A log that does not end in the link that its room names is refused to whoever goes on from there."""
        self.damage("UPDATE conversation SET head = zeroblob(32) WHERE name = 'ops'")
        self.assertRefused(DAMAGED, self.acting(ChangeTopic, alice, topic=b"x"), room="ops")

    def test_certificate_gone(self) -> None:
        """A log whose signatures nobody could check any more is refused."""
        self.damage("DELETE FROM device WHERE account_id = 2")
        verb = self.store.room_log("alice", "ops", after=0, limit=9, max_bytes=10**6)
        self.assertRefused(DAMAGED, verb, room="ops")


class CacheTests(StoreCase):
    """Tests for the replayed logs in memory: never ahead of the database, never behind it."""

    def test_changed_behind_our_back(self) -> None:
        """A log in memory that is not the one in the database is read again."""
        self.gather("alice", "bob")
        self.act(ChangeTopic, alice, topic=b"x")
        self.writer.connection.execute("DELETE FROM room_event WHERE number = 3")
        before = self.rooms["ops"].replayed(2)
        self.writer.connection.execute("UPDATE conversation SET events = 2, head = ?", (bytes.fromhex(before.head),))
        self.rooms["ops"] = Room(alice)
        self.rooms["ops"].log = before
        self.assertEqual(3, self.act(Kick, alice, bob).events)

    def test_not_read_again(self) -> None:
        """While it is the same, it is not read again, neither for acts nor for messages at older heads."""
        self.gather("alice", "bob")
        old = self.rooms["ops"].log.head
        self.act(ChangeTopic, alice, topic=b"x")
        statements: list[str] = []
        self.writer.connection.set_trace_callback(statements.append)
        self.act(ChangeTopic, alice, topic=b"y")
        self.do(self.store.append(self.said("alice", BOTH, head=old)))
        self.assertEqual([], [sql for sql in statements if sql.startswith("SELECT number, seq")])


class ExtendTests(StoreCase):
    """Tests for events that a restored server gets back."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob", "carol")
        self.rooms["ops"] = self.room = Room(alice, bob)
        for signed in self.room.events:
            self.do(self.store.act("ops", signed, wait=0.0, now=1))
        self.restore()

    def extending(
        self,
        signed: Sequence[SignedEvent],
        user: str = "alice",
        after: int = 2,
        certs: Sequence[SignedCertificate] = (),
        room: str = "ops",
        now: int = 1,
    ) -> Coroutine[Deferred[Any], Any, Extension]:
        return self.store.extend(user, room, after, signed, certs, srv=SRV, now=now)

    def test_goes_on(self) -> None:
        """Lost events come back as they are, and take effect; then the log goes on behind them."""
        lost = [self.room.do(Join, carol), self.room.do(ChangeTopic, alice, topic=b"x")]
        certs = [carol.certificate(), alice.certificate()]
        self.assertEqual(Extension(3, 0, certs), self.do(self.extending(lost)))
        self.assertEqual(["alice", "bob", "carol"], self.do(self.store.members("carol", "ops")))
        self.assertEqual(5, self.act(Kick, alice, bob).events)

    def test_nothing_was_lost(self) -> None:
        """A server that was never restored takes nothing back: that would be `act` without its limits."""
        self.writer.connection.execute("UPDATE meta SET first_epoch = epoch")
        self.store = self.make_store()
        self.assertRefused(STALE_LOG, self.extending([self.room.draft(Join, carol)]), room="ops")
        room = Room(alice, name="more")
        self.assertRefused(STALE_LOG, self.extending(room.events, after=0, room="more"), room="more")

    def test_whole_room(self) -> None:
        """A room that was lost altogether comes back, by one of those who are in it then."""
        room = Room(bob, alice, name="more")
        self.assertRefused(NOT_MEMBER, self.extending(room.events, "carol", after=0, room="more"), room="more")
        self.do(self.extending(room.events, after=0, room="more"))
        self.assertEqual(BOTH, self.do(self.store.members("alice", "more")))

    def test_not_where_the_log_ends(self) -> None:
        """Events that do not go on exactly behind those that are here are refused."""
        lost = [self.room.do(Join, carol)]
        for after in (0, 1, 3):
            self.assertRefused(STALE_LOG, self.extending(lost, after=after), room="ops")
        self.assertRefused(STALE_LOG, self.extending(lost, after=1, room="none"), room="none")

    def test_other_branch(self) -> None:
        """Events behind another end than the one here are refused, and leave nothing."""
        other = Room(alice, bob)
        other.do(ChangeTopic, alice, topic=b"another")
        lost = [other.do(ChangeTopic, alice, topic=b"last")]
        self.assertRefused(STALE_LOG, self.extending(lost), room="ops")
        self.assertEqual(3, self.act(ChangeTopic, alice, topic=b"x").events)

    def test_rules_hold(self) -> None:
        """What the rules refuse at its place is refused here too, with all that came along."""
        good = self.room.draft(Join, carol)
        bad = Room(alice, bob)
        bad.take(good)
        self.assertRefused(NO_RIGHT, self.extending([good, bad.draft(Kick, bob, alice)]), room="ops", role="member")
        self.assertEqual(BOTH, self.do(self.store.members("alice", "ops")))
        self.act(Join, carol)

    def test_wrong_signature(self) -> None:
        """An event is taken only with the signature of its author's device."""
        good = self.room.draft(Join, carol)
        for sig in (bytes(64), self.room.draft(Leave, bob).sig):
            self.assertIs(BAD_EVENT, self.refusal(self.extending([SignedEvent(good.data, sig)])).code)

    def test_device_that_was_lost_too(self) -> None:
        """A device that the server lost is vouched for by its certificate, which is kept."""
        lost = [self.room.do(ChangeTopic, alice, device=2, topic=b"x")]
        self.assertIs(BAD_EVENT, self.refusal(self.extending(lost)).code)
        certificate = alice.certificate(2)
        self.assertEqual([certificate], self.do(self.extending(lost, certs=[certificate])).certs)
        page = self.do(self.store.room_log("bob", "ops", after=2, limit=9, max_bytes=10**6))
        self.assertEqual([certificate], page.certs)
        self.assertEqual((), self.do(self.store.keys(["alice"]))["alice"].past)
        self.do(self.store.publish("alice", new_keys("alice", 2, revoked=(alice.dev(2),)), backup=None, now=1))
        self.assertEqual((certificate,), self.do(self.store.keys(["alice"]))["alice"].past)

    def test_lost_device_is_listed_again(self) -> None:
        """A device that came back so may stand in the next list."""
        lost = [self.room.do(ChangeTopic, alice, device=2, topic=b"x")]
        self.do(self.extending(lost, certs=[alice.certificate(2)]))
        self.do(self.store.publish("alice", new_keys("alice", 2, (1, 2)), backup=None, now=1))

    def test_device_of_a_former_identity(self) -> None:
        """A device id means one identity: a certificate that gives it another is not believed."""
        other = Person("alice", generation=2)
        keys = new_keys("alice", generation=2)
        self.do(self.store.reset_identity("alice", keys, backup=Backup(1, b"x"), now=1))
        lost = sign_event(alice.device(), event(self.room.log, Join, other, dev=alice.dev()))
        certificate = certify_device(
            identity=other.identity, device=alice.device(), srv=SRV, user="alice", name="same", created=1
        )
        verb = self.extending([lost], "bob", certs=[certificate])
        self.assertRefused(BAD_EVENT, verb, why="a device of alice had another identity")

    def test_bad_certificate(self) -> None:
        """A certificate that does not check out vouches for nothing."""
        lost = [self.room.do(ChangeTopic, alice, device=2, topic=b"x")]
        certificate = replace(alice.certificate(2), ik_sig=bytes(64))
        self.assertIs(BAD_EVENT, self.refusal(self.extending(lost, certs=[certificate])).code)

    def test_revoked_device(self) -> None:
        """A device that was revoked rewrites no log, or revoking one that was stolen would be worth nothing."""
        lost = [self.room.do(ChangeTopic, alice, topic=b"x")]
        self.do(self.store.publish("alice", new_keys("alice", 2, (1, 2)), backup=None, now=1))
        self.do(self.store.publish("alice", new_keys("alice", 3, (2,), revoked=(alice.dev(1),)), backup=None, now=1))
        why = "alice has another identity, or has revoked this device"
        self.assertRefused(BAD_EVENT, self.extending(lost, certs=[alice.certificate()]), why=why)

    def test_made_up_identity(self) -> None:
        """Nobody brings another identity of somebody's name: it would take that person's place in the room."""
        false = Person("alice", generation=2)
        lost = [self.room.do(Join, false)]
        verb = self.extending(lost, "bob", certs=[false.certificate()])
        self.assertRefused(BAD_EVENT, verb, why="alice has another identity, or has revoked this device")

    def test_unknown_user(self) -> None:
        """Whoever acts, and whoever is invited, has an account."""
        nobody = Person("nobody")
        lost = [self.room.draft(Join, nobody)]
        self.assertRefused(NO_SUCH_USER, self.extending(lost, certs=[nobody.certificate()]), user="nobody")
        self.assertRefused(NO_SUCH_USER, self.extending([self.room.draft(Invite, alice, nobody)]), user="nobody")

    def test_for_members(self) -> None:
        """Only who is in the room as it is here brings events back: one's own join makes nobody that."""
        join = self.room.draft(Join, carol)
        for lost in (join, self.room.draft(ChangeTopic, alice, topic=b"x")):
            self.assertRefused(NOT_MEMBER, self.extending([lost], "carol"), room="ops")
        self.do(self.extending([self.room.take(join)]))
        self.do(self.extending([self.room.do(Leave, carol)], "carol", after=3))

    def test_room_full(self) -> None:
        """The limit of members holds."""
        self.store = self.make_store(max_members=2)
        self.assertRefused(ROOM_FULL, self.extending([self.room.do(Join, carol)]), room="ops", limit=2)

    def test_too_many_rooms(self) -> None:
        """So does that of rooms, for all who enter."""
        self.store = self.make_store(max_rooms=1)
        why = "alice would be in more than 1 rooms"
        room = Room(bob, alice, name="more")
        self.do(self.store.act("ops", self.room.do(Leave, bob), wait=0.0, now=1))
        self.assertRefused(BAD_EVENT, self.extending(room.events, "bob", after=0, room="more"), why=why)
        self.do(self.extending(room.events[:1], "bob", after=0, room="more"))

    def test_list_far_ahead(self) -> None:
        """A list newer than the stored one may be lost; one far ahead never was, and would make all later ones old."""
        digest = "0" * 64
        for kind, author, whom in ((Join, carol, None), (Invite, alice, carol)):
            lost = [self.room.draft(kind, author, whom, dl=(102, digest))]
            why = "it names a device list of carol far ahead of the newest"
            self.assertRefused(BAD_EVENT, self.extending(lost), why=why)
        made = Room(alice, name="more", dl=(2**53 - 1, digest))
        why = "it names a device list of alice far ahead of the newest"
        self.assertRefused(BAD_EVENT, self.extending(made.events, after=0, room="more"), why=why)
        self.do(self.extending([self.room.do(Join, carol, dl=(101, digest))]))

    def test_ban_by_the_clock_here(self) -> None:
        """A timed ban lasts by this server's clock, whatever the author's says."""
        lost = [self.room.do(Ban, alice, carol, until=NOW + 1), self.room.do(Join, carol, at=NOW + 2)]
        self.assertRefused(BANNED, self.extending(lost, now=NOW), user="carol", room="ops")
        self.do(self.extending(lost, now=NOW + 1))

    def test_first_event_is_none(self) -> None:
        """A room that is not there begins with the event that makes it."""
        log = RoomLog(SRV)
        log.append(self.room.events[0])
        verb = self.extending([self.room.draft(Join, carol)], after=0, room="more")
        self.assertRefused(BAD_EVENT, verb, why="it is of another room")
