"""Integers in minor units: exponents, rounding and splitting."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.money import decimal_places, proportion, smallest_step, split

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
def test_exponents_are_those_of_stripe(exponent: int, currencies: str) -> None:
    assert {decimal_places(currency) for currency in currencies.split()} == {exponent}


@pytest.mark.parametrize(
    ("currencies", "step"), [("USD JPY EUR", 1), ("ISK UGX", 100), ("KWD BHD JOD OMR TND", 10)], ids=str
)
def test_smallest_steps_are_those_of_stripe(currencies: str, step: int) -> None:
    assert {smallest_step(currency) for currency in currencies.split()} == {step}


@given(AMOUNTS, st.integers(1, 10**12), st.data(), st.sampled_from([1, 10, 100]))
def test_proportion_is_exact_and_rounds_half_up(whole: int, of: int, data: st.DataObject, step: int) -> None:
    part = data.draw(st.integers(0, of))
    found = proportion(whole, part, of, step)
    whole_in_steps = whole // step * step
    if part == of:
        assert found == whole_in_steps
    else:
        assert found == min(whole_in_steps, floor(Fraction(whole * part, of * step) + Fraction(1, 2)) * step)


@pytest.mark.parametrize(
    ("whole", "part", "of", "step", "expected"),
    [(4_010, 401, 401, 100, 4_000), (5_124, 5_124, 5_124, 10, 5_120), (4_070, 4_069, 4_070, 100, 4_000)],
)
def test_whole_off_the_step_is_rounded_down(whole: int, part: int, of: int, step: int, expected: int) -> None:
    assert proportion(whole, part, of, step) == expected


@pytest.mark.parametrize(
    ("whole", "part", "of", "expected"),
    [(1, 1, 2, 1), (3, 1, 2, 2), (100, 1, 3, 33), (100, 2, 3, 67), (1, 1, 3, 0), (10, 0, 3, 0), (5, 1, 10, 1)],
)
def test_halves_are_rounded_up(whole: int, part: int, of: int, expected: int) -> None:
    assert proportion(whole, part, of) == expected


@pytest.mark.parametrize(
    ("whole", "part", "of", "step"), [(1, 2, 1, 1), (1, -1, 1, 1), (1, 0, 0, 1), (-1, 0, 1, 1), (1, 0, 1, 0)]
)
def test_invalid_proportion_is_refused(whole: int, part: int, of: int, step: int) -> None:
    with pytest.raises(ValueError, match="proportion"):
        proportion(whole, part, of, step)


@given(AMOUNTS, st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any))
def test_split_sums_to_the_whole_with_parts_off_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(Fraction(part) - Fraction(total * weight, sum(weights))) < 1
        assert part == 0 or weight


def test_split_rest_goes_to_the_largest_then_the_earliest_remainder() -> None:
    assert split(10_000, (1, 1, 1)) == (3_334, 3_333, 3_333)
    assert split(2, (1, 5, 1)) == (0, 2, 0)
    assert split(0, (1, 2)) == (0, 0)


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [0, 0]), (1, [2, -1])])
def test_invalid_split_is_refused(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="split"):
        split(total, weights)
