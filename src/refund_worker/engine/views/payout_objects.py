"""Payouts as the API, the notifications and the command line show them.

Of a compliance outcome nothing is shown but that the processor refused: its code stays in the timeline for operators.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping

from refund_worker import api_schema
from refund_worker.domain.payouts.acceptance import ACCEPTED
from refund_worker.domain.payouts.machine import available_payout_actions, failure_that_stands
from refund_worker.domain.payouts.payout import PAYOUT_OPEN, Payout, PayoutLeg, PayoutStatus, changed_destination
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.engine.views.api_objects import event_view
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.engine.views.leg_messages import Message
from refund_worker.engine.views.payout_texts import Reported, failure_code_of, is_of_compliance, payout_texts_in_force
from refund_worker.errors import NotFound
from refund_worker.store import timeline
from refund_worker.store.payouts import attempts, lists, payees, payouts
from refund_worker.times import iso


def payout_view(
    payout: Payout,
    objects: Iterable[RowMapping] = (),
    *,
    accepted: Mapping[str, Any] | None = None,
    changed_at: float | None = None,
) -> api_schema.Payout:
    """Return a payout as JSON. `objects` are the rows of its transfer objects, for the processor's last words.

    `accepted` is the detail of its first event, for a payout that awaits approval. `changed_at` is since when (epoch
    seconds) its payee has another destination, or None.
    """
    last = {row["leg_id"]: row for row in objects}
    paying = last.get(payout.forward_legs[-1].leg_id) if payout.forward_legs else None
    reported = Reported(paying["arrives_at"], paying["trace"]) if paying is not None else None
    text, hides = payout_texts_in_force().of(payout, reported), hides_cause(payout)
    legs = [_leg_view(leg, last.get(leg.leg_id), hides=hides or leg.fault is Fault.COMPLIANCE) for leg in payout.legs]
    why = (accepted or {}) if payout.status is PayoutStatus.AWAITING_APPROVAL else {}
    return _fields(payout, legs, text, why, changed_at, hides=hides)


def _fields(
    payout: Payout,
    legs: list[api_schema.PayoutLeg],
    text: Message,
    why: Mapping[str, Any],
    changed_at: float | None,
    *,
    hides: bool,
) -> api_schema.Payout:
    return {
        "id": payout.payout_id,
        "status": payout.status.value,
        "payee_id": payout.payee_id,
        "processor_account": payout.processor,
        "amount_minor": payout.amount_minor,
        "currency": payout.currency,
        "description": payout.description,
        "source": payout.source.value,
        "method": payout.method.value,
        "destination": payout.destination_masked,
        "destination_changed_at": _time(changed_at),
        "refund_id": payout.refund_id,
        "run_id": payout.run_id,
        "legs": legs,
        "hold_code": payout.hold_code,  # type: ignore[typeddict-item]
        "hold_until": _time(payout.hold_until),
        "approval_total_minor": why.get("approval_total_minor"),
        "approval_threshold_minor": why.get("approval_threshold_minor"),
        "failure_code": failure_code_of(payout),
        "failure_message": None if hides else payout.failure_message,
        "fault": payout.fault.value if payout.fault else None,
        "act_by": _time(payout.act_by),
        "lost_minor": payout.lost_minor,
        "payee_text": text.customer,
        "staff_text": text.staff,
        "available_actions": [action.value for action in available_payout_actions(payout)],
        "idempotency_key": payout.idempotency_key,
        "client": payout.client,
        "actor": payout.requested_by,
        "requested_by": payout.requested_by_note,
        "version": payout.version,
        "created_at": iso(payout.created_at),
        "updated_at": iso(payout.updated_at),
        "paid_at": _time(payout.paid_at),
        "settles_at": _time(payout.settles_at),
    }


def _leg_view(leg: PayoutLeg, reported: RowMapping | None, *, hides: bool) -> api_schema.PayoutLeg:
    return {
        "leg_id": leg.leg_id,
        "step": leg.step.value,
        "status": leg.status.value,
        "amount_minor": leg.amount_minor,
        "currency": leg.currency,
        "object_id": leg.object_id,
        "attempts": leg.attempts,
        "failure_code": None if hides else failure_that_stands(leg),
        "processor_status": None if reported is None or hides else reported["status"],
        "arrives_at": None if reported is None else _time(reported["arrives_at"]),
        "fee_minor": None if reported is None else reported["fee_minor"],
        "trace": None if reported is None else reported["trace"],
    }


def hides_cause(payout: Payout) -> bool:
    """Return True if the cause of the payout's failure is for operators alone: a compliance outcome."""
    return payout.fault is Fault.COMPLIANCE or any(leg.fault is Fault.COMPLIANCE for leg in payout.legs)


