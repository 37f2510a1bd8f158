"""Amounts as text for people; the same on the command line and in the console."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from refund_worker.domain.money import decimal_places


def money(amount_minor: int, currency: str) -> str:
    """Return an amount as text, such as `1,234.50 GBP`; the decimals are those of the processor's minor unit."""
    # Slow to import, and most commands that programs run do not need it.
    from babel.numbers import format_currency

    exponent = decimal_places(currency)
    # Babel's own decimals are those of daily use, which differ from the minor unit for some currencies.
    pattern = "#,##0" + ("." + "0" * exponent if exponent else "") + " ¤¤"
    amount = Decimal(amount_minor).scaleb(-exponent)
    return str(format_currency(amount, currency, format=pattern, locale="en_US", currency_digits=False))


def monies(amounts: Iterable[tuple[str, int]]) -> str:
    """Return (currency, minor units) pairs as text."""
    return ", ".join(money(amount_minor, currency) for currency, amount_minor in amounts)
