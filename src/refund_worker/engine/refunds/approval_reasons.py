"""Why refunds wait for approval: the totals of the time window that exceed the threshold, and the balances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.domain.limits import Limits
from refund_worker.domain.refund import Kind, Refund, To
from refund_worker.store import accounts
from refund_worker.store import limits as sums
from refund_worker.store.limits import Requested


@dataclass(frozen=True, slots=True)
class Total:
    """Money requested in the window for one subject ("customer" or "payment") and currency, this refund included."""

    subject: str
    name: str
    currency: str
    total_minor: int


@dataclass(frozen=True, slots=True)
class WhyApproval:
    """The facts for the person who decides. `exceeding` are the totals above the threshold; empty if none is any more.

    `others` is the number of other refunds that the customer requested in the window. `balance` and `balance_after` are
    credits, None for a customer who is not known.
    """

    exceeding: tuple[Total, ...]
    others: int
    balance: int | None
    balance_after: int | None


def why_approval(connection: Connection, refunds: Sequence[Refund], limits: Limits) -> dict[str, WhyApproval]:
    """Return the facts by refund id, in two queries.

    The window of each refund ends at its own request. Refunds that were rejected or canceled since do not count.
    """
    if not refunds:
        return {}
    customers = {refund.customer_id for refund in refunds}
    since = min(refund.created_at for refund in refunds) - limits.window_seconds
    requested = sums.requested_since(connection, customers, since)
    balances = accounts.balances_of(connection, customers)
    return {refund.refund_id: _why(refund, requested, limits, balances) for refund in refunds}


def _why(refund: Refund, requested: Iterable[Requested], limits: Limits, balances: dict[str, int]) -> WhyApproval:
    begins = refund.created_at - limits.window_seconds
    earlier = [
        row
        for row in requested
        if row.customer_id == refund.customer_id
        and begins <= row.created_at
        and (row.created_at, row.refund_id) <= (refund.created_at, refund.refund_id)
    ]
    balance = balances.get(refund.customer_id)
    others = {row.refund_id for row in earlier} - {refund.refund_id}
    return WhyApproval(
        tuple(_exceeding(refund, earlier, limits.approval_threshold_minor)),
        len(others),
        balance,
        None if balance is None else balance + _change(refund),
    )


def _exceeding(refund: Refund, earlier: Sequence[Requested], threshold: int | None) -> Iterable[Total]:
    if threshold is None:
        return
    for currency in sorted({leg.currency for leg in refund.legs}):
        rows = [row for row in earlier if row.currency == currency]
        total = sum(row.amount_minor for row in rows)
        if total > threshold:
            yield Total("customer", refund.customer_id, currency, total)
            continue
        for payment in sorted({leg.payment_id for leg in refund.legs if leg.currency == currency}):
            paid = sum(row.amount_minor for row in rows if row.payment_id == payment)
            if paid > threshold:
                yield Total("payment", payment, currency, paid)


def _change(refund: Refund) -> int:
    """Return the credits that the refund will add to the balance once it is approved."""
    if refund.kind is Kind.WITHDRAWAL:
        return 0 if refund.of_correction else -refund.credits
    return refund.credits if refund.to is To.BALANCE else 0
