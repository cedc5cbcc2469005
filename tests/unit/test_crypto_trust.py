"""Tests for pins: which identity belongs to which name, as one account has seen it; and for how people compare them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.trust import (
    Finding,
    Pin,
    PinStore,
    Sighting,
    Source,
    TrustState,
    half_fingerprint,
    identity_hash,
    safety_bytes,
    safety_number,
)
from securechat.errors import InvalidKey
from tests.cast import SRV, Person

bob, impostor, third = (Person("bob", generation=number) for number in (1, 2, 3))
THEIRS: Final = (Source.INVITE, Source.ROOM, Source.DIRECTORY)  # anybody's word but the owner's


def list_digest(version: int, person: Person = bob) -> str:
    """The digest of somebody's list of that number."""
    return p.digest("list", person.ik, b"%d" % version).hex()


def seen(version: int = 2, person: Person = bob, *, digest: str = "", kids: tuple[str, ...] = ("k",)) -> Sighting:
    """An identity seen with its list of that number."""
    return Sighting(person.user, person.ik, version, digest or list_digest(version, person), kids)


def pin_of(sighting: Sighting, when: int = 5, **changes: object) -> Pin:
    """The pin that a first sighting makes."""
    made = Pin(sighting.ik, when, sighting.version, sighting.digest, kids=sighting.kids)
    return replace(made, **changes)  # type: ignore[arg-type]


FIRST, SECOND, THIRD = seen(1), seen(2), seen(3)


class PinCase(SynchronousTestCase):
    """What these tests share: a store that notes what it saves."""

    def setUp(self) -> None:
        self.saved: list[tuple[str, Pin]] = []
        self.pins = PinStore({}, lambda user, pin: self.saved.append((user, pin)))

    def pinned(self) -> Pin:
        """Bob's pin."""
        pin = self.pins.get("bob")
        assert pin is not None
        return pin

    def holding(self, pin: Pin | None, expected: bytes | None = None) -> PinStore:
        """A store that holds this pin of bob's, and an invite line's word of his identity; nothing is saved yet."""
        self.setUp()
        self.pins = PinStore(
            {} if pin is None else {"bob": pin},
            lambda user, pin: self.saved.append((user, pin)),
            None if expected is None else {"bob": identity_hash(expected)},
        )
        return self.pins


