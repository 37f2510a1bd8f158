"""Forms and cookies of the console: other sites and other sessions can use neither."""

from __future__ import annotations

import pytest
from tests.web.client import Web, settings_for
from tests.web.console.roles_of_pages import CLOSED, call_page
from tests.web.console.session import token_of
from tests.web.console.visitor import PASSWORD, Visitor, visitor

from refund_worker.engine.access import console_users
from refund_worker.store.tables import ledger_transactions


@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_a_form_without_the_sessions_token_is_refused(web: Web, token: str | None) -> None:
    person = visitor(web, "admin")
    fields = {"customer": "cust-1", "credits": "5", "reason": "x", "request_id": "x" * 20, "name": "stripe"}
    for method, path in CLOSED:
        if method == "POST":
            answer = call_page(person, method, path, fields | ({} if token is None else {"token": token}))
            assert answer.status_code == 403, path
    assert person.get("/").status_code == 200, "still signed in"
    with web.context.database.read() as connection:
        kinds = connection.execute(ledger_transactions.select()).mappings().all()
    assert [row["kind"] for row in kinds] == ["purchase", "spend"]


def test_a_token_of_another_session_is_refused(web: Web) -> None:
    anna, omar = visitor(web, "admin", "anna"), visitor(web, "admin", "omar")
    assert omar.post("/sign-out", {"token": token_of(anna)}).status_code == 403
    assert omar.get("/").status_code == 200


def test_a_form_from_another_site_is_refused(web: Web) -> None:
    person = visitor(web, "admin")
    answer = person.post("/sign-out", {"token": token_of(person)}, **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


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
