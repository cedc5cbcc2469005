"""A bounded cache that threads may share."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LeastRecentlyUsed(Generic[K, V]):
    """What was used last, up to a total weight; a value heavier than that is not kept at all.

    Args:
        capacity: the total of the weights kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0

    def get(self, key: K) -> V | None:
        """The value, if it is still held."""
        with self._lock:
            entry = self._held.get(key)
            if entry is None:
                return None
            self._held.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Holds a value, and lets go of others for it."""
        with self._lock:
            _, replaced = self._held.pop(key, (None, 0))
            self._weight -= replaced
            if weight > self._capacity:
                return
            self._held[key] = (value, weight)
            self._weight += weight
            while self._weight > self._capacity:
                _, (_, freed) = self._held.popitem(last=False)
                self._weight -= freed

    def drop(self, key: K) -> None:
        """Lets go of one value, if it is held."""
        with self._lock:
            _, freed = self._held.pop(key, (None, 0))
            self._weight -= freed

    def clear(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._held.clear()
            self._weight = 0