# What is held before: bob's second list, in each state. Then what is seen, and what comes of it: the finding (! where
# it is refused), the state, whose identity is pinned (b: bob's, i: the impostor's), its list's number, what is claimed.
TRANSITIONS: Final = """
    before             source      who  list    finding     state     ik ver claimed
    none               invite      b    any     first       tofu      b  any -
    none               room        b    any     first       tofu      b  any -
    none               directory   b    any     first       tofu      b  any -
    none               owner       b    any     first       tofu      b  any -
    none               verified    b    any     first       verified  b  any -

    tofu               invite      b    older   same        tofu      b  2   -
    tofu               room        b    older   same        tofu      b  2   -
    tofu               directory   b    older   !           tofu      b  2   -
    tofu               owner       b    older   same        tofu      b  2   -
    tofu               verified    b    older   same        verified  b  2   -
    tofu               invite      b    same    same        tofu      b  2   -
    tofu               room        b    same    same        tofu      b  2   -
    tofu               directory   b    same    same        tofu      b  2   -
    tofu               owner       b    same    same        tofu      b  2   -
    tofu               verified    b    same    same        verified  b  2   -
    tofu               invite      b    newer   newer_list  tofu      b  3   -
    tofu               room        b    newer   newer_list  tofu      b  3   -
    tofu               directory   b    newer   newer_list  tofu      b  3   -
    tofu               owner       b    newer   same        tofu      b  3   -
    tofu               verified    b    newer   same        verified  b  3   -
    tofu               invite      b    twin    !           tofu      b  2   -
    tofu               room        b    twin    !           tofu      b  2   -
    tofu               directory   b    twin    !           tofu      b  2   -
    tofu               invite      i    any     changed     changed   b  2   i
    tofu               room        i    any     changed     changed   b  2   i
    tofu               directory   i    any     changed     changed   b  2   i
    tofu               owner       i    any     changed     tofu      i  any -
    tofu               verified    i    any     changed     verified  i  any -

    verified           invite      b    older   same        verified  b  2   -
    verified           room        b    older   same        verified  b  2   -
    verified           directory   b    older   !           verified  b  2   -
    verified           owner       b    older   same        verified  b  2   -
    verified           verified    b    older   same        verified  b  2   -
    verified           invite      b    same    same        verified  b  2   -
    verified           room        b    same    same        verified  b  2   -
    verified           directory   b    same    same        verified  b  2   -
    verified           owner       b    same    same        verified  b  2   -
    verified           verified    b    same    same        verified  b  2   -
    verified           invite      b    newer   newer_list  verified  b  3   -
    verified           room        b    newer   newer_list  verified  b  3   -
    verified           directory   b    newer   newer_list  verified  b  3   -
    verified           owner       b    newer   same        verified  b  3   -
    verified           verified    b    newer   same        verified  b  3   -
    verified           invite      b    twin    !           verified  b  2   -
    verified           room        b    twin    !           verified  b  2   -
    verified           directory   b    twin    !           verified  b  2   -
    verified           invite      i    any     changed     changed   b  2   i
    verified           room        i    any     changed     changed   b  2   i
    verified           directory   i    any     changed     changed   b  2   i
    verified           owner       i    any     changed     tofu      i  any -
    verified           verified    i    any     changed     verified  i  any -

    changed            invite      b    older   same        changed   b  2   t
    changed            room        b    older   same        changed   b  2   t
    changed            directory   b    older   !           changed   b  2   t
    changed            owner       b    older   same        tofu      b  2   -
    changed            verified    b    older   same        verified  b  2   -
    changed            invite      b    same    same        changed   b  2   t
    changed            room        b    same    same        changed   b  2   t
    changed            directory   b    same    same        tofu      b  2   -
    changed            owner       b    same    same        tofu      b  2   -
    changed            verified    b    same    same        verified  b  2   -
    changed            invite      b    newer   newer_list  changed   b  3   t
    changed            room        b    newer   newer_list  changed   b  3   t
    changed            directory   b    newer   newer_list  tofu      b  3   -
    changed            owner       b    newer   same        tofu      b  3   -
    changed            verified    b    newer   same        verified  b  3   -
    changed            invite      b    twin    !           changed   b  2   t
    changed            room        b    twin    !           changed   b  2   t
    changed            directory   b    twin    !           changed   b  2   t
    changed            invite      i    any     changed     changed   b  2   i
    changed            room        i    any     changed     changed   b  2   i
    changed            directory   i    any     changed     changed   b  2   i
    changed            owner       i    any     changed     tofu      i  any -
    changed            verified    i    any     changed     verified  i  any -

    verified+changed   invite      b    older   same        changed   b  2   t
    verified+changed   room        b    older   same        changed   b  2   t
    verified+changed   directory   b    older   !           changed   b  2   t
    verified+changed   owner       b    older   same        verified  b  2   -
    verified+changed   verified    b    older   same        verified  b  2   -
    verified+changed   invite      b    same    same        changed   b  2   t
    verified+changed   room        b    same    same        changed   b  2   t
    verified+changed   directory   b    same    same        verified  b  2   -
    verified+changed   owner       b    same    same        verified  b  2   -
    verified+changed   verified    b    same    same        verified  b  2   -
    verified+changed   invite      b    newer   newer_list  changed   b  3   t
    verified+changed   room        b    newer   newer_list  changed   b  3   t
    verified+changed   directory   b    newer   newer_list  verified  b  3   -
    verified+changed   owner       b    newer   same        verified  b  3   -
    verified+changed   verified    b    newer   same        verified  b  3   -
    verified+changed   invite      b    twin    !           changed   b  2   t
    verified+changed   room        b    twin    !           changed   b  2   t
    verified+changed   directory   b    twin    !           changed   b  2   t
    verified+changed   invite      i    any     changed     changed   b  2   i
    verified+changed   room        i    any     changed     changed   b  2   i
    verified+changed   directory   i    any     changed     changed   b  2   i
    verified+changed   owner       i    any     changed     tofu      i  any -
    verified+changed   verified    i    any     changed     verified  i  any -
"""
LISTS: Final = {"older": 1, "same": 2, "newer": 3, "twin": 2}
PEOPLE: Final = {"b": bob, "i": impostor, "t": third}


