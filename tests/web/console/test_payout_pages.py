"""The pages Payouts: the list, one payout with its steps and texts, and the acts on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update
from tests.web.client import Web
from tests.web.console.visitor import Visitor, text_of, visitor
from tests.web.payout_shop import PAYEE, PayoutShop, use_context
from tests.web.test_payouts_over_http import ended

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.sealing import Box
from refund_worker.store.tables import payouts


@pytest.fixture
def shop(web: Web) -> PayoutShop:
    return PayoutShop(web)


def stuck(shop: PayoutShop) -> str:
    """Return a payout that needs a person."""
    shop.route.script = ["misconfigured"]
    payout_id = str(shop.ask(amount_minor=500).json()["id"])
    shop.work()
    return payout_id


class TestList:
    def test_it_shows_status_amount_and_route_in_words(self, shop: PayoutShop) -> None:
        payout_id = shop.ask(amount_minor=500).json()["id"]
        text = text_of(visitor(shop.web, "viewer").get("/payouts"))
        assert f"{payout_id} queued p1 5.00 EUR stripe: payout Stripe account acct_•••• cd" in text

    def test_it_says_why_and_until_when_one_is_held(self, web: Web) -> None:
        shop = PayoutShop(web, cooldown_seconds=86_400.0)
        payout_id = shop.ask(amount_minor=500).json()["id"]
        shop.work()
        until = shop.get(f"/v1/payouts/{payout_id}")["hold_until"][:10]
        person = visitor(web, "viewer")
        assert f"held the destination is new, until {until}" in text_of(person.get("/payouts"))
        assert f"Held the destination is new, until {until}" in text_of(person.get(f"/payouts/{payout_id}"))

    @pytest.mark.parametrize(
        ("field", "value", "other"),
        [
            ("status", "needs_attention", "paid"),
            ("payee_id", " p1 ", "p2"),
            ("processor_account", "stripe", "paypal"),
            ("failure_code", "resource_missing", "AC04"),
            ("idempotency_key", "k", "l"),
            ("run_id", "", "run_1"),
        ],
    )
    def test_filters_select(self, shop: PayoutShop, field: str, value: str, other: str) -> None:
        payout_id = stuck(shop)
        person = visitor(shop.web, "viewer")
        assert payout_id in person.get("/payouts", **{field: value}).text
        without = person.get("/payouts", **{field: other})
        assert (payout_id in without.text, "No payout matches" in without.text) == (False, True)

    def test_wrong_status_is_an_error_on_the_page(self, shop: PayoutShop) -> None:
        page = visitor(shop.web, "viewer").get("/payouts", status="gone")
        assert (page.status_code, "choose one of those shown" in text_of(page)) == (422, True)

    def test_long_list_is_read_in_pages(self, shop: PayoutShop) -> None:
        ids = [shop.ask(f"k{n}", amount_minor=1).json()["id"] for n in range(51)]
        person = visitor(shop.web, "viewer")
        first = person.get("/payouts")
        assert (ids[0] in first.text, ids[1] in first.text, "Older" in text_of(first)) == (False, True, True)
        second = person.get("/payouts", starting_after=ids[1])
        assert (ids[0] in second.text, ids[1] in second.text) == (True, False)


class TestOne:
    def test_it_shows_steps_texts_and_history(self, shop: PayoutShop) -> None:
        payout_id = ended(shop, lambda key: shop.route.set(key, ObjectState.SUCCEEDED))
        payout = shop.get(f"/v1/payouts/{payout_id}")
        page = visitor(shop.web, "viewer").get(f"/payouts/{payout_id}")
        text = text_of(page)
        for wanted in (
            "Payout of 1.00 EUR paid, may come back",
            payout["staff_text"],
            payout["payee_text"],
            "Payout to the payee succeeded 1.00 EUR",
            payout["legs"][0]["object_id"],
            "Attempt 1 on payout to the payee at stripe the processor has it",
            "Taken off the payee's balance",
            f"refund-worker payouts show {payout_id}",
        ):
            assert wanted in text, wanted
        assert "Ask the processor now" not in text, "a viewer only reads"
        assert visitor(shop.web, "support").get("/payouts/po_none").status_code == 404

    def test_changed_destination_is_a_warning(self, shop: PayoutShop) -> None:
        payout_id = stuck(shop)
        page = visitor(shop.web, "viewer")
        assert "another destination" not in text_of(page.get(f"/payouts/{payout_id}"))
        body = {**PAYEE, "destination": {"kind": "stripe_account", "account": "acct_2Efgh"}}
        del body["payee_id"]
        assert shop.web.call("PUT", "/v1/payees/p1", body).status_code == 200
        payout = shop.get(f"/v1/payouts/{payout_id}")
        assert payout["destination"] == "Stripe account acct_•••• cd"
        assert payout["destination_changed_at"] == shop.get("/v1/payees/p1")["destination"]["changed_at"]
        text = text_of(page.get(f"/payouts/{payout_id}"))
        assert "The payee has another destination since" in text
        assert "Ask the payee before you pay" in text
        shop.act(payout_id, "resolve", body={"outcome": "paid_manually", "reference": "bank 7"})
        assert shop.get(f"/v1/payouts/{payout_id}")["destination_changed_at"] is None

    def test_payees_fault_is_explained(self, shop: PayoutShop) -> None:
        values = {"failure_code": "account_closed", "fault": Fault.PAYEE}
        payout_id = ended(shop, lambda key: shop.route.set(key, ObjectState.FAILED, **values))
        text = text_of(visitor(shop.web, "viewer").get(f"/payouts/{payout_id}"))
        assert "account_closed · whose fault: the payee's" in text
        assert "The payee's account cannot receive the money" in text
        assert "Tell the payee Your payout of 1.00 EUR could not be paid." in text

    def test_step_that_waits_for_the_payee_does_not_name_a_customer(self, shop: PayoutShop) -> None:
        shop.route.script = ["requires_action"]
        payout_id = shop.ask(amount_minor=100).json()["id"]
        shop.work()
        text = text_of(visitor(shop.web, "viewer").get(f"/payouts/{payout_id}"))
        assert text.count("sending → waits for the payee") == 2, "of the payout and of its step"
        assert "customer" not in text.partition("Timeline")[2]

    def test_code_that_refunds_have_too_is_explained_in_words_of_payouts(self, shop: PayoutShop) -> None:
        shop.route.script = ["misconfigured"]  # resource_missing
        payout_id = shop.ask(amount_minor=100).json()["id"]
        shop.work()
        page = visitor(shop.web, "operator").get(f"/payouts/{payout_id}")
        text = text_of(page)
        assert "The processor does not know the payee's account" in text
        assert "What to do: Compare the payee's destination with the processor's dashboard." in text
        assert "#payout-resource-missing" in page.text
        assert "the payment's id" not in text.lower()
        assert "The processor does not know the payee's account" in text_of(visitor(shop.web, "viewer").get("/payouts"))

    def test_of_a_compliance_outcome_only_operators_see_the_code(self, shop: PayoutShop) -> None:
        values = {"failure_code": "REGULATORY_BLOCKED", "fault": Fault.COMPLIANCE, "status": "BLOCKED"}
        payout_id = ended(shop, lambda key: shop.route.set(key, ObjectState.FAILED, **values))
        for role, sees in {"viewer": False, "support": False, "approver": False, "operator": True}.items():
            person = visitor(shop.web, role)
            assert ("REGULATORY" in person.get(f"/payouts/{payout_id}").text) is sees, role
            for path in ("/payouts", "/payee?id=p1", f"/search?q={payout_id}"):
                assert "REGULATORY" not in person.get(path).text, (role, path)
            assert payout_id not in person.get("/search?q=REGULATORY_BLOCKED").text, role
            assert payout_id not in person.get("/payouts?failure_code=REGULATORY_BLOCKED").text, role

    def test_audit_shows_operators_alone_the_code_of_a_compliance_outcome(self, shop: PayoutShop) -> None:
        values = {"failure_code": "REGULATORY_BLOCKED", "fault": Fault.COMPLIANCE, "status": "BLOCKED"}
        ended(shop, lambda key: shop.route.set(key, ObjectState.FAILED, **values))
        for role, sees in {"viewer": False, "support": False, "approver": False, "operator": True}.items():
            person = visitor(shop.web, role)
            for path in ("/audit", "/audit.csv"):
                found = person.get(path)
                assert found.status_code == 200
                assert ("REGULATORY" in found.text) is sees, (role, path)
                assert "leg_object_failed" in found.text or "Failed at the processor" in found.text

    def test_support_asks_the_processor(self, shop: PayoutShop) -> None:
        payout_id = shop.ask(amount_minor=100).json()["id"]
        person, path = visitor(shop.web, "support"), f"/payouts/{payout_id}"
        done = person.submit(person.get(path), f"{path}/sync")
        assert "The processor was asked just now" in text_of(person.follow(done))
        shop.work()
        # The process of the test has no key of the account, so the question about a sent payout is not possible.
        refused = person.submit(person.get(path), f"{path}/sync")
        assert (refused.status_code, "cannot be asked now" in text_of(refused)) == (503, True)

    def test_question_without_the_key_of_the_destination_is_refused(self, shop: PayoutShop) -> None:
        payout_id = shop.ask(amount_minor=100).json()["id"]
        shop.work()
        use_context(shop.web, replace(shop.web.context, box=Box()))
        person, path = visitor(shop.web, "support"), f"/payouts/{payout_id}"
        refused = person.submit(person.get(path), f"{path}/sync")
        assert (refused.status_code, "sealed with a key that" in text_of(refused)) == (422, True)


def decide(person: Visitor, payout_id: str, action: str, **typed: str) -> str:
    """Take an action on the payout's page; return the text of the page that follows."""
    page = person.get(f"/payouts/{payout_id}")
    answer = person.submit(page, f"/payouts/{payout_id}/{action}", **({"reason": "because"} | typed))
    return text_of(person.follow(answer) if answer.status_code == 303 else answer)


