"""Seeded schedules of faults against the production code, and tests that show that they are meaningful.

The 960 schedules are in eight parts. Each part runs once in its test process, and several tests use its result. Some
schedules of each part run again in another process. No part comes near its time limit, even on a busy machine. `make
simulate SCHEDULES=n SEED=s` runs more. A failure names its seed and the command that shows its trace.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from refund_worker.engine.context import Context
from refund_worker.engine.refunds import process as refund_process
from tests.simulation.faults import FAULTS
from tests.simulation.kernel import Process
from tests.simulation.processes import Processes
from tests.simulation.schedule import Schedule, run_schedule

SCHEDULES_IN_A_PART = 120
REPEATED_IN_A_PART = 15
PARTS_IN_A_HALF = 4
# Rows of the table of faults that have a hook in this simulation (its letter S).
ROWS = {3, 4, 5, 6, 7, 22, 23, 24, *range(39, 70), *range(74, 81)}

# Each half runs in one test process, so that its schedules run once.
HALVES = [pytest.mark.xdist_group(f"simulation-{half}") for half in (0, 1)]
halves = pytest.mark.parametrize("half", [pytest.param(half, marks=mark) for half, mark in enumerate(HALVES)])
parts = pytest.mark.parametrize(
    "part", [pytest.param(n, marks=HALVES[n // PARTS_IN_A_HALF]) for n in range(len(HALVES) * PARTS_IN_A_HALF)]
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
        result = run_schedule(seed)
        seen.ends += result.ends
        seen.faults += result.faults_while_open
        seen.traces[seed] = result.trace_hash
        if result.violation:
            seen.broken.append(f"{result.violation}\n  .venv/bin/python -m tests.simulation --replay {seed}")
    return seen


@parts
def test_no_schedule_of_faults_breaks_a_promise(part: int) -> None:
    seen = part_of_them(part)
    assert not seen.broken, "\n".join(seen.broken)
    assert seen.ends["succeeded"] > SCHEDULES_IN_A_PART / 4, "too few refunds succeeded: the checks prove little then"


@halves
def test_each_kind_of_fault_strikes_while_a_refund_is_open(half: int) -> None:
    first = half * PARTS_IN_A_HALF
    struck = sum((part_of_them(part).faults for part in range(first, first + PARTS_IN_A_HALF)), Counter[str]())
    assert [name for name in FAULTS if not struck[name]] == []


def test_each_simulated_row_of_the_fault_table_has_a_fault() -> None:
    assert ROWS - {row for fault in FAULTS.values() for row in fault.rows} == set()


@parts
def test_same_seed_gives_the_same_trace_in_another_process(
    part: int,
) -> None:
    """Sets of texts have a different order in each process. No decision may depend on it, or on earlier schedules."""
    here = part_of_them(part).traces
    seeds = sorted(here, reverse=True)[:REPEATED_IN_A_PART]
    program = (
        "import sys\n"
        "from tests.simulation.schedule import run_schedule\n"
        "for seed in map(int, sys.argv[1:]):\n"
        "    print(seed, run_schedule(seed).trace_hash)\n"
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


def test_refund_that_never_becomes_final_is_a_broken_promise() -> None:
    """Checks of money alone would pass a program that does nothing. One that never sweeps must be noticed."""

    class NeverSweeps(Processes):
        def plan_sweep(self, pause: float) -> None:
            self.plan.broker = False

    class Lazy(Schedule):
        runner = NeverSweeps

    outcomes = [Lazy(seed).outcome() for seed in range(1, 11)]
    assert [outcome for outcome in outcomes if outcome and outcome.startswith("L1")] != []
    assert not [seed for seed in range(1, 11) if run_schedule(seed).violation]


CLOCKS = re.compile(r"\b(?:time\.(?:time|time_ns|monotonic|localtime|gmtime)|datetime\.(?:now|utcnow|today))\b")
# The first half of an id, the default of `Context.monotonic` (waits within one process), the second of a signature.
READ_IN = {"engine/context.py": 2, "engine/notifications/delivery.py": 1}


def test_no_decision_uses_the_clock_of_a_process() -> None:
    """Different clocks can do no harm: in the simulation the only clock of a process, `monotonic`, is minutes off."""
    source = Path(refund_process.__file__).parents[2]
    files = [file for name in ("domain", "engine", "store") for file in (source / name).rglob("*.py")]
    found = {str(file.relative_to(source)): len(CLOCKS.findall(file.read_text("utf-8"))) for file in files}
    assert {name: count for name, count in found.items() if count} == READ_IN


def test_different_clocks_do_not_change_the_trace() -> None:
    class SameClocks(Processes):
        def context(self, process: Process) -> Context:
            process.skew = 0.0
            return super().context(process)

    class InStep(Schedule):
        runner = SameClocks

    struck = 0
    for seed in range(1, 21):
        as_it_is = run_schedule(seed)
        same = InStep(seed)
        assert (same.outcome(), same.world.trace_hash()) == (as_it_is.violation, as_it_is.trace_hash)
        struck += as_it_is.faults_while_open["clocks differ"]
    assert struck
