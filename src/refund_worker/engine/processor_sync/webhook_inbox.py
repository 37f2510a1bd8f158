"""News from processors: a stored event is a hint; what counts is what the processor says when asked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answer, Answered, Misconfigured
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.store import inbox, refund_objects, refunds

# An event whose refund can't be asked for is tried this often, for most of a day with the default waits. What became of
# a refund that had succeeded nobody polls for: only the hourly watch would find it.
TRIES_MAX = 200
# Of the processor's own making, but never taken on trust: what is no plain id is not asked for.
ID_LENGTH_MAX = 255


# Also of newer versions of the API: refund.updated, charge.refund.updated, v1.refund.failed. Not charge.refunded, whose
# object is the charge.
_ABOUT_A_REFUND = re.compile(r"(?:.*\.)?refund\..*")
_REFUND_ID = re.compile(r"(?:re|pyr)_[A-Za-z0-9_]+")


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
    try:
        event = json.loads(row["body"])
        found = _refund_named(event, row["kind"])
    except (ValueError, TypeError, RecursionError):
        return None
    if found is None:
        return None
    processor_refund_id, refund_object = found
    place = refund_objects.find_leg(connection, processor=row["processor"], processor_refund_id=processor_refund_id)
    leg_id = _leg_named(refund_object)
    if place is None and leg_id is not None:
        refund_id = refunds.refunds_of_legs(connection, [leg_id]).get(leg_id)
        place = (refund_id, leg_id) if refund_id else None
    return InboxEvent(row, processor_refund_id, place, told_all=isinstance(refund_object.get("metadata"), dict))


def _refund_named(event: object, kind: str) -> tuple[str, dict[str, Any]] | None:
    """The id of the refund that an event is about and what it says of it, which may be nothing.

    Today's events hold the object itself, thin ones name it as `related_object`; a later version may put it elsewhere.
    """
    if not isinstance(event, dict):
        return None
    data = event.get("data")
    inner = data if isinstance(data, dict) else {}
    about = _ABOUT_A_REFUND.fullmatch(kind) is not None
    for refund_object in (inner.get("object"), event.get("related_object"), inner.get("related_object"), inner):
        identifier = refund_object.get("id") if isinstance(refund_object, dict) else refund_object
        if not _is_id(identifier):
            continue
        known = refund_object if isinstance(refund_object, dict) else {}
        is_refund = "refund" in (known.get("object"), known.get("type"))
        if is_refund or (about and _REFUND_ID.fullmatch(identifier)):
            return identifier, known
    return None


def _placed(connection: Connection, hint: InboxEvent, answer: Answer | None) -> InboxEvent:
    """With the place that the processor's own word names, where the event named none."""
    if hint.place or not isinstance(answer, Answered) or answer.object.leg_id is None:
        return hint
    leg_id = answer.object.leg_id
    refund_id = refunds.refunds_of_legs(connection, [leg_id]).get(leg_id)
    return replace(hint, place=(refund_id, leg_id)) if refund_id else hint


def _leg_named(refund_object: dict[str, Any]) -> str | None:
    metadata = refund_object.get("metadata")
    leg_id = metadata.get("refund_worker_leg") if isinstance(metadata, dict) else None
    return leg_id if _is_id(leg_id) else None


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= ID_LENGTH_MAX


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
