"""Ask the processors about one payout now, because a person or a backend wants to know. Nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refund_worker.domain.payouts.decision import FetchTransfer, FindTransfer, TransferReplied
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.domain.payouts.transfers import NotListed, PayoutAnswer
from refund_worker.domain.processor_replies import Misconfigured, NotSent, Unanswered
from refund_worker.domain.state_machine import ACTIVE, AWAITING_ANSWER, TO_BE_SENT
from refund_worker.engine.context import Context, Limiter
from refund_worker.engine.payouts.orders import request_of_attempt
from refund_worker.engine.payouts.replies import record_transfer_replies
from refund_worker.engine.payouts.route_calls import call_route
from refund_worker.engine.processor_sync.live_lookup import SECONDS_MAX
from refund_worker.engine.processor_sync.sync_refund import NO_ANSWERS, Access, why_no_answer
from refund_worker.engine.refunds.circuit import stop_denied
from refund_worker.engine.views.payout_objects import find_payout
from refund_worker.errors import NotAtProcessor, ProcessorUnavailable
from refund_worker.logs import log_fields
from refund_worker.processors.payout_routes import PayoutRoute
from refund_worker.store.payouts import attempts
from refund_worker.store.payouts.attempts import FrozenAttempt


@dataclass(frozen=True, slots=True)
class _Question:
    """One question about a leg, with the key and the request of its last attempt. `since` is in epoch seconds."""

    call: FetchTransfer | FindTransfer
    key: str
    body: str
    since: float


def sync_payout(
    context: Context, access: Access, payout_id: str, *, client: str | None = None, seconds: float = SECONDS_MAX
) -> Payout:
    """Ask the processors for everything that they have of this payout, record it, and return the payout.

    A finished payout is asked about too. A processor that cannot be asked leaves its legs as they are. With `client`,
    only that client's payouts are visible. The calls count in the rate limit; `seconds` limits the wait for a slot and
    an answer together. Call it where no event loop runs.

    Raises `NotFound`, `ProcessorUnavailable` if a processor did not answer, and `NotAtProcessor` if it does not have
    the object of a finished leg. The answers of others are recorded. Raises `DestinationsKeyMissing`, before
    anything is asked, if a request was sealed with a key that is not here.
    """
    with context.database.read() as connection:
        payout = find_payout(connection, payout_id, client=client)
        frozen = attempts.frozen_attempts(connection, [leg.leg_id for leg in payout.legs])
        asked_at = context.clock(connection)
    questions = [
        question
        for leg in payout.legs
        for question in _questions(context, leg, frozen.get(leg.leg_id, {}))
        if _can_be_asked(context, question.call)
    ]
    answers = asyncio.run(_ask_all(context, access, payout, questions, seconds)) if questions else []
    pairs = list(zip(questions, answers, strict=True))
    replies = [
        TransferReplied(payout_id, question.call.leg_id, question.call, answer, asked_at)
        for question, answer in pairs
        if not isinstance(answer, (*NO_ANSWERS, NotListed))
    ]
    if replies:
        record_transfer_replies(context, replies)
    stop_denied(context, ((question.call.processor, answer) for question, answer in pairs))
    for question, answer in pairs:
        if isinstance(answer, NO_ANSWERS):
            raise ProcessorUnavailable(f"{question.call.processor} cannot be asked now: {why_no_answer(answer)}")
    with context.database.read() as connection:
        payout = find_payout(connection, payout_id, client=client)
    if replies and payout.due_at is not None and payout.due_at <= asked_at:
        context.publish([payout_id], False)
    _check_ended_legs(payout, pairs)
    return payout


def _questions(context: Context, leg: PayoutLeg, sent: Mapping[int, FrozenAttempt]) -> Iterator[_Question]:
    """Yield the questions about a leg: for each object that is known, and for what its attempts made.

    The second is left out where the known objects are all that a send can have made.
    """
    if not sent:
        return
    last = sent.get(leg.attempt) or sent[max(sent)]
    body = request_of_attempt(context, leg.payout_id, last.body)
    since = min(each.first_sent_at for each in sent.values())
    for known in leg.objects:
        yield _Question(FetchTransfer(leg.leg_id, leg.processor, known.object_id), last.key, body, since)
    if not leg.objects or leg.unanswered or leg.status in AWAITING_ANSWER | TO_BE_SENT:
        yield _Question(FindTransfer(leg.leg_id, leg.processor), last.key, body, since)


def _can_be_asked(context: Context, call: FetchTransfer | FindTransfer) -> bool:
    """Return False for a route that has no such call: a person, a file or an event says how it ended."""
    rules = context.payout_policy.calls.rules_of(call.processor)
    return rules.reads_refunds if isinstance(call, FetchTransfer) else rules.finds_refunds


def _check_ended_legs(payout: Payout, pairs: Sequence[tuple[_Question, PayoutAnswer]]) -> None:
    """Raise `NotAtProcessor` if the object of a finished leg is not there: the leg stays as it is and shows nothing."""
    ended = {leg.leg_id for leg in payout.legs if leg.status not in ACTIVE}
    for question, answer in pairs:
        call = question.call
        if isinstance(call, FetchTransfer) and isinstance(answer, Misconfigured) and call.leg_id in ended:
            raise NotAtProcessor(f"{call.processor} does not have {call.object_id} ({answer.code}): nothing changed")


async def _ask_all(
    context: Context, access: Access, payout: Payout, questions: Sequence[_Question], seconds: float
) -> list[PayoutAnswer]:
    routes, limiter = access.make_routes(), access.make_limiter()
    try:
        asked = (_ask(context, routes.get(q.call.processor), limiter, payout, q, seconds) for q in questions)
        return list(await asyncio.gather(*asked))
    finally:
        await limiter.close()
        for route in routes.values():
            await route.close()


async def _ask(
    context: Context, route: PayoutRoute | None, limiter: Limiter, payout: Payout, question: _Question, seconds: float
) -> PayoutAnswer:
    call = question.call
    if route is None:
        return NotSent("no access to its payouts is configured in this process", attempted=False)
    try:
        async with asyncio.timeout(seconds):
            await limiter.acquire(call.processor)
            with log_fields(payout_id=payout.payout_id, leg_id=call.leg_id):
                if isinstance(call, FetchTransfer):
                    asked = route.fetch(call.object_id, question.body)
                    return await call_route(context, call.processor, "fetch", asked, payout.destination_box)
                found = route.find(question.key, question.body, question.since)
                return await call_route(context, call.processor, "find_payout", found, payout.destination_box)
    except TimeoutError:
        return Unanswered(f"no answer within {seconds:g} s")
