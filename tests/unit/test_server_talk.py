"""Tests for messages over the wire: sending, private ones, history, catching up, read markers."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from securechat.crypto.envelope import Position, audience, bind_of, message_id, parse_header
from securechat.crypto.identity import private_conversation
from securechat.crypto.roomlog import ChangePolicy, Invite, Join, Kick, Leave, Mute
from securechat.crypto.transcript import next_th, transcript_start
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_FIELD,
    BAD_HEADER,
    CTR_BEHIND,
    DAMAGED,
    MID_CONFLICT,
    MUTED,
    NO_SUCH_ROOM,
    NO_SUCH_USER,
    NOT_INVITED,
    NOT_MEMBER,
    OUT_OF_TURN,
    SELF_MESSAGE,
    STALE_HEAD,
    STALE_KEYS,
    TRY_AGAIN,
    UNKNOWN_AUDIENCE,
    Refused,
)
from securechat.server import talk
from securechat.server.connections import ConnectionLimits
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests.cast import chained
from tests.doubles import START, Caller, Person, ServerCase, hex_id, session_keys, wrapped


class Gate:
    """Holds back what a verb of the store has found or done, until it is opened."""

    def __init__(self, case: TalkCase, verb: str) -> None:
        genuine: Callable[..., Coroutine[Any, Any, Any]] = getattr(type(case.store), verb)
        self._waiting: list[Deferred[None]] = []
        self.closed = True

        async def gated(*args: Any, **kw: Any) -> Any:
            result = await genuine(*args, **kw)
            if self.closed:
                waiting: Deferred[None] = Deferred()
                self._waiting.append(waiting)
                await waiting
            return result

        case.patch(type(case.store), verb, gated)

    def open(self) -> None:
        """Lets go of what it holds, and holds nothing more."""
        self.closed = False
        for waiting in self._waiting:
            waiting.callback(None)


class TalkCase(ServerCase):
    """Tests of talk: alice and bob are in the room ops."""

    LIMITS = ConnectionLimits(message_burst=1000)

    def setUp(self) -> None:
        super().setUp()
        self.alices = self.member(self.alice, "ops")
        self.bobs = self.member(self.bob, "ops")
        self.alices.take()

    def send(self, number: int = 1, *, by: Caller | None = None, **changes: Any) -> Any:
        """The send of that number to both, by alice unless said otherwise, and what it is answered."""
        return (by or self.alices).ask(self.send_of(number, self.alice, self.bob, **changes))

    def many(self, count: int) -> None:
        """Sends 1 to `count` by alice."""
        for number in range(1, count + 1):
            self.alices.say(self.send_of(number, self.alice, self.bob))
        self.assertEqual(count, len(self.alices.replies()))
        self.bobs.take()

    def seqs(self, caller: Caller, room: str = "ops") -> list[int]:
        """The numbers of the messages of a conversation that a caller was sent since they were last taken."""
        return [message.seq for message in caller.take(m.StoredMessage) if message.room == room]


class VersionTwoTests(TalkCase):
    """Tests for packages that are the same for all readers."""

    def of(self, number: int = 1, *, room: str = "ops", **changes: Any) -> m.Send:
        """The send of that number by alice."""
        log = self.rooms[room].log
        prev = self.ids[log.id, self.alice.dev(), number - 1] if number > 1 else ""
        position = Position(
            room=log.id, author="alice", dev=self.alice.dev(), dl=self.alice.dl, ctr=number, prev=prev,
            mid=hex_id("chained", number), head=log.head, th=(0, transcript_start(log.id)), at=START * 1000,
        )  # fmt: skip
        package = chained(self.alice, position, **changes)
        self.ids[log.id, self.alice.dev(), number] = message_id(package.hdr, bind_of(package.bind, package.ct))
        return m.Send(id=number, room=room, package=package)

    def test_event(self) -> None:
        """All readers get the package as it was sent, the sender its answer; so does who reads it later."""
        request = self.of()
        self.assertEqual(m.SendOk(id=1, room="ops", seq=1, ts=START * 1000, events=2), self.alices.ask(request))
        (event,) = self.bobs.take(m.StoredMessage)
        self.assertEqual((request.package, 1, "alice"), (event.package, event.seq, event.sender))
        self.assertEqual((event,), self.bobs.ask(m.History(room="ops")).messages)

    def test_both_versions(self) -> None:
        """One device may send both, in one row of numbers."""
        self.alices.ask(self.of(1))
        self.assertEqual(2, self.alices.ask(self.send_of(2, self.alice, self.bob)).seq)
        self.assertEqual(3, self.alices.ask(self.of(3)).seq)
        page = self.bobs.ask(m.History(room="ops"))
        self.assertEqual([True, False, True], [bool(message.package.ct) for message in page.messages])

    def test_again(self) -> None:
        """The same again is answered the same; another under its mid is refused."""
        first = self.alices.ask(self.of())
        self.assertEqual(replace(first, dup=True), self.alices.ask(self.of()))
        self.assertFailed(MID_CONFLICT, self.alices.ask(self.of(gen=1)))

    def test_who_came_and_went(self) -> None:
        """One for members of whom somebody was put out since is refused; a newcomer is no reason."""
        request = self.of()
        self.member(self.carol, "ops")
        self.assertEqual(1, self.alices.ask(request).seq)
        request = self.of(2)
        self.perform(self.alices, Kick, self.alice, self.carol)
        self.assertFailed(STALE_HEAD, self.alices.ask(request), head=self.rooms["ops"].log.head)

    def test_shape(self) -> None:
        """A package is of one version or the other, in all its parts."""
        request = self.of()
        one, two = self.send_of(1, self.alice, self.bob).package, request.package
        for package in (
            replace(two, ct=b""), replace(two, bind=one.bind), replace(two, kids=one.kids),
            replace(two, encrypted_message=one.encrypted_message), replace(one, ct=two.ct), replace(one, bind=b""),
            replace(two, encrypted_keys=one.encrypted_keys, kids=one.kids),
        ):  # fmt: skip
            self.assertFailed(BAD_FIELD, self.alices.ask(replace(request, package=package)))
        for hdr in (one.hdr, two.hdr.replace(b'"from":"alice"', b'"from":"bob"'), two.hdr[:-1]):
            self.assertFailed(BAD_HEADER, self.alices.ask(replace(request, package=replace(two, hdr=hdr))))
        self.assertFailed(BAD_HEADER, self.alices.ask(replace(request, package=replace(one, hdr=two.hdr))))
        self.assertEqual(1, self.alices.ask(request).seq)


class SendTests(TalkCase):
    """Tests for `send`."""

    def test_answer(self) -> None:
        """It is told where and when it was stored."""
        self.assertEqual(m.SendOk(id=1, room="ops", seq=1, ts=START * 1000, events=2), self.send())
        self.reactor.advance(1.5)
        self.assertEqual(m.SendOk(id=2, room="ops", seq=2, ts=START * 1000 + 1500, events=2), self.send(2))

    def test_event(self) -> None:
        """The others get it as it was sealed, each with their own key alone."""
        request = self.send_of(1, self.alice, self.bob)
        self.alices.ask(request)
        package = m.Package(
            encrypted_message=request.package.encrypted_message,
            encrypted_keys={"bob": request.package.encrypted_keys["bob"]},
            kids={"bob": self.bob.kid},
            hdr=request.package.hdr,
            bind=request.package.bind,
            sig=request.package.sig,
        )
        expected = m.StoredMessage(
            room="ops",
            seq=1,
            sender="alice",
            device=self.alice.dev(),
            mid=parse_header(request.package.hdr).mid,
            ts=START * 1000,
            events=2,
            package=package,
        )
        self.assertEqual([expected], self.bobs.take())

    def test_own_devices(self) -> None:
        """The sender's other connections get it too, with the sender's key; this one has its answer."""
        other = self.second_device(self.alice)
        self.send()
        (event,) = other.take(m.StoredMessage)
        self.assertEqual(["alice"], list(event.package.kids))
        self.assertEqual([], self.alices.take(m.StoredMessage))

    def test_published_after_the_commit(self) -> None:
        """Until it is on disk nobody is told, neither its sender nor its readers."""
        self.writer.threads.held = True
        self.alices.say(self.send_of(1, self.alice, self.bob))
        self.assertEqual(([], []), (self.alices.replies(), self.bobs.take()))
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual((1, [1]), (self.alices.replies()[0]["seq"], self.seqs(self.bobs)))

    def test_again(self) -> None:
        """The same again is answered the same, as `dup`, whatever has changed since, and nobody is told again."""
        request = self.send_of(1, self.alice, self.bob)
        first = self.alices.ask(request)
        self.bobs.take()
        self.member(self.carol, "ops")
        self.perform(self.alices, Kick, self.alice, self.bob)
        self.assertEqual(replace(first, dup=True), self.alices.ask(request))
        self.assertEqual([], self.seqs(self.bobs))

    def test_from_another_connection(self) -> None:
        """So it is after a lost connection, whose answer never came."""
        self.writer.threads.held = True
        self.alices.say(self.send_of(1, self.alice, self.bob))
        self.alices.lose()
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([1], self.seqs(self.bobs))
        reply = self.send(by=self.again(self.alice))
        self.assertEqual((1, True), (reply.seq, reply.dup))
        self.assertEqual([], self.seqs(self.bobs))

    def test_mid_conflict(self) -> None:
        """Another message under the same mid is refused: another token, other keys, another room."""
        request = self.send_of(1, self.alice, self.bob)
        self.alices.ask(request)
        self.enter(self.alices, self.alice, "elsewhere")
        mid = parse_header(request.package.hdr).mid
        keys = {user: wrapped("other", user) for user in ("alice", "bob")}
        for changed in (
            self.send_of(1, self.alice, self.bob, mid=mid, at=1),
            replace(request, package=replace(request.package, encrypted_keys=keys)),
            replace(request, package=replace(request.package, kids=request.package.kids | {"bob": hex_id("other")})),
            replace(request, package=replace(request.package, sig=b"s" * 64)),
            replace(request, room="elsewhere"),
        ):
            self.assertFailed(MID_CONFLICT, self.alices.ask(changed))

    def test_stale_head(self) -> None:
        """Sealed before somebody was put out it is refused, with the present head."""
        carols = self.member(self.carol, "ops")
        request = self.send_of(1, self.alice, self.bob, self.carol)
        self.perform(self.alices, Kick, self.alice, self.carol)
        self.assertFailed(STALE_HEAD, self.alices.ask(request), head=self.rooms["ops"].log.head)
        self.assertEqual(1, self.send().seq)
        self.assertEqual([], self.seqs(carols))

    def test_newcomer_not_known_yet(self) -> None:
        """Sealed before somebody joined it is taken; who joined gets it without a key."""
        request = self.send_of(1, self.alice, self.bob)
        carols = self.member(self.carol, "ops")
        self.assertEqual(3, self.alices.ask(request).events)
        (event,) = carols.take(m.StoredMessage)
        self.assertEqual(({}, {}), (event.package.encrypted_keys, event.package.kids))

    def test_bad_audience(self) -> None:
        """Sealed for others than the members it is refused: too few, too many, somebody else."""
        for others in ((), (self.bob, self.carol), (self.carol,)):
            self.assertFailed(BAD_AUDIENCE, self.alices.ask(self.send_of(1, self.alice, *others)))

    def test_stale_keys(self) -> None:
        """Sealed for keys that are not the newest it is refused, with whose they are."""
        reply = self.alices.ask(self.send_of(1, self.alice, Person("bob", generation=2)))
        self.assertFailed(STALE_KEYS, reply, users=("bob",))

    def test_own_stale_list(self) -> None:
        """Who does not know the newest list of their own devices is told so."""
        self.second_device(self.alice)
        self.assertFailed(STALE_KEYS, self.send(dl=self.alice.dl), users=("alice",))

    def test_out_of_turn(self) -> None:
        """A number that is not the device's next is refused, with the one that is."""
        self.assertFailed(OUT_OF_TURN, self.send(2), expected=1)
        self.send(1)
        self.assertFailed(OUT_OF_TURN, self.send(3), expected=2)

    def test_ctr_behind(self) -> None:
        """A number that is used up brings the device's newest message, as its sender reads it, to prove it."""
        for number in (1, 2):
            self.send(number)
        (_, newest) = self.alices.ask(m.History(room="ops")).messages
        reply = self.send(1, mid=hex_id("fresh"))
        self.assertFailed(CTR_BEHIND, reply, expected=3)
        self.assertEqual(newest, reply.proof)
        self.assertEqual(["alice"], list(newest.package.kids))

    def test_not_a_member(self) -> None:
        """Who is not in the room does not write there, nor anybody where there is no room."""
        outsider = self.member(self.carol)
        reply = outsider.ask(self.send_of(1, self.carol, self.alice, self.bob))
        self.assertFailed(NOT_MEMBER, reply)
        request = self.send_of(1, self.alice, self.bob)
        self.assertFailed(NO_SUCH_ROOM, self.alices.ask(replace(request, room="nowhere")))

    def test_muted(self) -> None:
        """Nor does who has no voice."""
        self.perform(self.alices, Mute, self.alice, self.bob)
        self.assertFailed(MUTED, self.bobs.ask(self.send_of(1, self.bob, self.alice)))

    def test_keys_and_kids(self) -> None:
        """Wrapped keys and their ids name the same users."""
        request = self.send_of(1, self.alice, self.bob)
        broken = replace(request.package, kids={"alice": self.alice.kid})
        self.assertFailed(BAD_FIELD, self.alices.ask(replace(request, package=broken)))

    def test_header_that_is_none(self) -> None:
        """What is no header, or none in its one canonical form, is refused."""
        request = self.send_of(1, self.alice, self.bob)
        for hdr in (b"{}", b"[1", request.package.hdr + b" ", request.package.hdr.replace(b'"ctr":1', b'"ctr":1.0')):
            broken = replace(request, package=replace(request.package, hdr=hdr))
            self.assertFailed(BAD_HEADER, self.alices.ask(broken))

    def test_header_that_does_not_fit(self) -> None:
        """A header by somebody else, of another device, text or conversation, is refused."""
        for changes in (
            {"author": "bob"},
            {"dev": self.bob.dev()},
            {"dev": self.alice.dev(2)},
            {"mh": "0" * 64},
            {"room": "0" * 64},
            {"rcp": "0" * 64},
            {"th": (0, "0" * 64)},
            {"th": (1, "0" * 64)},
        ):
            self.assertFailed(BAD_HEADER, self.send(**changes))
        self.assertEqual(1, self.send().seq)

    def test_signature_is_for_the_readers(self) -> None:
        """The server does not check it: it comes to the readers as it is."""
        request = self.send_of(1, self.alice, self.bob)
        self.alices.ask(replace(request, package=replace(request.package, sig=b"?" * 64)))
        self.assertEqual([b"?" * 64], [event.package.sig for event in self.bobs.take(m.StoredMessage)])

    def test_refusals_leave_no_trace(self) -> None:
        """After a refusal that proves that nothing is stored, the same mid serves another body."""
        for number, others, changes in (
            (1, (self.bob,), {"head": "0" * 64}),
            (1, (), {}),
            (2, (self.bob,), {}),
        ):
            reply = self.alices.ask(self.send_of(number, self.alice, *others, mid=hex_id("one"), **changes))
            self.assertIsInstance(reply, m.Failed)
        self.assertEqual(1, self.send(mid=hex_id("one")).seq)
        self.assertEqual([1], self.seqs(self.bobs))

    def test_server_splices_nothing(self) -> None:
        """Fields that a sender puts into the package beside those known do not reach the readers."""
        line = json.loads(codec.encode(self.send_of(1, self.alice, self.bob)))
        line["package"]["evil"] = 1
        self.alices.say(json.dumps(line | {"evil": 2}).encode())
        self.assertEqual("ok", self.alices.replies()[0]["status"])
        self.bobs.listen()
        self.assertNotIn(b"evil", self.bobs.raw)


