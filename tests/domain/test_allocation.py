"""The choice of the payments over which money goes back, and of the amount over each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.allocation import RefundablePayment, allocate, replace_share

STEPS = {"ISK": 100, "KWD": 10}
ALLOCATIONS = ["newest_first", "oldest_first", "pro_rata"]


def a_payment(number: int, amount_minor: int = 1_000, credits: int = 100, **changes: object) -> RefundablePayment:
    """Return a payment of 10.00 USD for 100 credits, with `changes`."""
    payment = RefundablePayment(
        payment_id=f"pay{number}",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        currency="USD",
        amount_minor=amount_minor,
        credits=credits,
        captured_at=float(number),
    )
    return replace(payment, **changes)  # type: ignore[arg-type]


def taken(payment: RefundablePayment, credits: int, money: int) -> RefundablePayment:
    """Return the payment after credits and money of it are taken."""
    return replace(payment, credits_taken=payment.credits_taken + credits, money_taken=payment.money_taken + money)


@given(
    st.integers(1, 10**9),
    st.integers(1, 1_000),
    st.sampled_from(["USD", "JPY", "ISK", "KWD"]),
    st.lists(st.integers(1, 400), max_size=30),
)
def test_any_parts_return_exactly_the_payment_in_currency_steps(
    amount: int, credits: int, currency: str, parts: list[int]
) -> None:
    payment = a_payment(1, amount, credits, currency=currency)
    for part in [*parts, credits]:
        part = min(part, payment.credits_left)
        money_for = payment.money_for(part)
        assert 0 <= money_for <= payment.money_left
        payment = taken(payment, part, money_for)
        so_far = amount * payment.credits_taken / credits
        step = STEPS.get(currency, 1)
        below = amount % step if payment.money_taken == amount // step * step else 0
        assert abs(payment.money_taken - so_far) <= max(step / 2 + 1e-3, below), "rounding must not add up"
        assert money_for % step == 0
    assert payment.money_taken == amount // step * step
    assert payment.money_taken + payment.unreturnable_minor == amount


@given(
    st.integers(1_000, 10**7),
    st.integers(0, 10**7),
    st.sampled_from(["USD", "JPY", "ISK", "KWD"]),
    st.lists(st.integers(1, 400), max_size=10),
)
def test_after_outside_refunds_all_whole_steps_are_returned(
    amount: int, gone: int, currency: str, parts: list[int]
) -> None:
    payment = a_payment(1, amount, 1_000, currency=currency).after_refunds_elsewhere(None, gone)
    gone, step = payment.money_taken, STEPS.get(currency, 1)
    for part in [*parts, payment.credits_left]:
        shares = allocate(min(part, payment.credits_left), [payment], "newest_first")
        for share in shares:
            assert share.amount_minor % step == 0
            payment = taken(payment, share.payment_credits, share.amount_minor)
            assert share.unreturnable_minor == (0 if payment.credits_left else amount - payment.money_taken)
    if (
        gone < amount
        and payment.credits_taken > a_payment(1, amount, 1_000).after_refunds_elsewhere(None, gone).credits_taken
    ):
        assert payment.money_taken - gone == (amount - gone) // step * step


@given(st.integers(100, 10**6), st.integers(0, 10**6), st.sampled_from(["USD", "ISK", "KWD"]), st.integers(1, 10**6))
def test_credits_for_an_amount_are_the_fewest_that_cover_it(amount: int, gone: int, currency: str, wanted: int) -> None:
    payment = a_payment(1, amount, 1_000, currency=currency).after_refunds_elsewhere(None, gone)
    wanted = min(wanted, payment.money_left) // payment.step * payment.step
    if payment.credits_left and wanted:
        credits = payment.credits_for(wanted)
        assert payment.money_for(credits) >= wanted > payment.money_for(credits - 1)


def test_overdrawn_share_gives_zero_money_and_never_less() -> None:
    payment = a_payment(1, 1_000, 100, credits_taken=10, money_taken=500)
    assert [payment.money_for(credits) for credits in (1, 40, 41, 90)] == [0, 0, 10, 500]


def test_newest_first_sorts_by_capture_then_id() -> None:
    payments = [a_payment(1), a_payment(3), a_payment(2, captured_at=3.0)]
    shares = allocate(150, payments, "newest_first")
    assert [(s.payment.payment_id, s.credits, s.amount_minor) for s in shares] == [
        ("pay3", 100, 1_000),
        ("pay2", 50, 500),
    ]


def test_oldest_first_starts_with_the_oldest_payment() -> None:
    shares = allocate(150, [a_payment(2), a_payment(1), a_payment(3)], "oldest_first")
    assert [(s.payment.payment_id, s.credits) for s in shares] == [("pay1", 100), ("pay2", 50)]


def test_pro_rata_splits_by_the_credits_left() -> None:
    shares = allocate(30, [a_payment(1), a_payment(2, credits_taken=50, money_taken=500)], "pro_rata")
    assert {s.payment.payment_id: s.credits for s in shares} == {"pay1": 20, "pay2": 10}


@given(
    st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=5),
    st.sampled_from(ALLOCATIONS),
    st.integers(1, 250),
)
def test_allocation_takes_the_requested_credits_and_overdraws_nothing(
    given_payments: list[tuple[int, int, int]], allocation: str, credits: int
) -> None:
    payments = []
    for number, (amount, of, used) in enumerate(given_payments):
        payment = a_payment(number, amount, of)
        payments.append(taken(payment, min(used, of), payment.money_for(min(used, of))))
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
    st.sampled_from(["USD", "ISK", "KWD"]),
)
def test_replacement_conserves_money_and_credits_in_currency_steps(
    amount: int, credits: int, given_payments: list[tuple[int, int, int]], allocation: str, currency: str
) -> None:
    step = STEPS.get(currency, 1)
    payments = []
    for number, (minor, of, used) in enumerate(given_payments):
        payment = a_payment(number, minor, of, currency=currency)
        payments.append(taken(payment, min(used, of), payment.money_for(min(used, of))))
    shares, unplaced = replace_share(amount, credits, payments, allocation)
    placed = sum(s.amount_minor for s in shares)
    assert sum(s.credits for s in shares) + unplaced == credits
    assert placed == min(amount // step * step, sum(p.money_left for p in payments if p.credits_left))
    assert unplaced == 0 or placed < amount
    for share in shares:
        assert share.amount_minor % step == 0
        assert 0 < share.amount_minor <= share.payment.money_left
        assert 0 <= share.payment_credits <= share.payment.credits_left
        after = taken(share.payment, share.payment_credits, share.amount_minor)
        assert after.money_for(after.credits_left) <= after.money_left


@pytest.mark.parametrize(
    ("currency", "amount", "returned", "rest"), [("ISK", 4_010, 4_000, 10), ("KWD", 5_124, 5_120, 4), ("USD", 5, 5, 0)]
)
def test_payment_off_the_step_returns_whole_steps_and_shows_the_rest(
    currency: str, amount: int, returned: int, rest: int
) -> None:
    payment = a_payment(1, amount, 400, currency=currency)
    (whole,) = allocate(400, [payment], "newest_first")
    assert (whole.amount_minor, whole.unreturnable_minor, whole.credits) == (returned, rest, 400)
    (part,) = allocate(200, [payment], "newest_first")
    assert part.unreturnable_minor == 0
    (last,) = allocate(200, [taken(payment, 200, part.amount_minor)], "newest_first")
    assert (part.amount_minor + last.amount_minor, last.unreturnable_minor) == (returned, rest)


def test_old_amount_off_the_step_leaves_its_rest_unplaced() -> None:
    """A leg of 40.10 ISK was refused: 40 go over the other payment, and the tenth cannot be placed."""
    shares, unplaced = replace_share(4_010, 401, [a_payment(1, 100_000, 10_000, currency="ISK")], "newest_first")
    assert [(s.amount_minor, s.credits) for s in shares] == [(4_000, 400)]
    assert unplaced == 1


@pytest.mark.parametrize(("asked", "rest"), [(4_000, 10), (3_000, 0)])
def test_replacement_that_takes_the_last_credits_shows_the_rest(asked: int, rest: int) -> None:
    ((share,), _) = replace_share(asked, 400, [a_payment(1, 4_010, 10, currency="ISK")], "newest_first")
    assert (share.amount_minor, share.unreturnable_minor) == (asked, rest)


def test_overdrawn_payment_has_zero_left() -> None:
    overdrawn = a_payment(1, 1_000, 100, credits_taken=120, money_taken=1_200)
    assert (overdrawn.credits_left, overdrawn.money_left) == (0, 0)


def test_money_captured_beyond_the_amount_is_ignored() -> None:
    assert a_payment(1).after_refunds_elsewhere(2_000, 0).money_left == 1_000
    assert a_payment(1).after_refunds_elsewhere(400, 100).money_left == 300


def test_payment_without_credits_left_replaces_nothing() -> None:
    """Rounding may leave a minor unit of it."""
    assert replace_share(1, 5, [taken(a_payment(1), 100, 999)], "newest_first") == ((), 5)
