"""The movements of money that a monthly statement adds up, read in pieces of refunds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, RowMapping, and_, case, func, select

from refund_worker.domain.ledger import CREDITS, DISPUTES, REFUNDS, SALES, EntryKind
from refund_worker.store.tables import claims, events, ledger_entries, ledger_transactions, legs, payments, refunds

_r, _l, _t, _e, _k = (table.c for table in (refunds, legs, ledger_transactions, ledger_entries, claims))
_PAYOUTS = (EntryKind.PAYOUT, EntryKind.PAYOUT_REVERSAL)
_OF_CLAIMS = (EntryKind.OUTSIDE_REFUND, EntryKind.CHARGEBACK, EntryKind.REVERSAL)


def refunds_before(connection: Connection, end: float, after: str, limit: int) -> list[RowMapping]:
    """Return (refund_id, created_at) of the next refunds by id that were accepted before `end`."""
    query = select(_r.refund_id, _r.created_at).where(_r.refund_id > after, _r.created_at < end)
    return list(connection.execute(query.order_by(_r.refund_id).limit(limit)).mappings())


def asked_of(connection: Connection, refund_ids: Sequence[str], processor: str | None) -> Iterator[RowMapping]:
    """Yield (refund_id, currency, minor): the money that each refund was accepted for."""
    query = select(_l.refund_id, _l.currency, func.sum(_l.amount_minor).label("minor")).where(
        _l.refund_id.in_(refund_ids), _l.replaces.is_(None)
    )
    if processor is not None:
        query = query.where(_l.processor == processor)
    yield from connection.execute(query.group_by(_l.refund_id, _l.currency)).mappings()


def paid_of(
    connection: Connection, refund_ids: Sequence[str], processor: str | None, end: float
) -> Iterator[RowMapping]:
    """Yield (refund_id, currency, occurred_at, minor) of each payout before `end`; a return is negative."""
    query = (
        select(_l.refund_id, _e.unit.label("currency"), _t.occurred_at, _e.amount.label("minor"))
        .join(ledger_transactions, and_(_t.refers_to == _l.leg_id, _t.kind.in_(_PAYOUTS)))
        .join(ledger_entries, and_(_e.transaction_id == _t.transaction_id, _e.account == REFUNDS))
        .where(_l.refund_id.in_(refund_ids), _t.occurred_at < end)
    )
    if processor is not None:
        query = query.where(_l.processor == processor)
    yield from connection.execute(query).mappings()


def legs_of(connection: Connection, refund_ids: Sequence[str], processor: str | None) -> Iterator[RowMapping]:
    """Yield (leg_id, refund_id, currency, minor) of each leg of these refunds."""
    query = select(_l.leg_id, _l.refund_id, _l.currency, _l.amount_minor.label("minor"))
    query = query.where(_l.refund_id.in_(refund_ids), _l.amount_minor > 0)
    if processor is not None:
        query = query.where(_l.processor == processor)
    yield from connection.execute(query).mappings()


def statuses_of(connection: Connection, refund_ids: Sequence[str], end: float) -> Iterator[RowMapping]:
    """Yield (refund_id, leg_id, at, to_status) of each change of a status of these refunds before `end`, in order.

    `leg_id` is None for the status of the refund itself.
    """
    e = events.c
    query = select(e.refund_id, e.leg_id, e.at, e.to_status).where(
        e.refund_id.in_(refund_ids), e.to_status.is_not(None), e.at < end
    )
    yield from connection.execute(query.order_by(e.seq)).mappings()


def money_sums(connection: Connection, begin: float, end: float) -> list[RowMapping]:
    """Return (account, currency, before, after): the sum of each account's money before `begin` and before `end`.

    The accounts of processors and of manual payments are one, "". It reads only the ledger's own rows.
    """
    counted = case((_e.account.in_((REFUNDS, DISPUTES, SALES)), _e.account), else_="")
    query = (
        select(
            counted.label("account"),
            _e.unit.label("currency"),
            func.sum(case((_t.occurred_at < begin, _e.amount), else_=0)).label("before"),
            func.sum(_e.amount).label("after"),
        )
        .join(ledger_transactions, _t.transaction_id == _e.transaction_id)
        .where(_e.unit != CREDITS, _t.occurred_at < end)
        .group_by(counted, _e.unit)
    )
    return list(connection.execute(query).mappings())


def claimed(connection: Connection, processor: str | None, end: float) -> Iterator[RowMapping]:
    """Yield (account, currency, occurred_at, minor) of the money that others took before `end`, less what came back."""
    query = (
        select(_e.account, _e.unit.label("currency"), _t.occurred_at, _e.amount.label("minor"))
        .join(ledger_transactions, _t.transaction_id == _e.transaction_id)
        .where(
            _t.kind.in_(_OF_CLAIMS),
            _t.refund_id.is_(None),
            _t.occurred_at < end,
            _e.account.in_((REFUNDS, DISPUTES)),
        )
    )
    if processor is not None:
        at = ledger_entries.alias()
        same = and_(at.c.transaction_id == _t.transaction_id, at.c.account == f"processor:{processor}")
        query = query.where(select(at.c.seq).where(same).exists())
    yield from connection.execution_options(yield_per=1_000).execute(query).mappings()


def shortfalls(connection: Connection, processor: str | None, end: float) -> Iterator[RowMapping]:
    """Yield (currency, recorded_at, rule, missing, debt, amount_minor, credits) of claims before `end`.

    `missing` and `debt` are credits; the last two are the money and the credits of the claim's payment.
    """
    p = payments.c
    query = (
        select(
            _k.currency,
            _k.recorded_at,
            _k.rule,
            (_k.credits - _k.held - _k.taken).label("missing"),
            _k.debt,
            p.amount_minor,
            p.credits,
        )
        .join(payments, p.payment_id == _k.payment_id)
        .where(_k.recorded_at < end, _k.credits > _k.held + _k.taken - _k.debt)
    )
    if processor is not None:
        query = query.where(_k.processor == processor)
    yield from connection.execute(query).mappings()
