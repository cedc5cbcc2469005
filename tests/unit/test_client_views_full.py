"""Tests for the full view: its panes, what is shown in place, scrolling, and what a redraw costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, overload

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.view import (
    Answer,
    Changed,
    Failure,
    Item,
    Membership,
    Message,
    Notice,
    Quote,
    RoomState,
    Status,
    Unshown,
)
from securechat.client.views import bars
from securechat.client.views.full import FullView
from securechat.client.views.locals import KEPT, Locals
from securechat.client.views.viewport import Local, Viewport
from securechat.errors import BUSY, Exit, Refused
from tests.terminals import CTRL_C, CTRL_D, ENTER, ESC, START, TAB, FakeDesktop, TerminalCase

PGUP, PGDN, HOME, END = "\x1b[5~", "\x1b[6~", "\x1b[1;3H", "\x1b[1;3F"
DAY = 24 * 3600


def said(seq: int, text: str = "", **more: Any) -> Message:
    """A message of bob's; ten a second."""
    return replace(Message("general", "bob", text or f"m{seq}", seq=seq, ts=START * 1000 + seq * 100), **more)


class FullCase(TerminalCase):
    """The full view, wide enough for every pane."""

    kind = FullView
    width, height = 110, 24

    @property
    def middle(self) -> list[str]:
        """What stands in the messages' part of the screen."""
        rows = [row.split("│")[1] if row.count("│") == 2 else row for row in self.screen.all]
        return [row.strip() for row in rows[1 : self.screen.screen.cursor.y - 1] if row.strip()]

    async def shows(self, *rows: str) -> None:
        """Waits until the messages' part ends so."""
        await self.until(lambda: self.middle[-len(rows) :] == list(rows))


