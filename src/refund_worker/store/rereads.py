"""How far the refund objects of an account without a list were read again, and those that come next."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, select, tuple_, union

from refund_worker.domain.refund import ObjectState
from refund_worker.store.database import insert_into
from refund_worker.store.tables import LIVE_OUTSIDE_REFUND, claims, refund_objects, rereads


@dataclass(frozen=True, slots=True)
class Round:
    """One reading of all objects of an account (times in epoch seconds).

    `after_created_at` and `after_id` are the last object that was read, in the order of (creation, id). `ended` is True
    if none comes after it.
    """

    began_at: float
    after_created_at: float
    after_id: str = ""
    ended: bool = False


def last_round(connection: Connection, processor: str) -> Round | None:
    """Return the last round of this account as far as it came, or None before the first."""
    r = rereads.c
    query = select(r.began_at, r.after_created_at, r.after_id, r.ended).where(r.processor == processor)
    row = connection.execute(query).one_or_none()
    return None if row is None else Round(*row)


def store_round(connection: Connection, processor: str, at: Round) -> None:
    """Store how far a round came."""
    values = asdict(at)
    insert = insert_into(connection, rereads).values(processor=processor, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=["processor"], set_=values))


def next_objects(connection: Connection, processor: str, after: Round, limit: int) -> list[tuple[float, str]]:
    """Return (creation, id) of the next objects at this processor that can still change though nothing asks for them.

    They are the refunds of ours that were paid, and those of others that took money or may do so.
    """
    o, c = refund_objects.c, claims.c
    place = after.after_created_at, after.after_id
    ours = (
        select(o.created_at, o.processor_refund_id)
        .where(o.processor == processor, tuple_(o.created_at, o.processor_refund_id) > place)
        .where(o.state == ObjectState.SUCCEEDED)
        .order_by(o.created_at, o.processor_refund_id)
        .limit(limit)
    )
    others = (
        select(c.object_created_at, c.object_id)
        .where(c.processor == processor, tuple_(c.object_created_at, c.object_id) > place, LIVE_OUTSIDE_REFUND)
        .order_by(c.object_created_at, c.object_id)
        .limit(limit)
    )
    both = union(select(ours.subquery()), select(others.subquery())).subquery()
    query = select(both.c.created_at, both.c.processor_refund_id).order_by(*both.c).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(query)]
