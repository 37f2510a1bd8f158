"""A bounded chaos run with every test run, and the proof that it would see a worker that pays twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.mutants import mutated
from tests.chaos.run import HEAL_SECONDS_MAX, chaos

SECONDS, SEED = 60, 4
MUTANT_SECONDS = 40
# Of doing harm, see `Harm`; each at least once in a run.
WAYS = 14

# One at a time: a run has more than a dozen processes.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(400)]


def test_nothing_is_paid_twice_lost_or_left_open_whatever_is_killed_frozen_or_wiped() -> None:
    result = chaos(SECONDS, SEED)
    print(result.line)
    assert (result.findings.double, result.findings.lost, result.findings.mismatch) == ((), (), ())
    assert result.findings.open == ()
    assert result.broken_promises == ()
    assert result.left_behind == ()
    assert result.heal_seconds <= HEAL_SECONDS_MAX
    # It was chaos, of every kind, and there was something to harm.
    assert min(result.done.values()) > 0, result.done
    assert len(result.ways) == WAYS, result.ways
    assert result.refunds > 50


def test_a_worker_that_makes_a_fresh_key_on_each_try_is_seen(tmp_path: Path) -> None:
    result = chaos(MUTANT_SECONDS, SEED, mutated("fresh_key", tmp_path))
    print(result.line)
    assert result.findings.double
