"""Refund objects of processors, as last reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, select, tuple_

from refund_worker.batching import batched
from refund_worker.domain.decision import RefundObjectUpdate
from refund_worker.domain.processor_replies import RefundDetails
from refund_worker.domain.refund import ObjectReport
from refund_worker.store.database import IDS_AT_ONCE, insert_into
from refund_worker.store.tables import legs, refund_objects

# Each detail has a column of its name.
_DETAILS = tuple(field.name for field in fields(RefundDetails))
# The columns of a report, in the order in which `as_report` takes them.
REPORT_COLUMNS = tuple(
    refund_objects.c[name] for name in ("processor_refund_id", "status", "created_at", "seen_at", *_DETAILS)
)


def write_objects(connection: Connection, seen: Iterable[tuple[str, RefundObjectUpdate]], now: float) -> None:
    """Store refund objects as reported: (processor, update) pairs.

    A later update of an object replaces an earlier one.
    """
    rows = {}
    for processor, item in seen:
        refund_object = item.object
        rows[processor, refund_object.processor_refund_id] = {
            "processor": processor,
            "processor_refund_id": refund_object.processor_refund_id,
            "leg_id": item.leg_id,
            "attempt": refund_object.attempt,
            "state": item.state,
            "status": refund_object.status,
            "amount_minor": refund_object.amount_minor,
            "currency": refund_object.currency,
            "failure_code": refund_object.failure_code,
            "created_at": refund_object.created_at.timestamp(),
            "seen_at": now if item.moving_since is None else item.moving_since,
            **asdict(refund_object.details),
        }
    if not rows:
        return
    insert = insert_into(connection, refund_objects)
    new = {
        name: insert.excluded[name]
        for name in ("state", "status", "amount_minor", "currency", "failure_code", "seen_at", *_DETAILS)
    }
    upsert = insert.on_conflict_do_update(index_elements=["processor", "processor_refund_id"], set_=new)
    connection.execute(upsert, list(rows.values()))


def as_report(row: Sequence[Any]) -> ObjectReport:
    """Return the report that a row of `REPORT_COLUMNS` holds."""
    details = RefundDetails(**dict(zip(_DETAILS, row[4:], strict=True)))
    return ObjectReport(row[0], row[1], row[2], row[3], details)


def known_reports(connection: Connection, processor: str, ids: Iterable[str]) -> dict[str, ObjectReport]:
    """Return the processor's last report by refund object id, for the objects in our records."""
    o = refund_objects.c
    found: dict[str, ObjectReport] = {}
    for chunk in batched(ids, IDS_AT_ONCE):
        query = select(*REPORT_COLUMNS).where(o.processor == processor, o.processor_refund_id.in_(chunk))
        found |= {row[0]: as_report(row) for row in connection.execute(query)}
    return found


def find_leg(connection: Connection, *, processor: str, processor_refund_id: str) -> tuple[str, str] | None:
    """Return (refund_id, leg_id) of a processor's refund object, or None if it is not in our records."""
    return next(iter(find_legs(connection, [(processor, processor_refund_id)]).values()), None)


def find_legs(connection: Connection, objects: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (refund_id, leg_id) by (processor, processor_refund_id), for the refund objects in our records."""
    o = refund_objects.c
    query = (
        select(o.processor, o.processor_refund_id, legs.c.refund_id, legs.c.leg_id)
        .join(legs, o.leg_id == legs.c.leg_id)
        .where(tuple_(o.processor, o.processor_refund_id).in_(objects))
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(query)} if objects else {}
