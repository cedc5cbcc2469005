"""`shim.c` built and given to a process: what the process does to its files is noted, or fails on demand."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CREATE: Final = "c"
UNLINK: Final = "u"
RENAME: Final = "r"
WRITE: Final = "w"
TRUNCATE: Final = "t"
SYNC: Final = "s"
SAID: Final = "a"  # by the process itself, with `say`

SYNCS: Final = "sync"  # fsync and fdatasync
WRITES: Final = "write"  # pwrite and ftruncate

_HEADER: Final = struct.Struct("<cBHIQ")


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the shim: a change that was made, or a sync that ended.

    Attributes:
        kind: one of those above.
        failed: a sync answered an error, and nothing was synced.
        name: of the file, within the directory; empty: the directory itself.
        offset: of a write; the size, of a truncation.
        data: of a write; the new name, of a renamed file.
    """

    kind: str
    failed: bool
    name: str
    offset: int
    data: bytes


@functools.lru_cache
def library() -> Path | None:
    """The shim, built at the first call; None where there is no C compiler, or it cannot build it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    directory = tempfile.TemporaryDirectory(prefix="securechat-shim-")
    _kept.append(directory)
    built = Path(directory.name) / "shim.so"
    source = Path(__file__).with_suffix(".c")
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(source), "-ldl", "-lpthread"],
        capture_output=True,
        check=False,
    )
    return built if done.returncode == 0 else None


_kept: list[tempfile.TemporaryDirectory[str]] = []  # until this process ends

MISSING: Final = "needs a C compiler for Linux, to build tests/shim.c"


def environment(directory: Path, *, log: Path | None = None, faults: Path | None = None) -> Mapping[str, str]:
    """What a process needs in its environment to be watched at the files of `directory`."""
    built = library()
    assert built is not None, MISSING
    found = {"LD_PRELOAD": str(built), "SHIM_DIRECTORY": os.path.realpath(directory)}
    if log is not None:
        found["SHIM_LOG"] = str(log)
    if faults is not None:
        faults.mkdir(exist_ok=True)
        found["SHIM_FAULTS"] = str(faults)
    return found


@contextmanager
def failing(faults: Path, *kinds: str) -> Iterator[None]:
    """Meanwhile calls of these kinds fail in the processes that were given the directory `faults`."""
    for kind in kinds:
        (faults / kind).touch()
    try:
        yield
    finally:
        for kind in kinds:
            (faults / kind).unlink()


def say(log: int, text: str) -> None:
    """Puts a word of the watched process itself into its log, which it opened for appending."""
    name = text.encode()
    os.write(log, _HEADER.pack(SAID.encode(), 0, len(name), 0, 0) + name)


def read(log: Path) -> Iterator[Event]:
    """The events of a log, in their order."""
    with log.open("rb") as file:
        while header := file.read(_HEADER.size):
            kind, failed, name, size, offset = _HEADER.unpack(header)
            yield Event(kind.decode(), bool(failed), file.read(name).decode(), offset, file.read(size))
