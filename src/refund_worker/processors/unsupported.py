"""Payments without a usable adapter: their processor has none here, or their id cannot be sent to it.

Each of their refunds goes to a person.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Blocked,
    Found,
    Misconfigured,
    PaymentReply,
    PaymentUnreadable,
    Reply,
    SearchReply,
)
from refund_worker.processors.base import RefundsOnly
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.payment_ids import UNUSABLE

UNKNOWN = "processor_unknown"
OURS = "refund_worker_unserved"


class UnsupportedProcessor(RefundsOnly):
    """Implements `Processor` without any I/O: it moves no money and reports that.

    `frozen` is the body of the current attempt, "" if none is known. A body that this class did not make was sent by
    a version that supported the processor. Its result cannot be known here, so nothing is concluded.
    """

    reads_payments = False

    def __init__(self, name: str, frozen: str = "") -> None:
        self.name = name
        self._was_sent = not _is_ours(frozen)
        self._blocked = Blocked(UNKNOWN, f"this version cannot pay over {name}: pay it back manually, then resolve")
        self._no_access = Misconfigured(UNKNOWN, f"this version cannot read {name}: check the refund there")

    def freeze(self, order: RefundInstruction) -> str:
        """Return the manual payment to make, marked as never sent."""
        return json.dumps(json.loads(ManualProcessor().freeze(order)) | {OURS: True}, sort_keys=True)

    async def send(self, key: str, body: str) -> Reply:
        """Return `Blocked`: nothing was created, a person must act. For a body of another version, return
        `Misconfigured`.
        """
        return self._no_access if self._was_sent else self._blocked

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`: the object exists, and only a version with an adapter can read it."""
        return self._no_access

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return an empty `Found` if this class made the body, so nothing was sent; else `Misconfigured`."""
        return self._no_access if self._was_sent else Found(())

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return `PaymentUnreadable`."""
        return PaymentUnreadable("this version cannot read it there")

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return `Misconfigured`: the list cannot be read."""
        return self._no_access

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`, as `fetch` does."""
        return self._no_access

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


class UnusablePayment(UnsupportedProcessor):
    """Replacement for the adapter of one payment whose id, recorded by an earlier version, cannot be sent to `name`."""

    def __init__(self, name: str, frozen: str = "") -> None:
        super().__init__(name, frozen)
        self._blocked = Blocked(
            UNUSABLE, f"the payment was recorded under an id that {name} does not have: pay it back there, then resolve"
        )
        self._no_access = Misconfigured(
            UNUSABLE, f"{name} cannot be asked under the payment's recorded id: check the refund there"
        )

    def freeze(self, order: RefundInstruction) -> str:
        """Return the body without the payment's id: it may be a client secret."""
        return super().freeze(replace(order, processor_payment_id=""))


def _is_ours(frozen: str) -> bool:
    try:
        return OURS in json.loads(frozen)
    except (ValueError, TypeError):
        return False
