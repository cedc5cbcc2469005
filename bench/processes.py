"""Processes of the bench: built, pinned to a core, waited for, and ended by their own ids."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PATIENCE: Final = 30.0  # seconds for a server to start or to end
GENERATOR_SECONDS: Final = 240.0  # that one run of the generator may take; it bounds its own phases below that
_FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
_LOOK: Final = 0.02  # seconds


class BenchError(Exception):
    """A measurement cannot be made; the text says why."""


@dataclass(frozen=True)
class Machine:
    """Where things run.

    Attributes:
        server_core, generator_core: of the servers and of those who load them.
        priority: of their scheduling groups, -20 to 19, where the machine does other work too; 0 leaves it alone.
    """

    server_core: int = 0
    generator_core: int = 1
    priority: int = 0

    def spawn(
        self, command: Sequence[str], core: int, log: Path, environ: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        """Starts a command in a session of its own, pinned to a core, its output in a file."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command] if shutil.which("taskset") else list(command),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
                **{"stdout": output, "stderr": output, **more},
            )
        if self.priority:
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/autogroup").write_text(str(self.priority), encoding="ascii")
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process of ours: asked first, then killed."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE / 3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE)


def free_port() -> int:
    """A port of this machine that nobody listens on right now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until somebody listens. Raises BenchError with the end of the log."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(_LOOK)
    said = log.read_text(errors="replace")[-600:]
    raise BenchError(f"{str(process.args)[:120]} does not listen on {port}: {said}")


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def build(directory: Path) -> tuple[Path, Path]:
    """Compiles the generator and the reference server into a directory. Raises BenchError."""
    cc = compiler()
    if cc is None:
        raise BenchError("There is no C compiler here; install gcc and the headers of OpenSSL (libssl-dev).")
    made = directory / "generator", directory / "reference"
    for target, sources, libraries in (
        (made[0], sorted((HERE / "generator").glob("*.c")), ("-lssl", "-lcrypto")),
        (made[1], [HERE / "reference" / "server.c"], ()),
    ):
        command = [cc, *_FLAGS, "-o", str(target), *map(str, sources), *libraries]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{target.name} does not compile:\n{done.stderr[-2000:]}")
    return made


def generate(machine: Machine, generator: Path, arguments: Sequence[str], log: Path) -> dict[str, Any]:
    """Runs the generator once; its figures, with `failed` saying why they count for nothing, or "".

    Raises:
        BenchError: it gave no figures.
    """
    process = machine.spawn(
        [str(generator), *arguments, "-c", str(machine.generator_core)],
        machine.generator_core,
        log,
        stdout=subprocess.PIPE,
    )
    try:
        said, _ = process.communicate(timeout=GENERATOR_SECONDS)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the generator took longer than {GENERATOR_SECONDS:g} s") from None
    finally:
        end(process)
    try:
        figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchError(f"the generator gave no figures: {log.read_text(errors='replace')[-300:]}") from None
    return figures | {"failed": failure(figures) or ("" if process.returncode == 0 else "the generator says so")}


def failure(figures: Mapping[str, Any]) -> str:
    """Why a run counts for nothing; "" where it counts."""
    if figures["errors"]:
        return f"{figures['errors']} refusals, the first: {figures['error']}"
    if figures["dead"]:
        return f"{figures['dead']} connections died"
    if figures["entered"] < figures["clients"]:
        return f"only {figures['entered']} of {figures['clients']} entered in time"
    if figures["lost"]:
        return f"{figures['lost']} of {figures['sent']} messages lost"
    return ""
