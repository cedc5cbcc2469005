"""Makes the pictures of the views (docs/inline.svg, full.svg, plain.svg) from a real session: `python docs/picture.py`.

A daemon, bob and carol in pipes, alice at a terminal, in each view in turn; what is drawn is what her terminal holds.
"""

from __future__ import annotations

import copy
import html
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pexpect
import pyte
from prompt_toolkit.utils import get_cwidth

COLUMNS: Final = 100
ROWS: Final = 26
CELL: Final = (8.4, 17)  # pixels of one character
PASSWORD: Final = "correct horse battery"
SECONDS: Final = 60.0  # that anything may take
COLOURS: Final = {
    "default": "#d8dee9", "black": "#3b4252", "red": "#e0707c", "green": "#a3c98c", "brown": "#ebcb8b",
    "blue": "#81a1c1", "magenta": "#c39ac9", "cyan": "#88c0d0", "white": "#e5e9f0", "brightblue": "#8fb4e0",
    "brightmagenta": "#d3a6dc",
}  # fmt: skip


def main() -> None:
    """Plays the session and writes the pictures."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = subprocess.Popen(
            [
                sys.executable, "-m", "twisted", "securechat", "--data-dir", f"{name}/server",
                "--listen", "127.0.0.1:0",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            connect = directory / "server" / "connect.txt"
            while not connect.exists():
                time.sleep(0.1)
            play(directory, connect.read_text().strip())
        finally:
            server.terminate()
            server.wait()


class Piped:
    """A friend in a pipe."""

    def __init__(self, directory: Path, name: str, line: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "securechat", "--plain", "--data-dir", str(directory / name), line],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self.says(f"/register {name} {PASSWORD}")

    def says(self, *lines: str) -> None:
        """Types lines."""
        assert self._process.stdin is not None
        for text in lines:
            self._process.stdin.write(text + "\n")

    def end(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


class Seated:
    """alice at a terminal, in one of the views."""

    def __init__(self, directory: Path, line: str, view: str) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "securechat", "--ui", view, "--data-dir", str(directory / "alice"), line],
            dimensions=(ROWS, COLUMNS),
            env={**os.environ, "TERM": "xterm-256color"},
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            while True:
                self._stream.feed(self._child.read_nonblocking(4096, timeout=SECONDS))
        except (pexpect.EOF, pexpect.TIMEOUT, OSError):
            return

    def sees(self, text: str) -> Seated:
        """Waits until that stands on the screen."""
        end = time.monotonic() + SECONDS
        while not any(text in row for row in self.screen.display):
            if time.monotonic() > end:
                raise SystemExit(f"{text!r} never came:\n" + "\n".join(self.screen.display))
            time.sleep(0.05)
        return self

    def types(self, text: str, end: str = "\r") -> Seated:
        """Types a line."""
        self._child.send(text + end)
        return self

    def picture(self, name: str) -> None:
        """Writes what the screen holds, once it stands still."""
        time.sleep(1)
        (Path(__file__).parent / f"{name}.svg").write_text(draw(copy.deepcopy(self.screen)), encoding="utf-8")

    def leaves(self) -> None:
        """Ends it."""
        self.types("\x15/exit")
        self._child.expect(pexpect.EOF, timeout=SECONDS)
        self._child.close()


def play(directory: Path, line: str) -> None:
    """The session."""
    bob, carol = (Piped(directory, name, line) for name in ("bob", "carol"))
    scenes: list[tuple[str, Callable[[Seated], None]]] = [
        ("inline", lambda alice: inline(alice, bob, carol)),
        ("full", lambda alice: full(alice, bob, carol)),
        ("plain", lambda alice: plain(alice, bob, carol)),
    ]
    try:
        for view, scene in scenes:
            alice = Seated(directory, line, view)
            scene(alice)
            alice.picture(view)
            alice.leaves()
    finally:
        bob.end()
        carol.end()


def inline(alice: Seated, bob: Piped, carol: Piped) -> None:
    """The first minute, and the first words."""
    alice.sees("Choose a name").types("alice").sees("New password").types(PASSWORD).sees("again").types(PASSWORD)
    alice.sees("A name for it").types("general").sees("You made general")
    for friend, name in ((bob, "bob"), (carol, "carol")):
        friend.says("/join general", "/join ops")
        alice.sees(f"{name} joined")
    bob.says("/switch general", "Hi alice, good to see you here!")
    alice.sees("good to see").types("/send Hello everyone!").sees("<alice> Hello")
    alice.types("/join ops").sees("You are in ops").types("/switch general").sees("general is active")
    bob.says("/pm alice All well. Nobody but you can read this.")
    alice.sees("All well")
    carol.says("/switch ops", "the build is green again")
    alice.sees("ops(1)").types("a line being typed stays whole", end="")
    bob.says("Even while others write.")
    alice.sees("Even while")


def full(alice: Seated, bob: Piped, carol: Piped) -> None:
    """Coming back: replies, reactions, an edit, code, and what is unread elsewhere."""
    alice.sees("Password of alice").types(PASSWORD).sees("online").types("\x15/switch general")
    bob.says("/switch general", "@alice shall we relase on friday?", "/edit @alice shall we release on Friday?")
    alice.sees("release on Friday?").types("/reply I would rather not :wink:").sees("rather not")
    carol.says(
        "/switch general", "/react 👍", "/code python: print(date.today().weekday() == 4)", "/me looks at the log"
    )
    alice.sees("looks at the log")
    carol.says("/switch ops", "the nightly failed", "@alice have a look?")
    bob.says("/pm alice lunch?")
    alice.sees("ops").sees("(3!)").types("half a thought", end="")


def plain(alice: Seated, bob: Piped, carol: Piped) -> None:
    """The same talk in lines, and a search over all of it."""
    alice.sees("Password of alice").types(PASSWORD).sees("Logged in as alice").types("/history 6").sees(
        "looks at the log"
    )
    alice.types("/search from:bob friday").sees("/jump").types("/unread").sees("/unread")
    carol.says("/switch general", "/delete")
    alice.sees("deleted")


def draw(screen: Any) -> str:
    """The screen as SVG: text, so that it can be read, searched and compared."""
    rows = [row for row in range(ROWS) if "".join(screen.buffer[row][at].data for at in range(COLUMNS)).strip()]
    width, height = COLUMNS * CELL[0] + 24, (len(rows) + 1) * CELL[1] + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" font-family="monospace" font-size="14" xml:space="preserve">',
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#20242c"/>',
    ]
    for place, row in enumerate(rows):
        y = (place + 1) * CELL[1] + 8
        for at, text, style in runs(screen.buffer[row]):
            weight = ' font-weight="bold"' if style[1] else ""
            colour = COLOURS.get(style[0]) or (f"#{style[0]}" if len(style[0]) == 6 else COLOURS["default"])
            length = f' textLength="{cells(text) * CELL[0]:.1f}"'
            lines.append(
                f'<text x="{12 + at * CELL[0]:.1f}" y="{y}" fill="{colour}"{weight}{length}>{html.escape(text)}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


def cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return sum(map(get_cwidth, text))


def runs(row: Any) -> list[tuple[int, str, tuple[str, bool]]]:
    """A row as runs of one style: where, what, and colour and weight."""
    found: list[tuple[int, str, tuple[str, bool]]] = []
    for at in range(COLUMNS):
        cell = row[at]
        style = (cell.fg, cell.bold)
        if found and found[-1][2] == style:
            found[-1] = (found[-1][0], found[-1][1] + cell.data, style)
        else:
            found.append((at, cell.data, style))
    return [(at, text.rstrip(), style) for at, text, style in found if text.strip()]


if __name__ == "__main__":
    main()
