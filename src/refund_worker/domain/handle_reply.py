"""Apply a processor's reply, or its absence, to a refund. All replies, webhook events and polls come through here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refund_worker.domain.account_names import platform_of
from refund_worker.domain.canceling import given_back, handle_cancel_reply
from refund_worker.domain.decision import AskedReading, Decision, Policy, ProcessorDenied
from refund_worker.domain.decision_builder import BLOCKED_TRIES, DecisionBuilder
from refund_worker.domain.legs import (
    clear_unreachable,
    is_watched,
    void_objects_of_older_attempts,
    waits_for_person,
)
from refund_worker.domain.outside_refunds import block_for_outside_refunds, blocking_refunds
from refund_worker.domain.payment_check import hold_for_payment
from refund_worker.domain.processor_calls import Cancel, LookUp, RecordedReply, Send, Verify
from refund_worker.domain.processor_replies import (
    KEY_CONFLICT,
    NOT_THERE,
    UNKNOWN_REFUSAL,
    AlreadyRefunded,
    Answer,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NoList,
    NotSent,
    PaymentRead,
    PaymentUnreadable,
    RefundObject,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.proof import Listing, Proof, proof_of, why_unproved
from refund_worker.domain.refund import (
    Doubt,
    Leg,
    LegStatus,
    Refund,
    RefusalKind,
)
from refund_worker.domain.refund_object import apply_object
from refund_worker.domain.retrying import (
    BACKOFFS_WHILE_ANSWERED,
    allow_sending,
    attention_without_answer,
    retry_later,
    retry_unexecuted,
    schedule_lookup,
    start_again,
    wait_for_access,
    was_asked,
)
from refund_worker.domain.state_machine import ACTIVE, TO_BE_SENT, LegOutcome
from refund_worker.domain.timing import (
    backoff_seconds,
    key_outlives_what_may_land,
    may_replay,
    quiet_end,
)

PROCESSOR = "processor"
# Others may have refunded the payment: the list shows it before the refusal takes effect.
REFUSALS_NEEDING_LIST = frozenset({RefusalKind.ALREADY_REFUNDED, RefusalKind.OVER_REFUND})


def apply_replies(
    refund: Refund,
    replies: Iterable[RecordedReply],
    now: float,
    policy: Policy,
) -> Decision:
    """Apply a processor's replies about the legs of `refund`, in order, as one decision. `now` is in epoch seconds."""
    builder = DecisionBuilder.open(refund, now, policy, PROCESSOR)
    for recorded in replies:
        call, reply = recorded.call, recorded.reply
        leg = builder.legs[recorded.leg_id]
        if isinstance(reply, Denied):  # whatever was asked, the processor accepts no call of ours
            builder.pauses.append(ProcessorDenied(platform_of(leg.processor), reply.code, reply.message))
        match reply:
            case Answered(object=refund_object):
                apply_object(builder, leg, refund_object)
            case Found():
                waiting = isinstance(call, LookUp) and call.before_sending
                _handle_search_result(builder, leg, reply, _asked_at(recorded, now), before_sending=waiting)
            case NoList() if isinstance(call, LookUp):
                _handle_no_list(builder, leg, call, reply, _asked_at(recorded, now))
            case _ if isinstance(call, Verify):
                _handle_payment_reply(builder, leg, reply, _asked_at(recorded, now))
            case _ if isinstance(call, Cancel):
                handle_cancel_reply(builder, leg, reply)
            case _ if isinstance(call, Send) and leg.status is LegStatus.SENDING:
                _handle_send_reply(builder, leg, reply)
            case _ if isinstance(call, Send):
                pass  # it is late: the leg is not sending any more, and has its next step
            case _:
                _handle_no_result(builder, leg, reply)
    return builder.build()


def _asked_at(recorded: RecordedReply, now: float) -> float:
    """Return when the question was asked: not later than now. If it seems so, the clock went back during the call."""
    return now if recorded.asked_at is None else min(recorded.asked_at, now)


