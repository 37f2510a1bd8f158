"""Heard from a processor: the one entrance for everything that a processor says or does not say."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from refund_worker.domain.credit_postings import post_after_all
from refund_worker.domain.decision import (
    PAUSE_SECONDS,
    Call,
    Decision,
    LookUp,
    ObjectSeen,
    Pause,
    Policy,
    Send,
    Verify,
)
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
    key_lives,
    lands_by,
    leg_number,
)
from refund_worker.domain.ledger import (
    CLEARING,
    CREDITS,
    EntryKind,
    customer_account,
    transfer,
)
from refund_worker.domain.outside_refunds import stop, what_stops
from refund_worker.domain.payment_check import hold_back, proved_by
from refund_worker.domain.processor_replies import (
    UNKNOWN_REFUSAL,
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    PaymentRead,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import (
    OBJECT_RANK,
    STANDING,
    Leg,
    LegStatus,
    ObjectState,
    Refund,
    SeenObject,
)
from refund_worker.domain.state_machine import NO_MONEY, OPEN, LegOutcome

PROCESSOR = "processor"
# A processor that stays unreachable is a person's concern after so many tries; the tries go on all the same.
BACKOFFS_BEFORE_ATTENTION = 12
UNREACHABLE = "processor_unreachable"
TWICE = "refunded_twice"
TO_BE_SENT = frozenset({LegStatus.PLANNED, LegStatus.WAITING, LegStatus.BLOCKED})
# Look-ups that are answered and find nothing yet wait no longer than that: they are no sign of an outage.
BACKOFFS_WHILE_ANSWERED = 8
BUT = ": "  # between the word of an object that is not believed and why
# Refused because the payment has less left than our book says: somebody may have refunded it elsewhere.
OVER_REFUND = "amount_exceeds_unrefunded"
LOOK_FIRST = ("already_refunded", "over_refund")
POLL_SECONDS_MAX = 86_400.0

_STATE_OF_WORD = {state.value: state for state in ObjectState}
_OUTCOME_OF_STATE = {
    ObjectState.PENDING: LegOutcome.ACCEPTED,
    ObjectState.REQUIRES_ACTION: LegOutcome.ASKS_CUSTOMER,
    ObjectState.SUCCEEDED: LegOutcome.PAID,
    ObjectState.FAILED: LegOutcome.OBJECT_FAILED,
    ObjectState.CANCELED: LegOutcome.OBJECT_CANCELED,
}
# By which a processor says that it does not know the payment.
_NOT_THERE = frozenset({"resource_missing", "not_found"})


def backoff_seconds(policy: Policy, leg: Leg) -> float:
    """Exponential, capped, and spread by ±25% in a way that depends on the leg alone, so that a run can be repeated."""
    spread = zlib.crc32(f"{leg.leg_id}/{leg.backoffs}".encode()) % 1000 / 2000 + 0.75
    base = min(policy.retry_base_seconds, policy.retry_max_seconds)
    seconds: float = min(base * 2.0 ** min(leg.backoffs, 30), policy.retry_max_seconds)
    return seconds * spread


def heard_all(
    refund: Refund,
    replies: Iterable[tuple[str, Call | None, Reply | SearchReply | PaymentReply, float | None]],
    now: float,
    policy: Policy,
) -> Decision:
    """Several answers about one refund, taken in together."""
    draft = Draft(refund, now, policy, PROCESSOR)
    for leg_id, call, reply, asked_at in replies:
        leg = draft.legs[leg_id]
        match reply:
            case Answered(object=thing):
                _take_object(draft, leg, thing)
            case Found():
                # Nothing was asked later than now: where it seems so, the clock was set back while the answer came.
                asked = now if asked_at is None else min(asked_at, now)
                waiting = isinstance(call, LookUp) and call.before_sending
                _take_found(draft, leg, reply, asked, before_sending=waiting)
            case _ if isinstance(call, Verify):
                _take_word(draft, leg, reply)
            case _ if isinstance(call, Send) and leg.status is LegStatus.SENDING:
                _take_answer(draft, leg, reply)
            case _:
                _take_no_news(draft, leg, reply)
    return draft.decision()


def _take_word(draft: Draft, leg: Leg, reply: Reply | SearchReply | PaymentReply) -> None:
    """The processor's word on the payment, before the first send over it; without one nothing is sent."""
    if isinstance(reply, PaymentRead | PaymentUnreadable):
        draft.words[leg.payment_id] = reply
    if isinstance(reply, Denied):
        draft.pauses.append(Pause(leg.processor, reply.code, reply.message))
    if leg.status not in TO_BE_SENT or _is_a_persons(leg):
        return
    match reply:
        case PaymentRead() | PaymentUnreadable():
            draft.change(_reached(leg), next_at=draft.now)
        case Misconfigured(code=code, message=message):
            event = "payment_not_found" if code in _NOT_THERE else "payment_not_read"
            hold_back(draft, leg, code, message, event=event)
        case _:
            told = getattr(reply, "reason", None) or getattr(reply, "message", None) or getattr(reply, "code", None)
            waits = replace(leg, backoffs=leg.backoffs + (not isinstance(reply, NotSent) or reply.begun))
            pause = max(backoff_seconds(draft.policy, leg), getattr(reply, "retry_after_seconds", None) or 0)
            attention = _attention_of_silence(waits)
            draft.change(waits, next_at=draft.now + pause, failure_message=told, attention=attention)


