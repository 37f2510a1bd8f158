"""The records in the book's file, which `local_server/journal.py` reads and writes.

| record | holds |
|---|---|
| {"kind": "capture", "capture": {...}} | a captured payment, or all its fields after a change |
| {"kind": "refund", "refund": {...}} | a new refund, `capture_id` is its payment |
| {"kind": "key", "key", "at", "refund", "issue", "field"} | what a request under a key led to |
| {"kind": "changed", "id", "set": {...}} | fields of a refund that changed |
| {"kind": "payout", "batch": {...}, "items": [...]} | a new batch of payouts |
| {"kind": "payout batch", "batch": {...}} | all fields of a batch after a change |
| {"kind": "payout item", "item": {...}} | all fields of an item after a change |

Amounts are decimal strings, times epoch seconds.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import TYPE_CHECKING

from refund_worker.processors.local_server.journal import Record

if TYPE_CHECKING:
    from refund_worker.processors.paypal.sandbox.book import Capture, Refund, Stored


def capture_record(capture: Capture) -> Record:
    """Return the record of a payment as it is now."""
    return {"kind": "capture", "capture": {**dataclasses.asdict(capture), "amount": str(capture.amount)}}


def refund_record(refund: Refund) -> Record:
    """Return the record of a new refund."""
    fields = {field.name: getattr(refund, field.name) for field in dataclasses.fields(refund)}
    capture = fields.pop("capture")
    fields |= {"capture_id": capture.capture_id, "amount": str(refund.amount), "total": str(refund.total)}
    return {"kind": "refund", "refund": fields}


def change_record(refund: Refund) -> Record:
    """Return the record of a refund's new status."""
    names = ("status", "reason", "changed_at")
    return {"kind": "changed", "id": refund.refund_id, "set": {name: getattr(refund, name) for name in names}}


def key_record(key: str, stored: Stored) -> Record:
    """Return the record of a key."""
    refusal = stored.refusal
    return {
        "kind": "key",
        "key": key,
        "at": stored.at,
        "refund": stored.refund and stored.refund.refund_id,
        "issue": refusal and refusal.issue,
        "field": refusal and refusal.field,
    }


def read_capture(fields: Record) -> Record:
    """Return the fields of a payment as the book has them."""
    return fields | {"amount": Decimal(fields["amount"])}


def read_refund(fields: Record, capture: Capture) -> Record:
    """Return the fields of a refund as the book has them."""
    kept = {name: value for name, value in fields.items() if name != "capture_id"}
    return kept | {"capture": capture, "amount": Decimal(fields["amount"]), "total": Decimal(fields["total"])}
