"""Refunds and their legs. Times are in epoch seconds, by the database's clock; amounts are integers in minor units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from refund_worker.domain.processor_replies import PROCESSING, RefundDetails
from refund_worker.domain.send_state import SendState


class Kind(StrEnum):
    """The kind of a refund: credits that were spent, or credits that are still on the balance."""

    CREDIT_REFUND = "credit_refund"
    WITHDRAWAL = "withdrawal"


class To(StrEnum):
    """The target of a refund: the customer's balance of credits, the source of the money, or a payee.

    Only a request as its author writes it has `PAYOUT`. A checked request and a refund have `SOURCE` and the payee,
    because the money goes back over the customer's own payments as far as they can take it.
    """

    BALANCE = "balance"
    SOURCE = "source"
    PAYOUT = "payout"


class RefundStatus(StrEnum):
    """The status of a refund."""

    QUEUED = "queued"
    AWAITING_APPROVAL = "awaiting_approval"
    SENDING = "sending"
    PENDING = "pending"
    REVERSING = "reversing"
    NEEDS_ATTENTION = "needs_attention"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELED = "canceled"


# Groups of refunds' statuses. Nothing outside of the domain lists statuses of its own.
ENDED_PAID = (RefundStatus.SUCCEEDED, RefundStatus.PARTIALLY_SUCCEEDED)
ENDED_UNSENT = (RefundStatus.REJECTED, RefundStatus.CANCELED)  # before any money was asked for
ENDED_UNPAID = (RefundStatus.FAILED, *ENDED_UNSENT)
FINAL = frozenset({*ENDED_PAID, *ENDED_UNPAID})
NON_FINAL = tuple(status for status in RefundStatus if status not in FINAL)
WAITING_FOR_PERSON = (RefundStatus.NEEDS_ATTENTION, RefundStatus.AWAITING_APPROVAL)
UNDER_WAY = tuple(status for status in NON_FINAL if status not in WAITING_FOR_PERSON)
NOT_YET_POSTED = (RefundStatus.QUEUED, RefundStatus.AWAITING_APPROVAL)  # its ledger entries follow
POSTED_UNENDED = tuple(status for status in NON_FINAL if status not in NOT_YET_POSTED)
FAILED_TO_PAY_ALL = (RefundStatus.FAILED, RefundStatus.PARTIALLY_SUCCEEDED)  # an end with a failure code
TROUBLED = (RefundStatus.NEEDS_ATTENTION, RefundStatus.FAILED)


class LegStatus(StrEnum):
    """The status of a leg."""

    PLANNED = "planned"
    SENDING = "sending"  # the intent is committed; a call may be under way
    WAITING = "waiting"  # proved not executed: to be sent again
    UNKNOWN = "unknown"  # the outcome is open: the same key again, or a look-up; `Leg.in_doubt` says which
    BLOCKED = "blocked"  # no call is under way: it waits for a later try or a person
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class ObjectState(StrEnum):
    """The state of one refund object at the processor. A higher `OBJECT_RANK` replaces a lower one."""

    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


# A total order, so that the result does not depend on the order of the reports.
OBJECT_RANK: Mapping[ObjectState, int] = {
    ObjectState.PENDING: 0,
    ObjectState.REQUIRES_ACTION: 1,
    ObjectState.SUCCEEDED: 2,
    ObjectState.CANCELED: 3,
    ObjectState.FAILED: 4,
}
# An object in one of these has paid or may still pay.
LIVE_OBJECT_STATES = frozenset({ObjectState.PENDING, ObjectState.REQUIRES_ACTION, ObjectState.SUCCEEDED})
# No money goes out for an object in one of these. A processor's own status is compared with them unchanged.
UNPAID_OBJECT_STATES = frozenset(ObjectState) - LIVE_OBJECT_STATES
# In the stored status of a mismatched object, between its own status and what does not fit.
MISMATCH_SEPARATOR = ": "


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """One request for a refund, checked for syntax.

    `client` scopes the idempotency key. `actor` is the name that the entry point authenticated. `requested_by` is the
    caller's own claim of who asked: a note that decides nothing. `left_seen` is the number of credits that the
    author of the request saw left of the transaction; it is checked unless it is None.
    """

    idempotency_key: str
    kind: Kind
    to: To
    customer_id: str
    transaction_id: str | None = None
    credits: int | None = None
    currency: str | None = None
    reason: str
    note: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    client: str = "default"
    actor: str = "unknown"
    requested_by: str | None = None
    requested_at: float | None = None
    bulk: bool = False
    left_seen: int | None = None
    instructions_email: str | None = field(default=None, repr=False)  # where the processor writes to the customer
    destinations: str | None = None  # the ways of the fallback that may be tried, separated by commas, or None
    payee_id: str | None = None  # a withdrawal to this payee, of what the customer's payments cannot take back


@dataclass(frozen=True, slots=True)
class KnownRefundObject:
    """A refund object of the processor, in the last state that was applied to this leg."""

    processor_refund_id: str
    state: ObjectState
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """The processor's last report of a refund object, in its own words. It is shown, and makes no leg paid.

    `status` is as stored: that of a mismatched object says what does not fit. Times are in epoch seconds.
    `moving_since` is the time of the report that ended its wait for a customer, a payment or our balance. It is
    `created_at` if it did not wait.
    """

    processor_refund_id: str
    status: str | None
    created_at: float
    moving_since: float
    details: RefundDetails

    @property
    def waits(self) -> bool:
        """Return True if its money cannot move yet: the customer, the payment or our balance comes first."""
        if self.status == ObjectState.REQUIRES_ACTION.value:
            return True
        return self.details.pending_reason not in (None, PROCESSING)


class RefusalKind(StrEnum):
    """The meaning of a refused send for the leg, once it is certain that nothing else exists.

    The last two are no refusals of the processor: they are our own verdicts on a list, and a person decides.
    """

    REFUSED = "refused"  # final: this payment cannot be used
    OVER_REFUND = "over_refund"  # the payment has less left than our records say
    BLOCKED = "blocked"  # not possible now
    ALREADY_REFUNDED = "already_refunded"  # the payment was refunded in full, by us or by others
    MISCONFIGURED = "misconfigured"
    UNKNOWN = "unknown_refusal"  # a code that we do not know: a person reads it
    KEY_CONFLICT = "key_conflict"  # the key was used with other parameters; a key in use is `Busy`
    ANSWER_MISMATCH = "answer_mismatch"  # an object carries the leg's id and is something else
    OUTCOME_UNKNOWN = "outcome_unknown"  # nothing was found after the key's life


class Canceling(StrEnum):
    """How far a person's decision is to cancel the leg's object at the processor. The object's status decides."""

    REQUESTED = "requested"  # the call is still to be made
    CALLED = "called"  # the intent to call is committed and its outcome is open: the object is read next
    REFUSED = "refused"  # the processor refused it: the object is read next, and shows why


