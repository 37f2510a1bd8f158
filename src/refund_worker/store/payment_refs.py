"""The names of payments: every id that a processor has for one, and the second id of one that recorded itself.

Some processors have two ids for one payment, such as a charge and its payment intent. A closed payment has no names, so
its ids are free for a new record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, delete, func, select

from refund_worker.batching import batched
from refund_worker.store.database import IDS_AT_ONCE, insert_into
from refund_worker.store.tables import payment_aliases, payment_refs, payments

_r = payment_refs.c


def payments_of_refs(connection: Connection, processor: str, refs: Iterable[str]) -> dict[str, str]:
    """Return the payment_id by the processor's id for it, for the open payments that are recorded."""
    found: dict[str, str] = {}
    for chunk in batched(sorted(set(refs)), IDS_AT_ONCE):
        query = select(_r.ref, _r.payment_id).where(_r.processor == processor, _r.ref.in_(chunk))
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def refs_of_payments(connection: Connection, payment_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, by payment_id, the processor's ids for each open payment, sorted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for chunk in batched(sorted(set(payment_ids)), IDS_AT_ONCE):
        query = select(_r.payment_id, _r.ref).where(_r.payment_id.in_(chunk)).order_by(_r.ref)
        for payment_id, ref in connection.execute(query):
            found[payment_id].append(ref)
    return {payment_id: tuple(refs) for payment_id, refs in found.items()}


def add_refs(connection: Connection, processor: str, names: Iterable[Sequence[str]]) -> dict[str, str]:
    """Add names that belong together: each of `names` has all ids of one payment. Return what is contradictory.

    Ids of which none is known change nothing, so a closed payment gets no name again. The result is {ref: payment_id}
    of ids that name more than one payment: the same money is recorded twice, and a person must see it.
    """
    new, twice = _compare(connection, processor, names)
    if new:
        rows = [{"processor": processor, "ref": ref, "payment_id": new[ref]} for ref in sorted(new)]
        # Another process may have learned the same meanwhile.
        connection.execute(insert_into(connection, payment_refs).on_conflict_do_nothing(), rows)
    return twice


def has_new_refs(connection: Connection, processor: str, names: Iterable[Sequence[str]]) -> bool:
    """Return True if `add_refs` would add a name."""
    new, _ = _compare(connection, processor, names)
    return bool(new)


def _compare(
    connection: Connection, processor: str, names: Iterable[Sequence[str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (unknown names of known payments, names that contradict), each with the payment_id."""
    groups = {tuple(dict.fromkeys(group)) for group in names if len(set(group)) > 1}
    known = payments_of_refs(connection, processor, (ref for group in groups for ref in group))
    new: dict[str, str] = {}
    twice: dict[str, str] = {}
    for group in sorted(groups):
        owners = {known[ref] for ref in group if ref in known}
        if len(owners) > 1:
            twice |= {ref: known[ref] for ref in group if ref in known}
        elif owners:
            (owner,) = owners
            new = {ref: owner for ref in group if ref not in known} | new
    return new, twice


def drop_refs(connection: Connection, payment_id: str) -> None:
    """Drop all names of a payment that is closed: its ids at the processor are free for a new record."""
    connection.execute(delete(payment_refs).where(_r.payment_id == payment_id))


def processor_names(connection: Connection) -> list[str]:
    """Return the processors that payments name."""
    return stepped_names(connection, payments.c.processor)


def stepped_names(connection: Connection, column: Column[Any]) -> list[str]:
    """Return the different names in a column that an index begins with, stepping through it from name to name."""
    first = select(func.min(column).label("name")).cte(recursive=True)
    one = column.table.alias().c[column.name]
    following = select(func.min(one)).where(one > first.c.name).scalar_subquery()
    names = first.union_all(select(following).where(first.c.name.is_not(None)))
    return list(connection.execute(select(names.c.name).where(names.c.name.is_not(None))).scalars())


def at_processors(processors: Collection[str], ref: str) -> tuple[Select[Any], Select[Any]]:
    """Return queries of the payment_ids that one of these processors knows by this id, closed payments included.

    A closed payment has only the id by which it was recorded. There are two queries because SQLite cannot nest a union.
    """
    p = payments.c
    recorded = select(p.payment_id).where(p.processor.in_(processors), p.processor_payment_id == ref)
    return recorded, select(_r.payment_id).where(_r.processor.in_(processors), _r.ref == ref)


def recorded_under(connection: Connection, processor: str, refs: Iterable[str]) -> set[str]:
    """Return those of the processor's ids under which a payment was ever recorded, closed ones included."""
    p = payments.c
    found: set[str] = set()
    for chunk in batched(sorted(set(refs)), IDS_AT_ONCE):
        query = select(p.processor_payment_id).where(p.processor == processor, p.processor_payment_id.in_(chunk))
        found |= set(connection.execute(query).scalars())
    return found


def payments_of_aliases(connection: Connection, aliases: Collection[str]) -> dict[str, str]:
    """Return the payment_id of the record by the second id that the admin backend gave it."""
    a = payment_aliases.c
    found: dict[str, str] = {}
    for chunk in batched(sorted(set(aliases)), IDS_AT_ONCE):
        query = select(a.alias, a.payment_id).where(a.alias.in_(chunk))
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def find_payment(connection: Connection, payment_id: str) -> str | None:
    """Return the id of the recorded payment with this id or this second id, or None."""
    query = select(payments.c.payment_id).where(payments.c.payment_id == named_payment(payment_id))
    return connection.execute(query).scalar()


def named_payment(payment_id: str) -> ColumnElement[str]:
    """Return the expression of the id of the payment that has this second id, or of the id itself."""
    a = payment_aliases.c
    return func.coalesce(select(a.payment_id).where(a.alias == payment_id).scalar_subquery(), payment_id)


def aliases_of(connection: Connection, payment_ids: Collection[str]) -> dict[str, str]:
    """Return the second id by payment_id, for the payments that have one."""
    a = payment_aliases.c
    found: dict[str, str] = {}
    for chunk in batched(sorted(set(payment_ids)), IDS_AT_ONCE):
        query = select(a.payment_id, a.alias).where(a.payment_id.in_(chunk)).order_by(a.alias)
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def add_aliases(connection: Connection, aliases: Iterable[tuple[str, str]], now: float) -> None:
    """Add (alias, payment_id) pairs. Raises `IntegrityError` if an alias is taken."""
    rows = [{"alias": alias, "payment_id": payment_id, "created_at": now} for alias, payment_id in aliases]
    if rows:
        connection.execute(payment_aliases.insert(), rows)
