"""Tests for the inline view: keys through a pipe, the screen as rows. Each runs on an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.display import INDENT
from securechat.client.view import Alert, Answer, Failure, Membership, Message, Notice, Quote, Status
from securechat.client.views.choice import available, choose
from securechat.client.views.entry import MAX_LINE
from securechat.client.views.inline import KEPT, UNREAD, InlineView
from securechat.client.views.wrap import countable, wrapped
from securechat.errors import Exit
from tests.terminals import (
    BACKTAB,
    CTRL_C,
    CTRL_D,
    CTRL_U,
    CTRL_Y,
    DOWN,
    ENTER,
    ESC,
    START,
    TAB,
    UP,
    FakeDesktop,
    TerminalCase,
    pasted,
)

WIDTH = 60
HEIGHT = 20


class PromptCase(TerminalCase):
    """The inline view."""

    def drive(self, steps: Callable[[], Coroutine[Any, Any, None]], **options: Any) -> None:
        """Without the header of a conversation that was opened, and the rows of the bar."""
        super().drive(steps, **{"opened": False, **options})


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
        original = InlineView.start

        def start(view: InlineView, client: FakeDesktop) -> None:
            view.show(Answer(["early"]))
            original(view, client)

        self.patch(InlineView, "start", start)

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
            expected = [f"[general] <bob> {number}" for number in range(150 - HEIGHT + 2, 150)]
            self.assertEqual(expected, self.screen.rows[:-1])
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
        """The bar below tells how things stand."""

        async def steps() -> None:
            self.view.status(Status("alice", "", "offline", 2))
            await self.until(lambda: self.screen.below == ["alice  offline  2 waiting"])
            self.assertEqual("alice>", self.screen.prompt)
            self.view.status(Status("", "", "connecting"))
            await self.until(lambda: self.screen.below == ["connecting"])
            self.assertEqual(">", self.screen.prompt)

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

    def test_links(self) -> None:
        """A link is marked for the terminal, with nothing but itself in the mark; what would show as another is not."""

        async def steps() -> None:
            self.view.show(Message("general", "bob", "see https://a.example/x, https://b\u00fccher.example"))
            await self.until(lambda: "bob" in self.screen.rows[0])
            self.assertEqual(
                ["[general] <bob> see https://a.example/x,", "  https://b\u00fccher.example"], self.screen.rows[:2]
            )
            self.assertEqual(1, self.screen.raw.count("\x1b]8;id="))
            self.assertIn(";https://a.example/x\x1b\\https://a.example/x", self.screen.raw.replace("\x1b[0m", ""))
            self.assertEqual(1, self.screen.raw.count("\x1b]8;;\x1b\\"))

        self.drive(steps)

    def test_no_links_on_the_console(self) -> None:
        """The console of Linux is given none of that."""

        async def steps() -> None:
            self.view.show(Message("general", "bob", "https://a.example/x"))
            await self.until(lambda: "bob" in self.screen.rows[0])
            self.assertNotIn("\x1b]", self.screen.raw)

        self.drive(steps, environ={"TERM": "linux"})

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

        self.drive(steps, environ={"TERM": "xterm", "NO_COLOR": "1"})
        self.drive(steps, color="never")
        self.drive(steps, environ={"TERM": "xterm", "NO_COLOR": ""}, color="never")

    def test_colour_is_stable(self) -> None:
        """A name has one colour, whatever else is said."""

        async def steps() -> None:
            self.view.show(Message("general", "bob", "a"))
            self.view.show(Message("general", "bob", "b", quote=Quote("eve", "x")))
            await self.until(lambda: len(self.screen.rows) == 3)
            painted = [part.rpartition("\x1b[")[2] for part in re.split("<bob(?: to [^>]*)?> ", self.screen.raw)[:2]]
            self.assertEqual(painted[0], painted[1])
            self.assertIn(";1m", painted[0])

        self.drive(steps, color="always", environ={"NO_COLOR": "1"})


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
            await self.until(lambda: any("games" in row for row in self.screen.below))
            await self.press(TAB)
            await self.press(TAB)
            await self.press(ENTER)
            await self.until(lambda: len(self.client.lines) == 1)
            self.assertIn(self.client.lines[0], ("/join general", "/join games"))

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
            self.view._entry.buffer.text = "x" * (MAX_LINE + 1)
            await self.press(ENTER)
            await self.until(lambda: "That is more than" in self.screen.raw)
            self.assertEqual([], self.client.lines)
            self.assertEqual(MAX_LINE + 1, len(self.view._entry.buffer.text))

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
            await self.press(CTRL_C, says="Ctrl-C again leaves")
            await self.press("x", shows="[general] alice> x")
            await self.press(CTRL_C, says="Ctrl-C again leaves")
            self.assertEqual([], self.client.closes)

        self.drive(steps)

    def test_ctrl_c_twice(self) -> None:
        """Twice leaves, a third time at once."""

        async def steps() -> None:
            self.client.closing = Deferred()
            await self.press(CTRL_C)
            await self.press(CTRL_C, says="leaving, Ctrl-C leaves at once")
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

    def test_second_column(self) -> None:
        """What goes on stands below the column it began in, unless there is little room for it."""
        line = "  /links    the newest links of all there are"
        self.assertEqual(["  /links    the newest links", "            of all there are"], self.wrap(line, 30))
        self.assertEqual("  the second", self.wrap("  /reply-a-long-one    the second", 24)[-1])

    def test_countable(self) -> None:
        """What one terminal draws as one and another side by side stands side by side; nothing else is changed."""
        family, hand = "\U0001f468\u200d\U0001f469", "\U0001f44d\U0001f3fd"
        self.assertEqual(
            [("sender", "<bob>"), ("", " \U0001f468\U0001f469 \U0001f44d \uff24\uff25 \u2764 \U0001f3fd")],
            countable([("sender", "<bob>"), ("", f" {family} {hand} \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f3fd")]),
        )
        self.assertEqual([("", "日本 e\u0301 👍")], countable([("", "日本 e\u0301 👍")]))

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


class RoomTests(TerminalCase):
    """Tests for several conversations in the inline view."""

    def test_only_the_active_one(self) -> None:
        """The active conversation and what is private are printed; another room is only counted, in the bar."""

        async def steps() -> None:
            self.client.hears("general", "bob", "one")
            self.client.hears("games", "bob", "two")
            self.client.hears("games", "bob", "three", mention=True)
            self.client.hears("@bob", "bob", "four")
            self.view.show(Membership("games", "carol", "joined"))
            self.view.show(Membership("general", "dan", "joined"))
            await self.until(lambda: "dan" in "".join(self.screen.rows))
            await self.turn()
            shown = ["--- general ---", "[general] <bob> one", "[pm] <bob> four", "[general] * dan joined"]
            await self.until(lambda: self.screen.rows == [*shown, "[general] alice>"])
            self.assertEqual(["alice:general  online  2:games(2!)"], self.screen.below)

        self.drive(steps)

    def test_opened(self) -> None:
        """A header, a line, what had not been read with its times and days, and then it is read; nothing twice."""

        async def steps() -> None:
            day = 24 * 3600
            self.client.hears("games", "bob", "read", ts=START * 1000)
            self.client.markers["games"] = 1
            self.client.rooms[1] = replace(self.client.rooms[1], topic="chess\nonly")
            self.client.hears("games", "bob", "yesterday", ts=(START - day) * 1000)
            self.client.hears("games", "eve", "today", ts=START * 1000)
            self.assertEqual(["general"], self.client.saw)
            await self.press(f"{ESC}2", shows="[games] alice>")
            expected = [
                "--- general ---", "--- games: chess only ---", "--- 2 new ---", "--- Monday, 13 November 2023 ---",
                "22:13 [games] <bob> yesterday", "--- Tuesday, 14 November 2023 ---", "22:13 [games] <eve> today",
            ]  # fmt: skip
            await self.until(lambda: self.screen.rows[:-1] == expected)
            self.assertEqual(["general", "games"], self.client.saw)
            self.client.hears("games", "bob", "now")
            self.view.opened("games")
            await self.until(lambda: self.screen.rows[:-1] == [*expected, "[games] <bob> now"])

        self.drive(steps)

    def test_own_elsewhere(self) -> None:
        """What one said in a room that is not open is printed when it is acknowledged, and not again later."""

        async def steps() -> None:
            self.client.hears("games", "bob", "unread")
            self.view.show(self.client.hears("games", "alice", "mine", own=True))
            await self.press(f"{ESC}2", shows="[games] alice>")
            await self.until(lambda: any("unread" in row for row in self.screen.rows))
            self.assertEqual(1, sum("mine" in row for row in self.screen.rows))

        self.drive(steps)

    def test_folded(self) -> None:
        """Comings and goings that arrive together are one line, unless that is not wanted."""
        for fold, count in (("on", 1), ("off", 5)):
            self.client = FakeDesktop()
            self.client.preferences["fold"] = fold

            async def steps(count: int = count) -> None:
                for name in "abcde":
                    self.view.show(Membership("general", name, "joined"))
                await self.until(lambda: sum("joined" in row for row in self.screen.rows) == count)

            self.drive(steps)

    def test_many_unread(self) -> None:
        """Of more than a screenful the last are printed, and it says how many there are and where the rest is."""

        async def steps() -> None:
            for number in range(UNREAD + 30):
                self.client.hears("games", "bob", f"m{number}.")
            await self.press(f"{ESC}2", shows="[games] alice>")
            await self.until(lambda: f"m{UNREAD + 29}." in "".join(self.screen.rows))
            self.assertIn(f"--- {UNREAD + 30} new ---", self.screen.raw)
            self.assertIn(f"Here are the last {UNREAD} of them; /history has all.", self.screen.raw)
            self.assertNotIn("m29.", self.screen.raw)
            self.assertIn("m30.", self.screen.raw)

        self.drive(steps)

    def test_keys_between_rooms(self) -> None:
        """Each key goes where the table says."""
        keys = {
            "\x0e": "games", "\x10": "@bob", f"{ESC}3": "@bob", f"{ESC}{ESC}[C": "games", f"{ESC}a": "games",
            "\x1b[1;3C": "games", "\x1b[1;3D": "@bob", f"{ESC}<": "games", f"{ESC}>": "@bob", f"{ESC}0": "",
        }  # fmt: skip
        for key, where in keys.items():
            self.client = FakeDesktop()
            self.client.rooms[1] = replace(self.client.rooms[1], unread=1)

            async def steps(key: str = key, where: str = where) -> None:
                await self.press(key)
                self.assertEqual([where] if where else [], self.client.went, repr(key))

            self.drive(steps)

    def test_last_room(self) -> None:
        """Alt+/ goes to and fro."""

        async def steps() -> None:
            await self.press(f"{ESC}2", shows="[games] alice>")
            await self.press(f"{ESC}/", shows="[general] alice>")
            await self.press(f"{ESC}/", shows="[games] alice>")

        self.drive(steps)

    def test_switcher(self) -> None:
        """A few letters choose; on the way nothing is opened or read, and a line half typed stays."""

        async def steps() -> None:
            self.client.hears("games", "bob", "x")
            await self.press("half", shows="[general] alice> half")
            await self.press(f"{ESC}k", shows="Go to:")
            self.assertEqual(">games(1)  @bob", self.screen.below[0])
            await self.press(TAB)
            await self.until(lambda: self.screen.below[0] == "games(1) >@bob")
            await self.press(BACKTAB + DOWN + UP + "gm", shows="Go to: gm")
            self.assertEqual(">games(1)", self.screen.below[0])
            self.assertEqual((["general"], []), (self.client.saw, self.client.went))
            await self.press(ENTER, shows="[games] alice>")
            self.assertEqual(["games"], self.client.went)
            self.assertEqual("half", self.client.drafts["general"])

        self.drive(steps)

    def test_switcher_left(self) -> None:
        """Ctrl-C leaves it, and so does Enter where nothing fits; nobody goes anywhere."""

        async def steps() -> None:
            for keys in (CTRL_C, "xyz" + ENTER):
                await self.press(f"{ESC}k", shows="Go to:")
                await self.press(keys, shows="[general] alice>")
            self.assertEqual([], self.client.went)

        self.drive(steps)

    def test_drafts(self) -> None:
        """What is half typed stays in its conversation, is told to the core soon, and holds no password."""

        async def steps() -> None:
            self.client.drafts["games"] = "from before\x1b[2J"
            await self.press("half a line", shows="[general] alice> half a line")
            self.clock.advance(1)
            self.assertEqual("half a line", self.client.drafts["general"])
            await self.press(f"{ESC}2", shows="[games] alice> from before\ufffd[2J")
            await self.press(f"{ESC}1", shows="[general] alice> half a line")
            await self.press(CTRL_U + "/login alice hunter2")
            self.clock.advance(1)
            self.assertEqual("", self.client.drafts["general"])

        self.drive(steps)

    def test_what_waits(self) -> None:
        """What was typed and has to wait stands above the line being typed, cleaned; what is on its way does not."""

        def waiting() -> list[str]:
            return [row for row in self.screen.rows if "wait" in row or "retry" in row]

        async def steps() -> None:
            self.client.waiting["general"] = [("on its way", "sending")]
            self.client.tell(waiting=1)
            await self.press("x", shows="[general] alice> x")
            self.assertNotIn("on its way", "\n".join(self.screen.rows))
            said = [(f"line {number}\x1b[2J", "waiting") for number in range(4)] + [("no", "held")]
            self.client.waiting["general"] = said
            self.client.tell(waiting=5, link="offline")
            expected = [
                "… 2 more wait", "<alice> line 2\ufffd[2J (waiting)", "<alice> line 3\ufffd[2J (waiting)",
                "<alice> no (not sent: /retry)",
            ]  # fmt: skip
            await self.until(lambda: waiting() == expected)
            self.client.waiting["general"] = []
            self.client.tell(waiting=0, link="online")
            await self.until(lambda: not waiting())

        self.drive(steps)

    def test_draft_that_was_sent(self) -> None:
        """A line that was sent, or deleted, does not come back as a draft when the room is opened again."""

        async def steps() -> None:
            for keys in (ENTER, CTRL_U):
                await self.press("said and done", shows="[general] alice> said and done")
                self.clock.advance(1)
                self.assertEqual("said and done", self.client.drafts["general"])
                await self.press(keys, shows="[general] alice>")
                self.view.opened("general")
                await self.turn()
                self.assertEqual("[general] alice>", self.screen.prompt)
                self.clock.advance(1)
                self.assertEqual("", self.client.drafts["general"])

        self.drive(steps)

    def test_draft_from_elsewhere(self) -> None:
        """One from another device comes into an empty line, and never over what is typed here."""

        async def steps() -> None:
            self.client.drafts["general"] = "from the other"
            self.view.opened("general")
            await self.press("", shows="[general] alice> from the other")
            self.client.drafts["general"] = "another"
            self.view.opened("general")
            await self.turn()
            self.assertEqual("[general] alice> from the other", self.screen.prompt)

        self.drive(steps)

    def test_countdown(self) -> None:
        """The seconds to the next attempt count down; the clock turns only while there is something to count."""

        async def steps() -> None:
            self.assertEqual([], self.clock.getDelayedCalls())
            self.client.tell(link="offline", retry_at=START + 3.0)
            await self.until(lambda: "offline, next try in 3 s" in "".join(self.screen.below))
            self.clock.advance(1)
            await self.until(lambda: "offline, next try in 2 s" in "".join(self.screen.below))
            self.clock.advance(1)
            self.clock.advance(1)
            await self.until(lambda: self.screen.below[-1:] == ["alice:general  offline"])
            self.assertEqual([], self.clock.getDelayedCalls())
            self.client.tell(link="online", retry_at=START + 30.0)
            await self.until(lambda: self.screen.below[-1:] == ["alice:general  online"])
            self.assertEqual([], self.clock.getDelayedCalls())

        self.drive(steps)

    def test_bar_is_cleaned(self) -> None:
        """No name of a room, person or typist moves the cursor or begins a row."""
        evil = "x\x1b[2J\x9b31m\n\u202ey"

        async def steps() -> None:
            self.client.rooms[1] = replace(self.client.rooms[1], where=evil, unread=1, topic=evil)
            self.client.tell(typing=(evil,), work=evil)
            self.view.ask(evil)
            await self.until(lambda: len(self.screen.below) == 1)
            await self.press(CTRL_C + f"{ESC}k")
            await self.press(CTRL_C)
            self.client.drafts[evil] = evil
            await self.press(f"{ESC}2")
            for sequence in ("\x1b[2J", "\x9b", "\u202e"):
                self.assertNotIn(sequence, self.screen.raw)
            self.assertLessEqual(len(self.screen.below), 1)

        self.drive(steps)

    def test_alert(self) -> None:
        """An alert rings the bell, or goes to the notifier that is given."""
        alert = Alert("games", "bob", "bob in games")

        async def steps() -> None:
            self.view.alert(alert)
            self.assertEqual([], self.alerts)
            self.assertEqual("\a", self.screen.raw[-1])

        self.drive(steps)

        async def given() -> None:
            before = self.screen.raw
            self.view.alert(alert)
            self.assertEqual([alert], self.alerts)
            self.assertNotIn("\a", self.screen.raw[len(before) :])

        self.drive(given, notifier=lambda alert: self.alerts.append(alert))


class PasteTests(PromptCase):
    """Tests for pasting: no pasted line break ever sends."""

    def test_little(self) -> None:
        """One short line is put where the cursor is."""

        async def steps() -> None:
            await self.press("a" + pasted("b c") + "d", shows="[general] alice> ab cd")
            self.assertEqual([], self.client.lines)

        self.drive(steps)

    def test_yes(self) -> None:
        """Several lines are one message, in order, with what was typed already."""

        async def steps() -> None:
            await self.press("see: " + pasted("one\r\ntwo\nthree\n"))
            await self.until(lambda: "You pasted 3 lines, 13 bytes." in " ".join(self.screen.rows))
            self.assertEqual([], self.client.lines)
            await self.press("m" + ENTER, shows="[general] alice>")
            await self.until(lambda: self.client.lines == ["see: one\ntwo\nthree"])

        self.drive(steps)

    def test_edit(self) -> None:
        """It comes into the line being typed, and Enter sends it as one."""

        async def steps() -> None:
            await self.press(pasted("one\ntwo"))
            await self.press("edit" + ENTER)
            await self.until(lambda: self.screen.rows[-2:] == ["[general] alice> one", INDENT + "two"])
            self.assertEqual([], self.client.lines)
            await self.press(ENTER)
            await self.until(lambda: self.client.lines == ["one\ntwo"])

        self.drive(steps)

    def test_no(self) -> None:
        """Anything else leaves the line as it was, and so does an end."""

        async def steps() -> None:
            for keys in ("no" + ENTER, ENTER, CTRL_C):
                await self.press("half" + pasted("one\ntwo"))
                await self.press(keys, shows="[general] alice> half")
                await self.press(CTRL_U)
            self.assertEqual([], self.client.lines)

        self.drive(steps)

    def test_no_command(self) -> None:
        """A pasted text is never a command by its first line; behind a command that was typed it is its argument."""

        async def steps() -> None:
            await self.press(pasted("/kick bob\nhello"))
            await self.press("message" + ENTER)
            await self.until(lambda: self.client.lines == ["//kick bob\nhello"])
            await self.press("/code " + pasted("a\nb"))
            await self.press("message" + ENTER)
            await self.until(lambda: self.client.lines[1:] == ["/code a\nb"])
            await self.press("typed before" + "\x01" + pasted("/leave\nnow "))
            await self.press("message" + ENTER)
            await self.until(lambda: self.client.lines[2:] == ["//leave\nnow typed before"])

        self.drive(steps)

    def test_into_a_question(self) -> None:
        """A pasted answer has no line break at its end, and no question of its own."""

        async def steps() -> None:
            answer = self.view.ask_secret("Password:")
            await self.press(pasted("hunter2\n"), shows="Password: *******")
            await self.press(ENTER)
            self.assertEqual("hunter2", self.successResultOf(answer))

        self.drive(steps)

    def test_code(self) -> None:
        """It may be sent as code, its lines as they stand."""

        async def steps() -> None:
            await self.press(pasted("  if x:\n    y()"))
            await self.press("code" + ENTER)
            await self.until(lambda: self.client.lines == ["```\n  if x:\n    y()\n```"])

        self.drive(steps)


class EditorTests(PromptCase):
    """Tests for writing in an editor."""

    def editor(self, script: str) -> dict[str, str]:
        """An environment whose editor is a shell script; ``$1`` is the file."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(path, 0o700)
        return {"VISUAL": os.path.abspath(path), "EDITOR": "/nonexistent"}

    async def patiently(self, condition: Callable[[], bool]) -> None:
        """Waits for another process."""
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.005)
        self.fail(f"never came true; the screen is {self.screen.all}")

    def test_edited(self) -> None:
        """What the editor leaves comes back, cleaned, and the private file is gone; what arrived meanwhile is shown."""
        seen = os.path.abspath(self.mktemp())
        script = f'ls -l "$1" > {seen}; dirname "$1" >> {seen}; printf "two\\033[2J\\nthree\\n" >> "$1"'

        async def steps() -> None:
            await self.press("one", shows="[general] alice> one")
            self.keys.send_text("\x0f")
            await self.until(lambda: self.view._away)
            self.view.show(Notice("meanwhile"))
            await self.patiently(lambda: not self.view._away)
            await self.until(lambda: self.screen.prompt == INDENT + "three")
            self.assertEqual(["* meanwhile", "[general] alice> onetwo\ufffd[2J"], self.screen.rows[-3:-1])
            with open(seen, encoding="utf-8") as file:
                listed, directory = file.read().splitlines()
            self.assertTrue(listed.startswith("-rw-------"), listed)
            self.assertFalse(os.path.exists(directory))
            await self.press(ENTER)
            await self.until(lambda: self.client.lines == ["onetwo\ufffd[2J\nthree"])

        self.drive(steps, environ=self.editor(script))

    def test_failed(self) -> None:
        """An editor that fails, or is not there, leaves the line as it was, and it is said what to do."""
        for environ, said in (
            (self.editor('echo x > "$1"; exit 3'), "ended with status 3. The message is as it was."),
            ({"EDITOR": "/nonexistent/editor"}, "Set VISUAL or EDITOR to another."),
            ({"EDITOR": "'"}, "No editor was found. Set VISUAL or EDITOR"),
        ):

            async def steps(said: str = said) -> None:
                await self.press("one", shows="[general] alice> one")
                await self.press("\x18\x05")
                await self.patiently(lambda: said in " ".join(" ".join(self.screen.rows).split()))
                await self.until(lambda: self.screen.prompt == "[general] alice> one")

            self.drive(steps, environ=environ, size=(200, 20))

    def test_ended_meanwhile(self) -> None:
        """Where the client has to go, the editor goes too, and nothing of the text stays on the disk."""
        seen = os.path.abspath(self.mktemp())

        async def steps() -> None:
            await self.press("secret plans", shows="[general] alice> secret plans")
            self.keys.send_text("\x0f")
            await self.patiently(lambda: os.path.exists(seen) and os.path.getsize(seen) > 0)
            with open(seen, encoding="utf-8") as file:
                pid, directory = file.read().split()
            stopped = self.console.stopping()
            assert isinstance(stopped, Deferred)
            await self.patiently(lambda: stopped.called)
            self.assertFalse(os.path.exists(directory))
            await self.patiently(lambda: not os.path.exists(f"/proc/{pid}"))
            self.assertTrue(self.console.restored)

        self.drive(steps, environ=self.editor(f'echo $$ "$(dirname "$1")" > {seen}; exec sleep 60'))


class ChoiceTests(SynchronousTestCase):
    """Tests for which view is used."""

    def test_choose(self) -> None:
        """Who asks for the plain view is not told why they get it; who asks for another one is."""
        self.assertEqual(("plain", None), choose("plain", object(), {"TERM": "xterm"}))
        for ui in ("auto", "inline", "full"):
            name, why = choose(ui, object(), {"TERM": "xterm"})
            self.assertEqual("plain", name)
            self.assertNotIn("\n", why or "\n")
