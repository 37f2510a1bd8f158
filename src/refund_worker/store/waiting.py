"""Refunds and payouts that wait for a processor: due again at once when it can be used again."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.store import refunds
from refund_worker.store.payouts import payouts


def requeue_waiting_for(connection: Connection, processor: str | None, now: float) -> None:
    """Make due now what was postponed while the processor, or all of them (None), was paused. `now`: epoch seconds."""
    refunds.requeue_waiting_for(connection, processor, now)
    payouts.requeue_waiting_for(connection, processor, now)
