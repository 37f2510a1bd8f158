"""Actions of a person on a payout: each is a command with a reason, never an edit of the status."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Payout
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.engine.context import Context
from refund_worker.engine.views.payout_objects import show_payout
from refund_worker.web.api.actions import Reason
from refund_worker.web.api.headers import PathId, Version, etag
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import act_on_payout
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import HEADER_VERSION, document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody, ResolveBody

router = APIRouter(tags=["payouts"])

_ACT = document(
    {200: Payout},
    (404, 409, 412),
    body=ActionBody,
    example={"reason": "agreed with the payee"},
    parameters=(HEADER_VERSION,),
    headers={200: ("ETag",)},
)
_RESOLVE = document(
    {200: Payout},
    (404, 409, 412),
    body=ResolveBody,
    example={"reason": "paid by bank transfer", "outcome": "paid_manually", "reference": "transfer 2026-118"},
    parameters=(HEADER_VERSION,),
    headers={200: ("ETag",)},
)


@router.post("/v1/payouts/{payout_id}/approve", responses=_ACT.responses, openapi_extra=_ACT.extra)
def approve(context: TheContext, caller: Caller, payout_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Approve a payout above the threshold, as a person other than the requester."""
    return _done(context, caller, payout_id, version, body, PayoutAction.APPROVE)


@router.post("/v1/payouts/{payout_id}/reject", responses=_ACT.responses, openapi_extra=_ACT.extra)
def reject(context: TheContext, caller: Caller, payout_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Reject a payout that waits for approval; its amount is free again."""
    return _done(context, caller, payout_id, version, body, PayoutAction.REJECT)


@router.post("/v1/payouts/{payout_id}/cancel", responses=_ACT.responses, openapi_extra=_ACT.extra)
def cancel(context: TheContext, caller: Caller, payout_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Cancel a payout before anything was sent, or ask the processor to call off one that waits for the payee."""
    return _done(context, caller, payout_id, version, body, PayoutAction.CANCEL)


@router.post("/v1/payouts/{payout_id}/retry", responses=_ACT.responses, openapi_extra=_ACT.extra)
def retry(context: TheContext, caller: Caller, payout_id: PathId, version: Version, body: Reason) -> JSONResponse:
    """Retry a payout that waits for a person: the processor is asked first."""
    return _done(context, caller, payout_id, version, body, PayoutAction.RETRY)


@router.post("/v1/payouts/{payout_id}/resolve", responses=_RESOLVE.responses, openapi_extra=_RESOLVE.extra)
def resolve(
    context: TheContext,
    caller: Caller,
    payout_id: PathId,
    version: Version,
    body: Annotated[ResolveBody, Depends(json_body(ResolveBody, may_be_empty=True))],
) -> JSONResponse:
    """End a payout that waits for a person: it was paid manually, or its amount goes back to the balance."""
    reference = body.reference if body.outcome == "paid_manually" else None
    return _done(context, caller, payout_id, version, body, PayoutAction.RESOLVE, reference)


def _done(
    context: Context,
    caller: Caller,
    payout_id: str,
    version: int | None,
    body: ActionBody,
    action: PayoutAction,
    reference: str | None = None,
) -> JSONResponse:
    payout = act_on_payout(context, caller, payout_id, action, reason=body.reason, reference=reference, version=version)
    with context.database.read() as connection:
        shown = show_payout(connection, payout)
    return JSONResponse(shown, headers=etag(payout.version))
