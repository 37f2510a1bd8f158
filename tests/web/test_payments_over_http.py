"""Payments, spends, corrections, the Transactions list and "Delete" over HTTP."""

from __future__ import annotations

import pytest
from tests.web.client import AT, PAYMENT, SPEND, Web, is_problem

from refund_worker.engine.refunds.process import process_until_idle


def correct(web: Web, credits: int, key: str, customer: str = "cust-1"):  # type: ignore[no-untyped-def]
    body = {"credits": credits, "reason": "agreed by phone"}
    return web.call("POST", f"/v1/customers/{customer}/corrections", body, headers={"Idempotency-Key": key})


def test_payment_recorded_twice_raises_the_balance_once(web: Web) -> None:
    again = web.call("POST", "/v1/payments", PAYMENT)
    assert again.status_code == 200
    assert again.json() == PAYMENT
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


def test_payment_with_another_body_is_a_conflict(web: Web) -> None:
    for other in ({"credits": 300}, {"payment_id": "pay-2"}):
        assert is_problem(web.call("POST", "/v1/payments", PAYMENT | other), 409, "already_recorded")
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


def test_payment_with_a_lower_case_currency_is_the_same_payment(web: Web) -> None:
    again = web.call("POST", "/v1/payments", PAYMENT | {"currency": PAYMENT["currency"].lower()})
    assert (again.status_code, again.json()) == (200, PAYMENT)


def test_payment_is_shown_as_recorded_with_the_processors_report(web: Web) -> None:
    told = {"captured_minor": 2000, "refunded_minor": 0, "verified": None, "processor_says": None}
    shown = web.call("GET", "/v1/payments/pay-1")
    told |= {"processor_payment_ids": ["ch_1"], "other_ids": [], "recorded_by": None}
    told |= {"processor_account": "stripe", "connect": None}
    told |= {"taken_minor": 0, "left_minor": 2000, "credits_taken": 0, "credits_left": 200}
    told |= {"closed_at": None, "close_reason": None, "fraud_warnings": []}
    assert (shown.status_code, shown.json()) == (200, PAYMENT | told)
    assert web.call("GET", "/v1/payments").json() == {"data": [shown.json()], "has_more": False}
    process_until_idle(web.context)
    assert is_problem(web.call("GET", "/v1/payments/pay-2"), 404, "not_found")


def test_payment_with_explicit_defaults_is_the_same_payment(web: Web) -> None:
    for said in ({"captured_minor": PAYMENT["amount_minor"]}, {"captured_minor": None}, {"refunded_minor": 0}, {}):
        assert web.call("POST", "/v1/payments", PAYMENT | said).status_code == 200, said
    other = PAYMENT | {"payment_id": "pay-2", "processor_payment_id": "ch_2"}
    assert web.call("POST", "/v1/payments", other | {"captured_minor": other["amount_minor"]}).status_code == 201
    assert web.call("POST", "/v1/payments", other).status_code == 200


def test_payment_accepts_captured_and_refunded_amounts(web: Web) -> None:
    more = {"captured_minor": 1500, "refunded_minor": 500}
    other = PAYMENT | {"payment_id": "pay-2", "processor_payment_id": "ch_2"} | more
    for status in (201, 200):
        answer = web.call("POST", "/v1/payments", other)
        assert (answer.status_code, answer.json()) == (status, other)
    shown = web.call("GET", "/v1/payments/pay-2").json()
    assert {name: shown[name] for name in more} == more
    assert is_problem(web.call("POST", "/v1/payments", other | {"captured_minor": 1400}), 409, "already_recorded")


@pytest.mark.parametrize(
    "wrong",
    [
        {"refunded_minor": 2001},
        {"captured_minor": 1500, "refunded_minor": 1501},
        {"captured_minor": 0},
        {"captured_minor": -1},
        {"captured_minor": "1500"},
        {"captured_minor": 1.5},
        {"refunded_minor": -1},
        {"refunded_minor": True},
    ],
    ids=str,
)
def test_inconsistent_captured_or_refunded_amounts_are_refused(web: Web, wrong: dict[str, object]) -> None:
    other = PAYMENT | {"payment_id": "pay-2", "processor_payment_id": "ch_2"} | wrong
    assert is_problem(web.call("POST", "/v1/payments", other), 422, "invalid_request")
    assert web.call("GET", "/v1/payments/pay-2").status_code == 404


def test_spend_recorded_twice_lowers_the_balance_once(web: Web) -> None:
    again = web.call("POST", "/v1/transactions", SPEND)
    assert again.status_code == 200
    assert again.json() == {
        "transaction_id": "tx-1",
        "kind": "spend",
        "credits": -50,
        "refers_to": None,
        "refund_id": None,
        "description": "Private chat",
        "occurred_at": AT,
    }
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150
    assert is_problem(web.call("POST", "/v1/transactions", SPEND | {"credits": 51}), 409, "already_recorded")


