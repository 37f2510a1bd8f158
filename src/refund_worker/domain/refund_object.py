"""Apply the reports of one refund object at the processor to its leg.

Reports of an object may come late, twice or in any order. A state of an object replaces only a state of lower
`OBJECT_RANK`, so an object ends the same in whatever order its reports come. Among several objects of a leg, one that
may pay outweighs the others. An object that is not what the leg asked for
is never believed: a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from refund_worker.domain.canceling import continue_canceling, given_back
from refund_worker.domain.credit_postings import post_after_all
from refund_worker.domain.decision import AccountDelta, RefundObjectUpdate, Reread
from refund_worker.domain.decision_builder import (
    ANSWER_MISMATCH,
    BLOCKED_TRIES,
    MANUAL_PREFIX,
    DecisionBuilder,
)
from refund_worker.domain.ledger import CLEARING, CREDITS, EntryKind, customer_account, transfer
from refund_worker.domain.legs import (
    credits_to_reverse,
    fresh_attempt,
    is_watched,
    leg_number,
)
from refund_worker.domain.mismatch import (
    STATE_OF_STATUS,
    UNKNOWN_STATUS,
    doubt_about,
    hold_failed_leg,
    mismatch,
    not_understood,
    reject_mismatch,
    store_status,
)
from refund_worker.domain.processor_replies import CHARGE_PENDING, RefundObject
from refund_worker.domain.refund import (
    LIVE_OBJECT_STATES,
    OBJECT_RANK,
    Doubt,
    KnownRefundObject,
    Leg,
    LegChanges,
    LegStatus,
    ObjectState,
    RefusalKind,
)
from refund_worker.domain.replacements import (
    first_of_family,
    others_of_family,
    release_unneeded,
    returned_too_much,
    uncovered,
)
from refund_worker.domain.state_machine import ACTIVE, AWAITING_ANSWER, POLLED, UNPAID_FINAL, LegOutcome
from refund_worker.domain.timing import POLL_SECONDS_MAX, report_due_at

REFUNDED_TWICE = "refunded_twice"
OUTCOME_OF_STATE = {
    ObjectState.PENDING: LegOutcome.ACCEPTED,
    ObjectState.REQUIRES_ACTION: LegOutcome.REQUIRES_CUSTOMER,
    ObjectState.SUCCEEDED: LegOutcome.PAID,
    ObjectState.FAILED: LegOutcome.OBJECT_FAILED,
    ObjectState.CANCELED: LegOutcome.OBJECT_CANCELED,
}


def apply_object(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Merge one report of a refund object into its leg, and return the leg as it is then."""
    fault = mismatch(leg, refund_object, builder.policy.rules_of(leg.processor).live)
    if fault:
        return reject_mismatch(builder, leg, refund_object, fault)
    state = STATE_OF_STATUS.get(refund_object.status or "")
    if state is None:
        return _keep_unknown_status(builder, leg, refund_object)
    known = {known.processor_refund_id: known for known in leg.objects}
    before = known.get(refund_object.processor_refund_id)
    if before is not None and before.state is state:
        # The status that was stored last may be that of a mismatched report.
        store_status(builder, leg, refund_object)
        return _apply_repeat(builder, leg, refund_object)
    if before is not None and OBJECT_RANK[before.state] > OBJECT_RANK[state]:
        if before.state is ObjectState.REQUIRES_ACTION:
            store_status(builder, leg, refund_object)  # the customer has acted: shown, though it decides nothing
        if before.state is ObjectState.FAILED and state is ObjectState.SUCCEEDED:
            _tell_of_success_after_failure(builder, leg, refund_object)
        return _apply_repeat(builder, leg, refund_object)
    known[refund_object.processor_refund_id] = KnownRefundObject(
        refund_object.processor_refund_id, state, refund_object.attempt
    )
    builder.objects.append(RefundObjectUpdate(leg.leg_id, state, refund_object))
    leg = builder.update_leg(leg, objects=tuple(known.values()))
    if _is_failure_of_older_attempt(leg, refund_object):
        return _ask_for_current_attempt(builder, leg)
    return _apply_state(builder, leg, refund_object, state)


