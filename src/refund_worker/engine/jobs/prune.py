"""What nobody needs any more: notifications delivered and events taken in long ago, old refusals of the Celery door,
wrong passwords that count no more.

Nothing of the ledger, of a refund or of its timeline is ever pruned, nor a notification that nobody has taken.
"""

from __future__ import annotations

import logging

from refund_worker.engine.access.password_attempts import TRIES_FORGOTTEN_SECONDS
from refund_worker.engine.context import Context
from refund_worker.store import dead_letters, inbox, outbox
from refund_worker.store.access import console_users

log = logging.getLogger("refund_worker.prune")

DAY_SECONDS = 86_400
# As long as processors keep their events: whoever lost some notices within a month, and can ask for them again.
DELIVERED_SECONDS = 30 * DAY_SECONDS
# Past the end of a quarter, when somebody looks for what never became a refund.
REFUSED_SECONDS = 100 * DAY_SECONDS
# A dispute about a refund can last a quarter; what an event led to stays in the refund's timeline for good.
PROCESSED_KEPT_SECONDS = 100 * DAY_SECONDS
# A transaction of milliseconds: no writer waits for it.
BATCH = 500
# One turn; the rest has time until the next.
BATCHES_MAX = 200


def prune(context: Context) -> int:
    """One turn; returns how many rows went. Several at once do no harm."""
    total = 0
    for delete, seconds in (
        (outbox.delete_delivered, DELIVERED_SECONDS),
        (dead_letters.delete_refused, REFUSED_SECONDS),
        (inbox.delete_processed, PROCESSED_KEPT_SECONDS),
        (console_users.delete_old_tries, TRIES_FORGOTTEN_SECONDS),
    ):
        for _ in range(BATCHES_MAX):
            gone = context.database.run(lambda c, d=delete, s=seconds: d(c, context.clock(c) - s, BATCH))  # type: ignore[misc]
            total += gone
            if gone < BATCH:
                break
    if total:
        log.info("pruned %d old notifications, dead letters, webhook events and failed sign-ins", total)
    return total
