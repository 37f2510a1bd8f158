"""Decide the next step of a due refund: post entries, return credits, find another payment, or make calls."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.credit_postings import post_internal_step
from refund_worker.domain.decision import SYSTEM, AccountDelta, Decision, Policy, SendBlock
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.fallback import NO_PAYEES, replace_failed_legs
from refund_worker.domain.ledger import (
    CLEARING,
    CREDITS,
    EntryKind,
    customer_account,
    transfer,
)
from refund_worker.domain.legs import (
    credits_to_reverse,
    fresh_attempt,
    is_ready,
    is_watched,
    lists_before_sending,
)
from refund_worker.domain.outside_refunds import must_list_first
from refund_worker.domain.payment_check import (
    PaymentFacts,
    checked,
    is_forbidden,
    is_outside,
    is_unread,
    payment_blocks_sending,
    waits_for_reading,
    with_sent,
)
from refund_worker.domain.processor_calls import Cancel, Fetch, LookUp, RefundInstruction, Send
from refund_worker.domain.refund import (
    Canceling,
    Doubt,
    Leg,
    LegStatus,
    Refund,
    RefundStatus,
    To,
)
from refund_worker.domain.replacements import is_no_longer_needed, release_unneeded
from refund_worker.domain.state_machine import ACTIVE, POLLED, LegOutcome
from refund_worker.domain.timing import may_replay, report_due_at
from refund_worker.domain.unlisted import wait_without_list

REPORT_OVERDUE = "report_overdue"
NO_REPORT = "the processor accepted this refund, and no event told its outcome: look there, and check its webhooks"
NOTHING_PAUSED: Mapping[str, SendBlock] = MappingProxyType({})
NOTHING_KNOWN: Mapping[str, PaymentFacts] = MappingProxyType({})


def attempt_key(leg_id: str, attempt: int) -> str:
    """Return the idempotency key of an attempt. It depends on the leg and the attempt alone."""
    return f"{leg_id}:{attempt}"


def order_of(refund: Refund, leg: Leg) -> RefundInstruction:
    """Return the instruction to the processor for the leg's current attempt."""
    return RefundInstruction(
        refund_id=refund.refund_id,
        leg_id=leg.leg_id,
        attempt=leg.attempt,
        processor_payment_id=leg.processor_payment_id,
        amount_minor=leg.amount_minor,
        currency=leg.currency,
        reason=refund.reason,
        instructions_email=refund.instructions_email,
    )


def next_step(
    refund: Refund,
    now: float,
    policy: Policy,
    *,
    paused: Mapping[str, SendBlock] = NOTHING_PAUSED,
    payments: Iterable[RefundablePayment] = (),
    suspect: Collection[str] = (),
    facts: Mapping[str, PaymentFacts] = NOTHING_KNOWN,
    payees: Mapping[str, str] = NO_PAYEES,
) -> Decision:
    """Decide what a refund does that was claimed because something is due. `now` is in epoch seconds.

    `paused` are the blocks on sends by processor. `payments` are the customer's payments, read under the lock; they are
    needed only if `unplaced_legs(refund)` is not empty. `suspect` are the payments that others are known to have
    refunded. `facts` are the known facts of the payments by payment_id; a payment without any is not checked. `payees`
    are those of the customer that can be paid, by currency.
    """
    builder = DecisionBuilder.open(refund, now, policy, SYSTEM)
    if refund.status is RefundStatus.QUEUED:
        _post_or_wait(builder, paused)
    if refund.status is RefundStatus.REVERSING:
        return_credits(builder)
    for leg in tuple(builder.legs.values()):
        if leg.status is LegStatus.SENDING and (leg.next_at or 0) <= now:
            # The worker that sent it died or lost its lease. Only the processor knows the outcome of the call.
            builder.transition_leg(
                leg, LegOutcome.NO_ANSWER, reason="lease expired", in_doubt=_unanswered(leg), next_at=now
            )
    replace_failed_legs(builder, payments, payees)
    if builder.refund.ledger_posted:
        for leg in tuple(builder.legs.values()):
            if _is_due(leg, now) and not release_unneeded(builder, leg):
                known = facts.get(leg.payment_id)
                doubted = leg.payment_id in suspect or is_outside(known) or is_unread(known)
                _plan_call(builder, leg, paused, known, suspect=doubted)
                facts = with_sent(facts, (leg,), (builder.legs[leg.leg_id],))
    return builder.build()


