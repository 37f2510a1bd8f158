"""Read the processor's list of refund objects in pieces, and ask for single objects, within the rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from refund_worker.domain.processor_replies import (
    NOT_THERE,
    Answer,
    Answered,
    Found,
    Misconfigured,
    Page,
    RefundObject,
)
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import not_listed
from refund_worker.processors.base import Paged

# Of one piece. All its objects are in memory at the same time, and a stopped reconciliation reads them again.
PAGES_MAX = 10


@dataclass(frozen=True, slots=True)
class Span:
    """The processor and the time (its clock, epoch seconds) that are compared; `until` itself is not included."""

    processor: str
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The objects of some pages, newest first. `after` asks for the next piece; the last one has none."""

    objects: tuple[RefundObject, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The answers about single objects: those that exist now, and the ids that the processor does not know."""

    objects: tuple[RefundObject, ...] = ()
    missing: frozenset[str] = frozenset()


def read_piece(context: Context, span: Span, after: str) -> Piece:
    """Return the next piece of the list. A processor that has no pages gives all in one piece.

    Raises `ListDenied` if the processor does not accept our set-up, and `NotListed` if it does not list the objects.
    """
    replies = context.run(_read_pages(context, span, after))
    objects: list[RefundObject] = []
    next_after: str | None = None
    for reply in replies:
        if not isinstance(reply, Page):
            raise not_listed(span.processor, reply)
        objects += reply.objects
        next_after = reply.after
    return Piece(tuple(objects), next_after)


async def _read_pages(context: Context, span: Span, after: str) -> list[Answer]:
    processor = context.processors[span.processor]
    since, until = datetime.fromtimestamp(int(span.since), UTC), _time(span.until)
    if not isinstance(processor, Paged):
        await context.limiter.acquire(span.processor)
        listed = await processor.recent(since)
        if isinstance(listed, Found):
            return [Page(tuple(o for o in listed.objects if until is None or o.created_at < until), None)]
        return [listed]
    replies: list[Answer] = []
    for _ in range(PAGES_MAX):
        await context.limiter.acquire(span.processor)
        reply = await processor.page(since, until, after)
        replies.append(reply)
        if not isinstance(reply, Page) or reply.after is None:
            break
        after = reply.after
    return replies


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def ask_singly(context: Context, processor: str, object_ids: Iterable[str]) -> Asked:
    """Ask for the current state of each object. Raises `ListDenied` or `NotListed` if one of them is not answered."""
    wanted = sorted(set(object_ids))
    answers = context.run(_fetch_all(context, processor, wanted)) if wanted else []
    objects: list[RefundObject] = []
    missing: list[str] = []
    for object_id, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, Answered):
            objects.append(answer.object)
        elif isinstance(answer, Misconfigured) and answer.code in NOT_THERE:
            missing.append(object_id)
        else:
            raise not_listed(processor, answer)
    return Asked(tuple(objects), frozenset(missing))


async def _fetch_all(context: Context, processor: str, object_ids: Iterable[str]) -> list[Answer]:
    answers: list[Answer] = []
    for object_id in object_ids:
        await context.limiter.acquire(processor)
        answers.append(await context.processors[processor].fetch(object_id))
    return answers


def find_of_payment(context: Context, processor: str, payments: Iterable[tuple[str, str]]) -> list[Found]:
    """Return the objects of each (processor payment id, leg id). A payment that the processor does not know has none.

    Raises `ListDenied` or `NotListed` if one of them is not answered.
    """
    found = []
    for reply in context.run(_find_all(context, processor, payments)):
        if isinstance(reply, Found):
            found.append(reply)
        elif isinstance(reply, Misconfigured) and reply.code in NOT_THERE:
            found.append(Found(()))
        else:
            raise not_listed(processor, reply)
    return found


async def _find_all(context: Context, processor: str, payments: Iterable[tuple[str, str]]) -> list[Answer]:
    answers: list[Answer] = []
    for processor_payment_id, leg_id in payments:
        await context.limiter.acquire(processor)
        answers.append(await context.processors[processor].find(processor_payment_id, leg_id))
    return answers
