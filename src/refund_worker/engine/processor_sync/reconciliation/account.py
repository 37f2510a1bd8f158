"""Compare the payments and the disputes of a processor's account with ours, in pieces.

A server that speaks the processor's API may be unable to show them, or our key may not read them. Then there is nothing
to compare, and the phase ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import (
    NOT_THERE,
    Answer,
    ChargedPayment,
    ChargedRead,
    DisputeObject,
    DisputeRead,
    DisputesFound,
    Misconfigured,
    NotReadable,
    PaymentRead,
    PaymentReading,
    PaymentsPage,
    PaymentUnreadable,
)
from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.self_recording import RecordingKeys, Skipped, record_of
from refund_worker.engine.accounts.self_recording import known_refs
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import ask_one, not_listed
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.others import dispute_differences
from refund_worker.engine.processor_sync.reconciliation.progress import Progress
from refund_worker.engine.processor_sync.reconciliation.reading import Span
from refund_worker.store import payment_readings
from refund_worker.store import payments as store

# Marks in the cursor: the pages of the processor's list, and then our own payments by id.
THEIRS, OURS = "theirs:", "ours:"
PAYMENTS_AT_ONCE = 100
# `dataclasses.replace` keeps the rest of the progress.
Piece = tuple[Progress, tuple[Difference, ...]]


def advance_payments(context: Context, span: Span, progress: Progress) -> Piece:
    """Compare the next page of the processor's payments, or the next of ours.

    Raises `ListDenied` or `NotListed` without an answer.
    """
    if not context.processors[span.processor].reads_payments:
        return progress.next_phase(progress.counts), ()
    if progress.after.startswith(OURS):
        return _advance_ours(context, span, progress)
    return _advance_theirs(context, span, progress)


def _advance_theirs(context: Context, span: Span, progress: Progress) -> Piece:
    """Search a page of the processor's payments for those that record themselves and are not recorded."""
    ours = replace(progress, after=OURS)
    keys = context.recording
    if keys is None:  # no payment says whose it is: all that we do not know are other business of the account
        return ours, ()
    since, until = (datetime.fromtimestamp(at, UTC) for at in (span.since, _until(context, span)))
    after = progress.after.removeprefix(THEIRS) or None
    reply = ask_one(context, span.processor, lambda processor: processor.recent_payments(since, until, after))
    if isinstance(reply, NotReadable):
        return ours, ()
    if not isinstance(reply, PaymentsPage):
        raise not_listed(span.processor, reply)
    with context.database.read() as connection:
        found = unknown_payments(connection, span.processor, reply.payments, keys)
    counts = progress.counts.plus(payments=len(reply.payments), pieces=1)
    place = OURS if reply.after is None else THEIRS + reply.after
    return replace(progress, after=place, counts=counts), tuple(found)


def _until(context: Context, span: Span) -> float:
    if span.until is not None:
        return span.until
    with context.database.read() as connection:
        return context.clock(connection)


def unknown_payments(
    connection: Connection, processor: str, charged: Sequence[ChargedPayment], keys: RecordingKeys
) -> list[Difference]:
    """Return the payments of our customers that are not recorded here. One that was closed stays closed."""
    refs = [ref for payment in charged for ref in payment.payment_refs]
    known = known_refs(connection, processor, refs)
    found = []
    for payment in charged:
        if any(ref in known for ref in payment.payment_refs):
            continue
        record = record_of(payment, keys, processor, "import")
        if isinstance(record, Skipped):
            continue
        found.append(
            Difference(
                Kind.PAYMENT,
                payment.processor_payment_id,
                0,
                payment.captured_minor,
                payment.processor_payment_id,
                customer_id=record.customer_id,
                currency=payment.currency,
                detail=f"not recorded here: {record.credits} credits",
            )
        )
    return found


def _advance_ours(context: Context, span: Span, progress: Progress) -> Piece:
    """Compare some of our payments with the processor's record of each.

    A payment is asked for if it was never read, or if a refund over it failed: its money may never have come.
    """
    after = progress.after.removeprefix(OURS)
    with context.database.read() as connection:
        records = store.captured_between(
            connection, span.processor, span.since, span.until, after=after, limit=PAYMENTS_AT_ONCE
        )
        ids = [record.payment_id for record in records]
        facts = payment_readings.facts_of(connection, ids, [span.processor])
        doubtful = payment_readings.with_failed_refunds(connection, ids)
    if not records:
        return progress.next_phase(progress.counts), ()
    # A reading that only a refund object proves has no captured amount: the object itself is compared already.
    stored = {each: None if each in doubtful else facts[each].reading for each in ids}
    readings = {known: reading for known, reading in stored.items() if reading and reading.captured_minor is not None}
    unread = [record for record in records if record.payment_id not in readings]
    answers = context.run(_ask_for_payments(context, span.processor, unread)) if unread else []
    missing: set[str] = set()
    for record, reply in zip(unread, answers, strict=True):
        if isinstance(reply, PaymentUnreadable):
            return progress.next_phase(progress.counts), ()
        if isinstance(reply, PaymentRead):
            readings[record.payment_id] = reply.reading
        elif isinstance(reply, Misconfigured):
            missing.update({record.payment_id} if reply.code in NOT_THERE else ())
        else:
            raise not_listed(span.processor, reply)
    found = [
        difference
        for record in records
        if (difference := _payment_difference(record, readings.get(record.payment_id), record.payment_id in missing))
    ]
    counts = progress.counts.plus(asked=len(unread), pieces=1)
    return replace(progress, after=OURS + records[-1].payment_id, counts=counts), tuple(found)


