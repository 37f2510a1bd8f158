"""The internal step of a refund: what it reserves when accepted, and the entries for the customer's credits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refund_worker.domain.decision import AccountDelta
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.ledger import (
    CLEARING,
    CORRECTIONS,
    CREDITS,
    USED,
    EntryKind,
    customer_account,
    transfer,
)
from refund_worker.domain.refund import ENDED_UNSENT, Kind, LegStatus, Refund, RefundStatus, To
from refund_worker.domain.state_machine import UNPAID_FINAL, LegOutcome, RefundOutcome, next_leg_status


def post_internal_step(builder: DecisionBuilder) -> None:
    """Post the entries of a refund that has none yet.

    A credit refund puts the credits on the balance. If the money goes back to its source, the credits are taken off the
    balance again.
    """
    refund = builder.refund
    customer = customer_account(refund.customer_id)
    if refund.kind is Kind.CREDIT_REFUND:
        builder.account += AccountDelta(balance=refund.credits, net_spent=-refund.credits)
        text = f"Refund of {refund.credits} credits for transaction {refund.transaction_id}"
        builder.post_entry(
            "credit",
            EntryKind.CREDIT_REFUND,
            refund.credits,
            transfer(USED, customer, CREDITS, refund.credits),
            _with_reason(text, refund),
            refund.transaction_id,
        )
    if refund.to is To.SOURCE:
        _take_off_balance(builder, refund, customer)
    builder.refund = replace(refund, ledger_posted=True)
    builder.transition_refund(RefundOutcome.CREDITED if refund.to is To.BALANCE else RefundOutcome.POSTED)


def _take_off_balance(builder: DecisionBuilder, refund: Refund, customer: str) -> None:
    if refund.of_correction:
        entries = transfer(CORRECTIONS, CLEARING, CREDITS, refund.credits)
        text = f"Correction {refund.transaction_id} set aside to be paid out"
        builder.post_entry("assignment", EntryKind.ASSIGNMENT, 0, entries, text, refund.transaction_id)
        return
    if refund.kind is Kind.WITHDRAWAL:
        builder.account += AccountDelta(balance=-refund.credits, held=-refund.credits)
        refers_to = None
    else:
        builder.account += AccountDelta(balance=-refund.credits, withdrawn=refund.credits)
        refers_to = refund.transaction_id
    text = _with_reason(f"Withdrawal of {refund.credits} credits, to be paid back through the paying system", refund)
    entries = transfer(customer, CLEARING, CREDITS, refund.credits)
    builder.post_entry("withdrawal", EntryKind.WITHDRAWAL, -refund.credits, entries, text, refers_to)


def _with_reason(text: str, refund: Refund) -> str:
    # The customer may read this text. The refund's note is for colleagues only.
    return f"{text}: {refund.reason}"


@dataclass(frozen=True, slots=True)
class Reservation:
    """The amounts that an accepted refund reserves, except of payments: `payment_deltas` derives those from the legs.

    `transaction_credits` are the credits of the refund's transaction.
    """

    customer: AccountDelta
    transaction_credits: int


def reservation_of(refund: Refund) -> Reservation:
    """Return what a refund reserves when it is accepted, and releases when it is rejected or canceled.

    This is the only place with that rule.
    """
    customer = AccountDelta()
    if refund.kind is Kind.WITHDRAWAL:
        # A correction has already taken its credits off the balance.
        customer = AccountDelta(held=0 if refund.of_correction else refund.credits, withdrawn=refund.credits)
    return Reservation(customer, refund.credits if refund.transaction_id else 0)


def release(builder: DecisionBuilder) -> None:
    """Cancel the legs and release everything that accepting the refund reserved."""
    for leg in builder.refund.legs:
        if leg.status in UNPAID_FINAL:  # others took the money of its payment before this refund was sent
            continue
        status = next_leg_status(leg.status, LegOutcome.RELEASED)
        builder.update_leg(replace(leg, status=status), reallocated=True, next_at=None)
    reservation = reservation_of(builder.refund)
    builder.account += -reservation.customer
    builder.transaction_credits -= reservation.transaction_credits


def _reserve_again(builder: DecisionBuilder) -> None:
    reservation = reservation_of(builder.refund)
    builder.account += reservation.customer
    builder.transaction_credits += reservation.transaction_credits


def post_after_all(builder: DecisionBuilder, paid_leg_id: str) -> None:
    """Post the entries of a refund that has none here, because the processor has an object for one of its legs.

    This happens only in a database that was restored from a backup or copied. If a person has canceled or rejected the
    refund since, what was released is reserved again, and the credits of its other legs go back to the balance: the
    processor's record takes precedence over a person's decision. A refund that waits for approval here had been
    approved before anything was sent.
    """
    status = builder.refund.status
    released = status in ENDED_UNSENT
    if released:
        _reserve_again(builder)
    post_internal_step(builder)
    if released:
        for leg in tuple(builder.legs.values()):
            if leg.leg_id != paid_leg_id and leg.status is LegStatus.CANCELED:
                builder.update_leg(leg, reversed_credits=leg.credits)
    if status is not RefundStatus.QUEUED:
        builder.record_event("posted_after_all", alarm=True, leg=builder.legs[paid_leg_id], was=status)
