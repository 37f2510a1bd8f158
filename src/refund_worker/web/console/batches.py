"""Batches: the requests of one call, their progress, and the refused rows."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from refund_worker.domain.refund import FINAL
from refund_worker.engine.intake.batches import batch_view, status_of
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.funds import funds_view, shortfalls
from refund_worker.store import batches, refunds
from refund_worker.web.console.pages import RowNumber, ThePage
from refund_worker.web.console.query import ShortText

router = APIRouter()
PAGE, REJECTS = 50, 200

Json = dict[str, Any]


@router.get("/batches")
def list_batches(page: ThePage, starting_after: ShortText | None = None) -> HTMLResponse:
    """List the batches, newest first."""
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        found = batches.latest_batches(connection, limit=PAGE + 1, client=page.identity.sees, after=starting_after)
        rows = [dict(row) | {"status": status_of(row, now)} for row in found]
    more = rows[PAGE - 1]["batch_id"] if len(rows) > PAGE else None
    return page.render("batches.html", rows=rows[:PAGE], more=more)


@router.get("/batches/{batch_id}")
def one_batch(page: ThePage, batch_id: str, status: ShortText = "", after: RowNumber = -1) -> HTMLResponse:
    """Show a batch: its progress, its refunds (of one status if the address names one), and its refused rows."""
    with page.context.database.read() as connection:
        batch = batch_view(
            connection,
            batch_id,
            now=page.context.clock(connection),
            client=page.identity.sees,
            rejects=REJECTS,
        )
        rejected = batches.count_rejected(connection, batch_id)
        rows = batches.refunds_of(connection, batch_id, status=status or None, limit=PAGE + 1, after=after)
        ids = [refund_id for refund_id, _ in rows[:PAGE]]
        found = {refund.refund_id: api_objects.refund_view(refund) for refund in refunds.load(connection, ids)}
        short = shortfalls(funds_view(connection, page.context))
    counts = batch["refunds_by_status"]
    values: Json = {
        "batch": batch,
        "rejected": rejected,
        "refunds": [found[each] for each in ids],
        "more": rows[PAGE - 1][1] if len(rows) > PAGE else None,
        "first": after < 0,
        "chosen": status,
        "total": sum(counts.values()),
        "finished": sum(count for status, count in counts.items() if status in FINAL),
    }
    values["short"] = short if values["finished"] < values["total"] else []
    return page.render("batch.html", **values)
