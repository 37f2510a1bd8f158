"""The question to the processor about one refund, on demand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Refund
from refund_worker.engine.intake.schemas import Schema
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.web.api.headers import PathId, etag
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import sync_refund
from refund_worker.web.dependencies import TheAppState
from refund_worker.web.openapi import document
from refund_worker.web.request_body import json_body

router = APIRouter(tags=["refunds"])


class NoFields(Schema):
    """An empty body, or none. It is read because a signature covers it."""


Nothing = Annotated[NoFields, Depends(json_body(NoFields, may_be_empty=True))]
_SYNC = document({200: Refund}, (404, 409, 503), headers={200: ("ETag",)})


@router.post("/v1/refunds/{refund_id}/sync", responses=_SYNC.responses, openapi_extra=_SYNC.extra)
def sync(state: TheAppState, caller: Caller, refund_id: PathId, nothing: Nothing) -> JSONResponse:
    """Ask the processor now, in every status, and answer with the refund as it is then."""
    refund = sync_refund(state.context, caller, refund_id, access=state.access)
    return JSONResponse(refund_view(refund), headers=etag(refund.version))
