"""Sums for the plots: by day or hour, each a row of (name, at, label) with its value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, RowMapping, func, select

from refund_worker.store.database import insert_into
from refund_worker.store.tables import events, legs, refunds, repeated_requests, tallies

PLACE = "events_counted"

# (name, the first second of the day or hour, label)
Slot = tuple[str, int, str]


def counted_upto(connection: Connection) -> int:
    """The number of the last line of the timelines that is counted."""
    query = select(tallies.c.value).where(tallies.c.name == PLACE)
    return connection.execute(query).scalar() or 0


def events_between(connection: Connection, after: int, upto: int, limit: int) -> list[RowMapping]:
    """Lines of the timelines in order, each with its refund's way and time and its leg's money."""
    e, r = events.c, refunds.c
    query = (
        select(
            e.seq, e.at, e.kind, e.from_status, e.to_status, e.refund_id, r.created_at, r.to,
            legs.c.amount_minor, legs.c.currency,
        )
        .join(refunds, r.refund_id == e.refund_id)
        .outerjoin(legs, legs.c.leg_id == e.leg_id)
        .where(e.seq > after, e.seq <= upto)
        .order_by(e.seq)
        .limit(limit)
    )  # fmt: skip
    return list(connection.execute(query).mappings())


def asked_money(connection: Connection, refund_ids: Collection[str]) -> list[tuple[str, str, int]]:
    """(refund, currency, minor units first asked for)."""
    c = legs.c
    query = (
        select(c.refund_id, c.currency, func.sum(c.amount_minor))
        .where(c.refund_id.in_(refund_ids), c.replaces.is_(None))
        .group_by(c.refund_id, c.currency)
    )
    return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]


def add(connection: Connection, changes: Mapping[Slot, int], *, counted: int) -> None:
    """Add to the sums and note how far they are counted, in the caller's one transaction."""
    insert = insert_into(connection, tallies)
    rows = [{"name": n, "at": at, "label": label, "value": v} for (n, at, label), v in sorted(changes.items()) if v]
    if rows:
        added = insert.on_conflict_do_update(
            index_elements=["name", "at", "label"], set_={"value": tallies.c.value + insert.excluded.value}
        )
        connection.execute(added, rows)
    place = insert.values(name=PLACE, at=0, label="", value=counted)
    connection.execute(
        place.on_conflict_do_update(index_elements=["name", "at", "label"], set_={"value": insert.excluded.value})
    )


def raise_to(connection: Connection, slot: Slot, value: int) -> None:
    """Keep the largest value seen."""
    name, at, label = slot
    insert = insert_into(connection, tallies)
    larger = insert.values(name=name, at=at, label=label, value=value).on_conflict_do_update(
        index_elements=["name", "at", "label"],
        set_={"value": insert.excluded.value},
        where=tallies.c.value < insert.excluded.value,
    )
    connection.execute(larger)


def tallied(connection: Connection, names: Collection[str], since: float) -> dict[Slot, int]:
    """The sums with these names from then on."""
    t = tallies.c
    query = select(t.name, t.at, t.label, t.value).where(t.name.in_(names), t.at >= since)
    return {(name, at, label): value for name, at, label, value in connection.execute(query)}


def count_repeats(connection: Connection, day: int, customer_ids: Iterable[str]) -> None:
    """A request came again, once for each customer named; the caller holds their rows."""
    insert = insert_into(connection, repeated_requests)
    again = insert.on_conflict_do_update(
        index_elements=["day", "customer_id"], set_={"times": repeated_requests.c.times + 1}
    )
    for customer_id in sorted(customer_ids):
        connection.execute(again, {"day": day, "customer_id": customer_id, "times": 1})


def repeats_by_day(connection: Connection, since: float) -> dict[int, int]:
    """How many requests came again, by the first second of the day."""
    c = repeated_requests.c
    query = select(c.day, func.sum(c.times)).where(c.day >= since).group_by(c.day)
    return {day: int(times) for day, times in connection.execute(query)}
