"""Tests for the room log: who may do what, which acts are stale, and who was a member when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import permutations, product
from random import Random
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_fields
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.roomlog import (
    BACK,
    MAX_REASON,
    MAX_TOPIC,
    AnyEvent,
    Ban,
    ChangePolicy,
    ChangeRole,
    ChangeTopic,
    Create,
    Invite,
    Join,
    Kick,
    Leave,
    Mute,
    Policy,
    Role,
    RoomEvent,
    RoomLog,
    SignedEvent,
    Unban,
    Unmute,
    next_link,
    replay,
    sign_event,
)
from securechat.errors import (
    ALREADY_MEMBER,
    BAD_EVENT,
    BANNED,
    NO_RIGHT,
    NOT_INVITED,
    NOT_MEMBER,
    OLD_HEAD,
    STALE_CTL,
    STALE_OWN,
    Code,
    InvalidKey,
    Refused,
)
from tests.cast import NOW, Person, Room, UnsignedRoom, act, event, flipped, signing_key, unsigned

alice, bob, carol, dave, mallory = map(Person, ("alice", "bob", "carol", "dave", "mallory"))
new_bob = Person("bob", generation=2)
EVERYBODY: Final = (alice, bob, carol, dave, mallory, new_bob)


class RoomCase(SynchronousTestCase):
    """What the tests of logs share."""

    def refused(self, code: Code, room: Room, kind: type[RoomEvent], *who: Person, **fields: Any) -> Refused:
        """That act is not taken, for that reason, and leaves no trace."""
        return self.not_taken(code, room, room.draft(kind, *who, **fields))

    def not_taken(self, code: Code, room: Room, signed: SignedEvent) -> Refused:
        """The same, of an event made before."""
        before = repr(room.log)
        error: Refused = self.assertRaises(Refused, room.take, signed)
        self.assertEqual((code.name, before), (error.code.name, repr(room.log)))
        return error

    def roles(self, room: Room) -> dict[str, Role]:
        """Who is what."""
        return {user: member.role for user, member in room.log.members.items()}


# --- the permission matrix --------------------------------------------------------------------------------------------

TABLE: Final = """
                   actor:  none   member  mod    admin  owner
    create                 bbbbb  bbbbb   bbbbb  bbbbb  bbbbb
    invite, by members     nnnnn  .aaaa   .aaaa  .aaaa  .aaaa
    invite, by admins      nnnnn  rrrrr   rrrrr  .aaaa  .aaaa
    join, open             .....  aaaaa   aaaaa  aaaaa  aaaaa
    join, private          iiiii  aaaaa   aaaaa  aaaaa  aaaaa
    leave                  nnnnn  .....   .....  .....  .....
    kick                   nnnnn  rrrrr   b.rrr  b..rr  b...r
    ban                    nnnnn  rrrrr   ..rrr  ...rr  ....r
    unban                  nnnnn  rrrrr   bbbbb  bbbbb  bbbbb
    unban, banned          nxxxx  rxxxx   .xxxx  .xxxx  .xxxx
    mute                   nnnnn  rrrrr   b.rrr  b..rr  b...r
    unmute                 nnnnn  rrrrr   bbrrr  bbbrr  bbbbr
    unmute, muted          nnnnn  rrrrr   ..rrr  ...rr  ....r
    role member            nnnnn  rrrrr   rrrrr  b..rr  b...r
    role mod               nnnnn  rrrrr   rrrrr  b..rr  b...r
    role admin             nnnnn  rrrrr   rrrrr  brrrr  b...r
    role owner             nnnnn  rrrrr   rrrrr  brrrr  b...r
    policy                 nnnnn  rrrrr   rrrrr  rrrrr  .....
    topic                  nnnnn  rrrrr   .....  .....  .....
