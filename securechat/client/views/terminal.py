"""What both views of a terminal share: their life, questions, the line being typed, and what each key does.

Needs the asyncio reactor, on whose loop prompt_toolkit runs: ask `choice.available` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from typing import Any, ClassVar, Final

from prompt_toolkit.application import Application, create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.clipboard import InMemoryClipboard
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText, StyleAndTextTuples
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.layout import Layout
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.renderer import print_formatted_text
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from securechat.client.commands import Typed, has_secret, parse, safe_for_history
from securechat.client.display import Pieces, clean, rows
from securechat.client.view import Alert, Answer, Desktop, Failure, Item, Status
from securechat.client.views.acts import Acts
from securechat.client.views.canvas import quiet_output
from securechat.client.views.console import Console
from securechat.client.views.entry import MAX_LINE, Entry
from securechat.client.views.questions import Question, Questions
from securechat.client.views.styles import depth, fragments, style
from securechat.client.views.turns import Turns
from securechat.client.views.wrap import wrapped
from securechat.errors import Exit

DRAFT_SECONDS: Final = 1.0  # after the last key that a half-typed line is kept
MAX_PROMPT_NAME: Final = 40  # characters of a conversation's or user's name in the prompt


class Terminal(Acts):
    """A view on a terminal, with history, completion and questions.

    Args:
        reactor: asyncio's.
        done: called once with the exit status, when the terminal is as it was. Not called where the reactor is
            stopped by somebody else first; it then waits until the terminal is as it was.
        timeout: seconds to wait for acknowledgements at the end.
        color: "auto", "always" or "never".
        environ: where NO_COLOR and the editor are named.
        notifier: draws attention to what is not seen; None: the bell.
        clock: seconds since 1970.
        tz, console, input, output: for tests.
    """

    interactive = True
    full_screen: ClassVar[bool] = False
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        done: Callable[[Exit], None],
        timeout: float = 30.0,
        color: str = "auto",
        environ: Mapping[str, str] = os.environ,
        notifier: Callable[[Alert], None] | None = None,
        clock: Callable[[], float] = time.time,
        tz: tzinfo | None = None,
        console: Console | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._reactor = reactor
        self._done = done
        self._timeout = timeout
        self._environ = environ
        self._notifier = notifier or self._bell
        self._clock = clock
        self._tz = tz
        self._console = console or Console(reactor)
        self._input = input or create_input(sys.__stdin__)
        self._output = output or quiet_output()
        self._status = Status()
        self._room = ""
        self._last = ""  # the one before it
        self._questions = Questions(self._pose, self._settled)
        self._switcher = None
        self._draft: Document | None = None  # what was half typed when a question was posed
        self._drafting: Any = None
        self._told = ""  # the draft of this conversation as it was told to the core, or came from it
        self._counting: Any = None
        self._warned = False
        self._leaving = False
        self._shutting = False
        self._away = False  # an editor has the terminal
        self._editing = None
        self._exit: Exit | None = None
        self._client: Desktop | None = None
        self._turns: Turns | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped: Deferred[None] = Deferred()
        self._entry = Entry(self._message, self._asks_secret, self._complete, menu_below=not self.full_screen)
        self._entry.buffer.on_text_changed += self._typed
        bits, color_depth = depth(color, environ)
        self._style = style(bits)
        self._app = self._application(color_depth)

    def _application(self, color_depth: ColorDepth) -> Application[None]:
        return Application(
            layout=self._layout(),
            style=self._style,
            include_default_pygments_style=False,
            color_depth=color_depth,
            clipboard=InMemoryClipboard(),
            key_bindings=self.bindings(),
            full_screen=self.full_screen,
            erase_when_done=True,
            enable_page_navigation_bindings=False,
            input=self._input,
            output=self._output,
        )

    # What each of the two does in its own way.

    @abstractmethod
    def _layout(self) -> Layout:
        """The screen, with the line being typed in it."""

    @abstractmethod
    def show(self, item: Item) -> None:
        """Shows an item, after all shown before it."""

    def _update(self) -> None:
        """The status is another."""

    def _last_words(self) -> None:
        """The terminal is as it was: prints what must not be lost."""

    # What the core sees.

    def start(self, client: Desktop) -> None:
        """Begins, as soon as the reactor runs. What was shown before is shown first."""
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

    def status(self, status: Status) -> None:
        """Shows the status; the seconds to the next attempt are counted down while there is one."""
        self._status = status
        if status.room != self._room:
            self._enter_room(status.room)
        self._update()
        self._app.invalidate()
        self._count_down()

    def alert(self, alert: Alert) -> None:
        """Draws attention to what its user does not see."""
        self._notifier(alert)

    def ask(self, question: str) -> Deferred[str | None]:
        """Asks in the place of the prompt; a line half typed comes back afterwards."""
        return self._questions.ask(question, secret=False)

    def ask_secret(self, question: str) -> Deferred[str | None]:
        """The same with asterisks; the answer is in no history, undo list or clipboard."""
        return self._questions.ask(question, secret=True)

    def _bell(self, alert: Alert) -> None:
        self.ring(b"\a")

    def ring(self, data: bytes) -> None:
        """Bytes that make the terminal draw attention; they move no cursor."""
        if self._app.is_running:
            self._output.write_raw(data.decode("utf-8", "replace"))
            self._output.flush()

    def _count_down(self) -> None:
        """A turn of the clock each second, only while there is something to count."""
        ahead = self._status.link != "online" and self._status.retry_at > self._clock()
        if self._counting is None and ahead:
            self._counting = self._reactor.callLater(1, self._counted)

    def _counted(self) -> None:
        self._counting = None
        self._app.invalidate()
        self._count_down()

    # Beginning and end.

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._console.watch(self._shut_down, self._hang_up)
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._run_ended)
        assert self._turns is not None
        self._turns.start()

    async def _run(self) -> None:
        with create_app_session(self._input, self._output):
            # Neither handler: SIGINT is Twisted's, and an error must not wait for a key.
            await self._app.run_async(set_exception_handler=False, handle_sigint=False)

    def _end(self, status: Exit) -> None:
        """The client is closed."""
        self._exit = status
        self._questions.close()
        self._stop_editing()
        if self._task is None or self._task.done():
            self._finish()
        elif self._app.is_running:
            with contextlib.suppress(Exception):  # prompt_toolkit's word for "it is ending already"
                self._app.exit()
        else:
            self._task.cancel()

    def _run_ended(self, task: asyncio.Task[None]) -> None:
        """The terminal is as it was; why the view ended, the rest shows."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (EOFError, OSError)):
            self.log.error("The view broke off: {error!r}", error=error)
        self._questions.close()
        self._stop_timers()
        self._last_words()
        if self._shutting:
            self._console.restore()
        elif self._exit is not None:
            self._finish()
        elif self._turns is not None:
            self._turns.stop(Exit.INTERRUPTED if error is None or isinstance(error, EOFError) else Exit.FIXABLE)
        self._stopped.callback(None)

    def _stop_timers(self) -> None:
        for timer in (self._counting, self._drafting):
            if timer is not None and timer.active():
                timer.cancel()
        self._counting = self._drafting = None

    def _finish(self) -> None:
        status = self._exit if self._exit is not None else Exit.FIXABLE
        self._loop = None  # what is shown from now on would stand in somebody else's terminal
        self._console.close().addCallback(lambda _: self._done(status))

    def _shut_down(self) -> Deferred[None] | None:
        """The reactor stops: it waits until the terminal is as it was."""
        self._shutting = True
        if self._task is None or self._task.done():
            return None
        self._keep_draft()
        self._stop_editing()
        self._task.cancel()
        return self._stopped

    def _hang_up(self) -> None:
        self._keep_draft()
        if self._turns is not None:
            self._turns.stop(Exit.INTERRUPTED)

    def _leave(self) -> None:
        """The person wants to go: what was typed still runs, the outbox is waited for."""
        self._leaving = True
        self._keep_draft()
        self._app.invalidate()
        if self._turns is not None:
            self._turns.no_more()

    @property
    def _going(self) -> bool:
        return self._leaving or (self._client is not None and self._client.exiting)

    # Printing on the terminal itself.

    def _columns(self) -> int:
        """How wide it is; a full last column wraps in some terminals, in others not."""
        return self._output.get_size().columns - 1

    def _laid_out(self, item: Item) -> list[Pieces]:
        """An item as rows that fit."""
        numbers = self._client is not None and self._client.preference("numbers") == "on"
        return [line for row in rows(item, tz=self._tz, numbers=numbers) for line in wrapped(row, self._columns())]

    def _print_rows(self, shown: Iterable[Pieces]) -> None:
        """Prints rows. Raises OSError where the terminal is gone."""
        # The console of Linux obeys part of what marks a link as if it were about colours.
        painted = FormattedText(fragments(shown, links=not self._environ.get("TERM", "").startswith("linux")))
        print_formatted_text(self._output, painted, self._style, color_depth=self._app.color_depth)

    # The line being typed.

    def _message(self) -> StyleAndTextTuples:
        """What stands before it: a question, or where it will go."""
        question = self._questions.first
        if question is not None:
            return [("class:question", f"{clean(question.text).rstrip()} ".replace("\n", " "))]
        status = self._status
        where = f"[{clean(status.room, name=True)[:MAX_PROMPT_NAME]}] " if status.room else ""
        return [("", f"{where}{clean(status.user, name=True)[:MAX_PROMPT_NAME]}> ")]

    def _states(self) -> str:
        """What is to be said before all else of the status."""
        if self._going:
            return "leaving, Ctrl-C leaves at once"
        return "Ctrl-C again leaves" if self._warned else ""

    def _asks_secret(self) -> bool:
        return self._questions.first is not None and self._questions.first.secret

    def _complete(self, text: str) -> tuple[int, Iterable[str]]:
        if self._questions or self._client is None:
            return 0, ()
        return self._client.complete(text)

    def _typed(self, buffer: Buffer) -> None:
        self._warned = False
        if self._switcher is not None:
            self._switcher.type(buffer.text)
        elif not self._questions and self._room and self._drafting is None and self._app.is_running:
            self._drafting = self._reactor.callLater(DRAFT_SECONDS, self._keep_draft)

    def _submit(self, text: str) -> bool:
        """Gives a line its turn; False where it is too much."""
        if len(text) > MAX_LINE:
            self.show(Failure(f"That is more than {MAX_LINE} characters. Nothing was sent; send it in parts."))
            return False
        command = safe_for_history(text) if isinstance(parse(text), Typed) else None
        if command is not None:
            self.show(Answer([f"> {command}"]))
        self._keep_draft()  # or what was typed before the line left would come back with the next word about the room
        if self._turns is not None and text.strip():
            self._turns.add(text)
        return True

    # Conversations and what is half typed in them.

    def _enter_room(self, where: str) -> None:
        """Another conversation is the active one: what was half typed stays where it was."""
        if where == self._room:
            return
        self._keep_draft()
        typed = self._draft if self._questions else self._entry.buffer.document
        left, self._room = self._room, where
        self._last = left or self._last
        kept = self._told = clean(self._client.draft(where)) if self._client is not None and where else ""
        if not left and not kept:
            return  # what was typed before there was any conversation stays
        draft = Document(kept) if left or typed is None or not typed.text else typed
        if self._questions:
            self._draft = draft
        else:
            self._retype(draft)

    def _take_draft(self) -> None:
        """A draft that came from another device; what is typed here already stays."""
        if self._client is not None and self._room and not self._questions and not self._entry.buffer.text:
            draft = clean(self._client.draft(self._room))
            if draft and draft != self._told:  # what was half typed here, and is not any more, stays gone
                self._retype(Document(draft))

    def _keep_draft(self) -> None:
        """Tells the core what is half typed; never a password."""
        timer, self._drafting = self._drafting, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._client is None or not self._room or not self._status.user:
            return
        document = self._draft if self._questions else self._entry.buffer.document
        text = "" if document is None else document.text
        self._told = "" if has_secret(text) else text
        self._client.set_draft(self._room, self._told)

    # Questions.

    def _pose(self, question: Question) -> None:
        self._draft = self._entry.buffer.document
        self._entry.buffer.reset()
        self._app.invalidate()

    def _settled(self, question: Question, answer: str | None) -> None:
        if question.secret:
            self._app.clipboard = InMemoryClipboard()  # Ctrl-U and Ctrl-W put it there
        self._switcher = None
        draft, self._draft = self._draft, None
        self._entry.buffer.reset(draft)
        self._app.invalidate()
