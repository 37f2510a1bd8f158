"""The ledger entries on the accounts of payees."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, func, select

from refund_worker.store.tables import ledger_transactions, payee_entries

_p, _t = payee_entries.c, ledger_transactions.c


def sums_before(connection: Connection, payee_id: str, before: float) -> dict[str, int]:
    """Return the sum of the payee's entries before this time (epoch seconds), by currency."""
    query = select(_p.currency, func.sum(_p.amount_minor)).where(_p.payee_id == payee_id, _p.occurred_at < before)
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(_p.currency))}


def entries_between(connection: Connection, payee_id: str, begin: float, end: float) -> list[RowMapping]:
    """Return the payee's entries with begin <= time < end (epoch seconds) that move something, oldest first."""
    query = (
        select(_p.transaction_id, _p.currency, _p.amount_minor, _p.occurred_at, _t.kind, _t.refers_to, _t.description)
        .join(ledger_transactions, _t.transaction_id == _p.transaction_id)
        .where(_p.payee_id == payee_id, _p.occurred_at >= begin, _p.occurred_at < end, _p.amount_minor != 0)
        .order_by(_p.occurred_at, _t.seq)
    )
    return list(connection.execute(query).mappings())
