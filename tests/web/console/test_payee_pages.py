"""The pages Payees and Pay out now: sums, earnings, statement, pause, the whole destination, and the request."""

from __future__ import annotations

import pytest
from tests.web.client import PAYMENT, Web
from tests.web.console.visitor import form_on, text_of, visitor
from tests.web.payout_shop import EARNING, PAYEE, PayoutShop

LATER = "2100-01-01T00:00:00Z"
BANK = {"kind": "bank", "iban": "DE89370400440532013000", "holder": "M. Example"}


@pytest.fixture
def shop(web: Web) -> PayoutShop:
    return PayoutShop(web)


def earn(shop: PayoutShop, earning_id: str, minor: int, **fields: object) -> None:
    body = EARNING | {"earning_id": earning_id, "amount_minor": minor} | fields
    assert shop.web.call("POST", "/v1/earnings", body).status_code == 201


class TestList:
    def test_it_shows_status_and_sums(self, shop: PayoutShop) -> None:
        earn(shop, "earn-2", 250, available_at=LATER)
        text = text_of(visitor(shop.web, "viewer").get("/payees"))
        assert "p1 ready Stripe account acct_•••• cd over stripe 6.00 EUR 2.50 EUR –" in text

    def test_an_id_opens_its_page(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "viewer")
        assert person.get("/payees", id=" p1 ").headers["location"] == "/console/payee?id=p1"
        assert "No payee has the id “ p2 ”" in text_of(person.get("/payees", id="p2"))
        assert "This customer is no payee" in text_of(person.get("/payees", customer_id="cust-1"))


class TestOfACustomer:
    def test_page_of_a_customer_links_to_its_payees(self, shop: PayoutShop) -> None:
        other = PAYMENT | {"payment_id": "pay-9", "customer_id": "cust-2", "processor_payment_id": "ch_9"}
        assert shop.web.call("POST", "/v1/payments", other).status_code == 201
        for number, customer_id in (("2", "cust-1"), ("3", "cust-2"), ("4", "cust-1")):
            body = PAYEE | {"payee_id": f"p{number}", "customer_id": customer_id}
            assert shop.web.call("POST", "/v1/payees", body).status_code == 201
        earn(shop, "earn-2", 250, payee_id="p2")
        person = visitor(shop.web, "viewer")
        page = person.get("/customer", id="cust-1")
        assert "Payees Payee Status Destination Payable Held Debt p2 ready Stripe account" in text_of(page)
        assert "over stripe 2.50 EUR – – p4 ready" in text_of(page)
        assert page.text.count('href="/console/payee?id=p') == 2
        assert "p3" not in text_of(page)
        assert "p3" in text_of(person.get("/customer", id="cust-2"))

    def test_customer_without_a_payee_has_no_such_part(self, shop: PayoutShop) -> None:
        assert "Payable" not in text_of(visitor(shop.web, "viewer").get("/customer", id="cust-1"))


class TestOne:
    def test_sums_earnings_and_payouts(self, shop: PayoutShop) -> None:
        earn(shop, "earn-2", 250, available_at=LATER, description="Photo set")
        payout_id = shop.ask(amount_minor=100).json()["id"]
        text = text_of(visitor(shop.web, "viewer").get("/payee", id="p1"))
        for wanted in (
            "Payable 5.00 EUR",
            "Held 2.50 EUR the next part until 2100-01-01",
            "In flight 1.00 EUR",
            "Paid 0.00 EUR of 8.50 EUR earned, 0.00 EUR clawed back",
            "Debt 0.00 EUR",
            "Photo set earn-2 – 2.50 EUR",
            f"{payout_id} queued p1 1.00 EUR",
            "Recorded",
        ):
            assert wanted in text, wanted
        assert "Pay out now" not in text, "a viewer only reads"

    def test_unknown_one_is_not_found(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "viewer")
        for path in ("/payee", "/payee/statement"):
            assert person.get(path, id="p2").status_code == 404
            assert person.get(path).headers["location"] == "/console/payees"

    def test_cool_down_is_explained(self, web: Web) -> None:
        PayoutShop(web, cooldown_seconds=86_400.0)
        text = text_of(visitor(web, "viewer").get("/payee", id="p1"))
        assert "nothing is sent now, see above" in text
        assert "can be paid out now" not in text
        assert "Nothing is sent to this payee now The destination is new or was changed." in text
        assert "Tell the payee Where your money goes is new or was changed." in text

    def test_missing_parts_are_named_with_their_time(self, shop: PayoutShop) -> None:
        from refund_worker.store.tables import payees

        verdict = {"verdict": "incomplete", "verdict_reason": "requirements.past_due", "verdict_act_by": 4_102_444_800}
        with shop.web.context.database.write() as connection:
            connection.execute(payees.update().values(verdict_needs=["external_account"], **verdict))
        text = text_of(visitor(shop.web, "viewer").get("/payee", id="p1"))
        assert "the payee must act" in text
        assert "The payee must give external_account until 2100-01-01 00:00:00" in text

    def test_operator_pauses_and_resumes_with_a_reason(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "operator")
        empty = person.submit(person.get("/payee", id="p1"), "/payee/pause", reason=" ")
        assert (empty.status_code, shop.get("/v1/payees/p1")["status"]) == (422, "ready")
        paused = person.follow(person.submit(person.get("/payee", id="p1"), "/payee/pause", reason="by letter"))
        assert "Paused by console/operator Reason by letter" in text_of(paused)
        assert shop.get("/v1/payees/p1")["status"] == "paused"
        resumed = person.follow(person.submit(paused, "/payee/resume", reason="it is settled"))
        assert "Resumed: held payouts are looked at again" in text_of(resumed)
        assert shop.get("/v1/payees/p1")["status"] == "ready"