def _tell_of_success_after_failure(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> None:
    """Alert a person if an event says that a failed object has paid, and the processor cannot be asked.

    Perhaps the events came in the wrong order, perhaps the processor sent the money again; their times prove nothing.
    So the object stays failed, no credits are taken and nothing is sent for it.
    """
    if not builder.policy.rules_of(leg.processor).reads_refunds:
        object_id = refund_object.processor_refund_id
        builder.record_event("paid_after_failure", alarm=True, leg=leg, processor_refund_id=object_id)


def _is_failure_of_older_attempt(leg: Leg, refund_object: RefundObject) -> bool:
    """Return True if no object of the leg is live and this one belongs to another attempt than the current one."""
    return not _live(leg.objects) and refund_object.attempt not in (None, leg.attempt) and leg.status in ACTIVE


def _ask_for_current_attempt(builder: DecisionBuilder, leg: Leg) -> Leg:
    """Look the current attempt up: an older attempt's object failed, and the current outcome is open."""
    if leg.status not in POLLED:
        return leg
    # A leg that a person canceled is not sent again. It ends once it is certain that nothing exists.
    refusal = RefusalKind.REFUSED if leg.canceling is not None else leg.refusal
    in_doubt = Doubt.of(unanswered=True, lookup_required=True, refusal=refusal)
    return builder.transition_leg(leg, LegOutcome.NO_ANSWER, in_doubt=in_doubt, next_at=builder.now)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """The common meaning of the objects of a leg.

    `live` is the object that pays the leg, if one may still pay it. `twice`: more than one may pay, or one in addition
    to a manual payment or to the legs that replaced this one. `late`: the leg had succeeded and is not paid any more.
    `disputed`: a dispute returns the money. `beside`: no object pays the leg, but these may have, and are not
    understood. It is empty once the leg's money goes another way.
    """

    outcome: LegOutcome
    live: KnownRefundObject | None
    twice: bool
    paid_manually: bool
    late: bool
    disputed: bool
    beside: tuple[str, ...]


def _meaning(
    builder: DecisionBuilder,
    leg: Leg,
    refund_object: RefundObject,
    state: ObjectState,
    live: Sequence[KnownRefundObject],
) -> _Meaning:
    # Among equals the object that was posted stays: going back and forth would post the same payout twice.
    best = max(
        live,
        key=lambda known: (OBJECT_RANK[known.state], known.processor_refund_id == leg.processor_refund_id),
        default=None,
    )
    outcome = OUTCOME_OF_STATE[best.state if best else state]
    paid_manually = _is_paid_manually(leg, best.processor_refund_id if best else refund_object.processor_refund_id)
    late = leg.status is LegStatus.SUCCEEDED and outcome is not LegOutcome.PAID
    rules = builder.policy.rules_of(leg.processor)
    is_placed = leg.status in UNPAID_FINAL and leg.reallocated and leg.attention_code is None
    return _Meaning(
        outcome=outcome,
        live=best,
        twice=len(live) > 1 or paid_manually or (best is not None and _is_paid_by_others(builder, leg)),
        paid_manually=paid_manually,
        late=late,
        disputed=best is None and not late and refund_object.failure_code in rules.disputed_codes,
        beside=not_understood(builder, leg) if best is None and not is_placed else (),
    )


def _is_paid_by_others(builder: DecisionBuilder, leg: Leg) -> bool:
    """Return True if, with this leg, its family pays more than was asked for: other legs have replaced it meanwhile."""
    others = others_of_family(leg, builder.legs)
    paid_minor = sum(other.amount_minor for other in others if other.status in {LegStatus.SUCCEEDED, *POLLED})
    return paid_minor + leg.amount_minor > first_of_family(leg, builder.legs).amount_minor


def _apply_state(
    builder: DecisionBuilder,
    leg: Leg,
    refund_object: RefundObject,
    state: ObjectState,
    live: Sequence[KnownRefundObject] | None = None,
) -> Leg:
    """Give the leg the status that its objects have together; `live` are its live objects if not those it knows."""
    meaning = _meaning(builder, leg, refund_object, state, _live(leg.objects) if live is None else live)
    if meaning.paid_manually and meaning.outcome is not LegOutcome.PAID:
        return _keep_manual_payment(builder, leg, refund_object, meaning.live)
    may_send = leg.canceling is None and not builder.refund.unapproved and not meaning.beside
    sends_again = leg.status in ACTIVE and _lacked_funds(builder, leg, refund_object) and may_send
    if meaning.outcome is LegOutcome.OBJECT_FAILED and sends_again:
        return _wait_for_funds(builder, leg, refund_object)
    was_unpaid = leg.status in UNPAID_FINAL
    if meaning.outcome is LegOutcome.OBJECT_FAILED and not was_unpaid:
        _ask_about_unsettled_payment(builder, leg)
    if meaning.live:
        leg = _reopen(builder, leg)
    leg = builder.transition_leg(
        leg,
        meaning.outcome,
        reason=refund_object.failure_code,
        alarm=meaning.twice or meaning.late or meaning.disputed or bool(meaning.beside),
        detail={"processor_refund_id": refund_object.processor_refund_id},
        **_values_of(builder, leg, refund_object, state, meaning),
    )
    if was_unpaid and meaning.live:
        for other in others_of_family(leg, builder.legs):
            release_unneeded(builder, other)
    return leg


def _ask_about_unsettled_payment(builder: DecisionBuilder, leg: Leg) -> None:
    """Alert a person if the refund failed while its payment was not settled: perhaps the payment failed.

    Then the customer has credits without a payment, and other payments may pay this refund. The processor's record
    of the payment is read again before anything else is sent over it.
    """
    if leg.report is None or leg.report.details.pending_reason != CHARGE_PENDING:
        return
    builder.record_event("payment_may_have_failed", alarm=True, leg=leg, payment_id=leg.payment_id)
    builder.read_again[leg.payment_id] = Reread(always=True, takes_as_seen=False)


def _values_of(
    builder: DecisionBuilder, leg: Leg, refund_object: RefundObject, state: ObjectState, meaning: _Meaning
) -> LegChanges:
    paying = meaning.live or refund_object
    failure = refund_object.failure_code
    values: LegChanges = {
        "processor_refund_id": paying.processor_refund_id,
        "in_doubt": None,
        "retry_count": 0,
        "blocked_count": 0,
        "attention_code": _why_a_person_decides(meaning, failure),
        "failure_code": None,
        "failure_message": None,
        "canceling": None,
        "next_at": None,
    }
    if meaning.live is None:
        values["failure_code"] = failure or str(state)
        values["failure_message"] = f"the processor says {state}: {failure or 'no reason given'}"
        values["manual_reference"] = None
        if meaning.late:
            values |= {"reallocated": True, "reversed_credits": uncovered(leg, builder.legs)[1]}
        if _is_canceled(builder, leg, refund_object, meaning):
            values |= given_back(builder, leg)
        if meaning.beside:
            values["failure_message"] = f"{values['failure_message']}{doubt_about(meaning.beside)}"
    if meaning.outcome in (LegOutcome.ACCEPTED, LegOutcome.REQUIRES_CUSTOMER):
        values["next_at"] = _next_poll(builder, leg)
    return values


def _why_a_person_decides(meaning: _Meaning, failure_code: str | None) -> str | None:
    if meaning.twice:
        return REFUNDED_TWICE
    if meaning.disputed:
        return failure_code
    return UNKNOWN_STATUS if meaning.beside else None


def _is_canceled(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject, meaning: _Meaning) -> bool:
    """Return True if the object was canceled, here or at the processor, so that nothing more is sent for it.

    An object that expires is `failed`, even if a person wanted to cancel it too. But one that only lacked our balance
    would be sent again to the same customer.
    """
    is_canceled = meaning.outcome is LegOutcome.OBJECT_CANCELED
    return is_canceled or (leg.canceling is not None and _lacked_funds(builder, leg, refund_object))


def _lacked_funds(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> bool:
    return refund_object.failure_code in builder.policy.rules_of(leg.processor).unfunded_codes


def _live(objects: Iterable[KnownRefundObject]) -> tuple[KnownRefundObject, ...]:
    return tuple(known for known in objects if known.state in LIVE_OBJECT_STATES)


def _wait_for_funds(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Block the leg: the object failed because our balance at the processor was too low.

    That proves that nothing was paid, so the next attempt gets a key of its own. The number of failed objects shows how
    often it was tried.
    """
    tries = sum(known.state is ObjectState.FAILED for known in leg.objects)
    again = tries <= BLOCKED_TRIES
    return builder.transition_leg(
        replace(fresh_attempt(leg), attempt=leg.attempt + 1),
        LegOutcome.UNFUNDED,
        reason=refund_object.failure_code,
        alarm=tries == 1,
        detail={"processor_refund_id": refund_object.processor_refund_id},
        attention_code=refund_object.failure_code,
        failure_code=refund_object.failure_code,
        failure_message=f"the processor says failed: {refund_object.failure_code}",
        processor_refund_id=refund_object.processor_refund_id,
        in_doubt=None,
        retry_count=0,
        next_at=builder.now + builder.policy.retry_max_seconds if again else None,
    )


def _is_paid_manually(leg: Leg, object_id: str) -> bool:
    """Return True if a person recorded another payment than this object for the leg."""
    return leg.status is LegStatus.SUCCEEDED and leg.manual_reference not in (None, object_id)


def _keep_manual_payment(
    builder: DecisionBuilder, leg: Leg, refund_object: RefundObject, live: KnownRefundObject | None
) -> Leg:
    """Keep a manual payment. A failed object does not contradict it; one that may still pay needs a person."""
    object_id = refund_object.processor_refund_id
    if live is None:
        return _return_to_manual_payment(builder, leg, refund_object)
    if leg.attention_code != REFUNDED_TWICE:
        builder.record_event(
            REFUNDED_TWICE, alarm=True, leg=leg, processor_refund_id=object_id, state=refund_object.status
        )
    return builder.update_leg(leg, attention_code=REFUNDED_TWICE, in_doubt=leg.doubt_once_answered, next_at=None)


def _return_to_manual_payment(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Let the manual payment be the only one again: no object of ours pays the leg any more.

    An alarm follows if the object had paid and a person has decided about the two payments since: perhaps they claimed
    the manual payment back.
    """
    paid_by = f"{MANUAL_PREFIX}{leg.manual_reference}"
    had_paid, undecided = leg.processor_refund_id != paid_by, leg.attention_code == REFUNDED_TWICE
    builder.record_event(
        "paid_by_hand_stands",
        alarm=had_paid and not undecided,
        leg=leg,
        processor_refund_id=refund_object.processor_refund_id,
        state=refund_object.status,
    )
    if had_paid:
        leg = builder.update_leg(leg, processor_refund_id=paid_by, times_restored=leg.times_restored + 1, next_at=None)
    return builder.update_leg(leg, attention_code=None) if undecided else leg


# --- a live object for a leg that had ended unpaid --------------------------------------------------------------------


def _reopen(builder: DecisionBuilder, leg: Leg) -> Leg:
    """Reopen the leg if it had ended without money: the processor has a live refund object for it."""
    ended_unpaid = leg.status in UNPAID_FINAL
    if ended_unpaid:
        leg = _undo_abandonment(builder, leg)
    if not builder.refund.ledger_posted:
        post_after_all(builder, leg.leg_id)
    if ended_unpaid:
        _restore_zero_amount_legs(builder)
    return leg


def _undo_abandonment(builder: DecisionBuilder, leg: Leg) -> Leg:
    """Take back the credits that were returned for the leg, and alert a person: the money did go out.

    They may have been returned for a leg that replaced it.
    """
    refund = builder.refund
    too_much = returned_too_much(leg, builder.legs)
    builder.record_event("processor_contradicts", alarm=True, leg=leg, credits=too_much)
    not_yet_returned = credits_to_reverse(replace(refund, legs=tuple(builder.legs.values())))
    returned = max(0, too_much - not_yet_returned)
    for other in (leg, *others_of_family(leg, builder.legs)):
        taken = min(other.reversed_credits, too_much)
        too_much -= taken
        if taken:
            builder.update_leg(other, reversed_credits=other.reversed_credits - taken)
    if returned:
        builder.account += AccountDelta(balance=-returned, withdrawn=returned)
        customer = customer_account(refund.customer_id)
        builder.post_entry(
            f"taken-again-{refund.reversal_count}-{leg_number(leg)}",
            EntryKind.CORRECTION,
            -returned,
            transfer(customer, CLEARING, CREDITS, returned),
            f"Correction of {returned} credits: the money did go out after all",
            f"{refund.refund_id}-reversal-{refund.reversal_count}",
        )
        builder.refund = replace(refund, reversed_credits=refund.reversed_credits - returned)
    return builder.update_leg(builder.legs[leg.leg_id], reallocated=False)


def _restore_zero_amount_legs(builder: DecisionBuilder) -> None:
    """Count the legs of no money as paid again: they end unpaid only if no money went out at all."""
    for leg in tuple(builder.legs.values()):
        if leg.amount_minor == 0 and leg.status in UNPAID_FINAL:
            builder.transition_leg(
                _undo_abandonment(builder, leg),
                LegOutcome.PAID,
                reason="follows the others",
                times_restored=leg.times_restored + 1,
            )


# --- nothing new ------------------------------------------------------------------------------------------------------


def _apply_repeat(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Apply a report that brings no new state: it still answers a poll or a call without an answer."""
    if leg.status in POLLED:
        leg, next_poll = _without_poll_trouble(leg), _next_poll(builder, leg)
        if leg.canceling is not None:
            return continue_canceling(builder, leg, next_poll)
        return builder.update_leg(leg, next_at=next_poll, retry_count=0)
    if leg.status in AWAITING_ANSWER and refund_object.attempt in (None, leg.attempt):
        known = next(k for k in leg.objects if k.processor_refund_id == refund_object.processor_refund_id)
        return _apply_state(builder, leg, refund_object, known.state)
    return leg


def _without_poll_trouble(leg: Leg) -> Leg:
    """Clear what needed a person only because a poll was not answered well: it is answered well now."""
    if leg.attention_code in (None, REFUNDED_TWICE, ANSWER_MISMATCH):
        return leg
    return replace(leg, attention_code=None, failure_code=None, failure_message=None)


def _next_poll(builder: DecisionBuilder, leg: Leg) -> float:
    """Return the time of the next poll: half the leg's age from now, between `poll_seconds` and a day.

    A leg that was never sent is paid by a refund that a person linked: it is as old as its own refund. An object that
    cannot be asked for is due when its event is overdue.
    """
    if not builder.policy.rules_of(leg.processor).reads_refunds:
        return max(builder.now, report_due_at(leg, builder.policy, builder.refund.created_at))
    age = builder.now - (leg.last_sent_at or builder.refund.created_at)
    return builder.now + max(builder.policy.poll_seconds, min(age / 2, POLL_SECONDS_MAX))


# --- objects that are not what was asked for --------------------------------------------------------------------------


def _keep_unknown_status(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Treat an object with an unknown status as pending, show it to a person, and ask again.

    A state that an earlier report had stays: an object that has ended does not open its leg again.
    """
    status, object_id = refund_object.status or "none", refund_object.processor_refund_id
    known = next((known for known in leg.objects if known.processor_refund_id == object_id), None)
    has_ended = known is not None and known.state not in LIVE_OBJECT_STATES
    as_pending = KnownRefundObject(object_id, ObjectState.PENDING)
    pending = replace(refund_object, status=ObjectState.PENDING.value)
    store_status(builder, leg, refund_object)
    if known is None and (is_watched(leg) or _is_paid_manually(leg, object_id)):
        return _apply_state(builder, leg, pending, ObjectState.PENDING, (as_pending,))
    was_shown = (has_ended or leg.status not in ACTIVE) and _was_reported(leg, refund_object)
    if leg.attention_code not in (UNKNOWN_STATUS, REFUNDED_TWICE) and not was_shown:
        builder.record_event(UNKNOWN_STATUS, alarm=True, leg=leg, status=status, processor_refund_id=object_id)
    if has_ended:
        return _apply_repeat(builder, leg, refund_object) if leg.status in AWAITING_ANSWER else leg
    if leg.status not in ACTIVE:
        return hold_failed_leg(builder, leg)
    if leg.status not in POLLED:
        leg = _apply_state(builder, leg, pending, ObjectState.PENDING, (as_pending,))
    return builder.update_leg(
        leg,
        next_at=_next_poll(builder, leg),
        attention_code=UNKNOWN_STATUS,
        failure_code=UNKNOWN_STATUS,
        failure_message=f"status: {status}",
    )


def _was_reported(leg: Leg, refund_object: RefundObject) -> bool:
    """Return True if the object's last report had the same status."""
    object_id, status = refund_object.processor_refund_id, refund_object.status
    return any(report.processor_refund_id == object_id and report.status == status for report in leg.reports)
