"""What the Celery door refuses: kept for operators, since its sender hears nothing."""

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
def workplace(migrated_url: str) -> Iterator[WorkerRuntime]:
    place = WorkerRuntime(load_settings({PREFIX + "DATABASE_URL": migrated_url, PREFIX + "BROKER_URL": "memory://"}))
    record_payments(place.open(), [paid("one", customer_id="c", processor="manual", credits=10)])
    yield place
    place.close()


@pytest.fixture
def send(workplace: WorkerRuntime) -> Send:
    """Runs the task as a worker does, with these fields."""
    app: Celery = make_app(workplace.settings, "memory://")
    add_tasks(app, workplace)

    def run(**fields: Any) -> None:
        app.tasks["refund_worker.request_refund"](**(FIELDS | fields))

    return run


def kept(workplace: WorkerRuntime) -> list[dict[str, Any]]:
    with workplace.open().database.read() as connection:
        return refused_requests(connection)


def count_refunds(workplace: WorkerRuntime) -> int:
    with workplace.open().database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM refunds")).scalar_one())


def test_a_request_that_is_accepted_is_no_refusal(workplace: WorkerRuntime, send: Send) -> None:
    send(idempotency_key="k")
    assert kept(workplace) == []
    assert count_refunds(workplace) == 1


def test_a_refused_request_is_shown_with_its_key_code_and_body_and_makes_no_refund(
    workplace: WorkerRuntime, send: Send
) -> None:
    send(idempotency_key="too-much", credits=1_000)
    send(idempotency_key="odd", status="succeeded")
    odd, too_much = kept(workplace)
    assert (too_much["door"], too_much["client"], too_much["idempotency_key"]) == ("celery", "shop", "too-much")
    assert (too_much["code"], too_much["times"]) == ("exceeds_refundable", 1)
    assert json.loads(too_much["body"])["credits"] == 1_000
    assert (odd["code"], "status" in odd["message"]) == ("invalid_request", True)
    assert count_refunds(workplace) == 0


def test_the_same_refusal_again_is_counted_and_adds_no_row(workplace: WorkerRuntime, send: Send) -> None:
    for _ in range(3):
        send(idempotency_key="k", credits=1_000)
    (row,) = kept(workplace)
    assert row["times"] == 3


def test_what_is_kept_holds_no_card_number_and_no_more_than_a_page(workplace: WorkerRuntime, send: Send) -> None:
    send(idempotency_key="card", note="4242 4242 4242 4242")
    send(idempotency_key="x" * 100_000, note="y" * 1_000_000)
    send(idempotency_key="sk_" + "live_0123456789abcdef", client="\x00\x1b[31m", credits=1_000)
    rows = kept(workplace)
    assert len(rows) == 3
    everything = json.dumps(rows)
    assert "4242" not in everything
    assert "0123456789abcdef" not in everything
    assert "\\u001b" not in everything
    assert max(len(row["body"]) for row in rows) <= BODY_LENGTH_MAX
    assert max(len(row["idempotency_key"]) for row in rows) <= NAME_LENGTH_MAX


@pytest.mark.parametrize("key", [None, 7, {"a": 1}])
def test_a_request_without_a_usable_key_is_kept_too(workplace: WorkerRuntime, send: Send, key: object) -> None:
    send(idempotency_key=key, client=["x"])
    (row,) = kept(workplace)
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
def test_a_name_that_breaks_the_rules_of_every_door_is_refused_and_shown(
    workplace: WorkerRuntime, send: Send, change: dict[str, Any], said: str
) -> None:
    send(**({"idempotency_key": "k"} | change))
    (refusal,) = kept(workplace)
    assert said in refusal["message"]
    assert "4111" not in json.dumps(refusal)
    assert count_refunds(workplace) == 0
