"""The credits of a customer that can be paid out, by currency."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.allocation import Payable, payable_by_currency, split_by_currency
from refund_worker.errors import ExceedsRefundable
from refund_worker.store import accounts


def payable_parts(connection: Connection, customer_id: str, credits: int, allocation: str) -> tuple[Payable, ...]:
    """Return how many of `credits` the customer's payments could pay out in each currency, and the money for them.

    All payments count, as they do when the withdrawal is accepted.
    """
    if credits <= 0:
        return ()
    payments = accounts.refundable_payments(connection, [customer_id]).get(customer_id, [])
    return payable_by_currency(credits, payments, allocation)


def check_payable(connection: Connection, account: CustomerAccount, credits: int, allocation: str) -> None:
    """Check that `credits` could be taken off the balance and paid out by one withdrawal.

    Raises `ExceedsRefundable` that says how much could be paid out instead.
    """
    payable = account.payable_besides(accounts.credits_to_pay_out(connection, account.customer_id))
    parts = payable_parts(connection, account.customer_id, payable, allocation)
    if any(part.credits >= credits for part in parts):
        return
    split = split_by_currency(min(credits, payable), parts, "")
    each = " and ".join(f"{share:,} in {currency}" for currency, share in split)
    if not split:
        message = f"none of these {credits:,} credits can be paid out: no payment has room for them"
    elif len(split) == 1:
        message = f"only {each} of these {credits:,} credits can be paid out"
    else:
        message = f"no currency alone can pay out {credits:,} credits: enter a correction for each, {each}"
    raise ExceedsRefundable(message, field="credits")