class PipelineTests(TalkCase):
    """Tests for several sends under way."""

    def sends(self, first: int, last: int) -> list[m.Send]:
        """Alice's sends of these numbers."""
        return [self.send_of(number, self.alice, self.bob) for number in range(first, last + 1)]

    def test_answers_in_order(self) -> None:
        """Said in one piece, they are answered in order, and so are read by the others."""
        self.alices.say(*self.sends(1, 5))
        self.assertEqual([(n, n) for n in range(1, 6)], [(one["id"], one["seq"]) for one in self.alices.replies()])
        self.assertEqual([1, 2, 3, 4, 5], self.seqs(self.bobs))

    def test_share_a_commit(self) -> None:
        """Those that come while one commit runs share the next."""
        self.writer.threads.held = True
        self.alices.say(*self.sends(1, 10))
        self.writer.threads.run_next()
        self.assertEqual([1], [one["seq"] for one in self.alices.replies()])
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([*range(2, 11)], [one["seq"] for one in self.alices.replies()])
        self.assertEqual(0, self.writer.threads.waiting)

    def test_window(self) -> None:
        """64 may be under way; the next one waits for the first answer."""
        asked: list[int] = []
        genuine = type(self.store).append

        async def counted(store: Any, message: Any) -> Any:
            asked.append(message.header.ctr)
            return await genuine(store, message)

        self.patch(type(self.store), "append", counted)
        self.writer.threads.held = True
        self.alices.say(*self.sends(1, 70))
        self.assertEqual([*range(1, limits.PENDING_SENDS + 1)], asked)
        self.writer.threads.run_next()
        self.assertEqual([*range(1, limits.PENDING_SENDS + 2)], asked)
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([*range(1, 71)], [one["seq"] for one in self.alices.replies()])

    def test_other_requests_wait(self) -> None:
        """Any other request waits for the sends before it, and those after it wait for it."""
        self.writer.threads.held = True
        self.alices.say(*self.sends(1, 2), m.Ping(id=90), *self.sends(3, 3), m.History(id=91, room="ops"))
        self.assertEqual([], self.alices.replies())
        self.writer.threads.held = False
        self.writer.threads.run_next()
        replies = self.alices.replies()
        self.assertEqual([1, 2, 90, 3, 91], [reply["id"] for reply in replies])
        self.assertEqual(3, len(replies[-1]["messages"]))

    def test_one_refused_in_the_middle(self) -> None:
        """One that is refused refuses those behind it: the order in which they were typed is never lost."""
        first, second, *rest = self.sends(1, 5)
        stale = replace(second, package=replace(second.package, hdr=second.package.hdr.replace(b'"ctr":2', b'"ctr":3')))
        self.alices.say(first, stale, *rest)
        codes = [reply.get("code") for reply in self.alices.replies()]
        self.assertEqual([None, "out_of_turn", "out_of_turn", "out_of_turn", "out_of_turn"], codes)
        self.alices.say(second, *rest)
        self.assertEqual([2, 3, 4, 5], [reply["seq"] for reply in self.alices.replies()])
        self.assertEqual([1, 2, 3, 4, 5], self.seqs(self.bobs))

    def test_answers_and_events_in_order(self) -> None:
        """On one connection all of a conversation comes in the order of its history: answers and events alike."""
        self.writer.threads.held = True
        self.alices.say(self.send_of(1, self.alice, self.bob))
        for number in (2, 3, 4):
            self.alices.say(self.send_of(number, self.alice, self.bob))
            self.bobs.say(self.send_of(number - 1, self.bob, self.alice))
        self.writer.threads.held = False
        self.writer.threads.run_next()
        for caller in (self.alices, self.bobs):
            caller.listen()
            lines = map(json.loads, caller.raw.splitlines())
            said = [line for line in lines if line.get("event") == "message" or "ts" in line]
            self.assertEqual([*range(1, 8)], [line["seq"] for line in said])
            self.assertEqual({"reply", "event"}, {"event" if "event" in line else "reply" for line in said})


