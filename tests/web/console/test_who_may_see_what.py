"""Roles of the console: every route with every role and without a session."""

from __future__ import annotations

import re

import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Mount
from tests.support.outside_objects import dispute, hear, outside_refund
from tests.web.client import Web
from tests.web.console.roles_of_pages import CLOSED, EXPECTED, Things, call_page, everything
from tests.web.console.session import shift_times, token_of
from tests.web.console.visitor import PASSWORD, Visitor, text_of, visitor
from tests.web.payout_shop import PayoutShop

from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.payouts.runs import RunRequest
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.access import console_users
from refund_worker.engine.access.api_keys import ConsoleRole, create_key, list_keys
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.intake.payee_schemas import PayoutSchema
from refund_worker.engine.payouts.accept import AcceptedPayout, request_payouts
from refund_worker.engine.payouts.runs import create_run
from refund_worker.engine.processor_sync.reconciliation.run import start_reconciliation
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.views.claim_objects import claim_page
from refund_worker.store.claims import ClaimFilters
from refund_worker.web.auth import lines_of
from refund_worker.web.console.app import ROUTERS
from refund_worker.web.console.permissions import RULES, check_ruled

NO_SESSION_NEEDED = {("GET", "/sign-in"), ("GET", "/static/{name}"), ("POST", "/sign-in")}
LETTERS = {
    "v": ConsoleRole.VIEWER,
    "s": ConsoleRole.SUPPORT,
    "o": ConsoleRole.OPERATOR,
    "a": ConsoleRole.APPROVER,
    "m": ConsoleRole.ADMIN,
}
# Answers to an allowed user: done, shown, or not possible in this state. Objects of other clients are visible too.
REACHED = {200, 303, 409, 412, 422}


def test_rules_name_every_console_route_and_no_other() -> None:
    assert {line for router in ROUTERS for line in lines_of(router)} == set(RULES) == set(EXPECTED) | NO_SESSION_NEEDED


def test_console_route_without_a_rule_does_not_start_or_open(web: Web) -> None:
    router = APIRouter()

    @router.get("/secrets")
    def secrets() -> dict[str, str]:
        return {"secret": "all of it"}

    with pytest.raises(RuntimeError, match="/secrets"):
        check_ruled([*ROUTERS, router])
    (console,) = [route.app for route in web.app.routes if isinstance(route, Mount)]
    assert isinstance(console, FastAPI)
    console.include_router(router)
    assert visitor(web, "admin").get("/secrets").status_code == 403


def test_console_needs_a_session(web: Web) -> None:
    for method, path in CLOSED:
        answer = call_page(Visitor(web), method, path, {})
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].startswith("/console/sign-in")


def things_of(web: Web, client: str) -> Things:
    """Create a refund that waits for a worker, one that waits for approval, a batch, and a negative correction."""
    made = []
    for name, credits in (("queued", 1), ("large", 60)):
        request = RefundRequest(
            idempotency_key=name,
            kind=Kind.WITHDRAWAL,
            to=To.SOURCE,
            customer_id="cust-1",
            credits=credits,
            reason="asked",
            client=client,
            actor=f"{client}/asked-for-it",
        )
        (answer,) = request_refunds(web.context, [request])
        assert isinstance(answer, Accepted)
        made.append(answer.refund_id)
    batch = accept_batch(web.context, [], client=client, actor=f"{client}/x")["batch_id"]
    entry, _ = correct(
        web.context,
        customer_id="cust-1",
        credits=-1,
        reason="to pay out",
        client=client,
        idempotency_key="off",
        actor=f"{client}/x",
    )
    create_key(web.context, name="somebody", client=client if client != "console" else "shop", role="viewer")
    key_id = list_keys(web.context)[0]["key_id"]
    begun = start_reconciliation(web.context, "stripe", since=None, until=None, actor=f"{client}/x")
    hear(web.context, outside_refund("re_9", 100, payment="ch_9"), dispute("du_9", 100, payment="ch_9"))
    with web.context.database.read() as connection:
        outside, disputed = (
            claim_page(connection, ClaimFilters(kind=kind, limit=1))["data"][0]["id"]
            for kind in (ClaimKind.OUTSIDE_REFUND, ClaimKind.DISPUTE)
        )
    shown = {"outside_refund_id": outside, "dispute_id": disputed}
    shown |= dict(zip(("payout_id", "approvable_payout_id"), payouts_of(web, client), strict=True))
    run, _ = create_run(
        web.context,
        RunRequest(
            idempotency_key="run", processor="stripe", currency="EUR", client=client, actor=f"{client}/x", dry_run=True
        ),
    )
    shown["run_id"] = run.run_id
    return Things(made[0], made[1], batch, entry["transaction_id"], key_id, reconciliation_id=begun, **shown)


def payouts_of(web: Web, client: str) -> list[str]:
    """Create a payout that waits for a worker, and one that waits for approval."""
    PayoutShop(web)
    made = []
    for name, minor in (("queued", 1), ("large", 501)):
        body = PayoutSchema(payee_id="p1", amount_minor=minor, currency="EUR")
        asked = body.request(idempotency_key=name, client=client, actor=f"{client}/asked-for-it")
        (answer,) = request_payouts(web.context, [asked])
        assert isinstance(answer, AcceptedPayout)
        made.append(answer.payout_id)
    return made


