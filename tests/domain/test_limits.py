"""The total of the window decides: splitting a refund into small ones changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refund_worker.domain.acceptance import CustomerAccount, accept
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.limits import Limits, Usage, check_velocity, needs_approval
from refund_worker.domain.refund import Kind, Refund, RefundRequest, To
from refund_worker.errors import VelocityExceeded

PAYMENT = RefundablePayment(
    payment_id="pay-1",
    processor="stripe",
    processor_payment_id="ch_1",
    currency="USD",
    amount_minor=10_000,
    credits=1_000,
    captured_at=1.0,
)


def refund_of(
    credits: int, *, customer_id: str = "mia", actor: str = "anna", payment: RefundablePayment = PAYMENT
) -> Refund:
    """Return an accepted withdrawal of these credits."""
    request = RefundRequest(
        idempotency_key="k",
        kind=Kind.WITHDRAWAL,
        to=To.SOURCE,
        customer_id=customer_id,
        credits=credits,
        reason="asked",
        actor=actor,
    )
    account = CustomerAccount(customer_id=customer_id, balance=1_000, bought=1_000)
    return accept(
        request,
        refund_id="rf_1",
        customer=account,
        transaction=None,
        payments=[payment],
        now=0.0,
        allocation="newest_first",
    )


def test_only_an_amount_above_the_threshold_needs_approval() -> None:
    limits = Limits(approval_threshold_minor=1_000)
    assert not needs_approval(refund_of(100), Usage(), limits)
    assert needs_approval(refund_of(101), Usage(), limits)


def test_without_a_threshold_nothing_needs_approval() -> None:
    assert not needs_approval(refund_of(1_000), Usage(), Limits())


def test_small_refunds_that_exceed_the_threshold_need_approval() -> None:
    limits, usage = Limits(approval_threshold_minor=1_000), Usage()
    seen = []
    for _ in range(3):
        refund = refund_of(40)
        seen.append(needs_approval(refund, usage, limits))
        usage.add(refund)
    assert seen == [False, False, True]


def test_total_of_another_customer_does_not_count() -> None:
    limits, usage = Limits(approval_threshold_minor=1_000), Usage()
    usage.add(refund_of(100, payment=replace(PAYMENT, payment_id="pay-2")))
    assert not needs_approval(refund_of(100, customer_id="leo"), usage, limits)


@pytest.mark.parametrize("subject", ["actor", "customer", "payment"])
def test_actor_customer_and_payment_have_a_limit_of_count(subject: str) -> None:
    usage = Usage()
    refund = refund_of(10)
    names = {"actor": "anna", "customer": "mia", "payment": "pay-1"}
    usage.requests[subject, names[subject]] = 2
    check_velocity(refund, usage, Limits(velocity_count=3))
    with pytest.raises(VelocityExceeded, match=subject):
        check_velocity(refund, usage, Limits(velocity_count=2))


@pytest.mark.parametrize("subject", ["actor", "customer", "payment"])
def test_actor_customer_and_payment_have_a_limit_of_amount(subject: str) -> None:
    usage = Usage()
    names = {"actor": "anna", "customer": "mia", "payment": "pay-1"}
    usage.money[(subject, names[subject]), "USD"] = 900
    check_velocity(refund_of(10), usage, Limits(velocity_amount_minor=1_000))
    with pytest.raises(VelocityExceeded, match=subject):
        check_velocity(refund_of(11), usage, Limits(velocity_amount_minor=1_000))


def test_sum_in_another_currency_does_not_count() -> None:
    usage = Usage()
    usage.money[("customer", "mia"), "EUR"] = 10_000
    check_velocity(refund_of(10), usage, Limits(velocity_amount_minor=1_000))
