"""Sums of our ledger that are compared with the processor's records."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, RowMapping, func, select

from refund_worker.batching import batched
from refund_worker.domain.ledger import CLEARING, CREDITS
from refund_worker.domain.mismatch import MISMATCH_SEPARATOR
from refund_worker.domain.refund import POSTED_UNENDED
from refund_worker.domain.state_machine import FINAL_LEGS, LegOutcome
from refund_worker.store.database import IDS_AT_ONCE, insert_into
from refund_worker.store.tables import (
    customers,
    events,
    last_reconciliations,
    ledger_entries,
    ledger_transactions,
    legs,
    refund_objects,
    refunds,
)

ENDED_BY_A_PERSON = (f"leg_{LegOutcome.PAID_MANUALLY}", f"leg_{LegOutcome.ABANDONED}")


def record(connection: Connection, processor: str, at: float, *, compared: int, differences: int) -> None:
    """Record the latest comparison with the records of `processor`."""
    values = {"at": at, "compared": compared, "differences": differences}
    insert = insert_into(connection, last_reconciliations).values(processor=processor, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=["processor"], set_=values))


def latest(connection: Connection) -> dict[str, RowMapping]:
    """Return the latest comparison of each processor (at, compared, differences), by the processor's name."""
    query = select(last_reconciliations)
    return {row["processor"]: row for row in connection.execute(query).mappings()}


def money_by_leg(connection: Connection, since: float) -> dict[tuple[str, str], int]:
    """Return the minor units that the ledger paid out through a processor, net of returns, by leg and currency.

    Only legs with a refund object created at the processor at `since` or later (the processor's clock) count.
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
    """Return the customer id by leg id."""
    found: dict[str, str] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        query = select(legs.c.leg_id, refunds.c.customer_id).join(refunds, refunds.c.refund_id == legs.c.refund_id)
        found |= {row[0]: row[1] for row in connection.execute(query.where(legs.c.leg_id.in_(chunk)))}
    return found


def open_legs(connection: Connection) -> dict[str, str]:
    """Return the status by leg id of legs that have not ended: their amounts may differ for now."""
    query = select(legs.c.leg_id, legs.c.status).where(legs.c.status.not_in(FINAL_LEGS))
    return {row[0]: row[1] for row in connection.execute(query)}


def is_any_under_way(connection: Connection) -> bool:
    """Return True if credits of a refund may still be between balance and money."""
    query = select(refunds.c.refund_id).where(refunds.c.status.in_(POSTED_UNENDED)).limit(1)
    return connection.execute(query).first() is not None


def objects_of_legs(connection: Connection, processor: str, leg_ids: Iterable[str]) -> list[str]:
    """Return ids of the refund objects that are recorded for these legs."""
    o = refund_objects.c
    found: list[str] = []
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        query = select(o.processor_refund_id).where(o.processor == processor, o.leg_id.in_(chunk))
        found += connection.execute(query).scalars()
    return found


def resolved_objects(connection: Connection, processor: str, ids: Iterable[str]) -> frozenset[str]:
    """Return those refund objects that were known to be mismatched when a person ended their leg."""
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
    """Return (customer_id, stored balance, ledger's sum) of customers for whom they differ."""
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
    """Return the balance of the clearing account; zero if nothing is in flight."""
    e = ledger_entries.c
    query = select(func.coalesce(func.sum(e.amount), 0)).where(e.account == CLEARING, e.unit == CREDITS)
    return int(connection.execute(query).scalar_one())
