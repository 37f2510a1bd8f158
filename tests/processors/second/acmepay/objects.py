"""AcmePay's refunds, lists and payments as they come in JSON, checked and translated into our types. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from refund_worker.domain.money import AMOUNT_MAX, decimal_places
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import PaymentReading, RefundObject
from refund_worker.processors.base import is_plain_id
from refund_worker.redaction import to_redacted

TEXT_LENGTH_MAX: Final = 500
# Ours, in a refund's labels.
REFUND, LEG, ATTEMPT, INSTALLATION = "rf", "leg", "try", "inst"
STATUSES: Final[Mapping[str, str]] = {
    "OPEN": "pending",
    "ASK": "requires_action",
    "DONE": "succeeded",
    "FAILED": "failed",
    "VOID": "canceled",
}

_PAYMENT_ID = re.compile(r"AP-[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,3})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Unreadable(ValueError):
    """An answer that does not say what it should: what happened is unknown."""


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, for what is no payment of AcmePay's."""
    if not _PAYMENT_ID.fullmatch(processor_payment_id):
        raise ValueError("at acmepay begins with AP- and has digits only")


def clean(text: object) -> str:
    """Return a text of the server's, fit to store and show."""
    if not isinstance(text, str):
        return ""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * TEXT_LENGTH_MAX])
    return to_redacted(printable)[:TEXT_LENGTH_MAX]


def decimal_text(amount_minor: int, currency: str) -> str:
    """Return an amount in minor units as AcmePay writes it: 1250 GBP is "12.50", 600 JPY is "600"."""
    return str(Decimal(amount_minor).scaleb(-decimal_places(currency)))


def minor_units(text: object, currency: str) -> int:
    """Return AcmePay's amount in minor units. Raises `Unreadable` for what is no whole number of them."""
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise Unreadable("an amount that is no decimal text")
    amount = Decimal(text).scaleb(decimal_places(currency))
    if amount != amount.to_integral_value() or amount > AMOUNT_MAX:
        raise Unreadable("an amount that is no whole number of minor units")
    return int(amount)


def refund_body(order: RefundInstruction) -> dict[str, Any]:
    """Return the body that asks for a refund. It holds nothing that changes."""
    labels = {REFUND: order.refund_id, LEG: order.leg_id, ATTEMPT: str(order.attempt)}
    if order.installation:
        labels[INSTALLATION] = order.installation
    return {
        "payment": order.processor_payment_id,
        "value": decimal_text(order.amount_minor, order.currency),
        "currency": order.currency,
        "labels": labels,
    }


def to_refund_object(data: object) -> RefundObject:
    """Return a refund as AcmePay describes it. Raises `Unreadable` if a required field is missing."""
    refund = _of_kind(data, "refund")
    reference, payment, state = refund.get("ref"), refund.get("payment"), refund.get("state")
    if not is_plain_id(reference):
        raise Unreadable("a refund without a usable id")
    if not isinstance(state, str | None):
        raise Unreadable("a refund whose state is no text")
    currency = _currency(refund)
    status = None if state is None else STATUSES.get(state, clean(state))
    labels = refund["labels"] if isinstance(refund.get("labels"), dict) else {}
    attempt = labels.get(ATTEMPT)
    cause = clean(refund.get("cause"))
    return RefundObject(
        processor_refund_id=reference,
        status=status,
        amount_minor=minor_units(refund.get("value"), currency),
        currency=currency,
        payment_refs=(payment,) if is_plain_id(payment) else (),
        leg_id=_ours(labels.get(LEG)),
        attempt=int(attempt) if isinstance(attempt, str) and re.fullmatch("[0-9]{1,9}", attempt) else None,
        failure_code=cause or None,
        created_at=_time(refund.get("made")),
        live=_live(refund),
        installation=_ours(labels.get(INSTALLATION)),
    )


def to_page(data: object) -> tuple[list[RefundObject], str | None]:
    """Return the refunds of one page, and where the next one begins; None behind the last page."""
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
        captured_minor=minor_units(payment.get("captured"), currency),
        currency=currency,
        live=_live(payment),
        disputed=contested if isinstance(contested, bool) else None,
        refunded_minor=minor_units(payment.get("returned"), currency),
    )


def _of_kind(data: object, kind: str) -> dict[str, Any]:
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise Unreadable(f"not of kind {kind}")
    return data


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
