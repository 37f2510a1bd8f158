"""A database restored from an older backup has forgotten refunds that the processor has made: then nothing is sent.

The processor itself is the witness. It is looked at every minute or so, and when that was last done is noted in the
database: a restored one is as old as its own note says, and sends nothing until the processor has been looked at again.
What the processor made for legs that are known is adopted. What it made for legs of this installation that nobody here
knows stops all sending with the code `restored_backup`, until a newer backup is restored or a person says
`processors resume`. Other installations on the same account are none of our business.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Connection

from refund_worker.domain.decision import Policy
from refund_worker.domain.replies import RefundObject
from refund_worker.engine.context import Context
from refund_worker.engine.reconcile import recent, take_news
from refund_worker.store import processors, refunds
from refund_worker.store.installation import installation_id
from refund_worker.store.reconciliation import IDS_AT_ONCE, batched

log = logging.getLogger("refund_worker.restored")

RESTORED = "restored_backup"
STALE_SECONDS_MIN = 60.0
LOOK_SECONDS_MIN = 5.0
DAY_SECONDS = 86_400.0
# As far back as the watch goes, where nobody has looked before.
FIRST_LOOK_DAYS = 35.0
# New refunds appear in lists late, and two clocks differ.
OVERLAP_SECONDS = 3_600.0


def stale_seconds(policy: Policy) -> float:
    """So old may the last look be; a backup that is younger differs by what frozen keys and the next look find."""
    return max(STALE_SECONDS_MIN, policy.poll_seconds)


def look_seconds(poll_seconds: float) -> float:
    """How often to look: several times before a look is stale."""
    return max(LOOK_SECONDS_MIN, poll_seconds / 5)


def stale_processors(connection: Connection, context: Context, now: float) -> frozenset[str]:
    """Processors that may have made more than this database knows: nothing is sent there until someone has looked."""
    return processors.looked_at_before(connection, now - stale_seconds(context.policy))


def look(context: Context, processor: str = "stripe") -> int:
    """Take in what the processor made lately; the number of refunds of ours that are not known here.

    Raises `Unavailable` if its list can't be read to its end; then the last look only gets older.
    """
    if processor not in context.processors:
        return 0
    with context.database.read() as connection:
        began = context.clock(connection)
        looked_at, told_until = processors.last_look(connection, processor)
    days = FIRST_LOOK_DAYS if looked_at is None else (began - looked_at + OVERLAP_SECONDS) / DAY_SECONDS
    # First the list, then our legs: these are committed before anything is sent.
    _, things = recent(context, processor, min(days, FIRST_LOOK_DAYS))

    def work(connection: Connection) -> int:
        now = context.clock(connection)
        if looked_at is not None and began - looked_at > stale_seconds(context.policy):
            refunds.wake_those_waiting_for(connection, processor, now)
        take_news(connection, context, processor, things)
        unknown = [t for t in _unknown(connection, things) if t.created_at.timestamp() > (told_until or 0)]
        if unknown:
            _stop(connection, processor, unknown, now)
        processors.note_look(connection, processor, began)
        return len(unknown)

    return context.database.run(work)


def _unknown(connection: Connection, things: Sequence[RefundObject]) -> list[RefundObject]:
    me = installation_id(connection)
    ours = [thing for thing in things if thing.leg_id is not None and thing.installation == me]
    known: set[str] = set()
    for leg_ids in batched((thing.leg_id for thing in ours if thing.leg_id), IDS_AT_ONCE):
        known |= refunds.refunds_of_legs(connection, leg_ids).keys()
    return [thing for thing in ours if thing.leg_id not in known]


def _stop(connection: Connection, processor: str, unknown: Sequence[RefundObject], now: float) -> None:
    newest = max(unknown, key=lambda thing: thing.created_at)
    reason = (
        f"{len(unknown)} refunds of ours at {processor} are not in this database, the newest is "
        f"{newest.processor_refund_id} for {newest.leg_id}: it was restored from an older backup, "
        "or a copy of it sends too"
    )
    log.error("alarm: nothing more is sent to %s: %s", processor, reason)
    processors.pause(connection, processor, now, by="refund-worker", code=RESTORED, reason=reason)
    processors.note_told(connection, processor, newest.created_at.timestamp())
