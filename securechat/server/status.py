"""How the daemon is: figures for the operator, none of which names anybody."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Final

from securechat.chat.broker import RoomBroker
from securechat.server.connections import SharedLimits
from securechat.server.session import Logins

_OPEN_FILES: Final = Path("/dev/fd")
_MEMORY: Final = Path("/proc/self/statm")  # in pages: all, then resident


class Status:
    """What `securechat admin status` tells.

    Args:
        reactor: its delayed calls are counted, and its clock is read.
    """

    def __init__(self, reactor: Any, shared: SharedLimits, logins: Logins, broker: RoomBroker) -> None:
        self._reactor = reactor
        self._shared = shared
        self._logins = logins
        self._broker = broker
        self._started = reactor.seconds()

    def figures(self) -> dict[str, int]:
        """Whole numbers by name; sizes in bytes, times in seconds. Without `/proc` there is no `memory`."""
        figures = {
            "uptime": int(self._reactor.seconds() - self._started),
            "connections": len(self._shared.connections),
            "max_connections": self._shared.most,
            "refused": self._shared.refused,
            "logged_in": len(self._logins),
            "subscriptions": self._broker.subscriptions,
            "queued": self._shared.queued,
            "delayed_calls": len(self._reactor.getDelayedCalls()),
            "threads": threading.active_count(),
            "files": len(os.listdir(_OPEN_FILES)) - 1,  # but for the one that lists them
        }
        if _MEMORY.exists():
            resident = int(_MEMORY.read_text(encoding="ascii").split()[1])
            figures["memory"] = resident * os.sysconf("SC_PAGE_SIZE")
        return figures
