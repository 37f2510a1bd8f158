"""What a refund object at the processor means for its leg, joined by object id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refund_worker.domain.credit_postings import post_after_all
from refund_worker.domain.decision import RefundObjectUpdate
from refund_worker.domain.decision_builder import (
    ANSWER_MISMATCH,
    BLOCKED_TRIES,
    MANUAL_PREFIX,
    DecisionBuilder,
    credits_to_reverse,
    fresh_attempt,
    is_watched,
    leg_number,
)
from refund_worker.domain.ledger import CLEARING, CREDITS, EntryKind, customer_account, transfer
from refund_worker.domain.payment_check import proved_by
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import LIVE_OBJECT_STATES, OBJECT_RANK, KnownRefundObject, Leg, LegStatus, ObjectState
from refund_worker.domain.state_machine import ACTIVE, UNPAID_FINAL, LegOutcome
from refund_worker.domain.timing import POLL_SECONDS_MAX, backoff_seconds

UNREACHABLE = "processor_unreachable"
REFUNDED_TWICE = "refunded_twice"
TO_BE_SENT = frozenset({LegStatus.PLANNED, LegStatus.WAITING, LegStatus.BLOCKED})
MISMATCH_SEPARATOR = ": "  # between the word of an object that is not believed and why
_STATE_OF_STATUS = {state.value: state for state in ObjectState}
_OUTCOME_OF_STATE = {
    ObjectState.PENDING: LegOutcome.ACCEPTED,
    ObjectState.REQUIRES_ACTION: LegOutcome.REQUIRES_CUSTOMER,
    ObjectState.SUCCEEDED: LegOutcome.PAID,
    ObjectState.FAILED: LegOutcome.OBJECT_FAILED,
    ObjectState.CANCELED: LegOutcome.OBJECT_CANCELED,
}


def waits_for_person(leg: Leg) -> bool:
    """Whether a person decides if it is sent at all: no news but that of its own object may make it due again."""
    return leg.status in TO_BE_SENT and leg.attention is not None and leg.next_at is None


def clear_unreachable(leg: Leg) -> Leg:
    """The processor answered: that it could not be reached concerns nobody any more."""
    return replace(leg, attention=None) if leg.attention == UNREACHABLE else leg


def apply_object(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Join what the processor says of one object with what is known; order and repetition make no difference."""
    fault = mismatch(leg, refund_object, builder.policy.rules_of(leg.processor).live)
    if fault:
        return _reject_mismatch(builder, leg, refund_object, fault)
    state = _STATE_OF_STATUS.get(refund_object.status or "")
    if state is None:
        return _keep_unknown_status(builder, leg, refund_object)
    known = {seen.processor_refund_id: seen for seen in leg.objects}
    old = known.get(refund_object.processor_refund_id)
    if old is not None and (old.state is state or OBJECT_RANK[old.state] > OBJECT_RANK[state]):
        if old.state is state:
            _keep_status(builder, leg, refund_object)  # the last word may have been one that was not believed
        return _apply_repeat(builder, leg, refund_object)
    known[refund_object.processor_refund_id] = KnownRefundObject(
        refund_object.processor_refund_id, state, refund_object.attempt
    )
    builder.objects.append(RefundObjectUpdate(leg.leg_id, state, refund_object))
    leg = builder.update_leg(leg, objects=tuple(known.values()))
    standing = [seen for seen in known.values() if seen.state in LIVE_OBJECT_STATES]
    if not standing and refund_object.attempt not in (None, leg.attempt) and leg.status in ACTIVE:
        # An older attempt's object failed; the present attempt's fate is still open.
        if leg.status not in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
            return leg
        return builder.transition_leg(leg, LegOutcome.NO_ANSWER, doubtful=True, look_first=True, next_at=builder.now)
    return _apply_objects(builder, leg, refund_object, standing, state)


