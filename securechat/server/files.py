"""The server's files: made at the first start, read at each, and refused when others could read them."""

from __future__ import annotations

import datetime
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.crypto.certificate import self_signed
from securechat.crypto.primitives import b64, ed25519_from_seed, ed25519_seed, new_ed25519, unb64
from securechat.errors import InvalidKey, StartupError
from securechat.private_files import write_private
from securechat.server.session import ServerIdentity
from securechat.server.settings import DataDir

_CREDENTIAL: Final = "securechat.key"


def prepare(data_dir: DataDir) -> int:
    """Makes the data directory (0700) and takes its lock.

    Returns:
        The descriptor that holds the lock; close it to let go.

    Raises:
        StartupError: it cannot be made or written, others can read it, or another daemon uses it.
    """
    path = data_dir.path
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            raise StartupError(f"Others can look into {path}. Close it: chmod 700 {path}")
        lock = os.open(data_dir.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"The data directory {path} cannot be used: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StartupError(
            f"Another SecureChat daemon uses {path}. Stop that one, or give this one a --data-dir of its own."
        ) from None
    return lock


def _read_private(path: Path, what: str) -> bytes:
    """A secret file's contents. Raises StartupError when others can read it, or it cannot be read."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            raise StartupError(f"Others can read {what} in {path}. Close it: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"{what.capitalize()} in {path} cannot be read: {error.strerror}.") from None


def server_identity(data_dir: DataDir) -> ServerIdentity:
    """The server's own key; made where there is no database yet.

    Raises:
        StartupError: it is missing beside a database, damaged, or readable by others.
    """
    path = data_dir.identity
    if not path.exists():
        _refuse_beside_database(data_dir, path, "the server's identity")
        write_private(path, b64(ed25519_seed(new_ed25519())).encode("ascii") + b"\n")
    return identity_of(_read_private(path, "the server's identity"), path)


def identity_of(content: bytes, path: Path) -> ServerIdentity:
    """The key that a file of this content has. Raises StartupError: it is damaged."""
    try:
        return ServerIdentity(ed25519_from_seed(unb64(content.decode().strip())))
    except (InvalidKey, UnicodeDecodeError):
        raise StartupError(f"The server's identity in {path} is damaged. Put it back from a backup.") from None


def _refuse_beside_database(data_dir: DataDir, path: Path, what: str) -> None:
    if data_dir.database.exists():
        raise StartupError(
            f"There is a database in {data_dir.path}, but {what} is missing ({path}). Put it back from where you keep"
            " its copy. A new one would not do: what was made with the old one needs the old one."
        )


def at_rest_keys(data_dir: DataDir, key_file: str, environ: Mapping[str, str]) -> KeyEncryptionKeys:
    """The at-rest key: a systemd credential, else `key_file`, else in the data directory, made where all is new.

    Raises:
        StartupError: it is missing beside a database, damaged, or readable by others.
    """
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / _CREDENTIAL).exists():
        # The kernel guards a credential's directory; its mode bits are systemd's business.
        return KeyEncryptionKeys((Path(credentials) / _CREDENTIAL).read_text(encoding="ascii", errors="replace"))
    path = Path(key_file) if key_file else data_dir.at_rest_key
    if not path.exists():
        _refuse_beside_database(data_dir, path, "the at-rest key")
        try:
            write_private(path, new_key_file().encode("ascii"))
        except OSError as error:
            raise StartupError(f"The at-rest key cannot be written to {path}: {error.strerror}.") from None
    return KeyEncryptionKeys(_read_private(path, "the at-rest key").decode("ascii", errors="replace"))


def certificate(data_dir: DataDir, names: list[str], now: Callable[[], float]) -> None:
    """Makes the self-signed certificate, where there is none."""
    if data_dir.tls_key.exists() and data_dir.tls_chain.exists():
        return
    when = datetime.datetime.fromtimestamp(now(), datetime.UTC)
    key, chain = self_signed(list(dict.fromkeys([*names, socket.gethostname(), "localhost", "127.0.0.1", "::1"])), when)
    write_private(data_dir.tls_key, key)
    write_private(data_dir.tls_chain, chain)
