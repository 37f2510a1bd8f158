"""At the sandbox, refunds that were blocked or held for lack of money are counted, and go on after a top-up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refund_worker.engine.processor_sync.funds import read_balance
from refund_worker.engine.views.funds import funds_view
from refund_worker.testing import RefundWorker


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RefundWorker]:
    """A worker that tries blocked refunds again after an hour only."""
    folder: Path = tmp_path_factory.mktemp("top-up")
    with RefundWorker(folder, RETRY_MAX_SECONDS="3600") as running:
        yield running


def funds(worker: RefundWorker, currency: str) -> dict[str, Any]:
    assert read_balance(worker.context, "stripe")
    with worker.context.database.read() as connection:
        (found,) = [fund for fund in funds_view(connection, worker.context) if fund["currency"] == currency]
    return dict(found)


def test_blocked_refund_goes_on_after_a_top_up_and_not_before(worker: RefundWorker) -> None:
    worker.add_payment("ann", amount_minor=1_000, credits=100)
    worker.sandbox.act("set_balance", currency="gbp", available_minor=0, policy="refuse")
    refund_id = worker.request("ann")
    worker.settle()
    assert (worker.refund(refund_id)["status"], worker.refund(refund_id)["failure_code"]) == (
        "needs_attention",
        "balance_insufficient",
    )
    fund = funds(worker, "GBP")
    assert (fund["blocked_minor"], fund["shortfall_minor"], fund["covered_by_pending"]) == (1_000, 1_000, False)
    worker.settle()
    assert worker.refund(refund_id)["status"] == "needs_attention"
    worker.sandbox.act("top_up", currency="gbp", amount_minor=1_000)
    funds(worker, "GBP")
    worker.settle()
    assert worker.refund(refund_id)["status"] == "succeeded"
    fund = funds(worker, "GBP")
    assert (fund["available_minor"], fund["needed_minor"], fund["shortfall_minor"]) == (0, 0, 0)
    assert [each["amount"] for each in worker.sandbox.refunds() if each["currency"] == "gbp"] == [1_000]


def test_refund_that_is_held_there_counts_as_blocked(worker: RefundWorker) -> None:
    worker.add_payment("bob", amount_minor=700, credits=70, currency="EUR")
    worker.sandbox.act("set_balance", currency="eur", available_minor=0, policy="hold")
    refund_id = worker.request("bob")
    worker.settle()
    assert worker.refund(refund_id)["status"] == "pending"
    fund = funds(worker, "EUR")
    assert (fund["blocked_minor"], fund["queued_minor"], fund["shortfall_minor"]) == (700, 0, 700)
