"""Refunds: request, show, list and preview."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Event, Page, Preview, Refund, Wait
from refund_worker.engine.intake.schemas import RefundSchema
from refund_worker.engine.processor_sync.refund_waits import wait_view, waits_of
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.views import api_objects
from refund_worker.web.api.headers import IdempotencyKey, PathId, etag
from refund_worker.web.api.queries import RefundQuery
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import request_refund
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import HEADER_KEY, LIMIT_HEADERS, document
from refund_worker.web.rate_limit import policy_headers, quota_headers
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import PreviewBody

router = APIRouter(tags=["refunds"])

REFUND_EXAMPLE = {
    "kind": "credit_refund",
    "to": "balance",
    "customer_id": "cust-1",
    "transaction_id": "tx-1",
    "credits": 20,
    "reason": "the chat broke off",
}
_CREATE = document(
    {202: Refund, 200: Refund},
    (400, 429),
    body=RefundSchema,
    example=REFUND_EXAMPLE,
    parameters=(HEADER_KEY,),
    headers={
        202: ("ETag", "Location", *LIMIT_HEADERS),
        200: ("ETag", "Idempotent-Replayed", "Location", "RateLimit-Policy"),
    },
)
_PREVIEW = document({200: Preview}, body=PreviewBody, example=REFUND_EXAMPLE)
_SHOW = document({200: Refund}, (404,), headers={200: ("ETag",)})
_EVENTS = document({200: Page[Event]}, (404,))
_WAITS = document({200: Page[Wait]}, (404,))
_LIST = document({200: Page[Refund]}, (422,))


@router.post("/v1/refunds", status_code=202, responses=_CREATE.responses, openapi_extra=_CREATE.extra)
def create_refund(
    context: TheContext,
    caller: Caller,
    key: IdempotencyKey,
    body: Annotated[RefundSchema, Depends(json_body(RefundSchema))],
) -> JSONResponse:
    """Accept a refund and reserve everything it takes; the workers do the rest."""
    answer = request_refund(context, caller, body, idempotency_key=key)
    with context.database.read() as connection:
        refund = api_objects.find_refund(connection, answer.refund_id)
    headers = {"Location": f"/v1/refunds/{refund.refund_id}"} | etag(refund.version)
    if answer.replayed:
        headers |= {"Idempotent-Replayed": "true"} | policy_headers(context.limits)
    else:
        headers |= quota_headers(answer.quotas)
    return JSONResponse(api_objects.refund_view(refund), 200 if answer.replayed else 202, headers=headers)


@router.post("/v1/refunds/preview", responses=_PREVIEW.responses, openapi_extra=_PREVIEW.extra)
def preview_refund(
    context: TheContext, caller: Caller, body: Annotated[PreviewBody, Depends(json_body(PreviewBody))]
) -> JSONResponse:
    """Show what the request would do now; nothing is stored."""
    request = body.request(idempotency_key="preview", client=caller.client, actor=caller.actor)
    return JSONResponse(preview(context, request))


@router.get("/v1/refunds", responses=_LIST.responses, openapi_extra=_LIST.extra)
def list_refunds(context: TheContext, caller: Caller, query: Annotated[RefundQuery, Query()]) -> JSONResponse:
    """List refunds, newest first."""
    with context.database.read() as connection:
        return JSONResponse(api_objects.list_refunds(connection, query.filters(caller.sees)))


@router.get("/v1/refunds/{refund_id}", responses=_SHOW.responses, openapi_extra=_SHOW.extra)
def show_refund(context: TheContext, caller: Caller, refund_id: PathId) -> JSONResponse:
    """Show one refund; its ETag is the version, for If-Match."""
    with context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id, client=caller.sees)
    return JSONResponse(api_objects.refund_view(refund), headers=etag(refund.version))


@router.get("/v1/refunds/{refund_id}/events", responses=_EVENTS.responses, openapi_extra=_EVENTS.extra)
def show_events(context: TheContext, caller: Caller, refund_id: PathId) -> JSONResponse:
    """Show the timeline, oldest first."""
    with context.database.read() as connection:
        api_objects.find_refund(connection, refund_id, client=caller.sees)
        return JSONResponse({"data": api_objects.timeline(connection, refund_id), "has_more": False})


@router.get("/v1/refunds/{refund_id}/waits", responses=_WAITS.responses, openapi_extra=_WAITS.extra)
def show_waits(context: TheContext, caller: Caller, refund_id: PathId) -> JSONResponse:
    """Show why the refund waits now; the list is empty at its end."""
    with context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id, client=caller.sees)
        found = [wait_view(wait) for wait in waits_of(connection, context, refund)]
    return JSONResponse({"data": found, "has_more": False})
