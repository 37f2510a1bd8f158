"""Webhook events from processors: verified on the raw body, stored once, answered.

A stored event is a hint. The worker asks the processor later what happened.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from refund_worker.alarms import Condition, warn_of
from refund_worker.engine.context import Context
from refund_worker.metrics import WEBHOOKS_REFUSED, WEBHOOKS_STORED, count
from refund_worker.processors import registry
from refund_worker.processors.base import InvalidEvent, Webhooks
from refund_worker.store import inbox
from refund_worker.web.auth import WEBHOOKS
from refund_worker.web.dependencies import TheAppState
from refund_worker.web.openapi import webhook_document
from refund_worker.web.problems import BadSignature
from refund_worker.web.request_body import BODY_BYTES_MAX, limited_body

log = logging.getLogger(__name__)

WARN_SECONDS = 60.0
_warned_at: dict[str, float] = {}


def make_router() -> APIRouter:
    """Return one route for each registered processor that sends webhooks: POST /webhooks/NAME."""
    router = APIRouter(tags=["webhooks"])
    for entry in registry.entries():
        if entry.webhooks is not None:
            _add_route(router, entry.name, entry.webhooks)
    return router


def _add_route(router: APIRouter, processor: str, webhooks: Webhooks) -> None:
    described = webhook_document(processor, webhooks)

    async def take_event(request: Request, state: TheAppState) -> JSONResponse:
        """Store an event and answer; the same event again is answered and not stored."""
        async with limited_body(request, BODY_BYTES_MAX) as raw:
            body = bytes(raw)
            try:
                secrets = webhooks.secrets(state.settings)
                webhooks.verify_event(_headers_sent_once(request), body, secrets, time.time())
                event_id, kind = webhooks.event_name(body)
            except InvalidEvent as error:
                _note_refused(processor, error)
                raise BadSignature(str(error)) from None
            new = await run_in_threadpool(_store, state.context, processor, event_id, kind, body)
        if new:
            count(WEBHOOKS_STORED, processor)
            log.info("stored an event of kind %s", kind, extra={"event_id": event_id, "processor": processor})
        return JSONResponse({"received": True})

    router.add_api_route(
        WEBHOOKS + processor,
        take_event,
        methods=["POST"],
        name=f"take_{processor}_event",
        openapi_extra=described.extra,
        responses=described.responses,
    )


def _note_refused(processor: str, error: InvalidEvent) -> None:
    """Count an event without a valid signature, and log a warning at most once a minute: anybody can send these."""
    count(WEBHOOKS_REFUSED, processor, error.fault.value)
    if time.monotonic() - _warned_at.get(processor, -WARN_SECONDS) >= WARN_SECONDS:
        _warned_at[processor] = time.monotonic()
        fields = {"processor": processor, "code": error.fault.value}
        warn_of(log, Condition.WEBHOOKS_REJECTED, "a webhook event is refused: %s", error, **fields)


def _headers_sent_once(request: Request) -> dict[str, str]:
    """Return the headers by lower-case name. One that was sent twice is ambiguous, and so as good as missing."""
    pairs = request.headers.items()
    times = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if times[name] == 1}


def _store(context: Context, processor: str, event_id: str, kind: str, body: bytes) -> bool:
    def work(connection: Connection) -> bool:
        now = context.clock(connection)
        return inbox.insert_event(connection, processor, event_id, kind, body.decode("utf-8"), now)

    return context.database.run(work)
