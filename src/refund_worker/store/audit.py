"""The rows that the hash chain covers, its seals over them, and the records of its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    text,
)

from refund_worker.domain.refund import ENDED_UNSENT, RefundStatus
from refund_worker.domain.state_machine import LegOutcome, RefundOutcome
from refund_worker.store.tables import (
    audit_checks,
    audit_seals,
    erasures,
    events,
    ledger_entries,
    ledger_transactions,
    snapshots,
)

# Columns that a digest covers, in this order. A column added later must not change the digests of older rows.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "ledger_transactions": (
        "transaction_id",
        "customer_id",
        "kind",
        "credits",
        "refers_to",
        "refund_id",
        "description",
        "occurred_at",
        "actor",
    ),
    "ledger_entries": ("transaction_id", "account", "unit", "amount"),
    "events": (
        "refund_id",
        "at",
        "actor",
        "kind",
        "leg_id",
        "from_status",
        "to_status",
        "reason",
        "detail",
        "alarm",
    ),
    "snapshots": ("table_name", "row_id", "form", "state"),
    "erasures": ("at", "actor", "table_name", "row_seq", "was", "texts_hash", "becomes"),
}
# Columns with texts that people wrote. They are sealed as one hash with the row's `salt`, so that both can be erased
# together.
TEXTS: Mapping[str, tuple[str, ...]] = {"ledger_transactions": ("description",), "events": ("reason", "detail")}
# Values that replace erased texts. All texts of a row are erased together, and nothing else.
ERASED: Mapping[str, dict[str, str]] = {
    "ledger_transactions": {"description": ""},
    "events": {"reason": "", "detail": "{}"},
}
# Kinds of events without a refund that are about a customer: their texts can be erased like those of refunds.
ABOUT_CUSTOMERS = (
    "customer_erased",
    "customer_merged",
    "difference_acknowledged",
    "difference_applied",
    "difference_gone",
    "payment_closed",
    "shortfall_decided",
)
# The same for events about payouts and payees: those that can have a text of a person or a processor. Events about runs
# of payouts have texts of our own staff.
ABOUT_PAYEES = ("retry_requested", "manual_payment_linked", "late_transfer_found", "unknown_status")
_BEGIN_ABOUT_PAYEES = ("payee_", "payout_", "leg_")
_ABOUT_RUNS = "payout_run_"
# Kind of the event that a second person approved the refund.
APPROVED = f"refund_{RefundOutcome.APPROVED}"
# After an event with one of these statuses, nothing is sent until a later event releases the refund.
_HELD = (RefundStatus.AWAITING_APPROVAL, *ENDED_UNSENT)
# The second kind: the processor has already paid, for a database of which this one is a backup or a copy.
_RELEASED_BY = (APPROVED, "posted_after_all")
# The key in an event's detail by which a refund is marked as unapproved: nothing is ever sent for it.
_UNAPPROVED = '"unapproved":'
_SENT = f"leg_{LegOutcome.SENT}"


def is_about_payees(kind: str) -> bool:
    """Return True for the kind of an event without a refund whose texts can be erased with those of a payee."""
    begins = kind.startswith(_BEGIN_ABOUT_PAYEES) and not kind.startswith(_ABOUT_RUNS)
    return begins or kind in ABOUT_PAYEES


_TABLES = {table.name: table for table in (ledger_transactions, ledger_entries, events, snapshots, erasures)}
_NUMBERED = (*_TABLES.values(), audit_seals, audit_checks)


def top_seqs(connection: Connection) -> dict[str, int]:
    """Return the highest visible `seq` of each covered table by its name; 0 for an empty table."""
    tops = (select(func.max(t.c.seq)).scalar_subquery().label(name) for name, t in _TABLES.items())
    return {name: int(top or 0) for name, top in connection.execute(select(*tops)).mappings().one().items()}


def running_transactions(connection: Connection) -> tuple[int, int] | None:
    """Return (oldest transaction still running, next one to begin) as numbers that only grow.

    Returns None on SQLite, where no second writer begins before the first has ended.
    """
    if connection.dialect.name == "sqlite":
        return None
    query = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() AS s"
    oldest, following = connection.execute(text(query)).one()
    return int(oldest), int(following)


_AFTER, _UPTO, _LIMIT = (bindparam(name, type_=BigInteger) for name in ("after", "upto", "limit"))
_ROWS_BETWEEN = {
    name: select(t.c.seq, *(t.c[column] for column in (*COLUMNS[name], *(("salt",) if name in TEXTS else ()))))
    .where(t.c.seq > _AFTER, t.c.seq <= _UPTO)
    .order_by(t.c.seq)
    .limit(_LIMIT)
    for name, t in _TABLES.items()
}


def rows_between(
    connection: Connection, table: str, after: int, upto: int, limit: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return rows with after < seq <= upto, in order.

    Each has `seq`, the columns of `COLUMNS`, and `salt` if the table has `TEXTS`.
    """
    return connection.execute(_ROWS_BETWEEN[table], {"after": after, "upto": upto, "limit": limit}).all()


