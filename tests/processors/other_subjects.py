"""The adapters without an API, and the fakes of the other tests, under contract."""

from __future__ import annotations

import itertools
import json
from collections.abc import Coroutine
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

import pytest
from tests.domain.fake_processor import KEY_LIFE_SECONDS, FakeProcessor
from tests.processors.contract import CURRENCY, Part, Subject
from tests.simulation.bank import Bank
from tests.simulation.bank_records import KEY_SECONDS, Payment
from tests.simulation.faults import Faults
from tests.simulation.kernel import Loop, World
from tests.simulation.simulated_processor import SimulatedProcessor
from tests.support.engine_world import START, ScriptedProcessor

from refund_worker.domain.processor_calls import Fetch, LookUp, RefundInstruction, Send
from refund_worker.domain.processor_replies import (
    Busy,
    Found,
    Misconfigured,
    PaymentReply,
    PaymentUnreadable,
    Reply,
    SearchReply,
)
from refund_worker.processors import manual
from refund_worker.processors.bank_file import entry as bank_file_entry
from refund_worker.processors.base import Capabilities, Processor, ProcessorEntry, RefundsOnly
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.stripe.entry import CAPABILITIES as STRIPE
from refund_worker.processors.unsupported import UnsupportedProcessor, UnusablePayment

T = TypeVar("T")
_numbers = itertools.count(1)
_UNREAD = replace(STRIPE, reads_disputes=False, reads_balance=False)
SCRIPTED = "pays whatever it is asked for: tests script its refusals"
PRECISE = "another body under a used key is a bug of the test, so the fake raises"


# --- adapters without an API ------------------------------------------------------------------------------------------


class Manual(Subject):
    """Payments that a person pays back."""

    name = "manual"
    capabilities = manual.CAPABILITIES
    entry: ClassVar[ProcessorEntry | None] = manual.ENTRY

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return ManualProcessor()

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        return f"cash-{next(_numbers)}"

    def booked(self, payment_id: str) -> list[int]:
        return []


class BankFile(Manual):
    """Refunds of payments at a bank without an API: a person pays them back too."""

    name = "bank_file"
    entry = bank_file_entry.ENTRY

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return bank_file_entry.ENTRY.make(self.name, None, timeout_seconds)


class Unsupported(Manual):
    """Payments of a processor without an adapter. The body of the attempt is one that the class itself froze."""

    name = "paypal"
    entry = None

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        order = RefundInstruction("rf_1", "rf_1-1", 1, "PAYID-1", 1_000, CURRENCY, "customer asked")
        return UnsupportedProcessor(self.name, UnsupportedProcessor(self.name).freeze(order))


class Unusable(Manual):
    """Payments recorded under an id that their processor cannot have."""

    name = "stripe"
    entry = None

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        order = RefundInstruction("rf_1", "rf_1-1", 1, "PAYID-1", 1_000, CURRENCY, "customer asked")
        return UnusablePayment(self.name, UnusablePayment(self.name).freeze(order))


# --- the fake of the engine's tests -----------------------------------------------------------------------------------


