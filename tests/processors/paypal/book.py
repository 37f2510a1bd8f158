"""The book of the local PayPal: orders, captures, refunds and idempotency keys, with a clock that moves."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

DAY = 86_400.0
KEY_SECONDS = 45 * DAY
WINDOW_SECONDS = 180 * DAY
VOID = frozenset({"FAILED", "CANCELLED"})
NO_DECIMALS = frozenset({"HUF", "JPY", "TWD"})
# Issue → HTTP status, where it is not 422.
STATUS_OF_ISSUE = {
    "INVALID_PARAMETER_SYNTAX": 400,
    "INVALID_STRING_LENGTH": 400,
    "MISSING_REQUIRED_PARAMETER": 400,
    "MALFORMED_REQUEST_JSON": 400,
    "INVALID_ACCOUNT_STATUS": 401,
    "PERMISSION_DENIED": 403,
    "INVALID_RESOURCE_ID": 404,
    "PREVIOUS_REQUEST_IN_PROGRESS": 409,
}


class Refusal(Exception):
    """An issue that PayPal answers with."""

    def __init__(self, issue: str, field_name: str = "") -> None:
        super().__init__(issue)
        self.issue = issue
        self.field = field_name

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return STATUS_OF_ISSUE.get(self.issue, 422)


@dataclass
class Capture:
    """A captured payment. `disputed` is "", "case" (an open case at PayPal) or "chargeback"."""

    capture_id: str
    order_id: str | None
    amount: Decimal
    currency: str
    captured_at: float
    custom_id: str | None = None
    disputed: str = ""
    state: str = ""  # PENDING, DECLINED or FAILED; otherwise what its refunds make of it
    reason: str | None = None


@dataclass
class Refund:
    """A refund. `total` is what was refunded of the capture with it, failed ones included."""

    refund_id: str
    capture: Capture
    amount: Decimal
    made_at: float
    changed_at: float
    custom_id: str | None
    invoice_id: str | None
    total: Decimal
    status: str = "COMPLETED"
    reason: str | None = None
    trace: str | None = None


@dataclass
class Stored:
    """A request under a key: when it came, and the refund or the issue that it led to."""

    at: float
    refund: Refund | None = None
    refusal: Refusal | None = None


@dataclass
class Book:
    """What the local PayPal knows. `balance` limits refunds by currency where it has one."""

    captures: dict[str, Capture] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    keys: dict[str, Stored] = field(default_factory=dict)
    faults: defaultdict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    balance: dict[str, Decimal] = field(default_factory=dict)
    clock_offset: float = 0.0
    forgotten_orders: set[str] = field(default_factory=set)
    lag_seconds: float = 0.0  # an order lists a refund this late; a capture's status knows it at once
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return time.time() + self.clock_offset

    def new_id(self, prefix: str) -> str:
        """Return an id of PayPal's form: 17 capital letters and digits."""
        return f"{prefix}{next(self._numbers):014d}"

    def new_capture(
        self,
        amount: str,
        currency: str = "GBP",
        *,
        order_id: str | None = "",
        disputed: str = "",
        state: str = "",
        reason: str | None = None,
        custom_id: str | None = "shop-4711",
    ) -> Capture:
        """Capture a payment: for a new order, for the one that is named, or with None for no order at all."""
        made = Capture(
            capture_id=self.new_id("CAP"),
            order_id=self.new_id("ORD") if order_id == "" else order_id,
            amount=Decimal(amount),
            currency=currency,
            captured_at=self.now(),
            custom_id=custom_id,
            disputed=disputed,
            state=state,
            reason=reason,
        )
        self.captures[made.capture_id] = made
        return made

    def refunds_of(self, capture: Capture) -> list[Refund]:
        """Return the refunds of a capture, failed ones included."""
        return [refund for refund in self.refunds.values() if refund.capture is capture]

    def refunded(self, capture: Capture) -> Decimal:
        """Return how much of a capture is refunded, or will be."""
        return sum((r.amount for r in self.refunds_of(capture) if r.status not in VOID), Decimal(0))

    def request(self, key: str, capture_id: str, order: dict[str, Any], status: str) -> tuple[Refund, bool]:
        """Return the refund of a request under a key, and whether it was made before. Raises `Refusal`.

        The body of a repeat is not compared: nothing that PayPal publishes says that it is. A refusal is kept too.
        """
        known = self.keys.get(key)
        if known is not None and self.now() - known.at < KEY_SECONDS:
            if known.refusal is not None:
                raise known.refusal
            assert known.refund is not None
            return known.refund, True
        stored = self.keys[key] = Stored(self.now())
        try:
            stored.refund = self._checked(capture_id, order, status)
        except Refusal as refusal:
            stored.refusal = refusal
            raise
        return stored.refund, False

    def refund(
        self, capture: Capture, amount: Decimal, order: dict[str, Any] | None = None, status: str = "COMPLETED"
    ) -> Refund:
        """Make a refund without any check. Without an `order` it is made in the dashboard, and has the shop's text."""
        order = {"custom_id": capture.custom_id} if order is None else order
        earlier = sum((each.amount for each in self.refunds_of(capture)), Decimal(0))
        made = Refund(
            refund_id=self.new_id("RFD"),
            capture=capture,
            amount=amount,
            made_at=self.now(),
            changed_at=self.now(),
            custom_id=order.get("custom_id"),
            invoice_id=order.get("invoice_id"),
            total=earlier + amount,
            status=status,
        )
        self.refunds[made.refund_id] = made
        if capture.currency in self.balance:
            self.balance[capture.currency] -= amount
        return made

    def change(self, refund_id: str, status: str, reason: str | None = None) -> Refund:
        """Give a refund another status."""
        refund = self.refunds[refund_id]
        refund.status, refund.reason, refund.changed_at = status, reason, self.now()
        return refund

    def _checked(self, capture_id: str, order: dict[str, Any], status: str) -> Refund:
        capture = self.captures.get(capture_id)
        if capture is None:
            raise Refusal("INVALID_RESOURCE_ID", "capture_id")
        left = capture.amount - self.refunded(capture)
        amount = self._amount(capture, order, left)
        is_part = amount < capture.amount
        checks = {
            "PENDING_CAPTURE": capture.state == "PENDING",
            "REFUND_NOT_ALLOWED": capture.state in ("DECLINED", "FAILED"),
            "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK": capture.disputed == "chargeback",
            "TRANSACTION_DISPUTED": capture.disputed == "case" and is_part,
            "REFUND_TIME_LIMIT_EXCEEDED": self.now() - capture.captured_at > WINDOW_SECONDS,
            "CAPTURE_FULLY_REFUNDED": left == 0,
            "REFUND_AMOUNT_EXCEEDED": amount > left,
            "DUPLICATE_INVOICE_ID": self._knows_invoice(capture, order),
            "REFUND_FAILED_INSUFFICIENT_FUNDS": amount > self.balance.get(capture.currency, amount),
        }
        for issue, applies in checks.items():
            if applies:
                raise Refusal(issue)
        return self.refund(capture, amount, order, status)

    def _knows_invoice(self, capture: Capture, order: dict[str, Any]) -> bool:
        """Nothing published says among which refunds an invoice number is unique: here, among those of the capture."""
        invoice_id = order.get("invoice_id")
        return invoice_id is not None and any(each.invoice_id == invoice_id for each in self.refunds_of(capture))

    def _amount(self, capture: Capture, order: dict[str, Any], left: Decimal) -> Decimal:
        money = order.get("amount")
        if money is None:
            return left
        if money["currency_code"] != capture.currency:
            raise Refusal("REFUND_CAPTURE_CURRENCY_MISMATCH", "/amount/currency_code")
        amount = Decimal(money["value"])
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int)
        if capture.currency in NO_DECIMALS and exponent < 0:
            raise Refusal("DECIMALS_NOT_SUPPORTED", "/amount/value")
        if exponent < -2:
            raise Refusal("DECIMAL_PRECISION", "/amount/value")
        if amount <= 0:
            raise Refusal("CANNOT_BE_ZERO_OR_NEGATIVE", "/amount/value")
        return amount


