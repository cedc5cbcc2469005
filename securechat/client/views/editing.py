"""What the line being typed remembers, hides and completes, for prompt_toolkit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.layout.utils import explode_text_fragments

from securechat.client.commands import masked, safe_for_history
from securechat.client.display import clean
from securechat.client.emoji import label


class History(InMemoryHistory):
    """What was typed, without its passwords; it is gone with the process."""

    def append_string(self, string: str) -> None:
        kept = safe_for_history(string)
        if kept is not None and kept not in self.get_strings()[-1:]:
            super().append_string(kept)


class Mask(Processor):
    """Hides a password that is typed on the line of a command."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        typed = transformation_input.document.text
        hidden = masked(typed)
        if hidden == typed:
            return Transformation(transformation_input.fragments)
        line = hidden.split("\n")[transformation_input.lineno]
        shown = explode_text_fragments(transformation_input.fragments)
        for place, character in enumerate(line[: len(shown)]):
            if character == "*":
                shown[place] = (shown[place][0], "*")
        return Transformation(shown)


class CommandCompleter(Completer):
    """Asks the core; a blank follows what is certain.

    Args:
        complete: `Client.complete`.
    """

    def __init__(self, complete: Callable[[str], tuple[int, Iterable[str]]]) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        count, found = self._complete(document.text_before_cursor)
        candidates = [clean(candidate) for candidate in found]
        end = " " if len(candidates) == 1 and not document.text_after_cursor else ""
        for candidate in candidates:
            yield Completion(candidate + end, start_position=-count, display=label(candidate))
