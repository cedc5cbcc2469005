"""Power cuts, 5,000 of them: images of what a disk may have kept of a real store's writes, each opened and checked."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests import powercut, shim
from tests.long._report import Report, parser
from tests.powercut import NORMAL, OFF, Found

_EACH: Final = 100  # cuts a recording
_MUTANT_CUTS: Final = 100
_STEP: Final = 10  # recordings between two lines of progress


def run(arguments: list[str]) -> int:
    """Runs it; answers the exit status."""
    options = parser("powercut", __doc__)
    options.add_argument("--cuts", type=int, default=5000, help="power cuts (%(default)s)")
    chosen = options.parse_args(arguments)
    report = Report("powercut", chosen.seed)
    if shim.library() is None:
        report.say(f"cannot run: {shim.MISSING}")
        return 1
    total, number = Found(), 0
    while total.cuts < chosen.cuts:
        seed = chosen.seed + number
        total.add(_one(seed, min(_EACH, chosen.cuts - total.cuts), **powercut.KINDS[number % len(powercut.KINDS)]))
        number += 1
        if number % _STEP == 0:
            report.say(f"{total.cuts} cuts, {total.lost} lost, {total.damaged} damaged")
    troubles: list[object] = []
    if total.lost or total.damaged:
        troubles.append(f"{total.lost} lost, {total.damaged} damaged: {total.first}")
    if not total.recovered or not total.failed_syncs:
        troubles.append("no message was under way at a cut, or no sync failed: this tested nothing")
    mutants = {}
    for name, level in (("NORMAL", NORMAL), ("OFF", OFF)):
        found = _one(chosen.seed, _MUTANT_CUTS, messages=60, autocheckpoint=32, synchronous=level)
        mutants[f"lost or damaged of {_MUTANT_CUTS} with {name}"] = found.lost + found.damaged
        if not found.lost:
            troubles.append(f"with synchronous={name} nothing was lost: the test has no teeth")
    figures = {name: value for name, value in asdict(total).items() if name != "first"}
    return report.close({"recordings": number, **figures, **mutants}, troubles)


def _one(seed: int, cuts: int, **kind: int) -> Found:
    """One recording, and cuts of it."""
    with tempfile.TemporaryDirectory(prefix="securechat-powercut-") as directory:
        return powercut.cut(powercut.record(Path(directory) / "recording", seed=seed, **kind), cuts, seed)
