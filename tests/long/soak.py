"""Half an hour of 200 people who come, talk, read, and go; the daemon's memory, files and timers stay level."""

from __future__ import annotations

import contextlib
import math
import random
import statistics
import threading
import time
from collections import Counter
from typing import Any, Final

from securechat.crypto.identity import AccountKeys
from securechat.crypto.roomlog import RoomLog
from securechat.wire import messages as m
from tests.integration.flood import figures
from tests.integration.harness import Daemon, Gone, Person, Wire, until
from tests.long._report import Report, parser, running_daemon

_ROOM: Final = 10  # people of a room: a message is sealed for each
_THREADS: Final = 4
_PAUSE: Final = 0.02  # seconds between two acts of a thread: below all limits
_SLOPE: Final = 1.0  # MB an hour
_PATIENCE: Final = 60.0  # seconds for one answer
_SLEEP: Final = 40.0  # seconds that nobody is left silent for: the daemon would think them dead


def run(arguments: list[str]) -> int:
    """Runs it; answers the exit status."""
    options = parser("soak", __doc__)
    options.add_argument("--minutes", type=float, default=30.0, help="measured (%(default)s)")
    options.add_argument(
        "--warm-up", type=float, default=8.0, help="minutes before that, until caches are full (%(default)s)"
    )
    options.add_argument("--people", type=int, default=200, help="how many (%(default)s)")
    options.add_argument("--every", type=float, default=10.0, help="seconds between two looks (%(default)s)")
    chosen = options.parse_args(arguments)
    report = Report("soak", chosen.seed)
    with running_daemon("soak") as daemon:
        return _soaked(daemon, chosen, report)


class _Guest:
    """A person of the soak, there or away.

    Attributes:
        log, readers: of the room, as it was when all had joined.
    """

    log: RoomLog
    readers: list[AccountKeys]

    def __init__(self, daemon: Daemon, number: int) -> None:
        self._daemon = daemon
        self.room = f"room{number // _ROOM}"
        self.wire: Wire | None = None
        self.heard = 0.0
        with Wire(daemon.port, patience=_PATIENCE) as wire:
            self.person = Person.register(wire, f"user{number}")
            self.person.join(wire, self.room)

    def prepare(self) -> None:
        """Knows for whom to seal, once all have joined."""
        with Wire(self._daemon.port, patience=_PATIENCE) as wire:
            self.person.resume(wire)
            self.log, self.readers = self.person.readers(wire, self.room)

    def act(self, dice: random.Random) -> str:
        """Does something, and says what."""
        try:
            if self.wire is None:
                return self._come()
            self.wire.events.clear()
            what = dice.choices(("send", "history", "rejoin", "drop", "ping"), (6, 3, 1, 2, 3))[0]
            getattr(self, f"_{what}")()
            return what
        except Gone:
            self._drop()
            return "gone"
        finally:
            self.heard = time.monotonic()

    def _come(self) -> str:
        self.wire = Wire(self._daemon.port, patience=_PATIENCE)
        self.person.resume(self.wire)
        self.person.sync(self.wire)
        return "come"

    def _send(self) -> None:
        assert self.wire is not None
        package = self.person.package("x" * 200, self.log, self.readers)
        self.wire.ask(lambda number: m.Send(id=number, room=self.room, package=package))

    def _history(self) -> None:
        assert self.wire is not None
        self.wire.ask(lambda number: m.History(id=number, room=self.room))

    def _rejoin(self) -> None:
        """Looks at the room's log, as one who wants to join does; who joins and leaves for hours fills a log."""
        assert self.wire is not None
        self.wire.ask(lambda number: m.RoomLog(id=number, room=self.room))
        self.wire.ask(lambda number: m.Online(id=number, room=self.room))

    def _ping(self) -> None:
        assert self.wire is not None
        self.wire.ask(lambda number: m.Ping(id=number))

    def _drop(self) -> None:
        if self.wire is not None:
            self.wire.close()
        self.wire = None

    def listen(self) -> None:
        """Takes in what came meanwhile, and gives a sign of life where it is time."""
        if self.wire is None:
            return
        with contextlib.suppress(Gone):
            self.wire.ready()
            if time.monotonic() - self.heard > _SLEEP:
                self._ping()
                self.heard = time.monotonic()
            return
        self._drop()

    leave = _drop


