"""THE table: which state follows which outcome. Nothing else decides about states.

Two linked machines. A leg moves by what became of its call at the processor; a refund moves by its first step, by a
person's command, and by what its legs come to together (`combined_outcome`). The diagrams in docs/architecture.md, the
API's `available_actions` and the console's buttons are made from these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from refund_worker.domain.refund import Leg, LegStatus, Refund, RefundStatus
from refund_worker.errors import RefundWorkerError


class LegOutcome(StrEnum):
    SENT = "sent"  # the intent to send was committed
    ACCEPTED = "accepted"
    REQUIRES_CUSTOMER = "asks_customer"
    PAID = "paid"
    OBJECT_FAILED = "object_failed"
    OBJECT_CANCELED = "object_canceled"
    REFUSED = "refused"  # for good, and nothing exists
    BLOCKED = "blocked"  # for now, and nothing exists
    UNFUNDED = "unfunded"  # the object failed because our balance at the processor was too low
    NOT_EXECUTED = "not_executed"
    NO_ANSWER = "silence"  # no answer, a dead worker, or a refusal that does not explain an earlier silence
    NOT_FOUND = "absent"  # proved that nothing exists: a new attempt is allowed
    ABANDONED = "given_up"
    PAID_MANUALLY = "paid_by_hand"
    RELEASED = "released"  # the refund was canceled or rejected before anything was sent


class RefundOutcome(StrEnum):
    CREDITED = "credited"  # to balance: the entry is posted and that is all
    POSTED = "posted"  # to source: the entries are posted, money is asked for
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELED = "canceled"
    # What the legs come to, the first that holds:
    STUCK = "stuck"
    ASKING = "asking"
    WAITING = "waiting"
    RETURNING = "returning"
    PAID = "paid"
    PAID_IN_PART = "paid_in_part"
    PAID_NOTHING = "paid_nothing"


class ImpossibleMove(RefundWorkerError):
    """An outcome that the table does not know from this state: our own bug, and nothing is written."""

    code = "impossible_move"


_L, _LO = LegStatus, LegOutcome
_R, _RO = RefundStatus, RefundOutcome

# The processor's word for an object of its own is taken in every state; the join of states by object (`OBJECT_RANK`)
# has already dropped what is older or repeated.
_SAID_BY_THE_PROCESSOR = {
    _LO.ACCEPTED: _L.PENDING,
    _LO.REQUIRES_CUSTOMER: _L.REQUIRES_ACTION,
    _LO.PAID: _L.SUCCEEDED,
    _LO.OBJECT_FAILED: _L.FAILED,
    _LO.OBJECT_CANCELED: _L.CANCELED,
}
# An empty balance ends nothing while the leg is open; a refund that had succeeded and fails for it comes back like any.
_SAID_WHILE_OPEN = {**_SAID_BY_THE_PROCESSOR, _LO.UNFUNDED: _L.BLOCKED}
_BY_A_PERSON = {_LO.ABANDONED: _L.CANCELED, _LO.PAID_MANUALLY: _L.SUCCEEDED}

LEG_TABLE: Mapping[LegStatus, Mapping[LegOutcome, LegStatus]] = {
    # Blocked here, from waiting and from blocked: the list that is read before a send shows what forbids it.
    _L.PLANNED: {
        _LO.SENT: _L.SENDING,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.RELEASED: _L.CANCELED,
        **_BY_A_PERSON,
        **_SAID_WHILE_OPEN,
    },
    _L.SENDING: {
        _LO.REFUSED: _L.FAILED,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.NOT_EXECUTED: _L.WAITING,
        _LO.NO_ANSWER: _L.UNKNOWN,
        **_SAID_WHILE_OPEN,
    },
    _L.WAITING: {_LO.SENT: _L.SENDING, _LO.BLOCKED: _L.BLOCKED, **_BY_A_PERSON, **_SAID_WHILE_OPEN},
    _L.UNKNOWN: {
        _LO.SENT: _L.SENDING,
        _LO.NO_ANSWER: _L.UNKNOWN,
        _LO.NOT_FOUND: _L.WAITING,
        _LO.REFUSED: _L.FAILED,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.PAID_MANUALLY: _L.SUCCEEDED,
        **_SAID_WHILE_OPEN,
    },
    _L.BLOCKED: {
        _LO.SENT: _L.SENDING,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.NO_ANSWER: _L.UNKNOWN,
        **_BY_A_PERSON,
        **_SAID_WHILE_OPEN,
    },
    # Silence here: what was pending belonged to an older attempt, and the present one is still unanswered.
    _L.PENDING: {_LO.NO_ANSWER: _L.UNKNOWN, **_SAID_WHILE_OPEN},
    _L.REQUIRES_ACTION: {_LO.NO_ANSWER: _L.UNKNOWN, **_SAID_WHILE_OPEN},
    # A leg worth nothing is never sent and counts as paid, until all the others have failed.
    _L.SUCCEEDED: {_LO.RELEASED: _L.CANCELED, _LO.ABANDONED: _L.CANCELED, **_SAID_BY_THE_PROCESSOR},
    # By hand: a person paid while another way was still to be found.
    _L.FAILED: {_LO.PAID_MANUALLY: _L.SUCCEEDED, **_SAID_BY_THE_PROCESSOR},
    _L.CANCELED: {_LO.PAID_MANUALLY: _L.SUCCEEDED, **_SAID_BY_THE_PROCESSOR},
}

_BY_THE_LEGS = {
    _RO.STUCK: _R.NEEDS_ATTENTION,
    _RO.ASKING: _R.SENDING,
    _RO.WAITING: _R.PENDING,
    _RO.RETURNING: _R.REVERSING,
    _RO.PAID: _R.SUCCEEDED,
    _RO.PAID_IN_PART: _R.PARTIALLY_SUCCEEDED,
    _RO.PAID_NOTHING: _R.FAILED,
}

REFUND_TABLE: Mapping[RefundStatus, Mapping[RefundOutcome, RefundStatus]] = {
    _R.QUEUED: {_RO.CREDITED: _R.SUCCEEDED, _RO.POSTED: _R.SENDING, _RO.CANCELED: _R.CANCELED},
    _R.AWAITING_APPROVAL: {
        _RO.APPROVED: _R.QUEUED,
        _RO.REJECTED: _R.REJECTED,
        _RO.CANCELED: _R.CANCELED,
        _RO.POSTED: _R.SENDING,
    },
    _R.SENDING: _BY_THE_LEGS,
    _R.PENDING: _BY_THE_LEGS,
    _R.REVERSING: _BY_THE_LEGS,
    _R.NEEDS_ATTENTION: _BY_THE_LEGS,
    # An end reopens only by the processor's later word. What was never sent, as far as this database knows, may have
    # been sent by one that it is a backup or a copy of.
    _R.SUCCEEDED: _BY_THE_LEGS,
    _R.PARTIALLY_SUCCEEDED: _BY_THE_LEGS,
    _R.FAILED: _BY_THE_LEGS,
    _R.REJECTED: {_RO.POSTED: _R.SENDING},
    _R.CANCELED: {_RO.POSTED: _R.SENDING},
}


class Action(StrEnum):
    """What a person may do with a refund."""

    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    RETRY = "retry"
    RESOLVE = "resolve"


ACTIONS: Mapping[Action, frozenset[RefundStatus]] = {
    Action.APPROVE: frozenset({_R.AWAITING_APPROVAL}),
    Action.REJECT: frozenset({_R.AWAITING_APPROVAL}),
    Action.CANCEL: frozenset({_R.QUEUED, _R.AWAITING_APPROVAL}),
    Action.RETRY: frozenset({_R.NEEDS_ATTENTION}),
    Action.RESOLVE: frozenset({_R.NEEDS_ATTENTION, _R.SENDING}),
}

ACTIVE = frozenset(_L) - {_L.SUCCEEDED, _L.FAILED, _L.CANCELED}
UNPAID_FINAL = frozenset({_L.FAILED, _L.CANCELED})
# What the processor has or may have: no person may say the opposite while it stands.
WITH_PROCESSOR = frozenset({_L.SENDING, _L.UNKNOWN, _L.PENDING, _L.REQUIRES_ACTION})


def first_refund_status(*, needs_approval: bool) -> RefundStatus:
    """The status of a refund that was just accepted."""
    return _R.AWAITING_APPROVAL if needs_approval else _R.QUEUED


def first_leg_status(amount_minor: int) -> LegStatus:
    """The status of a leg that was just planned. One of no money is never sent: it counts as paid with the others."""
    return _L.PLANNED if amount_minor else _L.SUCCEEDED


def next_leg_status(status: LegStatus, outcome: LegOutcome) -> LegStatus:
    """The table's word; raises `ImpossibleMove` where it has none."""
    try:
        return LEG_TABLE[status][outcome]
    except KeyError:
        raise ImpossibleMove(f"a leg that is {status} can't become {outcome}") from None


