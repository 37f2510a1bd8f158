"""Ask the processors about one refund now, because a person or a backend wants to know. Nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from refund_worker.domain.processor_calls import Call, Fetch, LookUp, RecordedReply
from refund_worker.domain.processor_replies import Answer, Busy, Denied, Misconfigured, NotSent, Unanswered
from refund_worker.domain.refund import Leg, Refund
from refund_worker.domain.state_machine import ACTIVE, AWAITING_ANSWER, TO_BE_SENT
from refund_worker.engine.context import Context, Limiter
from refund_worker.engine.processor_sync.live_lookup import SECONDS_MAX
from refund_worker.engine.refunds.circuit import stop_denied
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.engine.views.api_objects import find_refund
from refund_worker.errors import NotAtProcessor, ProcessorUnavailable
from refund_worker.logs import log_fields
from refund_worker.processors.base import Processor
from refund_worker.processors.payout_routes import PayoutRoute

NO_ANSWERS = (Busy, Denied, NotSent, Unanswered)
# A leg in one of these is sent again, or was: its known objects are those of earlier attempts.
_LATER_SENDS = AWAITING_ANSWER | TO_BE_SENT


class ClosableLimiter(Limiter, Protocol):
    """A limiter that belongs to one event loop and is closed on it."""

    async def close(self) -> None:
        """Close the connection to where the limit is shared."""


@dataclass(frozen=True, slots=True)
class Access:
    """The way to the processors for a process that keeps no adapters: all are made for one use and closed after it."""

    make_processors: Callable[[], Mapping[str, Processor]]
    make_limiter: Callable[[], ClosableLimiter]
    make_routes: Callable[[], Mapping[str, PayoutRoute]] = dict


def sync_refund(
    context: Context, access: Access, refund_id: str, *, client: str | None = None, seconds: float = SECONDS_MAX
) -> Refund:
    """Ask the processors for everything that they have of this refund, record it, and return the refund.

    A finished refund is asked about too. A processor that cannot be asked leaves its legs as they are. With `client`,
    only that client's refunds are visible. The calls count in the rate limit; `seconds` limits the wait for a slot and
    an answer together. Call it where no event loop runs.

    Raises `NotFound`, `ProcessorUnavailable` if a processor did not answer, and `NotAtProcessor` if it does not have
    the object of a finished leg. The answers of others are recorded.
    """
    with context.database.read() as connection:
        refund = find_refund(connection, refund_id, client=client)
        asked_at = context.clock(connection)
    calls = [call for leg in refund.legs for call in _questions(leg) if _can_be_asked(context, call)]
    answers = asyncio.run(_ask_all(context, access, refund_id, calls, seconds)) if calls else []
    pairs = list(zip(calls, answers, strict=True))
    told = [
        RecordedReply(refund_id, call.leg_id, call, answer, asked_at)
        for call, answer in pairs
        if not isinstance(answer, NO_ANSWERS)
    ]
    if told:
        record_replies(context, told)
    stop_denied(context, ((call.processor, answer) for call, answer in pairs))
    for call, answer in pairs:
        if isinstance(answer, NO_ANSWERS):
            raise ProcessorUnavailable(f"{call.processor} cannot be asked now: {why_no_answer(answer)}")
    with context.database.read() as connection:
        refund = find_refund(connection, refund_id, client=client)
    if told and refund.due_at is not None and refund.due_at <= asked_at:
        context.publish([refund_id], False)
    _check_ended_legs(refund, pairs)
    return refund


def _questions(leg: Leg) -> Iterator[Fetch | LookUp]:
    """Yield the questions about a leg: for each object that is known, and for the list of its payment.

    The list is left out where the known objects are all that a send can have made.
    """
    known = [item.processor_refund_id for item in leg.reports]
    for object_id in known:
        yield Fetch(leg.leg_id, leg.processor, object_id)
    may_have_more = not known or leg.unanswered or leg.status in _LATER_SENDS
    if leg.first_intent_at is not None and may_have_more:
        yield LookUp(leg.leg_id, leg.processor, leg.processor_payment_id)


def _can_be_asked(context: Context, call: Fetch | LookUp) -> bool:
    """Return False for a processor that has no such call: only its events tell outcomes."""
    rules = context.policy.rules_of(call.processor)
    return rules.reads_refunds if isinstance(call, Fetch) else rules.finds_refunds


def _check_ended_legs(refund: Refund, pairs: Iterable[tuple[Fetch | LookUp, Answer]]) -> None:
    """Raise `NotAtProcessor` if the object of a finished leg is not there: the leg stays as it is and shows nothing."""
    ended = {leg.leg_id for leg in refund.legs if leg.status not in ACTIVE}
    for call, answer in pairs:
        if isinstance(call, Fetch) and isinstance(answer, Misconfigured) and call.leg_id in ended:
            raise NotAtProcessor(
                f"{call.processor} does not have the refund {call.processor_refund_id} ({answer.code}): nothing changed"
            )


async def _ask_all(
    context: Context, access: Access, refund_id: str, calls: Sequence[Fetch | LookUp], seconds: float
) -> list[Answer]:
    processors, limiter = access.make_processors(), access.make_limiter()
    try:
        asked = (_ask(context, processors.get(call.processor), limiter, refund_id, call, seconds) for call in calls)
        return list(await asyncio.gather(*asked))
    finally:
        await limiter.close()
        for processor in processors.values():
            await processor.close()


async def _ask(
    context: Context, processor: Processor | None, limiter: Limiter, refund_id: str, call: Call, seconds: float
) -> Answer:
    if processor is None:
        return NotSent("no access to it is configured in this process", attempted=False)
    try:
        async with asyncio.timeout(seconds):
            await limiter.acquire(call.processor)
            with log_fields(refund_id=refund_id, leg_id=call.leg_id):
                if isinstance(call, Fetch):
                    asked = processor.fetch(call.processor_refund_id)
                    return await call_safely(context, processor.name, "fetch", asked)
                assert isinstance(call, LookUp)
                found = processor.find(call.processor_payment_id, call.leg_id)
                return await call_safely(context, processor.name, "look_up", found)
    except TimeoutError:
        return Unanswered(f"no answer within {seconds:g} s")


def why_no_answer(answer: Busy | Denied | NotSent | Unanswered) -> str:
    """Return the reason for which a processor gave no answer, as the end of a sentence."""
    if isinstance(answer, NotSent | Unanswered):
        return answer.reason
    return "it is busy" if isinstance(answer, Busy) else f"it does not accept our access ({answer.code})"