class TransitionTests(PinCase):
    """The table above, held against `PinStore.consider`."""

    @staticmethod
    def before(state: str) -> Pin | None:
        """What is held."""
        if state == "none":
            return None
        return pin_of(
            SECOND, verified="verified" in state, claimed=third.ik if "changed" in state else None
        )  # fmt: skip

    def rows(self) -> list[list[str]]:
        """Of the table; a row for any list stands for three."""
        rows = []
        for line in TRANSITIONS.strip().splitlines()[1:]:
            if words := line.split():
                rows += [[*words[:3], name, *words[4:]] for name in (LISTS if words[3] == "any" else [words[3]])]
        return rows

    def test_whole(self) -> None:
        """The table has every state, source, identity and list."""
        known = {(row[0], row[1]) for row in self.rows()}
        states = ("none", "tofu", "verified", "changed", "verified+changed")
        self.assertEqual(set(product(states, (source.name.lower() for source in Source))), known)
        for state, source in product(states[1:], Source):
            lists = {(row[2], row[3]) for row in self.rows() if row[:2] == [state, source.name.lower()]}
            expected = {(who, name) for who, name in product("bi", LISTS)}
            if source not in THEIRS:
                expected -= {("b", "twin")}  # the owner's word is about an identity: the list stays
            self.assertEqual(expected, lists)

    def test_every_transition(self) -> None:
        """Every row comes out as it says; and what is refused or the same writes nothing more than it must."""
        for row in self.rows():
            state, source, who, name, finding, after, ik, version, claimed = row
            twin = "0" * 64 if name == "twin" and who == "b" and state != "none" else ""
            pins = self.holding(self.before(state))
            sighting = seen(LISTS[name], PEOPLE[who], digest=twin)
            try:
                got = pins.consider(sighting, 9, Source[source.upper()]).value
            except InvalidKey:
                got = "!"
                self.assertEqual([], self.saved, row)
            pin = self.pinned()
            self.assertEqual(finding, got, row)
            self.assertEqual(
                (after, PEOPLE[ik].ik, LISTS[name] if version == "any" else int(version)),
                (pin.state, pin.ik, pin.version),
                row,
            )
            self.assertEqual(None if claimed == "-" else PEOPLE[claimed].ik, pin.claimed, row)
            self.assertEqual(list_digest(pin.version, PEOPLE[ik]), pin.digest, row)
            if pin != self.before(state):
                self.assertEqual(("bob", pin), self.saved[-1], row)

    def test_twin_by_the_owners_word(self) -> None:
        """The owner's word is about an identity: of two lists with one number the one seen first stays."""
        for source in (Source.OWNER, Source.VERIFIED):
            self.holding(pin_of(SECOND)).consider(seen(2, digest="0" * 64), 9, source)
            self.assertEqual(list_digest(2), self.pinned().digest)


