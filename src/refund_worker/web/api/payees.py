"""Payees: their destinations, their sums and their statements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from refund_worker.api_schema import Event, Page, Payee, PayeeStatement, WholeDestination
from refund_worker.engine.context import Context
from refund_worker.engine.intake.payee_schemas import PayeeChangeSchema, PayeeSchema
from refund_worker.engine.sums.statement import month_bounds
from refund_worker.engine.views.api_objects import event_view
from refund_worker.engine.views.payee_objects import find_payee, payee_page
from refund_worker.engine.views.payee_statement import payee_statement, statement_csv
from refund_worker.store import timeline
from refund_worker.web import authorised
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.queries import PayeeQuery, PayeeStatementQuery
from refund_worker.web.auth import Caller
from refund_worker.web.csv_answers import csv_answer, wants_csv
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody

router = APIRouter(tags=["payees"])

_CHANGE = {
    "processor_account": "paypal",
    "destination": {"kind": "paypal", "email": "maria@example.com"},
    "currency": "EUR",
    "country": "DE",
}
_NEW = document({201: Payee, 200: Payee}, (409,), body=PayeeSchema, example={"payee_id": "performer-1", **_CHANGE})
_CHANGED = document({200: Payee}, (404,), body=PayeeChangeSchema, example=_CHANGE)
_ONE = document({200: Payee}, (404,))
_LIST = document({200: Page[Payee]}, (422,))
_WHOLE = document({200: WholeDestination}, (404, 422))
_EVENTS = document({200: Page[Event]}, (404,))
_STATEMENT = document({200: PayeeStatement}, (404, 422), csv=True)
_SWITCH = document({200: Payee}, (404,), body=ActionBody, example={"reason": "asked by letter"})

Reason = Annotated[ActionBody, Depends(json_body(ActionBody, may_be_empty=True))]


def _one(context: Context, payee_id: str, status: int = 200) -> JSONResponse:
    with context.database.read() as connection:
        return JSONResponse(find_payee(connection, payee_id, context.clock(connection)), status)


@router.post("/v1/payees", status_code=201, responses=_NEW.responses, openapi_extra=_NEW.extra)
def record_payee(
    context: TheContext, caller: Caller, body: Annotated[PayeeSchema, Depends(json_body(PayeeSchema))]
) -> JSONResponse:
    """Record a person who is paid out. The same body again changes nothing."""
    payee, new = authorised.record_payee(context, caller, body.record())
    return _one(context, payee.payee_id, 201 if new else 200)


@router.put("/v1/payees/{payee_id}", responses=_CHANGED.responses, openapi_extra=_CHANGED.extra)
def change_payee(
    context: TheContext,
    caller: Caller,
    payee_id: PathId,
    body: Annotated[PayeeChangeSchema, Depends(json_body(PayeeChangeSchema))],
) -> JSONResponse:
    """Replace what is stored of a payee. A changed destination waits for its cool-down; unsent payouts are canceled."""
    payee = authorised.change_payee(context, caller, body.record_of(payee_id))
    return _one(context, payee.payee_id)


@router.get("/v1/payees", responses=_LIST.responses, openapi_extra=_LIST.extra)
def list_payees(context: TheContext, query: Annotated[PayeeQuery, Query()]) -> JSONResponse:
    """List payees by id, each with its sums: all, or those of one customer."""
    with context.database.read() as connection:
        now = context.clock(connection)
        found = payee_page(
            connection, now, limit=query.limit, after=query.starting_after, customer_id=query.customer_id
        )
    return JSONResponse(found)


@router.get("/v1/payees/{payee_id}", responses=_ONE.responses, openapi_extra=_ONE.extra)
def show_payee(context: TheContext, payee_id: PathId) -> JSONResponse:
    """Show a payee with its sums; the destination is masked."""
    return _one(context, payee_id)


@router.get("/v1/payees/{payee_id}/destination", responses=_WHOLE.responses, openapi_extra=_WHOLE.extra)
def show_destination(context: TheContext, caller: Caller, payee_id: PathId) -> JSONResponse:
    """Show the whole destination, to admins only. Each read is noted in the payee's timeline."""
    return JSONResponse(authorised.reveal_destination(context, caller, payee_id))


@router.get("/v1/payees/{payee_id}/events", responses=_EVENTS.responses, openapi_extra=_EVENTS.extra)
def list_payee_events(context: TheContext, payee_id: PathId) -> JSONResponse:
    """Show the timeline of a payee, oldest first."""
    with context.database.read() as connection:
        find_payee(connection, payee_id, context.clock(connection))
        events = [event_view(row) for row in timeline.events_about(connection, payee_id)]
    return JSONResponse({"data": events, "has_more": False})


@router.get("/v1/payees/{payee_id}/statement", responses=_STATEMENT.responses, openapi_extra=_STATEMENT.extra)
def show_payee_statement(
    context: TheContext, request: Request, payee_id: PathId, query: Annotated[PayeeStatementQuery, Query()]
) -> Response:
    """Show the statement of a month in UTC; as CSV with `Accept: text/csv` or `format=csv`."""
    begin, end = month_bounds(query.month)
    with context.database.read() as connection:
        found = payee_statement(connection, payee_id, query.month, begin, end)
    if wants_csv(request, query.format):
        return csv_answer(statement_csv(found), f"statement-{query.month}")
    return JSONResponse(found)


@router.post("/v1/payees/{payee_id}/pause", responses=_SWITCH.responses, openapi_extra=_SWITCH.extra)
def pause_payee(context: TheContext, caller: Caller, payee_id: PathId, body: Reason) -> JSONResponse:
    """Pause a payee: nothing is paid to it until it is resumed."""
    authorised.pause_payee(context, caller, payee_id, reason=body.reason)
    return _one(context, payee_id)


@router.post("/v1/payees/{payee_id}/resume", responses=_SWITCH.responses, openapi_extra=_SWITCH.extra)
def resume_payee(context: TheContext, caller: Caller, payee_id: PathId, body: Reason) -> JSONResponse:
    """Resume a payee."""
    authorised.resume_payee(context, caller, payee_id, reason=body.reason)
    return _one(context, payee_id)
