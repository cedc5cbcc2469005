"""The client on a terminal: keys in, the screen out, and the terminal afterwards as it was before."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path

from securechat.wire import messages as m
from tests.integration.harness import (
    CLIENT,
    PASSWORD,
    TWISTD,
    IntegrationTestCase,
    Person,
    TerminalClient,
    Wire,
    exists,
    until,
)

UP, CTRL_C, CTRL_D, TAB = "\x1b[A", "\x03", "\x04", "\t"
# What the terminal was set to, before and after, and how the client ended.
_WATCHED = 'stty -g; "$@"; echo "status=$?"; stty -g'


class PromptTests(IntegrationTestCase):
    """alice at a terminal, in a room with somebody who talks."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.daemon(settings={"messages_per_second": 1e6, "message_burst": 1e6})
        self.talker: Person
        self.wire_of_talker: Wire
        self.talker, self.wire_of_talker = self.person(self.server, "talker", room="general")
        self.alice = self.terminal("alice", self.server.line)
        self.alice.wait_for_prompt("Choose a name (Enter: the prompt):")
        self.alice.type(CTRL_C)
        self.alice.wait_for_prompt(">")
        self.alice.enter(f"/register alice {PASSWORD}")
        self.alice.wait_for("Welcome, alice.")
        self.alice.enter("/join general")
        self.alice.wait_for_prompt("[general] alice>")

    def say(self, *texts: str) -> None:
        """The other says something."""
        self.talker.send(self.wire_of_talker, "general", *texts)

    def test_what_is_typed_is_not_torn(self) -> None:
        """Messages arrive above the line being typed, whole and in order, and leave that line as it is."""
        count, typed = 60, "a thought that takes its time, and is finished at last"
        saying = threading.Thread(target=lambda: [self.say(f"message {number}") for number in range(count)])
        saying.start()
        for key in typed:
            self.alice.type(key)
            self.alice.look(0.02)
        saying.join()
        self.alice.wait_for(f"message {count - 1}")
        self.alice.wait_for_prompt(f"[general] alice> {typed}")
        self.assertEqual(len(self.alice.prompt), self.alice.column)
        rows = [row for row in self.alice.rows if row]
        self.assertEqual([self.alice.prompt, " alice:general  online"], rows[-2:])
        shown = rows[:-2][-20:]
        self.assertEqual([f"[general] <talker> message {number}" for number in range(count - 20, count)], shown)
        self.alice.type("\r")
        self.alice.wait_for(f"[general] <alice> {typed}")
        self.alice.wait_for_prompt("[general] alice>")

    def test_history_of_what_was_typed(self) -> None:
        """Up brings back what was typed, without the passwords."""
        self.alice.enter("something to say")
        self.alice.wait_for("[general] <alice> something to say")
        self.alice.type(UP)
        self.alice.wait_for_prompt("[general] alice> something to say")
        self.alice.type(UP)
        self.alice.wait_for_prompt("[general] alice> /join general")
        self.alice.type(UP)
        self.alice.wait_for_prompt("[general] alice> /register alice")
        self.alice.type(UP)
        self.alice.look(0.2)
        self.assertEqual("[general] alice> /register alice", self.alice.prompt)
        self.assertNotIn(PASSWORD, self.alice.text, "the password was shown")

    def test_completion(self) -> None:
        """Tab completes commands, rooms and people."""
        self.say("hello alice")
        self.alice.wait_for("<talker> hello alice")
        for typed, completed in (("/hi", "/history"), ("/switch gen", "/switch general"), ("talk", "talker:")):
            self.alice.type(typed + TAB)
            self.alice.wait_until(
                lambda completed=completed: self.alice.prompt == f"[general] alice> {completed}", f"{completed!r}"
            )
            self.alice.type("\x15")  # Ctrl-U: an empty line again
            self.alice.wait_for_prompt("[general] alice>")

    def test_ctrl_d(self) -> None:
        """Ctrl-D on an empty line leaves; with something typed it does not."""
        self.alice.type("x" + CTRL_D)
        self.alice.look(0.3)
        self.assertEqual("[general] alice> x", self.alice.prompt)
        self.alice.type("\x7f")
        self.alice.wait_for_prompt("[general] alice>")
        self.alice.type(CTRL_D)
        self.assertEqual(0, self.alice.wait())

    def test_ctrl_c(self) -> None:
        """Ctrl-C clears the line and says what a second one does; the second leaves, after sending what was typed."""
        self.alice.type("not to be sent" + CTRL_C)
        self.alice.wait_until(lambda: "Ctrl-C again leaves" in self.alice.bar, "the warning")
        self.alice.type("x\x7f")
        self.alice.wait_for_prompt("[general] alice>")
        self.alice.enter("to be sent")
        self.alice.type(CTRL_C + CTRL_C)
        self.assertEqual(0, self.alice.wait())
        with Wire(self.server.port) as wire:
            self.talker.resume(wire)
            self.talker.sync(wire, {"general": 0})
            self.assertEqual("to be sent", self.talker.open(wire.event(m.StoredMessage)))

    def test_server_away(self) -> None:
        """The bar says that the server is away, when it is tried again and what waits; all go when it is back."""
        self.server.kill()
        self.alice.wait_until(lambda: "offline, next try in " in self.alice.bar, "its state")
        self.alice.enter("kept meanwhile")
        self.alice.wait_until(lambda: "1 waiting" in self.alice.bar, "what waits")
        self.server.restart()
        self.alice.wait_for("[general] <alice> kept meanwhile")
        self.alice.wait_until(lambda: self.alice.bar == " alice:general  online", "the bar as before")

    def test_other_rooms(self) -> None:
        """Another room is counted in the bar; Alt+A opens it there, with what had not been read, and reads it."""
        other, wire = self.person(self.server, "other", room="games")
        self.alice.enter("/join games")
        self.alice.wait_for_prompt("[games] alice>")
        self.alice.type("\x1b2")
        self.alice.wait_for_prompt("[general] alice>")
        other.send(wire, "games", "one", "two @alice")
        self.alice.wait_until(lambda: "1:games(2" in self.alice.bar, "what is unread")
        self.assertFalse(any("<other>" in row for row in self.alice.rows))
        self.alice.type("\x1ba")
        self.alice.wait_for_prompt("[games] alice>")
        self.alice.wait_for("[games] <other> two @alice")
        self.alice.wait_until(lambda: "games(" not in self.alice.bar, "nothing unread")
        self.alice.wait_for("--- 2 new ---")


