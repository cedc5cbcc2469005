"""Other programs, started without a shell and without their words on this terminal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

Ended = Callable[[str], object]
"""Called once when a program has ended: with "", or with what went wrong."""

Spawn = Callable[[Sequence[str], Mapping[str, str], Ended], object]
"""Starts a program: its words, what its environment has besides this one's, and what to call at its end."""


class _Run(ProcessProtocol):
    """One program that runs."""

    def __init__(self, name: str, ended: Ended, reactor: Any, limit: float | None) -> None:
        self._name = name
        self._ended = ended
        self._reactor = reactor
        self._limit = limit
        self._kill: Any = None

    def connectionMade(self) -> None:
        if self._limit is not None:
            self._kill = self._reactor.callLater(self._limit, self._too_long)

    def _too_long(self) -> None:
        assert self.transport is not None
        self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        late = self._kill is not None and not self._kill.active()
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        how: Any = reason.value  # ProcessDone or ProcessTerminated
        if late:
            self._ended(f"{self._name} took longer than {self._limit:g} s and was stopped")
        elif how.signal is not None:
            self._ended(f"{self._name} was stopped by signal {how.signal}")
        else:
            self._ended(f"{self._name} ended with status {how.exitCode}" if how.exitCode else "")


def spawner(reactor: Any, environ: Mapping[str, str], *, limit: float | None = None) -> Spawn:
    """What starts programs.

    Args:
        environ: what every program finds in its environment, and where it is looked for (PATH).
        limit: seconds after which a program is killed; None: never.
    """

    def spawn(words: Sequence[str], more: Mapping[str, str], ended: Ended) -> None:
        path = shutil.which(words[0], path=environ.get("PATH", os.defpath)) if words else None
        if path is None:
            ended(f"{words[0]} is not on this machine" if words else "no program is named")
            return
        run = _Run(words[0], ended, reactor, limit)
        null = os.open(os.devnull, os.O_RDWR)  # its words would land amid this terminal
        try:
            reactor.spawnProcess(
                run, path, list(words), env={**environ, **more}, path=None, childFDs={0: null, 1: null, 2: null}
            )
        except OSError as error:  # no process can be made now
            ended(f"{words[0]} cannot be started: {error.strerror}")
        finally:
            os.close(null)

    return spawn
