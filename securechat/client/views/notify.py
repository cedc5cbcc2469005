"""Drawing attention: the terminal's bell, its notifications, and a command of the user's own."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from securechat.client.display import clean
from securechat.client.launch import Spawn
from securechat.client.view import Alert

KINDS: Final = ("bell", "osc9", "osc777", "osc99", "command", "none")
MAX_TITLE: Final = 100  # characters of a notification's title, and of any name
MAX_TEXT: Final = 200  # characters of what was said
BELL_SECONDS: Final = 1.0  # between two of anything the terminal does
COMMAND_SECONDS: Final = 2.0  # between two starts of the command

_BEL: Final = "\x07"
_ST: Final = "\x1b\\"


class Announcer:
    """A `Notifier` as its user wants it at the moment; what is wrong with their wish is said once.

    Args:
        wish: a setting by its name (`preferences`).
        say: for what does not work.
        write, spawn, environ, clock: as `Notifier` has them.
    """

    def __init__(
        self,
        wish: Callable[[str], str],
        write: Callable[[bytes], object],
        spawn: Spawn,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float],
        say: Callable[[str], object],
    ) -> None:
        self._wish = wish
        self._say = say
        self._new = partial(Notifier, write=write, spawn=spawn, environ=environ, clock=clock, failed=say)
        self._made_for: tuple[str, str] | None = None
        self._notifier: Notifier | None = None

    def __call__(self, alert: Alert) -> None:
        """Draws attention to something."""
        kinds, command = wanted = self._wish("notify"), self._wish("notify-command")
        if wanted != self._made_for:
            self._made_for, self._notifier = wanted, None
            try:
                self._notifier = self._new(tuple(kinds.split(",")), command=command)
            except ValueError as error:
                self._say(f"{error} /set notify and /set notify-command say how you are told.")
        if self._notifier is not None:
            self._notifier.alert(alert)


class Notifier:
    """What draws attention.

    Alerts that come too fast are left out, and the next one says how many they were.

    Args:
        kinds: any of `KINDS`, together.
        write: to the terminal.
        spawn: starts the command.
        environ: with TMUX set, the terminal is inside tmux.
        clock: seconds, of any origin.
        failed: told, once, why the command does not work; it is not tried again.
        command: its words, as a shell would split them; no shell sees it.

    Raises:
        ValueError: a kind is unknown, or the command cannot be split or is missing.
    """

    def __init__(
        self,
        kinds: tuple[str, ...],
        write: Callable[[bytes], object],
        spawn: Spawn,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float],
        failed: Callable[[str], object],
        command: str = "",
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"{unknown[0]} is no way to notify. There are: {', '.join(KINDS)}.")
        self._forms = [form for kind, form in _FORMS.items() if kind in kinds]
        self._bell = "bell" in kinds
        self._words = _split(command) if "command" in kinds else []
        self._write = write
        self._spawn = spawn
        self._tmux = bool(environ.get("TMUX"))
        self._clock = clock
        self._failed = failed
        self._next_write = self._next_run = float("-inf")
        self._silent = self._left_out = (
            0  # alerts since the last one that the terminal showed, and the command heard of
        )
        self._running = False

    def alert(self, alert: Alert) -> None:
        """Draws attention to something, in every way that was chosen."""
        now = self._clock()
        if self._bell or self._forms:
            self._show(alert, now)
        if self._words:
            self._run(alert, now)

    def _show(self, alert: Alert, now: float) -> None:
        if now < self._next_write:
            self._silent += 1
            return
        self._next_write = now + BELL_SECONDS
        title = _field(alert.title, MAX_TITLE) + (f" (+{self._silent} more)" if self._silent else "")
        self._silent = 0
        told = [form(title, _field(alert.text, MAX_TEXT)) for form in self._forms]
        sent = "".join(_through_tmux(one) if self._tmux else one for one in told)
        self._write((sent + (_BEL if self._bell else "")).encode("utf-8"))

    def _run(self, alert: Alert, now: float) -> None:
        if self._running or now < self._next_run:
            self._left_out += 1
            return
        self._next_run = now + COMMAND_SECONDS
        more = {
            "SECURECHAT_ROOM": _shown(alert.where, MAX_TITLE),
            "SECURECHAT_SENDER": _shown(alert.sender, MAX_TITLE),
            "SECURECHAT_TITLE": _shown(alert.title, MAX_TITLE),
            "SECURECHAT_MORE": str(self._left_out),
        }
        if alert.text:
            more["SECURECHAT_TEXT"] = _shown(alert.text, MAX_TEXT)
        self._left_out = 0
        self._running = True
        self._spawn(self._words, more, self._ended)

    def _ended(self, problem: str) -> None:
        self._running = False
        if problem and self._words:
            self._words = []
            self._failed(f"Notifications by your command stopped: {problem}. Mend it, and set it anew.")


def _split(command: str) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        raise ValueError("The notify command has a quote that is not closed. Close it.") from None
    if not words:
        raise ValueError("There is no command to notify with. Name one, or choose another way.")
    return words


def _shown(text: str, most: int) -> str:
    """A remote text in one short line of which no terminal obeys anything."""
    line = " ".join(clean(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _field(text: str, most: int) -> str:
    """The same as a field of a notification: semicolons part those."""
    return _shown(text, most).replace(";", ",")


def _osc9(title: str, text: str) -> str:
    return f"\x1b]9;{title}{': ' if text else ''}{text}{_BEL}"


def _osc777(title: str, text: str) -> str:
    return f"\x1b]777;notify;{title};{text}{_BEL}"


def _osc99(title: str, text: str) -> str:
    if not text:
        return f"\x1b]99;;{title}{_ST}"
    return f"\x1b]99;i=1:d=0;{title}{_ST}\x1b]99;i=1:p=body;{text}{_ST}"


_FORMS: Final[Mapping[str, Callable[[str, str], str]]] = {"osc9": _osc9, "osc777": _osc777, "osc99": _osc99}


def _through_tmux(sequence: str) -> str:
    """As tmux passes it on to the terminal outside, where its user allows that (``allow-passthrough``)."""
    escaped = sequence.replace("\x1b", "\x1b\x1b")
    return f"\x1bPtmux;{escaped}{_ST}"
