"""AcmePay's JSON, checked and translated into our types, and our requests. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.processors.adapter_api import (
    PaymentReading,
    RefundDetails,
    RefundInstruction,
    RefundObject,
    Unreadable,
    clean,
    is_plain_id,
    to_decimal_text,
    to_minor_units,
)

DECIMALS: Final[Mapping[str, int]] = {"JPY": 0}  # of AcmePay's amounts, where they are not 2
KEY_LENGTH_MAX: Final = 40
LABEL_LENGTH_MAX: Final = 60
# Ours, in a refund's labels.
REFUND, LEG, ATTEMPT, INSTALLATION = "rf", "leg", "try", "inst"
STATUSES: Final[Mapping[str, str]] = {
    "OPEN": "pending",
    "ASK": "requires_action",
    "DONE": "succeeded",
    "FAILED": "failed",
    "VOID": "canceled",
}

# Payments and refunds. What is checked before a call and what is read from an answer must agree: an id that is read
# and could not be asked for would be a refund whose end is never known.
PAYMENT_ID: Final = re.compile(r"AP-[0-9]{1,18}")
REFUND_ID: Final = re.compile(r"RF-[0-9]{1,18}")
_KEY = re.compile(rf"[A-Za-z0-9:_-]{{1,{KEY_LENGTH_MAX}}}")
_CURRENCY = re.compile(r"[A-Z]{3}")


# --- requests ---------------------------------------------------------------------------------------------------------


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, for what is no payment of AcmePay's."""
    if not PAYMENT_ID.fullmatch(processor_payment_id):
        raise ValueError("at acmepay begins with AP- and has digits only")


def request_id(key: str) -> str:
    """Return our key as AcmePay takes it: itself, or its hash if it is too long or has other characters."""
    return key if _KEY.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest()[:KEY_LENGTH_MAX]


def frozen_text(order: RefundInstruction) -> str:
    """Return the text that is stored for an order: the same for the same order. Raises ValueError."""
    check_payment_id(order.processor_payment_id)
    labels = {REFUND: order.refund_id, LEG: order.leg_id, ATTEMPT: str(order.attempt)}
    if order.installation:
        labels[INSTALLATION] = order.installation
    if any(len(label) > LABEL_LENGTH_MAX for label in labels.values()):
        raise ValueError("an id of ours does not fit into a label of AcmePay")
    # The payment is part of the path, so the stored text holds it beside the body.
    body = {
        "value": to_decimal_text(order.amount_minor, order.currency, DECIMALS),
        "currency": order.currency,
        "labels": labels,
    }
    return _canonical({"payment": order.processor_payment_id, "body": body})


def thawed(text: str) -> tuple[str, bytes]:
    """Return the payment and the body of the request in a stored text."""
    stored = json.loads(text)
    return stored["payment"], _canonical(stored["body"]).encode()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- answers ----------------------------------------------------------------------------------------------------------


def to_refund_object(data: object) -> RefundObject:
    """Return a refund as AcmePay describes it. Raises `Unreadable` if a required field is missing."""
    refund = _of_kind(data, "refund")
    payment, state, cause = refund.get("payment"), refund.get("state"), refund.get("cause")
    if not isinstance(state, str | None):
        raise Unreadable("a refund with a state that is no text")
    currency = _currency(refund)
    labels = refund["labels"] if isinstance(refund.get("labels"), dict) else {}
    attempt = labels.get(ATTEMPT)
    return RefundObject(
        processor_refund_id=_id(refund.get("ref"), REFUND_ID),
        status=None if state is None else STATUSES.get(state, clean(state)),
        amount_minor=to_minor_units(refund.get("value"), currency),
        currency=currency,
        payment_refs=(_id(payment, PAYMENT_ID),),
        leg_id=_ours(labels.get(LEG)),
        attempt=int(attempt) if isinstance(attempt, str) and re.fullmatch("[0-9]{1,9}", attempt) else None,
        failure_code=clean(cause) if isinstance(cause, str) and cause else None,
        created_at=_time(refund.get("made")),
        live=_live(refund),
        installation=_ours(labels.get(INSTALLATION)),
        details=_details(refund.get("bank_ref")),
    )


def to_page(data: object) -> tuple[list[RefundObject], str | None]:
    """Return the refunds of one page, and where the next one begins; None after the last page."""
    page = _of_kind(data, "refunds")
    items, following = page.get("items"), page.get("next")
    if not isinstance(items, list) or not (following is None or is_plain_id(following)):
        raise Unreadable("a page without items, or without saying whether there are more")
    return [to_refund_object(item) for item in items], following


def to_payment(data: object, reference: str) -> PaymentReading:
    """Return what AcmePay says of a payment. Raises `Unreadable` if it is another one."""
    payment = _of_kind(data, "payment")
    if payment.get("ref") != reference:
        raise Unreadable("another payment than the one that was asked for")
    currency, contested = _currency(payment), payment.get("contested")
    return PaymentReading(
        captured_minor=to_minor_units(payment.get("captured"), currency),
        currency=currency,
        live=_live(payment),
        disputed=contested if isinstance(contested, bool) else None,
        refunded_minor=to_minor_units(payment.get("returned"), currency),
    )


def _details(bank_ref: object) -> RefundDetails:
    """Return where the money is: the number by which the customer's bank finds it, once AcmePay knows it."""
    if not is_plain_id(bank_ref):
        return RefundDetails(method="card")
    return RefundDetails(method="card", trace_kind="bank_ref", trace_value=clean(bank_ref), trace_status="available")


def _of_kind(data: object, kind: str) -> dict[str, Any]:
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise Unreadable(f"not of kind {kind}")
    return data


def _id(value: object, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise Unreadable("a refund without a usable id of itself or of its payment")
    return value


def _currency(data: Mapping[str, Any]) -> str:
    value = data.get("currency")
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise Unreadable("no currency")
    return value


def _time(text: object) -> datetime:
    try:
        made = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        made = None
    if made is None or made.tzinfo is None:
        raise Unreadable("a refund without a usable time")
    return made.astimezone(UTC)


def _live(data: Mapping[str, Any]) -> bool | None:
    return {"live": True, "test": False}.get(str(data.get("mode")))


def _ours(label: object) -> str | None:
    return label if is_plain_id(label) else None
