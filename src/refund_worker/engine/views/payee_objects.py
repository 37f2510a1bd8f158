"""Payees and earnings as the API, the command line and notifications show them."""

from __future__ import annotations

from refund_worker.api_schema import Earning as EarningRead
from refund_worker.domain.payouts.earnings import Earning
from refund_worker.times import iso


def earning_view(earning: Earning) -> EarningRead:
    """Return the earning, with what is clawed back of it."""
    return {
        "earning_id": earning.earning_id,
        "payee_id": earning.payee_id,
        "amount_minor": earning.amount_minor,
        "currency": earning.currency,
        "transaction_id": earning.transaction_id,
        "description": earning.description,
        "available_at": iso(earning.available_at),
        "clawed_back_minor": earning.clawed_back_minor,
        "created_at": iso(earning.created_at),
    }
