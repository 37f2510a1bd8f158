"""The events of the protocol, which name a refund and say nothing of it: it is fetched before anything is decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from refund_worker.processors.base import (
    EventFault,
    EventHint,
    EventSubject,
    InvalidEvent,
    checked_event_name,
    is_plain_id,
)
from refund_worker.processors.http import signing

HEADER: Final = "webhook-signature"
HEADER_EXAMPLE: Final = "v1,nH9PR7jOUFS5AYSO0N53XVIFFAxL1t7CxBoEvAUuhbU="
ABOUT_A_REFUND: Final = "refund."
EVENT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["id", "type"],
    "properties": {
        "id": {"type": "string", "description": "The event's id; the same id again is the same event."},
        "type": {"type": "string", "description": "refund.created or refund.updated."},
        "refund": {"type": "string", "description": "The id of the refund."},
        "payment": {"type": "string", "description": "The id of its payment."},
    },
}


def verify_event(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raise `InvalidEvent` unless one of `secrets` signed `body` within five minutes of `now` (epoch seconds)."""
    try:
        signing.check(headers, body, secrets, now)
    except signing.NoSignature as error:
        raise InvalidEvent(str(error), EventFault.NO_SIGNATURE) from None
    except signing.NotRecent as error:
        raise InvalidEvent(str(error), EventFault.NOT_RECENT) from None
    except signing.WrongSignature as error:
        raise InvalidEvent(str(error), EventFault.BAD_SIGNATURE) from None


def event_name(body: bytes) -> tuple[str, str]:
    """Return the event's id and type. Raises `InvalidEvent` for what is no event, or not UTF-8."""
    try:
        event = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        event = None
    fields = event if isinstance(event, dict) else {}
    return checked_event_name(fields.get("id"), fields.get("type"))


def event_hint(kind: str, body: str) -> EventHint | None:
    """Return the refund that an event names, None for any other event. Events do not carry our ids."""
    refund = _fields(body).get("refund")
    if not kind.startswith(ABOUT_A_REFUND) or not is_plain_id(refund):
        return None
    return EventHint(refund, leg_id=None)


def event_subject(kind: str, body: str) -> EventSubject | None:
    """Return the refund that an event is about; the protocol has no other events."""
    hint, payment = event_hint(kind, body), _fields(body).get("payment")
    if hint is None:
        return None
    return EventSubject("refund", hint.processor_refund_id, (payment,) if is_plain_id(payment) else ())


def _fields(body: str) -> Mapping[str, object]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
