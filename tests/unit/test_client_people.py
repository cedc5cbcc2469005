"""Tests for other people's keys and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.held import IdentityChanged
from securechat.client.people import People, merged, pins_from, verify_all
from securechat.client.protocol import LinkLost
from securechat.crypto.envelope import examine
from securechat.crypto.findings import Finding as JudgedAs
from securechat.crypto.reading import Found
from securechat.crypto.trust import Pin, PinStore, Sighting, Source, TrustState, identity_hash
from securechat.errors import Exit, InvalidKey
from securechat.wire import limits
from securechat.wire import messages as m
from tests.cast import NOW, SRV, Conversation, Person, Room, reader_of
from tests.doubles import ClientThreads, InlineReactor


def bundle(person: Person, version: int = 1, devices: Sequence[int] = (1,)) -> m.KeyBundle:
    """A person's keys as the server gives them."""
    return m.KeyBundle.of(person.bundle(version, devices))


class PeopleCase(SynchronousTestCase):
    """An account that knows nobody, and a server that gives what the test puts into `given`."""

    def setUp(self) -> None:
        self.alice, self.bob = Person("alice"), Person("bob")
        self.given: dict[str, m.KeyBundle] = {}
        self.fetched: list[tuple[str, ...]] = []
        self.gate: Deferred[None] | None = None
        self.said: list[str] = []
        self.saved: dict[str, Pin] = {}
        self.threads = ClientThreads(InlineReactor())
        self.people = self.make({})

    def make(self, pins: dict[str, Pin], expected: dict[str, str] | None = None) -> People:
        """People as known by these pins."""
        return People(
            SRV,
            PinStore(pins, self.saved.__setitem__, expected),
            fetch=self.fetch,
            run=self.threads.run,
            say=self.said.append,
            now_ms=lambda: NOW,
        )

    async def fetch(self, users: tuple[str, ...]) -> m.KeysOk:
        """Answers what is given of these."""
        self.fetched.append(users)
        if self.gate is not None:
            await self.gate
        return m.KeysOk(keys={user: self.given[user] for user in users if user in self.given})

    def take_in(self, *people: Person, quietly: bool = False, **which: Any) -> list[str]:
        """The server gave their keys; what is said of it."""
        self.said.clear()
        self.people.take_in({p.user: bundle(p, **which) for p in people}, quietly=quietly)
        return self.said

    def keys_of(self, *users: str) -> Any:
        """Asks for verified keys."""
        return Deferred.fromCoroutine(self.people.keys_of(users))

    def know(self, *users: str) -> Deferred[None]:
        """Fetches keys where they are lacking."""
        return Deferred.fromCoroutine(self.people.know(users))

    def sight(self, person: Person, version: int = 1, devices: Sequence[int] = (1,)) -> None:
        """A room's log names somebody."""
        keys = person.keys(version, devices)
        self.people.sight(Sighting(person.user, person.ik, keys.version, keys.digest))


class TakeInTests(PeopleCase):
    """Tests for keys that come from the server."""

    def test_first_contact(self) -> None:
        """A person met for the first time is pinned and known, and that is said."""
        self.assertEqual(["First contact with bob: their identity is remembered."], self.take_in(self.bob))
        pin = Pin(self.bob.ik, NOW, 1, self.bob.keys().digest, source="directory", kids=(self.bob.kid,))
        self.assertEqual(pin, self.saved["bob"])
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

    def test_revoked_device(self) -> None:
        """A device less is said as that."""
        self.take_in(self.bob, version=1, devices=(1, 2))
        before = self.bob.keys(1, (1, 2)).digest
        gone = m.KeyBundle.of(self.bob.bundle(2, (1,), previous=before, revoked=(2,)))
        self.said.clear()
        self.people.take_in({"bob": gone})
        self.assertEqual(["bob revoked a device, signed by the identity you know."], self.said)
        self.assertEqual((True, False), tuple(self.people.revoked("bob", self.bob.dev(n)) for n in (2, 1)))

    def test_changed(self) -> None:
        """Another identity is said with what to type, blocks, and is said once; the pin stays."""
        self.take_in(self.bob)
        (line,) = self.take_in(Person("bob", generation=2))
        self.assertIn("The identity of bob changed", line)
        self.assertIn("/trust bob", line)
        self.assertEqual([], self.take_in(Person("bob", generation=2)))
        self.assertEqual(TrustState.CHANGED, self.people.state("bob"))
        self.assertEqual((["bob"], self.bob.ik), (self.people.changed(["alice", "bob"]), self.saved["bob"].ik))

    def test_changed_though_compared(self) -> None:
        """Of somebody one compared with, comparing again is what is asked for."""
        self.take_in(self.bob)
        self.people.accept("bob", self.bob.ik, Source.VERIFIED)
        (line,) = self.take_in(Person("bob", generation=2))
        self.assertIn("/verify bob", line)
        self.assertTrue(self.people.verified("bob"))

    def test_expected(self) -> None:
        """Whom an invite line names is taken as that person only; the line is the source then."""
        self.people = self.make({}, {"bob": identity_hash(self.bob.ik)})
        (line,) = self.take_in(Person("bob", generation=2))
        self.assertIn("not the one your invite line names", line)
        self.assertEqual(({}, None), (self.saved, self.people.known("bob")))
        self.take_in(self.bob)
        self.assertEqual("invite line", self.saved["bob"].source)

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