class ScreenTests(FullCase):
    """Tests for what stands where."""

    def test_panes(self) -> None:
        """Rooms with number and marks, messages with times, members, a title, the bar, a line to type; and no mouse."""

        async def steps() -> None:
            self.client.rooms = [
                RoomState("general", active=True, topic="all of it"),
                RoomState("games", unread=3, mentions=1, stopped=True),
                RoomState("ops", unread=2, muted=True, draft=True),
            ]
            self.client.tell(typing=("bob",), waiting=2)
            self.client.hears("general", "bob", "hello")
            await self.until(lambda: "hello" in self.screen.raw)
            await self.until(lambda: "2 waiting" in self.screen.all[-2])
            self.assertTrue(self.screen.all[0].startswith(" general - all of it"))
            left = [" ".join(row.split("│")[0].split()) for row in self.screen.all[1:4]]
            self.assertEqual(["> 1:general", "2:games (3!) [!]", "3:ops (2) muted ~"], left)
            right = [row.split("│")[2] for row in self.screen.all[1:3]]
            self.assertEqual([" alice owner", " bob"], right)
            await self.shows("--- Tuesday, 14 November 2023 ---", "22:13  <bob> hello")
            bar = " alice:general  online  2 waiting  2:games(3!)  bob is typing"
            self.assertEqual(bar, self.screen.all[-2])
            self.assertEqual("[general] alice>", self.screen.all[-1])
            for mode in ("1000", "1002", "1003", "1006"):
                self.assertNotIn(f"\x1b[?{mode}h", self.screen.raw)

        self.drive(steps)

    def test_narrow(self) -> None:
        """A narrow terminal has no lists, and a very small one still shows what is said."""
        for size in ((60, 10), (30, 5)):

            async def steps(size: tuple[int, int] = size) -> None:
                self.client.hears("general", "bob", "hello there")
                await self.until(lambda: "<bob> hello" in "".join(self.screen.all))
                self.assertNotIn("│", "".join(self.screen.all))
                self.assertNotIn("too small", "".join(self.screen.all))

            self.client = FakeDesktop()
            self.drive(steps, size=size)

    def test_in_place(self) -> None:
        """Edits, deletions and reactions show in the message itself; nothing is shown beside it."""

        async def steps() -> None:
            self.client.hears("general", "bob", "one")
            two = self.client.hears("general", "bob", "two", quote=Quote("alice", "hi"))
            await self.shows("22:13  <bob> one", '22:13  <bob to alice "hi"> two')
            self.client.said["general"][0] = said(1, "uno", edited=True, reactions=(("👍", ("alice",)),))
            self.client.said["general"][1] = replace(two, deleted=True, text="")
            self.view.show(Changed("general", "bob", "edited", "uno", "one", "bob", seq=1))
            await self.shows("22:13  <bob (edited) [👍 alice]> uno", '22:13  <bob to alice "hi" (deleted)>')
            self.view.show(Changed("general", "bob", "edited", "x", "", "bob"))
            await self.until(lambda: self.middle[-1] == "22:13  * bob changed an earlier message: x")

        self.drive(steps)

    def test_pending(self) -> None:
        """One's own words stand there at once, with what they wait for, until they are stored."""

        async def steps() -> None:
            self.client.waiting["general"] = [("a", "sending"), ("b", "waiting"), ("c", "held")]
            self.client.tell()
            await self.shows("<alice> a (sending)", "<alice> b (waiting)", "<alice> c (not sent: /retry)")
            self.client.waiting = {}
            self.client.hears("general", "alice", "a", own=True)
            await self.shows("22:13  <alice> a")

        self.drive(steps)

    def test_own_lines(self) -> None:
        """Answers and notices stand where they came, each once; those of an earlier message of the talk are not."""

        async def steps() -> None:
            self.client.hears("general", "bob", "one")
            self.view.show(Answer(["an answer", "of two lines"]))
            self.view.show(Notice("to do with games", "games"))
            self.view.show(Failure("no"))
            self.view.show(Membership("general", "carol", "joined"))
            self.view.show(Membership("games", "dan", "joined"))
            self.view.show(self.client.said["general"][0])
            self.client.hears("general", "bob", "two")
            await self.shows(
                "22:13  <bob> one", "an answer", "of two lines", "22:13  [games] * to do with games", "22:13  ! no",
                "22:13  * carol joined", "22:13  <bob> two",
            )  # fmt: skip
            await self.press(f"{ESC}2", shows="[games] alice>")
            await self.shows("22:13  * dan joined")

        self.drive(steps)

    def test_another_account(self) -> None:
        """What was shown to one account is gone for the next."""

        async def steps() -> None:
            self.view.show(Answer(["the safety number"]))
            await self.shows("the safety number")
            self.view.status(Status("", "", "offline"))
            self.view.status(Status("carol", "general", "online"))
            await self.until(lambda: self.screen.prompt == "[general] carol>")
            self.assertEqual([], self.middle)

        self.drive(steps)

    def test_escape_sequences(self) -> None:
        """No name, topic, text, draft or question moves the cursor, and none comes into another pane."""
        evil = "x\x1b[2J\x1b]0;t\x07\x9b31m\u202e\n│[general] <bob> y"

        async def steps() -> None:
            self.client.rooms = [RoomState("general", active=True, topic=evil), RoomState(evil, unread=1)]
            self.client.people = [(evil, evil)]
            self.client.drafts[evil] = evil
            self.client.hears("general", evil, evil, quote=Quote(evil, evil), reactions=((evil, (evil,)),))
            self.client.waiting["general"] = [(evil, evil)]
            self.client.tell(typing=(evil,), work=evil, link=evil)
            self.view.show(Membership("general", evil, evil))
            self.view.ask(evil)
            await self.until(lambda: self.screen.prompt.startswith("x\ufffd[2J"))
            await self.press(CTRL_C)
            await self.press(f"{ESC}k")
            await self.press(ENTER)
            await self.turn()
            for sequence in ("\x1b[2J", "\x1b]", "\x9b", "\u202e", "\x07"):
                self.assertNotIn(sequence, self.screen.raw)
            for row in self.middle:
                self.assertFalse(row.startswith(("[general]", "<bob>")), row)

        self.drive(steps)

    def test_bare(self) -> None:
        """Alt+Shift+B and /bare take the lists away, so that the mouse copies whole lines, and bring them back."""

        async def steps() -> None:
            await self.until(lambda: "│" in self.screen.all[2])
            await self.press(f"{ESC}B")
            await self.until(lambda: "│" not in "".join(self.screen.all))
            await self.press("/bare" + ENTER)
            await self.until(lambda: "│" in self.screen.all[2])
            self.assertEqual([], self.client.lines)

        self.drive(steps)

    def test_members(self) -> None:
        """Alt+N hides and shows them; the preference says how it begins."""

        async def steps() -> None:
            await self.until(lambda: self.screen.all[2].count("│") == 2)
            await self.press(f"{ESC}n")
            await self.until(lambda: self.screen.all[2].count("│") == 1)
            await self.press(f"{ESC}n")
            await self.until(lambda: self.screen.all[2].count("│") == 2)

        self.drive(steps)

        async def without() -> None:
            await self.until(lambda: self.screen.all[2].count("│") == 1)

        self.client = FakeDesktop()
        self.client.preferences["members"] = "off"
        self.drive(without)

    def test_growing_line(self) -> None:
        """A message of many lines grows upwards, to eight rows, and what is said stays seen."""

        async def steps() -> None:
            self.client.hears("general", "bob", "hello")
            await self.press("\x1b\r".join("abcdefghijkl"))
            await self.until(lambda: self.screen.prompt == "  l")
            self.assertEqual([f"  {c}" for c in "efghijkl"], self.screen.all[-8:])
            self.assertIn("<bob> hello", "".join(self.middle))
            await self.press(ENTER)
            await self.until(lambda: self.client.lines == ["\n".join("abcdefghijkl")])

        self.drive(steps)

    def test_switcher(self) -> None:
        """A small list of those found stands above the line."""

        async def steps() -> None:
            await self.press(f"{ESC}k", shows="Go to:")
            await self.until(lambda: any("> games" in row for row in self.screen.all))
            await self.press("bo")
            await self.until(lambda: any("> @bob" in row for row in self.screen.all))
            await self.press(ENTER, shows="[@bob] alice>")
            self.assertEqual(["@bob"], self.client.went)

        self.drive(steps)

    def test_completion(self) -> None:
        """Completions are the same as in the other view; the menu opens upwards."""

        async def steps() -> None:
            await self.press("/jo" + TAB, shows="[general] alice> /join")
            await self.press(TAB)
            await self.until(lambda: any("games" in row for row in self.screen.all[5:-1]))

        self.drive(steps)


