"""Heard from a processor: the one entrance for everything that a processor says or does not say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from refund_worker.domain.decision import PAUSE_SECONDS, Decision, Policy, ProcessorDenied
from refund_worker.domain.decision_builder import (
    ANSWER_MISMATCH,
    BLOCKED_TRIES,
    DecisionBuilder,
    fresh_attempt,
    is_watched,
)
from refund_worker.domain.outside_refunds import blocking_refunds, stop
from refund_worker.domain.payment_check import block_for_payment
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
    apply_object,
    clear_unreachable,
    void_objects_of_older_attempts,
    waits_for_person,
)
from refund_worker.domain.state_machine import ACTIVE, LegOutcome
from refund_worker.domain.timing import backoff_seconds, key_lives, key_outlives_what_may_land, quiet_end

PROCESSOR = "processor"
# A processor that stays unreachable is a person's concern after so many tries; the tries go on all the same.
BACKOFFS_BEFORE_ATTENTION = 12
# Look-ups that are answered and find nothing yet wait no longer than that: they are no sign of an outage.
BACKOFFS_WHILE_ANSWERED = 8
LOOKUP_REQUIRED = ("already_refunded", "over_refund")

# By which a processor says that it does not know the payment.
_NOT_THERE = frozenset({"resource_missing", "not_found"})


def apply_replies(
    refund: Refund,
    replies: Iterable[tuple[str, Call | None, Reply | SearchReply | PaymentReply, float | None]],
    now: float,
    policy: Policy,
) -> Decision:
    """Several answers about one refund, taken in together."""
    builder = DecisionBuilder(refund, now, policy, PROCESSOR)
    for leg_id, call, reply, asked_at in replies:
        leg = builder.legs[leg_id]
        match reply:
            case Answered(object=refund_object):
                apply_object(builder, leg, refund_object)
            case Found():
                # Nothing was asked later than now: where it seems so, the clock was set back while the answer came.
                asked = now if asked_at is None else min(asked_at, now)
                waiting = isinstance(call, LookUp) and call.before_sending
                _handle_search_result(builder, leg, reply, asked, before_sending=waiting)
            case _ if isinstance(call, Verify):
                _handle_payment_reply(builder, leg, reply)
            case _ if isinstance(call, Send) and leg.status is LegStatus.SENDING:
                _handle_send_reply(builder, leg, reply)
            case _:
                _handle_no_result(builder, leg, reply)
    return builder.build()


def _handle_payment_reply(builder: DecisionBuilder, leg: Leg, reply: Reply | SearchReply | PaymentReply) -> None:
    """The processor's word on the payment, before the first send over it; without one nothing is sent."""
    if isinstance(reply, PaymentRead | PaymentUnreadable):
        builder.words[leg.payment_id] = reply
    if isinstance(reply, Denied):
        builder.pauses.append(ProcessorDenied(leg.processor, reply.code, reply.message))
    if leg.status not in TO_BE_SENT or waits_for_person(leg):
        return
    match reply:
        case PaymentRead() | PaymentUnreadable():
            builder.update_leg(clear_unreachable(leg), next_at=builder.now)
        case Misconfigured(code=code, message=message):
            event = "payment_not_found" if code in _NOT_THERE else "payment_not_read"
            block_for_payment(builder, leg, code, message, event=event)
        case _:
            told = getattr(reply, "reason", None) or getattr(reply, "message", None) or getattr(reply, "code", None)
            waits = replace(leg, backoffs=leg.backoffs + (not isinstance(reply, NotSent) or reply.begun))
            pause = max(backoff_seconds(builder.policy, leg), getattr(reply, "retry_after_seconds", None) or 0)
            attention = _attention_without_answer(waits)
            builder.update_leg(waits, next_at=builder.now + pause, failure_message=told, attention=attention)


def _handle_send_reply(builder: DecisionBuilder, leg: Leg, reply: Reply | SearchReply | PaymentReply) -> None:
    """The answer to a send that describes no object."""
    if getattr(reply, "replayed", False) and key_outlives_what_may_land(leg, builder.policy):
        leg = replace(leg, doubtful=False)
    match reply:
        case Refused(code=code, message=message, more_than_left=more_than_left):
            _handle_refusal(builder, leg, "over_refund" if more_than_left else "refused", code, message)
        case Blocked(code=code, message=message):
            _handle_refusal(builder, leg, "blocked", code, message)
        case AlreadyRefunded(message=message):
            _handle_refusal(builder, leg, "already_refunded", "charge_already_refunded", message)
        case Misconfigured(code=code, message=message):
            _handle_refusal(builder, leg, "misconfigured", code, message)
        case UnknownRefusal(code=code, message=message):
            _handle_refusal(builder, leg, UNKNOWN_REFUSAL, UNKNOWN_REFUSAL, f"{code}: {message}")
        case KeyConflict(message=message):
            _handle_refusal(builder, leg, "key_conflict", "idempotency_key_conflict", message)
        case Unanswered(reason=reason, server_error=server_error):
            _retry_later(
                builder, leg, LegOutcome.NO_ANSWER, reason, doubtful=True, look_first=leg.look_first or server_error
            )
        case Busy(code=code, retry_after_seconds=seconds):
            _retry_unexecuted(builder, leg, code, seconds)
        case NotSent(reason=reason, begun=begun):
            _retry_unexecuted(builder, leg if begun else _as_before_its_send(leg), reason, None, counts=begun)
        case Denied():
            _wait_for_our_set_up(builder, replace(leg, held=True), reply)
        case _:
            raise AssertionError(f"not an answer to a send: {reply}")


