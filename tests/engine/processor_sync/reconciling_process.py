"""A process that reconciles: `python -m tests.engine.processor_sync.reconciling_process URL RECORDS ID NOW`.

RECORDS is a file with the processor's records. It writes a character before each call, and another after each piece, so
that the test knows how far it is when it kills it.
"""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

from tests.support.engine_world import World
from tests.support.paged_processor import PagedProcessor
from tests.support.planted_shop import KEYS

from refund_worker.engine.processor_sync.reconciliation import own_sums, reading, run
from refund_worker.engine.sums import check

RECORDS = ("page_size", "objects", "payments", "charged", "gone", "disputes")


class _Watched:
    """A limiter that lets every call through, and shows it."""

    async def acquire(self, processor: str) -> None:
        """Show that a call begins."""
        os.write(1, b"c")


def write_records(processor: PagedProcessor, path: Path) -> None:
    """Write the processor's records to a file."""
    path.write_bytes(pickle.dumps({name: getattr(processor, name) for name in RECORDS}))


def main(url: str, records: str, reconciliation_id: str, now: str) -> None:
    """Run the reconciliation to its end at the time `now`."""
    reading.PAGES_MAX, own_sums.CUSTOMERS_AT_ONCE, check.AGAIN_SECONDS = 2, 1, 0.0
    processor = PagedProcessor()
    for name, value in pickle.loads(Path(records).read_bytes()).items():
        setattr(processor, name, value)
    world = World(url, processors={"stripe": processor}, recording=KEYS, limiter=_Watched())
    world.now = float(now)
    run.run_to_end(replace(world.context), reconciliation_id, lambda _: os.write(1, b"p"))
    world.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
