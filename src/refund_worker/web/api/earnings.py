"""Earnings of payees."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Earning, Page
from refund_worker.engine.intake.payee_schemas import EarningSchema
from refund_worker.engine.views.payee_objects import earning_page, earning_view, find_earning
from refund_worker.web import authorised
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.queries import EarningQuery
from refund_worker.web.auth import Caller
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document
from refund_worker.web.request_body import json_body

router = APIRouter(tags=["payees"])

_EARNING = document(
    {201: Earning, 200: Earning},
    (409,),
    body=EarningSchema,
    example={
        "earning_id": "earn-1",
        "payee_id": "performer-1",
        "amount_minor": 600,
        "currency": "EUR",
        "transaction_id": "tx-1",
        "description": "Private chat",
    },
)
_ONE = document({200: Earning}, (404,))
_LIST = document({200: Page[Earning]}, (422,))


@router.post("/v1/earnings", status_code=201, responses=_EARNING.responses, openapi_extra=_EARNING.extra)
def record_earning(
    context: TheContext, caller: Caller, body: Annotated[EarningSchema, Depends(json_body(EarningSchema))]
) -> JSONResponse:
    """Record a payee's share, once. If credits of its spend were refunded before, their share is clawed back."""
    stored = authorised.record_earning(context, caller, body.record())
    return JSONResponse(earning_view(stored.earning), 201 if stored.new else 200)


@router.get("/v1/earnings", responses=_LIST.responses, openapi_extra=_LIST.extra)
def list_earnings(context: TheContext, query: Annotated[EarningQuery, Query()]) -> JSONResponse:
    """List earnings by id: all, those of one payee, or those of one spend."""
    with context.database.read() as connection:
        found = earning_page(
            connection,
            limit=query.limit,
            after=query.starting_after,
            payee_id=query.payee_id,
            transaction_id=query.transaction_id,
        )
    return JSONResponse(found)


@router.get("/v1/earnings/{earning_id}", responses=_ONE.responses, openapi_extra=_ONE.extra)
def show_earning(context: TheContext, earning_id: PathId) -> JSONResponse:
    """Show an earning, with what was clawed back of it."""
    with context.database.read() as connection:
        return JSONResponse(find_earning(connection, earning_id))
