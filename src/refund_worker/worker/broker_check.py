"""Checks that the broker lets this program do what a worker and the rate limiter do, for `refund-worker doctor`.

A worker declares its queues, publishes, waits for a message and acknowledges it. The check does the same with a queue
of its own, which it deletes, and takes a slot of the rate limiter under a name of its own.
"""

from __future__ import annotations

import contextlib
import secrets
import ssl
import time
from typing import Any, NamedTuple

import redis
from kombu import entity

from refund_worker.settings import Settings
from refund_worker.worker import installation_marks
from refund_worker.worker.broker_cause import cause_of
from refund_worker.worker.broker_tls import for_redis_py
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.celery_app.redis_transport import NOT_OURS
from refund_worker.worker.limiter import TAKE_SLOT, TURNS
from refund_worker.worker.queues import QUEUES, name_at_broker

PROBE = "doctor"
# Keys of other applications are searched for no longer than this.
SEARCH_SECONDS_MAX = 2.0
NAMES_SHOWN = 5

START = "start the broker; requests are accepted meanwhile"
FULL = "free memory or disk space at the broker, if it is up; requests are accepted meanwhile"
VHOST = "correct the vhost in REFUND_WORKER_BROKER_URL, or add it with this user's permissions, or raise its limits"
SIGN_IN = "correct user and password in REFUND_WORKER_BROKER_URL"
TLS = "correct the scheme and the TLS options in REFUND_WORKER_BROKER_URL, or the broker's certificate"
SHARED = "set REFUND_WORKER_BROKER_PREFIX, or give refund-worker a Redis database or a vhost of its own"
PREFIXES = "set REFUND_WORKER_BROKER_PREFIX in one of the two: each takes the other's messages"
EARLIER = "an earlier build made this queue: delete it when it is empty, and a worker makes it again"
RIGHTS = "give this user the rights that docs/operations.md lists (A shared broker)"

# The words of RabbitMQ, and those of Redis about the commands of a script.
NO_RIGHTS = ("ACCESS_REFUSED", "can't run this command", "can't access")

# kombu has only partial types.
Queue: Any = entity.Queue


class Trouble(NamedTuple):
    """A fault of the broker, and its remedy. `fails` says that a worker could not work."""

    found: str
    do: str
    fails: bool = True


def trouble_with_broker(settings: Settings, seconds: float, installation: str | None = None) -> Trouble | None:
    """Return what keeps a worker from working at the broker of the settings, or None. Each step takes `seconds`.

    `installation` is our own id, if the database could be asked.
    """
    url = settings.broker_url.get_secret_value()
    is_redis = url.startswith(("redis://", "rediss://"))
    try:
        if is_redis:
            with redis.from_url(for_redis_py(url), socket_timeout=seconds, socket_connect_timeout=seconds) as client:
                client.ping()
                trouble = _cluster(client)
                if trouble is not None:
                    return trouble
                _take_a_slot(settings, client)
                _work_once(settings, seconds)
                return _others(settings, client, installation)
        _work_once(settings, seconds)
    except Exception as error:  # noqa: BLE001 - py-amqp raises its own errors, some of them no OSError
        return _of_error(error)
    return None


def _of_error(error: Exception) -> Trouble:
    text = " ".join(str(error).split())
    cause = cause_of(error)
    if cause is not None:
        advice = "`refund-worker explain broker_unavailable` says more"
        return Trouble(f"{cause.found} ({type(error).__name__})", f"{cause.do}; {advice}")
    for words, remedy in (("NOT_ALLOWED", VHOST), ("limit in vhost", VHOST), ("Login was refused", SIGN_IN)):
        if words in text:
            return Trouble(text, remedy)
    if isinstance(error, redis.AuthenticationError):
        return Trouble(f"{type(error).__name__}: {text}", SIGN_IN)
    if "x-delivery-limit" in text:
        return Trouble(text, EARLIER)
    if "PRECONDITION_FAILED" in text:
        return Trouble(text, f"another application has a queue of this name: {SHARED}")
    if isinstance(error, redis.exceptions.NoPermissionError) or any(part in text for part in NO_RIGHTS):
        return Trouble(text, RIGHTS)
    if isinstance(error, TypeError):  # an option of the URL that its client does not know
        return Trouble(text, "remove this option from REFUND_WORKER_BROKER_URL")
    if isinstance(error, redis.ResponseError) or (isinstance(error, redis.ConnectionError) and "clients" in text):
        return Trouble(f"{type(error).__name__}: {text}", "correct this at the broker; requests are accepted meanwhile")
    why = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or type(error).__name__
    if isinstance(error, ssl.SSLError):
        return Trouble(why, TLS)
    return Trouble(why, FULL if isinstance(error, TimeoutError) else START)


def _cluster(client: redis.Redis) -> Trouble | None:
    try:
        info: Any = client.info("cluster")
    except redis.ResponseError:  # this user may not ask
        return None
    if not info.get("cluster_enabled"):
        return None
    return Trouble("it is a Redis Cluster", "name a Redis or Valkey that is no cluster: Celery cannot use one")


def _take_a_slot(settings: Settings, client: redis.Redis) -> None:
    client.register_script(TAKE_SLOT)(keys=[name_at_broker(settings, TURNS) + PROBE], args=[1, 1])


def _work_once(settings: Settings, seconds: float) -> None:
    """Do a worker's work once. Raises the error of the broker's client."""
    app = make_app(settings, socket_seconds=seconds, tries=0)
    name = name_at_broker(settings, f"{QUEUES[0]}.{PROBE}-{secrets.token_hex(4)}")
    with app, app.connection_for_write() as connection:
        connection.connect()
        channel = connection.default_channel
        for queue in app.conf.task_queues:
            queue(channel).declare()
        probe = Queue(name, durable=False, exclusive=True, auto_delete=True)(channel)
        try:
            probe.declare()
            connection.Producer(serializer="json").publish(PROBE, exchange="", routing_key=name, retry=False)
            with connection.Consumer([probe], callbacks=[lambda _body, message: message.ack()], accept=["json"]):
                connection.drain_events(timeout=seconds)
        finally:
            with contextlib.suppress(Exception):  # the error above is the one to report
                probe.delete()


def _others(settings: Settings, client: redis.Redis, installation: str | None) -> Trouble | None:
    """Look for others with our queues, for other Celery applications here, and for tasks of theirs in our queues."""
    found = installation_marks.others(settings, client, installation)
    if found:
        named = ", ".join(found[:NAMES_SHOWN])
        return Trouble(f"another installation of refund-worker reads the same queues ({named})", PREFIXES, fails=False)
    kept = {queue: client.llen(queue) for name in QUEUES if (queue := name_at_broker(settings, name) + NOT_OURS)}
    for queue, number in kept.items():
        if number:
            return Trouble(f"{number} tasks of another application are kept in the list {queue}", SHARED, fails=False)
    if settings.broker_prefix:
        return None
    queues = sorted(_bound_queues(client) - set(QUEUES))
    if not queues:
        return None
    shown = ", ".join(queues[:NAMES_SHOWN])
    return Trouble(f"another Celery application uses this Redis database (its queue: {shown})", SHARED, fails=False)


def _bound_queues(client: redis.Redis) -> set[str]:
    begins, names, until = "_kombu.binding.", set(), time.monotonic() + SEARCH_SECONDS_MAX
    with contextlib.suppress(redis.ResponseError):  # this user may not search
        for key in client.scan_iter(match=begins + "*", count=1000):
            names.add(bytes(key).decode(errors="replace").removeprefix(begins))
            if time.monotonic() > until:
                break
    return names
