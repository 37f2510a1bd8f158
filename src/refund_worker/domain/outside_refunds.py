"""Refunds that others made over a leg's payment. The same money is not paid again until a person has decided."""

from __future__ import annotations

import math

from refund_worker.domain.decision import Policy
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.money import as_text
from refund_worker.domain.processor_replies import Found, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES, Doubt, Leg, LegStatus
from refund_worker.domain.state_machine import LegOutcome

REFUNDED_ELSEWHERE = "refunded_elsewhere"
# The processor's clock and ours may differ by this much.
CLOCK_DIFFERENCE_SECONDS = 300.0
# The number of refunds that a message describes, and that `blocked_by` names.
DESCRIBED_MAX, NAMED_MAX = 5, 20
# The batch that reads a list may take a whole lease, and the send comes with a batch after it. If the list did not
# count for so long, a slow deployment would read lists for ever and send nothing.
LIST_LEASES = 2


def must_list_first(leg: Leg, now: float, policy: Policy, *, suspect: bool) -> bool:
    """Return True if the processor's list must be read before this leg is sent.

    Two sends do not need it. The very first send relies on the recent sync of all the processor's refunds. A send that
    soon repeats the same key does so too. But the list is always read if the payment is `suspect` (the sync found
    others' refunds of it, or nothing was read of it), and if the leg waited so long that a person may have paid
    meanwhile: through a pause, or for longer than a worker's lease. A send that was never begun (it got no slot) does
    not count as a send. At a processor without a sync, the list is read before each send. One that has no list at all
    cannot be asked.
    """
    rules = policy.rules_of(leg.processor)
    if not rules.finds_refunds:
        return False
    soon = leg.last_sent_at is None or (leg.sends > 0 and now - leg.last_sent_at < policy.lease_seconds)
    relies_on_sync = soon and leg.status is not LegStatus.BLOCKED and not rules.lists_each_payment
    if relies_on_sync and not leg.held and not suspect:
        return False
    seconds = max(LIST_LEASES * policy.lease_seconds, policy.poll_seconds)
    return leg.listed_at is None or not 0 <= now - leg.listed_at <= seconds


def blocking_refunds(leg: Leg, found: Found, *, nothing_left: bool = False) -> tuple[RefundObject, ...]:
    """Return the refunds of others that forbid another send for this leg; empty if none forbids it.

    Such a refund was made since the leg's first intent, or all of them are more than our records know of. A refund that
    a person has seen forbids nothing, unless the processor itself says that there is `nothing_left` for this leg.
    """
    live = [item for item in found.outside if item.status not in UNPAID_OBJECT_STATES]
    if nothing_left:
        return tuple(live)
    unseen = tuple(item for item in live if item.processor_refund_id not in leg.acknowledged_outside)
    since = math.inf if leg.last_sent_at is None else (leg.first_intent_at or 0) - CLOCK_DIFFERENCE_SECONDS
    older_minor = sum(item.amount_minor for item in live if item.created_at.timestamp() < since)
    if older_minor > found.explained_minor or any(item.created_at.timestamp() >= since for item in unseen):
        return unseen
    return ()


def block_for_outside_refunds(
    builder: DecisionBuilder, leg: Leg, refund_objects: tuple[RefundObject, ...], *, unanswered: bool = False
) -> Leg:
    """Block the leg for a person, and return it. Nothing more happens automatically.

    Retry accepts these refunds as seen; resolve records how the leg ended. `unanswered`: the outcome of an earlier call
    of ours stays unknown, so the credits can't be given back before a retry has asked about it.
    """
    described = ", ".join(
        f"{t.processor_refund_id} of {as_text(t.amount_minor, t.currency)}" for t in refund_objects[:DESCRIBED_MAX]
    )
    more = f" and {len(refund_objects) - DESCRIBED_MAX} more" if len(refund_objects) > DESCRIBED_MAX else ""
    return builder.transition_leg(
        leg,
        LegOutcome.BLOCKED,
        reason=REFUNDED_ELSEWHERE,
        alarm=True,
        detail={"objects": " ".join(item.processor_refund_id for item in refund_objects[:NAMED_MAX])},
        attention_code=REFUNDED_ELSEWHERE,
        failure_code=REFUNDED_ELSEWHERE,
        failure_message=f"refunded by others over the same payment: {described}{more}",
        blocked_by=tuple(item.processor_refund_id for item in refund_objects),
        next_at=None,
        in_doubt=Doubt.of(unanswered=unanswered),
        held=False,
        listed_at=None,
    )
