"""Payments that can't be asked about: of a processor without an adapter here, or under an id that its adapter can't
send. Each of their refunds ends with a person."""

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
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.payment_ids import UNUSABLE

UNKNOWN = "processor_unknown"
OURS = "refund_worker_unserved"


class UnsupportedProcessor:
    """Implements `Processor` without any I/O: it moves no money and says so.

    `frozen` is the body of the attempt at hand, "" where none is known. One that this class has not made was sent by
    a version that served the processor: what became of it nobody here can say, so nothing is concluded.
    """

    reads_payments = False

    def __init__(self, name: str, frozen: str = "") -> None:
        self.name = name
        self._was_sent = not _is_ours(frozen)
        self._blocked = Blocked(UNKNOWN, f"this version can't pay over {name}: pay it back by hand, then resolve")
        self._no_access = Misconfigured(UNKNOWN, f"this version can't ask {name}: look there")

    def freeze(self, order: RefundInstruction) -> str:
        """What is to be paid back by hand, marked as never sent anywhere."""
        return json.dumps(json.loads(ManualProcessor().freeze(order)) | {OURS: True}, sort_keys=True)

    async def send(self, key: str, body: str) -> Reply:
        """`Blocked`: nothing was created, a person must act."""
        return self._no_access if self._was_sent else self._blocked

    async def fetch(self, processor_refund_id: str) -> Reply:
        """`Misconfigured`: there is an object, which only a version with an adapter can ask about."""
        return self._no_access

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """An empty `Found` where this class has sent nothing, else `Misconfigured`."""
        return self._no_access if self._was_sent else Found(())

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Always `PaymentUnreadable`."""
        return PaymentUnreadable("this version can't ask there")

    async def recent(self, created_gte: datetime) -> SearchReply:
        """`Misconfigured`: its list can't be read."""
        return self._no_access

    async def cancel(self, processor_refund_id: str) -> Reply:
        """`Misconfigured`, as for `fetch`."""
        return self._no_access

    async def close(self) -> None:
        """Nothing to release."""


class UnusablePayment(UnsupportedProcessor):
    """Stands in for one payment that was recorded, by an earlier version, under an id that `name` can't be sent."""

    def __init__(self, name: str, frozen: str = "") -> None:
        super().__init__(name, frozen)
        self._blocked = Blocked(
            UNUSABLE, f"the payment was recorded under an id that {name} does not have: pay it back there, then resolve"
        )
        self._no_access = Misconfigured(UNUSABLE, f"{name} can't be asked under the payment's recorded id: look there")

    def freeze(self, order: RefundInstruction) -> str:
        """As above, without the id: it may be a client secret."""
        return super().freeze(replace(order, processor_payment_id=""))


def _is_ours(frozen: str) -> bool:
    try:
        return OURS in json.loads(frozen)
    except (ValueError, TypeError):
        return False
