"""Colours of names, readable on black and on white (3 to 1 by WCAG 2.2), and whether there are to be any. Pure.

A colour is never the only carrier of anything: without it every line says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CHOICES: Final = ("auto", "always", "never")  # what `--color` may say

# As a terminal has them that nobody painted anew (xterm): of 16 colours only these are readable on both.
SIXTEEN: Final[Mapping[str, str]] = {
    "ansired": "#cd0000",
    "ansimagenta": "#cd00cd",
    "ansibrightred": "#ff0000",
    "ansibrightblue": "#5c5cff",
    "ansibrightmagenta": "#ff00ff",
}

# Colours of xterm's 6 × 6 × 6 cube.
CUBE: Final = (
    "#0087af", "#0087d7", "#0087ff", "#008700", "#00875f", "#008787", "#5f5fff", "#5f8700", "#5f875f", "#5f87af",
    "#875fd7", "#875fff", "#8700ff", "#875f00", "#875f87", "#87875f", "#af00af", "#af00ff", "#af5f00", "#af5f5f",
    "#af5faf", "#d70000", "#d7005f", "#d700af", "#d75f00", "#d75f87", "#d75fd7", "#ff0000", "#ff0087", "#ff00d7",
)  # fmt: skip

# Twenty-four hues, each as bright as the others.
TRUE: Final = (
    "#d93b3b", "#cf4d1f", "#c05a12", "#ab660f", "#947012", "#7d7813", "#657f13", "#478517", "#24892a", "#16894d",
    "#16876a", "#178485", "#187f9c", "#1a79b4", "#2b71d0", "#4c67e3", "#6a5df0", "#8453ee", "#9c49e0", "#b03fcc",
    "#bf3ab4", "#ca3999", "#d2397d", "#d73a5e",
)  # fmt: skip

_PALETTES: Final[Mapping[int, tuple[str, ...]]] = {4: tuple(SIXTEEN), 8: CUBE, 24: TRUE}


def palette(depth: int) -> tuple[str, ...]:
    """The colours of names, for so many bits; () where there are none."""
    return _PALETTES.get(depth, ())


def colour_wanted(choice: str, environ: Mapping[str, str], is_tty: bool) -> bool:
    """Whether to use colours. What was said on the command line counts more than what the environment says.

    Args:
        choice: one of `CHOICES`.
        environ: NO_COLOR, if it is not empty, and ``TERM=dumb`` want none.
        is_tty: whether a terminal shows it.
    """
    if choice != "auto":
        return choice == "always"
    return is_tty and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


def depth_of(environ: Mapping[str, str]) -> int:
    """How many bits a colour of this terminal has: 24, 8 or 4."""
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return 24
    term = environ.get("TERM", "")
    return 24 if term.endswith("-direct") else 8 if "256color" in term else 4