class PrivateMessageTests(TalkCase):
    """Tests for `pm`."""

    def setUp(self) -> None:
        super().setUp()
        self.room = private_conversation(self.alice.ik, self.bob.ik)

    def pm(self, number: int = 1, **changes: Any) -> Any:
        """Alice's private message to bob of that number, and what it is answered."""
        return self.alices.ask(self.pm_of(number, self.alice, self.bob, **changes))

    def test_first_message(self) -> None:
        """The first message makes the conversation; its reader is told at once whom it is from and for."""
        self.assertEqual(m.SendOk(id=1, room=self.room, seq=1, ts=START * 1000, events=0), self.pm())
        (event,) = self.bobs.take(m.StoredMessage)
        self.assertEqual(
            (self.room, "alice", "bob", ["bob"]), (event.room, event.sender, event.to, list(event.package.kids))
        )

    def test_both_ways(self) -> None:
        """It is one conversation for both, with numbers of its own."""
        self.pm()
        reply = self.bobs.ask(self.pm_of(1, self.bob, self.alice))
        self.assertEqual((self.room, 2), (reply.room, reply.seq))
        (event,) = self.alices.take(m.StoredMessage)
        self.assertEqual(("bob", "alice"), (event.sender, event.to))
        self.assertEqual(1, self.send().seq)

    def test_offline(self) -> None:
        """Somebody who is not there finds it on coming back."""
        self.alices.ask(self.pm_of(1, self.alice, self.carol))
        carols = self.call()
        carols.ask(self.login_of(self.carol, carols))
        state = carols.ask(m.Sync()).conversations[0]
        self.assertEqual(("alice", 1, 1), (state.peer, state.last, state.unread))
        (event,) = carols.take(m.StoredMessage)
        self.assertEqual("carol", event.to)

    def test_nobody(self) -> None:
        """There is none to somebody who does not exist, nor to oneself."""
        request = self.pm_of(1, self.alice, self.bob)
        self.assertFailed(NO_SUCH_USER, self.alices.ask(replace(request, user="nobody")))
        self.assertFailed(SELF_MESSAGE, self.alices.ask(replace(request, user="alice")))

    def test_refusals(self) -> None:
        """It is refused as a send would be, and makes no conversation then."""
        other = Person("bob", generation=2)
        for request, code, fields in (
            (self.pm_of(2, self.alice, self.bob), OUT_OF_TURN, {"expected": 1}),
            (self.pm_of(1, self.alice, self.bob, kids={}, encrypted_keys={}), BAD_AUDIENCE, {}),
            (self.pm_of(1, self.alice, other), STALE_KEYS, {"users": ("bob",)}),
            (self.pm_of(1, self.alice, other, room=self.room), STALE_KEYS, {"users": ("bob",)}),
            (self.pm_of(1, self.alice, self.bob, room="pm:" + "0" * 64), STALE_KEYS, {"users": ("bob",)}),
            (self.pm_of(1, self.alice, self.bob, room="0" * 64), BAD_HEADER, {}),
            (self.pm_of(1, self.alice, self.bob, head="0" * 64), BAD_HEADER, {}),
        ):
            self.assertFailed(code, self.alices.ask(request), **fields)
        self.assertFailed(NO_SUCH_ROOM, self.bobs.ask(m.History(room=self.room)))

    def test_again(self) -> None:
        """The same again is `dup`."""
        first = self.pm()
        self.assertEqual(replace(first, dup=True), self.pm())
        self.assertEqual([1], self.seqs(self.bobs, self.room))

    def test_after_a_new_identity(self) -> None:
        """Where the other has a new identity it is another conversation."""
        self.pm()
        other = Person("bob", generation=2)
        self.bobs.ask(
            m.ResetIdentity(
                password=self.login_of(self.bob, self.bobs).password,
                keys=session_keys(other),
                backup=m.Backup(version=1, blob=b"x"),
            )
        )
        self.assertFailed(STALE_KEYS, self.pm(2), users=("bob",))
        self.assertTrue(self.pm().dup)
        reply = self.alices.ask(self.pm_of(1, self.alice, other))
        self.assertEqual((private_conversation(self.alice.ik, other.ik), 1), (reply.room, reply.seq))

    def test_not_pipelined(self) -> None:
        """One at a time, in order, also between sends."""
        self.writer.threads.held = True
        self.alices.say(
            self.pm_of(1, self.alice, self.bob),
            self.send_of(1, self.alice, self.bob),
            self.pm_of(2, self.alice, self.bob),
        )
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual(
            [(self.room, 1), ("ops", 1), (self.room, 2)],
            [(reply["room"], reply["seq"]) for reply in self.alices.replies()],
        )

    def test_synced_between_commit_and_answer(self) -> None:
        """Who syncs after the first message is stored and before it is handed out gets it once."""
        carols = self.call()
        carols.ask(self.login_of(self.carol, carols))
        gate = Gate(self, "append")
        self.alices.say(self.pm_of(1, self.alice, self.carol))
        carols.ask(m.Sync())
        gate.open()
        self.assertEqual([1], [message.seq for message in carols.take(m.StoredMessage)])
        self.assertEqual(1, self.alices.replies()[0]["seq"])
        self.alices.ask(self.pm_of(2, self.alice, self.carol))
        self.assertEqual([2], [message.seq for message in carols.take(m.StoredMessage)])

    def test_connection_lost_meanwhile(self) -> None:
        """A message whose sender is gone is stored and handed out all the same."""
        self.writer.threads.held = True
        self.alices.say(self.pm_of(1, self.alice, self.bob))
        self.alices.lose()
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([("alice", 1)], [(one.sender, one.seq) for one in self.bobs.take(m.StoredMessage)])


