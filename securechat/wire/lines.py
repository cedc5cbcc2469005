"""A line reader whose cost is linear in the bytes it is fed.

Twisted's stock `LineReceiver.dataReceived` copies the unfinished rest at every read: a 64 KiB line in one-byte chunks
costs seconds of CPU. This buffer remembers how far it has searched, and compacts once a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator


class LineTooLong(Exception):
    """A line, finished or not, has more than `limit` bytes; the buffer is worth nothing afterwards."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"line longer than {limit} bytes")


class LineBuffer:
    """Bytes in, lines out; a trailing ``\\r`` is tolerated and dropped.

    Args:
        limit: bytes a line may have without its ending; may be raised or lowered between lines.
    """

    __slots__ = ("_data", "_searched", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = bytearray()
        self._searched = 0

    def __len__(self) -> int:
        """Bytes held: finished lines not taken yet, and the unfinished rest."""
        return len(self._data)

    def feed(self, chunk: bytes) -> None:
        """Adds what was read; never raises."""
        self._data += chunk

    def lines(self) -> Iterator[bytes]:
        """Takes finished lines, one a step; a consumer may stop between two and come back later.

        Raises:
            LineTooLong: a line is longer than `limit`, or the unfinished rest already is.
        """
        data = self._data
        start = 0
        try:
            while (end := data.find(b"\n", max(start, self._searched))) >= 0:
                stop = end - 1 if end > start and data[end - 1] == 0x0D else end
                if stop - start > self.limit:
                    raise LineTooLong(self.limit)
                line = bytes(memoryview(data)[start:stop])
                start = end + 1
                yield line
            self._searched = len(data)
            # One byte of grace: it may be the \r of an ending whose \n has not come yet.
            if len(data) - start > self.limit + 1:
                raise LineTooLong(self.limit)
        finally:
            if start:
                del data[:start]
                self._searched = max(0, self._searched - start)

    def take_rest(self) -> bytes:
        """Takes the unfinished last line, for a reader that met the end of its input."""
        rest = bytes(self._data)
        self._data.clear()
        self._searched = 0
        return rest
