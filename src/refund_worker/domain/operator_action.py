"""Commanded by a person: an act with actor and reason, allowed by the table, never an edit of a status."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from refund_worker.domain.credit_postings import release
from refund_worker.domain.decision import (
    Decision,
    Policy,
    Reread,
)
from refund_worker.domain.decision_builder import (
    ANSWER_MISMATCH,
    MANUAL_PREFIX,
    DecisionBuilder,
    lists_before_sending,
)
from refund_worker.domain.payment_check import CHARGE_DISPUTED, STOPS
from refund_worker.domain.persons import Link, why_not_approve
from refund_worker.domain.refund import (
    LegStatus,
    Refund,
    RefundStatus,
)
from refund_worker.domain.state_machine import (
    ACTIVE,
    UNPAID_FINAL,
    Action,
    LegOutcome,
    RefundOutcome,
    is_allowed,
    is_missing,
)
from refund_worker.errors import ActionNotAllowed


def apply_action(
    refund: Refund,
    action: Action,
    now: float,
    policy: Policy,
    *,
    actor: str,
    reason: str,
    reference: str | None = None,
    links: Collection[Link] = (),
    one_by_one: bool = True,
) -> Decision:
    """A person's act. For `resolve`, `reference` is that of a payment made by hand; without one the credits go back.

    `links` say which names stand for one person. Only who looks at refunds `one_by_one` has seen what others refunded:
    a retry of many looks for it again.

    Raises `ActionNotAllowed` where the table does not allow it, or where the approver may be the person who asked.
    """
    by_reversal = action is Action.RESOLVE and reference is None
    if not is_allowed(action, refund) or (by_reversal and is_missing(refund)):
        raise ActionNotAllowed(_why_not(action, refund))
    builder = DecisionBuilder(refund, now, policy, actor)
    match action:
        case Action.APPROVE:
            if (why_not := why_not_approve(actor, refund.requested_by, links)) is not None:
                raise ActionNotAllowed(why_not)
            builder.transition_refund(RefundOutcome.APPROVED, reason=reason)
        case Action.REJECT | Action.CANCEL:
            release(builder)
            builder.transition_refund(
                RefundOutcome.REJECTED if action is Action.REJECT else RefundOutcome.CANCELED, reason=reason
            )
        case Action.RETRY:
            _retry(builder, reason, takes_as_seen=one_by_one)
        case Action.RESOLVE:
            _resolve(builder, reason, reference)
    return builder.build()


def _why_not(action: Action, refund: Refund) -> str:
    if action is Action.RESOLVE and is_allowed(action, refund):
        return (
            "the processor may still pay a leg of this refund, so its credits can't be given back yet: "
            "resolve it as paid_manually with the reference of the payment, or wait until the answer is known"
        )
    if action is Action.RESOLVE and refund.status is RefundStatus.NEEDS_ATTENTION:
        return "the processor may still pay a leg of this refund: retry asks it first; resolve once that is known"
    return f"{action} is not possible while the refund is {refund.status}"


def _retry(builder: DecisionBuilder, reason: str, *, takes_as_seen: bool) -> None:
    """Ask the processor first, always; a new attempt only if it has nothing."""
    builder.record_event("retry_requested", reason=reason)
    asked_now: dict[str, Any] = {"attention": None, "next_at": builder.now, "backoffs": 0, "looked_at": None}
    for leg in tuple(builder.legs.values()):
        if leg.attention in STOPS:
            builder.read_again[leg.payment_id] = Reread(leg.attention != CHARGE_DISPUTED, takes_as_seen)
        if leg.status is LegStatus.BLOCKED:
            # Beside a strange object nothing new is ever sent: the retry looks for the right one, and that is all.
            verdict = ANSWER_MISMATCH if leg.failure_code == ANSWER_MISMATCH else None
            seen_now = leg.blocked_by if takes_as_seen else ()
            seen = tuple(dict.fromkeys((*leg.seen_elsewhere, *seen_now)))
            builder.transition_leg(
                replace(leg, seen_elsewhere=seen, blocked_by=()),
                LegOutcome.NO_ANSWER,
                reason=reason,
                look_first=True,
                verdict=verdict,
                **asked_now,
            )
        elif leg.attention and leg.status in ACTIVE:
            look = leg.look_first or leg.status is LegStatus.UNKNOWN
            builder.update_leg(leg, look_first=look, held=lists_before_sending(leg), **asked_now)
        elif leg.attention and leg.failure_code not in builder.policy.rules_of(leg.processor).disputed_codes:
            builder.update_leg(leg, attention=None)


def _resolve(builder: DecisionBuilder, reason: str, reference: str | None) -> None:
    """Everything that has no end yet ends by the person's word: paid by hand under `reference`, or given back.

    What is with the processor stays there, and what may still land there is looked for until it can't.
    """
    calm: dict[str, Any] = {"attention": None, "next_at": None, "look_first": False, "verdict": None, "blocked_by": ()}
    for leg in tuple(builder.legs.values()):
        if leg.status in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
            continue
        stranded = leg.status in UNPAID_FINAL and not leg.settled
        if leg.status not in ACTIVE and not stranded:
            builder.update_leg(leg, attention=None)
        elif reference is not None:
            looked_for = {"next_at": builder.now, "verdict": leg.verdict} if leg.doubtful else {}
            by_hand = MANUAL_PREFIX + reference
            builder.transition_leg(
                leg, LegOutcome.PAID_MANUALLY, reason=reason, processor_refund_id=by_hand, **calm | looked_for
            )
        elif stranded:
            builder.update_leg(leg, settled=True, returned_credits=leg.credits, **calm)
        else:
            builder.transition_leg(
                leg, LegOutcome.ABANDONED, reason=reason, settled=True, returned_credits=leg.credits, **calm
            )
