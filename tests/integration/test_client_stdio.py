"""The views on real descriptors: pipes, files, closed ones and terminals, each with a reactor of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import IO, Any, ClassVar

import pyte
from pexpect import fdpexpect
from twisted.trial.unittest import SynchronousTestCase

import securechat

# What a view may turn on, and how it is turned off: pasting, a hidden cursor, another screen, the mouse.
MODES = (
    (b"\x1b[?2004h", b"\x1b[?2004l"), (b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?1049h", b"\x1b[?1049l"),
    (b"\x1b[?1000h", b"\x1b[?1000l"), (b"\x1b[?1003h", b"\x1b[?1003l"),
)  # fmt: skip
SECONDS = 20  # for anything that takes a fraction of one

DRIVER = '''
import sys
from twisted.internet import asyncioreactor, epollreactor
kind, ui = sys.argv[1:3]
{"asyncio": asyncioreactor, "epoll": epollreactor}[kind].install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from securechat.client.completion import completions
from securechat.client.view import Answer, Failure, Notice, Message, Status
from securechat.client.views.plain import PlainView
from securechat.client.views.choice import available
from securechat.client.views.full import FullView
from securechat.client.views.inline import InlineView
from securechat.errors import Exit


class Echo:
    """A client that answers itself, one turn of the reactor later. It has one room, and no memory."""

    exiting = False

    def talk(self, where):
        return ()

    pending = members = talk

    def marker(self, where):
        return 0

    def draft(self, where):
        return ""

    def set_draft(self, where, text):
        pass

    def seen(self, where):
        pass

    def preference(self, name):
        return "on"

    async def submit(self, line):
        later = Deferred()
        reactor.callLater(0, later.callback, None)
        await later
        if line == "/exit":
            self.exiting = True
        elif line == "/fail":
            view.show(Failure("failed", Exit.NOT_THERE))
            return Exit.NOT_THERE
        elif line == "/ask":
            view.show(Answer([f"got {await view.ask_secret('Password:')!r}"]))
        elif line == "/big":
            view.show(Answer(["x" * 999] * 5000))
        else:
            view.show(Message("general", "me", line))
        return Exit.OK

    async def close(self, timeout):
        view.show(Notice("closed"))
        return Exit.OK

    def complete(self, text):
        return completions(text, ["general"], ["bob"])


def done(status):
    global ended
    ended = status
    reactor.stop()


ended = 99  # the reactor was stopped by somebody else
if ui in ("inline", "full"):
    assert available(reactor) is None, available(reactor)
    view = {"inline": InlineView, "full": FullView}[ui](reactor, done=done)
else:
    view = PlainView(reactor, done=done, keep_going="keep" in sys.argv)
view.status(Status("alice", "general", "online"))
reactor.callWhenRunning(view.start, Echo())
reactor.run()
sys.exit(ended)
'''


def command(*arguments: str) -> list[str]:
    """The driver as a process."""
    return [sys.executable, "-c", DRIVER, *arguments]


def environment(**more: str) -> dict[str, str]:
    """For a child: this checkout, and nothing of the terminal the tests run in."""
    root = str(Path(securechat.__file__).parent.parent)
    dropped = ("NO_COLOR", "PROMPT_TOOLKIT_NO_CPR", "PROMPT_TOOLKIT_COLOR_DEPTH", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONPATH": root, "TERM": "xterm-256color", **more}


class PipeTests(SynchronousTestCase):
    """Tests for the plain view without a terminal."""

    reactor: ClassVar[str] = "epoll"

    def run_driver(
        self, stdin: bytes | IO[Any] | int, *arguments: str, shell: str = "", **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs it to its end; by a shell where descriptors are to be redirected as a user would."""
        words = command(self.reactor, "plain", *arguments)
        if shell:
            words = ["bash", "-c", f'"$@" {shell}', "bash", *words]
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        if "stdout" not in options:
            options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(
            words, **given, env=environment(), timeout=SECONDS, check=False, **{"stderr": subprocess.PIPE, **options}
        )

    def test_two_thousand_lines(self) -> None:
        """As many come out as went in, in order, although the input ended long before."""
        lines = [f"line {number}" for number in range(2000)]
        result = self.run_driver("\n".join([*lines, ""]).encode())
        self.assertEqual(0, result.returncode, result.stderr)
        self.assertEqual([f"[general] <me> {line}" for line in lines], result.stdout.decode().splitlines())
        self.assertEqual(b"* closed\n", result.stderr)

    def test_last_line_without_newline(self) -> None:
        """An unfinished last line counts."""
        result = self.run_driver(b"a\nb")
        self.assertEqual((0, b"[general] <me> a\n[general] <me> b\n"), (result.returncode, result.stdout))

    def test_slow_reader(self) -> None:
        """Five megabytes printed at once arrive whole behind a reader that takes its time."""
        result = self.run_driver(b"/big", shell="| (sleep 0.5; wc -c)")
        self.assertEqual(b"5000000", result.stdout.strip())

    def test_reader_that_has_enough(self) -> None:
        """Behind `| head -1` it ends by itself, with success and without a word about pipes."""
        shell = '2>"$ERRORS" | head -1; echo "${PIPESTATUS[0]}"'
        with tempfile.NamedTemporaryFile() as errors:
            shell = shell.replace("$ERRORS", errors.name)
            endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
            try:
                assert endless.stdout is not None
                result = self.run_driver(endless.stdout, shell=shell)
            finally:
                endless.kill()
                endless.wait()
                assert endless.stdout is not None
                endless.stdout.close()
            self.assertEqual(b"[general] <me> y\n0\n", result.stdout)
            self.assertEqual(b"* closed\n", errors.read())

    def test_idle_reader_that_has_enough(self) -> None:
        """The same where nothing more would have been printed, and the input stays open."""
        child = subprocess.Popen(
            command(self.reactor, "plain"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        try:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(b"a\n")
            child.stdin.flush()
            self.assertEqual(b"[general] <me> a\n", child.stdout.readline())
            child.stdout.close()
            self.assertEqual(0, child.wait(SECONDS))
        finally:
            child.kill()
            child.wait()
            child.stdin.close()

    def test_no_input(self) -> None:
        """/dev/null is the end at once."""
        result = self.run_driver(subprocess.DEVNULL)
        self.assertEqual((0, b"", b"* closed\n"), (result.returncode, result.stdout, result.stderr))

    def test_files(self) -> None:
        """From a file into a file."""
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(b"a\nb\n")
            source.seek(0)
            result = self.run_driver(source, stdout=target)
            target.seek(0)
            self.assertEqual((0, b"[general] <me> a\n[general] <me> b\n"), (result.returncode, target.read()))

    def test_closed_input(self) -> None:
        """`<&-` is no input, and no error."""
        result = self.run_driver(b"", shell="<&-")
        self.assertEqual((0, b"", b"* closed\n"), (result.returncode, result.stdout, result.stderr))

    def test_closed_output(self) -> None:
        """`>&-` and `2>&-` lose what would have been printed there, nothing else."""
        result = self.run_driver(b"a\n", shell=">&-")
        self.assertEqual((0, b"", b"* closed\n"), (result.returncode, result.stdout, result.stderr))
        result = self.run_driver(b"a\n", shell="2>&-")
        self.assertEqual((0, b"[general] <me> a\n"), (result.returncode, result.stdout))

    def test_full_disk(self) -> None:
        """Output that cannot be written is a failure that is said."""
        if not os.path.exists("/dev/full"):
            self.skipTest("needs /dev/full")  # of Linux: no other device is always full
        with open("/dev/full", "wb") as full:
            result = self.run_driver(b"a\n", stdout=full)
        self.assertEqual(1, result.returncode)
        self.assertIn(b"! Standard output cannot be written", result.stderr)

    def test_failure(self) -> None:
        """The first failure ends a script; told to keep going it only decides the status."""
        result = self.run_driver(b"a\n/fail\nb\n")
        self.assertEqual((7, b"[general] <me> a\n"), (result.returncode, result.stdout))
        result = self.run_driver(b"a\n/fail\nb\n", "keep", stderr=subprocess.STDOUT)
        expected = b"[general] <me> a\n! failed\n[general] <me> b\n* closed\n"
        self.assertEqual((7, expected), (result.returncode, result.stdout))

    def test_nobody_to_ask(self) -> None:
        """A question in a script is not answered by the next line."""
        result = self.run_driver(b"/ask\nhunter2\n")
        self.assertEqual(b"got None\n[general] <me> hunter2\n", result.stdout)


class AsyncioPipeTests(PipeTests):
    """The same on the asyncio reactor."""

    reactor = "asyncio"


class Terminal:
    """A pseudo-terminal with the driver on it; `close` ends both."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.attributes = termios.tcgetattr(self.slave)
        self.flags = fcntl.fcntl(self.slave, fcntl.F_GETFL)
        self.child = subprocess.Popen(
            command(*arguments),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment(**environ),
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup has it ignored, for children too
        )
        self.expect = fdpexpect.fdspawn(self.master, timeout=SECONDS)
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.seen = b""

    def wait_for(self, pattern: str) -> str:
        """Reads until the pattern appeared; what was read."""
        self.expect.expect(pattern)
        read: bytes = self.expect.before + self.expect.after
        self.seen += read
        self._stream.feed(read)
        return read.decode("utf-8", "replace")

    def wait_for_row(self, part: str) -> None:
        """Reads until that stands in a row of the screen, however it was drawn. Raises pexpect.TIMEOUT."""
        while not any(part in row for row in self.screen.display):
            self.wait_for("(?s).+")

    def drain(self) -> None:
        """Takes in what is left."""
        self.seen += self.expect.buffer
        os.set_blocking(self.master, False)
        with contextlib.suppress(OSError):
            while found := os.read(self.master, 65536):
                self.seen += found

    def send(self, text: str) -> None:
        """Presses keys."""
        self.expect.send(text)

    @property
    def echo(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def ended(self) -> int:
        """Waits for the end; the status."""
        return self.child.wait(SECONDS)

    def close(self) -> None:
        """Ends what still runs."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self.slave)
        os.close(self.master)


class TerminalCase(SynchronousTestCase):
    """Tests that leave a terminal as it was."""

    def terminal(self, *arguments: str, **environ: str) -> Terminal:
        """A terminal with the driver."""
        terminal = Terminal(*arguments, **environ)
        self.addCleanup(terminal.close)
        return terminal

    def assertRestored(self, terminal: Terminal) -> None:
        """Modes, and blocking, are those from before."""
        self.assertEqual(terminal.attributes, termios.tcgetattr(terminal.slave))
        self.assertEqual(terminal.flags, fcntl.fcntl(terminal.slave, fcntl.F_GETFL))


class PlainTerminalTests(TerminalCase):
    """Tests for the plain view on a terminal."""

    reactor: ClassVar[str] = "epoll"

    def test_secret(self) -> None:
        """A password is asked for without echo, and the echo is back behind it."""
        terminal = self.terminal(self.reactor, "plain")
        terminal.send("hello\n")
        terminal.wait_for("<me> hello")
        self.assertTrue(terminal.echo)
        terminal.send("/ask\n")
        terminal.wait_for("Password: ")
        while terminal.echo:
            pass
        terminal.send("hunter2\n")
        self.assertEqual(1, terminal.wait_for("got 'hunter2'").count("hunter2"))
        self.assertTrue(terminal.echo)
        terminal.send("\x04")
        self.assertEqual(0, terminal.ended())
        self.assertRestored(terminal)

    def test_killed_while_asking(self) -> None:
        """The echo is back whatever ended it."""
        for number, status in ((signal.SIGTERM, 99), (signal.SIGINT, 99), (signal.SIGHUP, 130)):
            terminal = self.terminal(self.reactor, "plain")
            terminal.send("/ask\n")
            terminal.wait_for("Password: ")
            while terminal.echo:
                pass
            terminal.child.send_signal(number)
            self.assertEqual(status, terminal.ended())
            self.assertRestored(terminal)

    def test_hint(self) -> None:
        """A password on the line is answered by the better way."""
        terminal = self.terminal(self.reactor, "plain")
        terminal.send("/login alice hunter2\n")
        terminal.wait_for("/login alice asks for it without echo")


class AsyncioPlainTerminalTests(PlainTerminalTests):
    """The same on the asyncio reactor."""

    reactor = "asyncio"


class InlineTerminalTests(TerminalCase):
    """Tests for the inline view on a terminal."""

    ui: ClassVar[str] = "inline"

    def begin(self, **environ: str) -> Terminal:
        """A terminal that shows the prompt."""
        terminal = self.terminal("asyncio", self.ui, **environ)
        terminal.wait_for("alice>")
        return terminal

    def test_conversation(self) -> None:
        """A line, a password, and the way out; the terminal is as it was."""
        terminal = self.begin()
        terminal.send("hello\r")
        terminal.wait_for_row("<me> hello")
        terminal.send("/ask\r")
        terminal.wait_for("Password:")
        terminal.send("hunter2")
        terminal.wait_for(r"\*\*\*\*\*\*\*")
        self.assertNotIn(b"hunter2", terminal.seen)
        terminal.send("\r")
        terminal.wait_for_row("got 'hunter2'")
        terminal.send("/exit\r")
        terminal.wait_for("closed")
        self.assertEqual(0, terminal.ended())
        self.assertRestored(terminal)
        self.assertNotIn(b"\x1b[6n", terminal.seen)  # nor was it asked where the cursor is

    def test_killed(self) -> None:
        """The terminal is as it was, whatever ended it."""
        for number, status in ((signal.SIGTERM, 99), (signal.SIGINT, 99), (signal.SIGHUP, 130)):
            terminal = self.begin()
            self.assertFalse(terminal.echo)
            terminal.send("half a li")
            terminal.wait_for("li")
            terminal.child.send_signal(number)
            self.assertEqual(status, terminal.ended())
            self.assertRestored(terminal)
            terminal.drain()
            for on, off in MODES:
                self.assertGreaterEqual(terminal.seen.rfind(off), terminal.seen.rfind(on), f"{on!r} stays on")

    def test_no_color(self) -> None:
        """NO_COLOR is heard."""
        colour = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38)[;m]")
        for environ, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
            terminal = self.begin(**environ)
            terminal.send("hello\r")
            terminal.wait_for("<me>")
            self.assertEqual(expected, colour.search(terminal.seen) is not None, terminal.seen)

    def test_not_usable(self) -> None:
        """A dumb terminal, a pipe and another reactor have their reasons."""
        script = (
            "from securechat.client.views.choice import available\n"
            "from twisted.internet.asyncioreactor import AsyncioSelectorReactor\n"
            "import sys\n"
            "print(available(AsyncioSelectorReactor() if len(sys.argv) > 1 else object()))\n"
        )
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)

        def reason(stdin: int, stdout: int, *arguments: str, **environ: str) -> str:
            result = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                stdin=stdin,
                stdout=stdout,
                env=environment(**environ),
                timeout=SECONDS,
                check=True,
            )
            return (result.stdout or os.read(master, 1000)).decode().strip()

        self.assertIn("not both a terminal", reason(slave, subprocess.PIPE, "asyncio"))
        self.assertIn("dumb", reason(slave, slave, "asyncio", TERM="dumb"))
        self.assertIn("asyncio reactor", reason(slave, slave))
        self.assertEqual("None", reason(slave, slave, "asyncio"))


class FullTerminalTests(InlineTerminalTests):
    """The same for the full view."""

    ui = "full"
