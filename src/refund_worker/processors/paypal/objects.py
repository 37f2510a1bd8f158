"""PayPal's captures, orders and refunds: their JSON is checked and converted to our types. Pure.

Facts: payments_payment_v2.json 2.5 and checkout_orders_v2.json 2.13 (github paypal/paypal-rest-api-specifications),
read 2026-11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import PaymentReading, RefundDetails, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES
from refund_worker.processors.wire import Unreadable, clean, to_decimal_text, to_minor_units

# Not read on PayPal's own page: known, and stated by other vendors that name PayPal's page (read 2026-11).
CURRENCY_DECIMALS: Final[Mapping[str, int]] = {"HUF": 0, "JPY": 0, "TWD": 0}
STATUSES: Final[Mapping[str, str]] = {
    "COMPLETED": "succeeded",
    "PENDING": "pending",
    "FAILED": "failed",
    "CANCELLED": "canceled",
}
CUSTOM_ID_LENGTH_MAX: Final = 127
INVOICE_ID_LENGTH_MAX: Final = 127

# The first part of our `custom_id`. A refund in PayPal's dashboard may carry the shop's own text of the payment.
MARK: Final = "rw1"
SEPARATOR: Final = ","

# `related_ids` of the description gives this form for the ids of captures and orders.
OBJECT_ID: Final = re.compile(r"[A-Z0-9]{1,20}")
CURRENCY: Final = re.compile(r"[A-Z]{3}")
# A refund is returned with a `custom_id` of letters, digits and `-_.,`. The comma separates our ids.
_OUR_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_ATTEMPT = re.compile(r"[0-9]{1,9}")
_UP = re.compile(r"(?:https?://[^/?#]+)?/v[0-9]+/payments/captures?/([A-Z0-9]{1,20})/?")
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_TRACE = re.compile(r"[A-Za-z0-9]{1,36}")

# The statuses of a capture whose money came in. A pending one comes in later: a refund is then refused for now.
_CAPTURED: Final = frozenset({"COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED", "PENDING"})
_UNCAPTURED: Final = frozenset({"DECLINED", "FAILED"})
# Reasons of a capture's status: the payer complained at PayPal, or the bank took the money back.
_DISPUTE_REASONS: Final = frozenset({"BUYER_COMPLAINT", "CHARGEBACK"})
_VOID: Final = UNPAID_OBJECT_STATES


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, for an id that no capture can have."""
    if not OBJECT_ID.fullmatch(processor_payment_id):
        raise ValueError("at paypal is the id of a capture: at most 20 capital letters and digits")


def custom_id_of(order: RefundInstruction) -> str:
    """Return our four ids as one text: `rw1,LEG,ATTEMPT,INSTALLATION`, and the refund's id unless the leg's has it.

    Raises ValueError for ids that do not fit or could not be read back.
    """
    ids = [order.leg_id, str(order.attempt), order.installation]
    if not order.leg_id.startswith(f"{order.refund_id}-"):
        ids.append(order.refund_id)
    # The installation may be empty; the place of the others may not.
    if not all(_OUR_ID.fullmatch(text) or (text == "" and place == 2) for place, text in enumerate(ids)):
        raise ValueError("our ids have letters, digits and -_. only, at most 100 of them")
    text = SEPARATOR.join((MARK, *ids))
    if len(text) > CUSTOM_ID_LENGTH_MAX:
        raise ValueError(f"our ids together have more than {CUSTOM_ID_LENGTH_MAX} characters")
    return text


def our_ids(custom_id: object) -> tuple[str | None, int | None, str | None]:
    """Return leg, attempt and installation from a `custom_id` of ours; the values are None for any other text."""
    parts = custom_id.split(SEPARATOR) if isinstance(custom_id, str) else []
    if parts[:1] != [MARK] or len(parts) not in (4, 5):
        return None, None, None
    leg_id, attempt, installation = parts[1:4]
    if not _OUR_ID.fullmatch(leg_id) or not _ATTEMPT.fullmatch(attempt):
        return None, None, None
    return leg_id, int(attempt), installation if _OUR_ID.fullmatch(installation) else None


def invoice_id_of(order: RefundInstruction) -> str:
    """Return the invoice number of an attempt, which no other attempt ever has.

    PayPal refuses a second refund with it (DUPLICATE_INVOICE_ID), also after it has forgotten the key. So a restored
    database that repeats an attempt of long ago pays nothing twice.
    """
    text = f"{order.leg_id}.{order.attempt}"
    if len(text) > INVOICE_ID_LENGTH_MAX:
        raise ValueError(f"an invoice number has at most {INVOICE_ID_LENGTH_MAX} characters")
    return text


