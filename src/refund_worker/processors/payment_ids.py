"""Checks of payment ids and processor names, for every entry point. They need no adapter's libraries."""

from __future__ import annotations

from typing import Final

from refund_worker.domain.account_names import processor_of
from refund_worker.processors import registry
from refund_worker.processors.accounts import RESERVED

UNUSABLE: Final = "payment_id_unusable"


def check_processor_name(name: str) -> str:
    """Return the name. Raises ValueError for a reserved name."""
    if name in RESERVED:
        raise ValueError(f"must not be {name}, which is the kill switch's name for all processors at once")
    return name


def check_payment_id(processor: str, processor_payment_id: str) -> None:
    """Raise ValueError if `processor` cannot have a payment of this id; the id itself is not in the message.

    A processor that is not registered takes any id.
    """
    if entry := registry.find_entry(processor_of(processor)):
        entry.check_payment_id(processor_payment_id)
