"""Rows of a terminal: nobody's text reaches the left edge. Pure."""

from __future__ import annotations

import re
from typing import Final

from prompt_toolkit.utils import get_cwidth

from securechat.client.display import INDENT, Pieces

NARROWEST: Final = 20  # columns; below that the terminal may wrap as it likes
_LINK: Final = re.compile(r"'?(?:https?|securechat(?:\+insecure)?)://[^\s<>\[\]]+")


def wrapped(row: Pieces, width: int) -> list[Pieces]:
    """A row as several that fit, all but the first indented.

    The terminal would wrap as well, but to the left edge: a text that fills its row exactly could go on with what
    looks like somebody else's line. A link stays whole, to be clicked and copied; it cannot look like one.

    Args:
        row: kinds and cleaned texts.
        width: columns, at least `NARROWEST`.
    """
    text = "".join(part for _, part in row)
    lines: list[Pieces] = []
    for start, stop in _cuts(text, max(width, NARROWEST)):
        line = [("", INDENT)] if start else []
        place = 0
        for kind, part in row:
            shown = part[max(start - place, 0) : max(stop - place, 0)]
            if shown:
                line.append((kind, shown))
            place += len(part)
        lines.append(line)
    return lines


def _cuts(text: str, width: int) -> list[tuple[int, int]]:
    """Where to break a text: pairs of start and end. Spaces at a break are left out."""
    if text.isascii() and len(text) <= width:
        return [(0, len(text))]
    cuts: list[tuple[int, int]] = []
    links = {match.start(): match.end() for match in _LINK.finditer(text)}
    start = place = column = 0
    space = -1  # the last place in this row at which it may end
    while place < len(text):
        step = links.get(place, place + 1) - place
        taken = get_cwidth(text[place : place + step])
        if column + taken > width and taken and place > start and text[place - 1] != "\u200d":
            end = space if space > start else place
            cuts.append((start, end))
            start = place = end + len(text[end:]) - len(text[end:].lstrip(" "))
            column, space = len(INDENT), -1
            continue
        if text[place] == " ":
            space = place
        column += taken
        place += step
    if start < len(text) or not cuts:
        cuts.append((start, len(text)))
    return cuts
