"""How soon a client is of use: a person who comes back to 50 rooms, with a real client on a terminal of its own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from bench.extras import OURS, Tools
from bench.processes import HERE, PATIENCE, BenchError, end
from bench.scenarios import Results, Run
from bench.subjects import SUBJECTS
from bench.terminal import PASSWORD, Terminal

ROOMS: Final = 50
MESSAGES: Final = 100  # in each room
STARTS: Final = 10
_PREPARING: Final = 600.0  # seconds that a script may take to fill the rooms


def start(tools: Tools, results: Results) -> None:
    """From the start of the process to the question for the password; from its Enter until rooms and typing are there.

    With the server there, and with it gone: what is on this machine must be there as soon.
    """
    settings = {"registration": "open", "messages_per_second": 1e6, "message_burst": 1e6}
    with tools.stage.running(SUBJECTS[OURS], 2, 1, settings=settings) as place:
        assert place.data is not None
        line = (place.data / "connect.txt").read_text(encoding="ascii").strip()
        directory = tools.stage.fresh() / "alice"
        directory.mkdir(mode=0o700)
        _fill(directory, line)
        results.add(Run("start", OURS, _figures([_started(tools, directory) for _ in range(STARTS)])))
        end(place.process)
        results.add(Run("start-away", OURS, _figures([_started(tools, directory) for _ in range(STARTS)])))


def _fill(directory: Path, line: str) -> None:
    """An account in its rooms, which have been talked in."""
    typed = [f"/register alice {PASSWORD}"]
    for room in range(ROOMS):
        typed += [f"/join room{room}", *(f"what was said, number {number}" for number in range(MESSAGES))]
    done = subprocess.run(
        [sys.executable, "-m", "securechat", "--plain", "--data-dir", str(directory), line],
        input="\n".join([*typed, "/exit", ""]),
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "HOME": str(directory.parent)},
        cwd=directory.parent,
        capture_output=True,
        text=True,
        timeout=_PREPARING,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the rooms could not be filled: {done.stderr[-300:]}")


def _started(tools: Tools, directory: Path) -> tuple[float, float]:
    """Seconds to the question, and from its answer until a key that is typed shows up under the rooms."""
    began = time.perf_counter()
    client = Terminal(tools.stage.machine, directory, "")
    try:
        _drawn(client, "Password of alice")
        asked = time.perf_counter()
        client.drawn = b""
        client.type(PASSWORD)
        typed = time.perf_counter()
        _drawn(client, "Your rooms: ")
        client.drawn = b""
        os.write(client.fd, b"/switch room7")
        _drawn(client, "room7")
        return asked - began, time.perf_counter() - typed
    finally:
        client.close()


def _drawn(client: Terminal, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while text.encode() not in client.drawn:
        if time.monotonic() > deadline:
            raise BenchError(f"{text!r} was never drawn: {client.drawn[-300:]!r}")
        select.select([client.fd], [], [], 0.5)
        client.read()


def _figures(times: list[tuple[float, float]]) -> dict[str, float]:
    prompts, rooms = zip(*times, strict=True)
    return {"prompt_p50_ms": median(prompts) * 1000, "rooms_p50_ms": median(rooms) * 1000}
