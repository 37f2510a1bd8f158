"""Process webhook events. A stored event is only a hint: what counts is the processor's answer when it is asked.

Only where a processor cannot be asked for a refund, the signed event itself counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import NOT_THERE, Answer, Answered, Misconfigured, NotReadable, RefundObject
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.inbox_subjects import HANDLERS, is_described, record_subjects, run_safely
from refund_worker.engine.processor_sync.payment_events import fetch_new_payments, new_payment_of, outcomes_of
from refund_worker.engine.processor_sync.transfer_events import process_transfer_events, transfer_hint_of
from refund_worker.engine.refunds.circuit import denials, open_circuits
from refund_worker.engine.refunds.object_ownership import sort_by_owner
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.logs import log_fields
from refund_worker.metrics import WEBHOOK_LAG, observe
from refund_worker.processors.base import EventHint, EventSubject, is_plain_id
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.store import claims, inbox, processors, refund_objects, refunds
from refund_worker.store.database import after_commit

log = logging.getLogger(__name__)

# An event with a refund object that cannot be fetched is tried this often, for most of a day with the default waits. No
# poll follows a refund that has succeeded: only the hourly listing would find a later change.
TRIES_MAX = 200
# Where no list finds it either, an event is tried for as long as a refund can change: 35 days with the default waits.
TRIES_MAX_WITHOUT_LIST = 1_230
# An object that the processor does not know is tried for a quarter of an hour: a new one can be read a little late.
TRIES_MAX_NOT_THERE = 20

# How an event ends, as stored.
PROCESSED = "taken in"
OF_OTHERS = "taken in: a refund that others made"
NOT_ABOUT_REFUND = "not about a refund"
NOT_UNDERSTOOD = "not understood: left to polling"
UNKNOWN_REFUND = "unknown refund: left to reconciliation"
BROKEN = "this program broke on it: left to polling"
NOT_THERE_OUTCOME = "the processor does not know this refund: left to reconciliation"
UNANSWERED = "the processor did not answer: left to polling"
NOT_READABLE = "the processor, or our key, does not let us read this object"


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """A stored event on its way through the inbox.

    `object_id` is the id of the refund object that the event is about, None for any other event. `place` is
    (refund_id, leg_id) if the object is known to be one of ours. `subject` is another object that the event is about,
    if we have a use for it. `understood` is False if reading the event failed, or the id in it is unusable. `answer` is
    the processor's answer about the object, None if it was not asked. `tries_max` is the number of tries.
    """

    row: RowMapping
    object_id: str | None = None
    place: tuple[str, str] | None = None
    subject: EventSubject | None = None
    understood: bool = True
    answer: Answer | None = None
    tries_max: int = TRIES_MAX

    @property
    def name(self) -> tuple[str, str]:
        """Return (processor, event_id)."""
        return self.row["processor"], self.row["event_id"]

    @property
    def is_to_be_asked(self) -> bool:
        """Return True if the event is about an object that we have a use for. A refund can be ours or not.

        Where the processor cannot be asked, the event itself is the answer.
        """
        return self.answer is None and (self.object_id is not None or self.subject is not None)


def process_inbox(context: Context, limit: int = 100) -> int:
    """Process up to `limit` stored events: ask the processor about each named refund object and record its answer.

    Events of a processor whose circuit is open wait: it would refuse each question. Return how many events ended.
    """
    with context.database.read() as connection:
        now = context.clock(connection)
        refusing = [name for name in processors.open_circuits(connection, now) if _is_asked(context, name)]
        rows = inbox.waiting_events(connection, limit, now, context.policy.retry_base_seconds, without=refusing)
        hints = [transfer_hint_of(context, row) for row in rows]
        of_payouts = [(row, hint) for row, hint in zip(rows, hints, strict=True) if hint]
        rows = [row for row, hint in zip(rows, hints, strict=True) if not hint]
        payments = [new_payment_of(context, row) if context.recording else None for row in rows]
        paid = [(row, ref) for row, ref in zip(rows, payments, strict=True) if ref]
        read = [_read_event(connection, context, row) for row, ref in zip(rows, payments, strict=True) if not ref]
    ended = _process_new_payments(context, paid) + _process_transfers(context, of_payouts)
    return ended + _process_refunds(context, read) if read else ended


def _is_asked(context: Context, processor: str) -> bool:
    capabilities = context.accounts.capabilities_of(processor)
    return capabilities is None or capabilities.reads_refunds


def _process_new_payments(context: Context, rows: Sequence[tuple[RowMapping, str]]) -> int:
    """Record the new payments that these events tell of, given as (event, id). Return how many events ended."""
    if not rows or context.recording is None:
        return 0
    events = fetch_new_payments(context, rows)
    outcomes = outcomes_of(context, events, context.recording, (TRIES_MAX, TRIES_MAX_NOT_THERE))
    answers = [(event.name[0], event.answer) for event in events if event.answer is not None]
    received = {event.name: event.row["received_at"] for event in events}
    return context.database.run(
        lambda connection: _store_outcomes(connection, context.clock(connection), outcomes, received, answers)
    )


def _process_transfers(context: Context, rows: Sequence[tuple[RowMapping, TransferHint]]) -> int:
    """Ask about the payouts and payees that these events name. Return how many events ended."""
    if not rows:
        return 0
    done = process_transfer_events(context, rows, (TRIES_MAX_WITHOUT_LIST, TRIES_MAX_NOT_THERE))
    received = {(row["processor"], row["event_id"]): row["received_at"] for row, _ in rows}
    return context.database.run(
        lambda connection: _store_outcomes(connection, context.clock(connection), done.outcomes, received, done.answers)
    )


def _process_refunds(context: Context, read: Sequence[InboxEvent]) -> int:
    """Ask about the refund objects that these events name, and record the answers. Return how many events ended."""
    answered = _ask_about(context, read)
    with context.database.read() as connection:
        events = [_placed(connection, event) for event in answered]
    replies = [
        RecordedReply(*event.place, None, event.answer)
        for event in events
        if event.place and isinstance(event.answer, Answered)
    ]
    # In a transaction of its own: a worker that dies after it records the same answers again, which changes nothing.
    broken = record_replies(context, replies).broken if replies else frozenset()
    of_others = _record_others(context, events) | _record_subjects(context, events)
    return context.database.run(
        lambda connection: _mark(connection, context.clock(connection), events, broken, of_others)
    )


def _record_others(context: Context, events: Iterable[InboxEvent]) -> frozenset[tuple[str, str]]:
    """Record the refunds that others made, linked ones included; return (processor, object id) of those recorded."""
    found: defaultdict[str, list[RefundObject]] = defaultdict(list)
    placed: defaultdict[str, list[RefundObject]] = defaultdict(list)
    for event in events:
        if isinstance(event.answer, Answered):
            (placed if event.place else found)[event.name[0]].append(event.answer.object)
    for processor, its_objects in placed.items():  # nearly all are ours alone
        with context.database.read() as connection:
            whose = sort_by_owner(connection, processor, its_objects)
        if whose.outside or whose.linked:
            found[processor] += [*whose.outside, *whose.linked]
    recorded: set[tuple[str, str]] = set()
    for processor, its_objects in found.items():
        run_safely(context, f"refunds of others at {processor}", record_outside_refunds, processor, its_objects)
        ids = [item.processor_refund_id for item in its_objects]
        with context.database.read() as connection:
            known = claims.claims_of_objects(connection, processor, ClaimKind.OUTSIDE_REFUND, ids)
        recorded |= {(processor, object_id) for object_id in known}
    return frozenset(recorded)


def _record_subjects(context: Context, events: Iterable[InboxEvent]) -> frozenset[tuple[str, str]]:
    """Record the other objects that processors described; return (processor, object id) of those that are recorded."""
    described = [
        (event.name[0], event.subject, event.answer)
        for event in events
        if event.subject is not None and is_described(event.subject.kind, event.answer)
    ]
    recorded = record_subjects(context, ((name, subject.kind, answer) for name, subject, answer in described))
    return frozenset((name, subject.object_id) for name, subject, _ in described if (name, subject.kind) in recorded)


def _read_event(connection: Connection, context: Context, row: RowMapping) -> InboxEvent:
    try:
        report = _read_report(context, row)
        hint = read_hint(context, row)
    except UnusableEvent:
        raise_alarm(
            log,
            Alarm.WEBHOOK_UNREADABLE,
            "event %s of %s cannot be read",
            row["event_id"],
            row["processor"],
            error=True,
        )
        return InboxEvent(row, understood=False)
    if report is not None:
        hint = EventHint(report.processor_refund_id, report.leg_id)
    tries_max = _tries_max(context, row["processor"])
    if hint is None:
        return InboxEvent(row, subject=_read_subject(context, row), tries_max=tries_max)
    object_id = hint.processor_refund_id
    place = refund_objects.find_leg(connection, processor=row["processor"], processor_refund_id=object_id)
    if place is None and hint.leg_id is not None:
        place = _place_of_leg(connection, row["processor"], hint.leg_id)
    answer = None if report is None else Answered(report)
    return InboxEvent(row, object_id, place, answer=answer, tries_max=tries_max)


def _tries_max(context: Context, processor: str) -> int:
    is_known = context.accounts.capabilities_of(processor) is not None
    return TRIES_MAX_WITHOUT_LIST if is_known and not context.accounts.lists(processor) else TRIES_MAX


def _read_subject(context: Context, row: RowMapping) -> EventSubject | None:
    """Return the subject of an event about no refund, or None if we have no use for it."""
    entry = context.accounts.entry_of(row["processor"])
    if entry is None or entry.webhooks is None:
        return None
    subject = entry.webhooks.event_subject(row["kind"], row["body"])
    return subject if subject is not None and subject.kind in HANDLERS and is_plain_id(subject.object_id) else None


def _place_of_leg(connection: Connection, processor: str, leg_id: str) -> tuple[str, str] | None:
    """Return (refund_id, leg_id) of a leg over this account, or None: an account tells of its own refunds."""
    place = refunds.places_of_legs(connection, [leg_id]).get(leg_id)
    return (place.refund_id, leg_id) if place is not None and place.processor == processor else None


class UnusableEvent(Exception):
    """The adapter cannot read the event, or reads an id in it that is not plain."""


def read_hint(context: Context, row: RowMapping) -> EventHint | None:
    """Return the hint that the processor's adapter package reads from the event, or None if it names no refund object.

    The processor makes the ids, but they are never trusted: an id that is not plain is not asked for. Raises
    `UnusableEvent`.
    """
    if row["processor"] == PAYOUT:  # stored by ourselves, when a payout changed that pays a leg
        told = json.loads(row["body"])
        return EventHint(told["payout_id"], told["leg_id"])
    entry = context.accounts.entry_of(row["processor"])
    if entry is None or entry.webhooks is None:
        return None
    try:
        hint = entry.webhooks.event_hint(row["kind"], row["body"])
    except Exception as error:
        raise UnusableEvent from error
    if hint is not None and not is_plain_id(hint.processor_refund_id):
        raise UnusableEvent
    return hint


def _read_report(context: Context, row: RowMapping) -> RefundObject | None:
    """Return the refund object that a verified event tells, if its processor cannot be asked.

    Raises `UnusableEvent`.
    """
    entry = context.accounts.entry_of(row["processor"])
    if entry is None or entry.webhooks is None or _is_asked(context, row["processor"]):
        return None
    try:
        report = entry.webhooks.event_report(row["kind"], row["body"])
    except Exception as error:
        raise UnusableEvent from error
    if report is not None and not is_plain_id(report.processor_refund_id):
        raise UnusableEvent
    return report


def refunds_of_events(
    connection: Connection, context: Context, rows: Sequence[RowMapping]
) -> dict[tuple[str, str], str]:
    """Return the refund that each stored event is about, by (processor, event_id), for the events of our refunds."""
    hints: dict[tuple[str, str], EventHint] = {}
    for row in rows:
        with contextlib.suppress(UnusableEvent):
            if (hint := read_hint(context, row)) is not None:
                hints[row["processor"], row["event_id"]] = hint
    objects = {(name[0], hint.processor_refund_id) for name, hint in hints.items()}
    by_object = refund_objects.find_legs(connection, objects)
    by_leg = refunds.places_of_legs(connection, {hint.leg_id for hint in hints.values() if hint.leg_id})
    found = {}
    for name, hint in hints.items():
        place, marked = by_object.get((name[0], hint.processor_refund_id)), by_leg.get(hint.leg_id or "")
        if place is not None:
            found[name] = place[0]
        elif marked is not None and marked.processor == name[0]:
            found[name] = marked.refund_id
    return found


def _ask_about(context: Context, events: Sequence[InboxEvent]) -> list[InboxEvent]:
    """Return the events in their order, each with the processor's answer if it is to be asked."""
    asked = [event for event in events if event.is_to_be_asked]
    answers = iter(context.run(_fetch_all(context, asked)) if asked else ())
    return [replace(event, answer=next(answers)) if event.is_to_be_asked else event for event in events]


