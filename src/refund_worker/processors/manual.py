"""Payments without an API (cash, bank transfer): a person pays them back manually and records it with `resolve`.

Payouts of such an account are in `manual_payouts.py`.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import Final

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
from refund_worker.processors import manual_payouts
from refund_worker.processors.base import Capabilities, ProcessorEntry, RefundsOnly

PAY_MANUALLY = Blocked("manual_processor", "pay it back manually, then resolve with paid_manually and the reference")
NO_OBJECTS = Misconfigured("manual_processor", "the manual processor keeps no refund objects")


class ManualProcessor(RefundsOnly):
    """Implements `Processor` without any I/O: it moves no money, so its answer to every send is `Blocked`."""

    reads_payments = False

    def __init__(self, *, name: str = "manual") -> None:
        self.name = name

    def freeze(self, order: RefundInstruction) -> str:
        """Return the manual payment to make, as canonical JSON."""
        body = {
            "amount": order.amount_minor,
            "currency": order.currency,
            "payment": order.processor_payment_id,
            "reason": order.reason,
            "refund_worker_attempt": order.attempt,
            "refund_worker_leg": order.leg_id,
            "refund_worker_refund": order.refund_id,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    async def send(self, key: str, body: str) -> Reply:
        """Return `Blocked`: nothing was created, a person must act."""
        return PAY_MANUALLY

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`: no refund object exists here."""
        return NO_OBJECTS

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return an empty `Found`."""
        return Found(())

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return `PaymentUnreadable`."""
        return PaymentUnreadable("a payment by hand is recorded nowhere else")

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return an empty `Found`."""
        return Found(())

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`, as `fetch` does."""
        return NO_OBJECTS

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


CAPABILITIES: Final = Capabilities(
    creates_refunds=False,
    # No call is made, so a repeated one is safe at any time; a day is the longest that KEY_LIFE_SECONDS allows.
    key_seconds=86_400.0,
    lists_refunds=False,
    list_proves_absence=True,
    answers_are_final=True,
    partial_refunds=True,
    cancels=False,
    rate_per_second=0.0,
    sources=dict.fromkeys(
        (fact.name for fact in fields(Capabilities) if fact.name != "sources"),
        "this file: nothing is ever sent or created, a person pays",
    ),
)
ENTRY: Final = ProcessorEntry(
    name="manual",
    capabilities=CAPABILITIES,
    make=lambda name, settings, timeout_seconds: ManualProcessor(name=name),
    payouts=manual_payouts.ENTRY,
)
