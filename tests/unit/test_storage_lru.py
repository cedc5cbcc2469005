"""The bounded cache."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securechat.storage.lru import LeastRecentlyUsed


class LeastRecentlyUsedTests(SynchronousTestCase):
    """Tests for what is kept and what goes."""

    def setUp(self) -> None:
        self.cache: LeastRecentlyUsed[str, int] = LeastRecentlyUsed(10)

    def held(self) -> dict[str, int]:
        """What is there, found in an order that changes nothing."""
        values = {key: self.cache.get(key) for key in "abcd"}
        return {key: value for key, value in values.items() if value is not None}

    def test_oldest_goes(self) -> None:
        """Beyond the capacity, what was not used for longest goes first."""
        for key, value in (("a", 1), ("b", 2)):
            self.cache.put(key, value, 5)
        self.assertEqual(1, self.cache.get("a"))
        self.cache.put("c", 3, 5)
        self.assertEqual({"a": 1, "c": 3}, self.held())

    def test_heavy_one_takes_more_room(self) -> None:
        """Weights count, not entries."""
        for key in "abc":
            self.cache.put(key, 1, 3)
        self.cache.put("d", 4, 7)
        self.assertEqual({"c": 1, "d": 4}, self.held())

    def test_too_heavy(self) -> None:
        """What is heavier than the capacity is not kept, and leaves room for what comes."""
        self.cache.put("c", 1, 5)
        self.cache.put("a", 1, 11)
        self.assertEqual({"c": 1}, self.held())
        self.cache.put("c", 1, 11)
        self.assertEqual({}, self.held())
        self.cache.put("b", 2, 10)
        self.assertEqual({"b": 2}, self.held())

    def test_replaced(self) -> None:
        """A new value takes the place of the old, and so does its weight."""
        self.cache.put("a", 1, 9)
        self.cache.put("a", 2, 1)
        self.cache.put("b", 3, 9)
        self.assertEqual({"a": 2, "b": 3}, self.held())

    def test_drop(self) -> None:
        """What is dropped is gone, and its room is free; dropping it again does nothing."""
        self.cache.put("a", 1, 6)
        self.cache.put("b", 2, 4)
        for _ in range(2):
            self.cache.drop("a")
        self.cache.put("c", 3, 6)
        self.assertEqual({"b": 2, "c": 3}, self.held())

    def test_clear(self) -> None:
        """Cleared, it is empty and has all its room."""
        self.cache.put("a", 1, 10)
        self.cache.clear()
        self.assertEqual({}, self.held())
        self.cache.put("b", 2, 5)
        self.cache.put("c", 3, 5)
        self.assertEqual({"b": 2, "c": 3}, self.held())
