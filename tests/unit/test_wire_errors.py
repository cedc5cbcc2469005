"""Tests for the table of errors, and for everybody who raises one."""

from __future__ import annotations

import ast
import string
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import securechat
from securechat import errors
from securechat.errors import CODES, Code, Exit, ProtocolViolation, Refused, SecureChatError
from securechat.wire import codec
from securechat.wire.messages import Failed, Ping

PACKAGE = Path(securechat.__file__).parent
NUMBERS = {"retry_after": 2.0, "limit": 64, "expected": 3, "version": 4, "head": 5}


def fields_of(code: Code) -> set[str]:
    """The names in the braces of a code's text."""
    return {name for _, name, _, _ in string.Formatter().parse(code.text) if name is not None}


@cache
def raised() -> list[tuple[str, bool, Code, set[str]]]:
    """Every call in the package that makes a refusal of a code named there: where, whether it is a violation, of
    which code, with what data."""
    calls = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "Refused(" not in text and "ProtocolViolation(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(ast.Name("Refused" | "ProtocolViolation" as name), [ast.Name(code), *_], keywords):
                    where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                    data = {keyword.arg or "**" for keyword in keywords}
                    calls.append((where, name == "ProtocolViolation", getattr(errors, code), data))
    return calls


class CodeTests(SynchronousTestCase):
    """Tests for `CODES`."""

    def test_complete_and_unique(self) -> None:
        """Every code of the module is in the table, under its own name, and no name is used twice."""
        codes = [value for value in vars(errors).values() if isinstance(value, Code)]
        self.assertEqual(len(codes), len({code.name for code in codes}))
        self.assertEqual({code.name: code for code in codes}, CODES)

    def test_constants_have_their_codes_names(self) -> None:
        """A code is called in Python as on the wire."""
        for name, value in vars(errors).items():
            if isinstance(value, Code):
                self.assertEqual(name.lower(), value.name)

    def test_texts(self) -> None:
        """A text is short, printable, begins a sentence and ends it."""
        for code in CODES.values():
            self.assertTrue(code.text.isprintable(), code.name)
            self.assertLess(len(code.text), 160, code.name)
            self.assertTrue(code.text[0].isupper() or code.text[0] == "{", code.name)
            self.assertIn(code.text[-1], ".?", code.name)

    def test_texts_differ(self) -> None:
        """No two codes say the same."""
        self.assertEqual(len(CODES), len({code.text for code in CODES.values()}))

    def test_internal_needs_no_data(self) -> None:
        """The answer to a fault of the server's own is sent as it stands."""
        self.assertEqual(set(), fields_of(errors.INTERNAL))

    def test_only_proofs_of_nothing_stored(self) -> None:
        """Exactly the refusals that permit a new body under the same mid say so."""
        proofs = {code.name for code in CODES.values() if code.stored_nothing}
        self.assertEqual(
            {"stale_head", "stale_keys", "bad_audience", "out_of_turn", "ctr_behind", "over_quota"}, proofs
        )

    def test_violations_close(self) -> None:
        """Exactly violations and the server's own faults close the connection."""
        closing = {code.name for code in CODES.values() if code.closes}
        self.assertEqual({"bad_packet", "empty_line", "line_too_long", "internal"}, closing)

    def test_exit_is_a_failure(self) -> None:
        """No refusal ends a script with success."""
        self.assertNotIn(Exit.OK, {code.exit for code in CODES.values()})


class RefusedTests(SynchronousTestCase):
    """Tests for `Refused`, wherever it is raised."""

    def test_every_call_formats(self) -> None:
        """Every refusal made in the package has the data that its text needs."""
        self.assertGreater(len(raised()), 50)
        missing = [(where, code.name) for where, _, code, data in raised() if not fields_of(code) <= data]
        self.assertEqual([], missing)

    def test_every_text_formats(self) -> None:
        """With that data every text becomes a sentence, and comes over the wire."""
        for code in CODES.values():
            data = {name: NUMBERS.get(name, "somebody") for name in fields_of(code)}
            refusal = Refused(code, **data)
            self.assertNotIn("{", str(refusal))
            self.assertEqual((code, data), (refusal.code, refusal.data))
            reply = codec.decode_reply(codec.encode_refusal(1, refusal), Ping)
            assert isinstance(reply, Failed)
            self.assertEqual((code.name, str(refusal)), (reply.code, reply.msg))

    def test_violations_are_of_codes_that_close(self) -> None:
        """What is raised as a violation closes."""
        self.assertEqual([], [where for where, violation, code, _ in raised() if violation and not code.closes])

    def test_retry_after_comes_as_a_number(self) -> None:
        """A text with seconds in it shows them whole."""
        self.assertIn("in 2 s", str(Refused(errors.BUSY, retry_after=2.0)))

    def test_kinds(self) -> None:
        """A violation is a refusal, and all are errors of ours."""
        self.assertTrue(issubclass(ProtocolViolation, Refused))
        for name, value in vars(errors).items():
            if isinstance(value, type) and issubclass(value, Exception):
                self.assertTrue(issubclass(value, SecureChatError), name)
