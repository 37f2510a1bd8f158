"""Routes for monitoring: liveness, readiness and metrics; and the description of the API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from refund_worker.errors import Unavailable
from refund_worker.store.database import READ_ONLY, ping
from refund_worker.store.reporting.metrics import can_write
from refund_worker.web.api.metrics import metrics_text
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import Health, document

router = APIRouter(tags=["health"])

_HEALTH = document({200: Health}, guarded=False)


@router.get("/healthz", responses=_HEALTH.responses, openapi_extra=_HEALTH.extra)
async def healthz() -> JSONResponse:
    """Answer if the process is alive."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses=_HEALTH.responses, openapi_extra=_HEALTH.extra)
def readyz(context: TheContext) -> JSONResponse:
    """Answer if the database answers and takes writes; 503 otherwise."""
    ping(context.database)
    if not can_write(context.database):
        raise Unavailable(READ_ONLY)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", include_in_schema=False)
def metrics(context: TheContext) -> PlainTextResponse:
    """Return the metrics of the whole installation in Prometheus' text format."""
    return PlainTextResponse(metrics_text(context), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI description, with examples."""
    return JSONResponse(request.app.openapi())
