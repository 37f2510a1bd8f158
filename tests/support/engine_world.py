"""A small world for tests of the engine: a database, a clock that the test moves, and a scripted processor.

The tests replace none of our own code: the processor implements the `Processor` protocol, and clock and crashes use the
ports that `Context` has for them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.decision import Policy
from refund_worker.domain.processor_replies import Answer, PaymentReading, RefundObject
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, Refund, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import RefundWorkerError, Refusal
from refund_worker.processors.stripe.entry import CAPABILITIES
from refund_worker.store import accounts, refunds, timeline
from refund_worker.store.database import Database
from refund_worker.store.installation import installation_id
from refund_worker.store.tables import refunds as refunds_table
from tests.support.books import assert_books_balance
from tests.support.scripted_processor import START, Died, ScriptedProcessor

__all__ = [
    "DAY",
    "POLICY",
    "START",
    "STRIPE",
    "WORD",
    "Died",
    "MortalDatabase",
    "ScriptedProcessor",
    "World",
    "assert_books_balance",
    "credit_refund",
    "withdrawal",
]

T = TypeVar("T")
DAY = 86_400.0
STRIPE = CAPABILITIES.rules()
# The processor's record of a payment over the amount that `World.pay` records.
WORD = PaymentReading(captured_minor=1_000, currency="USD", live=False, disputed=False, refunded_minor=0)
POLICY = Policy(
    lease_seconds=60,
    key_life_seconds=10_000,
    quiet_seconds=940,  # 1,000 with the lease
    retry_base_seconds=2,
    retry_max_seconds=600,
    poll_seconds=100,
    # Refunds of others are not recorded, as before an upgrade. `tests/engine/claims` has worlds in which they are.
    outside_since=math.inf,
    processors={"stripe": STRIPE},
)


class MortalDatabase(Database):
    """A database that can end the process:

    `dies_before = 2` before the second transaction from now, `dies_after` after it.
    """

    dies_before = 0
    dies_after = 0

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run the transaction, unless the process dies before it."""
        before, after = self.dies_before, self.dies_after
        self.dies_before, self.dies_after = max(0, before - 1), max(0, after - 1)
        if before == 1:
            raise Died
        result = super().run(work)
        if after == 1:
            raise Died
        return result


