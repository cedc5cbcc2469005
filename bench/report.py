"""Results as text for a terminal, as Markdown for docs/performance.md, and as JSON."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.goals import Verdict, judged
from bench.scenarios import NOT_RUN, SCENARIOS, Results, generator_bound

_LOADS: Final = (  # title, figure
    ("deliveries/s", "deliveries_s"),
    ("µs/delivery", "cpu_us"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("RSS MB", "rss"),
    ("B/delivery", "bytes_delivery"),
)
_NUMBER: Final = re.compile(r"([≥≤] )?[\d.,e+-]+( ?(×|µs|ms|s|kB))?")
Table = Sequence[Sequence[str]]


def number(value: float) -> str:
    """Three digits, and more only before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """This machine and this moment, in a line."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    python = platform.python_version()
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}, Python {python}; {when}"


def loads(results: Results) -> Table:
    """Every subject under every load; medians over the rounds."""
    rows = [["load", "server", *(title for title, _ in _LOADS), ""]]
    for scenario, subject in results.columns():
        if scenario not in SCENARIOS:
            continue
        found = {name: results.value(scenario, subject, name) for _, name in _LOADS}
        if found["deliveries_s"] is None:
            rows.append([scenario, subject, *[""] * len(_LOADS), results.failure(scenario, subject)])
            continue
        found["rss"] = (found["rss"] or 0) / 1e6
        cells = [number(found[name] or 0) for _, name in _LOADS]
        rows.append([scenario, subject, *cells, _remark(results, scenario, subject)])
    return rows


def _remark(results: Results, scenario: str, subject: str) -> str:
    runs = results.of(scenario, subject)
    failed = [run.failed for run in runs if run.failed]
    if failed:
        return f"{len(failed)} of {len(runs)} runs failed: {failed[0]}"
    return "the generator was the slower one" if any(generator_bound(run.figures) for run in runs) else ""


def others(results: Results) -> Table:
    """What is measured otherwise, figure by figure."""
    rows = [["measurement", "server", "figure", "value"]]
    for scenario, subject in results.columns():
        if scenario in SCENARIOS:
            continue
        names = dict.fromkeys(name for run in results.of(scenario, subject) for name in run.figures)
        values = {name: results.value(scenario, subject, name) for name in names}
        rows.extend([scenario, subject, name, number(value)] for name, value in values.items() if value is not None)
        if not any(value is not None for value in values.values()):
            rows.append([scenario, subject, "", results.failure(scenario, subject)])
    return rows


def goals(verdicts: Sequence[Verdict]) -> Table:
    """Every goal with what came of it."""
    rows = [["goal", "target", "reached", "verdict"]]
    for verdict in verdicts:
        goal = verdict.goal
        sign = "≥" if goal.at_least else "≤"
        space = "" if goal.unit == "×" else " "
        reached = "" if verdict.value is None else f"{number(verdict.value)}{space}{goal.unit}"
        rows.append([goal.text, f"{sign} {goal.target:g}{space}{goal.unit}", reached, verdict.text])
    return rows


def text(table: Table) -> str:
    """A table for a terminal: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if _NUMBER.fullmatch(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(table: Table) -> str:
    """The same table for docs/performance.md."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([head, "|" + "---|" * len(table[0]), *rows])


def whole(results: Results, about: Mapping[str, Any], *, as_markdown: bool = False) -> str:
    """All tables, with the machine they were made on."""
    render = markdown if as_markdown else text
    parts = [str(about["machine"]), str(about["how"])]
    verdicts = judged(results)
    asked = [verdict for verdict in verdicts if not verdict.why.endswith(NOT_RUN)]
    if len(asked) < len(verdicts):  # not all was asked for, so what can be measured nowhere here is of no interest
        asked = [verdict for verdict in asked if not verdict.goal.elsewhere]
    for table in (loads(results), others(results), goals(asked)):
        if len(table) > 1:
            parts.append(render(table))
    if len(asked) < len(verdicts):
        parts.append(f"{len(verdicts) - len(asked)} of {len(verdicts)} goals are about what was not run.")
    wrong = [f"FAILED: {run.scenario}, {run.subject}: {run.failed}" for run in results.failures()]
    return "\n\n".join([*parts, *(["\n".join(wrong)] if wrong else [])]) + "\n"
