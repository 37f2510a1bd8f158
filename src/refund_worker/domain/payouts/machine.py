"""The transition table of payouts: which status follows which outcome. Their legs move by the table of all legs.

A leg of a payout moves by `LEG_TABLE` in `domain/state_machine.py`, as a refund's does. A payout moves by its first
step, by a person's action, and by the outcome of its legs together (`combined_outcome`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.legs import is_watched
from refund_worker.domain.payouts.payout import PAYOUT_PAID, PAYOUT_UNPOSTED, Payout, PayoutLeg, PayoutStatus
from refund_worker.domain.payouts.transfers import Step
from refund_worker.domain.refund import LIVE_OBJECT_STATES, LegStatus, ObjectState
from refund_worker.domain.state_machine import ACTIVE, TO_BE_SENT, UNPAID_FINAL, WITH_PROCESSOR, ImpossibleMove

# Of two reports about an object one is wrong, and it cannot be read. The balance is taken while a person decides.
PAID_AFTER_REJECTION = "paid_after_rejection"


class PayoutOutcome(StrEnum):
    """The events that move a payout."""

    HELD = "held"
    RELEASED = "released"  # nothing holds it any more
    POSTED = "posted"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELED = "canceled"
    # The outcome of the legs together; the first that applies:
    NEEDS_ATTENTION = "needs_attention"
    RETURNING = "returning"
    PAID = "paid"
    SETTLED = "settled"
    FAILED = "failed"
    RETURNED = "returned"
    CALLED_OFF = "called_off"
    RECIPIENT_ACTION = "recipient_action"
    IN_PROGRESS = "in_progress"
    PENDING = "pending"


_S, _O = PayoutStatus, PayoutOutcome
_BY_THE_LEGS = {
    _O.NEEDS_ATTENTION: _S.NEEDS_ATTENTION,
    _O.RETURNING: _S.RETURNING,
    _O.PAID: _S.PAID,
    _O.SETTLED: _S.SETTLED,
    _O.FAILED: _S.FAILED,
    _O.RETURNED: _S.RETURNED,
    _O.CALLED_OFF: _S.CANCELED,
    _O.RECIPIENT_ACTION: _S.RECIPIENT_ACTION,
    _O.IN_PROGRESS: _S.SENDING,
    _O.PENDING: _S.PENDING,
}
_BEFORE_ITS_ENTRIES = {_O.CANCELED: _S.CANCELED, _O.POSTED: _S.SENDING}

PAYOUT_TABLE: Mapping[PayoutStatus, Mapping[PayoutOutcome, PayoutStatus]] = {
    _S.QUEUED: {_O.HELD: _S.HELD, **_BEFORE_ITS_ENTRIES},
    _S.HELD: {_O.HELD: _S.HELD, _O.RELEASED: _S.QUEUED, **_BEFORE_ITS_ENTRIES},
    _S.AWAITING_APPROVAL: {_O.APPROVED: _S.QUEUED, _O.REJECTED: _S.REJECTED, **_BEFORE_ITS_ENTRIES},
    _S.SENDING: _BY_THE_LEGS,
    _S.PENDING: _BY_THE_LEGS,
    _S.RECIPIENT_ACTION: _BY_THE_LEGS,
    _S.PAID: _BY_THE_LEGS,
    _S.RETURNING: _BY_THE_LEGS,
    _S.NEEDS_ATTENTION: _BY_THE_LEGS,
    # An end reopens only by a later report of the processor. A payout that this database never sent may have been sent
    # by the database of which it is a backup or a copy.
    _S.SETTLED: _BY_THE_LEGS,
    _S.FAILED: _BY_THE_LEGS,
    _S.RETURNED: _BY_THE_LEGS,
    _S.CANCELED: {_O.POSTED: _S.SENDING, **_BY_THE_LEGS},
    _S.REJECTED: {_O.POSTED: _S.SENDING},
}


class PayoutAction(StrEnum):
    """The actions that a person may take on a payout."""

    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    RETRY = "retry"
    RESOLVE = "resolve"


PAYOUT_ACTIONS: Mapping[PayoutAction, frozenset[PayoutStatus]] = {
    PayoutAction.APPROVE: frozenset({_S.AWAITING_APPROVAL}),
    PayoutAction.REJECT: frozenset({_S.AWAITING_APPROVAL}),
    # In `sending`: of a payout of which nothing was sent, as before its bank file. Later: of one that waits for the
    # payee.
    PayoutAction.CANCEL: frozenset({*PAYOUT_UNPOSTED, _S.SENDING, _S.RECIPIENT_ACTION, _S.NEEDS_ATTENTION}),
    PayoutAction.RETRY: frozenset({_S.NEEDS_ATTENTION}),
    # Once it is paid: of a manual payment, whose return no processor reports.
    PayoutAction.RESOLVE: frozenset({_S.NEEDS_ATTENTION, _S.PAID, _S.SETTLED}),
}


def next_payout_status(status: PayoutStatus, outcome: PayoutOutcome) -> PayoutStatus:
    """Return the status that the table has for the outcome. Raises `ImpossibleMove` if it has none."""
    try:
        return PAYOUT_TABLE[status][outcome]
    except KeyError:
        raise ImpossibleMove(f"a payout that is {status} cannot become {outcome}") from None


def first_payout_status(*, needs_approval: bool) -> PayoutStatus:
    """Return the status of a payout that was just accepted."""
    return _S.AWAITING_APPROVAL if needs_approval else _S.QUEUED


def combined_outcome(payout: Payout, now: float) -> PayoutOutcome:
    """Return the outcome of all legs of a payout together, at `now` (epoch seconds).

    A payout whose legs failed has ended only when its transfer is undone, so that none of its money is elsewhere.
    """
    legs, forward = payout.legs, payout.forward_legs
    undoing = [leg for leg in legs if leg.step is Step.REVERSAL]
    if any(leg.attention_code for leg in legs):
        return _O.NEEDS_ATTENTION
    if any(leg.status in ACTIVE for leg in undoing):
        return _O.RETURNING
    begun = [leg for leg in forward if leg.status in ACTIVE and leg.status is not LegStatus.PLANNED]
    # The last step is what reaches the payee: others may undo a transfer whose money the payee already has.
    if forward[-1].status is LegStatus.SUCCEEDED and not begun:
        is_over = payout.settles_at is not None and payout.settles_at <= now and not is_still_asked(payout)
        return _O.SETTLED if is_over or payout.status is _S.SETTLED else _O.PAID
    if not begun and any(leg.status in UNPAID_FINAL for leg in forward):
        return _ended_unpaid(payout)
    if any(leg.status is LegStatus.REQUIRES_ACTION for leg in forward):
        return _O.RECIPIENT_ACTION
    current = next(leg for leg in forward if leg.status in ACTIVE)
    return _O.PENDING if current.status is LegStatus.PENDING else _O.IN_PROGRESS


def _ended_unpaid(payout: Payout) -> PayoutOutcome:
    """Return how a payout ended that was not paid, or whose money came back.

    One that was paid before, or that the payee did not collect, was returned.
    """
    last = payout.forward_legs[-1]
    # A worker may die after its call took effect: the next call is refused, and only the object tells.
    if last.status is LegStatus.CANCELED and (last.canceling or payout.status is _S.RECIPIENT_ACTION):
        return _O.CALLED_OFF
    if payout.times_paid or payout.status in (_S.RECIPIENT_ACTION, _S.RETURNED):
        return _O.RETURNED
    return _O.CALLED_OFF if payout.status is _S.CANCELED else _O.FAILED


def available_payout_actions(payout: Payout) -> tuple[PayoutAction, ...]:
    """Return the actions that a person may take now, from the table."""
    return tuple(action for action in PayoutAction if is_payout_action_allowed(action, payout))


def is_payout_action_allowed(action: PayoutAction, payout: Payout) -> bool:
    """Return True if the table offers the action now.

    While an answer is missing, `resolve` can only record a manual payment (`payout_answer_is_missing`). Once a manual
    payment is recorded, it can only record that the money came back.
    """
    if payout.status not in PAYOUT_ACTIONS[action]:
        return False
    if action is PayoutAction.CANCEL:
        is_open = payout.status in PAYOUT_UNPOSTED or is_unsent(payout)
        return is_open or any(is_payout_leg_cancelable(leg) for leg in payout.legs)
    if action is not PayoutAction.RESOLVE:
        return True
    if payout.status in PAYOUT_PAID:
        return is_paid_in_another_way(payout.forward_legs[-1])
    if payout_answer_is_missing(payout):
        return not any(leg.status is LegStatus.SENDING for leg in payout.legs)
    return not any(leg.status in WITH_PROCESSOR for leg in payout.legs)


def is_payout_leg_cancelable(leg: PayoutLeg) -> bool:
    """Return True if the leg's object waits for the payee and no person calls it off yet."""
    return leg.status is LegStatus.REQUIRES_ACTION and not leg.canceling


