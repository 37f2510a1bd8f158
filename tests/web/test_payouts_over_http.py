"""Payouts over HTTP: requested once, shown with their texts, previewed, listed and decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.scripted_processor import ScriptedProcessor
from tests.web.client import Web, is_problem
from tests.web.console.visitor import visitor
from tests.web.payout_shop import EARNING, PAYEE, PayoutShop, use_context

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.as_processor import PayoutsAsProcessor
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.sealing import Box


@pytest.fixture
def shop(web: Web) -> PayoutShop:
    return PayoutShop(web)


def limited(shop: PayoutShop, **limits: int) -> None:
    state = shop.web.app.state.shared
    shop.web.app.state.shared = replace(state, context=replace(state.context, limits=Limits(**limits)))


class TestRequest:
    def test_new_one_is_202_and_the_same_again_200(self, shop: PayoutShop) -> None:
        first = shop.ask(amount_minor=500, description="October")
        assert first.status_code == 202
        payout = first.json()
        assert first.headers["Location"] == f"/v1/payouts/{payout['id']}"
        assert first.headers["ETag"] == '"1"'
        assert (payout["status"], payout["amount_minor"], payout["destination"]) == (
            "queued",
            500,
            "Stripe account acct_•••• cd",
        )
        assert (payout["client"], payout["idempotency_key"]) == ("backend", "k")
        again = shop.ask(amount_minor=500, description="October")
        assert (again.status_code, again.headers["Idempotent-Replayed"], again.json()) == (200, "true", payout)
        (balance,) = shop.get("/v1/payees/p1")["balances"]
        assert (balance["payable_minor"], balance["in_flight_minor"]) == (100, 500)

    def test_other_body_under_the_same_key_is_refused(self, shop: PayoutShop) -> None:
        shop.ask(amount_minor=500)
        refused = shop.ask(amount_minor=501)
        assert is_problem(refused, 422, "idempotency_key_reused")
        assert refused.json()["fields"] == ["amount_minor"]

    def test_without_an_amount_everything_payable_is_paid(self, shop: PayoutShop) -> None:
        assert shop.ask().json()["amount_minor"] == 600

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"payee_id": "none"}, 422, "unknown_payee"),
            ({"amount_minor": 601}, 422, "insufficient_earnings"),
            ({"amount_minor": 99}, 422, "below_minimum"),
            ({"amount_minor": 551}, 422, "above_maximum"),
            ({"currency": "USD"}, 422, "currency_mismatch"),
            ({"amount_minor": 0}, 422, "invalid_request"),
            ({"amount_minor": 1.5}, 422, "invalid_request"),
            ({"destination": {}}, 422, "invalid_request"),
        ],
    )
    def test_unusable_request_is_refused(self, web: Web, change: dict[str, object], status: int, code: str) -> None:
        shop = PayoutShop(web, minimum_minor={"EUR": 100}, maximum_minor={"EUR": 550})
        refused = shop.ask(**change)
        assert is_problem(refused, status, code)
        assert refused.json()["fields"] == list(change)
        assert shop.get("/v1/payouts")["data"] == []

    def test_nothing_payable_is_no_fields_fault(self, shop: PayoutShop) -> None:
        shop.ask("k-1")
        refused = shop.ask("k-2")
        assert is_problem(refused, 422, "insufficient_earnings")
        assert "fields" not in refused.json()

    def test_key_is_required(self, shop: PayoutShop) -> None:
        answer = shop.web.call("POST", "/v1/payouts", {"payee_id": "p1", "currency": "EUR"})
        assert is_problem(answer, 400, "idempotency_key_missing")

    def test_velocity_is_counted_apart_and_said_in_headers(self, shop: PayoutShop) -> None:
        limited(shop, velocity_count=1)
        shop.web.refund("r-1")
        first = shop.ask("k1", amount_minor=100)
        assert first.headers["RateLimit"].startswith('"refunds";r=0;')
        second = shop.ask("k2", amount_minor=100)
        assert is_problem(second, 429, "velocity_exceeded")
        assert int(second.headers["Retry-After"]) > 0


class TestPreview:
    def preview(self, shop: PayoutShop, **body: object) -> dict[str, object]:
        answer = shop.web.call("POST", "/v1/payouts/preview", {"payee_id": "p1"} | body)
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    def test_it_stores_nothing_and_shows_the_route(self, shop: PayoutShop) -> None:
        found = self.preview(shop)
        assert (found["would_be"], found["amount_minor"], found["payable_minor"]) == ("accepted", 600, 600)
        assert (found["currency"], found["steps"], found["fee_minor"], found["hold"]) == ("EUR", ["payout"], None, None)
        assert shop.get("/v1/payouts")["data"] == []

    def test_it_says_until_when_earnings_are_held(self, shop: PayoutShop) -> None:
        later = "2100-01-01T00:00:00Z"
        shop.web.call("POST", "/v1/earnings", EARNING | {"earning_id": "earn-2", "available_at": later})
        found = self.preview(shop, amount_minor=700)
        assert found["would_be"] == {
            "code": "insufficient_earnings",
            "message": "6.00 EUR can be paid out now, and 6.00 EUR are held",
        }
        assert (found["held_minor"], str(found["held_until"])[:10]) == (600, "2100-01-01")

    def test_it_says_why_nothing_is_payable(self, web: Web) -> None:
        shop = PayoutShop(web, minimum_minor={"EUR": 601})
        found = self.preview(shop)
        assert (found["payable_minor"], found["not_payable_code"], found["minimum_minor"]) == (0, "below_minimum", 601)
        assert found["would_be"] != "accepted"

    def test_it_says_what_holds_the_payee(self, web: Web) -> None:
        shop = PayoutShop(web, cooldown_seconds=86_400.0)
        hold = self.preview(shop)["hold"]
        assert isinstance(hold, dict)
        assert hold["code"] == "destination_cooldown"
        assert hold["until"][:10] in hold["payee_text"]

    def test_unknown_payee_is_named(self, shop: PayoutShop) -> None:
        answer = shop.web.call("POST", "/v1/payouts/preview", {"payee_id": "none"})
        assert is_problem(answer, 422, "unknown_payee")
        assert answer.json()["fields"] == ["payee_id"]

    def test_it_takes_the_body_of_a_request(self, shop: PayoutShop) -> None:
        body = {"payee_id": "p1", "amount_minor": 500, "currency": "EUR", "description": "October"}
        found = self.preview(shop, **body, requested_by="ann")
        assert (found["would_be"], found["amount_minor"]) == ("accepted", 500)
        answer = shop.web.call("POST", "/v1/payouts/preview", body | {"destination": {}})
        assert is_problem(answer, 422, "invalid_request")
        assert answer.json()["fields"] == ["destination"]

    def test_figures_of_another_currency_are_not_the_payees(self, web: Web) -> None:
        shop = PayoutShop(web, minimum_minor={"EUR": 100, "USD": 200}, maximum_minor={"EUR": 550, "USD": 900})
        later = {"earning_id": "earn-2", "available_at": "2100-01-01T00:00:00Z"}
        shop.web.call("POST", "/v1/earnings", EARNING | later)
        shop.ask(amount_minor=100)
        found = self.preview(shop, currency="USD", amount_minor=300)
        assert found["would_be"] == {
            "code": "currency_mismatch",
            "message": "the payee is paid in EUR, not in USD",
        }
        assert {name: found[name] for name in found if name.endswith("_minor") or "held" in name} == {
            "amount_minor": 300,
            "payable_minor": 0,
            "held_minor": 0,
            "held_until": None,
            "debt_minor": 0,
            "in_flight_minor": 0,
            "minimum_minor": 200,
            "maximum_minor": 900,
            "fee_minor": None,
        }
        assert (found["currency"], found["not_payable_code"]) == ("USD", "currency_mismatch")

    def test_open_payout_is_named(self, shop: PayoutShop) -> None:
        shop.ask(amount_minor=100)
        shop.work()
        hold = self.preview(shop)["hold"]
        assert isinstance(hold, dict)
        assert hold["code"] == "another_payout"

    def test_approval_is_foreseen(self, shop: PayoutShop) -> None:
        assert self.preview(shop, amount_minor=500)["needs_approval"] is False
        assert self.preview(shop, amount_minor=501)["needs_approval"] is True


def test_payout_that_awaits_approval_says_which_total_exceeds_what(shop: PayoutShop) -> None:
    shop.web.call("POST", "/v1/earnings", {**EARNING, "earning_id": "e-2", "amount_minor": 900})
    ann = shop.web.key("requester", name="ann")
    small = shop.ask("small", api_key=ann, amount_minor=400).json()
    assert (small["status"], small["approval_total_minor"], small["approval_threshold_minor"]) == ("queued", None, None)
    waits = shop.ask("large", api_key=ann, amount_minor=300).json()
    assert (waits["status"], waits["approval_total_minor"], waits["approval_threshold_minor"]) == (
        "awaiting_approval",
        700,
        500,
    )
    (listed,) = shop.get("/v1/payouts?status=awaiting_approval")["data"]
    assert listed == waits
    first = shop.get(f"/v1/payouts/{waits['id']}/events")["data"][0]
    assert first["detail"]["approval_total_minor"] == 700
    decided = shop.act(waits["id"], "approve").json()
    assert (decided["approval_total_minor"], decided["approval_threshold_minor"]) == (None, None)


class TestList:
    def test_filters(self, shop: PayoutShop) -> None:
        one = shop.ask("k1", amount_minor=100).json()["id"]
        two = shop.ask("k2", amount_minor=100).json()["id"]
        shop.act(two, "cancel")

        def ids(query: str) -> list[str]:
            return [each["id"] for each in shop.get(f"/v1/payouts?{query}")["data"]]

        assert ids("") == [two, one]
        assert ids("status=canceled") == [two]
        assert ids("status=queued&status=canceled") == [two, one]
        assert ids("idempotency_key=k1") == [one]
        assert ids("payee_id=p1&processor_account=stripe") == [two, one]
        for other in (
            "payee_id=p2",
            "processor_account=paypal",
            "run_id=x",
            "failure_code=AC04",
            "created_gte=2100-01-01",
        ):
            assert ids(other) == []
        page = shop.get("/v1/payouts?limit=1")
        assert page["has_more"]
        assert ids(f"starting_after={two}") == [one]
        assert shop.web.call("GET", "/v1/payouts?starting_after=none").status_code == 422
        assert shop.web.call("GET", "/v1/payouts?customer_id=x").status_code == 422

    def test_another_clients_payouts_are_hidden(self, shop: PayoutShop) -> None:
        payout_id = shop.ask().json()["id"]
        stranger = shop.web.key("requester", client="other-backend")
        assert shop.get("/v1/payouts", key=stranger)["data"] == []
        assert is_problem(shop.web.call("GET", f"/v1/payouts/{payout_id}", key=stranger), 404, "not_found")
        assert len(shop.get("/v1/payouts", key=shop.web.key("operator", client="head-office"))["data"]) == 1


class TestOfARefund:
    """A payout that pays the credits of a refund belongs to the refund's client."""

    def asked(self, shop: PayoutShop, client: str) -> str:
        """Request a withdrawal that the payment refuses and the payee gets, as `client`; return its payout's id."""
        web, refuses = shop.web, ScriptedProcessor()
        refuses.script("ch_1", *[Refused("expired_or_canceled_card", "the card is gone")] * 9)
        processors = {"stripe": refuses, PAYOUT: PayoutsAsProcessor(lambda: web.context)}
        policy = replace(web.context.policy, fallback=("payments", "payout", "balance"))
        use_context(web, replace(web.context, processors=processors, policy=policy))
        payee = {name: value for name, value in PAYEE.items() if name != "payee_id"} | {"customer_id": "cust-1"}
        assert web.call("PUT", "/v1/payees/p1", payee).status_code == 200
        refund_id = web.refund("k-1", key=web.key("requester", client=client)).json()["id"]
        process_until_idle(web.context)
        leg = web.call("GET", f"/v1/refunds/{refund_id}").json()["legs"][-1]
        assert leg["processor"] == PAYOUT
        return str(leg["processor_refund_id"])

    @pytest.mark.parametrize("role", ["viewer", "requester"])
    def test_its_client_sees_it(self, shop: PayoutShop, role: str) -> None:
        payout_id, key = self.asked(shop, "desk"), shop.web.key(role, client="desk")
        payout = shop.get(f"/v1/payouts/{payout_id}", key=key)
        assert (payout["source"], payout["refund_id"] is None) == ("withdrawal", False)
        assert shop.get(f"/v1/payouts/{payout_id}/events", key=key)["data"][0]["what"] == "payout_accepted"
        own = shop.ask("k-2", api_key=shop.web.key("requester", client="desk"), amount_minor=100).json()["id"]
        for query, wanted in {
            "": [own, payout_id],
            "limit=1": [own],
            f"starting_after={own}": [payout_id],
            "payee_id=p1&status=queued": [own, payout_id],
            f"idempotency_key={payout['idempotency_key']}": [payout_id],
        }.items():
            assert [each["id"] for each in shop.get(f"/v1/payouts?{query}", key=key)["data"]] == wanted, query
        assert shop.get("/v1/payouts?limit=1", key=key)["has_more"]

    def test_another_client_does_not(self, shop: PayoutShop) -> None:
        payout_id, stranger = self.asked(shop, "desk"), shop.web.key("requester", client="other")
        for path in (f"/v1/payouts/{payout_id}", f"/v1/payouts/{payout_id}/events"):
            assert is_problem(shop.web.call("GET", path, key=stranger), 404, "not_found")
        assert is_problem(shop.act(payout_id, "cancel", key=stranger), 404, "not_found")
        assert shop.get("/v1/payouts", key=stranger)["data"] == []
        after = shop.web.call("GET", f"/v1/payouts?starting_after={payout_id}", key=stranger)
        assert is_problem(after, 422, "invalid_request")

    def test_cancel_by_its_client_gives_the_credits_back(self, shop: PayoutShop) -> None:
        before = shop.get("/v1/customers/cust-1")["balance"]
        payout_id = self.asked(shop, "desk")
        canceled = shop.act(payout_id, "cancel", key=shop.web.key("requester", client="desk")).json()
        assert canceled["status"] == "canceled"
        process_inbox(shop.web.context)
        process_until_idle(shop.web.context)
        assert shop.get("/v1/customers/cust-1")["balance"] == before


