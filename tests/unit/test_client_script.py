"""Tests for the view of the verbs, and for standard input as lines that are asked for. The descriptors are fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure as Reason
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from securechat.client.view import Failure, Message, Notice, Status
from securechat.client.views.console import Console
from securechat.client.views.feed import MAX_LINE, READ_AHEAD, Feed
from securechat.client.views.script import ScriptView
from securechat.errors import Exit

NOW = 1_700_000_000_000


class MemoryConsole(Console):
    """Descriptors in memory."""

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.errors = b""
        self.reading: bool | None = None
        self.closed = False
        self.one_place = False
        self.why = (Exit.OK, "")

    @property
    def errors_are_output(self) -> bool:
        return self.one_place

    def open(self, protocol: IProtocol, *, reading: bool = True) -> None:
        self.reading = reading
        protocol.makeConnection(self.transport)

    def watch(self, stopping: Callable[[], object], hangup: Callable[[], None]) -> None:
        self.stopping = stopping

    def write_error(self, data: bytes) -> None:
        self.errors += data

    def why_output_ended(self) -> tuple[Exit, str]:
        return self.why

    def close(self) -> Deferred[None]:
        self.closed = True
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    @property
    def output(self) -> str:
        """What was printed."""
        return self.transport.value().decode()


class ViewCase(SynchronousTestCase):
    """Tests with a view whose descriptors are in memory."""

    def view(self, *, as_json: bool = False, notices_are_output: bool = False) -> ScriptView:
        """An open view."""
        self.console = MemoryConsole()
        self.statuses: list[Exit] = []
        view = ScriptView(
            Clock(), done=self.statuses.append, now_ms=lambda: NOW, as_json=as_json,
            notices_are_output=notices_are_output, tz=UTC, console=self.console,
        )  # fmt: skip
        view.open(reading=False)
        return view


class ShowTests(ViewCase):
    """Tests for what is printed, and where."""

    def test_interface(self) -> None:
        """It is what Twisted wants of a protocol whose descriptors end one by one."""
        verifyObject(IHalfCloseableProtocol, self.view())

    def test_lines(self) -> None:
        """Messages are the plain view's lines, cleaned; notices and failures go to standard error."""
        view = self.view()
        for item in (Message("ops", "bob", "a\x1b[2J\nb"), Notice("so"), Failure("no")):
            view.show(item)
        self.assertEqual("[ops] <bob> a�[2J ⏎ b\n", self.console.output)
        self.assertEqual(b"* so\n! no\n", self.console.errors)

    def test_json(self) -> None:
        """With JSON each is one line, and a failure's goes to standard error."""
        view = self.view(as_json=True)
        view.trust = lambda user, author: "verified"
        view.show(Message("ops", "bob", "a\nb"))
        view.show(Failure("no", Exit.NETWORK))
        found = json.loads(self.console.output)
        self.assertEqual(("message", "a\nb", "verified"), (found["type"], found["text"], found["trust"]))
        error = json.loads(self.console.errors)
        self.assertEqual(("error", "network", 3), (error["type"], error["code"], error["exit"]))

    def test_notices(self) -> None:
        """Notices are objects of standard output only where they were asked for."""
        self.view(as_json=True, notices_are_output=True).show(Notice("so"))
        self.assertEqual("notice", json.loads(self.console.output)["type"])
        self.view(as_json=True).show(Notice("so"))
        self.assertEqual(("", "notice"), (self.console.output, json.loads(self.console.errors)["type"]))

    def test_one_place(self) -> None:
        """Where both end in one place they keep their order."""
        view = self.view()
        self.console.one_place = True
        view.show(Notice("first"))
        view.show(Message("ops", "bob", "second"))
        self.assertEqual("* first\n[ops] <bob> second\n", self.console.output)

    def test_nobody_is_asked(self) -> None:
        """Nobody is there to be asked, and nothing is seen by itself."""
        view = self.view()
        self.assertFalse(view.interactive or view.follows("ops"))
        for asking in (view.ask("?"), view.ask_secret("?")):
            self.assertIsNone(self.successResultOf(asking))

    def test_first_failure(self) -> None:
        """The first failure counts."""
        view = self.view()
        for status in (Exit.NOT_THERE, Exit.NETWORK):
            view.show(Failure("no", status))
        self.assertEqual(Exit.NOT_THERE, view.failed)


