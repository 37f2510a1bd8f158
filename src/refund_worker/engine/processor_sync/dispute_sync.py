"""Synchronise disputes and early fraud warnings with the processor's own lists, in case webhook events are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import Answer, DisputesFound, NotReadable, WarningsFound
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.inbox_subjects import HANDLERS, SubjectHandler
from refund_worker.engine.processor_sync.listing import DAYS
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.processors.base import Processor
from refund_worker.store import claims, fraud_warnings
from refund_worker.times import DAY

# New objects appear in lists late, and two clocks differ.
OVERLAP_SECONDS = 3_600.0
# How long a server that cannot list these objects is not asked again.
NOT_READABLE_SECONDS = 3_600.0
# Most objects that one round fetches singly.
FETCHED_MAX = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """One kind of object: how it is listed, and how one is fetched and recorded, as after a webhook event.

    `changeable` returns the ids of the recorded objects that may still change, of which some ended since a time.
    """

    recent: tuple[str, Callable[[Processor, datetime], Awaitable[Answer]], type[Any]]
    one: SubjectHandler
    id_of: Callable[[Any], str]
    changeable: Callable[[Connection, str, float, int], list[str]]


DISPUTES = Listed(
    recent=("recent_disputes", lambda adapter, since: adapter.recent_disputes(since), DisputesFound),
    one=HANDLERS["dispute"],
    id_of=lambda dispute: str(dispute.dispute_id),
    changeable=claims.disputes_to_fetch,
)
WARNINGS = Listed(
    recent=("recent_warnings", lambda adapter, since: adapter.recent_warnings(since), WarningsFound),
    one=HANDLERS["warning"],
    id_of=lambda warning: str(warning.warning_id),
    changeable=lambda connection, processor, _since, limit: fraud_warnings.warnings_to_fetch(
        connection, processor, limit
    ),
)


class ListSync:
    """The listings of one kind by one process: new objects often, and all that can still change every hour.

    Refunds do not wait for it: a list that cannot be read only means that its objects are known later.
    """

    def __init__(self, listed: Listed) -> None:
        self._kind = listed
        self._listed_until: float | None = None  # epoch seconds of the database's clock
        self._silent_until = 0.0

    def sync_recent(self, context: Context, processor: str) -> None:
        """Record the objects that were made since the last listing of this process."""
        now = self._now(context)
        if self._listed_until is None:  # the hourly round comes first and lists more
            return
        self._list(context, processor, self._listed_until - OVERLAP_SECONDS, now)

    def sync_all(self, context: Context, processor: str) -> None:
        """Record the objects of the last weeks, and fetch older ones that can still change."""
        now = self._now(context)
        listed = self._list(context, processor, now - DAYS * DAY, now)
        if listed is None:
            return
        with context.database.read() as connection:
            open_ones = self._kind.changeable(connection, processor, now - DAYS * DAY, FETCHED_MAX)
        known = {self._kind.id_of(each) for each in listed}
        fetched = self._fetch(context, processor, [each for each in open_ones if each not in known])
        self._kind.one.record(context, processor, fetched)

    def _now(self, context: Context) -> float:
        with context.database.read() as connection:
            return context.clock(connection)

    def _list(self, context: Context, processor: str, since: float, now: float) -> Sequence[Any] | None:
        adapter = context.processors.get(processor)
        if adapter is None or not adapter.reads_disputes or now < self._silent_until:
            return None
        name, ask, found = self._kind.recent
        (answer,) = context.run(_all(context, processor, name, [ask(adapter, datetime.fromtimestamp(since, UTC))]))
        if isinstance(answer, NotReadable):
            self._silent_until = now + NOT_READABLE_SECONDS
        if not isinstance(answer, found):
            return None
        objects: Sequence[Any] = answer.objects
        self._kind.one.record(context, processor, objects)
        self._listed_until = now
        return objects

    def _fetch(self, context: Context, processor: str, object_ids: Sequence[str]) -> list[Any]:
        one = self._kind.one
        asked = [one.ask(context.processors[processor], object_id) for object_id in object_ids]
        answers: list[Any] = context.run(_all(context, processor, one.call, asked)) if asked else []
        return [answer.object for answer in answers if isinstance(answer, one.answer)]


async def _all(context: Context, processor: str, name: str, calls: Iterable[Awaitable[Answer]]) -> list[Answer]:
    async def ask(call: Awaitable[Answer]) -> Answer:
        await context.limiter.acquire(processor)
        return await call_safely(context, processor, name, call)

    return list(await asyncio.gather(*(ask(call) for call in calls)))
