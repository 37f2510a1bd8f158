"""Payouts and shares on the console's other pages: Overview, Approvals, Search, Transactions and a refund's page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.web.client import PAYMENT, Web
from tests.web.console.test_payout_pages import stuck
from tests.web.console.visitor import text_of, visitor
from tests.web.payout_shop import EARNING, PAYEE, PayoutShop, use_context

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.times import DAY

PAST = "2026-01-02T03:04:05Z"


@pytest.fixture
def shop(web: Web) -> PayoutShop:
    return PayoutShop(web)


def test_overview_counts_payouts_that_need_a_person(shop: PayoutShop) -> None:
    person = visitor(shop.web, "viewer")
    calm = text_of(person.get("/"))
    assert ("1 payout needs" in calm, "1 payout waits" in calm) == (False, False)
    shop.ask("large", amount_minor=550)
    waiting = text_of(person.get("/"))
    assert "1 payout waits for approval" in waiting
    assert "Nothing needs a person" not in waiting
    (payout,) = shop.get("/v1/payouts")["data"]
    shop.act(payout["id"], "cancel")
    stuck(shop)
    assert "1 payout needs attention" in text_of(person.get("/"))


def test_approvals_show_payouts_with_who_may_decide(shop: PayoutShop) -> None:
    payout_id = shop.ask().json()["id"]
    decides, reads = visitor(shop.web, "approver"), visitor(shop.web, "viewer")
    listed = text_of(decides.get("/approvals"))
    assert f"{payout_id} " in listed
    why = "6.00 EUR for this payee within 24 hours; the threshold is 5.00 EUR"
    assert f"p1 Stripe account acct_•••• cd over stripe 6.00 EUR {why} backend/admin-" in listed
    assert why in text_of(decides.get(f"/payouts/{payout_id}"))
    assert f"Decide about {payout_id}" in listed
    assert "needs the role approver or admin" in text_of(reads.get("/approvals"))
    assert payout_id not in reads.get("/approvals", customer_id="cust-1").text, "payouts have no customer"
    shop.act(payout_id, "cancel")
    assert payout_id not in decides.get("/approvals").text


class TestSearch:
    def test_payout_is_found_by_each_of_its_names(self, shop: PayoutShop) -> None:
        payout_id = shop.ask("order-77", amount_minor=100).json()["id"]
        shop.work()
        (item,) = shop.route.book.values()
        person = visitor(shop.web, "viewer")
        for name in (payout_id, "order-77", item.object_id, f" {payout_id} "):
            assert person.get("/search", q=name).headers["location"] == f"/console/payouts/{payout_id}", name

    def test_payee_is_opened(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "viewer")
        assert person.get("/search", q="p1").headers["location"] == "/console/payee?id=p1"
        assert "Nothing matches" in text_of(person.get("/search", q="p2"))

    def test_name_of_several_things_shows_all_of_them(self, shop: PayoutShop) -> None:
        refund_id = shop.web.refund("same").json()["id"]
        payout_id = shop.ask("same", amount_minor=100).json()["id"]
        person = visitor(shop.web, "viewer")
        found = person.get("/search", q="same")
        assert (refund_id in found.text, payout_id in found.text) == (True, True)
        assert shop.web.call("POST", "/v1/payees", PAYEE | {"payee_id": "cust-1"}).status_code == 201
        both = text_of(person.get("/search", q="cust-1"))
        assert ("Payee: cust-1" in both, "Customer: cust-1" in both) == (True, True)


def test_share_is_shown_on_the_spend_and_taken_back_beside_its_refund(shop: PayoutShop) -> None:
    """The spend of tx-1 has 50 credits: a refund of 20 claws two fifths of the share back."""
    body = EARNING | {"earning_id": "chat", "amount_minor": 500, "transaction_id": "tx-1"}
    assert shop.web.call("POST", "/v1/earnings", body).status_code == 201
    person = visitor(shop.web, "support")
    assert "p1 earned 5.00 EUR of it" in text_of(person.get("/transactions", customer="cust-1"))
    panel = text_of(person.get("/refund-transaction", id="tx-1"))
    assert "p1 earned 5.00 EUR of it. A refund claws the share back in proportion" in panel
    asked = shop.web.refund("k1", kind="credit_refund", to="balance", transaction_id="tx-1", credits=20)
    process_until_idle(replace(shop.web.context, processors={}))
    taken = "p1 earned 5.00 EUR of it; 2.00 EUR of that so far is clawed back"
    assert text_of(person.get("/transactions", customer="cust-1")).count(taken) == 2, "on the spend and on its refund"
    assert taken in text_of(person.get(f"/refunds/{asked.json()['id']}"))
    payee = text_of(person.get("/payee", id="p1"))
    assert "tx-1 5.00 EUR 2.00 EUR" in payee
    assert "A share was clawed back" in payee


def test_correction_past_the_refund_window_is_paid_to_a_payee(shop: PayoutShop) -> None:
    web, context = shop.web, shop.web.context
    rules = {"stripe": replace(context.policy.rules_of("stripe"), window_seconds=60)}
    use_context(web, replace(context, policy=replace(context.policy, processors=rules)))
    customer = "sara"
    old = {"payment_id": "old", "customer_id": customer, "processor_payment_id": "ch_old", "captured_at": PAST}
    assert web.call("POST", "/v1/payments", PAYMENT | old).status_code == 201
    for payee_id, owner in (("own", customer), ("of-nobody", None)):
        assert web.call("POST", "/v1/payees", PAYEE | {"payee_id": payee_id, "customer_id": owner}).status_code == 201
    body = {"credits": -50, "reason": "agreed"}
    entry = web.call("POST", f"/v1/customers/{customer}/corrections", body, headers={"Idempotency-Key": "c"}).json()
    person = visitor(web, "support")
    page = person.get("/return-money", id=entry["transaction_id"])
    assert "The part that no payment can take back is paid to no payee is paid to the payee own , EUR" in text_of(page)
    assert "No payment can take it back now. Choose a payee who gets it, or delete the correction" in text_of(page)
    assert "of-nobody" not in page.text
    assert "disabled" in page.text
    chosen = person.get("/return-money", id=entry["transaction_id"], payee_id="own")
    assert "disabled" not in chosen.text
    assert "payout to own 50 5.00 EUR" in text_of(chosen)
    foreign = person.submit(chosen, "/return-money", reason="agreed", payee_id="of-nobody")
    assert "Payee of-nobody is no payee of customer" in text_of(foreign)
    assert person.submit(chosen, "/return-money", reason="agreed").status_code == 303
    (refund,) = shop.get(f"/v1/refunds?customer_id={customer}")["data"]
    assert (refund["payee_id"], [leg["processor_account"] for leg in refund["legs"]]) == ("own", ["payout"])


def test_payee_takes_what_is_left_of_a_correction(shop: PayoutShop) -> None:
    web, context = shop.web, shop.web.context
    rules = {"stripe": replace(context.policy.rules_of("stripe"), window_seconds=10 * 365 * DAY)}
    use_context(web, replace(context, policy=replace(context.policy, processors=rules)))
    for number, day in enumerate(("2012-01-02T03:04:05Z", PAST)):
        own = {"payment_id": f"p{number}", "customer_id": "sara", "processor_payment_id": f"ch_p{number}"}
        assert web.call("POST", "/v1/payments", PAYMENT | own | {"captured_at": day}).status_code == 201
    assert web.call("POST", "/v1/payees", PAYEE | {"payee_id": "own", "customer_id": "sara"}).status_code == 201
    body = {"credits": -250, "reason": "agreed"}
    entry = web.call("POST", "/v1/customers/sara/corrections", body, headers={"Idempotency-Key": "c"}).json()
    person = visitor(web, "support")
    parts = person.get("/return-money", id=entry["transaction_id"])
    assert "Only 200 of these 250 credits can be paid out." in text_of(parts)
    assert "is paid to the payee own , EUR" in text_of(parts)
    whole = text_of(person.get("/return-money", id=entry["transaction_id"], payee_id="own"))
    assert "p1 stripe 200 20.00 EUR p0 payout to own 50 5.00 EUR" in whole
