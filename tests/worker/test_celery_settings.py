"""The Celery settings that this program relies on, on the application that workers and publishers really make."""

from __future__ import annotations

import inspect
from typing import Any

import amqp
import pytest
from celery import Celery, Task
from celery.app.defaults import NAMESPACES, flatten
from celery.backends.base import DisabledBackend

from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app import app as celery_application
from refund_worker.worker.celery_app.app import REDIS_TRANSPORT, VISIBILITY_SECONDS, make_app
from refund_worker.worker.celery_app.redis_transport import Channel
from refund_worker.worker.queues import HARD_LIMIT_SECONDS, QUEUES, SOFT_LIMIT_SECONDS, TASKS
from refund_worker.worker.supervisor import STOP_SECONDS_MAX
from refund_worker.worker.tasks import NO_ROUND_AFTER_SECONDS, WorkerRuntime, add_tasks

REDIS, AMQP = "redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"
# kombu itself removes these, which control the tries to connect.
OF_KOMBU = {"max_retries"}


def made(url: str) -> Celery:
    settings = load_settings({PREFIX + "BROKER_URL": url})
    app = make_app(settings)
    add_tasks(app, WorkerRuntime(settings))
    app.finalize()
    return app


@pytest.fixture(params=[REDIS, AMQP], ids=["redis", "amqp"])
def app(request: pytest.FixtureRequest) -> Celery:
    return made(request.param)


def tasks_of(app: Celery) -> list[Task]:
    """Return the bound tasks: an option of a task would override the application's."""
    ours = [task for name, task in app.tasks.items() if name.startswith("refund_worker.")]
    assert len(ours) == 4
    return ours


def options_of(url: str) -> dict[str, Any]:
    """Return the options that the transport of a worker's connection really gets."""
    with made(url).connection_for_read() as connection:
        return dict(connection.transport_options)


def test_tasks_have_the_names_that_callers_use() -> None:
    names = ("advance", "advance_due", "request_refund", "request_payout")
    assert tuple(f"refund_worker.{name}" for name in names) == TASKS


def test_message_is_removed_only_after_its_task_has_ended(app: Celery) -> None:
    assert all(task.acks_late is True for task in tasks_of(app))


def test_message_of_a_killed_process_is_delivered_again(app: Celery) -> None:
    assert all(task.reject_on_worker_lost is True for task in tasks_of(app))


def test_process_takes_only_a_message_that_it_can_begin(app: Celery) -> None:
    assert app.conf.worker_prefetch_multiplier == 1


def test_each_time_limit_is_wider_than_the_one_inside_it(app: Celery) -> None:
    lease_seconds = load_settings({}).lease_seconds
    for task in tasks_of(app):
        # A round that begins as late as possible still has its lease's time; then the soft limit ends it in order.
        assert NO_ROUND_AFTER_SECONDS + lease_seconds < task.soft_time_limit < task.time_limit < STOP_SECONDS_MAX
        assert (task.soft_time_limit, task.time_limit) == (SOFT_LIMIT_SECONDS, HARD_LIMIT_SECONDS)


def test_redis_redelivers_only_long_after_the_time_limit() -> None:
    visible_again = options_of(REDIS)["visibility_timeout"]
    assert visible_again == VISIBILITY_SECONDS > 2 * HARD_LIMIT_SECONDS
    # The broker checks this often enough that a message comes again soon after that time.
    assert options_of(REDIS)["unacked_restore_interval"] < visible_again / 10


def test_processes_are_replaced_after_many_tasks(app: Celery) -> None:
    assert 0 < app.conf.worker_max_tasks_per_child <= 10_000


def test_results_are_not_stored(app: Celery) -> None:
    assert isinstance(app.backend, DisabledBackend)
    assert all(task.ignore_result is True for task in tasks_of(app))


@pytest.mark.parametrize("url", [REDIS, AMQP])
def test_variables_of_celery_change_neither_broker_nor_results(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend in the same environment may have set these variables for itself."""
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        monkeypatch.setenv("CELERY_" + name, "redis://:secret@cache.example/7")
    app = made(url)
    with app.producer_pool.acquire(block=False) as producer:
        written = producer.__connection__
        for connection in (app.connection_for_read(), app.connection_for_write(), written):
            assert (connection.hostname, connection.port) == ("127.0.0.1", 1)
            assert connection.transport_cls == (REDIS_TRANSPORT if url == REDIS else "amqp")
    assert isinstance(app.backend, DisabledBackend)


def test_only_json_is_accepted_and_sent(app: Celery) -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.result_serializer == "json"
    assert all(task.serializer == "json" for task in tasks_of(app))


def test_remote_control_of_workers_is_off(app: Celery) -> None:
    assert app.conf.worker_enable_remote_control is False


def test_worker_waits_for_its_broker_and_a_publisher_tries_once(app: Celery) -> None:
    assert app.conf.broker_connection_retry_on_startup is True
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.task_publish_retry is False


def test_celery_knows_every_setting_by_name(app: Celery) -> None:
    known = {name for name, _ in flatten(NAMESPACES)}
    url = app.conf.broker_url
    assert set(celery_application._settings(url, list(QUEUES), celery_application.SOCKET_SECONDS, None)) <= known


def test_redis_uses_our_transport_with_known_options() -> None:
    assert made(REDIS).conf.broker_transport == REDIS_TRANSPORT
    options = options_of(REDIS)
    assert set(options) - OF_KOMBU <= set(Channel.from_transport_options)
    # A half-open connection is noticed, because every wait on a socket is limited.
    assert all(options[name] > 0 for name in ("socket_timeout", "socket_connect_timeout", "health_check_interval"))
    # Interactive work first, in the order of the queues.
    assert options["queue_order_strategy"] == "priority"
    assert [queue.name for queue in made(REDIS).conf.task_queues] == list(QUEUES)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0"])
def test_redis_uses_our_transport_with_and_without_tls(url: str) -> None:
    assert made(url).conf.broker_transport == REDIS_TRANSPORT
    assert made(AMQP).conf.broker_transport is None


def test_rabbitmq_gets_its_own_options_and_none_of_redis() -> None:
    assert made(AMQP).conf.broker_transport is None
    options = options_of(AMQP)
    assert not set(options) & set(Channel.from_transport_options)
    assert set(options) - OF_KOMBU <= set(inspect.signature(amqp.Connection.__init__).parameters)
    assert options["confirm_publish"] is True
    # The heartbeat finds a dead connection first, which an unlimited wait would prevent.
    assert options["read_timeout"] > made(AMQP).conf.broker_heartbeat > 0
    assert options["write_timeout"] > 0


def test_rabbitmq_queues_survive_the_loss_of_a_server() -> None:
    queues = made(AMQP).conf.task_queues
    assert [queue.name for queue in queues] == list(QUEUES)
    for queue in queues:
        assert queue.queue_arguments["x-queue-type"] == "quorum"
        # A request that waits is not deleted; tests/worker/test_rabbitmq.py sees one come back.
        assert 10**6 < queue.queue_arguments["x-delivery-limit"] < 2**31
        assert queue.durable
        assert queue.exchange.type == "topic"
    # Quorum queues have no prefetch limit for the whole channel: Celery detects them and sets it for each consumer.
    assert made(AMQP).conf.worker_detect_quorum_queues is True
    assert all(not queue.queue_arguments for queue in made(REDIS).conf.task_queues)