"""
"""What becomes of each act: a group for each role of its author, in it a letter for each role of the person concerned,
from none to owner. ``.`` taken; ``r`` no right; ``n`` not a member; ``b`` makes no sense; ``a`` is a member already;
``i`` not invited; ``x``: nobody can be both."""

CODES: Final = {"r": NO_RIGHT, "n": NOT_MEMBER, "b": BAD_EVENT, "a": ALREADY_MEMBER, "i": NOT_INVITED}
RANKS: Final = (None, "member", "mod", "admin", "owner")
actor, target, founder = map(Person, ("actor", "target", "founder"))


@cache
def company(of_actor: str | None, of_target: str | None, condition: str = "") -> UnsignedRoom:
    """A room with an actor and a target of these roles; the target muted or banned, the room private or invited to by
    admins, as the condition says."""
    room = UnsignedRoom(founder, invite="admin" if condition == "by admins" else "member")
    for person, role in ((actor, of_actor), (target, of_target)):
        muted = person is target and condition == "muted"
        if role is not None or muted:
            room.do(Join, person)
        if muted:
            room.do(Mute, founder, person)
        if role is None and muted:
            room.do(Leave, person)
        elif role not in (None, "member"):
            room.do(ChangeRole, founder, person, role=role)
    if condition == "banned":
        room.do(Ban, founder, target)
    if condition == "private":
        room.do(ChangePolicy, founder, join="invite")
    return room


KINDS: Final[dict[str, type[RoomEvent]]] = {
    "create": Create, "invite": Invite, "join": Join, "leave": Leave, "kick": Kick, "ban": Ban, "unban": Unban,
    "mute": Mute, "unmute": Unmute, "role": ChangeRole, "policy": ChangePolicy, "topic": ChangeTopic,
}  # fmt: skip
ABOUT_NOBODY: Final = {Create, Join, Leave, ChangePolicy, ChangeTopic}


class PermissionTests(RoomCase):
    """The table above, held against `RoomLog.check`: it knows nothing of `RIGHTS`."""

    @staticmethod
    def drafted(what: str, room: UnsignedRoom) -> SignedEvent:
        """The act of a row."""
        kind, _, role = what.partition(" ")
        fields = {"role": role} if kind == "role" else {}
        about = () if KINDS[kind] in ABOUT_NOBODY else (target,)
        return room.draft(KINDS[kind], actor, *about, **fields)

    def outcome(self, room: Room, signed: SignedEvent) -> str:
        """Its letter in the table."""
        try:
            room.log.check(signed)
        except Refused as error:
            return next(letter for letter, code in CODES.items() if code == error.code)
        return "."

    def rows(self) -> list[tuple[str, str, list[str]]]:
        """Of the table: what is done, under which condition, and the five groups."""
        rows = []
        for line in TABLE.strip().splitlines()[1:]:
            words = line.split()
            what, _, condition = " ".join(words[:-5]).partition(", ")
            rows.append((what, condition, words[-5:]))
        return rows

    def test_whole(self) -> None:
        """The table has every kind of event, and every group all five roles."""
        rows = self.rows()
        self.assertEqual(set(KINDS), {what.split()[0] for what, _, _ in rows})
        self.assertEqual(set(KINDS.values()), set(AnyEvent.__args__))  # type: ignore[attr-defined]
        self.assertEqual({(5, 5)}, {(len(groups), len(group)) for _, _, groups in rows for group in groups})

    def test_every_role_on_every_role(self) -> None:
        """Every act of every role on every role comes out as the table says."""
        for what, condition, groups in self.rows():
            for (of_actor, group), (at, of_target) in product(zip(RANKS, groups, strict=True), enumerate(RANKS)):
                if group[at] == "x":
                    continue
                room = company(of_actor, of_target, condition)
                got = self.outcome(room, self.drafted(what, room))
                self.assertEqual(group[at], got, f"{what}, {condition}: {of_actor} on {of_target}")

    def test_what_is_taken_is_applied(self) -> None:
        """What the table lets through can be taken in as well: no act passes the check and breaks the log."""
        taken = 0
        for what, condition, groups in self.rows():
            for (of_actor, group), (at, of_target) in product(zip(RANKS, groups, strict=True), enumerate(RANKS)):
                if group[at] == ".":
                    room = company(of_actor, of_target, condition)
                    log = room.replayed()
                    log.append(self.drafted(what, room))
                    self.assertEqual(room.log.count + 1, log.count)
                    taken += 1
        self.assertEqual(TABLE.split("owner", 1)[1].count("."), taken)

    def test_on_oneself(self) -> None:
        """Nobody acts on themselves, but that they leave: one's own rank is not below one's own."""
        for role in RANKS[1:]:
            room = company(role, "member")
            for kind, fields in (
                (Kick, {}), (Ban, {}), (Mute, {}), (ChangeRole, {"role": "member"}), (ChangeRole, {"role": "owner"}),
            ):  # fmt: skip
                self.refused(NO_RIGHT, room, kind, actor, actor, **fields)
            self.refused(ALREADY_MEMBER, room, Invite, actor, actor)

    def test_other_room(self) -> None:
        """An act signed for another room is taken in no other, whatever its author is in either."""
        for what, condition, _ in self.rows():
            for of_actor in RANKS:
                room = company(of_actor, "member", condition if condition != "banned" else "")
                elsewhere = UnsignedRoom(actor, name="elsewhere")
                about = () if KINDS[what.split()[0]] in ABOUT_NOBODY else (target,)
                fields = {"role": "member"} if what.startswith("role") else {}
                drafted = elsewhere.draft(KINDS[what.split()[0]], actor, *about, **fields)
                self.not_taken(BAD_EVENT, room, drafted)
                honest = room.draft(KINDS[what.split()[0]], actor, *about, **fields).event
                self.not_taken(BAD_EVENT, room, unsigned(replace_fields(honest, room=elsewhere.log.id)))

    def test_other_server(self) -> None:
        """An act signed for another server is taken on no other, though everything else fits."""
        for what, condition, _ in self.rows():
            room = company("owner", "member", condition if condition != "banned" else "")
            honest = self.drafted(what, room).event
            self.not_taken(BAD_EVENT, room, unsigned(replace_fields(honest, srv="x" * 43)))

    def test_other_identity(self) -> None:
        """A role is an identity's: another one of the same name has none of its rights."""
        impostor = Person("actor", generation=2)
        room = company("owner", "member")
        for kind, fields in (
            (Kick, {}), (Ban, {}), (Mute, {}), (ChangeRole, {"role": "mod"}), (Invite, {}),
        ):  # fmt: skip
            self.refused(NOT_MEMBER, room, kind, impostor, target, **fields)
        for kind in (ChangePolicy, ChangeTopic, Leave):
            self.refused(NOT_MEMBER, room, kind, impostor)


# --- events and links -------------------------------------------------------------------------------------------------


class SignedEventTests(SynchronousTestCase):
    """Tests for `SignedEvent`."""

    room = Room(alice, bob)
    kick = room.draft(Kick, alice, bob, reason=b"enough")

    def test_good(self) -> None:
        """What a device signed verifies by that device, and says what was signed."""
        self.kick.verify(alice.vouched())
        self.assertEqual(event(self.room.log, Kick, alice, bob, reason=b"enough"), self.kick.event)

    def test_every_byte(self) -> None:
        """One bit of the event or of its signature changed, and it is refused."""
        for at in range(0, len(self.kick.data), 5):
            wrong = replace(self.kick, data=flipped(self.kick.data, 8 * at))
            self.assertRaises(InvalidKey, wrong.verify, alice.vouched())
        for bit in range(0, 512, 17):
            wrong = replace(self.kick, sig=flipped(self.kick.sig, bit))
            self.assertRaises(InvalidKey, wrong.verify, alice.vouched())

    def test_no_signature(self) -> None:
        """Without a signature, or with one cut short, it is refused."""
        for sig in (b"", bytes(64), self.kick.sig[:63], self.kick.sig + b"\0"):
            self.assertRaises(InvalidKey, replace(self.kick, sig=sig).verify, alice.vouched())

    def test_other_author(self) -> None:
        """Another person's device, another device of the same person, and another identity of that name are refused."""
        for device in (bob.vouched(), alice.vouched(2), Person("alice", generation=2).vouched()):
            self.assertRaises(InvalidKey, self.kick.verify, device)

    def test_who_it_says_it_is(self) -> None:
        """Whoever signs with their own device what names another author, identity or device is refused."""
        said = self.kick.event
        for change in ({"by": "bob"}, {"ik": bob.ik}, {"dev": bob.dev()}, {}):
            forged = sign_event(mallory.device(), replace_fields(said, **change))
            for device in (alice.vouched(), bob.vouched(), mallory.vouched()):
                self.assertRaises(InvalidKey, forged.verify, device)

    def test_device_of_another_identity(self) -> None:
        """A device key that two identities vouch for signs for the one that the event names."""
        stolen = replace(alice.vouched(), ik=mallory.ik)
        self.assertRaises(InvalidKey, self.kick.verify, stolen)

    def test_label(self) -> None:
        """A signature made for something else does not serve."""
        wrong = replace(self.kick, sig=p.sign(alice.device(), "envelope", self.kick.data))
        self.assertRaises(InvalidKey, wrong.verify, alice.vouched())

    def test_not_an_event(self) -> None:
        """What is no event is refused as a key would be, however well it is signed."""
        for data in (b"", b"{}", b"[" * 9000, alice.bundle().list, self.kick.data + b" "):
            signed = SignedEvent(data, p.sign(alice.device(), "room", data))
            self.assertRaises(InvalidKey, signed.verify, alice.vouched())
            self.assertRaises(InvalidKey, self.room.log.check, signed)

    def test_hash(self) -> None:
        """Its hash is over exactly the bytes signed, and not over the signature."""
        self.assertEqual(p.digest("event", self.kick.data).hex(), self.kick.eh)
        self.assertEqual(self.kick.eh, replace(self.kick, sig=bytes(64)).eh)

    def test_sizes(self) -> None:
        """A reason or topic longer than its limit is no event."""
        for kind, name, limit in ((Kick, "reason", MAX_REASON), (Ban, "reason", MAX_REASON)):
            self.assertEqual(
                limit, len(getattr(act(self.room.log, kind, alice, bob, **{name: b"x" * limit}).event, name))
            )
            signed = act(self.room.log, kind, alice, bob, **{name: b"x" * (limit + 1)})
            self.assertRaises(InvalidKey, signed.verify, alice.vouched())
        signed = act(self.room.log, ChangeTopic, alice, topic=b"x" * (MAX_TOPIC + 1))
        self.assertRaises(InvalidKey, signed.verify, alice.vouched())


