"""Makes docs/session.svg, the picture in the README, from a real session: `python docs/picture.py`.

A daemon, bob in a pipe, alice at a prompt in a terminal of 84 by 20; what is drawn is what her terminal holds.
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
from pathlib import Path
from typing import Any, Final

import pexpect
import pyte

COLUMNS: Final = 84
ROWS: Final = 20
CELL: Final = (8.4, 17)  # pixels of one character
PASSWORD: Final = "correct horse battery"
COLOURS: Final = {
    "default": "#d8dee9", "black": "#3b4252", "red": "#e0707c", "green": "#a3c98c", "brown": "#ebcb8b",
    "blue": "#81a1c1", "magenta": "#c39ac9", "cyan": "#88c0d0", "white": "#e5e9f0", "brightblue": "#8fb4e0",
    "brightmagenta": "#d3a6dc",
}  # fmt: skip


def main() -> None:
    """Plays the session and writes the picture."""
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
            line = connect.read_text().strip()
            screen = play(directory, line)
        finally:
            server.terminate()
            server.wait()
    (Path(__file__).parent / "session.svg").write_text(draw(screen), encoding="utf-8")


def play(directory: Path, line: str) -> Any:
    """The session; answers alice's screen at its end."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    bob = subprocess.Popen(
        [sys.executable, "-m", "securechat", "--plain", "--data-dir", str(directory / "bob"), line],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, bufsize=1,
    )  # fmt: skip
    alice = pexpect.spawn(
        sys.executable,
        ["-m", "securechat", "--data-dir", str(directory / "alice"), line],
        dimensions=(ROWS, COLUMNS),
        env={**os.environ, "TERM": "xterm-256color"},
    )

    def watch() -> None:
        try:
            while True:
                data = alice.read_nonblocking(4096, timeout=30)
                stream.feed(data)
                if b"\x1b[6n" in data:  # where is the cursor? A terminal answers that.
                    alice.send(f"\x1b[{screen.cursor.y + 1};{screen.cursor.x + 1}R")
        except (pexpect.EOF, pexpect.TIMEOUT):
            return

    threading.Thread(target=watch, daemon=True).start()

    def says(text: str, seconds: float = 0.7) -> None:
        assert bob.stdin is not None
        bob.stdin.write(text + "\n")
        time.sleep(seconds)

    def types(text: str, seconds: float = 0.7, end: str = "\r") -> None:
        alice.send(text + end)
        time.sleep(seconds)

    try:
        says(f"/register bob {PASSWORD}\n/join general", 4)
        types("alice", 1)
        types(PASSWORD, 1)
        types(PASSWORD, 3)
        types("general", 1)
        says("Hi alice, good to see you here!")
        types("/send Hello everyone!")
        types("/pm bob Hey Bob, how are you?")
        says("/pm alice All well. Nobody but you can read this.")
        types("a line being typed stays whole", end="")
        says("Even while others write.", 1)
        return copy.deepcopy(screen)  # as it is now: the client clears its prompt when it ends
    finally:
        alice.terminate()
        bob.terminate()
        bob.wait()


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
            colour = COLOURS.get(style[0], COLOURS["default"])
            length = f' textLength="{len(text) * CELL[0]:.1f}"'
            lines.append(
                f'<text x="{12 + at * CELL[0]:.1f}" y="{y}" fill="{colour}"{weight}{length}>{html.escape(text)}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


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
