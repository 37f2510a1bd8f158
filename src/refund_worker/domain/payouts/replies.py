"""Apply a processor's reply, or its absence, to a payout. All replies, webhook events and polls come through here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refund_worker.domain.account_names import platform_of
from refund_worker.domain.decision import ProcessorDenied
from refund_worker.domain.decision_builder import ANSWER_MISMATCH, BLOCKED_TRIES
from refund_worker.domain.handle_reply import PROCESSOR
from refund_worker.domain.legs import clear_unreachable, is_watched, waits_for_person
from refund_worker.domain.payouts.builder import NOT_UNDONE, PayoutBuilder
from refund_worker.domain.payouts.decision import (
    CancelTransfer,
    FindTransfer,
    PayoutDecision,
    PayoutPolicy,
    SendTransfer,
    TransferReplied,
)
from refund_worker.domain.payouts.objects import apply_transfer, is_void
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.domain.payouts.transfers import (
    NotListed,
    PayoutAnswer,
    Step,
    TransferAnswered,
    TransfersFound,
)
from refund_worker.domain.processor_replies import (
    KEY_CONFLICT,
    UNKNOWN_REFUSAL,
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.proof import Listing, Proof, proof_of, why_unproved
from refund_worker.domain.refund import Doubt, LegStatus, RefusalKind
from refund_worker.domain.retrying import (
    allow_sending,
    attention_without_answer,
    retry_later,
    retry_unexecuted,
    schedule_lookup,
    start_again,
    wait_for_access,
    was_asked,
)
from refund_worker.domain.state_machine import ACTIVE, FINAL_LEGS, LegOutcome
from refund_worker.domain.timing import backoff_seconds, key_outlives_what_may_land


def apply_transfer_replies(
    payout: Payout, replies: Iterable[TransferReplied], now: float, policy: PayoutPolicy
) -> PayoutDecision:
    """Apply a processor's replies about the legs of a payout, in order, as one decision. `now` is in epoch seconds."""
    builder = PayoutBuilder.open(payout, now, policy, PROCESSOR)
    for recorded in replies:
        call, reply = recorded.call, recorded.reply
        leg = builder.legs[recorded.leg_id]
        asked_at = now if recorded.asked_at is None else min(recorded.asked_at, now)
        if isinstance(reply, Denied):  # whatever was asked, the processor accepts no call of ours
            builder.pauses.append(ProcessorDenied(platform_of(leg.processor), reply.code, reply.message))
        match reply:
            case TransferAnswered(object=item):
                if isinstance(call, SendTransfer) and item.attempt is None:
                    item = replace(item, attempt=call.attempt)  # the key made it, whatever marks it shows
                apply_transfer(builder, leg, item)
            case TransfersFound():
                before_sending = isinstance(call, FindTransfer) and call.before_sending
                _handle_list(builder, leg, reply, asked_at, before_sending=before_sending)
            case _ if isinstance(call, SendTransfer):
                if leg.status is LegStatus.SENDING:  # else it is late, and the leg has its next step
                    _handle_send_reply(builder, leg, reply)
            case _ if isinstance(call, CancelTransfer):
                _handle_cancel_refusal(builder, leg, reply)
            case _:
                _handle_no_result(builder, leg, reply)
    return builder.build()


def _handle_send_reply(builder: PayoutBuilder, leg: PayoutLeg, reply: PayoutAnswer) -> None:
    """Apply an answer to a send that describes no object."""
    if getattr(reply, "replayed", False) and key_outlives_what_may_land(leg, builder.calls_policy):
        leg = replace(leg, in_doubt=leg.doubt_once_answered)
    match reply:
        case Refused(code=code, message=message):
            _handle_refusal(builder, leg, RefusalKind.REFUSED, code, message)
        case Blocked(code=code, message=message):
            _handle_refusal(builder, leg, RefusalKind.BLOCKED, code, message)
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
            retry_unexecuted(builder, leg if attempted else replace(leg, held=True), reason, None, counts=attempted)
        case Denied():
            wait_for_access(builder, replace(leg, held=True), reply)
        case _:
            raise AssertionError(f"not an answer to a send: {reply}")


def _handle_cancel_refusal(builder: PayoutBuilder, leg: PayoutLeg, reply: PayoutAnswer) -> None:
    """Read the object next: it shows whether it was called off. One that was refused is not called off again."""
    refused = isinstance(reply, (Refused, Misconfigured, UnknownRefusal, Blocked))
    if refused and leg.canceling:
        builder.record_event("cancel_refused", leg=leg, code=getattr(reply, "code", None))
    if leg.status is LegStatus.REQUIRES_ACTION:
        pause = 0.0 if refused else backoff_seconds(builder.calls_policy, leg)
        builder.update_leg(
            leg,
            canceling=leg.canceling and not refused,
            next_at=builder.now + pause,
            retry_count=leg.retry_count + (not refused),
        )