class LinkTests(RoomCase):
    """Tests for links: a head names one log, and a log has one head."""

    def test_by_hand(self) -> None:
        """A link is the hash of the one before and of the event."""
        room = UnsignedRoom(alice, bob)
        link = ""
        for at, signed in enumerate(room.events):
            link = p.digest("link", bytes.fromhex(link), bytes.fromhex(signed.eh)).hex()
            self.assertEqual((link, at), (room.log.links[at], room.log.place(link)))
        self.assertEqual(link, room.log.head)
        self.assertIs(None, room.log.place(""))

    def test_equal_head_equal_log(self) -> None:
        """Create, join, join, kick and an old join: in any order, and cut anywhere, each log has its own head."""
        room = UnsignedRoom(alice)
        old = room.draft(Join, mallory)
        five = [
            room.events[0],
            room.do(Join, bob),
            room.do(Join, mallory, at=NOW + 1),
            room.do(Kick, alice, mallory),
            old,
        ]
        logs: dict[tuple[str, ...], str] = {}
        for order in permutations(five):
            link = ""
            for count, signed in enumerate(order, start=1):
                link = next_link(link, signed.eh)
                logs[tuple(each.eh for each in order[:count])] = link
        self.assertEqual(5 + 20 + 60 + 120 + 120, len(logs))
        self.assertEqual(len(logs), len(set(logs.values())))

    def test_equal_head_equal_members(self) -> None:
        """Of these orders those that a log takes: equal heads come with equal members, and the old join with none."""
        room = UnsignedRoom(alice)
        old = room.draft(Join, mallory, at=NOW - 1)
        five = [room.events[0], room.do(Join, bob), room.do(Join, mallory), room.do(Kick, alice, mallory), old]
        found: dict[str, tuple[str, ...]] = {}
        for order in permutations(five):
            log = RoomLog(alice.srv)
            for signed in order:
                try:
                    log.append(signed)
                except Refused:
                    continue
            self.assertEqual(found.setdefault(log.head, tuple(sorted(log.members))), tuple(sorted(log.members)))
            if log.count == 4 and log.standing.get("mallory") == five[3].eh:
                self.assertNotIn("mallory", log.members)
        self.assertIn(("alice", "bob"), found.values())

    def test_signature_is_no_part(self) -> None:
        """Two signatures of one event (Ed25519 allows them) make one link: the log is what was signed."""
        signed, bare = (room(alice, salt=b"s" * 16) for room in (Room, UnsignedRoom))
        self.assertEqual(signed.log.head, bare.log.head)

    def test_name_and_salt(self) -> None:
        """The room's id is the hash of its first event: another name, salt or author is another room."""
        ids = {
            UnsignedRoom(maker, name=name, salt=salt).log.id
            for maker in (alice, bob)
            for name in ("ops", "dev")
            for salt in (bytes(16), b"s" * 16)
        }
        self.assertEqual(8, len(ids))
        self.assertEqual(UnsignedRoom(alice).events[0].eh, UnsignedRoom(alice).log.id)


# --- staleness --------------------------------------------------------------------------------------------------------


