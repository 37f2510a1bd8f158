"""Marks of the installations that use a Redis, so that two of them without prefixes notice each other.

Two databases whose workers read the same queues take each other's messages. Our own messages name their installation,
and a worker of another one leaves them alone. A backend's requests need not name one: they would be taken unnoticed.
"""

from __future__ import annotations

from typing import Any

import redis

from refund_worker.settings import Settings
from refund_worker.worker.broker_tls import for_redis_py
from refund_worker.worker.embedded_broker.broker import url_if_running
from refund_worker.worker.queues import name_at_broker

# A sorted set: the ids of installations with the seconds of the server's clock at their latest mark.
MARKS = "refund-worker:installations"
MARK_SECONDS = 60.0
# An installation without a mark for this time has ended, or it has a prefix of its own by now.
FORGET_SECONDS = 600
SOCKET_SECONDS = 1.0


def mark(settings: Settings, installation: str) -> list[str]:
    """Mark this installation as a user of the broker, and return the ids of others that use the same keys.

    Without a Redis, or while it cannot be used, there are none.
    """
    url = url_if_running(settings)
    if url is None or not url.startswith(("redis://", "rediss://")):
        return []
    key = name_at_broker(settings, MARKS)
    limits = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": SOCKET_SECONDS}
    try:
        with redis.from_url(for_redis_py(url), **limits) as client:
            now = _now(client)
            client.zadd(key, {installation: now})
            client.zremrangebyscore(key, "-inf", now - FORGET_SECONDS)
            client.expire(key, FORGET_SECONDS)
            return others(settings, client, installation)
    except (redis.RedisError, OSError):
        return []


def others(settings: Settings, client: redis.Redis, installation: str | None) -> list[str]:
    """Return the ids of the installations that use the same keys of this Redis, without our own.

    While our own id is unknown (None), one mark counts as ours.
    """
    found: Any = client.zrangebyscore(name_at_broker(settings, MARKS), _now(client) - FORGET_SECONDS, "+inf")
    ids = sorted(bytes(each).decode(errors="replace") for each in found)
    return ids[1:] if installation is None else [each for each in ids if each != installation]


def _now(client: redis.Redis) -> int:
    clock: Any = client.time()
    return int(clock[0])