class PinStoreTests(PinCase):
    """Tests for `PinStore`, beyond single steps."""

    def test_first_contact(self) -> None:
        """The first identity seen for a name is pinned, with its list, when, by whom, and its keys."""
        for source in Source:
            pins = self.holding(None)
            self.assertEqual(Finding.FIRST, pins.consider(FIRST, 5, source))
            verified = source is Source.VERIFIED
            self.assertEqual(pin_of(FIRST, source=source.value, verified=verified), self.pinned())
            self.assertEqual([("bob", self.pinned())], self.saved)

    def test_of_keys(self) -> None:
        """What verified keys say of an identity."""
        keys = bob.keys()
        self.assertEqual(("bob", bob.ik, 1, keys.digest, (bob.kid,), ()), Sighting.of(keys))
        keys = bob.keys(2, (1,), revoked=(3, 2))
        self.assertEqual(tuple(sorted((bob.dev(2), bob.dev(3)))), Sighting.of(keys).revoked)

    def test_first_contact_at_a_later_list(self) -> None:
        """A first contact may be with any list; none before that one is taken afterwards."""
        self.pins.consider(THIRD, 5, Source.DIRECTORY)
        self.assertRaises(InvalidKey, self.pins.consider, SECOND, 6, Source.DIRECTORY)

    def test_same_writes_nothing(self) -> None:
        """What is known already is not written again, whoever says it."""
        self.holding(pin_of(SECOND))
        for source in THEIRS:
            self.pins.consider(SECOND, 9, source)
        self.assertEqual([], self.saved)

    def test_refused_in_words(self) -> None:
        """Two lists with one number, and an older one, are refused in words that say so."""
        self.holding(pin_of(SECOND))
        twin = self.assertRaises(InvalidKey, self.pins.consider, seen(2, digest="0" * 64), 9, Source.DIRECTORY)
        self.assertIn("two different device lists of bob", str(twin))
        older = self.assertRaises(InvalidKey, self.pins.consider, FIRST, 9, Source.DIRECTORY)
        self.assertIn("an older device list of bob", str(older))

    def test_changed_is_saved_once(self) -> None:
        """The same claim again is found again, but not written again; another claim is."""
        self.holding(pin_of(SECOND))
        for person in (impostor, impostor, third, third):
            self.assertEqual(Finding.CHANGED, self.pins.consider(seen(1, person), 9, Source.DIRECTORY))
        self.assertEqual([impostor.ik, third.ik], [pin.claimed for _, pin in self.saved])

    def test_only_the_owner_accepts_a_change(self) -> None:
        """However often a new identity is shown, by whomever and with whatever list, it is never taken by itself."""
        self.holding(pin_of(FIRST))
        for version, source in product((1, 2, 3), THEIRS):
            self.assertEqual(Finding.CHANGED, self.pins.consider(seen(version, impostor), 9, source))
        self.assertEqual(bob.ik, self.pinned().ik)

    def test_back_with_an_older_list(self) -> None:
        """A change in between does not make an older list acceptable."""
        self.holding(pin_of(SECOND))
        self.pins.consider(seen(1, impostor), 9, Source.DIRECTORY)
        self.assertRaises(InvalidKey, self.pins.consider, FIRST, 10, Source.DIRECTORY)
        self.assertEqual(TrustState.CHANGED, self.pinned().state)

    def test_verified_again(self) -> None:
        """Who was verified and changed is verified again by a comparison and nothing else."""
        self.pins.consider(SECOND, 5, Source.VERIFIED)
        self.assertEqual(TrustState.VERIFIED, self.pinned().state)
        self.pins.consider(seen(1, impostor), 9, Source.DIRECTORY)
        self.assertEqual((TrustState.CHANGED, True), (self.pinned().state, self.pinned().verified))
        self.pins.consider(seen(1, impostor), 10, Source.OWNER)
        self.assertEqual((TrustState.TOFU, False), (self.pinned().state, self.pinned().verified))
        for source in (*THEIRS, Source.OWNER):
            self.pins.consider(seen(1, impostor), 11, source)
            self.assertEqual(TrustState.TOFU, self.pinned().state)
        self.pins.consider(seen(1, impostor), 12, Source.VERIFIED)
        self.assertEqual(TrustState.VERIFIED, self.pinned().state)

    def test_trusted_starts_anew(self) -> None:
        """By its owner's word a new identity is pinned as first seen now, with its own list, however low.

        The one before is remembered: old messages are by it.
        """
        self.holding(pin_of(THIRD, verified=True))
        self.pins.consider(seen(1, impostor), 9, Source.DIRECTORY)
        self.pins.consider(seen(1, impostor), 11, Source.OWNER)
        earlier = (THIRD.ik,)
        self.assertEqual(pin_of(seen(1, impostor), 11, source=Source.OWNER.value, earlier=earlier), self.pinned())
        self.assertEqual(self.pinned(), Pin.from_fields(self.pinned().to_fields()))
        self.assertEqual(Finding.SAME, self.pins.consider(seen(1, impostor), 12, Source.DIRECTORY))
        self.assertEqual(Finding.CHANGED, self.pins.consider(THIRD, 13, Source.DIRECTORY))

    def test_keys_so_far(self) -> None:
        """The ids of an identity's RSA keys come from its newest list; a source that knows none takes none away."""
        self.pins.consider(seen(1, kids=()), 5, Source.ROOM)
        self.assertEqual((), self.pinned().kids)
        self.assertEqual(Finding.SAME, self.pins.consider(seen(1, kids=("one",)), 6, Source.DIRECTORY))
        self.assertEqual(("one",), self.pinned().kids)
        self.pins.consider(seen(2, kids=()), 7, Source.ROOM)
        self.assertEqual((2, ("one",)), (self.pinned().version, self.pinned().kids))
        self.pins.consider(seen(2, kids=("two", "one")), 8, Source.DIRECTORY)
        self.assertEqual(("two", "one"), self.pinned().kids)

    def test_revoked_so_far(self) -> None:
        """The devices an identity has revoked come from its newest list, and are not forgotten for a room's log."""
        list2 = seen(2)._replace(revoked=("a",))
        for held in (None, pin_of(FIRST), pin_of(SECOND)):
            pins = self.holding(held)
            pins.consider(list2, 6, Source.DIRECTORY)
            self.assertEqual(("a",), self.pinned().revoked)
        pins.consider(seen(3, kids=()), 7, Source.ROOM)
        self.assertEqual((3, ("a",)), (self.pinned().version, self.pinned().revoked))
        pins.consider(THIRD._replace(revoked=("a", "b")), 8, Source.DIRECTORY)
        self.assertEqual(("a", "b"), self.pinned().revoked)
        self.saved.clear()
        pins.consider(THIRD._replace(revoked=("a", "b")), 9, Source.DIRECTORY)
        self.assertEqual([], self.saved)
        pins.consider(seen(1, impostor)._replace(revoked=("c",)), 10, Source.OWNER)
        self.assertEqual(("c",), self.pinned().revoked)

    def test_names_are_apart(self) -> None:
        """One name's change says nothing of another's."""
        self.pins.consider(FIRST, 5, Source.DIRECTORY)
        self.pins.consider(seen(1, Person("eve")), 6, Source.DIRECTORY)
        self.pins.consider(seen(1, impostor), 7, Source.DIRECTORY)
        self.assertEqual({"bob": TrustState.CHANGED, "eve": TrustState.TOFU}, {
            user: pin.state for user, pin in self.pins.all().items()
        })  # fmt: skip

    def test_saved_before_it_has_effect(self) -> None:
        """While a pin is being written the old one holds; if it cannot be written, it has no effect."""

        class DiskFullError(Exception):
            """The disk is full."""

        held: list[Pin | None] = []

        def save(user: str, pin: Pin) -> None:
            held.append(pins.get(user))
            raise DiskFullError

        old = pin_of(FIRST)
        pins = PinStore({"bob": old}, save)
        for sighting, source in (
            (SECOND, Source.DIRECTORY), (seen(1, impostor), Source.DIRECTORY), (seen(1, Person("eve")), Source.ROOM),
            (seen(1, impostor), Source.OWNER), (FIRST, Source.VERIFIED),
        ):  # fmt: skip
            self.assertRaises(DiskFullError, pins.consider, sighting, 9, source)
        self.assertEqual([old, old, None, old, old], held)
        self.assertEqual({"bob": old}, pins.all())

    def test_loaded(self) -> None:
        """Pins as loaded hold as if just made, and the mapping they came in is left alone."""
        loaded = {"bob": pin_of(SECOND)}
        pins = PinStore(loaded, lambda user, pin: None)
        self.assertEqual(Finding.NEWER_LIST, pins.consider(THIRD, 9, Source.DIRECTORY))
        self.assertEqual(2, loaded["bob"].version)
        self.assertIs(None, pins.get("nobody"))


