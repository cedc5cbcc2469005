"""What to do about a paste: asked before it is sent where it has several lines or is long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from securechat.wire.limits import MAX_TEXT

LARGE: Final = 4096  # bytes of UTF-8; one line of so many was hardly meant to be typed
CHOICES: Final = ("message", "code", "edit", "nothing")  # what may be answered, also by its first letter


@dataclass(frozen=True, slots=True)
class Paste:
    """What was pasted.

    Attributes:
        text: with ``\\n`` for every line break, none at its end, and without control characters but tabs.
        lines: how many it has; 0 where nothing is left.
        size: bytes of UTF-8.
    """

    text: str
    lines: int
    size: int

    @property
    def asks(self) -> bool:
        """Whether its user is asked first; anything else goes into the line that is being typed."""
        return self.lines > 1 or self.size > LARGE

    @property
    def fits(self) -> bool:
        """Whether one message holds it. It never becomes several, which could be torn apart or reordered."""
        return self.size <= MAX_TEXT

    @property
    def question(self) -> str:
        """What to ask; what comes of the answer says `answered`."""
        lines = f"{self.lines} line{'' if self.lines == 1 else 's'}"
        if self.fits:
            return f"You pasted {lines}, {_amount(self.size)}. Send as one [m]essage, as [c]ode, [e]dit, or [N]othing? "
        return (
            f"You pasted {lines}, {_amount(self.size)}; one message holds {_amount(MAX_TEXT)}."
            " [e]dit it, or [N]othing? "
        )

    def answered(self, typed: str | None) -> str:
        """One of `CHOICES` for an answer; whatever is not clear is "nothing": nothing is sent by mistake."""
        word = (typed or "").strip().lower()
        chosen = next((choice for choice in CHOICES if word and choice.startswith(word)), "nothing")
        return chosen if self.fits or chosen == "edit" else "nothing"

    @property
    def line(self) -> str:
        """It as a line that `commands.parse` takes for text, whatever it begins with: a paste is never a command."""
        if self.text.startswith("/"):
            return f"/{self.text}"
        return f"/send {self.text}" if self.text.lstrip().startswith("/") else self.text


def pasted(text: str) -> Paste:
    """What a terminal gave as one paste."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c in "\n\t" or not (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0)).rstrip("\n")
    return Paste(text, text.count("\n") + 1 if text else 0, len(text.encode("utf-8", "replace")))


def _amount(size: int) -> str:
    return f"{size} bytes" if size < 1024 else f"{size / 1024:.1f} KiB".replace(".0 KiB", " KiB")
