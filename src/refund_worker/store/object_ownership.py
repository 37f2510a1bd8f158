"""The refund objects and manual payments in our records, read to find out which leg an object belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import Connection, and_, select

from refund_worker.batching import batched
from refund_worker.domain.claims.claim import LIVE, ClaimKind
from refund_worker.domain.refund import LegStatus
from refund_worker.store.database import IDS_AT_ONCE
from refund_worker.store.refunds import PlaceOfLeg, places_of_legs
from refund_worker.store.tables import REFUNDED_BEFORE, claims, legs, payments, refund_objects


class RecordedObject(NamedTuple):
    """The leg and refund of a recorded refund object; `attempt` is as first reported, None if it was not.

    `linked_minor` is the part of the object's money that the leg has, if others made it and a person linked it.
    """

    leg_id: str
    refund_id: str
    attempt: int | None
    linked_minor: int | None = None


def legs_of_objects(connection: Connection, processor: str, object_ids: Iterable[str]) -> dict[str, RecordedObject]:
    """Return, by object id, the refund objects of this processor that are in our records."""
    o = refund_objects.c
    c = claims.c
    is_linked = and_(
        c.processor == o.processor, c.kind == ClaimKind.OUTSIDE_REFUND, c.object_id == o.processor_refund_id
    )
    query = (
        select(o.processor_refund_id, o.leg_id, legs.c.refund_id, o.attempt, c.linked_minor)
        .join(legs, legs.c.leg_id == o.leg_id)
        .outerjoin(claims, is_linked)
    )
    found: dict[str, RecordedObject] = {}
    for chunk in batched(object_ids, IDS_AT_ONCE):
        rows = connection.execute(query.where(o.processor == processor, o.processor_refund_id.in_(chunk)))
        found |= {object_id: RecordedObject(*rest) for object_id, *rest in rows}
    return found


def places_of_many_legs(connection: Connection, leg_ids: Iterable[str]) -> dict[str, PlaceOfLeg]:
    """Return the refund and the account by leg id for the legs that exist; the number of ids is not limited."""
    found: dict[str, PlaceOfLeg] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        found |= places_of_legs(connection, chunk)
    return found


class AskedFor(NamedTuple):
    """The amount that a leg requests, in minor units, and the payment, by the processor's id for it."""

    amount_minor: int
    currency: str
    processor_payment_id: str


def asked_for(connection: Connection, leg_ids: Collection[str]) -> dict[str, AskedFor]:
    """Return what these legs request, by leg id."""
    query = select(legs.c.leg_id, legs.c.amount_minor, legs.c.currency, legs.c.processor_payment_id)
    found: dict[str, AskedFor] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        rows = connection.execute(query.where(legs.c.leg_id.in_(chunk)))
        found |= {leg_id: AskedFor(*rest) for leg_id, *rest in rows}
    return found


def references_of(connection: Connection, leg_ids: Collection[str]) -> dict[str, str]:
    """Return, by leg id, the reference by which these legs were paid.

    It is the refund object's id, or a person's reference with the prefix of manual payments.
    """
    query = select(legs.c.leg_id, legs.c.processor_refund_id).where(legs.c.processor_refund_id.is_not(None))
    found: dict[str, str] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        found |= {row[0]: row[1] for row in connection.execute(query.where(legs.c.leg_id.in_(chunk)))}
    return found


def returned_earlier(connection: Connection, payment_id: str) -> int:
    """Return the minor units that were returned before this payment was known here and are still gone."""
    query = select(REFUNDED_BEFORE).where(payments.c.payment_id == payment_id)
    return int(connection.execute(query).scalar() or 0)


def claimed_outside(connection: Connection, payment_id: str, before: float | None = None) -> dict[str, int]:
    """Return the minor units, by object id, of refunds of others over this payment that are recorded as claims.

    With `before` (epoch seconds), only of those that were recorded before.
    """
    c = claims.c
    query = select(c.object_id, c.amount_minor - c.explained_minor).where(
        c.payment_id == payment_id, c.kind == ClaimKind.OUTSIDE_REFUND, c.phase.in_(sorted(LIVE))
    )
    if before is not None:
        query = query.where(c.recorded_at < before)
    return {row[0]: row[1] for row in connection.execute(query)}


IS_PAID_MANUALLY = and_(
    legs.c.status == LegStatus.SUCCEEDED,
    legs.c.manual_reference.is_not(None),
    legs.c.manual_reference != legs.c.processor_refund_id,
)


def paid_manually(connection: Connection, payment_id: str) -> dict[str, int]:
    """Return the minor units, by reference, that persons paid manually for refunds over this payment.

    A reference that names the object of ours that pays the leg is no payment beside it.
    """
    return paid_manually_over(connection, [payment_id]).get(payment_id, {})


def paid_manually_over(connection: Connection, payment_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return what `paid_manually` does, by payment id."""
    query = select(legs.c.payment_id, legs.c.manual_reference, legs.c.amount_minor).where(IS_PAID_MANUALLY)
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for chunk in batched(payment_ids, IDS_AT_ONCE):
        for payment_id, name, amount_minor in connection.execute(query.where(legs.c.payment_id.in_(chunk))):
            found[payment_id][name] += amount_minor
    return {payment_id: dict(named) for payment_id, named in found.items()}