def frozen_body(order: RefundInstruction) -> str:
    """Return the capture and the request of a refund as canonical JSON.

    Raises ValueError for what PayPal cannot take: an id that no capture has, an amount below 1, decimals that the
    currency does not have there, or ids of ours that do not fit.
    """
    check_payment_id(order.processor_payment_id)
    if order.amount_minor < 1 or not CURRENCY.fullmatch(order.currency):
        raise ValueError("a refund has an amount of at least 1 minor unit and a currency")
    request = {
        "amount": {
            "currency_code": order.currency,
            "value": to_decimal_text(order.amount_minor, order.currency, CURRENCY_DECIMALS),
        },
        "custom_id": custom_id_of(order),
        "invoice_id": invoice_id_of(order),
    }
    return json.dumps({"capture": order.processor_payment_id, "request": request}, sort_keys=True, separators=_COMPACT)


_COMPACT: Final = (",", ":")


@dataclass(frozen=True, slots=True)
class FrozenBody:
    """The parts of a frozen body: the capture, the body of the request, and the values that the answer must repeat."""

    capture_id: str
    request: bytes
    amount_minor: int
    currency: str
    leg_id: str | None
    attempt: int | None

    @classmethod
    def of(cls, text: str) -> FrozenBody:
        """Return the parts of a frozen body. Raises ValueError for a text that `frozen_body` did not make."""
        try:
            whole = json.loads(text)
            request = whole["request"]
            capture_id, amount = whole["capture"], request["amount"]
            currency = amount["currency_code"]
            minor = to_minor_units(amount["value"], currency)
            leg_id, attempt, _ = our_ids(request["custom_id"])
            check_payment_id(capture_id)
        except (KeyError, TypeError, RecursionError):
            raise ValueError("this is no frozen body of a refund at paypal") from None
        body = json.dumps(request, sort_keys=True, separators=_COMPACT).encode()
        return cls(capture_id, body, minor, currency, leg_id, attempt)

    def fits(self, refund: RefundObject) -> bool:
        """Return False if the refund is the outcome of another request: then the key was used before, by mistake."""
        ours = (self.amount_minor, self.currency, self.leg_id, self.attempt)
        is_same = (refund.amount_minor, refund.currency, refund.leg_id, refund.attempt) == ours
        # An answer without our ids tells nothing about the request that it belongs to.
        return is_same or refund.leg_id is None


def to_refund_object(data: object, *, live: bool) -> RefundObject:
    """Return the refund that PayPal's JSON describes; `live` is the mode of the server that was asked.

    Raises `Unreadable` if it is not a refund or lacks a required field; a missing or unknown status is passed on.
    """
    if not isinstance(data, dict):
        raise Unreadable("not a refund")
    identifier, status = data.get("id"), data.get("status")
    if not isinstance(identifier, str) or not OBJECT_ID.fullmatch(identifier):
        raise Unreadable("a refund without a usable id")
    if not isinstance(status, str | None):
        raise Unreadable("a refund with a status that is no text")
    amount_minor, currency = _money(data.get("amount"))
    leg_id, attempt, installation = our_ids(data.get("custom_id"))
    ours = None if status is None else STATUSES.get(status, clean(status))
    reason = _reason(data)
    return RefundObject(
        processor_refund_id=identifier,
        status=ours,
        amount_minor=amount_minor,
        currency=currency,
        payment_refs=capture_refs(data),
        leg_id=leg_id,
        attempt=attempt,
        failure_code=reason if ours in _VOID else None,
        created_at=_time(data.get("create_time")),
        live=live,
        installation=installation,
        details=_details(data, reason if ours == "pending" else None),
    )


