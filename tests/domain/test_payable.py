"""How much can be paid out in each currency, how a correction is divided, and what a correction is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refund_worker.domain.allocation import Payable, RefundablePayment, payable_by_currency, split_by_currency
from refund_worker.domain.ledger import EXPIRED, EntryKind, Purpose, correction, reversal


def payment(number: int, currency: str, credits: int, *, taken: int = 0) -> RefundablePayment:
    """Return a payment of 10 minor units for each credit."""
    return RefundablePayment(
        payment_id=f"p{number}",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        currency=currency,
        amount_minor=credits * 10,
        credits=credits,
        captured_at=float(number),
        credits_taken=taken,
        money_taken=taken * 10,
    )


PAYMENTS = [payment(1, "EUR", 300), payment(2, "USD", 150), payment(3, "USD", 100, taken=50), payment(4, "GBP", 9)]


@pytest.mark.parametrize(
    ("credits", "payable"),
    [
        (350, [("EUR", 300, 3_000), ("GBP", 9, 90), ("USD", 200, 2_000)]),
        (120, [("EUR", 120, 1_200), ("GBP", 9, 90), ("USD", 120, 1_200)]),
        (0, []),
    ],
)
def test_each_currency_pays_as_far_as_its_payments_reach(credits: int, payable: list[tuple[str, int, int]]) -> None:
    found = payable_by_currency(credits, PAYMENTS, "newest_first")
    assert [(part.currency, part.credits, part.amount_minor) for part in found] == payable


def test_a_currency_without_room_or_money_is_left_out() -> None:
    used_up = payment(1, "EUR", 300, taken=300)
    # A credit of this payment is worth less than half a cent.
    worthless = RefundablePayment(
        payment_id="w",
        processor="stripe",
        processor_payment_id="ch_w",
        currency="USD",
        amount_minor=1,
        credits=1_000,
        captured_at=1.0,
    )
    assert payable_by_currency(100, [used_up, worthless], "newest_first") == ()


@pytest.mark.parametrize(
    ("first", "parts"),
    [
        ("EUR", (("EUR", 300), ("USD", 50))),
        ("USD", (("USD", 200), ("EUR", 150))),
        ("GBP", (("GBP", 9), ("EUR", 300), ("USD", 41))),
        ("", (("EUR", 300), ("USD", 50))),
    ],
)
def test_parts_begin_with_the_chosen_currency(first: str, parts: tuple[tuple[str, int], ...]) -> None:
    payable = payable_by_currency(350, PAYMENTS, "newest_first")
    assert split_by_currency(350, payable, first) == parts


def test_parts_that_are_worth_nothing_are_left_out() -> None:
    cheap = replace(PAYMENTS[0], payment_id="cheap", currency="GBP", credits=1_000, amount_minor=100)
    dear = replace(PAYMENTS[0], payment_id="dear", currency="USD", credits=300, amount_minor=3_000)
    payable = payable_by_currency(1_000, [cheap, dear], "newest_first")
    assert split_by_currency(304, payable, "USD") == (("USD", 300),)
    assert split_by_currency(305, payable, "USD") == (("USD", 300), ("GBP", 5))
    assert split_by_currency(4, payable, "GBP") == (("USD", 4),)


def test_what_no_currency_can_pay_is_in_no_part() -> None:
    assert split_by_currency(400, [Payable("EUR", 350, 3_500)], "EUR") == (("EUR", 350),)


@pytest.mark.parametrize(
    ("credits", "asked", "purpose"),
    [
        (-5, None, "payout"),
        (-5, "payout", "payout"),
        (-5, "expiry", "expiry"),
        (-5, "other", "other"),
        (5, None, "other"),
        (5, "other", "other"),
    ],
)
def test_purpose_of_a_correction(credits: int, asked: str | None, purpose: str) -> None:
    assert Purpose.of(credits, Purpose(asked) if asked else None) == purpose


@pytest.mark.parametrize("asked", [Purpose.PAYOUT, Purpose.EXPIRY])
def test_added_credits_are_for_no_payout_and_no_expiry(asked: Purpose) -> None:
    with pytest.raises(ValueError, match=f"{asked} is for credits that are taken off"):
        Purpose.of(5, asked)


def test_expired_credits_are_an_entry_and_an_account_of_their_own() -> None:
    entry = correction(
        transaction_id="t", customer_id="c", credits=-40, reason="a year old", actor="a", at=1.0, purpose=Purpose.EXPIRY
    )
    assert entry.kind == "expiry"
    assert {(e.account, e.amount) for e in entry.entries} == {("customer:c", -40), (EXPIRED, 40)}
    back = reversal(of="t", kind=EntryKind.EXPIRY, customer_id="c", credits=-40, refund_id=None, actor="a", at=2.0)
    assert {(e.account, e.amount) for e in back.entries} == {("customer:c", 40), (EXPIRED, -40)}
    assert back.description == "Reversal of expiry t"