class StaleTests(RoomCase):
    """Tests for `own`, `ctl` and `after`."""

    def setUp(self) -> None:
        self.room = UnsignedRoom(alice, bob)

    def test_own(self) -> None:
        """A membership act names the last change of that person's standing; another value is stale."""
        joined = self.room.events[-1].eh
        for own in ("", self.room.log.id, "0" * 64):
            self.refused(STALE_OWN, self.room, Leave, bob, own=own)
        self.assertEqual(joined, self.room.do(Leave, bob, own=joined).event.own)
        self.refused(STALE_OWN, self.room, Join, bob, own=joined)

    def test_what_moves_own(self) -> None:
        """Invite, join, leave, kick, ban and unban move it; role, mute, unmute, topic and policy do not."""
        room = self.room
        for kind, who, fields, moves in (
            (ChangeRole, (alice, bob), {"role": "mod"}, False), (Mute, (alice, bob), {}, False),
            (Unmute, (alice, bob), {}, False), (ChangeTopic, (alice,), {}, False), (ChangePolicy, (alice,), {}, False),
            (Kick, (alice, bob), {}, True), (Ban, (alice, bob), {}, True), (Unban, (alice, bob), {}, True),
            (Invite, (alice, bob), {}, True), (Join, (bob,), {}, True), (Leave, (bob,), {}, True),
        ):  # fmt: skip
            before = room.log.standing["bob"]
            signed = room.do(kind, *who, **fields)
            self.assertEqual(signed.eh if moves else before, room.log.standing["bob"], kind)

    def test_ctl(self) -> None:
        """A control event names the one before it, at first the one that made the room; another value is stale."""
        first = self.room.log.id
        self.refused(STALE_CTL, self.room, Kick, alice, bob, ctl="0" * 64)
        self.refused(STALE_CTL, self.room, Kick, alice, bob, ctl=self.room.events[-1].eh)
        topic = self.room.do(ChangeTopic, alice, topic=b"one", ctl=first)
        self.refused(STALE_CTL, self.room, Kick, alice, bob, ctl=first)
        self.room.do(Kick, alice, bob, ctl=topic.eh)

    def test_what_moves_ctl(self) -> None:
        """Every control event moves it, and no membership act."""
        room = self.room
        for kind, who, fields, moves in (
            (Leave, (bob,), {}, False), (Invite, (alice, bob), {}, False), (Join, (bob,), {}, False),
            (ChangeRole, (alice, bob), {"role": "mod"}, True), (Mute, (alice, bob), {}, True),
            (Unmute, (alice, bob), {}, True), (ChangeTopic, (alice,), {}, True), (ChangePolicy, (alice,), {}, True),
            (Kick, (alice, bob), {}, True), (Ban, (alice, bob), {}, True), (Unban, (alice, bob), {}, True),
        ):  # fmt: skip
            before = room.log.ctl
            signed = room.do(kind, *who, **fields)
            self.assertEqual(signed.eh if moves else before, room.log.ctl, kind)

    def test_control_does_not_ask_for_own(self) -> None:
        """A kick lands whatever its target did in between: it would be starved otherwise."""
        kick = self.room.draft(Kick, alice, bob)
        self.room.do(Leave, bob)
        self.room.do(Join, bob)
        self.room.take(kick)
        self.assertNotIn("bob", self.room.log.members)

    def test_a_kick_lands_under_flaps(self) -> None:
        """While strangers and the target join and leave fifty times, a kick signed before is still good."""
        kick = self.room.draft(Kick, alice, bob)
        for flap in range(50):
            person = (mallory, carol, bob)[flap % 3]
            self.room.do(Leave if person.user in self.room.log.members else Join, person)
        self.assertEqual(52, self.room.log.count)
        self.room.do(*((Join, bob) if "bob" not in self.room.log.members else (Join, dave)))
        self.room.take(kick)
        self.assertNotIn("bob", self.room.log.members)

    def test_after(self) -> None:
        """`after` is any of the last 1024 links, and nothing else."""
        log = self.room.log
        while log.count < BACK + 10:
            self.room.do(Leave if "bob" in log.members else Join, bob)
        self.assertEqual(1024, BACK)
        for back in (1, 2, 1000, BACK - 1, BACK):
            log.check(self.room.draft(Join, carol, after=log.links[-back]))
        for after in (log.links[-BACK - 1], log.links[0], "", "0" * 64, log.id):
            self.refused(OLD_HEAD, self.room, Join, carol, after=after)

    def test_after_of_another_room(self) -> None:
        """The head of another room is none here."""
        self.refused(OLD_HEAD, self.room, Join, carol, after=UnsignedRoom(bob).log.head)

    def test_after_fixes_nothing_else(self) -> None:
        """Acts of several people on one head are all taken, in whatever order: joins do not contend."""
        joins = [self.room.draft(Join, person) for person in (carol, dave, mallory)]
        for order in permutations(joins):
            log = self.room.replayed()
            for signed in order:
                log.append(signed)
            self.assertEqual({"alice", "bob", "carol", "dave", "mallory"}, log.members.keys())

    def test_twice(self) -> None:
        """No event is taken twice, at once or later."""
        room = UnsignedRoom(alice)
        room.do(Join, bob)
        room.do(Mute, alice, bob)
        room.do(Unmute, alice, bob)
        room.do(Invite, bob, carol)
        room.do(Leave, bob)
        room.do(Ban, alice, bob)
        room.do(Unban, alice, bob)
        for signed in room.events:
            before = repr(room.log)
            self.assertRaises(Refused, room.take, signed)
            self.assertEqual(before, repr(room.log))

    def test_made_once(self) -> None:
        """A room is made by its first event and no other; nothing goes before it."""
        self.refused(BAD_EVENT, self.room, Create, alice)
        self.refused(BAD_EVENT, self.room, Create, alice, name="other")
        empty = RoomLog(alice.srv)
        for signed in self.room.events[1:]:
            self.assertRaises(Refused, empty.append, signed)
        for fields in ({"room": "0" * 64}, {"after": "0" * 64}):
            self.assertRaises(Refused, empty.append, unsigned(event(empty, Create, alice, **fields)))
        self.assertEqual(RoomLog(alice.srv), empty)

    def test_withheld(self) -> None:
        """70,000 insertions after a kick of joins and invites signed before it: none brings its target back."""
        random = Random(7)
        room = UnsignedRoom(alice, bob, carol, join="invite")
        room.do(ChangePolicy, alice, join="open")
        withheld: list[SignedEvent] = []
        for _ in range(60):  # what the server kept: acts for mallory, each good at its time
            if "mallory" in room.log.members:
                withheld.append(room.draft(Leave, mallory, at=NOW + len(withheld)))
                room.do(Leave, mallory, at=NOW + len(withheld))
            else:
                withheld += [room.draft(Join, mallory, at=NOW + len(withheld))]
                withheld += [room.draft(Invite, by, mallory, at=NOW + len(withheld)) for by in (bob, carol)]
                room.do(Join, mallory, at=NOW + len(withheld))
            withheld.append(room.draft(Leave, bob, at=NOW + len(withheld)))
        if "mallory" not in room.log.members:
            room.do(Join, mallory)
        room.do(Kick, alice, mallory)
        insertions = 0
        while insertions < 70_000:
            for signed in random.sample(withheld, len(withheld)):
                insertions += 1
                try:
                    room.log.append(signed)
                except Refused:
                    continue
                self.assertNotEqual("mallory", signed.event.subject)
            self.assertNotIn("mallory", room.log.members)
            self.assertNotIn("mallory", room.log.invites)
            room.do(Leave if "dave" in room.log.members else Join, dave, at=NOW + insertions)
        self.assertNotIn("bob", room.log.members)  # an act of his own that was withheld: that is the server's choice


# --- members ----------------------------------------------------------------------------------------------------------


