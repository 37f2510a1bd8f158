"""Failures: refunds that stopped or failed, by cause, and the retry of all that stopped for one cause."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.domain.refund import FINAL
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.dead_letters import refused_requests
from refund_worker.engine.refunds import bulk_retry
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_groups import FAILED_AT_MOST, failures
from refund_worker.errors import RefundWorkerError
from refund_worker.store import refunds
from refund_worker.store.reporting import console_queries
from refund_worker.web import authorised
from refund_worker.web.console.forms import key_of, required_text, whole
from refund_worker.web.console.pages import Page, RowNumber, ThePage, new_request_id
from refund_worker.web.console.query import ShortText

router = APIRouter()
REFUSED = 20
# Enough for the events of one bulk retry, which lie between the two numbers in the address.
EVENTS_MAX = 20 * bulk_retry.PRESS_MAX


@router.get("/failures")
def show_failures(page: ThePage) -> HTMLResponse:
    """Show refunds that stopped or failed, by cause, and refused requests whose sender could not be answered."""
    with page.context.database.read() as connection:
        groups = failures(connection)
        refused = refused_requests(connection, REFUSED)
    # Causes that a person can act on come first; the sort is stable, so the most frequent stay first in each part.
    groups.sort(key=lambda group: not group["needs_attention"])
    return page.render("failures.html", groups=groups, refused=refused, failed_at_most=FAILED_AT_MOST)


@router.get("/failures/retry")
def ask_to_retry(page: ThePage, code: ShortText = "") -> HTMLResponse:
    """Show the refunds that would be retried, and the effect of the retry."""
    return _retry_page(page, code)


@router.post("/failures/retry", response_model=None)
def retry(page: ThePage) -> Response:
    """Retry exactly the refunds that the person saw, or none of them."""
    form = page.form
    code = form.get("code", "")
    try:
        retried = authorised.retry_all(
            page.context,
            page.identity,
            code or None,
            expected=whole(form, "expected", "Expected"),
            mark=form.get("mark", ""),
            reason=required_text(form, "reason", "Reason"),
            key=Key(page.identity.client, key_of(form)),
        )
    except RefundWorkerError as error:
        return _retry_page(page, code, error)
    first, last = retried.first_event, retried.last_event
    return page.redirect("/failures/watch", first=first, last=last, by=page.identity.actor)


def _retry_page(page: Page, code: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        stuck = bulk_retry.stuck_for(connection, code or None)
        shown = refunds.load(connection, stuck.ids[:20])
        group = next((g for g in failures(connection, failed_at_most=0) if g["failure_code"] == (code or None)), None)
    values: Json = {"code": code, "stuck": stuck, "shown": [api_objects.refund_view(r) for r in shown], "group": group}
    values |= {"request_id": new_request_id(), "reason": page.form.get("reason", "")}
    return page.render("retry.html", error.status if error else 200, error=error, **values)


@router.get("/failures/watch")
def watch(page: ThePage, first: RowNumber, last: RowNumber, by: ShortText) -> HTMLResponse:
    """Show the progress of the refunds that one bulk retry released."""
    with page.context.database.read() as connection:
        last = min(last, first + EVENTS_MAX)
        ids = console_queries.refunds_of_events(connection, first, last, actor=by, kind="retry_requested")
        counts = console_queries.statuses_of(connection, ids)
        found = [api_objects.refund_view(refund) for refund in refunds.load(connection, ids)]
    finished = sum(count for status, count in counts.items() if status in FINAL)
    return page.render("watch.html", counts=counts, refunds=found, finished=finished, by=by)
