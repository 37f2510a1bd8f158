"""The engine's adapter for the simulated processor: its calls, its server errors, and its false answers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Busy,
    DisputeRead,
    DisputeReply,
    DisputesFound,
    DisputesReply,
    Misconfigured,
    PaymentRead,
    PaymentReading,
    PaymentReply,
    PaymentUnreadable,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.base import RefundsOnly
from tests.simulation.bank import Bank
from tests.simulation.bank_records import Listing, Sent


class SimulatedProcessor(RefundsOnly):
    """The engine's adapter for the bank."""

    name = "stripe"
    reads_payments = True
    reads_disputes = True

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def freeze(self, order: RefundInstruction) -> str:
        """Return the instruction as JSON."""
        body = {
            "amount": order.amount_minor,
            "attempt": order.attempt,
            "installation": order.installation,
            "leg": order.leg_id,
            "payment": order.processor_payment_id,
        }
        return json.dumps(body, sort_keys=True)

    async def send(self, key: str, body: str) -> Reply:
        """Send a refund to the bank."""
        bank, faults, world = self.bank, self.bank.faults, self.bank.world
        bank.on_send(key, body)
        order = json.loads(body)
        sent = Sent(world.now)
        bank.sent.setdefault(key, []).append(sent)
        if order["attempt"] == 1:
            bank.on_silence()
        world.note("SEND", key, order["amount"], order["payment"])

        def late() -> None:
            # After days only the first request of a key arrives: no copy outlives its key.
            if not (bank.very_late and key in bank.keys):
                bank.take(key, body)

        def execute() -> Reply:
            if faults.strikes("409"):
                return Busy("lock_timeout")
            known = bank.keys.get(key)
            if known is None or known.until <= world.now:
                broken = self._breaks(key, body)
                if broken is not None:
                    return broken
            return self._falsified(bank.take(key, body))

        reply: Reply = await bank.call("send", execute, late)
        sent.told = reply
        return reply

    def _breaks(self, key: str, body: str) -> Reply | None:
        """Return a 500 with or without effect, or None.

        The error is stored under the key; its effect can come later.
        """
        bank, faults, world = self.bank, self.bank.faults, self.bank.world
        error = Unanswered("HTTP 500", server_error=True)
        if faults.strikes("500, no effect"):
            bank.keep(key, body, error)
            return error
        if faults.strikes("500, effect"):
            bank.take(key, body)
            bank.keep(key, body, error)
            return error
        if faults.strikes("500, effect later"):
            bank.keep(key, body, error)
            world.after(world.random.uniform(1, bank.late_seconds_max), lambda: bank.create(json.loads(body)))
            return error
        if faults.strikes("effect later, key in use"):
            bank.keep(key, body, None)
            world.after(world.random.uniform(1, bank.late_seconds_max), lambda: self._finish(key, body))
            return Unanswered("no answer in time")
        return None

    def _finish(self, key: str, body: str) -> None:
        self.bank.keys[key].reply = self.bank.create(json.loads(body))

    def _falsified(self, reply: Reply) -> Reply:
        if not isinstance(reply, Answered):
            return reply
        refund_object = reply.object
        # Use the book, because the metadata may have been removed.
        whose = next((t.leg_id for t in self.bank.refund_objects if t.id == refund_object.processor_refund_id), None)
        if self.bank.faults.strikes("another amount"):
            self.bank.falsified |= {whose, refund_object.processor_refund_id}
            return replace(reply, object=replace(refund_object, amount_minor=refund_object.amount_minor + 1))
        if self.bank.faults.strikes("another payment"):
            self.bank.falsified |= {whose, refund_object.processor_refund_id}
            return replace(reply, object=replace(refund_object, payment_refs=("ch_other",)))
        return reply

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Read one refund object."""
        bank = self.bank
        bank.world.note("FETCH", processor_refund_id)

        def execute() -> Reply:
            for refund_object in bank.own():
                if refund_object.id == processor_refund_id:
                    return self._falsified(Answered(bank.describe(refund_object)))
            return Misconfigured("resource_missing", "no such refund")

        reply: Reply = await bank.call("fetch", execute)
        return reply

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """List the refunds of a payment, and record the list for the observer."""
        bank = self.bank
        bank.world.note("FIND", leg_id)

        def execute() -> SearchReply:
            now = bank.world.now
            refund_objects = [t for t in bank.own() if t.payment == processor_payment_id and t.listed_from <= now]
            others = frozenset(t.id for t in refund_objects if t.leg_id is None and not t.is_void)
            bank.listings[leg_id] = Listing(now, others)
            return bank.listed(refund_objects)

        reply: SearchReply = await bank.call("find", execute)
        return reply

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Read a payment."""
        bank = self.bank
        bank.world.note("PAYMENT", processor_payment_id)

        def execute() -> PaymentReply:
            payment = bank.payment(processor_payment_id)
            if bank.unreadable:
                return PaymentUnreadable("no such path")
            if payment is None:
                return Misconfigured("resource_missing", "no such charge")
            if processor_payment_id in bank.recorded_wrong:
                bank.faults.count("recorded wrong")
            refunded = payment.amount - bank.room(processor_payment_id)
            return PaymentRead(PaymentReading(payment.amount, payment.currency, False, payment.disputed, refunded))

        reply: PaymentReply = await bank.call("find payment", execute)
        return reply

    async def recent(self, created_gte: datetime) -> SearchReply:
        """List the refunds created since a time."""
        bank = self.bank
        bank.world.note("RECENT")

        def execute() -> SearchReply:
            now, since = bank.world.now, created_gte.timestamp()
            return bank.listed([t for t in bank.own() if t.listed_from <= now and t.created >= since])

        reply: SearchReply = await bank.call("recent", execute)
        return reply

    async def fetch_dispute(self, dispute_id: str) -> DisputeReply:
        """Read one dispute."""
        bank = self.bank
        bank.world.note("FETCH", dispute_id)

        def execute() -> DisputeReply:
            for dispute in bank.disputes:
                if dispute.id == dispute_id:
                    return DisputeRead(bank.describe_dispute(dispute))
            return Misconfigured("resource_missing", "no such dispute")

        reply: DisputeReply = await bank.call("fetch dispute", execute)
        return reply

    async def recent_disputes(self, created_gte: datetime) -> DisputesReply:
        """List the disputes opened since a time."""
        bank = self.bank
        bank.world.note("RECENT DISPUTES")

        def execute() -> DisputesReply:
            since = created_gte.timestamp()
            return DisputesFound(tuple(bank.describe_dispute(d) for d in bank.disputes if d.created >= since))

        reply: DisputesReply = await bank.call("recent disputes", execute)
        return reply

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Cancel a refund object that waits for the customer."""
        bank = self.bank
        bank.world.note("CANCEL", processor_refund_id)

        def execute() -> Reply:
            for refund_object in bank.own():
                if refund_object.id == processor_refund_id:
                    if refund_object.status != "requires_action":
                        return UnknownRefusal("invalid_request_error", "it does not wait for the customer")
                    bank.becomes(refund_object, "canceled", None)
                    return self._falsified(Answered(bank.describe(refund_object)))
            return Misconfigured("resource_missing", "no such refund")

        reply: Reply = await bank.call("cancel", execute)
        return reply

    async def close(self) -> None:
        """Do nothing."""
