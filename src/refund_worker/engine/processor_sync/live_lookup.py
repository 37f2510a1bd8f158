"""Ask processors what they have for a refund, to show it to a person who decides. Nothing is written or sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import (
    Busy,
    Denied,
    Found,
    Misconfigured,
    NoList,
    NotSent,
    RefundObject,
    Unanswered,
)
from refund_worker.domain.refund import Leg, Refund
from refund_worker.engine.refunds.object_ownership import found_for
from refund_worker.processors.base import Processor
from refund_worker.store.database import Database

# A person waits for the answer.
SECONDS_MAX = 8.0
MakeProcessors = Callable[[], Mapping[str, Processor]]


@dataclass(frozen=True, slots=True)
class LiveLookup:
    """One leg as its processor knows it now.

    `problem` says why the processor could not be asked; then nothing is known. `objects` are the leg's own refund
    objects, `outside` are those that others made over the same payment.
    """

    leg: Leg
    objects: tuple[RefundObject, ...] = ()
    outside: tuple[RefundObject, ...] = ()
    problem: str | None = None


def lookup_now(
    database: Database, make_processors: MakeProcessors, refund: Refund, *, seconds: float = SECONDS_MAX
) -> list[LiveLookup]:
    """Look up every leg that was sent or that is blocked by others' refunds; return one result for each.

    A processor's failure is returned as `problem` and never raised. `seconds` limits the wait for each leg. No
    transaction may be open; the objects' owners are read from `database` afterwards. Processors are made for this one
    lookup and closed after it: call it where no event loop runs.
    """
    legs = [leg for leg in refund.legs if leg.last_sent_at is not None or leg.blocked_by]
    lookups = asyncio.run(_lookup_all(make_processors, legs, seconds))
    with database.read() as connection:
        return [_parted(connection, one) for one in lookups]


def _parted(connection: Connection, listed: LiveLookup) -> LiveLookup:
    found = found_for(connection, listed.leg, listed.objects)
    return replace(listed, objects=found.objects, outside=found.outside)


async def _lookup_all(make_processors: MakeProcessors, legs: Sequence[Leg], seconds: float) -> list[LiveLookup]:
    processors = make_processors()
    try:
        return list(await asyncio.gather(*(_ask(processors.get(leg.processor), leg, seconds) for leg in legs)))
    finally:
        for processor in processors.values():
            await processor.close()


async def _ask(processor: Processor | None, leg: Leg, seconds: float) -> LiveLookup:
    if processor is None:
        return LiveLookup(leg, problem=f"no access to {leg.processor} is configured here")
    try:
        async with asyncio.timeout(seconds):
            reply = await processor.find(leg.processor_payment_id, leg.leg_id)
    except TimeoutError:
        return LiveLookup(leg, problem=f"no answer within {seconds:g} s")
    except Exception as error:  # noqa: BLE001 - an adapter promises never to raise; if it does, nothing is known
        return LiveLookup(leg, problem=f"the adapter raised {type(error).__name__}")
    match reply:
        case Found(objects=objects):
            return LiveLookup(leg, objects)
        case Unanswered(reason=reason) | NotSent(reason=reason):
            return LiveLookup(leg, problem=reason)
        case NoList(message=message) | Misconfigured(message=message) | Denied(message=message):
            return LiveLookup(leg, problem=message)
        case Busy(code=code):
            return LiveLookup(leg, problem=f"it is busy ({code})")
