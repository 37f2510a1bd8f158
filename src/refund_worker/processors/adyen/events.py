"""Adyen's standard webhooks: the check of their signatures, and the refund that a signed event reports. Pure.

One request holds several items, and each item is signed on its own. Adyen's signature covers eight values and not the
bytes of the body: pspReference, originalReference, merchantAccountCode, merchantReference, the amount's value and
currency, eventCode and success. So `reason`, `eventDate`, `live` and everything else is not signed:

- The signature has no time, so an old event can be sent again by a person who has a copy of it. That changes nothing:
  the event's id consists of signed values, so it is the same event, which is stored once. An event that was never
  stored and comes late still reports what Adyen said of this refund, and an object never goes back to an earlier state.
- A changed `reason` can only change why a refund failed, never whether it failed.
- Adyen joins the values by colons and escapes none. Only merchantReference may hold a colon here, so that no other
  division of the same text is valid.

Sources: Adyen's published description Webhooks v1, util.py and its test in adyen-python-api-library, and
docs.adyen.com/development-resources/webhooks, read 2026-11.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.processor_replies import RefundDetails, RefundObject
from refund_worker.processors.adyen.errors import (
    REFUND_REVERSED,
    REJECTED_BY_SCHEME,
    STATUS_TRIED_AGAIN,
    code_of_reason,
    is_tried_again,
)
from refund_worker.processors.adyen.objects import NOT_OURS, canonical_json, is_psp_reference, marks_of, to_our_minor
from refund_worker.processors.base import (
    EventFault,
    EventHint,
    EventSubject,
    InvalidEvent,
    checked_event_name,
)
from refund_worker.processors.wire import Unreadable
from refund_worker.redaction import has_card_number

ACCEPTED: Final = "[accepted]"
SIGNATURE_PLACE: Final = "additionalData.hmacSignature"
SIGNATURE_EXAMPLE: Final = "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="
# A JSON request has one item, by docs.adyen.com/development-resources/webhooks/webhook-types; other forms have a few.
ITEMS_MAX: Final = 100

EVENT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["live", "notificationItems"],
    "properties": {
        "live": {"type": "string", "description": "The environment: true for live, false for test."},
        "notificationItems": {
            "type": "array",
            "description": "The events, each signed in its additionalData.",
            "items": {"type": "object"},
        },
    },
}

REFUND, REFUND_FAILED, REFUNDED_REVERSED = "REFUND", "REFUND_FAILED", "REFUNDED_REVERSED"
POSTPONED_REFUND, CANCEL_OR_REFUND = "POSTPONED_REFUND", "CANCEL_OR_REFUND"

# The fields of an item that are kept. The rest can hold a cardholder's name, addresses and parts of card numbers.
_KEPT: Final = (
    *("amount", "eventCode", "eventDate", "merchantAccountCode", "merchantReference", "originalReference"),
    *("paymentMethod", "pspReference", "reason", "success"),
)
_ACTION, _ARN = "modification.action", "arn"
_KEPT_ADDITIONAL: Final = ("hmacSignature", _ACTION, _ARN)

_NO_COLON = re.compile("[!-9;-~]{1,200}")
_CURRENCY = re.compile("[A-Z]{0,3}")
_KIND = re.compile("[A-Z][A-Z0-9_]{0,99}")
_WORD = re.compile("[A-Za-z0-9_]{1,60}")
_TRACE = re.compile("[A-Za-z0-9]{1,40}")


# --- the signature ----------------------------------------------------------------------------------------------------


def verify_event(
    body: bytes,
    keys: Sequence[str],
    *,
    merchant_account: str | None,
    live: bool,
    authorization: str = "",
    credentials: tuple[str, str] | None = None,
) -> None:
    """Raise `InvalidEvent` unless each item of the body is signed by one of `keys` (hexadecimal) and is meant for us.

    Each item must name `merchant_account`, and the environment must fit. If `credentials` are set, the header
    Authorization must hold them as HTTP Basic has them.
    """
    if credentials is not None:
        _check_basic(authorization, credentials)
    request = _parsed(body)
    items = _items(request)
    for item in items:
        _check_signature(item, keys)
    if any(item["merchantAccountCode"] != merchant_account for item in items):
        raise InvalidEvent("an event is about another merchant account than this one", EventFault.NO_EVENT)
    if request["live"] != ("true" if live else "false"):
        raise InvalidEvent("the event comes from another environment (live or test)", EventFault.NO_EVENT)


def signed_text(item: Mapping[str, Any]) -> str:
    """Return the text that Adyen signs for an item. Raises `InvalidEvent` if a value has another form than it may."""
    amount = item.get("amount") or {}
    if not isinstance(amount, dict):
        raise _no_event()
    value = amount.get("value", "")
    others = (
        _text(item, "pspReference", _NO_COLON),
        _text(item, "originalReference", _NO_COLON, missing=True),
        _text(item, "merchantAccountCode", _NO_COLON),
        _text(item, "merchantReference", None, missing=True),
    )
    if value != "" and type(value) is not int:
        raise _no_event()
    currency = _text(amount, "currency", _CURRENCY, missing=True)
    last = _text(item, "eventCode", _KIND), _text(item, "success", re.compile("true|false"))
    return ":".join((*others, str(value), currency, *last))


def _check_signature(item: Mapping[str, Any], keys: Sequence[str]) -> None:
    text = signed_text(item).encode("utf-8", "surrogatepass")
    additional = item.get("additionalData")
    given = additional.get("hmacSignature") if isinstance(additional, dict) else None
    if not isinstance(given, str) or not given:
        raise InvalidEvent(f"an event has no {SIGNATURE_PLACE}", EventFault.NO_SIGNATURE)
    sent = given.encode("utf-8", "replace")
    good = False
    for key in keys:
        digest = hmac.new(bytes.fromhex(key), text, hashlib.sha256).digest()
        # Do not stop early: the time must not show which key or which byte matched.
        good |= hmac.compare_digest(base64.b64encode(digest), sent)
    if not good:
        raise InvalidEvent(f"no key of ours made {SIGNATURE_PLACE}", EventFault.BAD_SIGNATURE)


def _check_basic(header: str, credentials: tuple[str, str]) -> None:
    scheme, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (ValueError, binascii.Error):
        given = b""
    if not hmac.compare_digest(given, ":".join(credentials).encode("utf-8")):
        fault = EventFault.BAD_SIGNATURE if header else EventFault.NO_SIGNATURE
        raise InvalidEvent("the header Authorization does not hold webhook_user and webhook_password", fault)


def _text(fields: Mapping[str, Any], name: str, form: re.Pattern[str] | None, *, missing: bool = False) -> str:
    """Return a signed text; an empty one if it may be `missing`, which Adyen signs alike."""
    value = fields.get(name)
    if value in (None, "") and missing:
        return ""
    if not isinstance(value, str) or (form is not None and not form.fullmatch(value)):
        raise _no_event()
    return value


def _no_event() -> InvalidEvent:
    return InvalidEvent("the body is not an event", EventFault.NO_EVENT)


def _parsed(body: bytes | str) -> dict[str, Any]:
    try:
        request = json.loads(body.decode("utf-8") if isinstance(body, bytes) else body)
    except (ValueError, RecursionError):
        raise _no_event() from None
    if not isinstance(request, dict) or request.get("live") not in ("true", "false"):
        raise _no_event()
    return request


def _items(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    wrapped = request.get("notificationItems")
    if not isinstance(wrapped, list) or not 0 < len(wrapped) <= ITEMS_MAX:
        raise _no_event()
    items = [each.get("NotificationRequestItem") if isinstance(each, dict) else None for each in wrapped]
    if not all(isinstance(item, dict) for item in items):
        raise _no_event()
    return [item for item in items if isinstance(item, dict)]


# --- the events of a request ------------------------------------------------------------------------------------------


def split(body: bytes) -> Sequence[bytes]:
    """Return each item of a verified request as a body of its own, without what we have no use for.

    A body that cannot be read is returned as it is: it has no event's name.
    """
    try:
        request = _parsed(body)
        items = _items(request)
    except InvalidEvent:
        return (body,)
    return tuple(
        canonical_json(
            {"live": request["live"], "notificationItems": [{"NotificationRequestItem": _kept(item)}]}
        ).encode("utf-8", "replace")
        for item in items
    )


def _kept(item: Mapping[str, Any]) -> dict[str, Any]:
    additional = item.get("additionalData")
    kept = {name: item[name] for name in _KEPT if name in item}
    if isinstance(additional, dict):
        kept["additionalData"] = {name: additional[name] for name in _KEPT_ADDITIONAL if name in additional}
    return kept


def event_name(body: bytes) -> tuple[str, str]:
    """Return the id and the kind of the only event in a body. Raises `InvalidEvent`.

    Adyen gives events no id. It repeats an event with the same eventCode and pspReference, perhaps with another
    eventDate (docs.adyen.com/development-resources/webhooks/handle-webhook-events). `success` is part of the id too, so
    that a success after a refusal is an event of its own.
    """
    items = _items(_parsed(body))
    if len(items) != 1:
        raise _no_event()
    (item,) = items
    kind = _text(item, "eventCode", _KIND)
    success = _text(item, "success", re.compile("true|false"))
    return checked_event_name(f"{kind}:{success}:{_text(item, 'pspReference', _NO_COLON)}", kind)


# --- the refund that an event reports ---------------------------------------------------------------------------------


def event_report(kind: str, body: str) -> RefundObject | None:
    """Return the refund object as a verified event reports it, or None for any other event.

    VOID_PENDING_REFUND (refunds at terminals) and REFUND_WITH_DATA (refunds without a payment) report nothing: we send
    neither, and no page that we read says whose pspReference they carry.
    """
    try:
        request = _parsed(body)
        (item,) = _items(request)
        state = _state(kind, item)
        if state is None or not is_psp_reference(item.get("pspReference")):
            return None
        return _refund_object(item, *state, live=request["live"] == "true")
    except (InvalidEvent, Unreadable, ValueError):
        return None


def event_hint(kind: str, body: str) -> EventHint | None:
    """Return the refund object that a stored event is about, or None for any other event."""
    report = event_report(kind, body)
    return None if report is None else EventHint(report.processor_refund_id, report.leg_id)


def event_subject(kind: str, body: str) -> EventSubject | None:
    """Return the refund that a stored event is about. Disputes cannot be asked for, so they have no subject."""
    report = event_report(kind, body)
    if report is None:
        return None
    return EventSubject("refund", report.processor_refund_id, report.payment_refs)


def _state(kind: str, item: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Return the status and the failure code that an event tells, or None if it reports no refund."""
    done, reason = item.get("success") == "true", item.get("reason")
    why = reason if isinstance(reason, str) else ""
    if kind == CANCEL_OR_REFUND:
        kind = REFUND if _was_refund(item) else ""
    match kind, done:
        case "REFUND", True:
            # Adyen has checked the refund and passed it on. The money arrives later, or comes back: see below.
            return "succeeded", None
        case "REFUND", False:
            return "failed", code_of_reason(why)
        case "REFUND_FAILED", True:  # `success` says that the failure is true (Adyen/adyen-magento#631)
            return (STATUS_TRIED_AGAIN, None) if is_tried_again(why) else ("failed", REJECTED_BY_SCHEME)
        case "REFUNDED_REVERSED", True:
            return "failed", REFUND_REVERSED
        case "POSTPONED_REFUND", True:
            return "pending", None
    return None


