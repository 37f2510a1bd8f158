"""`python -m tests.simulation --schedules 1000 --seed 1`; `--replay SEED` shows one schedule's trace.

`--hashes FILE` writes a line for each seed with the hash of its trace. Two such files are equal if a change of the code
has changed no schedule.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation.faults import FAULTS
from tests.simulation.schedule import run_schedule, run_schedule_briefly
from tests.support.progress import Progress

REPLAY = ".venv/bin/python -m tests.simulation --replay"


def main() -> int:
    """Run the simulation with the command line's options. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; the others follow it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--hashes", type=Path, metavar="FILE", help="write `seed hash` for each trace, by seed")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    return run_many(options.seed, options.schedules, options.processes, options.hashes)


def replay(seed: int) -> int:
    """Run one schedule and print its trace. Return 1 if it broke a promise."""
    result = run_schedule(seed)
    for at, who, *what in result.trace:
        print(f"{at:14.3f}  {who:14}  {' '.join(str(word) for word in what)}")
    ends = ", ".join(f"{count} {status}" for status, count in sorted(result.ends.items()))
    print(f"seed={seed} trace={result.trace_hash} faults={result.faults} ends: {ends or 'none'}")
    print(f"VIOLATION {result.violation}" if result.violation else "no violation")
    return 1 if result.violation else 0


def print_faults(faults: Counter[str]) -> None:
    """Print each kind of fault, its rows in the table of faults, and how often it struck while a refund was open."""
    print("faults while a refund was open:")
    for name, fault in FAULTS.items():
        print(f"  {faults[name]:9}  {name}" + (f" (row {', '.join(map(str, fault.rows))})" if fault.rows else ""))


def _prepare() -> None:
    """Freeze the loaded objects, because collecting them again and again costs a tenth of a schedule's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def run_many(first: int, schedules: int, processes: int, hashes: Path | None = None) -> int:
    """Run the schedules in several processes and print a summary. Return 1 if one of them broke a promise."""
    started = time.monotonic()
    violations = done = 0
    faults: Counter[str] = Counter()
    cpu = 0.0
    ends: Counter[str] = Counter()
    attention: Counter[str] = Counter()
    traces: dict[int, str] = {}
    seeds = range(first, first + schedules)
    progress = Progress()
    with multiprocessing.Pool(processes, _prepare, maxtasksperchild=5_000) as pool:
        for result in pool.imap_unordered(run_schedule_briefly, seeds, chunksize=20):
            done += 1
            faults += result.faults_while_open
            cpu += result.cpu_seconds
            ends += result.ends
            attention += result.attention
            traces[result.seed] = result.trace_hash
            if result.violation:
                violations += 1
                print(f"VIOLATION seed={result.seed}: {result.violation}\n  {REPLAY} {result.seed}", flush=True)
            progress.report(f"{done}/{schedules} schedules, {violations} violations")
    if hashes is not None:
        hashes.write_text("".join(f"{seed} {trace}\n" for seed, trace in sorted(traces.items())), "utf-8")
    minutes = (time.monotonic() - started) / 60
    print_faults(faults)
    print("ends: " + ", ".join(f"{count} {status}" for status, count in sorted(ends.items())))
    print("with a person, explained: " + (", ".join(f"{n} {why}" for why, n in sorted(attention.items())) or "none"))
    print(f"cpu: {cpu / max(done, 1) * 1000:.1f} ms a schedule, {minutes:.1f} minutes")
    print(
        f"schedules={done} faults_while_open={faults.total()} violations={violations} "
        f"schedules_per_minute={done / minutes if minutes else 0:.0f}"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
