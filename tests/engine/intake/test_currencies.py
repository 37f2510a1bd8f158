"""The supported currencies: compared with the list of Babel, and checked at every entry point."""

from __future__ import annotations

from datetime import date

import pytest
from babel.core import get_global
from babel.numbers import get_territory_currencies

from refund_worker.domain.money import STRIPE_THREE_DECIMAL, STRIPE_ZERO_DECIMAL
from refund_worker.engine.intake.currencies import CURRENCIES
from refund_worker.engine.intake.schemas import PaymentSchema, RefundSchema, parse_schema
from refund_worker.errors import InvalidRequest

PAYMENT = {
    "payment_id": "p1",
    "customer_id": "ann",
    "processor": "stripe",
    "processor_payment_id": "ch_1",
    "amount_minor": 100,
    "credits": 100,
    "captured_at": "2026-11-01T00:00:00Z",
}
REFUND = {"kind": "withdrawal", "to": "source", "customer_id": "ann", "reason": "asked"}


def test_the_currencies_are_those_that_are_tender_somewhere() -> None:
    territories = get_global("territory_currencies")
    tender = {code for place in territories for code in get_territory_currencies(place, date(2026, 11, 1))}
    assert CURRENCIES - tender == {"ANG", "VED"}
    assert tender - CURRENCIES == set()
    assert STRIPE_ZERO_DECIMAL | STRIPE_THREE_DECIMAL < CURRENCIES


@pytest.mark.parametrize("currency", ["ZZZ", "GPB", "gpb", "XXX", "XTS", "XAU", "DEM"])
def test_what_is_no_currency_is_refused_by_name_wherever_it_comes_in(currency: str) -> None:
    for model, values in ((PaymentSchema, PAYMENT), (RefundSchema, REFUND)):
        with pytest.raises(InvalidRequest, match=r"^currency: must be a currency of ISO 4217") as refused:
            parse_schema(model, {**values, "currency": currency})
        assert refused.value.field == "currency"


@pytest.mark.parametrize("currency", ["GBP", "gbp", "Jpy", "KWD", "ISK", "UGX"])
def test_a_currency_is_taken_in_either_case_and_kept_in_upper_case(currency: str) -> None:
    assert parse_schema(PaymentSchema, {**PAYMENT, "currency": currency}).currency == currency.upper()
    assert parse_schema(RefundSchema, {**REFUND, "currency": currency}).currency == currency.upper()
