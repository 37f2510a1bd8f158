"""Searches of the console in ids and in texts. Each reads a bounded part of a table and can go on from there.

A text anywhere in a column is found by reading rows, which no index can speed up on both databases. One search reads
the next `ENTRIES_READ_MAX` entries or `CUSTOMERS_READ_MAX` customers, and says up to where it has read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, RowMapping, Select, and_, or_, select, tuple_

from refund_worker.domain.ledger import SHOWN_TO_CUSTOMERS
from refund_worker.store.ledger import PURPOSE, of_customers
from refund_worker.store.payment_refs import at_processors
from refund_worker.store.tables import customers, ledger_transactions, payment_aliases

ENTRIES_READ_MAX = 50_000
CUSTOMERS_READ_MAX = 300_000
FAMILY_MAX = 50


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that match, in order. `go_on` is the last row that was read if there may be more, otherwise None."""

    rows: list[RowMapping]
    go_on: RowMapping | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The entries to list: of the customer with these ids or of all, from `since` to before `until` (epoch seconds),
    with `text` in their description, and after the entry `after` in the list.
    """

    customer_ids: Collection[str] = ()
    since: float | None = None
    until: float | None = None
    text: str = ""
    after: str | None = None


def entries(connection: Connection, wanted: Wanted, *, limit: int) -> Found:
    """Return at most `limit` entries, the newest by their time first."""
    t = ledger_transactions.c
    query = select(ledger_transactions, PURPOSE).where(t.kind.in_(sorted(SHOWN_TO_CUSTOMERS)), *_conditions(wanted))
    query = query.order_by(t.occurred_at.desc(), t.seq.desc())
    if not wanted.text:
        rows = list(connection.execute(query.limit(limit + 1)).mappings())
        return Found(rows[:limit], rows[limit - 1] if len(rows) > limit else None)
    read = query.limit(ENTRIES_READ_MAX).subquery()
    newest = (read.c.occurred_at.desc(), read.c.seq.desc())
    return _matching(connection, read, contains(read.c.description, wanted.text), newest, limit, ENTRIES_READ_MAX)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    t = ledger_transactions.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.customer_ids:
        conditions.append(of_customers(wanted.customer_ids))
    if wanted.since is not None:
        conditions.append(t.occurred_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(t.occurred_at < wanted.until)
    if wanted.after is not None:
        last = select(t.occurred_at, t.seq).where(t.transaction_id == wanted.after)
        conditions.append(tuple_(t.occurred_at, t.seq) < last.scalar_subquery())
    return conditions


def _matching(
    connection: Connection,
    read: FromClause,
    matches: ColumnElement[bool],
    order: Collection[Any],
    limit: int,
    most: int,
) -> Found:
    """Return the rows of `read`, which has `most` rows unless the table ends before, that match."""
    query = select(read).order_by(*order)
    rows = list(connection.execute(query.where(matches).limit(limit + 1)).mappings())
    if len(rows) > limit:
        return Found(rows[:limit], rows[limit - 1])
    return Found(rows, connection.execute(query.offset(most - 1).limit(1)).mappings().first())


def contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return the condition that `text` is anywhere in the column, in any case.

    SQLite knows the case of ASCII letters only; the other spellings of `text` find the usual forms of other letters.
    """
    return or_(*(column.icontains(each, autoescape=True) for each in sorted({text, text.lower(), text.upper()})))


def family_of(connection: Connection, id: str, processors: Collection[str]) -> list[RowMapping]:
    """Return the entries that belong to an id, newest first: of a transaction, a payment or a refund.

    A payment is named by its id here or at one of the `processors`. With an entry come the entries that refer to it,
    and the one that it refers to.
    """
    t = ledger_transactions.c
    alias = select(payment_aliases.c.payment_id).where(payment_aliases.c.alias == id)
    ids = {id, *connection.execute(alias.union(*at_processors(processors, id))).scalars()}
    ids |= {f"{id}-{suffix}" for suffix in ("credit", "withdrawal", "reversal-1")}
    entries = _shown().where(or_(t.transaction_id.in_(ids), t.refers_to.in_(ids)))
    found = {row["transaction_id"]: row for row in _newest(connection, entries)}
    above = {row["refers_to"] for row in found.values() if row["transaction_id"] in ids} - {None}
    if above:
        rows = _newest(connection, _shown().where(t.transaction_id.in_(above)))
        found |= {row["transaction_id"]: row for row in rows}
    return sorted(found.values(), key=lambda row: (row["occurred_at"], row["seq"]), reverse=True)


def _shown() -> Select[Any]:
    return select(ledger_transactions, PURPOSE).where(ledger_transactions.c.kind.in_(sorted(SHOWN_TO_CUSTOMERS)))


def _newest(connection: Connection, query: Select[Any]) -> list[RowMapping]:
    t = ledger_transactions.c
    return list(connection.execute(query.order_by(t.occurred_at.desc(), t.seq.desc()).limit(FAMILY_MAX)).mappings())


def customers_found(connection: Connection, text: str, *, limit: int, after: str | None = None) -> Found:
    """Return customers with `text` anywhere in their id, in any case, by id; the one with exactly this id first."""
    c = customers.c
    query = select(customers).order_by(c.customer_id)
    if after is not None:
        query = query.where(c.customer_id > after)
    if not text:
        rows = list(connection.execute(query.limit(limit + 1)).mappings())
        return Found(rows[:limit], rows[limit - 1] if len(rows) > limit else None)
    read = query.limit(CUSTOMERS_READ_MAX).subquery()
    matches = and_(contains(read.c.customer_id, text), read.c.customer_id != text)
    found = _matching(connection, read, matches, [read.c.customer_id], limit, CUSTOMERS_READ_MAX)
    exact = select(customers).where(c.customer_id == text)
    first = [] if after is not None else list(connection.execute(exact).mappings())
    return Found(first + found.rows, found.go_on)
