"""Audit: the state of the hash chain, and who did what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from refund_worker.engine.access.permissions import sees_compliance_causes
from refund_worker.engine.audit import log
from refund_worker.engine.audit.row_snapshots import LINKS
from refund_worker.engine.views import csv_rows
from refund_worker.errors import InvalidRequest
from refund_worker.store.snapshots import COVERED
from refund_worker.web.authorised import verify_audit
from refund_worker.web.console.downloads import ROWS_AT_ONCE, download
from refund_worker.web.console.pages import Page, RowNumber, ThePage
from refund_worker.web.console.query import SearchText

router = APIRouter()
PAGE = 50
# The button verifies this many seals, of at most 500 rows each, while a person waits. Verifying all is a scheduled job.
LATEST_SEALS = 20

Json = dict[str, Any]


async def _chosen(
    of: SearchText = "timeline",
    refund_id: SearchText = "",
    customer_id: SearchText = "",
    actor: SearchText = "",
    kind: SearchText = "",
    alarm: bool = False,
) -> Json:
    """Return the filter in the address."""
    chosen: Json = {"of": of, "refund_id": refund_id.strip(), "customer_id": customer_id.strip()}
    return chosen | {"actor": actor.strip(), "kind": kind.strip(), "alarm": alarm}


Chosen = Annotated[Json, Depends(_chosen)]


@router.get("/audit")
def show_audit(page: ThePage, chosen: Chosen, before: RowNumber | None = None) -> HTMLResponse:
    """Show the state of the chain, and the entries that match the filter in the address."""
    error = None
    found: Json = {"data": [], "has_more": False, "looked_back_to": 0}
    with page.context.database.read() as connection:
        chain = log.status(connection)
        try:
            found = log.entries(connection, before=before, limit=PAGE, whole=_whole(page), **chosen)
        except InvalidRequest as wrong:
            error = wrong
    values: Json = {"chain": chain, "found": found, "chosen": chosen, "latest_seals": LATEST_SEALS}
    # A finding in these tables names the row itself; its number is the number of a snapshot.
    values["covered"] = {*COVERED, LINKS}
    return page.render("audit.html", 422 if error else 200, error=error, **values)


@router.get("/audit.csv")
def audit_as_csv(page: ThePage, chosen: Chosen) -> Response:
    """Return all entries that match the filter as a CSV file, the newest first, in which no cell is a formula."""
    with page.context.database.read() as connection:
        log.entries(connection, limit=1, **chosen)  # a wrong filter is an error, not a short file
    return download(page, f"audit-{chosen['of']}.csv", csv_rows.AUDIT_HEADERS[chosen["of"]], _blocks(page, chosen))


def _whole(page: Page) -> bool:
    return sees_compliance_causes(page.identity.role)


def _blocks(page: Page, chosen: Json) -> Iterator[list[list[object]]]:
    before, more = None, True
    while more:
        with page.context.database.read() as connection:
            found = log.entries(connection, before=before, limit=ROWS_AT_ONCE, whole=_whole(page), **chosen)
        yield [csv_rows.audit_row(chosen["of"], entry) for entry in found["data"]]
        before, more = found["looked_back_to"], found["has_more"]


@router.post("/audit/verify")
def verify_latest(page: ThePage) -> RedirectResponse:
    """Verify the latest rows against their seals; record and show the result."""
    report = verify_audit(page.context, page.identity, latest=LATEST_SEALS)
    return page.redirect("/audit", done="verified" if report.whole else "differs")
