"""Tests for password checks and for how often something may be tried."""

from __future__ import annotations

import os
import sys
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from securechat.errors import BUSY, RATE_LIMITED, Code, Refused
from securechat.server.checks import Admission, Behind, PasswordChecks
from securechat.wire import limits
from tests.doubles import CountingHasher, InlineChecks, InlineReactor


class PasswordChecksTests(SynchronousTestCase):
    """Tests for `PasswordChecks`."""

    def setUp(self) -> None:
        self.hasher = CountingHasher()
        self.checks = InlineChecks(InlineReactor(), self.hasher, queue=3)

    def verify(self, stored: str | None = "new x") -> Deferred[bool]:
        """A check that is under way."""
        return Deferred.fromCoroutine(self.checks.verify("x", stored))

    def test_verify(self) -> None:
        """It answers as the hasher does."""
        self.assertIs(True, self.successResultOf(self.verify()))
        self.assertIs(False, self.successResultOf(self.verify("new y")))
        self.assertIs(False, self.successResultOf(self.verify(None)))

    def test_hash(self) -> None:
        """So it does for new hashes."""
        self.assertEqual("new x", self.successResultOf(Deferred.fromCoroutine(self.checks.hash("x"))))
        self.assertEqual([True, False], [self.checks.needs_rehash(stored) for stored in ("old x", "new x")])

    def test_in_threads(self) -> None:
        """Nothing is hashed in the reactor's thread."""
        self.checks.threads.held = True
        check = self.verify()
        self.assertNoResult(check)
        self.assertEqual([], self.hasher.verified)
        self.checks.threads.run_next()
        self.assertTrue(self.successResultOf(check))

    def test_behind(self) -> None:
        """They are hashed in threads that leave the core to others, who keep their priority."""
        if sys.platform != "linux":
            raise SkipTest("threads have no priorities of their own here")
        before, seen = os.getpriority(os.PRIO_PROCESS, 0), []
        thread = Behind(target=lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0)))
        thread.start()
        thread.join()
        self.assertEqual([min(19, before + 10)], seen)
        self.assertEqual(before, os.getpriority(os.PRIO_PROCESS, 0))
        self.assertIs(Behind, PasswordChecks(MemoryReactorClock(), self.hasher, threads=1)._pool.threadFactory)

    def test_queue(self) -> None:
        """So many may wait, and one more is refused at once; when one is done there is room again."""
        self.checks.threads.held = True
        waiting = [self.verify() for _ in range(3)]
        refused = self.failureResultOf(self.verify(), Refused).value
        self.assertEqual((BUSY, {"retry_after": 2.0}), (refused.code, refused.data))
        self.checks.threads.run_next()
        self.assertTrue(self.successResultOf(waiting[0]))
        self.assertNoResult(self.verify())
        self.failureResultOf(self.verify(), Refused)

    def test_failure(self) -> None:
        """A hasher that fails frees its place in the queue."""

        def broken(*_: object) -> bool:
            raise ZeroDivisionError

        self.hasher.verify = broken  # type: ignore[method-assign]
        for _ in range(5):
            self.failureResultOf(self.verify(), ZeroDivisionError)

    def test_stopped(self) -> None:
        """Checks that still wait when it stops are refused, without a hash."""
        self.checks.threads.held = True
        check = self.verify()
        self.checks.stop()
        self.checks.threads.run_next()
        self.assertIs(BUSY, self.failureResultOf(check, Refused).value.code)
        self.assertEqual([], self.hasher.verified)

    def test_at_least_one_thread(self) -> None:
        """There is a thread also where a machine has no core to spare, and none before it is started."""
        checks = PasswordChecks(MemoryReactorClock(), self.hasher, threads=0)  # type: ignore[arg-type]
        self.assertEqual((1, 0), (checks._pool.max, len(checks._pool.threads)))


class AdmissionTests(SynchronousTestCase):
    """Tests for `Admission`."""

    def refuse(self, code: Code, what: Any, *arguments: object, **data: object) -> None:
        """An attempt is refused with that code and data."""
        refused = self.assertRaises(Refused, what, *arguments)
        self.assertEqual((code, data), (refused.code, refused.data))

    def test_stranger(self) -> None:
        """So many attempts a minute at an account from an address; the answer says when the next one may be."""
        admission = Admission(per_account=3, per_address=100)
        for _ in range(3):
            admission.stranger("alice", "a", 0.0)
        self.refuse(RATE_LIMITED, admission.stranger, "alice", "a", 0.0, retry_after=21.0)
        self.refuse(RATE_LIMITED, admission.stranger, "alice", "a", 19.5, retry_after=1.0)
        admission.stranger("alice", "a", 20.5)

    def test_told_seconds_are_enough(self) -> None:
        """Who waits for the seconds that it was told is let in."""
        admission = Admission(per_account=7, per_address=100)
        now = 0.0
        for _ in range(50):
            try:
                admission.stranger("alice", "a", now)
            except Refused as refused:
                now += refused.data["retry_after"]
                admission.stranger("alice", "a", now)

    def test_apart(self) -> None:
        """Another account from that address, and that account from another address, are not stopped by it."""
        admission = Admission(per_account=1, per_address=100)
        admission.stranger("alice", "a", 0.0)
        self.refuse(RATE_LIMITED, admission.stranger, "alice", "a", 0.0, retry_after=61.0)
        admission.stranger("bob", "a", 0.0)
        admission.stranger("alice", "b", 0.0)

    def test_address(self) -> None:
        """An address has a limit over all accounts."""
        admission = Admission(per_account=100, per_address=3)
        for user in ("alice", "bob", "carol"):
            admission.stranger(user, "a", 0.0)
        self.refuse(RATE_LIMITED, admission.stranger, "dave", "a", 0.0, retry_after=21.0)
        self.refuse(RATE_LIMITED, admission.address, "a", 0.0, retry_after=21.0)
        admission.address("b", 0.0)

    def test_known_device(self) -> None:
        """A device that proved itself is not stopped by strangers, has a limit of its own, and stops no other."""
        admission = Admission(per_account=2, per_address=2)
        for _ in range(2):
            admission.stranger("alice", "a", 0.0)
            admission.known_device("alice", "one", 0.0)
        self.refuse(RATE_LIMITED, admission.known_device, "alice", "one", 0.0, retry_after=31.0)
        admission.known_device("alice", "two", 0.0)
        admission.known_device("bob", "one", 0.0)

    def test_membership(self) -> None:
        """Joins and leaves of an account have a limit of their own."""
        admission = Admission()
        for _ in range(int(limits.MEMBERSHIP_BURST)):
            admission.membership("alice", 0.0)
        self.refuse(RATE_LIMITED, admission.membership, "alice", 0.0, retry_after=3.0)
        admission.membership("bob", 0.0)
        admission.membership("alice", 3.0)

    def test_membership_by_event(self) -> None:
        """Each of many events counts, beyond the burst too, and those that came to nothing do not."""
        admission = Admission()
        admission.membership("alice", 0.0, 256)
        self.refuse(RATE_LIMITED, admission.membership, "alice", 0.0, retry_after=315.0)
        admission.membership_undone("alice", 255)
        admission.membership("alice", 0.0)

    def test_publish(self) -> None:
        """So have its device lists; one that came to nothing does not count."""
        admission = Admission()
        for _ in range(int(limits.PUBLISH_BURST)):
            admission.publish("alice", 0.0)
        self.refuse(RATE_LIMITED, admission.publish, "alice", 0.0, retry_after=361.0)
        admission.publish("bob", 0.0)
        admission.publish_undone("alice")
        admission.publish("alice", 0.0)
