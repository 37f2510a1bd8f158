"""Outside refunds, disputes and early fraud warnings over HTTP: lists, filters, pages and single objects."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.outside_objects import dispute, hear, outside_refund, warning
from tests.web.client import AT, Web, is_problem

from refund_worker.store import payments
from refund_worker.times import iso


def listed(web: Web, path: str, **filters: Any) -> list[dict[str, Any]]:
    """Return all objects of a list, read one by one."""
    found: list[dict[str, Any]] = []
    while True:
        after = {"starting_after": found[-1]["id"]} if found else {}
        page = web.call("GET", path, params={"limit": 1, **filters, **after}).json()
        found += page["data"]
        if not page["has_more"]:
            return found


def test_outside_refund_shows_its_share_and_shortfall(web: Web) -> None:
    hear(web.context, outside_refund("re_1", 1600))
    (found,) = listed(web, "/v1/outside-refunds")
    assert found.pop("id").startswith("cl_")
    assert found.pop("created_at") <= found.pop("updated_at")
    assert found == {
        "processor_account": "stripe",
        "object_id": "re_1",
        "payment_id": "pay-1",
        "customer_id": "cust-1",
        "amount_minor": 1600,
        "currency": "EUR",
        "credits": 160,
        "shortfall": 10,
        "status": "posted",
        "refund_id": None,
    }
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 0


def test_outside_refunds_are_filtered_by_status_and_customer(web: Web) -> None:
    hear(web.context, outside_refund("re_unknown", 100, payment="ch_unknown"))
    hear(web.context, outside_refund("re_pending", 100, status="pending"), outside_refund("re_paid", 200))
    hear(web.context, outside_refund("re_failed", 100, status="failed"))
    hear(web.context, outside_refund("re_more", 1700), shortfall="person")
    expected = {
        "unmatched": ["re_unknown"],
        "pending": ["re_pending"],
        "posted": ["re_paid"],
        "failed": ["re_failed"],
        "needs_decision": ["re_more"],
        "linked": [],
    }
    for status, objects in expected.items():
        found = listed(web, "/v1/outside-refunds", status=status)
        assert [each["object_id"] for each in found] == objects, status
        assert {each["status"] for each in found} <= {status}
    of_customer = [each["object_id"] for each in listed(web, "/v1/outside-refunds", customer_id="cust-1")]
    assert of_customer == ["re_more", "re_failed", "re_paid", "re_pending"]
    assert len(listed(web, "/v1/outside-refunds")) == 5
    assert listed(web, "/v1/outside-refunds", customer_id="cust-2") == []


def test_dispute_shows_what_it_holds_and_until_when(web: Web) -> None:
    hear(web.context, dispute("du_1", 1600))
    (found,) = listed(web, "/v1/disputes")
    shown = {name: found[name] for name in ("credits_held", "credits_taken", "shortfall", "status", "reason", "due_by")}
    assert shown == {
        "credits_held": 150,
        "credits_taken": 0,
        "shortfall": 10,
        "status": "needs_response",
        "reason": "fraudulent",
        "due_by": "2026-11-20T23:59:59Z",
    }
    hear(web.context, dispute("du_1", 1600, status="lost", due_by=None), shortfall="person")
    lost = web.call("GET", f"/v1/disputes/{found['id']}").json()
    assert (lost["credits_held"], lost["credits_taken"], lost["shortfall"]) == (0, 150, 10)
    assert (lost["status"], lost["due_by"], lost["needs_decision"]) == ("lost", None, True)


def test_disputes_are_filtered_by_status_customer_and_payment(web: Web) -> None:
    hear(web.context, dispute("du_1", 100, status="won"), dispute("du_2", 100), dispute("du_3", 100, payment="ch_9"))
    assert [each["object_id"] for each in listed(web, "/v1/disputes")] == ["du_3", "du_2", "du_1"]
    for name, value, objects in (
        ("status", "won", ["du_1"]),
        ("customer_id", "cust-1", ["du_2", "du_1"]),
        ("payment_id", "pay-1", ["du_2", "du_1"]),
        ("payment_id", "pay-2", []),
    ):
        assert [each["object_id"] for each in listed(web, "/v1/disputes", **{name: value})] == objects, name


def test_fraud_warnings_are_filtered_and_stand_at_their_payment(web: Web) -> None:
    hear(web.context, warning("issfr_1"), warning("issfr_2", actionable=False), warning("issfr_3", payment="ch_9"))
    assert [each["object_id"] for each in listed(web, "/v1/fraud-warnings")] == ["issfr_3", "issfr_2", "issfr_1"]
    for name, value, objects in (
        ("status", "open", ["issfr_1"]),
        ("status", "closed", ["issfr_2"]),
        ("status", "unmatched", ["issfr_3"]),
        ("customer_id", "cust-1", ["issfr_2", "issfr_1"]),
        ("payment_id", "pay-1", ["issfr_2", "issfr_1"]),
        ("payment_id", "pay-2", []),
    ):
        assert [each["object_id"] for each in listed(web, "/v1/fraud-warnings", **{name: value})] == objects, value
    payment = web.call("GET", "/v1/payments/pay-1").json()
    assert payment["fraud_warnings"] == listed(web, "/v1/fraud-warnings", payment_id="pay-1")
    left = {"amount_minor": payment["left_minor"], "currency": "EUR", "credits": payment["credits_left"]}
    left["payable_credits"] = web.call("GET", "/v1/customers/cust-1").json()["payable"]
    assert [each["suggested_refund"] for each in payment["fraud_warnings"]] == [None, left]
    hear(web.context, dispute("du_1", 100))
    assert listed(web, "/v1/fraud-warnings", status="open") == []


@pytest.mark.parametrize("path", ["/v1/outside-refunds", "/v1/disputes"])
def test_object_of_another_kind_or_unknown_is_not_found(web: Web, path: str) -> None:
    hear(web.context, outside_refund("re_1", 100), dispute("du_1", 100))
    (mine,) = listed(web, path)
    assert web.call("GET", f"{path}/{mine['id']}").json() == mine
    (other,) = listed(web, "/v1/disputes" if path.endswith("refunds") else "/v1/outside-refunds")
    for claim_id in ("nothing", other["id"]):
        assert is_problem(web.call("GET", f"{path}/{claim_id}"), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        *("outside-refunds?status=gone", "outside-refunds?payment_id=pay-1", "disputes?status=Lost!"),
        *("disputes?limit=0", "fraud-warnings?status=lost"),
        *(f"{path}?starting_after=no" for path in ("outside-refunds", "disputes", "fraud-warnings", "payments")),
    ],
)
def test_wrong_filter_is_refused(web: Web, query: str) -> None:
    assert is_problem(web.call("GET", f"/v1/{query}"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "its"),
    [
        ("outside-refunds", "outside refund"),
        ("disputes", "dispute"),
        ("fraud-warnings", "early fraud warning"),
        ("payments", "payment"),
        ("refunds", "refund that you can see"),
        ("customers/cust-1/transactions", "transaction of cust-1"),
    ],
)
def test_page_after_something_unknown_is_refused(web: Web, path: str, its: str) -> None:
    hear(web.context, outside_refund("re_1", 100), dispute("du_1", 100), warning("issfr_1"))
    for cursor in ("aaa", "zzz"):
        answer = web.call("GET", f"/v1/{path}", params={"starting_after": cursor})
        assert is_problem(answer, 422, "invalid_request")
        told = (answer.json()["field"], answer.json()["detail"])
        assert told == ("starting_after", f"starting_after: {cursor} is no {its}")


def test_page_after_an_object_of_another_list_is_refused(web: Web) -> None:
    hear(web.context, outside_refund("re_1", 100), dispute("du_1", 100))
    for one, other in (("outside-refunds", "disputes"), ("disputes", "outside-refunds")):
        (found,) = listed(web, f"/v1/{one}")
        assert web.call("GET", f"/v1/{one}", params={"starting_after": found["id"]}).json()["data"] == []
        assert web.call("GET", f"/v1/{other}", params={"starting_after": found["id"]}).status_code == 422


def test_shortfall_is_decided_once_by_an_operator(web: Web) -> None:
    hear(web.context, outside_refund("re_1", 1600), dispute("du_1", 400, status="lost"), shortfall="person")
    for path, missing in (("/v1/outside-refunds", 10), ("/v1/disputes", 40)):
        (found,) = listed(web, path)
        body = {"decision": "debt", "reason": "agreed by phone"}
        assert found["shortfall"] == missing
        decide = f"{path}/{found['id']}/decide"
        assert is_problem(web.call("POST", decide, body, key=web.key("requester")), 403, "forbidden")
        before = web.call("GET", "/v1/customers/cust-1").json()["balance"]
        for _ in range(2):
            assert web.call("POST", decide, body, key=web.key("operator")).status_code == 200
        assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == before - missing
        other = web.call("POST", decide, body | {"decision": "write_off"})
        assert is_problem(other, 409, "action_not_allowed")
        assert is_problem(web.call("POST", f"{path}/nothing/decide", body), 404, "not_found")


@pytest.mark.parametrize("body", [None, {}, {"decision": "debt"}, {"decision": "maybe", "reason": "x"}], ids=str)
def test_decision_without_a_reason_or_of_another_word_is_refused(web: Web, body: dict[str, str] | None) -> None:
    hear(web.context, outside_refund("re_1", 1600), shortfall="person")
    (found,) = listed(web, "/v1/outside-refunds")
    answer = web.call("POST", f"/v1/outside-refunds/{found['id']}/decide", body)
    assert is_problem(answer, 422, "invalid_request")
    assert listed(web, "/v1/outside-refunds") == [found]


def closed_at(web: Web, payment_id: str) -> float:
    """Return the stored time of the closing."""
    with web.context.database.read() as connection:
        return payments.closed_at(connection, payment_id) or 0.0


def test_payment_is_closed_and_its_id_is_free_again(web: Web) -> None:
    close = "/v1/payments/pay-1/close"
    assert is_problem(web.call("POST", close, {"reason": " "}), 422, "invalid_request")
    for _ in range(2):
        closed = web.call("POST", close, {"reason": "the debit failed"})
        assert (closed.status_code, closed.json()["left_minor"]) == (200, 0)
        assert closed.json() == web.call("GET", "/v1/payments/pay-1").json()
        closing = [closed.json()[name] for name in ("closed_at", "close_reason")]
        assert closing == [iso(closed_at(web, "pay-1")), "the debit failed"]
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 0
    again = {"payment_id": "pay-2", "customer_id": "cust-1", "processor": "stripe", "processor_payment_id": "ch_1"}
    again |= {"amount_minor": 2000, "currency": "EUR", "credits": 200, "captured_at": AT}
    assert web.call("POST", "/v1/payments", again).status_code == 201
    payable = {"currency": "EUR", "credits": 200, "amount_minor": 2000}
    assert web.call("GET", "/v1/customers/cust-1").json()["payable_by_currency"] == [payable], "all of the right amount"
    assert is_problem(web.call("POST", "/v1/payments/nothing/close", {"reason": "x"}), 404, "not_found")


def test_outside_refund_is_linked_to_a_spend_once(web: Web) -> None:
    hear(web.context, outside_refund("re_1", 300))
    (found,) = listed(web, "/v1/outside-refunds")
    link = f"/v1/outside-refunds/{found['id']}/link"
    body = {"reason": "refunded in the dashboard for this chat", "transaction_id": "tx-1"}
    for wrong in ({"reason": "x"}, body | {"refund_id": "rf_1"}, {"transaction_id": "tx-1"}):
        assert is_problem(web.call("POST", link, wrong), 422, "invalid_request")
    assert is_problem(web.call("POST", link, body, key=web.key("requester")), 403, "forbidden")
    for _ in range(2):
        linked = web.call("POST", link, body)
        assert (linked.status_code, linked.json()["status"]) == (200, "linked")
    refund = web.call("GET", f"/v1/refunds/{linked.json()['refund_id']}").json()
    assert (refund["transaction_id"], refund["credits"], refund["status"]) == ("tx-1", 30, "succeeded")
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150
    assert is_problem(web.call("POST", "/v1/outside-refunds/nothing/link", body), 404, "not_found")


def test_lost_dispute_is_linked_to_a_spend_by_operators_only(web: Web) -> None:
    hear(web.context, dispute("du_1", 500, status="lost"))
    (found,) = web.call("GET", "/v1/disputes").json()["data"]
    path, body = f"/v1/disputes/{found['id']}/link", {"transaction_id": "tx-1", "reason": "disputed this chat"}
    assert found["transaction_id"] is None
    assert web.call("POST", path, body, key=web.key("requester")).status_code == 403
    for _ in range(2):
        linked = web.call("POST", path, body, key=web.key("operator"))
        assert (linked.status_code, linked.json()["transaction_id"]) == (200, "tx-1")
    refused = web.call("POST", path, body | {"transaction_id": "tx-9"})
    assert (refused.status_code, refused.json()["code"]) == (409, "action_not_allowed")
    assert web.call("POST", "/v1/disputes/cl_none/link", body).status_code == 404
