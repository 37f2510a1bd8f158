"""Synchronise disputes with the processor's own list, for the case that their webhook events are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime

from refund_worker.domain.processor_replies import Answer, DisputeObject, DisputeRead, DisputesFound, NotReadable
from refund_worker.engine.claims.listener import record_disputes
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import DAYS
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.store import claims
from refund_worker.times import DAY

# New disputes appear in lists late, and two clocks differ.
OVERLAP_SECONDS = 3_600.0
# How long a server that cannot list disputes is not asked again.
NOT_READABLE_SECONDS = 3_600.0
# Most disputes that one round fetches singly.
FETCHED_MAX = 500


class DisputeSync:
    """The listings of one process: new disputes often, and all that can still change every hour.

    Refunds do not wait for it: a list that cannot be read only means that disputes are known later.
    """

    def __init__(self) -> None:
        self._listed_until: float | None = None  # epoch seconds of the database's clock
        self._silent_until = 0.0

    def sync_recent(self, context: Context, processor: str) -> None:
        """Record the disputes that were opened since the last listing of this process."""
        now = self._now(context)
        if self._listed_until is None:  # the hourly round comes first and lists more
            return
        self._list(context, processor, self._listed_until - OVERLAP_SECONDS, now)

    def sync_all(self, context: Context, processor: str) -> None:
        """Record the disputes of the last weeks, and fetch older ones that have not ended or ended lately."""
        now = self._now(context)
        listed = self._list(context, processor, now - DAYS * DAY, now)
        if listed is None:
            return
        with context.database.read() as connection:
            open_ones = claims.disputes_to_fetch(connection, processor, now - DAYS * DAY, FETCHED_MAX)
        known = {dispute.dispute_id for dispute in listed}
        record_disputes(context, processor, _fetch(context, processor, [o for o in open_ones if o not in known]))

    def _now(self, context: Context) -> float:
        with context.database.read() as connection:
            return context.clock(connection)

    def _list(self, context: Context, processor: str, since: float, now: float) -> tuple[DisputeObject, ...] | None:
        adapter = context.processors.get(processor)
        if adapter is None or not adapter.reads_disputes or now < self._silent_until:
            return None
        opened = adapter.recent_disputes(datetime.fromtimestamp(since, UTC))
        (answer,) = context.run(_all(context, processor, "recent_disputes", [opened]))
        if isinstance(answer, NotReadable):
            self._silent_until = now + NOT_READABLE_SECONDS
        if not isinstance(answer, DisputesFound):
            return None
        record_disputes(context, processor, answer.objects)
        self._listed_until = now
        return answer.objects


async def _all(context: Context, processor: str, name: str, calls: Iterable[Awaitable[Answer]]) -> list[Answer]:
    async def ask(call: Awaitable[Answer]) -> Answer:
        await context.limiter.acquire(processor)
        return await call_safely(context, processor, name, call)

    return list(await asyncio.gather(*(ask(call) for call in calls)))


def _fetch(context: Context, processor: str, dispute_ids: Iterable[str]) -> list[DisputeObject]:
    adapter = context.processors[processor]
    asked = [adapter.fetch_dispute(dispute_id) for dispute_id in dispute_ids]
    answers = context.run(_all(context, processor, "fetch_dispute", asked)) if asked else []
    return [answer.object for answer in answers if isinstance(answer, DisputeRead)]
