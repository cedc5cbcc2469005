"""Tests for a conversation as rows of a terminal."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.display import render
from securechat.client.view import Item, Membership, Message, Notice
from securechat.client.views.lines import FOLDED, NAMED, date_row, folded, unread_row


def at(hour: int, day: int = 24) -> int:
    """A time of November 2026, UTC, milliseconds."""
    return int(datetime(2026, 11, day, hour, 5, tzinfo=UTC).timestamp() * 1000)


def said(seq: int, text: str = "hi", hour: int = 9, day: int = 24, **more: Any) -> Message:
    """Something bob said in general."""
    return Message("general", "bob", text, seq=seq, ts=at(hour, day), **more)


def shown(*items: Item) -> list[str]:
    """Items as lines, folded."""
    return [line for item in folded(items) for line in render(item)]


class RowTests(SynchronousTestCase):
    """Tests for the lines of a view's own."""

    def test_remote_text_is_cleaned(self) -> None:
        """No control character of anybody's reaches a line, nor does a name forge one."""
        evil = "x\x1b[2J\u202e\n--- 9 new ---"
        for line in shown(*(Membership(evil, f"{evil}{n}", "joined") for n in range(FOLDED))):
            self.assertTrue(line.isprintable(), line)
            self.assertFalse(line.startswith("--- 9"))

    def test_rows_of_dates_and_news(self) -> None:
        """Their kinds are their own, so that a view can paint them."""
        self.assertEqual([("date", "--- Friday, 1 January 2027 ---")], date_row(date(2027, 1, 1)))
        self.assertEqual([("unread", "--- 3 new ---")], unread_row(3))


def came(*users: str, what: str = "joined", room: str = "general") -> list[Membership]:
    """So many who did the same."""
    return [Membership(room, user, what) for user in users]


class FoldTests(SynchronousTestCase):
    """Tests for `folded`."""

    def assertFolded(self, items: list[Membership], text: str) -> None:
        """All of them become one line, which says this."""
        self.assertEqual([Notice(text, "general")], list(folded(items)))

    def test_short_runs_stay(self) -> None:
        """Three in a row are told one by one."""
        run = came("a", "b", "c")
        self.assertEqual(run, list(folded(run)))

    def test_long_run(self) -> None:
        """Four are one line: how many did what, and who."""
        self.assertFolded(came("a", "b", "c") + came("d", "e", what="left"), "3 joined, 2 left: a, b, c, d, e")

    def test_came_and_went(self) -> None:
        """Who came and went in one run is neither here nor gone; they are named all the same."""
        self.assertFolded(
            came("a", "b") + came("a", what="left") + came("c", what="left") + came("c"),
            "1 joined, 1 came and went, 1 left and came back: a, b, c",
        )

    def test_back_and_forth(self) -> None:
        """What counts is how it began and how it ends."""
        self.assertFolded(came("a") + came("a", what="left") + came("a") + came("b"), "2 joined: a, b")

    def test_presence(self) -> None:
        """Being online and being a member are told apart."""
        self.assertFolded(
            came("a", "b") + came("a", "b", "c", what="online") + came("c", what="offline"),
            "2 joined, 2 came online, 1 online and gone: a, b, c",
        )

    def test_many_names(self) -> None:
        """Not all of many are named."""
        users = [f"u{n}" for n in range(NAMED + 3)]
        self.assertFolded(came(*users), f"{NAMED + 3} joined: {', '.join(users[:NAMED])} and 3 more")

    def test_what_ends_a_run(self) -> None:
        """A message, another room, and an act of somebody who runs the room are never swallowed."""
        for between in (said(1), *came("x", room="attic"), *came("x", what="put bob out"), Notice("n")):
            items: list[Item] = [*came("a", "b", "c"), between, *came("d", "e")]
            self.assertEqual(items, list(folded(items)))

    def test_two_runs(self) -> None:
        """Each run has its line, in its place."""
        found = list(folded([*came("a", "b", "c", "d"), said(1), *came("e", "f", "g", "h", what="left")]))
        self.assertEqual(
            [Notice("4 joined: a, b, c, d", "general"), said(1), Notice("4 left: e, f, g, h", "general")], found
        )

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.lists(st.sampled_from([*came("a", "b"), *came("a", what="left"), said(1), Notice("n", "general")])))
    def test_nothing_is_lost(self, items: list[Item]) -> None:
        """All but comings and goings stays, in its order; and no run of them is left that is long."""
        found = list(folded(items))
        self.assertEqual([i for i in items if isinstance(i, Message)], [i for i in found if isinstance(i, Message)])
        run = 0
        for item in found:
            run = run + 1 if isinstance(item, Membership) else 0
            self.assertLess(run, FOLDED)
