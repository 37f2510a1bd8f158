"""The JSON of payouts, as the API, the notifications and the command line show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping

from refund_worker.domain.payouts.machine import available_payout_actions
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.times import iso

Json = dict[str, Any]


def payout_view(payout: Payout, objects: Iterable[RowMapping] = ()) -> Json:
    """Return a payout as JSON. `objects` are the rows of its transfer objects, for what the processor said last."""
    last = {row["leg_id"]: row for row in objects}
    times = ("created_at", "updated_at", "paid_at", "settles_at", "hold_until", "act_by")
    return {
        "id": payout.payout_id,
        "status": payout.status,
        "payee_id": payout.payee_id,
        "processor_account": payout.processor,
        "amount_minor": payout.amount_minor,
        "currency": payout.currency,
        "description": payout.description,
        "source": payout.source,
        "method": payout.method,
        "destination": payout.destination_masked,
        "refund_id": payout.refund_id,
        "run_id": payout.run_id,
        "legs": [_leg_view(leg, last.get(leg.leg_id)) for leg in payout.legs],
        "hold_code": payout.hold_code,
        "failure_code": payout.failure_code,
        "failure_message": payout.failure_message,
        "fault": payout.fault,
        "lost_minor": payout.lost_minor,
        "available_actions": [str(action) for action in available_payout_actions(payout)],
        "requested_by": payout.requested_by,
        "version": payout.version,
        **{name: _time(getattr(payout, name)) for name in times},
    }


def _leg_view(leg: PayoutLeg, reported: RowMapping | None) -> Json:
    shown = {
        "leg_id": leg.leg_id,
        "step": leg.step,
        "status": leg.status,
        "amount_minor": leg.amount_minor,
        "currency": leg.currency,
        "object_id": leg.object_id,
        "attempts": leg.attempts,
        "failure_code": leg.attention_code or leg.failure_code,
        "processor_status": None,
        "arrives_at": None,
        "trace": None,
    }
    if reported is not None:
        shown["processor_status"] = reported["status"]
        shown["arrives_at"] = _time(reported["arrives_at"])
        shown["trace"] = reported["trace"]
    return shown


def _time(value: float | None) -> str | None:
    return None if value is None else iso(value)
