"""Tests for token buckets, on a clock moved by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.chat.buckets import BucketTable, TokenBucket


class TokenBucketTests(SynchronousTestCase):
    """Tests for `TokenBucket`."""

    def test_burst(self) -> None:
        """As many as the burst go through at once, and not one more."""
        bucket = TokenBucket(2.0, 3, 100.0)
        self.assertEqual([0.0, 0.0, 0.0, 0.5], [bucket.take(100.0) for _ in range(4)])

    def test_refusal_takes_nothing(self) -> None:
        """Asking in vain does not make the wait longer."""
        bucket = TokenBucket(2.0, 1, 0.0)
        bucket.take(0.0)
        self.assertEqual([0.5, 0.25, 0.25, 0.0], [bucket.take(now) for now in (0.0, 0.25, 0.25, 0.5)])

    def test_rate(self) -> None:
        """Afterwards one goes through every 1/rate seconds."""
        bucket = TokenBucket(4.0, 2, 0.0)
        passed = [now / 8 for now in range(80) if bucket.take(now / 8) == 0.0]
        self.assertEqual([0.0, 0.125, 0.25, 0.5, 0.75], passed[:5])
        self.assertEqual(2 + 39, len(passed))

    def test_never_above_the_burst(self) -> None:
        """However long nothing was taken, no more than the burst is saved."""
        bucket = TokenBucket(10.0, 2, 0.0)
        self.assertEqual(2, [bucket.take(1e9) for _ in range(5)].count(0.0))

    def test_put_back(self) -> None:
        """A token put back can be taken again, and never makes more than the burst."""
        bucket = TokenBucket(1.0, 2, 0.0)
        bucket.take(0.0)
        bucket.take(0.0)
        bucket.put_back()
        self.assertEqual([0.0, 1.0], [bucket.take(0.0), bucket.take(0.0)])
        for _ in range(9):
            bucket.put_back()
        self.assertEqual(2, [bucket.take(0.0) for _ in range(5)].count(0.0))

    def test_on_credit(self) -> None:
        """Many go through at once where one would; they are paid for before the next one, or put back."""
        bucket = TokenBucket(2.0, 3, 0.0)
        self.assertEqual([0.0, 2.0], [bucket.take(0.0, 6), bucket.take(0.0)])
        self.assertFalse(bucket.full(2.0))
        self.assertEqual([0.5, 0.0], [bucket.take(1.5, 6), bucket.take(2.0)])
        bucket.put_back(2)
        self.assertEqual([0.0, 0.0, 0.5], [bucket.take(2.0) for _ in range(3)])

    def test_clock_that_stands_or_goes_back(self) -> None:
        """Time that stands still gives nothing, nor does time that goes back, which takes nothing either."""
        bucket = TokenBucket(1.0, 1, 10.0)
        self.assertEqual([0.0, 1.0, 1.0], [bucket.take(now) for now in (10.0, 10.0, 5.0)])
        self.assertEqual(0.0, bucket.take(6.0))

    def test_full(self) -> None:
        """It is full when time has given back what was taken."""
        bucket = TokenBucket(2.0, 2, 0.0)
        self.assertTrue(bucket.full(0.0))
        bucket.take(0.0)
        self.assertEqual([False, False, True], [bucket.full(now) for now in (0.0, 0.4, 0.5)])

    @settings(max_examples=40, deadline=None, database=None)
    @given(
        st.sampled_from((0.1, 1 / 3, 5 / 60, 1.0, 20.0, 1e9)),
        st.integers(1, 60),
        st.floats(0, 1e10),
        st.lists(st.floats(0, 100), max_size=20),
    )
    def test_who_waits_as_told_gets_one(self, rate: float, burst: int, now: float, gaps: list[float]) -> None:
        """After the seconds that it said there is a token, or soon after: no clock is exact."""
        bucket = TokenBucket(rate, burst, now)
        for gap in gaps:
            now += gap
            for _ in range(burst + 1):
                wait = bucket.take(now)
            waited = 0
            while wait:
                now += wait
                wait = bucket.take(now)
                waited += 1
                self.assertLess(waited, 4)

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.lists(st.floats(0, 3), min_size=1, max_size=30))
    def test_never_more_than_promised(self, gaps: list[float]) -> None:
        """In any stretch of time no more goes through than the burst and what the rate gives."""
        rate, burst, now = 2.0, 3, 0.0
        bucket = TokenBucket(rate, burst, now)
        passed: list[float] = []
        for gap in gaps:
            now += gap
            if bucket.take(now) == 0.0:
                passed.append(now)
        for first in range(len(passed)):
            for last in range(first, len(passed)):
                self.assertLessEqual(last - first + 1, burst + rate * (passed[last] - passed[first]) + 1e-6)


class BucketTableTests(SynchronousTestCase):
    """Tests for `BucketTable`."""

    def test_a_bucket_each(self) -> None:
        """What one key takes is not taken from another."""
        table = BucketTable(1.0, 1)
        self.assertEqual([0.0, 0.0], [table.take(("alice", "a"), 0.0), table.take(("alice", "b"), 0.0)])
        self.assertEqual(1.0, table.take(("alice", "a"), 0.0))

    def test_put_back(self) -> None:
        """A token goes back into the bucket of its key; into none where there is none."""
        table = BucketTable(1.0, 1)
        table.take("a", 0.0)
        table.put_back("a")
        table.put_back("b")
        self.assertEqual(0.0, table.take("a", 0.0))
        self.assertEqual(1, len(table))

    def test_forgets_what_is_full(self) -> None:
        """Keys that came once long ago are forgotten; those that wait are not."""
        table = BucketTable(1.0, 5)
        for key in range(2000):
            table.take(key, 0.0)
        for _ in range(6):
            waits = table.take("busy", 100.0)
        for _ in range(1100):
            table.take("other", 100.0)
        self.assertLessEqual(len(table), 3)
        self.assertGreater(waits, 0.0)
        self.assertGreater(table.take("busy", 100.0), 0.0)
