"""What the tests under attack share: connections without TLS, the daemon's figures, a probe of its answers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import psutil

from securechat.admin import ask
from securechat.wire import codec
from securechat.wire import messages as m
from tests.integration.harness import PATIENCE, Daemon, Wire

_EVERY: Final = 0.025  # seconds between two questions of a probe: below the rate of requests


def figures(daemon: Daemon) -> dict[str, int]:
    """What `securechat admin status` tells."""
    found: dict[str, int] = ask(str(daemon.data), {"cmd": "status"})["figures"]
    return found


def rss(daemon: Daemon) -> int:
    """The daemon's memory, in bytes."""
    return int(psutil.Process(daemon.process.pid).memory_info().rss)


def cpu(daemon: Daemon) -> float:
    """Seconds of CPU that the daemon has used."""
    times = psutil.Process(daemon.process.pid).cpu_times()
    return float(times.user + times.system)


def percentile(values: list[float], part: float) -> float:
    """The value that this part of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


class Plain:
    """A connection without TLS: JSON lines. The greeting is `hello`.

    Args:
        source: the address it comes from, of 127.0.0.0/8.
    """

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        self._file = self.socket.makefile("rb")
        self.hello: dict[str, Any] = self.line()

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self) -> dict[str, Any]:
        """The next line. Raises OSError, ValueError."""
        found: dict[str, Any] = json.loads(self._file.readline())
        return found

    def write(self, *requests: m.Request) -> None:
        """Says requests, in one piece."""
        self.socket.sendall(b"".join(map(codec.encode, requests)))

    def ask(self, request: m.Request) -> dict[str, Any]:
        """Says a request; the next line that is no event."""
        self.write(request)
        while "event" in (answer := self.line()):
            pass
        return answer

    def close(self) -> None:
        """Drops the connection."""
        self._file.close()
        self.socket.close()


class _Beside:
    """Looks at something again and again, from a thread, while something else goes on."""

    EVERY = 0.02  # seconds between two looks

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.fault: Exception | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Looks meanwhile. Raises what a look raised."""
        self._stop.clear()
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
        if self.fault is not None:
            raise self.fault

    def _run(self) -> None:
        try:
            while not self._stop.wait(self.EVERY):
                self.look()
        except Exception as error:
            self.fault = error

    def look(self) -> None:
        """Once."""


class Probe(_Beside):
    """Pings on a connection that is logged in, and how long each answer of the last run took, in seconds."""

    EVERY = _EVERY

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire
        self.took: list[float] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """As the base."""
        self.took = []
        with super().running():
            yield self

    def look(self) -> None:
        """One ping."""
        before = time.monotonic()
        self._wire.ask(lambda number: m.Ping(id=number))
        self.took.append(time.monotonic() - before)
        self._wire.events.clear()

    @property
    def p99(self) -> float:
        """Of a hundred answers, 99 came within so many seconds."""
        return percentile(self.took, 0.99)


class Peak(_Beside):
    """The greatest memory that a daemon had while this ran, in bytes above what it had before."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self._daemon = daemon
        self._before = rss(daemon)
        self.grown = 0

    def look(self) -> None:
        """At the memory now."""
        self.grown = max(self.grown, rss(self._daemon) - self._before)
