"""Refund objects that differ from what a leg asked for. They are never believed: a person decides."""

from __future__ import annotations

from dataclasses import replace

from refund_worker.domain.decision import AskedReading, RefundObjectUpdate
from refund_worker.domain.decision_builder import ANSWER_MISMATCH, DecisionBuilder
from refund_worker.domain.legs import is_watched, void_objects_of_older_attempts, waits_for_person
from refund_worker.domain.payment_check import proved_by
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import (
    LIVE_OBJECT_STATES,
    MISMATCH_SEPARATOR,
    Doubt,
    Leg,
    ObjectState,
    RefusalKind,
)
from refund_worker.domain.state_machine import ACTIVE, AWAITING_ANSWER, TO_BE_SENT, UNPAID_FINAL, LegOutcome
from refund_worker.domain.timing import backoff_seconds

UNKNOWN_STATUS = "unknown_status"  # an object has a status that this version does not know
STATE_OF_STATUS = {state.value: state for state in ObjectState}


def mismatch(leg: Leg, refund_object: RefundObject, live: bool | None) -> str | None:
    """Return a text that says how the object differs from what the leg asked for, or None if it fits.

    `live` is the mode that the settings require, None for any.
    """
    if refund_object.leg_id is not None and refund_object.leg_id != leg.leg_id:
        return "another leg's refund"
    if (refund_object.amount_minor, refund_object.currency) != (leg.amount_minor, leg.currency):
        return f"{refund_object.amount_minor} {refund_object.currency} instead of {leg.amount_minor} {leg.currency}"
    if refund_object.payment_refs and leg.processor_payment_id not in refund_object.payment_refs:
        return "another payment's refund"
    if live is not None and refund_object.live is not None and refund_object.live != live:
        return "another mode (live or test)"
    return None


def mismatched_status(refund_object: RefundObject, fault: str) -> str:
    """Return the status that is stored for a mismatched object.

    It is marked, so that a correct status later counts as a change.
    """
    return f"{refund_object.status}{MISMATCH_SEPARATOR}{fault}"


def is_mismatched(status: str | None) -> bool:
    """Return True if `mismatched_status` made this stored status."""
    return MISMATCH_SEPARATOR in (status or "")


def reject_mismatch(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject, fault: str) -> Leg:
    """Show a person an object that is not what the leg asked for, and conclude nothing from it. Return the leg.

    An object that failed under an older attempt says nothing about the current one and changes nothing.
    """
    # Alarm only once, however often the same object is reported.
    if leg.attention_code != ANSWER_MISMATCH and leg.refusal is not RefusalKind.ANSWER_MISMATCH:
        builder.record_event(
            ANSWER_MISMATCH, alarm=True, leg=leg, fault=fault, processor_refund_id=refund_object.processor_refund_id
        )
    is_the_legs = refund_object.leg_id == leg.leg_id
    if is_the_legs:
        store_status(builder, leg, replace(refund_object, status=mismatched_status(refund_object, fault)))
    if _is_void(refund_object.status) and refund_object.processor_refund_id in void_objects_of_older_attempts(leg):
        return leg
    if proof := proved_by(leg, refund_object):
        builder.readings[leg.payment_id] = AskedReading(proof, builder.now)
    shown = replace(leg, attention_code=ANSWER_MISMATCH, failure_code=ANSWER_MISMATCH, failure_message=fault)
    if is_the_legs and leg.processor_refund_id is None:
        shown = replace(shown, processor_refund_id=refund_object.processor_refund_id)
    return _distrust(builder, leg, shown, fault)


def _distrust(builder: DecisionBuilder, leg: Leg, shown: Leg, fault: str) -> Leg:
    """Change the leg as a mismatched object demands; `shown` is the leg with the attention that a person gets."""
    waits = replace(shown, retry_count=leg.retry_count + 1)
    next_at = builder.now + backoff_seconds(builder.policy, waits)
    if leg.status in AWAITING_ANSWER:
        # Something was made, though not what was asked for: a list without it does not prove that nothing exists.
        in_doubt = Doubt(unanswered=True, lookup_required=True, refusal=RefusalKind.ANSWER_MISMATCH)
        return builder.transition_leg(waits, LegOutcome.NO_ANSWER, reason=fault, next_at=next_at, in_doubt=in_doubt)
    if waits_for_person(leg):  # the reason they see stays: it decides what their retry asks
        return leg
    if leg.status in TO_BE_SENT:
        waits = replace(waits, held=True, listed_at=None)
    if leg.status in ACTIVE:
        return builder.update_leg(waits, next_at=next_at)
    if is_watched(leg) and leg.refusal is not RefusalKind.ANSWER_MISMATCH:
        in_doubt = Doubt(unanswered=True, lookup_required=leg.lookup_required, refusal=RefusalKind.ANSWER_MISMATCH)
        return builder.update_leg(leg, attention_code=ANSWER_MISMATCH, in_doubt=in_doubt)
    return hold_failed_leg(builder, leg)


def not_understood(builder: DecisionBuilder, leg: Leg) -> tuple[str, ...]:
    """Return the ids of the leg's objects that may have paid and are not understood, by their last reports.

    Their status is not known, or they name the leg and are not what it asked for.
    """
    reported = {report.processor_refund_id: report.status for report in leg.reports}
    now = (update.object for update in builder.objects if update.leg_id == leg.leg_id)
    reported |= {refund_object.processor_refund_id: refund_object.status for refund_object in now}
    known = {known.processor_refund_id for known in leg.objects}
    return tuple(object_id for object_id, status in reported.items() if object_id not in known and _may_pay(status))


def hold_failed_leg(builder: DecisionBuilder, leg: Leg) -> Leg:
    """Let a person decide about a failed leg beside which an object may have paid, before its money goes another way.

    Return the leg. It is unchanged if its credits went back, or another payment pays its money. Once
    credits of any leg went back, it is not known of which: no leg is held then.
    """
    if leg.status not in UNPAID_FINAL or leg.attention_code or not builder.refund.ledger_posted:
        return leg
    is_about_to_reverse = leg.reversed_credits > 0 and builder.refund.reversed_credits == 0
    beside = not_understood(builder, leg)
    if not beside or (leg.reallocated and not is_about_to_reverse):
        return leg
    message = f"{leg.failure_message}{doubt_about(beside)}"
    return builder.update_leg(leg, attention_code=UNKNOWN_STATUS, failure_message=message)


def doubt_about(beside: tuple[str, ...]) -> str:
    """Return the end of a message that names the objects which are not understood, empty without any."""
    return f"; not understood, and may have paid: {', '.join(beside)}" if beside else ""


def _may_pay(stored_status: str | None) -> bool:
    return not _is_void((stored_status or "").split(MISMATCH_SEPARATOR)[0])


def _is_void(status: str | None) -> bool:
    return STATE_OF_STATUS.get(status or "") not in (None, *LIVE_OBJECT_STATES)


def store_status(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> None:
    """Store the reported status, so that the same report is no change the next time. The object's state stays."""
    state = next((k.state for k in leg.objects if k.processor_refund_id == refund_object.processor_refund_id), None)
    builder.objects.append(RefundObjectUpdate(leg.leg_id, state, refund_object))
