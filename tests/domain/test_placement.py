"""Credits go over the payments with room first; for a withdrawal to a payee, the rest is paid out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.domain.test_acceptance import CUSTOMER, WITHDRAWAL
from tests.domain.test_allocation import a_payment

from refund_worker.domain.acceptance import accept
from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.placement import RequestedPayee, place, placeable
from refund_worker.errors import (
    AmountTooSmall,
    CurrencyMismatch,
    NoRefundablePayment,
    Refusal,
    UnknownCustomer,
    UnknownPayee,
)

TO_PAYEE = replace(WITHDRAWAL, payee_id="p")
WHOLE = [replace(a_payment(1), only_whole=True)]
CLOSED = [a_payment(1).without_room(), a_payment(2)]


def payee(*payments: RefundablePayment, currency: str = "USD") -> RequestedPayee:
    return RequestedPayee(payee_id="p", currency=currency, payments=payments or (a_payment(1), a_payment(2)))


@pytest.mark.parametrize("allocation", ["newest_first", "oldest_first", "pro_rata"])
@pytest.mark.parametrize("credits", [100, 130, 200])
def test_payments_come_first_and_the_payee_gets_the_rest(allocation: str, credits: int) -> None:
    shares = place(TO_PAYEE, credits, CLOSED, allocation, payee())
    first, *rest = shares
    assert (first.payment.processor, first.credits, first.amount_minor) == ("stripe", 100, 1_000)
    assert [(s.payment.processor, s.payment.processor_payment_id, s.amount_minor) for s in rest] == (
        [(PAYOUT, "p", (credits - 100) * 10)] if credits > 100 else []
    )


def test_payee_gets_the_part_of_what_is_refunded_only_as_a_whole() -> None:
    (share,) = place(TO_PAYEE, 40, WHOLE, "newest_first", payee(a_payment(1)))
    assert (share.payment.processor, share.credits, share.amount_minor) == (PAYOUT, 40, 400)
    (whole,) = place(TO_PAYEE, 100, WHOLE, "newest_first", payee(a_payment(1)))
    assert (whole.payment.processor, whole.amount_minor) == ("stripe", 1_000)
    assert placeable(40, WHOLE, None, "newest_first", payee(a_payment(1))) == 40


PENNY = replace(a_payment(1), amount_minor=1)
EUR = replace(a_payment(2), currency="EUR")


@pytest.mark.parametrize(
    ("refusal", "payments", "its_payee"),
    [
        (CurrencyMismatch, [a_payment(1).without_room(), EUR], payee(a_payment(1), EUR)),
        (AmountTooSmall, [PENNY.without_room()], payee(PENNY)),
        (NoRefundablePayment, [a_payment(1).without_room()], payee(a_payment(1), currency="EUR")),
        (NoRefundablePayment, WHOLE, payee(a_payment(1), currency="EUR")),
    ],
    ids=["two currencies", "too small", "payee of another currency", "whole, payee of another currency"],
)
def test_payout_is_refused_as_a_refund_is(
    refusal: type[Refusal], payments: list[RefundablePayment], its_payee: RequestedPayee
) -> None:
    with pytest.raises(refusal):
        place(TO_PAYEE, 40, payments, "newest_first", its_payee)


def test_refusal_says_how_much_the_payments_can_take() -> None:
    with pytest.raises(NoRefundablePayment, match=r"of 150 credits they can take 100\. Money that went back already"):
        place(WITHDRAWAL, 150, CLOSED, "newest_first", None)


def test_unknown_payee_is_named_after_the_customer() -> None:
    asked: dict[str, Any] = {"refund_id": "r", "transaction": None, "now": 1.0, "allocation": "newest_first"}
    too_many = replace(TO_PAYEE, credits=10_000)
    with pytest.raises(UnknownCustomer):
        accept(too_many, customer=None, payments=[], **asked)
    with pytest.raises(UnknownPayee):
        accept(too_many, customer=CUSTOMER, payments=[], **asked)