class TestActions:
    def test_second_person_approves(self, shop: PayoutShop) -> None:
        payout = shop.ask(api_key=shop.web.key("requester", name="ann")).json()
        assert (payout["status"], payout["available_actions"]) == ("awaiting_approval", ["approve", "reject", "cancel"])
        stale = shop.act(payout["id"], "approve", headers={"If-Match": '"9"'})
        assert is_problem(stale, 412, "stale_version")
        approved = shop.act(payout["id"], "approve", headers={"If-Match": '"1"'})
        assert (approved.json()["status"], approved.headers["ETag"]) == ("queued", '"2"')
        assert is_problem(shop.act(payout["id"], "reject"), 409, "action_not_allowed")

    def test_own_payout_is_not_approved(self, shop: PayoutShop) -> None:
        payout = shop.ask().json()
        assert is_problem(shop.act(payout["id"], "approve"), 409, "action_not_allowed")

    def test_rejected_amount_is_free_again(self, shop: PayoutShop) -> None:
        payout = shop.ask().json()
        assert shop.act(payout["id"], "reject").json()["status"] == "rejected"
        (balance,) = shop.get("/v1/payees/p1")["balances"]
        assert balance["payable_minor"] == 600

    @pytest.mark.parametrize(
        ("body", "status"),
        [({"outcome": "reverse"}, "failed"), ({"outcome": "paid_manually", "reference": "bank 7"}, "paid")],
    )
    def test_resolve_ends_what_a_person_must_decide(self, shop: PayoutShop, body: dict[str, str], status: str) -> None:
        shop.route.script = ["misconfigured"]
        payout_id = shop.ask(amount_minor=500).json()["id"]
        shop.work()
        assert shop.get(f"/v1/payouts/{payout_id}")["status"] == "needs_attention"
        resolved = shop.act(payout_id, "resolve", body=body).json()
        assert resolved["status"] == status
        assert ("bank 7" in resolved["staff_text"]) is (status == "paid")

    def test_object_of_another_payout_is_no_reference(self, shop: PayoutShop) -> None:
        shop.route.script = ["succeeded", "misconfigured"]
        shop.ask("k1", amount_minor=100)
        shop.work()
        (item,) = shop.route.book.values()
        other = shop.ask("k2", amount_minor=100).json()["id"]
        shop.work()
        body = {"outcome": "paid_manually", "reference": item.object_id}
        refused = shop.act(other, "resolve", body=body)
        assert is_problem(refused, 409, "action_not_allowed")
        assert "of another payout" in refused.json()["detail"]
        assert shop.act(other, "resolve", body=body | {"reference": "bank 7"}).json()["status"] == "paid"

    def test_events_are_its_own(self, shop: PayoutShop) -> None:
        payout_id = shop.ask(amount_minor=100).json()["id"]
        shop.act(payout_id, "cancel")
        events = shop.get(f"/v1/payouts/{payout_id}/events")["data"]
        assert events[0]["what"] == "payout_accepted"
        assert events[-1]["why"] == "because"