def _handle_payment_reply(builder: DecisionBuilder, leg: Leg, reply: Answer, asked_at: float) -> None:
    """Apply the processor's record of the payment. The leg waits until it is read, or is known to be unreadable."""
    if isinstance(reply, PaymentRead | PaymentUnreadable):
        builder.readings[leg.payment_id] = AskedReading(reply, asked_at)
    if leg.status not in TO_BE_SENT or waits_for_person(leg):
        return
    match reply:
        case PaymentRead() | PaymentUnreadable():
            builder.update_leg(clear_unreachable(leg), next_at=builder.now)
        case Misconfigured(code=code, message=message):
            event = "payment_not_found" if code in NOT_THERE else "payment_not_read"
            hold_for_payment(builder, leg, code, message, event=event)
        case _:
            problem = getattr(reply, "reason", None) or getattr(reply, "message", None) or getattr(reply, "code", None)
            waits = replace(leg, retry_count=leg.retry_count + was_asked(reply))
            pause = max(backoff_seconds(builder.policy, leg), getattr(reply, "retry_after_seconds", None) or 0)
            attention_code = attention_without_answer(waits)
            builder.update_leg(
                waits, next_at=builder.now + pause, failure_message=problem, attention_code=attention_code
            )


def _handle_send_reply(builder: DecisionBuilder, leg: Leg, reply: Answer) -> None:
    """Apply an answer to a send that describes no object."""
    if getattr(reply, "replayed", False) and key_outlives_what_may_land(leg, builder.policy):
        leg = replace(leg, in_doubt=leg.doubt_once_answered)
    match reply:
        case Refused(code=code, message=message, more_than_left=more_than_left):
            _handle_refusal(
                builder, leg, RefusalKind.OVER_REFUND if more_than_left else RefusalKind.REFUSED, code, message
            )
        case Blocked(code=code, message=message):
            _handle_refusal(builder, leg, RefusalKind.BLOCKED, code, message)
        case AlreadyRefunded(message=message):
            _handle_refusal(builder, leg, RefusalKind.ALREADY_REFUNDED, "charge_already_refunded", message)
        case Misconfigured(code=code, message=message):
            _handle_refusal(builder, leg, RefusalKind.MISCONFIGURED, code, message)
        case UnknownRefusal(code=code, message=message):
            _handle_refusal(builder, leg, RefusalKind.UNKNOWN, UNKNOWN_REFUSAL, f"{code}: {message}")
        case KeyConflict(message=message):
            _handle_refusal(builder, leg, RefusalKind.KEY_CONFLICT, KEY_CONFLICT, message)
        case Unanswered(reason=reason, server_error=server_error):
            required = leg.lookup_required or server_error
            in_doubt = Doubt.of(unanswered=True, lookup_required=required, refusal=leg.refusal)
            retry_later(builder, replace(leg, in_doubt=in_doubt), LegOutcome.NO_ANSWER, reason)
        case Busy(code=code, retry_after_seconds=seconds):
            retry_unexecuted(builder, leg, code, seconds)
        case NotSent(reason=reason, attempted=attempted):
            retry_unexecuted(builder, leg if attempted else _without_untried_send(leg), reason, None, counts=attempted)
        case Denied():
            wait_for_access(builder, replace(leg, held=True), reply)
        case _:
            raise AssertionError(f"not an answer to a send: {reply}")


def _handle_no_result(builder: DecisionBuilder, leg: Leg, reply: Answer) -> None:
    """Ask again later: the reply to a look-up or a poll says nothing about the leg."""
    if is_watched(leg):
        waits = replace(leg, retry_count=leg.retry_count + 1)
        builder.update_leg(waits, next_at=builder.now + backoff_seconds(builder.policy, waits))
        return
    if leg.status not in ACTIVE or leg.status is LegStatus.SENDING or waits_for_person(leg):
        return
    waits = replace(leg, retry_count=leg.retry_count + was_asked(reply))
    attention_code = attention_without_answer(waits)
    if isinstance(reply, (Misconfigured, KeyConflict, Refused, Blocked, AlreadyRefunded)):
        attention_code = getattr(reply, "code", "unexpected_answer")
    elif isinstance(reply, UnknownRefusal):
        attention_code = UNKNOWN_REFUSAL
    builder.update_leg(
        waits, next_at=builder.now + backoff_seconds(builder.policy, waits), attention_code=attention_code
    )


