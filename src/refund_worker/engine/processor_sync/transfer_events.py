"""Webhook events about payouts and payees. An event is only a hint: what counts is what the processor says if asked.

A known object is asked for by the payout's next step. One that is not known, of a leg of ours, is read at once: the
answer that would have named it is lost, and without a list nothing else finds it. So the order of events and their
repetition cannot matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, RowMapping

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.account_names import connected_of, platform_of
from refund_worker.domain.payouts.decision import TransferReplied
from refund_worker.domain.payouts.destination import mask_in
from refund_worker.domain.payouts.transfers import TransferAnswered, TransferReply
from refund_worker.domain.processor_replies import Busy, Denied, NotSent, Unanswered
from refund_worker.domain.refund import LegStatus
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.orders import request_of_attempt
from refund_worker.engine.payouts.replies import record_transfer_replies
from refund_worker.engine.payouts.route_calls import call_route
from refund_worker.engine.refunds.payment_facts import reading_slot
from refund_worker.errors import DestinationsKeyMissing
from refund_worker.logs import log_fields
from refund_worker.processors.base import is_plain_id
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.store.payouts import attempts, payees, payouts

log = logging.getLogger(__name__)

# How an event ends, as stored.
ASKED, PAYEE_ASKED = "taken in: the payout is asked about", "taken in: the payee is asked about"
READ = "taken in: a new object of the payout"
NOT_OURS = "not about a payout or a payee that we know"
REFUSED = "the processor does not tell of this object: left to the payout's own questions"
UNANSWERED = "the processor did not answer: left to the payout's own questions"
BROKEN = "this program broke on it: left to the payout's own questions"

EventName = tuple[str, str]  # (processor, event_id)


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object of the leg that is not in our records. `sealed` is the leg's last frozen request.

    `destination_box` is the payout's sealed destination.
    """

    payout_id: str
    leg_id: str
    processor: str
    object_id: str
    sealed: str = field(repr=False)
    destination_box: str = field(repr=False)


@dataclass(slots=True)
class TransferEvents:
    """How these events end, None for one that is tried again, and what processors answered: (processor, answer)."""

    outcomes: dict[EventName, str | None] = field(default_factory=dict)
    answers: list[tuple[str, TransferReply]] = field(default_factory=list)


def transfer_hint_of(context: Context, row: RowMapping) -> TransferHint | None:
    """Return the subject of a stored event about payouts, or None for any other event. The ids in it are plain."""
    entry = context.accounts.entry_of(row["processor"])
    if entry is None or entry.payouts is None:
        return None
    try:
        hint = entry.payouts.transfer_hint(row["kind"], row["body"])
    except Exception as error:  # noqa: BLE001 - an alarm; the event ends as one that cannot be read
        told = "event %s of %s cannot be read"
        raise_alarm(log, Alarm.WEBHOOK_UNREADABLE, told, row["event_id"], mask_in(row["processor"]), error=error)
        return None
    return hint if hint is not None and is_plain_id(hint.object_id) else None


def shown_processor(context: Context, processor: str, kind: str, body: str) -> str:
    """Return the account of an event as it may be shown: of one about payouts, the payee's account is masked.

    The connected account of any other event took a payment: it is not a payee's destination.
    """
    entry = context.accounts.entry_of(processor)
    if entry is None or entry.payouts is None or connected_of(processor) is None:
        return processor
    try:
        is_about_payouts = entry.payouts.transfer_hint(kind, body) is not None
    except Exception:  # noqa: BLE001 - `transfer_hint_of` raises the alarm
        is_about_payouts = True
    return mask_in(processor) if is_about_payouts else processor


