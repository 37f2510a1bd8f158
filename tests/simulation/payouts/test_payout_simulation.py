"""Seeded schedules of faults with payouts beside the refunds. `python -m tests.simulation.payouts` runs more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import pytest

from tests.simulation.payouts.payout_plan import RATES
from tests.simulation.payouts.payout_schedule import PayoutProcesses, PayoutSchedule, run_payout_schedule

SCHEDULES_IN_A_PART = 45
REPEATED = 3
PARTS = 4
# Faults of payouts' plans that strike only where others are drawn too.
DRAWN_ELSEWHERE = {"request lost", "answer lost", "effect later", "500, effect", "failed later"}
parts = pytest.mark.parametrize(
    "part", [pytest.param(n, marks=pytest.mark.xdist_group(f"payouts-{n % 2}")) for n in range(PARTS)]
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@dataclass(slots=True)
class Part:
    """The results of the schedules of one part."""

    broken: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    traces: dict[int, str] = field(default_factory=dict)


@cache
def part_of_them(part: int) -> Part:
    """Run the schedules of the part once, and return their results."""
    seen = Part()
    first = part * SCHEDULES_IN_A_PART + 1
    for seed in range(first, first + SCHEDULES_IN_A_PART):
        result = run_payout_schedule(seed)
        seen.ends += result.ends
        seen.faults += result.faults_while_open
        seen.traces[seed] = result.trace_hash
        if result.violation:
            seen.broken.append(f"{result.violation}\n  .venv/bin/python -m tests.simulation.payouts --replay {seed}")
    return seen


@parts
def test_no_schedule_of_faults_breaks_a_promise(part: int) -> None:
    seen = part_of_them(part)
    assert not seen.broken, "\n".join(seen.broken)
    assert seen.ends["settled"] > SCHEDULES_IN_A_PART / 3, "too few payouts were paid: the checks prove little then"
    assert seen.ends["returned"]
    assert seen.ends["failed"]


@parts
def test_faults_of_payouts_strike_while_one_is_open(part: int) -> None:
    struck = part_of_them(part).faults
    missing = [name for name in RATES if not struck[name] and name not in DRAWN_ELSEWHERE]
    assert len(missing) < 3, missing


@parts
def test_same_seed_gives_the_same_trace_in_another_process(part: int) -> None:
    here = part_of_them(part).traces
    seeds = sorted(here, reverse=True)[:REPEATED]
    program = (
        "import sys\n"
        "from tests.simulation.payouts.payout_schedule import run_payout_schedule\n"
        "for seed in map(int, sys.argv[1:]):\n"
        "    print(seed, run_payout_schedule(seed).trace_hash)\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": str(part + 7)},
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert there.stdout.split() == [word for seed in seeds for word in (str(seed), here[seed])]


def test_payout_that_never_ends_is_a_broken_promise() -> None:
    """Checks of money alone would pass a program that does nothing."""

    class NeverSweeps(PayoutProcesses):
        def plan_sweep(self, pause: float) -> None:
            self.plan.broker = False

    class Lazy(PayoutSchedule):
        runner = NeverSweeps

    outcomes = [Lazy(seed).outcome() for seed in range(1, 6)]
    assert [outcome for outcome in outcomes if outcome and outcome.startswith("L1")] != []
