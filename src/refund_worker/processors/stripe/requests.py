"""The parameters of a new Stripe refund, and the check of header values. Pure."""

from __future__ import annotations

from typing import Any, Final

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.processors.stripe.objects import (
    METADATA_ATTEMPT,
    METADATA_INSTALLATION,
    METADATA_LEG,
    METADATA_REFUND,
    payment_parameter,
)

METADATA_LENGTH_MAX: Final = 500  # Stripe's limit for one value

# Anything else is `requested_by_customer`; never `fraudulent`, which also block-lists the customer's card and e-mail.
DUPLICATE_REASONS: Final = frozenset({"duplicate", "duplicated", "duplicate payment", "duplicate charge"})


def refund_parameters(order: RefundInstruction) -> dict[str, Any]:
    """Return the parameters of POST /v1/refunds. Raises ValueError for values that Stripe cannot take."""
    if type(order.amount_minor) is not int or order.amount_minor < 1:
        raise ValueError("a refund's amount must be a positive integer in minor units")
    metadata = {
        METADATA_REFUND: order.refund_id,
        METADATA_LEG: order.leg_id,
        METADATA_ATTEMPT: str(order.attempt),
    }
    if order.installation:
        metadata[METADATA_INSTALLATION] = order.installation
    if any(not 0 < len(value) <= METADATA_LENGTH_MAX for value in metadata.values()):
        raise ValueError(f"an id of ours is empty or longer than {METADATA_LENGTH_MAX} characters")
    parameters = {
        payment_parameter(order.processor_payment_id): order.processor_payment_id,
        "amount": order.amount_minor,
        "reason": _stripe_reason(order.reason),
        "metadata": metadata,
    }
    if order.instructions_email is not None:
        parameters["instructions_email"] = order.instructions_email
    if order.shares.transfer is not None:
        parameters["reverse_transfer"] = order.shares.transfer
    if order.shares.application_fee is not None:
        parameters["refund_application_fee"] = order.shares.application_fee
    return parameters


def _stripe_reason(reason: str) -> str:
    return "duplicate" if reason.strip().rstrip(".!").casefold() in DUPLICATE_REASONS else "requested_by_customer"


def is_header_value(text: str) -> bool:
    """Return True if the text can be sent as the value of a header."""
    return text != "" and text.isascii() and text.isprintable() and " " not in text
