"""Stripe's charges and payment intents: their JSON is checked and converted to our types. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_replies import ChargedPayment, PaymentReading
from refund_worker.processors.stripe.objects import CREATED_MAX, CURRENCY, OPAQUE_ID
from refund_worker.processors.wire import Unreadable

# The server has no such path, or our key may not read it: some servers answer 405 and 501 instead of 404.
NO_SUCH_PATH: Final = frozenset({403, 404, 405, 501})
MISSING: Final = "resource_missing"
# Status of a dispute (docs.stripe.com/api/disputes/object, read 2026-11): an inquiry, or ended in our favour.
OPEN_TO_REFUNDS: Final = frozenset(
    {"warning_needs_response", "warning_under_review", "warning_closed", "won", "prevented"}
)


def charge_reading(data: object, reference: str) -> PaymentReading:
    """Return the values of a charge. Raises `Unreadable` for another object than charge `reference`, or without
    sums.

    `reference` is the requested id; "" if the charge is part of a payment intent.
    """
    charge = _object(data, "charge", reference)
    disputed = charge.get("disputed")
    return PaymentReading(
        captured_minor=_captured(charge),
        currency=_currency(charge),
        live=_flag(charge, "livemode"),
        disputed=disputed if isinstance(disputed, bool) else None,
        refunded_minor=_amount(charge, "amount_refunded"),
    )


def intent_reading(data: object, reference: str) -> tuple[PaymentReading, str | None]:
    """Return the values of a payment intent, and the id of its charge if the charge must be fetched separately."""
    intent = _object(data, "payment_intent", reference)
    charge = intent.get("latest_charge")
    if isinstance(charge, dict):
        return charge_reading(charge, ""), None
    reading = PaymentReading(_amount(intent, "amount_received"), _currency(intent), _flag(intent, "livemode"))
    return reading, charge if isinstance(charge, str) and OPAQUE_ID.fullmatch(charge) else None


def names_of_payment(data: object) -> tuple[str, ...]:
    """Return the ids of a charge and of its payment intent, as far as one of the two objects has them."""
    payment = data if isinstance(data, dict) else {}
    other = payment.get("payment_intent" if payment.get("object") == "charge" else "latest_charge")
    ids = (payment.get("id"), other.get("id") if isinstance(other, dict) else other)
    usable = (each for each in ids if isinstance(each, str) and OPAQUE_ID.fullmatch(each))
    return tuple(dict.fromkeys(usable))


def charged_payment(data: object) -> ChargedPayment:
    """Return the payment of a charge with its metadata and, if it is expanded, with that of its payment intent.

    Raises `Unreadable` for anything but a charge with an id, sums, a currency and a time.
    """
    charge = _object(data, "charge", "")
    identifier, created = charge.get("id"), charge.get("created")
    if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
        raise Unreadable("a charge without a usable id")
    if type(created) is not int or not 0 <= created < CREATED_MAX:
        raise Unreadable("a charge without a usable time of creation")
    intent = charge.get("payment_intent")
    return ChargedPayment(
        processor_payment_id=identifier,
        payment_refs=names_of_payment(charge),
        captured_minor=_captured(charge),
        refunded_minor=_amount(charge, "amount_refunded"),
        currency=_currency(charge),
        succeeded=charge.get("status", "succeeded") == "succeeded" and charge.get("paid", True) is True,
        created_at=datetime.fromtimestamp(created, UTC),
        metadata=tuple(_texts(each.get("metadata")) for each in (charge, intent) if isinstance(each, dict)),
        complete=not isinstance(intent, str),
    )


def _texts(metadata: object) -> dict[str, str]:
    found = metadata.items() if isinstance(metadata, dict) else ()
    return {key: value for key, value in found if isinstance(key, str) and isinstance(value, str)}


def blocks_refunds(data: object) -> bool:
    """Return True if a list of a payment's disputes contains one that blocks refunds, or is not usable.

    A charge stays `disputed` after a won dispute. It is `disputed` from an inquiry on, and the best reply to an
    inquiry is a refund.
    """
    listed = data.get("data") if isinstance(data, dict) and data.get("object") == "list" else None
    if not isinstance(listed, list) or not listed:
        return True
    return any(not isinstance(each, dict) or each.get("status") not in OPEN_TO_REFUNDS for each in listed)


def is_no_way_to_read(status: int, code: str, param: str) -> bool:
    """Return True if an error answer means that payments cannot be read there at all, not that this one is missing.

    Stripe names the parameter of a missing object, and gives neither code nor parameter for an unknown path.
    """
    if status == 400:  # `expand` is our only parameter
        return param.startswith("expand")
    return status in NO_SUCH_PATH and not (code == MISSING and param)


def _object(data: object, kind: str, reference: str) -> dict[str, Any]:
    if not isinstance(data, dict) or data.get("object") != kind:
        raise Unreadable(f"not a {kind}")
    if reference and data.get("id") != reference:
        raise Unreadable(f"another {kind} than the one that was asked for")
    return data


def _captured(charge: dict[str, Any]) -> int:
    """Return the captured amount. Older API versions have no `amount_captured`: a charge is captured fully or not at
    all.
    """
    if "amount_captured" in charge:
        return _amount(charge, "amount_captured")
    return _amount(charge, "amount") if charge.get("captured") is True else 0


def _amount(refund_object: dict[str, Any], name: str) -> int:
    value = refund_object.get(name)
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(value) is not int or not 0 <= value <= AMOUNT_MAX:
        raise Unreadable(f"a payment whose {name} is not a whole number of minor units")
    return value


def _currency(refund_object: dict[str, Any]) -> str:
    value = refund_object.get("currency")
    if not isinstance(value, str) or not CURRENCY.fullmatch(value):
        raise Unreadable("a payment without a currency")
    return value.upper()


def _flag(refund_object: dict[str, Any], name: str) -> bool | None:
    value = refund_object.get(name)
    return value if isinstance(value, bool) else None
