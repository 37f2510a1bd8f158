"""A consumer that a message can't end: with Celery's own, one without a body comes back after every restart, for ever.

Celery is handed no message as it came, but a task made anew (`messages.py`), with Redis as with RabbitMQ.

What is broken earlier, within the envelope, is thrown away by the transport.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import consumer, state

from refund_worker.worker.celery_app.messages import JSON, UTF_8, NotOurs, bound_compression, cleaned

log = logging.getLogger("refund_worker.worker")

AGAIN_SECONDS_MAX = 3


def make_ours(message: Any) -> None:
    """Write into a message of any transport what is left of it when it is cleaned. Raises `NotOurs`.

    What the broker itself needs to hear of it, its tag, is left.
    """
    task = cleaned(message.headers, message.body, message.content_type, message.content_encoding)
    came = message.delivery_info or {}
    places = ((name, came.get(name)) for name in ("exchange", "routing_key"))
    message.headers, message.body = task.headers, task.body
    message.content_type, message.content_encoding = JSON, UTF_8
    message.properties = {}
    message.delivery_info = {name: place for name, place in places if isinstance(place, str)}
    message.delivery_info["redelivered"] = came.get("redelivered") is True
    message._decoded_cache = None  # where kombu keeps what it once decoded


class Consumer(consumer.Consumer):
    """Celery's consumer; a message that breaks its handling is thrown away with an alarm."""

    def __init__(self, *args: Any, **named: Any) -> None:
        bound_compression()
        super().__init__(*args, **named)

    def create_task_handler(self, *args: Any, **named: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **named)
        of_the_broker = (*self.connection_errors, *self.app.connection_for_read().channel_errors)

        def handle_safely(message: Any) -> Any:
            try:
                make_ours(message)
                return handle(message)
            except of_the_broker:
                raise
            except NotOurs as why:
                return self._throw_away(message, str(why))
            except Exception:
                log.exception("alarm: a message that can't be read is thrown away")
                return message.reject_log_error(log, of_the_broker)

        return handle_safely

    def ensure_connected(self, conn: Any) -> Any:
        """Celery's waits grow to half a minute, for which workers would stand idle beside a broker that is back."""

        def tell(error: Exception, _seconds: float) -> None:
            log.warning("the broker can't be reached: %s:%s (%s)", conn.hostname, conn.port, type(error).__name__)

        connected = conn.ensure_connection(
            tell, None, interval_start=1, interval_step=1, interval_max=AGAIN_SECONDS_MAX, callback=state.maybe_shutdown
        )
        self.first_connection_attempt = False
        return connected

    # Celery's own would write the whole message into the log.

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body is not what it says it is."""
        self._throw_away(message, f"it can't be decoded, {type(exc).__name__}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """The body is of a kind that is not accepted (a pickle), or has not the form of a task."""
        self._throw_away(message, f"it is no task, {type(exc).__name__}")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """It names no task."""
        self._throw_away(message, "it names no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """It names a task that is not ours."""
        self._throw_away(message, "it names a task that is not ours")

    def _throw_away(self, message: Any, why: str) -> None:
        log.error("alarm: a message is thrown away: %s", why)
        message.reject_log_error(log, self.connection_errors)
