"""The transition tables: which status follows which outcome. Nothing else decides about statuses.

There are two linked machines. A leg moves by the outcome of its call at the processor. A refund moves by its first
step, by a person's action, and by the outcome of its legs together (`combined_outcome`). The state diagrams of the
documentation, the API's `available_actions` and the console's buttons are made from these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from refund_worker.domain.refund import NOT_YET_POSTED, Leg, LegStatus, ObjectState, Refund, RefundStatus
from refund_worker.errors import RefundWorkerError


class LegOutcome(StrEnum):
    """The events that move a leg. The values are stored and stay; the names are today's."""

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
    NO_ANSWER = "silence"  # the outcome is open: no answer, a dead worker, a refusal to check first, a person's retry
    NOT_FOUND = "absent"  # proved that nothing exists: a new attempt is allowed
    ABANDONED = "given_up"
    PAID_MANUALLY = "paid_by_hand"
    CANCEL_REQUESTED = "cancel_asked"  # by a person, while the object waits for the customer
    DISPLACED = "displaced"  # others took the money of its payment, or closed it, before it was sent
    RELEASED = "released"  # the refund was canceled or rejected before anything was sent


class RefundOutcome(StrEnum):
    """The events that move a refund. The values are stored and stay; the names are today's."""

    CREDITED = "credited"  # to balance: the entry is posted, and nothing else follows
    POSTED = "posted"  # to source: the entries are posted, money is asked for
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELED = "canceled"
    # The outcome of the legs together; the first that applies:
    NEEDS_ATTENTION = "stuck"
    IN_PROGRESS = "asking"
    PENDING = "waiting"
    REVERSING = "returning"
    PAID = "paid"
    PAID_IN_PART = "paid_in_part"
    NOT_PAID = "paid_nothing"


class ImpossibleMove(RefundWorkerError):
    """An outcome that the table does not have for this status: our own bug, and nothing is written."""

    code = "impossible_move"


_L, _LO = LegStatus, LegOutcome
_R, _RO = RefundStatus, RefundOutcome

# A reported state of an object is accepted in every status. Older and repeated states were already discarded by
# comparing `OBJECT_RANK`.
_REPORTED = {
    _LO.ACCEPTED: _L.PENDING,
    _LO.REQUIRES_CUSTOMER: _L.REQUIRES_ACTION,
    _LO.PAID: _L.SUCCEEDED,
    _LO.OBJECT_FAILED: _L.FAILED,
    _LO.OBJECT_CANCELED: _L.CANCELED,
}
# While the leg is open, an empty balance of ours at the processor does not end it. A refund that had succeeded and then
# fails is a failure.
_REPORTED_WHILE_OPEN = {**_REPORTED, _LO.UNFUNDED: _L.BLOCKED}
_BY_A_PERSON = {_LO.ABANDONED: _L.CANCELED, _LO.PAID_MANUALLY: _L.SUCCEEDED}

LEG_TABLE: Mapping[LegStatus, Mapping[LegOutcome, LegStatus]] = {
    # BLOCKED from planned, waiting or blocked: the list that is read before a send shows what forbids it.
    _L.PLANNED: {
        _LO.SENT: _L.SENDING,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.RELEASED: _L.CANCELED,
        _LO.DISPLACED: _L.CANCELED,
        **_BY_A_PERSON,
        **_REPORTED_WHILE_OPEN,
    },
    _L.SENDING: {
        _LO.REFUSED: _L.FAILED,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.NOT_EXECUTED: _L.WAITING,
        _LO.NO_ANSWER: _L.UNKNOWN,
        **_REPORTED_WHILE_OPEN,
    },
    _L.WAITING: {
        _LO.SENT: _L.SENDING,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.DISPLACED: _L.CANCELED,
        **_BY_A_PERSON,
        **_REPORTED_WHILE_OPEN,
    },
    _L.UNKNOWN: {
        _LO.SENT: _L.SENDING,
        _LO.NO_ANSWER: _L.UNKNOWN,
        _LO.NOT_FOUND: _L.WAITING,
        _LO.REFUSED: _L.FAILED,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.PAID_MANUALLY: _L.SUCCEEDED,
        **_REPORTED_WHILE_OPEN,
    },
    _L.BLOCKED: {
        _LO.SENT: _L.SENDING,
        _LO.BLOCKED: _L.BLOCKED,
        _LO.NO_ANSWER: _L.UNKNOWN,
        _LO.DISPLACED: _L.CANCELED,
        **_BY_A_PERSON,
        **_REPORTED_WHILE_OPEN,
    },
    # NO_ANSWER here: the pending object belonged to an older attempt, and the current one is still unanswered.
    # _BY_A_PERSON: only if no event came about an object that cannot be asked for.
    _L.PENDING: {_LO.NO_ANSWER: _L.UNKNOWN, **_BY_A_PERSON, **_REPORTED_WHILE_OPEN},
    _L.REQUIRES_ACTION: {
        _LO.NO_ANSWER: _L.UNKNOWN,
        _LO.CANCEL_REQUESTED: _L.REQUIRES_ACTION,
        **_REPORTED_WHILE_OPEN,
    },
    # A zero-amount leg is never sent. It counts as paid until all others have failed.
    _L.SUCCEEDED: {_LO.RELEASED: _L.CANCELED, _LO.ABANDONED: _L.CANCELED, **_REPORTED},
    # PAID_MANUALLY: a person paid while another payment was still to be found.
    _L.FAILED: {_LO.PAID_MANUALLY: _L.SUCCEEDED, **_REPORTED},
    _L.CANCELED: {_LO.PAID_MANUALLY: _L.SUCCEEDED, **_REPORTED},
}

