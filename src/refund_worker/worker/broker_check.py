"""The reason why a broker cannot be used, for `refund-worker doctor`."""

from __future__ import annotations

import redis

from refund_worker.settings import Settings
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.limiter import for_redis_py


def why_no_redis(url: str, seconds: float) -> str | None:
    """Return why a Redis does not answer a ping within `seconds`, or None."""
    try:
        with redis.from_url(for_redis_py(url), socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        return type(error).__name__
    return None


def why_no_amqps(settings: Settings, seconds: float) -> str | None:
    """Return why a RabbitMQ behind TLS refuses the connection, for example for its certificate, or None."""
    try:
        app = make_app(settings, socket_seconds=seconds, tries=0)
        with app, app.connection_for_write() as connection:
            connection.connect()
    except Exception as error:  # noqa: BLE001 - py-amqp raises its own errors, some of them no OSError
        why = getattr(error, "verify_message", None) or getattr(error, "strerror", None)
        return why or type(error).__name__
    return None