def is_unsent(payout: Payout) -> bool:
    """Return True if its entries are posted and nothing of it is at the processor or may be.

    Each step waits for its first send, or was refused for now and is sent again later. A step that waits for a person
    is not among them: the person decides.
    """
    return payout.ledger_posted and all(
        leg.status in TO_BE_SENT
        and not leg.unanswered
        and not has_object_that_may_pay(leg)
        and (leg.attention_code is None or leg.next_at is not None)
        for leg in payout.legs
    )


def payout_answer_is_missing(payout: Payout) -> bool:
    """Return True if the outcome of a call is not known: a person may say that they paid, not more."""
    return any(leg.status is LegStatus.UNKNOWN for leg in payout.legs)


def is_payout_leg_ready(payout: Payout, leg: PayoutLeg) -> bool:
    """Return True if nothing comes before the leg: each earlier step has paid."""
    if leg.step is Step.REVERSAL:
        return True
    return all(
        other.status is LegStatus.SUCCEEDED and not is_watched(other)
        for other in payout.forward_legs
        if other.number < leg.number
    )


def is_on_its_way(leg: PayoutLeg) -> bool:
    """Return True if an object of the leg may still pay, and has not: it is pending, or waits for the payee."""
    return any(known.state in LIVE_OBJECT_STATES - {ObjectState.SUCCEEDED} for known in leg.objects)


