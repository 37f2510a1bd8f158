"""Payouts of earnings: request, preview, show, list and ask the processor."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Event, Page, Payout, PayoutPreview
from refund_worker.engine.access.permissions import sees_compliance_causes
from refund_worker.engine.intake.payee_schemas import PayoutPreviewSchema, PayoutSchema
from refund_worker.engine.payouts.preview import preview_payout
from refund_worker.engine.views import payout_objects
from refund_worker.web.api.headers import IdempotencyKey, PathId, etag
from refund_worker.web.api.queries import PayoutQuery
from refund_worker.web.api.sync import Nothing
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import request_payout, sync_payout
from refund_worker.web.dependencies import TheAppState, TheContext
from refund_worker.web.openapi import HEADER_KEY, LIMIT_HEADERS, document
from refund_worker.web.rate_limit import policy_headers, quota_headers
from refund_worker.web.request_body import json_body

router = APIRouter(tags=["payouts"])

_EXAMPLE = {"payee_id": "performer-1", "amount_minor": 5000, "currency": "EUR", "description": "October"}
_CREATE = document(
    {202: Payout, 200: Payout},
    (400, 429),
    body=PayoutSchema,
    example=_EXAMPLE,
    parameters=(HEADER_KEY,),
    headers={
        202: ("ETag", "Location", *LIMIT_HEADERS),
        200: ("ETag", "Idempotent-Replayed", "Location", "RateLimit-Policy"),
    },
)
_PREVIEW = document({200: PayoutPreview}, body=PayoutPreviewSchema, example={"payee_id": "performer-1"})
_SHOW = document({200: Payout}, (404,), headers={200: ("ETag",)})
_EVENTS = document({200: Page[Event]}, (404,))
_LIST = document({200: Page[Payout]}, (422,))
_SYNC = document({200: Payout}, (404, 409, 503), headers={200: ("ETag",)})


@router.post("/v1/payouts", status_code=202, responses=_CREATE.responses, openapi_extra=_CREATE.extra)
def create_payout(
    context: TheContext,
    caller: Caller,
    key: IdempotencyKey,
    body: Annotated[PayoutSchema, Depends(json_body(PayoutSchema))],
) -> JSONResponse:
    """Accept a payout and reserve its amount on the payee's balance; the workers do the rest."""
    answer = request_payout(context, caller, body, idempotency_key=key)
    with context.database.read() as connection:
        payout = payout_objects.find_payout(connection, answer.payout_id)
        shown = payout_objects.show_payout(connection, payout)
    headers = {"Location": f"/v1/payouts/{payout.payout_id}"} | etag(payout.version)
    if answer.replayed:
        headers |= {"Idempotent-Replayed": "true"} | policy_headers(context.limits)
    else:
        headers |= quota_headers(answer.quotas)
    return JSONResponse(shown, 200 if answer.replayed else 202, headers=headers)


@router.post("/v1/payouts/preview", responses=_PREVIEW.responses, openapi_extra=_PREVIEW.extra)
def preview(
    context: TheContext, caller: Caller, body: Annotated[PayoutPreviewSchema, Depends(json_body(PayoutPreviewSchema))]
) -> JSONResponse:
    """Show what can be paid out to a payee, and what the request would do now; nothing is stored."""
    return JSONResponse(preview_payout(context, body.request(client=caller.client, actor=caller.actor)))


@router.get("/v1/payouts", responses=_LIST.responses, openapi_extra=_LIST.extra)
def list_payouts(context: TheContext, caller: Caller, query: Annotated[PayoutQuery, Query()]) -> JSONResponse:
    """List payouts, newest first."""
    with context.database.read() as connection:
        return JSONResponse(payout_objects.list_payouts(connection, query.filters(caller.sees)))


@router.get("/v1/payouts/{payout_id}", responses=_SHOW.responses, openapi_extra=_SHOW.extra)
def show_payout(context: TheContext, caller: Caller, payout_id: PathId) -> JSONResponse:
    """Show one payout; its ETag is the version, for If-Match."""
    with context.database.read() as connection:
        payout = payout_objects.find_payout(connection, payout_id, client=caller.sees)
        shown = payout_objects.show_payout(connection, payout)
    return JSONResponse(shown, headers=etag(payout.version))


@router.get("/v1/payouts/{payout_id}/events", responses=_EVENTS.responses, openapi_extra=_EVENTS.extra)
def show_events(context: TheContext, caller: Caller, payout_id: PathId) -> JSONResponse:
    """Show the timeline of a payout, oldest first."""
    with context.database.read() as connection:
        payout = payout_objects.find_payout(connection, payout_id, client=caller.sees)
        whole = sees_compliance_causes(caller.role)
        events = payout_objects.payout_timeline(connection, payout, whole=whole)
    return JSONResponse({"data": events, "has_more": False})


@router.post("/v1/payouts/{payout_id}/sync", responses=_SYNC.responses, openapi_extra=_SYNC.extra)
def sync(state: TheAppState, caller: Caller, payout_id: PathId, nothing: Nothing) -> JSONResponse:
    """Ask the processor now, in every status, and answer with the payout as it is then."""
    payout = sync_payout(state.context, caller, payout_id, access=state.access)
    with state.context.database.read() as connection:
        shown = payout_objects.show_payout(connection, payout)
    return JSONResponse(shown, headers=etag(payout.version))
