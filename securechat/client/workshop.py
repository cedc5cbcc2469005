"""What the flows of an account need of their surroundings, and RSA keys made ahead of their need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred

from securechat.client.profile import ClientDir
from securechat.crypto import primitives as p

T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]


class KeyForge:
    """Makes RSA keys ahead of their need: 0.1 to 2 s that nobody then waits for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._next: Any = None

    def start(self) -> None:
        """Starts making the next key in a thread."""
        if self._next is None:
            self._next = Deferred.fromCoroutine(_awaiting(self._run(p.new_rsa)))
            self._next.addErrback(lambda failure: failure)

    async def take(self) -> Any:
        """A fresh key."""
        self.start()
        made, self._next = self._next, None
        return await made


async def _awaiting(work: Awaitable[T]) -> T:
    return await work


@dataclass(frozen=True)
class Workshop:
    """What the flows need of their surroundings.

    Attributes:
        run: calls a function in a thread.
        ask_code: asks for the recovery code; None where nobody is there.
        pool: makes the local store's pool of connections.
    """

    directory: ClientDir
    reactor: Any
    run: Run
    forge: KeyForge
    now_ms: Callable[[], int]
    ask_code: Callable[[], Awaitable[str | None]]
    pool: Callable[..., ConnectionPool] = ConnectionPool
