"""What was asked for lately: the sums that approval and velocity limits are held against."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from refund_worker.domain.refund import ENDED_UNSENT
from refund_worker.store.tables import legs, refunds

# Asked and not taken back by a person: what failed counts too, since somebody did ask for it.
NOT_COUNTED = ENDED_UNSENT


def money_of_customers(
    connection: Connection, customer_ids: Collection[str], since: float
) -> list[tuple[str, str, str, int]]:
    """(customer, payment, currency, minor units) asked for since then."""
    columns = (refunds.c.customer_id, legs.c.payment_id, legs.c.currency)
    rows = connection.execute(_money(columns, since).where(refunds.c.customer_id.in_(customer_ids)))
    return [(row[0], row[1], row[2], int(row[3])) for row in rows]


def money_of_actors(connection: Connection, actors: Collection[str], since: float) -> list[tuple[str, str, int]]:
    """(actor, currency, minor units) asked for since then."""
    columns = (refunds.c.requested_by, legs.c.currency)
    rows = connection.execute(_money(columns, since).where(refunds.c.requested_by.in_(actors)))
    return [(row[0], row[1], int(row[2])) for row in rows]


def counts(connection: Connection, column: str, values: Collection[str], since: float) -> list[tuple[str, int, float]]:
    """How many refunds were asked for since then and when the first was, by `customer_id` or `requested_by`."""
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
    """How many refunds were asked for over each payment of these customers since then, and when the first was."""
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


def _money(columns: tuple[ColumnElement[str], ...], since: float) -> Select[*tuple[Any, ...]]:
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