class Scripted(Subject):
    """The scripted processor of the engine's tests."""

    name = "scripted"
    capabilities = replace(_UNREAD, disputed_codes=frozenset(), unfunded_codes=frozenset())
    gives_request_ids = True
    lost_answers = ("lost",)
    busy = {"rate limit": Busy("rate_limit", 3.0)}  # noqa: RUF012
    lacks = {  # noqa: RUF012
        Part.REMAINDER: SCRIPTED,
        Part.FULLY_REFUNDED: SCRIPTED,
        Part.DISPUTES: SCRIPTED,
        Part.UNKNOWN_PAYMENT: SCRIPTED,
        Part.LISTS_UNKNOWN: SCRIPTED,
        Part.CANCEL_REFUSED: SCRIPTED,
        Part.SERVER_ERROR: "a reply in its script creates nothing, so there is nothing to find afterwards",
        Part.KEY_CONFLICT: PRECISE,
        Part.CREDENTIALS: "has none: tests script its denials",
        Part.RECENT: "lists all refunds, because its objects all have the same time",
    }

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.processor = ScriptedProcessor("scripted")

    def now(self) -> datetime:
        return datetime.fromtimestamp(START, UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return self.processor

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        return f"ch_{next(_numbers)}"

    def booked(self, payment_id: str) -> list[int]:
        return [o.amount_minor for o in self.processor.objects.values() if payment_id in o.payment_refs]

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        order = RefundInstruction("", "", 1, payment_id, amount_minor, CURRENCY, "")
        made = self.processor._make(f"dashboard-{next(_numbers)}", "", order, "succeeded")
        foreign = replace(made, leg_id=None, attempt=None, installation=None)
        self.processor.objects[made.processor_refund_id] = foreign

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        changed = self.processor.become(processor_refund_id, status)
        self.processor.objects[processor_refund_id] = replace(changed, failure_code=failure_code)

    def pass_time(self, seconds: float) -> None:
        """Its keys stay until a test forgets them."""

    def break_next(self, fault: str, payment_id: str) -> None:
        ways: dict[str, str | Reply] = {"lost": "pays_silently", "waits for the customer": "requires_action"}
        self.processor.script(payment_id, (ways | dict(self.busy))[fault])


# --- the fake of the walks through the domain -------------------------------------------------------------------------


class _Walked(RefundsOnly):
    """An adapter over the fake of the domain's tests, which takes calls and not bodies."""

    name = "walked"
    reads_payments = False

    def __init__(self, fake: FakeProcessor) -> None:
        self.fake = fake
        self.ways: list[str] = []  # of the next sends

    def freeze(self, order: RefundInstruction) -> str:
        return json.dumps(asdict(order), sort_keys=True)

    async def send(self, key: str, body: str) -> Reply:
        order = RefundInstruction(**json.loads(body))
        self.fake.captured_minor.setdefault(order.processor_payment_id, 0)
        call = Send(order.leg_id, self.name, order.attempt, key, order)
        reply = self.fake.send(call, self.ways.pop(0) if self.ways else "succeeded", 0.0)
        assert reply is not None
        self.fake.pass_time(self.fake.now)
        return reply

    async def fetch(self, processor_refund_id: str) -> Reply:
        reply = self.fake.ask(Fetch("", self.name, processor_refund_id), "honest", False)
        assert reply is not None
        return reply  # type: ignore[return-value]

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        reply = self.fake.ask(LookUp(leg_id, self.name, processor_payment_id), "honest", False)
        assert isinstance(reply, Found)
        return Found(tuple(o for o in reply.objects if processor_payment_id in o.payment_refs))

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        return PaymentUnreadable("the walks read no payments")

    async def recent(self, created_gte: datetime) -> SearchReply:
        return Misconfigured("no_list", "the walks have no such call")

    async def cancel(self, processor_refund_id: str) -> Reply:
        return Misconfigured("no_cancel", "the walks have no such call")

    async def close(self) -> None:
        return None


class Walked(Subject):
    """The processor of the random walks through the domain."""

    name = "walked"
    capabilities = Capabilities(
        key_seconds=KEY_LIFE_SECONDS,
        lists_refunds=True,
        list_proves_absence=True,
        answers_are_final=False,
        partial_refunds=True,
        cancels=False,
        rate_per_second=0,
        sources={},
    )
    lost_answers = ("timeout_with_effect",)
    busy = {"busy": Busy("rate_limit")}  # noqa: RUF012
    lacks = {  # noqa: RUF012
        Part.REMAINDER: "answers that the payment is fully refunded, which the engine handles in the same way",
        Part.DISPUTES: "the walks have none",
        Part.UNKNOWN_PAYMENT: "a walk knows all of its payments",
        Part.UNKNOWN_REFUND: "a walk knows all of its refunds",
        Part.LISTS_UNKNOWN: "a walk knows all of its payments",
        Part.LISTS_OTHERS: "the walks have no others",
        Part.RECENT: "the walks have no such call",
        Part.KEY_CONFLICT: PRECISE,
        Part.CREDENTIALS: "has none: a walk draws its denials",
    }

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.fake = FakeProcessor({}, now=START)
        self._adapter = _Walked(self.fake)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.fake.now, UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return self._adapter

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        payment_id = f"ch_{next(_numbers)}"
        self.fake.captured_minor[payment_id] = amount_minor
        return payment_id

    def booked(self, payment_id: str) -> list[int]:
        return [o.amount_minor for o in self.fake.objects.values() if payment_id in o.payment_refs]

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        self.fake.change_status(processor_refund_id, status)

    def pass_time(self, seconds: float) -> None:
        self.fake.pass_time(self.fake.now + seconds)

    def break_next(self, fault: str, payment_id: str) -> None:
        self._adapter.ways.append({"server error": "error_late_effect"}.get(fault, fault))


# --- the bank of the simulation ---------------------------------------------------------------------------------------


class _OneFault(Faults):
    """Strikes once, where the test says."""

    next: str | None = None

    def strikes(self, name: str) -> bool:
        if name != self.next:
            return False
        self.next = None
        return True


class _PlainBank(Bank):
    def check_one_for_each_leg(self, leg_id: str | None) -> None:
        """The engine pays a leg once, a client of this suite several times."""


class Simulated(Subject):
    """The processor of the simulation, on a kernel of its own."""

    name = "stripe"
    capabilities = replace(_UNREAD, key_seconds=KEY_SECONDS, cancels=False)
    reads_payments = True
    unknown_payment = "ch_nobodyKnows"
    errors_stick = True
    lost_answers = ("answer lost", "answer cut")
    busy = {"409": Busy("lock_timeout"), "429": Busy("rate_limit")}  # noqa: RUF012
    lacks = {  # noqa: RUF012
        Part.LISTS_UNKNOWN: "lists nothing for a payment that it does not know",
        Part.CREDENTIALS: "has none: its denials are spans of time",
        Part.NO_CANCEL: "cancels what waits for a customer; the contract's subject plays no customer",
    }

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.world = World(1, START)
        self.faults = _OneFault(self.world, {}, lambda: False)
        self.bank = _PlainBank(self.world, self.faults)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        results: list[T] = []
        self.world.spawn("contract", lambda: results.append(Loop(self.world).run(work)))
        self.world.run(until=self.world.now + 3_600)
        return results[0]

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.world.now, UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return SimulatedProcessor(self.bank)

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        payment_id = f"ch_{next(_numbers)}"
        self.bank.payments[payment_id] = Payment(amount_minor, CURRENCY, disputed)
        return payment_id

    def booked(self, payment_id: str) -> list[int]:
        return [item.amount for item in self.bank.refund_objects if item.payment == payment_id]

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        self.bank.add(payment_id, amount_minor, None, None)

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        (item,) = (item for item in self.bank.refund_objects if item.id == processor_refund_id)
        self.bank.becomes(item, status, failure_code)

    def pass_time(self, seconds: float) -> None:
        self.world.now += seconds

    def break_next(self, fault: str, payment_id: str) -> None:
        self.faults.next = {"server error": "500, effect"}.get(fault, fault)
