"""The JSON of the protocol: refunds, lists and payments, checked and translated into our types. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import PaymentReading, RefundDetails, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES, ObjectState
from refund_worker.processors.base import is_plain_id
from refund_worker.processors.wire import Unreadable, clean
from refund_worker.redaction import has_card_number

STATUSES: Final = frozenset(ObjectState)
ATTEMPT_MAX: Final = 999_999_999

_ID = re.compile(r"[!-~]{1,200}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_WORD = re.compile(r"[a-z0-9_]{1,60}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,99}")
# One that ends in an offset: a time without one is of an unknown zone.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")


def is_usable_id(value: object) -> bool:
    """Return True for an id that can be a part of a path: 1 to 200 visible ASCII characters, and no dot segment."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None and value not in (".", "..")


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, for an id that cannot be a part of a path."""
    if not is_usable_id(processor_payment_id):
        raise ValueError("must have 1 to 200 visible ASCII characters, without blanks, and be no dot segment")


def refund_body(order: RefundInstruction) -> dict[str, Any]:
    """Return the body that asks for a refund. It holds nothing that changes."""
    return {
        "payment": order.processor_payment_id,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "reason": order.reason,
        "ours": {
            "refund_id": order.refund_id,
            "leg_id": order.leg_id,
            "attempt": order.attempt,
            "installation": order.installation,
        },
    }


def to_refund_object(data: object) -> RefundObject:
    """Return a refund as the server describes it. Raises `Unreadable` if a required field is missing or wrong.

    An unknown status is passed on.
    """
    refund = _object(data, "a refund")
    identifier, payment, status = refund.get("id"), refund.get("payment"), refund.get("status")
    if not is_usable_id(identifier) or not isinstance(identifier, str):
        raise Unreadable("a refund without a usable id")
    if not is_plain_id(payment):
        raise Unreadable("a refund without the id of its payment")
    if not isinstance(status, str) or not status:
        raise Unreadable("a refund without a status")
    code, live = refund.get("failure_code"), refund.get("live")
    if not isinstance(code, str | None):
        raise Unreadable("a refund whose failure_code is no text")
    leg_id, attempt, installation = _our_ids(refund.get("ours"))
    return RefundObject(
        processor_refund_id=identifier,
        status=clean(status),
        amount_minor=_amount(refund, "amount_minor"),
        currency=_currency(refund),
        payment_refs=(payment,),
        leg_id=leg_id,
        attempt=attempt,
        failure_code=clean(code) if code and status in UNPAID_OBJECT_STATES else None,
        created_at=_time(refund.get("created_at")),
        live=live if isinstance(live, bool) else None,
        installation=installation,
        details=_details(refund, status),
    )


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list. `after` asks for the next page; the last page has none."""

    objects: tuple[RefundObject, ...]
    after: str | None


def to_page(data: object) -> ListPage:
    """Return one page of a list. Raises `Unreadable` for any malformed part.

    `next` must be there: a list that forgets it must not pass for a whole one.
    """
    page = _object(data, "a list")
    listed, following = page.get("data"), page.get("next", "")
    if not isinstance(listed, list):
        raise Unreadable("a list without data")
    if following is not None and not is_plain_id(following):
        raise Unreadable("a list without next: a text, or null on the last page")
    return ListPage(tuple(to_refund_object(each) for each in listed), following)


def to_payment(data: object, payment_id: str) -> PaymentReading:
    """Return a payment as the server describes it. Raises `Unreadable` if it is another one, or lacks a sum."""
    payment = _object(data, "a payment")
    if payment.get("id") != payment_id:
        raise Unreadable("another payment than the one that was asked for")
    live, disputed = payment.get("live"), payment.get("disputed")
    return PaymentReading(
        captured_minor=_amount(payment, "captured_minor"),
        currency=_currency(payment),
        live=live if isinstance(live, bool) else None,
        disputed=disputed if isinstance(disputed, bool) else None,
        refunded_minor=_amount(payment, "refunded_minor"),
    )


def _object(data: object, what: str) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise Unreadable(f"not {what}")
    return data


def _amount(described: Mapping[str, object], name: str) -> int:
    value = described.get(name)
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(value) is not int or not 0 <= value <= AMOUNT_MAX:
        raise Unreadable(f"{name} is no integer in minor units")
    return value


def _currency(described: Mapping[str, object]) -> str:
    value = described.get("currency")
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise Unreadable("currency is no code of three upper-case letters")
    return value


def _time(text: object) -> datetime:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise Unreadable("created_at is no time such as 2026-11-02T10:00:00Z")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable("created_at is no time that a calendar has") from None


def _our_ids(ours: object) -> tuple[str | None, int | None, str | None]:
    """Return leg, attempt and installation, None for each that cannot be ours: anyone may edit them there."""
    if not isinstance(ours, dict):
        return None, None, None
    leg_id, attempt, installation = (ours.get(name) for name in ("leg_id", "attempt", "installation"))
    return (
        leg_id if is_plain_id(leg_id) else None,
        attempt if type(attempt) is int and 0 < attempt <= ATTEMPT_MAX else None,
        installation if is_plain_id(installation) else None,
    )


def _details(refund: Mapping[str, object], status: str) -> RefundDetails:
    """Return where the money is. A part of an unknown shape is left out: it decides nothing and is only shown."""
    trace = refund.get("trace")
    fields = trace if isinstance(trace, dict) else {}
    value, kind = fields.get("value"), _word(fields.get("kind"))
    usable = isinstance(value, str) and _REFERENCE.fullmatch(value) and not has_card_number(value)
    shown = value if usable and isinstance(value, str) else None
    return RefundDetails(
        pending_reason=_word(refund.get("pending_reason")) if status == "pending" else None,
        method=_word(refund.get("method")),
        trace_kind=(kind or "reference") if shown else None,
        trace_value=shown,
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None