_BY_THE_LEGS = {
    _RO.NEEDS_ATTENTION: _R.NEEDS_ATTENTION,
    _RO.IN_PROGRESS: _R.SENDING,
    _RO.PENDING: _R.PENDING,
    _RO.REVERSING: _R.REVERSING,
    _RO.PAID: _R.SUCCEEDED,
    _RO.PAID_IN_PART: _R.PARTIALLY_SUCCEEDED,
    _RO.NOT_PAID: _R.FAILED,
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
    # A final status reopens only by a later report of the processor. A refund that this database never sent may have
    # been sent by the database of which it is a backup or a copy.
    _R.SUCCEEDED: _BY_THE_LEGS,
    _R.PARTIALLY_SUCCEEDED: _BY_THE_LEGS,
    _R.FAILED: _BY_THE_LEGS,
    _R.REJECTED: {_RO.POSTED: _R.SENDING},
    _R.CANCELED: {_RO.POSTED: _R.SENDING},
}


class Action(StrEnum):
    """The actions that a person may take on a refund."""

    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    RETRY = "retry"
    RESOLVE = "resolve"


ACTIONS: Mapping[Action, frozenset[RefundStatus]] = {
    Action.APPROVE: frozenset({_R.AWAITING_APPROVAL}),
    Action.REJECT: frozenset({_R.AWAITING_APPROVAL}),
    # From `sending` on: of a leg whose object waits for the customer.
    Action.CANCEL: frozenset({_R.QUEUED, _R.AWAITING_APPROVAL, _R.SENDING, _R.PENDING, _R.NEEDS_ATTENTION}),
    Action.RETRY: frozenset({_R.NEEDS_ATTENTION}),
    Action.RESOLVE: frozenset({_R.NEEDS_ATTENTION, _R.SENDING}),
}

# Groups of legs' statuses; those of refunds are in `domain/refund.py`.
FINAL_LEGS = (_L.SUCCEEDED, _L.FAILED, _L.CANCELED)
ACTIVE = frozenset(_L) - frozenset(FINAL_LEGS)
UNPAID_FINAL = frozenset({_L.FAILED, _L.CANCELED})
# A call is under way for the leg, or its outcome is open.
AWAITING_ANSWER = frozenset({_L.SENDING, _L.UNKNOWN})
# The leg has an open object at the processor, which is asked for until it is final.
POLLED = frozenset({_L.PENDING, _L.REQUIRES_ACTION})
# The processor has the leg, or may have it. Until that ends, no person may say the opposite.
WITH_PROCESSOR = AWAITING_ANSWER | POLLED
# No call is under way, and a send comes next.
TO_BE_SENT = frozenset({_L.PLANNED, _L.WAITING, _L.BLOCKED})
# A send comes next, or after an unanswered one a look-up that may lead to a send.
AWAITING_SEND = (_L.PLANNED, _L.WAITING, _L.UNKNOWN, _L.BLOCKED)
MAY_BE_SENT = frozenset({*AWAITING_SEND, _L.SENDING})


def first_refund_status(*, needs_approval: bool) -> RefundStatus:
    """Return the status of a refund that was just accepted."""
    return _R.AWAITING_APPROVAL if needs_approval else _R.QUEUED