def _handle_no_result(builder: PayoutBuilder, leg: PayoutLeg, reply: PayoutAnswer) -> None:
    """Ask again later: the reply to a look-up or a poll says nothing about the leg."""
    waits = replace(leg, retry_count=leg.retry_count + was_asked(reply))
    pause = backoff_seconds(builder.calls_policy, waits)
    if leg.status in FINAL_LEGS:
        is_refused = isinstance(reply, (Misconfigured, UnknownRefusal, Refused, Blocked, KeyConflict))
        if is_refused and not is_watched(leg):  # no object of this id: the builder plans the next question
            builder.update_leg(leg, next_at=None)
        elif leg.next_at is not None:
            builder.update_leg(waits, next_at=builder.now + pause)
        return
    if leg.status not in ACTIVE or leg.status is LegStatus.SENDING or waits_for_person(leg):
        return
    attention_code = attention_without_answer(waits)
    if isinstance(reply, (Misconfigured, KeyConflict, Refused, Blocked)):
        attention_code = getattr(reply, "code", "unexpected_answer")
    elif isinstance(reply, (UnknownRefusal, NotListed)):
        attention_code = UNKNOWN_REFUSAL
    builder.update_leg(waits, next_at=builder.now + pause, attention_code=attention_code)


def _handle_refusal(builder: PayoutBuilder, leg: PayoutLeg, refusal: RefusalKind, code: str, message: str) -> None:
    """Handle a refusal of one call. It says nothing about an earlier call whose answer is missing."""
    leg = replace(leg, failure_code=code, failure_message=message)
    if leg.unanswered:
        in_doubt = Doubt.of(unanswered=True, lookup_required=True, refusal=refusal)
        # A call that was sent although a look-up is required was the look-up, and may be refused again for hours.
        is_repeat = leg.lookup_required
        next_at = builder.now + (backoff_seconds(builder.calls_policy, leg) if is_repeat else 0.0)
        waits = replace(leg, retry_count=leg.retry_count + is_repeat)
        builder.transition_leg(waits, LegOutcome.NO_ANSWER, reason=code, in_doubt=in_doubt, next_at=next_at)
    else:
        apply_refusal(builder, leg, refusal)


def apply_refusal(builder: PayoutBuilder, leg: PayoutLeg, refusal: RefusalKind) -> None:
    """Let the refusal take effect. A transfer that is not given back is a person's, and nothing else is sent."""
    if leg.step is Step.REVERSAL and refusal is RefusalKind.REFUSED:
        _block(builder, leg, NOT_UNDONE, again=False)
    elif refusal is RefusalKind.REFUSED:
        fault = builder.policy.route_of(leg.processor).refusal_faults.get(leg.failure_code or "")
        builder.note_fault(leg.failure_code, fault)
        builder.transition_leg(
            leg,
            LegOutcome.REFUSED,
            reason=leg.failure_code,
            attention_code=None,
            next_at=None,
            in_doubt=None,
            fault=fault,
        )
    else:
        again = refusal is RefusalKind.BLOCKED and leg.blocked_count < BLOCKED_TRIES
        _block(builder, leg, leg.failure_code or str(refusal), again=again)


def _block(builder: PayoutBuilder, leg: PayoutLeg, attention_code: str, *, again: bool) -> None:
    builder.transition_leg(
        leg,
        LegOutcome.BLOCKED,
        reason=leg.failure_code,
        alarm=leg.attention_code != attention_code,  # only once, however often it is retried
        attention_code=attention_code,
        next_at=builder.now + builder.calls_policy.retry_max_seconds if again else None,
        retry_count=0,
        blocked_count=leg.blocked_count + 1,
        in_doubt=None,
    )


def _handle_list(
    builder: PayoutBuilder, leg: PayoutLeg, found: TransfersFound, asked_at: float, *, before_sending: bool
) -> None:
    """Apply the leg's own objects, then decide by what the list proves."""
    for item in found.objects:
        leg = apply_transfer(builder, leg, item)
    void = [item for item in found.objects if is_void(leg, item)]
    listing: Listing[None] = Listing(asked_at, len(void) < len(found.objects), (), before_sending)
    match proof_of(leg, listing, builder.now, builder.calls_policy):
        case Proof.NOTHING:
            pass
        case Proof.SEND_ALLOWED if listing.is_clear:
            allow_sending(builder, clear_unreachable(leg), asked_at)
        case Proof.MAY_STILL_LAND:
            schedule_lookup(builder, leg)
        case Proof.WATCH_IS_OVER:
            builder.update_leg(leg, in_doubt=leg.doubt_once_answered, next_at=None)
        case Proof.NOTHING_CAN_LAND if listing.is_clear:
            conclude_nothing_there(builder, leg, asked_at)
        case _:  # an object carries the leg's id and is something else: a person compares the two
            if leg.failure_code != ANSWER_MISMATCH:  # the code is that of an earlier attempt
                message = "an object at the processor may be this payout's, and its attempt is not known"
                leg = replace(leg, failure_code=ANSWER_MISMATCH, failure_message=message)
            apply_refusal(builder, leg, RefusalKind.ANSWER_MISMATCH)


def conclude_nothing_there(builder: PayoutBuilder, leg: PayoutLeg, asked_at: float) -> None:
    """Let a deferred refusal take effect, or allow a new attempt: nothing was found, and nothing can land any more.

    Where that proves no absence, an unanswered call keeps its unknown outcome, whatever a later call was answered.
    """
    if unproved := why_unproved(leg, builder.now, builder.calls_policy, "payout"):
        unknown = replace(leg, failure_code=str(RefusalKind.OUTCOME_UNKNOWN), failure_message=unproved)
        apply_refusal(builder, unknown, RefusalKind.OUTCOME_UNKNOWN)
    elif leg.refusal:
        apply_refusal(builder, leg, leg.refusal)
    else:
        start_again(builder, leg, asked_at)
