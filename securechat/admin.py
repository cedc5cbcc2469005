"""The operator's side of `server.admin`: one question through the daemon's Unix socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from securechat.errors import Exit, SecureChatError
from securechat.server.service import default_data_dir
from securechat.server.settings import DataDir
from securechat.wire.names import NAME_RULE, fold_room

_SECONDS: Final = 10.0


class AdminError(SecureChatError):
    """The daemon cannot be asked, or refuses."""

    exit = Exit.FIXABLE


def invite(data_dir: str | None, *, room: str, uses: int, days: float) -> str:
    """A connect line that lets `uses` people in within `days`. Raises AdminError."""
    folded = fold_room(room)
    if folded is None:
        raise AdminError(f"{room} cannot be the name of a room: {NAME_RULE}.")
    if not 1 <= uses <= 10_000 or not 60 <= days * 86_400 <= 366 * 86_400:
        raise AdminError("An invitation is for 1 to 10000 people, and holds from a minute to 366 days.")
    reply = ask(data_dir, {"cmd": "invite", "room": folded, "uses": uses, "expires": int(days * 86_400)})
    return str(reply["line"])


def status(data_dir: str | None) -> str:
    """The daemon's figures, one a line. Raises AdminError."""
    figures = ask(data_dir, {"cmd": "status"})["figures"]
    width = max(map(len, figures))
    return "\n".join(f"{name:{width}}  {figure}" for name, figure in figures.items())


def ask(data_dir: str | None, request: dict[str, Any]) -> dict[str, Any]:
    """Asks the running daemon. Raises AdminError."""
    data = DataDir(Path(data_dir) if data_dir else default_data_dir())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(str(data.admin_socket.absolute()))
            connection.sendall(json.dumps(request).encode("ascii") + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
    except (FileNotFoundError, ConnectionRefusedError):
        raise AdminError(
            f"No daemon runs with the data directory {data.path}. Start it (twistd -n securechat), or say which one:"
            " securechat admin --data-dir DIR …"
        ) from None
    except PermissionError:
        raise AdminError(f"The daemon of {data.path} belongs to another user: ask as that user.") from None
    except (OSError, ValueError) as error:
        raise AdminError(f"The daemon of {data.path} does not answer: {error}") from None
    if not isinstance(answer, dict) or answer.get("status") != "ok":
        raise AdminError(str(answer.get("msg", "The daemon refused.")) if isinstance(answer, dict) else "No answer.")
    return answer
