"""Tests for the prompt view: keys through a pipe, the screen as rows. Each runs on an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC
from typing import Any

import pyte
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securechat.client import commands
from securechat.client.display import INDENT
from securechat.client.view import Answer, Failure, Message, Notice, Status
from securechat.client.views.console import Console
from securechat.client.views.prompt import KEPT, MAX_LINE, PromptView, available
from securechat.client.views.wrap import wrapped
from securechat.errors import Exit

WIDTH = 60
HEIGHT = 20

TAB, ENTER, UP, CTRL_C, CTRL_D, CTRL_U, CTRL_Y = "\t", "\r", "\x1b[A", "\x03", "\x04", "\x15", "\x19"


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


class FakeClient:
    """Remembers the lines; the close may be held up."""

    def __init__(self) -> None:
        self.exiting = False
        self.lines: list[str] = []
        self.closing: Deferred[Exit] = succeed(Exit.OK)
        self.closes: list[float] = []

    def submit(self, line: str) -> Deferred[Exit]:
        self.lines.append(line)
        self.exiting = line == "/exit"
        return succeed(Exit.OK)

    def close(self, timeout: float) -> Deferred[Exit]:
        self.closes.append(timeout)
        return self.closing

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        return commands.completions(text, ["general", "games"], ["bob", "alice"])


class Screen:
    """A terminal that turns what is written into rows."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.raw = ""
        self._screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self._screen)

    def write(self, data: str) -> int:
        self.raw += data
        self._stream.feed(data)
        return len(data)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    @property
    def rows(self) -> list[str]:
        """The rows that are not empty, from the top."""
        return [row.rstrip() for row in self._screen.display if row.strip()]


