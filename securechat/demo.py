"""`securechat demo`: a daemon and two clients, all real, in a temporary directory, and what the server sees of it."""

from __future__ import annotations

import os
import queue
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from securechat.errors import Exit, SecureChatError

_PATIENCE: Final = 30.0  # seconds for any one step, on a slow machine
_PASSWORD: Final = "correct horse battery"  # of two accounts that live for some seconds


class DemoFailed(SecureChatError):
    """A step of the demo did not happen in time; the text has what was said until then."""


class _Actor:
    """A process whose output is read line by line as it comes."""

    def __init__(self, name: str, command: Sequence[str], environ: dict[str, str]) -> None:
        self.name = name
        self._said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            text=True,
            encoding="utf-8",
            bufsize=1,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def type(self, line: str, shown: str | None = None) -> None:
        """Types a line, and shows that."""
        assert self.process.stdin is not None
        print(f"{self.name:>6} types  {shown or line}", flush=True)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for(self, part: str, *, show: bool = True) -> str:
        """Waits for a line with `part` in it. Raises DemoFailed."""
        deadline = time.monotonic() + _PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            self._said.append(line)
            if part in line:
                if show:
                    print(f"{self.name:>6} sees   {line}", flush=True)
                return line
        said = "\n".join(self._said[-20:])
        raise DemoFailed(f"{self.name} never saw {part!r}. It said:\n{said}")

    def end(self) -> None:
        """Ends the process and waits for it."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run() -> Exit:
    """Plays the demo. Raises DemoFailed."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="securechat-demo-") as name:
        directory = Path(name)
        actors: list[_Actor] = []
        try:
            _play(directory, actors)
        finally:
            for actor in reversed(actors):
                actor.end()
    print(f"\nThat took {time.monotonic() - started:.1f} s; nothing of it is left. Now your own server:")
    print("  twistd -n securechat      starts it, and prints the line to connect with")
    print("  securechat                in another terminal: /register NAME, /join general")
    return Exit.OK


def _play(directory: Path, actors: list[_Actor]) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SECURECHAT_")}
    environ["PYTHONUNBUFFERED"] = "1"
    server = directory / "server"
    print("A daemon starts in a temporary directory, on a free port:")
    daemon = _Actor(
        "server",
        [
            sys.executable, "-m", "twisted", "securechat", "--data-dir", str(server), "--listen", "127.0.0.1:0",
        ],
        environ,
    )  # fmt: skip
    actors.append(daemon)
    daemon.wait_for("Connect with", show=False)
    line = (server / "connect.txt").read_text(encoding="ascii").strip()
    print(f"  {line}\n")
    people = []
    for name in ("alice", "bob"):
        command = [sys.executable, "-m", "securechat", "--plain", "--data-dir", str(directory / name), line]
        actor = _Actor(name, command, environ)
        actors.append(actor)
        people.append(actor)
        actor.type(f"/register {name} {_PASSWORD}", f"/register {name} ********")
    alice, bob = people
    alice.wait_for("Welcome")
    bob.wait_for("Welcome")
    bob.type("/join general")
    bob.wait_for("general")
    alice.type("/join general")
    alice.wait_for("general")
    bob.wait_for("alice joined")
    alice.type("/send Hello everyone!")
    bob.wait_for("<alice> Hello everyone!")
    alice.type("/pm bob Hey Bob, how are you?")
    bob.wait_for("[pm] <alice>")
    bob.type("/history general")
    bob.wait_for("Hello everyone!")
    _show_row(server / "chat.db")
    for actor in people:
        actor.type("/exit")
        actor.process.wait(_PATIENCE)


def _show_row(database: Path) -> None:
    """The room message as the server has it."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        seq, sealed = connection.execute("SELECT first_seq, sealed FROM segment ORDER BY id LIMIT 1").fetchone()
        found = connection.execute("SELECT count(*) FROM segment WHERE instr(sealed, 'Hello')").fetchone()[0]
    finally:
        connection.close()
    text = bytes(sealed).decode("ascii", "replace") if isinstance(sealed, bytes) else str(sealed)
    print(f"\nThe same message in the server's database: message {seq}, {len(text)} bytes, Hello in {found} rows:")
    print(f"  {text[:100]}…\n")