# --- what the API shows -----------------------------------------------------------------------------------------------


def capture_json(book: Book, capture: Capture, base: str, *, in_order: bool = False) -> dict[str, Any]:
    """Return a capture as the API shows it; in an order, without its related ids."""
    refunded = book.refunded(capture)
    status = capture.state or (
        "COMPLETED" if not refunded else "REFUNDED" if refunded >= capture.amount else "PARTIALLY_REFUNDED"
    )
    shown: dict[str, Any] = {
        "id": capture.capture_id,
        "status": status,
        "amount": _money(capture.amount, capture.currency),
        "final_capture": True,
        "seller_protection": {"status": "ELIGIBLE", "dispute_categories": ["ITEM_NOT_RECEIVED"]},
        "create_time": _time(capture.captured_at),
        "update_time": _time(capture.captured_at),
        "links": [
            _link(f"{base}/v2/payments/captures/{capture.capture_id}", "self"),
            _link(f"{base}/v2/payments/captures/{capture.capture_id}/refund", "refund", "POST"),
        ],
    }
    if capture.reason:
        shown["status_details"] = {"reason": capture.reason}
    if capture.custom_id:
        shown["custom_id"] = capture.custom_id
    if capture.order_id:
        shown["links"].append(_link(f"{base}/v2/checkout/orders/{capture.order_id}", "up"))
        if not in_order:
            shown["supplementary_data"] = {"related_ids": {"order_id": capture.order_id}}
    return shown


