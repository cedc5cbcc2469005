"""The operator's door: a Unix socket in the data directory that only its owner can open; one JSON object a line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from securechat.crypto.primitives import b64url
from securechat.errors import SecureChatError
from securechat.link import BoundedLineReceiver, ConnectLine
from securechat.storage.interface import ChatStore
from securechat.wire.names import NAME_PATTERN

INVITE_BYTES: Final = 16
DAY: Final = 86_400  # seconds
_MAX_LINE: Final = 4096


class Invite(msgspec.Struct, tag_field="cmd", tag="invite", frozen=True):
    """Asks for an invitation into a room: for `uses` newcomers, for `expires` seconds."""

    room: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] = "general"
    uses: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    expires: Annotated[int, msgspec.Meta(ge=60, le=366 * DAY)] = 7 * DAY


class StatusRequest(msgspec.Struct, tag_field="cmd", tag="status", frozen=True):
    """Asks for the daemon's figures."""


class AdminCommands:
    """What the operator may ask of the running daemon.

    Args:
        connect_line: the server's own, to put invites on.
        random: bytes nobody can guess.
        now: seconds since 1970.
        figures: what `status` tells.
    """

    def __init__(
        self,
        store: ChatStore,
        connect_line: ConnectLine,
        random: Callable[[int], bytes],
        now: Callable[[], float],
        figures: Callable[[], dict[str, int]],
    ) -> None:
        self._store = store
        self._connect_line = connect_line
        self._random = random
        self._now = now
        self._figures = figures

    async def answer(self, line: bytes) -> dict[str, Any]:
        """Answers one request: ``{"status": "ok", …}``, or ``{"status": "error", "msg"}``."""
        try:
            request = msgspec.json.decode(line, type=Invite | StatusRequest)
            if isinstance(request, StatusRequest):
                return {"status": "ok", "figures": self._figures()}
            return {"status": "ok", "line": str(await self._invite(request))}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, SecureChatError) as error:
            return {"status": "error", "msg": str(error)}

    async def _invite(self, request: Invite) -> ConnectLine:
        code = b64url(self._random(INVITE_BYTES))
        now = int(self._now() * 1000)
        await self._store.add_invite(
            hashlib.sha256(code.encode("ascii")).digest(),
            uses=request.uses,
            expires=now + request.expires * 1000,
            now=now,
        )
        base = self._connect_line
        return ConnectLine(base.host, base.port, base.id, code, request.room, base.tls)


class AdminProtocol(BoundedLineReceiver):
    """One operator's connection."""

    log = Logger()

    def __init__(self, clock: IReactorTime, commands: AdminCommands) -> None:
        super().__init__(clock, _MAX_LINE)
        self._commands = commands

    def lineReceived(self, line: bytes) -> None:
        """One request."""
        answering = Deferred.fromCoroutine(self._commands.answer(line))
        answering.addCallbacks(self._reply, self._failed)

    def _reply(self, answer: dict[str, Any]) -> None:
        if self.transport is not None:
            self.transport.write(msgspec.json.encode(answer) + b"\n")

    def _failed(self, failure: Any) -> None:
        self.log.failure("an admin command failed", failure=failure)
        self._reply({"status": "error", "msg": "The daemon made a mistake and logged it."})


class AdminFactory(Factory):
    """Makes an `AdminProtocol` a connection."""

    noisy = False

    def __init__(self, clock: IReactorTime, commands: AdminCommands) -> None:
        self._clock = clock
        self._commands = commands

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """For Twisted."""
        return AdminProtocol(self._clock, self._commands)
