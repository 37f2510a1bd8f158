"""What a refund object at the processor means for its leg, joined by object id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refund_worker.domain.credit_postings import post_after_all
from refund_worker.domain.decision import ObjectSeen
from refund_worker.domain.decision_builder import (
    ANSWER_MISMATCH,
    BLOCKED_TRIES,
    BY_HAND_PREFIX,
    FAILED_BY_A_DISPUTE,
    FAILED_FOR_FUNDS,
    Draft,
    credits_to_return,
    fresh_attempt,
    is_watched,
    leg_number,
)
from refund_worker.domain.ledger import CLEARING, CREDITS, EntryKind, customer_account, transfer
from refund_worker.domain.payment_check import proved_by
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import OBJECT_RANK, STANDING, Leg, LegStatus, ObjectState, SeenObject
from refund_worker.domain.state_machine import NO_MONEY, OPEN, LegOutcome
from refund_worker.domain.timing import POLL_SECONDS_MAX, backoff_seconds

UNREACHABLE = "processor_unreachable"
TWICE = "refunded_twice"
TO_BE_SENT = frozenset({LegStatus.PLANNED, LegStatus.WAITING, LegStatus.BLOCKED})
BUT = ": "  # between the word of an object that is not believed and why
_STATE_OF_WORD = {state.value: state for state in ObjectState}
_OUTCOME_OF_STATE = {
    ObjectState.PENDING: LegOutcome.ACCEPTED,
    ObjectState.REQUIRES_ACTION: LegOutcome.ASKS_CUSTOMER,
    ObjectState.SUCCEEDED: LegOutcome.PAID,
    ObjectState.FAILED: LegOutcome.OBJECT_FAILED,
    ObjectState.CANCELED: LegOutcome.OBJECT_CANCELED,
}


def waits_for_person(leg: Leg) -> bool:
    """Whether a person decides if it is sent at all: no news but that of its own object may make it due again."""
    return leg.status in TO_BE_SENT and leg.attention is not None and leg.next_at is None


def reached(leg: Leg) -> Leg:
    """The processor answered: that it could not be reached concerns nobody any more."""
    return replace(leg, attention=None) if leg.attention == UNREACHABLE else leg


def take_object(draft: Draft, leg: Leg, thing: RefundObject) -> Leg:
    """Join what the processor says of one object with what is known; order and repetition make no difference."""
    fault = mismatch(leg, thing, draft.policy.live)
    if fault:
        return _distrust(draft, leg, thing, fault)
    state = _STATE_OF_WORD.get(thing.status or "")
    if state is None:
        return _hold(draft, leg, thing)
    known = {seen.processor_refund_id: seen for seen in leg.objects}
    old = known.get(thing.processor_refund_id)
    if old is not None and (old.state is state or OBJECT_RANK[old.state] > OBJECT_RANK[state]):
        if old.state is state:
            _keep_word(draft, leg, thing)  # the last word may have been one that was not believed
        return _heard_again(draft, leg, thing)
    known[thing.processor_refund_id] = SeenObject(thing.processor_refund_id, state, thing.attempt)
    draft.objects.append(ObjectSeen(leg.leg_id, state, thing))
    leg = draft.change(leg, objects=tuple(known.values()))
    standing = [seen for seen in known.values() if seen.state in STANDING]
    if not standing and thing.attempt not in (None, leg.attempt) and leg.status in OPEN:
        # An older attempt's object failed; the present attempt's fate is still open.
        if leg.status not in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
            return leg
        return draft.move(leg, LegOutcome.SILENCE, doubtful=True, look_first=True, next_at=draft.now)
    return _become(draft, leg, thing, standing, state)


def _become(draft: Draft, leg: Leg, thing: RefundObject, standing: list[SeenObject], state: ObjectState) -> Leg:
    # Among equals the one that is booked stays: going back and forth would post the same payout twice.
    best = max(
        standing,
        key=lambda seen: (OBJECT_RANK[seen.state], seen.processor_refund_id == leg.processor_refund_id),
        default=None,
    )
    outcome = _OUTCOME_OF_STATE[best.state if best else state]
    by_hand = _is_paid_by_another(leg, best.processor_refund_id if best else thing.processor_refund_id)
    twice = len(standing) > 1 or by_hand
    if by_hand and outcome is not LegOutcome.PAID:
        return _stand_by_hand(draft, leg, thing, best)
    late = leg.status is LegStatus.SUCCEEDED and outcome is not LegOutcome.PAID
    if outcome is LegOutcome.OBJECT_FAILED and leg.status in OPEN and thing.failure_code in FAILED_FOR_FUNDS:
        return _wait_for_funds(draft, leg, thing)
    disputed = not best and not late and thing.failure_code in FAILED_BY_A_DISPUTE
    if best:
        leg = _take_up_again(draft, leg)
    changes: dict[str, Any] = {
        "processor_refund_id": best.processor_refund_id if best else thing.processor_refund_id,
        "doubtful": False,
        "look_first": False,
        "verdict": None,
        "backoffs": 0,
        "attention": TWICE if twice else thing.failure_code if disputed else None,
        "failure_code": None if best else thing.failure_code or str(state),
        "failure_message": None if best else f"the processor says {state}: {thing.failure_code or 'no reason given'}",
        "next_at": None,
    }
    if outcome in (LegOutcome.ACCEPTED, LegOutcome.ASKS_CUSTOMER):
        changes["next_at"] = draft.now + _poll_seconds(draft, leg)
    if late and not best:
        changes |= {"settled": True, "returned_credits": leg.credits}
    detail = {"processor_refund_id": thing.processor_refund_id}
    alarm = twice or late or by_hand or disputed
    return draft.move(leg, outcome, reason=thing.failure_code, alarm=alarm, detail=detail, **changes)


def _wait_for_funds(draft: Draft, leg: Leg, thing: RefundObject) -> Leg:
    """The object came to nothing because our balance was too low: blocked, as when the call says so at once.

    It is a proof, so the next attempt has a key of its own. Each one's object shows how often it was tried.
    """
    tries = sum(seen.state is ObjectState.FAILED for seen in leg.objects)
    again = max(tries - 1, leg.backoffs) < BLOCKED_TRIES
    return draft.move(
        replace(fresh_attempt(leg), attempt=leg.attempt + 1),
        LegOutcome.UNFUNDED,
        reason=thing.failure_code,
        alarm=tries == 1,
        detail={"processor_refund_id": thing.processor_refund_id},
        attention=thing.failure_code,
        failure_code=thing.failure_code,
        failure_message=f"the processor says failed: {thing.failure_code}",
        processor_refund_id=thing.processor_refund_id,
        doubtful=False,
        backoffs=max(tries, leg.backoffs + 1),
        next_at=draft.now + draft.policy.retry_max_seconds if again else None,
    )


def _is_paid_by_another(leg: Leg, object_id: str) -> bool:
    """Whether a person said that they paid it, and not by this very object."""
    paid_by = leg.processor_refund_id or ""
    is_by_hand = leg.status is LegStatus.SUCCEEDED and paid_by.startswith(BY_HAND_PREFIX)
    return is_by_hand and paid_by != BY_HAND_PREFIX + object_id


def _stand_by_hand(draft: Draft, leg: Leg, thing: RefundObject, best: SeenObject | None) -> Leg:
    """What came to nothing at the processor does not contradict who paid in another way; what may still pay does."""
    object_id = thing.processor_refund_id
    if best is None:
        draft.note("paid_by_hand_stands", leg=leg, processor_refund_id=object_id, state=thing.status)
        return draft.change(leg, attention=None) if leg.attention == TWICE else leg
    if leg.attention != TWICE:
        draft.note(TWICE, alarm=True, leg=leg, processor_refund_id=object_id, state=thing.status)
    return draft.change(leg, attention=TWICE, doubtful=False, next_at=None)


def _take_up_again(draft: Draft, leg: Leg) -> Leg:
    """Something stands at the processor for this leg, whatever was thought of it here."""
    given_up = leg.status in NO_MONEY
    if given_up:
        leg = _undo_giving_up(draft, leg)
    if not draft.refund.posted:
        post_after_all(draft, leg.leg_id)
    if given_up:
        _revive_worthless_legs(draft)
    return leg


def _undo_giving_up(draft: Draft, leg: Leg) -> Leg:
    """Money did go out for a leg that was given up: credits given back for it are taken again, and a person told."""
    refund = draft.refund
    draft.note("processor_contradicts", alarm=True, leg=leg, credits=leg.returned_credits)
    still_to_return = credits_to_return(replace(refund, legs=tuple(draft.legs.values())))
    given_back = max(0, leg.returned_credits - still_to_return)
    if given_back:
        draft.balance -= given_back
        draft.withdrawn += given_back
        customer = customer_account(refund.customer_id)
        draft.post(
            f"taken-again-{refund.returns}-{leg_number(leg)}",
            EntryKind.CORRECTION,
            -given_back,
            transfer(customer, CLEARING, CREDITS, given_back),
            f"Correction of {given_back} credits: the money did go out after all",
            f"{refund.refund_id}-reversal-{refund.returns}",
        )
        draft.refund = replace(refund, returned_credits=refund.returned_credits - given_back)
    return draft.change(leg, settled=False, returned_credits=0)


def _revive_worthless_legs(draft: Draft) -> None:
    """Legs worth nothing follow the others: given up only while no money had gone out at all."""
    for leg in tuple(draft.legs.values()):
        if leg.amount_minor == 0 and leg.status in NO_MONEY:
            # Never sent, it has no other use for this number: here it counts how often it came back.
            times = leg.backoffs + 1
            draft.move(_undo_giving_up(draft, leg), LegOutcome.PAID, reason="follows the others", backoffs=times)


def _heard_again(draft: Draft, leg: Leg, thing: RefundObject) -> Leg:
    """Nothing new about a known object; if it was asked for by a poll, ask again later, less and less often."""
    if leg.status in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
        return draft.change(reached(leg), next_at=draft.now + _poll_seconds(draft, leg), backoffs=0)
    if leg.status in (LegStatus.SENDING, LegStatus.UNKNOWN) and thing.attempt in (None, leg.attempt):
        state = next(seen.state for seen in leg.objects if seen.processor_refund_id == thing.processor_refund_id)
        standing = [seen for seen in leg.objects if seen.state in STANDING]
        return _become(draft, leg, thing, standing, state)
    return leg


def _poll_seconds(draft: Draft, leg: Leg) -> float:
    """An ageing schedule: half the time since the last send, between the setting and a day."""
    age = draft.now - (leg.last_sent_at or draft.now)
    return max(draft.policy.poll_seconds, min(age / 2, POLL_SECONDS_MAX))


def mismatch(leg: Leg, thing: RefundObject, live: bool | None) -> str | None:
    """What makes the object another one than this leg asked for, in words; None if nothing does."""
    if thing.leg_id is not None and thing.leg_id != leg.leg_id:
        return "another leg's refund"
    if (thing.amount_minor, thing.currency) != (leg.amount_minor, leg.currency):
        return f"{thing.amount_minor} {thing.currency} instead of {leg.amount_minor} {leg.currency}"
    if thing.payment_refs and leg.processor_payment_id not in thing.payment_refs:
        return "another payment's refund"
    if live is not None and thing.live is not None and thing.live != live:
        return "another mode (live or test)"
    return None


def _distrust(draft: Draft, leg: Leg, thing: RefundObject, fault: str) -> Leg:
    """An answer about something else is no evidence. Nothing is concluded from it; a person hears of it.

    About an object that came to nothing under an older attempt it says nothing of the present one either.
    """
    if ANSWER_MISMATCH not in (leg.attention, leg.verdict):  # once, however often the same is heard
        draft.note(ANSWER_MISMATCH, alarm=True, leg=leg, fault=fault, processor_refund_id=thing.processor_refund_id)
    if thing.leg_id == leg.leg_id:
        _keep_word(draft, leg, replace(thing, status=distrusted(thing, fault)))
    if _is_void_still(thing) and thing.processor_refund_id in void_before(leg):
        return leg
    told: dict[str, Any] = {"attention": ANSWER_MISMATCH, "failure_code": ANSWER_MISMATCH, "failure_message": fault}
    if proof := proved_by(leg, thing):
        draft.words[leg.payment_id] = proof
    if thing.leg_id == leg.leg_id and leg.processor_refund_id is None:
        told["processor_refund_id"] = thing.processor_refund_id
    waits = replace(leg, backoffs=leg.backoffs + 1)
    next_at = draft.now + backoff_seconds(draft.policy, waits)
    if leg.status in (LegStatus.SENDING, LegStatus.UNKNOWN):
        # Something was made, though not what was asked for: that a list does not show it is no proof of nothing.
        told |= {"verdict": ANSWER_MISMATCH, "doubtful": True, "look_first": True}
        return draft.move(waits, LegOutcome.SILENCE, reason=fault, next_at=next_at, **told)
    if waits_for_person(leg):  # for the reason that they were told, which also says what their retry has to ask
        return leg
    if leg.status in TO_BE_SENT:
        told |= {"held": True, "looked_at": None}
    if leg.status in OPEN:
        return draft.change(waits, next_at=next_at, **told)
    if is_watched(leg) and leg.verdict != ANSWER_MISMATCH:
        return draft.change(leg, attention=ANSWER_MISMATCH, verdict=ANSWER_MISMATCH)
    return leg


def void_before(leg: Leg) -> frozenset[str]:
    """The objects that came to nothing under an older attempt: they say nothing about the present one."""
    return frozenset(o.processor_refund_id for o in leg.objects if o.state not in STANDING and o.attempt != leg.attempt)


def _is_void_still(thing: RefundObject) -> bool:
    return _STATE_OF_WORD.get(thing.status or "") not in (None, *STANDING)


def _hold(draft: Draft, leg: Leg, thing: RefundObject) -> Leg:
    """A status nobody has heard of: the object exists, so it is kept as pending, shown to a person, and asked again."""
    word = thing.status or "none"
    if is_watched(leg):
        draft.objects.append(ObjectSeen(leg.leg_id, None, thing))
        seen = SeenObject(thing.processor_refund_id, ObjectState.PENDING)
        return _become(draft, leg, replace(thing, status="pending"), [seen], ObjectState.PENDING)
    if leg.attention not in ("unknown_status", TWICE):
        draft.note("unknown_status", alarm=True, leg=leg, status=word, processor_refund_id=thing.processor_refund_id)
    told: dict[str, Any] = {
        "attention": "unknown_status",
        "failure_code": "unknown_status",
        "failure_message": f"status: {word}",
    }
    if leg.status not in OPEN:
        _keep_word(draft, leg, thing)
        return leg
    if leg.status not in (LegStatus.PENDING, LegStatus.REQUIRES_ACTION):
        pending = replace(thing, status="pending")
        draft.objects.append(ObjectSeen(leg.leg_id, None, thing))
        leg = _become(
            draft, leg, pending, [SeenObject(thing.processor_refund_id, ObjectState.PENDING)], ObjectState.PENDING
        )
    return draft.change(leg, next_at=draft.now + _poll_seconds(draft, leg), **told)


def distrusted(thing: RefundObject, fault: str) -> str:
    """The word that is kept of an object which is not believed: what it says when it is right is news all the same."""
    return f"{thing.status}{BUT}{fault}"


def is_distrusted(word: str | None) -> bool:
    return BUT in (word or "")


def _keep_word(draft: Draft, leg: Leg, thing: RefundObject) -> None:
    """So that it is no news the next time; what is known of the object stands."""
    known = next((seen.state for seen in leg.objects if seen.processor_refund_id == thing.processor_refund_id), None)
    draft.objects.append(ObjectSeen(leg.leg_id, known, thing))
