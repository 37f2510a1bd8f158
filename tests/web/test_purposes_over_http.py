"""The purpose of a correction, and what can be paid out in each currency, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from tests.web.client import PAYMENT, Web, is_problem


def correct(web: Web, credits: int, key: str = "c", **fields: Any) -> Any:
    body = {"credits": credits, "reason": "agreed"} | fields
    return web.call("POST", "/v1/customers/cust-1/corrections", body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize(
    ("credits", "asked", "kind", "purpose"),
    [
        (-10, {}, "correction", "payout"),
        (-10, {"purpose": None}, "correction", "payout"),
        (-10, {"purpose": "payout"}, "correction", "payout"),
        (-10, {"purpose": "expiry"}, "expiry", "expiry"),
        (-10, {"purpose": "other"}, "correction", "other"),
        (10, {}, "correction", "other"),
        (10, {"purpose": "other"}, "correction", "other"),
    ],
)
def test_purpose_is_stored_and_shown(web: Web, credits: int, asked: dict[str, Any], kind: str, purpose: str) -> None:
    made = correct(web, credits, **asked)
    assert made.status_code == 201
    assert (made.json()["kind"], made.json()["purpose"]) == (kind, purpose)
    assert correct(web, credits, **asked).json() == made.json()
    listed = web.call("GET", "/v1/customers/cust-1/transactions").json()["data"]
    assert listed[0] == made.json()
    assert web.call("GET", "/v1/customers/cust-1").json()["recent_corrections"] == [made.json()]
    assert all("purpose" not in entry for entry in listed[1:])
    paid = web.refund("k", transaction_id=made.json()["transaction_id"], credits=None)
    if purpose == "payout":
        assert paid.status_code == 202
    else:
        assert is_problem(paid, 422, "unknown_transaction")
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150 + credits


@pytest.mark.parametrize(
    ("credits", "purpose"), [(-10, "gift"), (-10, ""), (-10, 1), (-10, "PAYOUT"), (10, "payout"), (10, "expiry")]
)
def test_wrong_purpose_is_refused_by_name(web: Web, credits: int, purpose: object) -> None:
    answer = correct(web, credits, purpose=purpose)
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "purpose"
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


def test_correction_of_zero_credits_is_refused_by_field_name(web: Web) -> None:
    answer = correct(web, 0)
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "credits"
    assert web.call("GET", "/v1/customers/cust-1").json()["recent_corrections"] == []


def test_same_key_with_another_purpose_is_refused(web: Web) -> None:
    assert correct(web, -10, purpose="other").status_code == 201
    for other in ({}, {"purpose": "payout"}, {"purpose": "expiry"}):
        assert is_problem(correct(web, -10, **other), 422, "idempotency_key_reused")


def test_customer_shows_what_can_be_paid_out_in_each_currency(web: Web) -> None:
    # cust-1 bought 200 credits for 20.00 EUR and spent 50.
    def payable() -> list[dict[str, Any]]:
        return list(web.call("GET", "/v1/customers/cust-1").json()["payable_by_currency"])

    assert payable() == [{"currency": "EUR", "credits": 150, "amount_minor": 1_500}]
    other = {"payment_id": "p2", "processor_payment_id": "ch_2", "currency": "USD", "credits": 40, "amount_minor": 800}
    web.call("POST", "/v1/payments", PAYMENT | other)
    both = [
        {"currency": "EUR", "credits": 190, "amount_minor": 1_900},
        {"currency": "USD", "credits": 40, "amount_minor": 800},
    ]
    assert payable() == both
    assert correct(web, 1_000, "gift").status_code == 201
    assert payable() == both, "credits that were given for free are not paid out"
    entry = correct(web, -190, "off").json()["transaction_id"]
    assert payable() == [], "what was taken off for a payout is not offered again"
    web.call("DELETE", f"/v1/transactions/{entry}")
    assert payable() == both
    assert web.refund("k", credits=150, currency="EUR").status_code == 202
    assert payable() == [
        {"currency": "EUR", "credits": 40, "amount_minor": 400},
        {"currency": "USD", "credits": 40, "amount_minor": 800},
    ]
