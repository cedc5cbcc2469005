"""What its user may choose about the client: one table, and the file that keeps it.

The file is TOML, one ``name = "value"`` a line, and an ``[alias]`` table. It holds no secret: people share such files.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securechat.errors import Exit, SecureChatError
from securechat.private_files import private_directory, write_private


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
            if not value.isdecimal() or not least <= int(value) <= most:
                raise BadPreference(f"{self.name} is a whole number from {least} to {most}.")
            return str(int(value))
        if any(ord(c) < 32 or ord(c) == 127 for c in value):
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
            BadPreference.
            OSError: it counts until the end of this run, and is not kept.
        """
        row = preference(name)
        value = row.checked(value)
        self._over.pop(row.name, None)
        self._chosen[row.name] = value
        self._write(row.name, f"{row.name} = {_quoted(value)}")
        return value

    def alias(self, name: str, text: str) -> None:
        """Makes ``/name`` stand for a text; "" ends that. Raises OSError."""
        if text:
            self.aliases[name] = text
        else:
            self.aliases.pop(name, None)
        self._write_aliases()

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        try:
            found = tomllib.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            self.problems.append(
                f"{self._path} is not read: {error}. What it says does not count until that is mended."
            )
            return
        aliases = found.pop("alias", {})
        if isinstance(aliases, dict):
            self.aliases = {str(name): str(text) for name, text in aliases.items()}
        for name, value in found.items():
            text = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else str(value)
            try:
                row = preference(name)
                self._chosen[row.name] = row.checked(text or "")
            except BadPreference as error:
                self.problems.append(f"{self._path}: {error}")

    def _write(self, name: str, line: str) -> None:
        """Replaces one line of the file, or adds it above the first table; all else in it stays."""
        if self._path is None:
            return
        lines = self._lines()
        table = next((i for i, text in enumerate(lines) if text.lstrip().startswith("[")), len(lines))
        named = re.compile(rf"\s*[\"']?{re.escape(name).replace('-', '[-_]')}[\"']?\s*=")
        for place in range(table):
            if named.match(lines[place]):
                lines[place] = line
                break
        else:
            lines.insert(table, line)
        self._save(lines)

    def _write_aliases(self) -> None:
        if self._path is None:
            return
        lines = self._lines()
        start = next((i for i, text in enumerate(lines) if text.strip() == "[alias]"), None)
        if start is not None:
            end = next((i for i in range(start + 1, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
            del lines[start:end]
        if self.aliases:
            lines += ["[alias]", *(f"{_quoted(name)} = {_quoted(text)}" for name, text in self.aliases.items())]
        self._save(lines)

    def _lines(self) -> list[str]:
        assert self._path is not None
        return self._path.read_text("utf-8").splitlines() if self._path.exists() else []

    def _save(self, lines: list[str]) -> None:
        assert self._path is not None
        private_directory(self._path.parent)
        write_private(self._path, ("\n".join(lines) + "\n").encode("utf-8"))


def _quoted(text: str) -> str:
    """A TOML string; control characters never come here."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
