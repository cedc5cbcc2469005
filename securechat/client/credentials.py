"""Who logs in without typing: which account, and where its password comes from. Never from the command line.

A password is read from a file, an inherited descriptor, or what systemd hands a service; command line and environment
hold only where it lies, for both can be seen by others.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from securechat.client.profile import ClientDir
from securechat.errors import Exit, SecureChatError
from securechat.link import ConnectLine, join_address
from securechat.wire.names import NAME_RULE, fold_user

FILE_VARIABLE: Final = "SECURECHAT_PASSWORD_FILE"
CREDENTIAL: Final = "securechat.password"  # its name in $CREDENTIALS_DIRECTORY, where systemd puts it
MOST: Final = 4096  # bytes; whoever names a log file by mistake is told so, and nothing of it is sent anywhere


class NoPassword(SecureChatError):
    """A password cannot be had from where it was said to be."""


class WhichAccount(SecureChatError):
    """It was not said who is to log in, and it is not plain."""

    exit = Exit.USAGE


def find_password(file: str | None, descriptor: int | None, environ: Mapping[str, str]) -> str | None:
    """The password from the first place that is named: option, environment, systemd; None where none is.

    Args:
        file: of ``--password-file``.
        descriptor: of ``--password-fd``: its first line, and not a byte more.

    Raises:
        NoPassword: it cannot be read there, others can read it too, or it is no password.
    """
    if file is not None:
        return _read_file(Path(file), "--password-file")
    if descriptor is not None:
        return _checked(_first_line(descriptor), f"descriptor {descriptor}")
    if named := environ.get(FILE_VARIABLE):
        return _read_file(Path(named), FILE_VARIABLE)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(directory) / CREDENTIAL
        if credential.exists():
            return _read_file(credential, "the systemd credential", guarded=True)
    return None


def _read_file(path: Path, what: str, *, guarded: bool = False) -> str:
    """Reads a password file.

    Args:
        guarded: whether somebody else sees to it who may read it, as systemd does in its own directory.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not guarded and mode & 0o077 and not stat.S_ISCHR(mode):
                raise NoPassword(f"{path} can be read by others. Make it yours alone: chmod 600 {path}")
            content = file.read(MOST + 1)
    except OSError as error:
        raise NoPassword(f"{what}: {path} cannot be read: {error.strerror}. Check the name and whose it is.") from None
    return _checked(content, str(path))


def _first_line(descriptor: int) -> bytes:
    """Byte by byte: what follows the line may be for somebody else."""
    line = b""
    try:
        while len(line) <= MOST and (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
            line += byte
    except OSError as error:
        raise NoPassword(
            f"--password-fd: descriptor {descriptor} cannot be read: {error.strerror}. In a shell:"
            f" securechat --password-fd {descriptor} {descriptor}< FILE"
        ) from None
    return line


def _checked(content: bytes, where: str) -> str:
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = "\n"
    if not text or len(line) > MOST or not text.isprintable():
        raise NoPassword(f"{where} does not hold a password: one line of text, and nothing else, is what is wanted.")
    return text


def choose_user(given: str | None, directory: ClientDir, line: ConnectLine) -> str:
    """Who logs in: as given, else the only account that this machine has on the server.

    Raises:
        WhichAccount: with the accounts there are, or what to type where there is none.
    """
    if given is not None:
        user = fold_user(given)
        if user is None:
            raise WhichAccount(f"{given} cannot be the name of a user: {NAME_RULE}.")
        return user
    srv = line.id or directory.known_id(line.host, line.port)
    users = [] if srv is None else directory.users(srv)
    if len(users) == 1:
        return users[0]
    server = join_address(line.host, line.port)
    if users:
        raise WhichAccount(
            f"Several accounts of {server} are on this machine: {', '.join(users)}. Say which: --user NAME"
        )
    raise WhichAccount(
        f"No account of {server} is on this machine. Say which one: --user NAME; or make one: securechat, then"
        " /register NAME"
    )
