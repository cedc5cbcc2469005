"""The client in tmux, as somebody has it open all day: what tmux says is on the screen is what is looked at."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unittest import SkipTest

from tests.integration.harness import (
    PASSWORD,
    PATIENCE,
    IntegrationTestCase,
    Person,
    Wire,
    client_command,
    environment,
)

FAMILY: Final = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one picture here, three side by side there
# How the client ended, and what it left of the terminal; tmux tells the rest of a window that is still there.
_WATCHED: Final = '"$@"; echo "status=$?"; stty -a; exec sleep 1000'
WIDE: Final = ("日本語", "e\u0301", "👍🏽", "🇩🇪", FAMILY, "❤️")


class Tmux:
    """A server of its own with one window, in which a command runs.

    Args:
        socket: where it listens; nobody else's sessions are touched.
    """

    def __init__(self, socket: str, command: list[str], env: dict[str, str], *, columns: int, rows: int) -> None:
        self._socket = socket
        self._env = {**env, "TERM": "xterm-256color"}
        self._do("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), "-s", "t", *command)

    def _do(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", self._socket, *arguments], env=self._env, capture_output=True, timeout=PATIENCE
        )
        return done.stdout.decode()

    @property
    def rows(self) -> list[str]:
        """The screen."""
        return [row.rstrip() for row in self._do("capture-pane", "-p", "-t", "t").splitlines()]

    def tell(self, what: str) -> str:
        """One of tmux's own figures about the pane."""
        return self._do("display-message", "-p", "-t", "t", f"#{{{what}}}").strip()

    def type(self, text: str, *keys: str) -> None:
        """Types a text, then keys by their names."""
        if text:
            self._do("send-keys", "-t", "t", "-l", "--", text)
        for key in keys:
            self._do("send-keys", "-t", "t", key)

    def resize(self, columns: int, rows: int) -> None:
        """Gives the window another size."""
        self._do("resize-window", "-t", "t", "-x", str(columns), "-y", str(rows))

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Looks until something holds. Raises AssertionError with the screen."""
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {what}. The screen:\n" + "\n".join(filter(None, self.rows)))
            time.sleep(0.05)

    def sees(self, text: str) -> None:
        """Waits until that is on the screen."""
        self.until(lambda: any(text in row for row in self.rows), text)

    def end(self) -> None:
        """Ends it, with all in it."""
        self._do("kill-server")


class FullViewTests(IntegrationTestCase):
    """alice in the full view, in a room with somebody who talks."""

    def setUp(self) -> None:
        super().setUp()
        if shutil.which("tmux") is None:
            raise SkipTest("tmux is not installed")
        self.server = self.daemon(settings={"messages_per_second": 1e6, "message_burst": 1e6})
        self.talker: Person
        self.wire_of_talker: Wire
        self.talker, self.wire_of_talker = self.person(self.server, "talker", room="general")
        command = ["sh", "-c", _WATCHED, "sh", *client_command(self.directory / "alice", self.server.line, "--full")]
        socket = str(self.directory / "tmux")
        self.tmux = Tmux(socket, command, environment(self.directory), columns=100, rows=24)
        self.addCleanup(self.tmux.end)
        self.tmux.sees("Choose a name")
        self.tmux.type(f"/register alice {PASSWORD}", "Enter")
        self.tmux.sees("Welcome, alice.")
        self.tmux.type("/join general", "Enter")
        self.tmux.sees("[general] alice>")

    def say(self, *texts: str) -> None:
        """The other says something."""
        self.talker.send(self.wire_of_talker, "general", *texts)

    def assertWhole(self) -> None:
        """The rows of the talk have their borders where they belong, and nothing of other rows in them."""
        rows = [row for row in self.tmux.rows if row.count("│") >= 1]
        self.assertTrue(rows)
        self.assertEqual({2}, {row.count("│") for row in rows}, "\n".join(rows))
        for row in rows:
            self.assertEqual("", row.split("│")[0][20:].strip())

    def test_wide_characters(self) -> None:
        """Emoji, joined ones too, leave nothing behind when the talk scrolls, and no border moves."""
        for number in range(12):
            self.say(*(f"{number} {text} end" for text in WIDE))
        self.tmux.sees("11 ❤")
        time.sleep(0.5)
        self.assertWhole()
        self.say(*(f"plain {number}" for number in range(40)))
        self.tmux.sees("plain 39")
        talk = [row.split("│")[1] for row in self.tmux.rows if row.count("│") == 2 and "plain" in row]
        self.assertEqual(
            [f"plain {number}" for number in range(40 - len(talk), 40)], [r.split("> ")[1].strip() for r in talk]
        )

    def test_typing_resizing_and_a_lost_server(self) -> None:
        """A line being typed stays whole while others write, the window changes and the server is killed and back."""
        for number, letters in enumerate(("a thought ", "that takes ", "its time")):
            self.tmux.type(letters)
            self.say(f"message {number}")
        self.tmux.sees("message 2")
        self.tmux.sees("[general] alice> a thought that takes its time")
        self.tmux.resize(60, 14)
        self.tmux.sees("[general] alice> a thought that takes its time")
        self.tmux.resize(120, 30)
        self.tmux.until(lambda: any(row.count("│") == 2 for row in self.tmux.rows), "there is room for the lists again")
        self.tmux.sees("[general] alice> a thought that takes its time")
        self.assertWhole()
        self.server.kill()
        self.tmux.sees("next try in")
        self.tmux.type("", "Enter")
        self.tmux.sees("(waiting)")
        self.server.start()
        self.tmux.until(lambda: "(waiting)" not in "\n".join(self.tmux.rows), "it is sent")
        self.tmux.sees("<alice> a thought that takes its time")
        self.assertEqual(1, "\n".join(self.tmux.rows).count("a thought that takes its time"))

    def assertSane(self) -> None:
        """The normal screen, with cursor, mouse and keys as they were."""
        expected = {"alternate_on": "0", "mouse_any_flag": "0", "keypad_cursor_flag": "0", "cursor_flag": "1"}
        self.assertEqual(expected, {what: self.tmux.tell(what) for what in expected})
        told = " ".join(self.tmux.rows)
        for setting in (" icanon", " echo ", " isig"):
            self.assertIn(setting, told)

    def test_ends(self) -> None:
        """SIGTERM leaves the terminal as it was."""
        self.assertEqual("1", self.tmux.tell("alternate_on"))
        shell = self.tmux.tell("pane_pid")
        (client,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(client), signal.SIGTERM)
        self.tmux.sees("status=130")
        self.assertSane()

    def test_interrupted(self) -> None:
        """Ctrl-C clears the line; twice it leaves, with status 0, and the terminal as it was."""
        self.tmux.type("half a line", "C-c")
        self.tmux.until(lambda: not any("half a line" in row for row in self.tmux.rows), "the line is gone")
        self.tmux.sees("Ctrl-C again leaves")
        self.tmux.type("", "C-c")
        self.tmux.sees("status=0")
        self.assertSane()
