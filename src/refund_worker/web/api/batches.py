"""Many requests in one call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Batch
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.access.api_keys import Identity
from refund_worker.engine.intake.batches import batch_view
from refund_worker.engine.intake.schemas import RefundSchema, parse_schema
from refund_worker.errors import InvalidRequest, Refusal
from refund_worker.request_signing import body_hash
from refund_worker.web.api.headers import PathId
from refund_worker.web.api.refunds import REFUND_EXAMPLE
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import accept_batch
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document, schema_of
from refund_worker.web.request_body import check_is_json, limited_body, rows_of
from refund_worker.web.schemas import BatchRefundBody

router = APIRouter(tags=["batches"])

BATCH_BYTES_MAX = 64 << 20
ROWS_MAX = 100_000
ROWS = "refunds"

_SCHEMA: dict[str, Any] = {
    "title": "BatchRequest",
    "description": "Up to 100,000 requests.",
    "type": "object",
    "required": [ROWS],
    "additionalProperties": False,
    "properties": {ROWS: {"type": "array", "items": schema_of(BatchRefundBody), "maxItems": ROWS_MAX}},
}
_CREATE = document(
    {202: Batch},
    schema=_SCHEMA,
    example={ROWS: [{"idempotency_key": "order-1001", **REFUND_EXAMPLE}]},
    headers={202: ("Location",)},
)
_SHOW = document({200: Batch}, (404,))


async def _raw(request: Request) -> AsyncIterator[bytearray]:
    """Give the body, whose memory stays reserved until all its rows are stored."""
    check_is_json(request)
    async with limited_body(request, BATCH_BYTES_MAX) as raw:
        yield raw


@router.post("/v1/refund-batches", status_code=202, responses=_CREATE.responses, openapi_extra=_CREATE.extra)
def create_batch(context: TheContext, caller: Caller, raw: Annotated[bytearray, Depends(_raw)]) -> JSONResponse:
    """Accept up to 100,000 requests, each with its own key and its own result; the same batch again does nothing new.

    A refused row does not stop the others. The answer comes when all rows are stored. If the call breaks off, the batch
    shows as stopped after three minutes; sent again, byte for byte, it continues where it ended.
    """
    _check_readable(raw)
    view = accept_batch(context, caller, _requests(raw, caller), body_sha256=body_hash(raw))
    return JSONResponse(view, 202, headers={"Location": f"/v1/refund-batches/{view['batch_id']}"})


@router.get("/v1/refund-batches/{batch_id}", responses=_SHOW.responses, openapi_extra=_SHOW.extra)
def show_batch(context: TheContext, caller: Caller, batch_id: PathId) -> JSONResponse:
    """Show the results of a batch's rows and the progress of its refunds."""
    with context.database.read() as connection:
        return JSONResponse(batch_view(connection, batch_id, now=context.clock(connection), client=caller.sees))


def _check_readable(raw: bytearray) -> None:
    """Parse the whole body before any row is stored: a missing bracket must not leave half a batch stored."""
    for count, _ in enumerate(rows_of(raw, ROWS), 1):
        if count > ROWS_MAX:
            raise InvalidRequest(f"a batch has at most {ROWS_MAX} rows", field=ROWS)


def _requests(raw: bytearray, caller: Identity) -> Iterator[RefundRequest | Refusal]:
    for row in rows_of(raw, ROWS):
        yield row if isinstance(row, Refusal) else _request(row, caller)


def _request(row: dict[str, Any], caller: Identity) -> RefundRequest | Refusal:
    try:
        checked = parse_schema(BatchRefundBody, row)
        body = RefundSchema.model_construct(**checked.model_dump(exclude={"idempotency_key"}))
        return body.request(
            idempotency_key=checked.idempotency_key, client=caller.client, actor=caller.actor, bulk=True
        )
    except InvalidRequest as wrong:
        return wrong
