"""Refund requests over HTTP, and the actions of a person on them."""

from __future__ import annotations

import pytest
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases
from tests.web.client import PAYMENT, SPEND, Web, is_problem, settings_for


def test_a_new_refund_is_accepted_with_its_location_and_version(web: Web) -> None:
    answer = web.refund("k-1")
    assert answer.status_code == 202
    refund = answer.json()
    assert answer.headers["location"] == f"/v1/refunds/{refund['id']}"
    assert answer.headers["etag"] == f'"{refund["version"]}"'
    assert "idempotent-replayed" not in answer.headers
    assert refund["status"] == "queued"
    assert refund["amounts"] == [{"currency": "EUR", "requested_minor": 100, "succeeded_minor": 0}]
    assert web.call("GET", answer.headers["location"]).json() == refund


def test_same_key_and_body_return_the_same_refund(web: Web) -> None:
    first = web.refund("k-1")
    again = web.refund("k-1")
    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert web.call("GET", "/v1/customers/cust-1").json()["available"] == 140


def test_the_same_key_with_another_body_is_refused_naming_the_fields(web: Web) -> None:
    web.refund("k-1")
    answer = web.refund("k-1", credits=11, note="more")
    assert is_problem(answer, 422, "idempotency_key_reused")
    assert "was used before with another value of " in answer.json()["detail"]
    assert answer.json()["fields"] == ["credits", "note"]
    assert len(web.call("GET", "/v1/refunds").json()["data"]) == 1


def test_the_same_key_of_another_client_is_another_refund(web: Web) -> None:
    other = web.key("requester", client="other-backend")
    first, second = web.refund("k-1"), web.refund("k-1", key=other)
    assert second.status_code == 202
    assert first.json()["id"] != second.json()["id"]


def test_without_an_idempotency_key_nothing_is_stored(web: Web) -> None:
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
    for headers in ({}, {"Idempotency-Key": ""}):
        assert is_problem(web.call("POST", "/v1/refunds", body, headers=headers), 400, "idempotency_key_missing")
    assert web.call("GET", "/v1/refunds").json() == {"data": [], "has_more": False}


def test_each_refusal_has_its_code_and_stores_nothing(web: Web) -> None:
    refusals = {
        "unknown_customer": {"customer_id": "nobody"},
        "unknown_transaction": {"kind": "credit_refund", "to": "balance", "transaction_id": "nothing"},
        "exceeds_refundable": {"kind": "credit_refund", "to": "balance", "transaction_id": "tx-1", "credits": 51},
        "currency_mismatch": {"currency": "USD"},
        "invalid_request": {"credits": 0},
    }
    for code, fields in refusals.items():
        assert is_problem(web.refund(f"k-{code}", **fields), 422, code)
    assert web.call("GET", "/v1/refunds").json()["data"] == []


@pytest.mark.parametrize(
    ("field", "code", "body"),
    [
        ("customer_id", "unknown_customer", {"customer_id": "nobody"}),
        ("transaction_id", "unknown_transaction", {"kind": "credit_refund", "transaction_id": "nothing"}),
        ("payee_id", "unknown_payee", {"to": "payout", "payee_id": "nobody"}),
        ("currency", "currency_mismatch", {"currency": "USD"}),
    ],
)
def test_what_is_not_known_is_named_in_fields(web: Web, field: str, code: str, body: dict[str, str]) -> None:
    refused = web.refund("k-1", **body)
    assert is_problem(refused, 422, code)
    assert (refused.json()["field"], refused.json()["fields"]) == (field, [field])


def test_timeline_names_the_requester(web: Web) -> None:
    key = web.key("requester", name="anna")
    refund = web.refund("k-1", key=key).json()
    (event,) = web.call("GET", f"/v1/refunds/{refund['id']}/events").json()["data"]
    assert (event["what"], event["who"], event["why"]) == ("accepted", "backend/anna", "asked")


def test_lists_are_filtered_and_paged_newest_first(web: Web) -> None:
    ids = [web.refund(f"k-{n}").json()["id"] for n in range(5)]
    canceled = web.call("POST", f"/v1/refunds/{ids[0]}/cancel", {"reason": "mistake"})
    assert canceled.status_code == 200
    page = web.call("GET", "/v1/refunds", params={"limit": 2}).json()
    assert [r["id"] for r in page["data"]] == [ids[4], ids[3]]
    assert page["has_more"]
    page = web.call("GET", "/v1/refunds", params={"limit": 3, "starting_after": ids[3]}).json()
    assert [r["id"] for r in page["data"]] == [ids[2], ids[1], ids[0]]
    assert not page["has_more"]

    def ids_of(**params: object) -> list[str]:
        return [r["id"] for r in web.call("GET", "/v1/refunds", params=params).json()["data"]]

    assert len(ids_of(limit=500)) == 5
    assert ids_of(status="canceled") == [ids[0]]
    assert len(ids_of(status=["canceled", "queued"])) == 5
    assert ids_of(idempotency_key="k-2") == [ids[2]]
    assert ids_of(customer_id="nobody") == []
    assert ids_of(created_gte="2099-01-01T00:00:00+00:00") == []
    assert len(ids_of(created_gte="2020-01-01T00:00:00Z")) == 5
    assert len(ids_of(created_gte="2020-01-01")) == 5
    assert ids_of(created_gte="2099-01-01") == []
    assert ids_of(failure_code="expired_or_canceled_card") == []


