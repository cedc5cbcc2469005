"""Tests for pins: which identity belongs to which name, as one account has seen it."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.trust import Finding, Pin, PinStore, TrustState
from securechat.errors import InvalidKey
from tests.doubles import Person

bob, impostor, third = (Person("bob", generation=number) for number in (1, 2, 3))
FIRST, SECOND, THIRD = bob.keys(1), bob.keys(2), bob.keys(3)
FORK = bob.keys(2, (1, 2), previous=FIRST.digest)


class PinStoreTests(SynchronousTestCase):
    """Tests for `PinStore`."""

    def setUp(self) -> None:
        self.saved: list[tuple[str, Pin]] = []
        self.pins = PinStore({}, lambda user, pin: self.saved.append((user, pin)))

    def pinned(self) -> Pin:
        """Bob's pin."""
        pin = self.pins.get("bob")
        assert pin is not None
        return pin

    def test_first_contact(self) -> None:
        """The first identity seen for a name is pinned, with its list and when."""
        self.assertEqual(Finding.FIRST, self.pins.consider(FIRST, 5))
        self.assertEqual(Pin(bob.ik, 5, 1, FIRST.digest), self.pinned())
        self.assertEqual(TrustState.TOFU, self.pinned().state)
        self.assertEqual([("bob", self.pinned())], self.saved)

    def test_first_contact_at_a_later_list(self) -> None:
        """A first contact may be with any list; none before that one is taken afterwards."""
        self.assertEqual(Finding.FIRST, self.pins.consider(THIRD, 5))
        self.assertRaises(InvalidKey, self.pins.consider, SECOND, 6)

    def test_same(self) -> None:
        """What is known already changes nothing, and nothing is written."""
        self.pins.consider(FIRST, 5)
        self.assertEqual(Finding.SAME, self.pins.consider(FIRST, 9))
        self.assertEqual(1, len(self.saved))
        self.assertEqual(5, self.pinned().first_seen)

    def test_newer_list(self) -> None:
        """A newer list of the same identity is taken, and may leave numbers out."""
        self.pins.consider(FIRST, 5)
        self.assertEqual(Finding.NEWER_LIST, self.pins.consider(THIRD, 9))
        self.assertEqual(Pin(bob.ik, 5, 3, THIRD.digest), self.pinned())
        self.assertEqual(TrustState.TOFU, self.pinned().state)

    def test_never_back(self) -> None:
        """An older list is refused, and the pin stays."""
        self.pins.consider(SECOND, 5)
        before = self.pinned()
        self.assertRaises(InvalidKey, self.pins.consider, FIRST, 9)
        self.assertEqual(before, self.pinned())
        self.assertEqual(1, len(self.saved))

    def test_two_lists_with_one_number(self) -> None:
        """Two lists with one number are refused, either way round, and the pin stays."""
        self.pins.consider(SECOND, 5)
        before = self.pinned()
        error = self.assertRaises(InvalidKey, self.pins.consider, FORK, 9)
        self.assertIn("two different device lists of bob", str(error))
        self.assertEqual(before, self.pinned())
        self.assertEqual(Finding.SAME, self.pins.consider(SECOND, 9))

    def test_changed(self) -> None:
        """Another identity for a pinned name makes it changed; what was trusted stays trusted."""
        self.pins.consider(SECOND, 5)
        self.assertEqual(Finding.CHANGED, self.pins.consider(impostor.keys(), 9))
        self.assertEqual(Pin(bob.ik, 5, 2, SECOND.digest, claimed=impostor.ik), self.pinned())
        self.assertEqual(TrustState.CHANGED, self.pinned().state)

    def test_changed_is_saved_once(self) -> None:
        """The same claim again is found again, but not written again; another claim is."""
        self.pins.consider(SECOND, 5)
        for keys in (impostor.keys(), impostor.keys(), third.keys(), third.keys()):
            self.assertEqual(Finding.CHANGED, self.pins.consider(keys, 9))
        self.assertEqual(3, len(self.saved))
        self.assertEqual(third.ik, self.pinned().claimed)

    def test_only_trust_accepts_a_change(self) -> None:
        """However often a new identity is shown, also with newer lists, it is never taken by itself."""
        self.pins.consider(FIRST, 5)
        for version in (1, 2, 3):
            self.assertEqual(Finding.CHANGED, self.pins.consider(impostor.keys(version), 9))
        self.assertEqual(bob.ik, self.pinned().ik)

    def test_back_to_the_old_identity(self) -> None:
        """Where the server is back at the trusted identity, the claim is dropped."""
        self.pins.consider(SECOND, 5)
        self.pins.consider(impostor.keys(), 9)
        self.assertEqual(Finding.SAME, self.pins.consider(SECOND, 10))
        self.assertEqual(Pin(bob.ik, 5, 2, SECOND.digest), self.pinned())
        self.assertEqual(("bob", self.pinned()), self.saved[-1])

    def test_back_with_a_newer_list(self) -> None:
        """The same, with a list newer than the one known."""
        self.pins.consider(SECOND, 5)
        self.pins.consider(impostor.keys(), 9)
        self.assertEqual(Finding.NEWER_LIST, self.pins.consider(THIRD, 10))
        self.assertEqual(Pin(bob.ik, 5, 3, THIRD.digest), self.pinned())
        self.assertEqual(("bob", self.pinned()), self.saved[-1])

    def test_back_with_an_older_list(self) -> None:
        """A change in between does not make an older list acceptable."""
        self.pins.consider(SECOND, 5)
        self.pins.consider(impostor.keys(), 9)
        self.assertRaises(InvalidKey, self.pins.consider, FIRST, 10)
        self.assertEqual(TrustState.CHANGED, self.pinned().state)

    def test_trust(self) -> None:
        """By its owner's word a new identity is pinned, with its own list number, however low."""
        self.pins.consider(THIRD, 5)
        self.pins.consider(impostor.keys(), 9)
        self.pins.trust(impostor.keys(), 11)
        self.assertEqual(Pin(impostor.ik, 11, 1, impostor.keys().digest), self.pinned())
        self.assertEqual(Finding.SAME, self.pins.consider(impostor.keys(), 12))
        self.assertEqual(Finding.CHANGED, self.pins.consider(THIRD, 13))

    def test_names_are_apart(self) -> None:
        """One name's change says nothing of another's."""
        self.pins.consider(FIRST, 5)
        self.pins.consider(Person("eve").keys(), 6)
        self.pins.consider(impostor.keys(), 7)
        self.assertEqual({"bob": TrustState.CHANGED, "eve": TrustState.TOFU}, {
            user: pin.state for user, pin in self.pins.all().items()
        })  # fmt: skip

    def test_saved_before_it_has_effect(self) -> None:
        """While a pin is being written the old one holds; if it cannot be written, it has no effect."""

        class DiskFullError(Exception):
            """The disk is full."""

        seen: list[Pin | None] = []

        def save(user: str, pin: Pin) -> None:
            seen.append(pins.get(user))
            raise DiskFullError

        old = Pin(bob.ik, 5, 1, FIRST.digest)
        pins = PinStore({"bob": old}, save)
        for keys in (SECOND, impostor.keys(), Person("eve").keys()):
            self.assertRaises(DiskFullError, pins.consider, keys, 9)
        self.assertRaises(DiskFullError, pins.trust, impostor.keys(), 9)
        self.assertEqual([old, old, None, old], seen)
        self.assertEqual({"bob": old}, pins.all())

    def test_loaded(self) -> None:
        """Pins as loaded hold as if just made, and the mapping they came in is left alone."""
        loaded = {"bob": Pin(bob.ik, 5, 2, SECOND.digest)}
        pins = PinStore(loaded, lambda user, pin: None)
        self.assertEqual(Finding.NEWER_LIST, pins.consider(THIRD, 9))
        self.assertEqual(2, loaded["bob"].version)
        self.assertIs(None, pins.get("nobody"))


