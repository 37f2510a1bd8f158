"""The staff's second procedure never leads to a dead end: what can be paid out, purposes, parts, and open forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.client import PAYMENT, Web, settings_for
from tests.web.console.visitor import Visitor, form_on, text_of, visitor

from refund_worker.engine.refunds.process import process_until_idle


@pytest.fixture
def shop(migrated_url: str) -> Iterator[Web]:
    """Give the application on each database, without customers."""
    with Web(settings_for(migrated_url)) as running:
        yield running


@pytest.fixture
def anna(shop: Web) -> Visitor:
    return visitor(shop, "support", "anna")


def pay(web: Web, number: int, credits: int, currency: str = "EUR", customer: str = "sara") -> None:
    body = PAYMENT | {
        "payment_id": f"pay-{customer}-{number}",
        "customer_id": customer,
        "processor_payment_id": f"ch_{customer}{number}",
        "amount_minor": credits * 10,
        "currency": currency,
        "credits": credits,
        "captured_at": f"2026-{1 + number // 28:02}-{1 + number % 28:02}T09:00:00Z",
    }
    assert web.call("POST", "/v1/payments", body).status_code == 201


def correct(web: Web, credits: int, key: str = "c", customer: str = "sara", **fields: Any) -> Any:
    body = {"credits": credits, "reason": "agreed"} | fields
    path = f"/v1/customers/{customer}/corrections"
    return web.call("POST", path, body, headers={"Idempotency-Key": key})


def balance(web: Web, customer: str = "sara") -> int:
    return int(web.call("GET", f"/v1/customers/{customer}").json()["balance"])


def entries(web: Web, customer: str = "sara") -> list[dict[str, Any]]:
    return list(web.call("GET", f"/v1/customers/{customer}/transactions?limit=500").json()["data"])


def add(person: Visitor, page: Any, **typed: str) -> Any:
    return person.submit(page, "/add-credits", **{"reason": "agreed by phone"} | typed)


def test_zero_balance_with_a_bonus_is_reached_in_two_corrections(shop: Web, anna: Visitor) -> None:
    """Follow the seed's second procedure literally: the customer should have a balance of zero."""
    pay(shop, 1, 350)
    assert correct(shop, 50).status_code == 201
    form = anna.get("/add-credits", customer="sara")
    assert "350 can be paid out" in text_of(form)
    assert "−350 returns 35.00 EUR" in text_of(form)
    refused = add(anna, form, credits="−400")
    assert refused.status_code == 422
    assert "Only 350 in EUR of these 400 credits can be paid out" in text_of(refused)
    assert 'value="−400"' in refused.text
    assert 'value="agreed by phone"' in refused.text
    assert balance(shop) == 400, "nothing was entered"
    # The part that can be paid out fills the form in; Add enters it.
    filled = add(anna, refused, credits="−400", use="-350")
    assert form_on(filled, "/console/add-credits")["credits"] == "-350"
    assert form_on(filled, "/console/add-credits")["reason"] == "agreed by phone"
    assert balance(shop) == 400
    entered = anna.follow(add(anna, filled))
    rest = anna.follow(add(anna, entered, credits="-50", purpose="other", reason="bonus ends with it"))
    assert balance(shop) == 0
    (pay_out,) = re.findall(r"/console(/return-money\?id=[^\"]+)", rest.text)
    page = anna.get(pay_out)
    assert "35.00 EUR" in text_of(page)
    assert anna.submit(page, "/return-money", reason="agreed by phone").status_code == 303
    process_until_idle(shop.context)
    (refund,) = shop.call("GET", "/v1/refunds?customer_id=sara").json()["data"]
    assert (refund["credits"], refund["amounts"][0]["requested_minor"]) == (350, 3_500)
    assert balance(shop) == 0


