"""A Redis that others use too: deployments with and without prefixes, a host application with queues of our names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Queue
from tests.support.brokers import RedisServer
from tests.support.deployment import Deployment, wait_until
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases, ValkeyServer

from refund_worker.cli import doctor
from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app.app import VISIBILITY_SECONDS, make_app
from refund_worker.worker.celery_app.redis_transport import NOT_OURS_MAX
from refund_worker.worker.installation_marks import FORGET_SECONDS, MARKS, mark
from refund_worker.worker.publisher import make_publisher

pytestmark = pytest.mark.slow

STAGING, PRODUCTION = "staging:", "production:"


def client_of(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5)


def url_of(client: redis.Redis) -> str:
    options = client.get_connection_kwargs()
    return f"redis://{options['host']}:{options['port']}/0"


def host_task(queue: str, tag: str) -> str:
    """Return a message of the host's own task, as its Celery writes it."""
    properties = {
        "correlation_id": "1",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": tag,
    }
    message = {"body": "W1tdLHt9LHt9XQ==", "content-encoding": "utf-8", "content-type": "application/json"}
    return json.dumps(message | {"headers": {"task": "shop.mail", "id": "1"}, "properties": properties})


def begin_host_task(client: redis.Redis, queue: str) -> None:
    """Store a task of the host as begun before our visibility timeout: its own timeout may be an hour."""
    client.hset("unacked", queue, json.dumps([json.loads(host_task(queue, queue)), "", queue]))
    client.zadd("unacked_index", {queue: time.time() - VISIBILITY_SECONDS - 60})


def request(deployment: Deployment, queue: str, key: str = "1", **more: Any) -> None:
    """Send a refund request over Celery, as docs/api.md says."""
    fields = {"kind": "withdrawal", "to": "source", "customer_id": "nobody", "credits": 1, "reason": "asked"}
    with Celery(broker=deployment.settings.broker_url.get_secret_value(), set_as_current=False) as app:
        kwargs = fields | {"idempotency_key": key, "client": "shop"}
        app.send_task("refund_worker.request_refund", queue=Queue(queue, no_declare=True), kwargs=kwargs, **more)


@contextmanager
def consuming(url: str) -> Iterator[Any]:
    """Open a connection that takes messages as a worker does."""
    with (
        make_app(load_settings({PREFIX + "BROKER_URL": url})) as app,
        app.connection_for_read() as connection,
        connection.Consumer(list(app.conf.task_queues), accept=["json"]),
    ):
        yield connection


def work_and_refuse(deployment: Deployment) -> None:
    """Let a worker refuse a request over Celery and pay refunds of both queues."""
    deployment.celery()
    request(deployment, f"{deployment.settings.broker_prefix}refunds")
    wait_until(lambda: "a request from the broker is refused" in deployment.log("worker"))
    deployment.settle([*deployment.ask(publish=True), *deployment.ask(publish=True, bulk=True)])


def deployment_with(prefix: str, shared: redis.Redis, folder: Path) -> Deployment:
    folder.mkdir()
    clocks = {"BROKER_PREFIX": prefix, "STRIPE_RATE_PER_SECOND": "50", "SWEEP_SECONDS": "3600"}
    return Deployment(folder, clocks, broker_url=url_of(shared))


@pytest.mark.parametrize(
    ("server", "prefixes"),
    [(ValkeyServer, (STAGING, PRODUCTION)), (RedisServer, (STAGING,))],
    ids=["two deployments on Valkey", "one on Redis"],
)
def test_deployments_with_prefixes_and_a_host_share_one_redis(
    server: type[ValkeyServer], prefixes: tuple[str, ...], tmp_path: Path
) -> None:
    with ExitStack() as opened:
        shared = opened.enter_context(client_of(opened.enter_context(server()).url))
        shared.rpush("bulk", host_task("bulk", "waiting"))
        begin_host_task(shared, "bulk")
        host = {key: shared.dump(key) for key in shared.scan_iter()}
        deployments = [opened.enter_context(deployment_with(prefix, shared, tmp_path / prefix)) for prefix in prefixes]
        for deployment in deployments:
            deployment.start("worker")
        for deployment in deployments:
            work_and_refuse(deployment)
        for deployment in deployments:
            assert deployment.log("worker").count("is refused: unknown_customer (client 'shop'") == 1
            assert "alarm" not in deployment.log("worker")
        # Exactly the host's keys are left, unchanged, although its begun task is older than our visibility timeout.
        ours = tuple(prefix.encode() for prefix in prefixes)
        assert {key: shared.dump(key) for key in shared.scan_iter() if not key.startswith(ours)} == host
        assert [key for key in shared.scan_iter() if key.startswith(b"staging:_kombu")]


