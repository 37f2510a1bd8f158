"""The supported currencies and countries, compared with the lists of Babel."""

from __future__ import annotations

from datetime import date

from babel.core import Locale, get_global
from babel.numbers import get_territory_currencies

from refund_worker.domain.money import STRIPE_THREE_DECIMAL, STRIPE_ZERO_DECIMAL
from refund_worker.iso_codes import COUNTRIES, CURRENCIES

# The CLDR's other territories in two letters: groups of countries, islands without a code in ISO 3166, and test codes.
NO_COUNTRIES = {"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"}


def test_the_currencies_are_those_that_are_tender_somewhere() -> None:
    territories = get_global("territory_currencies")
    tender = {code for place in territories for code in get_territory_currencies(place, date(2026, 11, 1))}
    assert CURRENCIES - tender == {"ANG", "VED"}
    assert tender - CURRENCIES == set()
    assert STRIPE_ZERO_DECIMAL | STRIPE_THREE_DECIMAL < CURRENCIES


def test_the_countries_are_the_territories_of_iso_3166() -> None:
    territories = {code for code in Locale("en").territories if len(code) == 2 and code.isalpha()}
    assert territories - COUNTRIES == NO_COUNTRIES
    assert COUNTRIES - territories == set()
