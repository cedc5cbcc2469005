"""Tests for what draws attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.launch import Ended
from securechat.client.view import Alert
from securechat.client.views.notify import KINDS, MAX_TEXT, Notifier

ALERT = Alert("general", "bob", "bob in general")
TOLD = Alert("@bob", "bob", "bob writes to you", "are you there?")


class Terminal:
    """What is written, and what is started."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []
        self.started: list[tuple[Sequence[str], Mapping[str, str], Ended]] = []
        self.failures: list[str] = []

    def notifier(self, *kinds: str, tmux: bool = False, command: str = "") -> Notifier:
        """A notifier of this terminal."""
        return Notifier(
            kinds,
            self.written.append,
            lambda *started: self.started.append(started),
            {"TMUX": "/tmp/tmux,1,0"} if tmux else {},
            clock=self.clock.seconds,
            failed=self.failures.append,
            command=command,
        )


class NotifierCase(SynchronousTestCase):
    """Tests with a terminal."""

    def setUp(self) -> None:
        self.terminal = Terminal()


class TerminalTests(NotifierCase):
    """Tests for the terminal's bell and notifications."""

    def assertWritten(self, written: bytes, *kinds: str, alert: Alert = ALERT, tmux: bool = False) -> None:
        """An alert in these ways writes exactly this."""
        self.terminal.notifier(*kinds, tmux=tmux).alert(alert)
        self.assertEqual(written, b"".join(self.terminal.written))
        self.terminal.written.clear()

    def test_forms(self) -> None:
        """Each way has its bytes; without a text there is none in them."""
        self.assertWritten(b"\x07", "bell")
        self.assertWritten(b"\x1b]9;bob in general\x07", "osc9")
        self.assertWritten(b"\x1b]777;notify;bob in general;\x07", "osc777")
        self.assertWritten(b"\x1b]99;;bob in general\x1b\\", "osc99")
        self.assertWritten(b"", "none")
        self.assertWritten(b"")

    def test_text(self) -> None:
        """With the text that the core gave."""
        self.assertWritten(b"\x1b]9;bob writes to you: are you there?\x07", "osc9", alert=TOLD)
        self.assertWritten(b"\x1b]777;notify;bob writes to you;are you there?\x07", "osc777", alert=TOLD)
        self.assertWritten(
            b"\x1b]99;i=1:d=0;bob writes to you\x1b\\\x1b]99;i=1:p=body;are you there?\x1b\\", "osc99", alert=TOLD
        )

    def test_several(self) -> None:
        """All that were chosen, at once."""
        self.assertWritten(
            b"\x1b]9;bob in general\x07\x1b]777;notify;bob in general;\x07\x07", "bell", "osc777", "osc9"
        )

    def test_tmux(self) -> None:
        """Inside tmux a notification is passed on to the terminal outside; a bell is tmux's own matter."""
        self.assertWritten(b"\x1bPtmux;\x1b\x1b]9;bob in general\x07\x1b\\\x07", "bell", "osc9", tmux=True)
        self.assertWritten(b"\x1bPtmux;\x1b\x1b]99;;bob in general\x1b\x1b\\\x1b\\", "osc99", tmux=True)

    def test_hostile(self) -> None:
        """A name or a text ends no notification early, adds no field, and is short."""
        evil = Alert("x", "x", "a\x07b\x1b\\c\x9cd\n;e\u202e", "x;y\x1b]52;c;?\x07" * 100)
        word = r"[^\x00-\x1f\x7f-\x9f;]{1,200}"
        for kind, form in (
            ("osc9", rf"\x1b\]9;{word}: {word}\x07"),
            ("osc777", rf"\x1b\]777;notify;{word};{word}\x07"),
            ("osc99", rf"\x1b\]99;i=1:d=0;{word}\x1b\\\x1b\]99;i=1:p=body;{word}\x1b\\"),
        ):
            self.terminal.notifier(kind).alert(evil)
            self.assertRegex(self.terminal.written.pop().decode(), rf"\A{form}\Z")

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.text(max_size=30), st.text(max_size=30))
    def test_fuzz(self, title: str, text: str) -> None:
        """Whatever is said: between the beginning of a notification and its end stands nothing that steers."""
        terminal = Terminal()
        terminal.notifier("osc9").alert(Alert("x", "x", title, text))
        written = b"".join(terminal.written).decode()
        self.assertTrue(written.startswith("\x1b]9;") and written.endswith("\x07"))
        self.assertFalse([c for c in written[4:-1] if ord(c) < 32 or 127 <= ord(c) < 160])

    def test_not_too_often(self) -> None:
        """One a second; the next one says how many were left out."""
        notifier = self.terminal.notifier("osc9")
        for _ in range(4):
            notifier.alert(ALERT)
        self.assertEqual(1, len(self.terminal.written))
        self.terminal.clock.advance(1)
        notifier.alert(ALERT)
        self.assertEqual(b"\x1b]9;bob in general (+3 more)\x07", self.terminal.written[1])
        self.terminal.clock.advance(1)
        notifier.alert(ALERT)
        self.assertEqual(b"\x1b]9;bob in general\x07", self.terminal.written[2])

    def test_unknown(self) -> None:
        """An unknown way is refused, with those there are."""
        with self.assertRaises(ValueError) as caught:
            self.terminal.notifier("bell", "fax")
        self.assertEqual(f"fax is no way to notify. There are: {', '.join(KINDS)}.", str(caught.exception))


