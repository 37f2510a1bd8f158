"""The movements of money that a monthly statement adds up, read in pieces of refunds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, RowMapping, and_, case, func, select

from refund_worker.domain.claims.claim import SHORTFALL_DECIDED, ShortfallRule
from refund_worker.domain.claims.debts import OF_CLAIMS, BalanceChange, DebtPayment
from refund_worker.domain.ledger import CREDITS, DISPUTES, REFUNDS, SALES, EntryKind
from refund_worker.store.tables import claims, events, ledger_entries, ledger_transactions, legs, payments, refunds

_r, _l, _t, _e, _k = (table.c for table in (refunds, legs, ledger_transactions, ledger_entries, claims))
_PAYOUTS = (EntryKind.PAYOUT, EntryKind.PAYOUT_REVERSAL)
_MONEY_OF_CLAIMS = (EntryKind.OUTSIDE_REFUND, EntryKind.CHARGEBACK, EntryKind.REVERSAL)


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
            _t.kind.in_(_MONEY_OF_CLAIMS),
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


def balance_changes(connection: Connection) -> Iterator[BalanceChange]:
    """Yield all rows of the customers whose balance a claim or a merge lowered, in the order of their writing.

    A purchase was written when its payment was recorded; its own time is that of the capture.
    """
    p, lowering = payments.c, (*OF_CLAIMS, EntryKind.MERGE)
    theirs = select(_t.customer_id).where(_t.kind.in_(lowering), _t.credits < 0)
    with_payment = and_(p.payment_id == _t.refers_to, _t.kind.in_((*OF_CLAIMS, EntryKind.PURCHASE)))
    query = (
        select(
            _t.transaction_id,
            _t.customer_id,
            _t.kind,
            _t.credits,
            _t.refers_to,
            case((_t.kind == EntryKind.PURCHASE, func.coalesce(p.created_at, _t.occurred_at)), else_=_t.occurred_at),
            p.processor,
            p.currency,
            p.amount_minor,
            p.credits,
        )
        .select_from(ledger_transactions.outerjoin(payments, with_payment))
        .where(_t.customer_id.in_(theirs), _t.credits != 0)
        .order_by(_t.seq)
    )
    for transaction_id, customer_id, kind, credits, refers_to, at, *paid in connection.execution_options(
        yield_per=1_000
    ).execute(query):
        yield BalanceChange(
            transaction_id=transaction_id,
            customer_id=customer_id,
            kind=kind,
            credits=credits,
            refers_to=refers_to,
            at=at,
            payment=DebtPayment(*paid) if paid[0] is not None else None,
        )


def written_off(connection: Connection, processor: str | None, end: float) -> Iterator[RowMapping]:
    """Yield (claim_id, currency, at, decided_by, missing, amount_minor, credits) of claims with credits written off.

    `missing` are these credits, as they are now; the last two are the money and the credits of the claim's payment. The
    time is that of the claim's first entry, or of its record if it has none.
    """
    p, first = payments.c, ledger_transactions.alias()
    at = func.coalesce(first.c.occurred_at, _k.recorded_at)
    missing = _k.credits - _k.held - _k.taken
    query = (
        select(_k.claim_id, _k.currency, at.label("at"), _k.decided_by, missing.label("missing"))
        .add_columns(p.amount_minor, p.credits)
        .join(payments, p.payment_id == _k.payment_id)
        .outerjoin(first, first.c.transaction_id == _k.claim_id + "-1")
        .where(_k.rule == ShortfallRule.WRITE_OFF, missing > 0, at < end)
    )
    if processor is not None:
        query = query.where(_k.processor == processor)
    yield from connection.execute(query).mappings()


def decided_at(connection: Connection) -> dict[str, float]:
    """Return when a person decided about the missing credits of a claim, by claim_id; the latest decision counts."""
    e = events.c
    query = select(e.detail, e.at).where(e.refund_id.is_(None), e.kind == SHORTFALL_DECIDED).order_by(e.seq)
    return {json.loads(detail)["claim_id"]: at for detail, at in connection.execute(query)}
