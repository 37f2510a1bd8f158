"""Our account's money at the processor: balance transactions, and the available and pending sum of each currency."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.records import Ordered

# Stripe's types, and how its reports name them. An adjustment is the money of a dispute: its sign tells the direction.
REPORTING_CATEGORIES = {
    "application_fee": "platform_earning",
    "application_fee_refund": "platform_earning_refund",
    "charge": "charge",
    "payment": "charge",
    "payment_failure_refund": "charge_failure",
    "payment_refund": "refund",
    "payout": "payout",
    "payout_cancel": "payout_reversal",
    "payout_failure": "payout_reversal",
    "refund": "refund",
    "refund_failure": "refund_failure",
    "topup": "topup",
    "transfer": "transfer",
    "transfer_refund": "transfer_reversal",
}
# An account without any money has a sum of zero in its own currency.
OWN_CURRENCY = "usd"
ADJUSTMENT, DISPUTE, DISPUTE_REVERSAL, PAYOUT = "adjustment", "dispute", "dispute_reversal", "payout"


@dataclass(slots=True)
class Transaction:
    """One movement of money: amounts in minor units of `currency`, times in epoch seconds.

    `fee` is Stripe's, `application_fee` the platform's; one that is returned is below zero.
    """

    id: str
    type: str
    amount: int
    currency: str
    source: str
    created: int
    fee: int = 0
    available_on: int = 0
    sequence: int = 0
    application_fee: int = 0

    @property
    def net(self) -> int:
        """The amount without the fees."""
        return self.amount - self.fee - self.application_fee


def transaction_object(transaction: Transaction, now: float) -> JsonObject:
    """Return a balance transaction as Stripe shows it."""
    amount, currency = transaction.amount, transaction.currency
    fees = {"stripe_fee": transaction.fee, "application_fee": transaction.application_fee}
    category = REPORTING_CATEGORIES.get(transaction.type) or (DISPUTE if amount < 0 else DISPUTE_REVERSAL)
    available_on = max(transaction.available_on, transaction.created)
    return {
        "id": transaction.id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": available_on,
        "balance_type": "payments",
        "created": transaction.created,
        "currency": currency,
        "description": None,
        "exchange_rate": None,
        "fee": sum(fees.values()),
        "fee_details": [{"amount": fee, "currency": currency, "type": type} for type, fee in fees.items() if fee],
        "net": transaction.net,
        "reporting_category": category,
        "source": transaction.source,
        "status": "available" if available_on <= now else "pending",
        "type": transaction.type,
    }


class Ledger:
    """All balance transactions, by every filter of their list, and the sums of each currency."""

    def __init__(self) -> None:
        self.transactions: dict[str, Transaction] = {}
        self.by_source: defaultdict[str, list[Transaction]] = defaultdict(list)
        self.by_payout: defaultdict[str, list[Transaction]] = defaultdict(list)
        # The fate of a refund without enough money, by currency. A currency that is not named pays everything.
        self.policies: dict[str, str] = {}
        self._lists: defaultdict[tuple[str | None, str | None], Ordered[Transaction]] = defaultdict(Ordered)
        self._totals: defaultdict[str, int] = defaultdict(int)
        self._pending_totals: defaultdict[str, int] = defaultdict(int)
        self._pending: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        self._not_paid_out: defaultdict[str, list[Transaction]] = defaultdict(list)

    def add(self, transaction: Transaction) -> None:
        """Add a transaction. Adding it again changes nothing."""
        if transaction.id in self.transactions:
            return
        transaction.sequence = len(self.transactions)
        self.transactions[transaction.id] = transaction
        self.by_source[transaction.source].append(transaction)
        type, currency = transaction.type, transaction.currency
        for key in ((None, None), (type, None), (None, currency), (type, currency)):
            self._lists[key].add(transaction)
        self._totals[currency] += transaction.net
        if transaction.available_on > transaction.created:
            self._pending_totals[currency] += transaction.net
            heapq.heappush(self._pending[currency], (transaction.available_on, transaction.sequence, transaction.net))
        self._not_paid_out[currency].append(transaction)

    def shift(self, currency: str, available: int, pending: int) -> None:
        """Change the sums without a transaction: money of which this book knows nothing."""
        self._totals[currency] += available + pending
        self._pending_totals[currency] += pending

    def listed(self, type: str | None, currency: str | None) -> Ordered[Transaction]:
        """Return the transactions of this type and currency. A type or currency of None means all."""
        return self._lists.get((type, currency)) or Ordered()

    def currencies(self) -> list[str]:
        """Return the currencies with any money, sorted."""
        return sorted(self._totals)

    def pending(self, currency: str, now: float) -> int:
        """Return the money that is not available yet, in minor units."""
        waiting = self._pending[currency]
        while waiting and waiting[0][0] <= now:
            self._pending_totals[currency] -= heapq.heappop(waiting)[2]
        return self._pending_totals[currency]

    def available(self, currency: str, now: float) -> int:
        """Return the money that can be paid out or refunded, in minor units. Below zero it is owed."""
        pending = self.pending(currency, now)
        return self._totals[currency] - pending

    def pay_out(self, transaction: Transaction, *, automatic: bool) -> None:
        """Add a payout. An automatic one contains every transaction that is available and in no payout yet."""
        self.add(transaction)
        contents = [transaction]
        if automatic:
            waiting = self._not_paid_out.pop(transaction.currency)
            contents = [each for each in waiting if each.available_on <= transaction.created]
            self._not_paid_out[transaction.currency] = [
                each for each in waiting if each.available_on > transaction.created
            ]
        for each in contents:
            self.by_payout[transaction.source].append(each)
