"""Money as integers in minor units: rounding, splitting, and the one table of Stripe's exponents.

No float and no division of money outside this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

# The largest amount of money or credits accepted anywhere: fits a 64-bit column with room for sums, and Stripe's own
# limit of eight digits many times over.
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
    """An amount in what is stored to be read, such as `1,234.50 GBP`: bare minor units look like a hundred times that.

    >>> as_text(600, "EUR"), as_text(600, "JPY")
    ('6.00 EUR', '600 JPY')
    """
    return f"{Decimal(amount_minor).scaleb(-decimal_places(currency)):,} {currency}"


def smallest_step(currency: str) -> int:
    """The step in minor units that every amount of `currency` (upper case) must keep to."""
    return STRIPE_STEP.get(currency, 1)


def down_to_step(amount_minor: int, step: int) -> int:
    """The largest multiple of `step` that is no more than `amount_minor`."""
    return amount_minor // step * step


def proportion(whole_minor: int, part: int, of: int, step: int = 1, *, taken_minor: int = 0) -> int:
    """`whole_minor` × `part` / `of` less `taken_minor`, rounded half up to a multiple of `step`: 0 to all the rest.

    The whole of a rest that does not keep the step is the multiple below it. What was taken before may break the step:
    it is taken off first, so that nothing is lost by rounding twice. Needs 0 <= part <= of and of > 0.
    """
    if not (of > 0 and 0 <= part <= of and whole_minor >= 0 and step > 0):
        raise ValueError("a proportion needs 0 <= part <= of, of > 0 and a whole that is not negative")
    most = down_to_step(max(0, whole_minor - taken_minor), step)
    share = whole_minor * part - taken_minor * of  # times `of`
    return most if part == of else max(0, min(most, (2 * share + of * step) // (2 * of * step) * step))


def split(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """`total` in parts by `weights`, by largest remainder, the earlier first among equals; the parts sum to `total`."""
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0 or total < 0:
        raise ValueError("a split needs a total that is not negative and weights with a positive sum")
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return tuple(parts)
