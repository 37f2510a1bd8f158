"""Look at one difference again: ask the processor for its objects, and compare them once more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import RowMapping

from refund_worker.domain.processor_replies import ChargedPayment, DisputeObject, RefundObject
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.reconciliation.account import (
    look_at_charged,
    look_at_dispute,
    look_at_payment,
    unknown_payments,
)
from refund_worker.engine.processor_sync.reconciliation.compare import Findings, compare
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.legs import compare_paid_legs
from refund_worker.engine.processor_sync.reconciliation.others import dispute_differences
from refund_worker.engine.processor_sync.reconciliation.reading import ask_singly
from refund_worker.store.reporting import reconciliation as store


@dataclass(frozen=True, slots=True)
class Second:
    """A second look: the difference as it is now, None if it has vanished, and what the processor has."""

    difference: Difference | None
    objects: tuple[RefundObject, ...] = ()
    disputes: tuple[DisputeObject, ...] = ()
    charged: tuple[ChargedPayment, ...] = ()


def look_again(context: Context, processor: str, row: RowMapping) -> Second:
    """Return a difference as it is now. Raises `ListDenied` or `NotListed` without an answer."""
    if row["kind"] == Kind.PAYMENT:
        return _look_at_payment(context, processor, row)
    if row["kind"] == Kind.DISPUTE:
        disputes = look_at_dispute(context, processor, row["object_id"])
        with context.database.read() as connection:
            differing = dispute_differences(connection, processor, disputes)
        return Second(next(iter(differing), None), disputes=disputes)
    if row["kind"] == Kind.NOT_THERE and not row["object_id"]:
        return _look_for_object(context, processor, row["leg_id"])
    with context.database.read() as connection:
        known = store.recorded_objects(connection, processor, [row["leg_id"]] if row["leg_id"] else [])
    ids = {row["object_id"], *(item.object_id for item in known), *_ids_in(row)} - {""}
    asked = ask_singly(context, processor, ids)
    with context.database.read() as connection:
        found = compare(connection, processor, asked.objects, asked.missing)
    return Second(_same(found, row), asked.objects)


def _look_at_payment(context: Context, processor: str, row: RowMapping) -> Second:
    """Look again at a payment of ours, or at one of the processor's that is not recorded."""
    if row["payment_id"]:
        return Second(look_at_payment(context, processor, row["payment_id"]))
    charged = look_at_charged(context, processor, row["object_id"])
    keys = context.recording
    with context.database.read() as connection:
        differing = unknown_payments(connection, processor, charged, keys) if keys else []
    return Second(next(iter(differing), None), charged=charged)


def _ids_in(row: RowMapping) -> Iterable[str]:
    """Return the ids of the objects that a difference of the kind `refunded_twice` names."""
    if row["kind"] != Kind.REFUNDED_TWICE:
        return ()
    return (name for name in row["detail"].split() if ":" not in name)


def _same(found: Findings, row: RowMapping) -> Difference | None:
    return next(
        (
            each
            for each in found.differences
            if (each.kind, each.subject, each.object_id) == (row["kind"], row["subject"], row["object_id"])
        ),
        None,
    )


def _look_for_object(context: Context, processor: str, leg_id: str) -> Second:
    """Look again for the object of a paid leg of which our books have none."""
    with context.database.read() as connection:
        leg = store.recorded_legs(connection, [leg_id])[leg_id]
        still = store.is_paid_without_object(connection, leg_id)
    if not still:
        return Second(None)
    differing = compare_paid_legs(context, processor, [leg])
    return Second(next((each for each in differing if each.kind == Kind.NOT_THERE), None))