def refund_json(refund: Refund, base: str, *, minimal: bool = False) -> dict[str, Any]:
    """Return a refund as the API shows it; the minimal form is PayPal's answer without a preference."""
    currency = refund.capture.currency
    links = [
        _link(f"{base}/v2/payments/refunds/{refund.refund_id}", "self"),
        _link(f"{base}/v2/payments/captures/{refund.capture.capture_id}", "up"),
    ]
    if minimal:
        return {"id": refund.refund_id, "status": refund.status, "links": links}
    shown: dict[str, Any] = {
        "id": refund.refund_id,
        "status": refund.status,
        "amount": _money(refund.amount, currency),
        "seller_payable_breakdown": {
            "gross_amount": _money(refund.amount, currency),
            "paypal_fee": _money(Decimal(0), currency),
            "net_amount": _money(refund.amount, currency),
            "total_refunded_amount": _money(refund.total, currency),
        },
        "create_time": _time(refund.made_at),
        "update_time": _time(refund.changed_at),
        "links": links,
    }
    if refund.reason:
        shown["status_details"] = {"reason": refund.reason}
    optional = {
        "custom_id": refund.custom_id,
        "invoice_id": refund.invoice_id,
        "acquirer_reference_number": refund.trace,
    }
    return shown | {name: value for name, value in optional.items() if value}


def order_json(book: Book, order_id: str, base: str) -> dict[str, Any] | None:
    """Return an order with its captures and, as far as they are listed by now, their refunds. None: no such order."""
    captures = [capture for capture in book.captures.values() if capture.order_id == order_id]
    if not captures:
        return None
    listed = [
        refund_json(refund, base)
        for capture in captures
        for refund in book.refunds_of(capture)
        if refund.made_at <= book.now() - book.lag_seconds
    ]
    payments: dict[str, Any] = {"captures": [capture_json(book, each, base, in_order=True) for each in captures]}
    if listed:
        payments["refunds"] = listed
    total = sum((capture.amount for capture in captures), Decimal(0))
    unit = {"reference_id": "default", "amount": _money(total, captures[0].currency), "payments": payments}
    return {
        "id": order_id,
        "intent": "CAPTURE",
        "status": "COMPLETED",
        "purchase_units": [unit],
        "create_time": _time(captures[0].captured_at),
        "links": [_link(f"{base}/v2/checkout/orders/{order_id}", "self")],
    }


def _money(amount: Decimal, currency: str) -> dict[str, str]:
    return {"currency_code": currency, "value": f"{amount:.{0 if currency in NO_DECIMALS else 2}f}"}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _link(href: str, rel: str, method: str = "GET") -> dict[str, str]:
    return {"href": href, "rel": rel, "method": method}