def test_payout_in_two_currencies_is_offered_in_parts_at_once(shop: Web, anna: Visitor) -> None:
    pay(shop, 1, 300, "EUR")
    pay(shop, 2, 200, "USD")
    form = anna.get("/add-credits", customer="sara")
    assert "−300 returns 30.00 EUR" in text_of(form)
    assert "−200 returns 20.00 USD" in text_of(form)
    refused = add(anna, form, credits="-350")
    assert "enter a correction for each, 300 in EUR and 50 in USD" in text_of(refused)
    assert balance(shop) == 500


@pytest.mark.parametrize("first", ["EUR", "USD"])
def test_correction_that_is_too_large_is_paid_out_in_parts(shop: Web, anna: Visitor, first: str) -> None:
    """A backend enters corrections without asking what can be paid out."""
    pay(shop, 1, 300, "EUR")
    pay(shop, 2, 200, "USD")
    correct(shop, 50, "bonus")
    entry = correct(shop, -550, "all").json()["transaction_id"]
    page = anna.get("/return-money", id=entry)
    assert "Pay it out in parts" in text_of(page)
    assert "50 stay off the balance and are not paid out" in text_of(page)
    parts = anna.follow(anna.submit(page, "/split-correction", first=first, reason="in parts"))
    again = anna.submit(page, "/split-correction", first=first, reason="in parts")
    assert again.status_code == 303, "the same form again"
    assert balance(shop) == 0
    made = [(e["kind"], e["credits"], e.get("purpose")) for e in reversed(entries(shop)[:4])]
    sizes = {"EUR": [-300, -200], "USD": [-200, -300]}[first]
    assert made == [
        ("reversal", 550, None),
        *(("correction", size, "payout") for size in sizes),
        ("correction", -50, "other"),
    ]
    assert f"{-sizes[0] / 10:.2f} {first}" in text_of(parts), "it goes on with the first part"
    assert anna.submit(parts, "/return-money", reason="part 1").status_code == 303
    listed = anna.get("/add-credits", customer="sara")
    (second,) = re.findall(r"/console(/return-money\?id=[^\"]+)", listed.text)
    assert anna.submit(anna.get(second), "/return-money", reason="part 2").status_code == 303
    process_until_idle(shop.context)
    refunds = shop.call("GET", "/v1/refunds?customer_id=sara").json()["data"]
    paid = {amount["currency"]: amount["requested_minor"] for refund in refunds for amount in refund["amounts"]}
    assert paid == {"EUR": 3_000, "USD": 2_000}


def test_currencies_of_older_payments_are_offered_too(shop: Web, anna: Visitor) -> None:
    pay(shop, 0, 300, "EUR")
    for number in range(1, 56):
        pay(shop, number, 10, "USD")
    correction = correct(shop, -200).json()["transaction_id"]
    page = anna.get("/return-money", id=correction)
    assert {"EUR", "USD"} <= set(text_of(page).split())
    assert form_on(page, "/console/return-money")["currency"] == "EUR"
    assert "20.00 EUR" in text_of(page)
    spend = {"transaction_id": "chat-1", "customer_id": "sara", "kind": "spend", "credits": 100}
    shop.call("POST", "/v1/transactions", spend | {"description": "", "occurred_at": "2026-11-01T09:00:00Z"})
    panel = anna.get("/refund-transaction", id="chat-1", to="source", currency="EUR")
    assert "10.00 EUR" in text_of(panel)
    assert anna.submit(page, "/return-money", reason="agreed").status_code == 303


def test_correction_of_which_nothing_can_be_paid_says_what_to_do(shop: Web, anna: Visitor) -> None:
    pay(shop, 1, 100)
    assert shop.refund("all", customer_id="sara", credits=100).status_code == 202
    correct(shop, 40, "bonus")
    entry = correct(shop, -40, "off").json()["transaction_id"]
    page = anna.get("/return-money", id=entry)
    assert "None of it can be paid out now. Delete the correction to give the credits back." in text_of(page)
    assert f"/console/delete-transaction?id={entry}" in page.text


