"""When the database's clock has been set back: whatever waits for a time that was reached before is looked at now.

Leases, waits and the age of keys are differences of the database's times. After the clock went back by a day, a dead
worker's lease would last a day, and then a key that is a day older than it looks would be replayed. What was written
at a time that has not come yet gives the step away. Each decision dates what it finds anew (`domain.draft`); this wakes
those that nobody would come to before the old times are reached again.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from refund_worker.domain.timing import CLOCK_SLACK_SECONDS
from refund_worker.engine.context import Context
from refund_worker.store import processors, refunds

log = logging.getLogger("refund_worker.clock")


def handle_clock_rollback(context: Context) -> int:
    """Wake what was written in the clock's future; returns how many refunds that were."""
    with context.database.read() as connection:
        if not refunds.written_after(connection, context.clock(connection) + CLOCK_SLACK_SECONDS):
            return 0

    def work(connection: Connection) -> int:
        now = context.clock(connection)
        next_step = refunds.requeue_written_after(connection, now + CLOCK_SLACK_SECONDS, now)
        processors.end_pauses_made_after(connection, now + CLOCK_SLACK_SECONDS, now)
        return next_step

    woken = context.database.run(work)
    log.error(
        "alarm: the database's clock went back: %d refunds are processed now, each looked up before any send", woken
    )
    return woken
