"""The balance transactions that payments, refunds and disputes cause, on their own account and on others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refund_worker.processors.sandbox.ledger import ADJUSTMENT, Transaction
from refund_worker.processors.sandbox.records import CARD, Dispute, Payment, Refund

NewId = Callable[..., str]


def of_charge(payment: Payment, transaction_id: str, second: int) -> Transaction:
    """Return the transaction of a charge that succeeded and is captured."""
    type = "charge" if payment.method == CARD else "payment"
    transaction = Transaction(transaction_id, type, payment.captured, payment.currency, payment.charge_id, second)
    transaction.fee, transaction.available_on = payment.fee, payment.available_on or 0
    if payment.destination is None:
        transaction.application_fee = payment.application_fee
    return transaction


def of_failed_charge(payment: Payment, transaction_id: str, amount: int, second: int) -> Transaction:
    """Return the transaction that takes the `amount` of a charge back, which failed after it succeeded."""
    return Transaction(transaction_id, "payment_failure_refund", -amount, payment.currency, payment.charge_id, second)


def of_refund(payment: Payment, refund: Refund, second: int) -> Iterator[Transaction]:
    """Yield the transactions of a refund: its money goes out, and comes back if it fails."""
    amount, transaction_id = refund.object["amount"], refund.object["balance_transaction"]
    if isinstance(transaction_id, str):
        type = "refund" if payment.method == CARD else "payment_refund"
        own = Transaction(transaction_id, type, -amount, payment.currency, refund.id, second)
        if payment.destination is None:
            own.application_fee = -refund.shares.fee
        yield own
        failure_id = refund.object["failure_balance_transaction"]
        if isinstance(failure_id, str):
            yield Transaction(failure_id, "refund_failure", amount, payment.currency, refund.id, second)


def of_dispute(dispute: Dispute) -> Iterator[Transaction]:
    """Yield the transactions of a dispute: each withdrawal and reinstatement."""
    for shown in dispute.object["balance_transactions"]:
        yield Transaction(
            shown["id"], ADJUSTMENT, shown["amount"], shown["currency"], dispute.id, shown["created"], shown["fee"]
        )


# -- between a platform and its connected accounts --------------------------------------------------------------------


def of_application_fee(payment: Payment, new_id: NewId, second: int) -> Iterator[Transaction]:
    """Yield the platform's transaction of its fee, if the payment has one."""
    if payment.application_fee:
        source = new_id("fee", payment.id)
        yield _between(new_id, "application_fee", payment.application_fee, payment, source, second)


def of_transfer(payment: Payment, new_id: NewId, second: int) -> tuple[Transaction, Transaction] | None:
    """Return both sides of the transfer of a destination charge: the platform's and the destination's."""
    if not payment.transfer:
        return None
    out = _between(new_id, "transfer", -payment.transfer, payment, new_id("tr", payment.id), second)
    came = _between(new_id, "payment", payment.transfer, payment, new_id("py", payment.id), second)
    came.application_fee = payment.application_fee
    return out, came


def of_fee_share(payment: Payment, refund: Refund, new_id: NewId, second: int) -> Iterator[Transaction]:
    """Yield the platform's transaction of the share of its fee that a refund returns."""
    if refund.shares.fee:
        source = new_id("fr", refund.id)
        yield _between(new_id, "application_fee_refund", -refund.shares.fee, payment, source, second)


def of_transfer_share(
    payment: Payment, refund: Refund, new_id: NewId, second: int
) -> tuple[Transaction, Transaction] | None:
    """Return both sides of the share of the transfer that a refund takes back."""
    share = refund.shares.transfer
    if not share:
        return None
    back = _between(new_id, "transfer_refund", share, payment, new_id("trr", refund.id), second)
    gone = _between(new_id, "payment_refund", -share, payment, new_id("pyr", refund.id), second)
    gone.application_fee = -refund.shares.fee
    return back, gone


def _between(new_id: NewId, type: str, amount: int, payment: Payment, source: str, second: int) -> Transaction:
    return Transaction(new_id("txn", source), type, amount, payment.currency, source, second)
