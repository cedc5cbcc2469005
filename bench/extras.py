"""What is not a plain load: memory, joins, histories, storms, growth, what people feel, and what a client pays."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from bench import client_store, crypto, terminal
from bench.processes import PATIENCE, BenchError, end, generate
from bench.scenarios import Results, Run
from bench.subjects import SUBJECTS, Place, Stage
from bench.wire import Client, log_in
from securechat.crypto.passwords import PasswordHasher
from securechat.crypto.primitives import b64url
from securechat.wire import limits
from securechat.wire import messages as m

OURS: Final = "securechat"
COST: Final = 12  # of bcrypt, where a storm of logins is measured
STORMERS: Final = 4  # clients that log in back to back
TOKEN: Final = "sc1$" + b64url(bytes(32))  # what they log in with
FLOOD: Final = ("-n", "100", "-R", "1", "-s", "10")  # a room of 100


@dataclass(frozen=True)
class Tools:
    """What measurements are made with."""

    stage: Stage
    generator: Path
    say: Callable[[str], None]
    seconds: float
    long: bool = False

    def generate(self, place: Place, *arguments: str) -> dict[str, Any]:
        """One run of the generator. Raises BenchError where it counts for nothing."""
        log = self.stage.directory / "generator.log"
        figures = generate(self.stage.machine, self.generator, [*place.arguments, *arguments], log)
        if reason := figures.pop("failed"):
            raise BenchError(reason)
        return figures

    @contextmanager
    def idle_crowd(self, place: Place, count: int, seconds: float) -> Iterator[None]:
        """So many connections of outsiders that do nothing, for at most so many seconds."""
        machine, log = self.stage.machine, self.stage.directory / "crowd.log"
        log.write_bytes(b"")
        words = list(place.arguments)
        accounts = words.index("-a") + 1
        words[accounts] = str(Path(words[accounts]).with_name("idle"))
        command = [str(self.generator), *words, "-n", str(count), "-d", "0", "-I", str(seconds)]
        process = machine.spawn(command, machine.generator_core, log)
        try:
            deadline = time.monotonic() + 2 * PATIENCE
            while b"sitting still" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"{count} idle connections: {log.read_text(errors='replace')[-200:]}")
                time.sleep(0.1)
            yield
        finally:
            end(process)


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


# --- memory and joins -------------------------------------------------------------------------------------------------


def memory(tools: Tools, results: Results) -> None:
    """RSS of the daemon over 2,000 more idle connections, in rooms of 10: what each costs, kernel memory aside."""
    few, many, rooms = 200, 2200, 220
    for subject in (SUBJECTS[OURS], SUBJECTS["securechat-tls"]):
        rss = []
        for count in (few, many):
            with tools.stage.running(subject, many, rooms) as place:
                rss.append(tools.generate(place, "-n", str(count), "-R", str(rooms), "-d", "0", "-I", "1")["rss"])
        figures = {"kb_connection": (rss[1] - rss[0]) / (many - few) / 1000, "rss_mb": rss[1] / 1e6}
        results.add(Run("memory", subject.name, figures))


def joins(tools: Tools, results: Results) -> None:
    """999 people enter the room of one, all at once; CPU of the daemon until everybody has been told of everything."""
    with tools.stage.running(SUBJECTS[OURS], 1000, 1, members=False) as place:
        figures = tools.generate(place, "-n", "1000", "-R", "1", "-d", "0", "-J", "1000")
    results.add(Run("joins", OURS, {name: figures[name] for name in ("enter_cpu_us", "enter_s")}))


# --- histories --------------------------------------------------------------------------------------------------------

_CHUNK: Final = 50_000  # messages that one pair of members writes: their counters start anew in each run
_PAGES: Final = 200  # that are read for a figure
_PAUSE: Final = 1.05 / limits.REQUESTS_PER_SECOND  # seconds between two pages: what comes quicker is made to wait


def history(tools: Tools, results: Results) -> None:
    """A room whose history grows: what a page of 50 costs, hot and cold, and what a send costs, at each size.

    The daemon writes the history itself. Pages are asked for over the loopback, so the times are a little above those
    in the server. Hot: the newest page again and again. Cold: pages anywhere, after a restart of the daemon with
    nothing of the database in the kernel's cache.
    """
    sizes = [1_000, 100_000, 1_000_000, *([10_000_000] if tools.long else [])]
    subject = SUBJECTS[OURS]
    people = 2 * (sum(-(-size // _CHUNK) for size in sizes) + 2 * len(sizes)) + 2
    prepared, town = tools.stage.towns.of(people, 1)
    lines = (prepared / "accounts").read_text(encoding="ascii").splitlines(keepends=True)
    pairs = iter(zip(lines[2::2], lines[3::2], strict=True))
    directory = tools.stage.fresh()
    tools.stage.towns.copy(prepared, directory / "data")
    place = tools.stage.daemon(directory)
    try:
        rows = 0
        for size in sizes:
            while rows < size:
                count = min(_CHUNK, size - rows)
                _written(tools, place, next(pairs), directory, "-w", "60", "-d", "200", "-W", "0", "-m", str(count))
                rows += count
                tools.say(f"history: {rows:,} messages")
            cost = _written(tools, place, next(pairs), directory, "-r", "100", "-d", f"{tools.seconds:g}")
            rows += int(cost["sent"])
            reader = Client(place.port, town.people[0])
            hot = _pages(reader, rows, newest=True)
            anywhere = _pages(reader, rows, newest=False)
            reader.close()
            end(place.process)
            _forget(directory / "data" / "chat.db")
            place = tools.stage.daemon(directory)
            reader = Client(place.port, town.people[0])
            cold = _pages(reader, rows, newest=False)
            reader.close()
            figures = {
                "rows": rows,
                **{f"hot_{name}": value for name, value in hot.items()},
                **{f"warm_{name}": value for name, value in anywhere.items()},
                **{f"cold_{name}": value for name, value in cold.items()},
                "send_cpu_us": cost["cpu_us"],
                "send_p50_ms": cost["p50_ms"],
            }
            results.add(Run(f"history-{size:.0e}".replace("+0", ""), subject.name, figures))
            if size == 1_000_000:
                results.add(Run("history", subject.name, figures))
    finally:
        end(place.process)
    _history_v1(tools, results)


def _written(tools: Tools, place: Place, pair: tuple[str, str], directory: Path, *arguments: str) -> dict[str, Any]:
    """Two members who have written nothing yet write to each other."""
    accounts = directory / "accounts"
    accounts.write_text("".join(pair), encoding="ascii")
    reached = tools.stage.at(place, SUBJECTS[OURS], directory)
    try:
        return tools.generate(reached, "-n", "2", "-R", "1", "-s", "2", *arguments)
    except BenchError as error:
        raise BenchError(f"{error}; the daemon said last: {place.log.read_text(errors='replace')[-300:]}") from None


def _pages(reader: Client, rows: int, *, newest: bool) -> dict[str, float]:
    """How long a page of 50 takes."""
    dice, times = random.Random(rows), []
    for _ in range(_PAGES):
        before = None if newest else dice.randrange(51, max(rows, 52))
        began = time.perf_counter()
        reader.ask(m.History(id=1, room="room00000", limit=50, before=before))
        times.append(time.perf_counter() - began)
        time.sleep(_PAUSE)
    return spread(times)


def _forget(database: Path) -> None:
    """Drops a file from the kernel's cache."""
    with database.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _history_v1(tools: Tools, results: Results) -> None:
    subject = SUBJECTS["securechat-v1"]
    with tools.stage.running(subject, 100, 1) as place:
        tools.generate(place, *FLOOD, "-w", "1", "-d", "20", "-m", "500")
        _, town = tools.stage.towns.of(100, 1)
        reader = Client(place.port, town.people[99])
        results.add(
            Run(
                "history-v1",
                subject.name,
                {f"hot_{name}": value for name, value in _pages(reader, 500, newest=True).items()},
            )
        )
        reader.close()


