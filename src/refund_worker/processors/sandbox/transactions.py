"""Balance transactions: each movement of money on our account at the processor, as Stripe shows it."""

from __future__ import annotations

from refund_worker.processors.sandbox.answers import JsonObject

# Stripe's types, and how its reports name them. An adjustment is the money of a dispute: its sign tells the direction.
REPORTING_CATEGORIES = {
    "charge": "charge",
    "payment": "charge",
    "refund": "refund",
    "payment_refund": "refund",
    "refund_failure": "refund_failure",
    "payment_failure_refund": "charge_failure",
    "payout": "payout",
}
DISPUTE, DISPUTE_REVERSAL = "dispute", "dispute_reversal"


def transaction_object(
    transaction_id: str,
    type: str,
    amount: int,
    currency: str,
    source: str | None,
    created: int,
    *,
    fee: int = 0,
    available_on: int | None = None,
    available: bool = True,
) -> JsonObject:
    """Return a balance transaction. `amount` and `fee` are in minor units; `net` is the amount without the fee."""
    category = REPORTING_CATEGORIES.get(type) or (DISPUTE if amount < 0 else DISPUTE_REVERSAL)
    fee_details = [] if not fee else [{"amount": fee, "currency": currency, "type": "stripe_fee"}]
    return {
        "id": transaction_id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": created if available_on is None else available_on,
        "balance_type": "payments",
        "created": created,
        "currency": currency,
        "description": None,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": fee_details,
        "net": amount - fee,
        "reporting_category": category,
        "source": source,
        "status": "available" if available else "pending",
        "type": type,
    }