class HistoryTests(TalkCase):
    """Tests for `history`."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(1, 8):
            self.send(number)
        self.bobs.take()

    def page(self, caller: Caller | None = None, **fields: Any) -> tuple[list[int], bool, int, int]:
        """A page: its numbers, whether there is more, and where it begins and ends."""
        reply = (caller or self.bobs).ask(m.History(id=3, room="ops", **fields))
        self.assertEqual((3, "ops"), (reply.id, reply.room))
        return [message.seq for message in reply.messages], reply.more, reply.first_seq, reply.last_seq

    def test_newest(self) -> None:
        """Without a place it is the newest messages, oldest first."""
        self.assertEqual(([*range(1, 8)], False, 1, 7), self.page())
        self.assertEqual(([5, 6, 7], True, 5, 7), self.page(limit=3))

    def test_before_and_after(self) -> None:
        """Next to a place, exclusive, with whether it goes on in that direction."""
        self.assertEqual(([3, 4], True, 3, 4), self.page(before=5, limit=2))
        self.assertEqual(([1, 2, 3, 4], False, 1, 4), self.page(before=5, limit=4))
        self.assertEqual(([3, 4], True, 3, 4), self.page(after=2, limit=2))
        self.assertEqual(([6, 7], False, 6, 7), self.page(after=5, limit=2))
        self.assertEqual(([1], True, 1, 1), self.page(after=0, limit=1))

    def test_empty(self) -> None:
        """Where there is nothing the page is empty."""
        self.assertEqual(([], False, 0, 0), self.page(before=1))
        self.assertEqual(([], False, 0, 0), self.page(after=7))

    def test_both_places(self) -> None:
        """Before and after exclude each other."""
        self.assertFailed(BAD_FIELD, self.bobs.ask(m.History(room="ops", before=5, after=1)))

    def test_same_as_the_events(self) -> None:
        """A message reads the same in a page as it came."""
        self.send(8)
        (event,) = self.bobs.take(m.StoredMessage)
        self.assertEqual((event,), self.bobs.ask(m.History(room="ops", limit=1)).messages)

    def test_own_key_alone(self) -> None:
        """Each reader gets their own key, and the sender the sender's."""
        for caller, user in ((self.alices, "alice"), (self.bobs, "bob")):
            messages = caller.ask(m.History(room="ops")).messages
            self.assertEqual({(user,)}, {tuple(message.package.encrypted_keys) for message in messages})

    def test_before_joining(self) -> None:
        """What was said before one joined comes without a key."""
        carols = self.member(self.carol, "ops")
        packages = [message.package for message in carols.ask(m.History(room="ops")).messages]
        self.assertEqual(7, len(packages))
        self.assertEqual({((), ())}, {(tuple(one.encrypted_keys), tuple(one.kids)) for one in packages})

    def test_start(self) -> None:
        """A page comes with the place before its first message; an empty one with none."""
        log = self.rooms["ops"].log
        th = next_th(transcript_start(log.id), log.head, self.ids[log.id, self.alice.dev(), 1])
        self.assertEqual((1, th), self.bobs.ask(m.History(room="ops", after=1)).start)
        self.assertEqual((0, transcript_start(log.id)), self.bobs.ask(m.History(room="ops")).start)
        self.assertIs(m.UNSET, self.bobs.ask(m.History(room="ops", after=7)).start)

    def test_closed_room(self) -> None:
        """In a room that is not open, there is nothing for one from before they joined."""
        self.perform(self.alices, ChangePolicy, self.alice, join="invite")
        self.perform(self.alices, Invite, self.alice, self.carol)
        carols = self.member(self.carol, "ops")
        self.assertEqual(([], False, 0, 0), self.page(carols))
        self.alices.ask(self.send_of(8, self.alice, self.bob, self.carol))
        self.assertEqual(([8], False, 8, 8), self.page(carols, after=0))

    def test_put_out_and_back_in(self) -> None:
        """Who was put out of a closed room hears nothing of it; back in, nothing from before that."""
        self.perform(self.alices, ChangePolicy, self.alice, join="invite")
        rcp = parse_header(self.send_of(8, self.alice, self.bob).package.hdr).rcp
        self.bobs.ask(m.Read(room="ops", seq=3))
        second = self.second_device(self.bob)
        self.perform(self.alices, Kick, self.alice, self.bob)
        self.alices.ask(self.send_of(8, self.alice))
        for caller in (self.bobs, second):
            self.assertEqual([], self.seqs(caller))
            for request in (
                m.History(room="ops"), m.History(room="ops", after=0), m.Audience(room="ops", rcp=rcp),
                m.Online(room="ops"), m.Read(room="ops", seq=7),
            ):  # fmt: skip
                self.assertFailed(NOT_MEMBER, caller.ask(request))
            self.assertFailed(NOT_INVITED, caller.ask(m.RoomLog(room="ops")))
            self.assertEqual((), caller.ask(m.Sync(since={self.rooms["ops"].log.id: 3})).conversations)
        self.perform(self.alices, Invite, self.alice, self.bob, dl=self.lists["bob"])
        self.enter(self.bobs, self.bob, "ops")
        for caller in (self.bobs, second):
            for fields in ({}, {"after": 0}, {"before": 9}):
                self.assertEqual(([], False, 0, 0), self.page(caller, **fields))
        self.alices.ask(self.send_of(9, self.alice, self.bob))
        self.assertEqual(([9], False, 9, 9), self.page(self.bobs, after=0))
        self.assertEqual([[9], [9]], [self.seqs(caller) for caller in (self.bobs, second)])
        late = self.again(self.bob, sync=False)
        (state,) = late.ask(m.Sync(epoch=self.store.epoch, since={self.rooms["ops"].log.id: 3})).conversations
        self.assertEqual((8, 8, 8), (state.first, state.read, state.start[0]))
        self.assertEqual([9], self.seqs(late))

    def test_other_identity_back_in(self) -> None:
        """So it is for a new identity, in the place of the one that was there."""
        self.perform(self.alices, ChangePolicy, self.alice, join="invite")
        other = Person("bob", generation=2)
        self.bobs.ask(
            m.ResetIdentity(
                password=self.login_of(self.bob, self.bobs).password,
                keys=session_keys(other),
                backup=m.Backup(version=1, blob=b"x"),
            )
        )
        self.bobs.ask(m.Sync())
        for request in (m.History(room="ops"), m.Online(room="ops"), m.Read(room="ops", seq=7)):
            self.assertFailed(NOT_MEMBER, self.bobs.ask(request))
        self.perform(self.alices, Invite, self.alice, other)
        self.perform(self.bobs, Join, other)
        self.assertEqual(([], False, 0, 0), self.page(after=0))
        (state,) = self.bobs.ask(m.Sync(since={self.rooms["ops"].log.id: 3})).conversations
        self.assertEqual((7, 7, 7), (state.first, state.read, state.start[0]))

    def test_audience(self) -> None:
        """The bytes behind the digest in a header, for those who are there."""
        request = self.send_of(8, self.alice, self.bob)
        self.alices.ask(request)
        rcp = parse_header(request.package.hdr).rcp
        expected = m.AudienceOk(id=3, room="ops", audience=audience(request.package.kids))
        self.assertEqual(expected, self.bobs.ask(m.Audience(id=3, room="ops", rcp=rcp)))
        self.assertFailed(UNKNOWN_AUDIENCE, self.bobs.ask(m.Audience(room="ops", rcp="0" * 64)))
        self.assertFailed(NOT_MEMBER, self.member(self.carol).ask(m.Audience(room="ops", rcp=rcp)))

    def test_not_a_member(self) -> None:
        """Who is not in the room does not read it; after leaving, no more."""
        carols = self.member(self.carol)
        self.assertFailed(NOT_MEMBER, carols.ask(m.History(room="ops")))
        self.perform(self.bobs, Leave, self.bob)
        self.assertFailed(NOT_MEMBER, self.bobs.ask(m.History(room="ops")))
        self.assertFailed(NO_SUCH_ROOM, carols.ask(m.History(room="nowhere")))

    def test_private(self) -> None:
        """A private conversation's page says whom each message is for; to a third there is none."""
        for number in (1, 2):
            self.alices.ask(self.pm_of(number, self.alice, self.bob))
        room = self.bobs.ask(self.pm_of(1, self.bob, self.alice)).room
        for caller in (self.alices, self.bobs):
            messages = caller.ask(m.History(room=room)).messages
            self.assertEqual(
                [("alice", "bob"), ("alice", "bob"), ("bob", "alice")], [(one.sender, one.to) for one in messages]
            )
        self.assertFailed(NO_SUCH_ROOM, self.member(self.carol).ask(m.History(room=room)))

    def test_page_bytes(self) -> None:
        """A page ends at 256 KiB, and says that there is more."""
        long = "gAAAAAAAAAAA" + "x" * (limits.MAX_TOKEN - 12)
        for number in range(8, 24):
            self.send(number, encrypted_message=long, mh=hashlib.sha256(long.encode()).hexdigest())
        self.bobs.take()
        numbers, more, first, last = self.page(limit=200)
        self.assertTrue(more)
        self.assertEqual((list(range(first, 24)), 23), (numbers, last))
        self.assertLess(len(numbers) * limits.MAX_TOKEN, limits.PAGE_BYTES)
        self.assertGreater((len(numbers) + 2) * limits.MAX_TOKEN, limits.PAGE_BYTES)

    def test_damaged(self) -> None:
        """Where a stored message was altered it says so."""
        self.damage()
        self.assertFailed(DAMAGED, self.bobs.ask(m.History(room="ops")))
        self.flushLoggedErrors()

    def damage(self) -> None:
        """Two stored messages change places."""
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(
                "UPDATE message SET segment_id = (SELECT segment_id FROM message WHERE seq = 1) WHERE seq = 2"
            )

    def test_damage_stops_nothing_else(self) -> None:
        """Who cannot catch up in a damaged room is live there all the same, and catches up elsewhere."""
        self.enter(self.alices, self.alice, "zoo")
        self.damage()
        bobs = self.call()
        bobs.ask(self.login_of(self.bob, bobs))
        bobs.ask(m.Sync(since={self.rooms["ops"].log.id: 0}))
        self.assertEqual([m.Live(room="ops", seq=7)], bobs.take(m.Live))
        self.send(8)
        self.assertEqual([8], self.seqs(bobs))


