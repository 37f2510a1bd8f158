"""Apply the reports of one transfer object at the processor to its leg.

As for a refund object, a state replaces only a state of lower `OBJECT_RANK`: an object ends the same in whatever order
its reports come. Among several objects of a leg, one that may pay outweighs the others. An object that is not what the
leg asked for is never believed: a person decides.
"""

from __future__ import annotations

from dataclasses import replace

from refund_worker.domain.decision_builder import ANSWER_MISMATCH, BLOCKED_TRIES, MANUAL_PREFIX
from refund_worker.domain.legs import fresh_attempt, is_watched
from refund_worker.domain.mismatch import UNKNOWN_STATUS, doubt_about
from refund_worker.domain.payouts.builder import NOT_UNDONE, PayoutBuilder
from refund_worker.domain.payouts.decision import TransferUpdate
from refund_worker.domain.payouts.machine import PAID_AFTER_REJECTION
from refund_worker.domain.payouts.payout import KnownTransfer, PayoutLeg
from refund_worker.domain.payouts.postings import loss
from refund_worker.domain.payouts.transfers import Fault, Step, TransferObject
from refund_worker.domain.refund import LIVE_OBJECT_STATES, OBJECT_RANK, Doubt, LegStatus, ObjectState, RefusalKind
from refund_worker.domain.refund_object import OUTCOME_OF_STATE
from refund_worker.domain.state_machine import ACTIVE, AWAITING_ANSWER, FINAL_LEGS, POLLED, UNPAID_FINAL, LegOutcome
from refund_worker.domain.timing import POLL_SECONDS_MAX, backoff_seconds

PAID_TWICE = "paid_twice"
TRANSFER_UNDONE = "transfer_undone"  # by others, while the step after it may have paid
# Failures of the processor's or a bank's own are tried again this often, each under a new key. Then a person decides.
FAILURES_TRIED_AGAIN = 1
TRIED_AGAIN = (Fault.OURS, Fault.PROCESSOR)