def test_wrong_or_unknown_filter_is_refused(web: Web) -> None:
    for query, field in {
        "limit=0": "limit",
        "limit=501": "limit",
        "limit=١٠": "limit",
        "limit=1e1": "limit",
        "status=done": "status",
        "statuss=queued": "statuss",
        "created_gte=yesterday": "created_gte",
        "created_gte=2026-01-01T00:00:00": "created_gte",
        "starting_after=%00": "starting_after",
        "limit=1&limit=2": "limit",
        "customer_id=ann&customer_id=bob": "customer_id",
    }.items():
        answer = web.call("GET", f"/v1/refunds?{query}")
        assert is_problem(answer, 422, "invalid_request")
        assert answer.json()["field"].startswith(field), query


def test_repeated_parameter_is_refused_where_none_is_read(web: Web) -> None:
    for path in ("/v1/customers/ann/transactions?limit=1&limit=2", "/v1/refunds/rf_none?x=1&x=1"):
        answer = web.call("GET", path)
        assert is_problem(answer, 422, "invalid_request"), path
        assert "more than once" in answer.json()["detail"]
    assert web.call("GET", "/v1/refunds?status=queued&status=canceled").status_code == 200


def test_preview_stores_nothing(web: Web) -> None:
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "reason": "asked"}
    told = web.call("POST", "/v1/refunds/preview", body).json()
    assert told["would_be"] == "accepted"
    assert told["maximum_credits"] == 150
    assert (told["balance_before"], told["balance_after"]) == (150, 0)
    assert told["policy"]["needs_approval"]
    assert web.call("GET", "/v1/refunds").json()["data"] == []
    assert web.call("GET", "/v1/customers/cust-1").json()["available"] == 150


def test_list_ends_at_a_time_or_with_a_day(web: Web) -> None:
    refund = web.refund("k-1").json()
    day, before = refund["created_at"][:10], "2026-01-01T00:00:00%2B01:00"
    for until, found in ((refund["created_at"], 1), (day, 1), (before, 0), ("1970-01-01", 0), ("2199-12-31", 1)):
        answer = web.call("GET", f"/v1/refunds?created_lte={until}&created_gte=1970-01-01")
        assert (answer.status_code, len(answer.json()["data"])) == (200, found), until
    assert is_problem(web.call("GET", "/v1/refunds?created_lte=tomorrow"), 422, "invalid_request")


def test_velocity_limit_answers_429_with_retry_after(migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url, VELOCITY_COUNT="1", VELOCITY_WINDOW_SECONDS="7200")) as web:
        web.seed()
        assert web.refund("k-1").status_code == 202
        refused = web.refund("k-2")
    assert is_problem(refused, 429, "velocity_exceeded")
    assert 7_000 < int(refused.headers["Retry-After"]) <= 7_200


def test_metadata_may_be_null_and_integers_are_kept_as_digits(web: Web) -> None:
    none = web.refund("k-1", metadata=None)
    assert (none.status_code, none.json()["metadata"]) == (202, {})
    assert web.refund("k-1").headers["Idempotent-Replayed"] == "true"
    numbered = web.refund("k-2", metadata={"order": 1001})
    assert (numbered.status_code, numbered.json()["metadata"]) == (202, {"order": "1001"})
    assert web.refund("k-2", metadata={"order": "1001"}).headers["Idempotent-Replayed"] == "true"
    assert is_problem(web.refund("k-2", metadata={"order": 1002}), 422, "idempotency_key_reused")


@pytest.mark.parametrize("action", ["approve", "reject", "cancel", "retry", "resolve"])
def test_act_without_a_body_is_refused_for_its_missing_reason(web: Web, action: str) -> None:
    refund = web.refund("k-1").json()
    answer = web.call("POST", f"/v1/refunds/{refund['id']}/{action}")
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "reason"
    assert web.call("GET", f"/v1/refunds/{refund['id']}").json()["version"] == refund["version"]


def test_starting_after_an_invisible_refund_is_refused(web: Web) -> None:
    mine = web.refund("k-1").json()["id"]
    theirs = web.refund("k-1", key=web.key("requester", client="other")).json()["id"]
    key = web.key("requester", client="backend")
    for cursor in (theirs, "rf_zzzz", "zz", "rf_000000000000"):
        answer = web.call("GET", "/v1/refunds", params={"starting_after": cursor}, key=key)
        assert is_problem(answer, 422, "invalid_request")
        assert answer.json()["field"] == "starting_after"
    assert web.call("GET", "/v1/refunds", params={"starting_after": mine}, key=key).json()["data"] == []
    assert web.call("GET", "/v1/refunds", params={"starting_after": theirs}).json()["data"][0]["id"] == mine