# --- storms -----------------------------------------------------------------------------------------------------------


def _stormy_town() -> dict[str, Any]:
    return {"outsiders": STORMERS, "password_hash": PasswordHasher(COST).hash(TOKEN)}


@contextmanager
def login_storm(place: Place, stormers: list[Any]) -> Iterator[list[float]]:
    """People log in by password, back to back, each on a new connection; yields the seconds that each login took."""
    over = threading.Event()
    took: list[float] = []

    def storm(person: Any) -> None:
        while not over.is_set():
            began = time.perf_counter()
            log_in(place.port, person, TOKEN).close()
            took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=storm, args=(person,), daemon=True) for person in stormers]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def storm(tools: Tools, results: Results) -> None:
    """100 messages a second to 100 members, without and with clients that log in at bcrypt's real cost."""
    town = _stormy_town()
    subject, pace = SUBJECTS[OURS], (*FLOOD, "-r", "100", "-d", f"{2 * tools.seconds:g}")
    for name in ("storm-none", "storm"):
        with tools.stage.running(subject, 100, 1, settings={"bcrypt_rounds": COST}, **town) as place:
            if name == "storm-none":
                results.add(Run(name, subject.name, _latency(tools.generate(place, *pace))))
                continue
            stormers = tools.stage.towns.of(100, 1, **town)[1].outsiders
            began = time.monotonic()
            with login_storm(place, stormers) as took:
                figures = _latency(tools.generate(place, *pace))
            figures["logins_s"] = len(took) / (time.monotonic() - began)
            results.add(Run(name, subject.name, figures))


