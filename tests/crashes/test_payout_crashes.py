"""A crash before and after every statement, commit and call on the way of a payout, and pairs of them."""

from __future__ import annotations

import random

import pytest

from tests.crashes.payout_paths import PAYOUT_PATHS, PayoutPath, run_payout_path

PAIRS = 5


@pytest.mark.parametrize("path", PAYOUT_PATHS, ids=lambda path: path.name)
def test_crash_at_any_point_changes_neither_end_nor_money(path: PayoutPath) -> None:
    smooth = run_payout_path(path)
    count = smooth.points
    assert smooth.violation is None
    assert count > 40, "too few points were passed for a meaningful test"
    drawn = random.Random(path.name)
    chosen = [(first,) for first in range(1, count + 1, path.every)]
    chosen += [tuple(sorted(drawn.sample(range(1, count + 1), 2))) for _ in range(PAIRS)]
    broken = {at: why for at in chosen if (why := run_payout_path(path, at).violation)}
    assert not broken, "\n".join(f"crashes at {at}: {why}" for at, why in broken.items())
