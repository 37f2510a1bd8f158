"""Apply a person's action: an act with actor and reason that the table allows, never an edit of a status."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from refund_worker.domain.credit_postings import release
from refund_worker.domain.decision import (
    Decision,
    Policy,
    Reread,
)
from refund_worker.domain.decision_builder import ANSWER_MISMATCH, MANUAL_PREFIX, DecisionBuilder
from refund_worker.domain.legs import lists_before_sending
from refund_worker.domain.mismatch import UNKNOWN_STATUS
from refund_worker.domain.payment_check import CHARGE_DISPUTED, STOPS
from refund_worker.domain.persons import Link, why_not_approve
from refund_worker.domain.processor_replies import KEY_CONFLICT
from refund_worker.domain.refund import (
    NOT_YET_POSTED,
    Canceling,
    Doubt,
    Leg,
    LegStatus,
    Refund,
    RefundStatus,
    RefusalKind,
)
from refund_worker.domain.replacements import uncovered
from refund_worker.domain.state_machine import (
    ACTIVE,
    POLLED,
    TO_BE_SENT,
    UNPAID_FINAL,
    Action,
    LegOutcome,
    RefundOutcome,
    answer_is_missing,
    is_allowed,
    is_cancelable,
    lacks_its_event,
)
from refund_worker.errors import ActionNotAllowed

NOT_AT_PROCESSOR = "not_at_processor"  # why a person decides about a paid leg: the processor has no refund for it
# After an object that differs from what was asked for, or a key that was used with another body, no retry sends again:
# it only searches for the right object.
_NEVER_SENT_AGAIN = {ANSWER_MISMATCH: RefusalKind.ANSWER_MISMATCH, KEY_CONFLICT: RefusalKind.KEY_CONFLICT}


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
    """Apply a person's action to the refund and return the decision. `now` is in epoch seconds.

    For `resolve`, `reference` names a payment that was made manually; without one the credits go back to the balance.
    `links` say which names belong to one person. Only a person who handles refunds `one_by_one` has seen what others
    refunded: a retry of many refunds searches for it again.

    Raises `ActionNotAllowed` if the table does not allow the action, or if the approver may be the person who asked.
    """
    by_reversal = action is Action.RESOLVE and reference is None
    if not is_allowed(action, refund) or (by_reversal and answer_is_missing(refund)):
        raise ActionNotAllowed(_why_not(action, refund))
    builder = DecisionBuilder.open(refund, now, policy, actor)
    match action:
        case Action.APPROVE:
            if (why_not := why_not_approve(actor, refund.requested_by, links)) is not None:
                raise ActionNotAllowed(why_not)
            builder.transition_refund(RefundOutcome.APPROVED, reason=reason)
        case Action.CANCEL if refund.status not in NOT_YET_POSTED:
            _cancel_at_processor(builder, reason)
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


def _cancel_at_processor(builder: DecisionBuilder, reason: str) -> None:
    """Record the intent to cancel each object that waits for the customer. The processor is asked next."""
    for leg in tuple(builder.legs.values()):
        if is_cancelable(leg):
            builder.transition_leg(
                leg,
                LegOutcome.CANCEL_REQUESTED,
                reason=reason,
                detail={"processor_refund_id": leg.processor_refund_id},
                canceling=Canceling.REQUESTED,
                next_at=builder.now,
                retry_count=0,
            )


def _why_not(action: Action, refund: Refund) -> str:
    if action is Action.RESOLVE and is_allowed(action, refund):
        return (
            "the processor may still pay a leg of this refund, so its credits cannot be given back yet: "
            "resolve it as paid_manually with the reference of the payment, or wait until the answer is known"
        )
    if action is Action.RESOLVE and refund.status is RefundStatus.NEEDS_ATTENTION:
        return "the processor may still pay a leg of this refund: retry asks it first; resolve once that is known"
    if action is Action.CANCEL and any(leg.canceling for leg in refund.legs):
        return "cancel was already requested: the processor is asked, and its answer decides"
    return f"{action} is not possible while the refund is {refund.status}"


def _retry(builder: DecisionBuilder, reason: str, *, takes_as_seen: bool) -> None:
    """Ask the processor first, always. A new attempt follows only if the processor has nothing."""
    builder.record_event("retry_requested", reason=reason)
    for leg in tuple(builder.legs.values()):
        if leg.attention_code in STOPS:
            builder.read_again[leg.payment_id] = Reread(leg.attention_code != CHARGE_DISPUTED, takes_as_seen)
        if leg.status is LegStatus.BLOCKED:
            refusal = _never_sent_again(builder.policy, leg)
            seen_now = leg.blocked_by if takes_as_seen else ()
            seen = tuple(dict.fromkeys((*leg.acknowledged_outside, *seen_now)))
            builder.transition_leg(
                replace(_due_now(builder, leg), acknowledged_outside=seen, blocked_by=()),
                LegOutcome.NO_ANSWER,
                reason=reason,
                in_doubt=Doubt.of(unanswered=leg.unanswered, lookup_required=True, refusal=refusal),
            )
        elif leg.attention_code and leg.status in ACTIVE:
            required = leg.lookup_required or leg.status is LegStatus.UNKNOWN
            in_doubt = Doubt.of(unanswered=leg.unanswered, lookup_required=required, refusal=leg.refusal)
            builder.update_leg(_due_now(builder, leg), in_doubt=in_doubt, held=lists_before_sending(leg))
        elif leg.attention_code and not _only_resolve_ends(builder.policy, leg):
            builder.update_leg(leg, attention_code=None)


def _only_resolve_ends(policy: Policy, leg: Leg) -> bool:
    """Return True if a retry must not let the failed leg's money go another way.

    A dispute returns it, or an object beside the one that failed may have paid.
    """
    return leg.failure_code in policy.rules_of(leg.processor).disputed_codes or _is_failed_in_doubt(leg)


def _is_failed_in_doubt(leg: Leg) -> bool:
    """Return True if the leg failed and waits for a person, because another object of it may have paid."""
    return leg.status in UNPAID_FINAL and leg.attention_code == UNKNOWN_STATUS


def _never_sent_again(policy: Policy, leg: Leg) -> RefusalKind | None:
    """Return why a retry only asks, and never makes a new attempt, or None if it may make one.

    A processor that has no list cannot be asked what became of an unknown call: a new attempt could pay twice.
    """
    code = leg.failure_code or ""
    if code == RefusalKind.OUTCOME_UNKNOWN and not policy.rules_of(leg.processor).finds_refunds:
        return RefusalKind.OUTCOME_UNKNOWN
    return _NEVER_SENT_AGAIN.get(code)


def _due_now(builder: DecisionBuilder, leg: Leg) -> Leg:
    return replace(leg, attention_code=None, next_at=builder.now, retry_count=0, blocked_count=0, listed_at=None)


def _resolve(builder: DecisionBuilder, reason: str, reference: str | None) -> None:
    """End every open leg by the person's decision: paid manually under `reference`, or returned to the balance.

    A leg whose object is at the processor stays there, unless the event about it is overdue. A call that may still land
    is looked up until it cannot land.
    """
    if reference is not None:
        _keep_credits_of_doubtful_legs(builder)
    for leg in tuple(builder.legs.values()):
        if leg.status in POLLED and not lacks_its_event(leg):
            continue
        stranded = leg.status in UNPAID_FINAL and not leg.reallocated
        minor, credits = uncovered(leg, builder.legs)
        if leg.status not in ACTIVE and not stranded:
            builder.update_leg(leg, attention_code=None)
        elif reference is not None and not minor and not credits:
            # Another leg of its family pays its money: one manual payment is not counted twice.
            if stranded:
                builder.update_leg(_without_attention(leg), reallocated=True)
            elif lacks_its_event(leg) or (leg.status in TO_BE_SENT and not leg.unanswered):
                builder.transition_leg(_without_attention(leg), LegOutcome.ABANDONED, reason=reason, reallocated=True)
        elif reference is not None:
            builder.transition_leg(
                _without_attention(leg),
                LegOutcome.PAID_MANUALLY,
                reason=reason,
                processor_refund_id=MANUAL_PREFIX + reference,
                manual_reference=reference,
                in_doubt=Doubt.of(unanswered=True, refusal=leg.refusal) if leg.unanswered else None,
                next_at=builder.now if leg.unanswered else None,
            )
        elif stranded:
            builder.update_leg(_without_attention(leg), reallocated=True, reversed_credits=credits)
        else:
            builder.transition_leg(
                _without_attention(leg),
                LegOutcome.ABANDONED,
                reason=reason,
                reallocated=True,
                reversed_credits=credits,
            )


def _keep_credits_of_doubtful_legs(builder: DecisionBuilder) -> None:
    """Return no credits for a failed leg that a person calls paid: perhaps by the object that is not understood."""
    for leg in tuple(builder.legs.values()):
        if _is_failed_in_doubt(leg):
            builder.update_leg(leg, reallocated=False, reversed_credits=0)


def _without_attention(leg: Leg) -> Leg:
    return replace(leg, attention_code=None, next_at=None, in_doubt=Doubt.of(unanswered=leg.unanswered), blocked_by=())


def show_to_a_person(
    refund: Refund, leg_id: str, code: str, message: str, now: float, policy: Policy, *, actor: str
) -> Decision:
    """Let a person decide about a leg that the processor's record contradicts. Nothing else of the refund changes.

    A leg about which a person must decide already keeps its reason.
    """
    builder = DecisionBuilder.open(refund, now, policy, actor)
    leg = builder.legs[leg_id]
    if leg.attention_code is None:
        builder.record_event(code, alarm=True, leg=leg, processor_refund_id=leg.processor_refund_id)
        builder.update_leg(leg, attention_code=code, failure_message=message)
    return builder.build()
