"""Earnings of payees, and how much of the spends that they came from was returned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, fields

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, func, select, update

from refund_worker.domain.claims.claim import ClaimKind, Phase
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.payouts.earnings import Earning, SpendPosition
from refund_worker.store.tables import claims, earnings, ledger_transactions

_FIELDS = tuple(field.name for field in fields(Earning))
_COLUMNS = tuple(earnings.c[name] for name in _FIELDS)
_e, _t = earnings.c, ledger_transactions.c
_PAYEES_OF_SPENDS = (
    select(_e.payee_id).where(_e.transaction_id.in_(bindparam("spends", expanding=True))).order_by(_e.payee_id)
)
_CLAWED_BACK = (
    update(earnings)
    .where(_e.earning_id == bindparam("id"))
    .values(clawed_back_minor=bindparam("clawed_back"), clawbacks=bindparam("number"))
)


def as_earning(row: RowMapping) -> Earning:
    """Return the earning of a row with all columns of `Earning`."""
    return Earning(**{name: row[name] for name in _FIELDS})


def insert_earnings(connection: Connection, new: Iterable[Earning]) -> None:
    """Insert earnings. Raises `IntegrityError` if an id exists."""
    rows = [asdict(earning) for earning in new]
    if rows:
        connection.execute(earnings.insert(), rows)


def payees_of_spends(connection: Connection, transaction_ids: Collection[str]) -> list[str]:
    """Return the ids of the payees who earned of these spends, sorted."""
    if not transaction_ids:
        return []
    found = connection.execute(_PAYEES_OF_SPENDS, {"spends": sorted(transaction_ids)}).scalars()
    return sorted(set(found))


def earnings_of_spends(connection: Connection, transaction_ids: Collection[str]) -> list[Earning]:
    """Return the earnings of these spends, in the order of their ids."""
    return _earnings(connection, _e.transaction_id.in_(sorted(transaction_ids)))


def earnings_by_id(connection: Connection, earning_ids: Collection[str]) -> dict[str, Earning]:
    """Return the earnings among these ids, by id."""
    found = _earnings(connection, _e.earning_id.in_(sorted(earning_ids))) if earning_ids else []
    return {earning.earning_id: earning for earning in found}


def _earnings(connection: Connection, condition: ColumnElement[bool]) -> list[Earning]:
    rows = connection.execute(select(*_COLUMNS).where(condition).order_by(_e.earning_id)).mappings()
    return [as_earning(row) for row in rows]


def write_clawed_back(connection: Connection, changed: Sequence[Earning]) -> None:
    """Store how much of these earnings is clawed back. Their payees are locked."""
    rows = [{"id": e.earning_id, "clawed_back": e.clawed_back_minor, "number": e.clawbacks} for e in changed]
    if rows:
        connection.execute(_CLAWED_BACK, rows)


def positions(connection: Connection, transaction_ids: Collection[str]) -> dict[str, SpendPosition]:
    """Return the position of each spend among these ids, by the ledger: what is only reserved does not count."""
    ids = sorted(transaction_ids)
    spends = select(_t.transaction_id, -_t.credits).where(_t.transaction_id.in_(ids), _t.kind == EntryKind.SPEND)
    spent: dict[str, int] = {row[0]: int(row[1]) for row in connection.execute(spends)}
    undone = ledger_transactions.alias()
    # A "Delete" refers to the entry of the credit refund. There is at most one.
    refunds = (
        select(_t.refers_to, func.sum(_t.credits + func.coalesce(undone.c.credits, 0)))
        .outerjoin(undone, (undone.c.refers_to == _t.transaction_id) & (undone.c.kind == EntryKind.REVERSAL))
        .where(_t.refers_to.in_(ids), _t.kind == EntryKind.CREDIT_REFUND)
        .group_by(_t.refers_to)
    )
    returned: dict[str, int] = {row[0]: int(row[1]) for row in connection.execute(refunds)}
    lost = _lost(connection, ids)
    return {
        id: SpendPosition(credits, min(credits, returned.get(id, 0) + lost.get(id, 0))) for id, credits in spent.items()
    }


def _lost(connection: Connection, transaction_ids: Collection[str]) -> dict[str, int]:
    """Return the credits of lost disputes that persons linked to these spends, by spend.

    They are the dispute's whole share: what is written off of it was spent too.
    """
    c = claims.c
    is_lost = (c.kind == ClaimKind.DISPUTE) & (c.phase == Phase.TAKEN)
    query = select(c.transaction_id, func.sum(c.credits)).where(c.transaction_id.in_(transaction_ids), is_lost)
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(c.transaction_id))}


def page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    payee_id: str | None = None,
    transaction_id: str | None = None,
) -> list[Earning]:
    """Return at most `limit` earnings in the order of their ids; `after` is the last id already seen."""
    query = select(*_COLUMNS).order_by(_e.earning_id).limit(limit)
    if after is not None:
        query = query.where(_e.earning_id > after)
    if payee_id is not None:
        query = query.where(_e.payee_id == payee_id)
    if transaction_id is not None:
        query = query.where(_e.transaction_id == transaction_id)
    return [as_earning(row) for row in connection.execute(query).mappings()]


def latest(connection: Connection, payee_id: str, currency: str, *, limit: int) -> list[Earning]:
    """Return at most `limit` earnings of the payee in this currency, those that become available last first."""
    query = select(*_COLUMNS).where(_e.payee_id == payee_id, _e.currency == currency)
    rows = connection.execute(query.order_by(_e.available_at.desc(), _e.earning_id).limit(limit)).mappings()
    return [as_earning(row) for row in rows]
