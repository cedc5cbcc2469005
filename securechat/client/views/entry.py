"""The line being typed, as both terminal views have it: editing, history, search, completion, pasting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples, fragment_list_width
from prompt_toolkit.layout import BufferControl, ConditionalContainer, Dimension, FormattedTextControl, HSplit, Window
from prompt_toolkit.layout.processors import (
    ConditionalProcessor,
    HighlightIncrementalSearchProcessor,
    HighlightSelectionProcessor,
    PasswordProcessor,
)
from prompt_toolkit.widgets import SearchToolbar

from securechat.client.display import INDENT
from securechat.client.views.editing import CommandCompleter, History, Mask

MAX_LINE: Final = 64 * 1024  # characters of one typed or pasted message, as in the plain view
MAX_ROWS: Final = 8  # that it grows to
ROOM_TO_TYPE: Final = 8  # columns behind the prompt, at least
MENU_ROWS: Final = 8  # kept free below it for completions, where nothing else is


class Entry:
    """The line being typed.

    Args:
        prompt: what stands before it.
        secret: whether it must not be seen.
        complete: `Client.complete`.
        menu_below: whether completions need room below it.
    """

    def __init__(
        self,
        prompt: Callable[[], StyleAndTextTuples],
        secret: Callable[[], bool],
        complete: Callable[[str], tuple[int, Iterable[str]]],
        *,
        menu_below: bool,
    ) -> None:
        self._prompt = prompt
        self._menu_below = menu_below
        self.buffer = Buffer(
            name=DEFAULT_BUFFER,
            completer=CommandCompleter(complete),
            history=History(),
            complete_while_typing=False,
            multiline=True,
        )
        self.search = SearchToolbar(ignore_case=True)
        self.window = Window(
            BufferControl(
                self.buffer,
                input_processors=[
                    HighlightIncrementalSearchProcessor(),
                    HighlightSelectionProcessor(),
                    ConditionalProcessor(PasswordProcessor(), Condition(secret)),
                    Mask(),
                ],
                include_default_input_processors=False,
                search_buffer_control=self.search.control,
                preview_search=True,
            ),
            get_line_prefix=self._prefix,
            wrap_lines=True,
            height=self._height,
            dont_extend_height=True,
        )
        above = Window(FormattedTextControl(prompt), wrap_lines=True, dont_extend_height=True)
        self.container = HSplit([ConditionalContainer(above, Condition(self._too_wide)), self.window])

    @property
    def completing(self) -> bool:
        """Whether completions are being chosen from."""
        return self.buffer.complete_state is not None

    def insert(self, text: str) -> None:
        """Puts a text where the cursor is."""
        self.buffer.insert_text(text)

    def with_inserted(self, text: str) -> Document:
        """The line as it would be then."""
        before, after = self.buffer.document.text_before_cursor, self.buffer.document.text_after_cursor
        return Document(before + text + after, len(before) + len(text))

    def _height(self) -> Dimension:
        if self._menu_below and self.completing and not get_app().is_done:
            return Dimension(min=MENU_ROWS, max=MENU_ROWS)
        return Dimension(min=1, max=MAX_ROWS)

    def _prefix(self, line: int, wrap: int) -> StyleAndTextTuples:
        """The prompt before the first row."""
        if line or wrap:
            return [("", INDENT)]
        return [("", "> ")] if self._too_wide() else self._prompt()

    def _too_wide(self) -> bool:
        """Whether the prompt leaves no room to type: then it stands above."""
        return fragment_list_width(self._prompt()) > get_app().output.get_size().columns - ROOM_TO_TYPE
