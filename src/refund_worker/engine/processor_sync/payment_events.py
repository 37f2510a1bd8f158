"""Payments that record themselves when an event tells of them. The event is a hint: the fetched payment decides."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.processor_replies import (
    NOT_THERE,
    Answer,
    ChargedPayment,
    ChargedRead,
    Misconfigured,
    NotReadable,
)
from refund_worker.domain.self_recording import RecordingKeys, Skip, Skipped
from refund_worker.engine.accounts.payments import Recorded
from refund_worker.engine.accounts.self_recording import Outcome, record_charged
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.inbox_subjects import run_safely
from refund_worker.engine.refunds.payment_facts import reading_slot
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.processors.base import is_plain_id
from refund_worker.store import payment_refs

RECORDED = "payment recorded"
RECORDED_BEFORE = "payment was recorded before"
NOTHING_CAPTURED = "no payment: nothing was captured"
REFUSED = "payment not recorded: its id is another record's"
NOT_READABLE = "payment not recorded: the processor or its key does not let us read payments"
NOT_THERE_OUTCOME = "payment not recorded: the processor does not know it"
UNANSWERED = "payment not recorded: the processor did not answer"
BROKEN = "payment not recorded: this program broke on it"
# Why a captured payment did not record itself: a person reads this.
SKIPPED: Mapping[Skip, str] = {
    Skip.NOT_CAPTURED: NOTHING_CAPTURED,
    Skip.NO_CUSTOMER: "payment not recorded: its metadata names no customer",
    Skip.NO_CREDITS: "payment not recorded: its metadata names no credits",
    Skip.CONTRADICTORY: "payment not recorded: the metadata of its objects contradict each other",
    Skip.BAD_CUSTOMER: "payment not recorded: the customer's id in its metadata is unusable",
    Skip.BAD_CREDITS: "payment not recorded: its number of credits is unusable",
}
# The outcomes with which a person must record the payment, or correct its metadata and import it.
NOT_RECORDED = (
    *(text for skip, text in SKIPPED.items() if skip is not Skip.NOT_CAPTURED),
    *(REFUSED, NOT_READABLE, NOT_THERE_OUTCOME, UNANSWERED, BROKEN),
)


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """A stored event that tells of a new payment, and the processor's answer about it.

    `answer` is None if the payment is known here, so that nothing was asked.
    """

    row: RowMapping
    answer: Answer | None

    @property
    def name(self) -> tuple[str, str]:
        """Return (processor, event_id)."""
        return self.row["processor"], self.row["event_id"]


def new_payment_of(context: Context, row: RowMapping) -> str | None:
    """Return the processor's id of the new payment that an event tells of, or None for any other event."""
    entry = context.accounts.entry_of(row["processor"])
    if entry is None or entry.webhooks is None:
        return None
    try:
        subject = entry.webhooks.event_subject(row["kind"], row["body"])
    except Exception:  # noqa: BLE001 -- the inbox reports an event that its adapter cannot read
        return None
    if subject is None or not subject.is_new_payment or not is_plain_id(subject.object_id):
        return None
    return subject.object_id


def fetch_new_payments(context: Context, rows: Sequence[tuple[RowMapping, str]]) -> list[PaymentEvent]:
    """Fetch the payments that these events name, as (event, id), unless they are recorded."""
    with context.database.read() as connection:
        asked = [(row, ref) for row, ref in rows if not _is_known(connection, row["processor"], ref)]
    answers = iter(context.run(_fetch_all(context, asked)) if asked else ())
    waiting = {(row["processor"], row["event_id"]) for row, _ in asked}
    return [
        PaymentEvent(row, next(answers) if (row["processor"], row["event_id"]) in waiting else None) for row, _ in rows
    ]


def _is_known(connection: Connection, processor: str, ref: str) -> bool:
    return bool(payment_refs.payments_of_refs(connection, processor, [ref]))


async def _fetch_all(context: Context, asked: Sequence[tuple[RowMapping, str]]) -> list[Answer]:
    async def fetch(processor: str, ref: str) -> Answer:
        adapter = context.processors.get(processor)
        if adapter is None:
            return Misconfigured("processor_not_configured", "no access is configured")
        await context.limiter.acquire(reading_slot(processor))
        return await call_safely(context, processor, "payment", adapter.fetch_payment(ref))

    return list(await asyncio.gather(*(fetch(row["processor"], ref) for row, ref in asked)))


def outcomes_of(
    context: Context, events: Sequence[PaymentEvent], keys: RecordingKeys, tries_max: tuple[int, int]
) -> dict[tuple[str, str], str | None]:
    """Record the payments that were read; return how each event ends, or None if it is tried again.

    `tries_max` is how often an event is tried: usually, and for a payment that the processor does not know.
    """
    ended: dict[tuple[str, str], str | None] = {}
    for processor in sorted({event.name[0] for event in events}):
        its = [event for event in events if event.name[0] == processor]
        read = [(event, event.answer.payment) for event in its if isinstance(event.answer, ChargedRead)]
        outcomes = _record(context, processor, [payment for _, payment in read], keys)
        for (event, _), outcome in zip(read, outcomes, strict=True):
            ended[event.name] = _text(outcome) if outcome else _broken(event, tries_max)
        ended |= {event.name: _unread(event, tries_max) for event in its if not isinstance(event.answer, ChargedRead)}
    return ended


def _record(
    context: Context, processor: str, charged: Sequence[ChargedPayment], keys: RecordingKeys
) -> list[Outcome | None]:
    """Record these payments. If this program fails on them, each is recorded alone, and has None if it fails again."""
    found: list[Outcome | None] = []

    def work(context: Context) -> None:
        found.extend(record_charged(context, processor, charged, keys, recorded_by="webhook"))

    if run_safely(context, f"new payments of {processor}", work):
        return found
    if len(charged) == 1:
        return [None]
    return [outcome for one in charged for outcome in _record(context, processor, [one], keys)]


def _broken(event: PaymentEvent, tries_max: tuple[int, int]) -> str | None:
    return BROKEN if event.row["tries"] + 1 >= tries_max[0] else None


def _text(outcome: Outcome) -> str:
    if isinstance(outcome, Recorded):
        return RECORDED if outcome.new else RECORDED_BEFORE
    return SKIPPED[outcome.skip] if isinstance(outcome, Skipped) else REFUSED


def _unread(event: PaymentEvent, tries_max: tuple[int, int]) -> str | None:
    tries = event.row["tries"] + 1
    match event.answer:
        case None:
            return RECORDED_BEFORE
        case NotReadable():
            return NOT_READABLE
        case Misconfigured(code=code) if code in NOT_THERE and tries >= tries_max[1]:
            return NOT_THERE_OUTCOME
    return UNANSWERED if tries >= tries_max[0] else None
