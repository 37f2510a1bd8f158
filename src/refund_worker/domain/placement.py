"""Place the credits of a request: over the customer's payments, and for a withdrawal to a payee the rest as a payout.

Pure functions. The preview, the greatest request and the accepted one use the same.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.allocation import Allocation, RefundablePayment, allocate, placeable_credits
from refund_worker.domain.money import as_text
from refund_worker.domain.refund import RefundRequest
from refund_worker.errors import AboveMaximum, AmountTooSmall, BelowMinimum, CurrencyMismatch, NoRefundablePayment

NEVER_TWICE = "Money that went back already, in whatever way, is never paid twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedPayee:
    """The payee of a withdrawal, and the customer's payments with the room that was not refunded or disputed.

    A payout can take that room even where the payment's account forbids a refund, such as after its refund window.
    `minimum_minor` and `maximum_minor` limit each payout to the payee, in minor units.
    """

    payee_id: str
    currency: str
    payments: Sequence[RefundablePayment]
    minimum_minor: int = 1
    maximum_minor: int | None = None


def placeable(
    credits: int,
    payments: Sequence[RefundablePayment],
    currency: str | None,
    allocation: str,
    payee: RequestedPayee | None,
) -> int:
    """Return how many of `credits` the payments in this currency, or in any, and the payee can take."""
    rooms = _in_currency(_with_payee(payments, payee), currency)
    most = placeable_credits(credits, rooms, allocation)
    if payee is None or {payee.currency} != {payment.currency for payment in rooms if payment.credits_left > 0}:
        return most
    return _within_limits(most, _in_currency(payments, payee.currency), allocation, payee)


def _within_limits(most: int, own: Sequence[RefundablePayment], allocation: str, payee: RequestedPayee) -> int:
    """Return how many of `most` credits can be placed so that each payout to the payee is within the limits."""

    def amounts(credits: int) -> list[int]:
        shares, rest = _over_payments(credits, own, allocation)
        return [share.amount_minor for share in allocate(rest, _to_payee(payee, shares), allocation)]

    if (limit := payee.maximum_minor) is not None:
        # The more credits, the larger the payouts: the first number of credits with one that is too large is searched.
        too_many = bisect(range(most + 1), False, key=lambda credits: any(a > limit for a in amounts(credits)))
        most = too_many - 1
    if any(0 < amount < payee.minimum_minor for amount in amounts(most)):
        return placeable_credits(most, own, allocation)
    return most


def all_credits(
    request: RefundRequest,
    available: int,
    payments: Sequence[RefundablePayment],
    allocation: str,
    payee: RequestedPayee | None,
) -> int:
    """Return all credits that can be paid out in the requested currency, or in the only one there is.

    A leg that replaces a failed one can take more of a payment than its credits. If nothing can take any credits, the
    check of the payments refuses the request later.
    """
    currencies = {p.currency for p in _with_payee(payments, payee) if p.credits_left > 0}
    only = currencies.pop() if len(currencies) == 1 else None
    currency = request.currency or only
    return (placeable(available, payments, currency, allocation, payee) if currency else 0) or available


def place(
    request: RefundRequest,
    credits: int,
    payments: Sequence[RefundablePayment],
    allocation: str,
    payee: RequestedPayee | None,
) -> tuple[Allocation, ...]:
    """Return the shares of the payments. The last ones are the payee's, at the processor of payouts.

    Raises `NoRefundablePayment`, `CurrencyMismatch`, `AmountTooSmall`, `BelowMinimum` or `AboveMaximum`.
    """
    currency = _currency_of(request, credits, _with_payee(payments, payee))
    own = _in_currency(payments, currency)
    shares, rest = _over_payments(credits, own, allocation)
    if rest:
        if payee is None or payee.currency != currency:
            what = "some of the customer's payments can be refunded only as a whole"
            raise NoRefundablePayment(f"{what}: of {credits} credits, the payments can take {credits - rest}")
        to_payee = allocate(rest, _to_payee(payee, shares), allocation)
        _check_limits(payee, to_payee)
        shares += to_payee
    if not any(share.amount_minor for share in shares):
        raise AmountTooSmall(f"{credits} credits are worth less than the smallest unit of money")
    return shares


def _over_payments(
    credits: int, own: Sequence[RefundablePayment], allocation: str
) -> tuple[tuple[Allocation, ...], int]:
    """Return the shares of the payments themselves, and the credits that they cannot take."""
    taken = placeable_credits(credits, own, allocation)
    return allocate(taken, own, allocation), credits - taken


def _check_limits(payee: RequestedPayee, shares: Sequence[Allocation]) -> None:
    """Raise `BelowMinimum` or `AboveMaximum` if a payout of one of these shares is outside of the limits."""
    for amount in (share.amount_minor for share in shares):
        told = f"payee {payee.payee_id} would get a payout of {as_text(amount, payee.currency)}"
        if 0 < amount < payee.minimum_minor:  # one of nothing is never sent
            raise BelowMinimum(f"{told}: the smallest one is {as_text(payee.minimum_minor, payee.currency)}")
        if payee.maximum_minor is not None and amount > payee.maximum_minor:
            most = as_text(payee.maximum_minor, payee.currency)
            raise AboveMaximum(f"{told}: the largest one is {most}. Ask for fewer credits, and again later")


def _in_currency(payments: Sequence[RefundablePayment], currency: str | None) -> list[RefundablePayment]:
    """Return the payments in this currency; all of them without one."""
    return [payment for payment in payments if currency in (None, payment.currency)]


def _with_payee(payments: Sequence[RefundablePayment], payee: RequestedPayee | None) -> list[RefundablePayment]:
    """Return the payments, with the room that the payee can take in place of the room for refunds."""
    rooms = {p.payment_id: p for p in payee.payments if p.currency == payee.currency} if payee is not None else {}
    return [rooms.get(payment.payment_id, payment) for payment in payments]


def _to_payee(payee: RequestedPayee, shares: Sequence[Allocation]) -> list[RefundablePayment]:
    """Return the payments in the payee's currency as payments to the payee, with the room that `shares` leave."""
    taken = {share.payment.payment_id: share for share in shares}
    rest = []
    for payment in _in_currency(payee.payments, payee.currency):
        share = taken.get(payment.payment_id)
        left = payment.after_reserving(share.payment_credits, share.amount_minor) if share else payment
        rest.append(replace(left, processor=PAYOUT, processor_payment_id=payee.payee_id))
    return rest


def _currency_of(request: RefundRequest, credits: int, payments: Sequence[RefundablePayment]) -> str:
    """Return the currency in which the payments take the credits. Raises a `Refusal` without one."""
    refundable = [p for p in payments if p.credits_left > 0]
    _check_room(credits, refundable, "the customer's payments")
    currencies = sorted({p.currency for p in refundable})
    if request.currency is None:
        if len(currencies) > 1:
            raise CurrencyMismatch(
                f"the customer paid in {', '.join(currencies)}: say which currency", field="currency"
            )
        return currencies[0]
    if all(p.currency != request.currency for p in payments):
        raise CurrencyMismatch(f"no payment in {request.currency}: there are {', '.join(currencies)}", field="currency")
    fitting = _in_currency(refundable, request.currency)
    _check_room(credits, fitting, f"the customer's payments in {request.currency}")
    return request.currency


def _check_room(credits: int, payments: Sequence[RefundablePayment], named: str) -> None:
    left = sum(payment.credits_left for payment in payments)
    if left < credits:
        raise NoRefundablePayment(
            f"{named} have too little left: of {credits} credits they can take {left}. {NEVER_TWICE}"
        )