def test_a_spend_that_the_balance_does_not_cover_is_refused(web: Web) -> None:
    answer = web.call("POST", "/v1/transactions", SPEND | {"transaction_id": "tx-2", "credits": 151})
    assert is_problem(answer, 422, "insufficient_balance")
    answer = web.call("POST", "/v1/transactions", SPEND | {"transaction_id": "tx-2", "customer_id": "nobody"})
    assert is_problem(answer, 422, "unknown_customer")
    assert answer.json()["fields"] == ["customer_id"]


def test_a_correction_is_made_once_for_each_key(web: Web) -> None:
    first = correct(web, -40, "c-1")
    assert first.status_code == 201
    again = correct(web, -40, "c-1")
    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    other = correct(web, -41, "c-1")
    assert is_problem(other, 422, "idempotency_key_reused")
    assert other.json()["fields"] == ["credits"]
    customer = web.call("GET", "/v1/customers/cust-1").json()
    assert customer["balance"] == 110
    assert [entry["credits"] for entry in customer["recent_corrections"]] == [-40]


def test_a_correction_without_key_or_customer_or_credits_is_refused(web: Web) -> None:
    body = {"credits": 5, "reason": "gift"}
    answer = web.call("POST", "/v1/customers/cust-1/corrections", body)
    assert is_problem(answer, 400, "idempotency_key_missing")
    assert is_problem(correct(web, 5, "c-1", "nobody"), 404, "not_found")
    assert is_problem(correct(web, 0, "c-2"), 422, "invalid_request")
    assert is_problem(correct(web, -151, "c-3"), 422, "insufficient_balance")
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


def test_delete_reverses_a_correction_once(web: Web) -> None:
    correction = correct(web, 30, "c-1").json()
    path = f"/v1/transactions/{correction['transaction_id']}"
    answer = web.call("DELETE", path)
    assert answer.status_code == 200
    assert (answer.json()["kind"], answer.json()["credits"]) == ("reversal", -30)
    assert answer.json()["refers_to"] == correction["transaction_id"]
    assert web.call("DELETE", path).json() == answer.json()
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


def test_delete_of_what_is_already_spent_is_a_conflict(web: Web) -> None:
    gift = correct(web, 30, "c-1").json()
    web.call("POST", "/v1/transactions", SPEND | {"transaction_id": "tx-2", "credits": 180})
    answer = web.call("DELETE", f"/v1/transactions/{gift['transaction_id']}")
    assert is_problem(answer, 409, "insufficient_balance")


def test_delete_of_a_purchase_or_of_nothing_is_refused(web: Web) -> None:
    assert is_problem(web.call("DELETE", "/v1/transactions/tx-1"), 409, "not_reversible")
    assert is_problem(web.call("DELETE", "/v1/transactions/nothing"), 404, "not_found")


def test_credit_refund_shows_in_the_transactions_list(web: Web) -> None:
    refund = web.refund("k-1", kind="credit_refund", to="balance", transaction_id="tx-1", credits=20).json()
    process_until_idle(web.context)
    listed = web.call("GET", "/v1/customers/cust-1/transactions").json()
    assert [(entry["kind"], entry["credits"]) for entry in listed["data"]] == [
        ("credit_refund", 20),
        ("spend", -50),
        ("purchase", 200),
    ]
    assert not listed["has_more"]
    entry = listed["data"][0]
    assert (entry["refers_to"], entry["refund_id"]) == ("tx-1", refund["id"])
    reversal = web.call("DELETE", f"/v1/transactions/{entry['transaction_id']}")
    assert reversal.status_code == 200
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


def test_the_transactions_list_is_paged(web: Web) -> None:
    page = web.call("GET", "/v1/customers/cust-1/transactions", params={"limit": 1}).json()
    assert page["has_more"]
    last = page["data"][0]["transaction_id"]
    page = web.call("GET", "/v1/customers/cust-1/transactions", params={"starting_after": last}).json()
    assert [entry["kind"] for entry in page["data"]] == ["purchase"]
    assert not page["has_more"]
    unknown = web.call("GET", "/v1/customers/cust-1/transactions", params={"starting_after": "tx-none"})
    assert is_problem(unknown, 422, "invalid_request")
    assert unknown.json()["field"] == "starting_after"


def test_ids_with_slashes_are_reachable(web: Web) -> None:
    odd = {"payment_id": "p/2", "processor_payment_id": "ch_2", "customer_id": "shop/7"}
    assert web.call("POST", "/v1/payments", PAYMENT | odd).status_code == 201
    assert web.call("GET", "/v1/customers/shop%2F7").json()["balance"] == 200
    assert is_problem(web.call("GET", "/v1/customers/shop/7"), 404, "not_found")
    assert len(web.call("GET", "/v1/customers/shop%2F7/transactions").json()["data"]) == 1
    assert correct(web, 5, "c-1", "shop%2F7").status_code == 201


@pytest.mark.parametrize("path", ["", "/transactions"])
def test_unknown_customer_is_not_found(web: Web, path: str) -> None:
    for customer in ("nobody", "%00", "..%2F..", "x" * 300, "%C3%A9"):
        assert is_problem(web.call("GET", f"/v1/customers/{customer}{path}"), 404, "not_found")