def _take_answer(draft: Draft, leg: Leg, reply: Reply | SearchReply | PaymentReply) -> None:
    """The answer to a send that describes no object."""
    if getattr(reply, "replayed", False) and _key_outlives_what_may_land(draft, leg):
        leg = replace(leg, doubtful=False)
    match reply:
        case Refused(code=code, message=message):
            _take_verdict(draft, leg, "over_refund" if code == OVER_REFUND else "refused", code, message)
        case Blocked(code=code, message=message):
            _take_verdict(draft, leg, "blocked", code, message)
        case AlreadyRefunded(message=message):
            _take_verdict(draft, leg, "already_refunded", "charge_already_refunded", message)
        case Misconfigured(code=code, message=message):
            _take_verdict(draft, leg, "misconfigured", code, message)
        case UnknownRefusal(code=code, message=message):
            _take_verdict(draft, leg, UNKNOWN_REFUSAL, UNKNOWN_REFUSAL, f"{code}: {message}")
        case KeyConflict(message=message):
            _take_verdict(draft, leg, "key_conflict", "idempotency_key_conflict", message)
        case Unanswered(reason=reason, server_error=server_error):
            _wait(draft, leg, LegOutcome.SILENCE, reason, doubtful=True, look_first=leg.look_first or server_error)
        case Busy(code=code, retry_after_seconds=seconds):
            _wait_unexecuted(draft, leg, code, seconds)
        case NotSent(reason=reason, begun=begun):
            _wait_unexecuted(draft, leg if begun else _as_before_its_send(leg), reason, None, counts=begun)
        case Denied():
            _wait_for_our_set_up(draft, replace(leg, held=True), reply)
        case _:
            raise AssertionError(f"not an answer to a send: {reply}")


def _wait_for_our_set_up(draft: Draft, leg: Leg, denied: Denied) -> None:
    """Nothing was made, and nothing is refused: the leg goes on by itself once the set-up is mended."""
    draft.pauses.append(Pause(leg.processor, denied.code, denied.message))
    seconds = min(PAUSE_SECONDS, draft.policy.retry_max_seconds)
    if denied.maybe_kept:
        # The old key may repeat this answer for ever. A new one only after a look at what exists, just before it.
        _wait(draft, leg, LegOutcome.SILENCE, denied.code, seconds=seconds, look_first=True)
    else:
        _wait_unexecuted(draft, leg, denied.code, seconds)


def _take_no_news(draft: Draft, leg: Leg, reply: Reply | SearchReply | PaymentReply) -> None:
    """A look-up or a poll that told nothing about the leg: ask again later."""
    if isinstance(reply, Denied):
        draft.pauses.append(Pause(leg.processor, reply.code, reply.message))
    if is_watched(leg):
        waits = replace(leg, backoffs=leg.backoffs + 1)
        draft.change(waits, next_at=draft.now + backoff_seconds(draft.policy, waits))
        return
    if leg.status not in OPEN or leg.status is LegStatus.SENDING or _is_a_persons(leg):
        return
    counts = not isinstance(reply, NotSent) or reply.begun
    waits = replace(leg, backoffs=leg.backoffs + counts)
    attention = _attention_of_silence(waits)
    if isinstance(reply, (Misconfigured, KeyConflict, Refused, Blocked, AlreadyRefunded)):
        attention = getattr(reply, "code", "unexpected_answer")
    elif isinstance(reply, UnknownRefusal):
        attention = UNKNOWN_REFUSAL
    draft.change(waits, next_at=draft.now + backoff_seconds(draft.policy, waits), attention=attention)


