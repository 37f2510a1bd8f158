"""PayPal's webhook events: what an event is about, and the headers of its signature. Pure.

Facts, read 2026-11: developer.paypal.com/api/rest/webhooks/event-names (kinds), /api/rest/webhooks/rest and
/docs/integration/direct/webhooks/notification-messages (delivery), notifications_webhooks_v1.json (the headers). Not
read, known: the kinds `PAYMENT.REFUND.…`, and the form of an event's `resource` beside published examples.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from refund_worker.processors.base import (
    EventFault,
    EventHint,
    EventSubject,
    InvalidEvent,
    checked_event_name,
    is_plain_id,
)
from refund_worker.processors.paypal.objects import OBJECT_ID, capture_refs, our_ids

HEADER: Final = "PayPal-Transmission-Sig"
HEADER_EXAMPLE: Final = "lmI95Jx3Y9nhR5SJWlHVIWpg4AgFk7n9bCHSRxbrd8A9zrhdu2rMyFrmz+Zjh3s3boXB07VXCXUZy"
ALGORITHM: Final = "SHA256withRSA"
# PayPal delivers an event up to 25 times in three days. No source says that a later delivery has a new signature. An
# event that is sent again changes nothing: it is stored once, and the refund itself is asked for.
AGE_SECONDS_MAX: Final = 3 * 86_400.0 + 3_600.0
AHEAD_SECONDS_MAX: Final = 300.0
SIGNATURE_LENGTH_MAX: Final = 2_048

EVENT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["id", "event_type"],
    "properties": {
        "id": {"type": "string", "description": "The event's id, WH-…"},
        "event_type": {"type": "string", "description": "The kind of event."},
        "resource_type": {"type": "string", "description": "The kind of the resource, such as refund."},
        "resource": {"type": "object", "description": "The object that the event is about."},
    },
}

# PAYMENT.CAPTURE.REVERSED is PayPal's or the bank's own refund: its resource is a refund too, with an id of its own.
REFUND_KINDS: Final = frozenset(
    {
        "PAYMENT.CAPTURE.REFUNDED",
        "PAYMENT.CAPTURE.REVERSED",
        "PAYMENT.REFUND.PENDING",
        "PAYMENT.REFUND.FAILED",
        "PAYMENT.REFUND.CANCELLED",
        "PAYMENT.REFUND.COMPLETED",
    }
)
CAPTURED: Final = "PAYMENT.CAPTURE.COMPLETED"
CAPTURE_KINDS: Final = frozenset(
    {CAPTURED, "PAYMENT.CAPTURE.PENDING", "PAYMENT.CAPTURE.DECLINED", "PAYMENT.CAPTURE.DENIED"}
)
DISPUTE_KINDS: Final = frozenset({"CUSTOMER.DISPUTE.CREATED", "CUSTOMER.DISPUTE.UPDATED", "CUSTOMER.DISPUTE.RESOLVED"})

_TRANSMISSION_ID = re.compile(r"[A-Za-z0-9_-]{1,50}")
_DISPUTE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Transmission:
    """The headers of an event's signature, checked for their form. Texts are as they came: they are signed so."""

    transmission_id: str
    time: str
    certificate_url: str
    algorithm: str
    signature: str

    @classmethod
    def of(cls, headers: Mapping[str, str], now: float) -> Transmission:
        """Return the headers (lower-case names) of an event that came at `now` (epoch seconds).

        Raises `InvalidEvent` if one is missing or broken, or if the event was not signed in the last days.
        """
        name = "paypal-transmission-"
        found = cls(
            transmission_id=headers.get(f"{name}id", ""),
            time=headers.get(f"{name}time", ""),
            certificate_url=headers.get("paypal-cert-url", ""),
            algorithm=headers.get("paypal-auth-algo", ""),
            signature=headers.get(f"{name}sig", ""),
        )
        if not found._is_whole():
            raise InvalidEvent("the headers PayPal-… of the signature are missing or broken", EventFault.NO_SIGNATURE)
        age = now - found.signed_at()
        if not -AHEAD_SECONDS_MAX <= age <= AGE_SECONDS_MAX:
            why = "the event was not signed in the last three days: is a clock wrong, or is it an old one sent again?"
            raise InvalidEvent(why, EventFault.NOT_RECENT)
        return found

    def _is_whole(self) -> bool:
        return (
            _TRANSMISSION_ID.fullmatch(self.transmission_id) is not None
            and self.algorithm == ALGORITHM
            and 0 < len(self.time) <= 64
            and 0 < len(self.certificate_url) <= 500
            and 0 < len(self.signature) <= SIGNATURE_LENGTH_MAX
            and self.signature.isascii()
        )

    def signed_at(self) -> float:
        """Return the time of the signature in epoch seconds. Raises `InvalidEvent`."""
        try:
            signed = datetime.fromisoformat(self.time)
            if signed.tzinfo is None:
                raise ValueError
            return signed.timestamp()
        except (ValueError, OverflowError):
            raise InvalidEvent("PayPal-Transmission-Time is no time", EventFault.NO_SIGNATURE) from None

    def signed_text(self, webhook_id: str, body: bytes) -> bytes:
        """Return the bytes that PayPal signs for this webhook: id, time, webhook and the checksum of the raw body."""
        return f"{self.transmission_id}|{self.time}|{webhook_id}|{zlib.crc32(body)}".encode()

    def signature_bytes(self) -> bytes:
        """Return the decoded signature. Raises `InvalidEvent`."""
        try:
            return base64.b64decode(self.signature, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidEvent("PayPal-Transmission-Sig is no base64", EventFault.NO_SIGNATURE) from None


def event_object(body: bytes) -> dict[str, Any]:
    """Return the event. Raises `InvalidEvent` for anything but one JSON object in UTF-8."""
    try:
        event = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise InvalidEvent("the body is not an event", EventFault.NO_EVENT)
    return event


def event_name(body: bytes) -> tuple[str, str]:
    """Return the event's id and kind. Raises `InvalidEvent` if the body is not an event."""
    event = event_object(body)
    return checked_event_name(event.get("id"), event.get("event_type"))


def event_hint(kind: str, body: str) -> EventHint | None:
    """Return the refund that an event is about, or None for any other event."""
    resource = _resource(body)
    if not _is_refund(kind, resource):
        return None
    return EventHint(str(resource["id"]), our_ids(resource.get("custom_id"))[0])


def event_subject(kind: str, body: str) -> EventSubject | None:
    """Return the refund, capture or dispute that an event is about, or None for any other event."""
    resource = _resource(body)
    if _is_refund(kind, resource):
        return EventSubject("refund", str(resource["id"]), capture_refs(resource))
    identifier = resource.get("id")
    if kind in CAPTURE_KINDS and _matches(OBJECT_ID, identifier):
        return EventSubject("payment", str(identifier), (str(identifier),), is_new_payment=kind == CAPTURED)
    identifier = resource.get("dispute_id")
    if kind in DISPUTE_KINDS and _matches(_DISPUTE_ID, identifier):
        return EventSubject("dispute", str(identifier), _disputed(resource))
    return None


def _is_refund(kind: str, resource: Mapping[str, Any]) -> bool:
    return kind in REFUND_KINDS and _matches(OBJECT_ID, resource.get("id"))


def _disputed(resource: Mapping[str, Any]) -> tuple[str, ...]:
    transactions = resource.get("disputed_transactions")
    named = [
        entry.get("seller_transaction_id")
        for entry in (transactions if isinstance(transactions, list) else ())
        if isinstance(entry, dict)
    ]
    return tuple(text for text in named if is_plain_id(text))


def _resource(body: str) -> Mapping[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    resource = event.get("resource") if isinstance(event, dict) else None
    return resource if isinstance(resource, dict) else {}


def _matches(form: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