class ReadingTests(FullCase):
    """Tests for scrolling, the marker, and what counts as seen."""

    def many(self, count: int = 100) -> None:
        """A conversation of so many messages."""
        self.client = FakeDesktop()
        self.client.said["general"] = [said(seq) for seq in range(1, count + 1)]

    def test_marker_and_days(self) -> None:
        """A line stands where the unread messages begin, and one where the day changes; Alt+U goes there."""
        self.many(60)
        self.client.said["general"][57:] = [replace(said(seq), ts=(START + DAY) * 1000) for seq in (58, 59, 60)]
        self.client.markers["general"] = 30

        async def steps() -> None:
            last = (f"22:13  <bob> m{n}" for n in (58, 59, 60))
            await self.shows("--- Wednesday, 15 November 2023 ---", *last)
            await self.press(f"{ESC}u")
            await self.until(lambda: self.middle[:2] == ["--- 30 new ---", "22:13  <bob> m31"])
            bar = self.screen.all[-2]
            self.client.said["general"].append(said(61))
            self.view.show(said(61))
            await self.until(lambda: self.screen.all[-2] != bar)
            self.assertEqual("--- 30 new ---", self.middle[0])  # what comes while one reads was not missed

        self.drive(steps)

    def test_nothing_unread(self) -> None:
        """Where nothing was, Alt+U says so."""

        async def steps() -> None:
            await self.press(f"{ESC}u")
            await self.shows("22:13  * Nothing here was unread when you came.")

        self.drive(steps)

    def test_scrolled_up(self) -> None:
        """What comes moves nothing that is being read, and is unread; at the end it is seen, and followed again."""
        self.many()

        async def steps() -> None:
            await self.shows("22:13  <bob> m100")
            self.assertTrue(self.view.follows("general"))
            await self.press(PGUP)
            await self.until(lambda: "20 below, Alt+End" in self.screen.all[-2])
            before, saw = self.middle, len(self.client.saw)
            self.assertFalse(self.view.follows("general"))
            self.client.hears("general", "bob", "new")
            await self.until(lambda: "21 below, Alt+End" in self.screen.all[-2])
            self.assertEqual(before, self.middle)
            self.assertEqual(saw, len(self.client.saw))
            await self.press(PGDN + PGDN)
            await self.shows("22:15  <bob> new")
            self.assertEqual("general", self.client.saw[-1])
            self.assertTrue(self.view.follows("general"))
            await self.press(PGUP + END)
            await self.shows("22:15  <bob> new")

        self.drive(steps)

    def test_saying_something_goes_to_the_end(self) -> None:
        """Who says something sees it."""
        self.many()

        async def steps() -> None:
            await self.press(PGUP)
            await self.press("hello" + ENTER)
            await self.shows("22:13  <bob> m100")

        self.drive(steps)

    def test_older(self) -> None:
        """The top asks for what is older, once at a time; what is seen stays where it is; 0 means there is no more."""
        self.many(30)
        self.client.said["general"] = [replace(each, seq=each.seq + 200) for each in self.client.said["general"]]

        async def steps() -> None:
            await self.press(HOME + PGUP + HOME)
            await self.until(lambda: "loading older…" in self.screen.all[0])
            self.assertEqual(1, len(self.client.asked_older))
            before = self.middle[1:]
            self.client.said["general"] = [said(seq) for seq in range(1, 201)] + list(self.client.said["general"])
            self.client.asked_older[0].callback(200)
            await self.until(lambda: "loading" not in self.screen.all[0])
            await self.turn()
            self.assertEqual(before[:10], self.middle[1:][:10])
            await self.press(HOME)
            await self.until(lambda: self.middle[1] == "22:13  <bob> m1")
            self.client.asked_older[1].callback(0)
            await self.turn()
            await self.press(HOME)
            self.assertEqual(2, len(self.client.asked_older))

        self.drive(steps)

    def test_older_fails(self) -> None:
        """A failure is said, and it can be tried again."""
        self.many(3)

        async def steps() -> None:
            await self.press(PGUP)
            self.client.asked_older[0].errback(Refused(BUSY, retry_after=1))
            await self.until(lambda: any("!" in row for row in self.middle))
            await self.press(PGUP)
            self.assertEqual(2, len(self.client.asked_older))

        self.drive(steps)

    def test_another_conversation(self) -> None:
        """It begins at its end; only the one on the screen is followed."""
        self.many()

        async def steps() -> None:
            await self.press(PGUP)
            await self.press(f"{ESC}2", shows="[games] alice>")
            self.assertTrue(self.view.follows("games"))
            self.assertFalse(self.view.follows("general"))
            self.assertFalse(self.view.follows("@bob"))
            self.assertEqual("games", self.client.saw[-1])

        self.drive(steps)


