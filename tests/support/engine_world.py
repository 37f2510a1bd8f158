"""A small world for tests of the engine: a database, a clock that the test moves, and a scripted processor.

The tests replace none of our own code: the processor implements the `Processor` protocol, and clock and crashes use the
ports that `Context` has for them.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.decision import Policy
from refund_worker.domain.ledger import CLEARING, CREDITS, USED
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Found,
    Misconfigured,
    PaymentRead,
    PaymentReading,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, Refund, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.context import Answer, Context
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import RefundWorkerError, Refusal
from refund_worker.processors.stripe.entry import CAPABILITIES
from refund_worker.store import accounts, refunds, timeline
from refund_worker.store.database import Database
from refund_worker.store.installation import installation_id
from refund_worker.store.tables import (
    customers,
    ledger_entries,
    ledger_transactions,
    legs,
    payments,
    transaction_rooms,
)
from refund_worker.store.tables import refunds as refunds_table

T = TypeVar("T")
START = 1_800_000_000.0
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
    processors={"stripe": STRIPE},
)


class Died(BaseException):
    """The process ended here. Nothing after this point happened."""


class ScriptedProcessor:
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
        self.payments: dict[str, PaymentReading] = {}
        self.readings: deque[PaymentReply] = deque()
        self.read: list[str] = []

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

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return all refund objects of the payment."""
        self.asked.append(leg_id)
        found = Found(tuple(o for o in self.objects.values() if processor_payment_id in o.payment_refs))
        self.while_answering_a_look_up()
        return found

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return the next reading, or else the recorded payment."""
        self.read.append(processor_payment_id)
        if self.readings:
            return self.readings.popleft()
        word = self.payments.get(processor_payment_id)
        return PaymentUnreadable("HTTP 404") if word is None else PaymentRead(word)

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return all refund objects."""
        return Found(tuple(self.objects.values()))

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Cancel the refund object."""
        return Answered(self.become(processor_refund_id, "canceled"))

    async def close(self) -> None:
        """Do nothing."""


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

    def __init__(self, url: str, **options: Any) -> None:
        self.database = MortalDatabase(url)
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
        while (due := self._next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.work()
        self.now = end

    def _next_due(self) -> float | None:
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


# --- the invariants of a database ------------------------------------------------------------------------------------

_NEVER_TAKEN = ("canceled", "rejected")
_NO_MONEY = ("failed", "canceled")


def assert_books_balance(database: Database) -> None:
    """Check every stored figure against the ledger and the legs. True after every commit."""
    with database.read() as connection:
        rows = {
            table.name: list(connection.execute(select(table)).mappings())
            for table in (
                customers,
                payments,
                transaction_rooms,
                ledger_transactions,
                ledger_entries,
                refunds_table,
                legs,
            )
        }
    _check_postings(rows)
    _check_customers(rows)
    _check_payments(rows)
    _check_rooms(rows)
    _check_clearing(rows)


Rows = Mapping[str, list[Any]]


def _check_postings(rows: Rows) -> None:
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for e in rows["ledger_entries"]:
        sums[e["transaction_id"], e["unit"]] += e["amount"]
    assert not {key: amount for key, amount in sums.items() if amount}, "postings that do not sum to zero"


def _check_customers(rows: Rows) -> None:
    owner = {t["transaction_id"]: t["customer_id"] for t in rows["ledger_transactions"]}
    balance: defaultdict[str, int] = defaultdict(int)
    used: defaultdict[str, int] = defaultdict(int)
    for e in rows["ledger_entries"]:
        if e["account"].startswith("customer:"):
            balance[e["account"].removeprefix("customer:")] += e["amount"]
        elif e["account"] == USED:
            used[owner[e["transaction_id"]]] += e["amount"]
    bought: defaultdict[str, int] = defaultdict(int)
    for p in rows["payments"]:
        bought[p["customer_id"]] += p["credits"]
    held: defaultdict[str, int] = defaultdict(int)
    withdrawn: defaultdict[str, int] = defaultdict(int)
    for r in rows["refunds"]:
        is_withdrawal = r["kind"] == "withdrawal"
        if r["status"] in _NEVER_TAKEN or r["to"] == "balance":
            continue
        if is_withdrawal and not r["posted"] and not r["of_correction"]:
            held[r["customer_id"]] += r["credits"]
        if is_withdrawal or r["posted"]:
            withdrawn[r["customer_id"]] += r["credits"] - r["returned_credits"]
    for c in rows["customers"]:
        customer = c["customer_id"]
        kept = {name: c[name] for name in ("balance", "held", "bought", "net_spent", "withdrawn")}
        assert kept == {
            "balance": balance[customer],
            "held": held[customer],
            "bought": bought[customer],
            "net_spent": used[customer],
            "withdrawn": withdrawn[customer],
        }, f"customer {customer}"


def _check_payments(rows: Rows) -> None:
    credits: defaultdict[str, int] = defaultdict(int)
    money: defaultdict[str, int] = defaultdict(int)
    for leg in rows["legs"]:
        if leg["status"] not in _NO_MONEY:
            credits[leg["payment_id"]] += leg["payment_credits"]
            money[leg["payment_id"]] += leg["amount_minor"]
    for p in rows["payments"]:
        name = p["payment_id"]
        # Money paid after its reservation was released counts at most up to the full amount.
        assert p["credits_taken"] == min(credits[name], p["credits"]), f"credits taken of {name}"
        assert p["money_taken"] == min(money[name], p["amount_minor"]), f"money taken of {name}"


def _check_rooms(rows: Rows) -> None:
    taken: defaultdict[str, int] = defaultdict(int)
    for r in rows["refunds"]:
        if r["transaction_id"] and r["status"] not in _NEVER_TAKEN:
            taken[r["transaction_id"]] += r["credits"]
    credit_refunds = {t["transaction_id"]: t for t in rows["ledger_transactions"] if t["kind"] == "credit_refund"}
    for t in rows["ledger_transactions"]:
        undone = credit_refunds.get(t["refers_to"] or "")
        if t["kind"] == "reversal" and undone is not None:
            taken[undone["refers_to"]] -= undone["credits"]
    for room in rows["transaction_rooms"]:
        assert room["taken"] == taken[room["transaction_id"]], f"taken of {room['transaction_id']}"


def _check_clearing(rows: Rows) -> None:
    paid: defaultdict[str, int] = defaultdict(int)
    for leg in rows["legs"]:
        if leg["status"] == "succeeded":
            paid[leg["refund_id"]] += leg["credits"]
    in_flight = sum(
        r["credits"] - r["returned_credits"] - paid[r["refund_id"]]
        for r in rows["refunds"]
        if r["posted"] and r["to"] == "source"
    )
    clearing = sum(e["amount"] for e in rows["ledger_entries"] if e["account"] == CLEARING and e["unit"] == CREDITS)
    assert clearing == in_flight, "clearing is not what is in flight"
