"""Every page of the console on SQLite and on Postgres, and the users that the command line creates."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text
from tests.cli.conftest import Cli, cli
from tests.web.client import Web, settings_for
from tests.web.console.test_hostile_text import PAGES
from tests.web.console.visitor import Visitor, form_on, text_of, visitor

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.store.tables import refunds

__all__ = ["cli"]


def test_every_page_answers(migrated_url: str) -> None:
    with Web(settings_for(migrated_url)) as web:
        web.seed()
        assert web.refund("k1", kind="credit_refund", to="balance", transaction_id="tx-1").status_code == 202
        assert web.refund("k2").status_code == 202
        process_until_idle(web.context)
        person = visitor(web, "admin")
        for path in PAGES:
            page = person.get(path)
            assert page.status_code == 200, (path, text_of(page))
        assert "1 refund" in text_of(person.get("/")), "one is in flight"


def test_bulk_retry_of_a_changed_list_does_nothing(web: Web) -> None:
    ids = [web.refund(f"k{n}", credits=1).json()["id"] for n in range(3)]
    _stop(web, ids[:2])
    person = visitor(web, "operator")
    page = person.get("/failures/retry", code="declined")
    assert "Retry 2 refunds" in page.text
    _stop(web, ids)
    refused = person.submit(page, "/failures/retry", reason="all is well again")
    assert refused.status_code == 409
    assert "You saw 2 refunds, now there are 3" in refused.text
    with web.context.database.read() as connection:
        assert {row[0] for row in connection.execute(refunds.select().with_only_columns(refunds.c.status))} == {
            "needs_attention"
        }


def test_users_are_created_listed_and_disabled_on_the_command_line(cli: Cli) -> None:
    made = cli("users", "create", "anna", "--role", "operator", "-o", "json").json
    assert len(made["password"]) >= 16
    assert cli("users", "create", "anna", "--role", "viewer").code == 5
    assert cli("users", "create", "berta", "--role", "king").code == 2
    assert cli("users", "disable", "anna", "-o", "json").json["status"] == "disabled"
    listed = cli("users", "list", "-o", "json")
    assert [user["name"] for user in json.loads(listed.out)["data"]] == ["anna"]
    assert made["password"] not in listed.out


def _stop(web: Web, ids: list[str]) -> None:
    def work(connection):  # type: ignore[no-untyped-def]
        stopped = {"status": "needs_attention", "failure_code": "declined"}
        connection.execute(refunds.update().where(refunds.c.refund_id.in_(ids)).values(**stopped))

    web.context.database.run(work)


ODD = [
    "/customers?q=%00", "/customer?id=%00", "/transactions?customer=%00", "/transactions?after=%00",
    "/transactions?day=%00", "/transactions?q=%00", "/transactions?id=%00", "/audit?refund_id=%00", "/audit?actor=%00",
    "/audit?before=99999999999999999999", "/refunds?key=%00", "/refunds/rf_%00", "/refunds/%00/retry",
    "/failures/retry?code=%00", f"/failures/watch?first={10**20}&last={10**20}&by=x",
    "/failures/watch?first=1&last=2&by=%00", "/batches/%00", "/delete-transaction?id=%00",
]  # fmt: skip


def test_malformed_address_gets_an_error_page_and_no_log_entry(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Web(settings_for(migrated_url)) as web:
        web.seed()
        person = visitor(web, "admin")
        for path in ODD:
            page = person.get(path)
            assert page.status_code in (404, 422), (path, page.status_code)
            assert page.headers["content-type"].startswith("text/html"), path
            assert "<html" in page.text, path
        stranger = Visitor(web)
        fields = form_on(stranger.get("/sign-in"), "/console/sign-in")
        answer = stranger.post("/sign-in", fields | {"name": "vera\0note", "password": "x"})
        assert answer.status_code == 422
        assert "<html" in answer.text
    assert "Traceback" not in caplog.text
    assert "vera" not in caplog.text


def test_failing_page_gets_an_error_page_and_logs_no_customer_texts(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Web(settings_for(migrated_url)) as web:
        person = visitor(web, "admin")
        with web.context.database.write() as connection:
            connection.execute(text("ALTER TABLE customers RENAME TO gone"))
        page = person.get("/customer", id="veras-own-words")
        assert page.status_code == 500
        assert "<html" in page.text
        assert "Traceback" in caplog.text, "the failure is in the log"
        assert "veras-own-words" not in caplog.text