class FullViewTests(IntegrationTestCase):
    """alice in the full view."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.daemon(settings={"messages_per_second": 1e6, "message_burst": 1e6})
        self.talker: Person
        self.wire_of_talker: Wire
        self.talker, self.wire_of_talker = self.person(self.server, "talker", room="general")
        self.alice = self.terminal("alice", self.server.line, "--full")
        self.alice.wait_for_prompt("Choose a name (Enter: the prompt):")
        self.alice.type(CTRL_C)
        self.alice.wait_for_prompt(">")
        self.alice.enter(f"/register alice {PASSWORD}")
        self.alice.wait_for("Welcome, alice.")
        self.alice.enter("/join general")
        self.alice.wait_for_prompt("[general] alice>")

    def shown(self) -> list[str]:
        """The texts of the talker's messages on the screen."""
        return [row.partition("<talker> ")[2].split("│")[0].rstrip() for row in self.alice.rows if "<talker>" in row]

    def test_typing_while_messages_arrive(self) -> None:
        """They come in order, at the end; the line stays whole; then one's own stands behind them."""
        typed = "a thought that takes its time"
        saying = threading.Thread(
            target=lambda: [self.talker.send(self.wire_of_talker, "general", f"message {n}") for n in range(40)]
        )
        saying.start()
        for key in typed:
            self.alice.type(key)
            self.alice.look(0.02)
        saying.join()
        self.alice.wait_for("message 39")
        self.alice.wait_for_prompt(f"[general] alice> {typed}")
        shown = self.shown()
        self.assertEqual([f"message {n}" for n in range(40 - len(shown), 40)], shown)
        self.alice.type("\r")
        self.alice.wait_for(f"<alice> {typed}")

    def test_resize_and_wide_characters(self) -> None:
        """Another size draws everything anew; what takes two columns moves no pane."""
        self.talker.send(self.wire_of_talker, "general", "日本語 👩‍👩‍👧 e\u0301 🎉" * 6)
        self.alice.wait_for("日")
        for rows, columns in ((24, 70), (40, 120), (10, 40)):
            self.alice.resize(rows, columns)
            self.alice.wait_until(lambda rows=rows: self.alice.rows[rows - 1] == "[general] alice>", "the prompt")
            self.alice.wait_for("日")
            self.alice.look(0.3)
            borders = {row.index("│") for row in self.alice.rows if "│" in row and "日" not in row and "🎉" not in row}
            self.assertLessEqual(len(borders), 1, "\n".join(self.alice.rows))

    def test_server_away(self) -> None:
        """One's words stand there waiting while the server is away, and as sent when it is back."""
        self.server.kill()
        self.alice.wait_until(lambda: any("offline, next try in " in row for row in self.alice.rows), "its state")
        self.alice.enter("kept meanwhile")
        self.alice.wait_for("<alice> kept meanwhile (waiting)")
        self.server.restart()
        self.alice.wait_until(lambda: any(row.endswith("kept meanwhile") or "kept meanwhile  " in row
                                          for row in self.alice.rows), "it sent")  # fmt: skip

    def test_leaving(self) -> None:
        """Ctrl-C twice leaves, and the screen of before is back."""
        self.alice.type(CTRL_C + CTRL_C)
        self.assertEqual(0, self.alice.wait())
        self.assertGreater(self.alice.text.rfind("\x1b[?1049l"), self.alice.text.rfind("\x1b[?1049h"))
        self.assertNotIn("\x1b[?1000h", self.alice.text)