async def _fetch_all(context: Context, events: Sequence[InboxEvent]) -> list[Answer]:
    async def fetch(event: InboxEvent) -> Answer:
        processor = context.processors.get(event.row["processor"])
        if processor is None:
            return Misconfigured("processor_not_configured", "no access is configured")
        await context.limiter.acquire(processor.name)
        if event.subject is not None:
            handler = HANDLERS[event.subject.kind]
            asked = handler.ask(processor, event.subject.object_id)
            return await call_safely(context, processor.name, handler.call, asked)
        refund_id, leg_id = event.place or (None, None)
        with log_fields(refund_id=refund_id, leg_id=leg_id):
            return await call_safely(context, processor.name, "fetch", processor.fetch(event.object_id or ""))

    return list(await asyncio.gather(*(fetch(event) for event in events)))


def _placed(connection: Connection, event: InboxEvent) -> InboxEvent:
    """Return the event with the place that the processor's answer names, if the event itself named none."""
    if event.place or not isinstance(event.answer, Answered) or event.answer.object.leg_id is None:
        return event
    return replace(event, place=_place_of_leg(connection, event.row["processor"], event.answer.object.leg_id))


def _outcome(event: InboxEvent, broken: Collection[str], of_others: Collection[tuple[str, str]]) -> str | None:
    """Return how the event ends, or None if it is to be tried again.

    Nothing was recorded for `broken` refunds; `of_others` are the recorded objects that others made.
    """
    if not event.understood:
        return NOT_UNDERSTOOD
    if event.subject is not None:
        return _outcome_of_subject(event, event.subject, of_others)
    if event.object_id is None:
        return NOT_ABOUT_REFUND
    is_answered = isinstance(event.answer, Answered)
    if event.place is None and is_answered:
        return OF_OTHERS if (event.name[0], event.object_id) in of_others else UNKNOWN_REFUND
    if event.place and is_answered and event.place[0] not in broken:
        return PROCESSED
    return _outcome_after_tries(event, is_answered)