class World:
    """`context` on a migrated database, with one processor "stripe" and one customer "c". Close it at the end."""

    def __init__(self, url: str, schema: str = "public", **options: Any) -> None:
        self.database = MortalDatabase(url, schema=schema)
        self.processor = ScriptedProcessor()
        self.now = START
        self.context = Context(
            **{
                "database": self.database,
                "processors": {"stripe": self.processor},
                "policy": POLICY,
                "run": _run,
                "clock": lambda _connection: self.now,
                **options,
            }
        )

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # --- set-up ------------------------------------------------------------------------------------------------------

    def pay(self, number: int = 1, *, amount_minor: int = 1_000, credits: int = 100, **changes: Any) -> PaymentRecord:
        """Record the customer's payment "payN" with the charge "ch_N". A higher number is a newer payment."""
        record = PaymentRecord(
            payment_id=f"pay{number}",
            customer_id="c",
            processor="stripe",
            processor_payment_id=f"ch_{number}",
            amount_minor=amount_minor,
            currency="USD",
            credits=credits,
            captured_at=float(number),
        )
        record = replace(record, **changes)
        (answer,) = record_payments(self.context, [record])
        if isinstance(answer, RefundWorkerError):
            raise answer
        return record

    def spend(self, transaction_id: str = "t", credits: int = 50, **changes: Any) -> SpendRecord:
        """Record that the customer spent credits."""
        record = SpendRecord(
            transaction_id=transaction_id, customer_id="c", credits=credits, description="Chat", occurred_at=5.0
        )
        record = replace(record, **changes)
        (answer,) = record_spends(self.context, [record])
        if isinstance(answer, RefundWorkerError):
            raise answer
        return record

    def refund_in_the_dashboard(self, amount_minor: int = 1_000, number: int = 1, **changes: Any) -> RefundObject:
        """Refund a payment at the processor, past this program, as a person would. `changes` can add our metadata."""
        refund_object = RefundObject(
            processor_refund_id=f"re_by_hand_{len(self.processor.objects) + 1}",
            status="succeeded",
            amount_minor=amount_minor,
            currency="USD",
            payment_refs=(f"ch_{number}",),
            leg_id=None,
            attempt=None,
            failure_code=None,
            created_at=datetime.fromtimestamp(self.now, UTC),
        )
        refund_object = replace(refund_object, **changes)
        self.processor.objects[refund_object.processor_refund_id] = refund_object
        return refund_object

    # --- actions -----------------------------------------------------------------------------------------------------

    def request(self, request: RefundRequest) -> Accepted:
        """Accept the request. Raise its refusal."""
        (answer,) = request_refunds(self.context, [request])
        if isinstance(answer, Refusal):
            raise answer
        return answer

    def request_or_code(self, credits: int | None, key: str) -> str:
        """Request a withdrawal. Return the refund's id, or the code of the refusal."""
        try:
            return self.withdraw(credits, key)
        except Refusal as refusal:
            return refusal.code

    def withdraw(self, credits: int | None = 100, key: str = "k") -> str:
        """Accept a withdrawal and return the refund's id."""
        return self.request(withdrawal(credits, key)).refund_id

    def command(self, refund_id: str, action: Action, reference: str | None = None) -> Refund:
        """Perform an operator's action on the refund."""
        return perform_action(self.context, refund_id, action, actor="op", reason="because", reference=reference)

    def work(self) -> int:
        """Process refunds until none is due now. Return how many were claimed."""
        total = 0
        for _ in range(100):
            claimed = process_due(self.context)
            if not claimed:
                return total
            total += claimed
        raise AssertionError("work that never ends: something is due again at once, for ever")

    def pass_time(self, seconds: float) -> None:
        """Advance the clock without any work."""
        self.now += seconds

    def work_for(self, seconds: float) -> None:
        """Process everything that becomes due within `seconds`, each at its time."""
        end = self.now + seconds
        self.work()
        while (due := self.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.work()
        self.now = end

    def next_due(self) -> float | None:
        """Return the time (epoch seconds) at which the next refund is due, or None."""
        with self.database.read() as connection:
            query = select(refunds_table.c.due_at, refunds_table.c.lease_until)
            due = [max(d, lease or 0) for d, lease in connection.execute(query) if d is not None]
        return min(due, default=None)

    # --- results -----------------------------------------------------------------------------------------------------

    def refund(self, refund_id: str) -> Refund:
        """Return the refund."""
        with self.database.read() as connection:
            (found,) = refunds.load(connection, [refund_id])
        return found

    @property
    def installation(self) -> str:
        """The mark of this database on refund objects at the processor."""
        with self.database.read() as connection:
            return installation_id(connection)

    @property
    def account(self) -> CustomerAccount:
        """The customer's account."""
        with self.database.read() as connection:
            found = accounts.find_customer(connection, "c")
        assert found is not None
        return found

    def events(self, refund_id: str) -> list[str]:
        """Return the kinds of the refund's events, oldest first."""
        with self.database.read() as connection:
            return [str(row["kind"]) for row in timeline.events_of(connection, refund_id)]


def _run(calls: Awaitable[list[Answer]]) -> list[Answer]:
    async def wait() -> list[Answer]:
        return await calls

    return asyncio.run(wait())


def withdrawal(credits: int | None = 100, key: str = "k", **changes: Any) -> RefundRequest:
    """Return a request to pay credits back to source."""
    request = RefundRequest(
        idempotency_key=key, kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c", credits=credits, reason="asked"
    )
    return replace(request, **changes)


def credit_refund(credits: int | None = 20, key: str = "k", to: To = To.BALANCE, **changes: Any) -> RefundRequest:
    """Return a request to refund transaction "t"."""
    changes = {"kind": Kind.CREDIT_REFUND, "to": to, "transaction_id": "t"} | changes
    return withdrawal(credits, key, **changes)
