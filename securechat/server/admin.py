"""The operator's door: a Unix socket in the data directory that only its owner can open; one JSON object a line.

A request is answered by one line with a `status`: ``ok`` with what was asked for, or ``error`` with a `msg` for people
and the `exit` status that a command should end with. What takes long says how far it is in lines before that one, with
the status ``progress``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from securechat.errors import NO_SUCH_ROOM, NO_SUCH_USER, Exit, Refused, SecureChatError
from securechat.link import BoundedLineReceiver
from securechat.server.operations import COMMANDS, AnyCommand, Operations

_MAX_LINE: Final = 4096
_TELL_EVERY: Final = 0.1  # seconds between two words on the progress


class OperatorGone(SecureChatError):
    """Nobody waits any more for what was asked: what only reads stops."""


class AdminProtocol(BoundedLineReceiver):
    """One operator's connection."""

    log = Logger()

    def __init__(self, clock: IReactorTime, operations: Operations) -> None:
        super().__init__(clock, _MAX_LINE)
        self._clock = clock
        self._operations = operations
        self._told = 0.0

    def lineReceived(self, line: bytes) -> None:
        """One request."""
        Deferred.fromCoroutine(self._answer(line)).addErrback(self._failed)

    async def _answer(self, line: bytes) -> None:
        try:
            request = msgspec.json.decode(line, type=AnyCommand)
            answer = await COMMANDS[type(request)](self._operations, request, self._tell)
        except Refused as refusal:
            self._refuse(_words(refusal), refusal.code.exit)
        except OperatorGone:
            return
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(str(error), Exit.USAGE)
        except SecureChatError as error:
            self._refuse(str(error), getattr(error, "exit", Exit.FIXABLE))
        else:
            self._reply({"status": "ok"} | answer)

    def _tell(self, what: str, done: int, of: int) -> None:
        """Says how far a command is. Raises OperatorGone."""
        if self.transport is None or not self.transport.connected:
            raise OperatorGone("nobody waits for it")
        now = self._clock.seconds()
        if now - self._told >= _TELL_EVERY or done in (0, of):
            self._told = now
            self._reply({"status": "progress", "what": what, "done": done, "of": of})

    def _refuse(self, msg: str, status: Exit) -> None:
        self._reply({"status": "error", "msg": msg, "exit": int(status)})

    def _reply(self, answer: dict[str, Any]) -> None:
        if self.transport is not None:
            self.transport.write(msgspec.json.encode(answer) + b"\n")

    def _failed(self, failure: Any) -> None:
        self.log.failure("an admin command failed", failure=failure)
        self._refuse("The daemon made a mistake and logged it.", Exit.NETWORK)


def _words(refusal: Refused) -> str:
    """What a refusal says to an operator, who joins no rooms."""
    if refusal.code is NO_SUCH_ROOM:
        return f"There is no room {refusal.data['room']} here. securechat admin room list shows them all."
    if refusal.code is NO_SUCH_USER and refusal.data.get("deleted"):
        return f"{refusal.data['user']} was deleted."
    return str(refusal)


class AdminFactory(Factory):
    """Makes an `AdminProtocol` a connection."""

    noisy = False

    def __init__(self, clock: IReactorTime, operations: Operations) -> None:
        self._clock = clock
        self._operations = operations

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """For Twisted."""
        return AdminProtocol(self._clock, self._operations)