async def _ask_for_payments(context: Context, processor: str, records: Sequence[PaymentRecord]) -> list[Answer]:
    answers: list[Answer] = []
    for record in records:
        await context.limiter.acquire(processor)
        answers.append(await context.processors[processor].find_payment(record.processor_payment_id))
    return answers


def look_at_payment(context: Context, processor: str, payment_id: str) -> Difference | None:
    """Ask for one payment of ours again; return its difference, or None. Raises `ListDenied` or `NotListed`."""
    with context.database.read() as connection:
        record = store.payments_by_id(connection, [payment_id])[payment_id]
        if store.closed_at(connection, payment_id) is not None:
            return None
    (reply,) = context.run(_ask_for_payments(context, processor, [record]))
    if isinstance(reply, PaymentRead):
        return _payment_difference(record, reply.reading, missing=False)
    if isinstance(reply, Misconfigured) and reply.code in NOT_THERE:
        return _payment_difference(record, None, missing=True)
    raise not_listed(processor, reply)


def _payment_difference(record: PaymentRecord, reading: PaymentReading | None, missing: bool) -> Difference | None:
    ours = record.amount_minor if record.captured_minor is None else record.captured_minor
    theirs: int | str = ours
    detail = ""
    if missing:
        theirs, detail = 0, "the processor does not have it"
    elif reading is not None and reading.currency != record.currency:
        theirs, detail = reading.currency, f"the processor has it in {reading.currency}, not in {record.currency}"
    elif reading is not None and reading.captured_minor is not None:
        theirs, detail = reading.captured_minor, "the processor captured another amount"
    if theirs == ours:
        return None
    return Difference(
        Kind.PAYMENT,
        record.payment_id,
        ours,
        theirs,
        record.processor_payment_id,
        payment_id=record.payment_id,
        customer_id=record.customer_id,
        currency=record.currency,
        detail=detail,
    )


def look_at_charged(context: Context, processor: str, processor_payment_id: str) -> tuple[ChargedPayment, ...]:
    """Ask for one payment of the processor with its metadata; none if it cannot be read.

    Raises `ListDenied` or `NotListed`.
    """
    reply = ask_one(context, processor, lambda adapter: adapter.fetch_payment(processor_payment_id))
    if isinstance(reply, ChargedRead):
        return (reply.payment,)
    if isinstance(reply, NotReadable) or (isinstance(reply, Misconfigured) and reply.code in NOT_THERE):
        return ()
    raise not_listed(processor, reply)


# --- disputes ---------------------------------------------------------------------------------------------------------


def advance_disputes(context: Context, span: Span, progress: Progress) -> Piece:
    """Compare all disputes that were opened in this time: they are few. Raises `ListDenied` or `NotListed`."""
    disputes = read_disputes(context, span)
    with context.database.read() as connection:
        found = dispute_differences(connection, span.processor, disputes)
    return progress.next_phase(progress.counts.plus(disputes=len(disputes), pieces=1)), tuple(found)


def read_disputes(context: Context, span: Span) -> tuple[DisputeObject, ...]:
    """Return the disputes that were opened in this time; none if they cannot be read."""
    if not context.processors[span.processor].reads_disputes:
        return ()
    since = datetime.fromtimestamp(span.since, UTC)
    reply = ask_one(context, span.processor, lambda adapter: adapter.recent_disputes(since))
    if isinstance(reply, DisputesFound):
        return tuple(d for d in reply.objects if span.until is None or d.created_at.timestamp() < span.until)
    if isinstance(reply, NotReadable):
        return ()
    raise not_listed(span.processor, reply)


def look_at_dispute(context: Context, processor: str, dispute_id: str) -> tuple[DisputeObject, ...]:
    """Ask for one dispute; none if the processor does not know it. Raises `ListDenied` or `NotListed`."""
    reply = ask_one(context, processor, lambda adapter: adapter.fetch_dispute(dispute_id))
    if isinstance(reply, DisputeRead):
        return (reply.object,)
    if isinstance(reply, NotReadable) or (isinstance(reply, Misconfigured) and reply.code in NOT_THERE):
        return ()
    raise not_listed(processor, reply)
