"""The inline view: a prompt at the bottom, and the talk scrolls by above the line being typed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import ConditionalContainer, Float, FloatContainer, FormattedTextControl, HSplit, Layout
from prompt_toolkit.layout.containers import Window
from prompt_toolkit.layout.menus import CompletionsMenu

from securechat.client.display import Pieces, clean, rows
from securechat.client.view import Item, Membership, Message, Notice, Unshown
from securechat.client.views.bars import bar, pending_rows, switcher_line
from securechat.client.views.entry import MENU_ROWS
from securechat.client.views.lines import folded, unread_row
from securechat.client.views.styles import painted
from securechat.client.views.terminal import Terminal
from securechat.client.views.viewport import clock_of, day_of, day_row, when
from securechat.client.views.wrap import wrapped

AT_ONCE: Final = 200  # items printed in one turn of the loop: typing stays smooth while a backlog arrives
KEPT: Final = 2000  # items that may wait to be printed; of more, the oldest are left out, and their number is said
UNREAD: Final = 50  # unread messages that are printed when a conversation is opened; /history has more
_GUTTER: Final = " " * 6  # as wide as a time, for what has none


class InlineView(Terminal):
    """A prompt and a bar below it. What is printed stays where it is, in the terminal's own scrollback.

    The talk of the active conversation is printed, and all that is private; other rooms are only counted, and printed
    when they are opened.
    """

    view = "inline"

    def __init__(self, reactor: Any, **options: Any) -> None:
        self._pending: deque[Item | Pieces] = deque()
        self._left_out = 0
        self._scheduled = False
        self._printed: dict[str, int] = {}  # by conversation: the newest message that was
        self._apart: dict[str, set[int]] = {}  # and those that were although it is not followed: one's own
        self._headed = ""  # the conversation whose header stands above
        super().__init__(reactor, **options)

    # What the core sees.

    def show(self, item: Item) -> None:
        """Prints an item above the prompt, with all others of this turn of the loop."""
        if isinstance(item, Membership) and not self.follows(item.room):
            return
        self._note(item)
        self._put(item)

    def follows(self, where: str) -> bool:
        """Whether it is printed as it comes."""
        return where.startswith("@") or where == self._headed == self._status.room

    def prints(self, where: str) -> bool:
        """The same: other rooms are only counted."""
        return self.follows(where)

    def opened(self, where: str) -> None:
        """A line that says where one is now, and what had not been read there."""
        arrived = where != self._headed
        self._enter_room(where)
        self._take_draft()
        if self._client is None or not where:
            return
        if arrived:
            self._headed = where
            self._put(_header(f"{clean(where, name=True)}{self._topic(where)}"))
        if any(room.where == where and room.unread for room in self._status.rooms):
            marker = max(self._client.marker(where), self._printed.get(where, 0))
            apart = self._apart.pop(where, set())
            self._put_unread([item for item in _behind(self._client.talk(where), marker) if _seq(item) not in apart])
        self._client.seen(where)

    def _topic(self, where: str) -> str:
        topic = next((room.topic for room in self._status.rooms if room.where == where), "")
        return f": {' '.join(clean(topic).split())}" if topic else ""

    def _put_unread(self, unread: Sequence[Item]) -> None:
        """Messages with their times, behind a line that says so, and a line where the day changes."""
        if not unread:
            return
        self._put(unread_row(len(unread)))
        if len(unread) > UNREAD:
            self._put(Notice(f"Here are the last {UNREAD} of them; /history has all.", _where(unread[0])))
        today = day_of(self._clock() * 1000, self._tz)
        for item in unread[-UNREAD:]:
            at = when(item)
            day = day_of(at, self._tz) if at else today
            if day is not None and day != today:
                self._put(day_row(day))
                today = day
            self._note(item)
            width = self._columns() - len(_GUTTER)
            clock = f"{clock_of(at, self._tz):<5} " if at else _GUTTER
            told = replace(item, at=None) if isinstance(item, Message) else item
            for line in (line for row in rows(told, tz=self._tz) for line in wrapped(row, width)):
                self._put([("time", clock), *line])
                clock = _GUTTER

    def _note(self, item: Item) -> None:
        """It was printed: it is not printed again as unread."""
        if not isinstance(item, (Message, Unshown)):
            return
        if self.follows(item.where):
            self._printed[item.where] = max(item.seq, self._printed.get(item.where, 0))
        else:
            self._apart.setdefault(item.where, set()).add(item.seq)

    # Printing.

    def _begin(self) -> None:
        super()._begin()
        self._schedule()

    def _put(self, item: Item | Pieces) -> None:
        if len(self._pending) >= KEPT:
            self._pending.popleft()
            self._left_out += 1
        self._pending.append(item)
        self._schedule()

    def _schedule(self) -> None:
        if self._loop is not None and not self._scheduled and not self._away:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Prints what waits, above the prompt.

        Not by `run_in_terminal`: that turns the terminal's echo on meanwhile, and a key of a password typed in that
        moment would show.
        """
        self._scheduled = False
        if self._away and self._app.is_running:
            return  # an editor has the terminal; it is printed when that is done
        if self._left_out:
            self._pending.appendleft(Notice(f"{self._left_out} lines came too fast to be shown. /history has them."))
            self._left_out = 0
        if not self._pending:
            return
        batch = [self._pending.popleft() for _ in range(min(AT_ONCE, len(self._pending)))]
        running = self._app.is_running
        try:
            if running:
                self._app.renderer.erase()
            self._print_batch(batch)
            if running:
                self._app.renderer.reset()
                self._app.invalidate()
        except OSError:  # the terminal is gone
            self._pending.clear()
            self._hang_up()
        if self._pending and running:
            self._schedule()
        elif self._pending:
            self._flush()

    def _print_batch(self, batch: Sequence[Item | Pieces]) -> None:
        shown: list[Pieces] = []
        fold = self._client is not None and self._client.preference("fold") == "on"
        for item in _folded(batch) if fold else batch:
            shown += [item] if isinstance(item, list) else self._laid_out(item)
        self._print_rows(shown)

    def _back_from_editor(self) -> None:
        super()._back_from_editor()
        self._schedule()

    def _last_words(self) -> None:
        self._flush()

    # The screen.

    def _layout(self) -> Layout:
        entry = self._entry
        body = HSplit([
            ConditionalContainer(
                Window(FormattedTextControl(self._waiting_rows), dont_extend_height=True),
                Condition(lambda: bool(self._waiting())),
            ),
            entry.container,
            ConditionalContainer(
                Window(FormattedTextControl(self._switcher_row), height=1),
                Condition(lambda: self._switcher is not None),
            ),
            entry.search,
            Window(FormattedTextControl(self._bar), height=1, dont_extend_height=True),
        ])  # fmt: skip
        menu = Float(xcursor=True, ycursor=True, transparent=True, content=CompletionsMenu(max_height=MENU_ROWS))
        return Layout(FloatContainer(body, [menu]), focused_element=entry.window)

    def _waiting(self) -> Sequence[tuple[str, str]]:
        """What was typed here and has to wait; not what is just on its way."""
        if self._client is None or not self._status.waiting or self._questions:
            return ()
        return [each for each in self._client.pending(self._room) if each[1] != "sending"]

    def _waiting_rows(self) -> StyleAndTextTuples:
        shown = pending_rows(self._waiting(), self._status.user, self._columns())
        return [piece for row in shown for piece in (*painted(row), ("", "\n"))][:-1]

    def _bar(self) -> StyleAndTextTuples:
        return painted(bar(self._status, self._columns(), self._clock(), first=self._states()))

    def _switcher_row(self) -> StyleAndTextTuples:
        return [] if self._switcher is None else painted(switcher_line(self._switcher, self._columns()))


def _behind(talk: Sequence[Item], marker: int) -> list[Item]:
    """The messages behind a number, oldest first."""
    found: list[Item] = []
    for place in range(len(talk) - 1, -1, -1):
        if _seq(talk[place]) <= marker:
            break
        found.append(talk[place])
    return found[::-1]


def _folded(batch: Sequence[Item | Pieces]) -> Iterator[Item | Pieces]:
    """The same with comings and goings in a row as one line."""
    run: list[Item] = []
    for item in batch:
        if isinstance(item, list):
            yield from folded(run)
            run = []
            yield item
        else:
            run.append(item)
    yield from folded(run)


def _seq(item: object) -> int:
    return int(getattr(item, "seq", 0))


def _where(item: Item) -> str:
    return str(getattr(item, "where", ""))


def _header(text: str) -> Pieces:
    return [("unread", f"--- {text} ---")]
