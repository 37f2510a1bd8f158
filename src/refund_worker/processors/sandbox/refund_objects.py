"""Parts of Stripe's refund object: its destination with the trace reference, and what the customer must do."""

from __future__ import annotations

from hashlib import blake2b

from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.records import CARD, Payment

# The reference of a card refund by which a bank finds it. Stripe has it some days after the refund succeeded.
REFERENCE_TYPE = "acquirer_reference_number"
REFERENCE_DIGITS = 23
REFERENCE_SECONDS = 3 * 86400
# Stripe's `type` of a card refund: a reversal vanishes from the statement, instead of showing as a credit.
CARD_REFUND, REVERSAL, UNDECIDED = "refund", "reversal", "pending"
CARD_TYPES = frozenset({CARD_REFUND, REVERSAL, UNDECIDED})
# The fields of a refund object that a step can set to any value.
SETTABLE = frozenset(
    {
        *("balance_transaction", "description", "destination_details", "failure_balance_transaction", "next_action"),
        *("receipt_number",),
    }
)


def destination_details(payment: Payment, status: str | None) -> JsonObject | None:
    """Return where the refund's money goes, without a reference yet. A refund that moves no money has none."""
    if status not in ("succeeded", "pending"):
        return None
    if payment.method != CARD:
        return {"type": payment.method, payment.method: {"reference": None, "reference_status": "pending"}}
    type = payment.refund_type if status == "succeeded" else UNDECIDED
    card: JsonObject = {"reference_status": "unavailable" if type == REVERSAL else "pending", "type": type}
    if type == CARD_REFUND:
        card["reference_type"] = REFERENCE_TYPE
    return {"type": CARD, CARD: card}


def with_reference(refund_id: str, details: JsonObject, reference: str | None = None) -> JsonObject:
    """Return the destination with its reference, by default one that is derived from the refund's id."""
    if reference is None:
        number = int.from_bytes(blake2b(refund_id.encode(), digest_size=9).digest())
        reference = f"7{number:022d}"[:REFERENCE_DIGITS]
    type = details["type"]
    return {**details, type: {**details[type], "reference": reference, "reference_status": "available"}}


def awaits_reference(refund: JsonObject) -> bool:
    """Return True if the refund succeeded and its reference is to come."""
    details = refund.get("destination_details")
    if refund["status"] != "succeeded" or not isinstance(details, dict):
        return False
    destination = details.get(details.get("type", ""))
    return isinstance(destination, dict) and destination.get("reference_status") == "pending"


def next_action(email: str, now: float, seconds: int) -> JsonObject:
    """Return the action that the customer must take: an e-mail asks for the bank details, until it expires."""
    return {
        "type": "display_details",
        "display_details": {
            "email_sent": {"email_sent_at": int(now), "email_sent_to": email},
            "expires_at": int(now) + seconds,
        },
    }
