"""The Payouts API's objects as JSON: batches, items and their events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from refund_worker.processors.paypal.sandbox.payouts import NO_DECIMALS, Batch, Item
from refund_worker.processors.paypal.sandbox.shapes import link, time_text

PAGE_SIZE_MAX = 1_000
ERRORS_PAGE = "https://developer.paypal.com/docs/api/payments.payouts-batch/#errors"
# No event is published for a reversal: a sender reads of it, or gets none. A cancellation has one of its own.
ITEM_KINDS = {
    "SUCCESS": "PAYMENT.PAYOUTS-ITEM.SUCCEEDED",
    "FAILED": "PAYMENT.PAYOUTS-ITEM.FAILED",
    "UNCLAIMED": "PAYMENT.PAYOUTS-ITEM.UNCLAIMED",
    "RETURNED": "PAYMENT.PAYOUTS-ITEM.RETURNED",
    "ONHOLD": "PAYMENT.PAYOUTS-ITEM.HELD",
    "BLOCKED": "PAYMENT.PAYOUTS-ITEM.BLOCKED",
    "REFUNDED": "PAYMENT.PAYOUTS-ITEM.REFUNDED",
}
CANCELED = "PAYMENT.PAYOUTS-ITEM.CANCELED"
BATCH_KINDS = {
    "PROCESSING": "PAYMENT.PAYOUTSBATCH.PROCESSING",
    "SUCCESS": "PAYMENT.PAYOUTSBATCH.SUCCESS",
    "DENIED": "PAYMENT.PAYOUTSBATCH.DENIED",
}


def created_json(batch: Batch, base: str) -> dict[str, Any]:
    """Return the answer to a request for payouts: it has no items, and no time."""
    header = {
        "payout_batch_id": batch.batch_id,
        "batch_status": "PENDING",
        "sender_batch_header": _sender_header(batch),
    }
    return {"batch_header": header, "links": [link(_batch_url(batch, base), "self")]}


def batch_json(batch: Batch, items: Sequence[Item], base: str, *, page: int, size: int, total: bool) -> dict[str, Any]:
    """Return one page of a batch; `items` are all that it lists, `total` asks for their number."""
    shown: dict[str, Any] = {"batch_header": batch_header(batch), "links": [link(_batch_url(batch, base), "self")]}
    here = items[(page - 1) * size : page * size]
    if here:
        shown["items"] = [_item(batch, item) | {"links": [link(_item_url(item, base), "item")]} for item in here]
    if page * size < len(items):
        shown["links"].append(link(f"{_batch_url(batch, base)}?page_size={size}&page={page + 1}", "next"))
    if total:
        shown |= {"total_items": len(items), "total_pages": -(-len(items) // size)}
    return shown


def batch_header(batch: Batch) -> dict[str, Any]:
    """Return the header of a batch with its sums."""
    currency = batch.items[0].currency
    shown: dict[str, Any] = {
        "payout_batch_id": batch.batch_id,
        "batch_status": batch.status,
        "time_created": time_text(batch.made_at),
        "sender_batch_header": _sender_header(batch),
        "funding_source": "BALANCE",
        "amount": _money(sum((item.amount for item in batch.items), Decimal(0)), currency),
        "fees": _money(sum((_fee(batch, item) for item in batch.items), Decimal(0)), currency),
    }
    if batch.completed_at is not None:
        shown["time_completed"] = time_text(batch.completed_at)
    return shown


def item_json(batch: Batch, item: Item, base: str) -> dict[str, Any]:
    """Return an item as its own address shows it."""
    links = [link(_item_url(item, base), "self"), link(_batch_url(batch, base), "batch")]
    return _item(batch, item) | {"sender_batch_id": batch.sender_batch_id, "links": links}


def payout_event(kind: str, resource_type: str, resource: dict[str, Any], number: int, at: float) -> tuple[str, bytes]:
    """Return the id and body of an event."""
    event_id = f"WH-{secrets.token_hex(8).upper()}-{number}"
    event = {
        "id": event_id,
        "event_version": "1.0",
        "create_time": time_text(at),
        "resource_type": resource_type,
        "event_type": kind,
        "summary": "A payout changed",
        "resource": resource,
        "links": [],
    }
    return event_id, json.dumps(event).encode()


def _item(batch: Batch, item: Item) -> dict[str, Any]:
    sent: dict[str, Any] = {
        "recipient_type": item.recipient_type,
        "amount": _money(item.amount, item.currency),
        "receiver": item.receiver,
        "recipient_wallet": "PAYPAL",
    }
    optional = {"sender_item_id": item.sender_item_id, "note": item.note}
    shown: dict[str, Any] = {
        "payout_item_id": item.item_id,
        "transaction_status": item.status,
        "payout_item_fee": _money(_fee(batch, item), item.currency),
        "payout_batch_id": batch.batch_id,
        "payout_item": sent | {name: value for name, value in optional.items() if value},
        "time_processed": time_text(item.processed_at or item.made_at),
    }
    if item.transaction_id:
        shown["transaction_id"] = item.transaction_id
    if item.error:
        message = item.error.replace("_", " ").capitalize()
        error = {"name": item.error, "message": message, "debug_id": item.item_id.lower()}
        shown["errors"] = error | {"information_link": ERRORS_PAGE, "details": []}
    return shown


def _fee(batch: Batch, item: Item) -> Decimal:
    """Return the fee as far as it is known: none before the batch is processed."""
    return Decimal(0) if batch.status == "PENDING" or item.status == "FAILED" else item.fee


def _sender_header(batch: Batch) -> dict[str, Any]:
    known = ("sender_batch_id", "recipient_type", "email_subject", "email_message")
    return {name: value for name, value in batch.request["sender_batch_header"].items() if name in known}


def _money(amount: Decimal, currency: str) -> dict[str, str]:
    return {"currency": currency, "value": f"{amount:.{0 if currency in NO_DECIMALS else 2}f}"}


def _batch_url(batch: Batch, base: str) -> str:
    return f"{base}/v1/payments/payouts/{batch.batch_id}"


def _item_url(item: Item, base: str) -> str:
    return f"{base}/v1/payments/payouts-item/{item.item_id}"
