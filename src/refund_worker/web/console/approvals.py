"""Approvals: refunds that wait for a second person."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.views import api_objects
from refund_worker.store import refunds
from refund_worker.web.console.pages import ThePage

router = APIRouter()
LATEST = 100


@router.get("/approvals")
def approvals(page: ThePage) -> HTMLResponse:
    """Show the refunds that wait for a second person."""
    wanted = refunds.Filters(statuses=(RefundStatus.AWAITING_APPROVAL,), limit=LATEST)
    with page.context.database.read() as connection:
        found = api_objects.list_refunds(connection, wanted)
        why_not = why_not_approve(connection, page.identity.actor, {refund["actor"] for refund in found["data"]})
    return page.render("approvals.html", found=found, why_not=why_not)
