"""5,000 connections over TLS that resume, catch up and drop; nothing of them is left in the daemon."""

from __future__ import annotations

import random
import threading
from typing import Any, Final

from securechat.wire import messages as m
from tests.integration.flood import figures
from tests.integration.harness import Daemon, Person, Wire, until
from tests.long._report import Report, parser, running_daemon

_THREADS: Final = 4
_SAME: Final = ("connections", "logged_in", "subscriptions", "queued", "delayed_calls")
_GROWN: Final = 4 << 20  # bytes: what the daemon's caches may still take after the first of them


def run(arguments: list[str]) -> int:
    """Runs it; answers the exit status."""
    options = parser("churn", __doc__)
    options.add_argument("--connections", type=int, default=5000, help="how many (%(default)s)")
    chosen = options.parse_args(arguments)
    report = Report("churn", chosen.seed)
    with running_daemon("churn") as daemon:
        return _churned(daemon, chosen, report)


def _churned(daemon: Daemon, chosen: Any, report: Report) -> int:
    people = []
    for number in range(_THREADS):
        with Wire(daemon.port) as wire:
            people.append(Person.register(wire, f"user{number}"))
            people[-1].join(wire, "general")
            people[-1].send(wire, "general", *map(str, range(20)))
    troubles: list[object] = []
    _come_and_go(daemon, people, chosen.connections // 10, chosen.seed, troubles)  # caches, threads, statements
    before = _quiet(daemon)
    report.say(f"before: {before}")
    _come_and_go(daemon, people, chosen.connections, chosen.seed, troubles)
    after = _quiet(daemon)
    report.say(f"after: {after}")
    troubles += [f"{name}: {before[name]} before, {after[name]} after" for name in _SAME if before[name] != after[name]]
    if after["files"] > before["files"] + 3 or after["threads"] > before["threads"] + 1:
        troubles.append(f"files or threads: {before} before, {after} after")
    if after["memory"] - before["memory"] > _GROWN:
        troubles.append(f"memory: {before['memory']} before, {after['memory']} after")
    troubles += daemon.faults()
    grown = round((after["memory"] - before["memory"]) / 1e6, 2)
    return report.close({"connections": chosen.connections, "grown_mb": grown, "files": after["files"]}, troubles)


def _quiet(daemon: Daemon) -> dict[str, int]:
    """The daemon's figures, once nobody is connected."""
    until(lambda: figures(daemon)["connections"] == 0, "all are gone")
    return figures(daemon)


def _come_and_go(daemon: Daemon, people: list[Person], count: int, seed: int, troubles: list[object]) -> None:
    """Each of the people, on one connection after the other; dropped at any point after the login."""

    def one(person: Person, dice: random.Random) -> None:
        try:
            for _ in range(count // len(people)):
                with Wire(daemon.port) as wire:
                    person.resume(wire)
                    how_far = dice.random()
                    if how_far > 0.2:
                        wire.say(lambda number: m.Sync(id=number))
                    if how_far > 0.6:
                        wire.reply()
        except Exception as error:
            troubles.append(error)

    threads = [
        threading.Thread(target=one, args=(person, random.Random(seed + number)))
        for number, person in enumerate(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
