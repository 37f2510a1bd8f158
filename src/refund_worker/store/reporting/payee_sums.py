"""The figures of the sums of payees that must hold, for some payees at a time. An index serves every query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, and_, bindparam, func, literal, select

from refund_worker.domain.ledger import PAYOUTS, payee_account
from refund_worker.domain.payouts.payout import PAYOUT_UNPOSTED, PayoutSource
from refund_worker.domain.payouts.sums import PayeeFigures, UnevenPosting
from refund_worker.store.tables import (
    earnings,
    ledger_entries,
    ledger_transactions,
    payee_balances,
    payee_entries,
    payees,
    payout_legs,
    payouts,
)

_b, _e, _p, _l, _t, _o = (
    table.c for table in (payee_balances, earnings, payee_entries, ledger_entries, ledger_transactions, payouts)
)
_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_ACCOUNT = literal(payee_account("")).concat(_p.payee_id)
_BALANCES = select(
    _b.payee_id,
    _b.currency,
    _b.earned_minor,
    _b.clawed_back_minor,
    _b.earned_minor - _b.clawed_back_minor - _b.in_flight_minor - _b.paid_minor,
).where(_b.payee_id.in_(_IDS))
_EARNINGS = (
    select(_e.payee_id, _e.currency, func.sum(_e.amount_minor), func.sum(_e.clawed_back_minor))
    .where(_e.payee_id.in_(_IDS))
    .group_by(_e.payee_id, _e.currency)
)
_ENTRIES = (
    select(_p.payee_id, _p.currency, func.sum(_p.amount_minor))
    .where(_p.payee_id.in_(_IDS))
    .group_by(_p.payee_id, _p.currency)
)
_IN_LEDGER = (
    select(_p.payee_id, _l.unit, func.sum(_l.amount))
    .join(ledger_entries, and_(_l.transaction_id == _p.transaction_id, _l.account == _ACCOUNT))
    .where(_p.payee_id.in_(_IDS))
    .group_by(_p.payee_id, _l.unit)
)
_RESERVED = (
    select(_o.payee_id, _o.currency, func.sum(_o.amount_minor))
    .where(
        _o.payee_id.in_(_IDS),
        _o.source == PayoutSource.EARNINGS,
        _o.status.in_(sorted(PAYOUT_UNPOSTED)),
        _o.ledger_posted.is_(False),
    )
    .group_by(_o.payee_id, _o.currency)
)
_TOTAL = func.sum(_l.amount)
_UNEVEN = (
    select(_p.transaction_id, _p.payee_id, _l.unit, _TOTAL)
    .join(ledger_entries, _l.transaction_id == _p.transaction_id)
    .where(_p.payee_id.in_(_IDS))
    .group_by(_p.transaction_id, _p.payee_id, _l.unit)
    .having(_TOTAL != 0)
)


def payees_after(connection: Connection, after: str | None, limit: int) -> list[str]:
    """Return the ids of at most `limit` payees, in order, that follow `after`, or the first ones."""
    query = select(payees.c.payee_id).order_by(payees.c.payee_id).limit(limit)
    if after is not None:
        query = query.where(payees.c.payee_id > after)
    return list(connection.execute(query).scalars())


def payees_changed_since(connection: Connection, transaction_seq: int, limit: int) -> set[str]:
    """Return the payees of the newest `limit` ledger transactions after this number."""
    query = select(_p.payee_id).join(ledger_transactions, _t.transaction_id == _p.transaction_id)
    query = query.where(_t.seq > transaction_seq).order_by(_t.seq.desc()).limit(limit)
    return set(connection.execute(query).scalars())


def payee_figures(connection: Connection, payee_ids: Collection[str]) -> tuple[list[PayeeFigures], list[UnevenPosting]]:
    """Return the figures of these payees by currency, and their postings that do not sum to zero."""
    ids = {"ids": sorted(payee_ids)}
    found: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)

    def read(query: Select[Any], *names: str) -> None:
        for payee_id, currency, *amounts in connection.execute(query, ids):
            found[payee_id, currency] |= dict(zip(names, map(int, amounts), strict=True))

    read(_BALANCES, "earned", "clawed_back", "net")
    read(_EARNINGS, "earnings", "clawed_back_of_earnings")
    read(_ENTRIES, "entries")
    read(_IN_LEDGER, "in_ledger")
    read(_RESERVED, "reserved")
    figures = [PayeeFigures(payee_id=pair[0], currency=pair[1], **found[pair]) for pair in sorted(found)]
    uneven = [UnevenPosting(row[0], row[1], row[2], int(row[3])) for row in connection.execute(_UNEVEN, ids)]
    return figures, uneven


def paid_by_payee(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the minor units that left for each payee by the ledger, net of returns, by payee and currency."""
    query = (
        select(_o.payee_id, _l.unit, func.sum(_l.amount))
        .join(ledger_transactions, _t.transaction_id == _l.transaction_id)
        .join(payout_legs, payout_legs.c.leg_id == _t.refers_to)
        .join(payouts, _o.payout_id == payout_legs.c.payout_id)
        .where(_l.account == PAYOUTS)
        .group_by(_o.payee_id, _l.unit)
    )
    return {(payee_id, currency): int(amount) for payee_id, currency, amount in connection.execute(query)}
