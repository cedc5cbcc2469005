"""The view of pipes, scripts, dumb terminals and screen readers: lines in, lines out, nothing is redrawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure as Reason
from zope.interface import implementer

from securechat.client.commands import Typed, has_secret, parse, safe_for_history
from securechat.client.display import clean, render, spoken
from securechat.client.view import Alert, Client, Failure, Item, Notice, Status
from securechat.client.views.console import Console
from securechat.client.views.questions import Question, Questions
from securechat.client.views.turns import Turns
from securechat.errors import Exit
from securechat.wire.lines import LineBuffer, LineTooLong

READ_AHEAD: Final = 64  # lines that wait for their turn before standard input is not read any further


@implementer(IPushProducer)
class _Valve:
    """Holds lines back while standard output is not taken. To pause the protocol means to stop *reading*."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def pauseProducing(self) -> None:
        self._turns.hold(True)

    def resumeProducing(self) -> None:
        self._turns.hold(False)

    def stopProducing(self) -> None:
        """Nobody takes it any more: `writeConnectionLost` says so too, and ends the run."""


@implementer(IHalfCloseableProtocol)
class PlainView(LineReceiver):
    """A view on standard input and output, for any reactor.

    Messages, what happens in rooms and answers go to standard output; notices and failures to standard error.
    All is UTF-8. The end of the input is ``/exit``; an unfinished last line counts; nothing printed is lost.

    Where standard input is no terminal it is a script: see `Turns`. Standard output closed by its reader ends
    the run.

    Args:
        reactor: any that watches descriptors.
        done: called once with the exit status, when everything is written and the descriptors are as they
            were. Not called where the reactor is stopped by somebody else first.
        keep_going: a script goes on after a failed command.
        timeout: seconds to wait for acknowledgements at the end.
        spoken: for a screen reader: no times beside messages, and words in place of signs.
        numbers: whether the number of each message is printed.
        notifier: draws attention, where a person sits at a terminal.
        tz: for tests.
        console: for tests.
    """

    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024  # pasted text: four times what a message may have, so the core can name that limit
    transport: Any

    def __init__(
        self,
        reactor: Any,
        *,
        done: Callable[[Exit], None],
        keep_going: bool = False,
        timeout: float = 30.0,
        spoken: bool = False,
        numbers: Callable[[], bool] = lambda: False,
        notifier: Callable[[Alert], None] | None = None,
        tz: tzinfo | None = None,
        console: Console | None = None,
    ) -> None:
        self._reactor = reactor
        self._done = done
        self._keep_going = keep_going
        self._timeout = timeout
        self._spoken = spoken
        self._numbers = numbers
        self._notifier = notifier
        self._tz = tz
        self._console = console or Console(reactor)
        self._lines = LineBuffer(self.MAX_LENGTH)
        self._skipping = False  # the rest of a line that was too long
        self._reading = True
        self._early: list[tuple[bool, bytes]] = []
        self._questions = Questions(self._pose, self._settled)
        self._turns: Turns | None = None
        self._status: Exit | None = None
        self._writable = False
        self._stopping = False

    # What the core sees.

    @property
    def interactive(self) -> bool:
        """Whether standard input is a terminal."""
        return self._console.interactive

    def start(self, client: Client) -> None:
        """Begins to read. What was shown before is printed now."""
        self._turns = Turns(
            client,
            clock=self._reactor,
            show=self.show,
            ended=self._end,
            script=not self.interactive,
            keep_going=self._keep_going,
            timeout=self._timeout,
            hungry=self._read_on,
        )
        self._console.watch(self._quiet, self._hang_up)
        self._console.open(self)
        self._turns.start()

    def show(self, item: Item) -> None:
        """Prints an item, one line each."""
        lines = spoken(item) if self._spoken else render(item, tz=self._tz, numbers=self._numbers())
        if lines:
            self._write("\n".join([*lines, ""]), error=isinstance(item, (Notice, Failure)))

    def status(self, status: Status) -> None:
        """Nothing: there is no place that could change, and the core tells in notices what matters."""

    def follows(self, where: str) -> bool:
        """Always: all of it is printed."""
        return True

    def prints(self, where: str) -> bool:
        """Always."""
        return True

    def opened(self, where: str) -> None:
        """Nothing: what is printed stays."""

    def alert(self, alert: Alert) -> None:
        """It is printed; whoever looks elsewhere may want more."""
        if self._notifier is not None and self.interactive and self._console.output_is_terminal:
            self._notifier(alert)

    def ring(self, data: bytes) -> None:
        """Bytes that make the terminal draw attention."""
        self._write(data.decode("utf-8", "replace"), error=False)

    def ask(self, question: str) -> Deferred[str | None]:
        """Asks for a line. The next one typed is the answer, also one typed ahead; None if nobody types."""
        return self._ask(question, False)

    def ask_secret(self, question: str) -> Deferred[str | None]:
        """The same without echo. It is on again whenever no such question is open, however this ends."""
        return self._ask(question, True)

    # What Twisted calls.

    def connectionMade(self) -> None:
        """The descriptors are open."""
        self._writable = True
        if self._turns is not None:
            self.transport.registerProducer(_Valve(self._turns), True)
        early, self._early = self._early, []
        for error, data in early:
            self._put(data, error)

    def dataReceived(self, data: bytes) -> None:
        """Cuts what was read into lines; one that is too long fails as a whole."""
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            self._skipping = not newline
        self._lines.feed(data)
        while True:
            try:
                for line in self._lines.lines():
                    self.lineReceived(line)
                break
            except LineTooLong:
                _, newline, rest = self._lines.take_rest().partition(b"\n")
                self._skipping = not newline
                self._lines.feed(rest)
                limit = f"That line has more than {self.MAX_LENGTH} bytes."
                self._add(Failure(f"{limit} Nothing was sent; send it in parts."))

    def lineReceived(self, line: bytes) -> None:
        """A typed line: an answer where a question is open, else the next command."""
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self._add(Failure("That line is not UTF-8 text. Nothing was sent."))
            return
        if self._questions:
            self._questions.answer(text)
            return
        if self.interactive and has_secret(text) and isinstance(parse(text), Typed):
            alone = safe_for_history(text)
            self.show(Notice(f"That password stays on the screen. {alone} asks for it without echo."))
        self._add(text)

    def readConnectionLost(self) -> None:
        """The end of the input: nobody answers any more, and the unfinished last line counts."""
        rest = self._lines.take_rest()
        if rest and not self._skipping:
            self.lineReceived(rest.removesuffix(b"\r"))
        self._questions.close()
        if self._turns is not None and not self._stopping:
            self._turns.no_more()

    def writeConnectionLost(self) -> None:
        """Nobody reads the output any more. Twisted would go on for ever; this ends the run itself."""
        self._writable = False
        if self._turns is not None and not self._stopping:
            self._turns.stop(self._why_ended())

    def connectionLost(self, reason: Any = None) -> None:
        """All is written, or could not be, or the reactor stops."""
        self._writable = False
        self._questions.close()
        if self._status is not None:
            failed = isinstance(reason, Reason) and isinstance(reason.value, ConnectionLost)
            self._finish(self._status or (self._why_ended() if failed else Exit.OK))

    # Reading.

    def _add(self, line: str | Failure) -> None:
        assert self._turns is not None
        self._turns.add(line)
        if self._reading and len(self._turns) >= READ_AHEAD:
            self._reading = False
            self.transport.pauseProducing()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    # Questions.

    def _ask(self, text: str, secret: bool) -> Deferred[str | None]:
        return self._questions.ask(text, secret=secret) if self.interactive and self._writable else succeed(None)

    def _pose(self, question: Question) -> None:
        """Puts a question; a line typed ahead was meant for it, and must not go to a room."""
        self._write(f"{clean(question.text).rstrip()} ", error=not self._console.output_is_terminal)
        ahead = self._turns.take() if self._turns is not None else None
        if ahead is not None:
            self._questions.answer(ahead)
        elif question.secret:
            self._console.echo(False)

    def _settled(self, question: Question, answer: str | None) -> None:
        self._console.echo(True)
        if question.secret or answer is None:
            self._write("\n", error=not self._console.output_is_terminal)  # the key's own was not seen, or not hit

    # Writing and the end.

    def _write(self, text: str, *, error: bool = False) -> None:
        data = text.encode("utf-8", "replace")
        if self._turns is None or (self.transport is None and self._status is None):
            self._early.append((error, data))
        else:
            self._put(data, error)

    def _put(self, data: bytes, error: bool) -> None:
        if error and not self._console.errors_are_output:
            self._console.write_error(data)
        elif self._writable:
            self.transport.write(data)

    def _quiet(self) -> None:
        """The reactor stops: leave the terminal as it was. That the descriptors end now means nothing."""
        self._stopping = True
        self._questions.close()
        self._console.echo(True)

    def _why_ended(self) -> Exit:
        """The status after standard output was lost; says why if that is worth a word."""
        status, why = self._console.why_output_ended()
        if why:
            self.show(Failure(why, status))
        return status

    def _hang_up(self) -> None:
        if self._turns is not None:
            self._turns.stop(Exit.INTERRUPTED)

    def _end(self, status: Exit) -> None:
        """The client is closed: what was printed is still written, then the descriptors are given back."""
        self._status = status
        self._questions.close()
        writable = self._writable
        if writable:
            self.transport.unregisterProducer()
        self.transport.loseConnection()
        if not writable:
            self._finish(status)

    def _finish(self, status: Exit) -> None:
        if not self._stopping:
            self._console.close().addCallback(lambda _: self._done(status))
