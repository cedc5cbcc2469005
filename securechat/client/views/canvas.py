"""A part of the screen that is drawn row by row, and only as far as it is seen."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.layout import AnyDimension, UIContent, UIControl, Window

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
