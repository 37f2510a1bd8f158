"""Payout runs and their rows. Amounts are in minor units, times in epoch seconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, func, select, tuple_, update

from refund_worker.domain.payouts.payout import PAYOUT_OPEN, PayoutStatus
from refund_worker.domain.payouts.runs import RUN_DRIVEN, ApprovalCode, PayoutRun, RunRow, RunStatus
from refund_worker.errors import LostRace
from refund_worker.store.database import insert_into, locked
from refund_worker.store.tables import payees, payout_run_rows, payout_runs, payouts

_FIELDS = tuple(field.name for field in fields(PayoutRun))
_COLUMNS = tuple(payout_runs.c[name] for name in _FIELDS)
_ROW_FIELDS = tuple(field.name for field in fields(RunRow))
_ROW_COLUMNS = tuple(payout_run_rows.c[name] for name in _ROW_FIELDS)
_r, _w = payout_runs.c, payout_run_rows.c
_UPDATE_ROW = (
    update(payout_run_rows)
    .where(_w.run_id == bindparam("id"), _w.payee_id == bindparam("payee"))
    .values({name: bindparam(name) for name in ("code", "carried_minor", "payout_id", "paid_minor")})
)


def _run(row: RowMapping) -> PayoutRun:
    values: dict[str, Any] = {name: row[name] for name in _FIELDS}
    values["status"] = RunStatus(row["status"])
    values["approval_codes"] = tuple(ApprovalCode(code) for code in row["approval_codes"].split(",") if code)
    return PayoutRun(**values)


def _values(run: PayoutRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _FIELDS} | {"approval_codes": ",".join(run.approval_codes)}


def insert_run(connection: Connection, run: PayoutRun) -> bool:
    """Insert a run. Return False if its idempotency key is taken, or its period has a run already."""
    insert = insert_into(connection, payout_runs).values(**_values(run)).on_conflict_do_nothing().returning(_r.run_id)
    return connection.execute(insert).first() is not None


def write_run(connection: Connection, before: PayoutRun, after: PayoutRun, now: float) -> PayoutRun:
    """Store the run as it is now, with the next version, and return it. Raises `LostRace` if it has changed."""
    values = _values(after) | {"version": before.version + 1, "updated_at": now}
    mine = update(payout_runs).where(_r.run_id == before.run_id, _r.version == before.version)
    if connection.execute(mine.values(**values)).rowcount != 1:
        raise LostRace("another process changed the payout run in the meantime: load it and try again")
    values["approval_codes"] = after.approval_codes
    return PayoutRun(**values)


def _visible(client: str | None) -> Select[Any]:
    """Return the query for the runs that `client` sees: its own, or with None all of them.

    A run of the schedule is no client's.
    """
    query = select(*_COLUMNS)
    return query if client is None else query.where(_r.client == client)


def find_run(connection: Connection, run_id: str, client: str | None = None) -> PayoutRun | None:
    """Return the run if `client` sees it, or None."""
    row = connection.execute(_visible(client).where(_r.run_id == run_id)).mappings().first()
    return None if row is None else _run(row)


def lock_run(connection: Connection, run_id: str, *, skip: bool = False, client: str | None = None) -> PayoutRun | None:
    """Return the run with its row locked if `client` sees it, or None.

    With `skip`, it is also None if another transaction has locked it. The run is locked before payees and payouts.
    """
    query = locked(connection, _visible(client).where(_r.run_id == run_id), skip=skip)
    row = connection.execute(query).mappings().first()
    return None if row is None else _run(row)


def find_by_key(connection: Connection, client: str, idempotency_key: str) -> PayoutRun | None:
    """Return the client's run under this key, or None."""
    query = select(*_COLUMNS).where(_r.client == client, _r.idempotency_key == idempotency_key)
    row = connection.execute(query).mappings().first()
    return None if row is None else _run(row)


def driven(connection: Connection) -> list[str]:
    """Return the ids of the runs that the scheduler works on, the oldest first."""
    query = select(_r.run_id).where(_r.ended_at.is_(None), _r.status.in_(RUN_DRIVEN)).order_by(_r.created_at)
    return list(connection.execute(query).scalars())


def page(connection: Connection, *, limit: int, after: str | None = None, client: str | None = None) -> list[PayoutRun]:
    """Return at most `limit` runs that `client` sees, the newest first; `after` is the last id already seen."""
    query = _visible(client).order_by(_r.run_id.desc()).limit(limit)
    if after is not None:
        query = query.where(_r.run_id < after)
    return [_run(row) for row in connection.execute(query).mappings()]


def has_period(connection: Connection, processor: str, currency: str, period: str) -> bool:
    """Return True if the schedule has made its run of this period."""
    query = select(_r.run_id).where(_r.processor == processor, _r.currency == currency, _r.period == period)
    return connection.execute(query).first() is not None