class PromptCase(SynchronousTestCase):
    """A view on a faked terminal."""

    def drive(self, steps: Callable[[], Coroutine[Any, Any, None]], depth: ColorDepth | None = None) -> None:
        """Starts a view, runs the steps of a test beside it, and leaves nothing running."""
        loop = asyncio.new_event_loop()
        with create_pipe_input() as keys:
            self.keys: PipeInput = keys
            self.screen = Screen()
            self.clock = Clock()
            self.console = FakeConsole()
            self.client = FakeClient()
            self.ended: list[Exit] = []
            output = Vt100_Output(
                self.screen,  # type: ignore[arg-type]
                lambda: Size(rows=HEIGHT, columns=WIDTH),
                term="xterm",
                default_color_depth=depth,
                enable_cpr=False,
            )
            self.view = PromptView(
                self.clock, done=self.ended.append, tz=UTC, console=self.console, input=keys, output=output
            )
            self.view.status(Status("alice", "general", "online"))
            try:
                loop.run_until_complete(self._started(steps()))
            finally:
                loop.close()

    async def _started(self, steps: Awaitable[None]) -> None:
        self.view.start(self.client)
        self.clock.advance(0)
        await self.until(lambda: self.screen.rows[-1:] == ["[general] alice>"])
        try:
            await steps
        finally:
            stopped = self.console.stopping()
            if isinstance(stopped, Deferred):
                with contextlib.suppress(Exception):
                    await stopped.asFuture(asyncio.get_running_loop())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets the loop turn until something holds."""
        for _ in range(20_000):
            if condition():
                return
            await asyncio.sleep(0)
        self.fail(f"never came true; the screen is {self.screen.rows}")

    async def turn(self) -> None:
        """Lets the loop turn as often as anything here may need."""
        for _ in range(300):
            await asyncio.sleep(0)

    async def press(self, text: str, *, shows: str | None = None) -> None:
        """Presses keys, and waits until the last row ends so."""
        self.keys.send_text(text)
        if shows is None:
            await self.turn()
        else:
            await self.until(lambda: "".join(self.screen.rows[-1:]) == shows)

    async def over(self) -> None:
        """Waits for the end."""
        await self.until(lambda: bool(self.ended))


class ScreenTests(PromptCase):
    """Tests for what is on the screen."""

    def test_message_above_the_line(self) -> None:
        """What arrives stands above the line being typed, which stays."""

        async def steps() -> None:
            await self.press("hello wor", shows="[general] alice> hello wor")
            self.view.show(Message("general", "bob", "hi"))
            self.view.show(Notice("n"))
            await self.until(lambda: len(self.screen.rows) == 3)
            await self.press("ld", shows="[general] alice> hello world")
            self.assertEqual(["[general] <bob> hi", "* n", "[general] alice> hello world"], self.screen.rows)

        self.drive(steps)

    def test_shown_before_the_start(self) -> None:
        """What is shown before there is a prompt is printed first."""
        original = PromptView.start

        def start(view: PromptView, client: FakeClient) -> None:
            view.show(Answer(["early"]))
            original(view, client)

        self.patch(PromptView, "start", start)

        async def steps() -> None:
            await self.until(lambda: self.screen.rows == ["early", "[general] alice>"])

        self.drive(steps)

    def test_one_redraw_for_many(self) -> None:
        """Many items of one turn are printed together, in order."""

        async def steps() -> None:
            await self.press("typing", shows="[general] alice> typing")
            before = self.screen.raw.count("alice>")
            for number in range(150):
                self.view.show(Message("general", "bob", str(number)))
            await self.until(lambda: "149" in "".join(self.screen.rows[-2:]))
            await self.until(lambda: self.screen.rows[-1] == "[general] alice> typing")
            expected = [f"[general] <bob> {number}" for number in range(150 - HEIGHT + 1, 150)]
            self.assertEqual(expected, self.screen.rows[:-1][-HEIGHT + 1 :])
            self.assertLessEqual(self.screen.raw.count("alice>") - before, 2)

        self.drive(steps)

    def test_flood(self) -> None:
        """Of more than can be read the oldest are left out, and it is said."""

        async def steps() -> None:
            for number in range(KEPT + 5):
                self.view.show(Answer([f"m{number}"]))
            await self.until(lambda: f"m{KEPT + 4}" in self.screen.rows)
            self.assertIn("* 5 lines came too fast to be shown.", self.screen.raw)
            self.assertNotIn("m4\r", self.screen.raw)
            self.assertIn("m5\r", self.screen.raw)

        self.drive(steps)

    def test_status(self) -> None:
        """The prompt tells what is not as usual."""

        async def steps() -> None:
            self.view.status(Status("alice", "", "offline, retry in 8 s", 2))
            await self.until(lambda: self.screen.rows == ["alice (offline, retry in 8 s, 2 waiting)>"])
            self.view.status(Status("", "", "connecting"))
            await self.until(lambda: self.screen.rows == ["(connecting)>"])

        self.drive(steps)

    def test_escape_sequences(self) -> None:
        """No text moves the cursor, clears the screen or closes the alphabet."""
        evil = "\x1b[2J\x1b[H\x1b]0;title\x07\x9b31m\x0e\r[general] <bob> x"

        async def steps() -> None:
            self.view.show(Answer(["above"]))
            self.view.show(Message("general", "mallory", evil))
            self.view.status(Status(evil, evil, evil))
            await self.until(lambda: len(self.screen.rows) > 3)
            self.assertEqual("above", self.screen.rows[0])
            self.assertTrue(self.screen.rows[1].startswith("[general] <mallory> \ufffd[2J"))
            for sequence in ("\x1b[2J", "\x1b[H", "\x1b]", "\x9b", "\x0e"):
                self.assertNotIn(sequence, self.screen.raw)

        self.drive(steps)

    def test_markup(self) -> None:
        """Nothing in a text is markup."""

        async def steps() -> None:
            self.view.show(Message("general", "<b>", "<ansired>red</ansired> &amp; {x} %s"))
            await self.until(lambda: len(self.screen.rows) == 2)
            self.assertEqual("[general] <\ufffdb\ufffd> <ansired>red</ansired> &amp; {x} %s", self.screen.rows[0])

        self.drive(steps)

    def test_nobody_else_at_the_left_edge(self) -> None:
        """Neither a line break nor a full row lets a text begin a row as somebody's message or as the prompt."""
        lines = (
            "a\n[general] <bob> one",
            "x" * (WIDTH - len("[general] <eve> ")) + "[general] <bob> two",
            "x " * 20 + " " * 70 + "[general] <bob> three",
            "日" * 22 + "[general] <bob> four",
        )

        async def steps() -> None:
            for line in lines:
                self.view.show(Message("general", "eve", line))
            await self.until(lambda: "four" in "".join(self.screen.rows))
            await self.until(lambda: self.screen.rows[-1] == "[general] alice>")
            for row in self.screen.rows[:-1]:
                self.assertTrue(row.startswith(("[general] <eve>", INDENT)), row)

        self.drive(steps)

    def test_no_colour(self) -> None:
        """Without colours names are still there, bold."""

        async def steps() -> None:
            self.view.show(Message("general", "bob", "hi"))
            self.view.show(Failure("no"))
            await self.until(lambda: len(self.screen.rows) == 3)
            self.assertEqual(["[general] <bob> hi", "! no"], self.screen.rows[:2])
            for code in range(30, 38):
                self.assertNotIn(f";{code}m", self.screen.raw)
                self.assertNotIn(f"[{code}m", self.screen.raw)

        self.drive(steps, ColorDepth.DEPTH_1_BIT)

    def test_colour_is_stable(self) -> None:
        """A name has one colour, whatever else is said."""

        async def steps() -> None:
            for text in ("a", "b"):
                self.view.show(Message("general", "bob", text))
            await self.until(lambda: len(self.screen.rows) == 3)
            painted = [part.rpartition("\x1b[")[2] for part in self.screen.raw.split("<bob> ")[:2]]
            self.assertEqual(painted[0], painted[1])
            self.assertIn(";1m", painted[0])

        self.drive(steps, ColorDepth.DEPTH_4_BIT)


