"""Runs: the list, the form that makes one, and one run with its plan, its payees, its progress and its actions."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.api_schema import Event
from refund_worker.domain.payouts.runs import RUN_ENDS, RunStatus
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.intake.payout_run_schemas import PayoutRunSchema
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.payouts.runs import CREATED
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.payout_runs import find_run, row_page, rows_csv, run_events, run_page
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.web.authorised import approve_payout_run, cancel_payout_run, create_payout_run
from refund_worker.web.console.forms import Why, key_of, minor_units, required_text, whole
from refund_worker.web.console.pages import HEADERS, Page, ThePage
from refund_worker.web.console.query import SearchText
from refund_worker.web.console.refund_forms import form_id
from refund_worker.web.console.timeline import event_views
from refund_worker.web.csv_answers import csv_answer

router = APIRouter()
PAGE = 50


@router.get("/payout-runs")
def list_runs(page: ThePage, starting_after: SearchText | None = None) -> HTMLResponse:
    """List the runs of all clients and of the schedule, newest first, with the form that makes one."""
    return _list(page, starting_after)


@router.post("/payout-runs", response_model=None)
def make_run(page: ThePage) -> Response:
    """Make a run, which the scheduler plans; the same form sent twice makes one run."""
    form = page.form
    try:
        currency = form.get("currency", "").strip().upper()
        least = form.get("minimum", "").strip()
        fields = {
            "processor_account": form.get("processor_account", ""),
            "currency": currency,
            "minimum_minor": minor_units(form, "minimum", "Minimum", currency) if least else 0,
            "dry_run": form.get("dry_run") == "on",
        }
        body = parse_schema(PayoutRunSchema, fields)
        run, _ = create_payout_run(page.context, page.identity, body, idempotency_key=key_of(form))
    except RefundWorkerError as error:
        return _list(page, None, error)
    return page.redirect(f"/payout-runs/{run.run_id}", done="run_made")


def _list(page: Page, after: str | None, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        found = run_page(connection, client=page.identity.sees, limit=PAGE, after=after)
    values: Json = {
        "rows": found["data"],
        "more": found["data"][-1]["run_id"] if found["has_more"] else None,
        "accounts": [name for name, account in page.context.accounts.items() if account.entry.payouts],
        "typed": page.form,
        "request_id": form_id(page.form, error),
    }
    return page.render("payout_runs.html", error.status if error else 200, error=error, **values)


@router.get("/payout-runs/{run_id}")
def one_run(page: ThePage, run_id: str, show: SearchText = "", after: SearchText | None = None) -> HTMLResponse:
    """Show a run with its payees: all, those with an amount, or those that are skipped."""
    return _run_page(page, run_id, show=show, after=after)


@router.get("/payout-runs/{run_id}/rows.csv")
def rows_as_csv(page: ThePage, run_id: str) -> Response:
    """Return all payees of the run as CSV, as the API does. Raises `NotFound`."""
    with page.context.database.read() as connection:
        text = rows_csv(connection, run_id, client=page.identity.sees)
    return csv_answer(text, run_id, HEADERS)


SHOWN: Mapping[str, bool | None] = {"": None, "planned": False, "skipped": True}


def _run_page(
    page: Page, run_id: str, error: RefundWorkerError | None = None, *, show: str = "", after: str | None = None
) -> HTMLResponse:
    if show not in SHOWN:
        raise InvalidRequest("choose one of the lists shown", field="show")
    sees = page.identity.sees
    with page.context.database.read() as connection:
        run = find_run(connection, run_id, client=sees)
        found = row_page(connection, run_id, client=sees, limit=PAGE, after=after, skipped=SHOWN[show])
        barred = why_not_approve(connection, page.identity.actor, [run["actor"]]).get(run["actor"])
        events = event_views([_without_plan(event) for event in run_events(connection, run_id, client=sees)], None)
    waits = run["status"] == RunStatus.AWAITING_APPROVAL.value
    values: Json = {
        "run": run,
        "rows": found["data"],
        "more": found["data"][-1]["payee_id"] if found["has_more"] else None,
        "show": show,
        "shown": SHOWN,
        "timeline": events,
        "waits": waits,
        "may_cancel": run["status"] not in [status.value for status in RUN_ENDS],
        "why_not_approve": barred if waits and page.may("POST", "/payout-runs/{run_id}/approve") else None,
        "done_share": run["paid_payees"] / run["planned_payees"] if run["planned_payees"] else 0,
        "typed": page.form,
    }
    return page.render("payout_run.html", error.status if error else 200, error=error, **values)


@router.post("/payout-runs/{run_id}/approve", response_model=None)
def approve(page: ThePage, run_id: str) -> Response:
    """Let the run pay, as a second person."""
    return _decide(page, run_id, approves=True)


@router.post("/payout-runs/{run_id}/cancel", response_model=None)
def cancel(page: ThePage, run_id: str) -> Response:
    """Cancel the run: the payouts that it made stay."""
    return _decide(page, run_id, approves=False)


def _decide(page: Page, run_id: str, *, approves: bool) -> Response:
    act = approve_payout_run if approves else cancel_payout_run
    try:
        reason = parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason
        act(page.context, page.identity, run_id, reason=reason, version=whole(page.form, "version", "Version"))
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _run_page(page, run_id, error)
    return page.redirect(f"/payout-runs/{run_id}", done="run_approved" if approves else "run_canceled")


def _without_plan(event: Event) -> Event:
    """Return the event without the planned amount if it was noted before the run was planned."""
    if event["what"] != CREATED:
        return event
    return {**event, "detail": {name: value for name, value in event["detail"].items() if name != "planned_minor"}}