def numbers_below_one(connection: Connection) -> list[tuple[str, int]]:
    """Return (table, seq) of rows with a number that the database never assigns: they were inserted manually."""
    return [
        (t.name, seq)
        for t in _NUMBERED
        for seq in connection.execute(select(t.c.seq).where(t.c.seq <= 0).order_by(t.c.seq)).scalars()
    ]


def sent_while_held(connection: Connection, after: int, upto: int) -> list[tuple[int, str, str]]:
    """Find refunds that were sent while they waited for approval, were rejected, canceled or unapproved.

    Refunds that were released before the send are left out.

    Returns (seq of the first send, refund_id, held status) for the sends with after < seq <= upto.
    """
    sent, held, later = events.alias("sent"), events.alias("held"), events.alias("later")
    is_unapproved = held.c.detail.contains(_UNAPPROVED)
    leads_to_held = (held.c.leg_id.is_(None), or_(held.c.to_status.in_(_HELD), is_unapproved))
    status = case((is_unapproved, "unapproved"), else_=held.c.to_status)
    released_or_held_again = or_(
        later.c.kind.in_(_RELEASED_BY), and_(later.c.leg_id.is_(None), later.c.to_status.in_(_HELD))
    )
    between = and_(later.c.refund_id == held.c.refund_id, later.c.seq > held.c.seq, later.c.seq < sent.c.seq)
    query = (
        select(func.min(sent.c.seq), sent.c.refund_id, status)
        .join(held, and_(held.c.refund_id == sent.c.refund_id, held.c.seq < sent.c.seq, *leads_to_held))
        .where(sent.c.kind == _SENT, sent.c.seq > after, sent.c.seq <= upto)
        .where(~exists().where(between, released_or_held_again))
        .group_by(sent.c.refund_id, status)
        .order_by(func.min(sent.c.seq))
    )
    return [(seq, refund_id, status) for seq, refund_id, status in connection.execute(query)]


def insert_erasure(connection: Connection, erasure: Mapping[str, Any]) -> None:
    """Record that texts of a sealed row were overwritten: at, actor, table_name, row_seq, was, texts_hash, becomes."""
    connection.execute(erasures.insert().values(**erasure))


def erasures_of(connection: Connection, table: str, seq: int) -> list[RowMapping]:
    """Return the erasures of one row of a table, the oldest first."""
    e = erasures.c
    query = select(erasures).where(e.table_name == table, e.row_seq == seq, e.seq > 0).order_by(e.seq)
    return list(connection.execute(query).mappings())


def seal_over(connection: Connection, table: str, seq: int) -> RowMapping | None:
    """Return the seal that covers this row of the table, or None if it is not sealed yet."""
    s = audit_seals.c
    query = select(audit_seals).where(s.table_name == table, s.last_seq >= seq).order_by(s.last_seq).limit(1)
    return connection.execute(query).mappings().first()