class SyncTests(TalkCase):
    """Tests for `sync`."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(talk, "_PAGE", 5)

    def back(self, person: Person, **fields: Any) -> tuple[Caller, Any]:
        """Somebody on a new connection, with the answer to a sync."""
        caller = self.call()
        caller.ask(self.login_of(person, caller))
        return caller, caller.ask(m.Sync(**fields))

    def test_states(self) -> None:
        """It tells where each conversation stands."""
        for number in (1, 2):
            self.send(number)
        pm = self.alices.ask(self.pm_of(1, self.alice, self.bob))
        self.bobs.ask(m.Read(room="ops", seq=1))
        self.bobs.lose()
        _, reply = self.back(self.bob)
        self.assertEqual(self.store.epoch, reply.epoch)
        log = self.rooms["ops"].log
        th = next_th(transcript_start(log.id), log.head, self.ids[log.id, self.alice.dev(), 1])
        start = (0, transcript_start(pm.room))
        self.assertEqual(
            (
                m.ConversationState("ops", log.id, log.head, 2, last=2, first=0, read=1, unread=1, start=(1, th)),
                m.ConversationState(pm.room, pm.room, "", 0, 1, first=0, read=0, unread=1, start=start, peer="alice"),
            ),
            reply.conversations,
        )

    def test_invites(self) -> None:
        """It names the rooms one is invited to."""
        self.perform(self.alices, Invite, self.alice, self.carol)
        _, reply = self.back(self.carol)
        self.assertEqual(("ops",), reply.invites)
        _, reply = self.back(self.bob)
        self.assertEqual((), reply.invites)

    def test_start(self) -> None:
        """What streams begins behind the place that it names: at the cursor, or at the read marker."""
        for number in (1, 2):
            self.send(number)
        log = self.rooms["ops"].log
        ths = [transcript_start(log.id)]
        for number in (1, 2):
            ths.append(next_th(ths[-1], log.head, self.ids[log.id, self.alice.dev(), number]))
        for seq in (0, 1, 2):
            caller, reply = self.back(self.bob, since={self.rooms["ops"].log.id: seq})
            self.assertEqual((seq, ths[seq]), reply.conversations[0].start)
            self.assertEqual([*range(seq + 1, 3)], self.seqs(caller))

    def test_since(self) -> None:
        """What is newer than the cursor is streamed, own messages included, then `live`; after that, what is new."""
        for number in range(1, 6):
            self.send(number)
        for person in (self.alice, self.bob):
            caller, _ = self.back(person, epoch=self.store.epoch, since={self.rooms["ops"].log.id: 2})
            *messages, live = caller.take()
            self.assertEqual([3, 4, 5], [message.seq for message in messages])
            self.assertEqual(m.Live(room="ops", seq=5), live)
        self.send(6, by=self.again(self.alice))
        self.assertEqual([6], self.seqs(caller))

    def test_order(self) -> None:
        """The reply comes first, then each conversation's messages in order, each ended by its `live`."""
        for number in (1, 2, 3):
            self.send(number)
        self.alices.ask(self.pm_of(1, self.alice, self.bob))
        caller, _ = self.back(self.bob, since={self.rooms["ops"].log.id: 1})
        lines = [json.loads(line) for line in caller.raw.splitlines()]
        kinds = [
            (line.get("event", line.get("status")), line.get("room", "")[:3], line.get("seq")) for line in lines[-6:]
        ]
        self.assertEqual(
            [
                ("ok", "", None),
                ("message", "ops", 2),
                ("message", "ops", 3),
                ("live", "ops", 3),
                ("message", "pm:", 1),
                ("live", "pm:", 1),
            ],
            kinds,
        )

    def test_from_the_read_marker(self) -> None:
        """Without a cursor it starts at the read marker."""
        for number in (1, 2, 3):
            self.send(number)
        self.bobs.ask(m.Read(room="ops", seq=2))
        caller, _ = self.back(self.bob)
        self.assertEqual([3], self.seqs(caller))

    def test_nothing_missed(self) -> None:
        """Where nothing was missed it is live at once."""
        self.send()
        caller, reply = self.back(self.bob, since={self.rooms["ops"].log.id: 1})
        self.assertFalse(reply.conversations[0].reset)
        self.assertEqual([m.Live(room="ops", seq=1)], caller.take())

    def test_other_epoch(self) -> None:
        """A cursor of another epoch is reset: it starts again from the read marker."""
        for number in (1, 2, 3):
            self.send(number)
        self.bobs.ask(m.Read(room="ops", seq=1))
        caller, reply = self.back(self.bob, epoch="0" * 32, since={self.rooms["ops"].log.id: 3})
        self.assertEqual((True, 1), (reply.conversations[0].reset, reply.conversations[0].read))
        self.assertEqual([2, 3], self.seqs(caller))

    def test_ahead(self) -> None:
        """So is a cursor that is ahead of the newest message."""
        self.send()
        caller, reply = self.back(self.bob, epoch=self.store.epoch, since={self.rooms["ops"].log.id: 2, "0" * 64: 5})
        self.assertEqual([("ops", True)], [(state.room, state.reset) for state in reply.conversations])
        self.assertEqual([1], self.seqs(caller))

    def test_again_on_one_connection(self) -> None:
        """A second sync tells where everything stands, and streams nothing twice."""
        self.send()
        caller, _ = self.back(self.bob, since={self.rooms["ops"].log.id: 0})
        caller.take()
        self.assertEqual(1, caller.ask(m.Sync(since={self.rooms["ops"].log.id: 0})).conversations[0].last)
        self.assertEqual([], caller.take())
        self.send(2)
        self.assertEqual([2], self.seqs(caller))

    def test_long(self) -> None:
        """More than a page comes in several, in order, and once."""
        self.many(12)
        caller, _ = self.back(self.bob, since={self.rooms["ops"].log.id: 0})
        self.assertEqual([*range(1, 13)], self.seqs(caller))
        self.assertEqual([m.Live(room="ops", seq=12)], caller.take(m.Live))

    def test_back_pressure(self) -> None:
        """A reader that does not read is not read for: pages are read as it takes them."""
        self.many(12)
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        genuine = type(self.store).read
        reads: list[int] = []

        async def counted(store: Any, *args: Any, **kw: Any) -> Any:
            reads.append(kw["after"])
            return await genuine(store, *args, **kw)

        self.patch(type(self.store), "read", counted)
        caller.transport.producer.pauseProducing()
        caller.say(m.Sync(since={self.rooms["ops"].log.id: 0}))
        caller.listen()
        self.assertEqual([0], reads)
        self.send(13)
        caller.transport.producer.resumeProducing()
        self.assertEqual([*range(1, 14)], self.seqs(caller))
        self.assertEqual(reads, sorted(reads))

    def test_sent_while_catching_up(self) -> None:
        """What is stored while somebody catches up comes once, in its place."""
        self.many(7)
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        gate = Gate(self, "read")
        caller.say(m.Sync(since={self.rooms["ops"].log.id: 0}))
        for number in (8, 9):
            self.send(number)
        gate.open()
        self.send(10)
        self.assertEqual([*range(1, 11)], self.seqs(caller))

    def test_sent_before_anybody_listened(self) -> None:
        """What is handed out, to nobody, between looking up and subscribing is not lost."""
        self.alices.lose()
        self.bobs.lose()
        silent = self.again(self.alice, sync=False)
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        gate = Gate(self, "conversations")
        caller.say(m.Sync())
        self.assertEqual(1, self.send(by=silent).seq)
        gate.open()
        self.assertEqual([1], self.seqs(caller))
        self.assertEqual([m.Live(room="ops", seq=1)], caller.take(m.Live))

    def test_left_while_catching_up(self) -> None:
        """Who leaves while catching up hears no more; who comes back meanwhile hears nothing twice."""
        self.many(7)
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        gate = Gate(self, "read")
        caller.say(m.Sync(since={self.rooms["ops"].log.id: 0}))
        for kind in (Leave, Join):
            caller.say(self.act_of(kind, self.bob))
            self.rooms["ops"].do(kind, self.bob)
        self.assertEqual(3, len(caller.replies()))
        self.assertEqual(8, self.alices.ask(self.send_of(8, self.alice, self.bob)).seq)
        gate.open()
        self.assertEqual([8], self.seqs(caller))
        self.assertEqual([], caller.take(m.Live))

    def test_somebody_else_meanwhile(self) -> None:
        """What one account was catching up on is not given to the next one on the same connection."""
        self.many(7)
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        gate = Gate(self, "read")
        caller.say(m.Sync(since={self.rooms["ops"].log.id: 0}))
        caller.say(m.Logout(), self.login_of(self.alice, caller))
        gate.open()
        self.assertEqual([], caller.take(m.StoredMessage, m.Live))
        self.assertEqual(["ok"] * 3, [reply["status"] for reply in caller.replies()])
        caller.ask(m.Sync(since={self.rooms["ops"].log.id: 5}))
        messages = caller.take(m.StoredMessage)
        self.assertEqual([(6, "alice"), (7, "alice")], [(one.seq, *one.package.kids) for one in messages])

    def test_lost_while_catching_up(self) -> None:
        """For a connection that is lost nothing more is read."""
        self.send()
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        gate = Gate(self, "read")
        caller.say(m.Sync(since={self.rooms["ops"].log.id: 0}))
        caller.lose()
        gate.open()
        self.assertEqual([], caller.take(m.StoredMessage, m.Live))

    def test_lost_while_looking_up(self) -> None:
        """A connection lost before it is known what to stream leaves nothing behind."""
        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        gate = Gate(self, "conversations")
        caller.say(m.Sync())
        caller.lose()
        gate.open()
        self.alices.take()
        self.send()
        self.assertEqual([], self.parts.logins.of("bob"))
        self.assertFalse(self.parts.broker.online("bob"))

    def test_left_from_elsewhere_meanwhile(self) -> None:
        """A room that was left by another connection while this one looked it up is not listened to."""
        other = self.second_device(self.bob)
        other.lose()
        other = self.again(self.bob, 2, sync=False)
        gate = Gate(self, "conversations")
        other.say(m.Sync())
        self.perform(self.bobs, Leave, self.bob)
        gate.open()
        self.alices.ask(self.send_of(1, self.alice))
        self.assertEqual([], other.take(m.StoredMessage, m.Live))

    def test_never_from_before_joining(self) -> None:
        """A cursor from before one joined brings nothing from before that."""
        self.many(3)
        carols = self.member(self.carol, "ops")
        carols.lose()
        caller, _ = self.back(self.carol, epoch=self.store.epoch, since={self.rooms["ops"].log.id: 1})
        self.assertEqual([m.Live(room="ops", seq=3)], caller.take())

    def test_busy_while_looking_up_again(self) -> None:
        """So it is where the store is busy at the second look."""
        genuine = type(self.store).conversations
        looks: list[str] = []

        async def busy(store: Any, user: str, *since: Any, **how: Any) -> Any:
            looks.append(user)
            if len(looks) > 1:
                raise Refused(TRY_AGAIN, retry_after=2.0)
            return await genuine(store, user, *since, **how)

        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        self.patch(type(self.store), "conversations", busy)
        self.assertIsInstance(caller.ask(m.Sync()), m.SyncOk)
        self.assertEqual(["try_again"], [bye.reason for bye in caller.take(m.Bye)])

    def test_store_is_busy(self) -> None:
        """Who cannot be caught up now is told to come back: silently cut off from a room would be worse."""
        self.send()

        async def busy(*_: Any, **__: Any) -> None:
            raise Refused(TRY_AGAIN, retry_after=2.0)

        caller = self.call()
        caller.ask(self.login_of(self.bob, caller))
        self.patch(type(self.store), "read", busy)
        caller.ask(m.Sync(since={self.rooms["ops"].log.id: 0}))
        self.assertEqual(["try_again"], [bye.reason for bye in caller.take(m.Bye)])
        self.assertTrue(caller.closing)


