"""Sums of refunds' money for people to read. Amounts are in minor units."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Subquery, case, func, select, union_all

from refund_worker.domain.refund import RefundStatus
from refund_worker.store.tables import TROUBLED, legs, refunds


def asked_by_currency(connection: Connection, refund_ids: Collection[str]) -> dict[str, int]:
    """Return the minor units that these refunds first requested, by currency; replacement legs do not count."""
    if not refund_ids:
        return {}
    query = (
        select(legs.c.currency, func.sum(legs.c.amount_minor))
        .where(legs.c.refund_id.in_(refund_ids), legs.c.replaces.is_(None))
        .group_by(legs.c.currency)
    )
    return {currency: int(total) for currency, total in connection.execute(query)}


def _troubled(failed_at_most: int) -> Subquery:
    """Select the refunds that need attention and the newest that failed, from their index alone."""
    r = refunds.c
    query = select(r.refund_id, r.status, r.failure_code, r.updated_at).where(TROUBLED)
    failed = query.where(r.status == RefundStatus.FAILED).order_by(r.refund_id.desc()).limit(failed_at_most).subquery()
    return union_all(query.where(r.status == RefundStatus.NEEDS_ATTENTION), select(failed)).subquery("troubled")


def failures_by_code(connection: Connection, *, failed_at_most: int) -> list[dict[str, Any]]:
    """Return by failure code: refunds, needs_attention, first_seen, last_seen, example (the newest message).

    All refunds that need attention count, but only the newest `failed_at_most` that failed, because failures only grow.
    """
    r = _troubled(failed_at_most).c
    query = (
        select(
            r.failure_code,
            func.count().label("refunds"),
            func.sum(case((r.status == RefundStatus.NEEDS_ATTENTION, 1), else_=0)).label("needs_attention"),
            func.min(r.updated_at).label("first_seen"),
            func.max(r.updated_at).label("last_seen"),
            func.max(r.refund_id).label("newest"),
        )
        .group_by(r.failure_code)
        .order_by(func.count().desc(), r.failure_code)
    )
    rows = connection.execute(query).mappings().all()
    newest = select(refunds.c.refund_id, refunds.c.failure_message).where(
        refunds.c.refund_id.in_([row["newest"] for row in rows])
    )
    messages: dict[str, str | None] = {row[0]: row[1] for row in connection.execute(newest)}
    return [{**row, "example": messages[row["newest"]]} for row in rows]


def accounts_by_failure(connection: Connection, *, failed_at_most: int) -> list[tuple[str | None, str]]:
    """Return (failure code, account) of the same refunds: the accounts of the legs that have the code."""
    r = _troubled(failed_at_most).c
    query = (
        select(r.failure_code, legs.c.processor)
        .join(legs, (legs.c.refund_id == r.refund_id) & (legs.c.failure_code == r.failure_code))
        .distinct()
        .order_by(r.failure_code, legs.c.processor)
    )
    return [(code, account) for code, account in connection.execute(query)]


def asked_by_failure(connection: Connection, *, failed_at_most: int) -> list[tuple[Any, ...]]:
    """Return (failure code, currency, minor units first requested) of the same refunds as `failures_by_code`."""
    r = _troubled(failed_at_most).c
    query = (
        select(r.failure_code, legs.c.currency, func.sum(legs.c.amount_minor))
        .join(legs, legs.c.refund_id == r.refund_id)
        .where(legs.c.replaces.is_(None))
        .group_by(r.failure_code, legs.c.currency)
        .order_by(r.failure_code, legs.c.currency)
    )
    return [tuple(row) for row in connection.execute(query)]
