"""Refused webhook requests of each processor: how many, the last time, why, and whether one was accepted since."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.metrics import WEBHOOKS_REFUSED, WEBHOOKS_STORED
from refund_worker.store.reporting import metric_values

# Webhooks that were refused longer ago are not reported.
RECENT_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class RefusedWebhooks:
    """The refused webhook requests of a processor: `total` so far, and the reason of the last one.

    `last_at` and `accepted_at`, the time of the last new event, are epoch seconds.
    """

    processor: str
    total: int
    last_at: float
    reason: str
    accepted_at: float | None

    @property
    def lasts(self) -> bool:
        """Return True if no new event was accepted since the last refusal."""
        return (self.accepted_at or 0.0) <= self.last_at


def refused_webhooks(connection: Connection, now: float) -> list[RefusedWebhooks]:
    """Return the processors of which a webhook request was refused within a day, by name."""
    refused = metric_values.counted(connection, WEBHOOKS_REFUSED.name)
    stored = metric_values.counted(connection, WEBHOOKS_STORED.name)
    found = []
    for name in sorted({labels[0] for labels in refused}):
        last, labels = max((each.changed_at or 0.0, labels) for labels, each in refused.items() if labels[0] == name)
        if now - last > RECENT_SECONDS:
            continue
        total = sum(each.value for labels, each in refused.items() if labels[0] == name)
        accepted = stored.get((name,))
        found.append(
            RefusedWebhooks(name, int(total), last, "".join(labels[1:]), accepted.changed_at if accepted else None)
        )
    return found
