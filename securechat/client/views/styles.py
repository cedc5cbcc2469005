"""How the terminal views paint. A colour is never the only carrier of anything: without it a row says the same."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from securechat.client.display import Pieces
from securechat.client.links import find_links, osc8
from securechat.client.views.colours import colour_wanted, depth_of, palette

_CLASSES: Final = {
    "mark": "bold",
    "error": "bold ansired",
    "question": "bold",
    "mention": "bold reverse",
    "unread": "bold",
    "active": "bold",
    "bar": "reverse",
    "bar.warn": "reverse bold",
    "chosen": "reverse",
}
_NAMES: Final = 120  # classes of names: a multiple of the length of each palette, so that each has all its colours
_NAME: Final = re.compile(r"<?([^>\s]+)")
_DEPTHS: Final = {24: ColorDepth.DEPTH_24_BIT, 8: ColorDepth.DEPTH_8_BIT, 4: ColorDepth.DEPTH_4_BIT}


def depth(color: str, environ: Mapping[str, str]) -> tuple[int, ColorDepth]:
    """How many bits a colour has, 0 for none, and the same for prompt_toolkit.

    Args:
        color: what was asked for, one of `colours.CHOICES`.
    """
    bits = depth_of(environ) if colour_wanted(color, environ, True) else 0
    return bits, _DEPTHS.get(bits, ColorDepth.DEPTH_1_BIT)


def style(bits: int) -> Style:
    """The style for colours of so many bits."""
    colours = palette(bits)
    names = {f"name{n}": f"bold {colours[n % len(colours)]}" if colours else "bold" for n in range(_NAMES)}
    return Style.from_dict({**_CLASSES, **names})


def styled(kind: str, text: str) -> str:
    """The style of a piece. A name has one colour, whatever else is said."""
    if kind == "sender":
        name = _NAME.match(text)
        return f"class:name{zlib.crc32((name[1] if name else text).encode('utf-8', 'replace')) % _NAMES}"
    return f"class:{kind}" if kind else ""


def painted(row: Pieces) -> StyleAndTextTuples:
    """A row as prompt_toolkit shows it. Nothing in a text is markup."""
    return [(styled(kind, text), text) for kind, text in row]


def fragments(rows: Iterable[Pieces], *, links: bool = False) -> StyleAndTextTuples:
    """Rows as it prints them, a line break behind each.

    Args:
        links: whether the terminal is told which words are links.
    """
    shown: StyleAndTextTuples = []
    for row in rows:
        for piece in painted(row):
            shown += _clickable(piece[0], piece[1]) if links else [piece]
        shown.append(("", "\n"))
    return shown


def _clickable(style: str, text: str) -> StyleAndTextTuples:
    """A piece with its links marked. One that is not shown as it leads (its host is in another alphabet) is none."""
    shown: StyleAndTextTuples = []
    for url in find_links(text):
        before, found, rest = text.partition(url)
        if found and url.startswith("http"):
            opened, closed = osc8(url)
            shown += [(style, before), (_ESCAPE, opened), (style, url), (_ESCAPE, closed)]
            text = rest
    return [*shown, (style, text)]


_ESCAPE: Final = "[ZeroWidthEscape]"  # the toolkit's word for what takes no room