def test_without_a_prefix_a_hosts_tasks_are_kept_and_not_begun_again(redis_url: str, tmp_path: Path) -> None:
    with client_of(redis_url) as client, Deployment(tmp_path, broker_url=redis_url) as ours:
        # One was begun by the host from a queue with the name of ours, one from another queue.
        begin_host_task(client, "bulk")
        begin_host_task(client, "mail")
        begun = client.hgetall("unacked")
        for number in range(3):
            client.lpush("bulk", host_task("bulk", str(number)))
        waiting = client.lrange("bulk", 0, -1)
        ours.start("worker")
        wait_until(lambda: client.llen("bulk.not-ours") == 3)
        ours.settle(ours.ask(publish=True, bulk=True))
        kept = client.lrange("bulk.not-ours", 0, -1)
        assert [json.loads(text) for text in kept] == [json.loads(text) for text in waiting]
        wait_until(lambda: client.hgetall("unacked") == begun)
        assert client.llen("mail") == client.llen("bulk") == 0
        assert ours.log("worker").count("it is kept in the list bulk.not-ours") == 3


def test_kept_tasks_of_others_do_not_fill_the_broker(redis_url: str) -> None:
    with client_of(redis_url) as client:
        client.lpush("bulk.not-ours", *("x" for _ in range(NOT_OURS_MAX)))
        client.lpush("bulk", host_task("bulk", "newest"))
        with consuming(redis_url) as connection:
            connection.drain_events(timeout=5)
        assert client.llen("bulk.not-ours") == NOT_OURS_MAX
        assert b"shop.mail" in (client.lindex("bulk.not-ours", 0) or b"")


@pytest.mark.parametrize("server", [ValkeyServer, RedisServer], ids=["Valkey", "Redis"])
def test_task_of_others_is_kept_by_a_full_broker(server: type[ValkeyServer]) -> None:
    with server() as started, client_of(started.url) as client, consuming(started.url) as connection:
        client.lpush("bulk", host_task("bulk", "1"))
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.lpush("bulk", host_task("bulk", "2"))
        connection.drain_events(timeout=5)
        assert [json.loads(text)["headers"]["task"] for text in client.lrange("bulk.not-ours", 0, -1)] == ["shop.mail"]
        assert client.llen("bulk") == 0


def test_task_of_others_that_redis_refuses_is_stored_later(redis_url: str) -> None:
    with client_of(redis_url) as client:
        client.set("bulk.not-ours", "no list")
        client.lpush("bulk", host_task("bulk", "1"))
        with consuming(redis_url) as connection:
            connection.drain_events(timeout=5)
        client.delete("bulk.not-ours")
        # The connection may have broken meanwhile: the next one stores it.
        with consuming(redis_url) as connection:
            client.lpush("bulk", host_task("bulk", "2"))
            connection.drain_events(timeout=5)
        assert client.llen("bulk.not-ours") == 2


def test_installations_without_prefixes_notice_each_other(
    redis_url: str, postgres_server: PostgresDatabases, tmp_path: Path
) -> None:
    database_url = postgres_server.create(migrate)
    folders = [tmp_path / name for name in ("production", "staging")]
    for folder in folders:
        folder.mkdir()
    with (
        client_of(redis_url) as client,
        Deployment(folders[0], broker_url=redis_url, database_url=database_url) as production,
        Deployment(folders[1], broker_url=redis_url) as staging,
    ):
        assert doctor._broker(production.settings).verdict == "ok"
        staging.start("worker")
        ours, theirs = production.context.installation, staging.context.installation
        # Only staging's worker runs, and it gets every message. It takes its own and those that name no installation.
        unnamed = staging.ask()
        make_publisher(staging.settings)(unnamed, False)
        staging.settle([*staging.ask(publish=True), *unnamed])
        ids = production.ask(publish=True)
        alarm = f"the queue has messages of another installation ({ours})"
        wait_until(lambda: alarm in staging.log("worker"), pause=0.1)
        request(production, "refunds", "named", headers={"installation": ours})
        production.start("worker")
        wait_until(
            lambda: "is refused: unknown_customer (client 'shop', key 'named')" in production.log("worker"), pause=0.1
        )
        assert "is refused" not in staging.log("worker"), "production alone may answer a request that names it"
        # A request that names none is taken by either.
        request(production, "refunds", "unnamed")
        wait_until(lambda: "key 'unnamed'" in production.log("worker") + staging.log("worker"), pause=0.1)
        # Both mark the broker. So the operators of each learn of the other without any message.
        marked = f"another installation ({theirs}) uses the queues of this one ({ours}): set {PREFIX}BROKER_PREFIX"
        wait_until(lambda: marked in production.log("worker"), pause=0.1)
        for deployment, other in ((production, theirs), (staging, ours)):
            found = doctor._broker(deployment.settings)
            assert (found.verdict, "BROKER_PREFIX" in found.do) == ("warn", True)
            assert f"another installation of refund-worker reads the same queues ({other})" in found.found
        # The hint is lost, the refund is not.
        staging.stop("worker")
        make_publisher(production.settings)(ids, False, ours)
        production.settle([*ids, *production.ask(publish=True)])
        # A mark is forgotten ten minutes later by the server's clock.
        client.zadd(MARKS, {theirs: time.time() - FORGET_SECONDS - 5})
        assert doctor._broker(production.settings).verdict == "ok"
        assert mark(production.settings, ours) == []
        assert client.zrange(MARKS, 0, -1) == [ours.encode()]
    postgres_server.drop(database_url)