class ExpectTests(PinCase):
    """Tests for identities that an invite line names."""

    def test_hash(self) -> None:
        """A line names an identity by 43 characters of base64url."""
        self.assertRegex(identity_hash(bob.ik), r"^[A-Za-z0-9_-]{43}\Z")
        self.assertEqual(32, len(p.unb64url(identity_hash(bob.ik))))

    def test_expected(self) -> None:
        """The identity named is pinned at first contact, as the line's, whoever shows it."""
        for source in THEIRS:
            pins = self.holding(None, bob.ik)
            self.assertEqual(Finding.FIRST, pins.consider(FIRST, 5, source))
            self.assertEqual(pin_of(FIRST, source="invite line"), self.pinned())

    def test_another(self) -> None:
        """Another identity is refused at first contact, by whomever and as often as it is shown, and not pinned."""
        self.holding(None, bob.ik)
        for source in (*THEIRS, *THEIRS):
            error = self.assertRaises(InvalidKey, self.pins.consider, seen(1, impostor), 5, source)
            self.assertIn("not the one your invite line names", str(error))
        self.assertEqual(([], None), (self.saved, self.pins.get("bob")))
        self.assertEqual(Finding.FIRST, self.pins.consider(FIRST, 6, Source.DIRECTORY))

    def test_owners_word_stands_above(self) -> None:
        """The owner may take another all the same; the line counts no more then."""
        for source in (Source.OWNER, Source.VERIFIED):
            pins = self.holding(None, bob.ik)
            self.assertEqual(Finding.FIRST, pins.consider(seen(1, impostor), 5, source))
            self.assertEqual(impostor.ik, self.pinned().ik)
            self.assertEqual(Finding.SAME, pins.consider(seen(1, impostor), 6, Source.DIRECTORY))

    def test_at_first_contact_only(self) -> None:
        """Who is pinned already stays pinned; a change after first contact is one as ever."""
        self.holding(None, bob.ik)
        self.pins.consider(FIRST, 5, Source.ROOM)
        self.assertEqual(Finding.CHANGED, self.pins.consider(seen(1, impostor), 6, Source.DIRECTORY))
        self.holding(self.pins.get("bob"), third.ik)
        self.assertEqual(Finding.SAME, self.pins.consider(FIRST, 7, Source.DIRECTORY))

    def test_other_names(self) -> None:
        """A line says nothing of anybody else; and it can be given with the pins."""
        pins = PinStore({}, lambda user, pin: None, {"bob": identity_hash(bob.ik)})
        self.assertEqual(Finding.FIRST, pins.consider(seen(1, Person("eve")), 5, Source.DIRECTORY))
        self.assertRaises(InvalidKey, pins.consider, seen(1, impostor), 5, Source.DIRECTORY)


