"""What the supervisor and the doors need to know of Celery without importing it."""

from __future__ import annotations

# Interactive requests before bulk work: the transport looks at them in this order.
QUEUES = ("refunds", "bulk")

# All that a message may ask for. Celery has tasks of its own beside them, which call whatever a message names.
ADVANCE = "refund_worker.advance"
ADVANCE_DUE = "refund_worker.advance_due"
REQUEST_REFUND = "refund_worker.request_refund"
TASKS = (ADVANCE, ADVANCE_DUE, REQUEST_REFUND)

# A task that kills its process is tried again this often; the sweep comes back to its refunds anyway.
RETRIES_MAX = 2

# A task ends itself long before; what follows are the nets below it, each wider than the one before.
SOFT_LIMIT_SECONDS = 90.0
HARD_LIMIT_SECONDS = 120.0


def queue_of(bulk: bool) -> str:
    """Where work of this priority goes."""
    return QUEUES[1] if bulk else QUEUES[0]
