"""The view of a terminal: a prompt at the bottom, and everything that arrives scrolls by above the line being typed.

Needs the asyncio reactor, on whose loop prompt_toolkit runs: ask `available` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.clipboard import InMemoryClipboard
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import FormattedText, StyleAndTextTuples
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from securechat.client.commands import Typed, parse, safe_for_history
from securechat.client.display import clean, rows
from securechat.client.view import Alert, Answer, Client, Failure, Item, Notice, Status
from securechat.client.views.console import Console
from securechat.client.views.editing import CommandCompleter, History, Mask
from securechat.client.views.questions import Question, Questions
from securechat.client.views.turns import Turns
from securechat.client.views.wrap import wrapped
from securechat.errors import Exit

AT_ONCE: Final = 200  # items printed in one turn of the loop: typing stays smooth while a backlog arrives
KEPT: Final = 2000  # items that may wait to be printed; of more, the oldest are left out, and their number is said
MAX_LINE: Final = 64 * 1024  # characters of one typed or pasted message, as in the plain view

# Never the only carrier of anything. Chosen to be readable on black and on white; red is for failures.
_NAMES: Final = ("ansigreen", "ansicyan", "ansimagenta", "ansibrightblue", "ansibrightmagenta")
_STYLE: Final = Style.from_dict({"mark": "bold", "error": "bold ansired", "question": "bold", "state": "bold"})


def available(reactor: object, environ: Mapping[str, str] = os.environ) -> str | None:
    """Why this view cannot be used here, in one line for a person; None where it can."""
    streams = (sys.__stdin__, sys.__stdout__)
    if any(stream is None for stream in streams) or not (os.isatty(0) and os.isatty(1)):
        return "input and output are not both a terminal"
    if environ.get("TERM", "dumb").lower() in ("", "dumb", "unknown"):
        return "the terminal says that it is dumb (TERM)"
    if not isinstance(reactor, AsyncioSelectorReactor):
        return "the prompt needs the asyncio reactor (twistd --reactor=asyncio)"
    return None


class PromptView:
    """A view on a terminal, with history, completion and questions.

    Args:
        reactor: asyncio's.
        done: called once with the exit status, when the terminal is as it was. Not called where the reactor is
            stopped by somebody else first; it then waits until the terminal is as it was.
        timeout: seconds to wait for acknowledgements at the end.
        tz, console, input, output: for tests.
    """

    interactive = True
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        done: Callable[[Exit], None],
        timeout: float = 30.0,
        tz: tzinfo | None = None,
        console: Console | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._reactor = reactor
        self._done = done
        self._timeout = timeout
        self._tz = tz
        self._console = console or Console(reactor)
        self._input = input or create_input(sys.__stdin__)
        self._output = output or _quiet_output()
        self._status = Status()
        self._pending: deque[Item] = deque()
        self._left_out = 0
        self._scheduled = False
        self._questions = Questions(self._pose, self._settled)
        self._draft: Document | None = None
        self._warned = False
        self._leaving = False
        self._shutting = False
        self._exit: Exit | None = None
        self._client: Client | None = None
        self._turns: Turns | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped: Deferred[None] = Deferred()
        self._session = self._new_session()
        self._app = self._session.app
        self._buffer: Buffer = self._session.default_buffer
        self._buffer.on_text_changed += self._typed

    # What the core sees.

    def start(self, client: Client) -> None:
        """Begins, as soon as the reactor runs. What was shown before is printed first."""
        self._client = client
        self._turns = Turns(
            client,
            clock=self._reactor,
            show=self.show,
            ended=self._end,
            script=False,
            timeout=self._timeout,
        )
        self._reactor.callLater(0, self._begin)

    def show(self, item: Item) -> None:
        """Prints an item above the prompt, with all others of this turn of the loop."""
        if len(self._pending) >= KEPT:
            self._pending.popleft()
            self._left_out += 1
        self._pending.append(item)
        self._schedule()

    def status(self, status: Status) -> None:
        """Shows the status in the prompt."""
        self._status = status
        self._app.invalidate()

    def follows(self, where: str) -> bool:
        """Always: all of it is printed."""
        return True

    def opened(self, where: str) -> None:
        """Nothing: what is printed stays."""

    def alert(self, alert: Alert) -> None:
        """Nothing: it is printed."""

    def ask(self, question: str) -> Deferred[str | None]:
        """Asks in the place of the prompt; a line half typed comes back afterwards."""
        return self._questions.ask(question, secret=False)

    def ask_secret(self, question: str) -> Deferred[str | None]:
        """The same with asterisks; the answer is in no history, undo list or clipboard."""
        return self._questions.ask(question, secret=True)

    # Beginning and end.

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._console.watch(self._shut_down, self._hang_up)
        self._task = self._loop.create_task(self._prompt())
        self._task.add_done_callback(self._prompt_ended)
        self._schedule()
        assert self._turns is not None
        self._turns.start()

    async def _prompt(self) -> None:
        with create_app_session(self._input, self._output):
            # Neither handler: SIGINT is Twisted's, and an error must not wait for a key.
            await self._app.run_async(set_exception_handler=False, handle_sigint=False)

    def _end(self, status: Exit) -> None:
        """The client is closed."""
        self._exit = status
        self._questions.close()
        if self._task is None or self._task.done():
            self._finish()
        elif self._app.is_running:
            with contextlib.suppress(Exception):  # prompt_toolkit's word for "it is ending already"
                self._app.exit()
        else:
            self._task.cancel()

    def _prompt_ended(self, task: asyncio.Task[None]) -> None:
        """The terminal is as it was; why the prompt ended, the rest shows."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (EOFError, OSError)):
            self.log.error("The prompt broke off: {error!r}", error=error)
        self._questions.close()
        self._flush()
        if self._shutting:
            self._console.restore()
        elif self._exit is not None:
            self._finish()
        elif self._turns is not None:
            self._turns.stop(Exit.INTERRUPTED if error is None or isinstance(error, EOFError) else Exit.FIXABLE)
        self._stopped.callback(None)

    def _finish(self) -> None:
        status = self._exit if self._exit is not None else Exit.FIXABLE
        self._loop = None  # what is shown from now on would stand in somebody else's terminal
        self._console.close().addCallback(lambda _: self._done(status))

    def _shut_down(self) -> Deferred[None] | None:
        """The reactor stops: it waits until the terminal is as it was."""
        self._shutting = True
        if self._task is None or self._task.done():
            return None
        self._task.cancel()
        return self._stopped

    def _hang_up(self) -> None:
        if self._turns is not None:
            self._turns.stop(Exit.INTERRUPTED)

    def _leave(self) -> None:
        """The person wants to go: what was typed still runs, the outbox is waited for."""
        self._leaving = True
        self._app.invalidate()
        if self._turns is not None:
            self._turns.no_more()

    # Printing.

    def _schedule(self) -> None:
        if self._loop is not None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Prints what waits, above the prompt.

        Not by `run_in_terminal`: that turns the terminal's echo on meanwhile, and a key of a password typed in that
        moment would show.
        """
        self._scheduled = False
        if self._left_out:
            self._pending.appendleft(Notice(f"{self._left_out} lines came too fast to be shown. /history has them."))
            self._left_out = 0
        if not self._pending:
            return
        batch = [self._pending.popleft() for _ in range(min(AT_ONCE, len(self._pending)))]
        running = self._app.is_running
        try:
            if running:
                self._app.renderer.erase()
            print_formatted_text(
                self._output, FormattedText(self._fragments(batch)), _STYLE, color_depth=self._app.color_depth
            )
            if running:
                self._app.renderer.reset()
                self._app.invalidate()
        except OSError:  # the terminal is gone
            self._pending.clear()
            self._hang_up()
        if self._pending and running:
            self._schedule()
        elif self._pending:
            self._flush()

    def _fragments(self, batch: Iterable[Item]) -> StyleAndTextTuples:
        width = self._output.get_size().columns - 1  # a full last column wraps in some terminals, in others not
        fragments: StyleAndTextTuples = []
        for item in batch:
            for row in rows(item, tz=self._tz):
                for line in wrapped(row, width):
                    fragments += [(_style(kind, text), text) for kind, text in line]
                    fragments.append(("", "\n"))
        return fragments

    # The prompt.

    def _new_session(self) -> PromptSession[None]:
        session: PromptSession[None] = PromptSession(
            self._message,
            is_password=Condition(self._asks_secret),
            complete_while_typing=False,
            completer=CommandCompleter(self._complete),
            search_ignore_case=True,
            enable_suspend=True,
            history=History(),
            clipboard=InMemoryClipboard(),
            input_processors=[Mask()],
            key_bindings=self._bindings(),
            style=_STYLE,
            include_default_pygments_style=False,
            erase_when_done=True,
            input=self._input,
            output=self._output,
        )
        return session

    def _message(self) -> StyleAndTextTuples:
        question = self._questions.first
        if question is not None:
            return [("class:question", f"{clean(question.text).rstrip()} ")]
        status = self._status
        where = f"[{clean(status.room, name=True)}] " if status.room else ""
        states = [] if status.link == "online" else [clean(status.link, name=True)]
        if status.retry_at:
            states[0] += f", next try in {max(0.0, status.retry_at - time.time()):.0f} s"
        if status.waiting:
            states.append(f"{status.waiting} waiting")
        if status.work:
            states.append(status.work)
        if self._leaving or (self._client is not None and self._client.exiting):
            states = [*states, "leaving, Ctrl-C leaves at once"]
        elif self._warned:
            states = [*states, "Ctrl-C again leaves"]
        who = where + clean(status.user, name=True)
        state = f"{' ' if who else ''}({', '.join(states)})" if states else ""
        return [("", who), ("class:state", state), ("", "> ")]

    def _asks_secret(self) -> bool:
        return self._questions.first is not None and self._questions.first.secret

    def _complete(self, text: str) -> tuple[int, Iterable[str]]:
        if self._questions or self._client is None:
            return 0, ()
        return self._client.complete(text)

    def _typed(self, _: Buffer) -> None:
        self._warned = False

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        focused = has_focus(DEFAULT_BUFFER)
        empty = Condition(lambda: not self._buffer.text)
        bindings.add("enter", filter=focused)(lambda event: self._enter())
        bindings.add("escape", "enter", filter=focused)(lambda event: self._buffer.insert_text("\n"))
        bindings.add("c-c", filter=focused)(self._interrupt)
        bindings.add("c-d", filter=focused & empty)(self._end_of_input)
        return bindings

    def _enter(self) -> None:
        """Takes the line. Several lines, as pasted, are one message."""
        text = self._buffer.text
        if self._questions:
            self._buffer.reset()  # before the history can see it
            self._questions.answer(text.rstrip("\n"))
            return
        if len(text) > MAX_LINE:
            self.show(Failure(f"That is more than {MAX_LINE} characters. Nothing was sent; send it in parts."))
            return
        self._buffer.reset(append_to_history=True)
        command = safe_for_history(text) if isinstance(parse(text), Typed) else None
        if command is not None:
            self.show(Answer([f"> {command}"]))
        if self._turns is not None and text.strip():
            self._turns.add(text)

    def _interrupt(self, event: KeyPressEvent) -> None:
        """Ctrl-C: declines a question, clears the line; again leaves; and again leaves at once."""
        if self._questions:
            self._questions.answer(None)
        elif self._leaving or (self._client is not None and self._client.exiting):
            self._hang_up()
        elif self._warned:
            self._leave()
        else:
            self._buffer.reset()
            self._warned = True

    def _end_of_input(self, event: KeyPressEvent) -> None:
        """Ctrl-D on an empty line."""
        if self._questions:
            self._questions.answer(None)
        else:
            self._leave()

    # Questions.

    def _pose(self, question: Question) -> None:
        self._draft = self._buffer.document
        self._buffer.reset()
        self._app.invalidate()

    def _settled(self, question: Question, answer: str | None) -> None:
        if question.secret:
            self._session.clipboard = InMemoryClipboard()  # Ctrl-U and Ctrl-W put it there
        self._buffer.reset(self._draft)
        self._app.invalidate()


def _style(kind: str, text: str) -> str:
    if kind == "sender":
        return f"bold {_NAMES[zlib.crc32(text.encode()) % len(_NAMES)]}"
    return f"class:{kind}" if kind else ""


def _quiet_output() -> Output:
    """The terminal itself, under twistd too.

    It is never asked where its cursor is: on a slow line the answer would come between the keys, and after the end
    into the shell.
    """
    output = create_output(sys.__stdout__)
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False
    return output
