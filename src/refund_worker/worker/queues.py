"""Names and limits of Celery's queues and tasks.

The supervisor and the entry points need them without importing Celery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refund_worker.settings import Settings

# Interactive requests before bulk work: the transport reads the queues in this order.
QUEUES = ("refunds", "bulk")

# All tasks that a message may ask for. Celery has tasks of its own, which call whatever a message names.
ADVANCE = "refund_worker.advance"
ADVANCE_DUE = "refund_worker.advance_due"
REQUEST_REFUND = "refund_worker.request_refund"
REQUEST_PAYOUT = "refund_worker.request_payout"
TASKS = (ADVANCE, ADVANCE_DUE, REQUEST_REFUND, REQUEST_PAYOUT)

# The header with the id of the installation (the database) that a message belongs to. Messages of earlier versions, and
# requests of a backend that names none, have no such header: everybody takes them.
INSTALLATION = "installation"

# Retries of a task that kills its process; the sweep returns to its refunds anyway.
RETRIES_MAX = 2

# Seconds. A task stops itself long before; each limit is a wider safety net than the one before it.
SOFT_LIMIT_SECONDS = 90.0
HARD_LIMIT_SECONDS = 120.0


def queue_of(bulk: bool) -> str:
    """Return the queue for work of this priority."""
    return QUEUES[1] if bulk else QUEUES[0]


def name_at_broker(settings: Settings, name: str) -> str:
    """Return the name that a queue or a key has at the broker: behind the prefix of this deployment, if it has one."""
    return (settings.broker_prefix or "") + name
