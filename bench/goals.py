"""The goals of the project's design as data, and what measurements say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.scenarios import Results


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: a figure of a subject under a load."""

    scenario: str
    subject: str
    name: str

    def of(self, results: Results) -> float | None:
        """Its value, if it was measured."""
        return results.value(self.scenario, self.subject, self.name)


@dataclass(frozen=True, slots=True)
class Goal:
    """What shall hold.

    Attributes:
        target: `ours` must be at least this (`at_least`), or at most; as a multiple of `theirs` where there is one.
        unit: of the target; "×" for multiples.
        elsewhere: why it cannot be measured here; "" where it can.
    """

    text: str
    target: float
    ours: Figure | None = None
    theirs: Figure | None = None
    at_least: bool = False
    unit: str = "×"
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a goal. `value` is None where `why` says why there is none."""

    goal: Goal
    value: float | None
    why: str = ""

    @property
    def met(self) -> bool:
        """Whether it holds; False where it was not measured."""
        if self.value is None:
            return False
        return self.value >= self.goal.target if self.goal.at_least else self.value <= self.goal.target

    @property
    def margin(self) -> float:
        """By what part of the target it is met, or (below 0) missed."""
        assert self.value is not None
        part = self.value / self.goal.target - 1
        return part if self.goal.at_least else -part

    @property
    def text(self) -> str:
        """``met by 12 %``, ``not met by 40 %``, or why there is no saying."""
        if self.value is None:
            return f"not measured: {self.why}"
        return f"{'met' if self.met else 'not met'} by {abs(self.margin) * 100:.0f} %"


def judge(goal: Goal, results: Results) -> Verdict:
    """Holds one goal against what was measured."""
    if goal.ours is None or goal.elsewhere:
        return Verdict(goal, None, goal.elsewhere or "no measurement is named")
    for figure in filter(None, (goal.ours, goal.theirs)):
        if figure.of(results) is None:
            return Verdict(goal, None, f"{figure.subject} in {figure.scenario}: {_why(figure, results)}")
    value = goal.ours.of(results)
    assert value is not None
    if goal.theirs is not None:
        other = goal.theirs.of(results)
        if not other:
            return Verdict(goal, None, f"{goal.theirs.subject} in {goal.theirs.scenario} gave 0")
        value /= other
    return Verdict(goal, value)


def _why(figure: Figure, results: Results) -> str:
    return results.failure(figure.scenario, figure.subject)


def judged(results: Results, goals: Sequence[Goal] | None = None) -> list[Verdict]:
    """All goals."""
    return [judge(goal, results) for goal in (GOALS if goals is None else goals)]


def _throughput(scenario: str, theirs: str, target: float, ours: str = "securechat", words: str = "") -> Goal:
    return Goal(
        f"{scenario}: deliveries/s v. {words or theirs}",
        target,
        Figure(scenario, ours, "deliveries_s"),
        Figure(scenario, theirs, "deliveries_s"),
        at_least=True,
    )


def _at_most(text: str, target: float, unit: str, scenario: str, name: str, subject: str = "securechat") -> Goal:
    return Goal(text, target, Figure(scenario, subject, name), unit=unit)


GOALS: Final[tuple[Goal, ...]] = (
    _throughput("A", "inspircd", 1.5),
    _throughput("A", "ngircd", 2.5),
    _throughput("A", "nats", 1.5),
    _throughput("A", "mosquitto", 40, words="mosquitto QoS 1"),
    _throughput("A", "prosody", 300, words="prosody with its archive"),
    _throughput("A", "c-batch", 0.45),
    _throughput("B", "ngircd", 2),
    _throughput("B", "inspircd", 0.5),
    _throughput("B", "c-imm", 0.9),
    _throughput("C", "ngircd", 3),
    Goal("E: CPU a delivery v. c-imm", 1.6, Figure("E", "securechat", "cpu_us"), Figure("E", "c-imm", "cpu_us")),
    _at_most("E: p99", 5, "ms", "E", "p99_ms"),
    Goal("E: p99 v. ngircd", 1, Figure("E", "securechat", "p99_ms"), Figure("E", "ngircd", "p99_ms")),
    _throughput("TLS", "mosquitto-tls", 7, "securechat-tls", "mosquitto QoS 1"),
    _throughput("TLS", "ngircd-tls", 2, "securechat-tls", "ngircd"),
    _throughput("V1", "naive", 10, "securechat-v1", "the naive form"),
    Goal(
        "V1: CPU a delivery v. c-imm with the same bytes",
        2,
        Figure("V1", "securechat-v1", "cpu_us"),
        Figure("V1-bytes", "c-imm", "cpu_us"),
    ),
    _at_most("memory an idle connection", 6, "kB", "memory", "kb_connection"),
    _at_most("memory an idle connection over TLS", 34, "kB", "memory", "kb_connection", "securechat-tls"),
    _at_most("1000 joins at once: CPU a join", 150, "µs", "joins", "enter_cpu_us"),
    _at_most("history of 50 in a million, hot: p50", 0.8, "ms", "history", "hot_p50_ms"),
    _at_most("history of 50 in a million, hot: p99", 3, "ms", "history", "hot_p99_ms"),
    _at_most("history of 50 in a million, cold: p50", 3, "ms", "history", "cold_p50_ms"),
    _at_most("history of 50 in a million, cold: p99", 8, "ms", "history", "cold_p99_ms"),
    _at_most("history of 50 v1 packages to 100: p50", 3, "ms", "history-v1", "hot_p50_ms"),
    Goal(
        "login storm at bcrypt cost 12: p99 v. none",
        1.5,
        Figure("storm", "securechat", "p99_ms"),
        Figure("storm-none", "securechat", "p99_ms"),
    ),
    Goal(
        "CPU a delivery: how many times less than Synapse",
        500,
        at_least=True,
        elsewhere="Synapse is no Debian package here and is not installed; the prototypes saw 350 to 1250",
    ),
    _at_most("felt, idle: p50", 25, "ms", "felt", "p50_ms"),
    _at_most("felt, idle: p99", 100, "ms", "felt", "p99_ms"),
    _at_most("felt, login storm and a flood of 100: p99", 250, "ms", "felt-storm", "p99_ms"),
    _at_most("client: v1 seal, 1 KiB to 100", 15, "ms", "client", "seal_v1_ms"),
    _at_most("client: v1 open", 5, "ms", "client", "open_v1_ms"),
    _at_most("client: search in 100,000 messages, the slowest of eight", 100, "ms", "archive", "search_ms"),
    Goal("client: v2 send", 0.4, unit="ms", elsewhere="clients do not make v2 packages yet"),
    Goal("client: v2 open", 0.6, unit="ms", elsewhere="clients do not open v2 packages yet"),
    _at_most("client: start to the question for the password: p50", 800, "ms", "start", "prompt_p50_ms"),
    _at_most("client: password to 50 rooms: p50", 800, "ms", "start", "rooms_p50_ms"),
    _at_most("client: password to 50 rooms, server away: p50", 800, "ms", "start-away", "rooms_p50_ms"),
)