def _outcome_of_subject(event: InboxEvent, subject: EventSubject, recorded: Collection[tuple[str, str]]) -> str | None:
    if (event.name[0], subject.object_id) in recorded:
        return HANDLERS[subject.kind].outcome
    if isinstance(event.answer, NotReadable):
        return NOT_READABLE
    return _outcome_after_tries(event, is_described(subject.kind, event.answer))


def _outcome_after_tries(event: InboxEvent, is_answered: bool) -> str | None:
    tries = event.row["tries"] + 1
    if tries >= TRIES_MAX_NOT_THERE and isinstance(event.answer, Misconfigured) and event.answer.code in NOT_THERE:
        return NOT_THERE_OUTCOME
    if tries < event.tries_max:
        return None
    return BROKEN if is_answered else UNANSWERED


def _observe_lags(lags: Iterable[tuple[str, float]]) -> None:
    for processor, seconds in lags:
        observe(WEBHOOK_LAG, seconds, processor)


def _mark(
    connection: Connection,
    now: float,
    events: Sequence[InboxEvent],
    broken: Collection[str],
    of_others: Collection[tuple[str, str]],
) -> int:
    outcomes = {event.name: _outcome(event, broken, of_others) for event in events}
    received = {event.name: event.row["received_at"] for event in events}
    answers = [(event.row["processor"], event.answer) for event in events]
    return _store_outcomes(connection, now, outcomes, received, answers)


def _store_outcomes(
    connection: Connection,
    now: float,
    outcomes: Mapping[tuple[str, str], str | None],
    received: Mapping[tuple[str, str], float],
    answers: Iterable[tuple[str, object]],
) -> int:
    """Store how events end, by (processor, event_id); an event without an outcome is tried again."""
    open_circuits(connection, denials(answers), now)
    ended = [(*name, outcome) for name, outcome in outcomes.items() if outcome is not None]
    lags = [(name[0], now - received[name]) for name, outcome in outcomes.items() if outcome is not None]
    after_commit(connection, lambda: _observe_lags(lags))
    inbox.mark_processed(connection, ended, now)
    inbox.mark_tried(connection, [name for name, outcome in outcomes.items() if outcome is None])
    return len(ended)
