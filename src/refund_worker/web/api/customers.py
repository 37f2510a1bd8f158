"""Customers: their balance, their Transactions list, and corrections."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, StreamingResponse

from refund_worker import api_schema
from refund_worker.engine.intake.schemas import CorrectionSchema
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.customer_export import export_customer
from refund_worker.web.api.headers import IdempotencyKey, PathId
from refund_worker.web.api.queries import Page
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import correct, erase_customer, merge_customers
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import HEADER_KEY, document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import ActionBody, MergeBody

router = APIRouter(tags=["customers"])

_CUSTOMER = document({200: api_schema.Customer}, (404,))
_TRANSACTIONS = document({200: api_schema.Page[api_schema.Transaction]}, (404, 422))
_CORRECTION = document(
    {201: api_schema.Transaction, 200: api_schema.Transaction},
    (400, 404),
    body=CorrectionSchema,
    example={"credits": -150, "reason": "withdrawal agreed by phone", "purpose": "payout"},
    parameters=(HEADER_KEY,),
    headers={200: ("Idempotent-Replayed",)},
)
_MERGE = document(
    {200: api_schema.Customer},
    (404, 409, 422),
    body=MergeBody,
    example={"into": "cust-2", "reason": "registered twice"},
)
_ERASE = document(
    {200: api_schema.Customer},
    (404, 409, 422),
    body=ActionBody,
    example={"reason": "asked for by the customer"},
)
_EXPORT = document({200: api_schema.CustomerExport}, (404,))


@router.get(
    "/v1/customers/{customer_id}/transactions",
    responses=_TRANSACTIONS.responses,
    openapi_extra=_TRANSACTIONS.extra,
)
def list_transactions(context: TheContext, customer_id: PathId, page: Annotated[Page, Query()]) -> JSONResponse:
    """List the entries of the balance, newest first."""
    with context.database.read() as connection:
        return JSONResponse(
            api_objects.transactions(connection, customer_id, limit=page.limit, after=page.starting_after)
        )


@router.post(
    "/v1/customers/{customer_id}/corrections",
    status_code=201,
    responses=_CORRECTION.responses,
    openapi_extra=_CORRECTION.extra,
)
def add_correction(
    context: TheContext,
    caller: Caller,
    customer_id: PathId,
    key: IdempotencyKey,
    body: Annotated[CorrectionSchema, Depends(json_body(CorrectionSchema))],
) -> JSONResponse:
    """Add credits to a balance, or remove them with a negative figure.

    Only credits removed with the `purpose` payout, the default, can be paid out by a withdrawal that names this
    transaction. Credits that expired get an entry of the kind expiry.
    """
    row, new = correct(context, caller, customer_id, body, idempotency_key=key)
    headers = {} if new else {"Idempotent-Replayed": "true"}
    return JSONResponse(api_objects.transaction_view(row), 201 if new else 200, headers=headers)


@router.post("/v1/customers/{customer_id}/merge", responses=_MERGE.responses, openapi_extra=_MERGE.extra)
def merge_customer(
    context: TheContext,
    caller: Caller,
    customer_id: PathId,
    body: Annotated[MergeBody, Depends(json_body(MergeBody, may_be_empty=True))],
) -> JSONResponse:
    """Merge this customer into another, and answer with the surviving customer; repeating it changes nothing.

    Payments, refunds and the balance become those of the surviving customer. The merged id stays as another name of
    it everywhere.
    """
    merge_customers(context, caller, customer_id, into=body.into, reason=body.reason)
    with context.database.read() as connection:
        return JSONResponse(api_objects.customer(connection, customer_id, context.policy))


@router.post("/v1/customers/{customer_id}/erase", responses=_ERASE.responses, openapi_extra=_ERASE.extra)
def erase_the_texts(
    context: TheContext,
    caller: Caller,
    customer_id: PathId,
    body: Annotated[ActionBody, Depends(json_body(ActionBody, may_be_empty=True))],
) -> JSONResponse:
    """Overwrite the texts and e-mail addresses of a customer wherever they are stored; ids and amounts stay.

    So are the destinations of their payees: nothing is paid to them until they have new ones. 409 while a refund, a
    payout, a dispute or a refund made elsewhere is under way. Repeating it erases what came later.
    """
    erase_customer(context, caller, customer_id, reason=body.reason)
    with context.database.read() as connection:
        return JSONResponse(api_objects.customer(connection, customer_id, context.policy))


@router.get("/v1/customers/{customer_id}/export", responses=_EXPORT.responses, openapi_extra=_EXPORT.extra)
def export_all(context: TheContext, customer_id: PathId) -> StreamingResponse:
    """Return every row that is stored about a customer, those of merged ids included."""
    return StreamingResponse(export_customer(context, customer_id), media_type="application/json")


@router.get("/v1/customers/{customer_id}", responses=_CUSTOMER.responses, openapi_extra=_CUSTOMER.extra)
def show_customer(context: TheContext, customer_id: PathId) -> JSONResponse:
    """Show the balance, what can be paid out in each currency, and recent corrections."""
    with context.database.read() as connection:
        return JSONResponse(api_objects.customer(connection, customer_id, context.policy))