class TestDestination:
    def test_admin_sees_the_whole_one_and_the_read_is_noted(self, web: Web) -> None:
        shop = PayoutShop(web)
        body = {"processor_account": "stripe", "destination": BANK, "currency": "EUR"}
        assert web.call("PUT", "/v1/payees/p1", body).status_code == 200
        person = visitor(web, "admin")
        before = person.get("/payee", id="p1")
        assert BANK["iban"] not in before.text
        shown = person.submit(before, "/payee/destination")
        assert BANK["iban"] in shown.text
        assert "The whole destination was shown" in text_of(shown)
        (*_, last) = shop.get("/v1/payees/p1/events")["data"]
        assert (last["what"], last["who"]) == ("destination_read", "console/admin")
        assert BANK["iban"] not in person.get("/payee", id="p1").text

    def test_others_are_not_offered_it(self, shop: PayoutShop) -> None:
        for role in ("viewer", "support", "operator", "approver"):
            assert "/payee/destination" not in visitor(shop.web, role).get("/payee", id="p1").text


class TestStatement:
    def test_month_adds_up_and_can_be_downloaded(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "viewer")
        page = person.get("/payee/statement", id="p1")
        assert "EUR 0.00 EUR 6.00 EUR 0.00 EUR 0.00 EUR 0.00 EUR 6.00 EUR" in text_of(page)
        month = text_of(page).partition("Statement of ")[2][:7]
        file = person.get("/payee/statement.csv", id="p1", month=month)
        assert file.headers["content-disposition"] == f'attachment; filename="statement-{month}.csv"'
        assert file.text.splitlines()[0] == "at,kind,reference,description,currency,amount_minor,balance_minor"
        assert "earn-1" in file.text
        assert "No entries in this month" in text_of(person.get("/payee/statement", id="p1", month="2020-01"))

    def test_wrong_month_is_an_error_on_the_page(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "viewer")
        for month in ("2026-13", "October"):
            page = person.get("/payee/statement", id="p1", month=month)
            assert (page.status_code, "is no month" in text_of(page)) == (422, True)
            assert person.get("/payee/statement.csv", id="p1", month=month).status_code == 422


class TestPayOut:
    def test_it_offers_all_that_is_payable_and_pays_it_once(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "support")
        page = person.get("/pay-out", id="p1")
        assert form_on(page, "/console/pay-out")["amount"] == "6.00"
        answers = [person.submit_last(page, "/pay-out", description="October") for _ in range(2)]
        assert len({answer.headers["location"] for answer in answers}) == 1
        assert "Accepted; a second person must approve it first" in text_of(person.follow(answers[0]))
        (payout,) = shop.get("/v1/payouts")["data"]
        assert (payout["amount_minor"], payout["description"], payout["actor"]) == (600, "October", "console/support")

    def test_smaller_amount_is_previewed_and_paid(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "support")
        page = person.get("/pay-out", id="p1", amount="4.50")
        assert "4.50 EUR to Stripe account acct_•••• cd" in text_of(page)
        done = person.follow(person.submit_last(page, "/pay-out"))
        assert "Accepted: the progress is shown below" in text_of(done)
        assert "Payout of 4.50 EUR" in text_of(done)

    @pytest.mark.parametrize("amount", ["0", "-1", "1.005", "4.50 USD", "much", "1e3"])
    def test_unusable_amount_is_an_error_on_the_page(self, shop: PayoutShop, amount: str) -> None:
        page = visitor(shop.web, "support").get("/pay-out", id="p1", amount=amount)
        assert (page.status_code, "enter an amount such as 12.50 EUR" in text_of(page)) == (422, True)

    def test_it_says_why_not(self, shop: PayoutShop) -> None:
        earn(shop, "earn-2", 600, available_at=LATER)
        page = visitor(shop.web, "support").get("/pay-out", id="p1", amount="7.00")
        text = text_of(page)
        assert "This is not possible now: 6.00 EUR can be paid out now, and 6.00 EUR are held" in text
        assert "Held 6.00 EUR the next part until 2100-01-01" in text
        assert 'name="amount_minor"' not in page.text

    def test_what_changed_since_the_preview_is_refused(self, shop: PayoutShop) -> None:
        person = visitor(shop.web, "support")
        page = person.get("/pay-out", id="p1")
        shop.ask(amount_minor=100)
        refused = person.submit_last(page, "/pay-out")
        assert (refused.status_code, "This was not done." in text_of(refused)) == (422, True)
        assert len(shop.get("/v1/payouts")["data"]) == 1
