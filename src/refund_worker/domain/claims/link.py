"""Let a refund that others made count as the payment of one of our refunds, as long as it pays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.claims.claim import Claim
from refund_worker.domain.decision import SYSTEM, Decision, Policy
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.legs import leg_id_of
from refund_worker.domain.money import split
from refund_worker.domain.next_step import place_or_return
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import LIVE_OBJECT_STATES, Leg, LegStatus, Refund, RefundStatus
from refund_worker.domain.refund_object import REFUNDED_TWICE, apply_object
from refund_worker.domain.replacements import others_of_family
from refund_worker.domain.state_machine import POLLED, TO_BE_SENT, UNPAID_FINAL, LegOutcome
from refund_worker.errors import ActionNotAllowed, InvalidRequest

# The refund is not to be paid, or it waits for its approval.
_NOT_TO_BE_PAID = frozenset({RefundStatus.AWAITING_APPROVAL, RefundStatus.REJECTED, RefundStatus.CANCELED})
_PAID_OR_ASKED_FOR = POLLED | {LegStatus.SENDING, LegStatus.SUCCEEDED}


def leg_to_link(refund: Refund, claim: Claim) -> Leg:
    """Return the leg of the refund that the claim's refund object can pay.

    Raises `InvalidRequest` if no leg goes over the claim's payment, and `ActionNotAllowed` if none there can be linked.
    """
    over = [leg for leg in refund.legs if leg.payment_id == claim.payment_id and leg.amount_minor]
    if not over:
        raise InvalidRequest(
            f"refund {refund.refund_id} has no part over payment {claim.payment_id}", field="refund_id"
        )
    if refund.status in _NOT_TO_BE_PAID:
        raise ActionNotAllowed(f"refund {refund.refund_id} is {refund.status}: link the transaction instead")
    free = [leg for leg in over if leg.status not in _PAID_OR_ASKED_FOR]
    if not free:
        raise ActionNotAllowed(f"the processor already has a refund for {over[0].leg_id}: it is {over[0].status}")
    leg = max(free, key=lambda leg: leg.amount_minor)
    legs = {each.leg_id: each for each in refund.legs}
    is_paid_whole = leg.amount_minor <= claim.amount_minor
    if any(_may_pay(other, is_paid_whole) for other in others_of_family(leg, legs)):
        raise ActionNotAllowed(f"another part of refund {refund.refund_id} pays the money of {leg.leg_id}")
    if leg.amount_minor > claim.amount_minor and leg.unanswered:
        raise ActionNotAllowed(f"the outcome of {leg.leg_id} is not known yet: wait until it is")
    return leg


def _may_pay(leg: Leg, is_paid_whole: bool) -> bool:
    """Return True if the leg has paid or may still pay beside the one that is linked.

    A leg that was never sent is released if the linked one is paid whole, because its money is not needed any more.
    """
    is_released = is_paid_whole and leg.status in TO_BE_SENT and not leg.unanswered
    return leg.status not in UNPAID_FINAL and not is_released


def link(
    refund: Refund,
    leg: Leg,
    claim: Claim,
    *,
    now: float,
    policy: Policy,
    payments: Iterable[RefundablePayment],
    actor: str,
    reason: str,
) -> tuple[Decision, int]:
    """Return the decision that the claim's refund object pays the leg, and the minor units that it pays of it.

    The rest of a larger leg is placed over other `payments`, or its credits are given back.
    """
    builder = DecisionBuilder.open(refund, now, policy, actor)
    leg = builder.legs[leg.leg_id]
    if leg.amount_minor > claim.amount_minor:
        leg = _split_off_rest(builder, leg, claim.amount_minor)
    builder.record_event("linked", leg=leg, reason=reason, processor_refund_id=claim.object_id)
    apply_object(builder, leg, _as_object(claim, leg))
    place_or_return(builder, payments, but=claim.payment_id or "")
    return builder.build().released(), leg.amount_minor


def named_legs(refund: Refund, claim: Claim) -> list[Leg]:
    """Return the legs that a person called paid by the claim's refund object."""
    return [
        leg
        for leg in refund.legs
        if leg.payment_id == claim.payment_id and leg.manual_reference == claim.object_id != leg.processor_refund_id
    ]


def take_back_manual_payment(refund: Refund, claim: Claim, *, now: float, policy: Policy) -> Decision:
    """Return the decision that the claim's refund object failed, by which a person called legs paid.

    The processor's record goes before the person's: such a leg fails late, like one whose own object fails. If an
    object of ours pays the leg too, that one is now the only one.
    """
    builder = DecisionBuilder.open(refund, now, policy, SYSTEM)
    for leg in named_legs(refund, claim):
        if any(known.state in LIVE_OBJECT_STATES for known in leg.objects):
            undecided = leg.attention_code == REFUNDED_TWICE
            builder.record_event("manual_payment_failed", leg=leg, processor_refund_id=claim.object_id)
            builder.update_leg(
                leg, manual_reference=None, attention_code=None if undecided else leg.attention_code, next_at=None
            )
        else:
            apply_object(builder, leg, _as_object(claim, leg))
    return builder.build().released()


def _as_object(claim: Claim, leg: Leg) -> RefundObject:
    """Return the refund object as the leg would have asked for it: a larger object pays the leg with a part."""
    return RefundObject(
        processor_refund_id=claim.object_id,
        status=claim.object_status,
        amount_minor=leg.amount_minor,
        currency=claim.currency,
        payment_refs=(leg.processor_payment_id,),
        leg_id=leg.leg_id,
        attempt=None,
        failure_code=None,
        created_at=datetime.fromtimestamp(claim.object_created_at, UTC),
    )


def _split_off_rest(builder: DecisionBuilder, leg: Leg, paid_minor: int) -> Leg:
    """Split the leg in two, and return the part of `paid_minor`. The other part has failed."""
    parts = (paid_minor, leg.amount_minor - paid_minor)
    credits = split(leg.credits, parts)
    payment_credits = split(leg.payment_credits, parts)
    its_returned = _take_returned(builder, leg, parts)
    rest = replace(
        leg,
        leg_id=leg_id_of(leg.refund_id, len(builder.legs) + 1),
        amount_minor=parts[1],
        credits=credits[1],
        payment_credits=payment_credits[1],
        reversed_credits=its_returned,
        objects=(),
    )
    builder.legs[rest.leg_id] = rest
    if rest.status in TO_BE_SENT:
        builder.transition_leg(
            rest,
            LegOutcome.DISPLACED,
            reason=REFUNDED_ELSEWHERE,
            failure_code=REFUNDED_ELSEWHERE,
            failure_message="the payment was refunded elsewhere, with less money",
            attention_code=None,
            next_at=None,
            in_doubt=None,
            blocked_by=(),
        )
    return builder.update_leg(
        builder.legs[leg.leg_id],
        amount_minor=parts[0],
        credits=credits[0],
        payment_credits=payment_credits[0],
        unreturnable_minor=0,
    )


def _take_returned(builder: DecisionBuilder, leg: Leg, parts: tuple[int, int]) -> int:
    """Take the second part's share of the credits that were returned for the leg, and return how many these are.

    The legs that had replaced it, and failed too, may have returned them.
    """
    family = (leg, *others_of_family(leg, builder.legs))
    _, share = split(sum(one.reversed_credits for one in family), parts)
    left = share
    for one in family:
        taken = min(one.reversed_credits, left)
        left -= taken
        if taken:
            builder.update_leg(one, reversed_credits=one.reversed_credits - taken)
    return share
