"""Read the processor's verdict on destinations: when they are new, after an event about them, and daily."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import SYSTEM, Event
from refund_worker.domain.payouts.destination import mask_in
from refund_worker.domain.payouts.payee import Payee, PayeeStatus
from refund_worker.domain.payouts.transfers import PayeeRead, PayeeReply, PayeeUnreadable, with_texts
from refund_worker.domain.processor_replies import Answer, Unanswered
from refund_worker.engine.context import Context
from refund_worker.engine.payees.payees import open_destination
from refund_worker.errors import DestinationsKeyMissing
from refund_worker.store import timeline
from refund_worker.store.payouts import payees, payouts
from refund_worker.times import DAY

log = logging.getLogger(__name__)

BATCH = 25
# Longer than the calls of a batch take. A question without an answer is asked again after it.
AGAIN_SECONDS = 600.0


def refresh_payees(context: Context) -> int:
    """Read the destinations that are due, outside of any transaction; return how many were answered."""

    def claim(connection: Connection) -> list[Payee]:
        now = context.clock(connection)
        claimed = payees.claim_refreshes(connection, now, now + AGAIN_SECONDS, BATCH)
        for payee in claimed:
            if payee.processor not in context.routes:  # without credentials here, or an account that was removed
                payees.plan_refresh(connection, payee.payee_id, now + DAY)
        return [payee for payee in claimed if payee.processor in context.routes]

    due = context.database.run(claim)
    replies: list[PayeeReply] = []
    if due:
        context.run(_ask_all(context, due, replies))
    for payee, reply in zip(due, replies, strict=True):
        _store(context, payee, reply)
    return sum(isinstance(reply, PayeeRead | PayeeUnreadable) for reply in replies)


async def _ask_all(context: Context, due: Sequence[Payee], replies: list[PayeeReply]) -> list[Answer]:
    """Fill `replies`, one for each payee. The context's loop expects a list of answers: it gets an empty one."""
    replies += await asyncio.gather(*(_ask(context, payee) for payee in due))
    return []


async def _ask(context: Context, payee: Payee) -> PayeeReply:
    try:
        destination = open_destination(context.box, payee)
    except DestinationsKeyMissing as error:
        return Unanswered(error.message)
    await context.limiter.acquire(payee.processor)
    try:
        reply = await context.routes[payee.processor].read_payee(destination)
        return with_texts(reply, partial(mask_in, destination=destination))  # the reason is shown to viewers
    except Exception as error:  # noqa: BLE001 - an alarm, and a reply that decides nothing
        told = "the %s adapter raised an exception"
        raise_alarm(log, Alarm.ADAPTER_FAILED, told, payee.processor, error=error, processor=payee.processor)
        return Unanswered(f"the adapter raised {type(error).__name__}")


def _store(context: Context, asked: Payee, reply: PayeeReply) -> None:
    """Store the verdict, unless the payee has another destination by now."""

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        payee = payees.load(connection, [asked.payee_id], lock=True)[asked.payee_id]
        if payee.destination_id != asked.destination_id:
            return
        match reply:
            case PayeeRead():
                _store_verdict(connection, payee, reply, now)
                payees.plan_refresh(connection, payee.payee_id, now + DAY)
            case PayeeUnreadable():
                payees.plan_refresh(connection, payee.payee_id, None)
            case _:
                log.info("destination not read", extra={"payee_id": payee.payee_id, "outcome": type(reply).__name__})

    context.database.run(work)


def _store_verdict(connection: Connection, payee: Payee, reply: PayeeRead, now: float) -> None:
    after = replace(
        payee,
        verdict=reply.state,
        verdict_reason=reply.reason,
        verdict_needs=reply.needs,
        verdict_act_by=reply.act_by,
        verdict_read_at=now,
    )
    said = (payee.verdict, payee.verdict_reason, payee.verdict_needs, payee.verdict_act_by)
    if said != (after.verdict, after.verdict_reason, after.verdict_needs, after.verdict_act_by):
        after = replace(after, version=payee.version + 1, updated_at=now)
        detail = {"payee_id": payee.payee_id, "code": reply.reason, "needs": ", ".join(reply.needs) or None}
        event = Event(
            "payee_verdict",
            SYSTEM,
            from_status=payee.verdict,
            to_status=reply.state,
            reason=reply.reason,
            detail=detail,
        )
        timeline.insert_events_about(connection, [(payee.payee_id, event)], now)
    payees.write_verdict(connection, after)
    if after.status is PayeeStatus.READY and payee.status is not PayeeStatus.READY:
        payouts.requeue_held(connection, [payee.payee_id], now)
