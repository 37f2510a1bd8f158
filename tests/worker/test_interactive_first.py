"""A bulk of any size does not delay one admin's click: the click is claimed first, and its message is read first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.engine_world import World
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.sales import paid, withdrawal

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.settings import PREFIX, load_settings
from refund_worker.store import refunds
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.publisher import Publisher
from refund_worker.worker.queues import QUEUES

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]

BULK = 300


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    made = World(migrated_url)
    yield made
    made.close()


def test_click_after_a_bulk_of_any_size_is_in_the_next_claim(world: World) -> None:
    record_payments(world.context, [paid(name) for name in [*range(BULK), "click", "second-click"]])
    taken = request_refunds(world.context, [withdrawal(name, bulk=True) for name in range(BULK)])
    bulk = [answer.refund_id for answer in taken if isinstance(answer, Accepted)]
    assert len(bulk) == BULK
    for name, size in (("click", 1), ("second-click", 20)):
        world.pass_time(1)
        (click,) = request_refunds(world.context, [withdrawal(name)])
        assert isinstance(click, Accepted)
        assert process_due(world.context, limit=size) == size
        assert world.refund(click.refund_id).status is RefundStatus.SUCCEEDED
    with world.database.read() as connection:
        done = [refund.status is RefundStatus.SUCCEEDED for refund in refunds.load(connection, bulk)]
    assert sum(done) == 19


def test_messages_of_clicks_are_read_before_earlier_bulk_messages(redis_url: str) -> None:
    settings = load_settings({PREFIX + "BROKER_URL": redis_url, PREFIX + "STRIPE_RATE_PER_SECOND": "0"})
    publisher = Publisher(settings, redis_url, socket_seconds=5)
    publisher.publish([f"bulk-{number}" for number in range(1_000)], bulk=True)
    read: list[str] = []

    def note(_body: Any, message: Any) -> None:
        read.append(message.delivery_info["routing_key"])
        message.ack()

    with make_app(settings) as app, app.connection_for_read() as connection:
        queues = [queue for queue in app.conf.task_queues if queue.name in QUEUES]
        with connection.Consumer(queues, callbacks=[note]) as consumer:
            consumer.qos(prefetch_count=1)
            for click in range(3):
                for _ in range(2):
                    connection.drain_events(timeout=10)
                for number in range(2):
                    publisher.publish([f"click-{click}-{number}"], bulk=False)
                for _ in range(2):
                    connection.drain_events(timeout=10)
    publisher.close()
    assert read == ["bulk", "bulk", "refunds", "refunds"] * 3
