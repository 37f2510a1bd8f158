"""Integers in minor units: exponents, rounding and splitting."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.money import proportion, smallest_step, split, stripe_exponent

AMOUNTS = st.integers(0, 10**12)


@pytest.mark.parametrize(
    ("exponent", "currencies"),
    [
        (0, "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"),
        (2, "USD EUR GBP NPR HUF TWD"),
        (2, "ISK UGX"),  # without decimals in daily life, and with two at Stripe
        (3, "BHD JOD KWD OMR TND"),
    ],
)
def test_exponents_are_stripes_own(exponent: int, currencies: str) -> None:
    assert {stripe_exponent(currency) for currency in currencies.split()} == {exponent}


@pytest.mark.parametrize(
    ("currency", "amount", "step"),
    [("USD", 5, 1), ("JPY", 500, 1), ("ISK", 500, 100), ("UGX", 100, 100), ("KWD", 120, 10), ("ISK", 501, 1)],
)
def test_parts_keep_to_stripes_smallest_step_where_the_whole_does(currency: str, amount: int, step: int) -> None:
    assert smallest_step(currency, amount) == step


@given(AMOUNTS, st.integers(1, 10**12), st.data(), st.sampled_from([1, 10, 100]))
def test_a_proportion_is_exact_and_rounds_half_up(whole: int, of: int, data: st.DataObject, step: int) -> None:
    part = data.draw(st.integers(0, of))
    found = proportion(whole, part, of, step)
    if part == of:
        assert found == whole
    else:
        assert found == floor(Fraction(whole * part, of * step) + Fraction(1, 2)) * step


@pytest.mark.parametrize(
    ("whole", "part", "of", "expected"),
    [(1, 1, 2, 1), (3, 1, 2, 2), (100, 1, 3, 33), (100, 2, 3, 67), (1, 1, 3, 0), (10, 0, 3, 0), (5, 1, 10, 1)],
)
def test_halves_go_up(whole: int, part: int, of: int, expected: int) -> None:
    assert proportion(whole, part, of) == expected


@pytest.mark.parametrize(
    ("whole", "part", "of", "step"), [(1, 2, 1, 1), (1, -1, 1, 1), (1, 0, 0, 1), (-1, 0, 1, 1), (1, 0, 1, 0)]
)
def test_a_proportion_that_makes_no_sense_is_refused(whole: int, part: int, of: int, step: int) -> None:
    with pytest.raises(ValueError, match="proportion"):
        proportion(whole, part, of, step)


@given(AMOUNTS, st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any))
def test_the_parts_of_a_split_sum_to_the_whole_and_are_off_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(Fraction(part) - Fraction(total * weight, sum(weights))) < 1
        assert part == 0 or weight


def test_what_is_left_of_a_split_goes_to_the_largest_remainder_and_among_equals_to_the_earlier() -> None:
    assert split(10_000, (1, 1, 1)) == (3_334, 3_333, 3_333)
    assert split(2, (1, 5, 1)) == (0, 2, 0)
    assert split(0, (1, 2)) == (0, 0)


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [0, 0]), (1, [2, -1])])
def test_a_split_that_makes_no_sense_is_refused(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="split"):
        split(total, weights)
