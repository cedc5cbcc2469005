"""Tests for what may be searched for, and for the scan."""

from __future__ import annotations

import random
from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.search import CODE, LINK, MENTION, BadQuery, Line, Query, fold, leaf_of, parse_query, scan

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 0, 30, tzinfo=BERLIN).timestamp()  # still the 23rd in UTC


def parsed(text: str) -> Query:
    """What is understood in Berlin."""
    return parse_query(text, now=NOW, tz=BERLIN)


def day(text: str) -> int:
    """When a day begins in Berlin, in milliseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp() * 1000)


class QueryTests(SynchronousTestCase):
    """Tests for `parse_query`."""

    def test_words(self) -> None:
        """What is typed becomes words and phrases, folded; the longest comes first."""
        for text, words, without in (
            ("deploy", [b"deploy"], []),
            ("  It BROKE ", [b"broke", b"it"], []),
            ('"Good  Morning" x', [b"good morning", b"x"], []),
            ("“smart quotes”", [b"smart quotes"], []),
            ("deploy -test", [b"deploy"], [b"test"]),
            ('-"not this" -that', [], [b"not this", b"that"]),
            ("- --force", [b"-"], [b"-force"]),
            ("Straße STRASSE", [b"strasse"], []),
            ("cafe\u0301", ["café".encode()], []),
            ("https://x.org 10:30 what:ever", [b"https://x.org", b"what:ever", b"10:30"], []),
            ('5"disk', [b'5"disk'], []),
            ('x ""', [b"x"], []),
            ("zero\u200bwidth", [b"zerowidth"], []),
        ):
            with self.subTest(text):
                self.assertEqual((tuple(words), tuple(sorted(without))), (parsed(text).words, parsed(text).without))

    def test_filters(self) -> None:
        """People, places and features are put together; what is said twice is either."""
        found = parsed("from:@Bob FROM:me in:#Ops in:@bob in:ops#4f2a has:links has:code has:mention")
        expected = Query(
            senders=frozenset({"bob", "me"}),
            titles=frozenset({"ops", "@bob", "ops#4f2a"}),
            features=LINK | CODE | MENTION,
        )
        self.assertEqual(expected, found)

    def test_days(self) -> None:
        """Days begin where the user is; before and after leave the day itself out."""
        for text, since, until in (
            ("before:2026-11-01", None, "2026-11-01"),
            ("after:2026-11-01", "2026-11-02", None),
            ("on:2026-10-25", "2026-10-25", "2026-10-26"),  # 25 hours long
            ("on:today", "2026-11-24", "2026-11-25"),
            ("on:Yesterday", "2026-11-23", "2026-11-24"),
            ("after:7d", "2026-11-18", None),
            ("after:7d before:3d", "2026-11-18", "2026-11-21"),
            ("before:7d before:3d after:yesterday after:9d", None, None),
        ):
            with self.subTest(text):
                if since is until is None:
                    self.assertRaises(BadQuery, parsed, text)
                    continue
                expected = Query(
                    since=Query().since if since is None else day(since),
                    until=Query().until if until is None else day(until),
                )
                self.assertEqual(expected, parsed(text))
        self.assertEqual(25 * 3600_000, parsed("on:2026-10-25").until - parsed("on:2026-10-25").since)

    def test_the_machines_time_zone(self) -> None:
        """Without one that is given, days begin where the machine is."""
        midnight = datetime(2026, 11, 1).timestamp()
        self.assertEqual(round(midnight * 1000), parse_query("before:2026-11-01", now=NOW).until)

    def test_what_cannot_be_understood(self) -> None:
        """Every refusal says what to type."""
        for text, says in (
            ("", "Write words or filters"),
            ('  "" ', "Write words or filters"),
            ("\u200b", "Write words or filters"),
            ('say "good', "two quotes"),
            ('-"good', "two quotes"),
            ("from:", "from:bob"),
            ("from:b/b", "Write from:NAME, or from:me"),
            ("has:cats", "has:link, has:code or has:mention"),
            ("on:tomorrow", "Write 2026-11-01, today"),
            ("on:2026-13-01", "Write 2026-11-01, today"),
            ("before:9999999d", "no day"),
            ("on:9999-12-31", "no day"),
            ("before:²d", "no day"),
            ("-from:bob", "Write from: without it"),
            ("after:2026-11-10 before:2026-11-10", "the earlier day behind after:"),
            ("has:\x1b[31m", "\ufffd"),
        ):
            with self.subTest(text):
                self.assertIn(says, str(self.assertRaises(BadQuery, parsed, text)))


class FoldTests(SynchronousTestCase):
    """Tests for `fold`."""

    def test_folded(self) -> None:
        """Case, spaces, spelling of one letter and invisible characters make no difference; accents do."""
        for left, right in (
            ("Two\n\twords ", "two words"), ("ÄPFEL", "äpfel"), ("e\u0301", "É"), ("a\u200bb", "AB"), ("ẞ", "ss"),
        ):  # fmt: skip
            self.assertEqual(fold(left), fold(right))
        self.assertNotEqual(fold("resume"), fold("resumé"))

    def test_any_text_has_one_line_of_utf8(self) -> None:
        """Whatever it holds."""
        for text in ("\ud800", "a\nb\r\nc", "\x00\x1f\x7f", "\u2028", "\U0001f984"):
            self.assertNotIn(b"\n", fold(text).encode())


def found(lines: list[Line], text: str, limit: int = 10) -> list[int]:
    """The numbers of messages that are found in one page."""
    places, _ = scan([("room", leaf_of(lines))], parsed(text), limit)
    return [seq for _, seq, _ in places]


class ScanTests(SynchronousTestCase):
    """Tests for `scan`."""

    def test_each_condition(self) -> None:
        """All of a query must hold of a message, not of its page."""
        lines = [
            Line(1, day("2026-11-01"), "alice", "The quick fox"),
            Line(2, day("2026-11-02"), "bob", "see https://x.org", mentions=True),
            Line(3, day("2026-11-03"), "bob", "`quick` hack"),
            Line(4, day("2026-11-04"), "alice", ""),
            Line(5, day("2026-11-05"), "carol", "quick\nfox"),
        ]
        for text, expected in (
            ("quick", [5, 3, 1]),
            ("UIC", [5, 3, 1]),
            ("quick fox", [5, 1]),
            ('"quick fox"', [5, 1]),
            ("quick -fox", [3]),
            ("fox hack", []),
            ("from:bob", [3, 2]),
            ("from:bob from:alice", [3, 2, 1]),
            ("from:dave", []),
            ("has:link", [2]),
            ("has:mention from:bob", [2]),
            ("has:code", [3]),
            ("has:code has:link", []),
            ("on:2026-11-02", [2]),
            ("after:2026-11-02", [5, 3]),
            ("before:2026-11-03 quick", [1]),
            ("-nowhere", [5, 3, 2, 1]),
            ("fox\nhttps", []),
        ):
            with self.subTest(text):
                self.assertEqual(expected, found(lines, text))

    def test_features(self) -> None:
        """What counts as a link, and as code."""
        for text, feature in (
            ("http://a", "link"), ("(https://a)", "link"), ("securechat://x#id=1", "link"),
            ("```\nx\n```", "code"), ("a `b` c", "code"),
        ):  # fmt: skip
            self.assertEqual([1], found([Line(1, 0, "a", text)], f"has:{feature}"), text)
        for text in ("http:// x", "://", "` alone", "`a\nb`"):
            self.assertEqual([], found([Line(1, 0, "a", text)], "has:link"), text)
            self.assertEqual([], found([Line(1, 0, "a", text)], "has:code"), text)

    def test_limit(self) -> None:
        """At most so many, the newest, and whether there are more: one less, as many, one more."""
        lines = [Line(seq, seq, "a", "x") for seq in range(1, 6)]
        leaves = [("room", leaf_of(lines))]
        for limit, more in ((4, True), (5, False), (6, False)):
            places, said = scan(leaves, parsed("x"), limit)
            self.assertEqual(([5, 4, 3, 2, 1][:limit], more), ([seq for _, seq, _ in places], said))

    def test_newest_first_over_pages(self) -> None:
        """However the times of pages lie over each other."""
        leaves = [
            ("a", leaf_of([Line(1, 10, "x", "w"), Line(2, 90, "x", "w")])),
            ("b", leaf_of([Line(1, 50, "x", "w"), Line(2, 60, "x", "w")])),
            ("c", leaf_of([Line(1, 5, "x", "w")])),
        ]
        places, more = scan(leaves, parsed("w"), 4)
        self.assertEqual(([90, 60, 50, 10], True), ([at for at, _, _ in places], more))


class RandomTests(SynchronousTestCase):
    """The scan against one that looks at each message by itself."""

    WORDS = ("ab", "bc", "abc", "é", "\U0001f984", "x", "http://ab", "`x`")
    PEOPLE = ("alice", "bob", "carol")

    def lines(self, dice: random.Random, page: int) -> list[Line]:
        """Some messages of a page."""
        seqs = sorted(dice.sample(range(page * 64, page * 64 + 64), dice.randrange(1, 9)))
        start = day("2026-11-10")
        return [
            Line(
                seq, start + dice.randrange(10) * 43_200_000, dice.choice(self.PEOPLE),
                " ".join(dice.choices(self.WORDS, k=dice.randrange(4))), dice.random() < 0.2,
            )
            for seq in seqs
        ]  # fmt: skip

    def query(self, dice: random.Random) -> str:
        """Something that may be asked."""
        parts = [
            *dice.choices(self.WORDS, k=dice.randrange(3)),
            *(f"-{word}" for word in dice.choices(self.WORDS, k=dice.randrange(2))),
            *(f"from:{name}" for name in dice.choices(self.PEOPLE, k=dice.randrange(2))),
            *dice.choices(["has:link", "has:code", "has:mention"], k=dice.random() < 0.2),
            *dice.choices(["on:2026-11-12", "before:2026-11-13", "after:2026-11-11"], k=dice.random() < 0.4),
        ]
        return " ".join(parts) or "ab"

    @staticmethod
    def holds(line: Line, query: Query) -> bool:
        """What is said of one message, word for word."""
        text = fold(line.text).encode()
        has = LINK * ("http://" in line.text) | CODE * ("`" in line.text) | MENTION * line.mentions
        return (
            bool(text)
            and all(word in text for word in query.words)
            and not any(word in text for word in query.without)
            and (not query.senders or line.sender in query.senders)
            and query.since <= line.at < query.until
            and has & query.features == query.features
        )

    def test_like_a_naive_one(self) -> None:
        """The same messages in the same order, whatever is asked."""
        dice = random.Random(20261124)
        hits = 0
        for _ in range(60):
            pages = [(dice.choice("abc"), number, self.lines(dice, number)) for number in range(dice.randrange(1, 12))]
            leaves = [(conversation, leaf_of(lines)) for conversation, _, lines in pages]
            for _ in range(10):
                query, limit = parsed(self.query(dice)), dice.randrange(1, 12)
                expected = sorted(
                    (
                        (line.at, line.seq, conversation)
                        for conversation, _, lines in pages
                        for line in lines
                        if self.holds(line, query)
                    ),
                    reverse=True,
                )
                places, more = scan(leaves, query, limit)
                self.assertEqual((expected[:limit], len(expected) > limit), (list(places), more), query)
                hits += len(places)
        self.assertGreater(hits, 500)
