"""Reconciliations: begin one, read its progress and its differences, and decide about each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from refund_worker import api_schema
from refund_worker.engine.context import Context
from refund_worker.engine.intake.schemas import AccountName
from refund_worker.engine.processor_sync.reconciliation import views
from refund_worker.engine.processor_sync.reconciliation.kinds import Kind, State
from refund_worker.web import authorised
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.queries import LIMIT_DEFAULT, LIMIT_MAX, Limit, Page, digits
from refund_worker.web.auth import Caller
from refund_worker.web.csv_answers import CSV, attachment, wants_csv
from refund_worker.web.dependencies import TheAppState, TheContext
from refund_worker.web.openapi import AT, document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody, ReconciliationBody

router = APIRouter(tags=["reconciliation"])
NAMED = "stripe"

_START = document(
    {202: api_schema.Reconciliation},
    body=ReconciliationBody,
    example={"processor_account": NAMED, "since": AT},
    headers={202: ("Location",)},
)
_SHOW = document({200: api_schema.Reconciliation}, (404,))
_LIST = document({200: api_schema.Page[api_schema.Reconciliation]}, (422,))
_DIFFERENCES = document({200: api_schema.Page[api_schema.ReconciliationDifference]}, (404, 422), csv=True)
_DECIDE = document(
    {200: api_schema.ReconciliationDifference},
    (404, 409),
    body=ActionBody,
    example={"reason": "checked in the dashboard"},
)

Reason = Annotated[ActionBody, Depends(json_body(ActionBody, may_be_empty=True))]
_Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
Number = Annotated[_Number, BeforeValidator(digits, json_schema_input_type=_Number)]
PathNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]


class ReconciliationQuery(Page):
    """Filter of the list of reconciliations."""

    processor_account: AccountName | None = None


class DifferenceQuery(BaseModel):
    """Filter of the list of differences; `starting_after` is the number of the last one already seen."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    kind: Kind | None = None
    state: State | None = None
    limit: Limit = LIMIT_DEFAULT
    starting_after: Number = 0
    format: Literal["json", "csv"] | None = None


@router.post("/v1/reconciliations", status_code=202, responses=_START.responses, openapi_extra=_START.extra)
def start_reconciliation(
    context: TheContext, caller: Caller, body: Annotated[ReconciliationBody, Depends(json_body(ReconciliationBody))]
) -> JSONResponse:
    """Compare our books with a processor's. The scheduler does it piece by piece; the answer comes at once."""
    started = authorised.start_reconciliation(
        context, caller, body.processor_account, since=body.since, until=body.until
    )
    return JSONResponse(_view(context, started), 202, headers={"Location": f"/v1/reconciliations/{started}"})


@router.get("/v1/reconciliations", responses=_LIST.responses, openapi_extra=_LIST.extra)
def list_reconciliations(context: TheContext, query: Annotated[ReconciliationQuery, Query()]) -> JSONResponse:
    """List reconciliations, newest first."""
    with context.database.read() as connection:
        return JSONResponse(
            views.list_reconciliations(
                connection, limit=query.limit, after=query.starting_after, processor=query.processor_account
            )
        )


@router.get("/v1/reconciliations/{reconciliation_id}", responses=_SHOW.responses, openapi_extra=_SHOW.extra)
def show_reconciliation(context: TheContext, reconciliation_id: PathId) -> JSONResponse:
    """Show how far a reconciliation is, and what it has found."""
    return JSONResponse(_view(context, reconciliation_id))


@router.get(
    "/v1/reconciliations/{reconciliation_id}/differences",
    responses=_DIFFERENCES.responses,
    openapi_extra=_DIFFERENCES.extra,
)
def list_differences(
    request: Request,
    context: TheContext,
    caller: Caller,
    reconciliation_id: PathId,
    query: Annotated[DifferenceQuery, Query()],
) -> Response:
    """List the differences by their number. A client's key sees those of its own refunds.

    As CSV (`Accept: text/csv` or `format=csv`) the answer has all of them, after `starting_after`.
    """
    wanted = {"kind": query.kind, "state": query.state, "client": caller.sees}
    if wants_csv(request, query.format):
        return csv_file(context, reconciliation_id, wanted, after=query.starting_after)
    with context.database.read() as connection:
        return JSONResponse(
            views.list_differences(
                connection, reconciliation_id, limit=query.limit, after=query.starting_after, **wanted
            )
        )


@router.post(
    "/v1/reconciliations/{reconciliation_id}/differences/{n}/apply",
    responses=_DECIDE.responses,
    openapi_extra=_DECIDE.extra,
)
def apply_difference(
    state: TheAppState, caller: Caller, reconciliation_id: PathId, n: PathNumber, body: Reason
) -> JSONResponse:
    """Apply the one action of a difference. The processor is asked again first; what has vanished changes nothing."""
    row = authorised.apply_difference(
        state.context,
        caller,
        reconciliation_id,
        n,
        reason=body.reason,
        access=state.access,
    )
    return JSONResponse(views.difference_view(row))


@router.post(
    "/v1/reconciliations/{reconciliation_id}/differences/{n}/acknowledge",
    responses=_DECIDE.responses,
    openapi_extra=_DECIDE.extra,
)
def acknowledge_difference(
    context: TheContext, caller: Caller, reconciliation_id: PathId, n: PathNumber, body: Reason
) -> JSONResponse:
    """Acknowledge a difference: nothing is changed, and later reconciliations show it as acknowledged."""
    row = authorised.acknowledge_difference(context, caller, reconciliation_id, n, reason=body.reason)
    return JSONResponse(views.difference_view(row))


def csv_file(context: Context, reconciliation_id: str, wanted: dict[str, Any], *, after: int = 0) -> Response:
    """Return all differences that are wanted as a CSV file, read page by page. Raises `NotFound`."""

    def page(number: int) -> api_schema.Page[api_schema.ReconciliationDifference]:
        with context.database.read() as connection:
            return views.list_differences(connection, reconciliation_id, limit=LIMIT_MAX, after=number, **wanted)

    first = page(after)

    def rows() -> Iterator[str]:
        yield _line(views.HEADER)
        found = first
        while True:
            yield "".join(_line(views.csv_row(each)) for each in found["data"])
            if not found["has_more"]:
                return
            found = page(found["data"][-1]["n"])

    return StreamingResponse(rows(), media_type=CSV, headers=attachment(reconciliation_id))


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _view(context: Context, reconciliation_id: str) -> api_schema.Reconciliation:
    with context.database.read() as connection:
        return views.reconciliation_view(connection, reconciliation_id)
