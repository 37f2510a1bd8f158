"""What this program relies on of Celery's settings, on the application that workers and doors really make."""

from __future__ import annotations

import inspect
from typing import Any

import amqp
import pytest
from celery import Celery, Task
from celery.app.defaults import NAMESPACES, flatten
from celery.backends.base import DisabledBackend
from kombu.transport.redis import Channel

from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app import app as celery_application
from refund_worker.worker.celery_app.app import REDIS_TRANSPORT, VISIBILITY_SECONDS, make_app
from refund_worker.worker.queues import HARD_LIMIT_SECONDS, QUEUES, SOFT_LIMIT_SECONDS, TASKS
from refund_worker.worker.supervisor import STOP_SECONDS_MAX
from refund_worker.worker.tasks import NO_ROUND_AFTER_SECONDS, WorkerRuntime, add_tasks

REDIS, AMQP = "redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"
# kombu itself takes these out, for how often it tries to connect.
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
    """As they are bound: an option of the task's own would go before the application's."""
    ours = [task for name, task in app.tasks.items() if name.startswith("refund_worker.")]
    assert len(ours) == 3
    return ours


def options_of(url: str) -> dict[str, Any]:
    """What the transport is really given: by the connection that a worker reads from."""
    with made(url).connection_for_read() as connection:
        return dict(connection.transport_options)


def test_the_tasks_have_the_names_that_callers_send_to() -> None:
    assert TASKS == ("refund_worker.advance", "refund_worker.advance_due", "refund_worker.request_refund")


def test_a_message_is_gone_only_when_its_task_has_ended(app: Celery) -> None:
    assert all(task.acks_late is True for task in tasks_of(app))


def test_the_message_of_a_process_that_was_killed_comes_again(app: Celery) -> None:
    assert all(task.reject_on_worker_lost is True for task in tasks_of(app))


def test_a_process_takes_no_message_that_it_can_not_begin(app: Celery) -> None:
    assert app.conf.worker_prefetch_multiplier == 1


def test_each_limit_is_wider_than_the_one_inside_it(app: Celery) -> None:
    lease_seconds = load_settings({}).lease_seconds
    for task in tasks_of(app):
        # A round that begins as late as it may has its lease's time, then the soft limit ends it in order.
        assert NO_ROUND_AFTER_SECONDS + lease_seconds < task.soft_time_limit < task.time_limit < STOP_SECONDS_MAX
        assert (task.soft_time_limit, task.time_limit) == (SOFT_LIMIT_SECONDS, HARD_LIMIT_SECONDS)


def test_redis_gives_a_message_to_another_only_long_after_its_task_must_have_ended() -> None:
    visible_again = options_of(REDIS)["visibility_timeout"]
    assert visible_again == VISIBILITY_SECONDS > 2 * HARD_LIMIT_SECONDS
    # Looked at so often that a message comes again not much later than that.
    assert options_of(REDIS)["unacked_restore_interval"] < visible_again / 10


def test_processes_are_made_anew_now_and_then(app: Celery) -> None:
    assert 0 < app.conf.worker_max_tasks_per_child <= 10_000


def test_results_are_neither_kept_nor_waited_for(app: Celery) -> None:
    assert isinstance(app.backend, DisabledBackend)
    assert all(task.ignore_result is True for task in tasks_of(app))


@pytest.mark.parametrize("url", [REDIS, AMQP])
def test_variables_of_celerys_own_lead_to_no_other_broker_and_to_no_store_of_results(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend beside us may have them, for itself."""
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        monkeypatch.setenv("CELERY_" + name, "redis://:secret@cache.example/7")
    app = made(url)
    with app.producer_pool.acquire(block=False) as producer:
        written = producer.__connection__
        for connection in (app.connection_for_read(), app.connection_for_write(), written):
            assert (connection.hostname, connection.port) == ("127.0.0.1", 1)
            assert connection.transport_cls == (REDIS_TRANSPORT if url == REDIS else "amqp")
    assert isinstance(app.backend, DisabledBackend)


def test_json_is_all_that_is_taken_and_sent(app: Celery) -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.result_serializer == "json"
    assert all(task.serializer == "json" for task in tasks_of(app))


def test_nobody_gives_orders_to_workers_over_the_broker(app: Celery) -> None:
    assert app.conf.worker_enable_remote_control is False


def test_a_worker_waits_for_its_broker_for_ever_and_a_door_publishes_once(app: Celery) -> None:
    assert app.conf.broker_connection_retry_on_startup is True
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.task_publish_retry is False


def test_no_setting_has_a_name_that_celery_does_not_know(app: Celery) -> None:
    known = {name for name, _ in flatten(NAMESPACES)}
    url = app.conf.broker_url
    assert set(celery_application._settings(url, celery_application.SOCKET_SECONDS, None)) <= known


def test_redis_is_read_by_our_transport_with_options_that_it_knows() -> None:
    assert made(REDIS).conf.broker_transport == REDIS_TRANSPORT
    options = options_of(REDIS)
    assert set(options) - OF_KOMBU <= set(Channel.from_transport_options)
    # A half-open connection is noticed: no wait on a socket is without an end.
    assert all(options[name] > 0 for name in ("socket_timeout", "socket_connect_timeout", "health_check_interval"))
    # Interactive work first, in the order of the queues.
    assert options["queue_order_strategy"] == "priority"
    assert [queue.name for queue in made(REDIS).conf.task_queues] == list(QUEUES)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0"])
def test_redis_is_read_by_our_transport_with_and_without_tls(url: str) -> None:
    assert made(url).conf.broker_transport == REDIS_TRANSPORT
    assert made(AMQP).conf.broker_transport is None


def test_rabbitmq_is_given_its_own_options_and_none_of_redis() -> None:
    assert made(AMQP).conf.broker_transport is None
    options = options_of(AMQP)
    assert not set(options) & set(Channel.from_transport_options)
    assert set(options) - OF_KOMBU <= set(inspect.signature(amqp.Connection.__init__).parameters)
    assert options["confirm_publish"] is True
    # The heartbeat finds a dead connection first; a wait without an end would never ask it.
    assert options["read_timeout"] > made(AMQP).conf.broker_heartbeat > 0
    assert options["write_timeout"] > 0


def test_rabbitmqs_queues_survive_the_loss_of_a_server() -> None:
    queues = made(AMQP).conf.task_queues
    assert [queue.name for queue in queues] == list(QUEUES)
    for queue in queues:
        assert queue.queue_arguments["x-queue-type"] == "quorum"
        assert queue.queue_arguments["x-delivery-limit"] == -1, "a request that waits is not deleted"
        assert queue.durable
        assert queue.exchange.type == "topic"
    # Quorum queues know no prefetch of the whole channel: Celery looks for them and sets it for each consumer.
    assert made(AMQP).conf.worker_detect_quorum_queues is True
    assert all(not queue.queue_arguments for queue in made(REDIS).conf.task_queues)
