"""What the supervisor and the doors need to know of Celery without importing it."""

from __future__ import annotations

# Interactive requests before bulk work: the transport looks at them in this order.
QUEUES = ("refunds", "bulk")

# A task ends itself long before; what follows are the nets below it, each wider than the one before.
SOFT_LIMIT_SECONDS = 90.0
HARD_LIMIT_SECONDS = 120.0


def queue_of(bulk: bool) -> str:
    """Where work of this priority goes."""
    return QUEUES[1] if bulk else QUEUES[0]
