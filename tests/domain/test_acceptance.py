"""Accepting a request: what it reserves, and which check is named first."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.test_allocation import a_payment

from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction, accept, maximum_credits
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.refund import Kind, LegStatus, Refund, RefundRequest, RefundStatus, To
from refund_worker.errors import (
    AmountTooSmall,
    CurrencyMismatch,
    ExceedsRefundable,
    InsufficientBalance,
    InvalidRequest,
    NoRefundablePayment,
    Refusal,
    UnknownCustomer,
    UnknownTransaction,
)

CUSTOMER = CustomerAccount(customer_id="c", balance=150, bought=200, net_spent=50)
SPEND = RefundableTransaction(transaction_id="t", customer_id="c", kind=EntryKind.SPEND, credits=50)
CORRECTION = RefundableTransaction(transaction_id="t", customer_id="c", kind=EntryKind.CORRECTION, credits=30)
PAYMENTS = [a_payment(1), a_payment(2)]
WITHDRAWAL = RefundRequest(
    idempotency_key="k", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c", credits=100, reason="asked"
)
CREDIT_REFUND = replace(WITHDRAWAL, kind=Kind.CREDIT_REFUND, to=To.SOURCE, transaction_id="t", credits=20)


def take(
    request: RefundRequest,
    customer: CustomerAccount | None = CUSTOMER,
    transaction: RefundableTransaction | None = None,
    payments: list[RefundablePayment] = PAYMENTS,
    allocation: str = "newest_first",
) -> Refund:
    """Accept the request with the usual customer and payments."""
    return accept(
        request,
        refund_id="r",
        customer=customer,
        transaction=transaction,
        payments=payments,
        now=1.0,
        allocation=allocation,
    )


# One fault for each check, in the contract's order; each is a change to the arguments of `take`.
Faults = list[tuple[type[Refusal], dict[str, Any], dict[str, Any]]]
OF_A_WITHDRAWAL: Faults = [
    (InvalidRequest, {"to": To.BALANCE}, {}),
    (UnknownCustomer, {}, {"customer": None}),
    (ExceedsRefundable, {}, {"bought": 60}),
    (InsufficientBalance, {}, {"balance": 5}),
    (NoRefundablePayment, {}, {"payments": [a_payment(1, credits=3)]}),
    (CurrencyMismatch, {"currency": "EUR"}, {}),
]
OF_A_CREDIT_REFUND: Faults = [
    (InvalidRequest, {"credits": 0}, {}),
    (UnknownCustomer, {}, {"customer": None}),
    (UnknownTransaction, {}, {"transaction": None}),
    (ExceedsRefundable, {}, {"taken": 40}),
    (NoRefundablePayment, {}, {"payments": [a_payment(1, credits=3)]}),
    (CurrencyMismatch, {"currency": "EUR"}, {}),
]


def with_faults(request: RefundRequest, *faults: tuple[type[Refusal], dict[str, Any], dict[str, Any]]) -> Refund:
    """Accept the request with these faults in it or around it."""
    world: dict[str, Any] = {"customer": CUSTOMER, "transaction": SPEND if request.transaction_id else None}
    for _, in_request, in_world in faults:
        request = replace(request, **in_request)
        for name, value in in_world.items():
            if name in ("balance", "bought"):
                world["customer"] = world["customer"] and replace(world["customer"], **{name: value})
            elif name == "taken":
                world["transaction"] = world["transaction"] and replace(world["transaction"], taken=value)
            else:
                world[name] = value
    return take(request, **world)


@pytest.mark.parametrize("request_and_faults", [(WITHDRAWAL, OF_A_WITHDRAWAL), (CREDIT_REFUND, OF_A_CREDIT_REFUND)])
def test_earlier_of_two_failing_checks_is_named(request_and_faults: tuple[RefundRequest, Faults]) -> None:
    request, faults = request_and_faults
    with_faults(request)
    for fault in faults:
        with pytest.raises(fault[0]):
            with_faults(request, fault)
    for first, second in combinations(faults, 2):
        with pytest.raises(first[0]) as refusal:
            with_faults(request, second, first)
        assert type(refusal.value) is first[0]


def test_withdrawal_without_credits_takes_all_payable_credits() -> None:
    assert take(replace(WITHDRAWAL, credits=None)).credits == 150


def test_free_credits_are_spent_last_and_never_paid_out() -> None:
    gifted = replace(CUSTOMER, balance=250)  # 100 of them a gift
    assert take(replace(WITHDRAWAL, credits=None), gifted).credits == 150
    with pytest.raises(ExceedsRefundable):
        take(replace(WITHDRAWAL, credits=151), gifted)
    with pytest.raises(ExceedsRefundable):
        take(replace(WITHDRAWAL, credits=None), replace(gifted, bought=50))


def test_credits_held_for_another_withdrawal_are_not_available() -> None:
    held = replace(CUSTOMER, held=60, withdrawn=60)
    assert take(replace(WITHDRAWAL, credits=None), held).credits == 90
    with pytest.raises(Refusal):
        take(WITHDRAWAL, held)


def test_withdrawal_from_empty_balance_is_refused() -> None:
    with pytest.raises(InsufficientBalance):
        take(replace(WITHDRAWAL, credits=None), replace(CUSTOMER, balance=0))


def test_credit_refund_without_credits_takes_the_rest_of_the_spend() -> None:
    left = replace(SPEND, taken=20)
    assert take(replace(CREDIT_REFUND, credits=None), transaction=left).credits == 30
    with pytest.raises(ExceedsRefundable):
        take(replace(CREDIT_REFUND, credits=None), transaction=replace(SPEND, taken=50))


def test_credit_refund_to_balance_needs_no_payment() -> None:
    refund = take(replace(CREDIT_REFUND, to=To.BALANCE), transaction=SPEND, payments=[])
    assert (refund.legs, refund.credits, refund.status) == ((), 20, RefundStatus.QUEUED)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        replace(SPEND, customer_id="somebody_else"),
        replace(SPEND, kind=EntryKind.CORRECTION),
        replace(SPEND, reversed=True),
    ],
)
def test_credit_refund_needs_a_spend_of_the_same_customer(wrong: RefundableTransaction | None) -> None:
    with pytest.raises(UnknownTransaction):
        take(CREDIT_REFUND, transaction=wrong)


def test_correction_is_paid_out_whole_and_only_once() -> None:
    asked = replace(WITHDRAWAL, transaction_id="t", credits=None)
    refund = take(asked, replace(CUSTOMER, balance=0), CORRECTION)
    assert (refund.credits, refund.of_correction) == (30, True)
    with pytest.raises(ExceedsRefundable):
        take(asked, transaction=replace(CORRECTION, taken=30))
    with pytest.raises(InvalidRequest):
        take(replace(asked, credits=29), transaction=CORRECTION)
    with pytest.raises(ExceedsRefundable):
        take(replace(asked, credits=31), transaction=CORRECTION)
    with pytest.raises(UnknownTransaction):
        take(asked, transaction=replace(CORRECTION, reversed=True))
    with pytest.raises(ExceedsRefundable):
        take(asked, replace(CUSTOMER, bought=79), CORRECTION)


def test_currency_must_be_named_if_there_are_several() -> None:
    mixed = [a_payment(1), a_payment(2, currency="EUR")]
    with pytest.raises(CurrencyMismatch) as refusal:
        take(replace(WITHDRAWAL, credits=50), payments=mixed)
    assert refusal.value.field == "currency"
    refund = take(replace(WITHDRAWAL, credits=50, currency="USD"), payments=mixed)
    assert [leg.payment_id for leg in refund.legs] == ["pay1"]
    used_up = a_payment(2, currency="EUR", credits_taken=100, money_taken=1_000)
    assert take(WITHDRAWAL, payments=[a_payment(1), used_up]).legs[0].currency == "USD"


def test_full_withdrawal_takes_what_payments_in_one_currency_have() -> None:
    mixed = [a_payment(1), a_payment(2, currency="EUR", credits_taken=40, money_taken=400)]
    everything = replace(WITHDRAWAL, credits=None)
    dollars = take(replace(everything, currency="USD"), payments=mixed)
    assert (dollars.credits, [leg.payment_id for leg in dollars.legs]) == (100, ["pay1"])
    euros = take(replace(everything, currency="EUR"), payments=mixed)
    assert (euros.credits, [leg.payment_id for leg in euros.legs]) == (60, ["pay2"])
    little_left = replace(CUSTOMER, balance=30)
    assert take(replace(everything, currency="EUR"), little_left, payments=mixed).credits == 30
    with pytest.raises(NoRefundablePayment):
        take(replace(everything, currency="EUR", credits=61), payments=mixed)


@pytest.mark.parametrize("credits", [None, 50])
def test_used_up_currency_differs_from_one_never_paid_in(credits: int | None) -> None:
    used_up = a_payment(2, currency="EUR", credits_taken=100, money_taken=1_000)
    dollars = [a_payment(1), a_payment(3)]
    with pytest.raises(NoRefundablePayment, match="payments in EUR have too little left"):
        take(replace(WITHDRAWAL, credits=credits, currency="EUR"), payments=[*dollars, used_up])
    with pytest.raises(CurrencyMismatch, match="no payment in EUR: there are USD"):
        take(replace(WITHDRAWAL, credits=credits, currency="EUR"), payments=dollars)


def test_refund_below_the_smallest_unit_is_refused() -> None:
    with pytest.raises(AmountTooSmall):
        take(replace(WITHDRAWAL, credits=1), payments=[a_payment(1, amount_minor=1, credits=200)])


def test_zero_amount_leg_is_planned_as_paid() -> None:
    cheap = a_payment(2, amount_minor=1, credits=100)
    refund = take(replace(WITHDRAWAL, credits=140), payments=[cheap, a_payment(1, credits=100)])
    assert [leg.status for leg in refund.legs] == [LegStatus.PLANNED, LegStatus.PLANNED]
    refund = take(replace(WITHDRAWAL, credits=140), payments=[replace(cheap, money_taken=1), a_payment(1)])
    assert [(leg.amount_minor, leg.status) for leg in refund.legs] == [
        (0, LegStatus.SUCCEEDED),
        (400, LegStatus.PLANNED),
    ]


def test_legs_follow_the_allocation_setting() -> None:
    refund = take(replace(WITHDRAWAL, credits=150), allocation="oldest_first")
    assert [(leg.leg_id, leg.payment_id, leg.credits, leg.amount_minor) for leg in refund.legs] == [
        ("r-1", "pay1", 100, 1_000),
        ("r-2", "pay2", 50, 500),
    ]


def test_full_withdrawal_takes_no_more_than_payments_have_left() -> None:
    """A leg that replaced a failed one took more of its payment's credits than it carried."""
    customer = CustomerAccount(customer_id="c", balance=160, bought=200, withdrawn=40)
    taken = replace(a_payment(1), credits_taken=80, money_taken=800)
    for asked in (replace(WITHDRAWAL, credits=None), replace(WITHDRAWAL, credits=None, currency="USD")):
        refund = take(asked, customer, payments=[taken, a_payment(2)])
        assert (refund.credits, [leg.credits for leg in refund.legs]) == (120, [100, 20])


