"""The tables of docs/client.md, made from the tables of the program.

    python -m tests.tables

writes them into the document again: what follows a line ``<!-- table:NAME -->`` up to the next heading or the end.
`tests.unit.test_docs_client` compares them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from securechat.client.commands import COMMANDS
from securechat.client.preferences import PREFERENCES
from securechat.client.views import keymap

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "client.md"
_TABLE: Final = re.compile(r"(<!-- table:(\w+) -->\n\n?)(.*?)(?=\n## |\Z)", re.DOTALL)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def settings() -> Iterator[str]:
    """What its user may choose."""
    yield "| name | at first | may be | what it does |"
    yield "|---|---|---|---|"
    for row in PREFERENCES:
        choices = ", ".join(row.choices) if row.choices else "a text"
        if row.number is not None:
            choices = f"{row.number[0]} to {row.number[1]}"
        first = f"`{row.default}`" if row.default else ""
        yield f"| `{row.name}` | {first} | {_cell(choices)} | {_cell(row.about)} |"


def commands() -> Iterator[str]:
    """Every slash command."""
    for group in dict.fromkeys(command.group for command in COMMANDS):
        yield from ("", f"**{group}**", "", "| command | what it does |", "|---|---|")
        for command in COMMANDS:
            if command.group == group:
                also = f" (also {', '.join(f'`/{alias}`' for alias in command.aliases)})" if command.aliases else ""
                usage = _cell(f"/{command.name} {command.usage}".rstrip())
                yield f"| `{usage}`{also} | {_cell(command.summary)} |"


def keys() -> Iterator[str]:
    """Every key of the terminal views."""
    yield "| key | does |"
    yield "|---|---|"
    for group in keymap.GROUPS:
        yield f"| **{group}** | |"
        for key in keymap.KEYS:
            if key.group == group:
                yield f"| {key.shown} | {key.about}{'' if key.views == keymap.BOTH else ' (full view)'} |"


TABLES: Final[dict[str, Callable[[], Iterator[str]]]] = {"settings": settings, "keys": keys, "commands": commands}


def renewed(document: str) -> str:
    """A document with its tables as they should be."""

    def table(found: re.Match[str]) -> str:
        lines = "\n".join(TABLES[found[2]]()).strip("\n")
        return f"<!-- table:{found[2]} -->\n\n{lines}\n"

    return _TABLE.sub(table, document)


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text("utf-8")), "utf-8")