class TestActs:
    @pytest.mark.parametrize(
        ("action", "role", "done", "status"),
        [
            ("approve", "approver", "Approved: the payout now continues", "queued"),
            ("reject", "approver", "Rejected: nothing was paid", "rejected"),
            ("cancel", "support", "Canceled: nothing was paid", "canceled"),
        ],
    )
    def test_before_it_is_sent(self, shop: PayoutShop, action: str, role: str, done: str, status: str) -> None:
        payout_id = shop.ask().json()["id"]
        assert done in decide(visitor(shop.web, role), payout_id, action)
        assert shop.get(f"/v1/payouts/{payout_id}")["status"] == status
        (*_, last) = shop.get(f"/v1/payouts/{payout_id}/events")["data"]
        assert (last["who"], last["why"]) == (f"console/{role}", "because")

    def test_retry_asks_first(self, shop: PayoutShop) -> None:
        payout_id = stuck(shop)
        shown = decide(visitor(shop.web, "operator"), payout_id, "retry")
        assert "Retry requested: the processor is asked first" in shown
        shop.work()
        assert shop.get(f"/v1/payouts/{payout_id}")["status"] == "pending"

    @pytest.mark.parametrize(
        ("typed", "status"),
        [({"outcome": "reverse"}, "failed"), ({"outcome": "paid_manually", "reference": "bank 7"}, "paid")],
    )
    def test_resolve_ends_it(self, shop: PayoutShop, typed: dict[str, str], status: str) -> None:
        payout_id = stuck(shop)
        person = visitor(shop.web, "operator")
        assert "Back to the balance" in text_of(person.get(f"/payouts/{payout_id}"))
        assert "Resolved." in decide(person, payout_id, "resolve", **typed)
        assert shop.get(f"/v1/payouts/{payout_id}")["status"] == status

    @pytest.mark.parametrize("paid", ["paid", "settled"])
    def test_manual_payment_can_only_have_come_back(self, shop: PayoutShop, paid: str) -> None:
        payout_id = stuck(shop)
        shop.act(payout_id, "resolve", body={"outcome": "paid_manually", "reference": "bank 7"})
        with shop.web.context.database.write() as connection:
            connection.execute(update(payouts).values(status=paid))
        person = visitor(shop.web, "operator")
        page = person.get(f"/payouts/{payout_id}").text
        assert 'value="reverse"' in page
        assert 'value="paid_manually"' not in page
        assert "--outcome paid_manually" not in page
        assert "Resolved." in decide(person, payout_id, "resolve", outcome="reverse")
        assert shop.get(f"/v1/payouts/{payout_id}")["status"] == "returned"

    @pytest.mark.parametrize(
        "typed", [{"outcome": ""}, {"outcome": "paid_manually"}, {"outcome": "reverse", "reason": ""}]
    )
    def test_incomplete_form_does_nothing(self, shop: PayoutShop, typed: dict[str, str]) -> None:
        payout_id = stuck(shop)
        before = shop.get(f"/v1/payouts/{payout_id}")
        assert "This was not done." in decide(visitor(shop.web, "operator"), payout_id, "resolve", **typed)
        assert shop.get(f"/v1/payouts/{payout_id}") == before

    def test_missing_answer_offers_no_way_back_to_the_balance(self, shop: PayoutShop) -> None:
        shop.route.script, shop.route.finds = ["lost"], False
        payout_id = shop.ask(amount_minor=500).json()["id"]
        shop.work()
        assert shop.get(f"/v1/payouts/{payout_id}")["legs"][0]["status"] == "unknown"
        with shop.web.context.database.write() as connection:
            connection.execute(update(payouts).values(status="needs_attention"))
        shown = text_of(visitor(shop.web, "operator").get(f"/payouts/{payout_id}"))
        assert "Back to the balance" not in shown
        assert "--outcome paid_manually" in shown
        assert "--outcome reverse" not in shown

    def test_form_that_is_sent_twice_acts_once(self, shop: PayoutShop) -> None:
        payout_id = shop.ask().json()["id"]
        person = visitor(shop.web, "approver")
        page = person.get(f"/payouts/{payout_id}")
        for _ in range(2):
            assert person.submit(page, f"/payouts/{payout_id}/approve", reason="because").status_code == 303
        kinds = [event["what"] for event in shop.get(f"/v1/payouts/{payout_id}/events")["data"]]
        assert kinds.count("payout_approved") == 1

    def test_one_that_changed_meanwhile_is_left_alone(self, shop: PayoutShop) -> None:
        payout_id = shop.ask().json()["id"]
        person = visitor(shop.web, "approver")
        page = person.get(f"/payouts/{payout_id}")
        shop.act(payout_id, "cancel")
        assert person.submit(page, f"/payouts/{payout_id}/approve", reason="because").status_code == 412

    def test_requester_cannot_approve(self, shop: PayoutShop) -> None:
        payout_id = shop.ask(api_key="admin").json()["id"]
        person = visitor(shop.web, "approver")
        own = shop.get(f"/v1/payouts/{payout_id}")["actor"]
        from refund_worker.engine.access.persons import link_person

        link_person(shop.web.context, "approver", f"key:{own}", by="cli:boss")
        shown = text_of(person.get(f"/payouts/{payout_id}"))
        assert "You cannot approve this payout" in shown
        assert f"/payouts/{payout_id}/approve" not in person.get(f"/payouts/{payout_id}").text

    def test_roles_that_may_are_named(self, shop: PayoutShop) -> None:
        payout_id = shop.ask().json()["id"]
        shown = text_of(visitor(shop.web, "viewer").get(f"/payouts/{payout_id}"))
        assert "Approve (needs the role approver or admin)" in shown
