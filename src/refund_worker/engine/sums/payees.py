"""Check the sums of payees that must hold, some payees at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from refund_worker.domain.ledger import payee_account
from refund_worker.domain.payouts.sums import payee_violations
from refund_worker.domain.sums import Violation
from refund_worker.store.database import Database
from refund_worker.store.reporting import payee_sums, sums

# Payees of one snapshot: some have very many entries.
PIECE = 20


def find_payee_violations(database: Database, payee_ids: Sequence[str]) -> list[Violation]:
    """Return every row of these payees for which a sum does not hold, as one snapshot shows it."""
    if not payee_ids:
        return []
    with sums.in_one_snapshot(database) as connection:
        return list(payee_violations(*payee_sums.payee_figures(connection, payee_ids)))


def confirmed_of_payees(
    database: Database, payee_ids: Sequence[str], again_seconds: float, *, sleep: Callable[[float], object] = time.sleep
) -> list[Violation]:
    """Return the rows of these payees that differ in two snapshots, as the second one shows them."""
    suspects = sorted({payee_of(violation) for violation in find_payee_violations(database, payee_ids)})
    if not suspects:
        return []
    sleep(again_seconds)
    return find_payee_violations(database, suspects)


def payee_of(violation: Violation) -> str:
    """Return the id of the payee whose account the row names."""
    return violation.customer_id.removeprefix(payee_account(""))


def payee_pieces(database: Database) -> Iterator[list[str]]:
    """Yield the ids of all payees, in pieces."""
    after = None
    while True:
        with database.read() as connection:
            ids = payee_sums.payees_after(connection, after, PIECE)
        if not ids:
            return
        yield ids
        after = ids[-1]
