"""Refunds of ours that paid money which a dispute takes as well: a person is alerted once of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.domain.decision import SYSTEM, Decision
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.refund import Leg, LegStatus, Refund
from refund_worker.domain.state_machine import POLLED
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.apply import apply
from refund_worker.store import accounts, claims, refunds

_MONEY_IS_OUT = POLLED | {LegStatus.SUCCEEDED}


def alert_of_conflicts(connection: Connection, context: Context, payment_id: str, now: float) -> None:
    """Record `refund_and_dispute` for each leg that paid over the payment while a dispute takes its money.

    The event names both. The refunds over the payment are locked by the caller.
    """
    _alert(connection, context, payment_id, claims.refunds_over(connection, payment_id), now)


def alert_of_late_answers(connection: Connection, context: Context, decisions: Iterable[Decision], now: float) -> None:
    """Record the same for legs that these decisions show to be paid: the answer came after the dispute.

    The refunds of the decisions are locked by the caller.
    """
    paid = [
        (leg.payment_id, decision.after.refund_id)
        for decision in decisions
        if decision.before is not None
        for leg in _newly_paid(decision.before, decision.after)
    ]
    if not paid:
        return
    disputed = {
        payment_id: its[0].customer_id or ""
        for payment_id, its in claims.claims_on(connection, sorted({payment_id for payment_id, _ in paid})).items()
        if any(claim.kind is ClaimKind.DISPUTE and claim.is_live for claim in its)
    }
    if disputed:
        accounts.lock_customers(connection, set(disputed.values()))
    for payment_id in sorted(disputed):
        _alert(connection, context, payment_id, [refund for over, refund in paid if over == payment_id], now)


def _newly_paid(before: Refund, after: Refund) -> list[Leg]:
    earlier = {leg.leg_id for leg in before.legs if leg.status in _MONEY_IS_OUT}
    return [leg for leg in after.legs if leg.status in _MONEY_IS_OUT and leg.leg_id not in earlier]


def _alert(connection: Connection, context: Context, payment_id: str, refund_ids: Collection[str], now: float) -> None:
    its_claims = claims.claims_on(connection, [payment_id]).get(payment_id, [])
    disputes = [claim for claim in its_claims if claim.kind is ClaimKind.DISPUTE and claim.is_live]
    if not disputes:
        return
    decisions = []
    alarmed = {dispute.claim_id: dispute for dispute in disputes}
    for refund in refunds.load(connection, list(refund_ids), lock=True):
        builder = DecisionBuilder.open(refund, now, context.policy, SYSTEM)
        for leg in refund.legs:
            for dispute in tuple(alarmed.values()):
                if _collides(leg, dispute):
                    builder.record_event(
                        "refund_and_dispute", alarm=True, leg=leg, dispute=dispute.object_id, payment_id=payment_id
                    )
                    alarmed[dispute.claim_id] = replace(dispute, alarmed_legs=(*dispute.alarmed_legs, leg.leg_id))
        if builder.events:
            decisions.append(builder.build())  # a worker that holds it keeps its lease
    apply(connection, decisions, now, notify=context.notify)
    claims.write_claims(connection, [claim for claim in alarmed.values() if claim not in disputes])


def _collides(leg: Leg, dispute: Claim) -> bool:
    paid = leg.payment_id == dispute.payment_id and leg.status in _MONEY_IS_OUT and leg.amount_minor > 0
    return paid and leg.leg_id not in dispute.alarmed_legs