def test_lower_case_currency_is_stored_in_upper_case(web: Web) -> None:
    first = web.refund("k-1", currency="eur")
    assert (first.status_code, first.json()["amounts"][0]["currency"]) == (202, "EUR")
    for written in ("EUR", "eur"):
        again = web.refund("k-1", currency=written)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


def test_a_preview_needs_no_reason(web: Web) -> None:
    told = web.call("POST", "/v1/refunds/preview", {"kind": "withdrawal", "to": "source", "customer_id": "cust-1"})
    assert (told.status_code, told.json()["would_be"]) == (200, "accepted")


def test_stale_version_changes_nothing(web: Web) -> None:
    refund = web.refund("k-1").json()
    path = f"/v1/refunds/{refund['id']}"
    for stale in (f'"{refund["version"] + 1}"', '"not a version"', f'"{refund["version"]}", "9"'):
        answer = web.call("POST", f"{path}/cancel", {"reason": "mistake"}, headers={"If-Match": stale})
        assert is_problem(answer, 412, "stale_version")
    assert web.call("GET", path).json() == refund
    headers = {"If-Match": f'"{refund["version"]}"'}
    answer = web.call("POST", f"{path}/cancel", {"reason": "mistake"}, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["status"] == "canceled"
    assert web.call("GET", "/v1/customers/cust-1").json()["available"] == 150


def test_an_act_that_the_state_does_not_allow_is_a_conflict(web: Web) -> None:
    refund = web.refund("k-1").json()
    for act in ("approve", "reject", "retry"):
        answer = web.call("POST", f"/v1/refunds/{refund['id']}/{act}", {"reason": "why not"})
        assert is_problem(answer, 409, "action_not_allowed")
    body = {"reason": "why not", "outcome": "reverse"}
    answer = web.call("POST", f"/v1/refunds/{refund['id']}/resolve", body)
    assert is_problem(answer, 409, "action_not_allowed")
    assert web.call("GET", f"/v1/refunds/{refund['id']}").json() == refund


def test_an_act_needs_a_reason(web: Web) -> None:
    refund = web.refund("k-1").json()
    for body in ({}, {"reason": ""}, {"reason": None}, {"reason": "x", "status": "succeeded"}):
        assert is_problem(web.call("POST", f"/v1/refunds/{refund['id']}/cancel", body), 422, "invalid_request")
    for body in (
        {"reason": "x", "outcome": "paid_manually"},
        {"reason": "x", "outcome": "reverse", "reference": "r"},
        {"reason": "x", "outcome": "forget"},
        {"reason": "x", "outcome": "paid_manually", "reference": " "},
        {"reason": "x", "outcome": "paid_manually", "reference": "bank\n1"},
        {"reason": "x", "outcome": "paid_manually", "reference": "4242 4242 4242 4242"},
        {"reason": "x", "outcome": "paid_manually", "reference": "r" * 201},
    ):
        assert is_problem(web.call("POST", f"/v1/refunds/{refund['id']}/resolve", body), 422, "invalid_request")


def test_a_refund_above_the_threshold_waits_for_another_person(web: Web) -> None:
    requester = web.key("admin", name="asks")
    approver = web.key("approver", name="approves")
    refund = web.refund("k-1", key=requester, credits=100).json()
    assert refund["status"] == "awaiting_approval"
    path = f"/v1/refunds/{refund['id']}/approve"
    own = web.call("POST", path, {"reason": "I say so"}, key=requester)
    assert is_problem(own, 409, "action_not_allowed")
    answer = web.call("POST", path, {"reason": "checked"}, key=approver)
    assert answer.status_code == 200
    assert answer.json()["status"] == "queued"
    assert is_problem(web.call("POST", path, {"reason": "again"}, key=approver), 409, "action_not_allowed")


def test_rejecting_gives_everything_back(web: Web) -> None:
    refund = web.refund("k-1", credits=100).json()
    answer = web.call("POST", f"/v1/refunds/{refund['id']}/reject", {"reason": "no"}, key=web.key("approver"))
    assert answer.json()["status"] == "rejected"
    assert web.call("GET", "/v1/customers/cust-1").json()["available"] == 150


def test_32_identical_simultaneous_requests_make_one_refund(postgres_server: PostgresDatabases) -> None:
    url = postgres_server.create(migrate)
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
    with Web(settings_for(url)) as web:
        web.call("POST", "/v1/payments", PAYMENT)
        web.call("POST", "/v1/transactions", SPEND)
        answers = web.calls([("POST", "/v1/refunds", body)] * 32, headers={"Idempotency-Key": "only"})
        assert sorted(answer.status_code for answer in answers) == [200] * 31 + [202]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(web.call("GET", "/v1/refunds").json()["data"]) == 1
        assert web.call("GET", "/v1/customers/cust-1").json()["available"] == 140
    postgres_server.drop(url)