credits_up_to_200 = st.integers(0, 200)
accounts = st.builds(
    CustomerAccount,
    customer_id=st.just("c"),
    balance=st.integers(-50, 200),
    held=st.integers(0, 50),
    bought=credits_up_to_200,
    net_spent=credits_up_to_200,
)
lists_of_payments = st.lists(
    st.builds(
        a_payment, st.integers(1, 9), credits_taken=st.integers(0, 100), currency=st.sampled_from(["USD", "EUR"])
    ),
    max_size=3,
)
requests = st.sampled_from(
    [
        (WITHDRAWAL, None),
        (replace(WITHDRAWAL, currency="EUR"), None),
        (replace(WITHDRAWAL, transaction_id="t"), CORRECTION),
        (CREDIT_REFUND, SPEND),
        (replace(CREDIT_REFUND, to=To.BALANCE), replace(SPEND, taken=20)),
        (CREDIT_REFUND, None),
    ]
)


@given(requests, st.one_of(st.none(), st.integers(1, 200)), accounts, lists_of_payments)
def test_no_request_above_the_maximum_is_accepted(
    request: tuple[RefundRequest, RefundableTransaction | None],
    credits: int | None,
    customer: CustomerAccount,
    payments: list[RefundablePayment],
) -> None:
    asked, transaction = replace(request[0], credits=credits), request[1]
    most = maximum_credits(asked, customer, transaction, payments)
    assert most >= 0
    try:
        taken = take(asked, customer, transaction, payments).credits
    except Refusal:
        return
    assert 0 < taken <= most
    if credits is None:
        assert taken == most


def test_maximum_is_the_least_of_transaction_account_and_payments() -> None:
    payments = [a_payment(1, credits=60), a_payment(2, credits=70, currency="EUR")]
    eur = replace(WITHDRAWAL, currency="EUR")
    assert maximum_credits(WITHDRAWAL, CUSTOMER, None, payments) == 130
    assert maximum_credits(eur, CUSTOMER, None, payments) == 70
    assert maximum_credits(WITHDRAWAL, replace(CUSTOMER, held=100), None, payments) == 50
    assert maximum_credits(CREDIT_REFUND, CUSTOMER, replace(SPEND, taken=20), payments) == 30
    assert maximum_credits(replace(CREDIT_REFUND, to=To.BALANCE), replace(CUSTOMER, balance=0), SPEND, []) == 50
    assert (
        maximum_credits(replace(WITHDRAWAL, transaction_id="t"), replace(CUSTOMER, bought=60), CORRECTION, payments)
        == 10
    )
    assert maximum_credits(CREDIT_REFUND, CUSTOMER, None, payments) == 0
