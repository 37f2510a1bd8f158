"""Operators' work on the command line: groups of failures, approvals, the audit trail."""

from __future__ import annotations

import os

import pytest
from tests.cli.conftest import Become, Cli

from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings
from refund_worker.store import snapshots
from refund_worker.store.database import Database
from refund_worker.store.tables import legs, refunds

ASK = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--reason", "asked", "--credits", "10")


@pytest.fixture
def stuck(shop: Cli, migrated_sqlite_url: str) -> Cli:
    """Return `shop` after two refunds of ann need attention."""
    for key in ("k1", "k2"):
        assert shop(*ASK, "--customer", "ann", "--idempotency-key", key, "-o", "json").code == 0
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        with runtime.database.write() as connection:
            stopped = {"status": "needs_attention", "failure_code": "declined", "due_at": None, "posted": True}
            connection.execute(refunds.update().values(**stopped))
            connection.execute(legs.update().values(status="blocked", attention="declined", next_at=None))
            ids = connection.execute(refunds.select().with_only_columns(refunds.c.refund_id)).scalars().all()
            snapshots.append_current_rows(connection, "refunds", ids)  # as the program does when it stops refunds
        Sealer().seal(runtime.context)
    return shop


def test_wait_for_a_refund_that_needs_attention_exits_3_at_once(stuck: Cli) -> None:
    refund_id = stuck("refunds", "list", "-o", "json").json["data"][0]["id"]
    waited = stuck("refunds", "wait", refund_id, "--timeout", "60", "-o", "json")
    assert (waited.code, waited.json["status"]) == (3, "needs_attention")


def test_failures_are_retried_together_or_not_at_all(stuck: Cli, become: Become) -> None:
    become("omar")
    retry = ("failures", "retry", "declined", "--reason", "all is well", "-o", "json")
    refused = stuck(*retry, "--expected", "3")
    assert refused.code == 5
    assert refused.problem["code"] == "set_changed"
    assert stuck("audit", "list", "--kind", "retry_requested", "-o", "json").json["data"] == []
    assert stuck(*retry, "--expected", "2").json == {"failure_code": "declined", "retried": 2}
    assert stuck(*retry, "--expected", "2").code == 5, "they were already retried"
    lines = stuck("audit", "list", "--kind", "retry_requested", "--actor", "cli:omar", "-o", "json").json["data"]
    assert [line["why"] for line in lines] == ["all is well"] * 2


def test_approvals_list_shows_who_requested_each_refund(
    shop: Cli, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("eve")
    assert shop("approvals", "list", "-o", "json").json == {"data": [], "has_more": False}
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "1")
    assert shop(*ASK, "--customer", "ann").code == 0
    (waiting,) = shop("approvals", "list", "-o", "json").json["data"]
    assert (waiting["status"], waiting["actor"]) == ("awaiting_approval", "cli:eve")
    assert "cli:eve" in shop("approvals", "list").out


def test_filters_have_the_names_of_the_api(stuck: Cli) -> None:
    found = stuck("refunds", "list", "--customer-id", "ann", "--failure-code", "declined", "-o", "json").json["data"]
    assert len(found) == 2
    assert stuck("refunds", "list", "--customer-id", "bob", "-o", "json").json["data"] == []


def test_audit_status_shows_the_state_of_the_chain(stuck: Cli, become: Become) -> None:
    become("anna")
    before = stuck("audit", "status", "-o", "json").json
    assert (before["sealed"]["seal"] > 0, before["verified_all"]) == (True, None)
    assert stuck("audit", "verify").code == 0
    after = stuck("audit", "status", "-o", "json").json
    assert after["verified_all"]["actor"] == "cli:anna"
    assert "anna" in stuck("audit", "status").out


def test_audit_list_shows_customer_ledger_and_refuses_bad_lists(stuck: Cli) -> None:
    entries = stuck("audit", "list", "--of", "ledger", "--customer-id", "ann", "-o", "json").json["data"]
    assert {entry["kind"] for entry in entries} == {"purchase", "spend"}
    assert stuck("audit", "list", "--of", "nothing").code == 2
    assert stuck("audit", "list", "--customer-id", "ann").code == 2, "the timeline has no customers"


def test_processors_status_shows_state_and_rate(shop: Cli) -> None:
    shop("processors", "pause", "stripe", "--reason", "wrong amounts")
    by_name = {line["name"]: line for line in shop("processors", "status", "-o", "json").json["data"]}
    assert (by_name["stripe"]["state"], by_name["manual"]["state"]) == ("paused", "sending")
    assert by_name["stripe"]["rate_per_second"] == 25


def test_failures_are_grouped_with_their_money(shop: Cli) -> None:
    assert shop("failures", "list", "-o", "json").json["data"] == []
    for credits in ("1", "2"):
        arguments = ("--kind", "withdrawal", "--to", "source", "--customer", "ann", "--reason", "r")
        assert shop("refunds", "create", *arguments, "--credits", credits).code == 0
    database = Database(os.environ["REFUND_WORKER_DATABASE_URL"])
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE refunds SET status = 'needs_attention', failure_code = 'disputed'")
    database.close()
    (group,) = shop("failures", "list", "-o", "json").json["data"]
    assert (group["failure_code"], group["refunds"], group["needs_attention"], group["failed"]) == ("disputed", 2, 2, 0)
    assert group["amounts"] == [{"currency": "GBP", "amount_minor": 6}]
    assert "0.06 GBP" in shop("failures", "list").out


def test_show_explains_the_failure_with_the_facts_of_this_refund(stuck: Cli) -> None:
    refund_id = stuck("refunds", "list", "-o", "json").json["data"][0]["id"]
    shown = stuck("refunds", "show", refund_id).out
    assert "The bank declined the refund." in shown
    assert "off the balance, and not settled yet" in shown
    assert "refund-worker explain declined" in shown
    assert "refund-worker explain CODE" in stuck("failures", "list").err


def test_doctor_names_what_waits_for_a_person_and_where_to_read(stuck: Cli) -> None:
    stuck("processors", "pause", "stripe", "--reason", "wrong amounts")
    findings = {line["found"]: line["do"] for line in stuck("doctor", "-o", "json").json["data"]}
    paused = "stripe is paused: A person paused sending (paused_by_hand): wrong amounts"
    assert findings[paused] == "refund-worker explain paused_by_hand"
    stopped = "2 refunds need attention: The bank declined the refund (declined)"
    assert findings[stopped] == "refund-worker explain declined"


def test_doctor_says_that_nothing_waits(shop: Cli) -> None:
    found = [line["found"] for line in shop("doctor", "-o", "json").json["data"]]
    assert "no processor is paused, and no refund needs attention" in found
