"""The simulated processor: a truthful book, Stripe's semantics, and unreliable calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    DisputeObject,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.wire import clean
from tests.simulation.bank_records import (
    DAY,
    HOUR,
    KEY_SECONDS,
    LAG_SECONDS_MAX,
    LATE_SECONDS_MAX,
    STRIPE,
    VOID,
    BankDispute,
    BankRefund,
    KeyRecord,
    Listing,
    Payment,
    Sent,
)
from tests.simulation.faults import Faults
from tests.simulation.kernel import Violation, World
from tests.simulation.lives import Life, life_of_others, life_of_ours

TIMEOUT = 30.0
EXECUTED = Answered | Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal | Denied
# The processor quotes these in its messages. No row of ours may ever contain them (I14).
PLANTED_KEY = "sk_test_51PlantedByTheSimulation0000"
PLANTED_CARD = "4242 4242 4242 4242"


@dataclass(slots=True)
class Bank:
    """The processor's book, separate from everything that the engine writes."""

    world: World
    faults: Faults
    account: str = STRIPE
    key_seconds: float = KEY_SECONDS
    late_seconds_max: float = LATE_SECONDS_MAX
    payments: dict[str, Payment] = field(default_factory=dict)
    refund_objects: list[BankRefund] = field(default_factory=list)
    disputes: list[BankDispute] = field(default_factory=list)
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    bodies: dict[str, str] = field(default_factory=dict)
    sent: dict[str, list[Sent]] = field(default_factory=dict)  # by key
    falsified: set[str | None] = field(default_factory=set)  # legs and objects with a false answer
    outages: list[tuple[float, float]] = field(default_factory=list)
    denials: list[tuple[float, float]] = field(default_factory=list)
    empty: list[tuple[float, float]] = field(default_factory=list)
    very_late: bool = False  # effects after days: only where no new attempt is ever made
    its_payments: frozenset[str] | None = None  # None: all in the book, which accounts may share
    recorded_wrong: set[str] = field(default_factory=set)  # payments that our books record differently
    unreadable: bool = False  # the server has no way to read payments
    fails_no_sooner_than: float = 10.0  # seconds after it succeeded
    acts_no_sooner_than: float = 60.0  # seconds after the customer was asked
    listings: dict[str, Listing] = field(default_factory=dict)  # by the leg it was read for
    calls: int = 0
    on_news: Callable[[BankRefund], None] = lambda _refund: None
    on_dispute: Callable[[BankDispute], None] = lambda _dispute: None
    on_created: Callable[[BankRefund], None] = lambda _refund: None
    on_call: Callable[[str], None] = lambda _what: None
    on_send: Callable[[str, str], None] = lambda _key, _body: None
    on_silence: Callable[[], None] = lambda: None
    answers_held_until: float = 0.0

    # --- the book ----------------------------------------------------------------------------------------------------

    def shared_book(self) -> dict[str, Any]:
        """Return the fields of a bank that shares this one's rows: both write into one book."""
        return {
            "world": self.world,
            "faults": self.faults,
            "payments": self.payments,
            "refund_objects": self.refund_objects,
            "bodies": self.bodies,
            "sent": self.sent,
            "falsified": self.falsified,
        }

    def take(self, key: str, body: str) -> Reply:
        """Execute a request that has arrived."""
        record = self.keys.get(key)
        if record is not None and record.until > self.world.now:
            if record.body != body:
                return KeyConflict("the key was used with other parameters")
            if record.reply is None:
                return Busy("idempotency_key_in_use")
            told = isinstance(record.reply, EXECUTED)
            return replace(record.reply, replayed=True) if told else record.reply  # type: ignore[call-arg]
        if self.faults.strikes("refused, not kept"):
            return Refused("processing_error", "not possible just now")
        reply = self.create(json.loads(body))
        self.keep(key, body, reply)
        return reply

    def keep(self, key: str, body: str, reply: Reply | None) -> None:
        """Store the request and its answer under the key, for at least the key's life."""
        longer = self.world.random.uniform(0, 12 * HOUR) if self.faults.strikes("key kept longer") else 0
        self.keys[key] = KeyRecord(body, reply, self.world.now + self.key_seconds + longer)

    def own(self) -> list[BankRefund]:
        """Return the refund objects of this account: another bank may share the book."""
        return [item for item in self.refund_objects if item.account == self.account]

    def of_others(self) -> list[BankRefund]:
        """Return the refund objects that others made."""
        return [item for item in self.refund_objects if item.leg_id is None]

    def room(self, payment: str) -> int:
        """Return the amount of the payment that can still be refunded, in minor units."""
        taken = sum(t.amount for t in self.refund_objects if t.payment == payment and not t.is_void)
        return self.payments[payment].amount - taken

    def payment(self, name: str) -> Payment | None:
        """Return a payment of this account."""
        return self.payments.get(name) if self.its_payments is None or name in self.its_payments else None

    def create(self, order: dict[str, Any]) -> Reply:
        """Refund as ordered, or return the refusal."""
        payment = self.payment(order["payment"])
        if payment is None:
            return Misconfigured("resource_missing", "no such charge")
        if payment.disputed:
            return Blocked("charge_disputed", "the charge is disputed")
        left = self.room(order["payment"])
        if left == 0:
            return AlreadyRefunded("the charge has already been refunded")
        if order["amount"] > left:
            return Refused("amount_exceeds_unrefunded", "greater than what is left", more_than_left=True)
        if payment.declines:
            return Refused(payment.declines, "declined")
        empty = _within(self.world.now, self.empty)
        if empty:
            self.faults.count("balance empty")
        if empty or self.faults.strikes("blocked"):
            return Blocked("balance_insufficient", "the balance is empty")
        if self.faults.strikes("refusal of an unknown code"):
            return UnknownRefusal("refund_moon_phase_unsupported", "not on this day")
        if self.faults.strikes("our set-up refused"):
            return Denied("parameter_unknown", "Received unknown parameter: moon", maybe_kept=True)
        if self.faults.strikes("declined"):
            payment.declines = "expired_or_canceled_card"
            return Refused(payment.declines, clean(f"the card {PLANTED_CARD} has expired"))
        refund_object = self.add(
            order["payment"], order["amount"], order["leg"], order["attempt"], order["installation"]
        )
        return Answered(self.describe(refund_object))

    def add(
        self,
        payment: str,
        amount: int,
        leg_id: str | None,
        attempt: int | None,
        installation: str | None = None,
        mark: str | None = None,
    ) -> BankRefund:
        """Create a refund object. `mark` is the leg in its metadata, if that is not its own leg."""
        world = self.world
        lag = world.random.uniform(0, LAG_SECONDS_MAX) if self.faults.strikes("list lags") else 0
        life = self.life(payment, amount) if leg_id else life_of_others(world, self.faults)
        refund_object = BankRefund(
            id=self.new_id(),
            payment=payment,
            amount=amount,
            currency=self.payments[payment].currency,
            leg_id=leg_id,
            attempt=attempt,
            created=world.now,
            listed_from=world.now + lag,
            words=[life[0][1]],
            said_at=world.now,
            failure=life[0][2],
            mark=mark or leg_id,
            installation=installation,
            account=self.account,
        )
        self.refund_objects.append(refund_object)
        world.note("BOOK", refund_object.id, refund_object.status, amount, leg_id, attempt)
        self.check_one_for_each_leg(leg_id)
        self.on_created(refund_object)
        at = world.now
        for seconds, word, failure in life[1:]:
            at += seconds
            world.at(
                at,
                lambda refund_object=refund_object, word=word, failure=failure: self.becomes(
                    refund_object, word, failure
                ),
            )
        self.on_news(refund_object)
        return refund_object

    def check_one_for_each_leg(self, leg_id: str | None) -> None:
        """Raise `Violation` if the leg has more than one refund object that is not void (I1)."""
        alive = [t.id for t in self.refund_objects if leg_id and t.leg_id == leg_id and not t.is_void]
        if len(alive) > 1:
            raise Violation(f"I1 {leg_id} has {len(alive)} refunds that stand: {', '.join(alive)}")

    def becomes(self, refund_object: BankRefund, word: str | None, failure: str | None) -> None:
        """Give the refund object its next status, unless it is already void."""
        if refund_object.is_void:
            return
        refund_object.words.append(word)
        refund_object.said_at = self.world.now
        refund_object.failure = failure
        self.world.note("BOOK", refund_object.id, "becomes", word)
        self.on_news(refund_object)

    def new_id(self) -> str:
        """Return the id of the next refund object."""
        return f"re_{len(self.refund_objects) + 1}"

    def life(self, payment: str, amount: int) -> Life:
        """Return the statuses of a new object that this program asked for."""
        return life_of_ours(
            self.world, self.faults, acts_after=self.acts_no_sooner_than, fails_after=self.fails_no_sooner_than
        )

    def open_dispute(self, payment: str, amount: int, status: str) -> BankDispute:
        """Open a dispute or an inquiry about a payment."""
        dispute = BankDispute(
            f"dp_{len(self.disputes) + 1}", payment, amount, self.payments[payment].currency, self.world.now
        )
        self.disputes.append(dispute)
        self.dispute_becomes(dispute, status)
        return dispute

    def dispute_becomes(self, dispute: BankDispute, status: str, *, returned: bool = False) -> None:
        """Give the dispute its next status. While one takes its money, a payment is not refunded."""
        dispute.status, dispute.returned = status, returned
        payment = self.payments[dispute.payment]
        payment.disputed = any(each.takes_money for each in self.disputes if each.payment == dispute.payment)
        payment.was_disputed |= payment.disputed
        self.world.note("DISPUTE", dispute.id, dispute.payment, dispute.amount, status, returned)
        self.on_dispute(dispute)

    def describe_dispute(self, dispute: BankDispute) -> DisputeObject:
        """Return the dispute as an answer shows it."""
        return DisputeObject(
            dispute_id=dispute.id,
            status=dispute.status,
            amount_minor=dispute.amount,
            currency=dispute.currency,
            payment_refs=(dispute.payment,),
            reason="fraudulent",
            created_at=datetime.fromtimestamp(dispute.created, UTC),
            money_returned=dispute.returned if dispute.status == "lost" else None,
            live=False,
        )

    def describe(self, refund_object: BankRefund) -> RefundObject:
        """Return the refund object as an answer shows it."""
        word = refund_object.words[-1]
        if len(refund_object.words) > 1 and self.faults.strikes("stale answer"):
            word = refund_object.words[-2]
        return RefundObject(
            processor_refund_id=refund_object.id,
            status=word,
            amount_minor=refund_object.amount,
            currency=refund_object.currency,
            payment_refs=(refund_object.payment,),
            leg_id=refund_object.mark,
            attempt=refund_object.attempt if refund_object.mark else None,
            failure_code=refund_object.failure if word in VOID else None,
            created_at=datetime.fromtimestamp(refund_object.created, UTC),
            live=False,
            installation=refund_object.installation,
        )

    def listed(self, refund_objects: list[BankRefund]) -> SearchReply:
        """Return the list as its pages show it.

        Refunds that are created between two pages move others to the next page. They then appear twice, perhaps with a
        later status. And a page can lose the object that the next page starts after.
        """
        if refund_objects and self.faults.strikes("list shifts"):
            return Unanswered("the object that the next page starts after has gone: the list shifted")
        told = [self.describe(item) for item in refund_objects]
        if told and self.faults.strikes("list repeats"):
            told = [*told, *(self.describe(item) for item in reversed(refund_objects))]
        return Found(tuple(told))

    # --- calls -------------------------------------------------------------------------------------------------------

    async def call(self, what: str, execute: Callable[[], Any], lost: Callable[[], None] | None = None) -> Any:
        """Deliver a request and its answer, or lose one of them. `lost` runs if the request arrives much later."""
        world, faults, uniform = self.world, self.faults, self.world.random.uniform
        process = world.running
        assert process is not None
        self.on_call(what)
        self.calls += 1
        future = asyncio.get_running_loop().create_future()

        def answer(reply: object) -> None:
            if not process.dead and not future.done():
                world.note("ANSWER", process.name, what, _brief(reply))
                future.set_result(reply)
                process.awake()

        def arrive() -> None:
            reply = execute()
            if faults.strikes("die after the call"):
                process.kill()
                return
            back = uniform(0.02, 0.4)
            if faults.strikes("frozen before the answer"):
                back = uniform(60, 2 * HOUR)
            back = max(back, self.answers_held_until - world.now)
            if faults.strikes("answer lost"):
                world.after(TIMEOUT, lambda: answer(Unanswered("no answer in time")))
            elif faults.strikes("answer cut"):
                world.after(back, lambda: answer(Unanswered("the connection broke in mid-answer")))
            else:
                world.after(back, lambda: answer(reply))

        if faults.strikes("die before the call"):
            world.after(0, process.kill)
            return await future
        if faults.strikes("die during the call"):
            world.after(uniform(0, 1), process.kill)
        way = self.seconds_there()
        no_answer = self._no_answer(what)
        if no_answer is not None:
            world.after(way, lambda: answer(no_answer))
        elif faults.strikes("request lost") or (lost is not None and self._late(lost)):
            world.after(TIMEOUT, lambda: answer(Unanswered("no answer in time")))
        else:
            world.after(way, arrive)
        return await future

    def seconds_there(self) -> float:
        """Return how long a request is under way."""
        seconds = self.world.random.uniform(0.01, 0.3)
        if self.faults.strikes("slow call"):
            seconds = self.world.random.uniform(1, 25)
        if self.faults.strikes("frozen before sending"):
            seconds = self.world.random.uniform(30, HOUR)
        return seconds

    def _no_answer(self, what: str) -> Reply | None:
        """Return the reply of a call that did not execute or met an outage, or None if it goes through."""
        faults, now = self.faults, self.world.now
        if faults.on and _within(now, self.denials):
            faults.count("401")
            return Denied("api_key_expired", clean(f"Expired API Key provided: {PLANTED_KEY}"))
        if faults.on and _within(now, self.outages):
            beyond = any(start + 20 * HOUR < now < end for start, end in self.outages)
            faults.count("outage beyond the key's life" if beyond else "outage")
            return NotSent("connection refused") if self.world.random.random() < 0.5 else Unanswered("no answer")
        if faults.strikes("no connection"):
            return NotSent("connection refused")
        if faults.strikes("429"):
            return Busy("rate_limit")
        if faults.strikes("429 with Retry-After"):
            return Busy("rate_limit", self.world.random.choice((5.0, 60.0)))
        return None

    def _late(self, lost: Callable[[], None]) -> bool:
        if not self.faults.strikes("effect later"):
            return False
        bounds = (2 * DAY, 5 * DAY) if self.very_late else (0, self.late_seconds_max)
        self.world.after(self.world.random.uniform(*bounds), lost)
        if self.very_late:  # otherwise the next try with the same key would find the refund
            self.outages.append((self.world.now, self.world.now + 12 * HOUR))
        return True


def _within(now: float, windows: list[tuple[float, float]]) -> bool:
    return any(start <= now < end for start, end in windows)


def _brief(reply: object) -> str:
    match reply:
        case Answered(object=refund_object, replayed=replayed):
            return f"{refund_object.processor_refund_id} {refund_object.status}{' (replayed)' if replayed else ''}"
        case Found(objects=refund_objects):
            return "found " + ", ".join(f"{t.processor_refund_id} {t.status}" for t in refund_objects)
    return f"{type(reply).__name__} {getattr(reply, 'code', None) or getattr(reply, 'reason', '')}"
