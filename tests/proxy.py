"""A TCP proxy that does to connections what networks do, for tests.

    python -m tests.proxy --listen PORT --to PORT [--seed N] [--moods MOOD,…]

forwards from one port of 127.0.0.1 to another, and changes its mood by chance until it is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Final

PASS: Final = "pass"  # forwards
DELAY: Final = "delay"  # forwards, each time after a moment
BYTES: Final = "bytes"  # forwards one byte at a time
DROP: Final = "drop"  # forwards nothing, and keeps connections; what came is forwarded in the next mood
RESET: Final = "reset"  # breaks the connections there are, and then those that come
HALF_CLOSE: Final = "half-close"  # ends one direction of the connections there are, and forwards the other
MOODS: Final = (PASS, DELAY, BYTES, DROP, RESET, HALF_CLOSE)

_TICK: Final = 0.01  # seconds between two looks at the mood
_LONGEST_DELAY: Final = 0.05  # seconds
_STALL: Final = 10.0  # seconds that a peer may leave unread what is forwarded to it
_CHUNK: Final = 65536
_MOST_BYTES: Final = 500  # forwarded one by one before the mood is looked at again
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


class Proxy:
    """Forwards connections in threads of its own.

    Args:
        target: the port of 127.0.0.1 to forward to. Where nobody listens there, connections are reset.
        seed: of the length of delays, and of which direction is closed.
        listen: the port; 0: a free one.

    Attributes:
        port: where it listens.
        links: connections so far.
    """

    def __init__(self, target: int, seed: int, listen: int = 0) -> None:
        self.target = target
        self.random = random.Random(seed)
        self.mood = PASS
        self.turn = 0  # how often the mood changed
        self.links = 0
        self.closed = False
        self._server = socket.create_server(("127.0.0.1", listen))
        self._server.settimeout(_TICK)
        self.port: int = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def be(self, mood: str) -> None:
        """Changes the mood, for the connections there are and those to come."""
        self.mood = mood
        self.turn += 1

    def close(self) -> None:
        """Ends all connections, and listens no more."""
        self.closed = True
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self.closed:
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            self.links += 1
            link = _Link(self, client)
            self._threads = [*(each for each in self._threads if each.is_alive()), link]
            link.start()


class _Link(threading.Thread):
    """One connection, and the one behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self._proxy = proxy
        self._client = client

    def run(self) -> None:
        """Forwards until both directions have ended, or the mood ends them."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._client)
            try:
                server = stack.enter_context(socket.create_connection(("127.0.0.1", self._proxy.target), _STALL))
                for each in (self._client, server):
                    each.settimeout(_STALL)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._forward({self._client: server, server: self._client})
            except OSError:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def _forward(self, ways: dict[socket.socket, socket.socket]) -> None:
        proxy, ends, turn = self._proxy, list(ways), -1
        while ways and not proxy.closed:
            mood, first, turn = proxy.mood, turn != proxy.turn, proxy.turn
            if mood == RESET:
                for each in ends:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                return
            if mood == HALF_CLOSE and first:
                self._end(ways, proxy.random.choice(list(ways)))
                continue
            if mood == DROP:
                time.sleep(_TICK)
                continue
            readable = select.select(list(ways), [], [], _TICK)[0]
            if proxy.turn != turn:
                continue
            for source in readable:
                data = source.recv(_MOST_BYTES if mood == BYTES else _CHUNK)
                if not data:
                    self._end(ways, source)
                    continue
                if mood == DELAY:
                    time.sleep(proxy.random.uniform(0, _LONGEST_DELAY))
                for piece in (data[at : at + 1] for at in range(len(data))) if mood == BYTES else (data,):
                    ways[source].sendall(piece)

    def _end(self, ways: dict[socket.socket, socket.socket], source: socket.socket) -> None:
        """Nothing more comes from here: says so to the other end."""
        with contextlib.suppress(OSError):
            ways.pop(source).shutdown(socket.SHUT_WR)


class Schedule:
    """Moods by chance.

    Args:
        moods: to choose from; PASS more often than each other.
    """

    def __init__(self, seed: int, moods: Sequence[str] = MOODS, longest: float = 0.5) -> None:
        self._random = random.Random(seed)
        self._moods = (*moods, PASS, PASS)
        self._longest = longest

    def next(self) -> tuple[str, float]:
        """The next mood, and how long it lasts, seconds."""
        return self._random.choice(self._moods), self._random.uniform(0.02, self._longest)


def main() -> None:
    """Forwards until it is interrupted."""
    options = argparse.ArgumentParser(prog="python -m tests.proxy", description=__doc__.splitlines()[0])
    options.add_argument("--listen", type=int, default=0, help="the port to listen on (0: a free one)")
    options.add_argument("--to", type=int, required=True, help="the port to forward to")
    options.add_argument("--seed", type=int, default=secrets.randbits(32), help="of its moods")
    options.add_argument("--moods", default=",".join(MOODS), help="to choose from (%(default)s)")
    options.add_argument("--longest", type=float, default=5.0, help="seconds that a mood lasts at most (%(default)s)")
    chosen = options.parse_args()
    moods = chosen.moods.split(",")
    if unknown := set(moods) - set(MOODS):
        options.error(f"no such mood: {', '.join(sorted(unknown))}")
    proxy = Proxy(chosen.to, chosen.seed, chosen.listen)
    schedule = Schedule(chosen.seed, moods, chosen.longest)
    print(f"127.0.0.1:{proxy.port} -> 127.0.0.1:{chosen.to}, seed {chosen.seed}", flush=True)
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(proxy):
        while True:
            mood, seconds = schedule.next()
            print(f"{mood} for {seconds:.2f} s", flush=True)
            proxy.be(mood)
            time.sleep(seconds)


if __name__ == "__main__":
    main()