class EndTests(ViewCase):
    """Tests for the end."""

    def test_finish(self) -> None:
        """What was printed is written, the descriptors are given back, then the status is told, once."""
        view = self.view()
        view.finish(Exit.NOT_THERE)
        self.assertTrue(self.console.transport.disconnecting)
        self.assertEqual([], self.statuses)
        view.connectionLost(Reason(ConnectionDone()))
        self.assertEqual(([Exit.NOT_THERE], True), (self.statuses, self.console.closed))

    def test_never_opened(self) -> None:
        """A view that was never opened ends at once."""
        statuses: list[Exit] = []
        ScriptView(Clock(), done=statuses.append, now_ms=lambda: NOW, console=MemoryConsole()).finish(Exit.NETWORK)
        self.assertEqual([Exit.NETWORK], statuses)

    def test_unread(self) -> None:
        """Who reads the output has enough: that is told, nothing more is written, and it ends well."""
        view = self.view()
        view.writeConnectionLost()
        self.assertEqual(Exit.OK, self.successResultOf(view.unread))
        view.show(Message("ops", "bob", "hi"))
        self.assertEqual("", self.console.output)
        view.finish(Exit.OK)
        self.assertEqual([Exit.OK], self.statuses)

    def test_full_disk(self) -> None:
        """Output that cannot be written is a failure that is said."""
        view = self.view()
        self.console.why = (Exit.FIXABLE, "Standard output cannot be written any more.")
        view.writeConnectionLost()
        self.assertEqual(Exit.FIXABLE, self.successResultOf(view.unread))
        self.assertEqual(b"! Standard output cannot be written any more.\n", self.console.errors)

    def test_last_words_lost(self) -> None:
        """So it is where that shows only at the end."""
        view = self.view()
        view.finish(Exit.OK)
        self.console.why = (Exit.FIXABLE, "")
        view.connectionLost(Reason(ConnectionLost()))
        self.assertEqual([Exit.FIXABLE], self.statuses)

    def test_account_ended(self) -> None:
        """That the account ended is news once it was open; the first failure says why."""
        view = self.view()
        view.status(Status("alice"))
        view.status(Status(""))
        self.assertNoResult(view.left)
        view.logged_in = True
        view.show(Failure("that session has ended", Exit.LOGIN_REFUSED))
        view.status(Status(""))
        view.status(Status(""))
        self.assertEqual(Exit.LOGIN_REFUSED, self.successResultOf(view.left))

    def test_reactor_stops(self) -> None:
        """That the descriptors end because the reactor stops is told to nobody."""
        view = self.view()
        self.console.stopping()
        view.writeConnectionLost()
        self.assertNoResult(view.unread)


class FeedTests(SynchronousTestCase):
    """Tests for standard input as lines."""

    def setUp(self) -> None:
        self.holds: list[bool] = []
        self.feed = Feed(self.holds.append)

    def next(self) -> Deferred[tuple[bool, bytes | None]]:
        """Asks for a line."""
        return Deferred.fromCoroutine(self.feed.next())

    def test_lines(self) -> None:
        """Lines come one by one, also across reads; an unfinished last one counts; then there are none."""
        waiting = self.next()
        self.feed.take(b"on")
        self.assertNoResult(waiting)
        self.feed.take(b"e\r\n\ntwo")
        self.assertEqual((True, b"one"), self.successResultOf(waiting))
        self.assertEqual((True, b""), self.successResultOf(self.next()))
        waiting = self.next()
        self.assertNoResult(waiting)
        self.feed.end()
        self.assertEqual((True, b"two"), self.successResultOf(waiting))
        self.assertEqual((False, None), self.successResultOf(self.next()))

    def test_too_long(self) -> None:
        """A line that is too long is None, and the one behind it is whole again."""
        self.feed.take(b"x" * MAX_LINE)
        self.feed.take(b"xxx")
        self.feed.take(b"xxx\nafter\n")
        self.assertEqual((True, None), self.successResultOf(self.next()))
        self.assertEqual((True, b"after"), self.successResultOf(self.next()))

    def test_held(self) -> None:
        """No more is read than a few lines ahead, and on it goes when they are used up."""
        self.feed.take(b"x\n" * (READ_AHEAD - 1))
        self.assertEqual([], self.holds)
        self.feed.take(b"x\n")
        self.assertEqual([True], self.holds)
        for _ in range(READ_AHEAD):
            self.successResultOf(self.next())
        self.assertEqual([True], self.holds)
        self.assertNoResult(self.next())
        self.assertEqual([True, False], self.holds)

    def test_all(self) -> None:
        """The whole of it keeps its line breaks but the last; one byte more than allowed is too much."""
        for data, most, expected in (
            (b"a\n\nb\n", 10, b"a\n\nb"), (b"", 10, b""), (b"abc", 3, b"abc"), (b"abcd", 3, None),
            (b"ab\ncd\n", 4, None),
        ):  # fmt: skip
            self.feed = Feed(self.holds.append)
            waiting = Deferred.fromCoroutine(self.feed.all(most))
            self.feed.take(data)
            self.feed.end()
            self.assertEqual(expected, self.successResultOf(waiting), data)
