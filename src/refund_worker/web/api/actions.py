"""Actions of a person on a refund: each is a command with a reason, never an edit of the status."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Refund
from refund_worker.domain.state_machine import Action
from refund_worker.engine.context import Context
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.web.api.headers import PathId, Version, etag
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import act_on_refund
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import HEADER_VERSION, document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody, ResolveBody

router = APIRouter(tags=["actions"])

_ACT = document(
    {200: Refund},
    (404, 409, 412),
    body=ActionBody,
    example={"reason": "agreed with the customer"},
    parameters=(HEADER_VERSION,),
    headers={200: ("ETag",)},
)
_RESOLVE = document(
    {200: Refund},
    (404, 409, 412),
    body=ResolveBody,
    example={"reason": "paid by bank transfer", "outcome": "paid_manually", "reference": "transfer 2026-118"},
    parameters=(HEADER_VERSION,),
    headers={200: ("ETag",)},
)

# An empty body is answered as a missing reason, whatever its Content-Type is.
Reason = Annotated[ActionBody, Depends(json_body(ActionBody, may_be_empty=True))]


@router.post("/v1/refunds/{refund_id}/approve", responses=_ACT.responses, openapi_extra=_ACT.extra)
def approve(context: TheContext, caller: Caller, refund_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Approve a refund above the threshold, as a person other than the requester."""
    return _done(context, caller, refund_id, version, body, Action.APPROVE)


@router.post("/v1/refunds/{refund_id}/reject", responses=_ACT.responses, openapi_extra=_ACT.extra)
def reject(context: TheContext, caller: Caller, refund_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Reject a refund that waits for approval; everything it reserved is released."""
    return _done(context, caller, refund_id, version, body, Action.REJECT)


@router.post("/v1/refunds/{refund_id}/cancel", responses=_ACT.responses, openapi_extra=_ACT.extra)
def cancel(context: TheContext, caller: Caller, refund_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Cancel a refund before anything was sent, or ask the processor to cancel one that waits for the customer."""
    return _done(context, caller, refund_id, version, body, Action.CANCEL)


@router.post("/v1/refunds/{refund_id}/retry", responses=_ACT.responses, openapi_extra=_ACT.extra)
def retry(context: TheContext, caller: Caller, refund_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Retry a refund that waits for a person: the processor is asked first."""
    return _done(context, caller, refund_id, version, body, Action.RETRY)


@router.post("/v1/refunds/{refund_id}/resolve", responses=_RESOLVE.responses, openapi_extra=_RESOLVE.extra)
def resolve(
    context: TheContext,
    caller: Caller,
    refund_id: PathId,
    version: Version,
    body: Annotated[ResolveBody, Depends(json_body(ResolveBody, may_be_empty=True))],
) -> JSONResponse:
    """End a refund that waits for a person: it was paid manually, or the credits go back."""
    reference = body.reference if body.outcome == "paid_manually" else None
    return _done(context, caller, refund_id, version, body, Action.RESOLVE, reference)


def _done(
    context: Context,
    caller: Caller,
    refund_id: str,
    version: int | None,
    body: ActionBody,
    action: Action,
    reference: str | None = None,
) -> JSONResponse:
    refund = act_on_refund(context, caller, refund_id, action, reason=body.reason, reference=reference, version=version)
    return JSONResponse(refund_view(refund), headers=etag(refund.version))
