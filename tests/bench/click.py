"""The delay of one admin's click while a bulk is processed, compared with the same click on an idle deployment.

Measured from the accepted request to the succeeded refund, in the database. The workers serve both queues, which is the
harder case: a real deployment has separate workers for clicks.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refund_worker.batching import batched
from refund_worker.cli.stack import Stack
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings
from refund_worker.store import refunds
from refund_worker.worker.publisher import make_publisher
from tests.support.refund_counts import count_by_status
from tests.support.sales import paid, sell, withdrawal

BULK = int(os.environ.get("BENCH_BULK", "5000"))
CLICKS = 20
BETWEEN_SECONDS = 0.1
LOOK_SECONDS = 0.002
CLICK_SECONDS_MAX = 30.0
BATCH = 250
BUSY_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Clicks:
    """The seconds that each click took. `bulk_left` of the bulk's refunds were unfinished after the last one."""

    seconds: tuple[float, ...]
    bulk_left: int

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"median {self.median * 1000:.0f} ms, slowest {max(self.seconds) * 1000:.0f} ms"


def measure_clicks(folder: Path) -> bool:
    """Print both figures. Return True if the bulk delayed the median click by less than `BUSY_SECONDS_MAX`."""
    stack = Stack(folder, settings={"REFUND_WORKER_STRIPE_RATE_PER_SECOND": "0"})
    stack.start()
    try:
        settings = load_settings(stack.environment)
        with build_runtime(settings, publish=make_publisher(settings), processors=False) as runtime:
            context = runtime.context
            _sell(context, stack, ["warm", *_names("idle"), *_names("busy"), *range(BULK)])
            _click(context, "warm")
            idle = _clicks(context, "idle")
            for start in range(0, BULK, BATCH):
                names = range(start, min(start + BATCH, BULK))
                request_refunds(context, [withdrawal(name, bulk=True) for name in names])
            busy = _clicks(context, "busy")
    finally:
        stack.stop()
    print(f"a click, nothing else to do:                  {idle}")
    print(f"a click behind a bulk of {BULK}:                {busy}; {busy.bulk_left} of it were left after the last")
    return busy.bulk_left > 0 and busy.median < idle.median + BUSY_SECONDS_MAX


def _names(what: str) -> list[str]:
    return [f"{what}-{number}" for number in range(CLICKS)]


def _sell(context: Context, stack: Stack, names: Sequence[object]) -> None:
    for some in batched(names, BATCH):
        sell(context, stack.sandbox, [paid(name) for name in some])


def _clicks(context: Context, what: str) -> Clicks:
    seconds = []
    for name in _names(what):
        seconds.append(_click(context, name))
        time.sleep(BETWEEN_SECONDS)
    with context.database.read() as connection:
        counts = count_by_status(connection)
    return Clicks(tuple(seconds), sum(counts.values()) - counts.get("succeeded", 0))


def _click(context: Context, name: str) -> float:
    """Request one refund and return the seconds until it succeeded."""
    (answer,) = request_refunds(context, [withdrawal(name)])
    assert isinstance(answer, Accepted), answer
    began = time.perf_counter()
    while time.perf_counter() - began < CLICK_SECONDS_MAX:
        with context.database.read() as connection:
            (refund,) = refunds.load(connection, [answer.refund_id])
        if refund.status is RefundStatus.SUCCEEDED:
            return time.perf_counter() - began
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"the click {name} was not done within {CLICK_SECONDS_MAX} s: {refund.status}")
