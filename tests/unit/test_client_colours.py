"""Tests for colours of names."""

from __future__ import annotations

from typing import Final

from prompt_toolkit.styles import parse_color
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.views.colours import CUBE, SIXTEEN, TRUE, colour_wanted, depth_of, palette
from securechat.client.views.styles import styled

LEAST_CONTRAST: Final = 3.0  # to black and to white, by WCAG 2.2: what it asks of large text; both cannot be over 4.6


def contrast(one: str, other: str) -> float:
    """How well one colour is read on another, 1 to 21, by WCAG 2.2.

    Args:
        one, other: ``#rrggbb``.
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def colour_of(name: str, depth: int) -> str:
    """The colour in which a name is drawn; "" where there are none."""
    colours = palette(depth)
    number = int(styled("sender", f"<{name}> ").removeprefix("class:name"))
    return colours[number % len(colours)] if colours else ""


class PaletteTests(SynchronousTestCase):
    """Tests for the palettes."""

    def test_contrast(self) -> None:
        """The contrast of black and white is 21, of a colour and itself 1."""
        self.assertAlmostEqual(21.0, contrast("#000000", "#ffffff"))
        self.assertAlmostEqual(1.0, contrast("#123456", "#123456"))
        self.assertAlmostEqual(4.48, contrast("#777777", "#ffffff"), places=2)

    def test_readable_on_black_and_on_white(self) -> None:
        """Every colour of every palette is."""
        for colour in (*SIXTEEN.values(), *CUBE, *TRUE):
            for ground in ("#000000", "#ffffff"):
                self.assertGreaterEqual(contrast(colour, ground), LEAST_CONTRAST, f"{colour} on {ground}")

    def test_distinct(self) -> None:
        """No palette has a colour twice."""
        for colours in (tuple(SIXTEEN.values()), CUBE, TRUE):
            self.assertEqual(len(colours), len(set(colours)))

    def test_256_colours_are_exact(self) -> None:
        """A colour of the cube is shown as itself where there are 256."""
        levels = (0, 95, 135, 175, 215, 255)
        for colour in CUBE:
            rgb = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
            self.assertTrue(all(part in levels for part in rgb), colour)

    def test_known_to_the_terminal(self) -> None:
        """Whatever a name may get, prompt_toolkit takes."""
        for colour in (*SIXTEEN, *CUBE, *TRUE):
            self.assertEqual(colour.removeprefix("#"), parse_color(colour).removeprefix("#"))


class ColourOfTests(SynchronousTestCase):
    """Tests for the colour of a name."""

    def test_stable(self) -> None:
        """A name has the same colour today and tomorrow, on every machine."""
        self.assertEqual(
            [("ansired", "#008787", "#d73a5e"), ("ansibrightmagenta", "#875f87", "#24892a")],
            [tuple(colour_of(name, depth) for depth in (4, 8, 24)) for name in ("alice", "bob")],
        )

    def test_spread(self) -> None:
        """A hundred names get nearly all colours."""
        for depth, least in ((4, 5), (8, 24), (24, 20)):
            self.assertGreaterEqual(len({colour_of(f"user{n}", depth) for n in range(100)}), least)

    def test_without_colours(self) -> None:
        """Where there are none, a name has none; any name will do."""
        self.assertEqual("", colour_of("bob", 1))
        self.assertIn(colour_of("\ud800", 24), TRUE)


class DecisionTests(SynchronousTestCase):
    """Tests for `colour_wanted` and `depth_of`."""

    def test_automatic(self) -> None:
        """A terminal that can, and whose user did not say no."""
        for environ, is_tty, wanted in (
            ({"TERM": "xterm"}, True, True),
            ({"TERM": "xterm"}, False, False),
            ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
            ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
            ({"TERM": "dumb"}, True, False),
            ({}, True, False),
        ):
            self.assertEqual(wanted, colour_wanted("auto", environ, is_tty), environ)

    def test_what_was_said(self) -> None:
        """What the command line says counts more than the environment."""
        self.assertTrue(colour_wanted("always", {"NO_COLOR": "1", "TERM": "dumb"}, False))
        self.assertFalse(colour_wanted("never", {"TERM": "xterm"}, True))

    def test_depth(self) -> None:
        """As much as the terminal says it can."""
        for environ, depth in (
            ({"TERM": "xterm", "COLORTERM": "truecolor"}, 24),
            ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, 24),
            ({"TERM": "xterm-direct"}, 24),
            ({"TERM": "tmux-256color"}, 8),
            ({"TERM": "linux", "COLORTERM": "1"}, 4),
            ({}, 4),
        ):
            self.assertEqual(depth, depth_of(environ), environ)