class TypingTests(PromptCase):
    """Tests for the line being typed."""

    def test_enter(self) -> None:
        """A line is submitted, and the prompt is empty."""

        async def steps() -> None:
            await self.press("hello" + ENTER, shows="[general] alice>")
            await self.until(lambda: self.client.lines == ["hello"])

        self.drive(steps)

    def test_blank(self) -> None:
        """A blank line is no message."""

        async def steps() -> None:
            await self.press("  " + ENTER + ENTER)
            self.assertEqual([], self.client.lines)

        self.drive(steps)

    def test_command_stays_readable(self) -> None:
        """A command is repeated above its answer, without a password."""

        async def steps() -> None:
            await self.press("/login alice hunter2" + ENTER)
            await self.until(lambda: self.screen.rows == ["> /login alice", "[general] alice>"])
            self.assertEqual(["/login alice hunter2"], self.client.lines)
            self.assertNotIn("hunter2", self.screen.raw)

        self.drive(steps)

    def test_password_on_the_line(self) -> None:
        """It is hidden while it is typed."""

        async def steps() -> None:
            for key in "/login alice pw x":
                await self.press(key)
            await self.press("", shows="[general] alice> /login alice ** *")

        self.drive(steps)

    def test_history(self) -> None:
        """Up brings back what was typed, but no password."""

        async def steps() -> None:
            await self.press("hello" + ENTER)
            await self.press("/login alice hunter2" + ENTER)
            await self.until(lambda: len(self.client.lines) == 2)
            await self.press("", shows="[general] alice>")
            await self.press(UP, shows="[general] alice> /login alice")
            await self.press(UP, shows="[general] alice> hello")

        self.drive(steps)

    def test_completion(self) -> None:
        """Tab completes what is certain."""

        async def steps() -> None:
            await self.press("/jo" + TAB, shows="[general] alice> /join")
            await self.press("ga" + TAB, shows="[general] alice> /join games")
            await self.press(ENTER)
            await self.until(lambda: [line.strip() for line in self.client.lines] == ["/join games"])

        self.drive(steps)

    def test_completion_menu(self) -> None:
        """Tab again takes the next of several."""

        async def steps() -> None:
            await self.press("/join " + TAB)
            await self.until(lambda: any("games" in row for row in self.screen.rows))
            await self.press(TAB)
            await self.press(TAB)
            await self.press(ENTER)
            await self.until(lambda: len(self.client.lines) == 1)
            self.assertIn(self.client.lines[0], ("/join general", "/join games"))

        self.drive(steps)

    def test_paste(self) -> None:
        """Several pasted lines are one message."""

        async def steps() -> None:
            await self.press("\x1b[200~one\r\ntwo\nthree\x1b[201~")
            self.assertEqual([], self.client.lines)
            await self.press(ENTER)
            await self.until(lambda: self.client.lines == ["one\ntwo\nthree"])

        self.drive(steps)

    def test_newline(self) -> None:
        """Alt+Enter begins a new line in the message."""

        async def steps() -> None:
            await self.press("one\x1b\rtwo" + ENTER)
            await self.until(lambda: self.client.lines == ["one\ntwo"])

        self.drive(steps)

    def test_too_long(self) -> None:
        """Too much is refused and stays, to be made shorter."""

        async def steps() -> None:
            self.view._buffer.text = "x" * (MAX_LINE + 1)
            await self.press(ENTER)
            await self.until(lambda: "That is more than" in self.screen.raw)
            self.assertEqual([], self.client.lines)
            self.assertEqual(MAX_LINE + 1, len(self.view._buffer.text))

        self.drive(steps)


