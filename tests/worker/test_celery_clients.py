"""The Celery entry point is the only actor there: names in its messages evade no limit and imitate no other client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.sales import paid

from refund_worker.domain.refund import Refund
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.intake.dead_letters import refused_requests
from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, load_settings
from refund_worker.store.refunds import Filters, find_ids, load
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.tasks import WorkerRuntime, add_tasks

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]

CUSTOMERS = 8
Open = Callable[..., "EntryPoint"]


class EntryPoint:
    """The Celery entry point with these settings, on a database with customers c-0, c-1, … of 100 credits each."""

    def __init__(self, url: str, **settings: str) -> None:
        environment = {"DATABASE_URL": url, "BROKER_URL": "memory://", **settings}
        self.runtime = WorkerRuntime(load_settings({PREFIX + name: value for name, value in environment.items()}))
        record_payments(self.runtime.open(), [paid(n, processor="manual") for n in range(CUSTOMERS)])
        self.app: Celery = make_app(self.runtime.settings, "memory://")
        add_tasks(self.app, self.runtime)

    def send(self, number: int, **fields: Any) -> None:
        """Process a message that asks for 10 credits of customer `number`, as a worker does."""
        asked = {"kind": "withdrawal", "to": "source", "customer_id": f"c-{number}", "credits": 10, "reason": "asked"}
        self.app.tasks["refund_worker.request_refund"](**(asked | {"idempotency_key": f"k-{number}"} | fields))

    def refunds(self) -> list[Refund]:
        with self.runtime.open().database.read() as connection:
            return load(connection, find_ids(connection, Filters(limit=100)))

    def refused(self) -> list[tuple[str, str]]:
        """Return (client, code) of each refusal that operators see, the oldest first."""
        with self.runtime.open().database.read() as connection:
            return [(row["client"], row["code"]) for row in reversed(refused_requests(connection))]


@pytest.fixture
def opened(migrated_url: str) -> Iterator[Open]:
    entry_points: list[EntryPoint] = []

    def open_entry_point(**settings: str) -> EntryPoint:
        entry_points.append(EntryPoint(migrated_url, **settings))
        return entry_points[-1]

    yield open_entry_point
    for entry_point in entry_points:
        entry_point.runtime.close()


def test_new_client_name_per_message_evades_no_limit(opened: Open) -> None:
    entry_point = opened(VELOCITY_COUNT="3")
    for number in range(5):
        entry_point.send(number, client=f"somebody-{number}")
    assert [(refund.client, refund.requested_by) for refund in entry_point.refunds()] == [
        (f"somebody-{number}", "celery") for number in range(3)
    ]
    assert entry_point.refused() == [("somebody-3", "velocity_exceeded"), ("somebody-4", "velocity_exceeded")]


def test_new_requester_note_per_message_evades_no_limit(opened: Open) -> None:
    entry_point = opened(VELOCITY_AMOUNT_MINOR="250")
    for number in range(4):
        entry_point.send(number, requested_by=f"console/somebody-{number}")
    assert [refund.requested_by for refund in entry_point.refunds()] == ["celery"] * 2
    assert [refund.requested_by_note for refund in entry_point.refunds()] == [
        "console/somebody-0",
        "console/somebody-1",
    ]


def test_declared_clients_are_accepted_and_counted_separately(opened: Open) -> None:
    entry_point = opened(VELOCITY_COUNT="2", CELERY_CLIENTS="shop, desk")
    for number, client in enumerate(("shop", "shop", "shop", "desk", "backend", "SHOP")):
        entry_point.send(number, client=client)
    entry_point.send(6)
    taken = [(refund.client, refund.requested_by) for refund in entry_point.refunds()]
    assert taken == [("shop", "celery:shop"), ("shop", "celery:shop"), ("desk", "celery:desk")]
    assert entry_point.refused() == [
        ("shop", "velocity_exceeded"),
        ("backend", "invalid_request"),
        ("SHOP", "invalid_request"),
        ("celery", "invalid_request"),
    ]


def test_undeclared_client_is_refused(opened: Open) -> None:
    entry_point = opened(CELERY_CLIENTS="shop")
    entry_point.send(0, client="backend", idempotency_key="order-1")
    assert (entry_point.refunds(), entry_point.refused()) == ([], [("backend", "invalid_request")])


@pytest.mark.parametrize("client", ["console", "cli"])
def test_message_cannot_use_keys_of_the_console_or_command_line(opened: Open, client: str) -> None:
    entry_point = opened()
    entry_point.send(0, client=client)
    assert (entry_point.refunds(), entry_point.refused()) == ([], [(client, "invalid_request")])


@pytest.mark.parametrize("names", [",", "a b", "console", "shop,Console", "shop/anna", "x" * 101, "shop;desk"])
def test_invalid_list_of_client_names_refuses_to_start(names: str) -> None:
    with pytest.raises(BadSettings, match="REFUND_WORKER_CELERY_CLIENTS"):
        load_settings({PREFIX + "CELERY_CLIENTS": names})