def capture_refs(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the capture that a refund's link `up` names, or nothing if it has no such link."""
    links = data.get("links")
    for link in links if isinstance(links, list) else ():
        href = link.get("href") if isinstance(link, dict) and link.get("rel") == "up" else None
        found = _UP.fullmatch(href) if isinstance(href, str) else None
        if found:
            return (found[1],)
    return ()


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured payment as PayPal describes it. `order_id` is None if it came without an order."""

    capture_id: str
    status: str
    amount_minor: int
    currency: str
    order_id: str | None
    disputed: bool | None

    def reading(self, *, live: bool, refunded_minor: int | None) -> PaymentReading:
        """Return what the engine compares with its own record."""
        captured = self.amount_minor if self.status in _CAPTURED else 0 if self.status in _UNCAPTURED else None
        return PaymentReading(
            captured_minor=captured,
            currency=self.currency,
            live=live,
            disputed=self.disputed,
            refunded_minor=refunded_minor,
        )

    @property
    def refunded_minor(self) -> int | None:
        """Return what was refunded if the status alone tells it, else None."""
        if self.status == "REFUNDED":
            return self.amount_minor
        return 0 if self.status in _CAPTURED | _UNCAPTURED and self.status != "PARTIALLY_REFUNDED" else None


def to_capture(data: object, capture_id: str) -> Capture:
    """Return the capture that PayPal's JSON describes. Raises `Unreadable`, also if it is another one."""
    if not isinstance(data, dict) or data.get("id") != capture_id:
        raise Unreadable("another capture than the one that was asked for")
    status = data.get("status")
    if not isinstance(status, str):
        raise Unreadable("a capture without a status")
    amount_minor, currency = _money(data.get("amount"))
    related = _mapping(_mapping(data.get("supplementary_data")).get("related_ids"))
    order_id = related.get("order_id")
    return Capture(
        capture_id=capture_id,
        status=status,
        amount_minor=amount_minor,
        currency=currency,
        order_id=order_id if isinstance(order_id, str) and OBJECT_ID.fullmatch(order_id) else None,
        disputed=True if _reason(data) in _DISPUTE_REASONS else None,
    )


def refunds_in_order(data: object, capture: Capture, *, live: bool) -> tuple[RefundObject, ...]:
    """Return the refunds of one capture that its order lists.

    Raises `Unreadable` if the order is another one, does not list the capture, lists a refund whose capture is not
    clear, or lists less than PayPal's own totals: then the list is not complete yet.
    """
    order = _mapping(data)
    if order.get("id") != capture.order_id:
        raise Unreadable("another order than the one that was asked for")
    captures, listed = _payments_of(order)
    ids = {entry.get("id") for entry in captures}
    if capture.capture_id not in ids:
        raise Unreadable("the order does not list the capture")
    found, totals = [], [0]
    for entry in listed:
        refund = to_refund_object(entry, live=live)
        if not refund.payment_refs and len(ids) > 1:
            raise Unreadable("an order of several captures lists a refund without its capture")
        if refund.payment_refs and capture.capture_id not in refund.payment_refs:
            continue
        if refund.currency != capture.currency:
            raise Unreadable("a refund in another currency than its capture")
        totals.append(_total_refunded(entry, capture.currency))
        found.append(refund)
    _check_complete(capture, found, max(totals))
    return tuple({refund.processor_refund_id: refund for refund in found}.values())


def _payments_of(order: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[object]]:
    """Return the captures and the refunds of all purchase units. Raises `Unreadable` for lists of another form."""
    units = order.get("purchase_units")
    if not isinstance(units, list):
        raise Unreadable("an order without purchase units")
    captures: list[Mapping[str, Any]] = []
    refunds: list[object] = []
    for unit in units:
        payments = _mapping(_mapping(unit).get("payments"))
        captures += [_mapping(entry) for entry in _list(payments, "captures")]
        refunds += _list(payments, "refunds")
    return captures, refunds


def _check_complete(capture: Capture, found: Sequence[RefundObject], total_minor: int) -> None:
    """Raise `Unreadable` if PayPal's totals say that the list lacks a refund.

    `total_minor` is the highest total that a listed refund itself reports: all refunds up to it, later failures
    included. The capture's status counts only refunds that have not failed.
    """
    listed = sum(refund.amount_minor for refund in found)
    alive = sum(refund.amount_minor for refund in found if refund.status not in _VOID)
    least = capture.amount_minor if capture.status == "REFUNDED" else 1 if capture.status == "PARTIALLY_REFUNDED" else 0
    if alive < least or listed < total_minor:
        raise Unreadable("the order lists less than was refunded: the list is not complete yet")


def _total_refunded(entry: object, currency: str) -> int:
    """Return the total that a refund reports for its capture, 0 if it reports none in the capture's currency."""
    total = _mapping(_mapping(entry).get("seller_payable_breakdown")).get("total_refunded_amount")
    if not isinstance(total, dict) or total.get("currency_code") != currency:
        return 0
    return to_minor_units(total.get("value"), currency)


def _details(data: Mapping[str, Any], pending_reason: str | None) -> RefundDetails:
    trace = data.get("acquirer_reference_number")
    if not isinstance(trace, str) or not _TRACE.fullmatch(trace):
        return RefundDetails(pending_reason=pending_reason)
    return RefundDetails(
        pending_reason=pending_reason,
        method="card",  # only card payments have this number
        trace_kind="acquirer_reference_number",
        trace_value=trace,
        trace_status="available",
    )


def _reason(data: Mapping[str, Any]) -> str | None:
    reason = _mapping(data.get("status_details")).get("reason")
    if not isinstance(reason, str) or not reason:
        return None
    return reason if _REASON.fullmatch(reason) else clean(reason)


def _money(value: object) -> tuple[int, str]:
    money = _mapping(value)
    currency = money.get("currency_code")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise Unreadable("an amount without a currency")
    return to_minor_units(money.get("value"), currency), currency


def _time(text: object) -> datetime:
    try:
        made = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        made = None
    if made is None or made.tzinfo is None:
        raise Unreadable("a refund without a usable time of creation")
    try:
        return made.astimezone(UTC)
    except OverflowError:
        raise Unreadable("a refund without a usable time of creation") from None


def _list(fields: Mapping[str, Any], name: str) -> Iterator[Any]:
    values = fields.get(name, [])
    if not isinstance(values, list):
        raise Unreadable(f"an order whose {name} are no list")
    return iter(values)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
