"""Lists of payouts, with filters, and the time until which earnings are held. Times are epoch seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select, union

from refund_worker.domain.payouts.payee import REFUSED_BY_PROCESSOR
from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.store.payment_refs import stepped_names
from refund_worker.store.tables import earnings, payout_legs, payout_runs, payouts, refunds, transfer_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutFilters:
    """The payouts to list; an omitted filter matches any. `starting_after` is the id of the last one already seen.

    With `client`, only the payouts that it sees are listed (`_seen_by`).
    """

    statuses: tuple[str, ...] = ()
    payee_id: str | None = None
    run_id: str | None = None
    processor: str | None = None
    failure_code: str | None = None
    idempotency_key: str | None = None
    created_gte: float | None = None
    client: str | None = None
    limit: int = 100
    starting_after: str | None = None
    oldest_first: bool = False


def _seen_by(client: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of which at least one holds for each payout that `client` sees: the rule of visibility.

    A client sees the payouts that it asked for, those of its refunds, and those of its runs. The last two have a client
    of their own, so that no caller can take one of their keys.
    """
    p = payouts.c
    its_refunds = select(refunds.c.refund_id).where(refunds.c.client == client)
    its_runs = select(payout_runs.c.run_id).where(payout_runs.c.client == client)
    return p.client == client, p.refund_id.in_(its_refunds), p.run_id.in_(its_runs)


def is_visible(connection: Connection, payout_id: str, client: str | None) -> bool:
    """Return True if the payout exists, and `client` sees it, if one is given."""
    query = select(payouts.c.payout_id).where(payouts.c.payout_id == payout_id)
    if client is not None:
        query = query.where(or_(*_seen_by(client)))
    return connection.execute(query).first() is not None


def find_ids(connection: Connection, filters: PayoutFilters) -> list[str]:
    """Return ids in the order of the filters, one more than the limit if there are more."""
    if filters.client is None:
        return list(connection.execute(_page(filters, filters.statuses)).scalars())
    own, *others = _seen_by(filters.client)
    # A client's index has the status first: naming all statuses is the same as naming none.
    pages = [_page(filters, filters.statuses or tuple(PayoutStatus)).where(own)]
    pages += [_page(filters, filters.statuses).where(seen) for seen in others]
    # A page of each, and then of all: so each of them can use an index of its own.
    found = union(*(select(page.subquery().c.payout_id) for page in pages)).subquery()
    order = found.c.payout_id if filters.oldest_first else found.c.payout_id.desc()
    return list(connection.execute(select(found.c.payout_id).order_by(order).limit(filters.limit + 1)).scalars())


def _page(filters: PayoutFilters, statuses: Collection[str]) -> Select[Any]:
    """Return the query for a page of ids that match the filters, in these statuses, of all clients."""
    p = payouts.c
    query = select(p.payout_id)
    for name in ("payee_id", "run_id", "processor", "idempotency_key"):
        value = getattr(filters, name)
        if value is not None:
            query = query.where(p[name] == value)
    if filters.failure_code is not None:
        # The code that is shown: else the filter would tell the code of a compliance outcome.
        shown = case((p.fault == Fault.COMPLIANCE, REFUSED_BY_PROCESSOR), else_=p.failure_code)
        query = query.where(p.failure_code.is_not(None), shown == filters.failure_code)
    if statuses:
        query = query.where(p.status.in_(statuses))
    if filters.created_gte is not None:
        query = query.where(p.created_at >= filters.created_gte)
    if filters.starting_after is not None:
        beyond = p.payout_id > filters.starting_after if filters.oldest_first else p.payout_id < filters.starting_after
        query = query.where(beyond)
    order = p.payout_id if filters.oldest_first else p.payout_id.desc()
    return query.order_by(order).limit(filters.limit + 1)


def count_in(connection: Connection, statuses: Collection[str]) -> dict[str, int]:
    """Return the number of payouts in each of these statuses."""
    p = payouts.c
    query = select(p.status, func.count()).where(p.status.in_(statuses)).group_by(p.status)
    return dict.fromkeys(statuses, 0) | {row[0]: row[1] for row in connection.execute(query)}


def named(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of payouts with this id, idempotency key, run, or object at a processor, newest first."""
    p, o = payouts.c, transfer_objects.c
    processors = stepped_names(connection, transfer_objects.c.processor)
    legs = select(o.leg_id).where(o.processor.in_(processors), o.object_id == text)
    its = select(payout_legs.c.payout_id).where(payout_legs.c.leg_id.in_(legs))
    exact = (p.payout_id == text) | (p.idempotency_key == text) | (p.run_id == text) | p.payout_id.in_(its)
    query = select(p.payout_id).where(exact)
    if client is not None:
        query = query.where(or_(*_seen_by(client)))
    return list(connection.execute(query.order_by(p.payout_id.desc()).limit(limit)).scalars())


def held_until(connection: Connection, payee_id: str, currency: str, now: float) -> float | None:
    """Return when the next of the payee's held earnings becomes available, or None if none is held."""
    e = earnings.c
    query = select(func.min(e.available_at)).where(
        e.payee_id == payee_id, e.currency == currency, e.available_at > now, e.amount_minor > e.clawed_back_minor
    )
    found = connection.execute(query).scalar()
    return None if found is None else float(found)
