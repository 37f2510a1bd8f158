"""Snapshots of changeable rows for the hash chain: each change of a row appends the row's new state.

The snapshot is written in the transaction of the change. A row that was changed in any other way therefore differs from
its latest snapshot. Snapshots hold no customer's text, and only a hash of a secret.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, exists, func, select

from refund_worker.store.tables import api_keys, console_users, legs, payees, payments, processors, refunds, snapshots

# Form of the snapshots that are written now. Covering another column needs a new form: an older snapshot is read by the
# columns of its own form.
FORM = 1
# The covered columns, in the order in which a snapshot holds them.
COVERED: Mapping[str, tuple[str, ...]] = {
    "payments": (
        "customer_id", "processor", "processor_payment_id", "amount_minor", "currency", "credits", "captured_at",
        "credits_taken", "money_taken", "captured_minor", "refunded_minor",
    ),
    "refunds": (
        "client", "idempotency_key", "kind", "to", "customer_id", "transaction_id", "credits", "currency",
        "requested_by", "of_correction", "posted", "returned_credits",
    ),
    "legs": (
        "refund_id", "payment_id", "processor", "processor_payment_id", "amount_minor", "currency", "credits",
        "payment_credits", "returned_credits",
    ),
    "api_keys": ("key_hash", "signing_box", "name", "client", "role", "created_at", "expires_at", "revoked_at"),
    "console_users": ("role", "password_hash", "created_at", "disabled_at"),
    "processors": ("paused_by", "paused_at", "paused_until", "code"),
    "payees": (
        "customer_id", "processor", "currency", "country", "method", "destination_id", "destination_kind",
        "destination_box", "destination_masked", "destination_hash", "destination_ref", "destination_changed_at",
        "paused_by", "paused_at", "blocked_by",
    ),
}  # fmt: skip
# Columns that are stored as a hash: an old password hash must not be kept for ever.
SECRET = frozenset({"key_hash", "signing_box", "password_hash", "destination_box", "destination_hash"})
# Tables that every check of the chain reads completely: they are small and control access.
SMALL = ("api_keys", "console_users", "processors")
_TABLES = {table.name: table for table in (payments, refunds, legs, api_keys, console_users, processors, payees)}
_KEYS = {name: next(iter(table.primary_key.columns)) for name, table in _TABLES.items()}


@dataclass(frozen=True, slots=True)
class CurrentRow:
    """A row (`now`) and its latest snapshot (`sealed`, with its `seq`). One that does not exist has the value None."""

    row_id: str
    now: tuple[Any, ...] | None
    sealed: tuple[Any, ...] | None
    seq: int


def state_of(table: str, row: Mapping[str, Any]) -> list[Any]:
    """Return the covered columns of a row in the order and form of a snapshot; secrets are hashed."""
    return [_hidden(row[name]) if name in SECRET else row[name] for name in COVERED[table]]


def _hidden(secret: str | None) -> str | None:
    return None if secret is None else hashlib.sha256(secret.encode()).hexdigest()


def take(connection: Connection, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Append a snapshot of each (table name, row with its key and all covered columns)."""
    values = [
        {"table_name": table, "row_id": row[_KEYS[table].name], "form": FORM, "state": _text(state_of(table, row))}
        for table, row in rows
    ]
    if values:
        connection.execute(snapshots.insert(), values)


def _text(state: list[Any]) -> str:
    return json.dumps(state, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


_ROWS = {
    name: select(_KEYS[name], *(table.c[column] for column in COVERED[name]))
    .where(_KEYS[name].in_(bindparam("ids", expanding=True)))
    .order_by(_KEYS[name])
    for name, table in _TABLES.items()
}


def append_current_rows(connection: Connection, table: str, row_ids: Collection[str]) -> None:
    """Append a snapshot of each of these rows, as this transaction sees them now."""
    if row_ids:
        rows = connection.execute(_ROWS[table], {"ids": sorted(row_ids)}).mappings()
        take(connection, [(table, dict(row)) for row in rows])


def changed_between(connection: Connection, after: int, upto: int) -> dict[str, set[str]]:
    """Return, by table, the ids of rows that have a snapshot with after < seq <= upto."""
    s = snapshots.c
    found: dict[str, set[str]] = {name: set() for name in COVERED}
    for table, row_id in connection.execute(select(s.table_name, s.row_id).where(s.seq > after, s.seq <= upto)):
        found.setdefault(table, set()).add(row_id)
    return found


def current_rows(
    connection: Connection, table: str, page: int, only: Collection[str] | None = None
) -> Iterator[CurrentRow]:
    """Yield every row of a covered table, or those of `only`, with its latest snapshot; then ids without a row.

    Rows are read in pages of `page`. Row and snapshot come from one statement, so a concurrent change cannot show in
    only one of them.
    """
    key, after = _KEYS[table], ""
    while rows := connection.execute(_with_latest(table, only).where(key > after).limit(page)).all():
        for row in rows:
            now, (seq, form, state) = row[1:-3], row[-3:]
            hidden = tuple(state_of(table, dict(zip(COVERED[table], now, strict=True))))
            sealed = tuple(json.loads(state)) if form == FORM else None
            yield CurrentRow(row[0], hidden, sealed, seq or 0)
        after = rows[-1][0]
    s = snapshots.c
    deleted = select(s.row_id, func.max(s.seq)).where(s.table_name == table, ~exists().where(key == s.row_id))
    if only is not None:
        deleted = deleted.where(s.row_id.in_(only))
    for row_id, seq in connection.execute(deleted.group_by(s.row_id).order_by(s.row_id)):
        yield CurrentRow(row_id, None, (), seq)


def _with_latest(table: str, only: Collection[str] | None) -> Select[Any]:
    key, s = _KEYS[table], snapshots.alias().c
    latest = select(func.max(s.seq)).where(s.table_name == table, s.row_id == key).scalar_subquery()
    columns = (_TABLES[table].c[name] for name in COVERED[table])
    query = (
        select(key, *columns, snapshots.c.seq, snapshots.c.form, snapshots.c.state)
        .select_from(_TABLES[table].outerjoin(snapshots, and_(snapshots.c.seq == latest)))
        .order_by(key)
    )
    return query if only is None else query.where(key.in_(only))
