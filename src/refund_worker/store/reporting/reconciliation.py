"""Sums over our book, to be held against the processor's."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from refund_worker.batching import batched
from refund_worker.domain.ledger import CLEARING, CREDITS
from refund_worker.domain.mismatch import MISMATCH_SEPARATOR
from refund_worker.domain.refund import POSTED_UNENDED
from refund_worker.domain.state_machine import FINAL_LEGS, LegOutcome
from refund_worker.store.database import IDS_AT_ONCE
from refund_worker.store.tables import (
    customers,
    events,
    ledger_entries,
    ledger_transactions,
    legs,
    refund_objects,
    refunds,
)

ENDED_BY_A_PERSON = (f"leg_{LegOutcome.PAID_MANUALLY}", f"leg_{LegOutcome.ABANDONED}")


def money_by_leg(connection: Connection, since: float) -> dict[tuple[str, str], int]:
    """Minor units that the ledger says went out through a processor by leg and currency, net of what came back.

    Of legs with a refund object made at the processor at `since` or later, by the processor's clock.
    """
    t, e = ledger_transactions.c, ledger_entries.c
    recent = select(refund_objects.c.leg_id).where(refund_objects.c.created_at >= since)
    query = (
        select(t.refers_to, e.unit, -func.sum(e.amount))
        .join(ledger_entries, e.transaction_id == t.transaction_id)
        .where(t.kind.in_(("payout", "payout_reversal")), e.account.startswith("processor:"), t.refers_to.in_(recent))
        .group_by(t.refers_to, e.unit)
    )
    return {(leg_id, currency): int(amount) for leg_id, currency, amount in connection.execute(query)}


def customers_of_legs(connection: Connection, leg_ids: Iterable[str]) -> dict[str, str]:
    """The customer by leg id."""
    found: dict[str, str] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        query = select(legs.c.leg_id, refunds.c.customer_id).join(refunds, refunds.c.refund_id == legs.c.refund_id)
        found |= {row[0]: row[1] for row in connection.execute(query.where(legs.c.leg_id.in_(chunk)))}
    return found


def open_legs(connection: Connection) -> dict[str, str]:
    """Status by leg id of legs whose end is not known yet: their figures may differ for now."""
    query = select(legs.c.leg_id, legs.c.status).where(legs.c.status.not_in(FINAL_LEGS))
    return {row[0]: row[1] for row in connection.execute(query)}


def is_any_under_way(connection: Connection) -> bool:
    """Whether a refund's credits may be between balance and money still."""
    query = select(refunds.c.refund_id).where(refunds.c.status.in_(POSTED_UNENDED)).limit(1)
    return connection.execute(query).first() is not None


def objects_of_legs(connection: Connection, processor: str, leg_ids: Iterable[str]) -> list[str]:
    """Ids of the refund objects that we know of these legs."""
    o = refund_objects.c
    found: list[str] = []
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        query = select(o.processor_refund_id).where(o.processor == processor, o.leg_id.in_(chunk))
        found += connection.execute(query).scalars()
    return found


def known_statuses(connection: Connection, processor: str, ids: Iterable[str]) -> dict[str, str | None]:
    """What the processor last said of these refund objects, in its own words."""
    o = refund_objects.c
    found: dict[str, str | None] = {}
    for chunk in batched(ids, IDS_AT_ONCE):
        query = select(o.processor_refund_id, o.status).where(
            o.processor == processor, o.processor_refund_id.in_(chunk)
        )
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def resolved_objects(connection: Connection, processor: str, ids: Iterable[str]) -> frozenset[str]:
    """Those of these refund objects that were known not to be what was asked for when a person ended their leg."""
    o, e = refund_objects.c, events.c
    query = (
        select(o.processor_refund_id)
        .join(legs, legs.c.leg_id == o.leg_id)
        .join(events, (e.refund_id == legs.c.refund_id) & (e.leg_id == o.leg_id))
        .where(
            o.processor == processor,
            o.status.contains(MISMATCH_SEPARATOR),
            e.kind.in_(ENDED_BY_A_PERSON),
            e.at >= o.seen_at,
        )
    )
    found: list[str] = []
    for chunk in batched(ids, IDS_AT_ONCE):
        found += connection.execute(query.where(o.processor_refund_id.in_(chunk))).scalars()
    return frozenset(found)


def balances_that_differ(connection: Connection) -> list[tuple[str, int, int]]:
    """(customer, balance column, ledger's sum) wherever the two are not the same."""
    total = func.coalesce(func.sum(ledger_entries.c.amount), 0)
    account = "customer:" + customers.c.customer_id
    query = (
        select(customers.c.customer_id, customers.c.balance, total)
        .outerjoin(ledger_entries, (ledger_entries.c.account == account) & (ledger_entries.c.unit == CREDITS))
        .group_by(customers.c.customer_id, customers.c.balance)
        .having(customers.c.balance != total)
    )
    return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]


def clearing_credits(connection: Connection) -> int:
    """What the clearing account holds; zero when nothing is in flight."""
    e = ledger_entries.c
    query = select(func.coalesce(func.sum(e.amount), 0)).where(e.account == CLEARING, e.unit == CREDITS)
    return int(connection.execute(query).scalar_one())