class PinTests(SynchronousTestCase):
    """Tests for pins as stored."""

    pin = Pin(bob.ik, 5, 2, "00" * 32)

    def test_round_trip(self) -> None:
        """Whatever stands in it, a pin comes back from its JSON."""
        for changes in product(
            (None, impostor.ik), (False, True), [source.value for source in Source], ((), ("a", "b")), ((), ("c", "d"))
        ):
            names = ("claimed", "verified", "source", "kids", "revoked")
            pin = replace(self.pin, **dict(zip(names, changes, strict=True)))
            self.assertEqual(pin, Pin.from_fields(json.loads(json.dumps(pin.to_fields()))))

    def test_earlier_pins(self) -> None:
        """A pin of before there were sources and comparisons is one from the directory, not compared."""
        fields = {"ik": p.b64(bob.ik), "seen": 5, "ver": 2, "digest": "00" * 32}
        self.assertEqual(self.pin, Pin.from_fields(fields))
        self.assertEqual(
            (False, "directory", (), ()), (self.pin.verified, self.pin.source, self.pin.kids, self.pin.revoked)
        )

    def test_state(self) -> None:
        """A claim makes it changed, compared or not; without one it is what its owner made it."""
        claimed, verified = replace(self.pin, claimed=impostor.ik), replace(self.pin, verified=True)
        self.assertEqual(
            [TrustState.TOFU, TrustState.CHANGED, TrustState.VERIFIED, TrustState.CHANGED],
            [pin.state for pin in (self.pin, claimed, verified, replace(verified, claimed=impostor.ik))],
        )

    def test_damaged(self) -> None:
        """A pin with a field missing or of a wrong kind is refused."""
        fields = self.pin.to_fields()
        for name in ("ik", "seen", "ver", "digest"):
            self.assertRaises(InvalidKey, Pin.from_fields, {key: fields[key] for key in fields if key != name})
        for change in ({"ik": 1}, {"ik": "?"}, {"ver": "x"}, {"ver": None}, {"claimed": "?"}, {"claimed": 1}):
            self.assertRaises(InvalidKey, Pin.from_fields, fields | change)

    def test_fields_are_plain(self) -> None:
        """What is stored is strings and numbers, and the shorter for what is not there."""
        self.assertEqual(
            {"ik": p.b64(bob.ik), "seen": 5, "ver": 2, "digest": "00" * 32, "source": "directory",
             "claimed": p.b64(impostor.ik), "verified": 1, "kids": "a b", "revoked": "c d"},
            replace(self.pin, claimed=impostor.ik, verified=True, kids=("a", "b"), revoked=("c", "d")).to_fields(),
        )  # fmt: skip
        self.assertEqual({"ik", "seen", "ver", "digest", "source"}, self.pin.to_fields().keys())


