"""Legs that replace a failed one, and what a leg and its replacements have to pay or return together.

A leg and all legs that replace it, directly or through others, are its family. The first leg says what was asked for.
The processor may pay a leg after all that it had refused, while a replacement is on its way: then the family must
neither pay more than was asked for, as far as we decide it, nor return the credits of what another leg pays.
"""

from __future__ import annotations

from collections.abc import Mapping

from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.refund import Leg, LegStatus
from refund_worker.domain.state_machine import TO_BE_SENT, UNPAID_FINAL, WITH_PROCESSOR, LegOutcome

MAY_HAVE_PAID = WITH_PROCESSOR | {LegStatus.SUCCEEDED}


def _replaced_by(leg: Leg, legs: Mapping[str, Leg]) -> tuple[Leg, ...]:
    """Return the legs that this one replaces, directly and through others, the nearest first."""
    found: list[Leg] = []
    while leg.replaces is not None and leg.replaces in legs:
        leg = legs[leg.replaces]
        found.append(leg)
    return tuple(found)


def first_of_family(leg: Leg, legs: Mapping[str, Leg]) -> Leg:
    """Return the leg that the request itself made: `leg`, or the one that it replaces in the end."""
    return (leg, *_replaced_by(leg, legs))[-1]


def others_of_family(leg: Leg, legs: Mapping[str, Leg]) -> tuple[Leg, ...]:
    """Return the other legs of the family, in the order in which they were made."""
    first = first_of_family(leg, legs).leg_id
    return tuple(
        other for other in legs.values() if other.leg_id != leg.leg_id and first_of_family(other, legs).leg_id == first
    )


def uncovered(leg: Leg, legs: Mapping[str, Leg]) -> tuple[int, int]:
    """Return (minor units, credits) of an unpaid leg that no other leg of its family pays, may pay or has returned.

    Returned credits are worth their share of the money that was first asked for.
    """
    first, others = first_of_family(leg, legs), others_of_family(leg, legs)
    live = [other for other in others if other.status not in UNPAID_FINAL]
    returned = sum(other.reversed_credits for other in others)
    worth = first.amount_minor * returned // first.credits if first.credits else 0
    minor = min(leg.amount_minor, max(0, first.amount_minor - sum(other.amount_minor for other in live) - worth))
    credits = min(leg.credits, max(0, first.credits - sum(other.credits for other in live) - returned))
    return (0, 0) if leg.credits and not credits else (minor, credits)


def returned_too_much(leg: Leg, legs: Mapping[str, Leg]) -> int:
    """Return the credits that the family returns too much once `leg`, which had ended unpaid, is paid after all.

    Legs that are canceled then, because they are no longer needed, pay nothing. A leg that may pay returns nothing.
    """
    first, others = first_of_family(leg, legs), others_of_family(leg, legs)
    live = [o for o in others if o.status not in UNPAID_FINAL and not _is_released(o, legs, paid=leg.leg_id)]
    returned = sum(one.reversed_credits for one in (leg, *others))
    too_much = leg.credits + sum(other.credits for other in live) + returned - first.credits
    return min(returned, max(leg.reversed_credits, too_much))


def is_no_longer_needed(leg: Leg, legs: Mapping[str, Leg], *, paid: str | None = None) -> bool:
    """Return True if the family would pay more than was asked for if this leg were sent.

    Counted are the legs that have paid or may have, those before this one that are to be sent again, and `paid`, the
    id of a leg that is about to count as paid.
    """
    first, others = first_of_family(leg, legs), others_of_family(leg, legs)
    older = _replaced_by(leg, legs)
    counted = [
        other
        for other in others
        if other.status in MAY_HAVE_PAID
        or other.leg_id == paid
        or (other in older and other.status not in UNPAID_FINAL)
    ]
    return sum(other.amount_minor for other in counted) + leg.amount_minor > first.amount_minor


def release_unneeded(builder: DecisionBuilder, leg: Leg) -> bool:
    """Cancel a leg that waits for a send and is no longer needed. Return True if it was canceled.

    Another payment is sought for the money that no other leg covers, as for a failed leg.
    """
    if not _is_released(leg, builder.legs):
        return False
    builder.transition_leg(
        leg,
        LegOutcome.ABANDONED,
        reason="the processor has a refund for a leg that this one replaces",
        reallocated=uncovered(leg, builder.legs) == (0, 0),
        attention_code=None,
        failure_code=None,
        failure_message=None,
        in_doubt=None,
        next_at=None,
        blocked_by=(),
    )
    return True


def _is_released(leg: Leg, legs: Mapping[str, Leg], *, paid: str | None = None) -> bool:
    return leg.status in TO_BE_SENT and not leg.unanswered and is_no_longer_needed(leg, legs, paid=paid)
