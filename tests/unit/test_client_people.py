"""Tests for other people's keys and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.people import IdentityChanged, People, pins_from
from securechat.crypto.identity import private_conversation
from securechat.crypto.trust import Pin, PinStore, TrustState
from securechat.errors import Exit, InvalidKey
from securechat.wire import limits
from securechat.wire import messages as m
from tests.doubles import SRV, Person

NOW = 1_700_000_000_000


def bundle(person: Person, version: int = 1, devices: Sequence[int] = (1,)) -> m.KeyBundle:
    """A person's keys as the server gives them."""
    return m.KeyBundle.of(person.bundle(version, devices))


class PeopleCase(SynchronousTestCase):
    """An account that knows nobody, and a server that gives what the test puts into `given`."""

    def setUp(self) -> None:
        self.alice, self.bob = Person("alice"), Person("bob")
        self.given: dict[str, m.KeyBundle] = {}
        self.fetched: list[tuple[str, ...]] = []
        self.said: list[str] = []
        self.saved: dict[str, Pin] = {}
        self.people = self.make({})

    def make(self, pins: dict[str, Pin]) -> People:
        """People as known by these pins."""
        return People(
            SRV,
            PinStore(pins, self.saved.__setitem__),
            fetch=self.fetch,
            say=self.said.append,
            now_ms=lambda: NOW,
        )

    async def fetch(self, users: tuple[str, ...]) -> m.KeysOk:
        """Answers what is given of these."""
        self.fetched.append(users)
        return m.KeysOk(keys={user: self.given[user] for user in users if user in self.given})

    def take_in(self, *people: Person, quietly: bool = False, **which: Any) -> list[str]:
        """The server gave their keys; what is said of it."""
        self.said.clear()
        self.people.take_in({p.user: bundle(p, **which) for p in people}, quietly=quietly)
        return self.said

    def keys_of(self, *users: str) -> Any:
        """Asks for verified keys."""
        return Deferred.fromCoroutine(self.people.keys_of(users))


class TakeInTests(PeopleCase):
    """Tests for keys that come from the server."""

    def test_first_contact(self) -> None:
        """A person met for the first time is pinned and known, and that is said."""
        self.assertEqual(["First contact with bob: their identity is remembered."], self.take_in(self.bob))
        self.assertEqual(Pin(self.bob.ik, NOW, 1, self.bob.keys().digest), self.saved["bob"])
        known = self.people.known("bob")
        assert known is not None
        self.assertEqual((self.bob.ik, self.bob.kid), (known.ik, known.kid))

    def test_first_contacts_are_one_line(self) -> None:
        """Many people met at once are one line: five names, and a number."""
        crowd = [Person(f"user{number}") for number in range(8)]
        self.assertEqual(
            ["First contact with user0, user1, user2, user3, user4 and 3 more: their identity is remembered."],
            self.take_in(*reversed(crowd)),
        )

    def test_quietly(self) -> None:
        """Where another line says it, nothing is said; the pin is made all the same."""
        self.assertEqual([], self.take_in(self.bob, quietly=True))
        self.assertIn("bob", self.saved)

    def test_again(self) -> None:
        """The same keys again are no news."""
        self.take_in(self.bob)
        self.assertEqual([], self.take_in(self.bob))

    def test_newer_device(self) -> None:
        """A device more, signed by the identity one knows, is one quiet line, once."""
        self.take_in(self.bob)
        line = "bob uses a new device, signed by the identity you know."
        self.assertEqual([line], self.take_in(self.bob, version=2, devices=(1, 2)))
        self.assertEqual([], self.take_in(self.bob, version=2, devices=(1, 2)))

    def test_changed(self) -> None:
        """Another identity is said with what to type, blocks, and is said once; the pin stays."""
        self.take_in(self.bob)
        (line,) = self.take_in(Person("bob", generation=2))
        self.assertIn("The identity of bob changed", line)
        self.assertIn("/trust bob", line)
        self.assertEqual([], self.take_in(Person("bob", generation=2)))
        self.assertEqual(TrustState.CHANGED, self.people.state("bob"))
        self.assertEqual((["bob"], self.bob.ik), (self.people.changed(["alice", "bob"]), self.saved["bob"].ik))

    def test_changed_and_back(self) -> None:
        """When the server gives the old identity again, nothing is blocked any more."""
        self.take_in(self.bob)
        self.take_in(Person("bob", generation=2))
        self.take_in(self.bob)
        self.assertEqual(TrustState.TOFU, self.people.state("bob"))

    def test_bad_bundle(self) -> None:
        """Keys that do not verify are refused and said; the others of the same answer are taken."""
        forged = bundle(self.bob)
        forged = m.KeyBundle(list=forged.list, sig=b"\0" * 64, certs=forged.certs)
        self.people.take_in({"bob": forged, "alice": bundle(self.alice)})
        self.assertTrue(self.said[0].startswith("The keys the server gave for bob are refused: "), self.said)
        self.assertIn("First contact with alice", self.said[1])
        self.assertEqual((None, None), (self.people.known("bob"), self.people.state("bob")))

    def test_of_somebody_else(self) -> None:
        """Somebody else's good keys under this name are refused."""
        self.people.take_in({"bob": bundle(self.alice)})
        self.assertIn("refused", self.said[0])
        self.assertIsNone(self.people.known("bob"))

    def test_of_another_server(self) -> None:
        """Keys signed for another server are refused."""
        self.people.take_in({"bob": bundle(Person("bob", srv="x" * 43))})
        self.assertIn("refused", self.said[0])
        self.assertIsNone(self.people.known("bob"))

    def test_older_list(self) -> None:
        """A list older than one seen before is refused, and nothing is sealed for what was known, either."""
        self.take_in(self.bob, version=2, devices=(1, 2))
        self.assertIn("older device list", self.take_in(self.bob)[0])
        self.assertIsNone(self.people.known("bob"))


