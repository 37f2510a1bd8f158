"""The sums of payees that must hold after every commit, in the form of `domain/sums.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from refund_worker.domain.ledger import payee_account
from refund_worker.domain.sums import Sum, Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class PayeeFigures:
    """The stored sums of a payee in one currency, and the sums of the rows that they come from, in minor units.

    `entries` is the sum of the payee's entries, `in_ledger` that of its account in the ledger. `reserved` is of payouts
    that were accepted and are not posted yet.
    """

    payee_id: str
    currency: str
    earned: int = 0
    clawed_back: int = 0
    net: int = 0
    earnings: int = 0
    clawed_back_of_earnings: int = 0
    entries: int = 0
    in_ledger: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class UnevenPosting:
    """A ledger transaction of a payee whose entries do not sum to zero in a unit: their sum."""

    transaction_id: str
    payee_id: str
    unit: str
    total: int


def payee_violations(figures: Iterable[PayeeFigures], uneven: Iterable[UnevenPosting] = ()) -> Iterator[Violation]:
    """Yield every row for which a sum of payees does not hold. In the field of the customer is the payee's account."""
    for posting in uneven:
        owner = payee_account(posting.payee_id)
        yield Violation(Sum.ENTRIES, posting.transaction_id, owner, posting.total, 0, posting.unit)
    for one in figures:
        compared = (
            (Sum.PAYEE_EARNED, one.earned, one.earnings),
            (Sum.PAYEE_CLAWED_BACK, one.clawed_back, one.clawed_back_of_earnings),
            (Sum.PAYEE_BALANCE, one.net, one.in_ledger - one.reserved),
            (Sum.PAYEE_ENTRIES, one.entries, one.in_ledger),
        )
        for name, stored, expected in compared:
            if stored != expected:
                yield Violation(name, one.payee_id, payee_account(one.payee_id), stored, expected, one.currency)
