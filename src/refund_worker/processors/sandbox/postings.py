"""The balance transactions that payments, refunds and disputes cause."""

from __future__ import annotations

from collections.abc import Iterator

from refund_worker.processors.sandbox.ledger import ADJUSTMENT, Transaction
from refund_worker.processors.sandbox.records import CARD, Dispute, Payment, Refund


def of_charge(payment: Payment, transaction_id: str, second: int) -> Transaction:
    """Return the transaction of a charge that succeeded and is captured."""
    type = "charge" if payment.method == CARD else "payment"
    transaction = Transaction(transaction_id, type, payment.captured, payment.currency, payment.charge_id, second)
    transaction.fee, transaction.available_on = payment.fee, payment.available_on or 0
    return transaction


def of_failed_charge(payment: Payment, transaction_id: str, amount: int, second: int) -> Transaction:
    """Return the transaction that takes the `amount` of a charge back, which failed after it succeeded."""
    return Transaction(transaction_id, "payment_failure_refund", -amount, payment.currency, payment.charge_id, second)


def of_refund(payment: Payment, refund: Refund, second: int) -> Iterator[Transaction]:
    """Yield the transactions of a refund: its money goes out, and comes back if it fails."""
    amount, transaction_id = refund.object["amount"], refund.object["balance_transaction"]
    if isinstance(transaction_id, str):
        type = "refund" if payment.method == CARD else "payment_refund"
        yield Transaction(transaction_id, type, -amount, payment.currency, refund.id, second)
        failure_id = refund.object["failure_balance_transaction"]
        if isinstance(failure_id, str):
            yield Transaction(failure_id, "refund_failure", amount, payment.currency, refund.id, second)


def of_dispute(dispute: Dispute) -> Iterator[Transaction]:
    """Yield the transactions of a dispute: each withdrawal and reinstatement."""
    for shown in dispute.object["balance_transactions"]:
        yield Transaction(
            shown["id"], ADJUSTMENT, shown["amount"], shown["currency"], dispute.id, shown["created"], shown["fee"]
        )