FAILED: list[tuple[str, Fault, str]] = [
    ("RECEIVER_UNREGISTERED", Fault.PAYEE, "Please open one"),
    ("account_closed", Fault.PAYEE, "Please name another account"),
]


@pytest.mark.parametrize(("code", "fault", "words"), FAILED)
def test_payee_is_told_what_to_change(shop: PayoutShop, code: str, fault: Fault, words: str) -> None:
    payout_id = ended(shop, lambda key: shop.route.set(key, ObjectState.FAILED, failure_code=code, fault=fault))
    payout = shop.get(f"/v1/payouts/{payout_id}")
    assert (payout["status"], payout["failure_code"], payout["fault"]) == ("failed", code, "payee")
    assert words in payout["payee_text"]
    assert "stripe" not in payout["payee_text"]


def test_compliance_says_nothing_in_detail(shop: PayoutShop) -> None:
    values = {"failure_code": "REGULATORY_BLOCKED", "fault": Fault.COMPLIANCE, "status": "BLOCKED"}
    payout_id = ended(shop, lambda key: shop.route.set(key, ObjectState.FAILED, **values))
    paths = ["", f"/{payout_id}", f"/{payout_id}/events"]
    month = shop.get(f"/v1/payouts/{payout_id}")["created_at"][:7]
    statement = f"/v1/payees/p1/statement?month={month}"
    for role in ("viewer", "requester", "approver"):
        key = shop.web.key(role)
        for path in (*(f"/v1/payouts{path}" for path in paths), "/v1/payees/p1", statement, "/metrics"):
            answer = shop.web.call("GET", path, key=key)
            assert answer.status_code == 200, path
            assert "REGULATORY" not in answer.text, (role, path)
        listed = shop.get("/v1/payouts?failure_code=REGULATORY_BLOCKED", key=key)["data"]
        assert listed == [], "a filter would tell the code"
    (shown,) = shop.get("/v1/payouts?failure_code=refused_by_processor")["data"]
    assert shown["id"] == payout_id
    assert shop.get(f"/v1/payouts/{payout_id}")["failure_code"] == "refused_by_processor"
    assert "REGULATORY_BLOCKED" in str(shop.get(f"/v1/payouts/{payout_id}/events"))


