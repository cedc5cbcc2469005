"""Tests for the plain view: its lines, its order, its questions and its end. The descriptors are fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from securechat.client.view import (
    Alert,
    Answer,
    Failure,
    Item,
    Membership,
    Message,
    Notice,
    Status,
    Unshown,
)
from securechat.client.views.console import Console
from securechat.client.views.plain import READ_AHEAD, PlainView
from securechat.client.views.questions import Questions
from securechat.client.views.turns import GRACE, PATIENCE
from securechat.errors import Exit


class FakeConsole(Console):
    """Descriptors in memory."""

    def __init__(self, *, interactive: bool = False, one_place: bool = False) -> None:
        self.person = interactive
        self.one_place = one_place
        self.transport = StringTransport()
        self.errors = b""
        self.echoes: list[bool] = []
        self.closed = False
        self.why = (Exit.OK, "")

    @property
    def interactive(self) -> bool:
        return self.person

    @property
    def output_is_terminal(self) -> bool:
        return self.person

    @property
    def errors_are_output(self) -> bool:
        return self.one_place

    def open(self, protocol: IProtocol) -> None:
        protocol.makeConnection(self.transport)

    def watch(self, stopping: Callable[[], object], hangup: Callable[[], None]) -> None:
        self.stopping = stopping
        self.hangup = hangup

    def write_error(self, data: bytes) -> None:
        self.errors += data

    def echo(self, on: bool) -> None:
        self.echoes.append(on)

    def why_output_ended(self) -> tuple[Exit, str]:
        return self.why

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class FakeClient:
    """Runs lines when it is told to.

    Attributes:
        started: the lines, in the order they were given.
        waiting: what the lines that are not done wait for.
        results: what a line ends with at once, by line.
    """

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.exiting = False
        self.started: list[str] = []
        self.waiting: dict[str, Deferred[Exit]] = {}
        self.results: dict[str, Exit] = {}
        self.closes: list[float] = []
        self.closing: Deferred[Exit] = succeed(Exit.OK)

    def submit(self, line: str) -> Deferred[Exit]:
        self.started.append(line)
        if line == "/exit":
            self.exiting = True
        if line == "/crash":
            raise ValueError("made up")
        if self.at_once or line == "/exit":
            return succeed(self.results.get(line, Exit.OK))
        self.waiting[line] = Deferred()
        return self.waiting[line]

    def close(self, timeout: float) -> Deferred[Exit]:
        self.closes.append(timeout)
        return self.closing

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        return 0, ()


class PlainCase(SynchronousTestCase):
    """A view with everything around it faked."""

    interactive = False

    def begin(
        self, client: FakeClient | None = None, *, keep_going: bool = False, one_place: bool = False, **more: Any
    ) -> None:
        """Makes the parts, and starts the view."""
        self.clock = Clock()
        self.console = FakeConsole(interactive=self.interactive, one_place=one_place)
        self.client = client or FakeClient()
        self.ended: list[Exit] = []
        self.view = PlainView(
            self.clock, done=self.ended.append, keep_going=keep_going, tz=UTC, console=self.console, **more
        )
        self.view.start(self.client)

    def type(self, text: str) -> None:
        """What is typed or piped in."""
        self.view.dataReceived(text.encode())

    def flush(self) -> None:
        """What the transport does when it was told to close and all is written."""
        if self.console.transport.disconnecting:
            self.view.connectionLost()

    @property
    def out(self) -> str:
        return self.console.transport.value().decode()

    @property
    def err(self) -> str:
        return self.console.errors.decode()


class ShowTests(PlainCase):
    """Tests for what goes where."""

    def test_interface(self) -> None:
        """Twisted tells it which half was closed, and it is no terminal."""
        self.begin()
        verifyObject(IHalfCloseableProtocol, self.view)
        self.assertFalse(self.view.interactive)

    def test_standard_output(self) -> None:
        """Messages, membership, gaps and answers."""
        self.begin()
        items: tuple[Item, ...] = (
            Message("general", "bob", "hi\nthere"),
            Membership("general", "bob", "left"),
            Unshown("general", 1, "message{s} lost"),
            Answer(["one", "two"]),
            Answer([]),
        )
        for item in items:
            self.view.show(item)
        expected = "[general] <bob> hi ⏎ there\n[general] * bob left\n[general] 1 message lost\none\ntwo\n"
        self.assertEqual((expected, ""), (self.out, self.err))

    def test_read_aloud(self) -> None:
        """For a screen reader: who speaks first, no times, no signs."""
        self.begin(spoken=True)
        self.view.show(Message("general", "bob", "hi\nthere", 1_700_000_000_000))
        self.view.show(Membership("general", "bob", "left"))
        self.assertEqual("bob in general: hi (new line) there\nbob left (in general)\n", self.out)

    def test_numbers(self) -> None:
        """The number of a message is printed where its user wants it."""
        wanted = [True]
        self.begin(numbers=lambda: wanted[0])
        for _ in range(2):
            self.view.show(Message("general", "bob", "hi", seq=12))
            wanted[0] = False
        self.assertEqual("#12 [general] <bob> hi\n[general] <bob> hi\n", self.out)

    def test_alert(self) -> None:
        """A person at a terminal is told, in the way that was chosen; a pipe is not."""
        alert, told = Alert("general", "bob", "bob in general"), list[Alert]()
        self.begin(notifier=told.append)
        self.view.alert(alert)
        self.assertEqual([], told)
        self.interactive = True
        self.begin(notifier=told.append)
        self.view.alert(alert)
        self.view.ring(b"\a")
        self.assertEqual(([alert], "\a"), (told, self.out))

    def test_standard_error(self) -> None:
        """Notices and failures."""
        self.begin()
        self.view.show(Notice("n"))
        self.view.show(Failure("f"))
        self.assertEqual(("", "* n\n! f\n"), (self.out, self.err))

    def test_one_place(self) -> None:
        """Where both end in one place the order stays, so all takes one way."""
        self.begin(one_place=True)
        self.view.show(Notice("n"))
        self.view.show(Answer(["a"]))
        self.assertEqual("* n\na\n", self.out)

    def test_before_the_start(self) -> None:
        """What is shown before the descriptors are open is printed then."""
        console = FakeConsole()
        view = PlainView(Clock(), done=lambda _: None, console=console)
        view.show(Answer(["early"]))
        view.show(Notice("early too"))
        view.start(FakeClient())
        self.assertEqual(b"early\n", console.transport.value())
        self.assertEqual(b"* early too\n", console.errors)

    def test_status(self) -> None:
        """A status is not printed: seconds counting down are no news."""
        self.begin()
        self.view.status(Status(link="offline, retry in 8 s"))
        self.assertEqual(("", ""), (self.out, self.err))


class ScriptTests(PlainCase):
    """Tests for input that is no terminal."""

    def test_one_at_a_time(self) -> None:
        """A line waits until the one before is done."""
        self.begin(FakeClient(at_once=False))
        self.type("/join a\nhello\n")
        self.assertEqual(["/join a"], self.client.started)
        self.clock.advance(10 * PATIENCE)
        self.assertEqual(["/join a"], self.client.started)
        self.client.waiting["/join a"].callback(Exit.OK)
        self.assertEqual(["/join a", "hello"], self.client.started)

    def test_chunks(self) -> None:
        """A line may come in pieces, with either ending; characters may be cut."""
        self.begin()
        for byte in "añ\r\nb\n".encode():
            self.view.dataReceived(bytes([byte]))
        self.assertEqual(["añ", "b"], self.client.started)

    def test_end_of_input(self) -> None:
        """The end is /exit: the client is closed, what is printed is flushed, then the view is done."""
        self.begin()
        self.type("hello\n")
        self.view.readConnectionLost()
        self.assertEqual([30.0], self.client.closes)
        self.assertEqual([], self.ended)
        self.flush()
        self.assertEqual([Exit.OK], self.ended)
        self.assertTrue(self.console.closed)

    def test_last_line_without_newline(self) -> None:
        """An unfinished last line is a line."""
        self.begin()
        self.type("a\nb\r")
        self.view.readConnectionLost()
        self.assertEqual(["a", "b"], self.client.started)

    def test_end_waits_for_commands(self) -> None:
        """All that was typed is done before the client is closed."""
        self.begin(FakeClient(at_once=False))
        self.type("a\nb")
        self.view.readConnectionLost()
        self.assertEqual([], self.client.closes)
        self.client.waiting["a"].callback(Exit.OK)
        self.assertEqual([], self.client.closes)
        self.client.waiting["b"].callback(Exit.OK)
        self.assertEqual([30.0], self.client.closes)

    def test_nothing_typed(self) -> None:
        """No input at all is a good end."""
        self.begin()
        self.view.readConnectionLost()
        self.flush()
        self.assertEqual([Exit.OK], self.ended)

    def test_first_failure_ends(self) -> None:
        """The first command that fails ends the run, with its status."""
        client = FakeClient()
        client.results["/join a"] = Exit.NOT_THERE
        self.begin(client)
        self.type("/join a\nhello\n")
        self.flush()
        self.assertEqual(["/join a"], client.started)
        self.assertEqual([Exit.NOT_THERE], self.ended)

    def test_keep_going(self) -> None:
        """Told to go on, the status at the end is that of the first failure."""
        client = FakeClient()
        client.results.update({"a": Exit.NOT_THERE, "b": Exit.UNTRUSTED})
        self.begin(client, keep_going=True)
        self.type("a\nb\nc\n")
        self.view.readConnectionLost()
        self.flush()
        self.assertEqual(["a", "b", "c"], client.started)
        self.assertEqual([Exit.NOT_THERE], self.ended)

    def test_exit_ends(self) -> None:
        """Nothing behind /exit runs."""
        self.begin()
        self.type("/exit\nhello\n")
        self.flush()
        self.assertEqual(["/exit"], self.client.started)
        self.assertEqual([Exit.OK], self.ended)

    def test_unacknowledged(self) -> None:
        """What the client says at its close is the status."""
        client = FakeClient()
        client.closing = succeed(Exit.NETWORK)
        self.begin(client)
        self.view.readConnectionLost()
        self.flush()
        self.assertEqual([Exit.NETWORK], self.ended)

    def test_client_that_does_not_close(self) -> None:
        """A client that never closes is left after its time."""
        client = FakeClient()
        client.closing = Deferred()
        self.begin(client)
        self.view.readConnectionLost()
        self.clock.advance(30.0 + GRACE - 0.1)
        self.flush()
        self.assertEqual([], self.ended)
        self.clock.advance(0.1)
        self.flush()
        self.assertEqual([Exit.NETWORK], self.ended)

    def test_crash_in_a_command(self) -> None:
        """A mistake in the client is a failure of that command, logged."""
        self.begin()
        self.type("/crash\n")
        self.flush()
        self.assertEqual([Exit.FIXABLE], self.ended)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertIn("!", self.err)

    def test_nobody_to_ask(self) -> None:
        """A question is answered at once: nobody is there. The next line is a command."""
        self.begin()
        for question in (self.view.ask("Name?"), self.view.ask_secret("Password:")):
            self.assertIsNone(self.successResultOf(question))
        self.type("hello\n")
        self.assertEqual(["hello"], self.client.started)
        self.assertEqual([], self.console.echoes)
        self.assertEqual("", self.out)

    def test_no_hint(self) -> None:
        """In a script a password on the line is as it should be."""
        self.begin()
        self.type("/login alice pw\n")
        self.assertEqual("", self.err)


class LineTests(PlainCase):
    """Tests for lines that are none."""

    def test_longest(self) -> None:
        """A line may have 64 KiB."""
        self.begin()
        line = "x" * PlainView.MAX_LENGTH
        self.type(f"{line}\n")
        self.assertEqual([line], self.client.started)

    def test_too_long(self) -> None:
        """One more byte, and the line fails as a whole: it is not sent in parts."""
        self.begin(keep_going=True)
        self.type("a\n" + "x" * (PlainView.MAX_LENGTH + 1) + "\nb\n")
        self.assertEqual(["a", "b"], self.client.started)
        self.assertIn("65536 bytes", self.err)
        self.assertEqual(1, self.err.count("\n"))

    def test_too_long_in_chunks(self) -> None:
        """The same however it comes in; what follows is a new line."""
        self.begin(keep_going=True)
        for _ in range(40):
            self.type("x" * 5000)
        self.type("end\nb\n")
        self.assertEqual(["b"], self.client.started)
        self.assertEqual(1, self.err.count("\n"))

    def test_too_long_at_the_end(self) -> None:
        """An unfinished last line that is too long fails, too."""
        self.begin()
        self.type("x" * 70_000)
        self.view.readConnectionLost()
        self.flush()
        self.assertEqual([], self.client.started)
        self.assertEqual([Exit.FIXABLE], self.ended)

    def test_failure_has_its_turn(self) -> None:
        """What is wrong with a line is said when its turn comes, and ends a script there."""
        self.begin(FakeClient(at_once=False))
        self.view.dataReceived(b"a\n\xff\nb\n")
        self.assertEqual("", self.err)
        self.client.waiting["a"].callback(Exit.OK)
        self.assertIn("UTF-8", self.err)
        self.flush()
        self.assertEqual(["a"], self.client.started)
        self.assertEqual([Exit.FIXABLE], self.ended)


class FlowTests(PlainCase):
    """Tests for input that is faster than the client, or output that is slower."""

    def test_reading_pauses(self) -> None:
        """Endless input is not read further than the client gets."""
        self.begin(FakeClient(at_once=False))
        for number in range(READ_AHEAD + 1):
            self.type(f"{number}\n")
        self.assertEqual("paused", self.console.transport.producerState)
        for number in range(READ_AHEAD + 1):
            self.client.waiting[str(number)].callback(Exit.OK)
        self.assertEqual("producing", self.console.transport.producerState)

    def test_output_not_taken(self) -> None:
        """While nobody takes the output no further command runs."""
        self.begin()
        valve = self.console.transport.producer
        assert valve is not None
        valve.pauseProducing()
        self.type("a\n")
        self.view.readConnectionLost()
        self.assertEqual([], self.client.started)
        valve.resumeProducing()
        self.flush()
        self.assertEqual(["a"], self.client.started)
        self.assertEqual([Exit.OK], self.ended)
        self.assertIsNone(self.console.transport.producer)

    def test_output_closed(self) -> None:
        """A reader that has enough ends the run at once, and that is no failure."""
        client = FakeClient(at_once=False)
        self.begin(client)
        self.type("a\nb\n")
        self.view.writeConnectionLost()
        self.assertEqual([Exit.OK], self.ended)
        self.assertEqual([0.0], client.closes)
        self.assertEqual(["a"], client.started)
        client.waiting["a"].callback(Exit.OK)
        self.assertEqual(["a"], client.started)
        self.assertEqual([Exit.OK], self.ended)
        self.assertEqual("", self.err)

    def test_output_closed_during_the_close(self) -> None:
        """The same while the outbox is waited for."""
        client = FakeClient()
        client.closing = Deferred()
        self.begin(client)
        self.view.readConnectionLost()
        self.view.writeConnectionLost()
        self.assertEqual([Exit.OK], self.ended)

    def test_disk_full(self) -> None:
        """A file that takes no more is a failure, and said."""
        self.begin()
        self.console.why = (Exit.FIXABLE, "full")
        self.view.writeConnectionLost()
        self.assertEqual([Exit.FIXABLE], self.ended)
        self.assertEqual("! full\n", self.err)

    def test_shown_after_the_end(self) -> None:
        """What comes too late goes nowhere, without a fuss."""
        self.begin()
        self.view.writeConnectionLost()
        self.view.show(Answer(["late"]))
        self.assertEqual("", self.out)


class PersonTests(PlainCase):
    """Tests for a terminal."""

    interactive = True

    def test_messages_do_not_wait(self) -> None:
        """Without a link one can still type: no message waits for the acknowledgement of another."""
        self.begin(FakeClient(at_once=False))
        self.type("one\n/pm bob two\n/rooms\n")
        self.assertEqual(["one", "/pm bob two", "/rooms"], self.client.started)

    def test_commands_wait(self) -> None:
        """What was typed ahead waits for the command before, but not for ever."""
        self.begin(FakeClient(at_once=False))
        self.type("/login alice\n/join a\nhello\n")
        self.assertEqual(["/login alice"], self.client.started)
        self.client.waiting["/login alice"].callback(Exit.OK)
        self.assertEqual(["/login alice", "/join a"], self.client.started)
        self.clock.advance(PATIENCE)
        self.assertEqual(["/login alice", "/join a", "hello"], self.client.started)
        self.client.waiting["/join a"].callback(Exit.OK)

    def test_failure_goes_on(self) -> None:
        """A person who mistypes goes on, and leaves with success."""
        client = FakeClient()
        client.results["/join a"] = Exit.NOT_THERE
        self.begin(client)
        self.type("/join a\nhello\n/exit\n")
        self.flush()
        self.assertEqual(["/join a", "hello", "/exit"], client.started)
        self.assertEqual([Exit.OK], self.ended)

    def test_leaving_without_a_link(self) -> None:
        """/exit is heard although messages wait."""
        self.begin(FakeClient(at_once=False))
        self.type("hello\n/exit\n")
        self.flush()
        self.assertEqual([30.0], self.client.closes)
        self.assertEqual([Exit.OK], self.ended)

    def test_hint_for_passwords(self) -> None:
        """A password typed on the line stays on the screen: the better way is said, without repeating it."""
        self.begin()
        self.type("/login alice hunter2\n")
        self.assertIn("/login alice asks for it without echo", self.err)
        self.assertNotIn("hunter2", self.out + self.err)
        self.assertEqual(["/login alice hunter2"], self.client.started)

    def test_hang_up(self) -> None:
        """A terminal that goes away ends the run at once."""
        self.begin(FakeClient(at_once=False))
        self.type("/login alice\n")
        self.console.hangup()
        self.flush()
        self.assertEqual([Exit.INTERRUPTED], self.ended)


class QuestionTests(PlainCase):
    """Tests for asking a person."""

    interactive = True

    def test_ask(self) -> None:
        """The next line is the answer, and no command."""
        self.begin()
        answer = self.view.ask("Trust \x1b bob?")
        self.assertEqual("Trust \ufffd bob? ", self.out)
        self.type("yes\nhello\n")
        self.assertEqual("yes", self.successResultOf(answer))
        self.assertEqual(["hello"], self.client.started)

    def test_ask_secret(self) -> None:
        """The echo is off while the answer is typed, and on again when it is there."""
        self.begin()
        answer = self.view.ask_secret("Password: ")
        self.assertEqual([False], self.console.echoes)
        self.type("hunter2\n")
        self.assertEqual([False, True], self.console.echoes)
        self.assertEqual("hunter2", self.successResultOf(answer))
        self.assertEqual("Password: \n", self.out)

    def test_typed_ahead(self) -> None:
        """A password typed before it was asked for is the answer: it must not go to a room."""
        self.begin(FakeClient(at_once=False))
        self.type("/login alice\nhunter2\n")
        answer = self.view.ask_secret("Password:")
        self.assertEqual("hunter2", self.successResultOf(answer))
        self.client.waiting["/login alice"].callback(Exit.OK)
        self.assertEqual(["/login alice"], self.client.started)

    def test_one_after_the_other(self) -> None:
        """Two questions at once are put in order; the echo follows the one that is put."""
        self.begin()
        first, second = self.view.ask("Name?"), self.view.ask_secret("Password:")
        self.assertEqual([], self.console.echoes)
        self.type("alice\n")
        self.assertEqual("alice", self.successResultOf(first))
        self.assertEqual([True, False], self.console.echoes)
        self.type("pw\n")
        self.assertEqual("pw", self.successResultOf(second))
        self.assertTrue(self.console.echoes[-1])

    def test_end_of_input(self) -> None:
        """Ctrl-D answers nothing; the echo comes back."""
        self.begin()
        answer = self.view.ask_secret("Password:")
        self.view.readConnectionLost()
        self.assertIsNone(self.successResultOf(answer))
        self.assertTrue(self.console.echoes[-1])

    def test_withdrawn(self) -> None:
        """A question that is cancelled is over; the echo comes back, and lines are commands again."""
        self.begin()
        answer = self.view.ask_secret("Password:")
        answer.cancel()
        self.assertIsNone(self.successResultOf(answer))
        self.assertTrue(self.console.echoes[-1])
        self.type("hello\n")
        self.assertEqual(["hello"], self.client.started)

    def test_reactor_stops(self) -> None:
        """The echo comes back whoever stops the reactor, and the view does not say that it is done."""
        self.begin()
        self.view.ask_secret("Password:")
        self.console.stopping()
        self.assertTrue(self.console.echoes[-1])
        self.view.connectionLost()
        self.assertEqual([], self.ended)

    def test_asked_after_the_end(self) -> None:
        """Nobody is there any more."""
        self.begin()
        self.view.readConnectionLost()
        self.assertIsNone(self.successResultOf(self.view.ask("Name?")))


class QuestionsTests(SynchronousTestCase):
    """Tests for the queue of questions."""

    def test_asking_from_an_answer(self) -> None:
        """An answer that leads to another question poses it once."""
        posed: list[str] = []
        questions = Questions(lambda question: posed.append(question.text), lambda question, answer: None)
        questions.ask("a", secret=False).addCallback(lambda _: questions.ask("b", secret=False))
        questions.answer("x")
        self.assertEqual(["a", "b"], posed)

    def test_close(self) -> None:
        """All are declined, and those that come later."""
        ended: list[str | None] = []
        questions = Questions(lambda question: None, lambda question, answer: ended.append(answer))
        answers = [questions.ask(text, secret=True) for text in "ab"]
        questions.close()
        answers.append(questions.ask("c", secret=True))
        self.assertEqual([None, None, None], [self.successResultOf(answer) for answer in answers])
        self.assertEqual([None], ended)
        self.assertFalse(questions)
