"""Every route with every role and without a session; sessions, form tokens, and repeated password prompts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Mount
from tests.web.client import Web, settings_for
from tests.web.console.visitor import PASSWORD, Visitor, form_on, text_of, visitor

from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.access import console_users
from refund_worker.engine.access.api_keys import ConsoleRole
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.store.tables import console_sessions, ledger_transactions, metadata
from refund_worker.store.tables import console_users as users_table
from refund_worker.web.auth import lines_of
from refund_worker.web.console.app import ROUTERS
from refund_worker.web.console.permissions import RULES, check_ruled

# Written out manually, so that a change of the table fails here: v, s, o, a, m for viewer, support, operator, approver,
# admin; a * marks acts that need a recent password.
EXPECTED = {
    ("GET", "/"): "vsoam",
    ("GET", "/add-credits"): "som",
    ("GET", "/approvals"): "vsoam",
    ("GET", "/audit"): "vsoam",
    ("GET", "/batches"): "vsoam",
    ("GET", "/batches/{batch_id}"): "vsoam",
    ("GET", "/customer"): "vsoam",
    ("GET", "/customers"): "vsoam",
    ("GET", "/delete-transaction"): "som",
    ("GET", "/failures"): "vsoam",
    ("GET", "/failures/retry"): "om",
    ("GET", "/failures/watch"): "vsoam",
    ("GET", "/figures"): "vsoam",
    ("GET", "/help"): "vsoam",
    ("GET", "/processors"): "vsoam",
    ("GET", "/refund-transaction"): "som",
    ("GET", "/refund-transaction/preview"): "som",
    ("GET", "/refunds"): "vsoam",
    ("GET", "/refunds.csv"): "vsoam",
    ("GET", "/refunds/{refund_id}"): "vsoam",
    ("GET", "/refunds/{refund_id}/retry"): "om",
    ("GET", "/return-money"): "som",
    ("GET", "/settings"): "om",
    ("GET", "/transactions"): "vsoam",
    ("GET", "/webhooks"): "om",
    ("POST", "/add-credits"): "som*",
    ("POST", "/audit/verify"): "om",
    ("POST", "/delete-transaction"): "som*",
    ("POST", "/failures/retry"): "om*",
    ("POST", "/processors/pause"): "om",
    ("POST", "/processors/resume"): "om*",
    ("POST", "/refund-transaction"): "som*",
    ("POST", "/refund-transaction/preview"): "som",
    ("POST", "/refunds/{refund_id}/approve"): "am*",
    ("POST", "/refunds/{refund_id}/cancel"): "som",
    ("POST", "/refunds/{refund_id}/reject"): "am",
    ("POST", "/refunds/{refund_id}/resolve"): "om*",
    ("POST", "/refunds/{refund_id}/retry"): "om*",
    ("POST", "/return-money"): "som*",
    ("POST", "/sign-out"): "vsoam",
}
NO_SESSION_NEEDED = {("GET", "/sign-in"), ("GET", "/static/{name}"), ("POST", "/sign-in")}
LETTERS = {
    "v": ConsoleRole.VIEWER,
    "s": ConsoleRole.SUPPORT,
    "o": ConsoleRole.OPERATOR,
    "a": ConsoleRole.APPROVER,
    "m": ConsoleRole.ADMIN,
}
CLOSED = sorted(EXPECTED)
QUERY = {
    "/customer": "?id=cust-1",
    "/add-credits": "?customer=cust-1",
    "/refund-transaction": "?id=tx-1",
    "/delete-transaction": "?id={correction}",
    "/return-money": "?id={correction}",
    "/failures/watch": "?first=1&last=2&by=x",
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
        answer = _go(Visitor(web), method, path, {})
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].startswith("/console/sign-in")


@dataclass(frozen=True)
class Things:
    """Ids of objects that the pages act on, all of one client: the console or another."""

    refund_id: str
    approvable_id: str
    batch_id: str
    correction: str


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
    return Things(made[0], made[1], batch, entry["transaction_id"])


@pytest.mark.parametrize("client", ["console", "another-backend"])
@pytest.mark.parametrize("given", ["just now", "long ago"])
@pytest.mark.parametrize("role", list(ConsoleRole))
def test_console_roles_do_exactly_what_the_table_allows(web: Web, role: ConsoleRole, given: str, client: str) -> None:
    """Try every route on objects of the console and of another client, with a recent password and with an old one.

    Refused requests change no row.
    """
    things = things_of(web, client)
    person = visitor(web, role)
    token = _token(person)
    for method, path in CLOSED:
        if path == "/sign-out":
            continue
        if given == "long ago":
            _shift(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
        letters = EXPECTED[method, path]
        before = everything(web)
        answer = _go(person, method, path, _fields(path, things) | {"token": token}, things)
        if role not in {LETTERS[letter] for letter in letters.strip("*")}:
            assert answer.status_code == 403, (method, path, text_of(answer))
            assert f"Your role, {role}, may not do this" in text_of(answer), (method, path)
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
        "/delete-transaction": support,
        "/processors/pause": operator,
        "/audit/verify": operator,
    }
    for path, person in done.items():
        answer = _go(person, "POST", path, _fields(path, things) | {"token": _token(person)}, things)
        assert answer.status_code == 303, (path, text_of(answer))
    statuses = {
        id: web.call("GET", f"/v1/refunds/{id}").json()["status"] for id in (things.refund_id, things.approvable_id)
    }
    assert statuses == {things.refund_id: "canceled", things.approvable_id: "queued"}


def _fields(path: str, things: Things) -> dict[str, str]:
    """Return the fields of a form as the page sends it, valid as far as possible."""
    fields = {"reason": "it is right", "request_id": f"form-of-{path.replace('/', '-').strip('-')}-0123456789"[:60]}
    fields["request_id"] = re.sub(r"[^A-Za-z0-9_-]", "-", fields["request_id"])
    if path.startswith("/refunds/"):
        return fields | {"version": "1", "outcome": "reverse"}
    return fields | {
        "/add-credits": {"customer": "cust-1", "credits": "1"},
        "/delete-transaction": {"id": things.correction},
        "/return-money": {"id": things.correction},
        "/refund-transaction": {"id": "tx-1", "credits": "1", "to": "balance", "left": "50"},
        "/refund-transaction/preview": {"id": "tx-1", "credits": "1", "to": "balance"},
        "/processors/pause": {"name": "stripe"},
        "/processors/resume": {"name": "stripe"},
        "/failures/retry": {"expected": "0", "mark": "none", "code": ""},
    }.get(path, {})


@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_a_form_without_the_sessions_token_is_refused(web: Web, token: str | None) -> None:
    person = visitor(web, "admin")
    fields = {"customer": "cust-1", "credits": "5", "reason": "x", "request_id": "x" * 20, "name": "stripe"}
    for method, path in CLOSED:
        if method == "POST":
            answer = _go(person, method, path, fields | ({} if token is None else {"token": token}))
            assert answer.status_code == 403, path
    assert person.get("/").status_code == 200, "still signed in"
    with web.context.database.read() as connection:
        kinds = connection.execute(ledger_transactions.select()).mappings().all()
    assert [row["kind"] for row in kinds] == ["purchase", "spend"]


def test_a_token_of_another_session_is_refused(web: Web) -> None:
    anna, omar = visitor(web, "admin", "anna"), visitor(web, "admin", "omar")
    assert omar.post("/sign-out", {"token": _token(anna)}).status_code == 403
    assert omar.get("/").status_code == 200


def test_a_form_from_another_site_is_refused(web: Web) -> None:
    person = visitor(web, "admin")
    answer = person.post("/sign-out", {"token": _token(person)}, **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_a_menu_shows_only_what_the_role_may_open(web: Web) -> None:
    page = visitor(web, "viewer").get("/").text
    assert "/console/customers" in page
    assert "/console/failures" in page, "every reader sees all clients' refunds"
    assert "/console/settings" not in page


def test_signing_out_ends_the_session_itself_not_just_the_cookie(web: Web) -> None:
    person = visitor(web, "viewer")
    kept = dict(person.cookies)
    assert person.submit(person.get("/"), "/sign-out").status_code == 303
    person.cookies = kept
    assert person.get("/").status_code == 303


def test_disabled_user_is_signed_out_at_once_and_stays_out(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    console_users.disable_user(web.context, "anna")
    assert person.get("/").status_code == 303
    assert person.sign_in("anna").status_code == 403


def test_user_enabled_again_signs_in_with_the_old_password(web: Web) -> None:
    person = visitor(web, "viewer", "anna")
    console_users.disable_user(web.context, "anna", actor="cli:boss")
    console_users.enable_user(web.context, "anna", actor="cli:boss")
    assert person.get("/").status_code == 303, "the session has ended nevertheless"
    assert person.sign_in("anna").status_code == 303


def test_changed_role_applies_at_once_in_a_live_session(web: Web) -> None:
    person = visitor(web, "viewer", "anna")
    assert person.get("/settings").status_code == 403
    console_users.set_role(web.context, "anna", "operator", actor="cli:boss")
    assert person.get("/settings").status_code == 200
    console_users.set_role(web.context, "anna", "viewer", actor="cli:boss")
    assert person.get("/settings").status_code == 403


def test_new_password_ends_only_that_users_sessions(web: Web) -> None:
    anna, omar = visitor(web, "viewer", "anna"), visitor(web, "viewer", "omar")
    _, password = console_users.set_password(web.context, "anna", actor="cli:boss")
    assert anna.get("/").status_code == 303
    assert omar.get("/").status_code == 200
    assert anna.sign_in("anna", PASSWORD).status_code == 403
    assert anna.sign_in("anna", password).status_code == 303


def test_requester_role_of_the_previous_version_is_support(web: Web) -> None:
    person = visitor(web, "viewer", "anna")
    as_before = users_table.update().values(role="requester")
    web.context.database.run(lambda connection: connection.execute(as_before))
    assert person.get("/add-credits", customer="cust-1").status_code == 200
    assert console_users.list_users(web.context)[0]["role"] == "support"


def test_old_and_idle_sessions_end(web: Web) -> None:
    person = visitor(web, "viewer")
    for column, seconds in (
        ("created_at", console_users.SESSION_SECONDS + 1),
        ("seen_at", console_users.IDLE_SECONDS + 1),
    ):
        assert person.get("/").status_code == 200
        before = _shift(web, column, -seconds)
        assert person.get("/").status_code == 303
        _shift(web, column, before)


def test_only_a_persons_request_keeps_the_session_alive(web: Web) -> None:
    person = visitor(web, "viewer")
    most = console_users.IDLE_SECONDS - 60
    _shift(web, "seen_at", -most)
    assert person.get("/").status_code == 200
    _shift(web, "seen_at", -most)
    assert person.refresh("/").status_code == 200, "the page was refreshed in between"
    _shift(web, "seen_at", -120)
    assert person.refresh("/").status_code == 303
    assert person.get("/").status_code == 303


def test_form_sent_after_the_session_ended_does_nothing_and_leads_back(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    form = form_on(person.get("/add-credits", customer="cust-1"), "/console/add-credits")
    person.cookies.clear()
    page = "/console/add-credits?customer=cust-1"
    sent = person.post("/add-credits", form | {"credits": "7", "reason": "x"}, Referer=f"http://door{page}")
    asked = person.follow(sent)
    assert "Your session had ended. Nothing was done; sign in and try again." in text_of(asked)
    assert _balance(web) == 150
    fields = form_on(asked, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
    assert person.post("/sign-in", fields).headers["location"] == page


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://elsewhere/console/settings", None),
        ("https://door/console/settings", None),
        ("http://door/v1/refunds", "/console/"),
        ("http://door/console/refunds/rf_1/approve", "/console/refunds/rf_1"),
        ("http://door/console/refunds/rf_1/retry", "/console/refunds/rf_1/retry"),
        ("", None),
    ],
)
def test_only_console_pages_are_returned_to_after_signing_in(web: Web, referer: str, back: str | None) -> None:
    person = visitor(web, "admin", "anna")
    person.cookies.clear()
    asked = person.follow(person.post("/add-credits", {"credits": "7"}, Referer=referer))
    fields = form_on(asked, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
    assert person.post("/sign-in", fields).headers["location"] == (back or "/console/")


def test_not_found_page_shows_the_menu_only_when_signed_in(web: Web) -> None:
    person = visitor(web, "viewer")
    found = person.get("/nothing-here")
    assert found.status_code == 404
    assert "/console/customers" in found.text
    stranger = Visitor(web).get("/nothing-here")
    assert stranger.status_code == 404
    assert "/console/customers" not in stranger.text


def test_money_acts_ask_for_the_password_again_and_keep_the_input(web: Web) -> None:
    person = visitor(web, "admin")
    form = form_on(person.get("/add-credits", customer="cust-1"), "/console/add-credits")
    filled = form | {"credits": "7", "reason": "goodwill"}
    _shift(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
    asked = person.post("/add-credits", filled)
    assert asked.status_code == 403
    assert 'value="goodwill"' in asked.text
    wrong = person.post("/add-credits", filled | {"password": "not it, not it"})
    assert "The password is wrong." in wrong.text
    assert _balance(web) == 150, "nothing was done yet"
    assert person.post("/add-credits", filled | {"password": PASSWORD}).status_code == 303
    assert _balance(web) == 157
    assert person.post("/add-credits", filled).status_code == 303, (
        "the password is recent, and the same form is sent again"
    )
    assert _balance(web) == 157


def test_a_wrong_name_and_a_wrong_password_are_answered_alike(web: Web) -> None:
    console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    one, other = Visitor(web).sign_in("anna", "wrong wrong wrong"), Visitor(web).sign_in("berta", "wrong wrong wrong")
    assert (one.status_code, text_of(one)) == (other.status_code, text_of(other))


def test_passwords_and_cookies_are_not_in_the_database(web: Web) -> None:
    person = visitor(web, "admin")
    cookie = person.cookies["refund_worker"]
    with web.context.database.read() as connection:
        rows = [*connection.execute(users_table.select()), *connection.execute(console_sessions.select())]
    stored = repr(rows)
    assert "$argon2id$" in stored
    assert PASSWORD not in stored
    assert cookie not in stored


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(web: Web) -> None:
    console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    (cookie,) = [
        c for c in Visitor(web).sign_in("anna").headers.get_list("set-cookie") if c.startswith("refund_worker=")
    ]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "domain" not in cookie.lower()


def test_in_production_cookies_are_tied_to_the_host_and_to_https(migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url, ENVIRONMENT="production")) as web:
        console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
        person = Visitor(web)
        cookies = person.sign_in("anna").headers.get_list("set-cookie")
        (cookie,) = [c for c in cookies if c.startswith("__Host-refund_worker=")]
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert person.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/sign-in", "/help", "/nothing-here", "/static/console.js"])
def test_every_answer_forbids_scripts_and_frames_of_others(web: Web, path: str) -> None:
    answer = visitor(web, "admin").get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "/console//evil.example", "/console/\\x"])
def test_signing_in_leads_only_to_the_console(web: Web, next: str) -> None:
    console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    person = Visitor(web)
    fields = form_on(person.get("/sign-in", next=next), "/console/sign-in")
    answer = person.post("/sign-in", fields | {"name": "anna", "password": PASSWORD})
    assert answer.headers["location"] == "/console/"


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
    refused = person.post(f"/refunds/{refund_id}/approve", {"token": _token(person), "reason": "mine"})
    assert "Your role, support, may not do this. Roles that may: approver, admin" in text_of(refused)


def _go(person: Visitor, method: str, path: str, fields: dict[str, str], things: Things | None = None):  # type: ignore[no-untyped-def]
    named = things or Things("rf_none", "rf_none", "rb_none", "none")
    refund_id = named.approvable_id if path.endswith(("/approve", "/reject")) else named.refund_id
    filled = path.replace("{refund_id}", refund_id).replace("{batch_id}", named.batch_id)
    if method == "GET":
        return person.get(filled + QUERY.get(path, "").replace("{correction}", named.correction))
    return person.post(filled, fields)


def _token(person: Visitor) -> str:
    return form_on(person.get("/help"), "/console/sign-out")["token"]


def _shift(web: Web, column: str, seconds: float) -> float:
    def work(connection):  # type: ignore[no-untyped-def]
        value = console_sessions.c[column] + seconds
        connection.execute(console_sessions.update().values({column: value}))

    web.context.database.run(work)
    return -seconds


def everything(web: Web) -> list[str]:
    """Return all rows of all tables except the sessions."""
    with web.context.database.read() as connection:
        tables = [table for table in metadata.sorted_tables if table.name != "console_sessions"]
        return [str(row) for table in tables for row in connection.execute(table.select())]


def _balance(web: Web) -> int:
    answer = web.call("GET", "/v1/customers/cust-1").json()
    return int(answer["balance"])
