"""Helpers for tests of outgoing notifications: deliver them, and read the stored and the received ones."""

from __future__ import annotations

import base64
from typing import Any

from standardwebhooks import Webhook

from refund_worker.engine.notifications.delivery import Deliverer
from refund_worker.engine.notifications.outbox import notifications
from refund_worker.settings import PREFIX, Settings, load_settings
from tests.support.engine_world import World
from tests.support.receiver import Received

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def settings(url: str, **others: str) -> Settings:
    """Return settings that send notifications to `url`, signed with `SECRET`."""
    given = {"NOTIFY_URL": url, "NOTIFY_SECRET": SECRET, **others}
    return load_settings({PREFIX + name: value for name, value in given.items()})


def deliver(world: World, url: str, *, seconds_max: float = 5.0, **options: Any) -> int:
    """Deliver the notifications that are due and return how many were delivered."""
    return Deliverer(settings(url), seconds_max=seconds_max, **options).deliver(world.context)


def stored(world: World, **which: Any) -> list[dict[str, Any]]:
    """Return the stored notifications, filtered by `which`."""
    with world.database.read() as connection:
        return notifications(connection, **which)


def types(world: World) -> list[str]:
    """Return the types of the stored notifications, oldest first."""
    return [message["type"] for message in reversed(stored(world))]


def verified(received: Received) -> Any:
    """Return the payload after a standard webhook library has verified its signature."""
    return Webhook(SECRET).verify(received.body, received.headers)


def next_at(world: World) -> float:
    """Return the time of the next try of the only notification."""
    with world.database.read() as connection:
        return float(connection.exec_driver_sql("SELECT next_at FROM outbox").scalar_one())