class SightTests(PeopleCase):
    """Tests for identities that the log of a room names."""

    def test_first(self) -> None:
        """Somebody nobody heard of is pinned; the room's log is the source, and no line is said for each."""
        self.sight(self.bob)
        self.assertEqual((self.bob.ik, "room log"), (self.saved["bob"].ik, self.saved["bob"].source))
        self.assertEqual([], self.said)

    def test_then_the_directory(self) -> None:
        """The directory's keys of the same identity are no first contact then."""
        self.sight(self.bob)
        self.assertEqual([], self.take_in(self.bob))
        self.assertEqual((self.bob.kid,), self.saved["bob"].kids)

    def test_another_directory(self) -> None:
        """If the directory has another identity, it changed: which of them lies, only comparing can tell."""
        self.sight(self.bob)
        self.assertIn("The identity of bob changed", self.take_in(Person("bob", generation=2))[0])

    def test_an_earlier_one(self) -> None:
        """Another than the directory gives now is no news: a log keeps who was there before they started over."""
        newer = Person("bob", generation=2)
        self.take_in(newer)
        self.said.clear()
        self.sight(self.bob)
        self.assertEqual(([], TrustState.TOFU), (self.said, self.people.state("bob")))

    def test_another(self) -> None:
        """Another where the directory was not asked is a change, said once."""
        self.people = self.make({"bob": Pin(Person("bob", generation=2).ik, 1, 1, "d")})
        for _ in range(2):
            self.sight(self.bob)
        self.assertEqual((1, TrustState.CHANGED), (len(self.said), self.people.state("bob")))

    def test_an_older_list(self) -> None:
        """A log tells of the time it was written: an older list in it is no news."""
        self.take_in(self.bob, version=2, devices=(1, 2))
        self.sight(self.bob)
        self.assertEqual(2, self.saved["bob"].version)

    def test_two_lists(self) -> None:
        """Another list of the same number is an error, and nothing is changed."""
        self.take_in(self.bob)
        before = dict(self.saved)
        with self.assertRaises(InvalidKey):
            self.sight(self.bob, 1, (1, 2))
        self.assertEqual(before, self.saved)

    def test_a_newer_list(self) -> None:
        """A newer list is noted, and the keys that are known are fetched anew before anything is sealed for them."""
        self.take_in(self.bob)
        self.sight(self.bob, 2, (1, 2))
        self.assertEqual((2, self.bob.keys(2, (1, 2)).digest), self.people.newest_list("bob"))
        self.given = {"bob": bundle(self.bob, 2, (1, 2))}
        self.assertEqual(2, self.successResultOf(self.keys_of("bob"))["bob"].version)
        self.assertEqual([("bob",)], self.fetched)

    def test_a_newer_list_that_is_not_given(self) -> None:
        """If the server does not give it, nothing is sealed for what was known before."""
        for given in ({"bob": bundle(self.bob)}, {}):
            self.people = self.make({})
            self.take_in(self.bob)
            self.sight(self.bob, 2, (1, 2))
            self.given = given
            self.failureResultOf(self.keys_of("bob"), InvalidKey)