def is_still_asked(payout: Payout) -> bool:
    """Return True if a step waits for an answer about a payment, or for the end of one: it does not settle before."""
    return any(leg.next_at is not None or is_on_its_way(leg) for leg in payout.forward_legs)


def has_object_that_may_pay(leg: PayoutLeg) -> bool:
    """Return True if an object of the leg has paid or may still pay. One whose status is not known may."""
    return bool(leg.unknown_objects) or any(known.state in LIVE_OBJECT_STATES for known in leg.objects)


def failure_that_stands(leg: PayoutLeg) -> str | None:
    """Return the code by which the leg needs a person, or else ended. That of an earlier try is over."""
    return leg.attention_code or (leg.failure_code if leg.status in UNPAID_FINAL else None)


def is_failed_in_doubt(leg: PayoutLeg) -> bool:
    """Return True if the step failed and waits for a person: only `resolve` or another report ends that.

    It or another object of it may have paid, or the payee still has the money of a transfer that was to be undone.
    """
    contradicted = leg.attention_code == PAID_AFTER_REJECTION
    is_open = leg.step is Step.REVERSAL or bool(leg.unknown_objects) or contradicted
    return leg.status in UNPAID_FINAL and leg.attention_code is not None and is_open


def is_paid_in_another_way(leg: PayoutLeg) -> bool:
    """Return True if a person's payment pays the leg, and no call of ours pays it or may still pay it."""
    manual = leg.object_id is not None and leg.object_id.startswith(MANUAL_PREFIX)
    return leg.status is LegStatus.SUCCEEDED and manual and not has_object_that_may_pay(leg) and not is_watched(leg)


def needs_undoing(payout: Payout) -> PayoutLeg | None:
    """Return the transfer to undo: it paid, the step after it does not use its money, and nothing undoes it yet.

    The step ended for good, or a person has paid the payee in another way.
    """
    forward = payout.forward_legs
    ended = any(leg.status in UNPAID_FINAL for leg in forward) or is_paid_in_another_way(forward[-1])
    if not ended or payout.status in PAYOUT_UNPOSTED:
        return None
    for leg in forward[:-1]:
        undone = {other.undoes for other in payout.legs if other.step is Step.REVERSAL}
        if leg.status is LegStatus.SUCCEEDED and leg.manual_reference is None and leg.object_id not in undone:
            return leg
    return None


def is_paid(status: PayoutStatus) -> bool:
    """Return True if a payout with this status counts as paid in the payee's sums."""
    return status in PAYOUT_PAID
