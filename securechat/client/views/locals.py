"""Lines of a view's own among the messages: answers, notices, who came and went. Bounded, and gone with the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from securechat.client.view import Item, Membership
from securechat.client.views.lines import folded
from securechat.client.views.viewport import Local

KEPT: Final = 500  # of one conversation; of more, the oldest go


class Locals:
    """The lines by conversation; those shown before there was any stand under ""."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Local]] = {}
        self._count = 0

    def add(self, where: str, item: Item, *, after: int, at: int) -> None:
        """One more.

        Args:
            after: the number of the newest message there.
            at: milliseconds.
        """
        self._count += 1
        self._lines.setdefault(where, deque(maxlen=KEPT)).append(Local(self._count, after, at, item))

    def of(self, where: str, *, fold: bool = False) -> Sequence[Local]:
        """Those of a conversation, in order.

        Args:
            fold: comings and goings in a row are one line.
        """
        lines = tuple(self._lines.get(where, ()))
        return tuple(_folded(lines)) if fold else lines

    def forget(self) -> None:
        """Those of every conversation go; another account may be next."""
        self._lines = {where: lines for where, lines in self._lines.items() if not where}


def _folded(lines: Sequence[Local]) -> Iterator[Local]:
    """A run is where, and as new as, its last line: as it grows it is another line."""
    for (_, coming), group in groupby(lines, lambda line: (line.after, isinstance(line.item, Membership))):
        run = list(group)
        told = list(folded(line.item for line in run)) if coming else []
        if coming and len(told) == 1:
            yield replace(run[-1], item=told[0])
        else:
            yield from run
