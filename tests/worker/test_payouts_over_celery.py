"""Requests for payouts over Celery: accepted once, and their refusals kept for operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template

from refund_worker.domain.payouts.destination import read_destination
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import Payout
from refund_worker.domain.payouts.transfers import Method
from refund_worker.engine.intake.dead_letters import refused_requests
from refund_worker.engine.payees.earnings import record_earnings
from refund_worker.engine.payees.payees import record_payee
from refund_worker.settings import PREFIX, load_settings
from refund_worker.store.payouts import lists, payouts
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.queues import TASKS
from refund_worker.worker.tasks import WorkerRuntime, add_tasks

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]

FIELDS = {"payee_id": "p", "amount_minor": 300, "currency": "EUR", "idempotency_key": "k"}
Send = Callable[..., None]


@pytest.fixture
def worker_runtime(migrated_url: str) -> Iterator[WorkerRuntime]:
    environment = {"DATABASE_URL": migrated_url, "BROKER_URL": "memory://", "EARNINGS_HOLD_SECONDS": "0"}
    runtime = WorkerRuntime(load_settings({PREFIX + name: value for name, value in environment.items()}))
    payee = PayeeRecord(
        payee_id="p",
        customer_id=None,
        processor="manual",
        destination=read_destination({"kind": "manual", "text": "cash"}),
        currency="EUR",
        country=None,
        method=Method.STANDARD,
    )
    record_payee(runtime.open(), payee, actor="test")
    earning = EarningRecord(earning_id="e", payee_id="p", amount_minor=500, currency="EUR")
    record_earnings(runtime.open(), [earning], actor="test")
    yield runtime
    runtime.close()


@pytest.fixture
def send(worker_runtime: WorkerRuntime) -> Send:
    """Return a function that runs the task with these fields, as a worker does."""
    app: Celery = make_app(worker_runtime.settings, "memory://")
    add_tasks(app, worker_runtime)
    assert {name for name in app.tasks if name.startswith("refund_worker.")} == set(TASKS)

    def run(*arguments: object, **fields: Any) -> None:
        app.tasks["refund_worker.request_payout"](*arguments, **(FIELDS | fields))

    return run


def stored(worker_runtime: WorkerRuntime) -> list[Payout]:
    with worker_runtime.open().database.read() as connection:
        return payouts.load(connection, lists.find_ids(connection, lists.PayoutFilters()))


def refused(worker_runtime: WorkerRuntime) -> list[tuple[str, str]]:
    with worker_runtime.open().database.read() as connection:
        return [(row["idempotency_key"], row["code"]) for row in refused_requests(connection)]


def test_message_that_comes_twice_makes_one_payout(worker_runtime: WorkerRuntime, send: Send) -> None:
    send()
    send()
    (payout,) = stored(worker_runtime)
    assert (payout.amount_minor, payout.client, payout.requested_by) == (300, "celery", "celery")
    assert refused(worker_runtime) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount_minor": 501}, "insufficient_earnings"),
        ({"payee_id": "none"}, "unknown_payee"),
        ({"client": "console"}, "invalid_request"),
        ({"client": ":withdrawals"}, "invalid_request"),
        ({"client": ":payout-runs"}, "invalid_request"),
        ({"kind": "withdrawal"}, "invalid_request"),
        ({"idempotency_key": None}, "invalid_request"),
    ],
)
def test_refusal_is_kept(worker_runtime: WorkerRuntime, send: Send, fields: dict[str, Any], code: str) -> None:
    send(**fields)
    assert stored(worker_runtime) == []
    assert [kept for _, kept in refused(worker_runtime)] == [code]


def test_unnamed_fields_are_refused(worker_runtime: WorkerRuntime, send: Send) -> None:
    send("p")
    assert [kept for _, kept in refused(worker_runtime)] == ["invalid_request"]
