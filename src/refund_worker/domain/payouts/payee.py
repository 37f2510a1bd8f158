"""Payees, their balances, and why nothing is paid to one now. Amounts are in minor units, times in epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import Method, PayeeState

REFUSED_BY_PROCESSOR = "refused_by_processor"  # all that is said of a destination after a compliance outcome
CUSTOMER_ERASED = "customer_erased"  # the destination was erased with the customer: nothing is paid before a new one


class PayeeStatus(StrEnum):
    """The status of a payee."""

    INCOMPLETE = "incomplete"  # the payee must act first
    UNDER_REVIEW = "under_review"
    READY = "ready"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payee:
    """A person who is paid out, over one account at a processor.

    `destination_box` is the sealed destination; `destination_id` changes with it. `destination_ref` is the
    processor's id of it, if that is no secret, such as a connected account. `destination_failure` is the code of
    the payout that failed there for a fault of the payee's, or says that it was erased. `verdict` is the processor's
    last one, with its reason, the payee's missing parts and until when they must be there. `blocked_by` names a payout
    whose money a person must decide about first.
    """

    payee_id: str
    customer_id: str | None
    processor: str
    currency: str
    country: str | None
    method: Method
    destination_id: str
    destination_kind: DestinationKind
    destination_box: str
    destination_masked: str
    destination_changed_at: float
    destination_ref: str | None = None
    destination_failure: str | None = None
    verdict: PayeeState | None = None
    verdict_reason: str | None = None
    verdict_needs: tuple[str, ...] = ()
    verdict_act_by: float | None = None
    verdict_read_at: float | None = None
    paused_by: str | None = None
    paused_at: float | None = None
    pause_reason: str | None = None
    blocked_by: str | None = None
    version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def status(self) -> PayeeStatus:
        """Return the status: a person's pause comes first, then what the payee must do, then a review."""
        if self.paused_by is not None:
            return PayeeStatus.PAUSED
        if self.destination_failure == REFUSED_BY_PROCESSOR:
            return PayeeStatus.UNDER_REVIEW  # the payee can do nothing about it
        if self.destination_failure is not None or self.verdict is PayeeState.INCOMPLETE:
            return PayeeStatus.INCOMPLETE
        if self.blocked_by is not None or self.verdict in (PayeeState.UNDER_REVIEW, PayeeState.REFUSED):
            return PayeeStatus.UNDER_REVIEW
        return PayeeStatus.READY

    @property
    def status_reason(self) -> str | None:
        """Return why the status is what it is, as a code, or None. Of a processor's refusal it says nothing more."""
        if self.paused_by is not None:
            return self.pause_reason
        if self.destination_failure is not None:
            return self.destination_failure
        if self.verdict is PayeeState.REFUSED:
            return REFUSED_BY_PROCESSOR
        if self.blocked_by is not None:
            return "transfer_not_undone"
        return self.verdict_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PayeeRecord:
    """A payee as the admin backend sends it. `processor` is the account that pays."""

    payee_id: str
    customer_id: str | None
    processor: str
    destination: Destination
    currency: str
    country: str | None
    method: Method


@dataclass(frozen=True, slots=True)
class DestinationSince:
    """The destination of a payee now, and since when (epoch seconds)."""

    destination_id: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class PayeeBalance:
    """The sums of a payee in one currency. `held_minor` is the part of earnings that is not available yet.

    Nothing is stored about debts: they are what was paid or is on its way beyond what is left of the earnings that are
    available. So earnings pay a debt when they become available.
    """

    earned_minor: int = 0
    clawed_back_minor: int = 0
    in_flight_minor: int = 0
    paid_minor: int = 0
    held_minor: int = 0
    last_payout_at: float | None = None

    @property
    def net_minor(self) -> int:
        """Return what we owe the payee, below zero if the payee owes us."""
        return self.earned_minor - self.clawed_back_minor - self.in_flight_minor - self.paid_minor

    @property
    def payable_minor(self) -> int:
        """Return what can be paid out now."""
        return max(0, self.net_minor - self.held_minor)

    @property
    def debt_minor(self) -> int:
        """Return what the payee owes: spends were refunded whose share was paid out before."""
        return max(0, self.held_minor - self.net_minor)

    @property
    def balance_minor(self) -> int:
        """Return what is payable now or later, before debts."""
        return self.payable_minor + self.held_minor


@dataclass(frozen=True, slots=True)
class BalanceDelta:
    """Signed changes to a payee's sums, in minor units. False if it changes nothing."""

    earned_minor: int = 0
    clawed_back_minor: int = 0
    in_flight_minor: int = 0
    paid_minor: int = 0

    def __bool__(self) -> bool:
        return bool(self.earned_minor or self.clawed_back_minor or self.in_flight_minor or self.paid_minor)

    def __add__(self, other: BalanceDelta) -> BalanceDelta:
        return BalanceDelta(
            self.earned_minor + other.earned_minor,
            self.clawed_back_minor + other.clawed_back_minor,
            self.in_flight_minor + other.in_flight_minor,
            self.paid_minor + other.paid_minor,
        )


NO_CHANGE = BalanceDelta()