@pytest.mark.parametrize("client", ["console", "another-backend"])
@pytest.mark.parametrize("given", ["just now", "long ago"])
@pytest.mark.parametrize("role", list(ConsoleRole))
def test_console_roles_do_exactly_what_the_table_allows(web: Web, role: ConsoleRole, given: str, client: str) -> None:
    """Try every route on objects of the console and of another client, with a recent password and with an old one.

    Refused requests change no row.
    """
    things = things_of(web, client)
    person = visitor(web, role)
    token = token_of(person)
    for method, path in CLOSED:
        if path == "/sign-out":
            continue
        if given == "long ago":
            shift_times(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
        letters = EXPECTED[method, path]
        before = everything(web)
        answer = call_page(person, method, path, _fields(path, things) | {"token": token}, things)
        if role not in {LETTERS[letter] for letter in letters.strip("*")}:
            assert answer.status_code == 403, (method, path, text_of(answer))
            assert f"The role {role} may not do this" in text_of(answer), (method, path)
            assert everything(web) == before, (method, path)
        elif given == "long ago" and letters.endswith("*"):
            assert answer.status_code == 403, (method, path, text_of(answer))
            assert "please enter your password again" in text_of(answer), (method, path)
            assert everything(web) == before, (method, path)
        else:
            assert answer.status_code in REACHED, (method, path, text_of(answer))


@pytest.mark.parametrize("client", ["console", "another-backend"])
def test_allowed_acts_work_on_refunds_of_every_client(web: Web, client: str) -> None:
    """Check that the acts really work; the test of the table only checks that they are reached."""
    things = things_of(web, client)
    approver, support, operator = (visitor(web, role) for role in ("approver", "support", "operator"))
    done = {
        "/refunds/{refund_id}/approve": approver,
        "/refunds/{refund_id}/cancel": support,
        "/payouts/{payout_id}/approve": approver,
        "/payouts/{payout_id}/cancel": support,
        "/pay-out": support,
        "/payee/pause": operator,
        "/payout-runs": operator,
        "/payout-runs/{run_id}/cancel": operator,
        "/delete-transaction": support,
        "/processors/pause": operator,
        "/audit/verify": operator,
    }
    for path, person in done.items():
        answer = call_page(person, "POST", path, _fields(path, things) | {"token": token_of(person)}, things)
        assert answer.status_code == 303, (path, text_of(answer))
    statuses = {
        id: web.call("GET", f"/v1/refunds/{id}").json()["status"] for id in (things.refund_id, things.approvable_id)
    }
    assert statuses == {things.refund_id: "canceled", things.approvable_id: "queued"}


def _fields(path: str, things: Things) -> dict[str, str]:
    """Return the fields of a form as the page sends it, valid as far as possible."""
    fields = {"reason": "it is right", "request_id": f"form-of-{path.replace('/', '-').strip('-')}-0123456789"[:60]}
    fields["request_id"] = re.sub(r"[^A-Za-z0-9_-]", "-", fields["request_id"])
    if path.startswith(("/refunds/", "/payouts/", "/payout-runs/")):
        return fields | {"version": "1", "outcome": "reverse"}
    return fields | {
        "/add-credits": {"customer": "cust-1", "credits": "1"},
        "/delete-transaction": {"id": things.correction},
        "/return-money": {"id": things.correction},
        "/split-correction": {"id": things.correction, "first": "USD"},
        "/pay-out": {"id": "p1", "amount_minor": "1", "currency": "EUR"},
        "/payout-runs": {"processor_account": "stripe", "currency": "EUR", "dry_run": "on"},
        "/payee/destination": {"payee_id": "p1"},
        "/payee/pause": {"payee_id": "p1"},
        "/payee/resume": {"payee_id": "p1"},
        "/refund-transaction": {"id": "tx-1", "credits": "1", "to": "balance", "left": "50"},
        "/refund-transaction/preview": {"id": "tx-1", "credits": "1", "to": "balance"},
        "/user": {"name": "admin", "act": "unlock"},
        "/key": {"id": things.key_id},
        "/password": {"current": PASSWORD, "new": PASSWORD, "again": PASSWORD},
        "/processors/pause": {"name": "stripe"},
        "/processors/resume": {"name": "stripe"},
        "/failures/retry": {"expected": "0", "mark": "none", "code": ""},
    }.get(path, {})


def test_a_menu_shows_only_what_the_role_may_open(web: Web) -> None:
    page = visitor(web, "viewer").get("/").text
    assert "/console/customers" in page
    assert "/console/failures" in page, "every reader sees all clients' refunds"
    assert "/console/settings" not in page


def test_not_found_page_shows_the_menu_only_when_signed_in(web: Web) -> None:
    person = visitor(web, "viewer")
    found = person.get("/nothing-here")
    assert found.status_code == 404
    assert "/console/customers" in found.text
    stranger = Visitor(web).get("/nothing-here")
    assert stranger.status_code == 404
    assert "/console/customers" not in stranger.text


@pytest.mark.parametrize("role", list(ConsoleRole))
def test_every_role_sees_all_clients_refunds_and_approvals(web: Web, role: ConsoleRole) -> None:
    refund_id = web.refund("k1", credits=100).json()["id"]
    person = visitor(web, role)
    for path in (f"/refunds/{refund_id}", "/refunds", "/approvals", "/customer?id=cust-1", "/refunds.csv"):
        found = person.get(path)
        assert found.status_code == 200, path
        assert refund_id in found.text, path
    assert "1 waits for approval" in text_of(person.get("/"))
    decides = role in (ConsoleRole.APPROVER, ConsoleRole.ADMIN)
    assert ("Decide" in text_of(person.get("/approvals"))) is decides


def test_refused_user_sees_which_roles_may(web: Web) -> None:
    refund_id = web.refund("k1", credits=100).json()["id"]
    person = visitor(web, "support")
    assert "Approve (needs the role approver or admin)" in text_of(person.get(f"/refunds/{refund_id}"))
    refused = person.post(f"/refunds/{refund_id}/approve", {"token": token_of(person), "reason": "mine"})
    assert "The role support may not do this. Roles that may: approver, admin" in text_of(refused)
