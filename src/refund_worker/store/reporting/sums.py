"""The figures of the sums that must hold, for some customers at a time. Every query is served by an index."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
)

from refund_worker.batching import batched
from refund_worker.domain.claims.claim import LIVE, ClaimKind
from refund_worker.domain.ledger import CLEARING, CREDITS, REFUNDS, USED, EntryKind, reversal_id
from refund_worker.domain.refund import ENDED_UNSENT, Kind, LegStatus, To
from refund_worker.domain.state_machine import UNPAID_FINAL
from refund_worker.domain.sums import CustomerFigures, Figures, PairFigures, PaymentFigures, PostingFigures
from refund_worker.store.database import IDS_AT_ONCE, Database
from refund_worker.store.tables import (
    claims,
    customers,
    events,
    ledger_entries,
    ledger_transactions,
    legs,
    payments,
    refunds,
    transaction_rooms,
)

_c, _t, _e, _r, _l, _p, _k = (
    table.c for table in (customers, ledger_transactions, ledger_entries, refunds, legs, payments, claims)
)
_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_NONE = literal(0, Integer)


def _sum(condition: ColumnElement[Any], amount: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the sum of `amount` over the rows for which the condition is true."""
    return func.coalesce(func.sum(case((condition, amount), else_=_NONE)), 0)


@contextmanager
def in_one_snapshot(database: Database) -> Iterator[Connection]:
    """Open a transaction that only reads, in which all queries see the same commits. It keeps no writer waiting."""
    with database.read() as connection:
        if not database.is_sqlite:  # where a transaction that reads sees one snapshot anyway
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield connection


def customers_after(connection: Connection, after: str | None, limit: int) -> list[str]:
    """Return the next customers by id, without those that were merged into others."""
    query = select(_c.customer_id).where(_c.merged_into.is_(None)).order_by(_c.customer_id).limit(limit)
    if after is not None:
        query = query.where(_c.customer_id > after)
    return list(connection.execute(query).scalars())


def count_customers(connection: Connection) -> int:
    """Return about how many customers there are. Postgres estimates it, so that no table is read."""
    if connection.dialect.name == "sqlite":
        return int(connection.execute(select(func.count()).select_from(customers)).scalar_one())
    estimate = text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass('customers')")
    return max(0, int(connection.execute(estimate).scalar() or 0))


def newest(connection: Connection) -> tuple[int, int]:
    """Return the numbers of the newest ledger transaction and the newest event."""
    last = [func.coalesce(select(func.max(column)).scalar_subquery(), 0) for column in (_t.seq, events.c.seq)]
    row = connection.execute(select(*last)).one()
    return int(row[0]), int(row[1])


def changed_since(connection: Connection, transaction: int, event: int, limit: int) -> set[str]:
    """Return customers with newer ledger transactions, or with newer events of their refunds, from `limit` rows each.

    Customers that have changed most recently come first.
    """
    entered = select(_t.customer_id).where(_t.seq > transaction).order_by(_t.seq.desc()).limit(limit)
    recent = select(events.c.refund_id).where(events.c.seq > event).order_by(events.c.seq.desc()).limit(limit)
    of_refunds = select(_r.customer_id).where(_r.refund_id.in_(recent))
    found = {*connection.execute(entered).scalars(), *connection.execute(of_refunds).scalars()}
    return set(_owners(connection, found).values())


def _owners(connection: Connection, customer_ids: Collection[str]) -> dict[str, str]:
    """Return, by id, the customer that each id means: a merged one means the surviving one."""
    owners: dict[str, str] = {}
    for chunk in batched(customer_ids, IDS_AT_ONCE):
        query = select(_c.customer_id, func.coalesce(_c.merged_into, _c.customer_id))
        owners |= {row[0]: row[1] for row in connection.execute(query.where(_c.customer_id.in_(chunk)))}
    return owners


def figures_of(connection: Connection, customer_ids: Sequence[str]) -> Figures:
    """Return all figures of these customers, with those that were merged into them. Call it `in_one_snapshot`."""
    query = select(_c.customer_id, _c.merged_into).where(or_(_c.customer_id.in_(_IDS), _c.merged_into.in_(_IDS)))
    merged = {row[0]: row[1] for row in connection.execute(query, {"ids": list(customer_ids)})}
    owners = {customer_id: into or customer_id for customer_id, into in merged.items()}
    ids = {"ids": list(owners)}
    return Figures(
        owners=owners,
        customers=_of_customers(connection, ids, owners),
        postings=tuple(PostingFigures(**_whole(row)) for row in connection.execute(_POSTINGS, ids).mappings()),
        payments=_payments(connection, ids),
        rooms=_rooms(connection, ids),
        reversals=_reversals(connection, ids),
        payouts=_payouts(connection, ids),
        claim_entries=_of_claims(connection, ids, _k.taken, _CLAIM_CREDITS),
        claim_money=_of_claims(connection, ids, _k.posted_minor, _CLAIM_MONEY),
    )


