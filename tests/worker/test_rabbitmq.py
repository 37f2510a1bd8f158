"""A real RabbitMQ whose vhost has another application's queue `bulk`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Queue
from tests.support.brokers import RabbitServer
from tests.support.deployment import Deployment, wait_until

from refund_worker.cli import doctor
from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.publisher import BrokerUnavailable, Publisher, make_publisher

pytestmark = pytest.mark.slow

PREFIX_HERE = "staging."
# One makes `refunds` before it is refused, the other has a prefix.
OF_OTHER_TESTS = {"refunds", "full.refunds", "full.bulk"}


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    with RabbitServer() as server:
        connection = server.connection()
        channel = connection.channel()
        channel.queue_declare("bulk", durable=True, auto_delete=False)
        channel.basic_publish(amqp.Message("theirs"), routing_key="bulk")
        connection.close()
        yield server


def finding(rabbit: RabbitServer, **more: str) -> doctor.Finding:
    chosen = {PREFIX + name: value for name, value in ({"BROKER_URL": rabbit.url} | more).items()}
    return doctor._broker(load_settings(chosen))


def request(deployment: Deployment, queue: str, **more: Any) -> None:
    """Send a refund request over Celery, as docs/api.md says."""
    fields = {"kind": "withdrawal", "to": "source", "customer_id": "nobody", "credits": 1, "reason": "asked"}
    with Celery(broker=deployment.settings.broker_url.get_secret_value(), set_as_current=False) as app:
        kwargs = fields | {"idempotency_key": "1", "client": "shop"}
        app.send_task("refund_worker.request_refund", queue=Queue(queue, no_declare=True), kwargs=kwargs, **more)


def test_prefix_keeps_apart_from_a_queue_of_the_same_name(rabbit: RabbitServer, tmp_path: Path) -> None:
    assert finding(rabbit, BROKER_PREFIX=PREFIX_HERE).verdict == "ok"
    with Deployment(tmp_path, {"BROKER_PREFIX": PREFIX_HERE}, broker_url=rabbit.url) as deployment:
        deployment.start("worker")
        deployment.celery()
        deployment.settle([*deployment.ask(publish=True), *deployment.ask(publish=True, bulk=True)])
        request(deployment, PREFIX_HERE + "refunds")
        wait_until(lambda: "a request from the broker is refused" in deployment.log("worker"))
        # Celery makes no names of its own.
        assert rabbit.names("queues") - OF_OTHER_TESTS == {"bulk", "staging.refunds", "staging.bulk"}
        made = {name for name in rabbit.names("exchanges") if not name.startswith("amq.")}
        assert made - OF_OTHER_TESTS == {"staging.refunds"}
        assert "alarm" not in deployment.log("worker")
        # A request that names another installation stays for it.
        request(deployment, PREFIX_HERE + "refunds", headers={"installation": "inst_" + "0" * 32})
        wait_until(lambda: f"of another installation (inst_{'0' * 32})" in deployment.log("worker"))
        deployment.stop("worker")
        assert deployment.log("worker").count("is refused") == 1
    with rabbit.connection() as connection:
        channel = connection.channel()
        assert channel.queue_declare("bulk", passive=True).message_count == 1, "theirs"
        left = PREFIX_HERE + "refunds"
        wait_until(lambda: channel.queue_declare(left, passive=True).message_count == 1)  # a quorum queue counts later


def test_queue_with_other_properties_is_named_by_doctor_and_worker(rabbit: RabbitServer, tmp_path: Path) -> None:
    found = finding(rabbit)
    assert found.verdict == "fail"
    assert "PRECONDITION_FAILED" in found.found
    assert "queue 'bulk'" in found.found
    assert "BROKER_PREFIX" in found.do
    with Deployment(tmp_path, broker_url=rabbit.url) as deployment:
        deployment.start("worker")
        wait_until(lambda: "the worker ended unexpectedly" in deployment.log("worker"))
        log = deployment.log("worker")
        assert "the broker refuses what a worker needs (PreconditionFailed" in log
        assert "queue 'bulk'" in log
        assert "Traceback" not in log
        assert not deployment.is_alive("worker"), "it never was ready"


def test_queue_of_an_earlier_build_is_named_as_such(rabbit: RabbitServer) -> None:
    with rabbit.connection() as connection:
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": -1}
        connection.channel().queue_declare("old.refunds", durable=True, auto_delete=False, arguments=arguments)
        found = finding(rabbit, BROKER_PREFIX="old.")
        assert (found.verdict, "'old.refunds'" in found.found) == ("fail", True), found
        assert "an earlier build made this queue: delete it" in found.do
        connection.channel().queue_delete("old.refunds")
        connection.channel().exchange_delete("old.refunds")


def test_user_without_rights_is_a_fault(rabbit: RabbitServer) -> None:
    found = finding(rabbit, BROKER_URL=rabbit.url.replace("guest:guest", "guest:wrong"))
    assert (found.verdict, "ACCESS_REFUSED" in found.found) == ("fail", True)
    assert "correct user and password" in found.do
    assert "wrong" not in found.found


def test_vhost_that_is_missing_is_named(rabbit: RabbitServer) -> None:
    found = finding(rabbit, BROKER_URL=rabbit.url.removesuffix("//") + "/nowhere")
    assert (found.verdict, "NOT_ALLOWED" in found.found, "nowhere" in found.found) == ("fail", True, True)
    assert "correct the vhost" in found.do


@pytest.mark.timeout(240)
def test_rabbitmq_without_memory_delays_no_request(rabbit: RabbitServer) -> None:
    # RabbitMQ then reads nothing more from a connection that publishes, also not to answer it.
    settings = load_settings({PREFIX + "BROKER_URL": rabbit.url, PREFIX + "BROKER_PREFIX": "full."})
    publish = make_publisher(settings)
    publish(["rf_1"], False)
    scheduler = Publisher(settings, rabbit.url, socket_seconds=1.0)
    rabbit.control("set_vm_memory_high_watermark", "0.00001")
    try:
        began = time.monotonic()
        publish(["rf_2"], False)
        with pytest.raises(BrokerUnavailable):
            scheduler.publish(["rf_3"], bulk=False)
        with suppress(BrokerUnavailable):  # a new connection is read until it publishes
            scheduler.waiting(bulk=False)
        assert time.monotonic() - began < 10
    finally:
        rabbit.control("set_vm_memory_high_watermark", "0.6")
    wait_until(lambda: _publishes(scheduler))
    scheduler.close()


def _publishes(publisher: Publisher) -> bool:
    try:
        publisher.publish(["rf_4"], bulk=False)
    except BrokerUnavailable:
        return False
    return publisher.waiting(bulk=False) > 0
