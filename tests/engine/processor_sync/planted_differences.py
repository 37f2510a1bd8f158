"""A shop whose books and whose processor's differ in planted ways, of all ten kinds."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, update
from tests.support.engine_world import START, ScriptedProcessor, World

from refund_worker.domain.processor_replies import (
    DisputeObject,
    DisputeRead,
    DisputeReply,
    DisputesFound,
    DisputesReply,
    Page,
    PageReply,
    PaymentReading,
    RefundObject,
)
from refund_worker.store import tables

PLANTED = (
    "not_recorded",
    "not_there",
    "amount",
    "currency",
    "status",
    "refunded_twice",
    "outside_refund",
    "dispute",
    "payment",
    "ledger",
)
EVERY_SECONDS = 7


class PagedProcessor(ScriptedProcessor):
    """A processor whose list is read page by page, newest first, and that can show payments and disputes."""

    reads_payments = True
    reads_disputes = True

    def __init__(self, page_size: int = 3) -> None:
        super().__init__()
        self.page_size = page_size
        self.disputes: dict[str, DisputeObject] = {}
        self.pages = 0

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> PageReply:
        """Return the page after the object `after`."""
        self.pages += 1
        self.while_listing()
        found = [
            o
            for o in self.objects.values()
            if o.created_at >= created_gte and not (created_lt and o.created_at >= created_lt)
        ]
        found.sort(key=lambda o: (o.created_at, o.processor_refund_id), reverse=True)
        start = 1 + [o.processor_refund_id for o in found].index(after) if after else 0
        shown = found[start : start + self.page_size]
        more = start + self.page_size < len(found)
        return Page(tuple(shown), shown[-1].processor_refund_id if more else None)

    async def fetch_dispute(self, dispute_id: str) -> DisputeReply:
        """Return one dispute."""
        return DisputeRead(self.disputes[dispute_id])

    async def recent_disputes(self, created_gte: datetime) -> DisputesReply:
        """Return all disputes."""
        return DisputesFound(tuple(self.disputes.values()))


class Shop:
    """A world with `legs` paid refunds of 10 each, made one every few seconds."""

    def __init__(self, world: World, legs: int, page_size: int = 3) -> None:
        self.world, self.processor = world, PagedProcessor(page_size)
        world.processor = self.processor
        world.context = replace(world.context, processors={"stripe": self.processor})
        payments = 1 + legs // 50
        for number in range(1, payments + 1):
            world.pay(number, captured_at=START - 60)
            self.processor.payments[f"ch_{number}"] = PaymentReading(1_000, "USD", False, False, None)
        for number in range(legs):
            world.withdraw(1, f"k{number}")
        world.work()
        at = datetime.fromtimestamp(START, UTC)
        for number, object_id in enumerate(list(self.processor.objects)):
            made = replace(self.processor.objects[object_id], created_at=at + timedelta(seconds=EVERY_SECONDS * number))
            self.processor.objects[object_id] = made
            self._write(
                update(tables.refund_objects)
                .where(tables.refund_objects.c.processor_refund_id == object_id)
                .values(created_at=made.created_at.timestamp())
            )

    def _write(self, *statements: object) -> None:
        with self.world.database.write() as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def plant(self, kind: str, made: RefundObject) -> tuple[str, str]:
        """Make a difference of this kind about the object of one leg; return (kind, subject) as it must be found."""
        object_id, leg_id = made.processor_refund_id, str(made.leg_id)
        objects = self.processor.objects
        by_hand = replace(
            made, processor_refund_id=f"re_by_hand_{object_id}", leg_id=None, installation=None, attempt=None
        )
        match kind:
            case "not_recorded":
                o = tables.refund_objects
                self._write(delete(o).where(o.c.processor_refund_id == object_id))
            case "not_there":
                del objects[object_id]
            case "amount":
                objects[object_id] = replace(made, amount_minor=made.amount_minor + 1)
            case "currency":
                objects[object_id] = replace(made, currency="HUF")
            case "status":
                objects[object_id] = replace(made, status="failed", failure_code="declined")
            case "refunded_twice":
                objects[f"{object_id}_again"] = replace(made, processor_refund_id=f"{object_id}_again", attempt=2)
            case "outside_refund":
                objects[by_hand.processor_refund_id] = replace(by_hand, amount_minor=1)
                return kind, by_hand.processor_refund_id
            case "dispute":
                return kind, self._dispute(made)
            case "payment":
                return kind, self._payment(object_id)
            case "ledger":
                self._book_twice(leg_id)
        return kind, leg_id

    def _book_twice(self, leg_id: str) -> None:
        """Add a payout to the ledger that no refund object stands for."""
        posting = {
            "transaction_id": f"planted-{leg_id}",
            "customer_id": "c",
            "kind": "payout",
            "credits": 0,
            "refers_to": leg_id,
            "occurred_at": START,
            "actor": "somebody",
        }
        amounts = {"processor:stripe": -10, "house:refunds": 10}
        entries = [
            {"transaction_id": f"planted-{leg_id}", "account": account, "unit": "USD", "amount": amount}
            for account, amount in amounts.items()
        ]
        self._write(tables.ledger_transactions.insert().values(posting), tables.ledger_entries.insert().values(entries))

    def _dispute(self, made: RefundObject) -> str:
        dispute_id = f"dp_{made.processor_refund_id}"
        self.processor.disputes[dispute_id] = DisputeObject(
            dispute_id, "needs_response", 1, "USD", made.payment_refs, "fraudulent", made.created_at
        )
        return dispute_id

    def _payment(self, object_id: str) -> str:
        number = 1_000 + int(object_id.removeprefix("re_"))
        self.world.pay(number, captured_at=START - 60)
        self.processor.payments[f"ch_{number}"] = PaymentReading(999, "USD", False, False, None)
        return f"pay{number}"

    def plant_all(self, seed: int, kinds: tuple[str, ...] = PLANTED) -> set[tuple[str, str]]:
        """Make one difference at each of the legs, in an order of the seed. Return what must be found."""
        chosen = random.Random(seed)
        places = list(self.processor.objects.values())
        chosen.shuffle(places)
        return {self.plant(kinds[number % len(kinds)], made) for number, made in enumerate(places)}
