"""Standard input as lines that are asked for, one after the other; what is not asked for is not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred

from securechat.wire.lines import LineBuffer, LineTooLong

READ_AHEAD: Final = 64  # lines that wait before standard input is not read any further
MAX_LINE: Final = 64 * 1024  # bytes; four times what a message may have, so that the limit is named where it is known


class Feed:
    """Standard input, cut into lines as they are asked for.

    Args:
        hold: called with True to stop reading, with False to go on.
    """

    def __init__(self, hold: Callable[[bool], None]) -> None:
        self._hold = hold
        self._buffer = LineBuffer(MAX_LINE)
        self._lines: deque[bytes | None] = deque()
        self._held = self._over = self._skipping = False
        self._waiter: Deferred[None] | None = None

    def take(self, data: bytes) -> None:
        """Part of it came. A line that is too long counts as one that is None."""
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            self._skipping = not newline
        self._buffer.feed(data)
        while True:
            try:
                self._lines.extend(self._buffer.lines())
                break
            except LineTooLong:
                _, newline, rest = self._buffer.take_rest().partition(b"\n")
                self._skipping = not newline
                self._lines.append(None)
                self._buffer.feed(rest)
        if len(self._lines) >= READ_AHEAD and not self._held:
            self._held = True
            self._hold(True)
        self._ring()

    def end(self) -> None:
        """Nothing more comes; an unfinished last line counts."""
        rest = self._buffer.take_rest()
        if rest and not self._skipping:
            self._lines.append(rest)
        self._over = True
        self._ring()

    def _ring(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    async def next(self) -> tuple[bool, bytes | None]:
        """Whether there was a line, and it, without its ending; None for one that has more than `MAX_LINE` bytes."""
        while not self._lines and not self._over:
            if self._held:
                self._held = False
                self._hold(False)
            waiter: Deferred[None] = Deferred()
            self._waiter = waiter
            if not self._lines:
                await waiter
        return (True, self._lines.popleft()) if self._lines else (False, None)

    async def all(self, most: int) -> bytes | None:
        """The whole of it, its last line ending off; None where it has more than `most` bytes."""
        lines: list[bytes] = []
        size = 0
        while True:
            more, line = await self.next()
            if not more:
                return b"\n".join(lines)
            if line is None or (size := size + len(line) + 1) > most + 1:
                return None
            lines.append(line)
