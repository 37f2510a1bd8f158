"""Refunds that others made over a leg's payment: what nobody may pay a second time without a person's word."""

from __future__ import annotations

import math

from refund_worker.domain.decision import Policy
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.money import as_text
from refund_worker.domain.processor_replies import Found, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES, Leg, LegStatus
from refund_worker.domain.state_machine import LegOutcome

REFUNDED_ELSEWHERE = "refunded_elsewhere"
# The processor's clock and ours may differ by so much.
CLOCK_DIFFERENCE_SECONDS = 300.0
# So many are told in words; all of them stand in `blocked_by`.
TOLD_MAX, NAMED_MAX = 5, 20


def must_list_first(leg: Leg, now: float, policy: Policy, *, suspect: bool) -> bool:
    """Whether the processor's list has to be read before this leg is sent.

    Not before its very first send, which relies on the look at all that the processor made lately, nor when the same
    key is sent again soon. But always where the payment is `suspect` (that look found others' refunds of it, or nothing
    was read of it), and where the leg waited so long that a person may have paid meanwhile: through a pause, or for
    longer than a worker holds it. A send that was never begun (its turn did not come) is none.
    """
    soon = leg.last_sent_at is None or (leg.sends > 0 and now - leg.last_sent_at < policy.lease_seconds)
    relies_on_the_look = soon and leg.status is not LegStatus.BLOCKED
    if relies_on_the_look and not leg.held and not suspect:
        return False
    seconds = max(policy.lease_seconds, policy.poll_seconds)
    return leg.listed_at is None or not 0 <= now - leg.listed_at <= seconds


def blocking_refunds(leg: Leg, found: Found, *, nothing_left: bool = False) -> tuple[RefundObject, ...]:
    """Others' refunds for which nothing more may be sent for this leg; empty if there is nothing against it.

    Made since the leg's first intent, or more in all than our books know of. What a person has seen stops it no more,
    but where the processor itself says that `nothing_left` is for this leg.
    """
    standing = [item for item in found.foreign if item.status not in UNPAID_OBJECT_STATES]
    if nothing_left:
        return tuple(standing)
    unseen = tuple(item for item in standing if item.processor_refund_id not in leg.acknowledged_outside)
    since = math.inf if leg.last_sent_at is None else (leg.first_intent_at or 0) - CLOCK_DIFFERENCE_SECONDS
    older_minor = sum(item.amount_minor for item in standing if item.created_at.timestamp() < since)
    if older_minor > found.explained_minor or any(item.created_at.timestamp() >= since for item in unseen):
        return unseen
    return ()


def stop(builder: DecisionBuilder, leg: Leg, refund_objects: tuple[RefundObject, ...]) -> Leg:
    """To a person: retry takes these as seen, resolve says how it ended. Nothing more happens by itself."""
    told = ", ".join(
        f"{t.processor_refund_id} of {as_text(t.amount_minor, t.currency)}" for t in refund_objects[:TOLD_MAX]
    )
    more = f" and {len(refund_objects) - TOLD_MAX} more" if len(refund_objects) > TOLD_MAX else ""
    return builder.transition_leg(
        leg,
        LegOutcome.BLOCKED,
        reason=REFUNDED_ELSEWHERE,
        alarm=True,
        detail={"objects": " ".join(item.processor_refund_id for item in refund_objects[:NAMED_MAX])},
        attention_code=REFUNDED_ELSEWHERE,
        failure_code=REFUNDED_ELSEWHERE,
        failure_message=f"refunded by others over the same payment: {told}{more}",
        blocked_by=tuple(item.processor_refund_id for item in refund_objects),
        next_at=None,
        in_doubt=None,
        held=False,
        listed_at=None,
    )