@dataclass(frozen=True, slots=True)
class Doubt:
    """The open questions about the calls that were made for a leg. A leg without any has no doubt."""

    unanswered: bool = False  # the outcome of an earlier call is not known: it may still land
    lookup_required: bool = False  # the key is not sent again: a look-up, and then a new key, an end or a person
    refusal: RefusalKind | None = None  # takes effect once it is certain that nothing exists

    @classmethod
    def of(
        cls, *, unanswered: bool = False, lookup_required: bool = False, refusal: RefusalKind | None = None
    ) -> Doubt | None:
        """Return the doubt, or None if there is nothing to doubt."""
        return cls(unanswered, lookup_required, refusal) if unanswered or lookup_required or refusal else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg(SendState):
    """The part of a refund that goes back over one payment.

    `credits` are the refund's credits that it carries, `payment_credits` the credits that it takes of the payment.
    `SendState` describes the fields about its calls.
    """

    leg_id: str
    refund_id: str
    payment_id: str
    processor: str
    processor_payment_id: str
    amount_minor: int
    currency: str
    credits: int
    payment_credits: int
    status: LegStatus = LegStatus.PLANNED
    attempt: int = 1
    sends: int = 0
    retry_count: int = 0
    blocked_count: int = 0
    first_intent_at: float | None = None  # of any attempt: refunds of others since then concern this leg
    first_sent_at: float | None = None  # of the current attempt: a key's life counts from here
    last_sent_at: float | None = None  # of any attempt: the quiet window counts from here
    in_doubt: Doubt | None = None
    times_restored: int = 0  # how often the same payout counted again; part of its posting's id
    failure_code: str | None = None
    failure_message: str | None = None
    attention_code: str | None = None  # why a person is needed
    canceling: Canceling | None = None  # a person cancels its object, which waits for the customer
    processor_refund_id: str | None = None  # what pays the leg: its object, or "manual:" and a reference
    manual_reference: str | None = None  # of the payment that a person recorded for the leg, if it still counts
    reallocated: bool = False  # it is decided where a failed leg's money goes instead
    reversed_credits: int = 0  # credits that go back to the balance for it; `Refund.reversed_credits` went already
    replaces: str | None = None  # the failed leg that it replaces
    next_at: float | None = None
    listed_at: float | None = None  # time of the list that shows nothing against the next send
    held: bool = False  # it waited through a pause or for a person: read the list before a send
    blocked_by: tuple[str, ...] = ()  # refunds that others made over its payment, by their ids at the processor
    acknowledged_outside: tuple[str, ...] = ()  # those that a person has seen and accepted
    objects: tuple[KnownRefundObject, ...] = ()
    # The last report of each of its objects. One that is not understood may have paid.
    reports: tuple[ObjectReport, ...] = field(default=(), compare=False)
    unreturnable_minor: int = 0  # paid by the customer, but no refund can return it: less than a step

    @property
    def report(self) -> ObjectReport | None:
        """Return the report of the object that pays the leg, else of its newest object, or None without any."""
        own = [report for report in self.reports if report.processor_refund_id == self.processor_refund_id]
        return max(own or self.reports, key=lambda report: report.created_at, default=None)


