"""Two real clients, each on a terminal of its own: what is typed in one is waited for on the other's screen."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import HERE, PATIENCE, BenchError, Machine, end

PASSWORD: Final = "secretpassword"
_READ: Final = 1 << 16


class Terminal:
    """A client, and all that it has drawn.

    Args:
        directory: its data directory.
        line: where to connect; "": where it did last.
    """

    def __init__(self, machine: Machine, directory: Path, line: str) -> None:
        self.drawn = b""
        self.fd, inner = os.openpty()
        os.set_blocking(self.fd, False)
        self.process = subprocess.Popen(
            ["taskset", "-c", str(machine.generator_core), sys.executable, "-m", "securechat", "--data-dir",
             str(directory), *([line] if line else [])],
            preexec_fn=lambda: os.login_tty(inner),  # no threads run yet that could hold a lock
            env={**os.environ, "PYTHONPATH": str(HERE.parent), "TERM": "xterm-256color", "HOME": str(directory.parent)},
            cwd=directory.parent,
        )  # fmt: skip
        os.close(inner)

    def type(self, line: str) -> None:
        """Types a line, and Enter."""
        os.write(self.fd, line.encode() + b"\r")

    def read(self) -> None:
        """Takes in what was drawn."""
        try:
            self.drawn += os.read(self.fd, _READ)
        except BlockingIOError:
            pass
        except OSError as error:
            raise BenchError(f"a client ended: {self.drawn[-500:]!r}") from error

    def close(self) -> None:
        """Ends the client."""
        end(self.process)
        os.close(self.fd)


class Pair:
    """Two people in one room."""

    def __init__(self, first: Terminal, second: Terminal) -> None:
        self.both = first, second

    def wait_for(self, terminal: Terminal, text: str) -> None:
        """Until it has been drawn; the other terminal is read meanwhile. Raises BenchError."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in terminal.drawn:
            if time.monotonic() > deadline:
                raise BenchError(f"{text!r} was never drawn: {terminal.drawn[-500:]!r}")
            ready, _, _ = select.select([each.fd for each in self.both], [], [], 0.5)
            for each in self.both:
                if each.fd in ready:
                    each.read()

    def exchange(self, count: int, pause: float) -> list[float]:
        """So many lines, in turns; the seconds from Enter to the other's screen, of each.

        The writer's line is typed whole before its Enter, and a pause comes first, so that only the last key counts.

        Args:
            pause: seconds before each line.
        """
        times = []
        for number in range(count):
            writer, reader = self.both if number % 2 else self.both[::-1]
            text = f"line{number:04}.{time.monotonic_ns() % 10**6:06}"
            os.write(writer.fd, text.encode())
            self._idle(pause)
            for each in self.both:
                each.drawn = b""
            began = time.perf_counter()
            os.write(writer.fd, b"\r")
            self.wait_for(reader, text)
            times.append(time.perf_counter() - began)
        return times

    def _idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for each in self.both:
                each.read()
            select.select([each.fd for each in self.both], [], [], left)


@contextmanager
def pair(machine: Machine, directory: Path, line: str) -> Iterator[Pair]:
    """Two fresh accounts in a room of their own, in clients that are gone afterwards. Raises BenchError."""
    names = "alice", "bob"
    terminals: list[Terminal] = []
    try:
        for name in names:
            (directory / name).mkdir()
            terminals.append(Terminal(machine, directory / name, line))
        two = Pair(*terminals)
        for name, terminal in zip(names, terminals, strict=True):
            two.wait_for(terminal, "/help")
            terminal.type(f"/register {name} {PASSWORD}")
            two.wait_for(terminal, f"Welcome, {name}.")
            terminal.type("/join lounge")
            two.wait_for(terminal, "[lounge]")
        two.wait_for(terminals[0], "bob joined")
        yield two
    finally:
        for terminal in terminals:
            terminal.close()
