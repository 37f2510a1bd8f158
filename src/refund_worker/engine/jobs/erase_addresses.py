"""Erases the customers' addresses for instructions some weeks after the end of their refunds."""

from __future__ import annotations

import logging

from refund_worker.engine.context import Context
from refund_worker.engine.jobs.prune import BATCH, BATCHES_MAX, DAY_SECONDS
from refund_worker.store import instructions_email

log = logging.getLogger(__name__)

# As long as a refund that succeeded can still fail: until then the customer may have to be asked again.
KEPT_SECONDS = 35 * DAY_SECONDS


def erase_addresses(context: Context) -> int:
    """Erase the addresses of refunds that ended long ago; return how many. Parallel runs are harmless."""
    total = 0
    for _ in range(BATCHES_MAX):
        erased = context.database.run(
            lambda connection: instructions_email.erase_ended_before(
                connection, context.clock(connection) - KEPT_SECONDS, BATCH
            )
        )
        total += erased
        if erased < BATCH:
            break
    if total:
        log.info("erased the addresses for instructions of %d refunds", total)
    return total
