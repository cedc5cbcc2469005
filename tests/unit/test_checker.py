"""Tests for `tests.checker`: it must find each kind of broken history, and nothing in a good one."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests import checker
from tests.checker import Row, Seen, Sent, check, kinds


class CheckerTests(SynchronousTestCase):
    """Two rooms, two senders, one reader; each test breaks one thing."""

    def setUp(self) -> None:
        """A good history: four messages in `red`, one in `blue`; the second was resent after a crash."""
        self.sent = {
            mid: Sent(room, sender, f"body of {mid}", at, acked, [(room, seq)])
            for mid, room, sender, at, acked, seq in (
                ("m1", "red", "alice", 1.0, 2.0, 1),
                ("m2", "red", "bob", 1.5, 6.0, 2),
                ("m3", "red", "alice", 3.0, 6.5, 3),
                ("m4", "red", "alice", 7.0, 8.0, 4),
                ("m5", "blue", "bob", 1.0, 2.0, 1),
            )
        }
        self.sent["m2"].places.append(("red", 2))
        self.sent["m2"].dups = 1
        self.table = [
            Row(room, seq, message.sender, mid)
            for mid, message in self.sent.items()
            for room, seq in message.places[:1]
        ]
        self.reader = {
            room: [Seen(row.seq, row.sender, row.mid, f"body of {row.mid}") for row in self.table if row.room == room]
            for room in ("red", "blue")
        }

    def found(self, *, crashed: bool = True) -> dict[str, int]:
        """The kinds of violations in what the test made of it."""
        return dict(kinds(check(self.sent, self.table, {"reader": self.reader}, crashed=crashed)))

    def test_good(self) -> None:
        """A good history has no violation, in whatever order its table comes."""
        self.table.reverse()
        self.assertEqual({}, self.found())

    def test_lost(self) -> None:
        """An acknowledged message that is not in the table is lost."""
        self.table = [row for row in self.table if row.mid != "m4"]
        del self.reader["red"][3]
        self.assertEqual({checker.LOST: 1}, self.found())

    def test_unanswered(self) -> None:
        """A message that was never acknowledged is told, whether or not it is stored."""
        self.sent["m4"].places.clear()
        self.sent["m6"] = Sent("red", "bob", "", 9.0)
        self.assertEqual({checker.UNANSWERED: 2}, self.found())

    def test_duplicated(self) -> None:
        """A message that is in the table twice is a duplicate."""
        self.table.append(Row("red", 5, "alice", "m4"))
        self.reader["red"].append(Seen(5, "alice", "m4", "body of m4"))
        self.assertEqual({checker.DUPLICATED: 1}, self.found())

    def test_duplicated_in_another_room(self) -> None:
        """Nor may it be in two rooms; then it is not the other room's either."""
        self.table.append(Row("blue", 2, "alice", "m4"))
        self.reader["blue"].append(Seen(2, "alice", "m4", "body of m4"))
        self.assertEqual({checker.DUPLICATED: 1, checker.FOREIGN: 1}, self.found())

    def test_moved(self) -> None:
        """Messages that stand at other places than acknowledged have moved; the readers see it too."""
        self.table[2], self.table[3] = replace(self.table[2], seq=4), replace(self.table[3], seq=3)
        self.assertEqual({checker.MOVED: 2, checker.ORDER: 1, checker.READER: 1}, self.found())

    def test_told_twice(self) -> None:
        """The acknowledgement of a resend must name the place of the first one."""
        self.sent["m2"].places.insert(0, ("red", 7))
        self.assertEqual({checker.TOLD_TWICE: 1}, self.found())

    def test_foreign(self) -> None:
        """A message nobody sent, or under another's name, is foreign."""
        self.table.append(Row("red", 5, "mallory", "m9"))
        self.table[4] = replace(self.table[4], sender="alice")
        self.reader["red"].append(Seen(5, "mallory", "m9", ""))
        self.reader["blue"][0] = replace(self.reader["blue"][0], sender="alice")
        self.assertEqual({checker.FOREIGN: 2}, self.found())

    def test_gap(self) -> None:
        """A number left out is a gap, at the beginning as in the middle; one a room is told."""
        self.table[3] = replace(self.table[3], seq=5)
        self.table[4] = replace(self.table[4], seq=2)
        self.sent["m4"].places[:] = [("red", 5)]
        self.sent["m5"].places[:] = [("blue", 2)]
        self.reader["red"][3] = replace(self.reader["red"][3], seq=5)
        self.reader["blue"][0] = replace(self.reader["blue"][0], seq=2)
        self.assertEqual({checker.GAP: 2}, self.found())

    def test_number_given_twice(self) -> None:
        """Two messages under one number are told as well."""
        self.table[3] = replace(self.table[3], seq=3)
        self.sent["m4"].places[:] = [("red", 3)]
        self.reader["red"][3] = replace(self.reader["red"][3], seq=3)
        self.assertEqual({checker.GAP: 1}, self.found())

    def test_readers(self) -> None:
        """A reader that missed, saw twice, saw out of order, or saw too much is told once a room."""
        red = self.reader["red"]
        ghost = Seen(5, "alice", "m5", "body of m5")
        for broken in (
            red[1:],
            red[:-1],
            [],
            [*red, red[-1]],
            [red[0], *red],
            [red[1], red[0], *red[2:]],
            [*red, ghost],
        ):
            self.reader["red"] = broken
            self.assertEqual({checker.READER: 1}, self.found(), broken)

    def test_reader_of_no_room(self) -> None:
        """A room that exists for a reader alone is told."""
        self.reader["green"] = [Seen(1, "alice", "m1", "body of m1")]
        self.assertEqual({checker.READER: 1}, self.found())

    def test_altered(self) -> None:
        """A reader that got another body than was sent is told."""
        self.reader["red"][2] = replace(self.reader["red"][2], body="another")
        self.assertEqual({checker.ALTERED: 1}, self.found())

    def test_order(self) -> None:
        """What is sent after another's acknowledgement may not stand before it; at once with it, it may."""
        self.sent["m3"].at = 8.0
        self.assertEqual({}, self.found())
        self.sent["m3"].at = 8.1
        self.assertEqual({checker.ORDER: 1}, self.found())

    def test_order_across_rooms(self) -> None:
        """Rooms have no order between them."""
        self.sent["m5"].at = 100.0
        self.assertEqual({}, self.found())

    def test_toothless(self) -> None:
        """A run with crashes in which no acknowledgement said `dup` has tested nothing; one without may be so."""
        self.sent["m2"].dups = 0
        self.assertEqual({checker.TOOTHLESS: 1}, self.found())
        self.assertEqual({}, self.found(crashed=False))