class ReadTests(TalkCase):
    """Tests for `read`."""

    def setUp(self) -> None:
        super().setUp()
        for number in (1, 2, 3):
            self.send(number)
        self.second = self.second_device(self.bob)
        self.bobs.take()

    def test_moves_the_marker(self) -> None:
        """It moves forward for all of the account's devices, which are told; others are not."""
        self.assertEqual(m.Reply(id=3), self.bobs.ask(m.Read(id=3, room="ops", seq=2)))
        self.assertEqual([m.ReadEvent(room="ops", seq=2)], self.second.take())
        self.assertEqual(([], []), (self.bobs.take(m.ReadEvent), self.alices.take(m.ReadEvent)))
        self.assertEqual(2, self.second.ask(m.Sync()).conversations[0].read)

    def test_never_back(self) -> None:
        """It never moves back, and nobody is told of what did not move."""
        self.bobs.ask(m.Read(room="ops", seq=2))
        self.second.take()
        for seq in (1, 2):
            self.assertEqual(m.Reply(), self.bobs.ask(m.Read(room="ops", seq=seq)))
        self.assertEqual([], self.second.take())
        self.assertEqual(2, self.second.ask(m.Sync()).conversations[0].read)

    def test_not_a_member(self) -> None:
        """There is none where one is not a member."""
        self.assertFailed(NO_SUCH_ROOM, self.bobs.ask(m.Read(room="nowhere", seq=1)))


