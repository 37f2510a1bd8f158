"""A few schedules from fixed seeds, up to the first broken promise: what `make mutants` maps its defects to.

Defects of giving up or of haste move no money twice in most schedules; that these notice them is the proof that the
simulation checks causes, ages and times, and not the sums alone.
"""

from __future__ import annotations

import pytest

from tests.simulation.schedule import run_schedule

# Beyond those that `test_simulation` runs.
SEEDS = range(2_001, 2_151)


@pytest.mark.slow
def test_these_schedules_break_no_promise() -> None:
    for seed in SEEDS:
        violation = run_schedule(seed).violation
        assert violation is None, f"{violation}\n  .venv/bin/python -m tests.simulation --replay {seed}"