def _whole(row: RowMapping) -> dict[str, Any]:
    """Return the row with integers: Postgres returns a sum as a decimal, which no JSON has."""
    return {name: value if isinstance(value, str) else int(value) for name, value in row.items()}


def _of_customers(
    connection: Connection, ids: dict[str, list[str]], owners: Mapping[str, str]
) -> tuple[CustomerFigures, ...]:
    """Return the figures by surviving customer: its refunds and payments have moved to it, its entries have not."""
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    queries = (_ACCOUNTS, _BY_ENTRIES, _BY_PAYMENTS, _BY_REFUNDS, _BY_LEGS, _BY_CLAIMS, _BY_CONTRADICTIONS)
    for query in queries:
        for row in connection.execute(query, ids).mappings():
            values = {name: int(value) for name, value in row.items() if name != "customer_id"}
            sums[owners[row["customer_id"]]].update(values)
    found = []
    for customer_id, its in sums.items():
        its["in_flight"] = its.pop("unreturned", 0) - its.pop("paid", 0)
        its["owed"] = its.pop("debt", 0) + its.pop("taken_again", 0)
        found.append(CustomerFigures(customer_id=customer_id, **its))
    return tuple(found)


def _payments(connection: Connection, ids: dict[str, list[str]]) -> tuple[PaymentFigures, ...]:
    claimed = {row.payment_id: row for row in connection.execute(_CLAIMED, ids)}
    found = []
    for row in connection.execute(_PAYMENTS, ids).mappings():
        its = claimed.get(row["payment_id"])
        figures: dict[str, Any] = (
            {} if its is None else {"claims_credits": int(its.credits), "claims_minor": int(its.minor)}
        )
        found.append(PaymentFigures(**_whole(row), **figures))
    return tuple(found)


def _of_claims(
    connection: Connection, ids: dict[str, list[str]], stored: ColumnElement[int], query: Select[Any]
) -> tuple[PairFigures, ...]:
    booked: defaultdict[str, int] = defaultdict(int)
    for transaction_id, amount in connection.execute(query, ids):
        booked[transaction_id.rpartition("-")[0]] -= int(amount)
    its = select(_k.claim_id, _k.customer_id, stored, _k.currency).where(_k.customer_id.in_(_IDS))
    return tuple(
        PairFigures(subject=row[0], customer_id=row[1], stored=row[2], expected=booked[row[0]], unit=row[3])
        for row in connection.execute(its, ids)
    )


def _rooms(connection: Connection, ids: dict[str, list[str]]) -> tuple[PairFigures, ...]:
    taken: defaultdict[str, int] = defaultdict(int)
    for transaction_id, credits in connection.execute(_TAKEN, ids):
        taken[transaction_id] += int(credits)
    for transaction_id, credits in connection.execute(_UNDONE, ids):
        taken[transaction_id] -= int(credits)
    return tuple(
        PairFigures(subject=row[0], customer_id=row[1], stored=row[2], expected=taken[row[0]])
        for row in connection.execute(_ROOMS, ids)
    )


def _reversals(connection: Connection, ids: dict[str, list[str]]) -> tuple[PairFigures, ...]:
    booked = {refund_id: int(credits) for refund_id, credits in connection.execute(_GIVEN_BACK, ids)}
    return tuple(
        PairFigures(subject=row[0], customer_id=row[1], stored=row[2], expected=booked.get(row[0], 0))
        for row in connection.execute(_REFUNDS, ids)
    )


def _payouts(connection: Connection, ids: dict[str, list[str]]) -> tuple[PairFigures, ...]:
    booked: defaultdict[tuple[str, str], int] = defaultdict(int)
    posted_for: dict[str, str] = {}
    for customer_id, leg_id, unit, minor in connection.execute(_BOOKED, ids):
        booked[leg_id, unit] += int(minor)
        posted_for[leg_id] = customer_id
    found = []
    for leg_id, customer_id, currency, paid in connection.execute(_LEGS, ids):
        its = booked.pop((leg_id, currency), 0)
        found.append(PairFigures(subject=leg_id, customer_id=customer_id, stored=its, expected=paid, unit=currency))
    # The rest was paid for no leg of these customers, or in another currency than that of the leg.
    for (leg_id, unit), minor in booked.items():
        subject, customer_id = str(leg_id), posted_for[leg_id]
        found.append(PairFigures(subject=subject, customer_id=customer_id, stored=minor, expected=0, unit=unit))
    return tuple(found)