class MemberTests(RoomCase):
    """Tests for entering and leaving."""

    def test_founder(self) -> None:
        """Whoever makes a room owns it, alone; the room is what its first event says."""
        room = UnsignedRoom(alice, join="invite", invite="admin", env=2, name="dev", at=5)
        self.assertEqual({"alice": Role.OWNER}, self.roles(room))
        self.assertEqual(("dev", 5, Policy("invite", "admin", 2), False), (
            room.log.name, room.log.created, room.log.policy, room.log.open
        ))  # fmt: skip

    def test_open(self) -> None:
        """Anybody enters an open room, as a plain member."""
        self.assertEqual({"alice": Role.OWNER, "bob": Role.MEMBER}, self.roles(UnsignedRoom(alice, bob)))

    def test_private(self) -> None:
        """A private room is entered by whom a member invited, once, and by nobody else."""
        room = UnsignedRoom(alice, bob, join="invite")
        self.refused(NOT_INVITED, room, Join, carol)
        room.do(Invite, bob, carol)
        self.refused(NOT_INVITED, room, Join, dave)
        room.do(Join, carol)
        self.assertEqual({}, room.log.invites)
        room.do(Leave, carol)
        self.refused(NOT_INVITED, room, Join, carol)

    def test_an_invitation_is_an_identitys(self) -> None:
        """Another identity of the invited name does not enter by it."""
        room = UnsignedRoom(alice, join="invite")
        room.do(Invite, alice, bob)
        self.refused(NOT_INVITED, room, Join, new_bob)
        room.do(Join, bob)
        self.assertEqual(bob.ik, room.log.members["bob"].ik)

    def test_invitation_void(self) -> None:
        """An invitation dies with its author's membership, however that ends."""
        for kind, by in ((Leave, bob), (Kick, alice), (Ban, alice)):
            room = UnsignedRoom(alice, bob, join="invite")
            room.do(Invite, bob, carol)
            room.do(Invite, alice, dave)
            room.do(kind, *((by,) if by is bob else (by, bob)))
            self.refused(NOT_INVITED, room, Join, carol)
            room.do(Join, dave)
            self.assertEqual({"alice", "dave"}, room.log.members.keys())

    def test_nobody_takes_over_an_invitation(self) -> None:
        """Who is invited already is not invited again: the second inviter could take it back by leaving."""
        room = UnsignedRoom(alice, bob, join="invite")
        room.do(Invite, alice, carol)
        self.refused(BAD_EVENT, room, Invite, bob, carol)
        room.do(Leave, bob)
        room.do(Join, carol)
        self.assertIn("carol", room.log.members)

    def test_invitation_void_by_a_new_identity(self) -> None:
        """It also dies where its author's identity is replaced: the new one did not sign it."""
        room = UnsignedRoom(alice, bob, join="invite")
        room.do(Invite, bob, carol)
        room.do(Invite, alice, new_bob)
        room.do(Join, new_bob)
        self.refused(NOT_INVITED, room, Join, carol)

    def test_coming_back_renews_no_invitation(self) -> None:
        """What was void stays void when its author is back."""
        room = UnsignedRoom(alice, bob, join="invite")
        room.do(Invite, bob, carol)
        room.do(Leave, bob)
        room.enter(bob, alice)
        self.refused(NOT_INVITED, room, Join, carol)

    def test_ban_ends_an_invitation(self) -> None:
        """Whoever is banned before they came does not come, nor after the ban without being invited again."""
        room = UnsignedRoom(alice, join="invite")
        room.do(Invite, alice, bob)
        room.do(Ban, alice, bob)
        self.refused(BANNED, room, Join, bob)
        room.do(Unban, alice, bob)
        self.refused(NOT_INVITED, room, Join, bob)

    def test_declined(self) -> None:
        """An invitation that was declined serves nobody."""
        room = UnsignedRoom(alice, join="invite")
        room.do(Invite, alice, bob)
        room.do(Leave, bob)
        self.assertEqual(({}, {"alice"}), (room.log.invites, set(room.log.members)))
        self.refused(NOT_INVITED, room, Join, bob)
        self.refused(NOT_MEMBER, room, Leave, bob)

    def test_declined_by_another_identity(self) -> None:
        """A new identity that declines does not put out the one that is a member under that name."""
        room = UnsignedRoom(alice, bob, join="invite")
        room.do(Invite, alice, new_bob)
        room.do(Leave, new_bob)
        self.assertEqual((bob.ik, {}), (room.log.members["bob"].ik, room.log.invites))
        self.assertEqual(bob.ik, room.log.member_at("bob", room.log.count - 1))

    def test_invited_twice(self) -> None:
        """Two identities of one name may be invited; each enters by its own."""
        room = UnsignedRoom(alice, join="invite")
        room.do(Invite, alice, bob)
        room.do(Invite, alice, new_bob)
        self.assertEqual({bob.ik: "alice", new_bob.ik: "alice"}, room.log.invites["bob"])
        room.do(Leave, bob)
        room.do(Join, new_bob)
        self.assertEqual(new_bob.ik, room.log.members["bob"].ik)

    def test_rejoin(self) -> None:
        """Whoever comes back is a plain member, whatever they were."""
        room = UnsignedRoom(alice, bob, carol)
        room.do(ChangeRole, alice, bob, role="owner")
        room.do(Leave, alice)
        room.do(Join, alice)
        self.assertEqual({"alice": Role.MEMBER, "bob": Role.OWNER, "carol": Role.MEMBER}, self.roles(room))
        room.do(ChangeRole, bob, carol, role="admin")
        room.do(Kick, bob, carol)
        room.do(Join, carol)
        self.assertEqual(Role.MEMBER, room.log.role("carol"))

    def test_new_identity(self) -> None:
        """A new identity that joins replaces the old one, as a plain member; the old one's rights are gone."""
        room = UnsignedRoom(alice, bob)
        room.do(ChangeRole, alice, bob, role="admin")
        kick = room.draft(ChangeTopic, bob)
        self.refused(STALE_OWN, room, Join, new_bob, own="")
        room.do(Join, new_bob)
        self.assertEqual((new_bob.ik, Role.MEMBER), (room.log.members["bob"].ik, room.log.role("bob")))
        self.not_taken(NOT_MEMBER, room, kick)
        self.assertEqual((Role.NONE, Role.MEMBER), (room.log.role("bob", bob.ik), room.log.role("bob", new_bob.ik)))

    def test_promotion_held_back(self) -> None:
        """A role is given to an identity: kept back until another one has that name, it is worth nothing."""
        for role in ("mod", "owner"):
            room = UnsignedRoom(alice, bob)
            promotion = room.draft(ChangeRole, alice, bob, role=role)
            room.do(Join, new_bob)
            error = self.not_taken(BAD_EVENT, room, promotion)
            self.assertIn("bob was not a member with this identity when it was signed", str(error))
            room.do(ChangeRole, alice, new_bob, role=role)
            self.assertEqual(Role[role.upper()], room.log.role("bob", new_bob.ik))

    def test_promotion_of_one_who_came_back(self) -> None:
        """The same identity, gone and back meanwhile, gets its role; one that was not there yet does not."""
        room = UnsignedRoom(alice, bob)
        promotion = room.draft(ChangeRole, alice, bob, role="mod")
        room.do(Leave, bob)
        ahead = room.draft(ChangeRole, alice, bob, role="mod")
        room.do(Join, bob)
        self.not_taken(BAD_EVENT, room, ahead)
        room.take(promotion)
        self.assertEqual(Role.MOD, room.log.role("bob"))

    def test_new_identity_in_private(self) -> None:
        """In a private room a new identity is nobody until it is invited, however long the old one was a member."""
        room = UnsignedRoom(alice, bob, join="invite")
        self.refused(NOT_INVITED, room, Join, new_bob)
        room.do(Invite, alice, new_bob)
        self.assertEqual(bob.ik, room.log.members["bob"].ik)
        room.do(Join, new_bob)
        self.assertEqual(new_bob.ik, room.log.members["bob"].ik)

    def test_empty_open_room(self) -> None:
        """Whoever comes first into an open room that all have left owns it."""
        room = UnsignedRoom(alice, bob)
        room.do(Leave, alice)
        room.do(Leave, bob)
        self.assertEqual({}, room.log.members)
        room.do(Join, carol)
        room.do(Join, alice)
        self.assertEqual({"carol": Role.OWNER, "alice": Role.MEMBER}, self.roles(room))

    def test_empty_private_room(self) -> None:
        """Nobody enters a private room that all have left, invited or not."""
        room = UnsignedRoom(alice, bob, join="invite")
        room.do(Invite, alice, carol)
        room.do(Invite, bob, dave)
        room.do(Leave, alice)
        room.do(Leave, bob)
        for person in (alice, bob, carol, dave):
            self.refused(NOT_INVITED, room, Join, person)

    def test_owners(self) -> None:
        """An owner may name another, and then neither rules the other."""
        room = UnsignedRoom(alice, bob)
        room.do(ChangeRole, alice, bob, role="owner")
        for one, other in ((alice, bob), (bob, alice)):
            self.refused(NO_RIGHT, room, Kick, one, other)
            self.refused(NO_RIGHT, room, ChangeRole, one, other, role="member")


