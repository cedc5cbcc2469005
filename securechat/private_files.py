"""Files that only their owner may read, replaced whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from securechat.errors import StartupError


def private_directory(path: Path, above: int = 0) -> None:
    """Makes a directory, and so many of those above it, for their owner alone; one that is there becomes so.

    Raises:
        StartupError: it belongs to somebody else, or is shared by design, as /tmp is.
        OSError: it cannot be made.
    """
    if above:
        private_directory(path.parent, above - 1)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
        raise StartupError(f"{path} is not yours alone. Name a directory of your own: --data-dir DIR.")
    if status.st_mode & 0o077:
        path.chmod(0o700)


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file (mode 0600): whole or not at all, and on disk when this returns. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # the name, too, must survive a power cut
    finally:
        os.close(directory)