@pytest.mark.parametrize(
    ("purpose", "kind", "label"),
    [("expiry", "expiry", "Expired credits"), ("other", "correction", "not to be paid out")],
)
def test_only_a_payout_offers_to_return_money(shop: Web, anna: Visitor, purpose: str, kind: str, label: str) -> None:
    pay(shop, 1, 100)
    entered = anna.follow(add(anna, anna.get("/add-credits", customer="sara"), credits="-40", purpose=purpose))
    assert "/console/return-money" not in entered.text
    (entry, _) = entries(shop)
    assert (entry["kind"], entry["purpose"]) == (kind, purpose)
    listed = anna.get("/transactions", customer="sara")
    assert "/console/return-money" not in listed.text
    assert label in text_of(listed)
    assert anna.get("/return-money", id=entry["transaction_id"]).status_code == 404
    refused = shop.refund("k", customer_id="sara", credits=None, transaction_id=entry["transaction_id"])
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_transaction")
    assert "purpose payout" in refused.json()["detail"]
    # It can be deleted like every correction.
    (delete,) = re.findall(r"/console(/delete-transaction\?id=[^\"]+)", listed.text)
    assert anna.submit(anna.get(delete), "/delete-transaction", reason="a slip").status_code == 303
    assert balance(shop) == 100


def test_added_credits_need_no_choice_of_purpose(shop: Web, anna: Visitor) -> None:
    pay(shop, 1, 100)
    assert add(anna, anna.get("/add-credits", customer="sara"), credits="50").status_code == 303
    assert entries(shop)[0]["purpose"] == "other"


def test_second_of_two_open_forms_enters_nothing_and_says_so(shop: Web, anna: Visitor) -> None:
    pay(shop, 1, 700)
    ben = visitor(shop, "support", "ben")
    forms = [person.get("/add-credits", customer="sara") for person in (anna, ben)]
    assert add(anna, forms[0], credits="-350").status_code == 303
    late = add(ben, forms[1], credits="-350", reason="ticket 8")
    assert late.status_code == 409
    told = text_of(late)
    assert "The balance is 350 now, not 700" in told or "the balance is 350 now, not 700" in told
    assert "Correction −350 by console/anna" in told
    assert form_on(late, "/console/add-credits") | {"seen": "", "token": "", "request_id": ""} == {
        "token": "",
        "request_id": "",
        "customer": "sara",
        "seen": "",
        "credits": "-350",
        "purpose": "payout",
        "reason": "ticket 8",
    }
    assert balance(shop) == 350
    assert add(ben, late).status_code == 303, "after a second look it may be right"
    assert balance(shop) == 0


def test_open_delete_form_notices_another_persons_act(shop: Web, anna: Visitor) -> None:
    pay(shop, 1, 100)
    entry = correct(shop, -40).json()["transaction_id"]
    ben = visitor(shop, "support", "ben")
    form = anna.get("/delete-transaction", id=entry)
    other = ben.get("/delete-transaction", id=entry)
    assert ben.submit(other, "/delete-transaction", reason="a slip").status_code == 303
    assert ben.submit(other, "/delete-transaction", reason="a slip").status_code == 303, "the same form again"
    late = anna.submit(form, "/delete-transaction", reason="wrong")
    assert late.status_code == 409
    assert "console/ben has already deleted this entry" in text_of(late)
    assert balance(shop) == 100


def test_positive_corrections_refill_a_negative_balance_in_steps(shop: Web, anna: Visitor) -> None:
    from refund_worker.domain.decision import AccountDelta
    from refund_worker.store import accounts

    pay(shop, 1, 100)
    with shop.context.database.write() as connection:
        accounts.change_customers(connection, {"sara": AccountDelta(balance=-580)})
    assert correct(shop, 20, "api").status_code == 201
    assert add(anna, anna.get("/add-credits", customer="sara"), credits="200").status_code == 303
    assert balance(shop) == -260
