"""What each key of `keymap` does in both terminal views."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar, Final

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus, is_searching
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.search import SearchDirection, start_search
from twisted.internet.defer import Deferred

from securechat.client.view import Answer, Desktop, Failure, Item, Status
from securechat.client.views import editor, keymap
from securechat.client.views.entry import MAX_LINE, Entry
from securechat.client.views.paste import Paste, pasted
from securechat.client.views.questions import Questions
from securechat.client.views.switcher import Switcher

_BACK: Final = frozenset({"<", "left", "up", "c-p", "pageup", "home", "s-tab"})


class Acts(ABC):
    """One method for each act of the table; `Terminal` has what they act on."""

    view: ClassVar[str] = ""  # its name in the table
    _app: Application[None]
    _client: Desktop | None
    _entry: Entry
    _environ: Mapping[str, str]
    _questions: Questions
    _status: Status
    _switcher: Switcher | None
    _last: str
    _warned: bool
    _away: bool
    _editing: asyncio.Task[None] | None

    # What `Terminal` gives.

    @abstractmethod
    def show(self, item: Item) -> None:
        """Shows an item."""

    @abstractmethod
    def _submit(self, text: str) -> bool:
        """Gives a line its turn."""

    @abstractmethod
    def _leave(self) -> None:
        """The person wants to go."""

    @abstractmethod
    def _hang_up(self) -> None:
        """The person goes at once."""

    @property
    @abstractmethod
    def _going(self) -> bool:
        """Whether the person is going."""

    def bindings(self) -> KeyBindings:
        """The rows of the table that this view has.

        Those that do nothing while a question is open are bound then too: what the toolkit itself has on such a key
        (earlier lines, a search) must not come into an answer.
        """
        bindings = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)
        empty = Condition(lambda: not self._entry.buffer.text)
        for key in keymap.of_view(self.view):
            if not key.act:
                continue
            act: Callable[[KeyPressEvent], None] = getattr(self, f"act_{key.act}")
            condition = typing & empty if key.act == "end_of_input" else typing
            for pressed in key.keys:
                bindings.add(*pressed.split(), filter=condition)(act if key.asked else self._unless_asked(act))
        bindings.add(Keys.BracketedPaste, filter=typing & ~is_searching)(self._paste)
        return bindings

    def _unless_asked(self, act: Callable[[KeyPressEvent], None]) -> Callable[[KeyPressEvent], None]:
        @wraps(act)
        def run(event: KeyPressEvent) -> None:
            if not self._questions:
                act(event)

        return run

    # Writing.

    def act_enter(self, event: KeyPressEvent) -> None:
        """Takes the line. Several lines are one message."""
        buffer = self._entry.buffer
        text = buffer.text
        if self._questions:
            answer = self._switcher.chosen() if self._switcher is not None else text.rstrip("\n")
            buffer.reset()  # before the history can see it
            self._questions.answer(answer)
        elif len(text) > MAX_LINE:
            self._submit(text)  # which says so; the line stays, to be made shorter
        else:
            buffer.reset(append_to_history=True)
            self._submit(text)

    def act_newline(self, event: KeyPressEvent) -> None:
        """A line break in the message."""
        self._entry.insert("\n")

    def act_complete(self, event: KeyPressEvent) -> None:
        """Begins to complete, or takes the next completion."""
        if self._switcher is not None:
            self._switcher.step(1)
        elif self._questions:
            return
        elif self._entry.completing:
            self._entry.buffer.complete_next()
        else:
            self._entry.buffer.start_completion(insert_common_part=True)

    def act_complete_back(self, event: KeyPressEvent) -> None:
        """The completion before."""
        if self._switcher is not None:
            self._switcher.step(-1)
        elif self._entry.completing:
            self._entry.buffer.complete_previous()

    def act_older_line(self, event: KeyPressEvent) -> None:
        """What was typed before; inside a message of several lines the line above."""
        if self._switcher is not None:
            self._switcher.step(-1)
        elif not self._questions:
            self._entry.buffer.auto_up(count=event.arg)

    def act_newer_line(self, event: KeyPressEvent) -> None:
        """What was typed after that."""
        if self._switcher is not None:
            self._switcher.step(1)
        elif not self._questions:
            self._entry.buffer.auto_down(count=event.arg)

    def act_search_back(self, event: KeyPressEvent) -> None:
        """Searches what was typed, backwards."""
        start_search(direction=SearchDirection.BACKWARD)

    def act_search_on(self, event: KeyPressEvent) -> None:
        """Searches it forwards."""
        start_search(direction=SearchDirection.FORWARD)

    def act_edit(self, event: KeyPressEvent) -> None:
        """The message goes to the person's editor, and comes back to the line being typed."""
        if not self._away:
            self._away = True
            self._editing = event.app.create_background_task(self._edit())

    def _stop_editing(self) -> None:
        """The end has come: the toolkit would wait for the editor."""
        if self._editing is not None:
            self._editing.cancel()

    async def _edit(self) -> None:
        buffer = self._entry.buffer
        problem = ""
        try:
            async with in_terminal():
                try:
                    text = await editor.edited(buffer.text, self._environ)
                    buffer.set_document(Document(text, len(text)), bypass_readonly=True)
                except editor.NoEditor as error:
                    problem = str(error)
        finally:
            self._away = False
            self._back_from_editor()
        if problem:
            self.show(Failure(problem))

    def _back_from_editor(self) -> None:
        """The terminal is this view's again."""
        self._app.invalidate()

    def _paste(self, event: KeyPressEvent) -> None:
        """Little is put where the cursor is; much is asked about. Never does a pasted line break send anything."""
        paste = pasted(event.data)
        if self._questions or not paste.asks:
            self._entry.insert(paste.text)
            return
        whole = self._entry.with_inserted(paste.text)
        document = self._entry.buffer.document
        alone, first = not document.text.strip(), not document.text_before_cursor.strip()
        answer = self._questions.ask(paste.question, secret=False)
        answer.addCallback(self._pasted, paste, whole, alone, first)

    def _pasted(self, answer: str | None, paste: Paste, whole: Document, alone: bool, first: bool) -> None:
        """What was said about a paste.

        Args:
            whole: the line with it.
            alone: whether it is all there is.
            first: whether nothing stands before it: then it is no command, whatever it begins with.
        """
        choice = paste.answered(answer)
        if choice == "edit":
            self._after_question(whole)
        elif choice == "nothing":
            self.show(Answer(["Nothing was sent."]))
        else:
            fenced = f"```\n{paste.text}\n```" if choice == "code" else paste.line
            line = pasted(whole.text).line if first else whole.text
            if self._submit(fenced if alone else line):
                self._after_question(Document())

    def _after_question(self, document: Document) -> None:
        """What the line is to be, once the question has given back what was typed."""
        asyncio.get_running_loop().call_soon(self._retype, document)

    def _retype(self, document: Document) -> None:
        """Another text in the line being typed; the toolkit draws it only when it is told to."""
        self._entry.buffer.reset(document)
        self._app.invalidate()

    # Conversations.

    def _go(self, where: str) -> None:
        if self._client is not None and where:
            self._client.go(where)

    def act_numbered(self, event: KeyPressEvent) -> None:
        """To the conversation of that number."""
        place = (int(event.key_sequence[-1].key) - 1) % 10
        if place < len(self._status.rooms):
            self._go(self._status.rooms[place].where)

    def act_next(self, event: KeyPressEvent) -> None:
        """To the next one; while completions are shown, to the next of those."""
        if self._entry.completing:
            self._entry.buffer.complete_next()
        elif self._client is not None:
            self._go(self._client.next_room(1))

    def act_previous(self, event: KeyPressEvent) -> None:
        """To the one before."""
        if self._entry.completing:
            self._entry.buffer.complete_previous()
        elif self._client is not None:
            self._go(self._client.next_room(-1))

    def act_active(self, event: KeyPressEvent) -> None:
        """To the one that most wants to be read."""
        if self._client is not None:
            self._go(self._client.next_active())

    def act_visited(self, event: KeyPressEvent) -> None:
        """Back and forward."""
        if self._client is not None:
            self._go(self._client.visited(-1 if back(event) else 1))

    def act_last(self, event: KeyPressEvent) -> None:
        """To the one before this one."""
        self._go(self._last)

    def act_switch(self, event: KeyPressEvent) -> None:
        """Asks where to go; nothing is opened, and so nothing is read, before one is chosen."""
        if self._switcher is not None:
            self._switcher.step(1)
        elif not self._questions:
            answer: Deferred[str | None] = self._questions.ask("Go to:", secret=False)
            self._switcher = Switcher(self._status.rooms)
            answer.addCallback(lambda where: self._go(where or ""))

    # Screen and end.

    def act_redraw(self, event: KeyPressEvent) -> None:
        """Draws everything anew."""
        event.app.renderer.clear()

    def act_suspend(self, event: KeyPressEvent) -> None:
        """Back to the shell, until fg."""
        event.app.suspend_to_background()

    def act_interrupt(self, event: KeyPressEvent) -> None:
        """Declines a question, clears the line; again leaves; and again leaves at once."""
        if self._questions:
            self._questions.answer(None)
        elif self._going:
            self._hang_up()
        elif self._warned:
            self._leave()
        else:
            self._entry.buffer.reset()
            self._warned = True
            self._app.invalidate()

    def act_end_of_input(self, event: KeyPressEvent) -> None:
        """On an empty line: declines a question, or leaves."""
        if self._questions:
            self._questions.answer(None)
        else:
            self._leave()


def back(event: KeyPressEvent) -> bool:
    """Whether the key is the one of a pair that goes back."""
    key: Any = event.key_sequence[-1].key
    return str(getattr(key, "value", key)) in _BACK
