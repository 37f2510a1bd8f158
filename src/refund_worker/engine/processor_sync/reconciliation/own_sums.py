"""Compare our books with themselves: the sums that must hold (`engine/sums`), for some customers at a time."""

from __future__ import annotations

from dataclasses import replace

from refund_worker.domain.ledger import CREDITS
from refund_worker.domain.sums import SAYS, Violation
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.progress import Progress
from refund_worker.engine.sums.check import confirmed, find_violations, pieces
from refund_worker.store.reporting import reconciliation as store
from refund_worker.store.reporting import sums

CUSTOMERS_AT_ONCE = 1_000


def advance_ledger(context: Context, processor: str, progress: Progress) -> tuple[Progress, tuple[Difference, ...]]:
    """Check the sums of the next customers, and at the end count the legs of this account that are in flight."""
    with context.database.read() as connection:
        ids = sums.customers_after(connection, progress.after or None, CUSTOMERS_AT_ONCE)
        if not ids:
            counts = replace(progress.counts, in_flight=store.count_open_legs(connection, processor))
            return progress.next_phase(counts.plus(pieces=1)), ()
    found = [violation for piece in pieces(ids) for violation in find_violations(context.database, piece)]
    by_subject: dict[str, list[Violation]] = {}
    for violation in confirmed(context.database, found):
        by_subject.setdefault(violation.subject, []).append(violation)
    differences = tuple(_difference(its) for _, its in sorted(by_subject.items()))
    return replace(progress, after=ids[-1], counts=progress.counts.plus(pieces=1)), differences


def _difference(violations: list[Violation]) -> Difference:
    """Return one difference for all sums that do not hold for one row."""
    first = violations[0]
    return Difference(
        Kind.LEDGER,
        first.subject,
        first.stored,
        first.expected,
        customer_id=first.customer_id,
        currency=None if first.unit == CREDITS else first.unit,
        detail="; ".join(f"{v.sum}: {v.stored} {v.unit} instead of {v.expected} ({SAYS[v.sum]})" for v in violations),
    )