def _is_a_persons(leg: Leg) -> bool:
    """Whether a person decides if it is sent at all: no news but that of its own object may make it due again."""
    return leg.status in TO_BE_SENT and leg.attention is not None and leg.next_at is None


def _attention_of_silence(leg: Leg) -> str | None:
    return leg.attention or (UNREACHABLE if leg.backoffs >= BACKOFFS_BEFORE_ATTENTION else None)


def _reached(leg: Leg) -> Leg:
    """The processor answered: that it could not be reached concerns nobody any more."""
    return replace(leg, attention=None) if leg.attention == UNREACHABLE else leg


def _as_before_its_send(leg: Leg) -> Leg:
    """The send that was just written down was not begun: where it is the leg's first, the leg was never sent."""
    is_the_first = leg.attempt == 1 and leg.first_sent_at == leg.last_sent_at
    return replace(leg, first_sent_at=None, last_sent_at=None) if is_the_first and not leg.doubtful else leg


def _wait_unexecuted(draft: Draft, leg: Leg, reason: str, seconds: float | None, *, counts: bool = True) -> None:
    """This send was not executed; an earlier one of the same attempt may still have been."""
    outcome = LegOutcome.SILENCE if leg.doubtful else LegOutcome.NOT_EXECUTED
    _wait(draft, leg, outcome, reason, seconds=seconds, counts=counts)


def _wait(
    draft: Draft,
    leg: Leg,
    outcome: LegOutcome,
    reason: str,
    *,
    seconds: float | None = None,
    counts: bool = True,
    **changes: Any,
) -> None:
    """`counts`: it is one more sign that the processor can't be reached, and the waits grow."""
    pause = backoff_seconds(draft.policy, leg)
    waits = replace(leg, backoffs=leg.backoffs + counts)
    draft.move(
        waits,
        outcome,
        reason=reason,
        next_at=draft.now + max(pause, seconds or 0),
        failure_message=reason,
        attention=_attention_of_silence(waits),
        **changes,
    )


def _key_outlives_what_may_land(draft: Draft, leg: Leg) -> bool:
    """Whether every copy of a send that may still arrive meets the answer that is stored under the leg's key.

    Then a replayed refusal is the fate of all of them: what was executed first was refused, and the rest are replays.
    """
    if leg.look_first or leg.first_sent_at is None:  # how old the key is nobody knows, or its answer is an error
        return False
    return _quiet_end(draft, leg) <= leg.first_sent_at + draft.policy.key_life_seconds


def _quiet_end(draft: Draft, leg: Leg) -> float:
    """When nothing that was sent can land any more."""
    return lands_by(leg.last_sent_at or 0, draft.policy)


def _take_verdict(draft: Draft, leg: Leg, verdict: str, code: str, message: str) -> None:
    """A refusal. Of its own call alone: it says nothing about an earlier send whose answer is missing."""
    told: dict[str, Any] = {"failure_code": code, "failure_message": message}
    if leg.doubtful or verdict in LOOK_FIRST:
        told |= {"verdict": verdict}
        draft.move(leg, LegOutcome.SILENCE, reason=code, look_first=True, next_at=draft.now, **told)
    else:
        _execute_verdict(draft, replace(leg, **told), verdict)


def _execute_verdict(draft: Draft, leg: Leg, verdict: str) -> None:
    """What a refusal means once nothing else can exist."""
    calm: dict[str, Any] = {"doubtful": False, "look_first": False, "verdict": None}
    if verdict == "refused":
        draft.move(leg, LegOutcome.REFUSED, reason=leg.failure_code, attention=None, next_at=None, **calm)
        return
    again = verdict == "blocked" and leg.backoffs < BLOCKED_TRIES
    attention = leg.failure_code or verdict
    draft.move(
        leg,
        LegOutcome.BLOCKED,
        reason=leg.failure_code,
        alarm=leg.attention != attention,  # once, however often it is tried again
        detail={"said": leg.failure_message} if verdict == UNKNOWN_REFUSAL else None,
        attention=attention,
        next_at=draft.now + draft.policy.retry_max_seconds if again else None,
        backoffs=leg.backoffs + 1,
        **calm,
    )


