"""What the engine asks of a payment processor.

An adapter translates one processor's wire format into the replies of `domain.processor_replies` and decides nothing
about refunds. It raises nothing for anything that a server or a network can do: every outcome, silence included, is a
`Reply`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import PaymentReply, Reply, SearchReply


class Processor(Protocol):
    """One payment processor account. Made after the fork, used by one event loop, closed at the end."""

    name: str
    reads_payments: bool  # whether `find_payment` can ever say more than `PaymentUnreadable`

    def freeze(self, order: RefundInstruction) -> str:
        """The request body as canonical JSON. Pure: it is stored before the first call and sent again unchanged."""

    async def send(self, key: str, body: str) -> Reply:
        """Ask for the refund frozen in `body` under the idempotency key `key`; bounded by the outer timeout."""

    async def fetch(self, processor_refund_id: str) -> Reply:
        """What the processor says of this refund object now."""

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Every refund object of this payment, whoever made it, all pages read.

        `leg_id` is for a processor that can list no payment's refunds, but finds what bears our name.
        """

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """What the processor itself says of this payment: what was captured and refunded, currency, mode, dispute.

        `PaymentUnreadable` where there is no way to ask, or where this reading alone is refused.
        """

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Every refund object made since then, ours and foreign, all pages read."""

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Cancel a refund object that still waits for the customer (at Stripe: requires_action)."""

    async def close(self) -> None:
        """Release connections."""
