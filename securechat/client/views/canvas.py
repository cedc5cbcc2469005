"""The terminal itself, and parts of the screen that are drawn row by row, only as far as they are seen."""

from __future__ import annotations

import sys
from collections.abc import Callable

from prompt_toolkit.layout import AnyDimension, UIContent, UIControl, Window
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from securechat.client.display import Pieces
from securechat.client.views.styles import painted
from securechat.client.views.wrap import countable


class Rows(UIControl):
    """A control that asks for the rows that fit.

    Args:
        draw: called with the width and the height; answers at most so many rows.
    """

    def __init__(self, draw: Callable[[int, int], list[Pieces]]) -> None:
        self._draw = draw

    def create_content(self, width: int, height: int | None) -> UIContent:
        """What the toolkit shows."""
        rows = self._draw(width, height or 1)
        return UIContent(get_line=lambda line: painted(countable(rows[line])), line_count=len(rows), show_cursor=False)


def pane(
    draw: Callable[[int, int], list[Pieces]], *, width: AnyDimension = None, height: AnyDimension = None
) -> Window:
    """A window of such rows; without a width or height it takes what is left."""
    return Window(Rows(draw), width=width, height=height, always_hide_cursor=True, wrap_lines=False)


def quiet_output() -> Output:
    """The terminal itself, under twistd too.

    It is never asked where its cursor is: on a slow line the answer would come between the keys, and after the end
    into the shell.
    """
    output = create_output(sys.__stdout__)
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False
    return output