def next_refund_status(status: RefundStatus, outcome: RefundOutcome) -> RefundStatus:
    """The table's word; raises `ImpossibleMove` where it has none."""
    try:
        return REFUND_TABLE[status][outcome]
    except KeyError:
        raise ImpossibleMove(f"a refund that is {status} can't become {outcome}") from None


def combined_outcome(legs: Iterable[Leg], credits_to_reverse: int) -> RefundOutcome:
    """What the legs of a refund come to together. `credits_to_reverse` are those given up and not yet given back."""
    legs = tuple(legs)
    waiting_for = {leg.status for leg in legs if leg.status in ACTIVE or not _is_settled(leg)}
    if any(leg.attention_code for leg in legs):
        return RefundOutcome.STUCK
    if waiting_for - {_L.PENDING, _L.REQUIRES_ACTION}:
        return RefundOutcome.ASKING
    if waiting_for:
        return RefundOutcome.WAITING
    if credits_to_reverse:
        return RefundOutcome.RETURNING
    paid = sum(leg.amount_minor for leg in legs if leg.status is _L.SUCCEEDED)
    if paid == 0:
        return RefundOutcome.PAID_NOTHING
    return RefundOutcome.PAID if paid >= asked_minor(legs) else RefundOutcome.PAID_IN_PART


def _is_settled(leg: Leg) -> bool:
    return leg.reallocated or leg.status not in UNPAID_FINAL


def asked_minor(legs: Iterable[Leg]) -> int:
    """The money first promised: the legs that stand in for a failed one ask for nothing new."""
    return sum(leg.amount_minor for leg in legs if leg.replaces is None)


def available_actions(refund: Refund) -> tuple[Action, ...]:
    """What a person may do now, from the table."""
    return tuple(action for action in Action if is_allowed(action, refund))


def is_allowed(action: Action, refund: Refund) -> bool:
    """Whether the table offers it now. Of `resolve` only the word "paid by hand" where an answer `is_missing`."""
    if refund.status not in ACTIONS[action]:
        return False
    if action is not Action.RESOLVE:
        return True
    if is_missing(refund):
        return not any(leg.status is _L.SENDING for leg in refund.legs)
    nobody_may_pay = not any(leg.status in WITH_PROCESSOR for leg in refund.legs)
    return refund.status is _R.NEEDS_ATTENTION and nobody_may_pay


def is_missing(refund: Refund) -> bool:
    """Whether an answer of the processor's is missing: a person may say that they paid, not that nobody did."""
    return any(leg.status is _L.UNKNOWN for leg in refund.legs)