class LeavingTests(PromptCase):
    """Tests for every way out."""

    def test_exit(self) -> None:
        """/exit closes the client, and the prompt is gone when the view is done."""

        async def steps() -> None:
            await self.press("/exit" + ENTER)
            await self.over()
            self.assertEqual(([30.0], [Exit.OK]), (self.client.closes, self.ended))
            self.assertEqual(["> /exit"], self.screen.rows)
            self.assertTrue(self.console.restored)

        self.drive(steps)

    def test_last_words(self) -> None:
        """What the close has to say is printed before the end; what comes after it is not."""

        async def steps() -> None:
            self.client.closing = Deferred()
            await self.press("/exit" + ENTER)
            await self.until(lambda: bool(self.client.closes))
            self.view.show(Failure("not acknowledged: 2 messages"))
            self.client.closing.callback(Exit.NETWORK)
            await self.over()
            self.view.show(Notice("too late"))
            await self.turn()
            self.assertEqual(["> /exit", "! not acknowledged: 2 messages"], self.screen.rows)
            self.assertEqual([Exit.NETWORK], self.ended)

        self.drive(steps)

    def test_ctrl_c_clears(self) -> None:
        """Ctrl-C clears the line; typing on takes the warning away."""

        async def steps() -> None:
            await self.press("hello", shows="[general] alice> hello")
            await self.press(CTRL_C, shows="[general] alice (Ctrl-C again leaves)>")
            await self.press("x", shows="[general] alice> x")
            await self.press(CTRL_C, shows="[general] alice (Ctrl-C again leaves)>")
            self.assertEqual([], self.client.closes)

        self.drive(steps)

    def test_ctrl_c_twice(self) -> None:
        """Twice leaves, a third time at once."""

        async def steps() -> None:
            self.client.closing = Deferred()
            await self.press(CTRL_C)
            await self.press(CTRL_C, shows="[general] alice (leaving, Ctrl-C leaves at once)>")
            self.assertEqual(([30.0], []), (self.client.closes, self.ended))
            await self.press(CTRL_C)
            await self.over()
            self.assertEqual([Exit.INTERRUPTED], self.ended)

        self.drive(steps)

    def test_ctrl_d(self) -> None:
        """Ctrl-D on an empty line leaves; elsewhere it deletes."""

        async def steps() -> None:
            await self.press("ab\x01" + CTRL_D, shows="[general] alice> b")
            await self.press(CTRL_C)
            await self.press(CTRL_D)
            await self.over()
            self.assertEqual([Exit.OK], self.ended)

        self.drive(steps)

    def test_terminal_gone(self) -> None:
        """An input that ends is a person who is gone."""

        async def steps() -> None:
            self.keys.close()
            await self.over()
            self.assertEqual(([0.0], [Exit.INTERRUPTED]), (self.client.closes, self.ended))

        self.drive(steps)

    def test_hang_up(self) -> None:
        """The signal says the same."""

        async def steps() -> None:
            self.console.hangup()
            await self.over()
            self.assertEqual([Exit.INTERRUPTED], self.ended)

        self.drive(steps)

    def test_reactor_stops(self) -> None:
        """The reactor waits until the prompt is gone; the view does not say that it is done."""

        async def steps() -> None:
            answer = self.view.ask("Sure?")
            stopped = self.console.stopping()
            assert isinstance(stopped, Deferred)
            await self.until(lambda: stopped.called)
            self.assertIsNone(self.successResultOf(answer))
            self.assertEqual([], self.screen.rows)
            self.assertTrue(self.console.restored)
            self.assertEqual([], self.ended)
            self.assertIsNone(self.console.stopping())

        self.drive(steps)


