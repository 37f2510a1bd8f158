"""AcmePay's webhook events: thin ones, which name a refund and say nothing of it. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from refund_worker.processors.adapter_api import (
    EventFault,
    EventHint,
    EventSubject,
    InvalidEvent,
    checked_event_name,
)

from .objects import REFUND_ID

SIGNATURE, TIMESTAMP = "Acme-Signature", "Acme-Timestamp"
SIGNATURE_EXAMPLE: Final = "q83vEjRWeJA="
TOLERANCE_SECONDS: Final = 300
CHANGED: Final = "refund.changed"
EVENT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["event", "topic"],
    "properties": {"event": {"type": "string"}, "topic": {"type": "string"}, "refund": {"type": "string"}},
}


def signature_of(body: bytes, timestamp: str, secret: str) -> str:
    """Return the base64 of HMAC-SHA512 over the timestamp, a line feed and the body."""
    payload = timestamp.encode("ascii") + b"\n" + body
    return base64.b64encode(hmac.new(secret.encode(), payload, hashlib.sha512).digest()).decode("ascii")


def verify_event(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raise `InvalidEvent` unless one of `secrets` signed `body` within five minutes of `now` (epoch seconds)."""
    timestamp, signature = headers.get(TIMESTAMP.lower(), ""), headers.get(SIGNATURE.lower(), "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16 and signature):
        raise InvalidEvent("the headers of the signature are missing or broken", EventFault.NO_SIGNATURE)
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise InvalidEvent("the event was not signed recently", EventFault.NOT_RECENT)
    given = signature.encode("utf-8", "replace")
    good = [hmac.compare_digest(signature_of(body, timestamp, secret).encode(), given) for secret in secrets]
    if not any(good):
        raise InvalidEvent("no secret of ours made the signature", EventFault.BAD_SIGNATURE)


def event_name(body: bytes) -> tuple[str, str]:
    """Return the event's id and topic. Raises `InvalidEvent`."""
    try:
        event = json.loads(body.decode("utf-8"))
        return checked_event_name(event["event"], event["topic"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidEvent("the body is not an event", EventFault.NO_EVENT) from None


def event_hint(kind: str, body: str) -> EventHint | None:
    """Return the refund that an event of the topic "refund.changed" names; None for any other event."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    refund = event.get("refund") if isinstance(event, dict) else None
    if kind != CHANGED or not isinstance(refund, str) or not REFUND_ID.fullmatch(refund):
        return None
    # The event has none of our ids: the refund is fetched before its owner is known.
    return EventHint(refund, leg_id=None)


def event_subject(kind: str, body: str) -> EventSubject | None:
    """Return the refund that an event names. This adapter reads no disputes, so other events have no subject."""
    hint = event_hint(kind, body)
    return EventSubject("refund", hint.processor_refund_id) if hint else None