def _apply_objects(
    builder: DecisionBuilder,
    leg: Leg,
    refund_object: RefundObject,
    standing: list[KnownRefundObject],
    state: ObjectState,
) -> Leg:
    # Among equals the one that is booked stays: going back and forth would post the same payout twice.
    best = max(
        standing,
        key=lambda seen: (OBJECT_RANK[seen.state], seen.processor_refund_id == leg.processor_refund_id),
        default=None,
    )
    outcome = _OUTCOME_OF_STATE[best.state if best else state]
    by_hand = _is_paid_manually_otherwise(leg, best.processor_refund_id if best else refund_object.processor_refund_id)
    twice = len(standing) > 1 or by_hand
    if by_hand and outcome is not LegOutcome.PAID:
        return _keep_manual_payment(builder, leg, refund_object, best)
    late = leg.status is LegStatus.SUCCEEDED and outcome is not LegOutcome.PAID
    rules = builder.policy.rules_of(leg.processor)
    unfunded = refund_object.failure_code in rules.unfunded_codes
    if outcome is LegOutcome.OBJECT_FAILED and leg.status in ACTIVE and unfunded:
        return _wait_for_funds(builder, leg, refund_object)
    disputed = not best and not late and refund_object.failure_code in rules.disputed_codes
    if best:
        leg = _reopen(builder, leg)
    changes: dict[str, Any] = {
        "processor_refund_id": best.processor_refund_id if best else refund_object.processor_refund_id,
        "doubtful": False,
        "look_first": False,
        "verdict": None,
        "backoffs": 0,
        "attention": REFUNDED_TWICE if twice else refund_object.failure_code if disputed else None,
        "failure_code": None if best else refund_object.failure_code or str(state),
        "failure_message": None
        if best
        else f"the processor says {state}: {refund_object.failure_code or 'no reason given'}",
        "next_at": None,
    }
    if outcome in (LegOutcome.ACCEPTED, LegOutcome.REQUIRES_CUSTOMER):
        changes["next_at"] = builder.now + _poll_seconds(builder, leg)
    if late and not best:
        changes |= {"settled": True, "returned_credits": leg.credits}
    detail = {"processor_refund_id": refund_object.processor_refund_id}
    alarm = twice or late or by_hand or disputed
    return builder.transition_leg(
        leg, outcome, reason=refund_object.failure_code, alarm=alarm, detail=detail, **changes
    )