def _unanswered(leg: Leg) -> Doubt | None:
    return Doubt.of(unanswered=True, lookup_required=leg.lookup_required, refusal=leg.refusal)


def _is_due(leg: Leg, now: float) -> bool:
    """Return True if the leg is due: planned and waiting for nothing, or waiting for a time that has come."""
    if leg.next_at is None:
        return is_ready(leg)
    return (leg.status in ACTIVE or is_watched(leg)) and leg.next_at <= now


def _post_or_wait(builder: DecisionBuilder, paused: Mapping[str, SendBlock]) -> None:
    """Post the internal step. While a processor is paused nothing is posted, so that the refund can be canceled."""
    refund = builder.refund
    holds = [paused[leg.processor].until for leg in refund.legs if leg.processor in paused]
    if refund.to is To.SOURCE and holds:
        builder.refund = replace(refund, due_at=max(holds))
    else:
        post_internal_step(builder)


def return_credits(builder: DecisionBuilder) -> None:
    """Post the reversal of the withdrawal entry, once for all credits that could not be paid out."""
    refund, credits = builder.refund, credits_to_reverse(builder.refund)
    if credits <= 0:
        return
    builder.account += AccountDelta(balance=credits, withdrawn=-credits)
    taken_by = refund.transaction_id if refund.of_correction else f"{refund.refund_id}-withdrawal"
    builder.post_entry(
        f"reversal-{refund.reversal_count + 1}",
        EntryKind.REVERSAL,
        credits,
        transfer(CLEARING, customer_account(refund.customer_id), CREDITS, credits),
        f"Reversal of {taken_by}: {credits} credits given back, the money did not arrive",
        taken_by,
    )
    builder.refund = replace(
        refund, reversal_count=refund.reversal_count + 1, reversed_credits=refund.reversed_credits + credits
    )


def place_or_return(builder: DecisionBuilder, payments: Iterable[RefundablePayment], *, but: str) -> None:
    """Find other payments for the legs that failed for good, but not `but`, and return at once what none can take.

    The credits of a refund that is not posted yet are still reserved: nothing is returned for it.
    """
    replace_failed_legs(builder, [payment for payment in payments if payment.payment_id != but])
    builder.refund = replace(builder.refund, legs=tuple(builder.legs.values()))
    if builder.refund.ledger_posted:
        return_credits(builder)


def _plan_call(
    builder: DecisionBuilder, leg: Leg, paused: Mapping[str, SendBlock], facts: PaymentFacts | None, *, suspect: bool
) -> None:
    """Decide the next call about this leg: poll or cancel its object, look it up, wait, read its payment, or send."""
    if leg.status in POLLED:
        _plan_poll(builder, leg)
        return
    rules, block = builder.policy.rules_of(leg.processor), paused.get(leg.processor)
    if block is not None:
        # Meanwhile a person may pay manually: a list from before the end of the block allows nothing.
        leg = builder.update_leg(leg, held=lists_before_sending(leg), listed_at=None)
    if is_watched(leg) or (leg.status is LegStatus.UNKNOWN and not _may_repeat(builder, leg, block, facts)):
        if not rules.finds_refunds:
            wait_without_list(builder, leg, block)
            return
        builder.calls.append(LookUp(leg.leg_id, leg.processor, leg.processor_payment_id))
    elif block is not None:
        builder.update_leg(leg, next_at=block.until)
    elif leg.status is not LegStatus.UNKNOWN and is_forbidden(builder, leg, facts):
        pass  # decided before anything is sent
    elif leg.status is not LegStatus.UNKNOWN and leg.processor != PAYOUT and waits_for_reading(builder, leg, facts):
        pass  # the payment must be read first
    elif must_list_first(leg, builder.now, builder.policy, suspect=suspect):
        builder.update_leg(leg, next_at=_place_in_queue(builder) if leg.next_at is None else leg.next_at)
        builder.calls.append(LookUp(leg.leg_id, leg.processor, leg.processor_payment_id, before_sending=True))
    elif leg.status is LegStatus.UNKNOWN:
        _send(builder, leg)
    elif (allowed := checked(builder, leg, facts)) is not None:
        _send(builder, fresh_attempt(allowed) if allowed.status is LegStatus.BLOCKED else allowed)


