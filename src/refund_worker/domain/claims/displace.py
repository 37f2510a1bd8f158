"""Take a refund's unsent legs off a payment that others have taken money of, and find another way for them."""

from __future__ import annotations

from collections.abc import Iterable

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.credit_postings import post_internal_step, release
from refund_worker.domain.decision import SYSTEM, Decision, Policy, Reread
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.next_step import place_or_return
from refund_worker.domain.payment_check import CHARGE_DISPUTED
from refund_worker.domain.refund import Leg, Refund, RefundStatus
from refund_worker.domain.state_machine import TO_BE_SENT, UNPAID_FINAL, LegOutcome, RefundOutcome

CHARGED_BACK, PAYMENT_CLOSED = "charged_back", "payment_closed"
# Nothing can be refunded over the payment any more: legs that were proved not to be executed leave it too. After a
# refund by others, a person decides about such legs.
_NOTHING_LEFT = frozenset({CHARGED_BACK, PAYMENT_CLOSED})


def leaves(leg: Leg, payment_id: str, code: str) -> bool:
    """Return True if the leg goes over the payment and has to leave it for the reason `code`: it is unsent."""
    waits = leg.payment_id == payment_id and leg.status in TO_BE_SENT and not leg.unanswered
    return waits and (code in _NOTHING_LEFT or (leg.first_intent_at is None and not leg.objects))


def displace(
    refund: Refund, payment_id: str, code: str, now: float, policy: Policy, payments: Iterable[RefundablePayment]
) -> Decision | None:
    """Place the refund's unsent legs over other payments, or give their credits back.

    Return None if it has no such legs. `code` says why, and `payments` are the customer's payments. A refund that still
    waits for its approval keeps it. It is canceled if nothing is left that could be approved.
    """
    unsent = [leg for leg in refund.legs if leaves(leg, payment_id, code)]
    if not unsent:
        return None
    builder = DecisionBuilder.open(refund, now, policy, SYSTEM)
    if refund.status is RefundStatus.QUEUED:
        post_internal_step(builder)
    for leg in unsent:
        builder.transition_leg(
            builder.legs[leg.leg_id],
            LegOutcome.DISPLACED,
            reason=code,
            attention_code=None,
            failure_code=code,
            failure_message="the money of its payment was taken by others before this refund was sent",
            next_at=None,
            in_doubt=None,
            held=False,
            blocked_by=(),
        )
    place_or_return(builder, payments, but=payment_id)
    if not builder.refund.ledger_posted:
        _cancel_if_empty(builder, code)
    return builder.build().released()


def _cancel_if_empty(builder: DecisionBuilder, code: str) -> None:
    if all(leg.status in UNPAID_FINAL for leg in builder.legs.values()):
        release(builder)
        builder.transition_refund(RefundOutcome.CANCELED, reason=code)


def resume_disputed(refund: Refund, payment_id: str, now: float, policy: Policy) -> Decision | None:
    """Let the legs continue that a dispute of this payment had stopped. Return None if it has no such legs."""
    stopped = [
        leg
        for leg in refund.legs
        if leg.payment_id == payment_id
        and leg.status in TO_BE_SENT
        and CHARGE_DISPUTED in (leg.attention_code, leg.failure_code)
    ]
    if not stopped:
        return None
    builder = DecisionBuilder.open(refund, now, policy, SYSTEM)
    for leg in stopped:
        builder.record_event("dispute_ended", leg=leg)
        builder.update_leg(
            leg,
            attention_code=None,
            failure_code=None,
            failure_message=None,
            next_at=now,
            retry_count=0,
            blocked_count=0,
        )
        builder.read_again[payment_id] = Reread(always=False, takes_as_seen=False)
    return builder.build().released()
