"""A consumer that no message can stop.

With Celery's own consumer, a message without a body stops the worker and comes back after every restart, for ever.
Celery gets no message as it came, but a new task made of it (`messages.py`), with Redis and with RabbitMQ. Errors
before that, in the envelope, are handled by the transport, which drops the message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import WorkerShutdown
from celery.worker import consumer, state

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.worker.celery_app.messages import JSON, UTF_8, NotOurs, bound_compression, cleaned

log = logging.getLogger(__name__)

RECONNECT_SECONDS_MAX = 3


def make_ours(message: Any) -> None:
    """Replace a message of any transport by its cleaned form. Raises `NotOurs` if it is no task of ours.

    Only its delivery tag stays, which the broker needs.
    """
    task = cleaned(message.headers, message.body, message.content_type, message.content_encoding)
    received = message.delivery_info or {}
    places = ((name, received.get(name)) for name in ("exchange", "routing_key"))
    message.headers, message.body = task.headers, task.body
    message.content_type, message.content_encoding = JSON, UTF_8
    message.properties = {}
    message.delivery_info = {name: place for name, place in places if isinstance(place, str)}
    message.delivery_info["redelivered"] = received.get("redelivered") is True
    message._decoded_cache = None  # kombu stores the decoded body here


class Consumer(consumer.Consumer):
    """Celery's consumer; a message that breaks its handling is dropped with an alarm."""

    class Blueprint(consumer.Consumer.Blueprint):
        """Celery's steps without the one that makes 28 queues for delayed tasks, which RabbitMQ would keep."""

        default_steps = [  # noqa: RUF012  (Celery's own attribute)
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        ]

    def __init__(self, *args: Any, **named: Any) -> None:
        bound_compression()
        super().__init__(*args, **named)

    def start(self) -> None:
        """Work until the worker stops. If the broker refuses a step, stop the worker with an alarm that says why."""
        try:
            super().start()
        except self.channel_errors as error:
            raise_alarm(
                log,
                Alarm.BROKER_REFUSES,
                "the broker refuses what a worker needs (%s: %s): `refund-worker doctor` says what to do",
                type(error).__name__,
                " ".join(str(error).split()),
            )
            raise WorkerShutdown(1) from None

    def create_task_handler(self, *args: Any, **named: Any) -> Callable[[Any], Any]:
        """Return a handler that cleans each message first and drops what is not ours, without its text in the log."""
        handle = super().create_task_handler(*args, **named)
        broker_errors = (*self.connection_errors, *self.app.connection_for_read().channel_errors)

        def handle_safely(message: Any) -> Any:
            try:
                make_ours(message)
                return handle(message)
            except broker_errors:
                raise
            except NotOurs as why:
                return self._discard(message, str(why))
            except Exception:  # noqa: BLE001 - foreign bytes can raise anything
                raise_alarm(log, Alarm.MESSAGE_DROPPED, "a message that cannot be read is dropped", error=True)
                return message.reject_log_error(log, broker_errors)

        return handle_safely

    def ensure_connected(self, conn: Any) -> Any:
        """Connect with short waits between the tries.

        Celery's waits grow to half a minute, during which workers would be idle although the broker is back.
        """

        def warn(error: Exception, _seconds: float) -> None:
            log.warning("the broker cannot be reached: %s:%s (%s)", conn.hostname, conn.port, type(error).__name__)

        connected = conn.ensure_connection(
            warn,
            None,
            interval_start=1,
            interval_step=1,
            interval_max=RECONNECT_SECONDS_MAX,
            callback=state.maybe_shutdown,
        )
        self.first_connection_attempt = False
        return connected

    # Celery's own handlers would write the whole message into the log.

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop a message whose body is not what its headers say."""
        self._discard(message, f"it cannot be decoded, {type(exc).__name__}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a message whose body is of a refused type (a pickle) or not in the form of a task."""
        self._discard(message, f"it is no task, {type(exc).__name__}")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Drop a message that names no task."""
        self._discard(message, "it names no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a message that names a task that is not ours."""
        self._discard(message, "it names a task that is not ours")

    def _discard(self, message: Any, why: str) -> None:
        raise_alarm(log, Alarm.MESSAGE_DROPPED, "a message is dropped: %s", why)
        message.reject_log_error(log, self.connection_errors)
