"""Decide where money goes that a payment refused for good: other payments, the balance, or a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.allocation import Allocation, RefundablePayment, replace_share
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.legs import leg_id_of, unplaced_legs
from refund_worker.domain.refund import Leg, LegStatus
from refund_worker.domain.replacements import uncovered
from refund_worker.domain.state_machine import LegOutcome

PAYMENTS, BALANCE, MANUAL = "payments", "balance", "manual"
WAYS = (PAYMENTS, BALANCE, PAYOUT, MANUAL)
DEFAULT = (PAYMENTS, BALANCE)
# Why a person decides: a manual payment is the next way, or no way is left.
PAY_MANUALLY, NO_WAY_LEFT = "manual_fallback", "no_fallback_left"


NO_PAYEES: Mapping[str, str] = MappingProxyType({})


def replace_failed_legs(
    builder: DecisionBuilder, payments: Iterable[RefundablePayment], payees: Mapping[str, str] = NO_PAYEES
) -> None:
    """Find another way for the money of each leg that failed for good, in the order of the policy's fallback.

    `payees` are the customer's own payees that can be paid, by currency. The refund's own `destinations` narrow it.
    Credits for which no way is left are with a person. An unapproved refund
    gets no other payment, because we may send nothing for it.
    """
    by_id = {payment.payment_id: payment for payment in payments}
    ways = ways_of(builder)
    for leg in unplaced_legs(replace(builder.refund, legs=tuple(builder.legs.values()))):
        _place(builder, leg, ways, by_id, payees)


def ways_of(builder: DecisionBuilder) -> tuple[str, ...]:
    """Return the ways that are tried for this refund, in order."""
    refund = builder.refund
    if refund.unapproved:
        return (BALANCE,)
    allowed = WAYS if refund.destinations is None else refund.destinations.split(",")
    named = builder.policy.fallback
    if refund.payee_id is not None:  # the request itself names a payee, after the customer's own payments
        named = tuple(dict.fromkeys((PAYMENTS, PAYOUT, *named)))
    return tuple(way for way in named if way in allowed)


def _place(
    builder: DecisionBuilder,
    leg: Leg,
    ways: Sequence[str],
    by_id: dict[str, RefundablePayment],
    payees: Mapping[str, str],
) -> None:
    minor, credits = uncovered(leg, builder.legs)
    if not minor:  # it is worth nothing, so no payment can take it
        ways = (BALANCE,)
    # A person comes before the balance if the list has it so, and after all ways if it ends without the balance.
    rest_to_balance = next((way for way in ways if way in (BALANCE, MANUAL)), MANUAL) == BALANCE
    for way in ways:
        if way == PAYMENTS:
            credits = _over_payments(builder, leg, minor, credits, by_id, rest_to_balance=rest_to_balance)
            minor, _ = uncovered(leg, builder.legs)
            if not credits:
                break
        elif way == PAYOUT:
            if _to_payee(builder, leg, minor, credits, by_id, builder.refund.payee_id or payees.get(leg.currency)):
                return
        elif way == BALANCE:
            builder.update_leg(leg, reallocated=True, reversed_credits=credits)
            return
        elif way == MANUAL:
            _leave_to_a_person(builder, leg, minor, credits, PAY_MANUALLY, by_id)
            return
    if credits:
        _leave_to_a_person(builder, leg, minor, credits, NO_WAY_LEFT, by_id)
    else:
        builder.update_leg(leg, reallocated=True, reversed_credits=0)


def _over_payments(
    builder: DecisionBuilder,
    leg: Leg,
    minor: int,
    credits: int,
    by_id: dict[str, RefundablePayment],
    *,
    rest_to_balance: bool,
) -> int:
    """Place the money over other payments; return the credits that none of them can take.

    A payment that another leg of this refund uses can be used too. One over which a leg failed cannot. The balance
    takes any rest. A person's rest needs room for a leg of its own: without it nothing is placed.
    """
    refused = {other.payment_id for other in builder.legs.values() if _has_failed(other)}
    usable = [
        payment for payment in by_id.values() if payment.currency == leg.currency and payment.payment_id not in refused
    ]
    shares, unplaced = replace_share(minor, credits, usable, builder.policy.allocation)
    rest = minor - sum(share.amount_minor for share in shares)
    after = by_id | {share.payment.payment_id: _reserved(share) for share in shares}
    if unplaced and not rest_to_balance and not _has_room(leg, rest, after):
        return credits
    by_id.update(after)
    for share in shares:
        other = _leg_over(builder, leg, share)
        builder.record_event(
            "leg_replaced", leg=leg, by=other.leg_id, payment_id=other.payment_id, minor=other.amount_minor
        )
    return unplaced


def _leg_over(builder: DecisionBuilder, leg: Leg, share: Allocation) -> Leg:
    other = Leg(
        leg_id=leg_id_of(leg.refund_id, len(builder.legs) + 1),
        refund_id=leg.refund_id,
        payment_id=share.payment.payment_id,
        processor=share.payment.processor,
        processor_payment_id=share.payment.processor_payment_id,
        amount_minor=share.amount_minor,
        currency=leg.currency,
        credits=share.credits,
        payment_credits=share.payment_credits,
        unreturnable_minor=share.unreturnable_minor,
        replaces=leg.leg_id,
        next_at=builder.now,
    )
    builder.legs[other.leg_id] = other
    return other


def _to_payee(
    builder: DecisionBuilder,
    leg: Leg,
    minor: int,
    credits: int,
    by_id: dict[str, RefundablePayment],
    payee_id: str | None,
) -> bool:
    """Pay what is left to the customer's payee, by a leg of its own over the same payment. Return False if that is
    not possible: there is no payee, a payout has failed already, or the payment has no room for the leg.
    """
    failed = any(other.processor == PAYOUT and _has_failed(other) for other in builder.legs.values())
    if payee_id is None or failed or leg.processor == PAYOUT or not _has_room(leg, minor, by_id):
        return False
    rest = Leg(
        leg_id=leg_id_of(leg.refund_id, len(builder.legs) + 1),
        refund_id=leg.refund_id,
        payment_id=leg.payment_id,
        processor=PAYOUT,
        processor_payment_id=payee_id,
        amount_minor=minor,
        currency=leg.currency,
        credits=credits,
        payment_credits=_credits_of(leg, minor),
        replaces=leg.leg_id,
        next_at=builder.now,
    )
    builder.legs[rest.leg_id] = rest
    builder.record_event("leg_replaced", leg=leg, by=rest.leg_id, payee_id=payee_id, minor=minor)
    builder.update_leg(leg, reallocated=True, reversed_credits=0)
    return True


def _leave_to_a_person(
    builder: DecisionBuilder, leg: Leg, minor: int, credits: int, code: str, by_id: dict[str, RefundablePayment]
) -> None:
    """Let a person decide about what is left: pay it manually, or give the credits back.

    If other payments take a part of the leg, the rest becomes a leg of its own over the same payment, so that the
    manual payment is not counted for the whole. It needs room there, which the failed leg has left.
    """
    if minor == leg.amount_minor or not _has_room(leg, minor, by_id):
        builder.record_event(code, alarm=True, leg=leg, minor=minor, credits=credits)
        builder.update_leg(leg, attention_code=code)
        return
    rest = Leg(
        leg_id=leg_id_of(leg.refund_id, len(builder.legs) + 1),
        refund_id=leg.refund_id,
        payment_id=leg.payment_id,
        processor=MANUAL,
        processor_payment_id=leg.processor_payment_id,
        amount_minor=minor,
        currency=leg.currency,
        credits=credits,
        payment_credits=_credits_of(leg, minor),
        replaces=leg.leg_id,
    )
    builder.legs[rest.leg_id] = rest
    builder.transition_leg(
        rest, LegOutcome.BLOCKED, reason=code, alarm=True, attention_code=code, failure_code=code, next_at=None
    )
    builder.update_leg(leg, reallocated=True, reversed_credits=0)


def _reserved(share: Allocation) -> RefundablePayment:
    return share.payment.after_reserving(share.payment_credits, share.amount_minor)


def _has_room(leg: Leg, minor: int, by_id: dict[str, RefundablePayment]) -> bool:
    """Return True if the leg's payment has room for `minor` units of it."""
    payment = by_id.get(leg.payment_id)
    return payment is not None and payment.credits_left >= _credits_of(leg, minor) and payment.money_left >= minor


def _credits_of(leg: Leg, minor: int) -> int:
    """Return the share of the leg's credits at its payment that belongs to `minor` units of its money."""
    return leg.payment_credits * minor // leg.amount_minor if leg.amount_minor else 0


def _has_failed(leg: Leg) -> bool:
    """Return True if the leg's payment did not take the money back. One that was only released may still take it."""
    return leg.status is LegStatus.FAILED or (leg.status is LegStatus.CANCELED and bool(leg.objects))