def payout_views(connection: Connection, found: Sequence[Payout]) -> list[api_schema.Payout]:
    """Return payouts as JSON, in their order, with the processor's last words about them."""
    by_leg = {leg.leg_id: payout.payout_id for payout in found for leg in payout.legs}
    objects: defaultdict[str, list[RowMapping]] = defaultdict(list)
    for row in attempts.objects_of(connection, by_leg):
        objects[by_leg[row["leg_id"]]].append(row)
    waiting = [payout.payout_id for payout in found if payout.status is PayoutStatus.AWAITING_APPROVAL]
    accepted = timeline.details_about(connection, waiting, ACCEPTED)
    now_at = payees.destinations(connection, {payout.payee_id for payout in found if payout.status in PAYOUT_OPEN})
    return [
        payout_view(
            payout,
            objects[payout.payout_id],
            accepted=accepted.get(payout.payout_id),
            changed_at=changed_destination(payout, now_at),
        )
        for payout in found
    ]


def find_payout(connection: Connection, payout_id: str, *, client: str | None = None) -> Payout:
    """Return the payout. Raises `NotFound`, also for one that `client` does not see, if it is given."""
    found = payouts.load(connection, [payout_id])
    if not found or not lists.is_visible(connection, payout_id, client):
        raise NotFound(f"payout {payout_id} is not known")
    return found[0]


def show_payout(connection: Connection, payout: Payout) -> api_schema.Payout:
    """Return the payout as JSON, with the processor's last words about it."""
    (view,) = payout_views(connection, [payout])
    return view


def list_payouts(connection: Connection, filters: lists.PayoutFilters) -> api_schema.Page[api_schema.Payout]:
    """Return payouts in the order of the filters, as {data, has_more}.

    Raises `InvalidRequest` for a cursor that is not a visible payout.
    """
    after = filters.starting_after
    if after is not None and not lists.is_visible(connection, after, filters.client):
        raise unknown_cursor(after, "payout that you can see")
    ids = lists.find_ids(connection, filters)
    found = payouts.load(connection, ids[: filters.limit])
    in_order = sorted(found, key=lambda payout: payout.payout_id, reverse=not filters.oldest_first)
    return {"data": payout_views(connection, in_order), "has_more": len(ids) > filters.limit}


def payout_timeline(connection: Connection, payout: Payout, *, whole: bool = True) -> list[api_schema.Event]:
    """Return the events of a payout, oldest first.

    Without `whole`, the events of a compliance outcome lack their reasons and details: only operators see them.
    """
    rows = timeline.events_about(connection, payout.payout_id)
    if whole:
        return [event_view(row) for row in rows]
    hides = hides_cause(payout)
    return [
        event_without_cause(row, hides=hides and (row["leg_id"] is not None or row["kind"] == timeline.STOPPED))
        for row in rows
    ]


def event_without_cause(row: RowMapping, *, hides: bool) -> api_schema.Event:
    """Return an event of a payout as those see it who may not know a compliance outcome.

    It lacks its reason and its detail if `hides`, or if its reason is a code of compliance.
    """
    event = event_view(row)
    return {**event, "why": None, "detail": {}} if hides or is_of_compliance(event["why"]) else event


def _time(value: float | None) -> str | None:
    return None if value is None else iso(value)
