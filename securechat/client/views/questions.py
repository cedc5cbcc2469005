"""What a person is asked: one question after the other, and none is left open at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred


@dataclass(eq=False, slots=True)
class Question:
    """One question.

    Attributes:
        text: as the core put it.
        secret: whether the answer must not be seen.
        answer: fires with it, or with None; cancelling it withdraws the question.
    """

    text: str
    secret: bool
    answer: Deferred[str | None]


class Questions:
    """The open questions of a view. The first is the one that is posed.

    Args:
        pose: shows a question, and hides what is typed if it is secret.
        over: the posed question is no longer open: nothing typed from now on belongs to it. Called with the question
            and its answer, before anybody else learns it, and whatever ended it.
    """

    def __init__(self, pose: Callable[[Question], None], over: Callable[[Question, str | None], None]) -> None:
        self._pose = pose
        self._over = over
        self._open: deque[Question] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        """Whether one is posed."""
        return bool(self._open)

    @property
    def first(self) -> Question | None:
        """The one that is posed."""
        return self._open[0] if self._open else None

    def ask(self, text: str, *, secret: bool) -> Deferred[str | None]:
        """Poses a question, after those that are open; None at once after `close`."""
        question = Question(text, secret, Deferred(lambda _: self._settle(question, None)))
        if self._closed:
            question.answer.callback(None)
            return question.answer
        self._open.append(question)
        if len(self._open) == 1:
            self._pose(question)
        return question.answer

    def answer(self, text: str | None) -> None:
        """Answers the posed question; None declines."""
        if self._open:
            self._settle(self._open[0], text)

    def close(self) -> None:
        """Declines all, now and later: nobody is there any more."""
        self._closed = True
        while self._open:
            self._settle(self._open[-1], None)

    def _settle(self, question: Question, answer: str | None) -> None:
        if question not in self._open:
            return
        posed = question is self._open[0]
        self._open.remove(question)
        if posed:
            self._over(question, answer)
            if self._open:
                self._pose(self._open[0])
        if not question.answer.called:
            question.answer.callback(answer)
