"""What operators do on the command line as in the console: failures together, approvals, the audit trail."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Become, Cli

from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings
from refund_worker.store import snapshots
from refund_worker.store.tables import legs, refunds

ASK = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--reason", "asked", "--credits", "10")


@pytest.fixture
def stuck(shop: Cli, migrated_sqlite_url: str) -> Cli:
    """Two refunds of ann's need a person."""
    for key in ("k1", "k2"):
        assert shop(*ASK, "--customer", "ann", "--idempotency-key", key, "-o", "json").code == 0
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        with runtime.database.write() as connection:
            stopped = {"status": "needs_attention", "failure_code": "declined", "due_at": None, "posted": True}
            connection.execute(refunds.update().values(**stopped))
            connection.execute(legs.update().values(status="blocked", attention="declined", next_at=None))
            ids = connection.execute(refunds.select().with_only_columns(refunds.c.refund_id)).scalars().all()
            snapshots.append_current_rows(connection, "refunds", ids)  # as the program would that stops them
        Sealer().seal(runtime.context)
    return shop


def test_waiting_for_a_refund_that_needs_a_person_ends_at_once_and_not_as_success(stuck: Cli) -> None:
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
    assert stuck(*retry, "--expected", "2").code == 5, "they are retried already"
    lines = stuck("audit", "list", "--kind", "retry_requested", "--actor", "cli:omar", "-o", "json").json["data"]
    assert [line["why"] for line in lines] == ["all is well"] * 2


def test_what_waits_for_approval_is_listed_with_who_asked(
    shop: Cli, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("eve")
    assert shop("approvals", "list", "-o", "json").json == {"data": [], "has_more": False}
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "1")
    assert shop(*ASK, "--customer", "ann").code == 0
    (waiting,) = shop("approvals", "list", "-o", "json").json["data"]
    assert (waiting["status"], waiting["actor"]) == ("awaiting_approval", "cli:eve")
    assert "cli:eve" in shop("approvals", "list").out


def test_filters_are_called_as_in_the_api(stuck: Cli) -> None:
    found = stuck("refunds", "list", "--customer-id", "ann", "--failure-code", "declined", "-o", "json").json["data"]
    assert len(found) == 2
    assert stuck("refunds", "list", "--customer-id", "bob", "-o", "json").json["data"] == []


def test_the_state_of_the_audit_chain_is_told(stuck: Cli, become: Become) -> None:
    become("anna")
    before = stuck("audit", "status", "-o", "json").json
    assert (before["sealed"]["seal"] > 0, before["verified_all"]) == (True, None)
    assert stuck("audit", "verify").code == 0
    after = stuck("audit", "status", "-o", "json").json
    assert after["verified_all"]["actor"] == "cli:anna"
    assert "anna" in stuck("audit", "status").out


def test_the_ledger_is_listed_by_customer_and_unknown_words_are_refused(stuck: Cli) -> None:
    entries = stuck("audit", "list", "--of", "ledger", "--customer-id", "ann", "-o", "json").json["data"]
    assert {entry["kind"] for entry in entries} == {"purchase", "spend"}
    assert stuck("audit", "list", "--of", "nothing").code == 2
    assert stuck("audit", "list", "--customer-id", "ann").code == 2, "timelines are of refunds"


def test_the_state_of_each_switch_is_told_with_its_rate(shop: Cli) -> None:
    shop("processors", "pause", "stripe", "--reason", "wrong amounts")
    by_name = {line["name"]: line for line in shop("processors", "status", "-o", "json").json["data"]}
    assert (by_name["stripe"]["state"], by_name["manual"]["state"]) == ("paused", "sending")
    assert by_name["stripe"]["rate_per_second"] == 25