def first_leg_status(amount_minor: int) -> LegStatus:
    """Return the status of a leg that was just planned. A zero-amount leg is never sent: it counts as paid."""
    return _L.PLANNED if amount_minor else _L.SUCCEEDED


def next_leg_status(status: LegStatus, outcome: LegOutcome) -> LegStatus:
    """Return the status that the table has for the outcome. Raises `ImpossibleMove` if it has none."""
    try:
        return LEG_TABLE[status][outcome]
    except KeyError:
        raise ImpossibleMove(f"a leg that is {status} cannot become {outcome}") from None


def next_refund_status(status: RefundStatus, outcome: RefundOutcome) -> RefundStatus:
    """Return the status that the table has for the outcome. Raises `ImpossibleMove` if it has none."""
    try:
        return REFUND_TABLE[status][outcome]
    except KeyError:
        raise ImpossibleMove(f"a refund that is {status} cannot become {outcome}") from None


def combined_outcome(legs: Iterable[Leg], credits_to_reverse: int) -> RefundOutcome:
    """Return the outcome of all legs of a refund together.

    `credits_to_reverse` are the credits of abandoned or failed legs that were not returned yet.
    """
    legs = tuple(legs)
    waiting_for = {leg.status for leg in legs if leg.status in ACTIVE or not _is_settled(leg)}
    if any(leg.attention_code for leg in legs):
        return RefundOutcome.NEEDS_ATTENTION
    if waiting_for - {_L.PENDING, _L.REQUIRES_ACTION}:
        return RefundOutcome.IN_PROGRESS
    if waiting_for:
        return RefundOutcome.PENDING
    if credits_to_reverse:
        return RefundOutcome.REVERSING
    paid = sum(leg.amount_minor for leg in legs if leg.status is _L.SUCCEEDED)
    if paid == 0:
        return RefundOutcome.NOT_PAID
    return RefundOutcome.PAID if paid >= asked_minor(legs) else RefundOutcome.PAID_IN_PART


def _is_settled(leg: Leg) -> bool:
    return leg.reallocated or leg.status not in UNPAID_FINAL


def asked_minor(legs: Iterable[Leg]) -> int:
    """Return the minor units first promised. A leg that replaces a failed one asks for no new money."""
    return sum(leg.amount_minor for leg in legs if leg.replaces is None)


def available_actions(refund: Refund) -> tuple[Action, ...]:
    """Return the actions that a person may take now, from the table."""
    return tuple(action for action in Action if is_allowed(action, refund))


def is_allowed(action: Action, refund: Refund) -> bool:
    """Return True if the table offers the action now.

    While `answer_is_missing`, `resolve` can only record a manual payment.
    """
    if refund.status not in ACTIONS[action]:
        return False
    if action is Action.CANCEL:
        return refund.status in NOT_YET_POSTED or any(is_cancelable(leg) for leg in refund.legs)
    if action is not Action.RESOLVE:
        return True
    if answer_is_missing(refund):
        return not any(leg.status is _L.SENDING for leg in refund.legs)
    nothing_may_pay = not any(leg.status in WITH_PROCESSOR and not lacks_its_event(leg) for leg in refund.legs)
    return refund.status is _R.NEEDS_ATTENTION and nothing_may_pay


def lacks_its_event(leg: Leg) -> bool:
    """Return True if only an event tells the outcome of the leg's object, and none came in time.

    Nothing of this program can learn the outcome. A person can look at the processor.
    """
    return leg.status is _L.PENDING and leg.attention_code is not None and leg.next_at is None


def is_cancelable(leg: Leg) -> bool:
    """Return True if the leg's object waits for the customer and no person cancels it yet."""
    return waits_for_customer(leg) and leg.canceling is None


def waits_for_customer(leg: Leg) -> bool:
    """Return True if the customer must act. The processor's last word tells whether they have acted meanwhile."""
    has_acted = leg.report is not None and leg.report.status == ObjectState.PENDING
    return leg.status is _L.REQUIRES_ACTION and not has_acted


def answer_is_missing(refund: Refund) -> bool:
    """Return True if an answer of the processor is missing.

    A person may then say that they paid, but not that no money was paid. A leg that is blocked by refunds of others can
    have an unanswered call of ours too.
    """
    return any(leg.status is _L.UNKNOWN or (leg.status is _L.BLOCKED and leg.unanswered) for leg in refund.legs)
