"""Which payments money goes back over, and how much over each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.allocation import PaymentRoom, allocate, replace_share

ALLOCATIONS = ["newest_first", "oldest_first", "pro_rata"]


def a_payment(number: int, amount_minor: int = 1_000, credits: int = 100, **changes: object) -> PaymentRoom:
    payment = PaymentRoom(
        payment_id=f"pay{number}",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        currency="USD",
        amount_minor=amount_minor,
        credits=credits,
        captured_at=float(number),
    )
    return replace(payment, **changes)  # type: ignore[arg-type]


def taken(payment: PaymentRoom, credits: int, money: int) -> PaymentRoom:
    return replace(payment, credits_taken=payment.credits_taken + credits, money_taken=payment.money_taken + money)


@given(
    st.integers(1, 10**9),
    st.integers(1, 1_000),
    st.sampled_from(["USD", "JPY", "ISK", "KWD"]),
    st.lists(st.integers(1, 400), max_size=30),
)
def test_any_sequence_of_parts_returns_exactly_what_was_paid_and_never_more(
    amount: int, credits: int, currency: str, parts: list[int]
) -> None:
    payment = a_payment(1, amount, credits, currency=currency)
    for part in [*parts, credits]:
        part = min(part, payment.credits_left)
        worth = payment.worth(part)
        assert 0 <= worth <= payment.money_left
        payment = taken(payment, part, worth)
        so_far = amount * payment.credits_taken / credits
        step = 100 if currency == "ISK" and amount % 100 == 0 else 10 if currency == "KWD" and amount % 10 == 0 else 1
        assert abs(payment.money_taken - so_far) <= step / 2 + 1e-3, "rounding must not add up"
        assert payment.money_taken % step == 0
    assert payment.money_taken == amount


def test_newest_first_takes_the_later_capture_and_then_the_greater_id() -> None:
    payments = [a_payment(1), a_payment(3), a_payment(2, captured_at=3.0)]
    shares = allocate(150, payments, "newest_first")
    assert [(s.payment.payment_id, s.credits, s.amount_minor) for s in shares] == [
        ("pay3", 100, 1_000),
        ("pay2", 50, 500),
    ]


def test_oldest_first_begins_at_the_other_end() -> None:
    shares = allocate(150, [a_payment(2), a_payment(1), a_payment(3)], "oldest_first")
    assert [(s.payment.payment_id, s.credits) for s in shares] == [("pay1", 100), ("pay2", 50)]


def test_pro_rata_takes_of_each_by_its_room() -> None:
    shares = allocate(30, [a_payment(1), a_payment(2, credits_taken=50, money_taken=500)], "pro_rata")
    assert {s.payment.payment_id: s.credits for s in shares} == {"pay1": 20, "pay2": 10}


@given(
    st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=5),
    st.sampled_from(ALLOCATIONS),
    st.integers(1, 250),
)
def test_an_allocation_takes_exactly_the_credits_asked_and_no_payment_beyond_its_room(
    given_payments: list[tuple[int, int, int]], allocation: str, credits: int
) -> None:
    payments = []
    for number, (amount, of, used) in enumerate(given_payments):
        payment = a_payment(number, amount, of)
        payments.append(taken(payment, min(used, of), payment.worth(min(used, of))))
    room = sum(p.credits_left for p in payments)
    if credits > room:
        with pytest.raises(ValueError, match="not enough room"):
            allocate(credits, payments, allocation)
        return
    shares = allocate(credits, payments, allocation)
    assert sum(s.credits for s in shares) == credits
    for share in shares:
        assert 0 < share.credits == share.payment_credits <= share.payment.credits_left
        assert 0 <= share.amount_minor <= share.payment.money_left
    assert len({s.payment.payment_id for s in shares}) == len(shares)


@given(
    st.integers(1, 3_000),
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(1, 2_000), st.integers(1, 50), st.integers(0, 50)), max_size=4),
    st.sampled_from(ALLOCATIONS),
)
def test_another_way_conserves_money_and_credits(
    amount: int, credits: int, given_payments: list[tuple[int, int, int]], allocation: str
) -> None:
    payments = []
    for number, (minor, of, used) in enumerate(given_payments):
        payment = a_payment(number, minor, of)
        payments.append(taken(payment, min(used, of), payment.worth(min(used, of))))
    shares, unplaced = replace_share(amount, credits, payments, allocation)
    placed = sum(s.amount_minor for s in shares)
    assert sum(s.credits for s in shares) + unplaced == credits
    assert placed == min(amount, sum(p.money_left for p in payments if p.credits_left))
    assert unplaced == 0 or placed < amount
    for share in shares:
        assert 0 < share.amount_minor <= share.payment.money_left
        assert 0 <= share.payment_credits <= share.payment.credits_left
        after = taken(share.payment, share.payment_credits, share.amount_minor)
        assert after.worth(after.credits_left) <= after.money_left
