"""News from processors: a stored event is a hint; what counts is what the processor says when asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answer, Answered, Misconfigured
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.processors import registry
from refund_worker.processors.base import EventHint, is_plain_id
from refund_worker.store import inbox, refund_objects, refunds

log = logging.getLogger("refund_worker.inbox")

# An event whose refund can't be asked for is tried this often, for most of a day with the default waits. What became of
# a refund that had succeeded nobody polls for: only the hourly watch would find it.
TRIES_MAX = 200


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """An event that is about a refund object; `place` is (refund_id, leg_id) where it is known to be one of ours.

    `told_all` is False where the event names the object and does not say whose it is: then only asking tells.
    """

    row: RowMapping
    processor_refund_id: str
    place: tuple[str, str] | None
    told_all: bool


def process_inbox(context: Context, limit: int = 100) -> int:
    """Take in stored events: ask the processor about each refund named, and join its answer. Returns how many ended."""
    with context.database.read() as connection:
        now = context.clock(connection)
        rows = inbox.waiting_events(connection, limit, now, context.policy.retry_base_seconds)
        hints = [_hint(connection, row) for row in rows]
    if not rows:
        return 0
    asked = [hint for hint in hints if isinstance(hint, InboxEvent) and (hint.place or not hint.told_all)]
    answers = context.run(_fetch_all(context, asked)) if asked else []
    told = {_name(hint.row): answer for hint, answer in zip(asked, answers, strict=True)}
    with context.database.read() as connection:
        hints = [hint and _placed(connection, hint, told.get(_name(hint.row))) for hint in hints]
    evidence = [
        RecordedReply(*hint.place, None, answer)
        for hint in hints
        if hint and hint.place and isinstance(answer := told.get(_name(hint.row)), Answered)
    ]
    # In a transaction of its own: who dies after it takes the same answers in again, which changes nothing.
    broken = record_replies(context, evidence).broken if evidence else frozenset()
    outcomes = [_outcome(row, hint, told.get(_name(row)), broken) for row, hint in zip(rows, hints, strict=True)]
    return context.database.run(lambda connection: _mark(connection, context.clock(connection), rows, outcomes))


def _name(row: RowMapping) -> tuple[str, str]:
    return row["processor"], row["event_id"]


def _hint(connection: Connection, row: RowMapping) -> InboxEvent | None:
    hint = _read(row)
    if hint is None:
        return None
    object_id = hint.processor_refund_id
    place = refund_objects.find_leg(connection, processor=row["processor"], processor_refund_id=object_id)
    if place is None and hint.leg_id is not None:
        refund_id = refunds.refunds_of_legs(connection, [hint.leg_id]).get(hint.leg_id)
        place = (refund_id, hint.leg_id) if refund_id else None
    return InboxEvent(row, object_id, place, told_all=hint.says_whose)


def _read(row: RowMapping) -> EventHint | None:
    """Return what the processor's folder reads in the event; None if it is about no refund object.

    The ids are of the processor's own making, but never trusted: what is no plain id is not asked for.
    """
    entry = registry.find_entry(row["processor"])
    if entry is None or entry.webhooks is None:
        return None
    try:
        hint = entry.webhooks.event_hint(row["kind"], row["body"])
    except Exception:  # one event must not keep all others from being read
        log.exception("event %s of %s cannot be read", row["event_id"], row["processor"])
        return None
    return hint if hint is not None and is_plain_id(hint.processor_refund_id) else None


def _placed(connection: Connection, hint: InboxEvent, answer: Answer | None) -> InboxEvent:
    """With the place that the processor's own word names, where the event named none."""
    if hint.place or not isinstance(answer, Answered) or answer.object.leg_id is None:
        return hint
    leg_id = answer.object.leg_id
    refund_id = refunds.refunds_of_legs(connection, [leg_id]).get(leg_id)
    return replace(hint, place=(refund_id, leg_id)) if refund_id else hint


async def _fetch_all(context: Context, hints: Sequence[InboxEvent]) -> list[Answer]:
    async def fetch(hint: InboxEvent) -> Answer | None:
        processor = context.processors.get(hint.row["processor"])
        if processor is None:
            return None
        await context.limiter.acquire(processor.name)
        return await call_safely(context, processor.name, processor.fetch(hint.processor_refund_id))

    answers = await asyncio.gather(*(fetch(hint) for hint in hints))
    return [answer or Misconfigured("processor_not_configured", "no access is configured") for answer in answers]


def _outcome(row: RowMapping, hint: InboxEvent | None, answer: Answer | None, broken: Collection[str]) -> str | None:
    """How the event ends; None if it is to be tried again."""
    if hint is None:
        return "not about a refund"
    if hint.place is None and (hint.told_all or isinstance(answer, Answered)):
        return "unknown refund: left to reconciliation"
    if hint.place and isinstance(answer, Answered) and hint.place[0] not in broken:
        return "taken in"
    if row["tries"] + 1 < TRIES_MAX:
        return None
    if isinstance(answer, Answered):
        return "this program broke on it: left to polling"
    return "the processor did not answer: left to polling"


def _mark(connection: Connection, now: float, rows: Sequence[RowMapping], outcomes: Sequence[str | None]) -> int:
    names = [(row["processor"], row["event_id"]) for row in rows]
    taken = [(*name, outcome) for name, outcome in zip(names, outcomes, strict=True) if outcome is not None]
    inbox.mark_processed(connection, taken, now)
    inbox.mark_tried(connection, [name for name, outcome in zip(names, outcomes, strict=True) if outcome is None])
    return len(taken)
