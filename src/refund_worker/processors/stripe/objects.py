"""Stripe's refund objects and lists: their JSON is checked and converted to our types. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_replies import RefundDetails, RefundObject
from refund_worker.processors.wire import Unreadable, clean
from refund_worker.redaction import has_card_number, masked_email

METADATA_REFUND: Final = "refund_worker_refund"
METADATA_LEG: Final = "refund_worker_leg"
METADATA_ATTEMPT: Final = "refund_worker_attempt"
METADATA_INSTALLATION: Final = "refund_worker_installation"
CREATED_MAX: Final = 253_402_300_800  # the year 10000, where datetime ends

OPAQUE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
CURRENCY: Final = re.compile(r"[A-Za-z]{3}")
# Charges (`py_…` are charges too) and payment intents. Stripe's own ids have no hyphen; those of compatible servers
# may.
_PAYMENT_ID = re.compile(r"(ch|py|pi)_[A-Za-z0-9_-]{1,250}")
_PARAMETERS: Final = {"ch": "charge", "py": "charge", "pi": "payment_intent"}
# Stripe's own words: `insufficient_funds`, `us_bank_transfer`, `acquirer_reference_number`.
_WORD = re.compile(r"[a-z0-9_]{1,60}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,99}")
_STATEMENTS: Final = {"refund": "credit", "reversal": "vanishes"}
_ATTEMPT = re.compile(r"[0-9]{1,9}")


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, unless the id is one of a charge or a payment intent."""
    payment_parameter(processor_payment_id)


def payment_parameter(processor_payment_id: str) -> str:
    """Return the parameter that names this payment in a refund. Raises ValueError as `check_payment_id` does."""
    # Check this first: a client secret lets its holder pay in the customer's name, so it is never sent or repeated.
    if "_secret_" in processor_payment_id:
        raise ValueError("is a client secret and no payment: send only what stands before _secret_")
    found = _PAYMENT_ID.fullmatch(processor_payment_id)
    if found is None:
        raise ValueError("at stripe begins with ch_, py_ or pi_ and has letters, digits, _ and - only")
    return _PARAMETERS[found[1]]


def to_refund_object(data: object) -> RefundObject:
    """Return the refund that Stripe's JSON describes.

    Raises `Unreadable` if it is not a refund or lacks a required field; a null or unknown status is passed on.
    """
    if not isinstance(data, dict) or data.get("object") != "refund":
        raise Unreadable("not a refund object")
    identifier, amount, created, currency = (data.get(name) for name in ("id", "amount", "created", "currency"))
    status, failure_reason = data.get("status"), data.get("failure_reason")
    if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
        raise Unreadable("a refund object without a usable id")
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
        raise Unreadable("a refund object whose amount is not a whole number of minor units")
    if type(created) is not int or not 0 <= created < CREATED_MAX:
        raise Unreadable("a refund object without a usable time of creation")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise Unreadable("a refund object without a currency")
    if not isinstance(status, str | None):
        raise Unreadable("a refund object whose status is no text")
    leg_id, attempt, installation = our_marks(data.get("metadata"))
    live = data.get("livemode")
    return RefundObject(
        processor_refund_id=identifier,
        status=None if status is None else clean(status),
        amount_minor=amount,
        currency=currency.upper(),
        payment_refs=payment_refs(data),
        leg_id=leg_id,
        attempt=attempt,
        failure_code=clean(failure_reason) if isinstance(failure_reason, str) else None,
        created_at=datetime.fromtimestamp(created, UTC),
        live=live if isinstance(live, bool) else None,
        installation=installation,
        details=_details(data, status),
    )


def _details(data: Mapping[str, object], status: str | None) -> RefundDetails:
    """Return where the money is. Each part of an unknown shape is left out: it decides nothing and is only shown."""
    reason = data.get("pending_reason")
    destination = _mapping(data.get("destination_details"))
    method = _word(destination.get("type"))
    of_method = _mapping(destination.get(method)) if method else {}
    kind, reached = _word(of_method.get("reference_type")), _word(of_method.get("reference_status"))
    value = reference(of_method.get("reference"))
    emailed_to, emailed_at, act_by = _customer_action(data) if status == "requires_action" else (None, None, None)
    return RefundDetails(
        pending_reason=_word(reason) if status == "pending" else None,
        method=method,
        # A payment that is reversed before it was settled vanishes from the statement. `pending`: not known yet.
        statement=_STATEMENTS.get(_word(of_method.get("type")) or "") if method == "card" else None,
        trace_kind=kind or method if value or reached else None,
        trace_value=value,
        trace_status=reached,
        emailed_to=emailed_to,
        emailed_at=emailed_at,
        act_by=act_by,
    )


def _customer_action(data: Mapping[str, object]) -> tuple[str | None, float | None, float | None]:
    """Return to whom Stripe wrote (masked), when, and until when the customer can act."""
    shown = _mapping(_mapping(data.get("next_action")).get("display_details"))
    sent = _mapping(shown.get("email_sent"))
    # A refund that was created with `instructions_email` names it too.
    address = sent.get("email_sent_to") or data.get("instructions_email")
    masked = clean(masked_email(address)) if isinstance(address, str) and address else None
    return masked, moment(sent.get("email_sent_at")), moment(shown.get("expires_at"))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def reference(value: object) -> str | None:
    """Return a reference of the bank. It is shown and searched for, so it is plain, short and no card number."""
    usable = isinstance(value, str) and _REFERENCE.fullmatch(value) and not has_card_number(value)
    return value if usable and isinstance(value, str) else None


def moment(value: object) -> float | None:
    """Return the value as a time in epoch seconds, or None if it cannot be one."""
    return float(value) if type(value) is int and 0 < value < CREATED_MAX else None


def our_marks(metadata: object) -> tuple[str | None, int | None, str | None]:
    """Return the leg, the attempt and the installation that we wrote into the metadata, as far as they can be ours."""
    if not isinstance(metadata, dict):
        return None, None, None
    leg_id, attempt, installation = (
        metadata.get(name) for name in (METADATA_LEG, METADATA_ATTEMPT, METADATA_INSTALLATION)
    )
    return (
        _ours(leg_id),
        int(attempt) if isinstance(attempt, str) and _ATTEMPT.fullmatch(attempt) else None,
        _ours(installation),
    )


def mark_of_installation(described: Mapping[str, object]) -> str | None:
    """Return the installation of ours that made the object, as its metadata say, or None."""
    return our_marks(described.get("metadata"))[2]


def _ours(mark: object) -> str | None:
    """Return the mark if it can be an id of ours, else None.

    Every user of the account can write metadata, and a database refuses some characters.
    """
    return mark if isinstance(mark, str) and OPAQUE_ID.fullmatch(mark) else None


def payment_refs(described: Mapping[str, object]) -> tuple[str, ...]:
    """Return the ids of the charge and the payment intent that an object names, as far as it names them."""
    return tuple(ref for ref in (_id_of(described.get("charge")), _id_of(described.get("payment_intent"))) if ref)


def _id_of(reference: object) -> str | None:
    """Return the id of a reference that is given as an id, or expanded to the object itself."""
    if isinstance(reference, dict):
        reference = reference.get("id")
    return reference if isinstance(reference, str) and reference else None