class LegChanges(TypedDict, total=False):
    """The fields of a leg that a decision may change, except its status."""

    amount_minor: int
    credits: int
    payment_credits: int
    attempt: int
    sends: int
    retry_count: int
    blocked_count: int
    times_restored: int
    first_intent_at: float | None
    first_sent_at: float | None
    last_sent_at: float | None
    in_doubt: Doubt | None
    failure_code: str | None
    failure_message: str | None
    attention_code: str | None
    canceling: Canceling | None
    processor_refund_id: str | None
    manual_reference: str | None
    reallocated: bool
    reversed_credits: int
    next_at: float | None
    listed_at: float | None
    held: bool
    blocked_by: tuple[str, ...]
    acknowledged_outside: tuple[str, ...]
    objects: tuple[KnownRefundObject, ...]
    reports: tuple[ObjectReport, ...]
    unreturnable_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One accepted request, and everything that decides what happens to it next."""

    refund_id: str
    client: str
    idempotency_key: str
    kind: Kind
    to: To
    customer_id: str
    transaction_id: str | None
    credits: int
    currency: str | None
    reason: str
    note: str | None
    status: RefundStatus
    version: int
    created_at: float
    updated_at: float
    requested_by: str  # the authenticated actor
    requested_by_note: str | None = None  # who asked, as the caller says
    metadata: Mapping[str, str] = field(default_factory=dict)
    of_correction: bool = False  # a withdrawal that pays out a correction and takes nothing more
    unapproved: bool = False  # a link made it in spite of the limits on refunds: we send nothing for it
    ledger_posted: bool = False  # the ledger entries are made
    reversal_count: int = 0  # how many reversals were posted
    reversed_credits: int = 0
    failure_code: str | None = None
    failure_message: str | None = None
    priority: int = 0
    due_at: float | None = None
    lease_until: float | None = None
    lease_token: str | None = None
    instructions_email: str | None = field(default=None, repr=False)  # erased some time after the end
    destinations: str | None = None  # as in the request
    payee_id: str | None = None  # as in the request
    legs: tuple[Leg, ...] = ()
