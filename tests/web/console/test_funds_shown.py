"""The money at the processor accounts is shown by the API, the metrics, the pages and the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.scripted_processor import ScriptedProcessor
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor
from tests.web.test_health_and_switches import figures

from refund_worker.domain.processor_replies import BalanceRead, BalanceReply, NotReadable
from refund_worker.engine.processor_sync.funds import read_balance

LABELS = '{currency="EUR",processor="stripe"}'


def read(web: Web, reply: BalanceReply) -> None:
    """Read a balance with this reply into the database of the pages."""
    processor = ScriptedProcessor()
    processor.reads_balance = True
    processor.balance_reply = reply
    read_balance(replace(web.context, processors={"stripe": processor}), "stripe")


@pytest.fixture
def short(web: Web) -> dict[str, Any]:
    """Return a refund of 1.00 EUR in a batch, over an account that has 0.30 EUR, and 0.90 pending."""
    row = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
    batch = web.call("POST", "/v1/refund-batches", {"refunds": [row | {"idempotency_key": "b-1"}]}).json()
    read(web, BalanceRead({"EUR": 30}, {"EUR": 90}))
    return dict(batch)


def test_every_role_reads_the_funds_over_http(web: Web, short: dict[str, Any]) -> None:
    for role in ("viewer", "requester", "approver", "operator"):
        answer = web.call("GET", "/v1/funds", key=web.key(role))
        assert answer.status_code == 200
        (fund,) = answer.json()["data"]
        assert (fund["processor_account"], fund["currency"], fund["state"]) == ("stripe", "EUR", "current")
        assert (fund["available_minor"], fund["pending_minor"], fund["needed_minor"]) == (30, 90, 100)
        assert (fund["shortfall_minor"], fund["covered_by_pending"]) == (70, True)
        assert fund["shortfall_date"] == fund["read_at"][:10]
    assert web.call("GET", "/v1/funds", key=None).status_code == 401


def test_shortfall_is_on_overview_batch_and_approvals(web: Web, short: dict[str, Any]) -> None:
    person = visitor(web, "viewer")
    said = "0.70 EUR are missing at stripe since"
    overview = text_of(person.get("/"))
    assert said in overview
    assert "stripe, EUR 0.30 EUR available, 0.90 EUR pending" in overview
    assert "1.00 EUR needed" in overview
    assert said in text_of(person.get(f"/batches/{short['batch_id']}"))
    assert said in text_of(visitor(web, "approver").get("/approvals"))


def test_unknown_balance_is_shown_as_unknown_and_alarms_nobody(web: Web) -> None:
    web.refund("k-1", to="source")
    read(web, NotReadable("no such path"))
    overview = text_of(visitor(web, "viewer").get("/"))
    assert "stripe, EUR balance unknown" in overview
    assert "Nothing needs a person" in overview
    assert "missing" not in text_of(visitor(web, "approver").get("/approvals"))
    shown = figures(web)
    assert shown[f"refund_worker_funds_needed_minor{LABELS}"] == 100
    assert f"refund_worker_funds_shortfall_minor{LABELS}" not in shown
    assert f"refund_worker_funds_available_minor{LABELS}" not in shown


def test_funds_are_gauges(web: Web, short: dict[str, Any]) -> None:
    shown = figures(web)
    names = ("available", "pending", "needed", "shortfall")
    assert [shown[f"refund_worker_funds_{name}_minor{LABELS}"] for name in names] == [30, 90, 100, 70]
    assert shown['refund_worker_funds_read_timestamp_seconds{processor="stripe"}'] > 1_700_000_000
