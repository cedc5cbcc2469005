"""Tests for the line buffer: the same lines however the bytes arrive, limits to the byte, linear cost."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.wire.lines import LineBuffer, LineTooLong


def fed(buffer: LineBuffer, *chunks: bytes) -> list[bytes]:
    """The lines that a buffer gives when it is fed these, one after the other."""
    lines = []
    for chunk in chunks:
        buffer.feed(chunk)
        lines += buffer.lines()
    return lines


class LineTests(SynchronousTestCase):
    """Tests for which lines come out."""

    def test_lines(self) -> None:
        """Each line without its ending; the unfinished rest waits."""
        self.assertEqual([b"one", b"", b"two"], fed(LineBuffer(10), b"one\n\ntwo\nthr"))

    def test_every_split(self) -> None:
        """Cut in two anywhere, and byte by byte, the lines are the same."""
        data = b"one\r\n\n\r\ntwo\rtwo\n\r\r\nrest"
        expected = [b"one", b"", b"", b"two\rtwo", b"\r"]
        for at in range(len(data) + 1):
            self.assertEqual(expected, fed(LineBuffer(10), data[:at], data[at:]), at)
        self.assertEqual(expected, fed(LineBuffer(10), *(bytes([byte]) for byte in data)))

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.text("a\r\n", max_size=12).map(str.encode), max_size=8))
    def test_every_chunking(self, chunks: list[bytes]) -> None:
        """However the bytes are cut, the lines are those of the whole."""
        *expected, rest = b"".join(chunks).split(b"\n")
        buffer = LineBuffer(200)
        self.assertEqual([line.removesuffix(b"\r") for line in expected], fed(buffer, *chunks))
        self.assertEqual(len(rest), len(buffer))
        self.assertEqual(rest, buffer.take_rest())

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.tuples(st.text("a\r\n", max_size=12).map(str.encode), st.integers(0, 4)), max_size=8))
    def test_taking_a_few_at_a_time(self, steps: list[tuple[bytes, int]]) -> None:
        """A reader that stops between two lines and comes back later gets the same."""
        buffer, lines = LineBuffer(200), []
        for chunk, most in steps:
            buffer.feed(chunk)
            for _, line in zip(range(most), buffer.lines(), strict=False):
                lines.append(line)
        lines += buffer.lines()
        expected = b"".join(chunk for chunk, _ in steps).split(b"\n")[:-1]
        self.assertEqual(len(expected), len(lines))
        self.assertEqual([line.removesuffix(b"\r") for line in expected], lines)

    def test_feed_while_taking(self) -> None:
        """What is fed between two lines is taken as well."""
        buffer, lines = LineBuffer(10), []
        buffer.feed(b"one\ntw")
        for line in buffer.lines():
            lines.append(line)
            if line == b"one":
                buffer.feed(b"o\nthree\nrest")
        self.assertEqual([b"one", b"two", b"three"], lines)
        self.assertEqual(b"rest", buffer.take_rest())

    def test_lines_are_bytes_of_their_own(self) -> None:
        """A line taken stays what it was when more is fed."""
        buffer = LineBuffer(10)
        (line,) = fed(buffer, b"one\n")
        fed(buffer, b"xxx\n")
        self.assertIs(bytes, type(line))
        self.assertEqual(b"one", line)

    def test_rest(self) -> None:
        """The rest is taken once, and the buffer is good again afterwards."""
        buffer = LineBuffer(10)
        self.assertEqual([b"a"], fed(buffer, b"a\nrest"))
        self.assertEqual([b"rest", b""], [buffer.take_rest(), buffer.take_rest()])
        self.assertEqual([b"b"], fed(buffer, b"b\n"))

    def test_length(self) -> None:
        """It holds what was not taken."""
        buffer = LineBuffer(10)
        buffer.feed(b"one\ntwo\nrest")
        self.assertEqual(12, len(buffer))
        list(buffer.lines())
        self.assertEqual(4, len(buffer))


class LimitTests(SynchronousTestCase):
    """Tests for the limit, to the byte."""

    def refuse(self, *chunks: bytes, limit: int = 4) -> None:
        """These are too long."""
        error = self.assertRaises(LineTooLong, fed, LineBuffer(limit), *chunks)
        self.assertEqual(limit, error.limit)

    def test_exact(self) -> None:
        """A line of the limit is taken, with either ending; one byte more is refused."""
        self.assertEqual([b"1234"], fed(LineBuffer(4), b"1234\n"))
        self.assertEqual([b"1234"], fed(LineBuffer(4), b"1234\r\n"))
        self.refuse(b"12345\n")
        self.refuse(b"12345\r\n")
        self.refuse(b"123\r45\n")

    def test_byte_by_byte(self) -> None:
        """The same when it trickles in."""
        self.assertEqual([b"1234", b"5"], fed(LineBuffer(4), *(bytes([byte]) for byte in b"1234\r\n5\n")))
        self.refuse(*(bytes([byte]) for byte in b"12345\r\n"))

    def test_unfinished(self) -> None:
        """An unfinished line is refused as soon as it can no longer be good, and no sooner."""
        self.assertEqual([], fed(LineBuffer(4), b"1234"))
        self.assertEqual([], fed(LineBuffer(4), b"1234\r"))
        self.refuse(b"123456")
        self.refuse(b"12345", b"6")

    def test_after_good_lines(self) -> None:
        """The lines before a long one come out first."""
        buffer, lines = LineBuffer(4), []
        buffer.feed(b"1\n2\n12345\n3\n")

        def take() -> None:
            for line in buffer.lines():
                lines.append(line)

        self.assertRaises(LineTooLong, take)
        self.assertEqual([b"1", b"2"], lines)

    def test_moved_between_lines(self) -> None:
        """A limit that is raised or lowered holds from the next line."""
        buffer = LineBuffer(4)
        buffer.feed(b"1234\n123456\n12\n123\n")
        taken = buffer.lines()
        self.assertEqual(b"1234", next(taken))
        buffer.limit = 6
        self.assertEqual(b"123456", next(taken))
        buffer.limit = 2
        self.assertEqual(b"12", next(taken))
        self.assertRaises(LineTooLong, next, taken)


class CostTests(SynchronousTestCase):
    """Tests for what a line costs."""

    def test_byte_by_byte(self) -> None:
        """A line of 64 KiB in one-byte chunks costs no more than its bytes: seconds with a reader that re-copies."""
        buffer = LineBuffer(1 << 20)
        before = time.process_time()
        for _ in range(64 * 1024):
            buffer.feed(b"x")
            self.assertIs(None, next(buffer.lines(), None))
        buffer.feed(b"\n")
        (line,) = buffer.lines()
        self.assertEqual(64 * 1024, len(line))
        self.assertLess(time.process_time() - before, 0.5)

    def test_many_short_lines(self) -> None:
        """Many short lines at once, taken in small turns, costs no more than its bytes."""
        buffer, lines = LineBuffer(1 << 20), 0
        buffer.feed(b"xy\n" * 50_000)
        before = time.process_time()
        while len(buffer):
            for _, _ in zip(range(256), buffer.lines(), strict=False):
                lines += 1
        self.assertLess(time.process_time() - before, 0.5)
        self.assertEqual(50_000, lines)
