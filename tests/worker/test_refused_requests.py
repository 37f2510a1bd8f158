"""Requests that the Celery entry point refuses are stored for operators, because their sender gets no answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import text
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.sales import paid

from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.intake.dead_letters import BODY_LENGTH_MAX, NAME_LENGTH_MAX, refused_requests
from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.tasks import WorkerRuntime, add_tasks

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]

FIELDS = {"kind": "withdrawal", "to": "source", "customer_id": "c", "credits": 5, "reason": "asked", "client": "shop"}
Send = Callable[..., None]


@pytest.fixture
def worker_runtime(migrated_url: str) -> Iterator[WorkerRuntime]:
    runtime = WorkerRuntime(load_settings({PREFIX + "DATABASE_URL": migrated_url, PREFIX + "BROKER_URL": "memory://"}))
    record_payments(runtime.open(), [paid("one", customer_id="c", processor="manual", credits=10)])
    yield runtime
    runtime.close()


@pytest.fixture
def send(worker_runtime: WorkerRuntime) -> Send:
    """Return a function that runs the task with these fields, as a worker does."""
    app: Celery = make_app(worker_runtime.settings, "memory://")
    add_tasks(app, worker_runtime)

    def run(**fields: Any) -> None:
        app.tasks["refund_worker.request_refund"](**(FIELDS | fields))

    return run


def kept(worker_runtime: WorkerRuntime) -> list[dict[str, Any]]:
    with worker_runtime.open().database.read() as connection:
        return refused_requests(connection)


def count_refunds(worker_runtime: WorkerRuntime) -> int:
    with worker_runtime.open().database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM refunds")).scalar_one())


def test_accepted_request_is_no_dead_letter(worker_runtime: WorkerRuntime, send: Send) -> None:
    send(idempotency_key="k")
    assert kept(worker_runtime) == []
    assert count_refunds(worker_runtime) == 1


def test_refused_request_is_listed_and_makes_no_refund(worker_runtime: WorkerRuntime, send: Send) -> None:
    send(idempotency_key="too-much", credits=1_000)
    send(idempotency_key="odd", status="succeeded")
    odd, too_much = kept(worker_runtime)
    assert (too_much["door"], too_much["client"], too_much["idempotency_key"]) == ("celery", "shop", "too-much")
    assert (too_much["code"], too_much["times"]) == ("exceeds_refundable", 1)
    assert json.loads(too_much["body"])["credits"] == 1_000
    assert (odd["code"], "status" in odd["message"]) == ("invalid_request", True)
    assert count_refunds(worker_runtime) == 0


def test_repeated_refusal_is_counted_and_adds_no_row(worker_runtime: WorkerRuntime, send: Send) -> None:
    for _ in range(3):
        send(idempotency_key="k", credits=1_000)
    (row,) = kept(worker_runtime)
    assert row["times"] == 3


def test_dead_letter_is_redacted_and_limited_in_size(worker_runtime: WorkerRuntime, send: Send) -> None:
    send(idempotency_key="card", note="4242 4242 4242 4242")
    send(idempotency_key="x" * 100_000, note="y" * 1_000_000)
    send(idempotency_key="sk_" + "live_0123456789abcdef", client="\x00\x1b[31m", credits=1_000)
    rows = kept(worker_runtime)
    assert len(rows) == 3
    everything = json.dumps(rows)
    assert "4242" not in everything
    assert "0123456789abcdef" not in everything
    assert "\\u001b" not in everything
    assert max(len(row["body"]) for row in rows) <= BODY_LENGTH_MAX
    assert max(len(row["idempotency_key"]) for row in rows) <= NAME_LENGTH_MAX


@pytest.mark.parametrize("key", [None, 7, {"a": 1}])
def test_request_without_a_usable_key_is_kept_too(worker_runtime: WorkerRuntime, send: Send, key: object) -> None:
    send(idempotency_key=key, client=["x"])
    (row,) = kept(worker_runtime)
    assert (row["client"], row["idempotency_key"], row["code"]) == ("", "", "invalid_request")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"idempotency_key": "k "}, "blanks at its ends"),
        ({"client": "shop "}, "blanks at its ends"),
        ({"customer_id": "c "}, "blanks at its ends"),
        ({"customer_id": ".."}, "dot segment"),
        ({"metadata": {"4111 1111 1111 1111": "x"}}, "card number"),
    ],
)
def test_invalid_name_is_refused_and_listed(
    worker_runtime: WorkerRuntime, send: Send, change: dict[str, Any], said: str
) -> None:
    send(**({"idempotency_key": "k"} | change))
    (refusal,) = kept(worker_runtime)
    assert said in refusal["message"]
    assert "4111" not in json.dumps(refusal)
    assert count_refunds(worker_runtime) == 0
