"""Calls about the money that others move: outside refunds, disputes, warnings, and payments that never came."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Dispute, FraudWarning, OutsideRefund, Page, PaymentRead
from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.engine.context import Context
from refund_worker.engine.views import payment_objects
from refund_worker.engine.views.claim_objects import claim_page, claim_view, find
from refund_worker.engine.views.fraud_warning_objects import warning_page
from refund_worker.store.claims import ClaimFilters
from refund_worker.web import authorised
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.queries import DisputeQuery, FraudWarningQuery, OutsideRefundQuery
from refund_worker.web.auth import Caller
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody, DecideBody, LinkBody, LinkDisputeBody

router = APIRouter(tags=["claims"])

_OUTSIDE = document({200: OutsideRefund}, (404,))
_OUTSIDE_LIST = document({200: Page[OutsideRefund]}, (422,))
_DISPUTE = document({200: Dispute}, (404,))
_DISPUTES = document({200: Page[Dispute]}, (422,))
_WARNINGS = document({200: Page[FraudWarning]}, (422,))


_DECIDE = {"reason": "a regular customer", "decision": "write_off"}
_DECIDED_OUTSIDE = document({200: OutsideRefund}, (404, 409), body=DecideBody, example=_DECIDE)
_DECIDED_DISPUTE = document({200: Dispute}, (404, 409), body=DecideBody, example=_DECIDE)
_LINK = document(
    {200: OutsideRefund},
    (404, 409),
    body=LinkBody,
    example={"reason": "refunded in the dashboard for this chat", "transaction_id": "tx-1"},
)
_LINK_DISPUTE = document(
    {200: Dispute},
    (404, 409),
    body=LinkDisputeBody,
    example={"reason": "the customer disputed this chat", "transaction_id": "tx-1"},
)
_CLOSE = document({200: PaymentRead}, (404, 409), body=ActionBody, example={"reason": "the debit failed"})

Decision = Annotated[DecideBody, Depends(json_body(DecideBody, may_be_empty=True))]
Reason = Annotated[ActionBody, Depends(json_body(ActionBody, may_be_empty=True))]


def _list(context: Context, filters: ClaimFilters) -> JSONResponse:
    with context.database.read() as connection:
        return JSONResponse(claim_page(connection, filters))


def _one(context: Context, claim: Claim) -> JSONResponse:
    with context.database.read() as connection:
        return JSONResponse(claim_view(connection, claim))


@router.get("/v1/outside-refunds", responses=_OUTSIDE_LIST.responses, openapi_extra=_OUTSIDE_LIST.extra)
def list_outside_refunds(context: TheContext, query: Annotated[OutsideRefundQuery, Query()]) -> JSONResponse:
    """List refunds that others made, newest first."""
    return _list(context, query.filters())


@router.get("/v1/outside-refunds/{outside_refund_id}", responses=_OUTSIDE.responses, openapi_extra=_OUTSIDE.extra)
def show_outside_refund(context: TheContext, outside_refund_id: PathId) -> JSONResponse:
    """Show a refund that others made, with its share of the payment's credits."""
    with context.database.read() as connection:
        return JSONResponse(claim_view(connection, find(connection, outside_refund_id, ClaimKind.OUTSIDE_REFUND)))


@router.get("/v1/disputes", responses=_DISPUTES.responses, openapi_extra=_DISPUTES.extra)
def list_disputes(context: TheContext, query: Annotated[DisputeQuery, Query()]) -> JSONResponse:
    """List disputes and inquiries, newest first."""
    return _list(context, query.filters())


@router.get("/v1/disputes/{dispute_id}", responses=_DISPUTE.responses, openapi_extra=_DISPUTE.extra)
def show_dispute(context: TheContext, dispute_id: PathId) -> JSONResponse:
    """Show a dispute, with the credits that it holds and took."""
    with context.database.read() as connection:
        return JSONResponse(claim_view(connection, find(connection, dispute_id, ClaimKind.DISPUTE)))


@router.get("/v1/fraud-warnings", responses=_WARNINGS.responses, openapi_extra=_WARNINGS.extra)
def list_fraud_warnings(context: TheContext, query: Annotated[FraudWarningQuery, Query()]) -> JSONResponse:
    """List early fraud warnings, newest first, each with the refund that it suggests."""
    with context.database.read() as connection:
        return JSONResponse(warning_page(connection, query.filters()))


@router.post(
    "/v1/outside-refunds/{outside_refund_id}/decide",
    responses=_DECIDED_OUTSIDE.responses,
    openapi_extra=_DECIDED_OUTSIDE.extra,
)
def decide_outside_refund(
    context: TheContext, caller: Caller, outside_refund_id: PathId, body: Decision
) -> JSONResponse:
    """Decide about credits that were spent before the money was refunded: write them off, or make them a debt."""
    return _decide(context, caller, outside_refund_id, ClaimKind.OUTSIDE_REFUND, body)


@router.post("/v1/outside-refunds/{outside_refund_id}/link", responses=_LINK.responses, openapi_extra=_LINK.extra)
def link_outside_refund(
    context: TheContext,
    caller: Caller,
    outside_refund_id: PathId,
    body: Annotated[LinkBody, Depends(json_body(LinkBody, may_be_empty=True))],
) -> JSONResponse:
    """Link a refund that others made: it then pays a refund of ours, a spend, or a correction."""
    claim = authorised.link_outside_refund(
        context,
        caller,
        outside_refund_id,
        refund_id=body.refund_id,
        transaction_id=body.transaction_id,
        reason=body.reason,
    )
    return _one(context, claim)


@router.post(
    "/v1/disputes/{dispute_id}/decide",
    responses=_DECIDED_DISPUTE.responses,
    openapi_extra=_DECIDED_DISPUTE.extra,
)
def decide_dispute(context: TheContext, caller: Caller, dispute_id: PathId, body: Decision) -> JSONResponse:
    """Decide about credits that were spent before the dispute was lost: write them off, or make them a debt."""
    return _decide(context, caller, dispute_id, ClaimKind.DISPUTE, body)


@router.post("/v1/disputes/{dispute_id}/link", responses=_LINK_DISPUTE.responses, openapi_extra=_LINK_DISPUTE.extra)
def link_dispute(
    context: TheContext,
    caller: Caller,
    dispute_id: PathId,
    body: Annotated[LinkDisputeBody, Depends(json_body(LinkDisputeBody, may_be_empty=True))],
) -> JSONResponse:
    """Link a lost dispute to the spend that it charged back: payees give back their share, until it is reinstated."""
    claim = authorised.link_dispute(context, caller, dispute_id, transaction_id=body.transaction_id, reason=body.reason)
    return _one(context, claim)


def _decide(context: Context, caller: Caller, claim_id: str, kind: ClaimKind, body: DecideBody) -> JSONResponse:
    claim = authorised.decide_claim(context, caller, claim_id, kind, decision=body.decision, reason=body.reason)
    return _one(context, claim)


@router.post("/v1/payments/{payment_id}/close", responses=_CLOSE.responses, openapi_extra=_CLOSE.extra)
def close_payment(context: TheContext, caller: Caller, payment_id: PathId, body: Reason) -> JSONResponse:
    """Close a payment: its money never came, or it was recorded wrong. Its unspent credits come off the balance."""
    authorised.close_payment(context, caller, payment_id, reason=body.reason)
    with context.database.read() as connection:
        return JSONResponse(payment_objects.payment(connection, context, payment_id))
