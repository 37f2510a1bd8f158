"""What the hash chain is made of: the rows of the append-only tables, and the seals over them."""

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

# Which columns a digest covers, in this order: a column added later must not change the digests of older rows.
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
# Columns that hold what people wrote: sealed as one hash under the row's `salt`, so that they can be erased with it.
TEXTS: Mapping[str, tuple[str, ...]] = {"ledger_transactions": ("description",), "events": ("reason", "detail")}
# What stands in their place once they are erased: all of a row's, and nothing else.
ERASED: Mapping[str, dict[str, str]] = {
    "ledger_transactions": {"description": ""},
    "events": {"reason": "", "detail": "{}"},
}
# The line of a refund that a second person let go.
APPROVED = f"refund_{RefundOutcome.APPROVED}"
# Behind a line that leads to one of these, nothing is sent before another line lets the refund go.
_HELD = (RefundStatus.AWAITING_APPROVAL, *ENDED_UNSENT)
# The second: the processor has paid already, on the word of a database that this one is a backup or a copy of.
_LET_GO = (APPROVED, "posted_after_all")
_SENT = f"leg_{LegOutcome.SENT}"
_TABLES = {table.name: table for table in (ledger_transactions, ledger_entries, events, snapshots, erasures)}
_NUMBERED = (*_TABLES.values(), audit_seals, audit_checks)


def top_seqs(connection: Connection) -> dict[str, int]:
    """The highest number in each table that can be seen; 0 where it is empty."""
    tops = (select(func.max(t.c.seq)).scalar_subquery().label(name) for name, t in _TABLES.items())
    return {name: int(top or 0) for name, top in connection.execute(select(*tops)).mappings().one().items()}


def running_transactions(connection: Connection) -> tuple[int, int] | None:
    """(the oldest that still runs, the next that will begin), as numbers that only grow; None on SQLite, which lets
    no second writer begin before the first has ended."""
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
    """Rows with after < seq <= upto, in order: `seq`, the columns of `COLUMNS`, and `salt` where it has `TEXTS`."""
    return connection.execute(_ROWS_BETWEEN[table], {"after": after, "upto": upto, "limit": limit}).all()


def numbers_below_one(connection: Connection) -> list[tuple[str, int]]:
    """(table, seq) of rows with a number that the database never gives: somebody put them in by hand."""
    return [
        (t.name, seq)
        for t in _NUMBERED
        for seq in connection.execute(select(t.c.seq).where(t.c.seq <= 0).order_by(t.c.seq)).scalars()
    ]


def sent_while_held(connection: Connection, after: int, upto: int) -> list[tuple[int, str, str]]:
    """(seq of the first send, refund, status by the lines before) of refunds that were sent though nobody let them go,
    among the sends with after < seq <= upto."""
    sent, held, later = events.alias("sent"), events.alias("held"), events.alias("later")
    leads_to_held = (held.c.leg_id.is_(None), held.c.to_status.in_(_HELD))
    let_go_or_held_anew = or_(later.c.kind.in_(_LET_GO), and_(later.c.leg_id.is_(None), later.c.to_status.in_(_HELD)))
    between = and_(later.c.refund_id == held.c.refund_id, later.c.seq > held.c.seq, later.c.seq < sent.c.seq)
    query = (
        select(func.min(sent.c.seq), sent.c.refund_id, held.c.to_status)
        .join(held, and_(held.c.refund_id == sent.c.refund_id, held.c.seq < sent.c.seq, *leads_to_held))
        .where(sent.c.kind == _SENT, sent.c.seq > after, sent.c.seq <= upto)
        .where(~exists().where(between, let_go_or_held_anew))
        .group_by(sent.c.refund_id, held.c.to_status)
        .order_by(func.min(sent.c.seq))
    )
    return [(seq, refund_id, status) for seq, refund_id, status in connection.execute(query)]


def insert_erasure(connection: Connection, erasure: Mapping[str, Any]) -> None:
    """Append that texts of a sealed row were overwritten: at, actor, table_name, row_seq, was, texts_hash, becomes."""
    connection.execute(erasures.insert().values(**erasure))


def erasures_of(connection: Connection, table: str, seq: int) -> list[RowMapping]:
    e = erasures.c
    query = select(erasures).where(e.table_name == table, e.row_seq == seq, e.seq > 0).order_by(e.seq)
    return list(connection.execute(query).mappings())


def seal_over(connection: Connection, table: str, seq: int) -> RowMapping | None:
    """Return the seal that covers this row of the table, or None if it is not sealed yet."""
    s = audit_seals.c
    query = select(audit_seals).where(s.table_name == table, s.last_seq >= seq).order_by(s.last_seq).limit(1)
    return connection.execute(query).mappings().first()


def count_after(connection: Connection, table: str, after: int) -> int:
    t = _TABLES[table]
    return connection.execute(select(func.count()).where(t.c.seq > after)).scalar_one()


def last_sealed_seqs(connection: Connection) -> dict[str, int]:
    """How far each table is sealed; 0 where nothing of it is."""
    return _sealed_seqs(connection)


def last_seal(connection: Connection) -> RowMapping | None:
    query = select(audit_seals).order_by(audit_seals.c.seq.desc()).limit(1)
    return connection.execute(query).mappings().first()


def seals_after(connection: Connection, after: int, limit: int) -> list[RowMapping]:
    query = select(audit_seals).where(audit_seals.c.seq > after).order_by(audit_seals.c.seq).limit(limit)
    return list(connection.execute(query).mappings())


def seal_at(connection: Connection, seq: int) -> RowMapping | None:
    return connection.execute(select(audit_seals).where(audit_seals.c.seq == seq)).mappings().first()


def sealed_seqs_at(connection: Connection, seal: int) -> dict[str, int]:
    """How far each table was sealed by this seal and those before; 0 where nothing of it was."""
    return _sealed_seqs(connection, audit_seals.c.seq <= seal)


def _sealed_seqs(connection: Connection, *among: ColumnElement[bool]) -> dict[str, int]:
    s = audit_seals.c
    # The last of an index, not the largest of all: it is asked for every few seconds, and seals only grow.
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
    """Note what was looked at of the chain: at, kind, actor, first_seal, last_seal, rows, findings."""
    connection.execute(audit_checks.insert().values(**check))


def last_check(connection: Connection, kind: str, *, of_all: bool = False) -> RowMapping | None:
    """The latest check of this kind; `of_all` only those that began with the first seal."""
    c = audit_checks.c
    query = select(audit_checks).where(c.kind == kind).order_by(c.seq.desc()).limit(1)
    if of_all:
        query = query.where(c.first_seal == 1)
    return connection.execute(query).mappings().first()


def lines(
    connection: Connection, table: str, equal: Mapping[str, Any], *, before: int | None, look_back: int, limit: int
) -> list[RowMapping]:
    """Rows of an append-only table with these values, the newest first, among the `look_back` before `before`."""
    t = _TABLES[table]
    query = select(t).order_by(t.c.seq.desc()).limit(limit)
    for name, value in equal.items():
        query = query.where(t.c[name] == value)
    if before is not None:
        query = query.where(t.c.seq < before)
    if "refund_id" not in equal and "customer_id" not in equal:
        top = before if before is not None else top_seqs(connection)[table] + 1
        query = query.where(t.c.seq >= top - look_back)
    return list(connection.execute(query).mappings())


def insert_seal(connection: Connection, seal: Mapping[str, Any]) -> None:
    connection.execute(audit_seals.insert().values(**seal))
