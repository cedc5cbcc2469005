"""Tests for how other programs are started."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.launch import spawner


class FakeReactor(Clock):
    """A clock that starts nothing, and remembers what it was to start."""

    def __init__(self, error: OSError | None = None) -> None:
        super().__init__()
        self.started: list[tuple[Any, ...]] = []
        self.killed: list[str] = []
        self._error = error

    def spawnProcess(self, protocol: Any, *arguments: Any, **keywords: Any) -> None:
        if self._error is not None:
            raise self._error
        self.started.append((protocol, *arguments, keywords))
        protocol.makeConnection(self)

    def signalProcess(self, signal: str) -> None:
        """As a process transport's."""
        self.killed.append(signal)

    def end(self, status: int | None = 0, signal: int | None = None) -> None:
        """The program that was started last ends."""
        reason = ProcessDone(None) if status == 0 else ProcessTerminated(status, signal)
        self.started[-1][0].processEnded(Failure(reason))


class SpawnTests(SynchronousTestCase):
    """Tests for `spawner`."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.ended: list[str] = []
        self.environ = {"PATH": os.path.dirname(sys.executable), "HOME": "/home/alice"}

    def spawn(self, *words: str, limit: float | None = None, more: dict[str, str] | None = None) -> None:
        """Starts a program."""
        spawner(self.reactor, self.environ, limit=limit)(words, more or {}, self.ended.append)

    def test_words(self) -> None:
        """Words go to the program as they are: none is split, expanded or taken for an option of a shell."""
        self.spawn(sys.executable, "a b", "$HOME; rm *", more={"X": "1"})
        _, path, words, keywords = self.reactor.started[0]
        self.assertEqual((sys.executable, [sys.executable, "a b", "$HOME; rm *"]), (path, words))
        self.assertEqual({**self.environ, "X": "1"}, keywords["env"])

    def test_no_words_of_its_own(self) -> None:
        """It reads nothing from this terminal and writes nothing to it; what was opened for that is closed here."""
        self.spawn(sys.executable)
        descriptors = self.reactor.started[0][-1]["childFDs"]
        self.assertEqual({0, 1, 2}, set(descriptors))
        self.assertGreater(min(descriptors.values()), 2)
        self.assertEqual(1, len(set(descriptors.values())))

    def test_in_the_path(self) -> None:
        """A name is looked for where the environment says."""
        self.spawn(os.path.basename(sys.executable))
        self.assertEqual(sys.executable, self.reactor.started[0][1])

    def test_ends(self) -> None:
        """At the end it is said once what went wrong, if anything did."""
        name = sys.executable
        for status, signal, said in (
            (0, None, ""),
            (3, None, f"{name} ended with status 3"),
            (None, 9, f"{name} was stopped by signal 9"),
        ):
            self.spawn(name)
            self.reactor.end(status, signal)
            self.assertEqual(said, self.ended.pop())
        self.assertEqual([], self.ended)

    def test_not_there(self) -> None:
        """A program that does not exist, and none at all, are said at once; nothing is started."""
        self.spawn("no-such-program")
        self.spawn()
        self.assertEqual(["no-such-program is not on this machine", "no program is named"], self.ended)
        self.assertEqual([], self.reactor.started)

    def test_no_process(self) -> None:
        """A machine that has no process left says so."""
        self.reactor = FakeReactor(OSError(errno.EAGAIN, "Resource temporarily unavailable"))
        self.spawn(sys.executable)
        self.assertEqual([f"{sys.executable} cannot be started: Resource temporarily unavailable"], self.ended)

    def test_limit(self) -> None:
        """A program that does not end is stopped; one that does leaves no timer."""
        self.spawn(sys.executable, limit=10)
        self.reactor.advance(9)
        self.assertEqual([], self.reactor.killed)
        self.reactor.advance(1)
        self.assertEqual(["KILL"], self.reactor.killed)
        self.reactor.end(None, 9)
        self.assertEqual([f"{sys.executable} took longer than 10 s and was stopped"], self.ended)
        self.spawn(sys.executable, limit=10)
        self.reactor.end()
        self.assertEqual(([], ""), (self.reactor.getDelayedCalls(), self.ended[-1]))
