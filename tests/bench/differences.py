"""`python -m tests.bench.differences`: plant differences of all ten kinds, find each, and mend or acknowledge it.

A shop with many paid refunds is reconciled before anything is planted: no difference may be found. Then differences are
planted at some of its refunds, and the report must be what was planted, no more and no less. The action of each
difference is applied. What is still open in the next report, and what has no action, is acknowledged: after that, and
after all work that is due, nothing may be open. Exits with 1 if anything is otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import RowMapping

from refund_worker.engine.processor_sync.reconciliation import actions, run
from refund_worker.engine.processor_sync.reconciliation.kinds import Kind, State
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import ActionNotAllowed
from refund_worker.store import reconciliations as store
from tests.support.engine_world import World
from tests.support.migrated import migrate
from tests.support.planted_shop import Planted, Shop
from tests.support.servers import PostgresServer

T = TypeVar("T")
PAGE = 100
DIFFERENCES_MAX = 1_000_000
REASON = {"actor": "bench", "reason": "planted"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it on each database. Return 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.differences", description=__doc__)
    parser.add_argument("--each", type=int, default=1_000, help="planted differences of each kind (1000)")
    parser.add_argument("--control", type=int, default=10_000, help="paid refunds without a difference (10000)")
    parser.add_argument("--seed", type=int, default=1, help="where they are planted (1)")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # each planted difference has its alarm
    good = True
    for database in ("sqlite", "postgres") if given.database == "both" else (given.database,):
        print(f"{database}: {given.each:,} differences of each kind, {given.control:,} refunds without one", flush=True)
        with _a_database(database) as url, _world(url) as world:
            good &= Trial(world, given.each, given.control).run(given.seed)
    print("ok" if good else "NOT AS IT MUST BE")
    return 0 if good else 1


@contextmanager
def _a_database(name: str) -> Iterator[str]:
    if name == "sqlite":
        with tempfile.TemporaryDirectory(prefix="refund-worker-differences-") as folder:
            url = f"sqlite:///{Path(folder) / 'refunds.db'}"
            migrate(url)
            yield url
        return
    with PostgresServer() as server:
        yield server.databases.create(migrate)


@contextmanager
def _world(url: str) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    world = World(url, run=loop.run_until_complete)
    yield world
    world.close()
    loop.close()


class Trial:
    """A shop with `each` refunds for each kind of difference, and `control` more."""

    def __init__(self, world: World, each: int, control: int) -> None:
        self.good = True
        self.planted_number = each * len(Kind)
        self.world = world
        self.shop = self._timed(
            "paid refunds", self.planted_number + control, lambda: Shop(world, self.planted_number + control, PAGE)
        )
        self.shop.add_neighbours(max(10, control // 100))

    def run(self, seed: int) -> bool:
        """Return True if all was as it must be."""
        self._expect("differences before any is planted", {_key(row) for row in self._reconcile()}, set())
        planted: set[Planted] = set()
        self._timed(
            "planted", self.planted_number, lambda: planted.update(self.shop.plant_all(seed, self.planted_number))
        )
        found = self._reconcile()
        self._expect("differences that are found", {_key(row) for row in found}, planted)
        self._timed("applied or acknowledged", len(found), lambda: self._mend(found))
        still_open = self._open_ones()
        self._timed("acknowledged", len(still_open), lambda: [self._acknowledge(row) for row in still_open])
        left = self._open_ones()
        self._expect("differences that are open then", {_key(row) for row in left}, set())
        while process_due(self.world.context):
            pass
        self._expect("open after the work that was due", {_key(row) for row in self._open_ones()}, set())
        return self.good

    def _reconcile(self) -> list[RowMapping]:
        started = run.start_reconciliation(self.world.context, "stripe", since=None, until=None, actor="bench")
        objects = len(self.shop.processor.objects)
        self._timed("reconciled objects", objects, lambda: run.run_to_end(self.world.context, started, lambda _: None))
        with self.world.database.read() as connection:
            return store.differences(connection, started, limit=DIFFERENCES_MAX)

    def _open_ones(self) -> list[RowMapping]:
        return [row for row in self._reconcile() if row["state"] == State.OPEN]

    def _mend(self, found: Sequence[RowMapping]) -> None:
        ends: Counter[str] = Counter()
        for row in found:
            try:
                done = actions.apply_difference(self.world.context, row["reconciliation_id"], row["n"], **REASON)
            except ActionNotAllowed:
                done = self._acknowledge(row)
            ends[f"{row['kind']}: {done['outcome']}"] += 1
        for words, number in sorted(ends.items()):
            print(f"    {number:>6,} {words}")
        vanished = sum(number for words, number in ends.items() if words.endswith(actions.VANISHED))
        self._expect("differences that had vanished", vanished, 0)

    def _acknowledge(self, row: RowMapping) -> RowMapping:
        return actions.acknowledge_difference(self.world.context, row["reconciliation_id"], row["n"], **REASON)

    def _timed(self, words: str, number: int, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - began
        print(f"  {number:>7,} {words}: {seconds:.1f} s, {number / seconds:,.0f} a second", flush=True)
        return result

    def _expect(self, words: str, found: object, expected: object) -> None:
        is_good = found == expected
        shown = len(found) if isinstance(found, set) else found
        print(f"  {shown:>7,} {words}: {'as it must be' if is_good else 'WRONG'}", flush=True)
        if isinstance(found, set) and isinstance(expected, set):
            for name, wrong in (("false", found - expected), ("missing", expected - found)):
                for each in sorted(wrong)[:10]:
                    print(f"          {name}: {' '.join(each)}")
        self.good &= is_good


def _key(row: RowMapping) -> Planted:
    return row["kind"], row["subject"], row["object_id"]


if __name__ == "__main__":
    sys.exit(main())
