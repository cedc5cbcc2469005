"""A million lines that coverage leads, against the codec; and more against a whole session. Needs atheris.

Each target runs in a process of its own, since the fuzzer never gives one back.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.logger import globalLogPublisher

from securechat.errors import CODES, Refused
from securechat.server.connections import ConnectionLimits
from securechat.wire import codec, limits
from securechat.wire import messages as m
from securechat.wire.lines import LineBuffer, LineTooLong
from tests.doubles import Caller, ServerCase
from tests.long._report import Report, parser
from tests.unit.test_wire_codec import REQUESTS

_MEMORY: Final = 512  # MB that a target may use, seeds and coverage included
_LONGEST: Final = 2048  # bytes of one input
# What a process does that fuzzes: coverage is of what is imported here.
_ATTACK: Final = """\
import atheris
import sys
with atheris.instrument_imports(include=["securechat.wire", "securechat.server", "securechat.link"]):
    from tests.long.fuzz import attack
attack(*sys.argv[1:])
"""


def run(arguments: list[str]) -> int:
    """Runs it; answers the exit status."""
    options = parser("fuzz", __doc__)
    options.add_argument("--codec", type=int, default=1_000_000, help="inputs for the codec (%(default)s)")
    options.add_argument("--session", type=int, default=200_000, help="inputs for a session (%(default)s)")
    chosen = options.parse_args(arguments)
    report = Report("fuzz", chosen.seed)
    figures: dict[str, Any] = {}
    troubles: list[object] = []
    for target in _TARGETS:
        runs = getattr(chosen, target)
        report.say(f"{target}: {runs} inputs")
        with tempfile.TemporaryDirectory(prefix="securechat-fuzz-") as directory:
            done, trouble = _fuzzed(target, runs, chosen.seed, Path(directory))
        figures |= {f"{target}_{name}": value for name, value in done.items()}
        troubles += trouble
        if done.get("inputs", 0) < runs and not trouble:
            troubles.append(f"{target}: only {done}")
    return report.close(figures, troubles)


def _fuzzed(target: str, runs: int, seed: int, directory: Path) -> tuple[dict[str, int], list[object]]:
    """Runs one target in a process of its own; what it did, and what went wrong."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, request in enumerate(REQUESTS):
        (corpus / f"{number:03}").write_bytes(codec.encode(request))
    command = [
        sys.executable, "-c", _ATTACK, target,
        f"-runs={runs}", f"-seed={seed or 1}", f"-max_len={_LONGEST}", f"-rss_limit_mb={_MEMORY}",
        "-print_final_stats=1", "-timeout=10", f"-artifact_prefix={directory}/", str(corpus),
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    ended = subprocess.run(command, cwd=directory, env=environ, capture_output=True, check=False)
    said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
    found = dict(re.findall(r"stat::(\w+): +(\d+)", said))
    figures = {
        "inputs": int(found.get("number_of_executed_units", 0)),
        "a_second": int(found.get("average_exec_per_sec", 0)),
        "peak_mb": int(found.get("peak_rss_mb", 0)),
        "features": max(map(int, re.findall(r" ft: (\d+)", said)), default=0),
    }
    if ended.returncode == 0:
        return figures, []
    kept = [path.read_bytes()[:2000] for path in directory.iterdir() if path.is_file()]
    return figures, [f"{target}: exit {ended.returncode}\n{said[-3000:]}\nthe input: {kept}"]


def attack(target: str, *arguments: str) -> None:
    """The process that fuzzes; it ends within."""
    import atheris

    atheris.Setup([sys.argv[0], *arguments], _TARGETS[target]())
    atheris.Fuzz()


def _codec() -> Callable[[bytes], None]:
    """Bytes through the line buffer into each decoder: a packet, or a refusal in few printable words."""
    decoders = codec.decode_request, codec.decode_event, lambda line: codec.decode_reply(line, m.History)

    def feed(data: bytes) -> None:
        buffer = LineBuffer(limits.MAX_LINE_GREETED)
        half = len(data) // 2
        for piece in (data[:half], data[half:], b"\n"):
            buffer.feed(piece)
            try:
                for line in buffer.lines():
                    for decode in decoders:
                        _judged(decode, line)
            except LineTooLong:
                return

    return feed


def _judged(decode: Callable[[bytes], object], line: bytes) -> None:
    try:
        decode(line)
    except Refused as refusal:
        text = str(refusal)
        if not text.isprintable() or len(text) > 300:
            raise AssertionError(text) from refusal


class _Server(ServerCase):
    """A server in memory, for a session to be fuzzed."""

    LIMITS = ConnectionLimits(messages_per_second=1e6, message_burst=1e6)
    LOGINS = 10**9

    def runTest(self) -> None:
        """There is none."""


def _session() -> Callable[[bytes], None]:
    """Bytes to a connection, before a login and after one: only known codes, and no fault in the log."""
    server = _Server()
    server.setUp()
    server.member(server.alice, "ops").lose()
    faults: list[Any] = []
    globalLogPublisher.addObserver(lambda event: faults.append(event) if "log_failure" in event else None)
    callers: dict[bool, Caller] = {}

    def feed(data: bytes) -> None:
        ready = bool(data[:1] and data[0] & 1)
        caller = callers.pop(ready, None) or (server.member(server.alice) if ready else server.call())
        before = len(caller.raw)
        caller.protocol.dataReceived(data + b"\n")
        server.reactor.advance(0.2)
        for line in caller.raw[before:].splitlines():
            code = json.loads(line).get("code", "bad_packet")
            if code not in CODES or code == "internal":
                raise AssertionError(line)
        if faults:
            raise AssertionError(faults[0])
        session = caller.protocol.session
        fresh = session is not None and not session.gone and (session.user == "alice") is ready
        if fresh and len(caller.raw) < 100_000:
            callers[ready] = caller
        else:
            caller.lose()

    return feed


_TARGETS: Final[dict[str, Callable[[], Callable[[bytes], None]]]] = {"codec": _codec, "session": _session}
