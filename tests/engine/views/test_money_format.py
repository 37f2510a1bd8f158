"""Amounts as text: exact, with the decimals of the minor unit, and as Babel writes them for English."""

from __future__ import annotations

from decimal import Decimal

import pytest
from babel.numbers import format_currency
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.money import decimal_places
from refund_worker.engine.views.money_format import money, monies


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (0, "GBP", "0.00 GBP"),
        (5, "GBP", "0.05 GBP"),
        (123_450, "GBP", "1,234.50 GBP"),
        (-123_450, "GBP", "-1,234.50 GBP"),
        (1_234, "JPY", "1,234 JPY"),
        (1_234_567, "KWD", "1,234.567 KWD"),
        (10**12, "USD", "10,000,000,000.00 USD"),
    ],
)
def test_amount_has_the_decimals_of_its_currency(amount_minor: int, currency: str, text: str) -> None:
    assert money(amount_minor, currency) == text


@given(st.integers(-(10**12), 10**12), st.sampled_from(["USD", "JPY", "BHD", "ISK", "UGX", "HUF", "usd"]))
def test_text_is_the_one_of_an_independent_library(amount_minor: int, currency: str) -> None:
    places = decimal_places(currency)
    pattern = "#,##0" + ("." + "0" * places if places else "") + " ¤¤"
    amount = Decimal(amount_minor).scaleb(-places)
    written = format_currency(amount, currency, format=pattern, locale="en_US", currency_digits=False)
    assert money(amount_minor, currency) == written


def test_amounts_are_joined_by_commas() -> None:
    assert monies([("GBP", 100), ("JPY", 5)]) == "1.00 GBP, 5 JPY"
