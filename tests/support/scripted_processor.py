"""A processor for tests of the engine: it pays at once, or follows a script. It stores its keys and objects."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    BalanceReply,
    Found,
    Misconfigured,
    NotReadable,
    PaymentRead,
    PaymentReading,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.base import RefundsOnly

START = 1_800_000_000.0


class Died(BaseException):
    """The process ended here. Nothing after this point happened."""


class ScriptedProcessor(RefundsOnly):
    """Pays at once, stores its keys, and follows a script if there is one.

    `script(payment, …)` sets the results of the next sends for a payment, one status or `Reply` each: "pays" ·
    "pending" · "requires_action" · "timeout" (nothing happened) · "pays_silently" (paid, never answered) · "dies" and
    "pays_and_dies" (the caller's process ends) · "raises" · any `Reply`, which creates nothing.

    With `reads_payments`, its payments can be read: `payments` has its own records of them, and `readings` the answers
    that come first, one `PaymentReply` each.
    """

    reads_payments = False

    def __init__(self, name: str = "stripe") -> None:
        self.name = name
        self.objects: dict[str, RefundObject] = {}
        self.sends: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self._by_key: dict[str, tuple[str, str]] = {}
        self._script: defaultdict[str, deque[str | Reply]] = defaultdict(deque)
        self.indent: int | None = None  # indentation of the frozen bodies: the next version may write them differently
        self.while_sending: Callable[[], None] = lambda: None
        self.while_answering_a_look_up: Callable[[], None] = lambda: None
        self.while_listing: Callable[[], None] = lambda: None
        self.canceled: list[str] = []
        self.cancels: deque[str | Reply] = deque()
        self.payments: dict[str, PaymentReading] = {}
        self.readings: deque[PaymentReply] = deque()
        self.read: list[str] = []
        self.balance_reply: BalanceReply = NotReadable("not scripted")

    def script(self, payment: str, *ways: str | Reply) -> None:
        """Append results for the next sends for the payment."""
        self._script[payment].extend(ways)

    def rescript(self, payment: str, *ways: str | Reply) -> None:
        """Replace the rest of the payment's script."""
        self._script[payment] = deque(ways)

    def become(self, processor_refund_id: str, status: str) -> RefundObject:
        """Change the object's status, and return the object."""
        failure = "declined" if status in ("failed", "canceled") else None
        changed = replace(self.objects[processor_refund_id], status=status, failure_code=failure)
        self.objects[processor_refund_id] = changed
        return changed

    def forget_keys(self) -> None:
        """Forget all keys, as after the end of their life: the same key is then a new request."""
        self._by_key.clear()

    def paid_minor(self) -> int:
        """Return the paid amount of all payments in its own book, in minor units."""
        return sum(o.amount_minor for o in self.objects.values() if o.status not in ("failed", "canceled"))

    def freeze(self, order: RefundInstruction) -> str:
        """Return the instruction as JSON."""
        return json.dumps(asdict(order), sort_keys=True, indent=self.indent)

    async def send(self, key: str, body: str) -> Reply:
        """Replay the key's answer, or follow the script."""
        self.sends.append((key, body))
        order = RefundInstruction(**json.loads(body))
        self.while_sending()
        if key in self._by_key:
            made, its_body = self._by_key[key]
            assert its_body == body, "the same key with another body"
            return Answered(self.objects[made], "req_replayed", replayed=True)
        waiting = self._script[order.processor_payment_id]
        way = waiting.popleft() if waiting else "pays"
        if not isinstance(way, str):
            return way
        if way == "dies":
            raise Died
        if way == "raises":
            raise RuntimeError("an adapter that breaks its promise")
        if way == "timeout":
            return Unanswered("timeout")
        refund_object = self._make(key, body, order, way if way in ("pending", "requires_action") else "succeeded")
        if way == "pays_and_dies":
            raise Died
        return Unanswered("timeout") if way == "pays_silently" else Answered(refund_object, "req_1")

    def _make(self, key: str, body: str, order: RefundInstruction, status: str) -> RefundObject:
        refund_object = RefundObject(
            processor_refund_id=f"re_{len(self.objects) + 1}",
            status=status,
            amount_minor=order.amount_minor,
            currency=order.currency,
            payment_refs=(order.processor_payment_id,),
            leg_id=order.leg_id,
            attempt=order.attempt,
            installation=order.installation,
            failure_code=None,
            created_at=datetime.fromtimestamp(START, UTC),
        )
        self.objects[refund_object.processor_refund_id] = refund_object
        self._by_key[key] = (refund_object.processor_refund_id, body)
        return refund_object

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return the refund object."""
        self.asked.append(processor_refund_id)
        if processor_refund_id not in self.objects:
            return Misconfigured("resource_missing", "no such refund")
        return Answered(self.objects[processor_refund_id])

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Cancel the object if it waits for the customer, or follow `cancels`, one way or `Reply` each."""
        self.canceled.append(processor_refund_id)
        way = self.cancels.popleft() if self.cancels else "cancels"
        if not isinstance(way, str):
            return way
        if way == "dies":
            raise Died
        refund_object = self.objects[processor_refund_id]
        if refund_object.status != "requires_action":
            return UnknownRefusal("invalid_request_error", f"this one is {refund_object.status}")
        refund_object = self.objects[processor_refund_id] = replace(refund_object, status="canceled")
        if way == "cancels_and_dies":
            raise Died
        return Unanswered("timeout") if way == "cancels_silently" else Answered(refund_object)

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return all refund objects of the payment."""
        self.asked.append(leg_id)
        found = Found(tuple(o for o in self.objects.values() if processor_payment_id in o.payment_refs))
        self.while_answering_a_look_up()
        return found

    async def balance(self) -> BalanceReply:
        """Return the scripted balance."""
        return self.balance_reply

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return the next reading, or else the recorded payment."""
        self.read.append(processor_payment_id)
        if self.readings:
            return self.readings.popleft()
        word = self.payments.get(processor_payment_id)
        return PaymentUnreadable("HTTP 404") if word is None else PaymentRead(word)

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return all refund objects."""
        self.while_listing()
        return Found(tuple(self.objects.values()))

    async def close(self) -> None:
        """Do nothing."""