def _without_untried_send(leg: Leg) -> Leg:
    """Undo a send that was recorded and not attempted. A first send never happened.

    A later one leaves the time of its intent, so the list is read before the next: others may have paid meanwhile.
    """
    is_the_first = leg.attempt == 1 and leg.first_sent_at == leg.last_sent_at
    if is_the_first and not leg.unanswered:
        return replace(leg, first_sent_at=None, last_sent_at=None)
    return replace(leg, held=True)


def _handle_refusal(builder: DecisionBuilder, leg: Leg, refusal: RefusalKind, code: str, message: str) -> None:
    """Handle a refusal of one call. It says nothing about an earlier call whose answer is missing."""
    leg = replace(leg, failure_code=code, failure_message=message)
    if leg.unanswered or refusal in REFUSALS_NEEDING_LIST:
        in_doubt = Doubt.of(unanswered=leg.unanswered, lookup_required=True, refusal=refusal)
        builder.transition_leg(leg, LegOutcome.NO_ANSWER, reason=code, in_doubt=in_doubt, next_at=builder.now)
    else:
        _apply_refusal(builder, leg, refusal)


def _apply_refusal(builder: DecisionBuilder, leg: Leg, refusal: RefusalKind) -> None:
    """Let the refusal take effect. After `ANSWER_MISMATCH` or `OUTCOME_UNKNOWN` an object may still exist."""
    if refusal is RefusalKind.REFUSED:
        ended = builder.transition_leg(
            leg, LegOutcome.REFUSED, reason=leg.failure_code, attention_code=None, next_at=None, in_doubt=None
        )
        if leg.canceling is not None:  # it was an attempt after the one whose object a person canceled
            builder.update_leg(ended, **given_back(builder, ended))
        return
    again = refusal is RefusalKind.BLOCKED and leg.blocked_count < BLOCKED_TRIES
    attention_code = leg.failure_code or str(refusal)
    builder.transition_leg(
        leg,
        LegOutcome.BLOCKED,
        reason=leg.failure_code,
        alarm=leg.attention_code != attention_code,  # only once, however often it is retried
        detail={"said": leg.failure_message} if refusal is RefusalKind.UNKNOWN else None,
        attention_code=attention_code,
        next_at=builder.now + builder.policy.retry_max_seconds if again else None,
        retry_count=0,
        blocked_count=leg.blocked_count + 1,
        in_doubt=None,
    )


def _handle_search_result(
    builder: DecisionBuilder, leg: Leg, found: Found, asked_at: float, *, before_sending: bool = False
) -> None:
    """Apply the leg's own objects, then decide by what the rest of the list proves."""
    for refund_object in found.objects:
        leg = apply_object(builder, leg, refund_object)
    older = void_objects_of_older_attempts(leg)
    listing = Listing(
        asked_at=asked_at,
        mismatched=any(item.processor_refund_id not in older for item in found.objects),
        outside=blocking_refunds(leg, found, nothing_left=leg.refusal in REFUSALS_NEEDING_LIST),
        before_sending=before_sending,
    )
    match proof_of(leg, listing, builder.now, builder.policy):
        case Proof.NOTHING:
            pass
        case Proof.SEND_ALLOWED:
            if not _is_stopped(builder, leg, listing):
                allow_sending(builder, clear_unreachable(leg), asked_at)
        case Proof.MAY_STILL_LAND:
            schedule_lookup(builder, leg)
        case Proof.WATCH_IS_OVER:
            builder.update_leg(leg, in_doubt=leg.doubt_once_answered, next_at=None)
        case Proof.NOTHING_CAN_LAND:
            if not _is_stopped(builder, leg, listing):
                conclude_not_found(builder, leg, asked_at)


