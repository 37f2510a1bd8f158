"""Payments that were made elsewhere, recorded here; each adds the purchased credits to the customer's balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain import ledger
from refund_worker.domain.ledger import Posting
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import run_again_once
from refund_worker.errors import AlreadyRecorded, InvalidRequest, RefundWorkerError, WrongField
from refund_worker.store import accounts, payments
from refund_worker.store import ledger as ledger_store
from refund_worker.times import DAY, to_millisecond

FUTURE_SECONDS_MAX = DAY


@dataclass(frozen=True, slots=True)
class Recorded:
    """Result for one stored record; `new` is False if it was already stored with the same body."""

    new: bool


def record_payments(context: Context, records: Sequence[PaymentRecord]) -> list[Recorded | RefundWorkerError]:
    """Store payments in one commit; each raises its customer's balance. Return one answer for each record, in order.

    A record gets `AlreadyRecorded` if its id is stored with another body, or its processor payment belongs to another
    id.
    """
    return run_again_once(context, lambda connection: _record_payments(connection, context, records))


def _record_payments(
    connection: Connection, context: Context, records: Sequence[PaymentRecord]
) -> list[Recorded | RefundWorkerError]:
    now = context.clock(connection)
    accounts.lock_customers(connection, {r.customer_id for r in records})
    known = payments.payments_by_id(connection, [r.payment_id for r in records])
    owners = payments.owners(connection, [(r.processor, r.processor_payment_id) for r in records])
    answers: list[Recorded | RefundWorkerError] = []
    new: list[PaymentRecord] = []
    for record in records:
        earlier = known.get(record.payment_id)
        owner = owners.get((record.processor, record.processor_payment_id), record.payment_id)
        too_late = not_in_future("captured_at", record.captured_at, now)
        if earlier is not None:
            answers.append(_same(earlier, record))
        elif too_late is not None:
            answers.append(too_late)
        elif owner != record.payment_id:
            answers.append(AlreadyRecorded(f"{record.processor_payment_id} is already recorded as payment {owner}"))
        else:
            known[record.payment_id] = record
            owners[record.processor, record.processor_payment_id] = record.payment_id
            new.append(record)
            answers.append(Recorded(new=True))
    # Only customers of new payments: a refused payment must not leave an empty account behind.
    accounts.insert_missing_customers(connection, [r.customer_id for r in new], now)
    payments.insert_payments(connection, new, now)
    ledger_store.insert_postings(connection, [_purchase(record) for record in new])
    bought: dict[str, int] = {}
    for record in new:
        bought[record.customer_id] = bought.get(record.customer_id, 0) + record.credits
    accounts.add_purchases(connection, bought)
    return answers


def not_in_future(field: str, at: float, now: float) -> InvalidRequest | None:
    """Return the refusal of a record whose time (epoch seconds) is more than a day after `now`, otherwise None.

    Such an entry would stay the newest of every list. A day allows for clocks that differ.
    """
    if at <= now + FUTURE_SECONDS_MAX:
        return None
    wrong = "must be at most a day from now: this record is about the past"
    return InvalidRequest(f"{field}: {wrong}", field=field, errors=(WrongField(field, wrong, f"#/{field}"),))


def _same(earlier: PaymentRecord, record: PaymentRecord) -> Recorded | RefundWorkerError:
    if _with_defaults(earlier) == _with_defaults(record):
        return Recorded(new=False)
    return AlreadyRecorded(f"payment {record.payment_id} is already recorded with another body")


def _with_defaults(record: PaymentRecord) -> PaymentRecord:
    """Return the record with the default of `captured_minor` filled in, so that both spellings of one body compare
    equal. Earlier versions stored a time more exactly than they showed it.
    """
    captured_minor = record.captured_minor or record.amount_minor
    return replace(record, captured_minor=captured_minor, captured_at=to_millisecond(record.captured_at))


def _purchase(record: PaymentRecord) -> Posting:
    return ledger.purchase(
        payment_id=record.payment_id,
        customer_id=record.customer_id,
        processor=record.processor,
        credits=record.credits,
        amount_minor=record.amount_minor,
        currency=record.currency,
        at=record.captured_at,
    )
