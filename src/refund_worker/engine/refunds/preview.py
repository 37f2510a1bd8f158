"""Preview a request: show what it would do now, without doing any of it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.domain.account_names import processor_of
from refund_worker.domain.limits import needs_approval
from refund_worker.domain.refund import Kind, Leg, Refund, RefundRequest, To
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import BatchAccounts
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.errors import Refusal


def preview(context: Context, request: RefundRequest) -> api_schema.Preview:
    """Return the outcome of this request if it were made now. Nothing is stored or reserved.

    {would_be: "accepted" or {code, message}, credits, maximum_credits, legs[{payment_id, processor, amount_minor,
    currency, credits, unreturnable_minor (where there is any)}], amounts[] as a refund's, balance_before, balance_after
    (both null for an unknown customer), policy{needs_approval, approval_threshold_minor, allocation}}. `balance_after`
    is the balance once all of the refund has succeeded.
    """
    with context.database.read() as connection:
        return _preview(connection, context, request)


def _preview(connection: Connection, context: Context, request: RefundRequest) -> api_schema.Preview:
    now = context.clock(connection)
    batch = BatchAccounts()
    (request,) = batch.load(connection, [request], context.policy, context.limits, now, lock=False)

    def trial(asked: RefundRequest) -> Refund | Refusal:
        try:
            return batch.refund_of(asked, "preview", context, now)
        except Refusal as refusal:
            return refusal

    outcome = trial(request)
    most = batch.maximum_credits(request, context)
    largest = trial(replace(request, credits=most)) if most else None
    customer = batch.customers.get(request.customer_id)
    before = customer.balance if customer else None
    return {
        "would_be": _refused(outcome) if isinstance(outcome, Refusal) else "accepted",
        "credits": outcome.credits if isinstance(outcome, Refund) else request.credits,
        "maximum_credits": most if isinstance(largest, Refund) else 0,
        "legs": [_leg(leg) for leg in outcome.legs] if isinstance(outcome, Refund) else [],
        "amounts": refund_view(outcome)["amounts"] if isinstance(outcome, Refund) else [],
        "balance_before": before,
        "balance_after": before + _change(outcome) if before is not None else None,
        "policy": {
            "needs_approval": isinstance(outcome, Refund) and needs_approval(outcome, batch.usage, context.limits),
            "approval_threshold_minor": context.limits.approval_threshold_minor,
            "allocation": context.policy.allocation,
        },
    }


def _refused(refusal: Refusal) -> api_schema.PreviewRefusal:
    return {"code": refusal.code, "message": refusal.message}


def _change(outcome: Refund | Refusal) -> int:
    """Return the change of the balance in credits.

    Money that is paid out takes its credits along, except those that a correction took before.
    """
    if isinstance(outcome, Refusal) or outcome.of_correction:
        return 0
    if outcome.kind is Kind.WITHDRAWAL:
        return -outcome.credits
    return outcome.credits if outcome.to is To.BALANCE else 0


def _leg(leg: Leg) -> api_schema.PlannedLeg:
    planned: api_schema.PlannedLeg = {
        "payment_id": leg.payment_id,
        "processor": processor_of(leg.processor),
        "processor_account": leg.processor,
        "amount_minor": leg.amount_minor,
        "currency": leg.currency,
        "credits": leg.credits,
    }
    if leg.unreturnable_minor:
        planned["unreturnable_minor"] = leg.unreturnable_minor
    return planned
