"""Tests for messages that the server removed as too old, and for a server that only says so."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError

from tests.doubles import ChatClient
from tests.evil import Said
from tests.evil_case import EvilCase

DAY = 24 * 3600
ALARM = "[ops] The server goes on at another place than you had come to. Sending there is stopped."
REMOVED = "removed by the server before you read them"


class RemovedTests(EvilCase):
    """Bob is away while alice and carol talk; what they said is gone when he comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = self.people("alice", "bob", "carol")
        self.alice.type("/send before")
        self.settle()
        self.kept = 1

    def away(self, client: ChatClient, seconds: float) -> None:
        """A client is cut off for so long, while three messages are said."""
        self.network.failure = ConnectionRefusedError()
        client.wire.cut()
        self.settle()
        for number in range(3):
            self.alice.type(f"/send meanwhile {number}")
        self.settle()
        self.pass_time(seconds)

    def back(self) -> None:
        """There is a way to the server again."""
        self.network.come_back()
        self.pass_time(60)

    def trim(self, days: int | None = None) -> None:
        """The server removes all there is; `days` is what it says of how long it keeps messages."""
        self.do(self.store.set_retention("ops", 1))
        now = int(self.reactor.seconds() * 1000) + 2 * DAY * 1000
        while self.do(self.store.trim(now=now)):
            pass
        self.do(self.store.set_retention("ops", days))

    def assertNotShown(self, part: str, client: ChatClient) -> None:
        """A client was told nothing of the kind, ever."""
        self.assertNotIn(part, client.view.text)

    def test_away_for_long(self) -> None:
        """Who was away for longer than messages are kept is told how many are gone, and goes on."""
        self.away(self.bob, 2 * DAY)
        self.trim(1)
        self.back()
        self.assertShown(f"[ops] * Messages 2 to 4 were {REMOVED}: it keeps them for 1 day.", self.bob)
        self.assertNotShown("stopped", self.bob)
        self.alice.type("/send after")
        self.assertShown("after", self.bob)
        self.bob.type("/send and back")
        self.assertShown("and back", self.alice)
        self.assertNotShown("stopped", self.bob)
        self.assertNotShown("stopped", self.alice)

    def test_away_for_less(self) -> None:
        """What came while one was away for less than that cannot be too old: an alarm."""
        self.away(self.bob, 3600)
        self.trim(1)
        self.back()
        self.assertShown(ALARM, self.bob)
        self.assertNotShown(REMOVED, self.bob)

    def test_away_for_less_than_kept(self) -> None:
        """It is the time that the server itself names that counts."""
        self.away(self.bob, 2 * DAY)
        self.trim(30)
        self.back()
        self.assertShown(ALARM, self.bob)

    def test_skipped_without_a_word(self) -> None:
        """A server that skips more than it says is gone is met with the alarm of before."""
        self.away(self.bob, 2 * DAY)
        place = list(self.carol.core.conversations.get("ops").reader.transcript.place)  # type: ignore[union-attr]

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != "bob" or kind != "sync":
                return None
            told = {"start": place, "trimmed": 3, "kept": 1}
            states = [{**one, **told} if one["room"] == "ops" else one for one in said["conversations"]]
            return [{**said, "conversations": states}]

        self.evil.rule(rule)
        self.back()
        self.assertShown(ALARM, self.bob)

    def test_had_read_them(self) -> None:
        """Whoever had read what is gone is told nothing, until they ask for it."""
        self.away(self.bob, 10)
        self.back()
        self.assertShown("meanwhile 2", self.bob)
        self.trim(1)
        self.network.failure = ConnectionRefusedError()
        self.bob.wire.cut()
        self.settle()
        self.back()
        self.assertNotShown("stopped", self.bob)
        older = "* Older messages (up to number 4) were removed by the server: it does not keep them longer."
        self.assertEqual([older, "ops has no messages any more."], self.bob.type("/history ops")[-2:])
        self.alice.type("/send after")
        first, message = self.bob.type("/history ops")[-2:]
        self.assertEqual((older, True), (first, message.endswith("<alice> after")))
        self.bob.type("/audit")
        self.assertNotShown("stopped", self.bob)

    def test_continue(self) -> None:
        """After an alarm over what is gone one can go on from where the server is."""
        self.away(self.bob, 3600)
        self.trim(1)
        self.back()
        self.assertShown(ALARM, self.bob)
        self.bob.type("/continue ops")
        self.bob.type("/switch ops")
        self.bob.type("/send here again")
        self.assertShown("here again", self.alice)
