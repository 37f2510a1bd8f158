"""Reconciliation: begin one, follow its progress, and decide about each difference."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.engine.intake.schemas import parse_day, parse_schema
from refund_worker.engine.processor_sync.reconciliation import views
from refund_worker.engine.processor_sync.reconciliation.kinds import Kind, State
from refund_worker.engine.views.api_objects import Json
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.web import authorised
from refund_worker.web.console.downloads import ROWS_AT_ONCE, Rows, download
from refund_worker.web.console.forms import Why, required_text, whole
from refund_worker.web.console.pages import Page, RowNumber, ThePage
from refund_worker.web.console.query import ShortText

router = APIRouter()
LATEST, PAGE = 20, 50


@router.get("/reconciliations")
def list_reconciliations(page: ThePage, starting_after: ShortText | None = None) -> HTMLResponse:
    """List the reconciliations, newest first, with the form that begins one."""
    return _list(page, starting_after or None)


def _list(page: Page, after: str | None = None, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        found = views.list_reconciliations(connection, limit=LATEST, after=after)
    values: Json = {"rows": found["data"], "more": found["data"][-1]["id"] if found["has_more"] else None}
    accounts = page.context.accounts
    values |= {"accounts": accounts.with_lists(), "without_list": accounts.without_lists(), "typed": page.form}
    return page.render("reconciliations.html", error.status if error else 200, error=error, **values)


@router.post("/reconciliations", response_model=None)
def start(page: ThePage) -> Response:
    """Begin a comparison with a processor's records; the scheduler runs it."""
    form = page.form
    try:
        since, until = (_day(form.get(name, ""), name) for name in ("since", "until"))
        end = None if until is None else until + 86_400
        account = form.get("processor_account", "")
        started = authorised.start_reconciliation(page.context, page.identity, account, since=since, until=end)
    except RefundWorkerError as error:
        return _list(page, error=error)
    return page.redirect(f"/reconciliations/{started}", done="reconciling")


def _day(text: str, name: str) -> float | None:
    return parse_day(text.strip(), name) if text.strip() else None


@router.get("/reconciliations/{reconciliation_id}")
def show(
    page: ThePage, reconciliation_id: str, kind: ShortText = "", state: ShortText = "", after: RowNumber = 0
) -> HTMLResponse:
    """Show a reconciliation: its progress, its result, and its differences, each with its one action."""
    return _one(page, reconciliation_id, kind, state, after)


def _one(
    page: Page,
    reconciliation_id: str,
    kind: str = "",
    state: str = "",
    after: int = 0,
    error: RefundWorkerError | None = None,
) -> HTMLResponse:
    wanted = {"kind": kind if kind in list(Kind) else None, "state": state if state in list(State) else None}
    with page.context.database.read() as connection:
        view = views.reconciliation_view(connection, reconciliation_id)
        found = views.list_differences(connection, reconciliation_id, limit=PAGE, after=after, **wanted)
    values: Json = {
        "one": view,
        "rows": found["data"],
        "more": found["data"][-1]["n"] if found["has_more"] else None,
        "first": after <= 0,
        "kind": wanted["kind"] or "",
        "state": wanted["state"] or "",
        "typed": page.form,
    }
    return page.render("reconciliation.html", error.status if error else 200, error=error, **values)


@router.get("/reconciliations/{reconciliation_id}/differences.csv", response_model=None)
def as_csv(page: ThePage, reconciliation_id: str, kind: ShortText = "", state: ShortText = "") -> Response:
    """Return the differences as a CSV file."""
    wanted = {"kind": kind if kind in list(Kind) else None, "state": state if state in list(State) else None}
    with page.context.database.read() as connection:
        views.reconciliation_view(connection, reconciliation_id)

    def blocks() -> Iterator[Rows]:
        after = 0
        while True:
            with page.context.database.read() as connection:
                found = views.list_differences(connection, reconciliation_id, limit=ROWS_AT_ONCE, after=after, **wanted)
            yield [views.csv_row(each) for each in found["data"]]
            if not found["has_more"]:
                return
            after = found["data"][-1]["n"]

    return download(page, f"{reconciliation_id}.csv", views.HEADER, blocks())


@router.post("/reconciliations/{reconciliation_id}/apply", response_model=None)
def apply(page: ThePage, reconciliation_id: str) -> Response:
    """Apply the one action of a difference; the processor is asked again first."""
    return _decide(page, reconciliation_id, applies=True)


@router.post("/reconciliations/{reconciliation_id}/acknowledge", response_model=None)
def acknowledge(page: ThePage, reconciliation_id: str) -> Response:
    """Acknowledge a difference without changing anything else."""
    return _decide(page, reconciliation_id, applies=False)


def _decide(page: Page, reconciliation_id: str, *, applies: bool) -> Response:
    form = page.form
    try:
        n = whole(form, "n", "Difference")
        if not 0 < n < 2**31:
            raise InvalidRequest("there is no such difference", field="n")
        reason = parse_schema(Why, {"reason": required_text(form, "reason", "Reason")}).reason
        place = (page.context, page.identity, reconciliation_id, n)
        if applies:
            row = authorised.apply_difference(*place, reason=reason, access=page.access)
        else:
            row = authorised.acknowledge_difference(*place, reason=reason)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _one(page, reconciliation_id, error=error)
    return page.redirect(f"/reconciliations/{reconciliation_id}", done=f"difference_{row['state']}", state="open")
