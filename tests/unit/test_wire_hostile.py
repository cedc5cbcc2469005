"""Hostile lines: whatever a peer sends, it is refused in few printable words, and quickly."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.errors import BAD_FIELD, BAD_PACKET, EMPTY_LINE, UNKNOWN_COMMAND, ProtocolViolation, Refused
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests.unit.test_wire_codec import EVENTS, REPLIES, REQUESTS

VIOLATIONS = {BAD_PACKET, EMPTY_LINE}
REFUSALS = {BAD_FIELD, UNKNOWN_COMMAND}
LINES = [codec.encode(request)[:-1] for request in REQUESTS]
HUGE = 100_000

NOT_JSON = [
    b"", b" ", b"x", b"GET / HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00", b"\x00", b"\x00" * 100,
    b"{", b"}", b'{"cmd"', b'{"cmd":', b'{"cmd":"ping"', b'{"cmd":"ping",}', b"{'cmd':'ping'}", b'{cmd:"ping"}',
    b'{"cmd":"ping"}}', b'{"cmd":"ping"}{"cmd":"ping"}', b'{"cmd":"ping"} x', b'{"cmd":"ping"}\x00',
    b'\x00{"cmd":"ping"}', b'{"cmd":"ping","id":01}', b'{"cmd":"ping","id":+1}', b'{"cmd":"ping","id":0x1}',
    b'{"cmd":"ping","id":.5}', b'{"cmd":"ping","id":NaN}', b'{"cmd":"ping","id":Infinity}',
    b'{"cmd":"ping","id":-Infinity}', b'{"cmd":"ping","id":nan}', b'{"cmd":"ping" /* */}', b'{"cmd":"ping\n"}',
    b'{"cmd":"pi\x00ng"}',
]  # fmt: skip
NOT_OBJECTS = [
    b"[]",
    b'["cmd","ping"]',
    b'[{"cmd":"ping"}]',
    b'"ping"',
    b"1",
    b"1.5",
    b"null",
    b"true",
    b"{}",
    b'{"id":1}',
]
NOT_TEXT = [
    b'\xef\xbb\xbf{"cmd":"ping"}',  # a byte order mark
    '{"cmd":"ping"}'.encode("utf-16"),
    '{"cmd":"ping"}'.encode("utf-16-le"),
    '{"cmd":"ping"}'.encode("utf-32"),
    b'{"cmd":"ping","id":"\xff"}',
    b'{"cmd":"ping","id":"\xc0\x80"}',  # overlong
    b'{"cmd":"ping","id":"\xed\xa0\x80"}',  # a surrogate in UTF-8
    b'{"cmd":"ping","id":"\xf4\x90\x80\x80"}',  # beyond Unicode
    b'{"cmd":"ping","id":"\\ud800"}',
    b'{"cmd":"ping","id":"\\udc00\\ud800"}',
    b'{"cmd":"ping","id":"\\u12"}',
    b'{"cmd":"ping","id":"\\x41"}',
]
DEEP = [
    b"[" * HUGE,
    b"{" * HUGE,
    b'{"cmd":"ping","x":' + b"[" * HUGE + b"]" * HUGE + b"}",
    b'{"cmd":"ping","x":' + b'{"a":' * HUGE + b"1" + b"}" * HUGE + b"}",
    b"]" * HUGE,
    b'"' + b"[" * HUGE,
]


class HostileCase(SynchronousTestCase):
    """What the tests of hostile lines share."""

    def judge(self, line: bytes) -> object:
        """A line is a request, or is refused in few printable words; what it was."""
        try:
            request = codec.decode_request(line)
        except Refused as refusal:
            self.assertIn(refusal.code, VIOLATIONS if isinstance(refusal, ProtocolViolation) else REFUSALS)
            text = str(refusal)
            self.assertTrue(text.isprintable() and 0 < len(text) < 300, text)
            answer = codec.encode_refusal(refusal.data.get("id"), refusal)
            self.assertTrue(answer.endswith(b"\n") and answer.count(b"\n") == 1 and len(answer) < 700)
            json.loads(answer)
            return refusal.code
        self.assertIn(type(request), m.REQUESTS)
        return request

    def violate(self, *lines: bytes) -> None:
        """Each of these is no packet at all."""
        for line in lines:
            self.assertIn(self.judge(line), VIOLATIONS, line[:60])


class HostileRequestTests(HostileCase):
    """Tests for `decode_request`."""

    def test_not_json(self) -> None:
        """What is no JSON is no packet."""
        self.violate(*NOT_JSON)

    def test_not_objects(self) -> None:
        """Other JSON than an object with a `cmd` is no packet."""
        self.violate(*NOT_OBJECTS)

    def test_not_text(self) -> None:
        """A byte order mark, other encodings, broken UTF-8 and lone surrogates make no packet."""
        self.violate(*NOT_TEXT)

    def test_deep(self) -> None:
        """However deep it nests, it is refused without nesting along, and at once."""
        before = time.process_time()
        self.violate(*DEEP)
        self.assertLess(time.process_time() - before, 2.0)

    def test_deep_in_strings(self) -> None:
        """Brackets in a string are text, however many."""
        for text in ("[" * HUGE, "{[" * HUGE, "]}" * HUGE, '"[' * HUGE, "\\[" * HUGE):
            line = b'{"cmd":"ping","x":' + json.dumps(text).encode() + b',"y":[[[]]],"z":[[[]]],"a":[[[]]]}'
            self.assertEqual(m.Ping(), self.judge(line))

    def test_no_quadratic_cost(self) -> None:
        """A line of the greatest length costs about the same whatever it holds: nothing is looked at twice."""
        for piece in (b'\\"', b'"', b"\\", b'"\\', b'["]', b"[]", b'"a', b'[""', b'{"":', b"a", b'\\"["'):
            for start in (b"[" * 9, b"[" * 9 + b'"'):
                line = start + piece * (limits.MAX_LINE // 16 // len(piece))
                before = time.process_time()
                self.judge(line)
                self.assertLess(time.process_time() - before, 1.0, piece)

    def test_huge_numbers(self) -> None:
        """Numbers of thousands of digits are refused where they are used, and ignored elsewhere."""
        for digits in (
            b"9" * 20,
            b"9" * 5000,
            b"-" + b"9" * 5000,
            b"1e999",
            b"-1e999",
            b"1e-999",
            b"0.1e5000",
            b"9" * HUGE,
        ):
            code = self.judge(b'{"cmd":"ping","id":' + digits + b"}")
            self.assertIn(code, VIOLATIONS | REFUSALS, digits[:20])
            self.assertIn(
                self.judge(b'{"cmd":"read","room":"a","seq":' + digits + b"}"), VIOLATIONS | REFUSALS, digits[:20]
            )

    def test_duplicate_keys(self) -> None:
        """A key given twice is refused or has one of the values; never both commands."""
        for line, allowed in (
            (b'{"cmd":"ping","cmd":"ping"}', {m.Ping(), BAD_FIELD}),
            (b'{"cmd":"ping","cmd":"logout"}', {m.Ping(), m.Logout(), BAD_FIELD}),
            (b'{"cmd":"online","room":"a","room":"b"}', {m.Online(room="a"), m.Online(room="b"), BAD_FIELD}),
            (b'{"cmd":"online","room":"a","room":"B"}', {BAD_FIELD}),
            (b'{"cmd":"ping","id":1,"id":2}', {m.Ping(id=1), m.Ping(id=2), BAD_FIELD}),
        ):
            self.assertIn(self.judge(line), allowed)

    def test_nul_in_strings(self) -> None:
        """U+0000 by escape is no part of a name."""
        self.assertIs(BAD_FIELD, self.judge(b'{"cmd":"online","room":"a\\u0000"}'))
        self.assertIs(UNKNOWN_COMMAND, self.judge(b'{"cmd":"ping\\u0000"}'))

    def test_answers_repeat_nothing_unprintable(self) -> None:
        """What the peer wrote comes back to nobody's terminal: keys and values with escape sequences in them."""
        for line in (
            b'{"cmd":"send","package":{"kids":{"\\u001b[2J":1}}}',
            b'{"cmd":"\\u001b[2J","id":"\\u001b[2J"}',
            b'{"cmd":"ping","cmd":"\\u001b[2J\\u202e"}',
            b'{"cmd":"online","room":"\\u001b[2J"}',
            b'{"cmd":"ping","cmd":"' + b"x" * 5000 + b'"}',
        ):
            self.judge(line)

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.one_of(st.binary(max_size=80), st.text('{}[]",:cmdping0129.eE-+\\u \n\ud800', max_size=60)))
    def test_arbitrary_lines(self, line: bytes | str) -> None:
        """Whatever comes."""
        self.judge(line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass"))

    @settings(max_examples=40, deadline=None, database=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        ),
        st.sampled_from(REQUESTS),
        st.integers(0),
    )
    def test_arbitrary_values(self, value: object, request: m.AnyRequest, at: int) -> None:
        """A good request with any JSON in the place of one field."""
        fields: dict[str, Any] = json.loads(codec.encode(request))
        fields[list(fields)[at % len(fields)]] = value
        self.judge(json.dumps(fields).encode())

    def test_mutated_lines(self) -> None:
        """Good lines with bytes changed, lost, doubled and put in."""
        rng = random.Random(20260101)
        pieces = (
            b"\x00",
            b"\xff",
            b'"',
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b"1e999",
            b"-",
            b"\\ud800",
            b"\xed\xa0\x80",
            b"null",
            b",",
        )
        requests = 0
        for line in LINES * 30:
            changed = bytearray(line)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(changed) + 1)
                how = rng.randrange(4)
                if how == 0:
                    changed[at : at + 1] = bytes([rng.randrange(256)])
                elif how == 1:
                    del changed[at : at + rng.randint(1, 20)]
                elif how == 2:
                    changed[at:at] = rng.choice(pieces)
                else:
                    changed[at:at] = changed[at : at + rng.randint(1, 50)]
            requests += self.judge(bytes(changed)) in REQUESTS
        self.assertLess(requests, 30 * len(LINES) // 2)

    def test_cut_lines(self) -> None:
        """Every beginning of every good line is no packet."""
        for line in LINES:
            self.violate(*(line[:end] for end in range(0, len(line), 1 + len(line) // 60)))


class HostileServerTests(SynchronousTestCase):
    """A client reads no less carefully than a server."""

    def judge(self, read: Callable[[], object]) -> None:
        """It reads, or is a violation in few printable words."""
        try:
            read()
        except ProtocolViolation as violation:
            self.assertIs(BAD_PACKET, violation.code)
            self.assertTrue(str(violation).isprintable() and len(str(violation)) < 300)

    def test_hostile_lines(self) -> None:
        """Nothing that is refused from a client raises anything else from a server."""
        for line in (*NOT_JSON, *NOT_OBJECTS, *NOT_TEXT, DEEP[0], DEEP[2]):
            self.judge(lambda line=line: codec.decode_heading(line))
            self.judge(lambda line=line: codec.decode_event(line))
            self.judge(lambda line=line: codec.decode_reply(line, m.Ping))

    def test_huge_numbers(self) -> None:
        """The same with numbers of thousands of digits."""
        for digits in (b"9" * 5000, b"-" + b"9" * 5000, b"1e999", b"1.5"):
            self.assertRaises(ProtocolViolation, codec.decode_heading, b'{"id":' + digits + b"}")
            self.judge(lambda digits=digits: codec.decode_event(b'{"event":"live","room":"a","seq":' + digits + b"}"))

    def test_mutated_lines(self) -> None:
        """Good replies and events with bytes changed."""
        rng = random.Random(20260102)
        for _ in range(20):
            for kind, packet in [*REPLIES, *((m.Ping, event) for event in EVENTS)]:
                line = bytearray(codec.encode(packet))
                for _ in range(rng.randint(1, 3)):
                    line[rng.randrange(len(line))] = rng.choice(b'"\\{}[],:019az\x00\xff\x80')
                self.judge(lambda line=line: codec.decode_heading(bytes(line)))
                self.judge(lambda line=line: codec.decode_event(bytes(line)))
                self.judge(lambda line=line, kind=kind: codec.decode_reply(bytes(line), kind))