class KeysOfTests(PeopleCase):
    """Tests for the keys one seals for."""

    def test_fetched_once(self) -> None:
        """Only those not known are asked for, and only once."""
        self.given = {"alice": bundle(self.alice), "bob": bundle(self.bob)}
        self.take_in(self.alice)
        keys = self.successResultOf(self.keys_of("alice", "bob"))
        self.assertEqual({"alice": self.alice.kid, "bob": self.bob.kid}, {u: k.kid for u, k in keys.items()})
        self.successResultOf(self.keys_of("alice", "bob"))
        self.assertEqual([("bob",)], self.fetched)

    def test_in_portions(self) -> None:
        """So many at once as the server answers."""
        crowd = [Person(f"user{number}") for number in range(limits.KEYS_PER_REQUEST + 1)]
        self.given = {p.user: bundle(p) for p in crowd[:2]}
        error = self.failureResultOf(self.keys_of(*(p.user for p in crowd)), InvalidKey)
        self.assertEqual([limits.KEYS_PER_REQUEST, 1], [len(users) for users in self.fetched])
        self.assertIn("user2", str(error.value))

    def test_forgotten(self) -> None:
        """Keys that the server calls old are asked for again."""
        self.given = {"bob": bundle(self.bob, 2, (1, 2))}
        self.take_in(self.bob)
        self.people.forget(["bob", "nobody"])
        self.assertEqual(2, self.successResultOf(self.keys_of("bob"))["bob"].version)

    def test_changed(self) -> None:
        """With somebody among them whose identity changed, there are no keys at all."""
        self.take_in(self.alice)
        self.take_in(self.bob)
        self.given = {"bob": bundle(Person("bob", generation=2))}
        self.people.forget(["bob"])
        error = self.failureResultOf(self.keys_of("alice", "bob"), IdentityChanged).value
        self.assertEqual((("bob",), Exit.UNTRUSTED), (error.users, error.exit))

    def test_changed_in_an_earlier_run(self) -> None:
        """A change that was seen before blocks also while the server gives no keys."""
        pin = Pin(self.bob.ik, 1, 1, "d", claimed=self.alice.ik)
        self.people = self.make({"bob": pin})
        self.failureResultOf(self.keys_of("bob"), IdentityChanged)

    def test_none_given(self) -> None:
        """Somebody the server gives no keys of is named."""
        self.given = {"alice": bundle(self.alice)}
        error = self.failureResultOf(self.keys_of("alice", "bob"), InvalidKey).value
        self.assertEqual("the server gives no usable keys of bob", str(error))

    def test_accepted(self) -> None:
        """After their friend's word the present identity is theirs, and is sealed for."""
        self.take_in(self.bob)
        newer = Person("bob", generation=2)
        self.take_in(newer)
        pin = self.people.accept("bob", newer.ik)
        assert pin is not None
        self.assertEqual((newer.ik, TrustState.TOFU), (pin.ik, pin.state))
        self.assertEqual(newer.kid, self.successResultOf(self.keys_of("bob"))["bob"].kid)
        self.assertEqual(newer.ik, self.saved["bob"].ik)

    def test_accept_unseen(self) -> None:
        """Keys that were not seen cannot be accepted."""
        self.assertIsNone(self.people.accept("bob", self.bob.ik))
        self.assertEqual({}, self.saved)

    def test_accept_another_than_was_shown(self) -> None:
        """A word about one identity is no word about the one that came meanwhile."""
        for generation in (1, 2, 3):
            self.take_in(Person("bob", generation=generation))
        self.assertIsNone(self.people.accept("bob", Person("bob", generation=2).ik))
        self.assertEqual(TrustState.CHANGED, self.people.state("bob"))