class QuestionTests(PromptCase):
    """Tests for asking."""

    def test_ask(self) -> None:
        """The question stands in the place of the prompt; a line half typed comes back."""

        async def steps() -> None:
            await self.press("half a li", shows="[general] alice> half a li")
            answer = self.view.ask("Trust \x1b[2J bob?")
            await self.until(lambda: self.screen.rows == ["Trust \ufffd[2J bob?"])
            await self.press("yes" + ENTER, shows="[general] alice> half a li")
            self.assertEqual("yes", self.successResultOf(answer))
            await self.press("ne" + ENTER)
            await self.until(lambda: self.client.lines == ["half a line"])

        self.drive(steps)

    def test_ask_secret(self) -> None:
        """Asterisks; and no way to get at it afterwards: history, clipboard."""

        async def steps() -> None:
            answer = self.view.ask_secret("Password: ")
            await self.press("hunter3" + CTRL_U)
            await self.press("hunter2", shows="Password: *******")
            self.view.show(Notice("meanwhile"))
            await self.until(lambda: self.screen.rows == ["* meanwhile", "Password: *******"])
            await self.press(ENTER, shows="[general] alice>")
            self.assertEqual("hunter2", self.successResultOf(answer))
            await self.press(UP)
            await self.press(CTRL_Y)
            await self.press("\x1f\x1f", shows="[general] alice>")
            self.assertNotIn("hunter", self.screen.raw)
            self.assertEqual([], self.client.lines)

        self.drive(steps)

    def test_no_completion(self) -> None:
        """An answer is not completed."""

        async def steps() -> None:
            self.view.ask("Name?")
            await self.press("/jo" + TAB, shows="Name? /jo")

        self.drive(steps)

    def test_declined(self) -> None:
        """Ctrl-C, and Ctrl-D on an empty line, decline, and no more."""

        async def steps() -> None:
            for key in (CTRL_C, CTRL_D):
                answer = self.view.ask("Sure?")
                await self.press("", shows="Sure?")
                await self.press(key, shows="[general] alice>")
                self.assertIsNone(self.successResultOf(answer))
            self.assertEqual([], self.client.closes)

        self.drive(steps)

    def test_one_after_the_other(self) -> None:
        """Two questions; the draft comes back behind both."""

        async def steps() -> None:
            await self.press("draft", shows="[general] alice> draft")
            first, second = self.view.ask("One?"), self.view.ask_secret("Two?")
            await self.press("1" + ENTER, shows="Two?")
            await self.press("2" + ENTER, shows="[general] alice> draft")
            self.assertEqual(("1", "2"), (self.successResultOf(first), self.successResultOf(second)))

        self.drive(steps)


class WrapTests(SynchronousTestCase):
    """Tests for `wrapped`."""

    def wrap(self, text: str, width: int = 20) -> list[str]:
        """The rows of a text."""
        return ["".join(part for _, part in row) for row in wrapped([("", text)], width)]

    def test_short(self) -> None:
        """What fits stays, an empty row too."""
        self.assertEqual(["hello"], self.wrap("hello"))
        self.assertEqual([""], self.wrap(""))

    def test_words(self) -> None:
        """A row ends between words."""
        self.assertEqual(
            ["the quick brown fox", "  jumps over the", "  lazy dog"],
            self.wrap("the quick brown fox jumps over the lazy dog"),
        )

    def test_long_word(self) -> None:
        """A word that does not fit is cut."""
        self.assertEqual(["x" * 20, "  " + "x" * 18, "  xx"], self.wrap("x" * 40))

    def test_wide(self) -> None:
        """What takes two columns counts for two, and what takes none is not torn off."""
        self.assertEqual(["日" * 10, "  日"], self.wrap("日" * 11))
        self.assertEqual(["e\u0301" * 20, "  e\u0301"], self.wrap("e\u0301" * 21))

    def test_link(self) -> None:
        """A link stays whole; a text that only looks like one does not."""
        link = "https://example.org/" + "x" * 30
        self.assertEqual(["see", "  " + link, "  there"], self.wrap(f"see {link} there"))
        fake = "https://x" + "x" * 11 + "[general] <bob> y"
        self.assertEqual(["https://x" + "x" * 11, "  [general] <bob> y"], self.wrap(fake))

    def test_nothing_lost(self) -> None:
        """Every word arrives, in order, whatever the width."""
        text = "a bc  def 日本 " * 20 + "https://example.org/x"
        for width in range(20, 60):
            self.assertEqual(text.split(), " ".join(self.wrap(text, width)).split(), width)

    def test_kinds(self) -> None:
        """A colour that crosses a break goes on behind it."""
        self.assertEqual(
            [[("sender", "x" * 20)], [("", INDENT), ("sender", "xx"), ("", "y")]],
            wrapped([("sender", "x" * 22), ("", "y")], 20),
        )


class AvailableTests(SynchronousTestCase):
    """Tests for `available`; a real terminal is in the integration tests."""

    def test_not_here(self) -> None:
        """A reason in one line, whatever the tests run on."""
        reason = available(object(), {"TERM": "xterm"})
        assert reason is not None
        self.assertNotIn("\n", reason)

    def test_dumb(self) -> None:
        """A dumb terminal, or none, gets the plain view."""
        for environ in ({}, {"TERM": ""}, {"TERM": "dumb"}):
            self.assertIsNotNone(available(object(), environ))
