"""`python -m tests.simulation.payouts --schedules 1000 --seed 1`; `--replay SEED` shows one schedule's trace."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter

from tests.simulation.payouts.payout_schedule import run_payout_schedule, run_payout_schedule_briefly
from tests.support.progress import Progress

REPLAY = ".venv/bin/python -m tests.simulation.payouts --replay"


def main() -> int:
    """Run the simulation with the command line's options. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.payouts", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; the others follow it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED")
    options = parser.parse_args()
    return replay(options.replay) if options.replay is not None else run_many(options)


def replay(seed: int) -> int:
    """Run one schedule and print its trace. Return 1 if it broke a promise."""
    result = run_payout_schedule(seed)
    for at, who, *what in result.trace:
        print(f"{at:14.3f}  {who:14}  {' '.join(str(word) for word in what)}")
    print(f"seed={seed} trace={result.trace_hash} faults={result.faults} ends: {dict(sorted(result.ends.items()))}")
    print(f"VIOLATION {result.violation}" if result.violation else "no violation")
    return 1 if result.violation else 0


def _prepare() -> None:
    """Freeze the loaded objects, because collecting them again and again costs a tenth of a schedule's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def run_many(options: argparse.Namespace) -> int:
    """Run the schedules in several processes and print a summary. Return 1 if one of them broke a promise."""
    started, cpu, violations, calls, done = time.monotonic(), 0.0, 0, 0, 0
    progress = Progress()
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    seeds = range(options.seed, options.seed + options.schedules)
    with multiprocessing.Pool(options.processes, _prepare, maxtasksperchild=5_000) as pool:
        for result in pool.imap_unordered(run_payout_schedule_briefly, seeds, chunksize=5):
            faults += result.faults_while_open
            ends += result.ends
            cpu += result.cpu_seconds
            calls += result.calls
            done += 1
            progress.report(f"{done}/{options.schedules} schedules, {violations} violations")
            if result.violation:
                violations += 1
                print(f"VIOLATION seed={result.seed}: {result.violation}\n  {REPLAY} {result.seed}", flush=True)
    seconds = time.monotonic() - started
    print("payouts: " + ", ".join(f"{count} {status}" for status, count in sorted(ends.items())))
    print(
        f"cpu: {cpu / max(options.schedules, 1) * 1000:.1f} ms a schedule, {seconds:.0f} s, {calls} calls for payouts"
    )
    print(f"seeds={options.schedules} faults_while_open={faults.total()} violations={violations}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