def count_after(connection: Connection, table: str, after: int) -> int:
    """Return how many rows of the table have a `seq` above `after`."""
    t = _TABLES[table]
    return connection.execute(select(func.count()).where(t.c.seq > after)).scalar_one()


def last_sealed_seqs(connection: Connection) -> dict[str, int]:
    """Return the last sealed `seq` of each covered table by its name; 0 if nothing is sealed."""
    return _sealed_seqs(connection)


def last_seal(connection: Connection) -> RowMapping | None:
    """Return the newest seal, or None."""
    query = select(audit_seals).order_by(audit_seals.c.seq.desc()).limit(1)
    return connection.execute(query).mappings().first()


def seals_after(connection: Connection, after: int, limit: int) -> list[RowMapping]:
    """Return at most `limit` seals with a `seq` above `after`, in order."""
    query = select(audit_seals).where(audit_seals.c.seq > after).order_by(audit_seals.c.seq).limit(limit)
    return list(connection.execute(query).mappings())


def seal_at(connection: Connection, seq: int) -> RowMapping | None:
    """Return the seal with this `seq`, or None."""
    return connection.execute(select(audit_seals).where(audit_seals.c.seq == seq)).mappings().first()


def sealed_seqs_at(connection: Connection, seal: int) -> dict[str, int]:
    """Return the last `seq` of each table that was sealed by this seal or an earlier one; 0 if nothing was."""
    return _sealed_seqs(connection, audit_seals.c.seq <= seal)


def _sealed_seqs(connection: Connection, *among: ColumnElement[bool]) -> dict[str, int]:
    s = audit_seals.c
    # Read the end of the index instead of a maximum: this runs every few seconds, and the seals only grow.
    lasts = (
        select(s.last_seq)
        .where(s.table_name == name, *among)
        .order_by(s.last_seq.desc())
        .limit(1)
        .scalar_subquery()
        .label(name)
        for name in _TABLES
    )
    return {name: int(last or 0) for name, last in connection.execute(select(*lasts)).mappings().one().items()}


def insert_check(connection: Connection, check: Mapping[str, Any]) -> None:
    """Record a check of the chain: at, kind, actor, first_seal, last_seal, rows, findings."""
    connection.execute(audit_checks.insert().values(**check))


def last_check(connection: Connection, kind: str, *, of_all: bool = False) -> RowMapping | None:
    """Return the latest check of this kind, or None.

    With `of_all`, only checks that began with the first seal count.
    """
    c = audit_checks.c
    query = select(audit_checks).where(c.kind == kind).order_by(c.seq.desc()).limit(1)
    if of_all:
        query = query.where(c.first_seal == 1)
    return connection.execute(query).mappings().first()


def lines(
    connection: Connection, table: str, equal: Mapping[str, Any], *, before: int | None, lookback: int, limit: int
) -> list[RowMapping]:
    """Return rows of a covered table that have the values of `equal`, the newest first; a tuple is one of its values.

    Only the last `lookback` rows before `before` are searched, unless a refund or a customer is given.
    """
    t = _TABLES[table]
    query = select(t).order_by(t.c.seq.desc()).limit(limit)
    for name, value in equal.items():
        query = query.where(t.c[name].in_(value) if isinstance(value, tuple) else t.c[name] == value)
    if before is not None:
        query = query.where(t.c.seq < before)
    if "refund_id" not in equal and "customer_id" not in equal:
        top = before if before is not None else top_seqs(connection)[table] + 1
        query = query.where(t.c.seq >= top - lookback)
    return list(connection.execute(query).mappings())


def insert_seal(connection: Connection, seal: Mapping[str, Any]) -> None:
    """Insert a seal: a row with the columns of the table `audit_seals`."""
    connection.execute(audit_seals.insert().values(**seal))
