"""Sums of recently requested refunds, which are compared with the approval and velocity limits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, select

from refund_worker.domain.refund import ENDED_UNSENT
from refund_worker.store.refunds import id_at
from refund_worker.store.tables import legs, refunds

# Statuses of requests that a person took back. Failed refunds do count, because they were requested.
NOT_COUNTED = ENDED_UNSENT


def money_of_customers(
    connection: Connection, customer_ids: Collection[str], since: float
) -> list[tuple[str, str, str, int]]:
    """Return (customer_id, payment_id, currency, minor units) requested since `since` (epoch seconds)."""
    columns = (refunds.c.customer_id, legs.c.payment_id, legs.c.currency)
    rows = connection.execute(_money(columns, since).where(refunds.c.customer_id.in_(customer_ids)))
    return [(row[0], row[1], row[2], int(row[3])) for row in rows]


class Requested(NamedTuple):
    """Money that one refund requested over one payment; `created_at` in epoch seconds."""

    refund_id: str
    customer_id: str
    payment_id: str
    currency: str
    amount_minor: int
    created_at: float


def requested_since(connection: Connection, customer_ids: Collection[str], since: float) -> list[Requested]:
    """Return each refund that these customers requested since `since` (epoch seconds), one row for each payment."""
    r = refunds.c
    columns = (r.refund_id, r.customer_id, legs.c.payment_id, legs.c.currency)
    # A customer's index has the id second: the bound spares their earlier refunds.
    its = (r.customer_id.in_(customer_ids), r.refund_id >= id_at(since))
    rows = connection.execute(_money((*columns, r.created_at), since).where(*its))
    return [Requested(row[0], row[1], row[2], row[3], int(row[5]), row[4]) for row in rows]


def money_of_actors(connection: Connection, actors: Collection[str], since: float) -> list[tuple[str, str, int]]:
    """Return (actor, currency, minor units) requested since `since` (epoch seconds)."""
    columns = (refunds.c.requested_by, legs.c.currency)
    rows = connection.execute(_money(columns, since).where(refunds.c.requested_by.in_(actors)))
    return [(row[0], row[1], int(row[2])) for row in rows]


def counts(connection: Connection, column: str, values: Collection[str], since: float) -> list[tuple[str, int, float]]:
    """Count the refunds requested since `since`, by the column `customer_id` or `requested_by`.

    Returns (value of the column, number of refunds, time of the first request); times are epoch seconds.
    """
    which = refunds.c[column]
    query = (
        select(which, func.count(), func.min(refunds.c.created_at))
        .where(which.in_(values), refunds.c.created_at >= since, refunds.c.status.not_in(NOT_COUNTED))
        .group_by(which)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def counts_of_payments(
    connection: Connection, customer_ids: Collection[str], since: float
) -> list[tuple[str, int, float]]:
    """Count the refunds requested since `since` over each payment of these customers.

    Returns (payment_id, number of refunds, time of the first request); times are epoch seconds.
    """
    query = (
        select(legs.c.payment_id, func.count(), func.min(refunds.c.created_at))
        .join(refunds, refunds.c.refund_id == legs.c.refund_id)
        .where(
            refunds.c.customer_id.in_(customer_ids),
            refunds.c.created_at >= since,
            refunds.c.status.not_in(NOT_COUNTED),
            legs.c.replaces.is_(None),
        )
        .group_by(legs.c.payment_id)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def _money(columns: tuple[ColumnElement[Any], ...], since: float) -> Select[*tuple[Any, ...]]:
    return (
        select(*columns, func.sum(legs.c.amount_minor))
        .join(refunds, refunds.c.refund_id == legs.c.refund_id)
        .where(
            refunds.c.created_at >= since,
            refunds.c.status.not_in(NOT_COUNTED),
            legs.c.replaces.is_(None),
        )
        .group_by(*columns)
    )
