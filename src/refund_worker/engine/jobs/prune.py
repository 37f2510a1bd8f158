"""Deletes old rows: delivered notifications, processed events, requests that the Celery task refused, expired
wrong-password counts, processes that ended without notice.

Nothing of the ledger, of a refund or of its timeline is ever deleted, nor an undelivered notification.
"""

from __future__ import annotations

import logging

from refund_worker.engine.access.password_attempts import TRIES_FORGOTTEN_SECONDS
from refund_worker.engine.context import Context
from refund_worker.store import dead_letters, inbox, outbox, processes
from refund_worker.store.access import console_users

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400
# As long as processors keep their events: a receiver that lost some notices within a month and can request them again.
DELIVERED_SECONDS = 30 * DAY_SECONDS
# Past the end of a quarter, when an audit may search for requests that never became a refund.
REFUSED_SECONDS = 100 * DAY_SECONDS
# A dispute about a refund can last a quarter; the effect of an event stays in the refund's timeline permanently.
PROCESSED_KEPT_SECONDS = 100 * DAY_SECONDS
# A process that ended without notice is shown for a day, for the person who looks for the cause.
SILENT_PROCESS_SECONDS = DAY_SECONDS
# A transaction of milliseconds: it blocks no writer.
BATCH = 500
# Limit of one run; the next run deletes the rest.
BATCHES_MAX = 200


def prune(context: Context) -> int:
    """Delete old rows once; return how many were deleted. Parallel runs are harmless."""
    total = 0
    for delete, seconds in (
        (outbox.delete_delivered, DELIVERED_SECONDS),
        (dead_letters.delete_refused, REFUSED_SECONDS),
        (inbox.delete_processed, PROCESSED_KEPT_SECONDS),
        (console_users.delete_old_tries, TRIES_FORGOTTEN_SECONDS),
        (processes.delete_silent, SILENT_PROCESS_SECONDS),
    ):
        for _ in range(BATCHES_MAX):
            deleted = context.database.run(lambda c, d=delete, s=seconds: d(c, context.clock(c) - s, BATCH))  # type: ignore[misc]
            total += deleted
            if deleted < BATCH:
                break
    if total:
        log.info("pruned %d old notifications, dead letters, webhook events, failed sign-ins and processes", total)
    return total
