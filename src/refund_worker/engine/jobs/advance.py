"""Process what is due: refunds and payouts, which share workers, queues and messages."""

from __future__ import annotations

from collections.abc import Collection

from refund_worker.engine.context import Context
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.engine.refunds.process import process_due
from refund_worker.store.payouts.payouts import is_payout_id


def advance_due(context: Context, only: Collection[str] | None = None, *, bulk: bool | None = None) -> int:
    """Process due refunds and payouts once; return how many were claimed.

    `only` restricts them to these ids, and `bulk` to bulk work (True) or to all other work (False).
    """
    if only is None:
        return process_due(context, bulk=bulk) + process_due_payouts(context, bulk=bulk)
    payouts = [each for each in only if is_payout_id(each)]
    refunds = [each for each in only if not is_payout_id(each)]
    claimed = process_due(context, refunds, bulk=bulk) if refunds else 0
    return claimed + (process_due_payouts(context, payouts, bulk=bulk) if payouts else 0)
