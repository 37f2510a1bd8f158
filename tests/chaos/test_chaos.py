"""A bounded chaos run with every test run, and the proof that it detects a worker that pays twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.mutants import mutated
from tests.chaos.run import HEAL_SECONDS_MAX, chaos

SECONDS, SEED = 75, 4
MUTANT_SECONDS, MUTANT_RUNS_MAX = 40, 3
# The number of ways of harm, see `Harm`. Each happens at least once in a run.
WAYS = 22

# One at a time: a run has more than a dozen processes.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(400)]


def test_chaos_leaves_nothing_paid_twice_lost_or_open() -> None:
    result = chaos(SECONDS, SEED)
    print(result.line)
    assert (result.findings.double, result.findings.lost, result.findings.mismatch) == ((), (), ())
    assert result.findings.open == ()
    assert result.payouts.clean, result.payouts
    assert result.broken_promises == ()
    assert result.left_behind == ()
    assert result.heal_seconds <= HEAL_SECONDS_MAX
    # Every kind of harm happened, and there were refunds to harm.
    assert min(result.done.values()) > 0, result.done
    assert len(result.ways) == WAYS, result.ways
    assert result.refunds > 50
    assert result.payouts.by_status.get("paid", 0) > 10
    assert result.payouts.clawed_back > 0


def test_worker_with_a_new_key_on_each_try_is_detected(tmp_path: Path) -> None:
    # A run is short, and its faults are drawn: one run in some twenty pays nothing twice.
    defective = mutated("fresh_key", tmp_path)
    # The ids of refunds at Stripe and at PayPal, and a transfer for a payout.
    missing = {"re_", "RFD", "the kind transfer"}
    for seed in range(SEED, SEED + MUTANT_RUNS_MAX):
        result = chaos(MUTANT_SECONDS, seed, defective)
        double = " ".join((*result.findings.double, *result.payouts.double))
        missing = {form for form in missing if form not in double}
        if not missing:
            return
    pytest.fail(f"nothing was paid twice with texts of these forms: {sorted(missing)}")
