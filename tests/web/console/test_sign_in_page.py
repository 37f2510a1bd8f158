"""The sign-in page names the cause when it cannot accept a form, and sends on a person who is signed in already."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.web.client import Web, settings_for
from tests.web.console.visitor import PASSWORD, Visitor, form_on, text_of, visitor

from refund_worker.engine.access.console_users import create_user


@pytest.fixture
def production(migrated_sqlite_url: str) -> Iterator[Web]:
    """A console whose cookies need https."""
    with Web(settings_for(migrated_sqlite_url, ENVIRONMENT="production", STRIPE_API_KEY="sk_live_x")) as web:
        create_user(web.context, name="ivy", role="support", password=PASSWORD)
        yield web


def sign_in_without_cookie(web: Web, **headers: str) -> str:
    person = Visitor(web)
    fields = form_on(person.get("/sign-in"), "/console/sign-in")
    person.cookies.clear()
    answer = person.post("/sign-in", fields | {"name": "ivy", "password": PASSWORD}, **headers)
    assert answer.status_code == 403
    return text_of(answer)


def test_blocked_cookies_are_named_as_the_cause(web: Web) -> None:
    assert "Your browser sent no cookie: allow cookies for this site" in sign_in_without_cookie(web)


def test_production_over_plain_http_is_named_as_the_cause(production: Web) -> None:
    over_http = sign_in_without_cookie(production, Origin="http://refunds.example")
    assert "open this page with https:// and sign in there" in over_http
    over_https = sign_in_without_cookie(production, Origin="https://refunds.example")
    assert "allow cookies for this site" in over_https


def test_form_of_an_earlier_visit_is_renewed(web: Web) -> None:
    person = visitor(web, "support", "ivy")
    person.cookies.clear()
    old = form_on(person.get("/sign-in"), "/console/sign-in")
    person.cookies.clear()
    person.get("/sign-in")
    answer = person.post("/sign-in", old | {"name": "ivy", "password": PASSWORD})
    assert "This form is from an earlier visit" in text_of(answer)
    fields = form_on(answer, "/console/sign-in")
    assert person.post("/sign-in", fields | {"name": "ivy", "password": PASSWORD}).status_code == 303


def test_second_tab_goes_on_after_signing_in_at_the_first(web: Web) -> None:
    create_user(web.context, name="ivy", role="support", password=PASSWORD)
    person = Visitor(web)
    second = form_on(person.get("/sign-in", next="/console/refunds"), "/console/sign-in")
    assert person.sign_in("ivy").status_code == 303
    answer = person.post("/sign-in", second | {"name": "ivy", "password": PASSWORD})
    assert answer.headers["location"] == "/console/refunds"
    other = person.post("/sign-in", second | {"name": "omar", "password": PASSWORD})
    assert "You are signed in as ivy in another tab: sign out there first" in text_of(other)


def test_signed_in_person_is_sent_on_to_the_page(web: Web) -> None:
    person = visitor(web, "support", "ivy")
    assert person.get("/sign-in", next="/console/help").headers["location"] == "/console/help"
    assert person.get("/sign-in", next="https://evil.example/").headers["location"] == "/console/"