def _end(pid: int) -> None:
    """Ends a process that is our child's child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not exists(pid), "the client's end")


class TerminalTests(IntegrationTestCase):
    """What is left of the terminal."""

    def _watched(self, *command: str) -> tuple[TerminalClient, int]:
        """A client under a shell that tells the terminal's settings before and after; and the client's pid."""
        (self.directory / "alice").mkdir(mode=0o700, exist_ok=True)
        client = TerminalClient(self.directory / "alice", "", command=("/bin/sh", "-c", _WATCHED, "sh", *command))
        self.addCleanup(client.end)
        shell = client.child.pid
        client.wait_for("/help")
        children = Path(f"/proc/{shell}/task/{shell}/children")
        pid = int(until(lambda: children.read_text(encoding="ascii").split(), "the client's process")[-1])
        self.addCleanup(_end, pid)
        self._pids += [shell, pid]
        return client, pid

    def _as_before(self, client: TerminalClient, status: int) -> None:
        client.wait()
        (ended,) = re.findall(r"status=(\d+)", client.text)
        self.assertEqual(status, int(ended), client.text[-2000:])
        settings = re.findall(r"^[0-9a-f]+(?::[0-9a-f]+)+\r?$", client.text, re.MULTILINE)
        self.assertEqual(2, len(settings), client.text)
        self.assertEqual(settings[0].strip(), settings[1].strip())
        for on, off in (("\x1b[?2004h", "\x1b[?2004l"), ("\x1b[?25l", "\x1b[?25h"), ("\x1b[?1049h", "\x1b[?1049l")):
            self.assertGreaterEqual(client.text.rfind(off), client.text.rfind(on), f"{on!r} stays on")

    def _command(self, *more: str) -> tuple[str, ...]:
        return (*CLIENT, "--data-dir", str(self.directory / "alice"), *more)

    def test_sigterm(self) -> None:
        """SIGTERM leaves a sane terminal, at the prompt and while a password is asked for, in both views."""
        views: list[str] = []
        line = str(self.daemon().line)
        for typed, shown in (
            (CTRL_C + "half a line", "> half a line"),
            ("/register alice\r", "New password for alice:"),
        ) * 2:
            views.append("--full" if len(views) > 1 else "--ui=inline")
            client, pid = self._watched(*self._command(views[-1], line))
            client.type(typed)
            client.wait_until(lambda c=client, s=shown: c.prompt.startswith(s), shown)
            os.kill(pid, signal.SIGTERM)
            self._as_before(client, 130)

    def test_exit(self) -> None:
        """So do /exit, and a client that twistd started."""
        line = str(self.daemon().line)
        client, _ = self._watched(*self._command(line))
        client.enter("/exit")
        self._as_before(client, 0)
        python, options = CLIENT[0], ("-l", str(self.directory / "twistd.log"), "--reactor=asyncio")
        client, _ = self._watched(
            python, *TWISTD, *options, "securechat-client", "--data-dir", str(self.directory / "alice"), line
        )
        client.enter(f"/register alice {PASSWORD}")
        client.wait_for("Welcome, alice.")
        client.enter("/exit")
        self._as_before(client, 0)
        self.assertNotIn(PASSWORD, (self.directory / "twistd.log").read_text(encoding="utf-8"))
