"""Choosing a conversation by a few letters. Going through it opens nothing, so it marks nothing read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from securechat.client.attention import fuzzy
from securechat.client.view import RoomState

SHOWN: Final = 8  # of those found, at a time


class Switcher:
    """Which conversations a few typed letters may mean, and which of them is chosen.

    Args:
        rooms: all there are, in the order of the list.
    """

    def __init__(self, rooms: Sequence[RoomState]) -> None:
        self._rooms = rooms
        self._typed = ""
        self._place = 0

    def type(self, text: str) -> None:
        """What is typed now; the likeliest is chosen again."""
        if text != self._typed:
            self._typed, self._place = text, 0

    def step(self, step: int) -> None:
        """Chooses another one, round the end."""
        found = self.found()
        self._place = (self._place + step) % len(found) if found else 0

    def found(self) -> list[RoomState]:
        """Those that fit, the likeliest first; of equals those that want to be read, then as in the list."""
        wanted = self._typed.strip().lower().removeprefix("#")
        scored = [(fuzzy(wanted, room.where), room) for room in self._rooms if not (room.active and not wanted)]
        fitting = [(score, room) for score, room in scored if score is not None]
        if not wanted:
            return sorted((room for _, room in fitting), key=_wants)
        fitting.sort(key=lambda pair: (pair[0][0], _wants(pair[1]), pair[0][1]))
        return [room for _, room in fitting]

    def chosen(self) -> str:
        """The title of the chosen one; "" where none fits."""
        found = self.found()
        return found[self._place].where if found else ""

    def window(self) -> list[tuple[RoomState, bool]]:
        """Those around the chosen one, and whether each is it."""
        found = self.found()
        first = max(0, min(self._place - SHOWN // 2, len(found) - SHOWN))
        return [(room, place == self._place) for place, room in enumerate(found)][first : first + SHOWN]


def _wants(room: RoomState) -> tuple[bool, bool]:
    """Less for what wants to be read more."""
    return not room.mentions, not room.unread
