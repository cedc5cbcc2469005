"""`securechat admin`: one table of commands, asked through the daemon's Unix socket; `restore` alone works offline."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securechat.crypto.passwords import SALT_BYTES, stretch
from securechat.errors import Exit, SecureChatError
from securechat.private_files import write_private
from securechat.server import files
from securechat.server.service import MAX_SOCKET_PATH, default_data_dir
from securechat.server.session import ServerIdentity
from securechat.server.settings import MAX_QUOTA_MB, MAX_RETENTION_DAYS, DataDir
from securechat.storage import copies
from securechat.wire.names import NAME_RULE, fold_room, fold_user

_SECONDS: Final = 10.0  # for an answer of what takes no time
_DAY: Final = 86_400  # seconds
_PASSWORD_WORDS: Final = 4  # groups of a password that is made, 4 base-32 digits each: 80 bits
_DIGITS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike
_BAR: Final = 30  # columns of a progress bar
_DEFAULT: Final = "default"
_QUOTED: Final = 40  # characters of a wrong value that are shown
_ROOM_ID: Final = re.compile("[0-9a-f]{1,64}")  # what stands behind the name that a room gave up


class AdminError(SecureChatError):
    """The daemon cannot be asked, or refuses.

    Attributes:
        exit: what the command ends with.
    """

    def __init__(self, text: str, status: Exit = Exit.FIXABLE) -> None:
        self.exit = status
        super().__init__(text)


# --- the daemon -------------------------------------------------------------------------------------------------------


def ask(
    data_dir: str | None, request: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Asks the running daemon.

    Args:
        tell: takes what is said on the progress; what takes that long may take any time.

    Raises:
        AdminError.
    """
    data = _data(data_dir)
    path = str(data.admin_socket.absolute())
    if (length := len(os.fsencode(path))) > MAX_SOCKET_PATH:
        raise AdminError(
            f"{path} is too long for a socket ({length} bytes of at most {MAX_SOCKET_PATH}), so the daemon there has no"
            " door for you: start it with a shorter --data-dir.",
            Exit.NETWORK,
        )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode("ascii") + b"\n")
            if tell is not None:
                connection.settimeout(None)
            lines = connection.makefile("rb")
            while (answer := json.loads(lines.readline())).get("status") == "progress":
                if tell is not None:
                    tell(answer)
    except (FileNotFoundError, ConnectionRefusedError):
        raise AdminError(
            f"No daemon runs with the data directory {data.path}. Start it (twistd -n securechat), or say which one:"
            " securechat admin --data-dir DIR …",
            Exit.NETWORK,
        ) from None
    except PermissionError:
        raise AdminError(f"The daemon of {data.path} belongs to another user: ask as that user.") from None
    except (OSError, ValueError, AttributeError) as error:
        raise AdminError(f"The daemon of {data.path} does not answer: {error}", Exit.NETWORK) from None
    if answer.get("status") != "ok":
        raise AdminError(str(answer.get("msg", "The daemon refused.")), Exit(answer.get("exit", Exit.FIXABLE)))
    found: dict[str, Any] = answer
    return found


def _data(data_dir: str | None) -> DataDir:
    return DataDir(Path(data_dir) if data_dir else default_data_dir())


