"""Rows of a terminal: nobody's text reaches the left edge. Pure."""

from __future__ import annotations

import re
from typing import Final

from prompt_toolkit.utils import get_cwidth

from securechat.client.display import INDENT, Pieces

NARROWEST: Final = 20  # columns; below that the terminal may wrap as it likes
_COLUMN: Final = re.compile(r"  [!-~]+(?: [!-~]+)*  +(?=\S)")
_JOINING: Final = {0x200D: None, 0xFE0E: None, 0xFE0F: None}
_FLAGS: Final = {0x1F1E6 + place: 0xFF21 + place for place in range(26)}  # as wide letters: a terminal may join two
_APART: Final = _JOINING | _FLAGS
_TONE: Final = re.compile("(?<=[\u2600-\u27bf\U0001f300-\U0001f3fa\U0001f400-\U0001faff])[\U0001f3fb-\U0001f3ff]")
_LINK: Final = re.compile(r"'?(?:https?|securechat(?:\+insecure)?)://[^\s<>\[\]]+")


def wrapped(row: Pieces, width: int) -> list[Pieces]:
    """A row as several that fit, all but the first indented: below the second column, where it begins with blanks and
    has one, as the lines of /help do.

    The terminal would wrap as well, but to the left edge: a text that fills its row exactly could go on with what
    looks like somebody else's line. A link stays whole, to be clicked and copied; it cannot look like one.

    Args:
        row: kinds and cleaned texts.
        width: columns, at least `NARROWEST`.
    """
    text = "".join(part for _, part in row)
    lines: list[Pieces] = []
    width = max(width, NARROWEST)
    indent = _indent(text, width)
    for start, stop in _cuts(text, width, len(indent)):
        line = [("", indent)] if start else []
        place = 0
        for kind, part in row:
            shown = part[max(start - place, 0) : max(stop - place, 0)]
            if shown:
                line.append((kind, shown))
            place += len(part)
        lines.append(line)
    return lines


def countable(row: Pieces) -> Pieces:
    """A row of which every terminal takes up as many columns as it has characters and wide ones.

    A family, a flag or a hand of some colour is several characters that one terminal draws as one and another side
    by side. Where the whole screen is drawn, what changed alone is sent, to places that are counted: counted
    otherwise than the terminal does, pieces of other rows stay on the screen. So here they stand side by side.
    """
    if all(part.isascii() for _, part in row):
        return row
    return [(kind, _TONE.sub("", part.translate(_APART))) for kind, part in row]


def _indent(text: str, width: int) -> str:
    """What stands before the second and later rows of a text."""
    column = _COLUMN.match(text) if len(text) > width else None
    return " " * column.end() if column is not None and column.end() <= width * 2 // 3 else INDENT


def _cuts(text: str, width: int, indent: int) -> list[tuple[int, int]]:
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
            column, space = indent, -1
            continue
        if text[place] == " ":
            space = place
        column += taken
        place += step
    if start < len(text) or not cuts:
        cuts.append((start, len(text)))
    return cuts
