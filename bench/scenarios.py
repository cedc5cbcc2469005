"""What is sent, by how many, to how many; and the runs of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.processes import BenchError, generate
from bench.subjects import SUBJECTS, Stage, Subject, faults

NOT_RUN: Final = "not run"
WARM_UP: Final = 0.5  # seconds before anything is measured
PAYLOAD: Final = 400  # bytes of a peer's line or body, and characters of our ciphertext
_GENERATOR_BOUND: Final = 0.95  # cores: above this the generator was the slower one, unless the server was busy too


@dataclass(frozen=True)
class Scenario:
    """A load.

    Attributes:
        window: messages of one sender under way; 0 where `rate` sets the pace.
        rate: messages a second in all, due at fixed times; latency counts from then.
        subjects: who is put under it.
        payload: see `PAYLOAD`.
    """

    name: str
    about: str
    clients: int
    rooms: int
    senders: int
    window: int = 0
    rate: float = 0
    subjects: tuple[str, ...] = ()
    payload: int = PAYLOAD

    def arguments(self, subject: Subject, seconds: float) -> list[str]:
        """The generator's part."""
        window = min(self.window, subject.window or self.window)
        pace = ["-r", f"{self.rate:g}"] if self.rate else ["-w", str(window)]
        return [
            "-n", str(self.clients), "-R", str(self.rooms), "-s", str(self.senders), *pace, "-l", str(self.payload),
            "-d", f"{seconds:g}", "-W", f"{min(WARM_UP, seconds):g}",
        ]  # fmt: skip


_PLAIN: Final = ("securechat", "c-imm", "c-batch", "ngircd", "inspircd", "nats", "mosquitto", "prosody")
_V1_BYTES: Final = 2252  # a v1 delivery to one of 100 readers, without what the plain protocol adds

SCENARIOS: Final[Mapping[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "A", "1 room of 100, 10 senders, window 40", 100, 1, 10, window=40, subjects=(*_PLAIN, "mosquitto-qos0")
        ),
        Scenario("B", "100 rooms of 10, 1 sender each, window 4", 1000, 100, 1, window=4, subjects=_PLAIN),
        Scenario("C", "1 room of 1000, 10 senders, window 4", 1000, 1, 10, window=4, subjects=_PLAIN[:-1]),
        Scenario("E", "1 room of 100, 200 messages a second", 100, 1, 10, rate=200, subjects=_PLAIN),
        Scenario(
            "TLS", "A over TLS 1.3", 100, 1, 10, window=40, subjects=("securechat-tls", "ngircd-tls", "mosquitto-tls")
        ),
        Scenario("V1", "A with v1 packages, window 4", 100, 1, 10, window=4, subjects=("securechat-v1", "naive")),
        Scenario("V1-bytes", "V1's bytes in clear", 100, 1, 10, window=4, subjects=("c-imm",), payload=_V1_BYTES),
    )
}


@dataclass(frozen=True)
class Run:
    """One measurement of one subject.

    Attributes:
        figures: by name; units stand in the names.
        failed: why it counts for nothing, or "".
    """

    scenario: str
    subject: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    failed: str = ""


class Results:
    """All runs, and what they say together."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs = list(runs)

    def add(self, run: Run) -> None:
        """One more run."""
        self.runs.append(run)

    def of(self, scenario: str, subject: str) -> list[Run]:
        """The runs of a subject under a load."""
        return [run for run in self.runs if (run.scenario, run.subject) == (scenario, subject)]

    def value(self, scenario: str, subject: str, figure: str) -> float | None:
        """The median of a figure over the runs that count; None where there is none."""
        values = [run.figures[figure] for run in self.of(scenario, subject) if not run.failed and figure in run.figures]
        return float(median(values)) if values else None

    def failure(self, scenario: str, subject: str) -> str:
        """Why there is no value: what the first failed run says, or that there was no run."""
        failed = [run.failed for run in self.of(scenario, subject) if run.failed]
        return failed[0] if failed else NOT_RUN

    def failures(self) -> list[Run]:
        """Runs that went wrong, which must not go unseen."""
        return [run for run in self.runs if run.failed and not run.failed.startswith("not ")]

    def columns(self) -> Iterator[tuple[str, str]]:
        """Which subject ran under which load, each once, in the order of the first run."""
        yield from dict.fromkeys((run.scenario, run.subject) for run in self.runs)

    def to_fields(self) -> list[dict[str, Any]]:
        """For a file of JSON."""
        return [asdict(run) for run in self.runs]

    @classmethod
    def from_fields(cls, fields: Sequence[Mapping[str, Any]]) -> Results:
        """From such a file."""
        return cls(Run(**each) for each in fields)


@dataclass
class Plan:
    """Which scenarios are run for whom, how long and how often.

    Attributes:
        deadline: of `time.monotonic`; what would begin later is left out and reported so.
        say: told what is going on.
    """

    stage: Stage
    generator: Path
    peers: Sequence[str]
    seconds: float
    rounds: int
    deadline: float
    say: Callable[[str], None]

    def wanted(self, subject: Subject) -> bool:
        """Whether a subject is ours or one of the peers that were asked for."""
        return subject.kind in ("daemon", "reference", "naive") or subject.kind in self.peers

    @property
    def late(self) -> bool:
        """Whether nothing more may begin."""
        return time.monotonic() > self.deadline

    def run(self, names: Sequence[str], results: Results) -> None:
        """All rounds: each goes over all scenarios and subjects, so that a slow minute hits everybody alike."""
        for number in range(self.rounds):
            for scenario in (SCENARIOS[name] for name in names):
                for subject in (SUBJECTS[name] for name in scenario.subjects):
                    if self.wanted(subject) and not (subject.missing and number):
                        self.say(f"round {number + 1}/{self.rounds}: {scenario.name}, {subject.name}")
                        results.add(self.one(scenario, subject))

    def one(self, scenario: Scenario, subject: Subject) -> Run:
        """One run; what goes wrong is told in it."""
        if subject.missing:
            return Run(scenario.name, subject.name, failed="not installed")
        if self.late:
            return Run(scenario.name, subject.name, failed="not run: out of time")
        try:
            with self.stage.running(subject, scenario.clients, scenario.rooms) as place:
                arguments = [*place.arguments, *scenario.arguments(subject, self.seconds)]
                figures = generate(
                    self.stage.machine, self.generator, arguments, self.stage.directory / "generator.log"
                )
                wrong = faults(place) if subject.kind == "daemon" else []
        except BenchError as error:
            return Run(scenario.name, subject.name, failed=str(error))
        failed = figures.pop("failed") or (f"a fault in the daemon: {wrong[0]}" if wrong else "")
        return Run(scenario.name, subject.name, figures, failed)


def generator_bound(figures: Mapping[str, Any]) -> bool:
    """Whether the generator was the bottleneck, so that the server could have done more."""
    return bool(figures["generator_cores"] > _GENERATOR_BOUND > figures["server_cores"])
