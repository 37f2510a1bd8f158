"""Read paid refunds again, once a day, at an account that has no list of its refunds.

A refund can fail weeks after it was paid. Where refunds are listed, the list shows that also if every webhook was lost.
Without a list, only reading each refund again shows it: ours and those of others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from sqlalchemy import Connection

from refund_worker.domain.operator_action import NOT_AT_PROCESSOR, show_to_a_person
from refund_worker.domain.processor_replies import NOT_THERE, Answer, Answered, Misconfigured
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import DAYS
from refund_worker.engine.processor_sync.sync import record_objects
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.circuit import stop_denied
from refund_worker.engine.refunds.payment_facts import reading_slot
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.store import processors, refund_objects, refunds, rereads, timeline
from refund_worker.store.rereads import Round
from refund_worker.times import DAY

log = logging.getLogger(__name__)

# One call of the job reads this many: more would hold up the other readings of the account.
AT_ONCE = 20


def reread(context: Context, processor: str) -> int:
    """Fetch the next paid refunds of this account and record what is new; return how many were fetched.

    A round reads all of the last `DAYS` days, and begins a day after the last one began. After a crash it continues
    where it stopped. An object that could not be read comes again in the next round. Nothing is fetched while the
    circuit of the account is open.
    """
    if processor not in context.processors:
        return 0
    with context.database.read() as connection:
        now = context.clock(connection)
        at = _current(rereads.last_round(connection, processor), now)
        if at is None or processor in processors.open_circuits(connection, now):
            return 0
        objects = rereads.next_objects(connection, processor, at, AT_ONCE)
    answers = context.run(_fetch_all(context, processor, [each for _, each in objects])) if objects else []
    if stop_denied(context, ((processor, answer) for answer in answers)):
        return 0  # the round continues from here when the account accepts our key again
    _record(context, processor, {each: answer for (_, each), answer in zip(objects, answers, strict=True)})
    created_at, last = objects[-1] if objects else (at.after_created_at, at.after_id)
    reached = Round(at.began_at, created_at, last, ended=len(objects) < AT_ONCE)
    context.database.run(lambda connection: rereads.store_round(connection, processor, reached))
    return len(objects)


def _current(last: Round | None, now: float) -> Round | None:
    """Return the round to go on with, a new one if it is time for it, or None if the last one has ended."""
    new = Round(now, now - DAYS * DAY)
    if last is None or last.began_at > now + CLOCK_SLACK_SECONDS:  # the clock went back
        return new
    if not last.ended:
        return last
    return new if now >= last.began_at + DAY else None


async def _fetch_all(context: Context, processor: str, ids: Sequence[str]) -> list[Answer]:
    async def fetch(object_id: str) -> Answer:
        await context.limiter.acquire(reading_slot(processor))
        adapter = context.processors[processor]
        return await call_safely(context, processor, "fetch", adapter.fetch(object_id))

    return list(await asyncio.gather(*map(fetch, ids)))


def _record(context: Context, processor: str, answers: Mapping[str, Answer]) -> None:
    """Record the answers by object id. A refund of ours that is not there is shown to a person, once.

    If none is there, our access may be another account's: then nothing is shown.
    """
    found = [answer.object for answer in answers.values() if isinstance(answer, Answered)]
    record_objects(context, processor, found)
    missing = [
        object_id
        for object_id, answer in answers.items()
        if isinstance(answer, Misconfigured) and answer.code in NOT_THERE
    ]
    unread = len(answers) - len(found)
    if unread:
        text = "%s of %s paid refunds could not be read again"
        log.warning(text, unread, len(answers), extra={"processor": processor})
    for object_id in missing if found else ():
        context.database.run(partial(_show_to_a_person, context=context, processor=processor, object_id=object_id))


def _show_to_a_person(connection: Connection, *, context: Context, processor: str, object_id: str) -> None:
    place = refund_objects.find_leg(connection, processor=processor, processor_refund_id=object_id)
    if place is None:  # others made it
        return
    refund_id, leg_id = place
    now = context.clock(connection)
    (refund,) = refunds.load(connection, [refund_id], lock=True)
    shown = ((event["kind"], event["leg_id"]) for event in timeline.events_of(connection, refund_id))
    if (NOT_AT_PROCESSOR, leg_id) in shown:  # a person has decided, or will
        return
    why = "the processor does not have this refund"
    decision = show_to_a_person(refund, leg_id, NOT_AT_PROCESSOR, why, now, context.policy, actor="refund-worker")
    apply(connection, [decision.released()], now, notify=context.notify)
