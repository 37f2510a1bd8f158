"""Sessions of the console: their ends, their passwords, and the return to a page after signing in."""

from __future__ import annotations

import pytest
from argon2 import Type, extract_parameters
from sqlalchemy import select
from tests.web.client import Web
from tests.web.console.session import shift_times
from tests.web.console.visitor import PASSWORD, Visitor, form_on, text_of, visitor

from refund_worker.engine.access import console_users
from refund_worker.store.tables import console_sessions
from refund_worker.store.tables import console_users as users_table


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
        before = shift_times(web, column, -seconds)
        assert person.get("/").status_code == 303
        shift_times(web, column, before)


def test_only_a_persons_request_keeps_the_session_alive(web: Web) -> None:
    person = visitor(web, "viewer")
    most = console_users.IDLE_SECONDS - 60
    shift_times(web, "seen_at", -most)
    assert person.get("/").status_code == 200
    shift_times(web, "seen_at", -most)
    assert person.refresh("/").status_code == 200, "the page was refreshed in between"
    shift_times(web, "seen_at", -120)
    assert person.refresh("/").status_code == 303
    assert person.get("/").status_code == 303


def test_form_after_session_end_does_nothing_and_asks_to_sign_in(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    form = form_on(person.get("/add-credits", customer="cust-1"), "/console/add-credits")
    person.cookies.clear()
    page = "/console/add-credits?customer=cust-1"
    sent = person.post("/add-credits", form | {"credits": "7", "reason": "x"}, Referer=f"http://api.test{page}")
    asked = person.follow(sent)
    assert "Your session had ended. Nothing was done; sign in and try again." in text_of(asked)
    assert _balance(web) == 150
    fields = form_on(asked, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
    assert person.post("/sign-in", fields).headers["location"] == page


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://elsewhere/console/settings", None),
        ("https://api.test/console/settings", "/console/settings"),
        ("http://api.test/v1/refunds", "/console/"),
        ("http://api.test/console/refunds/rf_1/approve", "/console/refunds/rf_1"),
        ("http://api.test/console/refunds/rf_1/retry", "/console/refunds/rf_1/retry"),
        ("http://api.test/console/refunds/a%20b/resolve?x=1", "/console/refunds/a%20b"),
        ("http://api.test/console/refunds?status=sending", "/console/refunds?status=sending"),
        ("http://api.test/console/processors/pause", "/console/processors"),
        ("http://api.test/console/notifications/redeliver?page=2", "/console/notifications"),
        ("http://api.test/console/split-correction", "/console/"),
        ("http://api.test/console/sign-out", "/console/"),
        ("", None),
    ],
)
def test_only_console_pages_are_returned_to_after_signing_in(web: Web, referer: str, back: str | None) -> None:
    person = visitor(web, "admin", "anna")
    person.cookies.clear()
    asked = person.follow(person.post("/add-credits", {"credits": "7"}, Referer=referer))
    fields = form_on(asked, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
    assert person.post("/sign-in", fields).headers["location"] == (back or "/console/")


def test_browsers_own_word_counts_where_a_proxy_changes_the_host(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    person.cookies.clear()
    sent_from = {"Referer": "https://refunds.example/console/settings", "Sec-Fetch-Site": "same-origin"}
    asked = person.follow(person.post("/add-credits", {"credits": "7"}, **sent_from))
    fields = form_on(asked, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
    assert person.post("/sign-in", fields).headers["location"] == "/console/settings"


def test_money_acts_ask_for_the_password_again_and_keep_the_input(web: Web) -> None:
    person = visitor(web, "admin")
    form = form_on(person.get("/add-credits", customer="cust-1"), "/console/add-credits")
    filled = form | {"credits": "7", "reason": "goodwill"}
    shift_times(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
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


@pytest.mark.usefixtures("costly_password_hashes")
def test_password_hash_costs_what_rfc_9106_recommends(web: Web) -> None:
    console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    with web.context.database.read() as connection:
        (stored,) = connection.scalars(select(users_table.c.password_hash))
    cost = extract_parameters(stored)
    assert cost.type is Type.ID
    assert cost.memory_cost >= 64 * 1024
    assert cost.time_cost >= 3


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example/",
        "//evil.example/",
        "/console//evil.example",
        "/console/\\x",
        "/console/../evil",
        "/console/%2e%2e/evil",
        "/console/.%2E/evil",
        "/console/%252e%252e/evil",
        "/console/x/..",
        "/console/./x",
        "/console/..%2fevil",
        "/console/%5c..%5cevil",
        "/consoleevil",
    ],
)
def test_signing_in_leads_only_to_the_console(web: Web, next: str) -> None:
    console_users.create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    person = Visitor(web)
    fields = form_on(person.get("/sign-in", next=next), "/console/sign-in")
    answer = person.post("/sign-in", fields | {"name": "anna", "password": PASSWORD})
    assert answer.headers["location"] == "/console/"


def _balance(web: Web) -> int:
    answer = web.call("GET", "/v1/customers/cust-1").json()
    return int(answer["balance"])
