"""Handling of a database clock that went back: refunds and payouts that wait for a time are processed now.

Leases, waits and the age of keys are differences between times of the database. After the clock went back by a day,
a crashed worker's lease would last a day. Then a key that is a day older than it appears would be sent again. A row
written at a future time reveals the step. Each decision corrects the times that it finds (`DecisionBuilder`). This job
re-queues those that would otherwise wait until the old times are reached again.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import PAUSE_SECONDS
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS
from refund_worker.engine.context import Context
from refund_worker.store import processors, refunds
from refund_worker.store.payouts import payouts

log = logging.getLogger(__name__)


def handle_clock_rollback(context: Context) -> int:
    """Re-queue refunds and payouts whose `updated_at` lies in the clock's future; return how many there were.

    Circuits that were opened in the clock's future end, also if no refund waits for them.
    """
    with context.database.read() as connection:
        now = context.clock(connection)
        at = now + CLOCK_SLACK_SECONDS
        is_ahead = refunds.written_after(connection, at) or payouts.written_after(connection, at)
        if not is_ahead and not processors.has_times_after(connection, now + PAUSE_SECONDS + CLOCK_SLACK_SECONDS):
            return 0

    def work(connection: Connection) -> int:
        now = context.clock(connection)
        at = now + CLOCK_SLACK_SECONDS
        requeued = refunds.requeue_written_after(connection, at, now)
        requeued += payouts.requeue_written_after(connection, at, now)
        processors.end_pauses_after(connection, now + PAUSE_SECONDS + CLOCK_SLACK_SECONDS, now)
        return requeued

    requeued = context.database.run(work)
    raise_alarm(
        log,
        Alarm.CLOCK_WENT_BACK,
        "the database's clock went back: %d refunds and payouts are processed now, each looked up before any send",
        requeued,
    )
    return requeued
