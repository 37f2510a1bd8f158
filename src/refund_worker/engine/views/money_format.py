"""Amounts as text for people; the same on the command line and in the console."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from refund_worker.domain.money import decimal_places


def money(amount_minor: int, currency: str) -> str:
    """Return an amount as text, such as `1,234.50 GBP`; the decimals are those of the processor's minor unit."""
    exponent = decimal_places(currency)
    return f"{Decimal(amount_minor).scaleb(-exponent):,.{exponent}f} {currency.upper()}"


def monies(amounts: Iterable[tuple[str, int]]) -> str:
    """Return (currency, minor units) pairs as text."""
    return ", ".join(money(amount_minor, currency) for currency, amount_minor in amounts)
