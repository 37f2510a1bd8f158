"""A crash at each third point: before and after statements, commits, calls and publications.

Each path begins at another point, so that all kinds of points are struck. `make crashes` strikes at all, and all pairs.
"""

from __future__ import annotations

import pytest

from tests.crashes.__main__ import different, pairs_of
from tests.crashes.account_paths import LOST_ANSWER
from tests.crashes.crash_path import Path
from tests.crashes.crash_run import Crashed, CrashRun, run_path, trace_of
from tests.crashes.paths import PATHS

# Crashes at all points of all paths would take a tenth of the time of all tests.
POINTS_APART = 3
# Each n-th pair runs. It is a prime, so that over all paths all kinds of points are paired.
EVERY = 499


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_crash_at_any_point_changes_neither_the_end_nor_the_money(path: Path) -> None:
    count = run_path(path).points
    assert count > 40, "too few points were passed for a meaningful test"
    begin = 1 + PATHS.index(path) % POINTS_APART
    points = range(begin, count + 1, max(path.every, POINTS_APART))
    singles = {first: run_path(path, (first,)) for first in points}
    broken = {(first,): result.violation for first, result in singles.items() if result.violation}
    passed = {first: result.points for first, result in singles.items()}
    for _, crash_at in pairs_of(path.name, passed, EVERY):
        violation = run_path(path, crash_at).violation
        if violation:
            broken[crash_at] = violation
    assert not broken, "\n".join(f"crashes at {at}: {why}" for at, why in broken.items())


def test_crashes_are_alike_only_within_a_transaction() -> None:
    path = PATHS[1]
    struck: list[str] = []
    singles = {}
    for at in range(1, run_path(path).points + 1):
        singles[at] = run_path(path, (at,))
        struck += [line[3] for line in trace_of(path, (at,)) if f"(point {at})" in str(line)]
    firsts = different(singles)
    kinds = [kind.partition(" (")[0] for kind in struck]
    request = kinds.index("die after the commit")  # the commit of the request: before it there is no refund
    assert request + 1 in firsts
    assert not {2, request} & firsts, "crashes within one transaction are alike"
    calls = [at for at, kind in enumerate(kinds, 1) if kind.endswith("the call")]
    assert set(calls) <= firsts


def test_crashes_are_alike_only_if_everything_after_them_is() -> None:
    same = {1: Crashed(None, 10, "a"), 2: Crashed(None, 11, "a"), 3: Crashed(None, 13, "a"), 4: Crashed(None, 13, "b")}
    assert different(same) == {1, 3, 4}
    broken = {1: Crashed("paid twice", 10), 2: Crashed("paid twice", 11)}
    assert different(broken) == {1, 2}


def test_crash_ends_the_process_and_rolls_back_its_transaction() -> None:
    path = PATHS[0]
    run = CrashRun(path, (12,))
    assert run.outcome() is None
    dead = [line for line in run.world.trace if line[-1] == "is dead"]
    assert len(dead) == 1
    assert run.crashes.struck == 1


def test_lost_answer_of_a_silent_processor_repeats_its_key() -> None:
    (path,) = (path for path in PATHS if path.name == LOST_ANSWER)
    lines = [line[2:] for line in trace_of(path, ())]
    assert [line[1] for line in lines if line[0] == "SEND"] == ["rf_000001-1:1"] * 2
    assert len({line[1] for line in lines if line[0] == "BOOK"}) == 1
