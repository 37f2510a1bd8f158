"""Money as integers in minor units: rounding, splitting, and the only table of Stripe's exponents.

No other file uses a float for money or divides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

# The largest accepted amount of money or credits. Sums of it fit a 64-bit column, and it is many times Stripe's own
# limit of eight digits.
AMOUNT_MAX = 10**12

# Stripe's own minor units (docs.stripe.com/currencies, read 2026-11): not always ISO 4217's.
STRIPE_ZERO_DECIMAL = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
STRIPE_THREE_DECIMAL = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))
# Sent with two decimals that must both be zero (ISK, UGX), or with three of which the last must be zero.
STRIPE_STEP = dict.fromkeys(("ISK", "UGX"), 100) | dict.fromkeys(STRIPE_THREE_DECIMAL, 10)


def decimal_places(currency: str) -> int:
    """Return the number of decimals in the minor unit of `currency` (upper case), as Stripe counts: 0, 2 or 3."""
    if currency in STRIPE_ZERO_DECIMAL:
        return 0
    return 3 if currency in STRIPE_THREE_DECIMAL else 2


def as_text(amount_minor: int, currency: str) -> str:
    """Return an amount for stored texts, such as `1,234.50 GBP`. Bare minor units read like a hundred times that.

    >>> as_text(600, "EUR"), as_text(600, "JPY")
    ('6.00 EUR', '600 JPY')
    """
    return f"{Decimal(amount_minor).scaleb(-decimal_places(currency)):,} {currency}"


def smallest_step(currency: str) -> int:
    """Return the step in minor units: every amount of `currency` (upper case) must be a multiple of it."""
    return STRIPE_STEP.get(currency, 1)


def larger_steps() -> Mapping[str, int]:
    """Return the currencies whose step is more than one minor unit, with it."""
    return STRIPE_STEP


def down_to_step(amount_minor: int, step: int) -> int:
    """Return the largest multiple of `step` that is at most `amount_minor`."""
    return amount_minor // step * step


def proportion(whole_minor: int, part: int, of: int, step: int = 1, *, taken_minor: int = 0) -> int:
    """Return `whole_minor` × `part` / `of` less `taken_minor`, rounded half up to a multiple of `step`.

    The result is at least 0 and at most the rest. A rest that is no multiple of the step is rounded down to one. The
    amount taken before may break the step: it is subtracted first, so that no money is lost by rounding twice. Raises
    `ValueError` unless 0 <= part <= of and of > 0.
    """
    if not (of > 0 and 0 <= part <= of and whole_minor >= 0 and step > 0):
        raise ValueError("a proportion needs 0 <= part <= of, of > 0 and a whole that is not negative")
    most = down_to_step(max(0, whole_minor - taken_minor), step)
    share = whole_minor * part - taken_minor * of  # times `of`
    return most if part == of else max(0, min(most, (2 * share + of * step) // (2 * of * step) * step))


def credits_for(amount_minor: int, currency: str, per_major: Decimal) -> int:
    """Return the credits that an amount buys at `per_major` for each major unit, rounded half up.

    >>> credits_for(1_999, "EUR", Decimal(100)), credits_for(500, "JPY", Decimal("1.5"))
    (1999, 750)
    """
    bought = (Decimal(amount_minor) * per_major).scaleb(-decimal_places(currency))
    return int(bought.to_integral_value(rounding=ROUND_HALF_UP))


def split(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split `total` into parts by `weights`, by largest remainder. The parts sum to `total`.

    Among equal remainders the earlier part comes first. Raises `ValueError` for a negative total or weight, or if all
    weights are 0.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0 or total < 0:
        raise ValueError("a split needs a total that is not negative and weights with a positive sum")
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return tuple(parts)
