"""The view of `securechat send` and `securechat listen`: nothing is typed, and only what was asked for is printed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure as Reason
from zope.interface import implementer

from securechat.client.display import render
from securechat.client.records import line_of, record_of
from securechat.client.view import Alert, Failure, Item, Notice, Status
from securechat.client.views.console import Console
from securechat.client.views.feed import Feed
from securechat.errors import Exit


@implementer(IHalfCloseableProtocol)
class ScriptView(Protocol):
    """A view for one verb.

    Args:
        reactor: any that watches descriptors.
        done: called once with the exit status, when everything is written.
        as_json: one object a line instead of the plain view's lines.
        notices_are_output: whether a script reads what is worth knowing, too, or it goes to standard error.
        now_ms: milliseconds since 1970.
        tz, console: for tests.

    Attributes:
        sink: gets every item; `put` prints one.
        trust: of a user and an identity, for `records.record_of`.
        unread, left: fire once, with the status that fits: nobody reads standard output any more; the account ended.
        logged_in: whether that it ended is news.
        failed: the status of the first failure that was shown.
    """

    transport: Any

    def __init__(
        self,
        reactor: Any,
        *,
        done: Callable[[Exit], None],
        now_ms: Callable[[], int],
        as_json: bool = False,
        notices_are_output: bool = False,
        tz: tzinfo | None = None,
        console: Console | None = None,
    ) -> None:
        self._done = done
        self._json = as_json
        self._output = (Notice,) if notices_are_output and as_json else ()
        self._now_ms = now_ms
        self._tz = tz
        self._console = console or Console(reactor)
        self.sink: Callable[[Item], None] = self.put
        self.trust: Callable[[str, str], str] = lambda user, author: "unknown"
        self.unread: Deferred[Exit] = Deferred()
        self.left: Deferred[Exit] = Deferred()
        self.logged_in = False
        self.failed = Exit.OK
        self.feed = Feed(self._hold)
        self._opened = self._writable = self._stopping = False
        self._status: Exit | None = None

    def open(self, *, reading: bool) -> None:
        """Takes standard output, and standard input where it is to be read."""
        self._opened = True
        self._console.watch(self._quiet, lambda: None)
        self._console.open(self, reading=reading)

    def _quiet(self) -> None:
        self._stopping = True

    # What the core sees.

    @property
    def interactive(self) -> bool:
        """Never: nobody is asked."""
        return False

    def show(self, item: Item) -> None:
        """Gives it to the verb."""
        if isinstance(item, Failure):
            self.failed = self.failed or item.exit
        self.sink(item)

    def status(self, status: Status) -> None:
        """That nobody is logged in any more ends what needs an account."""
        if self.logged_in and not status.user and not self.left.called:
            self.left.callback(self.failed or Exit.NETWORK)

    def follows(self, where: str) -> bool:
        """Never: the verb says itself what counts as seen."""
        return False

    def prints(self, where: str) -> bool:
        """Always: the verb chooses."""
        return True

    def opened(self, where: str) -> None:
        """Nothing: what is printed stays."""

    def alert(self, alert: Alert) -> None:
        """Nothing: it is printed."""

    def ask(self, question: str) -> Deferred[str | None]:
        """Nobody is there."""
        return succeed(None)

    def ask_secret(self, question: str) -> Deferred[str | None]:
        """Nor for this."""
        return succeed(None)

    # Writing.

    def put(self, item: Item) -> None:
        """Prints an item; notices and failures go to standard error."""
        error = isinstance(item, (Notice, Failure)) and not isinstance(item, self._output)
        if self._json:
            record = record_of(item, now_ms=self._now_ms(), trust=self.trust)
            text = "" if record is None else line_of(record)
        else:
            text = "".join(f"{line}\n" for line in render(item, tz=self._tz))
        if not text:
            return
        data = text.encode("utf-8", "replace")
        if error and not self._console.errors_are_output:
            self._console.write_error(data)
        elif self._writable:
            self.transport.write(data)

    def finish(self, status: Exit) -> None:
        """What was printed is still written, then the descriptors are given back and `done` is called."""
        self._status = status
        self.feed.end()
        if not self._opened:
            self._done(status)
        elif self._writable:
            self.transport.loseConnection()
        else:
            self._finish(status)

    def _finish(self, status: Exit) -> None:
        if not self._stopping:
            self._console.close().addCallback(lambda _: self._done(status))

    # What Twisted calls.

    def connectionMade(self) -> None:
        """The descriptors are open."""
        self._writable = True

    def dataReceived(self, data: bytes) -> None:
        """Part of standard input."""
        self.feed.take(data)

    def readConnectionLost(self) -> None:
        """The end of standard input."""
        self.feed.end()

    def writeConnectionLost(self) -> None:
        """Nobody reads the output any more; where that is a failure it is said."""
        self._writable = False
        if not self._stopping:
            status, why = self._console.why_output_ended()
            if why:
                self.put(Failure(why, status))
            self.unread.callback(status)

    def connectionLost(self, reason: Any = None) -> None:
        """All is written, or could not be."""
        self._writable = False
        if self._status is not None:
            failed = isinstance(reason, Reason) and isinstance(reason.value, ConnectionLost)
            self._finish(self._status or (self._console.why_output_ended()[0] if failed else Exit.OK))

    def _hold(self, held: bool) -> None:
        if held:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()
