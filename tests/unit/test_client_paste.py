"""Tests for what is done about a paste."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.commands import Text, Typed, parse
from securechat.client.views.paste import CHOICES, LARGE, pasted
from securechat.wire.limits import MAX_TEXT


class PasteTests(SynchronousTestCase):
    """Tests for `pasted` and `Paste`."""

    def test_short(self) -> None:
        """A word or a line goes where one types, without a question; its line break sends nothing."""
        for text in ("word", "a line of words", "with its end\n", "or another\r\n"):
            paste = pasted(text)
            self.assertFalse(paste.asks, text)
            self.assertEqual(text.strip(), paste.text)

    def test_nothing(self) -> None:
        """Nothing stays nothing."""
        for text in ("", "\n", "\r\n\r\n", "\x1b\x00"):
            self.assertEqual((0, 0, False), (pasted(text).lines, pasted(text).size, pasted(text).asks))

    def test_several_lines(self) -> None:
        """Two lines ask, whichever line breaks they have."""
        for text in ("a\nb", "a\r\nb", "a\rb\r"):
            paste = pasted(text)
            self.assertEqual(("a\nb", 2, 3, True), (paste.text, paste.lines, paste.size, paste.asks))

    def test_one_long_line(self) -> None:
        """One line asks as well where it is huge: bytes count, not letters."""
        self.assertFalse(pasted("x" * LARGE).asks)
        self.assertTrue(pasted("x" * (LARGE + 1)).asks)
        self.assertTrue(pasted("\u00fc" * (LARGE // 2 + 1)).asks)

    def test_control_characters(self) -> None:
        """What could steer a terminal is gone; tabs stay."""
        self.assertEqual("a\tb[201~\nc", pasted("a\tb\x1b[201~\n\x07c\x9b\x7f").text)

    def test_question(self) -> None:
        """It says how much it is, and what one may answer."""
        self.assertEqual(
            "You pasted 3 lines, 5 bytes. Send as one [m]essage, as [c]ode, [e]dit, or [N]othing? ",
            pasted("a\nb\nc").question,
        )
        self.assertIn("You pasted 1 line, 4.9 KiB.", pasted("x" * 5000).question)

    def test_too_much(self) -> None:
        """What no message holds can be edited; it is never sent in parts."""
        self.assertTrue(pasted("x" * MAX_TEXT).fits)
        paste = pasted("x" * (MAX_TEXT + 1))
        self.assertFalse(paste.fits)
        self.assertIn("one message holds 16 KiB. [e]dit it, or [N]othing?", paste.question)
        self.assertEqual(["nothing", "nothing", "edit", "nothing"], [paste.answered(choice) for choice in CHOICES])

    def test_answers(self) -> None:
        """A word or its first letter; whatever else is typed sends nothing."""
        paste = pasted("a\nb")
        for choice in CHOICES:
            self.assertEqual(choice, paste.answered(choice))
            self.assertEqual(choice, paste.answered(f" {choice[0].upper()} "))
        for unclear in (None, "", "y", "yes", "messages", "n", "\n"):
            self.assertEqual("nothing", paste.answered(unclear))

    def test_never_a_command(self) -> None:
        """A paste is text, also where it looks like a command."""
        for text in ("/login alice pw\nx", "//x\ny", "/\n/exit", "a\n/exit", "plain\ntext"):
            self.assertEqual(Text(pasted(text).line if text[0] != "/" else text), parse(pasted(text).line))
        typed = parse(pasted("  /login alice pw\n/exit").line)
        assert isinstance(typed, Typed)
        self.assertEqual(("send", ("/login alice pw\n/exit",)), (typed.command.name, typed.arguments))

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.text(alphabet="/ \t\nax\u2028", max_size=12))
    def test_fuzz(self, text: str) -> None:
        """Whatever is pasted: it is nothing, text, or the argument of /send."""
        typed = parse(pasted(text).line)
        self.assertTrue(
            typed is None or isinstance(typed, Text) or (isinstance(typed, Typed) and typed.command.name == "send"),
            typed,
        )