class CommandTests(NotifierCase):
    """Tests for a command of the user's own."""

    def test_command(self) -> None:
        """Its words as typed; who and where in its environment, and what was said only where the core gave it."""
        self.terminal.notifier("command", command="notify-send 'Secure Chat' $X").alert(ALERT)
        words, more, _ = self.terminal.started[0]
        self.assertEqual(["notify-send", "Secure Chat", "$X"], words)
        self.assertEqual(
            {"SECURECHAT_ROOM": "general", "SECURECHAT_SENDER": "bob", "SECURECHAT_TITLE": "bob in general",
             "SECURECHAT_MORE": "0"},
            more,
        )  # fmt: skip
        self.assertEqual([], self.terminal.written)

    def test_text(self) -> None:
        """A text is cleaned and short, and keeps its punctuation."""
        self.terminal.notifier("command", command="x").alert(Alert("a", "b", "c", "d;\x1b[2Je\n" + "f" * 500))
        text = self.terminal.started[0][1]["SECURECHAT_TEXT"]
        self.assertTrue(text.startswith("d;\ufffd[2Je f"), text)
        self.assertEqual(MAX_TEXT, len(text))

    def test_only_where_chosen(self) -> None:
        """A command that is set but not chosen is not started."""
        self.terminal.notifier("bell", command="x").alert(ALERT)
        self.assertEqual([], self.terminal.started)

    def test_one_at_a_time(self) -> None:
        """While it runs no other is started; nothing waits in line, it is counted."""
        notifier = self.terminal.notifier("command", command="x")
        notifier.alert(ALERT)
        self.terminal.clock.advance(60)
        for _ in range(1000):
            notifier.alert(ALERT)
        self.assertEqual(1, len(self.terminal.started))
        self.terminal.started[0][2]("")
        self.assertEqual(1, len(self.terminal.started))
        notifier.alert(TOLD)
        self.assertEqual("1000", self.terminal.started[1][1]["SECURECHAT_MORE"])

    def test_not_too_often(self) -> None:
        """A command that ends at once is started every two seconds at most."""
        notifier = self.terminal.notifier("command", command="x")
        for _ in range(9):
            notifier.alert(ALERT)
            self.terminal.started[-1][2]("")
            self.terminal.clock.advance(0.5)
        self.assertEqual(3, len(self.terminal.started))

    def test_fails(self) -> None:
        """A command that fails is told once, and not started again; other ways go on."""
        notifier = self.terminal.notifier("bell", "command", command="x")
        notifier.alert(ALERT)
        self.terminal.started[0][2]("x is not on this machine")
        for _ in range(3):
            self.terminal.clock.advance(5)
            notifier.alert(ALERT)
        self.assertEqual(1, len(self.terminal.started))
        self.assertEqual(
            ["Notifications by your command stopped: x is not on this machine. Mend it, and set it anew."],
            self.terminal.failures,
        )
        self.assertEqual(4, len(self.terminal.written))

    def test_not_a_command(self) -> None:
        """An open quote and an empty command are refused at once, and say what to do."""
        for command, said in (("x 'y", "Close it."), ("", "Name one"), ("  ", "Name one")):
            with self.assertRaises(ValueError) as caught:
                self.terminal.notifier("command", command=command)
            self.assertIn(said, str(caught.exception))
