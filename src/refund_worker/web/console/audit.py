"""Audit: the state of the hash chain, and who did what."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from refund_worker.engine.audit import log
from refund_worker.engine.audit.row_snapshots import LINKS
from refund_worker.errors import InvalidRequest
from refund_worker.store.snapshots import COVERED
from refund_worker.web.authorised import verify_audit
from refund_worker.web.console.pages import RowNumber, ThePage
from refund_worker.web.console.query import SearchText

router = APIRouter()
PAGE = 50
# The button verifies this many seals, of at most 500 rows each, while a person waits. Verifying all is a scheduled job.
LATEST_SEALS = 20

Json = dict[str, Any]


@router.get("/audit")
def show_audit(
    page: ThePage,
    of: SearchText = "timeline",
    refund_id: SearchText = "",
    customer_id: SearchText = "",
    actor: SearchText = "",
    kind: SearchText = "",
    alarm: bool = False,
    before: RowNumber | None = None,
) -> HTMLResponse:
    """Show the state of the chain, and the entries that match the filter in the address."""
    chosen: Json = {"of": of, "refund_id": refund_id.strip(), "customer_id": customer_id.strip()}
    chosen |= {"actor": actor.strip(), "kind": kind.strip(), "alarm": alarm}
    error = None
    found: Json = {"data": [], "has_more": False, "looked_back_to": 0}
    with page.context.database.read() as connection:
        chain = log.status(connection)
        try:
            found = log.entries(connection, before=before, limit=PAGE, **chosen)
        except InvalidRequest as wrong:
            error = wrong
    values: Json = {"chain": chain, "found": found, "chosen": chosen, "latest_seals": LATEST_SEALS}
    # A finding in these tables names the row itself; its number is the number of a snapshot.
    values["covered"] = {*COVERED, LINKS}
    return page.render("audit.html", 422 if error else 200, error=error, **values)


@router.post("/audit/verify")
def verify_latest(page: ThePage) -> RedirectResponse:
    """Verify the latest rows against their seals; record and show the result."""
    report = verify_audit(page.context, page.identity, latest=LATEST_SEALS)
    return page.redirect("/audit", done="verified" if report.whole else "differs")