def process_transfer_events(
    context: Context, events: Sequence[tuple[RowMapping, TransferHint]], tries_max: tuple[int, int]
) -> TransferEvents:
    """Let the processors be asked about the objects of these events, and read those that are not known yet.

    `tries_max` is how often an event is tried: usually, and if the processor refuses to tell of its object.
    """
    done = TransferEvents()
    tries: dict[EventName, int] = {(row["processor"], row["event_id"]): row["tries"] + 1 for row, _ in events}

    def work(connection: Connection) -> tuple[set[str], dict[EventName, NewObject]]:
        now = context.clock(connection)
        new: dict[EventName, NewObject] = {}
        named = [((row["processor"], row["event_id"]), platform_of(row["processor"]), hint) for row, hint in events]
        # All payees at once, then all payouts: two batches of events lock the same rows in the same order.
        whose = {(processor, hint.object_id) for _, processor, hint in named if hint.is_payee}
        known = payees.refresh_destinations(connection, whose, now)
        legs: dict[str, str] = {}
        for name, processor, hint in named:
            if hint.is_payee:
                done.outcomes[name] = PAYEE_ASKED if known.get((processor, hint.object_id)) else NOT_OURS
                continue
            found = _find_new_object(connection, context, processor, hint)
            if isinstance(found, NewObject):
                new[name] = found
            elif found:  # the answer to the call under way comes soon: it names the object too
                done.outcomes[name] = None if tries[name] < tries_max[0] else UNANSWERED
            else:
                of_leg = [hint.leg_id] if hint.leg_id is not None else []
                its = payouts.named_legs(connection, processor, object_ids=[hint.object_id], leg_ids=of_leg)
                legs |= its
                done.outcomes[name] = ASKED if its else NOT_OURS
        payouts.ask_again(connection, legs, now)
        return set(legs.values()), new

    due, new = context.database.run(work)
    if due:
        context.publish(sorted(due), False)
    if new:
        _read_new_objects(context, new, done, tries, tries_max)
    return done


def _find_new_object(connection: Connection, context: Context, processor: str, hint: TransferHint) -> NewObject | bool:
    """Return the event's object if it is new and of a leg that was sent; True if the leg's call is under way."""
    if hint.leg_id is None:
        return False
    if attempts.owners_of(connection, [(processor, hint.object_id)]):
        return False
    sent = attempts.frozen_attempts(connection, [hint.leg_id]).get(hint.leg_id, {})
    ids = [payout_id for payout_id, _ in attempts.payouts_of_legs(connection, [hint.leg_id]).values()]
    known = [(payout, leg) for payout in payouts.load(connection, ids) for leg in payout.legs]
    payout, leg = next(((payout, leg) for payout, leg in known if leg.leg_id == hint.leg_id), (None, None))
    if payout is None or leg is None or leg.processor != processor or not sent:
        return False
    if leg.status is LegStatus.SENDING:
        return True
    sealed = sent[max(sent)].body
    return NewObject(leg.payout_id, leg.leg_id, processor, hint.object_id, sealed, payout.destination_box)


def _read_new_objects(
    context: Context,
    new: Mapping[EventName, NewObject],
    done: TransferEvents,
    tries: Mapping[EventName, int],
    tries_max: tuple[int, int],
) -> None:
    """Read these objects, record those that name their leg, and add how their events end."""
    answers = dict(zip(new, context.run(_fetch_all(context, list(new.values()))), strict=True))
    done.answers += [(item.processor, answers[name]) for name, item in new.items()]
    replies = [
        TransferReplied(item.payout_id, item.leg_id, None, answer)
        for name, item in new.items()
        if isinstance(answer := answers[name], TransferAnswered) and answer.object.leg_id == item.leg_id
    ]
    recorded = {decision.after.payout_id for decision in record_transfer_replies(context, replies)}
    for name, item in new.items():
        outcome: str | None
        match answers[name]:
            case TransferAnswered(object=found) if found.leg_id != item.leg_id:
                outcome = NOT_OURS
            case TransferAnswered():
                outcome = READ if item.payout_id in recorded else _after(tries[name], tries_max[0], BROKEN)
            case Unanswered() | Busy() | NotSent() | Denied():
                outcome = _after(tries[name], tries_max[0], UNANSWERED)
            case _:
                outcome = _after(tries[name], tries_max[1], REFUSED)
        done.outcomes[name] = outcome


def _after(tries: int, tries_max: int, outcome: str) -> str | None:
    return outcome if tries >= tries_max else None


async def _fetch_all(context: Context, wanted: Sequence[NewObject]) -> list[TransferReply]:
    async def fetch(item: NewObject) -> TransferReply:
        route = context.routes.get(item.processor)
        if route is None:
            return Denied("processor_not_configured", f"no access to payouts over {item.processor} is configured")
        try:
            body = request_of_attempt(context, item.payout_id, item.sealed)
        except DestinationsKeyMissing as error:
            return NotSent(f"the request of {item.leg_id} cannot be opened: {error}", attempted=False)
        await context.limiter.acquire(reading_slot(item.processor))
        with log_fields(payout_id=item.payout_id, leg_id=item.leg_id):
            asked = route.fetch(item.object_id, body)
            return await call_route(context, item.processor, "fetch", asked, item.destination_box)

    return list(await asyncio.gather(*(fetch(item) for item in wanted)))