class PolicyTests(RoomCase):
    """Tests for policy, topic, bans and mutes."""

    def test_envelope_only_rises(self) -> None:
        """The lowest envelope version may stay or rise, never fall."""
        room = UnsignedRoom(alice, env=2)
        self.refused(BAD_EVENT, room, ChangePolicy, alice, env=1)
        room.do(ChangePolicy, alice, env=2)
        room.do(ChangePolicy, alice, env=3)
        self.refused(BAD_EVENT, room, ChangePolicy, alice, env=2)
        self.assertEqual(3, room.log.policy.env)

    def test_policy(self) -> None:
        """A policy holds from its place on: who was in stays in, who comes later is asked."""
        room = UnsignedRoom(alice, bob)
        room.do(ChangePolicy, alice, join="invite", invite="admin")
        self.refused(NOT_INVITED, room, Join, carol)
        self.refused(NO_RIGHT, room, Invite, bob, carol)
        self.assertIn("bob", room.log.members)
        room.do(ChangePolicy, alice)
        room.do(Join, carol)

    def test_topic(self) -> None:
        """A topic is text; bytes that are none are refused."""
        room = UnsignedRoom(alice)
        room.do(ChangeTopic, alice, topic="Grüße \U0001f44b".encode())
        self.assertEqual("Grüße \U0001f44b", room.log.topic)
        for topic in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80"):
            self.refused(BAD_EVENT, room, ChangeTopic, alice, topic=topic)

    def test_reason(self) -> None:
        """So is the reason of a kick or ban: whoever shows it need not ask."""
        room = UnsignedRoom(alice, bob)
        for kind in (Kick, Ban):
            self.refused(BAD_EVENT, room, kind, alice, bob, reason=b"\xff")
        room.do(Kick, alice, bob, reason="schön".encode())

    def test_ban(self) -> None:
        """A ban puts a member out, and keeps them out until it is lifted; invited they cannot be either."""
        room = UnsignedRoom(alice, bob)
        room.do(Ban, alice, bob)
        self.assertNotIn("bob", room.log.members)
        self.refused(BANNED, room, Join, bob, at=2**53 - 1)
        self.refused(BANNED, room, Invite, alice, bob)
        room.do(Unban, alice, bob)
        room.do(Join, bob)

    def test_ban_of_a_stranger(self) -> None:
        """Who is no member can be banned too; nobody was put out by that."""
        room = UnsignedRoom(alice)
        room.do(Ban, alice, mallory)
        self.refused(BANNED, room, Join, mallory)
        self.assertEqual(set(), room.log.put_out_between(0, 1))

    def test_ban_holds_for_the_name(self) -> None:
        """A new identity of a banned name is as banned."""
        room = UnsignedRoom(alice, bob)
        room.do(Ban, alice, bob)
        self.refused(BANNED, room, Join, new_bob)

    def test_timed_ban(self) -> None:
        """A ban with a time holds until then by the clock of the act, and is gone once its target is back."""
        room = UnsignedRoom(alice, bob)
        room.do(Ban, alice, bob, until=NOW + 1000)
        for at in (0, NOW, NOW + 999):
            self.refused(BANNED, room, Join, bob, at=at)
            self.refused(BANNED, room, Invite, alice, bob, at=at)
        room.log.check(room.draft(Invite, alice, bob, at=NOW + 1000))
        room.do(Join, bob, at=NOW + 1000)
        self.assertEqual({}, room.log.bans)
        self.refused(BAD_EVENT, room, Unban, alice, bob)

    def test_banned_again(self) -> None:
        """A later ban replaces an earlier one, longer or shorter."""
        room = UnsignedRoom(alice, bob)
        room.do(Ban, alice, bob, until=NOW + 1000)
        room.do(Ban, alice, bob)
        self.refused(BANNED, room, Join, bob, at=NOW + 5000)
        room.do(Ban, alice, bob, until=NOW + 10)
        room.do(Join, bob, at=NOW + 10)

    def test_mute(self) -> None:
        """A mute holds from its place to the unmute's, and only there."""
        room = UnsignedRoom(alice, bob)
        room.do(Mute, alice, bob)
        room.do(ChangeTopic, alice)
        room.do(Unmute, alice, bob)
        self.assertEqual([False, False, True, True, False], [room.log.muted_at("bob", at, NOW) for at in range(5)])
        self.assertEqual({}, room.log.mutes)
        self.refused(BAD_EVENT, room, Unmute, alice, bob)

    def test_timed_mute(self) -> None:
        """A mute with a time ends by itself, at that time to the millisecond."""
        room = UnsignedRoom(alice, bob)
        room.do(Mute, alice, bob, until=NOW + 1000)
        times = (0, NOW, NOW + 999, NOW + 1000, NOW + 1001)
        self.assertEqual([True, True, True, False, False], [room.log.muted_at("bob", 2, at) for at in times])

    def test_muted_again(self) -> None:
        """A later mute replaces an earlier one, longer or shorter; what was before its place stays."""
        room = UnsignedRoom(alice, bob)
        room.do(Mute, alice, bob)
        room.do(Mute, alice, bob, until=NOW + 10)
        self.assertEqual([True, False], [room.log.muted_at("bob", at, NOW + 10) for at in (2, 3)])

    def test_mute_outlives_a_rejoin(self) -> None:
        """Nobody gets their voice back by leaving and coming back, nor by a new identity."""
        room = UnsignedRoom(alice, bob)
        room.do(Mute, alice, bob)
        room.do(Leave, bob)
        room.do(Join, bob)
        self.assertTrue(room.log.muted_at("bob", room.log.count - 1, NOW))
        room.do(Join, new_bob)
        self.assertTrue(room.log.muted_at("bob", room.log.count - 1, NOW))