def _was_refund(item: Mapping[str, Any]) -> bool:
    """Return True if a reversal was a refund. Its kind is not signed; without it, only our reference makes it one."""
    additional = item.get("additionalData")
    action = additional.get(_ACTION) if isinstance(additional, dict) else None
    return action == "refund" or (action is None and marks_of(item.get("merchantReference")) != NOT_OURS)


def _refund_object(item: Mapping[str, Any], status: str, failure_code: str | None, *, live: bool) -> RefundObject:
    amount_minor, currency = to_our_minor(item.get("amount"))
    payment, marks = item.get("originalReference"), marks_of(item.get("merchantReference"))
    return RefundObject(
        processor_refund_id=item["pspReference"],
        status=status,
        amount_minor=amount_minor,
        currency=currency,
        payment_refs=(payment,) if is_psp_reference(payment) else (),
        leg_id=marks.leg_id,
        attempt=marks.attempt,
        failure_code=failure_code,
        created_at=_event_date(item),
        live=live,
        installation=marks.installation,
        details=_details(item, status),
    )


def _event_date(item: Mapping[str, Any]) -> datetime:
    """Return the time of the event: Adyen does not say when the refund was made. Without one, it is now."""
    text = item.get("eventDate")
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        at = None
    usable = at is not None and at.tzinfo is not None and 1970 < at.year < 9999
    return at.astimezone(UTC) if at is not None and usable else datetime.now(UTC)


def _details(item: Mapping[str, Any], status: str) -> RefundDetails:
    """Return where the money is. These values are not signed: they are shown, and decide nothing."""
    additional = item.get("additionalData")
    arn = additional.get(_ARN) if isinstance(additional, dict) else None
    method = item.get("paymentMethod")
    known = isinstance(arn, str) and _TRACE.fullmatch(arn) is not None and not has_card_number(arn)
    return RefundDetails(
        pending_reason="postponed_until_capture" if status == "pending" else None,
        method=method if isinstance(method, str) and _WORD.fullmatch(method) else None,
        trace_kind="acquirer_reference_number" if known else None,
        trace_value=arn if known and isinstance(arn, str) else None,
    )
