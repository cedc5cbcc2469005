"""Token buckets: how often something may happen."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

_LEAST_WAIT: Final = 0.001  # seconds: less is lost in the rounding of a clock, and who waits for it asks for ever
_SWEEP_EVERY: Final = 1024  # takes between two removals of full buckets: memory follows what happened lately


class TokenBucket:
    """Lets `burst` through at once, then `rate` a second.

    Args:
        now: seconds, of any monotonic clock; the same one in every call.
    """

    __slots__ = ("_burst", "_level", "_rate", "_when")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._when = now

    def take(self, now: float, count: int = 1) -> float:
        """Takes a token; 0.0 if there was one, else the seconds until there is (and nothing is taken).

        Args:
            count: takes so many if there was one, on credit where there are fewer: the next one waits for them all.
        """
        self._level = min(self._burst, self._level + max(0.0, now - self._when) * self._rate)
        self._when = now
        if self._level >= 1.0:
            self._level -= count
            return 0.0
        return max(_LEAST_WAIT, (1.0 - self._level) / self._rate)

    def put_back(self, count: int = 1) -> None:
        """Returns tokens that turned out not to be needed."""
        self._level = min(self._burst, self._level + count)

    def full(self, now: float) -> bool:
        """Whether forgetting this bucket would change nothing."""
        return self._level + max(0.0, now - self._when) * self._rate >= self._burst


class BucketTable:
    """One bucket a key, made when first needed and forgotten when full."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[Hashable, TokenBucket] = {}
        self._takes = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float, count: int = 1) -> float:
        """`TokenBucket.take` of the key's bucket."""
        self._takes += 1
        if self._takes % _SWEEP_EVERY == 0:
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.full(now)}
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
        return bucket.take(now, count)

    def put_back(self, key: Hashable, count: int = 1) -> None:
        """`TokenBucket.put_back` of the key's bucket."""
        if (bucket := self._buckets.get(key)) is not None:
            bucket.put_back(count)
