"""Rules about one leg, or about the legs of one refund. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from refund_worker.domain.payouts.payout import PayoutLeg
from refund_worker.domain.refund import LIVE_OBJECT_STATES, Doubt, Leg, LegStatus, Refund
from refund_worker.domain.send_state import SendState
from refund_worker.domain.state_machine import TO_BE_SENT, UNPAID_FINAL

UNREACHABLE = "processor_unreachable"


def leg_id_of(refund_id: str, number: int) -> str:
    """Return the id of a refund's leg. Legs are counted from 1 in the order in which they were made."""
    return f"{refund_id}-{number}"


def leg_number(leg: Leg) -> str:
    """Return the number of the leg within its refund, as text."""
    return leg.leg_id.rsplit("-", 1)[-1]


def credits_to_reverse(refund: Refund) -> int:
    """Return the credits of abandoned or failed legs that were not returned to the balance yet."""
    return sum(leg.reversed_credits for leg in refund.legs) - refund.reversed_credits


def unplaced_legs(refund: Refund) -> tuple[Leg, ...]:
    """Return the legs that failed for good and whose money has no other payment yet.

    A leg about which a person must decide is not among them.
    """
    return tuple(
        leg for leg in refund.legs if leg.status in UNPAID_FINAL and not leg.reallocated and not leg.attention_code
    )


def is_ready(leg: SendState) -> bool:
    """Return True if the leg was planned and waits neither for a time nor for a person."""
    return leg.status is LegStatus.PLANNED and leg.next_at is None and leg.attention_code is None


def is_watched(leg: SendState) -> bool:
    """Return True if the leg was paid manually while an answer was missing.

    The unanswered call may still land, so the leg is looked up until it cannot land any more.
    """
    return leg.status is LegStatus.SUCCEEDED and leg.unanswered


L = TypeVar("L", Leg, PayoutLeg)


def fresh_attempt(leg: L) -> L:
    """Return the leg with its next attempt, which has a key of its own.

    This needs proof that the last attempt created nothing that may pay. An attempt that was never sent stays the next
    one.
    """
    number = leg.attempt + 1 if leg.sends else leg.attempt
    in_doubt = Doubt.of(unanswered=leg.unanswered)
    return replace(leg, attempt=number, sends=0, first_sent_at=None, in_doubt=in_doubt)


def lists_before_sending(leg: Leg) -> bool:
    """Return True if the list must be read before the leg is sent.

    The leg waits now for so long that a person may pay meanwhile.
    """
    return leg.held or leg.last_sent_at is not None


def clear_unreachable(leg: L) -> L:
    """Clear the attention code "unreachable": the processor has answered."""
    return replace(leg, attention_code=None) if leg.attention_code == UNREACHABLE else leg


def waits_for_person(leg: SendState) -> bool:
    """Return True if a person decides if the leg is sent. Only a report of its own object may make it due again."""
    return leg.status in TO_BE_SENT and leg.attention_code is not None and leg.next_at is None


def void_objects_of_older_attempts(leg: Leg) -> frozenset[str]:
    """Return the ids of objects that failed under an older attempt. They say nothing about the current attempt."""
    return frozenset(
        known.processor_refund_id
        for known in leg.objects
        if known.state not in LIVE_OBJECT_STATES and known.attempt != leg.attempt
    )
