"""The internal step: what accepting a refund reserves, and the ledger entries that put the customer's credits right."""

from __future__ import annotations

from dataclasses import replace

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
from refund_worker.domain.refund import Kind, LegStatus, Refund, RefundStatus, To
from refund_worker.domain.state_machine import RefundOutcome


def post_internal_step(builder: DecisionBuilder) -> None:
    """The entries of a refund that has none yet: credits to the balance, and off it again where money is asked for."""
    refund = builder.refund
    customer = customer_account(refund.customer_id)
    if refund.kind is Kind.CREDIT_REFUND:
        builder.balance += refund.credits
        builder.net_spent -= refund.credits
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
        _take_off(builder, refund, customer)
    builder.refund = replace(refund, posted=True)
    builder.transition_refund(RefundOutcome.CREDITED if refund.to is To.BALANCE else RefundOutcome.POSTED)


def _take_off(builder: DecisionBuilder, refund: Refund, customer: str) -> None:
    if refund.of_correction:
        entries = transfer(CORRECTIONS, CLEARING, CREDITS, refund.credits)
        text = f"Correction {refund.transaction_id} set aside to be paid out"
        builder.post_entry("assignment", EntryKind.ASSIGNMENT, 0, entries, text, refund.transaction_id)
        return
    builder.balance -= refund.credits
    if refund.kind is Kind.WITHDRAWAL:
        builder.held -= refund.credits
        refers_to = None
    else:
        builder.withdrawn += refund.credits
        refers_to = refund.transaction_id
    text = _with_reason(f"Withdrawal of {refund.credits} credits, to be paid back through the paying system", refund)
    entries = transfer(customer, CLEARING, CREDITS, refund.credits)
    builder.post_entry("withdrawal", EntryKind.WITHDRAWAL, -refund.credits, entries, text, refers_to)


def _with_reason(text: str, refund: Refund) -> str:
    # The customer may read it: the note is for colleagues.
    return f"{text}: {refund.reason}"


def release(builder: DecisionBuilder) -> None:
    """Everything that accepting reserved goes free again."""
    for leg in builder.refund.legs:
        builder.update_leg(leg, status=LegStatus.CANCELED, settled=True, next_at=None)
    _reserve(builder, -1)


def _reserve(builder: DecisionBuilder, sign: int) -> None:
    refund = builder.refund
    credits = sign * refund.credits
    if refund.transaction_id:
        builder.room += credits
    if refund.kind is Kind.WITHDRAWAL:
        builder.withdrawn += credits
        if not refund.of_correction:
            builder.held += credits


def post_after_all(builder: DecisionBuilder, paid_leg_id: str) -> None:
    """The processor has an object for a leg of a refund that has no entries here: they are posted now.

    Only a database that was restored from a backup or copied comes to this. Where a person has canceled or rejected the
    refund meanwhile, what had been set free is taken again, and the credits of its other legs go back: the processor's
    word goes before a person's. Where it waits for approval, somebody had approved it before anything was sent.
    """
    status = builder.refund.status
    released = status in (RefundStatus.CANCELED, RefundStatus.REJECTED)
    if released:
        _reserve(builder, 1)
    post_internal_step(builder)
    if released:
        for leg in tuple(builder.legs.values()):
            if leg.leg_id != paid_leg_id and leg.status is LegStatus.CANCELED:
                builder.update_leg(leg, returned_credits=leg.credits)
    if status is not RefundStatus.QUEUED:
        builder.record_event("posted_after_all", alarm=True, leg=builder.legs[paid_leg_id], was=status)