class SelfTests(PeopleCase):
    """Tests for one's own keys as the server has them."""

    def test_known(self) -> None:
        """One's own keys as they were are no news, nor is the first time."""
        self.people.meet_self(self.alice.keys(), fresh=False)
        self.people.meet_self(self.alice.keys(), fresh=False)
        self.assertEqual([], self.said)

    def test_this_device(self) -> None:
        """One more device is no news where it is this one."""
        self.people.meet_self(self.alice.keys(), fresh=False)
        self.people.meet_self(self.alice.keys(2, (1, 2)), fresh=True)
        self.assertEqual([], self.said)

    def test_another_device(self) -> None:
        """Any other is an alarm that says what to do."""
        self.people.meet_self(self.alice.keys(), fresh=False)
        self.people.meet_self(self.alice.keys(2, (1, 2)), fresh=False)
        (line,) = self.said
        self.assertIn("another device", line)
        self.assertIn("/passwd", line)

    def test_older_list(self) -> None:
        """An older list of one's own is not accepted."""
        self.people.meet_self(self.alice.keys(2, (1, 2)), fresh=False)
        with self.assertRaises(InvalidKey):
            self.people.meet_self(self.alice.keys(), fresh=False)


class PinTests(PeopleCase):
    """Tests for pins as they are stored."""

    def test_there_and_back(self) -> None:
        """Pins come back as they were, with an open claim."""
        pins = {"bob": Pin(self.bob.ik, 5, 2, "d", claimed=self.alice.ik), "alice": Pin(self.alice.ik, 6, 1, "e")}
        self.assertEqual(pins, pins_from({user: pin.to_fields() for user, pin in pins.items()}))

    def test_damaged(self) -> None:
        """A damaged pin is left out, whatever is wrong with it; the others stay."""
        good = Pin(self.bob.ik, 5, 2, "d").to_fields()
        damages: tuple[Any, ...] = (
            None,
            7,
            [],
            "x",
            {},
            {**good, "ik": "?"},
            {**good, "ver": "x"},
            {**good, "claimed": 3},
        )
        for damage in damages:
            self.assertEqual(["bob"], list(pins_from({"alice": damage, "bob": good})), damage)

    def test_conversation(self) -> None:
        """The private conversation with somebody is that of both identities."""
        self.take_in(self.bob)
        self.assertEqual(
            private_conversation(self.alice.ik, self.bob.ik),
            self.people.conversation_with(self.alice.ik, "bob"),
        )
        self.assertIsNone(self.people.conversation_with(self.alice.ik, "carol"))
