"""Routes for monitoring: liveness, readiness and metrics; and the description of the API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from refund_worker.domain.refund import NON_FINAL
from refund_worker.engine.processor_sync.status import stored_switches
from refund_worker.store.database import ping
from refund_worker.store.reporting import metrics as stored_metrics
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
    """Answer if the database answers; 503 otherwise."""
    ping(context.database)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", include_in_schema=False)
def metrics(context: TheContext) -> PlainTextResponse:
    """Return metrics in Prometheus' text format. Finished refunds are not counted: that would cost more each day."""
    registry = CollectorRegistry()
    by_status = Gauge(
        "refund_worker_refunds_unfinished", "Unfinished refunds, by status", ["status"], registry=registry
    )
    due = Gauge("refund_worker_refunds_due", "Refunds that wait for a worker", registry=registry)
    oldest = Gauge(
        "refund_worker_oldest_unfinished_seconds",
        "Age of the oldest unfinished refund, 0 if there is none",
        registry=registry,
    )
    waiting = Gauge("refund_worker_inbox_waiting", "Webhook events not processed yet", registry=registry)
    paused = Gauge(
        "refund_worker_processor_paused", "1 while nothing is sent to this processor", ["processor"], registry=registry
    )
    with context.database.read() as connection:
        now = context.clock(connection)
        for status, count in stored_metrics.count_in(connection, NON_FINAL).items():
            by_status.labels(status).set(count)
        since = stored_metrics.oldest_in(connection, NON_FINAL)
        oldest.set(0 if since is None else max(0, now - since))
        due.set(stored_metrics.count_due(connection, now))
        waiting.set(stored_metrics.count_waiting_events(connection))
        for switch in stored_switches(connection, context):
            paused.labels(switch["name"]).set(switch["paused"])
    return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI description, with examples."""
    return JSONResponse(request.app.openapi())