class PinTests(SynchronousTestCase):
    """Tests for pins as stored."""

    pin = Pin(bob.ik, 5, 2, "00" * 32)

    def test_round_trip(self) -> None:
        """With a claim and without, a pin comes back."""
        for pin in (self.pin, replace(self.pin, claimed=impostor.ik)):
            self.assertEqual(pin, Pin.from_fields(pin.to_fields()))

    def test_state(self) -> None:
        """A claim is what makes it changed."""
        self.assertEqual(TrustState.TOFU, self.pin.state)
        self.assertEqual(TrustState.CHANGED, replace(self.pin, claimed=impostor.ik).state)

    def test_damaged(self) -> None:
        """A pin with a field missing or of a wrong kind is refused."""
        fields = self.pin.to_fields()
        for name in fields:
            self.assertRaises(InvalidKey, Pin.from_fields, {key: fields[key] for key in fields if key != name})
        for change in ({"ik": 1}, {"ik": "?"}, {"ver": "x"}, {"ver": None}, {"claimed": "?"}, {"claimed": 1}):
            self.assertRaises(InvalidKey, Pin.from_fields, fields | change)

    def test_fields_are_plain(self) -> None:
        """What is stored is strings and numbers."""
        self.assertEqual(
            {"ik": p.b64(bob.ik), "seen": 5, "ver": 2, "digest": "00" * 32, "claimed": p.b64(impostor.ik)},
            replace(self.pin, claimed=impostor.ik).to_fields(),
        )
