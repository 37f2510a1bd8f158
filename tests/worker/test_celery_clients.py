"""Only the Celery door itself is known there: names in its messages evade no limit, and pass for nobody else."""

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
Open = Callable[..., "Door"]


class Door:
    """The Celery door with these settings, on a database with customers c-0, c-1, … of 100 credits each."""

    def __init__(self, url: str, **settings: str) -> None:
        environment = {"DATABASE_URL": url, "BROKER_URL": "memory://", **settings}
        self.place = WorkerRuntime(load_settings({PREFIX + name: value for name, value in environment.items()}))
        record_payments(self.place.open(), [paid(n, processor="manual") for n in range(CUSTOMERS)])
        self.app: Celery = make_app(self.place.settings, "memory://")
        add_tasks(self.app, self.place)

    def send(self, number: int, **fields: Any) -> None:
        """What a worker does with a message that asks for 10 credits of customer `number`."""
        asked = {"kind": "withdrawal", "to": "source", "customer_id": f"c-{number}", "credits": 10, "reason": "asked"}
        self.app.tasks["refund_worker.request_refund"](**(asked | {"idempotency_key": f"k-{number}"} | fields))

    def refunds(self) -> list[Refund]:
        with self.place.open().database.read() as connection:
            return load(connection, find_ids(connection, Filters(limit=100)))

    def refused(self) -> list[tuple[str, str]]:
        """(client, code) of each refusal that operators see, the first first."""
        with self.place.open().database.read() as connection:
            return [(row["client"], row["code"]) for row in reversed(refused_requests(connection))]


@pytest.fixture
def opened(migrated_url: str) -> Iterator[Open]:
    doors: list[Door] = []

    def open_door(**settings: str) -> Door:
        doors.append(Door(migrated_url, **settings))
        return doors[-1]

    yield open_door
    for door in doors:
        door.place.close()


def test_a_new_name_for_each_message_evades_no_limit(opened: Open) -> None:
    door = opened(VELOCITY_COUNT="3")
    for number in range(5):
        door.send(number, client=f"somebody-{number}")
    assert [(refund.client, refund.requested_by) for refund in door.refunds()] == [
        (f"somebody-{number}", "celery") for number in range(3)
    ]
    assert door.refused() == [("somebody-3", "velocity_exceeded"), ("somebody-4", "velocity_exceeded")]


def test_nor_does_a_new_note_on_who_asked(opened: Open) -> None:
    door = opened(VELOCITY_AMOUNT_MINOR="250")
    for number in range(4):
        door.send(number, requested_by=f"console/somebody-{number}")
    assert [refund.requested_by for refund in door.refunds()] == ["celery"] * 2
    assert [refund.requested_by_note for refund in door.refunds()] == ["console/somebody-0", "console/somebody-1"]


def test_only_declared_clients_are_taken_and_each_is_counted_for_itself(opened: Open) -> None:
    door = opened(VELOCITY_COUNT="2", CELERY_CLIENTS="shop, desk")
    for number, client in enumerate(("shop", "shop", "shop", "desk", "backend", "SHOP")):
        door.send(number, client=client)
    door.send(6)
    taken = [(refund.client, refund.requested_by) for refund in door.refunds()]
    assert taken == [("shop", "celery:shop"), ("shop", "celery:shop"), ("desk", "celery:desk")]
    assert door.refused() == [
        ("shop", "velocity_exceeded"),
        ("backend", "invalid_request"),
        ("SHOP", "invalid_request"),
        ("celery", "invalid_request"),
    ]


def test_a_client_that_is_not_declared_keeps_its_keys(opened: Open) -> None:
    door = opened(CELERY_CLIENTS="shop")
    door.send(0, client="backend", idempotency_key="order-1")
    assert (door.refunds(), door.refused()) == ([], [("backend", "invalid_request")])


@pytest.mark.parametrize("client", ["console", "cli"])
def test_a_message_never_takes_a_key_of_the_console_or_the_command_line(opened: Open, client: str) -> None:
    door = opened()
    door.send(0, client=client)
    assert (door.refunds(), door.refused()) == ([], [(client, "invalid_request")])


@pytest.mark.parametrize("names", [",", "a b", "console", "shop,Console", "shop/anna", "x" * 101, "shop;desk"])
def test_what_is_no_list_of_client_names_refuses_to_start(names: str) -> None:
    with pytest.raises(BadSettings, match="REFUND_WORKER_CELERY_CLIENTS"):
        load_settings({PREFIX + "CELERY_CLIENTS": names})
