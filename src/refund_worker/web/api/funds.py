"""The money at the processor accounts."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from refund_worker.api_schema import FundsList
from refund_worker.engine.views.funds import funds_view
from refund_worker.web.auth import Caller
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document

router = APIRouter(tags=["processors"])

_FUNDS = document({200: FundsList})


@router.get("/v1/funds", responses=_FUNDS.responses, openapi_extra=_FUNDS.extra)
def list_funds(context: TheContext, caller: Caller) -> JSONResponse:
    """Return the available and pending money of each account and currency against what refunds and payouts need."""
    with context.database.read() as connection:
        found = funds_view(connection, context)
    return JSONResponse({"data": found, "has_more": False})
