"""What each adapter can send as a payment's id, known without the adapter's libraries: every door asks here. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from refund_worker.processors.stripe import objects

# The kill switch's name for every processor at once: a payment of a processor called so could not be paused alone.
RESERVED: Final = frozenset({"all"})

# By processor. One that is not here takes whatever a caller calls a payment.
CHECKS: Final[Mapping[str, Callable[[str], None]]] = {"stripe": objects.check_payment_id}

UNUSABLE: Final = "payment_id_unusable"


def check_processor_name(name: str) -> str:
    """The name. Raises ValueError for one that means something else here."""
    if name in RESERVED:
        raise ValueError(f"must not be {name}, which is the kill switch's name for all processors at once")
    return name


def check_payment_id(processor: str, processor_payment_id: str) -> None:
    """Raises ValueError saying why `processor` can't be asked to refund this payment; the id itself is not in it."""
    if check := CHECKS.get(processor):
        check(processor_payment_id)


def can_be_sent(processor: str, processor_payment_id: str) -> bool:
    """Whether `check_payment_id` has nothing against it."""
    try:
        check_payment_id(processor, processor_payment_id)
    except ValueError:
        return False
    return True
