"""Stripe's webhook events: the check of their signature, and the refund object that an event is about. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from refund_worker.domain.account_names import CONNECTED_ID
from refund_worker.processors.base import EventFault, EventHint, InvalidEvent, checked_event_name, is_plain_id
from refund_worker.processors.stripe.objects import METADATA_LEG

HEADER: Final = "Stripe-Signature"
HEADER_EXAMPLE: Final = "t=1795424400,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd"
TOLERANCE_SECONDS: Final = 300
SCHEME: Final = "v1"
SIGNATURES_MAX: Final = 10

EVENT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["id", "type"],
    "properties": {
        "id": {"type": "string", "description": "The event's id, evt_…"},
        "type": {"type": "string", "description": "The kind of event."},
    },
}

# Also matches newer versions of the API: refund.updated, charge.refund.updated, v1.refund.failed. It does not match
# charge.refunded, which is about a charge.
_ABOUT_A_REFUND = re.compile(r"(?:.*\.)?refund\..*")
_ACCOUNT_ID = re.compile(CONNECTED_ID)
_REFUND_ID = re.compile(r"(?:re|pyr)_[A-Za-z0-9_]+")


def verify_event(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raise `InvalidEvent` unless one of `secrets` signed `body` within the tolerance of `now` (epoch seconds).

    The header is `t=SECONDS,v1=HEX[,v1=HEX…]`; without a configured secret no event is valid.
    """
    signed_at, signatures = _parts(headers.get(HEADER.lower(), ""))
    if abs(now - signed_at) > TOLERANCE_SECONDS:
        why = "the event was not signed just now: is a clock wrong, or is it an old one sent again?"
        raise InvalidEvent(why, EventFault.NOT_RECENT)
    payload = b"%d." % signed_at + body
    good = False
    for secret in secrets:
        expected = hmac.new(secret.encode("utf-8"), payload, hashlib.sha256).hexdigest().encode("ascii")
        for signature in signatures:
            # Do not stop early: the time must not show which secret or which byte matched.
            good |= hmac.compare_digest(expected, signature)
    if not good:
        raise InvalidEvent("no signature in Stripe-Signature is ours", EventFault.BAD_SIGNATURE)


def _parts(header: str) -> tuple[int, list[bytes]]:
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value.encode("utf-8", "replace") for name, _, value in pairs if name == SCHEME][:SIGNATURES_MAX]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) < 16) or not signatures:
        raise InvalidEvent("the header Stripe-Signature is missing or broken", EventFault.NO_SIGNATURE)
    return int(times[0]), signatures


def event_name(body: bytes) -> tuple[str, str]:
    """Return the event's id and type. Raises `InvalidEvent` if the body is not an event."""
    try:
        event = json.loads(body.decode("utf-8"))
        return checked_event_name(event["id"], event["type"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidEvent("the body is not an event", EventFault.NO_EVENT) from None


def connected_account(body: bytes) -> str | None:
    """Return the connected account whose event this is, or None for an event of the account itself."""
    account = json.loads(body.decode("utf-8")).get("account")
    return account if isinstance(account, str) and _ACCOUNT_ID.fullmatch(account) else None


def event_hint(kind: str, body: str) -> EventHint | None:
    """Return the refund object that an event is about, or None for any other event."""
    try:
        found = refund_named(json.loads(body), kind)
    except (ValueError, TypeError, RecursionError):
        return None
    if found is None:
        return None
    identifier, refund_object = found
    metadata = refund_object.get("metadata")
    leg_id = metadata.get(METADATA_LEG) if isinstance(metadata, dict) else None
    return EventHint(identifier, leg_id if is_plain_id(leg_id) else None)


def refund_named(event: object, kind: str) -> tuple[str, dict[str, Any]] | None:
    """Return the id of the refund that an event is about and the object in the event, which may be empty.

    Current events contain the object itself, thin ones name it as `related_object`; a later version may put it
    elsewhere.
    """
    if not isinstance(event, dict):
        return None
    data = event.get("data")
    inner = data if isinstance(data, dict) else {}
    about = _ABOUT_A_REFUND.fullmatch(kind) is not None
    for refund_object in (inner.get("object"), event.get("related_object"), inner.get("related_object"), inner):
        identifier = refund_object.get("id") if isinstance(refund_object, dict) else refund_object
        if not is_plain_id(identifier):
            continue
        known = refund_object if isinstance(refund_object, dict) else {}
        is_refund = "refund" in (known.get("object"), known.get("type"))
        if is_refund or (about and _REFUND_ID.fullmatch(identifier)):
            return identifier, known
    return None
