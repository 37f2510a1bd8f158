"""A few schedules with fixed seeds, up to the first broken promise. `make mutants` maps defects to this file.

Defects that abandon refunds or act too early pay nothing twice in most schedules. If these schedules notice them, the
simulation checks causes, ages and times, and not only sums.
"""

from __future__ import annotations

import pytest

from tests.simulation.schedule import run_schedule

# After the seeds of `test_simulation`; each defect that is mapped to this file breaks a promise in one of them.
SEEDS = range(2_181, 2_381)


@pytest.mark.slow
def test_schedules_with_fixed_seeds_break_no_promise() -> None:
    for seed in SEEDS:
        violation = run_schedule(seed).violation
        assert violation is None, f"{violation}\n  .venv/bin/python -m tests.simulation --replay {seed}"
