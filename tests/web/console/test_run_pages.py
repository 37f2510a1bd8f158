"""The pages Runs: made, planned, approved by a second person, canceled, and downloaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.web.client import Web
from tests.web.console.visitor import Visitor, text_of, visitor
from tests.web.payout_shop import PAYEE, PayoutShop, use_context

from refund_worker.domain.limits import Limits
from refund_worker.engine.payouts.drive_runs import drive_due_runs


@pytest.fixture
def shop(web: Web) -> PayoutShop:
    """Return a shop with two payees: "p1" with 6.00 EUR, "p2" with nothing."""
    shop = PayoutShop(web)
    with_limits(shop, Limits())
    assert web.call("POST", "/v1/payees", PAYEE | {"payee_id": "p2"}).status_code == 201
    return shop


def with_limits(shop: PayoutShop, limits: Limits) -> None:
    use_context(shop.web, replace(shop.web.context, limits=limits))


def made(shop: PayoutShop, person: Visitor, **typed: str) -> str:
    """Make a run on the page and let the scheduler work; return the path of its page."""
    page = person.get("/payout-runs")
    fields = {"processor_account": "stripe", "currency": "eur", "minimum": "", "dry_run": ""} | typed
    answer = person.submit(page, "/payout-runs", **fields)
    assert answer.status_code == 303, text_of(answer)
    while drive_due_runs(shop.web.context):
        pass
    return str(answer.headers["location"]).removeprefix("/console")


def test_run_pays_and_shows_each_payee(shop: PayoutShop) -> None:
    person = visitor(shop.web, "operator")
    path = made(shop, person)
    text = text_of(person.get(path))
    for wanted in (
        "Run over stripe in EUR done",
        "Planned 6.00 EUR for 1 payee",
        "Paid out 6.00 EUR to 1 payee",
        "p1 6.00 EUR 6.00 EUR",
        "p2 skipped – nothing is payable",
    ):
        assert wanted in text, wanted
    (payout,) = shop.get("/v1/payouts")["data"]
    assert payout["id"] in text
    assert payout["run_id"] in text_of(person.get(f"/payouts/{payout['id']}"))
    assert "planned 0.00 EUR" not in text, "it was made before it was planned"
    assert "stripe, EUR 6.00 EUR 1 payee" in text_of(person.get("/payout-runs"))
    skipped = text_of(person.get(path, show="skipped"))
    assert ("p2 skipped" in skipped, "p1 6.00" in skipped) == (True, False)
    assert person.get(path, show="others").status_code == 422
    file = person.get(f"{path}/rows.csv")
    assert file.text.splitlines()[0].startswith("payee_id,amount_minor")
    assert len(file.text.splitlines()) == 3


def test_plan_pays_nothing(shop: PayoutShop) -> None:
    person = visitor(shop.web, "operator")
    text = text_of(person.get(made(shop, person, dry_run="on")))
    assert "Only a plan: nothing is paid." in text
    assert "p1 6.00 EUR –" in text
    assert shop.get("/v1/payouts")["data"] == []


def test_minimum_is_an_amount_of_the_currency(shop: PayoutShop) -> None:
    person = visitor(shop.web, "operator")
    path = made(shop, person, minimum="6.01", dry_run="on")
    assert "p1 skipped – below the minimum" in text_of(person.get(path))
    for wrong in ({"minimum": "some"}, {"currency": "euro"}, {"processor_account": "none"}):
        fields = {"processor_account": "stripe", "currency": "EUR", "minimum": ""} | wrong
        answer = person.submit(person.get("/payout-runs"), "/payout-runs", **fields)
        assert (answer.status_code, "This was not done." in text_of(answer)) == (422, True), wrong


def test_second_person_approves(shop: PayoutShop) -> None:
    with_limits(shop, Limits(approval_threshold_minor=100))
    boss, other = visitor(shop.web, "admin"), visitor(shop.web, "approver")
    path = made(shop, boss)
    own = boss.get(path)
    assert "You cannot approve this run" in text_of(own)
    assert f"{path}/approve" not in own.text
    assert "1 payout run waits for approval" in text_of(other.get("/"))
    assert path in other.get("/approvals").text
    page = other.get(path)
    assert "A payee's total exceeds the threshold." in text_of(page)
    assert other.submit(page, f"{path}/approve", reason=" ").status_code == 422
    done = other.follow(other.submit(page, f"{path}/approve", reason="checked"))
    assert "Approved: the scheduler makes the payouts" in text_of(done)
    assert other.submit(page, f"{path}/approve", reason="checked").status_code == 412, "it has changed since then"


def test_operator_cancels(shop: PayoutShop) -> None:
    with_limits(shop, Limits(approval_threshold_minor=100))
    person = visitor(shop.web, "operator")
    path = made(shop, person)
    done = person.follow(person.submit(person.get(path), f"{path}/cancel", reason="next week"))
    assert "Canceled: it makes no more payouts" in text_of(done)
    assert f"{path}/cancel" not in done.text
    assert shop.get("/v1/payouts")["data"] == []
    assert "Make a run" not in text_of(visitor(shop.web, "viewer").get("/payout-runs"))