class Progress:
    """A line that shows how far a command is, where there is a terminal to show it on."""

    def __init__(self) -> None:
        self._stream = sys.stderr if sys.stderr.isatty() else None
        self._shown = False

    def __call__(self, told: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        what, done, of = told["what"], told["done"], told["of"]
        if of:
            full = _BAR * min(done, of) // of
            text = f"[{'#' * full}{'.' * (_BAR - full)}] {100 * min(done, of) // of:3} %  {what}: {done} of {of}"
        else:
            text = f"{what}: {done}" if done else f"{what} …"
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()
        self._shown = True

    def end(self) -> None:
        """Takes the line away."""
        if self._shown and self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _watched(options: argparse.Namespace, request: Mapping[str, Any]) -> dict[str, Any]:
    progress = Progress()
    try:
        return ask(options.data_dir, request, progress)
    finally:
        progress.end()


# --- what is shown ----------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns, as wide as they must be; those of numbers lean to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    right = [all(row[at][:1].isdigit() for row in rows) for at in range(len(heads))]
    for row in (heads, *rows):
        cells = (
            cell.rjust(width) if lean else cell.ljust(width)
            for cell, width, lean in zip(row, widths, right, strict=True)
        )
        print("  ".join(cells).rstrip())


def _when(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _limit(own: int | None, general: int, unit: str) -> str:
    value = general if own is None else own
    return f"{value} {unit}" if value else "none"


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


# --- commands ---------------------------------------------------------------------------------------------------------


def _user(text: str) -> str:
    folded = fold_user(text)
    if folded is None:
        raise AdminError(f"{text} cannot be the name of a user: {NAME_RULE}.", Exit.USAGE)
    return folded


def _room(text: str) -> str:
    """A room as it is stored; one that gave up its name is called NAME#ID."""
    name, mark, rest = text.partition("#")
    if mark and not name:
        name, mark, rest = text[1:], "", ""
    folded = fold_room(name)
    if folded is None or (mark and not _ROOM_ID.fullmatch(rest)):
        raise AdminError(
            f"{text} cannot be the name of a room: {NAME_RULE}. A room that gave up its name is called as"
            " securechat admin room list shows it.",
            Exit.USAGE,
        )
    return folded + mark + rest


def _invite(options: argparse.Namespace) -> int:
    if not 1 <= options.uses <= 10_000 or not 60 <= options.days * _DAY <= 366 * _DAY:
        raise AdminError("An invitation is for 1 to 10000 people, and holds from a minute to 366 days.", Exit.USAGE)
    folded = fold_room(options.room)
    if folded is None:
        raise AdminError(f"{options.room} cannot be the name of a room: {NAME_RULE}.", Exit.USAGE)
    request = {"cmd": "invite", "room": folded, "uses": options.uses, "expires": int(options.days * _DAY)}
    print(ask(options.data_dir, request)["line"])
    return Exit.OK


def _status(options: argparse.Namespace) -> int:
    figures = ask(options.data_dir, {"cmd": "status"})["figures"]
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:{width}}  {figure}")
    return Exit.OK


def _backup(options: argparse.Namespace) -> int:
    made = _watched(options, {"cmd": "backup", "path": os.path.abspath(options.file)})
    data = _data(options.data_dir)
    print(
        f"{made['path']}: {_size(made['size'])}, {_plural(made['accounts'], 'account')},"
        f" {_plural(made['rooms'], 'room')}, {_plural(made['messages'], 'message')}. It was opened, and every sealed"
        f" row opens ({made['sealed']}); securechat admin check looks deeper."
    )
    print("No key is in it. Keep copies of these two elsewhere; without them it is worth nothing:")
    print(f"  {data.identity.absolute()}    the server's identity")
    print(f"  {data.at_rest_key.absolute()}    the at-rest key, or wherever --key-file has it")
    return Exit.OK


def _restore(options: argparse.Namespace) -> int:
    data, backup = _data(options.data_dir), Path(options.file)
    fresh = not data.path.exists()
    lock = files.prepare(data)
    progress = Progress()
    done = False
    try:
        there = sorted(path.name for path in data.path.iterdir())
        kept = {data.identity.name, data.at_rest_key.name, data.lock.name}
        if extra := [name for name in there if name not in kept]:
            raise AdminError(
                f"{data.path} is not empty ({', '.join(extra[:5])}): a backup is restored into an empty directory,"
                f" where at most {data.identity.name} and {data.at_rest_key.name} lie. Nothing was changed."
            )
        if not backup.is_file():
            raise AdminError(f"There is no file {backup}.")
        key_file = Path(options.key_file) if options.key_file else data.at_rest_key
        if not key_file.exists():
            raise AdminError(
                f"The at-rest key is not there ({key_file}). Put it there, or say where it is: --key-file FILE."
            )
        kek = files.at_rest_keys(data, str(key_file), {})
        identity, given = _identity(data, options.server_key)
        report = copies.put_back(
            backup,
            data.database,
            kek,
            identity.srv,
            lambda what, done, of: progress({"what": what, "done": done, "of": of}),
            now=time.time_ns() // 1_000_000,
        )
        if given is not None:
            _put_identity(data, given)
        done = True
    finally:
        progress.end()
        if fresh and not done:  # as it was
            with contextlib.suppress(OSError):
                data.lock.unlink()
                data.path.rmdir()
        os.close(lock)
    start = ["twistd", "-n", "securechat", "--data-dir", str(data.path.absolute())]
    start += ["--key-file", str(key_file.absolute())] if options.key_file else []
    print(
        f"Restored into {data.path}: {_plural(report.accounts, 'account')}, {_plural(report.rooms, 'room')},"
        f" {_plural(report.messages, 'message')}. Every sealed row opens; securechat admin check looks deeper."
    )
    print("Clients will be told that the history may be shorter than they remember, and read it again.")
    print(f"Now start the server, with the options it had: {shlex.join(start)}")
    return Exit.OK


def _identity(data: DataDir, server_key: str | None) -> tuple[ServerIdentity, bytes | None]:
    """The server's identity, and what is still to be put in its place. Raises AdminError, StartupError."""
    there = data.identity.exists()
    if not there and not server_key:
        raise AdminError(
            f"The server's identity is missing ({data.identity}): every client would refuse the server. Put it there,"
            " or say where it is: --server-key FILE."
        )
    identity = files.server_identity(data) if there else None
    if not server_key:
        assert identity is not None
        return identity, None
    try:
        content = Path(server_key).read_bytes()
    except OSError as error:
        raise AdminError(f"The server's identity {server_key} cannot be read: {error.strerror}.") from None
    given = files.identity_of(content, Path(server_key))
    if identity is not None and identity.srv != given.srv:
        raise AdminError(f"{data.identity} is another identity than {server_key}. Keep the one that is right.")
    return given, None if there else content


def _put_identity(data: DataDir, content: bytes) -> None:
    """Puts the server's identity beside the database, which is of no use without it. Raises AdminError."""
    try:
        write_private(data.identity, content)
    except OSError as error:
        data.identity.unlink(missing_ok=True)
        data.database.unlink()
        raise AdminError(f"{data.identity} cannot be written: {error.strerror}. Nothing was restored.") from None


def _rotate_keys(options: argparse.Namespace) -> int:
    done = _watched(options, {"cmd": "rotate-keys"})
    print(f"{_plural(done['rows'], 'row')} sealed anew; all data keys lie under the first key of the key file.")
    if done["damaged"]:
        raise AdminError(
            f"{_plural(done['damaged'], 'row')} did not open and stayed as they were, with the key they are under:"
            " securechat admin check names them."
        )
    print("Older lines of the key file are needed for older backups only.")
    return Exit.OK


def _check(options: argparse.Namespace) -> int:
    found = _watched(options, {"cmd": "check"})
    if options.json:
        print(json.dumps(found["faults"], indent=1))
        return Exit.FIXABLE if found["count"] else Exit.OK
    for fault in found["faults"]:
        print(f"{fault['table']} row {fault['row']} ({fault['where'] or 'the file'}): {fault['what']}")
    if found["count"]:
        raise AdminError(
            f"{_plural(found['count'], 'fault')} found. Restore a backup from before: the operations manual says how."
        )
    print("Everything checks out.")
    return Exit.OK


def _user_list(options: argparse.Namespace) -> int:
    answer = ask(options.data_dir, {"cmd": "user-list"})
    if options.json:
        print(json.dumps(answer["users"], indent=1))
        return Exit.OK
    general = answer["limits"].get("quota_user_mb", 0)
    _table(
        ("NAME", "CREATED", "STATE", "ROOMS", "DEVICES", "SESSIONS", "CONNECTED", "STORED", "QUOTA"),
        [
            (
                user["user"], _when(user["created"]), _state(user), str(user["rooms"]), str(user["devices"]),
                str(user["sessions"]), str(user["connected"]), _size(user["stored"]),
                _limit(user["quota"], general, "MB"),
            )
            for user in answer["users"]
        ],
    )  # fmt: skip
    return Exit.OK


def _state(user: Mapping[str, Any]) -> str:
    return "deleted" if user["deleted"] else "suspended" if user["suspended"] else "-"


def _user_suspend(options: argparse.Namespace) -> int:
    answer = ask(options.data_dir, {"cmd": "user-suspend", "user": _user(options.name)})
    print(f"{options.name} is suspended; {_plural(answer['ended'], 'connection')} ended.")
    return Exit.OK


def _user_unsuspend(options: argparse.Namespace) -> int:
    ask(options.data_dir, {"cmd": "user-suspend", "user": _user(options.name), "yes": False})
    print(f"{options.name} may log in again.")
    return Exit.OK


def _user_delete(options: argparse.Namespace) -> int:
    answer = ask(options.data_dir, {"cmd": "user-delete", "user": _user(options.name)})
    print(
        f"{options.name} is deleted; {_plural(answer['ended'], 'connection')} ended. The name stays taken, and what"
        " others need to verify old messages by stays. Those who run its rooms can /kick it."
    )
    return Exit.OK


def _user_reset_password(options: argparse.Namespace) -> int:
    user = _user(options.name)
    request = {"cmd": "user-reset-password", "user": user}
    password = "-".join("".join(secrets.choice(_DIGITS) for _ in range(4)) for _ in range(_PASSWORD_WORDS))
    salt = secrets.token_bytes(SALT_BYTES)
    srv = ask(options.data_dir, request)["srv"]
    token = stretch(password, salt).auth_token(srv, user)
    print(f"Setting a new password for {user} …", flush=True)  # before: one that cannot be shown must not be set
    ask(options.data_dir, request | {"token": token, "salt": base64.b64encode(salt).decode("ascii")})
    print(f"The password of {user} is now, and is told this once:\n\n    {password}\n")
    print(
        f"{user} was logged out everywhere. Tell them by a way you trust, and that it opens none of their keys:\n"
        "those on their machines, and the backup at the server, lie under the old password still. They /login with a\n"
        "new --data-dir, where the recovery code brings the keys back, if they have one. Without it, /reset-identity\n"
        "starts over with new keys: friends are told that the identity changed, and old messages stay closed. Then\n"
        "/passwd sets a password of their own."
    )
    return Exit.OK


def _user_quota(options: argparse.Namespace) -> int:
    megabytes = _number(options.megabytes, MAX_QUOTA_MB, "MB")
    ask(options.data_dir, {"cmd": "user-quota", "user": _user(options.name), "megabytes": megabytes})
    print(f"{options.name} may have {_stored(megabytes)}.")
    return Exit.OK


def _number(text: str, most: int, unit: str) -> int | None:
    """A value of a limit; None: as the settings say. Raises AdminError."""
    if text == _DEFAULT:
        return None
    if not text.isdecimal() or float(text) > most:  # of however many digits, which int() does not take
        raise AdminError(
            f"{text[:_QUOTED]!r} is neither a number from 0 to {most} ({unit}) nor the word {_DEFAULT}.", Exit.USAGE
        )
    return int(text)


def _stored(megabytes: int | None) -> str:
    if megabytes is None:
        return "as much of messages stored as the settings say"
    return f"{_plural(megabytes, 'megabyte')} of messages stored" if megabytes else "any amount of messages stored"


def _sessions(options: argparse.Namespace) -> int:
    request = {"cmd": "sessions"} | ({"user": _user(options.name)} if options.name else {})
    found = ask(options.data_dir, request)["sessions"]
    if options.json:
        print(json.dumps(found, indent=1))
        return Exit.OK
    _table(
        ("NAME", "DEVICE", "CREATED", "USED", "CONNECTED FROM"),
        [
            (one["user"], one["device"] or "-", _when(one["created"]), _when(one["used"]),
             ", ".join(one["connected"]) or "-")
            for one in found
        ],
    )  # fmt: skip
    return Exit.OK


def _revoke(options: argparse.Namespace) -> int:
    if bool(options.device) == options.all:
        raise AdminError("Say which login: its DEVICE (securechat admin sessions shows them), or --all.", Exit.USAGE)
    user = _user(options.name)
    device = None if options.all else _device(options.data_dir, user, options.device)
    answer = ask(options.data_dir, {"cmd": "revoke", "user": user, "device": device})
    print(f"{_plural(answer['sessions'], 'session')} and {_plural(answer['connections'], 'connection')} ended.")
    return Exit.OK if answer["sessions"] or answer["connections"] else Exit.NOT_THERE


def _device(data_dir: str | None, user: str, start: str) -> str:
    """The one device of an account's logins whose id starts so. Raises AdminError."""
    logins = ask(data_dir, {"cmd": "sessions", "user": user})["sessions"]
    there: list[str] = sorted({one["device"] for one in logins if one["device"]})
    fit = [device for device in there if device.startswith(start.lower())]
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise AdminError(f"Several devices of {user} start with {start}: {', '.join(fit)}.", Exit.USAGE)
    known = f"There are: {', '.join(there)}." if there else "It has no login of a device."
    raise AdminError(f"No login of {user} is of a device {start}. {known}", Exit.NOT_THERE)


def _room_list(options: argparse.Namespace) -> int:
    answer = ask(options.data_dir, {"cmd": "room-list"})
    if options.json:
        print(json.dumps(answer["rooms"], indent=1))
        return Exit.OK
    limits = answer["limits"]
    _table(
        ("NAME", "KIND", "MEMBERS", "MESSAGES", "STORED", "EVENTS", "LAST", "KEPT", "QUOTA"),
        [
            (
                room["room"], "open" if room["open"] else "private", str(room["members"]), str(room["messages"]),
                _size(room["stored"]), str(room["events"]), _when(room["last"]),
                _limit(room["retention"], limits.get("retention_days", 0), "days").replace("none", "for ever"),
                _limit(room["quota"], limits.get("quota_room_mb", 0), "MB"),
            )
            for room in answer["rooms"]
        ],
    )  # fmt: skip
    return Exit.OK


def _room_delete(options: argparse.Namespace) -> int:
    answer = _watched(options, {"cmd": "room-delete", "room": _room(options.room)})
    print(f"{options.room} is deleted; {_plural(len(answer['members']), 'member')} will see so. Its name is free.")
    return Exit.OK


def _room_retention(options: argparse.Namespace) -> int:
    days = _retention(options)
    ask(options.data_dir, {"cmd": "room-retention", "room": _room(options.room), "days": days})
    told = "as long as the settings say" if days is None else f"for {_plural(days, 'day')}" if days else "for ever"
    print(f"Messages of {options.room} are kept {told}.")
    return Exit.OK


def _retention(options: argparse.Namespace) -> int | None:
    return _number(options.days, MAX_RETENTION_DAYS, "days")


def _room_quota(options: argparse.Namespace) -> int:
    megabytes = _number(options.megabytes, MAX_QUOTA_MB, "MB")
    ask(options.data_dir, {"cmd": "room-quota", "room": _room(options.room), "megabytes": megabytes})
    print(f"{options.room} may have {_stored(megabytes)}.")
    return Exit.OK


# --- what is asked before ---------------------------------------------------------------------------------------------


def _ask_user_delete(options: argparse.Namespace) -> str:
    return f"Delete the account {_user(options.name)}? It cannot be brought back."


def _ask_user_reset_password(options: argparse.Namespace) -> str:
    return f"Give {_user(options.name)} a new password? The old one opens nothing at the server any more."


def _ask_room_delete(options: argparse.Namespace) -> str:
    return f"Delete the room {_room(options.room)} with all its messages? They cannot be brought back."


def _ask_room_retention(options: argparse.Namespace) -> str:
    days, room = _retention(options), _room(options.room)
    return f"Keep messages of {room} for {_plural(days, 'day')} only? Older ones are deleted." if days else ""


# --- the table --------------------------------------------------------------------------------------------------------

Argument = tuple[tuple[str, ...], Mapping[str, Any]]


def _argument(*names: str, **options: Any) -> Argument:
    return names, options


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: its words.
        help: what it does.
        run: does it; the exit status. Raises AdminError.
        arguments: as argparse takes them.
        destroys: what to ask before; "" where these arguments lose nothing; None where none do. Raises AdminError.
        json: whether it can answer a script.
    """

    name: tuple[str, ...]
    help: str
    run: Callable[[argparse.Namespace], int]
    arguments: Sequence[Argument] = ()
    destroys: Callable[[argparse.Namespace], str] | None = None
    json: bool = False


_NAME: Final = _argument("name", metavar="NAME", help="the account")
_ROOM: Final = _argument("room", metavar="ROOM", help="the room")
_MEGABYTES: Final = _argument(
    "megabytes", metavar="MB", help="megabytes of stored messages; 0: any; default: as the settings say"
)

COMMANDS: Final = (
    Command(
        ("invite",), "print a connect line that lets somebody in", _invite,
        (
            _argument("room", nargs="?", default="general", help="the room they are led to [general]"),
            _argument("--uses", type=int, default=1, help="how many may use it [1]"),
            _argument("--days", type=float, default=7.0, help="how long it holds [7]"),
        ),
    ),
    Command(("status",), "print how many connections there are, and what they use", _status),
    Command(
        ("backup",), "copy the database to a new file, and check the copy", _backup,
        (_argument("file", metavar="FILE", help="where to; must not be there yet"),),
    ),
    Command(
        ("restore",), "put a backup into an empty data directory; no daemon may run there", _restore,
        (
            _argument("file", metavar="FILE", help="what backup wrote"),
            _argument("--server-key", metavar="FILE", help="the server's identity, if it is not there yet"),
            _argument("--key-file", metavar="FILE", help="the at-rest key, if it is not to lie in the data directory"),
        ),
    ),
    Command(("rotate-keys",), "seal everything that is stored under a new key", _rotate_keys),
    Command(("check",), "read and verify everything that is stored", _check, json=True),
    Command(("user", "list"), "show all accounts", _user_list, json=True),
    Command(("user", "suspend"), "end an account's sessions, and let it log in no more", _user_suspend, (_NAME,)),
    Command(("user", "unsuspend"), "let it log in again", _user_unsuspend, (_NAME,)),
    Command(
        ("user", "delete"), "take an account away for good", _user_delete, (_NAME,),
        _ask_user_delete,
    ),
    Command(
        ("user", "reset-password"), "give an account a new password", _user_reset_password, (_NAME,),
        _ask_user_reset_password,
    ),
    Command(("user", "quota"), "limit what an account may have stored", _user_quota, (_NAME, _MEGABYTES)),
    Command(
        ("sessions",), "show who is logged in", _sessions,
        (_argument("name", nargs="?", metavar="NAME", help="of this account only"),), json=True,
    ),
    Command(
        ("revoke",), "end logins", _revoke,
        (
            _NAME,
            _argument("device", nargs="?", metavar="DEVICE", help="of this device: its id, or how that starts"),
            _argument("--all", action="store_true", help="all logins of the account"),
        ),
    ),
    Command(("room", "list"), "show all rooms", _room_list, json=True),
    Command(
        ("room", "delete"), "take a room away, with everything said in it", _room_delete, (_ROOM,),
        _ask_room_delete,
    ),
    Command(
        ("room", "retention"), "say for how long a room's messages are kept", _room_retention,
        (_ROOM, _argument("days", metavar="DAYS", help="0: for ever; default: as the settings say")),
        _ask_room_retention,
    ),
    Command(("room", "quota"), "limit what a room may have stored", _room_quota, (_ROOM, _MEGABYTES)),
)  # fmt: skip

_GROUPS: Final = {"user": "accounts", "room": "rooms"}


def parser() -> argparse.ArgumentParser:
    """The command line, as the table has it."""
    top = argparse.ArgumentParser(
        prog="securechat admin",
        description="Asks the daemon that runs on this machine, through its data directory.",
        epilog="exit status: 0 done; 1 it cannot be done, or something does not check out; 2 wrong usage; 3 no daemon"
        " runs there, or it does not answer; 7 no such user, room or login.",
    )
    top.add_argument("--data-dir", metavar="DIR", help="the daemon's data directory, if it is not the usual one")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        *group, name = command.name
        where = commands
        if group:
            if group[0] not in groups:
                about = _GROUPS[group[0]]
                made = commands.add_parser(
                    group[0], help=f"{about}: see {group[0]} --help", description=f"For {about}."
                )
                groups[group[0]] = made.add_subparsers(required=True, metavar="COMMAND")
            where = groups[group[0]]
        one = where.add_parser(name, help=command.help, description=f"{command.help[:1].upper()}{command.help[1:]}.")
        for names, options in command.arguments:
            one.add_argument(*names, **options)
        if command.json:
            one.add_argument("--json", action="store_true", help="for scripts")
        if command.destroys:
            one.add_argument("--yes", action="store_true", help="do not ask")
        one.set_defaults(command=command)
    return top


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; answers the exit status. Raises AdminError, StartupError, BackupFailed."""
    options = parser().parse_args(arguments)
    command: Command = options.command
    if command.destroys and not options.yes and (question := command.destroys(options)):
        if not sys.stdin.isatty():
            raise AdminError(f"{question} Say --yes if you mean it.")
        try:
            answer = input(f"{question} [y/N] ")
        except EOFError:
            print()  # the answer's line has no end
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise AdminError("Nothing was done.")
    return command.run(options)
