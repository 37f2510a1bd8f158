"""Seeded schedules of faults against the production code, and what makes them worth believing.

2,000 schedules in eight parts, each run once in its test process and looked at by several tests; half of each part is
run again elsewhere. No part is near its time limit, also where others work. `make simulate SCHEDULES=n SEED=s` runs
more; a failure names its seed and how to see its trace.
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
from tests.simulation.schedule import Schedule, run_schedule

SCHEDULES_IN_A_PART = 250
REPEATED_IN_A_PART = 125
PARTS_IN_A_HALF = 4
# Of the table of faults: those that are a hook of this simulation (its letter S).
ROWS = {3, 4, 5, 6, 7, 22, 23, 24, *range(39, 70), *range(74, 81)}

# Each half stays in one test process, so that its schedules are run once.
HALVES = [pytest.mark.xdist_group(f"simulation-{half}") for half in (0, 1)]
halves = pytest.mark.parametrize("half", [pytest.param(half, marks=mark) for half, mark in enumerate(HALVES)])
parts = pytest.mark.parametrize(
    "part", [pytest.param(n, marks=HALVES[n // PARTS_IN_A_HALF]) for n in range(len(HALVES) * PARTS_IN_A_HALF)]
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@dataclass(slots=True)
class Part:
    """What became of the schedules of one part."""

    broken: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    traces: dict[int, str] = field(default_factory=dict)


@cache
def part_of_them(part: int) -> Part:
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
def test_no_schedule_of_faults_pays_twice_loses_a_refund_or_leaves_the_books_apart(part: int) -> None:
    seen = part_of_them(part)
    assert not seen.broken, "\n".join(seen.broken)
    assert seen.ends["succeeded"] > SCHEDULES_IN_A_PART / 4, "hardly any refund succeeded: giving up is no proof"


@halves
def test_each_kind_of_fault_strikes_while_a_refund_is_open(half: int) -> None:
    first = half * PARTS_IN_A_HALF
    struck = sum((part_of_them(part).faults for part in range(first, first + PARTS_IN_A_HALF)), Counter[str]())
    assert [name for name in FAULTS if not struck[name]] == []


def test_each_row_of_the_fault_table_that_is_a_hook_of_the_simulation_has_a_fault() -> None:
    assert ROWS - {row for fault in FAULTS.values() for row in fault.rows} == set()


@parts
def test_the_same_seed_gives_the_same_trace_in_another_process_in_another_order_under_another_hash_seed(
    part: int,
) -> None:
    """Sets of texts have another order in every process; no decision may hang on it, nor on what ran before."""
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


def test_slow_still_settles_a_refund_that_comes_to_no_end_is_a_broken_promise() -> None:
    """Money checks alone would pass a program that gives up: one that never sweeps moves nothing, and is caught."""

    class NobodySweeps(Schedule):
        def _plan_sweep(self, pause: float) -> None:
            self.plan.broker = False

    outcomes = [NobodySweeps(seed).outcome() for seed in range(1, 11)]
    assert [outcome for outcome in outcomes if outcome and outcome.startswith("L1")] != []
    assert not [seed for seed in range(1, 11) if run_schedule(seed).violation]


CLOCKS = re.compile(r"\b(?:time\.(?:time|time_ns|monotonic|localtime|gmtime)|datetime\.(?:now|utcnow|today))\b")
# An id's first half, the default of `Context.monotonic` (a waiting time within one process), a signature's second.
READ_IN = {"engine/context.py": 2, "engine/notifications/delivery.py": 1}


def test_nothing_is_decided_by_a_processs_own_clock() -> None:
    """So clocks that differ can do no harm: in the simulation a process's only clock, `monotonic`, is minutes off."""
    source = Path(refund_process.__file__).parent.parent
    files = [file for name in ("domain", "engine", "store") for file in (source / name).rglob("*.py")]
    found = {str(file.relative_to(source)): len(CLOCKS.findall(file.read_text("utf-8"))) for file in files}
    assert {name: count for name, count in found.items() if count} == READ_IN


def test_clocks_that_differ_change_nothing_that_happens() -> None:
    class SameClocks(Schedule):
        def context(self, process: Process) -> Context:
            process.skew = 0.0
            return super().context(process)

    struck = 0
    for seed in range(1, 21):
        as_it_is = run_schedule(seed)
        same = SameClocks(seed)
        assert (same.outcome(), same.world.trace_hash()) == (as_it_is.violation, as_it_is.trace_hash)
        struck += as_it_is.faults_while_open["clocks differ"]
    assert struck
