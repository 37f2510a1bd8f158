"""Readings of payments: what processors report, kept with each payment next to what was recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Boolean, Connection, bindparam, case, func, or_, select, update

from refund_worker.batching import batched
from refund_worker.domain.account_names import platform_of
from refund_worker.domain.decision import AskedReading, Reread
from refund_worker.domain.payment_check import PaymentFacts
from refund_worker.domain.processor_replies import PaymentRead, PaymentReading
from refund_worker.domain.refund import ObjectState
from refund_worker.domain.state_machine import UNPAID_FINAL
from refund_worker.store.database import IDS_AT_ONCE
from refund_worker.store.tables import REFUNDED_BEFORE, legs, payments, refund_objects

# A proof by a refund object is valid until the payment itself is read; a retry only makes it doubted.
READ, UNREADABLE, PROVED, DOUBTED = "read", "unreadable", "proved", "doubted"

# Our amount is what the processor paid or may have paid. It includes what a person paid manually, as our ledger does.
_ours = (
    select(func.coalesce(func.sum(legs.c.amount_minor), 0))
    .where(
        legs.c.payment_id == payments.c.payment_id,
        *(legs.c.status != status for status in sorted(UNPAID_FINAL)),
        or_(legs.c.last_sent_at.is_not(None), legs.c.processor_refund_id.is_not(None)),
    )
    .correlate(payments)
    .scalar_subquery()
)
_FACTS = select(
    case((payments.c.word_outside > 0, _ours), else_=0).label("ours"),
    payments.c.payment_id,
    payments.c.processor,
    payments.c.amount_minor,
    payments.c.currency,
    payments.c.captured_at,
    payments.c.captured_minor,
    REFUNDED_BEFORE.label("refunded_minor"),
    payments.c.word,
    payments.c.word_captured,
    payments.c.word_currency,
    payments.c.word_live,
    payments.c.word_disputed,
    payments.c.word_refunded,
    payments.c.word_read_at,
    payments.c.word_outside,
    payments.c.word_seen,
    payments.c.open_disputes,
).where(payments.c.payment_id.in_(bindparam("payment_ids", expanding=True)))


def facts_of(
    connection: Connection, payment_ids: Collection[str], readable: Collection[str]
) -> dict[str, PaymentFacts]:
    """Return the facts of these payments by payment_id.

    `readable` are the processors that can be asked about payments.
    """
    found = {}
    for some in batched(sorted(set(payment_ids)), IDS_AT_ONCE):
        for row in connection.execute(_FACTS, {"payment_ids": list(some)}).mappings():
            found[row["payment_id"]] = _facts(row, platform_of(row["processor"]) in readable)
    return found


def with_failed_refunds(connection: Connection, payment_ids: Collection[str]) -> frozenset[str]:
    """Return those of these payments over which a refund failed at the processor.

    A bank debit may have failed since such a payment was read, and its refund with it.
    """
    found: set[str] = set()
    for some in batched(sorted(set(payment_ids)), IDS_AT_ONCE):
        query = (
            select(legs.c.payment_id)
            .join(refund_objects, refund_objects.c.leg_id == legs.c.leg_id)
            .where(legs.c.payment_id.in_(some), refund_objects.c.state == ObjectState.FAILED)
        )
        found |= {payment_id for payment_id in connection.execute(query).scalars() if payment_id}
    return frozenset(found)


def _facts(row: Mapping[Any, Any], readable: bool) -> PaymentFacts:
    reading = None
    if row["word"] in (READ, PROVED, DOUBTED):
        reading = PaymentReading(
            captured_minor=row["word_captured"],
            currency=row["word_currency"],
            live=row["word_live"],
            disputed=row["word_disputed"],
            refunded_minor=row["word_refunded"],
        )
    return PaymentFacts(
        payment_id=row["payment_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        captured_at=row["captured_at"],
        captured_minor=row["captured_minor"],
        refunded_minor=row["refunded_minor"],
        readable=readable,
        is_read=row["word"] not in (None, DOUBTED),
        read_at=row["word_read_at"] or 0.0,
        reading=reading,
        outside_minor=row["word_outside"],
        seen_minor=row["word_seen"],
        ours_minor=int(row["ours"]),  # Postgres sums integers to a decimal
        has_open_dispute=row["open_disputes"] > 0,
    )


def store_readings(connection: Connection, readings: Mapping[str, AskedReading], now: float) -> None:
    """Store what was read of each payment, by payment_id, at `now` (epoch seconds).

    The amount that is refunded there but is not in our records is computed and stored with it. A reading that was asked
    for before the stored one changes nothing.
    """
    read, unread = [], []
    for payment_id, asked in sorted(readings.items()):
        row = {"id": payment_id, "read_at": asked.asked_at, "now": now}
        if isinstance(asked.answer, PaymentRead):
            read.append(row | _columns(asked.answer.reading))
        else:
            unread.append(row)
    if read:
        connection.execute(_STORE_READING, read)
    if unread:
        connection.execute(_KEEP_UNREADABLE, unread)


def _columns(reading: PaymentReading) -> dict[str, Any]:
    return {
        "state": PROVED if reading.captured_minor is None else READ,
        "captured": reading.captured_minor,
        "its_currency": reading.currency,
        "live": reading.live,
        "disputed": reading.disputed,
        "refunded": reading.refunded_minor,
    }


def read_again(connection: Connection, payment_ids: Mapping[str, Reread]) -> None:
    """Discard the readings of these payments, by payment_id, so that they are read again.

    An amount refunded elsewhere that a person has acknowledged does not stop a leg again; only a further one does. A
    reported dispute does not stop it either: some processors keep reporting a dispute after it is won, and while it is
    open, a send is refused.
    """
    rows = [
        {"id": payment_id, "always": how.always, "as_seen": how.takes_as_seen}
        for payment_id, how in sorted(payment_ids.items())
    ]
    if rows:
        connection.execute(_DELETE_READING, rows)


def count_unreadable(connection: Connection) -> int:
    """Return how many payments could not be read, so that refunds over them are sent unchecked."""
    return connection.execute(select(func.count()).where(payments.c.word == UNREADABLE)).scalar_one()


_unexplained = (
    bindparam("refunded", type_=payments.c.word_refunded.type) - REFUNDED_BEFORE - payments.c.outside_minor - _ours
)
# A stored time in the future says nothing: the clock went back since.
_is_newest = or_(
    payments.c.word_read_at.is_(None),
    payments.c.word_read_at <= bindparam("read_at"),
    payments.c.word_read_at > bindparam("now"),
)
_STORE_READING = (
    update(payments)
    .where(payments.c.payment_id == bindparam("id"), _is_newest)
    .values(
        word=bindparam("state"),
        word_captured=bindparam("captured"),
        word_currency=bindparam("its_currency"),
        word_live=bindparam("live"),
        word_disputed=bindparam("disputed"),
        word_refunded=bindparam("refunded"),
        word_read_at=bindparam("read_at"),
        # If refunds were not reported, the comparison is null and nothing counts as refunded elsewhere.
        word_outside=case((_unexplained > 0, _unexplained), else_=0),
    )
)
# Two comparisons instead of IN: a list of values cannot be used with several payments in one statement.
_is_proved = or_(payments.c.word == PROVED, payments.c.word == DOUBTED)
_KEEP_UNREADABLE = (
    update(payments)
    .where(payments.c.payment_id == bindparam("id"), _is_newest)
    .values(word=case((_is_proved, PROVED), else_=UNREADABLE), word_read_at=bindparam("read_at"))
)
_blocks_sending = or_(bindparam("always", type_=Boolean), payments.c.word_outside > payments.c.word_seen)
_DELETE_READING = (
    update(payments)
    .where(payments.c.payment_id == bindparam("id"))
    .values(
        word=case((_is_proved, DOUBTED), (_blocks_sending, None), else_=payments.c.word),
        word_disputed=False,
        word_seen=case((bindparam("as_seen", type_=Boolean), payments.c.word_outside), else_=payments.c.word_seen),
    )
)