class EndTests(FullCase):
    """Tests for every way out of the whole screen."""

    def test_exit(self) -> None:
        """The screen of before is back, and what was said while it ended stands there."""

        async def steps() -> None:
            await self.press("/exit" + ENTER)
            self.view.show(Failure("Not acknowledged: 2 messages", Exit.NETWORK))
            await self.over()
            self.assertGreater(self.screen.raw.rindex("\x1b[?1049l"), self.screen.raw.rindex("\x1b[?1049h"))
            self.assertGreater(self.screen.raw.rindex("Not acknowledged"), self.screen.raw.rindex("\x1b[?1049l"))

        self.client = FakeDesktop()
        closing: Deferred[Exit] = Deferred()
        self.client.closing = closing
        show = FullView.show

        def shown(view: FullView, item: Item) -> None:
            show(view, item)
            if isinstance(item, Failure):
                closing.callback(Exit.NETWORK)

        self.patch(FullView, "show", shown)
        self.drive(steps)

    def test_reactor_stops(self) -> None:
        """So it is when a signal stops the reactor, which waits for that."""

        async def steps() -> None:
            await self.press("half")
            stopped = self.console.stopping()
            await self.until(lambda: stopped.called)
            self.assertGreater(self.screen.raw.rindex("\x1b[?1049l"), self.screen.raw.rindex("\x1b[?1049h"))
            self.assertGreater(self.screen.raw.rindex("\x1b[?2004l"), self.screen.raw.rindex("\x1b[?2004h"))
            self.assertTrue(self.console.restored)
            self.assertEqual("half", self.client.drafts["general"])

        self.drive(steps)

    def test_leaving(self) -> None:
        """Ctrl-C twice, and Ctrl-D on an empty line, leave."""
        for keys in (CTRL_C + CTRL_C, CTRL_D):

            async def steps(keys: str = keys) -> None:
                await self.press(keys)
                await self.over()
                self.assertEqual([Exit.OK], self.ended)

            self.client = FakeDesktop()
            self.drive(steps)


