"""Keys and roles: every route with every role; an unusable key opens no route."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text
from tests.support.deployment import wait_until
from tests.web.client import Web, is_problem

from refund_worker.domain.state_machine import Action
from refund_worker.engine.access import permissions
from refund_worker.engine.access.api_keys import (
    SEES_ALL_CLIENTS,
    ConsoleRole,
    Identity,
    Role,
    create_key,
    list_keys,
    revoke_key,
)
from refund_worker.engine.access.permissions import Act
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import RefundSchema
from refund_worker.engine.refunds.bulk_retry import Stuck
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.errors import Conflict, InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store.tables import metadata
from refund_worker.web import authorised
from refund_worker.web.api import make_routers
from refund_worker.web.auth import CACHE_SECONDS, ROLES, Open, check_guarded
from refund_worker.web.console.pages import PREFIX as CONSOLE
from refund_worker.web.problems import Forbidden

# Written out manually, so that a change of the table fails here: v, r, a, o, m for viewer, requester, approver,
# operator, admin.
EXPECTED = {
    ("DELETE", "/v1/transactions/{transaction_id}"): "rom",
    ("GET", "/v1/customers/{customer_id}"): "vraom",
    ("GET", "/v1/customers/{customer_id}/transactions"): "vraom",
    ("GET", "/v1/payments/{payment_id}"): "vraom",
    ("GET", "/v1/refund-batches/{batch_id}"): "vraom",
    ("GET", "/v1/refunds"): "vraom",
    ("GET", "/v1/refunds/{refund_id}"): "vraom",
    ("GET", "/v1/refunds/{refund_id}/events"): "vraom",
    ("POST", "/v1/customers/{customer_id}/corrections"): "rom",
    ("POST", "/v1/payments"): "rom",
    ("POST", "/v1/processors/{name}/pause"): "om",
    ("POST", "/v1/processors/{name}/resume"): "om",
    ("POST", "/v1/refund-batches"): "rm",
    ("POST", "/v1/refunds"): "rm",
    ("POST", "/v1/refunds/preview"): "raom",
    ("POST", "/v1/refunds/{refund_id}/approve"): "am",
    ("POST", "/v1/refunds/{refund_id}/cancel"): "rom",
    ("POST", "/v1/refunds/{refund_id}/reject"): "am",
    ("POST", "/v1/refunds/{refund_id}/resolve"): "om",
    ("POST", "/v1/refunds/{refund_id}/retry"): "om",
    ("POST", "/v1/transactions"): "rom",
}
NO_KEY_NEEDED = {
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/readyz"),
    ("POST", "/webhooks/stripe"),
}
LETTERS = {"v": Role.VIEWER, "r": Role.REQUESTER, "a": Role.APPROVER, "o": Role.OPERATOR, "m": Role.ADMIN}


EMPTY = Stuck(()).mark


def filled(path: str) -> str:
    for name in ("transaction_id", "customer_id", "payment_id", "refund_id", "batch_id"):
        path = path.replace(f"{{{name}}}", "nothing")
    return path.replace("{name}", "nothing")


def test_every_route_has_a_line_and_every_line_a_route(web: Web) -> None:
    """Compare the table with the running application, which has no other routes except the console's own."""
    ruled = set(ROLES) | {("POST", "/webhooks/stripe"), ("any", CONSOLE)}
    assert served(web.app) == ruled == set(EXPECTED) | NO_KEY_NEEDED | {("any", CONSOLE)}


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


def unusable(web: Web, role: Role) -> dict[str, list[tuple[str, str]]]:
    """Return headers with keys that exist or look right but must not open any route."""
    expires_at = time.time() + 0.3
    expired = web.key(role, expires=expires_at)
    revoked = web.key(role, name=f"{role}-who-left")
    revoke_key(web.context, f"{role}-who-left")
    wait_until(lambda: time.time() > expires_at)
    keys = {"wrong": "rw_" + "A" * 43, "expired": expired, "revoked": revoked, "not signed": web.signed_key(role)[0]}
    return {"none": []} | {name: [("Authorization", f"Bearer {key}")] for name, key in keys.items()}


