"""Events from Stripe: verified on the raw body, stored once, answered. The worker later asks Stripe what they mean."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from refund_worker.engine.context import Context
from refund_worker.store import inbox
from refund_worker.web.dependencies import TheDoor
from refund_worker.web.openapi import WEBHOOK
from refund_worker.web.problems import BadSignature
from refund_worker.web.request_body import BODY_BYTES_MAX, limited_body

log = logging.getLogger("refund_worker.web.webhooks")

TOLERANCE_SECONDS = 300
SCHEME = "v1"
SIGNATURES_MAX = 10
EVENT_ID_LENGTH_MAX = 255

router = APIRouter(tags=["webhooks"])


def verify(header: str, body: bytes, secrets: Sequence[str], now: float) -> None:
    """Check that one of `secrets` signed `body` within the tolerance of `now` (epoch seconds). Raises `BadSignature`.

    The header is `t=SECONDS,v1=HEX[,v1=HEX…]`. Without configured secrets every event is refused.
    """
    signed_at, signatures = _parts(header)
    if abs(now - signed_at) > TOLERANCE_SECONDS:
        raise BadSignature(
            "the signature is too old or in the future: is a clock wrong, or was an old event sent again?"
        )
    payload = b"%d." % signed_at + body
    good = False
    for secret in secrets:
        expected = hmac.new(secret.encode("utf-8"), payload, hashlib.sha256).hexdigest().encode("ascii")
        for signature in signatures:
            # No early exit: the time it takes must not reveal which secret or which byte was right.
            good |= hmac.compare_digest(expected, signature)
    if not good:
        raise BadSignature("no signature in Stripe-Signature matches a configured secret")


def _parts(header: str) -> tuple[int, list[bytes]]:
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value.encode("utf-8", "replace") for name, _, value in pairs if name == SCHEME][:SIGNATURES_MAX]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) < 16) or not signatures:
        raise BadSignature("the header Stripe-Signature is missing or broken")
    return int(times[0]), signatures


@router.post("/webhooks/stripe", openapi_extra=WEBHOOK.extra, responses=WEBHOOK.responses)
async def take_stripe_event(request: Request, door: TheDoor) -> JSONResponse:
    """Store an event and answer; a repeated event is answered and not stored again."""
    async with limited_body(request, BODY_BYTES_MAX) as raw:
        body = bytes(raw)
        headers = request.headers.getlist("stripe-signature")
        verify(headers[0] if len(headers) == 1 else "", body, door.settings.webhook_secrets, time.time())
        event_id, kind = _event(body)
        new = await run_in_threadpool(_store, door.context, event_id, kind, body)
    if new:
        log.info("stored event %s of kind %s", event_id, kind)
    return JSONResponse({"received": True})


def _event(body: bytes) -> tuple[str, str]:
    try:
        event = json.loads(body.decode("utf-8"))
        event_id, kind = event["id"], event["type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadSignature("the body is not an event") from None
    for value in (event_id, kind):
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise BadSignature("the body is not an event")
        if not 1 <= len(value) <= EVENT_ID_LENGTH_MAX:
            raise BadSignature("the body is not an event")
    return event_id, kind


def _store(context: Context, event_id: str, kind: str, body: bytes) -> bool:
    def work(connection: Connection) -> bool:
        now = context.clock(connection)
        return inbox.insert_event(connection, "stripe", event_id, kind, body.decode("utf-8"), now)

    return context.database.run(work)