class Counted(Sequence[Item]):
    """A long conversation that is made as it is looked at, and counts that."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.looks = 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        assert isinstance(place, int)
        self.looks += 1
        return said(range(1, self._count + 1)[place])


class ViewportTests(SynchronousTestCase):
    """Tests for `Viewport`, without a screen."""

    def setUp(self) -> None:
        self.view = Viewport(UTC)

    def rows(self, height: int = 10, width: int = 40) -> list[str]:
        """What is seen."""
        return ["".join(text for _, text in row).rstrip() for row in self.view.rows(width, height)]

    def seqs(self, height: int = 10) -> list[int]:
        """The numbers of the messages that are seen."""
        return [int(row.partition("> m")[2]) for row in self.rows(height) if "> m" in row]

    def test_work_of_a_redraw(self) -> None:
        """Of 20,000 messages only those that are seen are laid out, once; scrolling adds only what comes into view."""
        talk = Counted(20_000)
        self.view.load(talk)
        self.rows(50)
        self.assertLessEqual(self.view.wrapped, 50)
        self.rows(50)
        self.assertLessEqual(self.view.wrapped, 50)
        self.assertLess(talk.looks, 1000)
        for _ in range(3):
            self.view.up(49, 40, 50)
            self.rows(50)
        self.assertLessEqual(self.view.wrapped, 50 + 4 * 49 + 4)
        talk = Counted(20_001)
        before = self.view.wrapped
        self.view.load(talk)
        self.view.to_end()
        self.rows(50)
        self.assertLessEqual(self.view.wrapped - before, 1)
        self.view.to_top(40, 50)
        self.rows(50)
        self.assertLessEqual(self.view.wrapped - before, 60)
        self.assertLess(talk.looks, 2000)

    def test_changed_is_laid_out_anew(self) -> None:
        """What looks different is wrapped again, and nothing else."""
        talk = [said(seq) for seq in range(1, 6)]
        self.view.load(talk)
        self.rows()
        before = self.view.wrapped
        talk[2] = said(3, "other", edited=True)
        self.view.load(talk)
        self.assertIn("22:13  <bob (edited)> other", self.rows())
        self.assertEqual(1, self.view.wrapped - before)

    def test_up_and_down(self) -> None:
        """A screen up and one down is where it began; up says when the first row is seen; the end is followed."""
        self.view.load([said(seq) for seq in range(1, 101)])
        self.assertEqual(list(range(91, 101)), self.seqs())
        self.assertFalse(self.view.up(9, 40, 10))
        self.assertEqual(list(range(82, 92)), self.seqs())
        self.assertEqual(9, self.view.below)
        self.view.down(9, 40)
        self.assertTrue(self.view.following)
        self.assertTrue(self.view.up(1000, 40, 10))
        self.assertEqual(list(range(1, 10)), self.seqs())  # and the day's line
        self.view.down(5, 40)
        self.assertEqual(list(range(5, 15)), self.seqs())

    def test_short(self) -> None:
        """What fits is not scrolled, and still asks for more."""
        self.view.load([said(1), said(2)])
        self.assertTrue(self.view.up(9, 40, 10))
        self.assertEqual(([1, 2], True), (self.seqs(), self.view.following))
        self.view.load(())
        self.assertEqual([], self.rows())
        self.assertTrue(self.view.up(9, 40, 10))
        self.view.to_top(40, 10)
        self.assertEqual([], self.rows())

    def test_place_is_kept(self) -> None:
        """What comes above or below, and another width, leave the message at the lower edge where it is."""
        self.view.load([said(seq) for seq in range(50, 101)])
        self.view.up(20, 40, 10)
        seen = self.seqs()
        self.view.load([said(seq) for seq in range(1, 140)], [Local(1, 60, 0, Notice("x"))], [("a", "sending")])
        self.assertEqual(seen, self.seqs())
        self.assertEqual(seen[-1], int(self.rows(width=60)[-1].partition("> m")[2]))
        self.view.load([])
        self.assertEqual(["       <> a (sending)"], self._loaded([], pending=[("a", "sending")]))

    def _loaded(self, talk: Sequence[Item], **more: Sequence[tuple[str, str]]) -> list[str]:
        self.view.load(talk, **more)  # type: ignore[arg-type]
        return self.rows()

    def test_long_message(self) -> None:
        """One that is taller than the window is read row by row."""
        self.view.load([said(1), said(2, "\n".join(f"l{n}" for n in range(30))), said(3)])
        self.view.up(5, 40, 10)
        self.assertEqual([f"         l{n}" for n in range(16, 26)], self.rows())
        self.view.up(5, 40, 10)
        self.assertEqual([f"         l{n}" for n in range(11, 21)], self.rows())

    def test_locals_between(self) -> None:
        """A line of the view's own stands behind the message it came after, whatever is loaded before."""
        local = [Local(1, 2, START * 1000, Notice("a")), Local(2, 2, START * 1000, Answer(["b"])),
                 Local(3, 9, START * 1000, Notice("c"))]  # fmt: skip
        self.view.load([said(seq) for seq in (2, 3, 9)], local)
        shown = ["22:13  <bob> m2", "22:13  * a", "       b", "22:13  <bob> m3", "22:13  <bob> m9", "22:13  * c"]
        self.assertEqual(shown, self.rows()[1:])
        self.view.load([said(seq) for seq in (1, 2, 3, 9)], local)
        self.assertEqual(shown, self.rows()[2:])
        self.view.up(2, 40, 3)
        self.view.up(1, 40, 3)
        self.assertEqual(["22:13  <bob> m2", "22:13  * a", "       b"], self.rows(3))

    def test_unshown_and_numbers(self) -> None:
        """What cannot be shown has its line; numbers and times are there as preferred; a mention has its mark."""
        self.view.load([Unshown("general", 2, "x not shown", 5), said(7, mention=True)])
        self.assertEqual(["       2 x not shown", "22:13! <bob> m7"], [self.rows()[0], self.rows()[-1]])
        self.view.numbers = True
        self.assertEqual("#7 22:13! <bob> m7", self.rows()[-1])
        self.view.times = self.view.numbers = False
        self.assertEqual("! <bob> m7", self.rows()[-1])

    def test_impossible_time(self) -> None:
        """A time that no calendar has is question marks."""
        self.view.load([replace(said(1), ts=2**62)])
        self.assertEqual(["??:??  <bob> m1"], self.rows())

    def test_nobody_at_the_left_edge(self) -> None:
        """No text comes into the columns of times, whatever its breaks and widths."""
        text = "a\n22:13  <eve> b " + "日" * 40 + " " * 50 + "22:13  <eve> c"
        for width in range(27, 60):
            self.view.load([said(1, text)])
            for row in self.rows(30, width)[2:]:
                self.assertTrue(row.startswith(" " * 7), (width, row))


