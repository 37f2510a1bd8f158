"""Payout runs and their rows, as the API and the command line show them.

Everywhere `client` is the client whose runs are visible, None for all: another client's run is not found.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.domain.payouts.runs import PayoutRun, RunRow, RunStatus
from refund_worker.domain.spreadsheet_cells import harmless
from refund_worker.engine.views.api_objects import event_view
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.errors import NotFound
from refund_worker.store import timeline
from refund_worker.store.payouts import payees, runs
from refund_worker.times import iso

ROW_COLUMNS = ("payee_id", "amount_minor", "paid_minor", "carried_minor", "code", "payout_id", "payout_status")
_ROWS_AT_ONCE = 1_000


def find_run(connection: Connection, run_id: str, *, client: str | None) -> api_schema.PayoutRun:
    """Return the run. Raises `NotFound`."""
    return run_views(connection, [_run(connection, run_id, client)])[0]


def _run(connection: Connection, run_id: str, client: str | None) -> PayoutRun:
    found = runs.find_run(connection, run_id, client)
    if found is None:
        raise NotFound(f"payout run {run_id} is not known")
    return found


def run_page(
    connection: Connection, *, client: str | None, limit: int, after: str | None = None
) -> api_schema.Page[api_schema.PayoutRun]:
    """Return runs, the newest first. Raises `InvalidRequest` for a cursor that is not a visible run."""
    if after is not None and runs.find_run(connection, after, client) is None:
        raise unknown_cursor(after, "payout run that you can see")
    found = runs.page(connection, limit=limit + 1, after=after, client=client)
    return {"data": run_views(connection, found[:limit]), "has_more": len(found) > limit}


def run_views(connection: Connection, found: Sequence[PayoutRun]) -> list[api_schema.PayoutRun]:
    """Return these runs with the counts of their rows and payouts."""
    ids = [run.run_id for run in found]
    if not ids:
        return []
    codes, carried = runs.count_codes(connection, ids), runs.carried_minor(connection, ids)
    by_status = runs.count_payouts(connection, ids)
    rows = runs.count_rows(connection, ids)
    return [
        _view(
            run,
            runs.count_payees(connection, run.processor, run.currency)
            if run.status is RunStatus.PLANNING
            else rows.get(run.run_id, 0),
            codes.get(run.run_id, {}),
            by_status.get(run.run_id, {}),
            carried.get(run.run_id, 0),
        )
        for run in found
    ]


def _view(
    run: PayoutRun, total: int, codes: dict[str, int], by_status: dict[str, int], carried: int
) -> api_schema.PayoutRun:
    available = run.available_minor
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "processor_account": run.processor,
        "currency": run.currency,
        "minimum_minor": run.minimum_minor,
        "dry_run": run.dry_run,
        "payees": total,
        "planned_payees": run.planned_payees,
        "planned_minor": run.planned_minor,
        "paid_payees": run.paid_payees,
        "paid_minor": run.paid_minor,
        "skipped_payees": run.skipped_payees,
        "carried_minor": carried,
        "available_minor": available,
        "shortfall_minor": None if available is None else max(0, run.planned_minor - available),
        "codes": codes,
        "payouts_by_status": by_status,
        "approval_codes": [code.value for code in run.approval_codes],
        "period": run.period,
        "client": run.client,
        "actor": run.actor,
        "approved_by": run.approved_by,
        "reason": run.reason,
        "version": run.version,
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
        "ended_at": None if run.ended_at is None else iso(run.ended_at),
    }


def row_page(
    connection: Connection,
    run_id: str,
    *,
    client: str | None,
    limit: int,
    after: str | None = None,
    skipped: bool | None = None,
    code: str | None = None,
) -> api_schema.Page[api_schema.PayoutRunRow]:
    """Return rows of the run by payee. Raises `NotFound`, or `InvalidRequest` for an unknown cursor."""
    _run(connection, run_id, client)
    if after is not None and not payees.load(connection, [after]):
        raise unknown_cursor(after, "payee")
    found = runs.rows_page(connection, run_id, limit=limit + 1, after=after, skipped=skipped, code=code)
    return {"data": [_row_view(*each) for each in found[:limit]], "has_more": len(found) > limit}


def _row_view(row: RunRow, payout_status: PayoutStatus | None) -> api_schema.PayoutRunRow:
    return {
        "payee_id": row.payee_id,
        "amount_minor": row.amount_minor,
        "paid_minor": row.paid_minor,
        "carried_minor": row.carried_minor,
        "skipped": row.is_skipped,
        "code": row.code,
        "payout_id": row.payout_id,
        "payout_status": None if payout_status is None else payout_status.value,
    }


def rows_csv(
    connection: Connection, run_id: str, *, client: str | None, skipped: bool | None = None, code: str | None = None
) -> str:
    """Return all rows of the run as CSV. Raises `NotFound`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(ROW_COLUMNS)
    for row in _all_rows(connection, run_id, client, skipped, code):
        values = dict(row)
        writer.writerow([harmless(values[name]) for name in ROW_COLUMNS])
    return text.getvalue()


def _all_rows(
    connection: Connection, run_id: str, client: str | None, skipped: bool | None, code: str | None
) -> Iterator[api_schema.PayoutRunRow]:
    after, more = None, True
    while more:
        page = row_page(connection, run_id, client=client, limit=_ROWS_AT_ONCE, after=after, skipped=skipped, code=code)
        yield from page["data"]
        more = page["has_more"]
        after = page["data"][-1]["payee_id"] if page["data"] else None


def run_events(connection: Connection, run_id: str, *, client: str | None) -> list[api_schema.Event]:
    """Return the timeline of the run, oldest first. Raises `NotFound`."""
    _run(connection, run_id, client)
    return [event_view(row) for row in timeline.events_about(connection, run_id)]
