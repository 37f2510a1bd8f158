"""Delivery of notifications: signed by Standard Webhooks, retried with growing waits, finally marked as
undeliverable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping
from standardwebhooks import Webhook

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.http_post import SECONDS_MAX, Lookup, Poster, resolve_host
from refund_worker.metrics import NOTIFICATION_TRIES, count
from refund_worker.settings import Settings
from refund_worker.store import outbox
from refund_worker.store.database import after_commit

log = logging.getLogger(__name__)

BATCH = 50
# With the default waits, from 2 s doubling to an hour, these tries take about a day.
TRIES_MAX = 32


class Deliverer:
    """Sends due messages of the outbox to the receiver of the settings. Parallel deliverers never send the same one
    at once.
    """

    def __init__(self, settings: Settings, *, seconds_max: float = SECONDS_MAX, lookup: Lookup = resolve_host) -> None:
        """Read the receiver from the settings. Raises `ValueError` unless NOTIFY_URL and NOTIFY_SECRET are set."""
        if settings.notify_url is None or settings.notify_secret is None:
            raise ValueError("no receiver is set")
        self._url = settings.notify_url
        self._webhook = Webhook(settings.notify_secret.get_secret_value())
        self._loopback = settings.environment == "development"
        self._seconds_max, self._lookup = seconds_max, lookup

    def deliver(self, context: Context) -> int:
        """Deliver one batch, and more while batches are full; return how many messages were delivered."""
        total = 0
        while rows := self._claim(context):
            errors = asyncio.run(self._post_all(rows))
            context.database.run(lambda connection, r=rows, e=errors: self._record(connection, context, r, e))  # type: ignore[misc]
            delivered = errors.count(None)
            count(NOTIFICATION_TRIES, "delivered", by=delivered)
            count(NOTIFICATION_TRIES, "failed", by=len(errors) - delivered)
            total += delivered
            if len(rows) < BATCH or not delivered:
                break
        return total

    def _claim(self, context: Context) -> list[RowMapping]:
        with context.database.read() as connection:
            # Usually nothing is due: then no writer is blocked.
            if not outbox.is_any_due(connection, context.clock(connection)):
                return []

        def work(connection: Connection) -> list[RowMapping]:
            now = context.clock(connection)
            return outbox.claim(connection, now, BATCH, now + 6 * self._seconds_max)

        return context.database.run(work)

    async def _post_all(self, rows: Sequence[RowMapping]) -> list[str | None]:
        async with Poster(
            self._url, loopback=self._loopback, seconds_max=self._seconds_max, lookup=self._lookup
        ) as poster:
            return await asyncio.gather(*(poster.post(row["body"].encode(), self._headers(row)) for row in rows))

    def _headers(self, row: RowMapping) -> dict[str, str]:
        second = datetime.fromtimestamp(int(time.time()), UTC)
        return {
            "Content-Type": "application/json",
            "User-Agent": "refund-worker",
            "webhook-id": row["message_id"],
            "webhook-timestamp": str(int(second.timestamp())),
            "webhook-signature": self._webhook.sign(row["message_id"], second, row["body"]),
        }

    def _record(
        self, connection: Connection, context: Context, rows: Sequence[RowMapping], errors: Sequence[str | None]
    ) -> None:
        now = context.clock(connection)
        pairs = list(zip(rows, errors, strict=True))
        outbox.mark_delivered(connection, [(row["message_id"], row["tries"]) for row, error in pairs if not error], now)
        outbox.mark_failed(connection, [_failed(connection, context, row, error, now) for row, error in pairs if error])


def _failed(connection: Connection, context: Context, row: RowMapping, error: str, now: float) -> dict[str, Any]:
    given_up = row["tries"] >= TRIES_MAX
    if given_up:
        words = "notification %s was not delivered after %d tries: %s"
        found = (row["message_id"], row["tries"], error)
        after_commit(connection, lambda: raise_alarm(log, Alarm.NOTIFICATION_GIVEN_UP, words, *found))
    return {
        "id": row["message_id"],
        "try": row["tries"],
        "next_at": None if given_up else now + wait_seconds(context, row["tries"]),
        "given_up_at": now if given_up else None,
        "last_error": error,
    }


def wait_seconds(context: Context, tries: int) -> float:
    """Return the wait after this many failed tries; it doubles up to the longest wait of the settings."""
    policy = context.policy
    return min(policy.retry_max_seconds, policy.retry_base_seconds * 2.0 ** min(tries - 1, 40))