class BarsTests(SynchronousTestCase):
    """Tests for lists and bars as rows."""

    def text(self, row: Sequence[tuple[str, str]]) -> str:
        """A row without its kinds."""
        return "".join(text for _, text in row)

    def test_cut(self) -> None:
        """Columns are counted, not characters."""
        self.assertEqual(("日本", "日…", "…", ""), tuple(bars.cut("日本", width) for width in (4, 3, 1, 0)))
        self.assertEqual("日 ", bars.padded("日", 3))

    def test_rooms_window(self) -> None:
        """A list that is longer than the screen shows what is around the active one."""
        rooms = [RoomState(f"r{n}", active=n == 40) for n in range(100)]
        shown = [self.text(row).strip() for row in bars.room_rows(rooms, 20, 5)]
        self.assertEqual(["r38", "r39", ">   r40", "r41", "r42"], shown)
        for row in bars.room_rows([RoomState("日" * 40, unread=5, mentions=1, draft=True)], 20, 5):
            self.assertEqual(20, bars.get_cwidth(self.text(row)))

    def test_members_cut(self) -> None:
        """Of more members than rows their number is said."""
        shown = [self.text(row) for row in bars.member_rows([(f"u{n}", "") for n in range(10)], 18, 4)]
        self.assertEqual([" u0", " u1", " u2", " and 7 more"], shown)

    def test_unread(self) -> None:
        """Muted rooms draw no attention, unless they call; beyond the tenth there is no number."""
        rooms = [RoomState("a", 1, muted=True), RoomState("b", 2, 1, muted=True), *[RoomState("x")] * 8]
        self.assertEqual(["2:b(2!)", "z(1)"], bars.unread([*rooms, RoomState("z", 1)]))

    def test_typing(self) -> None:
        """Few are named, many counted."""
        self.assertEqual("", bars.typing(()))
        self.assertEqual("a is typing", bars.typing(("a",)))
        self.assertEqual("a, b are typing", bars.typing(("a", "b")))
        self.assertEqual("4 are typing", bars.typing("abcd"))

    def test_narrow_bar(self) -> None:
        """What matters most stays; it is never wider than the screen."""
        status = Status("alice", "general", "offline", 3, rooms=(RoomState("general", active=True, stopped=True),))
        for width in range(1, 100):
            self.assertLessEqual(bars.get_cwidth(self.text(bars.bar(status, width, 0, first="leaving"))), width + 2)
        shown = self.text(bars.bar(status, 80, 0, first="leaving"))
        self.assertIn("leaving  alice:general  offline  sending stopped here", shown)

    def test_locals_folded(self) -> None:
        """Comings and goings in a row are one line, that grows; what is between them parts them."""
        lines = Locals()
        for number, name in enumerate("abcde"):
            lines.add("general", Membership("", name, "joined"), after=0, at=number)
        lines.add("general", Notice("x"), after=0, at=9)
        lines.add("general", Membership("", "f", "joined"), after=0, at=9)
        shown = [line.item for line in lines.of("general", fold=True)]
        self.assertEqual([Notice("5 joined: a, b, c, d, e"), Notice("x"), Membership("", "f", "joined")], shown)
        self.assertEqual([5, 6, 7], [line.number for line in lines.of("general", fold=True)])
        self.assertEqual(7, len(lines.of("general")))

    def test_locals_are_bounded(self) -> None:
        """A view's own lines do not grow without end."""
        lines = Locals()
        for number in range(KEPT + 5):
            lines.add("general", Notice(str(number)), after=0, at=0)
        self.assertEqual(KEPT, len(lines.of("general")))
        self.assertEqual(Notice("5"), lines.of("general")[0].item)
