"""Apply a person's action to a payout: an act with actor and reason that the table allows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from refund_worker.domain.decision_builder import ANSWER_MISMATCH, MANUAL_PREFIX
from refund_worker.domain.payouts.builder import PayoutBuilder
from refund_worker.domain.payouts.decision import PayoutDecision, PayoutPolicy
from refund_worker.domain.payouts.destination import masked_account
from refund_worker.domain.payouts.machine import (
    PayoutAction,
    PayoutOutcome,
    is_failed_in_doubt,
    is_payout_action_allowed,
    is_payout_leg_cancelable,
    is_unsent,
    payout_answer_is_missing,
)
from refund_worker.domain.payouts.next_step import call_off_unsent, cancel_unsent
from refund_worker.domain.payouts.payout import PAYOUT_PAID, PAYOUT_UNPOSTED, Payout, PayoutLeg
from refund_worker.domain.payouts.transfers import Step
from refund_worker.domain.persons import Link, why_not_approve
from refund_worker.domain.processor_replies import KEY_CONFLICT
from refund_worker.domain.refund import LIVE_OBJECT_STATES, Doubt, LegStatus, RefusalKind
from refund_worker.domain.state_machine import ACTIVE, POLLED, UNPAID_FINAL, LegOutcome
from refund_worker.errors import ActionNotAllowed

MANUAL_PAYMENT_RETURNED = "manual_payment_returned"
# After these no retry sends again: it only searches for the right object.
_NEVER_SENT_AGAIN = {ANSWER_MISMATCH: RefusalKind.ANSWER_MISMATCH, KEY_CONFLICT: RefusalKind.KEY_CONFLICT}


def apply_payout_action(
    payout: Payout,
    action: PayoutAction,
    now: float,
    policy: PayoutPolicy,
    *,
    actor: str,
    reason: str,
    reference: str | None = None,
    links: Collection[Link] = (),
) -> PayoutDecision:
    """Apply a person's action to the payout and return the decision. `now` is in epoch seconds.

    For `resolve`, `reference` names a payment that was made manually; without one the amount goes back to the balance,
    also that of a manual payment that came back.
    If it names the payout's own transfer, the payee has the money of that; else the transfer is undone.
    Raises `ActionNotAllowed` if the table does not allow the action, if the approver may be the person who asked, or if
    the reference is an object of this payout that has not paid.
    """
    _check_allowed(payout, action, reference)
    builder = PayoutBuilder.open(payout, now, policy, actor)
    match action:
        case PayoutAction.APPROVE:
            if (why_not := why_not_approve(actor, payout.requested_by, links, "payout")) is not None:
                raise ActionNotAllowed(why_not)
            builder.transition_payout(PayoutOutcome.APPROVED, reason=reason)
        case PayoutAction.REJECT:
            cancel_unsent(builder, reason, PayoutOutcome.REJECTED)
        case PayoutAction.CANCEL if payout.status in PAYOUT_UNPOSTED:
            cancel_unsent(builder, reason)
        case PayoutAction.CANCEL if is_unsent(payout):
            call_off_unsent(builder, reason, code=None)
        case PayoutAction.CANCEL:
            _cancel_at_processor(builder, reason)
        case PayoutAction.RETRY:
            _retry(builder, reason)
        case PayoutAction.RESOLVE if payout.status in PAYOUT_PAID:
            _note_manual_return(builder, reason)
        case PayoutAction.RESOLVE:
            _resolve(builder, reason, reference)
    return builder.build()


def _check_allowed(payout: Payout, action: PayoutAction, reference: str | None) -> None:
    by_return = action is PayoutAction.RESOLVE and reference is None
    if not is_payout_action_allowed(action, payout) or (by_return and payout_answer_is_missing(payout)):
        raise ActionNotAllowed(_why_not(action, payout))
    if payout.status in PAYOUT_PAID and not by_return:
        raise ActionNotAllowed("the payout is paid already: if its money came back, resolve it as reverse")
    if reference is not None:
        _check_named_object(payout, reference)


def _why_not(action: PayoutAction, payout: Payout) -> str:
    if action is PayoutAction.RESOLVE and is_payout_action_allowed(action, payout):
        return (
            "the processor may still pay this payout, so its amount cannot be given back yet: "
            "resolve it as paid_manually with the reference of the payment, or wait until the answer is known"
        )
    if action is PayoutAction.CANCEL and any(leg.canceling for leg in payout.legs):
        return "cancel was already requested: the processor is asked, and its answer decides"
    return f"{action} is not possible while the payout is {payout.status}"


def _cancel_at_processor(builder: PayoutBuilder, reason: str) -> None:
    """Record the intent to call off each object that waits for the payee. The processor is asked next."""
    for leg in tuple(builder.legs.values()):
        if is_payout_leg_cancelable(leg):
            builder.transition_leg(
                leg,
                LegOutcome.CANCEL_REQUESTED,
                reason=reason,
                detail={"object_id": leg.object_id},
                canceling=True,
                next_at=builder.now,
                retry_count=0,
            )


def _retry(builder: PayoutBuilder, reason: str) -> None:
    """Ask the processor first, always. A new attempt follows only if the processor has nothing."""
    builder.record_event("retry_requested", reason=reason)
    for leg in tuple(builder.legs.values()):
        due = replace(leg, attention_code=None, next_at=builder.now, retry_count=0, blocked_count=0, listed_at=None)
        if leg.status is LegStatus.BLOCKED:
            in_doubt = Doubt.of(
                unanswered=leg.unanswered, lookup_required=True, refusal=_never_sent_again(builder, leg)
            )
            builder.transition_leg(due, LegOutcome.NO_ANSWER, reason=reason, in_doubt=in_doubt)
        elif leg.attention_code and leg.status in ACTIVE:
            required = leg.lookup_required or leg.status is LegStatus.UNKNOWN
            in_doubt = Doubt.of(unanswered=leg.unanswered, lookup_required=required, refusal=leg.refusal)
            builder.update_leg(due, in_doubt=in_doubt, held=leg.held or leg.last_sent_at is not None)
        elif is_failed_in_doubt(leg):
            builder.update_leg(leg, next_at=builder.now)  # the answer decides, or the person by `resolve`
        elif leg.attention_code:
            _take_as_seen(builder, leg)


def _take_as_seen(builder: PayoutBuilder, leg: PayoutLeg) -> None:
    """Clear what a person was alerted about. The payment is asked for once more: it may have come back since."""
    builder.update_leg(leg, attention_code=None, next_at=builder.now)


def _never_sent_again(builder: PayoutBuilder, leg: PayoutLeg) -> RefusalKind | None:
    """Return why a retry only asks, and never makes a new attempt, or None if it may make one."""
    code = leg.failure_code or ""
    if code == RefusalKind.OUTCOME_UNKNOWN and not builder.calls_policy.rules_of(leg.processor).finds_refunds:
        return RefusalKind.OUTCOME_UNKNOWN
    return _NEVER_SENT_AGAIN.get(code)


def _resolve(builder: PayoutBuilder, reason: str, reference: str | None) -> None:
    """End every open leg by the person's decision: paid manually under `reference`, or given back to the balance.

    A leg whose object is at the processor stays there. A call that may still land is looked up until it cannot land. So
    is a reversal whose answer is missing: a payment in another way says nothing about it.
    """
    for leg in tuple(builder.legs.values()):
        calm = replace(leg, attention_code=None, next_at=None, in_doubt=Doubt.of(unanswered=leg.unanswered))
        is_forward = leg.step is not Step.REVERSAL
        if leg.status in POLLED or (leg.status is LegStatus.UNKNOWN and not is_forward):
            continue
        if leg.status is LegStatus.SUCCEEDED:
            if leg.attention_code:
                _take_as_seen(builder, leg)
        elif reference is not None and is_forward:
            builder.transition_leg(
                calm,
                LegOutcome.PAID_MANUALLY,
                reason=reason,
                object_id=_payment_of(builder, leg, reference),
                manual_reference=reference,
                # Its call is asked about: the reference may be the id of the object that it made without an answer.
                next_at=builder.now if leg.unanswered or leg.last_sent_at is not None else None,
            )
        elif leg.status in UNPAID_FINAL:
            builder.update_leg(leg, attention_code=None)
            if leg.attention_code and not is_forward:
                _note_transfer_stands(builder, leg)
        else:
            builder.transition_leg(calm, LegOutcome.ABANDONED, reason=reason)
            if not is_forward:
                _note_transfer_stands(builder, leg)


def _note_manual_return(builder: PayoutBuilder, reason: str) -> None:
    """Give the amount of a manual payment back to the balance: a person says that its money came back."""
    last = builder.payout.forward_legs[-1]
    builder.record_event(MANUAL_PAYMENT_RETURNED, leg=last, reference=last.manual_reference)
    builder.transition_leg(
        last,
        LegOutcome.ABANDONED,
        reason=reason,
        failure_code=MANUAL_PAYMENT_RETURNED,
        failure_message=None,
        next_at=None,
    )


def _note_transfer_stands(builder: PayoutBuilder, leg: PayoutLeg) -> None:
    account = builder.payout.connected_account
    shown = None if account is None else masked_account(account)  # viewers read the timeline too
    builder.record_event("transfer_stands", leg=leg, object_id=leg.undoes, account=shown)


def _check_named_object(payout: Payout, reference: str) -> None:
    """Raise `ActionNotAllowed` if the reference is an object of this payout that has not paid the payee."""
    for leg in payout.legs:
        for known in leg.objects:
            if known.object_id == reference and (leg.step is Step.REVERSAL or known.state not in LIVE_OBJECT_STATES):
                raise ActionNotAllowed(f"the processor says that {reference} has paid nothing: it is {known.state}")


def _payment_of(builder: PayoutBuilder, leg: PayoutLeg, reference: str) -> str:
    """Return what pays the leg: the payout's own transfer if the person names it, else a manual payment.

    The money of the transfer left the payee's account at the processor, so it is not undone.
    """
    named = any(other.object_id == reference and other is not leg for other in builder.legs.values())
    return reference if named else MANUAL_PREFIX + reference
