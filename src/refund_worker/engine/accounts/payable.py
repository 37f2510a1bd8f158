"""The credits of a customer that can be paid out, by currency."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.allocation import Payable, payable_by_currency, split_by_currency
from refund_worker.domain.decision import Policy
from refund_worker.errors import AmountTooSmall, ExceedsRefundable
from refund_worker.store import accounts

# Corrections that one message names.
NAMED_MAX = 3


def payable_parts(connection: Connection, customer_id: str, credits: int, policy: Policy) -> tuple[Payable, ...]:
    """Return how many of `credits` the customer's payments could pay out in each currency, and the money for them.

    All payments count, as they do when the withdrawal is accepted.
    """
    payments = accounts.payments_for(connection, customer_id, credits, policy)
    return payable_by_currency(credits, payments, policy.allocation)


def check_payable(connection: Connection, account: CustomerAccount, credits: int, policy: Policy) -> None:
    """Check that `credits` could be taken off the balance and paid out by one withdrawal.

    Raises `ExceedsRefundable` that says how much could be paid out instead, and which earlier corrections are still to
    be paid out, or `AmountTooSmall`.
    """
    payable = account.payable_besides(accounts.credits_to_pay_out(connection, account.customer_id))
    parts = payable_parts(connection, account.customer_id, payable, policy)
    enough = [part for part in parts if part.credits_for(credits) == credits]
    if any(part.money_for(credits) for part in enough):
        return
    if enough:
        raise AmountTooSmall(f"{credits:,} credits are worth less than the smallest unit of money", field="credits")
    split = split_by_currency(min(credits, payable), parts, "")
    each = " and ".join(f"{share:,} in {currency}" for currency, share in split)
    earlier = _earlier(connection, account, payable)
    if not split:
        message = f"none of these {credits:,} credits can be paid out"
        message += "" if earlier else ": no payment has room for them"
    elif len(split) == 1:
        message = f"only {each} of these {credits:,} credits can be paid out"
    else:
        message = f"no currency alone can pay out {credits:,} credits: enter a correction for each, {each}"
    raise ExceedsRefundable(message + earlier, field="credits")


def _earlier(connection: Connection, account: CustomerAccount, payable: int) -> str:
    """Return a sentence that names the corrections whose payouts are still open, if they leave less to pay out."""
    if account.payable <= payable:
        return ""
    found = accounts.corrections_to_pay_out(connection, account.customer_id)
    names = ", ".join(f"{id} ({credits:,})" for id, credits in found[:NAMED_MAX])
    names += f" and {len(found) - NAMED_MAX:,} more" if len(found) > NAMED_MAX else ""
    total = sum(credits for _, credits in found)
    kept = f"Earlier corrections that are not paid out yet keep {total:,} credits: {names}"
    return f". {kept}. Return their money first, or delete them"
