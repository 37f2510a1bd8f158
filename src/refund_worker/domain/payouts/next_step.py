"""Decide the next step of a due payout: hold it, post its entries, or make calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from refund_worker.domain.decision import SYSTEM, SendBlock
from refund_worker.domain.legs import fresh_attempt, is_watched
from refund_worker.domain.money import down_to_step
from refund_worker.domain.next_step import attempt_key
from refund_worker.domain.outside_refunds import LIST_LEASES
from refund_worker.domain.payouts.builder import PayoutBuilder
from refund_worker.domain.payouts.decision import (
    CancelTransfer,
    FetchTransfer,
    FindTransfer,
    PayoutDecision,
    PayoutPolicy,
    SendTransfer,
)
from refund_worker.domain.payouts.holds import PayeeFacts, hold_of
from refund_worker.domain.payouts.machine import PayoutOutcome, is_payout_leg_ready, is_unsent
from refund_worker.domain.payouts.payee import Payee
from refund_worker.domain.payouts.payout import PAYOUT_UNPOSTED, Payout, PayoutLeg, PayoutSource, PayoutStatus
from refund_worker.domain.payouts.replies import conclude_nothing_there
from refund_worker.domain.refund import LIVE_OBJECT_STATES, Doubt, LegStatus
from refund_worker.domain.state_machine import FINAL_LEGS, POLLED, LegOutcome
from refund_worker.domain.timing import backoff_seconds, may_replay, quiet_end

DESTINATION_CHANGED = "destination_changed"
# The spends that the earnings came from were refunded before anything was sent.
CLAWED_BACK = "earnings_clawed_back"
PAID_BY_A_PERSON = "manual_payout"
# A payout that waits for a file is due only to be seen again.
FILE_CHECK_SECONDS = 86_400.0
NOTHING_PAUSED: Mapping[str, SendBlock] = MappingProxyType({})


def next_payout_step(
    payout: Payout,
    now: float,
    policy: PayoutPolicy,
    *,
    facts: PayeeFacts | None = None,
    paused: Mapping[str, SendBlock] = NOTHING_PAUSED,
) -> PayoutDecision:
    """Decide what a payout does that was claimed because something is due. `now` is in epoch seconds.

    `facts` are the payee's, read under the lock; a payout that is not posted yet needs them. `paused` are the blocks on
    sends by processor.
    """
    builder = PayoutBuilder.open(payout, now, policy, SYSTEM)
    if payout.status in (PayoutStatus.QUEUED, PayoutStatus.HELD):
        assert facts is not None, "a payout is begun only under its payee's lock"
        _begin(builder, facts, paused)
    elif facts is not None and goes_to_an_old_destination(payout, facts.payee, policy):
        call_off_unsent(builder, DESTINATION_CHANGED, code=DESTINATION_CHANGED)
        return builder.build()
    for leg in tuple(builder.legs.values()):
        if leg.status is LegStatus.SENDING and (leg.next_at or 0) <= now:
            # The worker that sent it died or lost its lease. Only the processor knows the outcome of the call.
            in_doubt = Doubt.of(unanswered=True, lookup_required=leg.lookup_required, refusal=leg.refusal)
            builder.transition_leg(leg, LegOutcome.NO_ANSWER, reason="lease expired", in_doubt=in_doubt, next_at=now)
    if builder.payout.ledger_posted:
        for leg in tuple(builder.legs.values()):
            if _is_due(builder, leg):
                _plan_call(builder, leg, paused)
    return builder.build()


def _begin(builder: PayoutBuilder, facts: PayeeFacts, paused: Mapping[str, SendBlock]) -> None:
    """Post the internal step, or hold the payout. While its processor is paused it stays queued, to be canceled."""
    payout = builder.payout
    if payout.destination_id != facts.payee.destination_id:
        cancel_unsent(builder, DESTINATION_CHANGED, code=DESTINATION_CHANGED)
        return
    if payout.source is PayoutSource.EARNINGS and facts.debt_minor > 0:
        _reduce_by(builder, facts.debt_minor)
        if builder.payout.status is PayoutStatus.CANCELED:
            return
    hold = hold_of(payout, facts, builder.now, builder.policy)
    if hold is not None:
        builder.transition_payout(PayoutOutcome.HELD, reason=hold.code)
        builder.payout = replace(builder.payout, hold_code=hold.code, hold_until=hold.until)
        return
    if payout.status is PayoutStatus.HELD:
        builder.transition_payout(PayoutOutcome.RELEASED)
        builder.payout = replace(builder.payout, hold_code=None, hold_until=None)
    if (block := paused.get(payout.processor)) is not None:
        builder.payout = replace(builder.payout, hold_until=block.until)
        return
    builder.post_entries()


def _reduce_by(builder: PayoutBuilder, debt_minor: int) -> None:
    """Take from the payout what its payee owes: it was earned by spends that were refunded since it was accepted.

    The payout is canceled if less is left than the route pays.
    """
    payout, policy = builder.payout, builder.policy
    step = policy.step_for(payout.processor, payout.currency)
    left = down_to_step(payout.amount_minor - debt_minor, step)
    if left < policy.minimum_for(payout.processor, payout.currency):
        cancel_unsent(builder, CLAWED_BACK, code=CLAWED_BACK)
    else:
        builder.reduce_to(left, CLAWED_BACK)


def cancel_unsent(
    builder: PayoutBuilder,
    reason: str,
    outcome: PayoutOutcome = PayoutOutcome.CANCELED,
    *,
    code: str | None = None,
) -> None:
    """End a payout before its entries: nothing was sent, and its amount is free again.

    `code` is the failure code that explains it, if no person canceled it.
    """
    assert builder.payout.status in PAYOUT_UNPOSTED
    for leg in tuple(builder.legs.values()):
        builder.transition_leg(leg, LegOutcome.RELEASED, next_at=None)
    builder.transition_payout(outcome, reason=reason)
    builder.payout = replace(builder.payout, hold_code=None, hold_until=None, failure_code=code)


def goes_to_an_old_destination(payout: Payout, payee: Payee, policy: PayoutPolicy) -> bool:
    """Return True if the payee has another destination by now, and the payout is unsent: it is called off.

    The change itself leaves a step that waited for a person alone. That step is unsent once the person retries it. A
    route on which a person pays is left out: only the person knows if the money is under way.
    """
    route = policy.route_of(payout.processor)
    is_sent_by_program = route.moves_money or route.by_file
    return payout.destination_id != payee.destination_id and is_sent_by_program and is_unsent(payout)


def call_off_unsent(builder: PayoutBuilder, reason: str, *, code: str | None) -> None:
    """Cancel a payout for which `is_unsent` is True: its amount goes back to the balance.

    `code` is the failure code that explains it, if no person canceled it.
    """
    assert is_unsent(builder.payout)
    builder.payout = replace(builder.payout, failure_code=code)
    for leg in tuple(builder.legs.values()):
        builder.transition_leg(
            leg,
            LegOutcome.DISPLACED,
            reason=reason,
            canceling=True,
            attention_code=None,
            failure_code=None,
            failure_message=None,
            fault=None,
            in_doubt=None,
            next_at=None,
        )


def _is_due(builder: PayoutBuilder, leg: PayoutLeg) -> bool:
    """Return True if the leg is due: ready and waiting for nothing, or waiting for a time that has come."""
    if leg.next_at is None:
        is_ready = leg.status is LegStatus.PLANNED and leg.attention_code is None
        return is_ready and is_payout_leg_ready(replace(builder.payout, legs=tuple(builder.legs.values())), leg)
    return leg.next_at <= builder.now


def _plan_call(builder: PayoutBuilder, leg: PayoutLeg, paused: Mapping[str, SendBlock]) -> None:
    """Decide the next call about this leg: ask about its object, call it off, look it up, wait, or send."""
    policy, now = builder.calls_policy, builder.now
    block, finds = paused.get(leg.processor), policy.rules_of(leg.processor).finds_refunds
    if leg.status in FINAL_LEGS and not is_watched(leg):
        _plan_reread(builder, leg, block)
        return
    if leg.status in POLLED:
        _plan_fetch(builder, leg)
        return
    if block is not None:
        leg = builder.update_leg(leg, held=leg.held or leg.last_sent_at is not None, listed_at=None)
    if is_watched(leg) or (leg.status is LegStatus.UNKNOWN and not _may_repeat(builder, leg, block)):
        if finds:
            builder.calls.append(FindTransfer(leg.leg_id, leg.processor))
        else:
            _wait_without_list(builder, leg, block)
    elif block is not None:
        builder.update_leg(leg, next_at=block.until)
    elif finds and _must_list_first(builder, leg):
        builder.update_leg(leg, next_at=now if leg.next_at is None else leg.next_at)
        builder.calls.append(FindTransfer(leg.leg_id, leg.processor, before_sending=True))
    elif leg.status is LegStatus.BLOCKED:
        _send(builder, fresh_attempt(leg))
    else:
        _send(builder, leg)


def _plan_reread(builder: PayoutBuilder, leg: PayoutLeg, block: SendBlock | None) -> None:
    """Ask about each object of an ended leg that may pay, else about the last. It can wait for an open circuit.

    Without an object, the payment that a person named may be the one that our call made.
    """
    live = [known.object_id for known in leg.objects if known.state in LIVE_OBJECT_STATES]
    ids = [*live, *leg.unknown_objects] or [known.object_id for known in leg.objects[-1:]]
    if not ids and leg.manual_reference is not None and leg.last_sent_at is not None:
        ids = [leg.manual_reference]
    if not ids or not builder.calls_policy.rules_of(leg.processor).reads_refunds:
        builder.update_leg(leg, next_at=None)  # nothing of it is at the processor
        return
    if block is not None and block.refuses_calls:
        builder.update_leg(leg, next_at=block.until)
        return
    builder.calls += (FetchTransfer(leg.leg_id, leg.processor, object_id, rereads=True) for object_id in ids)


def _plan_fetch(builder: PayoutBuilder, leg: PayoutLeg) -> None:
    object_id = leg.object_id
    if object_id is None:
        builder.update_leg(leg, next_at=None)  # nothing of it is at the processor
        return
    if leg.canceling and leg.status is LegStatus.REQUIRES_ACTION:
        # Once only: if its answer is lost, the object is read next, and shows whether it was called off.
        builder.update_leg(leg, next_at=builder.now + builder.calls_policy.lease_seconds)
        builder.calls.append(CancelTransfer(leg.leg_id, leg.processor, object_id))
        return
    builder.calls.append(FetchTransfer(leg.leg_id, leg.processor, object_id))


def _may_repeat(builder: PayoutBuilder, leg: PayoutLeg, block: SendBlock | None) -> bool:
    """Return True if the same call may be sent again, instead of a look-up, once nothing blocks sending.

    Where nothing can be looked up, the repeat under the same key is the look-up, also after a server error.
    """
    if not may_replay(leg, builder.now, builder.calls_policy):
        return False
    if leg.lookup_required and builder.calls_policy.rules_of(leg.processor).finds_refunds:
        return False
    return block is None or not block.lookups_allowed


def _must_list_first(builder: PayoutBuilder, leg: PayoutLeg) -> bool:
    """Return True if the processor must be asked before this send: a call of ours may have arrived, or time has passed.

    The very first send of a leg needs it only after it waited through a pause.
    """
    policy, now = builder.calls_policy, builder.now
    repeats_soon = leg.sends > 0 and leg.last_sent_at is not None and now - leg.last_sent_at < policy.lease_seconds
    is_first = leg.last_sent_at is None or (repeats_soon and leg.status is not LegStatus.BLOCKED)
    if is_first and not leg.held:
        return False
    seconds = max(LIST_LEASES * policy.lease_seconds, policy.poll_seconds)
    return leg.listed_at is None or not 0 <= now - leg.listed_at <= seconds


def _wait_without_list(builder: PayoutBuilder, leg: PayoutLeg, block: SendBlock | None) -> None:
    """Decide about a leg that would be looked up, if that were possible: wait, and then a person decides."""
    policy, end = builder.calls_policy, quiet_end(leg, builder.calls_policy)
    refuses_calls = block is not None and block.refuses_calls
    if is_watched(leg) and leg.manual_reference is not None and not (leg.objects or refuses_calls):
        builder.calls.append(FetchTransfer(leg.leg_id, leg.processor, leg.manual_reference, rereads=True))
    if leg.unanswered and block is not None:
        builder.update_leg(leg, next_at=block.until)
    elif leg.unanswered and may_replay(leg, builder.now, policy):
        builder.update_leg(leg, next_at=builder.now + backoff_seconds(policy, leg), retry_count=leg.retry_count + 1)
    elif leg.unanswered and builder.now < end:
        builder.update_leg(leg, next_at=end)
    elif is_watched(leg):
        builder.update_leg(leg, in_doubt=leg.doubt_once_answered, next_at=None)
    else:
        conclude_nothing_there(builder, leg, builder.now)


def _send(builder: PayoutBuilder, leg: PayoutLeg) -> None:
    """Record the intent to send the leg, and plan the call."""
    route = builder.policy.route_of(leg.processor)
    if route.by_file:
        builder.update_leg(leg, next_at=builder.now + FILE_CHECK_SECONDS)  # the next file takes it
        return
    if not route.moves_money:
        _wait_for_person(builder, leg)
        return
    first = leg.sends == 0
    leg = builder.transition_leg(
        leg,
        LegOutcome.SENT,
        detail={"attempt": leg.attempt, "send": leg.sends + 1},
        sends=leg.sends + 1,
        first_sent_at=builder.now if first or leg.first_sent_at is None else leg.first_sent_at,
        last_sent_at=builder.now,
        next_at=builder.now + builder.calls_policy.lease_seconds,  # this call's answer is not accepted later
        in_doubt=Doubt.of(unanswered=leg.unanswered, lookup_required=leg.lookup_required),
        held=False,
        listed_at=None,
    )
    key = attempt_key(leg.leg_id, leg.attempt)
    builder.calls.append(SendTransfer(leg.leg_id, leg.processor, leg.attempt, key))


def _wait_for_person(builder: PayoutBuilder, leg: PayoutLeg) -> None:
    """Let a person pay: the route has no call that moves money."""
    builder.transition_leg(
        leg,
        LegOutcome.BLOCKED,
        reason=PAID_BY_A_PERSON,
        attention_code=PAID_BY_A_PERSON,
        failure_code=PAID_BY_A_PERSON,
        failure_message="pay it, then resolve with paid_manually and the reference",
        next_at=None,
    )
