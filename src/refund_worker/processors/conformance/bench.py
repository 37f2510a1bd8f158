"""The bench of the conformance suite: one account, the payments that may be refunded, and a book of what was made.

It works with any adapter. A server that can be made to do more (`HttpBench`) overrides the functions of the last part.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from refund_worker.domain.money import as_text, smallest_step
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    PaymentRead,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.base import Capabilities, Processor
from refund_worker.processors.conformance.results import Broken, NotAsked

T = TypeVar("T")


def tell_nobody(line: str) -> None:
    """Show nothing."""


INSTALLATION: Final = "adapters-check"
REASON: Final = "conformance check"
BUSY_TRIES: Final = 4
BUSY_SECONDS_MAX: Final = 5.0
# A list may lag. This long is waited until it shows a refund, if the caller names no other time.
LIST_LAG_SECONDS: Final = 10.0
LAGS: Final = " If the list only lags, say by how much: --list-lag SECONDS."
# An id that nothing has, where ids are counted. It fits 32 bits.
HIGH_NUMBER: Final = "999999999"
# The number of looks at a list during a long lag.
LOOKS_MAX: Final = 40
LOST: Final = (
    "Answer POST /refunds with the refund, or with an error that says executed: false. While the outcome is unknown, "
    "the same key must never be executed again: look the first one up."
)


@dataclass(slots=True)
class Refundable:
    """A payment that may be refunded: its id, its currency, and how much of it is left, in minor units."""

    payment_id: str
    currency: str
    left_minor: int
    made: list[RefundObject] = field(default_factory=list)  # the refunds that the suite has made of it


@dataclass(slots=True)
class Bench:
    """One account under check.

    `why_not` says why no refund may be created, and is empty if refunds may be. `named` are payments that a person
    named. `calls_per_second` is the account's rate; 0 for no limit.
    """

    processor: Processor
    table: Capabilities
    named: Sequence[Refundable] = ()
    why_not: str = ""
    calls_per_second: float = 0.0
    clock_seconds_max: float = 300.0
    list_lag_seconds: float = LIST_LAG_SECONDS
    tell: Callable[[str], None] = tell_nobody  # takes a line about a long wait
    failure_code: str = "declined"  # a refund that the server lets fail has this code
    lists_by_leg: bool = False  # a payment's refunds are found by our own ids only
    used: list[Refundable] = field(default_factory=list)
    _run: str = field(default_factory=lambda: secrets.token_hex(6))
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _next_call: float = 0.0

    # --- calls --------------------------------------------------------------------------------------------------------

    async def paced(self, call: Awaitable[T]) -> T:
        """Return the result of a call, within the account's rate."""
        if self.calls_per_second > 0:
            wait = self._next_call - time.monotonic()
            self._next_call = max(self._next_call, time.monotonic()) + 1 / self.calls_per_second
            await asyncio.sleep(max(0.0, wait))
        return await call

    async def asked(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call, made again while the account is busy: nothing was executed then."""
        reply = await self.paced(call())
        for _ in range(BUSY_TRIES):
            if not isinstance(reply, Busy):
                break
            await asyncio.sleep(min(reply.retry_after_seconds or 0.3, BUSY_SECONDS_MAX))
            reply = await self.paced(call())
        return reply

    def key(self) -> str:
        """Return a new idempotency key."""
        return f"check-{self._run}:{next(self._numbers)}"

    def order(self, payment: Refundable, amount_minor: int, *, attempt: int = 1) -> RefundInstruction:
        """Return the instruction for a refund, with a leg of its own."""
        leg = f"check-{self._run}-{next(self._numbers)}"
        ids = (f"check-{self._run}", leg, attempt, payment.payment_id)
        return RefundInstruction(*ids, amount_minor, payment.currency, REASON, installation=INSTALLATION)

    async def send(self, order: RefundInstruction, key: str) -> Reply:
        """Send the order under the key, and again while the account is busy."""
        body = self.processor.freeze(order)
        return await self.asked(lambda: self.processor.send(key, body))

    async def created(self, payment: Refundable, order: RefundInstruction, key: str) -> Answered:
        """Send the order, which must be accepted, and note the refund. Raises `Broken` if it is not."""
        reply = await self.send(order, key)
        if isinstance(reply, Unanswered):
            await self._after_a_lost_answer(order, key, reply)
        if not isinstance(reply, Answered):
            what = f"a refund of {money(order)} was not created: {words(reply)}"
            raise Broken(what, "Create the refund, and answer 201 with it. The amount was there.")
        self.note(payment, reply.object)
        return reply

    async def _after_a_lost_answer(self, order: RefundInstruction, key: str, lost: Unanswered) -> None:
        """Raise `Broken`: what the same key does after an answer that proves nothing."""
        await self.send(order, key)
        found = await self.refunds_of_leg(order) if self.table.finds_refunds else ()
        if len(found) > 1:
            what = f"after an answer that proves nothing ({lost.reason}), the same key was executed again"
            raise Broken(f"{what}: the payment has {len(found)} refunds, so the money is paid twice", LOST)
        raise Broken(f"a refund of {money(order)} was not answered: {lost.reason}", LOST)

    def note(self, payment: Refundable, made: RefundObject) -> None:
        """Note a refund that the suite has made, once."""
        if made.processor_refund_id not in {each.processor_refund_id for each in payment.made}:
            payment.made.append(made)
            payment.left_minor -= made.amount_minor

    async def find(self, payment: Refundable, leg_id: str = "") -> tuple[RefundObject, ...]:
        """Return all refunds of the payment. Raises `Broken` for no whole list, and `NotAsked` without lists."""
        if not self.table.finds_refunds:
            raise NotAsked("the refunds of a payment cannot be listed here")
        reply: SearchReply = await self.asked(lambda: self.processor.find(payment.payment_id, leg_id))
        if not isinstance(reply, Found):
            what = f"the refunds of a payment cannot be listed: {words(reply)}"
            raise Broken(what, "Answer the list with all its pages: data, and next or null.")
        return reply.objects

    async def refunds_of_leg(self, order: RefundInstruction) -> tuple[RefundObject, ...]:
        """Return the refunds that carry the order's leg, once the list shows one or the time for it is over."""
        return await self.until_listed(lambda: self.refunds_now(order), bool)

    async def until_listed(self, look: Callable[[], Awaitable[T]], is_whole: Callable[[T], bool]) -> T:
        """Return the result of `look`, made again until it is whole or until the time for a list that lags is over."""
        until = time.monotonic() + self.list_lag_seconds
        found = await look()
        if self.list_lag_seconds > LIST_LAG_SECONDS and not is_whole(found):
            self.tell(f"waiting up to {self.list_lag_seconds:g} seconds until a list shows a new refund")
        while not is_whole(found) and time.monotonic() < until:
            await asyncio.sleep(max(min(0.5, self.list_lag_seconds), self.list_lag_seconds / LOOKS_MAX))
            found = await look()
        return found

    async def refunds_now(self, order: RefundInstruction) -> tuple[RefundObject, ...]:
        """Return the refunds that carry the order's leg, without waiting for a list that lags."""
        payment = Refundable(order.processor_payment_id, order.currency, 0)
        return tuple(each for each in await self.find(payment, order.leg_id) if each.leg_id == order.leg_id)

    async def recent(self, since: datetime) -> tuple[RefundObject, ...]:
        """Return the refunds of the account made since then. Raises `Broken` if the list cannot be read."""
        reply = await self.asked(lambda: self.processor.recent(since))
        if not isinstance(reply, Found):
            raise Broken(f"the list since a time cannot be read: {words(reply)}", "Answer the list with all its pages.")
        return reply.objects

    async def fetched(self, refund: RefundObject) -> RefundObject:
        """Return the current state of a refund. Raises `Broken` if it cannot be read."""
        if not self.table.reads_refunds:
            raise NotAsked("a refund cannot be read here: only events tell its state")
        reply = await self.asked(lambda: self.processor.fetch(refund.processor_refund_id))
        if not isinstance(reply, Answered):
            what = f"a refund that was created cannot be read: {words(reply)}"
            raise Broken(what, "Answer GET /refunds/ID with the refund as soon as it is created.")
        return reply.object

    async def paid_back(self, payment: Refundable) -> int:
        """Return the refunded amount of the payment, in minor units, as the account reports it."""
        reply = await self.asked(lambda: self.processor.find_payment(payment.payment_id))
        if not isinstance(reply, PaymentRead) or reply.reading.refunded_minor is None:
            what = f"a payment cannot be read: {words(reply)}"
            raise Broken(what, "Answer with captured, refunded, currency; or set reads_payments = false.")
        return reply.reading.refunded_minor

    # --- payments -----------------------------------------------------------------------------------------------------

    def may_create(self) -> None:
        """Raise `NotAsked` if no refund may be created here."""
        if not self.table.creates_refunds:
            raise NotAsked("this adapter creates no refunds: a person pays")
        if self.why_not:
            raise NotAsked(self.why_not)

    async def payment(self, units: int, *, partly: bool = True) -> Refundable:
        """Return a payment of which at least `units` steps of its currency are left.

        With `partly`, less than all that is left will be refunded. Raises `NotAsked` without one.
        """
        self.may_create()
        if partly and not self.table.partial_refunds:
            raise NotAsked("only a whole payment can be refunded here")
        made = await self.new_payment(units)
        if made is not None:
            self.used.append(made)
            return made
        for payment in self.named:
            if payment.left_minor >= units * self.step(payment.currency):
                self.used += [] if payment in self.used else [payment]
                return payment
        raise NotAsked("needs a payment that may be refunded: --payment ID:AMOUNT:CURRENCY" + self.how_to_get_one)

    def amount(self, payment: Refundable, units: int) -> int:
        """Return `units` steps of the payment's currency in minor units; all that is left if parts are impossible."""
        return units * self.step(payment.currency) if self.table.partial_refunds else payment.left_minor

    def step(self, currency: str) -> int:
        """Return the step of amounts in this currency, in minor units: ours or the account's, whichever is larger."""
        return self.table.rules().steps.get(currency, smallest_step(currency))

    # --- what a server can be made to do ------------------------------------------------------------------------------

    @property
    def how_to_get_one(self) -> str:
        """Return another way to a payment that may be refunded, for the text that asks for one."""
        return ""

    async def new_payment(self, units: int) -> Refundable | None:
        """Return a new payment of `units` steps, or None if the server makes none."""
        return None

    async def refund_elsewhere(self, payment: Refundable, amount_minor: int) -> RefundObject:
        """Refund a payment without our ids, as a person would. Raises `NotAsked` if the server does not play it."""
        raise NotAsked("a refund by another person cannot be played here")

    async def change(self, refund: RefundObject, status: str, failure_code: str | None) -> None:
        """Change a refund at the server. Raises `NotAsked` if the server does not play it."""
        raise NotAsked("a later change of a refund cannot be played here")

    async def send_without_waiting(self, order: RefundInstruction, key: str) -> None:
        """Send an order and close the connection before the answer. Raises `NotAsked` if that is impossible."""
        raise NotAsked("a lost answer cannot be played with this adapter")

    def with_small_pages(self, size: int) -> Processor:
        """Return an adapter that asks for pages of `size`. Raises `NotAsked` if pages have no size to choose."""
        raise NotAsked("the size of a page cannot be chosen with this adapter")

    def stranger(self) -> Processor:
        """Return an adapter with wrong credentials. Raises `NotAsked` without one."""
        raise NotAsked("wrong credentials are tried with the adapter http only")

    def unknown_payment(self) -> str:
        """Return the id of a payment that does not exist. Raises `NotAsked` without an id to derive it from."""
        return _another(next((each.payment_id for each in (*self.used, *self.named)), ""))

    def unknown_refund(self) -> str:
        """Return the id of a refund that does not exist. Raises `NotAsked` without an id to derive it from."""
        made = (refund.processor_refund_id for payment in self.used for refund in payment.made)
        return _another(next(made, ""))


def _another(identifier: str) -> str:
    """Return an id of the same form that nothing has. Raises `NotAsked` for an empty one."""
    if not identifier:
        raise NotAsked("needs a known id, to derive an unknown one of the same form")
    prefix = max(identifier.rfind("_"), identifier.rfind("-")) + 1
    begin = max(prefix if 0 < prefix < len(identifier) else min(2, len(identifier) - 1), len(identifier) - 12)
    tail = identifier[begin:]
    if tail.isdigit() and len(tail) < len(HIGH_NUMBER):  # ids that are counted: the next numbers may exist
        return identifier[:begin] + HIGH_NUMBER
    changed = identifier[:begin] + "".join(map(_of_its_kind, tail))
    return changed if changed != identifier else identifier[:-1] + "0"


def _of_its_kind(char: str) -> str:
    return "Z" if char.isupper() else "z" if char.islower() else "9" if char.isdigit() else char


def money(order: RefundInstruction) -> str:
    """Return the order's amount for texts."""
    return as_text(order.amount_minor, order.currency)


def words(reply: object) -> str:
    """Return a reply in words."""
    match reply:
        case Answered(object=refund):
            return f"it was accepted as {refund.processor_refund_id} ({refund.status})"
        case Refused(code, message) | Blocked(code, message) | Misconfigured(code, message):
            return f"it was refused as {code}: {message}"
        case AlreadyRefunded(message):
            return f"it was refused as already_refunded: {message}"
        case UnknownRefusal(code, message):
            return f"it was refused with the unknown code {code}: {message}"
        case KeyConflict(message):
            return f"it was refused as key_conflict: {message}"
        case Denied(code, message):
            return f"access was denied ({code}): {message}"
        case Busy(code):
            return f"the server stayed busy ({code})"
        case NotSent(reason):
            return f"the server could not be reached: {reason}"
        case Unanswered(reason):
            return f"the answer proves nothing: {reason}"
        case Found(objects):
            return f"it was a list of {len(objects)}"
    told = getattr(reply, "reason", None)
    return f"{type(reply).__name__}: {told}" if told else type(reply).__name__