class ReaderTests(PeopleCase):
    """Tests for what a reader of messages asks (`reading.Trust`)."""

    def test_unknown(self) -> None:
        """Of somebody nobody heard of, nothing is known."""
        self.assertEqual(
            (None, None, (0, ""), False, None, None, None),
            (
                self.people.identity("bob"),
                self.people.device("bob", self.bob.dev()),
                self.people.newest_list("bob"),
                self.people.revoked("bob", self.bob.dev()),
                self.people.kids("bob", self.bob.ik),
                self.people.state("bob"),
                self.people.certificate("bob", self.bob.dev()),
            ),
        )

    def test_known(self) -> None:
        """Of somebody whose keys were verified, all of it."""
        self.take_in(self.bob)
        self.assertEqual(
            (self.bob.ik, self.bob.vouched(), (1, self.bob.keys().digest), frozenset({self.bob.kid})),
            (
                self.people.identity("bob"),
                self.people.device("bob", self.bob.dev()),
                self.people.newest_list("bob"),
                self.people.kids("bob", self.bob.ik),
            ),
        )
        self.assertEqual(m.Certificate.of(self.bob.certificate()), self.people.certificate("bob", self.bob.dev()))

    def test_after_a_restart(self) -> None:
        """The pins of an earlier run know identity, list and key ids; devices are known once a bundle came."""
        self.take_in(self.bob)
        self.people = self.make(pins_from({user: pin.to_fields() for user, pin in self.saved.items()}))
        self.assertEqual(
            (self.bob.ik, frozenset({self.bob.kid}), None),
            (
                self.people.identity("bob"),
                self.people.kids("bob", self.bob.ik),
                self.people.device("bob", self.bob.dev()),
            ),
        )

    def test_kids_of_another(self) -> None:
        """Key ids belong to an identity: of another one of that name, only what is known of that one counts."""
        newer = Person("bob", generation=2)
        self.take_in(self.bob)
        self.take_in(newer)
        self.assertEqual(
            (frozenset({newer.kid}), frozenset({self.bob.kid}), None),
            tuple(self.people.kids("bob", ik) for ik in (newer.ik, self.bob.ik, self.alice.ik)),
        )

    def test_revoked_by_another(self) -> None:
        """Only the pinned identity revokes a device: who else uses the name does not."""
        self.take_in(self.bob)
        newer = Person("bob", generation=2)
        self.people.take_in({"bob": m.KeyBundle.of(newer.bundle(2, (2,), previous="ab" * 32, revoked=(1,)))})
        self.assertFalse(self.people.revoked("bob", newer.dev(1)))

    def test_revoked_in_an_earlier_run(self) -> None:
        """What was revoked stays so after a restart, also where the server gives no list any more."""
        self.people.take_in({"bob": m.KeyBundle.of(self.bob.bundle(2, (1,), previous="ab" * 32, revoked=(2,)))})
        self.people = self.make(pins_from({user: pin.to_fields() for user, pin in self.saved.items()}))
        self.people.add_device(self.bob.vouched(2))
        self.successResultOf(self.know("bob"))
        self.assertIsNone(self.people.known("bob"))
        self.assertEqual([True, False], [self.people.revoked("bob", self.bob.dev(number)) for number in (2, 1)])

    def test_list_of_a_log_alone(self) -> None:
        """A list that only room logs name counts as none: what it revokes is not known. Seen once, it counts."""
        self.sight(self.bob)
        self.take_in(Person("bob", generation=2))
        self.assertEqual((0, ""), self.people.newest_list("bob"))
        self.take_in(self.bob)
        self.assertEqual((1, self.bob.keys().digest), self.people.newest_list("bob"))
        self.people = self.make(self.saved)
        self.assertEqual((1, self.bob.keys().digest), self.people.newest_list("bob"))

    def test_withheld_list(self) -> None:
        """So a message by somebody whose lists the server withholds is flagged, not trusted in silence."""
        room = Room(self.alice, self.bob)
        talk = Conversation(room.log, self.alice, self.bob)
        reader = reader_of(self.alice, talk)
        self.sight(self.bob)
        self.people.add_device(self.bob.vouched())
        posted = talk.deliver(talk.say(self.bob, "x"), self.alice)
        found = examine(posted, self.people.device("bob", self.bob.dev()), self.alice.private)
        self.assertIn(Found(JudgedAs.NEWER_LIST, "bob"), reader.receive(found, self.people, talk.audience).flags)
        self.take_in(self.alice, self.bob)
        reader = reader_of(self.alice, talk)
        self.assertEqual((), reader.receive(found, self.people, talk.audience).flags)

    def test_past_device(self) -> None:
        """Devices that were revoked, or of an identity before, are still known: what they signed is read."""
        newer = Person("bob", generation=2)
        self.people.take_in({"bob": m.KeyBundle.of(newer.bundle(past=[self.bob.certificate()]))})
        self.assertEqual(self.bob.vouched(), self.people.device("bob", self.bob.dev()))
        self.assertEqual(m.Certificate.of(self.bob.certificate()), self.people.certificate("bob", self.bob.dev()))

    def test_device_of_a_log(self) -> None:
        """A device whose certificate came with a log is known, and says nothing about whose identity counts."""
        self.people.add_device(self.bob.vouched())
        self.assertEqual(self.bob.vouched(), self.people.device("bob", self.bob.dev()))
        self.assertIsNone(self.people.identity("bob"))


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

    def test_know(self) -> None:
        """Whoever is known is not asked for; whom the server does not know is no error here."""
        self.take_in(self.alice)
        self.successResultOf(self.know("alice"))
        self.successResultOf(self.know("alice", "nobody"))
        self.assertEqual([("nobody",)], self.fetched)

    def test_link_lost(self) -> None:
        """A link that breaks meanwhile leaves what is known as it is."""
        self.take_in(self.bob)
        self.people.forget(["bob"])
        self.gate = Deferred()
        work = self.know("bob", "alice")
        self.gate.errback(LinkLost("gone"))
        self.failureResultOf(work, LinkLost)
        self.assertEqual(self.bob.ik, self.people.identity("bob"))

    def test_many_in_a_thread(self) -> None:
        """Many bundles are verified in a thread, and are known once they are."""
        crowd = [Person(f"user{number}") for number in range(6)]
        self.given = {person.user: bundle(person) for person in crowd}
        self.threads.held = True
        work = self.know(*self.given)
        self.assertNoResult(work)
        self.threads.run_next()
        self.successResultOf(work)
        self.assertEqual([person.ik for person in crowd], [self.people.identity(person.user) for person in crowd])

    def test_many_certificates_in_a_thread(self) -> None:
        """So are few bundles with many certificates, present or past ones."""
        past = [self.bob.certificate(number) for number in (3, 4, 5)]
        many = (
            self.bob.bundle(1, (1, 2, 3, 4, 5)),
            self.bob.bundle(2, (1, 2), previous="ab" * 32, revoked=(3, 4, 5), past=past),
        )
        for given in many:
            self.people = self.make({})
            self.given = {"bob": m.KeyBundle.of(given)}
            self.threads.held = True
            work = self.know("bob")
            self.assertNoResult(work)
            self.threads.run_next()
            self.successResultOf(work)
            self.assertIsNotNone(self.people.known("bob"))

    def test_newer_ones_while_in_a_thread(self) -> None:
        """What comes of somebody while a thread verifies older keys is not taken back, nor anybody accused."""
        crowd = [Person(f"user{number}") for number in range(5)]
        self.given = {person.user: bundle(person) for person in [*crowd, self.bob]}
        self.threads.held = True
        work = self.know(*self.given)
        self.take_in(self.bob, version=2, devices=(1, 2))
        self.threads.run_next()
        self.successResultOf(work)
        known = self.people.known("bob")
        assert known is not None
        self.assertEqual((2, 6), (known.version, len(self.saved)))
        self.assertEqual([], [line for line in self.said if "refused" in line])
        self.assertEqual(1, len(self.fetched))

    def test_a_newer_list_seen_while_in_a_thread(self) -> None:
        """If a log tells of a newer list meanwhile, that one is asked for."""
        crowd = [Person(f"user{number}") for number in range(5)]
        self.given = {person.user: bundle(person) for person in [*crowd, self.bob]}
        self.threads.held = True
        work = self.know(*self.given)
        self.sight(self.bob, 2, (1, 2))
        self.given["bob"] = bundle(self.bob, 2, (1, 2))
        self.threads.run_next()
        self.successResultOf(work)
        known = self.people.known("bob")
        assert known is not None
        self.assertEqual((2, ("bob",)), (known.version, self.fetched[-1]))
        self.assertEqual([], [line for line in self.said if "refused" in line])

    def test_verify_all(self) -> None:
        """Each bundle is judged by itself."""
        verified = verify_all(SRV, {"alice": bundle(self.alice), "bob": bundle(self.alice)})
        self.assertEqual(self.alice.keys(), verified["alice"])
        self.assertIsInstance(verified["bob"], InvalidKey)

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
        pin = self.people.accept("bob", newer.ik, Source.OWNER)
        assert pin is not None
        self.assertEqual((newer.ik, TrustState.TOFU), (pin.ik, pin.state))
        self.assertEqual(newer.kid, self.successResultOf(self.keys_of("bob"))["bob"].kid)
        self.assertEqual(newer.ik, self.saved["bob"].ik)

    def test_accept_unseen(self) -> None:
        """Keys that were not seen cannot be accepted."""
        self.assertIsNone(self.people.accept("bob", self.bob.ik, Source.OWNER))
        self.assertEqual({}, self.saved)

    def test_accept_another_than_was_shown(self) -> None:
        """A word about one identity is no word about the one that came meanwhile."""
        for generation in (1, 2, 3):
            self.take_in(Person("bob", generation=generation))
        self.assertIsNone(self.people.accept("bob", Person("bob", generation=2).ik, Source.VERIFIED))
        self.assertEqual(TrustState.CHANGED, self.people.state("bob"))

    def test_compared(self) -> None:
        """Who was compared is verified, by the identity that was shown."""
        self.take_in(self.bob)
        self.people.accept("bob", self.bob.ik, Source.VERIFIED)
        self.assertEqual((TrustState.VERIFIED, True), (self.people.state("bob"), self.people.verified("bob")))


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
        self.assertIn("another device list", line)
        self.assertIn("/passwd", line)

    def test_revoked_elsewhere(self) -> None:
        """So is a device less, and a new key."""
        self.people.meet_self(self.alice.keys(1, (1, 2)), fresh=False)
        revoking = self.alice.keys(2, (1,), previous=self.alice.keys(1, (1, 2)).digest, revoked=(2,))
        self.people.meet_self(revoking, fresh=False)
        self.assertEqual(1, len(self.said))

    def test_own_reset(self) -> None:
        """The identity of this machine counts: after one's own reset the pin is the new one, without an alarm."""
        self.people.meet_self(self.alice.keys(), fresh=False)
        newer = Person("alice", generation=2)
        self.people.meet_self(newer.keys(), fresh=True)
        self.assertEqual(([], newer.ik), (self.said, self.people.identity("alice")))
        self.assertIsNotNone(self.people.device("alice", newer.dev()))

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

    def test_merged(self) -> None:
        """Two devices of one account know together what either does: the first sight, the newest list, a comparison."""
        ours = Pin(self.bob.ik, 5, 3, "c", kids=("k2", "k1"))
        theirs = Pin(self.bob.ik, 2, 1, "a", verified=True, source="room log", kids=("k1",))
        expected = Pin(self.bob.ik, 2, 3, "c", verified=True, source="room log", kids=("k2", "k1"))
        other = Pin(self.alice.ik, 1, 1, "x")
        revoking = replace(ours, revoked=("d2", "d3")), replace(theirs, kids=(), revoked=("d1", "d2"))
        both = replace(expected, revoked=("d1", "d2", "d3"))
        of_a_log = replace(ours, kids=()), theirs
        for one, two in (revoking, revoking[::-1]):
            self.assertEqual({"bob": both}, merged({"bob": one}, {"bob": two}))
        for one, two in (of_a_log, of_a_log[::-1]):
            self.assertEqual({"bob": replace(expected, kids=("k1",))}, merged({"bob": one}, {"bob": two}))
        for one, two in ((ours, theirs), (theirs, ours)):
            self.assertEqual({"bob": expected, "carol": other}, merged({"bob": one}, {"bob": two, "carol": other}))
