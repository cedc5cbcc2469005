"""A small synchronous client of the daemon's listener without TLS."""

from __future__ import annotations

import socket
from typing import Any, Final

from bench.accounts import token
from bench.processes import BenchError
from securechat.crypto.identity import login_proof
from securechat.wire import codec
from securechat.wire import messages as m
from tests.cast import Person

_PATIENCE: Final = 60.0  # seconds; at bcrypt's real cost many wait for one core


class Client:
    """One connection, logged in. Events are skipped.

    Args:
        password: logs in by it; None: resumes the person's session.

    Raises:
        BenchError: the daemon refuses something, or leaves.
    """

    def __init__(self, port: int, person: Person, password: str | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        hello: Any = codec.decode_event(self._lines.readline())
        proof = login_proof(person.device(), lk=hello.lk, exporter=b"", nonce=hello.nonce, user=person.user)
        if password is None:
            self.ask(m.Resume(id=0, token=token(person), proof=proof))
        else:
            self.ask(m.Login(id=0, user=person.user, password=password, device=person.dev(), proof=proof))

    def ask(self, request: m.Request) -> bytes:
        """The line that answers a request."""
        self._socket.sendall(codec.encode(request))
        while line := self._lines.readline():
            if line.startswith(b'{"event":'):
                continue
            if not line.startswith(b'{"status":"ok"'):
                raise BenchError(f"refused: {line[:200]!r}")
            return line
        raise BenchError("the daemon closed the connection")

    def close(self) -> None:
        """Drops the connection."""
        self._lines.close()
        self._socket.close()


def log_in(port: int, person: Person, password: str) -> Client:
    """One login by password, on a new connection."""
    return Client(port, person, password)