def _latency(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in ("p50_ms", "p99_ms", "cpu_us")}


# --- what people feel -------------------------------------------------------------------------------------------------


def felt(tools: Tools, results: Results) -> None:
    """From Enter in one real client to the text on another's screen, over TLS: alone, and in a storm and a flood."""
    town = _stormy_town()
    subject = SUBJECTS[OURS]
    settings = {"bcrypt_rounds": COST, "registration": "open"}
    with tools.stage.running(subject, 100, 1, settings=settings, **town) as place:
        assert place.data is not None
        line = (place.data / "connect.txt").read_text(encoding="ascii").strip()
        with terminal.pair(tools.stage.machine, tools.stage.fresh(), line) as two:
            results.add(Run("felt", subject.name, spread(two.exchange(100, 0.05))))
            stormers = tools.stage.towns.of(100, 1, **town)[1].outsiders
            flooded: list[str] = []
            flood = threading.Thread(target=_flood, args=(tools, place, flooded), daemon=True)
            with login_storm(place, stormers):
                flood.start()
                time.sleep(2)  # until the flood has logged in
                figures = spread(two.exchange(100, 0.05))
                if not flood.is_alive():
                    flooded.append("the flood was over too early")
                flood.join(PATIENCE)
            results.add(Run("felt-storm", subject.name, figures, "; ".join(flooded)))


def _flood(tools: Tools, place: Place, wrong: list[str]) -> None:
    """200 messages a second to 100 members; what goes wrong is told in the list."""
    try:
        tools.generate(place, *FLOOD, "-r", "200", "-d", "15")
    except BenchError as error:
        wrong.append(str(error))


# --- growth -----------------------------------------------------------------------------------------------------------


def growth(tools: Tools, results: Results) -> None:
    """What a message costs as rooms, their number and the idle connections grow (histories: see `history`)."""
    subject = SUBJECTS[OURS]
    pace = ("-s", "1", "-r", "50", "-d", f"{tools.seconds:g}")
    for size in (10, 100, 1000):
        with tools.stage.running(subject, size, 1) as place:
            figures = tools.generate(place, "-n", str(size), "-R", "1", *pace)
        results.add(Run(f"growth: room of {size}", subject.name, _cost(figures)))
    for rooms in (0, 1_000, 10_000):
        with tools.stage.running(subject, 100, 1, silent=rooms) as place:
            figures = tools.generate(place, "-n", "100", "-R", "1", *pace)
        results.add(Run(f"growth: {rooms + 1} rooms", subject.name, _cost(figures)))
    for idle in (0, 1_000, 5_000):
        with tools.stage.running(subject, 100, 1, outsiders=5_000) as place:
            if idle:
                with tools.idle_crowd(place, idle, 45):
                    figures = tools.generate(place, "-n", "100", "-R", "1", *pace)
            else:
                figures = tools.generate(place, "-n", "100", "-R", "1", *pace)
        results.add(Run(f"growth: {idle} idle", subject.name, _cost(figures)))


def _cost(figures: dict[str, Any]) -> dict[str, Any]:
    return {**_latency(figures), "cpu_us_message": figures["server_cores"] * 1e6 / figures["messages_s"]}


# --- the client -------------------------------------------------------------------------------------------------------


def client(tools: Tools, results: Results) -> None:
    """What a client pays for a message, in CPU time of this thread."""
    results.add(Run("client", OURS, crypto.figures()))


def archive(tools: Tools, results: Results) -> None:
    """What a client pays to keep 100,000 messages, to load them, and to search them."""
    results.add(Run("archive", OURS, client_store.figures()))
