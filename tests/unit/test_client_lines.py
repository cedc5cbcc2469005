"""Tests for a conversation as rows of a terminal."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.view import Answer, Changed, Failure, Item, Membership, Message, Notice, Unshown
from securechat.client.views.lines import FOLDED, NAMED, Row, date_row, folded, laid_out, unread_row


def at(hour: int, day: int = 24) -> int:
    """A time of November 2026, UTC, milliseconds."""
    return int(datetime(2026, 11, day, hour, 5, tzinfo=UTC).timestamp() * 1000)


def said(seq: int, text: str = "hi", hour: int = 9, day: int = 24, **more: Any) -> Message:
    """Something bob said in general."""
    return Message("general", "bob", text, seq=seq, ts=at(hour, day), **more)


def text_of(found: list[Row]) -> list[str]:
    """Rows as plain text."""
    return ["".join(text for _, text in row.pieces) for row in found]


def shown(*items: Item, **settings: Any) -> list[str]:
    """The rows of items, in UTC."""
    return text_of(laid_out(items, tz=UTC, **settings))


class LayoutTests(SynchronousTestCase):
    """Tests for `laid_out`."""

    def test_dates_and_times(self) -> None:
        """Each day begins with its date, each message with its time."""
        self.assertEqual(
            [
                "--- Monday, 23 November 2026 ---",
                "22:05 [general] <bob> late",
                "--- Tuesday, 24 November 2026 ---",
                "09:05 [general] <bob> early",
                "10:05 [general] <bob> later",
            ],
            shown(said(1, "late", 22, 23), said(2, "early"), said(3, "later", 10)),
        )

    def test_time_zone(self) -> None:
        """A day begins where its user lives."""
        east = timezone(timedelta(hours=14))
        self.assertEqual(
            ["--- Wednesday, 25 November 2026 ---", "12:05 [general] <bob> hi"],
            text_of(laid_out([said(1, hour=22)], tz=east)),
        )

    def test_without_times(self) -> None:
        """Where no column is wanted there is none; a date of its own stays."""
        found = shown(said(1), Message("general", "bob", "old", at=at(8), seq=2, ts=at(8)), times=False)
        self.assertEqual("[general] <bob> hi", found[1])
        self.assertEqual("2026-11-24 08:05 [general] <bob> old", found[2])

    def test_time_is_said_once(self) -> None:
        """What history says of the time is in the column already."""
        old = Message("general", "bob", "old", at=at(8), seq=2, ts=at(8))
        self.assertEqual("08:05 [general] <bob> old", shown(old)[-1])

    def test_impossible_time(self) -> None:
        """A time that no calendar has is question marks, and begins no day."""
        self.assertEqual(["??:?? [general] <bob> x"], shown(Message("general", "bob", "x", seq=1, ts=10**18)))

    def test_its_own_name_is_left_out(self) -> None:
        """The conversation that is shown is not named in each row; another one is, and so is what names it as text."""
        other = Notice("careful", "attic")
        found = shown(said(1, "[general] x"), other, Notice("mind", "general"), where="general")
        self.assertEqual(["09:05 <bob> [general] x", "      [attic] * careful", "      * mind"], found[1:])

    def test_lines_of_a_message(self) -> None:
        """Further lines of a message are indented behind the column, and belong to its number."""
        found = laid_out([said(7, "one\ntwo")], where="general", tz=UTC)
        self.assertEqual(["09:05 <bob> one", "        two"], text_of(found[1:]))
        self.assertEqual([(7, False), (7, True)], [(row.seq, row.continued) for row in found[1:]])

    def test_whatever_has_no_time(self) -> None:
        """Answers, failures, changes and what is not shown keep the column free."""
        items = [
            Answer(["a", "b"]), Failure("no"), Unshown("general", 2, "message{s} lost", 3),
            Changed("general", "bob", "deleted", seq=3), Membership("general", "bob", "joined"),
        ]  # fmt: skip
        found = shown(*items)
        self.assertEqual(6, len(found))
        self.assertTrue(all(line.startswith("      ") for line in found), found)

    def test_new(self) -> None:
        """One line stands before what its user has not seen, with how much of it is others'."""
        found = shown(said(1), said(2, "two"), said(3, "mine", own=True), said(4, "four"), marker=1)
        self.assertEqual("--- 2 new ---", found[2])
        self.assertEqual(1, sum("new ---" in line for line in found))

    def test_new_behind_what_is_not_shown(self) -> None:
        """A message that is not shown is new as well: the line stands before it."""
        found = shown(said(1), Unshown("general", 1, "message{s} lost", 2), said(3), marker=1)
        self.assertEqual(2, found.index("--- 1 new ---"))

    def test_nothing_new(self) -> None:
        """Where all was seen, where nobody knows, and behind one's own words there is no such line."""
        for marker, items in ((2, [said(1), said(2)]), (0, [said(1)]), (1, [said(1), said(2, own=True)])):
            self.assertNotIn("new ---", "\n".join(shown(*items, marker=marker)))

    def test_remote_text_is_cleaned(self) -> None:
        """No control character of anybody's reaches a row, nor does a name forge one."""
        evil = "x\x1b[2J\u202e\n--- 9 new ---"
        items: list[Item] = [Message(evil, evil, evil, seq=1, ts=at(9))]
        items += [Membership(evil, f"{evil}{n}", "joined") for n in range(FOLDED)]
        for line in shown(*items):
            self.assertTrue(line.isprintable(), line)
        self.assertFalse([line for line in shown(*items) if line.startswith("--- 9")])

    def test_rows_of_dates_and_news(self) -> None:
        """Their kinds are their own, so that a view can paint them."""
        self.assertEqual([("date", "--- Friday, 1 January 2027 ---")], date_row(date(2027, 1, 1)).pieces)
        self.assertEqual([("unread", "--- 3 new ---")], unread_row(3).pieces)


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
