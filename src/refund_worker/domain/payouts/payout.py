"""Payouts and their legs. Times are in epoch seconds, by the database's clock; amounts are integers in minor units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from refund_worker.domain.payouts.payee import DestinationSince
from refund_worker.domain.payouts.transfers import Fault, Method, Step
from refund_worker.domain.refund import Doubt, LegStatus, ObjectState
from refund_worker.domain.send_state import SendState


class PayoutStatus(StrEnum):
    """The status of a payout."""

    QUEUED = "queued"
    AWAITING_APPROVAL = "awaiting_approval"
    HELD = "held"  # another payout to the payee is open, or the payee cannot be paid yet
    SENDING = "sending"
    PENDING = "pending"
    RECIPIENT_ACTION = "recipient_action"  # the payee must act at the processor
    PAID = "paid"  # not final: the money may still come back
    RETURNING = "returning"  # its transfer is being undone
    NEEDS_ATTENTION = "needs_attention"
    SETTLED = "settled"  # paid, and the window for returns has passed
    FAILED = "failed"
    RETURNED = "returned"  # the money came back after it was paid, or after the payee did not act
    CANCELED = "canceled"
    REJECTED = "rejected"


# A paid step whose money may still come back is asked for this often: each event about it can be lost for good.
RETURN_CHECK_SECONDS = 86_400.0
_S = PayoutStatus
PAYOUT_ENDS = (_S.SETTLED, _S.FAILED, _S.RETURNED, _S.CANCELED, _S.REJECTED)
PAYOUT_UNPOSTED = (_S.QUEUED, _S.AWAITING_APPROVAL, _S.HELD)  # its ledger entries follow
PAYOUT_PAID = (_S.PAID, _S.SETTLED)
PAYOUT_UNPAID_ENDS = tuple(status for status in PAYOUT_ENDS if status not in PAYOUT_PAID)
# Neither paid nor ended: a payee has at most one of these in a currency that is not held.
PAYOUT_OPEN = tuple(status for status in _S if status not in (*PAYOUT_ENDS, _S.PAID))
# Open, and begun or about to begin: another payout to the payee waits for it.
PAYOUT_BEGUN = tuple(status for status in PAYOUT_OPEN if status not in (_S.HELD, _S.AWAITING_APPROVAL))
# Ended before anything was sent: it counts in no limit.
PAYOUT_UNSENT_ENDS = (_S.CANCELED, _S.REJECTED)


class PayoutSource(StrEnum):
    """The source of a payout's money."""

    EARNINGS = "earnings"  # the payee's balance
    WITHDRAWAL = "withdrawal"  # credits of the customer, that no payment can take back


_AGAIN = "."  # between a payout's id and how often its amount was given back before


@dataclass(frozen=True, slots=True)
class KnownTransfer:
    """A transfer object of the processor, in the last state that was applied to this leg.

    `returned_minor` is the amount that came back, in minor units, or None if no report has it.
    """

    object_id: str
    state: ObjectState
    attempt: int | None = None
    returned_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutLeg(SendState):
    """One step of a payout. `SendState` describes the fields about its calls.

    `object_id` is what pays the leg: its object, or "manual:" and a reference. `canceling`: a person calls off its
    object, which waits for the payee. `undoes` is the object that a reversal undoes. `file_id` is the bank file that
    carries the leg. `unknown_objects` are the ids of its objects that may pay and are not understood: their
    status is not known, or they are not as asked for.
    """

    leg_id: str
    payout_id: str
    number: int
    step: Step
    processor: str
    amount_minor: int
    currency: str
    status: LegStatus = LegStatus.PLANNED
    attempt: int = 1
    sends: int = 0
    retry_count: int = 0
    blocked_count: int = 0
    first_sent_at: float | None = None
    last_sent_at: float | None = None
    in_doubt: Doubt | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    fault: Fault | None = None
    attention_code: str | None = None
    object_id: str | None = None
    manual_reference: str | None = None
    next_at: float | None = None
    listed_at: float | None = None
    held: bool = False
    canceling: bool = False
    undoes: str | None = None
    file_id: str | None = None
    objects: tuple[KnownTransfer, ...] = ()
    unknown_objects: tuple[str, ...] = ()