class TrimmedTests(TalkCase):
    """Tests for what is told of messages that were removed as too old."""

    def setUp(self) -> None:
        super().setUp()
        self.many(5)
        self.do(self.store.set_retention("ops", 1))

    def trim(self) -> None:
        """Removes all there is."""
        self.do(self.store.trim(now=(START + 2 * 86_400) * 1000))

    def sync(self, since: int) -> m.ConversationState:
        """What alice is told of ops, who has come to message `since`."""
        reply = self.alices.ask(m.Sync(id=9, epoch=self.store.epoch, since={self.rooms["ops"].log.id: since}))
        (state,) = reply.conversations
        return state  # type: ignore[no-any-return]

    def test_sync(self) -> None:
        """No place before what is left is named, and what was removed is not unread."""
        self.assertEqual((0, 1, 5), (self.sync(2).trimmed, self.sync(2).kept, self.sync(2).unread))
        self.trim()
        state = self.sync(2)
        self.assertEqual((5, 1, 0, False), (state.trimmed, state.kept, state.unread, state.reset))
        self.assertEqual((5, self.sync(5).start[1]), state.start)

    def test_history(self) -> None:
        """An empty page has the place from which the next message goes on."""
        self.trim()
        page = self.alices.ask(m.History(id=1, room="ops"))
        self.assertEqual((0, 5, 5, False), (len(page.messages), page.start[0], page.trimmed, page.more))

    def test_removed_while_catching_up(self) -> None:
        """A reader from under whom messages are removed is sent back to `sync`, which tells where to go on."""
        genuine = type(self.store).read

        async def late(store: Any, *args: Any, **kw: Any) -> Any:
            self.do(store.trim(now=(START + 2 * 86_400) * 1000))
            return await genuine(store, *args, **kw)

        caller = self.again(self.bob, sync=False)
        self.patch(type(self.store), "read", late)
        caller.ask(m.Sync(id=9, epoch=self.store.epoch, since={self.rooms["ops"].log.id: 2}))
        (bye,) = caller.take(m.Bye)
        self.assertEqual(TRY_AGAIN.name, bye.reason)
        self.assertEqual([], caller.take(m.StoredMessage))