@pytest.mark.parametrize("role", list(Role))
def test_no_route_opens_to_an_unusable_key_of_any_role(web: Web, role: Role) -> None:
    before = everything(web)
    for name, headers in unusable(web, role).items():
        for method, path in EXPECTED:
            answer = web.call(method, filled(path), {"reason": "let me in"}, key=None, headers=headers)
            code = "signature_missing" if name == "not signed" else "unauthenticated"
            assert is_problem(answer, 401, code), (name, method, path)
    assert everything(web) == before


# Paths with an object that belongs to a client; customers and the backend's records belong to no client.
OF_A_CLIENT = {line for line in EXPECTED if "{refund_id}" in line[1] or "{batch_id}" in line[1]} | {
    ("DELETE", "/v1/transactions/{transaction_id}")
}


def things_of(web: Web, client: str) -> dict[str, list[str]]:
    """Create a refund, a batch, a credit refund to the balance and a correction of one client.

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
        "{transaction_id}": [f"{to_balance}-credit", correction["transaction_id"]],
    }


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
        fields = {} if method in ("GET", "DELETE") else body if path.endswith("resolve") else {"reason": body["reason"]}
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


def everything(web: Web) -> list[str]:
    """Return all rows of all tables except the keys and their sealed copies."""
    with web.context.database.read() as connection:
        tables = [table for table in metadata.sorted_tables if table.name != "api_keys"]
        rows = [(table.name, row) for table in tables for row in connection.execute(table.select())]
    return [str(row) for name, row in rows if name != "snapshots" or row.table_name != "api_keys"]


def test_nothing_is_done_before_the_key_is_checked(web: Web) -> None:
    unknown = "rw_" + "A" * 43
    for (method, path), rule in ROLES.items():
        if isinstance(rule, Open):
            continue
        for key in (None, unknown, "rw_short", "x", "é", unknown + "\x7f"):
            headers = [(b"Authorization", b"Bearer " + key.encode("latin-1"))] if key else []
            # The body is invalid as well: a caller without a valid key does not learn that.
            answer = web.call(method, filled(path), key=None, headers=headers, content=b"{")  # type: ignore[arg-type]
            assert is_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_other_schemes_and_two_keys_at_once_open_nothing(web: Web) -> None:
    for value in (f"Basic {web.admin}", web.admin, "Bearer", "Bearer ", f"Bearer {web.admin} {web.admin}"):
        answer = web.call("GET", "/v1/refunds", key=None, headers={"Authorization": value})
        assert is_problem(answer, 401, "unauthenticated")
    answer = web.call("GET", f"/v1/refunds?key={web.admin}", key=None)
    assert is_problem(answer, 401, "unauthenticated")


def test_an_expired_key_opens_nothing(web: Web) -> None:
    # Late enough for the first call on a busy machine.
    expires_at = time.time() + 5
    key = web.key("admin", expires=expires_at)
    assert web.call("GET", "/v1/refunds", key=key).status_code == 200
    wait_until(lambda: time.time() > expires_at + CACHE_SECONDS)
    assert is_problem(web.call("GET", "/v1/refunds", key=key), 401, "unauthenticated")


def test_revoked_key_stops_within_the_cache_time_and_frees_its_name(web: Web) -> None:
    key = web.key("admin", name="leaver")
    assert web.call("GET", "/v1/refunds", key=key).status_code == 200
    revoked = revoke_key(web.context, "leaver")
    assert revoked["status"] == "revoked"
    time.sleep(CACHE_SECONDS + 0.1)
    assert is_problem(web.call("GET", "/v1/refunds", key=key), 401, "unauthenticated")
    assert web.call("GET", "/v1/refunds", key=web.key("admin", name="leaver")).status_code == 200


def test_a_key_is_stored_only_as_a_hash_and_never_listed(web: Web) -> None:
    key = web.key("viewer", name="reader")
    with web.context.database.read() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_keys")).all())
    assert key not in stored
    assert key[3:] not in stored
    listed = list_keys(web.context)
    assert key not in str(listed)
    assert "hash" not in str(listed)
    (reader,) = [line for line in listed if line["name"] == "reader"]
    assert (reader["client"], reader["role"], reader["status"]) == ("backend", "viewer", "active")


def test_two_keys_are_never_the_same_and_long_enough(web: Web) -> None:
    keys = {web.key("viewer") for _ in range(50)}
    assert len(keys) == 50
    assert all(key.startswith("rw_") and len(key) == 46 for key in keys)


def test_key_with_invalid_fields_is_not_created(web: Web) -> None:
    web.key("viewer", name="twice")
    with pytest.raises(Conflict):
        web.key("viewer", name="twice")
    for wrong in ({"name": "a/b"}, {"client": ""}, {"role": "root"}, {"expires_at": 1.0}):
        values = {"name": "n", "client": "c", "role": "viewer", **wrong}
        with pytest.raises(InvalidRequest) as caught:
            create_key(web.context, **values)  # type: ignore[arg-type]
        assert caught.value.field == next(iter(wrong))
    with pytest.raises(NotFound):
        revoke_key(web.context, "nobody")


def test_ambiguous_key_name_is_revoked_only_with_its_client(web: Web) -> None:
    web.key("viewer", name="same", client="one")
    web.key("viewer", name="same", client="two")
    with pytest.raises(Conflict, match="one, two"):
        revoke_key(web.context, "same")
    assert revoke_key(web.context, "same", client="one")["client"] == "one"
    assert [k["client"] for k in list_keys(web.context) if k["name"] == "same" and k["status"] == "active"] == ["two"]


def identity(role: Role | ConsoleRole, client: str = "backend") -> Identity:
    return Identity("key-1", "somebody", client, role)


# Every act called directly, without the check of a route.
ACTS_DONE: dict[Act, Callable[[Web, Identity], object]] = {
    Act.REQUEST: lambda web, who: authorised.request_refund(
        web.context, who, RefundSchema(**WITHDRAWAL), idempotency_key="k-9"
    ),
    Act.CORRECT: lambda web, who: authorised.correct(
        web.context, who, "cust-1", credits=5, reason="goodwill", idempotency_key="c-9"
    ),
    Act.DELETE: lambda web, who: authorised.delete_transaction(web.context, who, "nothing"),
    Act.APPROVE: lambda web, who: acted(web, who, Action.APPROVE),
    Act.REJECT: lambda web, who: acted(web, who, Action.REJECT),
    Act.CANCEL: lambda web, who: acted(web, who, Action.CANCEL),
    Act.RETRY: lambda web, who: acted(web, who, Action.RETRY),
    Act.RESOLVE: lambda web, who: acted(web, who, Action.RESOLVE),
    Act.PAUSE: lambda web, who: authorised.pause_processor(web.context, who, "stripe", reason="why"),
    Act.RESUME: lambda web, who: authorised.resume_processor(web.context, who, "stripe"),
    Act.VERIFY: lambda web, who: authorised.verify_audit(web.context, who, latest=1),
}
WITHDRAWAL = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
# Written manually: roles of keys, then roles of console users.
WHO_MAY_ACT = {
    Act.REQUEST: ("rm", "som"),
    Act.CORRECT: ("rom", "som"),
    Act.DELETE: ("rom", "som"),
    Act.APPROVE: ("am", "am"),
    Act.REJECT: ("am", "am"),
    Act.CANCEL: ("rom", "som"),
    Act.RETRY: ("om", "om"),
    Act.RESOLVE: ("om", "om"),
    Act.PAUSE: ("om", "om"),
    Act.RESUME: ("om", "om"),
    Act.VERIFY: ("", "om"),
}
USERS = {
    "v": ConsoleRole.VIEWER,
    "s": ConsoleRole.SUPPORT,
    "a": ConsoleRole.APPROVER,
    "o": ConsoleRole.OPERATOR,
    "m": ConsoleRole.ADMIN,
}


def acted(web: Web, who: Identity, action: Action) -> object:
    return authorised.act_on_refund(web.context, who, "nothing", action, reason="why")


@pytest.mark.parametrize("act", list(ACTS_DONE))
def test_act_checks_the_table_itself_for_every_caller(web: Web, act: Act) -> None:
    of_keys, of_users = WHO_MAY_ACT[act]
    allowed = {(Role, LETTERS[letter]) for letter in of_keys} | {(ConsoleRole, USERS[letter]) for letter in of_users}
    for role in (*Role, *ConsoleRole):
        before = everything(web)
        try:
            ACTS_DONE[act](web, identity(role))
        except Forbidden:
            assert (type(role), role) not in allowed, repr(role)
            assert everything(web) == before
            continue
        except RefundWorkerError:
            pass
        assert (type(role), role) in allowed, repr(role)


def test_act_without_a_permit_is_allowed_to_no_role(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(permissions, "PERMITS", {})
    for act in Act:
        assert not any(permissions.may(role, act) for role in (*Role, *ConsoleRole))
        assert permissions.needs_password(act)


def test_every_act_has_a_line_in_the_table() -> None:
    assert set(permissions.PERMITS) == set(Act)
    assert set(permissions.ACT_OF) == set(Action)


def test_bulk_retry_is_refused_to_single_client_roles(web: Web) -> None:
    who = identity(ConsoleRole.OPERATOR)
    key = Key("console", "k" * 20)
    assert authorised.retry_all(web.context, who, None, expected=0, mark=EMPTY, reason="why", key=key).refunds == 0
    for role in (Role.VIEWER, Role.REQUESTER, ConsoleRole.SUPPORT, ConsoleRole.APPROVER):
        with pytest.raises(Forbidden):
            authorised.retry_all(web.context, identity(role), None, expected=0, mark=EMPTY, reason="why", key=key)


@pytest.mark.parametrize("role", ["viewer", "requester"])
def test_another_clients_refund_is_not_found(web: Web, role: str) -> None:
    refund = web.refund("k-1").json()
    stranger = web.key(role, client="other-backend")
    for path in (f"/v1/refunds/{refund['id']}", f"/v1/refunds/{refund['id']}/events"):
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


def test_metrics_are_for_this_machine_or_for_a_key(web: Web) -> None:
    here, away = ("127.0.0.1", 50000), ("203.0.113.7", 50000)
    local = {"Host": "127.0.0.1:8000"}
    assert web.call("GET", "/metrics", key=None, client=here, headers=local).status_code == 200
    assert is_problem(web.call("GET", "/metrics", key=None, client=away), 401, "unauthenticated")
    assert web.call("GET", "/metrics", key=web.key("viewer"), client=away).status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        answer = web.call("GET", "/metrics", key=None, client=here, headers=local | {header: "127.0.0.1"})
        assert is_problem(answer, 401, "unauthenticated")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert web.call("GET", path, key=None, client=away).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.2"])
def test_local_metrics_need_no_key_under_any_local_host_name(web: Web, host: str) -> None:
    answer = web.call("GET", "/metrics", key=None, client=("127.0.0.1", 50000), headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.5", ""]
)
def test_rebound_host_name_does_not_open_the_metrics(web: Web, host: str) -> None:
    here = ("127.0.0.1", 50000)
    answer = web.call("GET", "/metrics", key=None, client=here, headers={"Host": host})
    assert is_problem(answer, 401, "unauthenticated")
    assert web.call("GET", "/metrics", key=web.key("viewer"), client=here, headers={"Host": host}).status_code == 200
