"""The API's objects as JSON: captures, refunds and orders."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from refund_worker.processors.paypal.sandbox.book import NO_DECIMALS, Book, Capture, Refund


def capture_json(book: Book, capture: Capture, base: str, *, in_order: bool = False) -> dict[str, Any]:
    """Return a capture as the API shows it; in an order, without its related ids."""
    refunded = book.refunded(capture)
    status = capture.state or (
        "COMPLETED" if not refunded else "REFUNDED" if refunded >= capture.amount else "PARTIALLY_REFUNDED"
    )
    shown: dict[str, Any] = {
        "id": capture.capture_id,
        "status": status,
        "amount": money(capture.amount, capture.currency),
        "final_capture": True,
        "seller_protection": {"status": "ELIGIBLE", "dispute_categories": ["ITEM_NOT_RECEIVED"]},
        "create_time": time_text(capture.captured_at),
        "update_time": time_text(capture.captured_at),
        "links": [
            link(f"{base}/v2/payments/captures/{capture.capture_id}", "self"),
            link(f"{base}/v2/payments/captures/{capture.capture_id}/refund", "refund", "POST"),
        ],
    }
    if capture.reason:
        shown["status_details"] = {"reason": capture.reason}
    if capture.custom_id:
        shown["custom_id"] = capture.custom_id
    if capture.order_id:
        shown["links"].append(link(f"{base}/v2/checkout/orders/{capture.order_id}", "up"))
        if not in_order:
            shown["supplementary_data"] = {"related_ids": {"order_id": capture.order_id}}
    return shown


def refund_json(refund: Refund, base: str, *, minimal: bool = False) -> dict[str, Any]:
    """Return a refund as the API shows it; the minimal form is PayPal's answer without a preference."""
    currency = refund.capture.currency
    links = [
        link(f"{base}/v2/payments/refunds/{refund.refund_id}", "self"),
        link(f"{base}/v2/payments/captures/{refund.capture.capture_id}", "up"),
    ]
    if minimal:
        return {"id": refund.refund_id, "status": refund.status, "links": links}
    shown: dict[str, Any] = {
        "id": refund.refund_id,
        "status": refund.status,
        "amount": money(refund.amount, currency),
        "seller_payable_breakdown": {
            "gross_amount": money(refund.amount, currency),
            "paypal_fee": money(Decimal(0), currency),
            "net_amount": money(refund.amount, currency),
            "total_refunded_amount": money(refund.total, currency),
        },
        "create_time": time_text(refund.made_at),
        "update_time": time_text(refund.changed_at),
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
    captures = book.captures_of(order_id)
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
    unit = {"reference_id": "default", "amount": money(total, captures[0].currency), "payments": payments}
    return {
        "id": order_id,
        "intent": "CAPTURE",
        "status": "COMPLETED",
        "purchase_units": [unit],
        "create_time": time_text(captures[0].captured_at),
        "links": [link(f"{base}/v2/checkout/orders/{order_id}", "self")],
    }


def money(amount: Decimal, currency: str) -> dict[str, str]:
    """Return an amount as the newer APIs write it."""
    return {"currency_code": currency, "value": f"{amount:.{0 if currency in NO_DECIMALS else 2}f}"}


def time_text(at: float) -> str:
    """Return a time as the API writes it; `at` is in epoch seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def link(href: str, rel: str, method: str = "GET") -> dict[str, str]:
    """Return a link of an object."""
    return {"href": href, "rel": rel, "method": method}
