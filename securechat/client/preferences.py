"""What its user may choose about the client: one table, and the file that keeps it.

The file is TOML, one ``name = "value"`` a line, and an ``[alias]`` table. It holds no secret: people share such files.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securechat.errors import Exit, SecureChatError
from securechat.private_files import private_directory, write_private

_DIGITS: Final = 9  # of a number: Python reads none of thousands


class BadPreference(SecureChatError):
    """No such preference, or no such value; the text says what there is."""

    exit = Exit.FIXABLE


@dataclass(frozen=True, slots=True)
class Preference:
    """One thing to choose.

    Attributes:
        name: as it is typed and written.
        default: what counts where nothing was chosen.
        choices: what it may be; () for any text.
        about: what it does, in one line.
        several: whether it may be several of the choices, with commas between.
        number: the least and the most, where it is a whole number.
    """

    name: str
    default: str
    choices: tuple[str, ...]
    about: str
    several: bool = False
    number: tuple[int, int] | None = None

    def checked(self, value: str) -> str:
        """A value as it is kept. Raises BadPreference."""
        value = value.strip()
        if self.number is not None:
            least, most = self.number
            if not value.isdecimal() or len(value) > _DIGITS or not least <= int(value) <= most:
                raise BadPreference(f"{self.name} is a whole number from {least} to {most}.")
            return str(int(value))
        if any(ord(c) < 32 for c in value) or _UNWRITABLE.search(value):
            raise BadPreference(f"{self.name} cannot hold control characters.")
        if not self.choices:
            return value
        words = [word.strip().lower() for word in value.split(",")] if self.several else [value.lower()]
        wrong = [word for word in words if word not in self.choices]
        if wrong:
            more = " (several with commas between)" if self.several else ""
            raise BadPreference(f"{self.name} cannot be {wrong[0] or 'empty'}. Choose {', '.join(self.choices)}{more}.")
        return ",".join(dict.fromkeys(words))


_SWITCH: Final = ("on", "off")

PREFERENCES: Final[tuple[Preference, ...]] = (
    Preference("ui", "auto", ("auto", "plain", "inline", "full"), "which view: at the next start"),
    Preference("color", "auto", ("auto", "always", "never"), "colours; NO_COLOR turns them off too"),
    Preference("timestamps", "on", _SWITCH, "the time beside each message, where there is room for it"),
    Preference("numbers", "off", _SWITCH, "the number of each message, for /reply #12"),
    Preference("fold", "on", _SWITCH, "many comings and goings in one line"),
    Preference("members", "on", _SWITCH, "the list of members, in the full view"),
    Preference(
        "notify", "bell", ("bell", "osc9", "osc777", "osc99", "command", "none"),
        "how a mention or private message is announced", several=True,
    ),
    Preference("notify-text", "off", _SWITCH, "whether that shows what was written"),
    Preference("notify-command", "", (), "the program for notify=command; it gets SECURECHAT_TITLE and others"),
    Preference("open-command", "", (), "what /open runs; empty: the system's own"),
    Preference("typing", "off", _SWITCH, "tell others that you are typing, and see who is"),
    Preference("presence", "off", _SWITCH, "tell others that you are here, and see who is"),
    Preference("cache", "64", (), "MiB of messages kept on this machine, sealed", number=(0, 100_000)),
)  # fmt: skip

_BY_NAME: Final = {preference.name: preference for preference in PREFERENCES}


def preference(name: str) -> Preference:
    """A row of the table. Raises BadPreference."""
    found = _BY_NAME.get(name.lower().replace("_", "-"))
    if found is None:
        raise BadPreference(f"There is no setting {name}. /set lists them all.")
    return found


class Preferences:
    """What was chosen.

    Args:
        path: the file; None: nothing is written.
        over: what counts above the file: flags and environment.
    """

    def __init__(self, path: Path | None = None, over: Mapping[str, str] | None = None) -> None:
        self._path = None if path is None else path.resolve()  # where it is a link, the link stays
        self._over = {preference(name).name: preference(name).checked(value) for name, value in (over or {}).items()}
        self._chosen: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.problems: list[str] = []
        self._read()

    def __getitem__(self, name: str) -> str:
        return self._over.get(name) or self._chosen.get(name, _BY_NAME[name].default)

    def on(self, name: str) -> bool:
        """Whether a switch is on."""
        return self[name] == "on"

    def choose(self, name: str, value: str) -> str:
        """Chooses a value, here and in the file; answers it as it is kept.

        Raises:
            BadPreference: there is no such one; or it counts until the end of this run, as the file is to be mended.
            OSError: it counts until the end of this run, and is not kept.
        """
        row = preference(name)
        value = row.checked(value)
        self._over.pop(row.name, None)
        self._chosen[row.name] = value
        self._write("", row.name, value)
        return value

    def alias(self, name: str, text: str) -> None:
        """Makes ``/name`` stand for a text; "" ends that. Raises BadPreference, OSError as `choose` does."""
        if _UNWRITABLE.search(text):
            raise BadPreference("An alias cannot hold characters that are no text.")
        if text:
            self.aliases[name] = text
        else:
            self.aliases.pop(name, None)
        self._write("alias", name, text or None)

    def _read(self) -> None:
        try:
            found = tomllib.loads(self._text())
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(
                f"{self._path} is not read: {error}. What it says does not count until that is mended."
            )
            return
        aliases = found.pop("alias", {})
        if isinstance(aliases, dict):
            self.aliases = {str(name).lower(): str(text) for name, text in aliases.items()}
        for name, value in found.items():
            try:
                text = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else str(value)
                row = preference(name)
                self._chosen[row.name] = row.checked(text or "")
            except (BadPreference, ValueError) as error:  # a hexadecimal number may be longer than a decimal one
                self.problems.append(f"{self._path}: {error}")

    def _text(self) -> str:
        """What the file says; nothing where there is none. Raises OSError, ValueError."""
        try:
            return "" if self._path is None else self._path.read_text("utf-8")
        except FileNotFoundError:
            return ""

    def _write(self, table: str, name: str, value: str | None) -> None:
        """Replaces one line of a table of the file, adds it, or where there is no value removes it; all else stays."""
        if self._path is None:
            return
        try:
            lines = self._text().splitlines()
            before = tomllib.loads("\n".join(lines))
            after = _with_line(lines, table, name, value)
            if _without(tomllib.loads("\n".join(after)), table, name) != _without(before, table, name):
                raise ValueError("its lines are more than this client understands")
        except ValueError as error:
            raise BadPreference(
                f"That counts until you leave, but is not written: {self._path} has to be mended by hand ({error})."
            ) from None
        private_directory(self._path.parent)
        write_private(self._path, ("\n".join(after) + "\n").encode("utf-8"))


def _with_line(lines: Sequence[str], table: str, name: str, value: str | None) -> list[str]:
    """The lines of a file with another value of one name in one table; "" is what stands above all tables."""
    made = list(lines)
    heads = [i for i, text in enumerate(made) if text.lstrip().startswith("[")] + [len(made)]
    start, end = 0, heads[0]
    if table:
        head = re.compile(rf"\s*\[\s*{table}\s*\]")
        at = next((place for place, i in enumerate(heads[:-1]) if head.match(made[i])), None)
        if at is None:
            if value is None:
                return made
            made.append(f"[{table}]")
            start = end = len(made)
        else:
            start, end = heads[at] + 1, heads[at + 1]
    word = re.escape(name).replace(r"\-", "-" if table else "[-_]")
    named = re.compile(rf"\s*[\"']?{word}[\"']?\s*=", re.IGNORECASE)
    there = [i for i in range(start, end) if named.match(made[i])]
    line = [] if value is None else [f"{_quoted(name) if table else name} = {_quoted(value)}"]
    if there:
        made[there[0] : there[0] + 1] = line
    else:
        made[end:end] = line
    return made


def _without(found: dict[str, Any], table: str, name: str) -> dict[str, Any]:
    """All that a file says but for one name."""
    within = found.get(table) if table else found
    same = {name.lower(), name.replace("-", "_").lower()}
    rest = (
        {key: each for key, each in within.items() if key.lower() not in same} if isinstance(within, dict) else within
    )
    if not table:
        assert isinstance(rest, dict)
        return rest
    return {key: each for key, each in found.items() if key != table} | ({table: rest} if rest else {})


_UNWRITABLE: Final = re.compile(r"[\x00\x7f\ud800-\udfff]")


def _quoted(text: str) -> str:
    """A TOML string."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in text) + '"'