class PayoutLegChanges(TypedDict, total=False):
    """The fields of a payout's leg that a decision may change, except its status."""

    amount_minor: int
    attempt: int
    sends: int
    retry_count: int
    blocked_count: int
    first_sent_at: float | None
    last_sent_at: float | None
    in_doubt: Doubt | None
    failure_code: str | None
    failure_message: str | None
    fault: Fault | None
    attention_code: str | None
    object_id: str | None
    manual_reference: str | None
    next_at: float | None
    listed_at: float | None
    held: bool
    canceling: bool
    file_id: str | None
    objects: tuple[KnownTransfer, ...]
    unknown_objects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRequest:
    """One request for a payout of earnings, checked for syntax.

    `amount_minor` is None for all that is payable. `client`, `actor`, `requested_by` and `requested_at` are as for a
    refund. `approved`: a person has approved the run that it belongs to.
    """

    idempotency_key: str
    payee_id: str
    currency: str
    amount_minor: int | None = None
    description: str = ""
    client: str = "default"
    actor: str = "unknown"
    requested_by: str | None = None
    run_id: str | None = None
    bulk: bool = False
    approved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """One accepted payout to a payee, and everything that decides what happens to it next.

    The destination is that of the request's time: `destination_id` pins it. `connected_account` is its account at the
    processor, if it is one. `times_paid` counts how often it became paid, and `return_count` how often its amount went
    back to the balance. `lost_minor` is what did not come back when it was returned.
    """

    payout_id: str
    client: str
    idempotency_key: str
    payee_id: str
    processor: str
    amount_minor: int
    currency: str
    description: str
    source: PayoutSource
    method: Method
    country: str | None
    destination_id: str
    destination_box: str = field(repr=False)
    destination_masked: str
    connected_account: str | None
    status: PayoutStatus
    version: int
    created_at: float
    updated_at: float
    requested_by: str
    requested_by_note: str | None = None
    refund_id: str | None = None
    refund_leg_id: str | None = None
    run_id: str | None = None
    ledger_posted: bool = False
    given_back: bool = False
    return_count: int = 0
    times_paid: int = 0
    paid_at: float | None = None
    settles_at: float | None = None
    hold_code: str | None = None
    hold_until: float | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    fault: Fault | None = None
    act_by: float | None = None
    lost_minor: int = 0
    priority: int = 0
    due_at: float | None = None
    lease_until: float | None = None
    lease_token: str | None = None
    legs: tuple[PayoutLeg, ...] = ()

    @property
    def is_ended_unpaid(self) -> bool:
        """Return True if the payout takes nothing from the balance: it ended before its entries, or gave them back."""
        return self.given_back or (not self.ledger_posted and self.status in PAYOUT_ENDS)

    @property
    def forward_legs(self) -> tuple[PayoutLeg, ...]:
        """Return the legs that bring the money to the payee, in order."""
        return tuple(leg for leg in self.legs if leg.step is not Step.REVERSAL)


def object_id_of(payout_id: str, returns: int) -> str:
    """Return the id of the payout as the object of a refund's leg: another one after each time it was given back."""
    return f"{payout_id}{_AGAIN}{returns}" if returns else payout_id


def payout_of_object(object_id: str) -> str:
    """Return the id of the payout that is this object of a refund's leg."""
    return object_id.partition(_AGAIN)[0]


def changed_destination(payout: Payout, now_at: Mapping[str, DestinationSince]) -> float | None:
    """Return since when (epoch seconds) the payee has another destination than the payout goes to, or None.

    `now_at` has the destination of each payee now. It is None too for a payout that is paid or has ended.
    """
    known = now_at.get(payout.payee_id)
    if known is None or payout.status not in PAYOUT_OPEN or known.destination_id == payout.destination_id:
        return None
    return known.changed_at
