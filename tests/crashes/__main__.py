"""`make crashes`: every path, a crash at every point, alone and in all pairs. Ends in one line.

If several first crashes leave the same world, only one of them is paired with all second crashes. Of the other pairs,
which are `alike`, each 50th runs as well. `--alike 1` runs them all.

`python -m tests.crashes --path "deleted" --at 5 31` shows one run's trace.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from tests.crashes.crash_path import Path
from tests.crashes.crash_run import Crashed, CrashRun, Run, result_of
from tests.crashes.paths import PATHS
from tests.crashes.payout_paths import PAYOUT_PATHS, PayoutCrashRun, PayoutPath
from tests.support.progress import Progress

BY_NAME: dict[str, Path | PayoutPath] = {path.name: path for path in (*PATHS, *PAYOUT_PATHS)}
Job = tuple[str, tuple[int, ...]]


def main() -> int:
    """Run the crashes with the command line's options. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--path", choices=sorted(BY_NAME), help="only this one")
    parser.add_argument("--payouts", action="store_true", help="only the paths of payouts")
    parser.add_argument("--at", type=int, nargs="+", help="show the trace of one run with crashes at these points")
    parser.add_argument("--every", type=int, default=1, help="of the pairs take only each n-th")
    parser.add_argument("--alike", type=int, default=50, help="of the pairs that are alike run each n-th")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [path.name for path in PAYOUT_PATHS] if options.payouts else list(BY_NAME)
    names = [options.path] if options.path else chosen
    if options.at:
        return show(names[0], options.at)
    return enumerate_all(names, options.every, options.alike, options.processes)


def show(name: str, crash_at: list[int]) -> int:
    """Print the trace of one run. Return 1 if it broke a promise."""
    run = prepared(name, crash_at)
    result = result_of(run)
    for line in run.world.trace:
        print(*line)
    print(result.violation or "no violation", f"({result.points} points)")
    return 1 if result.violation else 0


def enumerate_all(names: list[str], every: int, alike: int, processes: int) -> int:
    """Run all crashes of these paths and print a summary. Return 1 if one of them broke a promise."""
    started = time.monotonic()
    total = Counter[str]()
    with multiprocessing.Pool(processes) as pool:
        for name in names:
            counts = enumerate_path(pool, name, every, alike)
            total += counts
            seconds = time.monotonic() - started
            print(f"{seconds:6.0f} s  {name}: {summary(counts)}", file=sys.stderr, flush=True)
    print(f"paths={len(names)} {summary(total)} failures={total['failures']}")
    return 1 if total["failures"] else 0


def summary(counts: Counter[str]) -> str:
    """Return the counts as text."""
    return " ".join(f"{name}={counts[name]}" for name in ("points", "pairs", "run"))


def enumerate_path(pool: multiprocessing.pool.Pool, name: str, every: int, alike: int) -> Counter[str]:
    """Return the counts of points, pairs, pairs run, and failures.

    A second crash is at any point that the run with the first crash passes.
    """
    smooth = result_of(prepared(name))
    failures, count = report(name, (), smooth), smooth.points
    singles: dict[int, Crashed] = {}
    for (_, (first,)), result in pool.imap_unordered(run_job, ((name, (n,)) for n in range(1, count + 1)), 10):
        failures += report(name, (first,), result)
        singles[first] = result
    pairs = list(pairs_of(name, {first: result.points for first, result in singles.items()}, every))
    firsts = different(singles)
    same = [pair for pair in pairs if pair[1][0] not in firsts]
    jobs = [pair for pair in pairs if pair[1][0] in firsts] + same[alike - 1 :: alike]
    progress = Progress()
    for done, ((_, crash_at), result) in enumerate(pool.imap_unordered(run_job, jobs, 20), 1):
        failures += report(name, crash_at, result)
        progress.report(f"          {name}: {done} of {len(jobs)} pairs")
    return Counter(points=count, pairs=len(pairs), run=len(jobs), failures=failures)


def different(singles: Mapping[int, Crashed]) -> set[int]:
    """Return one crash of each group that left the same world, and every crash that broke a promise."""
    left: dict[tuple[object, ...], int] = {}
    for point, result in sorted(singles.items()):
        world = (result.points - point, result.rest) if result.rest else (point, None)
        left.setdefault(world, point)
    return set(left.values())


def pairs_of(name: str, passed: dict[int, int], every: int) -> Iterator[Job]:
    """Yield each n-th pair of crash points. `passed` is the number of points that each first crash's run passed."""
    number = 0
    for first in sorted(passed):
        for second in range(first + 1, passed[first] + 1):
            number += 1
            if number % every == 0:
                yield name, (first, second)


def prepared(name: str, crash_at: Collection[int] = ()) -> Run:
    """Return a run of the path of a refund or a payout, with crashes at these points."""
    path = BY_NAME[name]
    return PayoutCrashRun(path, crash_at) if isinstance(path, PayoutPath) else CrashRun(path, crash_at)


def run_job(job: Job) -> tuple[Job, Crashed]:
    """Run one pair."""
    return job, result_of(prepared(*job))


def report(name: str, crash_at: tuple[int, ...], result: Crashed) -> int:
    """Print a failure and its replay command. Return the number of failures, 0 or 1."""
    if result.violation is None:
        return 0
    at = " ".join(str(point) for point in crash_at)
    replay = f'.venv/bin/python -m tests.crashes --path "{name}" --at {at}'
    print(f"FAILURE {name}: {result.violation}\n  {replay}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
