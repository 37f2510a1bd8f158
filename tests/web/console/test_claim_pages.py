"""The pages Outside refunds and Disputes, and the lines about them on Overview and on the customer's page."""

from __future__ import annotations

import html
import re

import pytest
from tests.support.outside_objects import dispute, hear, outside_refund, warning
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor


def test_outside_refund_is_listed_and_explained(web: Web) -> None:
    hear(web.context, outside_refund("re_1", 1600))
    anna = visitor(web, "viewer")
    listed = anna.get("/outside-refunds")
    assert re.search(r"re_1 taken off the balance cust-1 pay-1 stripe 16\.00 EUR", text_of(listed))
    claim_id = web.call("GET", "/v1/outside-refunds").json()["data"][0]["id"]
    shown = text_of(anna.get(f"/outside-refunds/{claim_id}"))
    assert "150 credits came off the balance; 10 that the customer had already spent were written off" in shown
    assert "Refunded outside" in shown
    assert "Outside refund of 16.00 EUR" in text_of(anna.get("/customer", id="cust-1"))
    assert anna.get(f"/disputes/{claim_id}").status_code == 404
    assert "re_1" not in text_of(anna.get("/outside-refunds", status="pending"))
    assert anna.get("/outside-refunds", status="gone").status_code == 422


def test_overview_is_not_calm_while_a_dispute_waits_for_an_answer(web: Web) -> None:
    anna = visitor(web, "viewer")
    assert "dispute waits for an answer, due" not in text_of(anna.get("/"))
    hear(web.context, dispute("du_1", 400))
    overview = text_of(anna.get("/"))
    assert "1 dispute waits for an answer, due 2026-11-20 23:59:59" in overview
    assert "Nothing needs a person" not in overview
    assert "cust-1 pay-1 stripe 4.00 EUR" in text_of(anna.get("/disputes"))
    hear(web.context, dispute("du_1", 400, status="won"))
    assert "dispute waits for an answer, due" not in text_of(anna.get("/"))


def test_fraud_warning_links_to_the_form_until_it_is_answered(web: Web) -> None:
    anna, tom = visitor(web, "viewer"), visitor(web, "operator")
    assert "early fraud warning" not in text_of(anna.get("/"))
    assert "no bank suspects a payment" in text_of(anna.get("/disputes"))
    hear(web.context, warning("issfr_1"))
    overview = text_of(anna.get("/"))
    assert ("1 early fraud warning: a refund now" in overview, "Nothing needs a person" in overview) == (True, False)
    pages = (("/disputes", {}), ("/payment", {"id": "pay-1"}), ("/customer", {"id": "cust-1"}))
    left = web.call("GET", "/v1/payments/pay-1").json()["left_minor"] // 100
    for path, query in pages:
        assert f"{left}.00 EUR" in text_of(anna.get(path, **query)), path
        assert "/add-credits" not in anna.get(path, **query).text, "a viewer may not use the form"
        (address,) = re.findall(r'href="/console(/add-credits\?[^"]*credits=-[^"]*)"', tom.get(path, **query).text)
    form = tom.get(html.unescape(address)).text
    assert 'value="-' in form
    assert 'value="early fraud warning issfr_1"' in form
    hear(web.context, warning("issfr_1", actionable=False))
    assert "early fraud warning" not in text_of(anna.get("/"))
    for path, query in pages:
        assert "credits=-" not in tom.get(path, **query).text, path
    assert "needs no answer" in text_of(anna.get("/disputes"))


@pytest.mark.parametrize("kind", ["outside", "dispute"])
def test_overview_names_an_undecided_shortfall(web: Web, kind: str) -> None:
    gone = outside_refund("re_1", 1600) if kind == "outside" else dispute("du_1", 1600, status="lost")
    hear(web.context, gone, shortfall="person")
    overview = text_of(visitor(web, "viewer").get("/"))
    assert ("waits for a decision" in overview, "Nothing needs a person" in overview) == (True, False)


def claim_of(web: Web, kind: str) -> str:
    """Return the path of the only claim of this kind."""
    path = "/disputes" if kind == "dispute" else "/outside-refunds"
    return f"{path}/{web.call('GET', f'/v1{path}').json()['data'][0]['id']}"


@pytest.mark.parametrize(("decision", "shown"), [("write_off", "were written off"), ("debt", "are a debt")])
@pytest.mark.parametrize("kind", ["outside", "dispute"])
def test_operator_decides_about_a_shortfall(web: Web, kind: str, decision: str, shown: str) -> None:
    gone = outside_refund("re_1", 1600) if kind == "outside" else dispute("du_1", 1600, status="lost")
    hear(web.context, gone, shortfall="person")
    path, tom = claim_of(web, kind), visitor(web, "operator")
    page = tom.get(path)
    wrong = tom.submit(page, f"{path}/decide", decision="forget", reason="because")
    assert (wrong.status_code, "one of the decisions shown" in text_of(wrong)) == (422, True)
    assert tom.submit(page, f"{path}/decide", decision=decision, reason="").status_code == 422
    done = tom.follow(tom.submit(page, f"{path}/decide", decision=decision, reason="because"))
    assert (shown in text_of(done), "Decided:" in text_of(done)) == (True, True)
    assert f"{path}/decide" not in tom.get(path).text, "nothing is left to decide"


def test_operator_links_an_outside_refund_to_a_spend(web: Web) -> None:
    hear(web.context, outside_refund("re_1", 100))
    path, tom = claim_of(web, "outside"), visitor(web, "operator")
    page = tom.get(path)
    wrong = tom.submit(page, f"{path}/link", transaction_id="no-such", reason="the same money")
    assert (wrong.status_code, "no-such" in wrong.text) == (422, True)
    spend = next(
        row["transaction_id"]
        for row in web.call("GET", "/v1/customers/cust-1/transactions").json()["data"]
        if row["kind"] == "spend"
    )
    done = tom.follow(tom.submit(page, f"{path}/link", transaction_id=spend, reason="the same money"))
    assert "A person linked it to refund" in text_of(done)
    assert f"{path}/link" not in done.text


def test_operator_closes_a_payment(web: Web) -> None:
    payment_id = web.call("GET", "/v1/payments").json()["data"][0]["payment_id"]
    tom = visitor(web, "operator")
    page = tom.get("/payment", id=payment_id)
    done = tom.follow(tom.submit(page, "/payment/close", reason="the debit failed"))
    assert "Nothing goes over it any more" in text_of(done)
    assert "/payment/close" not in done.text
    assert "/payment/close" not in visitor(web, "viewer").get("/payment", id=payment_id).text