class _Hosts(threading.Thread):
    """Lets its share of the guests act, one after the other."""

    def __init__(self, guests: list[_Guest], seed: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._guests = guests
        self._dice = random.Random(seed)
        self._stopping = stop
        self.did: Counter[str] = Counter()
        self.fault: Exception | None = None

    def run(self) -> None:
        """Until it is told to stop."""
        try:
            while not self._stopping.wait(_PAUSE):
                self.did[self._dice.choice(self._guests).act(self._dice)] += 1
                for guest in self._guests:
                    guest.listen()
        except Exception as error:
            self.fault = error


def _soaked(daemon: Daemon, chosen: Any, report: Report) -> int:
    guests = [_Guest(daemon, number) for number in range(chosen.people)]
    for guest in guests:
        guest.prepare()
    until(lambda: figures(daemon)["connections"] == 0, "nobody is there")
    base = figures(daemon)
    stop = threading.Event()
    hosts = [_Hosts(guests[number::_THREADS], chosen.seed + number, stop) for number in range(_THREADS)]
    for host in hosts:
        host.start()
    report.say(f"{len(guests)} people; warming up")
    _looks(daemon, report, chosen.warm_up, chosen.every)
    report.say("measuring")
    looks = _looks(daemon, report, chosen.minutes, chosen.every)
    stop.set()
    for host in hosts:
        host.join()
    for guest in guests:
        guest.leave()
    until(lambda: figures(daemon)["connections"] == 0, "all are gone")
    after = figures(daemon)
    did: Counter[str] = sum((host.did for host in hosts), Counter())
    report.say(f"did: {dict(did)}; before: {base}; after: {after}")
    slope, margin = slope_of([(when / 3600, look["memory"] / 1e6) for when, look in looks])
    troubles: list[object] = [host.fault for host in hosts if host.fault is not None]
    if slope - margin > _SLOPE:
        troubles.append(f"memory grows by {slope:.2f} ± {margin:.2f} MB an hour")
    for name in ("connections", "logged_in", "subscriptions", "queued", "delayed_calls"):
        if base[name] != after[name]:
            troubles.append(f"{name}: {base[name]} before, {after[name]} after")
    for name, more in (("files", 6), ("threads", 2)):  # readers of the database, made when first needed
        if after[name] > base[name] + more:
            troubles.append(f"{name}: {base[name]} before, {after[name]} after")
    troubles += daemon.faults()
    return report.close(
        {
            "slope_mb_an_hour": round(slope, 2),
            "margin_95": round(margin, 2),
            "looks": len(looks),
            "memory_mb": round(looks[-1][1]["memory"] / 1e6, 1),
            "acts": did.total(),
            "cut": did["gone"],
            "most_files": max(look["files"] for _, look in looks),
            "most_timers": max(look["delayed_calls"] for _, look in looks),
        },
        troubles,
    )


def _looks(daemon: Daemon, report: Report, minutes: float, every: float) -> list[tuple[float, dict[str, int]]]:
    """The daemon's figures again and again, each with the seconds since the first."""
    began = time.monotonic()
    looks = []
    while (now := time.monotonic() - began) < minutes * 60:
        looks.append((now, figures(daemon)))
        if len(looks) % 10 == 0:
            report.say(f"{looks[-1][1]}")
        time.sleep(every)
    return looks


def slope_of(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The slope of the line through points by least squares, and half of its 95 % interval.

    Args:
        points: three or more, x and y.
    """
    xs, ys = zip(*points, strict=True)
    slope, start = statistics.linear_regression(xs, ys)
    mean = statistics.fmean(xs)
    spread = sum((x - mean) ** 2 for x in xs)
    errors = sum((y - start - slope * x) ** 2 for x, y in points)
    return slope, 1.96 * math.sqrt(errors / (len(points) - 2) / spread)