def _of_slice(*columns: ColumnElement[Any]) -> Select[Any]:
    """Return a query of the ledger transactions of the customers."""
    return select(*columns).where(_t.customer_id.in_(_IDS))


_ACCOUNTS = select(_c.customer_id, _c.balance, _c.held, _c.bought, _c.net_spent, _c.withdrawn).where(
    _c.customer_id.in_(_IDS)
)
_OWN = "customer:" + _t.customer_id
_IN_CREDITS = _e.unit == CREDITS
_BY_ENTRIES = (
    _of_slice(
        _t.customer_id,
        _sum(and_(_IN_CREDITS, _e.account == _OWN), _e.amount).label("entries"),
        _sum(and_(_IN_CREDITS, _e.account == USED), _e.amount).label("used"),
        _sum(and_(_IN_CREDITS, _e.account == CLEARING), _e.amount).label("clearing"),
    )
    .join(ledger_entries, _e.transaction_id == _t.transaction_id)
    .group_by(_t.customer_id)
)
_TOTAL = func.coalesce(func.sum(_e.amount), 0)
_MOVED = _sum(_e.account == _OWN, _e.amount)
_ON_OTHERS = _sum(and_(_e.account.startswith("customer:"), _e.account != _OWN), _e.amount)
_UNIT = func.coalesce(_e.unit, CREDITS)
_POSTINGS = (
    _of_slice(
        _t.transaction_id,
        _t.customer_id,
        _UNIT.label("unit"),
        _t.credits,
        _TOTAL.label("total"),
        _MOVED.label("own"),
        _ON_OTHERS.label("others"),
    )
    .outerjoin(ledger_entries, _e.transaction_id == _t.transaction_id)
    .group_by(_t.transaction_id, _t.customer_id, _UNIT, _t.credits)
    .having(or_(_TOTAL != 0, _ON_OTHERS != 0, case((_UNIT == CREDITS, _t.credits), else_=_NONE) != _MOVED))
)
_BY_PAYMENTS = (
    select(_p.customer_id, func.sum(_p.credits).label("paid_for"))
    .where(_p.customer_id.in_(_IDS))
    .group_by(_p.customer_id)
)
_OF_PAYMENT = (
    "payment_id", "customer_id", "credits", "amount_minor", "currency", "credits_taken", "money_taken",
    "claimed_credits", "claimed_minor", "returned_minor",
)  # fmt: skip
_TAKES = and_(_l.payment_id == _p.payment_id, _l.status.not_in(sorted(UNPAID_FINAL)))
_PAYMENTS = (
    select(
        *(_p[name] for name in _OF_PAYMENT),
        func.coalesce(func.sum(_l.payment_credits), 0).label("leg_credits"),
        func.coalesce(func.sum(_l.amount_minor), 0).label("leg_minor"),
    )
    .outerjoin(legs, _TAKES)
    .where(_p.customer_id.in_(_IDS))
    .group_by(*(_p[name] for name in _OF_PAYMENT))
)
_TAKES_ROOM = and_(_k.phase.in_(sorted(LIVE)), _k.kind != ClaimKind.EARLIER_REFUND)
_CLAIM_MINOR = case((_k.amount_minor > _k.explained_minor, _k.amount_minor - _k.explained_minor), else_=_NONE)
_CLAIMED = (
    select(
        _k.payment_id,
        _sum(_TAKES_ROOM, _k.credits).label("credits"),
        (_sum(_TAKES_ROOM, _CLAIM_MINOR) - func.sum(_k.returned_minor)).label("minor"),
    )
    .join(payments, _p.payment_id == _k.payment_id)
    .where(_p.customer_id.in_(_IDS))
    .group_by(_k.payment_id)
)
_BY_CLAIMS = (
    select(
        _k.customer_id,
        func.sum(_k.held).label("claims_hold"),
        func.sum(_k.taken).label("claims_took"),
        func.sum(_k.debt).label("debt"),
    )
    .where(_k.customer_id.in_(_IDS))
    .group_by(_k.customer_id)
)
_OF_A_CLAIM = _t.kind.in_((EntryKind.OUTSIDE_REFUND, EntryKind.CHARGEBACK, EntryKind.CLOSE, EntryKind.REVERSAL))
_CLAIM_CREDITS = _of_slice(_t.transaction_id, _t.credits).where(_OF_A_CLAIM, _t.refund_id.is_(None))
_CLAIM_MONEY = (
    _of_slice(_t.transaction_id, _e.amount)
    .join(ledger_entries, _e.transaction_id == _t.transaction_id)
    .where(_OF_A_CLAIM, _t.refund_id.is_(None), _e.account.startswith("processor:"))
)
# Credits that were given back, perhaps spent, and taken again: their money did go out after all. A refund that is only
# in a restored backup's processor is posted after all in the same way.
_AFTER_ALL = select(events.c.refund_id).where(events.c.refund_id == _t.refund_id, events.c.kind == "posted_after_all")
_BY_CONTRADICTIONS = (
    _of_slice(_t.customer_id, func.sum(-_t.credits).label("taken_again"))
    .where(
        _t.refund_id.is_not(None),
        _t.credits < 0,
        _t.customer_id.in_(select(_c.customer_id).where(_c.customer_id.in_(_IDS), _c.balance < 0)),
        or_(_t.kind == EntryKind.CORRECTION, and_(_t.kind == EntryKind.WITHDRAWAL, _AFTER_ALL.exists())),
    )
    .group_by(_t.customer_id)
)
_IS_TAKEN = _r.status.not_in(sorted(ENDED_UNSENT))
_TO_SOURCE = and_(_r.to == To.SOURCE, _IS_TAKEN)
_IS_WITHDRAWAL = _r.kind == Kind.WITHDRAWAL
_POSTED = _r.posted.is_(True)
_UNRETURNED = _r.credits - _r.returned_credits
_BY_REFUNDS = (
    select(
        _r.customer_id,
        _sum(and_(_TO_SOURCE, _IS_WITHDRAWAL, _r.posted.is_(False), _r.of_correction.is_(False)), _r.credits).label(
            "to_be_posted"
        ),
        _sum(and_(_TO_SOURCE, or_(_IS_WITHDRAWAL, _POSTED)), _UNRETURNED).label("refunded"),
        _sum(and_(_r.to == To.SOURCE, _POSTED), _UNRETURNED).label("unreturned"),
    )
    .where(_r.customer_id.in_(_IDS))
    .group_by(_r.customer_id)
)
_IS_PAID = and_(_l.status == LegStatus.SUCCEEDED, _POSTED)
_BY_LEGS = (
    select(_r.customer_id, func.sum(_l.credits).label("paid"))
    .join(legs, _l.refund_id == _r.refund_id)
    .where(_r.customer_id.in_(_IDS), _r.to == To.SOURCE, _IS_PAID)
    .group_by(_r.customer_id)
)
_TAKEN = (
    select(_r.transaction_id, func.sum(_r.credits))
    .where(_r.customer_id.in_(_IDS), _r.transaction_id.is_not(None), _IS_TAKEN)
    .group_by(_r.transaction_id)
)
_undone = ledger_transactions.alias()
_UNDONE = (
    _of_slice(_undone.c.refers_to, func.sum(_undone.c.credits))
    .join(_undone, _undone.c.transaction_id == _t.refers_to)
    .where(_t.kind == EntryKind.REVERSAL, _undone.c.kind == EntryKind.CREDIT_REFUND)
    .group_by(_undone.c.refers_to)
)
_ROOMS = _of_slice(transaction_rooms.c.transaction_id, transaction_rooms.c.customer_id, transaction_rooms.c.taken).join(
    transaction_rooms, transaction_rooms.c.transaction_id == _t.transaction_id
)
# A reversal by "Delete" in the console undoes the credit refund itself, and gives no credits of its legs back.
_GIVEN_BACK = (
    _of_slice(_t.refund_id, func.sum(_t.credits))
    .where(
        _t.refund_id.is_not(None),
        _t.kind.in_((EntryKind.REVERSAL, EntryKind.CORRECTION)),
        ~_t.transaction_id.startswith(reversal_id("")),
    )
    .group_by(_t.refund_id)
)
_REFUNDS = select(_r.refund_id, _r.customer_id, _r.returned_credits).where(_r.customer_id.in_(_IDS))
_BOOKED = (
    _of_slice(_t.customer_id, _t.refers_to, _e.unit, func.sum(_e.amount))
    .join(ledger_entries, _e.transaction_id == _t.transaction_id)
    .where(_t.kind.in_((EntryKind.PAYOUT, EntryKind.PAYOUT_REVERSAL)), _e.account == REFUNDS)
    .group_by(_t.customer_id, _t.refers_to, _e.unit)
)
_LEGS = (
    select(_l.leg_id, _r.customer_id, _l.currency, case((_IS_PAID, _l.amount_minor), else_=_NONE))
    .join(legs, _l.refund_id == _r.refund_id)
    .where(_r.customer_id.in_(_IDS))
)
