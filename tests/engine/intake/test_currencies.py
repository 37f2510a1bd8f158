"""Currencies and countries are checked at every entry point."""

from __future__ import annotations

import pytest

from refund_worker.engine.intake.payee_schemas import PayeeChangeSchema, PayeeSchema
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


PAYEE = {"processor_account": "stripe", "destination": {"kind": "manual", "text": "cash"}, "currency": "EUR"}


@pytest.mark.parametrize("country", ["ZZ", "zz", "EU", "UK", "XX"])
def test_what_is_no_country_is_refused_by_name(country: str) -> None:
    for model, values in ((PayeeSchema, {**PAYEE, "payee_id": "p"}), (PayeeChangeSchema, PAYEE)):
        with pytest.raises(InvalidRequest, match=r"^country: must be a country of ISO 3166, such as DE$") as refused:
            parse_schema(model, {**values, "country": country})
        assert refused.value.field == "country"


@pytest.mark.parametrize(("country", "stored"), [("DE", "DE"), ("gb", "GB"), ("Xk", "XK"), (None, None)])
def test_country_is_stored_in_upper_case_and_may_be_missing(country: str | None, stored: str | None) -> None:
    assert parse_schema(PayeeChangeSchema, {**PAYEE, "country": country}).country == stored
    assert parse_schema(PayeeChangeSchema, PAYEE).country is None
