"""The transactions of the local Braintree, its idempotency keys and its clock. It knows nothing of our adapter.

What it does is what braintree_python 4.45.0 and its integration tests show. Where nothing is published (what a failed
request does to its key, how long the search lags) the book has an option.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

KEY_SECONDS = 30 * 86_400.0
REFUNDABLE = {"settled", "settling", "settlement_confirmed"}
VOIDABLE = {"authorized", "submitted_for_settlement", "settlement_pending"}
UNPAID = {
    *("voided", "settlement_declined", "settlement_failed", "processor_declined", "failed", "gateway_rejected"),
    "authorization_expired",
}


class Refusal(Exception):
    """A validation error, as its code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Declined(Exception):
    """A refund that was made and declined at once."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__()
        self.transaction = transaction


@dataclass
class Transaction:
    """A transaction in the book. Amounts in whole currency units."""

    id: str
    type: str
    amount: Decimal
    currency: str
    status: str
    created: float
    order_id: str | None = None
    refunded: str | None = None
    refund_ids: list[str] = field(default_factory=list)
    history: list[tuple[str, float]] = field(default_factory=list)
    settlement_code: str | None = None
    response_code: str = "1000"
    rejection: str | None = None
    instrument: str = "credit_card"
    disputes: list[tuple[str, str]] = field(default_factory=list)  # kind, status


@dataclass
class Key:
    """An idempotency key: what it was used for, and what became of it."""

    request: tuple[str, ...]
    state: str  # in_flight, done, failed, server_error
    transaction_id: str
    ended: float


def text_of_time(moment: float) -> str:
    """Return a time as Braintree writes it: whole seconds in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Book:
    """All transactions and keys of one gateway account."""

    transactions: dict[str, Transaction] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    clock_offset: float = 0.0
    settles_at_once: bool = False
    failed_keys_stick: bool = False
    lag_seconds: float = 0.0
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(100_000))

    def now(self) -> float:
        """Return the time here, in epoch seconds."""
        return time.time() + self.clock_offset

    def sale(self, amount: str, currency: str = "GBP", status: str = "settled", instrument: str = "credit_card") -> str:
        """Book a payment and return its id."""
        sale = self._new("sale", Decimal(amount), currency, "authorized")
        sale.instrument = instrument
        for step in ("submitted_for_settlement", status):
            if status != "authorized" and sale.status != status:
                self.become(sale.id, step)
        return sale.id

    def _new(self, kind: str, amount: Decimal, currency: str, status: str) -> Transaction:
        now = self.now()
        made = Transaction(f"tx{next(self.numbers)}", kind, amount, currency, status, now, history=[(status, now)])
        self.transactions[made.id] = made
        return made

    def become(self, transaction_id: str, status: str, code: str | None = None) -> None:
        """Give a transaction another status, and the code that explains a failure."""
        changed = self.transactions[transaction_id]
        changed.status = status
        changed.history.append((status, self.now()))
        if code is not None and status.startswith("settlement_"):
            changed.settlement_code = code
        elif code is not None:
            changed.response_code = code

    def left(self, sale: Transaction) -> Decimal:
        """Return how much of a payment can still be refunded."""
        refunds = (self.transactions[each] for each in sale.refund_ids)
        return sale.amount - sum((r.amount for r in refunds if r.status not in UNPAID), Decimal(0))

    def refunds_of(self, payment_id: str) -> list[Transaction]:
        """Return the payment's refunds that pay or may pay."""
        refunds = [self.transactions[each] for each in self.transactions[payment_id].refund_ids]
        return [each for each in refunds if each.status not in UNPAID]

    def given_back(self, payment_id: str) -> list[Decimal]:
        """Return the amounts that went back: of refunds, and the whole if the payment was voided."""
        sale = self.transactions[payment_id]
        voided = [sale.amount] if sale.status == "voided" else []
        return [each.amount for each in self.refunds_of(payment_id)] + voided

    def refund(self, payment_id: str, amount: str | None, order_id: str | None = None) -> Transaction:
        """Refund a payment. Raises `KeyError`, `Refusal` or `Declined`."""
        sale = self.transactions[payment_id]
        if sale.type == "credit":
            raise Refusal("91505")
        if sale.status not in REFUNDABLE:
            raise Refusal("91506")
        left = self.left(sale)
        value = left if amount is None else Decimal(amount)
        if left == 0:
            raise Refusal("91512")
        if value <= 0:
            raise Refusal("81531")
        if value > left:
            raise Refusal("91521")
        made = self._new("credit", value, sale.currency, "submitted_for_settlement")
        made.order_id, made.refunded, made.instrument = order_id, sale.id, sale.instrument
        sale.refund_ids.append(made.id)
        if sale.instrument == "paypal_account" and any(status == "open" for _, status in sale.disputes):
            self.become(made.id, "settlement_declined", "4019")
            raise Declined(made)
        if self.settles_at_once:
            self.become(made.id, "settled")
        return made

    def void(self, payment_id: str) -> Transaction:
        """Void a payment. Raises `KeyError` or `Refusal`."""
        sale = self.transactions[payment_id]
        if sale.status not in VOIDABLE:
            raise Refusal("91504")
        self.become(sale.id, "voided")
        return sale

    def settle(self) -> int:
        """Settle all that waits for it, as every night does; return how many."""
        waiting = [each for each in self.transactions.values() if each.status == "submitted_for_settlement"]
        for each in waiting:
            self.become(each.id, "settled")
        return len(waiting)

    def found(self, created_gte: float, ids: set[str] | None) -> list[Transaction]:
        """Return what the search's index has of the refunds made since then, newest first."""
        until = self.now() - self.lag_seconds
        return [
            each
            for each in reversed(self.transactions.values())
            if each.type == "credit"
            and each.refunded
            and int(created_gte) <= each.created <= until
            and (ids is None or each.id in ids)
        ]
