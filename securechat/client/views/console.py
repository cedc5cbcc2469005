"""The process's three standard descriptors, whatever each turns out to be, and left as they were."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import sys
import termios
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, cast

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.stdio import StandardIO

from securechat.errors import Exit

FLUSH: Final = 5.0  # seconds that standard error may take to accept the last words


class _ErrorWriter(FileDescriptor):
    """Standard error without waiting for whoever reads it."""

    connected = 1

    def __init__(self, reactor: Any, fd: int) -> None:
        super().__init__(reactor)
        self._fd = fd
        self.closed: Deferred[None] = Deferred()
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        return self._fd

    def writeSomeData(self, data: bytes) -> int | BaseException:
        return cast("int | BaseException", cast(Any, fdesc).writeToFD(self._fd, data))

    def connectionLost(self, reason: Any) -> None:
        cast(Any, super()).connectionLost(reason)
        if not self.closed.called:
            self.closed.callback(None)


class Console:
    """Standard input, output and error of this process.

    Any of them may be closed, a file, a pipe, a terminal, or two of them the same. `sys.stdout` is not used:
    under twistd it is a log. Nothing happens to them before `open`; `close` leaves them as they were.

    Args:
        reactor: any that watches descriptors.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # A descriptor closed at the start may be one of the reactor's by now. The interpreter looked in time.
        streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
        self._open = [_is_open(fd, stream) for fd, stream in enumerate(streams)]
        self._flags: dict[int, int] = {}
        self._echo: list[Any] | None = None
        self._spare: list[int] = []
        self._errors: _ErrorWriter | None = None
        self._triggers: list[Any] = []
        self._hangup: Any = None

    @property
    def interactive(self) -> bool:
        """Whether a person types here."""
        return self._open[0] and os.isatty(0)

    @property
    def output_is_terminal(self) -> bool:
        """Whether standard output is one."""
        return self._open[1] and os.isatty(1)

    @property
    def errors_are_output(self) -> bool:
        """Whether both end in the same place; written through one descriptor they keep their order."""
        return self._open[1] and self._open[2] and os.path.samestat(os.fstat(1), os.fstat(2))

    def open(self, protocol: IProtocol, *, reading: bool = True) -> None:
        """Connects a protocol to standard input and output.

        Args:
            reading: whether standard input is read at all; a job in the background must not touch its terminal.
        """
        for fd in range(3):
            if self._open[fd]:
                self._flags[fd] = fcntl.fcntl(fd, fcntl.F_GETFL)
        if self._open[2] and not self.errors_are_output:
            self._errors = _ErrorWriter(self._reactor, 2)
        stdin, stdout = self._or_null(0, os.O_RDONLY, reading), self._or_null(1, os.O_WRONLY)
        cast(Any, StandardIO)(protocol, stdin, stdout, self._reactor)  # annotated in part, and as on Windows

    def _or_null(self, fd: int, mode: int, wanted: bool = True) -> int:
        """The descriptor, or one that is empty and swallows everything."""
        if self._open[fd] and wanted:
            return fd
        self._spare.append(os.open(os.devnull, mode))
        return self._spare[-1]

    def watch(self, stopping: Callable[[], object], hangup: Callable[[], None]) -> None:
        """Prepares for an end from outside.

        Args:
            stopping: called before the reactor stops, whoever stops it; it waits for a Deferred.
            hangup: called when the terminal goes away, where nobody else asked for that signal. Unhandled, it
                would kill the process with the echo off.
        """
        trigger = self._reactor.addSystemEventTrigger
        self._triggers.append(trigger("before", "shutdown", stopping))
        self._triggers.append(trigger("after", "shutdown", self.restore))
        in_main = threading.current_thread() is threading.main_thread()
        if self.interactive and in_main and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:

            def handle(_number: int, _frame: FrameType | None) -> None:
                self._reactor.callFromThread(hangup)

            self._hangup = handle
            signal.signal(signal.SIGHUP, handle)

    def write_error(self, data: bytes) -> None:
        """Writes to standard error: never waits, never raises, and drops what nobody can read."""
        if self._errors is not None:
            self._errors.write(data)

    def echo(self, on: bool) -> None:
        """Whether the terminal shows what is typed. On brings back what was before it was turned off."""
        # The terminal may be gone; then nothing shows either.
        with contextlib.suppress(termios.error, OSError):
            if on:
                saved, self._echo = self._echo, None
                if saved is not None:
                    termios.tcsetattr(0, termios.TCSANOW, saved)
            elif self._echo is None:
                saved = termios.tcgetattr(0)
                quiet = termios.tcgetattr(0)
                quiet[3] &= ~termios.ECHO
                self._echo = saved
                termios.tcsetattr(0, termios.TCSANOW, quiet)

    def why_output_ended(self) -> tuple[Exit, str]:
        """After standard output was lost: the exit status, and what to say on standard error, if anything.

        A reader that has enough, as in ``| head``, is no failure.
        """
        try:
            mode = os.fstat(1).st_mode
            if os.isatty(1):
                return Exit.INTERRUPTED, ""
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                return Exit.OK, ""
        except OSError:
            pass
        return Exit.FIXABLE, "Standard output cannot be written any more. Is the disk full?"

    def close(self) -> Deferred[None]:
        """Waits until standard error has its last words, at most `FLUSH` seconds; leaves all as it was."""
        for trigger in self._triggers:
            # The "before" trigger is gone already when a shutdown is why this is called.
            with contextlib.suppress(ValueError, KeyError):
                self._reactor.removeSystemEventTrigger(trigger)
        self._triggers = []
        if self._errors is None:
            self.restore()
            return _now()
        errors, self._errors = self._errors, None
        cast(Any, errors).loseConnection()
        timer = self._reactor.callLater(FLUSH, errors.connectionLost, None)

        def closed(_: None) -> None:
            if timer.active():
                timer.cancel()
            self.restore()

        return errors.closed.addCallback(closed)

    def restore(self) -> None:
        """Echo, blocking mode and signals as before `open`; may be called at any time, and again."""
        self.echo(True)
        for fd, flags in self._flags.items():
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        self._flags = {}
        if self._hangup is not None and signal.getsignal(signal.SIGHUP) is self._hangup:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        for fd in self._spare:
            os.close(fd)
        self._spare = []


def _is_open(fd: int, stream: object) -> bool:
    if stream is None:
        return False
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _now() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done