def _plan_poll(builder: DecisionBuilder, leg: Leg) -> None:
    """Poll or cancel the leg's object. If the processor cannot be asked, only a signed event tells what becomes of it.

    An event that does not come in time is shown to a person, once. The leg still ends by the event.
    """
    assert leg.processor_refund_id is not None
    if leg.canceling is Canceling.REQUESTED:
        # Committed before the call: if its answer is lost, the object is read before anything else.
        builder.update_leg(leg, canceling=Canceling.CALLED)
        builder.calls.append(Cancel(leg.leg_id, leg.processor, leg.processor_refund_id))
    elif builder.policy.rules_of(leg.processor).reads_refunds:
        builder.calls.append(Fetch(leg.leg_id, leg.processor, leg.processor_refund_id))
    elif (due := report_due_at(leg, builder.policy, builder.refund.created_at)) > builder.now:
        builder.update_leg(leg, next_at=due)
    else:
        if leg.attention_code is None:
            builder.record_event(REPORT_OVERDUE, alarm=True, leg=leg, processor_refund_id=leg.processor_refund_id)
        attention_code = leg.attention_code or REPORT_OVERDUE
        builder.update_leg(leg, next_at=None, attention_code=attention_code, failure_message=NO_REPORT)


def _place_in_queue(builder: DecisionBuilder) -> float:
    """Return when the refund was due: behind all refunds that wait as well, its list would be too old again."""
    return min(builder.now, builder.before.due_at or builder.now)


def _may_repeat(builder: DecisionBuilder, leg: Leg, block: SendBlock | None, facts: PaymentFacts | None) -> bool:
    """Return True if the same call may be sent again, instead of a look-up, once nothing blocks sending."""
    if leg.lookup_required or not may_replay(leg, builder.now, builder.policy):
        return False
    if is_no_longer_needed(leg, builder.legs):
        return False
    if block is not None and block.lookups_allowed:
        return False
    return not payment_blocks_sending(leg, facts, builder.policy.rules_of(leg.processor).live)


def _send(builder: DecisionBuilder, leg: Leg) -> None:
    """Record the intent to send the leg, and plan the call."""
    assert not builder.refund.unapproved, "nothing is sent that a second person must approve"
    first = leg.sends == 0
    leg = builder.transition_leg(
        leg,
        LegOutcome.SENT,
        detail={"attempt": leg.attempt, "send": leg.sends + 1},
        sends=leg.sends + 1,
        first_intent_at=builder.now if leg.first_intent_at is None else leg.first_intent_at,
        first_sent_at=builder.now if first or leg.first_sent_at is None else leg.first_sent_at,
        last_sent_at=builder.now,
        next_at=builder.now + builder.policy.lease_seconds,  # this call's answer is not accepted later
        in_doubt=Doubt.of(unanswered=leg.unanswered, lookup_required=leg.lookup_required),
        held=False,
        listed_at=None,
        blocked_by=(),
    )
    key = attempt_key(leg.leg_id, leg.attempt)
    builder.calls.append(Send(leg.leg_id, leg.processor, leg.attempt, key, order_of(builder.refund, leg)))
