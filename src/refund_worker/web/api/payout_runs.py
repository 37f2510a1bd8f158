"""Payout runs: plan, show, approve and cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from refund_worker.api_schema import Event, Page, PayoutRun, PayoutRunRow
from refund_worker.engine.access.api_keys import Identity
from refund_worker.engine.context import Context
from refund_worker.engine.intake.payout_run_schemas import PayoutRunSchema
from refund_worker.engine.views.payout_runs import find_run, row_page, rows_csv, run_events, run_page
from refund_worker.web import authorised
from refund_worker.web.api.actions import Reason
from refund_worker.web.api.headers import IdempotencyKey, PathId, Version, etag
from refund_worker.web.api.queries import Page as PageQuery
from refund_worker.web.api.queries import PayoutRunRowQuery
from refund_worker.web.auth import Caller
from refund_worker.web.csv_answers import csv_answer, wants_csv
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import HEADER_KEY, HEADER_VERSION, document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody

router = APIRouter(tags=["payout-runs"])

_CREATE = document(
    {202: PayoutRun, 200: PayoutRun},
    (400,),
    body=PayoutRunSchema,
    example={"processor_account": "paypal", "currency": "EUR", "minimum_minor": 1000, "dry_run": True},
    parameters=(HEADER_KEY,),
    headers={202: ("ETag", "Location"), 200: ("ETag", "Idempotent-Replayed", "Location")},
)
_LIST = document({200: Page[PayoutRun]}, (422,))
_SHOW = document({200: PayoutRun}, (404,), headers={200: ("ETag",)})
_ROWS = document({200: Page[PayoutRunRow]}, (404, 422), csv=True)
_EVENTS = document({200: Page[Event]}, (404,))
_ACT = document(
    {200: PayoutRun},
    (404, 409, 412),
    body=ActionBody,
    example={"reason": "checked with accounting"},
    parameters=(HEADER_VERSION,),
    headers={200: ("ETag",)},
)


def _one(
    context: Context, caller: Identity, run_id: str, status: int = 200, headers: dict[str, str] | None = None
) -> JSONResponse:
    with context.database.read() as connection:
        shown = find_run(connection, run_id, client=caller.sees)
    return JSONResponse(shown, status, headers=(headers or {}) | etag(shown["version"]))


@router.post("/v1/payout-runs", status_code=202, responses=_CREATE.responses, openapi_extra=_CREATE.extra)
def create_payout_run(
    context: TheContext,
    caller: Caller,
    key: IdempotencyKey,
    body: Annotated[PayoutRunSchema, Depends(json_body(PayoutRunSchema))],
) -> JSONResponse:
    """Make a run over the payees of an account in one currency; the scheduler plans and pays it in pieces.

    A dry run ends with its plan. The same key again answers with the same run, and pays nothing more.
    """
    run, new = authorised.create_payout_run(context, caller, body, idempotency_key=key)
    headers = {"Location": f"/v1/payout-runs/{run.run_id}"} | ({} if new else {"Idempotent-Replayed": "true"})
    return _one(context, caller, run.run_id, 202 if new else 200, headers)


@router.get("/v1/payout-runs", responses=_LIST.responses, openapi_extra=_LIST.extra)
def list_payout_runs(context: TheContext, caller: Caller, query: Annotated[PageQuery, Query()]) -> JSONResponse:
    """List runs, newest first: those of the key's client, or of all clients and of the schedule."""
    with context.database.read() as connection:
        page = run_page(connection, client=caller.sees, limit=query.limit, after=query.starting_after)
    return JSONResponse(page)


@router.get("/v1/payout-runs/{run_id}", responses=_SHOW.responses, openapi_extra=_SHOW.extra)
def show_payout_run(context: TheContext, caller: Caller, run_id: PathId) -> JSONResponse:
    """Show a run and how far it is; its ETag is the version, for If-Match."""
    return _one(context, caller, run_id)


@router.get("/v1/payout-runs/{run_id}/rows", responses=_ROWS.responses, openapi_extra=_ROWS.extra)
def list_payout_run_rows(
    context: TheContext, caller: Caller, request: Request, run_id: PathId, query: Annotated[PayoutRunRowQuery, Query()]
) -> Response:
    """List the payees of a run by id: the amount of each, or why it is skipped; as CSV all of them."""
    with context.database.read() as connection:
        if wants_csv(request, query.format):
            text = rows_csv(connection, run_id, client=caller.sees, skipped=query.skipped, code=query.code)
            return csv_answer(text, run_id)
        page = row_page(
            connection,
            run_id,
            client=caller.sees,
            limit=query.limit,
            after=query.starting_after,
            skipped=query.skipped,
            code=query.code,
        )
    return JSONResponse(page)


@router.get("/v1/payout-runs/{run_id}/events", responses=_EVENTS.responses, openapi_extra=_EVENTS.extra)
def list_payout_run_events(context: TheContext, caller: Caller, run_id: PathId) -> JSONResponse:
    """Show the timeline of a run, oldest first."""
    with context.database.read() as connection:
        events = run_events(connection, run_id, client=caller.sees)
    return JSONResponse({"data": events, "has_more": False})


@router.post("/v1/payout-runs/{run_id}/approve", responses=_ACT.responses, openapi_extra=_ACT.extra)
def approve_payout_run(
    context: TheContext, caller: Caller, run_id: PathId, version: Version, body: Reason
) -> JSONResponse:
    """Let a run pay that awaits approval, as a person other than the one who made it."""
    authorised.approve_payout_run(context, caller, run_id, reason=body.reason, version=version)
    return _one(context, caller, run_id)


@router.post("/v1/payout-runs/{run_id}/cancel", responses=_ACT.responses, openapi_extra=_ACT.extra)
def cancel_payout_run(
    context: TheContext, caller: Caller, run_id: PathId, version: Version, body: Reason
) -> JSONResponse:
    """Cancel a run that has not ended: the payouts that it made stay, and it makes no more."""
    authorised.cancel_payout_run(context, caller, run_id, reason=body.reason, version=version)
    return _one(context, caller, run_id)
