"""`make interleavings`: every pair of operations in every scene, on SQLite and Postgres, up to two preemptions.

`python -m tests.interleavings --scene queued --pair work cancel --at 12` shows one schedule.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interleavings.pair_run import Broken, Place
from tests.interleavings.scenes import SCENES
from tests.interleavings.schedules import BY_NAME, MEETINGS, Meeting, Tally, run_meeting
from tests.interleavings.stepper import Hangs
from tests.support.migrated import migrate
from tests.support.progress import Progress
from tests.support.servers import PostgresDatabases, PostgresServer

# Each n-th pair of preemptions runs on Postgres, where any statement can run between any two of the other operation.
EVERY_DOUBLE_ON_POSTGRES = 50

_place: Place


def main() -> int:
    """Run the schedules with the command line's options. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--scene", choices=sorted(SCENES), help="only this one")
    parser.add_argument("--pair", choices=sorted(BY_NAME), nargs=2, help="only these two")
    parser.add_argument("--at", type=int, nargs="+", help="show the one schedule with preemptions at these steps")
    parser.add_argument("--every", type=int, default=EVERY_DOUBLE_ON_POSTGRES, help="of two preemptions on Postgres")
    parser.add_argument("--single", action="store_true", help="one preemption only")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    meetings = [
        meeting
        for meeting in MEETINGS
        if options.scene in (None, meeting.scene)
        and (options.pair is None or sorted(options.pair) == sorted(one.name for one in meeting.pair))
    ]
    if options.at is not None:
        return _show(options.database, options.scene, options.pair, options.at)
    total = Tally()
    for database in ("sqlite", "postgres") if options.database == "both" else (options.database,):
        every = 0 if options.single else 1 if database == "sqlite" else options.every
        with _opener(database) as opener:
            total.add(_run_all(opener, database, meetings, every, options.processes))
    pairs = len({meeting.pair for meeting in meetings})
    print(f"pairs={pairs} schedules={total.schedules} blocked={total.blocked} failures={len(total.failures)}")
    return 1 if total.failures else 0


def _show(database: str, scene: str, names: list[str], switch_at: list[int]) -> int:
    with _opener(database) as opener:
        place = opener()
        try:
            met = place.meet(scene, (BY_NAME[names[0]], BY_NAME[names[1]]), switch_at)
        except (Broken, Hangs) as broken:
            met = None
            print(broken)
        for number, who, what in place.trace:
            print(f"{number:4}  {who:6}  {' '.join(what.split())[:120]}")
        if met is not None:
            print(met.said, met.ended, sep="\n")
        place.close()
    return 0 if met is not None else 1


@contextmanager
def _opener(database: str) -> Iterator[Callable[[], Place]]:
    """Yield a function that opens a separate place in each process."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory(prefix="interleavings-") as folder:
            yield _Sqlite(folder)
        return
    with PostgresServer() as server:
        yield _Postgres(server.databases.admin_url)


class _Sqlite:
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self) -> Place:
        url = f"sqlite:///{Path(self._folder) / str(os.getpid())}.db"
        migrate(url)
        return Place(url)


class _Postgres:
    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url

    def __call__(self) -> Place:
        return Place(PostgresDatabases(self._admin_url).create(migrate))


def _open(opener: Callable[[], Place]) -> None:
    global _place
    _place = opener()


def _run_all(opener: Callable[[], Place], database: str, meetings: list[Meeting], every: int, processes: int) -> Tally:
    tally, progress, started = Tally(), Progress(), time.monotonic()
    with multiprocessing.Pool(processes, _open, (opener,)) as pool:
        numbers = [(MEETINGS.index(meeting), every) for meeting in meetings]
        for done, one in enumerate(pool.imap_unordered(_run_number, numbers), 1):
            tally.add(one)
            for failure in one.failures:
                print(f"FAILURE {failure}", flush=True)
            progress.report(f"{database}: {done}/{len(meetings)} meetings, {tally.schedules} schedules")
    minutes = (time.monotonic() - started) / 60
    print(f"{database}: schedules={tally.schedules} blocked={tally.blocked} minutes={minutes:.1f}", flush=True)
    return tally


def _run_number(job: tuple[int, int]) -> Tally:
    """Run one meeting by its number, because operations are functions and cannot be sent between processes."""
    number, every = job
    return run_meeting(_place, MEETINGS[number], 1, every)


if __name__ == "__main__":
    sys.exit(main())
