"""What the full view's redraws cost on this machine: ``python -m bench.screen`` from the checkout.

One conversation of 20,000 messages on a screen of 160 × 50, without a terminal behind it: what is measured is this
program's work for each redraw, up to the bytes it writes, in CPU time of its thread.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from securechat.client.view import Item, Message, RoomState, Status
from securechat.client.views.console import Console
from securechat.client.views.full import FullView
from securechat.errors import Exit

COUNT: Final = 20_000
ROUNDS: Final = 50
GOAL_MS: Final = 60.0
_NOW: Final = 1_700_000_000_000  # milliseconds since 1970
_WORDS: Final = ("the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "日本語", "stands", "👍")


class _Talk:
    """A core with one long conversation and a list of fifty."""

    exiting = False

    def __init__(self) -> None:
        self.messages: list[Item] = []
        for _ in range(COUNT):
            self.more()
        self.rooms = tuple(RoomState(f"room{n}", unread=n % 3, active=n == 0) for n in range(50))

    def more(self) -> None:
        """One more message."""
        seq = len(self.messages) + 1
        text = " ".join(_WORDS[: 3 + seq % len(_WORDS)] * (4 if seq % 7 == 0 else 1))
        self.messages.append(Message("room0", f"user{seq % 40}", text, seq=seq, ts=_NOW + seq * 60_000))

    def talk(self, where: str) -> Sequence[Item]:
        return self.messages

    def pending(self, where: str) -> Sequence[tuple[str, str]]:
        return ()

    def members(self, where: str) -> Sequence[tuple[str, str]]:
        return [(f"user{n}", "") for n in range(40)]

    def preference(self, name: str) -> str:
        return "on"

    def marker(self, where: str) -> int:
        return COUNT - 10

    def draft(self, where: str) -> str:
        return ""

    def __getattr__(self, name: str) -> Any:
        """What else a view may call does nothing here."""
        return lambda *_: succeed(Exit.OK)


class _NoConsole(Console):
    """Nothing outside is touched."""

    def __init__(self) -> None:
        pass

    def watch(self, stopping: Callable[[], object], hangup: Callable[[], None]) -> None:
        self.stopping = stopping

    def restore(self) -> None:
        pass


async def _measure(view: FullView, core: _Talk, clock: Clock, console: _NoConsole) -> dict[str, float]:
    view.start(cast(Any, core))  # which has what a redraw asks for
    clock.advance(0)
    while not view._app.is_running:
        await asyncio.sleep(0)
    view.opened("room0")
    figures = {"first_ms": _timed(view)}
    width, height = view._size

    def one_more() -> None:
        core.more()
        view.show(core.messages[-1])

    def up() -> None:
        view._window.up(height - 1, width, height)

    for name, act in (
        ("key_ms", lambda: view._entry.buffer.insert_text("x")),
        ("message_ms", one_more),
        ("page_ms", up),
        ("anew_ms", view._app.renderer.clear),
    ):
        times: list[float] = []
        for _ in range(ROUNDS):
            act()
            times.append(_timed(view))
        figures[name] = sorted(times)[-max(1, ROUNDS // 20)]  # the slowest but 5 %
    stopped = console.stopping()
    if isinstance(stopped, Deferred):
        await stopped.asFuture(asyncio.get_running_loop())
    return figures


def _timed(view: FullView) -> float:
    began = time.thread_time()
    view._app._redraw()
    return (time.thread_time() - began) * 1000


def figures() -> dict[str, float]:
    """Milliseconds of a redraw: the first one, and the 95th percentile of others."""
    loop = asyncio.new_event_loop()
    with create_pipe_input() as keys:
        core, clock, console = _Talk(), Clock(), _NoConsole()
        sink = cast(Any, io.StringIO())  # a terminal that nobody reads
        output = Vt100_Output(sink, lambda: Size(rows=50, columns=160), term="xterm", enable_cpr=False)
        view = FullView(
            clock,
            done=lambda status: None,
            environ={"TERM": "xterm-256color"},
            console=console,
            input=keys,
            output=output,
        )
        view.status(Status("alice", "room0", "online", rooms=core.rooms))
        try:
            return loop.run_until_complete(_measure(view, core, clock, console))
        finally:
            loop.close()


def main() -> None:
    """Prints the table."""
    found = figures()
    print(f"{f'{COUNT:,} messages, 160 × 50':<44}{'':>12}{'goal':>10}")
    for title, name in (
        ("ms to draw it first", "first_ms"),
        ("ms for a key, 95th percentile", "key_ms"),
        ("ms for a message that comes", "message_ms"),
        ("ms for a page further up", "page_ms"),
        ("ms for everything anew (Ctrl+L)", "anew_ms"),
    ):
        print(f"{title:<44}{found[name]:>12.1f}{f'≤ {GOAL_MS:g}':>10}")


if __name__ == "__main__":
    main()
