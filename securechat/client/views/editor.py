"""A message written in the person's own editor: a private file that is gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from securechat.client.display import clean

MAX_FILE: Final = 256 * 1024  # bytes that are read back: more than a message may have, so that its limit is named


class NoEditor(Exception):
    """It could not be used; the text says what to do."""


def command(environ: Mapping[str, str]) -> list[str]:
    """The words of $VISUAL, else $EDITOR, else an editor that is there. Raises NoEditor."""
    named = environ.get("VISUAL") or environ.get("EDITOR")
    try:
        words = shlex.split(named) if named else [found for found in ("nano", "vi") if shutil.which(found)][:1]
    except ValueError:
        words = []
    if not words:
        raise NoEditor("No editor was found. Set VISUAL or EDITOR to the one you use, and start again.")
    return words


async def edited(text: str, environ: Mapping[str, str]) -> str:
    """What the person made of a text, cleaned.

    The file is readable by its owner alone, in a directory of its own, and removed however this ends; where the client
    has to go, the editor is ended too.

    Raises:
        NoEditor: it could not be started, or failed: the text is as it was.
    """
    words = command(environ)
    try:
        directory = tempfile.mkdtemp(prefix="securechat-")
    except OSError as error:
        raise NoEditor(f"No file can be made for the editor: {error.strerror}.") from None
    try:
        path = Path(directory, "message.txt")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        await _run([*words, str(path)])
        with path.open("rb") as result:
            data = result.read(MAX_FILE)
    except OSError as error:
        raise NoEditor(f"{words[0]} cannot be used: {error.strerror}. Set VISUAL or EDITOR to another.") from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return clean(data.decode("utf-8", "replace")).rstrip("\n")


async def _run(words: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*words)
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        raise
    if status:
        raise NoEditor(f"{words[0]} ended with status {status}. The message is as it was.")
