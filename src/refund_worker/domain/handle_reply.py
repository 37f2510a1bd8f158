"""Heard from a processor: the one entrance for everything that a processor says or does not say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from refund_worker.domain.decision import PAUSE_SECONDS, Decision, Pause, Policy
from refund_worker.domain.decision_builder import (
    ANSWER_MISMATCH,
    BLOCKED_TRIES,
    Draft,
    fresh_attempt,
    is_watched,
)
from refund_worker.domain.outside_refunds import stop, what_stops
from refund_worker.domain.payment_check import hold_back
from refund_worker.domain.processor_calls import Call, LookUp, Send, Verify
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
    Leg,
    LegStatus,
    Refund,
)
from refund_worker.domain.refund_object import (
    TO_BE_SENT,
    UNREACHABLE,
    reached,
    take_object,
    void_before,
    waits_for_person,
)
from refund_worker.domain.state_machine import OPEN, LegOutcome
from refund_worker.domain.timing import backoff_seconds, key_lives, key_outlives_what_may_land, quiet_end

PROCESSOR = "processor"
# A processor that stays unreachable is a person's concern after so many tries; the tries go on all the same.
BACKOFFS_BEFORE_ATTENTION = 12
# Look-ups that are answered and find nothing yet wait no longer than that: they are no sign of an outage.
BACKOFFS_WHILE_ANSWERED = 8
# Refused because the payment has less left than our book says: somebody may have refunded it elsewhere.
OVER_REFUND = "amount_exceeds_unrefunded"
LOOK_FIRST = ("already_refunded", "over_refund")

# By which a processor says that it does not know the payment.
_NOT_THERE = frozenset({"resource_missing", "not_found"})


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
                take_object(draft, leg, thing)
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
    if leg.status not in TO_BE_SENT or waits_for_person(leg):
        return
    match reply:
        case PaymentRead() | PaymentUnreadable():
            draft.change(reached(leg), next_at=draft.now)
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
    if getattr(reply, "replayed", False) and key_outlives_what_may_land(leg, draft.policy):
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
    if leg.status not in OPEN or leg.status is LegStatus.SENDING or waits_for_person(leg):
        return
    counts = not isinstance(reply, NotSent) or reply.begun
    waits = replace(leg, backoffs=leg.backoffs + counts)
    attention = _attention_of_silence(waits)
    if isinstance(reply, (Misconfigured, KeyConflict, Refused, Blocked, AlreadyRefunded)):
        attention = getattr(reply, "code", "unexpected_answer")
    elif isinstance(reply, UnknownRefusal):
        attention = UNKNOWN_REFUSAL
    draft.change(waits, next_at=draft.now + backoff_seconds(draft.policy, waits), attention=attention)


def _attention_of_silence(leg: Leg) -> str | None:
    return leg.attention or (UNREACHABLE if leg.backoffs >= BACKOFFS_BEFORE_ATTENTION else None)


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
        leg = take_object(draft, leg, thing)
    older = void_before(leg)
    strange = any(thing.processor_refund_id not in older for thing in found.objects)
    elsewhere = what_stops(leg, found, nothing_left=leg.verdict in LOOK_FIRST)
    if before_sending and leg.status in TO_BE_SENT and leg.next_at is not None:
        _go_on_to_send(draft, leg, asked_at, strange, elsewhere)
    elif leg.status is LegStatus.UNKNOWN and before_sending and not (strange or elsewhere or leg.look_first):
        _allow(draft, reached(leg), asked_at)  # only this list was missing: its key is sent again
    elif leg.status is LegStatus.UNKNOWN or is_watched(leg):
        if leg.doubtful and asked_at < quiet_end(leg, draft.policy):
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
        _allow(draft, reached(leg), asked_at)


def _allow(draft: Draft, leg: Leg, asked_at: float) -> Leg:
    """It keeps its place among what is due: behind all others its list would be too old again when its turn comes."""
    return draft.change(leg, looked_at=asked_at, next_at=min(draft.now, leg.next_at or draft.now))


def _await_what_may_land(draft: Draft, leg: Leg) -> None:
    """Nothing shows yet of a send that is unanswered: often looked for at first, since most late effects land soon,
    and once more when the window has passed."""
    waits = replace(reached(leg), backoffs=min(leg.backoffs + 1, BACKOFFS_WHILE_ANSWERED))
    soon = draft.now + backoff_seconds(draft.policy, waits)
    draft.change(waits, next_at=min(soon, quiet_end(leg, draft.policy)))


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
