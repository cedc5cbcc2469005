"""The client's promise, held at what real clients print: each message once, in one order, and none lost, through a
network that breaks (`tests.proxy`) and with a daemon that is killed.
"""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.integration.harness import PASSWORD, Daemon, PlainClient, until
from tests.integration.load import SETTINGS
from tests.proxy import PASS, Proxy, Schedule

PEOPLE: Final = ("alice", "bob", "carol")
_ROOM: Final = "general"
_LINE: Final = re.compile(r"^\[general\] <(\w+)> (\w+) (\d+)$")
_MOODS: Final = (2, 5)  # moods in a round
_TYPED: Final = (0, 5)  # lines that each person types in a round, at two moments
_KILL: Final = 0.4  # of the rounds, in which the daemon is killed
_SETTLE: Final = 120.0  # seconds until everything is shown everywhere: clients wait up to 30 s between attempts


class Promise:
    """People in a room, who type while the network and the daemon fail.

    Attributes:
        typed: how many lines each has typed: numbered from 1.
        kills: of the daemon.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._schedule = Schedule(self._random.getrandbits(64))
        self.daemon = Daemon(directory / "daemon", settings=SETTINGS).start()
        self.proxy = Proxy(self.daemon.port, self._random.getrandbits(64))
        self.typed: Counter[str] = Counter()
        self.kills = 0
        self.moods: Counter[str] = Counter()
        line = replace(self.daemon.line, port=self.proxy.port)
        self.clients = {name: PlainClient(directory / name, line, "--keep-going") for name in PEOPLE}

    def gather(self) -> None:
        """Everybody makes an account and enters the room. Raises AssertionError."""
        entered: list[PlainClient] = []
        for name, client in self.clients.items():
            client.ask(f"/register {name} {PASSWORD}", "Welcome")
            client.ask(f"/join {_ROOM}", f" {_ROOM}, an open room")
            for other in entered:  # who has not heard of it seals for those before
                other.wait_for(f"[{_ROOM}] * {name} joined")
            entered.append(client)

    def round(self) -> None:
        """Lines are typed while moods change and the daemon may be killed; then all is well, and everything arrives.

        Raises:
            AssertionError: not everything arrives.
        """
        moods = [self._schedule.next() for _ in range(self._random.randint(*_MOODS))]
        killed = self._random.randrange(len(moods)) if self._random.random() < _KILL else None
        for number, (mood, seconds) in enumerate(moods):
            self.proxy.be(mood)
            self.moods[mood] += 1
            if number in (0, len(moods) // 2):
                self._type()
            time.sleep(seconds)
            if number == killed:
                self.daemon.kill()
                self.kills += 1
                self.daemon.restart()
        self.proxy.be(PASS)
        self.settle()

    def _type(self) -> None:
        for name, client in self.clients.items():
            count = self._random.randint(*_TYPED)
            client.type(*(f"{name} {self.typed[name] + more}" for more in range(1, count + 1)))
            self.typed[name] += count

    def settle(self, patience: float = _SETTLE) -> None:
        """Waits until every client has shown the last line of everybody. Raises AssertionError with what is missing."""
        wanted = {name: number for name, number in self.typed.items() if number}

        def missing() -> dict[str, Any]:
            ends = {name: dict(self.shown(name)) for name in self.clients}
            return {name: wanted for name, got in ends.items() if any(got.get(w, 0) < n for w, n in wanted.items())}

        _wait(lambda: not missing(), patience, lambda: f"not shown after {patience:g} s: {missing()}")

    def shown(self, name: str) -> list[tuple[str, int]]:
        """The lines that a client has shown, in its order: who typed them, and their numbers."""
        matches = (_LINE.match(line) for line in self.clients[name].shown(f"[{_ROOM}] <"))
        return [(match[2], int(match[3])) for match in matches if match is not None and match[1] == match[2]]

    def troubles(self) -> Iterator[str]:
        """What breaks the promise."""
        everything = [(name, number) for name in self.clients for number in range(1, self.typed[name] + 1)]
        first = self.shown(next(iter(self.clients)))
        for name in self.clients:
            shown = self.shown(name)
            counts = Counter(shown)
            twice = sorted(each for each, count in counts.items() if count > 1)
            lost = [each for each in everything if each not in counts]
            for what, found in (("twice", twice), ("never", lost)):
                if found:
                    yield f"{name} was shown {what}: {found[:10]}"
            for who in self.clients:
                numbers = [number for author, number in shown if author == who]
                if numbers != sorted(numbers):
                    yield f"{name} was shown the lines of {who} in another order: {numbers}"
            if shown != first:
                yield f"{name} was shown another order than {next(iter(self.clients))}"
            if len(shown) != len(self.clients[name].shown(f"[{_ROOM}] <")):
                yield f"{name} was shown lines that nobody typed"
        with closing(sqlite3.connect(f"file:{self.daemon.data / 'chat.db'}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT seq FROM message ORDER BY seq").fetchall()
            if [seq for (seq,) in rows] != list(range(1, len(everything) + 1)):
                yield f"{len(everything)} lines were typed, {len(rows)} are stored"
        yield from self.daemon.faults()

    def figures(self) -> dict[str, Any]:
        """What a report of the run tells."""
        return {
            "typed": self.typed.total(),
            "shown": sum(len(self.shown(name)) for name in self.clients),
            "kills": self.kills,
            "connections": self.proxy.links,
            "lost": sum(len(client.shown("The connection is lost")) for client in self.clients.values()),
            "moods": dict(self.moods),
        }

    def end(self) -> None:
        """Ends everything."""
        for client in self.clients.values():
            client.end()
        self.proxy.close()
        self.daemon.end()


def _wait(holds: Callable[[], bool], patience: float, why: Callable[[], str]) -> None:
    try:
        until(holds, "", patience)
    except AssertionError:
        raise AssertionError(why()) from None