# --- at every place, against a second replay --------------------------------------------------------------------------


@dataclass
class Plain:
    """A room by a second, plain replay: who is a member and muted, from accepted events alone.

    Attributes:
        out: who was put out by the last event.
    """

    members: dict[str, bytes] = field(default_factory=dict)
    mutes: dict[str, int] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)

    def after(self, said: Any) -> Plain:
        """The next state."""
        members, mutes, out, changed = dict(self.members), dict(self.mutes), set(), set()
        name = type(said).__name__
        if name in ("Create", "Join"):
            members[said.by] = said.ik
            changed = {said.by}
        elif name == "Leave" and members.get(said.by) == said.ik:
            del members[said.by]
            changed = {said.by}
        elif name in ("Kick", "Ban") and said.user in members:
            del members[said.user]
            changed = out = {said.user}
        elif name == "Mute":
            mutes[said.user] = said.until
        elif name == "Unmute":
            del mutes[said.user]
        return Plain(members, mutes, out, changed)

    def muted(self, user: str, at: int) -> bool:
        """Whether somebody has no voice at that time."""
        return user in self.mutes and (self.mutes[user] == 0 or at < self.mutes[user])


def random_room(seed: int, count: int) -> tuple[UnsignedRoom, int]:
    """A room of many events of all kinds, and how many attempts were refused on the way; the dice are given."""
    random = Random(seed)
    room = UnsignedRoom(alice, join=random.choice(("open", "invite")))
    kinds = (Invite, Join, Join, Leave, Kick, Ban, Unban, Mute, Unmute, ChangeRole, ChangePolicy)
    refused = 0
    while room.log.count < count:
        kind = random.choice(kinds)
        author = random.choice(EVERYBODY)
        if kind is Leave and author is alice and random.randrange(30):
            continue  # or most rooms would soon have nobody to run them
        about = () if kind in ABOUT_NOBODY else (random.choice(EVERYBODY),)
        fields: dict[str, Any] = {"at": NOW + random.randrange(100)}
        if kind in (Ban, Mute):
            fields["until"] = random.choice((0, NOW + random.randrange(100)))
        if kind is ChangeRole:
            fields["role"] = random.choice(("member", "mod", "admin", "owner"))
        if kind is ChangePolicy:
            fields["join"] = random.choice(("open", "invite"))
        try:
            room.do(kind, author, *about, **fields)
        except Refused:
            refused += 1
        if not room.log.members or all(role < Role.MOD for role in map(room.log.role, room.log.members)):
            return room, refused  # nobody runs it any more
    return room, refused


@cache
def rooms() -> tuple[list[UnsignedRoom], list[list[Plain]]]:
    """The longest of some random rooms, and their states by the plain replay."""
    made = sorted((random_room(seed, 120)[0] for seed in range(8)), key=lambda room: room.log.count)[-5:]
    plain = []
    for room in made:
        states = [Plain()]
        for signed in room.events:
            states.append(states[-1].after(signed.event))
        plain.append(states[1:])
    return made, plain