def _wait_for_funds(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """The object came to nothing because our balance was too low: blocked, as when the call says so at once.

    It is a proof, so the next attempt has a key of its own. Each one's object shows how often it was tried.
    """
    tries = sum(seen.state is ObjectState.FAILED for seen in leg.objects)
    again = max(tries - 1, leg.backoffs) < BLOCKED_TRIES
    return builder.transition_leg(
        replace(fresh_attempt(leg), attempt=leg.attempt + 1),
        LegOutcome.UNFUNDED,
        reason=refund_object.failure_code,
        alarm=tries == 1,
        detail={"processor_refund_id": refund_object.processor_refund_id},
        attention=refund_object.failure_code,
        failure_code=refund_object.failure_code,
        failure_message=f"the processor says failed: {refund_object.failure_code}",
        processor_refund_id=refund_object.processor_refund_id,
        doubtful=False,
        backoffs=max(tries, leg.backoffs + 1),
        next_at=builder.now + builder.policy.retry_max_seconds if again else None,
    )


def _is_paid_manually_otherwise(leg: Leg, object_id: str) -> bool:
    """Whether a person said that they paid it, and not by this very object."""
    paid_by = leg.processor_refund_id or ""
    is_by_hand = leg.status is LegStatus.SUCCEEDED and paid_by.startswith(MANUAL_PREFIX)
    return is_by_hand and paid_by != MANUAL_PREFIX + object_id


def _keep_manual_payment(
    builder: DecisionBuilder, leg: Leg, refund_object: RefundObject, best: KnownRefundObject | None
) -> Leg:
    """What came to nothing at the processor does not contradict who paid in another way; what may still pay does."""
    object_id = refund_object.processor_refund_id
    if best is None:
        builder.record_event("paid_by_hand_stands", leg=leg, processor_refund_id=object_id, state=refund_object.status)
        return builder.update_leg(leg, attention=None) if leg.attention == REFUNDED_TWICE else leg
    if leg.attention != REFUNDED_TWICE:
        builder.record_event(
            REFUNDED_TWICE, alarm=True, leg=leg, processor_refund_id=object_id, state=refund_object.status
        )
    return builder.update_leg(leg, attention=REFUNDED_TWICE, doubtful=False, next_at=None)


def _reopen(builder: DecisionBuilder, leg: Leg) -> Leg:
    """Something stands at the processor for this leg, whatever was thought of it here."""
    given_up = leg.status in UNPAID_FINAL
    if given_up:
        leg = _undo_abandonment(builder, leg)
    if not builder.refund.posted:
        post_after_all(builder, leg.leg_id)
    if given_up:
        _restore_zero_amount_legs(builder)
    return leg


def _undo_abandonment(builder: DecisionBuilder, leg: Leg) -> Leg:
    """Money did go out for a leg that was given up: credits given back for it are taken again, and a person told."""
    refund = builder.refund
    builder.record_event("processor_contradicts", alarm=True, leg=leg, credits=leg.returned_credits)
    still_to_return = credits_to_reverse(replace(refund, legs=tuple(builder.legs.values())))
    given_back = max(0, leg.returned_credits - still_to_return)
    if given_back:
        builder.balance -= given_back
        builder.withdrawn += given_back
        customer = customer_account(refund.customer_id)
        builder.post_entry(
            f"taken-again-{refund.returns}-{leg_number(leg)}",
            EntryKind.CORRECTION,
            -given_back,
            transfer(customer, CLEARING, CREDITS, given_back),
            f"Correction of {given_back} credits: the money did go out after all",
            f"{refund.refund_id}-reversal-{refund.returns}",
        )
        builder.refund = replace(refund, returned_credits=refund.returned_credits - given_back)
    return builder.update_leg(leg, settled=False, returned_credits=0)


def _restore_zero_amount_legs(builder: DecisionBuilder) -> None:
    """Legs worth nothing follow the others: given up only while no money had gone out at all."""
    for leg in tuple(builder.legs.values()):
        if leg.amount_minor == 0 and leg.status in UNPAID_FINAL:
            # Never sent, it has no other use for this number: here it counts how often it came back.
            times = leg.backoffs + 1
            builder.transition_leg(
                _undo_abandonment(builder, leg), LegOutcome.PAID, reason="follows the others", backoffs=times
            )


def _apply_repeat(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """Nothing new about a known object; if it was asked for by a poll, ask again later, less and less often."""
    if leg.status in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
        return builder.update_leg(clear_unreachable(leg), next_at=builder.now + _poll_seconds(builder, leg), backoffs=0)
    if leg.status in (LegStatus.SENDING, LegStatus.UNKNOWN) and refund_object.attempt in (None, leg.attempt):
        state = next(
            seen.state for seen in leg.objects if seen.processor_refund_id == refund_object.processor_refund_id
        )
        standing = [seen for seen in leg.objects if seen.state in LIVE_OBJECT_STATES]
        return _apply_objects(builder, leg, refund_object, standing, state)
    return leg


def _poll_seconds(builder: DecisionBuilder, leg: Leg) -> float:
    """An ageing schedule: half the time since the last send, between the setting and a day."""
    age = builder.now - (leg.last_sent_at or builder.now)
    return max(builder.policy.poll_seconds, min(age / 2, POLL_SECONDS_MAX))


def mismatch(leg: Leg, refund_object: RefundObject, live: bool | None) -> str | None:
    """What makes the object another one than this leg asked for, in words; None if nothing does."""
    if refund_object.leg_id is not None and refund_object.leg_id != leg.leg_id:
        return "another leg's refund"
    if (refund_object.amount_minor, refund_object.currency) != (leg.amount_minor, leg.currency):
        return f"{refund_object.amount_minor} {refund_object.currency} instead of {leg.amount_minor} {leg.currency}"
    if refund_object.payment_refs and leg.processor_payment_id not in refund_object.payment_refs:
        return "another payment's refund"
    if live is not None and refund_object.live is not None and refund_object.live != live:
        return "another mode (live or test)"
    return None


def _reject_mismatch(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject, fault: str) -> Leg:
    """An answer about something else is no evidence. Nothing is concluded from it; a person hears of it.

    About an object that came to nothing under an older attempt it says nothing of the present one either.
    """
    if ANSWER_MISMATCH not in (leg.attention, leg.verdict):  # once, however often the same is heard
        builder.record_event(
            ANSWER_MISMATCH, alarm=True, leg=leg, fault=fault, processor_refund_id=refund_object.processor_refund_id
        )
    if refund_object.leg_id == leg.leg_id:
        _keep_status(builder, leg, replace(refund_object, status=mismatched_status(refund_object, fault)))
    if _is_void_still(refund_object) and refund_object.processor_refund_id in void_objects_of_older_attempts(leg):
        return leg
    told: dict[str, Any] = {"attention": ANSWER_MISMATCH, "failure_code": ANSWER_MISMATCH, "failure_message": fault}
    if proof := proved_by(leg, refund_object):
        builder.words[leg.payment_id] = proof
    if refund_object.leg_id == leg.leg_id and leg.processor_refund_id is None:
        told["processor_refund_id"] = refund_object.processor_refund_id
    waits = replace(leg, backoffs=leg.backoffs + 1)
    next_at = builder.now + backoff_seconds(builder.policy, waits)
    if leg.status in (LegStatus.SENDING, LegStatus.UNKNOWN):
        # Something was made, though not what was asked for: that a list does not show it is no proof of nothing.
        told |= {"verdict": ANSWER_MISMATCH, "doubtful": True, "look_first": True}
        return builder.transition_leg(waits, LegOutcome.NO_ANSWER, reason=fault, next_at=next_at, **told)
    if waits_for_person(leg):  # for the reason that they were told, which also says what their retry has to ask
        return leg
    if leg.status in TO_BE_SENT:
        told |= {"held": True, "looked_at": None}
    if leg.status in ACTIVE:
        return builder.update_leg(waits, next_at=next_at, **told)
    if is_watched(leg) and leg.verdict != ANSWER_MISMATCH:
        return builder.update_leg(leg, attention=ANSWER_MISMATCH, verdict=ANSWER_MISMATCH)
    return leg


def void_objects_of_older_attempts(leg: Leg) -> frozenset[str]:
    """The objects that came to nothing under an older attempt: they say nothing about the present one."""
    return frozenset(
        o.processor_refund_id for o in leg.objects if o.state not in LIVE_OBJECT_STATES and o.attempt != leg.attempt
    )


def _is_void_still(refund_object: RefundObject) -> bool:
    return _STATE_OF_STATUS.get(refund_object.status or "") not in (None, *LIVE_OBJECT_STATES)


def _keep_unknown_status(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> Leg:
    """A status nobody has heard of: the object exists, so it is kept as pending, shown to a person, and asked again."""
    word = refund_object.status or "none"
    if is_watched(leg):
        builder.objects.append(RefundObjectUpdate(leg.leg_id, None, refund_object))
        seen = KnownRefundObject(refund_object.processor_refund_id, ObjectState.PENDING)
        return _apply_objects(builder, leg, replace(refund_object, status="pending"), [seen], ObjectState.PENDING)
    if leg.attention not in ("unknown_status", REFUNDED_TWICE):
        builder.record_event(
            "unknown_status", alarm=True, leg=leg, status=word, processor_refund_id=refund_object.processor_refund_id
        )
    told: dict[str, Any] = {
        "attention": "unknown_status",
        "failure_code": "unknown_status",
        "failure_message": f"status: {word}",
    }
    if leg.status not in ACTIVE:
        _keep_status(builder, leg, refund_object)
        return leg
    if leg.status not in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
        pending = replace(refund_object, status="pending")
        builder.objects.append(RefundObjectUpdate(leg.leg_id, None, refund_object))
        leg = _apply_objects(
            builder,
            leg,
            pending,
            [KnownRefundObject(refund_object.processor_refund_id, ObjectState.PENDING)],
            ObjectState.PENDING,
        )
    return builder.update_leg(leg, next_at=builder.now + _poll_seconds(builder, leg), **told)


def mismatched_status(refund_object: RefundObject, fault: str) -> str:
    """The word that is kept of an object which is not believed: what it says when it is right is news all the same."""
    return f"{refund_object.status}{MISMATCH_SEPARATOR}{fault}"


def is_mismatched(word: str | None) -> bool:
    return MISMATCH_SEPARATOR in (word or "")


def _keep_status(builder: DecisionBuilder, leg: Leg, refund_object: RefundObject) -> None:
    """So that it is no news the next time; what is known of the object stands."""
    known = next(
        (seen.state for seen in leg.objects if seen.processor_refund_id == refund_object.processor_refund_id), None
    )
    builder.objects.append(RefundObjectUpdate(leg.leg_id, known, refund_object))