def _take_found(draft: Draft, leg: Leg, found: Found, asked_at: float, *, before_sending: bool = False) -> None:
    for thing in found.objects:
        leg = _take_object(draft, leg, thing)
    older = _void_before(leg)
    strange = any(thing.processor_refund_id not in older for thing in found.objects)
    elsewhere = what_stops(leg, found, nothing_left=leg.verdict in LOOK_FIRST)
    if before_sending and leg.status in TO_BE_SENT and leg.next_at is not None:
        _go_on_to_send(draft, leg, asked_at, strange, elsewhere)
    elif leg.status is LegStatus.UNKNOWN and before_sending and not (strange or elsewhere or leg.look_first):
        _allow(draft, _reached(leg), asked_at)  # only this list was missing: its key is sent again
    elif leg.status is LegStatus.UNKNOWN or is_watched(leg):
        if leg.doubtful and asked_at < _quiet_end(draft, leg):
            _await_what_may_land(draft, leg)
        elif is_watched(leg):
            draft.change(leg, doubtful=False, next_at=None)
        else:
            _conclude(draft, leg, asked_at, strange, elsewhere)


def _go_on_to_send(draft: Draft, leg: Leg, asked_at: float, strange: bool, elsewhere: tuple[RefundObject, ...]) -> None:
    """Nothing was under way for this leg: the list alone decides whether it is sent."""
    if strange:  # as in `_conclude`
        _execute_verdict(draft, leg, ANSWER_MISMATCH)
    elif elsewhere:
        stop(draft, leg, elsewhere)
    else:
        _allow(draft, _reached(leg), asked_at)


def _allow(draft: Draft, leg: Leg, asked_at: float) -> Leg:
    """It keeps its place among what is due: behind all others its list would be too old again when its turn comes."""
    return draft.change(leg, looked_at=asked_at, next_at=min(draft.now, leg.next_at or draft.now))


def _await_what_may_land(draft: Draft, leg: Leg) -> None:
    """Nothing shows yet of a send that is unanswered: often looked for at first, since most late effects land soon,
    and once more when the window has passed."""
    waits = replace(_reached(leg), backoffs=min(leg.backoffs + 1, BACKOFFS_WHILE_ANSWERED))
    soon = draft.now + backoff_seconds(draft.policy, waits)
    draft.change(waits, next_at=min(soon, _quiet_end(draft, leg)))


def _conclude(draft: Draft, leg: Leg, asked_at: float, strange: bool, elsewhere: tuple[RefundObject, ...]) -> None:
    """It is proved that nothing of this leg exists and nothing can land any more."""
    if strange:
        # Something bears this leg's name and is not what was asked for: a person must look at both books.
        _execute_verdict(draft, leg, ANSWER_MISMATCH)
    elif elsewhere:
        stop(draft, leg, elsewhere)
    elif leg.verdict == "over_refund":
        _execute_verdict(draft, leg, "refused")
    elif leg.verdict:
        _execute_verdict(draft, leg, leg.verdict)
    elif leg.doubtful and not key_lives(leg, draft.now, draft.policy):
        blocked = replace(leg, failure_code="outcome_unknown", failure_message="nothing found after the key's life")
        _execute_verdict(draft, blocked, "outcome_unknown")
    else:
        fresh = fresh_attempt(replace(leg, doubtful=False))
        absent = draft.move(fresh, LegOutcome.ABSENT, reason="looked up: nothing exists", attention=None)
        _allow(draft, absent, asked_at)


def _take_object(draft: Draft, leg: Leg, thing: RefundObject) -> Leg:
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
        return draft.change(_reached(leg), next_at=draft.now + _poll_seconds(draft, leg), backoffs=0)
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
    if _is_void_still(thing) and thing.processor_refund_id in _void_before(leg):
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
    if _is_a_persons(leg):  # for the reason that they were told, which also says what their retry has to ask
        return leg
    if leg.status in TO_BE_SENT:
        told |= {"held": True, "looked_at": None}
    if leg.status in OPEN:
        return draft.change(waits, next_at=next_at, **told)
    if is_watched(leg) and leg.verdict != ANSWER_MISMATCH:
        return draft.change(leg, attention=ANSWER_MISMATCH, verdict=ANSWER_MISMATCH)
    return leg


def _void_before(leg: Leg) -> frozenset[str]:
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
