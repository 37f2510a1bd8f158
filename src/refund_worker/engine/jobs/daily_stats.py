"""Daily sums for the charts: each event of the timelines is counted once, by day.

Counting follows the sealer, which knows up to which row no event can still be added. The sums and the position of
the counter are stored in one transaction. So the sums match the timelines even after a crash, and no worker waits
for the counter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.refund import NON_FINAL, LegStatus, RefundStatus, To
from refund_worker.domain.state_machine import AWAITING_ANSWER, LegOutcome
from refund_worker.engine.context import Context
from refund_worker.store import audit, locks
from refund_worker.store.locks import Lock
from refund_worker.store.reporting import daily_stats, metrics
from refund_worker.store.reporting.daily_stats import Slot
from refund_worker.times import HOUR, day_of

LINES_AT_ONCE = 2_000
# By the day of acceptance: refunds by their current status, and requested minor units by currency.
BY_STATUS, ASKED = "standing", "asked"
# By the day of the processor's answer: minor units by currency, and the time since the request.
PAID, PAID_LATER_LOST, LATE = "paid", "paid_later_lost", "late_failures"
TO_ACCEPTED, TO_CONFIRMED = "seconds_to_accepted", "seconds_to_confirmed"
# Prevented second payments, by day.
SENT_AGAIN, FOUND = "sent_again_under_its_key", "found_instead_of_sent"
# By hour: the highest age of the oldest unfinished refund, in seconds.
OLDEST = "oldest_unfinished"

# Durations are counted in steps of ten percent: a percentile read from them is right to within that.
STEP = 1.1
SECONDS_MIN = 0.01


def count_daily_stats(context: Context) -> int:
    """Count all settled events and record the age of the oldest unfinished refund; return how many events were
    counted.
    """
    total = 0
    while count := context.database.run(_count_next):
        total += count
    context.database.run(lambda connection: _note_oldest(connection, context))
    return total


def _note_oldest(connection: Connection, context: Context) -> None:
    now = context.clock(connection)
    at = metrics.oldest_in(connection, NON_FINAL)
    daily_stats.raise_to(connection, (OLDEST, int(now // HOUR) * HOUR, ""), 0 if at is None else max(0, int(now - at)))


def _count_next(connection: Connection) -> int:
    if not locks.try_acquire(connection, Lock.COUNT_EVENTS):
        return 0
    sealed_up_to = audit.last_sealed_seqs(connection)["events"]
    lines = daily_stats.events_between(connection, daily_stats.counted_upto(connection), sealed_up_to, LINES_AT_ONCE)
    if lines:
        daily_stats.add(connection, _changes(connection, lines), counted=lines[-1]["seq"])
    return len(lines)


def _changes(connection: Connection, lines: Sequence[RowMapping]) -> Mapping[Slot, int]:
    changes: defaultdict[Slot, int] = defaultdict(int)
    accepted = {line["refund_id"]: line["created_at"] for line in lines if line["kind"] == "accepted"}
    for refund_id, currency, amount in daily_stats.asked_money(connection, accepted):
        changes[ASKED, day_of(accepted[refund_id]), currency] += amount
    for line in lines:
        if line["kind"] == "accepted" or line["kind"].startswith("refund_"):
            _count_refund(changes, line)
        elif line["amount_minor"] is not None:
            _count_leg(changes, line)
    return changes


def _count_refund(changes: defaultdict[Slot, int], line: RowMapping) -> None:
    if line["to_status"] is None:
        return
    day = day_of(line["created_at"])
    changes[BY_STATUS, day, line["to_status"]] += 1
    if line["from_status"] is not None:
        changes[BY_STATUS, day, line["from_status"]] -= 1
    if line["to_status"] == RefundStatus.SUCCEEDED and line["to"] == To.SOURCE:
        changes[TO_CONFIRMED, day_of(line["at"]), _step(line["at"] - line["created_at"])] += 1


def _count_leg(changes: defaultdict[Slot, int], line: RowMapping) -> None:
    """Count an event about one leg: `from` shows whether it is a change, `kind` what changed."""
    day, before, money = day_of(line["at"]), line["from_status"], line["amount_minor"]
    match line["kind"].removeprefix("leg_"):
        case LegOutcome.ACCEPTED | LegOutcome.REQUIRES_CUSTOMER | LegOutcome.PAID as outcome:
            if before in AWAITING_ANSWER:
                changes[TO_ACCEPTED, day, _step(line["at"] - line["created_at"])] += 1
                changes[FOUND, day, ""] += before == LegStatus.UNKNOWN
            if outcome == LegOutcome.PAID and before != LegStatus.SUCCEEDED:
                changes[PAID, day, line["currency"]] += money
        case LegOutcome.SENT if before == LegStatus.UNKNOWN:
            changes[SENT_AGAIN, day, ""] += 1
        case LegOutcome.OBJECT_FAILED | LegOutcome.OBJECT_CANCELED if before == LegStatus.SUCCEEDED:
            changes[LATE, day, ""] += 1
            changes[PAID_LATER_LOST, day, line["currency"]] += money


def _step(seconds: float) -> str:
    return str(math.ceil(math.log(max(seconds, SECONDS_MIN), STEP)))


def percentile(steps: Mapping[str, int], share: float) -> float | None:
    """Return the seconds that this share of the durations does not exceed, to within ten percent, or None if none
    exist.
    """
    left = share * sum(steps.values())
    for step in sorted(steps, key=int):
        left -= steps[step]
        if left <= 0:
            return STEP ** int(step)
    return None
