"""Tests for the one table of keys: views, help and documents have what it says, and nothing else."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.helptext import help_lines
from securechat.client.views import keymap
from securechat.client.views.acts import Acts
from securechat.client.views.full import FullView
from securechat.client.views.inline import InlineView
from tests.terminals import TerminalCase


class KeymapTests(SynchronousTestCase):
    """Tests for the table."""

    def test_acts(self) -> None:
        """Each act of a view is a method of it, and each such method is in the table."""
        for kind in (InlineView, FullView):
            acts = {key.act for key in keymap.of_view(kind.view) if key.act}
            for act in acts:
                self.assertTrue(callable(getattr(kind, f"act_{act}", None)), f"{kind.__name__}: {act}")
            methods = {name.removeprefix("act_") for name in dir(kind) if name.startswith("act_")}
            self.assertEqual(methods, acts, kind.__name__)

    def test_keys_are_unique(self) -> None:
        """No key does two things, and what does something by itself is not bound."""
        for view in keymap.BOTH:
            count = Counter(pressed for key in keymap.of_view(view) for pressed in key.keys)
            self.assertEqual([], [pressed for pressed, times in count.items() if times > 1])
        for key in keymap.KEYS:
            self.assertEqual(bool(key.act), bool(key.keys), key.shown)
            self.assertIn(key.group, keymap.GROUPS)

    def test_help(self) -> None:
        """/help keys has every row, within 80 columns."""
        lines = list(help_lines("keys"))
        self.assertEqual(lines, keymap.help_lines())
        text = " ".join(" ".join(lines).split())
        for key in keymap.KEYS:
            self.assertIn(key.shown, text)
            self.assertIn(key.about, text)
        self.assertLessEqual(max(map(len, lines)), 80)

    def test_readline_keys_stay(self) -> None:
        """No binding takes the keys that edit a line."""
        bound = {pressed for key in keymap.KEYS for pressed in key.keys}
        kept = {"c-a", "c-e", "c-w", "c-u", "c-k", "c-y", "c-t", "c-_", "escape b", "escape f", "escape d"}
        self.assertEqual(set(), bound & kept)


class BoundTests(TerminalCase):
    """Tests for what the toolkit makes of it."""

    def test_every_row_is_bound(self) -> None:
        """Each key of the table reaches its act in both views."""
        for kind in (InlineView, FullView):
            self.kind = kind

            async def steps() -> None:
                bound = {tuple(getattr(key, "value", key) for key in binding.keys): binding.handler
                         for binding in self.view.bindings().bindings}  # fmt: skip
                for key in keymap.of_view(self.view.view):
                    for pressed in key.keys:
                        alike = {"enter": "c-m", "tab": "c-i"}
                        wanted = tuple(alike.get(part, part) for part in pressed.split())
                        handler = bound[wanted]
                        self.assertEqual(f"act_{key.act}", getattr(handler, "__name__", ""), pressed)

            self.drive(steps)

    def test_editing(self) -> None:
        """Words back and forward, deleting, putting back, swapping, undoing."""

        async def steps() -> None:
            line = "[general] alice> "
            await self.press("one two", shows=line + "one two")
            await self.press("\x1bb\x17", shows=line + "two")
            await self.press("\x19", shows=line + "one two")
            await self.press("\x1bd", shows=line + "one")
            await self.press("\x1f", shows=line + "one two")
            await self.press("\x05\x14", shows=line + "one tow")
            await self.press("\x01\x0b", shows=line.rstrip())

        self.drive(steps)

    def test_search(self) -> None:
        """Ctrl+R finds what was typed; no search begins while a question is open."""

        async def steps() -> None:
            await self.press("find me\r")
            await self.press("other\r")
            await self.press("x", shows="[general] alice> x")
            await self.press("\x15", shows="[general] alice>")
            await self.press("\x12find")
            await self.until(lambda: any("[general] alice> find me" in row for row in self.screen.all))
            await self.press("\r", shows="[general] alice> find me")
            await self.press("\x15")
            self.view.ask_secret("Password:")
            await self.press("\x12", shows="Password:")
            await self.press("\x1b[A\x10\x0e\x1b<\x0f" + "x", shows="Password: *")
            self.assertEqual([], self.client.went)

        self.drive(steps)

    def test_suspend_and_redraw(self) -> None:
        """Ctrl+Z is the toolkit's own, and Ctrl+L draws what was there."""

        async def steps() -> None:
            slept = []
            self.patch(type(self.view._app), "suspend_to_background", lambda app: slept.append(app))
            await self.press("\x1a")
            self.assertEqual([self.view._app], slept)
            await self.press("half\x0c", shows="[general] alice> half")
            self.assertIn("\x1b[2J", self.screen.raw)

        self.drive(steps)


class DocumentTests(SynchronousTestCase):
    """Tests for the words of the acts."""

    def test_each_act_says_what_it_does(self) -> None:
        """Every method behind a key has a sentence."""
        for name in dir(Acts):
            if name.startswith("act_"):
                self.assertTrue(getattr(Acts, name).__doc__, name)
