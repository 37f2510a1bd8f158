"""Refunds of ours that paid money which a dispute takes as well: a person is alerted once of each."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.domain.claims.settle import SYSTEM
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.refund import Leg, LegStatus
from refund_worker.domain.state_machine import POLLED
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.apply import apply
from refund_worker.store import claims, refunds

_MONEY_IS_OUT = POLLED | {LegStatus.SUCCEEDED}


def alert_of_conflicts(connection: Connection, context: Context, payment_id: str, now: float) -> None:
    """Record `refund_and_dispute` for each leg that paid over the payment while a dispute takes its money.

    The event names both. The refunds over the payment are locked by the caller.
    """
    its_claims = claims.claims_on(connection, [payment_id]).get(payment_id, [])
    disputes = [claim for claim in its_claims if claim.kind is ClaimKind.DISPUTE and claim.is_live]
    if not disputes:
        return
    decisions = []
    alarmed = {dispute.claim_id: dispute for dispute in disputes}
    for refund in refunds.load(connection, claims.refunds_over(connection, payment_id), lock=True):
        builder = DecisionBuilder.open(refund, now, context.policy, SYSTEM)
        for leg in refund.legs:
            for dispute in tuple(alarmed.values()):
                if _collides(leg, dispute):
                    builder.record_event(
                        "refund_and_dispute", alarm=True, leg=leg, dispute=dispute.object_id, payment_id=payment_id
                    )
                    alarmed[dispute.claim_id] = replace(dispute, alarmed_legs=(*dispute.alarmed_legs, leg.leg_id))
        if builder.events:
            decisions.append(builder.build().released())
    apply(connection, decisions, now, notify=context.notify)
    claims.write_claims(connection, [claim for claim in alarmed.values() if claim not in disputes])


def _collides(leg: Leg, dispute: Claim) -> bool:
    paid = leg.payment_id == dispute.payment_id and leg.status in _MONEY_IS_OUT and leg.amount_minor > 0
    return paid and leg.leg_id not in dispute.alarmed_legs
