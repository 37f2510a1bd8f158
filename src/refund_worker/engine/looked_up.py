"""What a processor has for a refund, asked for a person's eyes before they decide. Nothing is written or sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refund_worker.domain.refund import Leg, Refund
from refund_worker.domain.replies import Busy, Denied, Found, Misconfigured, NotSent, RefundObject, Unanswered
from refund_worker.processors.base import Processor

# A person waits for it.
SECONDS_MAX = 8.0
MakeProcessors = Callable[[], Mapping[str, Processor]]


@dataclass(frozen=True, slots=True)
class LookedUp:
    """One leg as its processor knows it now. `problem` says why it could not be asked; then nothing is known.

    `foreign_minor` is what others than we refunded of the same payment, in minor units of the leg's currency.
    """

    leg: Leg
    objects: tuple[RefundObject, ...] = ()
    foreign_minor: int = 0
    problem: str | None = None


def look_up(make_processors: MakeProcessors, refund: Refund, *, seconds: float = SECONDS_MAX) -> list[LookedUp]:
    """Ask about every leg for which money was ever asked, side by side; never raises for what a processor does.

    No transaction may be open. Processors are made for this one look and closed after it: call it where no event loop
    runs.
    """
    return asyncio.run(_look(make_processors, [leg for leg in refund.legs if leg.last_sent_at is not None], seconds))


async def _look(make_processors: MakeProcessors, legs: Sequence[Leg], seconds: float) -> list[LookedUp]:
    processors = make_processors()
    try:
        return list(await asyncio.gather(*(_ask(processors.get(leg.processor), leg, seconds) for leg in legs)))
    finally:
        for processor in processors.values():
            await processor.close()


async def _ask(processor: Processor | None, leg: Leg, seconds: float) -> LookedUp:
    if processor is None:
        return LookedUp(leg, problem=f"no access to {leg.processor} is configured here")
    try:
        async with asyncio.timeout(seconds):
            reply = await processor.find(leg.processor_payment_id, leg.leg_id)
    except TimeoutError:
        return LookedUp(leg, problem=f"no answer within {seconds:g} s")
    except Exception as error:  # noqa: BLE001 - an adapter promises never to raise; if it does, nothing is known
        return LookedUp(leg, problem=f"the adapter raised {type(error).__name__}")
    match reply:
        case Found(objects=objects, foreign_minor=foreign):
            return LookedUp(leg, objects, foreign)
        case Unanswered(reason=reason) | NotSent(reason=reason):
            return LookedUp(leg, problem=reason)
        case Misconfigured(message=message) | Denied(message=message):
            return LookedUp(leg, problem=message)
        case Busy(code=code):
            return LookedUp(leg, problem=f"it is busy ({code})")
