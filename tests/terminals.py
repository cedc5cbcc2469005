"""Terminal views on a faked terminal: keys through a pipe, the screen as rows, a core that is data."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

import pyte
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.completion import completions
from securechat.client.view import Alert, Item, Message, RoomState, Status
from securechat.client.views.console import Console
from securechat.client.views.full import FullView
from securechat.client.views.inline import InlineView
from securechat.errors import Exit

START = 1_700_000_000  # seconds since 1970: 2023-11-14 22:13 UTC
TAB, BACKTAB, ENTER, UP, DOWN, ESC = "\t", "\x1b[Z", "\r", "\x1b[A", "\x1b[B", "\x1b"
CTRL_C, CTRL_D, CTRL_U, CTRL_Y = "\x03", "\x04", "\x15", "\x19"

PATIENCE: Final = 5.0  # seconds of a loaded machine


def pasted(text: str) -> str:
    """What a terminal sends where a text is pasted."""
    return f"\x1b[200~{text}\x1b[201~"


class FakeConsole(Console):
    """Nothing outside is touched."""

    def __init__(self) -> None:
        self.restored = False

    def watch(self, stopping: Callable[[], object], hangup: Callable[[], None]) -> None:
        self.stopping = stopping
        self.hangup = hangup

    def restore(self) -> None:
        self.restored = True

    def close(self) -> Deferred[None]:
        self.restore()
        return succeed(None)


class FakeDesktop:
    """A core that is data.

    Attributes:
        lines: what was submitted.
        closing: what the close waits for.
        rooms: the list, as the status has it.
        said: messages by conversation.
        waiting, people, drafts, markers, preferences: what the methods of these names answer.
        went, saw: conversations that were gone to and seen.
        asked_older: what each question for older messages waits for.
        talks: how often messages were asked for.
    """

    def __init__(self) -> None:
        self.view: Any = None
        self.exiting = False
        self.lines: list[str] = []
        self.closing: Deferred[Exit] = succeed(Exit.OK)
        self.closes: list[float] = []
        self.rooms: list[RoomState] = [RoomState("general", active=True), RoomState("games"), RoomState("@bob")]
        self.active = "general"
        self.said: dict[str, list[Item]] = {}
        self.waiting: dict[str, list[tuple[str, str]]] = {}
        self.people: list[tuple[str, str]] = [("alice", "owner"), ("bob", "")]
        self.drafts: dict[str, str] = {}
        self.markers: dict[str, int] = {}
        self.preferences = {"timestamps": "on", "numbers": "off", "members": "on", "fold": "on"}
        self.went: list[str] = []
        self.saw: list[str] = []
        self.asked_older: list[Deferred[int]] = []
        self.talks = 0
        self.trail = ["general"]

    # view.Client

    def submit(self, line: str) -> Deferred[Exit]:
        self.lines.append(line)
        self.exiting = line == "/exit"
        return succeed(Exit.OK)

    def close(self, timeout: float) -> Deferred[Exit]:
        self.closes.append(timeout)
        return self.closing

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        return completions(text, ["general", "games"], ["bob", "alice"])

    # view.Desktop

    def talk(self, where: str) -> Sequence[Item]:
        self.talks += 1
        return self.said.get(where, ())

    def older(self, where: str) -> Deferred[int]:
        self.asked_older.append(Deferred())
        return self.asked_older[-1]

    def pending(self, where: str) -> Sequence[tuple[str, str]]:
        return self.waiting.get(where, ())

    def marker(self, where: str) -> int:
        return self.markers.get(where, 0)

    def seen(self, where: str) -> None:
        self.saw.append(where)

    def go(self, where: str) -> None:
        self.went.append(where)
        self.active = where
        self.rooms = [replace(room, active=room.where == where) for room in self.rooms]
        self.tell()
        self.view.opened(where)

    def next_room(self, step: int) -> str:
        titles = [room.where for room in self.rooms]
        return titles[(titles.index(self.active) + step) % len(titles)]

    def next_active(self) -> str:
        return next((room.where for room in self.rooms if room.unread), "")

    def visited(self, step: int) -> str:
        return {-1: "games", 1: "@bob"}[step]

    def members(self, where: str) -> Sequence[tuple[str, str]]:
        return self.people

    def draft(self, where: str) -> str:
        return self.drafts.get(where, "")

    def set_draft(self, where: str, text: str) -> None:
        self.drafts[where] = text

    def preference(self, name: str) -> str:
        return self.preferences[name]

    # What a test does with it.

    def tell(self, **more: Any) -> None:
        """Tells the view the status."""
        self.view.status(Status("alice", self.active, **{"link": "online", "rooms": tuple(self.rooms), **more}))

    def hears(self, where: str, sender: str, text: str, **more: Any) -> Message:
        """Somebody says something: it is in the talk, and shown where the view follows."""
        talk = self.said.setdefault(where, [])
        seq = more.pop("seq", int(getattr(talk[-1], "seq", 0)) + 1 if talk else 1)
        message = Message(where, sender, text, seq=seq, ts=more.pop("ts", (START + seq) * 1000), **more)
        talk.append(message)
        if self.view.prints(where):
            self.view.show(message)
        if not self.view.follows(where):
            self.rooms = [
                replace(r, unread=r.unread + 1, mentions=r.mentions + message.mention) if r.where == where else r
                for r in self.rooms
            ]
            self.tell()
        return message


class Screen:
    """A terminal that turns what is written into rows."""

    encoding = "utf-8"

    def __init__(self, width: int, height: int) -> None:
        self.raw = ""
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)

    def write(self, data: str) -> int:
        self.raw += data
        self._stream.feed(data)
        return len(data)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    @property
    def all(self) -> list[str]:
        """Every row."""
        return [row.rstrip() for row in self.screen.display]

    @property
    def rows(self) -> list[str]:
        """Those that are not empty, from the top to the one the cursor stands in."""
        return [row for row in self.all[: self.screen.cursor.y + 1] if row]

    @property
    def prompt(self) -> str:
        """The row the cursor stands in."""
        return self.all[self.screen.cursor.y]

    @property
    def below(self) -> list[str]:
        """The rows under that."""
        return [row.strip() for row in self.all[self.screen.cursor.y + 1 :] if row]


class TerminalCase(SynchronousTestCase):
    """A view on a faked terminal, and a core that is data."""

    kind: type[InlineView] | type[FullView] = InlineView
    width, height = 60, 20

    def drive(
        self,
        steps: Callable[[], Coroutine[Any, Any, None]],
        *,
        size: tuple[int, int] | None = None,
        opened: bool = True,
        **options: Any,
    ) -> None:
        """Starts a view, runs the steps of a test beside it, and leaves nothing running.

        The loop is the test's own: `asyncio.run` would leave none behind for the tests that follow.
        """
        self.size = size or (self.width, self.height)
        loop = asyncio.new_event_loop()
        with create_pipe_input() as keys:
            self.keys: PipeInput = keys
            self.screen = Screen(*self.size)
            self.clock = Clock()
            self.console = FakeConsole()
            self.client = getattr(self, "client", None) or FakeDesktop()
            self.ended: list[Exit] = []
            self.alerts: list[Alert] = []
            output = Vt100_Output(
                self.screen,  # type: ignore[arg-type]
                lambda: Size(rows=self.size[1], columns=self.size[0]),
                term="xterm",
                enable_cpr=False,
            )
            options = {"environ": {"TERM": "xterm-256color"}, "clock": lambda: START + self.clock.seconds(), **options}
            self.view = self.kind(
                self.clock, done=self.ended.append, tz=UTC, console=self.console, input=keys, output=output, **options
            )
            self.client.view = self.view
            self.client.tell()
            try:
                loop.run_until_complete(self._started(steps(), opened))
            finally:
                loop.close()

    async def _started(self, steps: Awaitable[None], opened: bool) -> None:
        self.view.start(self.client)
        self.clock.advance(0)
        await self.until(lambda: self.screen.prompt == "[general] alice>")
        if opened:
            self.view.opened("general")
            await self.turn()
        try:
            await steps
        finally:
            stopped = self.console.stopping()
            if isinstance(stopped, Deferred):
                with contextlib.suppress(Exception):
                    await stopped.asFuture(asyncio.get_running_loop())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets the loop turn until something holds: many times, and on a slow machine for some seconds."""
        turns, end = 0, asyncio.get_running_loop().time() + PATIENCE
        while turns < 6000 or asyncio.get_running_loop().time() < end:
            if condition():
                return
            turns += 1
            await asyncio.sleep(0)
        self.fail(f"never came true; the screen is {self.screen.all}")

    async def turn(self) -> None:
        """Lets the loop turn as often as anything here may need."""
        for _ in range(300):
            await asyncio.sleep(0)

    async def press(self, text: str, *, shows: str | None = None, says: str | None = None) -> None:
        """Presses keys, and waits until the row of the cursor is this, or the last row begins so."""
        self.keys.send_text(text)
        if shows is not None:
            await self.until(lambda: self.screen.prompt == shows)
        elif says is not None:
            await self.until(lambda: "".join(self.screen.below[-1:]).startswith(says))
        else:
            await self.turn()

    async def over(self) -> None:
        """Waits for the end."""
        await self.until(lambda: bool(self.ended))
