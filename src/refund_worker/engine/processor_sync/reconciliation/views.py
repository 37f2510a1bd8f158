"""Reconciliations and their differences as the API, the command line, the console and the CSV files show them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, cast

from sqlalchemy import Connection, RowMapping

from refund_worker import api_schema
from refund_worker.domain.spreadsheet_cells import harmless
from refund_worker.engine.processor_sync.reconciliation.kinds import ACTIONS, Difference, Kind, State
from refund_worker.engine.processor_sync.reconciliation.progress import Phase, Progress
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.errors import NotFound
from refund_worker.store import reconciliations as store
from refund_worker.times import iso

HEADER: Final = tuple(api_schema.ReconciliationDifference.__annotations__)


def reconciliation_view(connection: Connection, reconciliation_id: str) -> api_schema.Reconciliation:
    """Return one reconciliation. Raises `NotFound`."""
    row = store.find(connection, reconciliation_id)
    if row is None:
        raise NotFound(f"reconciliation {reconciliation_id} is not known")
    return _views(connection, [row])[0]


def list_reconciliations(
    connection: Connection, *, limit: int, after: str | None = None, processor: str | None = None
) -> api_schema.Page[api_schema.Reconciliation]:
    """Return a page of reconciliations, newest first, after the id `after`.

    Raises `InvalidRequest` for a cursor that is no reconciliation.
    """
    if after is not None and store.find(connection, after) is None:
        raise unknown_cursor(after, "reconciliation")
    rows = store.page(connection, limit=limit + 1, before=after, processor=processor)
    return {"data": _views(connection, rows[:limit]), "has_more": len(rows) > limit}


def list_differences(
    connection: Connection,
    reconciliation_id: str,
    *,
    kind: str | None = None,
    state: str | None = None,
    limit: int,
    after: int = 0,
    client: str | None = None,
) -> api_schema.Page[api_schema.ReconciliationDifference]:
    """Return a page of differences, by number, after the number `after`. Raises `NotFound`.

    With `client`, only the differences of that client's refunds are visible.
    """
    if store.find(connection, reconciliation_id) is None:
        raise NotFound(f"reconciliation {reconciliation_id} is not known")
    rows = store.differences(
        connection, reconciliation_id, kind=kind, state=state, limit=limit + 1, after=after, client=client
    )
    return {"data": [difference_view(row) for row in rows[:limit]], "has_more": len(rows) > limit}


def difference_view(row: RowMapping) -> api_schema.ReconciliationDifference:
    """Return one difference as the API shows it."""
    kind = Kind(row["kind"])
    return {
        "n": row["n"],
        "kind": kind.value,
        "subject": row["subject"],
        "object_id": row["object_id"] or None,
        "leg_id": row["leg_id"],
        "refund_id": row["refund_id"],
        "payment_id": row["payment_id"],
        "customer_id": row["customer_id"],
        "currency": row["currency"],
        "ours": json.loads(row["ours"]),
        "theirs": json.loads(row["theirs"]),
        "detail": row["detail"],
        "action": ACTIONS[kind],
        "state": State(row["state"]).value,
        "found_at": iso(row["found_at"]),
        "decided_at": iso(row["decided_at"]) if row["decided_at"] is not None else None,
        "decided_by": row["decided_by"],
        "reason": row["reason"],
        "outcome": row["outcome"],
    }


def csv_row(view: api_schema.ReconciliationDifference) -> list[object]:
    """Return a difference as a row under `HEADER`."""
    return [harmless(value) for value in view.values()]


def as_difference(row: RowMapping) -> Difference:
    """Return a stored difference as the comparison found it."""
    names = ("subject", "object_id", "leg_id", "refund_id", "payment_id", "customer_id", "currency", "detail")
    facts = {name: row[name] for name in names}
    return Difference(Kind(row["kind"]), ours=json.loads(row["ours"]), theirs=json.loads(row["theirs"]), **facts)


def _views(connection: Connection, rows: Iterable[RowMapping]) -> list[api_schema.Reconciliation]:
    rows = list(rows)
    counts = store.counts(connection, [row["reconciliation_id"] for row in rows])
    return [_view(row, counts[row["reconciliation_id"]]) for row in rows]


def _view(row: RowMapping, numbers: Mapping[tuple[str, str], int]) -> api_schema.Reconciliation:
    progress = Progress.of(row["progress"])
    counts = progress.counts
    by_state: Counter[str] = Counter(dict.fromkeys(State, 0))
    by_kind: Counter[str] = Counter(dict.fromkeys(Kind, 0))
    for (kind, state), number in numbers.items():
        by_state[state] += number
        by_kind[kind] += number
    totals: list[api_schema.ReconciliationTotal] = [
        {"currency": currency, "ledger_minor": both[0], "processor_minor": both[1]}
        for currency, both in sorted(counts.totals.items())
    ]
    return {
        "id": row["reconciliation_id"],
        "processor_account": row["processor"],
        "since": iso(row["since"]),
        "until": iso(row["until"]) if row["until"] is not None else None,
        "status": row["status"],
        "progress": {
            "phase": progress.phase.value,
            "percent": percent_of(row, progress),
            "objects": counts.objects,
            "pieces": counts.pieces,
            "asked": counts.asked,
        },
        "problem": row["problem"],
        "agrees": by_state[State.OPEN] == 0 if row["ended_at"] is not None else None,
        "compared": counts.compared,
        "in_flight": counts.in_flight,
        "foreign": counts.foreign,
        "other_installations": counts.other_installations,
        "resolved": counts.resolved,
        "totals": totals,
        "differences": cast(api_schema.DifferencesByState, {str(state): by_state[state] for state in State}),
        "by_kind": {str(kind): by_kind[kind] for kind in Kind},
        "actor": row["actor"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
        "ended_at": iso(row["ended_at"]) if row["ended_at"] is not None else None,
    }


def percent_of(row: RowMapping, progress: Progress) -> int:
    """Return how much is done: of the time whose refunds are listed, up to 95; the other parts are quick."""
    if progress.is_done:
        return 100
    if progress.phase is not Phase.REFUNDS:
        return 95
    if progress.low is None:
        return 0
    until = row["until"] if row["until"] is not None else row["created_at"]
    share = (until - progress.low) / max(until - row["since"], 1.0)
    return max(0, min(95, int(95 * share)))