def accounts_with_payees(connection: Connection) -> list[tuple[str, str]]:
    """Return (processor, currency) of all payees, each once, sorted."""
    query = select(payees.c.processor, payees.c.currency).distinct()
    return sorted((row[0], row[1]) for row in connection.execute(query))


def count_payees(connection: Connection, processor: str, currency: str) -> int:
    """Return the number of payees of the account in this currency."""
    query = select(func.count()).where(payees.c.processor == processor, payees.c.currency == currency)
    return connection.execute(query).scalar_one()


def open_payouts(connection: Connection, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the id of a payout that is neither paid nor ended, by (payee_id, currency). Others wait for it."""
    p = payouts.c
    whose = tuple_(p.payee_id, p.currency).in_(sorted(pairs))
    query = select(p.payee_id, p.currency, p.payout_id).where(whose, p.status.in_(PAYOUT_OPEN))
    return {(row[0], row[1]): row[2] for row in connection.execute(query)} if pairs else {}


def insert_rows(connection: Connection, run_id: str, rows: Sequence[RunRow]) -> None:
    """Insert the planned rows of a run."""
    values = [{"run_id": run_id} | {name: getattr(row, name) for name in _ROW_FIELDS} for row in rows]
    if values:
        connection.execute(payout_run_rows.insert(), values)


def rows_to_pay(connection: Connection, run_id: str, after: str, limit: int) -> list[RunRow]:
    """Return at most `limit` rows that are not paid or skipped yet, after this payee, by payee."""
    is_open = (_w.run_id == run_id, _w.payee_id > after, _w.paid_minor.is_(None))
    query = select(*_ROW_COLUMNS).where(*is_open).order_by(_w.payee_id).limit(limit)
    return [RunRow(**row) for row in connection.execute(query).mappings()]


def write_rows(connection: Connection, run_id: str, rows: Sequence[RunRow]) -> None:
    """Store the outcome of these rows."""
    values = [
        {"id": run_id, "payee": row.payee_id, "code": row.code, "carried_minor": row.carried_minor}
        | {"payout_id": row.payout_id, "paid_minor": row.paid_minor}
        for row in rows
    ]
    if values:
        connection.execute(_UPDATE_ROW, values)


def rows_page(
    connection: Connection,
    run_id: str,
    *,
    limit: int,
    after: str | None = None,
    skipped: bool | None = None,
    code: str | None = None,
) -> list[tuple[RunRow, PayoutStatus | None]]:
    """Return rows by payee, each with the status of its payout. `skipped` and `code` return only those."""
    query = select(*_ROW_COLUMNS, payouts.c.status).outerjoin(payouts, payouts.c.payout_id == _w.payout_id)
    query = query.where(_w.run_id == run_id).order_by(_w.payee_id).limit(limit)
    if after is not None:
        query = query.where(_w.payee_id > after)
    if skipped is not None:
        is_skipped = func.coalesce(_w.paid_minor, -1) == 0
        query = query.where(is_skipped if skipped else ~is_skipped)
    if code is not None:
        query = query.where(_w.code == code)
    return [
        (RunRow(**{name: row[name] for name in _ROW_FIELDS}), PayoutStatus(row["status"]) if row["status"] else None)
        for row in connection.execute(query).mappings()
    ]


def count_codes(connection: Connection, run_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return the number of rows by code, by run_id; rows without a code are left out."""
    query = select(_w.run_id, _w.code, func.count()).where(_w.run_id.in_(sorted(run_ids)), _w.code.is_not(None))
    return _by_run(connection.execute(query.group_by(_w.run_id, _w.code).order_by(_w.code)))


def count_rows(connection: Connection, run_ids: Collection[str]) -> dict[str, int]:
    """Return the number of rows, by run_id."""
    query = select(_w.run_id, func.count()).where(_w.run_id.in_(sorted(run_ids))).group_by(_w.run_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def carried_minor(connection: Connection, run_ids: Collection[str]) -> dict[str, int]:
    """Return the sum that each run leaves in the balances although it is payable, by run_id."""
    query = select(_w.run_id, func.sum(_w.carried_minor)).where(_w.run_id.in_(sorted(run_ids))).group_by(_w.run_id)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def count_payouts(connection: Connection, run_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return the number of payouts by status, by run_id."""
    p = payouts.c
    query = select(p.run_id, p.status, func.count()).where(p.run_id.in_(sorted(run_ids)))
    return _by_run(connection.execute(query.group_by(p.run_id, p.status).order_by(p.status)))


def _by_run(rows: Iterable[Any]) -> dict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for run_id, name, number in rows:
        found[run_id][name] = number
    return found


def waiting(connection: Connection, limit: int) -> list[PayoutRun]:
    """Return at most `limit` runs that await approval, oldest first."""
    is_waiting = (_r.ended_at.is_(None), _r.status == RunStatus.AWAITING_APPROVAL)
    query = select(*_COLUMNS).where(*is_waiting).order_by(_r.created_at).limit(limit)
    return [_run(row) for row in connection.execute(query).mappings()]