def apply_transfer(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Merge one report of a transfer object into its leg, and return the leg as it is then."""
    fault = _mismatch(builder, leg, item)
    if _is_named_by_person(leg, item) and (fault or item.leg_id is None):
        if item.leg_id == leg.leg_id:
            leg = _record_unknown(builder, leg, item)
        return _end_question(builder, leg)  # it is not ours, or not as we asked: the person has compared it
    if fault:
        return _reject(builder, leg, item, fault)
    state = item.state
    known = {known.object_id: known for known in leg.objects}
    before = known.get(item.object_id)
    if state is None and (before is None or before.state in LIVE_OBJECT_STATES):
        return _keep_unknown_status(builder, leg, item)
    item = replace(item, attempt=_attempt_of(leg, before, item))
    if state is None:
        return _apply_repeat(builder, leg, item)  # it has ended: a report of before came late
    if before is not None and OBJECT_RANK[before.state] >= OBJECT_RANK[state]:
        if before.state is ObjectState.FAILED and state is ObjectState.SUCCEEDED:
            leg = _note_paid_after_failure(builder, leg, before, item)
        leg = _note_late_amount(builder, leg, before, item)
        if before.state in LIVE_OBJECT_STATES and _is_named_by_person(leg, item):
            return _apply_state(builder, leg, item)  # a later report also has the id by which the person named it
        return _apply_repeat(builder, leg, item)
    known[item.object_id] = KnownTransfer(item.object_id, state, item.attempt, item.returned_minor)
    builder.objects.append(TransferUpdate(leg.leg_id, state, item))
    unknown = tuple(object_id for object_id in leg.unknown_objects if object_id != item.object_id)
    leg = builder.update_leg(leg, objects=tuple(known.values()), unknown_objects=unknown)
    _post_loss(builder, leg, item)
    if _is_end_of_older_attempt(leg, item):
        return _ask_for_current_attempt(builder, leg)
    return _apply_state(builder, leg, item)


def _attempt_of(leg: PayoutLeg, before: KnownTransfer | None, item: TransferObject) -> int | None:
    """Return the attempt that made the object, or None if that is not known.

    The object's own mark of it may have been edited away. Our record of the object tells it then, or that only one
    attempt of the leg was ever sent.
    """
    if before is not None and before.attempt is not None:
        return before.attempt
    was_sent_once = leg.attempt - (leg.sends == 0) <= 1
    return 1 if item.attempt is None and was_sent_once else item.attempt


def _is_paid_manually(leg: PayoutLeg) -> bool:
    return leg.status is LegStatus.SUCCEEDED and leg.manual_reference is not None


def _is_named_by_person(leg: PayoutLeg, item: TransferObject) -> bool:
    """Return True if a person called the leg paid, and named this object as the payment, by one of its ids."""
    return _is_paid_manually(leg) and leg.manual_reference in (item.object_id, *item.refs)


def _link_manual_payment(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Let the object pay the leg from now on: the person named it, so there is no second payment.

    If it is the transfer, the payee has its money: it pays the step after it too, and is not undone.
    """
    builder.record_event("manual_payment_linked", leg=leg, object_id=item.object_id, reference=leg.manual_reference)
    named = f"{MANUAL_PREFIX}{leg.manual_reference}"
    for other in tuple(builder.legs.values()):
        if leg.step is Step.TRANSFER and other.step is Step.PAYOUT and other.object_id == named:
            builder.update_leg(other, object_id=item.object_id)
    return builder.update_leg(leg, manual_reference=None)


def _note_late_transfer(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Let the transfer of a call without an answer count, which a person passed over: it is undone, as no step uses it.

    It is at the payee's account with the processor, and not yet at the payee: this is no second payment.
    """
    builder.record_event("late_transfer_found", leg=leg, object_id=item.object_id, reference=leg.manual_reference)
    return builder.update_leg(leg, manual_reference=None)


def _end_question(builder: PayoutBuilder, leg: PayoutLeg) -> PayoutLeg:
    """Ask no more about an object. A leg that waits for a late effect of its own call keeps its look-up."""
    return leg if is_watched(leg) else builder.update_leg(leg, next_at=None, retry_count=0)


def _was_shown(leg: PayoutLeg, item: TransferObject, message: str) -> bool:
    """Return True if the leg has ended, and a person was alerted about this object or answer: it is not shown again."""
    was_recorded = item.object_id in leg.unknown_objects
    return leg.status in FINAL_LEGS and (was_recorded or leg.failure_message == message)


def _is_end_of_older_attempt(leg: PayoutLeg, item: TransferObject) -> bool:
    """Return True if the leg is open, no object of it is live, and this one may be of an older attempt.

    Then it says nothing about the current attempt. A paid leg whose object came back is not open.
    """
    is_older = item.attempt is None or item.attempt < leg.attempt
    return is_older and leg.status in ACTIVE and not any(known.state in LIVE_OBJECT_STATES for known in leg.objects)


def _ask_for_current_attempt(builder: PayoutBuilder, leg: PayoutLeg) -> PayoutLeg:
    """Look the current attempt up if the leg waited for the object that ended: its own outcome is open."""
    if leg.status not in POLLED:
        return leg
    # A leg that a person called off is not sent again: it ends once it is certain that nothing exists.
    refusal = RefusalKind.REFUSED if leg.canceling else leg.refusal
    in_doubt = Doubt.of(unanswered=True, lookup_required=True, refusal=refusal)
    return builder.transition_leg(leg, LegOutcome.NO_ANSWER, in_doubt=in_doubt, next_at=builder.now)


def is_void(leg: PayoutLeg, item: TransferObject) -> bool:
    """Return True if the object failed under an older attempt: it says nothing about the current one.

    One whose attempt is not known is older if nothing of the current attempt was sent.
    """
    return any(
        known.object_id == item.object_id
        and known.state not in LIVE_OBJECT_STATES
        and (leg.sends == 0 if known.attempt is None else known.attempt != leg.attempt)
        for known in leg.objects
    )


def _mismatch(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> str | None:
    """Return how the object differs from what the leg asked for, or None."""
    live = builder.calls_policy.rules_of(leg.processor).live
    if item.leg_id not in (None, leg.leg_id):
        return f"it names {item.leg_id}"
    if item.step is not leg.step:
        return f"it is a {item.step}"
    if (item.amount_minor, item.currency) != (leg.amount_minor, leg.currency):
        return f"{item.amount_minor} {item.currency} instead of {leg.amount_minor} {leg.currency}"
    if live is not None and item.live is not None and live is not item.live:
        return "it is of the other mode"
    return None


def _reject(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject, fault: str) -> PayoutLeg:
    """Let a person compare the object with the leg; its state is not believed."""
    message = f"{item.object_id} at the processor is not what was asked for: {fault}"
    was_shown = _was_shown(leg, item, message)
    if item.leg_id == leg.leg_id:
        leg = _record_unknown(builder, leg, item)
    if was_shown:
        return _end_question(builder, leg)
    if leg.attention_code != ANSWER_MISMATCH:
        builder.record_event(ANSWER_MISMATCH, alarm=True, leg=leg, object_id=item.object_id, what=fault)
    next_at = None if leg.status not in POLLED else leg.next_at
    if leg.status in AWAITING_ANSWER:
        # Something was made, though not what was asked for: a list without it does not prove that nothing exists.
        in_doubt = Doubt.of(unanswered=True, lookup_required=True, refusal=RefusalKind.ANSWER_MISMATCH)
        if leg.status is LegStatus.SENDING:
            leg = builder.transition_leg(leg, LegOutcome.NO_ANSWER, reason=ANSWER_MISMATCH)
        leg = builder.update_leg(leg, in_doubt=in_doubt, retry_count=leg.retry_count + 1)
        next_at = builder.now + backoff_seconds(builder.calls_policy, leg)
    return builder.update_leg(
        leg, attention_code=ANSWER_MISMATCH, failure_code=ANSWER_MISMATCH, failure_message=message, next_at=next_at
    )


def _apply_state(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Give the leg the status that its objects have together."""
    live = [known for known in leg.objects if known.state in LIVE_OBJECT_STATES]
    # Among equals the object that was posted stays: going back and forth would post the same payment twice.
    best = max(live, key=lambda known: (OBJECT_RANK[known.state], known.object_id == leg.object_id), default=None)
    if _is_named_by_person(leg, item):
        leg = _link_manual_payment(builder, leg, item)
    elif _is_paid_manually(leg) and leg.step is Step.TRANSFER and best is not None:
        leg = _note_late_transfer(builder, leg, item)
    elif _is_paid_manually(leg):
        return _keep_manual_payment(builder, leg, item, is_live=best is not None)
    outcome = OUTCOME_OF_STATE[best.state if best else item.state or ObjectState.PENDING]
    if best is None and item.state is not None and leg.status in ACTIVE and _tries_again(leg, item):
        return _wait_to_try_again(builder, leg, item)
    was_paid = leg.status is LegStatus.SUCCEEDED
    late, twice = was_paid and best is None, len(live) > 1
    if best is not None and not builder.payout.ledger_posted:
        _post_after_all(builder)
    if best is not None and leg.status in UNPAID_FINAL:
        builder.record_event("processor_contradicts", alarm=True, leg=leg, object_id=best.object_id)
    doubt = None if best else _why_a_person_decides(leg)
    if best is None:
        _note_end_without_payment(builder, leg, item)
    leg = builder.transition_leg(
        leg,
        outcome,
        reason=item.failure_code,
        alarm=twice or late or doubt is not None,
        detail={"object_id": item.object_id},
        object_id=best.object_id if best else item.object_id,
        in_doubt=None,
        retry_count=0,
        blocked_count=0,
        attention_code=PAID_TWICE if twice else doubt,
        failure_code=None if best else item.failure_code or str(item.state),
        failure_message=None if best else _why_ended(leg, item),
        fault=item.fault if best is None or outcome is LegOutcome.REQUIRES_CUSTOMER else None,
        next_at=_next_poll(builder, leg) if outcome in (LegOutcome.ACCEPTED, LegOutcome.REQUIRES_CUSTOMER) else None,
    )
    _note_payee_must_act(builder, item if outcome is LegOutcome.REQUIRES_CUSTOMER else None)
    return _ask_about_undone_transfer(builder, leg) if late else leg


def _why_a_person_decides(leg: PayoutLeg) -> str | None:
    """Return why a person decides about a step whose objects ended, or None, as for one that had ended before.

    Another object of it may have paid, or the payee still has the money of the transfer.
    """
    if leg.status in UNPAID_FINAL and leg.attention_code is None:
        return None
    if leg.unknown_objects:
        return UNKNOWN_STATUS
    return NOT_UNDONE if leg.step is Step.REVERSAL else None


def _why_ended(leg: PayoutLeg, item: TransferObject) -> str:
    reason = f"the processor says {item.status}: {item.failure_code or 'no reason given'}"
    return reason + doubt_about(leg.unknown_objects)


def _note_payee_must_act(builder: PayoutBuilder, item: TransferObject | None) -> None:
    """Note until when the payee must act, if the payee must."""
    builder.payout = replace(builder.payout, act_by=item.act_by if item else None)


def _post_after_all(builder: PayoutBuilder) -> None:
    """Post the entries of a payout that this database never sent: the processor has an object for it.

    It was sent by the database of which this one is a backup or a copy.
    """
    builder.record_event("processor_contradicts", alarm=True, amount_minor=builder.payout.amount_minor)
    builder.post_entries()


def _note_end_without_payment(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> None:
    """Note whose fault it was."""
    if leg.step is not Step.REVERSAL:
        builder.note_fault(item.failure_code, item.fault)


def _post_loss(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> None:
    """Post what did not come back with this object as a loss of ours, whatever the object means for the leg.

    Each object ends once. Several may lose more together than the payout's amount: the payout shows no more than that.
    """
    if item.returned_minor is None or item.returned_minor >= leg.amount_minor or item.state in LIVE_OBJECT_STATES:
        return
    lost_minor = leg.amount_minor - max(0, item.returned_minor)
    builder.record_event("returned_less", alarm=True, leg=leg, lost_minor=lost_minor, object_id=item.object_id)
    builder.postings.append(loss(builder.payout, leg, item.object_id, lost_minor))
    in_total = min(builder.payout.lost_minor + lost_minor, builder.payout.amount_minor)
    builder.payout = replace(builder.payout, lost_minor=in_total)


def _note_late_amount(builder: PayoutBuilder, leg: PayoutLeg, before: KnownTransfer, item: TransferObject) -> PayoutLeg:
    """Post what did not come back with an object that had ended, if only this report has the amount.

    A bank rejects a payment in one file, and states the amount in another. Of two amounts the first stays posted, and a
    person compares them: a report does not say which one is right.
    """
    if before.state is not item.state or item.returned_minor in (None, before.returned_minor):
        return leg
    if before.returned_minor is not None:
        amounts = {"returned_minor": before.returned_minor, "now_minor": item.returned_minor}
        builder.record_event("returned_amount_differs", alarm=True, leg=leg, object_id=item.object_id, **amounts)
        return leg
    now_known = replace(before, returned_minor=item.returned_minor)
    builder.objects.append(TransferUpdate(leg.leg_id, item.state, item))
    leg = builder.update_leg(leg, objects=tuple(now_known if known is before else known for known in leg.objects))
    _post_loss(builder, leg, item)
    return leg


def _note_paid_after_failure(
    builder: PayoutBuilder, leg: PayoutLeg, before: KnownTransfer, item: TransferObject
) -> PayoutLeg:
    """Let a person decide about a payment that had failed and is reported as paid now: either report can be wrong.

    If it came back after it was paid, this report is only late. Where the object can be read, what it says later
    decides; else the balance has to be taken again until the person has decided. They decide once.
    """
    was_paid = builder.payout.times_paid > 0 or before.returned_minor is not None
    message = f"{item.object_id} had failed, and is reported as paid now"
    if was_paid or leg.failure_message == message:
        return leg
    has_another = leg.unknown_objects or any(known.state in LIVE_OBJECT_STATES for known in leg.objects)
    if builder.calls_policy.rules_of(leg.processor).reads_refunds or has_another or leg.status not in UNPAID_FINAL:
        builder.record_event("paid_after_failure", alarm=True, leg=leg, object_id=item.object_id)
        return leg
    builder.record_event(PAID_AFTER_REJECTION, alarm=True, leg=leg, object_id=item.object_id)
    return builder.update_leg(leg, attention_code=PAID_AFTER_REJECTION, failure_message=message)


def _tries_again(leg: PayoutLeg, item: TransferObject) -> bool:
    """Return True if the failure was ours or the processor's, so that a later try can succeed.

    A transfer that is to be undone stays to be undone. No step is sent again beside an object that may have paid.
    """
    if leg.canceling or leg.unknown_objects:
        return False
    return leg.step is Step.REVERSAL or (item.state is ObjectState.FAILED and item.fault in TRIED_AGAIN)


def _wait_to_try_again(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Block the leg: its object failed, which proves that nothing was paid, so the next attempt gets a new key.

    Our own faults are tried again for long, as a top-up ends them; those of the processor once. A transfer that is not
    given back for any other reason is a person's.
    """
    failures = sum(known.state not in LIVE_OBJECT_STATES for known in leg.objects)
    limit = BLOCKED_TRIES if item.fault is Fault.OURS else FAILURES_TRIED_AGAIN
    again = item.fault in TRIED_AGAIN and failures <= limit
    code = item.failure_code or str(item.fault)
    if leg.step is Step.REVERSAL and not again:
        code = NOT_UNDONE
    return builder.transition_leg(
        replace(fresh_attempt(leg), attempt=leg.attempt + 1),
        LegOutcome.UNFUNDED,
        reason=code,
        alarm=failures == 1 or not again,
        detail={"object_id": item.object_id},
        attention_code=code,
        failure_code=code,
        failure_message=f"the processor says {item.status}: {code}",
        fault=item.fault,
        object_id=item.object_id,
        in_doubt=None,
        retry_count=0,
        next_at=builder.now + builder.calls_policy.retry_max_seconds if again else None,
    )


def _keep_manual_payment(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject, *, is_live: bool) -> PayoutLeg:
    """Keep a manual payment. A failed object does not contradict it; one that may still pay needs a person."""
    if is_live and leg.attention_code != PAID_TWICE:
        builder.record_event(PAID_TWICE, alarm=True, leg=leg, object_id=item.object_id, state=item.status)
    return builder.update_leg(
        leg,
        attention_code=PAID_TWICE if is_live else None,
        failure_code=None,
        failure_message=None,
        in_doubt=leg.doubt_once_answered,
        next_at=None,
    )


def _ask_about_undone_transfer(builder: PayoutBuilder, leg: PayoutLeg) -> PayoutLeg:
    """Show a transfer that others undid to a person, if the step after it has paid or may pay."""
    if leg.step is not Step.TRANSFER:
        return leg
    later = [other for other in builder.legs.values() if other.step is Step.PAYOUT]
    undoing = any(other.undoes == leg.object_id for other in builder.legs.values())
    if undoing:
        return leg
    for other in later:
        if other.status is LegStatus.PLANNED:
            builder.transition_leg(other, LegOutcome.DISPLACED, reason=TRANSFER_UNDONE, next_at=None)
    if any(other.status not in {LegStatus.PLANNED, *UNPAID_FINAL} for other in later):
        return builder.update_leg(leg, attention_code=TRANSFER_UNDONE)
    return leg


def _apply_repeat(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Apply a report that brings no new state: it still answers a poll or a call without an answer."""
    if leg.status in POLLED:
        code = leg.attention_code if leg.attention_code in (PAID_TWICE, ANSWER_MISMATCH) else None
        return builder.update_leg(leg, attention_code=code, next_at=_next_poll(builder, leg), retry_count=0)
    known = next(k for k in leg.objects if k.object_id == item.object_id)
    is_live = known.state in LIVE_OBJECT_STATES
    if leg.status in AWAITING_ANSWER and (item.attempt == leg.attempt or (item.attempt is None and is_live)):
        return _apply_state(builder, leg, replace(item, state=known.state))
    if leg.status in FINAL_LEGS and leg.next_at is not None and not is_watched(leg):
        if leg.status is LegStatus.SUCCEEDED and leg.failure_code == UNKNOWN_STATUS and not leg.unknown_objects:
            code = None if leg.attention_code == UNKNOWN_STATUS else leg.attention_code
            leg = builder.update_leg(leg, attention_code=code, failure_code=None, failure_message=None)
        return _end_question(builder, leg)  # the builder plans the next one
    return leg


def _next_poll(builder: PayoutBuilder, leg: PayoutLeg) -> float:
    """Return the time of the next poll: half the leg's age from now, between `poll_seconds` and a day."""
    policy = builder.calls_policy
    if leg.canceling:
        return builder.now + backoff_seconds(policy, leg)
    age = builder.now - (leg.last_sent_at or builder.payout.created_at)
    return builder.now + max(policy.poll_seconds, min(age / 2, POLL_SECONDS_MAX))


def _keep_unknown_status(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Treat an object with an unknown status as pending, show it to a person, and ask again."""
    message = f"status: {item.status or 'none'}"
    was_shown = _was_shown(leg, item, message)
    leg = _record_unknown(builder, leg, item)
    if was_shown:
        return _end_question(builder, leg)
    if _is_paid_manually(leg) and leg.step is Step.PAYOUT and not _is_named_by_person(leg, item):
        leg = _keep_manual_payment(builder, leg, item, is_live=True)
        return builder.update_leg(leg, failure_code=UNKNOWN_STATUS, failure_message=message)
    if leg.attention_code not in (UNKNOWN_STATUS, PAID_TWICE):
        builder.record_event(
            UNKNOWN_STATUS, alarm=True, leg=leg, status=item.status or "none", object_id=item.object_id
        )
    if leg.status not in ACTIVE:
        paid = leg.status is LegStatus.SUCCEEDED and leg.manual_reference is None
        has_money = builder.payout.ledger_posted and not builder.payout.given_back
        undecided = leg.status in UNPAID_FINAL and has_money
        code = leg.attention_code or (UNKNOWN_STATUS if paid or undecided else None)
        leg = builder.update_leg(leg, attention_code=code, failure_code=UNKNOWN_STATUS, failure_message=message)
        return _end_question(builder, leg)
    if leg.status not in POLLED:
        if not builder.payout.ledger_posted:
            _post_after_all(builder)
        leg = builder.transition_leg(
            leg, LegOutcome.ACCEPTED, reason=UNKNOWN_STATUS, object_id=item.object_id, in_doubt=None, retry_count=0
        )
    return builder.update_leg(
        leg,
        next_at=_next_poll(builder, leg),
        attention_code=UNKNOWN_STATUS,
        failure_code=UNKNOWN_STATUS,
        failure_message=message,
    )


def _record_unknown(builder: PayoutBuilder, leg: PayoutLeg, item: TransferObject) -> PayoutLeg:
    """Record an object of this leg that is not understood, and may pay. A state that an earlier report had stays."""
    is_over = item.state is not None and item.state not in LIVE_OBJECT_STATES
    if is_over or any(known.object_id == item.object_id for known in leg.objects):
        return leg
    builder.objects.append(TransferUpdate(leg.leg_id, None, item))
    return builder.update_leg(leg, unknown_objects=tuple(dict.fromkeys((*leg.unknown_objects, item.object_id))))