def test_code_of_a_check_that_ended_well_is_shown_to_operators_alone(shop: PayoutShop) -> None:
    values = {"failure_code": "REGULATORY_PENDING", "fault": Fault.COMPLIANCE, "status": "ONHOLD"}

    def arrive(key: str) -> None:
        shop.route.land()
        shop.route.set(key, ObjectState.PENDING, **values)

    shop.route.script = ["late"]
    payout_id = ended(shop, arrive)
    report(shop, payout_id, lambda key: shop.route.set(key, ObjectState.SUCCEEDED, failure_code=None, fault=None))
    assert shop.get(f"/v1/payouts/{payout_id}")["status"] == "paid"
    for role, sees in {"viewer": False, "requester": False, "approver": False, "operator": True}.items():
        events = shop.get(f"/v1/payouts/{payout_id}/events", key=shop.web.key(role))["data"]
        assert ("REGULATORY" in str(events)) is sees, role
        person = visitor(shop.web, "support" if role == "requester" else role)
        for path in (f"/payouts/{payout_id}", "/audit"):
            assert ("REGULATORY" in person.get(path).text) is sees, (role, path)


def ended(shop: PayoutShop, change: Callable[[str], object]) -> str:
    """Send a payout, let its object change, and report that. Return its id."""
    payout_id = str(shop.ask(amount_minor=100).json()["id"])
    shop.work()
    report(shop, payout_id, change)
    return payout_id


def report(shop: PayoutShop, payout_id: str, change: Callable[[str], object]) -> None:
    """Let the payout's object change, and report that."""
    from refund_worker.domain.payouts.decision import TransferReplied
    from refund_worker.domain.payouts.transfers import TransferAnswered
    from refund_worker.engine.payouts.replies import record_transfer_replies

    key = f"{payout_id}-1:1"
    change(key)
    answer = TransferAnswered(shop.route.book[key])
    record_transfer_replies(shop.web.context, [TransferReplied(payout_id, f"{payout_id}-1", None, answer)])
    return payout_id


def test_question_without_the_key_of_the_destination_is_a_problem(shop: PayoutShop) -> None:
    payout_id = shop.ask(amount_minor=500).json()["id"]
    shop.work()
    use_context(shop.web, replace(shop.web.context, box=Box()))
    answer = shop.web.call("POST", f"/v1/payouts/{payout_id}/sync")
    assert is_problem(answer, 422, "destinations_key_missing")
    assert shop.get(f"/v1/payouts/{payout_id}")["status"] == "pending"
