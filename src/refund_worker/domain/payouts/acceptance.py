"""Accept a payout: check the request, reserve its amount, and plan its legs. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from refund_worker.domain.decision import Event
from refund_worker.domain.money import as_text, down_to_step
from refund_worker.domain.payouts.builder import counted
from refund_worker.domain.payouts.decision import PayoutDecision, PayoutPolicy
from refund_worker.domain.payouts.machine import first_payout_status
from refund_worker.domain.payouts.payee import Payee, PayeeBalance
from refund_worker.domain.payouts.payout import Payout, PayoutLeg, PayoutRequest, PayoutSource
from refund_worker.errors import AboveMaximum, BelowMinimum, CurrencyMismatch, InsufficientEarnings

ACCEPTED = "payout_accepted"  # the kind of a payout's first event


@dataclass(frozen=True, slots=True)
class Payable:
    """The amount that can be paid out to a payee now, in minor units. `code` says why it is 0."""

    amount_minor: int
    code: str | None = None


def payable(payee: Payee, balance: PayeeBalance, policy: PayoutPolicy) -> Payable:
    """Return the most that one payout can pay now: in steps of the route, within the limits."""
    currency, route = payee.currency, payee.processor
    step = policy.step_for(route, currency)
    amount = down_to_step(balance.payable_minor, step)
    maximum = policy.maximum_for(route, currency)
    if maximum is not None:
        amount = min(amount, down_to_step(maximum, step))
    if amount <= 0:
        return Payable(0, "held" if balance.held_minor else "nothing_payable")
    minimum = policy.minimum_for(route, currency)
    return Payable(0, "below_minimum") if amount < minimum else Payable(amount)


def accept_payout(
    request: PayoutRequest, *, payout_id: str, payee: Payee, balance: PayeeBalance, policy: PayoutPolicy, now: float
) -> Payout:
    """Return the payout that the request makes. `now` is in epoch seconds; the payee and the balance are locked.

    Raises `CurrencyMismatch`, `BelowMinimum`, `AboveMaximum` or `InsufficientEarnings`.
    """
    if request.currency != payee.currency:
        message = f"the payee is paid in {payee.currency}, not in {request.currency}"
        raise CurrencyMismatch(message, field="currency")
    amount = request.amount_minor
    if amount is None:
        amount = payable(payee, balance, policy).amount_minor or balance.payable_minor
    # Without an amount, none of the request's fields is wrong.
    _check_amount(amount, payee, balance, policy, field="amount_minor" if request.amount_minor else None)
    payout = planned_payout(
        payee,
        policy,
        payout_id=payout_id,
        client=request.client,
        idempotency_key=request.idempotency_key,
        amount_minor=amount,
        description=request.description,
        source=PayoutSource.EARNINGS,
        actor=request.actor,
        now=now,
    )
    return replace(
        payout,
        requested_by_note=request.requested_by,
        run_id=request.run_id,
        priority=1 if request.bulk else 0,
    )


def planned_payout(
    payee: Payee,
    policy: PayoutPolicy,
    *,
    payout_id: str,
    client: str,
    idempotency_key: str,
    amount_minor: int,
    description: str,
    source: PayoutSource,
    actor: str,
    now: float,
    refund: tuple[str, str] | None = None,
) -> Payout:
    """Return a payout to the payee's destination as it is now, with its legs planned. `now` is in epoch seconds.

    `refund` is (refund_id, leg_id) for the credits of a withdrawal.
    """
    connected = payee.destination_ref if payee.destination_kind.is_account else None
    payout = Payout(
        payout_id=payout_id,
        client=client,
        idempotency_key=idempotency_key,
        payee_id=payee.payee_id,
        processor=payee.processor,
        amount_minor=amount_minor,
        currency=payee.currency,
        description=description,
        source=source,
        method=payee.method,
        country=payee.country,
        destination_id=payee.destination_id,
        destination_box=payee.destination_box,
        destination_masked=payee.destination_masked,
        connected_account=connected,
        status=first_payout_status(needs_approval=False),
        version=1,
        created_at=now,
        updated_at=now,
        requested_by=actor,
        refund_id=refund[0] if refund else None,
        refund_leg_id=refund[1] if refund else None,
    )
    return replace(payout, legs=planned_legs(payout, policy))


def _check_amount(amount: int, payee: Payee, balance: PayeeBalance, policy: PayoutPolicy, *, field: str | None) -> None:
    currency = payee.currency
    if amount > balance.payable_minor or amount <= 0:
        held = f", and {as_text(balance.held_minor, currency)} are held" if balance.held_minor else ""
        raise InsufficientEarnings(f"{as_text(balance.payable_minor, currency)} can be paid out now{held}", field=field)
    minimum, maximum = policy.minimum_for(payee.processor, currency), policy.maximum_for(payee.processor, currency)
    if amount < minimum:
        raise BelowMinimum(f"the smallest payout is {as_text(minimum, currency)}", field=field)
    if maximum is not None and amount > maximum:
        message = f"the largest payout is {as_text(maximum, currency)}: ask for less, and again later"
        raise AboveMaximum(message, field=field)
    step = policy.step_for(payee.processor, currency)
    if amount % step:
        message = f"payouts in {currency} are multiples of {as_text(step, currency)} there"
        raise BelowMinimum(message, field=field)


def planned_legs(payout: Payout, policy: PayoutPolicy) -> tuple[PayoutLeg, ...]:
    """Return the legs of a new payout: one for each step of its route."""
    return tuple(
        PayoutLeg(
            leg_id=f"{payout.payout_id}-{number}",
            payout_id=payout.payout_id,
            number=number,
            step=step,
            processor=payout.processor,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
        )
        for number, step in enumerate(policy.route_of(payout.processor).steps, 1)
    )


def accepted_payout(
    payout: Payout, request_body: str, *, needs_approval: bool, why: Mapping[str, int | None] | None = None
) -> PayoutDecision:
    """Return the decision that stores a new payout and reserves its amount. `why` is noted: why it needs approval."""
    status = first_payout_status(needs_approval=needs_approval)
    due_at = None if needs_approval else payout.created_at
    stored = replace(payout, status=status, due_at=due_at)
    detail: dict[str, str | int | None] = {"amount_minor": payout.amount_minor, "currency": payout.currency}
    detail |= why or {}
    event = Event(ACCEPTED, payout.requested_by, None, None, status, None, detail)
    return PayoutDecision(
        before=None, after=stored, request_body=request_body, events=(event,), balance=counted(stored)
    )