def _wait_for_our_set_up(builder: DecisionBuilder, leg: Leg, denied: Denied) -> None:
    """Nothing was made, and nothing is refused: the leg goes on by itself once the set-up is mended."""
    builder.pauses.append(ProcessorDenied(leg.processor, denied.code, denied.message))
    seconds = min(PAUSE_SECONDS, builder.policy.retry_max_seconds)
    if denied.maybe_kept:
        # The old key may repeat this answer for ever. A new one only after a look at what exists, just before it.
        _retry_later(builder, leg, LegOutcome.NO_ANSWER, denied.code, seconds=seconds, look_first=True)
    else:
        _retry_unexecuted(builder, leg, denied.code, seconds)


def _handle_no_result(builder: DecisionBuilder, leg: Leg, reply: Reply | SearchReply | PaymentReply) -> None:
    """A look-up or a poll that told nothing about the leg: ask again later."""
    if isinstance(reply, Denied):
        builder.pauses.append(ProcessorDenied(leg.processor, reply.code, reply.message))
    if is_watched(leg):
        waits = replace(leg, backoffs=leg.backoffs + 1)
        builder.update_leg(waits, next_at=builder.now + backoff_seconds(builder.policy, waits))
        return
    if leg.status not in ACTIVE or leg.status is LegStatus.SENDING or waits_for_person(leg):
        return
    counts = not isinstance(reply, NotSent) or reply.begun
    waits = replace(leg, backoffs=leg.backoffs + counts)
    attention = _attention_without_answer(waits)
    if isinstance(reply, (Misconfigured, KeyConflict, Refused, Blocked, AlreadyRefunded)):
        attention = getattr(reply, "code", "unexpected_answer")
    elif isinstance(reply, UnknownRefusal):
        attention = UNKNOWN_REFUSAL
    builder.update_leg(waits, next_at=builder.now + backoff_seconds(builder.policy, waits), attention=attention)


def _attention_without_answer(leg: Leg) -> str | None:
    return leg.attention or (UNREACHABLE if leg.backoffs >= BACKOFFS_BEFORE_ATTENTION else None)


def _as_before_its_send(leg: Leg) -> Leg:
    """The send that was just written down was not begun: where it is the leg's first, the leg was never sent."""
    is_the_first = leg.attempt == 1 and leg.first_sent_at == leg.last_sent_at
    return replace(leg, first_sent_at=None, last_sent_at=None) if is_the_first and not leg.doubtful else leg


def _retry_unexecuted(
    builder: DecisionBuilder, leg: Leg, reason: str, seconds: float | None, *, counts: bool = True
) -> None:
    """This send was not executed; an earlier one of the same attempt may still have been."""
    outcome = LegOutcome.NO_ANSWER if leg.doubtful else LegOutcome.NOT_EXECUTED
    _retry_later(builder, leg, outcome, reason, seconds=seconds, counts=counts)


def _retry_later(
    builder: DecisionBuilder,
    leg: Leg,
    outcome: LegOutcome,
    reason: str,
    *,
    seconds: float | None = None,
    counts: bool = True,
    **changes: Any,
) -> None:
    """`counts`: it is one more sign that the processor can't be reached, and the waits grow."""
    pause = backoff_seconds(builder.policy, leg)
    waits = replace(leg, backoffs=leg.backoffs + counts)
    builder.transition_leg(
        waits,
        outcome,
        reason=reason,
        next_at=builder.now + max(pause, seconds or 0),
        failure_message=reason,
        attention=_attention_without_answer(waits),
        **changes,
    )


def _handle_refusal(builder: DecisionBuilder, leg: Leg, verdict: str, code: str, message: str) -> None:
    """A refusal. Of its own call alone: it says nothing about an earlier send whose answer is missing."""
    told: dict[str, Any] = {"failure_code": code, "failure_message": message}
    if leg.doubtful or verdict in LOOKUP_REQUIRED:
        told |= {"verdict": verdict}
        builder.transition_leg(leg, LegOutcome.NO_ANSWER, reason=code, look_first=True, next_at=builder.now, **told)
    else:
        _apply_refusal(builder, replace(leg, **told), verdict)


