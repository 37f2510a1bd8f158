"""PayPal's webhook events about payouts: the batch that an event is about. Pure.

Facts: developer.paypal.com/payouts/webhooks, read 2026-11. An event about a batch has no item; an event about an item
has the item as its own address shows it. No event is published for an item that is reversed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from refund_worker.processors.payout_routes import TransferHint
from refund_worker.processors.paypal.payout_answers import BATCH_ID
from refund_worker.processors.paypal.payout_objects import our_ids

ITEM: Final = "PAYMENT.PAYOUTS-ITEM."
BATCH: Final = "PAYMENT.PAYOUTSBATCH."
# The events to subscribe to. Any other kind with these beginnings is a hint too.
_ITEM_KINDS: Final = "BLOCKED CANCELED DENIED FAILED HELD REFUNDED RETURNED SUCCEEDED UNCLAIMED"
KINDS: Final = frozenset({f"{ITEM}{name}" for name in _ITEM_KINDS.split()} | {f"{BATCH}DENIED", f"{BATCH}SUCCESS"})


def transfer_hint(kind: str, body: str) -> TransferHint | None:
    """Return the batch that an event is about, with our leg if the event names it, or None for any other event."""
    resource = _resource(body)
    if kind.startswith(ITEM):
        batch_id = resource.get("payout_batch_id")
        ours = _mapping(resource.get("payout_item")).get("sender_item_id")
        if our_ids(ours)[0] is None:  # each batch of ours has one item, and both have the same id
            ours = resource.get("sender_batch_id")
    elif kind.startswith(BATCH):
        header = _mapping(resource.get("batch_header"))
        batch_id = header.get("payout_batch_id")
        ours = _mapping(header.get("sender_batch_header")).get("sender_batch_id")
    else:
        return None
    if not isinstance(batch_id, str) or not BATCH_ID.fullmatch(batch_id):
        return None
    return TransferHint(batch_id, our_ids(ours)[0])


def _resource(body: str) -> Mapping[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return _mapping(_mapping(event).get("resource"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
