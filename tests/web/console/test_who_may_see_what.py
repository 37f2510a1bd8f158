"""Every route against every role and against nobody; sessions, form tokens, passwords asked for again."""

from __future__ import annotations

import pytest
from tests.web.client import Web, settings_for
from tests.web.console.visitor import PASSWORD, Visitor, form_on, text_of, visitor

from refund_worker.engine import console_users
from refund_worker.engine.api_keys import Role
from refund_worker.store import console_users as store
from refund_worker.store.tables import console_sessions, ledger_transactions
from refund_worker.store.tables import console_users as users_table
from refund_worker.web.auth import lines_of
from refund_worker.web.console.access import RULES
from refund_worker.web.console.app import ROUTERS

CLOSED = sorted(line for line, rule in RULES.items() if rule.roles is not None)
QUERY = {
    "/customer": "?id=cust-1",
    "/add-credits": "?customer=cust-1",
    "/refund-transaction": "?id=tx-1",
    "/delete-transaction": "?id=tx-1",
    "/return-money": "?id=none",
    "/failures/watch": "?first=1&last=2&by=x",
}
# What nothing is found under is told to those who may look, and only to them.
REACHED = {200, 303, 404, 409, 412, 422}


def test_the_table_names_every_route_and_no_other() -> None:
    assert {line for router in ROUTERS for line in lines_of(router)} == set(RULES)


def test_nobody_comes_in_without_a_session(web: Web) -> None:
    for method, path in CLOSED:
        answer = _go(Visitor(web), method, path, {})
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].startswith("/console/sign-in")


@pytest.mark.parametrize("role", list(Role))
def test_each_role_reaches_what_the_table_says_and_nothing_else(web: Web, role: Role) -> None:
    person = visitor(web, role)
    for method, path in CLOSED:
        if path == "/sign-out":
            continue
        allowed = role in (RULES[method, path].roles or ())
        answer = _go(person, method, path, {"token": _token(person), "name": "stripe"})
        expected = REACHED if allowed else {403}
        assert answer.status_code in expected, (method, path, text_of(answer))


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
    assert "/console/settings" not in page
    assert "/console/failures" not in page


def test_signing_out_ends_the_session_itself_not_just_the_cookie(web: Web) -> None:
    person = visitor(web, "viewer")
    kept = dict(person.cookies)
    assert person.submit(person.get("/"), "/sign-out").status_code == 303
    person.cookies = kept
    assert person.get("/").status_code == 303


def test_a_disabled_user_is_out_at_once_and_does_not_come_back(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    console_users.disable_user(web.context, "anna")
    assert person.get("/").status_code == 303
    assert person.sign_in("anna").status_code == 403


def test_an_old_session_and_an_idle_one_have_ended(web: Web) -> None:
    person = visitor(web, "viewer")
    for column, seconds in (
        ("created_at", console_users.SESSION_SECONDS + 1),
        ("seen_at", console_users.IDLE_SECONDS + 1),
    ):
        assert person.get("/").status_code == 200
        before = _shift(web, column, -seconds)
        assert person.get("/").status_code == 303
        _shift(web, column, before)


def test_a_form_sent_after_the_session_ended_does_nothing_says_so_and_leads_back(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    form = form_on(person.get("/add-credits", customer="cust-1"), "/console/add-credits")
    person.cookies.clear()
    page = "/console/add-credits?customer=cust-1"
    sent = person.post("/add-credits", form | {"credits": "7", "reason": "x"}, Referer=f"http://door{page}")
    asked = person.follow(sent)
    assert "Your session had ended. Nothing was done; sign in and repeat it." in text_of(asked)
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
def test_only_a_page_of_the_console_itself_is_gone_back_to(web: Web, referer: str, back: str | None) -> None:
    person = visitor(web, "admin", "anna")
    person.cookies.clear()
    asked = person.follow(person.post("/add-credits", {"credits": "7"}, Referer=referer))
    fields = form_on(asked, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
    assert person.post("/sign-in", fields).headers["location"] == (back or "/console/")


def test_an_unknown_address_has_the_menu_for_who_is_signed_in_and_for_nobody_else(web: Web) -> None:
    person = visitor(web, "viewer")
    found = person.get("/nothing-here")
    assert found.status_code == 404
    assert "/console/customers" in found.text
    stranger = Visitor(web).get("/nothing-here")
    assert stranger.status_code == 404
    assert "/console/customers" not in stranger.text


def test_money_asks_for_the_password_again_after_a_while_and_loses_nothing_typed(web: Web) -> None:
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
    assert person.post("/add-credits", filled).status_code == 303, "given just now, and the same form again"
    assert _balance(web) == 157


def test_guessing_is_held_back_for_the_name_whatever_the_address_and_the_right_password_waits_too(web: Web) -> None:
    console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    for guess in range(console_users.FREE_TRIES):
        person = Visitor(web)
        person.client = (f"203.0.113.{guess}", 5000)
        assert person.sign_in("anna", "wrong wrong wrong").status_code == 403
    held = Visitor(web).sign_in("anna", PASSWORD)
    assert held.status_code == 429
    assert int(held.headers["retry-after"]) >= 1
    assert Visitor(web).sign_in("nobody", PASSWORD).status_code == 403, "others are not held back"
    web.context.database.run(lambda connection: store.forget_tries(connection, "name:anna"))
    assert Visitor(web).sign_in("anna", PASSWORD).status_code == 303


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


def test_a_user_sees_only_the_consoles_refunds_unless_the_role_oversees_all(web: Web) -> None:
    refund_id = web.refund("k1").json()["id"]
    assert visitor(web, "requester").get(f"/refunds/{refund_id}").status_code == 404
    assert visitor(web, "operator").get(f"/refunds/{refund_id}").status_code == 200


def _go(person: Visitor, method: str, path: str, fields: dict[str, str]):  # type: ignore[no-untyped-def]
    filled = path.replace("{refund_id}", "rf_none")
    return person.get(filled + QUERY.get(path, "")) if method == "GET" else person.post(filled, fields)


def _token(person: Visitor) -> str:
    return form_on(person.get("/help"), "/console/sign-out")["token"]


def _shift(web: Web, column: str, seconds: float) -> float:
    def work(connection):  # type: ignore[no-untyped-def]
        value = console_sessions.c[column] + seconds
        connection.execute(console_sessions.update().values({column: value}))

    web.context.database.run(work)
    return -seconds


def _balance(web: Web) -> int:
    answer = web.call("GET", "/v1/customers/cust-1").json()
    return int(answer["balance"])