def _handle_no_list(builder: DecisionBuilder, leg: Leg, call: LookUp, reply: NoList, asked_at: float) -> None:
    """Decide about a leg whose payment has no list of refunds.

    Without a list nothing proves that an unanswered call created nothing: only its own key is sent again, and then a
    person decides. A leg of which nothing can be at the processor is sent if the payment is untouched.
    """
    is_due = leg.next_at is not None and leg.next_at <= builder.now
    is_sent_next = call.before_sending and leg.status in TO_BE_SENT and is_due
    if not is_sent_next and leg.status is not LegStatus.UNKNOWN and not is_watched(leg):
        return
    may_repeat = not leg.lookup_required and may_replay(leg, builder.now, builder.policy)
    may_land = asked_at < quiet_end(leg, builder.policy)
    if leg.unanswered and may_repeat and call.before_sending:
        allow_sending(builder, clear_unreachable(leg), asked_at)
    elif leg.unanswered and may_land:
        schedule_lookup(builder, leg)
    elif is_watched(leg):
        builder.update_leg(leg, in_doubt=leg.doubt_once_answered, next_at=None)
    elif leg.unanswered and may_repeat:  # a pause, or the payment, forbids the repeat now
        waits = replace(clear_unreachable(leg), retry_count=min(leg.retry_count + 1, BACKOFFS_WHILE_ANSWERED))
        builder.update_leg(waits, next_at=builder.now + backoff_seconds(builder.policy, waits))
    elif leg.unanswered or leg.failure_code == RefusalKind.OUTCOME_UNKNOWN:
        unknown = replace(leg, failure_code=str(RefusalKind.OUTCOME_UNKNOWN), failure_message=reply.message)
        _apply_refusal(builder, unknown, RefusalKind.OUTCOME_UNKNOWN)
    elif leg.refusal:  # also one that the list was to explain: who took the money is not known
        _apply_refusal(builder, leg, leg.refusal)
    elif not reply.untouched:
        unlisted = replace(leg, failure_code=reply.code, failure_message=reply.message)
        _apply_refusal(builder, unlisted, RefusalKind.MISCONFIGURED)
    elif is_sent_next:
        allow_sending(builder, clear_unreachable(leg), asked_at)
    else:
        conclude_not_found(builder, replace(leg, in_doubt=None), asked_at)


def _is_stopped(builder: DecisionBuilder, leg: Leg, listing: Listing[RefundObject]) -> bool:
    """Block the leg if the list shows something that a person must see first. Return True if it is blocked."""
    if listing.mismatched:  # an object carries the leg's id and is something else: a person compares the two
        _apply_refusal(builder, leg, RefusalKind.ANSWER_MISMATCH)
    elif listing.outside:
        # Where the list proves no absence, our own send may have paid too: a retry asks about that next.
        unknown = why_unproved(leg, builder.now, builder.policy) is not None
        block_for_outside_refunds(builder, leg, listing.outside, unanswered=unknown)
    return not listing.is_clear


def conclude_not_found(builder: DecisionBuilder, leg: Leg, asked_at: float) -> None:
    """Let a deferred refusal take effect, or allow a new attempt: the list is empty, and nothing can land any more.

    Where the list proves no absence, an unanswered call keeps its unknown outcome, whatever a later call was answered.
    """
    if unproved := why_unproved(leg, builder.now, builder.policy):
        blocked = replace(leg, failure_code="outcome_unknown", failure_message=unproved)
        _apply_refusal(builder, blocked, RefusalKind.OUTCOME_UNKNOWN)
    elif leg.refusal is RefusalKind.OVER_REFUND and builder.policy.rules_of(leg.processor).finds_refunds:
        # The payment has less left than our records say, and no object of this leg took it: it cannot be used.
        _apply_refusal(builder, leg, RefusalKind.REFUSED)
    elif leg.refusal:
        _apply_refusal(builder, leg, leg.refusal)
    else:
        start_again(builder, leg, asked_at)
