"""The Celery application. A broker may lose and repeat messages: every setting here follows from that."""

from __future__ import annotations

import socket
from typing import Any

from celery import Celery
from kombu import entity

from refund_worker.settings import Settings
from refund_worker.worker.broker_tls import celery_tls
from refund_worker.worker.embedded_broker.broker import url_if_running
from refund_worker.worker.queues import HARD_LIMIT_SECONDS, QUEUES, SOFT_LIMIT_SECONDS, name_at_broker

SOCKET_SECONDS = 5.0
VISIBILITY_SECONDS = 600.0
DELIVERIES_MAX = 1_000_000_000
REDIS_TRANSPORT = "refund_worker.worker.celery_app.redis_transport:Transport"


class Application(Celery):
    """A Celery application that uses only the broker it was given.

    Celery itself obeys CELERY_BROKER_URL and similar variables. A backend in the same environment may have set them for
    its own broker, and none of our checks has seen them.
    """

    backend_cls = "disabled"

    def connection_for_read(self, url: str | None = None, **named: Any) -> Any:
        """Return a connection to `url`, or to the broker of this application."""
        return super().connection_for_read(url or self.conf["broker_url"], **named)

    def connection_for_write(self, url: str | None = None, **named: Any) -> Any:
        """Return a connection to `url`, or to the broker of this application."""
        return super().connection_for_write(url or self.conf["broker_url"], **named)


def make_app(
    settings: Settings, url: str | None = None, *, socket_seconds: float = SOCKET_SECONDS, tries: int | None = None
) -> Celery:
    """Return an application on the broker of the settings, or on `url`.

    A socket operation may take `socket_seconds`. A publish connects at most `tries` times (None: for ever).
    """
    url = url or url_if_running(settings) or "memory://"
    app = Application("refund_worker", set_as_current=False, fixups=[])
    queues = [name_at_broker(settings, name) for name in QUEUES]
    app.conf.update(_settings(url, queues, socket_seconds, tries))
    if url.startswith(("redis://", "rediss://")):
        app.conf.broker_transport_options |= {"our_queues": tuple(queues)} | _own_keys(settings)
    return app


def _settings(url: str, queues: list[str], socket_seconds: float, tries: int | None) -> dict[str, Any]:
    is_amqp = url.startswith("amqp")
    url, tls = celery_tls(url)
    return {
        "broker_url": url,
        "broker_transport": REDIS_TRANSPORT if url.startswith(("redis://", "rediss://")) else None,
        "broker_use_ssl": tls,
        "broker_transport_options": _amqp_options(socket_seconds, tries) if is_amqp else _redis_options(socket_seconds),
        "broker_connection_timeout": socket_seconds,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": tries,
        "broker_heartbeat": 30,
        # JSON only: to unpickle a message would be to run it.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "result_backend": None,
        "task_ignore_result": True,
        "task_queues": [_queue(name, queues[0], is_amqp) for name in queues],
        "task_default_queue": queues[0],
        "task_default_exchange": queues[0],
        "task_default_exchange_type": "topic" if is_amqp else "direct",
        "task_default_routing_key": queues[0],
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": True,
        "task_publish_retry": False,
        "task_soft_time_limit": SOFT_LIMIT_SECONDS,
        "task_time_limit": HARD_LIMIT_SECONDS,
        "worker_consumer": "refund_worker.worker.celery_app.consumer:Consumer",
        "worker_prefetch_multiplier": 1,
        "worker_max_tasks_per_child": 1000,
        # On a busy machine, opening the database and importing an SDK takes longer than the default of 4 s.
        "worker_proc_alive_timeout": 30.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Otherwise anyone who can write to the broker could stop every worker.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_log_color": False,
    }


# kombu has only partial types.
Exchange: Any = entity.Exchange
Queue: Any = entity.Queue


def _queue(name: str, exchange_name: str, is_amqp: bool) -> Any:
    if not is_amqp:
        return Queue(name, Exchange(name, type="direct"), routing_key=name)
    # For quorum queues Celery sets up delayed delivery, which needs a topic exchange.
    exchange = Exchange(exchange_name, type="topic")
    # In effect no limit: a request that waits for the database is delivered again and again, and RabbitMQ 4 deletes a
    # message after twenty deliveries. It knows -1 for none, but RabbitMQ 3 deletes each message that comes back then,
    # also from a worker that died. Unreadable messages are not put back, so none circulates for ever.
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERIES_MAX}
    return Queue(name, exchange, routing_key=name, queue_arguments=arguments)


def _redis_options(socket_seconds: float) -> dict[str, Any]:
    return {
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "queue_order_strategy": "priority",
        # Without a time-out a frozen or half-open connection would block its user for ever.
        "socket_timeout": socket_seconds,
        "socket_connect_timeout": socket_seconds,
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(),
        "health_check_interval": 5,
        "retry_on_timeout": False,
        "max_retries": 0,
    }


def _own_keys(settings: Settings) -> dict[str, str]:
    """Return the names of the keys that kombu shares between all applications of a Redis database.

    Kombu's option for a prefix of all keys is not used: it would be needed in each Celery caller too.
    """
    names = {
        "unacked_key": "unacked",
        "unacked_index_key": "unacked_index",
        "unacked_mutex_key": "unacked_mutex",
        "keyprefix_queue": "_kombu.binding.%s",
        "keyprefix_binding_deadlines": "_kombu.binding_deadlines",
        "keyprefix_binding_permanent": "_kombu.binding_permanent.%s",
    }
    return {option: name_at_broker(settings, name) for option, name in names.items()}


def _keepalive() -> dict[int, int]:
    """Return seconds until the first probe, seconds between probes, and their number, if the system supports them."""
    wanted = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    return {getattr(socket, name): value for name, value in wanted if hasattr(socket, name)}


def _amqp_options(socket_seconds: float, tries: int | None) -> dict[str, Any]:
    # A consumer's time-out is above the heartbeat, which finds a dead connection. A publisher must not wait so
    # long: RabbitMQ without memory or disk space reads nothing more from a connection that publishes.
    read_seconds = max(60.0, socket_seconds) if tries is None else socket_seconds
    return {
        "confirm_publish": True,
        "connect_timeout": socket_seconds,
        "read_timeout": read_seconds,
        "write_timeout": socket_seconds,
        "max_retries": 0,
    }
