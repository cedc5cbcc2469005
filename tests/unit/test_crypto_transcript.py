"""Tests for transcripts, and for each device's chain in them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.findings import Finding
from securechat.crypto.transcript import (
    MAX_MISSING,
    RECENT,
    REMEMBERED,
    TWINS,
    Link,
    SenderChain,
    Transcript,
    next_th,
    transcript_start,
)


def name(number: int, twin: str = "") -> str:
    """The id of a message."""
    return hashlib.sha256(f"{number}{twin}".encode()).hexdigest()


ROOM = "ab" * 32
START = transcript_start(ROOM)
LINKS = [name(number, "link") for number in range(3)]


class TranscriptTests(SynchronousTestCase):
    """Tests for `Transcript` and what it is made of."""

    def test_start_by_hand(self) -> None:
        """th_0 = H("th0", conversation id); each conversation has its own."""
        self.assertEqual(hashlib.sha256(b"\x03th0\x40\x40" + ROOM.encode()).hexdigest(), START)
        self.assertNotEqual(START, transcript_start("pm:" + ROOM))

    def test_step_by_hand(self) -> None:
        """th_i = H("th", th before, link, id); in private the link is empty."""
        before, link, message = bytes.fromhex(START), bytes.fromhex(LINKS[0]), bytes.fromhex(name(1))
        by_hand = hashlib.sha256(b"\x02th\x20" + before + b"\x20" + link + b"\x20" + message).hexdigest()
        self.assertEqual(by_hand, next_th(START, LINKS[0], name(1)))
        private = hashlib.sha256(b"\x02th\x20" + before + b"\x00" + b"\x20" + message).hexdigest()
        self.assertEqual(private, next_th(START, "", name(1)))

    def test_everything_counts(self) -> None:
        """Another message, order, link or number of messages gives another th."""
        heads = set()
        for steps in (
            [], [(0, 1)], [(0, 2)], [(1, 1)], [(0, 1), (0, 2)], [(0, 2), (0, 1)], [(0, 1), (1, 2)], [(1, 1), (0, 2)],
            [(0, 1), (0, 1)],
        ):  # fmt: skip
            transcript = Transcript(0, START)
            for seq, (link, message) in enumerate(steps, start=1):
                transcript.advance(seq, LINKS[link], name(message))
            heads.add(transcript.th)
        self.assertEqual(9, len(heads))

    def test_places(self) -> None:
        """Every place that was passed is known, the start too, and no other."""
        transcript = Transcript(7, START)
        transcript.advance(8, LINKS[0], name(8))
        transcript.advance(9, LINKS[1], name(9))
        eighth = next_th(START, LINKS[0], name(8))
        self.assertEqual((9, next_th(eighth, LINKS[1], name(9))), transcript.place)
        self.assertEqual([None, START, eighth, transcript.th, None], [transcript.at(seq) for seq in range(6, 11)])

    def test_bounded(self) -> None:
        """The newest 1024 places are remembered."""
        transcript = Transcript(0, START)
        for seq in range(1, REMEMBERED + 10):
            transcript.advance(seq, "", name(seq))
        self.assertEqual(1024, REMEMBERED)
        self.assertEqual([None, None], [transcript.at(0), transcript.at(9)])
        self.assertEqual([True] * 1024, [transcript.at(seq) is not None for seq in range(10, REMEMBERED + 10)])

    def test_from_a_start_place(self) -> None:
        """A reader that starts in the middle, at a place it was told, comes to the same th."""
        whole, part = Transcript(0, START), Transcript(0, START)
        for seq in range(1, 9):
            whole.advance(seq, LINKS[seq % 3], name(seq))
            if seq == 4:
                part = Transcript(*whole.place)
            elif seq > 4:
                part.advance(seq, LINKS[seq % 3], name(seq))
        self.assertEqual(whole.place, part.place)

    def test_dropped(self) -> None:
        """Whoever was not given a message never comes to the th of the others again."""
        whole, part = Transcript(0, START), Transcript(0, START)
        for seq in range(1, 30):
            whole.advance(seq, "", name(seq))
            if seq != 5:
                part.advance(seq, "", name(seq))
        self.assertEqual(whole.at(4), part.at(4))
        self.assertEqual(0, sum(whole.at(seq) == part.at(seq) for seq in range(5, 30)))


class ChainTests(SynchronousTestCase):
    """Tests for `SenderChain`."""

    def chain(self, *numbers: int) -> SenderChain:
        """A chain that has seen these messages."""
        chain = SenderChain.begin(numbers[0], name(numbers[0]))
        for number in numbers[1:]:
            chain = chain.after(number, name(number))
        return chain

    def judge(self, chain: SenderChain, number: int, prev: str | None = None, twin: str = "") -> Link:
        """What the chain says of a message, which names the one before it unless told otherwise."""
        return chain.judge(number, name(number - 1) if prev is None else prev, name(number, twin))

    def test_next(self) -> None:
        """The next number after the message that it names is the one that was due."""
        self.assertEqual(Link(), self.judge(self.chain(1, 2, 3), 4))

    def test_begins_anywhere(self) -> None:
        """A chain begins at the first message given, and asks for nothing before it."""
        chain = self.chain(17)
        self.assertEqual((17, frozenset()), (chain.last, chain.missing))
        self.assertEqual(Link(), self.judge(chain, 18))

    def test_replayed(self) -> None:
        """A message seen already is a replay, the last one and one before, each time again."""
        chain = self.chain(1, 2, 3)
        for number in (3, 2, 1, 3):
            self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, number))

    def test_before_the_beginning(self) -> None:
        """What stands before the chain's beginning is no news either."""
        self.assertEqual(Link(Finding.REPLAYED), self.judge(self.chain(17, 18), 16))

    def test_used_twice(self) -> None:
        """Another message with a number that was seen is told from a replay."""
        chain = self.chain(1, 2, 3)
        for number in (1, 2, 3):
            self.assertEqual(Link(Finding.USED_TWICE), self.judge(chain, number, twin="twin"))

    def test_missing(self) -> None:
        """A jump says how many are missing."""
        chain = self.chain(1, 2)
        for number, missing in ((4, 1), (5, 2), (1002, 999)):
            self.assertEqual(Link(Finding.MISSING, missing), self.judge(chain, number))

    def test_late(self) -> None:
        """What was missed may come later, each once."""
        chain = self.chain(1, 4)
        self.assertEqual(frozenset({2, 3}), chain.missing)
        for number in (3, 2):
            self.assertEqual(Link(Finding.LATE), self.judge(chain, number))
            chain = chain.after(number, name(number))
            self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, number))
        self.assertEqual((4, frozenset()), (chain.last, chain.missing))
        self.assertEqual(Link(), self.judge(chain, 5))

    def test_late_one_used_twice(self) -> None:
        """Of two messages with a number that came late, the second is told from a replay too."""
        chain = self.chain(1, 3, 2)
        self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, 2))
        self.assertEqual(Link(Finding.USED_TWICE), self.judge(chain, 2, twin="twin"))

    def test_twins(self) -> None:
        """A twin is new once as well, and who follows may name either; but only so many of one number are kept."""
        chain = self.chain(1, 2).after(2, name(2, "twin"))
        self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, 2, twin="twin"))
        self.assertEqual([Link(), Link()], [self.judge(chain, 3, name(2, twin)) for twin in ("", "twin")])
        for twin in range(100):
            chain = chain.after(2, name(2, str(twin)))
        self.assertEqual(TWINS, len(chain.ids[2]))
        self.assertEqual(Link(Finding.USED_TWICE), self.judge(chain, 2, twin="99"))

    def test_other_previous(self) -> None:
        """One that names another message before it than was given is told apart."""
        for prev in (name(3, "twin"), name(2), ""):
            self.assertEqual(Link(Finding.OTHER_PREVIOUS), self.judge(self.chain(1, 2, 3), 4, prev))

    def test_other_previous_after_a_late_one(self) -> None:
        """The message before is still the one with the number before, whatever came late meanwhile."""
        chain = self.chain(1, 2, 4, 3)
        self.assertEqual(Link(), self.judge(chain, 5))
        self.assertEqual(Link(Finding.OTHER_PREVIOUS), self.judge(chain, 5, name(3)))

    def test_apart(self) -> None:
        """Once the reader was out, one jump is none, and replays stay replays; then it goes on as ever."""
        chain = replace(self.chain(1, 2), apart=True)
        self.assertEqual(Link(), self.judge(chain, 7))
        self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, 2))
        self.assertEqual(Link(Finding.OTHER_PREVIOUS), self.judge(chain, 3, name(1)))
        self.assertTrue(SenderChain.from_fields(json.loads(json.dumps(chain.to_fields()))).apart)
        chain = chain.after(7, name(7))
        self.assertEqual((7, frozenset(), False), (chain.last, chain.missing, chain.apart))
        self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, 5))
        self.assertEqual(Link(Finding.MISSING, 1), self.judge(chain, 9))

    def test_value(self) -> None:
        """Judging and going on change nothing in a chain: it is a value."""
        chain = self.chain(1, 4)
        before = chain.to_fields()
        self.judge(chain, 9)
        chain.after(9, name(9))
        chain.after(2, name(2))
        self.assertEqual(before, chain.to_fields())

    def test_bounded(self) -> None:
        """However far a number jumps and however long a chain gets, little is kept of it."""
        chain = self.chain(1, 2**53 - 2, 2**53 - 1)
        self.assertEqual((2**53 - 1, MAX_MISSING), (chain.last, len(chain.missing)))
        self.assertEqual(2**53 - 3, max(chain.missing))
        chain = self.chain(*range(1, 1000))
        self.assertEqual((RECENT, frozenset()), (len(chain.ids), chain.missing))
        for number in range(2000, 40_000, 100):
            chain = chain.after(number, name(number))
        self.assertLessEqual(len(chain.missing), MAX_MISSING)
        for number in sorted(chain.missing):
            chain = chain.after(number, name(number))
        self.assertLessEqual(len(chain.ids), MAX_MISSING + RECENT)
        self.assertLessEqual(len(chain.after(50_000, name(50_000)).ids), RECENT)

    def test_forgotten(self) -> None:
        """Of a number too far back nobody can tell a twin from a replay: it is not shown again."""
        chain = self.chain(*range(1, 200))
        self.assertEqual(Link(Finding.USED_TWICE), self.judge(chain, 199 - RECENT + 1, twin="twin"))
        self.assertEqual(Link(Finding.REPLAYED), self.judge(chain, 199 - RECENT, twin="twin"))

    def test_stored(self) -> None:
        """A chain comes back from its JSON."""
        for chain in (self.chain(1), self.chain(3, 4, 9, 5), self.chain(*range(1, 100), 300)):
            again = SenderChain.from_fields(json.loads(json.dumps(chain.to_fields())))
            self.assertEqual(chain, again)
            self.assertEqual(self.judge(chain, chain.last), self.judge(again, again.last))

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from(("", "twin"))), max_size=30))
    def test_against_a_plain_one(self, stream: list[tuple[int, str]]) -> None:
        """Whatever comes in whatever order: replays, twins, late ones and gaps are told as a plain list tells them."""
        chain: SenderChain | None = None
        seen: dict[int, set[str]] = {}
        first = highest = 0
        for number, twin in stream:
            if chain is None:
                chain, first, highest = SenderChain.begin(number, name(number, twin)), number, number
                seen[number] = {twin}
                continue
            link = chain.judge(number, name(number - 1), name(number, twin))
            if number > highest + 1:
                expected: Finding | None = Finding.MISSING
            elif number == highest + 1:
                expected = None if "" in seen[highest] and len(seen[highest]) == 1 else link.finding
            elif number < first or twin in seen.get(number, ()):
                expected = Finding.REPLAYED
            else:
                expected = Finding.USED_TWICE if number in seen else Finding.LATE
            self.assertEqual(expected, link.finding)
            if link.finding is not Finding.REPLAYED:
                chain = chain.after(number, name(number, twin))
                seen.setdefault(number, set()).add(twin)
                highest = max(highest, number)

    def test_each_is_shown_once(self) -> None:
        """In whatever order a server gives a device's messages, and however often, each is new at most once."""
        random = Random(3)
        for _ in range(50):
            stream = [random.randrange(1, 20) for _ in range(60)]
            chain = SenderChain.begin(stream[0], name(stream[0]))
            shown = [stream[0]]
            for number in stream[1:]:
                if self.judge(chain, number).finding is not Finding.REPLAYED:
                    chain = chain.after(number, name(number))
                    shown.append(number)
            self.assertEqual(len(shown), len(set(shown)))