class SafetyNumberTests(SynchronousTestCase):
    """Tests for how two people compare their identities."""

    # The test vector of libsignal's numeric fingerprints, version 0.
    KEYS = (
        "0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868",
        "05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b",
    )
    IDS = (b"+14152222222", b"+14153333333")
    NUMBER = "300354477692869396892869876765458257569162576843440918079131"

    def test_published(self) -> None:
        """libsignal's published keys give its published number, from either side."""
        one, other = (half_fingerprint(bytes.fromhex(key), name) for key, name in zip(self.KEYS, self.IDS, strict=True))
        self.assertEqual(self.NUMBER, safety_number(one, other))
        self.assertEqual(self.NUMBER, safety_number(other, one))

    def test_bound_to_keys_and_names(self) -> None:
        """Another identity on either side, or another name or server under it, gives another number."""
        names = (f"alice@{SRV}".encode(), f"bob@{SRV}".encode(), f"bob@{'x' * 43}".encode())
        alice = half_fingerprint(Person("alice").ik, names[0])
        halves = [half_fingerprint(key, name) for key in (bob.ik, impostor.ik) for name in names[1:]]
        numbers = {safety_number(alice, half) for half in halves}
        self.assertEqual(4, len(numbers))
        for number in numbers:
            self.assertRegex(number, r"^[0-9]{60}\Z")

    def test_order(self) -> None:
        """The number and the code are the same whoever's half comes first, digits in the order of their text."""
        low, high = bytes(32), b"\x00\x00\x00\x00\x01" * 6 + b"\xff\xff"
        self.assertEqual("0" * 30 + "00001" * 6, safety_number(high, low))
        self.assertEqual(safety_number(high, low), safety_number(low, high))
        self.assertEqual((low + high, low + high), (safety_bytes(high, low), safety_bytes(low, high)))
