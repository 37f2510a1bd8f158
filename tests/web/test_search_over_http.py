"""The search and the question to the processor over HTTP: each name finds the refund, for those who may see it."""

from __future__ import annotations

import pytest
from tests.support.outside_objects import hear, outside_refund
from tests.web.client import Web, is_problem

from refund_worker.engine.views import search as search_view
from refund_worker.store.reporting import search as store
from refund_worker.store.tables import legs, refund_objects

ARN = "74537604221222132710572"


@pytest.fixture
def refund_id(web: Web) -> str:
    """Return a refund with an object and its trace in our records."""
    refund = web.refund("order-77", reason="asked by phone").json()
    row = {"processor": "stripe", "processor_refund_id": "re_77", "leg_id": refund["legs"][0]["leg_id"]}
    row |= {"amount_minor": 100, "currency": "EUR", "created_at": 1.0, "seen_at": 1.0}
    row |= {"state": "pending", "status": "pending", "trace_kind": "arn", "trace_value": ARN}
    with web.context.database.write() as connection:
        connection.execute(refund_objects.insert().values(**row))
    return str(refund["id"])


@pytest.mark.parametrize(
    ("name", "matched"),
    [
        ("ID", "id"),
        ("order-77", "id"),
        ("cust-1", "customer"),
        ("pay-1", "payment"),
        ("ch_1", "payment"),
        ("re_77", "processor's refund"),
        (ARN, "trace"),
        ("7453 7604 2212 2213 2710 572", "trace"),
        ("BY PHONE", "text"),
    ],
)
def test_each_name_finds_the_refund(web: Web, refund_id: str, name: str, matched: str) -> None:
    found = web.call("GET", "/v1/search", params={"q": refund_id if name == "ID" else name}).json()
    assert ([refund["id"] for refund in found["data"]], found["matched"], found["has_more"]) == (
        [refund_id],
        matched,
        False,
    )
    assert found["data"][0] == web.call("GET", f"/v1/refunds/{refund_id}").json()
    stranger = web.key("requester", client="another")
    assert web.call("GET", "/v1/search", params={"q": name}, key=stranger).json()["data"] == []


def test_text_that_is_several_names_finds_the_refunds_of_each(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [web.refund(key, credits=1).json()["id"] for key in ("a-key", "cust-1", "pay-1", "another")]
    for name, matched in (("cust-1", "id, customer"), ("pay-1", "id, payment")):
        found = web.call("GET", "/v1/search", params={"q": name}).json()
        assert ([refund["id"] for refund in found["data"]], found["has_more"]) == (ids[::-1], False)
        assert found["matched"] == matched
    monkeypatch.setattr(search_view, "LIMIT", 3)
    found = web.call("GET", "/v1/search", params={"q": "cust-1"}).json()
    assert ([refund["id"] for refund in found["data"]], found["has_more"]) == (ids[:0:-1], True)


def pay_manually(web: Web, refund_id: str, reference: str) -> None:
    """Record that a person paid the refund with this reference."""
    paid = legs.update().where(legs.c.refund_id == refund_id).values(status="succeeded", manual_reference=reference)
    with web.context.database.write() as connection:
        connection.execute(paid)


@pytest.mark.parametrize("name", ["WIRE 2026/77", "manual:WIRE 2026/77", "wire 2026"])
def test_reference_of_a_manual_payment_finds_its_refund(web: Web, refund_id: str, name: str) -> None:
    web.refund("unpaid", credits=1)
    pay_manually(web, refund_id, "WIRE 2026/77")
    found = web.call("GET", "/v1/search", params={"q": name}).json()
    assert ([refund["id"] for refund in found["data"]], found["matched"]) == ([refund_id], "text")
    stranger = web.key("requester", client="another")
    assert web.call("GET", "/v1/search", params={"q": name}, key=stranger).json()["data"] == []
    assert web.call("GET", "/v1/search", params={"q": "manual:"}).json()["data"] == []


@pytest.mark.parametrize("name", ["re_dashboard", "manual:re_dashboard"])
def test_refund_of_others_that_a_person_named_finds_an_old_refund(
    web: Web, refund_id: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hear(web.context, outside_refund("re_dashboard", 100))
    pay_manually(web, refund_id, "re_dashboard")
    for number in range(3):
        web.refund(f"newer-{number}", credits=1)
    monkeypatch.setattr(store, "WINDOW", 2)
    found = web.call("GET", "/v1/search", params={"q": name}).json()
    assert ([refund["id"] for refund in found["data"]], found["matched"]) == ([refund_id], "manual payment")


@pytest.mark.parametrize(
    "query", ["", "?q=", "?q=%20", "?q=%20%09%20", "?q=a&q=b", "?q=a&limit=5", "?q=" + "a" * 256], ids=str
)
def test_search_without_a_usable_text_is_refused(web: Web, query: str) -> None:
    assert is_problem(web.call("GET", f"/v1/search{query}"), 422, "invalid_request")


def test_nothing_found_is_an_empty_list(web: Web, refund_id: str) -> None:
    found = web.call("GET", "/v1/search", params={"q": "no-such-thing"}).json()
    assert found == {"data": [], "has_more": False, "matched": ""}


def test_sync_of_an_unsent_refund_answers_with_it(web: Web) -> None:
    refund = web.refund("k-1").json()
    answer = web.call("POST", f"/v1/refunds/{refund['id']}/sync")
    assert (answer.status_code, answer.json()) == (200, refund)
    assert answer.headers["etag"] == f'"{refund["version"]}"'


def test_sync_without_an_answer_is_503(web: Web, refund_id: str) -> None:
    answer = web.call("POST", f"/v1/refunds/{refund_id}/sync")  # no key for the processor is set here
    assert is_problem(answer, 503, "processor_unavailable")
    assert answer.json()["retryable"] is True
    assert "retry-after" in answer.headers