def _apply_refusal(builder: DecisionBuilder, leg: Leg, verdict: str) -> None:
    """What a refusal means once nothing else can exist."""
    calm: dict[str, Any] = {"doubtful": False, "look_first": False, "verdict": None}
    if verdict == "refused":
        builder.transition_leg(leg, LegOutcome.REFUSED, reason=leg.failure_code, attention=None, next_at=None, **calm)
        return
    again = verdict == "blocked" and leg.backoffs < BLOCKED_TRIES
    attention = leg.failure_code or verdict
    builder.transition_leg(
        leg,
        LegOutcome.BLOCKED,
        reason=leg.failure_code,
        alarm=leg.attention != attention,  # once, however often it is tried again
        detail={"said": leg.failure_message} if verdict == UNKNOWN_REFUSAL else None,
        attention=attention,
        next_at=builder.now + builder.policy.retry_max_seconds if again else None,
        backoffs=leg.backoffs + 1,
        **calm,
    )


def _handle_search_result(
    builder: DecisionBuilder, leg: Leg, found: Found, asked_at: float, *, before_sending: bool = False
) -> None:
    for refund_object in found.objects:
        leg = apply_object(builder, leg, refund_object)
    older = void_objects_of_older_attempts(leg)
    strange = any(item.processor_refund_id not in older for item in found.objects)
    elsewhere = blocking_refunds(leg, found, nothing_left=leg.verdict in LOOKUP_REQUIRED)
    if before_sending and leg.status in TO_BE_SENT and leg.next_at is not None:
        _go_on_to_send(builder, leg, asked_at, strange, elsewhere)
    elif leg.status is LegStatus.UNKNOWN and before_sending and not (strange or elsewhere or leg.look_first):
        _allow_sending(builder, clear_unreachable(leg), asked_at)  # only this list was missing: its key is sent again
    elif leg.status is LegStatus.UNKNOWN or is_watched(leg):
        if leg.doubtful and asked_at < quiet_end(leg, builder.policy):
            _await_what_may_land(builder, leg)
        elif is_watched(leg):
            builder.update_leg(leg, doubtful=False, next_at=None)
        else:
            _conclude_not_found(builder, leg, asked_at, strange, elsewhere)


def _go_on_to_send(
    builder: DecisionBuilder, leg: Leg, asked_at: float, strange: bool, elsewhere: tuple[RefundObject, ...]
) -> None:
    """Nothing was under way for this leg: the list alone decides whether it is sent."""
    if strange:  # as in `_conclude_not_found`
        _apply_refusal(builder, leg, ANSWER_MISMATCH)
    elif elsewhere:
        stop(builder, leg, elsewhere)
    else:
        _allow_sending(builder, clear_unreachable(leg), asked_at)


def _allow_sending(builder: DecisionBuilder, leg: Leg, asked_at: float) -> Leg:
    """It keeps its place among what is due: behind all others its list would be too old again when its turn comes."""
    return builder.update_leg(leg, looked_at=asked_at, next_at=min(builder.now, leg.next_at or builder.now))


def _await_what_may_land(builder: DecisionBuilder, leg: Leg) -> None:
    """Nothing shows yet of a send that is unanswered: often looked for at first, since most late effects land soon,
    and once more when the window has passed."""
    waits = replace(clear_unreachable(leg), backoffs=min(leg.backoffs + 1, BACKOFFS_WHILE_ANSWERED))
    soon = builder.now + backoff_seconds(builder.policy, waits)
    builder.update_leg(waits, next_at=min(soon, quiet_end(leg, builder.policy)))


def _conclude_not_found(
    builder: DecisionBuilder, leg: Leg, asked_at: float, strange: bool, elsewhere: tuple[RefundObject, ...]
) -> None:
    """It is proved that nothing of this leg exists and nothing can land any more."""
    if strange:
        # Something bears this leg's name and is not what was asked for: a person must look at both books.
        _apply_refusal(builder, leg, ANSWER_MISMATCH)
    elif elsewhere:
        stop(builder, leg, elsewhere)
    elif leg.verdict == "over_refund":
        _apply_refusal(builder, leg, "refused")
    elif leg.verdict:
        _apply_refusal(builder, leg, leg.verdict)
    elif leg.doubtful and not key_lives(leg, builder.now, builder.policy):
        blocked = replace(leg, failure_code="outcome_unknown", failure_message="nothing found after the key's life")
        _apply_refusal(builder, blocked, "outcome_unknown")
    elif leg.doubtful and not builder.policy.rules_of(leg.processor).list_proves_absence:
        unproved = "nothing found, but this processor's list proves no absence"
        _apply_refusal(
            builder, replace(leg, failure_code="outcome_unknown", failure_message=unproved), "outcome_unknown"
        )
    else:
        fresh = fresh_attempt(replace(leg, doubtful=False))
        absent = builder.transition_leg(fresh, LegOutcome.NOT_FOUND, reason="looked up: nothing exists", attention=None)
        _allow_sending(builder, absent, asked_at)
