"""`make crashes`: every path, a crash at every point, singly and in all pairs; ends in one line.

`python -m tests.crashes --path "deleted" --at 5 31` shows one run's trace.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
from collections.abc import Iterator

from tests.crashes.crash_run import Crashed, run_path, trace_of
from tests.crashes.paths import PATHS
from tests.support.progress import Progress

BY_NAME = {path.name: path for path in PATHS}
Job = tuple[str, tuple[int, ...]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--path", choices=sorted(BY_NAME), help="only this one")
    parser.add_argument("--at", type=int, nargs="+", help="show the trace of one run with crashes at these points")
    parser.add_argument("--every", type=int, default=1, help="of the pairs take only each n-th")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    names = [options.path] if options.path else list(BY_NAME)
    if options.at:
        return show(names[0], options.at)
    return enumerate_all(names, options.every, options.processes)


def show(name: str, crash_at: list[int]) -> int:
    for line in trace_of(BY_NAME[name], crash_at):
        print(*line)
    result = run_path(BY_NAME[name], crash_at)
    print(result.violation or "no violation", f"({result.points} points)")
    return 1 if result.violation else 0


def enumerate_all(names: list[str], every: int, processes: int) -> int:
    started = time.monotonic()
    points = pairs = failures = 0
    with multiprocessing.Pool(processes) as pool:
        for name in names:
            path_points, path_pairs, path_failures = enumerate_path(pool, name, every)
            points, pairs, failures = points + path_points, pairs + path_pairs, failures + path_failures
            seconds = time.monotonic() - started
            print(f"{seconds:6.0f} s  {name}: {path_points} points, {path_pairs} pairs", file=sys.stderr, flush=True)
    print(f"paths={len(names)} points={points} pairs={pairs} failures={failures}")
    return 1 if failures else 0


def enumerate_path(pool: multiprocessing.pool.Pool, name: str, every: int) -> tuple[int, int, int]:
    """Points, pairs and failures. A pair's second crash is at any point that the run with the first one passes."""
    failures = report(name, (), run_path(BY_NAME[name]))
    count = run_path(BY_NAME[name]).points
    passed: dict[int, int] = {}
    for (_, (first,)), result in pool.imap_unordered(run_job, ((name, (n,)) for n in range(1, count + 1)), 10):
        failures += report(name, (first,), result)
        passed[first] = result.points
    jobs = list(pairs_of(name, passed, every))
    progress = Progress()
    for done, ((_, crash_at), result) in enumerate(pool.imap_unordered(run_job, jobs, 20), 1):
        failures += report(name, crash_at, result)
        progress.tell(f"          {name}: {done} of {len(jobs)} pairs")
    return count, len(jobs), failures


def pairs_of(name: str, passed: dict[int, int], every: int) -> Iterator[Job]:
    number = 0
    for first in sorted(passed):
        for second in range(first + 1, passed[first] + 1):
            number += 1
            if number % every == 0:
                yield name, (first, second)


def run_job(job: Job) -> tuple[Job, Crashed]:
    name, crash_at = job
    return job, run_path(BY_NAME[name], crash_at)


def report(name: str, crash_at: tuple[int, ...], result: Crashed) -> int:
    if result.violation is None:
        return 0
    at = " ".join(str(point) for point in crash_at)
    replay = f'.venv/bin/python -m tests.crashes --path "{name}" --at {at}'
    print(f"FAILURE {name}: {result.violation}\n  {replay}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
