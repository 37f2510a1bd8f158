"""Payout runs over HTTP: made once, shown with their rows, approved by a second person, canceled."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.web.client import Web, is_problem
from tests.web.payout_shop import PAYEE, PayoutShop

from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.runs import RunSchedule
from refund_worker.engine.payouts.drive_runs import drive_due_runs
from refund_worker.engine.payouts.runs import make_scheduled_runs
from refund_worker.web.dependencies import AppState

BODY = {"processor_account": "stripe", "currency": "EUR"}


@pytest.fixture
def shop(web: Web) -> PayoutShop:
    """Return a shop with two payees: "p1" with 6.00 EUR, "p2" with nothing."""
    shop = PayoutShop(web)
    with_limits(shop, Limits())
    other = {"kind": "stripe_account", "account": "acct_2Abcd"}
    assert web.call("POST", "/v1/payees", PAYEE | {"payee_id": "p2", "destination": other}).status_code == 201
    return shop


def with_limits(shop: PayoutShop, limits: Limits) -> None:
    """Set the limits of the application."""
    state: AppState = shop.web.app.state.shared
    shop.web.app.state.shared = replace(state, context=replace(state.context, limits=limits))


def make(shop: PayoutShop, key: str = "k", *, api_key: str = "admin", **changes: Any) -> httpx.Response:
    """Ask for a run."""
    return shop.web.call("POST", "/v1/payout-runs", BODY | changes, key=api_key, headers={"Idempotency-Key": key})


def drive(shop: PayoutShop, run_id: str) -> Any:
    """Let the scheduler work, and return the run."""
    while drive_due_runs(shop.web.context):
        pass
    return shop.get(f"/v1/payout-runs/{run_id}")


def test_run_is_made_once_and_pays(shop: PayoutShop) -> None:
    made = make(shop)
    assert (made.status_code, made.json()["status"], made.json()["payees"]) == (202, "planning", 2)
    run_id = made.json()["run_id"]
    assert made.headers["Location"] == f"/v1/payout-runs/{run_id}"
    again = make(shop)
    assert (again.status_code, again.headers["Idempotent-Replayed"], again.json()["run_id"]) == (200, "true", run_id)
    other = make(shop, minimum_minor=1, processor_account="paypal")
    assert is_problem(other, 422, "idempotency_key_reused")
    assert other.json()["fields"] == ["processor_account", "minimum_minor"]
    run = drive(shop, run_id)
    assert (run["status"], run["planned_minor"], run["paid_minor"], run["paid_payees"]) == ("done", 600, 600, 1)
    assert run["codes"] == {"nothing_payable": 1}
    assert (run["available_minor"], run["shortfall_minor"]) == (None, None)
    shop.work()
    assert drive(shop, run_id)["payouts_by_status"] == {"pending": 1}
    assert [row["run_id"] for row in shop.get("/v1/payout-runs")["data"]] == [run_id]


def test_rows_say_who_is_paid_and_who_is_skipped(shop: PayoutShop) -> None:
    run_id = make(shop).json()["run_id"]
    assert drive(shop, run_id)["status"] == "done"
    path = f"/v1/payout-runs/{run_id}/rows"
    (paid,) = shop.get(f"{path}?skipped=false")["data"]
    (skipped,) = shop.get(f"{path}?skipped=true")["data"]
    assert (paid["payee_id"], paid["paid_minor"], paid["code"], paid["payout_status"]) == ("p1", 600, None, "queued")
    assert (skipped["payee_id"], skipped["code"], skipped["paid_minor"]) == ("p2", "nothing_payable", 0)
    page = shop.get(f"{path}?limit=1")
    assert (page["has_more"], shop.get(f"{path}?starting_after=p1")["data"]) == (True, [skipped])
    assert [row["payee_id"] for row in shop.get(f"{path}?code=nothing_payable")["data"]] == ["p2"]
    text = shop.web.call("GET", f"{path}?format=csv")
    rows = list(csv.DictReader(io.StringIO(text.text)))
    assert text.headers["content-type"].startswith("text/csv")
    assert [(row["payee_id"], row["paid_minor"], row["code"]) for row in rows] == [
        ("p1", "600", ""),
        ("p2", "0", "nothing_payable"),
    ]
    assert shop.web.call("GET", f"{path}?starting_after=none").status_code == 422
    assert shop.web.call("GET", "/v1/payout-runs/none/rows").status_code == 404


def test_dry_run_shows_the_plan_and_pays_nothing(shop: PayoutShop) -> None:
    run = drive(shop, make(shop, dry_run=True, minimum_minor=601).json()["run_id"])
    assert (run["status"], run["planned_minor"], run["carried_minor"]) == ("planned", 0, 600)
    assert run["codes"] == {"below_minimum": 1, "nothing_payable": 1}
    assert shop.get("/v1/payouts")["data"] == []
    events = shop.get(f"/v1/payout-runs/{run['run_id']}/events")["data"]
    assert [event["what"] for event in events] == ["payout_run_created", "payout_run_planned"]


def test_second_person_approves(shop: PayoutShop) -> None:
    with_limits(shop, Limits(approval_threshold_minor=599))
    run_id = make(shop).json()["run_id"]
    run = drive(shop, run_id)
    assert (run["status"], run["approval_codes"]) == ("awaiting_approval", ["approval_threshold"])
    path, reason = f"/v1/payout-runs/{run_id}/approve", {"reason": "checked"}
    assert shop.web.call("POST", path, reason).json()["code"] == "action_not_allowed"
    second = shop.web.key("approver")
    stale = shop.web.call("POST", path, reason, key=second, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert shop.web.call("POST", path, reason, key=second).json()["status"] == "paying"
    done = drive(shop, run_id)
    assert (done["status"], done["paid_minor"], done["reason"]) == ("done", 600, "checked")
    events = shop.get(f"/v1/payout-runs/{run_id}/events")["data"]
    assert [(event["what"], event["from"], event["to"], event["why"]) for event in events] == [
        ("payout_run_created", None, "planning", None),
        ("payout_run_awaits_approval", "planning", "awaiting_approval", None),
        ("payout_run_approved", "awaiting_approval", "paying", "checked"),
        ("payout_run_done", "paying", "done", None),
    ]
    assert events[1]["detail"]["approval_codes"] == "approval_threshold"


def test_canceled_run_pays_nobody(shop: PayoutShop) -> None:
    run_id = make(shop).json()["run_id"]
    path = f"/v1/payout-runs/{run_id}/cancel"
    assert shop.web.call("POST", path, {"reason": "a mistake"}).json()["status"] == "canceled"
    assert drive(shop, run_id)["paid_payees"] == 0
    assert shop.web.call("POST", path, {"reason": "again"}).status_code == 409
    assert shop.web.call("POST", "/v1/payout-runs/none/cancel", {"reason": "x"}).status_code == 404


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"processor_account": "none"}, "processor_account_unknown"),
        ({"minimum_minor": -1}, "invalid_request"),
        ({"currency": "XXQ"}, "invalid_request"),
        ({"more": 1}, "invalid_request"),
    ],
)
def test_wrong_request_is_refused(shop: PayoutShop, changes: dict[str, Any], code: str) -> None:
    answer = make(shop, **changes)
    assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (422, code, list(changes))


def test_run_is_seen_by_its_client_and_who_decides(shop: PayoutShop) -> None:
    run_id = make(shop, api_key=shop.web.key("operator", client="shop")).json()["run_id"]
    drive(shop, run_id)
    (paid,) = shop.get(f"/v1/payout-runs/{run_id}/rows?skipped=false")["data"]
    for role, client in (("viewer", "shop"), ("requester", "shop"), ("approver", "other"), ("operator", "other")):
        key = shop.web.key(role, client=client)
        assert [run["run_id"] for run in shop.get("/v1/payout-runs", key=key)["data"]] == [run_id]
        assert shop.get(f"/v1/payout-runs/{run_id}", key=key)["client"] == "shop"
        assert shop.get(f"/v1/payout-runs/{run_id}/rows", key=key)["data"][0] == paid
        assert shop.get(f"/v1/payout-runs/{run_id}/events", key=key)["data"]
        assert [each["id"] for each in shop.get(f"/v1/payouts?run_id={run_id}", key=key)["data"]] == [paid["payout_id"]]
        assert shop.get(f"/v1/payouts/{paid['payout_id']}", key=key)["run_id"] == run_id
        assert shop.get(f"/v1/payouts/{paid['payout_id']}/events", key=key)["data"]


@pytest.mark.parametrize("role", ["viewer", "requester"])
def test_run_of_another_client_is_not_found(shop: PayoutShop, role: str) -> None:
    run_id = make(shop, api_key=shop.web.key("operator", client="shop")).json()["run_id"]
    drive(shop, run_id)
    (paid,) = shop.get(f"/v1/payout-runs/{run_id}/rows?skipped=false")["data"]
    stranger = shop.web.key(role, client="other")
    assert shop.get("/v1/payout-runs", key=stranger)["data"] == []
    paths = [f"/v1/payout-runs/{run_id}{part}" for part in ("", "/rows", "/rows?format=csv", "/events")]
    for path in (*paths, f"/v1/payouts/{paid['payout_id']}"):
        assert is_problem(shop.web.call("GET", path, key=stranger), 404, "not_found"), path
    after = shop.web.call("GET", f"/v1/payout-runs?starting_after={run_id}", key=stranger)
    assert is_problem(after, 422, "invalid_request")
    assert shop.get(f"/v1/payouts?run_id={run_id}", key=stranger)["data"] == []
    assert shop.get(f"/v1/search?q={run_id}", key=stranger) == shop.get("/v1/search?q=none", key=stranger)


def test_run_of_the_schedule_is_no_clients(shop: PayoutShop) -> None:
    context = replace(shop.web.context, run_schedule=RunSchedule("daily"))
    assert make_scheduled_runs(context) == 1
    (run,) = shop.get("/v1/payout-runs", key=shop.web.key("approver", client="other"))["data"]
    assert run["period"]
    assert shop.get("/v1/payout-runs", key=shop.web.key("requester"))["data"] == []
    path = f"/v1/payout-runs/{run['run_id']}"
    assert is_problem(shop.web.call("GET", path, key=shop.web.key("requester")), 404, "not_found")


def test_key_is_required(shop: PayoutShop) -> None:
    assert shop.web.call("POST", "/v1/payout-runs", BODY).status_code == 400
