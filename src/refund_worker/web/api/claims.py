"""Calls about the money that others move: outside refunds and disputes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Dispute, OutsideRefund, Page
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.engine.context import Context
from refund_worker.engine.views.claim_objects import claim_page, dispute_view, find, outside_refund_view
from refund_worker.store.claims import ClaimFilters
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.queries import DisputeQuery, OutsideRefundQuery
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document

router = APIRouter(tags=["claims"])

_OUTSIDE = document({200: OutsideRefund}, (404,))
_OUTSIDE_LIST = document({200: Page[OutsideRefund]}, (422,))
_DISPUTE = document({200: Dispute}, (404,))
_DISPUTES = document({200: Page[Dispute]}, (422,))


def _list(context: Context, filters: ClaimFilters) -> JSONResponse:
    with context.database.read() as connection:
        return JSONResponse(claim_page(connection, filters))


@router.get("/v1/outside-refunds", responses=_OUTSIDE_LIST.responses, openapi_extra=_OUTSIDE_LIST.extra)
def list_outside_refunds(context: TheContext, query: Annotated[OutsideRefundQuery, Query()]) -> JSONResponse:
    """List refunds that others made, newest first."""
    return _list(context, query.filters())


@router.get("/v1/outside-refunds/{outside_refund_id}", responses=_OUTSIDE.responses, openapi_extra=_OUTSIDE.extra)
def show_outside_refund(context: TheContext, outside_refund_id: PathId) -> JSONResponse:
    """Show a refund that others made, with its share of the payment's credits."""
    with context.database.read() as connection:
        return JSONResponse(outside_refund_view(find(connection, outside_refund_id, ClaimKind.OUTSIDE_REFUND)))


@router.get("/v1/disputes", responses=_DISPUTES.responses, openapi_extra=_DISPUTES.extra)
def list_disputes(context: TheContext, query: Annotated[DisputeQuery, Query()]) -> JSONResponse:
    """List disputes and inquiries, newest first."""
    return _list(context, query.filters())


@router.get("/v1/disputes/{dispute_id}", responses=_DISPUTE.responses, openapi_extra=_DISPUTE.extra)
def show_dispute(context: TheContext, dispute_id: PathId) -> JSONResponse:
    """Show a dispute, with the credits that it holds and took."""
    with context.database.read() as connection:
        return JSONResponse(dispute_view(find(connection, dispute_id, ClaimKind.DISPUTE)))
