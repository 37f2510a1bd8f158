"""Every page of the console on SQLite and on Postgres, and the users that the command line makes."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli, cli
from tests.web.client import Web, settings_for
from tests.web.console.test_hostile_text import PAGES
from tests.web.console.visitor import text_of, visitor

from refund_worker.engine.advance import advance_until_idle
from refund_worker.store.tables import refunds

__all__ = ["cli"]


def test_every_page_answers(migrated_url: str) -> None:
    with Web(settings_for(migrated_url)) as web:
        web.seed()
        assert web.refund("k1", kind="credit_refund", to="balance", transaction_id="tx-1").status_code == 202
        assert web.refund("k2").status_code == 202
        advance_until_idle(web.context)
        person = visitor(web, "admin")
        for path in PAGES:
            page = person.get(path)
            assert page.status_code == 200, (path, text_of(page))
        assert "1 refund" in text_of(person.get("/")), "one is in flight"


def test_a_bulk_retry_of_another_set_than_was_seen_does_nothing(web: Web) -> None:
    ids = [web.refund(f"k{n}", credits=1).json()["id"] for n in range(3)]
    _stop(web, ids[:2])
    person = visitor(web, "operator")
    page = person.get("/failures/retry", code="declined")
    assert "Retry 2 refunds" in page.text
    _stop(web, ids)
    refused = person.submit(page, "/failures/retry", reason="all is well again")
    assert refused.status_code == 409
    assert "You saw 2 refunds, there are 3 now" in refused.text
    with web.context.database.read() as connection:
        assert {row[0] for row in connection.execute(refunds.select().with_only_columns(refunds.c.status))} == {
            "needs_attention"
        }


def test_users_are_made_listed_and_disabled_by_the_command_line(cli: Cli) -> None:
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
