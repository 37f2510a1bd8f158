"""The page Payments finds a payment by any of its ids or by its customer, and shows what is left of it."""

from __future__ import annotations

import pytest
from tests.web.client import PAYMENT, Web
from tests.web.console.visitor import Visitor, text_of, visitor

from refund_worker.store import payment_refs


@pytest.fixture
def vera(web: Web) -> Visitor:
    web.context.database.run(lambda connection: payment_refs.add_refs(connection, "stripe", [("ch_1", "pi_1")]))
    return visitor(web, "viewer", "vera")


@pytest.mark.parametrize("words", ["", "pay-1", "ch_1", "pi_1", "cust-1", " pi_1 "])
def test_payment_is_found_by_each_of_its_names(vera: Visitor, words: str) -> None:
    found = text_of(vera.get("/payments", q=words))
    assert "pay-1" in found
    assert "20.00" in found


def test_a_search_without_a_hit_says_so(vera: Visitor) -> None:
    assert "No payment has the id “ pi_2 ”" in text_of(vera.get("/payments", q="pi_2"))


def test_api_and_console_find_refunds_by_the_other_id(web: Web, vera: Visitor) -> None:
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 50, "reason": "asked"}
    refund = web.call("POST", "/v1/refunds", body, headers={"Idempotency-Key": "k"}).json()
    for named in ("pay-1", "pi_1"):
        page = text_of(vera.get("/payment", id=named))
        assert refund["id"] in page
        assert "pi_1" in page
    assert refund["id"] in vera.follow(vera.get("/search", q="pi_1")).text
    assert vera.get("/payment", id="nobody").status_code == 404


def test_list_over_http_finds_by_either_id(web: Web, vera: Visitor) -> None:
    for query in ("processor_payment_id=pi_1", "processor_payment_id=ch_1", "customer_id=cust-1", "limit=1"):
        found = web.call("GET", f"/v1/payments?{query}").json()
        assert [each["payment_id"] for each in found["data"]] == [PAYMENT["payment_id"]], query
        assert found["data"][0]["processor_payment_ids"] == ["ch_1", "pi_1"]
    assert web.call("GET", "/v1/payments?customer_id=nobody").json() == {"data": [], "has_more": False}
    assert web.call("GET", "/v1/payments?processor=stripe").status_code == 422
    assert web.call("GET", "/v1/payments?starting_after=pay-1").json()["data"] == []
