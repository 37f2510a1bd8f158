"""Records of the admin backend: payments, spends, and the reversal that "Delete" makes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Page, Payment, PaymentRead, Transaction
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.intake.schemas import PaymentSchema, SpendSchema
from refund_worker.engine.views import lists, payment_objects
from refund_worker.engine.views.api_objects import transaction_view
from refund_worker.errors import RefundWorkerError
from refund_worker.store import ledger
from refund_worker.times import iso
from refund_worker.web import authorised
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.queries import PaymentQuery
from refund_worker.web.auth import Caller
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import AT, document
from refund_worker.web.request_body import json_body

router = APIRouter(tags=["records"])

_PAYMENT = document(
    {201: Payment, 200: Payment},
    (409,),
    body=PaymentSchema,
    example={
        "payment_id": "pay-1",
        "customer_id": "cust-1",
        "processor": "stripe",
        "processor_payment_id": "ch_1",
        "amount_minor": 2000,
        "currency": "EUR",
        "credits": 200,
        "captured_at": AT,
    },
)
_PAYMENT_READ = document({200: PaymentRead}, (404,))
_PAYMENTS = document({200: Page[PaymentRead]}, (422,))
_SPEND = document(
    {201: Transaction, 200: Transaction},
    (409,),
    body=SpendSchema,
    example={
        "transaction_id": "tx-1",
        "customer_id": "cust-1",
        "kind": "spend",
        "credits": 50,
        "description": "Private chat",
        "occurred_at": AT,
    },
)
_REVERSAL = document({200: Transaction}, (404, 409))


def _is_new(answer: Recorded | RefundWorkerError) -> bool:
    if isinstance(answer, RefundWorkerError):
        raise answer
    return answer.new


@router.post("/v1/payments", status_code=201, responses=_PAYMENT.responses, openapi_extra=_PAYMENT.extra)
def record_payment(
    context: TheContext, body: Annotated[PaymentSchema, Depends(json_body(PaymentSchema))]
) -> JSONResponse:
    """Record a payment by the customer; it raises the balance once."""
    record = body.record()
    (answer,) = record_payments(context, [record])
    view: dict[str, Any] = body.model_dump(exclude_none=True) | {"captured_at": iso(record.captured_at)}
    return JSONResponse(view, 201 if _is_new(answer) else 200)


@router.get("/v1/payments", responses=_PAYMENTS.responses, openapi_extra=_PAYMENTS.extra)
def list_payments(context: TheContext, query: Annotated[PaymentQuery, Query()]) -> JSONResponse:
    """List payments by id: all, those of one customer, or those with this id at a processor."""
    with context.database.read() as connection:
        found = lists.payments(
            connection,
            context,
            customer_id=query.customer_id,
            processor_payment_id=query.processor_payment_id,
            limit=query.limit,
            after=query.starting_after,
        )
    return JSONResponse(found)


@router.get("/v1/payments/{payment_id}", responses=_PAYMENT_READ.responses, openapi_extra=_PAYMENT_READ.extra)
def show_payment(context: TheContext, payment_id: PathId) -> JSONResponse:
    """Show a payment as recorded and as its processor reports it; `verified` is true if the two agree."""
    with context.database.read() as connection:
        return JSONResponse(payment_objects.payment(connection, context, payment_id))


@router.post("/v1/transactions", status_code=201, responses=_SPEND.responses, openapi_extra=_SPEND.extra)
def record_spend(context: TheContext, body: Annotated[SpendSchema, Depends(json_body(SpendSchema))]) -> JSONResponse:
    """Record credits that were spent; this lowers the balance once."""
    (answer,) = record_spends(context, [body.record()])
    new = _is_new(answer)
    with context.database.read() as connection:
        row = ledger.transactions_by_id(connection, [body.transaction_id])[body.transaction_id]
    return JSONResponse(transaction_view(row), 201 if new else 200)


@router.delete("/v1/transactions/{transaction_id}", responses=_REVERSAL.responses, openapi_extra=_REVERSAL.extra)
def delete_transaction(context: TheContext, caller: Caller, transaction_id: PathId) -> JSONResponse:
    """Reverse a correction or a credit refund to the balance by a linked entry; repeating it returns the same entry."""
    entry = authorised.delete_transaction(context, caller, transaction_id)
    return JSONResponse(transaction_view(entry))