class HistoryTests(RoomCase):
    """`member_at`, `members_at`, `muted_at`, `put_out_between` and `changed_since`, at every place."""

    def setUp(self) -> None:
        self.rooms, self.plain = rooms()

    def test_long_enough(self) -> None:
        """These rooms have many events, of every kind, and people who came back."""
        self.assertGreater(min(room.log.count for room in self.rooms), 60)
        kinds = {type(signed.event) for room in self.rooms for signed in room.events}
        self.assertEqual(set(KINDS.values()) - {ChangeTopic}, kinds)

    def test_members(self) -> None:
        """Who was a member, with which identity."""
        for room, states in zip(self.rooms, self.plain, strict=True):
            for place, plain in enumerate(states):
                self.assertEqual(plain.members, room.log.members_at(place))
                for person in EVERYBODY:
                    self.assertEqual(plain.members.get(person.user), room.log.member_at(person.user, place))
            self.assertEqual(states[-1].members, {user: member.ik for user, member in room.log.members.items()})

    def test_members_while_it_grows(self) -> None:
        """An answer given while the log was shorter is the answer later."""
        for room, states in zip(self.rooms, self.plain, strict=True):
            log = RoomLog(alice.srv)
            for place, signed in enumerate(room.events):
                log.append(signed)
                for back in (place, max(0, place - 3), place // 2):
                    self.assertEqual(states[back].members, log.members_at(back))

    def test_muted(self) -> None:
        """Who had no voice, before a time and after it."""
        for room, states in zip(self.rooms, self.plain, strict=True):
            for place, plain in enumerate(states):
                for person, at in product(EVERYBODY, (NOW, NOW + 50, NOW + 100)):
                    self.assertEqual(plain.muted(person.user, at), room.log.muted_at(person.user, place, at))

    def test_put_out(self) -> None:
        """Who was put out behind one place and up to another, also where that is nothing."""
        for room, states in zip(self.rooms, self.plain, strict=True):
            for after, up_to in product(range(0, len(states), 3), range(len(states))):
                expected = set().union(*(plain.out for plain in states[after + 1 : up_to + 1]))
                self.assertEqual(expected, room.log.put_out_between(after, up_to))

    def test_changed(self) -> None:
        """Whose membership changed since a link, and whether anybody was put out."""
        for room, states in zip(self.rooms, self.plain, strict=True):
            for place, link in enumerate(room.log.links):
                since = states[place + 1 :]
                expected = set().union(*(plain.changed for plain in since)), any(plain.out for plain in since)
                self.assertEqual(expected, room.log.changed_since(link))

    def test_changed_since_long_ago(self) -> None:
        """Of a link that is unknown, or not of the last 1024, that is not told."""
        room = UnsignedRoom(alice)
        while room.log.count < BACK + 3:
            room.do(Leave if "bob" in room.log.members else Join, bob)
        self.assertEqual(({"bob"}, False), room.log.changed_since(room.log.links[-BACK]))
        self.assertEqual((set(), False), room.log.changed_since(room.log.head))
        for link in (room.log.links[-BACK - 1], "", "0" * 64):
            self.assertIs(None, room.log.changed_since(link))


# --- whatever the server does -----------------------------------------------------------------------------------------


def devices() -> dict[tuple[str, str], Any]:
    """Everybody's device, by name and id."""
    return {(person.user, person.dev()): person.vouched() for person in EVERYBODY}


STORY: Final = 13  # events of the log below; what comes behind them was kept back


def story() -> list[SignedEvent]:
    """A room's log, signed, and acts that were signed on the way and kept back."""
    room = Room(alice, bob, carol, join="invite")
    events = [room.draft(Invite, bob, dave), room.draft(Leave, bob)]
    room.do(Invite, bob, mallory)
    room.do(Join, mallory)
    events += [room.draft(Leave, mallory), room.draft(Kick, alice, carol), room.draft(Invite, carol, new_bob)]
    room.do(Kick, alice, mallory)
    events += [room.draft(Invite, carol, mallory), room.draft(Join, mallory)]
    room.do(ChangeRole, alice, carol, role="mod")
    room.do(Ban, carol, mallory)
    room.do(ChangePolicy, alice, join="open")
    room.do(Join, new_bob)
    events += [room.draft(Join, bob), room.draft(Join, mallory), room.draft(Unban, alice, mallory)]
    room.do(Leave, carol)
    assert len(room.events) == STORY
    return room.events + events


class HostileServerTests(SynchronousTestCase):
    """However the server mixes what was signed, nobody is a member but by acts of their own and of those who may."""

    events = story()
    known = devices()

    def take(self, log: RoomLog, signed: SignedEvent) -> bool:
        """As a client takes in what a server gives; whether it was good."""
        try:
            device = self.known.get((signed.event.by, signed.event.dev))
            if device is None:
                return False
            signed.verify(device)
            log.append(signed)
        except (InvalidKey, Refused):
            return False
        return True

    def check(self, log: RoomLog, taken: list[SignedEvent]) -> None:
        """Members are those whose own last word was to join, after being invited where the room was private."""
        last: dict[str, bytes] = {}
        invited: set[tuple[str, bytes]] = set()
        private, owners = True, set()
        for signed in taken:
            said: Any = signed.event
            name, user = type(said).__name__, said.subject
            if name == "Invite":
                self.assertIn(said.by, last)
                invited.add((said.user, said.user_ik))
            elif name == "Create" or name == "Join":
                if name == "Join" and private:
                    self.assertIn((said.by, said.ik), invited)
                invited = {pair for pair in invited if pair[0] != user}
                last[user] = said.ik
                owners |= {user} if name == "Create" else set()
            elif name in ("Kick", "Ban", "Unban", "ChangeRole"):
                self.assertIn(said.by, ("alice", "carol"))
                if name in ("Kick", "Ban"):
                    last.pop(user, None)
                    invited = {pair for pair in invited if pair[0] != user}
            elif name == "Leave" and last.get(user) == said.ik:
                last.pop(user)
            elif name == "ChangePolicy":
                self.assertEqual("alice", said.by)
                private = said.join != "open"
        self.assertEqual(last, {user: member.ik for user, member in log.members.items()})
        self.assertEqual(last, log.members_at(log.count - 1) if taken else {})

    def test_as_it_was(self) -> None:
        """In its order, the log is taken whole, and the acts kept back one by one at its end as far as they hold."""
        log, taken = RoomLog(alice.srv), []
        for signed in self.events:
            if self.take(log, signed):
                taken.append(signed)
        self.assertEqual(self.events[:STORY], taken[:STORY])
        self.check(log, taken)
        self.assertNotIn("mallory", log.members)

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def test_any_mixture(self, data: st.DataObject) -> None:
        """Shuffled, doubled, cut and with bits flipped, a log never has a wrong member, and never breaks."""
        start = data.draw(st.integers(0, STORY))
        rest = data.draw(st.lists(st.sampled_from(self.events), max_size=14))
        log, taken = RoomLog(alice.srv), []
        for at, signed in enumerate([*self.events[:start], *rest]):
            if at >= start and data.draw(st.integers(0, 3)) == 0:
                bit = data.draw(st.integers(0, 8 * len(signed.data) - 1))
                before = repr(log)
                wrong = SignedEvent(flipped(signed.data, bit), signed.sig)
                self.assertEqual((False, before), (self.take(log, wrong), repr(log)))
            if self.take(log, signed):
                taken.append(signed)
        self.check(log, taken)

    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(st.randoms(use_true_random=False), st.booleans())
    def test_random_rooms_replay(self, random: Random, cut: bool) -> None:
        """A log that was taken event by event replays to the same log, or to its beginning where it is cut."""
        room, _ = random_room(random.randrange(10**6), 30)
        count = random.randrange(1, room.log.count + 1) if cut else room.log.count
        again = replay(alice.srv, room.events[:count])
        self.assertEqual(room.log.links[count - 1], again.head)
        self.assertEqual(room.log.members_at(count - 1), again.members_at(count - 1))
        if count == room.log.count:
            self.assertEqual(
                (room.log.members, room.log.invites, room.log.bans, room.log.mutes, room.log.standing, room.log.ctl),
                (again.members, again.invites, again.bans, again.mutes, again.standing, again.ctl),
            )

    def test_unknown_signer(self) -> None:
        """An act of a device that nobody vouched for is not taken, though it names a member."""
        room = Room(alice, bob)
        forged = sign_event(signing_key("anybody"), event(room.log, Kick, alice, bob))
        self.assertRaises(InvalidKey, forged.verify, alice.vouched())
