"""Roles: every route with every role, and the objects of other clients."""

from __future__ import annotations

import re

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from tests.web.client import Web, is_problem
from tests.web.payout_shop import EARNING, PAYEE, with_payouts
from tests.web.roles_of_routes import EXPECTED, LETTERS, everything, filled

from refund_worker.engine.access.api_keys import SEES_ALL_CLIENTS, Role
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.web.api import make_routers
from refund_worker.web.auth import ROLES, check_guarded
from refund_worker.web.console.pages import PREFIX as CONSOLE

NO_KEY_NEEDED = {
    ("GET", "/docs"),
    ("GET", "/docs/errors"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/readyz"),
    ("GET", "/webhooks/{account}"),
    ("POST", "/webhooks/{account}"),
    ("POST", "/webhooks/stripe"),
}


def test_every_route_has_a_line_and_every_line_a_route(web: Web) -> None:
    """Compare the table with the running application, which has no other routes except the console's own."""
    outside = {("any", CONSOLE), ("any", "/")}
    ruled = set(ROLES) | {("POST", "/webhooks/stripe")} | outside
    assert served(web.app) == ruled == set(EXPECTED) | NO_KEY_NEEDED | outside


def test_new_route_is_detected_and_opens_to_no_one(web: Web) -> None:
    @web.app.get("/v1/secrets")
    def secrets() -> dict[str, str]:
        return {"secret": "all of it"}

    assert ("GET", "/v1/secrets") in served(web.app) - set(ROLES)
    assert is_problem(web.call("GET", "/v1/secrets"), 403, "forbidden")


def served(app: FastAPI) -> set[tuple[str, str]]:
    """Return (method, path) of everything that the application serves; "any" for routes outside the API."""
    found, left = set(), list(app.routes)
    while left:
        route = left.pop()
        router = getattr(route, "original_router", None)
        if router is not None:
            left += router.routes
        elif isinstance(route, APIRoute):
            found |= {(method, route.path_format) for method in route.methods}
        else:
            found.add(("any", route.path))  # type: ignore[attr-defined]
    return found


def test_a_route_without_a_line_does_not_start() -> None:
    router = APIRouter()

    @router.get("/v1/secrets")
    def secrets() -> None: ...

    with pytest.raises(RuntimeError, match="/v1/secrets"):
        check_guarded([*make_routers(), router])


@pytest.mark.parametrize("role", list(Role))
def test_api_roles_may_do_exactly_what_the_table_says(web: Web, role: Role) -> None:
    key = web.key(role)
    for (method, path), letters in EXPECTED.items():
        answer = web.call(method, filled(path), key=key)
        if role in {LETTERS[letter] for letter in letters}:
            assert answer.status_code not in (401, 403), (method, path)
        else:
            assert is_problem(answer, 403, "forbidden"), (method, path)


# Paths with an object that belongs to a client; customers and the backend's records belong to no client.
NAMES_OF_A_CLIENT = ("{refund_id}", "{batch_id}", "{payout_id}", "{run_id}")
# The parameters of paths that name an object of all clients: the backend's records, and what the installation is.
NAMES_OF_NO_CLIENT = {
    *("{customer_id}", "{payment_id}", "{dispute_id}", "{outside_refund_id}", "{payee_id}", "{earning_id}"),
    *("{reconciliation_id}", "{n}", "{name}"),
}
OF_A_CLIENT = {line for line in EXPECTED if any(name in line[1] for name in NAMES_OF_A_CLIENT)} | {
    ("DELETE", "/v1/transactions/{transaction_id}")
}


def things_of(web: Web, client: str) -> dict[str, list[str]]:
    """Create a refund, a batch, a payout, a payout run, a credit refund to the balance and a correction of one client.

    Return their ids by the name of the path parameter.
    """
    key = web.key("admin", client=client)
    fields = {"kind": "credit_refund", "to": "balance", "transaction_id": "tx-1"}
    to_balance = web.refund("k-0", key=key, **fields).json()["id"]
    process_until_idle(web.context)
    reason, named = {"credits": 5, "reason": "goodwill"}, {"Idempotency-Key": "c-1"}
    correction = web.call("POST", "/v1/customers/cust-1/corrections", reason, key=key, headers=named).json()
    batch = web.call("POST", "/v1/refund-batches", {"refunds": []}, key=key).json()["batch_id"]
    return {
        "{refund_id}": [web.refund("k-1", key=key).json()["id"]],
        "{batch_id}": [batch],
        "{payout_id}": [a_payout(web, key)],
        "{run_id}": [a_run(web, key)],
        "{transaction_id}": [f"{to_balance}-credit", correction["transaction_id"]],
    }


def a_payout(web: Web, key: str) -> str:
    """Record a payee with an earning, and request a payout; return its id."""
    with_payouts(web)
    web.call("POST", "/v1/payees", PAYEE)
    web.call("POST", "/v1/earnings", EARNING)
    body = {"payee_id": "p1", "currency": "EUR"}
    return str(web.call("POST", "/v1/payouts", body, key=key, headers={"Idempotency-Key": "po-1"}).json()["id"])


def a_run(web: Web, key: str) -> str:
    """Make a run of payouts, and return its id."""
    body = {"processor_account": "stripe", "currency": "EUR"}
    return str(
        web.call("POST", "/v1/payout-runs", body, key=key, headers={"Idempotency-Key": "run-1"}).json()["run_id"]
    )


def test_every_object_in_a_path_is_of_a_client_or_of_none() -> None:
    """Fail for a new kind of object in a path: who may see it must be decided, and tested below."""
    named = {name for _, path in EXPECTED for name in re.findall(r"{\w+}", path)}
    of_a_client = {name for _, path in OF_A_CLIENT for name in re.findall(r"{\w+}", path)}
    assert of_a_client == {*NAMES_OF_A_CLIENT, "{transaction_id}"}
    assert named == of_a_client | NAMES_OF_NO_CLIENT


def targets(path: str, things: dict[str, list[str]]) -> list[str]:
    """Return the path with each of the objects that it may name."""
    (name,) = (name for name in things if name in path)
    return [path.replace(name, thing) for thing in things[name]]


@pytest.mark.parametrize("whose", ["own", "another's"])
@pytest.mark.parametrize("role", list(Role))
def test_objects_of_other_clients_are_hidden_from_single_client_roles(web: Web, role: Role, whose: str) -> None:
    things = things_of(web, "backend")
    key = web.key(role, client="backend" if whose == "own" else "other-backend")
    body = {"reason": "mine", "outcome": "reverse"}
    before = everything(web)
    for method, path in sorted(OF_A_CLIENT):
        no_fields = method in ("GET", "DELETE") or path.endswith("/sync")
        fields = {} if no_fields else body if path.endswith("resolve") else {"reason": body["reason"]}
        for target in targets(path, things):
            answer = web.call(method, target, fields or None, key=key)
            if role not in {LETTERS[letter] for letter in EXPECTED[method, path]}:
                assert is_problem(answer, 403, "forbidden"), (method, path)
            elif whose == "another's" and role not in SEES_ALL_CLIENTS:
                assert is_problem(answer, 404, "not_found"), (method, path)
            else:
                assert answer.status_code in (200, 409), (method, path, answer.text)
                assert method != "DELETE" or answer.status_code == 200, (target, answer.text)
    if whose == "another's" and role not in SEES_ALL_CLIENTS:
        assert everything(web) == before


@pytest.mark.parametrize("role", ["viewer", "requester"])
def test_another_clients_refund_is_not_found(web: Web, role: str) -> None:
    refund = web.refund("k-1").json()
    stranger = web.key(role, client="other-backend")
    for path in (
        f"/v1/refunds/{refund['id']}",
        f"/v1/refunds/{refund['id']}/events",
        f"/v1/refunds/{refund['id']}/waits",
    ):
        assert is_problem(web.call("GET", path, key=stranger), 404, "not_found")
    assert web.call("GET", "/v1/refunds", key=stranger).json()["data"] == []
    answer = web.call("GET", "/v1/refunds", key=stranger, params={"idempotency_key": "k-1"})
    assert answer.json()["data"] == []


def test_requester_cancels_only_refunds_of_its_own_client(web: Web) -> None:
    refund = web.refund("k-1").json()
    path, body = f"/v1/refunds/{refund['id']}/cancel", {"reason": "mistake"}
    stranger = web.call("POST", path, body, key=web.key("requester", client="other-backend"))
    assert is_problem(stranger, 404, "not_found")
    assert web.call("GET", f"/v1/refunds/{refund['id']}").json()["status"] == "queued"
    assert web.call("POST", path, body, key=web.key("requester")).json()["status"] == "canceled"


@pytest.mark.parametrize("role", ["approver", "operator", "admin"])
def test_deciding_roles_see_all_clients(web: Web, role: str) -> None:
    refund = web.refund("k-1").json()
    key = web.key(role, client="head-office")
    assert web.call("GET", f"/v1/refunds/{refund['id']}", key=key).json() == refund
    assert len(web.call("GET", "/v1/refunds", key=key).json()["data"]) == 1
