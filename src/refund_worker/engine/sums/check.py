"""Check the sums that must hold: of some customers, or of all of them now, in bounded pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from refund_worker.domain.sums import Sum, Violation, violations
from refund_worker.engine.context import Context
from refund_worker.engine.sums.payees import confirmed_of_payees, payee_pieces
from refund_worker.store.database import Database
from refund_worker.store.reporting import sums

# Customers of one snapshot. A piece takes some hundredths of a second, unless its customers have very many entries.
PIECE = 100
# A difference is read again after this time, in a snapshot of its own. Only then it counts.
AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check of `customers` customers. `violations` are at most `named_max`, `count` is of all."""

    customers: int
    count: int
    by_sum: dict[Sum, int]
    violations: tuple[Violation, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Return True if every sum holds."""
        return not self.count


def find_violations(database: Database, customer_ids: Sequence[str]) -> list[Violation]:
    """Return every row of these customers for which a sum does not hold, as one snapshot shows it."""
    if not customer_ids:
        return []
    with sums.in_one_snapshot(database) as connection:
        return list(violations(sums.figures_of(connection, customer_ids)))


def confirmed(
    database: Database, found: Iterable[Violation], *, sleep: Callable[[float], object] = time.sleep
) -> list[Violation]:
    """Return those that a second snapshot shows again after a moment, as it shows them."""
    suspects = {violation.customer_id for violation in found}
    if not suspects:
        return []
    sleep(AGAIN_SECONDS)
    return [v for piece in pieces(sorted(suspects)) for v in find_violations(database, piece)]


def pieces(ids: Sequence[str], size: int = PIECE) -> Iterable[Sequence[str]]:
    """Yield the ids in pieces of this size."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def check_all(
    context: Context, *, named_max: int = 50, progress: Callable[[int], object] = lambda _customers: None
) -> Report:
    """Check all sums of all customers and payees now. It only reads, in pieces, and keeps no writer waiting."""
    began, after, customers = context.monotonic(), None, 0
    named: list[Violation] = []
    by_sum = dict.fromkeys(Sum, 0)
    while True:
        with context.database.read() as connection:
            ids = sums.customers_after(connection, after, PIECE)
        if not ids:
            break
        for violation in confirmed(context.database, find_violations(context.database, ids)):
            by_sum[violation.sum] += 1
            if len(named) < named_max:
                named.append(violation)
        after, customers = ids[-1], customers + len(ids)
        progress(customers)
    for piece in payee_pieces(context.database):
        for violation in confirmed_of_payees(context.database, piece, AGAIN_SECONDS):
            by_sum[violation.sum] += 1
            if len(named) < named_max:
                named.append(violation)
    return Report(customers, sum(by_sum.values()), by_sum, tuple(named), context.monotonic() - began)
